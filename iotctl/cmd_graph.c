/* cmd_graph.c - iotctl graph: what the agent's graphs do, and the word that runs quarantined
 * functions again. */
#include "common/util.h"
#include "iotctl/show.h"
#include <stdio.h>
#include <string.h>

#define ASK_MS 10000

/* Ask the agent. ret: EXIT_OK and *ret_answer, or told already. */
static int ask(const struct iotctl *app, const char *op, const char *graph, json_t **ret_answer)
{
	return ask_daemon(app, "graph", "agent", json_pack("{s:s, s:s*}", "op", op, "graph", graph),
			  ASK_MS, ret_answer);
}

/* ---- list ---- */

static int by_id(const void *a, const void *b)
{
	return strcmp(text_of(*(json_t *const *)a, "id"), text_of(*(json_t *const *)b, "id"));
}

static void print_row(json_t *g, int id_width, int owner_width)
{
	char rev[32], engine[32], rate[32], p50[32], p99[32], dropped[32];

	printf("%-*s %-*s %6s %-11s %7s %10s %8s %8s %8s\n", bytes_of(id_width, text_of(g, "id")),
	       text_of(g, "id"), bytes_of(owner_width, text_of(g, "owner")), text_of(g, "owner"),
	       number_of(g, "rev", rev), text_of(g, "state"), number_of(g, "pid", engine),
	       number_of(g, "per_s", rate), number_of(g, "p50_us", p50),
	       number_of(g, "p99_us", p99), number_of(g, "dropped", dropped));
	if (json_object_get(g, "reason") != NULL)
		printf("    %s\n", text_of(g, "reason"));
}

static int graph_list(const struct iotctl *app, const char *graph, bool as_json)
{
	json_auto_t *answer = NULL;
	int rc = ask(app, "graphs", NULL, &answer);
	json_t *list = json_object_get(answer, "graphs");
	size_t n = json_array_size(list);

	(void)graph;
	if (rc != EXIT_OK)
		return rc;
	CLEANUP(freep)
	json_t **rows = calloc(n + 1, sizeof(json_t *));
	if (rows == NULL)
		return complain("graph: out of memory");
	for (size_t i = 0; i < n; i++)
		rows[i] = json_array_get(list, i);
	qsort(rows, n, sizeof(json_t *), by_id);
	if (as_json) {
		json_auto_t *sorted = json_array();

		for (size_t i = 0; i < n; i++)
			json_array_append(sorted, rows[i]);
		json_auto_t *all = json_pack("{s:O}", "graphs", sorted);

		return print_json(all);
	}
	int id_width = width_of(list, "id", 24), owner_width = width_of(list, "owner", 16);

	printf("%-*s %-*s %6s %-11s %7s %10s %8s %8s %8s\n", id_width, "graph", owner_width,
	       "owner", "rev", "state", "engine", "per s", "p50 us", "p99 us", "dropped");
	for (size_t i = 0; i < n; i++)
		print_row(rows[i], id_width, owner_width);
	return EXIT_OK;
}

/* ---- show ---- */

static void print_link(json_t *link)
{
	char received[32], full[32], large[32];

	printf("  %-4s %-14s %-36s func %-12s %s\n", text_of(link, "mode"),
	       text_of(link, "feature"), text_of(link, "da_id"), text_of(link, "func"),
	       json_object_get(link, "state") != NULL ? text_of(link, "state") : "");
	printf("       %s\n", text_of(link, "topic"));
	if (json_object_get(link, "received") != NULL)
		printf("       received %s, dropped: ring full %s, too large %s\n",
		       number_of(link, "received", received), number_of(link, "dropped_full", full),
		       number_of(link, "dropped_too_large", large));
}

static void print_strike(json_t *use)
{
	char lid[32], strikes[32], last[32];

	if (json_object_get(use, "quarantined") != NULL &&
	    !json_is_null(json_object_get(use, "quarantined")))
		printf("  %s function of link %s: %s\n", text_of(use, "kind"),
		       number_of(use, "lid", lid), text_of(use, "quarantined"));
	else
		printf("  %s function of link %s: %s strikes, the last one %s s ago\n",
		       text_of(use, "kind"), number_of(use, "lid", lid),
		       number_of(use, "strikes", strikes), number_of(use, "last_s", last));
}

