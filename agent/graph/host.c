#include "agent/graph/host.h"
#include "agent/graph/host_int.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

#define GROWN_UP_MS \
	1000 /* an engine that ends before, for no known reason, makes the next one wait */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS   2000
#define TICK_MIN_MS      5
#define TICK_MAX_MS      25
#define TICKS_PER_BUDGET 16
#define NOTE_RUNNING \
	"running" /* what the keeper tells the next agent of an engine after host_go() */

void host_kill_engine(struct host *h, bool hung, const char *why)
{
	if (h->worker == NULL || h->kill_why[0] != '\0')
		return;
	h->hung = hung;
	snprintf(h->kill_why, sizeof(h->kill_why), "%s", why);
	worker_kill(h->worker);
}

/* ---- messages of the engine ---- */

static void on_ready(struct host *h)
{
	h->state = HOST_LOADING;
	host_forgive(
		h); /* the clock may have run on since its predecessor was killed for its time */
	log_info("engine.ready", KV("engine", h->name), KV("pid", worker_pid(h->worker)),
		 KV("took_ms", loop_now_ms(h->loop) - h->started_ms));
	h->events.on_ready(h->arg);
}

static void on_answer(struct host *h, json_t *msg)
{
	struct asked *a = h->first;
	json_int_t seq = json_integer_value(json_object_get(msg, "seq"));

	if (seq > 0 && (uint64_t)seq < h->first_seq)
		return; /* to an earlier agent */
	if (a == NULL || (uint64_t)seq != a->seq) {
		host_kill_engine(h, false, "the engine answered what was not asked");
		return;
	}
	h->first = a->next;
	if (h->first == NULL)
		h->last = NULL;
	h->answered++;
	a->fn(a->arg, msg);
	free(a);
}

static void on_worker_message(void *arg, json_t *msg)
{
	struct host *h = arg;
	const char *op = json_string_value(json_object_get(msg, "op"));

	if (h->kill_why[0] != '\0')
		return; /* condemned: what it still says no longer counts */
	if (op == NULL)
		host_kill_engine(h, false, "the engine sent a message without op");
	else if (json_object_get(msg, "seq") != NULL)
		on_answer(h, msg);
	else if (strcmp(op, "ready") != 0)
		h->events.on_unasked(h->arg, op, msg);
	else if (h->state == HOST_STARTING)
		on_ready(h);
}

/* ---- its end, and the next one ---- */

static struct host_doing doing_of(uint64_t word)
{
	unsigned kind = tap_doing_kind(word);

	if (kind > DOING_LOADING)
		kind = DOING_NOTHING;
	return (struct host_doing){
		.graph = tap_doing_graph(word), .lid = tap_doing_lid(word), .kind = kind};
}

/* Blame the message at the cursor, the oldest request, or nobody. An engine could deny what it did
 * (a `doing` of 0): who is there twice in a row when it falls is to blame all the same. */
static void judge(struct host *h, const struct transport_standing *standing, struct host_fall *f)
{
	void *head = h->first != NULL ? h->first->arg : NULL;
	bool at_message = h->fall.was_running && standing->sane && standing->at_message;
	/* an earlier agent has judged already, and died before there was another engine */
	if (h->check_done && standing->done != h->last_done)
		at_message = false;
	bool evaluating = at_message && h->fall.doing_at == standing->done;
	bool again_message =
		at_message && h->have_suspect_done && h->suspect_done == standing->done;

	f->doing = doing_of(h->fall.doing);
	if (head != NULL && f->doing.kind == DOING_LOADING)
		f->request = head;
	else if (evaluating && f->doing.kind != DOING_NOTHING)
		f->evaluating = true;
	else if (head != NULL && (h->hung || head == h->suspect))
		f->request = head;
	else if (at_message && (h->hung || again_message))
		f->evaluating = true;
	if (f->evaluating)
		f->slot = standing->slot;

	bool nobody = f->request == NULL && !f->evaluating;
	h->suspect = nobody ? head : NULL;
	h->have_suspect_done = nobody && at_message;
	h->suspect_done = standing->done;
}

static void forget_asked(struct host *h)
{
	while (h->first != NULL) {
		struct asked *a = h->first;
		h->first = a->next;
		free(a);
	}
	h->last = NULL;
}

