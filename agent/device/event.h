/* event.h - events on the broker: topics of percent-encoded segments, bodies with two times and a
 * payload (gateway-devices 1.1, 1.2).
 */
#pragma once

#include "common/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EVENT_SEGMENTS_MAX 16
#define EVENT_BODY_MAX     262144

/* Join segments with '/', percent-encoded. ret: a new string, yours. Errors: ERR_INVAL (an empty
 * segment), ERR_NOMEM. */
int event_topic(const char *const *segments, size_t n, char **ret, struct err *err);

/* A topic taken apart. */
struct event_path {
	char *text; /* owned: what the segments point into */
	const char *segments[EVENT_SEGMENTS_MAX];
	size_t n;
};
/* Errors: ERR_PARSE (an empty segment, a bad percent code, NUL), ERR_LIMIT (too many), ERR_NOMEM.
 */
int event_path_parse(const char *topic, struct event_path *ret, struct err *err);
void event_path_done(struct event_path *p);
/* What follows `system` tells a state: it is retained by the broker, kept by us, and its latest
 * counts (enable, remote_device/<id>/enable, data/...). All else are acts. */
bool event_is_state(const char *const *path, size_t n);
/* Decimal, no sign, no leading zeros, at most max. ret: false if it is none. */
bool event_segment_number(const char *segment, uint64_t max, uint64_t *ret);

/* {"timestamp": us, "source_timestamp": us or null, "payload": payload}; payload: borrowed. ret: a
 * new string, yours; NULL: out of memory. */
char *event_body(int64_t timestamp_us, const int64_t *source_us, json_t *payload);
/* The same of a payload that is JSON text already. */
char *event_body_text(int64_t timestamp_us, const int64_t *source_us, const char *payload);

struct event_body {
	json_t *payload;      /* owned */
	int64_t timestamp_us; /* 0: not told */
	bool has_source;
	int64_t source_us;
};
/* An envelope, or a bare value that is the payload. Errors: ERR_LIMIT (larger than EVENT_BODY_MAX),
 * ERR_PARSE, ERR_SCHEMA (times that are no integers). */
int event_body_parse(const char *text, size_t len, struct event_body *ret, struct err *err);
void event_body_done(struct event_body *b);
