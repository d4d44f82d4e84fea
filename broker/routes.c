#include "broker/ports_int.h"

#include "broker/mosq.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define TABLE_MIN 64u

struct out port_dropped;

/* ---- names ---- */

/* Topics of ours are one level below a prefix; all of it printable ASCII, so nothing that a client
 * could choke on. */
static bool below(const char *topic, const char *prefix)
{
	size_t len = strlen(prefix);
	const char *c = topic + len;

	if (strncmp(topic, prefix, len) != 0 || *c == '\0')
		return false;
	while (*c > 0x20 && *c < 0x7f && strchr("/+#", *c) == NULL)
		c++;
	return *c == '\0';
}

static int check_topic(const char *topic, bool monitor_too, struct err *err)
{
	if (!below(topic, ESM_PREFIX) && !(monitor_too && below(topic, MONITOR_PREFIX)))
		return err_set(err, ERR_ACCES, "'%.80s' is no topic for this", topic);
	if (strlen(topic) > PLUG_TEXT_MAX)
		return err_set(err, ERR_RANGE, "the topic is longer than %u bytes", PLUG_TEXT_MAX);
	return 0;
}

/* ---- tables by slot ---- */

static int grow(struct ports *ps, struct table *t, uint32_t slot, struct err *err)
{
	uint32_t want = t->n > 0 ? t->n : TABLE_MIN;

	while (want <= slot)
		want *= 2;
	int rc = ports_charge(ps, (want - t->n) * sizeof(void *), err);

	if (rc < 0)
		return rc;
	void **more = realloc(t->at, want * sizeof(void *));

	if (more == NULL) {
		ports_uncharge(ps, (want - t->n) * sizeof(void *));
		return err_set(err, ERR_NOMEM, "out of memory for slots");
	}
	memset(more + t->n, 0, (want - t->n) * sizeof(void *));
	t->at = more;
	t->n = want;
	return 0;
}

static int reserve(struct ports *ps, struct table *t, uint32_t slot, struct err *err)
{
	if (slot >= SLOTS_MAX)
		return err_set(err, ERR_RANGE, "slot %u: there are %u", slot, SLOTS_MAX);
	int rc = slot < t->n ? 0 : grow(ps, t, slot, err);

	if (rc == 0 && slot >= t->used)
		t->used = slot + 1;
	return rc;
}

static void table_done(struct ports *ps, struct table *t)
{
	ports_uncharge(ps, t->n * sizeof(void *));
	free(t->at);
	*t = (struct table){0};
}

/* ---- topics ---- */

static size_t topic_bytes(const struct topic *t)
{
	return sizeof(*t) + strlen(t->name) + 1;
}

/* ret: the topic, made if it is not there; NULL: ERR_LIMIT or ERR_NOMEM, in *ret_rc too. */
static struct topic *topic_get(struct ports *ps, const char *name, int *ret_rc, struct err *err)
{
	struct topic *t = topic_table_find(ps->topics, name);
	size_t len = strlen(name) + 1;

	if (t != NULL)
		return t;
	*ret_rc = ports_charge(ps, sizeof(*t) + len, err);
	if (*ret_rc < 0)
		return NULL;
	t = calloc(1, sizeof(*t) + len);
	if (t != NULL)
		memcpy(t->name, name, len);
	if (t == NULL || topic_table_add(ps->topics, t->name, t) < 0) {
		free(t);
		ports_uncharge(ps, sizeof(*t) + len);
		*ret_rc = err_set(err, ERR_NOMEM, "out of memory for a topic");
		return NULL;
	}
	return t;
}

static void topic_drop_unused(struct ports *ps, struct topic *t)
{
	if (t->routes != NULL || t->n_echoes > 0)
		return;
	topic_table_remove(ps->topics, t->name);
	ports_uncharge(ps, topic_bytes(t));
	free(t);
}

/* ---- messages ---- */

static struct route *route_to(const struct topic *t, const struct port *p)
{
	struct route *r = t->routes;

	while (r != NULL && r->port != p)
		r = r->next;
	return r;
}

static int add_route(struct port *p, struct topic *t, uint32_t slot, struct err *err)
{
	struct route *r = route_to(t, p);
	int rc;

	if (r != NULL)
		return err_set(err, ERR_EXIST, "the topic has slot %u already", r->slot);
	rc = ports_charge(p->ps, sizeof(*r), err);
	if (rc < 0)
		return rc;
	r = calloc(1, sizeof(*r));
	if (r == NULL) {
		ports_uncharge(p->ps, sizeof(*r));
		return err_set(err, ERR_NOMEM, "out of memory for a route");
	}
	*r = (struct route){.next = t->routes, .topic = t, .port = p, .slot = slot};
	t->routes = r;
	p->in.at[slot] = r;
	return 0;
}

