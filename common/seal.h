/* seal.h - who may speak: the suite key, and the tag on every message between csm and agents (docs/agent-protocol.rst). */
#pragma once

#include "common/err.h"
#include "common/id.h"
#include <stdint.h>

#define SEAL_NONCE_LEN 32 /* hex digits of a 16-byte nonce */
#define SEAL_HEAD_MAX  200

struct seal_key {
	unsigned char bytes[32];
};
struct seal_nonce {
	char s[SEAL_NONCE_LEN + 1];
};

/* Create PATH with a fresh key, mode 0600, unless it exists. ret: 1 made, 0 was there. */
int seal_key_create(const char *path, struct err *err);
/* Errors: ERR_NOENT, ERR_ACCES (readable by others), ERR_PARSE. */
int seal_key_load(const char *path, struct seal_key *ret, struct err *err);

struct seal_nonce seal_nonce_new(void);

/* A sealed message is "IT1 <from> <to> <seq> <tag>\n<body>"; nonces are 32 hex digits (`to` all zero: whoever listens), seq is
 * decimal, tag is crypto_auth over topic, from, to, seq and body in 64 hex digits. */
struct seal_head {
	struct seal_nonce from, to;
	uint64_t seq;
};

/* ret_msg: a new NUL-terminated string, yours to free(); ret_len without the NUL. */
int seal_make(const struct seal_key *key, const char *topic, const struct seal_head *head,
	      const char *body, size_t body_len, char **ret_msg, size_t *ret_len, struct err *err);
/* Check and open. ret_body points into msg. Errors: ERR_PARSE (not a sealed message), ERR_ACCES (tag does not fit). Freshness
 * (to, seq) is the caller's business. */
int seal_open(const struct seal_key *key, const char *topic, const char *msg, size_t len,
	      struct seal_head *ret_head, const char **ret_body, size_t *ret_body_len, struct err *err);
