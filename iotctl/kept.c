#include "iotctl/kept.h"
#include "common/pidfile.h"
#include "common/util.h"
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define VARIABLE "IOTTALK_UNIT="

bool kept_unit(pid_t pid, char unit[KEPT_NAME_MAX])
{
	char path[40];
	CLEANUP(freep)
	char *var = NULL;
	size_t cap = 0;
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	FILE *f = fopen(path, "re");

	while (f != NULL && !found && getdelim(&var, &cap, '\0', f) > 0)
		found = strncmp(var, VARIABLE, strlen(VARIABLE)) == 0 &&
			snprintf(unit, KEPT_NAME_MAX, "%s", var + strlen(VARIABLE)) < KEPT_NAME_MAX;
	if (f != NULL)
		fclose(f);
	return found && unit[0] != '\0';
}

/* ret: whether the daemon runs and is kept */
static bool find(const struct iotctl *app, unsigned i, char unit[KEPT_NAME_MAX])
{
	char relative[64];
	pid_t pid;

	snprintf(relative, sizeof(relative), "run/%s.pid", unit_kinds[i].name);
	CLEANUP(freep)
	char *path = settings_path(&app->settings, relative);
	CLEANUP(closep)
	int pidfd = path != NULL ? pidfile_owner(path, &pid) : -1;

	return pidfd >= 0 && kept_unit(pid, unit);
}

unsigned kept_units(const struct iotctl *app, unsigned mask)
{
	char unit[KEPT_NAME_MAX];
	unsigned kept = 0;

	for (unsigned i = 0; i < UNITS; i++) {
		if ((mask & 1u << i) && find(app, i, unit))
			kept |= 1u << i;
	}
	return kept;
}

int kept_journal(const struct iotctl *app, unsigned mask, long lines, bool follow)
{
	char units[UNITS][KEPT_NAME_MAX], count[32];
	char *argv[2 * UNITS + 6] = {"journalctl", "--no-pager", "-n", count};
	int n = 4;

	snprintf(count, sizeof(count), "%ld", lines);
	if (follow)
		argv[n++] = "-f";
	for (unsigned i = 0; i < UNITS; i++) {
		if ((mask & 1u << i) && find(app, i, units[i])) {
			argv[n++] = "-u";
			argv[n++] = units[i];
		}
	}
	fflush(stdout);
	execvp(argv[0], argv);
	return complain("journalctl: %s", strerror(errno));
}

int kept_systemctl(const struct iotctl *app, const char *verb, unsigned mask)
{
	char units[UNITS][KEPT_NAME_MAX];
	char *argv[UNITS + 3] = {"systemctl", (char *)verb};
	int n = 2, status;
	pid_t pid;

	for (unsigned i = 0; i < UNITS; i++) {
		if (!(mask & 1u << i))
			continue;
		if (!find(app, i, units[i]))
			snprintf(units[i], sizeof(units[i]), "iottalk-%s.service",
				 unit_kinds[i].name);
		argv[n++] = units[i];
	}
	fflush(stdout);
	int rc = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);

	if (rc != 0)
		return complain("systemctl %s: %s", verb, strerror(rc));
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return complain("systemctl %s: %s", verb, strerror(errno));
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return complain("systemctl %s failed; `journalctl -u 'iottalk-*'` has the logs",
				verb);
	return EXIT_OK;
}
