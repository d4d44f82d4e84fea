/* load - load generator and sink for data topics: one thread, a publisher and a subscriber
 *connection for each pair of topics.
 *
 *	load -p PORT -t FILE [-q QOS] [-w WINDOW | -r RATE] [-d SECONDS] [-W SECONDS] [-y] [-C
 *NAME=PID[,PID...]]...
 *
 * FILE has lines "topic-to-publish topic-to-receive". Payloads are [n] with n counting up over all
 *pairs in turn, so that an answer names its message; with -y the answer to n is [2n+1]. -w: closed
 *loop, WINDOW messages under way in all. -r: open loop, RATE messages a second, latency from the
 *time a message was due, not from when it was sent. Prints one line of JSON.
 */
#include "common/util.h"
#include "tests/bench/measure.h"
#include "tests/bench/mqtt_codec.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define REMEMBERED                                                                     \
	(1u << 22) /* messages whose send time is kept: far more than can be under way \
		    */
#define BURST_MAX   256
#define EVENTS_MAX  256
#define PROBES_MAX  8
#define PIDS_MAX    64
#define TOPIC_BYTES 256
#define DRAIN_NS    1500000000u /* silence that ends the wait for the last messages */
#define STALL_NS                                                                         \
	500000000u /* silence after which a closed loop takes what is under way for lost \
		    */
#define WAIT_MAX_NS 1000000

struct sent {
	uint64_t seq, at_ns;
	bool answered;
};

struct pair {
	char in[TOPIC_BYTES], out[TOPIC_BYTES];
	size_t in_len;
	struct mqtt_conn *publisher, *subscriber;
	struct load *load;
	uint64_t next_expected; /* sequence numbers below it would be out of order */
};

/* Processes whose CPU time is told under a name. */
struct probe {
	char *name;
	int pids[PIDS_MAX];
	size_t n;
	double used_s;
};

struct load {
	unsigned port, qos, window;
	double rate, duration_s, warmup_s;
	bool linear;
	const char *topics_path;
	struct probe probes[PROBES_MAX];
	size_t n_probes;

	struct pair *pairs;
	size_t n_pairs;
	int epoll_fd;
	struct sent *sent_log;
	struct latency *latency;
	bool measuring;
	uint64_t sent, received, given_up, measured, duplicates, disordered, strange;
	uint64_t last_received_ns, due_ns, step_ns;
	struct err err;
};

/* ---- receiving ---- */

static void on_message(void *arg, struct mqtt_conn *c, const struct mqtt_message *m)
{
	struct pair *p = arg;
	struct load *l = p->load;
	char text[64], *end;
	(void)c;
	size_t len = m->len < sizeof(text) ? m->len : sizeof(text) - 1;
	memcpy(text, m->payload, len);
	text[len] = '\0';
	double value = text[0] == '[' ? strtod(text + 1, &end) : -1;
	if (l->linear)
		value = (value - 1) / 2;
	uint64_t seq = value >= 0 ? (uint64_t)value : UINT64_MAX;
	if (seq >= l->sent || (double)seq != value) {
		l->strange++;
		return;
	}
	struct sent *s = &l->sent_log[seq % REMEMBERED];
	if (s->seq != seq || s->answered) {
		l->duplicates++;
		return;
	}
	s->answered = true;
	l->received++;
	l->last_received_ns = measure_now_ns();
	if (seq < p->next_expected)
		l->disordered++;
	else
		p->next_expected = seq + 1;
	if (l->measuring) {
		l->measured++;
		latency_add(l->latency, l->last_received_ns - s->at_ns);
	}
}

/* ---- sending ---- */

static int send_one(struct load *l, uint64_t at_ns)
{
	struct pair *p = &l->pairs[l->sent % l->n_pairs];
	char text[32];
	int len = snprintf(text, sizeof(text), "[%llu]", (unsigned long long)l->sent);
	int rc = mqtt_publish(p->publisher, p->in, p->in_len, text, (size_t)len, (uint8_t)l->qos);
	if (rc < 0)
		return rc;
	l->sent_log[l->sent % REMEMBERED] = (struct sent){.seq = l->sent, .at_ns = at_ns};
	l->sent++;
	return 0;
}

/* Send what is due. ret: messages sent, or a negative code. */
static int send_due(struct load *l)
{
	uint64_t first = l->sent, now = measure_now_ns();
	if (l->step_ns == 0 && l->sent > l->received + l->given_up &&
	    now - l->last_received_ns > STALL_NS) {
		l->given_up = l->sent - l->received;
		l->last_received_ns = now;
	}
	for (int burst = 0; burst < BURST_MAX; burst++) {
		bool due = l->step_ns != 0 ? l->due_ns <= now
					   : l->sent - l->received - l->given_up < l->window;
		if (!due)
			break;
		int rc = send_one(l, l->step_ns != 0 ? l->due_ns : now);
		if (rc == ERR_AGAIN)
			break;
		if (rc < 0)
			return rc;
		l->due_ns += l->step_ns;
	}
	size_t used = l->sent - first < l->n_pairs ? (size_t)(l->sent - first) : l->n_pairs;
	for (size_t i = 0; i < used; i++) {
		int rc = mqtt_flush(l->pairs[(first + i) % l->n_pairs].publisher, &l->err);
		if (rc < 0)
			return rc;
	}
	return (int)(l->sent - first);
}

