#include "common/mqtt/mqtt_out.h"
#include "common/util.h"

#define MSGS_MIN   8
#define KEEP_BYTES (1 << 20) /* an emptied store larger than this gives its memory back */

enum state {
	WAITING,  /* not on this connection yet, nor, for the broker, on another */
	SENT,     /* PUBACK or PUBREC is due */
	RELEASED, /* PUBREC has come: PUBCOMP is due */
	DONE,
};

struct mqtt_out_msg {
	uint64_t at; /* in the store, counted from the beginning of time */
	uint32_t size;
	uint8_t qos, state;
};

void mqtt_out_init(struct mqtt_out *o, const struct mqtt_out_limits *max)
{
	*o = (struct mqtt_out){.max = *max};
	if (o->max.in_flight == 0 || o->max.in_flight > MQTT_OUT_IDS)
		o->max.in_flight = MQTT_OUT_IDS;
}

void mqtt_out_done(struct mqtt_out *o)
{
	free(o->msgs);
	free(o->waiters);
	mqtt_bytes_done(&o->store);
	*o = (struct mqtt_out){0};
}

static struct mqtt_out_msg *msg_at(const struct mqtt_out *o, uint64_t n)
{
	return &o->msgs[n & (o->cap - 1)];
}

static uint8_t *packet_of(const struct mqtt_out *o, const struct mqtt_out_msg *m)
{
	return o->store.data + o->store.begin + (m->at - o->popped);
}

static uint16_t id_of(uint64_t n)
{
	return (uint16_t)(n % MQTT_OUT_IDS + 1);
}

/* ---- taking ---- */

/* Room for one more, and for those who wait if there is one or was. */
static int make_room(struct mqtt_out *o, bool awaited)
{
	bool full = o->next - o->first >= o->cap, with_waiters = awaited || o->waiters != NULL;
	size_t cap = full ? o->cap > 0 ? o->cap * 2 : MSGS_MIN : o->cap;
	struct mqtt_out old = *o;

	if (!full && (o->waiters != NULL) == with_waiters)
		return 0;
	struct mqtt_out_msg *msgs = calloc(cap, sizeof(*msgs));
	struct mqtt_out_waiter *waiters =
		with_waiters && msgs != NULL ? calloc(cap, sizeof(*waiters)) : NULL;
	if (msgs == NULL || (with_waiters && waiters == NULL)) {
		free(msgs);
		return ERR_NOMEM;
	}
	o->msgs = msgs;
	o->waiters = waiters;
	o->cap = cap;
	for (uint64_t n = old.first; n < old.next; n++) {
		*msg_at(o, n) = *msg_at(&old, n);
		if (waiters != NULL && old.waiters != NULL)
			waiters[n & (cap - 1)] = old.waiters[n & (old.cap - 1)];
	}
	free(old.msgs);
	free(old.waiters);
	return 0;
}

static bool is_full(const struct mqtt_out *o, size_t size)
{
	if (o->max.waiting > 0 && o->next - o->cursor >= o->max.waiting)
		return true;
	return o->next > o->first && (mqtt_out_kept(o) >= o->max.msgs ||
				      mqtt_bytes_waiting(&o->store) + size > o->max.bytes);
}

int mqtt_out_add(struct mqtt_out *o, const struct mqtt_publish *p, const struct mqtt_out_waiter *w)
{
	size_t size = mqtt_publish_bytes(p), kept = mqtt_bytes_waiting(&o->store);
	struct mqtt_publish mine = *p;

	if (size == 0)
		return ERR_RANGE;
	if (is_full(o, size))
		return ERR_LIMIT;
	mine.id = id_of(o->next);
	if (make_room(o, w != NULL) < 0 || mqtt_put_publish(&o->store, &mine) < 0)
		return ERR_NOMEM;
	if (o->waiters != NULL)
		o->waiters[o->next & (o->cap - 1)] =
			w != NULL ? *w : (struct mqtt_out_waiter){NULL, NULL};
	*msg_at(o, o->next++) = (struct mqtt_out_msg){
		.at = o->popped + kept, .size = (uint32_t)size, .qos = p->qos};
	return 0;
}

/* ---- sending ---- */

static void drop_done(struct mqtt_out *o)
{
	while (o->first < o->cursor && msg_at(o, o->first)->state == DONE) {
		size_t size = msg_at(o, o->first++)->size;

		o->popped += size;
		mqtt_bytes_consume(&o->store, size, o->max.frugal ? 0 : KEEP_BYTES);
	}
	if (o->max.frugal && o->first == o->next && o->cap > MSGS_MIN) {
		free(TAKE(o->msgs));
		free(TAKE(o->waiters));
		o->cap = 0;
	}
}

