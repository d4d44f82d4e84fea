#include "dan/dan.h"

#include "common/shortage.h"
#include "common/util.h"
#include "dan/client.h"
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define RETRY_MIN_MS  200
#define RETRY_MAX_MS  10000
#define GOODBYE_MS    500 /* how long a broker may take to pass on our last word */
#define CLIENT_ID_MAX 48  /* "dan-" and a UUID */

static void try_register(struct dan_client *c);

static void on_data(struct dan_client *c, struct channel *ch, const struct bus_msg *m)
{
	struct err err = {0};
	json_error_t why;
	if (ch->suspended || c->handlers.on_data == NULL)
		return;
	json_auto_t *values = json_loadb(m->payload, m->len, JSON_DECODE_ANY, &why);
	if (values == NULL) {
		err_set(&err, ERR_PARSE, "data for '%s': %s", ch->name, why.text);
		dan_report(c, &err);
		return;
	}
	c->handlers.on_data(c->arg, ch->name, values);
}

/* ---- broker ---- */

static bool on_connecting(void *arg, struct bus_will *will)
{
	struct dan_client *c = arg;
	CLEANUP(freep)
	char *offline = control_state(false, c->reg.rev);
	size_t len = offline != NULL ? strlen(offline) : 0;
	if (c->phase != PHASE_REGISTERED || len == 0 || len >= sizeof(will->payload))
		return false;
	snprintf(will->topic, sizeof(will->topic), "%s", c->reg.ctrl_up);
	memcpy(will->payload, offline, len + 1);
	will->len = len;
	will->qos = CTRL_QOS;
	will->retain = true;
	return true;
}

static void on_up(void *arg, bool fresh)
{
	(void)fresh;
	struct dan_client *c = arg;
	if (c->phase != PHASE_REGISTERED)
		return;
	if (c->was_online) {
		/* as the SDKs do: forget all, say so, and be told anew what is connected */
		for (size_t i = 0; i < c->n_channels; i++)
			dan_drop_channel(c, &c->channels[i]);
		dan_publish_up(c, control_state(false, c->reg.rev), CTRL_QOS, true);
	}
	dan_publish_up(c, control_state(true, c->reg.rev), CTRL_QOS, true);
	c->online = c->was_online = true;
	if (c->handlers.on_online != NULL)
		c->handlers.on_online(c->arg);
}

static void on_down(void *arg, const char *why)
{
	struct dan_client *c = arg;
	bool was = c->online;
	c->online = false;
	if (was && c->handlers.on_offline != NULL)
		c->handlers.on_offline(c->arg, why);
}

static void on_message(void *arg, const struct bus_msg *m)
{
	struct dan_client *c = arg;
	if (m->retained || c->phase != PHASE_REGISTERED)
		return; /* a replay is no command and no data */
	if (strcmp(m->topic, c->reg.ctrl_down) == 0) {
		dan_on_command(c, m);
		return;
	}
	struct channel *ch = map_find(c->by_topic, m->topic);
	if (ch != NULL)
		on_data(c, ch, m);
}

static int connect_broker(struct dan_client *c, struct err *err)
{
	static const struct bus_handlers handlers = {
		.on_connecting = on_connecting,
		.on_up = on_up,
		.on_down = on_down,
		.on_message = on_message,
	};
	char client_id[CLIENT_ID_MAX];
	/* one id for all connections of a device: a new one ends the old one, and its will comes
	 * before our online */
	snprintf(client_id, sizeof(client_id), "dan-%s", c->id.s);
	const struct bus_conf conf = {
		.host = c->reg.host,
		.port = c->reg.port,
		.client_id = client_id,
		.username = c->reg.username,
		.password = c->reg.password,
		.clean_session = true,
	};
	int rc = bus_new(c->loop, &conf, &handlers, c, &c->bus, err);
	if (rc == 0)
		rc = bus_subscribe(c->bus, c->reg.ctrl_down, CTRL_QOS, NULL, NULL, err);
	if (rc < 0)
		c->bus = bus_free(c->bus);
	return rc;
}

/* ---- csm ---- */

/* Half of the pause is fixed, half is chance, so that many devices do not come back at once. */
static void retry_later(struct dan_client *c, bool refused)
{
	unsigned pause_ms = refused ? c->retry_max_ms : c->retry_ms;
	c->retry_ms = c->retry_ms < c->retry_max_ms / 2 ? 2 * c->retry_ms : c->retry_max_ms;
	loop_arm(c->loop, c->timer, pause_ms / 2 + randombytes_uniform(pause_ms / 2 + 1));
}

