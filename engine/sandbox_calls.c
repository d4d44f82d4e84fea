/* sandbox_calls.c - layers "calls" (the keeper's list of system calls) and "seccomp" (an engine's,
 * within it). What is not listed answers EPERM, which Python raises as PermissionError.
 *
 * Filters are compiled once, so that an engine only has to load its own.
 */
#include "common/util.h"
#include "engine/engine.h"
#include "engine/sandbox_int.h"
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define CALL(name) SCMP_SYS(name)

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#define NEW_NAMESPACES                                                                 \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | \
	 CLONE_NEWPID | CLONE_NEWNET)

/* What Python needs to compute, print, sleep, and tell the time. */
static const int for_both[] = {
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

/* To serve an agent and to fork engines, up to their own list. */
static const int for_keeper[] = {
	CALL(read),
	CALL(write),
	CALL(readv),
	CALL(writev),
	CALL(close),
	CALL(close_range),
	CALL(dup),
	CALL(dup2),
	CALL(dup3),
	CALL(fcntl),
	CALL(fcntl64),
	CALL(fstat),
	CALL(lseek),
	CALL(pipe),
	CALL(pipe2),
	CALL(socketpair),
	CALL(listen),
	CALL(accept),
	CALL(accept4),
	CALL(sendmsg),
	CALL(recvmsg),
	CALL(sendto),
	CALL(recvfrom),
	CALL(getsockopt),
	CALL(shutdown),
	CALL(wait4),
	CALL(waitid),
	CALL(kill),
	CALL(tgkill),
	CALL(pidfd_open),
	CALL(pidfd_send_signal),
	CALL(epoll_create1),
	CALL(epoll_ctl),
	CALL(epoll_wait),
	CALL(epoll_pwait),
	CALL(eventfd2),
	CALL(signalfd4),
	CALL(rt_sigaction),
	CALL(set_robust_list),
	CALL(set_tid_address),
	CALL(rseq),
	CALL(prctl),
	CALL(seccomp),
	CALL(capset),
	CALL(capget),
	CALL(setrlimit),
	CALL(setsid),
	CALL(madvise),
	CALL(landlock_create_ruleset),
	CALL(landlock_restrict_self),
};

static int add(scmp_filter_ctx ctx, uint32_t action, int call, unsigned n,
	       const struct scmp_arg_cmp *args)
{
	int rc = call < 0 && call != __NR_SCMP_ERROR
			 ? 0
			 : seccomp_rule_add_array(ctx, action, call, n, args);
	return rc == -EDOM ? 0 : rc; /* no such call on this architecture */
}

static int add_all(scmp_filter_ctx ctx, const int *calls, size_t n)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = add(ctx, SCMP_ACT_ALLOW, calls[i], 0, NULL);
	return rc;
}

static int build_both(scmp_filter_ctx ctx)
{
	/* memory: anything but new code */
	const struct scmp_arg_cmp no_exec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	int rc = add_all(ctx, for_both, ARRAY_LEN(for_both));
	if (rc == 0)
		rc = add(ctx, SCMP_ACT_ALLOW, CALL(mmap), 1, &no_exec);
	if (rc == 0)
		rc = add(ctx, SCMP_ACT_ALLOW, CALL(mprotect), 1, &no_exec);
	/* the C library then tries clone, whose flags can be looked at */
	if (rc == 0)
		rc = add(ctx, SCMP_ACT_ERRNO(ENOSYS), CALL(clone3), 0, NULL);
	return rc;
}

static int build_keeper(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp plain_fork = SCMP_A0(SCMP_CMP_MASKED_EQ, NEW_NAMESPACES, 0);
	/* looking at descriptors, not at files */
	const struct scmp_arg_cmp by_fd = SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH);
	const struct scmp_arg_cmp own_limits = SCMP_A0(SCMP_CMP_EQ, 0);
	int rc = build_both(ctx);
	if (rc == 0)
		rc = add_all(ctx, for_keeper, ARRAY_LEN(for_keeper));
	if (rc == 0)
		rc = add(ctx, SCMP_ACT_ALLOW, CALL(clone), 1, &plain_fork);
	if (rc == 0)
		rc = add(ctx, SCMP_ACT_ALLOW, CALL(newfstatat), 1, &by_fd);
	if (rc == 0)
		rc = add(ctx, SCMP_ACT_ALLOW, CALL(prlimit64), 1, &own_limits);
	return rc;
}

