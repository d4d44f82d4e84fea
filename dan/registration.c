#include "dan/registration.h"

#include "common/shortage.h"
#include "common/util.h"
#include <string.h>

#define FEATURE_BYTES_MAX 255
#define TOPIC_BYTES_MAX   255 /* a last will of common/bus.h has room for it */
#define REV_BYTES_MAX     255

static int check_feature(const struct dan_feature *f, const char *list, struct err *err)
{
	size_t len = f->name != NULL ? strlen(f->name) : 0;
	if (len == 0 || len > FEATURE_BYTES_MAX)
		return err_set(err, ERR_SCHEMA, "%s: a feature's name has 1 to %d bytes", list,
			       FEATURE_BYTES_MAX);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)f->name[i] < 0x20 || f->name[i] == 0x7f ||
		    strchr("/+#", f->name[i]) != NULL)
			return err_set(err, ERR_SCHEMA,
				       "%s: feature '%s': no control characters, '/', '+', '#'",
				       list, f->name);
	return 0;
}

/* ["name", ["unit", ...]] or ["name", null]; NULL: out of memory, or a text that is no UTF-8 */
static json_t *feature_tuple(const struct dan_feature *f)
{
	if (f->units == NULL)
		return json_pack("[s, n]", f->name);
	json_auto_t *units = json_array();
	for (size_t i = 0; f->units[i] != NULL; i++)
		if (json_array_append_new(units, json_string(f->units[i])) < 0)
			return NULL;
	return json_pack("[s, O]", f->name, units);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_features(const char *list, const struct dan_feature *features, size_t n,
			  struct err *err)
{
	CLEANUP(freep)
	const char **names = malloc((n + 1) * sizeof(*names));
	if (names == NULL)
		return err_set(err, ERR_NOMEM, "%s", list);
	for (size_t i = 0; i < n; i++) {
		int rc = check_feature(&features[i], list, err);
		if (rc < 0)
			return rc;
		names[i] = features[i].name;
	}
	qsort(names, n, sizeof(*names), by_name);
	for (size_t i = 1; i < n; i++)
		if (strcmp(names[i - 1], names[i]) == 0)
			return err_set(err, ERR_SCHEMA, "%s: feature '%s' is there twice", list,
				       names[i]);
	return 0;
}

/* csm wants no empty list: without features the field is left out */
static int add_features(json_t *body, const char *list, const struct dan_feature *features,
			size_t n, struct err *err)
{
	json_auto_t *array = json_array();
	if (n == 0)
		return 0;
	int rc = check_features(list, features, n, err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < n; i++)
		if (json_array_append_new(array, feature_tuple(&features[i])) < 0)
			return err_set(err, ERR_SCHEMA, "%s: feature '%s' is not UTF-8", list,
				       features[i].name);
	return json_object_set(body, list, array) < 0 ? err_set(err, ERR_NOMEM, "%s", list) : 0;
}

int registration_body(const struct dan_conf *conf, char **ret, struct err *err)
{
	if (!json_is_string(json_object_get(conf->profile, "model")))
		return err_set(err, ERR_SCHEMA,
			       "profile: an object with the string `model` is needed");
	json_auto_t *body =
		json_pack("{s:[s], s:O}", "accept_protos", "mqtt", "profile", conf->profile);
	if (body == NULL)
		return err_set(err, ERR_NOMEM, "registration");
	if (conf->name != NULL && json_object_set_new(body, "name", json_string(conf->name)) < 0)
		return err_set(err, ERR_SCHEMA, "the device's name is not UTF-8");
	int rc = add_features(body, "idf_list", conf->idfs, conf->n_idfs, err);
	if (rc == 0)
		rc = add_features(body, "odf_list", conf->odfs, conf->n_odfs, err);
	if (rc < 0)
		return rc;
	*ret = shortage_dumps(body);
	return *ret != NULL ? 0 : err_set(err, ERR_NOMEM, "registration");
}

/* A short non-empty string; NULL: not one. */
static const char *short_string(const json_t *value, size_t max)
{
	const char *s = json_string_value(value);
	return s != NULL && s[0] != '\0' && strlen(s) <= max ? s : NULL;
}

static int read_answer(const json_t *doc, struct registration *r, struct err *err)
{
	json_t *url = json_object_get(doc, "url");
	json_t *channels = json_object_get(doc, "ctrl_chans");
	const char *scheme = json_string_value(json_object_get(url, "scheme"));
	json_int_t port = json_integer_value(json_object_get(url, "port"));

	r->rev = short_string(json_object_get(doc, "rev"), REV_BYTES_MAX);
	r->name = json_string_value(json_object_get(doc, "name"));
	r->host = short_string(json_object_get(url, "host"), 255);
	r->ctrl_up = short_string(json_array_get(channels, 0), TOPIC_BYTES_MAX);
	r->ctrl_down = short_string(json_array_get(channels, 1), TOPIC_BYTES_MAX);
	r->username = json_string_value(json_object_get(doc, "username"));
	r->password = json_string_value(json_object_get(doc, "password"));
	if (r->rev == NULL)
		return err_set(err, ERR_SCHEMA, "answer of csm: `rev` is missing or wrong");
	if (r->host == NULL || port < 1 || port > 65535)
		return err_set(err, ERR_SCHEMA, "answer of csm: `url` is missing or wrong");
	if (scheme != NULL && strcmp(scheme, "mqtt") != 0)
		return err_set(err, ERR_SCHEMA,
			       "answer of csm: `url.scheme` is '%.32s', this device speaks mqtt",
			       scheme);
	if (r->ctrl_up == NULL || r->ctrl_down == NULL || strpbrk(r->ctrl_up, "+#") != NULL)
		return err_set(err, ERR_SCHEMA, "answer of csm: `ctrl_chans` is missing or wrong");
	if (r->name == NULL)
		r->name = "";
	r->port = (unsigned)port;
	return 0;
}

/* The strings are the document's: have them in one piece of memory, and leave it. */
static int keep_texts(struct registration *r, struct err *err)
{
	const char **const strings[] = {&r->rev,       &r->name,     &r->host,    &r->ctrl_up,
					&r->ctrl_down, &r->username, &r->password};
	size_t len = 0;
	for (size_t i = 0; i < ARRAY_LEN(strings); i++)
		len += *strings[i] != NULL ? strlen(*strings[i]) + 1 : 0;
	char *at = r->texts = malloc(len);
	if (at == NULL)
		return err_set(err, ERR_NOMEM, "answer of csm");
	for (size_t i = 0; i < ARRAY_LEN(strings); i++)
		if (*strings[i] != NULL) {
			char *end = stpcpy(at, *strings[i]);
			*strings[i] = at;
			at = end + 1;
		}
	return 0;
}

int registration_parse(long status, const char *body, size_t len, struct registration *ret,
		       struct err *err)
{
	json_error_t why;
	*ret = (struct registration){0};
	json_auto_t *doc = json_loadb(body, len, 0, &why);
	if (status != 200) {
		const char *reason = json_string_value(json_object_get(doc, "reason"));
		return err_set(err, ERR_PEER, "csm answers %ld%s%.400s", status,
			       reason != NULL ? ": " : "", reason != NULL ? reason : "");
	}
	if (doc == NULL)
		return err_set(err, ERR_PARSE, "answer of csm: %s", why.text);
	int rc = read_answer(doc, ret, err);
	if (rc == 0)
		rc = keep_texts(ret, err);
	if (rc < 0)
		*ret = (struct registration){0};
	return rc;
}

void registration_done(struct registration *r)
{
	free(r->texts);
	*r = (struct registration){0};
}
