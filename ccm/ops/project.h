/* project.h - projects, device objects, network applications, links, bindings (spec ccm 3.3 to 3.6, 3.9, 3.11). */
#pragma once

#include "ccm/op.h"

extern const struct op op_project_export; /* p_id, functions?: bool, with the code of the functions: the document */
extern const struct op op_project_import; /* p_name, document: {p_id} */
