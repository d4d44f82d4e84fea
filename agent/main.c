#include "agent/agent.h"
#include "common/log.h"
#include <stdlib.h>

int main(int argc, char *argv[])
{
	struct agent agent = {0};
	struct err err = {0};

	daemon_bound_heap();
	daemon_block_signals(); /* before any library starts a thread */
	int rc = agent_start(&agent, argc, argv, &err);
	if (rc == 0)
		rc = loop_run(agent.loop);
	else if (rc < 0)
		log_error("agent.start_failed", KV("why", err.text));
	agent_stop(&agent);
	return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
