#include "agent/graph/doc.h"
#include "common/id.h"
#include "common/util.h"
#include <string.h>

#define DATA_TOPICS    "iottalk/esm/"
#define MONITOR_TOPICS "iottalk/monitor/"
#define TOPIC_MAX      256
#define LINKS_MAX      100000
#define OWNER_MAX      1024

/* One level below prefix, no wildcards: an agent taps and publishes nowhere else. */
static bool topic_valid(const char *topic, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(topic, prefix, n) == 0 && topic[n] != '\0' && strlen(topic) <= TOPIC_MAX &&
	       strpbrk(topic + n, "/+#$") == NULL;
}

static int check_func(json_t *holder, const char *where, const char **ret_func, struct err *err)
{
	json_t *func = json_object_get(holder, "func");
	json_t *depends = json_object_get(holder, "depends");
	const char *alias;
	json_t *digest;

	if (func != NULL && !json_is_null(func) &&
	    (!json_is_string(func) || !digest_valid(json_string_value(func))))
		return err_set(err, ERR_SCHEMA, "%s: func is no digest", where);
	if (depends != NULL && !json_is_null(depends) && !json_is_object(depends))
		return err_set(err, ERR_SCHEMA, "%s: depends is no object", where);
	json_object_foreach (depends, alias, digest) {
		if (!json_is_string(digest) || !digest_valid(json_string_value(digest)))
			return err_set(err, ERR_SCHEMA, "%s: depends '%.100s' is no digest", where,
				       alias);
	}
	*ret_func = json_string_value(func);
	return 0;
}

static int add_links(struct doc *d, json_t *list, bool odf, struct err *err)
{
	const char *where = odf ? "odf" : "idf";
	size_t i;
	json_t *item;

	json_array_foreach (list, i, item) {
		struct doc_link *link = &d->links[d->n_links];
		json_int_t lid = json_integer_value(json_object_get(item, "lid"));
		const char *topic = json_string_value(json_object_get(item, "topic"));

		if (lid < 1 || lid > UINT32_MAX)
			return err_set(err, ERR_SCHEMA, "%s %zu: no lid", where, i);
		if (topic == NULL || !topic_valid(topic, DATA_TOPICS))
			return err_set(err, ERR_SCHEMA, "%s %zu: no data topic", where, i);
		*link = (struct doc_link){.odf = odf, .lid = (uint32_t)lid, .topic = topic};
		int rc = check_func(item, where, &link->func, err);
		if (rc < 0)
			return rc;
		d->n_links++;
	}
	return 0;
}

static int parse(struct doc *d, struct err *err)
{
	json_t *idf = json_object_get(d->json, "idf"), *odf = json_object_get(d->json, "odf");
	json_t *join = json_object_get(d->json, "join");
	json_t *monitor = json_object_get(d->json, "monitor");
	size_t n = json_array_size(idf) + json_array_size(odf);

	d->id = json_string_value(json_object_get(d->json, "id"));
	d->rev = json_integer_value(json_object_get(d->json, "rev"));
	d->monitor = json_string_value(monitor);
	if (d->id == NULL || d->id[0] == '\0' || strlen(d->id) > DOC_ID_MAX)
		return err_set(err, ERR_SCHEMA, "graph document without an id");
	d->owner = json_string_value(json_object_get(d->json, "owner"));
	if (d->owner == NULL || strlen(d->owner) > OWNER_MAX)
		return err_set(err, ERR_SCHEMA, "graph '%s' without an owner", d->id);
	if (d->rev < 1)
		return err_set(err, ERR_SCHEMA, "graph '%s': rev is no positive integer", d->id);
	if (!json_is_array(idf) || !json_is_array(odf))
		return err_set(err, ERR_SCHEMA, "graph '%s': idf or odf is no list", d->id);
	if (n > LINKS_MAX)
		return err_set(err, ERR_SCHEMA, "graph '%s': more than %d links", d->id, LINKS_MAX);
	if (join != NULL && !json_is_null(join) && !json_is_object(join))
		return err_set(err, ERR_SCHEMA, "graph '%s': join is no object", d->id);
	if (monitor != NULL && !json_is_null(monitor) &&
	    (d->monitor == NULL || !topic_valid(d->monitor, MONITOR_TOPICS)))
		return err_set(err, ERR_SCHEMA, "graph '%s': no monitor topic", d->id);

	d->links = calloc(n + 1, sizeof(*d->links));
	if (d->links == NULL)
		return err_set(err, ERR_NOMEM, "graph document");
	int rc = add_links(d, idf, false, err);
	if (rc == 0)
		rc = add_links(d, odf, true, err);
	if (rc == 0)
		rc = check_func(join, "join", &d->join_func, err);
	return rc < 0 ? err_wrap(err, rc, "graph '%s'", d->id) : 0;
}

int doc_new(json_t *json, struct doc **ret, struct err *err)
{
	struct doc *d;

	if (!json_is_object(json))
		return err_set(err, ERR_SCHEMA, "a graph document is a JSON object");
	d = calloc(1, sizeof(*d));
	if (d == NULL)
		return err_set(err, ERR_NOMEM, "graph document");
	d->json = json_incref(json);
	int rc = parse(d, err);
	if (rc < 0) {
		doc_free(d);
		return rc;
	}
	*ret = d;
	return 0;
}

