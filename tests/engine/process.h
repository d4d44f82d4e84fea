/* process.h - a real engine of a real keeper, with real rings, and the tests in the agent's place.
 */
#pragma once

#include "common/id.h"
#include "common/util.h"
#include "tests/engine/keeper_client.h"
#include <sched.h>

struct process {
	struct client *client;
	const char *name; /* for the keeper */
	struct tap_fds fds;
	struct tap *tap;
	uint32_t number; /* 0: not running */
	pid_t pid;
	int pidfd, wake_fd, result_fd, log_fds[2];
	json_t *unasked; /* frames that came while something else was awaited */
	char result[262144 + 1];
	char log[65536]; /* what it printed to either */
	size_t log_len;
};

/* Take in what the engine printed. */
static void process_read_log(struct process *p)
{
	ssize_t n;
	for (size_t i = 0; i < ARRAY_LEN(p->log_fds); i++)
		while (p->log_fds[i] >= 0 && p->log_len < sizeof(p->log) - 1 &&
		       (n = read(p->log_fds[i], p->log + p->log_len,
				 sizeof(p->log) - 1 - p->log_len)) > 0)
			p->log_len += (size_t)n;
	p->log[p->log_len] = '\0';
}

/* Wait until fd is readable; the log is read meanwhile. */
static void process_await_fd(struct process *p, int fd, const char *what)
{
	struct pollfd fds[] = {{.fd = fd, .events = POLLIN},
			       {.fd = p->log_fds[0], .events = POLLIN},
			       {.fd = p->log_fds[1], .events = POLLIN}};
	do {
		if (poll(fds, ARRAY_LEN(fds), WAIT_MS) <= 0)
			fail_msg("waited too long for %s; log:\n%s", what, p->log);
		process_read_log(p);
		for (size_t i = 1; i < ARRAY_LEN(fds); i++)
			if (fds[i].revents & POLLHUP)
				fds[i].fd = -1;
	} while (fds[0].revents == 0);
}

/* The next frame of the engine. ret: yours; NULL: none is there. */
static json_t *process_frame(struct process *p)
{
	if (!client_read(p->client))
		fail_msg("the keeper hung up; log:\n%s", p->log);
	struct frame *f = client_take(p->client, p->number, NULL, NULL);
	json_t *msg = f != NULL ? json_loadb(f->body, f->len, JSON_ALLOW_NUL, NULL) : NULL;
	assert_true(f == NULL || msg != NULL);
	frame_free(f);
	return msg;
}

/* The next frame that has `key` `value`; others that come before are kept in unasked. */
static json_t *process_await(struct process *p, const char *key, const char *value)
{
	for (;;) {
		json_t *frame = process_frame(p);
		if (frame == NULL) {
			process_await_fd(p, p->client->fd, value);
			continue;
		}
		const char *got = json_string_value(json_object_get(frame, key));
		if (got != NULL && strcmp(got, value) == 0)
			return frame;
		json_array_append_new(p->unasked, frame);
	}
}

/* Ask the keeper for it. */
static void process_start(struct process *p)
{
	const int fds[] = {p->fds.in_fd, p->fds.in_ro_fd, p->fds.out_fd};
	p->number = p->client->next_number++;
	client_send(p->client, 0,
		    json_pack("{s:s, s:I, s:s, s:i}", "op", "spawn", "engine",
			      (json_int_t)p->number, "name", p->name, "fds", 3),
		    fds, 3);
	struct frame *f = client_await_engine(p->client, "spawned", p->number);
	assert_int_equal(f->n_fds, 5);
	p->wake_fd = TAKE_FD(f->fds[0]);
	p->result_fd = TAKE_FD(f->fds[1]);
	p->log_fds[0] = TAKE_FD(f->fds[2]);
	p->log_fds[1] = TAKE_FD(f->fds[3]);
	p->pidfd = TAKE_FD(f->fds[4]);
	frame_free(f);
	p->pid = pid_of(p->pidfd);
	json_decref(process_await(p, "op", "ready"));
}

static void process_forget(struct process *p)
{
	p->number = 0;
	closep(&p->pidfd);
	closep(&p->wake_fd);
	closep(&p->result_fd);
	closep(&p->log_fds[0]);
	closep(&p->log_fds[1]);
}

/* Wait for its end. ret: in words, as the keeper tells it. */
static const char *process_ended(struct process *p)
{
	static char how[100];
	struct frame *f = client_await_engine(p->client, "exited", p->number);
	json_auto_t *msg = frame_json(f);
	frame_free(f);
	snprintf(how, sizeof(how), "%s", json_string_value(json_object_get(msg, "how")));
	process_read_log(p);
	process_forget(p);
	return how;
}

/* An engine of its own rings. client: borrowed. */
static struct process *process_new(struct client *client)
{
	struct process *p = calloc(1, sizeof(*p));
	assert_non_null(p);
	p->client = client;
	p->name = "test";
	p->unasked = json_array();
	p->pidfd = p->wake_fd = p->result_fd = p->log_fds[0] = p->log_fds[1] = -1;
	assert_int_equal(tap_make(1 << 20, 1 << 20, &p->fds, NULL), 0);
	assert_int_equal(tap_open(p->fds.in_fd, p->fds.out_fd, &p->tap, NULL), 0);
	return p;
}

