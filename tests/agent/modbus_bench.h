/* modbus_bench.h - a Modbus master between a port that writes down what it is told, a connection
 * that the test answers, and a clock that the test turns.
 */
#pragma once

#include "agent/device/driver.h"
#include "agent/device/modbus/client.h"
#include "agent/device/modbus/master.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- the clock: stands for common/loop ---- */

#define TIMERS_MAX 64

struct loop_src {
	loop_fn *fn;
	void *arg;
	int64_t due_ms; /* -1: not armed */
};

struct loop {
	int64_t now_ms;
	struct loop_src *timers[TIMERS_MAX];
	size_t n;
};

static struct loop the_loop;

int loop_add_timer(struct loop *l, int64_t first_ms, int64_t every_ms, loop_fn *fn, void *arg,
		   struct loop_src **ret, struct err *err)
{
	(void)every_ms;
	(void)err;
	assert_true(l->n < TIMERS_MAX);
	*ret = calloc(1, sizeof(**ret));
	**ret = (struct loop_src){
		.fn = fn, .arg = arg, .due_ms = first_ms < 0 ? -1 : l->now_ms + first_ms};
	l->timers[l->n++] = *ret;
	return 0;
}

void loop_arm(struct loop *l, struct loop_src *timer, int64_t in_ms)
{
	timer->due_ms = in_ms < 0 ? -1 : l->now_ms + in_ms;
}

struct loop_src *loop_remove(struct loop *l, struct loop_src *src)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->timers[i] == src)
			l->timers[i] = l->timers[--l->n];
	free(src);
	return NULL;
}

int64_t loop_now_ms(struct loop *l)
{
	return l->now_ms;
}

/* Let time pass, and what is due happen at its time. */
static MAYBE_UNUSED void pass(int64_t ms)
{
	int64_t until = the_loop.now_ms + ms;

	for (;;) {
		struct loop_src *next = NULL;

		for (size_t i = 0; i < the_loop.n; i++) {
			struct loop_src *t = the_loop.timers[i];

			if (t->due_ms >= 0 && t->due_ms <= until &&
			    (next == NULL || t->due_ms < next->due_ms))
				next = t;
		}
		if (next == NULL)
			break;
		if (next->due_ms > the_loop.now_ms)
			the_loop.now_ms = next->due_ms;
		next->due_ms = -1;
		next->fn(next->arg);
	}
	the_loop.now_ms = until;
}

/* ---- the connection: stands for agent/device/modbus/client ---- */

#define WAITING_MAX 64

struct asked {
	uint8_t unit;
	struct modbus_request q;
	modbus_done_fn *done;
	void *arg;
};

struct modbus_client {
	const struct modbus_client_handlers *h;
	void *arg;
	enum link_state state;
	struct asked waiting[WAITING_MAX]; /* the first is on the wire */
	size_t n, limit;
	uint64_t requests;
};

static struct modbus_client the_client;
const struct field modbus_connection_fields[] = {{.name = "modbus_type", .type = FIELD_STR}, {0}};

void modbus_connection_check(const json_t *connection, struct problems *p)
{
	(void)connection;
	(void)p;
}

int modbus_client_new(struct loop *l, const json_t *connection,
		      const struct modbus_client_handlers *h, void *arg, struct modbus_client **ret,
		      struct err *err)
{
	(void)l;
	(void)connection;
	(void)err;
	the_client = (struct modbus_client){.h = h, .arg = arg, .limit = WAITING_MAX};
	*ret = &the_client;
	return 0;
}

static void client_state(enum link_state state)
{
	the_client.state = state;
	the_client.h->on_state(the_client.arg, state);
}

struct modbus_client *modbus_client_free(struct modbus_client *c)
{
	if (c->state != LINK_DISCONNECTED)
		client_state(LINK_DISCONNECTED);
	return NULL;
}

