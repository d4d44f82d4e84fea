#include "common/loop.h"

#include "common/util.h"
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>

#define EVENTS_MAX 256
#define HOOKS_MAX  8

enum src_kind { SRC_FD, SRC_TIMER, SRC_SIGNAL, SRC_TURN };

struct loop_src {
	enum src_kind kind;
	bool removed; /* freed at the end of the turn */
	void *arg;
	union {
		struct {
			int fd;
			loop_fd_fn *fn;
		} io;
		struct {
			loop_fn *fn;
			int64_t due_ms, every_ms;
			uint64_t order; /* of arming: equal times fire in that order */
			size_t heap_at; /* index in the heap + 1; 0: not armed */
		} timer;
		struct {
			loop_fn *fn;
			int fd; /* signalfd, ours */
		} sig;
		loop_fn *turn;
	};
	struct loop_src *prev, *next; /* all sources, or the dead ones */
};

struct post {
	loop_fn *fn;
	void *arg;
	struct post *next;
};

struct loop {
	int epoll_fd, post_fd;
	bool quit;
	int code;
	int64_t now_ms;
	struct loop_src *sources, *dead;
	struct loop_src **heap;
	size_t heap_len, heap_cap, timers; /* heap_cap >= timers, so arming cannot fail */
	struct loop_src *hooks[HOOKS_MAX]; /* end of turn, in the order they were added */
	uint64_t armed; /* counts armings, for their order */
	pthread_mutex_t lock;
	struct post *posts, **posts_end; /* under lock */
	struct post *running;		 /* posts taken out by this turn */
};

static int64_t clock_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- timers: a binary heap by time, then by order of arming ---- */

static bool before(const struct loop_src *a, const struct loop_src *b)
{
	if (a->timer.due_ms != b->timer.due_ms)
		return a->timer.due_ms < b->timer.due_ms;
	return a->timer.order < b->timer.order;
}

static void heap_place(struct loop *l, size_t at, struct loop_src *s)
{
	l->heap[at] = s;
	s->timer.heap_at = at + 1;
}

static void heap_up(struct loop *l, size_t at, struct loop_src *s)
{
	while (at > 0 && before(s, l->heap[(at - 1) / 2])) {
		heap_place(l, at, l->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	heap_place(l, at, s);
}

static void heap_down(struct loop *l, size_t at, struct loop_src *s)
{
	for (;;) {
		size_t child = 2 * at + 1;
		if (child >= l->heap_len)
			break;
		if (child + 1 < l->heap_len && before(l->heap[child + 1], l->heap[child]))
			child++;
		if (!before(l->heap[child], s))
			break;
		heap_place(l, at, l->heap[child]);
		at = child;
	}
	heap_place(l, at, s);
}

static void disarm(struct loop *l, struct loop_src *s)
{
	if (s->timer.heap_at == 0)
		return;
	size_t at = s->timer.heap_at - 1;
	struct loop_src *last = l->heap[--l->heap_len];
	s->timer.heap_at = 0;
	if (last == s)
		return;
	if (at > 0 && before(last, l->heap[(at - 1) / 2]))
		heap_up(l, at, last);
	else
		heap_down(l, at, last);
}

static void arm_at(struct loop *l, struct loop_src *s, int64_t due_ms)
{
	disarm(l, s);
	s->timer.due_ms = due_ms;
	s->timer.order = l->armed++;
	l->heap_len++; /* room was made when the timer was added */
	heap_up(l, l->heap_len - 1, s);
}

/* ---- sources ---- */

static void link_src(struct loop *l, struct loop_src *s)
{
	s->prev = NULL;
	s->next = l->sources;
	if (s->next != NULL)
		s->next->prev = s;
	l->sources = s;
}

static struct loop_src *src_new(struct loop *l, enum src_kind kind, void *arg, struct err *err)
{
	struct loop_src *s = calloc(1, sizeof(*s));
	if (s == NULL) {
		err_set(err, ERR_NOMEM, "event source");
		return NULL;
	}
	s->kind = kind;
	s->arg = arg;
	link_src(l, s);
	return s;
}

static int watch(struct loop *l, int op, int fd, uint32_t events, struct loop_src *s)
{
	struct epoll_event ev = {.events = events, .data.ptr = s};
	return epoll_ctl(l->epoll_fd, op, fd, &ev);
}

struct loop_src *loop_remove(struct loop *l, struct loop_src *s)
{
	if (s == NULL || s->removed)
		return NULL;
	s->removed = true;
	if (s->kind == SRC_FD) {
		watch(l, EPOLL_CTL_DEL, s->io.fd, 0, NULL);
	} else if (s->kind == SRC_TIMER) {
		disarm(l, s);
		l->timers--;
	} else if (s->kind == SRC_SIGNAL) {
		watch(l, EPOLL_CTL_DEL, s->sig.fd, 0, NULL);
		closep(&s->sig.fd);
	} else {
		for (size_t i = 0; i < HOOKS_MAX; i++)
			if (l->hooks[i] == s)
				l->hooks[i] = NULL;
	}
	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		l->sources = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
	/* an event of this turn may still name it: memory goes at the end of the turn */
	s->next = l->dead;
	l->dead = s;
	return NULL;
}

static void bury(struct loop *l)
{
	while (l->dead != NULL) {
		struct loop_src *s = l->dead;
		l->dead = s->next;
		free(s);
	}
}

int loop_new(struct loop **ret, struct err *err)
{
	struct loop *l = calloc(1, sizeof(*l));
	if (l == NULL)
		return err_set(err, ERR_NOMEM, "event loop");
	l->epoll_fd = l->post_fd = -1;
	l->posts_end = &l->posts;
	pthread_mutex_init(&l->lock, NULL);
	l->now_ms = clock_ms();
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	l->post_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->epoll_fd < 0 || l->post_fd < 0 ||
	    watch(l, EPOLL_CTL_ADD, l->post_fd, EPOLLIN, NULL) < 0) {
		int rc = err_sys(err, "event loop");
		loop_free(l);
		return rc;
	}
	*ret = l;
	return 0;
}

struct loop *loop_free(struct loop *l)
{
	if (l == NULL)
		return NULL;
	while (l->sources != NULL)
		loop_remove(l, l->sources);
	bury(l);
	struct post *lists[] = {l->posts, l->running};
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		for (struct post *p = lists[i], *next; p != NULL; p = next) {
			next = p->next;
			free(p);
		}
	}
	closep(&l->epoll_fd);
	closep(&l->post_fd);
	pthread_mutex_destroy(&l->lock);
	free(l->heap);
	free(l);
	return NULL;
}

int loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fd_fn *fn, void *arg,
		struct loop_src **ret, struct err *err)
{
	struct loop_src *s = src_new(l, SRC_FD, arg, err);
	if (s == NULL)
		return ERR_NOMEM;
	s->io.fd = fd;
	s->io.fn = fn;
	if (watch(l, EPOLL_CTL_ADD, fd, events, s) < 0) {
		int rc = err_sys(err, "watching descriptor %d", fd);
		loop_remove(l, s);
		return rc;
	}
	if (ret != NULL)
		*ret = s;
	return 0;
}

int loop_set_events(struct loop *l, struct loop_src *s, uint32_t events)
{
	return watch(l, EPOLL_CTL_MOD, s->io.fd, events, s) < 0 ? ERR_SYS : 0;
}

int loop_add_timer(struct loop *l, int64_t first_ms, int64_t every_ms, loop_fn *fn, void *arg,
		   struct loop_src **ret, struct err *err)
{
	if (l->timers == l->heap_cap) {
		size_t cap = l->heap_cap != 0 ? 2 * l->heap_cap : 64;
		struct loop_src **heap = reallocarray(l->heap, cap, sizeof(struct loop_src *));
		if (heap == NULL)
			return err_set(err, ERR_NOMEM, "timer");
		l->heap = heap;
		l->heap_cap = cap;
	}
	struct loop_src *s = src_new(l, SRC_TIMER, arg, err);
	if (s == NULL)
		return ERR_NOMEM;
	l->timers++;
	s->timer.fn = fn;
	s->timer.every_ms = every_ms;
	if (first_ms >= 0)
		arm_at(l, s, clock_ms() + first_ms);
	if (ret != NULL)
		*ret = s;
	return 0;
}

void loop_arm(struct loop *l, struct loop_src *timer, int64_t in_ms)
{
	if (in_ms < 0)
		disarm(l, timer);
	else
		arm_at(l, timer, clock_ms() + in_ms);
}

int loop_add_signal(struct loop *l, int signo, loop_fn *fn, void *arg, struct err *err)
{
	struct loop_src *s = src_new(l, SRC_SIGNAL, arg, err);
	if (s == NULL)
		return ERR_NOMEM;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, signo);
	s->sig.fn = fn;
	s->sig.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->sig.fd < 0 || watch(l, EPOLL_CTL_ADD, s->sig.fd, EPOLLIN, s) < 0) {
		int rc = err_sys(err, "watching signal %d", signo);
		loop_remove(l, s);
		return rc;
	}
	return 0;
}

