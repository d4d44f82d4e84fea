/* device_ops.c - what news of devices does to the store. */
#include "ccm/drive/devices.h"

#include "ccm/drive/drive_int.h"
#include "ccm/gui/gui.h"
#include "ccm/query.h"
#include "ccm/sim/sim.h"
#include "common/id.h"
#include "common/log.h"
#include "common/util.h"
#include <math.h>
#include <string.h>
#include <time.h>

/* ---- effects ---- */

static void look_at_graph(struct ccm *ccm, int64_t na_id)
{
	if (ccm->drive != NULL)
		graphs_touch(ccm->drive, na_id, CAUSE_REPAIR);
}

/* What guis get to know of a device, in the words of csm. */
static void announce(struct ccm *ccm, int64_t d_id)
{
	static const struct column columns[] = {{"id", COL_TEXT},    {"name", COL_TEXT},  {"state", COL_TEXT}, {"register_time", COL_INT},
						{"model", COL_TEXT}, {"u_name", COL_TEXT}, {"is_sim", COL_BOOL}, {0}};
	json_auto_t *row = NULL, *profile = NULL;
	struct err err = {0};
	int rc = q_row(ccm->db, &err, columns, &row,
		       "SELECT d.mac_addr, d.d_name, d.status, CAST(strftime('%s', d.register_time) AS INTEGER), m.dm_name, u.u_name, d.is_sim FROM Device d"
		       " JOIN DeviceModel m ON m.dm_id = d.dm_id LEFT JOIN User u ON u.u_id = d.u_id WHERE d.d_id = $1",
		       DB_V_INT(d_id));
	if (rc < 0)
		log_error("drive.store", KV("why", err.text));
	if (rc <= 0 || ccm->gui == NULL)
		return;
	const char *type = json_string_value(json_object_get(row, "state"));
	profile = json_pack("{s:O, s:O, s:O}", "model", json_object_get(row, "model"), "u_name", json_object_get(row, "u_name"), "is_sim",
			    json_object_get(row, "is_sim"));
	json_t *device = json_pack("{s:O, s:O, s:O, s:O, s:O?, s:I}", "id", json_object_get(row, "id"), "name", json_object_get(row, "name"),
				   "state", json_object_get(row, "state"), "register_time", json_object_get(row, "register_time"), "profile",
				   profile, "d_id", (json_int_t)d_id);
	gui_announce(ccm->gui, type, device);
}

static void announce_gone(struct ccm *ccm, int64_t d_id)
{
	if (ccm->gui != NULL)
		gui_announce(ccm->gui, "deregister", json_pack("{s:I}", "d_id", (json_int_t)d_id));
}

/* ---- a device's place in projects ---- */

/* The graphs that the device takes part in. */
static int touch_graphs(struct op_call *c, int64_t d_id, op_effect_fn *fn)
{
	return op_then_each(c, fn,
			    "SELECT DISTINCT m.na_id FROM DeviceObject b JOIN DFObject o ON o.do_id = b.do_id"
			    " JOIN DF_Module m ON m.dfo_id = o.dfo_id WHERE b.d_id = $1",
			    d_id);
}

/* The objects it stands for have no device any more: perhaps a simulator's turn. */
static int touch_simulations(struct op_call *c, int64_t d_id)
{
	return op_then_each(c, sim_touch, "SELECT DISTINCT p_id FROM DeviceObject WHERE d_id = $1", d_id);
}

static int unbind(struct op_call *c, int64_t d_id)
{
	int rc = touch_graphs(c, d_id, drive_touch);
	if (rc == 0)
		rc = touch_simulations(c, d_id);
	return rc < 0 ? rc : q_exec(c->db, &c->err, "UPDATE DeviceObject SET d_id = NULL WHERE d_id = $1", DB_V_INT(d_id));
}

static int remove_device(struct op_call *c, int64_t d_id)
{
	int rc = unbind(c, d_id);
	if (rc == 0)
		rc = q_exec(c->db, &c->err, "DELETE FROM Device WHERE d_id = $1", DB_V_INT(d_id));
	return rc < 0 ? rc : op_then(c, announce_gone, d_id);
}

/* A simulator says for which object it stands; it gets that one if nothing is there and its project, of its owner, is simulated. */
static int bind_simulator(struct op_call *c, int64_t d_id, int64_t do_id)
{
	int64_t p_id;
	int rc = q_int(c->db, &c->err, &p_id,
		       "SELECT p.p_id FROM DeviceObject b JOIN Project p ON p.p_id = b.p_id JOIN Device d ON d.d_id = $1"
		       " WHERE b.do_id = $2 AND b.d_id IS NULL AND b.dm_id = d.dm_id AND p.sim = 'on' AND p.u_id = d.u_id",
		       DB_V_INT(d_id), DB_V_INT(do_id));
	if (rc <= 0)
		return rc;
	rc = q_exec(c->db, &c->err, "UPDATE DeviceObject SET d_id = $1 WHERE do_id = $2", DB_V_INT(d_id), DB_V_INT(do_id));
	return rc < 0 ? rc : touch_graphs(c, d_id, drive_touch);
}

