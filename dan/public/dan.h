/* dan.h - device applications of IoTtalk in C.
 *
 *	struct dan *d;
 *	struct dan_device *cat;
 *	struct dan_feature meow = {.name = "meow"};
 *	struct dan_device_conf conf = {
 *		.csm_url = "http://127.0.0.1:9992", .idfs = &meow, .n_idfs = 1, .profile = profile};
 *	dan_open(&d, &err);
 *	dan_device_new(d, &conf, &handlers, me, &cat, &err);
 *	dan_quit_on(d, SIGINT, &err);
 *	dan_run(d);
 *	...
 *	dan_device_push(cat, "meow", values, &err);     from on_connect(DAN_IDF, "meow") on
 *
 * A device registers by HTTP, connects to the MQTT broker that it is told, announces itself online,
 * answers commands, and repeats what fails, registering included if the server has forgotten it. It
 * does so until it is told to stop: dan_device_leave() deregisters, dan_device_free() only goes
 * offline and keeps the registration.
 *
 * A struct dan is the loop of any number of devices. It runs by itself, dan_run(), or inside the
 * caller's own loop, dan_fd(). All functions and handlers of one struct dan belong to one thread,
 * dan_post() excepted; several may run on a thread each. Nothing blocks but where it is said.
 *
 * Functions return 0 on success and a negative enum dan_code on failure; a struct dan_error may be
 * NULL. Strings and lists that are passed in are copied, JSON is borrowed.
 */
#ifndef DAN_H
#define DAN_H

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dan;
struct dan_device;
struct dan_timer;

enum dan_code {
	DAN_OK = 0,
	/* errno, negated */
	DAN_NOMEM = -ENOMEM,
	DAN_INVAL = -EINVAL,
	DAN_NOENT = -ENOENT,
	DAN_AGAIN = -EAGAIN,
	DAN_BUSY = -EBUSY,
	DAN_TIMEOUT = -ETIMEDOUT,
	/* ours */
	DAN_PARSE = -1000,   /* text that does not parse */
	DAN_SCHEMA = -1001,  /* parses, but the shape or a value is wrong */
	DAN_BUS = -1003,     /* MQTT failed */
	DAN_PEER = -1004,    /* the other side answered wrongly or went away */
	DAN_SYS = -1005,     /* a system call failed */
	DAN_LIMIT = -1006,   /* too much is waiting, or too large */
	DAN_CONFLICT = -1007 /* somebody else changed it meanwhile */
};

struct dan_error {
	int code;        /* enum dan_code */
	char text[1000]; /* one sentence for people, UTF-8 */
};

/* Short name of a code, "AGAIN"; never NULL. */
const char *dan_code_name(int code);
/* Of the library, "0.1.0". */
const char *dan_version(void);

/* ---- the loop ---- */

/* ret: yours; give it to dan_close(). Errors: DAN_NOMEM, DAN_SYS. */
int dan_open(struct dan **ret, struct dan_error *err);
/* Frees devices and timers that are left; see dan_device_free(). Not from a handler. NULL is fine;
 * returns NULL. */
struct dan *dan_close(struct dan *d);

/* Run until dan_quit(), whose code it returns, or DAN_SYS. May be called again. */
int dan_run(struct dan *d);
void dan_quit(struct dan *d, int code);
/* End dan_run() with code 0 at this signal, too. The signal stays blocked for the calling thread
 * until dan_close(). Call it before the program starts threads of its own, or block the signal in
 * them. */
int dan_quit_on(struct dan *d, int signo, struct dan_error *err);

/* Inside another loop: wait until dan_fd() is readable, at most dan_timeout_ms() (-1: for ever),
 * then call dan_work(), which does what is due and returns 0 or DAN_SYS. Ask for the time anew
 * before each wait: every call of this library may change it. The descriptor stays the library's
 * and the same. */
int dan_fd(const struct dan *d);
int dan_timeout_ms(const struct dan *d);
int dan_work(struct dan *d);

typedef void dan_fn(void *arg);
/* From any thread: run fn on the thread of d, in a coming turn, in the order posted. ret: 0 or
 * DAN_NOMEM. */
int dan_post(struct dan *d, dan_fn *fn, void *arg);

/* Call fn after first_ms (negative: not before dan_timer_arm()) and then each every_ms (0: once).
 * ret: borrowed until dan_timer_free() or dan_close(); NULL if you never need it. */
int dan_timer_new(struct dan *d, int64_t first_ms, int64_t every_ms, dan_fn *fn, void *arg,
		  struct dan_timer **ret, struct dan_error *err);
void dan_timer_arm(struct dan *d, struct dan_timer *t, int64_t in_ms); /* negative: disarm */
/* Also from its own fn. NULL is fine; returns NULL. */
struct dan_timer *dan_timer_free(struct dan *d, struct dan_timer *t);

enum dan_log { DAN_LOG_NONE = -1, DAN_LOG_ERROR, DAN_LOG_WARN, DAN_LOG_INFO, DAN_LOG_DEBUG };
/* What the library says on stderr, of all devices of the process; at the beginning nothing. */
void dan_set_log(enum dan_log level);

/* ---- devices ---- */

enum dan_mode { DAN_IDF, DAN_ODF }; /* input: the device pushes; output: the device receives */

struct dan_feature {
	const char *name;
	const char *const *units; /* NULL-terminated, one for each value; NULL: not told */
};

