#include "csm/outgoing.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/shortage.h"
#include "common/util.h"
#include "csm/metrics.h"
#include "csm/store.h"
#include <stdio.h>
#include <string.h>

/* ---- messages ---- */

static const char no_memory[] = "out of memory";

static bool not_sent(const char *topic, const char *why)
{
	if (log_allowed("send.failed", topic))
		log_error("send.failed", KV("topic", topic), KV("why", why));
	return false;
}

static bool send_text(struct csm *csm, const char *topic, const char *text, uint8_t qos, bool retain)
{
	struct err err = {0};
	if (csm->bus != NULL && bus_publish(csm->bus, topic, text, strlen(text), qos, retain, &err) < 0)
		return not_sent(topic, err.text);
	return true;
}

/* The broker would drop it without a word. */
static bool fits(const struct csm *csm, const char *topic, const char *text)
{
	return strlen(text) + strlen(topic) + 64 <= (size_t)csm->settings->broker.message_size_limit;
}

/* What is said in place of an answer that the broker would not take. */
static char *too_large(json_t *body)
{
	json_auto_t *instead = json_pack("{s:s, s:s}", "state", "error", "reason",
					 "the answer is larger than message-size-limit");
	const char *key;
	json_t *value;
	json_object_foreach (body, key, value) {
		/* what callers find their request by */
		bool small = json_is_string(value) ? json_string_length(value) <= 255
						   : !json_is_array(value) && !json_is_object(value);
		if (small && json_object_size(instead) < 32 && json_object_get(instead, key) == NULL)
			json_object_set(instead, key, value);
	}
	return instead != NULL ? shortage_dumps(instead) : NULL;
}

static bool send_body(struct csm *csm, const char *topic, json_t *body, uint8_t qos, bool retain)
{
	CLEANUP(freep) char *text = body != NULL ? shortage_dumps(body) : NULL;
	if (text != NULL && !fits(csm, topic, text)) {
		free(text);
		text = too_large(body);
		log_error("send.too_large", KV("topic", topic));
	}
	json_decref(body);
	return text != NULL ? send_text(csm, topic, text, qos, retain) : not_sent(topic, no_memory);
}

void csm_send(struct csm *csm, const char *topic, json_t *body, uint8_t qos, bool retain)
{
	send_body(csm, topic, body, qos, retain);
}

bool csm_command(struct csm *csm, const char *da_id, json_t *body)
{
	char topic[64];
	snprintf(topic, sizeof(topic), "%s/ctrl/o", da_id);
	return send_body(csm, topic, body, 2, false);
}

/* ---- answers ---- */

#define UNSENT_AGAIN_MS 50

struct outgoing {
	struct csm *csm;
	json_t *body;
	char *text; /* made before the commit, which nothing must follow that could fail; NULL: made when it is sent */
	uint8_t qos;
	bool retain, is_answer, is_last, pending;
	struct asked from; /* of the last answer */
	struct outgoing *next;
	char topic[];
};

static const char no_memory_answer[] = "{\"state\":\"error\",\"reason\":\"out of memory\"}";

