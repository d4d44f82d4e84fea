#include "ccm/drive/wanted.h"

#include "ccm/drive/wrapper.h"
#include "ccm/query.h"
#include "common/shortage.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

/* Of a function, what the owner of the project sees of it: the newest version that is general or the owner's own. */
#define NEWEST(fn_id, owner)                                                                                                     \
	"(SELECT max(fnvt_idx) FROM FunctionVersion WHERE fn_id = " fn_id " AND (u_id IS NULL OR u_id = " owner "))"

/* ---- reading rows ---- */

static int64_t num(const json_t *row, const char *name)
{
	return json_integer_value(json_object_get(row, name));
}

static const char *text(const json_t *row, const char *name)
{
	return json_string_value(json_object_get(row, name));
}

/* Rows of modules and joins name a function in the same columns. */
static struct user_function function_of(const json_t *row)
{
	return (struct user_function){.fn_id = num(row, "fn_id"), .name = text(row, "fn_name"), .code = text(row, "code")};
}

/* ---- one link ---- */

struct reading {
	struct db *db;
	struct err *err;
	int64_t na_id, u_id;
	struct wanted *w;
};

static int no_memory(struct reading *r)
{
	return err_set(r->err, ERR_NOMEM, "graph");
}

/* Put the function that was made for `holder` into it. */
static int take_wrapper(struct reading *r, struct wrapper *fn, json_t *holder, const char *func_key, const char *depends_key)
{
	json_t *digest = fn->digest.s[0] != '\0' ? json_string(fn->digest.s) : json_null();
	int rc = json_object_set_new(holder, func_key, digest);
	if (rc == 0)
		rc = json_object_set(holder, depends_key, fn->depends);
	if (rc == 0)
		rc = json_object_update(r->w->sources, fn->sources);
	wrapper_done(fn);
	return rc < 0 ? no_memory(r) : 0;
}

static int input_function(struct reading *r, const json_t *modules, json_t *link)
{
	/* that of parameter 0 alone is an input's function */
	const json_t *first = json_array_get(modules, 0);
	struct user_function fn = function_of(num(first, "param_i") == 0 ? first : NULL);
	struct wrapper made;
	int rc = wrapper_of_function(&fn, &made, r->err);
	return rc < 0 ? rc : take_wrapper(r, &made, link, "func", "depends");
}

static int output_function(struct reading *r, const json_t *modules, json_t *link)
{
	size_t n = json_array_size(modules);
	struct wrapper made;
	CLEANUP(freep) struct output_param *params = calloc(n + 1, sizeof(*params));
	if (params == NULL)
		return no_memory(r);
	for (size_t i = 0; i < n; i++) {
		const json_t *row = json_array_get(modules, i);
		params[i] = (struct output_param){
			.fn = function_of(row),
			.dfo_id = num(row, "dfo_id"),
			.param_i = num(row, "param_i"),
			.normalized = json_is_true(json_object_get(row, "normalization")),
			.min = json_number_value(json_object_get(row, "min")),
			.max = json_number_value(json_object_get(row, "max")),
		};
	}
	int rc = wrapper_of_output(params, n, &made, r->err);
	return rc < 0 ? rc : take_wrapper(r, &made, link, "func", "depends");
}

static json_t *input_types(const json_t *modules)
{
	json_t *types = json_array(), *row;
	size_t i;
	json_array_foreach (modules, i, row)
		json_array_append(types, json_object_get(row, "idf_type"));
	return types;
}

