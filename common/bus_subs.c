#include "common/bus_subs.h"

#include "common/bus_check.h"
#include "common/log.h"
#include "common/map.h"
#include "common/util.h"
#include <string.h>

#define REFUSED       0x80
#define SEND_AGAIN_MS 100

enum at_broker {
	HAS_UNKNOWN, /* an older session may hold it */
	HAS_NOT,
	HAS,
	HAS_REFUSED, /* asked for again at the next connection or by the next bus_subscribe() */
};

struct waiter {
	bus_done_fn *done;
	void *arg;
	bool subscribe;
	bool sent; /* the call on its way answers this one */
	struct waiter *next;
};

struct bus_sub {
	char *topic; /* key in the map */
	bool want;
	uint8_t qos, sent_qos, broker_qos;
	enum at_broker broker;
	bool in_call; /* a call names it: it must stay */
	bool dirty;   /* in the list of subs to look at */
	bool syncing; /* on_synced waits for it */
	struct waiter *waiters;
	struct bus_sub *next_dirty;
};

struct bus_subs {
	struct loop *loop;
	void (*on_answered)(void *arg, struct bus_call *call);
	void (*on_synced)(void *arg, bool fresh);
	void *arg;
	MQTTAsync client; /* NULL: not connected */
	bool fresh, synced;
	unsigned generation;
	size_t sync_left;
	struct map *map;
	struct bus_sub *dirty;
	struct bus_call *calls;
	struct loop_src *flush_timer;
};

static void sub_free(void *value)
{
	struct bus_sub *sub = value;
	for (struct waiter *w = sub->waiters, *next; w != NULL; w = next) {
		next = w->next;
		free(w);
	}
	free(sub->topic);
	free(sub);
}

/* Take the waiters that only_sent/subscribe name; the others stay. */
static struct waiter *take_waiters(struct bus_sub *sub, bool all, bool subscribe)
{
	struct waiter *taken = NULL, **taken_end = &taken, **at = &sub->waiters;
	while (*at != NULL) {
		struct waiter *w = *at;
		if (all || (w->sent && w->subscribe == subscribe)) {
			*at = w->next;
			w->next = NULL;
			*taken_end = w;
			taken_end = &w->next;
		} else {
			at = &w->next;
		}
	}
	return taken;
}

static void tell(struct waiter *w, bool want, int rc)
{
	while (w != NULL) {
		struct waiter *next = w->next;
		w->done(w->arg, w->subscribe == want ? rc : ERR_CONFLICT);
		free(w);
		w = next;
	}
}

static void flush_soon(struct bus_subs *s, int64_t in_ms)
{
	if (s->client != NULL)
		loop_arm(s->loop, s->flush_timer, in_ms);
}

static void mark(struct bus_subs *s, struct bus_sub *sub)
{
	if (sub->dirty)
		return;
	sub->dirty = true;
	sub->next_dirty = s->dirty;
	s->dirty = sub;
}

static void one_synced(struct bus_subs *s)
{
	if (s->sync_left > 0 || s->synced || s->client == NULL)
		return;
	s->synced = true;
	s->on_synced(s->arg, s->fresh);
}

/* Broker and wish agree (or the broker refuses): nothing to send. The sub may be gone afterwards.
 */
static void settle(struct bus_subs *s, struct bus_sub *sub)
{
	struct waiter *waiters = take_waiters(sub, true, false);
	bool want = sub->want, was_syncing = sub->syncing;
	int rc = want && sub->broker == HAS_REFUSED ? ERR_ACCES : 0;
	sub->syncing = false;
	if (!want && !sub->dirty)
		sub_free(map_remove(s->map, sub->topic));
	s->sync_left -= was_syncing;
	tell(waiters, want, rc);
	if (was_syncing)
		one_synced(s);
}

/* ---- on the library's threads ---- */

static void on_success(void *context, MQTTAsync_successData *data)
{
	struct bus_call *call = context;
	for (int i = 0; i < call->n && call->subscribe && data != NULL; i++)
		call->codes[i] = call->n == 1 ? data->alt.qos : data->alt.qosList[i];
	call->owner->on_answered(call->owner->arg, call);
}

static void on_failure(void *context, MQTTAsync_failureData *data)
{
	struct bus_call *call = context;
	if (data != NULL && data->code == REFUSED && call->n == 1)
		call->codes[0] = REFUSED;
	else
		call->lost =
			true; /* with its connection; everything is asked again on the next one */
	call->owner->on_answered(call->owner->arg, call);
}

