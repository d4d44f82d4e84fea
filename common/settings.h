/* settings.h - all settings of the suite: one file for all programs (spec iottalk-core 2). */
#pragma once

#include "common/conf.h"
#include "common/err.h"

enum broker_managed { BROKER_AUTO, BROKER_YES, BROKER_NO };
enum agent_transport { TRANSPORT_AUTO, TRANSPORT_PLUGIN, TRANSPORT_CLIENT };
enum engine_sandbox { SANDBOX_STRICT, SANDBOX_DEGRADED };
enum engine_qos { ENGINE_QOS_AUTO, ENGINE_QOS_0, ENGINE_QOS_1, ENGINE_QOS_2 };

struct settings {
	struct {
		char *bind;                 /* "127.0.0.1" */
		int64_t http_port;          /* 9992 */
		char *userdir;              /* "$HOME/.iottalk", expanded */
		int64_t da_expiration_s;    /* [core] da-expiration, 259200 */
		char *cors_origin;          /* [core] cors-origin, "*"; empty: no CORS headers */
		int64_t command_timeout_ms; /* [core] command-timeout-ms, 10000: answer of a DA to
					       CONNECT ... */
		int64_t command_rate;       /* [core] command-rate, 2000 a second to all DAs */
		int64_t agent_timeout_ms;   /* [core] agent-timeout-ms, 5000: answer of an agent */
		int64_t cleanup_delay_ms; /* [core] cleanup-delay-ms, 60000: retained messages of a
					     deregistered DA */
		bool beacon;              /* [core] beacon, false */
		char *beacon_address;     /* [core] beacon-address; empty: 255.255.255.255 */
		int64_t beacon_port;      /* [core] beacon-port, 1900 */
		int64_t beacon_interval_ms; /* [core] beacon-interval-ms, 3000 */
		int log_level;              /* enum log_level; [core] log-level, info */
		int log_format;             /* enum log_format; [core] log-format, text */
	} core;
	struct {
		int type;  /* 0: sqlite, the only one */
		char *url; /* "iottalk.db"; made absolute under userdir; ":memory:" allowed */
		char *host, *user, *passwd;
		int64_t port;
	} core_db;
	struct {
		char *scheme, *host; /* "mqtt", "localhost" */
		int64_t port;        /* 1883 */
	} core_mqtt;
	struct {
		char *scheme,
			*host; /* "ws"; host: never empty here, that of core-mqtt if not given */
		int64_t port;  /* 1884 */
	} core_ws;
	struct {
		char *bind;                  /* [gui] bind, "127.0.0.1": ccm's REST API and pages */
		int64_t port;                /* [gui] port, 7788 */
		int64_t session_timeout_min; /* [gui] session-timeout, 10080 minutes */
		int64_t ownership_timeout_s; /* [gui] ownership-timeout, 180 seconds; 0: off */
		bool odf_single_bind;        /* [gui] odf-single-bind */
		char *web_da_dir;            /* [gui] web-da-dir, below userdir or absolute; empty: none */
		char *ec_endpoint;           /* [gui-ec] ec-endpoint, public URL of csm */
		char *simtalk_endpoint;      /* [gui-simtalk] simtalk-endpoint; empty: ccm simulates */
	} gui;
	struct {
		char *url; /* [gui-db] url, "iottalk-gui.db"; absolute, or ":memory:" */
	} gui_db;
	struct {
		char *url; /* [devices-db] url, "devices.db"; absolute, or ":memory:" */
	} devices_db;
	struct {
		bool enable_mqtt_auth; /* true is an error until it is built */
	} aaa;
	struct {
		int managed;                /* enum broker_managed; [broker] managed, auto */
		char *bind;                 /* [broker] bind, "127.0.0.1" */
		int64_t message_size_limit; /* bytes, 1048576 */
		char *plugin_socket;        /* [broker] plugin-socket; empty: run/broker-plugin.sock
					       below userdir */
		char *plugin;               /* path; empty: the one beside the programs; "none" */
		char *program; /* "mosquitto": name on the PATH (sbin included) or absolute */
	} broker;
	struct {
		char *id;      /* [agent] id; empty: "agent-" and random, kept under userdir */
		int transport; /* enum agent_transport; auto */
		int64_t max_payload_bytes; /* 262144: larger data messages are dropped and counted
					    */
		int64_t queue_bytes;       /* 67108864: received, not yet on a ring */
		char *devices;             /* the device file; empty: none; absolute */
	} agent;
	struct {
		int64_t budget_ms;   /* 1000: wall time of one evaluation */
		int64_t memory_mb;   /* 256: address space of an engine */
		int64_t function_mb; /* [engine] function-mb, 64: what one function may hold */
		int64_t ring_kb;     /* 4096: each ring */
		int qos;             /* enum engine_qos; auto: as the message came */
		int sandbox;         /* enum engine_sandbox; strict */
		int64_t per_owner;   /* 0: engines of one owner; 0: as many as there are cores */
		int64_t max_engines; /* 128: of all owners together */
		int64_t idle_ms;     /* 10000: an engine without a graph is kept so long */
	} engine;
};

/* Read settings. path NULL: defaults. Complaints go to note. Relative paths are made absolute,
 * $HOME is expanded. ret: 0 or negative; release with settings_done() in both cases. */
int settings_load(const char *path, struct settings *ret, conf_note_fn *note, void *arg,
		  struct err *err);
/* Where the configuration is if nobody says: $HOME/.iottalk/iottalk.ini, or that of an installation
 * for the whole system; a new string, yours; NULL: there is no such file. */
char *settings_default_path(void);
/* The latter, whether it is there or not. */
const char *settings_system_path(void);
void settings_done(struct settings *s);
/* Take from another reading what may change while a program runs (conf_adopt()). */
void settings_adopt(struct settings *running, struct settings *fresh, conf_change_fn *fn,
		    void *arg);
/* The table of all settings. */
const struct conf_row *settings_rows(size_t *ret_n);
void settings_sample(FILE *out);
/* Paths below userdir: "run/csm.sock", "key" ...; a new string, yours. NULL: out of memory. */
char *settings_path(const struct settings *s, const char *relative);
/* Where the broker plugin listens: [broker] plugin-socket or its default, absolute; a new string,
 * yours. NULL: out of memory. */
char *settings_plugin_socket(const struct settings *s);
