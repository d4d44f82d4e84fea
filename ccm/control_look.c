/* control_look.c - projects, devices, functions and accounts of everybody, as iotctl shows them. */
#include "ccm/control.h"

#include "ccm/query.h"
#include "common/util.h"
#include <string.h>

#define PAGE 500

static int64_t whole_number(const char *text)
{
	size_t len = strlen(text);
	return len > 0 && len <= 18 && strspn(text, "0123456789") == len ? strtoll(text, NULL, 10) : 0;
}

/* {"state": "ok", key: value}; value: taken. */
static void answer_with(struct ctl_call *call, const char *key, json_t *value)
{
	ctl_answer(call, value != NULL ? json_pack("{s:s, s:o}", "state", "ok", key, value) : NULL);
}

/* ---- lists ---- */

struct list {
	const char *key;
	const struct column *columns;
	const char *sql; /* $1: after, $2: how many */
};

static void answer_page(struct ccm *ccm, const struct list *l, const json_t *request, struct ctl_call *call)
{
	int64_t after = json_integer_value(json_object_get(request, "after"));
	json_t *rows = NULL;
	struct err err = {0};
	int rc = q_rows(ccm->db, &err, l->columns, &rows, l->sql, DB_V_INT(after), DB_V_INT(PAGE));
	if (rc < 0) {
		ctl_answer_error(call, err.text);
		return;
	}
	bool more = json_array_size(rows) == PAGE;
	ctl_answer(call, json_pack("{s:s, s:o, s:b}", "state", "ok", l->key, rows, "more", more));
}

#define PROJECT_ROW                                                                                                 \
	"SELECT p.p_id, p_name, u_name, status, sim, (SELECT count(*) FROM DeviceObject o WHERE o.p_id = p.p_id), " \
	"(SELECT count(d_id) FROM DeviceObject o WHERE o.p_id = p.p_id), "                                          \
	"(SELECT count(*) FROM NetworkApplication n WHERE n.p_id = p.p_id) FROM Project p JOIN User USING (u_id) "

static const struct column project_columns[] = {
	{"p_id", COL_INT},    {"p_name", COL_TEXT},      {"owner", COL_TEXT},
	{"status", COL_TEXT}, {"sim", COL_TEXT},         {"objects", COL_INT},
	{"bound", COL_INT},   {"applications", COL_INT}, {0},
};

void control_projects(void *arg, json_t *request, struct ctl_call *call)
{
	static const struct list list = {"projects", project_columns, PROJECT_ROW "WHERE p.p_id > $1 ORDER BY p.p_id LIMIT $2"};
	answer_page(arg, &list, request, call);
}

void control_devices(void *arg, json_t *request, struct ctl_call *call)
{
	static const struct column columns[] = {
		{"d_id", COL_INT},      {"d_name", COL_TEXT},
		{"mac_addr", COL_TEXT}, {"dm_name", COL_TEXT},
		{"owner", COL_TEXT},    {"status", COL_TEXT},
		{"is_sim", COL_BOOL},   {"register_time", COL_TEXT},
		{"projects", COL_TEXT}, {0},
	};
	static const struct list list = {
		"devices", columns,
		"SELECT d.d_id, d_name, mac_addr, dm_name, u_name, d.status, is_sim, register_time, "
		"(SELECT group_concat(p_name, ', ') FROM DeviceObject o JOIN Project p USING (p_id) WHERE o.d_id = d.d_id) "
		"FROM Device d JOIN DeviceModel USING (dm_id) LEFT JOIN User u ON u.u_id = d.u_id "
		"WHERE d.d_id > $1 ORDER BY d.d_id LIMIT $2"};
	answer_page(arg, &list, request, call);
}

void control_functions(void *arg, json_t *request, struct ctl_call *call)
{
	static const struct column columns[] = {
		{"fn_id", COL_INT},
		{"fn_name", COL_TEXT},
		{"is_protect", COL_BOOL},
		{"versions", COL_INT},
		{"links", COL_INT},
		{"joins", COL_INT},
		{0},
	};
	static const struct list list = {
		"functions", columns,
		"SELECT fn_id, fn_name, is_protect, (SELECT count(*) FROM FunctionVersion v WHERE v.fn_id = f.fn_id), "
		"(SELECT count(*) FROM (SELECT DISTINCT na_id, dfo_id FROM DF_Module m WHERE m.fn_id = f.fn_id)), "
		"(SELECT count(DISTINCT na_id) FROM MultipleJoin_Module m WHERE m.fn_id = f.fn_id) "
		"FROM Function f WHERE fn_id > $1 ORDER BY fn_id LIMIT $2"};
	answer_page(arg, &list, request, call);
}

