/* mqtt_ids.h - a set of packet identifiers: small while it has few, a bit for each of the 65535
 * beyond.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MQTT_IDS_FEW 8

struct mqtt_ids { /* all zero: empty; private to mqtt_ids.c, but for embedding */
	uint16_t few[MQTT_IDS_FEW];
	unsigned n_few;
	uint8_t *bits; /* NULL: they are few */
};

/* ret: 0 or ERR_NOMEM. */
int mqtt_ids_add(struct mqtt_ids *s, uint16_t id);
void mqtt_ids_remove(struct mqtt_ids *s, uint16_t id);
bool mqtt_ids_has(const struct mqtt_ids *s, uint16_t id);
void mqtt_ids_clear(struct mqtt_ids *s); /* gives its memory back */
