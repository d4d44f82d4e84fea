/* types.c - all device types (gateway-devices 1.6), those included that this build has not yet: a
 * file that names one is told so. */
#include "agent/device/types.h"
#include "common/util.h"
#include <string.h>

/* In front of the module where a file of the reference names one. */
static const char module_prefix[] = "hat.gateway.devices.";

static const struct device_type iec101_master_type = {
	.name = "iec101_master",
	.module = "iec101.master",
	.title = "IEC 60870-5-101 controlling station",
};
static const struct device_type iec101_slave_type = {
	.name = "iec101_slave",
	.module = "iec101.slave",
	.title = "IEC 60870-5-101 controlled station",
};
static const struct device_type iec103_master_type = {
	.name = "iec103_master",
	.module = "iec103.master",
	.title = "IEC 60870-5-103 primary station",
};
static const struct device_type iec104_master_type = {
	.name = "iec104_master",
	.module = "iec104.master",
	.title = "IEC 60870-5-104 controlling station",
};
static const struct device_type iec104_slave_type = {
	.name = "iec104_slave",
	.module = "iec104.slave",
	.title = "IEC 60870-5-104 controlled station",
};
static const struct device_type snmp_manager_type = {
	.name = "snmp_manager",
	.module = "snmp.manager",
	.title = "SNMP manager",
};
static const struct device_type snmp_trap_listener_type = {
	.name = "snmp_trap_listener",
	.module = "snmp.trap_listener",
	.title = "Listener for SNMP traps",
};
static const struct device_type iec61850_client_type = {
	.name = "iec61850_client",
	.module = "iec61850.client",
	.title = "IEC 61850 client",
};
static const struct device_type smpp_client_type = {
	.name = "smpp_client",
	.module = "smpp.client",
	.title = "SMPP client, for short messages",
};

static const struct device_type *const types[] = {
	&modbus_master_type,      &modbus_slave_type,    &ping_type,
	&iec101_master_type,      &iec101_slave_type,    &iec103_master_type,
	&iec104_master_type,      &iec104_slave_type,    &snmp_manager_type,
	&snmp_trap_listener_type, &iec61850_client_type, &smpp_client_type,
};

const struct device_type *const *device_types(size_t *ret_n)
{
	*ret_n = ARRAY_LEN(types);
	return types;
}

const struct device_type *device_type_find(const char *name)
{
	size_t prefix = strlen(module_prefix);
	bool is_module = strncmp(name, module_prefix, prefix) == 0;

	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		const char *known = is_module ? types[i]->module : types[i]->name;

		if (strcmp(known, is_module ? name + prefix : name) == 0)
			return types[i];
	}
	return NULL;
}
