/* conf_near.h - the known name that a mistyped one is nearest to; for settings (common/conf.c) and the
 * commands of iotctl. */
#pragma once

#include "common/conf.h"

#define CONF_NAME_MAX 63

/* NULL: none is near enough to be offered. */
const char *conf_near_section(const struct conf_row *rows, size_t n, const char *section);
/* In its own section first; a key that exists under exactly this name elsewhere is in the wrong
 * section. */
const struct conf_row *conf_near_key(const struct conf_row *rows, size_t n, const char *section,
				     const char *key);
/* Of a NULL-terminated list. */
const char *conf_near_name(const char *const *known, const char *name);
