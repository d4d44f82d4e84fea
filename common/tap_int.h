/* tap_int.h - inside the rings: their layout (docs/ring.rst), and reading and writing records. For
 * common/tap*.c.
 */
#pragma once

#include "common/tap.h"
#include <limits.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define TAP_MAGIC      0x31504154u
#define TAP_VERSION    2u
#define TAP_PAGE_BYTES 4096u /* cursors; the ring begins behind them */
#define TAP_LINE \
	64 /* cache line: what one side writes never shares one with what the other writes */
#define TAP_RING_MIN 4096u
#define TAP_RING_MAX (UINT64_C(1) << 32)
#define TAP_QOS_MAX  2

/* The layouts of docs/ring.rst. */
struct tap_in_page {
	alignas(TAP_LINE) _Atomic uint32_t magic;
	_Atomic uint32_t version;
	_Atomic uint64_t in_bytes;
	_Atomic uint64_t out_bytes;
	alignas(TAP_LINE) _Atomic uint64_t in_tail;
	alignas(TAP_LINE) _Atomic uint64_t out_head;
	alignas(TAP_LINE) _Atomic uint32_t trusted_asleep;
	alignas(TAP_LINE) _Atomic uint64_t start;
	alignas(TAP_LINE) _Atomic uint64_t followed;
};

struct tap_out_page {
	alignas(TAP_LINE) _Atomic uint64_t in_head;
	alignas(TAP_LINE) _Atomic uint64_t out_tail;
	alignas(TAP_LINE) _Atomic uint32_t engine_asleep;
	alignas(TAP_LINE) _Atomic uint64_t doing;
	_Atomic uint64_t doing_at;
};

struct tap_header {
	uint32_t len;
	uint32_t slot;
	uint8_t qos;
	uint8_t flags;
	uint8_t zero[6];
};

_Static_assert(sizeof(struct tap_in_page) == 6 * TAP_LINE, "layout of docs/ring.rst");
_Static_assert(sizeof(struct tap_out_page) == 4 * TAP_LINE, "layout of docs/ring.rst");
_Static_assert(sizeof(struct tap_header) == 16, "layout of docs/ring.rst");

struct tap_ring {
	unsigned char *data;
	uint64_t bytes; /* a power of two */
};

/* Between "I published" and "does the other sleep?", and the reverse: neither may be reordered. */
static inline void tap_full_fence(void)
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

static inline uint64_t tap_record_bytes(uint32_t len)
{
	return sizeof(struct tap_header) + (((uint64_t)len + 7) & ~UINT64_C(7));
}

static inline void tap_ring_write(const struct tap_ring *r, uint64_t at, const void *from, size_t n)
{
	size_t pos = at & (r->bytes - 1);
	size_t first = n <= r->bytes - pos ? n : (size_t)(r->bytes - pos);
	memcpy(r->data + pos, from, first);
	if (first < n)
		memcpy(r->data, (const unsigned char *)from + first, n - first);
}

static inline void tap_ring_read(const struct tap_ring *r, uint64_t at, void *to, size_t n)
{
	size_t pos = at & (r->bytes - 1);
	size_t first = n <= r->bytes - pos ? n : (size_t)(r->bytes - pos);
	memcpy(to, r->data + pos, first);
	if (first < n)
		memcpy((unsigned char *)to + first, r->data, n - first);
}

/* Write a record at `tail`; the caller has seen to the room. */
static inline void tap_record_write(const struct tap_ring *r, uint64_t tail,
				    const struct tap_rec *rec, const void *payload)
{
	struct tap_header h = {
		.len = rec->len, .slot = rec->slot, .qos = rec->qos, .flags = rec->flags};
	tap_ring_write(r, tail, &h, sizeof(h));
	if (rec->len > 0)
		tap_ring_write(r, tail + sizeof(h), payload, rec->len);
}

/* Copy the header at `head` and check the copy against the bytes that are there. ret: its record's
 * size, 0: impossible. */
static inline uint64_t tap_record_header(const struct tap_ring *r, uint64_t head, uint64_t there,
					 struct tap_rec *ret)
{
	struct tap_header h;
	if (there < sizeof(h))
		return 0;
	tap_ring_read(r, head, &h, sizeof(h));
	if (h.qos > TAP_QOS_MAX || tap_record_bytes(h.len) > there)
		return 0;
	*ret = (struct tap_rec){.slot = h.slot, .qos = h.qos, .flags = h.flags, .len = h.len};
	return tap_record_bytes(h.len);
}

static inline void *tap_map(int fd, uint64_t ring_bytes, bool writable)
{
	void *p = mmap(NULL, TAP_PAGE_BYTES + ring_bytes,
		       writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
	return p != MAP_FAILED ? p : NULL;
}

static inline void tap_unmap(const void *page, uint64_t ring_bytes)
{
	if (page != NULL)
		munmap((void *)(uintptr_t)page, TAP_PAGE_BYTES + ring_bytes);
}

/* ---- tap_fds.c ---- */

/* Whether fd is a memfd of just that size. which: "in" or "out", for the error. */
int tap_check_memfd(int fd, uint64_t ring_bytes, const char *which, struct err *err);
/* The sizes that the in-memfd tells, checked against what it is. */
int tap_read_sizes(int in_fd, uint64_t *ret_in, uint64_t *ret_out, struct err *err);
