/* The cells of a Modbus slave's points. */
#include "agent/device/modbus/cache.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define UNIT 7

static struct modbus_cache *cache_of(const struct modbus_bits *points, size_t n)
{
	struct modbus_cache *c = modbus_cache_new();
	struct err err;

	assert_non_null(c);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(modbus_cache_add(c, UNIT, &points[i], &err), 0);
	assert_int_equal(modbus_cache_count(c), n);
	return c;
}

static void test_devices(void **state)
{
	const struct modbus_bits b = {.type = MODBUS_INPUT_REGISTER, .count = 16};
	struct modbus_cache *c = cache_of(&b, 1);
	uint16_t cell;

	(void)state;
	assert_true(modbus_cache_has_device(c, UNIT));
	assert_false(modbus_cache_has_device(c, UNIT + 1));
	assert_false(modbus_cache_has_device(c, 0));
	assert_true(modbus_cache_read(c, UNIT, MODBUS_INPUT_REGISTER, 0, 1, &cell));
	assert_int_equal(cell, 0);
	assert_false(modbus_cache_read(c, UNIT, MODBUS_HOLDING_REGISTER, 0, 1, &cell));
	assert_false(modbus_cache_read(c, UNIT + 1, MODBUS_INPUT_REGISTER, 0, 1, &cell));
	modbus_cache_free(c);
}

/* A cell is there if a point has a bit of it: none that is skipped, and none beside. */
static void test_touched(void **state)
{
	const struct modbus_bits points[] = {
		{.type = MODBUS_HOLDING_REGISTER, .address = 10, .offset = 24, .count = 16},
		{.type = MODBUS_HOLDING_REGISTER, .address = 65535, .count = 1},
		{.type = MODBUS_COIL, .address = 254, .offset = 1, .count = 3},
	};
	struct modbus_cache *c = cache_of(points, ARRAY_LEN(points));
	uint16_t cells[4];

	(void)state;
	for (unsigned a = 0; a < 65536; a++) {
		bool is = a == 11 || a == 12 || a == 65535;
		bool is_coil = a >= 255 && a <= 257;

		assert_int_equal(
			modbus_cache_read(c, UNIT, MODBUS_HOLDING_REGISTER, (uint16_t)a, 1, cells),
			is);
		assert_int_equal(modbus_cache_read(c, UNIT, MODBUS_COIL, (uint16_t)a, 1, cells),
				 is_coil);
	}
	assert_true(modbus_cache_read(c, UNIT, MODBUS_COIL, 255, 3, cells));
	assert_false(modbus_cache_read(c, UNIT, MODBUS_COIL, 255, 4, cells));
	modbus_cache_free(c);
}

static void test_values(void **state)
{
	const struct modbus_bits points[] = {
		{.type = MODBUS_HOLDING_REGISTER, .address = 0, .offset = 8, .count = 32},
		{.type = MODBUS_HOLDING_REGISTER, .address = 2, .offset = 12, .count = 4},
		{.type = MODBUS_HOLDING_REGISTER, .address = 255, .count = 64},
		{.type = MODBUS_HOLDING_REGISTER,
		 .address = 300,
		 .count = 32,
		 .order = MODBUS_LITTLE_SWAP},
		{.type = MODBUS_COIL, .address = 3, .count = 64},
	};
	struct modbus_cache *c = cache_of(points, ARRAY_LEN(points));
	uint16_t cells[64];

	(void)state;
	modbus_cache_set(c, 0, 0x3456789a);
	modbus_cache_set(c, 1, 0x5);
	assert_true(modbus_cache_read(c, UNIT, MODBUS_HOLDING_REGISTER, 0, 3, cells));
	assert_int_equal(cells[0], 0x0034);
	assert_int_equal(cells[1], 0x5678);
	assert_int_equal(cells[2], 0x9a05);
	assert_int_equal(modbus_cache_get(c, 0), 0x3456789a);
	modbus_cache_set(c, 2, UINT64_MAX - 1);
	assert_true(modbus_cache_get(c, 2) == UINT64_MAX - 1);
	modbus_cache_set(c, 3, 0x11223344);
	assert_true(modbus_cache_read(c, UNIT, MODBUS_HOLDING_REGISTER, 300, 2, cells));
	assert_int_equal(cells[0], 0x3344);
	assert_int_equal(cells[1], 0x1122);
	modbus_cache_set(c, 4, UINT64_C(1) << 63 | 1);
	assert_true(modbus_cache_read(c, UNIT, MODBUS_COIL, 3, 64, cells));
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(cells[i], i == 0 || i == 63);
	assert_true(modbus_cache_get(c, 4) == (UINT64_C(1) << 63 | 1));
	modbus_cache_free(c);
}

