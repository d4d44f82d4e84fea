/* gui.h - the MQTT API of editors (spec ccm 4). */
#pragma once

#include "ccm/ccm.h"
#include "ccm/fields.h"
#include "ccm/op.h"
#include <stdio.h>

#define GUI_REQUEST_PREFIX "iottalk/api/gui/req/"
#define GUI_ANSWER_PREFIX  "iottalk/api/gui/res/"

struct gui;

/* One operation of the API; its `data` is the operation's result. */
struct gui_op {
	const char *name;
	const struct op *op;
	const struct field *args; /* NULL: none */
};

/* Tables, each ended with {0}. */
extern const struct gui_op gui_project_ops[];
extern const struct gui_op gui_catalogue_ops[];

int gui_new(struct ccm *ccm, struct gui **ret, struct err *err);
struct gui *gui_free(struct gui *g); /* NULL is fine; returns NULL */
void gui_on_message(struct gui *g, const struct bus_msg *m);
/* Add to the answer of `status`: "gui": {"clients": how many are attached}. */
void gui_status(struct gui *g, json_t *answer);
/* The part of /metrics. */
void gui_write_metrics(const struct gui *g, FILE *out);

/* To every attached client: {"op": "anno", "type": type, "data": data}. data: taken; NULL: out of memory, nothing is announced. */
void gui_announce(struct gui *g, const char *type, json_t *data);
/* The same to one client (its uuid). */
void gui_tell(struct gui *g, const char *uuid, const char *type, json_t *data);
/* An effect: the alias of a DF object has changed. */
void gui_alias_changed(struct ccm *ccm, int64_t dfo_id);
