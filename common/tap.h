/* tap.h - the pair of shared-memory byte rings between a trusted side and an engine (layout: docs/ring.rst).
 *
 * Trusted side: owns both memfds, pushes messages, pulls results, believes nothing it reads from the engine: its own cursors
 * are private, the engine's are range-checked at every use, headers are copied before they are checked.
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

/* ---- trusted side ---- */
struct tap;

/* in_bytes, out_bytes: ring sizes, rounded up to a power of two of at least 4096. ret: yours. */
int tap_new(size_t in_bytes, size_t out_bytes, struct tap **ret, struct err *err);
struct tap *tap_free(struct tap *t);
/* Descriptors for the engine; still the tap's. After the engine of this tap has mapped nothing may be written through in_fd
 * by it: the memfd carries F_SEAL_FUTURE_WRITE. */
int tap_in_fd(const struct tap *t);
int tap_out_fd(const struct tap *t);

/* ret: 0, ERR_AGAIN (ring full, nothing written), ERR_RANGE (would never fit, or qos over 2), ERR_PEER (the engine's cursor is
 * impossible: kill it). */
int tap_push(struct tap *t, const struct tap_rec *rec, const void *payload);
/* True if the engine sleeps and must be woken after a push; clears nothing. Call once per batch of pushes. */
bool tap_engine_sleeps(struct tap *t);
/* Take one result. ret: 1 and *ret_rec, payload in buf; 0: empty; ERR_PEER: the engine wrote an impossible cursor, length or
 * qos: kill it. A payload longer than cap is ERR_PEER too. */
int tap_pull(struct tap *t, struct tap_rec *ret_rec, void *buf, size_t cap);
/* Say that the trusted side is about to sleep (true) or awake (false). After true, pull once more before sleeping. */
void tap_set_asleep(struct tap *t, bool asleep);
/* How far the engine is: *ret_done counts bytes of the in-ring consumed since tap_new(), *ret_waiting bytes not yet consumed.
 * ret: 0 or ERR_PEER. */
int tap_progress(struct tap *t, uint64_t *ret_done, uint64_t *ret_waiting);
/* What the engine says it is running now; a hint by a hostile process, to be checked by the caller. */
uint64_t tap_doing(struct tap *t);
/* The record at the engine's cursor, for blame. ret: 1, 0 (ring empty) or ERR_PEER. */
int tap_current(struct tap *t, struct tap_rec *ret_rec);
/* The engine is dead: make a new out-memfd for the next one; in-ring records it had not consumed stay, but the one at its
 * cursor is skipped if skip_current. Until the next engine attaches, pulling finds nothing. On error nothing is changed. An impossible cursor drops everything up to the producer's. Results not pulled yet are
 * lost, so pull first. ret_skipped (may be NULL): the record skipped, slot UINT32_MAX if none. */
int tap_renew(struct tap *t, bool skip_current, struct tap_rec *ret_skipped, struct err *err);

/* ---- engine side ---- */
struct tap_peer;

int tap_attach(int in_fd, int out_fd, struct tap_peer **ret, struct err *err);
struct tap_peer *tap_detach(struct tap_peer *p);
/* Look at the next message without consuming it. ret: 1, 0 (empty), ERR_PEER, ERR_RANGE (longer than cap: still consume it). */
int tap_next(struct tap_peer *p, struct tap_rec *ret_rec, void *buf, size_t cap);
void tap_consume(struct tap_peer *p); /* the record tap_next() showed is done */
/* ret: 0, ERR_AGAIN (full), ERR_RANGE (would never fit), ERR_PEER. */
int tap_reply(struct tap_peer *p, const struct tap_rec *rec, const void *payload);
bool tap_trusted_sleeps(struct tap_peer *p);
void tap_peer_set_asleep(struct tap_peer *p, bool asleep);
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
