#include "common/log.h"
#include "common/mqtt/mqtt_link_int.h"
#include "common/util.h"
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define KEEPALIVE_MS 30000
#define TIMEOUT_MS   5000
#define RETRY_MIN_MS 50
#define RETRY_MAX_MS 1000
#define GROWN_UP_MS  1000 /* a connection that lasted as long is no failed attempt */
#define GOODBYE_MS   500

static int pump(struct mqtt_link *k)
{
	int rc = 0;

	if (k->state >= LINK_CONNECTED)
		rc = mqtt_out_pump(&k->outgoing, &k->out, LINK_WRITE_BYTES);
	mqtt_io_send(k);
	mqtt_io_watch(k);
	return rc;
}

static void tell_room(struct mqtt_link *k)
{
	if (!k->refused || !mqtt_out_has_room(&k->outgoing))
		return;
	k->refused = false;
	if (k->handlers.on_room != NULL)
		k->handlers.on_room(k->arg);
}

/* ---- connections ---- */

static void retry_in(struct mqtt_link *k, int64_t ms)
{
	k->state = LINK_WAITING;
	loop_arm(k->loop, k->retry_timer, ms);
}

static void retry_later(struct mqtt_link *k)
{
	int64_t jitter_ms = randombytes_uniform((uint32_t)(k->retry_ms / 2 + 1));

	retry_in(k, k->retry_ms * 3 / 4 + jitter_ms);
	k->retry_ms = k->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : k->retry_ms * 2;
}

static void hang_up(struct mqtt_link *k)
{
	k->dial = dial_free(k->dial);
	k->src = loop_remove(k->loop, k->src);
	closep(&k->fd);
	mqtt_bytes_consume(&k->in, mqtt_bytes_waiting(&k->in), LINK_KEEP_BYTES);
	mqtt_bytes_consume(&k->out, mqtt_bytes_waiting(&k->out), LINK_KEEP_BYTES);
	k->need = k->skip = 0;
	k->stopped = k->congested = false;
}

/* Also of an attempt that led to nothing. */
static void went_down(struct mqtt_link *k, const char *why)
{
	enum mqtt_link_state was = k->state;
	bool lasted =
		was >= LINK_CONNECTED && loop_now_ms(k->loop) - k->connected_ms >= GROWN_UP_MS;
	char text[240];

	snprintf(text, sizeof(text), "%s", why); /* it may be in what is freed here */
	hang_up(k);
	mqtt_subs_disconnected(k->subs);
	if (lasted) {
		k->retry_ms = RETRY_MIN_MS;
		retry_in(k, 0);
	} else {
		retry_later(k);
	}
	if (was >= LINK_CONNECTED)
		log_info("mqtt.down", KV("link", k->name), KV("why", text));
	else if (log_allowed("mqtt.connect_failed", k->name))
		log_warn("mqtt.connect_failed", KV("link", k->name), KV("why", text));
	if (was == LINK_UP && k->handlers.on_down != NULL)
		k->handlers.on_down(k->arg, text);
}

/* After mqtt_io_read() and the like: what they led to. rc: their result. */
static void conclude(struct mqtt_link *k, int rc, const struct err *err)
{
	if (k->batch && k->handlers.on_batch != NULL)
		k->handlers.on_batch(k->arg);
	k->batch = false;
	if (rc == 0)
		rc = pump(k);
	if (rc < 0) {
		went_down(k, err->code == rc ? err->text : "out of memory");
	} else if (k->state == LINK_FORGOTTEN) {
		hang_up(k);
		retry_in(k, 0);
	} else {
		tell_room(k);
	}
}

static void on_io(void *arg, uint32_t events)
{
	struct mqtt_link *k = arg;
	struct err err = {0};
	int rc = 0;

	k->busy++;
	if (events & EPOLLOUT)
		mqtt_io_send(k);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		if (k->stopped) /* whoever hangs up then: the messages are still the broker's */
			rc = err_set(&err, ERR_PEER, "the broker closed the connection");
		else
			rc = mqtt_io_read(k, &err);
	}
	conclude(k, rc, &err);
	k->busy--;
}

static void on_dialed(void *arg, int fd, const char *why)
{
	struct mqtt_link *k = arg;
	struct err err = {0};

	k->busy++;
	if (fd < 0) {
		went_down(k, why);
		k->busy--;
		return;
	}
	k->dial = dial_free(k->dial);
	k->fd = fd;
	k->events = EPOLLIN;
	k->heard_ms = k->said_ms = loop_now_ms(k->loop);
	k->ping_ms = 0;
	k->state = LINK_GREETING;
	int rc = loop_add_fd(k->loop, fd, k->events, on_io, k, &k->src, &err);
	if (rc == 0)
		rc = mqtt_put_connect(&k->out, k->client_id, k->forget,
				      (uint16_t)((k->keepalive_ms + 999) / 1000));
	if (rc < 0) {
		went_down(k, err.code != 0 ? err.text : "out of memory");
	} else {
		mqtt_io_send(k);
		mqtt_io_watch(k);
	}
	k->busy--;
}

