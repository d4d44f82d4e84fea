#define PY_SSIZE_T_CLEAN
#include <Python.h>
/* Python.h wants to be first */
#include "common/util.h"
#include "engine/py_mem.h"
#include "engine/sanitizer.h"
#include <stdlib.h>
#include <string.h>

/* In front of each block; as long as malloc()'s alignment. */
struct head {
	size_t bytes;
	uint32_t owner;
	uint32_t turn; /* of the owner's number: an older one is of an owner that has gone */
};
_Static_assert(sizeof(struct head) == 16, "blocks keep their alignment");

struct owner {
	size_t held;
	uint32_t turn;
	uint32_t next_free;
};

struct arena {
	void *at; /* NULL: a free row */
	struct head head;
};

struct mem_now mem_now;

static struct {
	struct owner engine;
	struct owner *owners; /* from 1 on */
	uint32_t n_owners;
	uint32_t first_free; /* 0: none */
	size_t quota;
	struct arena *arenas;
	size_t n_arenas;
	PyObjectArenaAllocator beneath;
} mem;

static struct owner *owner_of(uint32_t n)
{
	return n == 0 ? &mem.engine : &mem.owners[n - 1];
}

/* Who has to answer for a block. */
static struct owner *holder(const struct head *h)
{
	struct owner *o = owner_of(h->owner);
	return o->turn == h->turn ? o : &mem.engine;
}

/* May the present owner hold so much more? `less`: of its own that it gives back for it. */
static bool granted(size_t more, size_t less)
{
	if (mem_now.owner == 0 || mem.quota == 0)
		return true;
	if (more <= mem.quota && owner_of(mem_now.owner)->held - less <= mem.quota - more)
		return true;
	mem_now.refused = true;
	return false;
}

static struct head charge(size_t bytes)
{
	struct owner *o = owner_of(mem_now.owner);
	o->held += bytes;
	return (struct head){.bytes = bytes, .owner = mem_now.owner, .turn = o->turn};
}

/* ---- blocks ---- */

/* With its head; at least a byte, so that a pointer to it points into it. */
static size_t gross(size_t bytes)
{
	return sizeof(struct head) + (bytes > 0 ? bytes : 1);
}

static void *finish(struct head *h, size_t bytes)
{
	if (h == NULL)
		return NULL;
	*h = charge(bytes);
	return h + 1;
}

static void *block_malloc(void *ctx, size_t bytes)
{
	(void)ctx;
	if (bytes > (size_t)PY_SSIZE_T_MAX - sizeof(struct head) || !granted(bytes, 0))
		return NULL;
	return finish(malloc(gross(bytes)), bytes);
}

static void *block_calloc(void *ctx, size_t n, size_t size)
{
	(void)ctx;
	size_t bytes;
	if (__builtin_mul_overflow(n, size, &bytes) ||
	    bytes > (size_t)PY_SSIZE_T_MAX - sizeof(struct head) || !granted(bytes, 0))
		return NULL;
	return finish(calloc(1, gross(bytes)), bytes);
}

/* What grows is the one's who makes it grow. */
static void *block_realloc(void *ctx, void *block, size_t bytes)
{
	if (block == NULL)
		return block_malloc(ctx, bytes);
	struct head *h = (struct head *)block - 1;
	struct head was = *h;
	struct owner *from = holder(&was);
	bool grows = bytes > was.bytes;
	if (bytes > (size_t)PY_SSIZE_T_MAX - sizeof(struct head) ||
	    (grows && !granted(bytes, from == owner_of(mem_now.owner) ? was.bytes : 0)))
		return NULL;
	struct head *moved = realloc(h, gross(bytes));
	if (moved == NULL)
		return NULL;
	h = moved;
	from->held -= was.bytes;
	if (grows) {
		*h = charge(bytes);
	} else {
		from->held += bytes;
		h->bytes = bytes;
	}
	return h + 1;
}

static void block_free(void *ctx, void *block)
{
	(void)ctx;
	if (block == NULL)
		return;
	struct head *h = (struct head *)block - 1;
	holder(h)->held -= h->bytes;
	free(h);
}

