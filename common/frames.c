#include "common/frames.h"

#include "common/util.h"
#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

/* ---- a frame ---- */

struct frame *frame_new(uint32_t number, size_t len)
{
	struct frame *f = len <= FRAME_BODY_MAX ? malloc(frame_size(len)) : NULL;
	if (f != NULL)
		*f = (struct frame){.number = number, .len = (uint32_t)len};
	return f;
}

struct frame *frame_of(uint32_t number, const json_t *msg, int *ret_code)
{
	size_t len = json_dumpb(msg, NULL, 0, JSON_COMPACT);
	struct frame *f = len > 0 ? frame_new(number, len) : NULL;
	if (ret_code != NULL)
		*ret_code = len > FRAME_BODY_MAX ? ERR_LIMIT : ERR_NOMEM;
	if (f != NULL && json_dumpb(msg, f->body, len, JSON_COMPACT) != len)
		return frame_free(f);
	return f;
}

int frame_add_fd(struct frame *f, int fd, struct err *err)
{
	int copy = f->n_fds < FRAME_FDS_MAX ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
	if (copy < 0)
		return err_sys(err, "descriptor %d for a frame", fd);
	f->fds[f->n_fds++] = copy;
	return 0;
}

static void close_all(int *fds, unsigned *n)
{
	for (unsigned i = 0; i < *n; i++)
		closep(&fds[i]);
	*n = 0;
}

struct frame *frame_free(struct frame *f)
{
	if (f == NULL)
		return NULL;
	close_all(f->fds, &f->n_fds);
	explicit_bzero(f->body, f->len);
	free(f);
	return NULL;
}

/* ---- reading ---- */

void frames_init(struct frames *c, int fd, enum frames_head head)
{
	*c = (struct frames){.fd = fd, .head = head};
}

/* Of the frame being read: what has arrived. */
static size_t in_got(const struct frames *c)
{
	return c->in != NULL ? c->in_have - (size_t)c->head : 0;
}

void frames_done(struct frames *c)
{
	if (c->in != NULL)
		c->in->len = (uint32_t)in_got(c); /* the rest was never touched */
	frame_free(c->in);
	close_all(c->in_fds, &c->n_in_fds);
	while (c->first != NULL) {
		struct frame *f = c->first;
		c->first = f->next;
		frame_free(f);
	}
	*c = (struct frames){.fd = -1};
}

static int take_fds(struct frames *c, struct msghdr *m)
{
	bool fine = (m->msg_flags & MSG_CTRUNC) == 0;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h != NULL; h = CMSG_NXTHDR(m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
			/* they come with the head of their frame, or not at all */
			if (c->in == NULL && c->n_in_fds < FRAME_FDS_MAX) {
				c->in_fds[c->n_in_fds++] = fd;
			} else {
				close(fd);
				fine = false;
			}
		}
	}
	return fine ? 0 : ERR_PEER;
}

