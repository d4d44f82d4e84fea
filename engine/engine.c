#include "engine/engine.h"

#include "common/log.h"
#include "common/tap.h"
#include "common/util.h"
#include "engine/control.h"
#include "engine/eval.h"
#include "engine/request.h"
#include "engine/sandbox.h"
#include <poll.h>
#include <stdio.h>
#include <time.h>

#define BATCH_MESSAGES 64 /* between two looks at the control socket */
#define BATCH_MS       4
#define STATS_EVERY_MS 500
#define ROOM_FIRST_NS  100000 /* waiting for room on the out-ring: so long, then doubling */
#define ROOM_MOST_NS   5000000
#define KICK_FIRST_NS \
	300000 /* a result that nobody takes: kick again after so long, then doubling */
#define KICK_MOST_NS 20000000
#define WAITING_MAX  (1u << 20) /* bytes the agent has not read: beyond, nothing is told unasked */

struct engine {
	const struct engine_conf *conf;
	struct py *py;
	struct tap_peer *tap;
	struct graphs graphs;
	struct eval eval;
	struct requests requests;
	struct control control;
	uint64_t doing;                      /* as last told */
	bool awake;                          /* the first wake byte has come */
	int64_t kick_every_ns, kick_next_ns; /* 0: no kick may have been missed */
	uint64_t kicked_at;                  /* how far results were taken at the last kick */
	bool control_ready;                  /* the control socket has something */
	char *payload;                       /* of the message being evaluated */
	struct eval_stats told;              /* what the agent knows */
	int64_t stats_next_ms;
	int stop; /* enum engine_exit + 1; 0: go on */
};

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void stop(struct engine *e, enum engine_exit how)
{
	if (e->stop == 0)
		e->stop = (int)how + 1;
}

/* The control socket failed or was closed. */
static void control_lost(struct engine *e, int code, const struct err *err)
{
	if (code == ERR_PEER && strcmp(err->text, "closed") == 0) {
		stop(e, ENGINE_EXIT_OK);
		return;
	}
	log_error("engine.control", KV("why", err->text));
	stop(e, code == ERR_NOMEM ? ENGINE_EXIT_MEMORY : ENGINE_EXIT_PEER);
}

static void tell(struct engine *e, json_t *frame)
{
	struct err err = {0};
	int rc = control_write(&e->control, frame, &err);
	if (rc < 0)
		control_lost(e, rc, &err);
}

/* ---- results ---- */

/* One byte: look at the out-ring. A full pipe says the same. */
static void kick(void)
{
	while (write(ENGINE_FD_RESULT, "", 1) < 0 && errno == EINTR)
		continue;
}

/* A side that was kicked and has taken nothing since is on its way: to kick it for each result would only
 * interrupt it. */
static void kick_once(struct engine *e)
{
	uint64_t taken = tap_taken(e->tap);
	if (e->kick_every_ns != 0 && taken == e->kicked_at)
		return;
	kick();
	e->kicked_at = taken;
	e->kick_every_ns = KICK_FIRST_NS;
	e->kick_next_ns = now_ns() + KICK_FIRST_NS;
}

/* A kick may come just before the other side begins to wait, and then go unseen: how long until the
 * next one is due; -1: none is. */
static int64_t kick_again_ns(struct engine *e)
{
	if (e->kick_every_ns == 0)
		return -1;
	if (!tap_untaken(e->tap) || !tap_trusted_sleeps(e->tap)) {
		e->kick_every_ns = 0;
		return -1;
	}
	int64_t now = now_ns();
	if (now >= e->kick_next_ns) {
		kick();
		e->kick_every_ns =
			e->kick_every_ns * 2 > KICK_MOST_NS ? KICK_MOST_NS : e->kick_every_ns * 2;
		e->kick_next_ns = now + e->kick_every_ns;
	}
	return e->kick_next_ns - now;
}

/* Wait for a moment. ret: false if the agent has gone. */
static bool wait_for_room(long *ns)
{
	struct pollfd p = {.fd = ENGINE_FD_CONTROL}; /* only whether it is closed: requests are
							served between messages */
	struct timespec t = {.tv_nsec = *ns};
	*ns = *ns * 2 > ROOM_MOST_NS ? ROOM_MOST_NS : *ns * 2;
	return ppoll(&p, 1, &t, NULL) <= 0;
}

static int on_publish(void *arg, const struct tap_rec *rec, const char *payload)
{
	struct engine *e = arg;
	long ns = ROOM_FIRST_NS;
	uint64_t doing = e->doing;
	int64_t waits = 0; /* since then; 0: it does not */
	int rc;
	while ((rc = tap_reply(e->tap, rec, payload)) == ERR_AGAIN) {
		if (waits == 0)
			waits = now_ns();
		kick(); /* again and again: the bytes before may have been taken while there was
			   nothing yet */
		/* no function is to blame for this time */
		tap_set_doing(e->tap, 0);
		if (!wait_for_room(&ns))
			return ERR_PEER;
	}
	tap_set_doing(e->tap, doing);
	if (waits != 0)
		eval_waited(&e->eval, now_ns() - waits);
	if (rc == 0 && tap_trusted_sleeps(e->tap))
		kick_once(e);
	return rc;
}

