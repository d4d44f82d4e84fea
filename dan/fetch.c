#include "dan/fetch.h"

#include "common/util.h"
#include <curl/curl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>

#define KEPT_CONNECTIONS   8L
#define RUNNING_MAX        32 /* at once; each costs some 25 KB */
#define TIMEOUT_MS_DEFAULT 10000
#define ANSWER_BYTES_MAX   (1024 * 1024)

struct fetch_call {
	struct fetch *fetch;
	CURL *easy; /* NULL: it waits until there are fewer under way */
	struct curl_slist *headers;
	struct fetch_request request; /* strings are owned */
	char *answer;                 /* received so far; owned */
	size_t len, cap;
	int broken; /* why the answer is not taken any more: ERR_LIMIT, ERR_NOMEM */
	char why[CURL_ERROR_SIZE];
	fetch_done_fn *done;
	void *arg;
	struct fetch_call *prev, *next;
};

/* A descriptor that libcurl wants watched. */
struct watch {
	struct loop_src *src;
	struct fetch *fetch;
	int fd;
	struct watch *prev, *next;
};

struct fetch {
	struct loop *loop;
	CURLM *multi;
	struct loop_src *timer, *room_timer;
	struct fetch_call *calls, *waiting, **waiting_end; /* those under way; those that wait */
	unsigned running;
	struct watch *watches;
	bool harvesting; /* callbacks run: the memory stays until they are back */
	bool freed;      /* by one of them */
};

static void harvest(struct fetch *f);

/* ---- what libcurl asks of us ---- */

