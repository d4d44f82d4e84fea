/* The Modbus slave against masters with a script: raw frames over TCP and pseudo terminals. */
#include "agent/device/modbus/bits.h"
#include "agent/device/modbus/frame.h"
#include "agent/device/modbus/slave.h"
#include "tests/agent/fake_port.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>

#define PATIENCE_MS 10000
#define UNIT        1
#define QUIET_MS    150 /* for what must not come */
#define HALF_OPEN   1000

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

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

#define UNTIL(w, condition)                                                 \
	do {                                                                \
		int64_t end_ = now_ms() + PATIENCE_MS;                      \
		while (!(condition)) {                                      \
			loop_turn((w)->loop, 5);                            \
			if (now_ms() > end_)                                \
				fail_msg("waited in vain for " #condition); \
		}                                                           \
	} while (0)

static void turn_for(struct world *w, int64_t ms)
{
	int64_t end = now_ms() + ms;

	while (now_ms() < end)
		loop_turn(w->loop, 5);
}

/* ---- the device ---- */

static unsigned free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	close(fd);
	return ntohs(a.sin_port);
}

static json_t *transport(struct world *w)
{
	return json_object_get(w->conf, "transport");
}

static void set_framing(struct world *w, enum modbus_framing framing)
{
	static const char *const names[] = {"TCP", "RTU", "ASCII"};

	w->framing = framing;
	json_object_set_new(w->conf, "modbus_type", json_string(names[framing]));
}

static int setup(void **state)
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

static void stop(struct world *w)
{
	if (w->instance != NULL)
		modbus_slave_type.ops->close(w->instance);
	w->instance = NULL;
}

static int teardown(void **state)
{
	struct world *w = *state;

	stop(w);
	for (size_t i = 0; i < w->n; i++)
		closep(&w->clients[i].fd);
	closep(&w->master_fd);
	closep(&w->slave_fd);
	json_decref(w->conf);
	fake_port_free(w->port);
	loop_free(w->loop);
	test_free(w);
	return 0;
}

static void add_of(struct world *w, unsigned device_id, const char *name,
		   enum modbus_data_type type, unsigned address, unsigned offset, unsigned count)
{
	json_array_append_new(json_object_get(w->conf, "data"),
			      json_pack("{s:s, s:i, s:s, s:i, s:i, s:i, s:s}", "name", name,
					"device_id", (int)device_id, "data_type",
					modbus_data_type_names[type], "start_address", (int)address,
					"bit_offset", (int)offset, "bit_count", (int)count, "order",
					"big"));
}

static void add(struct world *w, const char *name, enum modbus_data_type type, unsigned address,
		unsigned offset, unsigned count)
{
	add_of(w, UNIT, name, type, address, offset, count);
}

static void store(struct world *w, const char *name, json_t *payload)
{
	w->port->states[w->port->n_states++] =
		(struct fake_state){.path = {"data", name}, .n_path = 2, .payload = payload};
}

static int create(struct world *w, struct err *err)
{
	return modbus_slave_type.ops->create(w->port, w->conf, &w->instance, err);
}

static void start(struct world *w)
{
	struct err err = {0};

	if (create(w, &err) != 0)
		fail_msg("not created: %s", err.text);
	assert_int_equal(w->port->created, 1);
	assert_string_equal(fake_port_told(w->port), "connections []\n");
	assert_true(w->port->events[0].retain && w->port->events[0].point == -1);
	assert_int_equal(w->port->link, LINK_DISCONNECTED);
}

static int tell(struct world *w, const char *name, json_t *payload)
{
	const char *const path[] = {"data", name};
	struct err err;
	int rc = modbus_slave_type.ops->event(w->instance, path, 2, payload, &err);

	json_decref(payload);
	return rc;
}

static json_t *value_of(json_int_t v)
{
	return json_pack("{s:I}", "value", v);
}

static int respond(struct world *w, const char *id, bool success)
{
	const char *const path[] = {"write"};
	json_auto_t *payload = json_pack("{s:s, s:b}", "request_id", id, "success", success);
	struct err err;

	return modbus_slave_type.ops->event(w->instance, path, 1, payload, &err);
}

/* ---- masters ---- */

static struct client *add_client(struct world *w, int fd)
{
	struct client *c = &w->clients[w->n++];

	assert_in_range(w->n, 1, ARRAY_LEN(w->clients));
	assert_true(fd >= 0);
	*c = (struct client){.fd = fd};
	modbus_framer_init(&c->framer, w->framing, false);
	return c;
}

static int dial_from(const struct world *w, const char *from)
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

static struct client *dial(struct world *w)
{
	return add_client(w, dial_from(w, "127.0.0.1"));
}

/* Events of connections only, by number of connections. */
static void await_connections(struct world *w, size_t n)
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
static json_int_t connection_id(const struct world *w, size_t i)
{
	const json_t *list = w->port->events[w->port->read - 1].payload;

	return json_integer_value(json_object_get(json_array_get(list, i), "connection_id"));
}

static struct client *dial_and_wait(struct world *w, size_t n)
{
	struct client *c = dial(w);

	await_connections(w, n);
	return c;
}

