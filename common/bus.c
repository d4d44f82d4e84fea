/* bus.c - a bus of paho's client: connecting, receiving on the loop, freeing. */
#include "common/bus_check.h"
#include "common/bus_int.h"
#include "common/log.h"
#include "common/util.h"
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#define INFLIGHT_DEFAULT  60000
#define QUEUED_DEFAULT    10000
#define KEEPALIVE_S       30
#define CONNECT_TIMEOUT_S 5
#define RETRY_MIN_MS      50
#define RETRY_MAX_MS      1000
#define NUDGES            100 /* for one attempt */
#define WATCH_MS          5000 /* how often we look whether the library and we agree on the connection */
#define SLICE_MESSAGES    256 /* handled in one callback of the loop */
#define SLICE_BYTES       (1 << 20)
#define KEEP_BYTES        (1 << 20) /* an emptied queue larger than this gives its memory back */
#define SHORT_LIFE_MS     2000
#define SHORT_LIVES_MAX   4
#define GOODBYE_MS        600       /* for acknowledgements still missing when a bus is freed */
#define DISCONNECT_MS     300

/* ---- connecting, on the loop ---- */

static void retry_later(struct paho *b)
{
	b->state = BUS_WAITING;
	int64_t jitter_ms = randombytes_uniform((uint32_t)(b->retry_ms * 2 / 5 + 1));
	loop_arm(b->loop, b->retry_timer, b->retry_ms * 4 / 5 + jitter_ms);
	b->retry_ms = b->retry_ms * 2 > b->retry_max_ms ? b->retry_max_ms : b->retry_ms * 2;
}

static void attempt_failed(struct paho *b, const char *why)
{
	if (log_allowed("bus.connect_failed", b->uri))
		log_warn("bus.connect_failed", KV("broker", b->uri), KV("why", why));
	retry_later(b);
	b->busy++;
	if (b->handlers.on_failed != NULL)
		b->handlers.on_failed(b->arg, why);
	b->busy--;
}

static void nudge(void *arg)
{
	struct paho *b = arg;
	int64_t now_ms = loop_now_ms(b->loop);
	bool again = false;
	if (b->state == BUS_CONNECTING && b->nudges++ < NUDGES) {
		bus_nudge(now_ms);
		again = true;
	} else if (b->state > BUS_CONNECTING) {
		again = !bus_unset_delay(b->port, b->up_since_ms, now_ms);
	}
	if (again)
		loop_arm(b->loop, b->nudge_timer, NUDGE_MS);
}

static int make_client(struct paho *b, struct err *err)
{
	MQTTAsync_createOptions options = MQTTAsync_createOptions_initializer;
	options.sendWhileDisconnected = 1;
	options.allowDisconnectedSendAtAnyTime = 1;
	options.maxBufferedMessages = (int)b->max_queued;
	options.MQTTVersion = MQTTVERSION_3_1_1;
	options.deleteOldestMessages = 0;
	/* No files of the library: 1.3.12 dies when the disk is full, and after some crashes sends memory it has freed. */
	int rc = MQTTAsync_createWithOptions(&b->client, b->uri, b->client_id,
					     MQTTCLIENT_PERSISTENCE_NONE, NULL, &options);
	if (rc != MQTTASYNC_SUCCESS)
		return err_set(err, ERR_BUS, "MQTT client '%s' for %s: %s", b->client_id, b->uri,
			       bus_explain(rc));
	MQTTAsync_setCallbacks(b->client, b, bus_on_library_lost, bus_on_library_message, NULL);
	return 0;
}

/* A broker that takes us and hangs up at once, time and again, does not like what the library repeats at every connection: a message
 * that is too large, or, after some deaths of a broker, one that the library has spoilt. Without it there is a way on; with it, none.
 * What was not acknowledged goes with it, and is counted. */
static int renew_client(struct paho *b, struct err *err)
{
	if (b->client != NULL) {
		log_error("bus.renewed", KV("broker", b->uri), KV("lost", atomic_load(&b->unacked)));
		MQTTAsync_destroy(&b->client); /* calls back what is left; then never again */
		atomic_fetch_add(&b->lost, atomic_exchange(&b->unacked, 0));
		bus_acks_give_up(b);
		pthread_mutex_lock(&b->lock);
		b->conn.decided = b->conn.lost = false;
		pthread_mutex_unlock(&b->lock);
	}
	b->client = NULL;
	b->short_lives = 0;
	return make_client(b, err);
}

