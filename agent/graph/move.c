#include "agent/graph/graph.h"
#include "agent/graph/pool.h"
#include "common/log.h"

#define LOOK_EVERY_MS 5
#define DRAIN_LIMIT_MS \
	10000 /* what the old engine has not done by then is not done for this graph */

static void on_look(void *arg)
{
	graph_run(arg);
}

void move_start(struct graph *g)
{
	struct service *s = g->s;
	struct job *job = g->first;
	struct err err = {0};
	struct place *to;
	int rc;

	if (g->running == NULL || g->refused != NULL || g->place->apart) {
		graph_job_done(g);
		return;
	}
	g->tap_rc = 0;
	job->since_ms = loop_now_ms(s->loop);
	rc = pool_place_apart(s, g->id, g->running->owner, &to, &err);
	if (rc == 0) {
		job->to = to;
		place_expect(to);
		rc = doc_new(g->running->json, &job->doc, &err);
	}
	if (rc == 0)
		rc = loop_add_timer(s->loop, -1, 0, on_look, g, &job->drain_timer, &err);
	if (rc == 0)
		rc = put_take_topics(g, to, &err);
	if (rc == 0)
		/* at once: from here on a message goes to the new place and no more to the old one
		 */
		put_release_in(g->place, g->running, g->running->n_links);
	else
		log_warn("graph.move_failed", KV("graph", g->id), KV("why", err.text));
	if (rc < 0 && job->doc == NULL) {
		graph_job_done(g);
		return;
	}
	if (rc < 0)
		g->tap_rc = rc;
	job->released_in = rc == 0;
	graph_set_stage(g, GRAPH_TAPPING);
}

/* It stays where it is; what the new place has of it is given back. */
static void move_abandoned(struct graph *g)
{
	struct job *job = g->first;

	put_release_in(job->to, job->doc, job->taken);
	put_release_out(job->to, job->doc, job->taken, job->monitor_taken);
	graph_job_done(g);
}

void move_tapped(struct graph *g)
{
	if (!g->first->released_in)
		move_abandoned(g);
	else
		graph_set_stage(g, GRAPH_DRAINING);
}

static void leave(struct graph *g)
{
	graph_set_stage(g, GRAPH_LEAVING);
	if (!host_is_ready(g->place->host) && g->asked == ASKED_NOTHING)
		move_left(g); /* the next engine never hears of it */
	else
		graph_ask_drop(g);
}

bool move_drained(struct graph *g)
{
	struct job *job = g->first;
	int64_t now = loop_now_ms(g->s->loop);
	uint64_t done, fed;

	if (host_ring(g->place->host, &done, &fed)) {
		if (!job->marked)
			job->mark = fed;
		job->marked = true;
	} else {
		done = 0; /* messages wait for the next engine */
	}
	if ((!job->marked || done < job->mark) && now - job->since_ms < DRAIN_LIMIT_MS) {
		loop_arm(g->s->loop, job->drain_timer, LOOK_EVERY_MS);
		return false;
	}
	leave(g);
	return true;
}

void move_left(struct graph *g)
{
	struct job *job = g->first;

	put_release_out(g->place, g->running, g->running->n_links, g->running->monitor != NULL);
	g->running = doc_free(g->running);
	place_leave(g);
	place_join(job->to, g);
	graph_set_stage(g, GRAPH_LOADING);
	if (g->tap_rc < 0)
		put_refused(g, put_no_topic, NULL);
	else
		graph_ask_load(g);
}