static size_t frame_of(struct world *w, struct client *c, unsigned unit,
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

static void put(const struct client *c, const void *bytes, size_t n)
{
	assert_int_equal(write(c->fd, bytes, n), (ssize_t)n);
}

static void ask(struct world *w, struct client *c, unsigned unit, const struct modbus_request *q)
{
	uint8_t bytes[MODBUS_FRAME_MAX];

	put(c, bytes, frame_of(w, c, unit, q, bytes));
}

/* ret: 1: a frame; 0: none yet; -1: the slave has closed the connection. */
static int take_frame(struct client *c, struct modbus_frame *f)
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
static unsigned answered(struct world *w, struct client *c, unsigned unit,
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

static unsigned exchange(struct world *w, struct client *c, unsigned unit,
			 const struct modbus_request *q)
{
	ask(w, c, unit, q);
	return answered(w, c, unit, q);
}

static void assert_no_answer(struct world *w, struct client *c)
{
	struct modbus_frame f;

	turn_for(w, QUIET_MS);
	assert_int_equal(take_frame(c, &f), 0);
}

static struct modbus_request read_of(enum modbus_data_type type, unsigned address,
				     unsigned quantity)
{
	static const uint8_t functions[] = {1, 2, 3, 4};

	return (struct modbus_request){.function = functions[type],
				       .address = (uint16_t)address,
				       .quantity = (uint16_t)quantity};
}

static unsigned read_cells(struct world *w, struct client *c, enum modbus_data_type type,
			   unsigned address, unsigned quantity)
{
	struct modbus_request q = read_of(type, address, quantity);

	return exchange(w, c, UNIT, &q);
}

static struct modbus_request write_of(enum modbus_data_type type, unsigned address,
				      unsigned quantity, const uint16_t *values)
{
	bool coil = type == MODBUS_COIL;
	struct modbus_request q = {.function = quantity > 1 ? (coil ? 15 : 16) : (coil ? 5 : 6),
				   .address = (uint16_t)address,
				   .quantity = (uint16_t)quantity};

	memcpy(q.values, values, quantity * sizeof(*values));
	return q;
}

static struct modbus_request mask_of(unsigned address, unsigned and_mask, unsigned or_mask)
{
	return (struct modbus_request){.function = 22,
				       .address = (uint16_t)address,
				       .and_mask = (uint16_t)and_mask,
				       .or_mask = (uint16_t)or_mask};
}

/* The next event is a write; ret: it. */
static const struct fake_event *await_write(struct world *w, const char *data)
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

static const char *request_id(const struct fake_event *e)
{
	return json_string_value(json_object_get(e->payload, "request_id"));
}

#define ASSERT_SILENT(w) assert_string_equal(fake_port_told((w)->port), "")

/* ---- serial lines ---- */

static void use_line(struct world *w, double keep_alive)
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

static struct client *on_line(struct world *w)
{
	return add_client(w, dup(w->master_fd));
}

static const enum modbus_framing framings[] = {MODBUS_TCP, MODBUS_RTU, MODBUS_ASCII};

/* ---- configuration ---- */

static void note_problem(void *arg, bool is_error, const char *text)
{
	size_t len = strlen(arg);

	snprintf((char *)arg + len, 1000 - len, "%s%s\n", is_error ? "" : "warning: ", text);
}

static const char *problems_of(json_t *conf)
{
	static char told[1000];
	struct problems *p = problems_new();

	told[0] = '\0';
	if (fields_check(modbus_slave_type.fields, conf, p) == 0)
		modbus_slave_type.check(conf, p);
	problems_each(p, note_problem, told);
	problems_free(p);
	return told;
}

static void test_valid_conf(void **state)
{
	struct world *w = *state;
	json_auto_t *example = json_loads(modbus_slave_type.example, 0, NULL);
	struct point_list points;
	struct err err;

	assert_non_null(example);
	json_object_del(example, "type");
	json_object_del(example, "name");
	assert_string_equal(problems_of(example), "");
	add(w, "a", MODBUS_HOLDING_REGISTER, 1, 2, 3);
	add(w, "b", MODBUS_INPUT_REGISTER, 1, 2, 30);
	add(w, "c", MODBUS_COIL, 1, 2, 64);
	add(w, "d", MODBUS_DISCRETE_INPUT, 1, 2, 1);
	for (size_t i = 0; i < ARRAY_LEN(framings); i++) {
		set_framing(w, framings[i]);
		assert_string_equal(problems_of(w->conf), "");
	}
	assert_int_equal(modbus_slave_type.points(w->conf, &points, &err), 0);
	assert_int_equal(points.n, 4);
	for (size_t i = 0; i < points.n; i++) {
		assert_true(points.items[i].output);
		assert_int_equal(points.items[i].input, i == 0 || i == 2);
	}
	assert_int_equal(points.items[1].bits, 30);
	free(points.items);
	use_line(w, 1);
	for (size_t i = 0; i < ARRAY_LEN(framings); i++) {
		set_framing(w, framings[i]);
		assert_string_equal(problems_of(w->conf), "");
	}
}

static void test_invalid_conf(void **state)
{
	struct world *w = *state;
	json_t *data = json_object_get(w->conf, "data");

	add(w, "a", MODBUS_QUEUE, 1, 0, 16);
	add(w, "a", MODBUS_COIL, 65535, 0, 2);
	add_of(w, 248, "b", MODBUS_COIL, 1, 0, 1);
	add_of(w, 0, "c", MODBUS_COIL, 1, 0, 1);
	assert_string_equal(problems_of(w->conf),
			    "data[3].device_id: must be an integer from 1 to 255\n");
	json_array_remove(data, 3);
	json_object_set_new(transport(w), "remote_hosts", json_pack("[s, s]", "::1", "localhost"));
	set_framing(w, MODBUS_RTU);
	assert_string_equal(problems_of(w->conf),
			    "transport.remote_hosts[1]: no IP address\n"
			    "data[0].data_type: a slave has no QUEUE\n"
			    "data[1].name: 'a' is there twice\n"
			    "data[1].bit_count: the value ends beyond address 65535\n"
			    "data[2].device_id: more than 247 is only for modbus_type TCP\n");
}

/* A line whose characters cannot hold the framing's. */
static void test_invalid_line(void **state)
{
	static const struct {
		enum modbus_framing framing;
		const char *bytesize, *wrong;
	} cases[] = {
		{MODBUS_TCP, "SEVENBITS", "transport.bytesize: TCP needs characters of 8 bits\n"},
		{MODBUS_RTU, "SEVENBITS", "transport.bytesize: RTU needs characters of 8 bits\n"},
		{MODBUS_ASCII, "SEVENBITS", ""},
		{MODBUS_ASCII, "SIXBITS",
		 "transport.bytesize: ASCII needs characters of 7 or 8 bits\n"},
	};
	struct world *w = *state;

	use_line(w, 1);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		set_framing(w, cases[i].framing);
		json_object_set_new(transport(w), "bytesize", json_string(cases[i].bytesize));
		assert_string_equal(problems_of(w->conf), cases[i].wrong);
	}
}

/* ---- connections ---- */

static void test_create(void **state)
{
	struct world *w = *state;
	struct world other;
	struct err err = {0};

	add(w, "a", MODBUS_COIL, 0, 0, 1);
	start(w);
	/* a port that is taken is none */
	other = *w;
	other.port = fake_port_new(w->loop);
	assert_true(create(&other, &err) < 0);
	assert_int_equal(other.port->created, 0);
	fake_port_free(other.port);
	stop(w);
	ASSERT_SILENT(w);
}

static void check_connections(struct world *w, size_t max)
{
	start(w);
	for (size_t i = 1; i <= max; i++) {
		dial_and_wait(w, i);
		const json_t *last =
			json_array_get(w->port->events[w->port->read - 1].payload, i - 1);
		const char *type, *local, *remote;
		int id, local_port, remote_port;

		assert_int_equal(json_unpack((json_t *)(uintptr_t)last,
					     "{s:s, s:i, s:{s:s, s:i!}, s:{s:s, s:i!}!}", "type",
					     &type, "connection_id", &id, "local", "host", &local,
					     "port", &local_port, "remote", "host", &remote, "port",
					     &remote_port),
				 0);
		assert_string_equal(type, "TCP");
		assert_int_equal(id, i);
		assert_string_equal(local, "127.0.0.1");
		assert_int_equal(local_port, w->tcp_port);
		assert_string_equal(remote, "127.0.0.1");
		assert_true(remote_port > 0);
	}
	closep(&w->clients[0].fd);
	await_connections(w, max - 1);
	assert_int_equal(connection_id(w, 0), 2);
	dial_and_wait(w, max);
	assert_int_equal(connection_id(w, max - 1), max + 1); /* never one that was used */
	stop(w);
	await_connections(w, 0);
	ASSERT_SILENT(w);
}

static void test_connections_tcp_tcp(void **state)
{
	check_connections(*state, 3);
}

static void test_connections_tcp_rtu(void **state)
{
	set_framing(*state, MODBUS_RTU);
	check_connections(*state, 3);
}

static void test_connections_tcp_ascii(void **state)
{
	set_framing(*state, MODBUS_ASCII);
	check_connections(*state, 3);
}

static void check_line(struct world *w, enum modbus_framing framing)
{
	struct client *c;

	set_framing(w, framing);
	use_line(w, 0.3);
	add(w, "a", MODBUS_COIL, 0, 0, 1);
	start(w);
	c = on_line(w);
	for (json_int_t id = 1; id <= 2; id++) {
		assert_no_answer(w, c);
		ASSERT_SILENT(w); /* an open line is no connection */
		struct modbus_request q = read_of(MODBUS_COIL, 0, 1);
		ask(w, c, UNIT + 1, &q); /* nor does a request to others make one */
		assert_no_answer(w, c);
		ASSERT_SILENT(w);
		assert_int_equal(exchange(w, c, UNIT, &q), 0);
		await_connections(w, 1);
		assert_int_equal(connection_id(w, 0), id);
		assert_string_equal(
			json_string_value(json_object_get(
				json_array_get(w->port->events[w->port->read - 1].payload, 0),
				"type")),
			"SERIAL");
		await_connections(w, 0); /* keep_alive_timeout; the port is opened anew */
	}
	assert_int_equal(read_cells(w, c, MODBUS_COIL, 0, 1), 0);
	await_connections(w, 1);
	stop(w);
	await_connections(w, 0);
	assert_int_equal(w->port->ended, 0);
}

static void test_connection_serial_tcp(void **state)
{
	check_line(*state, MODBUS_TCP);
}

static void test_connection_serial_rtu(void **state)
{
	check_line(*state, MODBUS_RTU);
}

static void test_connection_serial_ascii(void **state)
{
	check_line(*state, MODBUS_ASCII);
}

static void test_serial_port_unplugged(void **state)
{
	struct world *w = *state;
	struct err err;
	struct client *c;

	set_framing(w, MODBUS_RTU);
	use_line(w, 60);
	add(w, "a", MODBUS_COIL, 0, 0, 1);
	start(w);
	c = on_line(w);
	assert_int_equal(read_cells(w, c, MODBUS_COIL, 0, 1), 0);
	await_connections(w, 1);
	closep(&c->fd);
	closep(&w->master_fd);
	closep(&w->slave_fd);
	await_connections(w, 0);
	assert_int_equal(w->port->ended, 1);
	stop(w);
	ASSERT_SILENT(w);
	/* it is not back yet */
	assert_true(create(w, &err) < 0);
	assert_int_equal(w->port->created, 1);
	w->port->read = w->port->n;
	/* it is */
	use_line(w, 60);
	assert_int_equal(create(w, &err), 0);
	w->port->read = w->port->n;
	w->n = 0;
	c = on_line(w);
	assert_int_equal(read_cells(w, c, MODBUS_COIL, 0, 1), 0);
	await_connections(w, 1);
}

/* Only requests for a device id that is ours keep a connection. */
static void test_keep_alive_timeout(void **state)
{
	struct world *w = *state;
	struct client *c;
	int64_t begin;

	json_object_set_new(transport(w), "keep_alive_timeout", json_real(0.4));
	add(w, "a", MODBUS_COIL, 0, 0, 1);
	start(w);
	begin = now_ms();
	dial_and_wait(w, 1);
	await_connections(w, 0);
	assert_true(now_ms() - begin >= 400);
	c = dial_and_wait(w, 1);
	begin = now_ms();
	while (now_ms() - begin < 1000) {
		assert_int_equal(read_cells(w, c, MODBUS_COIL, 0, 1), 0);
		turn_for(w, 50);
		ASSERT_SILENT(w);
	}
	begin = now_ms();
	while (w->port->n == w->port->read) {
		struct modbus_request q = read_of(MODBUS_COIL, 0, 1);
		struct modbus_frame f;

		assert_true(now_ms() - begin < PATIENCE_MS);
		(void)take_frame(c, &f);
		ask(w, c, UNIT + 1, &q);
		turn_for(w, 50);
	}
	await_connections(w, 0);
}

static void assert_closed_at_once(struct world *w, int fd)
{
	char byte;
	ssize_t n;

	UNTIL(w, (n = read(fd, &byte, 1)) >= 0 || errno != EAGAIN);
	assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
	close(fd);
	ASSERT_SILENT(w);
}

static void test_max_connections(void **state)
{
	struct world *w = *state;

	json_object_set_new(transport(w), "max_connections", json_integer(3));
	json_object_set_new(transport(w), "remote_hosts", json_pack("[s]", "127.0.0.1"));
	start(w);
	for (size_t i = 1; i <= 3; i++)
		dial_and_wait(w, i);
	assert_closed_at_once(w, dial_from(w, "127.0.0.1"));
	closep(&w->clients[1].fd);
	await_connections(w, 2);
	/* those that are refused take no place */
	for (size_t i = 0; i < 10; i++)
		assert_closed_at_once(w, dial_from(w, "127.0.0.2"));
	dial_and_wait(w, 3);
	assert_int_equal(connection_id(w, 2), 4);
	assert_closed_at_once(w, dial_from(w, "127.0.0.1"));
}

static void test_remote_hosts(void **state)
{
	static const struct {
		const char *hosts; /* JSON */
		bool first, second;
	} cases[] = {
		{"[]", false, false},
		{"[\"127.0.0.3\"]", false, false},
		{"[\"127.0.0.1\"]", true, false},
		{"[\"127.0.0.4\", \"127.0.0.2\", \"127.0.0.1\"]", true, true},
		{"null", true, true},
	};
	struct world *w = *state;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_object_set_new(transport(w), "remote_hosts",
				    json_loads(cases[i].hosts, JSON_DECODE_ANY, NULL));
		assert_int_equal(create(w, &err), 0);
		w->port->read = w->port->n;
		for (unsigned k = 0; k < 2; k++) {
			int fd = dial_from(w, k == 0 ? "127.0.0.1" : "127.0.0.2");

			if (k == 0 ? cases[i].first : cases[i].second) {
				await_connections(w, 1);
				close(fd);
				await_connections(w, 0);
			} else {
				assert_closed_at_once(w, fd);
			}
		}
		stop(w);
	}
}

