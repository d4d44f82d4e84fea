/* transport.h - how data messages reach engines and results leave them (implementations:
 * transport_client.c, transport_plugin.c; docs/ring.rst for the rings).
 *
 * A transport has a port for each engine: it puts messages of tapped topics on the port's in-ring,
 * in the order the broker delivers them, and publishes results of the out-ring to the topic of
 * their out-slot. It knows no graph and no JSON. Replays of retained messages and wills on data
 * topics are ignored. What finds no room waits with the broker, if the transport can leave it
 * there, or is dropped and counted (docs/client-transport.rst, docs/plugin-protocol.rst). Loop
 * thread only. Everything that is said to come later comes from the loop, never from within the
 * call that asked for it.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include "common/settings.h"
#include "common/tap.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct transport;      /* state of an implementation */
struct transport_port; /* one engine's place in the transport */

typedef void transport_done_fn(void *arg, int rc);

/* Where an engine stood when it died, as far as it can be believed. */
struct transport_standing {
	bool sane;       /* its cursor is possible; else there is nothing to say */
	bool at_message; /* a message is there: it was being evaluated, or would have been next */
	uint32_t slot;   /* of that message */
	uint64_t done;   /* bytes of the in-ring behind it */
};
typedef void transport_held_fn(void *arg, const struct transport_standing *standing);

/* What happened to messages on one tapped topic. */
struct transport_slot_stats {
	uint32_t slot;
	uint64_t received, dropped_full, dropped_too_large;
};
/* rows: borrowed; NULL and n 0 if they cannot be had now. */
typedef void transport_slots_fn(void *arg, const struct transport_slot_stats *rows, size_t n);

struct transport_events {
	/* The engine of a port broke the ring's rules: kill it, then port_hold(). */
	void (*on_port_broken)(void *arg, struct transport_port *port);
	/* The engine of the port has something to do: messages were put on its ring while it slept,
	 * or (client) at all. */
	void (*on_port_fed)(void *arg, struct transport_port *port);
	/* The way to the broker is up or down. */
	void (*on_link)(void *arg, bool up);
};

struct transport_ops {
	const char *name; /* "client", "plugin" */
	bool outlives;    /* ports go on while no agent is there */
	int (*start)(struct loop *l, const struct settings *s, const char *agent_id,
		     const struct transport_events *ev, void *arg, struct transport **ret,
		     struct err *err);
	/* Ports are left as they are: the next agent may find them. */
	struct transport *(*stop)(struct transport *t);
	/* All that csm wants is loaded; called once, after the first sync. The client transport
	 * begins to take messages from the broker; the plugin gives up topics that an earlier agent
	 * had and nobody has asked for since. */
	void (*open)(struct transport *t);

	/* An engine's rings. name: of the engine, unique in this agent, the same after a restart of
	 * the agent. fds, wake_fd (write end of the engine's wake pipe), result_fd (read end of its
	 * result pipe): borrowed, and alive as long as the port. -1, -1: no engine yet; messages
	 * queue up until port_resume(). */
	int (*port_add)(struct transport *t, const char *name, const struct tap_fds *fds,
			int wake_fd, int result_fd, struct transport_port **ret, struct err *err);
	/* The engine is dead: take the results that are there, then hold messages. fn: called
	 * later, once. Only for a port with an engine. */
	int (*port_hold)(struct transport_port *p, transport_held_fn *fn, void *arg,
			 struct err *err);
	/* After fn of port_hold(): say where the next engine begins; skip_current: after the
	 * message at which the last one stood. done: called later, once; then tap_make_out() makes
	 * the next out-ring. */
	int (*port_retire)(struct transport_port *p, bool skip_current, transport_done_fn *done,
			   void *arg, struct err *err);
	/* The next engine (also the first one of a port that was added without) is there, and knows
	 * its graphs: messages go on, and it is woken, also if nothing came: it looks at its ring at
	 * the first wake byte, not before. fds as port_add(), the old ones are no longer used. */
	int (*port_resume)(struct transport_port *p, const struct tap_fds *fds, int wake_fd,
			   int result_fd, struct err *err);
	/* Forget it, and what waits for it; nothing is called any more. */
	struct transport_port *(*port_remove)(struct transport_port *p);

	/* True while results wait on the ring because the broker does not take them: an engine that
	 * stands still then does no wrong. */
	bool (*port_holding)(const struct transport_port *p);

	/* Route topic to in-slot *ret_slot of the port. Counted: a second tap of the same topic on
	 * the same port has the same slot. done: called later, once, when messages from now on will
	 * arrive. */
	int (*tap_topic)(struct transport_port *p, const char *topic, uint32_t *ret_slot,
			 transport_done_fn *done, void *arg, struct err *err);
	void (*untap_topic)(struct transport_port *p, const char *topic);
	/* Allow the port to publish to topic as out-slot *ret_slot; counted likewise. done: called
	 * later, once: not before then may an engine use the slot. */
	int (*out_topic)(struct transport_port *p, const char *topic, uint32_t *ret_slot,
			 transport_done_fn *done, void *arg, struct err *err);
	void (*drop_out_topic)(struct transport_port *p, const char *topic);

	/* Publish on behalf of the agent itself (esm_error of a killed engine); topic must be an
	 * out topic of the port. */
	int (*publish)(struct transport_port *p, uint32_t out_slot, const char *payload,
		       size_t len);

	/* Counters by name, {"received": n, "dropped.retained": n, "dropped.too_large": n, ...}; a
	 * new object, the caller's. */
	json_t *(*stats)(const struct transport *t);
	/* The same for each tapped topic of a port. fn: called later, once. */
	int (*port_stats)(struct transport_port *p, transport_slots_fn *fn, void *arg,
			  struct err *err);
};

extern const struct transport_ops transport_client;
