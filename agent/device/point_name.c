/* point_name.c - names of features: slugs of the names that people gave to points (gateway-devices
 * 4.1). */
#include "agent/device/point.h"

#include "common/map.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define SUFFIX_MAX 4 /* "_set" */

const char *point_feature(const struct point_spec *spec)
{
	const char *feature = json_string_value(json_object_get(spec->options, "feature"));
	return feature != NULL ? feature : spec->name;
}

/* buf: FEATURE_NAME_MAX + 1 */
static void make_slug(const char *name, char *buf)
{
	size_t n = 0;
	for (const char *c = name; *c != '\0' && n < FEATURE_NAME_MAX; c++) {
		char lower = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
		bool letter = lower >= 'a' && lower <= 'z';
		if (n == 0 && !letter) {
			buf[n++] = 'p';
			buf[n++] = '_';
		}
		if (letter || (lower >= '0' && lower <= '9'))
			buf[n++] = lower;
		else if (buf[n - 1] != '_')
			buf[n++] = '_';
	}
	if (n == 0)
		buf[n++] = 'p';
	while (buf[n - 1] == '_')
		n--;
	buf[n] = '\0';
}

static const char *const suffixes[] = {"", "_set", "_ack"};

static size_t names_of(bool output)
{
	return output ? ARRAY_LEN(suffixes) : 1;
}

static bool is_free(const struct map *used, const char *name, bool output)
{
	char full[FEATURE_NAME_MAX + SUFFIX_MAX + 1];
	for (size_t i = 0; i < names_of(output); i++) {
		snprintf(full, sizeof(full), "%s%s", name, suffixes[i]);
		if (map_find(used, full) != NULL)
			return false;
	}
	return true;
}

/* A name that is taken. */
struct taken {
	unsigned next; /* the number to try first when it is wanted again */
	char name[FEATURE_NAME_MAX + SUFFIX_MAX + 1];
};

static int take(struct map *used, const char *name, bool output, struct err *err)
{
	for (size_t i = 0; i < names_of(output); i++) {
		struct taken *t = malloc(sizeof(*t));
		if (t == NULL)
			return err_set(err, ERR_NOMEM, "feature '%s'", name);
		t->next = 2;
		snprintf(t->name, sizeof(t->name), "%s%s", name, suffixes[i]);
		int rc = map_add(used, t->name, t);
		if (rc < 0) {
			free(t);
			return err_set(err, rc, "feature '%s'", name);
		}
	}
	return 0;
}

int feature_name(const char *name, bool output, struct map *used, char *buf, struct err *err)
{
	char slug[FEATURE_NAME_MAX + 1], number[16];
	make_slug(name, slug);
	memcpy(buf, slug, sizeof(slug));
	struct taken *same = map_find(used, slug);
	for (unsigned k = same != NULL ? same->next : 2; !is_free(used, buf, output); k++) {
		/* the slug gives way where both would be too long */
		int n = snprintf(number, sizeof(number), "_%u", k);
		snprintf(buf, FEATURE_NAME_MAX + 1, "%.*s%s", FEATURE_NAME_MAX - n, slug, number);
		if (same != NULL)
			same->next = k + 1;
	}
	return take(used, buf, output, err);
}
