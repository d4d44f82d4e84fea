/* ctl_client.c - asking a daemon over its control socket. */
#include "common/ctl.h"
#include "common/ctl_addr.h"
#include "common/util.h"
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define ANSWER_MAX_BYTES (128 * 1024 * 1024)

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ret: 0 when fd is ready for events, or ERR_TIMEOUT */
static int wait_for(int fd, short events, int64_t deadline_ms)
{
	struct pollfd p = {.fd = fd, .events = events};

	for (;;) {
		int64_t left = deadline_ms - now_ms();
		int n = left > 0 ? poll(&p, 1, left > INT_MAX ? INT_MAX : (int)left) : 0;

		if (n > 0)
			return 0;
		if (n == 0 || errno != EINTR)
			return ERR_TIMEOUT;
	}
}

static int send_all(int fd, const char *data, size_t len, int64_t deadline_ms, struct err *err)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0) {
			data += n;
			len -= (size_t)n;
		} else if (errno == EAGAIN) {
			if (wait_for(fd, POLLOUT, deadline_ms) < 0)
				return err_set(err, ERR_TIMEOUT, "nobody reads the request");
		} else if (errno != EINTR) {
			return err_set(err, ERR_PEER, "the daemon hung up");
		}
	}
	return 0;
}

static int receive_line(int fd, char **ret, size_t *ret_len, int64_t deadline_ms, struct err *err)
{
	CLEANUP(freep)
	char *buf = NULL;
	size_t len = 0, cap = 0;

	for (;;) {
		if (cap - len < 4096) {
			cap = cap == 0 ? 8192 : cap * 2;
			char *more = cap <= ANSWER_MAX_BYTES ? realloc(buf, cap) : NULL;

			if (more == NULL)
				return err_set(err, ERR_NOMEM, "the answer is too long");
			buf = more;
		}
		if (wait_for(fd, POLLIN, deadline_ms) < 0)
			return err_set(err, ERR_TIMEOUT, "no answer in time");
		ssize_t n = recv(fd, buf + len, cap - len, MSG_DONTWAIT);

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return err_set(err, ERR_PEER, "the daemon hung up");
		char *end = memchr(buf + len, '\n', (size_t)n);

		len += (size_t)n;
		if (end != NULL) {
			*ret_len = (size_t)(end - buf);
			*ret = TAKE(buf);
			return 0;
		}
	}
}

static int connect_to(const char *path, struct err *err)
{
	struct sockaddr_un addr;
	CLEANUP(closep)
	int dir_fd = ctl_address(path, &addr, err);

	if (dir_fd < 0)
		return dir_fd;
	CLEANUP(closep)
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_sys(err, "control socket");
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return errno == ENOENT || errno == ECONNREFUSED
			       ? err_set(err, ERR_NOENT, "nobody listens at '%s'", path)
			       : err_sys(err, "control socket '%s'", path);
	return TAKE_FD(fd);
}

int ctl_exchange(const char *path, json_t *request, int timeout_ms, json_t **ret_answer,
		 struct err *err)
{
	int64_t deadline_ms = now_ms() + timeout_ms;
	CLEANUP(closep)
	int fd = connect_to(path, err);
	CLEANUP(freep)
	char *text = json_dumps(request, JSON_COMPACT);
	CLEANUP(freep)
	char *line = NULL;
	size_t len = 0;
	json_error_t why;

	if (fd < 0)
		return fd;
	if (text == NULL)
		return err_set(err, ERR_NOMEM, "request");
	if (strlen(text) >= CTL_LINE_MAX)
		return err_set(err, ERR_LIMIT, "the request has more than %d MiB",
			       CTL_LINE_MAX >> 20);
	int rc = send_all(fd, text, strlen(text), deadline_ms, err);

	if (rc == 0)
		rc = send_all(fd, "\n", 1, deadline_ms, err);
	if (rc == 0)
		rc = receive_line(fd, &line, &len, deadline_ms, err);
	if (rc < 0)
		return rc;
	json_auto_t *answer = json_loadb(line, len, 0, &why);

	if (!json_is_object(answer))
		return err_set(err, ERR_PARSE, "the answer is not a JSON object");
	*ret_answer = TAKE(answer);
	return 0;
}

int ctl_request(const char *path, json_t *request, int timeout_ms, json_t **ret_answer,
		struct err *err)
{
	json_auto_t *answer = NULL;
	int rc = ctl_exchange(path, request, timeout_ms, &answer, err);
	const char *state = json_string_value(json_object_get(answer, "state"));

	if (rc < 0)
		return rc;
	if (state != NULL && strcmp(state, "error") == 0) {
		const char *reason = json_string_value(json_object_get(answer, "reason"));

		return err_set(err, ERR_PEER, "%s", reason != NULL ? reason : "no reason given");
	}
	*ret_answer = TAKE(answer);
	return 0;
}
