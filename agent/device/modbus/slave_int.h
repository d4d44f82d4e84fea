/* slave_int.h - what the files of the Modbus slave share. */
#pragma once

#include "agent/device/driver.h"
#include "agent/device/modbus/cache.h"
#include "agent/device/modbus/frame.h"
#include "agent/device/modbus/pdu.h"
#include "agent/device/stream.h"
#include "agent/device/turns.h"
#include "common/id.h"
#include "common/loop.h"
#include "common/map.h"

#define SLAVE_ID_LEN (UUID_LEN + 24) /* of a write: the instance, '_', a number */

/* A master's write that waits for its answer. */
struct slave_write {
	struct slave *slave;
	struct slave_write *next;
	struct slave_conn *conn; /* NULL: nobody waits any more */
	char id[SLAVE_ID_LEN];
	bool automatic; /* answered when its event is safe, not by an event */
	bool emitting;  /* the service will call on_emitted() */
	struct loop_src *timer;
	uint16_t transaction;
	uint8_t unit;
	struct modbus_request request;
	size_t n; /* hits */
	struct modbus_cache_hit hits[];
};

/* A master's connection. On a serial line: the line while it is open. */
struct slave_conn {
	struct slave *slave;
	struct slave_conn *next, **at; /* of the slave's */
	unsigned id;                   /* 0: no connection yet, only an open line */
	struct stream *stream;
	struct stream_address local, remote;
	struct modbus_framer framer;
	struct loop_src *keep_timer, *silence_timer;
	struct slave_write *write; /* waits for its answer; until then nothing is read */
	uint8_t *held;             /* bytes that came and are not in the framer yet */
	size_t n_held;
	struct turns_place place; /* waits for a turn; until then nothing is read either */
	bool silent;              /* for too long, unless more is there already */
	bool busy;                /* is taking requests */
	bool gone;                /* dropped while it was busy */
};

struct slave {
	struct port *port;
	struct loop *loop;
	json_t *transport; /* of the configuration; owned */
	enum modbus_framing framing;
	bool serial;
	const json_t *remote_hosts;   /* in it; json_null(): all */
	json_int_t max_connections;   /* -1: any number */
	int64_t response_ms, keep_ms; /* keep_ms -1: for ever */
	struct modbus_cache *cache;
	bool *manual_ack;    /* of each point of the cache */
	struct map *by_name; /* of them */
	struct stream_listener *listener;
	struct turns *turns;                   /* of its connections */
	struct slave_conn *conns, **last_conn; /* in the order of their ids */
	unsigned last_id, n_conns;             /* n_conns: with an id */
	struct loop_src *tell_timer;
	bool tells;      /* the timer is armed */
	int64_t told_ms; /* when their list was told last */
	struct slave_write *writes;
	struct uuid_text instance;
	uint64_t last_write;
	bool ended;
	struct modbus_request request; /* the one being looked at */
	struct modbus_answer answer;
	uint64_t requests, exceptions, garbage, refused, writes_told, writes_late;
};

/* ---- slave.c ---- */

/* The list of connections has changed: say it. */
void slave_tell_connections(struct slave *s);
/* It cannot go on: why. */
void slave_end(struct slave *s, const char *why);

/* ---- slave_conn.c ---- */

/* Listen, or open the line. */
int slave_open(struct slave *s, struct err *err);
/* Close all without a word. */
void slave_close(struct slave *s);
/* A request for a device id of ours has come. */
void slave_conn_alive(struct slave_conn *c);
void slave_conn_answer(struct slave_conn *c, uint16_t transaction, uint8_t unit,
		       const struct modbus_request *q, const struct modbus_answer *a);
/* It no longer waits: go on with what has come meanwhile. c may be gone afterwards. */
void slave_conn_resume(struct slave_conn *c);

/* ---- slave_request.c ---- */

/* Answer a request, now or later. c may be dropped, but not freed: it is busy. */
void slave_request(struct slave_conn *c, const struct modbus_frame *f);
/* `system/write`. */
int slave_write_response(struct slave *s, const json_t *payload, struct err *err);
/* Nobody waits for the connection's write any more. */
void slave_forget_write(struct slave_conn *c);
void slave_free_writes(struct slave *s);

/* ---- slave_conf.c ---- */

extern const struct field modbus_slave_fields[];
extern const char modbus_slave_help[], modbus_slave_example[];
enum modbus_framing modbus_slave_framing(const json_t *conf);
void modbus_slave_check(const json_t *conf, struct problems *p);
int modbus_slave_points(const json_t *conf, struct point_list *ret, struct err *err);
