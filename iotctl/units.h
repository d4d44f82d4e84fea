/* units.h - the daemons iotctl knows, in the order in which they start. */
#pragma once

#include "common/err.h"
#include <jansson.h>

enum unit_id { UNIT_BROKER, UNIT_CSM, UNIT_AGENT, UNIT_CCM, UNITS };

#define UNITS_ALL ((1u << UNITS) - 1)

struct unit_kind {
	const char *name;    /* for people, log and pid file */
	const char *program; /* beside iotctl; NULL: the broker's own */
	unsigned needs;      /* bits of units that must be ready before it starts */
};

extern const struct unit_kind unit_kinds[UNITS];

/* Names on a command line to bits; none: all. ret: 0, ERR_INVAL (unknown) or ERR_NOENT (not part of
 * this build) with a sentence. */
int units_parse(char *const names[], int n, unsigned *ret_mask, struct err *err);
/* The same for a JSON list of names (NULL: all). */
int units_parse_json(json_t *names, unsigned *ret_mask, struct err *err);
/* With everything they need. */
unsigned units_with_needs(unsigned mask);
