/* mqtt.c - a few packets of MQTT 3.1.1 over a blocking socket. */
#include "iotctl/mqtt.h"
#include "common/util.h"
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#define PACKET_MAX_BYTES (4 * 1024 * 1024) /* no broker has reason to send us more here */
#define KEEPALIVE_S      60

struct mqtt {
	int fd;
	int64_t deadline_ms;
	uint8_t *body;
	size_t body_cap;
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int wait_for(int fd, short events, int64_t deadline_ms)
{
	for (;;) {
		struct pollfd p = {.fd = fd, .events = events};
		int64_t left = deadline_ms - now_ms();
		int n = poll(&p, 1, left > 0 ? (int)left : 0);

		if (n > 0)
			return 0;
		if (n == 0)
			return ERR_TIMEOUT;
		if (errno != EINTR)
			return -errno;
	}
}

static int connect_one(const struct addrinfo *a, int64_t deadline_ms)
{
	CLEANUP(closep)
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, failed = 0;
	socklen_t len = sizeof(failed);

	if (fd < 0)
		return -errno;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
		if (errno != EINPROGRESS)
			return -errno;
		int rc = wait_for(fd, POLLOUT, deadline_ms);

		if (rc < 0)
			return rc;
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &len) < 0 || failed != 0)
			return failed != 0 ? -failed : -errno;
	}
	return TAKE_FD(fd);
}

static int resolve(const char *host, unsigned port, struct addrinfo **ret, struct err *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	char service[16];

	snprintf(service, sizeof(service), "%u", port);
	int rc = getaddrinfo(host, service, &hints, ret);

	if (rc != 0)
		return err_set(err, ERR_NOENT, "host '%s': %s", host, gai_strerror(rc));
	return 0;
}

/* Try every address of the host. ret: a non-blocking socket */
static int connect_host(const char *host, unsigned port, int64_t deadline_ms, struct err *err)
{
	struct addrinfo *all = NULL;
	int rc = resolve(host, port, &all, err);

	if (rc < 0)
		return rc;
	rc = ERR_NOENT;
	for (const struct addrinfo *a = all; a != NULL && rc < 0; a = a->ai_next)
		rc = connect_one(a, deadline_ms);
	freeaddrinfo(all);
	if (rc == ERR_TIMEOUT)
		return err_set(err, rc, "no answer from %s port %u", host, port);
	if (rc < 0)
		return err_set(err, ERR_NOENT, "nothing answers at %s port %u (%s)", host, port,
			       strerror(-rc));
	return rc;
}

bool host_is_local(const char *host)
{
	struct addrinfo *all = NULL;
	bool local = true;

	if (resolve(host, 0, &all, NULL) < 0)
		return false;
	/* Only addresses of this machine can be bound. */
	for (const struct addrinfo *a = all; a != NULL && local; a = a->ai_next) {
		CLEANUP(closep)
		int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd >= 0 && bind(fd, a->ai_addr, a->ai_addrlen) < 0)
			local = a->ai_family == AF_INET6 && a->ai_next != NULL; /* no IPv6 here */
	}
	freeaddrinfo(all);
	return local;
}

int mqtt_open(const char *host, unsigned port, int timeout_ms, struct mqtt **ret, struct err *err)
{
	struct mqtt *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return err_set(err, ERR_NOMEM, "connection");
	m->deadline_ms = now_ms() + timeout_ms;
	m->fd = connect_host(host, port, m->deadline_ms, err);
	if (m->fd < 0) {
		int rc = m->fd;

		free(m);
		return rc;
	}
	*ret = m;
	return 0;
}

struct mqtt *mqtt_close(struct mqtt *m)
{
	if (m != NULL) {
		close(m->fd);
		free(m->body);
		free(m);
	}
	return NULL;
}

static int send_all(int fd, const void *data, size_t len, bool more, int64_t deadline_ms,
		    struct err *err)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL | (more ? MSG_MORE : 0));

		if (n >= 0) {
			p += n;
			len -= (size_t)n;
		} else if (errno == EAGAIN) {
			if (wait_for(fd, POLLOUT, deadline_ms) < 0)
				return err_set(err, ERR_TIMEOUT, "it does not read what is sent");
		} else if (errno != EINTR) {
			return err_set(err, ERR_PEER, "it closed the connection");
		}
	}
	return 0;
}

