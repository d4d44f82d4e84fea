#include "common/tap.h"

#include "common/util.h"
#include <fcntl.h>
#include <limits.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MAGIC      0x31504154u
#define VERSION    2u
#define PAGE_BYTES 4096u /* cursors; the ring begins behind them */
#define LINE       64 /* cache line: what one side writes never shares one with what the other writes */
#define RING_MIN   4096u
#define RING_MAX   (UINT64_C(1) << 32)
#define QOS_MAX    2

/* The layouts of docs/ring.rst. */
struct in_page {
	alignas(LINE) _Atomic uint32_t magic;
	_Atomic uint32_t version;
	_Atomic uint64_t in_bytes;
	_Atomic uint64_t out_bytes;
	alignas(LINE) _Atomic uint64_t in_tail;
	alignas(LINE) _Atomic uint64_t out_head;
	alignas(LINE) _Atomic uint32_t trusted_asleep;
	alignas(LINE) _Atomic uint64_t start;
	alignas(LINE) _Atomic uint64_t followed;
};

struct out_page {
	alignas(LINE) _Atomic uint64_t in_head;
	alignas(LINE) _Atomic uint64_t out_tail;
	alignas(LINE) _Atomic uint32_t engine_asleep;
	alignas(LINE) _Atomic uint64_t doing;
	_Atomic uint64_t doing_at;
};

struct header {
	uint32_t len;
	uint32_t slot;
	uint8_t qos;
	uint8_t flags;
	uint8_t zero[6];
};

_Static_assert(sizeof(struct in_page) == 6 * LINE, "layout of docs/ring.rst");
_Static_assert(sizeof(struct out_page) == 4 * LINE, "layout of docs/ring.rst");
_Static_assert(sizeof(struct header) == 16, "layout of docs/ring.rst");

struct ring {
	unsigned char *data;
	uint64_t bytes; /* a power of two */
};

struct tap {
	struct in_page *in;         /* ours, writable */
	const struct out_page *out; /* the engine's, mapped read-only; NULL: no engine */
	struct ring in_ring, out_ring;
	uint64_t in_tail;  /* what we published */
	uint64_t out_head; /* likewise */
	uint64_t in_head;  /* the engine's last believed cursor: on a record boundary */
	uint64_t peeked;   /* size of the record tap_peek() showed; 0: none */
	uint32_t peeked_len;
};

struct tap_watch {
	const struct in_page *in;
	const struct out_page *out;
	uint64_t in_bytes, out_bytes;
};

struct tap_peer {
	const struct in_page *in;
	struct out_page *out;
	struct ring in_ring, out_ring;
	uint64_t in_head, out_tail; /* what we published */
	uint64_t in_tail;           /* the trusted side's last believed cursors */
	uint64_t out_head;
	uint64_t shown; /* size of the record tap_next() showed; 0: none */
};

/* Between "I published" and "does the other sleep?", and the reverse: neither may be reordered. */
static void full_fence(void)
{
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored \
	"-Wtsan" /* unseen by the sanitizer, which needs it not: the words are atomic */
#endif
	atomic_thread_fence(memory_order_seq_cst);
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
}

static uint64_t record_bytes(uint32_t len)
{
	return sizeof(struct header) + (((uint64_t)len + 7) & ~UINT64_C(7));
}

static void ring_write(const struct ring *r, uint64_t at, const void *from, size_t n)
{
	size_t pos = at & (r->bytes - 1);
	size_t first = n <= r->bytes - pos ? n : (size_t)(r->bytes - pos);
	memcpy(r->data + pos, from, first);
	if (first < n)
		memcpy(r->data, (const unsigned char *)from + first, n - first);
}

static void ring_read(const struct ring *r, uint64_t at, void *to, size_t n)
{
	size_t pos = at & (r->bytes - 1);
	size_t first = n <= r->bytes - pos ? n : (size_t)(r->bytes - pos);
	memcpy(to, r->data + pos, first);
	if (first < n)
		memcpy((unsigned char *)to + first, r->data, n - first);
}

/* Write a record at `tail`; the caller has seen to the room. */
static void record_write(const struct ring *r, uint64_t tail, const struct tap_rec *rec,
			 const void *payload)
{
	struct header h = {
		.len = rec->len, .slot = rec->slot, .qos = rec->qos, .flags = rec->flags};
	ring_write(r, tail, &h, sizeof(h));
	if (rec->len > 0)
		ring_write(r, tail + sizeof(h), payload, rec->len);
}

