#include "agent/graph/graph.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define JOBS_MAX    64 /* waiting for one graph */
#define RELOADS_MAX 32 /* on their way to the engine at a time */

struct job {
	struct job *next;
	enum { JOB_PUT, JOB_DROP } kind;
	struct request_tag tag;
	bool answered;   /* somebody waits for tag */
	struct doc *doc; /* to put; NULL once it runs */
	json_int_t rev;
	struct sync *sync;
	size_t taken; /* links of doc that have their slot */
	bool monitor_taken;
};

static void graph_run(struct graph *g);

static int is_loading(enum graph_stage stage)
{
	return stage == GRAPH_TAPPING || stage == GRAPH_LOADING;
}

static void set_stage(struct graph *g, enum graph_stage stage)
{
	g->s->n_loading += is_loading(stage) - is_loading(g->stage);
	g->stage = stage;
}

struct graph *graph_find(struct service *s, const char *id)
{
	return map_find(s->by_id, id);
}

static struct graph *graph_new(struct service *s, const char *id)
{
	struct graph *g = calloc(1, sizeof(*g));

	if (g == NULL || (g->id = strdup(id)) == NULL || map_add(s->by_id, g->id, g) < 0) {
		if (g != NULL)
			free(g->id);
		free(g);
		return NULL;
	}
	g->asker.kind = ASKER_GRAPH;
	g->s = s;
	g->next = s->graphs;
	if (g->next != NULL)
		g->next->prev = g;
	s->graphs = g;
	return g;
}

static void job_free(struct job *job)
{
	doc_free(job->doc);
	free(job);
}

void graph_free(struct graph *g)
{
	struct service *s = g->s;

	if (s->reload_at == g)
		s->reload_at = g->next;
	if (g->prev != NULL)
		g->prev->next = g->next;
	else
		s->graphs = g->next;
	if (g->next != NULL)
		g->next->prev = g->prev;
	map_remove(s->by_id, g->id);
	while (g->first != NULL) {
		struct job *job = g->first;
		g->first = job->next;
		job_free(job);
	}
	set_stage(g, GRAPH_IDLE);
	doc_free(g->running);
	free(g->refused);
	free(g->id);
	free(g);
}

static void mark(void *arg, const char *digest)
{
	funcs_mark(arg, digest);
}

void graph_mark_funcs(struct graph *g)
{
	if (g->running != NULL)
		doc_each_digest(g->running, mark, g->s->funcs);
	for (const struct job *job = g->first; job != NULL; job = job->next)
		if (job->doc != NULL)
			doc_each_digest(job->doc, mark, g->s->funcs);
}

/* ---- topics of a document ---- */

static void on_tapped(void *arg, int rc)
{
	struct graph *g = arg;

	if (rc < 0)
		g->tap_rc = rc;
	if (--g->taps_waiting == 0)
		graph_run(g);
}

static void on_out(void *arg, int rc)
{
	struct graph *g = arg;

	if (rc < 0)
		g->tap_rc = rc;
	if (--g->outs_waiting == 0)
		graph_run(g);
}

static int take_out(struct graph *g, const char *topic, uint32_t *ret_slot, struct err *err)
{
	int rc = g->s->ops->out_topic(g->s->port, topic, ret_slot, on_out, g, err);

	if (rc == 0)
		g->outs_waiting++;
	return rc;
}

static int take_topics(struct graph *g, struct job *job, struct err *err)
{
	const struct transport_ops *ops = g->s->ops;
	struct transport_port *port = g->s->port;

	for (size_t i = 0; i < job->doc->n_links; i++) {
		struct doc_link *link = &job->doc->links[i];
		int rc = link->odf ? take_out(g, link->topic, &link->slot, err)
				   : ops->tap_topic(port, link->topic, &link->slot, on_tapped, g,
						    err);
		if (rc < 0)
			return rc;
		job->taken++;
		if (!link->odf)
			g->taps_waiting++;
	}
	if (job->doc->monitor == NULL)
		return 0;
	int rc = take_out(g, job->doc->monitor, &job->doc->monitor_slot, err);
	job->monitor_taken = rc == 0;
	return rc;
}

static void release_topics(struct graph *g, const struct doc *doc, size_t n, bool monitor)
{
	const struct transport_ops *ops = g->s->ops;
	struct transport_port *port = g->s->port;

	for (size_t i = 0; i < n; i++) {
		if (doc->links[i].odf)
			ops->drop_out_topic(port, doc->links[i].topic);
		else
			ops->untap_topic(port, doc->links[i].topic);
	}
	if (monitor)
		ops->drop_out_topic(port, doc->monitor);
}

