/* slave_request.c - what a Modbus slave does with a request (gateway-devices 2.2, "Request
 * handling"). */
#include "agent/device/modbus/modbus_points.h"
#include "agent/device/modbus/slave_int.h"
#include "common/shortage.h"
#include "common/util.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LATER (-1) /* the answer is, or has been, given elsewhere */

/* ret: the exception, 0 (the answer's values are in s->answer), or LATER. */
typedef int request_fn(struct slave_conn *c, const struct modbus_frame *f,
		       enum modbus_data_type type);

static request_fn on_read, on_write, on_mask, on_queue;

static const struct {
	request_fn *fn;
	enum modbus_data_type type;
} functions[] = {
	[MODBUS_READ_COILS] = {on_read, MODBUS_COIL},
	[MODBUS_READ_DISCRETE_INPUTS] = {on_read, MODBUS_DISCRETE_INPUT},
	[MODBUS_READ_HOLDING_REGISTERS] = {on_read, MODBUS_HOLDING_REGISTER},
	[MODBUS_READ_INPUT_REGISTERS] = {on_read, MODBUS_INPUT_REGISTER},
	[MODBUS_WRITE_COIL] = {on_write, MODBUS_COIL},
	[MODBUS_WRITE_REGISTER] = {on_write, MODBUS_HOLDING_REGISTER},
	[MODBUS_WRITE_COILS] = {on_write, MODBUS_COIL},
	[MODBUS_WRITE_REGISTERS] = {on_write, MODBUS_HOLDING_REGISTER},
	[MODBUS_MASK_WRITE_REGISTER] = {on_mask, MODBUS_HOLDING_REGISTER},
	[MODBUS_READ_FIFO_QUEUE] = {on_queue, MODBUS_QUEUE},
};

void slave_request(struct slave_conn *c, const struct modbus_frame *f)
{
	struct slave *s = c->slave;
	struct modbus_request *q = &s->request;
	int exception = (int)modbus_request_parse(f->pdu, f->len, q);

	s->requests++;
	s->answer.quantity = 0;
	if (f->unit == 0 || !modbus_cache_has_device(s->cache, f->unit)) {
		if (s->serial)
			return; /* another one on the line is meant */
		exception = MODBUS_ILLEGAL_DATA_ADDRESS;
	} else {
		slave_conn_alive(c);
		if (exception == 0)
			exception = functions[q->function].fn(c, f, functions[q->function].type);
	}
	if (exception == LATER)
		return;
	s->answer.exception = (uint8_t)exception;
	slave_conn_answer(c, f->transaction, f->unit, q, &s->answer);
}

static int on_read(struct slave_conn *c, const struct modbus_frame *f, enum modbus_data_type type)
{
	struct slave *s = c->slave;
	const struct modbus_request *q = &s->request;

	if (!modbus_cache_read(s->cache, f->unit, type, q->address, q->quantity, s->answer.values))
		return MODBUS_ILLEGAL_DATA_ADDRESS;
	s->answer.quantity = q->quantity;
	return 0;
}

/* No point is in a queue. */
static int on_queue(struct slave_conn *c, const struct modbus_frame *f, enum modbus_data_type type)
{
	(void)c;
	(void)f;
	(void)type;
	return MODBUS_ILLEGAL_DATA_ADDRESS;
}

/* ---- writes under way ---- */

static void write_free(struct slave_write *w)
{
	struct slave_write **at = &w->slave->writes;

	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	loop_remove(w->slave->loop, w->timer);
	free(w);
}

/* Its memory stays while the service knows it. */
static struct slave_conn *detach(struct slave_write *w)
{
	struct slave_conn *c = TAKE(w->conn);

	if (c != NULL)
		c->write = NULL;
	loop_arm(w->slave->loop, w->timer, -1);
	if (!w->emitting)
		write_free(w);
	return c;
}

void slave_forget_write(struct slave_conn *c)
{
	if (c->write != NULL)
		detach(c->write);
}

void slave_free_writes(struct slave *s)
{
	while (s->writes != NULL)
		write_free(s->writes);
}

static void answer(struct slave_write *w, bool success)
{
	struct slave_conn *c = w->conn;
	struct slave *s = w->slave;

	s->answer.exception = success ? 0 : MODBUS_SERVER_FAILURE;
	s->answer.quantity = 0;
	bool busy = c->busy;
	c->busy = true; /* so that it is not freed under us */
	c->write = NULL;
	slave_conn_answer(c, w->transaction, w->unit, &w->request, &s->answer);
	w->conn = NULL;
	detach(w);
	c->busy = busy;
	slave_conn_resume(c);
}

static void on_response_timeout(void *arg)
{
	struct slave_write *w = arg;

	w->slave->writes_late++;
	answer(w, false);
}

static void on_emitted(void *arg, int rc)
{
	struct slave_write *w = arg;

	w->emitting = false;
	if (w->conn != NULL)
		answer(w, rc == 0);
	else
		detach(w);
}

