/* test_device_conf.c - device files and templates, with two device types of this test's own. */
#include "agent/device/conf.h"
#include "agent/device/template.h"
#include "agent/device/types.h"
#include "common/util.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

/* ---- device types ---- */

static const struct field point_table[] = {
	{.name = "name", .type = FIELD_STR},
	{.name = "address", .type = FIELD_INT, .max = 65535},
	{.name = "device_id", .type = FIELD_INT, .max = 255, .flags = FIELD_OPTIONAL},
	{.name = "interval", .type = FIELD_NUMBER, .max = INFINITY, .def = "1"},
	{0},
};
static const struct field remote_table[] = {
	{.name = "device_id", .type = FIELD_INT, .max = 255},
	{.name = "delay", .type = FIELD_NUMBER, .max = INFINITY, .def = "5"},
	{.name = "data", .type = FIELD_LIST, .item = FIELD_OBJECT, .inner = point_table},
	{0},
};
static const struct field meter_table[] = {
	{.name = "connection", .type = FIELD_OBJECT},
	{.name = "remote_devices", .type = FIELD_LIST, .item = FIELD_OBJECT, .inner = remote_table},
	{0},
};
static const struct field server_table[] = {
	{.name = "data", .type = FIELD_LIST, .item = FIELD_OBJECT, .inner = point_table},
	{0},
};

static void check_meter(const json_t *conf, struct problems *p)
{
	if (json_array_size(json_object_get(conf, "remote_devices")) == 0)
		problem_add(p, "remote_devices", "there is none");
}

static int no_points(const json_t *conf, struct point_list *ret, struct err *err)
{
	(void)conf;
	(void)err;
	*ret = (struct point_list){0};
	return 0;
}

static const struct device_type meter = {
	.name = "modbus_master",
	.module = "modbus.master",
	.fields = meter_table,
	.check = check_meter,
	.points = no_points,
};
static const struct device_type server = {
	.name = "modbus_slave",
	.module = "modbus.slave",
	.fields = server_table,
	.points = no_points,
};
static const struct device_type absent = {
	.name = "smpp_client",
	.module = "smpp.client",
};
static const struct device_type *const types[] = {&meter, &server, &absent};

const struct device_type *const *device_types(size_t *ret_n)
{
	*ret_n = ARRAY_LEN(types);
	return types;
}

const struct device_type *device_type_find(const char *name)
{
	static const char prefix[] = "hat.gateway.devices.";

	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		if (strcmp(types[i]->name, name) == 0 ||
		    (strncmp(name, prefix, strlen(prefix)) == 0 &&
		     strcmp(types[i]->module, name + strlen(prefix)) == 0))
			return types[i];
	}
	return NULL;
}

/* ---- a folder with a device file in it ---- */

struct bench {
	char dir[64];
	struct settings settings;
	struct devices_conf conf;
	struct err err;
	char told[8192]; /* a line for each problem */
};

static void append(void *arg, bool is_error, const char *text)
{
	struct bench *b = arg;
	size_t len = strlen(b->told);

	snprintf(b->told + len, sizeof(b->told) - len, "%s%s\n", is_error ? "" : "warning: ", text);
}

static int set_up(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	snprintf(b->dir, sizeof(b->dir), P_tmpdir "/test_device_conf.XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	assert_int_equal(settings_load(NULL, &b->settings, NULL, NULL, NULL), 0);
	*state = b;
	return 0;
}

static int tear_down(void **state)
{
	struct bench *b = *state;
	char command[100];

	devices_conf_done(&b->conf);
	settings_done(&b->settings);
	snprintf(command, sizeof(command), "rm -r %s", b->dir);
	assert_int_equal(system(command), 0);
	free(b);
	return 0;
}

static void write_file(struct bench *b, const char *name, const char *text)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/templates", b->dir);
	assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
	snprintf(path, sizeof(path), "%s/%s", b->dir, name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, 0600), 0);
}

