#include "csm/graphdoc.h"

#include "common/err.h"
#include "common/shortage.h"
#include "common/util.h"
#include <string.h>

static const char *const modes[] = {"idf", "odf"};

json_t *graphdoc_new(const char *id, const char *owner)
{
	return json_pack("{s:s, s:s, s:i, s:[], s:{s:n, s:{}}, s:[], s:n, s:i}", "id", id, "owner",
			 owner, "rev", 0, "idf", "join", "func", "depends", "odf", "monitor",
			 "next_lid", 1);
}

int64_t graphdoc_rev(const json_t *doc)
{
	return json_integer_value(json_object_get(doc, "rev"));
}

static bool text_is(const json_t *entry, const char *key, const char *text)
{
	const char *value = json_string_value(json_object_get(entry, key));
	return value != NULL && strcmp(value, text) == 0;
}

json_t *graphdoc_find(const json_t *doc, const char *mode, const char *da_id, const char *feature)
{
	size_t i;
	json_t *entry;
	json_array_foreach (json_object_get(doc, mode), i, entry)
		if (text_is(entry, "da_id", da_id) && text_is(entry, "feature", feature))
			return entry;
	return NULL;
}

json_t *graphdoc_find_lid(const json_t *doc, json_int_t lid)
{
	for (size_t m = 0; m < ARRAY_LEN(modes); m++) {
		size_t i;
		json_t *entry;
		json_array_foreach (json_object_get(doc, modes[m]), i, entry)
			if (json_integer_value(json_object_get(entry, "lid")) == lid)
				return entry;
	}
	return NULL;
}

static json_int_t order_of(const json_t *entry)
{
	return json_integer_value(json_object_get(entry, "order"));
}

int graphdoc_add(json_t *doc, const char *mode, json_t *entry)
{
	json_t *list = json_object_get(doc, mode);
	json_int_t lid = json_integer_value(json_object_get(doc, "next_lid"));
	size_t at = json_array_size(list);
	int rc = entry != NULL ? json_object_set_new(entry, "lid", json_integer(lid)) : -1;
	if (rc == 0 && !json_is_integer(json_object_get(entry, "order")))
		rc = json_object_set_new(entry, "order", json_integer((json_int_t)at));
	if (rc < 0 || json_object_set_new(doc, "next_lid", json_integer(lid + 1)) < 0) {
		json_decref(entry);
		return ERR_NOMEM;
	}
	/* entries are sorted already: this one goes behind all that are not after it */
	while (at > 0 && order_of(json_array_get(list, at - 1)) > order_of(entry))
		at--;
	return json_array_insert_new(list, at, entry) < 0 ? ERR_NOMEM : 0;
}

void graphdoc_remove(json_t *doc, const char *mode, const json_t *entry)
{
	json_t *list = json_object_get(doc, mode), *item;
	size_t i;
	json_array_foreach (list, i, item) {
		if (item == entry) {
			json_array_remove(list, i);
			return;
		}
	}
}

void graphdoc_each_link(const json_t *doc, graphdoc_link_fn *fn, void *arg)
{
	for (size_t m = 0; m < ARRAY_LEN(modes); m++) {
		size_t i;
		json_t *entry;
		json_array_foreach (json_object_get(doc, modes[m]), i, entry)
			fn(arg, modes[m], entry);
	}
}

struct digests {
	graphdoc_digest_fn *fn;
	void *arg;
};

static void digests_of(void *arg, const char *mode, json_t *entry)
{
	const struct digests *d = arg;
	const char *digest = json_string_value(json_object_get(entry, "func")), *alias;
	json_t *value;
	(void)mode;
	if (digest != NULL)
		d->fn(d->arg, digest);
	json_object_foreach (json_object_get(entry, "depends"), alias, value)
		d->fn(d->arg, json_string_value(value));
}

void graphdoc_each_digest(const json_t *doc, graphdoc_digest_fn *fn, void *arg)
{
	struct digests d = {.fn = fn, .arg = arg};
	graphdoc_each_link(doc, digests_of, &d);
	digests_of(&d, "join", json_object_get(doc, "join"));
}

int graphdoc_tell(const json_t *entry, json_t *told)
{
	static const char *const keys[] = {"topic", "func", "depends", "param_no", "tag_param_no", "input_type", "order"};
	bool idf = json_object_get(entry, "input_type") != NULL; /* an ODF's order means nothing */
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		json_t *value = json_object_get(entry, keys[i]);
		if (value != NULL && (idf || strcmp(keys[i], "order") != 0) && json_object_set(told, keys[i], value) < 0)
			return ERR_NOMEM;
	}
	return 0;
}

json_t *graphdoc_for_agent(const json_t *doc)
{
	json_t *copy = shortage_copy(doc);
	if (copy == NULL)
		return NULL;
	for (size_t m = 0; m < ARRAY_LEN(modes); m++) {
		json_t *list = json_object_get(copy, modes[m]);
		for (size_t i = json_array_size(list); i-- > 0;) {
			json_t *entry = json_array_get(list, i);
			if (json_object_get(entry, "out") != NULL)
				json_array_remove(list, i);
			else
				json_object_del(entry, "error");
		}
	}
	json_object_del(json_object_get(copy, "join"), "error");
	return copy;
}

/* The object that holds the function `where` speaks of. */
static json_t *at_where(const json_t *doc, const json_t *where)
{
	if (text_is(where, "kind", "join"))
		return json_object_get(doc, "join");
	json_t *lid = json_object_get(where, "lid");
	return json_is_integer(lid) ? graphdoc_find_lid(doc, json_integer_value(lid)) : NULL;
}

static bool same_function(const json_t *a, const json_t *b)
{
	return json_equal(json_object_get(a, "func"), json_object_get(b, "func")) &&
	       json_equal(json_object_get(a, "depends"), json_object_get(b, "depends"));
}

bool graphdoc_same_at(const json_t *a, const json_t *b, const json_t *where)
{
	json_t *in_a = at_where(a, where), *in_b = at_where(b, where);
	return in_a != NULL && in_b != NULL && same_function(in_a, in_b);
}

bool graphdoc_mend(json_t *doc, const json_t *confirmed, const json_t *where, const char *reason)
{
	json_t *bad = at_where(doc, where), *good = at_where(confirmed, where);
	if (bad == NULL || (good != NULL && same_function(bad, good)))
		return false;
	json_object_set_new(bad, "error", json_string(reason));
	if (good == NULL) {
		/* stays in the graph, so that its user can see and change it, but is not run */
		json_object_set_new(bad, "out", json_true());
		return true;
	}
	json_object_set_new(bad, "func", json_deep_copy(json_object_get(good, "func")));
	json_object_set_new(bad, "depends", json_deep_copy(json_object_get(good, "depends")));
	return true;
}
