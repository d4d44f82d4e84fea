/* eval_bench - what a numeric message costs inside an engine: eval_message() with a sink that
 *counts.
 *
 *	eval_bench			all cases: nanoseconds for each message, memory for each
 *graph eval_bench -c CASE		only the number of nanoseconds of this case, for scripts -n
 *MESSAGES	how many (default 500000) -g GRAPHS	so many copies of the case's graph, fed in
 *turn (default 1) -m		print, in place of the nanoseconds, the bytes that each graph keeps
 *resident
 */
#include "common/id.h"
#include "common/util.h"
#include "engine/eval.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAYLOAD_MAX 4096u
#define ADD_ONE     "def run(x):\n    return x + 1\n"

struct bench_case {
	const char *name;
	const char *idf, *join, *odf; /* sources; NULL: none */
	int param_no;                 /* of both ends; -1: none */
	const char *payload[4];
};

static const struct bench_case cases[] = {
	{"pass", NULL, NULL, NULL, -1, {"[7]", "[23.5]", "[-1]", "[1e3]"}},
	{"pass-param", NULL, NULL, NULL, 1, {"[7]", "[23.5]", "[-1]", "[1e3]"}},
	{"pass-three", NULL, NULL, NULL, 3, {"[1,2.5,-3]", "[4,5,6]", "[0.1,0.2,0.3]", "[1,2,3]"}},
	{"join", NULL, ADD_ONE, NULL, 1, {"[7]", "[23.5]", "[-1]", "[1e3]"}},
	{"all", ADD_ONE, ADD_ONE, ADD_ONE, -1, {"[7]", "[23.5]", "[-1]", "[1e3]"}},
	{"all-param", ADD_ONE, ADD_ONE, ADD_ONE, 1, {"7", "[23.5]", "[-1]", "[1e3]"}},
	{"digits",
	 NULL,
	 "def run(x):\n    return x / 3\n",
	 NULL,
	 1,
	 {"[23.45678901234567]", "[0.1234567890123456]", "[98.76543210987654]", "[1.23456789e-3]"}},
};

struct world {
	struct py *py;
	struct graphs graphs;
	struct eval eval;
	struct text why;
	bool unique; /* sources */
	uint64_t results, result_bytes;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "eval_bench: %s: %s\n", what, why);
	exit(EXIT_FAILURE);
}

static int on_publish(void *arg, const struct tap_rec *rec, const char *payload)
{
	struct world *w = arg;
	(void)payload;
	w->results++;
	w->result_bytes += rec->len;
	return 0;
}

static void on_doing(void *arg, uint64_t what)
{
	(void)arg;
	(void)what;
}

static void on_fault(void *arg, const struct link *link, const struct graph *graph,
		     enum tap_kind kind, const char *msg, size_t len, const char *strike)
{
	(void)arg;
	(void)link;
	(void)graph;
	(void)kind;
	(void)strike;
	fprintf(stderr, "eval_bench: a function failed: %.*s\n", (int)len, msg);
	exit(EXIT_FAILURE);
}

/* The digest of a source, which is put into funcs; null for none. number: of what differs from
 * others; 0: nothing does. */
static json_t *function(const char *source, unsigned number, json_t *funcs)
{
	char text[500];
	if (source == NULL)
		return json_null();
	int n = number > 0 ? snprintf(text, sizeof(text), "%s# %u\n", source, number)
			   : snprintf(text, sizeof(text), "%s", source);
	struct digest_text digest = sha256_hex(text, (size_t)n);
	json_object_set_new(funcs, digest.s, json_string(text));
	return json_string(digest.s);
}

static json_t *link_of(unsigned slot, const char *source, unsigned number, int param_no,
		       json_t *funcs)
{
	return json_pack("{s:i, s:i, s:s, s:s, s:o, s:o}", "lid", (int)slot, "slot", (int)slot,
			 "da_id", "df682f01-7c3a-49fd-8f5f-72ce0b6e68c0", "feature", "feature",
			 "func", function(source, number, funcs), "param_no",
			 param_no >= 0 ? json_integer(param_no) : json_null());
}

