#include "tests/bench/traffic.h"

#include "common/util.h"
#include "tests/bench/measure.h"
#include "tests/bench/mqtt_codec.h"
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define REMEMBERED                                                                     \
	(1u << 22) /* messages whose send time is kept: far more than can be under way \
		    */
#define EVENTS_MAX  256
#define TOPIC_BYTES 256
#define DIGITS_MAX  24
#define NUMBER_ROOM 7 /* digits of a number that the size of a payload is planned with */
#define POLL_NS     10000000
#define QUIET_POLLS 5
#define PRIME_POLLS 20

struct sent {
	uint64_t seq : 63, answered : 1;
	uint64_t at_ns;
};

struct line {
	char *in, *out;
	size_t in_len, out_len;
};

struct device {
	uint64_t next_expected; /* sequence numbers below it would be out of order */
};

/* One connection and whether its socket is full. */
struct wire {
	struct traffic *traffic;
	struct mqtt_conn *conn;
	bool full, dirty;
};

struct traffic {
	struct traffic_conf conf;
	struct line *lines;
	size_t n_lines, n_devices, n_wires;
	struct device *devices;
	struct wire *publishers, *subscribers;
	size_t *dirty; /* publishers with something to write */
	size_t n_dirty;
	char *payload; /* the number is put in front of the tail */
	const char *tail;
	size_t tail_len;
	int epoll_fd;
	struct sent *sent;
	uint64_t base; /* sequence numbers below it are those of traffic_prime() */
	bool priming;
	struct latency *latency;
	struct traffic_counts counts;
};

static uint64_t next_seq(const struct traffic *t)
{
	return t->base + t->counts.sent;
}

static size_t device_of(const struct traffic *t, uint64_t seq)
{
	return seq % t->n_devices;
}

static const struct line *line_of(const struct traffic *t, uint64_t seq)
{
	size_t input = seq / t->n_devices % t->conf.inputs;
	return &t->lines[device_of(t, seq) * t->conf.inputs + input];
}

/* ---- receiving ---- */

/* The sequence number that this message is the right answer to, or UINT64_MAX. */
static uint64_t seq_of(const struct traffic *t, const struct mqtt_message *m)
{
	const char *p = m->payload, *end = p + m->len;
	int64_t value = 0;
	if (p == end || *p++ != '[')
		return UINT64_MAX;
	for (; p < end && *p >= '0' && *p <= '9' && value < INT64_MAX / 16; p++)
		value = value * 10 + (*p - '0');
	if ((size_t)(end - p) != t->tail_len || memcmp(p, t->tail, t->tail_len) != 0)
		return UINT64_MAX;
	value -= t->conf.offset;
	if (value < 0 || value % t->conf.factor != 0)
		return UINT64_MAX;
	uint64_t seq = (uint64_t)(value / t->conf.factor);
	if (seq >= next_seq(t))
		return UINT64_MAX;
	const struct line *line = line_of(t, seq);
	bool ours =
		m->topic_len == line->out_len && memcmp(m->topic, line->out, line->out_len) == 0;
	return ours ? seq : UINT64_MAX;
}

static void on_message(void *arg, struct mqtt_conn *c, const struct mqtt_message *m)
{
	struct traffic *t = ((struct wire *)arg)->traffic;
	(void)c;
	if (t->priming)
		return;
	uint64_t seq = seq_of(t, m);
	if (seq == UINT64_MAX || seq < t->base) {
		t->counts.wrong++;
		return;
	}
	struct sent *s = &t->sent[seq % REMEMBERED];
	if (s->seq != seq || s->answered) {
		t->counts.duplicated++;
		return;
	}
	s->answered = true;
	t->counts.received++;
	t->counts.last_received_ns = measure_now_ns();
	struct device *d = &t->devices[device_of(t, seq)];
	if (seq < d->next_expected)
		t->counts.disordered++;
	else
		d->next_expected = seq + 1;
	if (t->latency != NULL)
		latency_add(t->latency, t->counts.last_received_ns - s->at_ns);
}

/* ---- sending ---- */

static int publish(struct traffic *t, uint64_t seq)
{
	const struct line *line = line_of(t, seq);
	size_t at = device_of(t, seq) % t->n_wires;
	struct wire *w = &t->publishers[at];
	char *start = (char *)t->tail;
	uint64_t rest = seq;
	do
		*--start = (char)('0' + rest % 10);
	while ((rest /= 10) > 0);
	*--start = '[';
	size_t len = (size_t)(t->tail - start) + t->tail_len;
	int rc = mqtt_publish(w->conn, line->in, line->in_len, start, len, (uint8_t)t->conf.qos);
	if (rc == 0 && !w->dirty) {
		w->dirty = true;
		t->dirty[t->n_dirty++] = at;
	}
	return rc;
}

