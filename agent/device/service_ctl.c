/* service_ctl.c - what people ask of the devices over the control socket. */
#include "agent/device/service_int.h"
#include "common/shortage.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define TIMEOUT_MS     10000 /* of reads and writes, if nobody says */
#define TIMEOUT_MAX_MS 600000

/* ---- whom it means ---- */

struct search {
	const char *name;
	struct entry *found;
	size_t n;
};

static void look(void *arg, const char *key, void *value)
{
	struct search *s = arg;
	struct entry *e = value;

	(void)key;
	if (strcmp(device_name(e->device), s->name) != 0)
		return;
	s->found = e;
	s->n++;
}

/* `name` of the request: the device's, or TYPE/NAME. ret: NULL: answered. */
static struct device *named(struct devices *d, json_t *request, struct ctl_call *call)
{
	struct search s = {.name = json_string_value(json_object_get(request, "name"))};
	char reason[300];

	if (s.name == NULL) {
		ctl_answer_error(call, "name is missing: that of a device, or TYPE/NAME");
		return NULL;
	}
	struct entry *e = map_find(d->entries, s.name);

	if (e != NULL)
		return e->device;
	map_each(d->entries, look, &s);
	if (s.n == 1)
		return s.found->device;
	snprintf(reason, sizeof(reason),
		 s.n == 0 ? "there is no device '%.200s'"
			  : "'%.200s' is the name of several devices: give TYPE/NAME",
		 s.name);
	ctl_answer_error(call, reason);
	return NULL;
}

/* `point` of the request. ret: negative: answered. */
static int point_named(const struct device *dev, json_t *request, struct ctl_call *call)
{
	const char *name = json_string_value(json_object_get(request, "point"));
	struct err err = {0};

	if (name == NULL) {
		ctl_answer_error(call, "point is missing: its name, or that of a feature");
		return ERR_INVAL;
	}
	int point = device_find_point(dev, name, &err);
	if (point < 0)
		ctl_answer_error(call, err.text);
	return point;
}

static unsigned timeout_of(json_t *request)
{
	const json_t *ms = json_object_get(request, "timeout_ms");
	json_int_t n = json_integer_value(ms);

	return json_is_integer(ms) && n > 0 && n <= TIMEOUT_MAX_MS ? (unsigned)n : TIMEOUT_MS;
}

/* ---- looking ---- */

static void list_one(void *arg, const char *key, void *value)
{
	const struct entry *e = value;

	(void)key;
	json_array_append_new(arg, device_tell(e->device, false));
}

void devices_on_list(struct devices *d, json_t *request, struct ctl_call *call)
{
	unsigned long before = shortage_count();
	struct eventbus_stats bus = {.why = ""};
	json_t *list = json_array();

	if (d->bus != NULL)
		eventbus_get_stats(d->bus, &bus);
	(void)request;
	map_each(d->entries, list_one, list);
	json_t *answer =
		json_pack("{s:s, s:s, s:b, s:s, s:s, s:o}", "state", "ok", "file", d->path, "bus",
			  d->synced, "bus_why", bus.why, "why", d->why, "devices", list);

	if (shortage_count() != before ||
	    json_array_size(json_object_get(answer, "devices")) != map_count(d->entries)) {
		json_decref(answer);
		answer = NULL;
	}
	ctl_answer(call, answer);
}

static void answer_device(struct ctl_call *call, const struct device *dev, bool all)
{
	json_t *told = device_tell(dev, all);

	ctl_answer(call,
		   told != NULL ? json_pack("{s:s, s:o}", "state", "ok", "device", told) : NULL);
}

void devices_on_show(struct devices *d, json_t *request, struct ctl_call *call)
{
	const struct device *dev = named(d, request, call);

	if (dev != NULL)
		answer_device(call, dev, true);
}

/* ---- enabling ---- */

static void set_enabled(struct devices *d, json_t *request, bool enabled, struct ctl_call *call)
{
	struct device *dev = named(d, request, call);
	struct err err = {0};

	if (dev == NULL)
		return;
	if (device_set_enabled(dev, enabled, &err) < 0)
		ctl_answer_error(call, err.text);
	else
		answer_device(call, dev, false);
}

void devices_on_enable(struct devices *d, json_t *request, struct ctl_call *call)
{
	set_enabled(d, request, true, call);
}

void devices_on_disable(struct devices *d, json_t *request, struct ctl_call *call)
{
	set_enabled(d, request, false, call);
}

/* ---- reading and writing ---- */

struct asked {
	struct ctl_call *call;
	const struct device *device;
	unsigned point;
	bool is_write;
};

/* ret: NULL: answered. */
static struct asked *ask(struct ctl_call *call, const struct device *dev, int point, bool is_write)
{
	struct asked *a = malloc(sizeof(*a));

	if (a == NULL)
		ctl_answer_error(call, "out of memory");
	else
		*a = (struct asked){.call = call,
				    .device = dev,
				    .point = (unsigned)point,
				    .is_write = is_write};
	return a;
}

/* of: the device, or one of its points. */
static void answer_why(struct ctl_call *call, const char *of, const char *why)
{
	char reason[600];

	snprintf(reason, sizeof(reason), "%.250s: %.340s", of, why);
	ctl_answer_error(call, reason);
}

static void on_answered(void *arg, enum ack ack, const struct value *v, const char *why)
{
	CLEANUP(freep)
	struct asked *a = arg;

	if (ack != ACK_OK) {
		answer_why(a->call, device_key(a->device),
			   why != NULL && why[0] != '\0' ? why : ack_name(ack));
		return;
	}
	if (a->is_write) {
		ctl_answer(a->call, json_pack("{s:s, s:s}", "state", "ok", "ack", ack_name(ack)));
		return;
	}
	unsigned quality = v->quality;
	json_t *value = device_show_value(a->device, a->point, v, &quality);

	ctl_answer(a->call, json_pack("{s:s, s:o, s:i, s:I}", "state", "ok", "value",
				      value != NULL ? value : json_null(), "quality", (int)quality,
				      "time_us", (json_int_t)v->time_us));
}

void devices_on_read(struct devices *d, json_t *request, struct ctl_call *call)
{
	struct device *dev = named(d, request, call);
	int point = dev != NULL ? point_named(dev, request, call) : ERR_NOENT;
	struct asked *a = point >= 0 ? ask(call, dev, point, false) : NULL;

	if (a != NULL)
		device_read(dev, a->point, timeout_of(request), on_answered, a);
}

void devices_on_write(struct devices *d, json_t *request, struct ctl_call *call)
{
	struct device *dev = named(d, request, call);
	int point = dev != NULL ? point_named(dev, request, call) : ERR_NOENT;
	json_t *given = json_object_get(request, "value");
	struct value value;
	struct err err = {0};

	if (point < 0)
		return;
	if (given == NULL) {
		ctl_answer_error(call, "value is missing");
		return;
	}
	json_auto_t *values = json_is_array(given) ? json_incref(given) : json_pack("[O]", given);

	if (device_parse_value(dev, (unsigned)point, values, &value, &err) < 0) {
		answer_why(call, json_string_value(json_object_get(request, "point")), err.text);
		return;
	}
	struct asked *a = ask(call, dev, point, true);

	if (a != NULL)
		device_write(dev, a->point, &value, timeout_of(request), on_answered, a);
}
