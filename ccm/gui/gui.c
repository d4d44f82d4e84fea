/* gui.c - the MQTT API of editors: what it is made of, and announcements. */
#include "ccm/gui/gui_int.h"

#include "ccm/drive/drive.h"
#include "ccm/web/web.h"
#include "common/exposition.h"
#include "common/log.h"
#include "common/util.h"
#include <inttypes.h>

#define LOOK_MS 60000 /* how often for clients that are silent */

/* ---- what is outside ---- */

static int64_t user_of(struct ccm *ccm, const char *ticket, const char *uuid)
{
	return web_ticket_user(ccm->web, ticket, uuid);
}

static int publish(struct ccm *ccm, const char *topic, const char *text, size_t len, struct err *err)
{
	return bus_publish(ccm->bus, topic, text, len, 2, false, err);
}

static const struct gui_port port = {.user_of = user_of, .publish = publish, .left = drive_unmonitor};

/* ---- life ---- */

static void left(void *arg, const char *uuid, bool forgotten)
{
	struct gui *g = arg;
	if (forgotten)
		log_info("gui.forgotten", KV("client", uuid));
	g->port->left(g->ccm, uuid);
}

/* Who is silent for longer than a login lasts has none. */
static void look(void *arg)
{
	struct gui *g = arg;
	gui_clients_expire(g->clients, loop_now_ms(g->ccm->loop) - g->ccm->settings->gui.session_timeout_min * 60000);
}

static int add_row(struct map *rows, const char *name, const struct gui_op *op, struct err *err)
{
	struct gui_row *row = calloc(1, sizeof(*row));
	if (row == NULL)
		return err_set(err, ERR_NOMEM, "gui op %s", name);
	row->name = name;
	row->op = op;
	int rc = map_add(rows, name, row);
	if (rc == 0)
		return 0;
	free(row);
	return err_set(err, rc, rc == ERR_EXIST ? "two gui ops are named %s" : "gui op %s", name);
}

static int add_rows(struct map *rows, const struct gui_op *const *tables, struct err *err)
{
	static const char *const ours[] = {"attach", "detach", "unknown"};
	int rc = 0;
	for (size_t i = 0; i < ARRAY_LEN(ours) && rc == 0; i++)
		rc = add_row(rows, ours[i], NULL, err);
	for (; *tables != NULL; tables++)
		for (const struct gui_op *op = *tables; op->name != NULL && rc == 0; op++)
			rc = add_row(rows, op->name, op, err);
	return rc;
}

int gui_new_with(struct ccm *ccm, const struct gui_port *its, const struct gui_op *const *tables, struct gui **ret, struct err *err)
{
	struct gui *g = calloc(1, sizeof(*g));
	int rc = 0;
	if (g == NULL)
		return err_set(err, ERR_NOMEM, "gui");
	*g = (struct gui){.ccm = ccm, .port = its, .rows = map_new(), .clients = gui_clients_new(left, g)};
	if (g->rows == NULL || g->clients == NULL)
		rc = err_set(err, ERR_NOMEM, "gui");
	if (rc == 0)
		rc = add_rows(g->rows, tables, err);
	if (rc == 0)
		rc = loop_add_timer(ccm->loop, LOOK_MS, LOOK_MS, look, g, &g->timer, err);
	if (rc < 0) {
		gui_free(g);
		return rc;
	}
	*ret = g;
	return 0;
}

int gui_new(struct ccm *ccm, struct gui **ret, struct err *err)
{
	static const struct gui_op *const tables[] = {gui_project_ops, gui_catalogue_ops, NULL};
	return gui_new_with(ccm, &port, tables, ret, err);
}

struct gui *gui_free(struct gui *g)
{
	if (g == NULL)
		return NULL;
	gui_forget_asked(g);
	if (g->timer != NULL)
		loop_remove(g->ccm->loop, g->timer);
	gui_clients_free(g->clients);
	map_free(g->rows, free);
	free(g);
	return NULL;
}

/* ---- what it tells of itself ---- */

void gui_status(struct gui *g, json_t *answer)
{
	json_object_set_new(answer, "gui", json_pack("{s:I}", "clients", (json_int_t)gui_clients_count(g->clients)));
}

static void write_counts(void *arg, const char *name, void *value)
{
	const struct gui_row *row = value;
	if (row->ok > 0)
		fprintf(arg, "iottalk_ccm_gui_requests_total{op=\"%s\",state=\"ok\"} %" PRIu64 "\n", name, row->ok);
	if (row->error > 0)
		fprintf(arg, "iottalk_ccm_gui_requests_total{op=\"%s\",state=\"error\"} %" PRIu64 "\n", name, row->error);
}

static void write_times(void *arg, const char *name, void *value)
{
	const struct gui_row *row = value;
	char label[64];
	snprintf(label, sizeof(label), "op=\"%s\"", name);
	if (histogram_count(&row->took) > 0)
		histogram_write(&row->took, arg, "iottalk_ccm_gui_request_seconds", label);
}

void gui_write_metrics(const struct gui *g, FILE *out)
{
	exposition_one(out, "iottalk_ccm_gui_clients", "gauge", "Editors that are attached.", (double)gui_clients_count(g->clients));
	exposition_one(out, "iottalk_ccm_gui_dropped_total", "counter", "Messages of editors that are no requests.", (double)g->dropped);
	exposition_head(out, "iottalk_ccm_gui_requests_total", "counter", "Requests of editors over MQTT that got an answer.");
	map_each(g->rows, write_counts, out);
	exposition_head(out, "iottalk_ccm_gui_request_seconds", "histogram",
			"From a request of an editor to its answer, with the commit.");
	map_each(g->rows, write_times, out);
}

/* ---- announcements ---- */

static json_t *announcement(const char *type, json_t *data)
{
	return json_pack("{s:s, s:s, s:o}", "op", "anno", "type", type, "data", data);
}

void gui_announce(struct gui *g, const char *type, json_t *data)
{
	if (gui_clients_count(g->clients) > 0)
		gui_send_all(g, announcement(type, data));
	else
		json_decref(data);
}

void gui_tell(struct gui *g, const char *uuid, const char *type, json_t *data)
{
	if (gui_clients_has(g->clients, uuid))
		gui_send(g, uuid, announcement(type, data));
	else
		json_decref(data);
}

void gui_alias_changed(struct ccm *ccm, int64_t dfo_id)
{
	gui_announce(ccm->gui, "change_alias", json_pack("{s:I}", "dfo_id", (json_int_t)dfo_id));
}
