/* The graph service against a transport of the test's own and a keeper and engine of the test's own:
 * this very program, started again by the service. The engine does to its graphs what their
 * function's source says. */
#include "agent/graph/service.h"
#include "common/id.h"
#include "common/tap.h"
#include "common/util.h"
#include <endian.h>
#include <poll.h>
#include <setjmp.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <time.h>

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
		json_object_set(e->docs, id, doc);
		json_object_update_new(answer, json_pack("{s:s, s:i}", "state", "ok", "index", 7));
	}
	fake_say(answer);
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
		tap_set_doing(e->tap, (uint64_t)7 << 40 | (uint64_t)1 << 32 | 1);
		if (strcmp(payload, "stuck") == 0)
			fake_hang();
		if (strcmp(payload, "exit") == 0)
			_exit(3);
		if (strcmp(payload, "fault") == 0)
			fake_say(json_pack("{s:s, s:s, s:s, s:i, s:s}", "op", "fault", "graph", id,
					   "kind", "idf", "lid", 1, "msg", "ValueError"));
		struct tap_rec out = *rec;
		out.slot = (uint32_t)json_integer_value(json_object_get(odf, "slot"));
		must(tap_reply(e->tap, &out, payload) == 0);
		must(write(FD_RESULT, "r", 1) == 1);
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
		}
	}
}

/* ---------- the transport ---------- */

struct fake_topic {
	char name[80];
	unsigned refs;
};

struct tap_wait {
	transport_done_fn *fn;
	void *arg;
};

struct transport {
	struct loop *loop;
	struct transport_events ev;
	void *arg;
	unsigned opened;
	struct transport_port *port;
};

struct transport_port {
	struct transport *t;
	struct tap *tap;
	int wake_fd;
	unsigned renewals;
	struct fake_topic in[8], out[8]; /* index is the slot */
	struct tap_wait waits[8];
	size_t n_waits;
	char said[4096];
	uint32_t said_slot;
	transport_held_fn *held;
	transport_done_fn *retired;
	void *held_arg, *retired_arg;
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
	the_transport(*ret);
	return 0;
}

static struct transport *fake_stop(struct transport *t)
{
	free(t);
	return NULL;
}

static void fake_open(struct transport *t)
{
	t->opened++;
}

static void say_held(void *arg)
{
	struct transport_port *p = arg;
	struct tap_rec current;
	uint64_t waiting;
	struct transport_standing standing = {0};

	standing.sane = tap_progress(p->tap, &standing.done, &waiting) == 0;
	standing.at_message = standing.sane && tap_current(p->tap, &current) == 1;
	standing.slot = standing.at_message ? current.slot : 0;
	p->held(p->held_arg, &standing);
}

static int fake_port_hold(struct transport_port *p, transport_held_fn *fn, void *arg,
			  struct err *err)
{
	(void)err;
	p->wake_fd = -1;
	p->renewals++;
	p->held = fn;
	p->held_arg = arg;
	return loop_post(p->t->loop, say_held, p);
}

static void say_retired(void *arg)
{
	struct transport_port *p = arg;

	p->retired(p->retired_arg, 0);
}

static int fake_port_retire(struct transport_port *p, bool skip_current, transport_done_fn *done,
			    void *arg, struct err *err)
{
	(void)err;
	tap_retire(p->tap, skip_current, NULL);
	p->retired = done;
	p->retired_arg = arg;
	return loop_post(p->t->loop, say_retired, p);
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
	(void)name, (void)result_fd;
	*ret = t->port = calloc(1, sizeof(**ret));
	t->port->t = t;
	assert_int_equal(tap_open(fds->in_fd, fds->out_fd, &t->port->tap, err), 0);
	t->port->wake_fd = wake_fd;
	return 0;
}

static struct transport_port *fake_port_remove(struct transport_port *p)
{
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
	p->waits[p->n_waits++] = (struct tap_wait){done, arg};
	return 0;
}

static void fake_untap(struct transport_port *p, const char *topic)
{
	topic_slot(p->in, topic, -1);
}

struct fake_done {
	transport_done_fn *fn;
	void *arg;
};

static void say_done(void *arg)
{
	struct fake_done *d = arg;

	d->fn(d->arg, 0);
	free(d);
}

static int fake_out(struct transport_port *p, const char *topic, uint32_t *ret_slot,
		    transport_done_fn *done, void *arg, struct err *err)
{
	struct fake_done *d = malloc(sizeof(*d));

	(void)err;
	*d = (struct fake_done){done, arg};
	*ret_slot = topic_slot(p->out, topic, 1);
	return loop_post(p->t->loop, say_done, d);
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
};

/* ---------- the test ---------- */

struct bench {
	char userdir[40], run[60];
	struct loop *loop;
	struct settings settings;
	struct service *s;
	struct transport_port *port;
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

static void on_change(void *arg)
{
	(void)arg;
}

static struct service_status status_of(struct bench *b)
{
	struct service_status status;

