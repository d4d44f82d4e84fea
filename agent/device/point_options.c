/* point_options.c - what a file may say about a point, and the point that is made of it. */
#include "agent/device/outbox.h"
#include "agent/device/point_int.h"
#include "common/util.h"
#include <math.h>
#include <string.h>

#define LOOK_BACK 8 /* different conversions in turn that are still found to be the same */

static const char *const format_names[] = {"uint", "int", "float32", "float64", NULL};
static const char *const dims_names[] = {"value", "value_quality", "full", NULL};

static const char *check_feature(const json_t *value)
{
	const char *name = json_string_value(value);
	size_t len = strlen(name);
	if (name[0] >= 'a' && name[0] <= 'z' && len <= FEATURE_NAME_MAX && name[len - 1] != '_' &&
	    strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == len &&
	    strstr(name, "__") == NULL)
		return NULL;
	return "a feature's name has 1 to 64 of a-z, 0-9 and single '_' between them, and begins "
	       "with a letter";
}

static const char *check_scale(const json_t *value)
{
	return json_number_value(value) != 0 ? NULL : "a scale of 0 makes every value the same";
}

const struct field point_fields[] = {
	{.name = "feature",
	 .type = FIELD_STR,
	 .flags = FIELD_OPTIONAL,
	 .help = "Name of the IDF, and with `_set` of the ODF; made of the point's name if it is "
		 "missing.",
	 .check = check_feature},
	{.name = "unit",
	 .type = FIELD_STR,
	 .flags = FIELD_OPTIONAL | FIELD_NULLABLE,
	 .help = "Unit of the value, told with the feature."},
	{.name = "scale",
	 .type = FIELD_NUMBER,
	 .def = "1",
	 .help = "What IoTtalk sees is value * scale + offset; writes go the other way.",
	 .check = check_scale},
	{.name = "offset", .type = FIELD_NUMBER, .def = "0", .help = "See scale."},
	{.name = "signed",
	 .type = FIELD_BOOL,
	 .def = "false",
	 .help = "The bits are a two's complement number."},
	{.name = "format",
	 .type = FIELD_ENUM,
	 .flags = FIELD_OPTIONAL,
	 .names = format_names,
	 .help = "What the bits are; uint if it is missing, int with `signed`; float32 and float64 "
		 "need 32 and 64 bits."},
	{.name = "dims",
	 .type = FIELD_ENUM,
	 .def = "\"value\"",
	 .names = dims_names,
	 .help = "What is pushed: [value], [value, quality] or [value, quality, microseconds since "
		 "1970]; with value alone, invalid and test values are not pushed."},
	{.name = "on_change",
	 .type = FIELD_BOOL,
	 .def = "false",
	 .help = "What the device reports periodically is pushed only if it differs from before."},
	{.name = "keep",
	 .type = FIELD_ENUM,
	 .flags = FIELD_OPTIONAL,
	 .names = outbox_keep_names,
	 .help = "What of it survives while the broker is away: none, the latest value or all "
		 "values; if it is missing, as the device's `store` says."},
	{0}};

static double option_number(const struct point_spec *s, const char *key, double missing)
{
	const json_t *v = json_object_get(s->options, key);
	return json_is_number(v) ? json_number_value(v) : missing;
}

static bool option_true(const struct point_spec *s, const char *key)
{
	return json_is_true(json_object_get(s->options, key));
}

/* ret: index of the option's word in names, 0 for one that is not there */
static uint8_t option_word(const struct point_spec *s, const char *key, const char *const *names)
{
	const char *word = json_string_value(json_object_get(s->options, key));
	for (uint8_t i = 0; word != NULL && names[i] != NULL; i++)
		if (strcmp(word, names[i]) == 0)
			return i;
	return 0;
}

static bool has_format(const struct point_spec *s)
{
	return json_is_string(json_object_get(s->options, "format"));
}

static enum format format_of(const struct point_spec *s)
{
	if (!has_format(s) && option_true(s, "signed"))
		return FORMAT_INT;
	return option_word(s, "format", format_names);
}

static bool signed_number(const struct point_spec *s)
{
	return s->bits == 0 && option_true(s, "signed");
}

static bool formatted_number(const struct point_spec *s)
{
	return s->bits == 0 && has_format(s);
}

static bool signed_but_no_int(const struct point_spec *s)
{
	return s->bits != 0 && option_true(s, "signed") && format_of(s) != FORMAT_INT;
}

static bool float32_of_other_bits(const struct point_spec *s)
{
	return s->bits != 0 && s->bits != 32 && format_of(s) == FORMAT_FLOAT32;
}

static bool float64_of_other_bits(const struct point_spec *s)
{
	return s->bits != 0 && s->bits != 64 && format_of(s) == FORMAT_FLOAT64;
}

static bool no_scale(const struct point_spec *s)
{
	return option_number(s, "scale", 1) == 0;
}

