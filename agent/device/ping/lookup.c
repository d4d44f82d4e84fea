#include "agent/device/ping/lookup.h"
#include "common/util.h"
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HOST_MAX    255
#define STACK_BYTES (256 * 1024) /* many names at once: not eight megabytes each */

/* Shared with the thread: the last of the two frees it, so neither has to wait for the other. The
 * thread knows nothing of the loop, only its end of a pipe. */
struct work {
	atomic_int users;
	char host[HOST_MAX + 1];
	int done_fd;      /* the thread's: closed to wake the loop */
	atomic_bool done; /* rc and found are there */
	int rc;           /* of getaddrinfo() */
	struct lookup_address found;
};

struct lookup {
	struct loop *loop;
	lookup_fn *fn;
	void *arg;
	struct work *work;
	int fd;
	struct loop_src *src;
};

/* A datagram type, as each address is to be told once. */
static int resolve(const char *host, int flags, struct lookup_address *ret)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = flags};
	struct addrinfo *found = NULL;
	int rc = getaddrinfo(host, NULL, &hints, &found);

	if (rc != 0)
		return rc;
	if (found->ai_addrlen > sizeof(ret->addr))
		rc = EAI_FAMILY;
	else
		memcpy(&ret->addr, found->ai_addr, ret->len = found->ai_addrlen);
	freeaddrinfo(found);
	return rc;
}

bool lookup_numeric(const char *host, struct lookup_address *ret)
{
	if (strcasecmp(host, "localhost") == 0)
		host = "127.0.0.1";
	return resolve(host, AI_NUMERICHOST, ret) == 0;
}

static void work_unref(struct work *w)
{
	if (w != NULL && atomic_fetch_sub(&w->users, 1) == 1)
		free(w);
}

static void *look_up(void *arg)
{
	struct work *w = arg;

	w->rc = resolve(w->host, 0, &w->found);
	int done_fd = w->done_fd;
	atomic_store(&w->done, true);
	close(done_fd);
	work_unref(w);
	return NULL;
}

static int start_thread(struct work *w)
{
	pthread_t thread;
	pthread_attr_t attr;

	if (pthread_attr_init(&attr) != 0)
		return ERR_NOMEM;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	int rc = pthread_create(&thread, &attr, look_up, w);
	pthread_attr_destroy(&attr);
	return rc == 0 ? 0 : ERR_NOMEM;
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
	struct lookup_address found = w->found;
	k->fn(k->arg, &found, NULL);
}

int lookup_new(struct loop *l, const char *host, lookup_fn *fn, void *arg, struct lookup **ret,
	       struct err *err)
{
	int fds[2];

	if (strlen(host) > HOST_MAX)
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
		atomic_fetch_add(&w->users, 1);
		rc = start_thread(w);
		if (rc < 0) {
			work_unref(w);
			err_set(err, rc, "looking up %s: no thread", host);
		}
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
	work_unref(k->work);
	free(k);
	return NULL;
}
