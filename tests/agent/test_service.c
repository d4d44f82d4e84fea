/* The graph service against a transport of the test's own and a keeper and engine of the test's
 * own: this very program, started again by the service. The engine does to its graphs what their
 * function's source says. */
#include "agent/graph/host.h"
#include "agent/graph/pool.h"
#include "agent/graph/service.h"
#include "common/id.h"
#include "common/tap.h"
#include "common/util.h"
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/agent/fake_keeper.h"

#define BUDGET_MS 150
#define PATIENCE  5000

/* ---------- the engine ---------- */

enum { FD_CONTROL = FAKE_FD_CONTROL, FD_WAKE = FAKE_FD_WAKE, FD_RESULT = FAKE_FD_RESULT };

struct fake_engine {
	json_t *docs; /* id -> {doc, funcs} */
	struct tap_peer *tap;
	bool awake; /* the first wake byte has come */
	int evaluated, last_index;
};

static void must(bool ok)
{
	if (!ok)
		_exit(99);
}

static void read_all(void *buf, size_t n)
{
	for (size_t at = 0; at < n;) {
		ssize_t got = read(FD_CONTROL, (char *)buf + at, n - at);
		if (got <= 0)
			_exit(0); /* the agent is gone */
		at += (size_t)got;
	}
}

static void fake_say(json_t *msg)
{
	char *text = json_dumps(msg, JSON_COMPACT);
	uint32_t head = htole32((uint32_t)strlen(text));

	must(write(FD_CONTROL, &head, 4) == 4);
	/* in two pieces, so that the other side meets a half message */
	size_t half = strlen(text) / 2;
	must(write(FD_CONTROL, text, half) == (ssize_t)half);
	must(write(FD_CONTROL, text + half, strlen(text) - half) == (ssize_t)(strlen(text) - half));
	free(text);
	json_decref(msg);
}

static void fake_hang(void)
{
	for (;;)
		pause();
}

/* Several budgets without a processor, in the kernel (state D, as of a disk that stands still): who
 * makes a child in this way waits until it has gone. Not vfork(), which TSan makes a fork(). */
static void fake_kept_waiting(void)
{
	struct timespec t = {.tv_nsec = 4 * BUDGET_MS * 1000000L};
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);

	must(pid >= 0);
	if (pid == 0) {
		nanosleep(&t, NULL);
		_exit(0);
	}
	must(waitpid(pid, NULL, 0) == pid);
}

/* Do what a source says; ret: the reason to refuse it, or NULL. */
static const char *obey(const char *code)
{
	if (strcmp(code, "hang") == 0)
		fake_hang();
	if (strcmp(code, "die") == 0)
		raise(SIGKILL); /* not one that a sanitizer would make an exit of */
	return strcmp(code, "bad") == 0 ? "SyntaxError: bad" : NULL;
}

static void fake_load(struct fake_engine *e, json_t *msg)
{
	json_t *doc = json_object_get(msg, "doc"), *funcs = json_object_get(msg, "funcs"), *code;
	const char *id = json_string_value(json_object_get(doc, "id")), *digest, *why = NULL;
	json_t *answer = json_pack("{s:s, s:O}", "op", "graph", "seq", json_object_get(msg, "seq"));

	tap_set_doing(e->tap, (uint64_t)4 << 32);
	json_object_foreach (funcs, digest, code) {
		const char *refused = obey(json_string_value(code));
		why = refused != NULL ? refused : why;
	}
	tap_set_doing(e->tap, 0);
	if (why != NULL) {
		json_object_update_new(answer,
				       json_pack("{s:s, s:s, s:{s:s, s:i}}", "state", "error",
						 "reason", why, "where", "kind", "idf", "lid", 1));
	} else {
		json_object_set_new(doc, "index", json_integer(++e->last_index));
		json_object_set(e->docs, id, doc);
		json_object_update_new(
			answer, json_pack("{s:s, s:i}", "state", "ok", "index", e->last_index));
	}
	fake_say(answer);
}

/* What the agent wants kept is kept; how many there are is told as a number of drops. */
static void fake_keep(struct fake_engine *e, json_t *msg)
{
	json_t *ids = json_object_get(msg, "ids"), *id, *kept = json_object();
	size_t i;

	json_array_foreach (ids, i, id) {
		json_object_set(kept, json_string_value(id),
				json_object_get(e->docs, json_string_value(id)));
	}
	json_decref(e->docs);
	e->docs = kept;
	fake_say(json_pack("{s:s, s:O, s:s}", "op", "keep", "seq", json_object_get(msg, "seq"),
			   "state", "ok"));
	fake_say(json_pack("{s:s, s:{s:i}}", "op", "stats", "drops", "kept",
			   (int)json_array_size(ids)));
}

static void fake_figures(struct fake_engine *e, json_t *msg)
{
	json_t *graphs = json_object(), *doc;
	const char *id;

	json_object_foreach (e->docs, id, doc) {
		json_object_set_new(graphs, id,
				    json_pack("{s:i, s:i, s:{s:i}, s:i, s:i, s:i}", "evaluated",
					      e->evaluated, "failed", 1, "drops", "not_json", 2,
					      "p50_us", 30, "p99_us", 99, "memory_bytes", 4096));
	}
	fake_say(json_pack("{s:s, s:O, s:s, s:o}", "op", "graph_stats", "seq",
			   json_object_get(msg, "seq"), "state", "ok", "graphs", graphs));
}

static void fake_control(struct fake_engine *e)
{
	uint32_t head;

	read_all(&head, 4);
	char *text = malloc(le32toh(head));
	must(text != NULL);
	read_all(text, le32toh(head));
	json_t *msg = json_loadb(text, le32toh(head), 0, NULL);
	const char *op = json_string_value(json_object_get(msg, "op"));
	free(text);
	if (strcmp(op, "graph") == 0) {
		fake_load(e, msg);
	} else if (strcmp(op, "drop") == 0) {
		json_object_del(e->docs, json_string_value(json_object_get(msg, "id")));
		fake_say(json_pack("{s:s, s:O, s:s}", "op", op, "seq", json_object_get(msg, "seq"),
				   "state", "ok"));
	} else if (strcmp(op, "keep") == 0) {
		fake_keep(e, msg);
	} else if (strcmp(op, "graph_stats") == 0) {
		fake_figures(e, msg);
	} else {
		json_t *code = json_array_get(json_object_get(msg, "codes"), 0);
		const char *why = obey(json_string_value(code));
		fake_say(json_pack("{s:s, s:O, s:s, s:[{s:s}]}", "op", op, "seq",
				   json_object_get(msg, "seq"), "state", "ok", "results", "state",
				   why != NULL ? "error" : "ok"));
	}
	json_decref(msg);
}

static void fake_evaluate(struct fake_engine *e, const struct tap_rec *rec, const char *payload)
{
	const char *id;
	json_t *doc;

	json_object_foreach (e->docs, id, doc) {
		json_t *idf = json_array_get(json_object_get(doc, "idf"), 0);
		json_t *odf = json_array_get(json_object_get(doc, "odf"), 0);
		if (json_integer_value(json_object_get(idf, "slot")) != rec->slot)
			continue;
		if (json_is_true(json_object_get(idf, "blocked")))
			continue;
		e->evaluated++;
		if (strcmp(payload, "sly exit") == 0)
			_exit(3);
		tap_set_doing(e->tap, tap_doing_make((uint32_t)json_integer_value(
							     json_object_get(doc, "index")),
						     TAP_IDF, 1));
		if (strcmp(payload, "stuck") == 0)
			fake_hang();
		if (strcmp(payload, "kept waiting") == 0)
			fake_kept_waiting();
		if (strcmp(payload, "exit") == 0)
			_exit(3);
		if (strcmp(payload, "fault") == 0)
			fake_say(json_pack("{s:s, s:s, s:s, s:i, s:s}", "op", "fault", "graph", id,
					   "kind", "idf", "lid", 1, "msg", "ValueError"));
		if (strcmp(payload, "fat") == 0)
			fake_say(json_pack("{s:s, s:s, s:s, s:i, s:s, s:s}", "op", "fault", "graph",
					   id, "kind", "idf", "lid", 1, "msg", "MemoryError",
					   "strike", "memory"));
		if (strcmp(payload, "lie") == 0)
			fake_say(json_pack("{s:s, s:s, s:s, s:i, s:s, s:s}", "op", "fault", "graph",
					   "victim", "kind", "idf", "lid", 1, "msg", "MemoryError",
					   "strike", "memory"));
		struct tap_rec out = *rec;
		out.slot = (uint32_t)json_integer_value(json_object_get(odf, "slot"));
		must(tap_reply(e->tap, &out, payload) == 0);
		must(write(FD_RESULT, "r", 1) == 1);
		if (strcmp(payload, "die when done") != 0)
			tap_set_doing(e->tap, 0);
	}
}

