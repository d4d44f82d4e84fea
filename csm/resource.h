/* resource.h - the HTTP resource API (spec iottalk-core 3), and the pages for operators. */
#pragma once

#include "common/http.h"
#include "csm/csm.h"

/* Listen on [core] bind and http-port. */
int resource_start(struct csm *csm, struct http_server **ret, struct err *err);