static void drop_running(struct graph *g)
{
	if (g->running != NULL)
		release_topics(g, g->running, g->running->n_links, g->running->monitor != NULL);
	g->running = doc_free(g->running);
	free(g->refused);
	g->refused = NULL;
}

/* ---- ends of jobs ---- */

static void job_done(struct graph *g)
{
	struct job *job = g->first;

	if (job->sync != NULL)
		job->sync->drops_left--;
	g->first = job->next;
	if (g->first == NULL)
		g->last = NULL;
	g->n_jobs--;
	job_free(job);
	set_stage(g, GRAPH_IDLE);
}

/* answer: taken; gets the graph's id and the revision asked for. */
static void put_answer(struct graph *g, json_t *answer)
{
	const struct job *job = g->first;

	if (answer != NULL) {
		json_object_set_new(answer, "graph", json_string(g->id));
		json_object_set_new(answer, "rev", json_integer(job->rev));
	}
	if (job->answered)
		service_answer(g->s, &job->tag, answer);
	else
		json_decref(answer);
}

static void refused_over(struct graph *g)
{
	struct job *job = g->first;

	release_topics(g, job->doc, job->taken, job->monitor_taken);
	job_done(g);
}

/* The old revision goes on. where: borrowed, may be NULL. */
static void put_refused(struct graph *g, const char *reason, json_t *where)
{
	struct job *job = g->first;
	json_t *answer = json_pack("{s:s, s:s}", "state", "error", "reason", reason);

	log_info("graph.refused", KV("graph", g->id), KV("rev", job->rev));
	if (where != NULL)
		json_object_set(answer, "where", where);
	put_answer(g, answer);
	/* A topic that is not acknowledged yet is not given back: the acknowledgement would find nobody. */
	if (g->taps_waiting > 0 || g->outs_waiting > 0)
		set_stage(g, GRAPH_REFUSED);
	else
		refused_over(g);
}

static const char no_topic[] = "the broker did not let a data topic be subscribed";

/* It is loaded; what is left is that its topics are there. */
static void put_confirmed(struct graph *g)
{
	struct job *job = g->first;

	if (g->tap_rc < 0) {
		/* Too late for the old revision, and half a graph is none. */
		put_answer(g, json_pack("{s:s, s:s}", "state", "error", "reason", no_topic));
		job->kind = JOB_DROP;
		job->answered = false;
		set_stage(g, GRAPH_IDLE);
		return;
	}
	log_debug("graph.running", KV("graph", g->id), KV("rev", g->running->rev));
	put_answer(g, json_pack("{s:s}", "state", "ok"));
	job_done(g);
}

/* ---- putting ---- */

struct missing {
	const struct funcs *funcs;
	json_t *digests;
};

static void note_missing(void *arg, const char *digest)
{
	struct missing *m = arg;
	size_t len, i;
	json_t *known;

	if (funcs_find(m->funcs, digest, &len) != NULL)
		return;
	json_array_foreach (m->digests, i, known) {
		if (strcmp(json_string_value(known), digest) == 0)
			return;
	}
	json_array_append_new(m->digests, json_string(digest));
}

/* ret: true if the answer was `need`. */
static bool put_needs(struct graph *g)
{
	json_auto_t *digests = json_array();
	struct missing missing = {.funcs = g->s->funcs, .digests = digests};

	doc_each_digest(g->first->doc, note_missing, &missing);
	if (json_array_size(digests) == 0)
		return false;
	put_answer(g, json_pack("{s:s, s:O}", "state", "need", "digests", digests));
	job_done(g);
	return true;
}

static void on_engine_answer(void *arg, json_t *answer);

static void ask_load(struct graph *g)
{
	struct service *s = g->s;
	struct err err = {0};

	if (!s->loaded || g->asked != ASKED_NOTHING)
		return;
	int rc = host_request(s->host, doc_for_engine(g->first->doc, s->funcs), on_engine_answer, g,
			      &err);
	if (rc == 0)
		g->asked = ASKED_LOAD;
	else if (rc != ERR_AGAIN)
		put_refused(g, err.text, NULL);
}

static void start_loading(struct graph *g)
{
	set_stage(g, GRAPH_LOADING);
	ask_load(g);
}

static void start_put(struct graph *g)
{
	struct job *job = g->first;
	struct err err = {0};

	g->tap_rc = 0;
	if (g->running != NULL && job->rev < g->running->rev) {
		put_refused(g, "stale revision", NULL);
		return;
	}
	if (g->running != NULL && job->rev == g->running->rev && g->refused == NULL) {
		put_confirmed(g);
		return;
	}
	if (put_needs(g))
		return;
	int rc = take_topics(g, job, &err);
	if (rc < 0) {
		/* What was tapped already is given back when all its acknowledgements are here. */
		log_warn("graph.tap_failed", KV("graph", g->id), KV("why", err.text));
		g->tap_rc = rc;
	}
	set_stage(g, GRAPH_TAPPING);
}

