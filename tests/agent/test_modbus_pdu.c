/* Requests and answers, with the examples of the MODBUS Application Protocol V1.1b3, section 6. */
#include "agent/device/modbus/pdu.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HEX_MAX (2 * MODBUS_PDU_MAX + 1)

static void hex(const uint8_t *bytes, size_t n, char *text)
{
	text[0] = '\0';
	for (size_t i = 0; i < n; i++)
		sprintf(text + 2 * i, "%02x", bytes[i]);
}

/* A copy of just these bytes, so that a sanitizer sees a step too far. */
static uint8_t *unhex(const char *text, size_t *ret_n)
{
	size_t n = strlen(text) / 2;
	uint8_t *bytes = malloc(n > 0 ? n : 1);

	assert_non_null(bytes);
	for (size_t i = 0; i < n; i++) {
		const char pair[] = {text[2 * i], text[2 * i + 1], '\0'};
		bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	*ret_n = n;
	return bytes;
}

static const struct example {
	const char *request, *answer;
	struct modbus_request q;
	struct modbus_answer a;
} examples[] = {
	{"0100130013",
	 "0103cd6b05",
	 {MODBUS_READ_COILS, 19, 19, 0, 0, {0}},
	 {0, 19, {1, 0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1}}},
	{"0200c40016",
	 "0203acdb35",
	 {MODBUS_READ_DISCRETE_INPUTS, 196, 22, 0, 0, {0}},
	 {0, 22, {0, 0, 1, 1, 0, 1, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 0, 1, 1}}},
	{"03006b0003",
	 "0306022b00000064",
	 {MODBUS_READ_HOLDING_REGISTERS, 107, 3, 0, 0, {0}},
	 {0, 3, {555, 0, 100}}},
	{"0400080001", "0402000a", {MODBUS_READ_INPUT_REGISTERS, 8, 1, 0, 0, {0}}, {0, 1, {10}}},
	{"0500acff00", "0500acff00", {MODBUS_WRITE_COIL, 172, 1, 0, 0, {1}}, {0, 0, {0}}},
	{"0500ac0000", "0500ac0000", {MODBUS_WRITE_COIL, 172, 1, 0, 0, {0}}, {0, 0, {0}}},
	{"0600010003", "0600010003", {MODBUS_WRITE_REGISTER, 1, 1, 0, 0, {3}}, {0, 0, {0}}},
	{"0f0013000a02cd01",
	 "0f0013000a",
	 {MODBUS_WRITE_COILS, 19, 10, 0, 0, {1, 0, 1, 1, 0, 0, 1, 1, 1, 0}},
	 {0, 0, {0}}},
	{"100001000204000a0102",
	 "1000010002",
	 {MODBUS_WRITE_REGISTERS, 1, 2, 0, 0, {10, 258}},
	 {0, 0, {0}}},
	{"16000400f20025",
	 "16000400f20025",
	 {MODBUS_MASK_WRITE_REGISTER, 4, 0, 0xf2, 0x25, {0}},
	 {0, 0, {0}}},
	{"1804de",
	 "1800060002"
	 "01b81284",
	 {MODBUS_READ_FIFO_QUEUE, 1246, 0, 0, 0, {0}},
	 {0, 2, {440, 4740}}},
	{"0104a10001",
	 "8102",
	 {MODBUS_READ_COILS, 1185, 1, 0, 0, {0}},
	 {MODBUS_ILLEGAL_DATA_ADDRESS, 0, {0}}},
};

static size_t values_in(const struct modbus_request *q)
{
	return q->function == MODBUS_WRITE_COIL || q->function == MODBUS_WRITE_REGISTER ||
			       q->function == MODBUS_WRITE_COILS ||
			       q->function == MODBUS_WRITE_REGISTERS
		       ? q->quantity
		       : 0;
}

static void assert_same_request(const struct modbus_request *a, const struct modbus_request *b)
{
	assert_int_equal(a->function, b->function);
	assert_int_equal(a->address, b->address);
	assert_int_equal(a->quantity, b->quantity);
	assert_int_equal(a->and_mask, b->and_mask);
	assert_int_equal(a->or_mask, b->or_mask);
	assert_memory_equal(a->values, b->values, values_in(a) * sizeof(a->values[0]));
}

static void the_standards_examples_go_both_ways(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
		const struct example *e = &examples[i];
		struct modbus_request q = {0};
		struct modbus_answer a = {0};
		struct modbus_pdu p;
		struct err err = {0};
		char text[HEX_MAX];
		size_t n;

		assert_int_equal(modbus_request_encode(&e->q, &p, &err), 0);
		hex(p.bytes, p.len, text);
		assert_string_equal(text, e->request);
		assert_int_equal(modbus_request_parse(p.bytes, p.len, &q), 0);
		assert_same_request(&q, &e->q);

		modbus_answer_encode(&e->q, &e->a, &p);
		hex(p.bytes, p.len, text);
		assert_string_equal(text, e->answer);
		CLEANUP(freep)
		uint8_t *bytes = unhex(e->answer, &n);
		if (modbus_answer_parse(&e->q, bytes, n, &a, &err) != 0)
			fail_msg("%s: %s", e->answer, err.text);
		assert_int_equal(a.exception, e->a.exception);
		assert_int_equal(a.quantity, e->a.quantity);
		assert_memory_equal(a.values, e->a.values, a.quantity * sizeof(a.values[0]));
	}
}

