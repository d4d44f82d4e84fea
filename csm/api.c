#include "csm/api.h"

#include "common/clock.h"
#include "common/id.h"
#include "common/log.h"
#include "common/shortage.h"
#include "common/util.h"
#include "csm/agents.h"
#include "csm/graph_ops.h"
#include "csm/graphs.h"
#include "csm/listeners.h"
#include "csm/metrics.h"
#include "csm/outgoing.h"
#include "csm/registry.h"
#include "csm/repeats.h"
#include "csm/store.h"
#include <stdio.h>
#include <string.h>

#define REQUEST_PREFIX "iottalk/api/req/"
#define NAME_MAX_BYTES 255 /* of a client or graph id */

enum service { SERVICE_CLIENT, SERVICE_DEVICE, SERVICE_GRAPHS, SERVICE_GRAPH, SERVICE_UNKNOWN };

static const char *const service_names[] = {
	[SERVICE_CLIENT] = "client", [SERVICE_DEVICE] = "device",   [SERVICE_GRAPHS] = "graph",
	[SERVICE_GRAPH] = "graph",   [SERVICE_UNKNOWN] = "unknown",
};

/* One request, taken apart. */
struct call {
	struct csm *csm;
	enum service service;
	char client[NAME_MAX_BYTES + 1], graph_id[NAME_MAX_BYTES + 1];
	const char *topic; /* of the answer */
	struct asked asked;
	json_t *request;
	bool repeated; /* it was taken up before */
};

/* ---- answers ---- */

