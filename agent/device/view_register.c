/* view_register.c - the device application of a device that runs: registered, on line, and told by
 * csm what is connected (gateway-devices 4.1). */
#include "agent/device/event.h"
#include "agent/device/view_int.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>

#define QOS 1

/* ---- what dan tells ---- */

static void on_registered(void *arg, const char *name)
{
	struct view *v = arg;

	/* registered anew: the connection that could have acknowledged them is gone */
	view_drop_pushes(v);
	v->registered = true;
	view_store_login(v->conf.store, v->id.s, dan_username(v->dan), dan_password(v->dan));
	log_info("view.registered", KV("device", v->conf.name), KV("app", name), KV("id", v->id.s));
}

static void on_online(void *arg)
{
	struct view *v = arg;

	free(TAKE(v->why)); /* it was why we were away */
	view_wanted_back(v);
}

static void on_offline(void *arg, const char *why)
{
	struct view *v = arg;

	view_set_why(v, why);
	view_wanted_away(v);
}

static void on_connect(void *arg, enum dan_mode mode, const char *feature)
{
	if (mode == DAN_IDF)
		view_wanted_connect(arg, feature);
}

static void on_disconnect(void *arg, enum dan_mode mode, const char *feature)
{
	if (mode == DAN_IDF)
		view_wanted_disconnect(arg, feature);
}

static void on_suspend(void *arg, enum dan_mode mode, const char *feature, bool suspended)
{
	if (mode == DAN_IDF)
		view_wanted_suspend(arg, feature, suspended);
}

static void on_data(void *arg, const char *feature, json_t *values)
{
	view_on_data(arg, feature, values);
}

static void on_error(void *arg, const struct err *err)
{
	struct view *v = arg;

	view_set_why(v, err->text);
	if (log_allowed("view.failed", v->conf.name))
		log_warn("view.failed", KV("device", v->conf.name), KV("why", err->text));
}

static const struct dan_handlers handlers = {
	.on_registered = on_registered,
	.on_online = on_online,
	.on_offline = on_offline,
	.on_connect = on_connect,
	.on_disconnect = on_disconnect,
	.on_suspend = on_suspend,
	.on_data = on_data,
	.on_error = on_error,
};

/* ---- start and stop ---- */

static json_t *profile(const struct view *v, struct err *err)
{
	const char *const segments[] = {"gateway", v->conf.gateway, v->conf.type, v->conf.name};
	CLEANUP(freep)
	char *prefix = NULL;
	char model[300];

	if (event_topic(segments, ARRAY_LEN(segments), &prefix, err) < 0)
		return NULL;
	snprintf(model, sizeof(model), "gateway_%s", v->conf.type);
	json_t *object = json_pack("{s:s, s:s, s:s, s:s}", "model", model, "gateway",
				   v->conf.gateway, "device", v->conf.name, "event_prefix", prefix);
	if (object == NULL)
		err_set(err, ERR_NOMEM, "profile");
	return object;
}

static int begin(struct view *v, struct err *err)
{
	CLEANUP(view_features_done)
	struct view_features features = {0};
	CLEANUP(view_login_done)
	struct view_login login;
	json_auto_t *about = profile(v, err);

	v->parted = dan_free(v->parted); /* its connection has our name */
	view_store_load_login(v->conf.store, v->id.s, &login);
	int rc = about != NULL ? view_features(v, &features, err) : err->code;
	if (rc < 0)
		return rc;
	const struct dan_conf conf = {
		.csm_url = v->conf.csm_url,
		.id = v->id.s,
		.name = v->conf.name,
		.idfs = features.idfs,
		.odfs = features.odfs,
		.n_idfs = features.n_idfs,
		.n_odfs = features.n_odfs,
		.profile = about,
		.username = login.username,
		.password = login.password,
		.qos = QOS,
		.retry_min_ms = RETRY_MIN_MS,
		.retry_max_ms = RETRY_MAX_MS,
		.fetch = v->conf.fetch,
	};
	return dan_new(v->loop, &conf, &handlers, v, &v->dan, err);
}

void view_start(struct view *v)
{
	struct err err = {0};

	if (v->dan != NULL)
		return;
	view_farewells_cancel(v->conf.farewells, v->id.s);
	/* before csm is asked: what csm may know is not forgotten by us */
	view_store_registration(v);
	if (begin(v, &err) < 0) {
		on_error(v, &err);
		loop_arm(v->loop, v->wanted_timer, RETRY_MAX_MS);
	}
}

void view_stop(struct view *v)
{
	if (v->dan == NULL) {
		loop_arm(v->loop, v->wanted_timer, -1);
		return;
	}
	view_drop_writes(v);
	view_link(v, LINK_DISCONNECTED, 0); /* whatever the device said last */
	dan_part(v->dan);
	v->parted = TAKE(v->dan);
	view_wanted_away(v);
	view_drop_pushes(v);
}
