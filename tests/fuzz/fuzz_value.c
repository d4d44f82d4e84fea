/* fuzz: engine
 *
 * A payload goes through a graph without functions: whatever it is, what comes out is JSON, and
 * equal to what went in. */
#include "engine/eval.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sink {
	char *payload;
	size_t len, results;
};

static int on_publish(void *arg, const struct tap_rec *rec, const char *payload)
{
	struct sink *s = arg;
	json_error_t why;
	json_t *message = json_loadb(payload, rec->len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
	if (message == NULL)
		abort(); /* not JSON */
	if (rec->slot == 2) {
		json_t *sent =
			json_loadb(s->payload, s->len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
		json_t *list = json_is_array(sent) ? json_incref(sent) : json_pack("[O]", sent);
		if (!json_equal(list, message))
			abort();
		json_decref(list);
		json_decref(sent);
	}
	json_decref(message);
	s->results++;
	return 0;
}

static void on_doing(void *arg, uint64_t what)
{
	(void)arg, (void)what;
}

static void on_fault(void *arg, const struct link *link, const struct graph *graph,
		     enum tap_kind kind, const char *msg, size_t len, const char *strike)
{
	(void)arg, (void)link, (void)graph, (void)kind, (void)msg, (void)len, (void)strike;
}

static struct eval *world(struct sink *s)
{
	static struct eval ev;
	static struct graphs gs;
	struct py *py;
	struct text why;
	struct graph_where where;
	uint32_t number;
	const struct eval_sink sink = {
		.publish = on_publish, .doing = on_doing, .fault = on_fault, .arg = s};
	json_t *doc = json_pack("{s:s, s:i, s:[{s:i, s:i, s:s, s:s, s:[s, s]}], s:[{s:i, s:i, s:s, "
				"s:s}, {s:i, s:i, s:s, s:s, s:i, s:i}]}",
				"id", "g", "monitor_slot", 9, "idf", "lid", 1, "slot", 1, "da_id",
				"d", "feature", "f", "input_type", "sample", "sample", "odf", "lid",
				2, "slot", 2, "da_id", "d", "feature", "g", "lid", 3, "slot", 3,
				"da_id", "d", "feature", "h", "param_no", 2, "tag_param_no", 1);
	if (py_start(&py, NULL) < 0 || graphs_init(&gs, py, NULL) < 0 ||
	    eval_init(&ev, py, &gs, &sink, -1, 1 << 16, NULL) < 0 ||
	    text_init(&why, PY_REASON_MAX, NULL) < 0 ||
	    graphs_put(&gs, doc, NULL, &number, &where, &why) < 0)
		abort();
	json_decref(doc);
	text_done(&why);
	return &ev;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sink s;
	static struct eval *ev;
	if (ev == NULL)
		ev = world(&s);
	struct tap_rec rec = {.slot = 1, .qos = 1, .len = (uint32_t)size};
	s.payload = malloc(size + 1);
	if (s.payload == NULL)
		return 0;
	for (size_t i = 0; i < size; i++)
		s.payload[i] = (char)data[i];
	s.len = size;
	s.results = 0;
	if (eval_message(ev, &rec, s.payload) != 0 || s.results == 0)
		abort(); /* at least a monitor message */
	free(s.payload);
	return 0;
}