/* ---- one device ---- */

static const char *text(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);
	const char *s = json_string_value(value);
	return s != NULL && strlen(s) == json_string_length(value) ? s : NULL;
}

/* NULL: it says nothing of it */
static const json_t *profile_of(const json_t *da)
{
	const json_t *profile = json_object_get(da, "profile");
	return json_is_object(profile) ? profile : NULL;
}

static struct utc_text register_time(const json_t *da)
{
	const json_t *at = json_object_get(da, "register_time");
	double s = json_number_value(at);
	return utc_text(json_is_number(at) && s > 0 && s < 1e11 ? (int64_t)s : (int64_t)time(NULL));
}

/* ret: 1, 0 (there is none) or negative */
static int find_owner(struct op_call *c, const json_t *profile, int64_t *ret)
{
	const char *name = text(profile, "u_name");
	*ret = 0;
	return name == NULL ? 0
			    : q_int(c->db, &c->err, ret, "SELECT u_id FROM User WHERE u_name = $1 AND is_deleted = 0", DB_V_TEXT(name));
}

static int find_model(struct op_call *c, const json_t *profile, int64_t *ret)
{
	const char *name = text(profile, "model");
	*ret = 0;
	return name == NULL ? 0 : q_int(c->db, &c->err, ret, "SELECT dm_id FROM DeviceModel WHERE dm_name = $1", DB_V_TEXT(name));
}

static struct db_value id_or_null(int64_t id)
{
	return id != 0 ? DB_V_INT(id) : DB_V_NULL;
}

static const char *or_empty(const char *s)
{
	return s != NULL ? s : "";
}

static int insert(struct op_call *c, const char *id, const json_t *da, int64_t u_id, int64_t dm_id, int64_t *ret_d_id)
{
	const json_t *profile = profile_of(da);
	const char *name = text(da, "name"), *state = text(da, "state");
	bool online = state != NULL && strcmp(state, "online") == 0;
	return q_int(c->db, &c->err, ret_d_id,
		     "INSERT INTO Device (mac_addr, d_name, status, u_id, dm_id, is_sim, register_time, extra_setup_webpage, device_webpage)"
		     " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING d_id",
		     DB_V_TEXT(id), DB_V_TEXT(name != NULL ? name : id), DB_V_TEXT(online ? "online" : "offline"), id_or_null(u_id),
		     DB_V_INT(dm_id), DB_V_INT(json_is_true(json_object_get(profile, "is_sim"))), DB_V_TEXT(register_time(da).s),
		     DB_V_TEXT(or_empty(text(profile, "extra_setup_webpage"))), DB_V_TEXT(or_empty(text(profile, "device_webpage"))));
}

static const struct column device_columns[] = {{"d_id", COL_INT},  {"d_name", COL_TEXT}, {"status", COL_TEXT},
					       {"u_id", COL_INT},  {"dm_id", COL_INT},	 {"is_sim", COL_BOOL},
					       {"extra_setup_webpage", COL_TEXT}, {"device_webpage", COL_TEXT}, {0}};

/* Bring the row (as stored) up to date with what da says of it; what it does not say stays. An owner stays if none is named: somebody
 * may have claimed the device. */
static int update(struct op_call *c, json_t *row, const json_t *da, int64_t u_id, int64_t dm_id)
{
	const json_t *profile = profile_of(da);
	const char *name = text(da, "name"), *state = text(da, "state");
	int64_t d_id = json_integer_value(json_object_get(row, "d_id"));
	bool other_model = dm_id != 0 && dm_id != json_integer_value(json_object_get(row, "dm_id"));
	bool other_state = state != NULL && strcmp(state, or_empty(text(row, "status"))) != 0;
	json_auto_t *is = json_copy(row);
	if (name != NULL)
		json_object_set_new(is, "d_name", json_string(name));
	if (other_state)
		json_object_set_new(is, "status", json_string(strcmp(state, "online") == 0 ? "online" : "offline"));
	if (u_id != 0)
		json_object_set_new(is, "u_id", json_integer(u_id));
	if (profile != NULL) {
		json_object_set_new(is, "dm_id", json_integer(dm_id));
		json_object_set_new(is, "is_sim", json_boolean(json_is_true(json_object_get(profile, "is_sim"))));
		json_object_set_new(is, "extra_setup_webpage", json_string(or_empty(text(profile, "extra_setup_webpage"))));
		json_object_set_new(is, "device_webpage", json_string(or_empty(text(profile, "device_webpage"))));
	}
	if (is == NULL || json_equal(is, row))
		return is == NULL ? err_set(&c->err, ERR_NOMEM, "device") : 0;
	int rc = other_model ? unbind(c, d_id) : 0; /* an object takes devices of its model only */
	if (rc == 0)
		rc = q_exec(c->db, &c->err,
			    "UPDATE Device SET d_name = $1, status = $2, u_id = $3, dm_id = $4, is_sim = $5, extra_setup_webpage = $6,"
			    " device_webpage = $7 WHERE d_id = $8",
			    DB_V_TEXT(text(is, "d_name")), DB_V_TEXT(text(is, "status")),
			    id_or_null(json_integer_value(json_object_get(is, "u_id"))), DB_V_INT(json_integer_value(json_object_get(is, "dm_id"))),
			    DB_V_INT(json_is_true(json_object_get(is, "is_sim"))), DB_V_TEXT(text(is, "extra_setup_webpage")),
			    DB_V_TEXT(text(is, "device_webpage")), DB_V_INT(d_id));
	return rc == 0 && other_state ? op_then(c, announce, d_id) : rc;
}

