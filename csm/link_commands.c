/* link_commands.c - CONNECT and DISCONNECT: sent in turn, answered or not, repeated after a restart. */
#include "csm/links_int.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "csm/graphs.h"
#include "csm/metrics.h"
#include "csm/store.h"
#include "csm/suspensions.h"
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define UNSENT_AGAIN_MS 200 /* a command that lacked memory */

/* ---- commands ---- */

void link_report(struct link *k, const char *reason)
{
	log_warn("link.failed", KV("device", k->da_id), KV("feature", k->feature), KV("mode", k->mode),
		 KV("why", reason));
	graphs_report_link(k->links->csm->graphs, k->da_id, k->feature, k->mode, reason);
}

static void link_fail(struct link *k, const char *reason)
{
	k->state = LINK_ERROR;
	snprintf(k->reason, sizeof(k->reason), "%s", reason);
	link_report(k, k->reason);
}

/* A link whose last word has been answered, or never will be. */
void link_leave(struct link *k)
{
	struct links *l = k->links;
	*(k->prev_leaving != NULL ? &k->prev_leaving->next_leaving : &l->leaving) = k->next_leaving;
	if (k->next_leaving != NULL)
		k->next_leaving->prev_leaving = k->prev_leaving;
	links_drop_of_device(l, k);
	link_free(k);
}

/* The open command is over: answered, given up, or without an addressee. */
void link_close_command(struct link *k)
{
	struct csm *csm = k->links->csm;
	if (k->open_command == NULL)
		return;
	k->open_command = NULL;
	pace_leave(k->links->pace, &k->paced);
	loop_arm(csm->loop, k->timer, -1);
	if (!csm->silent)
		store_exec(csm->store,
			   "DELETE FROM command WHERE da_id = $1 AND feature = $2 AND mode = $3 AND topic = $4",
			   DB_V_TEXT(k->da_id), DB_V_TEXT(k->feature), DB_V_TEXT(k->mode), DB_V_TEXT(k->topic));
}

/* A fact of the moment, not an effect of the store: sent even when the disk is full. */
static void send_command(struct link *k)
{
	struct csm *csm = k->links->csm;
	k->unsent = !csm_command(csm, k->da_id,
				 json_pack("{s:s, s:s, s:s, s:s}", "msg_id", k->msg_id.s, k->mode, k->feature,
					   "command", k->open_command, "topic", k->topic));
	loop_arm(csm->loop, k->timer, k->unsent ? UNSENT_AGAIN_MS : csm->settings->core.command_timeout_ms);
	/* after the CONNECT that makes sense of it */
	if (!k->unsent && strcmp(k->open_command, "CONNECT") == 0)
		suspensions_on_connect(csm->suspensions, k->da_id, k->mode, k->feature);
}

void link_on_turn(struct paced *item)
{
	struct link *k = (struct link *)((char *)item - offsetof(struct link, paced));
	k->commanded_us = monotonic_us();
	send_command(k);
}

void link_on_timer(void *arg)
{
	struct link *k = arg;
	char reason[128];
	if (k->unsent && monotonic_us() - k->commanded_us < k->links->csm->settings->core.command_timeout_ms * 1000) {
		send_command(k);
		return;
	}
	snprintf(reason, sizeof(reason), "no answer to %s within %lld ms", k->open_command,
		 (long long)k->links->csm->settings->core.command_timeout_ms);
	bool connect = strcmp(k->open_command, "CONNECT") == 0;
	metrics_command(k->links->csm->metrics, k->open_command, "timeout", 0);
	link_close_command(k);
	if (k->leaving) {
		link_leave(k);
	} else if (connect) {
		k->late = true;
		link_fail(k, reason);
	}
}