/* They send half a request, or nothing, and stay. */
static void test_half_open_connections(void **state)
{
	struct world *w = *state;
	static int fds[HALF_OPEN];
	struct rlimit files = {0};
	struct client *c;

	/* both ends are ours */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	assert_true(files.rlim_max >= 3 * HALF_OPEN);
	files.rlim_cur = 3 * HALF_OPEN;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);

	add(w, "a", MODBUS_INPUT_REGISTER, 0, 0, 16);
	start(w);
	for (size_t i = 0; i < HALF_OPEN; i++) {
		fds[i] = dial_from(w, "127.0.0.1");
		if (i % 2 == 0)
			assert_int_equal(write(fds[i], "\0\1\0\0\0\6", 6), 6);
		if (i % 16 == 0)
			loop_turn(w->loop, 0);
	}
	UNTIL(w, w->port->count == HALF_OPEN);
	c = dial(w);
	assert_int_equal(read_cells(w, c, MODBUS_INPUT_REGISTER, 0, 1), 0);
	for (size_t i = 0; i < HALF_OPEN; i++) {
		closep(&fds[i]);
		if (i % 16 == 0)
			loop_turn(w->loop, 0);
	}
	UNTIL(w, w->port->count == 1);
	w->port->read = w->port->n;
	assert_int_equal(connection_id(w, 0), HALF_OPEN + 1);
	assert_int_equal(read_cells(w, c, MODBUS_INPUT_REGISTER, 0, 1), 0);
}

/* ---- reading ---- */

static void test_query(void **state)
{
	struct world *w = *state;

	add(w, "a", MODBUS_COIL, 0, 0, 1);
	start(w);
	assert_int_equal(w->port->asked_states, 1);
}

static void test_read_query_data(void **state)
{
	struct world *w = *state;
	struct client *c;

	add(w, "a", MODBUS_INPUT_REGISTER, 0, 0, 16);
	add(w, "b", MODBUS_INPUT_REGISTER, 1, 0, 8);
	add(w, "c", MODBUS_INPUT_REGISTER, 2, 0, 64);
	store(w, "a", value_of(0x1234));
	store(w, "b", value_of(0x100)); /* too wide: as if not there */
	store(w, "c", json_pack("{s:s}", "value", "18446744073709551615"));
	store(w, "gone", value_of(1));
	start(w);
	c = dial_and_wait(w, 1);
	assert_int_equal(read_cells(w, c, MODBUS_INPUT_REGISTER, 0, 6), 0);
	assert_int_equal(w->answer.values[0], 0x1234);
	assert_int_equal(w->answer.values[1], 0);
	for (unsigned i = 2; i < 6; i++)
		assert_int_equal(w->answer.values[i], 0xffff);
}

static void test_read_no_data(void **state)
{
	struct world *w = *state;
	struct client *c;

	for (unsigned t = MODBUS_COIL; t <= MODBUS_INPUT_REGISTER; t++)
		add(w, modbus_data_type_names[t], t, 5, 0, 7);
	start(w);
	c = dial_and_wait(w, 1);
	for (unsigned t = MODBUS_COIL; t <= MODBUS_INPUT_REGISTER; t++) {
		assert_int_equal(read_cells(w, c, t, 5, 1), 0);
		assert_int_equal(w->answer.values[0], 0);
	}
}

#define NONE      \
	{         \
		0 \
	}
#define BAD_ADDRESS MODBUS_ILLEGAL_DATA_ADDRESS

