#include "csm/suspensions.h"

#include "common/clock.h"
#include "common/id.h"
#include "common/log.h"
#include "common/map.h"
#include "common/util.h"
#include "csm/links.h"
#include "csm/metrics.h"
#include "csm/store.h"
#include <stdio.h>
#include <string.h>

#define UNSENT_AGAIN_MS 200 /* a command that lacked memory */

enum progress { WAITING, TOLD, DONE, REFUSED };

struct waiter {
	struct waiter *next;
	suspension_done_fn *done;
	void *arg;
};

struct suspension {
	struct suspensions *all;
	struct suspension *next;
	char *feature;
	const char *mode; /* a literal */
	struct of_device *device;
	bool suspend; /* what is wished; false: that it resumes, and then this goes */
	enum progress progress;
	double since;
	char reason[300];	 /* when REFUSED */
	struct uuid_text msg_id; /* when TOLD */
	int64_t told_us;	 /* since when */
	bool unsent;		 /* the command is not on its way yet */
	struct loop_src *timer;	 /* runs when TOLD */
	struct waiter *waiters;
};

struct of_device {
	struct suspension *first;
	char da_id[];
};

struct suspensions {
	struct csm *csm;
	struct map *by_device; /* da_id -> struct of_device */
};

static struct suspension *first_of(const struct suspensions *s, const char *da_id)
{
	const struct of_device *o = map_find(s->by_device, da_id);
	return o != NULL ? o->first : NULL;
}

static struct suspension *find(const struct suspensions *s, const char *da_id, const char *mode, const char *feature)
{
	struct suspension *p = first_of(s, da_id);
	while (p != NULL && (strcmp(p->mode, mode) != 0 || strcmp(p->feature, feature) != 0))
		p = p->next;
	return p;
}

static const char *state_of(const struct suspension *p)
{
	static const char *const words[][2] = {
		[WAITING] = {"waiting", "waiting"},
		[TOLD] = {"resuming", "suspending"},
		[DONE] = {"active", "suspended"},
		[REFUSED] = {"refused", "refused"},
	};
	return words[p->progress][p->suspend];
}

/* Everybody who waits hears it; lists are taken first, because who hears may ask again. */
static void tell_waiters(struct suspension *p, const char *state, const char *reason)
{
	struct waiter *w = TAKE(p->waiters);
	while (w != NULL) {
		struct waiter *next = w->next;
		w->done(w->arg, state, reason);
		free(w);
		w = next;
	}
}

static struct suspension *suspension_free(struct suspension *p)
{
	if (p == NULL)
		return NULL;
	loop_remove(p->all->csm->loop, p->timer);
	free(p->feature);
	free(p);
	return NULL;
}

/* Out of the lists, but not freed. */
static void unlink_one(struct suspension *p)
{
	struct of_device *o = p->device;
	struct suspension **at = &o->first;
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	if (o->first == NULL)
		free(map_remove(p->all->by_device, o->da_id));
}

static void drop(struct suspension *p)
{
	unlink_one(p);
	suspension_free(p);
}

static void on_timer(void *arg);

static int link_one(struct suspensions *s, struct suspension *p, const char *da_id)
{
	struct of_device *o = map_find(s->by_device, da_id);
	if (o == NULL) {
		size_t len = strlen(da_id) + 1;
		o = calloc(1, sizeof(*o) + len);
		if (o == NULL)
			return ERR_NOMEM;
		memcpy(o->da_id, da_id, len);
		if (map_add(s->by_device, o->da_id, o) < 0) {
			free(o);
			return ERR_NOMEM;
		}
	}
	p->device = o;
	p->next = o->first;
	o->first = p;
	return 0;
}

