/* enroll.c - a device application at csm: registering, registering again, leaving. */
#include "dan/client.h"

#include "common/shortage.h"
#include "common/util.h"
#include <sodium.h>
#include <string.h>

#define GOODBYE_MS 500 /* how long a broker may take to pass on our last word */

/* Half of the pause is fixed, half is chance, so that many devices do not come back at once. */
static void retry_later(struct dan_client *c, bool refused)
{
	unsigned max_ms = c->own.retry_max_ms, pause_ms = refused ? max_ms : c->retry_ms;
	c->retry_ms = c->retry_ms < max_ms / 2 ? 2 * c->retry_ms : max_ms;
	loop_arm(c->loop, c->timer, pause_ms / 2 + randombytes_uniform(pause_ms / 2 + 1));
}

static void on_put_done(void *arg, const struct fetch_answer *a)
{
	struct dan_client *c = arg;
	struct registration reg = {0};
	struct err err = {0};
	int rc = a->rc;
	c->call = NULL;
	if (rc < 0)
		err_set(&err, rc, "%s", a->why);
	else
		rc = registration_parse(a->status, a->body, a->len, &reg, &err);
	if (rc == 0) {
		registration_done(&c->reg);
		c->reg = reg;
		rc = dan_connect_broker(c, &err);
	} else {
		registration_done(&reg);
	}
	if (rc < 0) {
		err_wrap(&err, rc, "registering at %s", c->own.url);
		/* what csm refuses today it refuses in a second too, but a person may change its
		 * mind */
		retry_later(c, a->rc == 0 && a->status >= 400 && a->status < 500);
		dan_report(c, &err);
		return;
	}
	c->phase = PHASE_REGISTERED;
	if (c->handlers.on_registered != NULL)
		c->handlers.on_registered(c->arg, c->reg.name);
}

static int request(struct dan_client *c, const char *method, const char *body, fetch_done_fn *done,
		   struct err *err)
{
	bool known = c->reg.username != NULL;
	const struct fetch_request q = {
		.method = method,
		.url = c->own.url,
		.body = body,
		/* whoever registers a known id again shows what the last registration was answered
		   with */
		.username = known ? c->reg.username : c->own.username,
		.password = known ? c->reg.password : c->own.password,
		.timeout_ms = c->own.http_timeout_ms,
	};
	return fetch_start(c->fetch, &q, done, c, &c->call, err);
}

int dan_register(struct dan_client *c, struct err *err)
{
	CLEANUP(freep)
	char *body = NULL;
	int rc = dan_own_body(&c->own, &body, err);
	return rc < 0 ? rc : request(c, "PUT", body, on_put_done, err);
}

static void try_register(struct dan_client *c)
{
	struct err err = {0};
	if (dan_register(c, &err) < 0) {
		retry_later(c, false);
		dan_report(c, &err);
	}
}

/* ---- registering again ---- */

static void begin_anew(struct dan_client *c)
{
	bool was_online = c->online;
	c->call = fetch_cancel(c->call);
	c->phase = PHASE_REGISTERING;
	if (was_online)
		dan_publish_up(c, control_state(false, c->reg.rev), CTRL_QOS, true);
	c->online = c->was_online = false;
	dan_drop_channels(c);
	if (was_online && c->handlers.on_offline != NULL)
		c->handlers.on_offline(c->arg, "registering again");
	if (c->phase != PHASE_REGISTERING)
		return; /* one of the handlers had it leave */
	c->bus = bus_free(c->bus);
	dan_drop_pending(c);
	dan_drop_pushing(c, true);
	if (c->phase != PHASE_REGISTERING)
		return; /* or one who pushed */
	if (c->next != NULL) {
		dan_own_done(&c->own);
		c->own = *c->next;
		free(TAKE(c->next));
	}
	c->retry_ms = c->own.retry_min_ms;
	try_register(c);
}

int dan_update(struct dan_client *c, const struct dan_conf *conf, struct err *err)
{
	struct dan_own *next = calloc(1, sizeof(*next));
	int rc = 0;
	if (next == NULL)
		return err_set(err, ERR_NOMEM, "device '%s'", c->id.s);
	if (c->phase > PHASE_REGISTERED)
		rc = err_set(err, ERR_BUSY, "leaving already");
	else
		rc = dan_own_read(next, &c->id, conf, err);
	if (rc < 0) {
		dan_own_done(next);
		free(next);
		return rc;
	}
	if (c->next != NULL)
		dan_own_done(c->next);
	free(c->next);
	c->next = next;
	loop_arm(c->loop, c->timer, 0); /* one of our handlers may have called */
	return 0;
}

