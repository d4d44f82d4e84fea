#include "csm/agents.h"

#include "common/exposition.h"
#include "common/id.h"
#include "common/log.h"
#include "common/map.h"
#include "common/shortage.h"
#include "common/util.h"
#include "csm/agent.h"
#include "csm/funcs.h"
#include "csm/graph_trouble.h"
#include "csm/graphdoc.h"
#include "csm/graphs.h"
#include "csm/metrics.h"
#include "csm/store.h"
#include <string.h>

#define CHECKS_MAX 16
#define SYNC_AGAIN_MS 200 /* what lacked memory */
#define AGENTS_MAX 1000 /* ids anybody could make us remember: only sealed messages count, but still */

/* ---- life ---- */

static int on_rev(void *arg, const struct db_value *v, size_t n)
{
	(void)n;
	if (v[0].type == DB_TEXT)
		*(int64_t *)arg = strtoll(v[0].text, NULL, 10);
	return 0;
}

int agents_new(struct csm *csm, struct agents **ret, struct err *err)
{
	struct agents *a = calloc(1, sizeof(*a));
	if (a == NULL || (a->by_id = map_new()) == NULL) {
		free(a);
		return err_set(err, ERR_NOMEM, "agents");
	}
	a->csm = csm;
	int rc = loop_add_timer(csm->loop, -1, 0, agents_tell_served, a, &a->served_timer, err);
	if (rc == 0)
		rc = db_run(store_db(csm->store), err, on_rev, &a->last_rev,
			    "SELECT value FROM meta WHERE name = 'last_rev'");
	if (rc < 0) {
		agents_free(a);
		return rc;
	}
	*ret = a;
	return 0;
}

int64_t agents_next_rev(struct agents *a)
{
	char text[24];
	snprintf(text, sizeof(text), "%lld", (long long)++a->last_rev);
	store_exec(a->csm->store,
		   "INSERT INTO meta (name, value) VALUES ('last_rev', $1)"
		   " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
		   DB_V_TEXT(text));
	return a->last_rev;
}

static void agent_free(void *value)
{
	struct agent *ag = value;
	ag->session.up = false;
	requests_fail(ag->requests, "csm is stopping");
	requests_free(ag->requests);
	map_free(ag->sent, free);
	json_decref(ag->counters);
	json_decref(ag->gauges);
	loop_remove(ag->csm->loop, ag->sync_timer);
	free(ag);
}

struct agents *agents_free(struct agents *a)
{
	if (a == NULL)
		return NULL;
	map_free(a->by_id, agent_free);
	loop_remove(a->csm->loop, a->served_timer);
	free(a);
	return NULL;
}

static void sync_again(void *arg);

static struct agent *find(const struct agents *a, const char *id)
{
	return map_find(a->by_id, id);
}

static struct agent *get(struct agents *a, const char *id)
{
	struct agent *ag = find(a, id);
	if (ag != NULL || map_count(a->by_id) >= AGENTS_MAX)
		return ag;
	ag = calloc(1, sizeof(*ag));
	if (ag == NULL)
		return NULL;
	ag->csm = a->csm;
	snprintf(ag->id, sizeof(ag->id), "%s", id);
	agent_session_init(&ag->session);
	ag->sent = map_new();
	ag->requests = requests_new(ag);
	if (ag->sent == NULL || ag->requests == NULL ||
	    loop_add_timer(a->csm->loop, -1, 0, sync_again, ag, &ag->sync_timer, NULL) < 0 ||
	    map_add(a->by_id, ag->id, ag) < 0) {
		loop_remove(a->csm->loop, ag->sync_timer);
		map_free(ag->sent, NULL);
		requests_free(ag->requests);
		free(ag);
		return NULL;
	}
	return ag;
}

/* ---- sending ---- */

static void send_sealed(struct agent *ag, const struct seal_head *head, json_t *body)
{
	struct csm *csm = ag->csm;
	struct err err = {0};
	char topic[128], *message = NULL;
	size_t len;
	CLEANUP(freep) char *text = shortage_dumps(body);
	snprintf(topic, sizeof(topic), "iottalk/agent/%s/req", ag->id);
	if (text == NULL)
		err_set(&err, ERR_NOMEM, "out of memory");
	else if (seal_make(&csm->key, topic, head, text, strlen(text), &message, &len, &err) == 0)
		bus_publish(csm->bus, topic, message, len, 1, false, &err);
	free(message);
	if (err.code != 0 && log_allowed("agent.send_failed", ag->id))
		log_warn("agent.send_failed", KV("agent", ag->id), KV("why", err.text));
}

