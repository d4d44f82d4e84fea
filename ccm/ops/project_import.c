/* project_import.c - a project from a document (spec ccm 6), wholly or not at all.
 *
 * Models, features and functions are found by their names. Functions that the document brings along are made, for the caller
 * alone, where the caller has none of that name; an engine compiles them first. Ids of the document are references within it.
 */
#include "ccm/drive/drive.h"
#include "ccm/ops/function.h"
#include "ccm/ops/param.h"
#include "ccm/ops/project_int.h"
#include "common/util.h"
#include <string.h>

#define FUNCTIONS_MAX 1000

#define MAY (FIELD_OPTIONAL | FIELD_NULLABLE)
static const struct field module_fields[] = {{"dfo_id", .type = FIELD_INT},
					     {"param_i", .type = FIELD_INT},
					     {"idf_type", FIELD_STR, MAY, .names = idf_types},
					     {"min", .type = FIELD_NUMBER, .flags = MAY},
					     {"max", .type = FIELD_NUMBER, .flags = MAY},
					     {"normalization", .type = FIELD_BOOL, .flags = MAY},
					     {"fn_name", .type = FIELD_STR, .flags = MAY},
					     FIELD_OTHERS,
					     {0}};
static const struct field join_fields[] = {{"param_i", .type = FIELD_INT},
					   {"dfo_id", .type = FIELD_INT},
					   {"fn_name", .type = FIELD_STR, .flags = MAY},
					   FIELD_OTHERS,
					   {0}};
static const struct field na_fields[] = {{"na_name", .type = FIELD_STR, .flags = FIELD_EMPTY},
					 {"na_idx", .type = FIELD_INT},
					 {"DF_Module", FIELD_LIST, .item = FIELD_OBJECT, .inner = module_fields},
					 {"MultipleJoin_Module", FIELD_LIST, .item = FIELD_OBJECT, .inner = join_fields},
					 FIELD_OTHERS,
					 {0}};
static const struct field project_fields[] = {{"DeviceObject", .type = FIELD_OBJECT},
					      {"NetworkApplication", FIELD_LIST, .item = FIELD_OBJECT, .inner = na_fields},
					      FIELD_OTHERS,
					      {0}};
static const struct field function_fields[] = {{"fn_name", .type = FIELD_STR}, {"code", .type = FIELD_TEXT}, FIELD_OTHERS, {0}};
static const struct field document_fields[] = {
	{"project", FIELD_OBJECT, .inner = project_fields},
	{"Function", FIELD_LIST, FIELD_OPTIONAL, .item = FIELD_OBJECT, .inner = function_fields},
	FIELD_OTHERS,
	{0}};
/* of DeviceObject and of dfo, whose names are ids */
static const struct field object_fields[] = {{"dm_name", .type = FIELD_STR},
					     {"do_idx", .type = FIELD_INT, .flags = FIELD_OPTIONAL},
					     {"dfo", .type = FIELD_OBJECT},
					     FIELD_OTHERS,
					     {0}};
static const struct field feature_fields[] = {
	{"df_name", .type = FIELD_STR}, {"alias_name", .type = FIELD_STR, .flags = FIELD_EMPTY}, FIELD_OTHERS, {0}};

/* A feature of an object of the new project. */
struct placed {
	struct dfobject o;
	size_t na; /* the last application that has listed it, from 1 */
};

struct import {
	struct op_call *c;
	int64_t p_id;
	json_t *ids; /* ids of dfo in the document, as text: index in placed */
	struct placed *placed;
	size_t n, room;
};

static void import_done(struct import *m)
{
	json_decref(m->ids);
	free(m->placed);
}

/* ---- functions that come along ---- */

struct checks {
	size_t next;
	bool compiled[FUNCTIONS_MAX];
};

static void check_next(struct op_call *c);

static json_t *functions_of(const struct op_call *c)
{
	return json_object_get(json_object_get(c->args, "document"), "Function");
}

/* ret: a function of that name which the caller sees: 1; 0; negative */
static int find_function(struct op_call *c, const char *name, int64_t *ret_fn_id)
{
	int rc = q_int(c->db, &c->err, ret_fn_id, "SELECT fn_id FROM Function WHERE fn_name = $1", DB_V_TEXT(name));
	return rc > 0 ? sees_function(c, *ret_fn_id) : rc;
}

static void on_checked(void *arg, int rc, const char *why)
{
	struct op_call *c = arg;
	struct checks *checks = c->prepared;
	if (rc < 0) {
		op_fail(c, err_set(&c->err, rc, "Function[%zu]: %s%s", checks->next, rc == ERR_INVAL ? "Compile Error: " : "",
				   why != NULL ? why : err_name(rc)));
		return;
	}
	checks->compiled[checks->next++] = true;
	check_next(c);
}

