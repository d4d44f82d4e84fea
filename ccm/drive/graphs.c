/* graphs.c - which graphs there are, and whose turn it is. */
#include "ccm/drive/graph.h"

#include "ccm/query.h"
#include "common/log.h"
#include "common/util.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BUSY_MAX	32   /* passes under way at a time */
#define FORGET_AFTER_MS 3000 /* without a change: then csm may forget what nobody uses */
#define DIGESTS_MAX	1000 /* in one message */

static struct graph *find(const struct drive *d, int64_t na_id)
{
	char id[24];
	snprintf(id, sizeof(id), "%" PRId64, na_id);
	return map_find(d->graphs, id);
}

void graphs_lost(struct drive *d, const char *why)
{
	if (log_allowed("drive.lost", ""))
		log_error("drive.lost", KV("why", why));
	d->lost_touch = true;
}

struct graph *graphs_get(struct drive *d, int64_t na_id)
{
	struct graph *g = find(d, na_id);
	if (g != NULL)
		return g;
	g = graph_new(d, na_id);
	if (g != NULL && map_add(d->graphs, g->id, g) < 0)
		g = graph_free(g);
	if (g == NULL)
		graphs_lost(d, "out of memory");
	return g;
}

static void drop(struct graph *g)
{
	map_remove(g->drive->graphs, g->id);
	graph_free(g);
}

static bool is_of_use(const struct graph *g)
{
	return g->running || g->maybe_attached || g->watchers != NULL || g->backs_off || g->phase != GRAPH_IDLE;
}

/* ---- turns ---- */

static void enqueue(struct graph *g)
{
	struct drive *d = g->drive;
	g->phase = GRAPH_WAITS;
	g->next = NULL;
	*d->last_next = g;
	d->last_next = &g->next;
	d->waiting++;
}

void graphs_pump(struct drive *d)
{
	while (drive_ready(d) && !d->silent && d->held == 0 && d->busy < BUSY_MAX && d->next != NULL) {
		struct graph *g = d->next;
		d->next = g->next;
		if (d->next == NULL)
			d->last_next = &d->next;
		d->waiting--;
		d->busy++;
		if (graph_begin(g))
			continue;
		d->busy--;
		if (!is_of_use(g))
			drop(g);
	}
}

void graph_is_done(struct graph *g, bool again)
{
	struct drive *d = g->drive;
	d->busy--;
	if (again)
		enqueue(g);
	else if (!is_of_use(g))
		drop(g);
	else
		g->cause = CAUSE_REPAIR; /* what comes without a touch */
	graphs_pump(d);
}

void graphs_touch(struct drive *d, int64_t na_id, enum graph_cause cause)
{
	struct graph *g = graphs_get(d, na_id);
	if (g == NULL)
		return;
	if (cause == CAUSE_CHANGE) {
		g->cause = cause;
		g->backoff_ms = 0; /* what failed may be what was changed */
	}
	if (g->phase == GRAPH_IDLE)
		enqueue(g);
	else if (g->phase != GRAPH_WAITS)
		g->dirty = true;
	graphs_pump(d);
}

void graphs_hold(struct drive *d)
{
	d->held++;
}

void graphs_release(struct drive *d)
{
	d->held--;
	graphs_pump(d);
}

static int touch_row(void *arg, const struct db_value *v, size_t n)
{
	(void)n;
	graphs_touch(arg, v[0].num, CAUSE_REPAIR);
	return 0;
}

static void touch_one(void *arg, const char *key, void *value)
{
	struct graph *g = value;
	(void)key;
	(void)arg;
	if (g->phase == GRAPH_IDLE)
		enqueue(g);
}

void graphs_touch_running(struct drive *d)
{
	struct err err = {0};
	d->lost_touch = false;
	graphs_hold(d);
	map_each(d->graphs, touch_one, NULL);
	if (db_run(d->ccm->db, &err, touch_row, d,
		   "SELECT n.na_id FROM Project p JOIN NetworkApplication n ON n.p_id = p.p_id WHERE p.status = 'on'") < 0)
		graphs_lost(d, err.text);
	graphs_release(d);
}

/* ---- what csm says ---- */

