/* echo.h - what the broker was told on a topic that we hear, and will repeat to us: in the order in
 * which it was told, though what was overtaken may never come. Loop thread only.
 */
#pragma once

struct echo;

/* All zero: nothing is expected. */
struct echoes {
	struct echo *first;
};

enum echo_kind {
	ECHO_NONE, /* somebody else says it */
	ECHO_OLD,  /* we have told something else since, which comes yet */
	ECHO_LAST  /* what we told last */
};

/* It is being told. Without memory it is not expected: then it will be taken for somebody else's.
 */
void echoes_add(struct echoes *e, const char *text);
/* It is not told, after all. */
void echoes_remove(struct echoes *e, const char *text);
/* This came. It is expected no more, nor is what was told before. */
enum echo_kind echoes_take(struct echoes *e, const char *text);
/* Nothing will come: the connection is another one. */
void echoes_clear(struct echoes *e);
