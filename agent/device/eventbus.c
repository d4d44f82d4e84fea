#include "agent/device/eventbus.h"
#include "agent/device/twice.h"
#include "common/bus.h"
#include "common/id.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define RETRY_MIN_MS  1000
#define RETRY_MAX_MS  30000
#define DEAF_AGAIN_MS 5000 /* a subscription that was refused */
#define UNDER_WAY_MAX 4096 /* sent and not acknowledged */
#define MARK_MAX      64
#define SYSTEM_AT     4 /* gateway / <gateway> / <type> / <name> / system / ... */

static const char online[] = "online", offline[] = "offline";

/* What was sent and is not acknowledged. */
struct sending {
	struct eventbus *bus;
	struct sending *next_free;
	void *who; /* NULL: nobody asks any more */
	uint64_t token;
};

struct eventbus {
	struct loop *loop;
	struct eventbus_events events;
	void *arg;
	struct bus *bus;
	char *system_filter, *sync_topic, *online_topic, *mark_topic;
	char mark[MARK_MAX];      /* that the broker has */
	char token[UUID_LEN + 1]; /* what we wait for on the sync topic; "": nothing */
	unsigned sync_timeout_ms;
	struct loop_src *sync_timer;
	bool hears;  /* the broker lets us hear the system events */
	bool synced; /* on_synced() was called in this connection */
	bool told;   /* something was, since the last on_lost() */
	bool up;
	char why[160];
	struct twice twice;
	struct sending sendings[UNDER_WAY_MAX], *free;
	struct eventbus_stats stats;
};

/* ---- connections ---- */

static void lost(struct eventbus *b, const char *why)
{
	b->synced = b->up = false;
	b->token[0] = b->mark[0] = '\0';
	loop_arm(b->loop, b->sync_timer, -1);
	snprintf(b->why, sizeof(b->why), "%s", why);
	if (!b->told)
		return;
	b->told = false;
	b->events.on_lost(b->arg, why);
}

static bool on_connecting(void *arg, struct bus_will *will)
{
	struct eventbus *b = arg;

	/* events of a connection that never came up */
	lost(b, b->why[0] != '\0' ? b->why : "the broker is not reached");
	*will = (struct bus_will){.qos = 1, .retain = true, .len = strlen(offline)};
	snprintf(will->topic, sizeof(will->topic), "%s", b->online_topic);
	snprintf(will->payload, sizeof(will->payload), "%s", offline);
	return true;
}

static void synced(struct eventbus *b, bool complete)
{
	b->token[0] = '\0';
	loop_arm(b->loop, b->sync_timer, -1);
	b->synced = b->told = true;
	if (!b->hears)
		loop_arm(b->loop, b->sync_timer, DEAF_AGAIN_MS);
	b->events.on_synced(b->arg, complete, b->mark);
}

static void subscribe(struct eventbus *b);

static void on_sync_timer(void *arg)
{
	struct eventbus *b = arg;

	if (b->synced) { /* deaf */
		subscribe(b);
		return;
	}
	if (log_allowed("device.sync_late", b->sync_topic))
		log_warn("device.sync_late", KV("topic", b->sync_topic),
			 KV("why", "what the broker has retained may have come in part"));
	synced(b, false);
}

/* All the broker has retained for us is on its way before this answer, and before the token that we
 * send now comes back. */
static void on_subscribed(void *arg, int rc)
{
	struct eventbus *b = arg;
	struct err err = {0};

	if (rc == ERR_CONFLICT || !b->up)
		return; /* another connection, with its own */
	b->hears = rc == 0;
	if (!b->hears) {
		snprintf(b->why, sizeof(b->why), "the broker refuses the subscription to %.100s",
			 b->system_filter);
		if (log_allowed("device.deaf", b->system_filter))
			log_error("device.deaf", KV("topic", b->system_filter),
				  KV("why", err_name(rc)));
	}
	if (b->synced && !b->hears) {
		loop_arm(b->loop, b->sync_timer, DEAF_AGAIN_MS);
		return;
	}
	if (b->synced) { /* as if the connection were a new one: all is to come yet */
		lost(b, "the broker lets us hear from now on");
		b->up = true;
		b->why[0] = '\0';
	}
	snprintf(b->token, sizeof(b->token), "%s", uuid4().s);
	loop_arm(b->loop, b->sync_timer, b->sync_timeout_ms);
	if (bus_publish(b->bus, b->sync_topic, b->token, strlen(b->token), 1, false, &err) < 0)
		log_warn("device.sync_failed", KV("why", err.text)); /* the timer goes on */
}

