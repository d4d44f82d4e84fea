#include "common/topic_table.h"
#include "common/err.h"
#include "common/util.h"
#include <sodium.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define SEATS_MIN 8 /* a small one is one of thousands */

struct seat {
	uint64_t hash;
	const char *topic; /* NULL: empty */
	size_t len;
	void *value;
};

struct topic_table {
	struct seat *seats; /* owned; a power of two, at most 5/8 taken */
	size_t n_seats, taken;
	unsigned char secret[crypto_shorthash_KEYBYTES];
};

struct topic_table *topic_table_new(void)
{
	struct topic_table *t = calloc(1, sizeof(*t));

	if (t == NULL || sodium_init() < 0)
		return topic_table_free(t, NULL);
	t->n_seats = SEATS_MIN;
	t->seats = calloc(t->n_seats, sizeof(*t->seats));
	if (t->seats == NULL)
		return topic_table_free(t, NULL);
	crypto_shorthash_keygen(t->secret);
	return t;
}

struct topic_table *topic_table_free(struct topic_table *t, void (*free_value)(void *value))
{
	if (t == NULL)
		return NULL;
	for (size_t i = 0; free_value != NULL && i < t->n_seats; i++)
		if (t->seats[i].topic != NULL)
			free_value(t->seats[i].value);
	free(t->seats);
	free(t);
	return NULL;
}

static uint64_t hash_of(const struct topic_table *t, const char *topic, size_t len)
{
	unsigned char out[crypto_shorthash_BYTES];
	uint64_t hash;

	crypto_shorthash(out, (const unsigned char *)topic, len, t->secret);
	memcpy(&hash, out, sizeof(hash));
	return hash;
}

/* The seat of topic, or the empty one where it would sit. */
static size_t seat_of(const struct topic_table *t, const char *topic, size_t len, uint64_t hash)
{
	size_t i = hash & (t->n_seats - 1);

	while (t->seats[i].topic != NULL && (t->seats[i].hash != hash || t->seats[i].len != len ||
					     memcmp(t->seats[i].topic, topic, len) != 0))
		i = (i + 1) & (t->n_seats - 1);
	return i;
}

static bool grow(struct topic_table *t)
{
	struct topic_table bigger = *t;

	bigger.n_seats = t->n_seats * 2;
	bigger.seats = calloc(bigger.n_seats, sizeof(*bigger.seats));
	if (bigger.seats == NULL)
		return false;
	for (size_t i = 0; i < t->n_seats; i++) {
		const struct seat *s = &t->seats[i];
		if (s->topic != NULL)
			bigger.seats[seat_of(&bigger, s->topic, s->len, s->hash)] = *s;
	}
	free(t->seats);
	*t = bigger;
	return true;
}

int topic_table_add(struct topic_table *t, const char *topic, void *value)
{
	size_t len = strlen(topic);
	uint64_t hash = hash_of(t, topic, len);
	size_t i = seat_of(t, topic, len, hash);

	if (t->seats[i].topic != NULL)
		return ERR_EXIST;
	if ((t->taken + 1) * 8 > t->n_seats * 5) {
		if (!grow(t))
			return ERR_NOMEM;
		i = seat_of(t, topic, len, hash);
	}
	t->seats[i] = (struct seat){.hash = hash, .topic = topic, .len = len, .value = value};
	t->taken++;
	return 0;
}

void *topic_table_find(const struct topic_table *t, const char *topic)
{
	return topic_table_find_bytes(t, topic, strlen(topic));
}

void *topic_table_find_bytes(const struct topic_table *t, const char *topic, size_t len)
{
	return t->seats[seat_of(t, topic, len, hash_of(t, topic, len))].value;
}

void *topic_table_remove(struct topic_table *t, const char *topic)
{
	size_t mask = t->n_seats - 1;
	size_t len = strlen(topic);
	size_t hole = seat_of(t, topic, len, hash_of(t, topic, len));
	void *value = t->seats[hole].value;

	if (t->seats[hole].topic == NULL)
		return NULL;
	/* Move up what would no longer be found past the hole, so no tombstones are needed. */
	for (size_t i = (hole + 1) & mask; t->seats[i].topic != NULL; i = (i + 1) & mask) {
		size_t home = t->seats[i].hash & mask;
		if (((i - home) & mask) < ((i - hole) & mask))
			continue;
		t->seats[hole] = t->seats[i];
		hole = i;
	}
	t->seats[hole] = (struct seat){0};
	t->taken--;
	return value;
}

size_t topic_table_count(const struct topic_table *t)
{
	return t->taken;
}

void topic_table_each(const struct topic_table *t, void (*fn)(void *arg, void *value), void *arg)
{
	for (size_t i = 0; i < t->n_seats; i++)
		if (t->seats[i].topic != NULL)
			fn(arg, t->seats[i].value);
}
