/* context.c - the loop of a program's devices, as its library offers it. */
#include "dan/public/context.h"

#include "common/log.h"
#include "common/util.h"
#include <assert.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SAME(name) \
	static_assert((int)DAN_##name == (int)ERR_##name, "dan.h promises the codes of err.h")
SAME(NOMEM);
SAME(INVAL);
SAME(NOENT);
SAME(AGAIN);
SAME(BUSY);
SAME(TIMEOUT);
SAME(PARSE);
SAME(SCHEMA);
SAME(BUS);
SAME(PEER);
SAME(SYS);
SAME(LIMIT);
SAME(CONFLICT);
static_assert((int)DAN_LOG_NONE == (int)LOG_LEVEL_NONE &&
		      (int)DAN_LOG_DEBUG == (int)LOG_LEVEL_DEBUG,
	      "levels");
static_assert(sizeof(struct dan_error) == sizeof(struct err), "a text of ours fits");

/* Whoever uses a library has not asked for lines on stderr. */
__attribute__((constructor)) static void be_silent(void)
{
	log_init("dan", LOG_LEVEL_NONE, LOG_FORMAT_TEXT);
}

void dan_set_log(enum dan_log level)
{
	log_level_set(NULL, (enum log_level)level);
}

const char *dan_code_name(int code)
{
	return err_name(code);
}

const char *dan_version(void)
{
	return IOTTALK_VERSION;
}

int dan_tell(struct dan_error *e, const struct err *err)
{
	if (e == NULL)
		return err->code;
	e->code = err->code;
	memcpy(e->text, err->text, sizeof(e->text));
	return err->code;
}

/* ---- life ---- */

static void on_turn_end(void *arg)
{
	dan_bury(arg);
}

int dan_open(struct dan **ret, struct dan_error *reterr)
{
	struct err err = {0};
	struct dan *d = calloc(1, sizeof(*d));
	if (d == NULL || sodium_init() < 0) {
		free(d);
		return dan_tell(reterr, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
	}
	sigemptyset(&d->blocked);
	int rc = loop_new(&d->loop, &err);
	if (rc == 0)
		rc = loop_add_turn(d->loop, on_turn_end, d, &err);
	if (rc == 0)
		rc = fetch_new(d->loop, &d->fetch, &err);
	if (rc < 0) {
		dan_close(d);
		return dan_tell(reterr, &err);
	}
	*ret = d;
	return 0;
}

/* A second signal that came while we were ending was meant for us. */
static void unblock(const sigset_t *set)
{
	const struct timespec no_time = {0};
	while (sigtimedwait(set, NULL, &no_time) > 0)
		continue;
	pthread_sigmask(SIG_UNBLOCK, set, NULL);
}

struct dan *dan_close(struct dan *d)
{
	if (d == NULL)
		return NULL;
	if (d->turning)
		abort(); /* a mistake of the program: closed from a handler */
	dan_part_all(d);
	while (d->devices != NULL)
		dan_device_free(d->devices);
	fetch_free(d->fetch);
	loop_free(d->loop);
	unblock(&d->blocked);
	free(d);
	return NULL;
}

/* ---- running ---- */

int dan_run(struct dan *d)
{
	d->turning = true;
	int rc = loop_run(d->loop);
	d->turning = false;
	return rc;
}

void dan_quit(struct dan *d, int code)
{
	loop_quit(d->loop, code);
}

static void on_signal(void *arg)
{
	struct dan *d = arg;
	loop_quit(d->loop, 0);
}

int dan_quit_on(struct dan *d, int signo, struct dan_error *reterr)
{
	struct err err = {0};
	sigset_t one, before;
	sigemptyset(&one);
	if (sigaddset(&one, signo) < 0) {
		err_set(&err, ERR_INVAL, "no signal %d", signo);
		return dan_tell(reterr, &err);
	}
	pthread_sigmask(SIG_BLOCK, &one, &before);
	int rc = loop_add_signal(d->loop, signo, on_signal, d, &err);
	if (sigismember(&before, signo) == 0) {
		if (rc == 0)
			sigaddset(&d->blocked, signo);
		else
			pthread_sigmask(SIG_UNBLOCK, &one, NULL);
	}
	return rc < 0 ? dan_tell(reterr, &err) : 0;
}

int dan_fd(const struct dan *d)
{
	return loop_fd(d->loop);
}

int dan_timeout_ms(const struct dan *d)
{
	return loop_wait_ms(d->loop);
}

int dan_work(struct dan *d)
{
	d->turning = true;
	int rc = loop_turn(d->loop, 0);
	d->turning = false;
	return rc;
}

int dan_post(struct dan *d, dan_fn *fn, void *arg)
{
	return loop_post(d->loop, fn, arg);
}

/* ---- timers: sources of the loop under another name ---- */

int dan_timer_new(struct dan *d, int64_t first_ms, int64_t every_ms, dan_fn *fn, void *arg,
		  struct dan_timer **ret, struct dan_error *reterr)
{
	struct err err = {0};
	struct loop_src *src = NULL;
	if (loop_add_timer(d->loop, first_ms, every_ms, fn, arg, &src, &err) < 0)
		return dan_tell(reterr, &err);
	if (ret != NULL)
		*ret = (struct dan_timer *)src;
	return 0;
}

void dan_timer_arm(struct dan *d, struct dan_timer *t, int64_t in_ms)
{
	loop_arm(d->loop, (struct loop_src *)t, in_ms);
}

struct dan_timer *dan_timer_free(struct dan *d, struct dan_timer *t)
{
	loop_remove(d->loop, (struct loop_src *)t);
	return NULL;
}
