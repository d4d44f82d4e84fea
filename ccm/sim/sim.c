/* sim.c - which objects have a simulated device. */
#include "ccm/sim/sim.h"

#include "ccm/drive/devices.h"
#include "ccm/ops/rows.h"
#include "ccm/sim/device.h"
#include "common/id.h"
#include "common/log.h"
#include "common/util.h"
#include "dan/fetch.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define PUSH_MS	   1000
#define GOODBYE_MS 3000
#define DEVICES_MAX 1000 /* at once, of all projects */
#define SHARE	   6	/* one for so many descriptors: each needs three, and others need some */

/* A simulated device and the object that it stands for. */
struct standin {
	struct sim *sim;
	int64_t do_id, p_id; /* 0: one of before, which only has to go */
	char id[UUID_LEN + 1];
	json_t *features, *profile;
	struct sim_device *device;
	bool leaving, wanted;
	struct standin *next;
};

struct sim {
	struct ccm *ccm;
	struct fetch *fetch;
	struct loop_src *timer;
	struct standin *all;
	char url[300];
	size_t n, max; /* of all; as many as there may be */
	bool refused;  /* one more was wanted */
	bool stopping;
	bool lost; /* no memory, or no store, to see what is wanted: all is looked at again */
};

static bool is_ours(const struct sim *s)
{
	return s != NULL && !s->stopping && s->ccm->settings->gui.simtalk_endpoint[0] == '\0';
}

/* The same for an object each time: what an earlier run of ours left behind goes on with it. */
static struct uuid_text id_of(int64_t do_id)
{
	char text[64];
	struct uuid_text id;
	snprintf(text, sizeof(text), "simulator of device object %" PRId64, do_id);
	struct digest_text d = sha256_hex(text, strlen(text));
	snprintf(id.s, sizeof(id.s), "%.8s-%.4s-4%.3s-a%.3s-%.12s", d.s, d.s + 8, d.s + 12, d.s + 15, d.s + 18);
	return id;
}

/* ---- one ---- */

static void free_standin(struct standin *o)
{
	sim_device_free(o->device);
	o->sim->n--;
	json_decref(o->features);
	json_decref(o->profile);
	free(o);
}

static void on_gone(void *arg)
{
	struct standin *o = arg, **at = &o->sim->all;
	struct sim *s = o->sim;
	int64_t p_id = o->p_id;
	while (*at != o)
		at = &(*at)->next;
	*at = o->next;
	free_standin(o);
	if (p_id != 0 && !s->stopping)
		sim_touch(s->ccm, p_id); /* perhaps another one stands in now */
}

static void leave(struct standin *o)
{
	if (o->leaving)
		return;
	o->leaving = true;
	log_info("sim.stopped", KV("device", o->id), KV("object", o->do_id));
	sim_device_leave(o->device, on_gone, o);
}

/* features, profile: taken. ret: NULL: failed, and logged */
static struct standin *start(struct sim *s, int64_t do_id, int64_t p_id, const char *id, json_t *features, json_t *profile)
{
	struct err err = {0};
	struct standin *o = calloc(1, sizeof(*o));
	int rc = ERR_NOMEM;
	if (o != NULL) {
		*o = (struct standin){.sim = s, .do_id = do_id, .p_id = p_id, .features = features, .profile = profile, .wanted = true};
		s->n++;
		snprintf(o->id, sizeof(o->id), "%s", id);
		const struct sim_device_conf conf = {
			.fetch = s->fetch, .csm_url = s->url, .id = id, .profile = profile, .features = features};
		rc = features != NULL && profile != NULL ? sim_device_new(s->ccm, &conf, &o->device, &err) : err_set(&err, rc, "simulator");
	}
	if (rc < 0) {
		log_error("sim.failed", KV("device", id), KV("why", o != NULL ? err.text : "out of memory"));
		s->lost = s->lost || rc == ERR_NOMEM;
		if (o != NULL) {
			free_standin(o);
		} else {
			json_decref(features);
			json_decref(profile);
		}
		return NULL;
	}
	log_info("sim.started", KV("device", id), KV("object", do_id));
	o->next = s->all;
	s->all = o;
	return o;
}

static struct standin *find(const struct sim *s, int64_t do_id)
{
	struct standin *o = s->all;
	while (o != NULL && o->do_id != do_id)
		o = o->next;
	return o;
}

/* ---- what the store wants ---- */

static const struct column object_columns[] = {{"do_id", COL_INT},   {"p_id", COL_INT},	  {"u_id", COL_INT}, {"u_name", COL_TEXT},
					       {"dm_id", COL_INT},   {"dm_name", COL_TEXT}, {"mac_addr", COL_TEXT}, {0}};