static const struct read_case {
	enum modbus_data_type type; /* of the point */
	unsigned address, offset, count;
	json_int_t value;
	enum modbus_data_type read_type;
	unsigned read_address, quantity, exception;
	uint16_t values[8];
} read_cases[] = {
	/* bits */
	{MODBUS_COIL, 0, 0, 1, 0, MODBUS_COIL, 0, 1, 0, {0}},
	{MODBUS_COIL, 0, 0, 1, 1, MODBUS_COIL, 0, 1, 0, {1}},
	{MODBUS_COIL, 3, 2, 1, 1, MODBUS_COIL, 5, 1, 0, {1}},
	{MODBUS_COIL, 3, 2, 1, 1, MODBUS_COIL, 3, 1, BAD_ADDRESS, NONE},
	{MODBUS_COIL, 3, 2, 1, 1, MODBUS_COIL, 6, 1, BAD_ADDRESS, NONE},
	{MODBUS_COIL, 0, 0, 4, 0xa, MODBUS_COIL, 0, 4, 0, {1, 0, 1, 0}},
	{MODBUS_COIL, 0, 0, 4, 0xa, MODBUS_COIL, 1, 2, 0, {0, 1}},
	{MODBUS_COIL, 0, 0, 4, 0xa, MODBUS_COIL, 0, 5, BAD_ADDRESS, NONE},
	{MODBUS_COIL, 0, 0, 4, 0x10, MODBUS_COIL, 0, 4, 0, {0, 0, 0, 0}}, /* too wide */
	{MODBUS_COIL, 65535, 0, 1, 1, MODBUS_COIL, 65535, 1, 0, {1}},
	{MODBUS_COIL, 0, 0, 1, 1, MODBUS_DISCRETE_INPUT, 0, 1, BAD_ADDRESS, NONE},
	{MODBUS_COIL, 0, 0, 1, 1, MODBUS_HOLDING_REGISTER, 0, 1, BAD_ADDRESS, NONE},
	{MODBUS_DISCRETE_INPUT, 7, 0, 3, 6, MODBUS_DISCRETE_INPUT, 7, 3, 0, {1, 1, 0}},
	{MODBUS_DISCRETE_INPUT, 7, 0, 3, 6, MODBUS_COIL, 7, 1, BAD_ADDRESS, NONE},
	{MODBUS_DISCRETE_INPUT, 7, 0, 3, 8, MODBUS_DISCRETE_INPUT, 7, 3, 0, {0, 0, 0}},
	/* registers */
	{MODBUS_HOLDING_REGISTER, 0, 0, 16, 0x1234, MODBUS_HOLDING_REGISTER, 0, 1, 0, {0x1234}},
	{MODBUS_HOLDING_REGISTER, 9, 0, 1, 1, MODBUS_HOLDING_REGISTER, 9, 1, 0, {0x8000}},
	{MODBUS_HOLDING_REGISTER, 9, 15, 1, 1, MODBUS_HOLDING_REGISTER, 9, 1, 0, {1}},
	{MODBUS_HOLDING_REGISTER, 9, 7, 2, 3, MODBUS_HOLDING_REGISTER, 9, 1, 0, {0x0180}},
	{MODBUS_HOLDING_REGISTER, 9, 7, 2, 4, MODBUS_HOLDING_REGISTER, 9, 1, 0, {0}},
	{MODBUS_HOLDING_REGISTER,
	 0,
	 8,
	 32,
	 0x3456789a,
	 MODBUS_HOLDING_REGISTER,
	 0,
	 3,
	 0,
	 {0x0034, 0x5678, 0x9a00}},
	{MODBUS_HOLDING_REGISTER, 0, 8, 16, 0x1234, MODBUS_HOLDING_REGISTER, 1, 1, 0, {0x3400}},
	{MODBUS_HOLDING_REGISTER, 0, 8, 16, 0x1234, MODBUS_HOLDING_REGISTER, 0, 3, BAD_ADDRESS,
	 NONE},
	{MODBUS_HOLDING_REGISTER, 0, 16, 8, 0x12, MODBUS_HOLDING_REGISTER, 1, 1, 0, {0x1200}},
	{MODBUS_HOLDING_REGISTER, 0, 16, 8, 0x12, MODBUS_HOLDING_REGISTER, 0, 1, BAD_ADDRESS, NONE},
	{MODBUS_HOLDING_REGISTER, 0, 0, 16, 0x10000, MODBUS_HOLDING_REGISTER, 0, 1, 0, {0}},
	{MODBUS_HOLDING_REGISTER, 0, 0, 16, -1, MODBUS_HOLDING_REGISTER, 0, 1, 0, {0}},
	{MODBUS_HOLDING_REGISTER, 0, 0, 16, 1, MODBUS_INPUT_REGISTER, 0, 1, BAD_ADDRESS, NONE},
	{MODBUS_INPUT_REGISTER,
	 100,
	 0,
	 63,
	 INT64_MAX,
	 MODBUS_INPUT_REGISTER,
	 100,
	 4,
	 0,
	 {0xffff, 0xffff, 0xffff, 0xfffe}},
	{MODBUS_INPUT_REGISTER, 65535, 0, 16, 7, MODBUS_INPUT_REGISTER, 65535, 1, 0, {7}},
	{MODBUS_INPUT_REGISTER, 0, 0, 16, 1, MODBUS_HOLDING_REGISTER, 0, 1, BAD_ADDRESS, NONE},
};

static void test_read(void **state)
{
	struct world *w = *state;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(read_cases); i++) {
		const struct read_case *r = &read_cases[i];
		bool fits = r->value >= 0 && (r->count >= 63 || r->value >> r->count == 0);

		json_array_clear(json_object_get(w->conf, "data"));
		set_framing(w, framings[i % 3]);
		add(w, "d1", r->type, r->address, r->offset, r->count);
		assert_int_equal(create(w, &err), 0);
		w->n = 0;
		struct client *c = dial(w);
		assert_int_equal(tell(w, "d1", value_of(r->value)) == 0, fits);
		assert_int_equal(read_cells(w, c, r->read_type, r->read_address, r->quantity),
				 r->exception);
		for (unsigned k = 0; r->exception == 0 && k < r->quantity; k++)
			assert_int_equal(w->answer.values[k], r->values[k]);
		stop(w);
		closep(&c->fd);
	}
	w->n = 0;
}

static void test_process_unconfigured_data(void **state)
{
	const char *const nested[] = {"data", "a", "b"}, *const command[] = {"command"};
	struct world *w = *state;
	json_auto_t *payload = value_of(1);
	struct client *c;
	struct err err;

	add(w, "a", MODBUS_INPUT_REGISTER, 0, 0, 16);
	start(w);
	c = dial_and_wait(w, 1);
	assert_true(tell(w, "b", value_of(1)) < 0);
	assert_true(tell(w, "a", json_integer(1)) < 0);
	assert_true(tell(w, "a", json_pack("{s:f}", "value", 1.5)) < 0);
	assert_true(tell(w, "a", json_pack("{s:n}", "value")) < 0);
	assert_true(tell(w, "a", json_pack("{s:[]}", "value")) < 0);
	assert_true(tell(w, "a", json_object()) < 0);
	assert_true(modbus_slave_type.ops->event(w->instance, nested, 3, payload, &err) < 0);
	assert_true(modbus_slave_type.ops->event(w->instance, command, 1, payload, &err) < 0);
	assert_int_equal(read_cells(w, c, MODBUS_INPUT_REGISTER, 0, 1), 0);
	assert_int_equal(w->answer.values[0], 0);
	ASSERT_SILENT(w);
}

/* ---- writing ---- */

static const struct write_case {
	enum modbus_data_type type;
	unsigned address, offset, count;
	json_int_t before;
	unsigned write_address, quantity;
	uint16_t values[5];
	const char *data; /* of the event */
} write_cases[] = {
	{MODBUS_COIL, 0, 0, 1, 0, 0, 1, {1}, "[{\"name\":\"d1\",\"value\":1}]"},
	{MODBUS_COIL, 0, 0, 1, 1, 0, 1, {0}, "[{\"name\":\"d1\",\"value\":0}]"},
	{MODBUS_COIL, 0, 0, 3, 0, 0, 3, {1, 0, 1}, "[{\"name\":\"d1\",\"value\":5}]"},
	{MODBUS_COIL, 0, 0, 3, 2, 2, 1, {1}, "[{\"name\":\"d1\",\"value\":3}]"},
	{MODBUS_COIL, 0, 4, 3, 7, 5, 1, {0}, "[{\"name\":\"d1\",\"value\":5}]"},
	{MODBUS_HOLDING_REGISTER, 0, 0, 16, 0, 0, 1, {18}, "[{\"name\":\"d1\",\"value\":18}]"},
	{MODBUS_HOLDING_REGISTER, 0, 0, 1, 0, 0, 1, {0x8000}, "[{\"name\":\"d1\",\"value\":1}]"},
	{MODBUS_HOLDING_REGISTER, 0, 0, 1, 0, 0, 1, {0x7fff}, "[{\"name\":\"d1\",\"value\":0}]"},
	{MODBUS_HOLDING_REGISTER, 0, 4, 8, 0, 0, 1, {0x1234}, "[{\"name\":\"d1\",\"value\":35}]"},
	{MODBUS_HOLDING_REGISTER, 0, 0, 32, 0, 0, 2, {1, 2}, "[{\"name\":\"d1\",\"value\":65538}]"},
	/* a part of a point: the rest is as it was */
	{MODBUS_HOLDING_REGISTER,
	 0,
	 0,
	 32,
	 0x10002,
	 1,
	 1,
	 {7},
	 "[{\"name\":\"d1\",\"value\":65543}]"},
	{MODBUS_HOLDING_REGISTER,
	 0,
	 8,
	 32,
	 0x11223344,
	 0,
	 1,
	 {0xabcd},
	 "[{\"name\":\"d1\",\"value\":3441570628}]"}, /* 0xcd223344 */
	{MODBUS_HOLDING_REGISTER,
	 0,
	 8,
	 32,
	 0x11223344,
	 2,
	 1,
	 {0xabcd},
	 "[{\"name\":\"d1\",\"value\":287454123}]"}, /* 0x112233ab */
	{MODBUS_HOLDING_REGISTER,
	 0,
	 0,
	 64,
	 0,
	 0,
	 4,
	 {0xffff, 0xffff, 0xffff, 0xffff},
	 "[{\"name\":\"d1\",\"value\":\"18446744073709551615\"}]"},
};

