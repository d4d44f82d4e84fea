/* funcs.h - function sources by digest, shared by all graphs (spec iottalk-core 5.2: add_funcs, rm_funcs). */
#pragma once

#include "csm/csm.h"

struct funcs;

int funcs_new(struct csm *csm, struct funcs **ret, struct err *err); /* loads the store */
struct funcs *funcs_free(struct funcs *f);

/* Known already: ok. Errors: ERR_NOMEM, ERR_LIMIT (100,000 functions or 512 MiB in all). Undone if the turn's commit fails. */
int funcs_add(struct funcs *f, const char *digest, const char *code);
/* Forget; one in use goes when its last user does. Unknown: fine. */
void funcs_remove(struct funcs *f, const char *digest);
const char *funcs_find(const struct funcs *f, const char *digest); /* the source, borrowed; NULL: unknown or removed */
/* The source even if it is removed already and only waits for its last user. */
const char *funcs_source(const struct funcs *f, const char *digest);

/* After the graphs are loaded: forget removed functions that nobody uses any more. */
void funcs_sweep(struct funcs *f);
/* A graph document uses it, or no longer. */
void funcs_ref(struct funcs *f, const char *digest);
void funcs_unref(struct funcs *f, const char *digest);
