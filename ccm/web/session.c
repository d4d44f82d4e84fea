#include "ccm/web/session.h"

#include "ccm/query.h"
#include "common/util.h"
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define ATTRIBUTES "Path=/; HttpOnly; SameSite=Lax"

struct session_token session_token_new(void)
{
	struct session_token t;
	unsigned char bytes[32];
	randombytes_buf(bytes, sizeof(bytes));
	sodium_bin2hex(t.s, sizeof(t.s), bytes, sizeof(bytes));
	return t;
}

int session_add(struct db *db, int64_t u_id, const struct session_token *token, int64_t lasts_s, struct err *err)
{
	struct digest_text digest = sha256_hex(token->s, strlen(token->s));
	int rc = q_exec(db, err,
			"DELETE FROM Session WHERE digest IN "
			"(SELECT digest FROM Session WHERE u_id = $1 ORDER BY expires_at DESC LIMIT -1 OFFSET $2)",
			DB_V_INT(u_id), DB_V_INT(SESSIONS_OF_USER - 1));
	return rc < 0 ? rc
		      : q_exec(db, err, "INSERT INTO Session (digest, u_id, expires_at) VALUES ($1, $2, $3)", DB_V_TEXT(digest.s),
			       DB_V_INT(u_id), DB_V_INT((int64_t)time(NULL) + lasts_s));
}

struct digest_text session_of(const struct http_request *req)
{
	const char *token = http_cookie(req, SESSION_COOKIE);
	return token != NULL && digest_valid(token) ? sha256_hex(token, strlen(token)) : (struct digest_text){""};
}

static int on_user(void *arg, const struct db_value *v, size_t n)
{
	struct caller *who = arg;
	(void)n;
	who->u_id = v[0].num;
	who->is_admin = v[1].num != 0;
	return 0;
}

int session_find(struct db *db, const struct digest_text *digest, struct caller *ret, struct err *err)
{
	*ret = (struct caller){0};
	if (digest->s[0] == '\0')
		return 0;
	int rc = db_run(db, err, on_user, ret,
			"SELECT u.u_id, u.is_admin FROM Session s JOIN User u ON u.u_id = s.u_id "
			"WHERE s.digest = $1 AND s.expires_at > $2 AND u.is_active = 1 AND u.is_deleted = 0",
			DB_V_TEXT(digest->s), DB_V_INT((int64_t)time(NULL)));
	return rc < 0 ? rc : ret->u_id != 0;
}

int session_sweep(struct db *db, struct err *err)
{
	return q_exec(db, err, "DELETE FROM Session WHERE expires_at <= $1", DB_V_INT((int64_t)time(NULL)));
}

int session_give(struct http_request *req, const char *token, int64_t lasts_s)
{
	char cookie[200];
	snprintf(cookie, sizeof(cookie), SESSION_COOKIE "=%s; " ATTRIBUTES "; Max-Age=%" PRId64, token, lasts_s);
	return http_add_header(req, "Set-Cookie", cookie);
}

int session_take_back(struct http_request *req)
{
	return http_add_header(req, "Set-Cookie", SESSION_COOKIE "=; " ATTRIBUTES "; Max-Age=0");
}