static void whatever_is_cut_or_too_long_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
		const struct example *e = &examples[i];
		const char *sides[] = {e->request, e->answer};

		for (size_t side = 0; side < 2; side++) {
			size_t n;
			CLEANUP(freep)
			uint8_t *whole = unhex(sides[side], &n);

			for (size_t len = 0; len <= n + 1; len++) {
				uint8_t *part = malloc(len > 0 ? len : 1);
				struct modbus_request q;
				struct modbus_answer a;
				int rc;

				assert_non_null(part);
				memcpy(part, whole, len < n ? len : n);
				if (len > n)
					part[n] = 0;
				if (side == 0)
					rc = (int)modbus_request_parse(part, len, &q);
				else
					rc = modbus_answer_parse(&e->q, part, len, &a, NULL);
				free(part);
				int expected = len == n    ? 0
					       : side == 1 ? ERR_PARSE
					       : len == 0  ? (int)MODBUS_ILLEGAL_FUNCTION
							   : (int)MODBUS_ILLEGAL_DATA_VALUE;
				if (rc != expected)
					fail_msg("%zu of %s: %d", len, sides[side], rc);
			}
		}
	}
}

static void requests_outside_the_limits_are_not_made(void **state)
{
	static const struct {
		uint8_t function;
		uint16_t address, quantity;
		int rc;
	} cases[] = {
		{MODBUS_READ_COILS, 0, 2000, 0},
		{MODBUS_READ_COILS, 0, 2001, ERR_RANGE},
		{MODBUS_READ_COILS, 0, 0, ERR_RANGE},
		{MODBUS_READ_DISCRETE_INPUTS, 0, 2001, ERR_RANGE},
		{MODBUS_READ_HOLDING_REGISTERS, 0, 125, 0},
		{MODBUS_READ_HOLDING_REGISTERS, 0, 126, ERR_RANGE},
		{MODBUS_READ_INPUT_REGISTERS, 65535, 1, 0},
		{MODBUS_READ_INPUT_REGISTERS, 65535, 2, ERR_RANGE},
		{MODBUS_READ_INPUT_REGISTERS, 65411, 125, 0},
		{MODBUS_READ_INPUT_REGISTERS, 65412, 125, ERR_RANGE},
		{MODBUS_WRITE_COIL, 65535, 1, 0},
		{MODBUS_WRITE_COIL, 0, 2, ERR_RANGE},
		{MODBUS_WRITE_REGISTER, 0, 0, ERR_RANGE},
		{MODBUS_WRITE_COILS, 0, 1968, 0},
		{MODBUS_WRITE_COILS, 0, 1969, ERR_RANGE},
		{MODBUS_WRITE_REGISTERS, 0, 123, 0},
		{MODBUS_WRITE_REGISTERS, 0, 124, ERR_RANGE},
		{MODBUS_MASK_WRITE_REGISTER, 65535, 0, 0},
		{MODBUS_MASK_WRITE_REGISTER, 0, 1, ERR_RANGE},
		{MODBUS_READ_FIFO_QUEUE, 65535, 0, 0},
		{0, 0, 1, ERR_INVAL},
		{7, 0, 1, ERR_INVAL},
		{23, 0, 1, ERR_INVAL},
		{25, 0, 1, ERR_INVAL},
		{0x83, 0, 1, ERR_INVAL},
		{255, 0, 1, ERR_INVAL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct modbus_request q = {.function = cases[i].function,
					   .address = cases[i].address,
					   .quantity = cases[i].quantity};
		struct modbus_pdu p;
		struct err err = {0};
		int rc = modbus_request_encode(&q, &p, &err);

		if (rc != cases[i].rc)
			fail_msg("function %u at %u, %u: %s", q.function, q.address, q.quantity,
				 err_name(rc));
		if (rc == 0)
			assert_true(p.len <= MODBUS_PDU_MAX);
		else
			assert_string_not_equal(err.text, "");
	}
}

static void a_slave_knows_the_exception_that_answers_a_bad_request(void **state)
{
	static const struct {
		const char *pdu;
		enum modbus_exception exception;
		uint8_t function;
	} cases[] = {
		{"", MODBUS_ILLEGAL_FUNCTION, 0},
		{"07", MODBUS_ILLEGAL_FUNCTION, 7},
		{"2b0e0100", MODBUS_ILLEGAL_FUNCTION, 43},
		{"8302", MODBUS_ILLEGAL_FUNCTION, 0x83},
		{"0100000000", MODBUS_ILLEGAL_DATA_VALUE, 1},
		{"01000007d1", MODBUS_ILLEGAL_DATA_VALUE, 1},
		{"030000007e", MODBUS_ILLEGAL_DATA_VALUE, 3},
		{"03ffff0002", MODBUS_ILLEGAL_DATA_ADDRESS, 3},
		{"03ffff0001", 0, 3},
		{"0f000000080100", 0, 15},
		{"0f000000090100", MODBUS_ILLEGAL_DATA_VALUE, 15},
		{"0f0000000802ff00", MODBUS_ILLEGAL_DATA_VALUE, 15},
		{"10000000010200", MODBUS_ILLEGAL_DATA_VALUE, 16},
		{"1000000002020000", MODBUS_ILLEGAL_DATA_VALUE, 16},
		{"10ffff00020400000000", MODBUS_ILLEGAL_DATA_ADDRESS, 16},
		{"160000ffff00", MODBUS_ILLEGAL_DATA_VALUE, 22},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct modbus_request q;
		size_t n;
		CLEANUP(freep)
		uint8_t *bytes = unhex(cases[i].pdu, &n);
		enum modbus_exception e = modbus_request_parse(bytes, n, &q);

		if (e != cases[i].exception || q.function != cases[i].function)
			fail_msg("%s: exception %d, function %u", cases[i].pdu, (int)e, q.function);
	}
}

static void any_value_but_zero_sets_a_coil(void **state)
{
	struct modbus_request q = {0};
	struct modbus_answer a;
	const uint8_t request[] = {5, 0, 1, 0, 1}, answer[] = {5, 0, 1, 0xff, 0};

	(void)state;
	assert_int_equal(modbus_request_parse(request, sizeof(request), &q), 0);
	assert_int_equal(q.values[0], 1);
	assert_int_equal(modbus_answer_parse(&q, answer, sizeof(answer), &a, NULL), 0);
}

/* Each is an answer of good form, but not to the example's request. */
static void answers_that_do_not_fit_are_told_apart(void **state)
{
	static const struct {
		const char *request, *answer;
		int rc;
	} cases[] = {
		{"03006b0003", "0406022b00000064", ERR_PEER},
		{"03006b0003", "8403", ERR_PEER},
		{"03006b0003", "0304022b0000", ERR_PARSE},
		{"03006b0003", "0306022b0000", ERR_PARSE},
		{"03006b0003", "0304022b00000064", ERR_PARSE},
		{"03006b0003", "830200", ERR_PARSE},
		{"03006b0003", "8300", ERR_PARSE},
		{"03006b0003", "8305", 0},
		{"03006b0003", "83ff", 0},
		{"0100130013", "0102cd6b", ERR_PARSE},
		{"0100130013", "0104cd6b0500", ERR_PARSE},
		{"0600010003", "0600020003", ERR_PARSE},
		{"0600010003", "0600010004", ERR_PARSE},
		{"0500acff00", "0500ac0000", ERR_PARSE},
		{"1000010001020000", "1000010002", ERR_PARSE},
		{"1000010001020000", "1000020001", ERR_PARSE},
		{"16000400f20025", "16000400f20024", ERR_PARSE},
		{"16000400f20025", "16000400f30025", ERR_PARSE},
		{"1804de", "180006000101b81284", ERR_PARSE},
		{"1804de", "18000200ff", ERR_PARSE},
		{"1804de", "1800020000", 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct modbus_request q;
		struct modbus_answer a;
		struct err err = {0};
		size_t n;
		CLEANUP(freep)
		uint8_t *request = unhex(cases[i].request, &n);
		assert_int_equal(modbus_request_parse(request, n, &q), 0);
		CLEANUP(freep)
		uint8_t *answer = unhex(cases[i].answer, &n);
		int rc = modbus_answer_parse(&q, answer, n, &a, &err);

		if (rc != cases[i].rc)
			fail_msg("%s answered by %s: %s", cases[i].request, cases[i].answer,
				 err_name(rc));
		if (rc != 0)
			assert_string_not_equal(err.text, "");
	}
}

static void the_largest_of_everything_fits(void **state)
{
	static const struct {
		uint8_t function;
		uint16_t quantity;
	} cases[] = {{MODBUS_READ_COILS, MODBUS_READ_BITS_MAX},
		     {MODBUS_READ_INPUT_REGISTERS, MODBUS_READ_WORDS_MAX},
		     {MODBUS_WRITE_COILS, MODBUS_WRITE_BITS_MAX},
		     {MODBUS_WRITE_REGISTERS, MODBUS_WRITE_WORDS_MAX},
		     {MODBUS_READ_FIFO_QUEUE, 0}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		static struct modbus_request q, again;
		static struct modbus_answer a, back;
		bool bits = cases[i].function == MODBUS_READ_COILS ||
			    cases[i].function == MODBUS_WRITE_COILS;
		struct modbus_pdu p;

		q = (struct modbus_request){.function = cases[i].function,
					    .quantity = cases[i].quantity};
		for (unsigned n = 0; n < ARRAY_LEN(q.values); n++)
			q.values[n] = (uint16_t)(bits ? n % 3 == 0 : n * 257);
		a.quantity = cases[i].quantity > 0 ? cases[i].quantity : MODBUS_FIFO_MAX;
		for (unsigned n = 0; n < ARRAY_LEN(a.values); n++)
			a.values[n] = (uint16_t)(bits ? n % 5 == 0 : n * 259);
		assert_int_equal(modbus_request_encode(&q, &p, NULL), 0);
		assert_int_equal(modbus_request_parse(p.bytes, p.len, &again), 0);
		assert_same_request(&q, &again);
		modbus_answer_encode(&q, &a, &p);
		assert_int_equal(modbus_answer_parse(&q, p.bytes, p.len, &back, NULL), 0);
		assert_memory_equal(back.values, a.values, back.quantity * sizeof(back.values[0]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_standards_examples_go_both_ways),
		cmocka_unit_test(whatever_is_cut_or_too_long_is_refused),
		cmocka_unit_test(requests_outside_the_limits_are_not_made),
		cmocka_unit_test(a_slave_knows_the_exception_that_answers_a_bad_request),
		cmocka_unit_test(any_value_but_zero_sets_a_coil),
		cmocka_unit_test(answers_that_do_not_fit_are_told_apart),
		cmocka_unit_test(the_largest_of_everything_fits),
	};
	return cmocka_run_group_tests_name("modbus_pdu", tests, NULL, NULL);
}