/* Zero what you do not set. */
struct dan_device_conf {
	const char *csm_url; /* "http://host:9992", with a path if the server lives behind one */
	const char *id;      /* UUID; NULL: a random one. The same id is the same device */
	const char *name;    /* NULL: the server makes one of the model */
	const struct dan_feature *idfs, *odfs;
	size_t n_idfs, n_odfs;
	json_t *profile; /* an object with the string "model" */
	/* What an earlier registration of this id was answered with (dan_device_username()), if the
	 * server demands a login and that was in another life of the program; NULL: none. */
	const char *username, *password;
	uint8_t qos; /* of data, both ways: 0, 1 or 2 */
	/* Pauses between tries to register, doubling, half of each by chance; 0: 200 and 10000. */
	unsigned retry_min_ms, retry_max_ms;
	unsigned http_timeout_ms; /* 0: 10000 */
};

/* Every handler may be NULL. Strings and JSON are borrowed for the call. A handler may call any
 * function of the library, dan_device_free() included, but not dan_close() and not dan_run(). */
struct dan_device_handlers {
	/* Each time the server took the registration; name is the one it knows. */
	void (*on_registered)(void *arg, const char *name);
	/* Connected to the broker and announced. After a while offline the features start
	 * unconnected. */
	void (*on_online)(void *arg);
	void (*on_offline)(void *arg, const char *why);
	/* The feature takes part in a graph from now on, or no more. */
	void (*on_connect)(void *arg, enum dan_mode mode, const char *feature);
	void (*on_disconnect)(void *arg, enum dan_mode mode, const char *feature);
	/* A person paused the feature, or lets it go on. While paused dan_device_push() refuses and
	 * on_data stays silent. */
	void (*on_suspend)(void *arg, enum dan_mode mode, const char *feature, bool suspended);
	/* Data for an ODF: an array, or what else the graph computed. */
	void (*on_data)(void *arg, const char *feature, json_t *values);
	/* Something failed and is being repeated or was dropped: registration refused, the broker
	 * does not answer, a command or data that does not parse. */
	void (*on_error)(void *arg, const struct dan_error *err);
};

/* Begin to register. handlers is copied; NULL: none. ret: yours; give it to dan_device_free().
 * Errors: DAN_SCHEMA (no csm_url, or what the server would refuse: bad id, no model, a feature
 * twice or with a bad name), DAN_NOMEM. */
int dan_device_new(struct dan *d, const struct dan_device_conf *conf,
		   const struct dan_device_handlers *handlers, void *arg, struct dan_device **ret,
		   struct dan_error *err);
/* Register again with the same id (or conf->id NULL) and other features, profile, name, QoS ...
 * Takes effect in a later turn: the device goes offline (on_disconnect, on_offline) and comes back
 * as after dan_device_new(). Errors: as there, DAN_INVAL (another id), DAN_BUSY (it is leaving);
 * then nothing changes. */
int dan_device_update(struct dan_device *dev, const struct dan_device_conf *conf,
		      struct dan_error *err);
/* Says offline if it was online, and disconnects; no handler is called any more. Waits for the
 * broker to take what was pushed: usually a millisecond, a second at most, two for the last device
 * of the process. From a handler all of that happens in the next turn. NULL is fine; returns NULL.
 */
struct dan_device *dan_device_free(struct dan_device *dev);

/* Publish values (usually an array, one value for each unit) on an IDF. Errors: DAN_NOENT (no such
 * IDF), DAN_AGAIN (not connected or suspended: dropped), DAN_LIMIT (too much is waiting for the
 * broker), DAN_SCHEMA (not writable as JSON), DAN_NOMEM. */
int dan_device_push(struct dan_device *dev, const char *idf, json_t *values, struct dan_error *err);
/* The same of a JSON text, which is sent as it is. done (may be NULL) is called once, later: 0 when
 * the broker acknowledged it, DAN_AGAIN when that did not come before the connection ended (it may
 * have arrived); for a push that succeeds while the broker is away, after it is back. Not called
 * any more once dan_device_free() has begun. Errors: as dan_device_push(), and DAN_INVAL (done, but
 * a QoS other than 1). */
typedef void dan_pushed_fn(void *arg, int rc);
int dan_device_push_text(struct dan_device *dev, const char *idf, const char *text,
			 dan_pushed_fn *done, void *arg, struct dan_error *err);

/* Say offline, deregister, disconnect. done is called once: 0 also when the server does not know
 * the device any more, DAN_CONFLICT when somebody else registered it meanwhile, else what the
 * request failed with. After it only dan_device_free(). Errors: DAN_BUSY (leaving already). */
typedef void dan_left_fn(void *arg, int rc, const char *why);
int dan_device_leave(struct dan_device *dev, dan_left_fn *done, void *arg, struct dan_error *err);

bool dan_device_is_online(const struct dan_device *dev);
bool dan_device_is_connected(const struct dan_device *dev, enum dan_mode mode, const char *feature);
const char *dan_device_id(const struct dan_device *dev);   /* lower-case */
const char *dan_device_name(const struct dan_device *dev); /* "" before the first registration */
/* What the server gave for the broker and for registering again; NULL: nothing (so far). */
const char *dan_device_username(const struct dan_device *dev);
const char *dan_device_password(const struct dan_device *dev);

#ifdef __cplusplus
}
#endif
#endif