static void check_write(struct world *w, const struct modbus_request *q, const char *data,
			bool success)
{
	struct client *c = &w->clients[0];

	ask(w, c, UNIT, q);
	const struct fake_event *e = await_write(w, data);
	assert_int_equal(json_integer_value(json_object_get(e->payload, "connection_id")), 1);
	assert_int_equal(respond(w, request_id(e), success), 0);
	assert_int_equal(answered(w, c, UNIT, q), success ? 0 : MODBUS_SERVER_FAILURE);
	ASSERT_SILENT(w);
}

static void restart_with_client(struct world *w)
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

static void test_write(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(write_cases); i++) {
		const struct write_case *r = &write_cases[i];
		struct modbus_request q =
			write_of(r->type, r->write_address, r->quantity, r->values);

		json_array_clear(json_object_get(w->conf, "data"));
		set_framing(w, framings[i % 3]);
		add(w, "d1", r->type, r->address, r->offset, r->count);
		restart_with_client(w);
		assert_int_equal(tell(w, "d1", value_of(r->before)), 0);
		check_write(w, &q, r->data, true);
		check_write(w, &q, r->data, false);
		/* the value has not changed: only an event changes it */
		unsigned size = modbus_cell_bits(r->type), first = r->address + r->offset / size;
		struct modbus_bits b = {.type = (uint8_t)r->type,
					.address = (uint16_t)first,
					.offset = r->offset % size,
					.count = (uint8_t)r->count};
		assert_int_equal(
			read_cells(w, &w->clients[0], r->type, first, modbus_bits_cells(&b)), 0);
		assert_true(modbus_bits_get(&b, w->answer.values) == (uint64_t)r->before);
	}
}

static void test_write_multiple(void **state)
{
	static const uint16_t values[] = {0x1234, 0x5678}, coils[] = {1, 0, 1};
	struct world *w = *state;
	struct modbus_request q = write_of(MODBUS_HOLDING_REGISTER, 0, 2, values);

	add(w, "z", MODBUS_HOLDING_REGISTER, 0, 0, 8);
	add(w, "a", MODBUS_HOLDING_REGISTER, 1, 8, 8);
	add(w, "in", MODBUS_INPUT_REGISTER, 0, 0, 16);
	add(w, "m", MODBUS_HOLDING_REGISTER, 0, 8, 16);
	add(w, "other", MODBUS_HOLDING_REGISTER, 2, 0, 16);
	for (unsigned i = 0; i < 3; i++)
		add(w, i == 0 ? "c0" : i == 1 ? "c1" : "c2", MODBUS_COIL, i, 0, 1);
	add_of(w, UNIT + 1, "far", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	restart_with_client(w);
	check_write(w, &q,
		    "[{\"name\":\"z\",\"value\":18},{\"name\":\"a\",\"value\":120},"
		    "{\"name\":\"m\",\"value\":13398}]",
		    true);
	q = write_of(MODBUS_COIL, 0, 3, coils);
	check_write(w, &q,
		    "[{\"name\":\"c0\",\"value\":1},{\"name\":\"c1\",\"value\":0},"
		    "{\"name\":\"c2\",\"value\":1}]",
		    true);
}

static void test_write_error(void **state)
{
	static const struct {
		enum modbus_data_type type;
		unsigned address, quantity;
	} cases[] = {
		{MODBUS_COIL, 1, 1},             /* beside it */
		{MODBUS_COIL, 0, 2},             /* begins in it */
		{MODBUS_COIL, 4, 3},             /* a hole */
		{MODBUS_HOLDING_REGISTER, 1, 1}, /* beside it */
		{MODBUS_HOLDING_REGISTER, 3, 3}, /* all beside it */
		{MODBUS_HOLDING_REGISTER, 1, 2}, /* ends in it */
		{MODBUS_HOLDING_REGISTER, 4, 1}, /* an input register */
	};
	static const uint16_t values[] = {1, 0, 1};
	struct world *w = *state;

	add(w, "c0", MODBUS_COIL, 0, 0, 1);
	add(w, "c4", MODBUS_COIL, 4, 0, 1);
	add(w, "c6", MODBUS_COIL, 6, 0, 1);
	add(w, "r2", MODBUS_HOLDING_REGISTER, 2, 0, 16);
	add(w, "i4", MODBUS_INPUT_REGISTER, 4, 0, 16);
	restart_with_client(w);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct modbus_request q =
			write_of(cases[i].type, cases[i].address, cases[i].quantity, values);

		assert_int_equal(exchange(w, &w->clients[0], UNIT, &q), BAD_ADDRESS);
	}
	ASSERT_SILENT(w);
}

/* One bit after the other, as the standard says it (6.16). */
static uint64_t masked(unsigned offset, unsigned count, uint64_t old, unsigned and_mask,
		       unsigned or_mask)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < count; i++) {
		unsigned place = 15 - offset - i;
		unsigned bit = old >> (count - 1 - i) & 1;
		unsigned a = and_mask >> place & 1, o = or_mask >> place & 1;

		v = v << 1 | ((bit & a) | (o & (a ^ 1)));
	}
	return v;
}

/* Places, old values and masks, each with each: 176 cases. */
static void test_write_mask(void **state)
{
	static const struct {
		unsigned offset, count;
		json_int_t old[4];
		size_t n;
	} places[] = {
		{0, 1, {0, 1}, 2},
		{15, 1, {0, 1}, 2},
		{7, 2, {0, 1, 2, 3}, 4},
		{0, 16, {0, 0xffff, 0x1234}, 3},
	};
	struct world *w = *state;

	for (size_t p = 0; p < ARRAY_LEN(places); p++) {
		unsigned count = places[p].count;
		unsigned bits = ((1U << count) - 1) << (16 - places[p].offset - count);
		const unsigned masks[] = {0, bits, ~bits & 0xffff, 0xffff};

		json_array_clear(json_object_get(w->conf, "data"));
		add(w, "d1", MODBUS_HOLDING_REGISTER, 0, places[p].offset, count);
		restart_with_client(w);
		for (size_t i = 0; i < places[p].n * 16; i++) {
			json_int_t old = places[p].old[i / 16];
			unsigned and_mask = masks[i / 4 % 4], or_mask = masks[i % 4];
			struct modbus_request q = mask_of(0, and_mask, or_mask);
			char data[80];

			assert_int_equal(tell(w, "d1", value_of(old)), 0);
			if ((~and_mask & bits) == 0) { /* all protected: no event */
				assert_int_equal(exchange(w, &w->clients[0], UNIT, &q), 0);
				ASSERT_SILENT(w);
				continue;
			}
			snprintf(data, sizeof(data), "[{\"name\":\"d1\",\"value\":%u}]",
				 (unsigned)masked(places[p].offset, count, (uint64_t)old, and_mask,
						  or_mask));
			check_write(w, &q, data, i % 2 == 0);
		}
	}
}

