#include "agent/device/twice.h"
#include <sodium.h>
#include <string.h>

#define WINDOW_MS 10000

static uint64_t hash(const struct twice *t, const char *topic, const char *body, size_t len)
{
	unsigned char parts[2][crypto_shorthash_BYTES], all[crypto_shorthash_BYTES];
	uint64_t h;

	_Static_assert(sizeof(t->key) == crypto_shorthash_KEYBYTES, "the key's size");
	_Static_assert(sizeof(h) == crypto_shorthash_BYTES, "the hash's size");
	crypto_shorthash(parts[0], (const unsigned char *)topic, strlen(topic), t->key);
	crypto_shorthash(parts[1], (const unsigned char *)body, len, t->key);
	crypto_shorthash(all, parts[0], sizeof(parts), t->key);
	memcpy(&h, all, sizeof(h));
	return h | 1; /* 0: an empty place of the ring */
}

void twice_init(struct twice *t)
{
	memset(t, 0, sizeof(*t));
	randombytes_buf(t->key, sizeof(t->key));
}

bool twice_seen(struct twice *t, const char *topic, const char *body, size_t len, bool dup,
		int64_t now_ms)
{
	uint64_t h = hash(t, topic, body, len);

	for (size_t i = 0; dup && i < TWICE_MAX; i++)
		if (t->acts[i].hash == h && now_ms - t->acts[i].ms <= WINDOW_MS)
			return true;
	t->acts[t->next].hash = h;
	t->acts[t->next].ms = now_ms;
	t->next = (t->next + 1) % TWICE_MAX;
	return false;
}