int ports_tap(struct ports *ps, uint32_t port, uint32_t slot, const char *topic, struct err *err)
{
	struct port *p = ports_find(ps, port, err);
	const struct route *r;
	struct topic *t;
	int rc;

	if (p == NULL)
		return ERR_NOENT;
	rc = check_topic(topic, false, err);
	if (rc == 0)
		rc = reserve(ps, &p->in, slot, err);
	if (rc < 0)
		return rc;
	r = p->in.at[slot];
	if (r != NULL) {
		if (strcmp(r->topic->name, topic) == 0)
			return 0;
		return err_set(err, ERR_EXIST, "slot %u is another topic's", slot);
	}
	t = topic_get(ps, topic, &rc, err);
	if (t == NULL)
		return rc;
	rc = add_route(p, t, slot, err);
	topic_drop_unused(ps, t);
	return rc;
}

static void drop_route(struct port *p, struct route *r)
{
	struct route **at = &r->topic->routes;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	topic_drop_unused(p->ps, r->topic);
	p->in.at[r->slot] = NULL;
	ports_uncharge(p->ps, sizeof(*r));
	free(r);
}

int ports_untap(struct ports *ps, uint32_t port, uint32_t slot, struct err *err)
{
	struct port *p = ports_find(ps, port, err);
	struct route *r = p != NULL ? table_at(&p->in, slot) : NULL;

	if (p == NULL)
		return ERR_NOENT;
	if (r == NULL)
		return err_set(err, ERR_NOENT, "slot %u has no topic", slot);
	drop_route(p, r);
	return 0;
}

/* ---- results ---- */

static size_t out_bytes(const struct out *o)
{
	return sizeof(*o) + o->name_len + 1;
}

static void drop_out(struct port *p, uint32_t slot)
{
	struct out *o = p->out.at[slot];

	p->out.at[slot] = DROPPED;
	ports_uncharge(p->ps, out_bytes(o));
	free(o);
}

int ports_out(struct ports *ps, uint32_t port, uint32_t slot, const char *topic, struct err *err)
{
	struct port *p = ports_find(ps, port, err);
	size_t len = strlen(topic);
	struct out *o;
	int rc;

	if (p == NULL)
		return ERR_NOENT;
	rc = check_topic(topic, true, err);
	if (rc == 0)
		rc = reserve(ps, &p->out, slot, err);
	if (rc < 0)
		return rc;
	o = p->out.at[slot];
	if (o != NULL && o != DROPPED) {
		if (strcmp(o->name, topic) == 0)
			return 0;
		return err_set(err, ERR_EXIST, "slot %u is another topic's", slot);
	}
	rc = ports_charge(ps, sizeof(*o) + len + 1, err);
	if (rc < 0)
		return rc;
	o = calloc(1, sizeof(*o) + len + 1);
	if (o == NULL) {
		ports_uncharge(ps, sizeof(*o) + len + 1);
		return err_set(err, ERR_NOMEM, "out of memory for a topic");
	}
	o->name_len = len;
	memcpy(o->name, topic, len + 1);
	p->out.at[slot] = o;
	return 0;
}

int ports_drop_out(struct ports *ps, uint32_t port, uint32_t slot, struct err *err)
{
	struct port *p = ports_find(ps, port, err);

	if (p == NULL)
		return ERR_NOENT;
	const struct out *o = table_at(&p->out, slot);

	if (o == NULL || o == DROPPED)
		return err_set(err, ERR_NOENT, "slot %u has no topic", slot);
	drop_out(p, slot);
	return 0;
}

int ports_publish(struct ports *ps, uint32_t port, uint32_t slot, unsigned qos, const void *payload,
		  size_t len, struct err *err)
{
	const struct port *p = ports_find(ps, port, err);
	const struct out *o = p != NULL ? table_at(&p->out, slot) : NULL;

	if (p == NULL)
		return ERR_NOENT;
	if (o == NULL || o == DROPPED)
		return err_set(err, ERR_NOENT, "slot %u has no topic", slot);
	if (qos > 2)
		return err_set(err, ERR_RANGE, "QoS %u", qos);
	if (mosquitto_broker_publish_copy(NULL, o->name, (int)len, payload, (int)qos, false,
					  NULL) != MOSQ_ERR_SUCCESS) {
		ps->n.publish_failed++;
		return err_set(err, ERR_NOMEM, "the broker does not take the message");
	}
	ps->n.published++;
	return 0;
}

