#include "agent/device/pieces.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define SLAB_BYTES ((size_t)64 << 10) /* and aligned to it */
#define CLASS_STEP 32
#define PIECE_MAX  1024 /* what is larger is malloc()'s */
#define CLASSES    (PIECE_MAX / CLASS_STEP)
#define HEAD_BYTES 64 /* of a slab, before the pieces */

/* A piece that is free. */
struct piece {
	struct piece *next;
};

/* Pieces of one size, behind this. */
struct slab {
	struct slab *prev, *next; /* of its class, those with free pieces first */
	struct piece *free;
	size_t used;  /* pieces */
	size_t fresh; /* offset of what was never taken */
	size_t size;  /* of a piece */
};

_Static_assert(sizeof(struct slab) <= HEAD_BYTES, "before the pieces");

struct pieces {
	struct slab *open[CLASSES]; /* with room; full ones are in no list */
};

struct pieces *pieces_new(void)
{
	return calloc(1, sizeof(struct pieces));
}

/* ret: NULL: out of memory */
static void *map_aligned(void)
{
	char *p = mmap(NULL, 2 * SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	size_t before = -(uintptr_t)p % SLAB_BYTES;

	if (before > 0)
		munmap(p, before);
	munmap(p + before + SLAB_BYTES, SLAB_BYTES - before);
	return p + before;
}

static size_t class_of(size_t size)
{
	return size > 0 ? (size - 1) / CLASS_STEP : 0;
}

static void slab_open(struct pieces *p, struct slab *s)
{
	struct slab **first = &p->open[class_of(s->size)];

	s->prev = NULL;
	s->next = *first;
	if (s->next != NULL)
		s->next->prev = s;
	*first = s;
}

static void slab_close(struct pieces *p, struct slab *s)
{
	*(s->prev != NULL ? &s->prev->next : &p->open[class_of(s->size)]) = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
}

/* An empty one stays of each size, for a single piece now and then. */
static void slab_drop(struct pieces *p, struct slab *s)
{
	struct slab *first = p->open[class_of(s->size)];

	if (first == s && s->next == NULL)
		return;
	slab_close(p, s);
	munmap(s, SLAB_BYTES);
}

static void *slab_take(struct pieces *p, struct slab *s)
{
	struct piece *piece = s->free;

	if (piece != NULL) {
		s->free = piece->next;
	} else {
		piece = (struct piece *)(void *)((char *)s + s->fresh);
		s->fresh += s->size;
	}
	s->used++;
	if (s->free == NULL && s->fresh + s->size > SLAB_BYTES)
		slab_close(p, s);
	return piece;
}

static bool is_pooled(const struct pieces *p, size_t size)
{
#ifdef __SANITIZE_ADDRESS__ /* it watches malloc() alone */
	(void)p, (void)size;
	return false;
#else
	return p != NULL && size <= PIECE_MAX;
#endif
}

void *pieces_take(struct pieces *p, size_t size)
{
	if (!is_pooled(p, size))
		return malloc(size);
	struct slab *s = p->open[class_of(size)];

	if (s == NULL) {
		s = map_aligned();
		if (s == NULL)
			return NULL;
		size_t whole = (class_of(size) + 1) * CLASS_STEP;

		*s = (struct slab){.size = whole, .fresh = HEAD_BYTES};
		slab_open(p, s);
	}
	return slab_take(p, s);
}

void pieces_give(struct pieces *p, void *piece, size_t size)
{
	if (piece == NULL || !is_pooled(p, size)) {
		free(piece);
		return;
	}
	struct slab *s = (struct slab *)(void *)((char *)piece - (uintptr_t)piece % SLAB_BYTES);
	bool was_full = s->free == NULL && s->fresh + s->size > SLAB_BYTES;
	struct piece *free_piece = piece;

	free_piece->next = s->free;
	s->free = free_piece;
	if (was_full)
		slab_open(p, s);
	if (--s->used == 0)
		slab_drop(p, s);
}

struct pieces *pieces_free(struct pieces *p)
{
	for (size_t i = 0; p != NULL && i < CLASSES; i++)
		for (struct slab *s = p->open[i], *next; s != NULL; s = next) {
			next = s->next;
			munmap(s, SLAB_BYTES);
		}
	free(p);
	return NULL;
}
