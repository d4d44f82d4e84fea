/* ports.h - engines' rings in the broker: what messages go where, what results come out as
 * (docs/plugin-protocol.rst, "Life of a port").
 *
 * The broker's thread only; nothing blocks, nothing is unbounded: PORTS_MAX ports, SLOTS_MAX slots
 * each, and all topics and tables within PORTS_BYTES_MAX. What engines write is checked by
 * common/tap; what the agent says is checked here. Functions return 0 or a negative ERR_*.
 */
#pragma once

#include "common/err.h"
#include "common/plug.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PORTS_MAX       256u
#define SLOTS_MAX       (1u << 20) /* of a port, in each direction */
#define PORTS_BYTES_MAX ((size_t)256 << 20)
#define ECHOES_MAX      4u /* of one owner */
#define ESM_PREFIX      "iottalk/esm/"
#define MONITOR_PREFIX  "iottalk/monitor/"

struct ports;
struct mosquitto_evt_message;

struct ports_conf {
	size_t max_payload_bytes; /* larger messages are not tapped, but counted */
	size_t max_result_bytes;  /* likewise for results; 0: what MQTT allows */
	/* An engine broke the rules of the ring (once), or was woken (now and then). */
	void (*on_event)(void *arg, uint32_t port, enum plug_event event);
	void *arg;
};

int ports_new(const struct ports_conf *conf, struct ports **ret, struct err *err);
struct ports *ports_free(struct ports *ps); /* the rings live on; NULL is fine; returns NULL */

/* ---- what the agent says ---- */

/* owner: who is to be told apart from those who have gone, see ports_disown(). fds: in, out, wake,
 * result, or in and out alone (n_fds 2); borrowed, what is needed is duplicated. ret_living: the
 * name was there with these rings, nothing but its owner was changed; with others it is replaced.
 */
int ports_add(struct ports *ps, const void *owner, const char *name, const int *fds, size_t n_fds,
	      uint32_t *ret_port, bool *ret_living, struct err *err);
/* ret_*: as the answers of common/plug.h have them. */
int ports_state(const struct ports *ps, uint32_t port, enum plug_state *ret, struct err *err);
struct port_standing {
	bool more;       /* there are more results: ask again */
	bool sane;       /* the engine's cursor is possible; else the rest says nothing */
	bool at_message; /* a record is there, of slot */
	uint32_t slot;
	uint64_t done;
};
int ports_hold(struct ports *ps, uint32_t port, struct port_standing *ret, struct err *err);
int ports_retire(struct ports *ps, uint32_t port, bool skip, struct err *err);
int ports_resume(struct ports *ps, uint32_t port, const int *fds, struct err *err); /* three */
int ports_remove(struct ports *ps, uint32_t port, struct err *err);
/* The owner has gone: its ports go on until somebody adds them again, or sweeps them away. */
void ports_disown(struct ports *ps, const void *owner);
/* Remove what has no owner and a name that begins so. ret: how many. */
unsigned ports_sweep(struct ports *ps, const char *prefix);

int ports_tap(struct ports *ps, uint32_t port, uint32_t slot, const char *topic, struct err *err);
int ports_untap(struct ports *ps, uint32_t port, uint32_t slot, struct err *err);
int ports_out(struct ports *ps, uint32_t port, uint32_t slot, const char *topic, struct err *err);
int ports_drop_out(struct ports *ps, uint32_t port, uint32_t slot, struct err *err);
int ports_publish(struct ports *ps, uint32_t port, uint32_t slot, unsigned qos, const void *payload,
		  size_t len, struct err *err);

/* The next topic of a port. *cursor: 0 at first, then what the last call left there. ret: 1, 0 (no
 * more) or ERR_NOENT. */
struct port_topic {
	uint32_t slot;
	bool outward;
	const char *topic;                     /* borrowed until the next call of anything */
	uint64_t received, no_room, too_large; /* not outward */
};
int ports_next_topic(const struct ports *ps, uint32_t port, uint64_t *cursor,
		     struct port_topic *ret, struct err *err);

/* Above all slots that ever were taps, or for results. ret: 0 or ERR_NOENT. */
int ports_slots(const struct ports *ps, uint32_t port, uint32_t *ret_in, uint32_t *ret_out,
		struct err *err);

/* One message on `from` is answered by one on `to`, once; owner: for ports_forget_echoes(). */
int ports_echo(struct ports *ps, const void *owner, const char *from, const char *to,
	       struct err *err);
void ports_forget_echoes(struct ports *ps, const void *owner);

/* Lines "name total\n" into buf. ret: how many bytes, without the NUL. */
size_t ports_print_stats(const struct ports *ps, char *buf, size_t size);

/* ---- what the broker does, in this order each turn ---- */

void ports_deliver(struct ports *ps,
		   const struct mosquitto_evt_message *m); /* any number of them */
/* Whether there are ports at all. */
bool ports_any(const struct ports *ps);
/* After the messages: wake whom it takes. ahead: the next turn follows at once, and may wake whom
 * this one lets sleep. */
void ports_fed(struct ports *ps, int64_t now_ms, bool ahead);
/* Take results, a bounded number, and publish them. ret: true if more are there. */
bool ports_pull(struct ports *ps);
/* Nothing is left to do: say so to the engines and look once more. ret: true if something was
 * there. */
bool ports_sleep(struct ports *ps);
/* Now and then (100 ms): keep result pipes from filling up. */
void ports_drain(struct ports *ps);
