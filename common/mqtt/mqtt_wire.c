#include "common/mqtt/mqtt_wire.h"
#include "common/util.h"
#include <string.h>

#define BYTES_MIN   4096
#define FLAG_RETAIN 0x01
#define FLAG_DUP    0x08
#define HEAD_MAX    5    /* of a fixed header */
#define SUBACK_MAX  4098 /* an id and more codes than anybody asks for in one packet */
#define LEVEL_3_1_1 4

/* connect flags (3.1.2.3) */
#define CLEAN_SESSION 0x02
#define HAS_WILL      0x04
#define WILL_QOS_AT   3
#define WILL_RETAIN   0x20
#define HAS_PASSWORD  0x40
#define HAS_USERNAME  0x80

/* ---- bytes that wait ---- */

void mqtt_bytes_done(struct mqtt_bytes *b)
{
	free(b->data);
	*b = (struct mqtt_bytes){0};
}

int mqtt_bytes_reserve(struct mqtt_bytes *b, size_t n)
{
	size_t waiting = mqtt_bytes_waiting(b);

	if (b->cap - b->end >= n)
		return 0;
	if (b->cap - waiting >= n && b->begin >= waiting) {
		memmove(b->data, b->data + b->begin, waiting);
	} else {
		size_t cap = b->cap < BYTES_MIN ? BYTES_MIN : b->cap;

		while (cap - waiting < n) {
			if (cap > SIZE_MAX / 2)
				return ERR_NOMEM;
			cap *= 2;
		}
		uint8_t *data = malloc(cap);
		if (data == NULL)
			return ERR_NOMEM;
		if (waiting > 0)
			memcpy(data, b->data + b->begin, waiting);
		free(b->data);
		b->data = data;
		b->cap = cap;
	}
	b->begin = 0;
	b->end = waiting;
	return 0;
}

int mqtt_bytes_append(struct mqtt_bytes *b, const void *from, size_t n)
{
	if (mqtt_bytes_reserve(b, n) < 0)
		return ERR_NOMEM;
	memcpy(b->data + b->end, from, n);
	b->end += n;
	return 0;
}

void mqtt_bytes_consume(struct mqtt_bytes *b, size_t n, size_t keep)
{
	b->begin += n;
	if (b->begin < b->end)
		return;
	b->begin = b->end = 0;
	if (b->cap > keep)
		mqtt_bytes_done(b);
}

/* ---- strings (1.5.3, 4.7) ---- */

