/* modbus_slave_bench.h - a Modbus slave against masters with a script: raw frames over TCP and
 * pseudo terminals.
 */
#pragma once

#include "agent/device/modbus/bits.h"
#include "agent/device/modbus/frame.h"
#include "agent/device/modbus/slave.h"
#include "tests/agent/fake_port.h"
#include "tests/common/free_port.h"
#include "tests/common/until.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>

#define UNIT        1
#define QUIET_MS    150 /* for what must not come */
#define BAD_ADDRESS MODBUS_ILLEGAL_DATA_ADDRESS

struct client {
	int fd;
	struct modbus_framer framer;
	uint16_t transaction;
};

struct world {
	struct loop *loop;
	struct port *port;
	json_t *conf;
	void *instance;
	unsigned tcp_port;
	int master_fd, slave_fd; /* of the pseudo terminal; slave_fd keeps it there */
	enum modbus_framing framing;
	struct client clients[8];
	size_t n;
	struct modbus_answer answer; /* the last */
};

static MAYBE_UNUSED void turn_for(struct world *w, int64_t ms)
{
	int64_t end = now_ms() + ms;

	while (now_ms() < end)
		loop_turn(w->loop, 5);
}

/* ---- the device ---- */

static MAYBE_UNUSED json_t *transport(struct world *w)
{
	return json_object_get(w->conf, "transport");
}

static MAYBE_UNUSED void set_framing(struct world *w, enum modbus_framing framing)
{
	static const char *const names[] = {"TCP", "RTU", "ASCII"};

	w->framing = framing;
	json_object_set_new(w->conf, "modbus_type", json_string(names[framing]));
}

static MAYBE_UNUSED int setup(void **state)
{
	struct world *w = test_calloc(1, sizeof(*w));
	struct err err;

	assert_int_equal(loop_new(&w->loop, &err), 0);
	w->port = fake_port_new(w->loop);
	w->tcp_port = free_port();
	w->master_fd = w->slave_fd = -1;
	w->conf = json_pack("{s:{s:s, s:s, s:i, s:n, s:n, s:i, s:n}, s:b, s:[]}", "transport",
			    "type", "TCP", "local_host", "127.0.0.1", "local_port",
			    (int)w->tcp_port, "remote_hosts", "max_connections", "response_timeout",
			    30, "keep_alive_timeout", "manual_ack", 1, "data");
	set_framing(w, MODBUS_TCP);
	*state = w;
	return 0;
}

static MAYBE_UNUSED void stop(struct world *w)
{
	if (w->instance != NULL)
		modbus_slave_type.ops->close(w->instance);
	w->instance = NULL;
}

static MAYBE_UNUSED int teardown(void **state)
{
	struct world *w = *state;

	stop(w);
	for (size_t i = 0; i < w->n; i++)
		closep(&w->clients[i].fd);
	closep(&w->master_fd);
	closep(&w->slave_fd);
	fake_port_free(w->port);
	json_decref(w->conf);
	loop_free(w->loop);
	test_free(w);
	return 0;
}

static MAYBE_UNUSED void add_of(struct world *w, unsigned device_id, const char *name,
				enum modbus_data_type type, unsigned address, unsigned offset,
				unsigned count)
{
	json_array_append_new(json_object_get(w->conf, "data"),
			      json_pack("{s:s, s:i, s:s, s:i, s:i, s:i, s:s}", "name", name,
					"device_id", (int)device_id, "data_type",
					modbus_data_type_names[type], "start_address", (int)address,
					"bit_offset", (int)offset, "bit_count", (int)count, "order",
					"big"));
}

static MAYBE_UNUSED void add(struct world *w, const char *name, enum modbus_data_type type,
			     unsigned address, unsigned offset, unsigned count)
{
	add_of(w, UNIT, name, type, address, offset, count);
}

static MAYBE_UNUSED void store(struct world *w, const char *name, json_t *payload)
{
	w->port->states[w->port->n_states++] =
		(struct fake_state){.path = {"data", name}, .n_path = 2, .payload = payload};
}

static MAYBE_UNUSED int create(struct world *w, struct err *err)
{
	return fake_port_create(w->port, &modbus_slave_type, w->conf, &w->instance, err);
}

static MAYBE_UNUSED void start(struct world *w)
{
	struct err err = {0};

	if (create(w, &err) != 0)
		fail_msg("not created: %s", err.text);
	assert_int_equal(w->port->created, 1);
	assert_string_equal(fake_port_told(w->port), "connections []\n");
	assert_true(w->port->events[0].retain && w->port->events[0].point == -1);
	assert_int_equal(w->port->link, LINK_DISCONNECTED);
}

static MAYBE_UNUSED int tell(struct world *w, const char *name, json_t *payload)
{
	const char *const path[] = {"data", name};
	struct err err;
	int rc = modbus_slave_type.ops->event(w->instance, path, 2, payload, &err);

	json_decref(payload);
	return rc;
}

