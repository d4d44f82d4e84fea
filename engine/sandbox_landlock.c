/* sandbox_landlock.c - the layer "landlock": no file, no TCP port, no signal or abstract socket
 * outside; as much of that as the kernel knows. */
#include "common/util.h"
#include "engine/sandbox_int.h"
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* Headers of older systems lack the calls or the newer fields; the kernel's ABI is what counts. */
enum { CREATE_RULESET = 444, RESTRICT_SELF = 446, CREATE_VERSION = 1 };

struct ruleset {
	uint64_t fs, net, scoped;
};

/* What each ABI added; rights are numbered without gaps. */
static const struct {
	unsigned fs_bits, net_bits, scope_bits;
} abis[] = {
	[1] = {13, 0, 0}, [2] = {14, 0, 0}, [3] = {15, 0, 0},
	[4] = {15, 2, 0}, [5] = {16, 2, 0}, [6] = {16, 2, 2},
};

static uint64_t lowest(unsigned bits)
{
	return (UINT64_C(1) << bits) - 1;
}

int sandbox_landlock(struct sandbox *s, struct err *err)
{
	long abi = syscall(CREATE_RULESET, NULL, 0, CREATE_VERSION);
	if (abi < 1)
		return err_sys(err, "the kernel has no Landlock, or it is not enabled");
	size_t row = (size_t)abi < ARRAY_LEN(abis) ? (size_t)abi : ARRAY_LEN(abis) - 1;
	const struct ruleset all = {.fs = lowest(abis[row].fs_bits),
				    .net = lowest(abis[row].net_bits),
				    .scoped = lowest(abis[row].scope_bits)};
	/* older kernels accept a longer struct if the rest of it is zero */
	CLEANUP(closep)
	int fd = (int)syscall(CREATE_RULESET, &all, sizeof(all), 0);
	if (fd < 0)
		return err_sys(err, "Landlock rules");
	if (syscall(RESTRICT_SELF, fd, 0) < 0 &&
	    (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(RESTRICT_SELF, fd, 0) < 0))
		return err_sys(err, "Landlock");
	snprintf(s->note, sizeof(s->note), "ABI %ld", abi);
	return 0;
}
