/* openapi.h - the API's description (OpenAPI 3.1), made of the tables that run it. */
#pragma once

#include "ccm/web/web.h"

/* tables: NULL-terminated. Routes that differ only in what a segment is called are one path there; a segment that is a number in
 * one and any word in another is both. ret: JSON text, yours; NULL: out of memory. */
char *openapi_text(const struct web_route *const *tables);
