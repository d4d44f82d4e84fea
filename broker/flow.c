#include "broker/ports_int.h"

#include "broker/mosq.h"
#include "common/util.h"
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What is published in a tick leaves the broker in one go before it reads again: enough to be
 * quick, little enough to be nobody's burden. */
#define RESULTS_PER_TURN 512u
#define RESULTS_AT_ONCE  32u /* of one port, before the next port's */
#define BYTES_PER_TURN   ((size_t)8 << 20)
#define LOOKS            3 /* at results that came while a turn ended */

/* A sleeping engine is woken for less than this only if the broker has nothing else to do. */
#define WAKE_AT_MESSAGES 32
#define WAKE_AT_NS       200000 /* after the first of them */
#define WAKE_AT_BYTES    65536  /* do not even wait for the end of the turn */
#define TELL_FED_MS      20

/* An engine that sleeps once and writes once needs one kick for each result at most. */
#define DRAIN_BYTES 4096
#define DRAIN_SLACK 64
#define DRAINS_OFF  9

static bool runs(const struct port *p)
{
	return p != NULL && p->state == PLUG_STATE_RUNNING;
}

/* ---- messages in ---- */

void port_wake(struct port *p)
{
	ssize_t n;

	if (p->wake_fd < 0)
		return;
	/* A full pipe has bytes enough in it to wake anybody; a closed one is the engine's end, of
	 * which the agent hears. */
	n = write(p->wake_fd, "w", 1);
	(void)n;
	p->woken = p->ps->woken = true;
}

static void wake_sleeper(struct port *p)
{
	p->fed_bytes = p->fed_messages = 0;
	if (runs(p) && tap_engine_sleeps(p->tap))
		port_wake(p);
}

/* Engines are woken when the turn ends, or some turns later: one that is woken at the first message
 * takes our core while we are busy, and to wake it costs us more than most of what we do for a
 * message. But a turn must not fill its ring while it sleeps. Until then nobody needs to kick us.
 */
static void mark_fed(struct port *p, uint32_t len)
{
	struct ports *ps = p->ps;

	p->fed_messages++;
	p->fed_bytes += sizeof(struct tap_rec) + len;
	if (p->fed_bytes >= WAKE_AT_BYTES)
		wake_sleeper(p);
	if (p->fed)
		return;
	p->fed = true;
	ps->fed[ps->n_fed++] = p;
	if (p->asleep) {
		p->asleep = false;
		tap_set_asleep(p->tap, false);
	}
}

static void push(struct route *r, const struct mosquitto_evt_message *m)
{
	const struct tap_rec rec = {.slot = r->slot, .qos = m->qos, .len = m->payloadlen};
	struct port *p = r->port;
	struct ports *ps = p->ps;
	int rc = ERR_PEER;

	r->received++;
	if (p->state == PLUG_STATE_BROKEN) {
		ps->n.broken++;
		return;
	}
	rc = m->payloadlen <= ps->conf.max_payload_bytes ? tap_push(p->tap, &rec, m->payload)
							 : ERR_RANGE;
	if (rc == 0) {
		mark_fed(p, rec.len);
	} else if (rc == ERR_RANGE) {
		r->too_large++;
		ps->n.too_large++;
	} else if (rc == ERR_AGAIN) {
		r->no_room++;
		ps->n.no_room++;
		mark_fed(p, WAKE_AT_BYTES);
	} else {
		ps->n.broken++;
		port_break(p, "the engine's cursor is impossible");
	}
}

void ports_deliver(struct ports *ps, const struct mosquitto_evt_message *m)
{
	struct topic *t;

	if (strncmp(m->topic, ESM_PREFIX, sizeof(ESM_PREFIX) - 1) != 0)
		return;
	t = topic_table_find(ps->topics, m->topic);
	if (t == NULL)
		return;
	ps->n.received += t->routes != NULL;
	for (struct route *r = t->routes; r != NULL; r = r->next)
		push(r, m);
	if (t->n_echoes > 0)
		topic_echo(ps, t, m);
}