static int receive_all(struct mqtt *m, void *data, size_t len, int64_t deadline_ms, struct err *err)
{
	char *p = data;

	while (len > 0) {
		ssize_t n = recv(m->fd, p, len, 0);

		if (n > 0) {
			p += n;
			len -= (size_t)n;
		} else if (n < 0 && errno == EAGAIN) {
			if (wait_for(m->fd, POLLIN, deadline_ms) < 0)
				return err_set(err, ERR_TIMEOUT, "no answer in time");
		} else if (n == 0 || errno != EINTR) {
			return err_set(err, ERR_PEER, "it closed the connection");
		}
	}
	return 0;
}

/* ---- packets ---- */

/* Send a packet of head (variable header) and payload. */
static int send_packet(struct mqtt *m, uint8_t first, const void *head, size_t head_len,
		       const void *payload, size_t len, struct err *err)
{
	uint8_t start[5] = {first};
	size_t n = 1, left = head_len + len;

	do {
		start[n++] = (uint8_t)(left % 128 | (left >= 128 ? 128 : 0));
		left /= 128;
	} while (left > 0);
	/* one segment, if it fits: some peers do not wait for the rest of a packet */
	int rc = send_all(m->fd, start, n, head_len + len > 0, m->deadline_ms, err);

	if (rc == 0)
		rc = send_all(m->fd, head, head_len, len > 0, m->deadline_ms, err);
	return rc < 0 ? rc : send_all(m->fd, payload, len, false, m->deadline_ms, err);
}

static size_t put_u16(uint8_t *at, size_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
	return 2;
}

static size_t put_text(uint8_t *at, const char *text)
{
	size_t len = strlen(text);

	put_u16(at, len);
	for (size_t i = 0; i < len; i++) /* length before, no NUL behind */
		at[2 + i] = (uint8_t)text[i];
	return 2 + len;
}

#define TEXT_MAX 200 /* client ids and topics, ours all shorter */

int mqtt_read(struct mqtt *m, int wait_ms, struct mqtt_packet *ret, struct err *err)
{
	int64_t deadline_ms = now_ms() + wait_ms;
	uint8_t first, digit;
	size_t len = 0;
	int rc = receive_all(m, &first, 1, deadline_ms, err);

	for (unsigned shift = 0; rc == 0; shift += 7) {
		if (shift > 21)
			return err_set(err, ERR_PEER, "it does not speak MQTT");
		rc = receive_all(m, &digit, 1, m->deadline_ms, err);
		if (rc < 0)
			return rc;
		len |= (size_t)(digit & 127) << shift;
		if (digit < 128)
			break;
	}
	if (rc < 0)
		return rc;
	if (len > PACKET_MAX_BYTES)
		return err_set(err, ERR_PEER, "it does not speak MQTT");
	if (len > m->body_cap) {
		uint8_t *more = realloc(m->body, len);

		if (more == NULL)
			return err_set(err, ERR_NOMEM, "packet");
		m->body = more;
		m->body_cap = len;
	}
	rc = receive_all(m, m->body, len, m->deadline_ms, err);
	*ret = (struct mqtt_packet){
		.type = first >> 4, .flags = first & 15, .body = m->body, .len = len};
	return rc;
}

static int left_ms(const struct mqtt *m)
{
	int64_t left = m->deadline_ms - now_ms();

	return left > 0 ? (int)left : 0;
}

int mqtt_connect(struct mqtt *m, const char *client_id, bool clean_session, struct err *err)
{
	static const char *const refusals[] = {
		"",
		"it does not speak MQTT 3.1.1",
		"it refuses the client id",
		"it is not available",
		"it wants a user name and a password",
		"it does not let us in",
	};
	uint8_t body[TEXT_MAX + 20];
	size_t n = put_text(body, "MQTT");
	struct mqtt_packet p = {0};

	body[n++] = 4; /* MQTT 3.1.1 */
	body[n++] = clean_session ? 0x02 : 0x00;
	n += put_u16(body + n, KEEPALIVE_S);
	n += put_text(body + n, client_id);
	int rc = send_packet(m, 0x10, body, n, NULL, 0, err);

	if (rc == 0)
		rc = mqtt_read(m, left_ms(m), &p, err);
	if (rc < 0)
		return rc;
	if (p.type != 2 || p.len != 2)
		return err_set(err, ERR_PARSE, "it does not speak MQTT");
	if (p.body[1] != 0)
		return err_set(err, ERR_ACCES, "%s",
			       p.body[1] < ARRAY_LEN(refusals) ? refusals[p.body[1]]
							       : "it refuses the connection");
	return 0;
}

int mqtt_subscribe(struct mqtt *m, const char *topic, uint8_t qos, struct err *err)
{
	uint8_t body[TEXT_MAX + 8];
	size_t n = put_u16(body, 1);
	struct mqtt_packet p = {0};

	n += put_text(body + n, topic);
	body[n++] = qos;
	int rc = send_packet(m, 0x82, body, n, NULL, 0, err);

	while (rc == 0 && p.type != 9)
		rc = mqtt_read(m, left_ms(m), &p, err);
	if (rc == 0 && (p.len != 3 || p.body[2] == 128))
		return err_set(err, ERR_ACCES, "it refuses a subscription");
	return rc;
}

