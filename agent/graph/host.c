#include "agent/graph/host.h"
#include "agent/graph/keeper.h"
#include "agent/graph/worker.h"
#include "common/log.h"
#include "common/tap.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define START_LIMIT_MS 15000    /* from asking for it to ready, on a busy machine */
#define ENGINE_NAME    "engine" /* by which the keeper knows the only one */
#define GROWN_UP_MS \
	1000 /* an engine that ends before, for no known reason, makes the next one wait */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS   2000
#define TICK_MIN_MS      5
#define TICK_MAX_MS      100
#define TICKS_PER_BUDGET 16
#define ANSWER_BUDGETS \
	10 /* an engine that evaluates but does not answer is given this many budgets */

struct asked {
	struct asked *next;
	uint64_t seq;
	host_answer_fn *fn;
	void *arg;
};

enum host_state {
	HOST_DOWN,     /* no process; the respawn timer is armed */
	HOST_STARTING, /* waiting for "ready" */
	HOST_LOADING,  /* ready, graphs are being loaded, messages wait */
	HOST_RUNNING,
};

struct host {
	struct loop *loop;
	const struct settings *settings;
	struct keeper *keeper;
	const struct transport_ops *ops;
	struct host_events events;
	void *arg;
	struct tap_fds fds;
	struct tap *tap;
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
	uint64_t seen_done, seen_doing, seen_answered;
	char kill_why[120]; /* why we killed it; empty: we did not */
	bool hung;
	/* over several falls */
	unsigned early_deaths;    /* in a row, unexplained */
	bool renew, skip_current; /* what the ring needs before the next engine */
	uint64_t restarts;
	void *suspect;         /* request at the head of the last fall */
	uint64_t suspect_done; /* where the engine stood in its ring at the last fall without a
				  confession */
	bool have_suspect_done;
};

