/* doctor.h - what this machine offers the suite, and what to do about what is missing: the layers
 * of the sandbox as the engine's own probe tells them, and the lines of the checks (check.h).
 *
 * Everything blocks; for the command only. A report is {"ok": bool, "sandbox": "strict"|"degraded",
 * "layers": [{"name", "up", "core", "kind", "why", "remedy"}], "checks": [{"group", "name",
 * "state": "ok"|"warning"|"missing", "why", "remedy"}]}; why is what was seen, remedy is null where
 * nothing is to be done. "ok" is false if something is missing; warnings do not change it.
 */
#pragma once

#include "common/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum doctor_state { DOCTOR_OK, DOCTOR_WARNING, DOCTOR_MISSING };

/* Run `program --probe` and read what it prints: {"layers": [...]}. ret_layers: a new list,
 * checked. Errors: ERR_NOENT (no such program), ERR_TIMEOUT, ERR_PEER (it failed), ERR_SCHEMA (it
 * prints something else), ERR_SYS, ERR_NOMEM. */
int doctor_probe(const char *program, unsigned timeout_ms, json_t **ret_layers, struct err *err);
/* All that comes from fd until its end, at most 256 KiB. who: for the words. ret_text: yours.
 * Errors: ERR_TIMEOUT, ERR_SCHEMA (too much), ERR_SYS, ERR_NOMEM. */
int doctor_read(int fd, unsigned timeout_ms, const char *who, char **ret_text, size_t *ret_len,
		struct err *err);
/* Does somebody listen on a socket of the plugin's kind? ret: 0, or negative and why not. */
int doctor_socket(const char *path, struct err *err);

/* A report without layers. degraded: [engine] sandbox. NULL: out of memory. */
json_t *doctor_new(bool degraded);
/* What doctor_probe() said; layers: borrowed; NULL: nothing, why says so: then nothing is ok. */
void doctor_add_layers(json_t *report, json_t *layers, const char *why);
/* One line. NULL: out of memory. remedy: NULL for what is ok. */
json_t *doctor_line(const char *group, const char *name, enum doctor_state state, const char *why,
		    const char *remedy);
/* line: taken. */
void doctor_add(json_t *report, json_t *line);
bool doctor_ok(const json_t *report);
/* As a table for people. */
void doctor_print(const json_t *report);
