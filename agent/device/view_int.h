/* view_int.h - inside of a view; for view.c and view_*.c only. */
#pragma once

#include "agent/device/point.h"
#include "agent/device/view.h"
#include "common/id.h"
#include "dan/dan.h"

#define SET_SUFFIX "_set"
#define ACK_SUFFIX "_ack"
#define SUFFIX_LEN 4
/* Pauses between tries at csm, doubling; half of each is chance: 1 s to 60 s. */
#define RETRY_MIN_MS 2000
#define RETRY_MAX_MS 60000

/* What IoTtalk wants of an IDF; bits. */
enum {
	IDF_WANTED = 1,     /* its values go to the outbox: it is in a graph, or was when the broker
			       was seen last */
	IDF_CONNECTED = 2,  /* it is in a graph, not suspended, and the broker is there */
	IDF_PUT = 4,        /* a value came since the broker went: the last one is in the outbox */
	IDF_STORED = 8,     /* the store knows that it is wanted */
	IDF_SUSPENDED = 16, /* it was, as far as is known: the last word about it was that */
};

/* The writes of one ODF. */
struct write {
	uint64_t number; /* of the one in progress */
	json_t *current; /* the list as it came; owned, as the next */
	json_t *waiting; /* NULL: none */
};

struct view_point {
	uint32_t name;    /* of its IDF: where in names, + 1; 0: the point's own */
	uint8_t idf, ack; /* bits */
	uint8_t keep;     /* enum outbox_keep */
};

/* A value that dan has and the broker has not acknowledged. */
struct push {
	struct view *view;
	uint64_t token;
	struct push *prev, *next;
};

struct view {
	struct loop *loop;
	struct view_conf conf;
	struct view_events events;
	void *arg;
	struct uuid_text id;
	bool slave;

	struct view_point *points; /* as many as conf.points has */
	struct points *conversions;
	uint32_t *by_name; /* their indices, by name */
	char *names;
	struct write **writing; /* in progress, by point; NULL: there never was one */

	struct dan_client *dan;    /* NULL: stopped */
	struct dan_client *parted; /* says goodbye meanwhile; NULL: none does */
	bool registered;
	bool held;                     /* view_hold() */
	bool blocked;                  /* the outbox was told ERR_AGAIN and waits */
	struct loop_src *ready_timer;  /* of blocked */
	struct loop_src *wanted_timer; /* for csm to connect; without dan: for the next start */
	struct push *pushes;

	enum link_state link;
	unsigned link_count;
	uint8_t link_idf; /* bits */
	uint32_t next_write;

	uint64_t pushed, writes, refused;
	char *why; /* NULL: nothing failed yet */
};

/* An IDF of ours, looked up. */
struct idf {
	uint8_t *bits;
	enum outbox_keep keep;
	int point; /* -1: link */
	bool ack;
	const char *name;
	char ack_name[VIEW_FEATURE_MAX];
};

/* ---- view_names.c ---- */

int view_name_points(struct view *v, struct err *err);
void view_idf_link(struct view *v, struct idf *ret);
void view_idf_point(struct view *v, unsigned point, struct idf *ret);
void view_idf_ack(struct view *v, unsigned point, struct idf *ret);
/* ret: false: no IDF of ours */
bool view_find_idf(struct view *v, const char *name, struct idf *ret);
/* ret: the point of an ODF; -1: none */
int view_find_odf(const struct view *v, const char *name);
typedef void view_idf_fn(struct view *v, struct idf *idf);
void view_each_idf(struct view *v, view_idf_fn *fn);
/* The features of the registration. */
struct view_features {
	struct dan_feature *idfs, *odfs;
	size_t n_idfs, n_odfs;
	void *memory; /* that they point into */
};
int view_features(struct view *v, struct view_features *ret, struct err *err);
void view_features_done(struct view_features *f);

/* ---- view.c ---- */

/* Give a value to the outbox if it is wanted. values: taken; NULL: there is none. done may be NULL.
 */
void view_put(struct view *v, const struct idf *idf, json_t *values, emitted_fn *done, void *arg);
void view_put_last(struct view *v, const struct idf *idf);
void view_set_why(struct view *v, const char *why);

/* What dan has not been acknowledged goes back to the outbox. */
void view_drop_pushes(struct view *v);

/* ---- view_wanted.c ---- */

/* What an earlier process knew to be wanted. */
int view_wanted_load(struct view *v, struct err *err);
void view_wanted_connect(struct view *v, const char *feature);
/* Nobody wants it any more. */
void view_wanted_disconnect(struct view *v, const char *feature);
void view_wanted_suspend(struct view *v, const char *feature, bool suspended);
/* The broker is gone, or forgot what is connected; what is wanted stays so. */
void view_wanted_away(struct view *v);
/* It is there: what is not connected soon is not wanted. */
void view_wanted_back(struct view *v);
/* An earlier process knew it to be wanted. */
void view_wanted_stored(struct view *v, const char *feature);

/* ---- view_store.c ---- */

void view_store_registration(struct view *v);
/* As the bits have it. */
void view_store_wanted(struct view *v, struct idf *idf);
/* Calls view_wanted_stored() with each. */
int view_store_load_wanted(struct view *v, struct err *err);
/* What csm gave for the next registration; NULL: it demands none. */
void view_store_login(struct store *s, const char *id, const char *username, const char *password);
struct view_login {
	json_t *doc;                     /* owned; the strings are its */
	const char *username, *password; /* NULL: none */
};
void view_store_load_login(struct store *s, const char *id, struct view_login *ret);
void view_login_done(struct view_login *login);
/* All of a device application that is no more. */
void view_store_forget(struct store *s, const char *id);

/* ---- view_writes.c ---- */

void view_on_data(struct view *v, const char *feature, json_t *values);
void view_drop_writes(struct view *v);

/* ---- view_farewell.c ---- */

void view_farewells_cancel(struct view_farewells *f, const char *id);