/* ret: length of the UTF-8 character of more than one byte at s, 0: none is. */
static size_t long_char(const uint8_t *s, size_t n)
{
	static const struct {
		uint8_t mask, lead;
		uint32_t least; /* shorter forms of a character are not UTF-8 */
	} forms[] = {{0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};

	for (size_t len = 2; len <= 4 && len <= n; len++) {
		if ((s[0] & forms[len - 2].mask) != forms[len - 2].lead)
			continue;
		uint32_t c = s[0] & (uint8_t)~forms[len - 2].mask;
		for (size_t i = 1; i < len; i++) {
			if ((s[i] & 0xc0) != 0x80)
				return 0;
			c = c << 6 | (s[i] & 0x3f);
		}
		bool surrogate = c >= 0xd800 && c <= 0xdfff;
		return c >= forms[len - 2].least && c <= 0x10ffff && !surrogate ? len : 0;
	}
	return 0;
}

/* ret: whether it is 1 to 65535 bytes of UTF-8 without NUL. */
static bool string_valid(const char *string, size_t len)
{
	const uint8_t *s = (const uint8_t *)string;

	for (size_t i = 0; i < len;) {
		size_t n = s[i] >= 0x80 ? long_char(s + i, len - i) : 1;

		if (n == 0 || s[i] == '\0')
			return false;
		i += n;
	}
	return len > 0 && len <= MQTT_TOPIC_MAX;
}

bool mqtt_topic_valid(const char *topic, size_t len)
{
	return string_valid(topic, len) && memchr(topic, '+', len) == NULL &&
	       memchr(topic, '#', len) == NULL;
}

bool mqtt_filter_valid(const char *filter, size_t len)
{
	if (!string_valid(filter, len))
		return false;
	for (size_t i = 0; i < len; i++) {
		bool begins = i == 0 || filter[i - 1] == '/';

		if (filter[i] == '+' && !(begins && (i + 1 == len || filter[i + 1] == '/')))
			return false;
		if (filter[i] == '#' && !(begins && i + 1 == len))
			return false;
	}
	return true;
}

/* ---- parsing ---- */

static uint16_t get_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

struct head {
	const uint8_t *data;
	size_t n;    /* bytes that are there */
	size_t size; /* of the fixed header */
	size_t remaining;
	uint8_t flags;
};

typedef int parse_fn(const struct head *h, struct mqtt_packet *p, struct err *err);

static int parse_connack(const struct head *h, struct mqtt_packet *p, struct err *err)
{
	const uint8_t *body = h->data + h->size;

	if (body[0] > 1)
		return err_set(err, ERR_PEER, "CONNACK with reserved flags 0x%02x", body[0]);
	p->connack.session_present = body[0] == 1;
	p->connack.code = body[1];
	return 0;
}

static int parse_id(const struct head *h, struct mqtt_packet *p, struct err *err)
{
	p->id = get_u16(h->data + h->size);
	return p->id != 0 ? 0 : err_set(err, ERR_PEER, "packet identifier 0");
}

static int parse_suback(const struct head *h, struct mqtt_packet *p, struct err *err)
{
	p->suback.codes = h->data + h->size + 2;
	p->suback.n = h->remaining - 2;
	for (size_t i = 0; i < p->suback.n; i++)
		if (p->suback.codes[i] > 2 && p->suback.codes[i] != MQTT_SUB_REFUSED)
			return err_set(err, ERR_PEER, "SUBACK with reserved code 0x%02x",
				       p->suback.codes[i]);
	return parse_id(h, p, err);
}

static int parse_nothing(const struct head *h, struct mqtt_packet *p, struct err *err)
{
	(void)h, (void)p, (void)err;
	return 0;
}

/* What a broker may send, but PUBLISH. */
static const struct {
	const char *name;
	parse_fn *parse; /* NULL: only clients send it */
	uint8_t flags;
	size_t least, most; /* remaining length */
} kinds[16] = {
	[MQTT_CONNECT] = {.name = "CONNECT"},
	[MQTT_CONNACK] = {"CONNACK", parse_connack, 0, 2, 2},
	[MQTT_PUBLISH] = {.name = "PUBLISH"},
	[MQTT_PUBACK] = {"PUBACK", parse_id, 0, 2, 2},
	[MQTT_PUBREC] = {"PUBREC", parse_id, 0, 2, 2},
	[MQTT_PUBREL] = {"PUBREL", parse_id, 2, 2, 2},
	[MQTT_PUBCOMP] = {"PUBCOMP", parse_id, 0, 2, 2},
	[MQTT_SUBSCRIBE] = {.name = "SUBSCRIBE"},
	[MQTT_SUBACK] = {"SUBACK", parse_suback, 0, 3, SUBACK_MAX},
	[MQTT_UNSUBSCRIBE] = {.name = "UNSUBSCRIBE"},
	[MQTT_UNSUBACK] = {"UNSUBACK", parse_id, 0, 2, 2},
	[MQTT_PINGREQ] = {.name = "PINGREQ"},
	[MQTT_PINGRESP] = {"PINGRESP", parse_nothing, 0, 0, 0},
	[MQTT_DISCONNECT] = {.name = "DISCONNECT"},
};

/* The fixed header. ret: 1, 0 (not complete) or ERR_PEER. */
static int parse_head(const uint8_t *data, size_t n, struct head *h, struct err *err)
{
	size_t remaining = 0;

	for (size_t i = 1; i < n; i++) {
		if (i == HEAD_MAX)
			return err_set(err, ERR_PEER, "remaining length of more than 4 bytes");
		remaining |= (size_t)(data[i] & 0x7f) << 7 * (i - 1);
		if (data[i] & 0x80)
			continue;
		*h = (struct head){data, n, i + 1, remaining, data[0] & 0x0f};
		return 1;
	}
	return 0;
}

static int check_publish(const struct head *h, const struct mqtt_publish *m, struct err *err)
{
	if (m->qos > 2)
		return err_set(err, ERR_PEER, "PUBLISH with QoS 3");
	if (m->qos == 0 && m->dup)
		return err_set(err, ERR_PEER, "PUBLISH with QoS 0 and DUP");
	if (h->remaining < 2)
		return err_set(err, ERR_PEER, "PUBLISH of %zu bytes", h->remaining);
	return 0;
}

static int parse_publish(const struct head *h, size_t max_payload, struct mqtt_packet *p,
			 size_t *ret_need, struct err *err)
{
	const uint8_t *body = h->data + h->size;
	struct mqtt_publish m = {
		.qos = h->flags >> 1 & 3,
		.retained = h->flags & FLAG_RETAIN,
		.dup = h->flags & FLAG_DUP,
	};

	if (check_publish(h, &m, err) < 0)
		return ERR_PEER;
	*ret_need = h->size + 2;
	if (h->n < *ret_need)
		return 0;
	m.topic = (const char *)body + 2;
	m.topic_len = get_u16(body);
	size_t before = 2 + m.topic_len + (m.qos > 0 ? 2 : 0);
	if (before > h->remaining)
		return err_set(err, ERR_PEER, "PUBLISH of %zu bytes with a topic of %zu",
			       h->remaining, m.topic_len);
	m.len = h->remaining - before;
	bool too_large = m.len > max_payload;
	*ret_need = h->size + before + (too_large ? 0 : m.len);
	if (h->n < *ret_need)
		return 0;
	if (!mqtt_topic_valid(m.topic, m.topic_len))
		return err_set(err, ERR_PEER, "PUBLISH with a topic that is none");
	if (m.qos > 0)
		m.id = get_u16(body + 2 + m.topic_len);
	if (m.qos > 0 && m.id == 0)
		return err_set(err, ERR_PEER, "PUBLISH with packet identifier 0");
	m.payload = too_large ? NULL : body + before;
	*p = (struct mqtt_packet){.type = MQTT_PUBLISH,
				  .id = m.id,
				  .publish = m,
				  .used = *ret_need,
				  .skip = too_large ? m.len : 0};
	return 1;
}

int mqtt_parse(const uint8_t *data, size_t n, size_t max_payload, struct mqtt_packet *ret_packet,
	       size_t *ret_need, struct err *err)
{
	struct mqtt_packet p = {0};
	struct head h;

	*ret_need = n + 1;
	if (n == 0)
		return 0;
	p.type = data[0] >> 4;
	if (p.type != MQTT_PUBLISH && kinds[p.type].parse == NULL)
		return err_set(err, ERR_PEER, "packet of type %u (%s)", p.type,
			       kinds[p.type].name != NULL ? kinds[p.type].name : "reserved");
	int rc = parse_head(data, n, &h, err);
	if (rc <= 0)
		return rc;
	if (p.type == MQTT_PUBLISH)
		return parse_publish(&h, max_payload, ret_packet, ret_need, err);
	if (h.flags != kinds[p.type].flags)
		return err_set(err, ERR_PEER, "%s with flags 0x%x", kinds[p.type].name, h.flags);
	if (h.remaining < kinds[p.type].least || h.remaining > kinds[p.type].most)
		return err_set(err, ERR_PEER, "%s of %zu bytes", kinds[p.type].name, h.remaining);
	p.used = *ret_need = h.size + h.remaining;
	if (n < p.used)
		return 0;
	rc = kinds[p.type].parse(&h, &p, err);
	if (rc < 0)
		return rc;
	*ret_packet = p;
	return 1;
}

const char *mqtt_connack_text(uint8_t code)
{
	static const char *const texts[] = {
		"accepted",
		"the broker does not speak MQTT 3.1.1",
		"the broker refuses the client id",
		"the broker is not available",
		"bad user name or password",
		"not authorized",
	};

	return code < ARRAY_LEN(texts) ? texts[code] : "refused with a reserved code";
}

/* ---- writing ---- */

static uint8_t *put_u16(uint8_t *at, size_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
	return at + 2;
}

static uint8_t *put_string(uint8_t *at, const char *s, size_t len)
{
	at = put_u16(at, len);
	if (len > 0)
		memcpy(at, s, len);
	return at + len;
}

static size_t length_bytes(size_t remaining)
{
	return remaining < 128 ? 1 : remaining < 16384 ? 2 : remaining < 2097152 ? 3 : 4;
}

/* Reserve a packet and write its fixed header. ret: where the rest goes; NULL: *ret_rc says why. */
static uint8_t *put_head(struct mqtt_bytes *b, unsigned type_and_flags, size_t remaining,
			 int *ret_rc)
{
	size_t size = 1 + length_bytes(remaining) + remaining;

	*ret_rc = remaining > MQTT_REMAINING_MAX ? ERR_RANGE : mqtt_bytes_reserve(b, size);
	if (*ret_rc < 0)
		return NULL;
	uint8_t *at = b->data + b->end;
	b->end += size;
	*at++ = (uint8_t)type_and_flags;
	for (; remaining >= 128; remaining >>= 7)
		*at++ = (uint8_t)(remaining | 0x80);
	*at++ = (uint8_t)remaining;
	return at;
}

int mqtt_put_connect(struct mqtt_bytes *b, const struct mqtt_connect *c)
{
	const struct mqtt_publish *w = c->will;
	/* what follows the flags, in its order (3.1.3) */
	const struct {
		bool there;
		unsigned flags;
		const char *s;
		size_t len;
	} parts[] = {
		{true, c->clean_session ? CLEAN_SESSION : 0, c->client_id, strlen(c->client_id)},
		{w != NULL, HAS_WILL, w != NULL ? w->topic : NULL, w != NULL ? w->topic_len : 0},
		{w != NULL,
		 w != NULL ? (unsigned)w->qos << WILL_QOS_AT | (w->retained ? WILL_RETAIN : 0) : 0,
		 w != NULL ? w->payload : NULL, w != NULL ? w->len : 0},
		{c->username != NULL, HAS_USERNAME, c->username,
		 c->username != NULL ? strlen(c->username) : 0},
		{c->username != NULL && c->password != NULL, HAS_PASSWORD, c->password,
		 c->password != NULL ? strlen(c->password) : 0},
	};
	size_t remaining = 10;
	unsigned flags = 0;
	int rc = 0;

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		if (!parts[i].there)
			continue;
		if (parts[i].len > UINT16_MAX)
			return ERR_RANGE;
		remaining += 2 + parts[i].len;
		flags |= parts[i].flags;
	}
	uint8_t *at = put_head(b, MQTT_CONNECT << 4, remaining, &rc);
	if (at == NULL)
		return rc;
	at = put_string(at, "MQTT", 4);
	*at++ = LEVEL_3_1_1;
	*at++ = (uint8_t)flags;
	at = put_u16(at, c->keepalive_s);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		if (parts[i].there)
			at = put_string(at, parts[i].s, parts[i].len);
	return 0;
}

