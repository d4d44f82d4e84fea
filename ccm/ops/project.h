/* project.h - projects, device objects, network applications, links, bindings (spec ccm 3.3 to 3.6, 3.9, 3.11). */
#pragma once

#include "ccm/op.h"