static void on_put_done(void *arg, const struct fetch_answer *a)
{
	struct dan_client *c = arg;
	struct registration reg = {0};
	struct err err = {0};
	int rc = a->rc;
	c->call = NULL;
	if (rc < 0)
		err_set(&err, rc, "%s", a->why);
	else
		rc = registration_parse(a->status, a->body, a->len, &reg, &err);
	if (rc == 0) {
		registration_done(&c->reg);
		c->reg = reg;
		rc = connect_broker(c, &err);
	} else {
		registration_done(&reg);
	}
	if (rc < 0) {
		err_wrap(&err, rc, "registering at %s", c->url);
		/* what csm refuses today it refuses in a second too, but a person may change its
		 * mind */
		retry_later(c, a->rc == 0 && a->status >= 400 && a->status < 500);
		dan_report(c, &err);
		return;
	}
	c->phase = PHASE_REGISTERED;
	if (c->handlers.on_registered != NULL)
		c->handlers.on_registered(c->arg, c->reg.name);
}

static int request(struct dan_client *c, const char *method, const char *body, fetch_done_fn *done,
		   struct err *err)
{
	const struct fetch_request q = {
		.method = method,
		.url = c->url,
		.body = body,
		.username = c->reg.username,
		.password = c->reg.password,
		.timeout_ms = c->http_timeout_ms,
	};
	return fetch_start(c->fetch, &q, done, c, &c->call, err);
}

static void try_register(struct dan_client *c)
{
	struct err err = {0};
	if (request(c, "PUT", c->body, on_put_done, &err) < 0) {
		retry_later(c, false);
		dan_report(c, &err);
	}
}

static void left(struct dan_client *c, int rc, const char *why)
{
	c->phase = PHASE_LEFT;
	c->left(c->left_arg, rc, why); /* may free the client */
}

static int send_delete(struct dan_client *c, struct err *err);

static void goodbye_was_said(struct dan_client *c)
{
	struct err err = {0};
	loop_arm(c->loop, c->timer, -1);
	int rc = send_delete(c, &err);
	if (rc < 0)
		left(c, rc, err.text);
}

static void on_timer(void *arg)
{
	struct dan_client *c = arg;
	if (c->phase == PHASE_REGISTERING)
		try_register(c);
	else if (c->phase == PHASE_LEAVING && c->reg.rev == NULL)
		left(c, 0, "");
	else if (c->phase == PHASE_LEAVING && c->call == NULL)
		goodbye_was_said(c);
}

static void on_barrier(void *arg, int rc)
{
	struct dan_client *c = arg;
	(void)rc;
	if (c->phase == PHASE_LEAVING && c->call == NULL)
		goodbye_was_said(c);
}

static void on_delete_done(void *arg, const struct fetch_answer *a)
{
	struct dan_client *c = arg;
	c->call = NULL;
	if (a->rc < 0) {
		left(c, a->rc, a->why);
		return;
	}
	json_auto_t *doc = json_loadb(a->body, a->len, 0, NULL);
	const char *reason = json_string_value(json_object_get(doc, "reason"));
	if (reason == NULL)
		reason = "csm refuses";
	if (a->status == 200 || a->status == 404)
		left(c, 0, "");
	else
		left(c, a->status == 400 ? ERR_CONFLICT : ERR_PEER, reason);
}

static int send_delete(struct dan_client *c, struct err *err)
{
	json_auto_t *rev = json_pack("{s:s}", "rev", c->reg.rev);
	CLEANUP(freep)
	char *body = shortage_dumps(rev);
	if (body == NULL)
		return err_set(err, ERR_NOMEM, "deregistering '%s'", c->id.s);
	return request(c, "DELETE", body, on_delete_done, err);
}

/* Say offline; ret: true when on_barrier() or the timer will go on. csm should hear it before the
 * DELETE, else it is a message of an unknown device: at QoS 1 the broker has passed it on when it
 * acknowledges the subscription that follows. */
static bool say_goodbye(struct dan_client *c)
{
	if (!c->online)
		return false;
	dan_publish_up(c, control_state(false, c->reg.rev), 1, true);
	if (bus_subscribe(c->bus, c->reg.ctrl_down, CTRL_QOS, on_barrier, c, NULL) < 0)
		return false;
	loop_arm(c->loop, c->timer, GOODBYE_MS);
	return true;
}

int dan_leave(struct dan_client *c, dan_left_fn *done, void *arg, struct err *err)
{
	if (c->phase == PHASE_LEAVING || c->phase == PHASE_LEFT)
		return err_set(err, ERR_BUSY, "leaving already");
	c->call = fetch_cancel(c->call);
	c->phase = PHASE_LEAVING;
	c->left = done;
	c->left_arg = arg;
	/* else at once, but done is called in a turn of its own */
	if (!say_goodbye(c))
		loop_arm(c->loop, c->timer, 0);
	return 0;
}