static void print_numbers(json_t *g)
{
	static const struct {
		const char *name, *key, *unit;
	} rows[] = {
		{"evaluated", "evaluated", ""}, {"rate", "per_s", " per s"},
		{"p50", "p50_us", " us"},       {"p99", "p99_us", " us"},
		{"failures", "failed", ""},     {"memory", "memory_bytes", " bytes"},
		{"dropped", "dropped", ""},
	};
	const char *reason;
	char buf[32];
	json_t *n;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (json_object_get(g, rows[i].key) != NULL)
			printf("%-10s %s%s\n", rows[i].name, number_of(g, rows[i].key, buf),
			       rows[i].unit);
	json_object_foreach (json_object_get(g, "drops"), reason, n)
		printf("           %-20s %lld\n", reason, (long long)json_integer_value(n));
}

static int graph_show(const struct iotctl *app, const char *graph, bool as_json)
{
	json_auto_t *answer = NULL;
	int rc = ask(app, "graph", graph, &answer);
	json_t *g = json_object_get(answer, "graph"), *item;
	char buf[32];
	size_t i;

	if (rc != EXIT_OK)
		return rc;
	if (as_json)
		return print_json(g);
	printf("%-10s %s\n%-10s %s\n%-10s %s\n", "graph", text_of(g, "id"), "owner",
	       text_of(g, "owner"), "revision", number_of(g, "rev", buf));
	printf("%-10s %s\n", "state", text_of(g, "state"));
	if (json_object_get(g, "reason") != NULL)
		printf("%-10s %s\n", "reason", text_of(g, "reason"));
	printf("%-10s %s, pid %s%s\n", "engine", text_of(g, "engine"), number_of(g, "pid", buf),
	       json_is_true(json_object_get(g, "apart")) ? ", its own" : "");
	print_numbers(g);
	printf("%-10s %s\n", "join", text_of(g, "join"));
	puts("links");
	json_array_foreach (json_object_get(g, "links"), i, item)
		print_link(item);
	if (json_array_size(json_object_get(g, "strikes")) > 0)
		puts("strikes");
	json_array_foreach (json_object_get(g, "strikes"), i, item)
		print_strike(item);
	return EXIT_OK;
}

/* ---- release ---- */

static int graph_release(const struct iotctl *app, const char *graph, bool as_json)
{
	json_auto_t *answer = NULL;
	int rc = ask(app, "release", graph, &answer);
	json_int_t n = json_integer_value(json_object_get(answer, "released"));

	if (rc != EXIT_OK)
		return rc;
	if (as_json) {
		json_auto_t *told = json_pack("{s:s, s:I}", "graph", graph, "released", n);

		return print_json(told);
	}
	if (n == 0)
		printf("no function of %s is quarantined\n", graph);
	else
		printf("%lld function%s of %s run%s again\n", (long long)n, n == 1 ? "" : "s",
		       graph, n == 1 ? "s" : "");
	return EXIT_OK;
}

static const struct {
	const char *name;
	bool names_graph;
	int (*run)(const struct iotctl *app, const char *graph, bool as_json);
} actions[] = {
	{"list", false, graph_list},
	{"show", true, graph_show},
	{"release", true, graph_release},
};

int cmd_graph(struct iotctl *app, const struct options *o)
{
	int argc = o->argc;
	char *const *argv = o->argv;

	if (argc == 0)
		return misused("graph: list, show GRAPH or release GRAPH?");
	for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
		if (strcmp(argv[0], actions[i].name) != 0)
			continue;
		if (argc != (actions[i].names_graph ? 2 : 1))
			return misused("graph: %s takes %s", argv[0],
				       actions[i].names_graph ? "the id of one graph (CLIENT/GRAPH)"
							      : "no further argument");
		if (iotctl_settings(app) < 0 || iotctl_look(app) < 0)
			return EXIT_ERROR;
		return actions[i].run(app, argv[1], options_has(o, "json"));
	}
	return misused("graph: '%s' is none of list, show, release", argv[0]);
}