static void on_get_done(void *arg, const struct fetch_answer *a)
{
	struct dan_client *c = arg;
	struct err err = {0};
	c->call = NULL;
	if (a->rc < 0)
		return; /* no answer is no news: csm may be away as well */
	json_auto_t *doc = json_loadb(a->body, a->len, 0, NULL);
	const char *rev = json_string_value(json_object_get(doc, "rev"));
	if (a->status == 404) {
		begin_anew(c);
	} else if (rev != NULL && strcmp(rev, c->reg.rev) != 0) {
		err_set(&err, ERR_CONFLICT, "'%s' was registered by somebody else meanwhile",
			c->id.s);
		dan_report(c, &err);
	}
}

void dan_check_registration(struct dan_client *c)
{
	struct err err = {0};
	if (c->call == NULL && request(c, "GET", NULL, on_get_done, &err) < 0)
		dan_report(c, &err);
}

/* ---- leaving ---- */

static void left(struct dan_client *c, int rc, const char *why)
{
	c->phase = PHASE_LEFT;
	c->left(c->left_arg, rc, why); /* may free the client */
}

static int send_delete(struct dan_client *c, struct err *err);

static void goodbye_was_said(struct dan_client *c)
{
	struct err err = {0};
	loop_arm(c->loop, c->timer, -1);
	int rc = send_delete(c, &err);
	if (rc < 0)
		left(c, rc, err.text);
}

void dan_on_timer(void *arg)
{
	struct dan_client *c = arg;
	if (c->next != NULL && c->phase <= PHASE_REGISTERED)
		begin_anew(c);
	else if (c->phase == PHASE_REGISTERING)
		try_register(c);
	else if (c->phase == PHASE_LEAVING && c->reg.rev == NULL)
		left(c, 0, "");
	else if (c->phase == PHASE_LEAVING && c->call == NULL)
		goodbye_was_said(c);
}

static void on_barrier(void *arg, int rc)
{
	struct dan_client *c = arg;
	(void)rc;
	if (c->phase == PHASE_LEAVING && c->call == NULL)
		goodbye_was_said(c);
}

static void on_delete_done(void *arg, const struct fetch_answer *a)
{
	struct dan_client *c = arg;
	c->call = NULL;
	if (a->rc < 0) {
		left(c, a->rc, a->why);
		return;
	}
	json_auto_t *doc = json_loadb(a->body, a->len, 0, NULL);
	const char *reason = json_string_value(json_object_get(doc, "reason"));
	if (reason == NULL)
		reason = "csm refuses";
	if (a->status == 200 || a->status == 404)
		left(c, 0, "");
	else
		left(c, a->status == 400 ? ERR_CONFLICT : ERR_PEER, reason);
}

static int send_delete(struct dan_client *c, struct err *err)
{
	json_auto_t *rev = json_pack("{s:s}", "rev", c->reg.rev);
	CLEANUP(freep)
	char *body = shortage_dumps(rev);
	if (body == NULL)
		return err_set(err, ERR_NOMEM, "deregistering '%s'", c->id.s);
	return request(c, "DELETE", body, on_delete_done, err);
}

/* Say offline; ret: true when on_barrier() or the timer will go on. csm should hear it before the
 * DELETE, else it is a message of an unknown device: at QoS 1 the broker has passed it on when it
 * acknowledges the subscription that follows. */
static bool say_goodbye(struct dan_client *c)
{
	if (!c->online)
		return false;
	dan_publish_up(c, control_state(false, c->reg.rev), 1, true);
	if (bus_subscribe(c->bus, c->reg.ctrl_down, CTRL_QOS, on_barrier, c, NULL) < 0)
		return false;
	loop_arm(c->loop, c->timer, GOODBYE_MS);
	return true;
}

int dan_leave(struct dan_client *c, dan_left_fn *done, void *arg, struct err *err)
{
	if (c->phase == PHASE_LEAVING || c->phase == PHASE_LEFT)
		return err_set(err, ERR_BUSY, "leaving already");
	c->call = fetch_cancel(c->call);
	c->phase = PHASE_LEAVING;
	c->left = done;
	c->left_arg = arg;
	/* else at once, but done is called in a turn of its own */
	if (!say_goodbye(c))
		loop_arm(c->loop, c->timer, 0);
	return 0;
}
