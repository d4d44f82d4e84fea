/* check.c - one device of the file against the tables of its type. */
#include "agent/device/check.h"
#include "agent/device/conf.h"
#include "agent/device/outbox.h"
#include "agent/device/point.h"
#include "common/conf_near.h"
#include "common/map.h"
#include "common/util.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TYPES_MAX 32

/* ---- the type of a device ---- */

static void tell_types(const char *key, const char *given, const struct device_type *type,
		       struct problems *p)
{
	const char *names[TYPES_MAX + 1] = {NULL};
	char built[400] = "";
	size_t n;
	const struct device_type *const *types = device_types(&n);

	for (size_t i = 0; i < n && i < TYPES_MAX; i++) {
		size_t len = strlen(built);

		names[i] = types[i]->name;
		if (types[i]->fields != NULL)
			snprintf(built + len, sizeof(built) - len, "%s%s", len > 0 ? ", " : "",
				 types[i]->name);
	}
	const char *near = type == NULL ? conf_near_name(names, given) : NULL;

	if (type != NULL)
		problem_add(p, key, "%s is not part of this version; there are: %s", type->name,
			    built);
	else if (near != NULL)
		problem_add(p, key, "%s is no device type (did you mean %s?); there are: %s", given,
			    near, built);
	else
		problem_add(p, key, "%s is no device type; there are: %s", given, built);
}

/* ret: NULL: told. */
static const struct device_type *type_named(const char *name, const char *key, struct problems *p)
{
	const struct device_type *type = device_type_find(name);

	if (type != NULL && type->fields != NULL)
		return type;
	tell_types(key, name, type, p);
	return NULL;
}

/* A file that has both names of the type must mean the same. ret: whether it does; else told. */
static bool module_is(const struct device_type *type, const json_t *device, struct problems *p)
{
	const char *module = json_string_value(json_object_get(device, "module"));
	const struct device_type *named = module != NULL ? type_named(module, "module", p) : type;

	if (named != NULL && named != type)
		problem_add(p, "module", "is %s, but the type is %s", named->name, type->name);
	return named == type;
}

const struct device_type *check_type(const json_t *device, const char *of_template,
				     struct problems *p)
{
	const char *key = json_object_get(device, "type") != NULL ? "type" : "module";
	const json_t *value = json_object_get(device, key);

	if (value == NULL && of_template != NULL)
		return type_named(of_template, "template", p);
	if (!json_is_string(value)) {
		problem_add(p, "type",
			    value == NULL ? "is missing" : "must be the name of a device type");
		return NULL;
	}
	const struct device_type *type = type_named(json_string_value(value), key, p);

	if (type != NULL && !module_is(type, device, p))
		return NULL;
	if (type == NULL || of_template == NULL || device_type_find(of_template) == type)
		return type;
	problem_add(p, key, "is %s, but the template is for %s", type->name, of_template);
	return NULL;
}

/* ---- points ---- */

/* Points stand in lists of lists of the device; what is deeper is no point. */
#define POINT_DEPTH_MAX 8

struct points {
	const struct point_spec **sorted; /* by options */
	size_t n;
	struct problems *p;
};

static int by_options(const void *a, const void *b)
{
	const struct point_spec *const *x = a, *const *y = b;

	return ((*x)->options > (*y)->options) - ((*x)->options < (*y)->options);
}

static void check_here(const struct points *points, const json_t *object)
{
	const struct point_spec sought = {.options = object}, *key = &sought;
	const struct point_spec **found =
		bsearch(&key, points->sorted, points->n, sizeof(points->sorted[0]), by_options);

	if (found != NULL)
		point_check(*found, points->p);
}

/* Check the points that are in a value, whose path has been entered. */
static void check_within(const struct points *points, json_t *value, unsigned depth)
{
	const char *key;
	json_t *inner;
	size_t i;

	if (depth == POINT_DEPTH_MAX)
		return;
	if (json_is_object(value))
		check_here(points, value);
	json_object_foreach (value, key, inner) {
		if (!json_is_object(inner) && !json_is_array(inner))
			continue;
		problem_enter(points->p, "%s", key);
		check_within(points, inner, depth + 1);
		problem_leave(points->p);
	}
	json_array_foreach (value, i, inner) {
		if (!json_is_object(inner) && !json_is_array(inner))
			continue;
		problem_enter(points->p, "[%zu]", i);
		check_within(points, inner, depth + 1);
		problem_leave(points->p);
	}
}