static void check_next(struct op_call *c)
{
	struct checks *checks = c->prepared;
	const json_t *f;
	for (; (f = json_array_get(functions_of(c), checks->next)) != NULL; checks->next++) {
		int64_t fn_id;
		int rc = find_function(c, row_str(f, "fn_name"), &fn_id);
		if (rc == 0 && !function_name_valid(row_str(f, "fn_name")))
			rc = err_set(&c->err, ERR_INVAL, "Function[%zu]: %s", checks->next, FUNCTION_NAME_RULE);
		else if (rc == 0 && (rc = function_check_length(row_str(f, "code"), &c->err)) < 0)
			err_wrap(&c->err, rc, "Function[%zu]", checks->next);
		if (rc < 0) {
			op_fail(c, rc);
			return;
		}
		if (rc == 0) {
			drive_check_code(c->ccm, row_str(f, "code"), on_checked, c);
			return;
		}
	}
	op_go_on(c);
}

static void prepare(struct op_call *c)
{
	json_t *document = NULL;
	struct err why = {0};
	int rc = fields_check(document_fields, json_object_get(c->args, "document"), true, &document, &why);
	if (rc == 0 && json_object_set_new(c->args, "document", document) < 0)
		rc = ERR_NOMEM;
	if (rc == 0 && json_array_size(functions_of(c)) > FUNCTIONS_MAX)
		rc = err_set(&why, ERR_SCHEMA, "`Function` has more than %d elements", FUNCTIONS_MAX);
	if (rc == 0 && (c->prepared = calloc(1, sizeof(struct checks))) == NULL)
		rc = ERR_NOMEM;
	if (rc == ERR_NOMEM)
		op_fail(c, err_set(&c->err, rc, "import"));
	else if (rc < 0)
		op_fail(c, err_set(&c->err, ERR_INVAL, "Invalid format: %s", why.text));
	else
		check_next(c);
}

static int add_function(struct op_call *c, const char *name, const char *code)
{
	int64_t fn_id = 0;
	int rc = q_int(c->db, &c->err, &fn_id, "SELECT fn_id FROM Function WHERE fn_name = $1", DB_V_TEXT(name));
	if (rc == 0)
		rc = q_int(c->db, &c->err, &fn_id, "INSERT INTO Function (fn_name) VALUES ($1) RETURNING fn_id", DB_V_TEXT(name));
	return rc < 0 ? rc : function_add_version(c->db, &c->err, fn_id, c->who.u_id, code, NULL);
}

