/* conf.c - the device file: what it may hold, and what it says of the gateway. */
#include "agent/device/conf.h"
#include "agent/device/conf_int.h"
#include "agent/device/file.h"
#include "agent/device/outbox.h"
#include "common/util.h"
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define DAY_S          86400
#define PASSWORD_BYTES 4096

/* ---- what the file may hold ---- */

/* Names are segments of topics, percent-encoded there, and are shown to people. */
static const char *check_name(const json_t *value)
{
	const unsigned char *c = (const unsigned char *)json_string_value(value);

	for (; *c != '\0'; c++) {
		if (*c < 0x20 || *c == 0x7f || (*c == 0xc2 && c[1] < 0xa0))
			return "must not have control characters";
	}
	return NULL;
}

static const char *check_tls(const json_t *value)
{
	return json_is_null(value) ? NULL
				   : "must be null: connections to the broker are not encrypted; "
				     "reach a broker "
				     "elsewhere through a tunnel (a VPN, ssh -L, stunnel)";
}

static const char *check_url(const json_t *value)
{
	const char *url = json_string_value(value);

	return strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0
		       ? NULL
		       : "must begin with http:// or https://";
}

static const char *check_timezone(const json_t *value)
{
	static const char unknown[] =
		"must be a time zone that tzdata knows, such as Europe/Vienna";
	const char *name = json_string_value(value), *dir = getenv("TZDIR");
	char path[PATH_MAX], magic[4];

	if (strcmp(name, "UTC") == 0)
		return NULL;
	if (name[0] == '/' || strstr(name, "..") != NULL)
		return unknown;
	int n = snprintf(path, sizeof(path), "%s/%s", dir != NULL ? dir : "/usr/share/zoneinfo",
			 name);
	FILE *f = n < PATH_MAX ? fopen(path, "re") : NULL;

	if (f == NULL)
		return unknown;
	bool known = fread(magic, sizeof(magic), 1, f) == 1 && memcmp(magic, "TZif", 4) == 0;

	fclose(f);
	return known ? NULL : unknown;
}

static const struct field mqtt_fields[] = {
	{.name = "host",
	 .type = FIELD_STR,
	 .flags = FIELD_OPTIONAL,
	 .help = "Where the broker is; without it, that of [core-mqtt] in iottalk.ini."},
	{.name = "port",
	 .type = FIELD_INT,
	 .min = 1,
	 .max = 65535,
	 .flags = FIELD_OPTIONAL,
	 .help = "Without it, that of [core-mqtt] in iottalk.ini."},
	{.name = "username", .type = FIELD_STR, .flags = FIELD_NULLABLE, .def = "null"},
	{.name = "password_file",
	 .type = FIELD_STR,
	 .flags = FIELD_NULLABLE,
	 .def = "null",
	 .help = "A file whose first line is the password; relative to the device file."},
	{.name = "tls",
	 .type = FIELD_ANY,
	 .flags = FIELD_NULLABLE,
	 .def = "null",
	 .check = check_tls,
	 .help = "Must be null: connections to the broker are not encrypted."},
	{0},
};

static const struct field csm_fields[] = {
	{.name = "url",
	 .type = FIELD_STR,
	 .flags = FIELD_OPTIONAL,
	 .check = check_url,
	 .help = "Where devices are registered; without it, the csm of iottalk.ini."},
	{0},
};

const struct field devices_fields[] = {
	{.name = "name",
	 .type = FIELD_STR,
	 .check = check_name,
	 .help = "Of the gateway: the second segment of all its topics."},
	{.name = "mqtt",
	 .type = FIELD_OBJECT,
	 .inner = mqtt_fields,
	 .def = "{}",
	 .help = "The broker that has the events of the devices."},
	{.name = "csm", .type = FIELD_OBJECT, .inner = csm_fields, .def = "{}"},
	{.name = "bus_loss_grace",
	 .type = FIELD_NUMBER,
	 .max = DAY_S,
	 .def = "5",
	 .unit = "s",
	 .help = "How long the broker may be away before devices that do not store are closed; 0: "
		 "not at all."},
	{.name = "sync_timeout",
	 .type = FIELD_NUMBER,
	 .max = 3600,
	 .def = "2",
	 .unit = "s",
	 .help = "How long to wait, at the start, for the states that the broker has kept."},
	{.name = "timezone",
	 .type = FIELD_STR,
	 .def = "\"UTC\"",
	 .check = check_timezone,
	 .help = "Of the clocks of field devices that tell local time."},
	{.name = "devices",
	 .type = FIELD_LIST,
	 .item = FIELD_OBJECT,
	 .help = "The devices, each with the fields of all devices and those of its type."},
	{0},
};