static int sync_one(struct op_call *c, const json_t *da)
{
	const char *id = text(da, "id");
	const json_t *profile = profile_of(da);
	json_auto_t *row = NULL;
	int64_t u_id, dm_id, d_id = 0;
	if (id == NULL)
		return 0;
	int rc = q_row(c->db, &c->err, device_columns, &row,
		       "SELECT d_id, d_name, status, u_id, dm_id, is_sim, extra_setup_webpage, device_webpage FROM Device WHERE mac_addr = $1",
		       DB_V_TEXT(id));
	if (rc >= 0)
		rc = find_owner(c, profile, &u_id);
	if (rc >= 0)
		rc = find_model(c, profile, &dm_id);
	if (rc < 0)
		return rc;
	if (row != NULL)
		d_id = json_integer_value(json_object_get(row, "d_id"));
	if (profile != NULL && dm_id == 0) {
		/* of a model that we do not have: none of our devices, or none any more */
		log_debug("device.ignored", KV("device", id), KV("model", text(profile, "model")));
		return row != NULL ? remove_device(c, d_id) : 0;
	}
	if (row == NULL && profile == NULL)
		return 0;
	rc = row != NULL ? update(c, row, da, u_id, dm_id) : insert(c, id, da, u_id, dm_id, &d_id);
	if (rc < 0)
		return rc;
	if (json_is_true(json_object_get(profile, "is_sim")) && json_is_integer(json_object_get(profile, "do_id")) &&
	    (rc = bind_simulator(c, d_id, json_integer_value(json_object_get(profile, "do_id")))) < 0)
		return rc;
	return row != NULL ? touch_graphs(c, d_id, look_at_graph) : 0;
}

/* ret: 1, 0 (not ours) or negative */
static int find_device(struct op_call *c, const json_t *id, int64_t *ret)
{
	return q_int(c->db, &c->err, ret, "SELECT d_id FROM Device WHERE mac_addr = $1", DB_V_TEXT(json_string_value(id)));
}

static int set_state(struct op_call *c, const json_t *id, bool online)
{
	int64_t d_id, changed;
	int rc = find_device(c, id, &d_id);
	if (rc <= 0)
		return rc;
	rc = q_int(c->db, &c->err, &changed, "UPDATE Device SET status = $1 WHERE d_id = $2 AND status <> $1 RETURNING d_id",
		   DB_V_TEXT(online ? "online" : "offline"), DB_V_INT(d_id));
	if (rc > 0)
		rc = op_then(c, announce, d_id);
	return rc == 0 && online ? touch_graphs(c, d_id, look_at_graph) : rc;
}

static int remove_one(struct op_call *c, const json_t *id)
{
	int64_t d_id;
	int rc = find_device(c, id, &d_id);
	return rc > 0 ? remove_device(c, d_id) : rc;
}

/* ---- operations ---- */

static int take_news(struct op_call *c, enum news_kind kind, const json_t *da)
{
	switch (kind) {
	case NEWS_DEVICE:
	case NEWS_SEEN:
		return sync_one(c, da);
	case NEWS_ONLINE:
	case NEWS_OFFLINE:
		return set_state(c, da, kind == NEWS_ONLINE);
	case NEWS_GONE:
		return remove_one(c, da);
	case NEWS_END:
		break;
	}
	return 0;
}

static int run_news(struct op_call *c)
{
	size_t i;
	json_t *one;
	json_array_foreach (json_object_get(c->args, "news"), i, one) {
		int rc = take_news(c, (enum news_kind)json_integer_value(json_array_get(one, 0)), json_array_get(one, 1));
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int run_sweep(struct op_call *c)
{
	static const struct column columns[] = {{"d_id", COL_INT}, {"mac_addr", COL_TEXT}, {0}};
	json_auto_t *rows = NULL;
	const json_t *seen = json_object_get(c->args, "seen");
	json_t *row;
	size_t i;
	int rc = q_rows(c->db, &c->err, columns, &rows, "SELECT d_id, mac_addr FROM Device");
	json_array_foreach (rows, i, row)
		if (rc == 0 && json_object_get(seen, text(row, "mac_addr")) == NULL)
			rc = remove_device(c, json_integer_value(json_object_get(row, "d_id")));
	return rc;
}

const struct op op_devices_news = {.name = "devices.news", .run = run_news};
const struct op op_devices_sweep = {.name = "devices.sweep", .run = run_sweep};
