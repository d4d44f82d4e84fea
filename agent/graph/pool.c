#include "agent/graph/pool.h"
#include "agent/graph/check.h"
#include "agent/graph/counters.h"
#include "agent/graph/figures.h"
#include "agent/graph/strikes.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define RELOADS_MAX 32 /* on their way to an engine at a time */
#define APART_MAX   8  /* places for one graph each, for one owner */
#define DIGEST_PART 32 /* hex digits: nobody finds two owners that share these */

static const char check_of_all[] = "check";

/* ---- names ---- */

static void owner_part(const char *owner, char ret[DIGEST_PART + 1])
{
	snprintf(ret, DIGEST_PART + 1, "%.*s", DIGEST_PART, sha256_hex(owner, strlen(owner)).s);
}

static unsigned shard_of(const struct service *s, const char *id)
{
	long n = s->settings->engine.per_owner;
	unsigned long hash;

	if (n == 0)
		n = sysconf(_SC_NPROCESSORS_ONLN);
	if (n < 1)
		n = 1;
	if (n > 64)
		n = 64;
	struct digest_text digest = sha256_hex(id, strlen(id));
	digest.s[8] = '\0';
	hash = strtoul(digest.s, NULL, 16);
	return (unsigned)(hash % (unsigned long)n);
}

/* Another owner's graph of the same id has another place: the owner is part of the name. */
static int apart_name(const char *id, const char *owner, char ret[PLACE_NAME_MAX])
{
	CLEANUP(freep)
	char *both = NULL;
	int len = asprintf(&both, "%s%c%s", owner, '\0', id);

	if (len < 0)
		return ERR_NOMEM;
	snprintf(ret, PLACE_NAME_MAX, "g-%.*s", DIGEST_PART, sha256_hex(both, (size_t)len).s);
	return 0;
}

/* ---- graphs of a place ---- */

/* ret: true if somebody needs it. */
static bool is_used(const struct place *p)
{
	return p->n_graphs > 0 || p->holds > 0;
}

static void settle(struct place *p)
{
	/* what csm has not put again yet may be on its way */
	bool keep = is_used(p) || (p->adopted && !p->s->opened);

	loop_arm(p->s->loop, p->idle_timer, keep ? -1 : p->s->settings->engine.idle_ms);
}

void place_join(struct place *p, struct graph *g)
{
	g->place = p;
	g->place_prev = NULL;
	g->place_next = p->graphs;
	if (p->graphs != NULL)
		p->graphs->place_prev = g;
	p->graphs = g;
	p->n_graphs++;
	settle(p);
}

void place_leave(struct graph *g)
{
	struct place *p = g->place;

	if (p == NULL)
		return;
	if (p->reload_at == g)
		p->reload_at = g->place_next;
	if (g->place_prev != NULL)
		g->place_prev->place_next = g->place_next;
	else
		p->graphs = g->place_next;
	if (g->place_next != NULL)
		g->place_next->place_prev = g->place_prev;
	g->place = NULL;
	g->place_prev = g->place_next = NULL;
	p->n_graphs--;
	settle(p);
}

void place_hold(struct place *p)
{
	p->holds++;
	settle(p);
}

void place_release(struct place *p)
{
	p->holds--;
	settle(p);
}

/* ---- its engine comes and goes ---- */

/* Messages flow when everything they are for is there: what csm wants, and what is on its way from
 * another place. */
static void go(struct place *p)
{
	if (p->loaded && p->s->opened && p->arriving == 0)
		host_go(p->host);
}

void place_expect(struct place *p)
{
	p->arriving++;
	place_hold(p);
}

void place_arrived(struct place *p)
{
	p->arriving--;
	place_release(p);
	go(p);
}

static void all_loaded(struct place *p)
{
	p->loaded = true;
	go(p);
	for (struct graph *g = p->graphs, *next; g != NULL; g = next) {
		next = g->place_next;
		graph_go_on(g);
	}
	check_ask_all(p);
}

static void reload_more(struct place *p)
{
	while (p->reloading < RELOADS_MAX && p->reload_at != NULL) {
		struct graph *g = p->reload_at;

		p->reload_at = g->place_next;
		if (graph_reload(g))
			p->reloading++;
		else if (!host_is_ready(p->host))
			return; /* it fell already */
	}
	if (p->reloading == 0 && p->reload_at == NULL)
		all_loaded(p);
}

void place_reloaded(struct place *p)
{
	p->reloading--;
	reload_more(p);
}

static void on_ready(void *arg)
{
	struct place *p = arg;

	p->reload_at = p->graphs;
	p->reloading = 0;
	reload_more(p);
	p->s->events.on_change(p->s->arg);
}

