/* test_eventbus.c - the event view's connection, with a real broker. */
#include "agent/device/eventbus.h"
#include "common/log.h"
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

#include "tests/agent/real_broker.h"

#define SYSTEM "gateway/gw1/fake/d1/system/"

struct world {
	struct broker broker;
	struct loop *loop;
	struct watcher watcher;
	struct eventbus *bus;
	unsigned synced, lost, acked, refused;
	bool complete;
	char events[4096]; /* path=payload; of each, ~ if retained */
	char online[256], mark[64];
	char topic[256]; /* of the last event */
};

static void on_synced(void *arg, bool complete, const char *mark)
{
	struct world *w = arg;

	snprintf(w->mark, sizeof(w->mark), "%s", mark);

	w->synced++;
	w->complete = complete;
	size_t len = strlen(w->events);
	snprintf(w->events + len, sizeof(w->events) - len, "synced;");
}

static void on_lost(void *arg, const char *why)
{
	struct world *w = arg;

	assert_true(why[0] != '\0');
	w->lost++;
}

static void on_event(void *arg, const struct event_path *path, const char *topic,
		     const struct event_body *body, const char *text, size_t len, bool retained)
{
	struct world *w = arg;
	char *payload = json_dumps(body->payload, JSON_ENCODE_ANY);
	size_t at = strlen(w->events);

	assert_int_equal(strlen(text), len);
	assert_string_equal(path->segments[4], "system");
	assert_int_equal(strncmp(topic, "gateway/gw1/", 12), 0);
	snprintf(w->topic, sizeof(w->topic), "%s", topic);
	for (size_t i = 5; i < path->n; i++)
		at += (size_t)snprintf(w->events + at, sizeof(w->events) - at, "%s%s",
				       i > 5 ? "/" : "", path->segments[i]);
	snprintf(w->events + at, sizeof(w->events) - at, "=%s%s;", payload, retained ? "~" : "");
	free(payload);
}

static void on_sent(void *arg, void *who, uint64_t token, int rc)
{
	struct world *w = arg;

	assert_true(who == w || who == NULL);
	assert_true(token >= 100);
	if (rc == 0)
		w->acked++;
	else
		w->refused++;
	assert_true(rc == 0 || rc == ERR_AGAIN);
}

static void on_online(void *arg, const char *topic, const char *payload, bool retained)
{
	struct world *w = arg;
	size_t n = strlen(w->online);

	(void)topic;
	(void)retained;
	snprintf(w->online + n, sizeof(w->online) - n, "%s;", payload);
}

static void start_bus(struct world *w, unsigned sync_timeout_ms)
{
	static const struct eventbus_events events = {
		.on_synced = on_synced,
		.on_lost = on_lost,
		.on_event = on_event,
		.on_sent = on_sent,
	};
	const struct eventbus_conf conf = {.gateway = "gw1",
					   .host = "127.0.0.1",
					   .port = w->broker.port,
					   .sync_timeout_ms = sync_timeout_ms};

	assert_int_equal(eventbus_new(w->loop, &conf, &events, w, &w->bus, NULL), 0);
}

static void say(struct world *w, const char *path, const char *text, bool retain)
{
	char topic[256];

	snprintf(topic, sizeof(topic), SYSTEM "%s", path);
	watcher_say(&w->watcher, w->loop, topic, text, strlen(text), retain);
}

static int begin(void **state, const char *more)
{
	struct world *w = calloc(1, sizeof(*w));

	broker_init(&w->broker, more);
	*state = w;
	return loop_new(&w->loop, NULL);
}

static int setup_without_broker(void **state)
{
	return begin(state, "");
}

static int setup(void **state)
{
	int rc = begin(state, "");
	struct world *w = *state;

	broker_start(&w->broker);
	return rc;
}

static int setup_without_sync(void **state)
{
	char more[128];
	int rc = begin(state, "");
	struct world *w = *state;
	CLEANUP(freep)
	char *dir = strdup(w->broker.dir);

	snprintf(more, sizeof(more), "%s/conf", dir);
	FILE *f = fopen(more, "a");

	assert_non_null(f);
	fprintf(f, "acl_file %s/acl\n", dir);
	fclose(f);
	/* what is said of the sync is not heard */
	broker_write(&w->broker, "acl", "topic write #\ntopic read gateway/+/+/+/system/#\n");
	broker_start(&w->broker);
	return rc;
}