int slave_write_response(struct slave *s, const json_t *payload, struct err *err)
{
	const json_t *id = json_object_get(payload, "request_id");
	const json_t *success = json_object_get(payload, "success");

	if (!json_is_string(id) || !json_is_boolean(success))
		return err_set(err, ERR_SCHEMA, "write: no request_id and success");
	for (struct slave_write *w = s->writes; w != NULL; w = w->next) {
		if (w->conn == NULL || w->automatic || strcmp(w->id, json_string_value(id)) != 0)
			continue;
		if (json_is_true(success))
			for (size_t i = 0; i < w->n; i++)
				if (!s->manual_ack[w->hits[i].point])
					modbus_cache_set(s->cache, w->hits[i].point,
							 w->hits[i].value);
		answer(w, json_is_true(success));
		return 0;
	}
	return err_set(err, ERR_NOENT, "write: nobody waits for request_id '%.80s'",
		       json_string_value(id));
}

/* ---- a write begins ---- */

/* ret: NULL: out of memory. */
static json_t *payload_of(const struct slave_write *w)
{
	unsigned long shortages = shortage_count();
	json_t *data = json_array(), *payload;

	for (size_t i = 0; i < w->n; i++)
		json_array_append_new(data,
				      json_pack("{s:s, s:o}", "name",
						port_point_name(w->slave->port, w->hits[i].point),
						"value", modbus_value_json(w->hits[i].value)));
	bool whole = json_array_size(data) == w->n && shortage_count() == shortages;
	payload = json_pack("{s:s, s:i, s:o}", "request_id", w->id, "connection_id",
			    (int)w->conn->id, "data", data);
	if (whole)
		return payload;
	json_decref(payload);
	return NULL;
}

/* One event with all points, and the value of each. The service keeps the order, so what is said
 * with the last is said of them all. w may be gone afterwards. */
static void tell(struct slave_write *w, json_t *payload)
{
	static const char *const path[] = {"write"};
	struct slave *s = w->slave;
	const struct modbus_cache_hit *last = &w->hits[w->n - 1];

	for (size_t i = 0; i + 1 < w->n; i++)
		port_value(s->port, w->hits[i].point,
			   &(struct value){.kind = VALUE_UINT, .u = w->hits[i].value});
	struct emission e = {
		.path = path,
		.n_path = ARRAY_LEN(path),
		.payload = payload,
		.point = (int)last->point,
		.value = {.kind = VALUE_UINT, .u = last->value},
		.done = w->automatic ? on_emitted : NULL,
		.arg = w,
	};
	s->writes_told++;
	w->emitting = w->automatic;
	port_emit(s->port, &e);
}

/* The write waits for its answer from here on. */
static int begin(struct slave_conn *c, const struct modbus_frame *f,
		 const struct modbus_cache_hit *hits, size_t n)
{
	struct slave *s = c->slave;
	struct slave_write *w = malloc(sizeof(*w) + n * sizeof(*hits));

	if (w == NULL)
		return MODBUS_SERVER_FAILURE;
	*w = (struct slave_write){.slave = s,
				  .next = s->writes,
				  .conn = c,
				  .automatic = true,
				  .transaction = f->transaction,
				  .unit = f->unit,
				  .request = s->request,
				  .n = n};
	memcpy(w->hits, hits, n * sizeof(*hits));
	s->writes = w;
	snprintf(w->id, sizeof(w->id), "%s_%" PRIu64, s->instance.s, ++s->last_write);
	json_t *payload = payload_of(w);
	if (payload == NULL || loop_add_timer(s->loop, s->response_ms, 0, on_response_timeout, w,
					      &w->timer, NULL) < 0) {
		json_decref(payload);
		write_free(w);
		return MODBUS_SERVER_FAILURE;
	}
	for (size_t i = 0; i < n; i++)
		w->automatic = w->automatic && !s->manual_ack[hits[i].point];
	if (w->automatic)
		for (size_t i = 0; i < n; i++)
			modbus_cache_set(s->cache, hits[i].point, hits[i].value);
	c->write = w;
	tell(w, payload);
	return LATER;
}

static int write_cells(struct slave_conn *c, const struct modbus_frame *f,
		       const struct modbus_cache_write *w)
{
	struct slave *s = c->slave;
	struct modbus_cache_hit *hits = malloc((modbus_cache_count(s->cache) + 1) * sizeof(*hits));

	if (hits == NULL)
		return MODBUS_SERVER_FAILURE;
	int n = modbus_cache_hits(s->cache, w, hits);
	int exception = n < 0   ? MODBUS_ILLEGAL_DATA_ADDRESS
			: n > 0 ? begin(c, f, hits, (size_t)n)
				: 0;
	free(hits);
	return exception;
}

static int on_write(struct slave_conn *c, const struct modbus_frame *f, enum modbus_data_type type)
{
	const struct modbus_request *q = &c->slave->request;

	return write_cells(c, f,
			   &(struct modbus_cache_write){.device_id = f->unit,
							.type = type,
							.address = q->address,
							.quantity = q->quantity,
							.cells = q->values,
							.bits = UINT16_MAX});
}

static int on_mask(struct slave_conn *c, const struct modbus_frame *f, enum modbus_data_type type)
{
	const struct modbus_request *q = &c->slave->request;
	uint16_t old;

	if (!modbus_cache_read(c->slave->cache, f->unit, type, q->address, 1, &old))
		return MODBUS_ILLEGAL_DATA_ADDRESS;
	uint16_t cell = (uint16_t)((old & q->and_mask) | (q->or_mask & ~q->and_mask));
	return write_cells(c, f,
			   &(struct modbus_cache_write){.device_id = f->unit,
							.type = type,
							.address = q->address,
							.quantity = 1,
							.cells = &cell,
							.bits = (uint16_t)~q->and_mask});
}