/* ret: that of devices_conf_parse(); b->conf and b->told are of this text. */
static int parse(struct bench *b, const char *text)
{
	struct problems *p = problems_new();

	assert_non_null(p);
	devices_conf_done(&b->conf);
	b->told[0] = b->err.text[0] = '\0';
	int rc = devices_conf_parse(text, strlen(text), b->dir, &b->settings, &b->conf, p, &b->err);

	problems_each(p, append, b);
	assert_true((rc == 0) == (problems_errors(p) == 0));
	assert_true((rc == 0) == (b->err.text[0] == '\0'));
	problems_free(p);
	return rc;
}

static void assert_told(struct bench *b, const char *text, const char *expected)
{
	parse(b, text);
	assert_string_equal(b->told, expected);
}

/* The one device of a file is to be this. */
static void assert_device(struct bench *b, const char *device, const char *expected)
{
	char text[4096];
	json_auto_t *wanted = json_loads(expected, 0, NULL);

	assert_non_null(wanted);
	snprintf(text, sizeof(text), "{\"name\": \"gw\", \"devices\": [%s]}", device);
	int rc = parse(b, text);

	assert_string_equal(b->told, "");
	assert_int_equal(rc, 0);
	assert_int_equal(b->conf.n, 1);
	if (!json_equal(b->conf.devices[0].json, wanted)) {
		json_dumpf(b->conf.devices[0].json, stderr, 0);
		fail_msg("is not %s", expected);
	}
}

#define METER(name)                                                       \
	"{\"type\": \"modbus_master\", \"name\": \"" name                 \
	"\", \"connection\": {}, \"remote_devices\": [{\"device_id\": 1," \
	" \"data\": [{\"name\": \"a\", \"address\": 0}]}]}"

/* ---- the file ---- */

static void what_the_file_leaves_out_is_of_the_settings(void **state)
{
	struct bench *b = *state;

	assert_int_equal(parse(b, "{\"name\": \"gw\", \"devices\": [" METER("plc") "]}"), 0);
	assert_string_equal(b->told, "");
	assert_string_equal(b->conf.name, "gw");
	assert_string_equal(b->conf.mqtt_host, b->settings.core_mqtt.host);
	assert_int_equal(b->conf.mqtt_port, b->settings.core_mqtt.port);
	assert_string_equal(b->conf.csm_url, "http://127.0.0.1:9992");
	assert_null(b->conf.username);
	assert_null(b->conf.password);
	assert_true(b->conf.bus_loss_grace_s == 5 && b->conf.sync_timeout_s == 2);
	assert_int_equal(b->conf.n, 1);
	assert_ptr_equal(b->conf.devices[0].type, &meter);
	assert_string_equal(b->conf.devices[0].name, "plc");
	assert_true(json_is_null(json_object_get(b->conf.devices[0].json, "store")));
}

static void the_file_has_the_last_word(void **state)
{
	struct bench *b = *state;

	write_file(b, "password", "secret word\nanother\n");
	assert_int_equal(parse(b, "{\"name\": \"gw\", \"mqtt\": {\"host\": \"h\", \"port\": 1,"
				  " \"username\": \"u\", \"password_file\": \"password\","
				  " \"tls\": null}, \"csm\": {\"url\": \"https://c:1\"},"
				  " \"bus_loss_grace\": 0, \"sync_timeout\": 0.5,"
				  " \"timezone\": \"UTC\", \"devices\": []}"),
			 0);
	assert_string_equal(b->told, "");
	assert_string_equal(b->conf.mqtt_host, "h");
	assert_int_equal(b->conf.mqtt_port, 1);
	assert_string_equal(b->conf.username, "u");
	assert_string_equal(b->conf.password, "secret word");
	assert_string_equal(b->conf.csm_url, "https://c:1");
	assert_true(b->conf.bus_loss_grace_s == 0 && b->conf.sync_timeout_s == 0.5);
}

