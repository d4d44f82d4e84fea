#include "dan/dan.h"

#include "common/shortage.h"
#include "common/util.h"
#include "dan/client.h"
#include <stdio.h>
#include <string.h>

#define RETRY_MIN_MS 200
#define RETRY_MAX_MS 10000

/* ---- the whole ---- */

static int copy_about(struct dan_own *own, const struct dan_conf *conf, struct err *err)
{
	own->name = conf->name != NULL ? strdup(conf->name) : NULL;
	own->profile = shortage_dumps(conf->profile);
	if ((conf->name != NULL && own->name == NULL) || own->profile == NULL)
		return err_set(err, ERR_NOMEM, "profile");
	return features_copy(&own->features, conf->idfs, conf->n_idfs, conf->odfs, conf->n_odfs,
			     err);
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

/* One without a scheme is of http. */
static int check_url(const char *url, struct err *err)
{
	if (url == NULL || url[0] == '\0')
		return err_set(err, ERR_SCHEMA, "csm_url is missing");
	if (strstr(url, "://") != NULL && strncmp(url, "http://", 7) != 0 &&
	    strncmp(url, "https://", 8) != 0)
		return err_set(err, ERR_SCHEMA,
			       "csm_url '%.200s': must begin with http:// or https://", url);
	return 0;
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
	int rc = check_url(conf->csm_url, err);
	if (rc < 0)
		return rc;
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
	rc = registration_body(conf, &own->body, err);
	if (rc == 0)
		rc = copy_login(own, conf, err);
	return rc < 0 ? rc : copy_about(own, conf, err);
}

int dan_own_body(struct dan_own *own, char **ret, struct err *err)
{
	CLEANUP(features_lists_done)
	struct features_lists lists = {0};
	if (own->body != NULL) {
		*ret = TAKE(own->body);
		return 0;
	}
	json_auto_t *profile = json_loads(own->profile, 0, NULL);
	if (profile == NULL)
		return err_set(err, ERR_NOMEM, "registration");
	int rc = features_lists(&own->features, &lists, err);
	if (rc < 0)
		return rc;
	const struct dan_conf conf = {
		.name = own->name,
		.profile = profile,
		.idfs = lists.items,
		.n_idfs = own->features.n_idfs,
		.odfs = lists.items + own->features.n_idfs,
		.n_odfs = own->features.n_odfs,
	};
	return registration_body(&conf, ret, err);
}

void dan_own_done(struct dan_own *own)
{
	features_done(&own->features);
	free(own->url);
	free(own->name);
	free(own->profile);
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
	c->by_name[DAN_IDF] = map_new();
	c->by_name[DAN_ODF] = map_new();
	if (rc == 0 &&
	    (c->by_topic == NULL || c->by_name[DAN_IDF] == NULL || c->by_name[DAN_ODF] == NULL))
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

void dan_part(struct dan_client *c)
{
	if (c == NULL)
		return;
	memset(&c->handlers, 0, sizeof(c->handlers)); /* nobody to tell any more */
	c->left = NULL;
	if (c->online && c->phase == PHASE_REGISTERED)
		dan_publish_up(c, control_state(false, c->reg.rev), CTRL_QOS, true);
	c->phase = PHASE_LEFT;
	bus_part(c->bus);
	c->call = fetch_cancel(c->call);
	loop_arm(c->loop, c->timer, -1);
}

struct dan_client *dan_free(struct dan_client *c)
{
	if (c == NULL)
		return NULL;
	if (c->timer != NULL)
		dan_part(c);
	bus_free(c->bus);
	dan_drop_pending(c);
	dan_drop_pushing(c, false);
	fetch_free(c->own_fetch);
	loop_remove(c->loop, c->timer);
	dan_free_channels(c);
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
	if (ch == NULL && features_find(&c->own.features, DAN_IDF, idf) == NULL)
		return err_set(err, ERR_NOENT, "IDF '%.255s' unknown", idf);
	if (ch == NULL || c->phase != PHASE_REGISTERED)
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

static void pushing_unlink(struct pushing *p)
{
	*(p->prev != NULL ? &p->prev->next : &p->client->pushing) = p->next;
	if (p->next != NULL)
		p->next->prev = p->prev;
}

static void on_pushed(void *arg, int rc)
{
	struct pushing *p = arg;
	dan_pushed_fn *done = p->done;
	void *done_arg = p->arg;
	pushing_unlink(p);
	free(p);
	done(done_arg, rc);
}

void dan_drop_pushing(struct dan_client *c, bool tell)
{
	while (c->pushing != NULL) {
		struct pushing *p = c->pushing;
		if (tell) {
			on_pushed(p, ERR_AGAIN);
			continue;
		}
		pushing_unlink(p);
		free(p);
	}
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
	struct pushing *p = malloc(sizeof(*p));
	if (p == NULL)
		return err_set(err, ERR_NOMEM, "IDF '%s'", idf);
	rc = bus_publish_acked(c->bus, topic, text, strlen(text), false, on_pushed, p, err);
	if (rc < 0) {
		free(p);
		return rc;
	}
	*p = (struct pushing){.client = c, .done = done, .arg = arg, .next = c->pushing};
	if (p->next != NULL)
		p->next->prev = p;
	c->pushing = p;
	return 0;
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