static void on_doing(void *arg, uint64_t what)
{
	struct engine *e = arg;
	e->doing = what;
	tap_set_doing(e->tap, what);
}

/* strike: NULL: none. */
static void tell_fault(struct engine *e, const char *graph, enum tap_kind kind,
		       const struct link *link, const char *msg, size_t len, const char *strike)
{
	static const char *const names[] = {
		[TAP_IDF] = "idf", [TAP_JOIN] = "join", [TAP_ODF] = "odf"};
	tell(e, json_pack("{s:s, s:s, s:s, s:o, s:s%, s:s*}", "op", "fault", "graph", graph, "kind",
			  names[kind], "lid", link != NULL ? json_integer(link->lid) : json_null(),
			  "msg", msg, len, "strike", strike));
}

static void on_fault(void *arg, const struct link *link, const struct graph *graph,
		     enum tap_kind kind, const char *msg, size_t len, const char *strike)
{
	struct engine *e = arg;
	if (control_waiting(&e->control) <= WAITING_MAX)
		tell_fault(e, graph->id, kind, link, msg, len, strike);
}

static void tell_stats(struct engine *e)
{
	const struct eval_stats *now = &e->eval.stats;
	int64_t ms = now_ms();
	if (memcmp(now, &e->told, sizeof(*now)) == 0 || ms < e->stats_next_ms ||
	    control_waiting(&e->control) > WAITING_MAX)
		return;
	json_t *drops = json_object();
	for (int d = 0; d < DROPS; d++)
		if (now->drops[d] > 0)
			json_object_set_new(drops, eval_drop_name(d),
					    json_integer((json_int_t)now->drops[d]));
	e->told = *now;
	e->stats_next_ms = ms + STATS_EVERY_MS;
	tell(e, json_pack("{s:s, s:o, s:I, s:I}", "op", "stats", "drops", drops, "evaluated",
			  (json_int_t)now->evaluated, "failed", (json_int_t)now->failed));
}

/* ---- memory ---- */

/* Before the end: who holds most of what there is. */
static void tell_heaviest(struct engine *e)
{
	struct graph_user most;
	char msg[120];
	if (!graphs_heaviest(&e->graphs, &most))
		return;
	int n = snprintf(msg, sizeof(msg),
			 "memory of the engine exhausted (%u MiB), of which this function holds %zu MiB",
			 e->conf->memory_mb, most.bytes >> 20);
	tell_fault(e, most.graph->id, most.kind, most.link, msg, (size_t)n, "memory");
}

/* A function met the limit. If its garbage gives nothing back, what holds the memory are globals:
 * then only a new process helps. */
static void check_memory(struct engine *e)
{
	size_t quarter = ((size_t)e->conf->memory_mb << 20) / 4;
	if (!e->eval.out_of_memory && !e->requests.out_of_memory)
		return;
	e->eval.out_of_memory = e->requests.out_of_memory = false;
	if (sandbox_memory_left(quarter))
		return;
	tap_set_doing(e->tap,
		      tap_doing_make(0, TAP_LOADING, 0)); /* finalizers are user code, too */
	py_collect(e->py);
	tap_set_doing(e->tap, e->doing);
	if (sandbox_memory_left(quarter))
		return;
	log_warn("engine.memory", KV("limit_mb", e->conf->memory_mb),
		 KV("why", "functions hold it"));
	tell_heaviest(e);
	stop(e, ENGINE_EXIT_MEMORY);
}

/* ---- the loop ---- */

/* Evaluate the next message. ret: false if there is none. */
static bool one_message(struct engine *e)
{
	struct tap_rec rec;
	int rc = tap_next(e->tap, &rec, e->payload, e->conf->max_payload_bytes);
	if (rc == 0)
		return false;
	if (rc == ERR_PEER) {
		log_error("engine.ring", KV("why", "the in-ring is damaged"));
		stop(e, ENGINE_EXIT_PEER);
		return false;
	}
	int failed = eval_message(&e->eval, &rec, rc == ERR_RANGE ? NULL : e->payload);
	if (failed < 0) {
		stop(e, ENGINE_EXIT_PEER);
		return false;
	}
	check_memory(e);
	tap_consume(e->tap);
	if (e->doing != 0) /* not before: who is killed in between has not to do it again */
		on_doing(e, 0);
	return true;
}

/* Until the first wake byte the ring is left alone: what waits there needs graphs that a
 * replacement has yet to be given. ret: true if there may be more. */
static bool some_messages(struct engine *e)
{
	if (!e->awake)
		return false;
	bool more = true;
	int64_t until = now_ns() + (int64_t)BATCH_MS * 1000000;
	for (unsigned i = 0; i < BATCH_MESSAGES && more && e->stop == 0; i++) {
		more = one_message(e);
		if ((e->eval.mark_ns != 0 ? e->eval.mark_ns : now_ns()) > until)
			break;
	}
	eval_pause(&e->eval);
	return more;
}

