/* api.h - requests on iottalk/api/req/<client-id>/... (spec iottalk-core 5). */
#pragma once

#include "csm/csm.h"

/* A message below iottalk/api/req/. Answered on the same topic below iottalk/api/res/. */
void api_on_message(struct csm *csm, const struct bus_msg *m);