static int read_modules(struct reading *r, int64_t dfo_id, json_t **ret)
{
	static const struct column columns[] = {{"dfo_id", COL_INT}, {"param_i", COL_INT}, {"idf_type", COL_TEXT},
						{"fn_id", COL_INT},  {"min", COL_REAL},	   {"max", COL_REAL},
						{"normalization", COL_BOOL}, {"fn_name", COL_TEXT}, {"code", COL_TEXT}, {0}};
	return q_rows(r->db, r->err, columns, ret,
		      "SELECT m.dfo_id, m.param_i, m.idf_type, m.fn_id, m.min, m.max, m.normalization, f.fn_name, v.code"
		      " FROM DF_Module m LEFT JOIN Function f ON f.fn_id = m.fn_id"
		      " LEFT JOIN FunctionVersion v ON v.fnvt_idx = " NEWEST("m.fn_id", "$1")
		      " WHERE m.na_id = $2 AND m.dfo_id = $3 ORDER BY m.param_i",
		      DB_V_INT(r->u_id), DB_V_INT(r->na_id), DB_V_INT(dfo_id));
}

/* The same device may be bound to two objects of the application: csm knows one link of it. */
static bool is_there(const json_t *links, const json_t *row, const char *mode)
{
	size_t i;
	json_t *link;
	json_array_foreach (links, i, link)
		if (json_equal(json_object_get(link, "da_id"), json_object_get(row, "mac_addr")) &&
		    json_equal(json_object_get(link, "feature"), json_object_get(row, "df_name")) && strcmp(text(link, "mode"), mode) == 0)
			return true;
	return false;
}

static int read_link(struct reading *r, const json_t *row)
{
	bool input = strcmp(text(row, "df_type"), "input") == 0;
	json_auto_t *modules = NULL;
	if (is_there(r->w->links, row, input ? "idf" : "odf"))
		return 0;
	int rc = read_modules(r, num(row, "dfo_id"), &modules);
	if (rc < 0)
		return rc;
	json_auto_t *link = json_pack("{s:O, s:O, s:s, s:O, s:O}", "da_id", json_object_get(row, "mac_addr"), "feature",
				      json_object_get(row, "df_name"), "mode", input ? "idf" : "odf", "param_no",
				      json_object_get(row, "param_no"), "tag_param_no", json_object_get(row, "tag_param_no"));
	if (link == NULL)
		return no_memory(r);
	if (input && (json_object_set_new(link, "input_type", input_types(modules)) < 0 ||
		      json_object_set_new(link, "order", json_integer(num(row, "param_i"))) < 0))
		return no_memory(r);
	rc = input ? input_function(r, modules, link) : output_function(r, modules, link);
	if (rc == 0 && json_array_append(r->w->links, link) < 0)
		rc = no_memory(r);
	return rc;
}

/* ---- the graph ---- */

static int read_links(struct reading *r)
{
	static const struct column columns[] = {{"dfo_id", COL_INT},   {"mac_addr", COL_TEXT},	   {"df_name", COL_TEXT}, {"df_type", COL_TEXT},
						{"param_no", COL_INT}, {"tag_param_no", COL_INT}, {"param_i", COL_INT},	  {0}};
	json_auto_t *rows = NULL;
	json_t *row;
	size_t i;
	int rc = q_rows(r->db, r->err, columns, &rows,
			"SELECT o.dfo_id, d.mac_addr, f.df_name, f.df_type, f.param_no,"
			" (SELECT ifnull(sum(t.param_no), 0) FROM DM_DF mf JOIN DM_DF_Tag mt ON mt.mf_id = mf.mf_id"
			"  JOIN Tag t ON t.tag_id = mt.tag_id WHERE mf.dm_id = b.dm_id AND mf.df_id = o.df_id), ifnull(j.param_i, 0)"
			" FROM (SELECT DISTINCT dfo_id FROM DF_Module WHERE na_id = $1) n"
			" JOIN DFObject o ON o.dfo_id = n.dfo_id JOIN DeviceObject b ON b.do_id = o.do_id JOIN Device d ON d.d_id = b.d_id"
			" JOIN DeviceFeature f ON f.df_id = o.df_id"
			" LEFT JOIN MultipleJoin_Module j ON j.na_id = $1 AND j.dfo_id = o.dfo_id"
			" ORDER BY j.param_i, o.dfo_id",
			DB_V_INT(r->na_id));
	if (rc < 0)
		return rc;
	json_array_foreach (rows, i, row)
		if ((rc = read_link(r, row)) < 0)
			return rc;
	return 0;
}

