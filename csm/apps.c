#include "csm/apps.h"

#include "common/id.h"
#include "common/util.h"
#include "csm/links.h"
#include "csm/registry.h"
#include "csm/store.h"
#include "csm/suspensions.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define PAGE_MAX 1000

/* ---- which one ---- */

/* What is looked for, and what was found so far. */
struct search {
	const char *words;
	struct device *found;
	size_t n;
};

static void fits(void *arg, struct device *d)
{
	struct search *s = arg;
	s->found = d;
	s->n++;
}

static void search_begin_of_id(void *arg, struct device *d)
{
	struct search *s = arg;
	if (strncasecmp(d->id.s, s->words, strlen(s->words)) == 0)
		fits(s, d);
}

static void search_name(void *arg, struct device *d)
{
	struct search *s = arg;
	if (strcmp(d->info.name, s->words) == 0)
		fits(s, d);
}

/* The device that `app` of a request means; NULL: answered already. */
static struct device *find(struct csm *csm, json_t *request, struct ctl_call *call)
{
	struct search s = {.words = json_string_value(json_object_get(request, "app"))};
	char reason[400];
	if (s.words == NULL) {
		ctl_answer_error(call, "`app` is missing: an id, the begin of one, or a name");
		return NULL;
	}
	if (strlen(s.words) != UUID_LEN)
		registry_each(csm->registry, search_name, &s);
	if (s.n == 0 && *s.words != '\0')
		registry_each(csm->registry, search_begin_of_id, &s);
	if (s.n == 1)
		return s.found;
	snprintf(reason, sizeof(reason),
		 s.n == 0 ? "no device application has the id or name '%.100s'"
			  : "more than one device application fits '%.100s': say its whole id",
		 s.words);
	ctl_answer_error(call, reason);
	return NULL;
}

/* ---- list, show ---- */

static json_t *summary(const struct csm *csm, const struct device *d)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:f, s:I, s:I, s:I}", "id", d->id.s, "name", d->info.name, "model",
			 profile_model(&d->info), "state", d->online ? "online" : "offline", "since", d->state_since,
			 "idf", (json_int_t)json_array_size(d->info.idf_list), "odf",
			 (json_int_t)json_array_size(d->info.odf_list), "suspended",
			 (json_int_t)suspensions_count(csm->suspensions, d->id.s));
}

struct page {
	struct csm *csm;
	json_t *apps;
	size_t limit;
	bool more;
};

static int on_row(void *arg, const struct db_value *v, size_t n)
{
	struct page *p = arg;
	struct device *d = v[0].type == DB_TEXT ? registry_find(p->csm->registry, v[0].text) : NULL;
	(void)n;
	p->more = json_array_size(p->apps) == p->limit;
	if (d != NULL && !p->more)
		json_array_append_new(p->apps, summary(p->csm, d));
	return 0;
}

void apps_list(void *arg, json_t *request, struct ctl_call *call)
{
	struct page p = {.csm = arg, .apps = json_array()};
	const char *after = json_string_value(json_object_get(request, "after"));
	json_int_t limit = json_integer_value(json_object_get(request, "limit"));
	struct err err = {0};
	p.limit = limit > 0 && limit < PAGE_MAX ? (size_t)limit : PAGE_MAX;
	int rc = db_run(store_db(p.csm->store), &err, on_row, &p,
			"SELECT id FROM device WHERE id > $1 ORDER BY id LIMIT $2", DB_V_TEXT(after != NULL ? after : ""),
			DB_V_INT((int64_t)p.limit + 1));
	if (rc < 0) {
		json_decref(p.apps);
		ctl_answer_error(call, err.text);
		return;
	}
	ctl_answer(call, json_pack("{s:s, s:o, s:b}", "state", "ok", "apps", p.apps, "more", p.more));
}

void apps_show(void *arg, json_t *request, struct ctl_call *call)
{
	struct csm *csm = arg;
	struct device *d = find(csm, request, call);
	if (d == NULL)
		return;
	json_t *app = device_to_json(d);
	if (app != NULL) {
		json_object_set_new(app, "since", json_real(d->state_since));
		json_object_set_new(app, "links", links_of(csm->links, d->id.s));
		json_object_set_new(app, "suspended", suspensions_of(csm->suspensions, d->id.s));
	}
	ctl_answer(call, app != NULL ? json_pack("{s:s, s:o}", "state", "ok", "app", app) : NULL);
}

/* ---- suspend, resume ---- */

/* One request that waits for the device; for each feature an entry of the answer. */
struct asking {
	struct ctl_call *call;
	json_t *answer, *features;
	size_t left;
	bool lacking; /* there was no memory for one of them */
};