int traffic_send(struct traffic *t, uint64_t at_ns)
{
	uint64_t seq = next_seq(t);
	int rc = publish(t, seq);
	if (rc < 0)
		return rc;
	t->sent[seq % REMEMBERED] = (struct sent){.seq = seq, .at_ns = at_ns};
	t->counts.sent++;
	return 0;
}

static int flush(struct traffic *t, struct wire *w, struct err *err)
{
	int rc = mqtt_flush(w->conn, err);
	if (rc < 0)
		return rc;
	bool full = rc > 0;
	if (full != w->full) {
		struct epoll_event ev = {.events = EPOLLIN | (full ? EPOLLOUT : 0), .data.ptr = w};
		if (epoll_ctl(t->epoll_fd, EPOLL_CTL_MOD, mqtt_fd(w->conn), &ev) < 0)
			return err_sys(err, "epoll");
		w->full = full;
	}
	return 0;
}

int traffic_push(struct traffic *t, struct err *err)
{
	int rc = 0;
	for (size_t i = 0; i < t->n_dirty; i++) {
		struct wire *w = &t->publishers[t->dirty[i]];
		w->dirty = false;
		if (rc == 0 && !w->full) /* a full one waits for its turn in epoll */
			rc = flush(t, w, err);
	}
	t->n_dirty = 0;
	return rc;
}

int traffic_take(struct traffic *t, int64_t wait_ns, struct err *err)
{
	struct epoll_event events[EVENTS_MAX];
	struct timespec wait = {.tv_nsec = wait_ns};
	int n = epoll_pwait2(t->epoll_fd, events, EVENTS_MAX, &wait, NULL);
	if (n < 0 && errno != EINTR)
		return err_sys(err, "epoll");
	for (int i = 0; i < n; i++) {
		struct wire *w = events[i].data.ptr;
		int rc = events[i].events & ~EPOLLOUT ? mqtt_read(w->conn, err) : 0;
		if (rc == 0)
			rc = flush(t, w, err);
		if (rc < 0)
			return rc;
	}
	return n > 0 ? n : 0;
}

int traffic_drain(struct traffic *t, uint64_t silence_ns, uint64_t limit_ns, struct err *err)
{
	uint64_t start = measure_now_ns(), since = start, now = start;
	for (int quiet = 0; quiet < QUIET_POLLS && now - start < limit_ns;) {
		int n = traffic_take(t, POLL_NS, err);
		if (n < 0)
			return n;
		now = measure_now_ns();
		if (n > 0)
			since = now;
		bool done = t->counts.received >= t->counts.sent || now - since > silence_ns;
		quiet = n == 0 && done ? quiet + 1 : 0;
	}
	return 0;
}

int traffic_prime(struct traffic *t, struct err *err)
{
	int rc = 0;
	t->priming = true;
	for (uint64_t seq = 0; rc == 0 && seq < t->n_lines; seq++)
		rc = publish(t, seq);
	if (rc == 0)
		rc = traffic_push(t, err);
	else
		err_set(err, rc, "priming");
	for (int quiet = 0; rc >= 0 && quiet < PRIME_POLLS;) {
		rc = traffic_take(t, POLL_NS, err);
		quiet = rc == 0 ? quiet + 1 : 0;
	}
	t->priming = false;
	t->base = t->n_lines;
	return rc < 0 ? rc : 0;
}

void traffic_measure(struct traffic *t, struct latency *latency)
{
	t->latency = latency;
}

const struct traffic_counts *traffic_counts(const struct traffic *t)
{
	return &t->counts;
}

/* ---- opening ---- */

static int add_line(struct traffic *t, const char *in, const char *out)
{
	struct line *more = reallocarray(t->lines, t->n_lines + 1, sizeof(*more));
	if (more == NULL)
		return ERR_NOMEM;
	t->lines = more;
	struct line l = {
		.in = strdup(in), .out = strdup(out), .in_len = strlen(in), .out_len = strlen(out)};
	t->lines[t->n_lines++] = l;
	return l.in != NULL && l.out != NULL ? 0 : ERR_NOMEM;
}

static int read_lines(struct traffic *t, struct err *err)
{
	char in[TOPIC_BYTES], out[TOPIC_BYTES];
	FILE *f = fopen(t->conf.topics_path, "re");
	if (f == NULL)
		return err_sys(err, "%s", t->conf.topics_path);
	int rc = 0;
	while (rc == 0 && fscanf(f, "%255s %255s", in, out) == 2)
		rc = add_line(t, in, out);
	fclose(f);
	if (rc < 0)
		return err_set(err, rc, "topics");
	if (t->n_lines == 0 || t->n_lines % t->conf.inputs != 0)
		return err_set(err, ERR_PARSE, "%s: %zu topics for devices with %u inputs",
			       t->conf.topics_path, t->n_lines, t->conf.inputs);
	t->n_devices = t->n_lines / t->conf.inputs;
	t->n_wires = t->conf.connections == 0 || t->conf.connections > t->n_devices
			     ? t->n_devices
			     : t->conf.connections;
	return 0;
}

