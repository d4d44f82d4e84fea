/* faults.c - a library for LD_PRELOAD that makes calls fail when a test says so, while the program
 * runs.
 *
 * The test owns a file of sizeof(struct faults) bytes, names it in FAULTS_FILE, maps it and writes
 * into it (tests/system/crash/faults.py knows the same layout: 64-bit integers in this order).
 * Counters go down with every call that fits; which calls fail is exact, because every count is
 * atomic. Without FAULTS_FILE nothing ever fails.
 *
 * System calls are made directly: a sanitizer's own wrappers are not ready as early as we are.
 *
 * Allocations and clocks are those of our programs and of the libraries whose failures they must
 * handle; paho's are left alone: it does not look whether it got memory. Writes and syncs are those
 * on files whose path contains `path`.
 */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define FRAMES 24
#define SPARED 8 /* ranges of code whose calls never fail */

enum kind { ALLOC, WRITE, SYNC, TRUNCATE, OPEN, KINDS };

struct fault {
	_Atomic int64_t skip;  /* calls that still succeed; negative: off */
	_Atomic int64_t fails; /* how many fail then; negative: all */
	int64_t error;         /* errno; 0 for WRITE: half of it is written */
	_Atomic int64_t count; /* calls that fitted */
	_Atomic int64_t failed;
};

struct faults {
	struct fault of[KINDS];
	_Atomic int64_t clock_ns; /* added to CLOCK_REALTIME */
	_Atomic int64_t counting; /* count allocations although none fails */
	int64_t frames[FRAMES];   /* who called the last allocation that failed, relative to the
				     program */
	char path[256];
};

struct range {
	uintptr_t begin, end;
};

static struct faults *control;
static struct range spared[SPARED];
static unsigned n_spared;
static uintptr_t program;
/* initial-exec: no call into a library that is not ready yet */
static _Thread_local bool inside __attribute__((tls_model("initial-exec")));

static void *(*real_malloc)(size_t), *(*real_calloc)(size_t, size_t),
	*(*real_realloc)(void *, size_t);

/* What dlsym() itself asks for before we know where the others are; never given back. */
static char early[65536];
static size_t early_used;

static void *early_alloc(size_t size)
{
	size_t at = (early_used + 15) & ~(size_t)15;
	if (at + size > sizeof(early))
		_exit(126);
	early_used = at + size;
	return early + at;
}

static void find_all(void)
{
	if (real_realloc != NULL || inside)
		return;
	inside = true;
	*(void **)&real_malloc = dlsym(RTLD_NEXT, "malloc");
	*(void **)&real_calloc = dlsym(RTLD_NEXT, "calloc");
	*(void **)&real_realloc = dlsym(RTLD_NEXT, "realloc");
	inside = false;
}

static int look_at(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	bool spare = strstr(info->dlpi_name, "libpaho") != NULL ||
		     strstr(info->dlpi_name, "ld-linux") != NULL;
	if (info->dlpi_name[0] == '\0' && program == 0)
		program = info->dlpi_addr;
	for (int i = 0; spare && i < info->dlpi_phnum && n_spared < SPARED; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		if (p->p_type == PT_LOAD && (p->p_flags & PF_X) != 0)
			spared[n_spared++] =
				(struct range){info->dlpi_addr + p->p_vaddr,
					       info->dlpi_addr + p->p_vaddr + p->p_memsz};
	}
	return 0;
}

__attribute__((constructor)) static void begin(void)
{
	void *frames[2];
	const char *path = getenv("FAULTS_FILE");
	find_all();
	if (path == NULL)
		return;
	dl_iterate_phdr(look_at, NULL);
	backtrace(frames, 2); /* loads what it needs now, not at the first failure */
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
	long at = fd >= 0 ? syscall(SYS_mmap, NULL, sizeof(*control), PROT_READ | PROT_WRITE,
				    MAP_SHARED, fd, 0L)
			  : -1;
	if (at == -1) {
		dprintf(STDERR_FILENO, "faults: cannot map %s\n", path);
		_exit(126);
	}
	syscall(SYS_close, fd);
	control = (struct faults *)at;
}

static bool is_spared(const void *caller)
{
	uintptr_t at = (uintptr_t)caller;
	for (unsigned i = 0; i < n_spared; i++)
		if (at >= spared[i].begin && at < spared[i].end)
			return true;
	return false;
}

