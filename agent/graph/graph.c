#include "agent/graph/graph.h"
#include "agent/graph/pool.h"
#include "agent/graph/quarantine.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define JOBS_MAX 64 /* waiting for one graph */

/* ---- one graph ---- */

static int is_loading(enum graph_stage stage)
{
	return stage == GRAPH_TAPPING || stage == GRAPH_DRAINING || stage == GRAPH_LEAVING ||
	       stage == GRAPH_LOADING;
}

void graph_set_stage(struct graph *g, enum graph_stage stage)
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

static void job_free(struct graph *g, struct job *job)
{
	loop_remove(g->s->loop, job->drain_timer);
	if (job->to != NULL)
		place_arrived(job->to);
	doc_free(job->doc);
	free(job);
}

void graph_free(struct graph *g)
{
	struct service *s = g->s;

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
		job_free(g, job);
	}
	graph_set_stage(g, GRAPH_IDLE);
	place_leave(g);
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

void graph_refuse(struct graph *g, const char *reason)
{
	free(g->refused);
	g->refused = strdup(reason);
	blame_graph(g, NULL, 0, "", reason);
}

/* ---- what is asked of the engine ---- */

static void on_engine_answer(void *arg, json_t *answer);

/* ret: as host_request(). */
static int ask_engine(struct graph *g, json_t *msg, struct err *err)
{
	return host_request(g->place->host, msg, on_engine_answer, g, err);
}

static json_t *load_message(struct graph *g, struct doc *doc)
{
	quarantine_mark(g, doc);
	return doc_for_engine(doc, g->s->funcs);
}

void graph_ask_load(struct graph *g)
{
	struct doc *doc = g->first->doc != NULL ? g->first->doc : g->running;
	struct err err = {0};

	if (!g->place->loaded || g->asked != ASKED_NOTHING)
		return;
	int rc = ask_engine(g, load_message(g, doc), &err);
	if (rc == 0)
		g->asked = ASKED_LOAD;
	else if (rc != ERR_AGAIN)
		put_refused(g, err.text, NULL);
}

static void dropped(struct graph *g)
{
	const struct job *job = g->first;

	if (g->place != NULL)
		put_drop_running(g);
	place_leave(g);
	quarantine_forget(g);
	LOG_AT(job->tag.trace.s[0] != '\0' ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, "graph.dropped",
	       KV("graph", g->id), KV("trace", job->tag.trace.s));
	if (job->answered)
		service_answer(g->s, &job->tag,
			       json_pack("{s:s, s:s}", "state", "ok", "graph", g->id));
	graph_job_done(g);
}

void graph_ask_drop(struct graph *g)
{
	struct service *s = g->s;
	struct err err = {0};

	if (!g->place->loaded || g->asked != ASKED_NOTHING)
		return;
	int rc = ask_engine(g, json_pack("{s:s, s:s}", "op", "drop", "id", g->id), &err);
	if (rc == 0) {
		g->asked = ASKED_DROP;
	} else if (rc != ERR_AGAIN) {
		log_warn("graph.drop_failed", KV("graph", g->id), KV("why", err.text));
		if (g->stage == GRAPH_LEAVING) {
			move_left(g); /* what it left behind gets no messages any more */
			return;
		}
		if (g->first->answered)
			service_answer_error(s, &g->first->tag, err.text);
		graph_job_done(g);
	}
}

static void start_drop(struct graph *g)
{
	graph_set_stage(g, GRAPH_DROPPING);
	if (g->running == NULL || g->refused != NULL)
		dropped(g);
	else if (!host_is_ready(g->place->host) && g->asked == ASKED_NOTHING)
		dropped(g); /* the next engine never hears of it */
	else
		graph_ask_drop(g);
}

static void start_refresh(struct graph *g)
{
	if (g->running == NULL || g->refused != NULL) {
		graph_job_done(g);
		return;
	}
	graph_set_stage(g, GRAPH_LOADING);
	graph_ask_load(g);
}

/* ---- running the queue ---- */

void graph_job_done(struct graph *g)
{
	struct job *job = g->first;

	if (job->sync != NULL)
		job->sync->drops_left--;
	g->first = job->next;
	if (g->first == NULL)
		g->last = NULL;
	g->n_jobs--;
	job_free(g, job);
	graph_set_stage(g, GRAPH_IDLE);
}

static void (*const starts[JOB_KINDS])(struct graph *g) = {
	[JOB_PUT] = put_start,
	[JOB_DROP] = start_drop,
	[JOB_MOVE] = move_start,
	[JOB_REFRESH] = start_refresh,
};

/* An engine may use a slot only when the transport has it. Taps of a transport that is not open yet
 * are acknowledged later than that, and it opens when all is loaded. */
static bool topics_ready(const struct graph *g)
{
	if (g->outs_waiting > 0)
		return false;
	return g->taps_waiting == 0 || !g->s->opened;
}

