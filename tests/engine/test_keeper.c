/* The keeper: agents come and go, engines fall, somebody talks rubbish. */
#include "engine/sanitizer.h"
#include "tests/engine/process.h"
#include <grp.h>
#include <sys/stat.h>

static const char counter[] = "n = 0\ndef run(x):\n  global n\n  n += 1\n  return [n, x]\n";

/* A keeper without an agent; extra: options. */
static struct client *launch(const char *const *extra)
{
	struct client *c = malloc(sizeof(*c));
	assert_non_null(c);
	client_init(c);
	client_start(c, extra);
	return c;
}

static void end(struct client *c)
{
	client_done(c);
	free(c);
}

static struct process *engine_of(struct client *c, const char *name)
{
	struct process *p = process_new(c);
	p->name = name;
	process_start(p);
	return p;
}

/* Functions may do what they like to their process. */
static const char *const no_walls[] = {"--layers", "none", "--sandbox", "degraded", NULL};

static json_t *hello(struct client *c)
{
	client_send(c, 0, json_pack("{s:s}", "op", "hello"), NULL, 0);
	return client_await_json(c, 0, "op", "hello");
}

static json_int_t engines_of(json_t *answer)
{
	return json_integer_value(json_object_get(answer, "engines"));
}

/* ---- agents come and go ---- */

static void hello_tells_settings_and_layers(void **state)
{
	static const char *const extra[] = {
		"--memory-mb", "200",       "--function-mb", "33", "--max-payload", "5000", "--qos",
		"1",           "--sandbox", "degraded",      NULL};
	struct client *c = launch(extra);
	(void)state;
	json_auto_t *answer = hello(c);
	json_auto_t *want = json_pack("{s:i, s:i, s:i, s:s, s:s}", "memory_mb", 200, "function_mb",
				      33, "max_payload", 5000, "qos", "1", "sandbox", "degraded");
	assert_true(json_equal(want, json_object_get(answer, "conf")));
	assert_string_equal(json_string_value(json_object_get(answer, "version")), IOTTALK_VERSION);
	assert_int_equal(engines_of(answer), 0);
	json_t *layer;
	size_t i, seccomp = 0;
	json_array_foreach (json_object_get(answer, "layers"), i, layer) {
		const char *name, *why;
		int up, core;
		assert_int_equal(json_unpack(layer, "{s:s, s:b, s:b, s:s}", "name", &name, "up",
					     &up, "core", &core, "why", &why),
				 0);
		seccomp += strcmp(name, "seccomp") == 0 && up && core;
	}
	assert_int_equal(seccomp, 1);
	end(c);
}

/* What an earlier agent left is there, works meanwhile, and is handed over whole. */
static void the_next_agent_finds_engines_with_their_globals(void **state)
{
	struct process *p = *state;
	struct client *c = p->client;
	uint32_t number = p->number;
	process_must_put(p, process_graph("test/1", 1, counter, NULL, NULL));
	process_send(p, 1, "5");
	process_result(p, 2, "[1,5]");
	client_hang_up(c);
	/* nobody is there: messages are evaluated all the same */
	for (int i = 2; i < 50; i++) {
		char want[20];
		process_send(p, 1, "6");
		snprintf(want, sizeof(want), "[%d,6]", i);
		process_result(p, 2, want);
	}
	/* these wait on the ring: the engine is held */
	syscall(SYS_pidfd_send_signal, p->pidfd, SIGSTOP, NULL, 0);
	process_send(p, 1, "7");
	process_send(p, 1, "8");
	/* this agent dies, with all it has of the rings */
	tap_close(p->tap);
	tap_fds_done(&p->fds);
	process_forget(p);

	client_connect(c);
	json_auto_t *answer = hello(c);
	assert_int_equal(engines_of(answer), 1);
	struct frame *f = client_await(c, 0, "op", "engine");
	json_auto_t *msg = frame_json(f);
	assert_int_equal(json_integer_value(json_object_get(msg, "engine")), number);
	assert_string_equal(json_string_value(json_object_get(msg, "name")), "test");
	assert_null(json_object_get(msg, "exited"));
	assert_int_equal(f->n_fds, 7);
	assert_int_equal(tap_fds_adopt(TAKE_FD(f->fds[0]), TAKE_FD(f->fds[1]), &p->fds, NULL), 0);
	p->wake_fd = TAKE_FD(f->fds[2]);
	p->result_fd = TAKE_FD(f->fds[3]);
	p->log_fds[0] = TAKE_FD(f->fds[4]);
	p->log_fds[1] = TAKE_FD(f->fds[5]);
	p->pidfd = TAKE_FD(f->fds[6]);
	frame_free(f);
	p->number = number;
	assert_int_equal(tap_open(p->fds.in_fd, p->fds.out_fd, &p->tap, NULL), 0);
	syscall(SYS_pidfd_send_signal, p->pidfd, SIGCONT, NULL, 0);
	process_result(p, 2, "[50,7]");
	process_result(p, 2, "[51,8]");
	process_send(p, 1, "9");
	process_result(p, 2, "[52,9]");
	/* and it takes requests */
	process_must_put(p, process_graph("test/1", 1, counter, NULL, "def run(n, x): return n\n"));
	process_send(p, 1, "9");
	process_result(p, 2, "53");
}

