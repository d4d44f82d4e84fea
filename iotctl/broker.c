/* broker.c - the broker: one that is there already, or one that iotctl runs. */
#include "iotctl/broker.h"
#include "common/log.h"
#include "common/util.h"
#include "iotctl/broker_plugin.h"
#include "iotctl/mqtt.h"
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <sodium.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PROBE_MS          2000
#define USER_FOR_ROOT     "iottalk"
#define DATA_DIR_FOR_ROOT "/var/lib/iottalk"
#define QUEUED_MESSAGES   100000
#define AUTOSAVE_S        5 /* what a kill -9 of the broker may lose */

int broker_probe(const struct settings *s, int timeout_ms, struct err *err)
{
	char why[400];

	if (probe_mqtt(s->core_mqtt.host, (unsigned)s->core_mqtt.port, timeout_ms, why,
		       sizeof(why)) != PROBE_ANSWERS)
		return err_set(err, ERR_AGAIN, "MQTT: %s", why);
	if (probe_websocket(s->core_ws.host, (unsigned)s->core_ws.port, timeout_ms, why,
			    sizeof(why)) != PROBE_ANSWERS)
		return err_set(err, ERR_AGAIN, "WebSocket: %s", why);
	return 0;
}

/* ---- programs and users ---- */

static char *find_in(const char *dirs, const char *name)
{
	while (*dirs != '\0') {
		size_t len = strcspn(dirs, ":");
		char path[PATH_MAX];

		if (len > 0 &&
		    snprintf(path, sizeof(path), "%.*s/%s", (int)len, dirs, name) <
			    (int)sizeof(path) &&
		    access(path, X_OK) == 0)
			return strdup(path);
		dirs += len + (dirs[len] == ':');
	}
	return NULL;
}

static int find_program(const char *name, char **ret, struct err *err)
{
	const char *path = getenv("PATH");

	if (strchr(name, '/') != NULL)
		*ret = access(name, X_OK) == 0 ? strdup(name) : NULL;
	else if ((*ret = find_in(path != NULL ? path : "", name)) == NULL)
		*ret = find_in("/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin", name);
	if (*ret == NULL)
		return err_set(
			err, ERR_NOENT,
			"the broker's program '%s' is not there: install the package mosquitto, "
			"or set [broker] program",
			name);
	return 0;
}

static int run(char *const argv[], struct err *err)
{
	pid_t pid;
	int status;
	int rc = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);

	if (rc != 0)
		return err_set(err, ERR_SYS, "%s: %s", argv[0], strerror(rc));
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return err_sys(err, "%s", argv[0]);
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(err, ERR_SYS, "%s failed (status %d)", argv[0], status);
	return 0;
}

struct user {
	char name[64];
	uid_t uid;
	gid_t gid;
};

/* ret: 1 found, 0 no such user, negative error */
static int lookup(struct passwd *pw, char *buf, size_t cap, const char *name, struct err *err)
{
	struct passwd *found = NULL;
	int rc = name != NULL ? getpwnam_r(name, pw, buf, cap, &found)
			      : getpwuid_r(geteuid(), pw, buf, cap, &found);

	if (rc != 0)
		return err_set(err, ERR_SYS, "user database: %s", strerror(rc));
	return found != NULL;
}

/* The user the broker runs as: ours, or for root a system user, made if it is missing. */
static int broker_user(struct user *ret, struct err *err)
{
	const char *name = geteuid() == 0 ? USER_FOR_ROOT : NULL;
	char buf[16384];
	struct passwd pw;
	int rc = lookup(&pw, buf, sizeof(buf), name, err);

	if (rc == 0 && name != NULL) {
		char *argv[] = {"/usr/sbin/useradd", "--system",
				"--user-group",      "--no-create-home",
				"--home-dir",        "/nonexistent",
				"--shell",           "/usr/sbin/nologin",
				USER_FOR_ROOT,       NULL};
		struct err ignored;

		log_info("broker.user_added", KV("user", USER_FOR_ROOT));
		rc = run(argv, err);
		/* Somebody else may have been faster: what counts is that the user is there now. */
		if (rc == 0 || lookup(&pw, buf, sizeof(buf), name, &ignored) == 1)
			rc = lookup(&pw, buf, sizeof(buf), name, err);
	}
	if (rc < 0)
		return rc;
	if (rc == 0)
		return err_set(err, ERR_NOENT, "user %s is not in the user database",
			       name != NULL ? name : "running this");
	if (snprintf(ret->name, sizeof(ret->name), "%s", pw.pw_name) >= (int)sizeof(ret->name))
		return err_set(err, ERR_RANGE, "user name too long");
	ret->uid = pw.pw_uid;
	ret->gid = pw.pw_gid;
	return 0;
}

