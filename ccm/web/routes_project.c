#include "ccm/ops/project.h"
#include "ccm/web/web.h"

const struct web_route web_project_routes[] = {{0}};

static int nothing(struct op_call *c)
{
	return err_set(&c->err, ERR_NOENT, "project %lld not found", (long long)op_int(c, "p_id"));
}

const struct op op_project_export = {"project.export", nothing, NULL, true};
const struct op op_project_import = {"project.import", nothing, NULL, false};
