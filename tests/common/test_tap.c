/* common/tap: what the rings promise to both sides, also when the other side lies. */
#include "common/tap.h"

#include "common/util.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
/* after what it needs */
#include <cmocka.h>

/* Places in the out-memfd, docs/ring.rst. */
#define IN_HEAD  0
#define OUT_TAIL 64
#define RING     4096

struct both {
	struct tap_fds fds;
	struct tap *t;
	struct tap_peer *p;
	unsigned char *raw; /* the out-memfd as a hostile engine has it */
};

static void attach(struct both *b)
{
	assert_int_equal(tap_attach(b->fds.in_ro_fd, b->fds.out_fd, &b->p, NULL), 0);
	if (b->raw != NULL)
		munmap(b->raw, RING * 2);
	b->raw = mmap(NULL, RING * 2, PROT_READ | PROT_WRITE, MAP_SHARED, b->fds.out_fd, 0);
	assert_ptr_not_equal(b->raw, MAP_FAILED);
}

/* The engine is dead, the next one gets rings. */
static void renew(struct both *b, bool skip_current, struct tap_rec *ret_skipped)
{
	tap_retire(b->t, skip_current, ret_skipped);
	assert_int_equal(tap_make_out(&b->fds, NULL), 0);
	assert_int_equal(tap_set_out(b->t, b->fds.out_fd, NULL), 0);
}

static int begin(void **state)
{
	struct both *b = calloc(1, sizeof(*b));
	assert_non_null(b);
	assert_int_equal(tap_make(RING, RING, &b->fds, NULL), 0);
	assert_int_equal(tap_open(b->fds.in_fd, b->fds.out_fd, &b->t, NULL), 0);
	attach(b);
	*state = b;
	return 0;
}

static int end(void **state)
{
	struct both *b = *state;
	munmap(b->raw, RING * 2);
	tap_detach(b->p);
	tap_close(b->t);
	tap_fds_done(&b->fds);
	free(b);
	return 0;
}

static void poke(struct both *b, size_t at, uint64_t value)
{
	atomic_store((_Atomic uint64_t *)(void *)(b->raw + at), value);
}

static uint64_t peek(struct both *b, size_t at)
{
	return atomic_load((_Atomic uint64_t *)(void *)(b->raw + at));
}

static int push(struct both *b, uint32_t slot, const char *text)
{
	struct tap_rec rec = {.slot = slot, .qos = 1, .len = (uint32_t)strlen(text)};
	return tap_push(b->t, &rec, text);
}

static int reply(struct both *b, uint32_t slot, const char *text)
{
	struct tap_rec rec = {
		.slot = slot, .qos = 2, .flags = TAP_FLAG_DUP, .len = (uint32_t)strlen(text)};
	return tap_reply(b->p, &rec, text);
}

static void records_arrive_as_they_were_sent(void **state)
{
	struct both *b = *state;
	struct tap_rec rec;
	char buf[64];
	assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 0);
	assert_int_equal(tap_pull(b->t, &rec, buf, sizeof(buf)), 0);

	assert_int_equal(push(b, 7, "seven"), 0);
	assert_int_equal(push(b, 8, ""), 0);
	assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 1);
	assert_int_equal(rec.slot, 7);
	assert_int_equal(rec.qos, 1);
	assert_int_equal(rec.flags, 0);
	assert_int_equal(rec.len, 5);
	assert_memory_equal(buf, "seven", 5);
	/* looking consumes nothing */
	assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 1);
	assert_int_equal(rec.slot, 7);
	tap_consume(b->p);
	tap_consume(b->p); /* nothing shown: nothing happens */
	assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 1);
	assert_int_equal(rec.slot, 8);
	assert_int_equal(rec.len, 0);

	assert_int_equal(reply(b, 3, "three"), 0);
	assert_int_equal(tap_pull(b->t, &rec, buf, sizeof(buf)), 1);
	assert_int_equal(rec.slot, 3);
	assert_int_equal(rec.qos, 2);
	assert_int_equal(rec.flags, TAP_FLAG_DUP);
	assert_memory_equal(buf, "three", 5);
	assert_int_equal(tap_pull(b->t, &rec, buf, sizeof(buf)), 0);
}

