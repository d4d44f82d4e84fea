#include "agent/graph/worker.h"
#include "agent/graph/keeper_int.h"
#include "common/log.h"
#include "common/util.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>

#define QUEUE_MAX (256u << 20) /* reloading very many graphs is one burst */
/* Of a message: figures of ten thousand graphs have a third of that. Each takes about 130 bytes
 * here, and a frame of hardly more than brackets would fill the memory. */
#define VALUES_MAX (256u << 10)

struct worker {
	struct keeper *keeper;
	struct worker *next; /* of the keeper's */
	struct worker_events events;
	void *arg;
	uint32_t number;
	bool exited;
	bool condemned;      /* kill it; what it says no longer counts */
	const char *refused; /* why, if it said what nobody may say; else NULL */
	pid_t pid;
	int pidfd, wake, result; /* -1: not there */
	struct lines *out, *errors;
	struct frame *first, *last; /* not with the keeper yet */
	size_t queued, untaken;     /* bytes there, bytes with the keeper */
};

struct worker *worker_next(const struct worker *w)
{
	return w->next;
}

void worker_set_next(struct worker *w, struct worker *next)
{
	w->next = next;
}

uint32_t worker_number(const struct worker *w)
{
	return w->number;
}

bool worker_has_exited(const struct worker *w)
{
	return w->exited;
}

/* ---- the process ---- */

/* The number that the keeper knows it by means nothing here: ask the kernel for ours. */
static pid_t pid_of(int pidfd)
{
	char path[40], line[80];
	int pid = -1;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	FILE *f = fopen(path, "re");
	if (f == NULL)
		return -1;
	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "Pid:%d", &pid) == 1)
			break;
	fclose(f);
	return pid;
}

/* Take over what belongs to a living engine. */
static int live(struct worker *w, int *wake, int *result, int *out, int *errors, int *pidfd,
		struct err *err)
{
	struct loop *l = keeper_loop(w->keeper);
	w->wake = TAKE_FD(*wake);
	w->result = TAKE_FD(*result);
	w->pidfd = TAKE_FD(*pidfd);
	w->pid = pid_of(w->pidfd);
	int rc = lines_new(l, TAKE_FD(*out), "stdout", &w->out, err);
	return rc == 0 ? lines_new(l, TAKE_FD(*errors), "stderr", &w->errors, err) : rc;
}

static struct worker *worker_make(struct keeper *k, uint32_t number,
				  const struct worker_events *events, void *arg)
{
	struct worker *w = malloc(sizeof(*w));
	if (w != NULL)
		*w = (struct worker){.keeper = k,
				     .events = *events,
				     .arg = arg,
				     .number = number,
				     .pid = -1,
				     .pidfd = -1,
				     .wake = -1,
				     .result = -1};
	return w;
}

int worker_new(struct keeper *k, const char *name, const struct tap_fds *fds,
	       const struct worker_events *events, void *arg, struct worker **ret, struct err *err)
{
	const int sent[] = {fds->in_fd, fds->in_ro_fd, fds->out_fd};
	if (!keeper_is_up(k))
		return err_set(err, ERR_AGAIN, "no keeper: %s", keeper_why(k));
	uint32_t number = keeper_number(k);
	json_auto_t *msg = json_pack("{s:s, s:I, s:s, s:i}", "op", "spawn", "engine",
				     (json_int_t)number, "name", name, "fds", (int)ARRAY_LEN(sent));
	struct frame *f = msg != NULL ? frame_of(0, msg, NULL) : NULL;
	struct worker *w = worker_make(k, number, events, arg);
	int rc = f == NULL || w == NULL ? err_set(err, ERR_NOMEM, "engine") : 0;
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(sent); i++)
		rc = frame_add_fd(f, sent[i], err);
	if (rc < 0) {
		frame_free(f);
		free(w);
		return rc;
	}
	keeper_enroll(k, w);
	keeper_put(k, f);
	*ret = w;
	return 0;
}

int worker_adopt(struct keeper *k, struct keeper_found *found, const struct worker_events *events,
		 void *arg, struct worker **ret, struct err *err)
{
	struct worker *w = worker_make(k, found->number, events, arg);
	if (w == NULL)
		return err_set(err, ERR_NOMEM, "engine");
	keeper_enroll(k, w);
	int rc = live(w, &found->wake_fd, &found->result_fd, &found->stdout_fd, &found->stderr_fd,
		      &found->pidfd, err);
	if (rc < 0)
		worker_leave(w);
	else
		*ret = w;
	return rc;
}

void worker_note(struct worker *w, const char *text)
{
	json_auto_t *msg = json_pack("{s:s, s:I, s:s}", "op", "note", "engine",
				     (json_int_t)w->number, "text", text);
	struct frame *f = msg != NULL && !w->exited ? frame_of(0, msg, NULL) : NULL;
	if (f != NULL)
		keeper_put(w->keeper, f);
}

