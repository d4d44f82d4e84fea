/* scan.h - what is at the other end of a Modbus connection: units that answer, and the ranges of
 * coils and registers that they let read.
 *
 * A unit is there if it answers a read of one register, be it with an exception. Ranges are found
 * by reading in the largest blocks there are; a block that is refused is halved until what cannot
 * be read is told from what can. One request at a time, with a pause between them; the connection's
 * timeouts and retries hold.
 */
#pragma once

#include "agent/device/modbus/client.h"
#include "common/err.h"
#include "common/loop.h"

#define MODBUS_UNIT_MAX 255

struct modbus_scan;

struct modbus_scan_conf {
	/* A connection that is there, of a device that runs; borrowed, it outlives the scan. NULL:
	 * one of its own is made. */
	struct modbus_client *client;
	const json_t *connection; /* the checked object for that; borrowed, it outlives the scan */
	unsigned first_unit, last_unit;
	unsigned tables; /* 1 << MODBUS_READ_COILS and so on; 0: units alone */
	unsigned first_address, last_address;
	unsigned pause_ms; /* between two requests, at least */
};

struct modbus_scan_events {
	void (*on_unit)(void *arg, unsigned unit); /* it answers */
	/* Addresses of a unit that function (MODBUS_READ_...) reads; ranges do not touch. */
	void (*on_range)(void *arg, unsigned unit, uint8_t function, unsigned first, unsigned last);
	/* After every answer: of this step, units or (in all tables of all units) addresses. */
	void (*on_progress)(void *arg, bool units, uint64_t done, uint64_t total);
	/* Last, once. why NULL: all has been looked at. */
	void (*on_done)(void *arg, const char *why);
};

/* ret: yours; it may be freed from within events, and before the end. Errors: ERR_INVAL (first
 * behind last, a unit or an address out of range, a function that reads nothing), ERR_NOMEM. */
int modbus_scan_new(struct loop *l, const struct modbus_scan_conf *conf,
		    const struct modbus_scan_events *e, void *arg, struct modbus_scan **ret,
		    struct err *err);
struct modbus_scan *modbus_scan_free(struct modbus_scan *s);
