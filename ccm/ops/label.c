/* label.c - categories, units, tags. */
#include "ccm/ops/label.h"

#include "ccm/drive/drive.h"
#include "ccm/ops/catalogue.h"
#include "ccm/ops/model.h"
#include "ccm/ops/param.h"
#include "ccm/ops/rows.h"

static int ensure(struct db *db, struct err *err, const char *find, const char *make, const char *name, int64_t *ret_id)
{
	int64_t id = 0;
	int rc = q_int(db, err, &id, find, DB_V_TEXT(name));
	bool made = rc == 0;
	if (made)
		rc = q_int(db, err, &id, make, DB_V_TEXT(name));
	if (rc >= 0 && ret_id != NULL)
		*ret_id = id;
	return rc < 0 ? rc : made;
}

int label_category(struct db *db, struct err *err, const char *name, int64_t *ret_id)
{
	return ensure(db, err, "SELECT dfc_id FROM DeviceFeatureCategory WHERE dfc_name = $1",
		      "INSERT INTO DeviceFeatureCategory (dfc_name) VALUES ($1) RETURNING dfc_id", name, ret_id);
}

int label_unit(struct db *db, struct err *err, const char *name, int64_t *ret_id)
{
	return ensure(db, err, "SELECT unit_id FROM Unit WHERE unit_name = $1",
		      "INSERT INTO Unit (unit_name) VALUES ($1) RETURNING unit_id", name, ret_id);
}

/* ---- tags of a model's feature ---- */

const struct field tag_ref_fields[] = {{"tag_id", FIELD_INT, .help = "a tag"},
				       {"tag_name", FIELD_ANY, .flags = FIELD_DROPPED},
				       {"param_no", FIELD_ANY, .flags = FIELD_DROPPED},
				       {0}};

int tags_of(struct db *db, struct err *err, int64_t mf_id, json_t **ret_rows)
{
	return q_rows(db, err, row_tag, ret_rows,
		      "SELECT tag_id, tag_name, param_no FROM DM_DF_Tag JOIN Tag USING (tag_id) WHERE mf_id = $1 ORDER BY mft_id",
		      DB_V_INT(mf_id));
}

static int64_t tag_id_of(const json_t *ref)
{
	return json_integer_value(json_object_get(ref, "tag_id"));
}

int tags_replace(struct db *db, struct err *err, int64_t mf_id, const json_t *list)
{
	size_t i;
	const json_t *ref;
	int rc = q_exec(db, err, "DELETE FROM DM_DF_Tag WHERE mf_id = $1", DB_V_INT(mf_id));
	json_array_foreach (list, i, ref) {
		int64_t there;
		if (rc == 0)
			rc = q_int(db, err, &there, "SELECT tag_id FROM Tag WHERE tag_id = $1", DB_V_INT(tag_id_of(ref)));
		if (rc == 0)
			return err_set(err, ERR_NOENT, "Tag id %lld not found", (long long)tag_id_of(ref));
		if (rc > 0)
			rc = q_exec(
				db, err,
				"INSERT INTO DM_DF_Tag (mf_id, tag_id) VALUES ($1, $2) ON CONFLICT (mf_id, tag_id) DO NOTHING",
				DB_V_INT(mf_id), DB_V_INT(tag_id_of(ref)));
	}
	return rc;
}

/* Graphs say how many values of a tag travel with the data. */
static int touch_links(struct op_call *c, int64_t mf_id)
{
	return op_then_each(c, drive_touch,
			    "SELECT DISTINCT na_id FROM DM_DF JOIN DeviceObject USING (dm_id) JOIN DFObject USING (do_id, df_id)"
			    " JOIN DF_Module USING (dfo_id) WHERE mf_id = $1",
			    mf_id);
}

static int save_tags(struct op_call *c)
{
	int64_t mf_id = 0, df_id;
	int rc = model_find_feature(c, &mf_id, &df_id);
	if (rc == 0)
		rc = tags_replace(c->db, &c->err, mf_id, json_object_get(c->args, "tags"));
	if (rc == 0)
		rc = touch_links(c, mf_id);
	return rc == 0 ? op_result_int(c, "mf_id", mf_id) : rc;
}

