#include "ccm/sim/sim.h"

struct sim {
	struct ccm *ccm;
};

int sim_new(struct ccm *ccm, struct sim **ret, struct err *err)
{
	struct sim *s = calloc(1, sizeof(*s));
	if (s == NULL)
		return err_set(err, ERR_NOMEM, "sim");
	s->ccm = ccm;
	*ret = s;
	return 0;
}

struct sim *sim_free(struct sim *s)
{
	free(s);
	return NULL;
}

void sim_touch(struct ccm *ccm, int64_t p_id)
{
	(void)ccm, (void)p_id;
}

void sim_begin(struct ccm *ccm)
{
	(void)ccm;
}
