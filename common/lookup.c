#include "common/lookup.h"
#include "common/util.h"
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define STACK_BYTES (256 * 1024) /* many names at once: not eight megabytes each */

/* Shared with the thread: the last of the two frees it, so neither has to wait for the other. The
 * thread knows nothing of the loop, only its end of a pipe. */
struct work {
	struct work *next, **at; /* in the queue; at NULL: a thread has taken it */
	atomic_int users;
	char host[LOOKUP_HOST_MAX + 1];
	unsigned port;
	int done_fd;      /* the thread's: closed to wake the loop */
	atomic_bool done; /* rc and found are there */
	int rc;           /* of getaddrinfo() */
	struct lookup_addrs found;
};

/* What no thread has taken yet. A thread that is done takes the next one, and ends when there is
 * none: one that looks up what nobody asks for any more cannot be ended before. */
static struct {
	pthread_mutex_t lock;
	struct work *first, **last;
	unsigned threads;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .last = &queue.first};

struct lookup {
	struct loop *loop;
	lookup_fn *fn;
	void *arg;
	struct work *work;
	int fd;
	struct loop_src *src;
};

/* Adds to ret. ret: as getaddrinfo(). */
static int resolve(const char *host, unsigned port, int flags, struct lookup_addrs *ret)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, /* each address once */
				       .ai_flags = flags | AI_NUMERICSERV};
	struct addrinfo *found = NULL;
	char service[12];

	snprintf(service, sizeof(service), "%u", port);
	int rc = getaddrinfo(host, service, &hints, &found);
	if (rc != 0)
		return rc;
	for (const struct addrinfo *a = found; a != NULL && ret->n < LOOKUP_ADDRS_MAX;
	     a = a->ai_next) {
		struct lookup_addr *to = &ret->items[ret->n];

		if (a->ai_addrlen > sizeof(to->addr))
			continue;
		memcpy(&to->addr, a->ai_addr, a->ai_addrlen);
		to->len = a->ai_addrlen;
		ret->n++;
	}
	freeaddrinfo(found);
	return ret->n > 0 ? 0 : EAI_FAMILY;
}

bool lookup_numeric(const char *host, unsigned port, struct lookup_addrs *ret)
{
	ret->n = 0;
	if (strcasecmp(host, "localhost") != 0)
		return resolve(host, port, AI_NUMERICHOST, ret) == 0;
	resolve("127.0.0.1", port, AI_NUMERICHOST, ret);
	resolve("::1", port, AI_NUMERICHOST, ret);
	return ret->n > 0;
}

static void work_unref(struct work *w)
{
	if (w != NULL && atomic_fetch_sub(&w->users, 1) == 1)
		free(w);
}

/* With the lock. */
static void enqueue(struct work *w)
{
	w->at = queue.last;
	*queue.last = w;
	queue.last = &w->next;
}

/* With the lock. */
static void unqueue(struct work *w)
{
	*w->at = w->next;
	if (w->next != NULL)
		w->next->at = w->at;
	else
		queue.last = w->at;
	w->at = NULL;
	w->next = NULL;
}

/* ret: NULL: there is nothing to do, the thread is none of ours any more. */
static struct work *take_work(void)
{
	pthread_mutex_lock(&queue.lock);
	struct work *w = queue.first;

	if (w != NULL)
		unqueue(w);
	else
		queue.threads--;
	pthread_mutex_unlock(&queue.lock);
	return w;
}

static void *look_up(void *arg)
{
	struct work *w;

	while ((w = take_work()) != NULL) {
		w->rc = resolve(w->host, w->port, 0, &w->found);
		int done_fd = w->done_fd;
		atomic_store(&w->done, true);
		close(done_fd);
		work_unref(w);
	}
	return arg;
}

static int start_thread(void)
{
	pthread_t thread;
	pthread_attr_t attr;

	if (pthread_attr_init(&attr) != 0)
		return ERR_NOMEM;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	/* signals are for the threads of the program */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&thread, &attr, look_up, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return rc == 0 ? 0 : ERR_NOMEM;
}

/* w gets a user more, which is the thread. ret: 0 or ERR_NOMEM. */
static int begin(struct work *w)
{
	int rc = 0;

	pthread_mutex_lock(&queue.lock);
	if (queue.threads < LOOKUP_THREADS_MAX) {
		rc = start_thread();
		queue.threads += rc == 0;
	}
	if (queue.threads > 0) { /* those that are there take it */
		rc = 0;
		atomic_fetch_add(&w->users, 1);
		enqueue(w);
	}
	pthread_mutex_unlock(&queue.lock);
	return rc;
}

/* Nobody waits for it any more. One that is being looked up is left to its thread. */
static void give_up(struct work *w)
{
	pthread_mutex_lock(&queue.lock);
	bool waits = w->at != NULL;

	if (waits)
		unqueue(w);
	pthread_mutex_unlock(&queue.lock);
	if (waits) {
		close(w->done_fd);
		work_unref(w);
	}
	work_unref(w);
}

static void on_done(void *arg, uint32_t events)
{
	struct lookup *k = arg;
	struct work *w = k->work;
	char why[400] = "no answer"; /* the thread sets done first: never */

	(void)events;
	k->src = loop_remove(k->loop, k->src);
	if (!atomic_load(&w->done) || w->rc != 0) {
		if (atomic_load(&w->done))
			snprintf(why, sizeof(why), "looking up %s: %s", w->host,
				 gai_strerror(w->rc));
		k->fn(k->arg, NULL, why); /* k may be gone */
		return;
	}
	struct lookup_addrs found = w->found; /* w may go with k */
	k->fn(k->arg, &found, NULL);
}

int lookup_new(struct loop *l, const char *host, unsigned port, lookup_fn *fn, void *arg,
	       struct lookup **ret, struct err *err)
{
	int fds[2];

	if (strlen(host) > LOOKUP_HOST_MAX)
		return err_set(err, ERR_INVAL, "looking up %.60s...: too long", host);
	struct lookup *k = calloc(1, sizeof(*k));
	struct work *w = calloc(1, sizeof(*w));
	if (k == NULL || w == NULL) {
		free(k);
		free(w);
		return err_set(err, ERR_NOMEM, "looking up %s", host);
	}
	*k = (struct lookup){.loop = l, .fn = fn, .arg = arg, .work = w, .fd = -1};
	atomic_init(&w->users, 1);
	w->port = port;
	snprintf(w->host, sizeof(w->host), "%s", host);
	if (pipe2(fds, O_CLOEXEC) < 0) {
		err_sys(err, "looking up %s", host);
		lookup_free(k);
		return ERR_SYS;
	}
	k->fd = fds[0];
	w->done_fd = fds[1];
	/* The end of the pipe is the news: an event, not a byte. */
	int rc = loop_add_fd(l, k->fd, 0, on_done, k, &k->src, err);
	if (rc == 0) {
		rc = begin(w);
		if (rc < 0)
			err_set(err, rc, "looking up %s: no thread", host);
	}
	if (rc < 0) {
		close(fds[1]);
		lookup_free(k);
		return rc;
	}
	*ret = k;
	return 0;
}

struct lookup *lookup_free(struct lookup *k)
{
	if (k == NULL)
		return NULL;
	loop_remove(k->loop, k->src);
	closep(&k->fd);
	give_up(k->work);
	free(k);
	return NULL;
}
