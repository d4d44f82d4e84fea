/* client.h - inside of a dan_client; for dan.c, enroll.c (csm), broker.c and commands.c only. */
#pragma once

#include "common/bus.h"
#include "common/id.h"
#include "common/map.h"
#include "dan/control.h"
#include "dan/dan.h"
#include "dan/fetch.h"
#include "dan/registration.h"

#define CTRL_QOS 2

/* A feature and its place in the graphs. */
struct channel {
	enum dan_mode mode;
	char *name;
	char *topic; /* NULL: in no graph */
	bool told;   /* on_connect was called for topic */
	bool suspended;
};

/* A CONNECT of an ODF that waits for the broker to acknowledge the subscription. */
struct pending {
	struct dan_client *client;
	struct channel *channel;
	char *topic;
	json_t *msg_id; /* owned */
	struct pending *prev, *next;
};

enum phase { PHASE_REGISTERING, PHASE_REGISTERED, PHASE_LEAVING, PHASE_LEFT };

/* What became of a struct dan_conf. */
struct dan_own {
	char *url;                 /* of this device at csm */
	char *body;                /* of the PUT */
	char *username, *password; /* of an earlier registration; NULL: none */
	unsigned http_timeout_ms, retry_min_ms, retry_max_ms;
	uint8_t qos;
	struct channel *channels;
	size_t n_channels;
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

	struct map *by_topic; /* connected ODFs */
	struct pending *pending;

	dan_left_fn *left;
	void *left_arg;
};

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

/* Tell the application what went wrong. */
void dan_report(struct dan_client *c, const struct err *err);
/* Publish on the uplink. payload: taken; NULL: was out of memory. */
void dan_publish_up(struct dan_client *c, char *payload, uint8_t qos, bool retain);
struct channel *dan_find_channel(const struct dan_client *c, enum dan_mode mode, const char *name);
/* The channel is in no graph any more. */
void dan_drop_channel(struct dan_client *c, struct channel *ch);
/* A message on the downlink. */
void dan_on_command(struct dan_client *c, const struct bus_msg *m);
/* Forget the commands that still wait for the broker. */
void dan_drop_pending(struct dan_client *c);
