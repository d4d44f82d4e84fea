/* test_conf.c - the INI reader, the settings table, and pid locks. */
#include "common/conf.h"
#include "common/pidfile.h"
#include "common/settings.h"
#include "common/util.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

struct notes {
	unsigned errors, warnings;
	char text[8192]; /* all of them, each with a newline */
};

static void on_note(void *arg, bool is_error, const char *text)
{
	struct notes *n = arg;
	size_t used = strlen(n->text);

	*(is_error ? &n->errors : &n->warnings) += 1;
	snprintf(n->text + used, sizeof(n->text) - used, "%s\n", text);
}

static void write_file(const char *path, const char *text, size_t len)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

struct place {
	char dir[32], ini[64];
	struct settings s;
	struct notes notes;
	struct err err;
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	strcpy(p->dir, P_tmpdir "/test_conf.XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->ini, sizeof(p->ini), "%s/x.ini", p->dir);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;

	settings_done(&p->s);
	unlink(p->ini);
	rmdir(p->dir);
	free(p);
	return 0;
}

static int load_bytes(struct place *p, const char *text, size_t len)
{
	write_file(p->ini, text, len);
	settings_done(&p->s);
	p->notes = (struct notes){0};
	p->err = (struct err){0};
	return settings_load(p->ini, &p->s, on_note, &p->notes, &p->err);
}

static int load(struct place *p, const char *text)
{
	return load_bytes(p, text, strlen(text));
}

static void assert_note(const struct place *p, const char *words)
{
	if (strstr(p->notes.text, words) == NULL)
		fail_msg("no note says '%s'; there are:\n%s", words, p->notes.text);
}

static void no_file_gives_defaults(void **state)
{
	struct place *p = *state;

	setenv("HOME", "/home/somebody", 1);
	assert_int_equal(settings_load(NULL, &p->s, on_note, &p->notes, &p->err), 0);
	assert_string_equal(p->notes.text, "");
	assert_string_equal(p->s.core.bind, "127.0.0.1");
	assert_int_equal(p->s.core.http_port, 9992);
	assert_string_equal(p->s.core.userdir, "/home/somebody/.iottalk");
	assert_int_equal(p->s.core.da_expiration_s, 259200);
	assert_string_equal(p->s.core_db.url, "/home/somebody/.iottalk/iottalk.db");
	assert_int_equal(p->s.core_mqtt.port, 1883);
	assert_string_equal(p->s.core_ws.host, "localhost");
	assert_int_equal(p->s.core_ws.port, 1884);
	assert_int_equal(p->s.broker.managed, BROKER_AUTO);
	assert_int_equal(p->s.broker.message_size_limit, 1048576);
	assert_int_equal(p->s.engine.qos, ENGINE_QOS_AUTO);
	assert_false(p->s.aaa.enable_mqtt_auth);
}

static void file_values_replace_defaults(void **state)
{
	struct place *p = *state;

	assert_int_equal(
		load(p,
		     "\xef\xbb\xbf; first\n[core]\n  http-port : 8080\r\nuserdir=/var/x\nlog-level "
		     "= DEBUG\n"
		     "[core-db]\nurl = :memory:\n[core-mqtt]\nhost = 10.0.0.1\n[engine]\nqos = 2"),
		0);
	assert_string_equal(p->notes.text, "");
	assert_int_equal(p->s.core.http_port, 8080);
	assert_string_equal(p->s.core.userdir, "/var/x");
	assert_int_equal(p->s.core.log_level, 3);
	assert_string_equal(p->s.core_db.url, ":memory:");
	assert_string_equal(p->s.core_ws.host, "10.0.0.1");
	assert_int_equal(p->s.engine.qos, ENGINE_QOS_2);
}

static void relative_userdir_is_beside_the_file(void **state)
{
	struct place *p = *state;
	char want[64];

	snprintf(want, sizeof(want), "%s/state", p->dir);
	assert_int_equal(load(p, "[core]\nuserdir = state\n"), 0);
	assert_string_equal(p->s.core.userdir, want);
}

static void references_are_replaced(void **state)
{
	struct place *p = *state;

	assert_int_equal(
		load(p, "[core]\nuserdir = /srv/${core-mqtt:host}/${http-port}\nhttp-port = 81\n"
			"[core-mqtt]\nhost = ${core:bind}\n[core-db]\nurl = "
			"/a$$b/${aa:enable_mqtt_auth}$x\n"),
		0);
	assert_string_equal(p->notes.text, "");
	assert_string_equal(p->s.core.userdir, "/srv/127.0.0.1/81");
	assert_string_equal(p->s.core_mqtt.host, "127.0.0.1");
	assert_string_equal(p->s.core_db.url, "/a$b/false$x");
}

static void aliases_are_other_names(void **state)
{
	struct place *p = *state;

	assert_int_equal(load(p, "[aa]\nenable_mqtt_auth = off\n[core]\nmanaged-broker = no\n"), 0);
	assert_string_equal(p->notes.text, "");
	assert_int_equal(p->s.broker.managed, BROKER_NO);
}

/* Each of these is refused, and the note says where and what. */
static void bad_values_are_errors_with_file_and_line(void **state)
{
	static const struct {
		const char *text, *words;
	} cases[] = {
		{"[core]\nhttp-port = x\n",
		 "x.ini:2: core.http-port = x: must be a whole number from 1 to 65535"},
		{"[core]\nhttp-port = 0\n", ":2: core.http-port = 0"},
		{"[core]\nhttp-port = 65536\n", ":2: core.http-port"},
		{"[core]\nhttp-port = 99999999999999999999\n", ":2: core.http-port"},
		{"[core]\nhttp-port = 80 ; web\n", ":2: core.http-port = 80 ; web: must be"},
		{"[core]\nhttp-port =\n", ":2: core.http-port = : must be"},
		{"[core]\nhttp-port = +1\n", ":2: core.http-port"},
		{"[core]\nbind = everywhere\n",
		 ":2: core.bind = everywhere: must be an IP address"},
		{"[core]\nuserdir =\n", ":2: core.userdir = : must not be empty"},
		{"[core]\nlog-level = loud\n", "must be one of error, warn, info, debug"},
		{"\n\n[aa]\nenable_mqtt_auth = true\n",
		 ":4: aaa.enable_mqtt_auth = true: MQTT credentials"},
		{"[aaa]\nenable_mqtt_auth = perhaps\n", "must be true or false"},
		{"[core-db]\ntype = mysql\n", ":2: core-db.type = mysql: not part of this build"},
		{"[core-db]\ntype = mssql\n", "must be one of sqlite, mysql, postgresql"},
		{"[core-mqtt]\nscheme = mqtts\n", "not part of this build"},
		{"[core-mqtt]\nhost = a b\n", "must be a host name"},
		{"[agent]\nid = a/b\n", ":2: agent.id = a/b: must be at most 64 characters"},
		{"[core]\nuserdir = ${nowhere:x}\n", ":2: core.userdir: there is no 'nowhere:x'"},
		{"[core]\nuserdir = ${userdir}/x\n",
		 ":2: core.userdir: ${userdir} leads in a circle"},
		{"[core]\nuserdir = ${core-db:url}\n[core-db]\nurl = ${core:userdir}\n",
		 "leads in a circle"},
		{"[core\nhttp-port = 1\n", ":1: neither [section], nor key = value, nor a comment"},
		{"[core]\nhello\n", ":2: neither [section]"},
		{"http-port = 1\n[core]\n",
		 ":1: key 'http-port' stands before the first [section]"},
	};
	struct place *p = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int rc = load(p, cases[i].text);

		if (rc != ERR_SCHEMA || p->notes.errors == 0)
			fail_msg("'%s': rc %d, %u errors", cases[i].text, rc, p->notes.errors);
		assert_note(p, cases[i].words);
		assert_true(p->err.text[0] != '\0');
	}
}