static void await_exited(struct client *c, uint32_t number, const char *how)
{
	struct frame *f = client_await_engine(c, "engine", number);
	json_auto_t *msg = frame_json(f);
	assert_string_equal(json_string_value(json_object_get(msg, "exited")), how);
	assert_int_equal(f->n_fds, 2);
	frame_free(f);
}

static void an_end_that_nobody_saw_is_told_until_somebody_deals_with_it(void **state)
{
	struct client *c = launch(NULL);
	struct process *p = engine_of(c, "one"), *other = engine_of(c, "two");
	uint32_t number = p->number, left = other->number;
	(void)state;
	client_hang_up(c);
	process_kill(p);
	await_death(p->pidfd);
	for (int i = 0; i < 2; i++) { /* the first of these agents dies before it can do anything */
		/* the keeper may not have seen it yet: then the end is told as it happens */
		client_connect(c);
		json_auto_t *answer = hello(c);
		assert_int_equal(engines_of(answer), 2);
		struct frame *f = client_await_engine(c, "engine", number);
		if (f->n_fds == 7)
			frame_free(client_await_engine(c, "exited", number));
		frame_free(f);
		client_hang_up(c);
	}
	client_connect(c);
	json_decref(hello(c));
	await_exited(c, number, "killed by signal 9");
	frame_free(client_await_engine(c, "engine", left));
	client_send(c, 0, json_pack("{s:s, s:I}", "op", "end", "engine", (json_int_t)number), NULL,
		    0);
	json_auto_t *then = hello(c);
	assert_int_equal(engines_of(then), 1);
	frame_free(client_await_engine(c, "engine", left));
	process_free(p);
	/* the other one, by its name */
	other->number = left;
	process_kill(other);
	process_ended(other);
	json_auto_t *both = hello(c);
	assert_int_equal(engines_of(both), 1);
	await_exited(c, left, "killed by signal 9");
	process_start(other);
	json_auto_t *one = hello(c);
	assert_int_equal(engines_of(one), 1);
	frame_free(client_await_engine(c, "engine", other->number));
	process_free(other);
	end(c);
}

static void an_engine_that_is_ended_is_forgotten(void **state)
{
	struct process *p = *state;
	uint32_t number = p->number;
	client_send(p->client, 0,
		    json_pack("{s:s, s:I}", "op", "end", "engine", (json_int_t)number), NULL, 0);
	assert_string_equal(process_ended(p), "killed by signal 9");
	json_auto_t *answer = hello(p->client);
	assert_int_equal(engines_of(answer), 0);
	/* its number is free again */
	p->client->next_number = number;
	process_start(p);
}