static void everything_wrong_in_the_file_is_told(void **state)
{
	struct bench *b = *state;

	assert_int_equal(parse(b, "{\"mqtt\": {\"port\": 0, \"tls\": {}, \"hots\": 1},"
				  " \"csm\": {\"url\": \"csm\"}, \"timezone\": \"Utopia/Nowhere\","
				  " \"devices\": [7, {\"type\": \"modbus_master\"}, "
				  "{\"name\": \"b\"}]}"),
			 ERR_SCHEMA);
	assert_string_equal(
		b->told,
		"name: is missing; it is a text of 1 to 255 bytes\n"
		"mqtt.port: must be an integer from 1 to 65535\n"
		"mqtt.tls: must be null: connections to the broker are not encrypted; reach a "
		"broker elsewhere through a tunnel (a VPN, ssh -L, stunnel)\n"
		"warning: mqtt.hots: is not known (did you mean host?)\n"
		"csm.url: must begin with http:// or https://\n"
		"timezone: must be a time zone that tzdata knows, such as Europe/Vienna\n"
		"devices[0]: must be an object\n"
		"devices[1].name: is missing; it is a text of 1 to 255 bytes\n"
		"devices[1].connection: is missing; it is an object\n"
		"devices[1].remote_devices: is missing; it is a list of objects\n"
		"devices[2].type: is missing\n");
	assert_told(b, "[]", "must be an object\n");
}

static void a_type_is_named_in_two_ways(void **state)
{
	struct bench *b = *state;

	assert_int_equal(parse(b, "{\"name\": \"gw\", \"devices\": [{\"module\":"
				  " \"hat.gateway.devices.modbus.slave\", \"name\": \"s\","
				  " \"data\": []}]}"),
			 0);
	assert_ptr_equal(b->conf.devices[0].type, &server);
	assert_told(
		b,
		"{\"name\": \"gw\", \"devices\": ["
		"{\"type\": \"modbus_mastr\", \"name\": \"a\"},"
		"{\"type\": \"smpp_client\", \"name\": \"a\"},"
		"{\"module\": \"modbus.slave\", \"name\": \"a\"},"
		"{\"type\": 7, \"name\": \"a\"},"
		"{\"type\": \"modbus_slave\", \"module\": \"hat.gateway.devices.modbus.master\", "
		"\"name\": \"b\"},"
		"{\"type\": \"modbus_slave\", \"module\": \"modbus_mastr\", \"name\": \"c\"}]}",
		"devices[0].type: modbus_mastr is no device type (did you mean modbus_master?);"
		" there are: modbus_master, modbus_slave\n"
		"devices[1].type: smpp_client is not part of this version;"
		" there are: modbus_master, modbus_slave\n"
		"devices[2].module: modbus.slave is no device type (did you mean modbus_slave?);"
		" there are: modbus_master, modbus_slave\n"
		"devices[3].type: must be the name of a device type\n"
		"devices[4].module: is modbus_master, but the type is modbus_slave\n"
		"devices[5].module: modbus_mastr is no device type (did you mean modbus_master?);"
		" there are: modbus_master, modbus_slave\n");
}

static void names_are_any_text_and_unique_in_their_type(void **state)
{
	struct bench *b = *state;

	assert_told(b,
		    "{\"name\": \"tor/+ \xc3\xa4\", \"devices\": [" METER(
			    "#/+ \xe2\x82\xac") ","
						"{\"type\": \"modbus_slave\", \"name\": \"a\", "
						"\"data\": []}," METER("a") "]}",
		    "");
	assert_told(b,
		    "{\"name\": \"a\\u0007\", \"devices\": [" METER("a") "," METER(
			    "b\\u0085") "," METER("c") "," METER("a") "," METER("a") "]}",
		    "name: must not have control characters\n"
		    "devices[1].name: must not have control characters\n"
		    "devices[3].name: there is another modbus_master 'a'\n"
		    "devices[4].name: there is another modbus_master 'a'\n");
}

static void json_that_does_not_parse_is_told_with_its_line(void **state)
{
	struct bench *b = *state;

	assert_int_equal(parse(b, "{\"name\": \"a\",\n \"devices\": [}"), ERR_PARSE);
	assert_int_equal(strncmp(b->told, "line 2, column 14: ", 19), 0);
	assert_int_equal(strncmp(b->err.text, "line 2, column 14: ", 19), 0);
	assert_int_equal(parse(b, "{\"name\": \"a\",\n\"name\": \"b\"}"), ERR_PARSE);
	assert_non_null(strstr(b->told, "duplicate"));
	assert_int_equal(parse(b, "{\"name\": \"a\", \"devices\": []} x"), ERR_PARSE);
	assert_int_equal(parse(b, ""), ERR_PARSE);
	assert_int_equal(parse(b, "{\"name\": \"a\\u0000b\", \"devices\": []}"), ERR_PARSE);
}

