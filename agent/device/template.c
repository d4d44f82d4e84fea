/* template.c - templates of devices: found, checked, put in. */
#include "agent/device/template.h"
#include "agent/device/file.h"
#include "common/map.h"
#include "common/util.h"
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define NAME_MAX_BYTES 64

struct template
{
	char *reference; /* "NAME" or "NAME@VERSION" as devices say it; owned; key of the map */
	json_t *json;    /* owned; NULL: it could not be read, `why` */
	char digest[FILE_DIGEST_LEN + 1]; /* of its file */
	char why[1000];
};

struct templates {
	char *dirs[2]; /* owned; NULL: could not be found out */
	struct map *known;
};

/* ---- the file ---- */

static const char *check_text(const json_t *value)
{
	return json_is_string(value) ? NULL : "must be a text";
}

const struct field template_fields[] = {
	{.name = "template", .type = FIELD_STR, .help = "Its name, that of the file."},
	{.name = "version",
	 .type = FIELD_INT,
	 .min = 1,
	 .max = INT_MAX,
	 .help = "Counted up with each change."},
	{.name = "title", .type = FIELD_STR, .help = "What it is, in one line."},
	{.name = "type", .type = FIELD_STR, .help = "The device type it is for."},
	{.name = "vendor",
	 .type = FIELD_STR,
	 .flags = FIELD_OPTIONAL,
	 .help = "Who makes the devices."},
	{.name = "notes",
	 .type = FIELD_ANY,
	 .flags = FIELD_OPTIONAL,
	 .check = check_text,
	 .help = "What to know about it, a text."},
	{.name = "device",
	 .type = FIELD_OBJECT,
	 .help = "What devices take of it, as it would stand in the device file."},
	{0},
};

struct complaint {
	char *buf;
	size_t cap;
};

static void keep_first(void *arg, bool is_error, const char *text)
{
	struct complaint *c = arg;

	if (is_error && c->buf[0] == '\0')
		snprintf(c->buf, c->cap, "%s", text);
}

/* ret: whether the file has what a template has; t->why, if not. */
static bool check_template(struct template *t, const char *path, json_t *json)
{
	struct problems *p = problems_new();
	char why[900] = "";
	struct complaint c = {why, sizeof(why)};

	if (p == NULL)
		return false;
	bool good = fields_check(template_fields, json, p) == 0;

	problems_each(p, keep_first, &c);
	problems_free(p);
	if (!good)
		snprintf(t->why, sizeof(t->why), "%.*s: %.*s", 400, path, 500, why);
	return good;
}

/* ret: whether there is such a file; then t->json, or t->why. */
static bool read_template(struct template *t, const char *dir, const char *file, long version)
{
	char path[PATH_MAX];
	struct err err = {0};
	json_auto_t *json = NULL;

	if (dir == NULL || snprintf(path, sizeof(path), "%s/%s.json", dir, file) >= PATH_MAX)
		return false;
	int rc = file_load_json(path, &json, t->digest, &err);

	if (rc == ERR_NOENT)
		return false;
	if (rc < 0)
		snprintf(t->why, sizeof(t->why), "%s", err.text);
	else if (check_template(t, path, json)) {
		if (version > 0 && json_integer_value(json_object_get(json, "version")) != version)
			return false;
		t->json = TAKE(json);
	}
	return true;
}

/* A name that is one, and no way out of the folder. ret: its length; 0: it is none. */
static size_t name_length(const char *reference)
{
	size_t n = 0;

	while (isalnum((unsigned char)reference[n]) ||
	       (n > 0 && reference[n] != '\0' && strchr("._-", reference[n]) != NULL))
		n++;
	return n <= NAME_MAX_BYTES ? n : 0;
}

static void find_template(const struct templates *all, struct template *t)
{
	const char *reference = t->reference;
	size_t n = name_length(reference);
	long version = reference[n] == '@' ? strtol(reference + n + 1, NULL, 10) : 0;
	char name[NAME_MAX_BYTES + 1] = "", exact[NAME_MAX_BYTES + 24] = "";

	if (n > 0)
		memcpy(name, reference, n);
	snprintf(exact, sizeof(exact), "%s@%ld", name, version);
	if (n == 0 || (reference[n] != '\0' && strcmp(exact, reference) != 0) || version < 0) {
		snprintf(t->why, sizeof(t->why), "must be NAME or NAME@VERSION");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(all->dirs); i++) {
		if ((version > 0 && read_template(t, all->dirs[i], exact, version)) ||
		    read_template(t, all->dirs[i], name, version))
			return;
	}
	snprintf(t->why, sizeof(t->why), "there is no template %.100s in %.400s or %.400s",
		 reference, all->dirs[0], all->dirs[1] != NULL ? all->dirs[1] : "-");
}