static void on_ready(void *arg, uint32_t events)
{
	struct watch *w = arg;
	struct fetch *f = w->fetch;
	int what = (events & EPOLLIN ? CURL_CSELECT_IN : 0) |
		   (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
		   (events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
	int running;
	curl_multi_socket_action(f->multi, w->fd, what, &running);
	harvest(f);
}

static void on_timer(void *arg)
{
	struct fetch *f = arg;
	int running;
	curl_multi_socket_action(f->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	harvest(f);
}

static int want_timer(CURLM *multi, long timeout_ms, void *arg)
{
	(void)multi;
	struct fetch *f = arg;
	loop_arm(f->loop, f->timer, timeout_ms);
	return 0;
}

static void watch_drop(struct fetch *f, struct watch *w)
{
	w->src = loop_remove(f->loop, w->src);
	if (w->prev != NULL)
		w->prev->next = w->next;
	else
		f->watches = w->next;
	if (w->next != NULL)
		w->next->prev = w->prev;
	free(w);
}

static int watch_add(struct fetch *f, curl_socket_t fd, uint32_t events)
{
	struct watch *w = calloc(1, sizeof(*w));
	if (w == NULL)
		return -1;
	w->fetch = f;
	w->fd = fd;
	if (loop_add_fd(f->loop, fd, events, on_ready, w, &w->src, NULL) < 0) {
		free(w);
		return -1;
	}
	w->next = f->watches;
	if (w->next != NULL)
		w->next->prev = w;
	f->watches = w;
	curl_multi_assign(f->multi, fd, w);
	return 0;
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *fd_arg)
{
	(void)easy;
	struct fetch *f = arg;
	struct watch *w = fd_arg;
	uint32_t events =
		(what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	if (what == CURL_POLL_REMOVE) {
		if (w != NULL)
			watch_drop(f, w);
		return 0;
	}
	if (w == NULL)
		return watch_add(f, fd, events); /* -1: libcurl fails the transfers */
	return loop_set_events(f->loop, w->src, events) < 0 ? -1 : 0;
}

static size_t take_answer(char *data, size_t size, size_t n, void *arg)
{
	struct fetch_call *call = arg;
	size_t len = size * n;
	if (call->len + len > ANSWER_BYTES_MAX) {
		call->broken = ERR_LIMIT;
		return 0; /* anything but len ends the transfer */
	}
	if (call->len + len + 1 > call->cap) {
		size_t cap = 2 * (call->len + len) + 256;
		char *bigger = realloc(call->answer, cap);
		if (bigger == NULL) {
			call->broken = ERR_NOMEM;
			return 0;
		}
		call->answer = bigger;
		call->cap = cap;
	}
	memcpy(call->answer + call->len, data, len);
	call->len += len;
	call->answer[call->len] = '\0';
	return len;
}

/* ---- transfers ---- */

static void request_done(struct fetch_request *q)
{
	const char *const owned[] = {q->method, q->url, q->body, q->username, q->password};
	for (size_t i = 0; i < ARRAY_LEN(owned); i++)
		free((char *)owned[i]);
	*q = (struct fetch_request){0};
}

static int request_copy(struct fetch_request *q, const struct fetch_request *from)
{
	const struct {
		const char *text, **copy;
	} strings[] = {{from->method, &q->method},
		       {from->url, &q->url},
		       {from->body, &q->body},
		       {from->username, &q->username},
		       {from->password, &q->password}};
	q->timeout_ms = from->timeout_ms;
	for (size_t i = 0; i < ARRAY_LEN(strings); i++)
		if (strings[i].text != NULL && (*strings[i].copy = strdup(strings[i].text)) == NULL)
			return ERR_NOMEM;
	return 0;
}

static struct fetch_call *call_free(struct fetch_call *call)
{
	if (call == NULL)
		return NULL;
	curl_easy_cleanup(call->easy);
	curl_slist_free_all(call->headers);
	request_done(&call->request);
	free(call->answer);
	free(call);
	return NULL;
}

static void call_freep(struct fetch_call **call)
{
	*call = call_free(*call);
}

static void call_unlink(struct fetch_call *call)
{
	struct fetch *f = call->fetch;
	if (call->easy == NULL) {
		struct fetch_call **at = &f->waiting;
		while (*at != call)
			at = &(*at)->next;
		*at = call->next;
		if (f->waiting_end == &call->next)
			f->waiting_end = at;
		return;
	}
	if (call->prev != NULL)
		call->prev->next = call->next;
	else
		f->calls = call->next;
	if (call->next != NULL)
		call->next->prev = call->prev;
	curl_multi_remove_handle(f->multi, call->easy);
	f->running--;
	if (f->waiting != NULL)
		loop_arm(f->loop, f->room_timer, 0);
}

static void finish(struct fetch_call *done, CURLcode code)
{
	CLEANUP(call_freep)
	struct fetch_call *call = done;
	struct fetch_answer a = {
		.why = "", .body = call->answer != NULL ? call->answer : "", .len = call->len};
	if (code == CURLE_OK) {
		curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &a.status);
	} else {
		a.rc = call->broken != 0                  ? call->broken
		       : code == CURLE_OPERATION_TIMEDOUT ? ERR_TIMEOUT
		       : code == CURLE_OUT_OF_MEMORY      ? ERR_NOMEM
							  : ERR_PEER;
		a.why = call->broken == ERR_LIMIT   ? "the answer is over 1 MiB"
			: call->broken == ERR_NOMEM ? "out of memory"
			: call->why[0] != '\0'      ? call->why
						    : curl_easy_strerror(code);
	}
	call_unlink(call);
	call->done(call->arg, &a);
}

static void release(struct fetch *f)
{
	loop_remove(f->loop, f->room_timer);
	if (f->multi != NULL)
		curl_multi_cleanup(f->multi); /* closes kept connections: watches go here */
	while (f->watches != NULL)
		watch_drop(f, f->watches);
	loop_remove(f->loop, f->timer);
	free(f);
}

/* Report what has ended. A callback may free the fetch: its calls are gone then, so there is
 * nothing left to report. */
static void harvest(struct fetch *f)
{
	CURLMsg *m;
	int left;
	f->harvesting = true;
	while (!f->freed && (m = curl_multi_info_read(f->multi, &left)) != NULL) {
		struct fetch_call *call;
		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &call);
		finish(call, m->data.result);
	}
	f->harvesting = false;
	if (f->freed)
		release(f);
}

static bool set_options(struct fetch_call *call)
{
	const struct fetch_request *q = &call->request;
	CURL *e = call->easy;
	bool ok = curl_easy_setopt(e, CURLOPT_URL, q->url) == CURLE_OK &&
		  curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, q->method) == CURLE_OK &&
		  curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
		  curl_easy_setopt(e, CURLOPT_PROXY, "") == CURLE_OK &&
		  curl_easy_setopt(e, CURLOPT_HTTPHEADER, call->headers) == CURLE_OK;
	if (ok && q->body != NULL)
		ok = curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE, (long)strlen(q->body)) ==
			     CURLE_OK &&
		     curl_easy_setopt(e, CURLOPT_POSTFIELDS, q->body) == CURLE_OK;
	if (ok && q->username != NULL)
		ok = curl_easy_setopt(e, CURLOPT_HTTPAUTH, CURLAUTH_BASIC) == CURLE_OK &&
		     curl_easy_setopt(e, CURLOPT_USERNAME, q->username) == CURLE_OK &&
		     curl_easy_setopt(e, CURLOPT_PASSWORD,
				      q->password != NULL ? q->password : "") == CURLE_OK;
	/* these only store a number or a pointer */
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS,
			 (long)(q->timeout_ms != 0 ? q->timeout_ms : TIMEOUT_MS_DEFAULT));
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, take_answer);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, call);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, call->why);
	curl_easy_setopt(e, CURLOPT_PRIVATE, call);
	return ok;
}

