#include "ccm/sim/device.h"

#include "common/log.h"
#include "common/util.h"
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

struct sim_device {
	struct dan_client *client;
	json_t *features;
	sim_gone_fn *gone;
	void *arg;
	char id[40];
};

/* ---- values ---- */

/* In [0, 1] */
static double chance(void)
{
	return (double)randombytes_random() / UINT32_MAX;
}

static double ends(const json_t *param, double *ret_max, double no_range)
{
	double min = json_number_value(json_object_get(param, "min")), max = json_number_value(json_object_get(param, "max"));
	if (min == max) {
		min = 0;
		max = no_range;
	}
	*ret_max = fmax(min, max);
	return fmin(min, max);
}

static json_t *whole_number(const json_t *param)
{
	double max, min = ends(param, &max, 100), low = ceil(fmax(min, -1e15)), high = floor(fmin(max, 1e15));
	if (low > high) /* there is none in the range */
		return json_real(min + chance() * (max - min));
	return json_integer((json_int_t)fmin(high, low + floor(chance() * (high - low + 1))));
}

static json_t *real_number(const json_t *param)
{
	double max, min = ends(param, &max, 1), part = chance();
	return json_real(min * (1 - part) + max * part); /* a difference of the ends may be too large */
}

static json_t *truth(const json_t *param)
{
	(void)param;
	return json_boolean(randombytes_random() & 1);
}

static json_t *some_text(const json_t *param)
{
	(void)param;
	return json_string("simulated");
}

static json_t *some_object(const json_t *param)
{
	(void)param;
	return json_pack("{s:b}", "simulated", true);
}

json_t *sim_value(const json_t *param)
{
	static const struct {
		const char *type;
		json_t *(*make)(const json_t *param);
	} types[] = {{"int", whole_number}, {"float", real_number}, {"boolean", truth}, {"string", some_text}, {"json", some_object}};
	const char *type = json_string_value(json_object_get(param, "param_type"));
	for (size_t i = 0; type != NULL && i < ARRAY_LEN(types); i++)
		if (strcmp(types[i].type, type) == 0)
			return types[i].make(param);
	return json_null();
}

void sim_device_push(struct sim_device *s)
{
	size_t i, k;
	json_t *feature, *param;
	json_array_foreach (s->features, i, feature) {
		const char *name = json_string_value(json_object_get(feature, "name"));
		if (!json_is_true(json_object_get(feature, "input")) || !dan_is_connected(s->client, DAN_IDF, name))
			continue;
		json_auto_t *values = json_array();
		json_array_foreach (json_object_get(feature, "params"), k, param)
			json_array_append_new(values, sim_value(param));
		dan_push(s->client, name, values, NULL); /* what finds no room is replaced in a second */
	}
}

/* ---- life ---- */

static void on_error(void *arg, const struct err *err)
{
	const struct sim_device *s = arg;
	if (log_allowed("sim.failed", s->id))
		log_warn("sim.failed", KV("device", s->id), KV("why", err->text));
}

/* ret: how many are of that kind; list has room for all */
static size_t pick(const json_t *features, bool input, struct dan_feature *list)
{
	size_t n = 0, i;
	json_t *feature;
	json_array_foreach (features, i, feature)
		if (json_is_true(json_object_get(feature, "input")) == input)
			list[n++] = (struct dan_feature){.name = json_string_value(json_object_get(feature, "name"))};
	return n;
}

static int start(struct sim_device *s, struct ccm *ccm, const struct sim_device_conf *conf, struct err *err)
{
	static const struct dan_handlers handlers = {.on_error = on_error};
	size_t n = json_array_size(conf->features) + 1;
	CLEANUP(freep) struct dan_feature *idfs = calloc(n, sizeof(*idfs)), *odfs = calloc(n, sizeof(*odfs));
	if (idfs == NULL || odfs == NULL)
		return err_set(err, ERR_NOMEM, "simulator");
	const struct dan_conf of_dan = {
		.csm_url = conf->csm_url,
		.id = conf->id,
		.idfs = idfs,
		.odfs = odfs,
		.n_idfs = pick(conf->features, true, idfs),
		.n_odfs = pick(conf->features, false, odfs),
		.profile = conf->profile,
		.qos = 1,
		.fetch = conf->fetch,
	};
	return dan_new(ccm->loop, &of_dan, &handlers, s, &s->client, err);
}

int sim_device_new(struct ccm *ccm, const struct sim_device_conf *conf, struct sim_device **ret, struct err *err)
{
	struct sim_device *s = calloc(1, sizeof(*s));
	if (s == NULL)
		return err_set(err, ERR_NOMEM, "simulator");
	snprintf(s->id, sizeof(s->id), "%s", conf->id);
	s->features = json_incref(conf->features);
	int rc = start(s, ccm, conf, err);
	if (rc < 0) {
		sim_device_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

struct sim_device *sim_device_free(struct sim_device *s)
{
	if (s == NULL)
		return NULL;
	dan_free(s->client);
	json_decref(s->features);
	free(s);
	return NULL;
}

bool sim_device_is_online(const struct sim_device *s)
{
	return dan_is_online(s->client);
}

static void on_left(void *arg, int rc, const char *why)
{
	struct sim_device *s = arg;
	if (rc < 0)
		log_warn("sim.not_deregistered", KV("device", s->id), KV("why", why));
	s->gone(s->arg);
}

void sim_device_leave(struct sim_device *s, sim_gone_fn *gone, void *arg)
{
	struct err err = {0};
	s->gone = gone;
	s->arg = arg;
	if (dan_leave(s->client, on_left, s, &err) < 0)
		log_error("sim.failed", KV("device", s->id), KV("why", err.text));
}
