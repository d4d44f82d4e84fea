#include "dan/control.h"

#include "common/shortage.h"
#include "common/util.h"
#include <string.h>

#define TOPIC_BYTES_MAX 1024 /* ours have 48; MQTT allows 65535 */

static const struct {
	const char *word;
	enum control_command command;
	bool needs_topic;
} commands[] = {
	{"CONNECT", CONTROL_CONNECT, true},
	{"DISCONNECT", CONTROL_DISCONNECT, false},
	{"SUSPEND", CONTROL_SUSPEND, false},
	{"RESUME", CONTROL_RESUME, false},
};

/* A name of a topic, not a pattern. */
static bool topic_valid(const char *topic)
{
	size_t len = strlen(topic);
	return len > 0 && len <= TOPIC_BYTES_MAX && strpbrk(topic, "+#") == NULL;
}

static int read_feature(struct control *c, struct err *err)
{
	json_t *idf = json_object_get(c->doc, "idf"), *odf = json_object_get(c->doc, "odf");
	if ((idf == NULL) == (odf == NULL))
		return err_set(err, ERR_SCHEMA, "command: exactly one of idf and odf is needed");
	c->mode = idf != NULL ? DAN_IDF : DAN_ODF;
	c->feature = json_string_value(idf != NULL ? idf : odf);
	if (c->feature == NULL)
		return err_set(err, ERR_SCHEMA, "command: the feature is not a string");
	return 0;
}

static int read_command(struct control *c, struct err *err)
{
	const char *word = json_string_value(json_object_get(c->doc, "command"));
	if (word == NULL)
		return err_set(err, ERR_SCHEMA, "command: `command` is missing or not a string");
	size_t i = 0;
	while (i < ARRAY_LEN(commands) && strcmp(commands[i].word, word) != 0)
		i++;
	if (i == ARRAY_LEN(commands))
		return err_set(err, ERR_SCHEMA, "command '%.64s' unknown", word);
	c->command = commands[i].command;

	json_t *topic = json_object_get(c->doc, "topic");
	c->topic = json_string_value(topic);
	if (c->topic == NULL &&
	    (commands[i].needs_topic || (topic != NULL && !json_is_null(topic))))
		return err_set(err, ERR_SCHEMA, "%s: `topic` is missing or not a string", word);
	if (c->topic != NULL && !topic_valid(c->topic))
		return err_set(err, ERR_SCHEMA, "%s: `topic` is not the name of a topic", word);
	return 0;
}

int control_parse(const char *payload, size_t len, struct control *ret, struct err *err)
{
	json_error_t why;
	*ret = (struct control){0};
	ret->doc = json_loadb(payload, len, 0, &why);
	if (ret->doc == NULL)
		return err_set(err, ERR_PARSE, "command: %s", why.text);
	if (!json_is_object(ret->doc))
		return err_set(err, ERR_PARSE, "command: not a JSON object");
	ret->msg_id = json_object_get(ret->doc, "msg_id");
	if (ret->msg_id == NULL)
		return err_set(err, ERR_SCHEMA, "command: `msg_id` is missing");
	int rc = read_feature(ret, err);
	return rc < 0 ? rc : read_command(ret, err);
}

void control_done(struct control *c)
{
	json_decref(c->doc);
	*c = (struct control){0};
}

char *control_answer(json_t *msg_id, const char *reason)
{
	json_auto_t *answer = reason == NULL
				      ? json_pack("{s:O, s:s}", "msg_id", msg_id, "state", "ok")
				      : json_pack("{s:O, s:s, s:s}", "msg_id", msg_id, "state",
						  "error", "reason", reason);
	return shortage_dumps(answer);
}

char *control_state(bool online, const char *rev)
{
	json_auto_t *state =
		json_pack("{s:s, s:s}", "state", online ? "online" : "offline", "rev", rev);
	return shortage_dumps(state);
}
