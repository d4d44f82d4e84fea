#include "tests/bench/mqtt_codec.h"

#include "common/util.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#define READ_BYTES_MIN  65536
#define HEADER_MAX      5 /* type and remaining length */
#define PACKET_IDS      65536
#define IN_USE_MAX      60000 /* leaves the search for a free packet id short */
#define REMAINING_MAX   268435455
#define CLIENT_ID_BYTES 64

enum packet {
	CONNECT = 1,
	CONNACK,
	PUBLISH,
	PUBACK,
	PUBREC,
	PUBREL,
	PUBCOMP,
	SUBSCRIBE,
	SUBACK,
	DISCONNECT = 14
};

struct buffer {
	uint8_t *data;
	size_t start, end, cap;
};

struct mqtt_conn {
	int fd;
	mqtt_message_fn *fn;
	void *arg;
	struct buffer in, out;
	uint16_t last_id;
	unsigned in_use;
	bool answered;                    /* CONNACK or SUBACK came */
	uint8_t used[PACKET_IDS / 8];     /* our packet ids the broker has not released */
	uint8_t received[PACKET_IDS / 8]; /* QoS 2 ids between PUBLISH and PUBREL */
};

static bool bit_get(const uint8_t *bits, uint16_t at)
{
	return bits[at >> 3] >> (at & 7) & 1;
}