static void add_graph(struct world *w, const struct bench_case *c, unsigned i)
{
	char id[32];
	struct graph_where where;
	uint32_t number;
	unsigned differs = w->unique ? 3 * i + 1 : 0;
	json_auto_t *funcs = json_object();
	snprintf(id, sizeof(id), "bench/%u", i);
	json_auto_t *doc = json_pack(
		"{s:s, s:[o], s:{s:o}, s:[o]}", "id", id, "idf",
		link_of(2 * i, c->idf, differs, c->param_no, funcs), "join", "func",
		function(c->join, differs > 0 ? differs + 1 : 0, funcs), "odf",
		link_of(2 * i + 1, c->odf, differs > 0 ? differs + 2 : 0, c->param_no, funcs));
	if (graphs_put(&w->graphs, doc, funcs, &number, &where, &w->why) < 0)
		die(id, text_str(&w->why));
}

static void drop_graph(struct world *w, unsigned i)
{
	char id[32];
	snprintf(id, sizeof(id), "bench/%u", i);
	graphs_drop(&w->graphs, id);
}

static double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* others on the machine shall not count */
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Bytes resident now. */
static double resident(void)
{
	unsigned long all = 0, pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");
	if (f == NULL || fscanf(f, "%lu %lu", &all, &pages) != 2)
		die("/proc/self/statm", "not to be read");
	fclose(f);
	return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void send(struct world *w, const struct bench_case *c, size_t n, unsigned graphs)
{
	size_t len[ARRAY_LEN(c->payload)];
	for (size_t i = 0; i < ARRAY_LEN(c->payload); i++)
		len[i] = strlen(c->payload[i]);
	unsigned graph = 0;
	for (size_t i = 0; i < n; i++) {
		size_t k = i % ARRAY_LEN(c->payload);
		struct tap_rec rec = {.slot = 2 * graph, .qos = 1, .len = (uint32_t)len[k]};
		if (eval_message(&w->eval, &rec, c->payload[k]) < 0)
			die(c->name, "evaluation stopped");
		graph = graph + 1 < graphs ? graph + 1 : 0;
	}
}

/* Nanoseconds for each message; *ret_bytes for each graph. */
static double measure(struct world *w, const struct bench_case *c, size_t n, unsigned graphs,
		      double *ret_bytes)
{
	double before = resident();
	for (unsigned i = 0; i < graphs; i++)
		add_graph(w, c, i);
	*ret_bytes = (resident() - before) / graphs;
	send(w, c, n / 10 + 1, graphs); /* so that the interpreter has specialised its code */
	w->results = 0;
	double began = now_ns();
	send(w, c, n, graphs);
	double took = now_ns() - began;
	if (w->results != n)
		die(c->name, "results are missing");
	for (unsigned i = 0; i < graphs; i++)
		drop_graph(w, i);
	return n > 0 ? took / (double)n : 0;
}

int main(int argc, char *argv[])
{
	static struct world w;
	const struct eval_sink sink = {
		.publish = on_publish, .doing = on_doing, .fault = on_fault, .arg = &w};
	const char *only = NULL;
	size_t messages = 500000;
	unsigned graphs = 1;
	bool memory = false, found = false;
	struct err err = {0};
	int o;
	while ((o = getopt(argc, argv, "c:n:g:um")) != -1) {
		if (o == 'c')
			only = optarg;
		else if (o == 'n')
			messages = strtoul(optarg, NULL, 10);
		else if (o == 'g')
			graphs = (unsigned)strtoul(optarg, NULL, 10);
		else if (o == 'u')
			w.unique = true;
		else if (o == 'm')
			memory = true;
		else
			return EXIT_FAILURE;
	}
	if (graphs == 0)
		die("-g", "at least one graph");
	if (py_start(&w.py, &err) < 0 || graphs_init(&w.graphs, w.py, &err) < 0 ||
	    text_init(&w.why, PY_REASON_MAX, &err) < 0 ||
	    eval_init(&w.eval, w.py, &w.graphs, &sink, -1, PAYLOAD_MAX, &err) < 0)
		die("start", err.text);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		double bytes, ns;
		if (only != NULL && strcmp(only, cases[i].name) != 0)
			continue;
		found = true;
		ns = measure(&w, &cases[i], messages, graphs, &bytes);
		if (only != NULL)
			printf("%.1f\n", memory ? bytes : ns);
		else
			printf("%-12s %8.1f ns for each message, %7.0f bytes for each graph\n",
			       cases[i].name, ns, bytes);
	}
	if (!found)
		die("-c", "no such case");
	return 0;
}
