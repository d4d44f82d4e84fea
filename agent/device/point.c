#include "agent/device/point.h"

#include "agent/device/point_int.h"
#include "common/util.h"
#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define NUMBER_BITS 53 /* that a double holds exactly; wider integers go as text */

/* ---- numbers ---- */

/* A number as exact as it is known. */
struct number {
	bool exact, negative; /* exact: magnitude and sign are the number */
	uint64_t magnitude;
	double r; /* in any case */
};

static struct number of_int(int64_t i)
{
	struct number n = {.exact = true, .negative = i < 0, .r = (double)i};
	n.magnitude = i < 0 ? -(uint64_t)i : (uint64_t)i;
	return n;
}

static struct number of_uint(uint64_t u)
{
	return (struct number){.exact = true, .magnitude = u, .r = (double)u};
}

static struct number of_real(double r)
{
	return (struct number){.r = r};
}

static uint64_t low_bits(uint64_t u, unsigned bits)
{
	return bits < 64 ? u & (((uint64_t)1 << bits) - 1) : u;
}

/* The number that a bit string stands for. */
static struct number of_bits(const struct point *p, uint64_t u)
{
	unsigned bits = p->how->bits;
	u = low_bits(u, bits);
	if (p->how->format == FORMAT_FLOAT32) {
		uint32_t half = (uint32_t)u;
		float f;
		memcpy(&f, &half, sizeof(f));
		return of_real(f);
	}
	if (p->how->format == FORMAT_FLOAT64) {
		double r;
		memcpy(&r, &u, sizeof(r));
		return of_real(r);
	}
	if (p->how->format == FORMAT_INT && (u >> (bits - 1)) != 0)
		u |= ~low_bits(UINT64_MAX, bits);
	return p->how->format == FORMAT_INT ? of_int((int64_t)u) : of_uint(u);
}

static bool is_scaled(const struct point *p)
{
	return p->how->scale != 1 || p->how->offset != 0;
}

static double scaled(const struct point *p, double r)
{
	const struct conversion *how = p->how;

	return (how->divisor != 0 ? r / how->divisor : r * how->scale) + how->offset;
}

static double unscaled(const struct point *p, double r)
{
	const struct conversion *how = p->how;

	r -= how->offset;
	return how->divisor != 0 ? r * how->divisor : r / how->scale;
}

static json_t *number_json(const struct number *n)
{
	char text[24];
	if (!n->exact)
		return json_real(n->r); /* NULL: not finite */
	if (n->magnitude >> NUMBER_BITS == 0)
		return json_integer(n->negative ? -(json_int_t)n->magnitude
						: (json_int_t)n->magnitude);
	snprintf(text, sizeof(text), "%s%" PRIu64, n->negative ? "-" : "", n->magnitude);
	return json_string(text);
}

/* ---- to IDFs ---- */

/* ret: NULL: nothing that IoTtalk can be told (not finite, a text that is no UTF-8). */
static json_t *value_json(const struct point *p, const struct value *v)
{
	struct number n = {0};
	switch (v->kind) {
	case VALUE_TEXT:
		return json_string(v->text);
	case VALUE_UINT:
		n = p->how->bits != 0 ? of_bits(p, v->u) : of_uint(v->u);
		break;
	case VALUE_INT:
		n = of_int(v->i);
		break;
	case VALUE_REAL:
		n = of_real(v->r);
		break;
	case VALUE_NONE:
		return NULL;
	}
	if (is_scaled(p))
		n = of_real(scaled(p, n.r));
	return number_json(&n);
}

/* value: taken; NULL: nothing that can be told, so 0 and invalid. */
static json_t *idf_array(const struct point *p, const struct value *v, json_t *value)
{
	unsigned quality = v->quality | (value == NULL ? QUALITY_INVALID : 0);
	json_auto_t *array = json_array();
	int rc = json_array_append_new(array, value != NULL ? value : json_integer(0));
	if (rc == 0 && p->how->dims >= DIMS_VALUE_QUALITY)
		rc = json_array_append_new(array, json_integer(quality));
	if (rc == 0 && p->how->dims == DIMS_FULL)
		rc = json_array_append_new(array, json_integer(v->time_us));
	return rc == 0 ? TAKE(array) : NULL;
}

static bool same_value(const struct value *a, const struct value *b)
{
	if (a->kind != b->kind || a->quality != b->quality)
		return false;
	return a->kind == VALUE_TEXT ? strcmp(a->text, b->text) == 0 : a->u == b->u;
}