static int teardown(void **state)
{
	struct world *w = *state;

	eventbus_free(w->bus);
	bus_free(w->watcher.bus);
	loop_free(w->loop);
	broker_done(&w->broker);
	free(w);
	return 0;
}

static void retained_states_are_told_before_it_is_synced(void **state)
{
	struct world *w = *state;

	watcher_start(&w->watcher, w->loop, &w->broker, NULL);
	say(w, "enable", "true", true);
	say(w, "remote_device/1/enable", "{\"timestamp\":5,\"payload\":false}", true);
	say(w, "data/a%2Fb", "{\"value\":1}", true);
	start_bus(w, 5000);
	AWAIT(w->loop, w->synced == 1);
	assert_true(w->complete);
	assert_non_null(strstr(w->events, "enable=true~;"));
	assert_non_null(strstr(w->events, "remote_device/1/enable=false~;"));
	assert_non_null(strstr(w->events, "data/a/b={\"value\": 1}~;"));
	/* the token comes last */
	assert_string_equal(w->events + strlen(w->events) - strlen("synced;"), "synced;");
	w->events[0] = '\0';
	say(w, "enable", "false", true);
	AWAIT(w->loop, w->events[0] != '\0');
	assert_string_equal(w->events, "enable=false;");
}

/* However a topic is encoded, it is the same. */
static void topics_are_told_in_one_form(void **state)
{
	static const struct {
		const char *said, *told;
	} topics[] = {
		{"gateway/gw1/fake/d1/system/data/x", "gateway/gw1/fake/d1/system/data/x"},
		{"gateway/gw1/f%61ke/%641/system/d%61ta/x%2fy",
		 "gateway/gw1/fake/d1/system/data/x%2Fy"},
		{"gateway/gw1/fake/$d/system/%65nable", "gateway/gw1/fake/%24d/system/enable"},
	};
	struct world *w = *state;

	watcher_start(&w->watcher, w->loop, &w->broker, NULL);
	start_bus(w, 5000);
	AWAIT(w->loop, w->synced == 1);
	for (size_t i = 0; i < ARRAY_LEN(topics); i++) {
		w->topic[0] = '\0';
		watcher_say(&w->watcher, w->loop, topics[i].said, "1", 1, false);
		AWAIT(w->loop, w->topic[0] != '\0');
		assert_string_equal(w->topic, topics[i].told);
	}
}

static void a_retained_act_is_never_done(void **state)
{
	struct world *w = *state;
	struct eventbus_stats stats;

	watcher_start(&w->watcher, w->loop, &w->broker, NULL);
	say(w, "command/single/1/6", "{\"value\":\"ON\"}", true);
	start_bus(w, 5000);
	AWAIT(w->loop, w->synced == 1);
	assert_string_equal(w->events, "synced;");
	eventbus_get_stats(w->bus, &stats);
	assert_int_equal(stats.stale, 1);
	/* one that is said now is */
	say(w, "command/single/1/6", "{\"value\":\"OFF\"}", false);
	AWAIT(w->loop, strstr(w->events, "OFF") != NULL);
	assert_string_equal(w->events, "synced;command/single/1/6={\"value\": \"OFF\"};");
}

