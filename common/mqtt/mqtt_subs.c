#include "common/mqtt/mqtt_subs.h"
#include "common/log.h"
#include "common/mqtt/mqtt_out.h"
#include "common/topic_table.h"
#include "common/util.h"
#include <string.h>

#define PACKET_TOPICS 100
#define PACKETS_MAX   64 /* under way at a time */
#define FIRST_ID      (MQTT_OUT_IDS + 1)
#define LAST_ID       65535

enum at_broker {
	HAS_UNKNOWN, /* an older session may hold it */
	HAS_NOT,
	HAS,
	HAS_REFUSED, /* asked for again by the next connection or mqtt_subs_set() */
};

struct waiter {
	struct waiter *next;
	mqtt_done_fn *done;
	void *arg;
	bool subscribe;
	bool sent; /* the packet on its way answers this one */
};

struct sub {
	struct waiter *waiters; /* in the order of their calls */
	struct sub *next_dirty;
	bool dirty;     /* in the list of those to look at */
	bool want;      /* or else to be forgotten */
	bool in_packet; /* on its way: it must stay */
	bool syncing;   /* counted in sync_left */
	uint8_t qos, sent_qos;
	enum at_broker broker;
	char topic[];
};

struct packet {
	struct packet *next;
	uint16_t id;
	bool subscribe;
	size_t n;
	struct sub *subs[PACKET_TOPICS];
};

struct mqtt_subs {
	struct topic_table *table;
	struct sub *dirty, **dirty_end;
	struct packet *packets; /* not answered */
	size_t n_packets, sync_left;
	uint16_t next_id;
};

static void sub_free(void *value)
{
	struct sub *sub = value;

	while (sub->waiters != NULL) {
		struct waiter *w = sub->waiters;
		sub->waiters = w->next;
		free(w);
	}
	free(sub);
}

static void mark(struct mqtt_subs *s, struct sub *sub)
{
	if (sub->dirty)
		return;
	sub->dirty = true;
	sub->next_dirty = NULL;
	*s->dirty_end = sub;
	s->dirty_end = &sub->next_dirty;
}

static struct sub *take_dirty(struct mqtt_subs *s)
{
	struct sub *sub = s->dirty;

	if (sub == NULL)
		return NULL;
	s->dirty = sub->next_dirty;
	if (s->dirty == NULL)
		s->dirty_end = &s->dirty;
	sub->dirty = false;
	return sub;
}

/* Those whose packet was answered, or all; the others stay. */
static struct waiter *take_waiters(struct sub *sub, bool all)
{
	struct waiter *taken = NULL, **end = &taken, **at = &sub->waiters;

	while (*at != NULL) {
		struct waiter *w = *at;

		if (!all && !w->sent) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		w->next = NULL;
		*end = w;
		end = &w->next;
	}
	return taken;
}

static void tell(struct waiter *w, bool subscribe, int rc)
{
	while (w != NULL) {
		struct waiter *next = w->next;

		if (w->done != NULL)
			w->done(w->arg, w->subscribe == subscribe ? rc : ERR_CONFLICT);
		free(w);
		w = next;
	}
}

/* ---- sending ---- */

static bool to_send(const struct sub *sub)
{
	if (sub->want)
		return sub->broker == HAS_UNKNOWN || sub->broker == HAS_NOT;
	return sub->broker == HAS_UNKNOWN || sub->broker == HAS;
}

static void synced(struct mqtt_subs *s, struct sub *sub)
{
	s->sync_left -= sub->syncing;
	sub->syncing = false;
}

/* Broker and wish agree, or the broker refuses. The sub may be gone afterwards. */
static void settle(struct mqtt_subs *s, struct sub *sub)
{
	struct waiter *waiters = take_waiters(sub, true);
	bool want = sub->want;
	int rc = want && sub->broker == HAS_REFUSED ? ERR_ACCES : 0;

	synced(s, sub);
	if (!want) {
		topic_table_remove(s->table, sub->topic);
		free(sub);
	}
	tell(waiters, want, rc);
}