static void the_newest_agent_wins(void **state)
{
	struct process *p = *state;
	struct client second = *p->client;
	second.fd = -1;
	second.kept = NULL;
	second.kept_end = &second.kept;
	client_connect(&second);
	client_await_hang_up(p->client);
	json_auto_t *answer = hello(&second);
	assert_int_equal(engines_of(answer), 1);
	client_hang_up(&second);
	process_forget(p);
}

static void without_an_agent_it_ends_after_a_while(void **state)
{
	static const char *const extra[] = {"--orphan-ms", "300", NULL};
	struct client *c = launch(extra);
	struct process *p = engine_of(c, "one");
	(void)state;
	int keeper = (int)syscall(SYS_pidfd_open, c->pid, 0);
	/* not while one is there */
	assert_false(readable(keeper, 600));
	client_hang_up(c);
	await_death(keeper);
	await_death(p->pidfd);
	close(keeper);
	process_free(p);
	end(c);
}

static void quit_and_sigterm_end_it_with_all_engines(void **state)
{
	(void)state;
	for (int how = 0; how < 3; how++) {
		struct client *c = launch(NULL);
		struct process *p = engine_of(c, "one"), *q = engine_of(c, "two");
		int keeper = (int)syscall(SYS_pidfd_open, c->pid, 0);
		process_must_put(p, process_graph("test/1", 1, "def run(x):\n  while x: pass\n",
						  NULL, NULL));
		process_send(p, 1, "1"); /* hangs, so it has to be killed */
		while (tap_doing(p->tap) == 0)
			sched_yield();
		if (how == 0)
			client_send(c, 0, json_pack("{s:s}", "op", "quit"), NULL, 0);
		else
			syscall(SYS_pidfd_send_signal, keeper, how == 1 ? SIGTERM : SIGKILL, NULL,
				0);
		await_death(keeper);
		await_death(p->pidfd);
		await_death(q->pidfd);
		close(keeper);
		process_free(p);
		process_free(q);
		end(c);
	}
}

/* ---- who may ---- */

