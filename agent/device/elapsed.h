/* elapsed.h - a clock that goes on as time goes by, whatever is done to that of the wall: what
 * waits in the store is as old as this one says. It counts microseconds since 1970, as the wall's
 * did when the store was made, and is not put right: compare, and tell nobody.
 *
 * While the machine is on it is CLOCK_BOOTTIME, which goes on in sleep. For the time that it is
 * off, a note in the store says what both clocks were shortly before: that of the wall is believed
 * from there to the next start, if it was set at both ends; else that time does not count.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define ELAPSED_NOTE_BYTES 96

struct elapsed {
	int64_t offset_us; /* to CLOCK_BOOTTIME; 0: not begun, good for differences all the same */
	char boot[37];     /* which start of the machine this is; "": it does not say */
	int64_t noted_us, noted_wall_us; /* 0: nothing, by this process */
};

int64_t elapsed_now_us(const struct elapsed *e);
/* What the wall's clock shows now for a time of this one. */
int64_t elapsed_wall_us(const struct elapsed *e, int64_t us);

/* note: the last one, and when it was, by this clock; NULL: there is none, so it begins as the
 * wall's, but no earlier than least_us. */
void elapsed_begin(struct elapsed *e, const char *note, int64_t noted_us, int64_t least_us);
/* Is a note wanted? There was none for a while, or the wall's clock has been set. */
bool elapsed_is_due(const struct elapsed *e);
/* It is taken for kept; with noted_us 0 one is wanted again. ret: when it is. */
int64_t elapsed_note(struct elapsed *e, char ret_note[ELAPSED_NOTE_BYTES]);