static void a_type_looks_at_what_tables_cannot_say(void **state)
{
	assert_told(
		*state,
		"{\"name\": \"gw\", \"devices\": [{\"type\": \"modbus_master\", \"name\": \"a\","
		" \"connection\": {}, \"remote_devices\": []}]}",
		"devices[0].remote_devices: there is none\n");
}

static void a_password_needs_a_file_and_a_name(void **state)
{
	struct bench *b = *state;
	char expected[300];

	write_file(b, "password", "x");
	assert_told(b,
		    "{\"name\": \"gw\", \"mqtt\": {\"password_file\": \"password\"},"
		    " \"devices\": []}",
		    "mqtt.password_file: needs a username\n");
	snprintf(expected, sizeof(expected),
		 "mqtt.password_file: %s/nothing: No such file or directory\n", b->dir);
	assert_told(b,
		    "{\"name\": \"gw\", \"mqtt\": {\"username\": \"u\", \"password_file\":"
		    " \"nothing\"}, \"devices\": []}",
		    expected);
	snprintf(expected, sizeof(expected), "%s/password", b->dir);
	assert_int_equal(chmod(expected, 0644), 0);
	assert_int_equal(parse(b, "{\"name\": \"gw\", \"mqtt\": {\"username\": \"u\","
				  " \"password_file\": \"password\"}, \"devices\": []}"),
			 0);
	assert_non_null(strstr(b->told, "everybody may read it"));
}

static void files_that_cannot_be_read_are_told(void **state)
{
	struct bench *b = *state;
	struct problems *p = problems_new();
	char path[100];

	snprintf(path, sizeof(path), "%s/none.json", b->dir);
	assert_int_equal(devices_conf_load(path, &b->settings, &b->conf, p, &b->err), ERR_NOENT);
	assert_int_equal(devices_conf_load(b->dir, &b->settings, &b->conf, p, &b->err), ERR_INVAL);
	assert_int_equal(problems_errors(p), 2);
	write_file(b, "devices.json", "{\"name\": \"gw\", \"devices\": [" METER("plc") "]}");
	snprintf(path, sizeof(path), "%s/devices.json", b->dir);
	assert_int_equal(devices_conf_load(path, &b->settings, &b->conf, p, &b->err), 0);
	assert_int_equal(b->conf.n, 1);
	assert_int_equal(truncate(path, (64 << 20) + 1), 0);
	devices_conf_done(&b->conf);
	assert_int_equal(devices_conf_load(path, &b->settings, &b->conf, p, &b->err), ERR_LIMIT);
	problems_free(p);
}

/* ---- device by device ---- */

static void keep_first(void *arg, bool is_error, const char *text)
{
	char *first = arg;

	if (is_error && first[0] == '\0')
		snprintf(first, 600, "%s", text);
}

/* Devices are read one by one; what is told of a text that is no JSON is the same as if it had been
 * read as a whole. */
static void assert_read_as_whole(struct bench *b, const char *text, size_t len)
{
	struct problems *p = problems_new();
	struct devices_conf conf;
	char told[600] = "", expected[600];
	json_error_t why;
	json_auto_t *whole = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);

	assert_non_null(p);
	int rc = devices_conf_parse(text, len, b->dir, &b->settings, &conf, p, &b->err);

	problems_each(p, keep_first, told);
	problems_free(p);
	snprintf(expected, sizeof(expected), "line %d, column %d: %s", why.line, why.column,
		 why.text);
	for (char *c = expected; *c != '\0'; c++)
		*c = (char)(*c == '\n' ? '?' : *c); /* on one line */
	if ((whole == NULL) != (rc == ERR_PARSE) || (whole == NULL && strcmp(told, expected) != 0))
		fail_msg("%.*s: %s, not %s", (int)len, text, told, expected);
	for (size_t i = 0; rc == 0 && i < conf.n; i++) {
		const json_t *device = json_array_get(json_object_get(whole, "devices"), i);

		assert_string_equal(conf.devices[i].name,
				    json_string_value(json_object_get(device, "name")));
	}
	devices_conf_done(&conf);
}

