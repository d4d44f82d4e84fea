/* names.h - names for devices that came without one: "NN.Model", the lowest free number first (spec iottalk-core 3).
 *
 * Keeps count of every name in use, so that a name given by hand is never made again. O(log n) for each call.
 */
#pragma once

#include <stddef.h>

struct names;

struct names *names_new(void); /* NULL: out of memory */
struct names *names_free(struct names *n);
/* A device has this name now, or has it no longer. names_use(): 0 or ERR_NOMEM (nothing changed). */
int names_use(struct names *n, const char *name);
void names_release(struct names *n, const char *name);
/* A free name for the model: "00.Model", ... "99.Model", "100.Model" ... Not used until names_use() says so.
 * ret: 0, ERR_NOMEM, ERR_RANGE (does not fit). */
int names_make(struct names *n, const char *model, char *ret_name, size_t size);
