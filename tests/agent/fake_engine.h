/* fake_engine.h - an engine of the test, behind fake_keeper.h: it does to its graphs what their
 * functions' sources say (obey()), and to messages what stands in them (evaluate()). */
#pragma once

#include "common/tap.h"
#include "common/util.h"
#include "tests/agent/fake_keeper.h"
#include <endian.h>
#include <jansson.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BUDGET_MS 150 /* of a function */

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
				must(poll(&fds[1], 1, -1) > 0 &&
				     read(FD_WAKE, sink, sizeof(sink)) > 0);
			raise(SIGKILL);
		}
	}
}
