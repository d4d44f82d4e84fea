#include "agent/graph/transport_plugin.h"
#include "agent/graph/plugin.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STATS_EVERY_MS 1000
#define START_WAIT_MS  2000 /* for an answer while the agent starts */
#define OWN_QOS        1    /* of what the agent itself says */

/* ---- one port ---- */

int plugin_ask(struct transport_port *p, struct plug_ask *ask)
{
	struct err err = {0};

	if (!p->known)
		return ERR_AGAIN;
	ask->port = p->number;
	ask->owner = p;
	int rc = plug_link_ask(p->t->link, ask, &err);
	if (rc < 0 && rc != ERR_AGAIN)
		log_error("transport.ask_failed", KV("engine", p->name), KV("why", err.text));
	return rc;
}

static void tell_hold(struct transport_port *p);
static void tell_retire(struct transport_port *p);
static void tell_resume(struct transport_port *p);

static void say_broken(struct transport_port *p)
{
	if (p->broken_told || p->phase != PORT_RUNNING)
		return;
	p->broken_told = true;
	p->t->ev.on_port_broken(p->t->arg, p);
}

/* All it should know of the port, after it has said what it knows. */
static void tell_all(struct transport_port *p, enum plug_state state)
{
	p->met = true;
	plugin_topics_tell(p);
	switch (p->phase) {
	case PORT_RUNNING:
		if (state == PLUG_STATE_BROKEN)
			say_broken(p);
		else if (state == PLUG_STATE_HELD)
			tell_resume(p);
		break;
	case PORT_HOLDING:
		tell_hold(p);
		break;
	case PORT_RETIRING:
		tell_retire(p);
		break;
	case PORT_EMPTY:
	case PORT_HELD:
	case PORT_RETIRED:
		break;
	}
	if (p->t->opened)
		plugin_topics_sweep(p);
}

static void on_listed(void *arg, const struct plug_answer *a, const char *text)
{
	struct transport_port *p = arg;

	if (a->code == ERR_PEER)
		return;
	if (a->flags & PLUG_MORE) {
		plugin_topics_listed(p, (a->flags & PLUG_OUTWARD) != 0, a->slot, text);
		return;
	}
	if (!p->met)
		plugin_topics_rest(p, a->a, a->b);
	tell_all(p, (enum plug_state)p->state);
}

static void on_added(void *arg, const struct plug_answer *a, const char *text)
{
	struct transport_port *p = arg;
	struct plug_ask list = {.op = PLUG_LIST, .fn = on_listed, .arg = p};

	if (a->code == ERR_PEER)
		return;
	if (a->code < 0) {
		log_error("transport.port_refused", KV("engine", p->name), KV("why", text));
		return;
	}
	p->number = a->port;
	p->known = true;
	p->living = (a->flags & PLUG_LIVING) != 0;
	p->state = a->slot;
	if (p->living)
		plugin_ask(p, &list);
	else
		tell_all(p, (enum plug_state)a->slot);
}

/* The out-ring to add it with: of an engine that is gone and done with, another one that says where
 * the next engine begins, because the old one would contradict that. */
static int out_ring(const struct transport_port *p, struct tap_fds *ret, struct err *err)
{
	*ret = *p->fds;
	ret->out_fd = dup(p->fds->out_fd);
	if (ret->out_fd < 0)
		return err_sys(err, "rings of engine %s", p->name);
	uint64_t start = p->start;
	bool retired = p->phase == PORT_RETIRED ||
		       (p->phase == PORT_RETIRING && tap_fds_start(p->fds, &start, NULL) == 0 &&
			start != p->start);
	return retired ? tap_make_out(ret, err) : 0;
}

