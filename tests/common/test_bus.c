#include "common/bus.h"
#include "common/util.h"
#include "tests/common/mosquitto.h"
#include "tests/common/until.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

/* The clients behind a bus; all promises are those of each. */
static const struct engine {
	const char *name;
	bus_new_fn *new;
	bool has_threads; /* it receives while the loop stands still */
} engines[] = {{"paho", bus_new_paho, true}, {"own", bus_new_own, false}};
static const struct engine *engine = engines;

/* ---- a broker of our own ---- */

static void broker_init(struct broker *b)
{
	broker_make(b, "persistence true\n");
}

/* ---- a client that remembers what it was told ---- */

struct client {
	struct bus *bus;
	unsigned ups, downs, fresh_ups, connectings, batches, messages;
	bool has_will;
	unsigned failures;
	char why[128]; /* of the last failure */
	size_t bytes;
	struct bus_msg last;
	char topic[128], payload[256]; /* of the last message */
	char log[8192];                /* payloads so far, each with a space */
};

struct world {
	struct broker broker;
	struct loop *loop;
	struct client a, b;
};

static bool on_connecting(void *arg, struct bus_will *will)
{
	struct client *c = arg;
	c->connectings++;
	if (!c->has_will)
		return false;
	snprintf(will->topic, sizeof(will->topic), "will");
	will->len =
		(size_t)snprintf(will->payload, sizeof(will->payload), "will-%u", c->connectings);
	will->qos = 1;
	return true;
}

static void on_failed(void *arg, const char *why)
{
	struct client *c = arg;
	c->failures++;
	snprintf(c->why, sizeof(c->why), "%s", why);
}

static void on_up(void *arg, bool fresh)
{
	struct client *c = arg;
	c->ups++;
	c->fresh_ups += fresh;
}

static void on_down(void *arg, const char *why)
{
	struct client *c = arg;
	assert_true(*why != '\0');
	c->downs++;
}

static void on_message(void *arg, const struct bus_msg *m)
{
	struct client *c = arg;
	c->messages++;
	c->bytes += m->len;
	c->last = *m;
	assert_int_equal(m->payload[m->len], '\0');
	snprintf(c->topic, sizeof(c->topic), "%s", m->topic);
	snprintf(c->payload, sizeof(c->payload), "%s", m->payload);
	size_t at = strlen(c->log);
	snprintf(c->log + at, sizeof(c->log) - at, "%s ", m->payload);
}

static void on_batch(void *arg)
{
	struct client *c = arg;
	c->batches++;
}

static const struct bus_handlers handlers = {
	.on_connecting = on_connecting,
	.on_failed = on_failed,
	.on_up = on_up,
	.on_down = on_down,
	.on_message = on_message,
	.on_batch = on_batch,
};

static struct bus_conf conf_of(const struct world *w, const char *id)
{
	return (struct bus_conf){.host = "127.0.0.1",
				 .port = w->broker.port,
				 .client_id = id,
				 .clean_session = true};
}

static void open_with(struct world *w, struct client *c, const struct bus_conf *conf)
{
	struct err err = {0};
	memset(c, 0, sizeof(*c));
	if (engine->new (w->loop, conf, &handlers, c, &c->bus, &err) < 0)
		fail_msg("%s", err.text);
}

static void open_as(struct world *w, struct client *c, const char *id)
{
	struct bus_conf conf = conf_of(w, id);
	open_with(w, c, &conf);
}

struct answer {
	unsigned calls;
	int rc;
};

static void on_answer(void *arg, int rc)
{
	struct answer *a = arg;
	a->calls++;
	a->rc = rc;
}

static void subscribe(struct world *w, struct client *c, const char *topic, uint8_t qos)
{
	struct answer a = {0};
	assert_int_equal(bus_subscribe(c->bus, topic, qos, on_answer, &a, NULL), 0);
	UNTIL(w, a.calls > 0);
	assert_int_equal(a.rc, 0);
}

static void unsubscribe(struct world *w, struct client *c, const char *topic)
{
	struct answer a = {0};
	assert_int_equal(bus_unsubscribe(c->bus, topic, on_answer, &a, NULL), 0);
	UNTIL(w, a.calls > 0);
	assert_int_equal(a.rc, 0);
}

static void publish(struct client *c, const char *topic, const char *text, uint8_t qos)
{
	assert_int_equal(bus_publish(c->bus, topic, text, strlen(text), qos, false, NULL), 0);
}

static void publish_acked(struct client *c, const char *text, struct answer *a)
{
	assert_int_equal(
		bus_publish_acked(c->bus, "t", text, strlen(text), false, on_answer, a, NULL), 0);
	assert_int_equal(a->calls, 0); /* later, never from within */
}

