/* service_world.h - the engine of the device service in a test: device file, broker and devices
 * together; a real broker, drivers that do as they are told.
 */
#pragma once

#include "agent/device/service.h"
#include "agent/device/store.h"
#include "common/log.h"
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

#include "tests/agent/bad_disk.h"
#include "tests/agent/fake_device.h"
#include "tests/agent/real_broker.h"

#define TOPIC_MAX 256

struct world {
	struct broker broker;
	struct loop *loop;
	struct settings settings;
	struct watcher watcher;
	struct devices *devices;
	struct ctl *ctl;
	char path[128], socket[108]; /* socket: as long as an address may be */
	struct notes heard;          /* what we publish: <type>/<name>/<word>=<payload>; */
};

/* ---- what the service says ---- */

static void on_heard(void *arg, const char *topic, const char *payload, bool retained)
{
	struct world *w = arg;
	json_auto_t *body = json_loads(payload, 0, NULL);
	char *text = json_dumps(json_object_get(body, "payload"), JSON_ENCODE_ANY);

	(void)retained;
	note(&w->heard, "%s=%s;", topic + strlen("gateway/gw1/"), text != NULL ? text : payload);
	free(text);
}

static bool heard(const struct world *w, const char *text)
{
	return strstr(w->heard.text, text) != NULL;
}

/* The broker has all, and what was heard last of the topic is the text. What was under way when the
 * broker went comes before, again. */
static MAYBE_UNUSED bool heard_last(const struct world *w, const char *topic, const char *text)
{
	struct devices_status status;
	const char *last = NULL;

	devices_get_status(w->devices, &status);
	for (const char *at = w->heard.text; (at = strstr(at, topic)) != NULL; at++)
		last = at + strlen(topic);
	return status.backlog == 0 && last != NULL && strncmp(last, text, strlen(text)) == 0;
}

static void say(struct world *w, const char *device, const char *path, const char *text,
		bool retain)
{
	char topic[TOPIC_MAX];

	snprintf(topic, sizeof(topic), "gateway/gw1/%s/system/%s", device, path);
	watcher_say(&w->watcher, w->loop, topic, text, strlen(text), retain);
}

/* ---- the world ---- */

/* devices: JSON of the list's items. */
static void write_file(struct world *w, const char *devices)
{
	char text[4096];

	snprintf(text, sizeof(text),
		 "{\"name\":\"gw1\",\"mqtt\":{\"host\":\"127.0.0.1\",\"port\":%u},"
		 "\"csm\":{\"url\":\"http://127.0.0.1:1\"},\"bus_loss_grace\":1.5,"
		 "\"sync_timeout\":2,\"devices\":[%s]}",
		 w->broker.port, devices);
	broker_write(&w->broker, "devices.json", text);
}

static void start(struct world *w)
{
	struct err err = {0};

	if (devices_new(w->loop, &w->settings, w->path, &w->devices, &err) < 0)
		fail_msg("%s", err.text);
}

static bool is_synced(const struct world *w)
{
	struct devices_status s;

	devices_get_status(w->devices, &s);
	return s.bus;
}

static size_t running(const struct world *w)
{
	struct devices_status s;

	devices_get_status(w->devices, &s);
	return s.running;
}

static void begin(struct world *w, const char *devices)
{
	write_file(w, devices);
	watcher_start(&w->watcher, w->loop, &w->broker, "gateway/gw1/+/+/gateway/#");
	start(w);
	AWAIT(w->loop, is_synced(w));
}

/* n devices d0, d1 ... */
static MAYBE_UNUSED void n_devices(char *buf, size_t size, unsigned n)
{
	size_t len = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < n; i++)
		len += (size_t)snprintf(buf + len, size - len,
					"%s{\"type\":\"fake\",\"name\":\"d%u\"}", i > 0 ? "," : "",
					i);
}