static void fake_main(struct tap_peer *tap)
{
	struct fake_engine e = {.docs = json_object(), .tap = tap};
	struct pollfd fds[] = {{.fd = FD_CONTROL, .events = POLLIN},
			       {.fd = FD_WAKE, .events = POLLIN}};
	char payload[256], sink[64];
	struct tap_rec rec;

	printf("engine of the test\n");
	fflush(stdout);
	fake_say(json_pack("{s:s}", "op", "ready"));
	for (;;) {
		must(poll(fds, 2, -1) > 0);
		if (fds[0].revents != 0)
			fake_control(&e);
		if (fds[1].revents != 0)
			e.awake = read(FD_WAKE, sink, sizeof(sink)) > 0;
		while (e.awake && tap_next(e.tap, &rec, payload, sizeof(payload) - 1) == 1) {
			payload[rec.len] = '\0';
			fake_evaluate(&e, &rec, payload);
			tap_consume(e.tap);
			if (strcmp(payload, "die when done") != 0)
				continue;
			while (tap_next(e.tap, &rec, payload, sizeof(payload)) != 1)
				usleep(1000);
			raise(SIGKILL);
		}
	}
}

/* ---------- the transport ---------- */

struct fake_topic {
	char name[80];
	unsigned refs;
};

struct tap_wait {
	struct transport_port *port;
	transport_done_fn *fn;
	void *arg;
};

struct transport {
	struct loop *loop;
	struct transport_events ev;
	void *arg;
	unsigned opened;
	struct transport_port *ports; /* newest first */
	struct tap_wait waits[64];
	size_t n_waits;
	json_t *early; /* results that were there when their engine died */
};

struct transport_port {
	struct transport *t;
	struct transport_port *next;
	char name[80];
	struct tap *tap;
	int wake_fd;
	unsigned renewals;
	struct fake_topic in[8], out[8]; /* index is the slot */
	char said[4096];
	uint32_t said_slot;
	transport_held_fn *held;
	transport_done_fn *retired;
	void *held_arg, *retired_arg;
	transport_slots_fn *slots;
	void *slots_arg;
	struct loop_src *later; /* what was promised for the next turn; goes with the port */
	struct tap_wait outs[64];
	size_t n_outs;
};

static struct transport *the_transport(struct transport *set)
{
	static struct transport *t; /* made by the service, looked at by the test */
	if (set != NULL)
		t = set;
	return t;
}

static int fake_start(struct loop *l, const struct settings *s, const char *agent_id,
		      const struct transport_events *ev, void *arg, struct transport **ret,
		      struct err *err)
{
	(void)s, (void)agent_id, (void)err;
	*ret = calloc(1, sizeof(**ret));
	(*ret)->loop = l;
	(*ret)->ev = *ev;
	(*ret)->arg = arg;
	(*ret)->early = json_array();
	the_transport(*ret);
	return 0;
}

static struct transport *fake_stop(struct transport *t)
{
	json_decref(t->early);
	free(t);
	return NULL;
}

static void fake_open(struct transport *t)
{
	t->opened++;
}

static bool pull_from(struct transport_port *p, char payload[256])
{
	struct tap_rec rec;
	int rc = tap_pull(p->tap, &rec, payload, 255);

	assert_true(rc >= 0);
	if (rc == 1)
		payload[rec.len] = '\0';
	return rc == 1;
}

static void say_held(struct transport_port *p)
{
	struct tap_rec current;
	uint64_t waiting;
	struct transport_standing standing = {0};

	standing.sane = tap_progress(p->tap, &standing.done, &waiting) == 0;
	standing.at_message = standing.sane && tap_current(p->tap, &current) == 1;
	standing.slot = standing.at_message ? current.slot : 0;
	TAKE(p->held)(p->held_arg, &standing);
}

static void say_slots(struct transport_port *p)
{
	struct transport_slot_stats rows[8];
	size_t n = 0;

	for (uint32_t i = 8; i-- > 0;) /* in no order that matters */
		if (p->in[i].refs > 0)
			rows[n++] = (struct transport_slot_stats){
				.slot = i, .received = 10 + i, .dropped_full = 3};
	TAKE(p->slots)(p->slots_arg, rows, n);
}

static void on_later(void *arg)
{
	struct transport_port *p = arg;

	for (size_t i = 0; i < p->n_outs; i++)
		p->outs[i].fn(p->outs[i].arg, 0);
	p->n_outs = 0;
	if (p->slots != NULL)
		say_slots(p);
	if (p->held != NULL)
		say_held(p);
	else if (p->retired != NULL)
		TAKE(p->retired)(p->retired_arg, 0);
}

static int later(struct transport_port *p)
{
	loop_arm(p->t->loop, p->later, 0);
	return 0;
}

static int fake_port_hold(struct transport_port *p, transport_held_fn *fn, void *arg,
			  struct err *err)
{
	char payload[256];

	(void)err;
	while (pull_from(p, payload))
		json_array_append_new(p->t->early, json_string(payload));
	p->wake_fd = -1;
	p->renewals++;
	p->held = fn;
	p->held_arg = arg;
	return later(p);
}

static int fake_port_retire(struct transport_port *p, bool skip_current, transport_done_fn *done,
			    void *arg, struct err *err)
{
	(void)err;
	tap_retire(p->tap, skip_current, NULL);
	p->retired = done;
	p->retired_arg = arg;
	return later(p);
}

static int fake_port_resume(struct transport_port *p, const struct tap_fds *fds, int wake_fd,
			    int result_fd, struct err *err)
{
	(void)result_fd;
	assert_int_equal(tap_set_out(p->tap, fds->out_fd, err), 0);
	p->wake_fd = wake_fd;
	p->renewals++;
	assert_int_equal(write(wake_fd, "w", 1), 1);
	return 0;
}

static int fake_port_add(struct transport *t, const char *name, const struct tap_fds *fds,
			 int wake_fd, int result_fd, struct transport_port **ret, struct err *err)
{
	struct transport_port *p = calloc(1, sizeof(*p));

	(void)result_fd;
	p->t = t;
	p->next = t->ports;
	t->ports = p;
	snprintf(p->name, sizeof(p->name), "%s", name);
	assert_int_equal(loop_add_timer(t->loop, -1, 0, on_later, p, &p->later, err), 0);
	assert_int_equal(tap_open(fds->in_fd, fds->out_fd, &p->tap, err), 0);
	p->wake_fd = wake_fd;
	*ret = p;
	return 0;
}

static struct transport_port *fake_port_remove(struct transport_port *p)
{
	struct transport *t = p->t;
	struct transport_port **at = &t->ports;
	size_t left = 0;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	for (size_t i = 0; i < t->n_waits; i++)
		if (t->waits[i].port != p)
			t->waits[left++] = t->waits[i];
	t->n_waits = left;
	loop_remove(t->loop, p->later);
	tap_close(p->tap);
	free(p);
	return NULL;
}

static bool fake_holding(const struct transport_port *p)
{
	(void)p;
	return false;
}

static uint32_t topic_slot(struct fake_topic *list, const char *name, int change)
{
	uint32_t empty = UINT32_MAX;

	for (uint32_t i = 0; i < 8; i++) {
		if (list[i].refs > 0 && strcmp(list[i].name, name) == 0) {
			list[i].refs += (unsigned)change;
			return i;
		}
		if (list[i].refs == 0 && empty == UINT32_MAX)
			empty = i;
	}
	assert_int_equal(change, 1); /* nothing is given back that was not taken */
	assert_true(empty < 8);
	snprintf(list[empty].name, sizeof(list[empty].name), "%s", name);
	list[empty].refs = 1;
	return empty;
}

