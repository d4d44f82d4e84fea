/* settings.c - the one table of all settings. */
#include "common/settings.h"
#include "common/util.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>

#ifndef IOTTALK_CONF
#define IOTTALK_CONF "/etc/iottalk/iottalk.ini"
#endif

#define PORT_MAX     65535
#define DAY_S        86400
#define AGENT_ID_MAX 64

/* ---- checks beyond the type ---- */

static const char *check_address(const char *value)
{
	unsigned char addr[sizeof(struct in6_addr)];

	if (inet_pton(AF_INET, value, addr) == 1 || inet_pton(AF_INET6, value, addr) == 1)
		return NULL;
	return "must be an IP address of this machine (127.0.0.1: this machine only, 0.0.0.0: all)";
}

static const char *check_ipv4_or_empty(const char *value)
{
	struct in_addr addr;

	return value[0] == '\0' || inet_pton(AF_INET, value, &addr) == 1 ? NULL : "must be an IPv4 address";
}

static const char *check_host_or_empty(const char *value)
{
	for (const char *p = value; *p != '\0'; p++) {
		if (!isgraph((unsigned char)*p) || strchr("/@\"\\", *p) != NULL)
			return "must be a host name or an IP address";
	}
	return strlen(value) <= 253 ? NULL : "is longer than a host name can be";
}

static const char *check_host(const char *value)
{
	return value[0] == '\0' ? "must not be empty" : check_host_or_empty(value);
}

static const char *check_not_empty(const char *value)
{
	return value[0] == '\0' ? "must not be empty" : NULL;
}

static const char *check_plugin(const char *value)
{
	return value[0] == '\0' || value[0] == '/' || strcmp(value, "none") == 0
		       ? NULL
		       : "must be none, an absolute path, or nothing";
}

static const char *check_store(const char *value)
{
	return strcmp(value, "sqlite") == 0
		       ? NULL
		       : "not part of this build; sqlite is the only store it has";
}

static const char *check_mqtt_scheme(const char *value)
{
	return strcmp(value, "mqtt") == 0 ? NULL : "not part of this build; it speaks mqtt only";
}

static const char *check_mqtt_auth(const char *value)
{
	return strcmp(value, "false") == 0 ? NULL
					   : "MQTT credentials for each device are not part of "
					     "this build; leave it false";
}

static const char *check_agent_id(const char *value)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

	if (strspn(value, allowed) != strlen(value) || strlen(value) > AGENT_ID_MAX)
		return "must be at most 64 characters of A-Z a-z 0-9 . _ -";
	return NULL;
}

static const char *check_origin(const char *value)
{
	for (const char *p = value; *p != '\0'; p++) {
		if (!isgraph((unsigned char)*p))
			return "must be * or one origin such as https://example.org";
	}
	return NULL;
}

/* ---- the table ---- */

static const char *const log_levels[] = {"error", "warn", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};
static const char *const stores[] = {"sqlite", "mysql", "postgresql", NULL};
static const char *const managed_names[] = {"auto", "yes", "no", NULL};
static const char *const transports[] = {"auto", "plugin", "client", NULL};
static const char *const sandbox_names[] = {"strict", "degraded", NULL};
static const char *const qos_names[] = {"auto", "0", "1", "2", NULL};

#define AT(member) .offset = offsetof(struct settings, member)

