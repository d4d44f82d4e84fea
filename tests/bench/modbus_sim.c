/* modbus_sim PORT DEVICES REGISTERS [CHANGING [INTERVAL_MS]]: Modbus TCP servers for measuring a
 * master, written from the standard (Modbus Application Protocol 1.1b3, Messaging on TCP/IP 1.0b)
 * and nothing of ours.
 *
 * Device n listens on PORT of 127.0.(1 + n/250).(1 + n%250), any unit id, and has so many holding
 * registers, which are its input registers, too. A share CHANGING of them (0 to 1; 0.1) counts up
 * each second. Each range that a connection reads is expected again every INTERVAL_MS (1000): an
 * interval without a read is missed, a read more than a tenth of an interval away from its time,
 * counted from the first one, is late.
 *
 * Lines of standard input: "reset" begins to count anew, "report" prints one line of JSON, its end
 * or SIGTERM ends the program.
 */
#include "common/daemon.h"
#include "common/loop.h"
#include "common/util.h"
#include "tests/bench/measure.h"
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define HEADER           7 /* transaction, protocol, length, unit */
#define ADU_MAX          260
#define READ_MAX         125 /* registers */
#define WRITE_MAX        123
#define SECOND_MS        1000
#define DESCRIPTORS_FREE 64

enum { READ_HOLDING = 3, READ_INPUT = 4, WRITE_ONE = 6, WRITE_SEVERAL = 16, EXCEPTION = 0x80 };
enum { ILLEGAL_FUNCTION = 1, ILLEGAL_ADDRESS = 2, ILLEGAL_VALUE = 3 };

/* A range that a connection reads again and again. */
struct poll {
	uint16_t start, count;
	uint64_t first_ns; /* 0: not read since the last reset */
	uint64_t slot;     /* interval of the last read, counted from the first */
};

struct device {
	struct sim *sim;
	int listen_fd;
	uint16_t *registers;
	bool polled; /* since the last reset */
};

struct connection {
	struct device *device;
	int fd;
	struct loop_src *src;
	uint8_t in[ADU_MAX];
	size_t len;
	struct poll *polls;
	size_t n_polls, cap_polls;
	struct connection *prev, *next;
};

struct sim {
	struct loop *loop;
	struct device *devices;
	struct connection *connections;
	unsigned long n_devices, n_registers, n_changing;
	double interval_ns;
	char line[64];
	size_t line_len;
	struct {
		uint64_t since_ns;
		unsigned long connected, broken, requests, registers, writes, exceptions, missed,
			late;
		double worst_ns; /* away from its time */
		struct latency *away;
	} seen;
};

static unsigned get16(const uint8_t *at)
{
	return (unsigned)at[0] << 8 | at[1];
}

static uint8_t *put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
	return at + 2;
}

/* ---- what is measured ---- */

static struct poll *find_poll(struct connection *c, unsigned start, unsigned count)
{
	for (size_t i = 0; i < c->n_polls; i++)
		if (c->polls[i].start == start && c->polls[i].count == count)
			return &c->polls[i];
	if (c->n_polls == c->cap_polls) {
		size_t cap = c->cap_polls != 0 ? 2 * c->cap_polls : 4;
		struct poll *more = reallocarray(c->polls, cap, sizeof(*more));
		if (more == NULL)
			return NULL;
		c->polls = more;
		c->cap_polls = cap;
	}
	struct poll *p = &c->polls[c->n_polls++];
	*p = (struct poll){.start = (uint16_t)start, .count = (uint16_t)count};
	return p;
}

static void note_read(struct connection *c, unsigned start, unsigned count)
{
	struct sim *s = c->device->sim;
	struct poll *p = find_poll(c, start, count);
	uint64_t now_ns = measure_now_ns();
	c->device->polled = true;
	s->seen.registers += count;
	if (p == NULL)
		return;
	if (p->first_ns == 0) {
		p->first_ns = now_ns;
		p->slot = 0;
		return;
	}
	double passed_ns = (double)(now_ns - p->first_ns);
	uint64_t slot = (uint64_t)(passed_ns / s->interval_ns + 0.5);
	double away_ns = fabs(passed_ns - (double)slot * s->interval_ns);
	if (slot > p->slot + 1)
		s->seen.missed += slot - p->slot - 1;
	if (away_ns > s->interval_ns / 10)
		s->seen.late++;
	if (away_ns > s->seen.worst_ns)
		s->seen.worst_ns = away_ns;
	latency_add(s->seen.away, (uint64_t)away_ns);
	p->slot = slot;
}