static int setup(void **state)
{
	struct world *w = test_calloc(1, sizeof(*w));
	broker_init(&w->broker);
	broker_start(&w->broker);
	assert_int_equal(loop_new(&w->loop, NULL), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	bus_free(w->a.bus);
	bus_free(w->b.bus);
	loop_free(w->loop);
	broker_done(&w->broker);
	test_free(w);
	return 0;
}

/* ---- talking ---- */

static void messages_arrive_whole_and_in_order(void **state)
{
	struct world *w = *state;
	open_as(w, &w->a, "a");
	subscribe(w, &w->a, "t/#", 2);
	UNTIL(w, w->a.ups == 1);
	assert_true(bus_is_up(w->a.bus));
	for (uint8_t qos = 0; qos <= 2; qos++) {
		w->a.log[0] = '\0';
		for (int i = 0; i < 10; i++) {
			char text[16];
			snprintf(text, sizeof(text), "%d", i);
			publish(&w->a, "t/x", text, qos);
		}
		UNTIL(w, w->a.messages == 10u * (qos + 1u));
		assert_string_equal(w->a.log, "0 1 2 3 4 5 6 7 8 9 ");
		assert_int_equal(w->a.last.qos, qos);
		assert_string_equal(w->a.topic, "t/x");
		assert_false(w->a.last.retained);
	}
	struct bus_stats s;
	bus_get_stats(w->a.bus, &s);
	assert_int_equal(s.received, 30);
	assert_int_equal(s.published, 30);
	assert_int_equal(s.publish_failed + s.dropped_inbound, 0);
	assert_int_equal(s.connects, 1);
	assert_true(s.up);
}

static void payloads_may_hold_anything(void **state)
{
	struct world *w = *state;
	open_as(w, &w->a, "a");
	subscribe(w, &w->a, "t", 1);
	assert_int_equal(bus_publish(w->a.bus, "t", "a\0b", 3, 1, false, NULL), 0);
	UNTIL(w, w->a.messages == 1);
	assert_int_equal(w->a.last.len, 3);
	assert_int_equal(bus_publish(w->a.bus, "t", NULL, 0, 1, false, NULL), 0);
	UNTIL(w, w->a.messages == 2);
	assert_int_equal(w->a.last.len, 0);
	size_t big = 5 << 20;
	char *text = test_malloc(big);
	memset(text, 'x', big);
	assert_int_equal(bus_publish(w->a.bus, "t", text, big, 2, false, NULL), 0);
	test_free(text); /* it was copied */
	UNTIL(w, w->a.messages == 3);
	assert_int_equal(w->a.last.len, big);
}

static void retained_messages_are_marked_when_replayed(void **state)
{
	struct world *w = *state;
	open_as(w, &w->a, "a");
	subscribe(w, &w->a, "r", 1);
	assert_int_equal(bus_publish(w->a.bus, "r", "kept", 4, 1, true, NULL), 0);
	UNTIL(w, w->a.messages == 1);
	assert_false(w->a.last.retained);
	open_as(w, &w->b, "b");
	assert_int_equal(bus_subscribe(w->b.bus, "r", 1, NULL, NULL, NULL), 0);
	UNTIL(w, w->b.messages == 1);
	assert_true(w->b.last.retained);
}

static void a_flood_comes_in_batches(void **state)
{
	struct world *w = *state;
	open_as(w, &w->a, "a");
	subscribe(w, &w->a, "t", 0);
	for (int i = 0; i < 5000; i++)
		publish(&w->a, "t", "x", 1);
	UNTIL(w, w->a.messages == 5000);
	assert_true(w->a.batches >= (engine->has_threads ? 5000 / 256 : 1));
	assert_true(w->a.batches < 5000);
}

static void nagle_is_off(void **state)
{
	struct world *w = *state;
	open_as(w, &w->a, "a");
	UNTIL(w, w->a.ups == 1);
	int found = 0;
	for (int fd = 3; fd < 200; fd++) {
		struct sockaddr_in peer = {0};
		socklen_t len = sizeof(peer);
		int on = 0;
		if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0 ||
		    ntohs(peer.sin_port) != w->broker.port)
			continue;
		found++;
		len = sizeof(on);
		assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
		assert_true(on);
	}
	assert_int_equal(found, 1);
}

/* ---- subscriptions ---- */

static void everything_subscribed_before_is_in_force_when_up(void **state)
{
	struct world *w = *state;
	struct answer answers[350] = {0};
	char topic[32];
	open_as(w, &w->a, "a");
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		snprintf(topic, sizeof(topic), "many/%zu", i);
		assert_int_equal(bus_subscribe(w->a.bus, topic, 1, on_answer, &answers[i], NULL),
				 0);
	}
	UNTIL(w, w->a.ups == 1);
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		assert_int_equal(answers[i].calls, 1);
		assert_int_equal(answers[i].rc, 0);
		snprintf(topic, sizeof(topic), "many/%zu", i);
		publish(&w->a, topic, "x", 0);
	}
	UNTIL(w, w->a.messages == ARRAY_LEN(answers));
}

static void unsubscribing_removes_that_filter_only(void **state)
{
	struct world *w = *state;
	open_as(w, &w->a, "a");
	subscribe(w, &w->a, "t/#", 1);
	subscribe(w, &w->a, "t/+", 1);
	subscribe(w, &w->a, "mark", 1);
	unsubscribe(w, &w->a, "t/x"); /* matched by both, subscribed by none */
	publish(&w->a, "t/x", "1", 1);
	UNTIL(w, w->a.messages > 0 && strstr(w->a.log, "1 ") != NULL);
	unsubscribe(w, &w->a, "t/+");
	publish(&w->a, "t/x", "2", 1);
	UNTIL(w, strstr(w->a.log, "2 ") != NULL);
	unsubscribe(w, &w->a, "t/#");
	publish(&w->a, "t/x", "3", 1);
	publish(&w->a, "mark", "end", 1);
	UNTIL(w, strstr(w->a.log, "end ") != NULL);
	assert_null(strstr(w->a.log, "3 "));
}