void agent_send(struct agent *ag, json_t *body)
{
	struct seal_head head = agent_session_next(&ag->session);
	send_sealed(ag, &head, body);
}

bool agent_send_source(struct agent *ag, const char *digest)
{
	const char *code = funcs_source(ag->csm->funcs, digest);
	if (code == NULL || map_find(ag->sent, digest) != NULL)
		return code != NULL;
	char *mark = strdup(digest);
	if (mark == NULL || map_add(ag->sent, mark, mark) < 0)
		free(mark); /* it will be sent again: harmless */
	json_auto_t *body = json_pack("{s:s, s:s, s:s}", "op", "func", "digest", digest, "code", code);
	if (body != NULL)
		agent_send(ag, body);
	return true;
}

static void send_source(void *arg, const char *digest)
{
	agent_send_source(arg, digest);
}

/* body: taken. */
static void request(struct agent *ag, enum request_kind kind, const char *graph, json_t *body,
		    agents_answer_fn *fn, void *arg)
{
	if (ag != NULL && ag->session.up) {
		requests_add(ag->requests, kind, graph, body, fn, arg);
		return;
	}
	json_decref(body);
	if (fn != NULL)
		fn(arg, NULL, "the agent is not connected", true);
}

/* trace may be "". body may be NULL. */
static json_t *with_trace(json_t *body, const char *trace)
{
	if (*trace != '\0')
		json_object_set_new(body, "trace", json_string(trace));
	return body;
}

void agents_put(struct agents *a, const char *agent_id, const char *graph, const json_t *doc,
		const char *trace, agents_answer_fn *fn, void *arg)
{
	struct agent *ag = find(a, agent_id);
	if (ag != NULL && ag->session.up)
		graphdoc_each_digest(doc, send_source, ag);
	request(ag, REQUEST_PUT, graph, with_trace(json_pack("{s:s, s:O}", "op", "put", "graph", doc), trace),
		fn, arg);
}

void agents_drop_graph(struct agents *a, const char *agent_id, const char *graph, const char *trace,
		       agents_answer_fn *fn, void *arg)
{
	request(find(a, agent_id), REQUEST_DROP, graph,
		with_trace(json_pack("{s:s, s:s}", "op", "drop", "graph", graph), trace), fn, arg);
}

static void on_synced(void *arg, json_t *answer, const char *why, bool final)
{
	struct agent *ag = arg;
	if (answer != NULL && !ag->synced) {
		ag->synced = true;
		agent_served_changed(ag);
	}
	if (answer == NULL && final && strcmp(why, AGENTS_NO_MEMORY) == 0)
		loop_arm(ag->csm->loop, ag->sync_timer, SYNC_AGAIN_MS);
}

static void sync_again(void *arg)
{
	struct agent *ag = arg;
	agents_sync(ag->csm->agents, ag->id);
}

void agents_sync(struct agents *a, const char *agent_id)
{
	struct agent *ag = find(a, agent_id);
	request(ag, REQUEST_SYNC, NULL, json_pack("{s:s, s:b}", "op", "sync", "first", true), on_synced, ag);
}

struct picking {
	struct agent *best;
};

static void pick(void *arg, const char *key, void *value)
{
	struct picking *p = arg;
	struct agent *ag = value;
	(void)key;
	if (ag->session.up && (p->best == NULL || ag->session.seq_out < p->best->session.seq_out))
		p->best = ag;
}

const char *agents_pick(struct agents *a)
{
	struct picking p = {0};
	map_each(a->by_id, pick, &p);
	return p.best != NULL ? p.best->id : NULL;
}

bool agents_up(struct agents *a, const char *agent_id)
{
	const struct agent *ag = agent_id != NULL ? find(a, agent_id) : NULL;
	return agent_id != NULL ? ag != NULL && ag->session.up : agents_pick(a) != NULL;
}

