#include "agent/device/modbus/master.h"
#include "agent/device/event.h"
#include "agent/device/modbus/master_int.h"
#include "agent/device/modbus/master_type.h"
#include "agent/device/modbus/modbus_points.h"
#include "common/err.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const link_names[] = {
	[LINK_DISCONNECTED] = "DISCONNECTED",
	[LINK_CONNECTING] = "CONNECTING",
	[LINK_CONNECTED] = "CONNECTED",
};
static const char *const remote_status_names[] = {
	[REMOTE_UNKNOWN] = "",
	[REMOTE_DISABLED] = "DISABLED",
	[REMOTE_CONNECTING] = "CONNECTING",
	[REMOTE_CONNECTED] = "CONNECTED",
	[REMOTE_DISCONNECTED] = "DISCONNECTED",
};

/* ---- what is told ---- */

/* The reference cannot read other codes than these; a device that sends them works on. */
const char *master_exception(uint8_t code)
{
	static const char *const names[] = {
		[MODBUS_ILLEGAL_FUNCTION] = "INVALID_FUNCTION_CODE",
		[MODBUS_ILLEGAL_DATA_ADDRESS] = "INVALID_DATA_ADDRESS",
		[MODBUS_ILLEGAL_DATA_VALUE] = "INVALID_DATA_VALUE",
		[MODBUS_SERVER_FAILURE] = "FUNCTION_ERROR",
		[MODBUS_GATEWAY_PATH_UNAVAILABLE] = "GATEWAY_PATH_UNAVAILABLE",
		[MODBUS_GATEWAY_TARGET_FAILED] = "GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND",
	};

	return code < ARRAY_LEN(names) && names[code] != NULL ? names[code] : "FUNCTION_ERROR";
}

json_t *master_result(const char *text)
{
	json_t *payload = json_object();

	if (payload != NULL &&
	    json_object_set_new_nocheck(payload, "result", json_string(text)) < 0) {
		json_decref(payload);
		payload = NULL;
	}
	return payload;
}

static int emit(struct master *m, struct emission *e)
{
	if (e->payload == NULL) {
		if (log_allowed("modbus_master.no_memory", port_name(m->port)))
			log_error("modbus_master.no_memory", KV("device", port_name(m->port)));
		return ERR_NOMEM;
	}
	port_emit(m->port, e);
	return 0;
}

int master_emit(const struct remote *r, const char *what, uint32_t point, json_t *payload,
		const struct value *v)
{
	const char *path[] = {"remote_device", r->id, what,
			      port_point_name(r->master->port, point)};
	struct emission e = {
		.path = path,
		.n_path = ARRAY_LEN(path),
		.payload = payload,
		.retain = v != NULL, /* a value is a state, what came of a write is not */
		.point = v != NULL ? (int)point : -1,
	};

	if (v != NULL)
		e.value = *v;
	return emit(r->master, &e);
}

void remote_set_status(struct remote *r, enum remote_status status)
{
	const char *path[] = {"remote_device", r->id, "status"};
	struct emission e = {.path = path, .n_path = ARRAY_LEN(path), .retain = true, .point = -1};

	if (status == r->status)
		return;
	e.payload = json_string(remote_status_names[status]);
	if (emit(r->master, &e) == 0)
		r->status = status;
}

/* ---- the connection ---- */

static void on_state(void *arg, enum link_state state)
{
	static const char *const path[] = {"status"};
	struct master *m = arg;
	struct emission e = {.path = path, .n_path = 1, .retain = true, .point = -1};

	m->link = state;
	for (size_t i = 0; state != LINK_CONNECTED && i < m->n_remotes; i++)
		reader_stop(&m->remotes[i]);
	port_link(m->port, state, 0);
	e.payload = json_string(link_names[state]);
	emit(m, &e);
	for (size_t i = 0; state == LINK_CONNECTED && i < m->n_remotes; i++) {
		if (m->remotes[i].enabled)
			reader_start(&m->remotes[i]);
		else
			remote_set_status(&m->remotes[i], REMOTE_DISABLED);
	}
}

static void set_enabled(struct remote *r, bool enabled)
{
	if (enabled == r->enabled)
		return;
	r->enabled = enabled;
	if (r->master->link != LINK_CONNECTED)
		return;
	if (enabled)
		reader_start(r);
	else
		reader_stop(r);
}

/* ---- events ---- */