static unsigned refs_of(const struct fake_topic *list, const char *name)
{
	for (size_t i = 0; i < 8; i++)
		if (strcmp(list[i].name, name) == 0)
			return list[i].refs;
	return 0;
}

static int fake_tap(struct transport_port *p, const char *topic, uint32_t *ret_slot,
		    transport_done_fn *done, void *arg, struct err *err)
{
	(void)err;
	*ret_slot = topic_slot(p->in, topic, 1);
	assert_true(p->t->n_waits < 64);
	p->t->waits[p->t->n_waits++] = (struct tap_wait){p, done, arg};
	return 0;
}

static void fake_untap(struct transport_port *p, const char *topic)
{
	topic_slot(p->in, topic, -1);
}

static int fake_out(struct transport_port *p, const char *topic, uint32_t *ret_slot,
		    transport_done_fn *done, void *arg, struct err *err)
{
	(void)err;
	assert_true(p->n_outs < 64);
	p->outs[p->n_outs++] = (struct tap_wait){p, done, arg};
	*ret_slot = topic_slot(p->out, topic, 1);
	return later(p);
}

static void fake_drop_out(struct transport_port *p, const char *topic)
{
	topic_slot(p->out, topic, -1);
}

static int fake_publish(struct transport_port *p, uint32_t slot, const char *payload, size_t len)
{
	p->said_slot = slot;
	snprintf(p->said, sizeof(p->said), "%.*s", (int)len, payload);
	return 0;
}

static json_t *fake_stats(const struct transport *t)
{
	(void)t;
	return json_object();
}

static int fake_port_stats(struct transport_port *p, transport_slots_fn *fn, void *arg,
			   struct err *err)
{
	(void)err;
	p->slots = fn;
	p->slots_arg = arg;
	return later(p);
}

static const struct transport_ops fake_ops = {
	.name = "fake",
	.start = fake_start,
	.stop = fake_stop,
	.open = fake_open,
	.port_add = fake_port_add,
	.port_hold = fake_port_hold,
	.port_retire = fake_port_retire,
	.port_resume = fake_port_resume,
	.port_remove = fake_port_remove,
	.port_holding = fake_holding,
	.tap_topic = fake_tap,
	.untap_topic = fake_untap,
	.out_topic = fake_out,
	.drop_out_topic = fake_drop_out,
	.publish = fake_publish,
	.stats = fake_stats,
	.port_stats = fake_port_stats,
};

/* ---------- the test ---------- */

struct bench {
	char userdir[40], run[60];
	struct loop *loop;
	struct settings settings;
	struct service *s;
	json_int_t ids;
	json_t *answers; /* id as text -> answer */
	json_t *reports;
};

static void take_answer(void *arg, const struct request_tag *tag, json_t *answer)
{
	struct bench *b = arg;
	char id[24];

	snprintf(id, sizeof(id), "%lld", (long long)tag->id);
	assert_null(json_object_get(b->answers, id)); /* once */
	json_object_set_new(b->answers, id, answer);
}

static int take_report(void *arg, json_t *report)
{
	struct bench *b = arg;

	return json_array_append_new(b->reports, report);
}

/* The only engine's. */
static struct transport_port *the_port(void)
{
	struct transport_port *p = the_transport(NULL)->ports;

	assert_non_null(p);
	assert_null(p->next);
	return p;
}

static size_t n_ports(void)
{
	size_t n = 0;

	for (const struct transport_port *p = the_transport(NULL)->ports; p != NULL; p = p->next)
		n++;
	return n;
}

static void on_change(void *arg)
{
	(void)arg;
}

static void on_no_keeper(void *arg, const char *why, bool was_up)
{
	(void)arg, (void)was_up;
	fail_msg("no keeper: %s", why);
}

static struct service_status status_of(struct bench *b)
{
	struct service_status status;

	service_get_status(b->s, &status);
	return status;
}

static pid_t the_pid(struct bench *b)
{
	pid_t pid = -1;

	service_engine_pids(b->s, &pid, 1);
	return pid;
}

static bool all_ready(struct bench *b)
{
	struct service_status status = status_of(b);

	return status.engines > 0 && status.engines_ready == status.engines;
}