static void bad_events_are_dropped_and_the_next_is_heard(void **state)
{
	static const struct {
		const char *path, *text;
	} bad[] = {
		{"write", "tru"},
		{"write", ""},
		{"write", "\"\xff\""},
		{"write", "123456789012345678901234567890"},
		{"write", "{\"payload\":1,\"timestamp\":\"x\"}"},
		{"write//x", "1"},
		{"write/%zz", "1"},
		{"write/%00", "1"},
		{"write/1/2/3/4/5/6/7/8/9/10/11", "1"},
		{"enable", "yes"},
	};
	struct world *w = *state;
	struct eventbus_stats stats;
	CLEANUP(freep)
	char *large = malloc(1 << 20);

	watcher_start(&w->watcher, w->loop, &w->broker, NULL);
	start_bus(w, 5000);
	AWAIT(w->loop, w->synced == 1);
	w->events[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		say(w, bad[i].path, bad[i].text, false);
	memset(large, ' ', 1 << 20);
	large[0] = '1';
	watcher_say(&w->watcher, w->loop, SYSTEM "write", large, 1 << 20, false);
	watcher_say(&w->watcher, w->loop, "gateway/gw1/fake/d1/system", "1", 1, false);
	say(w, "write", "42", false);
	AWAIT(w->loop, w->events[0] != '\0');
	assert_string_equal(w->events, "write=42;");
	eventbus_get_stats(w->bus, &stats);
	assert_int_equal(stats.dropped, ARRAY_LEN(bad) + 2);
	assert_int_equal(stats.received, ARRAY_LEN(bad) + 3);
}

static void a_mark_is_found_again_unless_the_broker_forgot(void **state)
{
	struct world *w = *state;

	start_bus(w, 5000);
	AWAIT(w->loop, w->synced == 1);
	assert_string_equal(w->mark, "");
	eventbus_mark(w->bus, "m1");
	eventbus_mark(w->bus, "m2");
	w->bus = eventbus_free(w->bus);
	start_bus(w, 5000);
	AWAIT(w->loop, w->synced == 2);
	assert_string_equal(w->mark, "m2");
	broker_kill(&w->broker);
	broker_start(&w->broker);
	AWAIT(w->loop, w->synced == 3);
	assert_string_equal(w->mark, "");
}

static void without_the_token_it_goes_on_after_the_timeout(void **state)
{
	struct world *w = *state;

	watcher_start(&w->watcher, w->loop, &w->broker, NULL);
	say(w, "enable", "true", true);
	start_bus(w, 50);
	AWAIT(w->loop, w->synced == 1);
	assert_false(w->complete);
	assert_non_null(strstr(w->events, "enable=true~;"));
}

static void it_says_online_and_offline(void **state)
{
	struct world *w = *state;

	w->watcher.on_message = on_online;
	w->watcher.arg = w;
	watcher_start(&w->watcher, w->loop, &w->broker, "gateway/gw1/online");
	start_bus(w, 5000);
	AWAIT(w->loop, strcmp(w->online, "online;") == 0);
	/* somebody else takes its name: the broker cuts its connection, and says its last will */
	struct bus *thief;
	const struct bus_conf conf = {.host = "127.0.0.1",
				      .port = w->broker.port,
				      .client_id = "gateway-gw1",
				      .clean_session = true};
	static const struct bus_handlers nobody = {0};

	assert_int_equal(bus_new_own(w->loop, &conf, &nobody, NULL, &thief, NULL), 0);
	AWAIT(w->loop, strncmp(w->online, "online;offline;", 15) == 0);
	bus_free(thief);
	AWAIT(w->loop,
	      w->synced >= 2 && strcmp(w->online + strlen(w->online) - 8, ";online;") == 0);
	w->bus = eventbus_free(w->bus);
	AWAIT(w->loop, strcmp(w->online + strlen(w->online) - 9, ";offline;") == 0);
}

static void what_is_sent_is_acknowledged_or_comes_back(void **state)
{
	struct world *w = *state;
	struct eventbus_stats stats;

	start_bus(w, 5000);
	assert_int_equal(
		eventbus_send(w->bus, w, 100, "gateway/gw1/fake/d1/gateway/status", "1", true),
		ERR_AGAIN);
	AWAIT(w->loop, w->synced == 1);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(eventbus_send(w->bus, w, 100 + i,
					       "gateway/gw1/fake/d1/gateway/status", "1", true),
				 0);
	AWAIT(w->loop, w->acked == 1000);
	eventbus_get_stats(w->bus, &stats);
	assert_int_equal(stats.published, 1000);
	/* a broker that does not answer any more */
	kill(w->broker.pid, SIGSTOP);
	assert_int_equal(waitpid(w->broker.pid, NULL, WUNTRACED), w->broker.pid);
	unsigned sent = 0;

	while (eventbus_has_room(w->bus) &&
	       eventbus_send(w->bus, w, 100, "gateway/gw1/fake/d1/gateway/x", "1", false) == 0)
		sent++;
	assert_true(sent > 1000);
	assert_int_equal(eventbus_send(w->bus, w, 100, "gateway/gw1/fake/d1/gateway/x", "1", false),
			 ERR_AGAIN);
	assert_int_equal(w->lost, 0);
	broker_kill(&w->broker);
	AWAIT(w->loop, w->lost == 1);
	broker_start(&w->broker);
	/* those that had not left us yet may arrive now */
	AWAIT(w->loop, w->synced == 2 && w->refused + w->acked == sent + 1000);
	unsigned acked = w->acked;

	assert_int_equal(eventbus_send(w->bus, w, 100, "gateway/gw1/fake/d1/gateway/x", "1", false),
			 0);
	AWAIT(w->loop, w->acked == acked + 1);
	/* nobody hears of what he has forgotten */
	assert_int_equal(eventbus_send(w->bus, w, 100, "gateway/gw1/fake/d1/gateway/x", "1", false),
			 0);
	eventbus_forget(w->bus, w);
	AWAIT(w->loop, w->acked == acked + 2);
}

/* ---- a broker with a script: what a real one does seldom ---- */

struct script {
	int listener;
	unsigned port;
	atomic_bool refuse; /* the subscription to the system events */
	bool repeat;        /* says a command, and says it again */
	pthread_t thread;
};

static size_t read_all(int fd, unsigned char *buf, size_t n)
{
	size_t got = 0;

	while (got < n) {
		ssize_t k = read(fd, buf + got, n - got);

		if (k <= 0)
			return 0;
		got += (size_t)k;
	}
	return got;
}

static void send_all(int fd, const void *buf, size_t n)
{
	assert_int_equal(send(fd, buf, n, MSG_NOSIGNAL), n);
}

static void send_publish(int fd, const char *topic, const char *text, bool dup, unsigned id)
{
	unsigned char buf[256];
	size_t topic_len = strlen(topic), text_len = strlen(text);

	buf[0] = dup ? 0x3a : 0x32;
	buf[1] = (unsigned char)(topic_len + text_len + 4);
	buf[2] = 0;
	buf[3] = (unsigned char)topic_len;
	memcpy(buf + 4, topic, topic_len);
	buf[4 + topic_len] = 0;
	buf[5 + topic_len] = (unsigned char)id;
	memcpy(buf + 6 + topic_len, text, text_len);
	send_all(fd, buf, 6 + topic_len + text_len);
}

static void answer_subscribe(const struct script *s, int fd, const unsigned char *body, size_t n)
{
	unsigned char buf[16] = {0x90, 2, body[0], body[1]};

	for (size_t at = 2; at < n;) {
		size_t len = (size_t)body[at] << 8 | body[at + 1];
		bool is_system = memmem(body + at + 2, len, "system", 6) != NULL;

		buf[2 + buf[1]++] = s->refuse && is_system ? 0x80 : 1;
		at += len + 3;
	}
	send_all(fd, buf, 2 + (size_t)buf[1]);
}

static void answer_publish(const struct script *s, int fd, const unsigned char *body, size_t n)
{
	static const char sync[] = "gateway/gw1/sync", command[] = "gateway/gw1/f/d/system/command";
	size_t len = (size_t)body[0] << 8 | body[1];
	const unsigned char ack[] = {0x40, 2, body[2 + len], body[3 + len]};
	char token[64] = "";

	send_all(fd, ack, sizeof(ack));
	if (len != strlen(sync) || memcmp(body + 2, sync, len) != 0)
		return;
	memcpy(token, body + 4 + len, n - 4 - len);
	send_publish(fd, sync, token, false, 1);
	if (!s->repeat)
		return;
	send_publish(fd, command, "1", false, 2);
	send_publish(fd, command, "1", true, 2);  /* it repeats itself */
	send_publish(fd, command, "1", false, 3); /* the same said again is another */
	send_publish(fd, command, "2", true, 4);
	send_publish(fd, "gateway/gw1/f/d/system/enable", "true", true, 5);
	send_publish(fd, "gateway/gw1/f/d/system/enable", "true", true, 5);
	send_publish(fd, command, "3", false, 6);
}

static void *run_script(void *arg)
{
	struct script *s = arg;
	int fd = accept(s->listener, NULL, NULL);
	unsigned char head[2], body[1024];

	while (read_all(fd, head, 2) > 0 && head[0] >> 4 != 14) {
		size_t n = head[1];
		unsigned char more;

		if ((n & 0x80) != 0 && read_all(fd, &more, 1) > 0)
			n = (n & 0x7f) | (size_t)more << 7;
		assert_true(n <= sizeof(body));
		if (n > 0 && read_all(fd, body, n) == 0)
			break;
		if (head[0] >> 4 == 1)
			send_all(fd, "\x20\x02\x00\x00", 4);
		else if (head[0] >> 4 == 8)
			answer_subscribe(s, fd, body, n);
		else if (head[0] >> 4 == 3)
			answer_publish(s, fd, body, n);
		else if (head[0] >> 4 == 12)
			send_all(fd, "\xd0\x00", 2);
	}
	close(fd);
	return NULL;
}

static void script_start(struct world *w, struct script *s)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof(a);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &len), 0);
	assert_int_equal(listen(s->listener, 1), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, run_script, s), 0);
	w->broker.port = ntohs(a.sin_port);
	start_bus(w, 5000);
}