/* ---- where a managed broker keeps its data ---- */

static int make_dir_for(const char *path, const struct user *u, mode_t mode, struct err *err)
{
	struct stat st;

	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return err_sys(err, "cannot make directory '%s'", path);
	if (lstat(path, &st) < 0)
		return err_sys(err, "directory '%s'", path);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ERR_INVAL, "'%s' is not a directory", path);
	if (u != NULL && (st.st_uid != u->uid || st.st_gid != u->gid) &&
	    lchown(path, u->uid, u->gid) < 0)
		return err_sys(err, "cannot give '%s' to user %s", path, u->name);
	return 0;
}

/* Whether u has these rights to path, asked as u: only the kernel knows about all directories above
 * it. */
static bool allowed(const char *path, int rights, const struct user *u)
{
	int status = -1;

	if (u->uid == geteuid())
		return access(path, rights) == 0;
	pid_t pid = fork();

	if (pid == 0) {
		bool ok = setgroups(0, NULL) == 0 && setgid(u->gid) == 0 && setuid(u->uid) == 0 &&
			  access(path, rights) == 0;
		_exit(ok ? 0 : 1);
	}
	if (pid < 0)
		return false;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool reachable_by(const char *dir, const struct user *u)
{
	return allowed(dir, R_OK | W_OK | X_OK, u);
}

/* Below userdir if the broker's user gets there; else (userdir is 0700, its owner root) in the
 * system's place for such data. */
static int choose_data_dir(const struct settings *s, const struct user *u, char **ret,
			   struct err *err)
{
	CLEANUP(freep)
	char *below = settings_path(s, "broker/data");
	unsigned char hash[8];
	char *elsewhere;

	if (below == NULL)
		return err_set(err, ERR_NOMEM, "broker");
	int rc = make_dir_for(below, u, 0700, err);

	if (rc < 0)
		return rc;
	if (reachable_by(below, u)) {
		*ret = TAKE(below);
		return 0;
	}
	if (u->uid == geteuid())
		return err_set(err, ERR_ACCES, "cannot write in '%s'", below);
	rmdir(below);
	crypto_generichash(hash, sizeof(hash), (const unsigned char *)s->core.userdir,
			   strlen(s->core.userdir), NULL, 0);
	if (asprintf(&elsewhere, DATA_DIR_FOR_ROOT "/broker-%02x%02x%02x%02x%02x%02x", hash[0],
		     hash[1], hash[2], hash[3], hash[4], hash[5]) < 0)
		return err_set(err, ERR_NOMEM, "broker");
	rc = make_dir_for(DATA_DIR_FOR_ROOT, NULL, 0755, err);
	if (rc == 0)
		rc = make_dir_for(elsewhere, u, 0700, err);
	if (rc == 0 && !reachable_by(elsewhere, u))
		rc = err_set(err, ERR_ACCES, "user %s cannot write in '%s'", u->name, elsewhere);
	if (rc < 0) {
		free(elsewhere);
		return rc;
	}
	*ret = elsewhere;
	return 0;
}

/* ---- the generated configuration ---- */

static void print_plugin(FILE *f, const struct settings *s, const struct broker_plan *p,
			 const char *socket)
{
	fprintf(f,
		"plugin %s\n"
		"plugin_opt_socket %s\n"
		"plugin_opt_max_payload %" PRId64 "\n"
		"plugin_opt_max_result %" PRId64 "\n",
		p->plugin, socket, s->agent.max_payload_bytes, s->broker.message_size_limit);
}

static int write_conf(const struct settings *s, const struct broker_plan *p, struct err *err)
{
	CLEANUP(freep)
	char *next = NULL;
	CLEANUP(freep)
	char *socket = plugin_socket(p->data_dir);
	const char *path = p->conf_path;

	if (socket == NULL || asprintf(&next, "%s.new", path) < 0) {
		next = NULL;
		return err_set(err, ERR_NOMEM, "broker");
	}
	int fd = open(next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;

	if (f == NULL) {
		int rc = err_sys(err, "cannot write '%s'", next);

		closep(&fd);
		return rc;
	}
	fprintf(f,
		"# Made by iotctl at every start from the settings of the suite; changes here are "
		"lost.\n"
		"user %s\n"
		"per_listener_settings false\n"
		"allow_anonymous true\n"
		"persistence true\n"
		"persistence_location %s\n"
		"autosave_interval %d\n"
		"queue_qos0_messages true\n"
		"max_queued_messages %d\n"
		"max_inflight_messages 0\n"
		"message_size_limit %" PRId64 "\n"
		"set_tcp_nodelay true\n"
		"log_dest stderr\n"
		"log_timestamp_format %%Y-%%m-%%dT%%H:%%M:%%S\n"
		"connection_messages false\n"
		"listener %" PRId64 " %s\n"
		"protocol mqtt\n"
		"listener %" PRId64 " %s\n"
		"protocol websockets\n",
		p->user, p->data_dir, AUTOSAVE_S, QUEUED_MESSAGES, s->broker.message_size_limit,
		s->core_mqtt.port, s->broker.bind, s->core_ws.port, s->broker.bind);
	if (p->plugin != NULL)
		print_plugin(f, s, p, socket);
	if (fclose(f) != 0 || rename(next, path) < 0)
		return err_sys(err, "cannot write '%s'", path);
	return 0;
}

/* ---- the plugin ---- */

static int choose_plugin(const struct settings *s, const char *program_dir, const struct user *u,
			 struct broker_plan *p, struct err *err)
{
	CLEANUP(freep)
	char *socket = plugin_socket(p->data_dir);
	int rc = plugin_find(s, program_dir, &p->plugin, err);

	if (rc == 0 && strpbrk(p->plugin, "\n\r") != NULL)
		rc = err_set(err, ERR_INVAL, "the path of the plugin contains a line break");
	if (rc == 0 && !allowed(p->plugin, R_OK, u))
		rc = plugin_copy(&p->plugin, p->data_dir, err);
	if (rc == 0 && socket == NULL)
		rc = err_set(err, ERR_NOMEM, "broker");
	return rc == 0 ? plugin_link(s, socket, err) : rc;
}

/* Without a plugin everything works, with another hop for each message: no reason to fail. */
static void drop_plugin(const struct settings *s, struct broker_plan *p, const char *why)
{
	free(p->plugin);
	p->plugin = NULL;
	snprintf(p->plugin_why, sizeof(p->plugin_why), "%s", why);
	plugin_link(s, NULL, NULL);
}

int broker_drop_plugin(const struct settings *s, struct broker_plan *p, const char *why,
		       struct err *err)
{
	drop_plugin(s, p, why);
	return write_conf(s, p, err);
}

/* ---- the plan ---- */

static int plan_managed(const struct settings *s, const char *program_dir, bool adopted,
			struct broker_plan *ret, struct err *err)
{
	CLEANUP(freep)
	char *dir = settings_path(s, "broker");
	struct user u = {0};
	struct err why = {0};

	if (dir == NULL)
		return err_set(err, ERR_NOMEM, "broker");
	int rc = find_program(s->broker.program, &ret->program, err);

	if (rc == 0)
		rc = broker_user(&u, err);
	/* The directory itself holds nothing secret and may have to be passed through by the
	 * broker's user. */
	if (rc == 0)
		rc = make_dir_for(dir, NULL, 0711, err);
	if (rc == 0)
		rc = choose_data_dir(s, &u, &ret->data_dir, err);
	if (rc == 0 && strpbrk(ret->data_dir, "\n\r") != NULL)
		rc = err_set(err, ERR_INVAL, "the path of userdir contains a line break");
	if (rc == 0 && ((ret->conf_path = settings_path(s, "broker/mosquitto.conf")) == NULL ||
			(ret->user = strdup(u.name)) == NULL))
		rc = err_set(err, ERR_NOMEM, "broker");
	if (rc < 0)
		return rc;
	if (adopted && !plugin_in_conf(ret->conf_path))
		drop_plugin(s, ret, "the broker that runs was started without it");
	else if (choose_plugin(s, program_dir, &u, ret, &why) < 0)
		drop_plugin(s, ret, why.text);
	return write_conf(s, ret, err);
}

static int plan_ours(const struct settings *s, const char *program_dir, bool adopted,
		     struct broker_plan *ret, struct err *err)
{
	*ret = (struct broker_plan){.managed = true};
	int rc = plan_managed(s, program_dir, adopted, ret, err);

	if (rc < 0)
		broker_plan_done(ret);
	return rc;
}

int broker_plan_adopted(const struct settings *s, const char *program_dir, struct broker_plan *ret,
			struct err *err)
{
	return plan_ours(s, program_dir, true, ret, err);
}

/* ---- the decision ---- */

static const char *const looks[] = {
	[PROBE_NOTHING] = "nothing listens",
	[PROBE_OTHER] = "something else answers",
	[PROBE_ANSWERS] = "a broker answers",
};

static int clash(const struct settings *s, enum probe mqtt, const char *mqtt_why, enum probe ws,
		 const char *ws_why, struct err *err)
{
	return err_set(
		err, ERR_BUSY,
		"the broker's ports clash: at %s port %" PRId64
		" (MQTT) %s%s%s, at %s port %" PRId64
		" (WebSocket) %s%s%s. Either give the suite ports of its own ([core-mqtt] port and "
		"[core-ws] port, with [broker] managed = yes), or stop the program that has the "
		"port; "
		"a broker can be used as it is if both its MQTT and its WebSocket port answer",
		s->core_mqtt.host, s->core_mqtt.port, looks[mqtt], mqtt == PROBE_OTHER ? ": " : "",
		mqtt == PROBE_OTHER ? mqtt_why : "", s->core_ws.host, s->core_ws.port, looks[ws],
		ws == PROBE_OTHER ? ": " : "", ws == PROBE_OTHER ? ws_why : "");
}

int broker_plan(const struct settings *s, const char *program_dir, struct broker_plan *ret,
		struct err *err)
{
	char mqtt_why[400], ws_why[400];
	enum probe mqtt = probe_mqtt(s->core_mqtt.host, (unsigned)s->core_mqtt.port, PROBE_MS,
				     mqtt_why, sizeof(mqtt_why));
	enum probe ws = probe_websocket(s->core_ws.host, (unsigned)s->core_ws.port, PROBE_MS,
					ws_why, sizeof(ws_why));
	bool both = mqtt == PROBE_ANSWERS && ws == PROBE_ANSWERS;

	*ret = (struct broker_plan){0};
	if (both && s->broker.managed != BROKER_YES) {
		ret->lacks = broker_lacks(s);
		return ret->lacks != NULL ? 0 : err_set(err, ERR_NOMEM, "broker check");
	}
	if (s->broker.managed == BROKER_NO)
		return err_set(err, ERR_NOENT,
			       "no broker to use: MQTT: %s; WebSocket: %s. Start it, or let iotctl "
			       "run one "
			       "([broker] managed = auto)",
			       mqtt == PROBE_ANSWERS ? "answers" : mqtt_why,
			       ws == PROBE_ANSWERS ? "answers" : ws_why);
	if (!host_is_local(s->core_mqtt.host) || !host_is_local(s->core_ws.host))
		return err_set(err, ERR_NOENT,
			       "no broker answers (MQTT: %s; WebSocket: %s), and %s is not this "
			       "machine, so "
			       "iotctl cannot run one there",
			       mqtt == PROBE_ANSWERS ? "answers" : mqtt_why,
			       ws == PROBE_ANSWERS ? "answers" : ws_why, s->core_mqtt.host);
	if (mqtt != PROBE_NOTHING || ws != PROBE_NOTHING)
		return clash(s, mqtt, mqtt_why, ws, ws_why, err);
	return plan_ours(s, program_dir, false, ret, err);
}

void broker_plan_done(struct broker_plan *p)
{
	free(p->conf_path);
	free(p->program);
	free(p->data_dir);
	free(p->user);
	free(p->plugin);
	json_decref(p->lacks);
	*p = (struct broker_plan){0};
}