static struct packet *packet_new(struct mqtt_subs *s, bool subscribe)
{
	struct packet *p = s->n_packets < PACKETS_MAX ? malloc(sizeof(*p)) : NULL;

	if (p == NULL)
		return NULL;
	*p = (struct packet){.next = s->packets, .id = s->next_id, .subscribe = subscribe};
	s->next_id = s->next_id == LAST_ID ? FIRST_ID : s->next_id + 1;
	s->packets = p;
	s->n_packets++;
	return p;
}

static void packet_remove(struct mqtt_subs *s, struct packet *p)
{
	struct packet **at = &s->packets;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	s->n_packets--;
	free(p);
}

static void packet_add(struct packet *p, struct sub *sub)
{
	p->subs[p->n++] = sub;
	sub->in_packet = true;
	sub->sent_qos = sub->qos;
	for (struct waiter *w = sub->waiters; w != NULL; w = w->next)
		w->sent = true;
}

static void packet_undo(struct mqtt_subs *s, struct packet *p)
{
	for (size_t i = 0; i < p->n; i++) {
		p->subs[i]->in_packet = false;
		mark(s, p->subs[i]);
	}
	packet_remove(s, p);
}

static int packet_send(struct mqtt_subs *s, struct packet *p, struct mqtt_bytes *w)
{
	struct mqtt_filter filters[PACKET_TOPICS];

	if (p == NULL)
		return 0;
	for (size_t i = 0; i < p->n; i++)
		filters[i] = (struct mqtt_filter){p->subs[i]->topic, p->subs[i]->sent_qos};
	int rc = p->subscribe ? mqtt_put_subscribe(w, p->id, filters, p->n)
			      : mqtt_put_unsubscribe(w, p->id, filters, p->n);
	if (rc < 0)
		packet_undo(s, p);
	return rc;
}

int mqtt_subs_flush(struct mqtt_subs *s, struct mqtt_bytes *w)
{
	struct packet *open[2] = {NULL, NULL}; /* to be filled: unsubscribe, subscribe */
	int rc = 0;

	for (struct sub *sub; rc == 0 && (sub = take_dirty(s)) != NULL;) {
		if (sub->in_packet)
			continue; /* looked at again when the answer is here */
		if (!to_send(sub)) {
			settle(s, sub);
			continue;
		}
		struct packet **p = &open[sub->want];
		if (*p == NULL)
			*p = packet_new(s, sub->want);
		if (*p == NULL) {
			mark(s, sub);
			rc = s->n_packets < PACKETS_MAX ? ERR_NOMEM : ERR_AGAIN;
			break;
		}
		packet_add(*p, sub);
		if ((*p)->n == PACKET_TOPICS)
			rc = packet_send(s, TAKE(*p), w);
	}
	for (size_t i = 0; i < ARRAY_LEN(open); i++) {
		int sent = packet_send(s, open[i], w);
		rc = sent < 0 ? sent : rc;
	}
	return rc == ERR_AGAIN ? 0 : rc; /* then answers are due, and they bring us here again */
}

/* ---- answers ---- */

static void sub_answered(struct mqtt_subs *s, struct sub *sub, bool subscribe, bool refused)
{
	int rc = refused ? ERR_ACCES : 0;
	struct waiter *waiters = take_waiters(sub, false);

	sub->in_packet = false;
	if (refused)
		sub->broker = HAS_REFUSED;
	else
		sub->broker = subscribe && sub->sent_qos == sub->qos ? HAS : HAS_NOT;
	if (refused && log_allowed("mqtt.subscription_refused", sub->topic))
		log_warn("mqtt.subscription_refused", KV("topic", sub->topic));
	mark(s, sub); /* flush settles it, or sends what was asked for meanwhile */
	tell(waiters, subscribe, rc);
}