int modbus_client_request(struct modbus_client *c, uint8_t unit, const struct modbus_request *q,
			  modbus_done_fn *done, void *arg, struct err *err)
{
	if (c->state != LINK_CONNECTED)
		return err_set(err, ERR_PEER, "not connected");
	if (c->n == c->limit)
		return err_set(err, ERR_LIMIT, "too many wait");
	c->waiting[c->n++] = (struct asked){.unit = unit, .q = *q, .done = done, .arg = arg};
	c->requests++;
	return 0;
}

static void take_out(size_t at)
{
	the_client.n--;
	memmove(&the_client.waiting[at], &the_client.waiting[at + 1],
		(the_client.n - at) * sizeof(struct asked));
}

void modbus_client_forget(struct modbus_client *c, void *arg)
{
	for (size_t i = c->n; i-- > 0;)
		if (c->waiting[i].arg == arg)
			take_out(i);
}

const char *modbus_client_why(const struct modbus_client *c)
{
	(void)c;
	return "";
}

void modbus_client_get_stats(const struct modbus_client *c, struct modbus_client_stats *ret)
{
	*ret = (struct modbus_client_stats){.requests = c->requests, .waiting = c->n};
}

/* The first request, as text: "1 3:100+2" is unit, function, address and quantity; writes have
 * their values. "": none. */
static MAYBE_UNUSED const char *wire(void)
{
	static char text[200];
	const struct asked *a = &the_client.waiting[0];
	size_t len;

	if (the_client.n == 0)
		return "";
	len = (size_t)snprintf(text, sizeof(text), "%u %u:%u", a->unit, a->q.function,
			       a->q.address);
	if (a->q.function == MODBUS_MASK_WRITE_REGISTER)
		snprintf(text + len, sizeof(text) - len, " and %04x or %04x", a->q.and_mask,
			 a->q.or_mask);
	else if (a->q.function < MODBUS_WRITE_COIL)
		snprintf(text + len, sizeof(text) - len, "+%u", a->q.quantity);
	else if (a->q.function != MODBUS_READ_FIFO_QUEUE)
		for (unsigned i = 0; i < a->q.quantity; i++)
			len += (size_t)snprintf(text + len, sizeof(text) - len, " %x",
						a->q.values[i]);
	return text;
}

static void end_request(const struct modbus_result *r)
{
	struct asked a;

	assert_true(the_client.n > 0);
	a = the_client.waiting[0];
	take_out(0);
	a.done(a.arg, r);
}

static struct modbus_answer the_answer;

/* A good answer: n values. */
static MAYBE_UNUSED void answer(unsigned n, ...)
{
	va_list ap;

	the_answer = (struct modbus_answer){.quantity = (uint16_t)n};
	va_start(ap, n);
	for (unsigned i = 0; i < n; i++)
		the_answer.values[i] = (uint16_t)va_arg(ap, unsigned);
	va_end(ap);
	end_request(&(struct modbus_result){.kind = MODBUS_DONE, .answer = &the_answer});
}

static MAYBE_UNUSED void except(uint8_t code)
{
	the_answer = (struct modbus_answer){.exception = code};
	end_request(&(struct modbus_result){.kind = MODBUS_DONE, .answer = &the_answer});
}

static MAYBE_UNUSED void time_out(void)
{
	end_request(&(struct modbus_result){.kind = MODBUS_TIMED_OUT});
}

static MAYBE_UNUSED void connected(void)
{
	client_state(LINK_CONNECTING);
	client_state(LINK_CONNECTED);
}

/* The connection is gone; all that waits has failed. told_first: the state before the requests. */
static MAYBE_UNUSED void lose(bool told_first)
{
	the_client.state = LINK_DISCONNECTED;
	if (told_first)
		client_state(LINK_DISCONNECTED);
	while (the_client.n > 0)
		end_request(&(struct modbus_result){.kind = MODBUS_LOST});
	if (!told_first)
		client_state(LINK_DISCONNECTED);
}

/* ---- the port ---- */

struct port_call {
	int ack; /* -1: none yet */
	unsigned answers;
	uint64_t value;
	char why[100];
};

struct port {
	struct point_list points;
	bool created;
	char log[8000]; /* lines: what was emitted since the last told() */
	json_t *states; /* path joined by '/': payload */
};

