/* iottalk-engine as the agent runs it. */
#include "engine/sanitizer.h"
#include "tests/engine/process.h"

static void the_walk_through_gives_49(void **state)
{
	struct process *p = *state;
	process_must_put(p, process_graph("test/1", 1, "def run(x): return int(x)\n",
					  "def run(x): return x ** 2\n", NULL));
	process_send(p, 1, "7");
	process_result(p, 2, "49");
	for (int i = 0; i < 1000; i++) {
		char payload[20], want[20];
		snprintf(payload, sizeof(payload), "[%d]", i);
		snprintf(want, sizeof(want), "%d", i * i);
		process_send(p, 1, payload);
		process_result(p, 2, want);
	}
}

static void requests_get_answers_that_say_what_is_wrong(void **state)
{
	static const struct {
		const char *idf, *join, *odf, *kind, *words[2];
	} cases[] = {
		{"def run(x) return 1", NULL, NULL, "idf", {"SyntaxError", "def run(x) return 1"}},
		{NULL, "x = 1\n", NULL, "join", {"`run` not found", ""}},
		{NULL, NULL, "run = 5\n", "odf", {"`run` must be a function", ""}},
		{NULL,
		 NULL,
		 "import math\nrun = math.sin\n",
		 "odf",
		 {"`run` must be a function", ""}},
		{"import nothing_like_this\n",
		 NULL,
		 NULL,
		 "idf",
		 {"ImportError", "import nothing_like_this"}},
		{"def run(x): return 1\nraise SystemExit(0)\n",
		 NULL,
		 NULL,
		 "idf",
		 {"SystemExit", "raise SystemExit(0)"}},
		{"return 1\n", NULL, NULL, "idf", {"'return' outside function", "return 1"}},
		{"def run(x):\n\treturn 1\n        pass\n",
		 NULL,
		 NULL,
		 "idf",
		 {"TabError", "<function "}},
		{"1/0", NULL, NULL, "idf", {"line 1", "ZeroDivisionError"}},
	};
	struct process *p = *state;
	process_must_put(p, process_graph("test/1", 1,
					  "n = 0\ndef run(x):\n  global n\n  n += 1\n  return n\n",
					  NULL, NULL));
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char count[20];
		json_auto_t *answer = process_answer(
			p, process_graph("test/1", 1, cases[i].idf, cases[i].join, cases[i].odf));
		const char *answer_state, *reason, *kind;
		int seq;
		if (json_unpack(answer, "{s:s, s:s, s:i, s:{s:s}}", "state", &answer_state,
				"reason", &reason, "seq", &seq, "where", "kind", &kind) < 0)
			fail_msg("case %zu: no error", i);
		assert_string_equal(answer_state, "error");
		assert_string_equal(kind, cases[i].kind);
		for (size_t k = 0; k < 2; k++)
			if (strstr(reason, cases[i].words[k]) == NULL)
				fail_msg("case %zu: no '%s' in %s", i, cases[i].words[k], reason);
		/* the revision before goes on, with its globals */
		process_send(p, 1, "0");
		snprintf(count, sizeof(count), "%zu", i + 1);
		process_result(p, 2, count);
	}
	static const char *const refused[] = {
		"{\"op\": \"graph\", \"seq\": 5}",
		"{\"op\": \"graph\", \"doc\": {\"id\": \"x\"}}",
		"{\"op\": \"graph\", \"doc\": {\"id\": 5, \"idf\": [], \"odf\": []}}",
		"{\"op\": \"graph\", \"doc\": {\"id\": \"x\", \"idf\": [5], \"odf\": []}}",
		"{\"op\": \"graph\", \"doc\": {\"id\": \"x\", \"idf\": [{\"lid\": -1}], \"odf\": "
		"[]}}",
		"{\"op\": \"graph\", \"doc\": {\"id\": \"x\", \"idf\": [{\"lid\": 1, \"slot\": "
		"99999999999}], \"odf\": []}}",
		"{\"op\": \"graph\", \"doc\": {\"id\": \"x\", \"idf\": [], \"odf\": [], \"join\": "
		"{\"func\": "
		"\"70e3d32f1c6abde67d607e3ce77dc286ecf5d0f42fcd18e6336fac5e19a6e07c\"}}, "
		"\"funcs\": {}}",
		"{\"op\": \"graph\", \"doc\": {\"id\": \"x\", \"idf\": [], \"odf\": [], \"join\": "
		"{\"func\": "
		"\"70e3d32f1c6abde67d607e3ce77dc286ecf5d0f42fcd18e6336fac5e19a6e07c\"}}, "
		"\"funcs\": "
		"{\"70e3d32f1c6abde67d607e3ce77dc286ecf5d0f42fcd18e6336fac5e19a6e07c\": "
		"\"other\"}}",
		"{\"op\": \"drop\"}",
		"{\"op\": \"check\"}",
		"{\"op\": \"check\", \"codes\": [], \"depends\": {\"a\": 1}}",
		"{\"op\": \"nothing\", \"seq\": [1]}",
		"{}",
	};
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		process_ask(p, json_loads(refused[i], 0, NULL));
		json_auto_t *answer = process_await(p, "state", "error");
		if (json_string_length(json_object_get(answer, "reason")) == 0)
			fail_msg("case %zu: no reason", i);
	}
}

