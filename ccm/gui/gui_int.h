/* gui_int.h - what the files of this folder share. */
#pragma once

#include "ccm/gui/clients.h"
#include "ccm/gui/gui.h"
#include "common/histogram.h"
#include "common/map.h"

/* What is outside; tests have another one. */
struct gui_port {
	/* The user whose ticket this is, for that client; 0: nobody's; negative: the store failed, that is logged. */
	int64_t (*user_of)(struct ccm *ccm, const char *ticket, const char *uuid);
	int (*publish)(struct ccm *ccm, const char *topic, const char *text, size_t len, struct err *err);
	void (*left)(struct ccm *ccm, const char *uuid); /* a client is not attached any more */
};

struct asked; /* one request that has no answer yet (requests.c) */

/* What can be asked, and how often it was. */
struct gui_row {
	const char *name;
	const struct gui_op *op; /* NULL: attach, detach, and what nobody knows */
	uint64_t ok, error;
	struct histogram took;
};

struct gui {
	struct ccm *ccm;
	const struct gui_port *port; /* borrowed */
	struct map *rows;	     /* struct gui_row by name */
	struct gui_clients *clients;
	struct loop_src *timer;
	struct asked *asked;
	size_t n_asked;
	uint64_t dropped; /* messages that are no requests */
};

/* tables: NULL-terminated, of tables as gui_project_ops is one. */
int gui_new_with(struct ccm *ccm, const struct gui_port *port, const struct gui_op *const *tables, struct gui **ret, struct err *err);

/* Their answers find nobody from now on. */
void gui_forget_asked(struct gui *g);

/* ---- messages ---- */

/* message: taken; NULL: out of memory. One that the broker would not take is sent without what is large. */
void gui_send(struct gui *g, const char *uuid, json_t *message);
/* The same text to everybody who is attached. */
void gui_send_all(struct gui *g, json_t *message);
