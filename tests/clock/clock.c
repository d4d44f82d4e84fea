/* clock.c - LD_PRELOAD: time passes faster for the program, as told by TEST_CLOCK_SCALE, and as
 * ever for its libraries.
 *
 * So timers of our own (loop.h, csm_now()) can be tried over a day in a minute, while the MQTT
 * library keeps alive what it keeps alive. Both clocks begin with the true time at the start of the
 * process. */
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

#define NS 1000000000ll
/* what is larger is no time since the machine was started: a wait that was given in it means
 * CLOCK_REALTIME */
#define UPTIME_MAX_S 1000000000ll

static int64_t scale = 1;
static int64_t began_ns[2]; /* CLOCK_REALTIME, CLOCK_MONOTONIC */
static uintptr_t program_from, program_to;

static int (*true_gettime)(clockid_t, struct timespec *);

static int64_t to_ns(const struct timespec *t)
{
	return t->tv_sec * NS + t->tv_nsec;
}

static struct timespec from_ns(int64_t ns)
{
	return (struct timespec){.tv_sec = ns / NS, .tv_nsec = ns % NS};
}

static int64_t true_ns(clockid_t clock)
{
	struct timespec t = {0};
	true_gettime(clock, &t);
	return to_ns(&t);
}

/* The first object is the program itself. */
static int find_program(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		if (p->p_type == PT_LOAD && (p->p_flags & PF_X) != 0) {
			program_from = info->dlpi_addr + p->p_vaddr;
			program_to = program_from + p->p_memsz;
		}
	}
	return 1;
}

static void begin(void)
{
	const char *text = getenv("TEST_CLOCK_SCALE");
	if (true_gettime != NULL)
		return;
	*(void **)&true_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	if (text != NULL && atoll(text) > 0)
		scale = atoll(text);
	dl_iterate_phdr(find_program, NULL);
	began_ns[CLOCK_REALTIME] = true_ns(CLOCK_REALTIME);
	began_ns[CLOCK_MONOTONIC] = true_ns(CLOCK_MONOTONIC);
}

__attribute__((constructor)) static void on_load(void)
{
	begin();
}

#define FROM_PROGRAM()                                             \
	((uintptr_t)__builtin_return_address(0) >= program_from && \
	 (uintptr_t)__builtin_return_address(0) < program_to)

int clock_gettime(clockid_t clock, struct timespec *ret)
{
	begin();
	if (!FROM_PROGRAM() || (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC))
		return true_gettime(clock, ret);
	/* one true clock beneath both: the wall's may be set meanwhile */
	int64_t passed = true_ns(CLOCK_MONOTONIC) - began_ns[CLOCK_MONOTONIC];
	*ret = from_ns(began_ns[clock] + passed * scale);
	return 0;
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms)
{
	struct timespec t = from_ns(timeout_ms * (NS / 1000) / (FROM_PROGRAM() ? scale : 1));
	return epoll_pwait2(fd, events, max, timeout_ms < 0 ? NULL : &t, NULL);
}

int nanosleep(const struct timespec *time, struct timespec *left)
{
	struct timespec t = from_ns(to_ns(time) / (FROM_PROGRAM() ? scale : 1));
	return -clock_nanosleep(CLOCK_MONOTONIC, 0, &t, left);
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock,
			   const struct timespec *until)
{
	static int (*true_wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
	struct timespec t = *until;
	if (true_wait == NULL)
		*(void **)&true_wait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
	if (FROM_PROGRAM()) {
		clockid_t clock = until->tv_sec > UPTIME_MAX_S ? CLOCK_REALTIME : CLOCK_MONOTONIC;
		t = from_ns(began_ns[clock] + (to_ns(until) - began_ns[clock]) / scale);
	}
	return true_wait(cond, lock, &t);
}