static void tell_add(struct transport_port *p)
{
	struct err err = {0};
	struct tap_fds rings = TAP_FDS_NONE;
	int rc = out_ring(p, &rings, &err);
	/* Without engine, although there may be one: results may wait on its ring whose slots a
	 * plugin that has just come up must be given first. tell_all() resumes it. */
	const int fds[] = {rings.in_fd, rings.out_fd};
	const struct plug_ask ask = {
		.op = PLUG_PORT_ADD,
		.text = p->name,
		.len = strlen(p->name),
		.fds = fds,
		.n_fds = ARRAY_LEN(fds),
		.fn = on_added,
		.arg = p,
		.owner = p,
	};

	if (rc == 0)
		rc = plug_link_ask(p->t->link, &ask, &err);
	if (rc < 0 && rc != ERR_AGAIN)
		log_error("transport.port_failed", KV("engine", p->name), KV("why", err.text));
	closep(&rings.out_fd);
}

/* ---- engines come and go ---- */

static void on_held(void *arg, const struct plug_answer *a, const char *text)
{
	struct transport_port *p = arg;
	const struct transport_standing standing = {
		.sane = a->code == 0 && (a->flags & PLUG_SANE) != 0,
		.at_message = (a->flags & PLUG_AT_MESSAGE) != 0,
		.slot = a->slot,
		.done = a->a,
	};

	if (a->code == ERR_PEER || p->phase != PORT_HOLDING)
		return; /* asked again when the plugin is back */
	if (a->code < 0)
		log_error("transport.hold_failed", KV("engine", p->name), KV("why", text));
	if (a->code == 0 && (a->flags & PLUG_MORE)) {
		tell_hold(p);
		return;
	}
	p->phase = PORT_HELD;
	p->held(p->held_arg, &standing);
}

static void tell_hold(struct transport_port *p)
{
	struct plug_ask ask = {.op = PLUG_PORT_HOLD, .fn = on_held, .arg = p};

	plugin_ask(p, &ask);
}

static int plugin_port_hold(struct transport_port *p, transport_held_fn *fn, void *arg,
			    struct err *err)
{
	(void)err;
	p->phase = PORT_HOLDING;
	p->held = fn;
	p->held_arg = arg;
	p->wake_fd = p->result_fd = -1;
	tell_hold(p);
	return 0;
}

static void retired(struct transport_port *p, int rc)
{
	p->phase = PORT_RETIRED;
	p->retired(p->retired_arg, rc);
}

static void on_retired(void *arg, const struct plug_answer *a, const char *text)
{
	struct transport_port *p = arg;

	if (a->code == ERR_PEER || p->phase != PORT_RETIRING)
		return;
	if (a->code < 0)
		log_error("transport.retire_failed", KV("engine", p->name), KV("why", text));
	retired(p, a->code);
}

static void tell_retire(struct transport_port *p)
{
	struct plug_ask ask = {.op = PLUG_PORT_RETIRE,
			       .flags = p->skip ? PLUG_SKIP : 0,
			       .fn = on_retired,
			       .arg = p};
	uint64_t start;

	/* a plugin that died, or was lost from sight, after it had done that */
	if (tap_fds_start(p->fds, &start, NULL) == 0 && start != p->start)
		loop_arm(p->t->loop, p->later_timer, 0);
	else
		plugin_ask(p, &ask);
}

static int plugin_port_retire(struct transport_port *p, bool skip_current, transport_done_fn *done,
			      void *arg, struct err *err)
{
	int rc = tap_fds_start(p->fds, &p->start, err);

	if (rc < 0)
		return rc;
	p->phase = PORT_RETIRING;
	p->skip = skip_current;
	p->retired = done;
	p->retired_arg = arg;
	tell_retire(p);
	return 0;
}

static void on_resumed(void *arg, const struct plug_answer *a, const char *text)
{
	struct transport_port *p = arg;

	if (a->code >= 0 || a->code == ERR_PEER)
		return;
	log_error("transport.resume_failed", KV("engine", p->name), KV("why", text));
	say_broken(p);
}

static void tell_resume(struct transport_port *p)
{
	const int fds[] = {p->fds->out_fd, p->wake_fd, p->result_fd};
	struct plug_ask ask = {
		.op = PLUG_PORT_RESUME, .fds = fds, .n_fds = 3, .fn = on_resumed, .arg = p};

	plugin_ask(p, &ask);
}

