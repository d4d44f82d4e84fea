/* metrics.h - what /metrics says of ccm's HTTP side and its process (Prometheus text 0.0.4). */
#pragma once

#include "ccm/ccm.h"
#include "common/http.h"

struct web_metrics;

struct web_metrics *web_metrics_new(void); /* NULL: out of memory */
struct web_metrics *web_metrics_free(struct web_metrics *m);
void web_metrics_http(struct web_metrics *m, const struct http_done *done);
/* why: of http_conf's on_cut. */
void web_metrics_cut(struct web_metrics *m, const char *why);
/* The page. ret: yours; NULL: out of memory. */
char *web_metrics_page(const struct web_metrics *m, struct ccm *ccm, const struct http_server *http);
