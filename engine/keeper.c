#include "common/log.h"
#include "common/util.h"
#include "engine/keeper_int.h"
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define FRAMES_PER_TURN 64
#define RETRY_MS        10
#define NAME_MAX_BYTES  200

/* ---- the agent's connection ---- */

static void watch_agent(struct keeper *k)
{
	uint32_t want = EPOLLIN | (frames_waiting(&k->agent) && !k->agent.stuck ? EPOLLOUT : 0);
	if (want != k->agent_events && loop_set_events(k->loop, k->agent_src, want) == 0)
		k->agent_events = want;
	if (k->agent.stuck)
		loop_arm(k->loop, k->retry_timer, RETRY_MS);
}

static void set_full(struct keeper *k, bool full)
{
	if (full == k->full)
		return;
	k->full = full;
	for (struct child *c = k->children; c != NULL; c = c->next)
		child_watch(c);
}

/* why NULL: it closed the connection. */
static void lose_agent(struct keeper *k, const char *why)
{
	if (k->agent_fd < 0)
		return;
	if (why != NULL)
		log_warn("keeper.agent_refused", KV("why", why));
	k->agent_src = loop_remove(k->loop, k->agent_src);
	frames_done(&k->agent);
	closep(&k->agent_fd);
	loop_arm(k->loop, k->orphan_timer, k->conf->orphan_ms);
	loop_arm(k->loop, k->retry_timer, -1);
	for (struct child *c = k->children; c != NULL; c = c->next)
		child_orphan(c);
	set_full(k, false);
}

void keeper_tell(struct keeper *k, struct frame *f)
{
	if (f == NULL)
		lose_agent(k, "out of memory for what it must be told");
	else if (k->agent_fd < 0)
		frame_free(f);
	else
		frames_put(&k->agent, f);
}

static void flush_agent(struct keeper *k)
{
	struct err err = {0};
	if (k->agent_fd < 0)
		return;
	if (frames_waiting(&k->agent) && frames_flush(&k->agent, &err) < 0) {
		lose_agent(k, NULL);
		return;
	}
	watch_agent(k);
	set_full(k, k->agent.waiting > KEEPER_WINDOW);
}

static void on_turn(void *arg)
{
	flush_agent(arg);
}

/* ---- what it asks for ---- */

static json_t *conf_json(const struct keeper *k)
{
	static const char *const qos[] = {"auto", "0", "1", "2"};
	const struct engine_conf *c = &k->conf->engine;
	return json_pack("{s:I, s:I, s:I, s:s, s:s}", "memory_mb", (json_int_t)c->memory_mb,
			 "function_mb", (json_int_t)c->function_mb, "max_payload",
			 (json_int_t)c->max_payload_bytes, "qos", qos[c->qos + 1], "sandbox",
			 k->conf->strict ? "strict" : "degraded");
}

static int op_hello(struct keeper *k, json_t *msg, struct frame *f)
{
	json_int_t n = 0;
	(void)msg;
	(void)f;
	for (struct child *c = k->children; c != NULL; c = c->next)
		n += !c->ending;
	json_auto_t *answer =
		json_pack("{s:s, s:s, s:o, s:O, s:I, s:I}", "op", "hello", "version",
			  IOTTALK_VERSION, "conf", conf_json(k), "layers", k->layers, "engines", n,
			  "last", (json_int_t)k->last_number);
	keeper_tell(k, answer != NULL ? frame_of(0, answer, NULL) : NULL);
	for (struct child *c = k->children; c != NULL; c = c->next)
		if (!c->ending) /* of those an earlier agent has heard, or did not want to hear */
			child_announce(c);
	return 0;
}

/* ret: 0: no engine's number. */
static uint32_t number_of(json_t *msg)
{
	json_int_t n = json_integer_value(json_object_get(msg, "engine"));
	return n > 0 && n <= INT32_MAX ? (uint32_t)n : 0;
}

static int op_spawn(struct keeper *k, json_t *msg, struct frame *f)
{
	uint32_t number = number_of(msg);
	const char *name = json_string_value(json_object_get(msg, "name"));
	if (number == 0 || child_find(k, number) != NULL || f->n_fds != 3 || name == NULL ||
	    strlen(name) > NAME_MAX_BYTES)
		return ERR_PEER;
	if (number > k->last_number)
		k->last_number = number;
	return child_spawn(k, number, name, f->fds);
}

static int op_end(struct keeper *k, json_t *msg, struct frame *f)
{
	struct child *c = child_find(k, number_of(msg));
	(void)f;
	if (c != NULL)
		child_end(c);
	return 0;
}

