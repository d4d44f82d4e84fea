/* csm - communication submodule: registry of device applications, control channels, graph API. */
#include "common/log.h"
#include "csm/csm.h"

int main(int argc, char *argv[])
{
	struct csm csm = {0};
	struct err err = {0};
	daemon_bound_heap();
	daemon_block_signals();
	int rc = csm_start(&csm, argc, argv, &err);
	if (rc < 0)
		log_error("start.failed", KV("why", err.text));
	else if (rc == 0)
		rc = loop_run(csm.loop);
	csm_stop(&csm);
	return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
