#include "ccm/web/ticket.h"

#include "ccm/query.h"
#include "common/log.h"
#include <ctype.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LOGIN_LEN 16 /* of the login's digest: enough to find it among a user's */
#define TAG_LEN	  (2 * crypto_auth_BYTES)

void tickets_init(struct tickets *t)
{
	_Static_assert(sizeof(t->key) == crypto_auth_KEYBYTES, "length of a key");
	randombytes_buf(t->key, sizeof(t->key));
}

bool ticket_gui_valid(const char *uuid)
{
	size_t i = 0;
	for (; i < UUID_LEN && uuid[i] != '\0'; i++)
		if (i == 8 || i == 13 || i == 18 || i == 23 ? uuid[i] != '-' : !isalnum((unsigned char)uuid[i]) && uuid[i] != '_')
			return false;
	return i == UUID_LEN && uuid[i] == '\0';
}

static void tag_of(const struct tickets *t, const char *claim, size_t claim_len, const char *gui_uuid, char tag[TAG_LEN + 1])
{
	char text[TICKET_MAX + UUID_LEN + 2];
	unsigned char bytes[crypto_auth_BYTES];
	int n = snprintf(text, sizeof(text), "%.*s %s", (int)claim_len, claim, gui_uuid);
	crypto_auth(bytes, (const unsigned char *)text, (size_t)n, t->key);
	sodium_bin2hex(tag, TAG_LEN + 1, bytes, sizeof(bytes));
}

struct ticket_text ticket_make(const struct tickets *t, int64_t u_id, const struct digest_text *login, const char *gui_uuid)
{
	struct ticket_text ticket;
	char tag[TAG_LEN + 1];
	int n = snprintf(ticket.s, sizeof(ticket.s), "%" PRId64 ".%" PRId64 ".%.*s", u_id, (int64_t)time(NULL) + TICKET_S, LOGIN_LEN,
			 login->s);
	tag_of(t, ticket.s, (size_t)n, gui_uuid, tag);
	snprintf(ticket.s + n, sizeof(ticket.s) - (size_t)n, ".%s", tag);
	return ticket;
}

int64_t ticket_user(const struct tickets *t, struct db *db, const char *ticket, const char *gui_uuid)
{
	char tag[TAG_LEN + 1], login[LOGIN_LEN + 1];
	int64_t u_id, expires, found = 0;
	struct err err = {0};
	const char *given = strrchr(ticket, '.');
	if (given == NULL || strlen(ticket) >= TICKET_MAX || strlen(given + 1) != TAG_LEN || !ticket_gui_valid(gui_uuid))
		return 0;
	tag_of(t, ticket, (size_t)(given - ticket), gui_uuid, tag);
	/* from here on it is one that we made */
	if (sodium_memcmp(tag, given + 1, TAG_LEN) != 0 ||
	    sscanf(ticket, "%" SCNd64 ".%" SCNd64 ".%16[0-9a-f]", &u_id, &expires, login) != 3 || expires <= (int64_t)time(NULL))
		return 0;
	int rc = q_int(db, &err, &found,
		       "SELECT u.u_id FROM User u JOIN Session s ON s.u_id = u.u_id WHERE u.u_id = $1 AND u.is_active = 1 "
		       "AND u.is_deleted = 0 AND substr(s.digest, 1, 16) = $2 AND s.expires_at > $3 LIMIT 1",
		       DB_V_INT(u_id), DB_V_TEXT(login), DB_V_INT((int64_t)time(NULL)));
	if (rc < 0)
		log_warn("ticket.unknown", KV("why", err.text));
	return rc < 0 ? rc : found;
}