/* ret: false: out of memory */
static bool remember(struct point *p, const struct value *v)
{
	struct value old = p->last;
	struct value next = *v;
	if (v->kind == VALUE_TEXT && (next.text = strdup(v->text)) == NULL)
		return false;
	p->last = next;
	if (old.kind == VALUE_TEXT)
		free((char *)old.text);
	return true;
}

json_t *point_to_idf(struct point *p, const struct value *v, int64_t now_us)
{
	struct value next = *v;
	if (v->kind == VALUE_NONE) {
		if (p->last.kind == VALUE_NONE)
			return NULL;
		next = p->last;
		next.quality = v->quality;
		next.periodic = v->periodic;
	}
	next.time_us = v->time_us != 0 ? v->time_us : now_us;
	if (next.periodic && p->how->on_change && same_value(&next, &p->last)) {
		p->last.time_us = next.time_us;
		return NULL;
	}
	json_auto_t *value = value_json(p, &next);
	bool good = value != NULL && (next.quality & (QUALITY_INVALID | QUALITY_TEST)) == 0;
	if (p->how->dims == DIMS_VALUE && !good) {
		/* the last good one stays; that the field doubts it is known */
		p->last.quality = next.quality | (value == NULL ? QUALITY_INVALID : 0);
		return NULL;
	}
	return remember(p, &next) ? idf_array(p, &next, TAKE(value)) : NULL;
}

json_t *point_show(const struct point *p, const struct value *v, int64_t now_us,
		   unsigned *ret_quality)
{
	struct point fresh = {.how = p->how};
	json_t *shown = point_to_idf(&fresh, v, now_us);

	*ret_quality = point_last_quality(&fresh);
	if (fresh.last.kind == VALUE_TEXT)
		free((char *)(uintptr_t)fresh.last.text);
	return shown;
}

json_t *point_last(const struct point *p)
{
	if (p->last.kind == VALUE_NONE)
		return NULL;
	return idf_array(p, &p->last, value_json(p, &p->last));
}

const struct value *point_last_value(const struct point *p)
{
	return p->last.kind != VALUE_NONE ? &p->last : NULL;
}

unsigned point_last_quality(const struct point *p)
{
	json_auto_t *value = p->last.kind != VALUE_NONE ? value_json(p, &p->last) : NULL;
	bool is_none = p->last.kind != VALUE_NONE && value == NULL;

	return p->last.quality | (is_none ? QUALITY_INVALID : 0);
}

/* ---- from ODFs ---- */

/* "-12": more digits than 64 bits hold make it inexact. */
static bool parse_digits(const char *text, struct number *ret)
{
	const char *digits = text + (text[0] == '-');
	size_t n = strlen(digits);
	if (n == 0 || n > 400 || strspn(digits, "0123456789") != n)
		return false;
	errno = 0;
	uint64_t magnitude = strtoull(digits, NULL, 10);
	*ret = errno == 0 ? of_uint(magnitude) : of_real(strtod(digits, NULL));
	ret->negative = text[0] == '-';
	if (ret->negative)
		ret->r = -ret->r;
	return true;
}

static int parse_number(const json_t *v, struct number *ret, struct err *err)
{
	switch (json_typeof(v)) {
	case JSON_INTEGER:
		*ret = of_int(json_integer_value(v));
		return 0;
	case JSON_REAL:
		*ret = of_real(json_real_value(v));
		return 0;
	case JSON_TRUE:
	case JSON_FALSE:
		*ret = of_int(json_is_true(v));
		return 0;
	case JSON_STRING:
		if (parse_digits(json_string_value(v), ret))
			return 0;
		return err_set(err, ERR_SCHEMA,
			       "a number is needed; a text must be decimal digits");
	case JSON_NULL:
		return err_set(err, ERR_SCHEMA, "a number is needed, not null");
	default:
		return err_set(err, ERR_SCHEMA, "a number is needed, not a list or an object");
	}
}

static int float_range(double value, double largest, struct err *err)
{
	return err_set(err, ERR_RANGE, "%.15g is not in %.15g to %.15g", value, -largest, largest);
}