/* ---- sending, on the loop ---- */

static void call_free(struct bus_subs *s, struct bus_call *call)
{
	if (call->prev != NULL)
		call->prev->next = call->next;
	else
		s->calls = call->next;
	if (call->next != NULL)
		call->next->prev = call->prev;
	free(call);
}

static int send_call(struct bus_subs *s, bool subscribe, struct bus_sub **subs, int n)
{
	char *topics[BUS_CALL_TOPICS];
	int qos[BUS_CALL_TOPICS];
	struct bus_call *call = calloc(1, sizeof(*call));
	if (call == NULL)
		return ERR_NOMEM;
	call->owner = s;
	call->generation = s->generation;
	call->subscribe = subscribe;
	call->n = n;
	for (int i = 0; i < n; i++) {
		call->subs[i] = subs[i];
		topics[i] = subs[i]->topic;
		qos[i] = subs[i]->qos;
	}
	call->next = s->calls;
	if (call->next != NULL)
		call->next->prev = call;
	s->calls = call;
	MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
	options.onSuccess = on_success;
	options.onFailure = on_failure;
	options.context = call;
	int rc = subscribe ? MQTTAsync_subscribeMany(s->client, n, topics, qos, &options)
			   : MQTTAsync_unsubscribeMany(s->client, n, topics, &options);
	if (rc != MQTTASYNC_SUCCESS) {
		call_free(s, call);
		return ERR_AGAIN;
	}
	for (int i = 0; i < n; i++) {
		subs[i]->in_call = true;
		subs[i]->sent_qos = subs[i]->qos;
		for (struct waiter *w = subs[i]->waiters; w != NULL; w = w->next)
			w->sent = w->subscribe == subscribe;
	}
	return 0;
}

static void send_chunk(struct bus_subs *s, bool subscribe, struct bus_sub **subs, int *n)
{
	if (*n > 0 && send_call(s, subscribe, subs, *n) < 0) {
		/* no memory, no message id, or disconnected a moment ago */
		for (int i = 0; i < *n; i++)
			mark(s, subs[i]);
		flush_soon(s, SEND_AGAIN_MS);
	}
	*n = 0;
}

/* Is there something to tell the broker about it? */
static bool to_send(const struct bus_sub *sub)
{
	if (!sub->want)
		return sub->broker == HAS_UNKNOWN || sub->broker == HAS;
	return sub->broker == HAS_UNKNOWN || sub->broker == HAS_NOT ||
	       (sub->broker == HAS && sub->broker_qos != sub->qos);
}

static void flush(void *arg)
{
	struct bus_subs *s = arg;
	struct bus_sub *chunks[2][BUS_CALL_TOPICS];
	int n[2] = {0, 0};
	if (s->client == NULL)
		return;
	struct bus_sub *sub = TAKE(s->dirty), *next;
	struct bus_sub *settled = NULL;
	for (; sub != NULL; sub = next) {
		next = sub->next_dirty;
		sub->next_dirty = NULL;
		sub->dirty = false;
		if (sub->in_call)
			continue; /* looked at again when the answer is here */
		if (!to_send(sub)) {
			/* settled after the walk: its callbacks may change the list */
			sub->dirty = true;
			sub->next_dirty = settled;
			settled = sub;
			continue;
		}
		chunks[sub->want][n[sub->want]++] = sub;
		if (n[sub->want] == BUS_CALL_TOPICS)
			send_chunk(s, sub->want, chunks[sub->want], &n[sub->want]);
	}
	send_chunk(s, true, chunks[true], &n[true]);
	send_chunk(s, false, chunks[false], &n[false]);
	for (; settled != NULL; settled = next) {
		next = settled->next_dirty;
		settled->dirty = false;
		settled->next_dirty = NULL;
		if (to_send(settled)) { /* a callback has changed its mind */
			mark(s, settled);
			flush_soon(s, 0);
		} else {
			settle(s, settled);
		}
	}
}

/* ---- answers ---- */

static void sub_answered(struct bus_subs *s, struct bus_sub *sub, bool subscribe, int code)
{
	sub->in_call = false;
	if (!subscribe) {
		sub->broker = HAS_NOT;
	} else if (code == REFUSED) {
		sub->broker = HAS_REFUSED;
		if (log_allowed("bus.subscription_refused", sub->topic))
			log_warn("bus.subscription_refused", KV("topic", sub->topic));
	} else {
		sub->broker = HAS;
		sub->broker_qos = sub->sent_qos;
	}
	int rc = subscribe && code == REFUSED ? ERR_ACCES : 0;
	struct waiter *waiters = take_waiters(sub, false, subscribe);
	mark(s, sub); /* flush() settles it, or sends what was asked for meanwhile; it also keeps
			 sub alive */
	tell(waiters, subscribe, rc);
}