/* Copy the header at `head` and check the copy against the bytes that are there. ret: its record's
 * size, 0: impossible. */
static uint64_t record_header(const struct ring *r, uint64_t head, uint64_t there,
			      struct tap_rec *ret)
{
	struct header h;
	if (there < sizeof(h))
		return 0;
	ring_read(r, head, &h, sizeof(h));
	if (h.qos > QOS_MAX || record_bytes(h.len) > there)
		return 0;
	*ret = (struct tap_rec){.slot = h.slot, .qos = h.qos, .flags = h.flags, .len = h.len};
	return record_bytes(h.len);
}

static uint64_t round_up(size_t bytes)
{
	uint64_t n = RING_MIN;
	while (n < bytes && n < RING_MAX)
		n *= 2;
	return n;
}

/* A memfd with room for a ring, which can neither shrink nor grow any more. */
static int memfd_new(const char *name, uint64_t ring_bytes, int *ret, struct err *err)
{
	CLEANUP(closep)
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return err_sys(err, "memfd_create");
	if (ftruncate(fd, (off_t)(PAGE_BYTES + ring_bytes)) < 0)
		return err_sys(err, "ring of %llu bytes", (unsigned long long)ring_bytes);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return err_sys(err, "sealing a ring");
	*ret = TAKE_FD(fd);
	return 0;
}

static void *map_pages(int fd, uint64_t ring_bytes, bool writable)
{
	void *p = mmap(NULL, PAGE_BYTES + ring_bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ,
		       MAP_SHARED, fd, 0);
	return p != MAP_FAILED ? p : NULL;
}

static void unmap_pages(const void *page, uint64_t ring_bytes)
{
	if (page != NULL)
		munmap((void *)(uintptr_t)page, PAGE_BYTES + ring_bytes);
}

static bool power_of_two(uint64_t n)
{
	return n >= RING_MIN && n <= RING_MAX && (n & (n - 1)) == 0;
}

static int memfd_check(int fd, uint64_t ring_bytes, const char *which, struct err *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_sys(err, "%s-memfd", which);
	if (st.st_size < 0 || (uint64_t)st.st_size != PAGE_BYTES + ring_bytes)
		return err_set(err, ERR_PEER, "%s-memfd has %lld bytes", which,
			       (long long)st.st_size);
	return 0;
}

/* The sizes that the in-memfd tells, checked against what it is. */
static int read_sizes(int in_fd, uint64_t *ret_in, uint64_t *ret_out, struct err *err)
{
	struct stat st;
	if (fstat(in_fd, &st) < 0)
		return err_sys(err, "in-memfd");
	if (st.st_size < (off_t)PAGE_BYTES)
		return err_set(err, ERR_PEER, "in-memfd has %lld bytes", (long long)st.st_size);
	const struct in_page *page = map_pages(in_fd, 0, false);
	if (page == NULL)
		return err_sys(err, "mapping the in-memfd");
	bool ours = atomic_load(&page->magic) == MAGIC && atomic_load(&page->version) == VERSION;
	*ret_in = atomic_load(&page->in_bytes);
	*ret_out = atomic_load(&page->out_bytes);
	unmap_pages(page, 0);
	if (!ours || !power_of_two(*ret_in) || !power_of_two(*ret_out))
		return err_set(err, ERR_PEER, "the in-memfd is no ring of version %u", VERSION);
	return memfd_check(in_fd, *ret_in, "in", err);
}

/* ---- making ---- */

/* A fresh out-memfd whose cursors say what is believed already: pulling from it before the engine
 * has attached finds nothing and nothing wrong. */
static int out_new(uint64_t bytes, uint64_t in_head, uint64_t out_tail, int *ret, struct err *err)
{
	CLEANUP(closep)
	int fd = -1;
	int rc = memfd_new("iottalk-out", bytes, &fd, err);
	if (rc < 0)
		return rc;
	if (pwrite(fd, &in_head, sizeof(in_head), offsetof(struct out_page, in_head)) !=
		    sizeof(in_head) ||
	    pwrite(fd, &out_tail, sizeof(out_tail), offsetof(struct out_page, out_tail)) !=
		    sizeof(out_tail))
		return err_sys(err, "writing a ring's cursors");
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) < 0)
		return err_sys(err, "sealing a ring");
	*ret = TAKE_FD(fd);
	return 0;
}