/* ---- both ---- */

int ports_next_topic(const struct ports *ps, uint32_t port, uint64_t *cursor,
		     struct port_topic *ret, struct err *err)
{
	const struct port *p = ports_find(ps, port, err);

	if (p == NULL)
		return ERR_NOENT;
	for (; *cursor < p->in.n; ++*cursor) {
		const struct route *r = p->in.at[*cursor];

		if (r == NULL)
			continue;
		*ret = (struct port_topic){
			.slot = r->slot,
			.topic = r->topic->name,
			.received = r->received,
			.no_room = r->no_room,
			.too_large = r->too_large,
		};
		++*cursor;
		return 1;
	}
	/* the second half of the cursor's way */
	for (*cursor = *cursor < SLOTS_MAX ? SLOTS_MAX : *cursor; *cursor - SLOTS_MAX < p->out.n;
	     ++*cursor) {
		uint32_t slot = (uint32_t)(*cursor - SLOTS_MAX);
		const struct out *o = p->out.at[slot];

		if (o == NULL || o == DROPPED)
			continue;
		*ret = (struct port_topic){.slot = slot, .outward = true, .topic = o->name};
		++*cursor;
		return 1;
	}
	return 0;
}

int ports_slots(const struct ports *ps, uint32_t port, uint32_t *ret_in, uint32_t *ret_out,
		struct err *err)
{
	const struct port *p = ports_find(ps, port, err);

	if (p == NULL)
		return ERR_NOENT;
	*ret_in = p->in.used;
	*ret_out = p->out.used;
	return 0;
}

void port_drop_topics(struct port *p)
{
	for (uint32_t slot = 0; slot < p->in.n; slot++)
		if (p->in.at[slot] != NULL)
			drop_route(p, p->in.at[slot]);
	for (uint32_t slot = 0; slot < p->out.n; slot++)
		if (p->out.at[slot] != NULL && p->out.at[slot] != DROPPED)
			drop_out(p, slot);
	table_done(p->ps, &p->in);
	table_done(p->ps, &p->out);
}

/* ---- echoes ---- */

static void drop_echo(struct ports *ps, struct echo **at)
{
	struct echo *e = *at;
	struct topic *from = e->from;

	*at = e->next;
	from->n_echoes--;
	ports_uncharge(ps, sizeof(*e) + strlen(e->to) + 1);
	free(e);
	topic_drop_unused(ps, from);
}

int ports_echo(struct ports *ps, const void *owner, const char *from, const char *to,
	       struct err *err)
{
	size_t len = strlen(to) + 1;
	unsigned n = 0;
	struct topic *t = NULL;
	int rc = check_topic(from, false, err);

	if (rc == 0)
		rc = check_topic(to, false, err);
	if (rc < 0)
		return rc;
	for (const struct echo *e = ps->echoes; e != NULL; e = e->next)
		n += e->owner == owner;
	if (n >= ECHOES_MAX)
		return err_set(err, ERR_LIMIT, "%u echoes are being waited for", n);
	rc = ports_charge(ps, sizeof(struct echo) + len, err);
	if (rc < 0)
		return rc;
	struct echo *e = calloc(1, sizeof(*e) + len);

	if (e == NULL)
		rc = err_set(err, ERR_NOMEM, "out of memory for an echo");
	else
		t = topic_get(ps, from, &rc, err);
	if (t == NULL) {
		ports_uncharge(ps, sizeof(*e) + len);
		free(e);
		return rc;
	}
	*e = (struct echo){.next = ps->echoes, .from = t, .owner = owner};
	memcpy(e->to, to, len);
	t->n_echoes++;
	ps->echoes = e;
	return 0;
}

void ports_forget_echoes(struct ports *ps, const void *owner)
{
	for (struct echo **at = &ps->echoes; *at != NULL;)
		if (owner == NULL || (*at)->owner == owner)
			drop_echo(ps, at);
		else
			at = &(*at)->next;
}

void topic_echo(struct ports *ps, struct topic *topic, const struct mosquitto_evt_message *m)
{
	for (struct echo **at = &ps->echoes; *at != NULL;) {
		if ((*at)->from != topic) {
			at = &(*at)->next;
			continue;
		}
		if (mosquitto_broker_publish_copy(NULL, (*at)->to, (int)m->payloadlen, m->payload,
						  m->qos, false, NULL) == MOSQ_ERR_SUCCESS)
			ps->n.echoes++;
		drop_echo(ps, at);
	}
}