static void turn_without_memory(struct csm *csm)
{
	store_failed(csm->store, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
}

/* The last answer to a request goes out: refusals are told of once a minute and topic, what happens often only to those who look
 * closer. */
static void answered(struct csm *csm, const struct asked *from, const char *topic, bool ok, bool pending)
{
	bool tell = ok ? from->changes : log_allowed("api.answered", topic);
	int64_t took_us = monotonic_us() - from->at_us;
	metrics_api(csm->metrics, from->service, from->op, ok ? "ok" : "error", took_us);
	LOG_AT(tell ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, "api.answered", KV("trace", from->trace.s), KV("topic", topic),
	       KV("op", from->op), KV("state", ok ? "ok" : "error"), KV("pending", pending), KV("took_us", took_us));
}

struct outgoing *outgoing_new(struct csm *csm, const char *topic, const struct asked *from)
{
	size_t len = strlen(topic) + 1;
	struct outgoing *o = calloc(1, sizeof(*o) + len);
	if (o == NULL)
		return NULL;
	*o = (struct outgoing){.csm = csm, .qos = 2, .is_answer = true};
	if (from != NULL) {
		o->is_last = true;
		o->from = *from;
	}
	memcpy(o->topic, topic, len);
	return o;
}

struct outgoing *outgoing_free(struct outgoing *o)
{
	if (o == NULL)
		return NULL;
	json_decref(o->body);
	free(o->text);
	free(o);
	return NULL;
}

const char *outgoing_trace(const struct outgoing *o)
{
	return o->from.trace.s;
}

/* text: of o->body; NULL: made now. ok: what the text says. */
static void send(struct outgoing *o, const char *text, bool ok)
{
	if (o->is_last)
		answered(o->csm, &o->from, o->topic, ok, ok && o->pending);
	if (text != NULL && fits(o->csm, o->topic, text))
		send_text(o->csm, o->topic, text, o->qos, o->retain);
	else
		csm_send(o->csm, o->topic, TAKE(o->body), o->qos, o->retain);
}

static bool says(const json_t *body, const char *what)
{
	const char *state = json_string_value(json_object_get(body, "state"));
	return state != NULL && strcmp(state, what) == 0;
}

static void outgoing_commit(void *arg, const char *why)
{
	struct outgoing *o = arg;
	(void)why;
	send(o, o->text, says(o->body, "ok"));
	outgoing_free(o);
}

/* The answer o->body with state error and a reason; without memory for that, its topic must do. */
static void send_error(struct outgoing *o, const char *why)
{
	json_object_set_new(o->body, "state", json_string("error"));
	json_object_set_new(o->body, "reason", csm_text(why));
	bool whole = says(o->body, "error") && json_object_get(o->body, "reason") != NULL;
	CLEANUP(freep) char *text = whole ? shortage_dumps(o->body) : NULL;
	send(o, text != NULL ? text : no_memory_answer, false);
}

static void outgoing_rollback(void *arg, const char *why)
{
	struct outgoing *o = arg;
	if (o->is_answer)
		send_error(o, why);
	outgoing_free(o);
}

void outgoing_answer(struct outgoing *o, json_t *answer)
{
	struct csm *csm = o->csm;
	o->body = answer;
	o->text = answer != NULL ? shortage_dumps(answer) : NULL;
	if (o->text == NULL)
		turn_without_memory(csm);
	store_then(csm->store, outgoing_commit, outgoing_rollback, o);
}

static bool try_now(struct outgoing *o)
{
	unsigned long shortages = shortage_count();
	json_object_set_new(o->body, "state", json_string("ok"));
	if (o->pending)
		json_object_set_new(o->body, "pending", json_true());
	CLEANUP(freep) char *text = shortage_dumps(o->body);
	if (text == NULL || shortage_count() != shortages)
		return false;
	send(o, text, true);
	outgoing_free(o);
	return true;
}

static void send_unsent(void *arg)
{
	struct csm *csm = arg;
	struct outgoing *o = TAKE(csm->unsent);
	while (o != NULL) {
		struct outgoing *next = o->next;
		if (!try_now(o)) {
			o->next = csm->unsent;
			csm->unsent = o;
		}
		o = next;
	}
	loop_arm(csm->loop, csm->unsent_timer, csm->unsent != NULL ? UNSENT_AGAIN_MS : -1);
}

void outgoing_answer_ok(struct outgoing *o, json_t *answer, bool pending)
{
	struct csm *csm = o->csm;
	o->body = answer;
	o->pending = pending;
	if (try_now(o))
		return;
	o->next = csm->unsent;
	csm->unsent = o;
	loop_arm(csm->loop, csm->unsent_timer, UNSENT_AGAIN_MS);
}

void csm_publish(struct csm *csm, const char *topic, json_t *body, uint8_t qos, bool retain)
{
	struct outgoing *o = body != NULL ? outgoing_new(csm, topic, NULL) : NULL;
	if (o == NULL) {
		json_decref(body);
		not_sent(topic, no_memory);
		return;
	}
	o->body = body;
	o->qos = qos;
	o->retain = retain;
	o->is_answer = false;
	store_then(csm->store, outgoing_commit, outgoing_rollback, o);
}

void csm_answer(struct csm *csm, const char *topic, json_t *answer, const struct asked *from)
{
	struct outgoing *o = outgoing_new(csm, topic, from);
	if (o != NULL) {
		outgoing_answer(o, answer);
		return;
	}
	json_decref(answer);
	turn_without_memory(csm);
	if (from != NULL)
		answered(csm, from, topic, false, false);
	send_text(csm, topic, no_memory_answer, 2, false);
}

/* ---- life ---- */

int outgoing_start(struct csm *csm, struct err *err)
{
	return loop_add_timer(csm->loop, -1, 0, send_unsent, csm, &csm->unsent_timer, err);
}

void outgoing_stop(struct csm *csm)
{
	for (struct outgoing *o = TAKE(csm->unsent), *next; o != NULL; o = next) {
		next = o->next;
		send(o, no_memory_answer, false);
		outgoing_free(o);
	}
}
