#include "agent/device/conf_share.h"

static void share(json_t *of, json_t *with)
{
	const char *key;
	json_t *value, *other;
	size_t i;

	json_object_foreach (of, key, value) {
		other = json_object_get(with, key);
		if (other == value || other == NULL)
			continue;
		if (json_equal(value, other))
			json_object_set(of, key, other);
		else
			share(value, other);
	}
	json_array_foreach (of, i, value) {
		other = json_array_get(with, i);
		if (other == value || other == NULL)
			continue;
		if (json_equal(value, other))
			json_array_set(of, i, other);
		else
			share(value, other);
	}
}

void conf_share(const struct devices_conf *c, const struct device_conf *d)
{
	for (size_t i = c->n; i-- > 0;) {
		if (c->devices[i].type == d->type) {
			share(d->json, c->devices[i].json);
			return;
		}
	}
}

static json_t *compact(json_t *value);

static json_t *compact_object(json_t *object)
{
	json_t *copy = json_object(), *value;
	const char *key;

	json_object_foreach (object, key, value) {
		if (json_object_set_new_nocheck(copy, key, compact(value)) == 0)
			continue;
		json_decref(copy);
		return NULL;
	}
	return copy;
}

static json_t *compact_array(json_t *array)
{
	json_t *copy = json_array();

	for (size_t i = 0; i < json_array_size(array); i++) {
		if (json_array_append_new(copy, compact(json_array_get(array, i))) == 0)
			continue;
		json_decref(copy);
		return NULL;
	}
	return copy;
}

/* ret: a new reference; NULL: out of memory */
static json_t *compact(json_t *value)
{
	if (value->refcount > 1)
		return json_incref(value); /* others have it too */
	if (json_is_object(value))
		return compact_object(value);
	return json_is_array(value) ? compact_array(value) : json_copy(value);
}

void conf_compact(struct devices_conf *c, json_t *list)
{
	for (size_t i = 0; i < c->n && json_array_get(list, i) == c->devices[i].json; i++) {
		struct device_conf *d = &c->devices[i];
		json_t *copy = compact_object(d->json);

		if (copy == NULL)
			return; /* as it was */
		json_array_set(list, i, copy);
		json_decref(d->json);
		d->json = copy;
		d->name = json_string_value(json_object_get(copy, "name"));
	}
}
