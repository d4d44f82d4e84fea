/* Points as bits over registers: the layouts of gateway-devices 5.1, and every order to the bit. */
#include "agent/device/modbus/bits.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HOLDING MODBUS_HOLDING_REGISTER

struct layout {
	const char *name;
	struct modbus_bits bits;
	uint16_t cells[8];
	uint64_t value;
	uint32_t n; /* cells */
};

static const struct layout layouts[] = {
	{"coil, 0", {.type = MODBUS_COIL, .count = 1}, {0}, 0, 1},
	{"coil, 1", {.type = MODBUS_COIL, .count = 1}, {1}, 1, 1},
	{"two discrete inputs", {.type = MODBUS_DISCRETE_INPUT, .count = 2}, {1, 1}, 3, 2},
	{"the first coil is the most significant",
	 {.type = MODBUS_COIL, .count = 3, .offset = 1},
	 {1, 1, 0, 0},
	 4,
	 4},
	{"32 bits over two registers",
	 {.type = HOLDING, .count = 32},
	 {0x1234, 0x5678},
	 0x12345678,
	 2},
	{"two bits of 0x4000", {.type = HOLDING, .count = 2}, {0x4000}, 1, 1},
	{"offset 8, two bits of 0x80",
	 {.type = MODBUS_INPUT_REGISTER, .offset = 8, .count = 2},
	 {0x80},
	 2,
	 1},
	{"the example of the model",
	 {.type = HOLDING, .offset = 8, .count = 32},
	 {0x1234, 0x5678, 0x9abc},
	 0x3456789a,
	 3},
	{"the last bit of a register", {.type = HOLDING, .offset = 15, .count = 1}, {0xfffe}, 0, 1},
	{"a whole register skipped",
	 {.type = HOLDING, .offset = 20, .count = 8},
	 {9, 0x0ab0},
	 0xab,
	 2},
	{"64 bits",
	 {.type = HOLDING, .count = 64},
	 {0x0123, 0x4567, 0x89ab, 0xcdef},
	 0x0123456789abcdef,
	 4},
	{"64 bits at offset 4, five registers",
	 {.type = HOLDING, .offset = 4, .count = 64},
	 {0x0012, 0x3456, 0x789a, 0xbcde, 0xf000},
	 0x0123456789abcdef,
	 5},
	{"a queue's first register", {.type = MODBUS_QUEUE, .count = 16}, {0xbeef}, 0xbeef, 1},
	{"16 little", {.type = HOLDING, .count = 16, .order = MODBUS_LITTLE}, {0x4241}, 0x4142, 1},
	{"16 big_swap",
	 {.type = HOLDING, .count = 16, .order = MODBUS_BIG_SWAP},
	 {0x4241},
	 0x4142,
	 1},
	{"16 little_swap",
	 {.type = HOLDING, .count = 16, .order = MODBUS_LITTLE_SWAP},
	 {0x4142},
	 0x4142,
	 1},
	{"32 big", {.type = HOLDING, .count = 32}, {0x4142, 0x4344}, 0x41424344, 2},
	{"32 little",
	 {.type = HOLDING, .count = 32, .order = MODBUS_LITTLE},
	 {0x4443, 0x4241},
	 0x41424344,
	 2},
	{"32 big_swap",
	 {.type = HOLDING, .count = 32, .order = MODBUS_BIG_SWAP},
	 {0x4241, 0x4443},
	 0x41424344,
	 2},
	{"32 little_swap",
	 {.type = MODBUS_INPUT_REGISTER, .count = 32, .order = MODBUS_LITTLE_SWAP},
	 {0x4344, 0x4142},
	 0x41424344,
	 2},
	{"48 little",
	 {.type = HOLDING, .count = 48, .order = MODBUS_LITTLE},
	 {0x4645, 0x4443, 0x4241},
	 0x414243444546,
	 3},
	{"48 big_swap",
	 {.type = HOLDING, .count = 48, .order = MODBUS_BIG_SWAP},
	 {0x4241, 0x4443, 0x4645},
	 0x414243444546,
	 3},
	{"48 little_swap",
	 {.type = HOLDING, .count = 48, .order = MODBUS_LITTLE_SWAP},
	 {0x4546, 0x4344, 0x4142},
	 0x414243444546,
	 3},
	{"64 little",
	 {.type = HOLDING, .count = 64, .order = MODBUS_LITTLE},
	 {0x4847, 0x4645, 0x4443, 0x4241},
	 0x4142434445464748,
	 4},
	{"64 big_swap",
	 {.type = HOLDING, .count = 64, .order = MODBUS_BIG_SWAP},
	 {0x4241, 0x4443, 0x4645, 0x4847},
	 0x4142434445464748,
	 4},
	{"64 little_swap",
	 {.type = HOLDING, .count = 64, .order = MODBUS_LITTLE_SWAP},
	 {0x4748, 0x4546, 0x4344, 0x4142},
	 0x4142434445464748,
	 4},
};

