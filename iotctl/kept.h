/* kept.h - daemons that systemd keeps.
 *
 * Our units name themselves in the environment of what they run (IOTTALK_UNIT=%n), so whoever holds
 * a pid lock can be asked for its unit. What systemd keeps is asked of systemctl: two supervisors
 * of one daemon would undo each other's work.
 */
#pragma once

#include "iotctl/iotctl.h"
#include "iotctl/units.h"
#include <sys/types.h>

#define KEPT_NAME_MAX 256

/* The unit that keeps a process. ret: whether there is one that we may know of. */
bool kept_unit(pid_t pid, char unit[KEPT_NAME_MAX]);
/* The bits of mask whose daemons run and are kept by systemd. */
unsigned kept_units(const struct iotctl *app, unsigned mask);
/* Become `journalctl` for the units of mask: their last lines, and with follow what comes. Returns
 * only if there is none: EXIT_ERROR (told). */
int kept_journal(const struct iotctl *app, unsigned mask, long lines, bool follow);
/* `systemctl VERB` for the units of mask, and wait for it; those that do not run have the names
 * that we gave them. ret: EXIT_OK, EXIT_ERROR (told). */
int kept_systemctl(const struct iotctl *app, const char *verb, unsigned mask);