static void what_is_no_json_is_told_with_its_place(void **state)
{
	static const char text[] =
		"{\"name\": \"g\u00e4\", \"x\": [\"devices\", \"d\"],\n \"devices\" : [\n "
		"{\"type\": \"modbus_slave\", \"name\": \"a\",\n\"data\": [{\"name\": \"]}\\\"\","
		" \"address\":\n 1}]} , {\"type\": \"modbus_slave\", \"name\": \"b\", "
		"\"data\":[]},\n"
		"{\"type\": \"modbus_slave\", \"data\": [\n], \"name\":\"c\"}\n ],\n\"csm\": {}, "
		"\"sync_timeout\": 2}\n";
	static const char marks[] = "{}[],:\" \na0";
	struct bench *b = *state;
	char damaged[sizeof(text)];
	size_t len = strlen(text);

	assert_int_equal(parse(b, text), 0);
	assert_int_equal(b->conf.n, 3);
	for (size_t i = 0; i < len; i++) {
		assert_read_as_whole(b, text, i);
		for (const char *mark = marks; *mark != '\0' && (text[i] & 0x80) == 0; mark++) {
			memcpy(damaged, text, sizeof(text));
			damaged[i] = *mark;
			assert_read_as_whole(b, damaged, len);
		}
		if ((text[i] & 0x80) != 0)
			continue;
		memcpy(damaged, text, i);
		memcpy(damaged + i, text + i + 1, len - i);
		assert_read_as_whole(b, damaged, len - 1);
	}
}

/* What was read before runs: its JSON is elsewhere. */
struct running {
	const struct devices_conf *before;
	struct device_conf found[3];
};

static const struct device_conf *running(struct running *r, size_t i)
{
	r->found[i] = r->before->devices[i];
	r->found[i].json = NULL;
	return &r->found[i];
}

static int find_same(void *arg, const struct device_conf *d, const struct device_conf **ret,
		     struct err *err)
{
	struct running *r = arg;

	(void)err;
	for (size_t i = 0; i < r->before->n; i++) {
		if (!json_equal(r->before->devices[i].json, d->json))
			continue;
		*ret = running(r, i);
		return 1;
	}
	return 0;
}

static const struct device_conf *find_text(void *arg, const char *digest)
{
	struct running *r = arg;

	for (size_t i = 0; i < r->before->n; i++)
		if (strcmp(r->before->devices[i].digest, digest) == 0)
			return running(r, i);
	return NULL;
}

static void a_device_whose_text_is_the_same_is_not_read_again(void **state)
{
	struct bench *b = *state;
	struct problems *p = problems_new();
	struct conf_reading *r = NULL;
	struct devices_conf again;
	struct running before = {.before = &b->conf};
	struct conf_known known = {.find_text = find_text, .find_same = find_same, .arg = &before};
	char path[100];
	int steps = 0, rc = 1;

	assert_non_null(p);
	assert_int_equal(parse(b, "{\"name\": \"gw\", \"devices\": [" METER("a") "," METER(
					  "b") ", {\"odd\": 1, \"type\": \"modbus_slave\","
					       " \"name\": \"c\", \"data\": []}]}"),
			 0);
	write_file(b, "devices.json",
		   "{\"devices\": [{\"odd\": 1, \"type\": \"modbus_slave\", \"name\": \"c\","
		   " \"data\": []}, " METER("b") ",\n" METER("d") "], \"name\": \"gw\"}");
	snprintf(path, sizeof(path), "%s/devices.json", b->dir);
	assert_int_equal(conf_reading_new(path, &b->settings, &known, p, &r, &b->err), 0);
	for (; rc > 0; steps++)
		rc = conf_reading_step(r, &b->err);
	assert_int_equal(rc, 0);
	assert_true(steps > 6); /* each is found, and looked at */
	conf_reading_take(r, &again, &known.templates);
	conf_reading_free(r);
	assert_int_equal(again.n, 3);
	/* what is odd is told again; b and c stay what they were */
	assert_string_equal(again.devices[0].digest, "");
	assert_null(again.devices[0].json);
	assert_string_equal(again.devices[0].name, "c");
	assert_null(again.devices[1].json);
	assert_string_equal(again.devices[1].digest, b->conf.devices[1].digest);
	assert_non_null(again.devices[2].json);
	assert_string_equal(again.devices[2].name, "d");
	assert_int_equal(problems_all(p), 1);
	templates_free(known.templates);
	devices_conf_done(&again);
	problems_free(p);
}