static void out_of_memory(const struct call *c)
{
	store_failed(c->csm->store, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
}

/* more: further answers follow. */
static void reply(const struct call *c, json_t *answer, const char *state, const char *reason, bool more)
{
	if (answer == NULL) {
		/* the request itself, with the error that all of this turn get now */
		out_of_memory(c);
		csm_answer(c->csm, c->topic, json_is_object(c->request) ? json_incref(c->request) : NULL,
			   more ? NULL : &c->asked);
		return;
	}
	json_object_set_new(answer, "state", json_string(state));
	if (reason != NULL)
		json_object_set_new(answer, "reason", csm_text(reason));
	csm_answer(c->csm, c->topic, answer, more ? NULL : &c->asked);
}

static void ok_so_far(const struct call *c, json_t *extra, bool more)
{
	json_t *answer = shortage_copy(c->request);
	if (answer != NULL && extra != NULL)
		json_object_update(answer, extra);
	json_decref(extra);
	reply(c, answer, "ok", NULL, more);
}

static void ok(const struct call *c, json_t *extra)
{
	ok_so_far(c, extra, false);
}

static void refuse(const struct call *c, const char *reason)
{
	json_t *answer = json_is_object(c->request) ? shortage_copy(c->request) : json_object();
	/* then what we found wrong is perhaps only what we lack */
	reply(c, answer, "error", store_lacks_memory(c->csm->store) ? "out of memory" : reason, false);
}

/* ---- device API ---- */

/* An object that is told in as many answers as the broker's message size asks for; all but the last say that there is more. */
struct parts {
	const struct call *c;
	const char *key; /* of the object in the answer */
	json_t *part;
	size_t bytes, limit;
};

static struct parts parts_begin(const struct call *c, const char *key)
{
	size_t limit = (size_t)c->csm->settings->broker.message_size_limit / 4 * 3;
	return (struct parts){.c = c, .key = key, .part = json_object(), .limit = limit};
}

/* value: taken */
static void parts_add(struct parts *p, const char *name, json_t *value)
{
	size_t size = value != NULL ? json_dumpb(value, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY) + strlen(name) + 8 : 0;
	if (p->bytes > 0 && p->bytes + size > p->limit) {
		ok_so_far(p->c, json_pack("{s:o, s:b}", p->key, TAKE(p->part), "more", true), true);
		p->part = json_object();
		p->bytes = 0;
	}
	p->bytes += size;
	json_object_set_new(p->part, name, value);
}

static void send_snapshot(const struct call *c, struct device **all)
{
	struct parts p = parts_begin(c, "da_list");
	for (size_t i = 0; all[i] != NULL; i++)
		parts_add(&p, all[i]->id.s, device_to_json(all[i]));
	ok(c, json_pack("{s:o, s:s}", p.key, p.part, "run", c->csm->run.s));
}

static void device_attach(const struct call *c)
{
	CLEANUP(freep) struct device **all = registry_all(c->csm->registry);
	int rc = all != NULL ? listeners_attach(c->csm->listeners, c->client) : ERR_NOMEM;
	if (rc < 0)
		refuse(c,
		       rc == ERR_LIMIT ? "too many clients are attached: detach some" : "out of memory");
	else
		send_snapshot(c, all);
}

static void device_detach(const struct call *c)
{
	listeners_detach(c->csm->listeners, c->client);
	ok(c, NULL);
}

/* ---- graph API ---- */

static void graph_attach(const struct call *c)
{
	json_t *owner = json_object_get(c->request, "owner");
	struct graph *g = graphs_find(c->csm->graphs, c->client, c->graph_id);
	if (owner != NULL && (!json_is_string(owner) || json_string_length(owner) == 0 ||
			      json_string_length(owner) > NAME_MAX_BYTES ||
			      strlen(json_string_value(owner)) != json_string_length(owner))) {
		refuse(c, "`owner` must be a string of 1 to 255 bytes");
		return;
	}
	if (g != NULL) {
		json_t *state = graphs_state(g);
		if (state == NULL)
			out_of_memory(c);
		ok(c, json_pack("{s:o}", "graph", state));
		return;
	}
	g = graphs_attach(c->csm->graphs, c->client, c->graph_id,
			  owner != NULL ? json_string_value(owner) : c->client);
	if (g == NULL)
		refuse(c, "no room for another graph");
	else
		ok(c, NULL);
}

/* An answer that waits for agents to let go of graphs. */
struct detaching {
	json_t *answer;
	struct outgoing *out;
	size_t left;
	bool pending;
	char error[200]; /* of the first that failed; empty: none */
};

static void one_detached(void *arg, bool pending, const char *error)
{
	struct detaching *d = arg;
	d->pending = d->pending || pending;
	if (error != NULL && d->error[0] == '\0')
		snprintf(d->error, sizeof(d->error), "%.199s", error);
	if (--d->left > 0)
		return;
	if (d->error[0] == '\0') {
		outgoing_answer_ok(d->out, d->answer, d->pending);
	} else {
		json_object_set_new(d->answer, "state", json_string("error"));
		json_object_set_new(d->answer, "reason", json_string(d->error));
		outgoing_answer(d->out, d->answer);
	}
	free(d);
}

static void detach_all(const struct call *c, struct graph **graphs)
{
	size_t n = 0;
	struct detaching *d = calloc(1, sizeof(*d));
	if (d != NULL) {
		d->answer = shortage_copy(c->request);
		d->out = outgoing_new(c->csm, c->topic, &c->asked);
	}
	if (d == NULL || d->answer == NULL || d->out == NULL) {
		if (d != NULL) {
			json_decref(d->answer);
			outgoing_free(d->out);
			free(d);
		}
		refuse(c, "out of memory");
		return;
	}
	while (graphs[n] != NULL)
		n++;
	d->left = n + 1; /* ours, so that it is not over before all have begun */
	for (size_t i = 0; i < n; i++)
		graphs_detach(graphs[i], c->asked.trace.s, one_detached, d);
	one_detached(d, false, NULL);
}

static void graph_detach(const struct call *c)
{
	struct graph *one[] = {graphs_find(c->csm->graphs, c->client, c->graph_id), NULL};
	detach_all(c, one);
}

static void graphs_detach_client(const struct call *c)
{
	CLEANUP(freep) struct graph **all = graphs_of_client(c->csm->graphs, c->client);
	if (all == NULL)
		refuse(c, "out of memory");
	else
		detach_all(c, all);
}

static void client_detach(const struct call *c)
{
	listeners_detach(c->csm->listeners, c->client);
	graphs_detach_client(c);
}

/* What there is of a client: whether it hears of devices, its graphs and their confirmed revisions. */
static void client_list(const struct call *c)
{
	CLEANUP(freep) struct graph **all = graphs_of_client(c->csm->graphs, c->client);
	if (all == NULL) {
		refuse(c, "out of memory");
		return;
	}
	struct parts p = parts_begin(c, "graphs");
	for (size_t i = 0; all[i] != NULL; i++)
		parts_add(&p, graphs_id(all[i]), json_integer(graphs_rev(all[i])));
	ok(c, json_pack("{s:o, s:b, s:s}", p.key, p.part, "device", listeners_has(c->csm->listeners, c->client), "run", c->csm->run.s));
}

static void graph_add_funcs(const struct call *c)
{
	char reason[OP_REASON_MAX];
	if (graph_op_add_funcs(c->csm, c->request, reason) < 0)
		refuse(c, reason);
	else
		ok(c, NULL);
}

static void graph_rm_funcs(const struct call *c)
{
	char reason[OP_REASON_MAX];
	if (graph_op_rm_funcs(c->csm, c->request, reason) < 0)
		refuse(c, reason);
	else
		ok(c, NULL);
}

struct checking {
	struct csm *csm;
	struct asked asked;
	json_t *answer; /* NULL once it was sent */
	char *topic;
};

static void checked(void *arg, json_t *answer, const char *why, bool final)
{
	struct checking *k = arg;
	const char *state = json_string_value(json_object_get(answer, "state"));
	if (k->answer != NULL && state != NULL && strcmp(state, "ok") == 0) {
		json_object_set_new(k->answer, "state", json_string("ok"));
		json_object_set(k->answer, "results", json_object_get(answer, "results"));
		csm_answer(k->csm, k->topic, TAKE(k->answer), &k->asked);
	} else if (k->answer != NULL) {
		/* no agent in time is an error too: nothing here could come into force later */
		json_t *reason = json_object_get(answer, "reason");
		json_object_set_new(k->answer, "state", json_string("error"));
		json_object_set_new(k->answer, "reason",
				    reason != NULL ? json_incref(reason) : json_string(why));
		csm_answer(k->csm, k->topic, TAKE(k->answer), &k->asked);
	}
	if (final) {
		free(k->topic);
		free(k);
	}
}

static void graph_check_funcs(const struct call *c)
{
	char reason[OP_REASON_MAX];
	json_auto_t *sources = NULL;
	json_t *codes = json_object_get(c->request, "codes"), *code;
	size_t i;
	if (!json_is_array(codes)) {
		refuse(c, "`codes` must be a list of strings");
		return;
	}
	json_array_foreach (codes, i, code) {
		if (!json_is_string(code)) {
			refuse(c, "`codes` must be a list of strings");
			return;
		}
	}
	if (graph_op_sources(c->csm, json_object_get(c->request, "depends"), &sources, reason) < 0) {
		refuse(c, reason);
		return;
	}
	struct checking *k = calloc(1, sizeof(*k));
	if (k != NULL) {
		*k = (struct checking){.csm = c->csm,
				       .asked = c->asked,
				       .answer = shortage_copy(c->request),
				       .topic = strdup(c->topic)};
	}
	if (k == NULL || k->answer == NULL || k->topic == NULL) {
		if (k != NULL) {
			json_decref(k->answer);
			free(k->topic);
			free(k);
		}
		refuse(c, "out of memory");
		return;
	}
	const struct graph *g = graphs_find(c->csm->graphs, c->client, c->graph_id);
	agents_check(c->csm->agents, g != NULL ? graphs_owner(g) : c->client, codes, sources,
		     c->asked.trace.s, checked, k);
}

/* ---- dispatch ---- */

static const struct row {
	enum service service;
	const char *op;
	bool without_attach; /* allowed before the graph is attached */
	bool changes;	     /* something */
	void (*handler)(const struct call *c);
} rows[] = {
	{SERVICE_CLIENT, "detach", true, true, client_detach},
	{SERVICE_CLIENT, "list", true, false, client_list},
	{SERVICE_DEVICE, "attach", true, true, device_attach},
	{SERVICE_DEVICE, "detach", true, true, device_detach},
	{SERVICE_GRAPHS, "detach", true, true, graphs_detach_client},
	{SERVICE_GRAPH, "attach", true, true, graph_attach},
	{SERVICE_GRAPH, "detach", false, true, graph_detach},
	{SERVICE_GRAPH, "check_funcs", false, false, graph_check_funcs},
	{SERVICE_GRAPH, "add_funcs", false, true, graph_add_funcs},
	{SERVICE_GRAPH, "rm_funcs", false, true, graph_rm_funcs},
};

static const struct row *find_row(enum service service, const char *op)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].service == service && strcmp(rows[i].op, op) == 0)
			return &rows[i];
	return NULL;
}