/* Ranges that should have been read by now and were not; those that are due just now are not
 * counted. */
static unsigned long overdue(const struct sim *s)
{
	uint64_t now_ns = measure_now_ns();
	unsigned long n = 0;
	for (const struct connection *c = s->connections; c != NULL; c = c->next)
		for (size_t i = 0; i < c->n_polls; i++) {
			const struct poll *p = &c->polls[i];
			double passed = (double)(now_ns - p->first_ns) / s->interval_ns - 0.5;
			if (p->first_ns != 0 && passed > (double)p->slot + 1)
				n += (unsigned long)passed - p->slot;
		}
	return n;
}

static void reset(struct sim *s)
{
	struct latency *away = latency_new();
	if (away == NULL)
		exit(EXIT_FAILURE);
	latency_free(s->seen.away);
	unsigned long connected = s->seen.connected;
	memset(&s->seen, 0, sizeof(s->seen));
	s->seen.connected = connected;
	s->seen.away = away;
	s->seen.since_ns = measure_now_ns();
	for (struct connection *c = s->connections; c != NULL; c = c->next)
		for (size_t i = 0; i < c->n_polls; i++)
			c->polls[i].first_ns = 0;
	for (unsigned long i = 0; i < s->n_devices; i++)
		s->devices[i].polled = false;
}

static void report(struct sim *s)
{
	unsigned long polled = 0;
	for (unsigned long i = 0; i < s->n_devices; i++)
		polled += s->devices[i].polled;
	printf("{\"seconds\": %.3f, \"connections\": %lu, \"broken\": %lu, \"polled\": %lu, "
	       "\"requests\": %lu, \"registers\": %lu, "
	       "\"writes\": %lu, \"exceptions\": %lu, \"missed\": %lu, \"late\": %lu, "
	       "\"away_p50_ms\": %.3f, \"away_p99_ms\": %.3f, "
	       "\"away_max_ms\": %.3f}\n",
	       (double)(measure_now_ns() - s->seen.since_ns) / 1e9, s->seen.connected,
	       s->seen.broken, polled, s->seen.requests, s->seen.registers, s->seen.writes,
	       s->seen.exceptions, s->seen.missed + overdue(s), s->seen.late,
	       latency_at_us(s->seen.away, 0.5) / 1e3, latency_at_us(s->seen.away, 0.99) / 1e3,
	       s->seen.worst_ns / 1e6);
	fflush(stdout);
}

/* ---- the protocol ---- */

static size_t refuse(struct sim *s, uint8_t *out, unsigned function, uint8_t code)
{
	s->seen.exceptions++;
	out[0] = (uint8_t)(function | EXCEPTION);
	out[1] = code;
	return 2;
}

static bool inside(const struct sim *s, unsigned start, unsigned count)
{
	return start + count <= s->n_registers;
}

static size_t read_registers(struct connection *c, const uint8_t *in, size_t len, uint8_t *out)
{
	struct sim *s = c->device->sim;
	unsigned start = get16(in + 1), count = get16(in + 3);
	if (len != 5 || count == 0 || count > READ_MAX)
		return refuse(s, out, in[0], ILLEGAL_VALUE);
	if (!inside(s, start, count))
		return refuse(s, out, in[0], ILLEGAL_ADDRESS);
	note_read(c, start, count);
	uint8_t *at = out;
	*at++ = in[0];
	*at++ = (uint8_t)(2 * count);
	for (unsigned i = 0; i < count; i++)
		at = put16(at, c->device->registers[start + i]);
	return (size_t)(at - out);
}

