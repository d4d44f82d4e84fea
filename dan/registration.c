#include "dan/registration.h"

#include "common/shortage.h"
#include "common/util.h"
#include <string.h>

#define FEATURE_BYTES_MAX 255
#define TOPIC_BYTES_MAX   255 /* a last will of common/bus.h has room for it */
#define REV_BYTES_MAX     255

static int check_feature(const struct dan_feature *f, const char *list, struct err *err)
{
	size_t len = strlen(f->name);
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

/* csm wants no empty list: without features the field is left out */
static int add_features(json_t *body, const char *list, const struct dan_feature *features,
			size_t n, struct err *err)
{
	json_auto_t *array = json_array();
	if (n == 0)
		return 0;
	for (size_t i = 0; i < n; i++) {
		int rc = check_feature(&features[i], list, err);
		if (rc < 0)
			return rc;
		for (size_t k = 0; k < i; k++)
			if (strcmp(features[k].name, features[i].name) == 0)
				return err_set(err, ERR_SCHEMA, "%s: feature '%s' is there twice",
					       list, features[i].name);
		if (json_array_append_new(array, feature_tuple(&features[i])) < 0)
			return err_set(err, ERR_SCHEMA, "%s: feature '%s' is not UTF-8", list,
				       features[i].name);
	}
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

static int read_answer(struct registration *r, struct err *err)
{
	json_t *url = json_object_get(r->doc, "url");
	json_t *channels = json_object_get(r->doc, "ctrl_chans");
	const char *scheme = json_string_value(json_object_get(url, "scheme"));
	json_int_t port = json_integer_value(json_object_get(url, "port"));

	r->rev = short_string(json_object_get(r->doc, "rev"), REV_BYTES_MAX);
	r->name = json_string_value(json_object_get(r->doc, "name"));
	r->host = short_string(json_object_get(url, "host"), 255);
	r->ctrl_up = short_string(json_array_get(channels, 0), TOPIC_BYTES_MAX);
	r->ctrl_down = short_string(json_array_get(channels, 1), TOPIC_BYTES_MAX);
	r->username = json_string_value(json_object_get(r->doc, "username"));
	r->password = json_string_value(json_object_get(r->doc, "password"));
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

int registration_parse(long status, const char *body, size_t len, struct registration *ret,
		       struct err *err)
{
	json_error_t why;
	*ret = (struct registration){0};
	ret->doc = json_loadb(body, len, 0, &why);
	if (status != 200) {
		const char *reason = json_string_value(json_object_get(ret->doc, "reason"));
		return err_set(err, ERR_PEER, "csm answers %ld%s%.400s", status,
			       reason != NULL ? ": " : "", reason != NULL ? reason : "");
	}
	if (ret->doc == NULL)
		return err_set(err, ERR_PARSE, "answer of csm: %s", why.text);
	return read_answer(ret, err);
}

void registration_done(struct registration *r)
{
	json_decref(r->doc);
	*r = (struct registration){0};
}
