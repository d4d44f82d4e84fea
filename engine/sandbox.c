#include "engine/sandbox.h"

#include "common/log.h"
#include "common/util.h"
#include "engine/sandbox_int.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

/* What no engine may run without, whatever layers it comes from. */
enum promise { NO_PROMISE, NO_CALLS, NO_NETWORK, NO_FILES, PROMISES };

static const char *const promise_kinds[] = {
	[NO_PROMISE] = "",
	[NO_CALLS] = "calls",
	[NO_NETWORK] = "net",
	[NO_FILES] = "files",
};

static const char *const promise_texts[] = {
	[NO_CALLS] = "a list of allowed system calls",
	[NO_NETWORK] = "no network",
	[NO_FILES] = "no files",
};

#define REMEDY_NS                                                                              \
	"let unprivileged users make namespaces (sysctl user.max_user_namespaces, "            \
	"kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns), or " \
	"give the service CAP_SYS_ADMIN; in a container: allow unshare and mount in its "      \
	"profile; in a chroot: start as root"
#define REMEDY_SECCOMP "use a kernel with CONFIG_SECCOMP_FILTER"
#define REMEDY_REPORT  "this works on every kernel that is supported; please report it"

static const struct layer {
	const char *name;
	enum sandbox_phase phase;
	enum promise promise;
	sandbox_up_fn *up;
	const char *remedy;
} layers[] = {
	/* the order in which they go up: the user namespace gives what the next ones need, what
	 * takes rights away comes after them */
	{"user", SANDBOX_START, NO_PROMISE, sandbox_user,
	 "start the suite as a user other than root, or let root change its user (CAP_SETUID, "
	 "CAP_SETGID)"},
	{"userns", SANDBOX_START, NO_PROMISE, sandbox_userns, REMEDY_NS},
	{"mountns", SANDBOX_START, NO_FILES, sandbox_mountns, REMEDY_NS},
	{"netns", SANDBOX_START, NO_NETWORK, sandbox_netns, REMEDY_NS},
	{"ipcns", SANDBOX_START, NO_PROMISE, sandbox_ipcns, REMEDY_NS},
	{"pidns", SANDBOX_START, NO_PROMISE, sandbox_pidns, REMEDY_NS},
	{"no_new_privs", SANDBOX_KEEPER, NO_PROMISE, sandbox_no_new_privs, REMEDY_REPORT},
	{"capabilities", SANDBOX_KEEPER, NO_PROMISE, sandbox_capabilities, REMEDY_REPORT},
	{"dumpable", SANDBOX_KEEPER, NO_PROMISE, sandbox_dumpable, REMEDY_REPORT},
	{"landlock", SANDBOX_KEEPER, NO_FILES, sandbox_landlock,
	 "use a kernel with CONFIG_SECURITY_LANDLOCK, and landlock in its list of security modules "
	 "(lsm=)"},
	{"calls", SANDBOX_KEEPER, NO_PROMISE, sandbox_calls, REMEDY_SECCOMP},
	{"descriptors", SANDBOX_ENGINE, NO_PROMISE, sandbox_descriptors, "use Linux 5.9 or later"},
	{"limits", SANDBOX_ENGINE, NO_PROMISE, sandbox_limits, "raise [engine] memory-mb"},
	{"seccomp", SANDBOX_ENGINE, NO_CALLS, sandbox_seccomp, REMEDY_SECCOMP},
};

#define LAYERS ARRAY_LEN(layers)

struct sandbox_state {
	bool wanted, up;
	char why[SANDBOX_NOTE_MAX]; /* not up: why; up: how, or nothing */
};

/* ---- before all ---- */

int sandbox_tidy(int but, struct err *err)
{
	CLEANUP(closep)
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0)
		return err_sys(err, "/dev/null");
	closep(&null);
	bool keep = but > STDERR_FILENO;
	if ((keep && but > STDERR_FILENO + 1 &&
	     close_range(STDERR_FILENO + 1, (unsigned)but - 1, 0) < 0) ||
	    close_range(keep ? (unsigned)but + 1 : STDERR_FILENO + 1, ~0u, 0) < 0)
		return err_sys(err, "closing descriptors");
	/* with TZ set the C library never looks at its file again, which it could not open later */
	const char *given = getenv("TZ");
	CLEANUP(freep)
	char *tz = strdup(given != NULL ? given : ":/etc/localtime");
	if (tz == NULL || clearenv() != 0 || setenv("TZ", tz, 1) < 0 ||
	    setenv("OPENBLAS_NUM_THREADS", "1", 1) < 0) /* a fork has one thread */
		return err_set(err, ERR_NOMEM, "clearing the environment");
	tzset();
	return 0;
}

static bool listed(const char *list, const char *name)
{
	size_t len = strlen(name);
	if (strcmp(list, "all") == 0)
		return true;
	for (const char *at = list; at != NULL && *at != '\0';) {
		const char *end = strchrnul(at, ',');
		if ((size_t)(end - at) == len && memcmp(at, name, len) == 0)
			return true;
		at = *end == ',' ? end + 1 : NULL;
	}
	return false;
}

