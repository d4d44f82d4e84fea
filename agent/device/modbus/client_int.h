/* client_int.h - inside a client: client.c (requests, their order and outcome), client_link.c (the
 * connection), client_wire.c (the exchange that is on the wire), client_conf.c (settings). Private
 * to them.
 */
#pragma once

#include "agent/device/modbus/client.h"
#include "agent/device/stream.h"

struct modbus_settings {
	enum modbus_framing framing;
	bool serial;   /* what carries it */
	char *host;    /* owned; of a serial line its path */
	unsigned port; /* of TCP */
	json_t *block; /* of a serial line; owned; else NULL */
	int64_t connect_timeout_ms, connect_delay_ms;
	int64_t request_timeout_ms, request_delay_ms, retry_delay_ms;
	unsigned immediate, delayed; /* retries */
};

struct modbus_call {
	struct modbus_call *next;
	modbus_done_fn *done; /* NULL: forgotten */
	void *arg;
	unsigned immediate, delayed; /* retries left */
	int64_t due_ms;              /* back in the queue */
	uint8_t unit, len;
	uint8_t pdu[]; /* not the request itself: that has 4 KB */
};

struct modbus_calls {
	struct modbus_call *first, **end;
};

/* An answer that did not come in time may still come. Where frames have no transaction id it must
 * not be taken for the answer to the next request. */
struct modbus_late {
	unsigned answers; /* that may come */
	int64_t until_ms;
	uint8_t unit, function;
	unsigned bytes; /* of values read, by which it is told from others */
};

/* Whether the adapter gives back what is sent. It is found out by the first exchange in which an
 * echo does not look like an answer, and kept over connections. The answer to a write of one value
 * looks like its echo; if such a write comes first, a read of the same place is sent before it. */
enum modbus_echo { ECHO_UNKNOWN, ECHO_NONE, ECHO_ALWAYS };

struct modbus_client {
	struct loop *loop;
	struct loop_src *timer; /* the only one: for what is due first */
	struct modbus_settings conf;
	const struct modbus_client_handlers *h;
	void *arg;
	/* the connection */
	enum link_state state;
	struct stream *stream;
	char why[200];        /* there is none; "": it is not known, or there is one */
	int64_t attempt_ms;   /* the next one */
	int64_t connected_ms; /* since when */
	int64_t silence_ms;   /* that ends what has begun; 0: nothing does */
	/* requests */
	struct modbus_calls queue, delayed;
	struct modbus_call *current; /* on the wire */
	int64_t send_ms;             /* none before */
	/* the exchange */
	uint64_t exchanges;
	int64_t answer_ms; /* its limit */
	int64_t heard_ms;
	bool overdue; /* a limit is over; what the kernel has by now is looked at first */
	enum modbus_echo echo;
	size_t echoed;  /* bytes that came back */
	bool echo_held; /* an echo came, or the answer that looks the same */
	bool probed;    /* a read was sent to find out, on this connection */
	struct modbus_late late;
	struct modbus_framer framer;
	struct modbus_client_stats stats;
	unsigned busy;
	bool freed;
};

/* Release with modbus_settings_done() in both cases. Errors: ERR_NOMEM. */
int modbus_settings_read(const json_t *connection, struct modbus_settings *ret, struct err *err);
void modbus_settings_done(struct modbus_settings *s);

/* ---- client.c ---- */

/* Something is on: c is not freed before the last leave(). */
void modbus_client_enter(struct modbus_client *c);
/* Send what may be sent, set the timer. */
void modbus_client_leave(struct modbus_client *c);
/* The call on the wire is over: tell. */
void modbus_client_conclude(struct modbus_client *c, const struct modbus_result *r);
/* It had no answer: repeat it, or give it up. */
void modbus_client_timed_out(struct modbus_client *c);
/* All calls are over. */
void modbus_client_fail_all(struct modbus_client *c);

/* ---- client_link.c ---- */

void modbus_link_attempt(struct modbus_client *c);
/* The connection is over, or was never made. */
void modbus_link_over(struct modbus_client *c, const char *why);

/* ---- client_wire.c ---- */

/* Send the call that is current. */
void modbus_wire_send(struct modbus_client *c);
void modbus_wire_data(struct modbus_client *c, const uint8_t *bytes, size_t n);
/* When the silence ends what has begun; INT64_MAX: nothing has. */
int64_t modbus_wire_silence_at(const struct modbus_client *c);
void modbus_wire_silence(struct modbus_client *c);
/* No answer in time; also look at what came last. */
void modbus_wire_timeout(struct modbus_client *c);
/* The read that is to be sent before this call: a new one, yours. NULL: none, or no memory for it.
 */
struct modbus_call *modbus_wire_probe(const struct modbus_client *c,
				      const struct modbus_call *call);
/* A late answer to another request would fit this one. */
bool modbus_wire_must_wait(const struct modbus_client *c, const struct modbus_call *call);
