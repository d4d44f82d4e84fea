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

/* All that comes until the end. buf: of OUTPUT_MAX bytes. */
static int read_all(int fd, int64_t deadline, char *buf, size_t *ret_len, struct err *err)
{
	size_t len = 0;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = deadline - now_ms();
		int rc = poll(&p, 1, left > 0 ? (int)left : 0);

		if (rc < 0 && errno == EINTR)
			continue;
		if (rc <= 0)
			return err_set(err, ERR_TIMEOUT, "the probe does not end");
		ssize_t n = read(fd, buf + len, OUTPUT_MAX - len);
		if (n < 0)
			return err_sys(err, "reading what the probe says");
		len += (size_t)n;
		if (n == 0) {
			*ret_len = len;
			return 0;
		}
		if (len == OUTPUT_MAX)
			return err_set(err, ERR_SCHEMA, "the probe says too much");
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
	char *text = malloc(OUTPUT_MAX);
	int64_t deadline = now_ms() + timeout_ms;
	int fds[2], status = 0;
	size_t len = 0;
	pid_t pid = -1;

	if (text == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(err, "pipe");
	CLEANUP(closep)
	int in = fds[0];
	int rc = spawn(program, fds[1], &pid, err);
	close(fds[1]);
	if (rc < 0)
		return rc;
	rc = read_all(in, deadline, text, &len, err);
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

/* ---- the report ---- */

json_t *doctor_new(bool degraded)
{
	return json_pack("{s:b, s:s, s:[], s:[]}", "ok", 1, "sandbox",
			 degraded ? "degraded" : "strict", "layers", "checks");
}

static bool is_degraded(const json_t *report)
{
	return strcmp(json_string_value(json_object_get(report, "sandbox")), "degraded") == 0;
}

static void spoil(json_t *report)
{
	json_object_set_new(report, "ok", json_false());
}

/* A core layer, of whose kind there is none: the keeper asks for one of each. */
static bool is_lacking(json_t *layers, const json_t *layer)
{
	const char *kind = json_string_value(json_object_get(layer, "kind"));
	json_t *row;
	size_t i;

	if (json_is_false(json_object_get(layer, "core")) ||
	    json_is_true(json_object_get(layer, "up")))
		return false;
	json_array_foreach (layers, i, row) {
		const char *other = json_string_value(json_object_get(row, "kind"));

		if (json_is_true(json_object_get(row, "up")) && kind != NULL && other != NULL &&
		    strcmp(kind, other) == 0)
			return false;
	}
	return true;
}

void doctor_add_layers(json_t *report, json_t *layers, const char *why)
{
	json_t *row;
	size_t i;

	if (layers == NULL) {
		doctor_add(report, "sandbox probe", false, true, why,
			   "build and install iottalk-engine beside iotctl");
		return;
	}
	json_object_set(report, "layers", layers);
	json_array_foreach (layers, i, row) {
		if (is_lacking(layers, row) && !is_degraded(report))
			spoil(report);
	}
}

void doctor_add(json_t *report, const char *name, bool ok, bool needed, const char *why,
		const char *remedy)
{
	json_array_append_new(json_object_get(report, "checks"),
			      json_pack("{s:s, s:b, s:b, s:s?, s:s?}", "name", name, "ok", ok,
					"needed", needed, "why", why, "remedy", remedy));
	if (needed && !ok)
		spoil(report);
}

bool doctor_ok(const json_t *report)
{
	return json_is_true(json_object_get(report, "ok"));
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text != NULL ? text : "";
}

/* told: the remedy that was printed last; many layers have the same one. */
static void print_words(const json_t *row, const char **told)
{
	const char *remedy = text_of(row, "remedy");

	if (text_of(row, "why")[0] != '\0')
		printf("    %s\n", text_of(row, "why"));
	if (remedy[0] == '\0')
		return;
	printf("    remedy: %s\n", strcmp(remedy, *told) != 0 ? remedy : "the same");
	*told = remedy;
}

void doctor_print(const json_t *report)
{
	json_t *layers = json_object_get(report, "layers"), *row;
	const char *told = "";
	bool missing = false;
	size_t i;

	puts("sandbox");
	json_array_foreach (layers, i, row) {
		bool up = json_is_true(json_object_get(row, "up"));
		bool core = json_is_true(json_object_get(row, "core"));

		printf("  %-20s %-8s %s%s%s\n", text_of(row, "name"), up ? "up" : "missing",
		       core ? "core" : "", core && text_of(row, "kind")[0] != '\0' ? ": " : "",
		       core ? text_of(row, "kind") : "");
		if (!up)
			print_words(row, &told);
		missing = missing || is_lacking(layers, row);
	}
	if (missing && is_degraded(report))
		puts("  warning: [engine] sandbox = degraded lets functions run without what is "
		     "missing");
	else if (missing)
		puts("  no engine starts without one core layer of each kind; [engine] sandbox = "
		     "degraded allows it");
	puts("data path");
	json_array_foreach (json_object_get(report, "checks"), i, row) {
		printf("  %-20s %s\n", text_of(row, "name"),
		       json_is_true(json_object_get(row, "ok"))       ? "ok"
		       : json_is_true(json_object_get(row, "needed")) ? "missing"
								      : "not in use");
		print_words(row, &told);
	}
}
