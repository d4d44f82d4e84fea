#include "iotctl/act.h"
#include <stdio.h>
#include <string.h>

/* An option that means nothing for what is to be done is a mistake. ret: enum exit_code (told) */
static int check_options(const char *command, const struct act *act, const struct options *o)
{
	for (size_t i = 0; o->rows[i].name != NULL; i++) {
		char word[32];

		snprintf(word, sizeof(word), "%s ", o->rows[i].name);
		if (o->values[i] != NULL && strcmp(o->rows[i].name, "json") != 0 &&
		    (act->options == NULL || strstr(act->options, word) == NULL))
			return misused("%s: --%s is not for %s", command, o->rows[i].name,
				       act->name);
	}
	return EXIT_OK;
}

int run_act(struct iotctl *app, const char *command, const struct act *acts, size_t n,
	    const struct options *o)
{
	char names[300] = "";
	size_t used = 0;

	for (size_t i = 0; o->argc > 0 && i < n; i++) {
		if (strcmp(o->argv[0], acts[i].name) != 0)
			continue;
		if (o->argc - 1 < acts[i].min || o->argc - 1 > acts[i].max)
			return misused("%s: %s takes %s", command, acts[i].name, acts[i].takes);
		if (check_options(command, &acts[i], o) != EXIT_OK)
			return EXIT_USAGE;
		if (iotctl_settings(app) < 0 || iotctl_look(app) < 0)
			return EXIT_ERROR;
		return acts[i].run(app, o);
	}
	for (size_t i = 0; i < n; i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
					 i > 0 ? ", " : "", acts[i].name);
	if (o->argc == 0)
		return misused("%s: what is to be done? (%s)", command, names);
	return misused("%s: '%s' is none of %s", command, o->argv[0], names);
}