static int64_t num(const json_t *row, const char *name)
{
	return json_integer_value(json_object_get(row, name));
}

/* ret: [{name, input, params}], NULL: failed */
static json_t *features_of(struct sim *s, const json_t *object, struct err *err)
{
	static const struct column columns[] = {{"name", COL_TEXT}, {"input", COL_BOOL}, {"mf_id", COL_INT}, {0}};
	json_auto_t *rows = NULL;
	json_t *row;
	size_t i;
	if (q_rows(s->ccm->db, err, columns, &rows,
		   "SELECT f.df_name, f.df_type = 'input', ifnull(mf.mf_id, 0) FROM DFObject o JOIN DeviceFeature f ON f.df_id = o.df_id"
		   " LEFT JOIN DM_DF mf ON mf.df_id = f.df_id AND mf.dm_id = $1 WHERE o.do_id = $2 ORDER BY f.df_name",
		   DB_V_INT(num(object, "dm_id")), DB_V_INT(num(object, "do_id"))) < 0)
		return NULL;
	json_array_foreach (rows, i, row) {
		json_t *params = NULL;
		if (rows_params(s->ccm->db, err, 0, num(row, "mf_id"), num(object, "u_id"), &params) < 0 ||
		    json_object_set_new(row, "params", params) < 0)
			return NULL;
		json_object_del(row, "mf_id");
	}
	return TAKE(rows);
}

/* A failure was logged. */
static void bound(void *arg, struct op_call *c, int rc)
{
	(void)arg;
	(void)c;
	(void)rc;
}

/* It runs already but its object was unbound: bound anew as by its registration. */
static void bind_anew(struct sim *s, const struct standin *o)
{
	static const struct caller nobody;
	json_t *args = json_pack("{s:[[i, {s:s, s:O}]]}", "news", (int)NEWS_DEVICE, "id", o->id, "profile", o->profile);
	op_start(s->ccm, &op_devices_news, &nobody, args, bound, NULL);
}

static void want(struct sim *s, const json_t *object)
{
	struct err err = {0};
	int64_t do_id = num(object, "do_id");
	const char *there = json_string_value(json_object_get(object, "mac_addr"));
	struct uuid_text id = id_of(do_id);
	struct standin *o = find(s, do_id);
	if (there != NULL && strcmp(there, id.s) != 0)
		return; /* a real one */
	json_auto_t *features = features_of(s, object, &err);
	if (features == NULL) {
		log_error("sim.failed", KV("object", do_id), KV("why", err.text));
		s->lost = true;
		if (o != NULL)
			o->wanted = true;
		return;
	}
	if (json_array_size(features) == 0 || (o != NULL && o->leaving))
		return; /* nothing to simulate; or a new one comes when the old one has left */
	if (o != NULL && !json_equal(o->features, features))
		return; /* it has other features now: as above */
	if (o == NULL && s->n >= s->max) {
		s->refused = true;
		if (log_allowed("sim.refused", ""))
			log_warn("sim.refused", KV("object", do_id), KV("why", "as many devices as there may be are simulated"));
		return;
	}
	if (o == NULL) {
		start(s, do_id, num(object, "p_id"), id.s, TAKE(features),
		      json_pack("{s:O, s:b, s:I, s:O}", "model", json_object_get(object, "dm_name"), "is_sim", true, "do_id",
				(json_int_t)do_id, "u_name", json_object_get(object, "u_name")));
		return;
	}
	o->wanted = true;
	if (there == NULL)
		bind_anew(s, o);
}

static void want_all(struct sim *s, const json_t *objects)
{
	size_t i;
	json_t *object;
	json_array_foreach (objects, i, object)
		want(s, object);
	for (struct standin *o = s->all, *next; o != NULL; o = next) {
		next = o->next;
		if (!o->wanted)
			leave(o);
	}
}

#define OBJECTS                                                                                                                    \
	"SELECT b.do_id, p.p_id, u.u_id, u.u_name, m.dm_id, m.dm_name, d.mac_addr FROM Project p JOIN User u ON u.u_id = p.u_id"    \
	" JOIN DeviceObject b ON b.p_id = p.p_id JOIN DeviceModel m ON m.dm_id = b.dm_id LEFT JOIN Device d ON d.d_id = b.d_id"    \
	" WHERE p.sim = 'on'"

