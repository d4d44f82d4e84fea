/* device_world.h - one device in a test; with a driver, a view and a broker that do as they are
 * told.
 */
#pragma once

#include "agent/device/device.h"
#include "common/log.h"
#include <setjmp.h>
#include <stdarg.h>

#include "tests/agent/fake_device.h"

#include <cmocka.h>

#define PREFIX "gateway/gw1/fake/d1"

struct world {
	struct loop *loop;
	struct settings settings;
	struct store *store;
	struct device_env env;
	struct device *d;
	struct notes sent; /* word=payload; of each publication */
	char last_body[1024], last_enable[1024];
	bool away, holds; /* the broker: is; acknowledges later */
	bool early;       /* it was told of an end whose reason was not on the disk */
	uint64_t tokens[4096];
	size_t n_tokens;
	unsigned done;
	int done_rc;
};

/* ---- the broker ---- */

static int on_send(void *owner, uint64_t token, const char *topic, const char *text, bool retain)
{
	struct world *w = owner;
	struct event_body body;
	const char *word = topic + strlen(PREFIX) + 1;

	if (w->away)
		return ERR_AGAIN;
	assert_true(strncmp(topic, PREFIX "/", strlen(PREFIX) + 1) == 0);
	assert_int_equal(event_body_parse(text, strlen(text), &body, NULL), 0);
	char *payload = json_dumps(body.payload, JSON_ENCODE_ANY);

	if (strncmp(word, "gateway/", 8) == 0)
		word += 8;
	note(&w->sent, "%s=%s%s;", word, payload, retain ? "" : "!");
	w->early |= strcmp(word, "running") == 0 && strcmp(payload, "false") == 0 &&
		    db_in_transaction(store_db(w->store));
	snprintf(w->last_body, sizeof(w->last_body), "%s", text);
	if (strcmp(word, "system/enable") == 0)
		snprintf(w->last_enable, sizeof(w->last_enable), "%s", text);
	free(payload);
	event_body_done(&body);
	assert_true(w->n_tokens < ARRAY_LEN(w->tokens));
	w->tokens[w->n_tokens++] = token;
	return 0;
}

/* Let the loop run until it has nothing to do at once, and all is on the disk; what was sent is
 * acknowledged. */
static void turn(struct world *w)
{
	for (int i = 0; i < 5 || db_in_transaction(store_db(w->store)); i++) {
		loop_turn(w->loop, i < 5 ? 0 : 10);
		while (!w->holds && w->n_tokens > 0)
			device_sent(w->d, w->tokens[--w->n_tokens], 0);
	}
}

static void assert_sent(struct world *w, const char *text)
{
	turn(w);
	assert_string_equal(w->sent.text, text);
	notes_clear(&w->sent);
}

static void assert_driver(const char *text)
{
	assert_string_equal(fakes.notes.text, text);
	notes_clear(&fakes.notes);
}

/* Somebody says `text` on <prefix>/system/<path>. */
static void told(struct world *w, const char *path, const char *text, bool retained)
{
	struct event_path p;
	struct event_body body;
	CLEANUP(freep)
	char *topic = NULL;

	assert_true(asprintf(&topic, PREFIX "/system/%s", path) > 0);
	assert_int_equal(event_path_parse(path, &p, NULL), 0);
	assert_int_equal(event_body_parse(text, strlen(text), &body, NULL), 0);
	device_event(w->d, p.segments, p.n, topic, &body, text, retained);
	event_path_done(&p);
	event_body_done(&body);
}

static void tell(struct world *w, const char *path, const char *text)
{
	told(w, path, text, false);
	turn(w);
}

/* ---- the world ---- */

static void make_device(struct world *w, const char *options)
{
	CLEANUP(freep)
	char *text = NULL;

	assert_true(asprintf(&text, "{\"type\":\"fake\",\"name\":\"d1\"%s}", options) > 0);
	json_auto_t *conf = json_loads(text, 0, NULL);

	assert_non_null(conf);
	assert_int_equal(
		device_new(&w->env,
			   &(struct device_conf){.type = &fake_type, .name = "d1", .json = conf}, w,
			   &w->d, NULL),
		0);
}

/* A device, the broker is there and has nothing. */
static void begin(struct world *w, const char *options)
{
	make_device(w, options);
	device_synced(w->d, true, true);
	turn(w);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct err err = {0};

	memset(&fakes, 0, sizeof(fakes));
	memset(&views, 0, sizeof(views));
	w->settings.devices_db.url = ":memory:";
	assert_int_equal(loop_new(&w->loop, NULL), 0);
	if (store_open(w->loop, &w->settings, &w->store, &err) < 0)
		fail_msg("%s", err.text);
	w->env = (struct device_env){.loop = w->loop,
				     .store = w->store,
				     .gateway = "gw1",
				     .csm_url = "http://127.0.0.1:1",
				     .send = on_send};
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	w->away = true;
	device_free(w->d);
	store_close(w->store);
	loop_free(w->loop);
	free(w);
	return fakes.n_alive == 0 ? 0 : -1;
}