static void assert_same(const struct tap_rec *a, const struct tap_rec *b)
{
	assert_int_equal(a->slot, b->slot);
	assert_int_equal(a->qos, b->qos);
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->len, b->len);
}

static void every_length_survives_every_wrap(void **state)
{
	struct both *b = *state;
	char out[300], in[300];
	for (unsigned i = 0; i < 5000; i++) {
		struct tap_rec rec = {.slot = i, .qos = (uint8_t)(i % 3), .len = i * 7 % 300}, got;
		memset(out, (int)(i & 0xff), sizeof(out));
		assert_int_equal(tap_push(b->t, &rec, out), 0);
		assert_int_equal(tap_next(b->p, &got, in, sizeof(in)), 1);
		assert_same(&rec, &got);
		assert_memory_equal(in, out, rec.len);
		assert_int_equal(tap_reply(b->p, &got, in), 0);
		tap_consume(b->p);
		assert_int_equal(tap_pull(b->t, &got, in, sizeof(in)), 1);
		assert_same(&rec, &got);
		assert_memory_equal(in, out, rec.len);
	}
}

static void a_full_ring_takes_nothing_and_loses_nothing(void **state)
{
	struct both *b = *state;
	struct tap_rec rec;
	char buf[64], text[32];
	unsigned pushed = 0, replied = 0;
	for (; snprintf(text, sizeof(text), "n%u", pushed) > 0 && push(b, pushed, text) == 0;
	     pushed++)
		assert_true(pushed < RING);
	assert_int_equal(pushed, RING / 24);
	assert_int_equal(push(b, 0, "x"), ERR_AGAIN);
	for (; reply(b, replied, "r") == 0; replied++)
		assert_true(replied < RING);
	assert_int_equal(reply(b, 0, "x"), ERR_AGAIN);

	assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 1);
	assert_int_equal(push(b, 0, "x"), ERR_AGAIN); /* shown is not consumed */
	tap_consume(b->p);
	assert_int_equal(push(b, pushed, "x"), 0);
	assert_int_equal(push(b, 0, "x"), ERR_AGAIN);
	for (unsigned i = 1; i <= pushed; i++) {
		assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 1);
		assert_int_equal(rec.slot, i);
		tap_consume(b->p);
	}
	for (unsigned i = 0; i < replied; i++) {
		assert_int_equal(tap_pull(b->t, &rec, buf, sizeof(buf)), 1);
		assert_int_equal(rec.slot, i);
	}
	assert_int_equal(reply(b, 9, "again"), 0);
}

static void what_can_never_fit_is_refused(void **state)
{
	struct both *b = *state;
	static const char zeros[RING];
	struct tap_rec rec = {.len = RING - 16};
	assert_int_equal(tap_push(b->t, &rec, zeros), 0);
	assert_int_equal(tap_reply(b->p, &rec, zeros), 0);
	rec.len = RING - 15;
	assert_int_equal(tap_push(b->t, &rec, zeros), ERR_RANGE);
	assert_int_equal(tap_reply(b->p, &rec, zeros), ERR_RANGE);
	rec.len = UINT32_MAX;
	assert_int_equal(tap_push(b->t, &rec, zeros), ERR_RANGE);
	rec = (struct tap_rec){.qos = 3};
	assert_int_equal(tap_push(b->t, &rec, zeros), ERR_RANGE);
	assert_int_equal(tap_reply(b->p, &rec, zeros), ERR_RANGE);
}

static void a_message_longer_than_the_buffer_can_be_skipped(void **state)
{
	struct both *b = *state;
	struct tap_rec rec;
	char buf[4];
	assert_int_equal(push(b, 1, "longer than four"), 0);
	assert_int_equal(push(b, 2, "four"), 0);
	assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), ERR_RANGE);
	assert_int_equal(rec.slot, 1);
	tap_consume(b->p);
	assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 1);
	assert_int_equal(rec.slot, 2);
}

static void a_hostile_result_cursor_is_a_broken_peer(void **state)
{
	struct both *b = *state;
	struct tap_rec rec;
	char buf[RING];
	static const uint64_t lies[] = {1, 15, RING + 1, RING + 8, UINT64_MAX, UINT64_C(1) << 63};
	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		poke(b, OUT_TAIL, lies[i]);
		assert_int_equal(tap_pull(b->t, &rec, buf, sizeof(buf)), ERR_PEER);
	}
}