static void check_compiles_without_running(void **state)
{
	struct process *p = *state;
	json_auto_t *answer =
		process_answer(p, json_pack("{s:s, s:i, s:[s, s, s, i], s:{s:s}}", "op", "check",
					    "seq", 9, "codes", "def run(x): return iot.half(x)\n",
					    "def run(:\n", "def run(x):\n  while True: pass\n", 5,
					    "depends", "half", "def run(x): return x / 2\n"));
	const char *s[4], *reason;
	int seq;
	assert_int_equal(json_unpack(answer, "{s:i, s:[{s:s}, {s:s, s:s}, {s:s}, {s:s}]}", "seq",
				     &seq, "results", "state", &s[0], "state", &s[1], "reason",
				     &reason, "state", &s[2], "state", &s[3]),
			 0);
	assert_int_equal(seq, 9);
	assert_string_equal(s[0], "ok");
	assert_string_equal(s[1], "error");
	assert_non_null(strstr(reason, "SyntaxError"));
	assert_string_equal(s[2], "ok");
	assert_string_equal(s[3], "error");
	json_auto_t *bad = process_answer(p, json_pack("{s:s, s:[s], s:{s:s}}", "op", "check",
						       "codes", "def run(x): return 1\n", "depends",
						       "broken", "1/0\n"));
	assert_int_equal(json_unpack(bad, "{s:[{s:s}]}", "results", "reason", &reason), 0);
	assert_ptr_equal(strstr(reason, "dependency broken: Traceback"), reason);
}

/* ---- the sandbox ---- */

