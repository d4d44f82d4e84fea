#include "dan/dan.h"

#include "common/shortage.h"
#include "common/util.h"
#include "dan/client.h"
#include <stdio.h>
#include <string.h>

#define RETRY_MIN_MS 200
#define RETRY_MAX_MS 10000

/* ---- the whole ---- */

static int copy_features(struct dan_own *own, const struct dan_conf *conf, struct err *err)
{
	const struct {
		enum dan_mode mode;
		const struct dan_feature *list;
		size_t n;
	} lists[] = {{DAN_IDF, conf->idfs, conf->n_idfs}, {DAN_ODF, conf->odfs, conf->n_odfs}};

	own->channels = calloc(conf->n_idfs + conf->n_odfs + 1, sizeof(*own->channels));
	if (own->channels == NULL)
		return err_set(err, ERR_NOMEM, "features");
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		for (size_t k = 0; k < lists[i].n; k++) {
			struct channel *ch = &own->channels[own->n_channels];
			ch->mode = lists[i].mode;
			ch->name = strdup(lists[i].list[k].name);
			if (ch->name == NULL)
				return err_set(err, ERR_NOMEM, "features");
			own->n_channels++;
		}
	}
	return 0;
}

static int copy_login(struct dan_own *own, const struct dan_conf *conf, struct err *err)
{
	if (conf->username == NULL)
		return 0;
	own->username = strdup(conf->username);
	own->password = strdup(conf->password != NULL ? conf->password : "");
	return own->username != NULL && own->password != NULL ? 0
							      : err_set(err, ERR_NOMEM, "login");
}

int dan_own_read(struct dan_own *own, struct uuid_text *id, const struct dan_conf *conf,
		 struct err *err)
{
	struct uuid_text told;
	if (!uuid_parse(conf->id, strlen(conf->id), &told))
		return err_set(err, ERR_SCHEMA, "'%.64s' is not a UUID", conf->id);
	if (id->s[0] != '\0' && strcmp(id->s, told.s) != 0)
		return err_set(err, ERR_INVAL, "'%s' cannot become '%s'", id->s, told.s);
	if (conf->qos > 2)
		return err_set(err, ERR_SCHEMA, "QoS %d: 0, 1 or 2", conf->qos);
	size_t url_len = strlen(conf->csm_url);
	while (url_len > 0 && conf->csm_url[url_len - 1] == '/')
		url_len--;
	if (asprintf(&own->url, "%.*s/%s", (int)url_len, conf->csm_url, told.s) < 0) {
		own->url = NULL;
		return err_set(err, ERR_NOMEM, "device '%s'", told.s);
	}
	*id = told;
	own->qos = conf->qos;
	own->retry_min_ms = conf->retry_min_ms != 0 ? conf->retry_min_ms : RETRY_MIN_MS;
	own->retry_max_ms = conf->retry_max_ms != 0 ? conf->retry_max_ms : RETRY_MAX_MS;
	if (own->retry_max_ms < own->retry_min_ms)
		own->retry_max_ms = own->retry_min_ms;
	own->http_timeout_ms = conf->http_timeout_ms;
	int rc = registration_body(conf, &own->body, err);
	if (rc == 0)
		rc = copy_login(own, conf, err);
	return rc < 0 ? rc : copy_features(own, conf, err);
}

void dan_own_done(struct dan_own *own)
{
	for (size_t i = 0; i < own->n_channels; i++) {
		free(own->channels[i].name);
		free(own->channels[i].topic);
	}
	free(own->channels);
	free(own->url);
	free(own->body);
	free(own->username);
	free(own->password);
}