static void test_values_are_read_where_the_model_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		const struct layout *l = &layouts[i];
		uint64_t got = modbus_bits_get(&l->bits, l->cells);

		if (got != l->value || modbus_bits_cells(&l->bits) != l->n)
			fail_msg("%s: %#llx in %u cells", l->name, (unsigned long long)got,
				 modbus_bits_cells(&l->bits));
	}
}

/* Putting a value in changes its bits alone, whatever was there. */
static void test_values_are_put_where_they_are_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		const struct layout *l = &layouts[i];
		uint16_t others = modbus_cell_bits(l->bits.type) == 1 ? 1 : 0xffff;

		for (int ones = 0; ones <= 1; ones++) {
			uint16_t cells[8];

			for (size_t c = 0; c < ARRAY_LEN(cells); c++)
				cells[c] = ones ? others : 0;
			modbus_bits_set(&l->bits, l->value, cells);
			for (uint32_t c = 0; c < ARRAY_LEN(cells); c++) {
				uint16_t mine = modbus_bits_mask(&l->bits, c);
				uint16_t want = (uint16_t)((l->cells[c] & mine) |
							   (ones ? others & ~mine : 0));

				if (cells[c] != want)
					fail_msg("%s: cell %u is %#x, not %#x", l->name, c,
						 cells[c], want);
			}
			assert_int_equal(modbus_bits_get(&l->bits, cells), l->value);
		}
	}
}

/* As the model says it, bit after bit. */
static uint64_t slow_get(const struct modbus_bits *b, const uint16_t *cells)
{
	unsigned size = modbus_cell_bits(b->type);
	uint64_t v = 0;

	for (unsigned i = b->offset; i < b->offset + b->count; i++)
		v = v << 1 | (cells[i / size] >> (size - 1 - i % size) & 1);
	return v;
}

static void test_every_offset_and_count_agrees_with_the_model_bit_by_bit(void **state)
{
	uint16_t cells[110];

	(void)state;
	srand(1);
	for (unsigned type = MODBUS_COIL; type <= MODBUS_QUEUE; type++) {
		for (size_t c = 0; c < ARRAY_LEN(cells); c++)
			cells[c] = (uint16_t)(modbus_cell_bits(type) == 1 ? rand() & 1 : rand());
		for (uint32_t offset = 0; offset < 40; offset++)
			for (unsigned count = 1; count <= MODBUS_BITS_MAX; count++) {
				struct modbus_bits b = {.type = (uint8_t)type,
							.offset = offset,
							.count = (uint8_t)count};
				unsigned bits = 0;

				assert_int_equal(modbus_bits_get(&b, cells), slow_get(&b, cells));
				assert_true(modbus_bits_get(&b, cells) <= modbus_bits_max(&b));
				for (uint32_t c = 0; c <= modbus_bits_cells(&b); c++)
					bits += (unsigned)__builtin_popcount(
						modbus_bits_mask(&b, c));
				assert_int_equal(bits, count);
			}
	}
}

static void test_only_whole_registers_have_an_order(void **state)
{
	struct modbus_bits b = {.type = HOLDING, .count = 32};

	(void)state;
	assert_true(modbus_bits_whole(&b));
	b.offset = 16;
	assert_false(modbus_bits_whole(&b));
	b.offset = 0;
	b.count = 24;
	assert_false(modbus_bits_whole(&b));
	b = (struct modbus_bits){.type = MODBUS_COIL, .count = 16};
	assert_false(modbus_bits_whole(&b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values_are_read_where_the_model_says),
		cmocka_unit_test(test_values_are_put_where_they_are_read),
		cmocka_unit_test(test_every_offset_and_count_agrees_with_the_model_bit_by_bit),
		cmocka_unit_test(test_only_whole_registers_have_an_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