static void attacks_raise_and_the_engine_goes_on(void **state)
{
	static const struct {
		const char *attack, *exception; /* must raise this */
	} cases[] = {
		{"open('/etc/passwd')", "PermissionError"},
		{"open('/tmp/written', 'w')", "PermissionError"},
		{"os.open('/etc/passwd', os.O_RDONLY)", "PermissionError"},
		{"os.listdir('/')", "PermissionError"},
		{"os.stat('/etc/passwd')", "PermissionError"},
		{"os.unlink('/tmp/written')", "PermissionError"},
		{"os.mkdir('/tmp/written')", "PermissionError"},
		{"os.fork()", "PermissionError"},
		{"os.posix_spawn('/bin/true', ['true'], {})", "PermissionError"},
		{"os.execv('/bin/true', ['true'])", "PermissionError"},
		{"os.kill(os.getppid(), 9)", "PermissionError"},
		{"os.kill(os.getpid(), 9)", "PermissionError"},
		{"os.killpg(0, 9)", "PermissionError"},
		{"os.system('true') and 1/0", "ZeroDivisionError"},
		{"os.memfd_create('x')", "PermissionError"},
		{"os.pipe()", "PermissionError"},
		{"os.dup(3)", "PermissionError"},
		{"os.close(3)", "PermissionError"},
		{"os.set_blocking(3, True)", "PermissionError"},
		{"os.set_inheritable(3, True)", "PermissionError"},
		{"os.ftruncate(4, 0)", "PermissionError"},
		{"os.pwrite(4, b'x', 0)", "PermissionError"},
		{"os.chdir('/')", "PermissionError"},
		{"os.chroot('/')", "PermissionError"},
		{"os.setuid(0)", "PermissionError"},
		{"os.nice(1)", "PermissionError"},
		{"os.sched_setaffinity(0, [0])", "PermissionError"},
		{"os.getxattr('/', 'user.x')", "PermissionError"},
		{"os.popen('true')", "ModuleNotFoundError"},
		{"__import__('socket')", "ModuleNotFoundError"},
		{"__import__('_socket').socket()", "PermissionError"},
		{"__import__('subprocess')", "ModuleNotFoundError"},
		{"__import__('ctypes')", "ModuleNotFoundError"},
		{"__import__('mmap')", "ModuleNotFoundError"},
		{"__import__('resource')", "ModuleNotFoundError"},
		{"__import__('threading')", "ModuleNotFoundError"},
		{"__import__('_thread').start_new_thread(print, ())", "RuntimeError"},
		{"__import__('_signal').signal(14, print)", "PermissionError"},
		{"__import__('_signal').setitimer(0, 1)", "itimer_error"},
		{"__import__('_signal').pthread_kill(__import__('_thread').get_ident(), 9)",
		 "PermissionError"},
	};
	struct process *p = *state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char source[400];
		snprintf(source, sizeof(source),
			 "__import__ = print.__self__.__import__\n" /* without the list of modules */
			 "os = __import__('os')\n"
			 "def run(x):\n  try:\n    %s\n  except Exception as e:\n    "
			 "return type(e).__name__\n  return 'nothing raised'\n",
			 cases[i].attack);
		process_must_put(p, process_graph("test/1", 1, source, NULL, NULL));
		char want[60];
		snprintf(want, sizeof(want), "\"%s\"", cases[i].exception);
		process_send(p, 1, "1");
		struct tap_rec rec;
		while (process_pull(p, &rec) == 0) {
			tap_set_asleep(p->tap, true);
			if (process_pull(p, &rec) != 0)
				break;
			process_await_fd(p, p->result_fd, cases[i].attack);
			char bytes[64];
			while (read(p->result_fd, bytes, sizeof(bytes)) > 0)
				continue;
		}
		if (strcmp(p->result, want) != 0)
			fail_msg("%s: got %s", cases[i].attack, p->result);
	}
}

static void what_functions_need_works_inside(void **state)
{
	static const struct {
		const char *expression, *json;
	} cases[] = {
		{"json.loads('[1]')", "[1]"},
		{"math.sqrt(4)", "2.0"},
		{"statistics.mean([1, 2, 3])", "2"},
		{"0 <= random.random() < 1", "true"},
		{"time.sleep(0.001) or time.time() > 0", "true"},
		{"datetime.datetime.strptime('2020-02-03', '%Y-%m-%d').day", "3"},
		{"datetime.datetime.now().astimezone().utcoffset() == "
		 "datetime.datetime.now().astimezone().utcoffset()",
		 "true"},
		{"time.strftime('%Y', time.gmtime(0))", "\"1970\""},
		{"re.sub('a', 'b', 'aa')", "\"bb\""},
		{"collections.Counter('aab')['a']", "2"},
		{"list(itertools.chain([1], [2]))", "[1,2]"},
		{"functools.reduce(operator.add, [1, 2])", "3"},
		{"str(decimal.Decimal('0.1') + decimal.Decimal('0.2'))", "\"0.3\""},
		{"str(fractions.Fraction(1, 3))", "\"1/3\""},
		{"struct.unpack('<H', b'\\x01\\x02')[0]", "513"},
		{"base64.b64encode(b'a').decode()", "\"YQ==\""},
		{"hashlib.sha256(b'').hexdigest()[:8]", "\"e3b0c442\""},
		{"hashlib.md5(b'').hexdigest()[:8]", "\"d41d8cd9\""},
		{"hashlib.new('sha1', b'').hexdigest()[:8]", "\"da39a3ee\""},
		{"string.ascii_lowercase[:2]", "\"ab\""},
		{"bisect.bisect([1, 3], 2)", "1"},
		{"heapq.nsmallest(1, [2, 1])", "[1]"},
		{"copy.deepcopy([[1]])", "[[1]]"},
		{"dataclasses.asdict(dataclasses.make_dataclass('P', ['x'])(5))", "{\"x\":5}"},
		{"enum.Enum('E', 'A').A.name", "\"A\""},
		{"typing.get_type_hints(run)", "{}"},
		{"'\\u00e9'.encode('latin-1').decode('cp1252')", "\"\xc3\xa9\""},
		{"'a'.encode('utf-16-le').hex()", "\"6100\""},
		{"'b\\u00fccher'.encode('idna').decode()", "\"xn--bcher-kva\""},
		{"0 <= random.SystemRandom().random() < 1", "true"},
	};
	struct process *p = *state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char source[1000];
		snprintf(source, sizeof(source),
			 "import json, math, statistics, random, time, datetime, re, "
			 "collections, itertools, functools, operator\n"
			 "import decimal, fractions, struct, base64, hashlib, string, bisect, "
			 "heapq, copy, dataclasses, enum, typing\n"
			 "def run(x):\n  try:\n    return %s\n  except Exception as e:\n    return "
			 "repr(e)\n",
			 cases[i].expression);
		process_must_put(p, process_graph("test/1", 1, source, NULL, NULL));
		process_send(p, 1, "1");
		process_result(p, 2, cases[i].json);
	}
}