/* By hand, the first from the standard: 0x12 AND 0xF2 OR 0x25 is 0x17. */
static void test_write_mask_values(void **state)
{
	static const struct {
		unsigned and_mask, or_mask;
		json_int_t old;
		const char *data;
	} cases[] = {
		{0xf2, 0x25, 0x12, "[{\"name\":\"d1\",\"value\":23}]"},
		{0x1234, 0, 0xffff, "[{\"name\":\"d1\",\"value\":4660}]"},
		{0, 0x4321, 0x1234, "[{\"name\":\"d1\",\"value\":17185}]"},
		{0x1234, 0, 0, "[{\"name\":\"d1\",\"value\":0}]"},
		{0xff00, 0xffff, 0xabcd, "[{\"name\":\"d1\",\"value\":44031}]"},
	};
	struct world *w = *state;

	add(w, "d1", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	restart_with_client(w);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct modbus_request q = mask_of(0, cases[i].and_mask, cases[i].or_mask);

		assert_int_equal(tell(w, "d1", value_of(cases[i].old)), 0);
		check_write(w, &q, cases[i].data, true);
	}
}

static void test_write_mask_multiple(void **state)
{
	struct world *w = *state;
	struct modbus_request q = mask_of(0, 0x55ff, 0x88ff);
	static const char *const names[] = {"b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"};

	for (unsigned i = 0; i < 8; i++)
		add(w, names[i], MODBUS_HOLDING_REGISTER, 0, i, 1);
	add(w, "x", MODBUS_HOLDING_REGISTER, 1, 8, 16);
	add(w, "y", MODBUS_HOLDING_REGISTER, 2, 8, 16);
	restart_with_client(w);
	check_write(w, &q,
		    "[{\"name\":\"b0\",\"value\":1},{\"name\":\"b2\",\"value\":0},"
		    "{\"name\":\"b4\",\"value\":1},{\"name\":\"b6\",\"value\":0}]",
		    true);
	q = mask_of(2, 0xff00, 0x00ff); /* of the second register only y */
	check_write(w, &q, "[{\"name\":\"y\",\"value\":65280}]", true);
	q = mask_of(2, 0x00ff, 0xab00); /* and only x */
	check_write(w, &q, "[{\"name\":\"x\",\"value\":171}]", true);
	q = mask_of(3, 0, 0xffff);
	check_write(w, &q, "[{\"name\":\"y\",\"value\":255}]", true);
}

static void test_write_mask_error(void **state)
{
	struct world *w = *state;

	add(w, "a", MODBUS_HOLDING_REGISTER, 1, 0, 16);
	add(w, "b", MODBUS_INPUT_REGISTER, 2, 0, 16);
	add(w, "c", MODBUS_COIL, 0, 0, 16);
	restart_with_client(w);
	for (unsigned address = 0; address < 4; address++) {
		struct modbus_request q = mask_of(address, 0, 1);

		if (address != 1)
			assert_int_equal(exchange(w, &w->clients[0], UNIT, &q), BAD_ADDRESS);
	}
	ASSERT_SILENT(w);
}

static void test_write_response_invalid_request_id(void **state)
{
	static const uint16_t value = 5;
	struct world *w = *state;
	struct modbus_request q = write_of(MODBUS_HOLDING_REGISTER, 0, 1, &value);
	const char *const path[] = {"write"};
	json_auto_t *bad = json_pack("{s:i, s:b}", "request_id", 7, "success", 1);
	struct err err;

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	restart_with_client(w);
	ask(w, &w->clients[0], UNIT, &q);
	const struct fake_event *e = await_write(w, "[{\"name\":\"a\",\"value\":5}]");
	assert_true(respond(w, "x", true) < 0);
	assert_true(modbus_slave_type.ops->event(w->instance, path, 1, bad, &err) < 0);
	assert_no_answer(w, &w->clients[0]);
	assert_int_equal(respond(w, request_id(e), true), 0);
	assert_int_equal(answered(w, &w->clients[0], UNIT, &q), 0);
	assert_true(respond(w, request_id(e), true) < 0); /* it has been answered */
	assert_no_answer(w, &w->clients[0]);
}

static void test_write_response_timeout(void **state)
{
	static const uint16_t value = 5;
	struct world *w = *state;
	struct modbus_request q = write_of(MODBUS_HOLDING_REGISTER, 0, 1, &value);
	int64_t begin = now_ms();

	json_object_set_new(transport(w), "response_timeout", json_real(0.2));
	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	restart_with_client(w);
	ask(w, &w->clients[0], UNIT, &q);
	const struct fake_event *e = await_write(w, "[{\"name\":\"a\",\"value\":5}]");
	assert_int_equal(answered(w, &w->clients[0], UNIT, &q), MODBUS_SERVER_FAILURE);
	assert_true(now_ms() - begin >= 200);
	assert_true(respond(w, request_id(e), true) < 0);
	assert_int_equal(read_cells(w, &w->clients[0], MODBUS_HOLDING_REGISTER, 0, 1), 0);
}

/* Several wait, on as many connections; on each the next request is read after the answer. */
static void test_writes_pending_on_several_connections(void **state)
{
	struct world *w = *state;
	struct modbus_request q[3], r = read_of(MODBUS_HOLDING_REGISTER, 0, 1);
	const struct fake_event *e[3];

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	restart_with_client(w);
	dial_and_wait(w, 2);
	dial_and_wait(w, 3);
	for (uint16_t i = 0; i < 3; i++) {
		char data[80];

		q[i] = write_of(MODBUS_HOLDING_REGISTER, 0, 1, &i);
		snprintf(data, sizeof(data), "[{\"name\":\"a\",\"value\":%u}]", i);
		ask(w, &w->clients[i], UNIT, &q[i]);
		e[i] = await_write(w, data);
		assert_int_equal(
			json_integer_value(json_object_get(e[i]->payload, "connection_id")), i + 1);
		ask(w, &w->clients[i], UNIT, &r);
		w->clients[i].transaction--; /* of the answer that comes first */
	}
	assert_no_answer(w, &w->clients[0]);
	closep(&w->clients[0].fd);
	await_connections(w, 2);
	for (size_t i = 2; i > 0; i--) {
		struct client *c = &w->clients[i];

		assert_int_equal(respond(w, request_id(e[i]), true), 0);
		assert_int_equal(answered(w, c, UNIT, &q[i]), 0);
		c->transaction++;
		assert_int_equal(answered(w, c, UNIT, &r), 0);
	}
	assert_true(respond(w, request_id(e[0]), true) < 0); /* nobody waits any more */
	ASSERT_SILENT(w);
}

/* What comes behind a write is kept, up to a limit. */
static void test_requests_behind_a_write(void **state)
{
	static const uint16_t value = 5;
	struct world *w = *state;
	struct modbus_request q = write_of(MODBUS_HOLDING_REGISTER, 0, 1, &value),
			      r = read_of(MODBUS_HOLDING_REGISTER, 0, 1);
	struct client *c;

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	restart_with_client(w);
	c = &w->clients[0];
	ask(w, c, UNIT, &q);
	for (unsigned i = 0; i < 1000; i++)
		ask(w, c, UNIT, &r);
	const struct fake_event *e = await_write(w, "[{\"name\":\"a\",\"value\":5}]");
	assert_int_equal(respond(w, request_id(e), true), 0);
	c->transaction = 1;
	assert_int_equal(answered(w, c, UNIT, &q), 0);
	for (unsigned i = 0; i < 1000; i++) {
		c->transaction++;
		assert_int_equal(answered(w, c, UNIT, &r), 0);
	}
	/* one that never stops is closed */
	ask(w, c, UNIT, &q);
	await_write(w, "[{\"name\":\"a\",\"value\":5}]");
	uint8_t bytes[MODBUS_FRAME_MAX];
	size_t n = frame_of(w, c, UNIT, &r, bytes);
	int64_t end = now_ms() + PATIENCE_MS;
	while (w->port->n == w->port->read && now_ms() < end) {
		(void)send(c->fd, bytes, n, MSG_NOSIGNAL);
		loop_turn(w->loop, 0);
	}
	await_connections(w, 0);
}

/* ---- device ids ---- */

static void check_no_device(struct world *w, struct client *c, unsigned unit, unsigned exception)
{
	static const uint16_t value = 5;
	struct modbus_request q[] = {read_of(MODBUS_HOLDING_REGISTER, 0, 1),
				     write_of(MODBUS_HOLDING_REGISTER, 0, 1, &value),
				     mask_of(0, 0, 1)};

	for (size_t i = 0; i < ARRAY_LEN(q); i++) {
		if (exception != 0) {
			assert_int_equal(exchange(w, c, unit, &q[i]), exception);
			continue;
		}
		ask(w, c, unit, &q[i]);
		assert_no_answer(w, c);
	}
	ASSERT_SILENT(w);
}

