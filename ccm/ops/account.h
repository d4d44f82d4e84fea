/* account.h - users and what administrators may do (spec ccm 3.2, 3.12). */
#pragma once

#include "ccm/op.h"
