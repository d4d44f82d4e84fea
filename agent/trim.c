#include "agent/trim.h"
#include "common/util.h"
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LOOK_MS    5000
#define MUCH_BYTES ((size_t)2 << 20) /* less is not worth the while */

struct trim {
	struct loop *loop;
	struct loop_src *timer;
	size_t least; /* that the process had in memory since it was trimmed last */
	size_t used;  /* what was allocated then */
};

/* ret: bytes of the process that are in memory; 0: not known */
static size_t resident(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (f == NULL)
		return 0;
	int n = fscanf(f, "%*u %lu", &pages);

	fclose(f);
	return n == 1 ? pages * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

static void on_timer(void *arg)
{
	struct trim *t = arg;
	size_t now = resident(), used = mallinfo2().uordblks;

	if (now > t->least + MUCH_BYTES || used + MUCH_BYTES < t->used) {
		malloc_trim(0);
		t->least = resident();
		t->used = used;
	} else if (now < t->least) {
		t->least = now;
	}
}

int trim_new(struct loop *l, struct trim **ret, struct err *err)
{
	struct trim *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return err_set(err, ERR_NOMEM, "a timer");
	t->loop = l;
	int rc = loop_add_timer(l, LOOK_MS, LOOK_MS, on_timer, t, &t->timer, err);
	if (rc < 0) {
		free(t);
		return rc;
	}
	*ret = t;
	return 0;
}

struct trim *trim_free(struct trim *t)
{
	if (t == NULL)
		return NULL;
	loop_remove(t->loop, t->timer);
	free(t);
	return NULL;
}
