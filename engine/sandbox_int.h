/* sandbox_int.h - the layers, as sandbox.c tables them; for engine/sandbox*.c only. */
#pragma once

#include "common/err.h"
#include "engine/sandbox.h"
#include <linux/filter.h>
#include <stddef.h>

#define SANDBOX_NOTE_MAX 160

/* A layer that goes up may say how in s->note; one that cannot says why in err. ret: 0 or negative.
 */
typedef int sandbox_up_fn(struct sandbox *s, struct err *err);

struct sandbox {
	size_t memory_bytes;
	struct sandbox_state *states; /* one for each layer */
	char note[SANDBOX_NOTE_MAX];
	struct sock_fprog keeper_filter, engine_filter;
};

sandbox_up_fn sandbox_user, sandbox_userns, sandbox_mountns, sandbox_netns, sandbox_ipcns,
	sandbox_pidns; /* sandbox_ns.c */
sandbox_up_fn sandbox_no_new_privs, sandbox_capabilities, sandbox_dumpable, sandbox_descriptors,
	sandbox_limits;                       /* sandbox_process.c */
sandbox_up_fn sandbox_landlock;               /* sandbox_landlock.c */
sandbox_up_fn sandbox_calls, sandbox_seccomp; /* sandbox_calls.c */

/* Compile both filters. */
int sandbox_calls_prepare(struct sandbox *s, struct err *err);
void sandbox_calls_done(struct sandbox *s);