	service_get_status(b->s, &status);
	return status;
}

#define UNTIL(b, condition)                                                            \
	do {                                                                           \
		for (int64_t end = loop_now_ms((b)->loop) + PATIENCE; !(condition);) { \
			loop_turn((b)->loop, 20);                                      \
			if (loop_now_ms((b)->loop) > end)                              \
				fail_msg("waited in vain for %s", #condition);         \
		}                                                                      \
	} while (0)

static int setup(void **state)
{
	static const struct service_events events = {take_answer, take_report, on_change};
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
	assert_int_equal(service_new(b->loop, &b->settings, "t", "/proc/self/exe", &fake_ops,
				     &events, b, &b->s, NULL),
			 0);
	b->port = the_transport(NULL)->port;
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
	struct tap_wait waits[8];
	size_t n = b->port->n_waits;

	memcpy(waits, b->port->waits, sizeof(waits));
	b->port->n_waits = 0;
	for (size_t i = 0; i < n; i++)
		waits[i].fn(waits[i].arg, rc);
}

static json_t *doc(const char *id, int rev, const char *in, const char *out, const char *code)
{
	json_t *func = code != NULL ? json_string(sha256_hex(code, strlen(code)).s) : json_null();

	return json_pack("{s:{s:s, s:s, s:i, s:[{s:i, s:s, s:o}], s:[{s:i, s:s, s:n}], s:n, s:s}}",
			 "graph", "id", id, "owner", "o", "rev", rev, "idf", "lid", 1, "topic", in,
			 "func", func, "odf", "lid", 2, "topic", out, "func", "join", "monitor",
			 "iottalk/monitor/m");
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
	UNTIL(b, status_of(b).engine_ready);
}

static void feed(struct bench *b, const char *payload)
{
	struct tap_rec rec = {.slot = topic_slot(b->port->in, "iottalk/esm/in", 0),
			      .qos = 1,
			      .len = (uint32_t)strlen(payload)};

	assert_int_equal(tap_push(b->port->tap, &rec, payload), 0);
	/* the engine may have died of the message before: nobody is there to be woken, the next one looks by itself */
	if (b->port->wake_fd >= 0 && write(b->port->wake_fd, "w", 1) != 1)
		assert_int_equal(errno, EPIPE);
	b->port->t->ev.on_port_fed(b->port->t->arg, b->port);
}

static bool pulled(struct bench *b, char payload[256])
{
	struct tap_rec rec;
	int rc = tap_pull(b->port->tap, &rec, payload, 255);

	assert_true(rc >= 0);
	if (rc == 1)
		payload[rec.len] = '\0';
	return rc == 1;
}

static void expect_result(struct bench *b, const char *want)
{
	char payload[256];

	UNTIL(b, pulled(b, payload));
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
	assert_int_equal(refs_of(b->port->in, "iottalk/esm/new"), 1);
	acknowledge_taps(b, 0);
	expect(b, bad, "error");
	assert_string_equal(reason_of(b, bad), "SyntaxError: bad");
	assert_int_equal(json_integer_value(json_object_get(
				 json_object_get(answer_of(b, bad), "where"), "lid")),
			 1);
	assert_int_equal(refs_of(b->port->in, "iottalk/esm/new"), 0);
	assert_int_equal(refs_of(b->port->in, "iottalk/esm/in"), 1);
	assert_int_equal(refs_of(b->port->out, "iottalk/esm/out"), 1);
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
	assert_int_equal(refs_of(b->port->in, "iottalk/esm/in"), 0);
	assert_int_equal(refs_of(b->port->out, "iottalk/esm/out"), 0);
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
	assert_int_equal(refs_of(b->port->in, "iottalk/esm/in"), 1);
}

static void requests_of_one_graph_are_done_in_order_those_of_others_meanwhile(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t first = put(b, "g", 1, "fine"), drop, second, other;
	struct tap_wait held = b->port->waits[0];
	b->port->n_waits = 0;
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
	assert_int_equal(refs_of(b->port->in, "iottalk/esm/in"), 2);
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
	assert_int_equal(refs_of(b->port->in, "iottalk/esm/in"), 1);
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
	UNTIL(b, status_of(b).engine_ready);
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
	json_auto_t *said = json_loads(b->port->said, 0, NULL);
	json_t *data = json_object_get(said, "data");
	assert_string_equal(json_string_value(json_object_get(said, "op")), "esm_error");
	assert_string_equal(json_string_value(json_object_get(data, "src")), "fine");
	assert_non_null(
		strstr(json_string_value(json_object_get(data, "msg")), "idf function failure:\n"));
	assert_int_equal(b->port->said_slot, topic_slot(b->port->out, "iottalk/monitor/m", 0));
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

static void an_exit_in_a_function_is_blamed(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	for (int i = 0; i < 3; i++) {
		feed(b, "exit");
		feed(b, "after");
		expect_result(b, "after");
	}
	expect_blame(b, "exit status 3");
	assert_int_equal(status_of(b).engine_restarts, 3);
}

static void an_engine_killed_idle_is_replaced_and_nobody_blamed(void **state)
{
	struct bench *b = *state;

	open_service(b);
	json_int_t good = put(b, "g", 1, "fine");
	acknowledge_taps(b, 0);
	expect(b, good, "ok");
	pid_t pid = status_of(b).engine_pid;
	assert_int_equal(kill(pid, SIGKILL), 0);
	UNTIL(b, status_of(b).engine_restarts == 1);
	feed(b, "new"); /* while there is no engine */
	expect_result(b, "new");
	assert_int_not_equal(status_of(b).engine_pid, pid);
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
	b->port->t->ev.on_port_broken(b->port->t->arg, b->port);
	UNTIL(b, status_of(b).engine_restarts == 1);
	UNTIL(b, status_of(b).engine_ready);
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
		TEST(an_exit_in_a_function_is_blamed),
		TEST(an_engine_killed_idle_is_replaced_and_nobody_blamed),
		TEST(a_fault_is_reported_once_a_second),
		TEST(an_engine_that_breaks_the_ring_is_replaced),
	};

	if (argc > 1 && strcmp(argv[1], "--socket") == 0)
		fake_keeper_main(argc, argv, fake_main);
	signal(SIGPIPE, SIG_IGN); /* as the daemon has it: engines die while we write to them */
	return cmocka_run_group_tests_name("graph service", tests, NULL, NULL);
}
