/* real_broker.h - a mosquitto of a test's own, and a client that notes what others publish. */
#pragma once

#include "common/bus.h"
#include "common/util.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#define WAIT_MS 15000

struct broker {
	char dir[64];
	unsigned port;
	pid_t pid; /* 0: not running */
};

static unsigned free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof(a);
	CLEANUP(closep)
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	return ntohs(a.sin_port);
}

static void write_text(const char *dir, const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

/* It keeps nothing over a restart. more: lines of its configuration. */
static void broker_init(struct broker *b, const char *more)
{
	char text[1024];

	memset(b, 0, sizeof(*b));
	snprintf(b->dir, sizeof(b->dir), "/tmp/test_devices.XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	b->port = free_port();
	snprintf(text, sizeof(text),
		 "listener %u 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest stderr\n"
		 "persistence false\nset_tcp_nodelay true\nmax_queued_messages 0\n"
		 "max_inflight_messages 0\n%s",
		 b->port, more);
	write_text(b->dir, "conf", text);
}

static void broker_start(struct broker *b)
{
	char conf[128], line[512];
	int out[2];

	snprintf(conf, sizeof(conf), "%s/conf", b->dir);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	b->pid = fork();
	assert_true(b->pid >= 0);
	if (b->pid == 0) {
		dup2(out[1], 1);
		dup2(out[1], 2);
		execlp("mosquitto", "mosquitto", "-c", conf, NULL);
		execl("/usr/sbin/mosquitto", "mosquitto", "-c", conf, NULL);
		_exit(127);
	}
	close(out[1]);
	FILE *f = fdopen(out[0], "r");
	bool running = false;

	while (!running && fgets(line, sizeof(line), f) != NULL)
		running = strstr(line, " running") != NULL;
	if (!running)
		fail_msg("mosquitto did not start");
	/* nobody reads on: a broker that writes later gets EPIPE, which it ignores */
	fclose(f);
}

static void broker_kill(struct broker *b)
{
	if (b->pid == 0)
		return;
	kill(b->pid, SIGKILL);
	assert_int_equal(waitpid(b->pid, NULL, 0), b->pid);
	b->pid = 0;
}

static void broker_done(struct broker *b)
{
	static const char *const names[] = {
		"conf", "acl", "devices.json", "devices.db", "devices.db-wal", "devices.db-shm"};
	char path[128];

	broker_kill(b);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", b->dir, names[i]);
		unlink(path);
	}
	rmdir(b->dir);
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

static int64_t clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Turn the loop until it is so. */
#define AWAIT(loop, condition)                                                 \
	do {                                                                   \
		int64_t end_ = clock_ms() + WAIT_MS;                           \
		while (!(condition)) {                                         \
			if (clock_ms() > end_)                                 \
				fail_msg("waited in vain for %s", #condition); \
			loop_turn((loop), 10);                                 \
		}                                                              \
	} while (0)

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
