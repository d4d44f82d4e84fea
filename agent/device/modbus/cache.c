#include "agent/device/modbus/cache.h"
#include "common/util.h"
#include <string.h>

#define DEVICES     256
#define TABLES      4 /* all that a point can be in: no queue */
#define PAGE_CELLS  256
#define PAGES       256
#define GROW        64
#define CELLS_MAX   64 /* of one point: coils */
#define TOUCH_WORDS (PAGE_CELLS / 32)

struct page {
	uint16_t cells[PAGE_CELLS];
	uint32_t touched[TOUCH_WORDS]; /* which cells have a bit of a point */
};

/* Addresses are few and far between, so most pages are not there. */
struct table {
	struct page *pages[PAGES];
};

struct point {
	uint8_t device_id;
	struct modbus_bits bits; /* whole cells that are skipped are in the address */
};

struct modbus_cache {
	struct table *tables[DEVICES][TABLES];
	struct point *points;
	size_t n, cap;
};

/* ---- cells ---- */

static const struct page *page_of(const struct table *t, uint32_t address)
{
	return t->pages[address / PAGE_CELLS];
}

static bool is_touched(const struct table *t, uint32_t address)
{
	const struct page *p = page_of(t, address);
	uint32_t at = address % PAGE_CELLS;

	return p != NULL && (p->touched[at / 32] >> at % 32 & 1);
}

/* t has all of them. */
static void get_cells(const struct table *t, uint32_t address, unsigned n, uint16_t *ret)
{
	for (unsigned i = 0; i < n; i++)
		ret[i] = page_of(t, address + i)->cells[(address + i) % PAGE_CELLS];
}

static int touch(struct table *t, uint32_t address)
{
	struct page **p = &t->pages[address / PAGE_CELLS];
	uint32_t at = address % PAGE_CELLS;

	if (*p == NULL && (*p = calloc(1, sizeof(**p))) == NULL)
		return ERR_NOMEM;
	(*p)->touched[at / 32] |= UINT32_C(1) << at % 32;
	return 0;
}

static struct table *table_of(const struct modbus_cache *c, const struct point *p)
{
	return c->tables[p->device_id][p->bits.type];
}

/* ---- points ---- */

struct modbus_cache *modbus_cache_new(void)
{
	return calloc(1, sizeof(struct modbus_cache));
}

static void table_free(struct table *t)
{
	for (size_t i = 0; t != NULL && i < PAGES; i++)
		free(t->pages[i]);
	free(t);
}

struct modbus_cache *modbus_cache_free(struct modbus_cache *c)
{
	if (c == NULL)
		return NULL;
	for (size_t d = 0; d < DEVICES; d++)
		for (size_t t = 0; t < TABLES; t++)
			table_free(c->tables[d][t]);
	free(c->points);
	free(c);
	return NULL;
}

static bool make_room(struct modbus_cache *c)
{
	if (c->n < c->cap)
		return true;
	size_t cap = c->cap > 0 ? 2 * c->cap : GROW;
	struct point *points = reallocarray(c->points, cap, sizeof(*points));
	if (points == NULL)
		return false;
	c->points = points;
	c->cap = cap;
	return true;
}

int modbus_cache_add(struct modbus_cache *c, uint8_t device_id, const struct modbus_bits *bits,
		     struct err *err)
{
	unsigned size = modbus_cell_bits(bits->type);
	struct table **t = &c->tables[device_id][bits->type];
	struct point p = {.device_id = device_id, .bits = *bits};
	int rc = 0;

	p.bits.address = (uint16_t)(bits->address + bits->offset / size);
	p.bits.offset = bits->offset % size;
	if (!make_room(c) || (*t == NULL && (*t = calloc(1, sizeof(**t))) == NULL))
		return err_set(err, ERR_NOMEM, "points");
	for (uint32_t i = 0; i < modbus_bits_cells(&p.bits) && rc == 0; i++)
		rc = touch(*t, p.bits.address + i);
	if (rc < 0)
		return err_set(err, rc, "points");
	c->points[c->n++] = p;
	return 0;
}

bool modbus_cache_has_device(const struct modbus_cache *c, uint8_t device_id)
{
	for (size_t t = 0; t < TABLES; t++)
		if (c->tables[device_id][t] != NULL)
			return true;
	return false;
}

size_t modbus_cache_count(const struct modbus_cache *c)
{
	return c->n;
}

const struct modbus_bits *modbus_cache_bits(const struct modbus_cache *c, unsigned point)
{
	return &c->points[point].bits;
}

uint64_t modbus_cache_get(const struct modbus_cache *c, unsigned point)
{
	const struct point *p = &c->points[point];
	uint16_t cells[CELLS_MAX];

	get_cells(table_of(c, p), p->bits.address, modbus_bits_cells(&p->bits), cells);
	return modbus_bits_get(&p->bits, cells);
}

void modbus_cache_set(struct modbus_cache *c, unsigned point, uint64_t value)
{
	const struct point *p = &c->points[point];
	struct table *t = table_of(c, p);
	uint32_t n = modbus_bits_cells(&p->bits), first = p->bits.address;
	uint16_t cells[CELLS_MAX];

	get_cells(t, first, n, cells);
	modbus_bits_set(&p->bits, value, cells);
	for (uint32_t i = first; i < first + n; i++)
		t->pages[i / PAGE_CELLS]->cells[i % PAGE_CELLS] = cells[i - first];
}

/* ---- requests ---- */

static bool has_cells(const struct table *t, uint32_t address, unsigned quantity)
{
	for (unsigned i = 0; i < quantity; i++)
		if (t == NULL || !is_touched(t, address + i))
			return false;
	return true;
}

bool modbus_cache_read(const struct modbus_cache *c, uint8_t device_id, enum modbus_data_type type,
		       uint16_t address, unsigned quantity, uint16_t *ret_cells)
{
	const struct table *t = c->tables[device_id][type];

	if (!has_cells(t, address, quantity))
		return false;
	get_cells(t, address, quantity, ret_cells);
	return true;
}

/* ret: a bit of the point is written; then its value as it would be. */
static bool is_hit(const struct table *t, const struct modbus_bits *b,
		   const struct modbus_cache_write *w, uint64_t *ret)
{
	uint32_t n = modbus_bits_cells(b), end = w->address + w->quantity;
	uint16_t cells[CELLS_MAX];
	bool hit = false;

	if (b->address >= end || b->address + n <= w->address)
		return false;
	get_cells(t, b->address, n, cells);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t address = b->address + i;

		if (address < w->address || address >= end)
			continue;
		hit = hit || (modbus_bits_mask(b, i) & w->bits) != 0;
		cells[i] = (uint16_t)((cells[i] & ~w->bits) |
				      (w->cells[address - w->address] & w->bits));
	}
	*ret = modbus_bits_get(b, cells);
	return hit;
}

int modbus_cache_hits(const struct modbus_cache *c, const struct modbus_cache_write *w,
		      struct modbus_cache_hit *ret_hits)
{
	const struct table *t = c->tables[w->device_id][w->type];
	int n = 0;

	if (!has_cells(t, w->address, w->quantity))
		return ERR_NOENT;
	for (size_t i = 0; i < c->n; i++) {
		const struct point *p = &c->points[i];
		uint64_t value;

		if (p->device_id == w->device_id && p->bits.type == w->type &&
		    is_hit(t, &p->bits, w, &value))
			ret_hits[n++] =
				(struct modbus_cache_hit){.point = (unsigned)i, .value = value};
	}
	return n;
}
