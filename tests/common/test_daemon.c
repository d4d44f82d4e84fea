/* test_daemon.c - what a daemon tells its supervisor: the test listens where one would. */
#include "common/daemon.h"
#include "common/log.h"
#include "common/util.h"
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#define LIMIT_MS 5000

struct world {
	char dir[64], path[96];
	int fd; /* the supervisor's */
	struct loop *loop;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct err err;

	assert_non_null(w);
	strcpy(w->dir, P_tmpdir "/test_daemon.XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof(w->path), "%s/notify", w->dir);
	strcpy(addr.sun_path, w->path);
	w->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(w->fd >= 0);
	assert_int_equal(bind(w->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(loop_new(&w->loop, &err), 0);
	setenv("NOTIFY_SOCKET", w->path, 1);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	loop_free(w->loop);
	closep(&w->fd);
	unlink(w->path);
	rmdir(w->dir);
	free(w);
	return 0;
}

/* What was told since; empty: nothing. */
static const char *told(const struct world *w, char buf[1024])
{
	ssize_t n = recv(w->fd, buf, 1023, 0);

	buf[n > 0 ? n : 0] = '\0';
	return buf;
}

static void notices_are_the_protocols(void **state)
{
	struct world *w = *state;
	char buf[1024], many[1000];

	daemon_notify_ready();
	assert_string_equal(told(w, buf), "READY=1");
	daemon_notify_status("one\ntwo");
	assert_string_equal(told(w, buf), "STATUS=one two");
	memset(many, 'x', sizeof(many));
	many[sizeof(many) - 1] = '\0';
	daemon_notify_status(many);
	assert_int_equal(strlen(told(w, buf)), 299);
	unsetenv("NOTIFY_SOCKET");
	daemon_notify_ready();
	setenv("NOTIFY_SOCKET", "relative", 1);
	daemon_notify_ready();
	assert_string_equal(told(w, buf), "");
}

static void abstract_addresses_are_understood(void **state)
{
	const struct world *w = *state;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char name[100], buf[1024];

	snprintf(name, sizeof(name), "@%s", w->path);
	memcpy(addr.sun_path + 1, w->path, strlen(w->path));
	CLEANUP(closep)
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&addr,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
			 0);
	setenv("NOTIFY_SOCKET", name, 1);
	daemon_notify_ready();
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), 7);
}

/* A supervisor that is stopped, or gone, is not waited for. */
static void nobody_is_waited_for(void **state)
{
	struct world *w = *state;
	char buf[1024];

	for (int i = 0; i < 2000; i++)
		daemon_notify("WATCHDOG=1");
	assert_string_equal(told(w, buf), "WATCHDOG=1");
	closep(&w->fd);
	daemon_notify("WATCHDOG=1");
	unlink(w->path);
	daemon_notify("WATCHDOG=1");
}

static void signs_of_life_come_from_the_loop(void **state)
{
	struct world *w = *state;
	struct pollfd p = {.fd = w->fd, .events = POLLIN};
	char pid[24], buf[1024];
	struct err err;

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("WATCHDOG_PID", pid, 1);
	setenv("WATCHDOG_USEC", "40000", 1);
	assert_int_equal(daemon_watch(w->loop, &err), 0);
	int64_t began_ms = loop_now_ms(w->loop);

	for (int signs = 0; signs < 4;) {
		loop_turn(w->loop, LIMIT_MS);
		signs += strcmp(told(w, buf), "WATCHDOG=1") == 0;
	}
	assert_true(loop_now_ms(w->loop) - began_ms >=
		    3 * 20); /* at once, then every half interval */
	/* no turn, no sign */
	assert_int_equal(poll(&p, 1, 100), 0);
}

static void no_signs_where_none_are_wanted(void **state)
{
	static const struct {
		const char *why, *usec, *pid;
	} cases[] = {
		{"no interval", NULL, NULL},
		{"empty", "", NULL},
		{"no number", "10x", NULL},
		{"negative", "-1000", NULL},
		{"zero", "0", NULL},
		{"too large", "99999999999999999999", NULL},
		{"somebody else's", "2000", "1"},
		{"nobody's", "2000", ""},
	};
	struct world *w = *state;
	char buf[1024];
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		unsetenv("WATCHDOG_USEC");
		unsetenv("WATCHDOG_PID");
		if (cases[i].usec != NULL)
			setenv("WATCHDOG_USEC", cases[i].usec, 1);
		if (cases[i].pid != NULL)
			setenv("WATCHDOG_PID", cases[i].pid, 1);
		assert_int_equal(daemon_watch(w->loop, &err), 0);
		loop_turn(w->loop, 5);
		if (told(w, buf)[0] != '\0')
			fail_msg("%s: it told %s", cases[i].why, buf);
	}
	/* the shortest one is not none */
	unsetenv("WATCHDOG_PID");
	setenv("WATCHDOG_USEC", "1", 1);
	assert_int_equal(daemon_watch(w->loop, &err), 0);
	loop_turn(w->loop, LIMIT_MS);
	assert_string_equal(told(w, buf), "WATCHDOG=1");
}

static void the_end_is_told(void **state)
{
	struct world *w = *state;
	char buf[1024];
	struct err err;

	assert_int_equal(daemon_handle_stop(w->loop, &err), 0);
	assert_int_equal(raise(SIGTERM), 0); /* blocked: the loop takes it */
	assert_int_equal(loop_run(w->loop), 0);
	assert_string_equal(told(w, buf), "STOPPING=1");
}

int main(void)
{
	daemon_block_signals();
	log_init("test", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		IN_WORLD(notices_are_the_protocols),
		IN_WORLD(abstract_addresses_are_understood),
		IN_WORLD(nobody_is_waited_for),
		IN_WORLD(signs_of_life_come_from_the_loop),
		IN_WORLD(no_signs_where_none_are_wanted),
		IN_WORLD(the_end_is_told),
	};
	return cmocka_run_group_tests_name("daemon", tests, NULL, NULL);
}
