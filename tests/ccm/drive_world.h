/* drive_world.h - a drive with a store in memory, and a csm that is the test: it takes each request and answers it. */
#pragma once

#include "ccm/drive/graph.h"
#include "ccm/gui/gui.h"
#include "ccm/query.h"
#include "common/schema.h"
#include "common/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define DEVICE_1 "00000000-0000-4000-8000-000000000001"
#define DEVICE_2 "00000000-0000-4000-8000-000000000002"

struct world {
	struct ccm ccm;
	struct settings settings;
	json_t *sent;  /* [[rest of the topic, request]] */
	json_t *heard; /* by guis: [[uuid or "", type, data]] */
};
static struct world *the_world;

/* ---- what is outside of the drive ---- */

struct utc_text utc_text(int64_t seconds)
{
	struct utc_text t;
	snprintf(t.s, sizeof(t.s), "time %lld", (long long)seconds);
	return t;
}

void gui_announce(struct gui *g, const char *type, json_t *data)
{
	(void)g;
	json_array_append_new(the_world->heard, json_pack("[s, s, o]", "", type, data));
}

void gui_tell(struct gui *g, const char *uuid, const char *type, json_t *data)
{
	(void)g;
	json_array_append_new(the_world->heard, json_pack("[s, s, o]", uuid, type, data));
}

static int note_request(struct drive *d, const char *topic, const char *payload, size_t len, struct err *err)
{
	(void)d;
	(void)err;
	assert_int_equal(strncmp(topic, DRIVE_PREFIX_REQ, strlen(DRIVE_PREFIX_REQ)), 0);
	json_array_append_new(the_world->sent, json_pack("[s, o]", topic + strlen(DRIVE_PREFIX_REQ), json_loadb(payload, len, 0, NULL)));
	return 0;
}

/* ---- the test as csm ---- */

/* What csm says; taken. */
MAYBE_UNUSED static void say(struct world *w, const char *rest, json_t *message)
{
	char topic[128];
	CLEANUP(freep) char *text = json_dumps(message, 0);
	snprintf(topic, sizeof(topic), DRIVE_PREFIX_RES "%s", rest);
	json_decref(message);
	assert_non_null(text);
	drive_on_message(w->ccm.drive, &(struct bus_msg){.topic = topic, .payload = text, .len = strlen(text), .qos = 2});
}

/* The oldest request that was not looked at; it must be this one. ret: yours */
MAYBE_UNUSED static json_t *asked(struct world *w, const char *rest, const char *op)
{
	json_t *first = json_array_get(w->sent, 0);
	if (first == NULL)
		fail_msg("nothing was asked; not %s on %s", op, rest);
	assert_string_equal(json_string_value(json_array_get(first, 0)), rest);
	json_t *request = json_incref(json_array_get(first, 1));
	assert_string_equal(json_string_value(json_object_get(request, "op")), op);
	json_array_remove(w->sent, 0);
	return request;
}

/* extra: taken, may be NULL. request: taken. */
MAYBE_UNUSED static void answer(struct world *w, const char *rest, json_t *request, const char *state, json_t *extra)
{
	json_object_set_new(request, "state", json_string(state));
	if (extra != NULL)
		json_object_update(request, extra);
	json_decref(extra);
	say(w, rest, request);
}

MAYBE_UNUSED static void ok(struct world *w, const char *rest, const char *op)
{
	answer(w, rest, asked(w, rest, op), "ok", NULL);
}

MAYBE_UNUSED static void nothing_is_asked(struct world *w)
{
	CLEANUP(freep) char *text = json_array_size(w->sent) > 0 ? json_dumps(w->sent, 0) : NULL;
	if (text != NULL)
		fail_msg("there is more: %s", text);
}

/* Handle news of devices, and what else is due now. */
MAYBE_UNUSED static void turn(struct world *w)
{
	for (int i = 0; i < 5; i++)
		loop_turn(w->ccm.loop, 0);
}

/* Attached, with a snapshot of two devices of model M, and an empty list; the graphs of the store wait for their answers. */
MAYBE_UNUSED static void arrive(struct world *w)
{
	drive_on_up(w->ccm.drive);
	json_t *attach = asked(w, "/device", "attach");
	answer(w, "/device", attach, "ok",
	       json_pack("{s:{s:{s:s, s:s, s:{s:s, s:s}}, s:{s:s, s:s, s:{s:s}}}}", "da_list", DEVICE_1, "id", DEVICE_1, "state", "online",
			 "profile", "model", "M", "u_name", "alice", DEVICE_2, "id", DEVICE_2, "state", "online", "profile", "model", "M"));
	turn(w);
}