static void check_no_device_serial(struct world *w, unsigned unit)
{
	for (size_t i = 0; i < ARRAY_LEN(framings); i++) {
		struct err err;

		set_framing(w, framings[i]);
		use_line(w, 60);
		assert_int_equal(create(w, &err), 0);
		w->port->read = w->port->n;
		w->n = 0;
		struct client *c = on_line(w);
		check_no_device(w, c, unit, 0);
		assert_int_equal(read_cells(w, c, MODBUS_HOLDING_REGISTER, 0, 1), 0);
		assert_int_equal(w->answer.values[0], 0); /* nor had it an effect */
		stop(w);
		closep(&c->fd);
		closep(&w->master_fd);
		closep(&w->slave_fd);
	}
	w->n = 0;
}

static void check_no_device_tcp(struct world *w, unsigned unit)
{
	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	for (size_t i = 0; i < ARRAY_LEN(framings); i++) {
		set_framing(w, framings[i]);
		restart_with_client(w);
		check_no_device(w, &w->clients[0], unit, BAD_ADDRESS);
	}
	stop(w);
	closep(&w->clients[0].fd);
}

static void test_invalid_device_id(void **state)
{
	check_no_device_tcp(*state, 13);
	check_no_device_serial(*state, 13);
}

static void test_broadcast_device_id(void **state)
{
	check_no_device_tcp(*state, 0);
	check_no_device_serial(*state, 0);
}

/* ---- functions, frames ---- */

static void test_functions(void **state)
{
	struct world *w = *state;
	struct modbus_request fifo = {.function = 24};

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	for (size_t i = 0; i < ARRAY_LEN(framings); i++) {
		set_framing(w, framings[i]);
		restart_with_client(w);
		assert_int_equal(exchange(w, &w->clients[0], UNIT, &fifo), BAD_ADDRESS);
		for (unsigned f = 1; f < 128; f += f == 6 ? 8 : 1) {
			struct modbus_request q = {.function = (uint8_t)f};
			uint8_t pdu[] = {(uint8_t)f}, bytes[MODBUS_FRAME_MAX];
			struct client *c = &w->clients[0];

			if (f < 7 || (f >= 15 && f <= 17) || f == 22 || f == 24)
				continue;
			size_t n = modbus_frame_encode(
				w->framing,
				&(struct modbus_frame){.transaction = w->framing == MODBUS_TCP
									      ? ++c->transaction
									      : 0,
						       .unit = UNIT,
						       .pdu = pdu,
						       .len = 1},
				bytes);
			if (w->framing == MODBUS_RTU)
				continue; /* their length is not known: see the serial line */
			put(c, bytes, n);
			assert_int_equal(answered(w, c, UNIT, &q), MODBUS_ILLEGAL_FUNCTION);
		}
		assert_int_equal(read_cells(w, &w->clients[0], MODBUS_HOLDING_REGISTER, 0, 1), 0);
	}
}

static void test_unknown_function_serial(void **state)
{
	struct world *w = *state;

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	for (size_t i = 1; i < ARRAY_LEN(framings); i++) {
		const uint8_t pdu[] = {0x2b, 0x0e, 0x01, 0x00}; /* device identification */
		struct modbus_request q = {.function = 0x2b};
		uint8_t bytes[MODBUS_FRAME_MAX];
		struct err err;

		set_framing(w, framings[i]);
		use_line(w, 60);
		assert_int_equal(create(w, &err), 0);
		w->n = 0;
		struct client *c = on_line(w);
		put(c, bytes,
		    modbus_frame_encode(w->framing,
					&(struct modbus_frame){.unit = UNIT, .pdu = pdu, .len = 4},
					bytes));
		assert_int_equal(answered(w, c, UNIT, &q), MODBUS_ILLEGAL_FUNCTION);
		assert_int_equal(read_cells(w, c, MODBUS_HOLDING_REGISTER, 0, 1), 0);
		stop(w);
		closep(&c->fd);
		closep(&w->master_fd);
		closep(&w->slave_fd);
	}
	w->n = 0;
}

/* The same octets one at a time and in one piece: the same answers. */
static void test_byte_dribble(void **state)
{
	static const uint16_t value = 5;
	struct world *w = *state;
	struct modbus_request q[] = {read_of(MODBUS_HOLDING_REGISTER, 0, 2),
				     write_of(MODBUS_HOLDING_REGISTER, 9, 1, &value),
				     mask_of(1, 0xffff, 0), read_of(MODBUS_COIL, 0, 1)};
	static const unsigned exceptions[] = {0, BAD_ADDRESS, 0, BAD_ADDRESS};

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 32);
	for (size_t i = 0; i < 2 * ARRAY_LEN(framings); i++) {
		uint8_t bytes[4 * MODBUS_FRAME_MAX];
		size_t n = 0;

		set_framing(w, framings[i / 2]);
		restart_with_client(w);
		struct client *c = &w->clients[0];
		for (size_t k = 0; k < ARRAY_LEN(q); k++)
			n += frame_of(w, c, UNIT, &q[k], bytes + n);
		if (i % 2 == 0)
			put(c, bytes, n);
		for (size_t k = 0; i % 2 == 1 && k < n; k++) {
			put(c, &bytes[k], 1);
			loop_turn(w->loop, 0);
		}
		c->transaction = 0;
		for (size_t k = 0; k < ARRAY_LEN(q); k++) {
			c->transaction = w->framing == MODBUS_TCP ? (uint16_t)(k + 1) : 0;
			assert_int_equal(answered(w, c, UNIT, &q[k]), exceptions[k]);
		}
	}
}

static void test_garbage_tcp(void **state)
{
	static const char *const streams[] = {
		"\0\1\0\1\0\6\1\3\0\0\0\1", /* protocol id 1 */
		"\0\1\0\0\0\0\1\3\0\0\0\1", /* length 0 */
		"\0\1\0\0\0\1\1\3\0\0\0\1", /* length 1 */
		"\0\1\0\0\377\377\1\3\0\0\0\1",
	};
	struct world *w = *state;

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	restart_with_client(w);
	for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
		struct client *c;

		w->n = 1;
		c = dial_and_wait(w, 2);
		put(c, streams[i], 12);
		await_connections(w, 1);
		closep(&c->fd);
	}
	assert_int_equal(read_cells(w, &w->clients[0], MODBUS_HOLDING_REGISTER, 0, 1), 0);
}

static void test_garbage_serial(void **state)
{
	struct world *w = *state;
	struct modbus_request q = read_of(MODBUS_HOLDING_REGISTER, 0, 1);
	struct err err;

	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	for (size_t i = 1; i < ARRAY_LEN(framings); i++) {
		uint8_t bytes[MODBUS_FRAME_MAX];

		set_framing(w, framings[i]);
		use_line(w, 60);
		assert_int_equal(create(w, &err), 0);
		w->n = 0;
		struct client *c = on_line(w);
		size_t n = frame_of(w, c, UNIT, &q, bytes);
		/* a wrong check: no answer, and a good frame right behind it is taken */
		bytes[n - 3] ^= 1;
		put(c, bytes, n);
		assert_no_answer(w, c);
		put(c, bytes, n);
		turn_for(w, 1200);
		assert_int_equal(exchange(w, c, UNIT, &q), 0);
		/* a frame that stops in the middle */
		bytes[n - 3] ^= 1;
		put(c, bytes, n / 2);
		turn_for(w, 1200);
		assert_int_equal(exchange(w, c, UNIT, &q), 0);
		stop(w);
		closep(&c->fd);
		closep(&w->master_fd);
		closep(&w->slave_fd);
	}
	w->n = 0;
}

/* ---- the view of IoTtalk ---- */

static void emitted(const struct fake_event *e, int rc)
{
	assert_non_null(e->done);
	e->done(e->arg, rc);
}