/* NULL: out of memory. */
static struct suspension *add(struct suspensions *s, const char *da_id, const char *mode, const char *feature)
{
	struct suspension *p = calloc(1, sizeof(*p));
	if (p == NULL)
		return NULL;
	p->all = s;
	p->mode = strcmp(mode, "idf") == 0 ? "idf" : "odf";
	p->feature = strdup(feature);
	if (p->feature == NULL || loop_add_timer(s->csm->loop, -1, 0, on_timer, p, &p->timer, NULL) < 0 ||
	    link_one(s, p, da_id) < 0)
		return suspension_free(p);
	return p;
}

/* ---- store ---- */

static void save(const struct suspension *p)
{
	store_exec(p->all->csm->store,
		   "INSERT INTO suspension (da_id, mode, feature, suspended, answered, reason, since)"
		   " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (da_id, mode, feature) DO UPDATE SET"
		   " suspended = excluded.suspended, answered = excluded.answered, reason = excluded.reason,"
		   " since = excluded.since",
		   DB_V_TEXT(p->device->da_id), DB_V_TEXT(p->mode), DB_V_TEXT(p->feature), DB_V_INT(p->suspend),
		   DB_V_INT(p->progress == DONE || p->progress == REFUSED),
		   DB_V_TEXT(p->progress == REFUSED ? p->reason : NULL), DB_V_REAL(p->since));
}

static void forget(const struct suspension *p)
{
	store_exec(p->all->csm->store, "DELETE FROM suspension WHERE da_id = $1 AND mode = $2 AND feature = $3",
		   DB_V_TEXT(p->device->da_id), DB_V_TEXT(p->mode), DB_V_TEXT(p->feature));
}

/* ---- commands ---- */

static const struct device *device_of(const struct suspension *p)
{
	return registry_find(p->all->csm->registry, p->device->da_id);
}

static const char *command_of(const struct suspension *p)
{
	return p->suspend ? "SUSPEND" : "RESUME";
}

static void send_command(struct suspension *p)
{
	struct csm *csm = p->all->csm;
	p->unsent = !csm_command(csm, p->device->da_id,
				 json_pack("{s:s, s:s, s:s}", "msg_id", p->msg_id.s, p->mode, p->feature, "command",
					   command_of(p)));
	loop_arm(csm->loop, p->timer, p->unsent ? UNSENT_AGAIN_MS : csm->settings->core.command_timeout_ms);
}

static void tell(struct suspension *p)
{
	if (p->all->csm->silent)
		return;
	p->progress = TOLD;
	p->msg_id = uuid4();
	p->told_us = monotonic_us();
	send_command(p);
}

/* The open command is over. p may be gone when this returns. */
static void settle(struct suspension *p, enum progress progress, const char *reason, bool forget_it)
{
	loop_arm(p->all->csm->loop, p->timer, -1);
	p->progress = progress;
	snprintf(p->reason, sizeof(p->reason), "%s", reason != NULL ? reason : "");
	if (forget_it)
		forget(p);
	else
		save(p);
	if (progress == REFUSED)
		log_warn("suspension.refused", KV("device", p->device->da_id), KV("feature", p->feature),
			 KV("mode", p->mode), KV("command", command_of(p)), KV("why", p->reason));
	tell_waiters(p, state_of(p), reason);
	if (forget_it)
		drop(p);
}

static void on_timer(void *arg)
{
	struct suspension *p = arg;
	char reason[128];
	if (p->progress == TOLD && p->unsent && monotonic_us() - p->told_us < p->all->csm->settings->core.command_timeout_ms * 1000) {
		send_command(p);
		return;
	}
	snprintf(reason, sizeof(reason), "no answer to %s within %lld ms", command_of(p),
		 (long long)p->all->csm->settings->core.command_timeout_ms);
	metrics_command(p->all->csm->metrics, command_of(p), "timeout", 0);
	/* a RESUME that may not have arrived is said again at the next `online` */
	settle(p, REFUSED, reason, false);
}

