/* show.h - what commands share that ask a daemon and show its answer. */
#pragma once

#include "iotctl/iotctl.h"
#include <jansson.h>
#include <stdint.h>

/* Ask a daemon ("csm", "agent") over its control socket; request: taken, NULL: out of memory. ret:
 * EXIT_OK and *ret_answer (yours), or another exit code, told already in the name of `command`. */
int ask_daemon(const struct iotctl *app, const char *command, const char *daemon, json_t *request,
	       int timeout_ms, json_t **ret_answer);
/* The same, but an answer of state "error" is an answer, too: it has more than a reason. */
int ask_daemon_whole(const struct iotctl *app, const char *command, const char *daemon,
		     json_t *request, int timeout_ms, json_t **ret_answer);
/* All rows of a list of ccm's that comes in pages; id: what pages go by. ret: as ask_daemon(). */
int ask_ccm_all(const struct iotctl *app, const char *command, const char *list, const char *id,
		json_t **ret_rows);
/* What a daemon answers to `status`; NULL: it does not, or not in time. */
json_t *daemon_status(const struct settings *s, const char *daemon, int timeout_ms);
/* Indented, with an end of line. ret: EXIT_OK. */
int print_json(json_t *value);
/* For a terminal: control characters in the strings of an answer become question marks, but for
 * ends of lines and tabs in those under the key `code`. */
void show_plain(json_t *value);
/* A string of an object; "-" or "": there is none. */
const char *text_of(const json_t *o, const char *key);
const char *text_or_empty(const json_t *o, const char *key);
/* A number of an object as text, in buf; "-": there is none. */
const char *number_of(const json_t *o, const char *key, char buf[32]);
/* How long ago a time (seconds since 1970) is: "12 s", "3 min", "5 h", "2 d". */
const char *age_of(double since, char buf[32]);
/* The widest text under a key of a list of objects, at least `least`: a column's width, in places
 * of a terminal. */
int width_of(const json_t *list, const char *key, size_t least);
/* printf() counts bytes: what to give it for "%-*s" that the text fills `width` places. */
int bytes_of(int width, const char *text);
/* A value as a person writes it: a list of one is its element, numbers have no more digits than
 * they need. ret: yours; NULL: out of memory. */
char *value_text(const json_t *value);
/* A member a line, objects within and lists of objects (as tables) indented below their name. */
void print_members(const json_t *object, int indent);
