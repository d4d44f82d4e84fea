#include "agent/graph/service.h"
#include "agent/graph/check.h"
#include "agent/graph/counters.h"
#include "agent/graph/figures.h"
#include "agent/graph/graph.h"
#include "agent/graph/pool.h"
#include "agent/graph/quarantine.h"
#include "common/id.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define LATE_MS   1000              /* an engine may take so long to come before somebody is told */
#define KEPT_FILE "quarantine.json" /* below userdir */

void service_answer(struct service *s, const struct request_tag *tag, json_t *answer)
{
	s->events.answer(s->arg, tag, answer);
}

void service_answer_error(struct service *s, const struct request_tag *tag, const char *reason)
{
	service_answer(s, tag, json_pack("{s:s, s:s}", "state", "error", "reason", reason));
}

/* ---- sync ---- */

void service_progress(struct service *s)
{
	struct sync **at = &s->syncs;

	/* What the broker has queued for us meets its graphs: all that was put before the first
	 * sync is loaded by now. */
	if (s->syncs != NULL && !s->opened && s->n_loading == 0) {
		s->opened = true;
		s->ops->open(s->transport);
		pool_open(s);
		s->events.on_change(s->arg);
	}
	while (s->opened && *at != NULL) {
		struct sync *sync = *at;

		if (sync->drops_left > 0) {
			at = &sync->next;
			continue;
		}
		*at = sync->next;
		service_answer(s, &sync->tag, json_pack("{s:s}", "state", "ok"));
		free(sync);
	}
}

/* ret: an object with the ids as keys, yours; NULL: not a list of strings, or out of memory. */
static json_t *set_of(json_t *list)
{
	json_auto_t *set = json_object();
	size_t i;
	json_t *id;

	if (!json_is_array(list))
		return NULL;
	json_array_foreach (list, i, id) {
		if (!json_is_string(id) ||
		    json_object_set_new(set, json_string_value(id), json_true()) < 0)
			return NULL;
	}
	return TAKE(set);
}

static void sweep_funcs(struct service *s)
{
	for (struct graph *g = s->graphs; g != NULL; g = g->next)
		graph_mark_funcs(g);
	funcs_sweep(s->funcs);
}

static void on_sync(void *arg, const struct request_tag *tag, json_t *body)
{
	struct service *s = arg;
	json_auto_t *keep = set_of(json_object_get(body, "graphs"));
	struct sync *sync, **last = &s->syncs;

	if (keep == NULL) {
		service_answer_error(s, tag, "graphs is no list of ids");
		return;
	}
	sync = calloc(1, sizeof(*sync));
	if (sync == NULL) {
		service_answer(s, tag, NULL);
		return;
	}
	sync->tag = *tag;
	sync->drops_left = 1; /* ours, until all are asked for */
	while (*last != NULL)
		last = &(*last)->next;
	*last = sync;
	for (struct graph *g = s->graphs, *next; g != NULL; g = next) {
		next = g->next;
		if (json_object_get(keep, g->id) == NULL)
			graph_drop(s, g, NULL, sync);
	}
	if (json_is_true(json_object_get(body, "first")))
		sweep_funcs(s);
	sync->drops_left--;
	service_progress(s);
	if (json_is_true(json_object_get(body, "first")))
		quarantine_session(s);
}

/* ---- served ---- */

static void on_served(void *arg, const struct request_tag *tag, json_t *body)
{
	struct service *s = arg;

	(void)tag;
	(void)body;
	s->others = true;
	s->events.on_change(s->arg);
}

void service_forget_others(struct service *s)
{
	s->others = false;
}

/* ---- func, put, drop ---- */

static void on_func(void *arg, const struct request_tag *tag, json_t *body)
{
	struct service *s = arg;
	const char *digest = json_string_value(json_object_get(body, "digest"));
	json_t *code = json_object_get(body, "code");
	struct err err = {0};

	(void)tag;
	if (digest == NULL || !digest_valid(digest) || !json_is_string(code))
		err_set(&err, ERR_SCHEMA, "digest or code is missing");
	else
		funcs_add(s->funcs, digest, json_string_value(code), json_string_length(code),
			  &err);
	if (err.code != 0)
		log_warn("func.refused",
			 KV("why", err.text)); /* csm is asked for it when it is needed */
	else if (funcs_grown(s->funcs)) {
		funcs_mark(s->funcs, digest); /* not used yet, but about to be */
		sweep_funcs(s);
	}
}