/* ---- arenas ---- */

/* A free row; NULL: no memory for one. */
static struct arena *arena_row(void)
{
	for (size_t i = 0; i < mem.n_arenas; i++)
		if (mem.arenas[i].at == NULL)
			return &mem.arenas[i];
	size_t n = mem.n_arenas > 0 ? mem.n_arenas * 2 : 64;
	struct arena *grown = realloc(mem.arenas, n * sizeof(*grown));
	if (grown == NULL)
		return NULL;
	memset(grown + mem.n_arenas, 0, (n - mem.n_arenas) * sizeof(*grown));
	struct arena *row = grown + mem.n_arenas;
	mem.arenas = grown;
	mem.n_arenas = n;
	return row;
}

static void *arena_alloc(void *ctx, size_t bytes)
{
	(void)ctx;
	if (!granted(bytes, 0))
		return NULL;
	struct arena *row = arena_row();
	void *at = row != NULL ? mem.beneath.alloc(mem.beneath.ctx, bytes) : NULL;
	if (at != NULL)
		*row = (struct arena){.at = at, .head = charge(bytes)};
	return at;
}

static void arena_free(void *ctx, void *at, size_t bytes)
{
	(void)ctx;
	/* one that has no row was there before we were */
	for (size_t i = 0; i < mem.n_arenas; i++) {
		if (mem.arenas[i].at == at) {
			holder(&mem.arenas[i].head)->held -= mem.arenas[i].head.bytes;
			mem.arenas[i].at = NULL;
			break;
		}
	}
	mem.beneath.free(mem.beneath.ctx, at, bytes);
}

void mem_hook(void)
{
	const PyMemAllocatorEx blocks = {
		.malloc = block_malloc,
		.calloc = block_calloc,
		.realloc = block_realloc,
		.free = block_free,
	};
	PyObjectArenaAllocator arenas = {.alloc = arena_alloc, .free = arena_free};
	if (mem.beneath.alloc != NULL)
		return;
	PyObject_GetArenaAllocator(&mem.beneath);
	PyObject_SetArenaAllocator(&arenas);
	/* a sanitizer shall see each object: no arenas then */
	for (int domain = PYMEM_DOMAIN_RAW;
	     domain <= (SANITIZED ? PYMEM_DOMAIN_OBJ : PYMEM_DOMAIN_RAW); domain++) {
		PyMemAllocatorEx hook = blocks;
		PyMem_SetAllocator((PyMemAllocatorDomain)domain, &hook);
	}
}

/* ---- owners ---- */

int mem_owner_new(uint32_t *ret)
{
	if (mem.first_free == 0) {
		if (mem.n_owners > UINT32_MAX / 4)
			return ERR_NOMEM;
		uint32_t n = mem.n_owners > 0 ? mem.n_owners * 2 : 16;
		struct owner *grown = realloc(mem.owners, n * sizeof(*grown));
		if (grown == NULL)
			return ERR_NOMEM;
		for (uint32_t i = mem.n_owners; i < n; i++)
			grown[i] = (struct owner){.next_free = i + 1 < n ? i + 2 : 0};
		mem.first_free = mem.n_owners + 1;
		mem.owners = grown;
		mem.n_owners = n;
	}
	*ret = mem.first_free;
	mem.first_free = owner_of(*ret)->next_free;
	return 0;
}

void mem_owner_free(uint32_t owner)
{
	if (owner == 0)
		return;
	struct owner *o = owner_of(owner);
	mem.engine.held += o->held;
	*o = (struct owner){.turn = o->turn + 1, .next_free = mem.first_free};
	mem.first_free = owner;
}

size_t mem_held(uint32_t owner)
{
	return owner_of(owner)->held;
}

void mem_set_quota(size_t bytes)
{
	mem.quota = bytes;
}

size_t mem_quota(void)
{
	return mem.quota;
}

bool mem_was_refused(void)
{
	bool refused = mem_now.refused;
	mem_now.refused = false;
	return refused;
}
