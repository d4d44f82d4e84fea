#include "agent/device/modbus/bits.h"
#include <stddef.h>

const char *const modbus_data_type_names[] = {
	"COIL", "DISCRETE_INPUT", "HOLDING_REGISTER", "INPUT_REGISTER", "QUEUE", NULL,
};
const char *const modbus_order_names[] = {"big", "little", "big_swap", "little_swap", NULL};

unsigned modbus_cell_bits(enum modbus_data_type type)
{
	return type == MODBUS_COIL || type == MODBUS_DISCRETE_INPUT ? 1 : 16;
}

uint32_t modbus_bits_cells(const struct modbus_bits *b)
{
	unsigned size = modbus_cell_bits(b->type);

	return (b->offset + b->count + size - 1) / size;
}

uint64_t modbus_bits_max(const struct modbus_bits *b)
{
	return UINT64_MAX >> (MODBUS_BITS_MAX - b->count);
}

bool modbus_bits_whole(const struct modbus_bits *b)
{
	return modbus_cell_bits(b->type) == 16 && b->offset == 0 && b->count % 16 == 0;
}

/* Between the number and the bits as they come; each order undoes itself. */
static uint64_t reorder(const struct modbus_bits *b, uint64_t v)
{
	uint64_t swapped = ((v >> 8) & 0x00ff00ff00ff00ff) | ((v & 0x00ff00ff00ff00ff) << 8);
	unsigned unused = MODBUS_BITS_MAX - b->count;

	switch ((enum modbus_order)b->order) {
	case MODBUS_LITTLE:
		return __builtin_bswap64(v) >> unused;
	case MODBUS_BIG_SWAP:
		return swapped;
	case MODBUS_LITTLE_SWAP:
		return __builtin_bswap64(swapped) >> unused;
	case MODBUS_BIG:
		break;
	}
	return v;
}

/* The part of a value that one cell has: `n` bits, `low` of the cell's bits after them. */
struct part {
	unsigned n, low;
};

static struct part first_part(const struct modbus_bits *b, unsigned size)
{
	unsigned room = size - b->offset % size;
	unsigned n = b->count < room ? b->count : room;

	return (struct part){.n = n, .low = room - n};
}

static struct part next_part(unsigned left, unsigned size)
{
	unsigned n = left < size ? left : size;

	return (struct part){.n = n, .low = size - n};
}

static uint16_t mask_of(struct part p)
{
	return (uint16_t)(((1u << p.n) - 1) << p.low);
}

uint64_t modbus_bits_get(const struct modbus_bits *b, const uint16_t *cells)
{
	unsigned size = modbus_cell_bits(b->type), left = b->count;
	struct part p = first_part(b, size);
	uint64_t v = 0;

	for (cells += b->offset / size; left > 0; cells++) {
		v = v << p.n | (uint64_t)((*cells & mask_of(p)) >> p.low);
		left -= p.n;
		p = next_part(left, size);
	}
	return reorder(b, v);
}

void modbus_bits_set(const struct modbus_bits *b, uint64_t value, uint16_t *cells)
{
	unsigned size = modbus_cell_bits(b->type), left = b->count;
	struct part p = first_part(b, size);
	uint64_t v = reorder(b, value);

	for (cells += b->offset / size; left > 0; cells++) {
		uint16_t mask = mask_of(p);

		left -= p.n;
		*cells = (uint16_t)((*cells & ~mask) | ((v >> left << p.low) & mask));
		p = next_part(left, size);
	}
}

uint16_t modbus_bits_mask(const struct modbus_bits *b, uint32_t index)
{
	unsigned size = modbus_cell_bits(b->type), left = b->count;
	struct part p = first_part(b, size);

	for (uint32_t i = b->offset / size; left > 0; i++) {
		if (i == index)
			return mask_of(p);
		left -= p.n;
		p = next_part(left, size);
	}
	return 0;
}
