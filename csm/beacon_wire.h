/* beacon_wire.h - datagrams of the discovery beacon (spec iottalk-core 8): "IT", a space, the 16 raw octets of the sender's UUID, a
 * space, a verb, CR LF. Verbs: "HELO"; "PING" and "PING " with the 16 octets of who is meant; "PONG " with those of who asked.
 *
 * Pure functions on bytes. Octets are in the order in which a UUID is written (RFC 4122, section 4.1.2).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BEACON_ID_BYTES	 16
#define BEACON_BYTES_MAX 43 /* a PING or PONG with a destination */

enum beacon_verb { BEACON_HELO, BEACON_PING, BEACON_PONG };

struct beacon_datagram {
	enum beacon_verb verb;
	uint8_t from[BEACON_ID_BYTES];
	bool has_to; /* always with PONG, never with HELO */
	uint8_t to[BEACON_ID_BYTES];
};

/* ret: 0, or ERR_PARSE: it is none, or has more or fewer octets than its verb. */
int beacon_parse(const uint8_t *data, size_t len, struct beacon_datagram *ret);
/* ret: octets written. */
size_t beacon_format(const struct beacon_datagram *d, uint8_t ret_data[BEACON_BYTES_MAX]);
/* A UUID as text to octets. ret: 0 or ERR_PARSE. */
int beacon_id(const char *uuid, uint8_t ret_id[BEACON_ID_BYTES]);
