/* maintenance_user.h - `ccm user add|password|list`: accounts, the first one above all, by whoever may write the store. */
#pragma once

#include "ccm/maintenance.h"

extern const struct option_row user_mode_options[];
int user_mode(struct maintenance *m, struct err *err);
