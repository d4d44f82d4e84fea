#include "agent/graph/host.h"
#include "agent/graph/worker.h"
#include "common/log.h"
#include "common/tap.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define START_LIMIT_MS 15000 /* from exec to ready: an interpreter on a busy machine */
#define GROWN_UP_MS \
	1000 /* an engine that ends before, for no known reason, makes the next one wait */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS   2000
#define TICK_MIN_MS      5
#define TICK_MAX_MS      25
#define TICKS_PER_BUDGET 16
/* An engine is looked at for so long after it was last seen at work: the transport tells that it was
 * woken, but not each time at once. */
#define IDLE_AFTER_MS 150
#define ANSWER_BUDGETS \
	10 /* an engine that evaluates but does not answer is given this many budgets */

struct asked {
	struct asked *next;
	uint64_t seq;
	host_answer_fn *fn;
	void *arg;
};

enum host_state {
	HOST_DOWN,     /* no process: the transport is asked how it stood, or the respawn timer is
			  armed */
	HOST_STARTING, /* waiting for "ready" */
	HOST_LOADING,  /* ready, graphs are being loaded, messages wait */
	HOST_RUNNING,
};

struct host {
	struct loop *loop;
	const struct settings *settings;
	char *name, *program;
	const struct transport_ops *ops;
	struct host_events events;
	void *arg;
	struct tap_fds fds;
	struct tap_watch *watch; /* of the present engine; NULL: none */
	struct transport_port *port;
	struct worker *worker;
	pid_t pid; /* -1: none */
	enum host_state state;
	struct loop_src *tick_timer, *respawn_timer;
	bool ticking;
	struct asked *first, *last; /* requests not answered yet, in the order sent */
	uint64_t seq, answered;
	/* watching */
	int64_t tick_ms, last_tick_ms, started_ms;
	int64_t stalled_ms, unanswered_ms; /* observed standing still; observed without an answer */
	int64_t idle_ms;                   /* observed with nothing to do */
	uint64_t seen_done, seen_doing, seen_answered, seen_taken;
	char kill_why[120]; /* why we killed it; empty: we did not */
	bool hung;
	/* the fall that is being looked into */
	struct fall {
		bool was_running;
		uint64_t doing;
		char how[64];
	} fall;
	/* over several falls */
	unsigned early_deaths; /* in a row, unexplained */
	bool used_out;         /* the out-ring has been an engine's: the next one gets another */
	uint64_t restarts;
	void *suspect;         /* request at the head of the last fall */
	uint64_t suspect_done; /* where the engine stood in its ring at the last fall without a
				  confession */
	bool have_suspect_done;
};

static const char *const qos_names[] = {
	[ENGINE_QOS_AUTO] = "auto",
	[ENGINE_QOS_0] = "0",
	[ENGINE_QOS_1] = "1",
	[ENGINE_QOS_2] = "2",
};

/* ---- watching the time ---- */

/* What was observed so far is not held against the engine any more. */
static void forgive(struct host *h)
{
	h->stalled_ms = h->unanswered_ms = h->idle_ms = 0;
	h->last_tick_ms = loop_now_ms(h->loop);
}

static void start_ticking(struct host *h)
{
	if (h->ticking)
		return;
	h->ticking = true;
	forgive(h);
	loop_arm(h->loop, h->tick_timer, h->tick_ms);
}

static void kill_engine(struct host *h, bool hung, const char *why)
{
	if (h->worker == NULL || h->kill_why[0] != '\0')
		return;
	h->hung = hung;
	snprintf(h->kill_why, sizeof(h->kill_why), "%s", why);
	worker_kill(h->worker);
}

static void out_of_time(struct host *h)
{
	char why[80];

	snprintf(why, sizeof(why), "time budget of %lld ms exceeded",
		 (long long)h->settings->engine.budget_ms);
	kill_engine(h, true, why);
}

/* Results that nobody takes: the engine waits, and is not to blame. If they are taken, and there are
 * always more, it is no waiting. */
static bool is_held(const struct host *h, const struct tap_look *look)
{
	return h->ops->port_holding(h->port) || (look->out_waiting > look->out_bytes / 4 * 3 &&
						 look->out_taken == h->seen_taken);
}

