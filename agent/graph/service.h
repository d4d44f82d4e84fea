/* service.h - the graph service: runs the graphs csm gives it, in one engine, over one transport
 * (docs/agent-protocol.rst).
 *
 * Requests enter through the rows of service_ops(); answers and reports leave through events. Loop
 * thread only.
 */
#pragma once

#include "agent/graph/transport.h"
#include "agent/request.h"
#include "common/err.h"
#include "common/loop.h"
#include "common/settings.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct service;

struct service_events {
	void (*answer)(void *arg, const struct request_tag *tag,
		       json_t *answer);           /* answer: taken */
	int (*report)(void *arg, json_t *report); /* report: taken */
	void (*on_change)(void *arg);             /* of service_get_status() */
};

struct service_status {
	size_t graphs; /* running */
	bool engine_ready, open,
		link;     /* open: csm has synchronized; link: the data connection stands */
	pid_t engine_pid; /* -1: none */
	uint64_t engine_restarts;
	const char *transport;
};

/* engine: path of the engine's program, copied; settings: borrowed. ret: yours. */
int service_new(struct loop *l, const struct settings *settings, const char *agent_id,
		const char *engine, const struct transport_ops *ops,
		const struct service_events *events, void *arg, struct service **ret,
		struct err *err);
struct service *service_free(struct service *s); /* NULL is fine; returns NULL */

/* Handlers take the service as arg. */
const struct request_op *service_ops(size_t *ret_n);

void service_get_status(const struct service *s, struct service_status *ret);
/* Totals by name; a new object, yours; NULL: out of memory. */
json_t *service_counters(const struct service *s);
/* [{"id", "rev", "state": "running"|"refused"|"waiting", "reason"?}]; yours. */
json_t *service_graphs(const struct service *s);
