/* timers N: arm N timers at random times of the next half second, each twice, and run the loop
 * until all have fired. What that costs a timer is for the caller to measure. */
#include "common/loop.h"
#include <stdio.h>
#include <stdlib.h>

#define SPREAD_MS 500

struct run {
	struct loop *loop;
	unsigned long left;
};

static void on_timer(void *arg)
{
	struct run *r = arg;
	if (--r->left == 0)
		loop_quit(r->loop, 0);
}

int main(int argc, char *argv[])
{
	struct run r = {.left = argc > 1 ? strtoul(argv[1], NULL, 10) : 0};
	unsigned long n = r.left;
	struct err err = {0};
	struct loop_src **timers = calloc(n + 1, sizeof(struct loop_src *));
	if (n == 0 || timers == NULL || loop_new(&r.loop, &err) < 0) {
		fprintf(stderr, "usage: timers N (at least 1)\n");
		return EXIT_FAILURE;
	}
	srandom(1);
	for (unsigned long i = 0; i < n; i++)
		if (loop_add_timer(r.loop, random() % SPREAD_MS, 0, on_timer, &r, &timers[i],
				   &err) < 0)
			return EXIT_FAILURE;
	for (unsigned long i = 0; i < n; i++)
		loop_arm(r.loop, timers[i], random() % SPREAD_MS);
	int rc = loop_run(r.loop);
	loop_free(r.loop);
	free(timers);
	return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
