/* slave_conf.c - what the configuration of a Modbus slave may hold. */
#include "agent/device/modbus/modbus_line.h"
#include "agent/device/modbus/modbus_points.h"
#include "agent/device/modbus/slave_int.h"
#include "common/util.h"
#include <arpa/inet.h>
#include <string.h>

#define LONGEST_S    1e6
#define ANY_UNIT     255
#define LAST_UNIT    247 /* on a serial line; the rest is reserved */
#define PORT_MAX     65535
#define MANY         1000000
#define DEFAULT_PORT "502"

/* In the order of enum modbus_framing. */
static const char *const framing_names[] = {"TCP", "RTU", "ASCII", NULL};

static const struct field tcp_fields[] = {
	{.name = "local_host", .type = FIELD_STR, .help = "Address to listen on."},
	{.name = "local_port",
	 .type = FIELD_INT,
	 .min = 1,
	 .max = PORT_MAX,
	 .def = DEFAULT_PORT,
	 .help = "Port to listen on."},
	{.name = "remote_hosts",
	 .type = FIELD_LIST,
	 .flags = FIELD_NULLABLE,
	 .item = FIELD_STR,
	 .help = "Addresses that may connect; ``null``: all. Others are closed at once."},
	{.name = "max_connections",
	 .type = FIELD_INT,
	 .flags = FIELD_NULLABLE,
	 .max = MANY,
	 .help = "How many may be connected; ``null``: any number, but half of the free "
		 "descriptors are left to other devices. The next is closed at once."},
	{.name = "keep_alive_timeout",
	 .type = FIELD_NUMBER,
	 .flags = FIELD_NULLABLE,
	 .max = LONGEST_S,
	 .unit = "s",
	 .help = "A connection without a request for a configured device id is closed after this; "
		 "``null``: never."},
	{0},
};

static const struct field line_fields[] = {
	{.name = "", .type = FIELD_ROWS, .inner = serial_fields},
	{.name = "keep_alive_timeout",
	 .type = FIELD_NUMBER,
	 .max = LONGEST_S,
	 .unit = "s",
	 .help = "The connection ends, and the port is opened anew, after this time without a "
		 "request for a configured device id."},
	{0},
};

static const struct field_variant transports[] = {
	{.name = "TCP", .fields = tcp_fields, .help = "Masters connect to a port."},
	{.name = "SERIAL", .fields = line_fields, .help = "Masters are on a serial line."},
	{0},
};

static const struct field transport_fields[] = {
	{.name = "response_timeout",
	 .type = FIELD_NUMBER,
	 .max = LONGEST_S,
	 .unit = "s",
	 .help = "How long the answer to a write may take before the master is told "
		 "FUNCTION_ERROR."},
	{0},
};

static const struct field data_fields[] = {
	{.name = "device_id",
	 .type = FIELD_INT,
	 .min = 1,
	 .max = ANY_UNIT,
	 .help = "Unit id that the point belongs to: 1 to 247, or up to 255 if ``modbus_type`` is "
		 "TCP."},
	{.name = "manual_ack",
	 .type = FIELD_BOOL,
	 .flags = FIELD_OPTIONAL,
	 .help = "As ``manual_ack`` of the device, for this point."},
	{.name = "", .type = FIELD_ROWS, .inner = modbus_point_fields},
	{0},
};

const struct field modbus_slave_fields[] = {
	{.name = "modbus_type",
	 .type = FIELD_ENUM,
	 .names = framing_names,
	 .help = "Framing; any of them goes over any transport."},
	{.name = "transport",
	 .type = FIELD_OBJECT,
	 .inner = transport_fields,
	 .variant = "type",
	 .variants = transports,
	 .help = "How masters reach it."},
	{.name = "manual_ack",
	 .type = FIELD_BOOL,
	 .def = "false",
	 .help = "A master's write is answered by an event ``system/write``, and changes no value "
		 "by itself."},
	{.name = "data",
	 .type = FIELD_LIST,
	 .item = FIELD_OBJECT,
	 .inner = data_fields,
	 .help = "The points."},
	{0},
};

enum modbus_framing modbus_slave_framing(const json_t *conf)
{
	int i = modbus_name_index(framing_names,
				  json_string_value(json_object_get(conf, "modbus_type")));

	return i < 0 ? MODBUS_TCP : (enum modbus_framing)i;
}

/* ---- what the rows cannot say ---- */

static void check_hosts(const json_t *hosts, struct problems *p)
{
	const json_t *host;
	size_t i;

	json_array_foreach (hosts, i, host) {
		const char *text = json_string_value(host);
		struct in6_addr a;

		problem_enter(p, "remote_hosts[%zu]", i);
		if (text == NULL ||
		    (inet_pton(AF_INET, text, &a) != 1 && inet_pton(AF_INET6, text, &a) != 1))
			problem_add(p, "", "no IP address");
		problem_leave(p);
	}
}