/* ---- those that were read ---- */

static void free_template(void *template)
{
	struct template *t = template;

	json_decref(t->json);
	free(t->reference);
	free(t);
}

struct templates *templates_new(const char *dir)
{
	struct templates *t = calloc(1, sizeof(*t));
	char program[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);

	if (t == NULL || (t->known = map_new()) == NULL)
		return templates_free(t);
	if (asprintf(&t->dirs[0], "%s/templates", dir) < 0) {
		t->dirs[0] = NULL;
		return templates_free(t);
	}
	program[n > 0 ? n : 0] = '\0';
	char *slash = strrchr(program, '/');

	if (slash == NULL)
		return t;
	*slash = '\0';
	/* <prefix>/bin/gateway-agent */
	if (asprintf(&t->dirs[1], "%s/../share/iottalk/templates", program) < 0) {
		t->dirs[1] = NULL;
		return templates_free(t);
	}
	return t;
}

struct templates *templates_free(struct templates *t)
{
	if (t == NULL)
		return NULL;
	map_free(t->known, free_template);
	for (size_t i = 0; i < ARRAY_LEN(t->dirs); i++)
		free(t->dirs[i]);
	free(t);
	return NULL;
}

/* ret: borrowed of all; NULL: out of memory. */
static const struct template *get_template(struct templates *all, const char *reference)
{
	struct template *t = map_find(all->known, reference);

	if (t != NULL)
		return t;
	t = calloc(1, sizeof(*t));
	if (t == NULL || (t->reference = strdup(reference)) == NULL ||
	    map_add(all->known, t->reference, t) < 0) {
		if (t != NULL)
			free_template(t);
		return NULL;
	}
	find_template(all, t);
	return t;
}

struct look {
	const struct templates *all;
	bool same;
};

static void look_again(void *arg, const char *reference, void *template)
{
	struct look *l = arg;
	const struct template *t = template;
	struct template again = {.reference = t->reference};

	(void)reference;
	if (!l->same)
		return;
	find_template(l->all, &again);
	l->same = t->json != NULL && again.json != NULL && strcmp(again.digest, t->digest) == 0;
	json_decref(again.json);
}

bool templates_same(const struct templates *t)
{
	struct look l = {t, true};

	map_each(t->known, look_again, &l);
	return l.same;
}

/* ---- put together ---- */

/* Two items of a list that are the same thing. */
static bool same_item(const json_t *a, const json_t *b)
{
	const json_t *name = json_object_get(a, "name"), *id = json_object_get(a, "device_id");

	if (name != NULL || json_object_get(b, "name") != NULL)
		return name != NULL && json_equal(name, json_object_get(b, "name"));
	return id != NULL && json_equal(id, json_object_get(b, "device_id"));
}

static bool is_list_of_objects(const json_t *value)
{
	return json_is_array(value) && json_is_object(json_array_get(value, 0));
}

static json_t *put_together(json_t *base, json_t *over);

/* ret: a new list; NULL: out of memory. */
static json_t *join_lists(json_t *base, json_t *over)
{
	json_t *joined = json_copy(base), *item;
	size_t n = json_array_size(base), i;

	json_array_foreach (over, i, item) {
		size_t at = 0;

		while (at < n && !same_item(json_array_get(base, at), item))
			at++;
		int rc = at < n ? json_array_set_new(joined, at,
						     put_together(json_array_get(base, at), item))
				: json_array_append(joined, item);

		if (rc < 0) {
			json_decref(joined);
			return NULL;
		}
	}
	return joined;
}

static json_t *join_objects(json_t *base, json_t *over)
{
	json_t *joined = json_copy(base), *value;
	const char *key;

	json_object_foreach (over, key, value) {
		json_t *below = json_object_get(base, key);

		if (json_object_set_new(joined, key,
					below != NULL ? put_together(below, value)
						      : json_incref(value)) < 0) {
			json_decref(joined);
			return NULL;
		}
	}
	return joined;
}

