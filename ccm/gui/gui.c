#include "ccm/gui/gui.h"

struct gui {
	struct ccm *ccm;
};

int gui_new(struct ccm *ccm, struct gui **ret, struct err *err)
{
	struct gui *g = calloc(1, sizeof(*g));
	if (g == NULL)
		return err_set(err, ERR_NOMEM, "gui");
	g->ccm = ccm;
	*ret = g;
	return 0;
}

struct gui *gui_free(struct gui *g)
{
	free(g);
	return NULL;
}

void gui_on_message(struct gui *g, const struct bus_msg *m)
{
	(void)g, (void)m;
}

void gui_announce(struct gui *g, const char *type, json_t *data)
{
	(void)g, (void)type;
	json_decref(data);
}

void gui_tell(struct gui *g, const char *uuid, const char *type, json_t *data)
{
	(void)g, (void)uuid, (void)type;
	json_decref(data);
}

void gui_alias_changed(struct ccm *ccm, int64_t dfo_id)
{
	(void)ccm, (void)dfo_id;
}