bool suspensions_on_answer(struct suspensions *s, const char *da_id, const char *msg_id, bool ok, const char *reason)
{
	for (struct suspension *p = first_of(s, da_id); p != NULL; p = p->next) {
		if (p->progress != TOLD || strcasecmp(p->msg_id.s, msg_id) != 0)
			continue;
		metrics_command(s->csm->metrics, command_of(p), ok ? "ok" : "error", monotonic_us() - p->told_us);
		/* what a device does not resume it does not know to be suspended: nothing is left to keep */
		settle(p, ok ? DONE : REFUSED, ok ? NULL : reason, !p->suspend);
		return true;
	}
	return false;
}

/* ---- what is asked ---- */

/* How to undo one request. */
struct change {
	struct suspension *suspension;
	bool is_new, suspend;
	enum progress progress;
	double since;
	struct waiter *waiter; /* joins the others when the request is stored */
};

static void change_commit(void *arg, const char *why)
{
	struct change *c = arg;
	struct suspension *p = c->suspension;
	const struct device *d = device_of(p);
	(void)why;
	tell_waiters(p, state_of(p), "another command came meanwhile");
	p->waiters = TAKE(c->waiter);
	free(c);
	log_info("suspension.changed", KV("device", p->device->da_id), KV("feature", p->feature), KV("mode", p->mode),
		 KV("suspended", p->suspend));
	if (d != NULL && d->online) {
		tell(p);
	} else {
		loop_arm(p->all->csm->loop, p->timer, -1);
		tell_waiters(p, state_of(p), "the device is offline; it is told when it is online");
	}
}

static void change_rollback(void *arg, const char *why)
{
	struct change *c = arg;
	struct suspension *p = c->suspension;
	p->suspend = c->suspend;
	p->progress = c->progress;
	p->since = c->since;
	c->waiter->done(c->waiter->arg, "error", why);
	free(c->waiter);
	if (c->is_new)
		drop(p);
	free(c);
}

void suspensions_set(struct suspensions *s, const struct device *d, const char *mode, const char *feature, bool suspend,
		     suspension_done_fn *done, void *arg)
{
	struct suspension *p = find(s, d->id.s, mode, feature);
	if (p == NULL && !suspend) {
		done(arg, "active", "it was not suspended");
		return;
	}
	bool is_new = p == NULL;
	struct change *c = calloc(1, sizeof(*c));
	struct waiter *w = calloc(1, sizeof(*w));
	if (is_new)
		p = add(s, d->id.s, mode, feature);
	if (c == NULL || w == NULL || p == NULL) {
		if (is_new && p != NULL)
			drop(p);
		free(c);
		free(w);
		store_failed(s->csm->store, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
		done(arg, "error", "out of memory");
		return;
	}
	*w = (struct waiter){.done = done, .arg = arg};
	*c = (struct change){.suspension = p,
			     .is_new = is_new,
			     .suspend = p->suspend,
			     .progress = p->progress,
			     .since = p->since,
			     .waiter = w};
	p->suspend = suspend;
	p->progress = WAITING;
	p->since = csm_now();
	save(p);
	store_then(s->csm->store, change_commit, change_rollback, c);
}

/* ---- devices ---- */

void suspensions_on_connect(struct suspensions *s, const char *da_id, const char *mode, const char *feature)
{
	struct suspension *p = find(s, da_id, mode, feature);
	if (p != NULL)
		tell(p);
}

void suspensions_on_online(struct suspensions *s, const char *da_id)
{
	for (struct suspension *p = first_of(s, da_id); p != NULL; p = p->next)
		/* else its CONNECT has led here already, or is going to */
		if (p->progress != TOLD && !links_connects_later(s->csm->links, da_id, p->feature, p->mode))
			tell(p);
}

void suspensions_on_offline(struct suspensions *s, const char *da_id)
{
	for (struct suspension *p = first_of(s, da_id); p != NULL; p = p->next) {
		loop_arm(s->csm->loop, p->timer, -1);
		p->progress = WAITING;
		tell_waiters(p, state_of(p), "the device went offline; it is told when it is online");
	}
}

void suspensions_on_removed(struct suspensions *s, const char *da_id)
{
	/* the rows went with the device's (ON DELETE CASCADE) */
	for (struct suspension *p; (p = first_of(s, da_id)) != NULL;) {
		tell_waiters(p, "error", "the device application was deregistered meanwhile");
		drop(p);
	}
}

static void resend_of(void *arg, const char *da_id, void *value)
{
	const struct suspensions *s = arg;
	const struct device *d = registry_find(s->csm->registry, da_id);
	(void)value;
	for (struct suspension *p = first_of(s, da_id); d != NULL && d->online && p != NULL; p = p->next)
		if (p->progress == WAITING)
			tell(p);
}

void suspensions_resend(struct suspensions *s)
{
	map_each(s->by_device, resend_of, s);
}

/* ---- what is told ---- */

json_t *suspensions_of(const struct suspensions *s, const char *da_id)
{
	json_t *list = json_array();
	for (const struct suspension *p = first_of(s, da_id); p != NULL && list != NULL; p = p->next)
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:f, s:o*}", "mode", p->mode, "feature",
						      p->feature, "state", state_of(p), "since", p->since, "reason",
						      p->progress == REFUSED ? csm_text(p->reason) : NULL));
	return list;
}

