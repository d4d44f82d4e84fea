/* load - load generator and sink for data topics, in one thread (tests/bench/traffic.h).
 *
 * load -p PORT -t FILE [-q QOS] [-w WINDOW | -r RATE] [-d SECONDS] [-W SECONDS] [...]
 *
 * -w: closed loop, WINDOW messages under way in all. -r: open loop, RATE messages a second, and
 *     latency counts from the time a message was due, not from when it was sent.
 * -d, -W: seconds of measuring and of warming up before.
 * -a FACTOR, -o OFFSET: the answer to [n] is [FACTOR*n+OFFSET].
 * -b BYTES: size of the payloads. -k CONNECTIONS: devices share them. -j INPUTS: of each device.
 * -C NAME=PID[,PID...]: tell the CPU time of these processes under that name; ours is "load".
 * -i SECONDS: a line of JSON each so many seconds, before the line at the end.
 */
#include "common/util.h"
#include "tests/bench/measure.h"
#include "tests/bench/traffic.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define BURST_MAX   256
#define PROBES_MAX  16
#define PIDS_MAX    64
#define WAIT_MAX_NS 1000000
#define SILENCE_NS  3000000000u  /* that ends the wait for the last messages */
#define DRAIN_NS    60000000000u /* the whole of it */
/* silence after which a closed loop takes what is under way for lost */
#define STALL_NS 500000000u

/* Processes whose CPU time is told under a name. */
struct probe {
	char *name;
	int pids[PIDS_MAX];
	size_t n;
	double used_s;
};

struct load {
	struct traffic_conf conf;
	unsigned window;
	double rate, duration_s, warmup_s, interval_s;
	struct probe probes[PROBES_MAX];
	size_t n_probes;

	struct traffic *traffic;
	const struct traffic_counts *counts;
	struct latency *latency, *interval;
	bool measuring;
	uint64_t given_up, before; /* before: received when measuring began */
	uint64_t start_ns, due_ns, step_ns, report_ns;
	struct err err;
};

static double probe_cpu_s(const struct probe *p)
{
	double sum_s = 0;
	for (size_t i = 0; i < p->n; i++)
		sum_s += measure_cpu_s(p->pids[i]);
	return sum_s;
}

static void read_probes(struct load *l, double sign)
{
	for (size_t i = 0; i < l->n_probes; i++)
		l->probes[i].used_s += sign * probe_cpu_s(&l->probes[i]);
}

/* ---- pace ---- */

/* A closed loop that lost messages would stand still: after a silence it sends new ones. */
static void give_up_lost(struct load *l, uint64_t now)
{
	uint64_t last = l->counts->last_received_ns;
	if (l->counts->sent > l->counts->received + l->given_up &&
	    now - (last > l->start_ns ? last : l->start_ns) > STALL_NS) {
		l->given_up = l->counts->sent - l->counts->received;
		l->start_ns = now;
	}
}

static bool is_due(const struct load *l, uint64_t now)
{
	if (l->step_ns != 0)
		return l->due_ns <= now;
	return l->counts->sent < l->counts->received + l->given_up + l->window;
}

