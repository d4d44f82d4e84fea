#include "agent/device/modbus/master_type.h"
#include "agent/device/modbus/client.h"
#include "agent/device/modbus/modbus_points.h"
#include "agent/device/modbus/plan.h"
#include "common/map.h"
#include "common/util.h"
#include <stdlib.h>
#include <string.h>

#define INTERVAL_MAX_S  2592000 /* 30 days */
#define UNIT_MAX        255
#define SERIAL_UNIT_MAX 247

const char master_help[] =
	"A Modbus master has one connection and any number of remote devices (units) behind it: "
	"one "
	"on a TCP connection as a rule, several on a serial line. The framing (``modbus_type``) "
	"and "
	"what carries it (``transport``) are chosen apart: RTU over TCP is fine.\n"
	"\n"
	"A point is a string of bits, read as one unsigned integer: bits are taken from "
	"``start_address`` upwards, inside a register from the most significant one down; "
	"``bit_offset`` of them are skipped, the next ``bit_count`` are the value. A point of "
	"whole "
	"registers may have its bytes in another ``order``. A point of a ``QUEUE`` is the first "
	"register of a FIFO queue (function 24). Values of 2^63 and more are strings of digits in "
	"events.\n"
	"\n"
	"A remote device is polled while it is enabled: by the event "
	"``system/remote_device/<device_id>/enable`` (``true`` or ``false``, retained), and as "
	"``enabled`` says until there was one. Writing works in any case, also of points that are "
	"not "
	"polled. Points of one table and one interval are read together, with as few requests as "
	"their places allow: 125 registers or 2000 bits each. Registers that no point has are not "
	"read, unless ``merge_gap`` allows it; a device that refuses them (exception 2) is asked "
	"without them from then on.\n"
	"\n"
	"All points are read at once when polling begins, then each every ``interval``, on a grid "
	"of "
	"times that does not drift and is shifted by a hash of the names of device and remote "
	"device: "
	"many devices that start together are not polled together, and the second poll comes up to "
	"one interval early. A poll that is late is not made up for, but counted (``missed``).\n"
	"\n"
	"Events are ``gateway/status`` of the connection, "
	"``gateway/remote_device/<device_id>/status`` "
	"(``DISABLED``, ``CONNECTING``, ``CONNECTED``, ``DISCONNECTED``), "
	"``gateway/remote_device/<device_id>/read/<name>`` with ``result``, ``value`` and "
	"``cause`` "
	"(``INTERROGATE`` first, then ``CHANGE``; errors are told at every poll), and "
	"``gateway/remote_device/<device_id>/write/<name>`` with ``request_id`` and ``result`` "
	"after "
	"``system/remote_device/<device_id>/write/<name>`` with ``{\"request_id\": ..., \"value\": "
	"...}``. A write that has no connection has no result either. A value that begins or ends "
	"inside a register is written with a mask (function 22) there; steps are done in order, "
	"and "
	"the first that fails ends it.\n"
	"\n"
	"Some adapters of two-wire lines give back what is sent. On a line, and with RTU or ASCII "
	"over "
	"TCP, the first exchange tells whether this one does; if it is to be the write of one coil "
	"or "
	"register, whose answer looks like its echo, a read of the same place is sent before it, "
	"once "
	"for each connection until it is known.\n";

const char master_example[] =
	"{\"type\": \"modbus_master\",\n"
	" \"name\": \"plc1\",\n"
	" \"connection\": {\n"
	"     \"modbus_type\": \"TCP\",\n"
	"     \"transport\": {\"type\": \"TCP\", \"host\": \"127.0.0.1\", \"port\": 1502},\n"
	"     \"connect_timeout\": 5,\n"
	"     \"connect_delay\": 3,\n"
	"     \"request_timeout\": 2,\n"
	"     \"request_delay\": 0,\n"
	"     \"request_retry_immediate_count\": 1,\n"
	"     \"request_retry_delayed_count\": 1,\n"
	"     \"request_retry_delay\": 5},\n"
	" \"remote_devices\": [\n"
	"     {\"device_id\": 1,\n"
	"      \"timeout_poll_delay\": 10,\n"
	"      \"enabled\": true,\n"
	"      \"data\": [\n"
	"          {\"name\": \"temperature\", \"interval\": 1, \"data_type\": "
	"\"INPUT_REGISTER\",\n"
	"           \"start_address\": 0, \"bit_count\": 16, \"signed\": true, \"scale\": 0.1,\n"
	"           \"unit\": \"°C\"},\n"
	"          {\"name\": \"energy\", \"interval\": 10, \"data_type\": \"HOLDING_REGISTER\",\n"
	"           \"start_address\": 100, \"bit_count\": 32, \"order\": \"little_swap\",\n"
	"           \"unit\": \"Wh\"},\n"
	"          {\"name\": \"mode\", \"interval\": 1, \"data_type\": \"HOLDING_REGISTER\",\n"
	"           \"start_address\": 102, \"bit_offset\": 4, \"bit_count\": 3},\n"
	"          {\"name\": \"pump\", \"interval\": 1, \"data_type\": \"COIL\",\n"
	"           \"start_address\": 7, \"bit_count\": 1},\n"
	"          {\"name\": \"reset\", \"interval\": null, \"data_type\": \"COIL\",\n"
	"           \"start_address\": 8, \"bit_count\": 1}]}]}\n";

