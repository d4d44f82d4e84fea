#include "broker/commands.h"

#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define FDS(n) (1u << (n))

struct call {
	struct commands *c;
	struct session *s;
	struct plug_request req;
	const char *text; /* terminated; req.len bytes, NULs among them */
	const int *fds;
	size_t n_fds;
	struct reply *reply;
};

typedef int command_fn(struct call *c, struct err *err);

static int hello(struct call *c, struct err *err)
{
	struct reply *r = c->reply;

	r->head.slot = PLUG_VERSION;
	r->head.a = c->c->born;
	r->head.len = (uint32_t)snprintf(r->text, sizeof(r->text), "%s", IOTTALK_VERSION);
	if (c->req.slot != PLUG_VERSION)
		return err_set(err, ERR_CONFLICT, "the plugin speaks version %u, not %u",
			       PLUG_VERSION, c->req.slot);
	c->s->greeted = true;
	return 0;
}

static int port_add(struct call *c, struct err *err)
{
	enum plug_state state = PLUG_STATE_HELD;
	bool living;
	int rc = ports_add(c->c->ports, c->s, c->text, c->fds, c->n_fds, &c->reply->head.port,
			   &living, err);

	if (rc == 0)
		rc = ports_state(c->c->ports, c->reply->head.port, &state, err);
	if (rc < 0)
		return rc;
	c->reply->head.slot = state;
	c->reply->head.flags = living ? PLUG_LIVING : 0;
	return 0;
}

static int port_hold(struct call *c, struct err *err)
{
	struct port_standing s;
	int rc = ports_hold(c->c->ports, c->req.port, &s, err);

	if (rc < 0)
		return rc;
	c->reply->head.slot = s.slot;
	c->reply->head.a = s.done;
	c->reply->head.flags = (s.more ? PLUG_MORE : 0) | (s.sane ? PLUG_SANE : 0) |
			       (s.at_message ? PLUG_AT_MESSAGE : 0);
	return 0;
}

static int port_retire(struct call *c, struct err *err)
{
	return ports_retire(c->c->ports, c->req.port, (c->req.flags & PLUG_SKIP) != 0, err);
}

static int port_resume(struct call *c, struct err *err)
{
	return ports_resume(c->c->ports, c->req.port, c->fds, err);
}

static int port_remove(struct call *c, struct err *err)
{
	return ports_remove(c->c->ports, c->req.port, err);
}

static int tap(struct call *c, struct err *err)
{
	return ports_tap(c->c->ports, c->req.port, c->req.slot, c->text, err);
}

static int untap(struct call *c, struct err *err)
{
	return ports_untap(c->c->ports, c->req.port, c->req.slot, err);
}

static int out(struct call *c, struct err *err)
{
	return ports_out(c->c->ports, c->req.port, c->req.slot, c->text, err);
}

static int drop_out(struct call *c, struct err *err)
{
	return ports_drop_out(c->c->ports, c->req.port, c->req.slot, err);
}

static int walk(struct call *c, struct err *err)
{
	enum plug_state state;
	int rc = ports_state(c->c->ports, c->req.port, &state, err);

	if (rc < 0)
		return rc;
	c->s->walk.op = c->req.op;
	c->s->walk.seq = c->req.seq;
	c->s->walk.port = c->req.port;
	c->s->walk.cursor = 0;
	return 1;
}

static int stats(struct call *c, struct err *err)
{
	struct reply *r = c->reply;
	size_t len = ports_print_stats(c->c->ports, r->text, PLUG_TEXT_MAX);

	(void)err;
	len += (size_t)snprintf(r->text + len, sizeof(r->text) - len, "peers_refused %llu\n",
				(unsigned long long)c->c->peers_refused);
	r->head.len = (uint32_t)len;
	return 0;
}

static int echo(struct call *c, struct err *err)
{
	size_t first = strlen(c->text);

	if (first >= c->req.len || strlen(c->text + first + 1) != c->req.len - first - 1)
		return err_set(err, ERR_PARSE, "ECHO takes two topics, a NUL between them");
	return ports_echo(c->c->ports, c->s, c->text, c->text + first + 1, err);
}

static int publish(struct call *c, struct err *err)
{
	return ports_publish(c->c->ports, c->req.port, c->req.slot, c->req.flags, c->text,
			     c->req.len, err);
}

static int sweep(struct call *c, struct err *err)
{
	if (c->req.len == 0)
		return err_set(err, ERR_INVAL, "whose ports are to go?");
	c->reply->head.a = ports_sweep(c->c->ports, c->text);
	return 0;
}

