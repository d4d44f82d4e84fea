/* project_fields.c - elements of lists in requests about projects. */
#include "ccm/ops/project_fields.h"

#include "ccm/ops/param.h"

#define MAY (FIELD_OPTIONAL | FIELD_NULLABLE)

/* clients send back whole DF_Module rows */
static const struct field link_param_fields[] = {
	{"param_i", FIELD_INT, .help = "which parameter, from 0"},
	{"idf_type", FIELD_STR, MAY, .names = idf_types, .help = "the value, or its change since the last one"},
	{"fn_id", FIELD_INT, MAY, .help = "function; null or 0: none"},
	{"normalization", FIELD_BOOL, MAY, .help = "whether values are mapped to min ... max"},
	{"min", FIELD_NUMBER, MAY, .help = "smallest value; equal to max: no range"},
	{"max", FIELD_NUMBER, MAY, .help = "largest value"},
	{"na_id", .flags = FIELD_DROPPED},
	{"dfo_id", .flags = FIELD_DROPPED},
	{"color", .flags = FIELD_DROPPED},
	{0},
};

const struct field link_item_fields[] = {
	{"dfo_id", FIELD_INT, .help = "which link"},
	{"dfmp_list", FIELD_LIST, .item = FIELD_OBJECT, .inner = link_param_fields,
	 .help = "what its parameters become; the rest stays"},
	{0},
};
