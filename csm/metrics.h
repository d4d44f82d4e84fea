/* metrics.h - counters and gauges, written as Prometheus text (exposition format 0.0.4). */
#pragma once

#include "csm/csm.h"

struct metrics;

struct metrics *metrics_new(void); /* NULL: out of memory */
struct metrics *metrics_free(struct metrics *m);

void metrics_http(struct metrics *m, const char *method, unsigned status);
/* service: "device", "graph", ...; op as sent if it is one of ours, else "unknown". state: "ok", "error". */
void metrics_api(struct metrics *m, const char *service, const char *op, const char *state);
/* Something was thrown away: source "control", "api", "agent", "bus"; reason a stable word. */
void metrics_drop(struct metrics *m, const char *source, const char *reason);
/* The page: counters of `m` and the gauges of the other modules. ret: yours, NULL: out of memory. */
char *metrics_page(struct csm *csm);
