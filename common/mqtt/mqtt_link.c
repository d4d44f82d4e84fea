#include "common/log.h"
#include "common/mqtt/mqtt_link_int.h"
#include "common/util.h"
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define KEEPALIVE_MS    30000
#define TIMEOUT_MS      5000
#define RETRY_MIN_MS    50
#define RETRY_MAX_MS    1000
#define GROWN_UP_MS     1000 /* a connection that lasted as long is no failed attempt */
#define SHORT_LIFE_MS   2000
#define SHORT_LIVES_MAX 4
#define SOON_BYTES      (64 << 10) /* so much is sent at once */
#define SOON_MSGS       256

static int pump(struct mqtt_link *k)
{
	int rc = 0;

	if (k->state >= LINK_CONNECTED)
		rc = mqtt_out_pump(&k->outgoing, &k->out, mqtt_link_write_bytes(k));
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
	loop_arm(k->loop, k->timer, ms);
}

static void retry_later(struct mqtt_link *k)
{
	int64_t jitter_ms = randombytes_uniform((uint32_t)(k->retry_ms / 2 + 1));

	retry_in(k, k->retry_ms * 3 / 4 + jitter_ms);
	k->retry_ms = k->retry_ms * 2 > k->retry_max_ms ? k->retry_max_ms : k->retry_ms * 2;
}

void mqtt_link_hang_up(struct mqtt_link *k)
{
	k->dial = dial_free(k->dial);
	k->src = loop_remove(k->loop, k->src);
	closep(&k->fd);
	mqtt_bytes_consume(&k->in, mqtt_bytes_waiting(&k->in), mqtt_link_keep_bytes(k));
	mqtt_bytes_consume(&k->out, mqtt_bytes_waiting(&k->out), mqtt_link_keep_bytes(k));
	k->need = k->skip = 0;
	k->stopped = k->congested = false;
}

void mqtt_link_give_up(struct mqtt_link *k)
{
	k->given_up += mqtt_out_give_up(&k->outgoing);
}

/* When the next attempt is due. was_ms: how long the connection lasted; -1: there was none. */
static void retry(struct mqtt_link *k, int64_t was_ms)
{
	if (was_ms < GROWN_UP_MS) {
		retry_later(k);
		return;
	}
	k->retry_ms = k->retry_min_ms;
	if (k->retry_at_once)
		retry_in(k, 0);
	else
		retry_later(k);
}

/* Its session is over with the connection, or what we repeat is what the broker hangs up on. */
static bool to_give_up(struct mqtt_link *k, int64_t was_ms)
{
	if (!k->give_up || was_ms < 0)
		return false;
	k->short_lives = was_ms < SHORT_LIFE_MS ? k->short_lives + 1 : 0;
	if (!k->clean_session && k->short_lives < SHORT_LIVES_MAX)
		return false;
	k->short_lives = 0;
	return true;
}

static void tell_down(struct mqtt_link *k, enum mqtt_link_state was, const char *why)
{
	if (was >= LINK_CONNECTED)
		log_info("mqtt.down", KV("link", k->name), KV("why", why));
	else if (log_allowed("mqtt.connect_failed",
			     k->frugal ? k->host : k->name)) /* one for all */
		log_warn("mqtt.connect_failed", KV("link", k->name), KV("why", why));
	if (was == LINK_UP && k->handlers.on_down != NULL)
		k->handlers.on_down(k->arg, why);
	else if (was != LINK_UP && k->handlers.on_failed != NULL)
		k->handlers.on_failed(k->arg, why);
}

/* Also of an attempt that led to nothing. */
static void went_down(struct mqtt_link *k, const char *why)
{
	enum mqtt_link_state was = k->state;
	int64_t was_ms = was >= LINK_CONNECTED ? loop_now_ms(k->loop) - k->connected_ms : -1;
	char text[240];

	snprintf(text, sizeof(text), "%s", why); /* it may be in what is freed here */
	mqtt_link_hang_up(k);
	if (k->closing) {
		k->state = LINK_WAITING;
		return;
	}
	mqtt_subs_disconnected(k->subs);
	retry(k, was_ms);
	tell_down(k, was, text);
	if (to_give_up(k, was_ms))
		mqtt_link_give_up(k);
}

void mqtt_link_conclude(struct mqtt_link *k, int rc, const struct err *err)
{
	if (k->batch && k->handlers.on_batch != NULL)
		k->handlers.on_batch(k->arg);
	k->batch = false;
	if (rc == 0)
		rc = pump(k);
	if (rc < 0) {
		went_down(k, err->code == rc ? err->text : "out of memory");
	} else if (k->state == LINK_FORGOTTEN) {
		mqtt_link_hang_up(k);
		retry_in(k, 0);
	} else if (k->closing) {
		mqtt_end_step(k);
	} else {
		tell_room(k);
	}
}

