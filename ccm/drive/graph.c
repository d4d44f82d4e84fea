#include "ccm/drive/graph.h"

#include "ccm/drive/diff.h"
#include "ccm/gui/gui.h"
#include "common/log.h"
#include "common/util.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BACKOFF_MIN_MS 500
#define BACKOFF_MAX_MS 120000
#define ANSWER_EXTRA_MS 2000	      /* beyond what csm waits for an agent */
#define SOURCES_BYTES (256 * 1024) /* in one add_funcs, unless one alone has more */

/* ---- talking ---- */

static int ask(struct graph *g, json_t *request, struct err *err)
{
	struct ref_text ref = {""};
	char rest[40];
	snprintf(rest, sizeof(rest), "/graph/%s", g->id);
	json_t *kept = json_incref(request);
	int rc = drive_send(g->drive, rest, request, &ref, err);
	if (rc == 0 && json_object_set(g->asked, ref.s, kept) < 0)
		rc = err_set(err, ERR_NOMEM, "graph %s", g->id);
	json_decref(kept);
	g->sent_ms = loop_now_ms(g->drive->ccm->loop);
	return rc;
}

static unsigned answer_ms(const struct graph *g)
{
	return (unsigned)g->drive->ccm->settings->core.agent_timeout_ms + ANSWER_EXTRA_MS;
}

static void log_failure(const struct graph *g, const char *what, const char *why)
{
	log_warn("drive.failed", KV("graph", g->id), KV("what", what), KV("why", why));
}

/* ---- watchers ---- */

static struct watcher **find_watcher(struct graph *g, const char *uuid)
{
	struct watcher **at = &g->watchers;
	while (*at != NULL && strcmp((*at)->uuid, uuid) != 0)
		at = &(*at)->next;
	return at;
}

int graph_watch(struct graph *g, const char *uuid)
{
	struct watcher *w = *find_watcher(g, uuid);
	if (w == NULL) {
		size_t size = strlen(uuid) + 1;
		w = calloc(1, sizeof(*w) + size);
		if (w == NULL)
			return ERR_NOMEM;
		memcpy(w->uuid, uuid, size);
		w->next = g->watchers;
		g->watchers = w;
	}
	w->told = false;
	return 0;
}

bool graph_unwatch(struct graph *g, const char *uuid)
{
	struct watcher **at = find_watcher(g, uuid), *w = *at;
	if (w == NULL)
		return false;
	*at = w->next;
	free(w);
	return true;
}

/* An empty topic: there is nothing to see. */
static void tell_watchers(struct graph *g)
{
	for (struct watcher *w = g->watchers; w != NULL; w = w->next) {
		if (w->told && strcmp(w->topic, g->monitor) == 0)
			continue;
		w->told = true;
		snprintf(w->topic, sizeof(w->topic), "%s", g->monitor);
		gui_tell(g->drive->ccm->gui, w->uuid, "monitor_anno", json_string(g->monitor));
	}
}

/* ---- the pass ---- */

static void note_repair(struct graph *g)
{
	struct drive *d = g->drive;
	unsigned total = g->added + g->removed + g->changed + g->join + g->made + g->gone;
	if (total == 0)
		return;
	g->rev = -1;
	const struct kv what[] = {KV("links_added", g->added), KV("links_removed", g->removed), KV("functions", g->changed),
				  KV("join", g->join), KV("pending", g->pending)};
	const char *whole = g->gone ? "gone" : g->made ? "made" : "changed";
	if (g->cause == CAUSE_REPAIR) {
		d->repairs++;
		log_info("drive.repaired", KV("graph", g->id), KV("was", whole), what[0], what[1], what[2], what[3], what[4]);
	} else {
		d->changes++;
		log_info("drive.changed", KV("graph", g->id), KV("was", whole), what[0], what[1], what[2], what[3], what[4]);
	}
}

static void begin_pass(struct graph *g, enum graph_phase phase)
{
	json_object_clear(g->asked);
	g->phase = phase;
	g->failed = g->pending = g->made = g->gone = g->unknown_function = g->join = false;
	g->added = g->removed = g->changed = 0;
	loop_arm(g->drive->ccm->loop, g->timer, answer_ms(g));
}

static void back_off(struct graph *g)
{
	struct drive *d = g->drive;
	g->backoff_ms = g->backoff_ms == 0 ? BACKOFF_MIN_MS : g->backoff_ms * 2;
	if (g->backoff_ms > BACKOFF_MAX_MS)
		g->backoff_ms = BACKOFF_MAX_MS;
	g->backs_off = true;
	loop_arm(d->ccm->loop, g->timer, g->backoff_ms);
}

static void end_pass(struct graph *g)
{
	bool again = g->dirty;
	g->phase = GRAPH_IDLE;
	json_object_clear(g->asked);
	loop_arm(g->drive->ccm->loop, g->timer, -1);
	if (!g->failed)
		note_repair(g);
	if (g->unknown_function) {
		/* csm has forgotten functions that it was given: it gets all of them anew */
		json_object_clear(g->drive->added);
	}
	if (g->failed && !again)
		back_off(g);
	else if (!g->failed)
		g->backoff_ms = 0;
	graph_is_done(g, again);
}