/* At once, unless engines die early in a row. */
static void spawn_later(struct host *h)
{
	int64_t wait = 0;

	if (h->early_deaths > 1) {
		unsigned doublings = h->early_deaths - 2 < 8 ? h->early_deaths - 2 : 8;
		wait = (int64_t)BACKOFF_FIRST_MS << doublings;
	}
	loop_arm(h->loop, h->respawn_timer, wait < BACKOFF_MAX_MS ? wait : BACKOFF_MAX_MS);
}

static void on_retired(void *arg, int rc)
{
	struct host *h = arg;

	if (rc < 0)
		log_error("engine.retire_failed", KV("engine", h->name), KV("why", err_name(rc)));
	spawn_later(h);
}

/* It is known how it stood: say who is to blame, and see to the next one. */
static void on_standing(void *arg, const struct transport_standing *standing)
{
	struct host *h = arg;
	struct host_fall fall = {0};
	struct err err = {0};
	bool was_running = h->fall.was_running;
	char why[200];

	if (h->kill_why[0] != '\0')
		snprintf(why, sizeof(why), "%s", h->kill_why);
	else
		snprintf(why, sizeof(why), "the engine ended (%s)", h->fall.how);
	fall.why = why;
	fall.foreign = h->kill_why[0] == '\0' && strcmp(h->fall.how, "killed by signal 9") == 0;
	judge(h, standing, &fall);
	log_warn("engine.ended", KV("engine", h->name), KV("how", h->fall.how), KV("why", why),
		 KV("evaluating", fall.evaluating), KV("loading", (bool)(fall.request != NULL)));

	/* An end that is explained can not repeat itself for ever: what caused it is put away. */
	bool explained = fall.evaluating || fall.request != NULL;
	if (!explained && loop_now_ms(h->loop) - h->started_ms < GROWN_UP_MS)
		h->early_deaths++;
	else
		h->early_deaths = 0;
	h->restarts++;
	h->check_done = false;
	h->kill_why[0] = '\0';
	h->hung = false;
	forget_asked(h);
	if (!was_running) {
		spawn_later(h);
	} else if (h->ops->port_retire(h->port, fall.evaluating, on_retired, h, &err) < 0) {
		/* the next one begins where this one did: messages may be done twice, none is lost */
		log_error("engine.retire_failed", KV("engine", h->name), KV("why", err.text));
		spawn_later(h);
	}
	h->events.on_fall(h->arg, &fall);
}

/* The engine is gone; this is what it left behind. */
static void fell(struct host *h, bool was_running, const struct tap_look *look, const char *how)
{
	static const struct transport_standing nowhere = {0};
	struct err err = {0};

	h->fall = (struct fall){
		.was_running = was_running, .doing = look->doing, .doing_at = look->doing_at};
	snprintf(h->fall.how, sizeof(h->fall.how), "%s", how);
	h->state = HOST_DOWN;
	if (!was_running)
		on_standing(h, &nowhere); /* the transport has not met it */
	else if (h->ops->port_hold(h->port, on_standing, h, &err) < 0)
		log_error("engine.hold_failed", KV("engine", h->name), KV("why", err.text));
}

static void on_worker_exit(void *arg, const char *how)
{
	struct host *h = arg;
	struct tap_look look;

	tap_watch_look(h->watch, &look);
	h->watch = tap_watch_close(h->watch);
	h->dead = TAKE(h->worker);
	fell(h, h->state == HOST_RUNNING, &look, how);
}

static const struct worker_events worker_events = {
	.on_message = on_worker_message,
	.on_exit = on_worker_exit,
};

static void spawn(struct host *h)
{
	struct err err = {0};

	h->started_ms = loop_now_ms(h->loop);
	/* The old engine may still have the old out-ring in its hands: the next one gets a new one.
	 */
	int rc = h->used_out ? tap_make_out(&h->fds, &err) : 0;
	if (rc == 0)
		rc = tap_watch_open(h->fds.in_ro_fd, h->fds.out_fd, &h->watch, &err);
	if (rc == 0) {
		h->used_out = true;
		rc = worker_new(h->keeper, h->name, &h->fds, &worker_events, h, &h->worker, &err);
	}
	h->no_keeper = rc == ERR_AGAIN;
	if (rc < 0) {
		h->watch = tap_watch_close(h->watch);
		if (h->no_keeper)
			return;
		log_error("engine.start_failed", KV("engine", h->name), KV("why", err.text));
		h->early_deaths++;
		spawn_later(h);
		return;
	}
	h->dead = worker_leave(h->dead); /* its rings have an engine again */
	h->state = HOST_STARTING;
	host_start_watch(h);
}

