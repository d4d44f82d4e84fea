#include "ccm/web/web.h"

const struct web_route web_catalogue_routes[] = {{0}};
