#include "ccm/gui/gui.h"

const struct gui_op gui_project_ops[] = {{0}};