void mqtt_link_on_io(void *arg, uint32_t events)
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
	mqtt_link_conclude(k, rc, &err);
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
	if (loop_add_fd(k->loop, fd, k->events, mqtt_link_on_io, k, &k->src, &err) < 0) {
		went_down(k, err.text);
	} else {
		mqtt_io_send(k);
		mqtt_io_watch(k);
	}
	k->busy--;
}

/* The CONNECT, which waits for the connection. */
static int prepare(struct mqtt_link *k, struct err *err)
{
	struct bus_will will = {0};
	bool has_will = !k->forget && k->handlers.on_connecting != NULL &&
			k->handlers.on_connecting(k->arg, &will);
	const struct mqtt_publish will_message = {.topic = will.topic,
						  .topic_len = strlen(will.topic),
						  .payload = will.payload,
						  .len = will.len,
						  .qos = will.qos,
						  .retained = will.retain};
	const struct mqtt_connect connect = {
		.client_id = k->client_id,
		.username = k->username,
		.password = k->password,
		.will = has_will ? &will_message : NULL,
		.clean_session = k->clean_session || k->forget,
		.keepalive_s = (uint16_t)((k->keepalive_ms + 999) / 1000),
	};

	int rc = mqtt_put_connect(&k->out, &connect);
	if (rc == ERR_RANGE)
		return err_set(err, rc, "client id, user name or password are too long");
	return rc < 0 ? err_set(err, rc, "out of memory") : 0;
}

static void attempt(struct mqtt_link *k)
{
	struct err err = {0};

	k->busy++;
	k->state = LINK_DIALING;
	int rc = prepare(k, &err);
	if (rc == 0)
		rc = dial_new(k->loop, k->host, k->port, on_dialed, k, &k->dial, &err);
	if (rc < 0)
		went_down(k, err.text);
	else
		loop_arm(k->loop, k->timer, k->timeout_ms);
	k->busy--;
}

/* Keep alive (3.1.2.10). While reading is stopped the broker's answers are not seen, so none is
 * waited for; but it still has to hear from us. ret: when to look again. */
static int64_t keep_alive(struct mqtt_link *k)
{
	int64_t now_ms = loop_now_ms(k->loop);
	bool pinged = k->ping_ms != 0 && !k->stopped;
	int64_t since_ms = k->stopped || k->said_ms < k->heard_ms ? k->said_ms : k->heard_ms;
	int64_t due_ms =
		pinged ? k->ping_ms + k->keepalive_ms / 2 : since_ms + k->keepalive_ms * 3 / 4;
	char why[64];

	if (now_ms < due_ms)
		return due_ms - now_ms;
	if (pinged) {
		snprintf(why, sizeof(why), "no answer to a ping for %lld ms",
			 (long long)(now_ms - k->ping_ms));
		went_down(k, why);
		return -1;
	}
	if (mqtt_put_bare(&k->out, MQTT_PINGREQ) < 0)
		return k->keepalive_ms / 16 + 1; /* no memory: then */
	k->ping_ms = k->said_ms = now_ms;
	mqtt_io_send(k);
	mqtt_io_watch(k);
	return k->keepalive_ms / 2;
}

static void on_timer(void *arg)
{
	struct mqtt_link *k = arg;
	int64_t again_ms;
	char why[64];

	if (k->closing)
		return;
	k->busy++;
	if (k->state == LINK_WAITING) {
		attempt(k);
	} else if (k->state < LINK_CONNECTED) {
		snprintf(why, sizeof(why), "no answer for %lld ms", (long long)k->timeout_ms);
		went_down(k, why);
	} else if ((again_ms = keep_alive(k)) >= 0) {
		loop_arm(k->loop, k->timer, again_ms);
	}
	k->busy--;
}

