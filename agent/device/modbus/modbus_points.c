#include "agent/device/modbus/modbus_points.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ADDRESSES 65536

const struct field modbus_point_fields[] = {
	{.name = "name",
	 .type = FIELD_STR,
	 .help = "Name of the point, in the topics of its events; its features are named after "
		 "it."},
	{.name = "data_type",
	 .type = FIELD_ENUM,
	 .names = modbus_data_type_names,
	 .help = "Table of the device that has it. Coils and discrete inputs are bits, the others "
		 "registers."},
	{.name = "start_address",
	 .type = FIELD_INT,
	 .max = ADDRESSES - 1,
	 .help = "The first coil or register, counted from 0; of a queue: its pointer."},
	{.name = "bit_offset",
	 .type = FIELD_INT,
	 .max = 16.0 * ADDRESSES,
	 .def = "0",
	 .help = "Bits to skip from there, in a register from the most significant one down."},
	{.name = "bit_count",
	 .type = FIELD_INT,
	 .min = 1,
	 .max = MODBUS_BITS_MAX,
	 .help = "Bits of the value, the first of them the most significant."},
	{.name = "order",
	 .type = FIELD_ENUM,
	 .names = modbus_order_names,
	 .def = "\"big\"",
	 .help = "How the bytes of whole registers make the value: ``big`` is ABCD, ``little`` "
		 "DCBA, "
		 "``big_swap`` BADC, ``little_swap`` CDAB; A is the most significant byte."},
	{.name = "", .type = FIELD_ROWS, .inner = point_fields},
	{0},
};

int modbus_name_index(const char *const *names, const char *name)
{
	for (int i = 0; name != NULL && names[i] != NULL; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}

static json_int_t number(const json_t *point, const char *key)
{
	return json_integer_value(json_object_get(point, key));
}

static int name_of(const json_t *point, const char *key, const char *const *names)
{
	return modbus_name_index(names, json_string_value(json_object_get(point, key)));
}

void modbus_bits_parse(const json_t *point, struct modbus_bits *ret)
{
	int order = name_of(point, "order", modbus_order_names);

	*ret = (struct modbus_bits){
		.type = (uint8_t)name_of(point, "data_type", modbus_data_type_names),
		.address = (uint16_t)number(point, "start_address"),
		.offset = (uint32_t)number(point, "bit_offset"),
		.count = (uint8_t)number(point, "bit_count"),
		.order = (uint8_t)(order < 0 ? MODBUS_BIG : order),
	};
}

bool modbus_bits_check(const json_t *point, struct problems *p)
{
	struct modbus_bits b;
	bool ok = true;

	modbus_bits_parse(point, &b);
	if (b.address + modbus_bits_cells(&b) > ADDRESSES) {
		problem_add(p, "bit_count", "the value ends beyond address %d", ADDRESSES - 1);
		ok = false;
	}
	if (b.order != MODBUS_BIG && !modbus_bits_whole(&b)) {
		problem_add(p, "order",
			    "only a value of whole registers has an order: bit_offset 0, bit_count "
			    "16, 32, 48 or 64");
		ok = false;
	}
	return ok;
}

json_t *modbus_value_json(uint64_t value)
{
	char digits[24];

	if (value <= INT64_MAX)
		return json_integer((json_int_t)value);
	snprintf(digits, sizeof(digits), "%" PRIu64, value);
	return json_string(digits);
}

/* Decimal, of 1 to 20 digits and nothing else. */
static bool parse_digits(const char *text, uint64_t *ret)
{
	uint64_t v = 0;

	if (*text == '\0')
		return false;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9' || __builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (unsigned)(*text - '0'), &v))
			return false;
	}
	*ret = v;
	return true;
}

int modbus_value_parse(const json_t *json, const struct modbus_bits *b, uint64_t *ret,
		       struct err *err)
{
	uint64_t v;

	if (json_is_integer(json) && json_integer_value(json) >= 0)
		v = (uint64_t)json_integer_value(json);
	else if (!json_is_string(json) || !parse_digits(json_string_value(json), &v))
		return err_set(err, ERR_SCHEMA, "value is no unsigned integer");
	if (v > modbus_bits_max(b))
		return err_set(err, ERR_RANGE, "value does not fit into %u bits", b->count);
	*ret = v;
	return 0;
}
