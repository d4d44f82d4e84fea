/* id.h - UUIDs (RFC 4122) and digests. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define UUID_LEN   36 /* characters without the NUL */
#define DIGEST_LEN 64

struct uuid_text {
	char s[UUID_LEN + 1];
};
struct digest_text {
	char s[DIGEST_LEN + 1];
};

struct uuid_text uuid4(void); /* random */
struct uuid_text uuid1(void); /* time-based, random node id (RFC 4122 4.5); strictly increasing within the process */
/* Of a name: always the same (RFC 4122 4.3, by SHA-1). space: the UUID of what names are unique in; a UUID, in lower case. */
struct uuid_text uuid5(const char *space, const char *name);
/* Hyphenated, hex in either case; ret_lower gets the lower-case form. text need not be terminated after len. */
bool uuid_parse(const char *text, size_t len, struct uuid_text *ret_lower);
/* Lower-case hex SHA-256 (spec iottalk-core 1: of the bytes as they are). */
struct digest_text sha256_hex(const void *data, size_t len);
bool digest_valid(const char *text); /* 64 lower-case hex digits */