static void serve_control(struct engine *e)
{
	struct err err = {0};
	json_t *frame = NULL;
	e->control_ready = false;
	int rc = control_flush(&e->control, &err);
	/* an agent that does not read its answers gets no more of them */
	while (rc == 0 && e->stop == 0 && control_waiting(&e->control) <= WAITING_MAX) {
		rc = control_read(&e->control, &frame, &err);
		if (rc <= 0)
			break;
		json_t *answer = requests_handle(&e->requests, frame);
		json_decref(frame);
		rc = control_write(&e->control, answer, &err);
		check_memory(e);
	}
	if (rc < 0)
		control_lost(e, rc, &err);
}

/* How long there is nothing to tell: until statistics are due, or for ever (-1). */
static int64_t untold_ns(const struct engine *e)
{
	if (memcmp(&e->eval.stats, &e->told, sizeof(e->told)) == 0)
		return -1;
	if (control_waiting(&e->control) > WAITING_MAX)
		return -1; /* not before the agent reads */
	int64_t left = e->stats_next_ms - now_ms();
	return left > 0 ? (left + 1) * 1000000 : 0;
}

/* Until one of the descriptors has something, or something is due. ret: as poll(). */
static int wait_for(struct engine *e, struct pollfd *p, nfds_t n)
{
	int64_t tell = untold_ns(e), again = kick_again_ns(e);
	int64_t ns = tell < 0 || (again >= 0 && again < tell) ? again : tell;
	struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
	return ppoll(p, n, ns < 0 ? NULL : &t, NULL);
}

static void drain_wake_pipe(struct engine *e)
{
	char bytes[256];
	ssize_t n;
	do {
		n = read(ENGINE_FD_WAKE, bytes, sizeof(bytes));
		e->awake = e->awake || n > 0;
	} while (n == (ssize_t)sizeof(bytes) || (n < 0 && errno == EINTR));
	/* closed: the keeper, who holds an end of it, is gone, and so is the control socket */
}

static void rest(struct engine *e)
{
	struct pollfd p[] = {
		{.fd = ENGINE_FD_CONTROL, .events = POLLIN},
		{.fd = ENGINE_FD_WAKE, .events = POLLIN},
	};
	if (control_waiting(&e->control) > 0)
		p[0].events =
			control_waiting(&e->control) > WAITING_MAX ? POLLOUT : POLLIN | POLLOUT;
	tap_peer_set_asleep(e->tap, true);
	/* once more, now that the other side knows that it has to wake us */
	bool found = e->awake && one_message(e);
	eval_pause(&e->eval);
	if (!found && e->stop == 0 && wait_for(e, p, ARRAY_LEN(p)) > 0) {
		e->control_ready = p[0].revents != 0;
		if (p[1].revents != 0)
			drain_wake_pipe(e);
	}
	if (e->awake)
		tap_peer_set_asleep(e->tap, false);
}

static void serve(struct engine *e)
{
	while (e->stop == 0) {
		bool more = some_messages(e);
		if (more || e->control_ready) /* or else the rest that follows will tell */
			serve_control(e);
		kick_again_ns(e);
		tell_stats(e);
		if (!more && e->stop == 0)
			rest(e);
	}
}

/* ---- start and stop ---- */

static int start(struct engine *e, struct err *err)
{
	const struct engine_conf *conf = e->conf;
	int rc = control_init(&e->control, ENGINE_FD_CONTROL, err);
	py_set_function_quota((size_t)conf->function_mb << 20);
	if (rc == 0)
		rc = graphs_init(&e->graphs, e->py, err);
	if (rc == 0)
		rc = requests_init(&e->requests, &e->graphs, err);
	const struct eval_sink sink = {
		.publish = on_publish, .doing = on_doing, .fault = on_fault, .arg = e};
	if (rc == 0)
		rc = eval_init(&e->eval, e->py, &e->graphs, &sink, conf->qos,
			       conf->max_payload_bytes, err);
	if (rc < 0)
		return rc;
	e->graphs.doing = on_doing;
	e->graphs.arg = e;
	e->payload = malloc(conf->max_payload_bytes + 1);
	if (e->payload == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for messages");
	return 0;
}

int engine_run(const struct engine_conf *conf, struct py *py, struct tap_peer *tap,
	       engine_lock_fn *lock, void *arg)
{
	struct engine e = {.conf = conf, .py = py, .tap = tap};
	struct err err = {0};
	int rc = start(&e, &err);
	if (rc == 0)
		rc = lock(arg, &err);
	if (rc < 0) {
		log_error("engine.start", KV("why", err.text));
		return ENGINE_EXIT_START;
	}
	tap_peer_set_asleep(e.tap, true); /* whoever pushes from now on wakes us */
	tell(&e, json_pack("{s:s}", "op", "ready"));
	serve(&e);
	/* No way back through the library: user code has been here, and its finalizers shall not
	 * run. */
	return e.stop - 1;
}