static void printing_never_blocks(void **state)
{
	struct process *p = *state;
	process_must_put(p, process_graph("test/1", 1,
					  "sys = print.__self__.__import__('sys')\n"
					  "def run(x):\n  print('said', x)\n  "
					  "print('err', file=sys.stderr)\n  return x\n",
					  NULL, NULL));
	process_send(p, 1, "1");
	process_result(p, 2, "1");
	while (strstr(p->log, "said 1\n") == NULL || strstr(p->log, "err\n") == NULL)
		process_await_fd(p, p->log_fds[strstr(p->log, "said 1\n") != NULL],
				 "the printed lines");
	/* far more than a pipe holds, and nobody reads */
	process_must_put(
		p,
		process_graph(
			"test/1", 1,
			"def run(x):\n  for i in range(100):\n    print('x' * 10000)\n  return x\n",
			NULL, NULL));
	process_send(p, 1, "2");
	struct tap_rec rec;
	struct pollfd fd = {.fd = p->result_fd, .events = POLLIN};
	tap_set_asleep(p->tap, true);
	while (process_pull(p, &rec) == 0)
		assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
	assert_string_equal(p->result, "2");
}

/* ---- ends, and what comes after ---- */

static void replace(struct process *p, bool skip, uint32_t want_skipped)
{
	struct tap_rec skipped;
	tap_retire(p->tap, skip, &skipped);
	assert_int_equal(tap_make_out(&p->fds, NULL), 0);
	assert_int_equal(tap_set_out(p->tap, p->fds.out_fd, NULL), 0);
	assert_int_equal(skipped.slot, want_skipped);
	process_start(p);
}

static void put_both(struct process *p, const char *culprit)
{
	process_must_put(p, process_graph("test/1", 1, culprit, NULL, NULL));
	process_must_put(p, process_graph("test/2", 3, NULL, NULL, NULL));
}

static void an_endless_loop_is_named_and_skipped(void **state)
{
	static const char endless[] = "def run(x):\n  while x: pass\n  return x\n";
	struct process *p = *state;
	uint64_t done, waiting, word;
	put_both(p, endless);
	process_send(p, 3, "1");
	process_result(p, 4, "[1]");
	process_send(p, 1, "1"); /* never ends */
	process_send(p, 3, "2");
	process_send(p, 1, "0");
	/* what it says it does: the first graph, its IDF, link 1 */
	do {
		sched_yield();
		word = tap_doing(p->tap);
	} while (tap_doing_kind(word) != TAP_IDF);
	assert_int_equal(tap_doing_graph(word), 1);
	assert_int_equal(tap_doing_lid(word), 1);
	assert_int_equal(tap_progress(p->tap, &done, &waiting), 0);
	assert_int_equal(waiting, 3 * 24);
	process_kill(p);
	assert_string_equal(process_ended(p), "killed by signal 9");

	replace(p, true, 1);
	put_both(p, endless);
	process_go(p);
	process_result(p, 4, "[2]");
	process_result(p, 2, "0");
}