void control_users(void *arg, json_t *request, struct ctl_call *call)
{
	static const struct column columns[] = {
		{"u_id", COL_INT}, {"u_name", COL_TEXT}, {"is_admin", COL_BOOL}, {"projects", COL_INT}, {0}};
	static const struct list list = {"users", columns,
					 "SELECT u_id, u_name, is_admin, (SELECT count(*) FROM Project p WHERE p.u_id = u.u_id) "
					 "FROM User u WHERE u_id > $1 AND is_deleted = 0 ORDER BY u_id LIMIT $2"};
	answer_page(arg, &list, request, call);
}

/* ---- one project ---- */

struct found {
	int64_t p_id, u_id;
	unsigned n;
};

static int on_found(void *arg, const struct db_value *v, size_t n)
{
	struct found *f = arg;
	(void)n;
	f->p_id = v[0].num;
	f->u_id = v[1].num;
	f->n++;
	return 0;
}

int control_find_project(struct db *db, const json_t *request, int64_t *ret_p_id, int64_t *ret_u_id, struct err *err)
{
	const char *word = json_string_value(json_object_get(request, "project"));
	struct found f = {0};
	if (word == NULL)
		return err_set(err, ERR_INVAL, "which project? (`project`)");
	int rc = db_run(db, err, on_found, &f, "SELECT p_id, u_id FROM Project WHERE p_id = $1", DB_V_INT(whole_number(word)));
	if (rc == 0 && f.n == 0)
		rc = db_run(db, err, on_found, &f, "SELECT p_id, u_id FROM Project WHERE p_name = $1", DB_V_TEXT(word));
	if (rc == 0 && f.n == 0)
		rc = db_run(db, err, on_found, &f,
			    "SELECT p_id, u_id FROM Project JOIN User USING (u_id) WHERE u_name || '/' || p_name = $1",
			    DB_V_TEXT(word));
	if (rc < 0)
		return rc;
	if (f.n == 0)
		return err_set(err, ERR_NOENT, "there is no project '%.100s'", word);
	if (f.n > 1)
		return err_set(err, ERR_CONFLICT, "%u projects are called '%.100s': say which as OWNER/NAME, or by its number",
			       f.n, word);
	*ret_p_id = f.p_id;
	*ret_u_id = f.u_id;
	return 0;
}

/* Hang each row under the one of `parents` with the same id: as an element of its list `key`. */
static void hang(json_t *parents, const char *id, const char *key, json_t *rows)
{
	json_t *row, *parent;
	size_t i, k;
	json_array_foreach (parents, k, parent)
		json_object_set_new(parent, key, json_array());
	json_array_foreach (rows, i, row)
		json_array_foreach (parents, k, parent)
			if (json_equal(json_object_get(parent, id), json_object_get(row, id)))
				json_array_append(json_object_get(parent, key), row);
}

static int add_objects(struct db *db, int64_t p_id, json_t *project, struct err *err)
{
	static const struct column columns[] = {
		{"do_id", COL_INT},     {"dm_name", COL_TEXT}, {"d_id", COL_INT},    {"d_name", COL_TEXT},
		{"mac_addr", COL_TEXT}, {"status", COL_TEXT},  {"is_sim", COL_BOOL}, {0},
	};
	static const struct column features[] = {
		{"do_id", COL_INT}, {"df_name", COL_TEXT}, {"df_type", COL_TEXT}, {"alias_name", COL_TEXT}, {0}};
	json_t *objects = NULL;
	json_auto_t *rows = NULL;
	int rc = q_rows(
		db, err, columns, &objects,
		"SELECT do_id, dm_name, o.d_id, d_name, mac_addr, status, is_sim FROM DeviceObject o "
		"JOIN DeviceModel m ON m.dm_id = o.dm_id LEFT JOIN Device d ON d.d_id = o.d_id WHERE p_id = $1 ORDER BY do_id",
		DB_V_INT(p_id));
	if (rc == 0)
		rc = q_rows(db, err, features, &rows,
			    "SELECT do_id, df_name, df_type, alias_name FROM DFObject JOIN DeviceObject USING (do_id) "
			    "JOIN DeviceFeature USING (df_id) WHERE p_id = $1 ORDER BY do_id, df_name",
			    DB_V_INT(p_id));
	hang(objects, "do_id", "features", rows);
	return json_object_set_new(project, "objects", objects) < 0 && rc == 0 ? err_set(err, ERR_NOMEM, "project") : rc;
}

