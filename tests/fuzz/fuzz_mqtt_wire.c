/* fuzz: common */
/* What a broker could send: the same packets come out whole and in pieces, nothing points outside,
 * and a PUBLISH that is written again reads the same. */
#include "common/mqtt/mqtt_wire.h"
#include "common/util.h"

#include <assert.h>
#include <string.h>

#define PAYLOAD_MAX 300

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_publish(const struct mqtt_packet *p, const uint8_t *data, size_t n)
{
	const struct mqtt_publish *m = &p->publish;
	const uint8_t *topic = (const uint8_t *)m->topic, *payload = m->payload;
	struct mqtt_bytes again = {0};
	struct mqtt_packet q;
	struct err err;
	size_t need;

	assert(m->qos <= 2 && (m->id != 0) == (m->qos > 0));
	assert(topic > data && topic + m->topic_len <= data + n);
	assert(mqtt_topic_valid(m->topic, m->topic_len));
	assert((payload == NULL) == (m->len > PAYLOAD_MAX));
	assert(p->skip == (payload == NULL ? m->len : 0));
	if (payload == NULL)
		return;
	assert(payload >= data && payload + m->len == data + p->used);
	assert(mqtt_put_publish(&again, m) == 0);
	assert(mqtt_parse(again.data, again.end, PAYLOAD_MAX, &q, &need, &err) == 1);
	assert(q.used == again.end && q.id == p->id && q.publish.len == m->len);
	assert(memcmp(q.publish.payload, m->payload, m->len) == 0);
	mqtt_bytes_done(&again);
}

/* Ask for more only as far as the parser says it needs. ret: what the whole gives. */
static int parse_in_pieces(const uint8_t *data, size_t n, struct mqtt_packet *p, struct err *err)
{
	size_t have = 0, need = 0;

	for (;;) {
		uint8_t *copy = malloc(have > 0 ? have : 1);
		assert(copy != NULL);
		memcpy(copy, data, have);
		int rc = mqtt_parse(copy, have, PAYLOAD_MAX, p, &need, err);
		free(copy);
		if (rc != 0)
			return rc;
		assert(need > have);
		if (need > n)
			return 0;
		have = need;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t at = 0;

	while (at < size) {
		struct mqtt_packet whole = {0}, pieces = {0};
		struct err err = {0}, err_pieces = {0};
		size_t need = 0, n = size - at;
		int rc = mqtt_parse(data + at, n, PAYLOAD_MAX, &whole, &need, &err);

		assert((rc < 0) == (err.code != 0));
		assert(parse_in_pieces(data + at, n, &pieces, &err_pieces) == rc);
		if (rc <= 0)
			break;
		assert(whole.used <= n && whole.used > 0 && whole.used == pieces.used);
		assert(whole.type == pieces.type && whole.id == pieces.id &&
		       whole.skip == pieces.skip);
		if (whole.type == MQTT_PUBLISH)
			check_publish(&whole, data + at, n);
		if (whole.type == MQTT_SUBACK)
			assert(whole.suback.codes + whole.suback.n == data + at + whole.used);
		at += whole.used;
		at += whole.skip < size - at ? whole.skip : size - at;
	}
	return 0;
}