/* ret: true while there is something to wait for. */
static bool watch_running(struct host *h, int64_t passed_ms)
{
	int64_t budget = h->settings->engine.budget_ms;
	struct tap_look look;

	tap_watch_look(h->watch, &look);
	if (!look.sane) {
		host_broken(h);
		return true;
	}
	if (h->state != HOST_RUNNING)
		look.waiting = 0; /* it has not been told to look at its ring yet */
	bool busy = h->first != NULL || look.waiting > 0;
	h->idle_ms = busy || (h->state == HOST_RUNNING && !look.asleep) ? 0 : h->idle_ms + passed_ms;
	if (!busy && h->idle_ms > IDLE_AFTER_MS)
		return false;

	bool answered = h->answered != h->seen_answered, held = is_held(h, &look);
	/* the budget is that of one evaluation, and a message can go through many: each says what it
	 * is */
	if (!busy || answered || look.done != h->seen_done || look.doing != h->seen_doing || held) {
		h->stalled_ms = 0;
	} else {
		if (h->stalled_ms < budget / 2 && h->stalled_ms + passed_ms >= budget / 2 &&
		    look.waiting > 0 && write(worker_wake_fd(h->worker), "w", 1) < 0 &&
		    errno != EAGAIN)
			log_debug("engine.wake_failed", KV("errno", errno));
		h->stalled_ms += passed_ms;
	}
	h->unanswered_ms = answered || held || h->first == NULL ? 0 : h->unanswered_ms + passed_ms;
	h->seen_done = look.done;
	h->seen_doing = look.doing;
	h->seen_taken = look.out_taken;
	h->seen_answered = h->answered;
	if (h->stalled_ms >= budget || h->unanswered_ms >= ANSWER_BUDGETS * budget)
		out_of_time(h);
	return true;
}

static void on_tick(void *arg)
{
	struct host *h = arg;
	int64_t now = loop_now_ms(h->loop), passed = now - h->last_tick_ms;
	bool again = true;

	h->ticking = false;
	if (h->worker == NULL)
		return;
	h->last_tick_ms = now;
	/* If it was us who stood still, that is not held against the engine. */
	if (passed > 2 * h->tick_ms)
		passed = 2 * h->tick_ms;
	worker_drain(h->worker);
	if (h->state == HOST_STARTING) {
		if (now - h->started_ms >= START_LIMIT_MS)
			kill_engine(h, false, "the engine did not become ready");
	} else {
		again = watch_running(h, passed);
	}
	if (again && !h->ticking) {
		h->ticking = true;
		loop_arm(h->loop, h->tick_timer, h->tick_ms);
	}
}

/* ---- messages of the engine ---- */

static void on_ready(struct host *h)
{
	h->state = HOST_LOADING;
	forgive(h); /* the clock may have run on since its predecessor was killed for its time */
	log_info("engine.ready", KV("pid", h->pid),
		 KV("took_ms", loop_now_ms(h->loop) - h->started_ms));
	h->events.on_ready(h->arg);
}