static size_t publish_remaining(const struct mqtt_publish *p)
{
	return 2 + p->topic_len + (p->qos > 0 ? 2 : 0) + p->len;
}

size_t mqtt_publish_bytes(const struct mqtt_publish *p)
{
	if (p->topic_len > MQTT_TOPIC_MAX || p->len > MQTT_REMAINING_MAX ||
	    publish_remaining(p) > MQTT_REMAINING_MAX)
		return 0;
	return 1 + length_bytes(publish_remaining(p)) + publish_remaining(p);
}

int mqtt_put_publish(struct mqtt_bytes *b, const struct mqtt_publish *p)
{
	unsigned flags =
		(unsigned)p->qos << 1 | (p->retained ? FLAG_RETAIN : 0) | (p->dup ? FLAG_DUP : 0);
	int rc = ERR_RANGE;
	uint8_t *at = mqtt_publish_bytes(p) > 0
			      ? put_head(b, MQTT_PUBLISH << 4 | flags, publish_remaining(p), &rc)
			      : NULL;

	if (at == NULL)
		return rc;
	at = put_string(at, p->topic, p->topic_len);
	if (p->qos > 0)
		at = put_u16(at, p->id);
	if (p->len > 0)
		memcpy(at, p->payload, p->len);
	return 0;
}

