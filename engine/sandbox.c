#include "engine/sandbox.h"

#include "common/util.h"
#include "engine/engine.h"
#include "engine/sanitizer.h"
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#define MEMORY_ROOM_MIN (16u << 20) /* less than this above what is in use is no working engine */

int sandbox_tidy(int first_free, struct err *err)
{
	CLEANUP(closep)
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0)
		return err_sys(err, "/dev/null");
	closep(&null);
	if (close_range((unsigned)first_free, ~0u, 0) < 0)
		return err_sys(err, "closing descriptors");
	/* with TZ set the C library never looks at its file again, which it could not open later */
	const char *given = getenv("TZ");
	CLEANUP(freep)
	char *tz = strdup(given != NULL ? given : ":/etc/localtime");
	if (tz == NULL || clearenv() != 0 || setenv("TZ", tz, 1) < 0)
		return err_set(err, ERR_NOMEM, "clearing the environment");
	tzset();
	return 0;
}

static int limit(int resource, rlim_t most, const char *name, struct err *err)
{
	struct rlimit r = {.rlim_cur = most, .rlim_max = most};
	if (setrlimit((__rlimit_resource_t)resource, &r) < 0)
		return err_sys(err, "limit of %s", name);
	return 0;
}

/* Address space in use now; 0: unknown. */
static size_t memory_used(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");
	if (f == NULL)
		return 0;
	if (fscanf(f, "%lu", &pages) != 1)
		pages = 0;
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static int set_limits(size_t memory_bytes, unsigned descriptors, struct err *err)
{
	int rc = 0;
	size_t used = memory_used();
	if (!SANITIZED && memory_bytes < used + MEMORY_ROOM_MIN)
		return err_set(err, ERR_LIMIT,
			       "memory limit of %zu MB is too low: %zu MB are in use before any "
			       "function runs",
			       memory_bytes >> 20, used >> 20);
	if (!SANITIZED)
		rc = limit(RLIMIT_AS, memory_bytes, "address space", err);
	if (rc == 0)
		rc = limit(RLIMIT_NOFILE, descriptors, "descriptors", err);
	if (rc == 0)
		rc = limit(RLIMIT_CORE, 0, "core size", err);
	if (rc == 0)
		rc = limit(RLIMIT_FSIZE, 0, "file size", err);
	if (rc == 0)
		rc = limit(RLIMIT_NPROC, 0, "processes", err);
	return rc;
}

#define CALL(name) SCMP_SYS(name)

/* What Python needs to compute, print, sleep, and tell the time. Everything else answers EPERM,
 * which Python raises as PermissionError. */
static const int allowed[] = {
	CALL(poll),
	CALL(ppoll),
	CALL(brk),
	CALL(munmap),
	CALL(mremap),
	CALL(futex),
	CALL(sched_yield),
	CALL(clock_gettime),
	CALL(clock_getres),
	CALL(gettimeofday),
	CALL(nanosleep),
	CALL(clock_nanosleep),
	CALL(getrandom),
	CALL(getpid),
	CALL(gettid),
	CALL(getppid),
	CALL(getuid),
	CALL(geteuid),
	CALL(getgid),
	CALL(getegid),
	CALL(getrusage),
	CALL(sched_getaffinity),
	CALL(rt_sigprocmask),
	CALL(rt_sigreturn),
	CALL(sigaltstack),
	CALL(restart_syscall),
	CALL(exit),
	CALL(exit_group),
	CALL(time),
};

static int add(scmp_filter_ctx ctx, uint32_t action, int call, unsigned n,
	       const struct scmp_arg_cmp *args)
{
	int rc = call < 0 && call != __NR_SCMP_ERROR
			 ? 0
			 : seccomp_rule_add_array(ctx, action, call, n, args);
	return rc == -EDOM ? 0 : rc; /* no such call on this architecture */
}

static int build_filter(scmp_filter_ctx ctx)
{
	/* memory: anything but new code */
	const struct scmp_arg_cmp no_exec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	/* what allocators say of their memory; other advice is for administrators */
	static const unsigned advice[] = {MADV_NORMAL, MADV_DONTNEED, MADV_FREE, MADV_HUGEPAGE,
					  MADV_NOHUGEPAGE, MADV_DONTDUMP};
	/* looking at flags of descriptors, not setting them */
	const struct scmp_arg_cmp get_flags = SCMP_A1(SCMP_CMP_EQ, F_GETFL);
	const struct scmp_arg_cmp get_fd_flags = SCMP_A1(SCMP_CMP_EQ, F_GETFD);
	/* a function has no call for sockets: what is said to the agent is the engine's own word */
	const struct scmp_arg_cmp control = SCMP_A0(SCMP_CMP_EQ, ENGINE_FD_CONTROL);
	static const struct {
		int call;
		unsigned fd;
	} files[] = {
		{CALL(read), STDIN_FILENO},   {CALL(read), ENGINE_FD_WAKE},
		{CALL(write), STDOUT_FILENO}, {CALL(write), STDERR_FILENO},
		{CALL(write), ENGINE_FD_RESULT},
	};
	/* reading limits, not setting them */
	const struct scmp_arg_cmp get_limit = SCMP_A2(SCMP_CMP_EQ, 0);
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(allowed); i++)
		rc = add(ctx, SCMP_ACT_ALLOW, allowed[i], 0, NULL);
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(files); i++) {
		const struct scmp_arg_cmp fd = SCMP_A0(SCMP_CMP_EQ, files[i].fd);
		rc = add(ctx, SCMP_ACT_ALLOW, files[i].call, 1, &fd);
	}
	if (rc == 0)
		rc = add(ctx, SCMP_ACT_ALLOW, CALL(recvfrom), 1, &control);
	if (rc == 0)
		rc = add(ctx, SCMP_ACT_ALLOW, CALL(sendto), 1, &control);
	if (rc == 0)
		rc = add(ctx, SCMP_ACT_ALLOW, CALL(mmap), 1, &no_exec);
	if (rc == 0)
		rc = add(ctx, SCMP_ACT_ALLOW, CALL(mprotect), 1, &no_exec);
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(advice); i++) {
		const struct scmp_arg_cmp what = SCMP_A2(SCMP_CMP_EQ, advice[i]);
		rc = add(ctx, SCMP_ACT_ALLOW, CALL(madvise), 1, &what);
	}
	if (rc == 0)
		rc = add(ctx, SCMP_ACT_ALLOW, CALL(fcntl), 1, &get_flags);
	if (rc == 0)
		rc = add(ctx, SCMP_ACT_ALLOW, CALL(fcntl), 1, &get_fd_flags);
	if (rc == 0)
		rc = add(ctx, SCMP_ACT_ALLOW, CALL(prlimit64), 1, &get_limit);
	/* the C library then tries clone, and gets a plain no */
	if (rc == 0)
		rc = add(ctx, SCMP_ACT_ERRNO(ENOSYS), CALL(clone3), 0, NULL);
	return rc;
}

/* A suite that root runs must not give its functions what root can do. */
static int drop_capabilities(struct err *err)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
	/* fails for users who have none to drop, and past the last one the kernel knows */
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	if (syscall(SYS_capset, &head, none) < 0)
		return err_sys(err, "dropping capabilities");
	return 0;
}

static int set_filter(struct err *err)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (ctx == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for the system call filter");
	int rc = build_filter(ctx);
	if (rc == 0)
		rc = seccomp_load(ctx);
	seccomp_release(ctx);
	return rc == 0 ? 0 : err_set(err, ERR_SYS, "system call filter: %s", strerror(-rc));
}

int sandbox_close(size_t memory_bytes, unsigned descriptors, struct err *err)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(err, "no_new_privs");
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_sys(err, "not dumpable");
	int rc = drop_capabilities(err);
	if (rc == 0)
		rc = set_limits(memory_bytes, descriptors, err);
	return rc == 0 ? set_filter(err) : rc;
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