static int op_note(struct keeper *k, json_t *msg, struct frame *f)
{
	struct child *c = child_find(k, number_of(msg));
	const char *text = json_string_value(json_object_get(msg, "text"));
	(void)f;
	if (text == NULL || strlen(text) >= sizeof(c->note))
		return ERR_PEER;
	if (c != NULL)
		memcpy(c->note, text, strlen(text) + 1);
	return 0;
}

static int op_quit(struct keeper *k, json_t *msg, struct frame *f)
{
	(void)msg;
	(void)f;
	loop_quit(k->loop, 0);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(struct keeper *k, json_t *msg, struct frame *f);
} ops[] = {
	{"hello", op_hello},
	{"spawn", op_spawn},
	{"end", op_end},
	{"note", op_note},
	{"quit", op_quit},
};

static int run_op(struct keeper *k, struct frame *f)
{
	json_auto_t *msg = json_loadb(f->body, f->len, 0, NULL);
	const char *op = json_string_value(json_object_get(msg, "op"));
	for (size_t i = 0; op != NULL && i < ARRAY_LEN(ops); i++)
		if (strcmp(op, ops[i].name) == 0)
			return ops[i].run(k, msg, f);
	return ERR_PEER;
}

/* f: taken. ret: 0, or negative: it is no agent of ours. */
static int handle(struct keeper *k, struct frame *f)
{
	if (f->number != 0 && f->n_fds == 0) {
		struct child *c = child_find(k, f->number);
		if (c != NULL)
			return child_put(c, f);
		frame_free(f);
		return 0;
	}
	int rc = f->number == 0 ? run_op(k, f) : ERR_PEER;
	frame_free(f);
	return rc;
}

static void read_agent(struct keeper *k)
{
	struct err err = {0};
	struct frame *f = NULL;
	int fd = k->agent_fd;
	for (unsigned i = 0; i < FRAMES_PER_TURN && k->agent_fd == fd; i++) {
		int rc = frames_read(&k->agent, &f, &err);
		if (rc == 0)
			return;
		if (rc < 0)
			lose_agent(k, strcmp(err.text, "closed") == 0 ? NULL : err.text);
		else if (handle(k, f) < 0)
			lose_agent(k, "it breaks the rules of the protocol");
	}
}

static void on_agent(void *arg, uint32_t events)
{
	struct keeper *k = arg;
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		read_agent(k);
	/* what there is to write is written at the end of the turn */
}

static void on_retry(void *arg)
{
	(void)arg; /* the end of this turn tries */
}

/* ---- who comes, who stays away ---- */

static void on_connect(void *arg, uint32_t events)
{
	struct keeper *k = arg;
	struct ucred who = {0};
	socklen_t len = sizeof(who);
	struct err err = {0};
	(void)events;
	CLEANUP(closep)
	int fd = accept4(k->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 ||
	    (who.uid != k->starter && who.uid != 0)) {
		log_warn("keeper.stranger", KV("uid", (int64_t)who.uid));
		return;
	}
	lose_agent(k, k->agent_fd >= 0 ? "a newer one has come" : NULL);
	if (loop_add_fd(k->loop, fd, EPOLLIN, on_agent, k, &k->agent_src, &err) < 0) {
		log_error("keeper.agent_failed", KV("why", err.text));
		return;
	}
	k->agent_fd = TAKE_FD(fd);
	k->agent_events = EPOLLIN;
	frames_init(&k->agent, k->agent_fd, FRAMES_NUMBERED);
	loop_arm(k->loop, k->orphan_timer, -1);
}

static void on_orphan(void *arg)
{
	struct keeper *k = arg;
	log_info("keeper.orphaned", KV("after_ms", k->conf->orphan_ms));
	loop_quit(k->loop, 0);
}

static void on_term(void *arg)
{
	struct keeper *k = arg;
	loop_quit(k->loop, 0);
}

int keeper_serve(struct keeper *k, struct err *err)
{
	static const int stops[] = {SIGTERM, SIGINT};
	int rc = loop_add_fd(k->loop, k->listen_fd, EPOLLIN, on_connect, k, NULL, err);
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(stops); i++)
		rc = loop_add_signal(k->loop, stops[i], on_term, k, err);
	if (rc == 0)
		rc = loop_add_timer(k->loop, k->conf->orphan_ms, 0, on_orphan, k, &k->orphan_timer,
				    err);
	if (rc == 0)
		rc = loop_add_timer(k->loop, -1, 0, on_retry, k, &k->retry_timer, err);
	if (rc == 0)
		rc = loop_add_turn(k->loop, on_turn, k, err);
	return rc;
}
