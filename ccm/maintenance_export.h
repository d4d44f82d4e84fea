/* maintenance_export.h - `ccm export [--force] FILE`. */
#pragma once

#include "ccm/maintenance.h"

extern const struct option_row export_mode_options[];
maintenance_fn export_mode;
