/* trace.h - the id under which one request is found in every log it passes through. */
#pragma once

#include <stdbool.h>

#define TRACE_MAX  64  /* characters of an id */
#define TRACES_MAX 200 /* of the ids of one message, with the NUL */

struct trace_text {
	char s[TRACE_MAX + 1]; /* "": none */
};

/* What a client may choose: 1 to 64 of A-Z a-z 0-9 . _ : - (so it needs no quotes anywhere). */
bool trace_valid(const char *text);
/* `given` if that is one (it may be NULL), else 12 random hex digits. */
struct trace_text trace_of(const char *given);

/* Ids of the requests that share one message: "a,b"; those that find no room are counted: "a,b+3".
 */
struct traces {
	char s[TRACES_MAX]; /* "": none */
	unsigned more;
};
void traces_add(struct traces *t, const char *id);
/* A list that somebody sent; anything else yields none. text may be NULL. */
struct traces traces_parse(const char *text);