static struct port the_port;
static const char *the_name = "plc1";

static void note(const char *fmt, ...)
{
	size_t len = strlen(the_port.log);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(the_port.log + len, sizeof(the_port.log) - len, fmt, ap);
	va_end(ap);
}

struct loop *port_loop(const struct port *p)
{
	(void)p;
	return &the_loop;
}

const char *port_name(const struct port *p)
{
	(void)p;
	return the_name;
}

const char *port_point_name(const struct port *p, unsigned point)
{
	assert_true(point < p->points.n);
	return p->points.items[point].name;
}

void port_emit(struct port *p, const struct emission *e)
{
	char *text = json_dumps(e->payload, JSON_COMPACT | JSON_ENCODE_ANY);

	(void)p;
	for (size_t i = 0; i < e->n_path; i++)
		note("%s%s", i > 0 ? "/" : "", e->path[i]);
	note(" %s%s", text, e->retain ? "" : " act");
	if (e->point >= 0 && e->value.kind == VALUE_UINT)
		note(" [%d]=%llu", e->point, (unsigned long long)e->value.u);
	if (e->point >= 0 && e->value.quality != 0)
		note(" [%d]q%u", e->point, e->value.quality);
	note("\n");
	assert_null(e->source_us);
	free(text);
	json_decref(e->payload);
}

void port_link(struct port *p, enum link_state state, unsigned count)
{
	(void)p;
	assert_int_equal(count, 0);
	note("link %d\n", state);
}

void port_value(struct port *p, unsigned point, const struct value *v)
{
	(void)p;
	assert_int_equal(v->kind, VALUE_NONE);
	note("[%u]q%u\n", point, v->quality);
}

void port_created(struct port *p)
{
	p->created = true;
}

void port_written(struct port_call *call, enum ack ack, const char *why)
{
	call->ack = ack;
	snprintf(call->why, sizeof(call->why), "%s", why != NULL ? why : "");
	call->answers++;
}

void port_was_read(struct port_call *call, const struct value *v, const char *why)
{
	call->ack = v != NULL ? 1 : 0;
	call->answers++;
	call->value = v != NULL ? v->u : 0;
	snprintf(call->why, sizeof(call->why), "%s", why != NULL ? why : "");
}

void port_each_state(struct port *p, port_state_fn *fn, void *arg)
{
	const char *key;
	json_t *value;

	json_object_foreach (p->states, key, value) {
		char copy[100], *rest = copy, *part;
		const char *path[8];
		size_t n = 0;

		snprintf(copy, sizeof(copy), "%s", key);
		while ((part = strsep(&rest, "/")) != NULL)
			path[n++] = part;
		fn(arg, path, n, value);
	}
}

/* What was told since the last time. */
static MAYBE_UNUSED const char *told(void)
{
	static char log[sizeof(the_port.log)];

	memcpy(log, the_port.log, sizeof(log));
	the_port.log[0] = '\0';
	return log;
}

/* ---- the master ---- */

static void *instance;
static json_t *conf;

static MAYBE_UNUSED int setup(void **state)
{
	(void)state;
	the_loop.now_ms = 100000;
	the_port = (struct port){.states = json_object()};
	the_client = (struct modbus_client){0};
	return 0;
}

static MAYBE_UNUSED int teardown(void **state)
{
	(void)state;
	if (instance != NULL)
		modbus_master_type.ops->close(instance);
	instance = NULL;
	json_decref(conf);
	conf = NULL;
	json_decref(the_port.states);
	free(the_port.points.items);
	assert_int_equal(the_loop.n, 0);
	return 0;
}

static MAYBE_UNUSED void on_problem(void *arg, bool is_error, const char *text)
{
	(void)is_error;
	snprintf(arg, 300, "%s", text);
}