#define UNTIL(b, condition)                                                            \
	do {                                                                           \
		for (int64_t end = loop_now_ms((b)->loop) + PATIENCE; !(condition);) { \
			loop_turn((b)->loop, 20);                                      \
			if (loop_now_ms((b)->loop) > end)                              \
				fail_msg("waited in vain for %s", #condition);         \
		}                                                                      \
	} while (0)

static void begin(struct bench *b)
{
	static const struct service_events events = {take_answer, take_report, on_change, on_change,
						     on_no_keeper};

	assert_int_equal(service_new(b->loop, &b->settings, "t", "/proc/self/exe", &fake_ops,
				     &events, b, &b->s, NULL),
			 0);
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_int_equal(loop_new(&b->loop, NULL), 0);
	b->settings.engine.budget_ms = BUDGET_MS;
	b->settings.engine.memory_mb = 256;
	b->settings.engine.ring_kb = 64;
	snprintf(b->userdir, sizeof(b->userdir), "/tmp/iottalk-test-XXXXXX");
	assert_non_null(mkdtemp(b->userdir));
	snprintf(b->run, sizeof(b->run), "%s/run", b->userdir);
	assert_int_equal(mkdir(b->run, 0700), 0);
	b->settings.core.userdir = b->userdir;
	b->settings.agent.max_payload_bytes = 1000;
	b->answers = json_object();
	b->reports = json_array();
	b->settings.engine.per_owner = 1;
	b->settings.engine.max_engines = 16;
	b->settings.engine.idle_ms = 10000;
	begin(b);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	char path[80];

	service_free(b->s);
	loop_free(b->loop);
	snprintf(path, sizeof(path), "%s/keeper.sock", b->run);
	unlink(path);
	rmdir(b->run);
	snprintf(path, sizeof(path), "%s/quarantine.json", b->userdir);
	unlink(path);
	rmdir(b->userdir);
	json_decref(b->answers);
	json_decref(b->reports);
	free(b);
	return 0;
}

/* body: taken. ret: its id. */
static json_int_t ask(struct bench *b, const char *op, json_t *body)
{
	size_t n;
	const struct request_op *ops = service_ops(&n);

	assert_non_null(body);
	for (size_t i = 0; i < n; i++) {
		if (strcmp(ops[i].op, op) != 0)
			continue;
		struct request_tag tag = {.session = 1, .id = ++b->ids, .op = ops[i].op};
		ops[i].handler(b->s, &tag, body);
		json_decref(body);
		return b->ids;
	}
	fail_msg("no op %s", op);
	return 0;
}

static json_t *answer_of(struct bench *b, json_int_t id)
{
	char text[24];

	snprintf(text, sizeof(text), "%lld", (long long)id);
	return json_object_get(b->answers, text);
}

static const char *state_of(struct bench *b, json_int_t id)
{
	return json_string_value(json_object_get(answer_of(b, id), "state"));
}

static const char *reason_of(struct bench *b, json_int_t id)
{
	const char *reason = json_string_value(json_object_get(answer_of(b, id), "reason"));
	return reason != NULL ? reason : "";
}

static void expect(struct bench *b, json_int_t id, const char *state)
{
	UNTIL(b, answer_of(b, id) != NULL);
	if (strcmp(state_of(b, id), state) != 0)
		fail_msg("state %s, not %s: %s", state_of(b, id), state, reason_of(b, id));
}

static json_int_t sync_to(struct bench *b, json_t *graphs)
{
	return ask(b, "sync", json_pack("{s:o, s:b}", "graphs", graphs, "first", 1));
}

static void acknowledge_taps(struct bench *b, int rc)
{
	struct transport *t = the_transport(NULL);
	struct tap_wait waits[64];
	size_t n = t->n_waits;

	(void)b;
	memcpy(waits, t->waits, sizeof(waits));
	t->n_waits = 0;
	for (size_t i = 0; i < n; i++)
		waits[i].fn(waits[i].arg, rc);
}

static json_t *owned_doc(const char *owner, const char *id, int rev, const char *in,
			 const char *out, const char *code)
{
	json_t *func = code != NULL ? json_string(sha256_hex(code, strlen(code)).s) : json_null();

	return json_pack("{s:{s:s, s:s, s:i, s:[{s:i, s:s, s:o}], s:[{s:i, s:s, s:n}], s:n, s:s}}",
			 "graph", "id", id, "owner", owner, "rev", rev, "idf", "lid", 1, "topic",
			 in, "func", func, "odf", "lid", 2, "topic", out, "func", "join", "monitor",
			 "iottalk/monitor/m");
}

static json_t *doc(const char *id, int rev, const char *in, const char *out, const char *code)
{
	return owned_doc("o", id, rev, in, out, code);
}

static void give_func(struct bench *b, const char *code)
{
	ask(b, "func",
	    json_pack("{s:s, s:s}", "digest", sha256_hex(code, strlen(code)).s, "code", code));
}

static json_int_t put(struct bench *b, const char *id, int rev, const char *code)
{
	if (code != NULL)
		give_func(b, code);
	return ask(b, "put", doc(id, rev, "iottalk/esm/in", "iottalk/esm/out", code));
}

static void open_service(struct bench *b)
{
	expect(b, sync_to(b, json_array()), "ok");
	assert_int_equal(the_transport(NULL)->opened, 1);
	assert_int_equal(status_of(b).engines, 0); /* nobody needs one yet */
}

/* As the broker would: to every engine that the topic goes to. */
static void feed_to(struct bench *b, const char *topic, const char *payload)
{
	struct tap_rec rec = {.qos = 1, .len = (uint32_t)strlen(payload)};
	size_t fed = 0;

	(void)b;
	for (struct transport_port *p = the_transport(NULL)->ports; p != NULL; p = p->next) {
		if (refs_of(p->in, topic) == 0)
			continue;
		rec.slot = topic_slot(p->in, topic, 0);
		assert_int_equal(tap_push(p->tap, &rec, payload), 0);
		fed++;
		/* the engine may have died of the message before: nobody is there to be woken, the
		 * next one looks by itself */
		if (p->wake_fd >= 0 && write(p->wake_fd, "w", 1) != 1)
			assert_int_equal(errno, EPIPE);
		p->t->ev.on_port_fed(p->t->arg, p);
	}
	assert_true(fed > 0);
}

static void feed(struct bench *b, const char *payload)
{
	feed_to(b, "iottalk/esm/in", payload);
}

static bool pulled(char payload[256])
{
	struct transport *t = the_transport(NULL);

	if (json_array_size(t->early) > 0) {
		snprintf(payload, 256, "%s", json_string_value(json_array_get(t->early, 0)));
		json_array_remove(t->early, 0);
		return true;
	}
	for (struct transport_port *p = t->ports; p != NULL; p = p->next)
		if (pull_from(p, payload))
			return true;
	return false;
}

static void expect_result(struct bench *b, const char *want)
{
	char payload[256];

	UNTIL(b, pulled(payload));
	assert_string_equal(payload, want);
}

static void a_put_is_answered_when_it_is_in_force(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t id = put(b, "g", 1, "fine");
	for (int i = 0; i < 5; i++)
		loop_turn(b->loop, 10);
	assert_null(answer_of(b, id)); /* its topic is not there yet */
	acknowledge_taps(b, 0);
	expect(b, id, "ok");
	assert_int_equal(json_integer_value(json_object_get(answer_of(b, id), "rev")), 1);
	feed(b, "hello");
	expect_result(b, "hello");
	assert_int_equal(status_of(b).graphs, 1);
}

static void what_comes_before_the_first_sync_is_loaded_before_messages_flow(void **state)
{
	struct bench *b = *state;
	json_int_t id = put(b, "g", 1, "fine");
	json_int_t sync = sync_to(b, json_pack("[s]", "g"));

	assert_int_equal(the_transport(NULL)->opened, 0); /* the engine has not even started */
	assert_null(answer_of(b, sync));
	expect(b, sync, "ok");
	assert_int_equal(the_transport(NULL)->opened, 1);
	assert_null(answer_of(b, id)); /* the broker has not acknowledged */
	acknowledge_taps(b, 0);
	expect(b, id, "ok");
	feed(b, "x");
	expect_result(b, "x");
}

static void a_refusal_leaves_the_old_revision_in_force(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	give_func(b, "bad");
	json_int_t bad = ask(b, "put", doc("g", 2, "iottalk/esm/new", "iottalk/esm/out", "bad"));
	assert_int_equal(refs_of(the_port()->in, "iottalk/esm/new"), 1);
	acknowledge_taps(b, 0);
	expect(b, bad, "error");
	assert_string_equal(reason_of(b, bad), "SyntaxError: bad");
	assert_int_equal(json_integer_value(json_object_get(
				 json_object_get(answer_of(b, bad), "where"), "lid")),
			 1);
	assert_int_equal(refs_of(the_port()->in, "iottalk/esm/new"), 0);
	assert_int_equal(refs_of(the_port()->in, "iottalk/esm/in"), 1);
	assert_int_equal(refs_of(the_port()->out, "iottalk/esm/out"), 1);
	feed(b, "still");
	expect_result(b, "still");
}

static void a_refused_topic_refuses_the_put(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t id = put(b, "g", 1, "fine");
	acknowledge_taps(b, ERR_ACCES);
	expect(b, id, "error");
	assert_int_equal(refs_of(the_port()->in, "iottalk/esm/in"), 0);
	assert_int_equal(refs_of(the_port()->out, "iottalk/esm/out"), 0);
	assert_int_equal(status_of(b).graphs, 0);
}

static void missing_sources_are_asked_for(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t id = ask(b, "put", doc("g", 1, "iottalk/esm/in", "iottalk/esm/out", "fine"));
	expect(b, id, "need");
	assert_string_equal(
		json_string_value(json_array_get(json_object_get(answer_of(b, id), "digests"), 0)),
		sha256_hex("fine", 4).s);
	json_int_t again = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, again, "ok");
}

static void revisions_only_rise(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t first = put(b, "g", 5, "fine");
	acknowledge_taps(b, 0);
	expect(b, first, "ok");
	json_int_t same = put(b, "g", 5, "fine");
	expect(b, same, "ok");
	json_int_t old = put(b, "g", 4, "fine");
	expect(b, old, "error");
	assert_string_equal(reason_of(b, old), "stale revision");
	assert_int_equal(refs_of(the_port()->in, "iottalk/esm/in"), 1);
}

static void requests_of_one_graph_are_done_in_order_those_of_others_meanwhile(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t first = put(b, "g", 1, "fine"), drop, second, other;
	struct tap_wait held = the_transport(NULL)->waits[0];
	the_transport(NULL)->n_waits = 0;
	drop = ask(b, "drop", json_pack("{s:s}", "graph", "g"));
	second = put(b, "g", 2, "fine");
	other = put(b, "h", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, other, "ok");
	assert_null(answer_of(b, first));
	assert_null(answer_of(b, drop));
	held.fn(held.arg, 0);
	expect(b, first, "ok");
	expect(b, drop, "ok");
	assert_null(answer_of(b, second));
	acknowledge_taps(b, 0);
	expect(b, second, "ok");
	assert_int_equal(refs_of(the_port()->in, "iottalk/esm/in"), 2);
}

static void sync_drops_what_is_not_listed(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t g = put(b, "g", 1, "fine"), h = put(b, "h", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, g, "ok");
	expect(b, h, "ok");
	expect(b, sync_to(b, json_pack("[s]", "h")), "ok");
	assert_int_equal(status_of(b).graphs, 1);
	assert_int_equal(refs_of(the_port()->in, "iottalk/esm/in"), 1);
	assert_int_equal(the_transport(NULL)->opened, 1);
	expect(b, ask(b, "drop", json_pack("{s:s}", "graph", "unknown")), "ok");
}

