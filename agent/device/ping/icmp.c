#include "agent/device/ping/icmp.h"
#include "common/clock.h"
#include "common/util.h"
#include <linux/icmp.h>
#include <netinet/icmp6.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define BUCKETS      1024 /* of requests under way, by number */
#define SEND_AT_ONCE 64   /* requests of one turn: their answers fit into the socket */
#define READ_AT_ONCE 256  /* packets of one turn */
#define JAM_PAUSE_MS 10
#define PACKET_MAX   1500
#define BUFFER_BYTES (1 << 20)

struct side {
	struct icmp *icmp;
	int family, fd; /* fd -1: the system has no such family */
	bool raw;
	struct loop_src *src;
};

struct icmp {
	struct loop *loop;
	struct side sides[2];
	uint8_t token[ICMP_TOKEN_LEN];
	uint16_t id; /* of raw sockets; the kernel has its own for the others */
	uint64_t number;
	struct icmp_echo *buckets[BUCKETS];         /* sent */
	struct icmp_echo *first_waiting, **waiting; /* to be sent, in order; where the next goes */
	struct loop_src *send_timer;
	uint64_t sent, answered, strange;
};

struct icmp_echo {
	struct icmp *icmp;
	struct icmp_echo *next;
	enum { WAITS, SENT, OVER } state;
	struct sockaddr_storage to;
	socklen_t to_len;
	uint64_t number;
	int64_t sent_us;
	unsigned timeout_ms;
	struct loop_src *timer;
	icmp_fn *fn;
	void *arg;
};

/* ---- requests under way ---- */

static struct icmp_echo **place_of(struct icmp *c, uint64_t number)
{
	struct icmp_echo **at = &c->buckets[number % BUCKETS];

	while (*at != NULL && (*at)->number != number)
		at = &(*at)->next;
	return at;
}

static void unlink_echo(struct icmp_echo *e)
{
	struct icmp *c = e->icmp;
	struct icmp_echo **at = &c->first_waiting;

	if (e->state == SENT) {
		at = place_of(c, e->number);
	} else if (e->state == WAITS) {
		while (*at != e)
			at = &(*at)->next;
		if (e->next == NULL)
			c->waiting = at;
	} else {
		return;
	}
	*at = e->next;
	e->next = NULL;
	e->state = OVER;
}

static void finish(struct icmp_echo *e, int rc, int64_t round_trip_us, const char *why)
{
	unlink_echo(e);
	loop_arm(e->icmp->loop, e->timer, -1);
	e->fn(e->arg, rc, round_trip_us, why); /* e may be gone */
}

/* ---- sending ---- */

static struct side *side_of(struct icmp *c, int family)
{
	for (size_t i = 0; i < ARRAY_LEN(c->sides); i++)
		if (c->sides[i].family == family && c->sides[i].fd >= 0)
			return &c->sides[i];
	return NULL;
}

/* ret: false if the socket takes nothing now. */
static bool send_one(struct icmp *c, struct icmp_echo *e)
{
	const struct side *s = side_of(c, e->to.ss_family);
	struct icmp_message m = {.id = c->id, .number = e->number};
	uint8_t packet[ICMP_ECHO_LEN];

	if (s == NULL) {
		finish(e, ERR_SYS, 0, "the system has no such address family");
		return true;
	}
	memcpy(m.token, c->token, sizeof(m.token));
	icmp_request_format(s->family, &m, packet);
	e->sent_us = monotonic_us();
	ssize_t n = sendto(s->fd, packet, sizeof(packet), 0, (const struct sockaddr *)&e->to,
			   e->to_len);
	if (n < 0 && (errno == EAGAIN || errno == ENOBUFS))
		return false;
	if (n < 0) {
		finish(e, ERR_SYS, 0, strerrordesc_np(errno));
		return true;
	}
	unlink_echo(e);
	e->state = SENT;
	e->next = c->buckets[e->number % BUCKETS];
	c->buckets[e->number % BUCKETS] = e;
	c->sent++;
	loop_arm(c->loop, e->timer, e->timeout_ms);
	return true;
}

static void on_send(void *arg)
{
	struct icmp *c = arg;
	int64_t pause_ms = 0;

	for (unsigned i = 0; i < SEND_AT_ONCE && c->first_waiting != NULL && pause_ms == 0; i++)
		if (!send_one(c, c->first_waiting))
			pause_ms = JAM_PAUSE_MS;
	if (c->first_waiting != NULL)
		loop_arm(c->loop, c->send_timer, pause_ms);
}

/* ---- answers ---- */

static void take_packet(const struct side *s, const uint8_t *bytes, size_t n)
{
	struct icmp *c = s->icmp;
	struct icmp_message m;
	struct icmp_echo *e = NULL;

	if (icmp_reply_parse(s->family, s->raw && s->family == AF_INET, bytes, n, &m, NULL) == 0 &&
	    (!s->raw || m.id == c->id) && memcmp(m.token, c->token, sizeof(m.token)) == 0)
		e = *place_of(c, m.number);
	if (e == NULL) {
		c->strange++;
		return;
	}
	c->answered++;
	finish(e, 0, monotonic_us() - e->sent_us, NULL);
}

static void on_readable(void *arg, uint32_t events)
{
	const struct side *s = arg;
	uint8_t packet[PACKET_MAX];

	(void)events;
	for (unsigned i = 0; i < READ_AT_ONCE; i++) {
		ssize_t n = recv(s->fd, packet, sizeof(packet), MSG_TRUNC);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n > (ssize_t)sizeof(packet))
			s->icmp->strange++;
		else if (n >= 0)
			take_packet(s, packet, (size_t)n);
	}
}

/* Timers come before descriptors: when we were held up, the answer may be there and nobody has
 * looked. */