static size_t write_registers(struct connection *c, const uint8_t *in, size_t len, uint8_t *out)
{
	struct sim *s = c->device->sim;
	bool one = in[0] == WRITE_ONE;
	unsigned start = get16(in + 1), count = one ? 1 : get16(in + 3);
	size_t begin = one ? 3 : 6;
	if (count == 0 || count > WRITE_MAX || len != begin + 2 * (size_t)count)
		return refuse(s, out, in[0], ILLEGAL_VALUE);
	if (!inside(s, start, count))
		return refuse(s, out, in[0], ILLEGAL_ADDRESS);
	for (unsigned i = 0; i < count; i++)
		c->device->registers[start + i] = (uint16_t)get16(in + begin + 2 * (size_t)i);
	s->seen.writes++;
	memcpy(out, in, 5); /* both answer with the first five bytes */
	return 5;
}

static size_t answer(struct connection *c, const uint8_t *in, size_t len, uint8_t *out)
{
	static const struct {
		uint8_t function;
		size_t (*fn)(struct connection *c, const uint8_t *in, size_t len, uint8_t *out);
	} functions[] = {
		{READ_HOLDING, read_registers},
		{READ_INPUT, read_registers},
		{WRITE_ONE, write_registers},
		{WRITE_SEVERAL, write_registers},
	};
	struct sim *s = c->device->sim;
	s->seen.requests++;
	for (size_t i = 0; i < ARRAY_LEN(functions); i++)
		if (functions[i].function == in[0])
			return len < 5 ? refuse(s, out, in[0], ILLEGAL_VALUE)
				       : functions[i].fn(c, in, len, out);
	return refuse(s, out, in[0], ILLEGAL_FUNCTION);
}

/* ret: false: to be closed */
static bool take_requests(struct connection *c)
{
	for (;;) {
		uint8_t out[ADU_MAX];
		size_t length = c->len >= HEADER ? get16(c->in + 4) : 0;
		if (c->len >= HEADER &&
		    (get16(c->in + 2) != 0 || length < 2 || length + 6 > ADU_MAX))
			return false;
		if (c->len < HEADER || c->len < length + 6)
			return true;
		size_t n = answer(c, c->in + HEADER, length - 1, out + HEADER);
		memcpy(out, c->in, HEADER);
		put16(out + 4, (unsigned)n + 1);
		if (send(c->fd, out, HEADER + n, MSG_NOSIGNAL) != (ssize_t)(HEADER + n))
			return false; /* whoever does not read its answers */
		c->len -= length + 6;
		memmove(c->in, c->in + length + 6, c->len);
	}
}

/* ---- connections ---- */

static void drop(struct connection *c)
{
	struct sim *s = c->device->sim;
	s->seen.connected--;
	s->seen.broken++;
	loop_remove(s->loop, c->src);
	close(c->fd);
	if (c->prev != NULL)
		c->prev->next = c->next;
	else
		s->connections = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	free(c->polls);
	free(c);
}

