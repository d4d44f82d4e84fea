/* project_fields.h - what the REST API and the gui API both let in for operations of project.h. */
#pragma once

#include "ccm/ops/param.h"

extern const struct field link_item_fields[];	   /* of one of dfm_list */

/* Parts of tables. */
#define NA_CREATE_FIELDS                                                                                     \
	{"na_name", FIELD_STR, .help = "its name"}, {"na_idx", FIELD_INT, .help = "slot; the next free one if it is taken"}, \
	{"dfo_ids", FIELD_LIST, .item = FIELD_INT, .help = "the features that it links: at least one input and one output"}
#define NA_UPDATE_FIELDS                                                                                     \
	{"na_name", FIELD_STR, FIELD_OPTIONAL | FIELD_NULLABLE, .help = "a new name"},                       \
	{"multiplejoin_fn_id", FIELD_INT, FIELD_OPTIONAL | FIELD_NULLABLE, .help = "join function; null: none"}, \
	{"dfm_list", FIELD_LIST, FIELD_OPTIONAL, .item = FIELD_OBJECT, .inner = link_item_fields, .help = "changes of links"}
#define PARAMETER_LIST                                                                   \
	{"df_parameter", FIELD_LIST, .item = FIELD_OBJECT, .inner = param_fields,        \
	 .help = "its parameters as the caller wants them"}
