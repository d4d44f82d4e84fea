#include "csm/registry.h"

#include "common/log.h"
#include "common/map.h"
#include "common/shortage.h"
#include "common/util.h"
#include "csm/cleanup.h"
#include "csm/links.h"
#include "csm/listeners.h"
#include "csm/names.h"
#include "csm/store.h"
#include "csm/suspensions.h"
#include <stdio.h>
#include <string.h>

struct registry {
	struct csm *csm;
	struct map *devices; /* id -> struct device */
	struct names *names;
	size_t online;
};

static struct device *device_free(struct device *d)
{
	if (d == NULL)
		return NULL;
	loop_remove(d->csm->loop, d->expiry);
	profile_done(&d->info);
	free(d);
	return NULL;
}

static void free_device(void *value)
{
	device_free(value);
}

static void expire(void *arg)
{
	struct device *d = arg;
	registry_remove(d->csm->registry, d, "expired", NULL);
}

static struct device *device_new(struct csm *csm, const struct uuid_text *id, struct err *err)
{
	struct device *d = calloc(1, sizeof(*d));
	if (d == NULL) {
		err_set(err, ERR_NOMEM, "device %s", id->s);
		return NULL;
	}
	d->id = *id;
	d->csm = csm;
	if (loop_add_timer(csm->loop, -1, 0, expire, d, &d->expiry, err) < 0)
		return device_free(d);
	return d;
}

/* Until an offline device expires. */
static double left_s(const struct device *d)
{
	return d->state_since + (double)d->csm->settings->core.da_expiration_s - csm_now();
}

static void arm_expiry(struct device *d)
{
	double in_s = left_s(d);
	loop_arm(d->csm->loop, d->expiry, in_s > 0 ? (int64_t)(in_s * 1000) + 1 : 0);
}

static void disarm_expiry(struct device *d)
{
	loop_arm(d->csm->loop, d->expiry, -1);
}

struct device *registry_find(const struct registry *r, const char *id)
{
	return map_find(r->devices, id);
}

size_t registry_count(const struct registry *r)
{
	return map_count(r->devices);
}

size_t registry_online(const struct registry *r)
{
	return r->online;
}

/* ---- store ---- */