static void a_hostile_result_header_is_a_broken_peer(void **state)
{
	struct both *b = *state;
	struct tap_rec rec;
	char buf[RING];
	static const struct {
		uint32_t len;
		uint8_t qos;
	} lies[] = {{UINT32_MAX, 0}, {UINT32_MAX - 7, 0}, {49, 0}, {RING, 0}, {0, 3}, {0, 255}};
	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		memcpy(b->raw + RING, &lies[i].len, sizeof(lies[i].len));
		b->raw[RING + 8] = lies[i].qos;
		poke(b, OUT_TAIL, 64);
		assert_int_equal(tap_pull(b->t, &rec, buf, sizeof(buf)), ERR_PEER);
	}
	/* possible, but longer than the reader takes */
	uint32_t len = 48;
	memcpy(b->raw + RING, &len, sizeof(len));
	b->raw[RING + 8] = 0;
	assert_int_equal(tap_pull(b->t, &rec, buf, 47), ERR_PEER);
	assert_int_equal(tap_pull(b->t, &rec, buf, 48), 1);
}

static void a_hostile_message_cursor_is_a_broken_peer(void **state)
{
	struct both *b = *state;
	struct tap_rec rec;
	uint64_t done, waiting;
	assert_int_equal(push(b, 1, "12345678"), 0); /* 24 bytes */
	assert_int_equal(push(b, 2, "12345678"), 0);
	/* beyond what was written; between records */
	static const uint64_t lies[] = {49, 72, UINT64_MAX, 8, 16, 23, 25, 47};
	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		poke(b, IN_HEAD, lies[i]);
		assert_int_equal(tap_progress(b->t, &done, &waiting), ERR_PEER);
		assert_int_equal(tap_current(b->t, &rec), ERR_PEER);
	}
	poke(b, IN_HEAD, 24);
	assert_int_equal(tap_progress(b->t, &done, &waiting), 0);
	assert_int_equal(done, 24);
	assert_int_equal(waiting, 24);
	assert_int_equal(tap_current(b->t, &rec), 1);
	assert_int_equal(rec.slot, 2);
	poke(b, IN_HEAD, 0); /* backwards */
	assert_int_equal(tap_progress(b->t, &done, &waiting), ERR_PEER);
	/* a push that looks at it says so too */
	int rc;
	while ((rc = push(b, 3, "12345678")) == 0)
		continue;
	assert_int_equal(rc, ERR_PEER);
}

