#include "ccm/drive/diff.h"

#include "common/shortage.h"
#include "common/util.h"
#include <string.h>

/* What cannot be changed of a link, only be added anew. */
static const char *const fixed[] = {"param_no", "tag_param_no", "order"};
static const char *const changeable[] = {"func", "depends", "input_type"};
static const char *const identity[] = {"da_id", "feature", "mode"};

/* Absent, null and an empty list say the same of an input_type. */
static bool same(const json_t *a, const json_t *b, const char *const *keys, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const json_t *x = json_object_get(a, keys[i]), *y = json_object_get(b, keys[i]);
		bool no_x = x == NULL || json_is_null(x) || (json_is_array(x) && json_array_size(x) == 0);
		bool no_y = y == NULL || json_is_null(y) || (json_is_array(y) && json_array_size(y) == 0);
		if (no_x != no_y || (!no_x && !json_equal(x, y)))
			return false;
	}
	return true;
}

static const json_t *find(const json_t *links, const json_t *link)
{
	size_t i;
	json_t *one;
	json_array_foreach (links, i, one)
		if (same(one, link, identity, ARRAY_LEN(identity)))
			return one;
	return NULL;
}

static bool is_mode(const json_t *link, const char *mode)
{
	const char *text = json_string_value(json_object_get(link, "mode"));
	return text != NULL && strcmp(text, mode) == 0;
}

/* A request of a link: {op, da_id, idf|odf}. */
static json_t *about(const char *op, const json_t *link)
{
	return json_pack("{s:s, s:O, s:O}", "op", op, "da_id", json_object_get(link, "da_id"), is_mode(link, "idf") ? "idf" : "odf",
			 json_object_get(link, "feature"));
}

static int append(struct diff *d, json_t *request)
{
	return json_array_append_new(d->requests, request) < 0 ? ERR_NOMEM : 0;
}

static int copy(json_t *request, const json_t *link, const char *key)
{
	json_t *value = json_object_get(link, key);
	return value != NULL ? json_object_set(request, key, value) : 0;
}

static int add_link(struct diff *d, const json_t *link)
{
	json_t *request = about("add_link", link);
	for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
		if (copy(request, link, fixed[i]) < 0)
			goto fail;
	for (size_t i = 0; i < ARRAY_LEN(changeable); i++)
		if (copy(request, link, changeable[i]) < 0)
			goto fail;
	d->added++;
	return append(d, request);
fail:
	json_decref(request);
	return ERR_NOMEM;
}

static int set_function(struct diff *d, const json_t *link, const json_t *was)
{
	json_t *request = about("set_df_func", link), *prev = json_object_get(was, "func");
	if (json_object_set(request, "prev", prev != NULL ? prev : json_null()) < 0 ||
	    json_object_set(request, "new", json_object_get(link, "func")) < 0 || copy(request, link, "depends") < 0 ||
	    copy(request, link, "input_type") < 0) {
		json_decref(request);
		return ERR_NOMEM;
	}
	d->changed++;
	return append(d, request);
}

/* Links that are not wanted, or not as they are. */
static int remove_links(struct diff *d, const struct wanted *w, const json_t *is, const char *mode)
{
	size_t i;
	json_t *link;
	json_array_foreach (is, i, link) {
		const json_t *should = find(w->links, link);
		if (!is_mode(link, mode) || (should != NULL && same(should, link, fixed, ARRAY_LEN(fixed))))
			continue;
		if (append(d, about("rm_link", link)) < 0)
			return ERR_NOMEM;
		d->removed++;
	}
	return 0;
}

static int set_functions(struct diff *d, const struct wanted *w, const json_t *is, const char *mode)
{
	size_t i;
	json_t *link;
	json_array_foreach (w->links, i, link) {
		const json_t *was = find(is, link);
		if (!is_mode(link, mode) || was == NULL || !same(link, was, fixed, ARRAY_LEN(fixed)) ||
		    same(link, was, changeable, ARRAY_LEN(changeable)))
			continue;
		if (set_function(d, link, was) < 0)
			return ERR_NOMEM;
	}
	return 0;
}

static int add_links(struct diff *d, const struct wanted *w, const json_t *is, const char *mode)
{
	size_t i;
	json_t *link;
	json_array_foreach (w->links, i, link) {
		const json_t *was = find(is, link);
		if (!is_mode(link, mode) || (was != NULL && same(link, was, fixed, ARRAY_LEN(fixed))))
			continue;
		if (add_link(d, link) < 0)
			return ERR_NOMEM;
	}
	return 0;
}

static int set_join(struct diff *d, const struct wanted *w, const json_t *state)
{
	const json_t *was = json_object_get(state, "join"), *depends = json_object_get(state, "join_depends");
	bool none = was == NULL || json_is_null(was);
	if (json_is_null(w->join) ? none : !none && json_equal(w->join, was) && json_equal(w->join_depends, depends))
		return 0;
	d->join = true;
	return append(d, json_pack("{s:s, s:o, s:O, s:O}", "op", "set_join", "prev", none ? json_null() : json_incref((json_t *)was), "new",
				   w->join, "depends", w->join_depends));
}

/* From the end that data leaves to the one it comes in at, so that none meets half a graph; what goes, goes the other way round. */
static int find_all(struct diff *d, const struct wanted *w, const json_t *state)
{
	const json_t *is = json_object_get(state, "links");
	int rc = remove_links(d, w, is, "idf");
	if (rc == 0)
		rc = remove_links(d, w, is, "odf");
	if (rc == 0)
		rc = set_functions(d, w, is, "odf");
	if (rc == 0)
		rc = add_links(d, w, is, "odf");
	if (rc == 0)
		rc = set_join(d, w, state);
	if (rc == 0)
		rc = set_functions(d, w, is, "idf");
	return rc == 0 ? add_links(d, w, is, "idf") : rc;
}

int diff_graph(const struct wanted *w, const json_t *state, struct diff *ret, struct err *err)
{
	unsigned long shortages = shortage_count();
	*ret = (struct diff){.requests = json_array()};
	if (ret->requests != NULL && find_all(ret, w, state) == 0 && shortage_count() == shortages)
		return 0;
	diff_done(ret);
	return err_set(err, ERR_NOMEM, "graph");
}

void diff_done(struct diff *d)
{
	json_decref(d->requests);
	*d = (struct diff){0};
}

void diff_each_digest(const json_t *request, diff_digest_fn *fn, void *arg)
{
	const json_t *func = json_object_get(request, "func"), *new = json_object_get(request, "new");
	const char *digest = json_string_value(func != NULL ? func : new), *alias;
	json_t *value;
	if (digest == NULL)
		return;
	json_object_foreach (json_object_get(request, "depends"), alias, value)
		fn(arg, json_string_value(value));
	fn(arg, digest);
}