static void os_exit_ends_it_in_the_middle_of_a_message(void **state)
{
	struct process *p = *state;
	put_both(p, "import random\ndef run(x): random._os._exit(77)\n");
	process_send(p, 1, "1");
	process_send(p, 3, "2");
	assert_string_equal(process_ended(p), "exit status 77");
	assert_int_equal(tap_doing_kind(tap_doing(p->tap)), TAP_IDF);
	replace(p, true, 1);
	put_both(p, "def run(x): return x\n");
	process_go(p);
	process_result(p, 4, "[2]");
}

static void the_end_of_the_keeper_is_the_end(void **state)
{
	struct process *p = *state;
	put_both(p, "def run(x):\n  while x: pass\n  return x\n");
	process_send(p, 1, "1"); /* never ends, so it does not look at its control socket */
	kill(p->client->pid, SIGKILL);
	await_death(p->pidfd);
	client_await_hang_up(p->client);
	process_forget(p);
}

static void damaged_frames_are_the_end(void **state)
{
	/* the keeper passes on what begins an object */
	static const char *const cases[] = {"{]", "{\"op\": }", "{}{}", "{\"op\":\"drop\""};
	struct process *p = *state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct frame *f = frame_new(p->number, strlen(cases[i]));
		memcpy(f->body, cases[i], f->len);
		frames_put(&p->client->frames, f);
		client_flush(p->client);
		assert_string_equal(process_ended(p), "exit status 4");
		replace(p, false, UINT32_MAX);
	}
}

/* Under a sanitizer there is no limit: its shadow memory is larger than any. */
static void skip_if_sanitized(void)
{
	if (SANITIZED)
		skip();
}

static int setup_small(void **state)
{
	return process_setup_memory(state, "96");
}

static void memory_that_comes_back_is_no_reason_to_end(void **state)
{
	skip_if_sanitized();
	struct process *p = *state;
	put_both(p, "def run(x):\n  a = []\n  while True: a.append(bytes(1 << 20))\n");
	for (int i = 0; i < 20; i++) {
		process_send(p, 1, "1");
		process_send(p, 3, "2");
		process_result(p, 4, "[2]");
	}
	json_auto_t *fault = process_await(p, "op", "fault");
	assert_non_null(strstr(json_string_value(json_object_get(fault, "msg")), "MemoryError"));
	/* a single huge piece */
	process_must_put(
		p, process_graph("test/1", 1, "def run(x): return bytes(1 << 30)\n", NULL, NULL));
	process_send(p, 1, "1");
	process_send(p, 3, "3");
	process_result(p, 4, "[3]");
}

static void memory_held_by_globals_ends_the_engine(void **state)
{
	skip_if_sanitized();
	struct process *p = *state;
	put_both(p, "a = []\ndef run(x):\n  while True: a.append(bytes(1 << 20))\n");
	process_send(p, 1, "1");
	process_send(p, 3, "2");
	assert_string_equal(process_ended(p), "exit status 3");
	assert_non_null(strstr(p->log, "engine.memory"));
	/* that message is done with: nothing to skip */
	assert_int_equal(tap_doing(p->tap), 0);
	replace(p, false, UINT32_MAX);
	put_both(p, "def run(x): return x\n");
	process_go(p);
	process_result(p, 4, "[2]");
}

static void a_limit_too_low_is_said_at_the_start(void **state)
{
	static const char *const extra[] = {"--memory-mb", "32", NULL};
	struct client c;
	(void)state;
	skip_if_sanitized();
	client_init(&c);
	assert_false(client_launch(&c, extra));
	assert_true(WIFEXITED(c.exit_status) && WEXITSTATUS(c.exit_status) == 1);
	if (strstr(c.report, "memory limit of 32 MB is too low") == NULL)
		fail_msg("%s", c.report);
	client_done(&c);
}