static void on_fall(void *arg, const struct host_fall *fall)
{
	struct place *p = arg;
	struct service *s = p->s;
	const struct asker *asker = fall->request;

	service_add_totals(s, p->present);
	json_decref(p->present);
	p->present = NULL;
	p->loaded = false;
	p->down_ms = loop_now_ms(s->loop);
	p->reload_at = NULL;
	p->reloading = 0;
	if (fall->evaluating) {
		counters_add(s->totals, "dropped.engine_fell", 1);
		blame_message(p, fall);
	}
	bool graph = asker != NULL && asker->kind == ASKER_GRAPH;
	bool check = asker != NULL && asker->kind == ASKER_CHECK;
	for (struct graph *g = p->graphs, *next; g != NULL; g = next) {
		next = g->place_next;
		graph_fell(g, graph && asker == &g->asker, fall->why);
	}
	check_fell(p, check ? asker : NULL, fall->why);
	figures_fell(p);
	s->events.on_change(s->arg);
}

static void on_unasked(void *arg, const char *op, json_t *msg)
{
	struct place *p = arg;

	if (strcmp(op, "stats") == 0) {
		json_decref(p->present);
		p->present = counters_of_engine(msg);
	} else if (strcmp(op, "fault") == 0) {
		blame_fault(p, msg);
	} else if (log_allowed("engine.message_unknown", p->name)) {
		log_warn("engine.message_unknown", KV("engine", p->name), KV("op", op));
	}
}

static const struct host_events host_events = {
	.on_ready = on_ready,
	.on_fall = on_fall,
	.on_unasked = on_unasked,
};

/* ---- places come and go ---- */

static void place_free(struct place *p)
{
	struct service *s = p->s;
	struct host_status status = {0};

	if (p->host != NULL)
		host_get_status(p->host, &status);
	s->restarts += status.restarts;
	service_add_totals(s, p->present);
	p->host = host_free(p->host);
	figures_done(p);
	json_decref(p->present);
	loop_remove(s->loop, p->idle_timer);
	if (p->prev != NULL)
		p->prev->next = p->next;
	else if (s->places == p)
		s->places = p->next;
	if (p->next != NULL)
		p->next->prev = p->prev;
	if (map_find(s->by_name, p->name) == p)
		map_remove(s->by_name, p->name);
	free(p);
}

static void on_idle(void *arg)
{
	struct place *p = arg;
	struct service *s = p->s;

	log_info("engine.idle", KV("engine", p->name));
	place_free(p);
	s->events.on_change(s->arg);
}

static int make_new(void *arg, const char *name, const struct host_events *events, void *host_arg,
		    struct host **ret, struct err *err)
{
	struct service *s = arg;

	const struct host_conf conf = service_host_conf(s);

	return host_new(&conf, name, events, host_arg, ret, err);
}

static int place_new(struct service *s, const char *name, const char *trust, service_make_fn *make,
		     void *arg, struct place **ret, struct err *err)
{
	struct place *p;
	int64_t most = s->settings->engine.max_engines;

	if ((int64_t)map_count(s->by_name) >= most)
		return err_set(err, ERR_LIMIT,
			       "%lld engines run already, and graphs of different owners never "
			       "share one",
			       (long long)most);
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return err_set(err, ERR_NOMEM, "place '%s'", name);
	p->s = s;
	p->figures.asker.kind = ASKER_FIGURES;
	p->keep.kind = ASKER_KEEP;
	p->down_ms = loop_now_ms(s->loop);
	snprintf(p->name, sizeof(p->name), "%s", name);
	snprintf(p->trust, sizeof(p->trust), "%s", trust);
	int rc = loop_add_timer(s->loop, -1, 0, on_idle, p, &p->idle_timer, err);
	if (rc == 0 && map_add(s->by_name, p->name, p) < 0)
		rc = err_set(err, ERR_NOMEM, "place '%s'", name);
	if (rc == 0)
		rc = make(arg, p->name, &host_events, p, &p->host, err);
	if (rc < 0) {
		place_free(p);
		return rc;
	}
	p->port = host_port(p->host);
	p->next = s->places;
	if (p->next != NULL)
		p->next->prev = p;
	s->places = p;
	settle(p);
	*ret = p;
	return 0;
}

static int find_or_new(struct service *s, const char *name, const char *trust, struct place **ret,
		       struct err *err)
{
	struct place *p = map_find(s->by_name, name);

	if (p == NULL)
		return place_new(s, name, trust, make_new, s, ret, err);
	if (p->trust[0] == '\0')
		snprintf(p->trust, sizeof(p->trust), "%s", trust);
	*ret = p;
	return 0;
}

