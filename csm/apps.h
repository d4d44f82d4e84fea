/* apps.h - device applications for operators: the ops of csm's control socket behind `iotctl app`.
 *
 * Answers name a device application by its id. `app` in a request is an id, the begin of exactly one, or a name that exactly one has.
 */
#pragma once

#include "csm/csm.h"

/* {"op": "apps", "after"?, "limit"?} -> {"apps": [{"id", "name", "model", "state", "since", "idf", "odf", "suspended"}], "more": bool}; idf, odf,
 * suspended: how many features. */
void apps_list(void *csm, json_t *request, struct ctl_call *call);
/* {"op": "app", "app"} -> {"app": {what the device API tells, "since", "links": links_of(), "suspended": suspensions_of()}} */
void apps_show(void *csm, json_t *request, struct ctl_call *call);
/* {"op": "suspend" | "resume", "app", "feature", "mode"?} -> {"id", "features": [{"mode", "feature", "state", "reason"?}]} once each has answered,
 * has not in time, or is offline. */
void apps_suspend(void *csm, json_t *request, struct ctl_call *call);
void apps_resume(void *csm, json_t *request, struct ctl_call *call);
/* {"op": "deregister", "app"} -> {"id", "name"} once it is stored. */
void apps_deregister(void *csm, json_t *request, struct ctl_call *call);
