/* doctor.h - what this machine offers the suite, and what to do about what is missing: the layers of the sandbox as the engine's
 * own probe tells them, the broker plugin, the way that data takes.
 *
 * Everything blocks; for the command only. A report is {"ok": bool, "sandbox": "strict"|"degraded", "layers": [{"name", "up",
 * "core", "kind", "why", "remedy"}], "checks": [{"name", "ok", "needed", "why", "remedy"}]}.
 */
#pragma once

#include "common/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Run `program --probe` and read what it prints: {"layers": [...]}. ret_layers: a new list, checked. Errors: ERR_NOENT (no such
 * program), ERR_TIMEOUT, ERR_PEER (it failed), ERR_SCHEMA (it prints something else), ERR_SYS, ERR_NOMEM. */
int doctor_probe(const char *program, unsigned timeout_ms, json_t **ret_layers, struct err *err);
/* Does somebody listen on a socket of the plugin's kind? ret: 0, or negative and why not. */
int doctor_socket(const char *path, struct err *err);

/* A report without layers. degraded: [engine] sandbox. NULL: out of memory. */
json_t *doctor_new(bool degraded);
/* What doctor_probe() said; layers: borrowed; NULL: nothing, why says so: then nothing is ok. */
void doctor_add_layers(json_t *report, json_t *layers, const char *why);
/* One more fact. needed: without it nothing is ok. why, remedy: may be NULL. */
void doctor_add(json_t *report, const char *name, bool ok, bool needed, const char *why, const char *remedy);
bool doctor_ok(const json_t *report);
/* As a table for people. */
void doctor_print(const json_t *report);
