/* fuzz: common
 * A peer that writes what it likes to a connection with frames, in pieces of any length, with and
 * without descriptors: every frame that comes of it is whole, nothing is leaked. */
#include "common/frames.h"
#include "common/util.h"
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

static void must(bool fine)
{
	if (!fine)
		abort();
}

/* The lowest free number: higher than before if something was leaked. */
static int lowest_free(void)
{
	int fd = dup(STDIN_FILENO);
	close(fd);
	return fd;
}

static void send_piece(int fd, const uint8_t *data, size_t len, unsigned n_fds)
{
	union {
		char bytes[CMSG_SPACE(16 * sizeof(int))];
		struct cmsghdr align;
	} room = {{0}};
	struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	if (n_fds > 0) {
		m.msg_control = room.bytes;
		m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		for (unsigned i = 0; i < n_fds; i++)
			memcpy(CMSG_DATA(h) + i * sizeof(int), &fd, sizeof(int));
	}
	must(sendmsg(fd, &m, MSG_DONTWAIT) == (ssize_t)len);
}

/* ret: false: it was rubbish. */
static bool read_all(struct frames *in, size_t *total)
{
	struct frame *f = NULL;
	int rc;
	while ((rc = frames_read(in, &f, NULL)) > 0) {
		must(f->len >= 2 && f->len <= FRAME_BODY_MAX && f->body[0] == '{');
		must(f->n_fds <= FRAME_FDS_MAX);
		for (unsigned i = 0; i < f->n_fds; i++)
			must(fcntl(f->fds[i], F_GETFD) >= 0);
		json_decref(json_loadb(f->body, f->len, 0, NULL));
		*total += FRAME_HEAD_MAX + f->len;
		frame_free(f);
	}
	return rc == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* First byte: kind of heads. Then pieces: a byte of length, a byte of descriptors, the bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int pair[2];
	size_t sent = 0, total = 0;
	struct frames in;
	if (size < 1 || size > 16384)
		return 0;
	int before = lowest_free();
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	frames_init(&in, pair[1], data[0] % 2 > 0 ? FRAMES_NUMBERED : FRAMES_PLAIN);
	for (size_t at = 1; at + 2 < size;) {
		size_t len = data[at] == 0 ? 1 : data[at];
		unsigned n_fds = data[at + 1] % 4 > 0 ? 0 : data[at + 1] / 4 % 12;
		at += 2;
		if (len > size - at)
			len = size - at;
		send_piece(pair[0], data + at, len, n_fds);
		sent += len;
		at += len;
		if (!read_all(&in, &total))
			break;
	}
	if (in.head == FRAMES_NUMBERED)
		must(total <= sent);
	frames_done(&in);
	close(pair[0]);
	close(pair[1]);
	must(lowest_free() == before);
	return 0;
}