static void malformed_requests_are_refused_with_a_reason(void **state)
{
	static const char *const puts[] = {
		"{}",
		"{\"graph\":7}",
		"{\"graph\":{\"id\":\"g\"}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":0,\"idf\":[],\"odf\":[]}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":1,\"idf\":{},\"odf\":[]}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":1,\"idf\":[7],\"odf\":[]}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":1,\"idf\":[{\"lid\":1,\"topic\":\"#\"}],\"odf\":["
		"]}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":1,\"idf\":[{\"lid\":1,\"topic\":\"x/ctrl/"
		"i\"}],\"odf\":[]}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":1,\"idf\":[],\"odf\":[{\"lid\":1,\"topic\":"
		"\"iottalk/esm/+\"}]}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":1,\"idf\":[],\"odf\":[],\"monitor\":\"iottalk/"
		"esm/x\"}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":1,\"idf\":[],\"odf\":[],\"join\":{\"func\":\"x\"}"
		"}}",
		"{\"graph\":{\"id\":\"g\",\"rev\":1,\"idf\":[],\"odf\":[],\"join\":{\"func\":null,"
		"\"depends\":{\"a\":1}}}}",
	};
	struct bench *b = *state;

	open_service(b);
	for (size_t i = 0; i < ARRAY_LEN(puts); i++) {
		json_int_t id = ask(b, "put", json_loads(puts[i], 0, NULL));
		if (answer_of(b, id) == NULL || strcmp(state_of(b, id), "error") != 0 ||
		    reason_of(b, id)[0] == '\0')
			fail_msg("%s", puts[i]);
	}
	expect(b, ask(b, "sync", json_pack("{s:[i]}", "graphs", 1)), "error");
	expect(b, ask(b, "sync", json_object()), "error");
	expect(b, ask(b, "drop", json_object()), "error");
	expect(b, ask(b, "check", json_pack("{s:[i]}", "codes", 1)), "error");
	ask(b, "func", json_object());
	ask(b, "func", json_pack("{s:s, s:s}", "digest", sha256_hex("a", 1).s, "code", "b"));
	assert_int_equal(status_of(b).graphs, 0);
}

static void a_document_that_hangs_is_refused_and_the_rest_goes_on(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	json_int_t bad = put(b, "h", 1, "hang"), behind = put(b, "i", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, bad, "error");
	assert_non_null(strstr(reason_of(b, bad), "time budget of 150 ms exceeded while loading"));
	expect(b, behind, "ok"); /* asked again of the next engine */
	assert_int_equal(status_of(b).engine_restarts, 1);
	feed(b, "on");
	expect_result(b, "on");
}

static void a_document_that_kills_is_refused_and_not_loaded_again(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	json_int_t bad = put(b, "g", 2, "die");
	acknowledge_taps(b, 0);
	expect(b, bad, "error");
	assert_non_null(strstr(reason_of(b, bad), "killed by signal 9"));
	UNTIL(b, all_ready(b));
	feed(b, "one");
	expect_result(b, "one");
	assert_int_equal(status_of(b).engine_restarts, 1);
}

static void a_check_that_hangs_is_answered(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t hangs = ask(b, "check", json_pack("{s:[s]}", "codes", "hang"));
	json_int_t fine = ask(b, "check", json_pack("{s:[s], s:{}}", "codes", "fine", "depends"));
	expect(b, hangs, "error");
	assert_non_null(strstr(reason_of(b, hangs), "time budget"));
	expect(b, fine, "ok");
	assert_int_equal(json_array_size(json_object_get(answer_of(b, fine), "results")), 1);
}

static void expect_blame(struct bench *b, const char *why)
{
	UNTIL(b, json_array_size(b->reports) > 0);
	json_t *report = json_array_get(b->reports, 0);
	assert_string_equal(json_string_value(json_object_get(report, "graph")), "g");
	assert_string_equal(json_string_value(json_object_get(report, "kind")), "idf");
	assert_int_equal(json_integer_value(json_object_get(report, "lid")), 1);
	assert_non_null(strstr(json_string_value(json_object_get(report, "reason")), why));
	json_auto_t *said = json_loads(the_port()->said, 0, NULL);
	json_t *data = json_object_get(said, "data");
	assert_string_equal(json_string_value(json_object_get(said, "op")), "esm_error");
	assert_string_equal(json_string_value(json_object_get(data, "src")), "fine");
	assert_non_null(
		strstr(json_string_value(json_object_get(data, "msg")), "idf function failure:\n"));
	assert_int_equal(the_port()->said_slot,
			 topic_slot(the_port()->out, "iottalk/monitor/m", 0));
}

static void a_message_that_hangs_is_skipped_and_blamed(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	feed(b, "before");
	feed(b, "stuck");
	feed(b, "after");
	expect_result(b, "before");
	expect_blame(b, "time budget of 150 ms exceeded");
	expect_result(b, "after");
	assert_int_equal(status_of(b).engine_restarts, 1);
}

static void an_engine_that_gets_no_processor_is_not_blamed(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	feed(b, "kept waiting");
	feed(b, "after");
	expect_result(b, "kept waiting");
	expect_result(b, "after");
	assert_int_equal(status_of(b).engine_restarts, 0);
}

static void an_exit_in_a_function_is_blamed(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	feed(b, "exit");
	feed(b, "after");
	expect_result(b, "after");
	expect_blame(b, "exit status 3");
	assert_int_equal(status_of(b).engine_restarts, 1);
}

static void an_engine_killed_idle_is_replaced_and_nobody_blamed(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	pid_t pid = the_pid(b);
	assert_int_equal(kill(pid, SIGKILL), 0);
	UNTIL(b, status_of(b).engine_restarts == 1);
	feed(b, "new"); /* while there is no engine */
	expect_result(b, "new");
	assert_int_not_equal(the_pid(b), pid);
	assert_int_equal(json_array_size(b->reports), 0);
}

static void a_fault_is_reported_once_a_second(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	for (int i = 0; i < 20; i++)
		feed(b, "fault");
	for (int i = 0; i < 20; i++)
		expect_result(b, "fault");
	UNTIL(b, json_array_size(b->reports) > 0);
	assert_in_range(json_array_size(b->reports), 1, 2);
}

static void an_engine_that_breaks_the_ring_is_replaced(void **state)
{
	struct bench *b = *state;

	open_service(b);
	put(b, "g", 1, "fine");
	UNTIL(b, all_ready(b));
	the_transport(NULL)->ev.on_port_broken(the_transport(NULL)->arg, the_port());
	UNTIL(b, status_of(b).engine_restarts == 1);
	UNTIL(b, all_ready(b));
}

/* ---------- engines per owner ---------- */

static json_int_t put_of(struct bench *b, const char *owner, const char *id, int rev,
			 const char *code)
{
	if (code != NULL)
		give_func(b, code);
	return ask(b, "put", owned_doc(owner, id, rev, "iottalk/esm/in", "iottalk/esm/out", code));
}

/* The same, and wait until it runs. */
static void run(struct bench *b, const char *owner, const char *id, int rev, const char *code)
{
	json_int_t asked = put_of(b, owner, id, rev, code);

	for (int64_t end = loop_now_ms(b->loop) + PATIENCE; answer_of(b, asked) == NULL;) {
		acknowledge_taps(b, 0);
		loop_turn(b->loop, 20);
		assert_true(loop_now_ms(b->loop) < end);
	}
	expect(b, asked, "ok");
}

/* One that hears nothing of what goes to iottalk/esm/in. */
static void run_elsewhere(struct bench *b, const char *owner, const char *id, int rev)
{
	json_int_t asked =
		ask(b, "put",
		    owned_doc(owner, id, rev, "iottalk/esm/elsewhere", "iottalk/esm/out", NULL));

	acknowledge_taps(b, 0);
	expect(b, asked, "ok");
}

static struct transport_port *port_named(const char *prefix)
{
	struct transport_port *p = the_transport(NULL)->ports;

	while (p != NULL && strncmp(p->name, prefix, strlen(prefix)) != 0)
		p = p->next;
	return p;
}

static void graphs_of_different_owners_never_share_an_engine(void **state)
{
	struct bench *b = *state;
	pid_t pids[8];

	open_service(b);
	run(b, "alice", "g", 1, "fine");
	run(b, "bob", "h", 1, "fine");
	run(b, "alice", "i", 1, "fine");
	assert_int_equal(n_ports(), 2);
	assert_int_equal(service_engine_pids(b->s, pids, 8), 2);
	assert_int_not_equal(pids[0], pids[1]);
	feed(b, "x"); /* three graphs, two engines */
	for (int i = 0; i < 3; i++)
		expect_result(b, "x");
}

