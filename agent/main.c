#include "agent/agent.h"
#include "agent/device/tool.h"
#include "common/log.h"
#include <stdlib.h>
#include <string.h>

int main(int argc, char *argv[])
{
	struct agent agent = {0};
	struct err err = {0};

	if (argc > 1 && strcmp(argv[1], "device") == 0)
		return device_tool(argc - 1, argv + 1); /* no daemon */
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
