/* host.h - keeps one engine running behind one port: asks the keeper for it, watches its time,
 * replaces it, says who is to blame.
 *
 * Messages wait on the ring and in the transport while no engine is there. An engine that was
 * replaced knows no graph: on_ready asks for everything to be loaded, and messages flow again after
 * host_go(). Requests that an engine died with are not repeated by the host: on_fall tells, and who
 * wants them asks the next engine. An engine outlives its agent: the next agent adopts it with its
 * rings. Loop thread only.
 */
#pragma once

#include "agent/graph/keeper.h"
#include "agent/graph/transport.h"
#include "common/err.h"
#include "common/loop.h"
#include "common/settings.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct host;

/* What the engine was at when it fell: of the word it leaves behind (docs/ring.rst), so a hint and
 * no more. */
struct host_doing {
	uint32_t graph, lid;
	enum { DOING_NOTHING, DOING_IDF, DOING_JOIN, DOING_ODF, DOING_LOADING } kind;
};

struct host_fall {
	const char *why; /* "time budget of 1000 ms exceeded", "the engine ended (killed by signal
			    9)" */
	void *request;   /* arg of the request that is to blame; NULL: none is */
	bool evaluating; /* a message was being evaluated: it is skipped, and its slot tells whose
			    it was */
	uint32_t slot;
	struct host_doing doing;
	bool foreign; /* somebody else killed it: whatever was running is not to blame */
};

struct host_events {
	void (*on_ready)(void *arg);
	void (*on_fall)(void *arg, const struct host_fall *fall);
	void (*on_unasked)(void *arg, const char *op, json_t *msg); /* stats, fault; msg borrowed */
};

struct host_status {
	pid_t pid; /* -1: none */
	bool ready;
	uint64_t restarts;
};

/* answer: borrowed. */
typedef void host_answer_fn(void *arg, json_t *answer);

struct host_conf {
	struct loop *loop;
	const struct settings *settings; /* borrowed, as all here */
	struct keeper *keeper;
	const struct transport_ops *ops; /* where its port is made */
	struct transport *transport;
};

/* Start the first engine, as soon as there is a keeper. name: of engine and port, for the next agent;
 * copied. ret: yours. An engine that does not start is tried again for ever: that is no error here.
 */
int host_new(const struct host_conf *conf, const char *name, const struct host_events *events,
	     void *arg, struct host **ret, struct err *err);
/* In on_found of the keeper: go on with the rings of an earlier agent (their descriptors are taken,
 * also on failure). If host_is_ready() then, the engine runs with the graphs it has, as after host_go();
 * else there will be an on_fall (if it died while it ran) and an on_ready. ret: yours. */
int host_adopt(const struct host_conf *conf, struct keeper_found *found,
	       const struct host_events *events, void *arg, struct host **ret, struct err *err);
struct host *host_free(struct host *h); /* ends the engine; NULL is fine; returns NULL */

const char *host_name(const struct host *h);
struct transport_port *host_port(struct host *h);
/* True between on_ready and the fall of that engine. */
bool host_is_ready(const struct host *h);
/* Ask the engine; seq is added. msg: taken, also on failure; the answer comes once, unless the
 * engine falls before. Errors: ERR_AGAIN (no engine), ERR_LIMIT (too large), ERR_NOMEM. */
int host_request(struct host *h, json_t *msg, host_answer_fn *fn, void *arg, struct err *err);
/* All is loaded: messages flow. */
void host_go(struct host *h);

/* Bytes of the in-ring that the engine has done, and that were put there, since the rings were made.
 * ret: false while no engine takes messages. */
bool host_ring(const struct host *h, uint64_t *ret_done, uint64_t *ret_fed);

/* From the transport's events. */
void host_fed(struct host *h);
void host_broken(struct host *h);

/* There is a keeper again. */
void host_keeper_up(struct host *h);

void host_get_status(const struct host *h, struct host_status *ret);