void sim_touch(struct ccm *ccm, int64_t p_id)
{
	struct sim *s = ccm->sim;
	struct err err = {0};
	json_auto_t *objects = NULL;
	if (!is_ours(s))
		return;
	if (q_rows(ccm->db, &err, object_columns, &objects, OBJECTS " AND p.p_id = $1", DB_V_INT(p_id)) < 0) {
		log_error("sim.failed", KV("project", p_id), KV("why", err.text));
		s->lost = true;
		return;
	}
	for (struct standin *o = s->all; o != NULL; o = o->next)
		o->wanted = o->p_id != p_id;
	want_all(s, objects);
}

/* Simulated devices that stand for nothing: of a run of ours that was killed before they had left. */
static void sweep(struct sim *s)
{
	static const struct column columns[] = {{"id", COL_TEXT}, {"model", COL_TEXT}, {0}};
	struct err err = {0};
	json_auto_t *rows = NULL;
	json_t *row;
	size_t i;
	if (q_rows(s->ccm->db, &err, columns, &rows,
		   "SELECT d.mac_addr, m.dm_name FROM Device d JOIN DeviceModel m ON m.dm_id = d.dm_id WHERE d.is_sim = 1"
		   " AND d.status = 'offline' AND NOT EXISTS (SELECT 1 FROM DeviceObject b WHERE b.d_id = d.d_id)") < 0)
		log_error("sim.failed", KV("why", err.text));
	json_array_foreach (rows, i, row) {
		const char *id = json_string_value(json_object_get(row, "id"));
		struct standin *o = s->all;
		while (o != NULL && strcmp(o->id, id) != 0)
			o = o->next;
		if (o == NULL && s->n < s->max) /* taken over, and then left as any other */
			o = start(s, 0, 0, id, json_array(), json_pack("{s:O, s:b}", "model", json_object_get(row, "model"), "is_sim", true));
		if (o != NULL && o->do_id == 0)
			o->wanted = true; /* until it is registered: on_push */
	}
}

void sim_begin(struct ccm *ccm)
{
	struct sim *s = ccm->sim;
	struct err err = {0};
	json_auto_t *objects = NULL;
	if (!is_ours(s))
		return;
	s->lost = false;
	if (q_rows(ccm->db, &err, object_columns, &objects, OBJECTS) < 0) {
		log_error("sim.failed", KV("why", err.text));
		s->lost = true;
		return;
	}
	for (struct standin *o = s->all; o != NULL; o = o->next)
		o->wanted = false;
	sweep(s);
	want_all(s, objects);
}

static void on_push(void *arg)
{
	struct sim *s = arg;
	if (s->lost)
		sim_begin(s->ccm);
	for (struct standin *o = s->all, *next; o != NULL; o = next) {
		next = o->next;
		if (o->do_id == 0 && sim_device_is_online(o->device))
			leave(o);
		else if (!o->leaving)
			sim_device_push(o->device);
	}
	if (s->refused && s->n < s->max) {
		s->refused = false;
		sim_begin(s->ccm);
	}
}

/* ---- life ---- */

static size_t room(void)
{
	struct rlimit limit;
	return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur / SHARE < DEVICES_MAX ? limit.rlim_cur / SHARE : DEVICES_MAX;
}

int sim_new(struct ccm *ccm, struct sim **ret, struct err *err)
{
	const char *bind_address = ccm->settings->core.bind;
	struct sim *s = calloc(1, sizeof(*s));
	if (s == NULL)
		return err_set(err, ERR_NOMEM, "sim");
	s->ccm = ccm;
	s->max = room();
	if (strcmp(bind_address, "0.0.0.0") == 0 || strcmp(bind_address, "::") == 0)
		bind_address = "localhost"; /* csm is there, too */
	snprintf(s->url, sizeof(s->url), strchr(bind_address, ':') != NULL ? "http://[%.200s]:%" PRId64 : "http://%.200s:%" PRId64,
		 bind_address, ccm->settings->core.http_port);
	int rc = fetch_new(ccm->loop, &s->fetch, err);
	if (rc == 0)
		rc = loop_add_timer(ccm->loop, PUSH_MS, PUSH_MS, on_push, s, &s->timer, err);
	if (rc < 0) {
		sim_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

struct sim *sim_free(struct sim *s)
{
	if (s == NULL)
		return NULL;
	struct loop *l = s->ccm->loop;
	s->stopping = true;
	for (struct standin *o = s->all, *next; o != NULL; o = next) {
		next = o->next;
		leave(o);
	}
	for (int64_t end = loop_now_ms(l) + GOODBYE_MS; s->all != NULL && loop_now_ms(l) < end;)
		loop_turn(l, 50);
	while (s->all != NULL) {
		struct standin *o = s->all;
		s->all = o->next;
		free_standin(o);
	}
	loop_remove(l, s->timer);
	fetch_free(s->fetch);
	free(s);
	return NULL;
}
