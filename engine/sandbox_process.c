/* sandbox_process.c - layers that take rights away from the process, and set its limits. */
#include "common/util.h"
#include "engine/engine.h"
#include "engine/sandbox_int.h"
#include "engine/sanitizer.h"
#include <linux/capability.h>
#include <linux/close_range.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define MEMORY_ROOM_MIN (16u << 20) /* less than this above what is in use is no working engine */

int sandbox_no_new_privs(struct sandbox *s, struct err *err)
{
	(void)s;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? err_sys(err, "no_new_privs") : 0;
}

int sandbox_capabilities(struct sandbox *s, struct err *err)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
	(void)s;
	/* fails for users who have none to drop, and past the last one the kernel knows */
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	return syscall(SYS_capset, &head, none) < 0 ? err_sys(err, "dropping capabilities") : 0;
}

int sandbox_dumpable(struct sandbox *s, struct err *err)
{
	(void)s;
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? err_sys(err, "not dumpable") : 0;
}

int sandbox_descriptors(struct sandbox *s, struct err *err)
{
	(void)s;
	return close_range(ENGINE_FDS, ~0u, 0) < 0 ? err_sys(err, "closing descriptors") : 0;
}

bool sandbox_memory_left(size_t bytes)
{
	if (SANITIZED)
		return true;
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return false;
	munmap(p, bytes);
	return true;
}

int sandbox_limits(struct sandbox *s, struct err *err)
{
	const struct {
		int resource;
		rlim_t most;
		const char *name;
	} limits[] = {
		{RLIMIT_NOFILE, ENGINE_FDS, "descriptors"},
		{RLIMIT_CORE, 0, "core size"},
		{RLIMIT_FSIZE, 0, "file size"},
		{RLIMIT_NPROC, 0, "processes"},
		{RLIMIT_AS, s->memory_bytes, "address space"},
	};
	for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
		const struct rlimit r = {.rlim_cur = limits[i].most, .rlim_max = limits[i].most};
		if (limits[i].resource == RLIMIT_AS && SANITIZED)
			continue;
		if (setrlimit((__rlimit_resource_t)limits[i].resource, &r) < 0)
			return err_sys(err, "limit of %s", limits[i].name);
	}
	if (!sandbox_memory_left(MEMORY_ROOM_MIN))
		return err_set(err, ERR_LIMIT,
			       "memory limit of %zu MB is too low: not even %u MB are left before "
			       "any function runs",
			       s->memory_bytes >> 20, MEMORY_ROOM_MIN >> 20);
	return 0;
}