static int read_join(struct reading *r)
{
	static const struct column columns[] = {{"fn_id", COL_INT}, {"fn_name", COL_TEXT}, {"code", COL_TEXT}, {0}};
	json_auto_t *row = NULL, *holder = json_object();
	struct wrapper made;
	/* every row of the application has the same function */
	int rc = q_row(r->db, r->err, columns, &row,
		       "SELECT j.fn_id, f.fn_name, v.code FROM MultipleJoin_Module j LEFT JOIN Function f ON f.fn_id = j.fn_id"
		       " LEFT JOIN FunctionVersion v ON v.fnvt_idx = " NEWEST("j.fn_id", "$1")
		       " WHERE j.na_id = $2 ORDER BY j.param_i LIMIT 1",
		       DB_V_INT(r->u_id), DB_V_INT(r->na_id));
	struct user_function fn = function_of(row);
	if (rc >= 0)
		rc = wrapper_of_function(&fn, &made, r->err);
	if (rc == 0)
		rc = take_wrapper(r, &made, holder, "join", "join_depends");
	if (rc < 0)
		return rc;
	r->w->join = json_incref(json_object_get(holder, "join"));
	r->w->join_depends = json_incref(json_object_get(holder, "join_depends"));
	return r->w->join != NULL && r->w->join_depends != NULL ? 0 : no_memory(r);
}

/* csm takes no longer name of an owner; u_id is told, too. */
static int peek(struct db *db, int64_t na_id, struct wanted *ret, int64_t *ret_u_id, struct err *err)
{
	static const struct column columns[] = {{"p_id", COL_INT}, {"status", COL_TEXT}, {"u_id", COL_INT}, {"u_name", COL_TEXT}, {0}};
	json_auto_t *row = NULL;
	*ret = (struct wanted){0};
	int rc = q_row(db, err, columns, &row,
		       "SELECT p.p_id, p.status, u.u_id, u.u_name FROM NetworkApplication n JOIN Project p ON p.p_id = n.p_id"
		       " JOIN User u ON u.u_id = p.u_id WHERE n.na_id = $1",
		       DB_V_INT(na_id));
	if (rc <= 0)
		return rc;
	const char *name = text(row, "u_name");
	ret->p_id = num(row, "p_id");
	ret->on = strcmp(text(row, "status"), "on") == 0;
	*ret_u_id = num(row, "u_id");
	if (strlen(name) <= OWNER_MAX)
		snprintf(ret->owner, sizeof(ret->owner), "%s", name);
	else
		snprintf(ret->owner, sizeof(ret->owner), "%s", sha256_hex(name, strlen(name)).s);
	return 0;
}

int wanted_peek(struct db *db, int64_t na_id, struct wanted *ret, struct err *err)
{
	int64_t u_id;
	return peek(db, na_id, ret, &u_id, err);
}

int wanted_read(struct db *db, int64_t na_id, struct wanted *ret, struct err *err)
{
	struct reading r = {.db = db, .err = err, .na_id = na_id, .w = ret};
	unsigned long shortages = shortage_count();
	int rc = peek(db, na_id, ret, &r.u_id, err);
	if (rc < 0 || !ret->on)
		return rc;
	ret->links = json_array();
	ret->sources = json_object();
	rc = ret->links != NULL && ret->sources != NULL ? read_links(&r) : no_memory(&r);
	if (rc == 0)
		rc = read_join(&r);
	if (rc == 0 && shortage_count() != shortages) /* it may lack something that a graph would lose */
		rc = no_memory(&r);
	if (rc < 0)
		wanted_done(ret);
	return rc;
}

void wanted_done(struct wanted *w)
{
	json_decref(w->links);
	json_decref(w->join);
	json_decref(w->join_depends);
	json_decref(w->sources);
	*w = (struct wanted){0};
}
