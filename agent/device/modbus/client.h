/* client.h - a Modbus master's connection: it connects and reconnects, and has one request at a
 * time on the wire (gateway-devices 2.1, "Connection loop" and "Request path"). Used by the device
 * and by the tools that scan.
 */
#pragma once

#include "agent/device/driver.h"
#include "agent/device/field.h"
#include "agent/device/modbus/frame.h"
#include "common/err.h"
#include "common/loop.h"

struct modbus_client;

/* Rows of `connection` (modbus_type, transport, connect_timeout ...). */
extern const struct field modbus_connection_fields[];
void modbus_connection_check(const json_t *connection, struct problems *p);

struct modbus_result {
	enum {
		MODBUS_DONE,      /* answered; answer->exception may be set */
		MODBUS_TIMED_OUT, /* all attempts */
		MODBUS_LOST,      /* the connection went away, or there was none */
		MODBUS_FULL,      /* too many wait: a client refuses at once, its users tell */
	} kind;
	const struct modbus_answer *answer; /* of MODBUS_DONE; borrowed for the call */
};
typedef void modbus_done_fn(void *arg, const struct modbus_result *r);

struct modbus_client_handlers {
	/* CONNECTING, CONNECTED or DISCONNECTED, each change once, in the order of the loop. */
	void (*on_state)(void *arg, enum link_state state);
};

struct modbus_client_stats {
	uint64_t requests, answers, exceptions, timeouts, retries, discarded, connects;
	size_t waiting;
};

/* connection: a checked object; borrowed, it outlives the client. Begins to connect in the next
 * turn. ret: yours. */
int modbus_client_new(struct loop *l, const json_t *connection,
		      const struct modbus_client_handlers *h, void *arg, struct modbus_client **ret,
		      struct err *err);
/* Tells DISCONNECTED if it was connecting or connected. No done function is called. NULL is fine;
 * returns NULL. */
struct modbus_client *modbus_client_free(struct modbus_client *c);

/* q: copied. done is called once, never from within. Errors: ERR_RANGE, ERR_INVAL
 * (modbus_request_encode()), ERR_LIMIT (1024 wait), ERR_PEER (not connected), ERR_NOMEM: then not.
 */
int modbus_client_request(struct modbus_client *c, uint8_t unit, const struct modbus_request *q,
			  modbus_done_fn *done, void *arg, struct err *err);
/* Requests of this arg are forgotten: their done is not called. What is on the wire stays there. */
void modbus_client_forget(struct modbus_client *c, void *arg);
/* Why the last attempt to connect failed, or the connection ended; "": it is there, or none was
 * tried. */
const char *modbus_client_why(const struct modbus_client *c);
void modbus_client_get_stats(const struct modbus_client *c, struct modbus_client_stats *ret);