int mqtt_subs_answered(struct mqtt_subs *s, const struct mqtt_packet *p, struct err *err)
{
	bool subscribe = p->type == MQTT_SUBACK;
	struct packet *asked = s->packets;

	while (asked != NULL && (asked->id != p->id || asked->subscribe != subscribe))
		asked = asked->next;
	if (asked == NULL)
		return err_set(err, ERR_PEER, "acknowledgement of a subscription nobody sent");
	if (subscribe && asked->n != p->suback.n)
		return err_set(err, ERR_PEER, "SUBACK for %zu topics of %zu", p->suback.n,
			       asked->n);
	for (size_t i = 0; i < asked->n; i++)
		sub_answered(s, asked->subs[i], subscribe,
			     subscribe && p->suback.codes[i] == MQTT_SUB_REFUSED);
	packet_remove(s, asked);
	return 0;
}

bool mqtt_subs_synced(const struct mqtt_subs *s)
{
	return s->sync_left == 0;
}

/* ---- connections ---- */

void mqtt_subs_disconnected(struct mqtt_subs *s)
{
	while (s->packets != NULL)
		packet_undo(s, s->packets);
}

struct connecting {
	struct mqtt_subs *s;
	bool fresh;
};

static void sub_connected(void *arg, void *value)
{
	const struct connecting *c = arg;
	struct sub *sub = value;

	sub->broker = c->fresh ? HAS_NOT : HAS_UNKNOWN;
	sub->syncing = true;
	c->s->sync_left++;
	for (struct waiter *w = sub->waiters; w != NULL; w = w->next)
		w->sent = false;
	mark(c->s, sub);
}

void mqtt_subs_connected(struct mqtt_subs *s, bool fresh)
{
	struct connecting c = {s, fresh};

	s->sync_left = 0;
	topic_table_each(s->table, sub_connected, &c);
}

/* ---- wishes ---- */

static int sub_get(struct mqtt_subs *s, const char *topic, struct sub **ret)
{
	size_t len = strlen(topic) + 1;
	struct sub *sub = topic_table_find(s->table, topic);

	if (sub == NULL) {
		sub = calloc(1, sizeof(*sub) + len);
		if (sub == NULL)
			return ERR_NOMEM;
		memcpy(sub->topic, topic, len);
		if (topic_table_add(s->table, sub->topic, sub) < 0) {
			free(sub);
			return ERR_NOMEM;
		}
	}
	*ret = sub;
	return 0;
}

int mqtt_subs_set(struct mqtt_subs *s, const char *topic, bool want, uint8_t qos,
		  mqtt_done_fn *done, void *arg, struct err *err)
{
	struct sub *sub;

	if (!mqtt_filter_valid(topic, strlen(topic)) || qos > 2)
		return err_set(err, ERR_INVAL, "not a topic filter: '%.100s' (QoS %u)", topic, qos);
	struct waiter *w = malloc(sizeof(*w));
	if (w == NULL || sub_get(s, topic, &sub) < 0) {
		free(w);
		return err_set(err, ERR_NOMEM, "subscription of '%.100s'", topic);
	}
	*w = (struct waiter){.done = done, .arg = arg, .subscribe = want};
	struct waiter **end = &sub->waiters;
	while (*end != NULL)
		end = &(*end)->next;
	*end = w;
	if (sub->broker == HAS_REFUSED || (want && sub->broker == HAS && sub->qos != qos))
		sub->broker = HAS_NOT;
	sub->want = want;
	if (want)
		sub->qos = qos;
	mark(s, sub);
	return 0;
}

int mqtt_subs_new(struct mqtt_subs **ret, struct err *err)
{
	struct mqtt_subs *s = calloc(1, sizeof(*s));

	if (s == NULL || (s->table = topic_table_new()) == NULL) {
		free(s);
		return err_set(err, ERR_NOMEM, "subscriptions");
	}
	s->dirty_end = &s->dirty;
	s->next_id = FIRST_ID;
	*ret = s;
	return 0;
}

struct mqtt_subs *mqtt_subs_free(struct mqtt_subs *s)
{
	if (s == NULL)
		return NULL;
	while (s->packets != NULL)
		packet_remove(s, s->packets);
	topic_table_free(s->table, sub_free);
	free(s);
	return NULL;
}