void mqtt_mark_dup(uint8_t *publish, bool dup)
{
	*publish = (uint8_t)(dup ? *publish | FLAG_DUP : *publish & ~FLAG_DUP);
}

int mqtt_put_ack(struct mqtt_bytes *b, enum mqtt_type type, uint16_t id)
{
	int rc;
	uint8_t *at = put_head(b, (unsigned)type << 4 | kinds[type].flags, 2, &rc);

	if (at != NULL)
		put_u16(at, id);
	return rc;
}

int mqtt_put_bare(struct mqtt_bytes *b, enum mqtt_type type)
{
	int rc;

	put_head(b, (unsigned)type << 4, 0, &rc);
	return rc;
}

static int put_filters(struct mqtt_bytes *b, enum mqtt_type type, uint16_t id,
		       const struct mqtt_filter *filters, size_t n)
{
	size_t qos_bytes = type == MQTT_SUBSCRIBE ? 1 : 0, remaining = 2;
	int rc;

	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(filters[i].topic);

		if (len > MQTT_TOPIC_MAX || remaining > MQTT_REMAINING_MAX)
			return ERR_RANGE;
		remaining += 2 + len + qos_bytes;
	}
	uint8_t *at = put_head(b, (unsigned)type << 4 | 2, remaining, &rc);
	if (at == NULL)
		return rc;
	at = put_u16(at, id);
	for (size_t i = 0; i < n; i++) {
		at = put_string(at, filters[i].topic, strlen(filters[i].topic));
		if (qos_bytes > 0)
			*at++ = filters[i].qos;
	}
	return 0;
}

int mqtt_put_subscribe(struct mqtt_bytes *b, uint16_t id, const struct mqtt_filter *filters,
		       size_t n)
{
	return put_filters(b, MQTT_SUBSCRIBE, id, filters, n);
}

int mqtt_put_unsubscribe(struct mqtt_bytes *b, uint16_t id, const struct mqtt_filter *filters,
			 size_t n)
{
	return put_filters(b, MQTT_UNSUBSCRIBE, id, filters, n);
}
