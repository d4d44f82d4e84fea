#include "agent/device/modbus/modbus_points.h"
#include <string.h>

#define ADDRESSES 65536

const struct field modbus_point_fields[] = {
	{.name = "name",
	 .type = FIELD_STR,
	 .help = "Name of the point: it is in the topics of its events, and its features are named "
		 "after "
		 "it."},
	{.name = "data_type",
	 .type = FIELD_ENUM,
	 .names = modbus_data_type_names,
	 .help = "The table of the device that the point is in. Coils and discrete inputs are "
		 "single "
		 "bits, the rest are registers of 16 bits."},
	{.name = "start_address",
	 .type = FIELD_INT,
	 .max = ADDRESSES - 1,
	 .help = "The first coil or register, counted from 0; of a queue: its pointer."},
	{.name = "bit_offset",
	 .type = FIELD_INT,
	 .max = 16.0 * ADDRESSES,
	 .def = "0",
	 .help = "Bits to skip from there; in a register from the most significant bit down."},
	{.name = "bit_count",
	 .type = FIELD_INT,
	 .min = 1,
	 .max = MODBUS_BITS_MAX,
	 .help = "Bits of the value, the first of them the most significant."},
	{.name = "order",
	 .type = FIELD_ENUM,
	 .names = modbus_order_names,
	 .def = "\"big\"",
	 .help = "The order of the bytes of a value of whole registers: ``big`` is ABCD, "
		 "``little`` DCBA, "
		 "``big_swap`` BADC, ``little_swap`` CDAB, where A is the most significant byte."},
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
