/* devices.h - the store's devices as csm knows them: what news does to the store (spec ccm 5.1). Operations in the sense of op.h. */
#pragma once

#include "ccm/op.h"

enum news_kind {
	NEWS_DEVICE, /* there is one (new, or known and perhaps changed): da: as csm tells it, or the part of it that changed, with `id` */
	NEWS_SEEN,   /* the same, in a snapshot */
	NEWS_ONLINE, /* da: its id, as in all that follow */
	NEWS_OFFLINE,
	NEWS_GONE,
	NEWS_END,    /* of a snapshot; not for the operation */
};

/* {"news": [[kind, da]]}, in their order */
extern const struct op op_devices_news;
/* {"seen": {id: true}}: all others are gone. */
extern const struct op op_devices_sweep;
