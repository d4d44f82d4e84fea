/* csm.h - the control plane: who is registered, what is linked, which agent runs which graph.
 *
 * One struct holds the process. Modules get it whole and touch only their own member; what they offer each other is in
 * their headers. Everything runs on the loop's thread.
 *
 * Order of one request: it changes memory and queues statements (store.h), its effects - answers, messages, announcements -
 * wait for the commit at the end of the loop's turn. If the commit fails, memory is put back and the answers say so.
 */
#pragma once

#include "common/bus.h"
#include "common/ctl.h"
#include "common/daemon.h"
#include "common/http.h"
#include "common/id.h"
#include "common/loop.h"
#include "common/reload.h"
#include "common/seal.h"
#include "common/trace.h"
#include <stdint.h>

struct csm {
	struct daemon_opts daemon;
	const struct settings *settings; /* = &daemon.settings */
	struct loop *loop;
	struct seal_key key;
	struct store *store;
	struct metrics *metrics;
	struct registry *registry;	 /* device applications */
	struct links *links;		 /* data topics and their CONNECTs */
	struct suspensions *suspensions; /* features that operators have suspended */
	struct funcs *funcs;		 /* function sources by digest */
	struct graphs *graphs;		 /* graphs: confirmed and proposed */
	struct agents *agents;		 /* sessions with agents */
	struct listeners *listeners;	 /* clients of the device API */
	struct repeats *repeats;	 /* requests that were taken up */
	struct bus *bus;
	struct loop_src *cleanup_timer; /* retained messages to clear */
	bool bus_was_up; /* once: then we said that we are ready */
	bool silent;	 /* starting or stopping: links change hands without commands to devices */
	struct outgoing *unsent;	/* answers that there was no memory to send, newest first */
	struct loop_src *unsent_timer; /* tries again */
	struct http_server *http;
	struct beacon *beacon; /* NULL: the settings leave it off */
	struct ctl *ctl;
	struct reload reload;
	int64_t started_ms;
	struct uuid_text run; /* another one after each start */
};

/* Start everything in order; a half-started csm is fine for csm_stop(). ret: 1 exit at once (--help), 0, negative. */
int csm_start(struct csm *csm, int argc, char *argv[], struct err *err);
void csm_stop(struct csm *csm);

/* Effects (outgoing.c): publish when the turn is committed; on a failed commit the message is dropped. body: taken (a reference). */
void csm_publish(struct csm *csm, const char *topic, json_t *body, uint8_t qos, bool retain);
/* The same without waiting: for facts that hold whatever the store says. body: taken. */
void csm_send(struct csm *csm, const char *topic, json_t *body, uint8_t qos, bool retain);
/* A command to a device, at once. body: taken; NULL: out of memory. ret: false: it is not on its way, and is to be said again. */
bool csm_command(struct csm *csm, const char *da_id, json_t *body);
/* A request of the MQTT API that waits for its answer; copied freely. */
struct asked {
	struct trace_text trace;
	const char *service, *op; /* literals, as metrics tell them */
	bool changes;		  /* something, if it succeeds: told at level info */
	int64_t at_us;
};
/* An API answer: on a failed commit the same topic gets the request's fields with state error instead. from: copied, logged and
 * counted when the answer goes out; NULL: more answers to the request follow. answer: taken; NULL (out of memory): the turn fails. */
void csm_answer(struct csm *csm, const char *topic, json_t *answer, const struct asked *from);
/* text as a JSON string whatever its bytes: what is no UTF-8 (a name that was cut, a path as it came) reads "?". NULL: out of memory. */
json_t *csm_text(const char *text);
/* Wall-clock seconds since 1970. */
double csm_now(void);
