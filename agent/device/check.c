/* check.c - one device of the file against the tables of its type. */
#include "agent/device/check.h"
#include "agent/device/conf.h"
#include "agent/device/point.h"
#include "common/conf_near.h"
#include <stdio.h>
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

	if (type == NULL || of_template == NULL || device_type_find(of_template) == type)
		return type;
	problem_add(p, key, "is %s, but the template is for %s", type->name, of_template);
	return NULL;
}

/* ---- points ---- */

/* Where in `at` the object `sought` is: "data[3]". ret: false: nowhere. */
static bool find_path(const json_t *at, const json_t *sought, char *path, size_t cap)
{
	const char *key;
	json_t *value;
	size_t i, len = strlen(path);

	if (at == sought)
		return true;
	json_object_foreach ((json_t *)(uintptr_t)at, key, value) {
		snprintf(path + len, cap - len, "%s%s", len > 0 ? "." : "", key);
		if (find_path(value, sought, path, cap))
			return true;
	}
	json_array_foreach (at, i, value) {
		snprintf(path + len, cap - len, "[%zu]", i);
		if (find_path(value, sought, path, cap))
			return true;
	}
	path[len] = '\0';
	return false;
}

/* ret: 0 or ERR_SCHEMA */
static int check_point(const json_t *device, const struct point_spec *spec, struct problems *p)
{
	size_t before = problems_errors(p);
	char path[400] = "";
	struct problems *trial = problems_new();

	/* most are right, and to find the path takes a while */
	if (trial != NULL)
		point_check(spec, trial);
	bool good = trial != NULL && problems_errors(trial) == 0;

	problems_free(trial);
	if (good)
		return 0;
	if (!find_path(device, spec->options, path, sizeof(path)))
		snprintf(path, sizeof(path), "%s", spec->name);
	problem_enter(p, "%s", path);
	point_check(spec, p);
	problem_leave(p);
	return problems_errors(p) > before ? ERR_SCHEMA : 0;
}

static int check_points(const struct device_type *type, const json_t *device, struct problems *p)
{
	struct point_list points = {0};
	struct err err = {0};
	int rc = type->points(device, &points, &err);

	if (rc < 0 && rc != ERR_NOMEM)
		problem_add(p, "", "%s", err.text);
	for (size_t i = 0; rc == 0 && i < points.n; i++)
		check_point(device, &points.items[i], p);
	free(points.items);
	return rc;
}

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