void bus_subs_answered(struct bus_subs *s, struct bus_call *calls)
{
	bool any = calls != NULL;
	while (calls != NULL) {
		struct bus_call *call = calls;
		calls = call->next_answered;
		if (call->generation == s->generation && !call->lost && s->client != NULL)
			for (int i = 0; i < call->n; i++)
				sub_answered(s, call->subs[i], call->subscribe, call->codes[i]);
		call_free(s, call);
	}
	if (any)
		flush(s);
}

static void reset_sub(void *arg, const char *topic, void *value)
{
	(void)topic;
	struct bus_subs *s = arg;
	struct bus_sub *sub = value;
	sub->in_call = false;
	sub->broker = s->fresh ? HAS_NOT : HAS_UNKNOWN;
	sub->syncing = true;
	s->sync_left++;
	for (struct waiter *w = sub->waiters; w != NULL; w = w->next)
		w->sent = false;
	mark(s, sub);
}

void bus_subs_connected(struct bus_subs *s, MQTTAsync client, bool fresh)
{
	s->client = client;
	s->generation++;
	s->fresh = fresh;
	s->synced = false;
	s->sync_left = 0;
	map_each(s->map, reset_sub, s);
	flush(s);
	one_synced(s);
}

void bus_subs_disconnected(struct bus_subs *s)
{
	s->client = NULL;
	s->generation++;
}

/* ---- the list of wishes ---- */

static int sub_get(struct bus_subs *s, const char *topic, struct bus_sub **ret)
{
	struct bus_sub *sub = map_find(s->map, topic);
	if (sub == NULL) {
		sub = calloc(1, sizeof(*sub));
		if (sub == NULL)
			return ERR_NOMEM;
		sub->topic = strdup(topic);
		if (sub->topic == NULL || map_add(s->map, sub->topic, sub) < 0) {
			sub_free(sub);
			return ERR_NOMEM;
		}
	}
	*ret = sub;
	return 0;
}

int bus_subs_set(struct bus_subs *s, const char *topic, bool want, uint8_t qos, bus_done_fn *done,
		 void *arg, struct err *err)
{
	struct bus_sub *sub;
	CLEANUP(freep)
	struct waiter *w = NULL;
	if (!bus_topic_valid(topic, true) || qos > 2)
		return err_set(err, ERR_INVAL, "not a topic filter: '%.100s' (QoS %d)", topic, qos);
	if (done != NULL) {
		w = calloc(1, sizeof(*w));
		if (w == NULL)
			return err_set(err, ERR_NOMEM, "subscription of '%s'", topic);
		*w = (struct waiter){.done = done, .arg = arg, .subscribe = want};
	}
	if (sub_get(s, topic, &sub) < 0)
		return err_set(err, ERR_NOMEM, "subscription of '%s'", topic);
	sub->want = want;
	sub->qos = qos;
	if (sub->broker == HAS_REFUSED)
		sub->broker = HAS_NOT;
	if (w != NULL) {
		struct waiter **end = &sub->waiters;
		while (*end != NULL)
			end = &(*end)->next;
		*end = TAKE(w);
	}
	mark(s, sub);
	flush_soon(s, 0);
	return 0;
}

int bus_subs_new(struct loop *l, void (*on_answered)(void *arg, struct bus_call *call),
		 void (*on_synced)(void *arg, bool fresh), void *arg, struct bus_subs **ret,
		 struct err *err)
{
	struct bus_subs *s = calloc(1, sizeof(*s));
	if (s == NULL || (s->map = map_new()) == NULL) {
		free(s);
		return err_set(err, ERR_NOMEM, "subscriptions");
	}
	s->loop = l;
	s->on_answered = on_answered;
	s->on_synced = on_synced;
	s->arg = arg;
	int rc = loop_add_timer(l, -1, 0, flush, s, &s->flush_timer, err);
	if (rc < 0) {
		bus_subs_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

struct bus_subs *bus_subs_free(struct bus_subs *s)
{
	if (s == NULL)
		return NULL;
	s->flush_timer = loop_remove(s->loop, s->flush_timer);
	while (s->calls != NULL)
		call_free(s, s->calls);
	s->map = map_free(s->map, sub_free);
	free(s);
	return NULL;
}