static void the_engine_cannot_write_the_in_ring(void **state)
{
	struct both *b = *state;
	int fd = b->fds.in_ro_fd;
	assert_ptr_equal(mmap(NULL, RING, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(ftruncate(b->fds.out_fd, 0), -1);
	assert_int_equal(ftruncate(b->fds.out_fd, (off_t)1 << 30), -1);
	void *p = mmap(NULL, RING, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(mprotect(p, RING, PROT_READ | PROT_WRITE), -1);
	munmap(p, RING);
	/* nobody can freeze a ring either */
	assert_int_equal(fcntl(b->fds.out_fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(fcntl(b->fds.in_fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
}

static void a_replacement_goes_on_where_the_last_one_was(void **state)
{
	struct both *b = *state;
	struct tap_rec rec;
	uint64_t done, waiting;
	char buf[64];
	for (uint32_t i = 1; i <= 4; i++)
		assert_int_equal(push(b, i, "message"), 0);
	assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 1);
	assert_int_equal(reply(b, 1, "one"), 0);
	tap_consume(b->p);
	assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 1); /* dies in this one */
	assert_int_equal(rec.slot, 2);
	assert_int_equal(tap_pull(b->t, &rec, buf, sizeof(buf)), 1);

	assert_int_equal(tap_current(b->t, &rec), 1);
	assert_int_equal(rec.slot, 2);
	b->p = tap_detach(b->p);
	renew(b, true, &rec);
	assert_int_equal(rec.slot, 2);
	/* nobody there yet: quiet, not broken */
	assert_int_equal(tap_pull(b->t, &rec, buf, sizeof(buf)), 0);
	assert_int_equal(tap_progress(b->t, &done, &waiting), 0);
	assert_int_equal(waiting, 2 * 24);
	assert_int_equal(tap_doing(b->t), 0);
	assert_int_equal(push(b, 5, "message"), 0);

	attach(b);
	for (uint32_t i = 3; i <= 5; i++) {
		assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 1);
		assert_int_equal(rec.slot, i);
		assert_int_equal(reply(b, i, "again"), 0);
		tap_consume(b->p);
		assert_int_equal(tap_pull(b->t, &rec, buf, sizeof(buf)), 1);
		assert_int_equal(rec.slot, i);
		assert_memory_equal(buf, "again", 5);
	}

	/* without blame nothing is skipped; with an empty ring there is nothing to skip */
	assert_int_equal(push(b, 6, "message"), 0);
	b->p = tap_detach(b->p);
	renew(b, false, &rec);
	assert_int_equal(rec.slot, UINT32_MAX);
	attach(b);
	assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 1);
	assert_int_equal(rec.slot, 6);
	tap_consume(b->p);
	b->p = tap_detach(b->p);
	renew(b, true, &rec);
	assert_int_equal(rec.slot, UINT32_MAX);
	attach(b);
}

static void a_liars_replacement_starts_with_an_empty_ring(void **state)
{
	struct both *b = *state;
	struct tap_rec rec;
	char buf[64];
	assert_int_equal(push(b, 1, "message"), 0);
	assert_int_equal(push(b, 2, "message"), 0);
	poke(b, IN_HEAD, 3);
	b->p = tap_detach(b->p);
	renew(b, true, &rec);
	assert_int_equal(rec.slot, UINT32_MAX);
	attach(b);
	assert_int_equal(peek(b, IN_HEAD), 48);
	assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 0);
	assert_int_equal(push(b, 3, "message"), 0);
	assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 1);
	assert_int_equal(rec.slot, 3);
}

static void the_next_trusted_side_goes_on_where_the_last_one_was(void **state)
{
	struct both *b = *state;
	struct tap_rec rec;
	uint64_t done, waiting;
	char buf[64];
	for (uint32_t i = 1; i <= 3; i++)
		assert_int_equal(push(b, i, "message"), 0);
	assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 1);
	tap_consume(b->p);
	assert_int_equal(reply(b, 11, "one"), 0);
	assert_int_equal(reply(b, 12, "two"), 0);
	assert_int_equal(tap_pull(b->t, &rec, buf, sizeof(buf)), 1);

	b->t = tap_close(b->t); /* nobody says goodbye at kill -9 */
	assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 1);
	tap_consume(b->p);
	assert_int_equal(tap_open(b->fds.in_fd, b->fds.out_fd, &b->t, NULL), 0);
	assert_int_equal(tap_progress(b->t, &done, &waiting), 0);
	assert_int_equal(done, 48);
	assert_int_equal(waiting, 24);
	assert_int_equal(push(b, 4, "message"), 0);
	for (uint32_t i = 3; i <= 4; i++) {
		assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 1);
		assert_int_equal(rec.slot, i);
		tap_consume(b->p);
	}
	assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 0);
	assert_int_equal(tap_pull(b->t, &rec, buf, sizeof(buf)), 1);
	assert_int_equal(rec.slot, 12);
	assert_int_equal(tap_pull(b->t, &rec, buf, sizeof(buf)), 0);
}

static void rings_without_an_engine_take_messages_and_give_nothing(void **state)
{
	struct both *b = *state;
	struct tap_rec rec;
	char buf[64];
	assert_int_equal(reply(b, 1, "late"), 0);
	b->p = tap_detach(b->p);
	tap_retire(b->t, false, NULL);
	assert_int_equal(tap_pull(b->t, &rec, buf, sizeof(buf)), 0);
	assert_false(tap_engine_sleeps(b->t));
	int rc;
	unsigned n = 0;
	while ((rc = push(b, n, "message")) == 0)
		n++;
	assert_int_equal(rc, ERR_AGAIN);
	assert_int_equal(n, RING / 24);
	b->t = tap_close(b->t);
	assert_int_equal(tap_open(b->fds.in_fd, -1, &b->t, NULL), 0);
	assert_int_equal(push(b, n, "message"), ERR_AGAIN);
	assert_int_equal(tap_make_out(&b->fds, NULL), 0);
	assert_int_equal(tap_set_out(b->t, b->fds.out_fd, NULL), 0);
	attach(b);
	for (uint32_t i = 0; i < n; i++) {
		assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 1);
		assert_int_equal(rec.slot, i);
		tap_consume(b->p);
	}
}

