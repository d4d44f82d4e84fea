/* plugin.h - inside the plugin transport: ports and topics as they should be, and how far the
 * plugin has heard of them. Private to transport_plugin.c (the transport, its ports) and
 * plugin_topics.c.
 *
 * What should be is kept here; whenever the connection comes up, all of it is said again. The
 * plugin may have restarted with the broker and know nothing, or still have everything.
 */
#pragma once

#include "agent/graph/plug_link.h"
#include "agent/graph/slot_rows.h"
#include "agent/graph/slots.h"
#include "agent/graph/transport.h"
#include "common/topic_table.h"

enum port_phase {
	PORT_EMPTY,    /* no engine yet */
	PORT_RUNNING,  /* the engine gets messages */
	PORT_HOLDING,  /* asked how its dead engine stood */
	PORT_HELD,     /* told */
	PORT_RETIRING, /* asked to say where the next one begins */
	PORT_RETIRED,  /* said */
};

struct plugin_waiter {
	struct plugin_waiter *next;
	transport_done_fn *fn;
	void *arg;
};

struct plugin_topic {
	struct transport_port *port;
	bool outward;
	uint32_t slot;
	unsigned refs;   /* 0: an earlier agent's, not asked for yet */
	unsigned asking; /* requests that name this struct */
	bool there;      /* the plugin has it */
	struct plugin_waiter *waiters;
	char name[];
};

/* Topics of one direction. */
struct plugin_topics {
	struct topic_table *table; /* struct plugin_topic, owned */
	struct slots *slots;
};

struct transport_port {
	struct transport *t;
	struct transport_port *next;
	char *name;
	const struct tap_fds *fds; /* the owner's */
	int wake_fd, result_fd;    /* the owner's; -1: no engine */
	struct tap_watch *watch;   /* for the rest of slots */
	enum port_phase phase;
	uint32_t number; /* the plugin's; 0 and known false: not added since the connection came up
			  */
	bool known;
	bool living;    /* it had it, when it was added last */
	uint32_t state; /* enum plug_state, then */
	bool met;       /* the plugin has had it at some time: what it lists of it is ours */
	struct plugin_topics in, out;
	transport_held_fn *held;
	transport_done_fn *retired;
	transport_slots_fn *slots;
	void *held_arg, *retired_arg, *slots_arg;
	bool skip;             /* retiring */
	uint64_t start;        /* before retiring: a change tells that it was done */
	bool broken_told;      /* since the last engine */
	struct slot_rows rows; /* being told */
	struct loop_src *later_timer;
};

struct transport {
	struct loop *loop;
	const struct settings *settings;
	struct transport_events ev;
	void *arg;
	struct plug_link *link;
	char *prefix; /* of our ports' names in the plugin, which other agents may use as well */
	struct transport_port *ports;
	bool opened, starting;
	json_t *stats; /* as last told */
	struct loop_src *stats_timer, *link_timer;
};

/* ---- plugin_topics.c ---- */

int plugin_topics_init(struct plugin_topics *ts, struct err *err);
void plugin_topics_done(struct plugin_topics *ts);
/* Tell the plugin all of them, after its connection came up. */
void plugin_topics_tell(struct transport_port *p);
/* The plugin lists one. What is not ours is taken away, or kept until plugin_topics_sweep() if an
 * earlier agent may have wanted it. */
void plugin_topics_listed(struct transport_port *p, bool outward, uint32_t slot, const char *name);
/* It has listed all, and there never were more slots than these. */
void plugin_topics_rest(struct transport_port *p, uint64_t n_in, uint64_t n_out);
/* Give up what nobody has asked for. */
void plugin_topics_sweep(struct transport_port *p);
/* The connection is gone: nothing is there any more, as far as we know. */
void plugin_topics_unsure(struct transport_port *p);

int plugin_tap_topic(struct transport_port *p, const char *name, uint32_t *ret_slot,
		     transport_done_fn *done, void *arg, struct err *err);
void plugin_untap_topic(struct transport_port *p, const char *name);
int plugin_out_topic(struct transport_port *p, const char *name, uint32_t *ret_slot,
		     transport_done_fn *done, void *arg, struct err *err);
void plugin_drop_out_topic(struct transport_port *p, const char *name);

/* ---- transport_plugin.c ---- */

/* Ask for something about the port. ret: 0; quietly ERR_AGAIN if the plugin does not know it now;
 * or another error, logged. */
int plugin_ask(struct transport_port *p, struct plug_ask *ask);
