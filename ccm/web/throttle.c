#include "ccm/web/throttle.h"

#include <arpa/inet.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define SETS 1024
#define WAYS 8 /* of a set: places that a key may be at */

static const struct {
	int64_t at_once, period_ms;
} limits[] = {
	[THROTTLE_ADDRESS] = {50, 6000},
	[THROTTLE_ACCOUNT] = {10, 30000},
	[THROTTLE_NEW] = {200, 30000}, /* a school has one address */
};

struct entry {
	uint64_t key;	  /* 0: free */
	int64_t until_ms; /* each failure adds a period; then all are forgotten */
};

struct throttle {
	unsigned char secret[crypto_shorthash_KEYBYTES]; /* so that nobody can choose who shares a set */
	struct entry entries[SETS][WAYS];
};

struct throttle *throttle_new(void)
{
	struct throttle *t = sodium_init() >= 0 ? calloc(1, sizeof(*t)) : NULL;
	if (t != NULL)
		randombytes_buf(t->secret, sizeof(t->secret));
	return t;
}

struct throttle *throttle_free(struct throttle *t)
{
	free(t);
	return NULL;
}

/* Whoever has one address of IPv6 has all of its network. */
static uint64_t hash_of(const struct throttle *t, enum throttle_kind kind, const char *key)
{
	struct in6_addr v6;
	uint64_t hash;
	const void *data = key;
	size_t len = strlen(key);
	if (kind != THROTTLE_ACCOUNT && inet_pton(AF_INET6, key, &v6) == 1) {
		data = &v6;
		len = sizeof(v6) / 2;
	}
	crypto_shorthash((unsigned char *)&hash, data, len, t->secret);
	hash ^= kind;
	return hash != 0 ? hash : 1;
}

static struct entry *find(const struct throttle *t, uint64_t key)
{
	const struct entry *set = t->entries[key % SETS];
	for (size_t i = 0; i < WAYS; i++)
		if (set[i].key == key)
			return (struct entry *)&set[i];
	return NULL;
}

unsigned throttle_wait_s(const struct throttle *t, enum throttle_kind kind, const char *key, int64_t now_ms)
{
	const struct entry *e = find(t, hash_of(t, kind, key));
	int64_t over_ms = e != NULL ? e->until_ms - now_ms - (limits[kind].at_once - 1) * limits[kind].period_ms : 0;
	return over_ms > 0 ? (unsigned)((over_ms + 999) / 1000) : 0;
}

void throttle_failed(struct throttle *t, enum throttle_kind kind, const char *key, int64_t now_ms)
{
	uint64_t hash = hash_of(t, kind, key);
	struct entry *e = find(t, hash), *set = t->entries[hash % SETS];
	int64_t from_ms = e != NULL && e->until_ms > now_ms ? e->until_ms : now_ms;
	for (size_t i = 0; e == NULL && i < WAYS; i++)
		if (set[i].key == 0)
			e = &set[i];
	if (e == NULL) {
		e = set;
		for (size_t i = 1; i < WAYS; i++)
			if (set[i].until_ms < e->until_ms)
				e = &set[i];
	}
	*e = (struct entry){.key = hash, .until_ms = from_ms + limits[kind].period_ms};
}

void throttle_forget(struct throttle *t, enum throttle_kind kind, const char *key)
{
	struct entry *e = find(t, hash_of(t, kind, key));
	if (e != NULL)
		*e = (struct entry){0};
}
