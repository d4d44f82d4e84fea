/* binding.c - the devices that an object may have, and the one that it has. */
#include "ccm/ops/project_int.h"
#include "common/util.h"
#include <ctype.h>
#include <string.h>
#include <time.h>

/* ---- which there are ---- */

static int has_outputs(struct op_call *c, int64_t do_id)
{
	int64_t one;
	return q_int(c->db, &c->err, &one,
		     "SELECT 1 FROM DFObject f JOIN DeviceFeature d ON d.df_id = f.df_id WHERE f.do_id = $1"
		     " AND d.df_type = 'output' LIMIT 1",
		     DB_V_INT(do_id));
}

/* An unclaimed device shows when it has been there for so long: by then whoever it belongs to could have claimed it. */
static int bindable(struct op_call *c, const struct object *o, json_t **ret)
{
#define DEVICES "SELECT " ROW_DEVICE " FROM Device WHERE is_sim = 0 AND "
	int64_t wait_s = c->ccm->settings->gui.ownership_timeout_s;
	struct utc_text until = utc_text(time(NULL) - wait_s);
	int outputs = has_outputs(c, o->do_id);
	if (outputs < 0)
		return outputs;
	/* with a timeout everybody may read from what others have claimed, without one nobody: as the original has it */
	if (!outputs && wait_s > 0)
		return q_rows(c->db, &c->err, row_device, ret,
			      DEVICES "dm_id = $1 AND (u_id IS NOT NULL OR register_time < $2) ORDER BY d_id", DB_V_INT(o->dm_id),
			      DB_V_TEXT(until.s));
	/* two short ways through the index of models and users, rather than one past everybody's devices */
	return q_rows(c->db, &c->err, row_device, ret,
		      DEVICES
		      "d_id IN (SELECT d_id FROM Device WHERE dm_id = $1 AND u_id = $2 UNION ALL SELECT d_id FROM Device"
		      " WHERE dm_id = $1 AND u_id IS NULL AND ($3 = 0 OR register_time < $4)) AND ($5 = 0"
		      " OR NOT EXISTS (SELECT 1 FROM DeviceObject b WHERE b.d_id = Device.d_id)) ORDER BY d_id",
		      DB_V_INT(o->dm_id), DB_V_INT(c->who.u_id), DB_V_INT(wait_s), DB_V_TEXT(until.s),
		      DB_V_INT(outputs && c->ccm->settings->gui.odf_single_bind));
#undef DEVICES
}

static int list_as(struct op_call *c, const char *key)
{
	json_t *rows = NULL;
	struct object o;
	int rc = own_object(c, op_int(c, "do_id"), &o);
	if (rc == 0)
		rc = bindable(c, &o, &rows);
	return rc == 0 ? op_result(c, json_pack("{s:I, s:o}", "do_id", (json_int_t)o.do_id, key, rows)) : rc;
}

static int list(struct op_call *c)
{
	return list_as(c, "data");
}

static int list_gui(struct op_call *c)
{
	return list_as(c, "device_list");
}

/* ---- binding ---- */

struct device {
	int64_t d_id, u_id, dm_id;
	char *name;
};

static void device_done(struct device *d)
{
	free(d->name);
}

static int on_device(void *arg, const struct db_value *v, size_t n)
{
	struct device *d = arg;
	(void)n;
	*d = (struct device){
		.d_id = v[0].num, .u_id = v[1].type == DB_NULL ? 0 : v[1].num, .dm_id = v[2].num, .name = strdup(v[3].text)};
	return d->name != NULL ? 0 : ERR_NOMEM;
}

#define DEVICE "SELECT d_id, u_id, dm_id, d_name FROM Device WHERE is_sim = 0 AND "

static int by_id(struct op_call *c, int64_t d_id, struct device *ret)
{
	return db_run(c->db, &c->err, on_device, ret, DEVICE "d_id = $1", DB_V_INT(d_id));
}

static int by_address(struct op_call *c, const char *mac_addr, struct device *ret)
{
	return db_run(c->db, &c->err, on_device, ret, DEVICE "mac_addr = $1", DB_V_TEXT(mac_addr));
}

static bool all_digits(const char *text)
{
	for (; *text != '\0'; text++)
		if (!isdigit((unsigned char)*text))
			return false;
	return true;
}

/* What the arguments name: an address of digits only is one if it is no d_id. */
static int device_of(struct op_call *c, struct device *ret)
{
	const char *text = op_str(c, "device");
	char digits[24];
	bool number = text == NULL || all_digits(text);
	if (text == NULL) {
		snprintf(digits, sizeof(digits), "%lld", (long long)op_int(c, "d_id"));
		text = digits;
	}
	errno = 0;
	int64_t d_id = number ? strtoll(text, NULL, 10) : 0;
	int rc = number && errno == 0 ? by_id(c, d_id, ret) : 0;
	if (rc == 0 && ret->name == NULL)
		rc = by_address(c, text, ret);
	if (rc < 0)
		return rc == ERR_NOMEM ? err_set(&c->err, rc, "device") : rc;
	if (ret->name != NULL)
		return 0;
	return number ? err_set(&c->err, ERR_NOENT, "Device id %s not found", text)
		      : err_set(&c->err, ERR_NOENT, "unknown mac_addr");
}

/* Others' devices may be read, not be written to. */
static int may_bind(struct op_call *c, const struct object *o, const struct device *d)
{
	if (d->dm_id != o->dm_id)
		return err_set(&c->err, ERR_INVAL, "The device is of another Device Model");
	if (d->u_id == 0 || d->u_id == c->who.u_id)
		return 0;
	int rc = has_outputs(c, o->do_id);
	return rc > 0 ? err_set(&c->err, ERR_INVAL, "The binded device cannot be use for odf") : rc;
}

static int set_device(struct op_call *c, const struct object *o, int64_t d_id)
{
	int rc = q_exec(c->db, &c->err, "UPDATE DeviceObject SET d_id = $1 WHERE do_id = $2",
			d_id != 0 ? DB_V_INT(d_id) : DB_V_NULL, DB_V_INT(o->do_id));
	return rc == 0 ? object_touch(c, o) : rc;
}

static int bind_device(struct op_call *c)
{
	CLEANUP(device_done) struct device d = {0};
	struct object o;
	int rc = own_object(c, op_int(c, "do_id"), &o);
	if (rc == 0)
		rc = device_of(c, &d);
	if (rc == 0)
		rc = may_bind(c, &o, &d);
	if (rc == 0 && o.d_id != d.d_id)
		rc = set_device(c, &o, d.d_id);
	return rc == 0 ? op_result(c, json_pack("{s:s}", "d_name", d.name)) : rc;
}

static int unbind_device(struct op_call *c)
{
	struct object o;
	int rc = own_object(c, op_int(c, "do_id"), &o);
	if (rc == 0 && o.d_id != 0)
		rc = set_device(c, &o, 0);
	return rc == 0 ? op_result_int(c, "do_id", o.do_id) : rc;
}

const struct op op_device_list = {.name = "device.list", .run = list, .reads = true};
const struct op op_device_list_gui = {.name = "device.list_of_gui", .run = list_gui, .reads = true};
const struct op op_device_bind = {.name = "device.bind", .run = bind_device};
const struct op op_device_unbind = {.name = "device.unbind", .run = unbind_device};
