/* messages.c - from us to gui clients. */
#include "ccm/gui/gui_int.h"

#include "common/log.h"
#include "common/shortage.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define KEPT_BYTES 512 /* of the members of a message that is too large; the limit is at least twice that */

static const char no_memory[] = "{\"state\":\"error\",\"msg\":\"out of memory\"}";

struct topic_text {
	char s[sizeof(GUI_ANSWER_PREFIX) + GUI_UUID_LEN];
};

static struct topic_text topic_of(const char *uuid)
{
	struct topic_text topic;
	snprintf(topic.s, sizeof(topic.s), "%s%s", GUI_ANSWER_PREFIX, uuid);
	return topic;
}

static bool fits(const struct gui *g, const char *text)
{
	return strlen(text) + sizeof(struct topic_text) + 64 <= (size_t)g->ccm->settings->broker.message_size_limit;
}

static void publish(struct gui *g, const char *uuid, const char *text)
{
	struct err err = {0};
	if (g->port->publish(g->ccm, topic_of(uuid).s, text, strlen(text), &err) < 0 && log_allowed("gui.send_failed", uuid))
		log_warn("gui.send_failed", KV("client", uuid), KV("why", err.text));
}

/* What the client knows its request by, and an error in place of the rest; an error that it was before stays one. */
static char *too_large(const struct gui *g, json_t *message, size_t bytes)
{
	const char *state = json_string_value(json_object_get(message, "state")), *key;
	bool was_error = state != NULL && strcmp(state, "ok") != 0;
	json_t *value, *msg = json_object_get(message, "msg");
	size_t kept = 0;
	json_auto_t *small =
		was_error && msg != NULL
			? json_pack("{s:O, s:O, s:n}", "state", json_object_get(message, "state"), "msg", msg, "data")
			: json_pack("{s:s, s:o, s:n}", "state", "error", "msg",
				    json_sprintf("the answer is too large: %zu bytes, and the broker takes %lld", bytes,
						 (long long)g->ccm->settings->broker.message_size_limit),
				    "data");
	if (small == NULL)
		return NULL;
	json_object_foreach (message, key, value) {
		size_t size = strlen(key) + json_dumpb(value, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
		if (json_object_get(small, key) != NULL || kept + size > KEPT_BYTES)
			continue;
		json_object_set(small, key, value);
		kept += size;
	}
	return shortage_dumps(small);
}

void gui_send(struct gui *g, const char *uuid, json_t *message)
{
	CLEANUP(freep) char *text = message != NULL ? shortage_dumps(message) : NULL;
	if (text != NULL && !fits(g, text)) {
		size_t bytes = strlen(text);
		free(text);
		text = too_large(g, message, bytes);
		log_warn("gui.too_large", KV("client", uuid), KV("bytes", bytes));
	}
	json_decref(message);
	publish(g, uuid, text != NULL ? text : no_memory);
}

struct announcement {
	struct gui *gui;
	const char *text;
};

static void tell(void *arg, const char *uuid)
{
	const struct announcement *a = arg;
	publish(a->gui, uuid, a->text);
}

void gui_send_all(struct gui *g, json_t *message)
{
	CLEANUP(freep) char *text = message != NULL ? shortage_dumps(message) : NULL;
	json_decref(message);
	if (text != NULL && fits(g, text))
		gui_clients_each(g->clients, tell, &(struct announcement){g, text});
	else
		log_warn("gui.not_announced", KV("why", text != NULL ? "too large" : "out of memory"));
}
