/* master_jobs.c - writes, of the event bus and of IoTtalk, and reads on demand: one after the other
 * for each remote device, so that two writes never change places. */
#include "agent/device/modbus/master_int.h"
#include "agent/device/modbus/modbus_points.h"
#include "common/err.h"
#include "common/log.h"
#include "common/util.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define JOBS_MAX 1024 /* for one remote device */

struct job {
	struct job *next;
	struct remote *remote;
	uint32_t point;
	bool is_read;
	unsigned step;          /* of a write */
	uint64_t value;         /* to write */
	json_t *request_id;     /* of a write; owned */
	struct port_call *call; /* NULL: an event asked */
};

static struct job *job_free(struct job *j)
{
	if (j != NULL)
		json_decref(j->request_id);
	free(j);
	return NULL;
}

static void job_freep(struct job **j)
{
	job_free(*j);
}

static const struct master_point *point_of(const struct job *j)
{
	return &j->remote->master->points[j->point];
}

/* ---- how they end ---- */

/* No event: whoever asked over the bus is told nothing when the connection is lost. */
static void tell_lost(const struct job *j)
{
	const char *device = port_name(j->remote->master->port);

	if (log_allowed("modbus_master.write_lost", device))
		log_warn("modbus_master.write_lost", KV("device", device),
			 KV("remote_device", j->remote->id),
			 KV("point", port_point_name(j->remote->master->port, j->point)));
}

static void tell_write(const struct job *j, const char *result)
{
	json_t *payload = master_result(result);

	if (payload != NULL && json_object_set_nocheck(payload, "request_id", j->request_id) < 0) {
		json_decref(payload);
		payload = NULL;
	}
	master_emit(j->remote, "write", j->point, payload, NULL);
}

/* What people are told of a result that is no success; NULL: it is one. */
static const char *why_failed(const struct modbus_result *res)
{
	if (res->kind == MODBUS_LOST)
		return "the connection is lost";
	if (res->kind != MODBUS_DONE)
		return "no answer in time";
	return res->answer->exception != 0 ? master_exception(res->answer->exception) : NULL;
}

static void end_write(const struct job *j, const struct modbus_result *res)
{
	enum ack ack = ACK_OK;

	if (res->kind == MODBUS_LOST) {
		tell_lost(j);
		ack = ACK_LINK_DOWN;
	} else if (res->kind != MODBUS_DONE) {
		tell_write(j, "TIMEOUT");
		ack = ACK_TIMEOUT;
	} else if (res->answer->exception != 0) {
		tell_write(j, master_exception(res->answer->exception));
		ack = ACK_REJECTED;
	} else {
		tell_write(j, "SUCCESS");
	}
	if (j->call != NULL)
		port_written(j->call, ack, why_failed(res));
}

static void end_read(const struct job *j, const struct modbus_result *res)
{
	const struct modbus_answer *a = res->answer;
	const char *why = why_failed(res);
	struct value v = {.kind = VALUE_UINT};

	if (why == NULL && a->quantity == 0)
		why = "the queue is empty";
	if (why == NULL)
		v.u = modbus_bits_get(&point_of(j)->bits, a->values);
	port_was_read(j->call, why == NULL ? &v : NULL, why);
}

/* ---- one after the other ---- */

static void run_first(struct remote *r);

static void end_first(struct remote *r, const struct modbus_result *res)
{
	struct job *j = r->jobs;

	if (j->is_read)
		end_read(j, res);
	else
		end_write(j, res);
	r->jobs = j->next;
	r->n_jobs--;
	job_free(j);
}

static void on_result(void *arg, const struct modbus_result *res)
{
	struct job *j = arg;
	struct remote *r = j->remote;
	bool good = res->kind == MODBUS_DONE && res->answer->exception == 0;

	if (good && !j->is_read && ++j->step < plan_write_steps(&point_of(j)->bits)) {
		run_first(r);
		return;
	}
	end_first(r, res);
	run_first(r);
}

static int ask(struct job *j)
{
	const struct modbus_bits *b = &point_of(j)->bits;
	struct modbus_request q;

	if (j->is_read)
		plan_read(b->type, b->address, modbus_bits_cells(b), &q);
	else
		plan_write(b, j->value, j->step, &q);
	return modbus_client_request(j->remote->master->client, j->remote->unit, &q, on_result, j,
				     NULL);
}