void graphs_on_answer(struct drive *d, const char *id, json_t *answer)
{
	struct graph *g = map_find(d->graphs, id);
	const char *op = json_string_value(json_object_get(answer, "op")), *reason;
	if (g == NULL || op == NULL)
		return;
	if (strcmp(op, "anno") != 0) {
		graph_on_answer(g, answer);
		return;
	}
	/* a change that was answered as pending was refused after all, or a function was stopped: csm's state tells what is left */
	if (!answer_is_ok(answer, &reason))
		log_warn("drive.refused", KV("graph", g->id), KV("op", "anno"), KV("why", reason));
	graphs_touch(d, g->na_id, CAUSE_REPAIR);
}

static void abandon(struct drive *d)
{
	CLEANUP(freep) void **all = map_values(d->graphs);
	graphs_hold(d);
	for (size_t i = 0; all != NULL && all[i] != NULL; i++)
		graph_abandon(all[i]);
	graphs_release(d);
}

void graphs_on_down(struct drive *d)
{
	abandon(d);
	json_object_clear(d->added);
}

void graphs_on_back(struct drive *d)
{
	json_object_clear(d->added);
	abandon(d);
}

struct comparing {
	struct drive *d;
	const json_t *listed;
};

static void compare(void *arg, const char *key, void *value)
{
	struct comparing *c = arg;
	struct graph *g = value;
	const json_t *rev = json_object_get(c->listed, key);
	if (g->phase != GRAPH_IDLE || g->backs_off)
		return;
	bool is_there = rev != NULL;
	g->maybe_attached = is_there;
	if (is_there != g->running || (is_there && json_integer_value(rev) != g->rev))
		enqueue(g);
}

/* ret: 0: it is none of ours */
static int64_t number_of(const char *id)
{
	char *end;
	errno = 0;
	long long n = strtoll(id, &end, 10);
	char back[24];
	snprintf(back, sizeof(back), "%lld", n);
	return errno == 0 && n > 0 && *end == '\0' && strcmp(back, id) == 0 ? n : 0;
}

void graphs_on_list(struct drive *d, const json_t *listed)
{
	struct comparing c = {.d = d, .listed = listed};
	const char *id;
	json_t *rev;
	map_each(d->graphs, compare, &c);
	json_object_foreach ((json_t *)listed, id, rev) {
		int64_t na_id = number_of(id);
		if (na_id == 0 || map_find(d->graphs, id) != NULL)
			continue;
		struct graph *g = graphs_get(d, na_id); /* of a store that was put back, or of a moment before we died */
		if (g == NULL)
			continue;
		g->maybe_attached = true;
		enqueue(g);
	}
	d->knows_graphs = true;
	graphs_pump(d);
}

/* All that is in use stays until it no longer is: so csm keeps nothing that nobody runs. */
void graphs_forget_functions(struct drive *d)
{
	struct err err = {0};
	struct ref_text ref = {""};
	const char *digest;
	json_t *value;
	void *next;
	if (d->busy > 0 || d->next != NULL || json_object_size(d->added) == 0 ||
	    loop_now_ms(d->ccm->loop) - d->added_ms < FORGET_AFTER_MS)
		return;
	json_t *digests = json_array();
	json_object_foreach_safe (d->added, next, digest, value) {
		if (json_array_size(digests) >= DIGESTS_MAX)
			break;
		json_array_append_new(digests, json_string(digest));
		json_object_del(d->added, digest);
	}
	if (drive_send(d, "/graph/" DRIVE_TOOLS, json_pack("{s:s}", "op", "attach"), &ref, &err) < 0 ||
	    drive_send(d, "/graph/" DRIVE_TOOLS, json_pack("{s:s, s:O}", "op", "rm_funcs", "digests", digests), &ref, &err) < 0)
		log_warn("drive.not_sent", KV("what", "rm_funcs"), KV("why", err.text));
	json_decref(digests);
}

/* ---- life ---- */

int graphs_start(struct drive *d, struct err *err)
{
	d->graphs = map_new();
	d->added = json_object();
	d->last_next = &d->next;
	return d->graphs != NULL && d->added != NULL ? 0 : err_set(err, ERR_NOMEM, "graphs");
}

static void free_graph(void *value)
{
	graph_free(value);
}

void graphs_stop(struct drive *d)
{
	d->graphs = map_free(d->graphs, free_graph);
	json_decref(d->added);
	d->added = NULL;
	d->next = NULL;
	d->last_next = &d->next;
}
