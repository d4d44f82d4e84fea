#include "agent/device/stream_int.h"
#include "common/clock.h"
#include "common/util.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <termios.h>

#define READ_BYTES   512 /* in a turn, as long as a frame: what is made of them may take its time */
#define DROP_BYTES   4096
#define DROPS_MAX    64 /* reads, when input is thrown away: a peer may never stop */
#define CHUNKS_MAX   1024
#define KEEP_IDLE_S  30
#define KEEP_EVERY_S 10
#define KEEP_COUNT   3
#define UNHEARD_MS   60000 /* what is sent and not acknowledged for as long ends the connection */

struct chunk {
	struct chunk *next;
	size_t len, sent;
	uint8_t bytes[];
};

/* ---- making and closing ---- */

struct stream *stream_new(struct loop *l, int fd, struct err *err)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		closep(&fd);
		err_set(err, ERR_NOMEM, "a stream");
		return NULL;
	}
	*s = (struct stream){.loop = l, .fd = fd};
	return s;
}

void stream_tune_socket(int fd)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{IPPROTO_TCP, TCP_NODELAY, 1},
		{SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE_S},
		{IPPROTO_TCP, TCP_KEEPINTVL, KEEP_EVERY_S},
		{IPPROTO_TCP, TCP_KEEPCNT, KEEP_COUNT},
		{IPPROTO_TCP, TCP_USER_TIMEOUT, UNHEARD_MS},
	};

	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		(void)setsockopt(fd, options[i].level, options[i].name, &options[i].value,
				 sizeof(options[i].value));
}

static void drop_chunk(struct stream *s)
{
	struct chunk *c = s->first;

	s->first = c->next;
	if (s->first == NULL)
		s->last = NULL;
	s->chunks--;
	free(c);
}

static void release(struct stream *s)
{
	/* close() waits for what a line does not take, half a minute where its peer holds it up */
	if (s->char_us > 0 && s->fd >= 0)
		(void)tcflush(s->fd, TCOFLUSH);
	s->dial = dial_free(s->dial);
	s->src = loop_remove(s->loop, s->src);
	s->timer = loop_remove(s->loop, s->timer);
	closep(&s->fd);
	while (s->first != NULL)
		drop_chunk(s);
	s->waiting = 0;
}

static void leave(struct stream *s)
{
	if (--s->busy == 0 && s->freed)
		free(s);
}

struct stream *stream_free(struct stream *s)
{
	if (s == NULL)
		return NULL;
	s->freed = true;
	s->busy++;
	release(s);
	leave(s);
	return NULL;
}

static void end(struct stream *s, const char *why)
{
	char text[sizeof((struct err){0}.text)];

	if (s->over || s->freed)
		return;
	snprintf(text, sizeof(text), "%s", why); /* it may be in what is released here */
	s->over = true;
	release(s);
	s->h.on_close(s->arg, text);
}

static void end_errno(struct stream *s, int error)
{
	end(s, strerrordesc_np(error));
}

/* ---- sending ---- */

/* out: EPOLLOUT or 0. */
static void want(struct stream *s, uint32_t out)
{
	uint32_t events = (s->paused ? 0 : EPOLLIN) | out;

	if (s->src == NULL || events == s->events)
		return;
	/* The change of an event that is watched already cannot fail. */
	(void)loop_set_events(s->loop, s->src, events);
	s->events = events;
}

/* Microseconds until the line has been silent for long enough; <= 0: it has. */
static int64_t silence_left_us(const struct stream *s)
{
	return s->silent_us == 0 ? 0 : s->quiet_us + s->silent_us - monotonic_us();
}

/* ret: false: it failed, on_close follows. */
static bool send_some(struct stream *s, const uint8_t *bytes, size_t n, size_t *ret_sent)
{
	ssize_t rc = s->char_us > 0 ? write(s->fd, bytes, n) : send(s->fd, bytes, n, MSG_NOSIGNAL);

	if (rc < 0 && errno != EAGAIN && errno != EINTR) {
		s->failed = errno;
		want(s, EPOLLOUT);
		return false;
	}
	*ret_sent = rc < 0 ? 0 : (size_t)rc;
	if (s->char_us > 0 && *ret_sent > 0) {
		int64_t now_us = monotonic_us();

		s->quiet_us = (s->quiet_us > now_us ? s->quiet_us : now_us) +
			      (int64_t)*ret_sent * s->char_us;
	}
	return true;
}

/* What waits, as far as it goes. The events that are watched afterwards are right. */
static void flush(struct stream *s)
{
	while (s->first != NULL && s->failed == 0) {
		struct chunk *c = s->first;
		int64_t left_us = c->sent == 0 ? silence_left_us(s) : 0;
		size_t sent;

		if (left_us > 0) {
			loop_arm(s->loop, s->timer, (left_us + 999) / 1000);
			want(s, 0);
			return;
		}
		if (!send_some(s, c->bytes + c->sent, c->len - c->sent, &sent))
			return;
		c->sent += sent;
		s->waiting -= sent;
		if (c->sent < c->len)
			break;
		drop_chunk(s);
	}
	want(s, s->first != NULL || s->tell_sent ? EPOLLOUT : 0);
}