static void a_graph_that_changes_hands_changes_engines(void **state)
{
	struct bench *b = *state;

	open_service(b);
	run(b, "alice", "g", 5, "fine");
	char before[80];
	snprintf(before, sizeof(before), "%s", the_port()->name);
	b->settings.engine.idle_ms = 20;
	run(b, "bob", "g", 3, "fine"); /* another graph altogether: its revisions begin anew */
	UNTIL(b, n_ports() == 1);
	assert_string_not_equal(the_port()->name, before);
	assert_int_equal(status_of(b).graphs, 1);
	feed(b, "x");
	expect_result(b, "x");
}

static void graphs_of_one_owner_are_spread_over_so_many_engines(void **state)
{
	struct bench *b = *state;
	char id[8];

	b->settings.engine.per_owner = 3;
	open_service(b);
	for (int i = 0; i < 16; i++) {
		snprintf(id, sizeof(id), "g%d", i);
		run(b, "alice", id, 1, NULL);
	}
	assert_int_equal(n_ports(), 3);
	assert_int_equal(status_of(b).engines, 3);
}

static void an_engine_comes_with_its_first_graph_and_goes_after_its_last(void **state)
{
	struct bench *b = *state;

	b->settings.engine.idle_ms = 100;
	open_service(b);
	assert_int_equal(n_ports(), 0);
	run(b, "alice", "g", 1, "fine");
	pid_t pid = the_pid(b);
	assert_true(pid > 0);
	feed(b, "fault"); /* so that it has counted something */
	expect_result(b, "fault");
	for (int i = 0; i < 15; i++)
		loop_turn(b->loop, 10);
	assert_int_equal(n_ports(), 1);
	expect(b, ask(b, "drop", json_pack("{s:s}", "graph", "g")), "ok");
	run(b, "alice", "h", 1, "fine"); /* in time */
	assert_int_equal(the_pid(b), pid);
	expect(b, ask(b, "drop", json_pack("{s:s}", "graph", "h")), "ok");
	UNTIL(b, n_ports() == 0);
	UNTIL(b, kill(pid, 0) < 0); /* its parent is another */
	assert_int_equal(status_of(b).engines, 0);
	run(b, "alice", "g", 2, "fine");
	feed(b, "again");
	expect_result(b, "again");
	assert_int_not_equal(the_pid(b), pid);
}

static void no_more_engines_than_allowed(void **state)
{
	struct bench *b = *state;

	b->settings.engine.max_engines = 2;
	open_service(b);
	run(b, "alice", "g", 1, "fine");
	run(b, "bob", "h", 1, "fine");
	json_int_t third = put_of(b, "carol", "i", 1, "fine");
	expect(b, third, "error");
	assert_non_null(strstr(reason_of(b, third), "2 engines"));
	assert_int_equal(status_of(b).graphs, 2);
	run(b, "bob", "j", 1, "fine");
}

static void checks_run_where_no_graph_does(void **state)
{
	struct bench *b = *state;

	open_service(b);
	run(b, "alice", "g", 1, "fine");
	pid_t pid = the_pid(b);
	json_int_t hers =
		ask(b, "check", json_pack("{s:[s], s:s}", "codes", "die", "owner", "alice"));
	json_int_t his =
		ask(b, "check", json_pack("{s:[s], s:s}", "codes", "fine", "owner", "bob"));
	json_int_t anybodys = ask(b, "check", json_pack("{s:[s]}", "codes", "fine"));
	expect(b, hers, "error");
	expect(b, his, "ok");
	expect(b, anybodys, "ok");
	assert_int_equal(n_ports(), 4);
	feed(b, "x");
	expect_result(b, "x");
	pid_t pids[8];
	size_t n = service_engine_pids(b->s, pids, 8);
	assert_int_equal(pids[n - 1], pid); /* hers is the oldest, and has not ended */
	b->settings.engine.idle_ms = 20;
	ask(b, "check", json_pack("{s:[s], s:s}", "codes", "fine", "owner", "bob"));
	UNTIL(b, n_ports() == 3);
}

/* ---------- strikes ---------- */

static size_t reports_of(struct bench *b, const char *level, const char *graph)
{
	size_t n = 0, i;
	json_t *r;

	json_array_foreach (b->reports, i, r) {
		n += strcmp(json_string_value(json_object_get(r, "level")), level) == 0 &&
		     strcmp(json_string_value(json_object_get(r, "graph")), graph) == 0;
	}
	return n;
}

static json_t *last_report(struct bench *b)
{
	return json_array_get(b->reports, json_array_size(b->reports) - 1);
}

static void the_second_fall_brings_an_engine_of_its_own_and_loses_nothing(void **state)
{
	struct bench *b = *state;

	open_service(b);
	run(b, "o", "g", 1, "fine");
	pid_t pid = the_pid(b);
	feed(b, "exit");
	feed(b, "a");
	expect_result(b, "a");
	assert_int_equal(n_ports(), 1); /* once is nothing */
	feed(b, "b");
	feed(b, "exit");
	for (int i = 0; i < 20; i++)
		feed(b, "queued");
	UNTIL(b, port_named("g-") != NULL && refs_of(port_named("g-")->in, "iottalk/esm/in") == 1);
	feed(b, "late"); /* goes to the new one already */
	acknowledge_taps(b, 0);
	expect_result(b, "b");
	for (int i = 0; i < 20; i++)
		expect_result(b, "queued");
	expect_result(b, "late");
	assert_int_equal(refs_of(port_named("o-")->in, "iottalk/esm/in"), 0);
	UNTIL(b, refs_of(port_named("o-")->out, "iottalk/esm/out") == 0);
	feed(b, "on");
	expect_result(b, "on");
	assert_int_not_equal(the_pid(b), pid);
	assert_int_equal(status_of(b).graphs, 1);
	/* what csm wants of it goes on there */
	run(b, "o", "g", 2, "fine");
	feed(b, "two");
	expect_result(b, "two");
	expect(b, ask(b, "drop", json_pack("{s:s}", "graph", "g")), "ok");
	assert_int_equal(refs_of(port_named("g-")->in, "iottalk/esm/in"), 0);
}

static void two_falls(struct bench *b)
{
	feed(b, "exit");
	feed(b, "exit");
	UNTIL(b, port_named("g-") != NULL);
	UNTIL(b, the_transport(NULL)->n_waits > 0);
	acknowledge_taps(b, 0);
	feed(b, "moved");
	expect_result(b, "moved");
}

static void quarantine_g(struct bench *b)
{
	two_falls(b);
	feed(b, "exit");
	UNTIL(b, reports_of(b, "error", "g") == 1);
}

static void the_third_fall_within_a_minute_is_the_last(void **state)
{
	struct bench *b = *state;

	open_service(b);
	run(b, "o", "g", 1, "fine");
	run_elsewhere(b, "o", "n", 1);
	two_falls(b);
	uint64_t restarts = status_of(b).engine_restarts;
	unsigned renewals = port_named("o-")->renewals;
	feed(b, "exit");
	feed(b, "not any more");
	UNTIL(b, reports_of(b, "error", "g") == 1);
	json_t *report = last_report(b);
	static const char why[] =
		"quarantined: the engine ended (exit status 3), 3 times within a minute";
	assert_string_equal(json_string_value(json_object_get(report, "reason")), why);
	assert_int_equal(json_integer_value(json_object_get(report, "lid")), 1);
	assert_string_equal(json_string_value(json_object_get(report, "kind")), "idf");
	json_auto_t *said = json_loads(port_named("g-")->said, 0, NULL);
	assert_non_null(strstr(
		json_string_value(json_object_get(json_object_get(said, "data"), "msg")), why));
	UNTIL(b, all_ready(b));
	feed(b, "exit");
	feed(b, "exit");
	feed_to(b, "iottalk/esm/elsewhere", "neighbour");
	expect_result(b, "neighbour");
	/* its neighbour's engine has had no part in it since */
	assert_int_equal(port_named("o-")->renewals, renewals);
	assert_int_equal(status_of(b).engine_restarts, restarts + 1);
	assert_int_equal(reports_of(b, "error", "g"), 1);
	assert_int_equal(reports_of(b, "error", "n"), 0);
}

