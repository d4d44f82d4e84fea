#include "agent/graph/service.h"
#include "agent/graph/graph.h"
#include "common/id.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define CHECKS_MAX     64 /* waiting at a time */
#define DROP_NAMES_MAX 64 /* reasons for drops that an engine may name */

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

/* ---- check ---- */

static struct check *check_free(struct check *c)
{
	struct check **at = &c->s->checks;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	c->s->n_checks--;
	json_decref(c->msg);
	free(c);
	return NULL;
}

static void on_checked(void *arg, json_t *answer)
{
	struct check *c = arg;
	const char *state = json_string_value(json_object_get(answer, "state"));
	json_t *results = json_object_get(answer, "results");
	json_t *reason = json_object_get(answer, "reason");

	if (state != NULL && strcmp(state, "ok") == 0 && json_is_array(results))
		service_answer(c->s, &c->tag,
			       json_pack("{s:s, s:O}", "state", "ok", "results", results));
	else
		service_answer_error(c->s, &c->tag,
				     json_is_string(reason) ? json_string_value(reason)
							    : "the engine gave no reason");
	check_free(c);
}

static void ask_check(struct check *c)
{
	struct err err = {0};
	int rc = host_request(c->s->host, json_copy(c->msg), on_checked, c, &err);

	c->asked = rc == 0;
	if (rc == 0 || rc == ERR_AGAIN)
		return;
	service_answer_error(c->s, &c->tag, err.text);
	check_free(c);
}

void service_ask_checks(struct service *s)
{
	for (struct check *c = s->checks, *next; c != NULL; c = next) {
		next = c->next;
		if (!c->asked)
			ask_check(c);
	}
}

static bool all_strings(json_t *codes, json_t *depends)
{
	const char *alias;
	json_t *item;
	size_t i;

	if (!json_is_array(codes) || (depends != NULL && !json_is_object(depends)))
		return false;
	json_array_foreach (codes, i, item) {
		if (!json_is_string(item))
			return false;
	}
	json_object_foreach (depends, alias, item) {
		if (!json_is_string(item))
			return false;
	}
	return true;
}

static void on_check(void *arg, const struct request_tag *tag, json_t *body)
{
	struct service *s = arg;
	json_t *codes = json_object_get(body, "codes"), *depends = json_object_get(body, "depends");
	struct check *c;

	if (json_is_null(depends))
		depends = NULL;
	if (!all_strings(codes, depends)) {
		service_answer_error(s, tag,
				     "codes is no list of sources, or depends no map of them");
		return;
	}
	if (s->n_checks >= CHECKS_MAX) {
		service_answer_error(s, tag, "too many checks wait");
		return;
	}
	c = calloc(1, sizeof(*c));
	if (c == NULL) {
		service_answer(s, tag, NULL);
		return;
	}
	*c = (struct check){.asker = {ASKER_CHECK}, .next = s->checks, .s = s, .tag = *tag};
	c->msg = json_pack("{s:s, s:O, s:o}", "op", "check", "codes", codes, "depends",
			   depends != NULL ? json_incref(depends) : json_object());
	s->checks = c;
	s->n_checks++;
	if (s->loaded)
		ask_check(c);
}

static void checks_fall(struct service *s, const struct check *culprit, const char *why)
{
	for (struct check *c = s->checks, *next; c != NULL; c = next) {
		char reason[300];

		next = c->next;
		c->asked = false;
		if (c != culprit)
			continue;
		snprintf(reason, sizeof(reason), "%s while compiling", why);
		service_answer_error(s, &c->tag, reason);
		check_free(c);
	}
}

/* ---- counters ---- */

static void count(json_t *totals, const char *name, json_int_t n)
{
	json_int_t before = json_integer_value(json_object_get(totals, name));

	json_object_set_new(totals, name, json_integer(before + n));
}

static void add_all(json_t *totals, json_t *more)
{
	const char *name;
	json_t *n;

	json_object_foreach (more, name, n) {
		count(totals, name, json_integer_value(n));
	}
}

/* A total an engine may have reached; anything else it says is 0. */
static json_int_t total(const json_t *n)
{
	json_int_t value = json_integer_value(n);

	return value >= 0 && value <= 1ll << 53 ? value : 0;
}

/* The engine's `stats`, as names of ours; what it makes up is cut down to size. */
static void take_stats(struct service *s, json_t *msg)
{
	json_t *now = json_object(), *n;
	const char *reason;
	char name[80];
	size_t names = 0;

	if (now == NULL)
		return;
	count(now, "evaluated", total(json_object_get(msg, "evaluated")));
	count(now, "failed", total(json_object_get(msg, "failed")));
	json_object_foreach (json_object_get(msg, "drops"), reason, n) {
		size_t len = strspn(reason, "abcdefghijklmnopqrstuvwxyz0123456789_");

		if (names++ == DROP_NAMES_MAX)
			break;
		if (len == 0 || reason[len] != '\0' || len > 40)
			continue;
		snprintf(name, sizeof(name), "dropped.%s", reason);
		count(now, name, total(n));
	}
	json_decref(s->present);
	s->present = now;
}