static void tell_woken(struct ports *ps, int64_t now_ms)
{
	bool more = false;

	for (unsigned i = 0; i < ps->n_port; i++) {
		struct port *p = ps->port[i];

		if (p == NULL || !p->woken)
			continue;
		if (now_ms - p->told_ms < TELL_FED_MS) {
			more = true;
			continue;
		}
		p->woken = false;
		p->told_ms = now_ms;
		ps->conf.on_event(ps->conf.arg, p->id, PLUG_FED);
	}
	ps->woken = more;
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Whether the engine can sleep on until a later turn has fed it more. */
static bool can_wait(struct port *p)
{
	if (p->fed_messages >= WAKE_AT_MESSAGES || !runs(p) || !tap_engine_sleeps(p->tap))
		return false;
	int64_t now = now_ns();

	if (!p->waits)
		p->waits_since_ns = now;
	p->waits = true;
	return now - p->waits_since_ns < WAKE_AT_NS;
}

void ports_fed(struct ports *ps, int64_t now_ms, bool ahead)
{
	unsigned waiting = 0;

	for (unsigned i = 0; i < ps->n_fed; i++) {
		struct port *p = ps->fed[i];

		if (ahead && can_wait(p)) {
			ps->fed[waiting++] = p;
			continue;
		}
		p->fed = p->waits = false;
		wake_sleeper(p);
	}
	ps->n_fed = waiting;
	if (ps->woken)
		tell_woken(ps, now_ms);
}

/* ---- results out ---- */

static void publish(struct port *p, const struct out *out, const struct tap_rec *rec)
{
	char *payload = NULL;

	if (rec->len > 0) {
		payload = mosquitto_malloc((size_t)rec->len + 1);
		if (payload == NULL) {
			tap_take(p->tap, NULL);
			p->ps->n.publish_failed++;
			return;
		}
		payload[rec->len] = '\0';
	}
	tap_take(p->tap, payload);
	if (mosquitto_broker_publish(NULL, out->name, (int)rec->len, payload, rec->qos, false,
				     NULL) == MOSQ_ERR_SUCCESS) {
		p->ps->n.published++;
		return;
	}
	p->ps->n.publish_failed++;
	mosquitto_free(payload);
}

/* ret: false if the port is broken now. */
static bool take(struct port *p, const struct tap_rec *rec)
{
	const struct out *out = table_at(&p->out, rec->slot);

	if (out == NULL) {
		port_break(p, "a result for a slot that was never given");
		return false;
	}
	if (out == DROPPED) {
		tap_take(p->tap, NULL);
		p->ps->n.late++;
	} else if (rec->len > p->ps->conf.max_result_bytes) {
		tap_take(p->tap, NULL);
		p->ps->n.result_too_large++;
	} else {
		publish(p, out, rec);
	}
	return true;
}

bool port_pull(struct port *p, unsigned max, size_t *bytes_left)
{
	struct tap_rec rec;

	for (unsigned i = 0; i<max && * bytes_left> 0 && !p->liar; i++) {
		int got = tap_peek(p->tap, &rec);

		if (got == 0)
			return false;
		if (got < 0) {
			port_break(p, "a result with an impossible cursor, length or QoS");
			return false;
		}
		if (!take(p, &rec))
			return false;
		p->pulled++;
		/* An engine that has kicked waits to see something taken before it kicks again:
		 * that we sleep is said once more, whose fence shows it what was taken before we
		 * look again. */
		p->asleep = false;
		*bytes_left -= rec.len < *bytes_left ? rec.len : *bytes_left;
	}
	return !p->liar;
}

bool ports_pull(struct ports *ps)
{
	size_t bytes = BYTES_PER_TURN;
	unsigned left = RESULTS_PER_TURN / RESULTS_AT_ONCE;
	bool more = true;

	while (more && left > 0 && bytes > 0) {
		more = false;
		for (unsigned i = 0; i < ps->n_port && left > 0; i++) {
			struct port *p = ps->port[(ps->first + i) % ps->n_port];

			if (!runs(p) || !port_pull(p, RESULTS_AT_ONCE, &bytes))
				continue;
			more = true;
			if (--left == 0) /* who comes next begins next time */
				ps->first = (ps->first + i + 1) % ps->n_port;
		}
	}
	return more;
}

/* Whether anything came between the last pull and the word. It is said again to an engine that
 * something was taken from: one that has kicked may wait to see that before it kicks once more, and
 * the fence shows it before we look. */
static bool fell_asleep(struct ports *ps)
{
	bool found = false;
	struct tap_rec rec;

	for (unsigned i = 0; i < ps->n_port; i++) {
		struct port *p = ps->port[i];

		if (!runs(p) || (p->asleep && !p->took))
			continue;
		p->asleep = true;
		p->took = false;
		tap_set_asleep(p->tap, true);
		found |= tap_peek(p->tap, &rec) != 0;
	}
	return found;
}

bool ports_sleep(struct ports *ps)
{
	for (unsigned i = 0; i < LOOKS; i++) {
		if (!fell_asleep(ps))
			return false;
		if (ports_pull(ps))
			return true;
	}
	return true; /* engines are quick: the next turn shall come soon */
}

/* Only a full pipe is of any harm: kicks that find no room wake nobody. An engine that kicks for
 * nothing has its pipe fill up for a while. */
static void drain(struct port *p)
{
	char sink[DRAIN_BYTES];
	uint64_t pulled = p->pulled;
	ssize_t n;

	p->pulled = 0;
	if (p->rest > 0) {
		p->rest--;
		return;
	}
	n = read(p->result_fd, sink, sizeof(sink));
	if (n > DRAIN_SLACK && (uint64_t)n > pulled + DRAIN_SLACK)
		p->rest = DRAINS_OFF;
}

void ports_drain(struct ports *ps)
{
	for (unsigned i = 0; i < ps->n_port; i++)
		if (runs(ps->port[i]))
			drain(ps->port[i]);
}
