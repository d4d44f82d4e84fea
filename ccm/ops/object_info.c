/* object_info.c - a device object as it is shown: its model, and what it has of that. */
#include "ccm/ops/model.h"
#include "ccm/ops/project_int.h"
#include "common/util.h"

static int add_bound(struct op_call *c, const struct object *o, json_t *ret_do)
{
	CLEANUP(freep) char *page = NULL;
	if (o->d_id == 0)
		return 0;
	int rc = q_text(c->db, &c->err, &page, "SELECT extra_setup_webpage FROM Device WHERE d_id = $1", DB_V_INT(o->d_id));
	if (rc > 0 && json_object_set_new(ret_do, "extra_setup_webpage", json_string(page)) < 0)
		return err_set(&c->err, ERR_NOMEM, "device object");
	return rc < 0 ? rc : 0;
}

static int on_name(void *arg, const struct db_value *v, size_t n)
{
	(void)n;
	return json_array_append_new(arg, json_string(v[0].text)) < 0 ? ERR_NOMEM : 0;
}

static int info(struct op_call *c)
{
	json_auto_t *model = NULL, *names = json_array(), *made = NULL;
	struct object o;
	int rc = own_object(c, op_int(c, "do_id"), &o);
	if (rc < 0 || (rc = model_info(c->db, &c->err, o.dm_id, c->who.u_id, &model)) < 0 ||
	    (rc = db_run(c->db, &c->err, on_name, names,
			 "SELECT d.df_name FROM DFObject f JOIN DeviceFeature d ON d.df_id = f.df_id WHERE f.do_id = $1"
			 " ORDER BY d.df_name",
			 DB_V_INT(o.do_id))) < 0)
		return rc == ERR_NOMEM ? err_set(&c->err, rc, "device object") : rc;
	made = json_pack("{s:I, s:O}", "do_id", (json_int_t)o.do_id, "dfo", names);
	rc = add_bound(c, &o, made);
	if (rc == 0 && json_object_set(model, "do", made) < 0)
		rc = err_set(&c->err, ERR_NOMEM, "device object");
	if (rc == 0)
		rc = lines_select(c, o.p_id, 0);
	return rc == 0 ? op_result(c, TAKE(model)) : rc;
}

const struct op op_object_info = {.name = "object.info", .run = info, .reads = true};
