/* ctl.c - the local control socket of a daemon. */
#include "common/ctl.h"
#include "common/ctl_addr.h"
#include "common/log.h"
#include "common/shortage.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define CONNS_MAX        64
#define ANSWER_MAX_BYTES (64 * 1024 * 1024)
#define UNSENT_AGAIN_MS  50

struct conn {
	struct ctl *ctl;
	struct conn *next;
	int fd;
	struct loop_src *src;
	char *in;
	size_t in_len, in_cap;
	char *out; /* what the socket did not take yet */
	size_t out_len, out_sent;
	struct ctl_call *call; /* being answered; the next request waits */
	bool at_end;           /* the client sends no more */
};

struct ctl {
	struct loop *loop;
	char *path;
	int fd;
	struct loop_src *src;
	const struct ctl_op *ops;
	size_t n_ops;
	void *arg;
	struct conn *conns;
	unsigned n_conns;
	struct ctl_call *unsent; /* answers that there was no memory to send */
	struct loop_src *again;  /* tries again */
};

struct ctl_call {
	struct conn *conn; /* NULL: the client is gone */
	json_t *answer;
	struct ctl_call *next; /* of the unsent */
};

static void conn_close(struct conn *c)
{
	struct ctl *ctl = c->ctl;

	for (struct conn **at = &ctl->conns; *at != NULL; at = &(*at)->next) {
		if (*at == c) {
			*at = c->next;
			break;
		}
	}
	ctl->n_conns--;
	if (c->call != NULL)
		c->call->conn = NULL;
	loop_remove(ctl->loop, c->src);
	close(c->fd);
	free(c->in);
	free(c->out);
	free(c);
}

static char *line_end(const struct conn *c)
{
	return c->in_len > 0 ? memchr(c->in, '\n', c->in_len) : NULL;
}

/* Send what can be sent and choose what to wait for. ret: false when the connection is gone */
static bool conn_flush(struct conn *c)
{
	while (c->out_sent < c->out_len) {
		ssize_t n = send(c->fd, c->out + c->out_sent, c->out_len - c->out_sent,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			conn_close(c);
			return false;
		}
		c->out_sent += (size_t)n;
	}
	if (c->out_sent == c->out_len) {
		free(c->out);
		c->out = NULL;
		c->out_sent = c->out_len = 0;
	}
	/* While an answer is being made the next request waits. A request already here is taken up
	 * in the next turn, by way of EPOLLOUT: a call from here would recurse as deep as there are
	 * requests. */
	uint32_t events = EPOLLIN;

	if (c->call != NULL)
		events = 0;
	else if (c->out != NULL || line_end(c) != NULL)
		events = EPOLLOUT;
	else if (c->at_end) {
		conn_close(c);
		return false;
	}
	if (loop_set_events(c->ctl->loop, c->src, events) < 0) {
		conn_close(c);
		return false;
	}
	return true;
}

/* The last words on a connection. */
static void no_memory(const struct ctl *ctl, int fd)
{
	static const char words[] = "{\"state\":\"error\",\"reason\":\"out of memory\"}\n";

	send(fd, words, sizeof(words) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (log_allowed("ctl.no_memory", ctl->path))
		log_error("ctl.no_answer", KV("socket", ctl->path), KV("why", "out of memory"));
}

static json_t *help_answer(const struct ctl *ctl)
{
	json_t *ops = json_object();

	for (size_t i = 0; i < ctl->n_ops; i++)
		json_object_set_new(ops, ctl->ops[i].op,
				    json_string(ctl->ops[i].help != NULL ? ctl->ops[i].help : ""));
	return json_pack("{s:s, s:o}", "state", "ok", "ops", ops);
}

static void handle(struct conn *c, const char *line, size_t len)
{
	struct ctl *ctl = c->ctl;
	struct ctl_call *call = calloc(1, sizeof(*call));
	json_error_t why;
	unsigned long shortages = shortage_count();
	json_auto_t *request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &why);
	const char *op = json_string_value(json_object_get(request, "op"));

	if (call == NULL || shortage_count() != shortages) {
		free(call);
		no_memory(ctl, c->fd);
		conn_close(c);
		return;
	}
	call->conn = c;
	c->call = call;
	if (loop_set_events(ctl->loop, c->src, 0) < 0) {
		conn_close(c);
		free(call);
		return;
	}
	if (!json_is_object(request)) {
		ctl_answer_error(call, "the request is not a JSON object");
		return;
	}
	if (op == NULL) {
		ctl_answer_error(call, "the request has no op");
		return;
	}
	for (size_t i = 0; i < ctl->n_ops; i++) {
		if (strcmp(ctl->ops[i].op, op) == 0) {
			ctl->ops[i].handler(ctl->arg, request, call);
			return;
		}
	}
	if (strcmp(op, "help") == 0) {
		ctl_answer(call, help_answer(ctl));
		return;
	}
	char reason[120];

	snprintf(reason, sizeof(reason), "op %.60s unknown", op);
	ctl_answer_error(call, reason);
}

