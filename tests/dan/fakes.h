/* fakes.h - a broker connection and an HTTP client for the tests of the device client: the
 * archive's own are then not linked. What the client asks of them is written to a transcript, one
 * word group a line. */
#pragma once

#include "common/bus.h"
#include "common/util.h"
#include "dan/fetch.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ID      "df682f01-7c3a-49fd-8f5f-72ce0b6e68c0"
#define CTRL_UP ID "/ctrl/i"
#define CTRL_DN ID "/ctrl/o"
#define ANSWER                                                                                 \
	"{\"id\":\"" ID                                                                        \
	"\",\"state\":\"ok\",\"rev\":\"R1\",\"name\":\"00.Cat\",\"url\":{\"scheme\":\"mqtt\"," \
	"\"host\":\"broker\",\"port\":1883},\"ctrl_chans\":[\"" CTRL_UP "\",\"" CTRL_DN "\"]}"

struct fixture {
	struct loop *loop;
	struct dan_client *client; /* of a test of dan/dan.h */
	struct dan *dan;           /* of a test of the library */
	struct dan_device *device;
	char log[4096];
	size_t len;
	/* the fake HTTP client */
	fetch_done_fn *http_done;
	void *http_arg;
	unsigned cancelled;
	char password[32], body[1024]; /* of the last request */
	/* the fake bus */
	const struct bus_handlers *handlers;
	void *bus_arg;
	bus_done_fn *subscribed; /* of the last subscription that wants to know */
	void *subscribed_arg;
	bus_done_fn *published; /* of the last message that wants to know */
	void *published_arg;
	int subscribe_rc, publish_rc;
	bool bus_parted;
};

static struct fixture *here; /* the fakes have no argument of ours */

static void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(here->log + here->len, sizeof(here->log) - here->len, fmt, ap);
	va_end(ap);
	assert_true(n >= 0 && here->len + (size_t)n + 1 < sizeof(here->log));
	here->len += (size_t)n;
	here->log[here->len++] = '\n';
	here->log[here->len] = '\0';
}

static void forget(void)
{
	here->len = 0;
	here->log[0] = '\0';
}

/* What happened since the last look. */
static void expect(const char *transcript)
{
	assert_string_equal(here->log, transcript);
	forget();
}

/* ---- fake HTTP ---- */

struct fetch {
	int dummy;
};
struct fetch_call {
	int dummy;
};

int fetch_new(struct loop *l, struct fetch **ret, struct err *err)
{
	static struct fetch fetch;
	(void)l;
	(void)err;
	*ret = &fetch;
	return 0;
}

struct fetch *fetch_free(struct fetch *f)
{
	(void)f;
	return NULL;
}

int fetch_start(struct fetch *f, const struct fetch_request *q, fetch_done_fn *done, void *arg,
		struct fetch_call **ret, struct err *err)
{
	static struct fetch_call call;
	(void)f;
	(void)err;
	assert_null(here->http_done); /* one at a time */
	note("http %s %s %s%s%s", q->method, q->url,
	     strcmp(q->method, "PUT") == 0 ? "..."
	     : q->body == NULL             ? "-"
					   : q->body,
	     q->username != NULL ? " as " : "", q->username != NULL ? q->username : "");
	snprintf(here->password, sizeof(here->password), "%s",
		 q->password != NULL ? q->password : "");
	snprintf(here->body, sizeof(here->body), "%s", q->body != NULL ? q->body : "");
	here->http_done = done;
	here->http_arg = arg;
	*ret = &call;
	return 0;
}

struct fetch_call *fetch_cancel(struct fetch_call *call)
{
	if (call != NULL) {
		here->cancelled++;
		here->http_done = NULL;
	}
	return NULL;
}

static void http_answer(int rc, long status, const char *body)
{
	fetch_done_fn *done = here->http_done;
	assert_non_null(done);
	here->http_done = NULL;
	const struct fetch_answer a = {
		.rc = rc, .why = "refused", .status = status, .body = body, .len = strlen(body)};
	done(here->http_arg, &a);
}

/* ---- fake bus ---- */

static void fake_bus_part(struct bus *b)
{
	(void)b;
	here->bus_parted = true;
	note("bus gone");
}

static struct bus *fake_bus_free(struct bus *b)
{
	if (!here->bus_parted)
		fake_bus_part(b);
	here->bus_parted = false;
	return NULL;
}

static int fake_bus_subscribe(struct bus *b, const char *topic, uint8_t qos, bus_done_fn *done,
			      void *arg, struct err *err)
{
	(void)b;
	if (here->subscribe_rc < 0)
		return err_set(err, here->subscribe_rc, "no");
	note("sub %s %d", topic, qos);
	if (done != NULL) {
		here->subscribed = done;
		here->subscribed_arg = arg;
	}
	return 0;
}

static int fake_bus_unsubscribe(struct bus *b, const char *topic, bus_done_fn *done, void *arg,
				struct err *err)
{
	(void)b;
	(void)done;
	(void)arg;
	(void)err;
	note("unsub %s", topic);
	return 0;
}

static int fake_bus_publish(struct bus *b, const char *topic, const void *payload, size_t len,
			    uint8_t qos, bool retain, struct err *err)
{
	(void)b;
	if (here->publish_rc < 0)
		return err_set(err, here->publish_rc, "queue full");
	note("pub %s %.*s %d%s", strcmp(topic, CTRL_UP) == 0 ? "up" : topic, (int)len,
	     (const char *)payload, qos, retain ? " retained" : "");
	return 0;
}

static int fake_bus_publish_acked(struct bus *b, const char *topic, const void *payload, size_t len,
				  bool retain, bus_done_fn *done, void *arg, struct err *err)
{
	int rc = fake_bus_publish(b, topic, payload, len, 1, retain, err);
	if (rc < 0)
		return rc;
	assert_null(here->published); /* one at a time */
	here->published = done;
	here->published_arg = arg;
	return 0;
}

int bus_new_own(struct loop *l, const struct bus_conf *conf, const struct bus_handlers *h,
		void *arg, struct bus **ret, struct err *err)
{
	static const struct bus_ops ops = {
		.free = fake_bus_free,
		.part = fake_bus_part,
		.subscribe = fake_bus_subscribe,
		.unsubscribe = fake_bus_unsubscribe,
		.publish = fake_bus_publish,
		.publish_acked = fake_bus_publish_acked,
	};
	static struct bus bus = {&ops};
	(void)l;
	(void)err;
	note("bus %s:%u %s%s%s%s%s", conf->host, conf->port, conf->client_id,
	     conf->username != NULL ? " as " : "", conf->username != NULL ? conf->username : "",
	     conf->password != NULL ? " " : "", conf->password != NULL ? conf->password : "");
	here->handlers = h;
	here->bus_arg = arg;
	*ret = &bus;
	return 0;
}

static void broker_sends(const char *topic, const char *payload)
{
	const struct bus_msg m = {
		.topic = topic, .payload = payload, .len = strlen(payload), .qos = 2};
	here->handlers->on_message(here->bus_arg, &m);
}

static void command(const char *payload)
{
	broker_sends(CTRL_DN, payload);
}

static void broker_acknowledges(int rc)
{
	bus_done_fn *done = here->subscribed;
	assert_non_null(done);
	here->subscribed = NULL;
	done(here->subscribed_arg, rc);
}

static void broker_takes(int rc)
{
	bus_done_fn *done = here->published;
	assert_non_null(done);
	here->published = NULL;
	done(here->published_arg, rc);
}