/* An engine may use a slot only when the transport has it. Taps of a transport that is not open yet
 * are acknowledged later than that, and it opens when all is loaded. */
static bool topics_ready(const struct graph *g)
{
	if (g->outs_waiting > 0)
		return false;
	return g->taps_waiting == 0 || !g->s->opened;
}

static void put_tapped(struct graph *g)
{
	if (g->tap_rc < 0)
		put_refused(g, no_topic, NULL);
	else
		start_loading(g);
}

static void put_loaded(struct graph *g, json_t *answer)
{
	struct job *job = g->first;
	json_t *where = json_object_get(answer, "where");
	const char *state = json_string_value(json_object_get(answer, "state"));
	const char *reason = json_string_value(json_object_get(answer, "reason"));

	if (state == NULL || strcmp(state, "ok") != 0) {
		put_refused(g, reason != NULL ? reason : "the engine gave no reason", where);
		return;
	}
	json_int_t index = json_integer_value(json_object_get(answer, "index"));
	drop_running(g);
	g->running = TAKE(job->doc);
	g->index = (uint32_t)index;
	set_stage(g, GRAPH_CONFIRMING);
}

/* ---- dropping ---- */

static void dropped(struct graph *g)
{
	const struct job *job = g->first;

	drop_running(g);
	if (job->answered)
		service_answer(g->s, &job->tag,
			       json_pack("{s:s, s:s}", "state", "ok", "graph", g->id));
	job_done(g);
}

static void ask_drop(struct graph *g)
{
	struct service *s = g->s;
	struct err err = {0};

	if (!s->loaded || g->asked != ASKED_NOTHING)
		return;
	int rc = host_request(s->host, json_pack("{s:s, s:s}", "op", "drop", "id", g->id),
			      on_engine_answer, g, &err);
	if (rc == 0) {
		g->asked = ASKED_DROP;
	} else if (rc != ERR_AGAIN) {
		log_warn("graph.drop_failed", KV("graph", g->id), KV("why", err.text));
		if (g->first->answered)
			service_answer_error(s, &g->first->tag, err.text);
		job_done(g);
	}
}

static void start_drop(struct graph *g)
{
	set_stage(g, GRAPH_DROPPING);
	if (g->running == NULL || g->refused != NULL)
		dropped(g);
	else if (!host_is_ready(g->s->host) && g->asked == ASKED_NOTHING)
		dropped(g); /* the next engine never hears of it */
	else
		ask_drop(g);
}

/* ---- running the queue ---- */

/* ret: true if the first job has moved on. */
static bool graph_step(struct graph *g)
{
	switch (g->stage) {
	case GRAPH_IDLE:
		if (g->first == NULL)
			return false;
		if (g->first->kind == JOB_PUT)
			start_put(g);
		else
			start_drop(g);
		return true;
	case GRAPH_TAPPING:
		if (!topics_ready(g))
			return false;
		put_tapped(g);
		return true;
	case GRAPH_CONFIRMING:
		if (g->taps_waiting > 0)
			return false;
		put_confirmed(g);
		return true;
	case GRAPH_REFUSED:
		if (g->taps_waiting > 0 || g->outs_waiting > 0)
			return false;
		refused_over(g);
		return true;
	case GRAPH_LOADING:
	case GRAPH_DROPPING:
		break;
	}
	return false; /* the engine's turn */
}

/* Go on as far as it goes. May free g. */
static void graph_run(struct graph *g)
{
	struct service *s = g->s;

	while (graph_step(g))
		;
	if (g->first == NULL && g->running == NULL)
		graph_free(g);
	service_progress(s);
}

static int add_job(struct graph *g, const struct request_tag *tag, struct doc *doc,
		   struct sync *sync)
{
	struct job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		return ERR_NOMEM;
	*job = (struct job){.answered = tag != NULL, .doc = doc, .sync = sync};
	job->kind = doc != NULL ? JOB_PUT : JOB_DROP;
	job->rev = doc != NULL ? doc->rev : 0;
	if (tag != NULL)
		job->tag = *tag;
	if (sync != NULL)
		sync->drops_left++;
	if (g->last != NULL)
		g->last->next = job;
	else
		g->first = job;
	g->last = job;
	g->n_jobs++;
	return 0;
}