static void attempt(struct mqtt_link *k)
{
	struct err err = {0};

	k->state = LINK_DIALING;
	if (dial_new(k->loop, k->host, k->port, on_dialed, k, &k->dial, &err) < 0)
		went_down(k, err.text);
	else
		loop_arm(k->loop, k->retry_timer, k->timeout_ms);
}

static void on_retry(void *arg)
{
	struct mqtt_link *k = arg;
	char why[64];

	if (k->state == LINK_WAITING) {
		attempt(k);
	} else if (k->state < LINK_CONNECTED) {
		snprintf(why, sizeof(why), "no answer for %lld ms", (long long)k->timeout_ms);
		k->busy++;
		went_down(k, why);
		k->busy--;
	}
}

/* Keep alive (3.1.2.10). While reading is stopped the broker's answers are not seen, so none is
 * waited for; but it still has to hear from us. */
static void on_watch(void *arg)
{
	struct mqtt_link *k = arg;
	int64_t now_ms = loop_now_ms(k->loop);
	int64_t since_ms = k->stopped || k->said_ms < k->heard_ms ? k->said_ms : k->heard_ms;
	char why[64];

	if (k->state < LINK_CONNECTED)
		return;
	if (k->ping_ms != 0 && !k->stopped && now_ms - k->ping_ms >= k->keepalive_ms / 2) {
		snprintf(why, sizeof(why), "no answer to a ping for %lld ms",
			 (long long)(now_ms - k->ping_ms));
		k->busy++;
		went_down(k, why);
		k->busy--;
		return;
	}
	if (now_ms - since_ms < k->keepalive_ms * 3 / 4 || (k->ping_ms != 0 && !k->stopped))
		return;
	if (mqtt_put_bare(&k->out, MQTT_PINGREQ) < 0)
		return; /* in a moment again */
	k->ping_ms = k->said_ms = now_ms;
	mqtt_io_send(k);
	mqtt_io_watch(k);
}

static void on_soon(void *arg)
{
	struct mqtt_link *k = arg;
	struct err err = {0};

	if (k->state < LINK_CONNECTED)
		return; /* topics are sent with the others when it is connected */
	k->busy++;
	mqtt_io_flush_subs(k);
	conclude(k, k->congested ? mqtt_io_process(k, &err) : 0, &err);
	k->busy--;
}

/* ---- for the caller ---- */

int mqtt_link_subscribe(struct mqtt_link *k, const char *topic, uint8_t qos, mqtt_done_fn *done,
			void *arg, struct err *err)
{
	int rc = mqtt_subs_set(k->subs, topic, true, qos, done, arg, err);

	if (rc == 0)
		loop_arm(k->loop, k->soon_timer, 0);
	return rc;
}

int mqtt_link_unsubscribe(struct mqtt_link *k, const char *topic, mqtt_done_fn *done, void *arg,
			  struct err *err)
{
	int rc = mqtt_subs_set(k->subs, topic, false, 0, done, arg, err);

	if (rc == 0)
		loop_arm(k->loop, k->soon_timer, 0);
	return rc;
}

int mqtt_link_publish(struct mqtt_link *k, const char *topic, size_t topic_len, const void *payload,
		      size_t len, uint8_t qos)
{
	const struct mqtt_publish m = {
		.topic = topic, .topic_len = topic_len, .payload = payload, .len = len, .qos = qos};

	/* Nothing is kept of what nobody acknowledges. */
	if (qos == 0 && k->state >= LINK_CONNECTED && mqtt_out_idle(&k->outgoing) &&
	    mqtt_bytes_waiting(&k->out) < LINK_WRITE_BYTES)
		return mqtt_put_publish(&k->out, &m);
	int rc = mqtt_out_add(&k->outgoing, &m);
	k->refused |= rc == ERR_LIMIT;
	return rc;
}

void mqtt_link_flush(struct mqtt_link *k)
{
	if (k->state < LINK_CONNECTED)
		return;
	pump(k); /* without memory for it the queue waits for the next occasion */
	if (k->refused && mqtt_out_has_room(&k->outgoing))
		loop_arm(k->loop, k->soon_timer, 0); /* not from within the caller's batch */
}

void mqtt_link_resume(struct mqtt_link *k)
{
	struct err err = {0};

	if (!k->stopped)
		return;
	k->stopped = false;
	k->ping_ms = 0;
	k->heard_ms = loop_now_ms(k->loop);
	k->busy++;
	conclude(k, mqtt_io_process(k, &err), &err);
	k->busy--;
}

void mqtt_link_get_stats(const struct mqtt_link *k, struct mqtt_link_stats *ret)
{
	*ret = (struct mqtt_link_stats){
		.connects = k->connects,
		.repeated = k->repeated,
		.kept = mqtt_out_kept(&k->outgoing),
		.up = k->state == LINK_UP,
		.stopped = k->stopped,
	};
}