/* ---- templates ---- */

#define TEMPLATE(version)                                                                \
	"{\"template\": \"m\", \"version\": " version ", \"title\": \"A meter\","        \
	" \"type\": \"modbus_master\", \"device\": {\"connection\": {\"kind\": \"RTU\"," \
	" \"t\": 1}, \"remote_devices\": [{\"device_id\": 1, \"delay\": 2, \"data\": ["  \
	"{\"name\": \"u\", \"address\": 0}, {\"name\": \"i\", \"address\": " version "}]}]}}"

static void a_device_is_what_its_template_says_and_what_it_says_itself(void **state)
{
	struct bench *b = *state;

	write_file(b, "templates/m.json", TEMPLATE("2"));
	assert_device(b,
		      "{\"name\": \"a\", \"template\": \"m\", \"device_id\": 7,"
		      " \"connection\": {\"t\": 3, \"p\": 4}}",
		      "{\"name\": \"a\", \"template\": \"m\", \"restart_delay\": null,"
		      " \"store\": null, \"connection\": {\"kind\": \"RTU\", \"t\": 3, \"p\": 4},"
		      " \"remote_devices\": [{\"device_id\": 7, \"delay\": 2, \"data\": ["
		      "{\"name\": \"u\", \"address\": 0, \"interval\": 1},"
		      "{\"name\": \"i\", \"address\": 2, \"interval\": 1}]}]}");
	assert_ptr_equal(b->conf.devices[0].type, &meter);
	/* points are joined by their names, remote devices by their ids */
	assert_device(b,
		      "{\"type\": \"modbus_master\", \"name\": \"a\", \"template\": \"m\","
		      " \"prefix\": \"x_\","
		      " \"remote_devices\": [{\"device_id\": 1, \"data\": ["
		      "{\"name\": \"x_i\", \"interval\": 9}, {\"name\": \"w\", \"address\": 5}]},"
		      "{\"device_id\": 2, \"data\": []}]}",
		      "{\"type\": \"modbus_master\", \"name\": \"a\", \"template\": \"m\","
		      " \"restart_delay\": null, \"store\": null,"
		      " \"connection\": {\"kind\": \"RTU\", \"t\": 1},"
		      " \"remote_devices\": [{\"device_id\": 1, \"delay\": 2, \"data\": ["
		      "{\"name\": \"x_u\", \"address\": 0, \"interval\": 1},"
		      "{\"name\": \"x_i\", \"address\": 2, \"interval\": 9},"
		      "{\"name\": \"w\", \"address\": 5, \"interval\": 1}]},"
		      "{\"device_id\": 2, \"delay\": 5, \"data\": []}]}");
}