static void check_point(const json_t *point, enum modbus_framing framing, json_t *names,
			struct problems *p)
{
	const char *name = json_string_value(json_object_get(point, "name"));
	struct modbus_bits bits;

	if (json_object_get(names, name) != NULL)
		problem_add(p, "name", "'%s' is there twice", name);
	json_object_set_new(names, name, json_true());
	if (framing != MODBUS_TCP &&
	    json_integer_value(json_object_get(point, "device_id")) > LAST_UNIT)
		problem_add(p, "device_id", "more than %d is only for modbus_type TCP", LAST_UNIT);
	modbus_bits_parse(point, &bits);
	if (bits.type == MODBUS_QUEUE)
		problem_add(p, "data_type", "a slave has no QUEUE");
	modbus_bits_check(point, p);
}

void modbus_slave_check(const json_t *conf, struct problems *p)
{
	const json_t *transport = json_object_get(conf, "transport"), *point;
	const char *type = json_string_value(json_object_get(transport, "type"));
	json_auto_t *names = json_object();
	size_t i;

	problem_enter(p, "transport");
	if (type != NULL && strcmp(type, "SERIAL") == 0)
		modbus_line_check(transport, framing_names[modbus_slave_framing(conf)], p);
	else
		check_hosts(json_object_get(transport, "remote_hosts"), p);
	problem_leave(p);
	json_array_foreach (json_object_get(conf, "data"), i, point) {
		problem_enter(p, "data[%zu]", i);
		check_point(point, modbus_slave_framing(conf), names, p);
		problem_leave(p);
	}
}

int modbus_slave_points(const json_t *conf, struct point_list *ret, struct err *err)
{
	const json_t *data = json_object_get(conf, "data"), *point;
	size_t i;

	ret->n = 0;
	ret->items = calloc(json_array_size(data) + 1, sizeof(*ret->items));
	if (ret->items == NULL)
		return err_set(err, ERR_NOMEM, "points");
	json_array_foreach (data, i, point) {
		struct modbus_bits bits;

		modbus_bits_parse(point, &bits);
		ret->items[ret->n++] = (struct point_spec){
			.name = json_string_value(json_object_get(point, "name")),
			.options = point,
			.input = bits.type == MODBUS_COIL || bits.type == MODBUS_HOLDING_REGISTER,
			.output = true,
			.bits = bits.count,
		};
	}
	return 0;
}

/* ---- its page ---- */

const char modbus_slave_help[] =
	"A slave (server) with points in the tables of one or more device ids. Masters connect to\n"
	"a TCP port, or are on a serial line; TCP, RTU and ASCII framing go over both. Functions "
	"1\n"
	"to 6, 15, 16 and 22 are served, function 24 finds no queue, others get exception 1.\n"
	"\n"
	"All points are 0 at the start, or what the last ``system/data/<name>`` said\n"
	"(``{\"value\": 18}``), which also changes them later; so do the features ``<name>_set``.\n"
	"A master reads and writes only coils and registers of which a point has a bit, else it "
	"is\n"
	"told INVALID_DATA_ADDRESS.\n"
	"\n"
	"A master's write is the event ``gateway/write``::\n"
	"\n"
	"  {\"request_id\": \"...\", \"connection_id\": 1, \"data\": [{\"name\": \"d1\", "
	"\"value\": 18}]}\n"
	"\n"
	"with all points that have a written bit, each with its whole value, and a value of each\n"
	"point's feature. The points take the value, and the master is told success when event "
	"and\n"
	"value are with the broker or on the disk of the agent, else FUNCTION_ERROR after\n"
	"``response_timeout``. With ``manual_ack`` they do not change, and the master waits for\n"
	"``system/write`` (``{\"request_id\": \"...\", \"success\": true}``). A write of which "
	"one\n"
	"point has ``manual_ack`` waits as a whole; the points without it change with the "
	"success.\n"
	"\n"
	"Event ``gateway/connections`` lists the masters' connections, on a serial line one from\n"
	"the first request until there is none for ``keep_alive_timeout``. A serial port that "
	"goes\n"
	"away ends the device.\n";

const char modbus_slave_example[] =
	"{\"type\": \"modbus_slave\", \"name\": \"srv\", \"modbus_type\": \"TCP\",\n"
	" \"transport\": {\"type\": \"TCP\", \"local_host\": \"127.0.0.1\", \"local_port\": 1502,\n"
	"               \"remote_hosts\": null, \"max_connections\": 10,\n"
	"               \"response_timeout\": 5, \"keep_alive_timeout\": null},\n"
	" \"data\": [\n"
	"  {\"name\": \"setpoint\", \"device_id\": 1, \"data_type\": \"HOLDING_REGISTER\",\n"
	"   \"start_address\": 0, \"bit_offset\": 0, \"bit_count\": 16},\n"
	"  {\"name\": \"running\", \"device_id\": 1, \"data_type\": \"DISCRETE_INPUT\",\n"
	"   \"start_address\": 0, \"bit_offset\": 0, \"bit_count\": 1}]}\n";
