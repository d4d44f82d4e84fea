#include "common/id.h"

#include <ctype.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* 100 ns intervals from 1582-10-15 to 1970-01-01 (RFC 4122 4.1.4) */
#define UUID_EPOCH 0x01B21DD213814000u

static struct uuid_text format(const unsigned char b[16])
{
	char hex[33];
	struct uuid_text u;
	sodium_bin2hex(hex, sizeof(hex), b, 16);
	snprintf(u.s, sizeof(u.s), "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16,
		 hex + 20);
	return u;
}

struct uuid_text uuid4(void)
{
	unsigned char b[16];
	randombytes_buf(b, sizeof(b));
	b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
	b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
	return format(b);
}

struct uuid_text uuid1(void)
{
	static _Atomic uint64_t last; /* the only thing that makes it increase: belongs to the process, not to a caller */
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	uint64_t t = UUID_EPOCH + (uint64_t)now.tv_sec * 10000000u + (uint64_t)now.tv_nsec / 100;
	uint64_t seen = atomic_load(&last);
	do {
		if (t <= seen)
			t = seen + 1;
	} while (!atomic_compare_exchange_weak(&last, &seen, t));

	unsigned char b[16];
	randombytes_buf(b + 8, 8);
	uint32_t low = (uint32_t)t;
	uint16_t mid = (uint16_t)(t >> 32), high = (uint16_t)((t >> 48 & 0x0fff) | 0x1000);
	for (int i = 0; i < 4; i++)
		b[i] = (unsigned char)(low >> (24 - 8 * i));
	b[4] = (unsigned char)(mid >> 8);
	b[5] = (unsigned char)mid;
	b[6] = (unsigned char)(high >> 8);
	b[7] = (unsigned char)high;
	b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
	b[10] |= 0x01; /* multicast bit: a node id that is no hardware address (4.5) */
	return format(b);
}

bool uuid_parse(const char *text, size_t len, struct uuid_text *ret_lower)
{
	struct uuid_text u;
	if (len != UUID_LEN)
		return false;
	for (size_t i = 0; i < UUID_LEN; i++) {
		unsigned char c = (unsigned char)text[i];
		bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;
		if (hyphen ? c != '-' : !isxdigit(c))
			return false;
		u.s[i] = (char)tolower(c);
	}
	u.s[UUID_LEN] = '\0';
	*ret_lower = u;
	return true;
}

struct digest_text sha256_hex(const void *data, size_t len)
{
	unsigned char hash[crypto_hash_sha256_BYTES];
	struct digest_text d;
	crypto_hash_sha256(hash, data, len);
	sodium_bin2hex(d.s, sizeof(d.s), hash, sizeof(hash));
	return d;
}

bool digest_valid(const char *text)
{
	return strlen(text) == DIGEST_LEN && strspn(text, "0123456789abcdef") == DIGEST_LEN;
}