static void bit_set(uint8_t *bits, uint16_t at, bool on)
{
	uint8_t mask = (uint8_t)(1u << (at & 7));
	bits[at >> 3] = on ? bits[at >> 3] | mask : bits[at >> 3] & (uint8_t)~mask;
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint8_t *put16(uint8_t *p, size_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
	return p + 2;
}

/* Room for n more bytes at the end; NULL: no memory. The caller moves b->end. */
static uint8_t *room(struct buffer *b, size_t n)
{
	if (b->end + n > b->cap && b->start > 0) {
		memmove(b->data, b->data + b->start, b->end - b->start);
		b->end -= b->start;
		b->start = 0;
	}
	if (b->end + n > b->cap) {
		size_t cap = 2 * (b->end + n);
		uint8_t *data = realloc(b->data, cap);
		if (data == NULL)
			return NULL;
		b->data = data;
		b->cap = cap;
	}
	return b->data + b->end;
}

/* ---- writing ---- */

static uint8_t *put_header(uint8_t *p, uint8_t first, size_t remaining)
{
	*p++ = first;
	do {
		*p++ = (uint8_t)((remaining & 127) | (remaining > 127 ? 128 : 0));
		remaining >>= 7;
	} while (remaining > 0);
	return p;
}

static int put_ack(struct mqtt_conn *c, uint8_t first, uint16_t id)
{
	uint8_t *p = room(&c->out, 4);
	if (p == NULL)
		return ERR_NOMEM;
	p[0] = first;
	p[1] = 2;
	put16(p + 2, id);
	c->out.end += 4;
	return 0;
}

static uint16_t take_id(struct mqtt_conn *c)
{
	do
		c->last_id++;
	while (c->last_id == 0 || bit_get(c->used, c->last_id));
	bit_set(c->used, c->last_id, true);
	c->in_use++;
	return c->last_id;
}

static void release_id(struct mqtt_conn *c, uint16_t id)
{
	if (!bit_get(c->used, id))
		return;
	bit_set(c->used, id, false);
	c->in_use--;
}

int mqtt_publish(struct mqtt_conn *c, const char *topic, size_t topic_len, const void *payload,
		 size_t len, uint8_t qos)
{
	size_t remaining = 2 + topic_len + (qos > 0 ? 2 : 0) + len;
	if (qos > 0 && c->in_use >= IN_USE_MAX)
		return ERR_AGAIN;
	if (topic_len > UINT16_MAX || remaining > REMAINING_MAX)
		return ERR_RANGE;
	uint8_t *p = room(&c->out, HEADER_MAX + remaining);
	if (p == NULL)
		return ERR_NOMEM;
	p = put_header(p, (uint8_t)(PUBLISH << 4 | qos << 1), remaining);
	p = put16(p, topic_len);
	memcpy(p, topic, topic_len);
	p += topic_len;
	if (qos > 0)
		p = put16(p, take_id(c));
	memcpy(p, payload, len);
	c->out.end = (size_t)(p + len - c->out.data);
	return 0;
}

int mqtt_flush(struct mqtt_conn *c, struct err *err)
{
	while (c->out.start < c->out.end) {
		ssize_t n = send(c->fd, c->out.data + c->out.start, c->out.end - c->out.start,
				 MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			return 1;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			err_sys(err, "writing to the broker");
			return ERR_PEER;
		}
		c->out.start += (size_t)n;
	}
	c->out.start = c->out.end = 0;
	return 0;
}

/* ---- reading ---- */

static int take_publish(struct mqtt_conn *c, uint8_t first, const uint8_t *p, size_t len)
{
	struct mqtt_message m = {
		.qos = first >> 1 & 3, .dup = first >> 3 & 1, .retained = first & 1};
	size_t id_bytes = m.qos > 0 ? 2 : 0;
	if (m.qos > 2 || len < 2 || len < 2u + get16(p) + id_bytes)
		return ERR_PEER;
	m.topic_len = get16(p);
	m.topic = (const char *)p + 2;
	const uint8_t *rest = p + 2 + m.topic_len;
	uint16_t id = m.qos > 0 ? get16(rest) : 0;
	m.payload = (const char *)rest + id_bytes;
	m.len = len - 2 - m.topic_len - id_bytes;

	bool again = m.qos == 2 && bit_get(c->received, id);
	if (m.qos == 2)
		bit_set(c->received, id, true);
	if (!again && c->fn != NULL)
		c->fn(c->arg, c, &m);
	if (m.qos == 0)
		return 0;
	return put_ack(c, m.qos == 1 ? PUBACK << 4 : PUBREC << 4, id);
}

static int take_packet(struct mqtt_conn *c, uint8_t first, const uint8_t *p, size_t len)
{
	enum packet type = first >> 4;
	if (type == PUBLISH)
		return take_publish(c, first, p, len);
	if (len < 2)
		return ERR_PEER;
	uint16_t id = get16(p);
	switch (type) {
	case PUBACK:
	case PUBCOMP:
		release_id(c, id);
		return 0;
	case PUBREC:
		return put_ack(c, PUBREL << 4 | 2, id);
	case PUBREL:
		bit_set(c->received, id, false);
		return put_ack(c, PUBCOMP << 4, id);
	case CONNACK:
	case SUBACK:
		c->answered = true;
		return p[len - 1] < 0x80 && (type == SUBACK || p[1] == 0) ? 0 : ERR_PEER;
	default:
		return ERR_PEER;
	}
}

/* Length of the packet at p, header included, or 0: not complete. ret_header: bytes of the header.
 */
static size_t packet_bytes(const uint8_t *p, size_t there, size_t *ret_header)
{
	size_t remaining = 0;
	for (size_t i = 1; i < there && i < HEADER_MAX; i++) {
		remaining |= (size_t)(p[i] & 127) << (7 * (i - 1));
		if ((p[i] & 128) == 0) {
			*ret_header = i + 1;
			return there >= i + 1 + remaining ? i + 1 + remaining : 0;
		}
	}
	return 0;
}

int mqtt_read(struct mqtt_conn *c, struct err *err)
{
	size_t header = 0, bytes;
	uint8_t *p = room(&c->in, READ_BYTES_MIN);
	if (p == NULL)
		return err_set(err, ERR_NOMEM, "reading from the broker");
	ssize_t n = recv(c->fd, p, c->in.cap - c->in.end, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return err_set(err, ERR_PEER, "the broker closed the connection");
	c->in.end += (size_t)n;
	while ((bytes = packet_bytes(c->in.data + c->in.start, c->in.end - c->in.start, &header)) >
	       0) {
		p = c->in.data + c->in.start;
		int rc = take_packet(c, p[0], p + header, bytes - header);
		if (rc < 0)
			return err_set(err, rc, "packet of type %d is refused or not understood",
				       p[0] >> 4);
		c->in.start += bytes;
	}
	if (c->in.start == c->in.end)
		c->in.start = c->in.end = 0;
	return 0;
}

/* ---- opening ---- */

/* Write what is buffered and read until a packet came; the socket still blocks. */
static int exchange(struct mqtt_conn *c, struct err *err)
{
	c->answered = false;
	int rc = mqtt_flush(c, err);
	if (rc == 0)
		rc = mqtt_read(c, err);
	if (rc == 0 && !c->answered)
		rc = err_set(err, ERR_TIMEOUT, "the broker does not answer");
	return rc;
}

static int set_socket(int fd)
{
	int one = 1;
	struct timeval limit = {.tv_sec = 10};
	return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) |
	       setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

static int set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);
	return fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

int mqtt_open(unsigned port, const char *client_id, mqtt_message_fn *fn, void *arg,
	      struct mqtt_conn **ret, struct err *err)
{
	static const uint8_t fixed[] = {0,   4, 'M',           'Q', 'T',
					'T', 4, 2 /* clean */, 0,   0 /* no keepalive */};
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	size_t id_len = strnlen(client_id, CLIENT_ID_BYTES);
	size_t remaining = sizeof(fixed) + 2 + id_len;
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	struct mqtt_conn *c = calloc(1, sizeof(*c));
	if (c == NULL)
		return err_set(err, ERR_NOMEM, "connection");
	c->fn = fn;
	c->arg = arg;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int rc;
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    set_socket(c->fd) < 0) {
		rc = err_sys(err, "connecting to 127.0.0.1:%u", port);
		goto fail;
	}
	uint8_t *p = room(&c->out, HEADER_MAX + remaining);
	if (p == NULL) {
		rc = err_set(err, ERR_NOMEM, "connection");
		goto fail;
	}
	p = put_header(p, CONNECT << 4, remaining);
	memcpy(p, fixed, sizeof(fixed));
	p = put16(p + sizeof(fixed), id_len);
	memcpy(p, client_id, id_len);
	c->out.end = (size_t)(p + id_len - c->out.data);
	rc = exchange(c, err);
	if (rc < 0)
		goto fail;
	set_blocking(c->fd, false);
	*ret = c;
	return 0;
fail:
	mqtt_close(c);
	return rc;
}

