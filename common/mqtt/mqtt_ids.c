#include "common/mqtt/mqtt_ids.h"
#include "common/err.h"
#include "common/util.h"
#include <stdlib.h>

#define IDS 65536

static void set_bit(uint8_t *bits, uint16_t id)
{
	bits[id / 8] = (uint8_t)(bits[id / 8] | 1 << id % 8);
}

bool mqtt_ids_has(const struct mqtt_ids *s, uint16_t id)
{
	if (s->bits != NULL)
		return s->bits[id / 8] >> id % 8 & 1;
	for (unsigned i = 0; i < s->n_few; i++)
		if (s->few[i] == id)
			return true;
	return false;
}

int mqtt_ids_add(struct mqtt_ids *s, uint16_t id)
{
	if (mqtt_ids_has(s, id))
		return 0;
	if (s->bits == NULL && s->n_few < MQTT_IDS_FEW) {
		s->few[s->n_few++] = id;
		return 0;
	}
	if (s->bits == NULL) {
		s->bits = calloc(1, IDS / 8);
		if (s->bits == NULL)
			return ERR_NOMEM;
		for (; s->n_few > 0; s->n_few--)
			set_bit(s->bits, s->few[s->n_few - 1]);
	}
	set_bit(s->bits, id);
	return 0;
}

void mqtt_ids_remove(struct mqtt_ids *s, uint16_t id)
{
	if (s->bits != NULL)
		s->bits[id / 8] = (uint8_t)(s->bits[id / 8] & ~(1 << id % 8));
	for (unsigned i = 0; i < s->n_few; i++) {
		if (s->few[i] != id)
			continue;
		s->few[i] = s->few[--s->n_few];
		return;
	}
}

void mqtt_ids_clear(struct mqtt_ids *s)
{
	free(s->bits);
	*s = (struct mqtt_ids){0};
}