static void on_respawn(void *arg)
{
	struct host *h = arg;

	if (h->worker == NULL)
		spawn(h);
}

/* ---- for the service ---- */

/* All but the rings and the port. */
static int make(const struct host_conf *conf, const char *name, const struct host_events *events,
		void *arg, struct host **ret, struct err *err)
{
	struct host *h = calloc(1, sizeof(*h));
	struct timespec now;

	if (h == NULL)
		return err_set(err, ERR_NOMEM, "engine host");
	clock_gettime(CLOCK_REALTIME, &now);
	*h = (struct host){
		.loop = conf->loop,
		.settings = conf->settings,
		.keeper = conf->keeper,
		.name = strdup(name),
		.ops = conf->ops,
		.events = *events,
		.arg = arg,
		.fds = TAP_FDS_NONE,
		.first_seq = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000,
		.tick_ms = conf->settings->engine.budget_ms / TICKS_PER_BUDGET,
	};
	h->seq = h->first_seq;
	h->tick_ms = h->tick_ms < TICK_MIN_MS ? TICK_MIN_MS : h->tick_ms;
	h->tick_ms = h->tick_ms > TICK_MAX_MS ? TICK_MAX_MS : h->tick_ms;
	int rc = h->name == NULL ? err_set(err, ERR_NOMEM, "engine host") : 0;
	if (rc == 0)
		rc = loop_add_timer(h->loop, -1, 0, host_on_tick, h, &h->tick_timer, err);
	if (rc == 0)
		rc = loop_add_timer(h->loop, -1, 0, on_respawn, h, &h->respawn_timer, err);
	if (rc < 0) {
		host_free(h);
		return rc;
	}
	*ret = h;
	return 0;
}

int host_new(const struct host_conf *conf, const char *name, const struct host_events *events,
	     void *arg, struct host **ret, struct err *err)
{
	size_t ring_bytes = (size_t)conf->settings->engine.ring_kb * 1024;
	struct host *h = NULL;
	int rc = make(conf, name, events, arg, &h, err);

	if (rc < 0 || h == NULL)
		return rc;
	rc = tap_make(ring_bytes, ring_bytes, &h->fds, err);
	if (rc == 0)
		rc = h->ops->port_add(conf->transport, h->name, &h->fds, -1, -1, &h->port, err);
	if (rc < 0) {
		host_free(h);
		return rc;
	}
	spawn(h);
	*ret = h;
	return 0;
}

/* It lives and has all its graphs: go on as if nothing had been. */
static int adopt_running(struct host *h, const struct host_conf *conf, struct keeper_found *found,
			 struct err *err)
{
	int rc = worker_adopt(h->keeper, found, &worker_events, h, &h->worker, err);

	if (rc == 0)
		rc = h->ops->port_add(conf->transport, h->name, &h->fds, worker_wake_fd(h->worker),
				      worker_result_fd(h->worker), &h->port, err);
	if (rc < 0)
		return rc;
	h->state = HOST_RUNNING;
	log_info("engine.adopted", KV("engine", h->name), KV("pid", worker_pid(h->worker)));
	host_start_watch(h);
	return 0;
}

/* It died, or was not done with loading: the next one takes its place. */
static int adopt_rings(struct host *h, const struct host_conf *conf,
		       const struct keeper_found *found, bool was_running, struct err *err)
{
	struct tap_look look;
	int rc = h->ops->port_add(conf->transport, h->name, &h->fds, -1, -1, &h->port, err);

	if (rc < 0)
		return rc;
	tap_watch_look(h->watch, &look);
	h->watch = tap_watch_close(h->watch);
	h->last_done = look.done;
	h->check_done = true;
	if (was_running)
		fell(h, true, &look, found->exited != NULL ? found->exited : "lost");
	else
		spawn_later(h); /* it had nothing to evaluate yet */
	return 0;
}