int dan_new(struct loop *l, const struct dan_conf *conf, const struct dan_handlers *handlers,
	    void *arg, struct dan_client **ret, struct err *err)
{
	struct dan_client *c = calloc(1, sizeof(*c));
	if (c == NULL)
		return err_set(err, ERR_NOMEM, "device");
	c->loop = l;
	c->handlers = *handlers;
	c->arg = arg;
	c->fetch = conf->fetch;
	int rc = dan_own_read(&c->own, &c->id, conf, err);
	c->retry_ms = c->own.retry_min_ms;
	c->by_topic = map_new();
	if (rc == 0 && c->by_topic == NULL)
		rc = err_set(err, ERR_NOMEM, "device '%s'", c->id.s);
	if (rc == 0 && c->fetch == NULL) {
		rc = fetch_new(l, &c->own_fetch, err);
		c->fetch = c->own_fetch;
	}
	if (rc == 0)
		rc = loop_add_timer(l, -1, 0, dan_on_timer, c, &c->timer, err);
	if (rc == 0)
		rc = dan_register(c, err);
	if (rc < 0) {
		dan_free(c);
		return rc;
	}
	*ret = c;
	return 0;
}

struct dan_client *dan_free(struct dan_client *c)
{
	if (c == NULL)
		return NULL;
	memset(&c->handlers, 0, sizeof(c->handlers)); /* nobody to tell any more */
	if (c->online && c->phase == PHASE_REGISTERED)
		dan_publish_up(c, control_state(false, c->reg.rev), CTRL_QOS, true);
	c->phase = PHASE_LEFT;
	bus_free(c->bus);
	dan_drop_pending(c);
	fetch_cancel(c->call);
	fetch_free(c->own_fetch);
	loop_remove(c->loop, c->timer);
	map_free(c->by_topic, NULL); /* before the channels: they own its keys */
	dan_own_done(&c->own);
	if (c->next != NULL)
		dan_own_done(c->next);
	free(c->next);
	registration_done(&c->reg);
	free(c->trouble);
	free(c);
	return NULL;
}

/* Where values of this IDF go now. */
static int find_topic(const struct dan_client *c, const char *idf, const char **ret,
		      struct err *err)
{
	const struct channel *ch = dan_find_channel(c, DAN_IDF, idf);
	if (ch == NULL)
		return err_set(err, ERR_NOENT, "IDF '%.255s' unknown", idf);
	if (ch->topic == NULL || c->phase != PHASE_REGISTERED)
		return err_set(err, ERR_AGAIN, "IDF '%s' is not connected", idf);
	if (ch->suspended)
		return err_set(err, ERR_AGAIN, "IDF '%s' is suspended", idf);
	*ret = ch->topic;
	return 0;
}

int dan_push(struct dan_client *c, const char *idf, json_t *values, struct err *err)
{
	const char *topic = NULL;
	int rc = find_topic(c, idf, &topic, err);
	if (topic == NULL)
		return rc;
	unsigned long shortages = shortage_count();
	CLEANUP(freep)
	char *text = shortage_dumps(values);
	if (text == NULL && shortage_count() != shortages)
		return err_set(err, ERR_NOMEM, "IDF '%s': values", idf);
	if (text == NULL)
		return err_set(err, ERR_SCHEMA, "IDF '%s': values that JSON cannot hold", idf);
	return bus_publish(c->bus, topic, text, strlen(text), c->own.qos, false, err);
}

int dan_push_text(struct dan_client *c, const char *idf, const char *text, dan_pushed_fn *done,
		  void *arg, struct err *err)
{
	const char *topic = NULL;
	if (done != NULL && c->own.qos != 1)
		return err_set(err, ERR_INVAL, "IDF '%.255s': acknowledged pushes need QoS 1", idf);
	int rc = find_topic(c, idf, &topic, err);
	if (topic == NULL)
		return rc;
	if (done == NULL)
		return bus_publish(c->bus, topic, text, strlen(text), c->own.qos, false, err);
	return bus_publish_acked(c->bus, topic, text, strlen(text), false, done, arg, err);
}

bool dan_is_online(const struct dan_client *c)
{
	return c->online && c->phase == PHASE_REGISTERED;
}

bool dan_is_connected(const struct dan_client *c, enum dan_mode mode, const char *feature)
{
	const struct channel *ch = dan_find_channel(c, mode, feature);
	return ch != NULL && ch->told;
}

const char *dan_id(const struct dan_client *c)
{
	return c->id.s;
}

const char *dan_username(const struct dan_client *c)
{
	return c->reg.username;
}

const char *dan_password(const struct dan_client *c)
{
	return c->reg.password;
}

const char *dan_name(const struct dan_client *c)
{
	return c->reg.name != NULL ? c->reg.name : "";
}