/* Those that are listed, or all. */
static int delete_tags(struct op_call *c)
{
	const json_t *list = json_object_get(c->args, "tags"), *ref;
	int64_t mf_id = 0, df_id;
	size_t i;
	int rc = model_find_feature(c, &mf_id, &df_id);
	if (rc == 0 && !json_is_array(list))
		rc = q_exec(c->db, &c->err, "DELETE FROM DM_DF_Tag WHERE mf_id = $1", DB_V_INT(mf_id));
	json_array_foreach (list, i, ref)
		if (rc == 0)
			rc = q_exec(c->db, &c->err, "DELETE FROM DM_DF_Tag WHERE mf_id = $1 AND tag_id = $2", DB_V_INT(mf_id),
				    DB_V_INT(tag_id_of(ref)));
	if (rc == 0)
		rc = touch_links(c, mf_id);
	return rc == 0 ? op_result_int(c, "mf_id", mf_id) : rc;
}

static int get_tags(struct op_call *c)
{
	int64_t mf_id = 0, df_id;
	json_t *rows = NULL;
	int rc = model_find_feature(c, &mf_id, &df_id);
	if (rc == 0)
		rc = tags_of(c->db, &c->err, mf_id, &rows);
	return rc == 0 ? op_result(c, json_pack("{s:o}", "tags", rows)) : rc;
}

/* ---- making and listing them ---- */

static int create_category(struct op_call *c)
{
	const char *name = op_str(c, "dfc_name");
	int rc = label_category(c->db, &c->err, name, NULL);
	return rc < 0 ? rc : op_result(c, json_pack("{s:s}", "dfc_name", name));
}

static int create_unit(struct op_call *c)
{
	const char *name = op_str(c, "unit_name");
	int64_t id = 0;
	int rc = label_unit(c->db, &c->err, name, &id);
	return rc < 0 ? rc : op_result(c, json_pack("{s:I, s:s}", "unit_id", (json_int_t)id, "unit_name", name));
}

static int create_tag(struct op_call *c)
{
	int64_t id = 0, param_no = op_int(c, "param_no");
	if (param_no < 0 || param_no > PARAMS_MAX)
		return err_set(&c->err, ERR_INVAL, "param_no must be 0 to %d", PARAMS_MAX);
	int rc = q_int(c->db, &c->err, &id, "INSERT INTO Tag (tag_name, param_no) VALUES ($1, $2) RETURNING tag_id",
		       DB_V_TEXT(op_str(c, "tag_name")), DB_V_INT(param_no));
	return rc < 0 ? rc : op_result_int(c, "tag_id", id);
}

static int listed(struct op_call *c, int rc, json_t *rows)
{
	return rc == 0 ? op_result(c, rows) : rc;
}

static int list_categories(struct op_call *c)
{
	json_t *rows = NULL;
	int rc =
		q_rows(c->db, &c->err, row_category, &rows, "SELECT " ROW_CATEGORY " FROM DeviceFeatureCategory ORDER BY dfc_id");
	return listed(c, rc, rows);
}

static int list_units(struct op_call *c)
{
	json_t *rows = NULL;
	int rc = q_rows(c->db, &c->err, row_unit, &rows, "SELECT " ROW_UNIT " FROM Unit ORDER BY unit_id");
	return listed(c, rc, rows);
}

static int list_tags(struct op_call *c)
{
	json_t *rows = NULL;
	int rc = q_rows(c->db, &c->err, row_tag, &rows, "SELECT " ROW_TAG " FROM Tag ORDER BY tag_id");
	return listed(c, rc, rows);
}

const struct op op_tags_save = {"tags.save", .run = save_tags};
const struct op op_tags_delete = {"tags.delete", .run = delete_tags};
const struct op op_tags_get = {"tags.get", .run = get_tags, .reads = true};
const struct op op_category_create = {"category.create", .run = create_category};
const struct op op_category_list = {"category.list", .run = list_categories, .reads = true};
const struct op op_unit_create = {"unit.create", .run = create_unit};
const struct op op_unit_list = {"unit.list", .run = list_units, .reads = true};
const struct op op_tag_create = {"tag.create", .run = create_tag};
const struct op op_tag_list = {"tag.list", .run = list_tags, .reads = true};
