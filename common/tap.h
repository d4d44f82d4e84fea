/* tap.h - the pair of shared-memory byte rings between a trusted side and an engine (layout: docs/ring.rst).
 *
 * Trusted side: pushes messages, pulls results, believes nothing it reads from the engine: its own cursors are private, the
 * engine's are range-checked at every use, headers are copied before they are checked. It may die: the rings live as long as
 * somebody has their descriptors, and the next trusted side goes on where the last one was.
 * Engine side: maps the in-memfd read-only, the out-memfd writable, checks the trusted side's cursors likewise.
 * Single producer, single consumer per ring; no call blocks.
 */
#pragma once

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TAP_FLAG_DUP 0x01u

struct tap_rec {
	uint32_t slot; /* in: the link the message came on; out: the topic to publish on */
	uint8_t qos;   /* 0..2 */
	uint8_t flags; /* TAP_FLAG_* */
	uint32_t len;  /* payload bytes */
};

/* ---- who makes rings (the agent): descriptors, nothing mapped ---- */
struct tap_fds {
	int in_fd;    /* the in-memfd, read-write: for the trusted side, for as long as the rings live */
	int in_ro_fd; /* the same through a read-only description: what is mapped from it can never be made writable. The engine's */
	int out_fd;   /* the out-memfd of the present engine */
};
#define TAP_FDS_NONE ((struct tap_fds){-1, -1, -1})

/* in_bytes, out_bytes: ring sizes, rounded up to a power of two of at least 4096. ret: yours, for tap_fds_done(). */
int tap_make(size_t in_bytes, size_t out_bytes, struct tap_fds *ret, struct err *err);
/* The rings live already, their descriptors (taken, also on failure) came from another process: add what is missing. */
int tap_fds_adopt(int in_fd, int out_fd, struct tap_fds *ret, struct err *err);
/* After tap_retire(): replace f->out_fd by one for the next engine, which begins where tap_retire() said. On error nothing is
 * changed. */
int tap_make_out(struct tap_fds *f, struct err *err);
/* Where tap_retire() said the next engine begins, the last time it was called. */
int tap_fds_start(const struct tap_fds *f, uint64_t *ret, struct err *err);
void tap_fds_done(struct tap_fds *f);

/* ---- trusted side ---- */
struct tap;

/* Become the trusted side of rings, new or living: cursors go on where an earlier trusted side left them (it must be gone).
 * Descriptors are mapped, not kept. out_fd -1: no engine yet, tap_set_out() follows. Errors: ERR_SYS, ERR_PEER (no rings of ours),
 * ERR_NOMEM. */
int tap_open(int in_fd, int out_fd, struct tap **ret, struct err *err);
struct tap *tap_close(struct tap *t); /* the rings live on; NULL is fine; returns NULL */

/* ret: 0, ERR_AGAIN (ring full, nothing written), ERR_RANGE (would never fit, or qos over 2), ERR_PEER (the engine's cursor is
 * impossible: kill it). Works without an engine, too. */
int tap_push(struct tap *t, const struct tap_rec *rec, const void *payload);
/* True if the engine sleeps and must be woken after a push; clears nothing. Call once per batch of pushes. */
bool tap_engine_sleeps(struct tap *t);
/* Look at the next result. ret: 1 and *ret_rec, copied and checked; 0: empty; ERR_PEER: the engine wrote an impossible cursor,
 * length or qos: kill it. */
int tap_peek(struct tap *t, struct tap_rec *ret_rec);
/* Take the result that tap_peek() has just shown: its payload goes to buf, of rec.len bytes; NULL: nowhere. */
void tap_take(struct tap *t, void *buf);
/* Both at once. A payload longer than cap is ERR_PEER, too. */
int tap_pull(struct tap *t, struct tap_rec *ret_rec, void *buf, size_t cap);
/* Say that the trusted side is about to sleep (true) or awake (false). After true, pull once more before sleeping. */
void tap_set_asleep(struct tap *t, bool asleep);
/* How far the engine is: *ret_done counts bytes of the in-ring consumed since it was made, *ret_waiting bytes not yet consumed.
 * ret: 0 or ERR_PEER. */