/* Send what is due. ret: messages sent, or a negative code. */
static int send_due(struct load *l)
{
	uint64_t now = measure_now_ns();
	int sent = 0;
	if (l->step_ns == 0)
		give_up_lost(l, now);
	while (sent < BURST_MAX && is_due(l, now)) {
		int rc = traffic_send(l->traffic, l->step_ns != 0 ? l->due_ns : now);
		if (rc == ERR_AGAIN)
			break;
		if (rc < 0)
			return err_set(&l->err, rc, "sending");
		l->due_ns += l->step_ns;
		sent++;
	}
	int rc = traffic_push(l->traffic, &l->err);
	return rc < 0 ? rc : sent;
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

static int report_interval(struct load *l, uint64_t now)
{
	if (l->interval == NULL || now < l->report_ns)
		return 0;
	l->report_ns += (uint64_t)(l->interval_s * 1e9);
	printf("{\"sent\":%llu,\"received\":%llu,\"p99_us\":%.1f,\"max_us\":%.1f}\n",
	       (unsigned long long)l->counts->sent, (unsigned long long)l->counts->received,
	       latency_at_us(l->interval, 0.99), latency_at_us(l->interval, 1));
	latency_move(l->interval, l->latency);
	return fflush(stdout) == 0 ? 0 : err_sys(&l->err, "reporting");
}

static void start_measuring(struct load *l)
{
	l->measuring = true;
	l->before = l->counts->received;
	traffic_measure(l->traffic, l->interval != NULL ? l->interval : l->latency);
	read_probes(l, -1);
}

/* ret_s: what was measured. */
static int generate(struct load *l, double *ret_s)
{
	uint64_t begin = measure_now_ns() + (uint64_t)(l->warmup_s * 1e9), now;
	uint64_t end = begin + (uint64_t)(l->duration_s * 1e9);
	l->due_ns = l->start_ns = measure_now_ns();
	l->report_ns = begin + (uint64_t)(l->interval_s * 1e9);
	l->step_ns = l->rate > 0 ? (uint64_t)(1e9 / l->rate) : 0;
	while ((now = measure_now_ns()) < end) {
		if (!l->measuring && now >= begin) {
			start_measuring(l);
			begin = now;
		}
		int rc = report_interval(l, now);
		if (rc == 0)
			rc = send_due(l);
		if (rc >= 0)
			rc = traffic_take(l->traffic, pause_ns(l, rc), &l->err);
		if (rc < 0)
			return rc;
	}
	*ret_s = (double)(measure_now_ns() - begin) / 1e9;
	traffic_measure(l->traffic, NULL);
	read_probes(l, 1);
	if (l->interval != NULL)
		latency_move(l->interval, l->latency);
	return 0;
}

/* ---- the frame ---- */

static int report(struct load *l, double seconds, uint64_t measured)
{
	const struct traffic_counts *c = l->counts;
	json_auto_t *cpu = json_object();
	for (size_t i = 0; i < l->n_probes; i++) {
		double each_us = measured > 0 ? l->probes[i].used_s * 1e6 / (double)measured : 0;
		if (json_object_set_new(cpu, l->probes[i].name, json_real(each_us)) < 0)
			return err_set(&l->err, ERR_NOMEM, "report");
	}
	json_auto_t *doc =
		json_pack("{s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:O}", "msgs_s",
			  (double)measured / seconds, "p50_us", latency_at_us(l->latency, 0.5),
			  "p99_us", latency_at_us(l->latency, 0.99), "p999_us",
			  latency_at_us(l->latency, 0.999), "max_us", latency_at_us(l->latency, 1),
			  "sent", (json_int_t)c->sent, "lost", (json_int_t)(c->sent - c->received),
			  "duplicated", (json_int_t)c->duplicated, "out_of_order",
			  (json_int_t)c->disordered, "wrong", (json_int_t)c->wrong, "cpu_us", cpu);
	if (doc == NULL || json_dumpf(doc, stdout, JSON_COMPACT) < 0)
		return err_set(&l->err, ERR_NOMEM, "report");
	printf("\n");
	return 0;
}

static int run(struct load *l)
{
	double seconds = 0;
	l->latency = latency_new();
	l->interval = l->interval_s > 0 ? latency_new() : NULL;
	if (l->latency == NULL || (l->interval_s > 0 && l->interval == NULL))
		return err_set(&l->err, ERR_NOMEM, "starting");
	int rc = traffic_open(&l->conf, &l->traffic, &l->err);
	if (rc == 0 && l->conf.inputs > 1)
		rc = traffic_prime(l->traffic, &l->err);
	if (rc < 0)
		return rc;
	l->counts = traffic_counts(l->traffic);
	rc = generate(l, &seconds);
	uint64_t measured = l->counts->received - l->before;
	if (rc == 0)
		rc = traffic_drain(l->traffic, SILENCE_NS, DRAIN_NS, &l->err);
	return rc == 0 ? report(l, seconds, measured) : rc;
}

/* NAME=PID[,PID...]; text is cut up. */
static int add_probe(struct load *l, char *text)
{
	char *list = strchr(text, '=');
	if (list == NULL || l->n_probes == PROBES_MAX)
		return ERR_INVAL;
	struct probe *p = &l->probes[l->n_probes++];
	*list++ = '\0';
	p->name = text;
	for (char *save, *word = strtok_r(list, ",", &save); word != NULL;
	     word = strtok_r(NULL, ",", &save)) {
		if (p->n == PIDS_MAX)
			return ERR_INVAL;
		p->pids[p->n++] = (int)strtol(word, NULL, 10);
	}
	return 0;
}

static int take_option(struct load *l, int option, char *text)
{
	const struct {
		char name;
		unsigned *number;
		double *real;
	} rows[] = {
		{'p', &l->conf.port, NULL},        {'q', &l->conf.qos, NULL},
		{'w', &l->window, NULL},           {'j', &l->conf.inputs, NULL},
		{'k', &l->conf.connections, NULL}, {'r', NULL, &l->rate},
		{'d', NULL, &l->duration_s},       {'W', NULL, &l->warmup_s},
		{'i', NULL, &l->interval_s},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].name != option)
			continue;
		if (rows[i].number != NULL)
			*rows[i].number = (unsigned)strtoul(text, NULL, 10);
		else
			*rows[i].real = strtod(text, NULL);
		return 0;
	}
	switch (option) {
	case 't':
		l->conf.topics_path = text;
		return 0;
	case 'b':
		l->conf.payload_bytes = strtoul(text, NULL, 10);
		return 0;
	case 'a':
		l->conf.factor = strtoll(text, NULL, 10);
		return 0;
	case 'o':
		l->conf.offset = strtoll(text, NULL, 10);
		return 0;
	case 'C':
		return add_probe(l, text);
	default:
		return ERR_INVAL;
	}
}

static int read_options(struct load *l, int argc, char *argv[])
{
	int option, rc = 0;
	while (rc == 0 && (option = getopt(argc, argv, "p:t:q:w:r:d:W:a:o:b:k:j:C:i:")) >= 0)
		rc = take_option(l, option, optarg);
	const struct traffic_conf *c = &l->conf;
	bool usable = rc == 0 && optind == argc && c->port > 0 && c->port < 65536 &&
		      c->topics_path != NULL && c->qos <= 2 && c->inputs > 0 && c->factor > 0 &&
		      l->window > 0 && l->window <= 65536 && l->rate >= 0 && l->duration_s > 0 &&
		      l->warmup_s >= 0 && l->interval_s >= 0;
	return usable ? 0
		      : err_set(&l->err, ERR_INVAL, "usage: see the head of tests/bench/load.c");
}

int main(int argc, char *argv[])
{
	struct load l = {.conf = {.inputs = 1, .factor = 1},
			 .window = 100,
			 .duration_s = 2,
			 .warmup_s = 0.5,
			 .probes = {{.name = "load", .pids = {getpid()}, .n = 1}},
			 .n_probes = 1};
	int rc = read_options(&l, argc, argv);
	if (rc == 0)
		rc = run(&l);
	if (rc < 0)
		fprintf(stderr, "load: %s\n", l.err.text[0] != '\0' ? l.err.text : err_name(rc));
	traffic_close(l.traffic);
	latency_free(l.latency);
	latency_free(l.interval);
	return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
