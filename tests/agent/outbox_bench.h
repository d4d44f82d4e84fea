/* outbox_bench.h - an outbox with a store in a directory of its own, and a sink that notes what it
 * is sent and answers when the test says so. */
#pragma once

#include "agent/device/outbox.h"
#include "common/util.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define DEVICE      "modbus_master/plc1"
#define PATIENCE_MS 20000

struct sent {
	enum outbox_sink sink;
	uint64_t token;
	char address[40], text[40];
	bool retain, answered;
};

struct told { /* what came of an item, by the number in its text */
	unsigned times;
	int rc;
};

struct bench {
	char dir[64], path[128];
	struct settings settings;
	struct loop *loop;
	struct store *store;
	struct outbox *o;
	json_t *conf;
	struct err err;
	struct sent *log; /* all that was sent */
	size_t n, cap;
	size_t looked; /* of log, by answer() */
	size_t room;   /* sends that are taken before ERR_AGAIN */
	int refuse;    /* what send answers; 0: takes it */
	struct told *told;
	size_t n_told;
	struct wait *waits; /* all */
};

struct wait {
	struct bench *b;
	size_t number;
	struct wait *next;
};

static int bench_send(void *arg, enum outbox_sink sink, uint64_t token, const char *address,
		      const char *text, bool retain)
{
	struct bench *b = arg;

	if (b->refuse != 0)
		return b->refuse;
	if (b->room == 0)
		return ERR_AGAIN;
	b->room--;
	if (b->n == b->cap) {
		b->cap = b->cap != 0 ? 2 * b->cap : 64;
		b->log = realloc(b->log, b->cap * sizeof(*b->log));
		assert_non_null(b->log);
	}
	struct sent *s = &b->log[b->n++];

	*s = (struct sent){.sink = sink, .token = token, .retain = retain};
	snprintf(s->address, sizeof(s->address), "%s", address);
	snprintf(s->text, sizeof(s->text), "%s", text);
	return 0;
}

static const struct outbox_ops bench_ops = {.send = bench_send};

MAYBE_UNUSED static int64_t bench_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- begin and end ---- */

MAYBE_UNUSED static void bench_open(struct bench *b)
{
	if (loop_new(&b->loop, &b->err) < 0 ||
	    store_open(b->loop, &b->settings, &b->store, &b->err) < 0 ||
	    outbox_new(b->loop, b->store, NULL, DEVICE, b->conf, &bench_ops, b, &b->o, &b->err) < 0)
		fail_msg("%s", b->err.text);
}

MAYBE_UNUSED static void bench_close(struct bench *b)
{
	b->o = outbox_free(b->o);
	b->store = store_close(b->store);
	b->loop = loop_free(b->loop);
}

/* The process ends in good order, and another one begins; the sink is not there yet. */
MAYBE_UNUSED static void bench_restart(struct bench *b)
{
	bench_close(b);
	b->n = b->looked = 0;
	b->room = SIZE_MAX;
	b->refuse = 0;
	bench_open(b);
}

MAYBE_UNUSED static void bench_conf(struct bench *b, int64_t quota, double age, double rate)
{
	json_decref(b->conf);
	b->conf = json_pack("{s:I, s:f, s:f, s:s}", "quota_bytes", (json_int_t)quota, "max_age",
			    age, "catch_up_rate", rate, "keep", "all");
	assert_non_null(b->conf);
}

MAYBE_UNUSED static struct bench *bench_new(void)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	snprintf(b->dir, sizeof(b->dir), P_tmpdir "/test_outbox.XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	snprintf(b->path, sizeof(b->path), "%s/devices.db", b->dir);
	b->settings.devices_db.url = b->path;
	b->room = SIZE_MAX;
	bench_conf(b, 64 << 20, 3600, 1e6);
	return b;
}

MAYBE_UNUSED static void bench_free(struct bench *b)
{
	bench_close(b);
	DIR *d = opendir(b->dir);

	for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
		if (e->d_name[0] != '.')
			unlinkat(dirfd(d), e->d_name, 0);
	if (d != NULL)
		closedir(d);
	assert_int_equal(rmdir(b->dir), 0);
	json_decref(b->conf);
	for (struct wait *w = b->waits, *next; w != NULL; w = next) {
		next = w->next;
		free(w);
	}
	free(b->log);
	free(b->told);
	free(b);
}

MAYBE_UNUSED static int bench_setup(void **state)
{
	struct bench *b = bench_new();

	bench_open(b);
	*state = b;
	return 0;
}

MAYBE_UNUSED static int bench_teardown(void **state)
{
	bench_free(*state);
	return 0;
}

/* ---- putting ---- */