/* ---- the store ---- */

MAYBE_UNUSED static void script(struct world *w, const char *sql)
{
	struct err err = {0};
	if (db_script(w->ccm.db, sql, &err) < 0)
		fail_msg("%s: %s", sql, err.text);
}

MAYBE_UNUSED static int64_t number_of(struct world *w, const char *sql)
{
	int64_t n = -1;
	struct err err = {0};
	if (q_int_of(w->ccm.db, &err, &n, sql, NULL, 0) < 0)
		fail_msg("%s: %s", sql, err.text);
	return n;
}

/* Alice's project 1 (on) with application 1: input I of object 1 (dfo 1), outputs O (dfo 2) and W with two parameters (dfo 3) of
 * object 2; functions 1 `twice` and 2 `sum`. Nothing is bound. */
static const char home[] =
	"INSERT INTO User (u_id, u_name) VALUES (1, 'alice'), (2, 'bob');"
	"INSERT INTO DeviceFeature (df_id, df_name, df_type, param_no) VALUES (1, 'I', 'input', 1), (2, 'O', 'output', 1), (3, 'W', 'output', 2);"
	"INSERT INTO DeviceModel (dm_id, dm_name) VALUES (1, 'M'), (2, 'N');"
	"INSERT INTO DM_DF (mf_id, dm_id, df_id) VALUES (1, 1, 1), (2, 1, 2), (3, 1, 3);"
	"INSERT INTO Project (p_id, p_name, u_id, status) VALUES (1, 'p', 1, 'on');"
	"INSERT INTO DeviceObject (do_id, dm_id, p_id) VALUES (1, 1, 1), (2, 1, 1);"
	"INSERT INTO DFObject (dfo_id, do_id, df_id, alias_name) VALUES (1, 1, 1, 'I'), (2, 2, 2, 'O'), (3, 2, 3, 'W');"
	"INSERT INTO NetworkApplication (na_id, na_name, na_idx, p_id) VALUES (1, 'na', 0, 1);"
	"INSERT INTO DF_Module (na_id, dfo_id, param_i) VALUES (1, 1, 0), (1, 2, 0), (1, 3, 0), (1, 3, 1);"
	"INSERT INTO MultipleJoin_Module (na_id, param_i, dfo_id) VALUES (1, 4, 1);"
	"INSERT INTO Function (fn_id, fn_name) VALUES (1, 'twice'), (2, 'sum');"
	"INSERT INTO FunctionVersion (fn_id, u_id, date, code) VALUES (1, NULL, '2026-01-01', 'def run(x): return 2 * x'),"
	" (2, NULL, '2026-01-01', 'def run(*all): return sum(all)');";

/* ---- life ---- */

MAYBE_UNUSED static int world_setup(void **state)
{
	struct world *w = the_world = calloc(1, sizeof(*w));
	struct err err = {0};
	if (settings_load("/dev/null", &w->settings, NULL, NULL, &err) < 0)
		fail_msg("%s", err.text);
	free(w->settings.gui_db.url);
	w->settings.gui_db.url = strdup(":memory:");
	w->ccm.settings = &w->settings;
	w->sent = json_array();
	w->heard = json_array();
	if (loop_new(&w->ccm.loop, &err) < 0 || schema_open(&w->settings, SCHEMA_CCM, &w->ccm.db, &err) < 0 ||
	    drive_new(&w->ccm, &w->ccm.drive, &err) < 0)
		fail_msg("%s", err.text);
	w->ccm.gui = (struct gui *)w; /* never looked into */
	w->ccm.drive->publish = note_request;
	script(w, home);
	*state = w;
	return 0;
}

MAYBE_UNUSED static int world_teardown(void **state)
{
	struct world *w = *state;
	w->ccm.drive = drive_free(w->ccm.drive);
	w->ccm.db = db_close(w->ccm.db);
	w->ccm.loop = loop_free(w->ccm.loop);
	settings_done(&w->settings);
	json_decref(w->sent);
	json_decref(w->heard);
	free(w);
	the_world = NULL;
	return 0;
}