/* Read up to len bytes. ret: how many; 0: none yet; or an error. */
static ssize_t receive(struct frames *c, void *to, size_t len, struct err *err)
{
	union {
		char bytes[CMSG_SPACE(FRAME_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} room;
	struct iovec iov = {.iov_base = to, .iov_len = len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;
	if (c->head == FRAMES_NUMBERED) {
		m.msg_control = room.bytes;
		m.msg_controllen = sizeof(room.bytes);
	}
	do
		n = recvmsg(c->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	if (n == 0 || (n < 0 && errno == ECONNRESET)) /* it left unread what we sent */
		return err_set(err, ERR_PEER, "closed");
	if (n < 0) {
		err_sys(err, "reading frames");
		return ERR_PEER;
	}
	if (c->head == FRAMES_NUMBERED && take_fds(c, &m) < 0)
		return err_set(err, ERR_PEER, "descriptors where none are allowed");
	return n;
}

static uint32_t word(const unsigned char *at)
{
	uint32_t v;
	memcpy(&v, at, sizeof(v));
	return le32toh(v);
}

/* The head is complete. */
static int begin_body(struct frames *c, struct err *err)
{
	size_t len = word(c->in_head);
	if (len < 2 || len > FRAME_BODY_MAX)
		return err_set(err, ERR_PEER, "a frame of %zu bytes", len);
	c->in = frame_new(c->head == FRAMES_NUMBERED ? word(c->in_head + 4) : 0, len);
	if (c->in == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a frame of %zu bytes", len);
	memcpy(c->in->fds, c->in_fds, sizeof(c->in_fds));
	c->in->n_fds = c->n_in_fds;
	c->n_in_fds = 0;
	return 0;
}

int frames_read(struct frames *c, struct frame **ret, struct err *err)
{
	for (;;) {
		size_t head = (size_t)c->head;
		bool in_head = c->in_have < head;
		ssize_t n = in_head ? receive(c, c->in_head + c->in_have, head - c->in_have, err)
				    : receive(c, c->in->body + (c->in_have - head),
					      c->in->len - (c->in_have - head), err);
		if (n <= 0)
			return (int)n;
		c->in_have += (size_t)n;
		if (in_head) {
			int rc = c->in_have == head ? begin_body(c, err) : 0;
			if (rc < 0)
				return rc;
			continue;
		}
		if (c->in->body[0] != '{')
			return err_set(err, ERR_PEER, "a frame that is no JSON object");
		if (c->in_have < head + c->in->len)
			continue;
		c->in_have = 0;
		*ret = TAKE(c->in);
		return 1;
	}
}

/* ---- writing ---- */

void frames_put(struct frames *c, struct frame *f)
{
	f->next = NULL;
	if (c->last != NULL)
		c->last->next = f;
	else
		c->first = f;
	c->last = f;
	c->waiting += frame_size(f->len);
}

static void pop(struct frames *c)
{
	struct frame *f = c->first;
	c->first = f->next;
	if (c->first == NULL)
		c->last = NULL;
	c->waiting -= frame_size(f->len);
	c->sent = 0;
	frame_free(f);
}

/* Write on the first frame. ret: bytes written, or -1. */
static ssize_t send_some(const struct frames *c)
{
	const struct frame *f = c->first;
	size_t head_len = (size_t)c->head, body_sent = c->sent > head_len ? c->sent - head_len : 0;
	const uint32_t head[2] = {htole32(f->len), htole32(f->number)};
	struct iovec iov[] = {
		{.iov_base = (char *)head + c->sent, .iov_len = head_len - c->sent},
		{.iov_base = (char *)f->body + body_sent, .iov_len = f->len - body_sent},
	};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
	union {
		char bytes[CMSG_SPACE(FRAME_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} room = {{0}};
	if (c->sent >= head_len) {
		m.msg_iov = &iov[1];
		m.msg_iovlen = 1;
	}
	if (c->sent == 0 && f->n_fds > 0) {
		m.msg_control = room.bytes;
		m.msg_controllen = CMSG_SPACE(f->n_fds * sizeof(int));
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(f->n_fds * sizeof(int));
		memcpy(CMSG_DATA(h), f->fds, f->n_fds * sizeof(int));
	}
	return sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int frames_flush(struct frames *c, struct err *err)
{
	c->stuck = false;
	while (c->first != NULL) {
		ssize_t n = send_some(c);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 0;
		if (n < 0 && errno == ETOOMANYREFS) {
			c->stuck = true;
			return 0;
		}
		if (n < 0) {
			err_sys(err, "writing frames");
			return ERR_PEER;
		}
		c->sent += (size_t)n;
		if (c->sent < (size_t)c->head + c->first->len)
			continue;
		c->taken += FRAME_HEAD_MAX + c->first->len;
		pop(c);
	}
	return 0;
}

void frames_drop(struct frames *c)
{
	struct frame *keep = c->sent > 0 ? c->first : NULL;
	struct frame *f = keep != NULL ? keep->next : c->first;
	c->first = c->last = keep;
	c->waiting = 0;
	if (keep != NULL) {
		c->waiting = frame_size(keep->len);
		keep->next = NULL;
	}
	while (f != NULL) {
		struct frame *next = f->next;
		frame_free(f);
		f = next;
	}
}

void frames_wipe(struct frames *c)
{
	if (c->in != NULL)
		explicit_bzero(c->in->body, in_got(c));
	for (struct frame *f = c->first; f != NULL; f = f->next)
		explicit_bzero(f->body, f->len);
}
