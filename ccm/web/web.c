#include "ccm/web/web.h"

struct web {
	struct ccm *ccm;
};

int web_new(struct ccm *ccm, struct web **ret, struct err *err)
{
	struct web *w = calloc(1, sizeof(*w));
	if (w == NULL)
		return err_set(err, ERR_NOMEM, "web");
	w->ccm = ccm;
	*ret = w;
	return 0;
}

struct web *web_free(struct web *w)
{
	free(w);
	return NULL;
}

unsigned web_port(const struct web *w)
{
	(void)w;
	return 0;
}

int64_t web_ticket_user(struct web *w, const char *ticket, const char *gui_uuid)
{
	(void)w, (void)ticket, (void)gui_uuid;
	return 0;
}