static int add_functions(struct op_call *c)
{
	const struct checks *checks = c->prepared;
	const json_t *f;
	size_t i;
	json_array_foreach (functions_of(c), i, f) {
		int64_t fn_id;
		int rc = find_function(c, row_str(f, "fn_name"), &fn_id);
		if (rc == 0)
			rc = checks->compiled[i]
				     ? add_function(c, row_str(f, "fn_name"), row_str(f, "code"))
				     : err_set(&c->err, ERR_AGAIN, "Function[%zu]: it was deleted meanwhile; try again", i);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* By its name; offered to the caller for that feature (df_id 0: for joins) from now on. */
static int use_function(struct op_call *c, const char *name, int64_t df_id, int64_t *ret_fn_id)
{
	int64_t one;
	int rc = find_function(c, name, ret_fn_id);
	if (rc == 0)
		return err_set(&c->err, ERR_INVAL, "there is no function \"%s\"", name);
	if (rc > 0)
		rc = q_int(c->db, &c->err, &one,
			   "SELECT 1 FROM FunctionSDF WHERE fn_id = $1 AND coalesce(df_id, 0) = $2 AND (u_id IS NULL"
			   " OR u_id = $3) LIMIT 1",
			   DB_V_INT(*ret_fn_id), DB_V_INT(df_id), DB_V_INT(c->who.u_id));
	if (rc == 0)
		rc = function_offer(c->db, &c->err, *ret_fn_id, c->who.u_id, df_id);
	return rc < 0 ? rc : 0;
}

/* ---- device objects ---- */

static int remember(struct import *m, const char *id, const struct dfobject *o)
{
	if (m->n == m->room) {
		size_t room = m->room == 0 ? 16 : m->room * 2;
		struct placed *more = realloc(m->placed, room * sizeof(*more));
		if (more == NULL)
			return err_set(&m->c->err, ERR_NOMEM, "import");
		m->placed = more;
		m->room = room;
	}
	m->placed[m->n] = (struct placed){.o = *o};
	return json_object_set_new(m->ids, id, json_integer((json_int_t)m->n++)) < 0 ? err_set(&m->c->err, ERR_NOMEM, "import")
										     : 0;
}

static int add_feature(struct import *m, int64_t do_id, int64_t dm_id, const char *id, const json_t *given)
{
	struct op_call *c = m->c;
	json_auto_t *f = NULL;
	int64_t df_id = 0, dfo_id = 0, one;
	char canonical[24];
	struct dfobject o;
	snprintf(canonical, sizeof(canonical), "%lld", strtoll(id, NULL, 10));
	if (strcmp(canonical, id) != 0)
		return err_set(&c->err, ERR_INVAL, "the name must be a number");
	if (json_object_get(m->ids, id) != NULL)
		return err_set(&c->err, ERR_INVAL, "this number is given twice");
	int rc = fields_check(feature_fields, given, true, &f, &c->err);
	if (rc < 0)
		return rc;
	const char *name = row_str(f, "df_name");
	rc = q_int(c->db, &c->err, &df_id,
		   "SELECT d.df_id FROM DeviceFeature d JOIN DM_DF x ON x.df_id = d.df_id WHERE d.df_name = $1 AND x.dm_id = $2",
		   DB_V_TEXT(name), DB_V_INT(dm_id));
	if (rc == 0)
		return err_set(&c->err, ERR_INVAL, "the device model has no feature \"%s\"", name);
	if (rc > 0)
		rc = q_int(c->db, &c->err, &one, "SELECT 1 FROM DFObject WHERE do_id = $1 AND df_id = $2", DB_V_INT(do_id),
			   DB_V_INT(df_id));
	if (rc > 0)
		return err_set(&c->err, ERR_INVAL, "feature \"%s\" is given twice", name);
	if (rc == 0)
		rc = dfobject_insert(c, do_id, df_id, row_str(f, "alias_name"), &dfo_id);
	if (rc == 0)
		rc = own_dfobject(c, dfo_id, &o);
	return rc == 0 ? remember(m, id, &o) : rc;
}

static int add_object(struct import *m, const json_t *given)
{
	struct op_call *c = m->c;
	json_auto_t *object = NULL;
	int64_t dm_id = 0, do_id = 0;
	const char *id;
	json_t *f;
	int rc = fields_check(object_fields, given, true, &object, &c->err);
	json_t *features = json_object_get(object, "dfo");
	if (rc < 0 || json_object_size(features) == 0) /* the original could leave one without features behind: it is nothing */
		return rc;
	rc = q_int(c->db, &c->err, &dm_id, "SELECT dm_id FROM DeviceModel WHERE dm_name = $1",
		   DB_V_TEXT(row_str(object, "dm_name")));
	if (rc == 0)
		return err_set(&c->err, ERR_INVAL, "there is no device model \"%s\"", row_str(object, "dm_name"));
	if (rc > 0)
		rc = q_int(c->db, &c->err, &do_id,
			   "INSERT INTO DeviceObject (dm_id, p_id, do_idx) VALUES ($1, $2, $3) RETURNING do_id", DB_V_INT(dm_id),
			   DB_V_INT(m->p_id), DB_V_INT(row_int(object, "do_idx")));
	if (rc < 0)
		return rc;
	json_object_foreach (features, id, f)
		if ((rc = add_feature(m, do_id, dm_id, id, f)) < 0)
			return err_wrap(&c->err, rc, "dfo.%.50s", id);
	return 0;
}

/* ---- network applications ---- */

struct argument {
	int64_t param_i;
	const json_t *row;
};

static int by_param(const void *a, const void *b)
{
	int64_t x = ((const struct argument *)a)->param_i, y = ((const struct argument *)b)->param_i;
	return (x > y) - (x < y);
}

static struct placed *placed_of(struct import *m, const json_t *row)
{
	char id[24];
	snprintf(id, sizeof(id), "%lld", (long long)row_int(row, "dfo_id"));
	const json_t *index = json_object_get(m->ids, id);
	if (index == NULL)
		err_set(&m->c->err, ERR_INVAL, "there is no dfo %s", id);
	return index != NULL ? &m->placed[json_integer_value(index)] : NULL;
}

/* Take a feature into the list of an application, once. */
static void take(struct placed *p, size_t na, struct dfobject *list, size_t *n)
{
	if (p->na != na)
		list[(*n)++] = p->o;
	p->na = na;
}

/* What an application links: inputs in the order of its arguments, then all that its links name. list: room for all. */
static int links_of(struct import *m, const json_t *given, size_t na, struct dfobject *list, size_t *n)
{
	const json_t *joins = json_object_get(given, "MultipleJoin_Module"), *row;
	size_t i, count = json_array_size(joins);
	CLEANUP(freep) struct argument *order = calloc(count + 1, sizeof(*order));
	if (order == NULL)
		return err_set(&m->c->err, ERR_NOMEM, "import");
	json_array_foreach (joins, i, row)
		order[i] = (struct argument){row_int(row, "param_i"), row};
	qsort(order, count, sizeof(*order), by_param);
	for (i = 0; i < count; i++) {
		struct placed *p = placed_of(m, order[i].row);
		if (p == NULL)
			return err_wrap(&m->c->err, ERR_INVAL, "MultipleJoin_Module");
		if (!p->o.is_output)
			take(p, na, list, n);
	}
	json_array_foreach (json_object_get(given, "DF_Module"), i, row) {
		struct placed *p = placed_of(m, row);
		if (p == NULL)
			return err_wrap(&m->c->err, ERR_INVAL, "DF_Module[%zu]", i);
		take(p, na, list, n);
	}
	return 0;
}

/* The values of one parameter of a link. */
static int set_module(struct import *m, int64_t na_id, json_t *row)
{
	struct op_call *c = m->c;
	const char *name = row_str(row, "fn_name");
	const struct placed *p = placed_of(m, row);
	int64_t fn_id = 0;
	int rc = name != NULL ? use_function(c, name, p->o.df_id, &fn_id) : 0;
	if (rc == 0 && json_object_set_new(row, "fn_id", fn_id != 0 ? json_integer(fn_id) : json_null()) < 0)
		rc = err_set(&c->err, ERR_NOMEM, "import");
	if (rc == 0)
		rc = link_set(c, na_id, p->o.dfo_id, row_int(row, "param_i"), row);
	return rc == 0 ? err_set(&c->err, ERR_INVAL, "the feature has no such parameter") : rc < 0 ? rc : 0;
}

static int set_join(struct op_call *c, int64_t na_id, const json_t *joins)
{
	const json_t *row;
	size_t i;
	json_array_foreach (joins, i, row) {
		const char *name = row_str(row, "fn_name"); /* all rows say the same */
		int64_t fn_id;
		if (name == NULL)
			continue;
		int rc = use_function(c, name, 0, &fn_id);
		return rc == 0 ? join_set(c, na_id, fn_id) : err_wrap(&c->err, rc, "MultipleJoin_Module[%zu]", i);
	}
	return 0;
}

static int add_na(struct import *m, size_t at, json_t *given)
{
	struct op_call *c = m->c;
	CLEANUP(freep) struct dfobject *list = calloc(m->n + 1, sizeof(*list));
	int64_t na_id = 0;
	size_t n = 0, i;
	json_t *row;
	int rc = list != NULL ? links_of(m, given, at + 1, list, &n) : err_set(&c->err, ERR_NOMEM, "import");
	if (rc == 0)
		rc = na_insert(c, m->p_id, row_str(given, "na_name"), row_int(given, "na_idx"), list, n, &na_id);
	if (rc < 0)
		return rc;
	json_array_foreach (json_object_get(given, "DF_Module"), i, row)
		if ((rc = set_module(m, na_id, row)) < 0)
			return err_wrap(&c->err, rc, "DF_Module[%zu]", i);
	return set_join(c, na_id, json_object_get(given, "MultipleJoin_Module"));
}

/* ---- all of it ---- */

/* What is wrong with a document is the caller's fault, whatever the code. */
static int at(struct op_call *c, int rc, const char *path)
{
	err_wrap(&c->err, rc, "%s", path);
	return rc == ERR_DB || rc == ERR_NOMEM ? rc : (c->err.code = ERR_INVAL);
}

static int add_all(struct import *m)
{
	json_t *project = json_object_get(json_object_get(m->c->args, "document"), "project"), *one;
	const char *id;
	char path[100];
	size_t i;
	int rc;
	json_object_foreach (json_object_get(project, "DeviceObject"), id, one) {
		if ((rc = add_object(m, one)) < 0) {
			snprintf(path, sizeof(path), "project.DeviceObject.%.20s", id);
			return at(m->c, rc, path);
		}
	}
	json_array_foreach (json_object_get(project, "NetworkApplication"), i, one) {
		if ((rc = add_na(m, i, one)) < 0) {
			snprintf(path, sizeof(path), "project.NetworkApplication[%zu]", i);
			return at(m->c, rc, path);
		}
	}
	return 0;
}

static int import(struct op_call *c)
{
	CLEANUP(import_done) struct import m = {.c = c, .ids = json_object()};
	const char *name = op_str(c, "p_name");
	if (m.ids == NULL)
		return err_set(&c->err, ERR_NOMEM, "import");
	if (name == NULL || *name == '\0')
		return err_set(&c->err, ERR_INVAL, "Please select a new project name");
	int rc = project_name_is_free(c, name, 0, "Project name already exists");
	if (rc == 0)
		rc = add_functions(c);
	if (rc == 0)
		rc = project_insert(c, name, &m.p_id);
	if (rc == 0)
		rc = add_all(&m);
	return rc == 0 ? op_result_int(c, "p_id", m.p_id) : rc;
}

const struct op op_project_import = {.name = "project.import", .prepare = prepare, .run = import};
