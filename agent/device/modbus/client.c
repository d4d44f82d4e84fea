/* client.c - requests, in their order, and what comes of them (gateway-devices 2.1, "Request
 * path"). */
#include "agent/device/modbus/client_int.h"
#include "common/util.h"
#include <string.h>

#define CALLS_MAX 1024

/* ---- lists ---- */

static void append(struct modbus_calls *list, struct modbus_call *call)
{
	call->next = NULL;
	*list->end = call;
	list->end = &call->next;
}

static struct modbus_call *take_first(struct modbus_calls *list)
{
	struct modbus_call *call = list->first;

	list->first = call->next;
	if (list->first == NULL)
		list->end = &list->first;
	return call;
}

static size_t drop_of(struct modbus_calls *list, const void *arg)
{
	size_t n = 0;

	list->end = &list->first;
	while (*list->end != NULL) {
		struct modbus_call *call = *list->end;

		if (call->arg == arg) {
			*list->end = call->next;
			free(call);
			n++;
		} else {
			list->end = &call->next;
		}
	}
	return n;
}

static void drop_all(struct modbus_calls *list)
{
	while (list->first != NULL)
		free(take_first(list));
}

/* ---- outcomes ---- */

static void finish(struct modbus_client *c, struct modbus_call *call, const struct modbus_result *r)
{
	modbus_done_fn *done = call->done;
	void *arg = call->arg;

	free(call);
	if (done != NULL && !c->freed)
		done(arg, r);
}

void modbus_client_conclude(struct modbus_client *c, const struct modbus_result *r)
{
	finish(c, TAKE(c->current), r);
}

void modbus_client_timed_out(struct modbus_client *c)
{
	static const struct modbus_result timed_out = {.kind = MODBUS_TIMED_OUT};
	struct modbus_call *call = c->current;

	if (call->done != NULL && call->immediate > 0) {
		call->immediate--;
		c->stats.retries++;
		modbus_wire_send(c);
	} else if (call->done != NULL && call->delayed > 0) {
		call->delayed--;
		call->immediate = c->conf.immediate;
		call->due_ms = loop_now_ms(c->loop) + c->conf.retry_delay_ms;
		c->stats.retries++;
		c->stats.waiting++;
		append(&c->delayed, TAKE(c->current));
	} else {
		c->stats.timeouts++;
		modbus_client_conclude(c, &timed_out);
	}
}

static void lose_all(struct modbus_client *c, struct modbus_calls *list)
{
	static const struct modbus_result lost = {.kind = MODBUS_LOST};

	while (list->first != NULL && !c->freed) {
		c->stats.waiting--;
		finish(c, take_first(list), &lost);
	}
}

void modbus_client_fail_all(struct modbus_client *c)
{
	static const struct modbus_result lost = {.kind = MODBUS_LOST};

	if (c->current != NULL)
		modbus_client_conclude(c, &lost);
	lose_all(c, &c->queue);
	lose_all(c, &c->delayed);
}

/* ---- what is due ---- */

/* When the first request of the queue may go out. */
static int64_t send_ms(const struct modbus_client *c)
{
	bool wait = modbus_wire_must_wait(c, c->queue.first) && c->late.until_ms > c->send_ms;

	return wait ? c->late.until_ms : c->send_ms;
}