static void several_remote_devices_have_each_their_template(void **state)
{
	struct bench *b = *state;

	write_file(b, "templates/m.json", TEMPLATE("2"));
	assert_device(b,
		      "{\"name\": \"line\", \"connection\": {\"t\": 3}, \"remote_devices\": ["
		      "{\"device_id\": 7, \"template\": \"m\", \"prefix\": \"a_\"},"
		      "{\"device_id\": 8, \"template\": \"m\", \"prefix\": \"b_\", \"delay\": 0},"
		      "{\"device_id\": 9, \"data\": []}]}",
		      "{\"name\": \"line\", \"restart_delay\": null, \"store\": null,"
		      " \"connection\": {\"kind\": \"RTU\", \"t\": 3}, \"remote_devices\": ["
		      "{\"device_id\": 7, \"delay\": 2, \"data\": ["
		      "{\"name\": \"a_u\", \"address\": 0, \"interval\": 1},"
		      "{\"name\": \"a_i\", \"address\": 2, \"interval\": 1}]},"
		      "{\"device_id\": 8, \"delay\": 0, \"data\": ["
		      "{\"name\": \"b_u\", \"address\": 0, \"interval\": 1},"
		      "{\"name\": \"b_i\", \"address\": 2, \"interval\": 1}]},"
		      "{\"device_id\": 9, \"delay\": 5, \"data\": []}]}");
}

static void the_points_of_a_server_get_the_id(void **state)
{
	struct bench *b = *state;

	write_file(b, "templates/s.json",
		   "{\"template\": \"s\", \"version\": 1, \"title\": \"t\", \"type\":"
		   " \"modbus_slave\", \"device\": {\"data\": [{\"name\": \"a\", \"address\": 1,"
		   " \"device_id\": 1}]}}");
	assert_device(b, "{\"name\": \"s\", \"template\": \"s\", \"device_id\": 9}",
		      "{\"name\": \"s\", \"template\": \"s\", \"restart_delay\": null,"
		      " \"store\": null, \"data\": [{\"name\": \"a\", \"address\": 1,"
		      " \"device_id\": 9, \"interval\": 1}]}");
}

static void a_version_of_a_template_can_be_asked_for(void **state)
{
	struct bench *b = *state;
	json_t *i;
	static const char *const devices[] = {"m", "m@3", "m@2"};
	static const json_int_t addresses[] = {3, 3, 2};

	write_file(b, "templates/m.json", TEMPLATE("3"));
	write_file(b, "templates/m@2.json", TEMPLATE("2"));
	for (size_t n = 0; n < ARRAY_LEN(devices); n++) {
		char text[200];

		snprintf(text, sizeof(text),
			 "{\"name\": \"gw\", \"devices\": [{\"name\": \"a\", \"template\": "
			 "\"%s\"}]}",
			 devices[n]);
		assert_int_equal(parse(b, text), 0);
		i = json_object_get(b->conf.devices[0].json, "remote_devices");
		i = json_object_get(json_array_get(i, 0), "data");
		i = json_object_get(json_array_get(i, 1), "address");
		assert_int_equal(json_integer_value(i), addresses[n]);
	}
	parse(b, "{\"name\": \"gw\", \"devices\": [{\"name\": \"a\", \"template\": \"m@4\"}]}");
	assert_non_null(strstr(b->told, "devices[0].template: there is no template m@4 in "));
}