static void on_timeout(void *arg)
{
	struct icmp_echo *e = arg;
	struct icmp *c = e->icmp;
	uint64_t number = e->number;

	on_readable(side_of(c, e->to.ss_family), EPOLLIN);
	e = *place_of(c, number); /* it may be over, and gone */
	if (e != NULL)
		finish(e, ERR_TIMEOUT, 0, "no answer");
}

/* ---- sockets ---- */

/* A raw socket sees what the whole machine gets: let the kernel keep back what is no reply. Without
 * it we only have more to look at. */
static void filter_replies(const struct side *s)
{
	if (s->family == AF_INET) {
		struct icmp_filter f = {.data = ~(1U << ICMP_ECHOREPLY)};

		(void)setsockopt(s->fd, SOL_RAW, ICMP_FILTER, &f, sizeof(f));
	} else {
		struct icmp6_filter f;

		ICMP6_FILTER_SETBLOCKALL(&f);
		ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &f);
		(void)setsockopt(s->fd, IPPROTO_ICMPV6, ICMP6_FILTER, &f, sizeof(f));
	}
}

static int open_side(struct side *s, struct err *err)
{
	static const int types[] = {SOCK_DGRAM, SOCK_RAW};
	const int protocol = s->family == AF_INET6 ? (int)IPPROTO_ICMPV6 : (int)IPPROTO_ICMP;
	const int size = BUFFER_BYTES;

	for (size_t i = 0; i < ARRAY_LEN(types) && s->fd < 0; i++) {
		s->fd = socket(s->family, types[i] | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
		s->raw = types[i] == SOCK_RAW;
		if (s->fd < 0 && errno == EAFNOSUPPORT)
			return 0;
	}
	if (s->fd < 0 && (errno == EPERM || errno == EACCES))
		return err_set(err, ERR_ACCES,
			       "neither datagram ICMP sockets nor raw ones (CAP_NET_RAW) are "
			       "allowed: sysctl -w 'net.ipv4.ping_group_range=0 2147483647' allows "
			       "the former to all");
	if (s->fd < 0)
		return err_sys(err, "ICMP socket");
	if (s->raw)
		filter_replies(s);
	/* As much as the system allows: more answers may come at once, and requests wait inside
	 * while the neighbours that they are for do not answer. */
	(void)setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	(void)setsockopt(s->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return loop_add_fd(s->icmp->loop, s->fd, EPOLLIN, on_readable, s, &s->src, err);
}

int icmp_new(struct loop *l, struct icmp **ret, struct err *err)
{
	static const int families[] = {AF_INET, AF_INET6};
	struct icmp *c = calloc(1, sizeof(*c));
	int rc = 0;

	if (c == NULL || sodium_init() < 0) {
		free(c);
		return err_set(err, ERR_NOMEM, "ICMP");
	}
	c->loop = l;
	c->waiting = &c->first_waiting;
	randombytes_buf(c->token, sizeof(c->token));
	randombytes_buf(&c->id, sizeof(c->id));
	for (size_t i = 0; i < ARRAY_LEN(families); i++)
		c->sides[i] = (struct side){.icmp = c, .family = families[i], .fd = -1};
	for (size_t i = 0; i < ARRAY_LEN(families) && rc == 0; i++)
		rc = open_side(&c->sides[i], err);
	if (rc == 0 && c->sides[0].fd < 0 && c->sides[1].fd < 0)
		rc = err_set(err, ERR_SYS, "the system has neither IPv4 nor IPv6");
	if (rc == 0)
		rc = loop_add_timer(l, -1, 0, on_send, c, &c->send_timer, err);
	if (rc < 0) {
		icmp_free(c);
		return rc;
	}
	*ret = c;
	return 0;
}

struct icmp *icmp_free(struct icmp *c)
{
	if (c == NULL)
		return NULL;
	loop_remove(c->loop, c->send_timer);
	for (size_t i = 0; i < ARRAY_LEN(c->sides); i++) {
		loop_remove(c->loop, c->sides[i].src);
		closep(&c->sides[i].fd);
	}
	free(c);
	return NULL;
}

void icmp_get_stats(const struct icmp *c, struct icmp_stats *ret)
{
	*ret = (struct icmp_stats){.sent = c->sent,
				   .answered = c->answered,
				   .strange = c->strange,
				   .raw = c->sides[0].raw || c->sides[1].raw,
				   .has_v4 = c->sides[0].fd >= 0,
				   .has_v6 = c->sides[1].fd >= 0};
}

/* ---- for the caller ---- */

int icmp_echo_new(struct icmp *c, const struct sockaddr *to, socklen_t len, unsigned timeout_ms,
		  icmp_fn *fn, void *arg, struct icmp_echo **ret, struct err *err)
{
	struct icmp_echo *e = calloc(1, sizeof(*e));

	if (e == NULL || len > sizeof(e->to)) {
		free(e);
		return err_set(err, ERR_NOMEM, "ICMP echo");
	}
	*e = (struct icmp_echo){.icmp = c,
				.to_len = len,
				.number = ++c->number,
				.timeout_ms = timeout_ms,
				.fn = fn,
				.arg = arg};
	memcpy(&e->to, to, len);
	int rc = loop_add_timer(c->loop, -1, 0, on_timeout, e, &e->timer, err);
	if (rc < 0) {
		free(e);
		return rc;
	}
	if (c->first_waiting == NULL)
		loop_arm(c->loop, c->send_timer, 0);
	*c->waiting = e;
	c->waiting = &e->next;
	*ret = e;
	return 0;
}

struct icmp_echo *icmp_echo_free(struct icmp_echo *e)
{
	if (e == NULL)
		return NULL;
	unlink_echo(e);
	loop_remove(e->icmp->loop, e->timer);
	free(e);
	return NULL;
}