static void on_readable(void *arg, uint32_t events)
{
	struct connection *c = arg;
	(void)events;
	ssize_t n = recv(c->fd, c->in + c->len, sizeof(c->in) - c->len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	c->len += n > 0 ? (size_t)n : 0;
	if (n <= 0 || !take_requests(c))
		drop(c);
}

static void on_connection(void *arg, uint32_t events)
{
	struct device *d = arg;
	struct sim *s = d->sim;
	int one = 1;
	(void)events;
	int fd = accept4(d->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct connection *c = fd >= 0 ? calloc(1, sizeof(*c)) : NULL;
	if (c == NULL || loop_add_fd(s->loop, fd, EPOLLIN, on_readable, c, &c->src, NULL) < 0) {
		free(c);
		closep(&fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->device = d;
	c->fd = fd;
	c->next = s->connections;
	if (c->next != NULL)
		c->next->prev = c;
	s->connections = c;
	s->seen.connected++;
}

static void change(void *arg)
{
	struct sim *s = arg;
	for (unsigned long i = 0; i < s->n_devices; i++)
		for (unsigned long k = 0; k < s->n_changing; k++)
			s->devices[i].registers[k]++;
}

/* ---- the whole ---- */

static void stop(void *arg)
{
	struct sim *s = arg;
	loop_quit(s->loop, 0);
}

static void on_command(void *arg, uint32_t events)
{
	struct sim *s = arg;
	(void)events;
	ssize_t n = read(STDIN_FILENO, s->line + s->line_len, sizeof(s->line) - 1 - s->line_len);
	if (n <= 0) {
		stop(s);
		return;
	}
	s->line_len += (size_t)n;
	s->line[s->line_len] = '\0';
	char *begin = s->line;
	for (char *end; (end = strchr(begin, '\n')) != NULL; begin = end + 1) {
		*end = '\0';
		if (strcmp(begin, "reset") == 0)
			reset(s);
		else if (strcmp(begin, "report") == 0)
			report(s);
	}
	s->line_len = strlen(begin);
	memmove(s->line, begin, s->line_len);
}

static int add_device(struct sim *s, unsigned long n, unsigned port, struct err *err)
{
	struct device *d = &s->devices[n];
	int one = 1;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	a.sin_addr.s_addr =
		htonl(0x7f000000u | (uint32_t)(1 + n / 250) << 8 | (uint32_t)(1 + n % 250));
	d->sim = s;
	d->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	d->registers = calloc(s->n_registers, sizeof(*d->registers));
	if (d->listen_fd < 0 || d->registers == NULL)
		return err_sys(err, "device %lu", n);
	for (unsigned long i = 0; i < s->n_registers; i++)
		d->registers[i] = (uint16_t)(n + i);
	setsockopt(d->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(d->listen_fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    listen(d->listen_fd, 16) < 0)
		return err_sys(err, "device %lu at port %u", n, port);
	return loop_add_fd(s->loop, d->listen_fd, EPOLLIN, on_connection, d, NULL, err);
}

static int start(struct sim *s, unsigned port, struct err *err)
{
	s->devices = calloc(s->n_devices, sizeof(*s->devices));
	if (s->devices == NULL)
		return err_set(err, ERR_NOMEM, "devices");
	daemon_raise_descriptors((unsigned)(2 * s->n_devices + DESCRIPTORS_FREE));
	int rc = loop_new(&s->loop, err);
	if (rc == 0)
		rc = loop_add_signal(s->loop, SIGTERM, stop, s, err);
	if (rc == 0)
		rc = loop_add_timer(s->loop, SECOND_MS, SECOND_MS, change, s, NULL, err);
	if (rc == 0)
		rc = loop_add_fd(s->loop, STDIN_FILENO, EPOLLIN, on_command, s, NULL, err);
	for (unsigned long i = 0; i < s->n_devices && rc == 0; i++)
		rc = add_device(s, i, port, err);
	return rc;
}

int main(int argc, char *argv[])
{
	struct sim s = {0};
	struct err err = {0};
	unsigned port = argc > 3 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
	double share = argc > 4 ? strtod(argv[4], NULL) : 0.1;
	double interval_ms = argc > 5 ? strtod(argv[5], NULL) : 1000;
	s.n_devices = argc > 3 ? strtoul(argv[2], NULL, 10) : 0;
	s.n_registers = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
	if (port == 0 || port > 65535 || s.n_devices == 0 || s.n_devices > 60000 ||
	    s.n_registers == 0 || s.n_registers > 65536 || share < 0 || share > 1 ||
	    interval_ms < 1) {
		fprintf(stderr,
			"usage: modbus_sim PORT DEVICES REGISTERS [CHANGING [INTERVAL_MS]]\n");
		return 2;
	}
	s.n_changing = (unsigned long)(share * (double)s.n_registers);
	s.interval_ns = interval_ms * 1e6;
	daemon_block_signals();
	int rc = start(&s, port, &err);
	if (rc == 0) {
		reset(&s);
		printf("ready\n");
		fflush(stdout);
		rc = loop_run(s.loop);
	} else {
		fprintf(stderr, "modbus_sim: %s\n", err.text);
	}
	while (s.connections != NULL)
		drop(s.connections);
	for (unsigned long i = 0; s.devices != NULL && i < s.n_devices; i++) {
		closep(&s.devices[i].listen_fd);
		free(s.devices[i].registers);
	}
	loop_free(s.loop);
	latency_free(s.seen.away);
	free(s.devices);
	return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
