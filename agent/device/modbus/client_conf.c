#include "agent/device/modbus/client_int.h"
#include "agent/device/modbus/modbus_line.h"
#include "common/util.h"
#include <limits.h>
#include <math.h>
#include <string.h>

#define MS_MAX    INT_MAX /* three weeks, for ever as far as a line is concerned */
#define COUNT_MAX 1000

static const struct field tcp_fields[] = {
	{.name = "host", .type = FIELD_STR, .help = "Name or address of the peer."},
	{.name = "port",
	 .type = FIELD_INT,
	 .min = 1,
	 .max = 65535,
	 .def = "502",
	 .help = "TCP port of the peer."},
	{0},
};

static const struct field_variant transports[] = {
	{"TCP", tcp_fields, "A TCP connection that we make."},
	{"SERIAL", serial_fields, "A serial line of this machine."},
	{0},
};

/* Their order is that of enum modbus_framing. */
static const char *const framings[] = {"TCP", "RTU", "ASCII", NULL};

#define DURATION(name_, help_)                                                                 \
	{                                                                                      \
		.name = (name_), .type = FIELD_NUMBER, .min = 0, .max = INFINITY, .unit = "s", \
		.help = (help_)                                                                \
	}
#define COUNT(name_, help_)                                                                     \
	{                                                                                       \
		.name = (name_), .type = FIELD_INT, .min = 0, .max = COUNT_MAX, .help = (help_) \
	}

const struct field modbus_connection_fields[] = {
	{.name = "modbus_type",
	 .type = FIELD_ENUM,
	 .names = framings,
	 .help = "Framing. It does not depend on the transport: RTU over TCP is fine."},
	{.name = "transport",
	 .type = FIELD_OBJECT,
	 .variant = "type",
	 .variants = transports,
	 .help = "What carries the bytes."},
	DURATION("connect_timeout", "Limit of one attempt to connect."),
	DURATION("connect_delay", "Wait after a failed attempt."),
	DURATION("request_timeout", "Limit of one request and its response."),
	DURATION("request_delay", "Least time between a response and the next request."),
	COUNT("request_retry_immediate_count", "Repetitions at once after a timeout."),
	COUNT("request_retry_delayed_count",
	      "Rounds of repetitions after a delay, each with the immediate ones again."),
	DURATION("request_retry_delay", "The delay before such a round; others go first."),
	{0},
};

static const char *text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text != NULL ? text : "";
}

static bool is_serial(const json_t *transport)
{
	return strcmp(text_of(transport, "type"), "SERIAL") == 0;
}

void modbus_connection_check(const json_t *connection, struct problems *p)
{
	const json_t *transport = json_object_get(connection, "transport");

	if (!is_serial(transport))
		return;
	problem_enter(p, "transport");
	modbus_line_check(transport, text_of(connection, "modbus_type"), p);
	problem_leave(p);
}

static int64_t ms_of(const json_t *object, const char *name)
{
	double ms = ceil(json_number_value(json_object_get(object, name)) * 1000);

	return ms < MS_MAX ? (int64_t)ms : MS_MAX;
}

static unsigned count_of(const json_t *object, const char *name)
{
	return (unsigned)json_integer_value(json_object_get(object, name));
}

int modbus_settings_read(const json_t *connection, struct modbus_settings *ret, struct err *err)
{
	json_t *transport = json_object_get(connection, "transport");
	bool serial = is_serial(transport);

	*ret = (struct modbus_settings){
		.serial = serial,
		.host = strdup(text_of(transport, serial ? "port" : "host")),
		.port = serial ? 0 : count_of(transport, "port"),
		.block = serial ? json_incref(transport) : NULL,
		.connect_timeout_ms = ms_of(connection, "connect_timeout"),
		.connect_delay_ms = ms_of(connection, "connect_delay"),
		.request_timeout_ms = ms_of(connection, "request_timeout"),
		.request_delay_ms = ms_of(connection, "request_delay"),
		.retry_delay_ms = ms_of(connection, "request_retry_delay"),
		.immediate = count_of(connection, "request_retry_immediate_count"),
		.delayed = count_of(connection, "request_retry_delayed_count"),
	};
	if (ret->request_timeout_ms == 0) /* retries without an end would come at once */
		ret->request_timeout_ms = 1;
	for (unsigned i = 0; framings[i] != NULL; i++)
		if (strcmp(framings[i], text_of(connection, "modbus_type")) == 0)
			ret->framing = (enum modbus_framing)i;
	return ret->host != NULL ? 0 : err_set(err, ERR_NOMEM, "a modbus client");
}

void modbus_settings_done(struct modbus_settings *s)
{
	free(s->host);
	json_decref(s->block);
	*s = (struct modbus_settings){0};
}
