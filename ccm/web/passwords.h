/* passwords.h - argon2id on a thread of its own, one after the other, so that many logins take time and not memory.
 *
 * The queue is bounded: what finds it full is refused at once. Loop thread only; callbacks come on the loop's thread, each
 * once, never before the call returned.
 */
#pragma once

#include "common/err.h"
#include "common/loop.h"

#define PASSWORDS_QUEUE	 64  /* that wait at most */
#define PASSWORD_HASH_MAX 128 /* with the NUL */

struct passwords;

int passwords_new(struct loop *l, struct passwords **ret, struct err *err);
/* Waits for the one at work; what still waits is called back with ERR_AGAIN. NULL is fine; returns NULL. */
struct passwords *passwords_free(struct passwords *p);

/* rc: 0; ERR_ACCES: it does not fit; ERR_NOMEM; ERR_AGAIN: we are stopping. hash: of passwords_hash(), borrowed; else NULL. */
typedef void passwords_fn(void *arg, int rc, const char *hash);

/* Does it fit? hash "": nobody's; takes its time and never fits. ret: 0, ERR_AGAIN (too many wait) or ERR_NOMEM; then fn is
 * not called. */
int passwords_verify(struct passwords *p, const char *password, const char *hash, passwords_fn *fn, void *arg);
/* A hash of it. ret: the same. */
int passwords_hash(struct passwords *p, const char *password, passwords_fn *fn, void *arg);

/* The same at once, for programs without a loop. ret: 0 or ERR_NOMEM. */
int password_hash_now(const char *password, char hash[static PASSWORD_HASH_MAX]);