/* What options must not say together. */
static const struct {
	const char *option;
	bool (*broken)(const struct point_spec *s);
	const char *text;
} rules[] = {
	{"signed", signed_number, "this point is a number already, not bits that could be signed"},
	{"format", formatted_number, "this point is a number already, not bits that need a format"},
	{"signed", signed_but_no_int, "contradicts the format, which is not int"},
	{"format", float32_of_other_bits, "float32 needs a point of 32 bits"},
	{"format", float64_of_other_bits, "float64 needs a point of 64 bits"},
	{"scale", no_scale, "a scale of 0 makes every value the same"},
};

void point_check(const struct point_spec *spec, struct problems *p)
{
	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		if (rules[i].broken(spec))
			problem_add(p, rules[i].option, "%s", rules[i].text);
}

/* ---- how it is converted ---- */

/* A scale of 0.1 is not quite a tenth: times it 12 is 1.2000000000000002. Ten is ten. */
static double divisor_of(double scale)
{
	double divisor = round(1 / scale);

	return 1 / divisor == scale ? divisor : 0;
}

static bool same_conversion(const struct conversion *a, const struct conversion *b)
{
	return a->scale == b->scale && a->offset == b->offset && a->format == b->format &&
	       a->dims == b->dims && a->bits == b->bits && a->on_change == b->on_change &&
	       strcmp(a->unit, b->unit) == 0;
}

/* ret: NULL: out of memory */
static struct conversion *conversion_new(const struct point_spec *spec)
{
	const char *unit = json_string_value(json_object_get(spec->options, "unit"));
	size_t len = unit != NULL ? strlen(unit) : 0;
	struct conversion *c = calloc(1, sizeof(*c) + len + 1);
	if (c == NULL)
		return NULL;
	memcpy(c->unit, unit != NULL ? unit : "", len);
	c->bits = (uint8_t)spec->bits;
	c->scale = option_number(spec, "scale", 1);
	c->divisor = divisor_of(c->scale);
	c->offset = option_number(spec, "offset", 0);
	c->format = (uint8_t)format_of(spec);
	c->dims = option_word(spec, "dims", dims_names);
	c->on_change = option_true(spec, "on_change");
	return c;
}

static int check_rules(const struct point_spec *spec, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		if (rules[i].broken(spec))
			return err_set(err, ERR_SCHEMA, "point '%s': %s: %s", spec->name,
				       rules[i].option, rules[i].text);
	return 0;
}

/* ---- points ---- */

struct points {
	struct conversion **hows; /* those that differ, as far as it was looked */
	size_t n, n_hows;
	struct point items[];
};

/* Take c, or what an earlier point has of the same. ret: NULL: out of memory */
static const struct conversion *share(struct points *all, struct conversion *c)
{
	for (size_t i = all->n_hows; i-- > 0 && all->n_hows - i <= LOOK_BACK;) {
		if (!same_conversion(all->hows[i], c))
			continue;
		free(c);
		return all->hows[i];
	}
	struct conversion **more =
		reallocarray(all->hows, all->n_hows + 1, sizeof(struct conversion *));
	if (more == NULL) {
		free(c);
		return NULL;
	}
	all->hows = more;
	all->hows[all->n_hows++] = c;
	return c;
}

int points_new(const struct point_spec *specs, size_t n, struct points **ret, struct err *err)
{
	struct points *all = calloc(1, sizeof(*all) + n * sizeof(all->items[0]));
	int rc = 0;
	if (all == NULL)
		return err_set(err, ERR_NOMEM, "points");
	for (size_t i = 0; i < n && rc == 0; i++) {
		rc = check_rules(&specs[i], err);
		if (rc < 0)
			break;
		struct conversion *c = conversion_new(&specs[i]);
		all->items[i].how = c != NULL ? share(all, c) : NULL;
		all->n++;
		if (all->items[i].how == NULL)
			rc = err_set(err, ERR_NOMEM, "point '%s'", specs[i].name);
	}
	if (rc < 0) {
		points_free(all);
		return rc;
	}
	*ret = all;
	return 0;
}

struct points *points_free(struct points *all)
{
	if (all == NULL)
		return NULL;
	for (size_t i = 0; i < all->n; i++)
		if (all->items[i].last.kind == VALUE_TEXT)
			free((char *)(uintptr_t)all->items[i].last.text);
	for (size_t i = 0; i < all->n_hows; i++)
		free(all->hows[i]);
	free(all->hows);
	free(all);
	return NULL;
}

struct point *points_at(const struct points *all, size_t i)
{
	return (struct point *)(uintptr_t)&all->items[i];
}

const char *const *point_units(const struct point *p, bool output, const char **buf)
{
	size_t n = 0;
	buf[n++] = p->how->unit;
	if (!output && p->how->dims >= DIMS_VALUE_QUALITY)
		buf[n++] = "quality";
	if (!output && p->how->dims == DIMS_FULL)
		buf[n++] = "us";
	buf[n] = NULL;
	return p->how->unit[0] == '\0' && n == 1 ? NULL : buf;
}

bool point_tells_quality(const struct point *p)
{
	return p->how->dims != DIMS_VALUE;
}
