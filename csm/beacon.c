#include "csm/beacon.h"

#include "common/id.h"
#include "common/log.h"
#include "common/util.h"
#include "csm/beacon_wire.h"
#include "csm/metrics.h"
#include "csm/store.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define BATCH	       32 /* datagrams of one turn */
#define SOURCES	       64
#define SOURCE_ANSWERS 2  /* a second to one address */
#define ALL_ANSWERS    50 /* a second */

/* Answers of one second: to the addresses that fall together here, or to all. */
struct budget {
	int64_t second;
	unsigned used;
};

struct beacon {
	struct csm *csm;
	int fd;
	struct loop_src *src, *timer;
	struct sockaddr_in everybody;
	uint8_t id[BEACON_ID_BYTES];
	struct budget all, sources[SOURCES];
};

static void drop(struct beacon *b, const char *reason)
{
	metrics_drop(b->csm->metrics, "beacon", reason);
}

static void transmit(struct beacon *b, const struct beacon_datagram *d, const struct sockaddr_in *to)
{
	uint8_t data[BEACON_BYTES_MAX];
	char address[INET_ADDRSTRLEN];
	size_t len = beacon_format(d, data);
	if (sendto(b->fd, data, len, MSG_DONTWAIT, (const struct sockaddr *)to, sizeof(*to)) == (ssize_t)len)
		return;
	/* no network now, or no room: the next one is soon */
	const char *why = strerror(errno);
	drop(b, "not_sent");
	inet_ntop(AF_INET, &to->sin_addr, address, sizeof(address));
	if (log_allowed("beacon.not_sent", address))
		log_warn("beacon.not_sent", KV("to", address), KV("why", why));
}

static void say_hello(void *arg)
{
	struct beacon *b = arg;
	struct beacon_datagram d = {.verb = BEACON_HELO};
	memcpy(d.from, b->id, sizeof(d.from));
	transmit(b, &d, &b->everybody);
}

static bool has_room(const struct budget *budget, int64_t second, unsigned limit)
{
	return budget->second != second || budget->used < limit;
}

static void use(struct budget *budget, int64_t second)
{
	if (budget->second != second)
		*budget = (struct budget){.second = second};
	budget->used++;
}

static bool may_answer(struct beacon *b, const struct sockaddr_in *to)
{
	/* seconds begin at 1: an unused budget has none */
	int64_t second = loop_now_ms(b->csm->loop) / 1000 + 1;
	struct budget *source = &b->sources[(ntohl(to->sin_addr.s_addr) * 2654435761u) % SOURCES];
	if (!has_room(&b->all, second, ALL_ANSWERS) || !has_room(source, second, SOURCE_ANSWERS))
		return false;
	use(&b->all, second);
	use(source, second);
	return true;
}

static void on_datagram(struct beacon *b, const uint8_t *data, size_t len, const struct sockaddr_in *from)
{
	struct beacon_datagram d;
	if (beacon_parse(data, len, &d) < 0) {
		drop(b, "malformed");
		return;
	}
	/* of others we want to know nothing but that they ask; our own come back from the network */
	if (d.verb != BEACON_PING || memcmp(d.from, b->id, sizeof(b->id)) == 0 ||
	    (d.has_to && memcmp(d.to, b->id, sizeof(b->id)) != 0))
		return;
	if (!may_answer(b, from)) {
		drop(b, "rate");
		return;
	}
	struct beacon_datagram answer = {.verb = BEACON_PONG, .has_to = true};
	memcpy(answer.from, b->id, sizeof(answer.from));
	memcpy(answer.to, d.from, sizeof(answer.to));
	transmit(b, &answer, from);
}

static void on_readable(void *arg, uint32_t events)
{
	struct beacon *b = arg;
	uint8_t data[BEACON_BYTES_MAX + 1]; /* one that is longer is cut to a length that none has */
	(void)events;
	for (unsigned i = 0; i < BATCH; i++) {
		struct sockaddr_in from = {0};
		socklen_t from_len = sizeof(from);
		ssize_t n = recvfrom(b->fd, data, sizeof(data), MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
		if (n < 0)
			return;
		if (from_len == sizeof(from) && from.sin_family == AF_INET)
			on_datagram(b, data, (size_t)n, &from);
	}
}

static int listen_on(const struct settings *s, int *ret_fd, struct err *err)
{
	const struct sockaddr_in any = {.sin_family = AF_INET,
					.sin_port = htons((uint16_t)s->core.beacon_port),
					.sin_addr = {.s_addr = htonl(INADDR_ANY)}};
	static const int on = 1;
	CLEANUP(closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* shared, as the port's other users (SSDP) do */
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0)
		return err_sys(err, "beacon: UDP port %d (core.beacon-port)", (int)s->core.beacon_port);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int start(struct beacon *b, struct err *err)
{
	const struct settings *s = b->csm->settings;
	char id[UUID_LEN + 1];
	int rc = store_keep(b->csm->store, "server_id", uuid4().s, id, sizeof(id), err);
	if (rc == 0 && beacon_id(id, b->id) < 0)
		rc = err_set(err, ERR_DB, "store: the server's id '%s' is no UUID", id);
	if (rc < 0 || (rc = listen_on(s, &b->fd, err)) < 0)
		return rc;
	b->everybody = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)s->core.beacon_port)};
	if (inet_pton(AF_INET, s->core.beacon_address, &b->everybody.sin_addr) != 1)
		b->everybody.sin_addr.s_addr = htonl(INADDR_BROADCAST); /* it is empty: settings are checked */
	rc = loop_add_fd(b->csm->loop, b->fd, EPOLLIN, on_readable, b, &b->src, err);
	return rc < 0 ? rc
		      : loop_add_timer(b->csm->loop, 0, s->core.beacon_interval_ms, say_hello, b, &b->timer, err);
}

int beacon_start(struct csm *csm, struct beacon **ret, struct err *err)
{
	*ret = NULL;
	if (!csm->settings->core.beacon)
		return 0;
	struct beacon *b = calloc(1, sizeof(*b));
	if (b == NULL)
		return err_set(err, ERR_NOMEM, "beacon");
	b->csm = csm;
	b->fd = -1;
	int rc = start(b, err);
	if (rc < 0) {
		beacon_stop(b);
		return rc;
	}
	*ret = b;
	return 0;
}

struct beacon *beacon_stop(struct beacon *b)
{
	if (b == NULL)
		return NULL;
	loop_remove(b->csm->loop, b->src);
	loop_remove(b->csm->loop, b->timer);
	closep(&b->fd);
	free(b);
	return NULL;
}