size_t suspensions_count(const struct suspensions *s, const char *da_id)
{
	size_t n = 0;
	for (const struct suspension *p = first_of(s, da_id); p != NULL; p = p->next)
		n++;
	return n;
}

const char *suspension_state(const struct suspensions *s, const char *da_id, const char *mode, const char *feature)
{
	const struct suspension *p = find(s, da_id, mode, feature);
	return p != NULL ? state_of(p) : NULL;
}

/* ---- life ---- */

static int load_row(void *arg, const struct db_value *v, size_t n)
{
	struct suspensions *s = arg;
	(void)n;
	for (size_t i = 0; i < 3; i++)
		if (v[i].type != DB_TEXT)
			return ERR_DB;
	const struct device *d = registry_find(s->csm->registry, v[0].text);
	struct suspension *p = d != NULL ? add(s, v[0].text, v[1].text, v[2].text) : NULL;
	if (p == NULL)
		return d == NULL ? 0 : ERR_NOMEM;
	p->suspend = v[3].num != 0;
	if (d->online && v[4].num != 0)
		p->progress = v[5].type == DB_TEXT ? REFUSED : DONE;
	snprintf(p->reason, sizeof(p->reason), "%s", v[5].type == DB_TEXT ? v[5].text : "");
	p->since = v[6].type == DB_REAL ? v[6].real : 0;
	return 0;
}

int suspensions_new(struct csm *csm, struct suspensions **ret, struct err *err)
{
	struct suspensions *s = calloc(1, sizeof(*s));
	if (s == NULL || (s->by_device = map_new()) == NULL) {
		free(s);
		return err_set(err, ERR_NOMEM, "suspensions");
	}
	s->csm = csm;
	int rc = db_run(store_db(csm->store), err, load_row, s,
			"SELECT da_id, mode, feature, suspended, answered, reason, since FROM suspension");
	if (rc < 0) {
		suspensions_free(s);
		return err != NULL && err->code == 0 ? err_set(err, rc, "loading suspensions") : rc;
	}
	*ret = s;
	return 0;
}

static void free_of(void *value)
{
	struct of_device *o = value;
	for (struct suspension *p = o->first, *next; p != NULL; p = next) {
		next = p->next;
		tell_waiters(p, "error", "csm is stopping");
		suspension_free(p);
	}
	free(o);
}

struct suspensions *suspensions_free(struct suspensions *s)
{
	if (s == NULL)
		return NULL;
	map_free(s->by_device, free_of);
	free(s);
	return NULL;
}