static void on_note(void *arg, bool is_error, const char *text)
{
	(void)arg;
	(void)is_error;
	(void)text;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	memset(&fakes, 0, sizeof(fakes));
	memset(&views, 0, sizeof(views));
	bad_disk_begin();
	broker_init(&w->broker, "");
	broker_start(&w->broker);
	assert_int_equal(settings_load(NULL, &w->settings, on_note, NULL, NULL), 0);
	free(w->settings.devices_db.url);
	assert_true(asprintf(&w->settings.devices_db.url, "%s/devices.db", w->broker.dir) > 0);
	snprintf(w->path, sizeof(w->path), "%s/devices.json", w->broker.dir);
	snprintf(w->socket, sizeof(w->socket), "%s/sock", w->broker.dir);
	w->watcher.on_message = on_heard;
	w->watcher.arg = w;
	*state = w;
	return loop_new(&w->loop, NULL);
}

static int teardown(void **state)
{
	struct world *w = *state;

	bad_disk_recover();
	ctl_close(w->ctl);
	devices_free(w->devices);
	bus_free(w->watcher.bus);
	loop_free(w->loop);
	settings_done(&w->settings);
	unlink(w->socket);
	broker_done(&w->broker);
	free(w);
	return fakes.n_alive == 0 ? 0 : -1;
}

/* ---- the broker goes away ---- */

static void lose_broker(struct world *w)
{
	broker_kill(&w->broker);
	AWAIT(w->loop, !is_synced(w));
}

static void find_broker(struct world *w)
{
	notes_clear(&w->heard);
	broker_start(&w->broker);
	AWAIT(w->loop, is_synced(w) && w->watcher.up);
}

/* ---- the control socket ---- */

#define OP(name)                                                                 \
	static void op_##name(void *arg, json_t *request, struct ctl_call *call) \
	{                                                                        \
		struct world *w = arg;                                           \
		devices_on_##name(w->devices, request, call);                    \
	}
OP(list)
OP(show)
OP(enable)
OP(disable)
OP(read)
OP(write)
OP(reload)

static const struct ctl_op ops[] = {
	{"list", "", op_list},       {"show", "", op_show}, {"enable", "", op_enable},
	{"disable", "", op_disable}, {"read", "", op_read}, {"write", "", op_write},
	{"reload", "", op_reload},
};

struct asking {
	const char *socket;
	json_t *request, *answer;
	struct err err;
	int rc;
	atomic_bool done;
};

static void *ask_there(void *arg)
{
	struct asking *a = arg;

	a->rc = ctl_request(a->socket, a->request, PATIENCE_MS, &a->answer, &a->err);
	atomic_store(&a->done, true);
	return NULL;
}

/* ret: yours, of state ok; NULL: an error, whose reason is in *reason if that is wanted. */
static json_t *ask(struct world *w, json_t *request, char **reason)
{
	struct asking a = {.socket = w->socket, .request = request};
	pthread_t thread;

	if (w->ctl == NULL)
		assert_int_equal(
			ctl_listen(w->loop, w->socket, ops, ARRAY_LEN(ops), w, &w->ctl, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, ask_there, &a), 0);
	while (!atomic_load(&a.done)) {
		loop_turn(w->loop, 10);
		/* the field answers */
		for (; fakes.n_calls > 0; fakes.n_calls--)
			port_was_read(fakes.calls[fakes.n_calls - 1],
				      &(struct value){.kind = VALUE_UINT, .u = 1234}, NULL);
	}
	pthread_join(thread, NULL);
	json_decref(request);
	if (reason != NULL)
		*reason = a.rc < 0 ? strdup(a.err.text) : NULL;
	else if (a.rc < 0)
		fail_msg("%s", a.err.text);
	return a.rc < 0 ? NULL : a.answer;
}

static void assert_reason(struct world *w, json_t *request, const char *part)
{
	CLEANUP(freep)
	char *reason = NULL;
	json_auto_t *answer = ask(w, request, &reason);

	assert_null(answer);
	if (strstr(reason, part) == NULL)
		fail_msg("%s", reason);
}

static size_t n_of(const json_t *answer, const char *key)
{
	return json_array_size(json_object_get(answer, key));
}

static json_int_t counter(const struct world *w, const char *name)
{
	json_auto_t *all = devices_counters(w->devices);

	return json_integer_value(json_object_get(all, name));
}

/* What was retained of a device would stay as it was for ever. */