int mqtt_publish(struct mqtt *m, const char *topic, const void *payload, size_t len, uint8_t qos,
		 uint16_t packet_id, struct err *err)
{
	uint8_t head[TEXT_MAX + 8];
	size_t n = put_text(head, topic);

	if (qos > 0)
		n += put_u16(head + n, packet_id);
	return send_packet(m, (uint8_t)(0x30 | qos << 1), head, n, payload, len, err);
}

int mqtt_puback(struct mqtt *m, uint16_t packet_id, struct err *err)
{
	uint8_t body[2];

	put_u16(body, packet_id);
	return send_packet(m, 0x40, body, sizeof(body), NULL, 0, err);
}

int mqtt_disconnect(struct mqtt *m, struct err *err)
{
	return send_packet(m, 0xe0, NULL, 0, NULL, 0, err);
}

bool mqtt_parse_publish(const struct mqtt_packet *p, const uint8_t **ret_payload, size_t *ret_len,
			uint16_t *ret_id)
{
	if (p->len < 2)
		return false;
	size_t at = 2 + (size_t)(p->body[0] << 8 | p->body[1]);
	bool has_id = (p->flags & 6) != 0;

	if (at + (has_id ? 2 : 0) > p->len)
		return false;
	*ret_id = has_id ? (uint16_t)(p->body[at] << 8 | p->body[at + 1]) : 0;
	at += has_id ? 2 : 0;
	*ret_payload = p->body + at;
	*ret_len = p->len - at;
	return true;
}

/* ---- probes ---- */

static void mqtt_closep(struct mqtt **m)
{
	*m = mqtt_close(*m);
}

enum probe probe_mqtt(const char *host, unsigned port, int timeout_ms, char *why, size_t cap)
{
	CLEANUP(mqtt_closep)
	struct mqtt *m = NULL;
	struct err err = {0};

	why[0] = '\0';
	if (mqtt_open(host, port, timeout_ms, &m, &err) < 0 || m == NULL) {
		snprintf(why, cap, "%s", err.text);
		return PROBE_NOTHING;
	}
	/* An empty id is the broker's to choose: no clash with anybody's. */
	if (mqtt_connect(m, "", true, &err) < 0) {
		snprintf(why, cap, "%s", err.text);
		return PROBE_OTHER;
	}
	mqtt_disconnect(m, NULL);
	return PROBE_ANSWERS;
}

static bool upgrade_accepted(const char *answer)
{
	if (strncmp(answer, "HTTP/1.1 101", 12) != 0)
		return false;
	const char *protocol = strcasestr(answer, "\r\nsec-websocket-protocol:");

	return protocol != NULL &&
	       strncasecmp(protocol + 25 + strspn(protocol + 25, " "), "mqtt", 4) == 0;
}

enum probe probe_websocket(const char *host, unsigned port, int timeout_ms, char *why, size_t cap)
{
	CLEANUP(mqtt_closep)
	struct mqtt *m = NULL;
	struct err err = {0};
	char text[1024], answer[2048] = "";
	size_t used = 0;

	why[0] = '\0';
	if (mqtt_open(host, port, timeout_ms, &m, &err) < 0 || m == NULL) {
		snprintf(why, cap, "%s", err.text);
		return PROBE_NOTHING;
	}
	/* The key is any 16 bytes in base64; nothing secret is in it. */
	snprintf(text, sizeof(text),
		 "GET /mqtt HTTP/1.1\r\nHost: %.250s:%u\r\nUpgrade: websocket\r\nConnection: "
		 "Upgrade\r\n"
		 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: aW90dGFsay1wcm9iZS0wMA==\r\n"
		 "Sec-WebSocket-Protocol: mqtt\r\n\r\n",
		 host, port);
	int rc = send_all(m->fd, text, strlen(text), false, m->deadline_ms, &err);

	while (rc == 0 && used + 1 < sizeof(answer) && strstr(answer, "\r\n\r\n") == NULL) {
		rc = receive_all(m, answer + used, 1, m->deadline_ms, &err);
		used += rc == 0;
		answer[used] = '\0';
	}
	if (upgrade_accepted(answer))
		return PROBE_ANSWERS;
	snprintf(why, cap, "%s", rc < 0 ? err.text : "it does not speak MQTT over WebSocket");
	return PROBE_OTHER;
}
