/* Requests that read points and write one: the grouping rules of gateway-devices 2.1, and the write
 * layouts of 5.1 as register images. */
#include "agent/device/modbus/plan.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define POINTS_MAX 12000

static struct modbus_bits bits[POINTS_MAX];
static struct plan_item items[POINTS_MAX];
static size_t n_items;
static struct plan plan;

static int setup(void **state)
{
	(void)state;
	n_items = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	plan_done(&plan);
	return 0;
}

static void add(enum modbus_data_type type, uint32_t address, unsigned count, uint32_t interval_ms)
{
	bits[n_items] = (struct modbus_bits){
		.type = (uint8_t)type, .address = (uint16_t)address, .count = (uint8_t)count};
	items[n_items] = (struct plan_item){
		.point = (uint32_t)n_items, .interval_ms = interval_ms, .bits = &bits[n_items]};
	n_items++;
}

static void make(unsigned merge_gap)
{
	assert_int_equal(plan_new(items, n_items, merge_gap, &plan, NULL), 0);
}

/* Groups as text: "3:100+4(2)" is function 3, address, quantity, points. */
static const char *told(void)
{
	static char text[1000];
	size_t len = 0;

	text[0] = '\0';
	for (size_t i = 0; i < plan.n_groups; i++) {
		const struct plan_group *g = &plan.groups[i];
		struct modbus_request q;

		plan_read(g->type, g->address, g->quantity, &q);
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u:%u+%u(%u)%s",
					i > 0 ? " " : "", q.function, q.address, q.quantity, g->n,
					g->gaps ? "gaps" : "");
	}
	return text;
}

static void test_adjacent_and_overlapping_points_share_a_request(void **state)
{
	(void)state;
	add(MODBUS_HOLDING_REGISTER, 12, 16, 1000);
	add(MODBUS_HOLDING_REGISTER, 10, 32, 1000);
	add(MODBUS_HOLDING_REGISTER, 11, 16, 1000);
	make(0);
	assert_string_equal(told(), "3:10+3(3)");
	assert_int_equal(plan.points[0].point, 1);
	assert_int_equal(plan.points[1].point, 2);
	assert_int_equal(plan.points[2].point, 0);
}

static void test_a_gap_starts_a_new_group(void **state)
{
	(void)state;
	add(MODBUS_HOLDING_REGISTER, 0, 16, 1000);
	add(MODBUS_HOLDING_REGISTER, 2, 16, 1000);
	make(0);
	assert_string_equal(told(), "3:0+1(1) 3:2+1(1)");
}

static void test_a_group_has_one_table_and_one_interval(void **state)
{
	(void)state;
	add(MODBUS_INPUT_REGISTER, 0, 16, 1000);
	add(MODBUS_HOLDING_REGISTER, 1, 16, 500);
	add(MODBUS_HOLDING_REGISTER, 0, 16, 1000);
	add(MODBUS_COIL, 0, 1, 1000);
	add(MODBUS_DISCRETE_INPUT, 1, 1, 1000);
	make(0);
	assert_string_equal(told(), "1:0+1(1) 2:1+1(1) 3:1+1(1) 3:0+1(1) 4:0+1(1)");
}

static void test_a_queue_is_read_alone(void **state)
{
	(void)state;
	add(MODBUS_QUEUE, 5, 16, 1000);
	add(MODBUS_QUEUE, 6, 16, 1000);
	add(MODBUS_QUEUE, 6, 8, 1000);
	make(10);
	assert_string_equal(told(), "24:5+0(1) 24:6+0(2)");
}

static void test_ten_thousand_registers_take_eighty_requests(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 10000; i++)
		add(MODBUS_HOLDING_REGISTER, 9999 - i, 16, 1000);
	make(0);
	assert_int_equal(plan.n_groups, 80);
	for (size_t i = 0; i < 80; i++) {
		assert_int_equal(plan.groups[i].address, i * 125);
		assert_int_equal(plan.groups[i].quantity, 125);
	}
}

static void test_bits_are_read_by_two_thousand(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 4001; i++)
		add(MODBUS_COIL, i, 1, 1000);
	make(0);
	assert_string_equal(told(), "1:0+2000(2000) 1:2000+2000(2000) 1:4000+1(1)");
}

static void test_a_point_is_never_split(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 40; i++)
		add(MODBUS_HOLDING_REGISTER, i * 4, 64, 1000);
	make(0);
	assert_string_equal(told(), "3:0+124(31) 3:124+36(9)");
}

static void test_the_last_address_is_reached(void **state)
{
	(void)state;
	add(MODBUS_HOLDING_REGISTER, 65535, 16, 1000);
	add(MODBUS_HOLDING_REGISTER, 65532, 48, 1000);
	make(0);
	assert_string_equal(told(), "3:65532+4(2)");
}

