#include "agent/graph/plugin.h"
#include "common/log.h"
#include "common/util.h"
#include <string.h>

static const struct {
	enum plug_op take, give;
} ops[] = {{PLUG_TAP, PLUG_UNTAP}, {PLUG_OUT, PLUG_DROP_OUT}};

static struct plugin_topics *topics_of(struct transport_port *p, bool outward)
{
	return outward ? &p->out : &p->in;
}

static void topic_free(void *value)
{
	struct plugin_topic *topic = value;

	while (topic->waiters != NULL) {
		struct plugin_waiter *w = topic->waiters;
		topic->waiters = w->next;
		free(w);
	}
	free(topic);
}

int plugin_topics_init(struct plugin_topics *ts, struct err *err)
{
	ts->table = topic_table_new();
	ts->slots = slots_new();
	return ts->table != NULL && ts->slots != NULL ? 0 : err_set(err, ERR_NOMEM, "port");
}

void plugin_topics_done(struct plugin_topics *ts)
{
	topic_table_free(ts->table, topic_free);
	slots_free(ts->slots);
	*ts = (struct plugin_topics){0};
}

/* ---- slots ---- */

/* How far the ring has moved. A ring without results is as good as one that has moved on: a slot is
 * given back when the engine has confirmed that it uses it no more. That it is empty is the
 * engine's word, which can bring nobody but its own owner a result on another topic. */
static uint64_t passed(const struct transport_port *p, bool outward)
{
	struct tap_look l;

	tap_watch_look(p->watch, &l);
	if (!l.sane)
		return 0; /* no rest is over */
	if (outward)
		return l.out_taken + (l.out_waiting == 0 ? l.out_bytes : 0);
	return l.done;
}

/* When what is on the ring now has gone by: by what the trusted side says. */
static uint64_t mark(const struct transport_port *p, bool outward)
{
	struct tap_look l;

	tap_watch_look(p->watch, &l);
	return outward ? l.out_taken + l.out_bytes : l.done + l.waiting;
}

static void topic_remove(struct plugin_topic *topic)
{
	struct transport_port *p = topic->port;
	struct plugin_topics *ts = topics_of(p, topic->outward);

	slots_give(ts->slots, topic->slot, mark(p, topic->outward));
	topic_table_remove(ts->table, topic->name);
	topic_free(topic);
}

static struct plugin_topic *topic_new(struct transport_port *p, bool outward, const char *name)
{
	struct plugin_topics *ts = topics_of(p, outward);
	size_t len = strlen(name) + 1;
	struct plugin_topic *topic = calloc(1, sizeof(*topic) + len);

	if (topic == NULL)
		return NULL;
	topic->port = p;
	topic->outward = outward;
	memcpy(topic->name, name, len);
	if (topic_table_add(ts->table, topic->name, topic) < 0) {
		free(topic);
		return NULL;
	}
	return topic;
}

/* ---- telling ---- */

static void on_given(void *arg, const struct plug_answer *a, const char *text)
{
	struct plugin_topic *topic = arg;

	topic->asking--;
	if (a->code < 0 && a->code != ERR_PEER)
		log_warn("transport.topic_kept", KV("topic", topic->name), KV("why", text));
	if (topic->refs == 0 && topic->asking == 0)
		topic_remove(topic);
}

/* The slot rests from when the plugin has given the topic up: until then it puts messages on the
 * ring under it. */
static void give_back(struct plugin_topic *topic)
{
	struct plug_ask ask = {
		.op = ops[topic->outward].give,
		.slot = topic->slot,
		.fn = on_given,
		.arg = topic,
	};

	if (topic->there && plugin_ask(topic->port, &ask) == 0) {
		topic->there = false;
		topic->asking++;
	} else {
		topic_remove(topic);
	}
}

static void answer_waiters(struct plugin_topic *topic, int rc)
{
	struct plugin_waiter *w = TAKE(topic->waiters);

	topic->asking++; /* they may give it back: stay alive */
	while (w != NULL) {
		struct plugin_waiter *next = w->next;
		w->fn(w->arg, rc);
		free(w);
		w = next;
	}
	topic->asking--;
}

static void on_taken(void *arg, const struct plug_answer *a, const char *text)
{
	struct plugin_topic *topic = arg;

	topic->asking--;
	if (a->code == ERR_PEER) { /* asked again when the plugin is back */
		if (topic->refs == 0 && topic->asking == 0)
			topic_remove(topic);
		return;
	}
	topic->there = a->code == 0;
	if (a->code < 0)
		log_warn("transport.topic_refused", KV("topic", topic->name), KV("why", text));
	if (topic->asking == 0)
		answer_waiters(topic, a->code);
	if (topic->refs == 0 && topic->asking == 0)
		give_back(topic);
}

static void take(struct plugin_topic *topic)
{
	struct plug_ask ask = {
		.op = ops[topic->outward].take,
		.slot = topic->slot,
		.text = topic->name,
		.len = strlen(topic->name),
		.fn = on_taken,
		.arg = topic,
	};

	/* if not now, it is told with all others */
	if (plugin_ask(topic->port, &ask) == 0)
		topic->asking++;
}

