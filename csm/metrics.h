/* metrics.h - counters, gauges and histograms, written as Prometheus text (exposition format 0.0.4).
 *
 * Times are microseconds. Whatever is passed as text is a literal or a word of our own, never what somebody sent.
 */
#pragma once

#include "csm/csm.h"

struct http_done;
struct metrics;

struct metrics *metrics_new(void); /* NULL: out of memory */
struct metrics *metrics_free(struct metrics *m);

void metrics_http(struct metrics *m, const struct http_done *done);
/* service: "device", "graph", ...; op as sent if it is one of ours, else "unknown". state: "ok", "error". took: from the message to
 * the answer. */
void metrics_api(struct metrics *m, const char *service, const char *op, const char *state, int64_t took_us);
/* A command to a device is over. result: "ok", "error"; "timeout": no answer, its time is not observed. */
void metrics_command(struct metrics *m, const char *command, const char *result, int64_t took_us);
/* An agent has answered. */
void metrics_agent(struct metrics *m, const char *op, int64_t took_us);
/* A transaction is over. took: of the commit. */
void metrics_commit(struct metrics *m, bool stored, uint64_t statements, int64_t took_us);
/* Something was thrown away: source "control", "api", "agent", "bus", "http"; reason a stable word. */
void metrics_drop(struct metrics *m, const char *source, const char *reason);

/* The page: what `m` has, and the gauges of the other modules. ret: yours, NULL: out of memory. */
char *metrics_page(struct csm *csm);