static MAYBE_UNUSED json_t *value_of(json_int_t v)
{
	return json_pack("{s:I}", "value", v);
}

static MAYBE_UNUSED int respond(struct world *w, const char *id, bool success)
{
	const char *const path[] = {"write"};
	json_auto_t *payload = json_pack("{s:s, s:b}", "request_id", id, "success", success);
	struct err err;

	return modbus_slave_type.ops->event(w->instance, path, 1, payload, &err);
}

/* ---- masters ---- */

static MAYBE_UNUSED struct client *add_client(struct world *w, int fd)
{
	struct client *c = &w->clients[w->n++];

	assert_in_range(w->n, 1, ARRAY_LEN(w->clients));
	assert_true(fd >= 0);
	*c = (struct client){.fd = fd};
	modbus_framer_init(&c->framer, w->framing, false);
	return c;
}

static MAYBE_UNUSED int dial_from(const struct world *w, const char *from)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, from, &a.sin_addr);
	assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
	a.sin_port = htons((uint16_t)w->tcp_port);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

static MAYBE_UNUSED struct client *dial(struct world *w)
{
	return add_client(w, dial_from(w, "127.0.0.1"));
}

/* Events of connections only, by number of connections. */
static MAYBE_UNUSED void await_connections(struct world *w, size_t n)
{
	UNTIL(w, w->port->n > w->port->read);
	const struct fake_event *e = &w->port->events[w->port->read++];

	assert_string_equal(e->path, "connections");
	assert_true(e->retain);
	assert_int_equal(json_array_size(e->payload), n);
	assert_int_equal(w->port->count, n);
	assert_int_equal(w->port->link, n > 0 ? LINK_CONNECTED : LINK_DISCONNECTED);
}

/* Of the list told last. */
static MAYBE_UNUSED json_int_t connection_id(const struct world *w, size_t i)
{
	const json_t *list = w->port->events[w->port->read - 1].payload;

	return json_integer_value(json_object_get(json_array_get(list, i), "connection_id"));
}

static MAYBE_UNUSED struct client *dial_and_wait(struct world *w, size_t n)
{
	struct client *c = dial(w);

	await_connections(w, n);
	return c;
}

static MAYBE_UNUSED size_t frame_of(struct world *w, struct client *c, unsigned unit,
				    const struct modbus_request *q, uint8_t *bytes)
{
	struct modbus_pdu pdu;

	assert_int_equal(modbus_request_encode(q, &pdu, NULL), 0);
	return modbus_frame_encode(w->framing,
				   &(struct modbus_frame){.transaction = w->framing == MODBUS_TCP
										 ? ++c->transaction
										 : 0,
							  .unit = (uint8_t)unit,
							  .pdu = pdu.bytes,
							  .len = pdu.len},
				   bytes);
}

static MAYBE_UNUSED void put(const struct client *c, const void *bytes, size_t n)
{
	assert_int_equal(write(c->fd, bytes, n), (ssize_t)n);
}

static MAYBE_UNUSED void ask(struct world *w, struct client *c, unsigned unit,
			     const struct modbus_request *q)
{
	uint8_t bytes[MODBUS_FRAME_MAX];

	put(c, bytes, frame_of(w, c, unit, q, bytes));
}

/* ret: 1: a frame; 0: none yet; -1: the slave has closed the connection. */
static MAYBE_UNUSED int take_frame(struct client *c, struct modbus_frame *f)
{
	uint8_t bytes[600];
	struct err err;
	int rc = modbus_framer_next(&c->framer, f, &err);

	assert_true(rc >= 0);
	if (rc > 0)
		return 1;
	ssize_t n = read(c->fd, bytes, sizeof(bytes));
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0)
		return -1;
	assert_int_equal(modbus_framer_push(&c->framer, bytes, (size_t)n), n);
	rc = modbus_framer_next(&c->framer, f, &err);
	assert_true(rc >= 0);
	return rc;
}

/* The answer to a request, in w->answer. ret: its exception. */
static MAYBE_UNUSED unsigned answered(struct world *w, struct client *c, unsigned unit,
				      const struct modbus_request *q)
{
	struct modbus_frame f;
	struct err err;
	int rc;

	UNTIL(w, (rc = take_frame(c, &f)) != 0);
	assert_int_equal(rc, 1);
	assert_int_equal(f.unit, unit);
	assert_int_equal(f.transaction, c->transaction);
	assert_int_equal(modbus_answer_parse(q, f.pdu, f.len, &w->answer, &err), 0);
	return w->answer.exception;
}

static MAYBE_UNUSED unsigned exchange(struct world *w, struct client *c, unsigned unit,
				      const struct modbus_request *q)
{
	ask(w, c, unit, q);
	return answered(w, c, unit, q);
}