/* Handle the next whole line unless an answer is still owed. */
static void conn_next(struct conn *c)
{
	char *end = line_end(c);

	if (c->call != NULL || c->out != NULL)
		return;
	if (end != NULL) {
		size_t len = (size_t)(end - c->in);
		CLEANUP(freep)
		char *line = malloc(len + 1);

		if (line == NULL) {
			no_memory(c->ctl, c->fd);
			conn_close(c);
			return;
		}
		memcpy(line, c->in, len);
		c->in_len -= len + 1;
		memmove(c->in, end + 1, c->in_len);
		handle(c, line, len); /* may close the connection */
		return;
	}
	if (c->in_len >= CTL_LINE_MAX) {
		if (log_allowed("ctl.request_too_long", c->ctl->path))
			log_warn("ctl.request_too_long", KV("socket", c->ctl->path));
		conn_close(c);
		return;
	}
	conn_flush(c);
}

static bool conn_reserve(struct conn *c)
{
	if (c->in_cap - c->in_len >= 4096)
		return true;
	size_t cap = c->in_cap == 0 ? 8192 : c->in_cap * 2;
	char *more = realloc(c->in, cap);

	if (more == NULL)
		return false;
	c->in = more;
	c->in_cap = cap;
	return true;
}

static void on_conn(void *arg, uint32_t events)
{
	struct conn *c = arg;

	if (events & EPOLLIN) {
		if (!conn_reserve(c)) {
			no_memory(c->ctl, c->fd);
			conn_close(c);
			return;
		}
		ssize_t n = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			conn_close(c);
			return;
		}
		c->at_end = n == 0;
		c->in_len += (size_t)n;
		conn_next(c);
		return;
	}
	if (events & (EPOLLERR | EPOLLHUP)) {
		conn_close(c);
		return;
	}
	if ((events & EPOLLOUT) && conn_flush(c))
		conn_next(c);
}

static void on_accept(void *arg, uint32_t events)
{
	struct ctl *ctl = arg;
	struct ucred peer;
	socklen_t len = sizeof(peer);
	CLEANUP(closep)
	int fd = accept4(ctl->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ||
	    (peer.uid != geteuid() && peer.uid != 0)) {
		if (log_allowed("ctl.refused", ctl->path))
			log_warn("ctl.refused", KV("socket", ctl->path),
				 KV("uid", (int64_t)peer.uid));
		return;
	}
	if (ctl->n_conns >= CONNS_MAX) {
		if (log_allowed("ctl.too_many", ctl->path))
			log_warn("ctl.too_many", KV("socket", ctl->path));
		return;
	}
	struct conn *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		no_memory(ctl, fd);
		return;
	}
	c->ctl = ctl;
	c->fd = fd;
	if (loop_add_fd(ctl->loop, fd, EPOLLIN, on_conn, c, &c->src, NULL) < 0) {
		no_memory(ctl, fd);
		free(c);
		return;
	}
	(void)TAKE_FD(fd);
	c->next = ctl->conns;
	ctl->conns = c;
	ctl->n_conns++;
}

