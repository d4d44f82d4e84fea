#include "engine/engine.h"

#include "common/log.h"
#include "common/tap.h"
#include "common/util.h"
#include "engine/control.h"
#include "engine/eval.h"
#include "engine/request.h"
#include "engine/sandbox.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#define BATCH_MESSAGES 64 /* between two looks at the control socket */
#define BATCH_MS       4
#define STATS_EVERY_MS 500
#define ROOM_FIRST_NS  100000 /* waiting for room on the out-ring: so long, then doubling */
#define ROOM_MOST_NS   5000000
#define WAITING_MAX    (1u << 20) /* bytes the agent has not read: beyond, nothing is told unasked */

struct engine {
	const struct engine_conf *conf;
	struct py *py;
	struct tap_peer *tap;
	struct graphs graphs;
	struct eval eval;
	struct requests requests;
	struct control control;
	uint64_t doing;         /* as last told */
	bool awake;             /* the first wake byte has come */
	char *payload;          /* of the message being evaluated */
	struct eval_stats told; /* what the agent knows */
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
		kick();
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
	tap_set_doing(e->tap, 0);
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

/* How long there is nothing to do: until statistics are due, or for ever. */
static int idle_ms(const struct engine *e)
{
	if (memcmp(&e->eval.stats, &e->told, sizeof(e->told)) == 0)
		return -1;
	if (control_waiting(&e->control) > WAITING_MAX)
		return -1; /* not before the agent reads */
	int64_t left = e->stats_next_ms - now_ms();
	return left > 0 ? (int)left + 1 : 0;
}

static void drain_wake_pipe(struct engine *e)
{
	char bytes[256];
	ssize_t n;
	do {
		n = read(ENGINE_FD_WAKE, bytes, sizeof(bytes));
		e->awake = e->awake || n > 0;
	} while (n == (ssize_t)sizeof(bytes) || (n < 0 && errno == EINTR));
	if (n == 0)
		stop(e, ENGINE_EXIT_OK); /* nobody will wake us any more */
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
	if (!found && e->stop == 0 && poll(p, ARRAY_LEN(p), idle_ms(e)) > 0 && p[1].revents != 0)
		drain_wake_pipe(e);
	if (e->awake)
		tap_peer_set_asleep(e->tap, false);
}

static void serve(struct engine *e)
{
	while (e->stop == 0) {
		bool more = some_messages(e);
		serve_control(e);
		tell_stats(e);
		if (!more && e->stop == 0)
			rest(e);
	}
}

/* ---- start and stop ---- */

static int make_non_blocking(int fd, struct err *err)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_sys(err, "descriptor %d", fd);
	return 0;
}

/* The log's pipes must not hold us when nobody reads them. Terminals are shared with others: left
 * alone. */
static int free_output(int fd, struct err *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_sys(err, "descriptor %d", fd);
	return S_ISFIFO(st.st_mode) ? make_non_blocking(fd, err) : 0;
}

static int start(struct engine *e, struct err *err)
{
	const struct engine_conf *conf = e->conf;
	int rc = sandbox_tidy(ENGINE_FDS, err);
	if (rc == 0)
		rc = control_init(&e->control, ENGINE_FD_CONTROL, err);
	if (rc == 0)
		rc = make_non_blocking(ENGINE_FD_WAKE, err);
	if (rc == 0)
		rc = make_non_blocking(ENGINE_FD_RESULT, err);
	if (rc == 0)
		rc = free_output(STDOUT_FILENO, err);
	if (rc == 0)
		rc = free_output(STDERR_FILENO, err);
	if (rc == 0)
		rc = tap_attach(ENGINE_FD_IN, ENGINE_FD_OUT, &e->tap, err);
	if (rc == 0)
		rc = py_start(&e->py, err);
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
	json_object_seed(0); /* reads the system's random numbers, which it could not later */
	return sandbox_close((size_t)conf->memory_mb << 20, ENGINE_FDS, err);
}

int engine_run(const struct engine_conf *conf)
{
	struct engine e = {.conf = conf};
	struct err err = {0};
	signal(SIGPIPE, SIG_IGN);
	int rc = start(&e, &err);
	if (rc < 0) {
		log_error("engine.start", KV("why", err.text));
		return ENGINE_EXIT_START;
	}
	log_info("engine.ready", KV("memory_mb", conf->memory_mb),
		 KV("budget_ms", conf->budget_ms));
	tap_peer_set_asleep(e.tap, true); /* whoever pushes from now on wakes us */
	tell(&e, json_pack("{s:s}", "op", "ready"));
	serve(&e);
	/* No way back through the library: user code has been here, and its finalizers shall not
	 * run. */
	return e.stop - 1;
}