static int add_applications(struct db *db, int64_t p_id, json_t *project, struct err *err)
{
	static const struct column columns[] = {
		{"na_id", COL_INT}, {"na_name", COL_TEXT}, {"na_idx", COL_INT}, {"join", COL_TEXT}, {0}};
	static const struct column links[] = {
		{"na_id", COL_INT},    {"do_id", COL_INT},       {"dm_name", COL_TEXT},   {"df_name", COL_TEXT},
		{"df_type", COL_TEXT}, {"alias_name", COL_TEXT}, {"functions", COL_TEXT}, {0},
	};
	json_t *applications = NULL;
	json_auto_t *rows = NULL;
	int rc = q_rows(
		db, err, columns, &applications,
		"SELECT na_id, na_name, na_idx, (SELECT max(fn_name) FROM MultipleJoin_Module j JOIN Function USING (fn_id) "
		"WHERE j.na_id = n.na_id) FROM NetworkApplication n WHERE p_id = $1 ORDER BY na_idx",
		DB_V_INT(p_id));
	if (rc == 0)
		rc = q_rows(db, err, links, &rows,
			    "SELECT m.na_id, o.do_id, dm_name, df_name, df_type, alias_name, group_concat(fn_name, ', ') FROM "
			    "DF_Module m "
			    "JOIN NetworkApplication n ON n.na_id = m.na_id JOIN DFObject f ON f.dfo_id = m.dfo_id "
			    "JOIN DeviceFeature USING (df_id) JOIN DeviceObject o ON o.do_id = f.do_id JOIN DeviceModel USING "
			    "(dm_id) "
			    "LEFT JOIN Function ON Function.fn_id = m.fn_id WHERE n.p_id = $1 GROUP BY m.na_id, m.dfo_id "
			    "ORDER BY m.na_id, df_type, m.dfo_id",
			    DB_V_INT(p_id));
	hang(applications, "na_id", "links", rows);
	return json_object_set_new(project, "applications", applications) < 0 && rc == 0 ? err_set(err, ERR_NOMEM, "project")
											 : rc;
}

void control_project(void *arg, json_t *request, struct ctl_call *call)
{
	struct ccm *ccm = arg;
	json_t *project = NULL;
	int64_t p_id = 0, u_id = 0;
	struct err err = {0};
	int rc = control_find_project(ccm->db, request, &p_id, &u_id, &err);
	if (rc == 0)
		rc = q_row(ccm->db, &err, project_columns, &project, PROJECT_ROW "WHERE p.p_id = $1", DB_V_INT(p_id));
	if (rc > 0)
		rc = add_objects(ccm->db, p_id, project, &err);
	if (rc == 0)
		rc = add_applications(ccm->db, p_id, project, &err);
	if (rc < 0) {
		json_decref(project);
		ctl_answer_error(call, err.text);
		return;
	}
	answer_with(call, "project", project);
}

/* ---- one function ---- */

void control_function(void *arg, json_t *request, struct ctl_call *call)
{
	static const struct column columns[] = {{"fn_id", COL_INT}, {"fn_name", COL_TEXT}, {"is_protect", COL_BOOL}, {0}};
	static const struct column versions[] = {
		{"fnvt_idx", COL_INT}, {"owner", COL_TEXT}, {"date", COL_TEXT}, {"code", COL_TEXT}, {0}};
	struct ccm *ccm = arg;
	const char *word = json_string_value(json_object_get(request, "function"));
	json_t *function = NULL, *rows = NULL;
	struct err err = {0};
	if (word == NULL) {
		ctl_answer_error(call, "which function? (`function`)");
		return;
	}
	/* a name of digits is a name first */
	int rc = q_row(
		ccm->db, &err, columns, &function,
		"SELECT fn_id, fn_name, is_protect FROM Function WHERE fn_name = $1 OR fn_id = $2 ORDER BY fn_name <> $1 LIMIT 1",
		DB_V_TEXT(word), DB_V_INT(whole_number(word)));
	if (rc == 0)
		rc = err_set(&err, ERR_NOENT, "there is no function '%.100s'", word);
	/* of everybody and of each user: the newest, which is the one that counts */
	if (rc > 0)
		rc = q_rows(ccm->db, &err, versions, &rows,
			    "SELECT fnvt_idx, u_name, date, code FROM FunctionVersion v LEFT JOIN User u ON u.u_id = v.u_id "
			    "WHERE fnvt_idx IN "
			    "(SELECT max(fnvt_idx) FROM FunctionVersion WHERE fn_id = $1 GROUP BY u_id) ORDER BY u_name IS NOT "
			    "NULL, u_name",
			    DB_V_INT(json_integer_value(json_object_get(function, "fn_id"))));
	if (rc < 0) {
		json_decref(function);
		ctl_answer_error(call, err.text);
		return;
	}
	json_object_set_new(function, "versions", rows);
	answer_with(call, "function", function);
}
