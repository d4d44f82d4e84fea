#include "csm/control.h"

#include "common/id.h"
#include "common/log.h"
#include "csm/links.h"
#include "csm/metrics.h"
#include "csm/registry.h"
#include "csm/suspensions.h"
#include <string.h>

#define GOODBYE_MAX_BYTES 200

static void drop(struct csm *csm, const struct bus_msg *m, const char *reason, const char *detail)
{
	metrics_drop(csm->metrics, "control", reason);
	if (log_allowed("control.dropped", m->topic))
		log_warn("control.dropped", KV("topic", m->topic), KV("why", reason),
			 KV("detail", detail));
}

static void on_state(struct csm *csm, const struct bus_msg *m, struct device *d, const char *state,
		     json_t *message)
{
	const char *rev = json_string_value(json_object_get(message, "rev"));
	bool online = strcmp(state, "online") == 0;
	if (rev == NULL || strcasecmp(rev, d->rev.s) != 0) {
		drop(csm, m, "stale_rev", rev != NULL ? rev : "no rev");
		return;
	}
	/* The broker repeats retained messages whenever we subscribe. While our session lasted we have heard every change, so a
	 * repetition of what we know is no news - but after a lost session the device may have reconnected unheard. */
	if (m->retained && d->online == online && !bus_is_fresh(csm->bus))
		return;
	if (!online && !d->online)
		return;
	registry_set_online(csm->registry, d, online);
}

static void on_answer(struct csm *csm, const struct bus_msg *m, struct device *d, const char *state,
		      json_t *message)
{
	const char *msg_id = json_string_value(json_object_get(message, "msg_id"));
	const char *reason = json_string_value(json_object_get(message, "reason"));
	bool ok = strcmp(state, "ok") == 0;
	if (reason == NULL)
		reason = "the device refused";
	if (msg_id == NULL)
		drop(csm, m, "unknown_state", state);
	else if (!links_on_answer(csm->links, d->id.s, msg_id, ok, reason) &&
		 !suspensions_on_answer(csm->suspensions, d->id.s, msg_id, ok, reason))
		log_debug("control.late_answer", KV("device", d->id.s), KV("msg_id", msg_id));
}

/* A device that leaves in good order says offline, and its DELETE may be here first: nothing to warn of. Strangers
 * do not make us parse more than such a word. */
static bool is_goodbye(const struct bus_msg *m)
{
	if (m->len > GOODBYE_MAX_BYTES)
		return false;
	json_auto_t *message = json_loadb(m->payload, m->len, 0, NULL);
	const char *state = json_string_value(json_object_get(message, "state"));
	return state != NULL && strcmp(state, "offline") == 0;
}

void control_on_message(struct csm *csm, const struct bus_msg *m)
{
	struct uuid_text id;
	json_error_t why;
	if (m->len == 0)
		return; /* a retained message cleared, by us or by its device */
	size_t id_len = strcspn(m->topic, "/");
	struct device *d = NULL;
	if (uuid_parse(m->topic, id_len, &id))
		d = registry_find(csm->registry, id.s);
	if (d == NULL && is_goodbye(m)) {
		metrics_drop(csm->metrics, "control", "unknown_device");
		return;
	}
	if (d == NULL) {
		drop(csm, m, "unknown_device", "no such registration");
		return;
	}
	json_auto_t *message = json_loadb(m->payload, m->len, 0, &why);
	if (message == NULL) {
		drop(csm, m, "not_json", why.text);
		return;
	}
	const char *state = json_string_value(json_object_get(message, "state"));
	if (!json_is_object(message) || state == NULL) {
		drop(csm, m, "malformed", "no object with a `state`");
		return;
	}
	if (json_object_get(message, "msg_id") == NULL &&
	    (strcmp(state, "online") == 0 || strcmp(state, "offline") == 0))
		on_state(csm, m, d, state, message);
	else
		on_answer(csm, m, d, state, message);
}