static bool is_drained(struct transport_port *p)
{
	uint64_t done, waiting;

	return tap_progress(p->tap, &done, &waiting) == 0 && waiting == 0;
}

static void another_function_ends_the_quarantine(void **state)
{
	struct bench *b = *state;

	open_service(b);
	run(b, "o", "g", 1, "fine");
	quarantine_g(b);
	run(b, "o", "g", 2, "fine"); /* the same one does not */
	feed(b, "silence");
	UNTIL(b, is_drained(port_named("g-")));
	assert_int_equal(reports_of(b, "ok", "g"), 0);
	json_int_t change = put_of(b, "o", "g", 3, "better");
	acknowledge_taps(b, 0);
	UNTIL(b, reports_of(b, "ok", "g") == 1);
	assert_int_equal(json_integer_value(json_object_get(last_report(b), "lid")), 1);
	acknowledge_taps(b, 0);
	expect(b, change, "ok");
	feed(b, "better");
	expect_result(b, "better");
}

static void a_persons_word_ends_the_quarantine(void **state)
{
	struct bench *b = *state;
	struct err err = {0};

	open_service(b);
	run(b, "o", "g", 1, "fine");
	quarantine_g(b);
	UNTIL(b, all_ready(b));
	assert_int_equal(service_release(b->s, "unknown", &err), ERR_NOENT);
	assert_int_equal(service_release(b->s, "g", &err), 1);
	assert_int_equal(reports_of(b, "ok", "g"), 1);
	for (int64_t end = loop_now_ms(b->loop) + PATIENCE;;) {
		char payload[256];

		feed(b, "again");
		loop_turn(b->loop, 10);
		if (pulled(payload))
			break;
		assert_true(loop_now_ms(b->loop) < end);
	}
	assert_int_equal(service_release(b->s, "g", &err), 0);
}

static void a_limit_broken_three_times_is_a_quarantine_without_a_fall(void **state)
{
	struct bench *b = *state;

	open_service(b);
	run(b, "o", "g", 1, "fine");
	feed(b, "fat");
	feed(b, "fat");
	UNTIL(b, port_named("g-") != NULL);
	acknowledge_taps(b, 0);
	expect_result(b, "fat");
	expect_result(b, "fat");
	UNTIL(b, refs_of(port_named("o-")->out, "iottalk/esm/out") == 0);
	feed(b, "fat");
	expect_result(b, "fat");
	UNTIL(b, reports_of(b, "error", "g") == 1);
	assert_string_equal(json_string_value(json_object_get(last_report(b), "reason")),
			    "quarantined: memory limit exceeded, 3 times within a minute");
	assert_int_equal(status_of(b).engine_restarts, 0);
	for (int64_t end = loop_now_ms(b->loop) + PATIENCE;
	     ;) { /* blocked in the engine that lives */
		char payload[256];

		feed(b, "silence");
		for (int i = 0; i < 5; i++)
			loop_turn(b->loop, 10);
		if (!pulled(payload))
			break;
		assert_true(loop_now_ms(b->loop) < end);
	}
	assert_int_equal(status_of(b).engine_restarts, 0);
}

static void an_engine_cannot_accuse_graphs_of_others(void **state)
{
	struct bench *b = *state;

	open_service(b);
	run(b, "mallory", "g", 1, "fine");
	json_int_t victim = ask(b, "put",
				owned_doc("alice", "victim", 1, "iottalk/esm/elsewhere",
					  "iottalk/esm/out", "fine"));
	acknowledge_taps(b, 0);
	expect(b, victim, "ok");
	for (int i = 0; i < 4; i++) {
		feed(b, "lie");
		expect_result(b, "lie");
	}
	for (int i = 0; i < 10; i++)
		loop_turn(b->loop, 10);
	assert_int_equal(json_array_size(b->reports), 0);
	assert_int_equal(n_ports(), 2);
}

static void whoever_hides_what_it_does_is_found_by_elimination(void **state)
{
	struct bench *b = *state;

	open_service(b);
	run(b, "o", "g", 1, "fine");
	for (int i = 0; i < 3; i++) {
		feed(b, "sly exit"); /* says that it does nothing, twice for each message */
		UNTIL(b, (acknowledge_taps(b, 0),
			  status_of(b).engine_restarts == 2u * (unsigned)i + 2));
	}
	UNTIL(b, reports_of(b, "error", "g") == 1);
}

/* Is the engine at a message so long? */
static bool stands_at(uint32_t len)
{
	struct tap_rec rec;

	return tap_current(the_port()->tap, &rec) == 1 && rec.len == len;
}

static void who_is_killed_from_outside_has_done_nothing(void **state)
{
	struct bench *b = *state;

	b->settings.engine.budget_ms = 60000;
	open_service(b);
	run(b, "o", "g", 1, "fine");
	for (unsigned i = 1; i <= 4; i++) {
		feed(b, "before it");
		expect_result(b, "before it");
		feed(b, "stuck");
		feed(b, "after");
		UNTIL(b, tap_doing_kind(tap_doing(the_port()->tap)) == TAP_IDF && stands_at(5));
		kill(the_pid(b), SIGKILL);
		UNTIL(b, status_of(b).engine_restarts == i);
		expect_result(b, "after");
	}
	assert_int_equal(n_ports(), 1);
	assert_int_equal(reports_of(b, "error", "g"), 0);
}

/* Killed between a message's end and the word that it is done: the next one had not begun. */
static void who_is_killed_between_two_messages_loses_neither(void **state)
{
	struct bench *b = *state;

	b->settings.engine.budget_ms = 60000;
	open_service(b);
	run(b, "o", "g", 1, "fine");
	feed(b, "die when done");
	feed(b, "after");
	expect_result(b, "die when done");
	UNTIL(b, status_of(b).engine_restarts == 1);
	expect_result(b, "after");
}

static void end(struct bench *b)
{
	b->s = service_free(b->s);
	json_object_clear(b->answers);
	json_array_clear(b->reports);
}

static void a_quarantine_outlives_the_agent(void **state)
{
	struct bench *b = *state;
	char path[80];

	snprintf(path, sizeof(path), "%s/quarantine.json", b->userdir);
	open_service(b);
	run(b, "o", "g", 1, "fine");
	run_elsewhere(b, "o", "gone", 1);
	quarantine_g(b);
	end(b);
	assert_int_equal(access(path, R_OK), 0);

	begin(b);
	json_int_t again = put_of(b, "o", "g", 1, "fine");
	json_int_t sync = sync_to(b, json_pack("[s]", "g"));
	expect(b, sync, "ok");
	acknowledge_taps(b, 0);
	expect(b, again, "ok");
	assert_non_null(port_named("g-")); /* at once in its own engine */
	assert_int_equal(n_ports(), 1);
	assert_int_equal(reports_of(b, "error", "g"), 1);
	feed(b, "silence");
	for (int i = 0; i < 10; i++)
		loop_turn(b->loop, 10);
	char payload[256];
	assert_false(pulled(payload));
	/* the next csm hears of it, too */
	expect(b, sync_to(b, json_pack("[s]", "g")), "ok");
	assert_int_equal(reports_of(b, "error", "g"), 2);
	expect(b, ask(b, "drop", json_pack("{s:s}", "graph", "g")), "ok");
	end(b);

	begin(b);
	open_service(b);
	run(b, "o", "g", 1, "fine"); /* attached anew */
	feed(b, "heard");
	expect_result(b, "heard");
}

/* ---------- engines of an earlier agent ---------- */

static int make_adopted(void *arg, const char *name, const struct host_events *events,
			void *host_arg, struct host **ret, struct err *err)
{
	struct bench *b = arg;

	const struct host_conf conf = service_host_conf(b->s);

	return host_new(&conf, name, events, host_arg, ret, err);
}