static void strangers_are_refused(void **state)
{
	/* in a user namespace all users but one look the same, and only the mode keeps them away */
	static const char *const extra[] = {
		"--layers", "user,mountns,netns,pidns,no_new_privs,capabilities,calls,seccomp",
		NULL};
	struct sockaddr_un addr;
	struct stat st;
	int status;
	(void)state;
	if (geteuid() != 0) {
		print_message("only root can be somebody else\n");
		skip();
	}
	struct client *c = launch(extra);
	assert_int_equal(stat(c->socket, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	/* even if the file lets everybody in */
	assert_int_equal(chmod(c->socket, 0666), 0);
	assert_int_equal(chmod(c->dir, 0755), 0);
	pid_t pid = fork();
	if (pid == 0) {
		char byte;
		int dir = ctl_address(c->socket, &addr, NULL);
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		if (setgroups(0, NULL) < 0 || setresgid(1000, 1000, 1000) < 0 ||
		    setresuid(1000, 1000, 1000) < 0 || dir < 0 ||
		    connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
			_exit(2);
		_exit(read(fd, &byte, 1) != 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("a stranger got %#x", (unsigned)status);
	json_decref(hello(c)); /* the agent is still the agent */
	end(c);
}

static void one_keeper_for_one_socket(void **state)
{
	struct process *p = *state;
	struct client second = *p->client;
	assert_false(client_launch(&second, NULL));
	assert_non_null(strstr(second.report, "another keeper"));
	/* the first one goes on, and is found */
	json_decref(hello(p->client));
	/* the socket of a dead one is no obstacle */
	kill(p->client->pid, SIGKILL);
	await_death(p->pidfd);
	client_await_hang_up(p->client);
	process_forget(p);
	client_start(p->client, NULL);
	json_auto_t *answer = hello(p->client);
	assert_int_equal(engines_of(answer), 0);
}

static void strict_means_no_engine_without_the_core_layers(void **state)
{
	static const struct {
		const char *layers, *word; /* NULL: fine */
	} cases[] = {
		{"user,userns,mountns,netns,calls", "a list of allowed system calls"},
		{"user,userns,mountns,seccomp", "no network"},
		{"user,userns,netns,seccomp", "no files"},
		{"user,userns,netns,mountns,seccomp", NULL},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *extra[] = {"--layers", cases[i].layers, "--sandbox", "strict", NULL};
		struct client c;
		client_init(&c);
		bool there = client_launch(&c, extra);
		if (there != (cases[i].word == NULL) ||
		    (!there && strstr(c.report, cases[i].word) == NULL))
			fail_msg("%s: %s", cases[i].layers, c.report);
		if (!there) {
			extra[3] = "degraded";
			assert_true(client_launch(&c, extra));
		}
		client_connect(&c);
		client_done(&c);
	}
}

static void wrong_options_are_refused(void **state)
{
	static const char *const cases[][3] = {
		{"--memory-mb", "5", NULL},  {"--memory-mb", "x", NULL}, {"--qos", "3", NULL},
		{"--sandbox", "none", NULL}, {"--nothing", NULL, NULL},  {"word", NULL, NULL},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct client c;
		client_init(&c);
		assert_false(client_launch(&c, cases[i]));
		assert_true(WIFEXITED(c.exit_status) && WEXITSTATUS(c.exit_status) == 2);
		client_done(&c);
	}
}

/* ---- rubbish ---- */

static void rubbish_of_an_agent_ends_its_connection_only(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} cases[] = {
		{"\xff\xff\xff\xff\0\0\0\0", 8},
		{"\x01\0\0\x01\0\0\0\0", 8},
		{"\0\0\0\0\0\0\0\0", 8},
		{"\x02\0\0\0\0\0\0\0[]", 10},
		{"\x02\0\0\0\0\0\0\0{]", 10},
		{"\x02\0\0\0\0\0\0\0{}", 10},
		{"\x0c\0\0\0\0\0\0\0{\"op\":\"fly\"}", 20},
		{"\x0e\0\0\0\0\0\0\0{\"op\":\"spawn\"}", 22},
		{"\x01\0\0\0\x01\0\0\0{", 9},
	};
	struct process *p = *state;
	process_must_put(p, process_graph("test/1", 1, counter, NULL, NULL));
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char want[20];
		assert_int_equal(send(p->client->fd, cases[i].bytes, cases[i].len, MSG_NOSIGNAL),
				 cases[i].len);
		client_await_hang_up(p->client);
		client_connect(p->client);
		process_send(p, 1, "0");
		snprintf(want, sizeof(want), "[%zu,0]", i + 1);
		process_result(p, 2, want);
	}
	json_auto_t *answer = hello(p->client);
	assert_int_equal(engines_of(answer), 1);
}

/* Wrong requests with descriptors: none of them stays with the keeper. */
static void descriptors_of_refused_requests_are_closed(void **state)
{
	struct process *p = *state;
	int pair[2], three[8];
	assert_int_equal(pipe2(pair, O_CLOEXEC | O_NONBLOCK), 0);
	const struct {
		json_t *msg;
		uint32_t to;
		size_t n;
	} cases[] = {
		{json_pack("{s:s, s:i, s:s}", "op", "spawn", "engine", 70, "name", "x"), 0, 2},
		{json_pack("{s:s, s:i, s:s}", "op", "spawn", "engine", 0, "name", "x"), 0, 3},
		{json_pack("{s:s, s:i}", "op", "spawn", "engine", 70), 0, 3},
		{json_pack("{s:s, s:I, s:s}", "op", "spawn", "engine", (json_int_t)p->number,
			   "name", "x"),
		 0, 3},
		{json_pack("{s:s}", "op", "drop"), p->number, 1},
		{json_pack("{s:s}", "op", "fly"), 0, 8},
	};
	for (size_t i = 0; i < ARRAY_LEN(three); i++)
		three[i] = pair[1];
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		client_send(p->client, cases[i].to, cases[i].msg, three, cases[i].n);
		client_await_hang_up(p->client);
		client_connect(p->client);
	}
	/* what is no ring: an engine that does not start */
	client_send(p->client, 0,
		    json_pack("{s:s, s:i, s:s}", "op", "spawn", "engine", 71, "name", "y"), three,
		    3);
	struct frame *f = client_await_engine(p->client, "exited", 71);
	json_auto_t *msg = frame_json(f);
	assert_string_equal(json_string_value(json_object_get(msg, "how")), "exit status 1");
	frame_free(f);
	client_send(p->client, 0, json_pack("{s:s, s:i}", "op", "end", "engine", 71), NULL, 0);
	json_decref(hello(p->client));
	close(pair[1]);
	char byte;
	assert_int_equal(read(pair[0], &byte, 1), 0); /* nobody has the other end */
	close(pair[0]);
}

static void rubbish_of_an_engine_is_its_end_only(void **state)
{
	static const struct {
		const char *bytes, *how;
	} cases[] = {
		{"b'\\xff\\xff\\xff\\xff'", "refused: a frame of 4294967295 bytes"},
		{"b'\\x01\\x00\\x00\\x01'", "refused: a frame of 16777217 bytes"},
		{"b'\\0\\0\\0\\0'", "refused: a frame of 0 bytes"},
		{"b'\\x02\\0\\0\\0[]'", "refused: a frame that is no JSON object"},
		{"b'\\x01\\0\\0\\0{'", "refused: a frame of 1 bytes"},
	};
	struct client *c = launch(no_walls);
	struct process *good = engine_of(c, "good"), *bad = engine_of(c, "bad");
	(void)state;
	process_must_put(good, process_graph("test/1", 1, counter, NULL, NULL));
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char source[200], want[20];
		snprintf(source, sizeof(source),
			 "import random\nos = random._os\ndef run(x): os.write(3, %s)\n",
			 cases[i].bytes);
		process_must_put(bad, process_graph("test/1", 1, source, NULL, NULL));
		process_send(bad, 1, "1");
		assert_string_equal(process_ended(bad), cases[i].how);
		tap_retire(bad->tap, true, NULL);
		assert_int_equal(tap_make_out(&bad->fds, NULL), 0);
		assert_int_equal(tap_set_out(bad->tap, bad->fds.out_fd, NULL), 0);
		process_start(bad);
		process_send(good, 1, "0");
		snprintf(want, sizeof(want), "[%zu,0]", i + 1);
		process_result(good, 2, want);
	}
	process_free(good);
	process_free(bad);
	end(c);
}

/* ---- who does not keep up ---- */

static size_t resident_kb(pid_t pid)
{
	char path[40];
	size_t pages = 0;
	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*u %zu", &pages), 1);
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE) / 1024;
}

