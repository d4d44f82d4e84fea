/* ticket.h - what an editor shows on MQTT instead of its login (spec ccm 9.3.37): whose it is, until when, for which gui client,
 * and a tag over that. It ends with the login that it was made from, with its time, and with this process. */
#pragma once

#include "common/db.h"
#include "common/id.h"
#include <stdbool.h>

#define TICKET_S   900 /* that one lasts */
#define TICKET_MAX 160

struct tickets {
	unsigned char key[32];
};
struct ticket_text {
	char s[TICKET_MAX];
};

void tickets_init(struct tickets *t);
/* 8-4-4-4-12 word characters (spec ccm 4.1)? */
bool ticket_gui_valid(const char *gui_uuid);
/* gui_uuid: a valid one; login: the session's digest. */
struct ticket_text ticket_make(const struct tickets *t, int64_t u_id, const struct digest_text *login, const char *gui_uuid);
/* ret: u_id, 0: nobody's, negative: the store failed. */
int64_t ticket_user(const struct tickets *t, struct db *db, const char *ticket, const char *gui_uuid);
