/* agents_served.c - devices of one agent may be in graphs of another, and what they have kept would meet nobody before that one serves
 * its graphs: each agent is told, once in a session, when all others that have graphs do. */
#include "csm/agent.h"

#include "csm/graphs.h"
#include <string.h>

#define SOON_MS 20 /* agents that come together are looked at once */

bool agents_serves(const struct agents *a, const char *agent_id)
{
	const struct agent *ag = map_find(a->by_id, agent_id);
	return ag != NULL && ag->session.up && ag->synced && ag->linked;
}

static void doubt(void *arg, const char *key, void *value)
{
	struct agent *ag = value;
	(void)arg;
	(void)key;
	ag->synced = false;
}

void agents_doubt(struct agents *a)
{
	map_each(a->by_id, doubt, NULL);
}

/* arg: the one agent that does not serve, who does not wait for himself; "": all do. */
static void tell(void *arg, const char *key, void *value)
{
	const char *late = arg;
	struct agent *ag = value;
	if (!ag->session.up || ag->told_served || (*late != '\0' && strcmp(late, key) != 0))
		return;
	json_auto_t *body = json_pack("{s:s}", "op", "served");
	if (body == NULL)
		return; /* it waits as long as for an agent that never comes */
	ag->told_served = true;
	agent_send(ag, body);
}

void agents_tell_served(void *arg)
{
	struct agents *a = arg;
	char late[AGENT_ID_MAX + 1];
	if (graphs_late_agents(a->csm->graphs, late, sizeof(late)) < 2)
		map_each(a->by_id, tell, late);
}

void agent_served_changed(struct agent *ag)
{
	loop_arm(ag->csm->loop, ag->csm->agents->served_timer, SOON_MS);
}