json_t *service_counters(const struct service *s)
{
	struct host_status host;
	json_t *all = s->ops->stats(s->transport);

	if (all == NULL)
		return NULL;
	add_all(all, s->totals);
	add_all(all, s->present);
	host_get_status(s->host, &host);
	count(all, "engine_restarts", (json_int_t)host.restarts);
	return all;
}

json_t *service_graphs(const struct service *s)
{
	json_auto_t *list = json_array();

	for (const struct graph *g = s->graphs; g != NULL; g = g->next) {
		const char *state = g->running == NULL   ? "waiting"
				    : g->refused != NULL ? "refused"
							 : "running";
		json_t *row = json_pack("{s:s, s:I, s:s, s:s*}", "id", g->id, "rev",
					g->running != NULL ? g->running->rev : 0, "state", state,
					"reason", g->refused);

		if (json_array_append_new(list, row) < 0)
			return NULL;
	}
	return TAKE(list);
}

void service_get_status(const struct service *s, struct service_status *ret)
{
	struct host_status host;

	host_get_status(s->host, &host);
	*ret = (struct service_status){
		.graphs = map_count(s->by_id),
		.engine_ready = host.ready && s->loaded,
		.open = s->opened,
		.link = s->link,
		.engine_pid = host.pid,
		.engine_restarts = host.restarts,
		.transport = s->ops->name,
	};
}

/* ---- events of the parts ---- */

static void on_engine_ready(void *arg)
{
	struct service *s = arg;

	graphs_reload(s);
	s->events.on_change(s->arg);
}

static void on_engine_fall(void *arg, const struct host_fall *fall)
{
	struct service *s = arg;
	const struct asker *asker = fall->request;
	const void *request = fall->request;

	if (s->present != NULL)
		add_all(s->totals, s->present);
	json_decref(s->present);
	s->present = NULL;
	if (fall->evaluating) {
		count(s->totals, "dropped.engine_fell", 1);
		blame_message(s, fall);
	}
	bool check = asker != NULL && asker->kind == ASKER_CHECK;
	graphs_fall(s, check ? NULL : request, fall->why);
	checks_fall(s, check ? request : NULL, fall->why);
	s->events.on_change(s->arg);
}

static void on_engine_unasked(void *arg, const char *op, json_t *msg)
{
	struct service *s = arg;

	if (strcmp(op, "stats") == 0)
		take_stats(s, msg);
	else if (strcmp(op, "fault") == 0)
		blame_fault(s, msg);
	else if (log_allowed("engine.message_unknown", ""))
		log_warn("engine.message_unknown", KV("op", op));
}

static void on_port_broken(void *arg, struct transport_port *port)
{
	struct service *s = arg;

	(void)port;
	host_broken(s->host);
}

static void on_port_fed(void *arg, struct transport_port *port)
{
	struct service *s = arg;

	(void)port;
	host_fed(s->host);
}

static void on_link(void *arg, bool up)
{
	struct service *s = arg;

	s->link = up;
	s->events.on_change(s->arg);
}

/* ---- start and stop ---- */

static const struct request_op ops_table[] = {
	{"func", REQUEST_SILENT, on_func},     {"put", REQUEST_ANSWERED, on_put},
	{"drop", REQUEST_ANSWERED, on_drop},   {"sync", REQUEST_ANSWERED, on_sync},
	{"check", REQUEST_ANSWERED, on_check},
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
	static const struct host_events host_events = {
		.on_ready = on_engine_ready,
		.on_fall = on_engine_fall,
		.on_unasked = on_engine_unasked,
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
		.funcs = funcs_new(),
		.totals = json_object(),
	};
	int rc = 0;
	if (s->by_id == NULL || s->funcs == NULL || s->totals == NULL)
		rc = err_set(err, ERR_NOMEM, "graph service");
	if (rc == 0)
		rc = ops->start(l, settings, agent_id, &transport_events, s, &s->transport, err);
	if (rc == 0)
		rc = host_new(l, settings, "0", engine, ops, s->transport, &host_events, s, &s->host,
			      err);
	if (rc < 0) {
		service_free(s);
		return rc;
	}
	s->port = host_port(s->host);
	*ret = s;
	return 0;
}

struct service *service_free(struct service *s)
{
	if (s == NULL)
		return NULL;
	host_free(s->host);
	if (s->transport != NULL)
		s->ops->stop(s->transport);
	for (struct check *c = s->checks, *next; c != NULL; c = next) {
		next = c->next;
		check_free(c);
	}
	while (s->syncs != NULL) {
		struct sync *sync = s->syncs;
		s->syncs = sync->next;
		free(sync);
	}
	for (struct graph *g = s->graphs, *next; g != NULL; g = next) {
		next = g->next;
		graph_free(g);
	}
	map_free(s->by_id, NULL);
	funcs_free(s->funcs);
	json_decref(s->totals);
	json_decref(s->present);
	free(s);
	return NULL;
}