int tap_progress(struct tap *t, uint64_t *ret_done, uint64_t *ret_waiting);
/* What the engine says it is running now; a hint by a hostile process, to be checked by the caller. */
uint64_t tap_doing(struct tap *t);
/* The record at the engine's cursor, for blame. ret: 1, 0 (ring empty) or ERR_PEER. */
int tap_current(struct tap *t, struct tap_rec *ret_rec);
/* The engine is dead: note where the next one begins. In-ring records it had not consumed stay, but the one at its cursor is
 * skipped if skip_current; an impossible cursor drops everything up to the producer's. Results not pulled yet are lost, so pull
 * first. Until tap_set_out() pulling finds nothing. ret_skipped (may be NULL): the record skipped, slot UINT32_MAX if none. */
void tap_retire(struct tap *t, bool skip_current, struct tap_rec *ret_skipped);
/* The out-memfd of the next engine (mapped, not kept). On error nothing is changed. */
int tap_set_out(struct tap *t, int out_fd, struct err *err);
/* Size of the out-ring: no payload on it is longer. */
size_t tap_out_bytes(const struct tap *t);

/* ---- onlooker: sees how far both sides are without being one; read-only ---- */
struct tap_watch;

struct tap_look {
	bool sane;            /* false: the engine's cursors are impossible; then nothing below but doing holds */
	uint64_t done;        /* bytes of the in-ring consumed, as the engine says */
	uint64_t waiting;     /* bytes of the in-ring not consumed */
	uint64_t out_taken;   /* bytes of the out-ring taken by the trusted side, as it says */
	uint64_t out_waiting; /* bytes of the out-ring not taken */
	uint64_t out_bytes;   /* size of the out-ring */
	uint64_t doing;       /* as tap_doing() */
	uint64_t doing_at;    /* the in-cursor when it said so */
	bool asleep;          /* the engine says it sleeps: then the trusted side wakes it at the next push */
};

/* Descriptors are mapped, not kept. */
int tap_watch_open(int in_fd, int out_fd, struct tap_watch **ret, struct err *err);
struct tap_watch *tap_watch_close(struct tap_watch *w); /* NULL is fine; returns NULL */
void tap_watch_look(const struct tap_watch *w, struct tap_look *ret);

/* ---- engine side ---- */
struct tap_peer;

/* Map the rings; in_fd should be the read-only one. Descriptors are not kept. */
int tap_attach(int in_fd, int out_fd, struct tap_peer **ret, struct err *err);
struct tap_peer *tap_detach(struct tap_peer *p);
/* Look at the next message without consuming it. ret: 1, 0 (empty), ERR_PEER, ERR_RANGE (longer than cap: still consume it). */
int tap_next(struct tap_peer *p, struct tap_rec *ret_rec, void *buf, size_t cap);
void tap_consume(struct tap_peer *p); /* the record tap_next() showed is done */
/* ret: 0, ERR_AGAIN (full), ERR_RANGE (would never fit), ERR_PEER. */
int tap_reply(struct tap_peer *p, const struct tap_rec *rec, const void *payload);
/* True while a result written earlier has not been taken. */
bool tap_untaken(const struct tap_peer *p);
/* How far the trusted side has taken results, in bytes: it moves when it was awake. */
uint64_t tap_taken(const struct tap_peer *p);
bool tap_trusted_sleeps(struct tap_peer *p);
void tap_peer_set_asleep(struct tap_peer *p, bool asleep);
/* It holds for the record at the cursor, and says nothing of the next one: to be set to 0 after tap_consume(), not before. */
void tap_set_doing(struct tap_peer *p, uint64_t what);

/* ---- both: the word of tap_doing() ---- */
enum tap_kind { TAP_IDLE, TAP_IDF, TAP_JOIN, TAP_ODF, TAP_LOADING };

#define TAP_GRAPH_MAX 0xffffffu /* graph numbers: 24 bits */

/* lid: of the link, 0 for a join and while loading. */
static inline uint64_t tap_doing_make(uint32_t graph, enum tap_kind kind, uint32_t lid)
{
	return (uint64_t)(graph & TAP_GRAPH_MAX) << 40 | (uint64_t)(kind & 0xffu) << 32 | lid;
}
static inline uint32_t tap_doing_graph(uint64_t what)
{
	return (uint32_t)(what >> 40);
}
/* May be no value of enum tap_kind at all. */
static inline unsigned tap_doing_kind(uint64_t what)
{
	return (unsigned)(what >> 32) & 0xffu;
}
static inline uint32_t tap_doing_lid(uint64_t what)
{
	return (uint32_t)what;
}