static void on_put(void *arg, const struct request_tag *tag, json_t *body)
{
	struct service *s = arg;
	struct doc *doc;
	struct err err = {0};

	if (doc_new(json_object_get(body, "graph"), &doc, &err) < 0)
		service_answer_error(s, tag, err.text);
	else
		graph_put(s, tag, doc);
	s->events.on_change(s->arg);
}

static void on_drop(void *arg, const struct request_tag *tag, json_t *body)
{
	struct service *s = arg;
	const char *id = json_string_value(json_object_get(body, "graph"));
	struct graph *g;

	if (id == NULL) {
		service_answer_error(s, tag, "graph is no id");
		return;
	}
	g = graph_find(s, id);
	if (g != NULL)
		graph_drop(s, g, tag, NULL);
	else
		service_answer(s, tag, json_pack("{s:s, s:s}", "state", "ok", "graph", id));
	s->events.on_change(s->arg);
}

/* ---- counters ---- */

void service_add_totals(struct service *s, json_t *more)
{
	counters_add_all(s->totals, more);
}

json_t *service_counters(const struct service *s)
{
	json_t *all = s->ops->stats(s->transport);
	uint64_t restarts = s->restarts;

	if (all == NULL)
		return NULL;
	counters_add_all(all, s->totals);
	for (const struct place *p = s->places; p != NULL; p = p->next) {
		struct host_status host;

		host_get_status(p->host, &host);
		restarts += host.restarts;
		counters_add_all(all, p->present);
	}
	counters_add(all, "engine_restarts", (json_int_t)restarts);
	return all;
}

void service_get_status(const struct service *s, struct service_status *ret)
{
	int64_t now = loop_now_ms(s->loop);

	*ret = (struct service_status){
		.graphs = map_count(s->by_id),
		.open = s->opened,
		.others = s->others,
		.link = s->link,
		.quarantined = strikes_all_quarantined(s->strikes),
		.engine_restarts = s->restarts,
		.transport = s->ops->name,
		.keeper_pid = keeper_pid(s->keeper),
		.keeper_why = keeper_why(s->keeper),
		.layers = keeper_layers(s->keeper),
	};
	for (const struct place *p = s->places; p != NULL; p = p->next) {
		struct host_status host;

		host_get_status(p->host, &host);
		ret->engines++;
		ret->engines_ready += p->loaded;
		ret->engine_restarts += host.restarts;
		ret->engine_late = ret->engine_late ||
				   (!p->loaded && p->n_graphs > 0 && now - p->down_ms > LATE_MS);
	}
}

size_t service_engine_pids(const struct service *s, pid_t *pids, size_t n)
{
	size_t found = 0;

	for (const struct place *p = s->places; p != NULL; p = p->next) {
		struct host_status host;

		host_get_status(p->host, &host);
		if (host.pid >= 0 && found < n)
			pids[found++] = host.pid;
	}
	return found;
}

/* ---- events of the parts ---- */

static void on_port_broken(void *arg, struct transport_port *port)
{
	struct place *p = pool_of_port(arg, port);

	if (p != NULL)
		host_broken(p->host);
}

static void on_port_fed(void *arg, struct transport_port *port)
{
	struct place *p = pool_of_port(arg, port);

	if (p != NULL)
		host_fed(p->host);
}

static void on_link(void *arg, bool up)
{
	struct service *s = arg;

	s->link = up;
	s->events.on_change(s->arg);
}

/* ---- the keeper ---- */

struct host_conf service_host_conf(const struct service *s)
{
	return (struct host_conf){
		.loop = s->loop,
		.settings = s->settings,
		.keeper = s->keeper,
		.ops = s->ops,
		.transport = s->transport,
	};
}

struct adopting {
	struct service *s;
	struct keeper_found *found;
};

static int make_adopted(void *arg, const char *name, const struct host_events *events,
			void *host_arg, struct host **ret, struct err *err)
{
	struct adopting *a = arg;
	const struct host_conf conf = service_host_conf(a->s);

	(void)name;
	return host_adopt(&conf, a->found, events, host_arg, ret, err);
}

/* Rings whose messages went through an agent that is gone make no sense any more: only those of the
 * plugin go on. */
static bool on_found(void *arg, struct keeper_found *found)
{
	struct service *s = arg;
	struct adopting a = {s, found};
	struct err err = {0};

	if (!s->ops->outlives || s->keeper_was_up)
		return false;
	if (pool_adopt(s, found->name, make_adopted, &a, &err) == 0)
		return true;
	log_warn("engine.not_adopted", KV("engine", found->name), KV("why", err.text));
	return false;
}

