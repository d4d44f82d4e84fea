#include "ccm/web/throttle.h"

#include <arpa/inet.h>
#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define SETS 1024
#define WAYS 8 /* of a set: places that a key may be at */

static const struct {
	float at_once, period_s;
} limits[] = {
	[THROTTLE_ADDRESS] = {50, 6},
	[THROTTLE_ACCOUNT] = {10, 30},
};

struct entry {
	uint64_t key;  /* 0: free */
	float debt;    /* failures, at that time; each is forgotten after a period */
	uint32_t kind;
	int64_t at_ms;
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
	if (kind == THROTTLE_ADDRESS && inet_pton(AF_INET6, key, &v6) == 1) {
		data = &v6;
		len = sizeof(v6) / 2;
	}
	crypto_shorthash((unsigned char *)&hash, data, len, t->secret);
	hash ^= kind;
	return hash != 0 ? hash : 1;
}

static float debt_of(const struct entry *e, int64_t now_ms)
{
	float left = e->debt - (float)(now_ms - e->at_ms) / 1000 / limits[e->kind].period_s;
	return e->key != 0 && left > 0 ? left : 0;
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
	float over = e != NULL ? debt_of(e, now_ms) - limits[kind].at_once + 1 : 0;
	return over > 0 ? (unsigned)ceilf(over * limits[kind].period_s) : 0;
}

void throttle_failed(struct throttle *t, enum throttle_kind kind, const char *key, int64_t now_ms)
{
	uint64_t hash = hash_of(t, kind, key);
	struct entry *e = find(t, hash), *set = t->entries[hash % SETS];
	float debt = e != NULL ? debt_of(e, now_ms) : 0;
	if (e == NULL) {
		e = set;
		for (size_t i = 1; i < WAYS; i++)
			if (debt_of(&set[i], now_ms) < debt_of(e, now_ms))
				e = &set[i];
	}
	*e = (struct entry){.key = hash, .debt = debt + 1, .kind = kind, .at_ms = now_ms};
}

void throttle_forget(struct throttle *t, enum throttle_kind kind, const char *key)
{
	struct entry *e = find(t, hash_of(t, kind, key));
	if (e != NULL)
		*e = (struct entry){0};
}
