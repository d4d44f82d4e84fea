/* tap.c - the trusted side of rings. */
#include "common/tap_int.h"
#include "common/util.h"

struct tap {
	struct tap_in_page *in;         /* ours, writable */
	const struct tap_out_page *out; /* the engine's, mapped read-only; NULL: no engine */
	struct tap_ring in_ring, out_ring;
	uint64_t in_tail;  /* what we published */
	uint64_t out_head; /* likewise */
	uint64_t in_head;  /* the engine's last believed cursor: on a record boundary */
	uint64_t peeked;   /* size of the record tap_peek() showed; 0: none */
	uint32_t peeked_len;
};

int tap_open(int in_fd, int out_fd, struct tap **ret, struct err *err)
{
	struct tap *t = calloc(1, sizeof(*t));
	if (t == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a tap");
	int rc = tap_read_sizes(in_fd, &t->in_ring.bytes, &t->out_ring.bytes, err);
	if (rc < 0)
		goto fail;
	t->in = tap_map(in_fd, t->in_ring.bytes, true);
	if (t->in == NULL) {
		rc = err_sys(err, "mapping a ring");
		goto fail;
	}
	t->in_ring.data = (unsigned char *)t->in + TAP_PAGE_BYTES;
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
	tap_unmap(t->out, t->out_ring.bytes);
	t->out = NULL;
	t->peeked = 0;
}

struct tap *tap_close(struct tap *t)
{
	if (t == NULL)
		return NULL;
	tap_unmap(t->in, t->in_ring.bytes);
	drop_out(t);
	free(t);
	return NULL;
}

int tap_set_out(struct tap *t, int out_fd, struct err *err)
{
	int rc = tap_check_memfd(out_fd, t->out_ring.bytes, "out", err);
	if (rc < 0)
		return rc;
	const struct tap_out_page *page = tap_map(out_fd, t->out_ring.bytes, false);
	if (page == NULL)
		return err_sys(err, "mapping a ring");
	drop_out(t);
	t->out = page;
	t->out_ring.data = (unsigned char *)(uintptr_t)page +
			   TAP_PAGE_BYTES; /* mapped read-only: never written */
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
		uint64_t size = tap_record_header(&t->in_ring, at, t->in_tail - at, &rec);
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
	uint64_t need = tap_record_bytes(rec->len);
	if (need > t->in_ring.bytes || rec->qos > TAP_QOS_MAX)
		return ERR_RANGE;
	/* followed in portions, so that no push has a whole ring of records to walk */
	if (t->in_tail + need - t->in_head > t->in_ring.bytes / 8) {
		int rc = follow_engine(t);
		if (rc < 0)
			return rc;
		if (t->in_tail + need - t->in_head > t->in_ring.bytes)
			return ERR_AGAIN;
	}
	tap_record_write(&t->in_ring, t->in_tail, rec, payload);
	t->in_tail += need;
	atomic_store_explicit(&t->in->in_tail, t->in_tail, memory_order_release);
	return 0;
}

bool tap_engine_sleeps(struct tap *t)
{
	tap_full_fence();
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
	t->peeked = tap_record_header(&t->out_ring, t->out_head, there, ret_rec);
	if (t->peeked == 0)
		return ERR_PEER;
	t->peeked_len = ret_rec->len;
	return 1;
}

void tap_take(struct tap *t, void *buf)
{
	if (buf != NULL)
		tap_ring_read(&t->out_ring, t->out_head + sizeof(struct tap_header), buf,
			      t->peeked_len);
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
		tap_full_fence();
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
	return tap_record_header(&t->in_ring, t->in_head, t->in_tail - t->in_head, ret_rec) != 0
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
		start += tap_record_bytes(current.len);
	}
	drop_out(t);
	believe(t, start);
	atomic_store_explicit(&t->in->start, start, memory_order_release);
	if (ret_skipped != NULL)
		*ret_skipped = skipped;
}