static void dispatch(struct call *c)
{
	char reason[400];
	json_t *op = json_object_get(c->request, "op");
	c->asked.op = "none";
	if (!json_is_object(c->request)) {
		refuse(c, "the request is not a json object");
		return;
	}
	if (!json_is_string(op)) {
		refuse(c, "`op` is required: a string");
		return;
	}
	const struct row *row = find_row(c->service, json_string_value(op));
	const char *graph_op = c->service == SERVICE_GRAPH ? graph_op_name(json_string_value(op)) : NULL;
	struct graph *g = NULL;
	if (row == NULL && graph_op == NULL) {
		c->asked.op = "unknown";
		snprintf(reason, sizeof(reason), "op %.200s unknown", json_string_value(op));
		refuse(c, reason);
		return;
	}
	c->asked.op = row != NULL ? row->op : graph_op;
	c->asked.changes = row == NULL || row->changes;
	if (c->repeated) {
		metrics_drop(c->csm->metrics, "api", "repeated");
		log_info("api.repeated", KV("trace", c->asked.trace.s), KV("topic", c->topic));
		refuse(c, "this request was taken up before: attach tells what came of it; if it was not the broker that repeated it, "
			  "send it again");
		return;
	}
	log_debug("api.request", KV("trace", c->asked.trace.s), KV("topic", c->topic), KV("op", c->asked.op));
	if (c->service == SERVICE_GRAPH)
		g = graphs_find(c->csm->graphs, c->client, c->graph_id);
	if (c->service == SERVICE_GRAPH && g == NULL && (row == NULL || !row->without_attach)) {
		snprintf(reason, sizeof(reason), "Unknown graph id %s", c->graph_id);
		refuse(c, reason);
		return;
	}
	if (row == NULL)
		graphs_request(g, c->request, c->topic, &c->asked);
	else
		row->handler(c);
}

