/* conf_int.h - reading a device file; for conf.c (what it may hold) and conf_read.c (the reading)
 * only.
 */
#pragma once

#include "agent/device/conf.h"

/* The gateway-wide part of what was read and is right. ret: 0, ERR_SCHEMA (told to p), ERR_NOMEM.
 */
int conf_fill(struct devices_conf *c, const char *dir, const struct settings *settings,
	      struct problems *p);