static void test_hits(void **state)
{
	const struct modbus_bits points[] = {
		{.type = MODBUS_HOLDING_REGISTER, .address = 1, .offset = 8, .count = 16},
		{.type = MODBUS_HOLDING_REGISTER, .address = 0, .count = 8},
		{.type = MODBUS_INPUT_REGISTER, .address = 0, .count = 16},
		{.type = MODBUS_HOLDING_REGISTER, .address = 0, .offset = 12, .count = 20},
	};
	struct modbus_cache *c = cache_of(points, ARRAY_LEN(points));
	uint16_t cells[3] = {0xabcd, 0x1234, 0x5678};
	struct modbus_cache_hit hits[ARRAY_LEN(points)];
	struct modbus_cache_write w = {.device_id = UNIT,
				       .type = MODBUS_HOLDING_REGISTER,
				       .quantity = 1,
				       .cells = cells,
				       .bits = UINT16_MAX};

	(void)state;
	modbus_cache_set(c, 0, 0x9988);
	assert_int_equal(modbus_cache_hits(c, &w, hits), 2);
	assert_true(hits[0].point == 1 && hits[0].value == 0xab);
	/* its other bits are those of the cells, that another point has set */
	assert_true(hits[1].point == 3 && hits[1].value == 0xd0099);
	w.quantity = 3;
	assert_int_equal(modbus_cache_hits(c, &w, hits), 3);
	assert_true(hits[0].point == 0 && hits[0].value == 0x3456);
	assert_true(hits[2].point == 3 && hits[2].value == 0xd1234);
	w.bits = 0x00f0; /* no bit of points 1 and 3 in the first, of 0 in the last */
	w.quantity = 1;
	assert_int_equal(modbus_cache_hits(c, &w, hits), 0);
	w.bits = 0;
	w.quantity = 3;
	assert_int_equal(modbus_cache_hits(c, &w, hits), 0);
	w.bits = UINT16_MAX;
	w.quantity = 4;
	assert_int_equal(modbus_cache_hits(c, &w, hits), ERR_NOENT);
	w.quantity = 1;
	w.type = MODBUS_COIL;
	assert_int_equal(modbus_cache_hits(c, &w, hits), ERR_NOENT);
	/* nothing has changed */
	assert_int_equal(modbus_cache_get(c, 0), 0x9988);
	assert_int_equal(modbus_cache_get(c, 1), 0);
	modbus_cache_free(c);
}

static uint64_t pattern(unsigned i)
{
	return UINT64_C(0xfedcba987654321) * (i + 1) >> 4;
}

/* 10 000 points: all addresses of a table have one, no two disturb each other. */
static void test_many(void **state)
{
	struct modbus_cache *c = modbus_cache_new();
	struct err err;

	(void)state;
	for (unsigned i = 0; i < 10000; i++) {
		struct modbus_bits b = {.type = MODBUS_INPUT_REGISTER,
					.address = (uint16_t)(i * 6),
					.offset = 3,
					.count = 60};

		assert_int_equal(modbus_cache_add(c, UNIT, &b, &err), 0);
	}
	for (unsigned i = 0; i < 10000; i++)
		modbus_cache_set(c, i, pattern(i));
	for (unsigned i = 0; i < 10000; i++)
		assert_true(modbus_cache_get(c, i) == pattern(i));
	modbus_cache_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_devices), cmocka_unit_test(test_touched),
		cmocka_unit_test(test_values),  cmocka_unit_test(test_hits),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