static const struct command {
	const char *name;
	command_fn *fn;
	unsigned fds; /* FDS() of how many descriptors it may have */
	enum { NO_TEXT, STRING, BYTES } text;
} table[PLUG_OPS] = {
	[PLUG_HELLO] = {"HELLO", hello, FDS(0), BYTES},
	[PLUG_PORT_ADD] = {"PORT_ADD", port_add, FDS(2) | FDS(4), STRING},
	[PLUG_PORT_HOLD] = {"PORT_HOLD", port_hold, FDS(0), NO_TEXT},
	[PLUG_PORT_RETIRE] = {"PORT_RETIRE", port_retire, FDS(0), NO_TEXT},
	[PLUG_PORT_RESUME] = {"PORT_RESUME", port_resume, FDS(3), NO_TEXT},
	[PLUG_PORT_REMOVE] = {"PORT_REMOVE", port_remove, FDS(0), NO_TEXT},
	[PLUG_TAP] = {"TAP", tap, FDS(0), STRING},
	[PLUG_UNTAP] = {"UNTAP", untap, FDS(0), NO_TEXT},
	[PLUG_OUT] = {"OUT", out, FDS(0), STRING},
	[PLUG_DROP_OUT] = {"DROP_OUT", drop_out, FDS(0), NO_TEXT},
	[PLUG_LIST] = {"LIST", walk, FDS(0), NO_TEXT},
	[PLUG_STATS] = {"STATS", stats, FDS(0), NO_TEXT},
	[PLUG_SLOT_STATS] = {"SLOT_STATS", walk, FDS(0), NO_TEXT},
	[PLUG_ECHO] = {"ECHO", echo, FDS(0), BYTES},
	[PLUG_PUBLISH] = {"PUBLISH", publish, FDS(0), BYTES},
	[PLUG_SWEEP] = {"SWEEP", sweep, FDS(0), STRING},
};

static int check(const struct call *c, const struct packet *p, const struct command *cmd,
		 struct err *err)
{
	if (cmd->fn == NULL)
		return err_set(err, ERR_INVAL, "unknown operation %u", c->req.op);
	if (p->cut || c->req.len > PLUG_TEXT_MAX || c->req.len != p->len - sizeof(c->req))
		return err_set(err, ERR_PARSE, "%s: the packet's length is wrong", cmd->name);
	if ((cmd->fds & FDS(p->n_fds)) == 0)
		return err_set(err, ERR_PARSE, "%s: %zu descriptors", cmd->name, p->n_fds);
	if (cmd->text == NO_TEXT && c->req.len > 0)
		return err_set(err, ERR_PARSE, "%s takes no text", cmd->name);
	if (cmd->text == STRING && strlen(c->text) != c->req.len)
		return err_set(err, ERR_PARSE, "%s: a NUL in the text", cmd->name);
	if (!c->s->greeted && c->req.op != PLUG_HELLO)
		return err_set(err, ERR_INVAL, "HELLO comes first");
	return 0;
}

static void refuse(struct reply *r, int rc, const struct err *err)
{
	r->head.code = rc;
	r->head.len = (uint32_t)snprintf(r->text, sizeof(r->text), "%s", err->text);
}

int commands_run(struct commands *c, struct session *s, const struct packet *p, struct reply *ret)
{
	struct call call = {.c = c, .s = s, .fds = p->fds, .n_fds = p->n_fds, .reply = ret};
	const struct command *cmd;
	struct err err = {0};
	char text[PLUG_TEXT_MAX + 1];

	if (p->len < sizeof(call.req))
		return ERR_PARSE;
	memcpy(&call.req, p->data, sizeof(call.req));
	if (call.req.seq == 0)
		return ERR_PARSE;
	size_t len = p->len - sizeof(call.req);

	if (len > PLUG_TEXT_MAX)
		len = PLUG_TEXT_MAX;
	memcpy(text, (const char *)p->data + sizeof(call.req), len);
	text[len] = '\0';
	call.text = text;
	ret->head = (struct plug_answer){.op = call.req.op, .seq = call.req.seq};
	cmd = &table[call.req.op < PLUG_OPS ? call.req.op : 0]; /* 0 is none */
	int rc = check(&call, p, cmd, &err);

	if (rc == 0)
		rc = cmd->fn(&call, &err);
	if (rc < 0)
		refuse(ret, rc, &err);
	return rc > 0;
}

bool commands_go_on(struct commands *c, struct session *s, struct reply *ret)
{
	struct port_topic t;
	struct err err = {0};
	int rc;

	if (s->walk.op == 0)
		return false;
	ret->head =
		(struct plug_answer){.op = s->walk.op, .seq = s->walk.seq, .port = s->walk.port};
	rc = ports_next_topic(c->ports, s->walk.port, &s->walk.cursor, &t, &err);
	if (rc == 0 && s->walk.op == PLUG_LIST) {
		uint32_t in = 0, out = 0;

		rc = ports_slots(c->ports, s->walk.port, &in, &out, &err);
		ret->head.a = in;
		ret->head.b = out;
	}
	if (rc < 0)
		refuse(ret, rc, &err);
	if (rc <= 0 || (s->walk.op == PLUG_SLOT_STATS && t.outward)) {
		s->walk.op = 0;
		return true;
	}
	ret->head.flags = PLUG_MORE | (t.outward ? PLUG_OUTWARD : 0);
	ret->head.slot = t.slot;
	if (s->walk.op == PLUG_SLOT_STATS) {
		ret->head.a = t.received;
		ret->head.b = t.no_room;
		ret->head.c = t.too_large;
	} else {
		ret->head.len = (uint32_t)strlen(t.topic);
		memcpy(ret->text, t.topic, ret->head.len);
	}
	return true;
}