void stream_on_silence(void *arg)
{
	flush(arg);
}

static int enqueue(struct stream *s, const uint8_t *bytes, size_t n, size_t sent, struct err *err)
{
	struct chunk *c = malloc(sizeof(*c) + n - sent);

	if (c == NULL)
		return err_set(err, ERR_NOMEM, "writing to the field");
	/* What is left of a write goes out without a silence in front of it; `sent` tells. */
	*c = (struct chunk){.len = n - sent};
	memcpy(c->bytes, bytes + sent, n - sent);
	if (s->last != NULL)
		s->last->next = c;
	else
		s->first = c;
	s->last = c;
	s->chunks++;
	s->waiting += c->len;
	return 0;
}

int stream_write(struct stream *s, const uint8_t *bytes, size_t n, struct err *err)
{
	if (s->fd < 0 || s->failed != 0)
		return err_set(err, ERR_PEER, "not connected");
	if (n > STREAM_WRITE_MAX - s->waiting || s->chunks == CHUNKS_MAX)
		return err_set(err, ERR_LIMIT, "the peer takes nothing: %zu bytes wait",
			       s->waiting);
	int rc = enqueue(s, bytes, n, 0, err);
	if (rc < 0)
		return rc;
	s->tell_sent = s->h.on_sent != NULL;
	if (s->src != NULL)
		flush(s);
	return s->failed == 0 ? 0 : err_set(err, ERR_PEER, "%s", strerrordesc_np(s->failed));
}

/* ---- receiving ---- */

static void receive(struct stream *s)
{
	uint8_t buf[READ_BYTES];
	ssize_t n = read(s->fd, buf, sizeof(buf));

	if (n > 0) {
		if (s->char_us > 0 && monotonic_us() > s->quiet_us)
			s->quiet_us = monotonic_us();
		s->h.on_data(s->arg, buf, (size_t)n);
	} else if (n == 0) {
		end(s, s->char_us > 0 ? "the line hung up" : "the peer closed the connection");
	} else if (errno == EIO) {
		end(s, "the line hung up");
	} else if (errno != EAGAIN && errno != EINTR) {
		end_errno(s, errno);
	}
}

void stream_pause(struct stream *s, bool pause)
{
	s->paused = pause;
	want(s, s->events & EPOLLOUT);
}

void stream_drop_input(struct stream *s)
{
	uint8_t buf[DROP_BYTES];
	ssize_t n = 1;

	/* An end that shows here shows again when the loop looks. */
	for (unsigned i = 0; i < DROPS_MAX && n > 0 && s->fd >= 0; i++) {
		n = s->char_us > 0 ? read(s->fd, buf, sizeof(buf))
				   : recv(s->fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n > 0 && s->char_us > 0 && monotonic_us() > s->quiet_us)
			s->quiet_us = monotonic_us();
	}
}

static void on_io(void *arg, uint32_t events)
{
	struct stream *s = arg;

	s->busy++;
	if (events & EPOLLOUT && s->failed == 0) {
		flush(s);
		if (s->tell_sent && s->first == NULL && s->failed == 0) {
			s->tell_sent = false;
			want(s, 0);
			s->h.on_sent(s->arg);
		}
	}
	/* What the peer said last is told before the end. */
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && s->fd >= 0)
		receive(s);
	if (s->failed != 0)
		end_errno(s, s->failed);
	leave(s);
}

static int watch(struct stream *s, struct err *err)
{
	s->events = (s->paused ? 0 : EPOLLIN) | (s->first != NULL ? EPOLLOUT : 0);
	return loop_add_fd(s->loop, s->fd, s->events, on_io, s, &s->src, err);
}

/* ---- connections of ours ---- */

static void on_late(void *arg)
{
	struct stream *s = arg;

	s->busy++;
	end(s, "no connection in time");
	leave(s);
}

static void on_dialed(void *arg, int fd, const char *why)
{
	struct stream *s = arg;
	struct err err = {0};

	s->busy++;
	if (fd >= 0) {
		s->fd = fd;
		s->timer = loop_remove(s->loop, s->timer);
		s->dial = dial_free(s->dial);
		stream_tune_socket(fd);
		if (watch(s, &err) < 0)
			end(s, err.text);
		else
			s->h.on_open(s->arg);
	} else {
		end(s, why);
	}
	leave(s);
}

int stream_connect(struct loop *l, const char *host, unsigned port, unsigned timeout_ms,
		   const struct stream_handlers *h, void *arg, struct stream **ret, struct err *err)
{
	struct stream *s = stream_new(l, -1, err);

	if (s == NULL)
		return ERR_NOMEM;
	s->h = *h;
	s->arg = arg;
	int rc = dial_new(l, host, port, on_dialed, s, &s->dial, err);
	if (rc == 0)
		rc = loop_add_timer(l, timeout_ms, 0, on_late, s, &s->timer, err);
	if (rc < 0) {
		stream_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

int stream_start(struct stream *s, const struct stream_handlers *h, void *arg, struct err *err)
{
	s->h = *h;
	s->arg = arg;
	return watch(s, err);
}