static void what_is_wrong_with_templates_is_told(void **state)
{
	static const struct {
		const char *device, *told;
	} rows[] = {
		{"\"template\": 7", "devices[0].template: must be NAME or NAME@VERSION"},
		{"\"template\": \"../m\"", "devices[0].template: must be NAME or NAME@VERSION"},
		{"\"template\": \"m@x\"", "devices[0].template: must be NAME or NAME@VERSION"},
		{"\"template\": \"m@2/../m\"", "devices[0].template: must be NAME or NAME@VERSION"},
		{"\"template\": \"nothing\"",
		 "devices[0].template: there is no template nothing in"},
		{"\"template\": \"broken\"", "broken.json: line 1, column 1: "},
		{"\"template\": \"lacking\"", "lacking.json: version: is missing"},
		{"\"template\": \"m\", \"type\": \"modbus_slave\"",
		 "devices[0].type: is modbus_slave, but the template is for modbus_master"},
		{"\"template\": \"m\", \"prefix\": 7", "devices[0].prefix: must be a text"},
		{"\"template\": \"two\", \"device_id\": 3",
		 "devices[0].device_id: the template has several remote devices"},
		{"\"type\": \"modbus_slave\", \"data\": [], \"device_id\": 3",
		 "devices[0].device_id: stands beside a template only"},
		{"\"connection\": {}, \"remote_devices\": [{\"device_id\": 1, \"template\": "
		 "\"two\"}]",
		 "devices[0].remote_devices[0].template: the template has no remote device, or"},
		{"\"template\": \"odd\"", "devices[0].template: teapot is no device type"},
		{"\"template\": \"wrong\"",
		 "devices[0].remote_devices[0].data[0].address: must be an integer"},
	};
	struct bench *b = *state;
	char text[400];

	write_file(b, "templates/m.json", TEMPLATE("2"));
	write_file(b, "templates/broken.json", "{");
	write_file(b, "templates/lacking.json", "{\"template\": \"lacking\"}");
	write_file(b, "templates/two.json",
		   "{\"template\": \"two\", \"version\": 1, \"title\": \"t\", \"type\":"
		   " \"modbus_master\", \"device\": {\"connection\": {}, \"remote_devices\": ["
		   "{\"device_id\": 1, \"data\": []}, {\"device_id\": 2, \"data\": []}]}}");
	write_file(b, "templates/odd.json",
		   "{\"template\": \"odd\", \"version\": 1, \"title\": \"t\", \"type\":"
		   " \"teapot\", \"device\": {}}");
	write_file(b, "templates/wrong.json",
		   "{\"template\": \"wrong\", \"version\": 1, \"title\": \"t\", \"type\":"
		   " \"modbus_master\", \"device\": {\"connection\": {}, \"remote_devices\": ["
		   "{\"device_id\": 1, \"data\": [{\"name\": \"a\", \"address\": -1}]}]}}");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(text, sizeof(text),
			 "{\"name\": \"gw\", \"devices\": [{\"name\": \"a\", %s}]}",
			 rows[i].device);
		assert_int_equal(parse(b, text), ERR_SCHEMA);
		if (strstr(b->told, rows[i].told) == NULL)
			fail_msg("%s: %s", rows[i].device, b->told);
	}
}

/* ---- many ---- */

static json_t *points_of(const struct bench *b, size_t device)
{
	json_t *remotes = json_object_get(b->conf.devices[device].json, "remote_devices");

	return json_object_get(json_array_get(remotes, 0), "data");
}

static void devices_that_are_alike_share_what_they_have(void **state)
{
	struct bench *b = *state;

	assert_int_equal(
		parse(b, "{\"name\": \"gw\", \"devices\": [" METER("a") "," METER(
				 "b") ","
				      "{\"type\": \"modbus_master\", \"name\": \"c\","
				      " \"connection\": {}, \"remote_devices\": [{\"device_id\": 1,"
				      " \"data\": [{\"name\": \"a\", \"address\": 1}]}]}]}"),
		0);
	assert_int_equal(b->conf.n, 3);
	assert_ptr_equal(points_of(b, 0), points_of(b, 1));
	assert_ptr_not_equal(points_of(b, 0), points_of(b, 2));
	assert_int_equal(json_array_size(points_of(b, 2)), 1);
	assert_string_equal(b->conf.devices[1].name, "b");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(what_the_file_leaves_out_is_of_the_settings),
		TEST(the_file_has_the_last_word),
		TEST(everything_wrong_in_the_file_is_told),
		TEST(a_type_is_named_in_two_ways),
		TEST(names_are_any_text_and_unique_in_their_type),
		TEST(json_that_does_not_parse_is_told_with_its_line),
		TEST(a_type_looks_at_what_tables_cannot_say),
		TEST(a_password_needs_a_file_and_a_name),
		TEST(files_that_cannot_be_read_are_told),
		TEST(what_is_no_json_is_told_with_its_place),
		TEST(a_device_whose_text_is_the_same_is_not_read_again),
		TEST(a_device_is_what_its_template_says_and_what_it_says_itself),
		TEST(several_remote_devices_have_each_their_template),
		TEST(the_points_of_a_server_get_the_id),
		TEST(a_version_of_a_template_can_be_asked_for),
		TEST(what_is_wrong_with_templates_is_told),
		TEST(devices_that_are_alike_share_what_they_have),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
