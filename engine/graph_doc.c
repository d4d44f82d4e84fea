#include "engine/graph_doc.h"

#include "common/util.h"

static void use_done(struct fn_use *u)
{
	json_decref(u->depends);
	pyfn_drop(u->fn);
}

static void link_done(struct link *l)
{
	free(l->name_json);
	free(l->variant);
	val_drop(l->held.v);
	vals_done(&l->before);
	use_done(&l->use);
}

struct graph *graph_free(struct graph *g)
{
	if (g == NULL)
		return NULL;
	for (size_t i = 0; i < g->n_idf; i++)
		link_done(&g->idf[i]);
	for (size_t i = 0; i < g->n_odf; i++)
		link_done(&g->odf[i]);
	free(g->idf);
	free(g->odf);
	use_done(&g->join);
	free(g->id);
	free(g);
	return NULL;
}

static void graph_freep(struct graph **g)
{
	*g = graph_free(*g);
}

/* A field that is absent or null counts as absent. */
static json_t *field(const json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);
	return json_is_null(v) ? NULL : v;
}

static int read_number(const json_t *o, const char *key, int64_t max, int64_t *ret, struct err *err)
{
	const json_t *v = field(o, key);
	if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > max)
		return err_set(err, ERR_SCHEMA, "`%s` is not a number from 0 to %lld", key,
			       (long long)max);
	*ret = json_integer_value(v);
	return 0;
}

/* `func`, `depends` and `blocked` of o. */
static int read_use(const json_t *o, struct fn_use *use, struct err *err)
{
	const json_t *func = field(o, "func"), *blocked = field(o, "blocked"), *value;
	json_t *depends = field(o, "depends");
	const char *alias;
	if (func != NULL) {
		if (!json_is_string(func) || !digest_valid(json_string_value(func)))
			return err_set(err, ERR_SCHEMA, "`func` is not a digest");
		memcpy(use->digest, json_string_value(func), sizeof(use->digest));
	}
	if (blocked != NULL && !json_is_boolean(blocked))
		return err_set(err, ERR_SCHEMA, "`blocked` is not a boolean");
	use->blocked = json_is_true(blocked);
	if (depends == NULL)
		return 0;
	if (!json_is_object(depends))
		return err_set(err, ERR_SCHEMA, "`depends` is not an object");
	json_object_foreach (depends, alias, value) {
		if (!json_is_string(value) || !digest_valid(json_string_value(value)))
			return err_set(err, ERR_SCHEMA, "dependency `%s` is not a digest", alias);
	}
	if (json_object_size(depends) > 0)
		use->depends = json_incref(depends);
	return 0;
}