int loop_add_turn(struct loop *l, loop_fn *fn, void *arg, struct err *err)
{
	size_t at = 0;
	while (at < HOOKS_MAX && l->hooks[at] != NULL)
		at++;
	if (at == HOOKS_MAX)
		return err_set(err, ERR_LIMIT, "more than %d end-of-turn hooks", HOOKS_MAX);
	struct loop_src *s = src_new(l, SRC_TURN, arg, err);
	if (s == NULL)
		return ERR_NOMEM;
	s->turn = fn;
	l->hooks[at] = s;
	return 0;
}

int loop_post(struct loop *l, loop_fn *fn, void *arg)
{
	struct post *p = malloc(sizeof(*p));
	if (p == NULL)
		return ERR_NOMEM;
	*p = (struct post){.fn = fn, .arg = arg};
	pthread_mutex_lock(&l->lock);
	bool first = l->posts == NULL;
	*l->posts_end = p;
	l->posts_end = &p->next;
	pthread_mutex_unlock(&l->lock);
	if (first) {
		uint64_t one = 1;
		/* fails only when the counter is full, and then the loop is awake anyway */
		while (write(l->post_fd, &one, sizeof(one)) < 0 && errno == EINTR)
			continue;
	}
	return 0;
}

int64_t loop_now_ms(struct loop *l)
{
	return l->now_ms;
}

/* ---- a turn ---- */

static void run_posts(struct loop *l)
{
	uint64_t count;
	while (read(l->post_fd, &count, sizeof(count)) < 0 && errno == EINTR)
		continue;
	pthread_mutex_lock(&l->lock);
	l->running = l->posts;
	l->posts = NULL;
	l->posts_end = &l->posts;
	pthread_mutex_unlock(&l->lock);
	while (l->running != NULL) {
		struct post *p = l->running;
		l->running = p->next;
		p->fn(p->arg);
		free(p);
	}
}

static void run_event(struct loop *l, struct loop_src *s, uint32_t events)
{
	struct signalfd_siginfo info;
	if (s == NULL)
		run_posts(l);
	else if (s->removed)
		return;
	else if (s->kind == SRC_FD)
		s->io.fn(s->arg, events);
	else if (s->kind == SRC_SIGNAL && read(s->sig.fd, &info, sizeof(info)) == sizeof(info))
		s->sig.fn(s->arg);
}

static void run_timers(struct loop *l)
{
	uint64_t until = l->armed; /* one armed by a timer of this turn waits for the next */
	while (l->heap_len > 0) {
		struct loop_src *s = l->heap[0];
		if (s->timer.due_ms > l->now_ms || s->timer.order >= until)
			return;
		disarm(l, s);
		if (s->timer.every_ms > 0)
			arm_at(l, s, l->now_ms + s->timer.every_ms);
		s->timer.fn(s->arg);
	}
}

static void run_turn_hooks(struct loop *l)
{
	for (size_t i = 0; i < HOOKS_MAX; i++)
		if (l->hooks[i] != NULL)
			l->hooks[i]->turn(l->hooks[i]->arg);
}

int loop_fd(const struct loop *l)
{
	return l->epoll_fd;
}

int loop_wait_ms(const struct loop *l)
{
	if (l->heap_len == 0)
		return -1;
	int64_t in_ms = l->heap[0]->timer.due_ms - clock_ms();
	if (in_ms < 0)
		return 0;
	return in_ms > INT32_MAX ? INT32_MAX : (int)in_ms;
}

int loop_turn(struct loop *l, int timeout_ms)
{
	struct epoll_event events[EVENTS_MAX];
	int timer_ms = loop_wait_ms(l);
	int wait_ms = timer_ms >= 0 && (timeout_ms < 0 || timer_ms < timeout_ms) ? timer_ms : timeout_ms;
	int n = epoll_wait(l->epoll_fd, events, EVENTS_MAX, wait_ms);
	if (n < 0 && errno != EINTR)
		return ERR_SYS;
	l->now_ms = clock_ms();
	run_timers(l);
	for (int i = 0; i < n; i++)
		run_event(l, events[i].data.ptr, events[i].events);
	run_turn_hooks(l);
	bury(l);
	return 0;
}

int loop_run(struct loop *l)
{
	l->quit = false;
	while (!l->quit) {
		int rc = loop_turn(l, -1);
		if (rc < 0)
			return rc;
	}
	return l->code;
}

void loop_quit(struct loop *l, int code)
{
	l->quit = true;
	l->code = code;
}
