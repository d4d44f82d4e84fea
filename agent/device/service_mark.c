/* service_mark.c - whether the broker still has what it heard of late.
 *
 * A broker that died is restarted with what it had written some time before, and has states of
 * then. So a mark is left with it (retained) after each change of a state, and kept in our store:
 * only a broker that has our last mark is believed where what it has and what we have differ and
 * no time says which is newer.
 */
#include "agent/device/service_int.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define KEY       "mark:" /* in front of the gateway's name: in the store */
#define CHANGE_MS 100 /* changes that share a mark; and it is looked again whether all is told */

/* Without it on the disk the broker is not believed at the next start. */
static void store_mark(struct devices *d)
{
	CLEANUP(freep)
	char *key = NULL;
	struct err err = {0};

	int rc = store_begin(d->store, &err);

	if (asprintf(&key, KEY "%s", d->env.gateway) < 0) {
		key = NULL;
		rc = err_set(&err, ERR_NOMEM, "mark");
	}
	if (rc == 0)
		rc = store_drop_states(d->store, key, &err);
	if (rc >= 0 && d->mark[0] != '\0')
		rc = store_keep_state(d->store, key, d->mark, 1, &err);
	if (rc < 0 && log_allowed("devices.mark", d->env.gateway))
		log_error("devices.mark", KV("why", err.text));
}

static void leave_mark(struct devices *d)
{
	d->marking = false;
	snprintf(d->mark, sizeof(d->mark), "%s", uuid4().s);
	store_mark(d);
	eventbus_mark(d->bus, d->mark);
}

static void look(void *arg, const char *key, void *value)
{
	const struct entry *e = value;

	(void)key;
	*(bool *)arg |= device_is_telling(e->device);
}

/* A broker that has the mark has all that it was told before. */
static void on_mark_timer(void *arg)
{
	struct devices *d = arg;
	bool telling = false;

	map_each(d->entries, look, &telling);
	if (telling)
		loop_arm(d->loop, d->mark_timer, CHANGE_MS);
	else
		leave_mark(d);
}

static int on_mark(void *arg, const char *topic, const char *mark, int64_t changed_us)
{
	struct devices *d = arg;

	(void)changed_us;
	if (strcmp(topic + strlen(KEY), d->env.gateway) == 0)
		snprintf(d->mark, sizeof(d->mark), "%s", mark);
	return 0;
}

int devices_start_marks(struct devices *d, const char *gateway, struct err *err)
{
	CLEANUP(freep)
	char *key = NULL;
	int rc = 0;

	if (asprintf(&key, KEY "%s", gateway) < 0) {
		key = NULL;
		return err_set(err, ERR_NOMEM, "mark");
	}
	if (d->mark_timer == NULL)
		rc = loop_add_timer(d->loop, -1, 0, on_mark_timer, d, &d->mark_timer, err);
	return rc == 0 ? store_each_state(d->store, key, on_mark, d, err) : rc;
}

/* Until the next one, none is right. */
static void mark_later(struct devices *d, int64_t in_ms)
{
	if (d->mark[0] != '\0') {
		d->mark[0] = '\0';
		store_mark(d);
	}
	if (!d->marking)
		loop_arm(d->loop, d->mark_timer, in_ms);
	d->marking = true;
}

void devices_mark_change(struct devices *d)
{
	mark_later(d, CHANGE_MS);
}

void devices_mark_sync(struct devices *d)
{
	mark_later(d, 0);
}

void devices_lose_marks(struct devices *d)
{
	loop_arm(d->loop, d->mark_timer, -1);
	d->marking = false;
}

void devices_end_marks(struct devices *d)
{
	if (d->marking && d->synced)
		leave_mark(d);
	d->mark_timer = loop_remove(d->loop, d->mark_timer);
}