/* What follows the number in every payload, with room for the number before it. */
static int make_payload(struct traffic *t)
{
	static const char *const values[] = {",21.5", ",7", ",-3", ",0.25", ",1013"};
	size_t room = 1 + DIGITS_MAX, fixed = 1 + NUMBER_ROOM + 1;
	size_t cap = room + t->conf.payload_bytes + 2, len = room;
	t->payload = malloc(cap);
	if (t->payload == NULL)
		return ERR_NOMEM;
	for (size_t i = 0;; i++) {
		const char *v = values[i % ARRAY_LEN(values)];
		if (fixed + len - room + strlen(v) > t->conf.payload_bytes)
			break;
		len += (size_t)sprintf(t->payload + len, "%s", v);
	}
	t->payload[len++] = ']';
	t->tail = t->payload + room;
	t->tail_len = len - room;
	return 0;
}

static int open_wire(struct traffic *t, struct wire *w, char kind, size_t number, struct err *err)
{
	char client_id[64];
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = w};
	snprintf(client_id, sizeof(client_id), "load-%c-%d-%zu", kind, getpid(), number);
	w->traffic = t;
	int rc = mqtt_open(t->conf.port, client_id, kind == 's' ? on_message : NULL, w, &w->conn,
			   err);
	if (rc == 0 && epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, mqtt_fd(w->conn), &ev) < 0)
		rc = err_sys(err, "epoll");
	return rc;
}

static int subscribe(struct traffic *t, size_t device, struct err *err)
{
	const struct line *lines = &t->lines[device * t->conf.inputs];
	int rc = 0;
	for (unsigned i = 0; rc == 0 && i < t->conf.inputs; i++)
		if (i == 0 || strcmp(lines[i].out, lines[i - 1].out) != 0)
			rc = mqtt_subscribe(t->subscribers[device % t->n_wires].conn, lines[i].out,
					    2, err);
	return rc;
}

static int allocate(struct traffic *t, struct err *err)
{
	t->devices = calloc(t->n_devices, sizeof(*t->devices));
	t->publishers = calloc(t->n_wires, sizeof(*t->publishers));
	t->subscribers = calloc(t->n_wires, sizeof(*t->subscribers));
	t->dirty = calloc(t->n_wires, sizeof(*t->dirty));
	t->sent = calloc(REMEMBERED, sizeof(*t->sent));
	if (t->devices == NULL || t->publishers == NULL || t->subscribers == NULL ||
	    t->dirty == NULL || t->sent == NULL || make_payload(t) < 0)
		return err_set(err, ERR_NOMEM, "traffic");
	return 0;
}

int traffic_open(const struct traffic_conf *conf, struct traffic **ret, struct err *err)
{
	struct traffic *t = calloc(1, sizeof(*t));
	if (t == NULL)
		return err_set(err, ERR_NOMEM, "traffic");
	t->conf = *conf;
	t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	int rc = t->epoll_fd < 0 ? err_sys(err, "epoll") : 0;
	if (rc == 0)
		rc = read_lines(t, err);
	if (rc == 0)
		rc = allocate(t, err);
	for (size_t i = 0; rc == 0 && i < t->n_wires; i++) {
		rc = open_wire(t, &t->subscribers[i], 's', i, err);
		if (rc == 0)
			rc = open_wire(t, &t->publishers[i], 'p', i, err);
	}
	for (size_t i = 0; rc == 0 && i < t->n_devices; i++)
		rc = subscribe(t, i, err);
	if (rc < 0)
		traffic_close(t);
	else
		*ret = t;
	return rc;
}

struct traffic *traffic_close(struct traffic *t)
{
	if (t == NULL)
		return NULL;
	for (size_t i = 0; i < t->n_wires; i++) {
		if (t->publishers != NULL)
			mqtt_close(t->publishers[i].conn);
		if (t->subscribers != NULL)
			mqtt_close(t->subscribers[i].conn);
	}
	for (size_t i = 0; i < t->n_lines; i++) {
		free(t->lines[i].in);
		free(t->lines[i].out);
	}
	free(t->lines);
	free(t->devices);
	free(t->publishers);
	free(t->subscribers);
	free(t->dirty);
	free(t->sent);
	free(t->payload);
	closep(&t->epoll_fd);
	free(t);
	return NULL;
}