static int on_enable(struct remote *r, const char *const *path, const json_t *payload,
		     struct err *err)
{
	(void)path;
	if (!json_is_boolean(payload))
		return err_set(err, ERR_SCHEMA, "enable is neither true nor false");
	set_enabled(r, json_is_true(payload));
	return 0;
}

static int on_write(struct remote *r, const char *const *path, const json_t *payload,
		    struct err *err)
{
	return jobs_on_event(r, path[3], payload, err);
}

/* What follows `remote_device/<id>`. */
static const struct {
	const char *name;
	size_t n_path;
	int (*fn)(struct remote *r, const char *const *path, const json_t *payload,
		  struct err *err);
} events[] = {
	{"enable", 3, on_enable},
	{"write", 4, on_write},
};

static struct remote *find_remote(struct master *m, const char *id)
{
	uint64_t unit;

	for (size_t i = 0; event_segment_number(id, UINT8_MAX, &unit) && i < m->n_remotes; i++)
		if (m->remotes[i].unit == unit)
			return &m->remotes[i];
	return NULL;
}

static int master_event(void *instance, const char *const *path, size_t n_path,
			const json_t *payload, struct err *err)
{
	struct remote *r;

	if (n_path < 3 || strcmp(path[0], "remote_device") != 0)
		return err_set(err, ERR_NOENT, "no event of a Modbus master");
	r = find_remote(instance, path[1]);
	if (r == NULL)
		return err_set(err, ERR_NOENT, "there is no remote device '%s'", path[1]);
	for (size_t i = 0; i < ARRAY_LEN(events); i++)
		if (n_path == events[i].n_path && strcmp(path[2], events[i].name) == 0)
			return events[i].fn(r, path, payload, err);
	return err_set(err, ERR_NOENT, "remote device %s: no event of a Modbus master", path[1]);
}

/* States from before: whether remote devices are enabled. */
static void on_kept(void *arg, const char *const *path, size_t n_path, const json_t *payload)
{
	if (n_path == 3 && strcmp(path[2], "enable") == 0)
		master_event(arg, path, n_path, payload, NULL);
}

/* ---- the instance ---- */

static int64_t ms_of(const json_t *seconds)
{
	return (int64_t)(json_number_value(seconds) * 1000 + 0.5);
}

/* FNV-1a: names that differ little differ much. */
static uint32_t hash(const char *device, uint8_t unit)
{
	uint32_t h = 2166136261;

	for (const char *c = device; *c != '\0'; c++)
		h = (h ^ (uint8_t)*c) * 16777619;
	return (h ^ unit) * 16777619;
}

static int plan_remote(struct remote *r, const json_t *conf, struct err *err)
{
	CLEANUP(freep)
	struct plan_item *items = calloc(r->n + 1, sizeof(*items));
	struct master_point *points = &r->master->points[r->first];
	json_t *point;
	size_t i, n = 0;

	if (items == NULL)
		return err_set(err, ERR_NOMEM, "the points of remote device %s", r->id);
	json_array_foreach (json_object_get(conf, "data"), i, point) {
		const json_t *interval = json_object_get(point, "interval");

		points[i].remote = (uint16_t)(r - r->master->remotes);
		modbus_bits_parse(point, &points[i].bits);
		if (json_is_number(interval))
			items[n++] = (struct plan_item){.point = r->first + (uint32_t)i,
							.interval_ms = (uint32_t)ms_of(interval),
							.bits = &points[i].bits};
	}
	return plan_new(items, n, (unsigned)json_integer_value(json_object_get(conf, "merge_gap")),
			&r->plan, err);
}

static int make_remote(struct remote *r, const json_t *conf, struct err *err)
{
	int rc;

	r->unit = (uint8_t)json_integer_value(json_object_get(conf, "device_id"));
	r->enabled = json_is_true(json_object_get(conf, "enabled"));
	snprintf(r->id, sizeof(r->id), "%u", r->unit);
	r->phase = hash(port_name(r->master->port), r->unit);
	r->timeout_poll_delay_ms = ms_of(json_object_get(conf, "timeout_poll_delay"));
	rc = plan_remote(r, conf, err);
	return rc < 0 ? rc
		      : loop_add_timer(r->master->loop, -1, 0, reader_on_timer, r, &r->timer, err);
}

static void master_free(struct master *m)
{
	for (size_t i = 0; i < m->n_remotes; i++) {
		loop_remove(m->loop, m->remotes[i].timer);
		plan_done(&m->remotes[i].plan);
	}
	free(m->remotes);
	free(m->points);
	free(m);
}

