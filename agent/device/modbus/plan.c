#include "agent/device/modbus/plan.h"
#include <stdlib.h>
#include <string.h>

#define VALUE_REGISTERS 5 /* that the bits of one value are in, at most */

/* What each table is read and written with. */
static const struct {
	uint8_t read, write_one, write_more;
	uint16_t limit;
} tables[] = {
	[MODBUS_COIL] = {MODBUS_READ_COILS, MODBUS_WRITE_COIL, MODBUS_WRITE_COILS,
			 MODBUS_READ_BITS_MAX},
	[MODBUS_DISCRETE_INPUT] = {MODBUS_READ_DISCRETE_INPUTS, 0, 0, MODBUS_READ_BITS_MAX},
	[MODBUS_HOLDING_REGISTER] = {MODBUS_READ_HOLDING_REGISTERS, MODBUS_WRITE_REGISTER,
				     MODBUS_WRITE_REGISTERS, MODBUS_READ_WORDS_MAX},
	[MODBUS_INPUT_REGISTER] = {MODBUS_READ_INPUT_REGISTERS, 0, 0, MODBUS_READ_WORDS_MAX},
	[MODBUS_QUEUE] = {MODBUS_READ_FIFO_QUEUE, 0, 0, 1},
};

unsigned plan_limit(enum modbus_data_type type)
{
	return tables[type].limit;
}

/* ---- groups ---- */

static int compare(uint32_t a, uint32_t b)
{
	return (a > b) - (a < b);
}

static int by_place(const void *left, const void *right)
{
	const struct plan_item *a = left, *b = right;
	int c = compare(a->bits->type, b->bits->type);

	if (c == 0)
		c = compare(a->interval_ms, b->interval_ms);
	if (c == 0)
		c = compare(a->bits->address, b->bits->address);
	if (c == 0)
		c = compare(modbus_bits_cells(a->bits), modbus_bits_cells(b->bits));
	return c != 0 ? c : compare(a->point, b->point);
}

static uint32_t end_of(const struct plan_group *g)
{
	return (uint32_t)g->address + g->quantity;
}

static void start_group(struct plan_group *g, const struct plan_point *at, uint32_t first)
{
	g->first = first;
	g->n = 1;
	g->address = at->address;
	g->quantity = at->cells;
	g->gaps = false;
}

/* ret: false: it needs a group of its own. */
static bool join(struct plan_group *g, const struct plan_point *at, unsigned merge_gap)
{
	uint32_t end = (uint32_t)at->address + at->cells;

	if (end < end_of(g))
		end = end_of(g);
	if (at->address > end_of(g) + merge_gap || end - g->address > plan_limit(g->type))
		return false;
	g->gaps = g->gaps || at->address > end_of(g);
	g->quantity = (uint16_t)(end - g->address);
	g->n++;
	return true;
}

int plan_new(struct plan_item *items, size_t n, unsigned merge_gap, struct plan *ret,
	     struct err *err)
{
	struct plan_group *g = NULL, *shorter;

	*ret = (struct plan){0};
	if (n == 0)
		return 0;
	ret->points = calloc(n, sizeof(*ret->points));
	ret->groups = calloc(n, sizeof(*ret->groups));
	if (ret->points == NULL || ret->groups == NULL) {
		plan_done(ret);
		return err_set(err, ERR_NOMEM, "the plan of %zu points", n);
	}
	qsort(items, n, sizeof(*items), by_place);
	for (uint32_t i = 0; i < n; i++) {
		const struct modbus_bits *b = items[i].bits;
		struct plan_point *at = &ret->points[i];

		*at = (struct plan_point){.point = items[i].point,
					  .address = b->address,
					  .cells = (uint16_t)modbus_bits_cells(b)};
		if (g != NULL && g->type == b->type && g->interval_ms == items[i].interval_ms &&
		    join(g, at, merge_gap))
			continue;
		g = &ret->groups[ret->n_groups++];
		g->type = b->type;
		g->interval_ms = items[i].interval_ms;
		start_group(g, at, i);
	}
	shorter = reallocarray(ret->groups, ret->n_groups, sizeof(*ret->groups));
	if (shorter != NULL)
		ret->groups = shorter;
	return 0;
}

void plan_done(struct plan *p)
{
	free(p->points);
	free(p->groups);
	*p = (struct plan){0};
}

