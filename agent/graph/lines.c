#include "agent/graph/lines.h"
#include "common/log.h"
#include "common/util.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#define LINE_MAX_BYTES   1000
#define LINES_PER_SECOND 20
#define BYTES_PER_SECOND (256u << 10)
#define READS_PER_TURN   8

struct lines {
	struct loop *loop;
	struct loop_src *src, *resume_timer;
	bool paused;
	int fd;
	const char *stream;
	int64_t second_ms;  /* when the present second began */
	unsigned in_second; /* lines */
	size_t bytes_in_second;
	uint64_t suppressed;
	size_t len;
	bool cut; /* the rest of this line is thrown away */
	char line[LINE_MAX_BYTES + 1];
};

/* Length of the well-formed UTF-8 sequence at s, at most n bytes; 0: none. */
static size_t utf8_len(const unsigned char *s, size_t n)
{
	static const struct {
		unsigned char mask, lead, second_min, second_max;
	} forms[] = {
		{0x80, 0x00, 0, 0},
		{0xe0, 0xc0, 0x80, 0xbf},
		{0xf0, 0xe0, 0x80, 0xbf},
		{0xf8, 0xf0, 0x80, 0xbf},
	};

	for (size_t k = 0; k < ARRAY_LEN(forms); k++) {
		if ((s[0] & forms[k].mask) != forms[k].lead)
			continue;
		if (k >= n)
			return 0;
		for (size_t i = 1; i <= k; i++)
			if (s[i] < forms[k].second_min || s[i] > forms[k].second_max)
				return 0;
		return k + 1;
	}
	return 0;
}

static void clean(char *line, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t n = utf8_len((const unsigned char *)line + i, len - i);

		if (n == 0 || (n == 1 && ((unsigned char)line[i] < 0x20 || line[i] == 0x7f))) {
			if (line[i] != '\t')
				line[i] = '?';
			n = 1;
		}
		i += n;
	}
	line[len] = '\0';
}

static void look_at_clock(struct lines *s)
{
	int64_t now = loop_now_ms(s->loop);

	if (now - s->second_ms < 1000)
		return;
	s->second_ms = now;
	s->in_second = 0;
	s->bytes_in_second = 0;
}

static void end_line(struct lines *s)
{
	if (s->len > 0) {
		if (s->in_second++ < LINES_PER_SECOND) {
			clean(s->line, s->len);
			log_info("engine.output", KV("stream", s->stream), KV("line", s->line),
				 KV("suppressed", s->suppressed));
			s->suppressed = 0;
		} else {
			s->suppressed++;
		}
	}
	s->len = 0;
	s->cut = false;
}

static void take(struct lines *s, const char *buf, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (buf[i] == '\n')
			end_line(s);
		else if (s->len < LINE_MAX_BYTES)
			s->line[s->len++] = buf[i];
		else
			s->cut = true;
	}
}

static void on_resume(void *arg)
{
	struct lines *s = arg;

	s->paused = false;
	if (s->src != NULL)
		loop_set_events(s->loop, s->src, EPOLLIN);
}

static void pause_reading(struct lines *s)
{
	s->paused = true;
	loop_set_events(s->loop, s->src, 0);
	loop_arm(s->loop, s->resume_timer, s->second_ms + 1000 - loop_now_ms(s->loop));
}

static void read_some(struct lines *s)
{
	char buf[4096];

	look_at_clock(s);
	for (int i = 0; i < READS_PER_TURN; i++) {
		ssize_t n = read(s->fd, buf, sizeof(buf));

		if (n > 0) {
			s->bytes_in_second += (size_t)n;
			take(s, buf, (size_t)n);
			continue;
		}
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			s->src = loop_remove(s->loop, s->src);
		return;
	}
}

/* Who pauses is told of the end all the same: then what is left in the pipe is read. */
static void on_readable(void *arg, uint32_t events)
{
	struct lines *s = arg;

	read_some(s);
	if (s->src != NULL && !s->paused && (events & EPOLLHUP) == 0 &&
	    s->bytes_in_second >= BYTES_PER_SECOND)
		pause_reading(s);
}

int lines_new(struct loop *l, int fd, const char *stream, struct lines **ret, struct err *err)
{
	struct lines *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		close(fd);
		return err_set(err, ERR_NOMEM, "output of the engine");
	}
	s->loop = l;
	s->fd = fd;
	s->stream = stream;
	s->second_ms = loop_now_ms(l);
	int rc = loop_add_fd(l, fd, EPOLLIN, on_readable, s, &s->src, err);
	if (rc == 0)
		rc = loop_add_timer(l, -1, 0, on_resume, s, &s->resume_timer, err);
	if (rc < 0) {
		lines_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

struct lines *lines_free(struct lines *s)
{
	if (s == NULL)
		return NULL;
	if (s->src != NULL)
		read_some(s);
	end_line(s);
	if (s->suppressed > 0)
		log_info("engine.output", KV("stream", s->stream), KV("suppressed", s->suppressed));
	loop_remove(s->loop, s->src);
	loop_remove(s->loop, s->resume_timer);
	close(s->fd);
	free(s);
	return NULL;
}