static int listen_at(const char *path, struct err *err)
{
	struct sockaddr_un addr;
	CLEANUP(closep)
	int dir_fd = ctl_address(path, &addr, err);

	if (dir_fd < 0)
		return dir_fd;
	CLEANUP(closep)
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return err_sys(err, "control socket");
	if (unlink(path) < 0 && errno != ENOENT)
		return err_sys(err, "cannot replace '%s'", path);
	/* The mode of the socket becomes that of the file. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(fd, 16) < 0)
		return err_sys(err, "control socket '%s'", path);
	return TAKE_FD(fd);
}

/* ret: false: there was no memory for its words. */
static bool try_answer(struct ctl_call *call)
{
	struct conn *c = call->conn;
	char *text = c != NULL ? shortage_dumps(call->answer) : NULL;

	if (text != NULL && strlen(text) > ANSWER_MAX_BYTES) {
		free(text);
		text = strdup("{\"state\":\"error\",\"reason\":\"the answer is too long\"}");
	}
	if (c != NULL && text == NULL)
		return false;
	json_decref(call->answer);
	free(call);
	if (c == NULL)
		return true;
	c->call = NULL;
	c->out = text;
	c->out_len = strlen(text) + 1;
	text[c->out_len - 1] = '\n';
	c->out_sent = 0;
	conn_flush(c);
	return true;
}

static void keep_unsent(struct ctl *ctl, struct ctl_call *call)
{
	call->next = ctl->unsent;
	ctl->unsent = call;
	loop_arm(ctl->loop, ctl->again, UNSENT_AGAIN_MS);
}

static void try_again(void *arg)
{
	struct ctl *ctl = arg;

	for (struct ctl_call *call = TAKE(ctl->unsent), *next; call != NULL; call = next) {
		next = call->next;
		if (!try_answer(call))
			keep_unsent(ctl, call);
	}
}

int ctl_listen(struct loop *l, const char *path, const struct ctl_op *ops, size_t n, void *arg,
	       struct ctl **ret, struct err *err)
{
	struct ctl *ctl = calloc(1, sizeof(*ctl));
	int rc = ERR_NOMEM;

	if (ctl == NULL)
		return err_set(err, ERR_NOMEM, "control socket");
	ctl->loop = l;
	ctl->ops = ops;
	ctl->n_ops = n;
	ctl->arg = arg;
	ctl->fd = -1;
	ctl->path = strdup(path);
	if (ctl->path == NULL) {
		err_set(err, ERR_NOMEM, "control socket");
		goto fail;
	}
	rc = loop_add_timer(l, -1, 0, try_again, ctl, &ctl->again, err);
	if (rc < 0)
		goto fail;
	ctl->fd = rc = listen_at(path, err);
	if (rc < 0)
		goto fail;
	rc = loop_add_fd(l, ctl->fd, EPOLLIN, on_accept, ctl, &ctl->src, err);
	if (rc < 0)
		goto fail;
	*ret = ctl;
	return 0;
fail:
	ctl_close(ctl);
	return rc;
}

struct ctl *ctl_close(struct ctl *c)
{
	if (c == NULL)
		return NULL;
	while (c->conns != NULL)
		conn_close(c->conns);
	try_again(c); /* nobody is there any more: no memory is needed */
	loop_remove(c->loop, c->again);
	if (c->fd >= 0) {
		loop_remove(c->loop, c->src);
		close(c->fd);
		unlink(c->path);
	}
	free(c->path);
	free(c);
	return NULL;
}

void ctl_answer(struct ctl_call *call, json_t *answer)
{
	struct conn *c = call->conn;

	if (c != NULL && answer == NULL) {
		no_memory(c->ctl, c->fd);
		conn_close(c);
		free(call);
		return;
	}
	call->answer = answer;
	if (!try_answer(call))
		keep_unsent(c->ctl, call);
}

void ctl_answer_error(struct ctl_call *call, const char *reason)
{
	ctl_answer(call,
		   json_pack("{s:s, s:s%}", "state", "error", "reason", reason, strlen(reason)));
}
