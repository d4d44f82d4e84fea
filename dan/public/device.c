/* device.c - a device application, as the library offers it: a dan_client that may be freed
 * anywhere. */
#include "common/id.h"
#include "common/util.h"
#include "dan/dan.h"
#include "dan/public/context.h"
#include <string.h>

/* A push whose acknowledgement is awaited. */
struct push {
	struct dan_device *dev;
	dan_pushed_fn *done;
	void *arg;
	struct push *prev, *next;
};

struct dan_device {
	struct dan *d;
	struct dan_client *client;
	struct dan_device_handlers handlers; /* all NULL once it is freed */
	void *arg;
	dan_left_fn *left;
	void *left_arg;
	struct push *pushes;
	bool dead;
	struct dan_device *prev, *next; /* all, or the dead ones */
};

/* ---- what the client tells ---- */

static void on_registered(void *arg, const char *name)
{
	struct dan_device *dev = arg;
	if (dev->handlers.on_registered != NULL)
		dev->handlers.on_registered(dev->arg, name);
}

static void on_online(void *arg)
{
	struct dan_device *dev = arg;
	if (dev->handlers.on_online != NULL)
		dev->handlers.on_online(dev->arg);
}

static void on_offline(void *arg, const char *why)
{
	struct dan_device *dev = arg;
	if (dev->handlers.on_offline != NULL)
		dev->handlers.on_offline(dev->arg, why);
}

static void on_connect(void *arg, enum dan_mode mode, const char *feature)
{
	struct dan_device *dev = arg;
	if (dev->handlers.on_connect != NULL)
		dev->handlers.on_connect(dev->arg, mode, feature);
}

static void on_disconnect(void *arg, enum dan_mode mode, const char *feature)
{
	struct dan_device *dev = arg;
	if (dev->handlers.on_disconnect != NULL)
		dev->handlers.on_disconnect(dev->arg, mode, feature);
}

static void on_suspend(void *arg, enum dan_mode mode, const char *feature, bool suspended)
{
	struct dan_device *dev = arg;
	if (dev->handlers.on_suspend != NULL)
		dev->handlers.on_suspend(dev->arg, mode, feature, suspended);
}

static void on_data(void *arg, const char *feature, json_t *values)
{
	struct dan_device *dev = arg;
	if (dev->handlers.on_data != NULL)
		dev->handlers.on_data(dev->arg, feature, values);
}

static void on_error(void *arg, const struct err *err)
{
	struct dan_device *dev = arg;
	struct dan_error told;
	if (dev->handlers.on_error == NULL)
		return;
	dan_tell(&told, err);
	dev->handlers.on_error(dev->arg, &told);
}

static const struct dan_handlers forwarders = {
	.on_registered = on_registered,
	.on_online = on_online,
	.on_offline = on_offline,
	.on_connect = on_connect,
	.on_disconnect = on_disconnect,
	.on_suspend = on_suspend,
	.on_data = on_data,
	.on_error = on_error,
};

/* ---- life ---- */

static void list_add(struct dan_device **list, struct dan_device *dev)
{
	dev->prev = NULL;
	dev->next = *list;
	if (dev->next != NULL)
		dev->next->prev = dev;
	*list = dev;
}

static void list_remove(struct dan_device **list, struct dan_device *dev)
{
	if (dev->prev != NULL)
		dev->prev->next = dev->next;
	else
		*list = dev->next;
	if (dev->next != NULL)
		dev->next->prev = dev->prev;
}

static struct dan_conf conf_of(const struct dan_device *dev, const struct dan_device_conf *conf,
			       const char *id)
{
	return (struct dan_conf){
		.csm_url = conf->csm_url,
		.id = conf->id != NULL ? conf->id : id,
		.name = conf->name,
		.idfs = conf->idfs,
		.odfs = conf->odfs,
		.n_idfs = conf->n_idfs,
		.n_odfs = conf->n_odfs,
		.profile = conf->profile,
		.username = conf->username,
		.password = conf->password,
		.qos = conf->qos,
		.retry_min_ms = conf->retry_min_ms,
		.retry_max_ms = conf->retry_max_ms,
		.http_timeout_ms = conf->http_timeout_ms,
		.fetch = dev->d->fetch,
	};
}

int dan_device_new(struct dan *d, const struct dan_device_conf *conf,
		   const struct dan_device_handlers *handlers, void *arg, struct dan_device **ret,
		   struct dan_error *reterr)
{
	struct err err = {0};
	struct dan_device *dev = calloc(1, sizeof(*dev));
	if (dev == NULL) {
		err_set(&err, ERR_NOMEM, "device");
		return dan_tell(reterr, &err);
	}
	dev->d = d;
	if (handlers != NULL)
		dev->handlers = *handlers;
	dev->arg = arg;
	const struct uuid_text id = uuid4();
	const struct dan_conf of_client = conf_of(dev, conf, id.s);
	if (dan_new(d->loop, &of_client, &forwarders, dev, &dev->client, &err) < 0) {
		free(dev);
		return dan_tell(reterr, &err);
	}
	list_add(&d->devices, dev);
	*ret = dev;
	return 0;
}