/* Not a duplicate, which would share the description and its right to write. */
static int reopen_read_only(int fd, int *ret, struct err *err)
{
	char path[40];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	*ret = open(path, O_RDONLY | O_CLOEXEC);
	return *ret >= 0 ? 0 : err_sys(err, "a ring for reading");
}

static int in_new(uint64_t in_bytes, uint64_t out_bytes, int *ret, struct err *err)
{
	CLEANUP(closep)
	int fd = -1;
	int rc = memfd_new("iottalk-in", in_bytes, &fd, err);
	if (rc < 0)
		return rc;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) < 0)
		return err_sys(err, "sealing a ring");
	struct in_page *page = map_pages(fd, 0, true);
	if (page == NULL)
		return err_sys(err, "mapping a ring");
	atomic_store(&page->in_bytes, in_bytes);
	atomic_store(&page->out_bytes, out_bytes);
	atomic_store(&page->version, VERSION);
	atomic_store(&page->magic, MAGIC);
	unmap_pages(page, 0);
	*ret = TAKE_FD(fd);
	return 0;
}

int tap_make(size_t in_bytes, size_t out_bytes, struct tap_fds *ret, struct err *err)
{
	struct tap_fds f = TAP_FDS_NONE;
	int rc = in_new(round_up(in_bytes), round_up(out_bytes), &f.in_fd, err);
	if (rc == 0)
		rc = reopen_read_only(f.in_fd, &f.in_ro_fd, err);
	if (rc == 0)
		rc = out_new(round_up(out_bytes), 0, 0, &f.out_fd, err);
	if (rc < 0) {
		tap_fds_done(&f);
		return rc;
	}
	*ret = f;
	return 0;
}

int tap_fds_adopt(int in_fd, int out_fd, struct tap_fds *ret, struct err *err)
{
	struct tap_fds f = {in_fd, -1, out_fd};
	uint64_t in_bytes = 0, out_bytes = 0;
	int rc = read_sizes(in_fd, &in_bytes, &out_bytes, err);
	if (rc == 0)
		rc = memfd_check(out_fd, out_bytes, "out", err);
	if (rc == 0)
		rc = reopen_read_only(in_fd, &f.in_ro_fd, err);
	if (rc < 0) {
		tap_fds_done(&f);
		return rc;
	}
	*ret = f;
	return 0;
}

int tap_make_out(struct tap_fds *f, struct err *err)
{
	uint64_t in_bytes = 0, out_bytes = 0;
	int fd = -1;
	int rc = read_sizes(f->in_fd, &in_bytes, &out_bytes, err);
	if (rc < 0)
		return rc;
	const struct in_page *page = map_pages(f->in_fd, 0, false);
	if (page == NULL)
		return err_sys(err, "mapping the in-memfd");
	rc = out_new(out_bytes, atomic_load(&page->start), atomic_load(&page->out_head), &fd, err);
	unmap_pages(page, 0);
	if (rc < 0)
		return rc;
	closep(&f->out_fd);
	f->out_fd = fd;
	return 0;
}

int tap_fds_start(const struct tap_fds *f, uint64_t *ret, struct err *err)
{
	const struct in_page *page = map_pages(f->in_ro_fd, 0, false);
	if (page == NULL)
		return err_sys(err, "mapping the in-memfd");
	*ret = atomic_load(&page->start);
	unmap_pages(page, 0);
	return 0;
}

void tap_fds_done(struct tap_fds *f)
{
	closep(&f->in_fd);
	closep(&f->in_ro_fd);
	closep(&f->out_fd);
}

/* ---- trusted side ---- */

