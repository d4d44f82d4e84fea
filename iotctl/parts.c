#include "iotctl/parts.h"

#include <string.h>

/* Not here: what the broker keeps. Retained states and queued messages are the devices', of one
 * moment that is no moment of the store; mosquitto writes its file when it likes. csm brings the
 * broker up to date from its own store. */
const struct part parts[PARTS] = {
	{"csm.db", PART_STORE, NULL, true, false, "registrations, graphs and functions"},
	{"key", PART_FILE, "key", true, false, "the key of the suite"},
	{"agent-id", PART_FILE, "agent-id", false, false, "the name of the agent"},
	{"quarantine.json", PART_FILE, "quarantine.json", false, true,
	 "functions that are not run"},
	{"iottalk.ini", PART_CONF, "restored.ini", false, false, "the configuration"},
};

int part_find(const char *name)
{
	for (int i = 0; i < PARTS; i++) {
		if (strcmp(parts[i].name, name) == 0)
			return i;
	}
	return -1;
}

char *part_source(const struct part *p, const struct settings *s, const char *conf_path)
{
	switch (p->kind) {
	case PART_STORE:
		return strdup(s->core_db.url);
	case PART_FILE:
		return settings_path(s, p->file);
	case PART_CONF:
		return conf_path != NULL ? strdup(conf_path) : NULL;
	}
	return NULL;
}

char *part_target(const struct part *p, const struct settings *s)
{
	return p->kind == PART_STORE ? strdup(s->core_db.url) : settings_path(s, p->file);
}