static size_t count_parts(const struct plan *p, const struct plan_group *g)
{
	struct plan_group part = *g;
	size_t n = 1;

	start_group(&part, &p->points[g->first], g->first);
	for (uint32_t i = g->first + 1; i < g->first + g->n; i++) {
		if (join(&part, &p->points[i], 0))
			continue;
		start_group(&part, &p->points[i], i);
		n++;
	}
	return n;
}

int plan_split(struct plan *p, size_t group)
{
	struct plan_group whole = p->groups[group], *part;
	size_t n = count_parts(p, &whole);
	struct plan_group *more = reallocarray(p->groups, p->n_groups + n - 1, sizeof(*p->groups));

	if (more == NULL)
		return ERR_NOMEM;
	p->groups = more;
	memmove(&more[group + n], &more[group + 1], (p->n_groups - group - 1) * sizeof(*p->groups));
	p->n_groups += n - 1;
	part = &more[group];
	start_group(part, &p->points[whole.first], whole.first);
	for (uint32_t i = whole.first + 1; i < whole.first + whole.n; i++) {
		if (join(part, &p->points[i], 0))
			continue;
		*++part = whole;
		start_group(part, &p->points[i], i);
	}
	return (int)n;
}

void plan_read(enum modbus_data_type type, uint32_t address, uint32_t cells,
	       struct modbus_request *ret)
{
	ret->function = tables[type].read;
	ret->address = (uint16_t)address;
	ret->quantity = type == MODBUS_QUEUE ? 0 : (uint16_t)cells;
}

/* ---- writing ---- */

static bool is_partial(uint16_t mask)
{
	return mask != 0xffff;
}

/* A step: registers from..to of those that the value is in. */
struct step {
	unsigned from, to;
};

/* The step that begins with a register: it alone if it is partial, else all whole ones. */
static struct step step_at(const uint16_t *masks, unsigned n, unsigned from)
{
	struct step s = {.from = from, .to = from + 1};

	while (!is_partial(masks[from]) && s.to < n && !is_partial(masks[s.to]))
		s.to++;
	return s;
}

/* The registers that have a bit of the value, without those skipped. ret: how many. */
static unsigned value_masks(const struct modbus_bits *b, uint32_t skipped, uint16_t *masks)
{
	unsigned n = modbus_bits_cells(b) - skipped;

	for (unsigned i = 0; i < n; i++)
		masks[i] = modbus_bits_mask(b, skipped + i);
	return n;
}

unsigned plan_write_steps(const struct modbus_bits *b)
{
	uint16_t masks[VALUE_REGISTERS] = {0};
	unsigned steps = 0, n;

	if (b->type == MODBUS_COIL)
		return 1;
	n = value_masks(b, b->offset / 16, masks);
	for (unsigned from = 0; from < n; steps++)
		from = step_at(masks, n, from).to;
	return steps;
}

static void write_coils(const struct modbus_bits *b, uint64_t value, struct modbus_request *ret)
{
	ret->address = (uint16_t)(b->address + b->offset);
	ret->quantity = b->count;
	ret->function = b->count == 1 ? tables[b->type].write_one : tables[b->type].write_more;
	for (unsigned i = 0; i < b->count; i++)
		ret->values[i] = value >> (b->count - 1 - i) & 1;
}

void plan_write(const struct modbus_bits *b, uint64_t value, unsigned step,
		struct modbus_request *ret)
{
	uint16_t masks[VALUE_REGISTERS] = {0}, registers[VALUE_REGISTERS] = {0};
	struct modbus_bits at = *b;
	struct step s;
	unsigned n;

	if (b->type == MODBUS_COIL) {
		write_coils(b, value, ret);
		return;
	}
	at.address = (uint16_t)(b->address + b->offset / 16);
	at.offset = b->offset % 16;
	n = value_masks(&at, 0, masks);
	modbus_bits_set(&at, value, registers);
	for (s = step_at(masks, n, 0); step > 0; step--)
		s = step_at(masks, n, s.to);
	ret->address = (uint16_t)(at.address + s.from);
	if (is_partial(masks[s.from])) {
		ret->function = MODBUS_MASK_WRITE_REGISTER;
		ret->quantity = 0;
		ret->and_mask = (uint16_t)~masks[s.from];
		ret->or_mask = registers[s.from];
		return;
	}
	ret->quantity = (uint16_t)(s.to - s.from);
	ret->function = ret->quantity == 1 ? tables[b->type].write_one : tables[b->type].write_more;
	memcpy(ret->values, &registers[s.from], ret->quantity * sizeof(*registers));
}