static void test_merge_gap_reads_over_gaps_up_to_it_within_the_limit(void **state)
{
	(void)state;
	add(MODBUS_HOLDING_REGISTER, 0, 16, 1000);
	add(MODBUS_HOLDING_REGISTER, 4, 16, 1000); /* three registers between */
	add(MODBUS_HOLDING_REGISTER, 9, 16, 1000); /* four */
	add(MODBUS_HOLDING_REGISTER, 10, 16, 1000);
	for (uint32_t i = 0; i < 124; i++)
		add(MODBUS_HOLDING_REGISTER, 200 + i, 16, 1000);
	add(MODBUS_HOLDING_REGISTER, 325, 16, 1000);
	make(3);
	assert_string_equal(told(), "3:0+5(2)gaps 3:9+2(2) 3:200+124(124) 3:325+1(1)");
}

static void test_what_was_merged_is_split_at_its_gaps(void **state)
{
	(void)state;
	add(MODBUS_COIL, 0, 1, 1000);
	add(MODBUS_HOLDING_REGISTER, 0, 16, 1000);
	add(MODBUS_HOLDING_REGISTER, 1, 16, 1000);
	add(MODBUS_HOLDING_REGISTER, 4, 32, 1000);
	add(MODBUS_HOLDING_REGISTER, 8, 16, 1000);
	add(MODBUS_INPUT_REGISTER, 0, 16, 1000);
	make(8);
	assert_string_equal(told(), "1:0+1(1) 3:0+9(4)gaps 4:0+1(1)");
	plan.groups[1].due_ms = 7;
	plan.groups[1].reading = true;
	assert_int_equal(plan_split(&plan, 1), 3);
	assert_string_equal(told(), "1:0+1(1) 3:0+2(2) 3:4+2(1) 3:8+1(1) 4:0+1(1)");
	for (size_t i = 1; i <= 3; i++) {
		assert_int_equal(plan.groups[i].due_ms, 7);
		assert_true(plan.groups[i].reading);
		assert_int_equal(plan.groups[i].interval_ms, 1000);
	}
}

/* Whatever the points are: each is in one group, wholly, and no two groups could be one. */
static void test_groups_hold_all_points_and_are_as_few_as_can_be(void **state)
{
	(void)state;
	srand(7);
	for (int round = 0; round < 200; round++) {
		unsigned gap = (unsigned)rand() % 5;
		size_t seen = 0;

		n_items = 0;
		for (int i = 0; i < 300; i++)
			add(MODBUS_INPUT_REGISTER, (uint32_t)rand() % 600,
			    1 + (unsigned)rand() % 64, 1000);
		make(gap);
		for (size_t i = 0; i < plan.n_groups; i++) {
			const struct plan_group *g = &plan.groups[i], *next = g + 1;

			assert_int_equal(g->first, seen);
			assert_true(g->quantity <= 125);
			for (uint32_t k = g->first; k < g->first + g->n; k++) {
				const struct plan_point *at = &plan.points[k];

				assert_true(at->address >= g->address);
				assert_true(at->address + at->cells <= g->address + g->quantity);
				assert_int_equal(bits[at->point].address, at->address);
			}
			seen += g->n;
			if (i + 1 == plan.n_groups)
				continue;
			const struct plan_point *first = &plan.points[next->first];

			assert_true(first->address > (unsigned)g->address + g->quantity + gap ||
				    first->address + first->cells > g->address + 125u);
		}
		assert_int_equal(seen, 300);
		plan_done(&plan);
	}
}

/* ---- writing ---- */

struct write {
	const char *name;
	struct modbus_bits bits;
	uint64_t value;
	uint16_t image[4]; /* afterwards, of zeros */
	const char *functions;
};

