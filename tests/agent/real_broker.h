/* real_broker.h - a mosquitto of a test's own, and a client that notes what others publish. */
#pragma once

#include "common/bus.h"
#include "common/util.h"
#include "tests/common/mosquitto.h"
#include "tests/common/until.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* It keeps nothing over a restart. more: lines of its configuration. */
static void broker_init(struct broker *b, const char *more)
{
	char lines[512];

	snprintf(lines, sizeof(lines), "persistence false\n%s", more);
	broker_make(b, lines);
}

static MAYBE_UNUSED void broker_kill(struct broker *b)
{
	broker_signal(b, SIGKILL);
}

/* ---- a client ---- */

struct watcher {
	struct bus *bus;
	bool up;
	void (*on_message)(void *arg, const char *topic, const char *payload, bool retained);
	void *arg;
};

static void watcher_up(void *arg, bool fresh)
{
	struct watcher *w = arg;

	(void)fresh;
	w->up = true;
}

static void watcher_down(void *arg, const char *why)
{
	struct watcher *w = arg;

	(void)why;
	w->up = false;
}

static void watcher_message(void *arg, const struct bus_msg *m)
{
	struct watcher *w = arg;

	if (w->on_message != NULL)
		w->on_message(w->arg, m->topic, m->payload, m->retained);
}

static void watcher_start(struct watcher *w, struct loop *l, const struct broker *b,
			  const char *filter)
{
	static const struct bus_handlers handlers = {
		.on_up = watcher_up,
		.on_down = watcher_down,
		.on_message = watcher_message,
	};
	const struct bus_conf conf = {.host = "127.0.0.1",
				      .port = b->port,
				      .client_id = "watcher",
				      .clean_session = true};

	assert_int_equal(bus_new_own(l, &conf, &handlers, w, &w->bus, NULL), 0);
	if (filter != NULL)
		assert_int_equal(bus_subscribe(w->bus, filter, 1, NULL, NULL, NULL), 0);
	AWAIT(l, w->up);
}

static void on_said(void *arg, int rc)
{
	assert_int_equal(rc, 0);
	*(bool *)arg = true;
}

/* Publish, and wait until the broker has it. */
static void watcher_say(struct watcher *w, struct loop *l, const char *topic, const char *text,
			size_t len, bool retain)
{
	bool said = false;

	assert_int_equal(bus_publish_acked(w->bus, topic, text, len, retain, on_said, &said, NULL),
			 0);
	AWAIT(l, said);
}