static void on_soon(void *arg)
{
	struct mqtt_link *k = arg;
	struct err err = {0};

	if (k->state < LINK_CONNECTED || k->closing)
		return; /* topics are sent with the others when it is connected */
	k->busy++;
	mqtt_io_flush_subs(k);
	mqtt_link_conclude(k, k->congested ? mqtt_io_process(k, &err) : 0, &err);
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

int mqtt_link_send(struct mqtt_link *k, const struct mqtt_publish *m,
		   const struct mqtt_out_waiter *w)
{
	/* Nothing is kept of what nobody acknowledges. */
	if (m->qos == 0 && k->state >= LINK_CONNECTED && mqtt_out_idle(&k->outgoing) &&
	    mqtt_bytes_waiting(&k->out) < mqtt_link_write_bytes(k))
		return mqtt_put_publish(&k->out, m);
	int rc = mqtt_out_add(&k->outgoing, m, w);
	k->refused |= rc == ERR_LIMIT;
	return rc;
}

int mqtt_link_publish(struct mqtt_link *k, const char *topic, size_t topic_len, const void *payload,
		      size_t len, uint8_t qos)
{
	const struct mqtt_publish m = {
		.topic = topic, .topic_len = topic_len, .payload = payload, .len = len, .qos = qos};

	return mqtt_link_send(k, &m, NULL);
}

void mqtt_link_flush(struct mqtt_link *k)
{
	if (k->state < LINK_CONNECTED)
		return;
	pump(k); /* without memory for it the queue waits for the next occasion */
	if (k->refused && mqtt_out_has_room(&k->outgoing))
		loop_arm(k->loop, k->soon_timer, 0); /* not from within the caller's batch */
}

void mqtt_link_flush_soon(struct mqtt_link *k)
{
	if (k->state < LINK_CONNECTED)
		return;
	/* The queue is for what the broker is late with, not for what waits for the next turn. */
	if (mqtt_out_unsent(&k->outgoing) >= SOON_MSGS ||
	    mqtt_out_unsent_bytes(&k->outgoing) + mqtt_bytes_waiting(&k->out) >= SOON_BYTES)
		mqtt_link_flush(k);
	else if (k->busy == 0) /* or else it is done at the end of this */
		loop_arm(k->loop, k->soon_timer, 0);
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
	mqtt_link_conclude(k, mqtt_io_process(k, &err), &err);
	k->busy--;
}

void mqtt_link_get_stats(const struct mqtt_link *k, struct mqtt_link_stats *ret)
{
	*ret = (struct mqtt_link_stats){
		.connects = k->connects,
		.repeated = k->repeated,
		.given_up = k->given_up,
		.fresh = k->fresh,
		.kept = mqtt_out_kept(&k->outgoing),
		.up = k->state == LINK_UP,
		.stopped = k->stopped,
	};
}

struct mqtt_link *mqtt_link_free(struct mqtt_link *k)
{
	if (k == NULL)
		return NULL;
	mqtt_link_part(k);
	mqtt_end_wait(k);
	mqtt_link_hang_up(k);
	mqtt_subs_free(k->subs);
	mqtt_out_done(&k->outgoing);
	mqtt_ids_clear(&k->taken);
	mqtt_bytes_done(&k->in);
	mqtt_bytes_done(&k->out);
	loop_remove(k->loop, k->timer);
	loop_remove(k->loop, k->soon_timer);
	free(k->host);
	free(k->client_id);
	free(k->username);
	free(k->password);
	free(k->name);
	free(k);
	return NULL;
}

static int copy_texts(struct mqtt_link *k, const struct mqtt_link_conf *c)
{
	const struct {
		char **to;
		const char *from;
	} texts[] = {{&k->host, c->host},
		     {&k->client_id, c->client_id},
		     {&k->username, c->username},
		     {&k->password, c->password}};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		if (texts[i].from == NULL)
			continue;
		*texts[i].to = strdup(texts[i].from);
		if (*texts[i].to == NULL)
			return ERR_NOMEM;
	}
	if (asprintf(&k->name, "%s at %s:%u", c->client_id, c->host, c->port) >= 0)
		return 0;
	k->name = NULL;
	return ERR_NOMEM;
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
	*k = (struct mqtt_link){
		.loop = l,
		.handlers = *h,
		.arg = arg,
		.port = c->port,
		.clean_session = c->clean_session,
		.give_up = c->give_up,
		.frugal = c->frugal,
		.forget = c->forget_session,
		.max_payload_bytes = c->max_payload_bytes,
		.keepalive_ms = c->keepalive_ms > 0 ? c->keepalive_ms : KEEPALIVE_MS,
		.timeout_ms = c->timeout_ms > 0 ? c->timeout_ms : TIMEOUT_MS,
		.retry_at_once = c->retry_min_ms == 0,
		.retry_min_ms = c->retry_min_ms > 0 ? c->retry_min_ms : RETRY_MIN_MS,
		.retry_max_ms = c->retry_max_ms > 0 ? c->retry_max_ms : RETRY_MAX_MS,
		.fd = -1,
	};
	k->retry_ms = k->retry_min_ms;
	mqtt_out_init(&k->outgoing, &(struct mqtt_out_limits){.msgs = c->max_queued,
							      .bytes = c->max_queued_bytes,
							      .waiting = c->max_waiting,
							      .in_flight = c->max_in_flight,
							      .frugal = c->frugal});
	int rc = copy_texts(k, c);
	if (rc < 0)
		err_set(err, rc, "MQTT connection");
	if (rc == 0)
		rc = mqtt_subs_new(&k->subs, err);
	if (rc == 0)
		rc = loop_add_timer(l, 0, 0, on_timer, k, &k->timer, err);
	if (rc == 0)
		rc = loop_add_timer(l, -1, 0, on_soon, k, &k->soon_timer, err);
	if (rc < 0) {
		mqtt_link_free(k);
		return rc;
	}
	*ret = k;
	return 0;
}