/* Check a configuration. ret: the last thing that is wrong with it; "". */
static MAYBE_UNUSED const char *check(const char *remotes)
{
	static char text[300];
	struct problems *p = problems_new();
	char whole[2000];

	json_decref(conf);
	snprintf(whole, sizeof(whole),
		 "{'connection': {'modbus_type': 'TCP'}, 'remote_devices': [%s]}", remotes);
	for (char *c = whole; *c != '\0'; c++)
		if (*c == '\'')
			*c = '"';
	conf = json_loads(whole, 0, NULL);
	assert_non_null(conf);
	if (fields_check(modbus_master_type.fields, conf, p) == 0)
		modbus_master_type.check(conf, p);
	text[0] = '\0';
	problems_each(p, on_problem, text);
	problems_free(p);
	return text;
}

/* The configuration that the instance gets is gone right afterwards. */
static MAYBE_UNUSED void create_of_conf(void)
{
	json_auto_t *copy = json_deep_copy(conf);

	free(the_port.points.items);
	assert_int_equal(modbus_master_type.points(conf, &the_port.points, NULL), 0);
	assert_int_equal(modbus_master_type.ops->create(&the_port, copy, &instance, NULL), 0);
}

static MAYBE_UNUSED void create(const char *remotes)
{
	assert_string_equal(check(remotes), "");
	create_of_conf();
	assert_true(the_port.created);
}

#define REMOTE(id, points) "{'device_id': " #id ", 'timeout_poll_delay': 5, 'data': [" points "]}"
#define POINT(name, interval, type, address, offset, count)                   \
	"{'name': '" name "', 'interval': " #interval ", 'data_type': '" type \
	"', 'start_address': " #address ", 'bit_offset': " #offset ", 'bit_count': " #count "}"

static MAYBE_UNUSED void kept(const char *path, bool enabled)
{
	json_object_set_new(the_port.states, path, json_boolean(enabled));
}

static MAYBE_UNUSED int event(const char *path, const char *payload)
{
	char copy[200], *rest = copy, *part, text[200];
	const char *parts[8];
	size_t n = 0;
	struct err err;
	json_t *json;
	int rc;

	snprintf(copy, sizeof(copy), "%s", path);
	snprintf(text, sizeof(text), "%s", payload);
	for (char *c = text; *c != '\0'; c++)
		if (*c == '\'')
			*c = '"';
	while ((part = strsep(&rest, "/")) != NULL)
		parts[n++] = part;
	json = json_loads(text, JSON_DECODE_ANY, NULL);
	rc = modbus_master_type.ops->event(instance, parts, n, json, &err);
	json_decref(json);
	return rc;
}

/* One enabled remote device, connected; what is told so far is forgotten. */
static MAYBE_UNUSED void start(const char *points)
{
	char remote[1500];

	snprintf(remote, sizeof(remote),
		 "{'device_id': 1, 'timeout_poll_delay': 5, 'merge_gap': 0, 'data': [%s]}", points);
	kept("remote_device/1/enable", true);
	create(remote);
	connected();
	told();
}

/* When the next request comes, from now; it is answered. */
static MAYBE_UNUSED int64_t next_poll(void)
{
	int64_t from = the_loop.now_ms;

	for (int i = 0; i < 100000 && the_client.n == 0; i++)
		pass(1);
	answer(1, 5);
	return the_loop.now_ms - from;
}

static MAYBE_UNUSED json_int_t figure(const char *name)
{
	json_t *s = modbus_master_type.ops->status(instance);
	json_t *r = json_array_get(json_object_get(s, "remote_devices"), 0);
	json_int_t n = json_integer_value(json_object_get(r, name));

	assert_non_null(s);
	json_decref(s);
	return n;
}

#define READ(name, value, cause, index)                                           \
	"remote_device/1/read/" name " {\"result\":\"SUCCESS\",\"value\":" #value \
	",\"cause\":\"" cause "\"} [" #index "]=" #value "\n"
#define BAD(name, result, index) \
	"remote_device/1/read/" name " {\"result\":\"" result "\"} [" #index "]q1\n"
#define STATUS(status)      "remote_device/1/status \"" status "\"\n"
#define WORD(name, address) POINT(name, 1, "HOLDING_REGISTER", address, 0, 16)

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
