/* point.h - a point of a device as IoTtalk sees it: the name of its feature, and values of the
 * field as arrays for IDFs and back from ODFs: signed, float, scale and offset, dims
 * (gateway-devices 4.1, 4.2).
 */
#pragma once

#include "agent/device/driver.h"
#include "common/err.h"
#include <jansson.h>

#define FEATURE_NAME_MAX 64     /* bytes, without what a suffix adds */
#define LINK_FEATURE     "link" /* the IDF that every device has */
#define POINT_UNITS_MAX  4      /* with the NULL at the end */

struct point;  /* the conversions of one point */
struct points; /* of all of a device */

/* specs: borrowed for the call. ret: yours. Errors: ERR_SCHEMA (options that contradict each
 * other), ERR_NOMEM. */
int points_new(const struct point_spec *specs, size_t n, struct points **ret, struct err *err);
struct points *points_free(struct points *all);
struct point *points_at(const struct points *all, size_t i);
/* The same checks for the file, told with problem_add(). */
void point_check(const struct point_spec *spec, struct problems *p);

/* ret: what is pushed, a new array; NULL: nothing is to be pushed (an invalid value with dims
 * "value", a periodic one that says nothing new with on_change, out of memory). v of VALUE_NONE:
 * the last value with v's quality. Remembers it. */
json_t *point_to_idf(struct point *p, const struct value *v, int64_t now_us);
/* The same of a point that has no value yet, and its quality; remembers none. */
json_t *point_show(const struct point *p, const struct value *v, int64_t now_us,
		   unsigned *ret_quality);
/* The last that was pushed or would have been; a new array, NULL: none yet. */
json_t *point_last(const struct point *p);
/* As the field had it; NULL: none. With dims "value": the last good one, and the quality of the
 * last. */
const struct value *point_last_value(const struct point *p);
/* The quality of the last one as IoTtalk is told it: what is not finite is invalid. */
unsigned point_last_quality(const struct point *p);
/* values: an array of one number, boolean or text of decimal digits. ret: a bit string of the
 * point's bits, or a number or text (borrowed from values) for a point that is none. Errors:
 * ERR_SCHEMA (null, no number, another length), ERR_RANGE (not of the point's range; text names
 * it). */
int point_from_odf(const struct point *p, const json_t *values, struct value *ret, struct err *err);

/* For the registration. buf: POINT_UNITS_MAX; what is put there is borrowed. ret:
 * buf, NULL-terminated; NULL: one value, and its unit is not told. */
const char *const *point_units(const struct point *p, bool output, const char **buf);
/* Values go only to those who need them all (dims "value_quality" and "full"): when the link goes
 * down its last value is told again as stale. */
bool point_tells_quality(const struct point *p);

/* ---- names of features ---- */

/* What names the feature: the option `feature`, or the point's own name. */
const char *point_feature(const struct point_spec *spec);
/* Slugs: the name of a point's IDF; with output also <name>_set and <name>_ack are its. used: the
 * names taken, empty at first, gets these too; yours to map_free(used, free). buf:
 * FEATURE_NAME_MAX + 1. Errors: ERR_NOMEM. */
struct map;
int feature_name(const char *name, bool output, struct map *used, char *buf, struct err *err);
