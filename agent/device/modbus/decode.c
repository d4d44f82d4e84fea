#include "agent/device/modbus/decode.h"
#include "common/util.h"
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define EXACT_BITS 53 /* of a JSON number, for those who read it as a float */

/* The orders: whether the words come the last one first, and the bytes of a word the low one first.
 */
static const struct order {
	const char *name, *word_name; /* NULL: a word alone has no such order */
	bool words, bytes;
} orders[] = {
	{"ABCD", "AB", false, false},
	{"CDAB", NULL, true, false},
	{"BADC", "BA", false, true},
	{"DCBA", NULL, true, true},
};

static uint16_t swapped(uint16_t word)
{
	return (uint16_t)(word << 8 | word >> 8);
}

/* n words as one number. */
static uint64_t number(const uint16_t *words, size_t n, const struct order *o)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++) {
		uint16_t word = words[o->words ? n - 1 - i : i];

		v = v << 16 | (o->bytes ? swapped(word) : word);
	}
	return v;
}

/* value: taken; NULL: out of memory. */
static int add(json_t *rows, size_t address, const char *type, const char *order, json_t *value)
{
	json_t *row = value == NULL
			      ? NULL
			      : json_pack("{s:I, s:s, s:s*, s:o}", "address", (json_int_t)address,
					  "type", type, "order", order, "value", value);

	return row == NULL ? -1 : json_array_append_new(rows, row);
}

static json_t *whole_unsigned(uint64_t v)
{
	char text[24];

	if (v >> EXACT_BITS == 0)
		return json_integer((json_int_t)v);
	snprintf(text, sizeof(text), "%" PRIu64, v);
	return json_string(text);
}

static json_t *whole_signed(uint64_t v, unsigned bits)
{
	int64_t number = (int64_t)(v << (64 - bits)) >> (64 - bits);
	char text[24];

	if (number < INT64_C(1) << EXACT_BITS && number > -(INT64_C(1) << EXACT_BITS))
		return json_integer(number);
	snprintf(text, sizeof(text), "%" PRId64, number);
	return json_string(text);
}

static json_t *real(uint64_t v, unsigned bits)
{
	uint32_t half = (uint32_t)v;
	double whole;
	float single;

	memcpy(&whole, &v, sizeof(whole));
	memcpy(&single, &half, sizeof(single));
	if (bits == 32)
		whole = single;
	return isfinite(whole) ? json_real(whole) : json_null();
}

/* One register, or 2 or 4 of them, in one order. */
static int add_numbers(json_t *rows, size_t address, const uint16_t *words, size_t n,
		       const struct order *o)
{
	unsigned bits = (unsigned)(16 * n);
	uint64_t v = number(words, n, o);
	const char *order = n == 1 ? o->word_name : o->name;
	char type[16];
	int rc;

	if (order == NULL)
		return 0;
	snprintf(type, sizeof(type), "uint%u", bits);
	rc = add(rows, address, type, order, whole_unsigned(v));
	if (rc == 0)
		rc = add(rows, address, type + 1, order, whole_signed(v, bits));
	snprintf(type, sizeof(type), "float%u", bits);
	if (rc == 0 && n > 1)
		rc = add(rows, address, type, order, real(v, bits));
	return rc;
}

static char printable(unsigned byte)
{
	return byte >= ' ' && byte <= '~' ? (char)byte : '.';
}

static int add_text(json_t *rows, size_t address, const uint16_t *words, size_t n, bool low_first)
{
	CLEANUP(freep)
	char *text = malloc(2 * n + 1);

	if (text == NULL)
		return -1;
	for (size_t i = 0; i < n; i++) {
		uint16_t word = low_first ? swapped(words[i]) : words[i];

		text[2 * i] = printable(word >> 8);
		text[2 * i + 1] = printable(word & 0xff);
	}
	text[2 * n] = '\0';
	return add(rows, address, "ascii", low_first ? "BA" : "AB", json_string(text));
}

static int add_bits(json_t *rows, size_t address, uint16_t word)
{
	char text[17];

	for (unsigned i = 0; i < 16; i++)
		text[i] = (char)('0' + (word >> (15 - i) & 1));
	text[16] = '\0';
	return add(rows, address, "bits", NULL, json_string(text));
}

/* All that may begin at a register. */
static int add_register(json_t *rows, size_t address, const uint16_t *words, size_t n)
{
	int rc = add_bits(rows, address, words[0]);

	if (rc == 0)
		rc = add_text(rows, address, words, 1, false);
	for (size_t width = 1; width <= 4 && width <= n; width *= 2)
		for (size_t i = 0; rc == 0 && i < ARRAY_LEN(orders); i++)
			rc = add_numbers(rows, address, words, width, &orders[i]);
	return rc;
}

json_t *modbus_decode(unsigned address, const uint16_t *words, size_t n)
{
	json_t *rows = json_array();
	int rc = rows == NULL ? -1 : 0;

	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = add_register(rows, address + i, words + i, n - i);
	if (rc == 0 && n > 1)
		rc = add_text(rows, address, words, n, false);
	if (rc == 0 && n > 1)
		rc = add_text(rows, address, words, n, true);
	if (rc == 0)
		return rows;
	json_decref(rows);
	return NULL;
}