static void subscribing_again_is_acknowledged_again(void **state)
{
	struct world *w = *state;
	open_as(w, &w->a, "a");
	subscribe(w, &w->a, "t", 0);
	subscribe(w, &w->a, "t", 0);
	publish(&w->a, "t", "x", 2);
	UNTIL(w, w->a.messages == 1);
	assert_int_equal(w->a.last.qos, 0);
	subscribe(w, &w->a, "t", 2);
	publish(&w->a, "t", "x", 2);
	UNTIL(w, w->a.messages == 2);
	assert_int_equal(w->a.last.qos, 2);
}

static void the_last_wish_wins(void **state)
{
	struct world *w = *state;
	struct answer first = {0}, second = {0}, third = {0};
	open_as(w, &w->a, "a");
	UNTIL(w, w->a.ups == 1);
	bus_subscribe(w->a.bus, "t", 1, on_answer, &first, NULL);
	bus_unsubscribe(w->a.bus, "t", on_answer, &second, NULL);
	bus_subscribe(w->a.bus, "t", 1, on_answer, &third, NULL);
	UNTIL(w, first.calls && second.calls && third.calls);
	assert_int_equal(first.rc, 0);
	assert_int_equal(second.rc, ERR_CONFLICT);
	assert_int_equal(third.rc, 0);
	publish(&w->a, "t", "x", 1);
	UNTIL(w, w->a.messages == 1);

	struct answer on = {0}, off = {0};
	bus_subscribe(w->a.bus, "u", 1, on_answer, &on, NULL);
	loop_turn(w->loop, 0); /* it is on its way */
	bus_unsubscribe(w->a.bus, "u", on_answer, &off, NULL);
	UNTIL(w, on.calls && off.calls);
	assert_int_equal(off.rc, 0);
	publish(&w->a, "u", "not", 1);
	publish(&w->a, "t", "end", 1);
	UNTIL(w, strstr(w->a.log, "end ") != NULL);
	assert_null(strstr(w->a.log, "not"));
	assert_int_equal(first.calls + second.calls + third.calls + on.calls + off.calls, 5);
}

static void resubscribe(void *arg, int rc)
{
	struct client *c = arg;
	assert_int_equal(rc, 0);
	if (c->connectings++ < 5)
		assert_int_equal(bus_subscribe(c->bus, "again", 1, resubscribe, c, NULL), 0);
}

static void a_callback_may_change_subscriptions(void **state)
{
	struct world *w = *state;
	open_as(w, &w->a, "a");
	UNTIL(w, w->a.ups == 1);
	w->a.connectings = 0;
	assert_int_equal(bus_subscribe(w->a.bus, "again", 1, resubscribe, &w->a, NULL), 0);
	UNTIL(w, w->a.connectings == 6);
}

/* Only the dynamic security plugin of the broker refuses subscriptions. */
static void a_refused_subscription_says_so(void **state)
{
	struct world *w = *state;
	char text[512];
	broker_signal(&w->broker, SIGKILL);
	snprintf(text, sizeof(text),
		 "listener %u 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest stderr\n"
		 "plugin /usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so\n"
		 "plugin_opt_config_file %s/dynsec.json\n",
		 w->broker.port, w->broker.dir);
	broker_write(&w->broker, "conf", text);
	broker_write(
		&w->broker, "dynsec.json",
		"{\"defaultACLAccess\":{\"publishClientSend\":true,\"publishClientReceive\":true,"
		"\"subscribe\":false,\"unsubscribe\":true},\"anonymousGroup\":\"all\","
		"\"groups\":[{\"groupname\":\"all\",\"roles\":[{\"rolename\":\"r\"}]}],"
		"\"roles\":[{\"rolename\":\"r\",\"acls\":[{\"acltype\":\"subscribePattern\","
		"\"topic\":\"open/#\",\"allow\":true}]}],\"clients\":[]}");
	broker_start(&w->broker);
	struct answer alone = {0}, open = {0}, closed[3] = {0};
	open_as(w, &w->a, "a");
	UNTIL(w, w->a.ups == 1);
	bus_subscribe(w->a.bus, "closed/x", 1, on_answer, &alone, NULL);
	UNTIL(w, alone.calls);
	assert_int_equal(alone.rc, ERR_ACCES);
	bus_subscribe(w->a.bus, "closed/1", 1, on_answer, &closed[0], NULL);
	bus_subscribe(w->a.bus, "open/1", 1, on_answer, &open, NULL);
	bus_subscribe(w->a.bus, "closed/2", 1, on_answer, &closed[1], NULL);
	bus_subscribe(w->a.bus, "closed/x", 1, on_answer, &closed[2], NULL);
	UNTIL(w, open.calls && closed[0].calls && closed[1].calls && closed[2].calls);
	assert_int_equal(open.rc, 0);
	for (size_t i = 0; i < ARRAY_LEN(closed); i++)
		assert_int_equal(closed[i].rc, ERR_ACCES);
	/* refused ones do not keep a new connection from coming up */
	broker_signal(&w->broker, SIGKILL);
	UNTIL(w, w->a.downs == 1);
	broker_start(&w->broker);
	UNTIL(w, w->a.ups == 2);
	publish(&w->a, "open/1", "x", 1);
	UNTIL(w, w->a.messages == 1);
}

