/* http_load - registers new devices as fast as the server answers, over connections that are kept
 * open.
 *
 * http_load -p PORT [-c CONNECTIONS] [-r RATE] [-d SECONDS] [-n COUNT] [-x] [-C PID]
 *
 * Each connection sends the next PUT when the last one is answered; with -r the requests of all
 * connections together keep that rate, and latency counts from the time a request was due. -n ends
 * it after so many. With -x what was registered is deregistered afterwards, which is not measured:
 * the server has as many as before. Prints one line of JSON.
 */
#include "common/id.h"
#include "common/util.h"
#include "tests/bench/measure.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define CONNECTIONS_MAX 256
#define ANSWER_BYTES    8192
#define REQUEST_BYTES   1024
#define WAIT_MAX_NS     1000000
#define SILENCE_NS      10000000000u /* an answer later than this is a failure */

static const char body[] = "{\"accept_protos\":[\"mqtt\"],\"profile\":{\"model\":\"Bench\"},"
			   "\"idf_list\":[[\"meow\",[\"dB\"]]],\"odf_list\":[[\"meow\",[\"dB\"]]]}";

struct connection {
	int fd;
	bool waiting;        /* for an answer */
	struct uuid_text id; /* of the request under way */
	uint64_t since_ns;
	char answer[ANSWER_BYTES];
	size_t len;
};

/* What was registered, and the revision that its deregistration needs. */
struct registered {
	struct uuid_text id, rev;
};

struct http_load {
	unsigned port, n;
	uint64_t count_max; /* 0: no limit */
	bool undo;
	struct registered *registered;
	size_t n_registered, room;
	double rate, duration_s;
	int pid;
	int epoll_fd;
	struct connection *connections;
	struct latency *latency;
	uint64_t sent, answered, refused, due_ns, step_ns;
	struct err err;
};

static int open_connection(struct http_load *l, struct connection *c)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)l->port)};
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
	int one = 1;
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
	    fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0 ||
	    epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, c->fd, &ev) < 0)
		return err_sys(&l->err, "connecting to 127.0.0.1:%u", l->port);
	return 0;
}

static int send_request(struct http_load *l, struct connection *c, const char *method,
			const char *text, uint64_t since_ns)
{
	char request[REQUEST_BYTES];
	int len = snprintf(
		request, sizeof(request),
		"%s /%s HTTP/1.1\r\nHost: localhost:%u\r\nContent-Type: application/json\r\n"
		"Content-Length: %zu\r\n\r\n%s",
		method, c->id.s, l->port, strlen(text), text);
	c->waiting = true;
	c->since_ns = since_ns;
	/* far smaller than a socket buffer that is empty: the last request was answered */
	if (send(c->fd, request, (size_t)len, MSG_NOSIGNAL) != len)
		return err_sys(&l->err, "sending a request");
	return 0;
}

/* Bytes of a complete answer at the start of text, or 0. */
static size_t answer_bytes(const char *text)
{
	const char *end = strstr(text, "\r\n\r\n");
	const char *field = strcasestr(text, "\r\nContent-Length:");
	if (end == NULL || field == NULL || field > end)
		return 0;
	return (size_t)(end + 4 - text) + strtoul(field + strlen("\r\nContent-Length:"), NULL, 10);
}

/* Keep what an answer says about its device. */
static int remember(struct http_load *l, const struct connection *c)
{
	static const char field[] = "\"rev\":\"";
	const char *rev = strstr(c->answer, field);
	if (rev == NULL)
		return err_set(&l->err, ERR_PEER, "an answer without a rev");
	if (l->n_registered == l->room) {
		size_t room = l->room == 0 ? 1024 : l->room * 2;
		struct registered *more = realloc(l->registered, room * sizeof(*more));
		if (more == NULL)
			return err_set(&l->err, ERR_NOMEM, "devices");
		l->registered = more;
		l->room = room;
	}
	struct registered *r = &l->registered[l->n_registered++];
	*r = (struct registered){.id = c->id};
	snprintf(r->rev.s, sizeof(r->rev.s), "%.*s", UUID_LEN, rev + sizeof(field) - 1);
	return 0;
}

