/* test_plugin.c - the plugin as mosquitto sees it: this test is the broker, calls its callbacks and
 * notes what it publishes. What only a real broker can show is in tests/system/test_plugin.py. */
#include "broker/mosq.h"
#include "common/plug.h"
#include "common/tap.h"
#include "common/util.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include <cmocka.h>

#define RING    (1u << 17)
#define WAIT_MS 5000 /* longer than anything that interrupts it may take */

static struct broker {
	MOSQ_FUNC_generic_callback callback[16];
	void *data[16];
	unsigned registered;
	bool failing;
	unsigned published, by_port[2]; /* topics end in the port's number */
	char topic[100], payload[100], log[1000];
	int qos;
} broker;

/* ---- mosquitto ---- */

void *mosquitto_malloc(size_t size)
{
	return malloc(size);
}

void mosquitto_free(void *mem)
{
	free(mem);
}

static void note(const char *topic, int len, const void *payload, int qos)
{
	broker.published++;
	broker.by_port[topic[strlen(topic) - 1] == '1']++;
	broker.qos = qos;
	snprintf(broker.topic, sizeof(broker.topic), "%s", topic);
	snprintf(broker.payload, sizeof(broker.payload), "%.*s", len,
		 payload != NULL ? (const char *)payload : "");
}