/* What only one of them has is shared, not copied. ret: a new reference; NULL: out of memory. */
static json_t *put_together(json_t *base, json_t *over)
{
	if (json_is_object(base) && json_is_object(over))
		return join_objects(base, over);
	if (is_list_of_objects(base) && is_list_of_objects(over))
		return join_lists(base, over);
	return json_incref(over);
}

/* ---- what stands beside `template` ---- */

/* What of it the result has no use for. */
static const char *const of_device[] = {"device_id", "prefix", NULL};
static const char *const of_remote[] = {"template", "prefix", NULL};

/* The points of a template have other names and ids here. ret: 0 or ERR_NOMEM. */
static int change_points(json_t *holder, json_t *id, const char *prefix)
{
	json_t *data = json_object_get(holder, "data"), *item;
	json_auto_t *changed = json_array();
	size_t i;

	if (data == NULL || (prefix[0] == '\0' && id == NULL))
		return 0;
	json_array_foreach (data, i, item) {
		const char *name = json_string_value(json_object_get(item, "name"));
		json_t *copy = json_copy(item);
		int rc = json_array_append_new(changed, copy);

		if (rc == 0 && name != NULL)
			rc = json_object_set_new(copy, "name", json_sprintf("%s%s", prefix, name));
		if (rc == 0 && id != NULL && json_object_get(item, "device_id") != NULL)
			rc = json_object_set(copy, "device_id", id);
		if (rc < 0)
			return ERR_NOMEM;
	}
	return json_object_set_new(holder, "data", TAKE(changed)) < 0 ? ERR_NOMEM : 0;
}

/* A copy of what the template has, with the ids and names that the file wants. id: NULL: as the
 * template has them. ret: NULL: out of memory, or told to p. */
static json_t *substitute(const json_t *template_device, json_t *id, const char *prefix,
			  struct problems *p)
{
	json_t *device = json_copy((json_t *)(uintptr_t)template_device);
	json_t *remotes = json_object_get(device, "remote_devices"), *remote;
	json_auto_t *changed = json_array();
	size_t i;
	int rc = device == NULL || changed == NULL ? ERR_NOMEM : 0;

	if (rc == 0 && id != NULL && json_array_size(remotes) > 1) {
		problem_add(p, "device_id", "the template has several remote devices");
		json_decref(device);
		return NULL;
	}
	json_array_foreach (remotes, i, remote) {
		json_t *copy = json_copy(remote);

		rc = rc == 0 ? json_array_append_new(changed, copy) : rc;
		if (rc == 0 && id != NULL)
			rc = json_object_set(copy, "device_id", id);
		if (rc == 0)
			rc = change_points(copy, NULL, prefix);
	}
	if (rc == 0 && remotes != NULL)
		rc = json_object_set_new(device, "remote_devices", TAKE(changed));
	if (rc == 0)
		rc = change_points(device, id, prefix);
	if (rc == 0)
		return device;
	json_decref(device);
	return NULL;
}

/* What a device or remote device says of its template. */
struct use {
	const struct template *template; /* NULL: it names none */
	json_t *id;                      /* borrowed; NULL: not said */
	const char *prefix;
};

/* ret: 0, ERR_SCHEMA (told), ERR_NOMEM. */
static int read_use(struct templates *all, const json_t *holder, struct problems *p,
		    struct use *ret)
{
	const json_t *reference = json_object_get(holder, "template");
	const json_t *prefix = json_object_get(holder, "prefix");

	*ret = (struct use){.id = json_object_get(holder, "device_id"), .prefix = ""};
	if (reference == NULL)
		return 0;
	if (!json_is_string(reference)) {
		problem_add(p, "template", "must be NAME or NAME@VERSION");
		return ERR_SCHEMA;
	}
	if (prefix != NULL && !json_is_string(prefix)) {
		problem_add(p, "prefix", "must be a text");
		return ERR_SCHEMA;
	}
	ret->prefix = prefix != NULL ? json_string_value(prefix) : "";
	ret->template = get_template(all, json_string_value(reference));
	if (ret->template == NULL)
		return ERR_NOMEM;
	if (ret->template->json != NULL)
		return 0;
	problem_add(p, "template", "%s", ret->template->why);
	return ERR_SCHEMA;
}