struct entry {
	struct asking *asking;
	json_t *entry; /* borrowed from the answer */
};

static void asking_done(struct asking *a)
{
	if (--a->left > 0)
		return;
	if (a->lacking)
		json_decref(TAKE(a->answer));
	ctl_answer(a->call, a->answer);
	free(a);
}

static void on_outcome(void *arg, const char *state, const char *reason)
{
	struct entry *one = arg;
	json_object_set_new(one->entry, "state", json_string(state));
	if (reason != NULL)
		json_object_set_new(one->entry, "reason", csm_text(reason));
	asking_done(one->asking);
	free(one);
}

static void ask_one(struct csm *csm, const struct device *d, struct asking *a, const char *mode, const char *feature,
		    bool suspend)
{
	struct entry *one = calloc(1, sizeof(*one));
	json_t *entry = json_pack("{s:s, s:s}", "mode", mode, "feature", feature);
	if (one == NULL || json_array_append_new(a->features, entry) < 0) {
		/* the turn undoes what was asked of the others */
		store_failed(csm->store, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
		free(one);
		a->lacking = true;
		return;
	}
	*one = (struct entry){.asking = a, .entry = entry};
	a->left++;
	suspensions_set(csm->suspensions, d, mode, feature, suspend, on_outcome, one);
}

static void set(struct csm *csm, json_t *request, struct ctl_call *call, bool suspend)
{
	static const char *const modes[] = {"idf", "odf"};
	const char *feature = json_string_value(json_object_get(request, "feature"));
	json_t *mode_given = json_object_get(request, "mode");
	const char *mode = json_string_value(mode_given);
	char reason[400];
	struct device *d = find(csm, request, call);
	if (d == NULL)
		return;
	if (feature == NULL ||
	    (mode_given != NULL && (mode == NULL || (strcmp(mode, "idf") != 0 && strcmp(mode, "odf") != 0)))) {
		ctl_answer_error(call, feature == NULL ? "`feature` is missing" : "`mode` must be idf or odf");
		return;
	}
	struct asking *a = calloc(1, sizeof(*a));
	json_t *features = json_array();
	json_t *answer = json_pack("{s:s, s:s, s:s, s:O}", "state", "ok", "id", d->id.s, "name", d->info.name, "features",
				   features);
	json_decref(features); /* the answer has it */
	if (a == NULL || answer == NULL) {
		free(a);
		json_decref(answer);
		ctl_answer_error(call, "out of memory");
		return;
	}
	*a = (struct asking){.call = call, .answer = answer, .features = features, .left = 1};
	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		bool here = profile_has_feature(&d->info, modes[i], feature) ||
			    links_find(csm->links, d->id.s, feature, modes[i]) != NULL ||
			    suspension_state(csm->suspensions, d->id.s, modes[i], feature) != NULL;
		if (here && (mode == NULL || strcmp(mode, modes[i]) == 0))
			ask_one(csm, d, a, modes[i], feature, suspend);
	}
	if (json_array_size(features) == 0 && !a->lacking) {
		json_decref(answer);
		free(a);
		snprintf(reason, sizeof(reason), "%.100s has no %s '%.100s'", d->info.name,
			 mode == NULL ? "feature" : mode, feature);
		ctl_answer_error(call, reason);
		return;
	}
	asking_done(a); /* our own one */
}

void apps_suspend(void *arg, json_t *request, struct ctl_call *call)
{
	set(arg, request, call, true);
}

void apps_resume(void *arg, json_t *request, struct ctl_call *call)
{
	set(arg, request, call, false);
}

/* ---- deregister ---- */

struct removal {
	struct ctl_call *call;
	json_t *answer;
};

static void removal_commit(void *arg, const char *why)
{
	struct removal *r = arg;
	(void)why;
	ctl_answer(r->call, r->answer);
	free(r);
}

static void removal_rollback(void *arg, const char *why)
{
	struct removal *r = arg;
	json_decref(r->answer);
	ctl_answer_error(r->call, why);
	free(r);
}

void apps_deregister(void *arg, json_t *request, struct ctl_call *call)
{
	struct csm *csm = arg;
	struct device *d = find(csm, request, call);
	if (d == NULL)
		return;
	struct removal *r = calloc(1, sizeof(*r));
	json_t *answer = json_pack("{s:s, s:s, s:s}", "state", "ok", "id", d->id.s, "name", d->info.name);
	if (r == NULL || answer == NULL) {
		free(r);
		json_decref(answer);
		ctl_answer_error(call, "out of memory");
		return;
	}
	*r = (struct removal){.call = call, .answer = answer};
	registry_remove(csm->registry, d, "operator", NULL);
	store_then(csm->store, removal_commit, removal_rollback, r);
}
