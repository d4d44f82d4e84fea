/* world.h - the engine's parts in one process for the unit tests: graphs, evaluation, and a sink
 * that writes down what came. */
#pragma once

#include "common/id.h"
#include "common/util.h"
#include "engine/eval.h"
#include "engine/sanitizer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* after what it needs */
#include <cmocka.h>

#define WORLD_PAYLOAD 4096

SANITIZER_OPTIONS

struct world {
	struct py *py;
	struct graphs graphs;
	struct eval eval;
	char *log; /* a line for each result: "slot payload", with "slot/qos payload" if show_qos */
	size_t log_len, log_shown;
	FILE *log_file;
	bool show_qos;
	size_t ring_max; /* longer results do not fit into the "ring" */
	unsigned faults, strikes;
	char fault[9000];
	uint64_t doing;
	struct text why;
	struct graph_where where;
	uint32_t number;
};

static int world_publish(void *arg, const struct tap_rec *rec, const char *payload)
{
	struct world *w = arg;
	if (rec->len > w->ring_max)
		return ERR_RANGE;
	if (w->show_qos)
		fprintf(w->log_file, "%u/%u %.*s\n", rec->slot, rec->qos, (int)rec->len, payload);
	else
		fprintf(w->log_file, "%u %.*s\n", rec->slot, (int)rec->len, payload);
	return 0;
}

static void world_doing(void *arg, uint64_t what)
{
	((struct world *)arg)->doing = what;
}

static void world_fault(void *arg, const struct link *link, const struct graph *graph,
			enum tap_kind kind, const char *msg, size_t len, const char *strike)
{
	struct world *w = arg;
	w->faults++;
	snprintf(w->fault, sizeof(w->fault), "%s %d %d %.*s", graph->id, kind,
		 link != NULL ? (int)link->lid : -1, (int)len, msg);
	w->strikes += strike != NULL && strcmp(strike, "memory") == 0;
}

/* One interpreter for all tests of a program. */
static struct py *world_py(void)
{
	static struct py *py;
	struct err err = {0};
	if (py == NULL && py_start(&py, &err) < 0)
		fail_msg("%s", err.text);
	return py;
}

static int world_setup_qos(void **state, int qos)
{
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	w->py = world_py();
	w->ring_max = WORLD_PAYLOAD;
	w->log_file = open_memstream(&w->log, &w->log_len);
	assert_non_null(w->log_file);
	const struct eval_sink sink = {
		.publish = world_publish, .doing = world_doing, .fault = world_fault, .arg = w};
	assert_int_equal(text_init(&w->why, PY_REASON_MAX, NULL), 0);
	assert_int_equal(graphs_init(&w->graphs, w->py, NULL), 0);
	w->graphs.doing = world_doing;
	w->graphs.arg = w;
	assert_int_equal(eval_init(&w->eval, w->py, &w->graphs, &sink, qos, WORLD_PAYLOAD, NULL),
			 0);
	*state = w;
	return 0;
}

static MAYBE_UNUSED int world_setup(void **state)
{
	return world_setup_qos(state, -1);
}

static MAYBE_UNUSED int world_teardown(void **state)
{
	struct world *w = *state;
	eval_done(&w->eval);
	graphs_done(&w->graphs);
	text_done(&w->why);
	fclose(w->log_file);
	free(w->log);
	free(w);
	return 0;
}

/* Put the source in funcs and its digest in its place. */
static void world_source(json_t *owner, const char *key, json_t *funcs)
{
	json_t *source = json_object_get(owner, key);
	if (!json_is_string(source))
		return;
	struct digest_text digest =
		sha256_hex(json_string_value(source), json_string_length(source));
	json_object_set(funcs, digest.s, source);
	json_object_set_new(owner, key, json_string(digest.s));
}

static void world_sources(json_t *user, json_t *funcs)
{
	json_t *depends = json_object_get(user, "depends"), *value;
	const char *key;
	void *next;
	world_source(user, "func", funcs);
	json_object_foreach_safe (depends, next, key, value) {
		world_source(depends, key, funcs);
	}
}

/* Put a document in force. It is JSON with sources instead of digests; ids and names may be left
 * out, slots are needed. */
static MAYBE_UNUSED int world_put(struct world *w, const char *doc_text)
{
	static const char *const kinds[] = {"idf", "odf"};
	json_error_t why;
	json_auto_t *doc = json_loads(doc_text, 0, &why), *funcs = json_object();
	if (doc == NULL)
		fail_msg("%s in %s", why.text, doc_text);
	if (json_object_get(doc, "id") == NULL)
		json_object_set_new(doc, "id", json_string("test/1"));
	for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
		json_t *links = json_object_get(doc, kinds[k]), *link;
		size_t i;
		if (links == NULL)
			json_object_set_new(doc, kinds[k], links = json_array());
		json_array_foreach (links, i, link) {
			json_t *slot = json_object_get(link, "slot");
			if (json_object_get(link, "lid") == NULL)
				json_object_set(link, "lid", slot);
			json_object_set_new(link, "da_id", json_string("da"));
			json_object_set_new(link, "feature",
					    json_sprintf("f%d", (int)json_integer_value(slot)));
			world_sources(link, funcs);
		}
	}
	world_sources(json_object_get(doc, "join"), funcs);
	return graphs_put(&w->graphs, doc, funcs, &w->number, &w->where, &w->why);
}

static MAYBE_UNUSED void world_must_put(struct world *w, const char *doc_text)
{
	if (world_put(w, doc_text) < 0)
		fail_msg("refused: %s", text_str(&w->why));
}

static MAYBE_UNUSED void world_send_bytes(struct world *w, uint32_t slot, uint8_t qos,
					  const char *payload, size_t len)
{
	struct tap_rec rec = {.slot = slot, .qos = qos, .len = (uint32_t)len};
	assert_int_equal(eval_message(&w->eval, &rec, payload), 0);
	w->doing = 0; /* the engine's part, after the message is consumed */
}

static MAYBE_UNUSED void world_send(struct world *w, uint32_t slot, const char *payload)
{
	world_send_bytes(w, slot, 1, payload, strlen(payload));
}

/* What came since the last call, one result a line. Valid until the next call. */
static MAYBE_UNUSED const char *world_log(struct world *w)
{
	static char shown[65536];
	fflush(w->log_file);
	snprintf(shown, sizeof(shown), "%s", w->log + w->log_shown);
	w->log_shown = w->log_len;
	return shown;
}
