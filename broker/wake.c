#include "broker/wake.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* From the end of a tick to mosquitto's wait it takes microseconds as a rule; longer while it
 * writes much. */
#define FIRST_NS 50000
#define AGAIN_NS 500000
#define GUARD_NS 2000000

/* Signals belong to the process, and a handler gets no argument of ours. */
static volatile sig_atomic_t kicked, timer_runs;
static timer_t timer;
static bool started, guarded;
static sigset_t mask_before;

static void set_timer(long first_ns, long again_ns)
{
	const struct itimerspec t = {
		.it_value = {.tv_nsec = first_ns},
		.it_interval = {.tv_nsec = again_ns},
	};

	timer_settime(timer, 0, &t, NULL);
}

void wake_soon(void)
{
	if (!started || timer_runs)
		return;
	timer_runs = 1;
	set_timer(FIRST_NS, AGAIN_NS);
}

/* Whether the signal came during a wait, which ends with EINTR then. Other calls are restarted
 * (SA_RESTART), so their context does not look like this. No is always a safe answer; a wrong yes
 * costs a wait of 100 ms. */
static bool ended_a_wait(const ucontext_t *context)
{
#if defined(__x86_64__)
	return context->uc_mcontext.gregs[REG_RAX] == -EINTR;
#elif defined(__aarch64__)
	return (int64_t)context->uc_mcontext.regs[0] == -EINTR;
#else
	(void)context;
	return false;
#endif
}

static void on_signal(int signo, siginfo_t *info, void *context)
{
	int saved = errno;

	(void)signo;
	(void)info;
	kicked = 1;
	if (!ended_a_wait(context))
		wake_soon();
	errno = saved;
}

int wake_start(struct err *err)
{
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_RESTART | SA_SIGINFO};
	struct sigaction before;
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGIO};
	sigset_t io;

	if (sigaction(SIGIO, NULL, &before) < 0)
		return err_sys(err, "SIGIO");
	if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
		return err_set(err, ERR_BUSY, "somebody else in the broker uses SIGIO");
	ev.sigev_notify_thread_id = gettid();
	if (timer_create(CLOCK_MONOTONIC, &ev, &timer) < 0)
		return err_sys(err, "timer_create");
	sigemptyset(&sa.sa_mask);
	sigemptyset(&io);
	sigaddset(&io, SIGIO);
	if (sigaction(SIGIO, &sa, NULL) < 0 ||
	    pthread_sigmask(SIG_UNBLOCK, &io, &mask_before) != 0) {
		int rc = err_sys(err, "SIGIO");

		timer_delete(timer);
		return rc;
	}
	kicked = timer_runs = 0;
	started = true;
	return 0;
}

void wake_stop(void)
{
	const struct sigaction ignore = {.sa_handler = SIG_IGN};

	if (!started)
		return;
	started = guarded = false;
	timer_delete(timer);
	/* Not the default, which would end the process: what is on its way is forgotten. */
	sigaction(SIGIO, &ignore, NULL);
	if (sigismember(&mask_before, SIGIO) == 1)
		pthread_sigmask(SIG_SETMASK, &mask_before, NULL);
}

int wake_watch(int fd, struct err *err)
{
	const struct f_owner_ex owner = {.type = F_OWNER_TID, .pid = gettid()};
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return err_sys(err, "descriptor %d", fd);
	if (started && fcntl(fd, F_SETOWN_EX, &owner) < 0)
		return err_sys(err, "owner of descriptor %d", fd);
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK | (started ? O_ASYNC : 0)) < 0)
		return err_sys(err, "mode of descriptor %d", fd);
	return 0;
}

void wake_unwatch(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags >= 0 && (flags & O_ASYNC) != 0)
		fcntl(fd, F_SETFL, flags & ~O_ASYNC);
}

bool wake_turn(void)
{
	/* A signal before the last line is for work that this turn is about to do; one after it
	 * starts the timer again. In this order: a timer that a signal has started is not stopped
	 * with the word left that it runs. */
	if (timer_runs && !guarded) {
		set_timer(0, 0);
		timer_runs = 0;
	}
	bool was = kicked != 0;
	kicked = 0;
	return was;
}

void wake_guard(void)
{
	if (!started || guarded)
		return;
	guarded = true;
	if (timer_runs) /* more often than we need */
		return;
	timer_runs = 1;
	set_timer(GUARD_NS, GUARD_NS);
}

void wake_rest(void)
{
	if (!guarded)
		return;
	guarded = false;
	set_timer(0, 0);
	timer_runs = 0;
	/* a signal since wake_turn() has relied on the timer */
	if (kicked)
		wake_soon();
}