/* Once more, to learn whether we are allowed to. */
static void subscribe(struct eventbus *b)
{
	struct err err = {0};

	if (b->synced) { /* what is refused may be these, too */
		bus_subscribe(b->bus, b->sync_topic, 1, NULL, NULL, NULL);
		bus_subscribe(b->bus, b->mark_topic, 1, NULL, NULL, NULL);
	}
	if (bus_subscribe(b->bus, b->system_filter, 1, on_subscribed, b, &err) < 0)
		on_subscribed(b, err.code);
}

static void on_up(void *arg, bool fresh)
{
	struct eventbus *b = arg;
	struct err err = {0};

	(void)fresh;
	b->up = true;
	b->why[0] = '\0';
	if (bus_publish(b->bus, b->online_topic, online, strlen(online), 1, true, &err) < 0)
		log_warn("device.online_failed", KV("why", err.text));
	subscribe(b);
}

static void on_failed(void *arg, const char *why)
{
	struct eventbus *b = arg;

	snprintf(b->why, sizeof(b->why), "%s", why);
}

static void on_down(void *arg, const char *why)
{
	lost(arg, why);
}

/* ---- events ---- */

static void drop(struct eventbus *b, const char *topic, const char *why)
{
	b->stats.dropped++;
	if (log_allowed("event.dropped", topic))
		log_warn("event.dropped", KV("topic", topic), KV("why", why));
}

/* ret: whether it is for the devices. */
static bool look(struct eventbus *b, const struct bus_msg *m, const struct event_path *path)
{
	if (path->n <= SYSTEM_AT + 1) {
		drop(b, m->topic, "too few segments");
		return false;
	}
	if (event_is_state(path->segments + SYSTEM_AT + 1, path->n - SYSTEM_AT - 1))
		return true;
	if (m->retained) {
		b->stats.stale++;
		if (log_allowed("event.stale", m->topic))
			log_warn("event.stale", KV("topic", m->topic),
				 KV("why", "it was retained: it may be old, and is not done"));
		return false;
	}
	if (twice_seen(&b->twice, m->topic, m->payload, m->len, m->dup, loop_now_ms(b->loop))) {
		b->stats.twice++;
		return false;
	}
	return true;
}

static void on_message(void *arg, const struct bus_msg *m)
{
	struct eventbus *b = arg;
	struct event_path path = {0};
	struct event_body body = {0};
	struct err err = {0};
	CLEANUP(freep)
	char *topic = NULL;

	if (strcmp(m->topic, b->sync_topic) == 0) {
		if (b->token[0] != '\0' && strcmp(m->payload, b->token) == 0)
			synced(b, b->hears);
		return;
	}
	if (strcmp(m->topic, b->mark_topic) == 0) {
		if (m->retained)
			snprintf(b->mark, sizeof(b->mark), "%s", m->payload);
		return;
	}
	b->stats.received++;
	int rc = event_path_parse(m->topic, &path, &err);
	if (rc == 0 && !look(b, m, &path))
		goto out;
	/* who encodes more than he must means the same */
	if (rc == 0)
		rc = event_topic(path.segments, path.n, &topic, &err);
	if (rc == 0)
		rc = event_body_parse(m->payload, m->len, &body, &err);
	if (rc < 0) {
		drop(b, m->topic, err.text);
		goto out;
	}
	b->told = true;
	b->events.on_event(b->arg, &path, topic, &body, m->payload, m->len, m->retained);
out:
	event_path_done(&path);
	event_body_done(&body);
}

/* ---- sending ---- */

static void on_acked(void *arg, int rc)
{
	struct sending *s = arg;
	struct eventbus *b = s->bus;
	void *who = s->who;

	s->who = NULL;
	s->next_free = b->free;
	b->free = s;
	if (rc == 0)
		b->stats.published++;
	b->events.on_sent(b->arg, who, s->token, rc == 0 ? 0 : ERR_AGAIN);
}

int eventbus_send(struct eventbus *b, void *who, uint64_t token, const char *topic,
		  const char *text, bool retain)
{
	struct sending *s = b->free;
	struct err err = {0};

	if (!b->up || s == NULL)
		return ERR_AGAIN;
	s->who = who;
	s->token = token;
	int rc = bus_publish_acked(b->bus, topic, text, strlen(text), retain, on_acked, s, &err);
	if (rc == 0)
		b->free = s->next_free;
	if (rc == 0 || rc == ERR_LIMIT || rc == ERR_NOMEM)
		return rc == 0 ? 0 : ERR_AGAIN;
	drop(b, topic, err.text);
	return rc;
}

void eventbus_mark(struct eventbus *b, const char *mark)
{
	if (b->up) /* one that does not arrive is one that is not there */
		bus_publish(b->bus, b->mark_topic, mark, strlen(mark), 1, true, NULL);
}

