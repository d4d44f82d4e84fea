/* web.h - ccm's HTTP side: REST API v0 (spec ccm 3), logins, pages. */
#pragma once

#include "ccm/ccm.h"
#include "ccm/fields.h"
#include "ccm/op.h"

struct web;

enum web_auth { WEB_ANYONE, WEB_USER, WEB_ADMIN };

/* One route of /api/v0: what checks it, runs it, and describes it (openapi.json). The arguments of the operation are those of
 * the path and those of the body together. */
struct web_route {
	const char *method;
	const char *path; /* below /api/v0: "/project/{p_id:int}/na/{na_id:int}"; {name}: any segment; :int: digits only, a number */
	enum web_auth auth;
	const struct op *op;
	const struct field *body; /* NULL: none is looked at */
	unsigned ok;		  /* status of success */
	unsigned error;		  /* status of an operation's errors */
	unsigned not_found;	  /* of ERR_NOENT; 0: as error */
	const char *wrap; /* "data": the result stands under that key beside state; NULL: its fields stand beside state themselves */
	const char *help; /* what it does, in a line */
};

/* Tables, each in the file of its part, each ended with {0}. */
extern const struct web_route web_account_routes[];
extern const struct web_route web_project_routes[];
extern const struct web_route web_catalogue_routes[]; /* models, features, functions, units ... */

int web_new(struct ccm *ccm, struct web **ret, struct err *err);
struct web *web_free(struct web *w); /* NULL is fine; returns NULL */
unsigned web_port(const struct web *w);

/* Whose ticket (the profile's mqtt_ticket, `_id` of the gui API) it is, if it was made for this gui client and its login still
 * lasts. ret: u_id, 0: nobody's, negative: the store failed. */
int64_t web_ticket_user(struct web *w, const char *ticket, const char *gui_uuid);

/* For operations on accounts. */
struct passwords *web_passwords(struct web *w);
struct throttle *web_throttle(struct web *w);
const struct tickets *web_tickets(const struct web *w);