/* A table reads best as a table. */
/* clang-format off */
static const struct conf_row rows[] = {
	{"core", "bind", CONF_STR, AT(core.bind), .def = "127.0.0.1", .check = check_address,
	 .help = "Address the HTTP API listens on. It has no passwords: open it to networks you trust only."},
	{"core", "http-port", CONF_INT, AT(core.http_port), .def = "9992", .min = 1, .max = PORT_MAX,
	 .help = "Port of the HTTP API."},
	{"core", "userdir", CONF_STR, AT(core.userdir), .def = "$HOME/.iottalk", .check = check_not_empty,
	 .help = "Directory of all state: stores, key, logs, sockets. Created with mode 0700. A relative path is\n"
		 "taken from the directory of this file."},
	{"core", "da-expiration", CONF_INT, AT(core.da_expiration_s), .def = "259200", .min = 1,
	 .max = 3650LL * DAY_S, .unit = "s",
	 .live = true, .help = "Seconds that an offline device application is kept before it is deregistered."},
	{"core", "cors-origin", CONF_STR, AT(core.cors_origin), .def = "*", .check = check_origin,
	 .live = true, .help = "Web pages of which origin may use the HTTP API; empty: none."},
	{"core", "command-timeout-ms", CONF_INT, AT(core.command_timeout_ms), .def = "10000", .min = 10,
	 .max = 3600000, .unit = "ms",
	 .live = true, .help = "How long a device application may take to answer a command before its link shows that."},
	{"core", "command-rate", CONF_INT, AT(core.command_rate), .def = "2000", .min = 1, .max = 1000000, .unit = "1/s",
	 .live = true, .help = "Commands to device applications a second, of all links together; more of them wait for their turn."},
	{"core", "agent-timeout-ms", CONF_INT, AT(core.agent_timeout_ms), .def = "5000", .min = 10,
	 .max = 3600000, .unit = "ms",
	 .live = true, .help = "How long an agent may take to answer before a request is answered as pending."},
	{"core", "cleanup-delay-ms", CONF_INT, AT(core.cleanup_delay_ms), .def = "60000", .min = 0,
	 .max = 3600000, .unit = "ms",
	 .live = true, .help = "When the retained messages of a deregistered device application are cleared."},
	{"core", "beacon", CONF_BOOL, AT(core.beacon), .def = "false",
	 .help = "Whether csm says by UDP broadcast that it is here, and answers who asks, so that devices find it."},
	{"core", "beacon-address", CONF_STR, AT(core.beacon_address), .def = "", .check = check_ipv4_or_empty,
	 .help = "Broadcast address that it says so to; empty: 255.255.255.255, all of this network."},
	{"core", "beacon-port", CONF_INT, AT(core.beacon_port), .def = "1900", .min = 1, .max = PORT_MAX,
	 .help = "UDP port of the beacon, from everybody to everybody."},
	{"core", "beacon-interval-ms", CONF_INT, AT(core.beacon_interval_ms), .def = "3000", .min = 1000, .max = 5000,
	 .unit = "ms", .help = "How often it says so."},
	{"core", "log-level", CONF_ENUM, AT(core.log_level), .def = "info", .names = log_levels,
	 .live = true, .help = "How much the daemons log."},
	{"core", "log-format", CONF_ENUM, AT(core.log_format), .def = "text", .names = log_formats,
	 .live = true, .help = "Text for people or JSON for programs; one line for each event."},

	{"core-db", "type", CONF_ENUM, AT(core_db.type), .def = "sqlite", .names = stores,
	 .check = check_store, .help = "Kind of store."},
	{"core-db", "url", CONF_STR, AT(core_db.url), .def = "iottalk.db", .check = check_not_empty,
	 .help = "File of the store, relative to userdir, or :memory: (everything is forgotten at the end)."},
	{"core-db", "host", CONF_STR, AT(core_db.host), .def = "", .check = check_host_or_empty,
	 .help = "Not used by sqlite."},
	{"core-db", "port", CONF_INT, AT(core_db.port), .def = "0", .min = 0, .max = PORT_MAX,
	 .help = "Not used by sqlite."},
	{"core-db", "user", CONF_STR, AT(core_db.user), .def = "", .help = "Not used by sqlite."},
	{"core-db", "passwd", CONF_STR, AT(core_db.passwd), .def = "", .help = "Not used by sqlite."},

	{"core-mqtt", "scheme", CONF_STR, AT(core_mqtt.scheme), .def = "mqtt", .check = check_mqtt_scheme,
	 .help = "Protocol of the broker."},
	{"core-mqtt", "host", CONF_STR, AT(core_mqtt.host), .def = "localhost", .check = check_host,
	 .help = "Host of the MQTT broker, as the daemons use it and as devices are told."},
	{"core-mqtt", "port", CONF_INT, AT(core_mqtt.port), .def = "1883", .min = 1, .max = PORT_MAX,
	 .help = "MQTT port of the broker."},

	{"core-ws", "scheme", CONF_STR, AT(core_ws.scheme), .def = "ws", .check = check_not_empty,
	 .help = "Protocol that browsers are told: ws, or wss behind a proxy that adds TLS."},
	{"core-ws", "host", CONF_STR, AT(core_ws.host), .def = "", .check = check_host_or_empty,
	 .help = "Host of MQTT over WebSocket; empty: that of core-mqtt."},
	{"core-ws", "port", CONF_INT, AT(core_ws.port), .def = "1884", .min = 1, .max = PORT_MAX,
	 .help = "Port of MQTT over WebSocket."},

	{"gui", "bind", CONF_STR, AT(gui.bind), .def = "127.0.0.1", .check = check_address,
	 .help = "Address that ccm listens on: the REST API of projects and its pages."},
	{"gui", "port", CONF_INT, AT(gui.port), .def = "7788", .min = 1, .max = PORT_MAX, .help = "Its port."},
	{"gui", "session-timeout", CONF_INT, AT(gui.session_timeout_min), .def = "10080", .min = 1, .max = 5256000,
	 .unit = "min", .live = true, .help = "Minutes that a login lasts."},
	{"gui", "ownership-timeout", CONF_INT, AT(gui.ownership_timeout_s), .def = "180", .min = 0, .max = 3650LL * DAY_S,
	 .unit = "s", .live = true,
	 .help = "Seconds that a device without an owner is not offered to others after it registered; 0: offered at once."},
	{"gui", "odf-single-bind", CONF_BOOL, AT(gui.odf_single_bind), .def = "false", .live = true,
	 .help = "Whether a device that is bound is no longer offered to device objects with output features."},
	{"gui", "web-da-dir", CONF_STR, AT(gui.web_da_dir), .def = "", .live = true,
	 .help = "Directory whose files ccm serves at /da/, device applications for browsers; relative to userdir. Empty:\n"
		 "nothing is served."},
	{"gui-db", "url", CONF_STR, AT(gui_db.url), .def = "iottalk-gui.db", .check = check_not_empty,
	 .help = "File of ccm's store, relative to userdir, or :memory: (everything is forgotten at the end)."},
	{"gui-ec", "ec-endpoint", CONF_STR, AT(gui.ec_endpoint), .def = "",
	 .help = "URL of csm as ccm's clients are told; empty: http://localhost and [core] http-port."},
	{"gui-simtalk", "simtalk-endpoint", CONF_STR, AT(gui.simtalk_endpoint), .def = "",
	 .help = "URL of a service that simulates devices; empty: ccm does it itself."},

	{"aaa", "enable_mqtt_auth", CONF_BOOL, AT(aaa.enable_mqtt_auth), .def = "false",
	 .check = check_mqtt_auth, .help = "MQTT credentials for each device application. Not part of this build."},

	{"broker", "managed", CONF_ENUM, AT(broker.managed), .def = "auto", .names = managed_names,
	 .help = "Whether iotctl runs the broker. auto: it does unless one answers at core-mqtt already;\n"
		 "yes: always; no: never."},
	{"broker", "bind", CONF_STR, AT(broker.bind), .def = "127.0.0.1", .check = check_address,
	 .help = "Address the managed broker listens on. It asks for no passwords."},
	{"broker", "message-size-limit", CONF_INT, AT(broker.message_size_limit), .def = "1048576",
	 .min = 1024, .max = 268435455, .unit = "bytes",
	 .help = "Largest message, in bytes, that the managed broker takes."},
	{"broker", "program", CONF_STR, AT(broker.program), .def = "mosquitto", .check = check_not_empty,
	 .help = "The broker's program: a name to look up in PATH, /usr/sbin and /usr/local/sbin, or a path."},

	{"broker", "plugin", CONF_STR, AT(broker.plugin), .def = "", .check = check_plugin,
	 .help = "What the managed broker loads to hand data messages to functions itself: the path of\n"
		 "iottalk_broker.so; empty: the one beside the programs; none: nothing."},
	{"broker", "plugin-socket", CONF_STR, AT(broker.plugin_socket), .def = "",
	 .help = "Where the broker plugin listens for the agent (plugin_opt_socket in mosquitto.conf); empty:\n"
		 "run/broker-plugin.sock below userdir, which leads to the managed broker's."},

	{"agent", "id", CONF_STR, AT(agent.id), .def = "", .check = check_agent_id,
	 .help = "Name of the agent of this machine; empty: a random one, kept under userdir."},
	{"agent", "transport", CONF_ENUM, AT(agent.transport), .def = "auto", .names = transports,
	 .help = "How data messages reach the functions. plugin: through rings in the broker; client: as a client of\n"
		 "the broker; auto: the plugin, if it is there and works."},
	{"agent", "max-payload-bytes", CONF_INT, AT(agent.max_payload_bytes), .def = "262144", .min = 64,
	 .max = 16777216, .unit = "bytes", .help = "Larger data messages are dropped and counted."},
	{"agent", "queue-bytes", CONF_INT, AT(agent.queue_bytes), .def = "67108864", .min = 65536,
	 .max = 4294967296, .unit = "bytes", .help = "Room for messages received and not yet evaluated."},
	{"agent", "devices", CONF_STR, AT(agent.devices), .def = "",
	 .help = "File of the devices in the field, relative to userdir; empty: none."},
	{"devices-db", "url", CONF_STR, AT(devices_db.url), .def = "devices.db", .check = check_not_empty,
	 .help = "File of the device service's store (what devices have to say while the broker is away), relative to\n"
		 "userdir, or :memory: (everything is forgotten at the end)."},

	{"engine", "budget-ms", CONF_INT, AT(engine.budget_ms), .def = "1000", .min = 10, .max = 3600000,
	 .unit = "ms", .help = "How long one evaluation may take before the function is stopped."},
	{"engine", "memory-mb", CONF_INT, AT(engine.memory_mb), .def = "256", .min = 64, .max = 1048576,
	 .unit = "MiB", .help = "Address space of an engine, in MiB."},
	{"engine", "function-mb", CONF_INT, AT(engine.function_mb), .def = "64", .min = 1, .max = 1048576,
	 .unit = "MiB", .help = "Memory that one function may hold, in MiB."},
	{"engine", "sandbox", CONF_ENUM, AT(engine.sandbox), .def = "strict", .names = sandbox_names,
	 .help = "strict: no engine without the core layers of its sandbox (seccomp, no network, no files);\n"
		 "degraded: go on with what this machine offers, and warn."},
	{"engine", "ring-kb", CONF_INT, AT(engine.ring_kb), .def = "4096", .min = 64, .max = 1048576,
	 .unit = "KiB", .help = "Size of each ring between an agent and its engine, in KiB."},
	{"engine", "qos", CONF_ENUM, AT(engine.qos), .def = "auto", .names = qos_names,
	 .help = "QoS of results; auto: that of the message they come from."},
	{"engine", "per-owner", CONF_INT, AT(engine.per_owner), .def = "0", .min = 0, .max = 64,
	 .live = true, .help = "Over how many engines the graphs of one owner are spread; 0: as many as there are cores.\n"
		 "Graphs of different owners never share one."},
	{"engine", "max-engines", CONF_INT, AT(engine.max_engines), .def = "128", .min = 1, .max = 250,
	 .live = true, .help = "Engines of all owners together; a graph that would need one more is refused."},
	{"engine", "idle-ms", CONF_INT, AT(engine.idle_ms), .def = "10000", .min = 0, .max = 3600000,
	 .unit = "ms", .live = true, .help = "How long an engine is kept when it has no graph."},
};
/* clang-format on */

