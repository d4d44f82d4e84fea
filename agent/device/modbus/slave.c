#include "agent/device/modbus/slave.h"
#include "agent/device/modbus/modbus_points.h"
#include "agent/device/modbus/slave_int.h"
#include "common/shortage.h"
#include "common/util.h"
#include <math.h>
#include <string.h>

/* Up to so many connections each change is told. Of more, all that changed in a while is told at
 * once: the list is long, and they may come and go faster than it is made. */
#define TELL_EACH_MAX 64
#define TELL_PAUSE_MS 100

/* ---- what is told ---- */

static json_t *address_json(const struct stream_address *a)
{
	return json_pack("{s:s, s:i}", "host", a->host, "port", (int)a->port);
}

static json_t *conn_json(const struct slave_conn *c)
{
	if (c->slave->serial)
		return json_pack("{s:s, s:i}", "type", "SERIAL", "connection_id", (int)c->id);
	return json_pack("{s:s, s:i, s:o, s:o}", "type", "TCP", "connection_id", (int)c->id,
			 "local", address_json(&c->local), "remote", address_json(&c->remote));
}

static void tell_connections(struct slave *s)
{
	static const char *const path[] = {"connections"};
	unsigned long shortages = shortage_count();
	json_t *list = json_array();

	s->tells = false;
	s->told_ms = loop_now_ms(s->loop);
	for (const struct slave_conn *c = s->conns; c != NULL; c = c->next)
		if (c->id != 0)
			json_array_append_new(list, conn_json(c));
	/* A list that lacks one is none: the service counts it as lost. */
	if (json_array_size(list) != s->n_conns || shortage_count() != shortages) {
		json_decref(list);
		list = NULL;
	}
	port_emit(s->port, &(struct emission){.path = path,
					      .n_path = ARRAY_LEN(path),
					      .payload = list,
					      .retain = true,
					      .point = -1});
	port_link(s->port, s->n_conns > 0 ? LINK_CONNECTED : LINK_DISCONNECTED, s->n_conns);
}

static void on_tell(void *arg)
{
	tell_connections(arg);
}

void slave_tell_connections(struct slave *s)
{
	if (s->n_conns <= TELL_EACH_MAX) {
		loop_arm(s->loop, s->tell_timer, -1);
		tell_connections(s);
	} else if (!s->tells) {
		int64_t pause_ms = s->told_ms + TELL_PAUSE_MS - loop_now_ms(s->loop);

		loop_arm(s->loop, s->tell_timer, pause_ms > 0 ? pause_ms : 0);
		s->tells = true;
	}
}

void slave_end(struct slave *s, const char *why)
{
	if (s->ended)
		return;
	s->ended = true;
	port_ended(s->port, why);
}

/* ---- creation ---- */

static int64_t to_ms(const json_t *seconds)
{
	return (int64_t)ceil(json_number_value(seconds) * 1000);
}

static void release(struct slave *s)
{
	slave_close(s);
	slave_free_writes(s);
	turns_free(s->turns);
	loop_remove(s->loop, s->tell_timer);
	modbus_cache_free(s->cache);
	map_free(s->by_name, NULL);
	free(s->manual_ack);
	json_decref(s->transport);
	free(s);
}

static int add_points(struct slave *s, const json_t *conf, struct err *err)
{
	const json_t *data = json_object_get(conf, "data"), *point;
	bool manual = json_is_true(json_object_get(conf, "manual_ack"));
	size_t i;

	s->manual_ack = calloc(json_array_size(data) + 1, sizeof(*s->manual_ack));
	s->by_name = map_new();
	if (s->manual_ack == NULL || s->by_name == NULL)
		return err_set(err, ERR_NOMEM, "points");
	json_array_foreach (data, i, point) {
		const json_t *own = json_object_get(point, "manual_ack");
		json_int_t device_id = json_integer_value(json_object_get(point, "device_id"));
		struct modbus_bits bits;

		modbus_bits_parse(point, &bits);
		int rc = modbus_cache_add(s->cache, (uint8_t)device_id, &bits, err);
		if (rc < 0)
			return rc;
		s->manual_ack[i] = json_is_boolean(own) ? json_is_true(own) : manual;
		rc = map_add(s->by_name, port_point_name(s->port, (unsigned)i), &s->manual_ack[i]);
		if (rc < 0)
			return err_set(err, rc, "points");
	}
	return 0;
}

static void read_conf(struct slave *s, const json_t *conf)
{
	const json_t *max, *keep;

	s->transport = json_incref(json_object_get(conf, "transport"));
	s->serial = strcmp(json_string_value(json_object_get(s->transport, "type")), "SERIAL") == 0;
	s->framing = modbus_slave_framing(conf);
	s->remote_hosts = json_object_get(s->transport, "remote_hosts");
	max = json_object_get(s->transport, "max_connections");
	s->max_connections = json_is_integer(max) ? json_integer_value(max) : -1;
	s->response_ms = to_ms(json_object_get(s->transport, "response_timeout"));
	keep = json_object_get(s->transport, "keep_alive_timeout");
	s->keep_ms = json_is_number(keep) ? to_ms(keep) : -1;
}

