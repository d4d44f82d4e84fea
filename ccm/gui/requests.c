/* requests.c - from gui clients to us: who may ask, what is asked, the answer (spec ccm 4.1).
 *
 * An answer is the request itself with `state` and `data` of ours, so whatever else it had comes back.
 */
#include "ccm/gui/gui_int.h"

#include "ccm/query.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/shortage.h"
#include "common/trace.h"
#include "common/util.h"
#include <ctype.h>
#include <string.h>

#define ASKED_MAX 256 /* of operations that take time, under way */

struct asked {
	struct gui *gui; /* NULL: it is gone */
	struct asked *prev, *next;
	json_t *request;
	struct gui_row *row;
	struct trace_text trace;
	int64_t at_us;
	char uuid[GUI_UUID_LEN + 1];
};

/* ---- answers ---- */

/* Refusals are told of once a minute and client, what changes nothing only to those who look closer. */
static void tell(const struct asked *a, bool ok, int64_t took_us)
{
	bool changes = a->row->op != NULL && !a->row->op->op->reads, aloud = ok ? changes : log_allowed("gui.answered", a->uuid);
	*(ok ? &a->row->ok : &a->row->error) += 1;
	histogram_observe(&a->row->took, took_us);
	LOG_AT(aloud ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, "gui.answered", KV("trace", a->trace.s), KV("client", a->uuid),
	       KV("op", a->row->name), KV("state", ok ? "ok" : "error"), KV("took_us", took_us));
}

/* with: taken, what is put into the request; NULL: out of memory. */
static void answer(struct gui *g, struct asked *a, bool ok, json_t *with)
{
	bool whole = with != NULL && json_object_update(a->request, with) == 0;
	tell(a, ok && whole, monotonic_us() - a->at_us);
	gui_send(g, a->uuid, whole ? json_incref(a->request) : NULL);
	json_decref(with);
}

static void refuse(struct gui *g, struct asked *a, const char *why)
{
	answer(g, a, false, json_pack("{s:s, s:s}", "state", "error", "msg", why));
}

/* To a client that is not known, or whose user is not: pages then go to where one logs in. */
static void turn_away(struct gui *g, struct asked *a, const char *state, const char *why)
{
	answer(g, a, false, json_pack("{s:s, s:s, s:s}", "op", "anno", "state", state, "msg", why));
}

/* ---- operations ---- */

static void asked_free(struct asked *a)
{
	if (a == NULL)
		return;
	if (a->gui != NULL) {
		a->gui->n_asked--;
		*(a->prev != NULL ? &a->prev->next : &a->gui->asked) = a->next;
		if (a->next != NULL)
			a->next->prev = a->prev;
	}
	json_decref(a->request);
	free(a);
}

void gui_forget_asked(struct gui *g)
{
	for (struct asked *a = TAKE(g->asked); a != NULL; a = a->next)
		a->gui = NULL;
	g->n_asked = 0;
}

/* A copy that lives until the operation is over. ret: NULL: out of memory */
static struct asked *keep(struct gui *g, const struct asked *a)
{
	struct asked *kept = malloc(sizeof(*kept));
	if (kept == NULL)
		return NULL;
	*kept = *a;
	kept->gui = g;
	kept->request = json_incref(a->request);
	kept->prev = NULL;
	kept->next = g->asked;
	if (kept->next != NULL)
		kept->next->prev = kept;
	g->asked = kept;
	g->n_asked++;
	return kept;
}

static void op_done(void *arg, struct op_call *c, int rc)
{
	struct asked *a = arg;
	if (a->gui != NULL && rc < 0)
		refuse(a->gui, a, c->err.text);
	else if (a->gui != NULL)
		answer(a->gui, a, true,
		       json_pack("{s:s, s:o}", "state", "ok", "data", c->data != NULL ? TAKE(c->data) : json_null()));
	asked_free(a);
}

static void start(struct gui *g, struct asked *a, const struct caller *who)
{
	static const struct field none[] = {{0}};
	const struct gui_op *op = a->row->op;
	/* a copy: what the operation does to its arguments is not to be seen in the answer */
	const json_t *given = json_object_get(a->request, "data");
	json_auto_t *data = given == NULL || json_is_null(given) ? json_object() : shortage_copy(given), *args = NULL;
	struct err err = {0};
	if (data == NULL) {
		refuse(g, a, "out of memory");
		return;
	}
	if (fields_check(op->args != NULL ? op->args : none, data, true, &args, &err) < 0) {
		refuse(g, a, err.text);
		return;
	}
	struct asked *kept = g->n_asked < ASKED_MAX ? keep(g, a) : NULL;
	if (kept != NULL)
		op_start(g->ccm, op->op, who, TAKE(args), op_done, kept);
	else
		refuse(g, a, g->n_asked < ASKED_MAX ? "out of memory" : "too many requests are under way: try again");
}

