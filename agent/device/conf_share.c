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
		if (c->devices[i].type == d->type && c->devices[i].json != NULL) {
			share(d->json, c->devices[i].json);
			return;
		}
	}
}
