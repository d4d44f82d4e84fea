/* keeper_talk.c - what the keeper tells, and whom that concerns. */
#include "agent/graph/keeper_int.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define FRAMES_PER_TURN  64
#define BYTES_PER_TURN   (1u << 20) /* an engine may say much; others wait */
#define FRAMES_PER_DRAIN 256

/* ---- what it tells ---- */

struct worker *keeper_find(const struct keeper *k, uint32_t number)
{
	struct worker *w = k->workers;
	while (w != NULL && worker_number(w) != number)
		w = worker_next(w);
	return w;
}

static bool is_wanted(const struct keeper *k, json_t *hello)
{
	const struct keeper_conf *c = &k->conf;
	json_auto_t *conf =
		json_pack("{s:I, s:I, s:I, s:s, s:s}", "memory_mb", (json_int_t)c->memory_mb,
			  "function_mb", (json_int_t)c->function_mb, "max_payload",
			  (json_int_t)c->max_payload_bytes, "qos", c->qos, "sandbox", c->sandbox);
	const char *version = json_string_value(json_object_get(hello, "version"));
	return version != NULL && strcmp(version, IOTTALK_VERSION) == 0 &&
	       json_equal(conf, json_object_get(hello, "conf"));
}

static void found_all(struct keeper *k)
{
	k->state = KEEPER_UP;
	k->failures = 0;
	k->why[0] = '\0';
	loop_arm(k->loop, k->timer, -1);
	log_info("keeper.up", KV("pid", k->pid));
	k->events.on_up(k->arg);
}

/* ret: whether this could be. */
static bool on_hello(struct keeper *k, json_t *msg, struct frame *f)
{
	json_t *engines = json_object_get(msg, "engines");
	(void)f;
	if (k->state != KEEPER_GREETING)
		return false;
	if (!is_wanted(k, msg)) {
		log_info("keeper.replaced", KV("pid", k->pid),
			 KV("why", "it has other settings or another version"));
		k->state = KEEPER_QUITTING;
		loop_arm(k->loop, k->timer, KEEPER_ANSWER_MS);
		keeper_ask(k, "quit");
		return true;
	}
	if (!json_is_integer(engines) || !json_is_array(json_object_get(msg, "layers")))
		return false;
	k->layers = json_incref(json_object_get(msg, "layers"));
	k->state = KEEPER_FINDING;
	k->to_find = (size_t)json_integer_value(engines);
	/* engines that nobody wants any more may still be dying under their numbers */
	k->last_number = (uint32_t)json_integer_value(json_object_get(msg, "last"));
	if (k->to_find == 0)
		found_all(k);
	return true;
}

static void end_engine(struct keeper *k, uint32_t number)
{
	json_auto_t *msg = json_pack("{s:s, s:I}", "op", "end", "engine", (json_int_t)number);
	struct frame *f = msg != NULL ? frame_of(0, msg, NULL) : NULL;
	if (f != NULL)
		keeper_put(k, f);
}

static bool on_engine(struct keeper *k, json_t *msg, struct frame *f)
{
	const char *name = json_string_value(json_object_get(msg, "name"));
	const char *exited = json_string_value(json_object_get(msg, "exited"));
	const char *note = json_string_value(json_object_get(msg, "note"));
	json_int_t number = json_integer_value(json_object_get(msg, "engine"));
	if (k->state != KEEPER_FINDING || name == NULL || number <= 0 ||
	    number > KEEPER_NUMBER_MAX || f->n_fds != (exited != NULL ? 2 : 7))
		return false;
	struct keeper_found found = {.name = name,
				     .note = note != NULL ? note : "",
				     .exited = exited,
				     .number = (uint32_t)number,
				     .wake_fd = -1,
				     .result_fd = -1,
				     .stdout_fd = -1,
				     .stderr_fd = -1,
				     .pidfd = -1};
	int *const to[] = {&found.in_fd,     &found.out_fd,    &found.wake_fd, &found.result_fd,
			   &found.stdout_fd, &found.stderr_fd, &found.pidfd};
	for (unsigned i = 0; i < f->n_fds; i++)
		*to[i] = TAKE_FD(f->fds[i]);
	bool wanted = k->events.on_found(k->arg, &found);
	if (!wanted || (exited == NULL && keeper_find(k, found.number) == NULL))
		end_engine(k, found.number);
	for (size_t i = 0; i < ARRAY_LEN(to); i++)
		closep(to[i]);
	if (--k->to_find == 0)
		found_all(k);
	return true;
}

static struct worker *named(const struct keeper *k, json_t *msg)
{
	json_int_t number = json_integer_value(json_object_get(msg, "engine"));
	return number > 0 && number <= KEEPER_NUMBER_MAX ? keeper_find(k, (uint32_t)number) : NULL;
}