static void test_automatic_acknowledgement(void **state)
{
	static const uint16_t values[] = {18, 19};
	struct world *w = *state;
	struct modbus_request q = write_of(MODBUS_HOLDING_REGISTER, 0, 2, values);
	struct client *c;

	json_object_set_new(w->conf, "manual_ack", json_false());
	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	add(w, "b", MODBUS_HOLDING_REGISTER, 1, 0, 16);
	restart_with_client(w);
	c = &w->clients[0];
	ask(w, c, UNIT, &q);
	const struct fake_event *e =
		await_write(w, "[{\"name\":\"a\",\"value\":18},{\"name\":\"b\",\"value\":19}]");
	assert_int_equal(json_integer_value(w->port->values[0]), 18);
	assert_true(e->point == 1 && e->value.kind == VALUE_UINT && e->value.u == 19);
	assert_true(respond(w, request_id(e), true) < 0); /* it is not asked */
	assert_no_answer(w, c);                           /* not safe yet */
	emitted(e, 0);
	assert_int_equal(answered(w, c, UNIT, &q), 0);
	assert_int_equal(read_cells(w, c, MODBUS_HOLDING_REGISTER, 0, 2), 0);
	assert_int_equal(w->answer.values[0], 18);
	assert_int_equal(w->answer.values[1], 19);
	/* it was given up */
	ask(w, c, UNIT, &q);
	e = await_write(w, "[{\"name\":\"a\",\"value\":18},{\"name\":\"b\",\"value\":19}]");
	emitted(e, ERR_LIMIT);
	assert_int_equal(answered(w, c, UNIT, &q), MODBUS_SERVER_FAILURE);
	/* the master goes away before it is safe */
	ask(w, c, UNIT, &q);
	e = await_write(w, "[{\"name\":\"a\",\"value\":18},{\"name\":\"b\",\"value\":19}]");
	closep(&c->fd);
	await_connections(w, 0);
	emitted(e, 0);
	/* so does the device, and nobody calls any more */
	w->n = 0;
	c = dial_and_wait(w, 1);
	ask(w, c, UNIT, &q);
	await_write(w, "[{\"name\":\"a\",\"value\":18},{\"name\":\"b\",\"value\":19}]");
	stop(w);
}

static void test_automatic_acknowledgement_timeout(void **state)
{
	static const uint16_t value = 18;
	struct world *w = *state;
	struct modbus_request q = write_of(MODBUS_HOLDING_REGISTER, 0, 1, &value);

	json_object_set_new(w->conf, "manual_ack", json_false());
	json_object_set_new(transport(w), "response_timeout", json_real(0.2));
	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	restart_with_client(w);
	ask(w, &w->clients[0], UNIT, &q);
	const struct fake_event *e = await_write(w, "[{\"name\":\"a\",\"value\":18}]");
	assert_int_equal(answered(w, &w->clients[0], UNIT, &q), MODBUS_SERVER_FAILURE);
	emitted(e, 0); /* late */
	assert_no_answer(w, &w->clients[0]);
}

/* A point may have its own mind; a request waits if one of its points wants it to. */
static void test_manual_acknowledgement_of_a_point(void **state)
{
	static const uint16_t values[] = {18, 19};
	struct world *w = *state;
	struct modbus_request one = write_of(MODBUS_HOLDING_REGISTER, 0, 1, values),
			      both = write_of(MODBUS_HOLDING_REGISTER, 0, 2, values);
	struct client *c;

	json_object_set_new(w->conf, "manual_ack", json_false());
	add(w, "a", MODBUS_HOLDING_REGISTER, 0, 0, 16);
	add(w, "b", MODBUS_HOLDING_REGISTER, 1, 0, 16);
	json_object_set_new(json_array_get(json_object_get(w->conf, "data"), 1), "manual_ack",
			    json_true());
	restart_with_client(w);
	c = &w->clients[0];
	ask(w, c, UNIT, &one);
	emitted(await_write(w, "[{\"name\":\"a\",\"value\":18}]"), 0);
	assert_int_equal(answered(w, c, UNIT, &one), 0);
	assert_int_equal(tell(w, "a", value_of(0)), 0);
	ask(w, c, UNIT, &both);
	const struct fake_event *e =
		await_write(w, "[{\"name\":\"a\",\"value\":18},{\"name\":\"b\",\"value\":19}]");
	assert_null(e->done);
	assert_int_equal(respond(w, request_id(e), true), 0);
	assert_int_equal(answered(w, c, UNIT, &both), 0);
	assert_int_equal(read_cells(w, c, MODBUS_HOLDING_REGISTER, 0, 2), 0);
	assert_int_equal(w->answer.values[0], 18);
	assert_int_equal(w->answer.values[1], 0);
}

static void test_points_are_set(void **state)
{
	struct world *w = *state;
	struct port_call call = {0};
	struct value v = {.kind = VALUE_UINT, .u = 0x1234};

	add(w, "a", MODBUS_INPUT_REGISTER, 0, 0, 16);
	restart_with_client(w);
	modbus_slave_type.ops->write(w->instance, 0, &v, &call);
	assert_true(call.answers == 1 && call.ack == ACK_OK);
	assert_int_equal(read_cells(w, &w->clients[0], MODBUS_INPUT_REGISTER, 0, 1), 0);
	assert_int_equal(w->answer.values[0], 0x1234);
	v.u = 0x10000;
	modbus_slave_type.ops->write(w->instance, 0, &v, &call);
	assert_true(call.answers == 2 && call.ack == ACK_BAD_VALUE);
	json_auto_t *status = modbus_slave_type.ops->status(w->instance);
	assert_int_equal(json_integer_value(json_object_get(status, "connections")), 1);
	assert_int_equal(json_integer_value(json_object_get(status, "requests")), 1);
	ASSERT_SILENT(w);
}

static void test_orders(void **state)
{
	static const uint16_t expected[][2] = {
		{0x1122, 0x3344}, {0x4433, 0x2211}, {0x2211, 0x4433}, {0x3344, 0x1122}};
	struct world *w = *state;

	for (unsigned i = 0; modbus_order_names[i] != NULL; i++) {
		add(w, modbus_order_names[i], MODBUS_HOLDING_REGISTER, 2 * i, 0, 32);
		json_object_set_new(json_array_get(json_object_get(w->conf, "data"), i), "order",
				    json_string(modbus_order_names[i]));
	}
	restart_with_client(w);
	for (unsigned i = 0; modbus_order_names[i] != NULL; i++) {
		struct modbus_request q = write_of(MODBUS_HOLDING_REGISTER, 2 * i, 2, expected[i]);
		char data[80];

		assert_int_equal(tell(w, modbus_order_names[i], value_of(0x11223344)), 0);
		assert_int_equal(read_cells(w, &w->clients[0], MODBUS_HOLDING_REGISTER, 2 * i, 2),
				 0);
		assert_memory_equal(w->answer.values, expected[i], sizeof(expected[i]));
		snprintf(data, sizeof(data), "[{\"name\":\"%s\",\"value\":%u}]",
			 modbus_order_names[i], 0x11223344U);
		check_write(w, &q, data, true);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_valid_conf),
		TEST(test_invalid_conf),
		TEST(test_invalid_line),
		TEST(test_create),
		TEST(test_connections_tcp_tcp),
		TEST(test_connections_tcp_rtu),
		TEST(test_connections_tcp_ascii),
		TEST(test_connection_serial_tcp),
		TEST(test_connection_serial_rtu),
		TEST(test_connection_serial_ascii),
		TEST(test_serial_port_unplugged),
		TEST(test_keep_alive_timeout),
		TEST(test_max_connections),
		TEST(test_remote_hosts),
		TEST(test_half_open_connections),
		TEST(test_query),
		TEST(test_read_query_data),
		TEST(test_read_no_data),
		TEST(test_read),
		TEST(test_process_unconfigured_data),
		TEST(test_write),
		TEST(test_write_multiple),
		TEST(test_write_error),
		TEST(test_write_mask),
		TEST(test_write_mask_values),
		TEST(test_write_mask_multiple),
		TEST(test_write_mask_error),
		TEST(test_write_response_invalid_request_id),
		TEST(test_write_response_timeout),
		TEST(test_writes_pending_on_several_connections),
		TEST(test_requests_behind_a_write),
		TEST(test_invalid_device_id),
		TEST(test_broadcast_device_id),
		TEST(test_functions),
		TEST(test_unknown_function_serial),
		TEST(test_byte_dribble),
		TEST(test_garbage_tcp),
		TEST(test_garbage_serial),
		TEST(test_automatic_acknowledgement),
		TEST(test_automatic_acknowledgement_timeout),
		TEST(test_manual_acknowledgement_of_a_point),
		TEST(test_points_are_set),
		TEST(test_orders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
