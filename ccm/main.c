#include "ccm/ccm.h"
#include "ccm/maintenance.h"
#include "common/log.h"

int main(int argc, char *argv[])
{
	struct ccm ccm = {.daemon.help = maintenance_help};
	struct err err = {0};
	int status;
	if (maintenance_run(argc, argv, &status))
		return status;
	daemon_bound_heap();
	daemon_block_signals();
	int rc = ccm_start(&ccm, argc, argv, &err);
	if (rc < 0)
		log_error("start.failed", KV("why", err.text));
	else if (rc == 0)
		rc = loop_run(ccm.loop);
	ccm_stop(&ccm);
	return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
