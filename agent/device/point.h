/* point.h - a point of a device as IoTtalk sees it: the name of its feature, and values of the
 * field as arrays for IDFs and back from ODFs: signed, float, scale and offset, dims
 * (gateway-devices 4.1, 4.2).
 */
#pragma once

#include "agent/device/driver.h"
#include "common/err.h"
#include <jansson.h>

#define FEATURE_NAME_MAX 64 /* bytes, without what a suffix adds */

struct point; /* the conversions of one point */

/* spec: borrowed, with its options; it outlives the point. ret: yours. Errors: ERR_SCHEMA (options
 * that contradict each other), ERR_NOMEM. */
int point_new(const struct point_spec *spec, struct point **ret, struct err *err);
struct point *point_free(struct point *p);
/* The same checks for the file, told with problem_add(). */
void point_check(const struct point_spec *spec, struct problems *p);

/* ret: what is pushed, a new array; NULL: nothing is to be pushed (an invalid value with dims
 * "value", out of memory ...). v of VALUE_NONE: the last value with v's quality. Remembers it. */
json_t *point_to_idf(struct point *p, const struct value *v, int64_t now_us);
/* The last that was pushed or would have been; a new array, NULL: none yet. */
json_t *point_last(const struct point *p);
const struct value *point_last_value(const struct point *p); /* as the field had it; NULL: none */
/* ret: 0; ERR_SCHEMA: null, no number, another length; ERR_RANGE: not of the point's range. */
int point_from_odf(const struct point *p, const json_t *values, struct value *ret, struct err *err);
/* NULL-terminated, for the registration. */
const char *const *point_units(const struct point *p);

/* Slugs: `used` has the names taken, and gets this one. buf: FEATURE_NAME_MAX + 1. */
struct map;
int feature_name(const char *name, struct map *used, char *buf, struct err *err);