static void graphs_find_the_engines_they_had_and_the_rest_goes(void **state)
{
	struct bench *b = *state;
	char shared[80], apart[80], other[80];
	struct err err = {0};

	b->settings.engine.idle_ms = 50;
	open_service(b);
	run(b, "o", "g", 1, "fine");
	run_elsewhere(b, "other", "x", 1);
	snprintf(other, sizeof(other), "%s", the_transport(NULL)->ports->name);
	run_elsewhere(b, "o", "h", 1);
	two_falls(b);
	UNTIL(b, port_named("o-") != NULL);
	snprintf(apart, sizeof(apart), "%s", port_named("g-")->name);
	end(b);

	begin(b);
	open_service(b);
	run_elsewhere(b, "o", "h", 1);
	snprintf(shared, sizeof(shared), "%s", the_port()->name);
	end(b);

	begin(b);
	assert_int_equal(pool_adopt(b->s, shared, make_adopted, b, &err), 0);
	assert_int_equal(pool_adopt(b->s, apart, make_adopted, b, &err), 0);
	assert_int_equal(pool_adopt(b->s, other, make_adopted, b, &err), 0);
	assert_int_equal(pool_adopt(b->s, other, make_adopted, b, &err), ERR_EXIST);
	for (int i = 0; i < 20; i++)
		loop_turn(b->loop, 10);
	assert_int_equal(n_ports(), 3); /* csm is not there yet: they wait */
	json_int_t g = put_of(b, "o", "g", 1, "fine"),
		   h = ask(b, "put",
			   owned_doc("o", "h", 1, "iottalk/esm/elsewhere", "iottalk/esm/out",
				     NULL));
	expect(b, sync_to(b, json_pack("[s, s]", "g", "h")), "ok");
	acknowledge_taps(b, 0);
	expect(b, g, "ok");
	expect(b, h, "ok");
	assert_int_equal(refs_of(port_named(apart)->in, "iottalk/esm/in") +
				 refs_of(port_named(shared)->in, "iottalk/esm/elsewhere"),
			 2);
	UNTIL(b, n_ports() == 2); /* nobody's: it has ended */
	assert_null(port_named(other));
	json_t *counters = NULL;
	UNTIL(b, (json_decref(counters), counters = service_counters(b->s),
		  json_integer_value(json_object_get(counters, "dropped.kept")) == 2));
	json_decref(counters);
	feed(b, "one");
	expect_result(b, "one");
	feed_to(b, "iottalk/esm/elsewhere", "two");
	expect_result(b, "two");
}

/* ---------- figures ---------- */

static void take_told(void *arg, json_t *answer)
{
	json_t **told = arg;

	*told = answer;
}

static void figures_are_gathered_from_engines_and_transport(void **state)
{
	struct bench *b = *state;
	json_t *told = NULL;
	struct err err = {0};

	open_service(b);
	run(b, "o", "g", 1, "fine");
	run(b, "p", "h", 1, "fine");
	feed(b, "x");
	expect_result(b, "x");
	expect_result(b, "x");
	int64_t before = loop_now_ms(b->loop);
	UNTIL(b, loop_now_ms(b->loop) > before); /* a rate needs time */
	service_list(b->s, take_told, &told);
	UNTIL(b, told != NULL);
	assert_int_equal(json_array_size(told), 2);
	for (size_t i = 0; i < 2; i++) {
		json_t *row = json_array_get(told, i);
		assert_string_equal(json_string_value(json_object_get(row, "state")), "running");
		assert_int_equal(json_integer_value(json_object_get(row, "evaluated")), 1);
		assert_int_equal(json_integer_value(json_object_get(row, "p99_us")), 99);
		assert_int_equal(json_integer_value(json_object_get(row, "dropped")), 5);
		assert_true(json_real_value(json_object_get(row, "per_s")) > 0);
	}
	json_decref(told);
	told = NULL;
	assert_int_equal(service_show(b->s, "g", take_told, &told, &err), 0);
	UNTIL(b, told != NULL);
	json_t *link = json_array_get(json_object_get(told, "links"), 0);
	assert_string_equal(json_string_value(json_object_get(link, "mode")), "idf");
	assert_int_equal(json_integer_value(json_object_get(link, "received")), 10);
	assert_int_equal(json_integer_value(json_object_get(link, "dropped_full")), 3);
	assert_int_equal(json_integer_value(json_object_get(told, "memory_bytes")), 4096);
	assert_int_equal(json_array_size(json_object_get(told, "strikes")), 0);
	json_decref(told);
	assert_int_equal(service_show(b->s, "unknown", take_told, &told, &err), ERR_NOENT);
}

static void figures_do_not_wait_for_an_engine_that_does_not_answer(void **state)
{
	struct bench *b = *state;
	json_t *told = NULL;

	b->settings.engine.budget_ms = 60000;
	open_service(b);
	run(b, "o", "g", 1, "fine");
	feed(b, "stuck");
	UNTIL(b, tap_doing_kind(tap_doing(the_port()->tap)) == TAP_IDF);
	service_list(b->s, take_told, &told);
	UNTIL(b, told != NULL);
	json_t *row = json_array_get(told, 0);
	assert_string_equal(json_string_value(json_object_get(row, "id")), "g");
	assert_null(json_object_get(row, "evaluated"));
	assert_int_equal(json_integer_value(json_object_get(row, "dropped")), 3);
	json_decref(told);
	service_list(b->s, take_told, &told); /* and if the service goes while somebody waits */
	told = NULL;
	b->s = service_free(b->s);
	assert_non_null(told);
	json_decref(told);
}

int main(int argc, char *argv[])
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_put_is_answered_when_it_is_in_force),
		TEST(what_comes_before_the_first_sync_is_loaded_before_messages_flow),
		TEST(a_refusal_leaves_the_old_revision_in_force),
		TEST(a_refused_topic_refuses_the_put),
		TEST(missing_sources_are_asked_for),
		TEST(revisions_only_rise),
		TEST(requests_of_one_graph_are_done_in_order_those_of_others_meanwhile),
		TEST(sync_drops_what_is_not_listed),
		TEST(malformed_requests_are_refused_with_a_reason),
		TEST(a_document_that_hangs_is_refused_and_the_rest_goes_on),
		TEST(a_document_that_kills_is_refused_and_not_loaded_again),
		TEST(a_check_that_hangs_is_answered),
		TEST(a_message_that_hangs_is_skipped_and_blamed),
		TEST(an_engine_that_gets_no_processor_is_not_blamed),
		TEST(an_exit_in_a_function_is_blamed),
		TEST(an_engine_killed_idle_is_replaced_and_nobody_blamed),
		TEST(a_fault_is_reported_once_a_second),
		TEST(an_engine_that_breaks_the_ring_is_replaced),
		TEST(graphs_of_different_owners_never_share_an_engine),
		TEST(a_graph_that_changes_hands_changes_engines),
		TEST(graphs_of_one_owner_are_spread_over_so_many_engines),
		TEST(an_engine_comes_with_its_first_graph_and_goes_after_its_last),
		TEST(no_more_engines_than_allowed),
		TEST(checks_run_where_no_graph_does),
		TEST(the_second_fall_brings_an_engine_of_its_own_and_loses_nothing),
		TEST(the_third_fall_within_a_minute_is_the_last),
		TEST(another_function_ends_the_quarantine),
		TEST(a_persons_word_ends_the_quarantine),
		TEST(a_limit_broken_three_times_is_a_quarantine_without_a_fall),
		TEST(an_engine_cannot_accuse_graphs_of_others),
		TEST(whoever_hides_what_it_does_is_found_by_elimination),
		TEST(who_is_killed_from_outside_has_done_nothing),
		TEST(who_is_killed_between_two_messages_loses_neither),
		TEST(a_quarantine_outlives_the_agent),
		TEST(graphs_find_the_engines_they_had_and_the_rest_goes),
		TEST(figures_are_gathered_from_engines_and_transport),
		TEST(figures_do_not_wait_for_an_engine_that_does_not_answer),
	};

	if (argc > 1 && strcmp(argv[1], "--socket") == 0)
		fake_keeper_main(argc, argv, fake_main);
	signal(SIGPIPE, SIG_IGN); /* as the daemon has it: engines die while we write to them */
	return cmocka_run_group_tests_name("graph service", tests, NULL, NULL);
}