static size_t count_apart(const struct service *s, const char *trust)
{
	size_t n = 0;

	for (const struct place *p = s->places; p != NULL; p = p->next)
		n += p->apart && strcmp(p->trust, trust) == 0;
	return n;
}

int pool_place_apart(struct service *s, const char *id, const char *owner, struct place **ret,
		     struct err *err)
{
	char name[PLACE_NAME_MAX], trust[DIGEST_PART + 1];

	if (apart_name(id, owner, name) < 0)
		return err_set(err, ERR_NOMEM, "place for graph '%s'", id);
	owner_part(owner, trust);
	if (map_find(s->by_name, name) == NULL && count_apart(s, trust) >= APART_MAX)
		return err_set(err, ERR_LIMIT, "its owner has %d engines for one graph already",
			       APART_MAX);
	int rc = find_or_new(s, name, trust, ret, err);
	if (rc == 0)
		(*ret)->apart = true;
	return rc;
}

int pool_place(struct service *s, const char *id, const char *owner, struct place **ret,
	       struct err *err)
{
	char name[PLACE_NAME_MAX], trust[DIGEST_PART + 1];

	if (apart_name(id, owner, name) < 0)
		return err_set(err, ERR_NOMEM, "place for graph '%s'", id);
	/* an engine that lives on holds its globals, whatever else is known of the graph */
	bool apart = strikes_apart(s->strikes, id) || map_find(s->by_name, name) != NULL;
	if (apart && pool_place_apart(s, id, owner, ret, NULL) == 0)
		return 0;
	owner_part(owner, trust);
	snprintf(name, sizeof(name), "o-%s-%u", trust, shard_of(s, id));
	return find_or_new(s, name, trust, ret, err);
}

int pool_place_check(struct service *s, const char *owner, struct place **ret, struct err *err)
{
	char name[PLACE_NAME_MAX], trust[DIGEST_PART + 1] = "";

	snprintf(name, sizeof(name), "%s", check_of_all);
	if (owner != NULL) {
		owner_part(owner, trust);
		snprintf(name, sizeof(name), "c-%s", trust);
	}
	return find_or_new(s, name, trust, ret, err);
}

struct place *pool_of_port(struct service *s, const struct transport_port *port)
{
	struct place *p = s->places;

	while (p != NULL && p->port != port)
		p = p->next;
	return p;
}

void pool_keeper_up(struct service *s)
{
	for (struct place *p = s->places; p != NULL; p = p->next)
		host_keeper_up(p->host);
}

/* ---- engines that were there before us ---- */

int pool_adopt(struct service *s, const char *name, service_make_fn *make, void *arg,
	       struct err *err)
{
	struct place *p = NULL;

	if (strlen(name) >= PLACE_NAME_MAX || map_find(s->by_name, name) != NULL)
		return err_set(err, ERR_EXIST, "engine '%s' is none of ours, or known already",
			       name);
	int rc = place_new(s, name, "", make, arg, &p, err);
	if (rc < 0 || p == NULL)
		return rc;
	p->adopted = true;
	p->apart = strncmp(name, "g-", 2) == 0;
	p->loaded = host_is_ready(p->host);
	settle(p);
	return 0;
}

static void on_kept(void *arg, json_t *answer)
{
	const struct asker *keep = arg;
	const char *reason = json_string_value(json_object_get(answer, "reason"));

	(void)keep;
	if (reason != NULL)
		log_warn("engine.keep_failed", KV("why", reason));
}

/* The engine forgets what csm has dropped while no agent was there. */
static void keep_listed(struct place *p)
{
	json_auto_t *ids = json_array();
	struct err err = {0};

	for (const struct graph *g = p->graphs; g != NULL; g = g->place_next)
		if (g->running != NULL && g->refused == NULL)
			json_array_append_new(ids, json_string(g->id));
	if (ids == NULL || !host_is_ready(p->host))
		return; /* the next one knows nothing */
	int rc = host_request(p->host, json_pack("{s:s, s:O}", "op", "keep", "ids", ids), on_kept,
			      &p->keep, &err);
	if (rc < 0 && rc != ERR_AGAIN)
		log_warn("engine.keep_failed", KV("engine", p->name), KV("why", err.text));
}

void pool_open(struct service *s)
{
	for (struct place *p = s->places; p != NULL; p = p->next) {
		go(p);
		if (p->adopted)
			keep_listed(p);
		settle(p);
	}
}

void pool_free(struct service *s)
{
	while (s->places != NULL)
		place_free(s->places);
}