static void recursion_is_just_an_error(void **state)
{
	static const char *const deep[] = {
		"def run(x): return run(x)\n",
		"class A:\n  def __repr__(self): return repr(self)\ndef run(x): return repr(A())\n",
		"class A:\n  def __getattr__(self, n): return getattr(self, n + 'x')\ndef run(x): "
		"return A().a\n",
		"def run(x):\n  a = []\n  for i in range(100000): a = [a]\n  return str(a)\n",
		"def run(x):\n  a = []\n  for i in range(100000): a = [a]\n  return a\n",
		"import re\ndef run(x): return re.compile('(' * 5000 + ')' * 5000)\n",
		"def run(x): return eval('[' * 500 + ']' * 500)\n",
		"import json\ndef run(x): return json.loads('[' * 100000)\n",
	};
	struct process *p = *state;
	for (size_t i = 0; i < ARRAY_LEN(deep); i++) {
		put_both(p, deep[i]);
		process_send(p, 1, "1");
		process_send(p, 3, "2");
		process_result(p, 4, "[2]");
	}
}

/* ---- load ---- */

#define CHANGES 60

/* The graph is replaced again and again while messages pass: each must come once, in order, its
 * state untouched. */
static void nothing_is_lost_or_reordered_while_graphs_change(void **state)
{
	static const char *const joins[] = {"def run(n, x): return [n, x]\n",
					    "def run(n, x): return [n, x]\n# other\n", NULL};
	struct process *p = *state;
	unsigned sent = 0, got = 0, answered = 0;
	const char *count = "n = 0\ndef run(x):\n  global n\n  n += 1\n  return [n, x]\n";
	process_must_put(p, process_graph("test/1", 1, count, NULL, NULL));
	for (unsigned i = 0; i < CHANGES; i++)
		process_ask(p, process_graph("test/1", 1, count, NULL,
					     i % 3 < 2 ? joins[i % 3] : NULL));
	while (got < 20000 || answered < CHANGES) {
		char payload[20], want[40];
		struct tap_rec rec = {.slot = 1, .qos = 1};
		rec.len = (uint32_t)snprintf(payload, sizeof(payload), "%u", sent + 1);
		if (sent - got < 500 && tap_push(p->tap, &rec, payload) == 0) {
			sent++;
			if (tap_engine_sleeps(p->tap))
				assert_int_equal(write(p->wake_fd, "", 1), 1);
		}
		if (process_pull(p, &rec) != 0) {
			got++;
			snprintf(want, sizeof(want), "[%u,%u]", got, got);
			assert_string_equal(p->result, want);
		}
		json_auto_t *frame = process_frame(p);
		if (json_object_get(frame, "seq") != NULL) {
			assert_string_equal(json_string_value(json_object_get(frame, "state")),
					    "ok");
			answered++;
		}
		if (sent - got >= 500)
			sched_yield();
	}
}

static void results_wait_for_room(void **state)
{
	struct process *p = *state;
	unsigned sent = 0, got = 0;
	char payload[20], want[20];
	/* 4 KB for each message: the out-ring is full long before */
	process_must_put(p, process_graph("test/1", 1, "def run(x): return [x, 'y' * 4000]\n", NULL,
					  "def run(x, y): return x\n"));
	process_must_put(
		p, process_graph("test/2", 1, "def run(x): return [x, 'y' * 4000]\n", NULL, NULL));
	for (; sent < 1000; sent++) {
		snprintf(payload, sizeof(payload), "%u", sent);
		process_send(p, 1, payload);
	}
	while (got < 2 * sent) {
		struct tap_rec rec;
		if (process_pull(p, &rec) == 0) {
			process_await_fd(
				p, p->result_fd,
				"results"); /* kicked again and again while it waits for room */
			char bytes[64];
			assert_true(read(p->result_fd, bytes, sizeof(bytes)) != 0);
			tap_set_asleep(p->tap, true);
			continue;
		}
		snprintf(want, sizeof(want), got % 2 == 0 ? "%u" : "[%u,\"y", got / 2);
		assert_int_equal(strncmp(p->result, want, strlen(want)), 0);
		got++;
	}
}

static void a_flood_does_not_keep_requests_waiting(void **state)
{
	struct process *p = *state;
	struct timespec begin, end;
	/* 1 ms each: the ring holds 40 s of them */
	process_must_put(p,
			 process_graph("test/1", 1, "import time\ndef run(x): time.sleep(0.001)\n",
				       NULL, NULL));
	for (int i = 0; i < 40000; i++)
		process_send(p, 1, "1");
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (int i = 0; i < 20; i++)
		json_decref(process_answer(
			p, json_pack("{s:s, s:s, s:i}", "op", "drop", "id", "other", "seq", i)));
	clock_gettime(CLOCK_MONOTONIC, &end);
	assert_in_range(end.tv_sec - begin.tv_sec, 0,
			4); /* 20 times 5 ms and much for a busy machine */
}