static void script_end(struct world *w, struct script *s)
{
	w->bus = eventbus_free(w->bus);
	pthread_join(s->thread, NULL);
	close(s->listener);
}

static void a_command_that_the_broker_repeats_is_done_once(void **state)
{
	struct world *w = *state;
	struct script s = {.repeat = true};
	struct eventbus_stats stats;

	script_start(w, &s);
	AWAIT(w->loop, strstr(w->events, "command=3;") != NULL);
	/* a state may be told twice */
	assert_string_equal(w->events, "synced;command=1;command=1;command=2;enable=true;"
				       "enable=true;command=3;");
	eventbus_get_stats(w->bus, &stats);
	assert_int_equal(stats.twice, 1);
	script_end(w, &s);
}

static void a_refused_subscription_is_told_and_asked_for_again(void **state)
{
	struct world *w = *state;
	struct script s = {.refuse = true};
	struct eventbus_stats stats;

	script_start(w, &s);
	AWAIT(w->loop, w->synced == 1);
	assert_false(w->complete);
	eventbus_get_stats(w->bus, &stats);
	assert_non_null(strstr(stats.why, "refuses"));
	/* it is asked again, and all is as at the start */
	s.refuse = false;
	AWAIT(w->loop, w->synced == 2);
	assert_true(w->complete);
	assert_int_equal(w->lost, 1);
	eventbus_get_stats(w->bus, &stats);
	assert_string_equal(stats.why, "");
	assert_int_equal(eventbus_send(w->bus, w, 100, "gateway/gw1/f/d/gateway/x", "1", false), 0);
	AWAIT(w->loop, w->acked == 1);
	script_end(w, &s);
}