static int wait_and_read(struct load *l, int64_t wait_ns)
{
	struct epoll_event events[EVENTS_MAX];
	struct timespec wait = {.tv_nsec = wait_ns};
	int n = epoll_pwait2(l->epoll_fd, events, EVENTS_MAX, &wait, NULL);
	if (n < 0 && errno != EINTR)
		return err_sys(&l->err, "epoll");
	for (int i = 0; i < n; i++) {
		struct mqtt_conn *c = events[i].data.ptr;
		int rc = mqtt_read(c, &l->err);
		if (rc == 0)
			rc = mqtt_flush(c, &l->err);
		if (rc < 0)
			return rc;
	}
	return n > 0 ? n : 0;
}

static int flush_all(struct load *l)
{
	for (size_t i = 0; i < l->n_pairs; i++)
		if (mqtt_flush(l->pairs[i].publisher, &l->err) < 0)
			return ERR_PEER;
	return 0;
}

static double probe_cpu_s(const struct probe *p)
{
	double sum_s = 0;
	for (size_t i = 0; i < p->n; i++)
		sum_s += measure_cpu_s(p->pids[i]);
	return sum_s;
}

static void start_measuring(struct load *l)
{
	l->measuring = true;
	for (size_t i = 0; i < l->n_probes; i++)
		l->probes[i].used_s = -probe_cpu_s(&l->probes[i]);
}

static void stop_measuring(struct load *l)
{
	l->measuring = false;
	for (size_t i = 0; i < l->n_probes; i++)
		l->probes[i].used_s += probe_cpu_s(&l->probes[i]);
}

/* How long nothing needs to be sent. */
static int64_t pause_ns(const struct load *l, int just_sent)
{
	if (just_sent == BURST_MAX)
		return 0;
	if (l->step_ns == 0)
		return WAIT_MAX_NS;
	int64_t left = (int64_t)(l->due_ns - measure_now_ns());
	return left < 0 ? 0 : left < WAIT_MAX_NS ? left : WAIT_MAX_NS;
}

/* ret_s: what was measured. */
static int generate(struct load *l, double *ret_s)
{
	uint64_t start = measure_now_ns(), begin = start + (uint64_t)(l->warmup_s * 1e9);
	uint64_t end = begin + (uint64_t)(l->duration_s * 1e9), now;
	l->due_ns = l->last_received_ns = start;
	l->step_ns = l->rate > 0 ? (uint64_t)(1e9 / l->rate) : 0;
	while ((now = measure_now_ns()) < end) {
		if (!l->measuring && now >= begin) {
			start_measuring(l);
			begin = now;
		}
		int rc = send_due(l);
		if (rc >= 0)
			rc = wait_and_read(l, pause_ns(l, rc));
		if (rc >= 0)
			rc = flush_all(l);
		if (rc < 0)
			return rc;
	}
	*ret_s = (double)(measure_now_ns() - begin) / 1e9;
	stop_measuring(l);
	return 0;
}

static int drain(struct load *l)
{
	l->last_received_ns = measure_now_ns();
	/* a while longer when all is there: duplicates come last */
	for (int quiet = 0; quiet < 5;) {
		int rc = wait_and_read(l, 10 * WAIT_MAX_NS);
		if (rc >= 0)
			rc = flush_all(l) < 0 ? ERR_PEER : rc;
		if (rc < 0)
			return rc;
		bool silent = measure_now_ns() - l->last_received_ns > DRAIN_NS;
		quiet = rc == 0 && (l->received == l->sent || silent) ? quiet + 1 : 0;
	}
	return 0;
}

/* ---- the frame ---- */

static int read_pairs(struct load *l)
{
	struct pair p = {.load = l};
	FILE *f = fopen(l->topics_path, "re");
	if (f == NULL)
		return err_sys(&l->err, "%s", l->topics_path);
	while (fscanf(f, "%255s %255s", p.in, p.out) == 2) {
		struct pair *more = reallocarray(l->pairs, l->n_pairs + 1, sizeof(*more));
		if (more == NULL) {
			fclose(f);
			return err_set(&l->err, ERR_NOMEM, "topics");
		}
		l->pairs = more;
		p.in_len = strlen(p.in);
		l->pairs[l->n_pairs++] = p;
	}
	fclose(f);
	return l->n_pairs > 0 ? 0 : err_set(&l->err, ERR_PARSE, "%s: no topics", l->topics_path);
}

static int watch(struct load *l, struct mqtt_conn *c)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
	return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, mqtt_fd(c), &ev);
}