static void doubtful_lines_are_warnings_and_the_rest_counts(void **state)
{
	static const struct {
		const char *text, *words;
	} cases[] = {
		{"[core]\nhtpp-port = 1\n", "x.ini:2: unknown key 'htpp-port' in section [core], "
					    "ignored; did you mean 'http-port'?"},
		{"[core]\nHTTP_PORT = 1\n", "did you mean 'http-port'?"},
		{"[core]\nport = 1\n", "unknown key 'port' in section [core], ignored"},
		{"[core]\nqueue-bytes = 1\n", "it belongs in section [agent]"},
		{"[core]\nzzzzzz = 1\n", ":2: unknown key 'zzzzzz' in section [core], ignored\n"},
		{"[coer]\nhttp-port = 1\n",
		 ":2: unknown section [coer] (key 'http-port' ignored); did you mean [core]?"},
		{"[weather]\nrain = 1\n", "unknown section [weather] (key 'rain' ignored)\n"},

		{"[core]\nhttp-port = 9992\nhttp-port = 9992\n",
		 ":3: core.http-port was already set in line 2"},
		{"[core]\nuserdir = /x # mine\n",
		 ":2: core.userdir: ; and # begin a comment only at the start"},
	};
	struct place *p = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int rc = load(p, cases[i].text);

		if (rc != 0 || p->notes.errors != 0 || p->notes.warnings != 1)
			fail_msg("'%s': rc %d, notes:\n%s", cases[i].text, rc, p->notes.text);
		assert_note(p, cases[i].words);
		assert_int_equal(p->s.core.http_port, 9992);
	}
}