bool eventbus_has_room(const struct eventbus *b)
{
	return b->up && b->free != NULL;
}

void eventbus_forget(struct eventbus *b, const void *who)
{
	for (size_t i = 0; i < UNDER_WAY_MAX; i++)
		if (b->sendings[i].who == who)
			b->sendings[i].who = NULL;
}

/* ---- life ---- */

static int make_topics(struct eventbus *b, const char *gateway, struct err *err)
{
	CLEANUP(freep)
	char *base = NULL;

	int rc = event_topic((const char *const[]){"gateway", gateway}, 2, &base, err);
	if (rc < 0)
		return err_wrap(err, rc, "the name of the gateway");
	if (asprintf(&b->system_filter, "%s/+/+/system/#", base) < 0)
		b->system_filter = NULL;
	if (asprintf(&b->sync_topic, "%s/sync", base) < 0)
		b->sync_topic = NULL;
	if (asprintf(&b->online_topic, "%s/online", base) < 0)
		b->online_topic = NULL;
	if (asprintf(&b->mark_topic, "%s/mark", base) < 0)
		b->mark_topic = NULL;
	if (b->system_filter == NULL || b->sync_topic == NULL || b->online_topic == NULL ||
	    b->mark_topic == NULL)
		return err_set(err, ERR_NOMEM, "event bus");
	if (strlen(b->online_topic) >= sizeof(((struct bus_will *)NULL)->topic))
		return err_set(err, ERR_LIMIT, "the name of the gateway is too long");
	return 0;
}

static int connect_bus(struct eventbus *b, const struct eventbus_conf *conf, struct err *err)
{
	static const struct bus_handlers handlers = {
		.on_connecting = on_connecting,
		.on_failed = on_failed,
		.on_up = on_up,
		.on_down = on_down,
		.on_message = on_message,
	};
	CLEANUP(freep)
	char *client_id = NULL;

	if (asprintf(&client_id, "gateway-%s", conf->gateway) < 0) {
		client_id = NULL;
		return err_set(err, ERR_NOMEM, "event bus");
	}
	/* A clean session: commands that were sent while we were away are not done late. */
	const struct bus_conf bus_conf = {
		.host = conf->host,
		.port = conf->port,
		.client_id = client_id,
		.username = conf->username,
		.password = conf->password,
		.clean_session = true,
		.retry_min_ms = RETRY_MIN_MS,
		.retry_max_ms = RETRY_MAX_MS,
	};
	int rc = bus_new_own(b->loop, &bus_conf, &handlers, b, &b->bus, err);

	if (rc == 0)
		rc = bus_subscribe(b->bus, b->sync_topic, 1, NULL, NULL, err);
	if (rc == 0)
		rc = bus_subscribe(b->bus, b->mark_topic, 1, NULL, NULL, err);
	if (rc == 0)
		rc = bus_subscribe(b->bus, b->system_filter, 1, NULL, NULL, err);
	return rc;
}

int eventbus_new(struct loop *l, const struct eventbus_conf *conf, const struct eventbus_events *e,
		 void *arg, struct eventbus **ret, struct err *err)
{
	struct eventbus *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return err_set(err, ERR_NOMEM, "event bus");
	b->loop = l;
	b->events = *e;
	b->arg = arg;
	b->sync_timeout_ms = conf->sync_timeout_ms;
	twice_init(&b->twice);
	for (size_t i = UNDER_WAY_MAX; i-- > 0;) {
		b->sendings[i] = (struct sending){.bus = b, .next_free = b->free};
		b->free = &b->sendings[i];
	}
	int rc = make_topics(b, conf->gateway, err);

	if (rc == 0)
		rc = loop_add_timer(l, -1, 0, on_sync_timer, b, &b->sync_timer, err);
	if (rc == 0)
		rc = connect_bus(b, conf, err);
	if (rc < 0) {
		eventbus_free(b);
		return rc;
	}
	*ret = b;
	return 0;
}

struct eventbus *eventbus_free(struct eventbus *b)
{
	if (b == NULL)
		return NULL;
	/* a connection that ends well has no will */
	if (b->up)
		bus_publish(b->bus, b->online_topic, offline, strlen(offline), 1, true, NULL);
	bus_free(b->bus);
	b->sync_timer = loop_remove(b->loop, b->sync_timer);
	free(b->system_filter);
	free(b->sync_topic);
	free(b->online_topic);
	free(b->mark_topic);
	free(b);
	return NULL;
}

void eventbus_get_stats(const struct eventbus *b, struct eventbus_stats *ret)
{
	*ret = b->stats;
	ret->up = b->up;
	ret->synced = b->synced;
	ret->why = b->why;
}
