/* client.h - inside of a dan_client; for dan.c and commands.c only. */
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

struct dan_client {
	struct loop *loop;
	struct dan_handlers handlers;
	void *arg;
	enum phase phase;

	char *url; /* of this device at csm */
	struct uuid_text id;
	char *body; /* of the PUT */
	struct fetch *fetch, *own_fetch;
	struct fetch_call *call; /* the request under way; NULL: none */
	unsigned http_timeout_ms;
	struct loop_src *timer; /* next try to register; while leaving unregistered: the end */
	unsigned retry_min_ms, retry_max_ms, retry_ms;

	struct registration reg; /* all zero before the first answer */
	struct bus *bus;
	bool online, was_online;
	uint8_t qos;

	struct channel *channels;
	size_t n_channels;
	struct map *by_topic; /* connected ODFs */
	struct pending *pending;

	dan_left_fn *left;
	void *left_arg;
};

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
