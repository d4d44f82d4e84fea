#include "agent/graph/host_int.h"
#include "common/log.h"
#include "common/util.h"
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define START_LIMIT_MS 15000 /* from asking the keeper to ready, on a busy machine */
/* An engine is looked at for so long after it was last seen at work: the transport tells that it
 * was woken, but not each time at once. */
#define IDLE_AFTER_MS 150
/* An engine that evaluates but does not answer is given this many budgets; so is one that says
 * again and again that it runs another function of the same message, or has results without end. */
#define ANSWER_BUDGETS 10
/* Who has computed for such a part of the budget is not kept from its work by others. */
#define MUCH 8

/* What was observed so far is not held against the engine any more. */
void host_forgive(struct host *h)
{
	h->stalled_ms = h->unanswered_ms = h->unmoved_ms = h->computed_ms = h->idle_ms = 0;
	h->last_tick_ms = loop_now_ms(h->loop);
	h->seen_done = 0; /* another engine may have had another idea of it */
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

/* ret: bytes of /proc/<pid>/<name> in text, 0 if there is none. */
static size_t read_proc(pid_t pid, const char *name, char *text, size_t cap)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	CLEANUP(closep)
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, cap - 1) : -1;

	text[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

/* A kernel without these figures: nothing is known. */
static struct cpu cpu_of(pid_t pid)
{
	char text[80];
	uint64_t ran_ns, starved_ns;

	if (read_proc(pid, "schedstat", text, sizeof(text)) == 0 ||
	    sscanf(text, "%" SCNu64 " %" SCNu64, &ran_ns, &starved_ns) != 2)
		return (struct cpu){0};
	return (struct cpu){.known = true,
			    .ran_ms = (int64_t)(ran_ns / 1000000),
			    .starved_ms = (int64_t)(starved_ns / 1000000)};
}

/* It would run, or waits in the kernel for what no function can wait for (a page, a disk). */
static bool is_kept_waiting(pid_t pid)
{
	char text[200];
	const char *name_end =
		read_proc(pid, "stat", text, sizeof(text)) > 0 ? strrchr(text, ')') : NULL;

	return name_end != NULL &&
	       (strncmp(name_end, ") R", 3) == 0 || strncmp(name_end, ") D", 3) == 0);
}

static int64_t at_most(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* How much of the time in which it stood still is its own. None, if it had no processor at all: the
 * machine stood still, and it is not the cause. Where others had the processors for a part of the
 * time, half of it at least: a machine that is that busy needs it gone. All of it, once it has
 * computed much. While it waits for its results to be taken, only what it computes all the same. */
static int64_t own_ms(struct host *h, int64_t passed_ms, bool held)
{
	pid_t pid = worker_pid(h->worker);
	struct cpu before = h->cpu, now = cpu_of(pid);

	h->cpu = now;
	if (!before.known || !now.known)
		return held ? 0 : passed_ms;
	int64_t ran = now.ran_ms - before.ran_ms, starved = now.starved_ms - before.starved_ms;

	h->computed_ms += ran;
	if (held)
		return at_most(ran, passed_ms);
	if (h->computed_ms > h->settings->engine.budget_ms / MUCH)
		return passed_ms;
	if (ran == 0 && is_kept_waiting(pid))
		return 0;
	return passed_ms - at_most(starved, passed_ms / 2);
}

/* It stands still at one message or request, whatever it says of it. */
static void count_stalled(struct host *h, const struct tap_look *look, int64_t passed_ms)
{
	int64_t half = h->settings->engine.budget_ms / 2, before = h->stalled_ms;
	bool held = is_held(h, look);
	int64_t own = own_ms(h, passed_ms, held);

	h->unmoved_ms += own;
	/* the budget is that of one evaluation, and a message can go through many: each says what
	 * it is */
	h->stalled_ms = look->doing != h->seen_doing ? 0 : h->stalled_ms + own;
	if (before < half && h->stalled_ms >= half && look->waiting > 0 &&
	    write(worker_wake_fd(h->worker), "w", 1) < 0 && errno != EAGAIN)
		log_debug("engine.wake_failed", KV("errno", errno));
}

/* ret: true while there is something to wait for. */
static bool watch_running(struct host *h, int64_t passed_ms)
{
	int64_t budget = h->settings->engine.budget_ms;
	struct tap_look look;

	tap_watch_look(h->watch, &look);
	if (!look.sane || look.done < h->seen_done) { /* nothing is undone */
		host_broken(h);
		return true;
	}
	if (h->state != HOST_RUNNING)
		look.waiting = 0; /* it has not been told to look at its ring yet */
	bool busy = h->first != NULL || look.waiting > 0;
	/* one that is awake may claim that it has done all there is */
	bool active = busy || (h->state == HOST_RUNNING && !look.asleep);
	h->idle_ms = active ? 0 : h->idle_ms + passed_ms;
	if (h->idle_ms > IDLE_AFTER_MS)
		return false;

	bool answered = h->answered != h->seen_answered, held = is_held(h, &look);
	if (!active || answered || look.done != h->seen_done) {
		h->stalled_ms = h->unmoved_ms = h->computed_ms = 0;
		h->cpu.known = false;
	} else {
		count_stalled(h, &look, passed_ms);
	}
	h->unanswered_ms = answered || held || h->first == NULL ? 0 : h->unanswered_ms + passed_ms;
	h->seen_done = look.done;
	h->seen_doing = look.doing;
	h->seen_taken = look.out_taken;
	h->seen_answered = h->answered;
	if (h->stalled_ms >= budget || h->unanswered_ms >= ANSWER_BUDGETS * budget ||
	    h->unmoved_ms >= ANSWER_BUDGETS * budget)
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