int mosquitto_broker_publish(const char *clientid, const char *topic, int payloadlen, void *payload,
			     int qos, bool retain, mosquitto_property *properties)
{
	assert_true(clientid == NULL && !retain && properties == NULL);
	if (broker.failing)
		return MOSQ_ERR_NOMEM;
	note(topic, payloadlen, payload, qos);
	free(payload);
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_broker_publish_copy(const char *clientid, const char *topic, int payloadlen,
				  const void *payload, int qos, bool retain,
				  mosquitto_property *properties)
{
	assert_true(clientid == NULL && !retain && properties == NULL);
	note(topic, payloadlen, payload, qos);
	return MOSQ_ERR_SUCCESS;
}

void mosquitto_log_printf(int level, const char *fmt, ...)
{
	va_list ap;

	(void)level;
	va_start(ap, fmt);
	vsnprintf(broker.log, sizeof(broker.log), fmt, ap);
	va_end(ap);
}

int mosquitto_callback_register(mosquitto_plugin_id_t *id, int event, MOSQ_FUNC_generic_callback fn,
				const void *data, void *user)
{
	(void)id, (void)data;
	broker.callback[event] = fn;
	broker.data[event] = user;
	broker.registered++;
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_callback_unregister(mosquitto_plugin_id_t *id, int event,
				  MOSQ_FUNC_generic_callback fn, const void *data)
{
	(void)id, (void)data;
	assert_ptr_equal(broker.callback[event], fn);
	broker.callback[event] = NULL;
	broker.registered--;
	return MOSQ_ERR_SUCCESS;
}

static void tick(void)
{
	struct mosquitto_evt_tick e = {0};

	assert_int_equal(
		broker.callback[MOSQ_EVT_TICK](MOSQ_EVT_TICK, &e, broker.data[MOSQ_EVT_TICK]),
		MOSQ_ERR_SUCCESS);
}

static void message(const char *topic, const char *payload, uint8_t qos)
{
	struct mosquitto_evt_message e = {
		.topic = (char *)(uintptr_t)topic,
		.payload = (void *)(uintptr_t)payload,
		.payloadlen = (uint32_t)strlen(payload),
		.qos = qos,
	};

	assert_int_equal(broker.callback[MOSQ_EVT_MESSAGE](MOSQ_EVT_MESSAGE, &e,
							   broker.data[MOSQ_EVT_MESSAGE]),
			 MOSQ_ERR_SUCCESS);
}

/* Wait as mosquitto does. ret: true if something interrupted the wait. */
static bool interrupted(void)
{
	struct epoll_event ev;
	CLEANUP(closep)
	int fd = epoll_create1(EPOLL_CLOEXEC);
	int n = epoll_wait(fd, &ev, 1, WAIT_MS);

	assert_true(n <= 0);
	return n < 0 && errno == EINTR;
}

/* ---- the agent and its engines ---- */

struct engine {
	struct tap_fds fds;
	int pipes[4]; /* wake: read, write; result: read, write */
	struct tap_peer *tap;
	uint32_t port;
};

struct world {
	char dir[64], path[100];
	void *plugin;
	int fd;
	uint32_t seq;
	struct engine e[2];
};

static struct plug_answer ask(struct world *w, struct plug_request r, const char *text,
			      const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(PLUG_FDS_MAX * sizeof(int))];
	} control = {0};
	struct iovec iov[] = {{&r, sizeof(r)}, {(void *)(uintptr_t)text, strlen(text)}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
	struct plug_answer a;
	char packet[sizeof(a) + PLUG_TEXT_MAX];

	r.seq = ++w->seq;
	r.len = (uint32_t)strlen(text);
	if (n_fds > 0) {
		m.msg_control = control.buf;
		m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	assert_true(sendmsg(w->fd, &m, MSG_NOSIGNAL) > 0);
	do {
		tick();
		ssize_t n = recv(w->fd, packet, sizeof(packet), MSG_DONTWAIT);
		memset(&a, 0, sizeof(a));
		if (n > 0)
			memcpy(&a, packet, sizeof(a));
	} while (a.seq != r.seq); /* events come in between */
	return a;
}

static void add_engine(struct world *w, int i)
{
	struct engine *e = &w->e[i];
	char name[10], topic[40];

	assert_int_equal(tap_make(RING, RING, &e->fds, NULL), 0);
	assert_int_equal(pipe2(e->pipes, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pipe2(e->pipes + 2, O_CLOEXEC | O_NONBLOCK), 0);
	const int fds[] = {e->fds.in_fd, e->fds.out_fd, e->pipes[1], e->pipes[2]};
	snprintf(name, sizeof(name), "e%d", i);
	struct plug_answer a = ask(w, (struct plug_request){.op = PLUG_PORT_ADD}, name, fds, 4);
	assert_int_equal(a.code, 0);
	e->port = a.port;
	assert_int_equal(tap_attach(e->fds.in_ro_fd, e->fds.out_fd, &e->tap, NULL), 0);
	snprintf(topic, sizeof(topic), "iottalk/esm/in%d", i);
	a = ask(w, (struct plug_request){.op = PLUG_TAP, .port = e->port, .slot = 1}, topic, NULL,
		0);
	assert_int_equal(a.code, 0);
	snprintf(topic, sizeof(topic), "iottalk/esm/out%d", i);
	a = ask(w, (struct plug_request){.op = PLUG_OUT, .port = e->port, .slot = 2}, topic, NULL,
		0);
	assert_int_equal(a.code, 0);
}

static void engine_done(struct engine *e)
{
	tap_detach(e->tap);
	tap_fds_done(&e->fds);
	for (int i = 0; i < 4 && e->tap != NULL; i++)
		close(e->pipes[i]);
}

static void reply(struct engine *e, const char *payload)
{
	const struct tap_rec rec = {.slot = 2, .qos = 1, .len = (uint32_t)strlen(payload)};

	assert_int_equal(tap_reply(e->tap, &rec, payload), 0);
}

static void kick(struct engine *e)
{
	assert_int_equal(write(e->pipes[3], "k", 1), 1);
}

static int load(struct mosquitto_opt *opts, int n, void **ret)
{
	return mosquitto_plugin_init((mosquitto_plugin_id_t *)1, ret, opts, n);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	broker = (struct broker){0};
	for (int i = 0; i < 2; i++)
		w->e[i].fds = TAP_FDS_NONE;
	snprintf(w->dir, sizeof(w->dir), P_tmpdir "/test-broker-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof(w->path), "%s/sock", w->dir);
	struct mosquitto_opt opt = {(char *)(uintptr_t) "socket", w->path};
	assert_int_equal(load(&opt, 1, &w->plugin), MOSQ_ERR_SUCCESS);
	assert_non_null(w->plugin);
	assert_int_equal(broker.registered, 3);
	w->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", w->path);
	assert_int_equal(connect(w->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(
		ask(w, (struct plug_request){.op = PLUG_HELLO, .slot = PLUG_VERSION}, "", NULL, 0)
			.code,
		0);
	*state = w;
	return 0;
}

static void unload(struct world *w)
{
	if (w->plugin != NULL)
		assert_int_equal(mosquitto_plugin_cleanup(w->plugin, NULL, 0), MOSQ_ERR_SUCCESS);
	w->plugin = NULL;
}

static int teardown(void **state)
{
	struct world *w = *state;

	unload(w);
	assert_int_equal(broker.registered, 0);
	close(w->fd);
	engine_done(&w->e[0]);
	engine_done(&w->e[1]);
	assert_int_equal(rmdir(w->dir), 0); /* the socket is gone */
	free(w);
	return 0;
}

/* ---- the tests ---- */

static void the_version_is_the_one_of_mosquitto_2(void **state)
{
	(void)state;
	assert_int_equal(mosquitto_plugin_version(3, (const int[]){3, 4, 5}), 5);
	assert_int_equal(mosquitto_plugin_version(2, (const int[]){4, 6}), -1);
}

static void what_cannot_work_is_off_and_does_not_stop_the_broker(void **state)
{
	static const struct {
		const char *key, *value;
	} wrong[] = {
		{"sockets", "/tmp/x"},        {"socket", ""},
		{"socket", "/nonexistent/x"}, {"socket", "/dev/null"},
		{"allow", "no such user"},    {"max_payload", "-1"},
		{"max_payload", "1x"},        {"max_result", "99999999999999999999"},
	};
	struct world *w = *state;
	void *second = NULL;
	struct mosquitto_opt good = {(char *)(uintptr_t) "socket", w->path};

	assert_int_equal(load(&good, 1, &second), MOSQ_ERR_SUCCESS);
	assert_null(second);
	assert_non_null(strstr(broker.log, "plugin.off"));
	assert_int_equal(broker.registered, 3);
	assert_int_equal(mosquitto_plugin_cleanup(second, NULL, 0), MOSQ_ERR_SUCCESS);
	unload(w);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct mosquitto_opt o = {(char *)(uintptr_t)wrong[i].key,
					  (char *)(uintptr_t)wrong[i].value};
		void *none = NULL;

		broker.log[0] = '\0';
		assert_int_equal(load(&o, 1, &none), MOSQ_ERR_SUCCESS);
		assert_null(none);
		assert_non_null(strstr(broker.log, "plugin.off"));
	}
	assert_int_equal(broker.registered, 0);
}

static void messages_go_in_results_come_out(void **state)
{
	struct world *w = *state;
	struct tap_rec rec;
	char buf[100];

	add_engine(w, 0);
	message("iottalk/esm/in0", "[1]", 2);
	message("iottalk/esm/other", "[2]", 2);
	message("elsewhere", "[3]", 2);
	tick();
	assert_int_equal(tap_next(w->e[0].tap, &rec, buf, sizeof(buf)), 1);
	assert_true(rec.slot == 1 && rec.qos == 2 && rec.len == 3 && memcmp(buf, "[1]", 3) == 0);
	tap_consume(w->e[0].tap);
	assert_int_equal(tap_next(w->e[0].tap, &rec, buf, sizeof(buf)), 0);
	reply(&w->e[0], "[4]");
	tick();
	assert_string_equal(broker.topic, "iottalk/esm/out0");
	assert_string_equal(broker.payload, "[4]");
	assert_int_equal(broker.qos, 1);
}

static void an_engine_is_woken_at_the_end_of_a_turn_or_when_much_has_come(void **state)
{
	static char large[40000];
	struct world *w = *state;
	char sink[100];

	add_engine(w, 0);
	while (read(w->e[0].pipes[0], sink, sizeof(sink)) > 0)
		continue;
	tap_peer_set_asleep(w->e[0].tap, true);
	message("iottalk/esm/in0", "[1]", 0);
	message("iottalk/esm/in0", "[2]", 0);
	assert_int_equal(read(w->e[0].pipes[0], sink, sizeof(sink)), -1);
	tick();
	assert_int_equal(read(w->e[0].pipes[0], sink, sizeof(sink)), 1);
	memset(large, 'x', sizeof(large) - 1);
	message("iottalk/esm/in0", large, 0);
	assert_int_equal(read(w->e[0].pipes[0], sink, sizeof(sink)), -1);
	message("iottalk/esm/in0", large, 0);
	assert_int_equal(read(w->e[0].pipes[0], sink, sizeof(sink)), 1);
	tap_peer_set_asleep(w->e[0].tap, false);
	tick();
	assert_int_equal(read(w->e[0].pipes[0], sink, sizeof(sink)), -1);
}

/* ---- a broker that waits in an instance of its own, with a listener ---- */

static struct {
	int epoll_fd, listen_fd, client_fd;
} loop;

static int setup_loop(void **state)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(addr);
	struct epoll_event ev = {.events = EPOLLIN};

	loop.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	loop.client_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(loop.listen_fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(getsockname(loop.listen_fd, (struct sockaddr *)&addr, &len), 0);
	assert_int_equal(listen(loop.listen_fd, 1), 0);
	loop.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	assert_int_equal(epoll_ctl(loop.epoll_fd, EPOLL_CTL_ADD, loop.listen_fd, &ev), 0);
	assert_int_equal(connect(loop.client_fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return setup(state);
}

static int teardown_loop(void **state)
{
	close(loop.client_fd);
	close(loop.listen_fd);
	close(loop.epoll_fd);
	return teardown(state);
}

static bool was_woken(const struct engine *e)
{
	char sink[100];

	return read(e->pipes[0], sink, sizeof(sink)) > 0;
}

static void sleep_again(struct engine *e)
{
	while (was_woken(e))
		continue;
	tap_peer_set_asleep(e->tap, true);
}

static void an_engine_sleeps_on_while_the_broker_has_more_to_do(void **state)
{
	struct world *w = *state;
	struct engine *e = &w->e[0];
	unsigned fed = 0, turns = 0;

	add_engine(w, 0);
	sleep_again(e);
	/* quicker than its patience, or not: woken by what has come, or by the time */
	while (!was_woken(e) && fed < 1000) {
		message("iottalk/esm/in0", "[1]", 0);
		fed++;
		tick();
	}
	assert_in_range(fed, 2, 32);
	sleep_again(e);
	message("iottalk/esm/in0", "[1]", 0);
	while (!was_woken(e) && turns < 100000000) { /* never for more than some time */
		turns++;
		tick();
	}
	assert_in_range(turns, 2, 99999999);
	sleep_again(e);
	message("iottalk/esm/in0", "[1]", 0);
	tick();
	assert_false(was_woken(e));
	close(accept(loop.listen_fd, NULL, NULL)); /* nothing is left to do */
	tick();
	assert_true(was_woken(e));
}

/* That would be for the signals of a broker that waits. */
static void a_broker_that_has_more_to_do_does_not_say_that_it_sleeps(void **state)
{
	struct world *w = *state;
	struct engine *e = &w->e[0];

	add_engine(w, 0);
	message("iottalk/esm/in0", "[1]", 0);
	tick();
	assert_false(tap_trusted_sleeps(e->tap));
	reply(e, "[2]");
	tick();
	assert_string_equal(broker.payload, "[2]");
	assert_false(tap_trusted_sleeps(e->tap));
	close(accept(loop.listen_fd, NULL, NULL));
	tick();
	assert_true(tap_trusted_sleeps(e->tap));
}

/* A result that is sent may take the event that announced the next turn with it. */
static void a_broker_that_waits_after_all_is_interrupted(void **state)
{
	struct world *w = *state;
	struct engine *e = &w->e[0];
	struct epoll_event none = {0}, in = {.events = EPOLLIN};

	add_engine(w, 0);
	for (int i = 0; i < 3; i++) {
		sleep_again(e);
		message("iottalk/esm/in0", "[1]", 0);
		tick();
		assert_false(was_woken(e));
		assert_int_equal(epoll_ctl(loop.epoll_fd, EPOLL_CTL_MOD, loop.listen_fd, &none), 0);
		assert_true(interrupted());
		tick();
		assert_true(was_woken(e));
		assert_int_equal(epoll_ctl(loop.epoll_fd, EPOLL_CTL_MOD, loop.listen_fd, &in), 0);
	}
	assert_int_equal(epoll_ctl(loop.epoll_fd, EPOLL_CTL_MOD, loop.listen_fd, &none), 0);
	unsigned more = 0;
	while (interrupted() && more < 10) { /* by what was armed before */
		more++;
		tick();
	}
	assert_in_range(more, 0, 9);
}

/* Somebody else in the broker has a server, too: which of them is mosquitto's? */
static struct {
	int epoll_fd, listen_fd;
} other;

static int setup_two(void **state)
{
	struct epoll_event ev = {.events = EPOLLIN};

	other.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	other.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(listen(other.listen_fd, 1), 0);
	assert_int_equal(epoll_ctl(other.epoll_fd, EPOLL_CTL_ADD, other.listen_fd, &ev), 0);
	return setup_loop(state);
}

static int teardown_two(void **state)
{
	close(other.listen_fd);
	close(other.epoll_fd);
	return teardown_loop(state);
}

static void where_two_listen_each_turn_counts_as_the_last(void **state)
{
	struct world *w = *state;

	add_engine(w, 0);
	sleep_again(&w->e[0]);
	message("iottalk/esm/in0", "[1]", 0);
	tick();
	assert_true(was_woken(&w->e[0]));
}

static void *kick_soon(void *arg)
{
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	kick(arg);
	return NULL;
}

static void a_kick_ends_the_wait(void **state)
{
	struct world *w = *state;
	pthread_t t;

	add_engine(w, 0);
	tick();
	assert_int_equal(pthread_create(&t, NULL, kick_soon, &w->e[0]), 0);
	assert_true(interrupted());
	pthread_join(t, NULL);
	tick();
}

/* The signal comes before the wait, which would sleep on: it is repeated. */
static void a_kick_before_the_wait_ends_it_too(void **state)
{
	struct world *w = *state;

	add_engine(w, 0);
	tick();
	for (int i = 0; i < 20; i++) {
		kick(&w->e[0]);
		assert_true(interrupted());
		tick();
	}
}

static void a_request_ends_the_wait(void **state)
{
	struct world *w = *state;
	const struct plug_request r = {.op = PLUG_STATS, .seq = ++w->seq};
	char packet[5000];

	tick();
	assert_int_equal(send(w->fd, &r, sizeof(r), 0), sizeof(r));
	assert_true(interrupted());
	tick();
	assert_true(recv(w->fd, packet, sizeof(packet), MSG_DONTWAIT) > 0);
}

static void what_is_more_than_a_turn_takes_brings_the_next_turn(void **state)
{
	struct world *w = *state;

	add_engine(w, 0);
	add_engine(w, 1);
	tick();
	for (int i = 0; i < 2000; i++) {
		reply(&w->e[0], "[0]");
		if (i < 300)
			reply(&w->e[1], "[1]");
	}
	tick();
	assert_true(broker.published > 100 && broker.published < 1000);
	assert_in_range(broker.by_port[1], 200, 300); /* the other one does not wait */
	unsigned turns = 1;
	while (broker.published < 2300) {
		assert_true(interrupted());
		tick();
		turns++;
	}
	assert_int_equal(broker.by_port[0], 2000);
	assert_in_range(turns, 3, 20);
}

static void a_broker_without_memory_loses_results_and_says_so(void **state)
{
	struct world *w = *state;
	const struct plug_request r = {.op = PLUG_STATS, .seq = ++w->seq};
	char packet[5000] = "";

	add_engine(w, 0);
	broker.failing = true;
	reply(&w->e[0], "[1]");
	tick();
	broker.failing = false;
	reply(&w->e[0], "[2]");
	tick();
	assert_string_equal(broker.payload, "[2]");
	assert_int_equal(broker.published, 1);
	assert_int_equal(send(w->fd, &r, sizeof(r), 0), sizeof(r));
	while (interrupted()) {
		tick();
		if (recv(w->fd, packet, sizeof(packet) - 1, MSG_DONTWAIT) > 0 &&
		    ((struct plug_answer *)(void *)packet)->op == PLUG_STATS)
			break;
	}
	assert_non_null(strstr(packet + sizeof(struct plug_answer), "\npublish_failed 1\n"));
}

static void after_the_end_nothing_of_it_disturbs_anybody(void **state)
{
	struct world *w = *state;
	struct sigaction sa;

	add_engine(w, 0);
	kick(&w->e[0]); /* on its way when it ends */
	unload(w);
	assert_int_equal(fcntl(w->e[0].pipes[2], F_GETFL) & O_ASYNC, 0);
	kick(&w->e[0]);
	assert_int_equal(sigaction(SIGIO, NULL, &sa), 0);
	assert_ptr_equal(sa.sa_handler, SIG_IGN);
	raise(SIGIO);
	errno = 0;
	assert_int_equal(poll(NULL, 0, 20), 0); /* and no timer runs */
}

static void of_somebody(int signo)
{
	(void)signo;
}

static void a_signal_that_somebody_else_uses_is_left_to_him(void **state)
{
	struct world *w = *state;
	struct sigaction mine = {.sa_handler = of_somebody}, now;
	void *plugin = NULL;
	struct mosquitto_opt good = {(char *)(uintptr_t) "socket", w->path};

	unload(w);
	assert_int_equal(sigaction(SIGIO, &mine, NULL), 0);
	assert_int_equal(load(&good, 1, &plugin), MOSQ_ERR_SUCCESS);
	w->plugin = plugin;
	tick();
	assert_non_null(strstr(broker.log, "plugin.slow"));
	assert_int_equal(sigaction(SIGIO, NULL, &now), 0);
	assert_ptr_equal(now.sa_handler, of_somebody);
	unload(w);
	mine.sa_handler = SIG_DFL;
	sigaction(SIGIO, &mine, NULL);
}

#define TEST(name)      cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_LOOP(name) cmocka_unit_test_setup_teardown(name, setup_loop, teardown_loop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_version_is_the_one_of_mosquitto_2),
		TEST(what_cannot_work_is_off_and_does_not_stop_the_broker),
		TEST(messages_go_in_results_come_out),
		TEST(an_engine_is_woken_at_the_end_of_a_turn_or_when_much_has_come),
		TEST_LOOP(an_engine_sleeps_on_while_the_broker_has_more_to_do),
		TEST_LOOP(a_broker_that_has_more_to_do_does_not_say_that_it_sleeps),
		TEST_LOOP(a_broker_that_waits_after_all_is_interrupted),
		cmocka_unit_test_setup_teardown(where_two_listen_each_turn_counts_as_the_last,
						setup_two, teardown_two),
		TEST(a_kick_ends_the_wait),
		TEST(a_kick_before_the_wait_ends_it_too),
		TEST(a_request_ends_the_wait),
		TEST(what_is_more_than_a_turn_takes_brings_the_next_turn),
		TEST(a_broker_without_memory_loses_results_and_says_so),
		TEST(after_the_end_nothing_of_it_disturbs_anybody),
		TEST(a_signal_that_somebody_else_uses_is_left_to_him),
	};

	return cmocka_run_group_tests_name("plugin", tests, NULL, NULL);
}