static void attempt(void *arg)
{
	struct paho *b = arg;
	struct err err = {0};
	struct bus_will will = {0};
	MQTTAsync_willOptions will_options = MQTTAsync_willOptions_initializer;
	MQTTAsync_connectOptions options = MQTTAsync_connectOptions_initializer;

	if ((b->client == NULL || b->short_lives >= SHORT_LIVES_MAX) && renew_client(b, &err) < 0) {
		attempt_failed(b, err.text);
		return;
	}
	b->busy++;
	bool has_will =
		b->handlers.on_connecting != NULL && b->handlers.on_connecting(b->arg, &will);
	b->busy--;
	if (has_will) {
		will_options.topicName = will.topic;
		will_options.payload.data = will.payload;
		will_options.payload.len = (int)will.len;
		will_options.qos = will.qos;
		will_options.retained = will.retain;
		options.will = &will_options;
	}
	options.keepAliveInterval = KEEPALIVE_S;
	options.connectTimeout = CONNECT_TIMEOUT_S;
	options.cleansession = b->clean_session;
	options.maxInflight = (int)b->max_inflight;
	options.username = b->username;
	options.password = b->password;
	options.MQTTVersion = MQTTVERSION_3_1_1;
	options.onSuccess = bus_on_library_connected;
	options.onFailure = bus_on_library_refused;
	options.context = b;
	b->state = BUS_CONNECTING;
	b->connecting_since_ms = loop_now_ms(b->loop);
	b->nudges = 0;
	loop_arm(b->loop, b->nudge_timer, NUDGE_MS);
	/* the library's threads begin here; signals are for those of the program */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = MQTTAsync_connect(b->client, &options);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	/* "ignored": an attempt is still on its way and will be answered */
	if (rc != MQTTASYNC_SUCCESS && rc != MQTTASYNC_COMMAND_IGNORED)
		attempt_failed(b, bus_explain(rc));
}

static void came_up(struct paho *b, bool fresh)
{
	b->fresh = fresh;
	b->state = BUS_SYNCING;
	b->connects++;
	loop_arm(b->loop, b->retry_timer, -1);
	b->up_since_ms = loop_now_ms(b->loop);
	nudge(b); /* now only for its descriptor */
	bus_peer_up(&b->peer, b->client);
	bus_subs_connected(b->subs, b->client, fresh);
}

static void went_down(struct paho *b, const char *why)
{
	bool was_up = b->state == BUS_UP;
	b->short_lives = loop_now_ms(b->loop) - b->up_since_ms < SHORT_LIFE_MS ? b->short_lives + 1 : 0;
	bus_peer_down(&b->peer);
	bus_subs_disconnected(b->subs);
	log_info("bus.down", KV("broker", b->uri), KV("why", why));
	retry_later(b);
	if (was_up && b->handlers.on_down != NULL)
		b->handlers.on_down(b->arg, why);
}

/* All subscriptions of this connection are acknowledged. */
static void synced(void *arg, bool fresh)
{
	struct paho *b = arg;
	b->state = BUS_UP;
	b->retry_ms = b->retry_min_ms;
	log_info("bus.up", KV("broker", b->uri), KV("fresh", fresh));
	b->busy++;
	if (b->handlers.on_up != NULL)
		b->handlers.on_up(b->arg, fresh);
	b->busy--;
}

/* Belt and braces: an attempt nobody answers, a connection the library has given up without a word.
 */
static void watch(void *arg)
{
	struct paho *b = arg;
	int64_t waiting_ms = loop_now_ms(b->loop) - b->connecting_since_ms;
	bool silent = b->state == BUS_CONNECTING && waiting_ms > 4000 * CONNECT_TIMEOUT_S;
	bool gone = b->state >= BUS_SYNCING && !MQTTAsync_isConnected(b->client);
	if (!silent && !gone)
		return;
	pthread_mutex_lock(&b->lock);
	bool told = b->conn.decided || b->conn.lost;
	pthread_mutex_unlock(&b->lock);
	if (told)
		return; /* it is waiting in the queue */
	b->busy++;
	if (gone)
		went_down(b, "connection lost");
	else if (MQTTAsync_isConnected(b->client))
		came_up(b, false);
	else
		attempt_failed(b, "no answer");
	b->busy--;
}

/* ---- receiving, on the loop ---- */

static void deliver(struct paho *b)
{
	struct bus_queue *q = &b->handling;
	size_t begin = b->handled_at;
	unsigned n = 0;
	struct bus_msg m;
	while (n < SLICE_MESSAGES && b->handled_at - begin < SLICE_BYTES &&
	       bus_queue_next(q, &b->handled_at, &m)) {
		n++;
		if (b->handlers.on_message != NULL)
			b->handlers.on_message(b->arg, &m);
	}
	if (n > 0 && b->handlers.on_batch != NULL)
		b->handlers.on_batch(b->arg);
	size_t done = b->handled_at - begin;
	if (b->handled_at == q->len) {
		q->len = b->handled_at = 0;
		if (q->cap > KEEP_BYTES) {
			free(q->buf);
			*q = (struct bus_queue){0};
		}
	}
	pthread_mutex_lock(&b->lock);
	b->inbound_bytes -= done;
	pthread_mutex_unlock(&b->lock);
}