static void results_can_be_looked_at_before_they_are_taken(void **state)
{
	struct both *b = *state;
	struct tap_rec rec;
	char buf[16];
	assert_int_equal(tap_peek(b->t, &rec), 0);
	tap_take(b->t, NULL); /* nothing shown: nothing happens */
	assert_int_equal(reply(b, 1, "one"), 0);
	assert_int_equal(reply(b, 2, "second"), 0);
	assert_true(tap_untaken(b->p));
	assert_int_equal(tap_peek(b->t, &rec), 1);
	assert_int_equal(rec.len, 3);
	assert_int_equal(tap_peek(b->t, &rec), 1);
	/* the engine changes its mind: what was checked counts */
	uint32_t lie = 4000;
	memcpy(b->raw + RING, &lie, sizeof(lie));
	tap_take(b->t, buf);
	assert_memory_equal(buf, "one", 3);
	assert_int_equal(tap_peek(b->t, &rec), 1);
	assert_int_equal(rec.slot, 2);
	tap_take(b->t, NULL);
	assert_int_equal(tap_peek(b->t, &rec), 0);
	assert_false(tap_untaken(b->p));
}

static void an_onlooker_sees_how_far_both_are(void **state)
{
	struct both *b = *state;
	struct tap_watch *w = NULL;
	struct tap_look look;
	struct tap_rec rec;
	char buf[64];
	assert_int_equal(tap_watch_open(b->fds.in_ro_fd, b->fds.out_fd, &w, NULL), 0);
	assert_int_equal(push(b, 1, "message"), 0);
	assert_int_equal(push(b, 2, "message"), 0);
	assert_int_equal(tap_next(b->p, &rec, buf, sizeof(buf)), 1);
	tap_consume(b->p);
	assert_int_equal(reply(b, 1, "a result"), 0);
	tap_set_doing(b->p, 77);
	tap_watch_look(w, &look);
	assert_true(look.sane);
	assert_int_equal(look.done, 24);
	assert_int_equal(look.waiting, 24);
	assert_int_equal(look.out_taken, 0);
	assert_int_equal(look.out_waiting, 24);
	assert_int_equal(look.out_bytes, RING);
	assert_int_equal(look.doing, 77);
	assert_int_equal(look.doing_at, 24);
	poke(b, IN_HEAD, 100000);
	poke(b, OUT_TAIL, UINT64_MAX);
	tap_watch_look(w, &look);
	assert_false(look.sane);
	assert_int_equal(look.out_waiting, RING);
	tap_watch_close(w);
}

