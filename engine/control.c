#include "engine/control.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD      4u
#define READ_STEP 65536u

int control_init(struct control *c, int fd, struct err *err)
{
	*c = (struct control){.fd = fd};
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_sys(err, "control socket");
	return 0;
}

void control_done(struct control *c)
{
	free(c->in);
	free(c->out);
	*c = (struct control){.fd = -1};
}

static uint32_t frame_bytes(const unsigned char *head)
{
	return (uint32_t)head[0] | (uint32_t)head[1] << 8 | (uint32_t)head[2] << 16 |
	       (uint32_t)head[3] << 24;
}

static int grow(void *buf, size_t *cap, size_t need)
{
	char **p = buf;
	size_t n = *cap > 0 ? *cap : READ_STEP;
	if (need <= *cap)
		return 0;
	while (n < need)
		n *= 2;
	char *grown = realloc(*p, n);
	if (grown == NULL)
		return ERR_NOMEM;
	*p = grown;
	*cap = n;
	return 0;
}

/* Take the first frame off the buffer. ret: 1, 0: not complete, or an error. */
static int take_frame(struct control *c, json_t **ret_frame, struct err *err)
{
	json_error_t why;
	if (c->in_len < HEAD)
		return 0;
	size_t len = frame_bytes(c->in);
	if (len > CONTROL_FRAME_MAX)
		return err_set(err, ERR_PEER, "control frame of %zu bytes", len);
	if (c->in_len < HEAD + len)
		return 0;
	json_t *frame = json_loadb((const char *)c->in + HEAD, len, JSON_ALLOW_NUL, &why);
	if (frame == NULL && json_error_code(&why) == json_error_out_of_memory)
		return err_set(err, ERR_NOMEM, "out of memory for a control frame of %zu bytes",
			       len);
	if (!json_is_object(frame)) {
		json_decref(frame);
		return err_set(err, ERR_PEER, "control frame is no JSON object: %s",
			       frame == NULL ? why.text : "");
	}
	c->in_len -= HEAD + len;
	memmove(c->in, c->in + HEAD + len, c->in_len);
	if (c->in_len == 0 && c->in_cap > READ_STEP) {
		free(c->in); /* large frames are rare */
		c->in = NULL;
		c->in_cap = 0;
	}
	*ret_frame = frame;
	return 1;
}

/* How much room a read needs: the rest of the frame that has begun, or any. */
static size_t want(const struct control *c)
{
	size_t step = c->in_len + READ_STEP / 4;
	if (c->in_len < HEAD)
		return step;
	size_t whole = HEAD + (size_t)frame_bytes(c->in);
	return whole > step ? whole : step;
}

int control_read(struct control *c, json_t **ret_frame, struct err *err)
{
	for (;;) {
		int rc = take_frame(c, ret_frame, err);
		if (rc != 0)
			return rc;
		if (grow(&c->in, &c->in_cap, want(c)) < 0)
			return err_set(err, ERR_NOMEM, "out of memory for a control frame");
		ssize_t n = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len, 0);
		if (n == 0)
			return err_set(err, ERR_PEER, "closed");
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 0;
		if (n < 0) {
			err_sys(err, "control socket");
			return ERR_PEER;
		}
		c->in_len += (size_t)n;
	}
}

int control_write(struct control *c, json_t *frame, struct err *err)
{
	size_t len = frame != NULL ? json_dumpb(frame, NULL, 0, JSON_COMPACT) : 0;
	if (len == 0 || grow(&c->out, &c->out_cap, c->out_len + HEAD + len) < 0) {
		json_decref(frame);
		return err_set(err, ERR_NOMEM, "out of memory for an answer");
	}
	char *at = c->out + c->out_len;
	size_t written = json_dumpb(frame, at + HEAD, len, JSON_COMPACT);
	json_decref(frame);
	if (written != len)
		return err_set(err, ERR_NOMEM, "out of memory for an answer");
	for (unsigned i = 0; i < HEAD; i++)
		at[i] = (char)(len >> (8 * i));
	c->out_len += HEAD + len;
	return control_flush(c, err);
}

int control_flush(struct control *c, struct err *err)
{
	while (c->out_at < c->out_len) {
		ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			memmove(c->out, c->out + c->out_at, c->out_len - c->out_at);
			c->out_len -= c->out_at;
			c->out_at = 0;
			return 0;
		}
		if (n < 0) {
			err_sys(err, "control socket");
			return ERR_PEER;
		}
		c->out_at += (size_t)n;
	}
	c->out_at = c->out_len = 0;
	return 0;
}
