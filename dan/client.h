/* client.h - inside of a dan_client; for dan.c, enroll.c (csm), broker.c and commands.c only. */
#pragma once

#include "common/bus.h"
#include "common/id.h"
#include "common/map.h"
#include "dan/control.h"
#include "dan/dan.h"
#include "dan/features.h"
#include "dan/fetch.h"
#include "dan/registration.h"

#define CTRL_QOS 2

/* A feature that is in a graph. */
struct channel {
	enum dan_mode mode;
	bool told; /* on_connect was called */
	bool suspended;
	const char *name; /* as the features have it */
	struct channel *prev, *next;
	char topic[];
};

/* A push whose sender wants to hear of it. */
struct pushing {
	struct dan_client *client;
	dan_pushed_fn *done;
	void *arg;
	struct pushing *prev, *next;
};

/* A CONNECT of an ODF that waits for the broker to acknowledge the subscription. */
struct pending {
	struct dan_client *client;
	const char *name; /* of the ODF, as the features have it */
	char *topic;
	json_t *msg_id; /* owned */
	struct pending *prev, *next;
};

enum phase { PHASE_REGISTERING, PHASE_REGISTERED, PHASE_LEAVING, PHASE_LEFT };

/* What became of a struct dan_conf. */
struct dan_own {
	char *url;                 /* of this device at csm */
	char *name;                /* NULL: csm makes one */
	char *profile;             /* JSON text */
	char *body;                /* of the first PUT; NULL: it was sent */
	char *username, *password; /* of an earlier registration; NULL: none */
	unsigned http_timeout_ms, retry_min_ms, retry_max_ms;
	uint8_t qos;
	struct features features;
};

struct dan_client {
	struct loop *loop;
	struct dan_handlers handlers;
	void *arg;
	enum phase phase;

	struct uuid_text id;
	struct dan_own own, *next; /* next: of dan_update(), not in force yet; NULL: none */
	struct fetch *fetch, *own_fetch;
	struct fetch_call *call; /* the request under way; NULL: none */
	struct loop_src *timer;  /* next try to register; while leaving unregistered: the end */
	unsigned retry_ms;

	struct registration reg; /* all zero before the first answer */
	struct bus *bus;
	bool online, was_online;
	char *trouble; /* with the broker, as told last; NULL: none since we were online */

	struct channel *channels, *last_channel; /* in the order in which they came */
	struct map *by_name[2];                  /* of them, IDFs and ODFs */
	struct map *by_topic;                    /* ODFs of them */
	struct pending *pending;
	struct pushing *pushing;

	dan_left_fn *left;
	void *left_arg;
};

/* The body of the PUT; a string, yours to free(). */
int dan_own_body(struct dan_own *own, char **ret, struct err *err);
/* Zero *own before. id: empty before the first time, then it must be the same. Release with
 * dan_own_done() in both cases. */
int dan_own_read(struct dan_own *own, struct uuid_text *id, const struct dan_conf *conf,
		 struct err *err);
void dan_own_done(struct dan_own *own);

/* Send the PUT; what follows from the answer happens by itself. */
int dan_register(struct dan_client *c, struct err *err);
/* After a while offline: csm may have expired us, and then does not listen. */
void dan_check_registration(struct dan_client *c);
void dan_on_timer(void *arg);
int dan_connect_broker(struct dan_client *c, struct err *err);

/* The connection that had them is gone: none was acknowledged. tell: their senders hear of it. */
void dan_drop_pushing(struct dan_client *c, bool tell);

/* Tell the application what went wrong. */
void dan_report(struct dan_client *c, const struct err *err);
/* Publish on the uplink. payload: taken; NULL: was out of memory. */
void dan_publish_up(struct dan_client *c, char *payload, uint8_t qos, bool retain);
/* NULL: it is in no graph. */
struct channel *dan_find_channel(const struct dan_client *c, enum dan_mode mode, const char *name);
/* None is in a graph any more. */
void dan_drop_channels(struct dan_client *c);
/* Without a word to anybody; the client is going. */
void dan_free_channels(struct dan_client *c);
/* A message on the downlink. */
void dan_on_command(struct dan_client *c, const struct bus_msg *m);
/* Forget the commands that still wait for the broker. */
void dan_drop_pending(struct dan_client *c);