struct doc *doc_free(struct doc *d)
{
	if (d == NULL)
		return NULL;
	json_decref(d->json);
	free(d->links);
	free(d);
	return NULL;
}

const struct doc_link *doc_link(const struct doc *d, uint32_t lid)
{
	for (size_t i = 0; i < d->n_links; i++)
		if (d->links[i].lid == lid)
			return &d->links[i];
	return NULL;
}

static json_t *holder_of(const struct doc *d, uint32_t lid)
{
	json_t *idf = json_object_get(d->json, "idf");
	size_t n_idf = json_array_size(idf);

	if (lid == 0)
		return json_object_get(d->json, "join");
	for (size_t i = 0; i < d->n_links; i++)
		if (d->links[i].lid == lid)
			return i < n_idf
				       ? json_array_get(idf, i)
				       : json_array_get(json_object_get(d->json, "odf"), i - n_idf);
	return NULL;
}

bool doc_use(const struct doc *d, uint32_t lid, struct digest_text *ret)
{
	json_t *holder = holder_of(d, lid);
	json_auto_t *use = json_pack("[O?, O?]", json_object_get(holder, "func"),
				     json_object_get(holder, "depends"));
	CLEANUP(freep)
	char *text = json_dumps(use, JSON_COMPACT | JSON_SORT_KEYS);

	if (text == NULL || !json_is_string(json_object_get(holder, "func")))
		return false;
	*ret = sha256_hex(text, strlen(text));
	return true;
}

static void each_digest_of(json_t *holder, void (*fn)(void *arg, const char *digest), void *arg)
{
	const char *func = json_string_value(json_object_get(holder, "func"));
	const char *alias;
	json_t *digest;

	if (func != NULL)
		fn(arg, func);
	json_object_foreach (json_object_get(holder, "depends"), alias, digest) {
		fn(arg, json_string_value(digest));
	}
}

void doc_each_digest(const struct doc *d, void (*fn)(void *arg, const char *digest), void *arg)
{
	size_t i;
	json_t *link;

	json_array_foreach (json_object_get(d->json, "idf"), i, link) {
		each_digest_of(link, fn, arg);
	}
	json_array_foreach (json_object_get(d->json, "odf"), i, link) {
		each_digest_of(link, fn, arg);
	}
	each_digest_of(json_object_get(d->json, "join"), fn, arg);
}

struct source_list {
	const struct funcs *funcs;
	json_t *sources; /* owned by who made the list */
	bool failed;
};

static void add_source(void *arg, const char *digest)
{
	struct source_list *list = arg;
	size_t len;
	const char *code = funcs_find(list->funcs, digest, &len);

	if (json_object_get(list->sources, digest) != NULL)
		return;
	if (code == NULL || json_object_set_new(list->sources, digest, json_stringn(code, len)) < 0)
		list->failed = true;
}

/* links: the slots of list's items, in its order. */
static json_t *with_slots(json_t *list, const struct doc_link *links)
{
	json_auto_t *out = json_array();
	size_t i;
	json_t *item;

	json_array_foreach (list, i, item) {
		json_t *copy = json_copy(item);

		json_object_del(copy, "topic");
		if (json_object_set_new(copy, "slot", json_integer(links[i].slot)) < 0 ||
		    (links[i].blocked && json_object_set_new(copy, "blocked", json_true()) < 0) ||
		    json_array_append(out, copy) < 0) {
			json_decref(copy);
			return NULL;
		}
		json_decref(copy);
	}
	return TAKE(out);
}

/* Put the join into doc as one that does not run. */
static int block_join(json_t *doc)
{
	json_auto_t *join = json_copy(json_object_get(doc, "join"));

	if (json_object_set_new(join, "blocked", json_true()) < 0)
		return ERR_NOMEM;
	return json_object_set(doc, "join", join) < 0 ? ERR_NOMEM : 0;
}

json_t *doc_for_engine(const struct doc *d, const struct funcs *funcs)
{
	json_t *idf = json_object_get(d->json, "idf"), *odf = json_object_get(d->json, "odf");
	struct source_list list = {.funcs = funcs, .sources = json_object()};
	json_auto_t *sources = list.sources;
	json_auto_t *doc = json_copy(d->json);

	doc_each_digest(d, add_source, &list);
	if (sources == NULL || list.failed || doc == NULL)
		return NULL;
	json_object_del(doc, "monitor");
	if (json_object_set_new(doc, "idf", with_slots(idf, d->links)) < 0 ||
	    json_object_set_new(doc, "odf", with_slots(odf, d->links + json_array_size(idf))) < 0 ||
	    json_object_set_new(doc, "monitor_slot",
				d->monitor != NULL ? json_integer(d->monitor_slot) : json_null()) <
		    0)
		return NULL;
	if (d->join_blocked && block_join(doc) < 0)
		return NULL;
	return json_pack("{s:s, s:O, s:O}", "op", "graph", "doc", doc, "funcs", sources);
}