static void on_wake(void *arg, uint32_t events)
{
	(void)events;
	struct paho *b = arg;
	uint64_t count;
	char why[sizeof(b->conn.why)];

	while (read(b->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR)
		continue;
	pthread_mutex_lock(&b->lock);
	b->woken = false;
	bool decided = b->conn.decided, accepted = b->conn.accepted, lost = b->conn.lost;
	bool fresh = !b->conn.session_present;
	memcpy(why, b->conn.why, sizeof(why));
	b->conn.decided = b->conn.lost = false;
	struct bus_call *calls = TAKE(b->answered);
	struct bus_ack *acks = TAKE(b->ack_first);
	if (b->handling.len == 0) {
		struct bus_queue empty = b->handling;
		b->handling = b->incoming;
		b->incoming = empty;
	}
	pthread_mutex_unlock(&b->lock);

	b->busy++;
	if (decided && accepted && b->state <= BUS_CONNECTING)
		came_up(b, fresh);
	else if (decided && !accepted && b->state == BUS_CONNECTING)
		attempt_failed(b, why);
	bus_subs_answered(b->subs, calls);
	bus_acks_tell(acks);
	deliver(b);
	if (lost && b->state >= BUS_SYNCING)
		went_down(b, why);
	b->busy--;

	pthread_mutex_lock(&b->lock);
	if (b->handling.len > 0 || b->incoming.len > 0)
		bus_wake(b);
	pthread_mutex_unlock(&b->lock);
}

/* ---- the public side ---- */

static int copy_string(char **ret, const char *s)
{
	if (s == NULL || *s == '\0')
		return 0;
	*ret = strdup(s);
	return *ret == NULL ? ERR_NOMEM : 0;
}

static struct bus *paho_free(struct bus *bus);
static const struct bus_ops ops;

int bus_new_paho(struct loop *l, const struct bus_conf *c, const struct bus_handlers *h, void *arg,
		 struct bus **ret, struct err *err)
{
	int rc = bus_check_conf(c, err);
	if (rc < 0)
		return rc;
	struct paho *b = calloc(1, sizeof(*b));
	if (b == NULL)
		return err_set(err, ERR_NOMEM, "MQTT connection");
	b->bus.ops = &ops;
	b->loop = l;
	b->handlers = *h;
	b->arg = arg;
	b->port = c->port;
	b->clean_session = c->clean_session;
	b->max_queued = c->max_queued != 0 ? c->max_queued : QUEUED_DEFAULT;
	b->max_inflight = c->max_inflight != 0 ? c->max_inflight : INFLIGHT_DEFAULT;
	b->max_inbound_bytes = c->max_inbound_bytes != 0 ? c->max_inbound_bytes : 64 << 20;
	b->retry_min_ms = c->retry_min_ms != 0 ? c->retry_min_ms : RETRY_MIN_MS;
	b->retry_max_ms = c->retry_max_ms != 0 ? c->retry_max_ms : RETRY_MAX_MS;
	b->retry_ms = b->retry_min_ms;
	b->wake_fd = -1;
	pthread_mutex_init(&b->lock, NULL);
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&b->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);

	bool v6 = strchr(c->host, ':') != NULL && c->host[0] != '[';
	if (asprintf(&b->uri, v6 ? "tcp://[%s]:%u" : "tcp://%s:%u", c->host, c->port) < 0)
		b->uri = NULL;
	if (b->uri == NULL || copy_string(&b->client_id, c->client_id) < 0 || copy_string(&b->username, c->username) < 0 ||
	    copy_string(&b->password, c->password) < 0) {
		rc = err_set(err, ERR_NOMEM, "MQTT connection");
		goto fail;
	}
	rc = bus_subs_new(l, bus_on_call_answered, synced, b, &b->subs, err);
	if (rc < 0)
		goto fail;
	b->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->wake_fd < 0) {
		rc = err_sys(err, "MQTT connection");
		goto fail;
	}
	rc = loop_add_fd(l, b->wake_fd, EPOLLIN, on_wake, b, &b->wake_src, err);
	if (rc == 0)
		rc = loop_add_timer(l, 0, 0, attempt, b, &b->retry_timer, err);
	if (rc == 0)
		rc = loop_add_timer(l, -1, 0, nudge, b, &b->nudge_timer, err);
	if (rc == 0)
		rc = loop_add_timer(l, WATCH_MS, WATCH_MS, watch, b, &b->watch_timer, err);
	if (rc == 0)
		rc = make_client(b, err);
	if (rc < 0)
		goto fail;
	*ret = &b->bus;
	return 0;