int tap_open(int in_fd, int out_fd, struct tap **ret, struct err *err)
{
	struct tap *t = calloc(1, sizeof(*t));
	if (t == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a tap");
	int rc = read_sizes(in_fd, &t->in_ring.bytes, &t->out_ring.bytes, err);
	if (rc < 0)
		goto fail;
	t->in = map_pages(in_fd, t->in_ring.bytes, true);
	if (t->in == NULL) {
		rc = err_sys(err, "mapping a ring");
		goto fail;
	}
	t->in_ring.data = (unsigned char *)t->in + PAGE_BYTES;
	t->in_tail = atomic_load(&t->in->in_tail);
	t->out_head = atomic_load(&t->in->out_head);
	t->in_head = atomic_load(&t->in->followed);
	rc = out_fd >= 0 ? tap_set_out(t, out_fd, err) : 0;
	if (rc < 0)
		goto fail;
	*ret = t;
	return 0;
fail:
	tap_close(t);
	return rc;
}

static void drop_out(struct tap *t)
{
	unmap_pages(t->out, t->out_ring.bytes);
	t->out = NULL;
	t->peeked = 0;
}

struct tap *tap_close(struct tap *t)
{
	if (t == NULL)
		return NULL;
	unmap_pages(t->in, t->in_ring.bytes);
	drop_out(t);
	free(t);
	return NULL;
}

int tap_set_out(struct tap *t, int out_fd, struct err *err)
{
	int rc = memfd_check(out_fd, t->out_ring.bytes, "out", err);
	if (rc < 0)
		return rc;
	const struct out_page *page = map_pages(out_fd, t->out_ring.bytes, false);
	if (page == NULL)
		return err_sys(err, "mapping a ring");
	drop_out(t);
	t->out = page;
	t->out_ring.data =
		(unsigned char *)(uintptr_t)page + PAGE_BYTES; /* mapped read-only: never written */
	return 0;
}

size_t tap_out_bytes(const struct tap *t)
{
	return t->out_ring.bytes;
}

static void believe(struct tap *t, uint64_t in_head)
{
	t->in_head = in_head;
	atomic_store_explicit(&t->in->followed, in_head, memory_order_release);
}

/* Take over the engine's in-cursor. It must not run backwards nor beyond what we wrote, and it must
 * be where a record of ours begins: the records are walked (only we can write there). */
static int follow_engine(struct tap *t)
{
	if (t->out == NULL)
		return 0;
	uint64_t head = atomic_load_explicit(&t->out->in_head, memory_order_acquire);
	if (head - t->in_head > t->in_tail - t->in_head)
		return ERR_PEER;
	uint64_t at = t->in_head;
	while (at < head) {
		struct tap_rec rec;
		uint64_t size = record_header(&t->in_ring, at, t->in_tail - at, &rec);
		if (size == 0)
			return ERR_PEER; /* cannot be: our own record */
		at += size;
	}
	if (at != head)
		return ERR_PEER;
	if (head != t->in_head)
		believe(t, head);
	return 0;
}

int tap_push(struct tap *t, const struct tap_rec *rec, const void *payload)
{
	uint64_t need = record_bytes(rec->len);
	if (need > t->in_ring.bytes || rec->qos > QOS_MAX)
		return ERR_RANGE;
	/* followed in portions, so that no push has a whole ring of records to walk */
	if (t->in_tail + need - t->in_head > t->in_ring.bytes / 8) {
		int rc = follow_engine(t);
		if (rc < 0)
			return rc;
		if (t->in_tail + need - t->in_head > t->in_ring.bytes)
			return ERR_AGAIN;
	}
	record_write(&t->in_ring, t->in_tail, rec, payload);
	t->in_tail += need;
	atomic_store_explicit(&t->in->in_tail, t->in_tail, memory_order_release);
	return 0;
}

bool tap_engine_sleeps(struct tap *t)
{
	full_fence();
	return t->out != NULL &&
	       atomic_load_explicit(&t->out->engine_asleep, memory_order_relaxed) != 0;
}

int tap_peek(struct tap *t, struct tap_rec *ret_rec)
{
	t->peeked = 0;
	if (t->out == NULL)
		return 0;
	uint64_t there =
		atomic_load_explicit(&t->out->out_tail, memory_order_acquire) - t->out_head;
	if (there == 0)
		return 0;
	if (there > t->out_ring.bytes)
		return ERR_PEER;
	t->peeked = record_header(&t->out_ring, t->out_head, there, ret_rec);
	if (t->peeked == 0)
		return ERR_PEER;
	t->peeked_len = ret_rec->len;
	return 1;
}

void tap_take(struct tap *t, void *buf)
{
	if (buf != NULL)
		ring_read(&t->out_ring, t->out_head + sizeof(struct header), buf, t->peeked_len);
	t->out_head += t->peeked;
	t->peeked = 0;
	atomic_store_explicit(&t->in->out_head, t->out_head, memory_order_release);
}

int tap_pull(struct tap *t, struct tap_rec *ret_rec, void *buf, size_t cap)
{
	struct tap_rec rec;
	int got = tap_peek(t, &rec);
	if (got <= 0)
		return got;
	if (rec.len > cap)
		return ERR_PEER;
	tap_take(t, buf);
	*ret_rec = rec;
	return 1;
}

void tap_set_asleep(struct tap *t, bool asleep)
{
	atomic_store_explicit(&t->in->trusted_asleep, asleep, memory_order_relaxed);
	if (asleep)
		full_fence();
}

int tap_progress(struct tap *t, uint64_t *ret_done, uint64_t *ret_waiting)
{
	int rc = follow_engine(t);
	if (rc < 0)
		return rc;
	*ret_done = t->in_head;
	*ret_waiting = t->in_tail - t->in_head;
	return 0;
}

uint64_t tap_doing(struct tap *t)
{
	return t->out != NULL ? atomic_load_explicit(&t->out->doing, memory_order_relaxed) : 0;
}

int tap_current(struct tap *t, struct tap_rec *ret_rec)
{
	int rc = follow_engine(t);
	if (rc < 0)
		return rc;
	if (t->in_head == t->in_tail)
		return 0;
	return record_header(&t->in_ring, t->in_head, t->in_tail - t->in_head, ret_rec) != 0
		       ? 1
		       : ERR_PEER;
}

void tap_retire(struct tap *t, bool skip_current, struct tap_rec *ret_skipped)
{
	struct tap_rec skipped = {.slot = UINT32_MAX}, current;
	int there = tap_current(t, &current);
	uint64_t start = t->in_head;
	if (there < 0) {
		start = t->in_tail;
	} else if (there > 0 && skip_current) {
		skipped = current;
		start += record_bytes(current.len);
	}
	drop_out(t);
	believe(t, start);
	atomic_store_explicit(&t->in->start, start, memory_order_release);
	if (ret_skipped != NULL)
		*ret_skipped = skipped;
}

/* ---- onlooker ---- */

int tap_watch_open(int in_fd, int out_fd, struct tap_watch **ret, struct err *err)
{
	struct tap_watch *w = calloc(1, sizeof(*w));
	if (w == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a look at rings");
	int rc = read_sizes(in_fd, &w->in_bytes, &w->out_bytes, err);
	if (rc == 0)
		rc = memfd_check(out_fd, w->out_bytes, "out", err);
	if (rc == 0 && ((w->in = map_pages(in_fd, 0, false)) == NULL ||
			(w->out = map_pages(out_fd, 0, false)) == NULL))
		rc = err_sys(err, "mapping a ring");
	if (rc < 0) {
		tap_watch_close(w);
		return rc;
	}
	*ret = w;
	return 0;
}

struct tap_watch *tap_watch_close(struct tap_watch *w)
{
	if (w == NULL)
		return NULL;
	unmap_pages(w->in, 0);
	unmap_pages(w->out, 0);
	free(w);
	return NULL;
}

void tap_watch_look(const struct tap_watch *w, struct tap_look *ret)
{
	/* consumers before producers: what is seen of a pair is then never more than was there */
	uint64_t in_head = atomic_load_explicit(&w->out->in_head, memory_order_acquire);
	uint64_t in_tail = atomic_load_explicit(&w->in->in_tail, memory_order_acquire);
	uint64_t out_head = atomic_load_explicit(&w->in->out_head, memory_order_acquire);
	uint64_t out_tail = atomic_load_explicit(&w->out->out_tail, memory_order_acquire);

	/* in_head may run ahead of the in_tail read before it by nothing, out_tail of an out_head
	 * that has moved meanwhile by more than a ring: then look again next time */
	*ret = (struct tap_look){
		.done = in_head,
		.waiting = in_tail - in_head,
		.out_taken = out_head,
		.out_waiting = out_tail - out_head,
		.out_bytes = w->out_bytes,
		.doing = atomic_load_explicit(&w->out->doing, memory_order_acquire),
		.doing_at = atomic_load_explicit(&w->out->doing_at, memory_order_relaxed),
		.asleep = atomic_load_explicit(&w->out->engine_asleep, memory_order_relaxed) != 0,
	};
	ret->sane = ret->waiting <= w->in_bytes;
	if (ret->out_waiting > w->out_bytes)
		ret->out_waiting = w->out_bytes;
}

/* ---- engine side ---- */

int tap_attach(int in_fd, int out_fd, struct tap_peer **ret, struct err *err)
{
	struct tap_peer *p = calloc(1, sizeof(*p));
	if (p == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a tap");
	int rc = read_sizes(in_fd, &p->in_ring.bytes, &p->out_ring.bytes, err);
	if (rc == 0)
		rc = memfd_check(out_fd, p->out_ring.bytes, "out", err);
	if (rc < 0)
		goto fail;
	p->in = map_pages(in_fd, p->in_ring.bytes, false);
	p->out = map_pages(out_fd, p->out_ring.bytes, true);
	if (p->in == NULL || p->out == NULL) {
		rc = err_sys(err, "mapping a ring");
		goto fail;
	}
	p->in_ring.data = (unsigned char *)(uintptr_t)p->in +
			  PAGE_BYTES; /* mapped read-only: never written */
	p->out_ring.data = (unsigned char *)p->out + PAGE_BYTES;
	p->in_head = p->in_tail = atomic_load(&p->in->start);
	p->out_tail = p->out_head = atomic_load(&p->in->out_head);
	atomic_store(&p->out->in_head, p->in_head);
	atomic_store(&p->out->out_tail, p->out_tail);
	*ret = p;
	return 0;
fail:
	tap_detach(p);
	return rc;
}

struct tap_peer *tap_detach(struct tap_peer *p)
{
	if (p == NULL)
		return NULL;
	unmap_pages(p->in, p->in_ring.bytes);
	unmap_pages(p->out, p->out_ring.bytes);
	free(p);
	return NULL;
}

int tap_next(struct tap_peer *p, struct tap_rec *ret_rec, void *buf, size_t cap)
{
	struct tap_rec rec;
	if (p->in_tail == p->in_head) {
		uint64_t tail = atomic_load_explicit(&p->in->in_tail, memory_order_acquire);
		if (tail - p->in_head > p->in_ring.bytes)
			return ERR_PEER;
		p->in_tail = tail;
	}
	p->shown = 0;
	if (p->in_tail == p->in_head)
		return 0;
	uint64_t size = record_header(&p->in_ring, p->in_head, p->in_tail - p->in_head, &rec);
	if (size == 0)
		return ERR_PEER;
	p->shown = size;
	*ret_rec = rec;
	if (rec.len > cap)
		return ERR_RANGE;
	ring_read(&p->in_ring, p->in_head + sizeof(struct header), buf, rec.len);
	return 1;
}

void tap_consume(struct tap_peer *p)
{
	p->in_head += p->shown;
	p->shown = 0;
	atomic_store_explicit(&p->out->in_head, p->in_head, memory_order_release);
}

int tap_reply(struct tap_peer *p, const struct tap_rec *rec, const void *payload)
{
	uint64_t need = record_bytes(rec->len);
	if (need > p->out_ring.bytes || rec->qos > QOS_MAX)
		return ERR_RANGE;
	if (p->out_tail + need - p->out_head > p->out_ring.bytes) {
		uint64_t head = atomic_load_explicit(&p->in->out_head, memory_order_acquire);
		if (head - p->out_head > p->out_tail - p->out_head)
			return ERR_PEER;
		p->out_head = head;
		if (p->out_tail + need - head > p->out_ring.bytes)
			return ERR_AGAIN;
	}
	record_write(&p->out_ring, p->out_tail, rec, payload);
	p->out_tail += need;
	atomic_store_explicit(&p->out->out_tail, p->out_tail, memory_order_release);
	return 0;
}

bool tap_untaken(const struct tap_peer *p)
{
	return atomic_load_explicit(&p->in->out_head, memory_order_relaxed) != p->out_tail;
}

uint64_t tap_taken(const struct tap_peer *p)
{
	return atomic_load_explicit(&p->in->out_head, memory_order_relaxed);
}

bool tap_trusted_sleeps(struct tap_peer *p)
{
	full_fence();
	return atomic_load_explicit(&p->in->trusted_asleep, memory_order_relaxed) != 0;
}

void tap_peer_set_asleep(struct tap_peer *p, bool asleep)
{
	atomic_store_explicit(&p->out->engine_asleep, asleep, memory_order_relaxed);
	if (asleep)
		full_fence();
}

void tap_set_doing(struct tap_peer *p, uint64_t what)
{
	if (what != 0)
		atomic_store_explicit(&p->out->doing_at, p->in_head, memory_order_relaxed);
	atomic_store_explicit(&p->out->doing, what, memory_order_release);
}