int sandbox_new(const struct sandbox_conf *conf, struct sandbox **ret, struct err *err)
{
	struct sandbox *s = calloc(1, sizeof(*s));
	if (s == NULL)
		return err_set(err, ERR_NOMEM, "sandbox");
	s->memory_bytes = conf->memory_bytes;
	s->states = calloc(LAYERS, sizeof(*s->states));
	if (s->states == NULL) {
		sandbox_free(s);
		return err_set(err, ERR_NOMEM, "sandbox");
	}
	for (size_t i = 0; i < LAYERS; i++) {
		s->states[i].wanted = listed(conf->layers, layers[i].name);
		snprintf(s->states[i].why, sizeof(s->states[i].why), "switched off");
	}
	int rc = sandbox_calls_prepare(s, err);
	if (rc < 0) {
		sandbox_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

struct sandbox *sandbox_free(struct sandbox *s)
{
	if (s == NULL)
		return NULL;
	free(s->states);
	sandbox_calls_done(s);
	free(s);
	return NULL;
}

/* ---- going in ---- */

static void put_up(struct sandbox *s, size_t i)
{
	struct sandbox_state *state = &s->states[i];
	struct err err = {0};
	s->note[0] = '\0';
	state->up = layers[i].up(s, &err) == 0;
	snprintf(state->why, sizeof(state->why), "%.150s", state->up ? s->note : err.text);
}

void sandbox_enter(struct sandbox *s, enum sandbox_phase phase)
{
	for (size_t i = 0; i < LAYERS; i++)
		if (layers[i].phase == phase && s->states[i].wanted)
			put_up(s, i);
}

/* Run fn in a fork, and take over what it finds out. The memory for that is shared for as long as
 * this takes, and with no engine. */
static int in_fork(struct sandbox *s, int (*fn)(struct sandbox *s), struct err *err)
{
	const size_t bytes = LAYERS * sizeof(*s->states);
	int status = 0;
	struct sandbox_state *shared =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return err_sys(err, "trying the sandbox");
	memcpy(shared, s->states, bytes);
	pid_t pid = fork();
	if (pid == 0) {
		s->states = shared;
		_exit(fn(s));
	}
	int rc = pid < 0 || waitpid(pid, &status, 0) < 0 ? err_sys(err, "trying the sandbox") : 0;
	if (rc == 0 && status != 0)
		rc = err_set(err, ERR_SYS, "trying the sandbox: a fork ended with status %#x",
			     (unsigned)status);
	memcpy(s->states, shared, bytes);
	munmap(shared, bytes);
	return rc;
}

static int try_engine(struct sandbox *s)
{
	sandbox_enter(s, SANDBOX_ENGINE);
	return 0;
}

int sandbox_try(struct sandbox *s, struct err *err)
{
	int rc = in_fork(s, try_engine, err);
	for (size_t i = 0; rc == 0 && i < LAYERS; i++)
		if (layers[i].up == sandbox_limits && s->states[i].wanted && !s->states[i].up)
			rc = err_set(err, ERR_LIMIT, "%s", s->states[i].why);
	return rc;
}

int sandbox_lock(struct sandbox *s, struct err *err)
{
	for (size_t i = 0; i < LAYERS; i++) {
		if (layers[i].phase != SANDBOX_ENGINE || !s->states[i].up)
			continue;
		int rc = layers[i].up(s, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- what came of it ---- */

static bool kept(const struct sandbox *s, enum promise p)
{
	for (size_t i = 0; i < LAYERS; i++)
		if (layers[i].promise == p && s->states[i].up)
			return true;
	return false;
}

int sandbox_verdict(const struct sandbox *s, struct err *err)
{
	for (int p = NO_PROMISE + 1; p < PROMISES; p++) {
		if (kept(s, (enum promise)p))
			continue;
		size_t i = 0;
		while (layers[i].promise != (enum promise)p)
			i++;
		return err_set(
			err, ERR_ACCES,
			"the sandbox cannot promise \"%s\": layer %s: %s. Remedy: %s; or set "
			"[engine] sandbox = degraded to go on without",
			promise_texts[p], layers[i].name, s->states[i].why, layers[i].remedy);
	}
	return 0;
}

/* A layer whose promise another one keeps may be missing. */
static bool is_core(const struct sandbox *s, size_t i)
{
	enum promise p = layers[i].promise;
	return p != NO_PROMISE && (s->states[i].up || !kept(s, p));
}

void sandbox_warn(const struct sandbox *s)
{
	for (size_t i = 0; i < LAYERS; i++)
		if (!s->states[i].up)
			log_warn("sandbox.missing", KV("layer", layers[i].name),
				 KV("core", is_core(s, i)), KV("why", s->states[i].why),
				 KV("remedy", layers[i].remedy));
}

json_t *sandbox_report(const struct sandbox *s)
{
	json_t *list = json_array();
	for (size_t i = 0; i < LAYERS; i++) {
		const struct sandbox_state *state = &s->states[i];
		json_t *row = json_pack("{s:s, s:b, s:b, s:s, s:s, s:s}", "name", layers[i].name,
					"up", state->up, "core", is_core(s, i),
					"kind", promise_kinds[layers[i].promise], "why", state->why,
					"remedy", state->up ? "" : layers[i].remedy);
		if (json_array_append_new(list, row) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static int try_all(struct sandbox *s)
{
	int status = 0;
	sandbox_enter(s, SANDBOX_START);
	pid_t pid = fork(); /* the new pid namespace begins here */
	if (pid == 0) {
		sandbox_enter(s, SANDBOX_KEEPER);
		return try_engine(s);
	}
	return pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0;
}

json_t *sandbox_probe(size_t memory_bytes, struct err *err)
{
	const struct sandbox_conf conf = {.layers = "all", .memory_bytes = memory_bytes};
	struct sandbox *s = NULL;
	json_t *report = NULL;
	if (sandbox_new(&conf, &s, err) < 0 || s == NULL)
		return NULL;
	if (in_fork(s, try_all, err) == 0 && (report = sandbox_report(s)) == NULL)
		err_set(err, ERR_NOMEM, "out of memory for the report");
	sandbox_free(s);
	return report;
}
