/* fuzz: agent
 *
 * A device file. It is refused with at least one reason, or it holds what the device service relies
 * on: a name, where the broker and csm are, and devices with a type that runs, a name and points
 * that can be listed. To read it twice finds nothing else. */
#include "agent/device/conf.h"
#include "common/util.h"
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* From the root of the repository: its templates are found. */
#define DIR "conf"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct settings *settings(void)
{
	static struct settings s;
	static bool loaded;

	if (!loaded && settings_load(NULL, &s, NULL, NULL, NULL) < 0)
		abort();
	loaded = true;
	return &s;
}

/* Texts are told to people: on one line, and UTF-8 as far as jansson thinks. */
static void check_text(void *arg, bool is_error, const char *text)
{
	json_auto_t *as_json = json_string(text);

	assert(text[0] != '\0' && strpbrk(text, "\n\r\x1b\x7f") == NULL && as_json != NULL);
	*(size_t *)arg += is_error;
}

static void check_device(const struct device_conf *d)
{
	struct point_list points = {0};
	struct err err = {0};

	assert(d->type->fields != NULL && d->name[0] != '\0');
	assert(strcmp(json_string_value(json_object_get(d->json, "name")), d->name) == 0);
	assert(d->type->points(d->json, &points, &err) == 0);
	for (size_t i = 0; i < points.n; i++)
		assert(points.items[i].name[0] != '\0' && json_is_object(points.items[i].options));
	free(points.items);
}

static int parse(const uint8_t *data, size_t size, struct devices_conf *conf, size_t *ret_told)
{
	struct problems *p = problems_new();
	struct err err = {0};

	assert(p != NULL);
	int rc = devices_conf_parse((const char *)data, size, DIR, settings(), conf, p, &err);

	*ret_told = 0;
	problems_each(p, check_text, ret_told);
	assert((rc == 0) == (problems_errors(p) == 0) && (rc == 0) == (*ret_told == 0));
	assert((rc == 0) == (err.text[0] == '\0'));
	/* devices are read one by one: no other texts are refused than by one look at the whole */
	json_error_t why;
	json_auto_t *whole = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, &why);

	assert((whole == NULL) == (rc == ERR_PARSE) ||
	       (whole == NULL && json_error_code(&why) == json_error_stack_overflow));
	problems_free(p);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct devices_conf conf, again;
	size_t told, told_again;
	int rc = parse(data, size, &conf, &told);

	if (rc == 0) {
		assert(conf.name[0] != '\0' && conf.mqtt_host[0] != '\0' && conf.mqtt_port > 0);
		assert(strncmp(conf.csm_url, "http", 4) == 0);
		for (size_t i = 0; i < conf.n; i++)
			check_device(&conf.devices[i]);
	}
	assert(parse(data, size, &again, &told_again) == rc && told_again == told);
	assert(again.n == conf.n && (rc < 0 || json_equal(again.json, conf.json)));
	devices_conf_done(&again);
	devices_conf_done(&conf);
	return 0;
}
