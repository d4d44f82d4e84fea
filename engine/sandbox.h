/* sandbox.h - the walls around user code, in layers (design: docs/keeper-protocol.rst, "Sandbox").
 *
 * The keeper enters the phases START (before it forks into its new pid namespace) and KEEPER; each
 * engine the phase ENGINE. Once that is done an engine can compute, and read and write the
 * descriptors it has.
 */
#pragma once

#include "common/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum sandbox_phase { SANDBOX_START, SANDBOX_KEEPER, SANDBOX_ENGINE };

struct sandbox_conf {
	const char *layers;  /* names with commas; "all", "none": for tests */
	size_t memory_bytes; /* address space of an engine */
};

struct sandbox;

/* Before anything is loaded: forget the environment, /dev/null as standard input, close all
 * descriptors from 3 on but one. */
int sandbox_tidy(int but, struct err *err);

/* What needs files, or is the same for all engines, is done here. ret: yours. */
int sandbox_new(const struct sandbox_conf *conf, struct sandbox **ret, struct err *err);
struct sandbox *sandbox_free(struct sandbox *s); /* the walls stay; NULL is fine; returns NULL */

/* Put up the layers of START or KEEPER, each as far as the machine lets us. The caller forks in
 * between. */
void sandbox_enter(struct sandbox *s, enum sandbox_phase phase);
/* After KEEPER: try the layers of ENGINE in a fork. Errors: ERR_LIMIT (memory_bytes leave no room),
 * ERR_SYS. */
int sandbox_try(struct sandbox *s, struct err *err);
/* In an engine: put up what sandbox_try() found possible. On error the engine must end. */
int sandbox_lock(struct sandbox *s, struct err *err);

/* Whether what every engine must be kept from is kept from it. ret: 0, or ERR_ACCES and what is
 * missing, why, and what to do. */
int sandbox_verdict(const struct sandbox *s, struct err *err);
/* A line in the log for each layer that is not up. */
void sandbox_warn(const struct sandbox *s);
/* List of {"name", "up", "core", "kind", "why", "remedy"}, yours; NULL: out of memory. */
json_t *sandbox_report(const struct sandbox *s);

/* Put up all layers in a fork, and report. ret: as sandbox_report(); NULL: err says why. */
json_t *sandbox_probe(size_t memory_bytes, struct err *err);

/* Whether `bytes` more of address space could be had. */
bool sandbox_memory_left(size_t bytes);
