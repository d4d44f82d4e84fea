/* engine_path.h - where the engine's program stands: in $BUILD, or beside the test's folder. */
#pragma once

#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *engine_path(void)
{
	static char path[PATH_MAX + 40];
	const char *build = getenv("BUILD");
	if (build != NULL) {
		snprintf(path, sizeof(path), "%s/bin/iottalk-engine", build);
		return path;
	}
	char self[PATH_MAX] = "";
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) > 0)
		snprintf(path, sizeof(path), "%s/../../bin/iottalk-engine", dirname(self));
	return path;
}