/* The out-ring is another one than it was. */
static int watch_rings(struct transport_port *p, struct err *err)
{
	struct tap_watch *watch = NULL;
	int rc = tap_watch_open(p->fds->in_ro_fd, p->fds->out_fd, &watch, err);

	if (rc < 0)
		return rc;
	tap_watch_close(p->watch);
	p->watch = watch;
	return 0;
}

static int begin(struct transport_port *p, int wake_fd, int result_fd, struct err *err)
{
	int rc = watch_rings(p, err);

	if (rc < 0)
		return rc;
	p->phase = PORT_RUNNING;
	p->wake_fd = wake_fd;
	p->result_fd = result_fd;
	p->broken_told = false;
	return 0;
}

static int plugin_port_resume(struct transport_port *p, const struct tap_fds *fds, int wake_fd,
			      int result_fd, struct err *err)
{
	p->fds = fds;
	int rc = begin(p, wake_fd, result_fd, err);

	if (rc == 0)
		tell_resume(p);
	return rc;
}

static void on_later(void *arg)
{
	struct transport_port *p = arg;
	transport_slots_fn *slots = plug_link_is_up(p->t->link) ? NULL : TAKE(p->slots);

	if (p->phase == PORT_RETIRING)
		retired(p, 0);
	else if (slots != NULL)
		slots(p->slots_arg, NULL, 0);
}

/* It was removed before the plugin said which one it is. */
static void on_orphan_added(void *arg, const struct plug_answer *a, const char *text)
{
	struct transport *t = arg;
	const struct plug_ask ask = {.op = PLUG_PORT_REMOVE, .port = a->port};

	(void)text;
	if (a->code == 0)
		plug_link_ask(t->link, &ask, NULL);
}

static struct transport_port *plugin_port_remove(struct transport_port *p)
{
	if (p == NULL)
		return NULL;
	struct transport *t = p->t;
	const struct plug_ask ask = {.op = PLUG_PORT_REMOVE, .port = p->number};

	for (struct transport_port **at = &t->ports; *at != NULL; at = &(*at)->next)
		if (*at == p) {
			*at = p->next;
			break;
		}
	plug_link_redirect(t->link, p, PLUG_PORT_ADD, on_orphan_added, t);
	plug_link_forget(t->link, p);
	if (p->known)
		plug_link_ask(t->link, &ask, NULL);
	loop_remove(t->loop, p->later_timer);
	tap_watch_close(p->watch);
	plugin_topics_done(&p->in);
	plugin_topics_done(&p->out);
	free(p->rows.rows);
	free(p->name);
	free(p);
	return NULL;
}

/* Rings with messages of an earlier agent make sense only with the slots that the plugin knows. */
static bool has_history(const struct transport_port *p)
{
	struct tap_look look;

	tap_watch_look(p->watch, &look);
	return look.done + look.waiting > 0;
}

static char *full_name(const struct transport *t, const char *name)
{
	char *full;

	return asprintf(&full, "%s%s", t->prefix, name) < 0 ? NULL : full;
}

static int plugin_port_add(struct transport *t, const char *name, const struct tap_fds *fds,
			   int wake_fd, int result_fd, struct transport_port **ret, struct err *err)
{
	struct transport_port *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return err_set(err, ERR_NOMEM, "port");
	p->t = t;
	p->name = full_name(t, name);
	p->fds = fds;
	p->wake_fd = p->result_fd = -1;
	p->next = t->ports;
	t->ports = p;
	int rc = ERR_NOMEM;
	if (p->name == NULL)
		err_set(err, rc, "port");
	else
		rc = plugin_topics_init(&p->in, err);
	if (rc == 0)
		rc = plugin_topics_init(&p->out, err);
	if (rc == 0)
		rc = loop_add_timer(t->loop, -1, 0, on_later, p, &p->later_timer, err);
	if (rc == 0)
		rc = wake_fd >= 0 ? begin(p, wake_fd, result_fd, err) : watch_rings(p, err);
	if (rc < 0) {
		plugin_port_remove(p);
		return rc;
	}
	tell_add(p);
	/* slots that are in use must be known before the first one is given out */
	if (plug_link_is_up(t->link) && !t->opened)
		rc = plug_link_wait(t->link, START_WAIT_MS, err);
	if (rc == 0 && !(p->known && p->living) && (wake_fd >= 0 || has_history(p)))
		rc = err_set(err, ERR_NOENT, "the broker plugin does not know engine %s", name);
	if (rc < 0) {
		plugin_port_remove(p);
		return rc;
	}
	*ret = p;
	return 0;
}