static void bad_topics_are_refused_here(void **state)
{
	struct world *w = *state;
	open_as(w, &w->a, "a");
	UNTIL(w, w->a.ups == 1);
	static const char *const bad_filters[] = {"",     "a#",   "#/a",   "a+/b",
						  "a/+b", "a\nb", "a\x7f", "\xc2\x85"};
	static const char *const bad_names[] = {"", "a/+", "#", "a\x01", "\xc2\x9f", "\xff"};
	struct err err;
	for (size_t i = 0; i < ARRAY_LEN(bad_filters); i++)
		assert_int_equal(bus_subscribe(w->a.bus, bad_filters[i], 0, NULL, NULL, &err),
				 ERR_INVAL);
	assert_int_equal(bus_subscribe(w->a.bus, "a", 3, NULL, NULL, &err), ERR_INVAL);
	for (size_t i = 0; i < ARRAY_LEN(bad_names); i++)
		assert_int_equal(bus_publish(w->a.bus, bad_names[i], "x", 1, 1, false, &err),
				 ERR_BUS);
	assert_int_equal(bus_publish(w->a.bus, "a", "x", 1, 3, false, &err), ERR_BUS);
	struct bus_stats s;
	bus_get_stats(w->a.bus, &s);
	assert_int_equal(s.publish_failed, ARRAY_LEN(bad_names) + 1);
	subscribe(w, &w->a, "+/ok/#", 0);
	subscribe(w, &w->a, "\xe4\xbd\xa0", 0);
	publish(&w->a, "\xe4\xbd\xa0", "x", 0);
	UNTIL(w, w->a.messages == 1);
	assert_int_equal(w->a.downs, 0);
}

/* ---- connections ---- */

static void it_comes_back_after_the_broker_was_killed(void **state)
{
	struct world *w = *state;
	open_as(w, &w->a, "a");
	subscribe(w, &w->a, "t/+", 2);
	UNTIL(w, w->a.ups == 1);
	for (unsigned round = 1; round <= 3; round++) {
		broker_signal(&w->broker, SIGKILL);
		UNTIL(w, w->a.downs == round);
		assert_false(bus_is_up(w->a.bus));
		char text[16], topic[16];
		snprintf(text, sizeof(text), "away%u", round);
		snprintf(topic, sizeof(topic), "t/%u", round);
		/* retained, because it reaches the broker before the subscription is made again */
		assert_int_equal(bus_publish(w->a.bus, topic, text, strlen(text), 2, true, NULL),
				 0);
		broker_start(&w->broker);
		int64_t begin = now_ms();
		UNTIL(w, w->a.ups == round + 1);
		assert_true(now_ms() - begin < 3000);
		UNTIL(w, strstr(w->a.log, text) != NULL);
	}
	assert_int_equal(w->a.fresh_ups, 4);
}

static void messages_wait_for_the_broker_up_to_the_limit(void **state)
{
	struct world *w = *state;
	broker_signal(&w->broker, SIGKILL);
	struct bus_conf conf = conf_of(w, "a");
	conf.max_queued = 10;
	open_with(w, &w->a, &conf);
	bus_subscribe(w->a.bus, "t", 1, NULL, NULL, NULL);
	struct err err = {0};
	for (int i = 0; i < 10; i++)
		publish(&w->a, "t", "x", (uint8_t)(i % 3));
	assert_int_equal(bus_publish(w->a.bus, "t", "x", 1, 1, false, &err), ERR_LIMIT);
	assert_true(err.text[0] != '\0');
	for (int i = 0; i < 10; i++)
		loop_turn(w->loop, 20);
	broker_start(&w->broker);
	open_as(w, &w->b, "b");
	subscribe(w, &w->b, "end", 1);
	UNTIL(w, w->a.ups == 1);
	struct bus_stats s;
	bus_get_stats(w->a.bus, &s);
	assert_int_equal(s.published, 10);
	assert_int_equal(s.publish_failed, 1);
	publish(&w->a, "end", "x", 1);
	UNTIL(w, w->b.messages == 1);
}

static void queued_messages_arrive_in_order(void **state)
{
	struct world *w = *state;
	open_as(w, &w->b, "b");
	subscribe(w, &w->b, "t", 1);
	open_as(w, &w->a, "a"); /* not connected before the loop turns */
	for (int i = 0; i < 500; i++) {
		char text[16];
		snprintf(text, sizeof(text), "%d", i);
		publish(&w->a, "t", text, 1);
	}
	UNTIL(w, w->b.messages == 500);
	char *at = w->b.log;
	for (long i = 0; i < 500; i++)
		assert_int_equal(strtol(at, &at, 10), i);
}

/* The child of the test below: a client with a will that reports each time it is up, until it is
 * killed. */