void worker_kill(struct worker *w)
{
	if (w->exited)
		return;
	w->condemned = true;
	if (w->pidfd >= 0 && pidfd_send_signal(w->pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		log_error("engine.kill_failed", KV("pid", w->pid), KV("errno", errno));
}

/* ---- what the keeper tells ---- */

void worker_on_spawned(struct worker *w, struct frame *f)
{
	struct err err = {0};
	if (w->exited || w->pidfd >= 0 || f->n_fds != 5)
		return;
	if (live(w, &f->fds[0], &f->fds[1], &f->fds[2], &f->fds[3], &f->fds[4], &err) < 0) {
		log_error("engine.start_failed", KV("why", err.text));
		w->condemned = true;
	}
	if (w->condemned)
		worker_kill(w); /* while it was being started */
	else if (w->events.on_started != NULL)
		w->events.on_started(w->arg);
}

/* At most so many values are in it. */
static size_t count_values(const struct frame *f)
{
	bool in_string = false;
	size_t n = 0;
	for (size_t i = 0; i < f->len; i++) {
		char c = f->body[i];
		if (in_string && c == '\\')
			i++;
		else if (c == '"')
			in_string = !in_string;
		else
			n += !in_string && (c == ',' || c == '[' || c == '{');
	}
	return n;
}

static void refuse(struct worker *w, const char *why)
{
	w->refused = why;
	worker_kill(w);
}

void worker_on_frame(struct worker *w, const struct frame *f)
{
	if (w->condemned || w->exited)
		return;
	if (count_values(f) > VALUES_MAX) {
		refuse(w, "refused: a message of too many values");
		return;
	}
	json_auto_t *msg = json_loadb(f->body, f->len, JSON_ALLOW_NUL, NULL);
	if (!json_is_object(msg))
		refuse(w, "refused: a message that is no JSON");
	else
		w->events.on_message(w->arg, msg);
}

/* Give the keeper as much as it takes for this engine. */
static void pump(struct worker *w)
{
	while (w->first != NULL) {
		struct frame *f = w->first;
		size_t bytes = FRAME_HEAD_MAX + (size_t)f->len;
		if (w->untaken > 0 && w->untaken + bytes > KEEPER_WINDOW)
			return;
		w->first = f->next;
		if (w->first == NULL)
			w->last = NULL;
		w->queued -= bytes;
		w->untaken += bytes;
		keeper_put(w->keeper, f);
	}
}

static void drop_queue(struct worker *w)
{
	while (w->first != NULL) {
		struct frame *f = w->first;
		w->first = f->next;
		frame_free(f);
	}
	w->last = NULL;
	w->queued = 0;
}

void worker_on_took(struct worker *w, size_t bytes)
{
	w->untaken -= bytes < w->untaken ? bytes : w->untaken;
	pump(w);
}

void worker_on_exited(struct worker *w, const char *how)
{
	if (w->exited)
		return;
	w->exited = true;
	w->pid = -1;
	drop_queue(w);
	w->events.on_exit(w->arg, w->refused != NULL ? w->refused : how); /* may free w */
}

/* ---- for its owner ---- */

int worker_send(struct worker *w, const json_t *msg, struct err *err)
{
	int code;
	struct frame *f = frame_of(w->number, msg, &code);
	if (f == NULL && code == ERR_LIMIT)
		return err_set(err, ERR_LIMIT, "a message for the engine of more than %u bytes",
			       FRAME_BODY_MAX);
	if (f == NULL)
		return err_set(err, ERR_NOMEM, "message to the engine");
	size_t bytes = FRAME_HEAD_MAX + (size_t)f->len;
	if (w->queued + bytes > QUEUE_MAX) {
		frame_free(f);
		return err_set(err, ERR_LIMIT, "too much is waiting for the engine");
	}
	if (w->exited) { /* on_exit has been called */
		frame_free(f);
		return 0;
	}
	if (w->last != NULL)
		w->last->next = f;
	else
		w->first = f;
	w->last = f;
	w->queued += bytes;
	pump(w);
	return 0;
}

void worker_drain(struct worker *w)
{
	if (w->pidfd >= 0 && !w->exited)
		keeper_drain(w->keeper, w);
}

struct worker *worker_leave(struct worker *w)
{
	if (w == NULL)
		return NULL;
	keeper_strike(w->keeper, w);
	drop_queue(w);
	lines_free(w->out);
	lines_free(w->errors);
	closep(&w->pidfd);
	closep(&w->wake);
	closep(&w->result);
	free(w);
	return NULL;
}

struct worker *worker_free(struct worker *w)
{
	if (w == NULL)
		return NULL;
	json_auto_t *msg = json_pack("{s:s, s:I}", "op", "end", "engine", (json_int_t)w->number);
	struct frame *f = msg != NULL ? frame_of(0, msg, NULL) : NULL;
	if (f != NULL && keeper_is_up(w->keeper))
		keeper_put(w->keeper, f);
	else
		frame_free(f);
	worker_kill(w); /* at once, whatever the keeper is at */
	return worker_leave(w);
}

pid_t worker_pid(const struct worker *w)
{
	return w->pid;
}

int worker_wake_fd(const struct worker *w)
{
	return w->wake;
}

int worker_result_fd(const struct worker *w)
{
	return w->result;
}