/* Writes frames until nobody has taken any for a while, and returns how many; the rest of the last
 * one is written by the next call. */
static const char flood[] = "import random, time\nos = random._os\n"
			    "body = b'{\"op\":\"flood\",\"pad\":\"' + b'x' * 1000 + b'\"}'\n"
			    "frame = len(body).to_bytes(4, 'little') + body\n"
			    "rest = b''\n"
			    "def run(x):\n"
			    "  global rest\n"
			    "  n, refused = 0, 0\n"
			    "  while refused < 20 and (x or rest):\n"
			    "    if not rest:\n"
			    "      rest, n = frame, n + 1\n"
			    "    try:\n"
			    "      rest, refused = rest[os.write(3, rest):], 0\n"
			    "    except BlockingIOError:\n"
			    "      refused += 1\n"
			    "      time.sleep(0.01)\n"
			    "  return [n, len(rest)]\n";

static void an_agent_that_does_not_read_holds_engines_back(void **state)
{
	struct client *c = launch(no_walls);
	struct process *p = engine_of(c, "one");
	struct tap_rec rec;
	int said = 0, rest = 0;
	(void)state;
	process_must_put(p,
			 process_graph("test/1", 1, flood, NULL, "def run(n, m): return [n, m]\n"));
	size_t before = resident_kb(c->pid);
	process_send(p, 1, "1");
	tap_set_asleep(p->tap, true);
	while (process_pull(p, &rec) == 0) {
		char bytes[64];
		process_await_fd(p, p->result_fd, "the end of the flood");
		assert_true(read(p->result_fd, bytes, sizeof(bytes)) != 0);
	}
	assert_int_equal(sscanf(p->result, "[%d,%d]", &said, &rest), 2);
	/* the sockets' buffers and the keeper's megabyte; not more */
	assert_in_range(said, 1000, 4000);
	if (!SANITIZED)
		assert_in_range(resident_kb(c->pid) - before, 0, 4096);
	for (int got = rest > 0 ? 1 : 0; got < said; got++)
		json_decref(process_await(p, "op", "flood"));
	/* and all goes on */
	process_send(p, 1, "0");
	process_result(p, 2, "[0,0]");
	if (rest > 0)
		json_decref(process_await(p, "op", "flood"));
	process_must_put(p, process_graph("test/1", 1, counter, NULL, NULL));
	process_send(p, 1, "1");
	process_result(p, 2, "[1,1]");
	process_free(p);
	end(c);
}