void agents_check(struct agents *a, const char *owner, json_t *codes, json_t *depends,
		  const char *trace, agents_answer_fn *fn, void *arg)
{
	const char *id = agents_pick(a);
	struct agent *ag = id != NULL ? find(a, id) : NULL;
	json_auto_t *body = with_trace(json_pack("{s:s, s:s, s:O, s:O}", "op", "check", "owner", owner,
						 "codes", codes, "depends", depends),
				       trace);
	size_t limit = (size_t)a->csm->settings->broker.message_size_limit;
	const char *why = NULL;
	if (body != NULL && json_dumpb(body, NULL, 0, JSON_COMPACT) + SEAL_HEAD_MAX + 1024 > limit)
		why = "too much code for one message: check it in parts";
	else if (ag != NULL && requests_open(ag->requests, REQUEST_CHECK) >= CHECKS_MAX)
		why = "too many checks are under way: try again";
	if (why != NULL)
		fn(arg, NULL, why, true);
	else
		request(ag, REQUEST_CHECK, NULL, json_incref(body), fn, arg);
}

/* ---- receiving ---- */

static void drop(struct agent *ag, const char *topic, const char *reason)
{
	struct csm *csm = ag->csm;
	metrics_drop(csm->metrics, "agent", reason);
	if (log_allowed("agent.dropped", topic))
		log_warn("agent.dropped", KV("topic", topic), KV("why", reason));
}

static void end_session(struct agent *ag, const char *why)
{
	if (!ag->session.up)
		return;
	log_info("agent.offline", KV("agent", ag->id), KV("why", why));
	ag->session.up = false;
	requests_fail(ag->requests, why);
}

static void on_state(struct agent *ag, const char *topic, const struct seal_head *head, json_t *body)
{
	struct csm *csm = ag->csm;
	struct seal_head hello;
	const char *reason = NULL;
	json_auto_t *op = NULL;
	switch (agent_session_state(&ag->session, head, body, &hello, &reason)) {
	case AGENT_STATE_DROP:
		drop(ag, topic, reason);
		break;
	case AGENT_STATE_HELLO:
		op = json_pack("{s:s}", "op", "hello");
		if (op != NULL)
			send_sealed(ag, &hello, op);
		break;
	case AGENT_STATE_UP:
		ag->session.up = false; /* what owners do about it waits for the new session */
		requests_fail(ag->requests, "the agent began a new session");
		ag->session.up = true;
		map_free(ag->sent, free);
		ag->sent = map_new();
		if (ag->sent == NULL) {
			ag->session.up = false;
			break;
		}
		ag->synced = ag->linked = ag->told_served = false;
		agent_served_changed(ag);
		log_info("agent.online", KV("agent", ag->id));
		graphs_on_session(csm->graphs, ag->id);
		break;
	case AGENT_STATE_DOWN:
		ag->session.up = true; /* so that end_session() sees what ends */
		end_session(ag, "the agent went offline");
		break;
	case AGENT_STATE_SAME:
		break;
	}
}

/* What a function raised names values of the message it was given, and those do not belong into a log: of a traceback only the
 * exception's name is told. The monitor has all of it. */
static void log_words(const char *reason, char *ret, size_t size)
{
	if (reason == NULL)
		reason = "";
	snprintf(ret, size, "%s", reason);
	if (strncmp(reason, "Traceback", 9) != 0)
		return;
	const char *end = reason + strlen(reason);
	while (end > reason && end[-1] == '\n')
		end--;
	const char *line = end;
	while (line > reason && line[-1] != '\n')
		line--;
	size_t len = strcspn(line, ":\n");
	snprintf(ret, size, "%.*s", (int)(len < size ? len : size - 1), line);
}

static void on_report(struct agent *ag, json_t *body)
{
	const char *level = json_string_value(json_object_get(body, "level"));
	const char *graph = json_string_value(json_object_get(body, "graph"));
	char words[200];
	graphs_on_report(ag->csm->graphs, ag->id, body);
	if (level != NULL && strcmp(level, "ok") == 0) {
		log_info("graph.released", KV("agent", ag->id), KV("graph", graph),
			 KV("kind", json_string_value(json_object_get(body, "kind"))));
		return;
	}
	log_words(json_string_value(json_object_get(body, "reason")), words, sizeof(words));
	log_warn("graph.trouble", KV("agent", ag->id), KV("graph", graph),
		 KV("kind", json_string_value(json_object_get(body, "kind"))), KV("why", words));
}

static void on_answer(struct agent *ag, const char *topic, json_t *body)
{
	json_int_t id = json_integer_value(json_object_get(body, "id"));
	if (!json_is_string(json_object_get(body, "state")))
		drop(ag, topic, "malformed");
	else if (!requests_answer(ag->requests, id, body))
		log_debug("agent.late_answer", KV("agent", ag->id), KV("id", id));
}

static void keep_numbers(json_t **which, json_t *told)
{
	if (!json_is_object(told))
		return;
	json_decref(*which);
	*which = json_incref(told);
}

