#include "common/http_int.h"

#include "common/util.h"

#define SWEEP_MS       1000
#define PATIENCE_MS    200
#define CONNECTIONS    1000
#define MEMORY_BYTES   (64u << 20)
#define IDLE_S         30
#define HEAD_S         10
#define TRANSFER_S     60
#define RESERVE_ONE_IN 16 /* of the connections is kept free for those that come */

/* ---- closing ---- */

/* The library notices in its next run, as if the client had closed. */
static void cut(struct http_conn *c, const char *why)
{
	struct http_server *s = c->server;
	c->cut = true;
	s->n_cut++;
	shutdown(c->fd, SHUT_RDWR);
	if (c->req != NULL)
		http_hold(c->req, 0);
	if (s->on_cut != NULL)
		s->on_cut(s->arg, why);
}

/* The connection that has waited for its client longest, not counting `but`. holding: of those with
 * a body or an answer. NULL: none. */
static struct http_conn *longest(struct http_server *s, const struct http_conn *but, bool holding)
{
	struct http_conn *oldest = NULL;
	for (struct http_conn *c = s->conns; c != NULL; c = c->next)
		if (c != but && !c->cut && c->phase != HTTP_OURS &&
		    (!holding || (c->req != NULL && c->req->held_bytes > 0)) &&
		    (oldest == NULL || c->since_ms < oldest->since_ms))
			oldest = c;
	return oldest;
}

static bool is_full(const struct http_server *s)
{
	return s->n_conns - s->n_cut > s->max_conns - s->max_conns / RESERVE_ONE_IN;
}

/* Many may come at once and all be quick: only those who let us wait make room. */
static void make_room(struct http_server *s)
{
	int64_t now = loop_now_ms(s->loop);
	while (is_full(s)) {
		struct http_conn *c = longest(s, NULL, false);
		if (c == NULL || now - c->since_ms < PATIENCE_MS)
			return;
		cut(c, "full");
	}
}

/* Has the client said that it sends no more, with half a request before? The library overlooks that
 * if both came together. */
static bool is_gone(const struct http_conn *c)
{
	char byte;
	return c->phase != HTTP_ANSWER && recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* Who sends or reads a byte now and then is never idle, and never done. */
static void sweep(void *arg)
{
	struct http_server *s = arg;
	int64_t now = loop_now_ms(s->loop);
	for (struct http_conn *c = s->conns; c != NULL; c = c->next) {
		if (c->cut || c->phase == HTTP_OURS)
			continue;
		if (now - c->since_ms > s->phase_ms[c->phase])
			cut(c, "slow");
		else if (is_gone(c))
			cut(c, "gone");
	}
	make_room(s);
	if (s->conns != NULL)
		loop_arm(s->loop, s->sweeper, is_full(s) ? PATIENCE_MS : SWEEP_MS);
}

/* ---- memory ---- */

bool http_hold(struct http_request *req, size_t bytes)
{
	struct http_server *s = req->server;
	if (req->conn->cut)
		bytes = 0; /* what it has goes as soon as the library looks at it */
	s->held_bytes += bytes - req->held_bytes;
	req->held_bytes = bytes;
	while (bytes > 0 && s->held_bytes > s->memory_bytes) {
		struct http_conn *c = longest(s, req->conn, true);
		if (c == NULL)
			return false;
		cut(c, "memory");
	}
	return true;
}

/* ---- coming and going ---- */

struct http_conn *http_conn_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	return info != NULL ? info->socket_context : NULL;
}

void http_conn_enter(struct http_conn *c, enum http_phase phase)
{
	c->phase = phase;
	c->since_ms = loop_now_ms(c->server->loop);
}

static struct http_conn *conn_new(struct http_server *s, struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct http_conn *c = info != NULL ? calloc(1, sizeof(*c)) : NULL;
	if (c == NULL)
		return NULL; /* its requests will be refused */
	c->server = s;
	c->fd = info->connect_fd;
	http_conn_enter(c, HTTP_FIRST_HEAD);
	if (s->conns == NULL)
		loop_arm(s->loop, s->sweeper, SWEEP_MS);
	else
		s->conns->prev = c;
	c->next = s->conns;
	s->conns = c;
	s->n_conns++;
	make_room(s);
	if (is_full(s))
		loop_arm(s->loop, s->sweeper, PATIENCE_MS);
	return c;
}

static void conn_free(struct http_conn *c)
{
	struct http_server *s = c->server;
	*(c->prev != NULL ? &c->prev->next : &s->conns) = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	s->n_conns--;
	s->n_cut -= c->cut;
	free(c);
}

void http_conn_notify(void *arg, struct MHD_Connection *connection, void **context,
		      enum MHD_ConnectionNotificationCode what)
{
	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		*context = conn_new(arg, connection);
	} else if (*context != NULL) {
		conn_free(*context);
		*context = NULL;
	}
}

static int64_t ms_of(unsigned given_s, unsigned default_s)
{
	return (int64_t)(given_s != 0 ? given_s : default_s) * 1000;
}

int http_conns_start(struct http_server *s, const struct http_conf *c, struct err *err)
{
	s->max_conns = c->max_connections != 0 ? c->max_connections : CONNECTIONS;
	s->memory_bytes = c->memory_bytes != 0 ? c->memory_bytes : MEMORY_BYTES;
	s->phase_ms[HTTP_FIRST_HEAD] = ms_of(c->head_timeout_s, HEAD_S);
	s->phase_ms[HTTP_NEXT_HEAD] = ms_of(c->idle_timeout_s, IDLE_S);
	s->phase_ms[HTTP_BODY] = s->phase_ms[HTTP_ANSWER] =
		ms_of(c->transfer_timeout_s, TRANSFER_S);
	return loop_add_timer(s->loop, -1, 0, sweep, s, &s->sweeper, err);
}

unsigned http_connections(const struct http_server *s)
{
	return (unsigned)s->n_conns;
}
