/* icmp.h - echo requests and their answers over ICMP and ICMPv6 (RFC 792, RFC 4443 section 4;
 * gateway-devices 3.14). One socket for each family, shared by all that ping through one endpoint.
 *
 * A datagram ICMP socket if the system lets us have one (net.ipv4.ping_group_range), else a raw
 * one (CAP_NET_RAW). An answer is known by what it carries: a random token of the endpoint and the
 * number of the request. Loop thread only; nothing blocks, and nothing is looked up here.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define ICMP_TOKEN_LEN 16
#define ICMP_ECHO_LEN  (8 + ICMP_TOKEN_LEN + 8) /* header, token, number */

struct icmp;
struct icmp_echo; /* one request under way */

struct icmp_stats {
	uint64_t sent, answered;
	uint64_t
		strange; /* no answer to a request that waits: of others, twice, too late, broken */
	bool raw;        /* raw sockets are in use */
	bool has_v4, has_v6;
};

/* Open the sockets; one of the families may be unknown to the system. ret: yours. Errors: ERR_ACCES
 * (neither kind of socket is allowed), ERR_SYS, ERR_NOMEM. */
int icmp_new(struct loop *l, struct icmp **ret, struct err *err);
/* All its echoes are gone before. NULL is fine; returns NULL. */
struct icmp *icmp_free(struct icmp *c);
void icmp_get_stats(const struct icmp *c, struct icmp_stats *ret);

/* rc: 0, answered after round_trip_us; ERR_TIMEOUT; ERR_SYS: could not be sent (no route ...), why.
 * Called once, in a later turn, and may call icmp_echo_free(). */
typedef void icmp_fn(void *arg, int rc, int64_t round_trip_us, const char *why);

/* Ask once. The time begins when the request has left. ret: yours, also when it is over. */
int icmp_echo_new(struct icmp *c, const struct sockaddr *to, socklen_t len, unsigned timeout_ms,
		  icmp_fn *fn, void *arg, struct icmp_echo **ret, struct err *err);
/* Gives up; NULL is fine; returns NULL. */
struct icmp_echo *icmp_echo_free(struct icmp_echo *e);

/* ---- the packets ---- */

struct icmp_message {
	uint16_t id;
	uint8_t token[ICMP_TOKEN_LEN];
	uint64_t number;
};
/* An echo request. buf: ICMP_ECHO_LEN. Of ICMPv6 the kernel sets the checksum. */
void icmp_request_format(int family, const struct icmp_message *m, uint8_t *buf);
/* An echo reply that carries what our requests do. has_ip_header: of a raw IPv4 socket. Errors:
 * ERR_PARSE (cut, a wrong checksum, another type or code or length). */
int icmp_reply_parse(int family, bool has_ip_header, const uint8_t *bytes, size_t n,
		     struct icmp_message *ret, struct err *err);
