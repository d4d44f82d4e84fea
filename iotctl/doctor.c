#include "iotctl/doctor.h"
#include "common/util.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#define OUTPUT_MAX (256 * 1024)

/* ---- the probe ---- */

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int spawn(const char *program, int out_fd, pid_t *ret_pid, struct err *err)
{
	char *argv[] = {strdup(program), strdup("--probe"), NULL};
	posix_spawn_file_actions_t actions;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	int rc = argv[0] != NULL && argv[1] != NULL
			 ? posix_spawn(ret_pid, program, &actions, NULL, argv, environ)
			 : ENOMEM;
	posix_spawn_file_actions_destroy(&actions);
	free(argv[0]);
	free(argv[1]);
	return rc != 0 ? err_set(err, -rc, "%s: %s", program, strerror(rc)) : 0;
}

int doctor_read(int fd, unsigned timeout_ms, const char *who, char **ret_text, size_t *ret_len,
		struct err *err)
{
	CLEANUP(freep)
	char *buf = malloc(OUTPUT_MAX);
	int64_t deadline = now_ms() + timeout_ms;
	size_t len = 0;

	if (buf == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = deadline - now_ms();
		int rc = poll(&p, 1, left > 0 ? (int)left : 0);

		if (rc < 0 && errno == EINTR)
			continue;
		if (rc <= 0)
			return err_set(err, ERR_TIMEOUT, "the %s does not end", who);
		ssize_t n = read(fd, buf + len, OUTPUT_MAX - len);
		if (n < 0)
			return err_sys(err, "reading what the %s says", who);
		len += (size_t)n;
		if (n == 0) {
			*ret_text = TAKE(buf);
			*ret_len = len;
			return 0;
		}
		if (len == OUTPUT_MAX)
			return err_set(err, ERR_SCHEMA, "the %s says too much", who);
	}
}

/* Every row has the fields that are promised. */
static bool is_sound(json_t *layers)
{
	json_t *row;
	size_t i;

	if (!json_is_array(layers) || json_array_size(layers) == 0)
		return false;
	json_array_foreach (layers, i, row) {
		if (!json_is_string(json_object_get(row, "name")) ||
		    !json_is_boolean(json_object_get(row, "up")) ||
		    !json_is_boolean(json_object_get(row, "core")))
			return false;
	}
	return true;
}

int doctor_probe(const char *program, unsigned timeout_ms, json_t **ret_layers, struct err *err)
{
	CLEANUP(freep)
	char *text = NULL;
	int fds[2], status = 0;
	size_t len = 0;
	pid_t pid = -1;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(err, "pipe");
	CLEANUP(closep)
	int in = fds[0];
	int rc = spawn(program, fds[1], &pid, err);
	close(fds[1]);
	if (rc < 0)
		return rc;
	rc = doctor_read(in, timeout_ms, "probe", &text, &len, err);
	if (rc < 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (rc < 0)
		return rc;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(err, ERR_PEER, "the probe ended with %s %d",
			       WIFEXITED(status) ? "status" : "signal",
			       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	json_auto_t *said = json_loadb(text, len, JSON_DISABLE_EOF_CHECK, NULL);
	json_t *layers = json_object_get(said, "layers");
	if (!is_sound(layers))
		return err_set(err, ERR_SCHEMA, "the probe does not say which layers there are");
	*ret_layers = json_incref(layers);
	return 0;
}

int doctor_socket(const char *path, struct err *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	CLEANUP(closep)
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_sys(err, "socket");
	if (strlen(path) >= sizeof(address.sun_path))
		return err_set(err, ERR_INVAL, "the path of the socket is too long: %s", path);
	memcpy(address.sun_path, path, strlen(path) + 1);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return err_sys(err, "%s", path);
	return 0;
}