static void on_answer(struct host *h, json_t *msg)
{
	struct asked *a = h->first;

	if (a == NULL || !json_is_integer(json_object_get(msg, "seq")) ||
	    (uint64_t)json_integer_value(json_object_get(msg, "seq")) != a->seq) {
		kill_engine(h, false, "the engine answered what was not asked");
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
		kill_engine(h, false, "the engine sent a message without op");
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
	bool again_message =
		at_message && h->have_suspect_done && h->suspect_done == standing->done;

	f->doing = doing_of(h->fall.doing);
	if (head != NULL && f->doing.kind == DOING_LOADING)
		f->request = head;
	else if (at_message && f->doing.kind != DOING_NOTHING)
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
	h->kill_why[0] = '\0';
	h->hung = false;
	forget_asked(h);
	if (!was_running)
		spawn_later(h);
	else if (h->ops->port_retire(h->port, fall.evaluating, on_retired, h, &err) < 0)
		log_error("engine.retire_failed", KV("engine", h->name), KV("why", err.text));
	h->events.on_fall(h->arg, &fall);
}

static void on_worker_exit(void *arg, const char *how)
{
	static const struct transport_standing nowhere = {0};
	struct host *h = arg;
	struct tap_look look;
	struct err err = {0};

	tap_watch_look(h->watch, &look);
	h->fall = (struct fall){.was_running = h->state == HOST_RUNNING, .doing = look.doing};
	snprintf(h->fall.how, sizeof(h->fall.how), "%s", how);
	h->worker = worker_free(h->worker);
	h->watch = tap_watch_close(h->watch);
	h->pid = -1;
	h->state = HOST_DOWN;
	if (!h->fall.was_running)
		on_standing(h, &nowhere); /* the transport has not met it */
	else if (h->ops->port_hold(h->port, on_standing, h, &err) < 0)
		log_error("engine.hold_failed", KV("engine", h->name), KV("why", err.text));
}

static void spawn(struct host *h)
{
	static const struct worker_events events = {
		.on_message = on_worker_message,
		.on_exit = on_worker_exit,
	};
	struct worker_conf conf = {
		.program = h->program,
		.qos = qos_names[h->settings->engine.qos],
		.budget_ms = h->settings->engine.budget_ms,
		.memory_mb = h->settings->engine.memory_mb,
		.max_payload_bytes = h->settings->agent.max_payload_bytes,
	};
	struct err err = {0};

	h->started_ms = loop_now_ms(h->loop);
	/* The old engine may still have the old out-ring in its hands: the next one gets a new one. */
	int rc = h->used_out ? tap_make_out(&h->fds, &err) : 0;
	if (rc == 0)
		rc = tap_watch_open(h->fds.in_ro_fd, h->fds.out_fd, &h->watch, &err);
	if (rc == 0) {
		h->used_out = true;
		conf.in_fd = h->fds.in_ro_fd;
		conf.out_fd = h->fds.out_fd;
		rc = worker_new(h->loop, &conf, &events, h, &h->worker, &err);
	}
	if (rc < 0) {
		log_error("engine.start_failed", KV("engine", h->name), KV("why", err.text));
		h->watch = tap_watch_close(h->watch);
		h->early_deaths++;
		spawn_later(h);
		return;
	}
	h->pid = worker_pid(h->worker);
	h->state = HOST_STARTING;
	start_ticking(h);
}

static void on_respawn(void *arg)
{
	struct host *h = arg;

	if (h->worker == NULL)
		spawn(h);
}

/* ---- for the service ---- */

int host_new(struct loop *l, const struct settings *settings, const char *name,
	     const char *program, const struct transport_ops *ops, struct transport *transport,
	     const struct host_events *events, void *arg, struct host **ret, struct err *err)
{
	size_t ring_bytes = (size_t)settings->engine.ring_kb * 1024;
	struct host *h = calloc(1, sizeof(*h));
	int rc;

	if (h == NULL)
		return err_set(err, ERR_NOMEM, "engine host");
	h->loop = l;
	h->pid = -1;
	h->fds = TAP_FDS_NONE;
	h->name = strdup(name);
	h->program = strdup(program);
	h->settings = settings;
	h->ops = ops;
	h->events = *events;
	h->arg = arg;
	h->tick_ms = settings->engine.budget_ms / TICKS_PER_BUDGET;
	h->tick_ms = h->tick_ms < TICK_MIN_MS ? TICK_MIN_MS : h->tick_ms;
	h->tick_ms = h->tick_ms > TICK_MAX_MS ? TICK_MAX_MS : h->tick_ms;
	rc = h->name == NULL || h->program == NULL ? err_set(err, ERR_NOMEM, "engine host") : 0;
	if (rc == 0)
		rc = loop_add_timer(l, -1, 0, on_tick, h, &h->tick_timer, err);
	if (rc == 0)
		rc = loop_add_timer(l, -1, 0, on_respawn, h, &h->respawn_timer, err);
	if (rc == 0)
		rc = tap_make(ring_bytes, ring_bytes, &h->fds, err);
	if (rc == 0)
		rc = ops->port_add(transport, h->name, &h->fds, -1, -1, &h->port, err);
	if (rc < 0) {
		host_free(h);
		return rc;
	}
	spawn(h);
	*ret = h;
	return 0;
}

struct host *host_free(struct host *h)
{
	if (h == NULL)
		return NULL;
	worker_free(h->worker);
	if (h->port != NULL)
		h->ops->port_remove(h->port);
	tap_watch_close(h->watch);
	tap_fds_done(&h->fds);
	forget_asked(h);
	loop_remove(h->loop, h->tick_timer);
	loop_remove(h->loop, h->respawn_timer);
	free(h->name);
	free(h->program);
	free(h);
	return NULL;
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
	if (a == NULL || body == NULL ||
	    json_object_set_new(body, "seq", json_integer(seq)) < 0) {
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
	start_ticking(h);
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
		kill_engine(h, false, "its port failed");
		return;
	}
	start_ticking(h);
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
		start_ticking(h);
}

void host_broken(struct host *h)
{
	kill_engine(h, false, "the engine broke the rules of its ring");
}

void host_get_status(const struct host *h, struct host_status *ret)
{
	*ret = (struct host_status){
		.pid = h->pid,
		.ready = host_is_ready(h),
		.restarts = h->restarts,
	};
}