static int make_remotes(struct master *m, const json_t *list, struct err *err)
{
	const json_t *conf;
	uint32_t first = 0;
	size_t i;
	int rc = 0;

	json_array_foreach (list, i, conf)
		m->n_points += json_array_size(json_object_get(conf, "data"));
	m->points = calloc(m->n_points + 1, sizeof(*m->points));
	m->remotes = calloc(json_array_size(list) + 1, sizeof(*m->remotes));
	if (m->points == NULL || m->remotes == NULL)
		return err_set(err, ERR_NOMEM, "%zu points", m->n_points);
	m->n_remotes = json_array_size(list);
	for (i = 0; rc == 0 && i < m->n_remotes; i++) {
		struct remote *r = &m->remotes[i];

		conf = json_array_get(list, i);
		r->master = m;
		r->first = first;
		r->n = (uint32_t)json_array_size(json_object_get(conf, "data"));
		first += r->n;
		rc = make_remote(r, conf, err);
	}
	return rc;
}

static int master_create(struct port *p, const json_t *conf, void **ret, struct err *err)
{
	static const struct modbus_client_handlers handlers = {.on_state = on_state};
	struct master *m = calloc(1, sizeof(*m));
	int rc;

	if (m == NULL)
		return err_set(err, ERR_NOMEM, "a Modbus master");
	m->port = p;
	m->loop = port_loop(p);
	rc = make_remotes(m, json_object_get(conf, "remote_devices"), err);
	if (rc == 0) {
		port_each_state(p, on_kept, m);
		rc = modbus_client_new(m->loop, json_object_get(conf, "connection"), &handlers, m,
				       &m->client, err);
	}
	if (rc < 0) {
		master_free(m);
		return rc;
	}
	*ret = m;
	port_created(p);
	return 0;
}

static void master_close(void *instance)
{
	struct master *m = instance;

	m->closing = true;
	for (size_t i = 0; i < m->n_remotes; i++)
		jobs_drop(&m->remotes[i]);
	m->client = modbus_client_free(m->client);
	master_free(m);
}

static void master_write(void *instance, unsigned point, const struct value *v,
			 struct port_call *call)
{
	jobs_write(instance, point, v, call);
}

static void master_read(void *instance, unsigned point, struct port_call *call)
{
	jobs_read(instance, point, call);
}

/* ---- for people ---- */

static json_t *tell_remote(const struct remote *r)
{
	return json_pack("{s:i, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "device_id", r->unit,
			 "enabled", r->enabled, "status", remote_status_names[r->status], "points",
			 (json_int_t)r->n, "groups", (json_int_t)r->plan.n_groups, "polls",
			 (json_int_t)r->polls, "missed", (json_int_t)r->missed, "timeouts",
			 (json_int_t)r->timeouts, "splits", (json_int_t)r->splits, "waiting",
			 (json_int_t)r->n_jobs);
}

static json_t *master_status(const void *instance)
{
	const struct master *m = instance;
	struct modbus_client_stats s;
	json_t *remotes = json_array();

	for (size_t i = 0; i < m->n_remotes; i++)
		if (json_array_append_new(remotes, tell_remote(&m->remotes[i])) < 0) {
			json_decref(remotes);
			return NULL;
		}
	modbus_client_get_stats(m->client, &s);
	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "link",
			 link_names[m->link], "why", modbus_client_why(m->client), "connects",
			 (json_int_t)s.connects, "requests", (json_int_t)s.requests, "answers",
			 (json_int_t)s.answers, "exceptions", (json_int_t)s.exceptions, "timeouts",
			 (json_int_t)s.timeouts, "retries", (json_int_t)s.retries, "discarded",
			 (json_int_t)s.discarded, "waiting", (json_int_t)s.waiting,
			 "remote_devices", remotes);
}

static const struct driver_ops ops = {
	.create = master_create,
	.close = master_close,
	.event = master_event,
	.write = master_write,
	.read = master_read,
	.status = master_status,
};

const struct device_type modbus_master_type = {
	.name = "modbus_master",
	.module = "modbus.master",
	.title = "Modbus master: polls and writes devices over TCP and serial lines",
	.help = master_help,
	.example = master_example,
	.fields = master_fields,
	.check = master_check,
	.points = master_points,
	.ops = &ops,
};
