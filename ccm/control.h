/* control.h - what ccm answers on its control socket (common/ctl.h): for iotctl, so for whoever runs the suite. Nobody's
 * ownership is asked for here; what changes a project is done in the name of its owner. */
#pragma once

#include "ccm/ccm.h"

int control_listen(struct ccm *ccm, struct err *err);

/* control_look.c: rows of the table of ops, which only look. Lists come in pages: `after` (an id) asks for the next one, `more`
 * says that there is one. */
void control_projects(void *arg, json_t *request, struct ctl_call *call);
void control_project(void *arg, json_t *request, struct ctl_call *call);
void control_devices(void *arg, json_t *request, struct ctl_call *call);
void control_functions(void *arg, json_t *request, struct ctl_call *call);
void control_function(void *arg, json_t *request, struct ctl_call *call);
void control_users(void *arg, json_t *request, struct ctl_call *call);
/* Which project a request names in `project`: its number, its name, or OWNER/NAME. ret_p_id, ret_u_id: it, and whose it is.
 * Errors: ERR_NOENT, ERR_CONFLICT (several have that name), ERR_DB. */
int control_find_project(struct db *db, const json_t *request, int64_t *ret_p_id, int64_t *ret_u_id, struct err *err);