static const char *type_of(const struct template *t)
{
	return json_string_value(json_object_get(t->json, "type"));
}

/* ret: new; NULL: out of memory. */
static json_t *put_over(json_t *base, json_t *holder, const char *const *without)
{
	json_auto_t *rest = json_copy(holder);

	if (rest == NULL)
		return NULL;
	for (; *without != NULL; without++)
		json_object_del(rest, *without);
	return put_together(base, rest);
}

/* A remote device with a template becomes the template's one; what else the template says of the
 * device is put under the device. */
static int apply_remote(struct templates *all, json_t *remote, struct problems *p,
			json_t **ret_remote, json_t **under, const char **ret_type)
{
	struct use use;
	int rc = read_use(all, remote, p, &use);

	if (rc < 0 || use.template == NULL)
		return rc;
	json_auto_t *device =
		substitute(json_object_get(use.template->json, "device"), NULL, use.prefix, p);
	json_t *list = json_object_get(device, "remote_devices");

	if (device == NULL)
		return ERR_NOMEM;
	if (json_array_size(list) != 1) {
		problem_add(p, "template", "the template has no remote device, or several");
		return ERR_SCHEMA;
	}
	if (*ret_type != NULL && strcmp(*ret_type, type_of(use.template)) != 0) {
		problem_add(p, "template", "is of type %s, another template of %s",
			    type_of(use.template), *ret_type);
		return ERR_SCHEMA;
	}
	*ret_type = type_of(use.template);
	*ret_remote = put_over(json_array_get(list, 0), remote, of_remote);
	json_object_del(device, "remote_devices");
	json_t *both = *under != NULL ? put_together(device, *under) : json_incref(device);

	json_decref(*under);
	*under = both;
	return *ret_remote == NULL || both == NULL ? ERR_NOMEM : 0;
}

/* ret_device: the device or a changed copy, a new reference. */
static int apply_remotes(struct templates *all, json_t *device, struct problems *p,
			 json_t **ret_device, const char **ret_type)
{
	json_t *list = json_object_get(device, "remote_devices"), *remote;
	json_auto_t *under = NULL, *copy = NULL;
	int worst = 0;
	size_t i;

	json_array_foreach (list, i, remote) {
		json_auto_t *full = NULL;

		problem_enter(p, "remote_devices[%zu]", i);
		int rc = apply_remote(all, remote, p, &full, &under, ret_type);

		problem_leave(p);
		if (rc == 0 && full != NULL) {
			copy = copy != NULL ? copy : json_copy(list);
			rc = json_array_set(copy, i, full) < 0 ? ERR_NOMEM : 0;
		}
		worst = rc != 0 && worst != ERR_NOMEM ? rc : worst;
	}
	if (worst < 0)
		return worst;
	if (copy == NULL) {
		*ret_device = json_incref(device);
		return 0;
	}
	json_auto_t *changed = json_copy(device);

	if (json_object_set(changed, "remote_devices", copy) < 0)
		return ERR_NOMEM;
	*ret_device = put_together(under, changed);
	return *ret_device != NULL ? 0 : ERR_NOMEM;
}

int templates_apply(struct templates *t, json_t *device, struct problems *p, json_t **ret_device,
		    const char **ret_type)
{
	json_auto_t *full = NULL;
	const char *type = NULL;
	struct use use;
	int rc = apply_remotes(t, device, p, &full, &type);
	int used = read_use(t, device, p, &use);

	if (rc == 0)
		rc = used;
	if (rc == 0 && use.template == NULL) {
		*ret_device = TAKE(full);
		*ret_type = type;
		return 0;
	}
	if (rc < 0)
		return rc;
	size_t before = problems_errors(p);
	json_auto_t *base =
		substitute(json_object_get(use.template->json, "device"), use.id, use.prefix, p);

	if (base == NULL)
		return problems_errors(p) > before ? ERR_SCHEMA : ERR_NOMEM;
	*ret_device = put_over(base, full, of_device);
	*ret_type = type_of(use.template);
	return *ret_device != NULL ? 0 : ERR_NOMEM;
}
