/* dan.h - the device side of IoTtalk in C: register a device application, exchange data with its
 * features.
 *
 *	struct dan_conf conf = {
 *		.csm_url = "http://127.0.0.1:9992", .id = uuid4().s, .idfs = idfs, .n_idfs = 1,
 *		.profile = profile};
 *	dan_new(loop, &conf, &handlers, me, &client, &err);
 *	...
 *	dan_push(client, "meow", values, &err);     from on_connect(DAN_IDF, "meow") on
 *
 * A client registers by HTTP, connects to the broker it is told, announces itself online, answers
 * commands, and repeats what fails, registering included if csm forgot it, until it is told to
 * stop: dan_leave() deregisters, dan_free() only goes offline and keeps the registration. Any
 * number of clients share a loop. All functions and callbacks belong to the loop's thread. A client
 * may be freed in the callback of dan_leave(), but not in its other callbacks.
 *
 * This is for programs of this tree, which have a struct loop. Others use the library: the same
 * under names of its own, dan/public/dan.h.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include "dan/fetch.h"
#include "dan/public/dan.h" /* enum dan_mode, struct dan_feature */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dan_client;

struct dan_conf {
	const char *csm_url; /* "http://host:9992", with a path if csm lives behind one; strings and
				lists are copied */
	const char *id;      /* UUID */
	const char *name;    /* NULL: csm makes one of the model */
	const struct dan_feature *idfs, *odfs;
	size_t n_idfs, n_odfs;
	json_t *profile; /* an object with "model"; borrowed for the call */
	/* What an earlier registration of this id was answered with, if csm demands a login and
	 * that was in another life of the program; NULL: none. */
	const char *username, *password;
	uint8_t qos; /* of data, both ways */
	unsigned retry_min_ms,
		retry_max_ms;     /* pauses between tries to register, doubling; 0: 200 and 10000 */
	unsigned http_timeout_ms; /* 0: 10000 */
	struct fetch *fetch; /* shared by many clients, outlives them; NULL: the client has one of
				its own */
};

/* Every handler may be NULL. Strings and JSON are borrowed for the call. */
struct dan_handlers {
	/* Each time csm took the registration; name is the one csm knows. */
	void (*on_registered)(void *arg, const char *name);
	/* Connected to the broker and announced; after a while offline the features start
	 * unconnected. */
	void (*on_online)(void *arg);
	void (*on_offline)(void *arg, const char *why);
	/* The feature takes part in a graph from now on, or no more. */
	void (*on_connect)(void *arg, enum dan_mode mode, const char *feature);
	void (*on_disconnect)(void *arg, enum dan_mode mode, const char *feature);
	/* A person paused the feature, or lets it go on. While paused dan_push() refuses and
	 * on_data stays silent. */
	void (*on_suspend)(void *arg, enum dan_mode mode, const char *feature, bool suspended);
	/* Data for an ODF: an array, or what else the graph computed. */
	void (*on_data)(void *arg, const char *feature, json_t *values);
	/* Something failed and is being repeated or was dropped: registration refused, the broker
	 * does not answer, a command or data that does not parse. */
	void (*on_error)(void *arg, const struct err *err);
};

/* Begin to register. handlers is copied. ret: yours; give it to dan_free(). Errors: ERR_SCHEMA
 * (what csm would refuse: bad id, no model, a feature twice or with a bad name), ERR_NOMEM. */
int dan_new(struct loop *l, const struct dan_conf *conf, const struct dan_handlers *handlers,
	    void *arg, struct dan_client **ret, struct err *err);
/* Register again with the same id and other features, profile, name, QoS ...; fetch is not looked
 * at. Takes effect in a later turn: the device goes offline (on_disconnect, on_offline) and comes
 * back as after dan_new(). Errors: as dan_new(), ERR_INVAL (another id), ERR_BUSY (it is leaving);
 * then nothing changes. */
int dan_update(struct dan_client *c, const struct dan_conf *conf, struct err *err);
/* Says offline if it was online and begins to disconnect, without waiting for the end of that.
 * Nothing but dan_free() may follow. Who frees many parts from each first, and waits once for all.
 * NULL is fine. */
void dan_part(struct dan_client *c);
/* The same, and waits half a second at most for what is on its way, counted from dan_part() if that
 * was called. NULL is fine; returns NULL. */
struct dan_client *dan_free(struct dan_client *c);

/* Publish values (borrowed; usually an array, one value for each unit) on an IDF. Errors: ERR_NOENT
 * (no such IDF), ERR_AGAIN (not connected or suspended: dropped), ERR_LIMIT (too much is waiting
 * for the broker), ERR_SCHEMA (not writable as JSON), ERR_NOMEM. */
int dan_push(struct dan_client *c, const char *idf, json_t *values, struct err *err);

/* The same of a JSON text, which is sent as it is. done (may be NULL) is called once, later: 0 when
 * the broker acknowledged it, ERR_AGAIN when that did not come before the connection ended (it may
 * have arrived); for a push that succeeds while the broker is away, after it is back. Not called
 * any more once dan_free() has begun. Errors: as dan_push(), and ERR_INVAL (done, but a QoS other
 * than 1). */
int dan_push_text(struct dan_client *c, const char *idf, const char *text, dan_pushed_fn *done,
		  void *arg, struct err *err);

/* Say offline, deregister, disconnect. done is called once: 0 also when csm does not know the
 * device any more, ERR_CONFLICT when somebody else registered it meanwhile, else what the request
 * failed with. Not twice. After it only dan_free(). */
int dan_leave(struct dan_client *c, dan_left_fn *done, void *arg, struct err *err);

bool dan_is_online(const struct dan_client *c);
bool dan_is_connected(const struct dan_client *c, enum dan_mode mode, const char *feature);
const char *dan_id(const struct dan_client *c);   /* lower-case */
const char *dan_name(const struct dan_client *c); /* "" before the first registration */
/* What csm gave for the broker and for registering again; NULL: nothing (so far). */
const char *dan_username(const struct dan_client *c);
const char *dan_password(const struct dan_client *c);