static void fail(struct graph *g, const char *what, const char *why)
{
	log_failure(g, what, why);
	g->failed = true;
	end_pass(g);
}

void graph_abandon(struct graph *g)
{
	if (g->phase != GRAPH_ASKING && g->phase != GRAPH_CHANGING)
		return;
	g->dirty = g->failed = true;
	end_pass(g);
}

static void on_timer(void *arg)
{
	struct graph *g = arg;
	struct drive *d = g->drive;
	if (g->phase == GRAPH_IDLE) {
		g->backs_off = false;
		graphs_touch(d, g->na_id, CAUSE_REPAIR);
	} else if (d->silent) {
		loop_arm(d->ccm->loop, g->timer, answer_ms(g)); /* nobody answers: more of the same would not help */
	} else {
		fail(g, g->phase == GRAPH_ASKING ? "attach" : "changes", "csm did not answer");
	}
}

/* ---- functions ---- */

struct gathering {
	struct graph *g;
	const json_t *sources;
	json_t *codes, *digests;
	size_t bytes;
	int rc;
	struct err *err;
};

static int give_functions(struct gathering *a)
{
	if (json_array_size(a->digests) == 0)
		return 0;
	json_t *request = json_pack("{s:s, s:O, s:O}", "op", "add_funcs", "codes", a->codes, "digests", a->digests);
	int rc = ask(a->g, request, a->err);
	json_decref(a->codes);
	json_decref(a->digests);
	a->codes = json_array();
	a->digests = json_array();
	a->bytes = 0;
	return rc;
}

static void gather(void *arg, const char *digest)
{
	struct gathering *a = arg;
	struct drive *d = a->g->drive;
	json_t *source = json_object_get(a->sources, digest);
	if (a->rc < 0 || source == NULL || json_object_get(d->added, digest) != NULL)
		return;
	if (a->bytes > 0 && a->bytes + json_string_length(source) > SOURCES_BYTES)
		a->rc = give_functions(a);
	a->bytes += json_string_length(source);
	if (a->rc == 0 && (json_array_append(a->codes, source) < 0 || json_array_append_new(a->digests, json_string(digest)) < 0 ||
			   json_object_set_new(d->added, digest, json_true()) < 0))
		a->rc = err_set(a->err, ERR_NOMEM, "functions");
	d->added_ms = loop_now_ms(d->ccm->loop);
}

/* The functions of all requests that csm may not have. */
static int send_functions(struct graph *g, const json_t *requests, const json_t *sources, struct err *err)
{
	struct gathering a = {.g = g, .sources = sources, .codes = json_array(), .digests = json_array(), .err = err};
	size_t i;
	json_t *request;
	json_array_foreach (requests, i, request)
		diff_each_digest(request, gather, &a);
	int rc = a.rc < 0 ? a.rc : give_functions(&a);
	json_decref(a.codes);
	json_decref(a.digests);
	return rc;
}

/* ---- comparing ---- */

static int send_difference(struct graph *g, const struct wanted *w, const json_t *state, struct err *err)
{
	struct diff diff;
	size_t i;
	json_t *request;
	int rc = diff_graph(w, state, &diff, err);
	if (rc < 0)
		return rc;
	g->added = diff.added;
	g->removed = diff.removed;
	g->changed = diff.changed;
	g->join = diff.join;
	rc = send_functions(g, diff.requests, w->sources, err);
	json_array_foreach (diff.requests, i, request)
		if (rc == 0)
			rc = ask(g, json_incref(request), err);
	diff_done(&diff);
	bool monitored = g->monitor[0] != '\0';
	if (rc == 0 && monitored != (g->watchers != NULL))
		rc = ask(g, json_pack("{s:s}", "op", monitored ? "stop_monitor" : "start_monitor"), err);
	return rc;
}

static void take_topic(struct graph *g, const json_t *from)
{
	const json_t *topics = json_object_get(from, "monitor_topics");
	const char *topic = json_string_value(json_is_array(topics) ? json_array_get(topics, 0) : topics);
	snprintf(g->monitor, sizeof(g->monitor), "%s", topic != NULL ? topic : "");
}

/* It is of somebody else: its owner is part of what it is. */
static bool is_of_another(const struct wanted *w, const json_t *state)
{
	const char *owner = json_string_value(json_object_get(state, "owner"));
	return owner != NULL && strcmp(owner, w->owner) != 0;
}

