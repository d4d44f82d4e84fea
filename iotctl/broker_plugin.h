/* broker_plugin.h - which plugin the managed broker loads, and where its socket is found. */
#pragma once

#include "common/err.h"
#include "common/settings.h"
#include <stdbool.h>

/* The plugin to load: a new string. program_dir: of our programs. ret: 0; ERR_NOENT: there is none,
 * err says why not (also that it is switched off). */
int plugin_find(const struct settings *s, const char *program_dir, char **ret, struct err *err);
/* Make it readable for the broker's user by a copy in data_dir. *path: replaced then. */
int plugin_copy(char **path, const char *data_dir, struct err *err);
/* Where the plugin listens; a new string. NULL: out of memory. */
char *plugin_socket(const char *data_dir);
/* Let the place where the agent looks lead to socket; NULL: nowhere. What is there and no link is
 * left alone. Errors: ERR_EXIST, ERR_SYS, ERR_NOMEM. */
int plugin_link(const struct settings *s, const char *socket, struct err *err);
/* Whether the configuration at path loads a plugin. */
bool plugin_in_conf(const char *path);