/* at_once: without waiting for its turn, as nobody will be there to wait. */
static void command(struct link *k, const char *what, bool at_once)
{
	struct csm *csm = k->links->csm;
	if (csm->silent)
		return;
	k->msg_id = uuid4();
	k->open_command = what;
	k->late = k->unsent = false;
	/* remembered until it is answered: what the MQTT library still has to send dies with us */
	store_exec(csm->store,
		   "INSERT INTO command (da_id, feature, mode, command, topic)"
		   " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (da_id, feature, mode)"
		   " DO UPDATE SET command = excluded.command, topic = excluded.topic",
		   DB_V_TEXT(k->da_id), DB_V_TEXT(k->feature), DB_V_TEXT(k->mode), DB_V_TEXT(what),
		   DB_V_TEXT(k->topic));
	loop_arm(csm->loop, k->timer, -1);
	if (!at_once) {
		pace_ask(k->links->pace, &k->paced);
		return;
	}
	pace_leave(k->links->pace, &k->paced);
	link_on_turn(&k->paced);
}

void link_connect(struct link *k)
{
	/* what an earlier run confirmed was told to the device then: commands go out before the commit that confirms */
	k->connected = true;
	k->state = k->links->csm->silent ? LINK_CONNECTED : LINK_CONNECTING;
	command(k, "CONNECT", false);
}

void link_disconnect(struct link *k, bool at_once)
{
	if (k->connected)
		command(k, "DISCONNECT", at_once);
	k->connected = false;
	k->state = LINK_WAITING;
}

bool links_on_answer(struct links *l, const char *da_id, const char *msg_id, bool ok, const char *reason)
{
	for (struct link *k = links_first_of(l, da_id); k != NULL; k = k->next_of_device) {
		if ((k->open_command == NULL && !k->late) || strcasecmp(k->msg_id.s, msg_id) != 0)
			continue;
		if (k->late) { /* counted as a timeout already */
			k->late = false;
			if (ok)
				k->state = LINK_CONNECTED;
			else
				link_fail(k, reason);
			return true;
		}
		bool connect = strcmp(k->open_command, "CONNECT") == 0;
		metrics_command(l->csm->metrics, k->open_command, ok ? "ok" : "error",
				monotonic_us() - k->commanded_us);
		link_close_command(k);
		if (k->leaving)
			link_leave(k);
		else if (connect && ok)
			k->state = LINK_CONNECTED;
		else if (connect)
			link_fail(k, reason);
		return true;
	}
	return false;
}

/* ---- after a restart ---- */

struct resending {
	struct links *links;
	struct err *err;
};

static int resend_row(void *arg, const struct db_value *v, size_t n)
{
	const struct resending *r = arg;
	struct links *l = r->links;
	(void)n;
	for (size_t i = 0; i < 5; i++)
		if (v[i].type != DB_TEXT)
			return 0;
	const struct device *d = registry_find(l->csm->registry, v[0].text);
	struct link *k = links_find(l, v[0].text, v[1].text, v[2].text);
	if (d == NULL || !d->online)
		return 0; /* hears of its links when it comes online */
	if (k != NULL && k->live > 0) {
		k->resend = true;
	} else if (strcmp(v[3].text, "DISCONNECT") == 0 &&
		   !csm_command(l->csm, v[0].text,
				json_pack("{s:s, s:s, s:s, s:s}", "msg_id", uuid4().s, v[2].text, v[1].text, "command", "DISCONNECT",
					  "topic", v[4].text))) {
		return err_set(r->err, ERR_NOMEM, "repeating a DISCONNECT");
	}
	return 0;
}

static void connect_again(void *arg, const char *key, void *value)
{
	struct link *k = value;
	(void)arg;
	(void)key;
	if (k->resend)
		link_connect(k);
	k->resend = false;
}

int links_resend(struct links *l, struct err *err)
{
	struct resending r = {.links = l, .err = err};
	int rc = db_run(store_db(l->csm->store), err, resend_row, &r,
			"SELECT da_id, feature, mode, command, topic FROM command");
	if (rc < 0)
		return rc;
	store_exec(l->csm->store, "DELETE FROM command WHERE command = 'DISCONNECT'");
	map_each(l->by_key, connect_again, NULL);
	return 0;
}
