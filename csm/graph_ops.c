#include "csm/graph_ops.h"

#include "common/id.h"
#include "common/util.h"
#include "csm/funcs.h"
#include "csm/graphdoc.h"
#include "csm/links.h"
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FEATURE_MAX_BYTES 255
#define CODE_MAX_BYTES	  (256 * 1024)
#define PARAM_NO_MAX	  10000

static int refuse(char *reason, int rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static int refuse(char *reason, int rc, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(reason, OP_REASON_MAX, fmt, ap);
	va_end(ap);
	return rc;
}

static int no_memory(char *reason)
{
	return refuse(reason, ERR_NOMEM, "out of memory");
}

/* ---- fields of requests ---- */

/* A string of the request; NULL if it is none, or has a NUL inside (fields that are only carried back may have one). */
static const char *plain_text(const json_t *value)
{
	const char *text = json_string_value(value);
	return text != NULL && strlen(text) == json_string_length(value) ? text : NULL;
}


enum depends_words { DEPENDS_NOT_FOUND, DEPENDS_UNKNOWN };

static bool identifier(const char *s)
{
	if (!isalpha((unsigned char)*s) && *s != '_')
		return false;
	for (; *s != '\0'; s++)
		if (!isalnum((unsigned char)*s) && *s != '_')
			return false;
	return true;
}

static int parse_depends(struct csm *csm, json_t *value, enum depends_words words, json_t **ret,
			 char *reason)
{
	const char *alias;
	json_t *digest;
	if (value == NULL || json_is_null(value)) {
		*ret = json_object();
		return *ret != NULL ? 0 : no_memory(reason);
	}
	if (!json_is_object(value))
		return refuse(reason, ERR_SCHEMA, "`depends` must be an object of alias: digest");
	json_object_foreach (value, alias, digest) {
		if (!identifier(alias))
			return refuse(reason, ERR_SCHEMA,
				      "`depends`: alias '%.100s' is not an identifier", alias);
		const char *text = plain_text(digest);
		if (text != NULL && funcs_find(csm->funcs, text) != NULL)
			continue;
		if (words == DEPENDS_NOT_FOUND)
			return refuse(reason, ERR_SCHEMA, "dependency %s not found", alias);
		return refuse(reason, ERR_SCHEMA, "dependency %s(%.100s) unknown", alias,
			      text != NULL ? text : "null");
	}
	*ret = json_deep_copy(value);
	return *ret != NULL ? 0 : no_memory(reason);
}

static int parse_count(json_t *request, const char *key, bool nullable, json_t **ret, char *reason)
{
	json_t *value = json_object_get(request, key);
	if (value == NULL || json_is_null(value)) {
		*ret = nullable ? json_null() : json_integer(0);
		return 0;
	}
	json_int_t n = json_integer_value(value);
	if (!json_is_integer(value) || n < 0 || n > PARAM_NO_MAX)
		return refuse(reason, ERR_SCHEMA, "`%s` must be an integer from 0 to %d", key,
			      PARAM_NO_MAX);
	*ret = json_integer(n);
	return *ret != NULL ? 0 : no_memory(reason);
}

/* "sample", "variant", a list of these, or null -> list or null (new). */
static int parse_input_type(json_t *value, json_t **ret, char *reason)
{
	json_auto_t *list = NULL;
	size_t i;
	json_t *item;
	if (value == NULL || json_is_null(value)) {
		*ret = json_null();
		return 0;
	}
	list = json_is_array(value) ? json_deep_copy(value) : json_pack("[O]", value);
	if (list == NULL)
		return no_memory(reason);
	json_array_foreach (list, i, item) {
		const char *text = plain_text(item);
		if (json_is_null(item) && json_array_set_new(list, i, json_string("sample")) == 0)
			continue;
		if (text == NULL || (strcmp(text, "sample") != 0 && strcmp(text, "variant") != 0))
			return refuse(reason, ERR_SCHEMA,
				      "`input_type` must be \"sample\", \"variant\" or a list of these");
	}
	*ret = json_array_size(list) > 0 ? TAKE(list) : json_null();
	return 0;
}

struct link_id {
	const char *mode;
	struct uuid_text da_id;
	const char *feature;
};

static int parse_link_id(json_t *request, struct link_id *ret, char *reason)
{
	json_t *idf = json_object_get(request, "idf"), *odf = json_object_get(request, "odf");
	json_t *da_id = json_object_get(request, "da_id");
	bool has_idf = idf != NULL && !json_is_null(idf), has_odf = odf != NULL && !json_is_null(odf);
	if (has_idf == has_odf)
		return refuse(reason, ERR_SCHEMA, "exactly one of `idf` and `odf` is required");
	json_t *feature = has_idf ? idf : odf;
	size_t len = json_string_length(feature);
	if (plain_text(feature) == NULL || len == 0 || len > FEATURE_MAX_BYTES)
		return refuse(reason, ERR_SCHEMA, "`%s` must be a string of 1 to %d bytes",
			      has_idf ? "idf" : "odf", FEATURE_MAX_BYTES);
	for (const char *c = json_string_value(feature); *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f || strchr("/+#", *c) != NULL)
			return refuse(reason, ERR_SCHEMA,
				      "`%s` has a control character, '/', '+' or '#'",
				      has_idf ? "idf" : "odf");
	if (plain_text(da_id) == NULL ||
	    !uuid_parse(json_string_value(da_id), json_string_length(da_id), &ret->da_id))
		return refuse(reason, ERR_SCHEMA, "`da_id` must be a UUID");
	ret->mode = has_idf ? "idf" : "odf";
	ret->feature = json_string_value(feature);
	return 0;
}

static int parse_digest_or_null(json_t *request, const char *key, json_t **ret, char *reason)
{
	json_t *value = json_object_get(request, key);
	if (value != NULL && !json_is_null(value) && plain_text(value) == NULL)
		return refuse(reason, ERR_SCHEMA, "`%s` must be a digest or null", key);
	*ret = value != NULL ? value : json_null();
	return 0;
}

static bool known(struct csm *csm, json_t *digest)
{
	return json_is_null(digest) || funcs_find(csm->funcs, json_string_value(digest)) != NULL;
}

/* ---- operations on a document ---- */

static int add_link(struct csm *csm, json_t *doc, json_t *request, json_t *answer, char *reason)
{
	struct link_id id = {.mode = "idf", .feature = ""};
	json_t *func = NULL, *order = json_object_get(request, "order");
	json_auto_t *depends = NULL, *param_no = NULL, *tags = NULL, *input_type = NULL;
	(void)answer;
	int rc = parse_link_id(request, &id, reason);
	if (rc < 0)
		return rc;
	if (graphdoc_find(doc, id.mode, id.da_id.s, id.feature) != NULL)
		return refuse(reason, ERR_EXIST, "link (%s, %s, %s) exists", id.da_id.s, id.mode,
			      id.feature);
	if ((rc = parse_digest_or_null(request, "func", &func, reason)) < 0)
		return rc;
	if (!known(csm, func))
		return refuse(reason, ERR_SCHEMA, "Function unknown: %.100s", json_string_value(func));
	if ((rc = parse_depends(csm, json_object_get(request, "depends"), DEPENDS_NOT_FOUND, &depends,
				reason)) < 0 ||
	    (rc = parse_count(request, "param_no", true, &param_no, reason)) < 0 ||
	    (rc = parse_count(request, "tag_param_no", false, &tags, reason)) < 0 ||
	    (rc = parse_input_type(json_object_get(request, "input_type"), &input_type, reason)) < 0)
		return rc;
	if (order != NULL && !json_is_null(order) && !json_is_integer(order))
		return refuse(reason, ERR_SCHEMA, "`order` must be an integer");

	/* the topic all graphs share, or the one this link begins with */
	const struct link *link = links_find(csm->links, id.da_id.s, id.feature, id.mode);
	char topic[64];
	snprintf(topic, sizeof(topic), "iottalk/esm/%s", uuid4().s);
	json_t *entry = json_pack("{s:s, s:s, s:s, s:O, s:O, s:O, s:O}", "da_id", id.da_id.s, "feature",
				  id.feature, "topic", link != NULL ? link_topic(link) : topic, "func",
				  func, "depends", depends, "param_no", param_no, "tag_param_no", tags);
	if (entry == NULL)
		return no_memory(reason);
	if (strcmp(id.mode, "idf") == 0)
		json_object_set(entry, "input_type", input_type);
	if (json_is_integer(order))
		json_object_set(entry, "order", order);
	return graphdoc_add(doc, id.mode, entry) < 0 ? no_memory(reason) : 0;
}

static int rm_link(struct csm *csm, json_t *doc, json_t *request, json_t *answer, char *reason)
{
	struct link_id id = {.mode = "idf", .feature = ""};
	(void)csm;
	(void)answer;
	int rc = parse_link_id(request, &id, reason);
	if (rc < 0)
		return rc;
	const json_t *entry = graphdoc_find(doc, id.mode, id.da_id.s, id.feature);
	if (entry == NULL)
		return refuse(reason, ERR_SCHEMA, "link unknown: (%s, %s, %s)", id.da_id.s, id.mode,
			      id.feature);
	graphdoc_remove(doc, id.mode, entry);
	return 0;
}

/* The part set_join and set_df_func have in common: replace the function of `holder` (a link's entry or the join). */
static int replace_function(struct csm *csm, json_t *holder, json_t *request, char *reason)
{
	json_t *prev = NULL, *new = NULL;
	json_auto_t *depends = NULL;
	int rc = parse_digest_or_null(request, "prev", &prev, reason);
	if (rc == 0)
		rc = parse_digest_or_null(request, "new", &new, reason);
	if (rc < 0)
		return rc;
	if (!json_equal(prev, json_object_get(holder, "func")))
		return refuse(reason, ERR_CONFLICT, "`prev` field mismatch");
	if (!known(csm, new))
		return refuse(reason, ERR_SCHEMA, "New function not found: %.100s",
			      json_string_value(new));
	rc = parse_depends(csm, json_is_null(new) ? NULL : json_object_get(request, "depends"),
			   DEPENDS_UNKNOWN, &depends, reason);
	if (rc < 0)
		return rc;
	json_object_del(holder, "error");
	json_object_del(holder, "out");
	if (json_object_set(holder, "func", new) < 0 ||
	    json_object_set(holder, "depends", depends) < 0)
		return no_memory(reason);
	return 0;
}

static int set_join(struct csm *csm, json_t *doc, json_t *request, json_t *answer, char *reason)
{
	(void)answer;
	return replace_function(csm, json_object_get(doc, "join"), request, reason);
}

static int set_df_func(struct csm *csm, json_t *doc, json_t *request, json_t *answer, char *reason)
{
	struct link_id id = {.mode = "idf", .feature = ""};
	json_t *given = json_object_get(request, "input_type");
	json_auto_t *input_type = NULL;
	(void)answer;
	int rc = parse_link_id(request, &id, reason);
	if (rc < 0)
		return rc;
	json_t *entry = graphdoc_find(doc, id.mode, id.da_id.s, id.feature);
	if (entry == NULL)
		return refuse(reason, ERR_SCHEMA, "Unknown link: (%s, %s, %s)", id.da_id.s, id.mode,
			      id.feature);
	rc = replace_function(csm, entry, request, reason);
	if (rc == 0 && given != NULL && strcmp(id.mode, "idf") == 0) {
		rc = parse_input_type(given, &input_type, reason);
		if (rc == 0 && json_object_set(entry, "input_type", input_type) < 0)
			rc = no_memory(reason);
	}
	return rc;
}

static int start_monitor(struct csm *csm, json_t *doc, json_t *request, json_t *answer, char *reason)
{
	char topic[64];
	(void)csm;
	(void)request;
	if (json_is_null(json_object_get(doc, "monitor"))) {
		snprintf(topic, sizeof(topic), "iottalk/monitor/%s", uuid4().s);
		if (json_object_set_new(doc, "monitor", json_string(topic)) < 0)
			return no_memory(reason);
	}
	return json_object_set(answer, "monitor_topics", json_object_get(doc, "monitor")) < 0
		       ? no_memory(reason)
		       : 0;
}

static int stop_monitor(struct csm *csm, json_t *doc, json_t *request, json_t *answer, char *reason)
{
	(void)csm;
	(void)request;
	(void)answer;
	return json_object_set_new(doc, "monitor", json_null()) < 0 ? no_memory(reason) : 0;
}

static const struct op {
	const char *name;
	int (*apply)(struct csm *csm, json_t *doc, json_t *request, json_t *answer, char *reason);
} ops[] = {
	{"add_link", add_link},
	{"rm_link", rm_link},
	{"set_join", set_join},
	{"set_df_func", set_df_func},
	{"start_monitor", start_monitor},
	{"stop_monitor", stop_monitor},
};

static const struct op *find_op(const char *name)
{
	for (size_t i = 0; name != NULL && i < ARRAY_LEN(ops); i++)
		if (strcmp(ops[i].name, name) == 0)
			return &ops[i];
	return NULL;
}

const char *graph_op_name(const char *op)
{
	const struct op *known_op = find_op(op);
	return known_op != NULL ? known_op->name : NULL;
}

int graph_op_apply(struct csm *csm, json_t *doc, json_t *request, json_t *answer,
		   char reason[OP_REASON_MAX])
{
	const struct op *op = find_op(json_string_value(json_object_get(request, "op")));
	return op != NULL ? op->apply(csm, doc, request, answer, reason) : ERR_NOENT;
}

/* ---- functions ---- */

static int check_strings(json_t *request, const char *key, json_t **ret, char *reason)
{
	json_t *list = json_object_get(request, key), *item;
	size_t i;
	if (!json_is_array(list))
		return refuse(reason, ERR_SCHEMA, "`%s` must be a list of strings", key);
	json_array_foreach (list, i, item) {
		if (!json_is_string(item))
			return refuse(reason, ERR_SCHEMA, "`%s` must be a list of strings", key);
		if (plain_text(item) == NULL)
			return refuse(reason, ERR_SCHEMA, "`%s`: string %zu has a NUL in it", key, i);
	}
	*ret = list;
	return 0;
}

int graph_op_add_funcs(struct csm *csm, json_t *request, char reason[OP_REASON_MAX])
{
	json_t *codes = NULL, *digests = NULL, *code;
	size_t i;
	int rc = check_strings(request, "codes", &codes, reason);
	if (rc == 0)
		rc = check_strings(request, "digests", &digests, reason);
	if (rc < 0)
		return rc;
	if (json_array_size(codes) != json_array_size(digests))
		return refuse(reason, ERR_SCHEMA,
			      "the lengths of `codes` (%zu) and `digests` (%zu) differ",
			      json_array_size(codes), json_array_size(digests));
	json_array_foreach (codes, i, code) {
		const char *given = json_string_value(json_array_get(digests, i));
		if (json_string_length(code) > CODE_MAX_BYTES)
			return refuse(reason, ERR_LIMIT, "code %zu is longer than %d bytes", i,
				      CODE_MAX_BYTES);
		struct digest_text is = sha256_hex(json_string_value(code), json_string_length(code));
		if (strcmp(given, is.s) != 0)
			return refuse(reason, ERR_SCHEMA,
				      "digest %.100s is mismatched: the code's SHA-256 is %s", given, is.s);
	}
	json_array_foreach (codes, i, code) {
		rc = funcs_add(csm->funcs, json_string_value(json_array_get(digests, i)),
			       json_string_value(code));
		if (rc == ERR_LIMIT)
			return refuse(reason, rc, "too many functions are stored: remove some (rm_funcs)");
		if (rc < 0)
			return no_memory(reason);
	}
	return 0;
}

int graph_op_rm_funcs(struct csm *csm, json_t *request, char reason[OP_REASON_MAX])
{
	json_t *digests = NULL, *digest;
	size_t i;
	int rc = check_strings(request, "digests", &digests, reason);
	if (rc < 0)
		return rc;
	json_array_foreach (digests, i, digest)
		funcs_remove(csm->funcs, json_string_value(digest));
	return 0;
}

int graph_op_sources(struct csm *csm, json_t *depends, json_t **ret, char reason[OP_REASON_MAX])
{
	json_auto_t *known_ones = NULL, *sources = json_object();
	const char *alias;
	json_t *digest;
	size_t bytes = 0;
	int rc = parse_depends(csm, depends, DEPENDS_NOT_FOUND, &known_ones, reason);
	if (rc < 0)
		return rc;
	json_object_foreach (known_ones, alias, digest) {
		const char *source = funcs_find(csm->funcs, json_string_value(digest));
		bytes += strlen(source);
		if (bytes > (size_t)csm->settings->broker.message_size_limit)
			return refuse(reason, ERR_LIMIT,
				      "the sources of `depends` are longer than message-size-limit");
		if (json_object_set_new(sources, alias, json_string(source)) < 0)
			return no_memory(reason);
	}
	*ret = TAKE(sources);
	return *ret != NULL ? 0 : no_memory(reason);
}