/* ret: true if the first job has moved on. */
static bool graph_step(struct graph *g)
{
	switch (g->stage) {
	case GRAPH_IDLE:
		if (g->first == NULL)
			return false;
		starts[g->first->kind](g);
		return true;
	case GRAPH_TAPPING:
		if (!topics_ready(g))
			return false;
		if (g->first->kind == JOB_MOVE)
			move_tapped(g);
		else
			put_tapped(g);
		return true;
	case GRAPH_DRAINING:
		return move_drained(g);
	case GRAPH_CONFIRMING:
		if (g->taps_waiting > 0)
			return false;
		put_confirmed(g);
		return true;
	case GRAPH_REFUSED:
		if (g->taps_waiting > 0 || g->outs_waiting > 0)
			return false;
		put_refused_over(g);
		return true;
	case GRAPH_LEAVING:
	case GRAPH_LOADING:
	case GRAPH_DROPPING:
		break;
	}
	return false; /* the engine's turn */
}

void graph_run(struct graph *g)
{
	struct service *s = g->s;

	while (graph_step(g))
		;
	if (g->first == NULL && g->running == NULL)
		graph_free(g);
	service_progress(s);
}

/* tag, doc (taken on success), sync: may be NULL. */
static int add_job(struct graph *g, enum job_kind kind, const struct request_tag *tag,
		   struct doc *doc, struct sync *sync)
{
	struct job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		return ERR_NOMEM;
	*job = (struct job){.kind = kind, .answered = tag != NULL, .doc = doc, .sync = sync};
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

int graph_do(struct graph *g, enum job_kind kind)
{
	return add_job(g, kind, NULL, NULL, NULL);
}

static bool asked_already(const struct graph *g, const struct request_tag *tag,
			  const struct doc *doc)
{
	const struct job *last = g->last;

	return last != NULL && last->kind == JOB_PUT && last->answered && last->rev == doc->rev &&
	       last->tag.session == tag->session && last->tag.id == tag->id;
}

/* Whose it is once all that waits is done; NULL: nobody's. */
static const char *owner_then(const struct graph *g)
{
	const char *owner = g->running != NULL ? g->running->owner : NULL;

	for (const struct job *job = g->first; job != NULL; job = job->next) {
		if (job->doc != NULL)
			owner = job->doc->owner;
		else if (job->kind == JOB_DROP)
			owner = NULL;
	}
	return owner;
}

static int add_put(struct graph *g, const struct request_tag *tag, struct doc *doc)
{
	const char *before = owner_then(g);

	/* another owner's: what ran under this id has nothing to do with it */
	if (before != NULL && strcmp(before, doc->owner) != 0 &&
	    add_job(g, JOB_DROP, NULL, NULL, NULL) < 0)
		return ERR_NOMEM;
	return add_job(g, JOB_PUT, tag, doc, NULL);
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
	if (g == NULL || g->n_jobs >= JOBS_MAX || add_put(g, tag, doc) < 0) {
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
	if (add_job(g, JOB_DROP, tag, NULL, sync) < 0 && tag != NULL)
		service_answer_error(s, tag, "the agent is out of memory");
	graph_run(g);
}

/* ---- its engine comes and goes ---- */

bool graph_reload(struct graph *g)
{
	struct err err = {0};

	if (g->running == NULL || g->refused != NULL || g->stage == GRAPH_DROPPING)
		return false;
	int rc = ask_engine(g, load_message(g, g->running), &err);
	if (rc < 0 && rc != ERR_AGAIN)
		graph_refuse(g, err.text);
	if (rc < 0)
		return false;
	g->asked = ASKED_RELOAD;
	return true;
}

static void reloaded(struct graph *g, json_t *answer)
{
	const char *state = json_string_value(json_object_get(answer, "state"));
	const char *reason = json_string_value(json_object_get(answer, "reason"));

	if (state == NULL || strcmp(state, "ok") != 0) {
		graph_refuse(g, reason != NULL ? reason : "the engine gave no reason");
		return;
	}
	g->index = (uint32_t)json_integer_value(json_object_get(answer, "index"));
	g->seen_evaluated = 0;
	g->seen_ms = loop_now_ms(g->s->loop);
}

static void on_engine_answer(void *arg, json_t *answer)
{
	struct graph *g = arg;
	struct place *p = g->place;
	int asked = g->asked;

	g->asked = ASKED_NOTHING;
	switch (asked) {
	case ASKED_LOAD:
		put_loaded(g, answer);
		graph_run(g);
		break;
	case ASKED_DROP:
		if (g->stage == GRAPH_LEAVING)
			move_left(g);
		else
			dropped(g);
		graph_run(g);
		break;
	case ASKED_RELOAD:
		reloaded(g, answer);
		place_reloaded(p);
		break;
	default:
		break;
	}
}

void graph_go_on(struct graph *g)
{
	if (g->stage == GRAPH_LOADING)
		graph_ask_load(g);
	else if (g->stage == GRAPH_DROPPING || g->stage == GRAPH_LEAVING)
		graph_ask_drop(g);
	graph_run(g);
}

void graph_fell(struct graph *g, bool culprit, const char *why)
{
	char reason[300];
	int asked = g->asked;

	g->asked = ASKED_NOTHING;
	snprintf(reason, sizeof(reason), "%s while loading", why);
	if (culprit && asked == ASKED_LOAD)
		put_refused(g, reason, NULL);
	else if (culprit && asked == ASKED_RELOAD)
		graph_refuse(g, reason);
	/* the next engine never hears of it */
	if (g->stage == GRAPH_DROPPING)
		dropped(g);
	else if (g->stage == GRAPH_LEAVING)
		move_left(g);
	graph_run(g);
}
