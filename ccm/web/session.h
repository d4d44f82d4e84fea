/* session.h - logins: a random token in a cookie, of which the store keeps the SHA-256. */
#pragma once

#include "ccm/op.h"
#include "common/http.h"
#include "common/id.h"

#define SESSION_COOKIE	 "session"
#define SESSIONS_OF_USER 1000 /* at once; the oldest end */

struct session_token {
	char s[65]; /* 256 bits in hex */
};
struct session_token session_token_new(void);

/* Inside a transaction: a login of u_id for so long. */
int session_add(struct db *db, int64_t u_id, const struct session_token *token, int64_t lasts_s, struct err *err);
/* The digest of the request's cookie, whether there is such a login or not; "": no cookie that could be one. */
struct digest_text session_of(const struct http_request *req);
/* Who has logged in with it. ret: 1, 0 (nobody; *ret is all zero) or negative. */
int session_find(struct db *db, const struct digest_text *digest, struct caller *ret, struct err *err);
/* Remove those whose time is over. */
int session_sweep(struct db *db, struct err *err);

/* Headers of the answer that give the cookie, or take it back. ret: 0 or ERR_NOMEM. */
int session_give(struct http_request *req, const char *token, int64_t lasts_s);
int session_take_back(struct http_request *req);
