#include "engine/request.h"

#include "common/util.h"

int requests_init(struct requests *r, struct graphs *gs, struct err *err)
{
	*r = (struct requests){.graphs = gs};
	return text_init(&r->why, PY_REASON_MAX + PY_FRONT_MAX, err);
}

void requests_done(struct requests *r)
{
	text_done(&r->why);
}

static json_t *failed(struct requests *r, json_t *where)
{
	return json_pack("{s:s, s:s%, s:o*}", "state", "error", "reason", text_str(&r->why),
			 r->why.len, "where", where);
}

static json_t *refused(const char *reason)
{
	return json_pack("{s:s, s:s}", "state", "error", "reason", reason);
}

static json_t *on_graph(struct requests *r, json_t *frame)
{
	json_t *doc = json_object_get(frame, "doc"), *funcs = json_object_get(frame, "funcs");
	struct graph_where where;
	uint32_t number;
	if (!json_is_object(doc))
		return refused("`doc` is not an object");
	if (funcs != NULL && !json_is_object(funcs))
		return refused("`funcs` is not an object");
	int rc = graphs_put(r->graphs, doc, funcs, &number, &where, &r->why);
	if (rc == 0)
		return json_pack("{s:s, s:I}", "state", "ok", "index", (json_int_t)number);
	r->out_of_memory = r->out_of_memory || rc == ERR_NOMEM;
	if (where.kind == NULL)
		return failed(r, NULL);
	return failed(r, where.lid < 0 ? json_pack("{s:s, s:n}", "kind", where.kind, "lid")
				       : json_pack("{s:s, s:I}", "kind", where.kind, "lid",
						   (json_int_t)where.lid));
}

static json_t *on_drop(struct requests *r, json_t *frame)
{
	const char *id = json_string_value(json_object_get(frame, "id"));
	if (id == NULL)
		return refused("`id` is not a string");
	graphs_drop(r->graphs, id);
	return json_pack("{s:s}", "state", "ok");
}

/* ---- statistics, and what is to stay ---- */

static int pack_stats(json_t *into, const struct graph *g)
{
	const struct graph_stats *s = g->stats;
	double p50 = stats_time_us(s, 0.5), p99 = stats_time_us(s, 0.99);
	json_t *drops = json_object();
	for (int d = 0; d < DROPS; d++)
		if (s->drops[d] > 0)
			json_object_set_new(drops, eval_drop_name(d),
					    json_integer((json_int_t)s->drops[d]));
	return json_object_set_new(
		into, g->id,
		json_pack("{s:I, s:I, s:o, s:o, s:o, s:I}", "evaluated", (json_int_t)s->evaluated,
			  "failed", (json_int_t)s->failed, "drops", drops, "p50_us",
			  p50 < 0 ? json_null() : json_real(p50), "p99_us",
			  p99 < 0 ? json_null() : json_real(p99), "memory_bytes",
			  (json_int_t)graph_memory(g)));
}

static void pack_each(void *arg, const struct graph *g)
{
	json_t **into = arg;
	if (*into != NULL && pack_stats(*into, g) < 0) {
		json_decref(*into);
		*into = NULL;
	}
}

static json_t *on_graph_stats(struct requests *r, json_t *frame)
{
	const json_t *ids = json_object_get(frame, "ids"), *id;
	size_t i;
	if (ids != NULL && !json_is_null(ids) && !json_is_array(ids))
		return refused("`ids` is neither a list nor null");
	json_t *graphs = json_object();
	if (!json_is_array(ids))
		graphs_each(r->graphs, pack_each, &graphs);
	json_array_foreach (ids, i, id) {
		const struct graph *g =
			json_is_string(id) ? graphs_find(r->graphs, json_string_value(id)) : NULL;
		if (g != NULL)
			pack_each(&graphs, g);
	}
	return json_pack("{s:s, s:o}", "state", "ok", "graphs", graphs);
}