static int read_name(const json_t *o, char **ret, struct err *err)
{
	json_t *da_id = field(o, "da_id"), *feature = field(o, "feature");
	if (!json_is_string(da_id) || !json_is_string(feature))
		return err_set(err, ERR_SCHEMA, "`da_id` or `feature` is not a string");
	json_auto_t *pair = json_pack("[O, O]", da_id, feature);
	*ret = pair != NULL ? json_dumps(pair, JSON_COMPACT) : NULL;
	return *ret != NULL ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

static int read_params(const json_t *o, struct link *l, struct err *err)
{
	int64_t n = 0;
	l->param_no = -1;
	if (field(o, "tag_param_no") != NULL &&
	    read_number(o, "tag_param_no", GRAPH_PARAMS_MAX, &n, err) < 0)
		return ERR_SCHEMA;
	if (field(o, "param_no") == NULL)
		return 0; /* without a length there are no tags */
	l->tag_param_no = (int)n;
	if (read_number(o, "param_no", GRAPH_PARAMS_MAX, &n, err) < 0)
		return ERR_SCHEMA;
	l->param_no = (int)n;
	return 0;
}

static int read_input_type(const json_t *o, struct link *l, struct err *err)
{
	static const char *const names[] = {"sample", "variant"};
	const json_t *types = field(o, "input_type");
	size_t n = json_array_size(types);
	if (types == NULL)
		return 0;
	if (!json_is_array(types))
		return err_set(err, ERR_SCHEMA, "`input_type` is not a list");
	if (n == 0)
		return 0;
	l->variant = calloc(n, sizeof(*l->variant));
	if (l->variant == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	l->n_variant = n;
	for (size_t i = 0; i < n; i++) {
		const char *name = json_string_value(json_array_get(types, i));
		if (name == NULL || (strcmp(name, names[0]) != 0 && strcmp(name, names[1]) != 0))
			return err_set(err, ERR_SCHEMA,
				       "`input_type` is neither `sample` nor `variant`");
		l->variant[i] = strcmp(name, names[1]) == 0;
	}
	return 0;
}

static int read_link(const json_t *o, bool is_idf, struct link *l, struct graph_where *where,
		     struct err *err)
{
	int64_t n = 0;
	if (!json_is_object(o))
		return err_set(err, ERR_SCHEMA, "a link is not an object");
	int rc = read_number(o, "lid", UINT32_MAX, &n, err);
	if (rc < 0)
		return rc;
	where->lid = n;
	l->lid = (uint32_t)n;
	rc = read_number(o, "slot", GRAPH_SLOTS_MAX - 1, &n, err);
	if (rc < 0)
		return rc;
	l->slot = (uint32_t)n;
	rc = read_name(o, &l->name_json, err);
	if (rc == 0)
		rc = read_params(o, l, err);
	if (rc == 0 && is_idf)
		rc = read_input_type(o, l, err);
	return rc == 0 ? read_use(o, &l->use, err) : rc;
}

static int read_links(const json_t *doc, const char *kind, struct graph *g, struct link **ret,
		      size_t *ret_n, struct graph_where *where, struct err *err)
{
	const json_t *list = json_object_get(doc, kind);
	size_t n = json_array_size(list);
	*where = (struct graph_where){.kind = kind, .lid = -1};
	if (!json_is_array(list))
		return err_set(err, ERR_SCHEMA, "`%s` is not a list", kind);
	*ret = calloc(n > 0 ? n : 1, sizeof(**ret));
	if (*ret == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	for (; *ret_n < n; ++*ret_n) {
		struct link *l = &(*ret)[*ret_n];
		l->graph = g;
		int rc = read_link(json_array_get(list, *ret_n), ret == &g->idf, l, where, err);
		if (rc < 0) {
			++*ret_n; /* half of it may be there */
			return rc;
		}
	}
	return 0;
}

static int read_monitor(const json_t *doc, struct graph *g, struct err *err)
{
	int64_t slot = 0;
	if (field(doc, "monitor_slot") == NULL)
		return 0;
	int rc = read_number(doc, "monitor_slot", GRAPH_SLOTS_MAX - 1, &slot, err);
	g->monitored = true;
	g->monitor_slot = (uint32_t)slot;
	return rc;
}

int graph_parse(json_t *doc, struct graph **ret, struct graph_where *ret_where, struct err *err)
{
	*ret_where = (struct graph_where){.lid = -1};
	const json_t *id = field(doc, "id");
	if (!json_is_string(id) || json_string_length(id) == 0)
		return err_set(err, ERR_SCHEMA, "the graph document has no `id`");
	CLEANUP(graph_freep)
	struct graph *g = calloc(1, sizeof(*g));
	if (g == NULL || (g->id = strdup(json_string_value(id))) == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	int rc = read_monitor(doc, g, err);
	if (rc == 0)
		rc = read_links(doc, "idf", g, &g->idf, &g->n_idf, ret_where, err);
	if (rc == 0)
		rc = read_links(doc, "odf", g, &g->odf, &g->n_odf, ret_where, err);
	if (rc < 0)
		return rc;
	*ret_where = (struct graph_where){.kind = "join", .lid = -1};
	const json_t *join = field(doc, "join");
	if (join != NULL && !json_is_object(join))
		return err_set(err, ERR_SCHEMA, "`join` is not an object");
	rc = join != NULL ? read_use(join, &g->join, err) : 0;
	if (rc < 0)
		return rc;
	*ret_where = (struct graph_where){.lid = -1};
	*ret = TAKE(g);
	return 0;
}