static bool asked_already(const struct graph *g, const struct request_tag *tag,
			  const struct doc *doc)
{
	const struct job *last = g->last;

	return last != NULL && last->kind == JOB_PUT && last->answered && last->rev == doc->rev &&
	       last->tag.session == tag->session && last->tag.id == tag->id;
}

void graph_put(struct service *s, const struct request_tag *tag, struct doc *doc)
{
	struct graph *g = graph_find(s, doc->id);

	if (g == NULL)
		g = graph_new(s, doc->id);
	if (g != NULL && asked_already(g, tag, doc)) {
		doc_free(doc);
		return;
	}
	if (g == NULL || g->n_jobs >= JOBS_MAX || add_job(g, tag, doc, NULL) < 0) {
		doc_free(doc);
		service_answer_error(s, tag,
				     g != NULL && g->n_jobs >= JOBS_MAX
					     ? "too many requests wait for this graph"
					     : "the agent is out of memory");
	}
	if (g != NULL)
		graph_run(g);
}

void graph_drop(struct service *s, struct graph *g, const struct request_tag *tag,
		struct sync *sync)
{
	if (add_job(g, tag, NULL, sync) < 0 && tag != NULL)
		service_answer_error(s, tag, "the agent is out of memory");
	graph_run(g);
}

/* ---- engines come and go ---- */

static void all_loaded(struct service *s)
{
	s->loaded = true;
	host_go(s->host);
	for (struct graph *g = s->graphs, *next; g != NULL; g = next) {
		next = g->next;
		if (g->stage == GRAPH_LOADING)
			ask_load(g);
		else if (g->stage == GRAPH_DROPPING)
			ask_drop(g);
		graph_run(g);
	}
	service_ask_checks(s);
}

/* A running document that a new engine does not take: it stays out until csm puts it again. */
static void reload_refused(struct graph *g, const char *reason)
{
	free(g->refused);
	g->refused = strdup(reason);
	blame_graph(g, NULL, 0, "", reason);
}

static void reload_more(struct service *s)
{
	while (s->reloading < RELOADS_MAX && s->reload_at != NULL) {
		struct graph *g = s->reload_at;
		struct err err = {0};

		s->reload_at = g->next;
		if (g->running == NULL || g->refused != NULL || g->stage == GRAPH_DROPPING)
			continue;
		int rc = host_request(s->host, doc_for_engine(g->running, s->funcs),
				      on_engine_answer, g, &err);
		if (rc == ERR_AGAIN)
			return; /* it fell already */
		if (rc < 0) {
			reload_refused(g, err.text);
			continue;
		}
		g->asked = ASKED_RELOAD;
		s->reloading++;
	}
	if (s->reloading == 0 && s->reload_at == NULL)
		all_loaded(s);
}

void graphs_reload(struct service *s)
{
	s->reload_at = s->graphs;
	s->reloading = 0;
	reload_more(s);
}

static void reloaded(struct graph *g, json_t *answer)
{
	const char *state = json_string_value(json_object_get(answer, "state"));
	const char *reason = json_string_value(json_object_get(answer, "reason"));

	g->s->reloading--;
	if (state == NULL || strcmp(state, "ok") != 0)
		reload_refused(g, reason != NULL ? reason : "the engine gave no reason");
	else
		g->index = (uint32_t)json_integer_value(json_object_get(answer, "index"));
}

static void on_engine_answer(void *arg, json_t *answer)
{
	struct graph *g = arg;
	struct service *s = g->s;
	int asked = g->asked;

	g->asked = ASKED_NOTHING;
	switch (asked) {
	case ASKED_LOAD:
		put_loaded(g, answer);
		graph_run(g);
		break;
	case ASKED_DROP:
		dropped(g);
		graph_run(g);
		break;
	case ASKED_RELOAD:
		reloaded(g, answer);
		reload_more(s);
		break;
	default:
		break;
	}
}

void graphs_fall(struct service *s, const struct graph *culprit, const char *why)
{
	s->loaded = false;
	s->reload_at = NULL;
	for (struct graph *g = s->graphs, *next; g != NULL; g = next) {
		char reason[300];
		int asked = g->asked;

		next = g->next;
		g->asked = ASKED_NOTHING;
		snprintf(reason, sizeof(reason), "%s while loading", why);
		if (g == culprit && asked == ASKED_LOAD)
			put_refused(g, reason, NULL);
		else if (g == culprit && asked == ASKED_RELOAD)
			reload_refused(g, reason);
		if (g->stage == GRAPH_DROPPING)
			dropped(g); /* the next engine never hears of it */
		graph_run(g);
	}
}
