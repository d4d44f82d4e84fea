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

/* ---- SHA-1 (RFC 3174), which version 5 needs and libsodium has not ---- */

#define SHA1_BLOCK 64

struct sha1 {
	uint32_t h[5];
	uint64_t len;
	unsigned char block[SHA1_BLOCK]; /* len % 64 bytes of it are waiting */
};

static uint32_t rotl(uint32_t x, unsigned n)
{
	return x << n | x >> (32 - n);
}

static void sha1_block(struct sha1 *s)
{
	uint32_t w[80], v[5];
	for (size_t t = 0; t < 16; t++)
		w[t] = (uint32_t)s->block[4 * t] << 24 | (uint32_t)s->block[4 * t + 1] << 16 |
		       (uint32_t)s->block[4 * t + 2] << 8 | s->block[4 * t + 3];
	for (size_t t = 16; t < 80; t++)
		w[t] = rotl(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
	memcpy(v, s->h, sizeof(v));
	for (size_t t = 0; t < 80; t++) {
		static const uint32_t k[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
		const uint32_t f[4] = {
			(v[1] & v[2]) | (~v[1] & v[3]),
			v[1] ^ v[2] ^ v[3],
			(v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3]),
			v[1] ^ v[2] ^ v[3],
		};
		uint32_t next = rotl(v[0], 5) + f[t / 20] + v[4] + w[t] + k[t / 20];
		v[4] = v[3];
		v[3] = v[2];
		v[2] = rotl(v[1], 30);
		v[1] = v[0];
		v[0] = next;
	}
	for (size_t i = 0; i < 5; i++)
		s->h[i] += v[i];
}

static void sha1_add(struct sha1 *s, const void *data, size_t len)
{
	const unsigned char *p = data;
	for (size_t i = 0; i < len; i++) {
		s->block[s->len++ % SHA1_BLOCK] = p[i];
		if (s->len % SHA1_BLOCK == 0)
			sha1_block(s);
	}
}

static void sha1_end(struct sha1 *s, unsigned char ret[20])
{
	uint64_t bits = s->len * 8;
	unsigned char count[8];
	for (size_t i = 0; i < sizeof(count); i++)
		count[i] = (unsigned char)(bits >> (56 - 8 * i));
	sha1_add(s, "\x80", 1);
	while (s->len % SHA1_BLOCK != SHA1_BLOCK - sizeof(count))
		sha1_add(s, "", 1);
	sha1_add(s, count, sizeof(count));
	for (size_t i = 0; i < 20; i++)
		ret[i] = (unsigned char)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

struct uuid_text uuid5(const char *space, const char *name)
{
	struct sha1 s = {.h = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}};
	unsigned char b[20];
	sodium_hex2bin(b, 16, space, strlen(space), "-", NULL, NULL);
	sha1_add(&s, b, 16);
	sha1_add(&s, name, strlen(name));
	sha1_end(&s, b);
	b[6] = (unsigned char)((b[6] & 0x0f) | 0x50);
	b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
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