static MAYBE_UNUSED void assert_no_answer(struct world *w, struct client *c)
{
	struct modbus_frame f;

	turn_for(w, QUIET_MS);
	assert_int_equal(take_frame(c, &f), 0);
}

static MAYBE_UNUSED struct modbus_request read_of(enum modbus_data_type type, unsigned address,
						  unsigned quantity)
{
	static const uint8_t functions[] = {1, 2, 3, 4};

	return (struct modbus_request){.function = functions[type],
				       .address = (uint16_t)address,
				       .quantity = (uint16_t)quantity};
}

static MAYBE_UNUSED unsigned read_cells(struct world *w, struct client *c,
					enum modbus_data_type type, unsigned address,
					unsigned quantity)
{
	struct modbus_request q = read_of(type, address, quantity);

	return exchange(w, c, UNIT, &q);
}

static MAYBE_UNUSED struct modbus_request write_of(enum modbus_data_type type, unsigned address,
						   unsigned quantity, const uint16_t *values)
{
	bool coil = type == MODBUS_COIL;
	struct modbus_request q = {.function = quantity > 1 ? (coil ? 15 : 16) : (coil ? 5 : 6),
				   .address = (uint16_t)address,
				   .quantity = (uint16_t)quantity};

	memcpy(q.values, values, quantity * sizeof(*values));
	return q;
}

static MAYBE_UNUSED struct modbus_request mask_of(unsigned address, unsigned and_mask,
						  unsigned or_mask)
{
	return (struct modbus_request){.function = 22,
				       .address = (uint16_t)address,
				       .and_mask = (uint16_t)and_mask,
				       .or_mask = (uint16_t)or_mask};
}

/* The next event is a write; ret: it. */
static MAYBE_UNUSED const struct fake_event *await_write(struct world *w, const char *data)
{
	UNTIL(w, w->port->n > w->port->read);
	const struct fake_event *e = &w->port->events[w->port->read++];
	char *text = json_dumps(json_object_get(e->payload, "data"), JSON_COMPACT | JSON_SORT_KEYS);

	assert_string_equal(e->path, "write");
	assert_false(e->retain);
	assert_string_equal(text, data);
	assert_true(json_is_string(json_object_get(e->payload, "request_id")));
	assert_true(json_is_integer(json_object_get(e->payload, "connection_id")));
	free(text);
	return e;
}

static MAYBE_UNUSED const char *request_id(const struct fake_event *e)
{
	return json_string_value(json_object_get(e->payload, "request_id"));
}

#define ASSERT_SILENT(w) assert_string_equal(fake_port_told((w)->port), "")

/* ---- serial lines ---- */

static MAYBE_UNUSED void use_line(struct world *w, double keep_alive)
{
	char name[80];
	struct termios t;

	assert_int_equal(openpty(&w->master_fd, &w->slave_fd, name, NULL, NULL), 0);
	assert_int_equal(tcgetattr(w->slave_fd, &t), 0);
	cfmakeraw(&t);
	assert_int_equal(tcsetattr(w->slave_fd, TCSANOW, &t), 0);
	assert_int_equal(fcntl(w->master_fd, F_SETFL, O_NONBLOCK), 0);
	json_object_set_new(
		w->conf, "transport",
		json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:{s:b, s:b, s:b}, s:f, s:i, s:f}",
			  "type", "SERIAL", "port", name, "baudrate", 115200, "bytesize",
			  "EIGHTBITS", "parity", "NONE", "stopbits", "ONE", "flow_control",
			  "xonxoff", 0, "rtscts", 0, "dsrdtr", 0, "silent_interval", 0.001,
			  "response_timeout", 30, "keep_alive_timeout", keep_alive));
}

static MAYBE_UNUSED struct client *on_line(struct world *w)
{
	return add_client(w, dup(w->master_fd));
}

static const enum modbus_framing framings[] = {MODBUS_TCP, MODBUS_RTU, MODBUS_ASCII};

static MAYBE_UNUSED void restart_with_client(struct world *w)
{
	struct err err;

	stop(w);
	for (size_t i = 0; i < w->n; i++)
		closep(&w->clients[i].fd);
	w->n = 0;
	assert_int_equal(create(w, &err), 0);
	w->port->read = w->port->n;
	dial_and_wait(w, 1);
}

/* The slave tells a write, is answered, and answers. */
static MAYBE_UNUSED void check_write(struct world *w, const struct modbus_request *q,
				     const char *data, bool success)
{
	struct client *c = &w->clients[0];

	ask(w, c, UNIT, q);
	const struct fake_event *e = await_write(w, data);
	assert_int_equal(json_integer_value(json_object_get(e->payload, "connection_id")), 1);
	assert_int_equal(respond(w, request_id(e), success), 0);
	assert_int_equal(answered(w, c, UNIT, q), success ? 0 : MODBUS_SERVER_FAILURE);
	ASSERT_SILENT(w);
}