static void on_res(struct agent *ag, const char *topic, const struct seal_head *head, json_t *body)
{
	const char *op = json_string_value(json_object_get(body, "op"));
	if (!agent_session_accept(&ag->session, head)) {
		drop(ag, topic, "replayed");
	} else if (op == NULL) {
		drop(ag, topic, "malformed");
	} else if (strcmp(op, "stats") == 0) {
		keep_numbers(&ag->counters, json_object_get(body, "counters"));
		keep_numbers(&ag->gauges, json_object_get(body, "gauges"));
		if (!ag->linked && json_integer_value(json_object_get(ag->gauges, "data_link")) != 0) {
			ag->linked = true;
			agent_served_changed(ag);
		}
	} else if (strcmp(op, "report") == 0) {
		on_report(ag, body);
	} else {
		on_answer(ag, topic, body);
	}
}

/* "iottalk/agent/<id>/<what>" -> id and what. */
static bool split_topic(const char *topic, char id[AGENT_ID_MAX + 1], const char **ret_what)
{
	static const char prefix[] = "iottalk/agent/";
	if (strncmp(topic, prefix, sizeof(prefix) - 1) != 0)
		return false;
	const char *start = topic + sizeof(prefix) - 1;
	size_t len = strspn(start, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
	if (len == 0 || len > AGENT_ID_MAX || start[len] != '/')
		return false;
	memcpy(id, start, len);
	id[len] = '\0';
	*ret_what = start + len + 1;
	return true;
}

void agents_on_message(struct agents *a, const struct bus_msg *m)
{
	char id[AGENT_ID_MAX + 1];
	const char *what, *text;
	struct seal_head head;
	size_t len;
	int rc = ERR_PARSE;
	if (m->len == 0)
		return; /* somebody cleared the retained state: its agent puts it back */
	if (split_topic(m->topic, id, &what))
		rc = seal_open(&a->csm->key, m->topic, m->payload, m->len, &head, &text, &len, NULL);
	if (rc < 0) {
		metrics_drop(a->csm->metrics, "agent", rc == ERR_ACCES ? "forged" : "malformed");
		if (log_allowed("agent.dropped", m->topic))
			log_warn("agent.dropped", KV("topic", m->topic),
				 KV("why", rc == ERR_ACCES ? "forged" : "malformed"));
		return;
	}
	unsigned long shortages = shortage_count();
	json_auto_t *body = json_loadb(text, len, 0, NULL);
	struct agent *ag = get(a, id);
	if (ag == NULL)
		return;
	if (!json_is_object(body))
		drop(ag, m->topic, shortage_count() == shortages ? "malformed" : "no_memory");
	else if (strcmp(what, "state") == 0)
		on_state(ag, m->topic, &head, body);
	else
		on_res(ag, m->topic, &head, body);
}

/* ---- metrics ---- */

static void write_up(void *arg, const char *key, void *value)
{
	const struct agent *ag = value;
	fprintf(arg, "iottalk_agent_up{agent=\"%s\"} %d\n", key, ag->session.up);
}

static void write_numbers(FILE *out, const char *family, const char *agent, json_t *numbers)
{
	const char *name;
	json_t *n;
	json_object_foreach (numbers, name, n)
		if (json_is_integer(n) && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._") ==
						  strlen(name))
			fprintf(out, "%s{agent=\"%s\",name=\"%s\"} %lld\n", family, agent, name,
				(long long)json_integer_value(n));
}

static void write_counters(void *arg, const char *key, void *value)
{
	const struct agent *ag = value;
	write_numbers(arg, "iottalk_agent_counter", key, ag->counters);
}

static void write_gauges(void *arg, const char *key, void *value)
{
	const struct agent *ag = value;
	if (ag->session.up) /* what one was that is gone says nothing of now */
		write_numbers(arg, "iottalk_agent_gauge", key, ag->gauges);
}

void agents_write_metrics(struct agents *a, FILE *out)
{
	exposition_head(out, "iottalk_agent_up", "gauge", "1 while the agent has a session with csm.");
	map_each(a->by_id, write_up, out);
	exposition_head(out, "iottalk_agent_counter", "counter",
			"What an agent has counted since its start: messages, drops, restarts of engines.");
	map_each(a->by_id, write_counters, out);
	exposition_head(out, "iottalk_agent_gauge", "gauge", "How many engines and graphs an agent has now.");
	map_each(a->by_id, write_gauges, out);
}
