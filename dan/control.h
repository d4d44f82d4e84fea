/* control.h - messages of the control channel as a device application sees them (pure functions).
 */
#pragma once

#include "common/err.h"
#include "dan/dan.h"
#include <jansson.h>

enum control_command { CONTROL_CONNECT, CONTROL_DISCONNECT, CONTROL_SUSPEND, CONTROL_RESUME };

struct control {
	json_t *doc;    /* owned; the strings below are its */
	json_t *msg_id; /* as it came; NULL: none, so nobody waits for an answer */
	enum control_command command;
	enum dan_mode mode;
	const char *feature;
	const char *topic; /* never NULL for CONNECT; NULL: not told */
};

/* Read a command. On failure ret->msg_id is set if there was one: the refusal can be answered.
 * Release with control_done() in both cases. Errors: ERR_PARSE (no JSON object), ERR_SCHEMA. */
int control_parse(const char *payload, size_t len, struct control *ret, struct err *err);
void control_done(struct control *c);

/* {"msg_id": M, "state": "ok"}, or "error" with reason. ret: a string, yours to free(); NULL: out
 * of memory. */
char *control_answer(json_t *msg_id, const char *reason);
/* {"state": "online" or "offline", "rev": R}; likewise. */
char *control_state(bool online, const char *rev);