static void frames_may_come_in_pieces(void **state)
{
	struct process *p = *state;
	json_auto_t *request = json_pack("{s:s, s:s, s:i}", "op", "drop", "id", "x", "seq", 77);
	CLEANUP(freep)
	char *text = json_dumps(request, JSON_COMPACT);
	size_t len = strlen(text);
	char head[8] = {(char)len, 0, 0, 0, (char)p->number};
	process_must_put(p, process_graph("test/1", 1, NULL, NULL, NULL));
	/* byte by byte, with messages between that must not wait for the rest */
	for (size_t i = 0; i < 8 + len; i++) {
		assert_int_equal(write(p->client->fd, i < 8 ? &head[i] : &text[i - 8], 1), 1);
		process_send(p, 1, "5");
		process_result(p, 2, "[5]");
	}
	json_auto_t *answer = process_await(p, "op", "drop");
	assert_int_equal(json_integer_value(json_object_get(answer, "seq")), 77);
	/* and many in one piece */
	for (int i = 0; i < 200; i++)
		process_ask(p, json_pack("{s:s, s:s, s:i}", "op", "drop", "id", "x", "seq", i));
	for (int i = 0; i < 200; i++) {
		json_auto_t *next = process_await(p, "op", "drop");
		assert_int_equal(json_integer_value(json_object_get(next, "seq")), i);
	}
}

static void numbers_are_told(void **state)
{
	struct process *p = *state;
	process_must_put(p, process_graph("test/1", 1, "def run(x): return 1 / x\n", NULL, NULL));
	process_send(p, 1, "0");
	process_send(p, 1, "1");
	process_send(p, 1, "not json");
	process_send(p, 8, "1");
	json_auto_t *fault = process_await(p, "op", "fault");
	const char *graph, *kind, *msg;
	int lid, evaluated = 0, failed = 0, not_json = 0, no_link = 0;
	assert_int_equal(json_unpack(fault, "{s:s, s:s, s:i, s:s}", "graph", &graph, "kind", &kind,
				     "lid", &lid, "msg", &msg),
			 0);
	assert_string_equal(graph, "test/1");
	assert_string_equal(kind, "idf");
	assert_int_equal(lid, 1);
	assert_non_null(strstr(msg, "ZeroDivisionError"));
	while (evaluated < 2 || no_link < 1) {
		json_auto_t *stats = process_await(p, "op", "stats");
		assert_int_equal(json_unpack(stats, "{s:i, s:i, s:{s?i, s?i}}", "evaluated",
					     &evaluated, "failed", &failed, "drops", "not_json",
					     &not_json, "no_link", &no_link),
				 0);
	}
	assert_int_equal(evaluated, 2);
	assert_int_equal(failed, 1);
	assert_int_equal(not_json, 1);
	assert_int_equal(no_link, 1);
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
		T(the_walk_through_gives_49),
		T(requests_get_answers_that_say_what_is_wrong),
		T(check_compiles_without_running),
		T(attacks_raise_and_the_engine_goes_on),
		T(what_functions_need_works_inside),
		T(printing_never_blocks),
		T(an_endless_loop_is_named_and_skipped),
		T(os_exit_ends_it_in_the_middle_of_a_message),
		T(the_end_of_the_keeper_is_the_end),
		T(damaged_frames_are_the_end),
		cmocka_unit_test_setup_teardown(memory_that_comes_back_is_no_reason_to_end,
						setup_small, process_teardown),
		cmocka_unit_test_setup_teardown(memory_held_by_globals_ends_the_engine, setup_small,
						process_teardown),
		cmocka_unit_test(a_limit_too_low_is_said_at_the_start),
		T(recursion_is_just_an_error),
		T(nothing_is_lost_or_reordered_while_graphs_change),
		T(results_wait_for_room),
		T(a_flood_does_not_keep_requests_waiting),
		T(frames_may_come_in_pieces),
		T(numbers_are_told),
	};
	return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
