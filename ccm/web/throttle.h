/* throttle.h - failed logins make the next ones wait: by the address they came from, and by the account they were for; and so do new
 * accounts, by the address they were made from.
 *
 *	            at once    then one every
 *	address     50         6 s
 *	account     10         30 s
 *	new         200        30 s            one that there was already counts, too
 *
 * Memory is fixed: 8192 addresses and accounts; beyond that, those whose time is over first are forgotten. Accounts are throttled
 * whether they exist or not.
 */
#pragma once

#include <stdint.h>

enum throttle_kind { THROTTLE_ADDRESS, THROTTLE_ACCOUNT, THROTTLE_NEW };

struct throttle;

struct throttle *throttle_new(void); /* NULL: out of memory */
struct throttle *throttle_free(struct throttle *t);
/* Seconds until the next attempt is allowed; 0: now. key: numeric address, name of a user. */
unsigned throttle_wait_s(const struct throttle *t, enum throttle_kind kind, const char *key, int64_t now_ms);
/* One more failure, or new account. */
void throttle_failed(struct throttle *t, enum throttle_kind kind, const char *key, int64_t now_ms);
/* Whoever it was knew the password. */
void throttle_forget(struct throttle *t, enum throttle_kind kind, const char *key);