static json_t *big_request(size_t bytes, int seq)
{
	char *pad = malloc(bytes + 1);
	memset(pad, 'x', bytes);
	pad[bytes] = '\0';
	json_t *msg =
		json_pack("{s:s, s:s, s:i, s:s}", "op", "drop", "id", "x", "seq", seq, "pad", pad);
	free(pad);
	return msg;
}

static void an_engine_that_does_not_read_keeps_nobody_waiting(void **state)
{
	struct client *c = launch(NULL);
	struct process *stuck = engine_of(c, "stuck"), *other = engine_of(c, "other");
	(void)state;
	process_must_put(stuck,
			 process_graph("test/1", 1, "import time\ndef run(x):\n  while x: pass\n",
				       NULL, NULL));
	process_send(stuck, 1, "1");
	while (tap_doing_kind(tap_doing(stuck->tap)) != TAP_IDF)
		sched_yield();
	/* what the protocol allows: its socket takes only a part of that */
	for (int i = 0; i < 9; i++)
		process_ask(stuck, big_request(100000, i));
	for (int i = 0; i < 100; i++)
		json_decref(process_answer(
			other, json_pack("{s:s, s:s, s:i}", "op", "drop", "id", "x", "seq", i)));
	/* one frame may be longer, if nothing else waits */
	process_ask(other, big_request(15 << 20, 1000));
	json_auto_t *answer = process_await(other, "op", "drop");
	assert_int_equal(json_integer_value(json_object_get(answer, "seq")), 1000);
	/* and what it does not allow; the keeper may refuse it before all is written */
	for (int i = 0; i < 30; i++) {
		json_auto_t *msg = big_request(100000, i);
		frames_put(&c->frames, frame_of(stuck->number, msg, NULL));
	}
	while (frames_waiting(&c->frames) && client_read(c) &&
	       frames_flush(&c->frames, NULL) == 0) {
		struct pollfd ready = {.fd = c->fd, .events = POLLIN};
		if (frames_waiting(&c->frames))
			ready.events |= POLLOUT;
		assert_int_equal(poll(&ready, 1, WAIT_MS), 1);
	}
	frames_drop(&c->frames);
	client_await_hang_up(c);
	process_free(stuck);
	process_free(other);
	end(c);
}

/* What an agent wanted that died is not done by halves: the frame that had begun is completed. */
static void a_begun_frame_outlives_its_agent(void **state)
{
	struct process *p = *state;
	process_must_put(p,
			 process_graph("test/1", 1,
				       "def run(x):\n  i = 0\n  while i < x: i += 1\n  return x\n",
				       NULL, NULL));
	process_send(p, 1, "20000000"); /* long enough for what follows */
	while (tap_doing_kind(tap_doing(p->tap)) != TAP_IDF)
		sched_yield();
	process_ask(p,
		    big_request(900000, 1)); /* more than its socket takes, less than the window */
	process_ask(p, json_pack("{s:s, s:s, s:i}", "op", "drop", "id", "x", "seq", 2));
	client_hang_up(p->client);
	client_connect(p->client);
	json_decref(hello(p->client));
	process_ask(p, json_pack("{s:s, s:s, s:i}", "op", "drop", "id", "x", "seq", 3));
	process_result(p, 2, "20000000");
	json_auto_t *first = process_await(p, "op", "drop");
	int seq = (int)json_integer_value(json_object_get(first, "seq"));
	if (seq == 1) { /* it had begun */
		json_auto_t *next = process_await(p, "op", "drop");
		seq = (int)json_integer_value(json_object_get(next, "seq"));
	}
	assert_int_equal(seq, 3);
}