/* One more call of a kind. ret: whether it fails. */
static bool hit(enum kind kind)
{
	struct fault *f = &control->of[kind];
	f->count++;
	if (f->skip < 0 || f->skip-- > 0)
		return false;
	f->skip = 0;
	if (f->fails == 0) {
		f->skip = -1;
		return false;
	}
	if (f->fails > 0)
		f->fails--;
	f->failed++;
	return true;
}

/* ---- memory ---- */

static bool alloc_fails(const void *caller)
{
	if (control == NULL || inside || (control->of[ALLOC].skip < 0 && !control->counting) ||
	    is_spared(caller))
		return false;
	if (!hit(ALLOC))
		return false;
	void *frames[FRAMES];
	inside = true;
	int n = backtrace(frames, FRAMES);
	inside = false;
	for (int i = 0; i < FRAMES; i++)
		control->frames[i] = i < n ? (int64_t)((uintptr_t)frames[i] - program) : 0;
	errno = ENOMEM;
	return true;
}

void *malloc(size_t size)
{
	find_all();
	if (real_malloc == NULL)
		return early_alloc(size);
	return alloc_fails(__builtin_return_address(0)) ? NULL : real_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	find_all();
	if (real_calloc == NULL)
		return early_alloc(n * size);
	return alloc_fails(__builtin_return_address(0)) ? NULL : real_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	find_all();
	return size > 0 && alloc_fails(__builtin_return_address(0)) ? NULL
								    : real_realloc(old, size);
}

/* ---- files ---- */

static bool fits(enum kind kind, const char *path)
{
	return control->of[kind].skip >= 0 && control->path[0] != '\0' &&
	       strstr(path, control->path) != NULL;
}

static bool fd_fails(enum kind kind, int fd)
{
	char link[64], path[512];
	if (control == NULL || control->of[kind].skip < 0)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return false;
	path[len] = '\0';
	if (!fits(kind, path) || !hit(kind))
		return false;
	errno = (int)control->of[kind].error;
	return true;
}

ssize_t write(int fd, const void *buf, size_t len)
{
	if (fd_fails(WRITE, fd)) {
		if (errno != 0)
			return -1;
		len = len > 1 ? len / 2 : len;
	}
	return syscall(SYS_write, fd, buf, len);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t at)
{
	if (fd_fails(WRITE, fd)) {
		if (errno != 0)
			return -1;
		len = len > 1 ? len / 2 : len;
	}
	return syscall(SYS_pwrite64, fd, buf, len, at);
}

int fsync(int fd)
{
	return fd_fails(SYNC, fd) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	return fd_fails(SYNC, fd) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int ftruncate64(int fd, off64_t len)
{
	return fd_fails(TRUNCATE, fd) ? -1 : (int)syscall(SYS_ftruncate, fd, len);
}

int open64(const char *path, int flags, ...)
{
	va_list args;
	va_start(args, flags);
	mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
	va_end(args);
	if (control != NULL && fits(OPEN, path) && hit(OPEN)) {
		errno = (int)control->of[OPEN].error;
		return -1;
	}
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* ---- clocks ---- */

static void shift(struct timespec *t)
{
	int64_t by = control->clock_ns, ns = t->tv_nsec + by % 1000000000;
	t->tv_sec += by / 1000000000;
	if (ns < 0 || ns >= 1000000000) {
		t->tv_sec += ns < 0 ? -1 : 1;
		ns += ns < 0 ? 1000000000 : -1000000000;
	}
	t->tv_nsec = ns;
}

static int shifted_clock(clockid_t clock, struct timespec *ret, const void *caller)
{
	int rc = (int)syscall(SYS_clock_gettime, clock, ret);
	bool real = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
	if (rc == 0 && real && control != NULL && control->clock_ns != 0 && !is_spared(caller))
		shift(ret);
	return rc;
}

int clock_gettime(clockid_t clock, struct timespec *ret)
{
	return shifted_clock(clock, ret, __builtin_return_address(0));
}

int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
	struct timespec t;
	(void)zone;
	int rc = shifted_clock(CLOCK_REALTIME, &t, __builtin_return_address(0));
	*ret = (struct timeval){.tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000};
	return rc;
}

time_t time(time_t *ret)
{
	struct timespec t;
	shifted_clock(CLOCK_REALTIME, &t, __builtin_return_address(0));
	if (ret != NULL)
		*ret = t.tv_sec;
	return t.tv_sec;
}