/* ---- the whole ---- */

static int copy_features(struct dan_client *c, const struct dan_conf *conf, struct err *err)
{
	const struct {
		enum dan_mode mode;
		const struct dan_feature *list;
		size_t n;
	} lists[] = {{DAN_IDF, conf->idfs, conf->n_idfs}, {DAN_ODF, conf->odfs, conf->n_odfs}};

	c->channels = calloc(conf->n_idfs + conf->n_odfs + 1, sizeof(*c->channels));
	c->by_topic = map_new();
	if (c->channels == NULL || c->by_topic == NULL)
		return err_set(err, ERR_NOMEM, "features");
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		for (size_t k = 0; k < lists[i].n; k++) {
			struct channel *ch = &c->channels[c->n_channels];
			ch->mode = lists[i].mode;
			ch->name = strdup(lists[i].list[k].name);
			if (ch->name == NULL)
				return err_set(err, ERR_NOMEM, "features");
			c->n_channels++;
		}
	}
	return 0;
}

static int read_conf(struct dan_client *c, const struct dan_conf *conf, struct err *err)
{
	if (!uuid_parse(conf->id, strlen(conf->id), &c->id))
		return err_set(err, ERR_SCHEMA, "'%.64s' is not a UUID", conf->id);
	if (conf->qos > 2)
		return err_set(err, ERR_SCHEMA, "QoS %d: 0, 1 or 2", conf->qos);
	size_t url_len = strlen(conf->csm_url);
	while (url_len > 0 && conf->csm_url[url_len - 1] == '/')
		url_len--;
	if (asprintf(&c->url, "%.*s/%s", (int)url_len, conf->csm_url, c->id.s) < 0) {
		c->url = NULL;
		return err_set(err, ERR_NOMEM, "device '%s'", c->id.s);
	}
	c->qos = conf->qos;
	c->retry_min_ms = conf->retry_min_ms != 0 ? conf->retry_min_ms : RETRY_MIN_MS;
	c->retry_max_ms = conf->retry_max_ms != 0 ? conf->retry_max_ms : RETRY_MAX_MS;
	if (c->retry_max_ms < c->retry_min_ms)
		c->retry_max_ms = c->retry_min_ms;
	c->retry_ms = c->retry_min_ms;
	c->http_timeout_ms = conf->http_timeout_ms;
	c->fetch = conf->fetch;
	int rc = registration_body(conf, &c->body, err);
	return rc < 0 ? rc : copy_features(c, conf, err);
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
	int rc = read_conf(c, conf, err);
	if (rc == 0 && c->fetch == NULL) {
		rc = fetch_new(l, &c->own_fetch, err);
		c->fetch = c->own_fetch;
	}
	if (rc == 0)
		rc = loop_add_timer(l, -1, 0, on_timer, c, &c->timer, err);
	if (rc == 0)
		rc = request(c, "PUT", c->body, on_put_done, err);
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
	for (size_t i = 0; i < c->n_channels; i++) {
		free(c->channels[i].name);
		free(c->channels[i].topic);
	}
	free(c->channels);
	registration_done(&c->reg);
	free(c->url);
	free(c->body);
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
	const char *topic;
	int rc = find_topic(c, idf, &topic, err);
	if (rc < 0)
		return rc;
	unsigned long shortages = shortage_count();
	CLEANUP(freep)
	char *text = shortage_dumps(values);
	if (text == NULL && shortage_count() != shortages)
		return err_set(err, ERR_NOMEM, "IDF '%s': values", idf);
	if (text == NULL)
		return err_set(err, ERR_SCHEMA, "IDF '%s': values that JSON cannot hold", idf);
	return bus_publish(c->bus, topic, text, strlen(text), c->qos, false, err);
}

int dan_push_text(struct dan_client *c, const char *idf, const char *text, dan_pushed_fn *done,
		  void *arg, struct err *err)
{
	const char *topic;
	if (done != NULL && c->qos != 1)
		return err_set(err, ERR_INVAL, "IDF '%.255s': acknowledged pushes need QoS 1", idf);
	int rc = find_topic(c, idf, &topic, err);
	if (rc < 0)
		return rc;
	if (done == NULL)
		return bus_publish(c->bus, topic, text, strlen(text), c->qos, false, err);
	return bus_publish_acked(c->bus, topic, text, strlen(text), false, done, arg, err);
}

bool dan_is_online(const struct dan_client *c)
{
	return c->online;
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

const char *dan_name(const struct dan_client *c)
{
	return c->reg.name != NULL ? c->reg.name : "";
}
