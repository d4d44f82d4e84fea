#include "agent/device/modbus/modbus_points.h"
#include <string.h>

#define ADDRESSES 65536

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

void modbus_bits_check(const json_t *point, struct problems *p)
{
	struct modbus_bits b;

	modbus_bits_parse(point, &b);
	if (b.address + modbus_bits_cells(&b) > ADDRESSES)
		problem_add(p, "bit_count", "the value ends beyond address %d", ADDRESSES - 1);
	if (b.order != MODBUS_BIG && !modbus_bits_whole(&b))
		problem_add(p, "order",
			    "only a value of whole registers has an order: bit_offset 0, bit_count "
			    "16, 32, 48 or 64");
}