static int64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool refuse(void *arg, const struct mqtt_publish *m)
{
	(void)arg, (void)m;
	return false;
}

/* Closed with messages unread, a socket resets the connection, and what the broker has not read
 * yet, acknowledgements among it, is lost. */
static void linger(struct mqtt_link *k, int64_t end_ms)
{
	struct pollfd p = {.fd = k->fd, .events = POLLIN};
	char sink[4096];

	if (shutdown(k->fd, SHUT_WR) < 0)
		return;
	for (int64_t left_ms; (left_ms = end_ms - clock_ms()) > 0;) {
		if (poll(&p, 1, (int)left_ms) < 0 && errno != EINTR)
			return;
		ssize_t n = recv(k->fd, sink, sizeof(sink), 0);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return;
	}
}

/* Exchanges that are under way come to their end, unless messages stand before the answers. */
static void say_goodbye(struct mqtt_link *k)
{
	int64_t end_ms = clock_ms() + GOODBYE_MS, left_ms = GOODBYE_MS;
	struct err err = {0};

	k->closing = true;
	k->handlers = (struct mqtt_link_handlers){.on_message = refuse};
	while (left_ms > 0 && !k->stopped &&
	       (mqtt_out_kept(&k->outgoing) > 0 || mqtt_bytes_waiting(&k->out) > 0)) {
		struct pollfd p = {.fd = k->fd, .events = POLLIN};

		if (mqtt_bytes_waiting(&k->out) > 0)
			p.events |= POLLOUT;
		if (poll(&p, 1, (int)left_ms) < 0 && errno != EINTR)
			return;
		if (p.revents & (POLLIN | POLLHUP | POLLERR) && mqtt_io_read(k, &err) < 0)
			return;
		if (pump(k) < 0)
			return;
		left_ms = end_ms - clock_ms();
	}
	if (mqtt_put_bare(&k->out, MQTT_DISCONNECT) < 0)
		return;
	mqtt_io_send(k);
	linger(k, end_ms);
}

struct mqtt_link *mqtt_link_free(struct mqtt_link *k)
{
	if (k == NULL)
		return NULL;
	if (k->busy > 0)
		abort(); /* our own mistake: freed from inside its callback */
	if (k->state >= LINK_CONNECTED)
		say_goodbye(k);
	hang_up(k);
	mqtt_subs_free(k->subs);
	mqtt_out_done(&k->outgoing);
	mqtt_bytes_done(&k->in);
	mqtt_bytes_done(&k->out);
	loop_remove(k->loop, k->retry_timer);
	loop_remove(k->loop, k->soon_timer);
	loop_remove(k->loop, k->watch_timer);
	free(k->host);
	free(k->client_id);
	free(k->name);
	free(k);
	return NULL;
}

int mqtt_link_new(struct loop *l, const struct mqtt_link_conf *c,
		  const struct mqtt_link_handlers *h, void *arg, struct mqtt_link **ret,
		  struct err *err)
{
	struct mqtt_link *k = calloc(1, sizeof(*k));

	if (k == NULL || sodium_init() < 0) {
		free(k);
		return err_set(err, ERR_NOMEM, "MQTT connection");
	}
	k->loop = l;
	k->handlers = *h;
	k->arg = arg;
	k->port = c->port;
	k->forget = c->forget_session;
	k->max_payload_bytes = c->max_payload_bytes;
	k->keepalive_ms = c->keepalive_ms > 0 ? c->keepalive_ms : KEEPALIVE_MS;
	k->timeout_ms = c->timeout_ms > 0 ? c->timeout_ms : TIMEOUT_MS;
	k->retry_ms = RETRY_MIN_MS;
	k->fd = -1;
	mqtt_out_init(&k->outgoing, c->max_queued, c->max_queued_bytes);
	k->host = strdup(c->host);
	k->client_id = strdup(c->client_id);
	if (asprintf(&k->name, "%s at %s:%u", c->client_id, c->host, c->port) < 0)
		k->name = NULL;
	int rc = 0;
	if (k->host == NULL || k->client_id == NULL || k->name == NULL)
		rc = err_set(err, ERR_NOMEM, "MQTT connection");
	if (rc == 0)
		rc = mqtt_subs_new(&k->subs, err);
	if (rc == 0)
		rc = loop_add_timer(l, 0, 0, on_retry, k, &k->retry_timer, err);
	if (rc == 0)
		rc = loop_add_timer(l, -1, 0, on_soon, k, &k->soon_timer, err);
	if (rc == 0)
		rc = loop_add_timer(l, k->keepalive_ms / 4, k->keepalive_ms / 4, on_watch, k,
				    &k->watch_timer, err);
	if (rc < 0) {
		mqtt_link_free(k);
		return rc;
	}
	*ret = k;
	return 0;
}