int mqtt_subscribe(struct mqtt_conn *c, const char *topic, uint8_t qos, struct err *err)
{
	size_t topic_len = strlen(topic), remaining = 2 + 2 + topic_len + 1;
	uint8_t *p = room(&c->out, HEADER_MAX + remaining);
	if (p == NULL)
		return err_set(err, ERR_NOMEM, "subscription");
	p = put_header(p, SUBSCRIBE << 4 | 2, remaining);
	p = put16(put16(p, 1), topic_len);
	memcpy(p, topic, topic_len);
	p[topic_len] = qos;
	c->out.end = (size_t)(p + topic_len + 1 - c->out.data);
	set_blocking(c->fd, true);
	int rc = exchange(c, err);
	set_blocking(c->fd, false);
	return rc;
}

struct mqtt_conn *mqtt_close(struct mqtt_conn *c)
{
	if (c == NULL)
		return NULL;
	static const uint8_t bye[] = {DISCONNECT << 4, 0};
	if (c->fd >= 0) {
		/* best effort: the broker learns of the end anyway */
		ssize_t n = mqtt_pending(c)
				    ? 0
				    : send(c->fd, bye, sizeof(bye), MSG_NOSIGNAL | MSG_DONTWAIT);
		(void)n;
		close(c->fd);
	}
	free(c->in.data);
	free(c->out.data);
	free(c);
	return NULL;
}

int mqtt_fd(const struct mqtt_conn *c)
{
	return c->fd;
}

bool mqtt_pending(const struct mqtt_conn *c)
{
	return c->out.start < c->out.end;
}
