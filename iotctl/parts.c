#include "iotctl/parts.h"

#include <string.h>

#define CSM   (1u << UNIT_CSM)
#define AGENT (1u << UNIT_AGENT)
#define CCM   (1u << UNIT_CCM)

/* Not here: what the broker keeps. Retained states and queued messages are the devices', of one
 * moment that is no moment of the store; mosquitto writes its file when it likes. csm brings the
 * broker up to date from its own store. */
const struct part parts[PARTS] = {
	{"csm.db", PART_STORE, SCHEMA_CSM, CSM, NULL, true, false,
	 "registrations, graphs and functions"},
	/* backups of before there was ccm have none; then what it has now stays */
	{"ccm.db", PART_STORE, SCHEMA_CCM, CCM, NULL, false, false,
	 "projects, models and accounts"},
	/* Devices that have said nothing yet have none; then what is there now stays. */
	{"devices.db", PART_STORE, SCHEMA_DEVICES, AGENT, NULL, false, false,
	 "states of devices, what waits to be sent"},
	{"key", PART_FILE, 0, CSM | AGENT, "key", true, false, "the key of the suite"},
	{"agent-id", PART_FILE, 0, AGENT, "agent-id", false, false, "the name of the agent"},
	{"quarantine.json", PART_FILE, 0, AGENT, "quarantine.json", false, true,
	 "functions that are not run"},
	{"iottalk.ini", PART_CONF, 0, 0, "restored.ini", false, false, "the configuration"},
};

int part_find(const char *name)
{
	for (int i = 0; i < PARTS; i++) {
		if (strcmp(parts[i].name, name) == 0)
			return i;
	}
	return -1;
}

unsigned parts_of_store(enum schema_store store)
{
	unsigned set = 0;

	for (int i = 0; i < PARTS; i++)
		if (parts[i].kind == PART_STORE && parts[i].store == store)
			set |= 1u << i;
	return set;
}

bool part_is_needed(int i, unsigned set)
{
	return (set & 1u << i) != 0 && (parts[i].needed || set == 1u << i);
}

unsigned parts_users(unsigned set)
{
	unsigned users = 0;

	for (int i = 0; i < PARTS; i++)
		users |= set & 1u << i ? parts[i].users : 0;
	return users;
}

char *part_source(const struct part *p, const struct settings *s, const char *conf_path)
{
	switch (p->kind) {
	case PART_STORE:
		return strdup(schema_path(s, p->store));
	case PART_FILE:
		return settings_path(s, p->file);
	case PART_CONF:
		return conf_path != NULL ? strdup(conf_path) : NULL;
	}
	return NULL;
}

char *part_target(const struct part *p, const struct settings *s)
{
	return p->kind == PART_STORE ? strdup(schema_path(s, p->store)) : settings_path(s, p->file);
}
