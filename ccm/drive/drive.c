/* drive.c - topics, who is told what, and whether csm answers.
 *
 * csm is asked every ten seconds, and sooner when something else was not answered, what it has of us (`list`). The answer shows that it
 * lives, whether it still tells us of devices, whether it was started anew, and which graphs are not those that we made: its store may
 * be another one than before.
 */
#include "ccm/drive/drive_int.h"

#include "common/id.h"
#include "common/log.h"
#include "common/shortage.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define PULSE_MS	  500
#define LIST_EVERY_MS	  10000
#define QUIET_MS	  2000 /* without any answer, while one is due */
#define WAIT_MIN_MS	  3000
#define WAIT_MAX_MS	  30000
#define MESSAGE_ROOM	  1024 /* of [broker] message-size-limit, for topic and headers */

static int64_t now_ms(const struct drive *d)
{
	return loop_now_ms(d->ccm->loop);
}

/* ---- sending ---- */

static int publish(struct drive *d, const char *topic, const char *payload, size_t len, struct err *err)
{
	if (d->ccm->bus == NULL)
		return err_set(err, ERR_BUS, "not connected to the broker");
	return bus_publish(d->ccm->bus, topic, payload, len, 2, false, err);
}

int drive_send(struct drive *d, const char *rest, json_t *request, struct ref_text *ret_ref, struct err *err)
{
	char topic[128];
	snprintf(topic, sizeof(topic), DRIVE_PREFIX_REQ "%s", rest);
	snprintf(ret_ref->s, sizeof(ret_ref->s), "%s-%llu", d->run, (unsigned long long)++d->last_ref);
	CLEANUP(freep) char *text = NULL;
	if (json_object_set_new(request, "ref", json_string(ret_ref->s)) == 0)
		text = shortage_dumps(request);
	json_decref(request);
	if (text == NULL)
		return err_set(err, ERR_NOMEM, "request to csm");
	size_t len = strlen(text);
	if (len + MESSAGE_ROOM > (size_t)d->ccm->settings->broker.message_size_limit)
		return err_set(err, ERR_LIMIT, "the request is larger than [broker] message-size-limit");
	return d->publish(d, topic, text, len, err);
}

bool drive_ready(const struct drive *d)
{
	return d->up && d->attached && !d->leaving;
}

bool answer_is_ok(const json_t *answer, const char **ret_reason)
{
	const char *state = json_string_value(json_object_get(answer, "state"));
	const char *reason = json_string_value(json_object_get(answer, "reason"));
	*ret_reason = reason != NULL ? reason : "csm gave no reason";
	return state != NULL && strcmp(state, "ok") == 0;
}

bool answer_has_ref(const json_t *answer, const struct ref_text *ref)
{
	const char *text = json_string_value(json_object_get(answer, "ref"));
	return text != NULL && ref->s[0] != '\0' && strcmp(text, ref->s) == 0;
}

/* ---- list ---- */

void drive_list(struct drive *d)
{
	struct err err = {0};
	json_decref(d->listed);
	d->listed = json_object();
	d->list_sent_ms = now_ms(d);
	if (drive_send(d, "", json_pack("{s:s}", "op", "list"), &d->list_ref, &err) < 0) {
		d->list_ref.s[0] = '\0';
		log_warn("drive.not_sent", KV("what", "list"), KV("why", err.text));
	}
}

/* csm was started since it told us its devices: its store may be a copy of before, and nobody announces what that has not. */
static bool is_another_run(const struct drive *d, const json_t *answer)
{
	const char *run = json_string_value(json_object_get(answer, "run"));
	return d->attached && run != NULL && strcmp(run, d->csm_run) != 0;
}

static void on_list(struct drive *d, json_t *answer)
{
	const char *reason;
	const json_t *graphs = json_object_get(answer, "graphs");
	if (!answer_has_ref(answer, &d->list_ref))
		return;
	if (!answer_is_ok(answer, &reason) || !json_is_object(graphs) || json_object_update(d->listed, (json_t *)graphs) < 0) {
		log_warn("drive.failed", KV("what", "list"), KV("why", reason));
		d->list_ref.s[0] = '\0';
		d->list_heard_ms = now_ms(d);
		return;
	}
	if (json_is_true(json_object_get(answer, "more")))
		return;
	json_auto_t *listed = TAKE(d->listed);
	d->list_ref.s[0] = '\0';
	d->list_heard_ms = now_ms(d);
	d->list_wait_ms = WAIT_MIN_MS;
	if (!json_is_true(json_object_get(answer, "device")) || is_another_run(d, answer)) {
		/* csm does not tell us of devices any more, or may have others now; graphs follow when it has told us */
		d->attached = false;
		devices_attach(d);
		return;
	}
	if (d->attached)
		graphs_on_list(d, listed);
}

/* Anything that csm says. */
static void heard(struct drive *d)
{
	d->heard_ms = now_ms(d);
	if (!d->silent)
		return;
	d->silent = false;
	log_info("csm.back", KV("after_ms", d->heard_ms - d->list_heard_ms));
	d->list_wait_ms = WAIT_MIN_MS;
	graphs_on_back(d);
	drive_list(d);
}

static void look_after_list(struct drive *d)
{
	int64_t now = now_ms(d);
	bool out = d->list_ref.s[0] != '\0';
	if (out && now - d->list_sent_ms >= d->list_wait_ms) {
		if (!d->silent)
			log_warn("csm.silent", KV("for_ms", now - d->heard_ms));
		d->silent = true;
		d->list_wait_ms = d->list_wait_ms < WAIT_MAX_MS / 2 ? d->list_wait_ms * 2 : WAIT_MAX_MS;
		drive_list(d);
	} else if (!out && (now - d->list_heard_ms >= LIST_EVERY_MS || (d->busy > 0 && now - d->heard_ms >= QUIET_MS))) {
		drive_list(d);
	}
}