static const char *const aliases[] = {
	"aa", "aaa", "core:managed-broker", "broker:managed", NULL,
};

/* ---- paths ---- */

static const char *home_dir(void)
{
	const char *home = getenv("HOME");

	if (home != NULL && home[0] == '/')
		return home;
	const struct passwd *pw = getpwuid(geteuid());

	return pw != NULL && pw->pw_dir[0] == '/' ? pw->pw_dir : "/";
}

/* ret: new string; NULL: out of memory */
static char *join(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *join(const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	int n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : s;
}

/* The directory of the configuration file (of none: the working directory), absolute. */
static char *base_dir(const char *conf_path)
{
	CLEANUP(freep)
	char *real = realpath(conf_path != NULL ? conf_path : ".", NULL);

	if (real == NULL)
		return NULL;
	if (conf_path != NULL) {
		char *slash = strrchr(real, '/');

		slash[slash == real ? 1 : 0] = '\0';
	}
	return TAKE(real);
}

static int expand_userdir(char **userdir, const char *conf_path, struct err *err)
{
	const char *given = *userdir;
	char *full;

	if (strncmp(given, "$HOME", 5) == 0 && (given[5] == '/' || given[5] == '\0'))
		full = join("%s%s", home_dir(), given + 5);
	else if (given[0] == '~' && (given[1] == '/' || given[1] == '\0'))
		full = join("%s%s", home_dir(), given + 1);
	else if (given[0] == '/')
		return 0;
	else {
		CLEANUP(freep)
		char *base = base_dir(conf_path);

		if (base == NULL)
			return err_sys(err, "core.userdir '%s' is relative, to where?", given);
		full = join("%s/%s", base, given);
	}
	if (full == NULL)
		return err_set(err, ERR_NOMEM, "core.userdir");
	free(*userdir);
	*userdir = full;
	return 0;
}

/* A file, also as SQLAlchemy writes it: sqlite+pysqlite:///FILE. */
static int make_absolute(const struct settings *s, char **path, struct err *err)
{
	char *url = strncmp(*path, "sqlite", 6) == 0 ? strstr(*path, ":///") : NULL;

	if (url != NULL)
		memmove(*path, url + 4, strlen(url + 4) + 1);
	if (**path == '/' || strcmp(*path, ":memory:") == 0)
		return 0;
	char *full = settings_path(s, *path);

	if (full == NULL)
		return err_set(err, ERR_NOMEM, "core-db.url");
	free(*path);
	*path = full;
	return 0;
}

/* ---- ports ---- */

/* Names and addresses under which a port of this machine may be meant, as far as they are plain. */
static bool is_here(const char *host)
{
	static const char *const here[] = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"};

	for (size_t i = 0; i < ARRAY_LEN(here); i++) {
		if (strcasecmp(host, here[i]) == 0)
			return true;
	}
	return false;
}

static bool same_place(const char *a, const char *b)
{
	return strcasecmp(a, b) == 0 || (is_here(a) && is_here(b));
}

/* Two services cannot share a port of one address. */
static int check_ports(const struct settings *s, const char *path, conf_note_fn *note, void *arg,
		       struct err *err)
{
	const struct {
		const char *name, *host;
		int64_t port;
	} ports[] = {
		{"core.http-port", s->core.bind, s->core.http_port},
		{"gui.port", s->gui.bind, s->gui.port},
		{"core-mqtt.port", s->core_mqtt.host, s->core_mqtt.port},
		{"core-ws.port", s->core_ws.host, s->core_ws.port},
	};
	unsigned clashes = 0;

	for (size_t i = 0; i < ARRAY_LEN(ports); i++) {
		for (size_t k = i + 1; k < ARRAY_LEN(ports); k++) {
			char text[1000];

			if (ports[i].port != ports[k].port ||
			    !same_place(ports[i].host, ports[k].host))
				continue;
			clashes++;
			snprintf(text, sizeof(text),
				 "%.400s: %s and %s are both %" PRId64
				 " at the same address; each needs a port of its own",
				 path != NULL ? path : "settings", ports[i].name, ports[k].name,
				 ports[i].port);
			if (note != NULL)
				note(arg, true, text);
		}
	}
	if (clashes == 0)
		return 0;
	return err_set(err, ERR_SCHEMA, "%s: ports clash", path != NULL ? path : "settings");
}

int settings_load(const char *path, struct settings *ret, conf_note_fn *note, void *arg,
		  struct err *err)
{
	*ret = (struct settings){0};
	int rc = conf_load(path, rows, ARRAY_LEN(rows), aliases, ret, note, arg, err);

	if (rc == 0)
		rc = expand_userdir(&ret->core.userdir, path, err);
	if (rc == 0)
		rc = make_absolute(ret, &ret->core_db.url, err);
	if (rc == 0)
		rc = make_absolute(ret, &ret->gui_db.url, err);
	if (rc == 0)
		rc = make_absolute(ret, &ret->devices_db.url, err);
	if (rc == 0 && ret->agent.devices[0] != '\0')
		rc = make_absolute(ret, &ret->agent.devices, err);
	if (rc == 0 && ret->core_ws.host[0] == '\0') {
		char *host = strdup(ret->core_mqtt.host);

		if (host == NULL)
			return err_set(err, ERR_NOMEM, "core-ws.host");
		free(ret->core_ws.host);
		ret->core_ws.host = host;
	}
	return rc < 0 ? rc : check_ports(ret, path, note, arg, err);
}

const char *settings_system_path(void)
{
	return IOTTALK_CONF;
}

char *settings_default_path(void)
{
	CLEANUP(freep)
	char *path = join("%s/.iottalk/iottalk.ini", home_dir());

	if (path != NULL && access(path, F_OK) == 0)
		return TAKE(path);
	return access(settings_system_path(), F_OK) == 0 ? strdup(settings_system_path()) : NULL;
}

void settings_done(struct settings *s)
{
	conf_done(rows, ARRAY_LEN(rows), s);
}

void settings_adopt(struct settings *running, struct settings *fresh, conf_change_fn *fn, void *arg)
{
	conf_adopt(rows, ARRAY_LEN(rows), running, fresh, fn, arg);
}

const struct conf_row *settings_rows(size_t *ret_n)
{
	*ret_n = ARRAY_LEN(rows);
	return rows;
}

void settings_sample(FILE *out)
{
	fputs("# IoTtalk configuration, read by iotctl and by all daemons.\n"
	      "# Every setting is optional; the lines below show the defaults. To change one, take "
	      "away its ; and edit.\n"
	      "# A comment stands on a line of its own: ; and # further right belong to the "
	      "value.\n"
	      "# ${section:key} in a value stands for another value, $$ for a dollar sign.\n",
	      out);
	conf_sample(rows, ARRAY_LEN(rows), out);
}

char *settings_path(const struct settings *s, const char *relative)
{
	return join("%s/%s", s->core.userdir, relative);
}

char *settings_plugin_socket(const struct settings *s)
{
	const char *set = s->broker.plugin_socket;

	if (set == NULL || set[0] == '\0')
		return settings_path(s, "run/broker-plugin.sock");
	return set[0] == '/' ? strdup(set) : settings_path(s, set);
}