static void process_free(struct process *p)
{
	process_forget(p);
	tap_close(p->tap);
	tap_fds_done(&p->fds);
	json_decref(p->unasked);
	free(p);
}

static int process_setup_memory(void **state, const char *memory_mb)
{
	/* one function may have all of it: here it is the engine's limit that counts */
	const char *const extra[] = {"--memory-mb", memory_mb, "--function-mb", memory_mb, NULL};
	struct client *c = malloc(sizeof(*c));
	assert_non_null(c);
	client_init(c);
	client_start(c, extra);
	*state = process_new(c);
	process_start(*state);
	return 0;
}

static MAYBE_UNUSED int process_setup(void **state)
{
	return process_setup_memory(state, "256");
}

static void process_kill(struct process *p)
{
	syscall(SYS_pidfd_send_signal, p->pidfd, SIGKILL, NULL, 0);
}

static MAYBE_UNUSED int process_teardown(void **state)
{
	struct process *p = *state;
	struct client *c = p->client;
	if (p->number != 0 && c->fd >= 0) {
		process_kill(p);
		process_ended(p);
	}
	process_free(p);
	client_done(c);
	free(c);
	return 0;
}

/* All graphs are loaded: look at the ring. */
static MAYBE_UNUSED void process_go(struct process *p)
{
	assert_int_equal(write(p->wake_fd, "", 1), 1);
}

static MAYBE_UNUSED void process_send(struct process *p, uint32_t slot, const char *payload)
{
	struct tap_rec rec = {.slot = slot, .qos = 1, .len = (uint32_t)strlen(payload)};
	assert_int_equal(tap_push(p->tap, &rec, payload), 0);
	if (tap_engine_sleeps(p->tap))
		assert_int_equal(write(p->wake_fd, "", 1), 1);
}

/* Take a result if there is one. ret: 1 and the payload in p->result. */
static MAYBE_UNUSED int process_pull(struct process *p, struct tap_rec *ret)
{
	int rc = tap_pull(p->tap, ret, p->result, sizeof(p->result) - 1);
	assert_true(rc >= 0);
	p->result[rc > 0 ? ret->len : 0] = '\0';
	return rc;
}

/* Wait for a result: awake only by the result pipe. */
static MAYBE_UNUSED void process_result(struct process *p, uint32_t slot, const char *payload)
{
	struct tap_rec rec;
	char bytes[4096];
	while (process_pull(p, &rec) == 0) {
		tap_set_asleep(p->tap, true);
		int got = process_pull(p, &rec);
		if (got == 0)
			process_await_fd(p, p->result_fd, payload);
		tap_set_asleep(p->tap, false);
		if (got != 0)
			break;
		while (read(p->result_fd, bytes, sizeof(bytes)) > 0)
			continue;
	}
	if (rec.slot != slot || strcmp(p->result, payload) != 0)
		fail_msg("wanted %u %s, got %u %s", slot, payload, rec.slot, p->result);
}

static MAYBE_UNUSED void process_ask(struct process *p, json_t *request)
{
	client_send(p->client, p->number, request, NULL, 0);
}

/* A request and its answer, ok or not. */
static MAYBE_UNUSED json_t *process_answer(struct process *p, json_t *request)
{
	const char *op = json_string_value(json_object_get(request, "op"));
	char want[20];
	snprintf(want, sizeof(want), "%s", op);
	process_ask(p, request);
	return process_await(p, "op", want);
}

/* A graph with an IDF on slot 1 and an ODF on slot 2; NULL: no function. */
static MAYBE_UNUSED json_t *process_graph(const char *id, int slot, const char *idf,
					  const char *join, const char *odf)
{
	const char *sources[] = {idf, join, odf};
	json_t *digests[3], *funcs = json_object();
	for (size_t i = 0; i < 3; i++) {
		struct digest_text digest = {""};
		if (sources[i] != NULL) {
			digest = sha256_hex(sources[i], strlen(sources[i]));
			json_object_set_new(funcs, digest.s, json_string(sources[i]));
		}
		digests[i] = sources[i] != NULL ? json_string(digest.s) : json_null();
	}
	return json_pack("{s:s, s:i, s:o, s:{s:s, s:s, s:i, s:[{s:i, s:i, s:s, s:s, s:o}], "
			 "s:{s:o}, s:[{s:i, s:i, s:s, s:s, s:o}]}}",
			 "op", "graph", "seq", 1, "funcs", funcs, "doc", "id", id, "owner", "test",
			 "rev", 1, "idf", "lid", 1, "slot", slot, "da_id", "da", "feature", "in",
			 "func", digests[0], "join", "func", digests[1], "odf", "lid", 2, "slot",
			 slot + 1, "da_id", "da", "feature", "out", "func", digests[2]);
}

static MAYBE_UNUSED void process_must_put(struct process *p, json_t *request)
{
	json_auto_t *answer = process_answer(p, request);
	if (strcmp(json_string_value(json_object_get(answer, "state")), "ok") != 0)
		fail_msg("refused: %s", json_string_value(json_object_get(answer, "reason")));
}