const struct field device_fields[] = {
	{.name = "type",
	 .type = FIELD_STR,
	 .flags = FIELD_OPTIONAL,
	 .help = "The device type; left out only where `module` or a template says it."},
	{.name = "module",
	 .type = FIELD_STR,
	 .flags = FIELD_OPTIONAL,
	 .help = "Instead of `type`, its name in the files of hat-gateway: "
		 "`hat.gateway.devices.modbus.master` ..."},
	{.name = "name",
	 .type = FIELD_STR,
	 .check = check_name,
	 .help = "No other device of its type has it; a segment of its topics."},
	{.name = "restart_delay",
	 .type = FIELD_NUMBER,
	 .flags = FIELD_NULLABLE,
	 .max = DAY_S,
	 .def = "null",
	 .unit = "s",
	 .help = "A device that failed is started again after this time; null: when it is disabled "
		 "and enabled."},
	{.name = "store",
	 .type = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .inner = outbox_fields,
	 .def = "null",
	 .help = "What is kept on the disk while the broker is away; null: nothing."},
	{.name = "template",
	 .type = FIELD_STR,
	 .flags = FIELD_OPTIONAL,
	 .help = "A template that the device is made of: NAME or NAME@VERSION."},
	{0},
};

/* ---- what the settings say ---- */

/* ret: NULL: out of memory. */
static json_t *default_csm_url(const struct settings *s)
{
	const char *bind = s->core.bind;
	bool any = strcmp(bind, "0.0.0.0") == 0 || strcmp(bind, "::") == 0;
	bool six = !any && strchr(bind, ':') != NULL;

	return json_sprintf("http://%s%s%s:%lld", six ? "[" : "", any ? "127.0.0.1" : bind,
			    six ? "]" : "", (long long)s->core.http_port);
}

/* ret: 0 or ERR_NOMEM. */
static int fill(json_t *object, const char *key, json_t *value)
{
	if (json_object_get(object, key) == NULL)
		return json_object_set_new(object, key, value) < 0 ? ERR_NOMEM : 0;
	json_decref(value);
	return 0;
}

static int fill_from_settings(json_t *file, const struct settings *s)
{
	json_t *mqtt = json_object_get(file, "mqtt");
	int rc = fill(mqtt, "host", json_string(s->core_mqtt.host));

	if (rc == 0)
		rc = fill(mqtt, "port", json_integer(s->core_mqtt.port));
	return rc == 0 ? fill(json_object_get(file, "csm"), "url", default_csm_url(s)) : rc;
}

/* ---- the password ---- */

static int read_password(const char *path, char **ret, struct problems *p)
{
	CLEANUP(freep)
	char *text = NULL;
	struct err err = {0};
	struct stat st;
	size_t len = 0;
	int rc = file_load(path, PASSWORD_BYTES, &text, &len, &err);

	if (rc < 0) {
		problem_add(p, "mqtt.password_file", "%s", err.text);
		return rc == ERR_NOMEM ? rc : ERR_SCHEMA;
	}
	text[strcspn(text, "\r\n")] = '\0';
	if (stat(path, &st) == 0 && (st.st_mode & (S_IROTH | S_IWOTH)) != 0)
		problem_warn(p, "mqtt.password_file", "%s: everybody may read it (chmod o-rw)",
			     path);
	*ret = strdup(text);
	explicit_bzero(text, len);
	return *ret != NULL ? 0 : ERR_NOMEM;
}

static int load_password(struct devices_conf *c, const char *dir, struct problems *p)
{
	const char *file = json_string_value(
		json_object_get(json_object_get(c->json, "mqtt"), "password_file"));
	CLEANUP(freep)
	char *path = NULL;

	if (file == NULL)
		return 0;
	if (c->username == NULL) {
		problem_add(p, "mqtt.password_file", "needs a username");
		return ERR_SCHEMA;
	}
	if (asprintf(&path, "%s%s%s", file[0] == '/' ? "" : dir, file[0] == '/' ? "" : "/", file) <
	    0) {
		path = NULL;
		return ERR_NOMEM;
	}
	return read_password(path, &c->password, p);
}

/* ---- the whole ---- */

static void fill_conf(struct devices_conf *c)
{
	const json_t *mqtt = json_object_get(c->json, "mqtt");
	const json_t *csm = json_object_get(c->json, "csm");

	c->name = json_string_value(json_object_get(c->json, "name"));
	c->mqtt_host = json_string_value(json_object_get(mqtt, "host"));
	c->mqtt_port = (unsigned)json_integer_value(json_object_get(mqtt, "port"));
	c->username = json_string_value(json_object_get(mqtt, "username"));
	c->csm_url = json_string_value(json_object_get(csm, "url"));
	c->bus_loss_grace_s = json_number_value(json_object_get(c->json, "bus_loss_grace"));
	c->sync_timeout_s = json_number_value(json_object_get(c->json, "sync_timeout"));
}

int conf_fill(struct devices_conf *c, const char *dir, const struct settings *settings,
	      struct problems *p)
{
	int rc = fill_from_settings(c->json, settings);

	fill_conf(c);
	return rc == 0 ? load_password(c, dir, p) : rc;
}

void devices_conf_drop(struct devices_conf *c, size_t i)
{
	struct device_conf *d = &c->devices[i];

	json_array_set_new(json_object_get(c->json, "devices"), i, json_null());
	json_decref(d->json);
	*d = (struct device_conf){0};
}

void devices_conf_done(struct devices_conf *c)
{
	for (size_t i = 0; i < c->n; i++)
		json_decref(c->devices[i].json);
	free(c->devices);
	if (c->password != NULL)
		explicit_bzero(c->password, strlen(c->password));
	free(c->password);
	json_decref(c->json);
	*c = (struct devices_conf){0};
}