static void tell_one(void *arg, void *value)
{
	struct plugin_topic *topic = value;

	(void)arg;
	if (topic->refs > 0)
		take(topic);
}

void plugin_topics_tell(struct transport_port *p)
{
	topic_table_each(p->in.table, tell_one, NULL);
	topic_table_each(p->out.table, tell_one, NULL);
}

static void unsure(void *arg, void *value)
{
	struct plugin_topic *topic = value;

	(void)arg;
	topic->there = false;
}

void plugin_topics_unsure(struct transport_port *p)
{
	topic_table_each(p->in.table, unsure, NULL);
	topic_table_each(p->out.table, unsure, NULL);
}

/* ---- what an earlier agent had ---- */

void plugin_topics_listed(struct transport_port *p, bool outward, uint32_t slot, const char *name)
{
	struct plugin_topics *ts = topics_of(p, outward);
	struct plugin_topic *topic = topic_table_find(ts->table, name);

	if (topic != NULL && topic->slot == slot) {
		topic->there = true;
		return;
	}
	if (!p->met && topic == NULL && (topic = topic_new(p, outward, name)) != NULL) {
		topic->slot = slot;
		topic->there = true;
		if (slots_claim(ts->slots, slot, topic) == 0)
			return;
		topic_table_remove(ts->table, topic->name);
		topic_free(topic);
	}
	struct plug_ask ask = {.op = ops[outward].give, .slot = slot};
	plugin_ask(p, &ask);
}

static void rest(struct transport_port *p, bool outward, uint64_t n)
{
	struct slots *slots = topics_of(p, outward)->slots;
	int rc = ERR_LIMIT;

	if (n <= UINT32_MAX)
		rc = slots_rest(slots, (uint32_t)n, mark(p, outward));
	if (rc < 0)
		log_error("transport.slots_unknown", KV("engine", p->name),
			  KV("why", err_name(rc)));
}

void plugin_topics_rest(struct transport_port *p, uint64_t n_in, uint64_t n_out)
{
	rest(p, false, n_in);
	rest(p, true, n_out);
}

struct unwanted {
	struct plugin_topic **list;
	size_t n, cap;
};

static void note_unwanted(void *arg, void *value)
{
	struct unwanted *u = arg;
	struct plugin_topic *topic = value;

	if (topic->refs == 0 && topic->asking == 0 && u->n < u->cap)
		u->list[u->n++] = topic;
}

static void sweep(struct plugin_topics *ts)
{
	struct unwanted u = {.cap = topic_table_count(ts->table)};

	u.list = calloc(u.cap + 1, sizeof(struct plugin_topic *));
	if (u.list == NULL)
		return; /* they cost a little room */
	topic_table_each(ts->table, note_unwanted, &u);
	for (size_t i = 0; i < u.n; i++)
		give_back(u.list[i]);
	free(u.list);
}

void plugin_topics_sweep(struct transport_port *p)
{
	sweep(&p->in);
	sweep(&p->out);
}

/* ---- the operations ---- */

static int topic_take(struct transport_port *p, bool outward, const char *name, uint32_t *ret_slot,
		      transport_done_fn *done, void *arg, struct err *err)
{
	struct plugin_topics *ts = topics_of(p, outward);
	struct plugin_topic *topic = topic_table_find(ts->table, name);
	struct plugin_waiter *w = malloc(sizeof(*w));

	if (w == NULL)
		return err_set(err, ERR_NOMEM, "topic");
	if (topic == NULL) {
		topic = topic_new(p, outward, name);
		int rc = topic == NULL
				 ? ERR_NOMEM
				 : slots_take(ts->slots, topic, passed(p, outward), &topic->slot);
		if (rc < 0) {
			if (topic != NULL) {
				topic_table_remove(ts->table, topic->name);
				topic_free(topic);
			}
			free(w);
			return err_set(err, rc, "no slot left on the ring for topic %.100s", name);
		}
	}
	*w = (struct plugin_waiter){.fn = done, .arg = arg};
	struct plugin_waiter **last = &topic->waiters;
	while (*last != NULL)
		last = &(*last)->next;
	*last = w;
	topic->refs++;
	*ret_slot = topic->slot;
	/* asked again if it is there: the answer comes from the loop, and in order */
	take(topic);
	return 0;
}

static void topic_release(struct transport_port *p, bool outward, const char *name)
{
	struct plugin_topic *topic = topic_table_find(topics_of(p, outward)->table, name);

	if (topic == NULL || topic->refs == 0 || --topic->refs > 0)
		return;
	if (topic->asking == 0)
		give_back(topic);
}

int plugin_tap_topic(struct transport_port *p, const char *name, uint32_t *ret_slot,
		     transport_done_fn *done, void *arg, struct err *err)
{
	return topic_take(p, false, name, ret_slot, done, arg, err);
}

void plugin_untap_topic(struct transport_port *p, const char *name)
{
	topic_release(p, false, name);
}

int plugin_out_topic(struct transport_port *p, const char *name, uint32_t *ret_slot,
		     transport_done_fn *done, void *arg, struct err *err)
{
	return topic_take(p, true, name, ret_slot, done, arg, err);
}

void plugin_drop_out_topic(struct transport_port *p, const char *name)
{
	topic_release(p, true, name);
}