static bool plugin_port_holding(const struct transport_port *p)
{
	return !p->known;
}

static int plugin_publish(struct transport_port *p, uint32_t out_slot, const char *payload,
			  size_t len)
{
	const struct plug_ask ask = {.op = PLUG_PUBLISH,
				     .port = p->number,
				     .slot = out_slot,
				     .flags = OWN_QOS,
				     .text = payload,
				     .len = len};

	return p->known ? plug_link_ask(p->t->link, &ask, NULL) : ERR_AGAIN;
}

/* ---- figures ---- */

static void on_slot(void *arg, const struct plug_answer *a, const char *text)
{
	struct transport_port *p = arg;
	struct slot_rows *r = &p->rows;

	(void)text;
	if (a->code == 0 && (a->flags & PLUG_MORE)) {
		slot_rows_add(r, (struct transport_slot_stats){a->slot, a->a, a->b, a->c});
		return;
	}
	transport_slots_fn *fn = TAKE(p->slots);
	if (fn != NULL)
		fn(p->slots_arg, a->code == 0 ? r->rows : NULL, a->code == 0 ? r->n : 0);
}

static int plugin_port_stats(struct transport_port *p, transport_slots_fn *fn, void *arg,
			     struct err *err)
{
	struct plug_ask ask = {.op = PLUG_SLOT_STATS, .fn = on_slot, .arg = p};

	if (p->slots != NULL)
		return err_set(err, ERR_BUSY, "these statistics are being asked for");
	p->slots = fn;
	p->slots_arg = arg;
	p->rows.n = 0;
	if (p->known)
		plugin_ask(p, &ask);
	else
		loop_arm(p->t->loop, p->later_timer, 0);
	return 0;
}

static void on_stats(void *arg, const struct plug_answer *a, const char *text)
{
	struct transport *t = arg;
	json_t *stats = a->code == 0 ? json_object() : NULL;

	while (stats != NULL && *text != '\0') {
		size_t name = strcspn(text, " \n");
		char *end;
		unsigned long long n = strtoull(text + name, &end, 10);
		json_t *total = json_integer((json_int_t)n);

		json_object_setn_new(stats, text, name, total);
		text = *end == '\n' ? end + 1 : end + strcspn(end, "\n");
	}
	if (stats == NULL)
		return;
	json_decref(t->stats);
	t->stats = stats;
}

static void on_stats_timer(void *arg)
{
	struct transport *t = arg;
	const struct plug_ask ask = {.op = PLUG_STATS, .fn = on_stats, .arg = t, .owner = t};

	plug_link_ask(t->link, &ask, NULL);
}

static json_t *plugin_stats(const struct transport *t)
{
	return json_copy(t->stats);
}

/* ---- the transport ---- */

static void on_up(void *arg)
{
	struct transport *t = arg;

	for (struct transport_port *p = t->ports; p != NULL; p = p->next)
		tell_add(p);
	on_stats_timer(t);
	if (!t->starting)
		t->ev.on_link(t->arg, true);
}

/* What came up while the transport was being made. */
static void on_link_timer(void *arg)
{
	struct transport *t = arg;

	if (plug_link_is_up(t->link))
		t->ev.on_link(t->arg, true);
}