/* "Expect:" keeps libcurl from asking leave before it sends a body over 1 MiB */
static const char *const headers[] = {"Content-Type: application/json", "Accept: application/json",
				      "Expect:"};

static bool make_headers(struct fetch_call *call)
{
	for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
		struct curl_slist *more = curl_slist_append(call->headers, headers[i]);
		if (more == NULL)
			return false;
		call->headers = more;
	}
	return true;
}

/* Give it to libcurl, which begins by the timer: not within this call. */
static int begin(struct fetch_call *call, struct err *err)
{
	struct fetch *f = call->fetch;
	const struct fetch_request *q = &call->request;
	CURL *easy = curl_easy_init();
	call->easy = easy;
	if (easy == NULL || !make_headers(call) || !set_options(call))
		return err_set(err, ERR_NOMEM, "%s %s", q->method, q->url);
	CURLMcode rc = curl_multi_add_handle(f->multi, easy);
	if (rc != CURLM_OK)
		return err_set(err, rc == CURLM_OUT_OF_MEMORY ? ERR_NOMEM : ERR_PEER, "%s %s: %s",
			       q->method, q->url, curl_multi_strerror(rc));
	call->prev = NULL;
	call->next = f->calls;
	if (call->next != NULL)
		call->next->prev = call;
	f->calls = call;
	f->running++;
	return 0;
}

/* Those that waited, as far as there is room. What cannot begin now has failed. */
static void on_room(void *arg)
{
	struct fetch *f = arg;
	f->harvesting = true;
	while (!f->freed && f->waiting != NULL && f->running < RUNNING_MAX) {
		CLEANUP(call_freep)
		struct fetch_call *call = f->waiting;
		struct err err = {0};
		call_unlink(call);
		int rc = begin(call, &err);
		if (rc == 0) {
			TAKE(call);
			continue;
		}
		const struct fetch_answer a = {.rc = rc, .why = err.text, .body = ""};
		call->done(call->arg, &a);
	}
	f->harvesting = false;
	if (f->freed)
		release(f);
}

int fetch_start(struct fetch *f, const struct fetch_request *q, fetch_done_fn *done, void *arg,
		struct fetch_call **ret, struct err *err)
{
	CLEANUP(call_freep)
	struct fetch_call *call = calloc(1, sizeof(*call));
	if (call == NULL)
		return err_set(err, ERR_NOMEM, "%s %s", q->method, q->url);
	call->fetch = f;
	call->done = done;
	call->arg = arg;
	if (request_copy(&call->request, q) < 0)
		return err_set(err, ERR_NOMEM, "%s %s", q->method, q->url);
	if (f->waiting == NULL && f->running < RUNNING_MAX) {
		int rc = begin(call, err);
		if (rc < 0)
			return rc;
	} else {
		*f->waiting_end = call;
		f->waiting_end = &call->next;
	}
	if (ret != NULL)
		*ret = call;
	TAKE(call);
	return 0;
}

struct fetch_call *fetch_cancel(struct fetch_call *call)
{
	if (call != NULL)
		call_unlink(call);
	return call_free(call);
}

/* ---- the whole ---- */

int fetch_new(struct loop *l, struct fetch **ret, struct err *err)
{
	struct fetch *f = calloc(1, sizeof(*f));
	int rc = ERR_NOMEM;
	if (f == NULL)
		return err_set(err, rc, "HTTP client");
	f->loop = l;
	f->waiting_end = &f->waiting;
	/* never undone: the program around us may use libcurl as well, and does not count */
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		free(f);
		return err_set(err, rc, "HTTP client");
	}
	f->multi = curl_multi_init();
	if (f->multi == NULL) {
		err_set(err, rc, "HTTP client");
		goto fail;
	}
	rc = loop_add_timer(l, -1, 0, on_timer, f, &f->timer, err);
	if (rc == 0)
		rc = loop_add_timer(l, -1, 0, on_room, f, &f->room_timer, err);
	if (rc < 0)
		goto fail;
	/* else as many as there were at once are kept for ever */
	curl_multi_setopt(f->multi, CURLMOPT_MAXCONNECTS, KEPT_CONNECTIONS);
	curl_multi_setopt(f->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
	curl_multi_setopt(f->multi, CURLMOPT_SOCKETDATA, f);
	curl_multi_setopt(f->multi, CURLMOPT_TIMERFUNCTION, want_timer);
	curl_multi_setopt(f->multi, CURLMOPT_TIMERDATA, f);
	*ret = f;
	return 0;
fail:
	fetch_free(f);
	return rc;
}

struct fetch *fetch_free(struct fetch *f)
{
	if (f == NULL)
		return NULL;
	while (f->waiting != NULL)
		fetch_cancel(f->waiting);
	while (f->calls != NULL)
		fetch_cancel(f->calls);
	f->freed = true;
	if (!f->harvesting)
		release(f);
	return NULL;
}
