/* units.c - the daemons iotctl knows. */
#include "iotctl/units.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

const struct unit_kind unit_kinds[UNITS] = {
	[UNIT_BROKER] = {"broker", NULL, 0},
	[UNIT_CSM] = {"csm", "csm", 1u << UNIT_BROKER},
	[UNIT_AGENT] = {"agent", "gateway-agent", 1u << UNIT_BROKER},
	[UNIT_CCM] = {"ccm", "ccm", 1u << UNIT_BROKER | 1u << UNIT_CSM},
};

static const char *const not_built[] = {"gui"};

/* ret: ERR_INVAL */
static int unknown(const char *name, struct err *err)
{
	char known[100] = "";
	size_t used = 0;

	for (unsigned i = 0; i < UNITS; i++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
					 i > 0 ? ", " : "", unit_kinds[i].name);
	return err_set(err, ERR_INVAL, "unknown name '%.100s' (choose from %s)", name, known);
}

static int add_name(const char *name, unsigned *mask, struct err *err)
{
	for (unsigned i = 0; i < UNITS; i++) {
		if (strcmp(name, unit_kinds[i].name) == 0) {
			*mask |= 1u << i;
			return 0;
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(not_built); i++) {
		if (strcmp(name, not_built[i]) == 0)
			return err_set(err, ERR_NOENT, "%s: not part of this build", name);
	}
	return unknown(name, err);
}

int units_parse(char *const names[], int n, unsigned *ret_mask, struct err *err)
{
	unsigned mask = 0;
	int rc = 0;

	for (int i = 0; rc == 0 && i < n; i++)
		rc = add_name(names[i], &mask, err);
	if (rc == 0)
		*ret_mask = n > 0 ? mask : UNITS_ALL;
	return rc;
}

int units_parse_json(json_t *names, unsigned *ret_mask, struct err *err)
{
	unsigned mask = 0;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < json_array_size(names); i++) {
		const char *name = json_string_value(json_array_get(names, i));

		rc = add_name(name != NULL ? name : "", &mask, err);
	}
	if (rc == 0)
		*ret_mask = json_array_size(names) > 0 ? mask : UNITS_ALL;
	return rc;
}

unsigned units_with_needs(unsigned mask)
{
	for (unsigned i = UNITS; i > 0; i--) { /* needs come before those who have them */
		if (mask & 1u << (i - 1))
			mask |= unit_kinds[i - 1].needs;
	}
	return mask;
}
