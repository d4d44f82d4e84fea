/* master_int.h - inside the Modbus master: master.c has the instance and its link, master_reader.c
 * polls, master_jobs.c writes and reads on demand; what may be configured is master_type.h.
 */
#pragma once

#include "agent/device/driver.h"
#include "agent/device/modbus/bits.h"
#include "agent/device/modbus/client.h"
#include "agent/device/modbus/plan.h"
#include "common/loop.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* There may be many of them: 24 bytes, and 8 more in the plan. Their names are the port's. */
struct master_point {
	uint64_t last; /* of POINT_GOOD */
	struct modbus_bits bits;
	uint16_t remote;                                            /* index */
	enum { POINT_UNKNOWN, POINT_GOOD, POINT_FAILED } state : 8; /* what was told last */
};

enum remote_status {
	REMOTE_UNKNOWN, /* nothing was told yet */
	REMOTE_DISABLED,
	REMOTE_CONNECTING,
	REMOTE_CONNECTED,
	REMOTE_DISCONNECTED,
};

enum reader_state {
	READER_STOPPED,
	READER_RESTING, /* the timer is armed, if there is anything to poll */
	READER_READING, /* an answer is awaited */
	READER_PAUSED,  /* after a timeout; the timer is armed */
};

struct job;

struct remote {
	struct master *master;
	uint32_t first, n; /* of the master's points */
	struct plan plan;  /* of those that are polled */
	uint8_t unit;
	bool enabled;
	enum remote_status status;
	enum reader_state reader;
	char id[4];     /* the unit in topics */
	uint32_t phase; /* spreads the polls of many devices */
	int64_t timeout_poll_delay_ms;
	struct loop_src *timer;      /* of the reader */
	size_t at;                   /* the group that is being read */
	struct job *jobs, *last_job; /* the first is under way */
	size_t n_jobs;
	uint64_t polls, missed, timeouts, splits;
};

struct master {
	struct port *port;
	struct loop *loop;
	struct modbus_client *client;
	enum link_state link;
	bool closing;
	struct remote *remotes;
	size_t n_remotes;
	struct master_point *points; /* in the order of the configuration */
	size_t n_points;
	uint64_t writes; /* of the IoTtalk view: numbers their request ids */
};

/* ---- master.c: what is told ---- */

/* `remote_device/<id>/<what>/<name of the point>`; payload is taken. v: its value is told with it;
 * NULL: none is. ret: 0; ERR_NOMEM: there was no payload, nothing is told. */
int master_emit(const struct remote *r, const char *what, uint32_t point, json_t *payload,
		const struct value *v);
/* {"result": text}; NULL: out of memory. */
json_t *master_result(const char *text);
void remote_set_status(struct remote *r, enum remote_status status);
/* What the reference calls an exception. */
const char *master_exception(uint8_t code);

/* ---- master_reader.c ---- */

/* The remote device is enabled, and there is a connection. */
void reader_start(struct remote *r);
/* Nothing if it is stopped. */
void reader_stop(struct remote *r);
void reader_on_timer(void *arg);

/* ---- master_jobs.c ---- */

/* An event to write. Errors: ERR_NOENT, ERR_SCHEMA, ERR_RANGE, ERR_INVAL (cannot be written),
 * ERR_PEER, ERR_LIMIT, ERR_NOMEM; then nothing will be told. */
int jobs_on_event(struct remote *r, const char *name, const json_t *payload, struct err *err);
void jobs_write(struct master *m, uint32_t point, const struct value *v, struct port_call *call);
void jobs_read(struct master *m, uint32_t point, struct port_call *call);
/* Forget them all, without a word. */
void jobs_drop(struct remote *r);