static void on_keeper_up(void *arg)
{
	struct service *s = arg;
	bool first = !s->keeper_was_up;

	s->keeper_was_up = true;
	pool_keeper_up(s);
	if (first)
		s->events.on_engines(s->arg);
	s->events.on_change(s->arg);
}

static void on_keeper_down(void *arg, const char *why)
{
	struct service *s = arg;

	s->events.on_no_keeper(s->arg, why, s->keeper_was_up);
	s->events.on_change(s->arg);
}

static int start_keeper(struct service *s, const char *program, struct err *err)
{
	static const char *const qos_names[] = {
		[ENGINE_QOS_AUTO] = "auto",
		[ENGINE_QOS_0] = "0",
		[ENGINE_QOS_1] = "1",
		[ENGINE_QOS_2] = "2",
	};
	static const char *const sandbox_names[] = {
		[SANDBOX_STRICT] = "strict",
		[SANDBOX_DEGRADED] = "degraded",
	};
	static const struct keeper_events events = {
		.on_found = on_found,
		.on_up = on_keeper_up,
		.on_down = on_keeper_down,
	};
	CLEANUP(freep)
	char *path = settings_path(s->settings, "run/keeper.sock");
	const struct keeper_conf conf = {
		.program = program,
		.socket = path,
		.qos = qos_names[s->settings->engine.qos],
		.sandbox = sandbox_names[s->settings->engine.sandbox],
		.memory_mb = s->settings->engine.memory_mb,
		.function_mb = s->settings->engine.function_mb,
		.max_payload_bytes = s->settings->agent.max_payload_bytes,
	};

	if (path == NULL)
		return err_set(err, ERR_NOMEM, "keeper");
	return keeper_new(s->loop, &conf, &events, s, &s->keeper, err);
}

/* ---- start and stop ---- */

static const struct request_op ops_table[] = {
	{"func", REQUEST_SILENT, on_func},          {"put", REQUEST_ANSWERED, on_put},
	{"drop", REQUEST_ANSWERED, on_drop},        {"sync", REQUEST_ANSWERED, on_sync},
	{"check", REQUEST_ANSWERED, check_request}, {"served", REQUEST_SILENT, on_served},
};

const struct request_op *service_ops(size_t *ret_n)
{
	*ret_n = ARRAY_LEN(ops_table);
	return ops_table;
}

int service_new(struct loop *l, const struct settings *settings, const char *agent_id,
		const char *engine, const struct transport_ops *ops,
		const struct service_events *events, void *arg, struct service **ret,
		struct err *err)
{
	static const struct transport_events transport_events = {
		.on_port_broken = on_port_broken,
		.on_port_fed = on_port_fed,
		.on_link = on_link,
	};
	struct service *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return err_set(err, ERR_NOMEM, "graph service");
	*s = (struct service){
		.loop = l,
		.settings = settings,
		.ops = ops,
		.events = *events,
		.arg = arg,
		.by_id = map_new(),
		.by_name = map_new(),
		.funcs = funcs_new(),
		.totals = json_object(),
	};
	CLEANUP(freep)
	char *kept = settings->core.userdir != NULL ? settings_path(settings, KEPT_FILE) : NULL;
	int rc = 0;
	if (s->by_id == NULL || s->by_name == NULL || s->funcs == NULL || s->totals == NULL)
		rc = err_set(err, ERR_NOMEM, "graph service");
	if (rc == 0)
		rc = strikes_new(kept, &s->strikes, err);
	if (rc == 0)
		rc = ops->start(l, settings, agent_id, &transport_events, s, &s->transport, err);
	if (rc == 0)
		rc = start_keeper(s, engine, err);
	if (rc < 0) {
		service_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

struct service *service_free(struct service *s)
{
	if (s == NULL)
		return NULL;
	figures_free(s);
	check_free_all(s);
	while (s->syncs != NULL) {
		struct sync *sync = s->syncs;
		s->syncs = sync->next;
		free(sync);
	}
	while (s->graphs != NULL)
		graph_free(s->graphs);
	pool_free(s);
	if (s->transport != NULL)
		s->ops->stop(s->transport);
	map_free(s->by_id, NULL);
	map_free(s->by_name, NULL);
	funcs_free(s->funcs);
	strikes_free(s->strikes);
	json_decref(s->totals);
	if (s->keeper != NULL)
		keeper_quit(s->keeper);
	keeper_free(s->keeper);
	free(s);
	return NULL;
}

int service_release(struct service *s, const char *graph, struct err *err)
{
	return quarantine_release(s, graph, err);
}