static int live_until_killed(unsigned port)
{
	struct world w = {.broker.port = port};
	if (loop_new(&w.loop, NULL) < 0)
		return 1;
	struct bus_conf conf = conf_of(&w, "mortal");
	w.a.has_will = true;
	if (engine->new (w.loop, &conf, &handlers, &w.a, &w.a.bus, NULL) < 0)
		return 1;
	for (unsigned told = 0;;) {
		loop_turn(w.loop, 1000);
		if (w.a.ups > told && write(1, "u", 1) == 1)
			told++;
	}
}

static void a_will_is_made_for_each_connection(void **state)
{
	struct world *w = *state;
	char port[8], byte;
	int said[2];
	snprintf(port, sizeof(port), "%u", w->broker.port);
	assert_int_equal(pipe2(said, O_CLOEXEC), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(said[1], 1);
		execl("/proc/self/exe", "test_bus", engine->name, port, NULL);
		_exit(127);
	}
	close(said[1]);
	assert_int_equal(read(said[0], &byte, 1), 1);
	broker_signal(&w->broker, SIGKILL);
	broker_start(&w->broker);
	assert_int_equal(read(said[0], &byte, 1), 1);
	open_as(w, &w->b, "watcher");
	subscribe(w, &w->b, "will", 1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(said[0]);
	UNTIL(w, w->b.messages == 1);
	unsigned n = 0; /* attempts that failed made wills too */
	assert_int_equal(sscanf(w->b.payload, "will-%u", &n), 1);
	assert_true(n >= 2);
}

static void a_clean_goodbye_leaves_no_will(void **state)
{
	struct world *w = *state;
	open_as(w, &w->b, "watcher");
	subscribe(w, &w->b, "#", 2);
	open_as(w, &w->a, "leaver");
	w->a.has_will = true;
	UNTIL(w, w->a.ups == 1);
	publish(&w->a, "last", "words", 2);
	w->a.bus = bus_free(w->a.bus);
	UNTIL(w, w->b.messages == 1);
	assert_string_equal(w->b.payload, "words");
	publish(&w->b, "end", "end", 1);
	UNTIL(w, strstr(w->b.log, "end ") != NULL);
	assert_null(strstr(w->b.log, "will-"));
}

static void a_session_survives_when_asked_to(void **state)
{
	struct world *w = *state;
	struct bus_conf conf = conf_of(w, "a");
	conf.clean_session = false;
	open_with(w, &w->a, &conf);
	subscribe(w, &w->a, "t", 1);
	UNTIL(w, w->a.ups == 1);
	assert_int_equal(w->a.fresh_ups, 1);
	w->a.bus = bus_free(w->a.bus);
	open_as(w, &w->b, "b");
	UNTIL(w, w->b.ups == 1);
	publish(&w->b, "t", "meanwhile", 1);
	subscribe(w, &w->b, "sync", 1);
	publish(&w->b, "sync", "x", 1);
	UNTIL(w, w->b.messages == 1);
	open_with(w, &w->a, &conf);
	UNTIL(w, w->a.ups == 1 && w->a.messages == 1);
	assert_int_equal(w->a.fresh_ups, 0);
	assert_string_equal(w->a.payload, "meanwhile");
	unsubscribe(w, &w->a, "t"); /* one the former life made */
	publish(&w->b, "t", "unheard", 1);
	subscribe(w, &w->a, "end", 1);
	publish(&w->b, "end", "end", 1);
	UNTIL(w, w->a.messages == 2);
	assert_string_equal(w->a.payload, "end");
}

static void what_is_too_large_is_dropped_and_counted(void **state)
{
	struct world *w = *state;
	struct bus_conf conf = conf_of(w, "a");
	struct bus_stats s;
	char text[30000];
	conf.max_inbound_bytes = 20000;
	open_with(w, &w->a, &conf);
	open_as(w, &w->b, "b");
	subscribe(w, &w->a, "t", 2);
	UNTIL(w, w->b.ups == 1);
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	for (uint8_t qos = 0; qos <= 2; qos++) {
		publish(&w->b, "t", text, qos);
		publish(&w->b, "t", "small", qos);
		UNTIL(w, w->a.messages == qos + 1u);
		assert_string_equal(w->a.payload, "small");
	}
	bus_get_stats(w->a.bus, &s);
	assert_int_equal(s.dropped_inbound, 3);
	assert_int_equal(s.received, 6);
	assert_int_equal(w->a.downs, 0);
}

static void what_is_too_much_is_dropped_and_counted(void **state)
{
	struct world *w = *state;
	struct bus_conf conf = conf_of(w, "a");
	if (!engine->has_threads)
		return; /* it is the broker that has it then */
	conf.max_inbound_bytes = 20000;
	open_with(w, &w->a, &conf);
	subscribe(w, &w->a, "t", 0);
	open_as(w, &w->b, "b");
	UNTIL(w, w->b.ups == 1);
	char text[1001];
	memset(text, 'x', 1000);
	text[1000] = '\0';
	for (int i = 0; i < 100; i++)
		publish(&w->b, "t", text, 0);
	struct bus_stats s = {0};
	int64_t end = now_ms() + PATIENCE_MS;
	while (s.received < 100 && now_ms() < end) { /* the loop stands still meanwhile */
		bus_get_stats(w->a.bus, &s);
		usleep(1000);
	}
	assert_int_equal(s.received, 100);
	assert_in_range(s.dropped_inbound, 79, 99);
	UNTIL(w, w->a.messages == 100 - s.dropped_inbound);
	/* room again */
	for (int i = 0; i < 5; i++)
		publish(&w->b, "t", text, 0);
	UNTIL(w, w->a.messages == 105 - s.dropped_inbound);
}

static void a_refused_login_is_tried_again(void **state)
{
	struct world *w = *state;
	char text[256];
	broker_signal(&w->broker, SIGKILL);
	snprintf(text, sizeof(text),
		 "listener %u 127.0.0.1\nallow_anonymous false\nuser root\nlog_dest stderr\n",
		 w->broker.port);
	broker_write(&w->broker, "conf", text);
	broker_start(&w->broker);
	struct bus_conf conf = conf_of(w, "a");
	conf.username = "nobody";
	conf.password = "wrong";
	open_with(w, &w->a, &conf);
	UNTIL(w, w->a.connectings >= 3);
	assert_int_equal(w->a.ups + w->a.downs, 0);
	assert_true(w->a.failures >= 2);
	assert_string_equal(w->a.why, "not authorized");
}

static void a_login_is_told_to_the_broker(void **state)
{
	struct world *w = *state;
	char text[512], path[128];
	snprintf(path, sizeof(path), "%s/passwords", w->broker.dir);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		execlp("mosquitto_passwd", "mosquitto_passwd", "-c", "-b", path, "ann", "secret",
		       NULL);
		_exit(127);
	}
	int status = 0;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	broker_signal(&w->broker, SIGKILL);
	snprintf(text, sizeof(text),
		 "listener %u 127.0.0.1\nallow_anonymous false\npassword_file %s\nuser "
		 "root\nlog_dest stderr\n",
		 w->broker.port, path);
	broker_write(&w->broker, "conf", text);
	broker_start(&w->broker);
	struct bus_conf conf = conf_of(w, "a");
	conf.username = "ann";
	conf.password = "secret";
	open_with(w, &w->a, &conf);
	UNTIL(w, w->a.ups == 1);
	subscribe(w, &w->a, "t", 1);
	publish(&w->a, "t", "x", 1);
	UNTIL(w, w->a.messages == 1);
	assert_int_equal(w->a.failures, 0);
}