static void comment_signs_inside_values_are_kept(void **state)
{
	struct place *p = *state;

	assert_int_equal(load(p, "# a\n ; b\n[core]\nuserdir = /x;y#z\n"), 0);
	assert_string_equal(p->notes.text, "");
	assert_string_equal(p->s.core.userdir, "/x;y#z");
}

static void long_lines_are_taken_or_named(void **state)
{
	struct place *p = *state;
	char text[CONF_LINE_MAX + 200], path[CONF_LINE_MAX];

	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[1000] = '\0';
	snprintf(text, sizeof(text), "[core]\nuserdir = %s\n", path);
	assert_int_equal(load(p, text), 0);
	assert_string_equal(p->s.core.userdir, path);

	memset(text, 'b', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	memcpy(text, "[core]\nx = ", 11);
	assert_int_equal(load(p, text), ERR_SCHEMA);
	assert_note(p, ":2: the line is longer than 4000 bytes");
}

static void rubbish_is_refused_or_ignored_but_never_more(void **state)
{
	struct place *p = *state;
	static const char alphabet[] = "[]=:;#${}\n\r\t abcore-mqtt\0\xff\x80";
	char text[3000];

	assert_int_equal(load_bytes(p, "[core]\n\0http-port = 1\n", 22), ERR_SCHEMA);
	assert_note(p, ":2: a zero byte");
	assert_int_equal(load(p, ""), 0);
	assert_int_equal(load(p, "[core]\n\x1b[31m = 1\n"), 0);
	assert_null(strchr(p->notes.text, '\x1b')); /* nothing that a terminal would obey */
	unsigned seed = 1;

	for (unsigned round = 0; round < 300; round++) {
		for (size_t i = 0; i < sizeof(text); i++) {
			seed = seed * 1103515245 + 12345;
			text[i] = alphabet[seed / 65536 % sizeof(alphabet)];
		}
		load_bytes(p, text, sizeof(text));
	}
}

static void more_complaints_than_anybody_reads_are_cut(void **state)
{
	struct place *p = *state;
	char text[8000] = "[core]\n";

	for (size_t n = strlen(text); n + 8 < sizeof(text); n += 6)
		strcpy(text + n, "q = 1\n");
	assert_int_equal(load(p, text), 0);
	assert_int_equal(p->notes.warnings, 100);
}

static void missing_file_is_no_entry(void **state)
{
	struct place *p = *state;

	assert_int_equal(settings_load("/nonexistent/x.ini", &p->s, on_note, &p->notes, &p->err),
			 ERR_NOENT);
	assert_non_null(strstr(p->err.text, "/nonexistent/x.ini"));
}

static void directory_is_not_a_file(void **state)
{
	struct place *p = *state;

	assert_true(settings_load(p->dir, &p->s, on_note, &p->notes, &p->err) < 0);
	assert_non_null(strstr(p->err.text, p->dir));
}

/* The sample, every setting taken in, gives the defaults without a word. */
static void sample_is_the_defaults(void **state)
{
	struct place *p = *state;
	struct settings defaults;
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	settings_sample(f);
	fclose(f);
	assert_non_null(strstr(text, "\n[core]\n"));
	for (char *at = text; (at = strstr(at, "\n;")) != NULL;)
		at[1] = ' ';
	assert_int_equal(load(p, text), 0);
	assert_string_equal(p->notes.text, "");
	assert_int_equal(settings_load(NULL, &defaults, NULL, NULL, NULL), 0);
	assert_string_equal(p->s.core.userdir, defaults.core.userdir);
	assert_int_equal(p->s.agent.queue_bytes, defaults.agent.queue_bytes);
	settings_done(&defaults);
	free(text);
}

/* ---- pid locks ---- */

static void pid_lock_tells_its_owner_while_that_lives(void **state)
{
	struct place *p = *state;
	int to_child[2], from_child[2], fd = -1;
	pid_t owner = 0;
	char byte;

	assert_int_equal(pidfile_owner(p->ini, &owner), ERR_NOENT); /* no file */
	assert_int_equal(pipe2(to_child, O_CLOEXEC), 0);
	assert_int_equal(pipe2(from_child, O_CLOEXEC), 0);
	pid_t pid = fork();

	if (pid == 0) {
		int lock;
		bool ok = pidfile_lock(p->ini, getpid(), &lock) == 0 &&
			  write(from_child[1], "x", 1) == 1 && close(to_child[1]) == 0 &&
			  read(to_child[0], &byte, 1) == 0;
		_exit(ok ? 0 : 1);
	}
	assert_int_equal(read(from_child[0], &byte, 1), 1);
	int pidfd = pidfile_owner(p->ini, &owner);

	assert_true(pidfd >= 0);
	assert_int_equal(owner, pid);
	close(pidfd);
	assert_int_equal(pidfile_lock(p->ini, getpid(), &fd), ERR_BUSY);
	assert_int_equal(fd, -1);
	close(to_child[0]);
	close(to_child[1]); /* the child ends */
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(pidfile_owner(p->ini, &owner),
			 ERR_NOENT); /* the file is there, nobody has it */
	assert_int_equal(pidfile_lock(p->ini, getpid(), &fd), 0);
	close(fd);
	close(from_child[0]);
	close(from_child[1]);
}

static void pid_lock_passes_to_an_executed_program(void **state)
{
	struct place *p = *state;
	int ends[2], status, fd;
	pid_t owner = 0;

	assert_int_equal(pipe(ends), 0);
	pid_t pid = fork();

	if (pid == 0) {
		dup2(ends[0], STDIN_FILENO);
		close(ends[0]);
		close(ends[1]);
		if (pidfile_lock_for_exec(p->ini, getpid()) == 0)
			execl("/bin/cat", "cat", NULL);
		_exit(1);
	}
	close(ends[0]);
	int pidfd = -1;

	/* The child has no way to tell when it is the program; the lock itself is what is awaited.
	 */
	for (int i = 0; i < 500 && pidfd < 0; i++) {
		pidfd = pidfile_owner(p->ini, &owner);
		if (pidfd < 0)
			usleep(10000);
	}
	assert_true(pidfd >= 0);
	assert_int_equal(owner, pid);
	assert_int_equal(pidfile_lock(p->ini, getpid(), &fd), ERR_BUSY);
	close(ends[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(pidfd);
	assert_int_equal(pidfile_owner(p->ini, &owner), ERR_NOENT);
}

struct changes {
	unsigned adopted, waiting;
	char waits[200]; /* all of them, each with a blank before it */
};

static void on_change(void *arg, const struct conf_row *row, bool adopted)
{
	struct changes *c = arg;

	*(adopted ? &c->adopted : &c->waiting) += 1;
	size_t len = strlen(c->waits);
	if (!adopted)
		snprintf(c->waits + len, sizeof(c->waits) - len, " %s.%s", row->section, row->key);
}

static void only_what_may_change_is_taken_from_another_reading(void **state)
{
	struct place *p = *state;
	struct settings fresh;
	struct changes c = {0};

	load(p, "[core]\nuserdir = /x\nda-expiration = 5\ncors-origin = *\nlog-level = info\n");
	const char *text = "[core]\nuserdir = /y\nda-expiration = 6\ncors-origin = https://a.org\n"
			   "log-level = debug\n";

	write_file(p->ini, text, strlen(text));
	assert_int_equal(settings_load(p->ini, &fresh, on_note, &p->notes, &p->err), 0);
	settings_adopt(&p->s, &fresh, on_change, &c);
	settings_done(&fresh);
	assert_int_equal(c.adopted, 3);
	assert_int_equal(p->s.core.da_expiration_s, 6);
	assert_string_equal(p->s.core.cors_origin, "https://a.org");
	assert_string_equal(p->s.core.userdir, "/x");
	/* the stores lie below userdir, and move with it */
	assert_int_equal(c.waiting, 4);
	assert_string_equal(c.waits, " core.userdir core-db.url gui-db.url devices-db.url");
}

int main(void)
{
#define PLACED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		PLACED(no_file_gives_defaults),
		PLACED(file_values_replace_defaults),
		PLACED(relative_userdir_is_beside_the_file),
		PLACED(references_are_replaced),
		PLACED(aliases_are_other_names),
		PLACED(bad_values_are_errors_with_file_and_line),
		PLACED(doubtful_lines_are_warnings_and_the_rest_counts),
		PLACED(comment_signs_inside_values_are_kept),
		PLACED(long_lines_are_taken_or_named),
		PLACED(rubbish_is_refused_or_ignored_but_never_more),
		PLACED(more_complaints_than_anybody_reads_are_cut),
		PLACED(missing_file_is_no_entry),
		PLACED(directory_is_not_a_file),
		PLACED(sample_is_the_defaults),
		PLACED(only_what_may_change_is_taken_from_another_reading),
		PLACED(pid_lock_tells_its_owner_while_that_lives),
		PLACED(pid_lock_passes_to_an_executed_program),
	};
	return cmocka_run_group_tests_name("conf", tests, NULL, NULL);
}