static void a_gateway_has_a_name(void **state)
{
	struct world *w = *state;
	struct eventbus *bus;
	const struct eventbus_conf bad = {.gateway = "", .host = "127.0.0.1", .port = 1};
	static const struct eventbus_events events = {0};

	assert_int_equal(eventbus_new(w->loop, &bad, &events, w, &bus, NULL), ERR_INVAL);
}

int main(void)
{
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		IN_WORLD(retained_states_are_told_before_it_is_synced),
		IN_WORLD(a_retained_act_is_never_done),
		IN_WORLD(topics_are_told_in_one_form),
		IN_WORLD(bad_events_are_dropped_and_the_next_is_heard),
		IN_WORLD(a_mark_is_found_again_unless_the_broker_forgot),
		cmocka_unit_test_setup_teardown(without_the_token_it_goes_on_after_the_timeout,
						setup_without_sync, teardown),
		IN_WORLD(it_says_online_and_offline),
		IN_WORLD(what_is_sent_is_acknowledged_or_comes_back),
		cmocka_unit_test_setup_teardown(a_command_that_the_broker_repeats_is_done_once,
						setup_without_broker, teardown),
		cmocka_unit_test_setup_teardown(a_refused_subscription_is_told_and_asked_for_again,
						setup_without_broker, teardown),
		cmocka_unit_test_setup_teardown(a_gateway_has_a_name, setup_without_broker,
						teardown),
	};

	log_init("test_eventbus", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