static void what_the_broker_hangs_up_on_is_given_up(void **state)
{
	struct world *w = *state;
	char text[256], large[3000];
	struct answer given_up = {0};
	struct bus_stats stats;
	broker_signal(&w->broker, SIGKILL);
	snprintf(text, sizeof(text),
		 "listener %u 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest stderr\n"
		 "max_packet_size 2000\n",
		 w->broker.port);
	broker_write(&w->broker, "conf", text);
	broker_start(&w->broker);
	struct bus_conf conf = conf_of(w, "a");
	conf.clean_session = false; /* the library repeats it at each connection */
	open_with(w, &w->a, &conf);
	UNTIL(w, w->a.ups == 1);
	subscribe(w, &w->a, "t", 1);
	memset(large, 'x', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	publish_acked(&w->a, large, &given_up);
	UNTIL(w, w->a.downs >= 1);
	for (int round = 0; w->a.messages == 0; round++) {
		unsigned ups = w->a.ups;
		UNTIL(w, w->a.ups > ups);
		publish(&w->a, "t", "small", 1);
		int64_t end = now_ms() + 500;
		while (w->a.messages == 0 && now_ms() < end)
			loop_turn(w->loop, 20);
		assert_true(round < 20);
	}
	assert_string_equal(w->a.payload, "small");
	bus_get_stats(w->a.bus, &stats);
	assert_true(stats.publish_failed >= 1);
	UNTIL(w, given_up.calls > 0);
	assert_int_equal(given_up.rc, ERR_AGAIN);
	assert_int_equal(given_up.calls, 1);
}

static void a_second_connection_does_not_wait_for_the_first(void **state)
{
	struct world *w = *state;
	open_as(w, &w->a, "a");
	UNTIL(w, w->a.ups == 1);
	int64_t begin = now_ms();
	open_as(w, &w->b, "b");
	UNTIL(w, w->b.ups == 1);
	assert_true(now_ms() - begin < 700);
}

/* ---- acknowledgements ---- */

static void who_wants_to_know_is_told_once_when_the_broker_has_it(void **state)
{
	struct world *w = *state;
	struct answer answers[300] = {0}, refused = {0};
	struct bus_stats stats;
	open_as(w, &w->a, "a");
	open_as(w, &w->b, "b");
	subscribe(w, &w->b, "t", 1);
	UNTIL(w, w->a.ups == 1);
	for (size_t i = 0; i < ARRAY_LEN(answers); i++)
		publish_acked(&w->a, "x", &answers[i]);
	assert_int_equal(
		bus_publish_acked(w->a.bus, "t/#", "x", 1, false, on_answer, &refused, NULL),
		ERR_BUS);
	UNTIL(w, answers[ARRAY_LEN(answers) - 1].calls > 0 && w->b.messages == ARRAY_LEN(answers));
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		assert_int_equal(answers[i].calls, 1);
		assert_int_equal(answers[i].rc, 0);
	}
	assert_int_equal(w->b.last.qos, 1);
	assert_int_equal(refused.calls, 0);
	bus_get_stats(w->a.bus, &stats);
	assert_int_equal(stats.published, ARRAY_LEN(answers));
}

