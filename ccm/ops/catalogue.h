/* catalogue.h - models, features, parameters, units, tags, functions (spec ccm 3.7, 3.8, 3.10, 4.3). */
#pragma once

#include "ccm/op.h"