static const char *const sandbox_names[] = {
	[SANDBOX_STRICT] = "strict",
	[SANDBOX_DEGRADED] = "degraded",
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
	h->stalled_ms = h->unanswered_ms = 0;
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

/* ret: true while there is something to wait for. */
static bool watch_running(struct host *h, int64_t passed_ms)
{
	int64_t budget = h->settings->engine.budget_ms;
	uint64_t done, waiting;

	if (tap_progress(h->tap, &done, &waiting) < 0) {
		host_broken(h);
		return true;
	}
	if (h->state != HOST_RUNNING)
		waiting = 0; /* it has not been told to look at its ring yet */
	if (h->first == NULL && waiting == 0)
		return false;

	bool answered = h->answered != h->seen_answered;
	bool holding = h->ops->port_holding(h->port);
	/* the budget is that of one evaluation, and a message can go through many: each says what
	 * it is */
	uint64_t doing = tap_doing(h->tap);
	if (answered || done != h->seen_done || doing != h->seen_doing || holding) {
		h->stalled_ms = 0;
	} else {
		if (h->stalled_ms < budget / 2 && h->stalled_ms + passed_ms >= budget / 2 &&
		    waiting > 0 && write(worker_wake_fd(h->worker), "w", 1) < 0 && errno != EAGAIN)
			log_debug("engine.wake_failed", KV("errno", errno));
		h->stalled_ms += passed_ms;
	}
	h->unanswered_ms =
		answered || holding || h->first == NULL ? 0 : h->unanswered_ms + passed_ms;
	h->seen_done = done;
	h->seen_doing = doing;
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

static struct host_doing doing_of(struct tap *tap)
{
	uint64_t word = tap_doing(tap);
	unsigned kind = (word >> 32) & 0xff;

	if (kind > DOING_LOADING)
		kind = DOING_NOTHING;
	return (struct host_doing){
		.graph = (uint32_t)(word >> 40), .lid = (uint32_t)word, .kind = kind};
}

/* Blame the message at the cursor, the oldest request, or nobody. An engine could deny what it did
 * (a `doing` of 0): who is there twice in a row when it falls is to blame all the same. */
static void judge(struct host *h, struct host_fall *f)
{
	struct tap_rec current;
	uint64_t done = 0, waiting;
	void *head = h->first != NULL ? h->first->arg : NULL;
	bool ring_ok = tap_progress(h->tap, &done, &waiting) == 0;
	bool at_message = ring_ok && h->state == HOST_RUNNING && tap_current(h->tap, &current) == 1;
	bool again_message = at_message && h->have_suspect_done && h->suspect_done == done;

	f->doing = doing_of(h->tap);
	if (head != NULL && f->doing.kind == DOING_LOADING)
		f->request = head;
	else if (at_message && f->doing.kind != DOING_NOTHING)
		f->evaluating = true;
	else if (head != NULL && (h->hung || head == h->suspect))
		f->request = head;
	else if (at_message && (h->hung || again_message))
		f->evaluating = true;
	if (f->evaluating)
		f->slot = current.slot;

	bool nobody = f->request == NULL && !f->evaluating;
	h->suspect = nobody ? head : NULL;
	h->have_suspect_done = nobody && at_message;
	h->suspect_done = done;
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

static void on_worker_exit(void *arg, const char *how)
{
	struct host *h = arg;
	struct host_fall fall = {0};
	char why[200];

	if (h->kill_why[0] != '\0')
		snprintf(why, sizeof(why), "%s", h->kill_why);
	else
		snprintf(why, sizeof(why), "the engine ended (%s)", how);
	fall.why = why;
	h->ops->port_renewed(h->port, -1, -1, NULL);
	judge(h, &fall);
	log_warn("engine.ended", KV("pid", h->pid), KV("how", how), KV("why", why),
		 KV("evaluating", fall.evaluating), KV("loading", (bool)(fall.request != NULL)));

	/* An end that is explained can not repeat itself for ever: what caused it is put away. */
	bool explained = fall.evaluating || fall.request != NULL;
	if (!explained && loop_now_ms(h->loop) - h->started_ms < GROWN_UP_MS)
		h->early_deaths++;
	else
		h->early_deaths = 0;
	h->restarts++;
	h->worker = worker_free(h->worker);
	h->pid = -1;
	h->state = HOST_DOWN;
	h->kill_why[0] = '\0';
	h->hung = false;
	h->renew = true;
	h->skip_current = fall.evaluating;
	forget_asked(h);
	h->events.on_fall(h->arg, &fall);
	spawn_later(h);
}

/* The old engine may still have the old out-ring in its hands: the next one gets a new one. */
static int renew(struct host *h, struct err *err)
{
	if (!h->renew)
		return 0;
	tap_retire(h->tap, h->skip_current, NULL);
	h->skip_current = false; /* once, also if this is tried again */
	int rc = tap_make_out(&h->fds, err);
	if (rc == 0)
		rc = tap_set_out(h->tap, h->fds.out_fd, err);
	if (rc == 0)
		h->renew = false;
	return rc;
}

static void on_worker_started(void *arg)
{
	struct host *h = arg;

	h->pid = worker_pid(h->worker);
}

static void spawn(struct host *h)
{
	static const struct worker_events events = {
		.on_started = on_worker_started,
		.on_message = on_worker_message,
		.on_exit = on_worker_exit,
	};
	struct err err = {0};

	if (!keeper_is_up(h->keeper))
		return; /* on_keeper_up() comes */
	h->started_ms = loop_now_ms(h->loop);
	int rc = renew(h, &err);
	if (rc == 0)
		rc = worker_new(h->keeper, ENGINE_NAME, &h->fds, &events, h, &h->worker, &err);
	if (rc < 0) {
		log_error("engine.start_failed", KV("why", err.text));
		h->early_deaths++;
		spawn_later(h);
		return;
	}
	h->state = HOST_STARTING;
	start_ticking(h);
}

static void on_respawn(void *arg)
{
	struct host *h = arg;

	if (h->worker == NULL)
		spawn(h);
}

/* ---- the keeper ---- */

/* Rings and engine belong together, and these rings are new. */
static bool on_keeper_found(void *arg, struct keeper_found *found)
{
	(void)arg;
	(void)found;
	return false;
}

static void on_keeper_up(void *arg)
{
	on_respawn(arg);
}

static void on_keeper_down(void *arg, const char *why)
{
	(void)arg;
	log_error("keeper.down", KV("why", why));
}

static int start_keeper(struct host *h, const char *program, struct err *err)
{
	static const struct keeper_events events = {
		.on_found = on_keeper_found,
		.on_up = on_keeper_up,
		.on_down = on_keeper_down,
	};
	CLEANUP(freep)
	char *socket = settings_path(h->settings, "run/keeper.sock");
	const struct keeper_conf conf = {
		.program = program,
		.socket = socket,
		.qos = qos_names[h->settings->engine.qos],
		.sandbox = sandbox_names[h->settings->engine.sandbox],
		.memory_mb = h->settings->engine.memory_mb,
		.function_mb = h->settings->engine.function_mb,
		.max_payload_bytes = h->settings->agent.max_payload_bytes,
	};

	if (socket == NULL)
		return err_set(err, ERR_NOMEM, "keeper");
	return keeper_new(h->loop, &conf, &events, h, &h->keeper, err);
}

/* ---- for the service ---- */

int host_new(struct loop *l, const struct settings *settings, const char *program,
	     const struct transport_ops *ops, struct transport *transport,
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
	h->settings = settings;
	h->ops = ops;
	h->events = *events;
	h->arg = arg;
	h->tick_ms = settings->engine.budget_ms / TICKS_PER_BUDGET;
	h->tick_ms = h->tick_ms < TICK_MIN_MS ? TICK_MIN_MS : h->tick_ms;
	h->tick_ms = h->tick_ms > TICK_MAX_MS ? TICK_MAX_MS : h->tick_ms;
	rc = loop_add_timer(l, -1, 0, on_tick, h, &h->tick_timer, err);
	if (rc == 0)
		rc = loop_add_timer(l, -1, 0, on_respawn, h, &h->respawn_timer, err);
	if (rc == 0)
		rc = tap_make(ring_bytes, ring_bytes, &h->fds, err);
	if (rc == 0)
		rc = tap_open(h->fds.in_fd, h->fds.out_fd, &h->tap, err);
	if (rc == 0)
		rc = ops->port_add(transport, h->tap, -1, -1, &h->port, err);
	if (rc == 0)
		rc = start_keeper(h, program, err);
	if (rc < 0) {
		host_free(h);
		return rc;
	}
	*ret = h;
	return 0;
}

struct host *host_free(struct host *h)
{
	if (h == NULL)
		return NULL;
	worker_free(h->worker);
	if (h->keeper != NULL)
		keeper_quit(h->keeper);
	keeper_free(h->keeper);
	if (h->port != NULL)
		h->ops->port_remove(h->port);
	tap_close(h->tap);
	tap_fds_done(&h->fds);
	forget_asked(h);
	loop_remove(h->loop, h->tick_timer);
	loop_remove(h->loop, h->respawn_timer);
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
	start_ticking(h);
	return 0;
}

void host_go(struct host *h)
{
	struct err err = {0};

	if (h->state != HOST_LOADING)
		return;
	h->state = HOST_RUNNING;
	if (h->ops->port_renewed(h->port, worker_wake_fd(h->worker), worker_result_fd(h->worker),
				 &err) < 0) {
		log_error("engine.port_failed", KV("why", err.text));
		kill_engine(h, false, "its port failed");
		return;
	}
	start_ticking(h);
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