static void publish_next(void *arg, int rc)
{
	struct client *c = arg;
	assert_int_equal(rc, 0);
	if (c->connectings++ < 5)
		assert_int_equal(
			bus_publish_acked(c->bus, "t", "x", 1, false, publish_next, c, NULL), 0);
}

static void who_was_told_may_publish_again(void **state)
{
	struct world *w = *state;
	open_as(w, &w->a, "a");
	UNTIL(w, w->a.ups == 1);
	w->a.connectings = 0;
	assert_int_equal(bus_publish_acked(w->a.bus, "t", "x", 1, false, publish_next, &w->a, NULL),
			 0);
	UNTIL(w, w->a.connectings == 6);
}

static void a_broker_killed_before_it_acknowledged_is_told(void **state)
{
	struct world *w = *state;
	struct answer first = {0}, lost[20] = {0}, meanwhile = {0};
	struct bus_stats stats;
	open_as(w, &w->a, "a");
	UNTIL(w, w->a.ups == 1);
	publish_acked(&w->a, "first", &first);
	UNTIL(w, first.calls > 0);
	kill(w->broker.pid, SIGSTOP); /* it takes nothing in, so it cannot acknowledge */
	for (size_t i = 0; i < ARRAY_LEN(lost); i++)
		publish_acked(&w->a, "lost", &lost[i]);
	for (int i = 0; i < 5; i++)
		loop_turn(w->loop, 20);
	for (size_t i = 0; i < ARRAY_LEN(lost); i++)
		assert_int_equal(lost[i].calls, 0);
	broker_signal(&w->broker, SIGKILL);
	UNTIL(w, w->a.downs == 1 && lost[ARRAY_LEN(lost) - 1].calls > 0);
	for (size_t i = 0; i < ARRAY_LEN(lost); i++) {
		assert_int_equal(lost[i].calls, 1);
		assert_int_equal(lost[i].rc, ERR_AGAIN);
	}
	bus_get_stats(w->a.bus, &stats);
	assert_int_equal(stats.publish_failed, ARRAY_LEN(lost));

	publish_acked(&w->a, "meanwhile", &meanwhile); /* kept until there is a broker */
	broker_start(&w->broker);
	UNTIL(w, meanwhile.calls > 0);
	assert_int_equal(meanwhile.rc, 0);
	assert_int_equal(first.calls + meanwhile.calls, 2);
	for (size_t i = 0; i < ARRAY_LEN(lost); i++)
		assert_int_equal(lost[i].calls, 1);
}

static void what_waits_when_a_bus_is_freed_is_not_told(void **state)
{
	struct world *w = *state, other = {.broker = w->broker};
	struct answer sent = {0}, acked = {0};
	assert_int_equal(loop_new(&other.loop, NULL), 0);
	open_as(&other, &other.b, "b");
	subscribe(&other, &other.b, "t", 0);
	open_as(w, &w->a, "a");
	UNTIL(w, w->a.ups == 1);
	publish_acked(&w->a, "acknowledged, but the loop does not turn", &acked);
	if (!engine->has_threads)
		loop_turn(w->loop, 0); /* but for this, which sends it */
	UNTIL(&other, other.b.messages == 1);
	kill(w->broker.pid, SIGSTOP);
	publish_acked(&w->a, "sent", &sent);
	w->a.bus = bus_free(w->a.bus);
	for (int i = 0; i < 5; i++)
		loop_turn(w->loop, 20);
	assert_int_equal(sent.calls + acked.calls, 0);
	bus_free(other.b.bus);
	loop_free(other.loop);
}

/* ---- freeing ---- */

static void it_can_be_freed_in_any_state(void **state)
{
	struct world *w = *state;
	struct answer unanswered = {0};
	open_as(w, &w->b, "keeps the library running");
	UNTIL(w, w->b.ups == 1);
	for (int stage = 0; stage < 12; stage++) {
		struct bus_conf conf = conf_of(w, "a");
		if (stage == 10)
			conf.port = free_port(); /* nobody listens */
		open_with(w, &w->a, &conf);
		bus_subscribe(w->a.bus, "t", 2, on_answer, &unanswered, NULL);
		for (int i = 0; i < 50; i++)
			publish(&w->a, "t", "x", (uint8_t)(i % 3));
		for (int i = 0; i < stage; i++)
			loop_turn(w->loop, 1);
		if (stage == 9) {
			UNTIL(w, w->a.ups == 1);
			for (int i = 0; i < 2000; i++)
				publish(&w->a, "t", "y", (uint8_t)(i % 3));
			UNTIL(w, w->a.messages > 10); /* and more on the way */
		}
		if (stage == 11) {
			UNTIL(w, w->a.ups == 1);
			for (int i = 0; i < 1000; i++)
				publish(&w->a, "t", "y", 2);
			broker_signal(&w->broker, SIGKILL);
		}
		int64_t begin = now_ms();
		w->a.bus = bus_free(w->a.bus);
		assert_true(now_ms() - begin < 2500);
	}
	assert_null(bus_free(NULL));
}

