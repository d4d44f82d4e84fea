/* service_bench.h - the graph service against a transport of the test's own and a keeper and engine
 * of the test's own: this very program, started again by the service. */
#pragma once

#include "agent/graph/host.h"
#include "agent/graph/pool.h"
#include "agent/graph/service.h"
#include "common/id.h"
#include "tests/agent/fake_engine.h"
#include "tests/agent/fake_transport.h"
#include "tests/common/until.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>

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

static MAYBE_UNUSED size_t n_ports(void)
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

static MAYBE_UNUSED pid_t the_pid(struct bench *b)
{
	pid_t pid = -1;

	service_engine_pids(b->s, &pid, 1);
	return pid;
}

static MAYBE_UNUSED bool all_ready(struct bench *b)
{
	struct service_status status = status_of(b);

	return status.engines > 0 && status.engines_ready == status.engines;
}

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
	snprintf(b->userdir, sizeof(b->userdir), P_tmpdir "/iottalk-test-XXXXXX");
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

/* The answer to a check of one code: that is wrong. ret: why. */
static MAYBE_UNUSED const char *expect_wrong(struct bench *b, json_int_t id)
{
	expect(b, id, "ok");
	const json_t *results = json_object_get(answer_of(b, id), "results");
	const json_t *one = json_array_get(results, 0);

	assert_int_equal(json_array_size(results), 1);
	assert_string_equal(json_string_value(json_object_get(one, "state")), "error");
	return json_string_value(json_object_get(one, "reason"));
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

static MAYBE_UNUSED json_int_t put(struct bench *b, const char *id, int rev, const char *code)
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

static json_int_t put_of(struct bench *b, const char *owner, const char *id, int rev,
			 const char *code)
{
	if (code != NULL)
		give_func(b, code);
	return ask(b, "put", owned_doc(owner, id, rev, "iottalk/esm/in", "iottalk/esm/out", code));
}

/* The same, and wait until it runs. */
static MAYBE_UNUSED void run(struct bench *b, const char *owner, const char *id, int rev,
			     const char *code)
{
	json_int_t asked = put_of(b, owner, id, rev, code);

	for (int64_t end = loop_now_ms(b->loop) + PATIENCE_MS; answer_of(b, asked) == NULL;) {
		acknowledge_taps(b, 0);
		loop_turn(b->loop, 20);
		assert_true(loop_now_ms(b->loop) < end);
	}
	expect(b, asked, "ok");
}

/* One that hears nothing of what goes to iottalk/esm/in. */
static MAYBE_UNUSED void run_elsewhere(struct bench *b, const char *owner, const char *id, int rev)
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

static MAYBE_UNUSED size_t reports_of(struct bench *b, const char *level, const char *graph)
{
	size_t n = 0, i;
	json_t *r;

	json_array_foreach (b->reports, i, r) {
		n += strcmp(json_string_value(json_object_get(r, "level")), level) == 0 &&
		     strcmp(json_string_value(json_object_get(r, "graph")), graph) == 0;
	}
	return n;
}

static MAYBE_UNUSED void two_falls(struct bench *b)
{
	feed(b, "exit");
	feed(b, "exit");
	UNTIL(b, port_named("g-") != NULL);
	UNTIL(b, the_transport(NULL)->n_waits > 0);
	acknowledge_taps(b, 0);
	feed(b, "moved");
	expect_result(b, "moved");
}

static MAYBE_UNUSED void end(struct bench *b)
{
	b->s = service_free(b->s);
	json_object_clear(b->answers);
	json_array_clear(b->reports);
}

/* This program is the keeper, too, when the service starts it again. */
static void be_keeper_if_told(int argc, char *argv[])
{
	if (argc > 1 && strcmp(argv[1], "--socket") == 0)
		fake_keeper_main(argc, argv, fake_main);
	signal(SIGPIPE, SIG_IGN); /* as the daemon has it: engines die while we write to them */
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
