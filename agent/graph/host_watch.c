#include "agent/graph/host_int.h"
#include "common/log.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define START_LIMIT_MS 15000 /* from asking the keeper to ready, on a busy machine */
/* An engine is looked at for so long after it was last seen at work: the transport tells that it
 * was woken, but not each time at once. */
#define IDLE_AFTER_MS 150
/* An engine that evaluates but does not answer is given this many budgets. */
#define ANSWER_BUDGETS 10

/* What was observed so far is not held against the engine any more. */
void host_forgive(struct host *h)
{
	h->stalled_ms = h->unanswered_ms = h->idle_ms = 0;
	h->last_tick_ms = loop_now_ms(h->loop);
}

void host_start_watch(struct host *h)
{
	if (h->ticking)
		return;
	h->ticking = true;
	host_forgive(h);
	loop_arm(h->loop, h->tick_timer, h->tick_ms);
}

static void out_of_time(struct host *h)
{
	char why[80];

	snprintf(why, sizeof(why), "time budget of %lld ms exceeded",
		 (long long)h->settings->engine.budget_ms);
	host_kill_engine(h, true, why);
}

/* Results that nobody takes: the engine waits, and is not to blame. If they are taken, and there
 * are always more, it is no waiting. */
static bool is_held(const struct host *h, const struct tap_look *look)
{
	return h->ops->port_holding(h->port) ||
	       (look->out_waiting > look->out_bytes / 4 * 3 && look->out_taken == h->seen_taken);
}

/* A line of /proc about the engine. ret: false if there is none. */
static bool read_proc(const struct host *h, const char *what, char *buf, size_t size)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)worker_pid(h->worker), what);
	FILE *f = fopen(path, "re");
	bool there = f != NULL && fgets(buf, (int)size, f) != NULL;

	if (f != NULL)
		fclose(f);
	return there;
}

/* What of the time that passed is the engine's: all of it while it sleeps; while it wants to run, what it
 * did run, but no less than half, so that a crowd of endless loops comes to an end. On a machine that has
 * too much to do the rest is nobody's fault. */
static int64_t charge_ms(struct host *h, int64_t passed_ms)
{
	char line[512];
	unsigned long long ran_ns;
	const char *state = read_proc(h, "stat", line, sizeof(line)) ? strrchr(line, ')') : NULL;

	if (state == NULL || strncmp(state, ") R", 3) != 0 ||
	    !read_proc(h, "schedstat", line, sizeof(line)) || sscanf(line, "%llu", &ran_ns) != 1)
		return passed_ms;
	if (h->seen_ran_ns == 0 || h->seen_ran_ns > ran_ns)
		h->seen_ran_ns = ran_ns;
	int64_t ran_ms = (int64_t)(ran_ns - h->seen_ran_ns) / 1000000;
	if (ran_ms > passed_ms)
		ran_ms = passed_ms;
	h->seen_ran_ns += (uint64_t)ran_ms * 1000000;
	return ran_ms > passed_ms / 2 ? ran_ms : passed_ms / 2;
}

/* ret: true while there is something to wait for. */
static bool watch_running(struct host *h, int64_t passed_ms)
{
	int64_t budget = h->settings->engine.budget_ms;
	struct tap_look look;

	tap_watch_look(h->watch, &look);
	if (!look.sane) {
		host_broken(h);
		return true;
	}
	if (h->state != HOST_RUNNING)
		look.waiting = 0; /* it has not been told to look at its ring yet */
	bool busy = h->first != NULL || look.waiting > 0;
	h->idle_ms =
		busy || (h->state == HOST_RUNNING && !look.asleep) ? 0 : h->idle_ms + passed_ms;
	if (!busy && h->idle_ms > IDLE_AFTER_MS)
		return false;

	bool answered = h->answered != h->seen_answered, held = is_held(h, &look);
	/* the budget is that of one evaluation, and a message can go through many: each says what
	 * it is */
	if (!busy || answered || look.done != h->seen_done || look.doing != h->seen_doing || held) {
		h->stalled_ms = 0;
		h->seen_ran_ns = 0;
	} else {
		passed_ms = charge_ms(h, passed_ms);
		if (h->stalled_ms < budget / 2 && h->stalled_ms + passed_ms >= budget / 2 &&
		    look.waiting > 0 && write(worker_wake_fd(h->worker), "w", 1) < 0 &&
		    errno != EAGAIN)
			log_debug("engine.wake_failed", KV("errno", errno));
		h->stalled_ms += passed_ms;
	}
	h->unanswered_ms = answered || held || h->first == NULL ? 0 : h->unanswered_ms + passed_ms;
	h->seen_done = look.done;
	h->seen_doing = look.doing;
	h->seen_taken = look.out_taken;
	h->seen_answered = h->answered;
	if (h->stalled_ms >= budget || h->unanswered_ms >= ANSWER_BUDGETS * budget)
		out_of_time(h);
	return true;
}

void host_on_tick(void *arg)
{
	struct host *h = arg;
	int64_t now = loop_now_ms(h->loop), passed = now - h->last_tick_ms;
	bool again = true;

	h->ticking = false;
	if (h->worker == NULL)
		return;
	h->last_tick_ms = now;
	/* If it was us who stood still, that is not held against the engine. */
	if (passed > 2 * h->tick_ms)
		passed = 2 * h->tick_ms;
	worker_drain(h->worker);
	if (h->state == HOST_STARTING) {
		if (now - h->started_ms >= START_LIMIT_MS)
			host_kill_engine(h, false, "the engine did not become ready");
	} else {
		again = watch_running(h, passed);
	}
	if (again && !h->ticking) {
		h->ticking = true;
		loop_arm(h->loop, h->tick_timer, h->tick_ms);
	}
}
