/* funcs.h - sources of functions by digest, as csm sends them.
 *
 * Sources that no graph uses are forgotten at the start of a session of csm, and when they have
 * grown past a limit: csm sends them again when asked.
 */
#pragma once

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>

struct funcs;

struct funcs *funcs_new(void); /* NULL: out of memory */
struct funcs *funcs_free(struct funcs *f);
/* code is copied. Errors: ERR_SCHEMA (not its digest), ERR_NOMEM. Known: 0. */
int funcs_add(struct funcs *f, const char *digest, const char *code, size_t len, struct err *err);
const char *funcs_find(const struct funcs *f, const char *digest,
		       size_t *ret_len); /* NULL: unknown */
/* True when so much is kept that the unused should go. */
bool funcs_grown(const struct funcs *f);
/* Forget all but what funcs_mark() has marked since the last sweep. */
void funcs_mark(struct funcs *f, const char *digest);
void funcs_sweep(struct funcs *f);