/* One level of a topic, at most NAME_MAX_BYTES, no control characters. *p is moved behind its slash, or to the end. */
static bool take_level(const char **p, char *ret)
{
	size_t len = strcspn(*p, "/");
	if (len == 0 || len > NAME_MAX_BYTES)
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)(*p)[i] < 0x20 || (*p)[i] == 0x7f)
			return false;
	memcpy(ret, *p, len);
	ret[len] = '\0';
	*p += len;
	if (**p == '/')
		(*p)++;
	return true;
}

static enum service parse_topic(const char *rest, struct call *c)
{
	char service[NAME_MAX_BYTES + 1];
	if (!take_level(&rest, c->client))
		return SERVICE_UNKNOWN;
	if (*rest == '\0')
		return SERVICE_CLIENT;
	if (!take_level(&rest, service))
		return SERVICE_UNKNOWN;
	if (strcmp(service, "device") == 0 && *rest == '\0')
		return SERVICE_DEVICE;
	if (strcmp(service, "graph") != 0)
		return SERVICE_UNKNOWN;
	if (*rest == '\0')
		return SERVICE_GRAPHS;
	return take_level(&rest, c->graph_id) && *rest == '\0' ? SERVICE_GRAPH : SERVICE_UNKNOWN;
}

static bool is_attached(const struct call *c)
{
	return c->service == SERVICE_DEVICE ? listeners_has(c->csm->listeners, c->client)
					    : c->service == SERVICE_GRAPH &&
						      graphs_find(c->csm->graphs, c->client, c->graph_id) != NULL;
}

void api_on_message(struct csm *csm, const struct bus_msg *m)
{
	struct call c = {.csm = csm};
	json_error_t why;
	if (m->retained)
		return; /* a request somebody retained by mistake: it was answered when it was made */
	CLEANUP(freep) char *topic = NULL;
	if (asprintf(&topic, "iottalk/api/res/%s", m->topic + strlen(REQUEST_PREFIX)) < 0) {
		metrics_drop(csm->metrics, "api", "no_memory");
		log_error("api.dropped", KV("topic", m->topic), KV("why", "out of memory"));
		return;
	}
	c.topic = topic;
	c.service = parse_topic(m->topic + strlen(REQUEST_PREFIX), &c);
	unsigned long shortages = shortage_count();
	json_auto_t *request = json_loadb(m->payload, m->len, JSON_ALLOW_NUL, &why);
	const char *op = json_string_value(json_object_get(request, "op"));
	int taken = op != NULL ? repeats_take(csm->repeats, m) : 0;
	if (taken > 0 && strcmp(op, "attach") == 0 && is_attached(&c))
		taken = 0; /* by whoever lost its connection too: it changes nothing */
	c.asked = (struct asked){
		.trace = trace_of(json_string_value(json_object_get(request, "trace"))),
		.service = service_names[c.service],
		.op = "unknown",
		.at_us = monotonic_us(),
	};
	if (taken < 0 || shortage_count() != shortages || store_lacks_memory(csm->store)) {
		/* nothing that was read is sure: whoever asks can tell by the topic alone */
		reply(&c, NULL, "error", NULL, false);
		return;
	}
	c.request = request;
	c.repeated = taken > 0;
	if (request == NULL || !json_is_object(request)) {
		metrics_drop(csm->metrics, "api", "not_json");
		if (log_allowed("api.malformed", m->topic))
			log_warn("api.malformed", KV("topic", m->topic),
				 KV("why", request == NULL ? why.text : "not an object"));
	}
	if (c.service == SERVICE_UNKNOWN)
		refuse(&c, "no such service: topics are <client>/device and <client>/graph/<id>");
	else
		dispatch(&c);
}