static void what_is_no_ring_is_not_attached(void **state)
{
	struct both *b = *state;
	struct tap_peer *p = NULL;
	struct err err = {0};
	CLEANUP(closep)
	int fd = memfd_create("other", MFD_CLOEXEC);
	assert_int_equal(tap_attach(fd, b->fds.out_fd, &p, &err), ERR_PEER);
	assert_int_equal(ftruncate(fd, RING * 2), 0);
	assert_int_equal(tap_attach(fd, b->fds.out_fd, &p, &err), ERR_PEER);
	assert_int_equal(ftruncate(fd, RING), 0);
	assert_int_equal(tap_attach(b->fds.in_ro_fd, fd, &p, &err), ERR_PEER);
	assert_int_equal(tap_attach(-1, -1, &p, &err), ERR_SYS);
	assert_true(err.text[0] != '\0');
	assert_null(p);
	struct tap *t = NULL;
	struct tap_watch *w = NULL;
	struct tap_fds f = TAP_FDS_NONE;
	assert_int_equal(tap_open(fd, -1, &t, &err), ERR_PEER);
	assert_int_equal(tap_open(b->fds.in_fd, fd, &t, &err), ERR_PEER);
	assert_int_equal(tap_open(b->fds.in_ro_fd, -1, &t, &err), ERR_ACCES); /* no right to write */
	assert_int_equal(tap_watch_open(b->fds.in_ro_fd, fd, &w, &err), ERR_PEER);
	assert_int_equal(tap_set_out(b->t, fd, &err), ERR_PEER);
	assert_int_equal(tap_fds_adopt(dup(fd), dup(fd), &f, &err), ERR_PEER);
	assert_null(t);
	assert_null(w);
	assert_int_equal(f.in_fd, -1);
	assert_int_equal(tap_fds_adopt(dup(b->fds.in_fd), dup(b->fds.out_fd), &f, &err), 0);
	assert_int_equal(fcntl(f.in_ro_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	tap_fds_done(&f);
}

static void sleep_and_doing_are_seen_by_the_other_side(void **state)
{
	struct both *b = *state;
	assert_false(tap_engine_sleeps(b->t));
	tap_peer_set_asleep(b->p, true);
	assert_true(tap_engine_sleeps(b->t));
	tap_peer_set_asleep(b->p, false);
	assert_false(tap_engine_sleeps(b->t));
	assert_false(tap_trusted_sleeps(b->p));
	tap_set_asleep(b->t, true);
	assert_true(tap_trusted_sleeps(b->p));
	tap_set_asleep(b->t, false);
	assert_false(tap_trusted_sleeps(b->p));
	tap_set_doing(b->p, UINT64_C(0x0102030405060708));
	assert_int_equal(tap_doing(b->t), UINT64_C(0x0102030405060708));
}

#define ECHOES 200000u

/* The engine: echoes every message, waits for room as long as it takes. */
static void *echo(void *arg)
{
	struct both *b = arg;
	char buf[256];
	for (unsigned i = 0; i < ECHOES;) {
		struct tap_rec rec;
		int rc = tap_next(b->p, &rec, buf, sizeof(buf));
		if (rc < 0)
			return "tap_next failed";
		if (rc == 0) {
			sched_yield();
			continue;
		}
		while ((rc = tap_reply(b->p, &rec, buf)) == ERR_AGAIN)
			sched_yield();
		if (rc < 0)
			return "tap_reply failed";
		tap_consume(b->p);
		i++;
	}
	return NULL;
}

static void two_threads_lose_and_reorder_nothing(void **state)
{
	struct both *b = *state;
	pthread_t thread;
	char buf[256], want[256];
	void *why = NULL;
	assert_int_equal(pthread_create(&thread, NULL, echo, b), 0);
	for (unsigned sent = 0, got = 0; got < ECHOES;) {
		struct tap_rec rec = {.slot = sent, .len = sent % 200};
		memset(buf, (int)(sent & 0xff), rec.len);
		int rc = sent < ECHOES ? tap_push(b->t, &rec, buf) : ERR_AGAIN;
		assert_true(rc == 0 || rc == ERR_AGAIN);
		sent += rc == 0;
		int pulled;
		while ((pulled = tap_pull(b->t, &rec, buf, sizeof(buf))) == 1) {
			assert_int_equal(rec.slot, got);
			assert_int_equal(rec.len, got % 200);
			memset(want, (int)(got & 0xff), rec.len);
			assert_memory_equal(buf, want, rec.len);
			got++;
		}
		assert_int_equal(pulled, 0);
		if (rc == ERR_AGAIN)
			sched_yield();
	}
	pthread_join(thread, &why);
	assert_null(why);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		T(records_arrive_as_they_were_sent),
		T(every_length_survives_every_wrap),
		T(a_full_ring_takes_nothing_and_loses_nothing),
		T(what_can_never_fit_is_refused),
		T(a_message_longer_than_the_buffer_can_be_skipped),
		T(a_hostile_result_cursor_is_a_broken_peer),
		T(a_hostile_result_header_is_a_broken_peer),
		T(a_hostile_message_cursor_is_a_broken_peer),
		T(the_engine_cannot_write_the_in_ring),
		T(a_replacement_goes_on_where_the_last_one_was),
		T(a_liars_replacement_starts_with_an_empty_ring),
		T(the_next_trusted_side_goes_on_where_the_last_one_was),
		T(rings_without_an_engine_take_messages_and_give_nothing),
		T(results_can_be_looked_at_before_they_are_taken),
		T(an_onlooker_sees_how_far_both_are),
		T(what_is_no_ring_is_not_attached),
		T(sleep_and_doing_are_seen_by_the_other_side),
		T(two_threads_lose_and_reorder_nothing),
	};
	return cmocka_run_group_tests_name("tap", tests, NULL, NULL);
}