static int send_one(const struct mqtt_out *o, uint64_t n, struct mqtt_bytes *w)
{
	struct mqtt_out_msg *m = msg_at(o, n);
	int rc;

	switch ((enum state)m->state) {
	case DONE:
		return 0;
	case RELEASED:
		return mqtt_put_ack(w, MQTT_PUBREL, id_of(n));
	case SENT:
	case WAITING:
		break;
	}
	rc = mqtt_bytes_append(w, packet_of(o, m), m->size);
	if (rc == 0)
		m->state = m->qos == 0 ? DONE : SENT;
	return rc;
}

bool mqtt_out_ready(const struct mqtt_out *o)
{
	return o->cursor < o->next && o->cursor - o->first < o->max.in_flight;
}

int mqtt_out_pump(struct mqtt_out *o, struct mqtt_bytes *w, size_t max_waiting)
{
	int rc = 0;

	while (mqtt_out_ready(o) && mqtt_bytes_waiting(w) < max_waiting) {
		rc = send_one(o, o->cursor, w);
		if (rc < 0)
			break;
		o->cursor++;
		if (msg_at(o, o->first)->state == DONE)
			drop_done(o);
	}
	return rc;
}

bool mqtt_out_idle(const struct mqtt_out *o)
{
	return o->cursor == o->next;
}

void mqtt_out_connected(struct mqtt_out *o, bool resumed)
{
	/* up to the last: an earlier connection may have got further than the one before this */
	for (uint64_t n = o->first; n < o->next; n++) {
		struct mqtt_out_msg *m = msg_at(o, n);

		if (m->state == SENT) {
			mqtt_mark_dup(packet_of(o, m), resumed);
			m->state = resumed ? SENT : WAITING;
		} else if (m->state == RELEASED && !resumed) {
			m->state = DONE;
		}
	}
	drop_done(o);
	o->cursor = o->first;
}

/* ---- acknowledgements ---- */

/* The message in flight with this identifier. ret: false if there is none. */
static bool find(const struct mqtt_out *o, uint16_t id, uint64_t *ret)
{
	if (id == 0 || id > MQTT_OUT_IDS)
		return false;
	*ret = o->first + (id + MQTT_OUT_IDS - id_of(o->first)) % MQTT_OUT_IDS;
	return *ret < o->cursor;
}

static struct mqtt_out_waiter take_waiter(struct mqtt_out *o, uint64_t n)
{
	struct mqtt_out_waiter taken = {NULL, NULL};

	if (o->waiters != NULL) {
		taken = o->waiters[n & (o->cap - 1)];
		o->waiters[n & (o->cap - 1)].done = NULL;
	}
	return taken;
}

int mqtt_out_acked(struct mqtt_out *o, enum mqtt_type type, uint16_t id, struct mqtt_bytes *w,
		   struct mqtt_out_waiter *ret, struct err *err)
{
	uint64_t n = 0;
	struct mqtt_out_msg *m = find(o, id, &n) ? msg_at(o, n) : NULL;

	ret->done = NULL;
	if (m != NULL && m->state == SENT) {
		if (type != (m->qos == 1 ? MQTT_PUBACK : MQTT_PUBREC))
			return err_set(err, ERR_PEER,
				       "acknowledgement of type %u for a message of QoS %u", type,
				       m->qos);
		m->state = m->qos == 1 ? DONE : RELEASED;
	} else if (m != NULL && m->state == RELEASED && type == MQTT_PUBCOMP) {
		m->state = DONE;
	}
	if (m != NULL && m->state == DONE)
		*ret = take_waiter(o, n);
	drop_done(o);
	/* Also for one we know nothing of: the broker would wait for it for ever (4.3.3). */
	return type == MQTT_PUBREC ? mqtt_put_ack(w, MQTT_PUBREL, id) : 0;
}

size_t mqtt_out_give_up(struct mqtt_out *o)
{
	uint64_t end = o->next;
	size_t given_up = 0;

	/* up to the last, as in mqtt_out_connected(); what is added meanwhile comes behind */
	for (uint64_t n = o->first; n < end; n++) {
		struct mqtt_out_msg *m = n >= o->first ? msg_at(o, n) : NULL;

		if (m == NULL || (m->state != SENT && m->state != RELEASED))
			continue;
		m->state = DONE;
		struct mqtt_out_waiter waiter = take_waiter(o, n);
		drop_done(o);
		given_up++;
		if (waiter.done != NULL)
			waiter.done(waiter.arg, ERR_AGAIN);
	}
	return given_up;
}

size_t mqtt_out_kept(const struct mqtt_out *o)
{
	return (size_t)(o->next - o->first);
}

size_t mqtt_out_unsent(const struct mqtt_out *o)
{
	return (size_t)(o->next - o->cursor);
}

size_t mqtt_out_unsent_bytes(const struct mqtt_out *o)
{
	if (o->cursor == o->next)
		return 0;
	return mqtt_bytes_waiting(&o->store) - (size_t)(msg_at(o, o->cursor)->at - o->popped);
}

bool mqtt_out_has_room(const struct mqtt_out *o)
{
	return mqtt_out_kept(o) <= o->max.msgs / 4 * 3 &&
	       mqtt_bytes_waiting(&o->store) <= o->max.bytes / 4 * 3;
}