static json_t *on_keep(struct requests *r, json_t *frame)
{
	const json_t *ids = json_object_get(frame, "ids"), *id;
	json_auto_t *kept = json_object();
	size_t i;
	if (!json_is_array(ids))
		return refused("`ids` is not a list");
	json_array_foreach (ids, i, id) {
		if (!json_is_string(id))
			return refused("an id is not a string");
		if (json_object_set_new(kept, json_string_value(id), json_true()) < 0)
			return NULL;
	}
	int dropped = graphs_keep(r->graphs, kept);
	return dropped < 0 ? NULL : json_pack("{s:s, s:i}", "state", "ok", "dropped", dropped);
}

/* ---- checking sources ---- */

static json_t *check_one(struct requests *r, const json_t *code, const struct pyfn_source *depends,
			 size_t n)
{
	struct graphs *gs = r->graphs;
	struct pyfn_source fn = {.source = json_string_value(code),
				 .len = json_string_length(code)};
	struct pyfn *f = NULL;
	if (fn.source == NULL)
		return refused("the code is not a string");
	if (gs->doing != NULL)
		gs->doing(gs->arg, tap_doing_make(0, TAP_LOADING, 0));
	int rc = pyfn_new(gs->py, &fn, depends, n, &f, &r->why);
	pyfn_drop(f);
	if (gs->doing != NULL)
		gs->doing(gs->arg, 0);
	r->out_of_memory = r->out_of_memory || rc == ERR_NOMEM;
	return rc == 0 ? json_pack("{s:s}", "state", "ok") : failed(r, NULL);
}

/* Bytes of reasons in one answer, which must fit into a frame, and into a message to csm. */
#define CHECK_REASONS_MAX (256 * 1024)

static json_t *on_check(struct requests *r, json_t *frame)
{
	const json_t *codes = json_object_get(frame, "codes"), *code, *source;
	json_t *given = json_object_get(frame, "depends");
	const char *alias;
	size_t i, n = 0, told = 0;
	if (!json_is_array(codes))
		return refused("`codes` is not a list");
	if (given != NULL && !json_is_null(given) && !json_is_object(given))
		return refused("`depends` is not an object");
	CLEANUP(freep)
	struct pyfn_source *depends = calloc(json_object_size(given) + 1, sizeof(*depends));
	json_auto_t *results = json_array();
	if (depends == NULL || results == NULL)
		return NULL;
	json_object_foreach (given, alias, source) {
		if (!json_is_string(source))
			return refused("a dependency's source is not a string");
		depends[n++] = (struct pyfn_source){.alias = alias,
						    .source = json_string_value(source),
						    .len = json_string_length(source)};
	}
	json_array_foreach (codes, i, code) {
		json_t *result = check_one(r, code, depends, n);
		told += json_string_length(json_object_get(result, "reason"));
		if (told > CHECK_REASONS_MAX)
			json_object_set_new(result, "reason", json_string("too many errors to tell"));
		if (json_array_append_new(results, result) < 0)
			return NULL;
	}
	return json_pack("{s:s, s:O}", "state", "ok", "results", results);
}

static const struct {
	const char *op;
	json_t *(*handle)(struct requests *r, json_t *frame);
} ops[] = {
	{"graph", on_graph},
	{"drop", on_drop},
	{"check", on_check},
	{"graph_stats", on_graph_stats},
	{"keep", on_keep},
};

static json_t *handle(struct requests *r, const char *op, json_t *frame)
{
	for (size_t i = 0; op != NULL && i < ARRAY_LEN(ops); i++)
		if (strcmp(op, ops[i].op) == 0)
			return ops[i].handle(r, frame);
	return refused("`op` unknown");
}

json_t *requests_handle(struct requests *r, json_t *frame)
{
	const char *op = json_string_value(json_object_get(frame, "op"));
	json_t *seq = json_object_get(frame, "seq");
	json_auto_t *answer = handle(r, op, frame);
	if (answer == NULL ||
	    json_object_set_new(answer, "op", json_string(op != NULL ? op : "")) < 0)
		return NULL;
	if (seq != NULL && json_object_set(answer, "seq", seq) < 0)
		return NULL;
	return TAKE(answer);
}