static void save(struct registry *r, const struct device *d)
{
	CLEANUP(freep) char *protos = shortage_dumps(d->info.accept_protos);
	CLEANUP(freep) char *idf = d->info.idf_list ? shortage_dumps(d->info.idf_list) : NULL;
	CLEANUP(freep) char *odf = d->info.odf_list ? shortage_dumps(d->info.odf_list) : NULL;
	CLEANUP(freep) char *profile = shortage_dumps(d->info.profile);
	if (protos == NULL || profile == NULL || (d->info.idf_list != NULL && idf == NULL) ||
	    (d->info.odf_list != NULL && odf == NULL)) {
		store_failed(r->csm->store,
			     &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
		return;
	}
	store_exec(r->csm->store,
		   "INSERT INTO device (id, rev, name, register_time, accept_protos, idf_list, odf_list,"
		   " profile, online, state_since) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
		   " ON CONFLICT (id) DO UPDATE SET rev = excluded.rev, name = excluded.name,"
		   " register_time = excluded.register_time, accept_protos = excluded.accept_protos,"
		   " idf_list = excluded.idf_list, odf_list = excluded.odf_list,"
		   " profile = excluded.profile, online = excluded.online,"
		   " state_since = excluded.state_since",
		   DB_V_TEXT(d->id.s), DB_V_TEXT(d->rev.s), DB_V_TEXT(d->info.name),
		   DB_V_REAL(d->register_time), DB_V_TEXT(protos), DB_V_TEXT(idf), DB_V_TEXT(odf),
		   DB_V_TEXT(profile), DB_V_INT(d->online), DB_V_REAL(d->state_since));
}

struct loading {
	struct registry *r;
	struct err *err;
};

static json_t *load_json(const struct db_value *v)
{
	return v->type == DB_TEXT ? json_loads(v->text, JSON_DECODE_ANY, NULL) : NULL;
}

static int load_row(void *arg, const struct db_value *v, size_t n)
{
	struct loading *l = arg;
	struct uuid_text id;
	(void)n;
	if (v[0].type != DB_TEXT || !uuid_parse(v[0].text, strlen(v[0].text), &id))
		return err_set(l->err, ERR_DB, "store: a device has a bad id");
	struct device *d = device_new(l->r->csm, &id, l->err);
	if (d == NULL)
		return ERR_NOMEM;
	snprintf(d->rev.s, sizeof(d->rev.s), "%s", v[1].type == DB_TEXT ? v[1].text : "");
	d->info.name = v[2].type == DB_TEXT ? strdup(v[2].text) : NULL;
	d->register_time = v[3].type == DB_REAL ? v[3].real : (double)v[3].num;
	d->info.accept_protos = load_json(&v[4]);
	d->info.idf_list = load_json(&v[5]);
	d->info.odf_list = load_json(&v[6]);
	d->info.profile = load_json(&v[7]);
	d->online = v[8].type == DB_INT && v[8].num != 0;
	d->state_since = v[9].type == DB_REAL ? v[9].real : (double)v[9].num;
	if (d->info.name == NULL || !json_is_array(d->info.accept_protos) ||
	    profile_model(&d->info) == NULL || strlen(d->rev.s) != UUID_LEN ||
	    (v[5].type == DB_TEXT && !json_is_array(d->info.idf_list)) ||
	    (v[6].type == DB_TEXT && !json_is_array(d->info.odf_list))) {
		device_free(d);
		return err_set(l->err, ERR_DB, "store: device %s does not read back", id.s);
	}
	if (map_add(l->r->devices, d->id.s, d) < 0 || names_use(l->r->names, d->info.name) < 0)
		return err_set(l->err, ERR_NOMEM, "loading devices");
	l->r->online += d->online;
	if (!d->online)
		arm_expiry(d);
	return 0;
}

int registry_new(struct csm *csm, struct registry **ret, struct err *err)
{
	struct registry *r = calloc(1, sizeof(*r));
	if (r == NULL)
		return err_set(err, ERR_NOMEM, "registry");
	r->csm = csm;
	r->devices = map_new();
	r->names = names_new();
	struct loading l = {.r = r, .err = err};
	int rc = r->devices != NULL && r->names != NULL ? 0 : err_set(err, ERR_NOMEM, "registry");
	if (rc == 0)
		rc = db_run(store_db(csm->store), err, load_row, &l,
			    "SELECT id, rev, name, register_time, accept_protos, idf_list, odf_list,"
			    " profile, online, state_since FROM device");
	if (rc < 0) {
		registry_free(r);
		return rc;
	}
	*ret = r;
	return 0;
}

struct registry *registry_free(struct registry *r)
{
	if (r == NULL)
		return NULL;
	map_free(r->devices, free_device);
	names_free(r->names);
	free(r);
	return NULL;
}

/* ---- changes and how to undo them ---- */

struct change {
	struct device *device;
	struct profile info; /* as it was */
	struct uuid_text rev;
	double since; /* its state_since, as it was */
	bool again;   /* its time began anew */
	struct trace_text trace;
	bool is_new;
	bool new_rev; /* with a new revision its old `online` counts no more: it says so again, or it is not there */
};

static struct change *change_new(struct device *d, bool is_new, const char *trace)
{
	struct change *c = calloc(1, sizeof(*c));
	if (c == NULL)
		return NULL;
	c->device = d;
	c->rev = d->rev;
	c->since = d->state_since;
	c->trace = trace_of(trace);
	c->is_new = is_new;
	return c;
}

static void change_commit(void *arg, const char *why)
{
	struct change *c = arg;
	struct device *d = c->device;
	bool again = !c->is_new;
	(void)why;
	if (!c->is_new)
		names_release(d->csm->registry->names, c->info.name);
	if (c->is_new || c->new_rev)
		log_info("device.registered", KV("device", d->id.s), KV("name", d->info.name),
			 KV("again", again), KV("trace", c->trace.s));
	else
		log_info("device.changed", KV("device", d->id.s), KV("trace", c->trace.s));
	if (!c->is_new && !d->removed) {
		if (c->new_rev && d->online)
			registry_set_online(d->csm->registry, d, false);
		links_on_profile(d->csm->links, d, &c->info);
	}
	profile_done(&c->info);
	free(c);
}

static void change_rollback(void *arg, const char *why)
{
	struct change *c = arg;
	struct device *d = c->device;
	struct registry *r = d->csm->registry;
	(void)why;
	names_release(r->names, d->info.name);
	if (c->is_new) {
		map_remove(r->devices, d->id.s);
		device_free(d);
	} else {
		profile_done(&d->info);
		d->info = c->info;
		d->rev = c->rev;
		if (c->again && !d->online) {
			d->state_since = c->since;
			arm_expiry(d);
		}
	}
	free(c);
}

/* The fields that differ, with the id, for a `changed` announcement. */
static json_t *difference(const struct device *d, const struct profile *old, bool new_rev)
{
	json_t *diff = json_pack("{s:s}", "id", d->id.s), *value;
	json_auto_t *was = profile_to_json(old), *is = profile_to_json(&d->info);
	const char *key;
	if (diff == NULL || was == NULL || is == NULL) {
		json_decref(diff);
		return NULL;
	}
	if (new_rev)
		json_object_set_new(diff, "rev", json_string(d->rev.s));
	json_object_foreach (is, key, value)
		if (!json_equal(value, json_object_get(was, key)))
			json_object_set(diff, key, value);
	json_object_foreach (was, key, value)
		if (json_object_get(is, key) == NULL)
			json_object_set_new(diff, key, json_null());
	return diff;
}

static int fill_name(struct registry *r, const struct profile *old, struct profile *p, struct err *err)
{
	char made[512];
	if (p->name == NULL && old != NULL)
		p->name = strdup(old->name);
	else if (p->name == NULL && names_make(r->names, profile_model(p), made, sizeof(made)) == 0)
		p->name = strdup(made);
	return p->name != NULL ? 0 : err_set(err, ERR_NOMEM, "name of the device");
}

static int put_new(struct registry *r, const struct uuid_text *id, struct profile *p, const char *trace,
		   struct device **ret, struct err *err)
{
	struct device *d = device_new(r->csm, id, err);
	struct change *c = d != NULL ? change_new(d, true, trace) : NULL;
	if (c == NULL || names_use(r->names, p->name) < 0) {
		free(c);
		device_free(d);
		return err_set(err, ERR_NOMEM, "device %s", id->s);
	}
	if (map_add(r->devices, d->id.s, d) < 0) {
		names_release(r->names, p->name);
		free(c);
		device_free(d);
		return err_set(err, ERR_NOMEM, "device %s", id->s);
	}
	d->info = *p;
	*p = (struct profile){0};
	d->rev = uuid4();
	d->register_time = d->state_since = csm_now();
	arm_expiry(d);
	save(r, d);
	cleanup_cancel(r->csm, d->id.s);
	store_then(r->csm->store, change_commit, change_rollback, c);
	listeners_announce(r->csm, "register", device_to_json(d));
	*ret = d;
	return 0;
}

static int replace(struct registry *r, struct device *d, struct profile *p, bool new_rev,
		   const char *trace, struct err *err)
{
	struct change *c = change_new(d, false, trace);
	if (c == NULL || names_use(r->names, p->name) < 0) {
		free(c);
		return err_set(err, ERR_NOMEM, "device %s", d->id.s);
	}
	c->info = d->info;
	c->new_rev = new_rev;
	d->info = *p;
	*p = (struct profile){0};
	if (new_rev)
		d->rev = uuid4();
	if (new_rev && !d->online) {
		/* it was here just now: its time begins anew, as after a first registration */
		c->again = true;
		d->state_since = csm_now();
		arm_expiry(d);
	}
	json_t *diff = difference(d, &c->info, new_rev);
	save(r, d);
	store_then(r->csm->store, change_commit, change_rollback, c);
	listeners_announce(r->csm, "changed", diff);
	return 0;
}

int registry_put(struct registry *r, const struct uuid_text *id, struct profile *p, const char *trace,
		 struct device **ret_dev, struct err *err)
{
	struct device *d = registry_find(r, id->s);
	int rc = fill_name(r, d != NULL ? &d->info : NULL, p, err);
	if (rc < 0)
		return rc;
	if (d == NULL)
		return put_new(r, id, p, trace, ret_dev, err);
	rc = replace(r, d, p, true, trace, err);
	if (rc < 0)
		return rc;
	*ret_dev = d;
	return 0;
}

int registry_update(struct registry *r, struct device *d, struct profile *p, const char *trace,
		    struct err *err)
{
	int rc = fill_name(r, &d->info, p, err);
	return rc < 0 ? rc : replace(r, d, p, false, trace, err);
}

static void removed(void *arg, const char *why)
{
	struct device *d = arg;
	(void)why;
	log_info("device.deregistered", KV("device", d->id.s), KV("name", d->info.name),
		 KV("why", d->why_removed), KV("trace", d->trace.s));
	names_release(d->csm->registry->names, d->info.name);
	links_on_removed(d->csm->links, d->id.s);
	suspensions_on_removed(d->csm->suspensions, d->id.s);
	device_free(d);
}

static void not_removed(void *arg, const char *why)
{
	struct device *d = arg;
	struct registry *r = d->csm->registry;
	(void)why;
	if (map_add(r->devices, d->id.s, d) < 0) {
		/* no memory to keep what the store still has: the next start finds it */
		log_error("device.lost_until_restart", KV("device", d->id.s));
		names_release(r->names, d->info.name);
		device_free(d);
		return;
	}
	d->removed = false;
	r->online += d->online;
	if (!d->online && left_s(d) > 0)
		arm_expiry(d);
	else if (!d->online) /* expired, but the store did not take it: try again in a while */
		loop_arm(d->csm->loop, d->expiry, 60000);
}

void registry_remove(struct registry *r, struct device *d, const char *why, const char *trace)
{
	d->why_removed = why;
	d->trace = trace != NULL ? trace_of(trace) : (struct trace_text){""};
	map_remove(r->devices, d->id.s);
	r->online -= d->online;
	d->removed = true;
	disarm_expiry(d);
	store_exec(r->csm->store, "DELETE FROM device WHERE id = $1", DB_V_TEXT(d->id.s));
	cleanup_schedule(r->csm, d->id.s);
	listeners_announce(r->csm, "deregister", json_string(d->id.s));
	store_then(r->csm->store, removed, not_removed, d);
}

void registry_set_online(struct registry *r, struct device *d, bool online)
{
	if (d->online != online) {
		d->online = online;
		r->online += online ? 1 : -1;
		d->state_since = csm_now();
		if (online)
			log_info("device.online", KV("device", d->id.s), KV("name", d->info.name));
		else
			log_info("device.offline", KV("device", d->id.s), KV("name", d->info.name));
		store_exec(r->csm->store,
			   "UPDATE device SET online = $1, state_since = $2 WHERE id = $3",
			   DB_V_INT(online), DB_V_REAL(d->state_since), DB_V_TEXT(d->id.s));
		listeners_announce_fact(r->csm, online ? "online" : "offline",
					json_string(d->id.s));
		if (online)
			disarm_expiry(d);
		else
			arm_expiry(d);
	}
	if (online) {
		links_on_online(r->csm->links, d->id.s);
		suspensions_on_online(r->csm->suspensions, d->id.s);
	} else {
		links_on_offline(r->csm->links, d->id.s);
		suspensions_on_offline(r->csm->suspensions, d->id.s);
	}
}

/* ---- JSON ---- */

json_t *device_to_json(const struct device *d)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:f, s:O, s:O, s:s}", "id", d->id.s, "name",
			      d->info.name, "rev", d->rev.s, "register_time", d->register_time,
			      "profile", d->info.profile, "accept_protos", d->info.accept_protos,
			      "state", d->online ? "online" : "offline");
	if (o == NULL)
		return NULL;
	json_object_set_new(o, "idf_list",
			    d->info.idf_list ? json_incref(d->info.idf_list) : json_array());
	json_object_set_new(o, "odf_list",
			    d->info.odf_list ? json_incref(d->info.odf_list) : json_array());
	return o;
}

struct visit {
	registry_fn *fn;
	void *arg;
};

static void visit_one(void *arg, const char *id, void *value)
{
	const struct visit *v = arg;
	(void)id;
	v->fn(v->arg, value);
}

void registry_each(const struct registry *r, registry_fn *fn, void *arg)
{
	struct visit v = {.fn = fn, .arg = arg};
	map_each(r->devices, visit_one, &v);
}

static void rearm_one(void *arg, struct device *d)
{
	(void)arg;
	if (!d->online)
		arm_expiry(d);
}

void registry_rearm(const struct registry *r)
{
	registry_each(r, rearm_one, NULL);
}

struct device **registry_all(const struct registry *r)
{
	return (struct device **)map_values(r->devices);
}