/* ret: 1; 0: that is no live login; negative: as db.h */
static int who_asks(struct gui *g, const char *uuid, const json_t *login, struct caller *ret, struct err *err)
{
	const char *ticket = json_string_value(login);
	int64_t is_admin = 0;
	if (ticket != NULL && strlen(ticket) != json_string_length(login))
		ticket = NULL; /* it only begins like one */
	*ret = (struct caller){.u_id = ticket != NULL ? g->port->user_of(g->ccm, ticket, uuid) : 0};
	memcpy(ret->gui, uuid, GUI_UUID_LEN + 1);
	if (ret->u_id <= 0)
		return ret->u_id == 0 ? 0 : err_set(err, ERR_DB, "the store failed: try again");
	int rc = q_int(g->ccm->db, err, &is_admin, "SELECT is_admin FROM User WHERE u_id = $1 AND is_active = 1 AND is_deleted = 0",
		       DB_V_INT(ret->u_id));
	ret->is_admin = is_admin != 0;
	return rc;
}

/* ---- requests ---- */

static void attach(struct gui *g, struct asked *a)
{
	if (gui_clients_attach(g->clients, a->uuid, loop_now_ms(g->ccm->loop)) < 0)
		refuse(g, a, "out of memory");
	else
		answer(g, a, true, json_pack("{s:s}", "state", "ok"));
}

static void detach(struct gui *g, struct asked *a)
{
	gui_clients_detach(g->clients, a->uuid);
	answer(g, a, true, json_pack("{s:s}", "state", "ok"));
}

static void ask(struct gui *g, struct asked *a)
{
	const json_t *login = json_object_get(a->request, "_id");
	struct caller who;
	struct err err = {0};
	if (!gui_clients_heard(g->clients, a->uuid, loop_now_ms(g->ccm->loop))) {
		turn_away(g, a, "Authentication Fail", "Please attach first.");
		return;
	}
	if (login == NULL)
		return;
	int rc = who_asks(g, a->uuid, login, &who, &err);
	if (rc == 0) {
		turn_away(g, a, "Authentication failed", "Please login first.");
		return;
	}
	if (rc < 0) {
		refuse(g, a, err.text);
		return;
	}
	gui_clients_logged_in(g->clients, a->uuid);
	if (a->row->op == NULL) {
		refuse(g, a, "unknown op");
		return;
	}
	log_debug("gui.request", KV("trace", a->trace.s), KV("client", a->uuid), KV("op", a->row->name));
	start(g, a, &who);
}

/* What ends the topic: 8-4-4-4-12 letters, digits or underscores. */
static bool is_uuid(const char *text)
{
	for (size_t i = 0; i < GUI_UUID_LEN; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;
		if (dash ? text[i] != '-' : !isalnum((unsigned char)text[i]) && text[i] != '_')
			return false;
	}
	return text[GUI_UUID_LEN] == '\0';
}

static void drop(struct gui *g, const struct bus_msg *m, const char *why)
{
	g->dropped++;
	if (log_allowed("gui.dropped", m->topic))
		log_warn("gui.dropped", KV("topic", m->topic), KV("why", why));
}

void gui_on_message(struct gui *g, const struct bus_msg *m)
{
	const char *uuid = m->topic + strlen(GUI_REQUEST_PREFIX);
	json_error_t why;
	if (m->retained)
		return; /* by mistake: it was answered when it was made */
	if (!is_uuid(uuid)) {
		drop(g, m, "the topic does not end in a client's uuid");
		return;
	}
	unsigned long shortages = shortage_count();
	json_auto_t *request = json_loadb(m->payload, m->len, JSON_ALLOW_NUL, &why);
	if (shortage_count() != shortages) { /* it may lack something; whoever asks can tell by the topic alone */
		gui_send(g, uuid, NULL);
		return;
	}
	const json_t *op = json_object_get(request, "op");
	if (!json_is_object(request) || op == NULL) {
		drop(g, m, request == NULL ? why.text : !json_is_object(request) ? "not an object" : "no op");
		return;
	}
	struct asked a = {
		.request = request,
		.trace = trace_of(json_string_value(json_object_get(request, "trace"))),
		.at_us = monotonic_us(),
	};
	memcpy(a.uuid, uuid, GUI_UUID_LEN + 1);
	a.row = json_is_string(op) ? map_find(g->rows, json_string_value(op)) : NULL;
	if (a.row == NULL)
		a.row = map_find(g->rows, "unknown");
	if (strcmp(a.row->name, "attach") == 0)
		attach(g, &a);
	else if (strcmp(a.row->name, "detach") == 0)
		detach(g, &a);
	else
		ask(g, &a);
}