static void on_down(void *arg, const char *why)
{
	struct transport *t = arg;

	log_warn("plugin.down", KV("why", why));
	for (struct transport_port *p = t->ports; p != NULL; p = p->next) {
		transport_slots_fn *slots = TAKE(p->slots);

		p->known = false;
		plugin_topics_unsure(p);
		if (slots != NULL)
			slots(p->slots_arg, NULL, 0);
	}
	t->ev.on_link(t->arg, false);
}

static void on_event(void *arg, enum plug_event event, uint32_t number)
{
	struct transport *t = arg;
	struct transport_port *p = t->ports;

	while (p != NULL && !(p->known && p->number == number))
		p = p->next;
	if (p == NULL || p->phase != PORT_RUNNING)
		return;
	if (event == PLUG_BROKEN)
		say_broken(p);
	else if (event == PLUG_FED)
		t->ev.on_port_fed(t->arg, p);
}

static struct transport *plugin_stop(struct transport *t)
{
	if (t == NULL)
		return NULL;
	while (t->ports != NULL) {
		t->ports->known = false; /* they go on without us */
		plugin_port_remove(t->ports);
	}
	loop_remove(t->loop, t->stats_timer);
	loop_remove(t->loop, t->link_timer);
	plug_link_free(t->link);
	json_decref(t->stats);
	free(t->prefix);
	free(t);
	return NULL;
}

static int plugin_start(struct loop *l, const struct settings *s, const char *agent_id,
			const struct transport_events *ev, void *arg, struct transport **ret,
			struct err *err)
{
	static const struct plug_link_events events = {
		.on_up = on_up, .on_down = on_down, .on_event = on_event};
	CLEANUP(freep)
	char *path = settings_plugin_socket(s);
	struct transport *t = calloc(1, sizeof(*t));

	char *prefix;

	if (asprintf(&prefix, "%s/", agent_id) < 0)
		prefix = NULL;
	if (t == NULL || path == NULL || prefix == NULL) {
		free(prefix);
		free(t);
		return err_set(err, ERR_NOMEM, "transport");
	}
	*t = (struct transport){
		.loop = l,
		.settings = s,
		.ev = *ev,
		.arg = arg,
		.prefix = prefix,
		.starting = true,
		.stats = json_object(),
	};
	int rc = loop_add_timer(l, STATS_EVERY_MS, STATS_EVERY_MS, on_stats_timer, t,
				&t->stats_timer, err);
	if (rc == 0)
		rc = loop_add_timer(l, 0, 0, on_link_timer, t, &t->link_timer, err);
	if (rc == 0)
		rc = plug_link_new(l, path, &events, t, &t->link, err);
	if (rc < 0) {
		plugin_stop(t);
		return rc;
	}
	/* engines of an earlier agent are met before the loop runs */
	struct err late = {0};
	if (plug_link_wait(t->link, START_WAIT_MS, &late) < 0)
		log_warn("plugin.down", KV("why", late.text));
	t->starting = false;
	*ret = t;
	return 0;
}

static void plugin_open(struct transport *t)
{
	const struct plug_ask ask = {.op = PLUG_SWEEP, .text = t->prefix, .len = strlen(t->prefix)};

	t->opened = true;
	for (struct transport_port *p = t->ports; p != NULL; p = p->next)
		plugin_topics_sweep(p);
	plug_link_ask(t->link, &ask, NULL);
}

const struct transport_ops transport_plugin = {
	.name = "plugin",
	.outlives = true,
	.start = plugin_start,
	.stop = plugin_stop,
	.open = plugin_open,
	.port_add = plugin_port_add,
	.port_hold = plugin_port_hold,
	.port_retire = plugin_port_retire,
	.port_resume = plugin_port_resume,
	.port_remove = plugin_port_remove,
	.port_holding = plugin_port_holding,
	.tap_topic = plugin_tap_topic,
	.untap_topic = plugin_untap_topic,
	.out_topic = plugin_out_topic,
	.drop_out_topic = plugin_drop_out_topic,
	.publish = plugin_publish,
	.stats = plugin_stats,
	.port_stats = plugin_port_stats,
};