static void on_attached(struct graph *g, const json_t *answer)
{
	const json_t *state = json_object_get(answer, "graph");
	struct wanted w;
	struct err err = {0};
	g->maybe_attached = true;
	g->made = state == NULL;
	g->rev = state != NULL ? json_integer_value(json_object_get(state, "rev")) : -1;
	take_topic(g, state);
	int rc = wanted_read(g->drive->ccm->db, g->na_id, &w, &err);
	if (rc < 0) {
		fail(g, "store", err.text);
		return;
	}
	if (!w.on || is_of_another(&w, state)) {
		if (w.on)
			rc = ask(g, json_pack("{s:s}", "op", "detach"), &err);
		g->dirty = true;
	} else {
		rc = send_difference(g, &w, state, &err);
	}
	wanted_done(&w);
	g->phase = GRAPH_CHANGING;
	if (rc < 0) {
		fail(g, "changes", err.text);
		return;
	}
	loop_arm(g->drive->ccm->loop, g->timer, answer_ms(g));
	if (json_object_size(g->asked) == 0) {
		tell_watchers(g);
		end_pass(g);
	}
}

/* csm does not know a function: somebody made it forget, or its store is another one. */
static bool lacks_function(const char *reason)
{
	return strstr(reason, "Function unknown") != NULL || strstr(reason, "New function not found") != NULL ||
	       strstr(reason, "dependency ") != NULL;
}

static void on_refused(struct graph *g, const json_t *request, const char *op, const char *reason)
{
	const char *da_id = json_string_value(json_object_get(request, "da_id"));
	const char *idf = json_string_value(json_object_get(request, "idf")), *odf = json_string_value(json_object_get(request, "odf"));
	g->failed = true;
	g->drive->refusals++;
	if (lacks_function(reason))
		g->unknown_function = true;
	log_warn("drive.refused", KV("graph", g->id), KV("op", op), KV("device", da_id), KV("feature", idf != NULL ? idf : odf),
		 KV("why", reason));
}

static void on_answer(struct graph *g, const json_t *request, const json_t *answer)
{
	const char *reason = NULL, *op = json_string_value(json_object_get(request, "op"));
	bool ok = answer_is_ok(answer, &reason);
	if (json_is_true(json_object_get(answer, "pending")))
		g->pending = true;
	if (strcmp(op, "detach") == 0) {
		/* what is not there is gone, too */
		if (ok || strstr(reason, "Unknown graph id") != NULL) {
			g->maybe_attached = false;
			g->gone = ok;
			g->monitor[0] = '\0';
		} else {
			on_refused(g, request, op, reason);
		}
	} else if (!ok) {
		on_refused(g, request, op, reason);
	} else if (strcmp(op, "start_monitor") == 0) {
		take_topic(g, answer);
	} else if (strcmp(op, "stop_monitor") == 0) {
		g->monitor[0] = '\0';
	}
}

void graph_on_answer(struct graph *g, json_t *answer)
{
	const char *ref = json_string_value(json_object_get(answer, "ref")), *reason;
	json_auto_t *request = ref != NULL ? json_incref(json_object_get(g->asked, ref)) : NULL;
	if (request == NULL)
		return; /* of a pass that was given up */
	json_object_del(g->asked, ref);
	if (g->phase == GRAPH_ASKING && strcmp(json_string_value(json_object_get(request, "op")), "attach") == 0) {
		if (answer_is_ok(answer, &reason))
			on_attached(g, answer);
		else
			fail(g, "attach", reason);
		return;
	}
	on_answer(g, request, answer);
	if (json_object_size(g->asked) > 0)
		return;
	tell_watchers(g);
	end_pass(g);
}

/* ---- life ---- */

bool graph_begin(struct graph *g)
{
	struct wanted w;
	struct err err = {0};
	g->dirty = g->backs_off = false;
	begin_pass(g, GRAPH_ASKING);
	int rc = wanted_peek(g->drive->ccm->db, g->na_id, &w, &err);
	if (rc == 0) {
		g->p_id = w.p_id != 0 ? w.p_id : g->p_id;
		g->running = w.on;
		if (!w.on && !g->maybe_attached) {
			loop_arm(g->drive->ccm->loop, g->timer, -1);
			g->phase = GRAPH_IDLE;
			tell_watchers(g);
			return false;
		}
		rc = ask(g, w.on ? json_pack("{s:s, s:s}", "op", "attach", "owner", w.owner) : json_pack("{s:s}", "op", "detach"), &err);
	}
	if (rc < 0)
		fail(g, "begin", err.text);
	return true;
}

struct graph *graph_new(struct drive *d, int64_t na_id)
{
	struct graph *g = calloc(1, sizeof(*g));
	if (g == NULL)
		return NULL;
	g->drive = d;
	g->na_id = na_id;
	g->rev = -1;
	g->cause = CAUSE_REPAIR;
	g->maybe_attached = !d->knows_graphs;
	snprintf(g->id, sizeof(g->id), "%" PRId64, na_id);
	g->asked = json_object();
	if (g->asked == NULL || loop_add_timer(d->ccm->loop, -1, 0, on_timer, g, &g->timer, NULL) < 0)
		return graph_free(g);
	return g;
}

struct graph *graph_free(struct graph *g)
{
	if (g == NULL)
		return NULL;
	for (struct watcher *w = g->watchers, *next; w != NULL; w = next) {
		next = w->next;
		free(w);
	}
	loop_remove(g->drive->ccm->loop, g->timer);
	json_decref(g->asked);
	free(g);
	return NULL;
}