/* ---- engines ---- */

/* Whether the memory of process pid holds the text. ret: -1: it cannot be looked at. */
static int memory_holds(pid_t pid, const char *text)
{
	char path[40], line[500], perms[8];
	unsigned long from, to;
	int found = 0;
	size_t len = strlen(text);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	CLEANUP(freep)
	char *buf = malloc(1 << 20);
	FILE *maps = fopen(path, "re");
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	CLEANUP(closep)
	int mem = open(path, O_RDONLY | O_CLOEXEC);
	if (maps == NULL || mem < 0)
		return -1;
	while (found == 0 && fgets(line, sizeof(line), maps) != NULL) {
		if (sscanf(line, "%lx-%lx %7s", &from, &to, perms) != 3 || perms[0] != 'r' ||
		    to - from > 1ul << 30) /* a sanitizer's own */
			continue;
		for (; from < to && found == 0; from += (1 << 20) - len) {
			size_t want = to - from < (1 << 20) ? to - from : 1 << 20;
			ssize_t n = pread(mem, buf, want, (off_t)from);
			if (n <= 0)
				break;
			found = memmem(buf, (size_t)n, text, len) != NULL;
			if ((size_t)n < (1 << 20))
				break;
		}
	}
	fclose(maps);
	return found;
}

static int count_rings(pid_t pid)
{
	char path[40], line[500];
	int n = 0;
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	FILE *maps = fopen(path, "re");
	while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
		n += strstr(line, "memfd:") != NULL;
	if (maps != NULL)
		fclose(maps);
	return n;
}

/* A new engine is a copy of the keeper, through which everything of the others has passed. */
static void engines_see_nothing_of_each_other(void **state)
{
	static const char secret[] = "the combination is 1-2-3-4-5";
	struct client *c = launch(NULL);
	struct process *one = engine_of(c, "owner-with-a-telling-name");
	char source[300], name[60] = "owner-with-a-telling-";
	(void)state;
	snprintf(source, sizeof(source),
		 "# %s\nn = 0\ndef run(x):\n  global n\n  n += 1\n  return n\n", secret);
	process_must_put(one, process_graph("test/1", 1, source, NULL, NULL));
	/* some of it is in the keeper when the next one is forked: half a frame, and what an engine
	 * does not read */
	syscall(SYS_pidfd_send_signal, one->pidfd, SIGSTOP, NULL, 0);
	for (int i = 0; i < 6; i++) {
		json_t *msg = big_request(100000, i);
		json_object_set_new(msg, "secret", json_string(secret));
		process_ask(one, msg);
	}
	struct process *two = engine_of(c, "two");
	if (memory_holds(one->pid, secret) < 0) {
		print_message("the memory of engines cannot be looked at\n");
	} else {
		assert_int_equal(memory_holds(one->pid, secret), 1);
		assert_int_equal(memory_holds(two->pid, secret), 0);
		/* (the keeper itself has the name, of course) */
		strcat(name, "name");
		assert_int_equal(memory_holds(c->pid, name), 1);
		assert_int_equal(memory_holds(two->pid, name), 0);
		assert_int_equal(count_rings(two->pid), 2);
		assert_int_equal(count_rings(c->pid), 0);
	}
	syscall(SYS_pidfd_send_signal, one->pidfd, SIGCONT, NULL, 0);
	process_must_put(two, process_graph("test/1", 1, counter, NULL, NULL));
	process_send(one, 1, "1");
	process_result(one, 2, "1");
	process_send(two, 1, "1");
	process_result(two, 2, "[1,1]");
	process_kill(one);
	assert_string_equal(process_ended(one), "killed by signal 9");
	process_send(two, 1, "1");
	process_result(two, 2, "[2,1]");
	process_free(one);
	process_free(two);
	end(c);
}