static int to_float(const struct point *p, const struct number *n, double r, uint64_t *ret,
		    struct err *err)
{
	if (p->how->format == FORMAT_FLOAT64) {
		if (!isfinite(r))
			return float_range(n->r, DBL_MAX, err);
		memcpy(ret, &r, sizeof(r));
		return 0;
	}
	float f = fabs(r) <= DBL_MAX ? (float)r : INFINITY;
	uint32_t half;
	if (!isfinite(f))
		return float_range(n->r, FLT_MAX, err);
	memcpy(&half, &f, sizeof(half));
	*ret = half;
	return 0;
}

static int int_range(const struct point *p, const struct number *n, struct err *err)
{
	unsigned bits = p->how->bits;
	bool has_sign = p->how->format == FORMAT_INT;
	uint64_t top = low_bits(UINT64_MAX, bits - has_sign); /* the lowest is -top - 1, or 0 */
	char value[32], low[32] = "0", high[32];
	if (is_scaled(p)) {
		double ends[2] = {scaled(p, has_sign ? -(double)top - 1 : 0),
				  scaled(p, (double)top)};
		snprintf(low, sizeof(low), "%.15g", ends[p->how->scale < 0]);
		snprintf(high, sizeof(high), "%.15g", ends[p->how->scale > 0]);
	} else {
		if (has_sign)
			snprintf(low, sizeof(low), "-%" PRIu64, top + 1);
		snprintf(high, sizeof(high), "%" PRIu64, top);
	}
	if (n->exact)
		snprintf(value, sizeof(value), "%s%" PRIu64, n->negative ? "-" : "", n->magnitude);
	else
		snprintf(value, sizeof(value), "%.15g", n->r);
	return err_set(err, ERR_RANGE, "%s is not in %s to %s", value, low, high);
}

/* Two's complement, or plain bits. */
static int to_int(const struct point *p, const struct number *n, double r, uint64_t *ret,
		  struct err *err)
{
	unsigned bits = p->how->bits;
	bool has_sign = p->how->format == FORMAT_INT;
	if (n->exact && !is_scaled(p)) {
		uint64_t top = low_bits(UINT64_MAX, bits - has_sign);
		bool fits = !n->negative || n->magnitude == 0 ? n->magnitude <= top
							      : has_sign && n->magnitude <= top + 1;
		*ret = low_bits(n->negative ? -n->magnitude : n->magnitude, bits);
		return fits ? 0 : int_range(p, n, err);
	}
	double rounded = round(r), end = ldexp(1, (int)(bits - has_sign));
	if (!(rounded >= (has_sign ? -end : 0) && rounded < end))
		return int_range(p, n, err);
	*ret = low_bits(rounded < 0 ? (uint64_t)(int64_t)rounded : (uint64_t)rounded, bits);
	return 0;
}

/* A point that is no bit string: what its protocol makes of the number is its own affair. */
static void to_plain(const struct point *p, const struct number *n, double r, struct value *ret)
{
	if (is_scaled(p) || !n->exact)
		*ret = (struct value){.kind = VALUE_REAL, .r = r};
	else if (n->negative && n->magnitude <= (uint64_t)INT64_MAX + 1)
		*ret = (struct value){.kind = VALUE_INT, .i = (int64_t)-n->magnitude};
	else if (n->negative)
		*ret = (struct value){.kind = VALUE_REAL, .r = r};
	else if (n->magnitude <= INT64_MAX)
		*ret = (struct value){.kind = VALUE_INT, .i = (int64_t)n->magnitude};
	else
		*ret = (struct value){.kind = VALUE_UINT, .u = n->magnitude};
}

int point_from_odf(const struct point *p, const json_t *values, struct value *ret, struct err *err)
{
	struct number n = {0};
	if (!json_is_array(values) || json_array_size(values) != 1)
		return err_set(err, ERR_SCHEMA, "a list of one value is needed");
	const json_t *v = json_array_get(values, 0);
	if (p->how->bits == 0 && json_is_string(v)) {
		*ret = (struct value){.kind = VALUE_TEXT, .text = json_string_value(v)};
		return 0;
	}
	int rc = parse_number(v, &n, err);
	if (rc < 0)
		return rc;
	double r = is_scaled(p) ? unscaled(p, n.r) : n.r;
	if (p->how->bits == 0) {
		to_plain(p, &n, r, ret);
		return 0;
	}
	uint64_t bits = 0;
	rc = p->how->format >= FORMAT_FLOAT32 ? to_float(p, &n, r, &bits, err)
					      : to_int(p, &n, r, &bits, err);
	if (rc == 0)
		*ret = (struct value){.kind = VALUE_UINT, .u = bits};
	return rc;
}
