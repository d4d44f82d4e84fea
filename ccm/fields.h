/* fields.h - what a request's body may hold, as tables: they check bodies, and they are the OpenAPI description (spec ccm 3.1). */
#pragma once

#include "common/err.h"
#include <jansson.h>
#include <stdbool.h>

enum field_type { FIELD_ANY, FIELD_INT, FIELD_NUMBER, FIELD_BOOL, FIELD_STR, FIELD_TEXT, FIELD_LIST, FIELD_OBJECT };

enum field_flags {
	FIELD_OPTIONAL = 1,
	FIELD_NULLABLE = 2,
	FIELD_DROPPED = 4, /* known, of any type, and not looked at (what clients send back) */
	FIELD_EMPTY = 8,   /* may be an empty string, although it is required */
};

/* Tables end with {0}; a row FIELD_OTHERS before that: names that the table does not know are no error, and not looked at.
 * FIELD_STR: 1 to 255 characters (optional ones may be empty); FIELD_TEXT: any length. No string holds NUL. */
struct field {
	const char *name;
	enum field_type type;
	unsigned flags;
	enum field_type item;	   /* of a list: what its elements are; objects, if there is `inner` */
	const struct field *inner; /* of an object, or of a list's objects; NULL: not checked */
	const char *const *names;  /* of a string: the only values; NULL-terminated */
	const char *help;
};

#define FIELD_OTHERS {"*", .flags = FIELD_DROPPED}

/* Check an object. coerce: decimal strings are taken for numbers, 0 and 1 for booleans, and `ctx` is ignored (spec ccm 4.1).
 * ret_checked: a new object with what is there, without what is dropped. The tests go in the order of spec 3.1: missing, unknown,
 * type, empty.
 * Errors: ERR_SCHEMA with the path of what is wrong ("dfm_list[0].dfo_id"), ERR_NOMEM. */
int fields_check(const struct field *fields, const json_t *object, bool coerce, json_t **ret_checked, struct err *err);
/* The same of an object that stands at a path of something larger ("DeviceModel[0].df_list[2]"), for errors. */
int fields_check_at(const struct field *fields, const json_t *object, const char *path, bool coerce, json_t **ret_checked, struct err *err);