/* The nine layouts, and what is between them. */
static const struct write writes[] = {
	{"coil on", {.type = MODBUS_COIL, .address = 0, .count = 1}, 1, {1}, "5"},
	{"coil off", {.type = MODBUS_COIL, .address = 0, .count = 1}, 0, {0}, "5"},
	{"two coils at offset 2",
	 {.type = MODBUS_COIL, .offset = 2, .count = 2},
	 3,
	 {0, 0, 1, 1},
	 "15"},
	{"the first coil is the most significant",
	 {.type = MODBUS_COIL, .count = 3},
	 4,
	 {1, 0, 0},
	 "15"},
	{"16", {.type = MODBUS_HOLDING_REGISTER, .count = 16}, 0x1234, {0x1234}, "6"},
	{"32", {.type = MODBUS_HOLDING_REGISTER, .count = 32}, 0x12345678, {0x1234, 0x5678}, "16"},
	{"two bits at 0", {.type = MODBUS_HOLDING_REGISTER, .count = 2}, 3, {0xc000}, "22"},
	{"two bits at 2",
	 {.type = MODBUS_HOLDING_REGISTER, .offset = 2, .count = 2},
	 3,
	 {0x3000},
	 "22"},
	{"16 at offset 8",
	 {.type = MODBUS_HOLDING_REGISTER, .offset = 8, .count = 16},
	 0xffff,
	 {0x00ff, 0xff00},
	 "22 22"},
	{"32 at offset 8",
	 {.type = MODBUS_HOLDING_REGISTER, .offset = 8, .count = 32},
	 0x12345678,
	 {0x0012, 0x3456, 0x7800},
	 "22 6 22"},
	{"48 at offset 8",
	 {.type = MODBUS_HOLDING_REGISTER, .offset = 8, .count = 48},
	 0x123456789abc,
	 {0x0012, 0x3456, 0x789a, 0xbc00},
	 "22 16 22"},
	{"24 at offset 8",
	 {.type = MODBUS_HOLDING_REGISTER, .offset = 8, .count = 24},
	 0xabcdef,
	 {0x00ab, 0xcdef},
	 "22 6"},
	{"24 at 0",
	 {.type = MODBUS_HOLDING_REGISTER, .count = 24},
	 0xabcdef,
	 {0xabcd, 0xef00},
	 "6 22"},
	{"registers are skipped",
	 {.type = MODBUS_HOLDING_REGISTER, .offset = 36, .count = 8},
	 0xff,
	 {0, 0, 0x0ff0},
	 "22"},
	{"32 CDAB",
	 {.type = MODBUS_HOLDING_REGISTER, .count = 32, .order = MODBUS_LITTLE_SWAP},
	 0x12345678,
	 {0x5678, 0x1234},
	 "16"},
};

/* What a device does with a request to write. */
static void apply(const struct modbus_request *q, uint16_t *image)
{
	uint16_t *at = &image[q->address];

	if (q->function == MODBUS_MASK_WRITE_REGISTER)
		*at = (uint16_t)((*at & q->and_mask) | (q->or_mask & ~q->and_mask));
	else
		memcpy(at, q->values, q->quantity * sizeof(*at));
}

static void test_writes_leave_the_image_that_is_meant(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(writes); i++) {
		const struct write *w = &writes[i];
		uint16_t image[4] = {0}, others[4], wanted[4];
		uint16_t ones = w->bits.type == MODBUS_COIL ? 1 : 0xffff;
		char functions[30] = "";
		size_t len = 0;

		for (size_t c = 0; c < ARRAY_LEN(others); c++)
			others[c] = wanted[c] = ones;
		modbus_bits_set(&w->bits, w->value, wanted);
		for (unsigned s = 0; s < plan_write_steps(&w->bits); s++) {
			struct modbus_request q = {0};

			plan_write(&w->bits, w->value, s, &q);
			len += (size_t)snprintf(functions + len, sizeof(functions) - len, "%s%u",
						s > 0 ? " " : "", q.function);
			apply(&q, image);
			apply(&q, others);
		}
		if (strcmp(functions, w->functions) != 0 ||
		    memcmp(image, w->image, sizeof(image)) != 0)
			fail_msg("%s: functions %s, %04x %04x %04x %04x", w->name, functions,
				 image[0], image[1], image[2], image[3]);
		assert_memory_equal(others, wanted, sizeof(wanted));
	}
}

static void test_steps_go_up_from_the_first_register(void **state)
{
	struct modbus_bits b = {
		.type = MODBUS_HOLDING_REGISTER, .address = 100, .offset = 24, .count = 32};
	struct modbus_request q;

	(void)state;
	assert_int_equal(plan_write_steps(&b), 3);
	for (unsigned s = 0; s < 3; s++) {
		plan_write(&b, 0x12345678, s, &q);
		assert_int_equal(q.address, 101 + s);
	}
	plan_write(&b, 0x12345678, 0, &q);
	assert_int_equal(q.and_mask, 0xff00);
	assert_int_equal(q.or_mask, 0x0012);
	plan_write(&b, 0x12345678, 2, &q);
	assert_int_equal(q.and_mask, 0x00ff);
	assert_int_equal(q.or_mask, 0x7800);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_adjacent_and_overlapping_points_share_a_request),
		TEST(test_a_gap_starts_a_new_group),
		TEST(test_a_group_has_one_table_and_one_interval),
		TEST(test_a_queue_is_read_alone),
		TEST(test_ten_thousand_registers_take_eighty_requests),
		TEST(test_bits_are_read_by_two_thousand),
		TEST(test_a_point_is_never_split),
		TEST(test_the_last_address_is_reached),
		TEST(test_merge_gap_reads_over_gaps_up_to_it_within_the_limit),
		TEST(test_what_was_merged_is_split_at_its_gaps),
		TEST(test_groups_hold_all_points_and_are_as_few_as_can_be),
		TEST(test_writes_leave_the_image_that_is_meant),
		TEST(test_steps_go_up_from_the_first_register),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
