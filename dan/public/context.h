/* context.h - inside of a struct dan; for context.c and device.c only. */
#pragma once

#include "common/err.h"
#include "common/loop.h"
#include "dan/fetch.h"
#include "dan/public/dan.h"
#include <signal.h>

struct dan {
	struct loop *loop;
	struct fetch *fetch;
	bool turning; /* inside the loop, so perhaps inside a handler of a device */
	struct dan_device *devices, *dead;
	sigset_t blocked; /* by us */
};

/* ret: err->code, of an error of ours; e may be NULL. */
int dan_tell(struct dan_error *e, const struct err *err);
/* All of them begin to say goodbye, before they are freed one by one. */
void dan_part_all(struct dan *d);
/* Release the devices that were freed in a turn. */
void dan_bury(struct dan *d);