/* Most files have points that are all right; then nobody needs their paths. */
static bool all_right(const struct point_list *list)
{
	struct problems *p = problems_new();

	for (size_t i = 0; p != NULL && i < list->n; i++)
		point_check(&list->items[i], p);
	bool right = p != NULL && problems_errors(p) == 0;

	problems_free(p);
	return right;
}

/* ret: 0 or ERR_NOMEM */
static int tell_points(const struct point_list *list, json_t *device, struct problems *p)
{
	CLEANUP(freep)
	const struct point_spec **sorted = calloc(list->n + 1, sizeof(struct point_spec *));

	if (sorted == NULL)
		return ERR_NOMEM;
	for (size_t i = 0; i < list->n; i++)
		sorted[i] = &list->items[i];
	qsort(sorted, list->n, sizeof(sorted[0]), by_options);
	size_t before = problems_errors(p);

	check_within(&(struct points){sorted, list->n, p}, device, 0);
	/* options that the type has made up stand nowhere in the file */
	for (size_t i = 0; problems_errors(p) == before && i < list->n; i++) {
		problem_enter(p, "%s", list->items[i].name);
		point_check(&list->items[i], p);
		problem_leave(p);
	}
	return 0;
}

static const char *option_text(const struct point_spec *spec, const char *key)
{
	return json_string_value(json_object_get(spec->options, key));
}

/* A `keep` without a store is a loss that shows when it is too late. */
static void check_keep(const struct point_list *list, const json_t *device, struct problems *p)
{
	bool keeps = false;

	for (size_t i = 0; i < list->n; i++) {
		const char *keep = option_text(&list->items[i], "keep");

		keeps |= keep != NULL && strcmp(keep, outbox_keep_names[KEEP_NONE]) != 0;
	}
	if (keeps && !json_is_object(json_object_get(device, "store")))
		problem_warn(p, "store",
			     "is missing: nothing is kept, whatever `keep` of its points says");
}

/* Graphs will look for the name that the file says. ret: 0 or ERR_NOMEM */
static int check_features(const struct point_list *list, struct problems *p)
{
	char name[FEATURE_NAME_MAX + 1];
	size_t named = 0;

	while (named < list->n && option_text(&list->items[named], "feature") == NULL)
		named++;
	if (named == list->n)
		return 0; /* as mostly: made names give way to each other */
	struct map *used = map_new();
	int rc = used != NULL ? feature_name(LINK_FEATURE, false, used, name, NULL) : ERR_NOMEM;

	for (size_t i = 0; rc == 0 && i < list->n; i++) {
		const struct point_spec *spec = &list->items[i];
		const char *wanted = option_text(spec, "feature");

		rc = feature_name(point_feature(spec), spec->output, used, name, NULL);
		if (rc == 0 && wanted != NULL && strcmp(wanted, name) != 0)
			problem_warn(p, "", "feature '%s' of point '%s' is taken; it becomes '%s'",
				     wanted, spec->name, name);
	}
	map_free(used, free);
	return rc;
}

static int check_points(const struct device_type *type, json_t *device, struct problems *p)
{
	struct point_list points = {0};
	struct err err = {0};
	int rc = type->points(device, &points, &err);

	if (rc < 0 && rc != ERR_NOMEM)
		problem_add(p, "", "%s", err.text);
	if (rc == 0 && !all_right(&points))
		rc = tell_points(&points, device, p);
	if (rc == 0) {
		check_keep(&points, device, p);
		rc = check_features(&points, p);
	}
	free(points.items);
	return rc;
}

/* ---- all ---- */

int check_device(const struct device_type *type, json_t *device, struct problems *p)
{
	const struct field rows[] = {
		{.name = "", .type = FIELD_ROWS, .inner = device_fields},
		{.name = "", .type = FIELD_ROWS, .inner = type->fields},
		{0},
	};
	size_t before = problems_errors(p);
	int rc = fields_check(rows, device, p);

	if (rc == 0 && type->check != NULL)
		type->check(device, p);
	if (rc == 0 && problems_errors(p) == before)
		rc = check_points(type, device, p);
	return rc == 0 && problems_errors(p) > before ? ERR_SCHEMA : rc;
}