static void send_next(struct modbus_client *c)
{
	int64_t now_ms = loop_now_ms(c->loop);

	if (c->state != LINK_CONNECTED || c->current != NULL || c->queue.first == NULL ||
	    send_ms(c) > now_ms)
		return;
	if (c->late.until_ms <= now_ms)
		c->late.answers = 0;
	c->current = modbus_wire_probe(c, c->queue.first);
	if (c->current != NULL) {
		c->probed = true;
	} else {
		c->current = take_first(&c->queue);
		c->stats.waiting--;
	}
	modbus_wire_send(c);
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* How long is waited for bytes. */
static int64_t limit_ms(const struct modbus_client *c)
{
	int64_t silence = modbus_wire_silence_at(c);

	return c->current != NULL ? earlier(silence, c->answer_ms) : silence;
}

static int64_t due_ms(const struct modbus_client *c)
{
	int64_t due = INT64_MAX;

	if (c->state == LINK_DISCONNECTED)
		return c->attempt_ms;
	if (c->state != LINK_CONNECTED)
		return due; /* the stream knows the time */
	if (c->current == NULL && c->queue.first != NULL)
		due = send_ms(c);
	if (c->delayed.first != NULL)
		due = earlier(due, c->delayed.first->due_ms);
	return earlier(due, limit_ms(c));
}

/* Timers come before descriptors: when we were held up, the answer may be there and nobody has
 * looked. So a limit that is over counts in the next turn. */
static void on_limit(struct modbus_client *c, int64_t now_ms)
{
	if (!c->overdue) {
		c->overdue = true;
		return;
	}
	c->overdue = false;
	if (modbus_wire_silence_at(c) <= now_ms)
		modbus_wire_silence(c);
	if (c->current != NULL && c->answer_ms <= now_ms)
		modbus_wire_timeout(c);
}

static void on_time(void *arg)
{
	struct modbus_client *c = arg;
	int64_t now_ms = loop_now_ms(c->loop);

	modbus_client_enter(c);
	if (c->state == LINK_DISCONNECTED && c->attempt_ms <= now_ms)
		modbus_link_attempt(c);
	if (c->state == LINK_CONNECTED && limit_ms(c) <= now_ms)
		on_limit(c, now_ms);
	while (c->delayed.first != NULL && c->delayed.first->due_ms <= now_ms)
		append(&c->queue, take_first(&c->delayed));
	modbus_client_leave(c);
}

void modbus_client_enter(struct modbus_client *c)
{
	c->busy++;
}

static void release(struct modbus_client *c)
{
	c->stream = stream_free(c->stream);
	c->timer = loop_remove(c->loop, c->timer);
	free(TAKE(c->current));
	drop_all(&c->queue);
	drop_all(&c->delayed);
}

void modbus_client_leave(struct modbus_client *c)
{
	if (c->busy == 1 && !c->freed)
		send_next(c);
	if (--c->busy > 0)
		return;
	if (c->freed) {
		release(c);
		modbus_settings_done(&c->conf);
		free(c);
		return;
	}
	int64_t due = due_ms(c), now_ms = loop_now_ms(c->loop);

	loop_arm(c->loop, c->timer, due == INT64_MAX ? -1 : due > now_ms ? due - now_ms : 0);
}

/* ---- for the caller ---- */

int modbus_client_new(struct loop *l, const json_t *connection,
		      const struct modbus_client_handlers *h, void *arg, struct modbus_client **ret,
		      struct err *err)
{
	struct modbus_client *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return err_set(err, ERR_NOMEM, "a modbus client");
	*c = (struct modbus_client){.loop = l, .h = h, .arg = arg};
	c->queue.end = &c->queue.first;
	c->delayed.end = &c->delayed.first;
	int rc = modbus_settings_read(connection, &c->conf, err);
	modbus_framer_init(&c->framer, c->conf.framing, false);
	if (rc == 0)
		rc = loop_add_timer(l, 0, 0, on_time, c, &c->timer, err);
	if (rc < 0) {
		modbus_settings_done(&c->conf);
		free(c);
		return rc;
	}
	*ret = c;
	return 0;
}

struct modbus_client *modbus_client_free(struct modbus_client *c)
{
	if (c == NULL)
		return NULL;
	modbus_client_enter(c);
	bool told = c->state == LINK_DISCONNECTED;
	c->state = LINK_DISCONNECTED;
	if (!told)
		c->h->on_state(c->arg, LINK_DISCONNECTED);
	release(c);
	c->freed = true;
	modbus_client_leave(c);
	return NULL;
}

int modbus_client_request(struct modbus_client *c, uint8_t unit, const struct modbus_request *q,
			  modbus_done_fn *done, void *arg, struct err *err)
{
	struct modbus_pdu pdu;
	int rc = modbus_request_encode(q, &pdu, err);

	if (rc < 0)
		return rc;
	if (c->state != LINK_CONNECTED)
		return err_set(err, ERR_PEER, "not connected");
	if (c->stats.waiting == CALLS_MAX)
		return err_set(err, ERR_LIMIT, "%u modbus requests wait", CALLS_MAX);
	struct modbus_call *call = malloc(sizeof(*call) + pdu.len);
	if (call == NULL)
		return err_set(err, ERR_NOMEM, "a modbus request");
	*call = (struct modbus_call){.done = done,
				     .arg = arg,
				     .immediate = c->conf.immediate,
				     .delayed = c->conf.delayed,
				     .unit = unit,
				     .len = (uint8_t)pdu.len};
	memcpy(call->pdu, pdu.bytes, pdu.len);
	modbus_client_enter(c);
	append(&c->queue, call);
	c->stats.waiting++;
	modbus_client_leave(c);
	return 0;
}

void modbus_client_forget(struct modbus_client *c, void *arg)
{
	c->stats.waiting -= drop_of(&c->queue, arg);
	c->stats.waiting -= drop_of(&c->delayed, arg);
	if (c->current != NULL && c->current->arg == arg)
		c->current->done = NULL;
}

const char *modbus_client_why(const struct modbus_client *c)
{
	return c->why;
}

void modbus_client_get_stats(const struct modbus_client *c, struct modbus_client_stats *ret)
{
	*ret = c->stats;
}