int host_adopt(const struct host_conf *conf, struct keeper_found *found,
	       const struct host_events *events, void *arg, struct host **ret, struct err *err)
{
	bool was_running = strcmp(found->note, NOTE_RUNNING) == 0;
	bool runs = was_running && found->exited == NULL;
	int in_fd = TAKE_FD(found->in_fd), out_fd = TAKE_FD(found->out_fd);
	struct host *h = NULL;
	int rc = make(conf, found->name, events, arg, &h, err);

	if (rc < 0 || h == NULL) {
		closep(&in_fd);
		closep(&out_fd);
		return rc;
	}
	rc = tap_fds_adopt(in_fd, out_fd, &h->fds, err);
	if (rc == 0)
		rc = tap_watch_open(h->fds.in_ro_fd, h->fds.out_fd, &h->watch, err);
	h->used_out = true;
	if (rc == 0)
		rc = runs ? adopt_running(h, conf, found, err)
			  : adopt_rings(h, conf, found, was_running, err);
	if (rc < 0) {
		host_free(h);
		return err_wrap(err, rc, "adopting engine %s", found->name);
	}
	*ret = h;
	return 0;
}

struct host *host_free(struct host *h)
{
	if (h == NULL)
		return NULL;
	if (h->port != NULL)
		h->ops->port_remove(h->port);
	worker_free(h->worker); /* after the port, which watches descriptors of it */
	worker_free(h->dead);
	tap_watch_close(h->watch);
	tap_fds_done(&h->fds);
	forget_asked(h);
	loop_remove(h->loop, h->tick_timer);
	loop_remove(h->loop, h->respawn_timer);
	free(h->name);
	free(h);
	return NULL;
}

const char *host_name(const struct host *h)
{
	return h->name;
}

struct transport_port *host_port(struct host *h)
{
	return h->port;
}

bool host_is_ready(const struct host *h)
{
	return h->state >= HOST_LOADING && h->kill_why[0] == '\0';
}

int host_request(struct host *h, json_t *msg, host_answer_fn *fn, void *arg, struct err *err)
{
	json_auto_t *body = msg;
	json_int_t seq = (json_int_t)h->seq + 1;
	struct asked *a;

	if (!host_is_ready(h))
		return err_set(err, ERR_AGAIN, "no engine is ready");
	a = malloc(sizeof(*a));
	if (a == NULL || body == NULL || json_object_set_new(body, "seq", json_integer(seq)) < 0) {
		free(a);
		return err_set(err, ERR_NOMEM, "request to the engine");
	}
	int rc = worker_send(h->worker, body, err);
	if (rc < 0) {
		free(a);
		return rc;
	}
	*a = (struct asked){.seq = ++h->seq, .fn = fn, .arg = arg};
	if (h->last != NULL)
		h->last->next = a;
	else
		h->first = a;
	h->last = a;
	host_start_watch(h);
	return 0;
}

void host_go(struct host *h)
{
	struct err err = {0};

	if (h->state != HOST_LOADING)
		return;
	h->state = HOST_RUNNING;
	if (h->ops->port_resume(h->port, &h->fds, worker_wake_fd(h->worker),
				worker_result_fd(h->worker), &err) < 0) {
		log_error("engine.port_failed", KV("why", err.text));
		host_kill_engine(h, false, "its port failed");
		return;
	}
	worker_note(h->worker, NOTE_RUNNING);
	host_start_watch(h);
}

bool host_ring(const struct host *h, uint64_t *ret_done, uint64_t *ret_fed)
{
	struct tap_look look;

	if (h->state != HOST_RUNNING)
		return false;
	tap_watch_look(h->watch, &look);
	if (!look.sane)
		return false;
	*ret_done = look.done;
	*ret_fed = look.done + look.waiting;
	return true;
}

void host_fed(struct host *h)
{
	if (h->state == HOST_RUNNING)
		host_start_watch(h);
}

void host_broken(struct host *h)
{
	host_kill_engine(h, false, "the engine broke the rules of its ring");
}

void host_keeper_up(struct host *h)
{
	if (h->no_keeper)
		spawn(h);
}

void host_get_status(const struct host *h, struct host_status *ret)
{
	*ret = (struct host_status){
		.pid = h->worker != NULL ? worker_pid(h->worker) : -1,
		.ready = host_is_ready(h),
		.restarts = h->restarts,
	};
}
