/* listeners.h - clients of the device API: who hears of devices (spec iottalk-core 5.1). */
#pragma once

#include "csm/csm.h"

struct listeners;

int listeners_new(struct csm *csm, struct listeners **ret, struct err *err); /* loads the store */
struct listeners *listeners_free(struct listeners *l);
bool listeners_has(const struct listeners *l, const char *client);
/* Both are undone if the turn's commit fails; both are fine to repeat. ret: 0, ERR_NOMEM, ERR_LIMIT (256 clients already). */
int listeners_attach(struct listeners *l, const char *client);
void listeners_detach(struct listeners *l, const char *client);
/* Tell all of them, once the turn is committed. type: "register", "changed", "online", ... da: taken; NULL: out of memory. */
void listeners_announce(struct csm *csm, const char *type, json_t *da);
/* The same without waiting, for what is true whether the store takes it or not: online, offline. */
void listeners_announce_fact(struct csm *csm, const char *type, json_t *da);