static void who_parts_first_waits_once_for_all(void **state)
{
	struct world *w = *state;
	struct client many[12];
	char id[16];
	for (unsigned i = 0; i < ARRAY_LEN(many); i++) {
		snprintf(id, sizeof(id), "many%u", i);
		open_as(w, &many[i], id);
		many[i].has_will = true;
		UNTIL(w, many[i].ups == 1);
	}
	open_as(w, &w->b, "watcher");
	subscribe(w, &w->b, "#", 2);
	for (unsigned i = 0; i < ARRAY_LEN(many); i++) {
		publish(&many[i], "last", "words", 2);
		bus_part(many[i].bus);
		bus_part(many[i].bus); /* twice does no harm */
		many[i].messages = many[i].downs = 0;
	}
	bus_part(NULL);
	for (unsigned i = 0; i < ARRAY_LEN(many) / 2; i++)
		bus_free(many[i].bus);
	UNTIL(w, w->b.messages >= 6); /* the others go on meanwhile */
	for (unsigned i = ARRAY_LEN(many) / 2; i < ARRAY_LEN(many); i++)
		bus_free(many[i].bus);
	UNTIL(w, w->b.messages == ARRAY_LEN(many));
	publish(&w->b, "end", "end", 1);
	UNTIL(w, strstr(w->b.log, "end ") != NULL);
	assert_null(strstr(w->b.log, "will-"));
	for (unsigned i = 0; i < ARRAY_LEN(many); i++)
		assert_int_equal(many[i].messages + many[i].downs, 0);
}

static void a_broker_that_stands_still_is_waited_for_once(void **state)
{
	struct world *w = *state;
	struct client many[12];
	char id[16];
	if (engine->has_threads)
		return; /* the library waits for each */
	for (unsigned i = 0; i < ARRAY_LEN(many); i++) {
		snprintf(id, sizeof(id), "many%u", i);
		open_as(w, &many[i], id);
		UNTIL(w, many[i].ups == 1);
	}
	kill(w->broker.pid, SIGSTOP);
	for (unsigned i = 0; i < ARRAY_LEN(many); i++) {
		publish(&many[i], "last", "words", 2);
		bus_part(many[i].bus);
	}
	int64_t begin = now_ms();
	for (unsigned i = 0; i < ARRAY_LEN(many); i++)
		bus_free(many[i].bus);
	assert_true(now_ms() - begin < 2000); /* half a second, and not six */
}

static void bad_settings_are_errors(void **state)
{
	struct world *w = *state;
	struct err err;
	struct bus *bus = NULL;
	static const struct {
		const char *host, *id;
		unsigned port;
	} bad[] = {{"", "a", 1883}, {NULL, "a", 1883}, {"a b", "a", 1883}, {"h/x", "a", 1883},
		   {"h", "a", 0},   {"h", "a", 65536}, {"h", NULL, 1883},  {"h", "", 1883}};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct bus_conf conf = {
			.host = bad[i].host, .port = bad[i].port, .client_id = bad[i].id};
		err.text[0] = '\0';
		assert_int_equal(engine->new (w->loop, &conf, &handlers, &w->a, &bus, &err),
				 ERR_BUS);
		assert_true(err.text[0] != '\0');
	}
	assert_null(bus);
}

int main(int argc, char *argv[])
{
	signal(SIGPIPE, SIG_IGN);
	while (argc > 1 && strcmp(argv[1], engine->name) != 0)
		engine++;
	if (argc > 2)
		return live_until_killed((unsigned)strtoul(argv[2], NULL, 10));
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(messages_arrive_whole_and_in_order),
		T(payloads_may_hold_anything),
		T(retained_messages_are_marked_when_replayed),
		T(a_flood_comes_in_batches),
		T(nagle_is_off),
		T(everything_subscribed_before_is_in_force_when_up),
		T(unsubscribing_removes_that_filter_only),
		T(subscribing_again_is_acknowledged_again),
		T(the_last_wish_wins),
		T(a_callback_may_change_subscriptions),
		T(a_refused_subscription_says_so),
		T(bad_topics_are_refused_here),
		T(it_comes_back_after_the_broker_was_killed),
		T(messages_wait_for_the_broker_up_to_the_limit),
		T(queued_messages_arrive_in_order),
		T(a_will_is_made_for_each_connection),
		T(a_clean_goodbye_leaves_no_will),
		T(a_session_survives_when_asked_to),
		T(what_is_too_large_is_dropped_and_counted),
		T(what_is_too_much_is_dropped_and_counted),
		T(a_refused_login_is_tried_again),
		T(a_login_is_told_to_the_broker),
		T(what_the_broker_hangs_up_on_is_given_up),
		T(a_second_connection_does_not_wait_for_the_first),
		T(who_wants_to_know_is_told_once_when_the_broker_has_it),
		T(who_was_told_may_publish_again),
		T(a_broker_killed_before_it_acknowledged_is_told),
		T(what_waits_when_a_bus_is_freed_is_not_told),
		T(who_parts_first_waits_once_for_all),
		T(a_broker_that_stands_still_is_waited_for_once),
		T(it_can_be_freed_in_any_state),
		T(bad_settings_are_errors),
	};
	int failed = 0;
	for (size_t i = 0; i < ARRAY_LEN(engines); i++) {
		if (argc > 1 && engine != &engines[i])
			continue;
		engine = &engines[i];
		failed += cmocka_run_group_tests_name(engine->name, tests, NULL, NULL);
	}
	return failed;
}