static int open_pair(struct load *l, struct pair *p, size_t number)
{
	char client_id[64];
	snprintf(client_id, sizeof(client_id), "load-s-%d-%zu", getpid(), number);
	int rc = mqtt_open(l->port, client_id, on_message, p, &p->subscriber, &l->err);
	if (rc == 0)
		rc = mqtt_subscribe(p->subscriber, p->out, 2, &l->err);
	snprintf(client_id, sizeof(client_id), "load-p-%d-%zu", getpid(), number);
	if (rc == 0)
		rc = mqtt_open(l->port, client_id, NULL, NULL, &p->publisher, &l->err);
	if (rc == 0 && (watch(l, p->subscriber) < 0 || watch(l, p->publisher) < 0))
		rc = err_sys(&l->err, "epoll");
	return rc;
}

static int prepare(struct load *l)
{
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	l->sent_log = calloc(REMEMBERED, sizeof(*l->sent_log));
	l->latency = latency_new();
	if (l->epoll_fd < 0 || l->sent_log == NULL || l->latency == NULL)
		return err_sys(&l->err, "starting");
	int rc = read_pairs(l);
	for (size_t i = 0; rc == 0 && i < l->n_pairs; i++)
		rc = open_pair(l, &l->pairs[i], i);
	return rc;
}

static int report(struct load *l, double seconds)
{
	json_auto_t *cpu = json_object();
	for (size_t i = 0; i < l->n_probes; i++) {
		double each_us =
			l->measured > 0 ? l->probes[i].used_s * 1e6 / (double)l->measured : 0;
		if (json_object_set_new(cpu, l->probes[i].name, json_real(each_us)) < 0)
			return err_set(&l->err, ERR_NOMEM, "report");
	}
	json_auto_t *doc = json_pack(
		"{s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:O}", "msgs_s",
		(double)l->measured / seconds, "p50_us", latency_at_us(l->latency, 0.5), "p99_us",
		latency_at_us(l->latency, 0.99), "p999_us", latency_at_us(l->latency, 0.999),
		"max_us", latency_at_us(l->latency, 1), "sent", (json_int_t)l->sent, "lost",
		(json_int_t)(l->sent - l->received), "duplicated", (json_int_t)l->duplicates,
		"out_of_order", (json_int_t)l->disordered, "strange", (json_int_t)l->strange,
		"cpu_us", cpu);
	if (doc == NULL || json_dumpf(doc, stdout, JSON_COMPACT) < 0)
		return err_set(&l->err, ERR_NOMEM, "report");
	printf("\n");
	return 0;
}

/* NAME=PID[,PID...]; text is cut up. */
static int add_probe(struct load *l, char *text)
{
	struct probe *p = &l->probes[l->n_probes];
	char *list = strchr(text, '=');
	if (list == NULL || l->n_probes == PROBES_MAX)
		return ERR_INVAL;
	*list++ = '\0';
	p->name = text;
	for (char *save, *word = strtok_r(list, ",", &save); word != NULL;
	     word = strtok_r(NULL, ",", &save)) {
		if (p->n == PIDS_MAX)
			return ERR_INVAL;
		p->pids[p->n++] = (int)strtol(word, NULL, 10);
	}
	l->n_probes++;
	return 0;
}

static int read_options(struct load *l, int argc, char *argv[])
{
	int option, rc = 0;
	while ((option = getopt(argc, argv, "p:t:q:w:r:d:W:yC:")) >= 0) {
		switch (option) {
		case 'p':
			l->port = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 't':
			l->topics_path = optarg;
			break;
		case 'q':
			l->qos = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'w':
			l->window = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'r':
			l->rate = strtod(optarg, NULL);
			break;
		case 'd':
			l->duration_s = strtod(optarg, NULL);
			break;
		case 'W':
			l->warmup_s = strtod(optarg, NULL);
			break;
		case 'y':
			l->linear = true;
			break;
		case 'C':
			rc = add_probe(l, optarg);
			break;
		default:
			rc = ERR_INVAL;
		}
		if (rc < 0)
			break;
	}
	bool usable = rc == 0 && l->port > 0 && l->port < 65536 && l->topics_path != NULL &&
		      l->qos <= 2 && l->window < REMEMBERED / 2 && l->duration_s > 0;
	return usable ? 0
		      : err_set(&l->err, ERR_INVAL, "usage: see the head of tests/bench/load.c");
}

int main(int argc, char *argv[])
{
	struct load l = {.window = 100, .duration_s = 2, .warmup_s = 0.5, .epoll_fd = -1};
	double seconds = 0;
	int rc = read_options(&l, argc, argv);
	if (rc == 0)
		rc = prepare(&l);
	if (rc == 0)
		rc = generate(&l, &seconds);
	if (rc == 0)
		rc = drain(&l);
	if (rc == 0)
		rc = report(&l, seconds);
	if (rc < 0)
		fprintf(stderr, "load: %s\n", l.err.text[0] != '\0' ? l.err.text : err_name(rc));
	for (size_t i = 0; i < l.n_pairs; i++) {
		mqtt_close(l.pairs[i].publisher);
		mqtt_close(l.pairs[i].subscriber);
	}
	free(l.pairs);
	free(l.sent_log);
	latency_free(l.latency);
	closep(&l.epoll_fd);
	return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