static void on_pulse(void *arg)
{
	struct drive *d = arg;
	checks_on_pulse(d);
	if (!d->up || d->leaving)
		return;
	if (!d->attached) {
		if (d->news == NULL && now_ms(d) - d->attach_sent_ms >= d->attach_wait_ms)
			devices_attach(d);
		return;
	}
	look_after_list(d);
	if (d->lost_touch)
		graphs_touch_running(d);
	if (!d->silent)
		graphs_forget_functions(d);
}

/* ---- the bus ---- */

bool drive_will(struct drive *d, struct bus_will *will)
{
	/* another one each time, so that csm never takes it for a repetition */
	int n = snprintf(will->payload, sizeof(will->payload), "{\"op\":\"detach\",\"ref\":\"%s-%llu\"}", d->run,
			 (unsigned long long)++d->last_ref);
	snprintf(will->topic, sizeof(will->topic), DRIVE_PREFIX_REQ "/device");
	will->len = (size_t)n;
	will->qos = 2;
	will->retain = false;
	return true;
}

int drive_subscribe(struct drive *d, struct err *err)
{
	return bus_subscribe(d->ccm->bus, DRIVE_PREFIX_RES "/#", 2, NULL, NULL, err);
}

void drive_on_up(struct drive *d)
{
	d->up = true;
	d->silent = false;
	d->attach_wait_ms = d->list_wait_ms = WAIT_MIN_MS;
	d->heard_ms = d->list_heard_ms = now_ms(d);
	devices_attach(d);
}

void drive_on_down(struct drive *d)
{
	d->up = d->attached = d->knows_graphs = false;
	d->list_ref.s[0] = d->attach_ref.s[0] = '\0';
	devices_on_down(d);
	graphs_on_down(d);
	checks_fail(d, "the connection to the broker was lost");
}

void drive_on_message(struct drive *d, const struct bus_msg *m)
{
	static const char graph[] = "/graph/";
	size_t prefix = strlen(DRIVE_PREFIX_RES);
	if (m->retained || strncmp(m->topic, DRIVE_PREFIX_RES, prefix) != 0)
		return;
	const char *rest = m->topic + prefix;
	unsigned long shortages = shortage_count();
	json_auto_t *answer = json_loadb(m->payload, m->len, 0, NULL);
	if (shortage_count() != shortages) {
		/* what was read may lack something: graphs ask again when they get no answer, devices are asked for anew, and people wait
		 * for their functions */
		log_error("drive.no_memory", KV("topic", m->topic));
		if (strcmp(rest, "/device") == 0)
			devices_lost(d);
		else if (strcmp(rest, "/graph/" DRIVE_TOOLS) == 0)
			checks_fail(d, "out of memory");
		return;
	}
	if (!json_is_object(answer)) {
		if (log_allowed("drive.malformed", m->topic))
			log_warn("drive.malformed", KV("topic", m->topic));
		return;
	}
	heard(d);
	if (rest[0] == '\0')
		on_list(d, answer);
	else if (strcmp(rest, "/device") == 0)
		devices_on_message(d, answer);
	else if (strcmp(rest, "/graph/" DRIVE_TOOLS) == 0)
		checks_on_answer(d, answer);
	else if (strncmp(rest, graph, strlen(graph)) == 0)
		graphs_on_answer(d, rest + strlen(graph), answer);
}

void drive_goodbye(struct drive *d)
{
	struct err err = {0};
	struct ref_text ref = {""};
	if (d->up && drive_send(d, "/device", json_pack("{s:s}", "op", "detach"), &ref, &err) < 0)
		log_warn("drive.not_sent", KV("what", "detach"), KV("why", err.text));
	d->leaving = true;
}

void drive_reconcile(struct drive *d)
{
	if (!d->up || d->leaving)
		return; /* it will be done when the broker is there */
	d->attached = false;
	devices_attach(d);
}

void drive_status(struct drive *d, json_t *answer)
{
	const char *csm = d->silent ? "silent" : d->attached ? "attached" : "not attached";
	json_auto_t *mine = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "csm", csm, "graphs", (json_int_t)map_count(d->graphs),
				      "graphs_waiting", (json_int_t)d->waiting + d->busy, "changes", (json_int_t)d->changes, "repairs",
				      (json_int_t)d->repairs, "refusals", (json_int_t)d->refusals);
	json_object_update(answer, mine);
}

/* ---- life ---- */

int drive_new(struct ccm *ccm, struct drive **ret, struct err *err)
{
	struct drive *d = calloc(1, sizeof(*d));
	if (d == NULL)
		return err_set(err, ERR_NOMEM, "drive");
	d->ccm = ccm;
	d->publish = publish;
	snprintf(d->run, sizeof(d->run), "%.8s", uuid4().s);
	snprintf(d->check_owner, sizeof(d->check_owner), "ccm-%s", uuid4().s);
	d->last_check = &d->checks;
	int rc = graphs_start(d, err);
	if (rc == 0)
		rc = devices_start(d, err);
	if (rc == 0)
		rc = loop_add_timer(ccm->loop, PULSE_MS, PULSE_MS, on_pulse, d, &d->pulse, err);
	if (rc < 0) {
		drive_free(d);
		return rc;
	}
	*ret = d;
	return 0;
}

struct drive *drive_free(struct drive *d)
{
	if (d == NULL)
		return NULL;
	d->up = false;
	checks_fail(d, "ccm is stopping");
	loop_remove(d->ccm->loop, d->pulse);
	devices_stop(d);
	graphs_stop(d);
	json_decref(d->listed);
	free(d);
	return NULL;
}