static int read_answer(struct http_load *l, struct connection *c)
{
	ssize_t n = recv(c->fd, c->answer + c->len, sizeof(c->answer) - 1 - c->len, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return err_set(&l->err, ERR_PEER, "the server closed a connection");
	c->len += (size_t)n;
	c->answer[c->len] = '\0';
	size_t bytes = answer_bytes(c->answer);
	if (bytes == 0 || bytes > c->len)
		return c->len < sizeof(c->answer) - 1
			       ? 0
			       : err_set(&l->err, ERR_PEER, "an answer is too long");
	bool is_ok = strncmp(c->answer, "HTTP/1.1 200", 12) == 0;
	int rc = is_ok && l->undo ? remember(l, c) : 0;
	if (is_ok)
		l->answered++;
	else
		l->refused++;
	latency_add(l->latency, measure_now_ns() - c->since_ns);
	c->len = 0;
	c->waiting = false;
	return rc;
}

static int send_due(struct http_load *l, uint64_t now)
{
	for (unsigned i = 0; i < l->n; i++) {
		struct connection *c = &l->connections[i];
		if (c->waiting && now > c->since_ns && now - c->since_ns > SILENCE_NS)
			return err_set(&l->err, ERR_TIMEOUT, "a request is not answered");
		if (c->waiting || (l->step_ns != 0 && l->due_ns > now) ||
		    (l->count_max != 0 && l->sent >= l->count_max))
			continue;
		c->id = uuid4();
		l->sent++;
		int rc = send_request(l, c, "PUT", body, l->step_ns != 0 ? l->due_ns : now);
		if (rc < 0)
			return rc;
		l->due_ns += l->step_ns;
	}
	return 0;
}

static int run(struct http_load *l, double *ret_s)
{
	struct epoll_event events[CONNECTIONS_MAX];
	uint64_t start = measure_now_ns(), now = start,
		 end = start + (uint64_t)(l->duration_s * 1e9);
	l->due_ns = start;
	l->step_ns = l->rate > 0 ? (uint64_t)(1e9 / l->rate) : 0;
	for (; now < end && (l->count_max == 0 || l->answered + l->refused < l->count_max);
	     now = measure_now_ns()) {
		struct timespec wait = {.tv_nsec = WAIT_MAX_NS};
		int rc = send_due(l, now);
		if (rc < 0)
			return rc;
		/* what is due and was not sent waits for a connection, and an answer wakes us */
		if (l->due_ns > now && l->due_ns < now + WAIT_MAX_NS)
			wait.tv_nsec = (long)(l->due_ns - now);
		int n = epoll_pwait2(l->epoll_fd, events, CONNECTIONS_MAX, &wait, NULL);
		if (n < 0 && errno != EINTR)
			return err_sys(&l->err, "epoll");
		for (int i = 0; i < n; i++) {
			rc = read_answer(l, events[i].data.ptr);
			if (rc < 0)
				return rc;
		}
	}
	*ret_s = (double)(now - start) / 1e9;
	return 0;
}

/* Wait until connection c, of those that wait, has its answer. */
static int await_answer(struct http_load *l, struct connection *c)
{
	while (c->waiting) {
		struct epoll_event event;
		int n = epoll_wait(l->epoll_fd, &event, 1, (int)(SILENCE_NS / 1000000));
		if (n < 0 && errno != EINTR)
			return err_sys(&l->err, "epoll");
		if (n == 0)
			return err_set(&l->err, ERR_TIMEOUT, "a request is not answered");
		int rc = n > 0 ? read_answer(l, event.data.ptr) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Deregister what run() registered, as many at a time as there are connections. */
static int undo(struct http_load *l)
{
	int rc = 0;
	for (unsigned i = 0; i < l->n && rc == 0; i++)
		rc = await_answer(l, &l->connections[i]); /* the last ones of run() */
	l->undo = false;
	l->refused = 0;
	for (size_t k = 0; k < l->n_registered && rc == 0; k++) {
		struct connection *c = &l->connections[k % l->n];
		char text[80];
		snprintf(text, sizeof(text), "{\"rev\":\"%s\"}", l->registered[k].rev.s);
		rc = await_answer(l, c);
		c->id = l->registered[k].id;
		if (rc == 0)
			rc = send_request(l, c, "DELETE", text, measure_now_ns());
	}
	for (unsigned i = 0; i < l->n && rc == 0; i++)
		rc = await_answer(l, &l->connections[i]);
	if (rc == 0 && l->refused > 0)
		rc = err_set(&l->err, ERR_PEER, "%llu deregistrations were refused",
			     (unsigned long long)l->refused);
	return rc;
}

static int prepare(struct http_load *l)
{
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	l->connections = calloc(l->n, sizeof(*l->connections));
	l->latency = latency_new();
	if (l->epoll_fd < 0 || l->connections == NULL || l->latency == NULL)
		return err_sys(&l->err, "starting");
	for (unsigned i = 0; i < l->n; i++)
		l->connections[i].fd = -1;
	for (unsigned i = 0; i < l->n; i++) {
		int rc = open_connection(l, &l->connections[i]);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int read_options(struct http_load *l, int argc, char *argv[])
{
	int option;
	while ((option = getopt(argc, argv, "p:c:r:d:n:xC:")) >= 0) {
		switch (option) {
		case 'p':
			l->port = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'c':
			l->n = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'r':
			l->rate = strtod(optarg, NULL);
			break;
		case 'd':
			l->duration_s = strtod(optarg, NULL);
			break;
		case 'n':
			l->count_max = strtoull(optarg, NULL, 10);
			break;
		case 'x':
			l->undo = true;
			break;
		case 'C':
			l->pid = (int)strtol(optarg, NULL, 10);
			break;
		default:
			l->port = 0;
		}
	}
	bool usable = l->port > 0 && l->port < 65536 && l->n > 0 && l->n <= CONNECTIONS_MAX &&
		      l->duration_s > 0;
	return usable ? 0
		      : err_set(&l->err, ERR_INVAL,
				"usage: see the head of tests/bench/http_load.c");
}

int main(int argc, char *argv[])
{
	struct http_load l = {.n = 1, .duration_s = 2, .epoll_fd = -1};
	double seconds = 0, cpu_s = 0;
	int rc = read_options(&l, argc, argv);
	if (rc == 0)
		rc = prepare(&l);
	if (rc == 0) {
		cpu_s = -measure_cpu_s(l.pid);
		rc = run(&l, &seconds);
		cpu_s += measure_cpu_s(l.pid);
	}
	const uint64_t answered = l.answered, refused = l.refused;
	const double p50_us = rc == 0 ? latency_at_us(l.latency, 0.5) : 0,
		     p99_us = rc == 0 ? latency_at_us(l.latency, 0.99) : 0,
		     max_us = rc == 0 ? latency_at_us(l.latency, 1) : 0;
	if (rc == 0 && l.undo)
		rc = undo(&l);
	if (rc == 0)
		printf("{\"requests_s\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,"
		       "\"refused\":%llu,"
		       "\"cpu_us\":%.1f}\n",
		       (double)answered / seconds, p50_us, p99_us, max_us,
		       (unsigned long long)refused,
		       answered > 0 ? cpu_s * 1e6 / (double)answered : 0);
	else
		fprintf(stderr, "http_load: %s\n", l.err.text);
	for (unsigned i = 0; l.connections != NULL && i < l.n; i++)
		closep(&l.connections[i].fd);
	free(l.connections);
	free(l.registered);
	latency_free(l.latency);
	closep(&l.epoll_fd);
	return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