/* ---- rows ---- */

static const struct field data_fields[] = {
	{.name = "interval",
	 .type = FIELD_NUMBER,
	 .flags = FIELD_NULLABLE,
	 .max = INTERVAL_MAX_S,
	 .unit = "s",
	 .help = "Time from poll to poll; 0: as fast as answers come (1 ms at least, 10 ms after "
		 "an error); null: it is not polled."},
	{.name = "", .type = FIELD_ROWS, .inner = modbus_point_fields},
	{0},
};

static const struct field remote_fields[] = {
	{.name = "device_id",
	 .type = FIELD_INT,
	 .max = UNIT_MAX,
	 .help = "Unit id: 1 to 247, or 0 to 255 if ``modbus_type`` is TCP."},
	{.name = "timeout_poll_delay",
	 .type = FIELD_NUMBER,
	 .max = INTERVAL_MAX_S,
	 .unit = "s",
	 .help = "Pause after a poll that was not answered; 10 ms at least."},
	{.name = "enabled",
	 .type = FIELD_BOOL,
	 .def = "false",
	 .help = "Whether it is polled as long as no event has said."},
	{.name = "merge_gap",
	 .type = FIELD_INT,
	 .max = MODBUS_READ_BITS_MAX - 2,
	 .def = "0",
	 .help = "Up to so many registers or bits that no point has are read along if that saves a "
		 "request."},
	{.name = "data",
	 .type = FIELD_LIST,
	 .item = FIELD_OBJECT,
	 .inner = data_fields,
	 .help = "Points."},
	{0},
};

const struct field master_fields[] = {
	{.name = "connection",
	 .type = FIELD_OBJECT,
	 .inner = modbus_connection_fields,
	 .help = "How the remote devices are reached."},
	{.name = "remote_devices",
	 .type = FIELD_LIST,
	 .item = FIELD_OBJECT,
	 .inner = remote_fields,
	 .help = "Units behind the connection."},
	{0},
};

/* ---- checks ---- */

static void check_point(const json_t *point, struct problems *p)
{
	struct modbus_bits b;

	if (!modbus_bits_check(point, p))
		return;
	modbus_bits_parse(point, &b);
	if (b.type == MODBUS_QUEUE && b.offset + b.count > 16)
		problem_add(p, "bit_count", "a queue's point is in its first register, 16 bits");
	else if (modbus_bits_cells(&b) > plan_limit(b.type))
		problem_add(p, "bit_offset", "no request reads more than %u from start_address on",
			    plan_limit(b.type));
}

static void check_points(const json_t *data, struct problems *p)
{
	struct map *names = map_new();
	json_t *point;
	size_t i;

	json_array_foreach (data, i, point) {
		const char *name = json_string_value(json_object_get(point, "name"));

		problem_enter(p, "data[%zu]", i);
		if (names == NULL || map_add(names, name, point) == ERR_NOMEM)
			problem_add(p, "", "out of memory");
		else if (map_find(names, name) != point)
			problem_add(p, "name", "there is another '%s' in this remote device", name);
		check_point(point, p);
		problem_leave(p);
	}
	map_free(names, NULL);
}

void master_check(const json_t *conf, struct problems *p)
{
	const json_t *connection = json_object_get(conf, "connection"), *remote;
	const char *framing = json_string_value(json_object_get(connection, "modbus_type"));
	bool serial = framing == NULL || strcmp(framing, "TCP") != 0;
	bool used[UNIT_MAX + 1] = {false};
	size_t i;

	problem_enter(p, "connection");
	modbus_connection_check(connection, p);
	problem_leave(p);
	json_array_foreach (json_object_get(conf, "remote_devices"), i, remote) {
		json_int_t unit = json_integer_value(json_object_get(remote, "device_id"));

		problem_enter(p, "remote_devices[%zu]", i);
		if (serial && (unit < 1 || unit > SERIAL_UNIT_MAX))
			problem_add(p, "device_id", "with %s it is 1 to %d", framing,
				    SERIAL_UNIT_MAX);
		if (used[unit])
			problem_add(p, "device_id", "there is another remote device %d", (int)unit);
		used[unit] = true;
		check_points(json_object_get(remote, "data"), p);
		problem_leave(p);
	}
}

/* ---- points ---- */

static struct point_spec spec_of(const json_t *point)
{
	struct modbus_bits b;

	modbus_bits_parse(point, &b);
	return (struct point_spec){
		.name = json_string_value(json_object_get(point, "name")),
		.options = point,
		.input = json_is_number(json_object_get(point, "interval")),
		.output = b.type == MODBUS_COIL || b.type == MODBUS_HOLDING_REGISTER,
		.bits = b.count,
	};
}

int master_points(const json_t *conf, struct point_list *ret, struct err *err)
{
	const json_t *remotes = json_object_get(conf, "remote_devices"), *remote, *point;
	size_t i, k, n = 0;

	json_array_foreach (remotes, i, remote)
		n += json_array_size(json_object_get(remote, "data"));
	*ret = (struct point_list){.items = calloc(n + 1, sizeof(*ret->items))};
	if (ret->items == NULL)
		return err_set(err, ERR_NOMEM, "%zu points", n);
	json_array_foreach (remotes, i, remote)
		json_array_foreach (json_object_get(remote, "data"), k, point)
			ret->items[ret->n++] = spec_of(point);
	return 0;
}