/* `system/data/<name>`. The only way the view of events has into the cache. */
static int take_data(struct slave *s, const char *name, const json_t *payload, struct err *err)
{
	const bool *p = map_find(s->by_name, name);
	uint64_t value;

	if (p == NULL)
		return err_set(err, ERR_NOENT, "data: no point '%.80s'", name);
	unsigned point = (unsigned)(p - s->manual_ack);
	int rc = modbus_value_parse(json_object_get(payload, "value"),
				    modbus_cache_bits(s->cache, point), &value, err);
	if (rc < 0)
		return err_wrap(err, rc, "data: %.80s", name);
	modbus_cache_set(s->cache, point, value);
	return 0;
}

/* What is stored and does not fit any more is as if it were not there. */
static void on_state(void *arg, const char *const *path, size_t n_path, const json_t *payload)
{
	if (n_path == 2 && strcmp(path[0], "data") == 0)
		(void)take_data(arg, path[1], payload, NULL);
}

static int slave_create(struct port *port, const json_t *conf, void **ret, struct err *err)
{
	struct slave *s = calloc(1, sizeof(*s));

	if (s == NULL || (s->cache = modbus_cache_new()) == NULL) {
		free(s);
		return err_set(err, ERR_NOMEM, "modbus slave");
	}
	s->port = port;
	s->loop = port_loop(port);
	s->last_conn = &s->conns;
	s->instance = uuid4();
	read_conf(s, conf);
	int rc = loop_add_timer(s->loop, -1, 0, on_tell, s, &s->tell_timer, err);
	if (rc == 0)
		rc = turns_new(s->loop, &s->turns, err);
	if (rc == 0)
		rc = add_points(s, conf, err);
	if (rc == 0) {
		port_each_state(port, on_state, s);
		slave_tell_connections(s);
		rc = slave_open(s, err);
	}
	if (rc < 0) {
		release(s);
		return rc;
	}
	*ret = s;
	port_created(port);
	return 0;
}

static void slave_stop(void *instance)
{
	struct slave *s = instance;
	bool any = s->n_conns > 0;

	slave_close(s);
	if (any)
		slave_tell_connections(s);
	release(s);
}

/* ---- operations ---- */

static int slave_event(void *instance, const char *const *path, size_t n_path,
		       const json_t *payload, struct err *err)
{
	if (n_path == 2 && strcmp(path[0], "data") == 0)
		return take_data(instance, path[1], payload, err);
	if (n_path == 1 && strcmp(path[0], "write") == 0)
		return slave_write_response(instance, payload, err);
	return err_set(err, ERR_NOENT, "no event of a modbus slave");
}

static void slave_write_point(void *instance, unsigned point, const struct value *v,
			      struct port_call *call)
{
	struct slave *s = instance;

	if (v->kind != VALUE_UINT || v->u > modbus_bits_max(modbus_cache_bits(s->cache, point))) {
		port_written(call, ACK_BAD_VALUE, NULL);
		return;
	}
	modbus_cache_set(s->cache, point, v->u);
	port_written(call, ACK_OK, NULL);
}

static void slave_read_point(void *instance, unsigned point, struct port_call *call)
{
	const struct slave *s = instance;
	struct value v = {.kind = VALUE_UINT, .u = modbus_cache_get(s->cache, point)};

	port_was_read(call, &v, NULL);
}

static json_t *slave_status(const void *instance)
{
	const struct slave *s = instance;
	size_t waiting = 0;

	for (const struct slave_conn *c = s->conns; c != NULL; c = c->next)
		waiting += c->write != NULL;
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "connections",
			 (json_int_t)s->n_conns, "refused", (json_int_t)s->refused, "requests",
			 (json_int_t)s->requests, "exceptions", (json_int_t)s->exceptions,
			 "garbage", (json_int_t)s->garbage, "writes", (json_int_t)s->writes_told,
			 "writes_waiting", (json_int_t)waiting, "writes_timed_out",
			 (json_int_t)s->writes_late);
}

static const struct driver_ops ops = {
	.create = slave_create,
	.close = slave_stop,
	.event = slave_event,
	.write = slave_write_point,
	.read = slave_read_point,
	.status = slave_status,
};

const struct device_type modbus_slave_type = {
	.name = "modbus_slave",
	.module = "modbus.slave",
	.title = "Modbus slave: masters read and write its points",
	.help = modbus_slave_help,
	.example = modbus_slave_example,
	.fields = modbus_slave_fields,
	.check = modbus_slave_check,
	.points = modbus_slave_points,
	.ops = &ops,
};
