#include "agent/device/modbus/modbus_line.h"
#include "agent/device/stream.h"
#include <string.h>

void modbus_line_check(const json_t *block, const char *modbus_type, struct problems *p)
{
	const char *size = json_string_value(json_object_get(block, "bytesize"));
	bool ascii = strcmp(modbus_type, "ASCII") == 0;

	serial_check(block, p);
	if (strcmp(size, "EIGHTBITS") != 0 && !(ascii && strcmp(size, "SEVENBITS") == 0))
		problem_add(p, "bytesize", "%s needs characters of %s", modbus_type,
			    ascii ? "7 or 8 bits" : "8 bits");
}
