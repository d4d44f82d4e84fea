#include "ccm/drive/drive.h"

struct drive {
	struct ccm *ccm;
};

int drive_new(struct ccm *ccm, struct drive **ret, struct err *err)
{
	struct drive *d = calloc(1, sizeof(*d));
	if (d == NULL)
		return err_set(err, ERR_NOMEM, "drive");
	d->ccm = ccm;
	*ret = d;
	return 0;
}

struct drive *drive_free(struct drive *d)
{
	free(d);
	return NULL;
}

bool drive_will(struct drive *d, struct bus_will *will)
{
	(void)d, (void)will;
	return false;
}

int drive_subscribe(struct drive *d, struct err *err)
{
	(void)d, (void)err;
	return 0;
}

void drive_on_up(struct drive *d)
{
	(void)d;
}

void drive_on_down(struct drive *d)
{
	(void)d;
}

void drive_on_message(struct drive *d, const struct bus_msg *m)
{
	(void)d, (void)m;
}

void drive_goodbye(struct drive *d)
{
	(void)d;
}

void drive_status(struct drive *d, json_t *answer)
{
	(void)d, (void)answer;
}

void drive_touch(struct ccm *ccm, int64_t na_id)
{
	(void)ccm, (void)na_id;
}

void drive_touch_project(struct ccm *ccm, int64_t p_id)
{
	(void)ccm, (void)p_id;
}

void drive_touch_function(struct ccm *ccm, int64_t fn_id)
{
	(void)ccm, (void)fn_id;
}

void drive_check_code(struct ccm *ccm, const char *code, drive_checked_fn *fn, void *arg)
{
	(void)ccm, (void)code;
	fn(arg, 0, NULL);
}

void drive_monitor(struct ccm *ccm, int64_t na_id, const char *gui_uuid)
{
	(void)ccm, (void)na_id, (void)gui_uuid;
}

void drive_unmonitor(struct ccm *ccm, const char *gui_uuid)
{
	(void)ccm, (void)gui_uuid;
}
