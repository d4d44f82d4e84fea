/* view_farewell.c - device applications whose devices are in the configuration no more: csm is
 * told, one after the other, as often as it takes. csm deregisters what it is told the revision of,
 * which only the answer to a registration has: so each registers once more, and leaves.
 */
#include "agent/device/view_int.h"
#include "common/log.h"
#include "common/shortage.h"
#include "common/util.h"
#include "dan/registration.h"
#include <sodium.h>
#include <stdio.h>
#include <string.h>

struct farewell {
	struct uuid_text id;
	struct farewell *next;
};

struct view_farewells {
	struct loop *loop;
	struct store *store;
	struct fetch *fetch;
	char *csm_url;                  /* without a '/' at its end */
	struct farewell *first, **last; /* the first is under way */
	struct fetch_call *call;        /* NULL: none */
	struct loop_src *timer;         /* armed while there are some and none is under way */
	unsigned retry_ms;
};

static int request(struct view_farewells *f, const char *method, const char *body,
		   fetch_done_fn *done, struct err *err)
{
	CLEANUP(freep)
	char *url = NULL;
	CLEANUP(view_login_done)
	struct view_login login;

	view_store_load_login(f->store, f->first->id.s, &login);
	if (asprintf(&url, "%s/%s", f->csm_url, f->first->id.s) < 0) {
		url = NULL;
		return err_set(err, ERR_NOMEM, "request to csm");
	}
	const struct fetch_request q = {.method = method,
					.url = url,
					.body = body,
					.username = login.username,
					.password = login.password};
	return fetch_start(f->fetch, &q, done, f, &f->call, err);
}

static void append(struct view_farewells *f, struct farewell *one)
{
	one->next = NULL;
	*f->last = one;
	f->last = &one->next;
}

static struct farewell *take_first(struct view_farewells *f)
{
	struct farewell *one = f->first;

	f->first = one->next;
	if (f->first == NULL)
		f->last = &f->first;
	return one;
}

/* The others go first: what is refused for this one may be right for them. */
static void later(struct view_farewells *f, const struct err *err)
{
	const char *id = f->first->id.s;

	if (log_allowed("view.deregister_failed", id))
		log_warn("view.deregister_failed", KV("id", id), KV("why", err->text));
	append(f, take_first(f));
	/* half of the pause is chance, so that many gateways do not come at once */
	loop_arm(f->loop, f->timer, f->retry_ms / 2 + randombytes_uniform(f->retry_ms / 2 + 1));
	f->retry_ms = f->retry_ms < RETRY_MAX_MS / 2 ? 2 * f->retry_ms : RETRY_MAX_MS;
}

static void gone(struct view_farewells *f)
{
	struct farewell *one = take_first(f);

	log_info("view.deregistered", KV("id", one->id.s));
	view_store_forget(f->store, one->id.s);
	free(one);
	f->retry_ms = RETRY_MIN_MS;
	loop_arm(f->loop, f->timer, f->first != NULL ? 0 : -1);
}

static void on_deleted(void *arg, const struct fetch_answer *a)
{
	struct view_farewells *f = arg;
	struct err err = {0};

	f->call = NULL;
	if (a->rc == 0 && (a->status == 200 || a->status == 404)) {
		gone(f);
		return;
	}
	if (a->rc < 0)
		err_set(&err, a->rc, "%s", a->why);
	else
		err_set(&err, ERR_PEER, "csm answers %ld", a->status);
	later(f, &err);
}

static int leave(struct view_farewells *f, const char *rev, struct err *err)
{
	json_auto_t *body = json_pack("{s:s}", "rev", rev);
	CLEANUP(freep)
	char *text = shortage_dumps(body);

	if (text == NULL)
		return err_set(err, ERR_NOMEM, "request to csm");
	return request(f, "DELETE", text, on_deleted, err);
}

static void on_put(void *arg, const struct fetch_answer *a)
{
	struct view_farewells *f = arg;
	struct registration reg = {0};
	struct err err = {0};
	int rc = a->rc;

	f->call = NULL;
	if (rc < 0)
		err_set(&err, rc, "%s", a->why);
	else
		rc = registration_parse(a->status, a->body, a->len, &reg, &err);
	if (rc == 0) {
		view_store_login(f->store, f->first->id.s, reg.username, reg.password);
		rc = leave(f, reg.rev, &err);
	}
	registration_done(&reg);
	if (rc < 0)
		later(f, &err);
}

static void on_timer(void *arg)
{
	static const char body[] =
		"{\"accept_protos\":[\"mqtt\"],\"profile\":{\"model\":\"gateway_removed\"}}";
	struct view_farewells *f = arg;
	struct err err = {0};

	if (f->first != NULL && f->call == NULL && request(f, "PUT", body, on_put, &err) < 0)
		later(f, &err);
}

int view_farewells_new(struct loop *l, struct store *store, struct fetch *fetch,
		       const char *csm_url, struct view_farewells **ret, struct err *err)
{
	struct view_farewells *f = calloc(1, sizeof(*f));
	size_t len = strlen(csm_url);

	if (f == NULL)
		return err_set(err, ERR_NOMEM, "deregistrations");
	while (len > 0 && csm_url[len - 1] == '/')
		len--;
	*f = (struct view_farewells){.loop = l,
				     .store = store,
				     .fetch = fetch,
				     .csm_url = strndup(csm_url, len),
				     .last = &f->first,
				     .retry_ms = RETRY_MIN_MS};
	int rc = f->csm_url != NULL ? loop_add_timer(l, -1, 0, on_timer, f, &f->timer, err)
				    : err_set(err, ERR_NOMEM, "deregistrations");
	if (rc < 0) {
		view_farewells_free(f);
		return rc;
	}
	*ret = f;
	return 0;
}

struct view_farewells *view_farewells_free(struct view_farewells *f)
{
	if (f == NULL)
		return NULL;
	fetch_cancel(f->call);
	loop_remove(f->loop, f->timer);
	while (f->first != NULL)
		free(take_first(f));
	free(f->csm_url);
	free(f);
	return NULL;
}

static struct farewell **find(struct view_farewells *f, const char *id)
{
	struct farewell **at = &f->first;

	while (*at != NULL && strcmp((*at)->id.s, id) != 0)
		at = &(*at)->next;
	return at;
}

int view_deregister(struct view_farewells *f, const char *id, struct err *err)
{
	if (*find(f, id) != NULL)
		return 0;
	struct farewell *one = calloc(1, sizeof(*one));
	if (one == NULL)
		return err_set(err, ERR_NOMEM, "deregistering '%s'", id);
	snprintf(one->id.s, sizeof(one->id.s), "%s", id);
	if (f->first == NULL)
		loop_arm(f->loop, f->timer, 0);
	append(f, one);
	return 0;
}

void view_farewells_cancel(struct view_farewells *f, const char *id)
{
	struct farewell **at = f != NULL ? find(f, id) : NULL;

	if (at == NULL || *at == NULL)
		return;
	if (at == &f->first && f->call != NULL) {
		f->call = fetch_cancel(f->call);
		loop_arm(f->loop, f->timer, 0);
	}
	struct farewell *one = *at;
	*at = one->next;
	if (f->last == &one->next)
		f->last = at;
	free(one);
}