/* What cannot be asked ends as what was not answered would. */
static void run_first(struct remote *r)
{
	struct modbus_result failed = {0};

	while (r->jobs != NULL) {
		int rc = ask(r->jobs);

		if (rc == 0)
			return;
		failed.kind = rc == ERR_PEER ? MODBUS_LOST : MODBUS_FULL;
		end_first(r, &failed);
	}
}

/* Take a job (its id, too). */
static int add(struct remote *r, const struct job *what, struct err *err)
{
	CLEANUP(job_freep)
	struct job *j = NULL;
	bool first = r->jobs == NULL;

	if (r->master->link != LINK_CONNECTED)
		return err_set(err, ERR_PEER, "there is no connection");
	if (r->n_jobs == JOBS_MAX)
		return err_set(err, ERR_LIMIT, "%d writes and reads wait already", JOBS_MAX);
	j = malloc(sizeof(*j));
	if (j == NULL)
		return err_set(err, ERR_NOMEM, "a write or read");
	*j = *what;
	j->next = NULL;
	j->remote = r;
	json_incref(j->request_id);
	if (first)
		r->jobs = j;
	else
		r->last_job->next = j;
	r->last_job = TAKE(j);
	r->n_jobs++;
	if (first)
		run_first(r);
	return 0;
}

void jobs_drop(struct remote *r)
{
	for (struct job *j = r->jobs, *next; j != NULL; j = next) {
		next = j->next;
		job_free(j);
	}
	r->jobs = NULL;
	r->n_jobs = 0;
}

/* ---- who asks ---- */

static bool is_writable(const struct master_point *p)
{
	return p->bits.type == MODBUS_COIL || p->bits.type == MODBUS_HOLDING_REGISTER;
}

static bool is_scalar(const json_t *value)
{
	return value != NULL && !json_is_object(value) && !json_is_array(value);
}

int jobs_on_event(struct remote *r, const char *name, const json_t *payload, struct err *err)
{
	const struct master_point *points = r->master->points;
	struct job j = {.request_id = json_object_get(payload, "request_id"), .point = r->first};
	int rc;

	while (j.point < r->first + r->n &&
	       strcmp(port_point_name(r->master->port, j.point), name) != 0)
		j.point++;
	if (j.point == r->first + r->n)
		return err_set(err, ERR_NOENT, "remote device %s has no point '%s'", r->id, name);
	if (!is_writable(&points[j.point]))
		return err_set(err, ERR_INVAL, "point '%s' is read only", name);
	if (!is_scalar(j.request_id))
		return err_set(err, ERR_SCHEMA, "writing '%s': request_id is no scalar", name);
	rc = modbus_value_parse(json_object_get(payload, "value"), &points[j.point].bits, &j.value,
				err);
	if (rc == 0)
		rc = add(r, &j, err);
	return rc < 0 ? err_wrap(err, rc, "writing '%s'", name) : 0;
}

void jobs_write(struct master *m, uint32_t point, const struct value *v, struct port_call *call)
{
	const struct master_point *p = &m->points[point];
	struct job j = {.point = point, .value = v->u, .call = call};
	char id[32];
	struct err err = {0};
	int rc;

	if (v->kind != VALUE_UINT || v->u > modbus_bits_max(&p->bits) || !is_writable(p)) {
		port_written(call, ACK_BAD_VALUE, NULL);
		return;
	}
	snprintf(id, sizeof(id), "odf-%" PRIu64, ++m->writes);
	j.request_id = json_string(id);
	if (j.request_id != NULL)
		rc = add(&m->remotes[p->remote], &j, &err);
	else
		rc = err_set(&err, ERR_NOMEM, "out of memory");
	json_decref(j.request_id);
	if (rc < 0)
		port_written(call, rc == ERR_PEER ? ACK_LINK_DOWN : ACK_TIMEOUT, err.text);
}

void jobs_read(struct master *m, uint32_t point, struct port_call *call)
{
	struct remote *r = &m->remotes[m->points[point].remote];
	struct job j = {.point = point, .is_read = true, .call = call};
	struct err err;

	if (add(r, &j, &err) < 0)
		port_was_read(call, NULL, err.text);
}