/* Of engines that nobody wants any more much may still be told. */
static bool on_spawned(struct keeper *k, json_t *msg, struct frame *f)
{
	struct worker *w = named(k, msg);
	if (w != NULL)
		worker_on_spawned(w, f);
	return true;
}

static bool on_exited(struct keeper *k, json_t *msg, struct frame *f)
{
	struct worker *w = named(k, msg);
	const char *how = json_string_value(json_object_get(msg, "how"));
	(void)f;
	if (w != NULL)
		worker_on_exited(w, how != NULL ? how : "no reason told");
	return true;
}

static bool on_took(struct keeper *k, json_t *msg, struct frame *f)
{
	struct worker *w = named(k, msg);
	json_int_t bytes = json_integer_value(json_object_get(msg, "bytes"));
	(void)f;
	if (w != NULL && bytes > 0)
		worker_on_took(w, (size_t)bytes);
	return true;
}

static const struct {
	const char *name;
	bool (*run)(struct keeper *k, json_t *msg, struct frame *f);
} ops[] = {
	{"hello", on_hello},   {"engine", on_engine}, {"spawned", on_spawned},
	{"exited", on_exited}, {"took", on_took},
};

static bool run_op(struct keeper *k, struct frame *f)
{
	json_auto_t *msg = json_loadb(f->body, f->len, 0, NULL);
	const char *op = json_string_value(json_object_get(msg, "op"));
	for (size_t i = 0; op != NULL && i < ARRAY_LEN(ops); i++)
		if (strcmp(op, ops[i].name) == 0)
			return ops[i].run(k, msg, f);
	return false;
}

/* ---- reading ---- */

static struct frame *take_first(struct keeper *k)
{
	struct frame *f = k->first;
	if (f != NULL && (k->first = f->next) == NULL)
		k->end = &k->first;
	return f;
}

/* Read frames, without handling them. ret: whether more may be there. */
static bool read_ahead(struct keeper *k, unsigned most)
{
	struct err err = {0};
	struct frame *f = NULL;
	size_t bytes = 0;
	for (unsigned i = 0; i < most && bytes < BYTES_PER_TURN && !k->closed; i++) {
		int rc = frames_read(&k->frames, &f, &err);
		if (rc == 0)
			return false;
		if (rc < 0) {
			k->closed = true;
			snprintf(k->why, sizeof(k->why), "the keeper's connection: %.200s",
				 err.text);
			return false;
		}
		bytes += f->len;
		f->next = NULL;
		*k->end = f;
		k->end = &f->next;
	}
	return !k->closed;
}

/* Handle what was read. */
static void handle_all(struct keeper *k)
{
	struct frame *f;
	int fd = k->fd;
	while (k->fd == fd && (f = take_first(k)) != NULL) {
		bool fine = true;
		if (f->number == 0)
			fine = run_op(k, f);
		else if (keeper_find(k, f->number) != NULL)
			worker_on_frame(keeper_find(k, f->number), f);
		frame_free(f);
		if (!fine && k->fd == fd) {
			keeper_shoot(k);
			keeper_fail(k, "the keeper breaks the rules of the protocol");
		}
	}
	if (k->fd < 0 || k->fd != fd || !k->closed)
		return;
	if (k->state == KEEPER_QUITTING) {
		keeper_hang_up(k);
		k->state = KEEPER_IDLE;
		loop_arm(k->loop, k->timer, 0);
	} else {
		keeper_fail(k, strstr(k->why, "closed") != NULL ? "the keeper is gone" : k->why);
	}
}

void keeper_on_socket(void *arg, uint32_t events)
{
	struct keeper *k = arg;
	if ((events & EPOLLOUT) != 0 && frames_flush(&k->frames, NULL) < 0)
		frames_drop(&k->frames); /* reading will say why */
	keeper_watch(k);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		read_ahead(k, FRAMES_PER_TURN);
		handle_all(k);
	}
}

void keeper_on_again(void *arg)
{
	struct keeper *k = arg;
	if (k->fd >= 0)
		handle_all(k);
}

void keeper_drain(struct keeper *k, struct worker *w)
{
	struct frame **at = &k->first;
	if (k->fd < 0)
		return;
	read_ahead(k, FRAMES_PER_DRAIN);
	while (*at != NULL) {
		struct frame *f = *at;
		if (f->number != worker_number(w)) {
			at = &f->next;
			continue;
		}
		*at = f->next;
		if (f->next == NULL)
			k->end = at;
		worker_on_frame(w, f);
		frame_free(f);
	}
	if (k->first != NULL || k->closed)
		loop_arm(k->loop, k->again, 0); /* the others' turn */
}