int dan_device_update(struct dan_device *dev, const struct dan_device_conf *conf,
		      struct dan_error *reterr)
{
	struct err err = {0};
	const struct dan_conf of_client = conf_of(dev, conf, dan_id(dev->client));
	return dan_update(dev->client, &of_client, &err) < 0 ? dan_tell(reterr, &err) : 0;
}

static void release(struct dan_device *dev)
{
	dan_free(dev->client);
	while (dev->pushes != NULL) {
		struct push *p = dev->pushes;
		dev->pushes = p->next;
		free(p);
	}
	free(dev);
}

struct dan_device *dan_device_free(struct dan_device *dev)
{
	if (dev == NULL)
		return NULL;
	struct dan *d = dev->d;
	list_remove(&d->devices, dev);
	if (!d->turning) {
		release(dev);
		return NULL;
	}
	/* perhaps one of its handlers is running */
	dev->dead = true;
	dev->handlers = (struct dan_device_handlers){0};
	list_add(&d->dead, dev);
	return NULL;
}

void dan_part_all(struct dan *d)
{
	for (struct dan_device *dev = d->devices; dev != NULL; dev = dev->next)
		dan_part(dev->client);
}

void dan_bury(struct dan *d)
{
	for (struct dan_device *dev = d->dead; dev != NULL; dev = dev->next)
		dan_part(dev->client);

	while (d->dead != NULL) {
		struct dan_device *dev = d->dead;
		d->dead = dev->next;
		release(dev);
	}
}

/* ---- data ---- */

int dan_device_push(struct dan_device *dev, const char *idf, json_t *values,
		    struct dan_error *reterr)
{
	struct err err = {0};
	return dan_push(dev->client, idf, values, &err) < 0 ? dan_tell(reterr, &err) : 0;
}

static void push_unlink(struct push *p)
{
	if (p->prev != NULL)
		p->prev->next = p->next;
	else
		p->dev->pushes = p->next;
	if (p->next != NULL)
		p->next->prev = p->prev;
}

static void on_pushed(void *arg, int rc)
{
	CLEANUP(freep)
	struct push *p = arg;
	push_unlink(p);
	if (!p->dev->dead)
		p->done(p->arg, rc);
}

int dan_device_push_text(struct dan_device *dev, const char *idf, const char *text,
			 dan_pushed_fn *done, void *arg, struct dan_error *reterr)
{
	struct err err = {0};
	if (done == NULL)
		return dan_push_text(dev->client, idf, text, NULL, NULL, &err) < 0
			       ? dan_tell(reterr, &err)
			       : 0;
	struct push *p = calloc(1, sizeof(*p));
	if (p == NULL) {
		err_set(&err, ERR_NOMEM, "IDF '%.255s'", idf);
		return dan_tell(reterr, &err);
	}
	*p = (struct push){.dev = dev, .done = done, .arg = arg, .next = dev->pushes};
	if (p->next != NULL)
		p->next->prev = p;
	dev->pushes = p;
	if (dan_push_text(dev->client, idf, text, on_pushed, p, &err) < 0) {
		push_unlink(p);
		free(p);
		return dan_tell(reterr, &err);
	}
	return 0;
}

/* ---- leaving ---- */

static void on_left(void *arg, int rc, const char *why)
{
	struct dan_device *dev = arg;
	if (!dev->dead)
		dev->left(dev->left_arg, rc, why);
}

int dan_device_leave(struct dan_device *dev, dan_left_fn *done, void *arg, struct dan_error *reterr)
{
	struct err err = {0};
	if (dan_leave(dev->client, on_left, dev, &err) < 0)
		return dan_tell(reterr, &err);
	dev->left = done; /* called in a later turn */
	dev->left_arg = arg;
	return 0;
}

/* ---- what is known ---- */

bool dan_device_is_online(const struct dan_device *dev)
{
	return dan_is_online(dev->client);
}

bool dan_device_is_connected(const struct dan_device *dev, enum dan_mode mode, const char *feature)
{
	return dan_is_connected(dev->client, mode, feature);
}

const char *dan_device_id(const struct dan_device *dev)
{
	return dan_id(dev->client);
}

const char *dan_device_name(const struct dan_device *dev)
{
	return dan_name(dev->client);
}

const char *dan_device_username(const struct dan_device *dev)
{
	return dan_username(dev->client);
}

const char *dan_device_password(const struct dan_device *dev)
{
	return dan_password(dev->client);
}
