/* na.c - network applications: which inputs are joined and go to which outputs. */
#include "ccm/drive/drive.h"
#include "ccm/ops/project_int.h"
#include "common/util.h"
#include <stdio.h>

/* A client numbers its slots; far more than it shows. */
#define NA_IDX_MAX 1000000000

/* ---- making ---- */

/* The wanted index, or the next one that is free. */
static int free_index(struct op_call *c, int64_t p_id, int64_t *na_idx)
{
	int64_t one;
	int rc = q_int(c->db, &c->err, &one, "SELECT 1 FROM NetworkApplication WHERE p_id = $1 AND na_idx = $2", DB_V_INT(p_id),
		       DB_V_INT(*na_idx));
	if (rc <= 0)
		return rc;
	rc = q_int(c->db, &c->err, na_idx,
		   "SELECT min(n.na_idx) + 1 FROM NetworkApplication n WHERE n.p_id = $1 AND n.na_idx >= $2 AND NOT EXISTS"
		   " (SELECT 1 FROM NetworkApplication m WHERE m.p_id = n.p_id AND m.na_idx = n.na_idx + 1)",
		   DB_V_INT(p_id), DB_V_INT(*na_idx));
	return rc < 0 ? rc : 0;
}

int na_insert(struct op_call *c, int64_t p_id, const char *name, int64_t na_idx, const struct dfobject *list, size_t n,
	      int64_t *ret_na_id)
{
	if (na_idx < 0 || na_idx > NA_IDX_MAX)
		return err_set(&c->err, ERR_INVAL, "na_idx must be 0 to %d", NA_IDX_MAX);
	int rc = links_check(c, list, n);
	if (rc == 0)
		rc = free_index(c, p_id, &na_idx);
	if (rc == 0)
		rc = q_int(c->db, &c->err, ret_na_id,
			   "INSERT INTO NetworkApplication (na_name, na_idx, p_id) VALUES ($1, $2, $3) RETURNING na_id",
			   DB_V_TEXT(name), DB_V_INT(na_idx), DB_V_INT(p_id));
	rc = rc < 0 ? rc : 0;
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = link_add(c, *ret_na_id, &list[i]);
	return rc;
}

/* Those that are listed, each once and looked for once, however often a list of a mebibyte names it. list: room for all. */
static int features_of(struct op_call *c, const json_t *ids, struct dfobject *list, size_t *ret_n)
{
	json_auto_t *seen = json_object();
	const json_t *id;
	size_t i;
	*ret_n = 0;
	json_array_foreach (ids, i, id) {
		char key[24];
		snprintf(key, sizeof(key), "%lld", (long long)json_integer_value(id));
		if (json_object_get(seen, key) != NULL)
			continue;
		if (json_object_set_new(seen, key, json_true()) < 0)
			return err_set(&c->err, ERR_NOMEM, "links");
		int rc = own_dfobject(c, json_integer_value(id), &list[(*ret_n)++]);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int create(struct op_call *c)
{
	const json_t *ids = json_object_get(c->args, "dfo_ids");
	size_t n = 0;
	CLEANUP(freep) struct dfobject *list = calloc(json_array_size(ids) + 1, sizeof(*list));
	int64_t p_id = op_int(c, "p_id"), na_id = 0;
	if (list == NULL)
		return err_set(&c->err, ERR_NOMEM, "links");
	int rc = own_project(c, p_id);
	if (rc == 0)
		rc = features_of(c, ids, list, &n);
	if (rc == 0)
		rc = na_insert(c, p_id, op_str(c, "na_name"), op_int(c, "na_idx"), list, n, &na_id);
	return rc == 0 ? op_result_int(c, "na_id", na_id) : rc;
}

/* ---- changing ---- */

static int set_params(struct op_call *c, int64_t na_id, size_t at, const json_t *dfm)
{
	const json_t *one;
	size_t i;
	json_array_foreach (json_object_get(dfm, "dfmp_list"), i, one) {
		int64_t fn_id = row_int(one, "fn_id");
		int rc = fn_id > 0 ? own_function(c, fn_id) : 0;
		if (rc == 0)
			rc = link_set(c, na_id, row_int(dfm, "dfo_id"), row_int(one, "param_i"), one);
		if (rc == 0)
			rc = err_set(&c->err, ERR_INVAL, "there is no such parameter of a link of this NetworkApplication");
		if (rc < 0)
			return err_wrap(&c->err, rc, "dfm_list[%zu].dfmp_list[%zu]", at, i);
	}
	return 0;
}

static int set_join(struct op_call *c, int64_t na_id)
{
	int64_t fn_id = op_int(c, "multiplejoin_fn_id");
	int rc = fn_id > 0 ? own_function(c, fn_id) : 0;
	return rc == 0 ? join_set(c, na_id, fn_id) : rc;
}

static int update(struct op_call *c)
{
	int64_t na_id = op_int(c, "na_id"), p_id = 0;
	const json_t *one;
	size_t i;
	int rc = own_na(c, na_id, &p_id);
	if (rc < 0)
		return rc;
	json_array_foreach (json_object_get(c->args, "dfm_list"), i, one)
		if ((rc = set_params(c, na_id, i, one)) < 0)
			return rc;
	if (op_has(c, "na_name"))
		rc = q_exec(c->db, &c->err, "UPDATE NetworkApplication SET na_name = $1 WHERE na_id = $2",
			    DB_V_TEXT(op_str(c, "na_name")), DB_V_INT(na_id));
	if (rc == 0 && json_object_get(c->args, "multiplejoin_fn_id") != NULL)
		rc = set_join(c, na_id);
	if (rc == 0)
		rc = op_then(c, drive_touch, na_id);
	return rc == 0 ? op_result_int(c, "na_id", na_id) : rc;
}

/* ---- removing ---- */

static int delete_na(struct op_call *c)
{
	int64_t na_id = op_int(c, "na_id"), p_id = 0;
	int rc = own_na(c, na_id, &p_id);
	if (rc == 0)
		rc = q_exec(c->db, &c->err, "DELETE FROM NetworkApplication WHERE na_id = $1", DB_V_INT(na_id));
	if (rc == 0)
		rc = op_then(c, drive_touch, na_id);
	return rc == 0 ? op_result_int(c, "na_id", na_id) : rc;
}

const struct op op_na_create = {.name = "na.create", .run = create};
const struct op op_na_update = {.name = "na.update", .run = update};
const struct op op_na_delete = {.name = "na.delete", .run = delete_na};