/* A result that nobody takes is kicked for again: the first byte may have gone unseen. */
static void results_not_taken_are_kicked_for_again(void **state)
{
	struct process *p = *state;
	char bytes[64];
	process_must_put(p, process_graph("test/1", 1, NULL, NULL, NULL));
	tap_set_asleep(p->tap, true);
	process_send(p, 1, "1");
	for (int i = 0; i < 5; i++) {
		process_await_fd(p, p->result_fd, "another kick");
		assert_true(read(p->result_fd, bytes, sizeof(bytes)) > 0);
	}
	struct tap_rec rec;
	assert_int_equal(process_pull(p, &rec), 1);
	/* taken: no more, once one that was on its way has come */
	while (readable(p->result_fd, 50))
		assert_true(read(p->result_fd, bytes, sizeof(bytes)) > 0);
	assert_false(readable(p->result_fd, 100));
}

static int64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int by_size(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

/* Proportional set size in kB; 0: cannot be told. */
static size_t pss_kb(pid_t pid)
{
	char path[50], line[200];
	size_t kb = 0;
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	FILE *f = fopen(path, "re");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "Pss: %zu", &kb) == 1)
			break;
	if (f != NULL)
		fclose(f);
	return kb;
}

static void a_killed_engine_is_replaced(void **state)
{
	struct process *p = *state;
	int64_t took[51];
	for (size_t i = 0; i < ARRAY_LEN(took); i++) {
		process_kill(p);
		int64_t begin = now_us();
		process_ended(p);
		tap_retire(p->tap, false, NULL);
		assert_int_equal(tap_make_out(&p->fds, NULL), 0);
		assert_int_equal(tap_set_out(p->tap, p->fds.out_fd, NULL), 0);
		process_start(p); /* to its ready */
		took[i] = now_us() - begin;
	}
	qsort(took, ARRAY_LEN(took), sizeof(took[0]), by_size);
	print_message(
		"from kill to ready: median %.1f ms, most %.1f ms; PSS: engine %zu kB, keeper "
		"%zu kB\n",
		(double)took[ARRAY_LEN(took) / 2] / 1000, (double)took[ARRAY_LEN(took) - 1] / 1000,
		pss_kb(p->pid), pss_kb(p->client->pid));
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	if (access(engine_path(), X_OK) < 0) {
		fprintf(stderr, "%s is not there: make all first\n", engine_path());
		return EXIT_FAILURE;
	}
#define T(name) cmocka_unit_test_setup_teardown(name, process_setup, process_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hello_tells_settings_and_layers),
		T(the_next_agent_finds_engines_with_their_globals),
		cmocka_unit_test(an_end_that_nobody_saw_is_told_until_somebody_deals_with_it),
		T(an_engine_that_is_ended_is_forgotten),
		T(the_newest_agent_wins),
		cmocka_unit_test(without_an_agent_it_ends_after_a_while),
		cmocka_unit_test(quit_and_sigterm_end_it_with_all_engines),
		cmocka_unit_test(strangers_are_refused),
		T(one_keeper_for_one_socket),
		cmocka_unit_test(strict_means_no_engine_without_the_core_layers),
		cmocka_unit_test(wrong_options_are_refused),
		T(rubbish_of_an_agent_ends_its_connection_only),
		T(descriptors_of_refused_requests_are_closed),
		cmocka_unit_test(rubbish_of_an_engine_is_its_end_only),
		cmocka_unit_test(an_agent_that_does_not_read_holds_engines_back),
		cmocka_unit_test(an_engine_that_does_not_read_keeps_nobody_waiting),
		T(a_begun_frame_outlives_its_agent),
		cmocka_unit_test(engines_see_nothing_of_each_other),
		T(results_not_taken_are_kicked_for_again),
		T(a_killed_engine_is_replaced),
	};
	return cmocka_run_group_tests_name("keeper", tests, NULL, NULL);
}
