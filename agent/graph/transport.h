/* transport.h - how data messages reach engines and results leave them (two implementations;
 * docs/ring.rst for the rings).
 *
 * A transport owns the taps (ring pairs) it is given topics for: it puts messages of tapped topics
 * on the tap's in-ring, in the order the broker delivers them, and publishes results of the
 * out-ring to the topic of their out-slot. It knows no graph and no JSON. Replays of retained
 * messages and wills on data topics are ignored. What finds no room waits with the broker, if the
 * broker can keep it, or is dropped and counted (docs/client-transport.rst). Loop thread only.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include "common/settings.h"
#include "common/tap.h"
#include <jansson.h>
#include <stdbool.h>

struct transport;      /* state of an implementation */
struct transport_port; /* one engine's place in the transport */

typedef void transport_done_fn(void *arg, int rc);

struct transport_events {
	/* The engine of a port broke the ring's rules: kill it and call renewed(). */
	void (*on_port_broken)(void *arg, struct transport_port *port);
	/* Messages were put on the port's ring, once per batch: from now on its engine has
	 * something to do. */
	void (*on_port_fed)(void *arg, struct transport_port *port);
	/* The way to the broker is up or down. */
	void (*on_link)(void *arg, bool up);
};

struct transport_ops {
	const char *name; /* "client", later "plugin" */
	int (*start)(struct loop *l, const struct settings *s, const char *agent_id,
		     const struct transport_events *ev, void *arg, struct transport **ret,
		     struct err *err);
	struct transport *(*stop)(struct transport *t);
	/* Begin to take messages from the broker; called once, after the first sync. */
	void (*open)(struct transport *t);

	/* An engine's rings. tap: owned by the caller, outlives the port. wake_fd: write end of the
	 * engine's wake pipe, result_fd: read end of its result pipe; both the caller's. */
	int (*port_add)(struct transport *t, struct tap *tap, int wake_fd, int result_fd,
			struct transport_port **ret, struct err *err);
	/* The engine was replaced: the tap has a new out-ring, the descriptors are new; messages go on and
	 * the engine is woken, also if nothing came: it looks at its ring at the first wake byte,
	 * not before. -1, -1: the engine is gone; take the results that are there, then hold. A
	 * port holds from port_add() with -1, -1 as well. */
	int (*port_renewed)(struct transport_port *p, int wake_fd, int result_fd, struct err *err);
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
	/* Allow the port to publish to topic as out-slot *ret_slot; counted likewise. */
	int (*out_topic)(struct transport_port *p, const char *topic, uint32_t *ret_slot,
			 struct err *err);
	void (*drop_out_topic)(struct transport_port *p, const char *topic);

	/* Publish on behalf of the agent itself (esm_error of a killed engine); topic must be an
	 * out topic of the port. */
	int (*publish)(struct transport_port *p, uint32_t out_slot, const char *payload,
		       size_t len);

	/* Counters by name, {"received": n, "dropped.retained": n, "dropped.too_large": n, ...}; a
	 * new object, the caller's. */
	json_t *(*stats)(const struct transport *t);
};

extern const struct transport_ops transport_client;
