/* mosquitto.h - a mosquitto of a test's own, on a port of its own, with its files in a folder that goes with it. */
#pragma once

#include "common/util.h"
#include "tests/common/free_port.h"
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct broker {
	char dir[64];
	unsigned port;
	pid_t pid; /* 0: not running */
};

static MAYBE_UNUSED void broker_write(const struct broker *b, const char *name, const char *text)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", b->dir, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

/* A folder, a port and a configuration; more: further lines of it. */
static MAYBE_UNUSED void broker_make(struct broker *b, const char *more)
{
	char text[1024];
	memset(b, 0, sizeof(*b));
	snprintf(b->dir, sizeof(b->dir), P_tmpdir "/test_mosquitto.XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	b->port = free_port();
	snprintf(text, sizeof(text),
		 "listener %u 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest stderr\npersistence_location %s/\n"
		 "set_tcp_nodelay true\nmax_queued_messages 0\nmax_inflight_messages 0\n%s",
		 b->port, b->dir, more);
	broker_write(b, "conf", text);
}

static MAYBE_UNUSED void broker_start(struct broker *b)
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

static MAYBE_UNUSED void broker_signal(struct broker *b, int signo)
{
	if (b->pid == 0)
		return;
	kill(b->pid, signo);
	assert_int_equal(waitpid(b->pid, NULL, 0), b->pid);
	b->pid = 0;
}

static MAYBE_UNUSED void broker_done(struct broker *b)
{
	broker_signal(b, SIGKILL);
	DIR *d = opendir(b->dir);
	for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
		char path[512];
		snprintf(path, sizeof(path), "%s/%s", b->dir, e->d_name);
		unlink(path);
	}
	if (d != NULL)
		closedir(d);
	rmdir(b->dir);
}