fail:
	paho_free(&b->bus);
	return rc;
}

static struct timespec in_ms(long ms)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += ms * 1000000;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

/* Wait until nothing is unacknowledged (want_disconnect false) or the connection is closed; lock
 * held. */
static void await(struct paho *b, bool want_disconnect, struct timespec until)
{
	while (!b->disconnected && (want_disconnect || atomic_load(&b->unacked) > 0))
		if (pthread_cond_timedwait(&b->changed, &b->lock, &until) != 0)
			return;
}

static void paho_part(struct bus *bus)
{
	struct paho *b = (struct paho *)bus;
	pthread_mutex_lock(&b->lock);
	if (!b->closing)
		b->goodbye_until = in_ms(GOODBYE_MS);
	b->closing = true;
	pthread_mutex_unlock(&b->lock);
}

static void say_goodbye(struct paho *b)
{
	paho_part(&b->bus);
	if (!MQTTAsync_isConnected(b->client))
		return;
	pthread_mutex_lock(&b->lock);
	await(b, false, b->goodbye_until);
	pthread_mutex_unlock(&b->lock);
	MQTTAsync_disconnectOptions options = MQTTAsync_disconnectOptions_initializer;
	options.onSuccess = bus_on_library_disconnected;
	options.context = b;
	if (MQTTAsync_disconnect(b->client, &options) != MQTTASYNC_SUCCESS)
		return;
	pthread_mutex_lock(&b->lock);
	await(b, true, in_ms(DISCONNECT_MS));
	pthread_mutex_unlock(&b->lock);
}

static struct bus *paho_free(struct bus *bus)
{
	struct paho *b = (struct paho *)bus;
	if (b->busy > 0)
		abort(); /* our own mistake: freed from inside its callback */
	bus_peer_down(&b->peer);
	if (b->client != NULL) {
		say_goodbye(b);
		MQTTAsync_destroy(&b->client); /* calls back what is left; then never again */
	}
	b->retry_timer = loop_remove(b->loop, b->retry_timer);
	b->nudge_timer = loop_remove(b->loop, b->nudge_timer);
	b->watch_timer = loop_remove(b->loop, b->watch_timer);
	b->wake_src = loop_remove(b->loop, b->wake_src);
	closep(&b->wake_fd);
	b->subs = bus_subs_free(b->subs);
	bus_acks_drop(b);
	pthread_mutex_destroy(&b->lock);
	pthread_cond_destroy(&b->changed);
	free(b->incoming.buf);
	free(b->handling.buf);
	free(b->uri);
	free(b->client_id);
	free(b->username);
	free(b->password);
	free(b);
	return NULL;
}

static int paho_subscribe(struct bus *bus, const char *topic, uint8_t qos, bus_done_fn *done, void *arg, struct err *err)
{
	return bus_subs_set(((struct paho *)bus)->subs, topic, true, qos, done, arg, err);
}

static int paho_unsubscribe(struct bus *bus, const char *topic, bus_done_fn *done, void *arg, struct err *err)
{
	return bus_subs_set(((struct paho *)bus)->subs, topic, false, 0, done, arg, err);
}

static bool paho_is_fresh(const struct bus *bus)
{
	return ((const struct paho *)bus)->fresh;
}

static bool paho_is_up(const struct bus *bus)
{
	return ((const struct paho *)bus)->state == BUS_UP;
}

static void paho_get_stats(const struct bus *bus, struct bus_stats *ret)
{
	struct paho *b = (struct paho *)bus; /* the lock is the only thing written */
	pthread_mutex_lock(&b->lock);
	ret->received = b->received;
	ret->dropped_inbound = b->dropped_inbound;
	pthread_mutex_unlock(&b->lock);
	ret->published = b->published;
	ret->publish_failed = b->publish_refused + atomic_load(&b->lost);
	ret->connects = b->connects;
	ret->up = b->state == BUS_UP;
}

static const struct bus_ops ops = {
	.free = paho_free,
	.part = paho_part,
	.subscribe = paho_subscribe,
	.unsubscribe = paho_unsubscribe,
	.publish = paho_publish,
	.publish_acked = paho_publish_acked,
	.is_up = paho_is_up,
	.is_fresh = paho_is_fresh,
	.get_stats = paho_get_stats,
};
