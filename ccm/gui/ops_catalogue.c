#include "ccm/gui/gui.h"

const struct gui_op gui_catalogue_ops[] = {{0}};
