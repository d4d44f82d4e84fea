#include "agent/device/elapsed.h"
#include "common/clock.h"
#include "common/util.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SET_US        1767225600000000 /* 2026, before this program was made: less is not set */
#define NOTE_EVERY_US 600000000
#define STEP_US       1000000 /* what is less is no step, but the clock that is kept right */

int64_t elapsed_now_us(const struct elapsed *e)
{
	return clock_us(CLOCK_BOOTTIME) + e->offset_us;
}

int64_t elapsed_wall_us(const struct elapsed *e, int64_t us)
{
	return clock_us(CLOCK_REALTIME) - (elapsed_now_us(e) - us);
}

static void read_boot(char *ret, size_t size)
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (f == NULL || fgets(ret, (int)size, f) == NULL)
		ret[0] = '\0';
	ret[strcspn(ret, "\n")] = '\0';
	if (f != NULL)
		fclose(f);
}

void elapsed_begin(struct elapsed *e, const char *note, int64_t noted_us, int64_t least_us)
{
	int64_t up_us = clock_us(CLOCK_BOOTTIME), wall_us = clock_us(CLOCK_REALTIME);
	char *rest;

	*e = (struct elapsed){0};
	read_boot(e->boot, sizeof(e->boot));
	if (note == NULL) {
		e->offset_us = (wall_us > least_us ? wall_us : least_us) - up_us;
		return;
	}
	int64_t offset_us = strtoll(note, &rest, 10), noted_wall_us = strtoll(rest, &rest, 10);
	bool same = strcmp(rest + strspn(rest, " "), e->boot) == 0;

	if (same && e->boot[0] != '\0' && up_us + offset_us >= noted_us) {
		e->offset_us = offset_us;
		return;
	}
	int64_t passed_us = noted_wall_us >= SET_US ? wall_us - noted_wall_us : 0;
	int64_t on_us = same ? 0 : up_us; /* since then, at least */

	e->offset_us = noted_us + (passed_us > on_us ? passed_us : on_us) - up_us;
}

bool elapsed_is_due(const struct elapsed *e)
{
	int64_t passed_us = elapsed_now_us(e) - e->noted_us;
	int64_t step_us = clock_us(CLOCK_REALTIME) - e->noted_wall_us - passed_us;

	return e->noted_us == 0 || passed_us >= NOTE_EVERY_US || llabs(step_us) >= STEP_US;
}

int64_t elapsed_note(struct elapsed *e, char ret_note[ELAPSED_NOTE_BYTES])
{
	e->noted_us = elapsed_now_us(e);
	e->noted_wall_us = clock_us(CLOCK_REALTIME);
	snprintf(ret_note, ELAPSED_NOTE_BYTES, "%lld %lld %s", (long long)e->offset_us,
		 (long long)e->noted_wall_us, e->boot);
	return e->noted_us;
}
