/* devices.c - the device API: what csm says of devices, into the store in the order it was said, some at a time. */
#include "ccm/drive/devices.h"

#include "ccm/drive/drive_int.h"
#include "ccm/sim/sim.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define SLICE	     100 /* pieces of news in one transaction */
#define WAIT_MIN_MS  3000
#define WAIT_MAX_MS  60000

struct news {
	struct news *next;
	enum news_kind kind;
	json_t *da; /* NEWS_END: null */
};

static void take_out(struct drive *d)
{
	struct news *n = d->news;
	d->news = n->next;
	if (d->news == NULL)
		d->last_news = &d->news;
	json_decref(n->da);
	free(n);
}

void devices_lost(struct drive *d)
{
	d->lost_news = true;
	loop_arm(d->ccm->loop, d->news_timer, 0);
}

static void add(struct drive *d, enum news_kind kind, json_t *da)
{
	struct news *n = malloc(sizeof(*n));
	if (n == NULL) {
		log_error("drive.no_memory", KV("what", "devices"));
		devices_lost(d);
		return;
	}
	*n = (struct news){.kind = kind, .da = json_incref(da)};
	*d->last_news = n;
	d->last_news = &n->next;
	loop_arm(d->ccm->loop, d->news_timer, 0);
}

static void forget_news(struct drive *d)
{
	while (d->news != NULL)
		take_out(d);
	loop_arm(d->ccm->loop, d->news_timer, -1);
}

/* ---- into the store ---- */

static void note_rc(void *arg, struct op_call *c, int rc)
{
	int *ret = arg;
	(void)c;
	*ret = rc;
}

static int run(struct drive *d, const struct op *op, json_t *args)
{
	static const struct caller nobody;
	int rc = 0;
	op_start(d->ccm, op, &nobody, args, note_rc, &rc);
	return rc;
}

/* The next pieces, up to the end of a snapshot. ret: 0 or negative */
static int run_slice(struct drive *d)
{
	json_t *slice = json_array();
	while (d->news != NULL && d->news->kind != NEWS_END && json_array_size(slice) < SLICE) {
		const struct news *n = d->news;
		const char *id = json_string_value(json_object_get(n->da, "id"));
		if ((n->kind == NEWS_SEEN && id != NULL && json_object_set_new(d->seen, id, json_true()) < 0) ||
		    json_array_append_new(slice, json_pack("[i, O]", (int)n->kind, n->da)) < 0)
			d->lost_news = true;
		take_out(d);
	}
	return run(d, &op_devices_news, json_pack("{s:o}", "news", slice));
}

/* All devices are in the store: now the graphs can be what the projects say. */
static int end_snapshot(struct drive *d)
{
	int rc = run(d, &op_devices_sweep, json_pack("{s:O}", "seen", d->seen));
	if (rc < 0)
		return rc;
	log_info("csm.attached", KV("devices", (int64_t)json_object_size(d->seen)));
	json_decref(d->seen);
	d->seen = NULL;
	d->attached = true;
	d->attach_wait_ms = WAIT_MIN_MS;
	graphs_touch_running(d);
	drive_list(d);
	if (d->ccm->sim != NULL)
		sim_begin(d->ccm);
	return 0;
}

static void on_news(void *arg)
{
	struct drive *d = arg;
	int rc = 0;
	if (d->news != NULL && !d->lost_news) {
		if (d->news->kind != NEWS_END) {
			rc = run_slice(d);
		} else {
			take_out(d);
			rc = end_snapshot(d);
		}
	}
	if (rc < 0 || d->lost_news) {
		/* the store did not take it (op.c said why), or there was no memory: a new snapshot, later */
		forget_news(d);
		d->lost_news = d->attached = false;
		d->attach_ref.s[0] = '\0';
		d->attach_sent_ms = loop_now_ms(d->ccm->loop);
	} else if (d->news != NULL) {
		loop_arm(d->ccm->loop, d->news_timer, 0);
	}
}

/* ---- what csm says ---- */

void devices_attach(struct drive *d)
{
	struct err err = {0};
	forget_news(d); /* all of it is in the snapshot */
	d->lost_news = false;
	json_decref(d->seen);
	d->seen = json_object();
	d->attach_sent_ms = loop_now_ms(d->ccm->loop);
	if (d->attach_ref.s[0] != '\0') /* it was not answered */
		d->attach_wait_ms = d->attach_wait_ms < WAIT_MAX_MS / 2 ? d->attach_wait_ms * 2 : WAIT_MAX_MS;
	if (drive_send(d, "/device", json_pack("{s:s}", "op", "attach"), &d->attach_ref, &err) < 0) {
		d->attach_ref.s[0] = '\0';
		log_warn("drive.not_sent", KV("what", "attach"), KV("why", err.text));
	}
}

static void on_attach(struct drive *d, const json_t *answer)
{
	const char *reason, *id;
	json_t *devices = json_object_get(answer, "da_list"), *da;
	if (!answer_has_ref(answer, &d->attach_ref))
		return;
	if (!answer_is_ok(answer, &reason) || !json_is_object(devices)) {
		log_warn("drive.failed", KV("what", "attach to the device API"), KV("why", reason));
		return;
	}
	json_object_foreach (devices, id, da)
		add(d, NEWS_SEEN, da);
	d->attach_sent_ms = loop_now_ms(d->ccm->loop); /* it goes on */
	if (json_is_true(json_object_get(answer, "more")))
		return;
	d->attach_ref.s[0] = '\0';
	const char *run = json_string_value(json_object_get(answer, "run"));
	snprintf(d->csm_run, sizeof(d->csm_run), "%s", run != NULL ? run : "");
	add(d, NEWS_END, NULL);
}

static void on_anno(struct drive *d, const json_t *message)
{
	static const struct {
		const char *type;
		enum news_kind kind;
		bool whole; /* da is an object, not the id */
	} types[] = {
		{"register", NEWS_DEVICE, true},   {"changed", NEWS_DEVICE, true},	{"online", NEWS_ONLINE, false},
		{"offline", NEWS_OFFLINE, false}, {"deregister", NEWS_GONE, false},
	};
	const char *type = json_string_value(json_object_get(message, "type"));
	json_t *da = json_object_get(message, "da");
	for (size_t i = 0; type != NULL && i < ARRAY_LEN(types); i++)
		if (strcmp(types[i].type, type) == 0 && (types[i].whole ? json_is_object(da) : json_is_string(da)))
			add(d, types[i].kind, da);
}

void devices_on_message(struct drive *d, json_t *message)
{
	const char *op = json_string_value(json_object_get(message, "op"));
	if (op == NULL)
		return;
	if (strcmp(op, "anno") == 0) {
		on_anno(d, message);
	} else if (strcmp(op, "attach") == 0) {
		on_attach(d, message);
	} else if (strcmp(op, "detach") == 0 && !d->leaving) {
		/* by the last word of an earlier connection, or by somebody else */
		d->attached = false;
		devices_attach(d);
	}
}

void devices_on_down(struct drive *d)
{
	forget_news(d);
}

/* ---- life ---- */

int devices_start(struct drive *d, struct err *err)
{
	d->last_news = &d->news;
	return loop_add_timer(d->ccm->loop, -1, 0, on_news, d, &d->news_timer, err);
}

void devices_stop(struct drive *d)
{
	if (d->news_timer != NULL)
		forget_news(d);
	d->news_timer = loop_remove(d->ccm->loop, d->news_timer);
	json_decref(d->seen);
	d->seen = NULL;
}
