/* tap_peer.c - the engine's side of rings. */
#include "common/tap_int.h"
#include "common/util.h"

struct tap_peer {
	const struct tap_in_page *in;
	struct tap_out_page *out;
	struct tap_ring in_ring, out_ring;
	uint64_t in_head, out_tail; /* what we published */
	uint64_t in_tail;           /* the trusted side's last believed cursors */
	uint64_t out_head;
	uint64_t shown; /* size of the record tap_next() showed; 0: none */
};

int tap_attach(int in_fd, int out_fd, struct tap_peer **ret, struct err *err)
{
	struct tap_peer *p = calloc(1, sizeof(*p));
	if (p == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a tap");
	int rc = tap_read_sizes(in_fd, &p->in_ring.bytes, &p->out_ring.bytes, err);
	if (rc == 0)
		rc = tap_check_memfd(out_fd, p->out_ring.bytes, "out", err);
	if (rc < 0)
		goto fail;
	p->in = tap_map(in_fd, p->in_ring.bytes, false);
	p->out = tap_map(out_fd, p->out_ring.bytes, true);
	if (p->in == NULL || p->out == NULL) {
		rc = err_sys(err, "mapping a ring");
		goto fail;
	}
	p->in_ring.data = (unsigned char *)(uintptr_t)p->in +
			  TAP_PAGE_BYTES; /* mapped read-only: never written */
	p->out_ring.data = (unsigned char *)p->out + TAP_PAGE_BYTES;
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
	tap_unmap(p->in, p->in_ring.bytes);
	tap_unmap(p->out, p->out_ring.bytes);
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
	uint64_t size = tap_record_header(&p->in_ring, p->in_head, p->in_tail - p->in_head, &rec);
	if (size == 0)
		return ERR_PEER;
	p->shown = size;
	*ret_rec = rec;
	if (rec.len > cap)
		return ERR_RANGE;
	tap_ring_read(&p->in_ring, p->in_head + sizeof(struct tap_header), buf, rec.len);
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
	uint64_t need = tap_record_bytes(rec->len);
	if (need > p->out_ring.bytes || rec->qos > TAP_QOS_MAX)
		return ERR_RANGE;
	if (p->out_tail + need - p->out_head > p->out_ring.bytes) {
		uint64_t head = atomic_load_explicit(&p->in->out_head, memory_order_acquire);
		if (head - p->out_head > p->out_tail - p->out_head)
			return ERR_PEER;
		p->out_head = head;
		if (p->out_tail + need - head > p->out_ring.bytes)
			return ERR_AGAIN;
	}
	tap_record_write(&p->out_ring, p->out_tail, rec, payload);
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
	tap_full_fence();
	return atomic_load_explicit(&p->in->trusted_asleep, memory_order_relaxed) != 0;
}

void tap_peer_set_asleep(struct tap_peer *p, bool asleep)
{
	atomic_store_explicit(&p->out->engine_asleep, asleep, memory_order_relaxed);
	if (asleep)
		tap_full_fence();
}

void tap_set_doing(struct tap_peer *p, uint64_t what)
{
	if (what != 0)
		atomic_store_explicit(&p->out->doing_at, p->in_head, memory_order_relaxed);
	atomic_store_explicit(&p->out->doing, what, memory_order_release);
}