static int build_engine(scmp_filter_ctx ctx)
{
	/* what allocators say of their memory; other advice is for administrators */
	static const unsigned advice[] = {MADV_NORMAL,   MADV_DONTNEED,   MADV_FREE,
					  MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTDUMP};
	/* looking at flags of descriptors, not setting them */
	static const unsigned looks[] = {F_GETFL, F_GETFD};
	/* a socket is written by the calls for sockets only: what a function finds for files does not
	 * reach the agent. Python's own sockets would: what they say is judged there (worker.c) */
	static const struct {
		int call;
		unsigned fd;
	} files[] = {
		{CALL(read), STDIN_FILENO},        {CALL(read), ENGINE_FD_WAKE},
		{CALL(write), STDOUT_FILENO},      {CALL(write), STDERR_FILENO},
		{CALL(write), ENGINE_FD_RESULT},   {CALL(recvfrom), ENGINE_FD_CONTROL},
		{CALL(sendto), ENGINE_FD_CONTROL},
	};
	/* reading limits, not setting them */
	const struct scmp_arg_cmp get_limit = SCMP_A2(SCMP_CMP_EQ, 0);
	int rc = build_both(ctx);
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(files); i++) {
		const struct scmp_arg_cmp fd = SCMP_A0(SCMP_CMP_EQ, files[i].fd);
		rc = add(ctx, SCMP_ACT_ALLOW, files[i].call, 1, &fd);
	}
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(advice); i++) {
		const struct scmp_arg_cmp what = SCMP_A2(SCMP_CMP_EQ, advice[i]);
		rc = add(ctx, SCMP_ACT_ALLOW, CALL(madvise), 1, &what);
	}
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(looks); i++) {
		const struct scmp_arg_cmp what = SCMP_A1(SCMP_CMP_EQ, looks[i]);
		rc = add(ctx, SCMP_ACT_ALLOW, CALL(fcntl), 1, &what);
	}
	if (rc == 0)
		rc = add(ctx, SCMP_ACT_ALLOW, CALL(prlimit64), 1, &get_limit);
	return rc;
}

/* ---- compiled ---- */

static void release(scmp_filter_ctx *ctx)
{
	seccomp_release(*ctx); /* NULL is fine */
}

/* The library writes to a descriptor only. */
static int read_program(int fd, struct sock_fprog *ret)
{
	struct stat st;
	if (fstat(fd, &st) < 0 || st.st_size <= 0)
		return -EIO;
	struct sock_filter *code = malloc((size_t)st.st_size);
	if (code == NULL)
		return -ENOMEM;
	if (pread(fd, code, (size_t)st.st_size, 0) != st.st_size) {
		free(code);
		return -EIO;
	}
	ret->len = (unsigned short)((size_t)st.st_size / sizeof(*code));
	ret->filter = code;
	return 0;
}

static int compile(int (*build)(scmp_filter_ctx), struct sock_fprog *ret, struct err *err)
{
	CLEANUP(release)
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	CLEANUP(closep)
	int fd = memfd_create("filter", MFD_CLOEXEC);
	int rc = ctx == NULL || fd < 0 ? -ENOMEM : build(ctx);
	if (rc == 0)
		rc = seccomp_export_bpf(ctx, fd);
	if (rc == 0)
		rc = read_program(fd, ret);
	return rc == 0 ? 0 : err_set(err, ERR_SYS, "system call filter: %s", strerror(-rc));
}

int sandbox_calls_prepare(struct sandbox *s, struct err *err)
{
	int rc = compile(build_keeper, &s->keeper_filter, err);
	return rc == 0 ? compile(build_engine, &s->engine_filter, err) : rc;
}

void sandbox_calls_done(struct sandbox *s)
{
	free(s->keeper_filter.filter);
	free(s->engine_filter.filter);
}

static int load(const struct sock_fprog *p, struct err *err)
{
	long rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, p);
	if (rc < 0 && errno == EACCES && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
		rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, p);
	return rc < 0 ? err_sys(err, "system call filter") : 0;
}

int sandbox_calls(struct sandbox *s, struct err *err)
{
	return load(&s->keeper_filter, err);
}

int sandbox_seccomp(struct sandbox *s, struct err *err)
{
	return load(&s->engine_filter, err);
}
