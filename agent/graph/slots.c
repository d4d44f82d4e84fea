#include "agent/graph/slots.h"
#include "common/err.h"
#include "common/util.h"

#define SLOTS_MAX (1u << 22)
#define NONE      UINT32_MAX

struct slot {
	void *value;   /* NULL: free or resting */
	uint64_t mark; /* when its rest is over */
	uint32_t next; /* in the queue of resting slots */
};

struct slots {
	struct slot *slot; /* owned */
	uint32_t n, cap;
	uint32_t oldest, newest; /* resting slots, in the order they were given back */
};

struct slots *slots_new(void)
{
	struct slots *s = calloc(1, sizeof(*s));

	if (s != NULL)
		s->oldest = s->newest = NONE;
	return s;
}

struct slots *slots_free(struct slots *s)
{
	if (s != NULL)
		free(s->slot);
	free(s);
	return NULL;
}

/* Room for n slots. */
static int grow(struct slots *s, uint32_t n)
{
	uint32_t cap = s->cap > 0 ? s->cap : 64;

	if (n <= s->cap)
		return 0;
	if (n > SLOTS_MAX)
		return ERR_LIMIT;
	while (cap < n)
		cap *= 2;
	struct slot *more = realloc(s->slot, cap * sizeof(*more));

	if (more == NULL)
		return ERR_NOMEM;
	s->slot = more;
	s->cap = cap;
	return 0;
}

int slots_take(struct slots *s, void *value, uint64_t passed, uint32_t *ret_slot)
{
	uint32_t slot = s->oldest;

	if (slot != NONE && s->slot[slot].mark <= passed) {
		s->oldest = s->slot[slot].next;
		if (s->oldest == NONE)
			s->newest = NONE;
	} else {
		int rc = grow(s, s->n + 1);

		if (rc < 0)
			return rc;
		slot = s->n++;
	}
	s->slot[slot] = (struct slot){.value = value, .next = NONE};
	*ret_slot = slot;
	return 0;
}

/* Out of the queue of resting slots. */
static void wake_slot(struct slots *s, uint32_t slot)
{
	uint32_t before = NONE;

	for (uint32_t at = s->oldest; at != slot; at = s->slot[at].next)
		before = at;
	if (before == NONE)
		s->oldest = s->slot[slot].next;
	else
		s->slot[before].next = s->slot[slot].next;
	if (s->newest == slot)
		s->newest = before;
}

int slots_claim(struct slots *s, uint32_t slot, void *value)
{
	if (slot < s->n && s->slot[slot].value != NULL)
		return ERR_EXIST;
	int rc = slot < SLOTS_MAX ? grow(s, slot + 1) : ERR_LIMIT;

	if (rc < 0)
		return rc;
	while (s->n <= slot) {
		uint32_t at = s->n++;

		slots_give(s, at, 0);
	}
	wake_slot(s, slot);
	s->slot[slot] = (struct slot){.value = value, .next = NONE};
	return 0;
}

int slots_rest(struct slots *s, uint32_t n, uint64_t mark)
{
	int rc = grow(s, n);

	if (rc < 0)
		return rc;
	while (s->n < n) {
		uint32_t at = s->n++;

		slots_give(s, at, 0);
	}
	for (uint32_t at = s->oldest; at != NONE; at = s->slot[at].next)
		if (s->slot[at].mark < mark)
			s->slot[at].mark = mark;
	return 0;
}

void slots_give(struct slots *s, uint32_t slot, uint64_t mark)
{
	s->slot[slot] = (struct slot){.mark = mark, .next = NONE};
	if (s->newest != NONE)
		s->slot[s->newest].next = slot;
	else
		s->oldest = slot;
	s->newest = slot;
}

void *slots_find(const struct slots *s, uint32_t slot)
{
	return slot < s->n ? s->slot[slot].value : NULL;
}

bool slots_resting(const struct slots *s, uint32_t slot, uint64_t passed)
{
	return slot < s->n && s->slot[slot].value == NULL && s->slot[slot].mark > passed;
}