static void bench_done(void *arg, int rc)
{
	struct wait *w = arg;
	struct told *t = &w->b->told[w->number];

	t->times++;
	t->rc = rc;
}

/* An item whose text is a number; what comes of it is in told[number]. */
MAYBE_UNUSED static void bench_put(struct bench *b, enum outbox_sink sink, const char *address,
				   size_t number, enum outbox_keep keep, bool state)
{
	char text[24];
	struct wait *w = malloc(sizeof(*w));

	assert_non_null(w);
	*w = (struct wait){.b = b, .number = number, .next = b->waits};
	b->waits = w;
	if (number >= b->n_told) {
		size_t n = number < 64 ? 64 : 2 * number;

		b->told = reallocarray(b->told, n, sizeof(*b->told));
		assert_non_null(b->told);
		memset(b->told + b->n_told, 0, (n - b->n_told) * sizeof(*b->told));
		b->n_told = n;
	}
	snprintf(text, sizeof(text), "%zu", number);
	struct outbox_item item = {.sink = sink,
				   .address = address,
				   .text = text,
				   .retain = state,
				   .state = state,
				   .keep = keep,
				   .done = bench_done,
				   .arg = w};

	if (outbox_put(b->o, &item, &b->err) < 0)
		fail_msg("%s", b->err.text);
}

MAYBE_UNUSED static void bench_act(struct bench *b, const char *address, size_t number)
{
	bench_put(b, OUTBOX_EVENTS, address, number, KEEP_NONE, false);
}

MAYBE_UNUSED static void bench_state(struct bench *b, const char *address, size_t number)
{
	bench_put(b, OUTBOX_EVENTS, address, number, KEEP_NONE, true);
}

MAYBE_UNUSED static void bench_latest(struct bench *b, const char *address, size_t number)
{
	bench_put(b, OUTBOX_EVENTS, address, number, KEEP_LATEST, true);
}

MAYBE_UNUSED static void bench_all(struct bench *b, const char *address, size_t number)
{
	bench_put(b, OUTBOX_EVENTS, address, number, KEEP_ALL, false);
}

MAYBE_UNUSED static void bench_up(struct bench *b)
{
	outbox_up(b->o, OUTBOX_EVENTS, true);
}

MAYBE_UNUSED static void bench_down(struct bench *b)
{
	outbox_up(b->o, OUTBOX_EVENTS, false);
}

/* ---- the sink ---- */

/* Answer all that was sent and was not answered, also what is sent meanwhile. */
MAYBE_UNUSED static void bench_answer(struct bench *b)
{
	for (; b->looked < b->n; b->looked++) {
		struct sent *s = &b->log[b->looked];

		if (s->answered)
			continue;
		s->answered = true;
		outbox_sent(b->o, s->token, 0);
	}
}

/* What was sent is, in this order: "address=number ...". */
MAYBE_UNUSED static void bench_expect_of(struct bench *b, size_t from, const char *want)
{
	char have[4096] = "";
	size_t len = 0;

	for (size_t i = from; i < b->n && len < sizeof(have); i++)
		len += (size_t)snprintf(have + len, sizeof(have) - len, "%s%s=%s",
					i > from ? " " : "", b->log[i].address, b->log[i].text);
	assert_string_equal(have, want);
}

MAYBE_UNUSED static void bench_expect(struct bench *b, const char *want)
{
	bench_expect_of(b, 0, want);
}

MAYBE_UNUSED static void bench_expect_told(struct bench *b, size_t number, int rc)
{
	assert_true(number < b->n_told);
	if (b->told[number].times != 1 || b->told[number].rc != rc)
		fail_msg("%zu was told %u times, %d, not %d", number, b->told[number].times,
			 b->told[number].rc, rc);
}

MAYBE_UNUSED static bool bench_is_told(struct bench *b, size_t number)
{
	return number < b->n_told && b->told[number].times > 0;
}

/* ---- time ---- */

#define bench_until(b, condition)                                      \
	do {                                                           \
		int64_t until_ = bench_ms() + PATIENCE_MS;             \
		while (!(condition)) {                                 \
			if (bench_ms() > until_)                       \
				fail_msg("in vain: %s", #condition);   \
			assert_int_equal(loop_turn((b)->loop, 10), 0); \
		}                                                      \
	} while (0)

MAYBE_UNUSED static void bench_turns(struct bench *b, int64_t ms)
{
	for (int64_t end = bench_ms() + ms, now; (now = bench_ms()) < end;)
		assert_int_equal(loop_turn(b->loop, (int)(end - now)), 0);
}

MAYBE_UNUSED static struct outbox_status bench_status(struct bench *b)
{
	struct outbox_status s;

	outbox_get_status(b->o, &s);
	return s;
}
