/* What doctor makes of a probe: probes of the test's own are scripts. */
#include "common/util.h"
#include "iotctl/check.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

#define PATIENCE_MS 20000

struct place {
	char dir[32], path[64];
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	snprintf(p->dir, sizeof(p->dir), P_tmpdir "/test-doctor-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->path, sizeof(p->path), "%s/probe", p->dir);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;

	unlink(p->path);
	assert_int_equal(rmdir(p->dir), 0);
	free(p);
	return 0;
}

static void write_probe(const struct place *p, const char *script)
{
	FILE *f = fopen(p->path, "w");

	assert_non_null(f);
	fprintf(f, "#!/bin/sh\n%s\n", script);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(p->path, 0700), 0);
}

#define SOUND                                                                                     \
	"[ \"$1\" = --probe ] && echo '{\"layers\": ["                                            \
	"{\"name\": \"seccomp\", \"up\": true, \"core\": true, \"why\": \"\", \"remedy\": \"\"}," \
	"{\"name\": \"landlock\", \"up\": false, \"core\": false, \"why\": \"old kernel\", "      \
	"\"remedy\": \"a newer one\"}]}'"
#define LACKING                                                                                \
	"echo '{\"layers\": [{\"name\": \"seccomp\", \"up\": false, \"core\": true, \"why\": " \
	"\"none\", \"remedy\": \"get one\"}]}'"

static void a_probe_is_run_and_understood(void **state)
{
	const struct place *p = *state;
	json_auto_t *layers = NULL;

	write_probe(p, SOUND);
	assert_int_equal(doctor_probe(p->path, PATIENCE_MS, &layers, NULL), 0);
	assert_int_equal(json_array_size(layers), 2);
	json_auto_t *report = doctor_new(false);
	doctor_add_layers(report, layers, NULL);
	assert_true(doctor_ok(report)); /* what is missing is not of the core */
}

static void a_missing_core_layer_is_not_ok_unless_degraded(void **state)
{
	const struct place *p = *state;
	json_auto_t *layers = NULL;

	write_probe(p, LACKING);
	assert_int_equal(doctor_probe(p->path, PATIENCE_MS, &layers, NULL), 0);
	json_auto_t *strict = doctor_new(false), *degraded = doctor_new(true);
	doctor_add_layers(strict, layers, NULL);
	doctor_add_layers(degraded, layers, NULL);
	assert_false(doctor_ok(strict));
	assert_true(doctor_ok(degraded));
}

/* One layer of each kind is what the keeper asks for. */
static void of_two_core_layers_of_a_kind_one_is_enough(void **state)
{
	(void)state;
	for (int files = 0; files < 4; files++) {
		json_auto_t *layers =
			json_pack("[{s:s, s:b, s:b, s:s}, {s:s, s:b, s:b, s:s}]", "name", "mountns",
				  "up", files & 1, "core", 1, "kind", "files", "name", "landlock",
				  "up", files >> 1, "core", 1, "kind", "files");
		json_auto_t *report = doctor_new(false);

		assert_non_null(layers);
		doctor_add_layers(report, layers, NULL);
		assert_int_equal(doctor_ok(report), files != 0);
	}
	json_auto_t *others = json_pack("[{s:s, s:b, s:b, s:s}, {s:s, s:b, s:b, s:s}]", "name",
					"netns", "up", 1, "core", 1, "kind", "net", "name",
					"landlock", "up", 0, "core", 1, "kind", "files");
	json_auto_t *report = doctor_new(false);
	doctor_add_layers(report, others, NULL);
	assert_false(doctor_ok(report));
}

static void probes_that_fail_are_told(void **state)
{
	static const struct {
		const char *script;
		int code;
		const char *word;
	} cases[] = {
		{"exit 3", ERR_PEER, "status 3"},
		{"kill -9 $$", ERR_PEER, "signal 9"},
		{"echo nonsense", ERR_SCHEMA, "layers"},
		{"echo '{\"layers\": []}'", ERR_SCHEMA, "layers"},
		{"echo '{\"layers\": [{\"name\": 7}]}'", ERR_SCHEMA, "layers"},
		{"echo '[1, 2]'", ERR_SCHEMA, "layers"},
		{"yes", ERR_SCHEMA, "too much"},
	};
	const struct place *p = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_t *layers = NULL;
		struct err err = {0};

		write_probe(p, cases[i].script);
		int rc = doctor_probe(p->path, PATIENCE_MS, &layers, &err);
		if (rc != cases[i].code || strstr(err.text, cases[i].word) == NULL)
			fail_msg("%s: %s: %s", cases[i].script, err_name(rc), err.text);
		assert_null(layers);
	}
}

static void a_probe_that_hangs_is_ended(void **state)
{
	const struct place *p = *state;
	json_t *layers = NULL;
	struct err err = {0};

	write_probe(p, "exec sleep 1000");
	assert_int_equal(doctor_probe(p->path, 50, &layers, &err), ERR_TIMEOUT);
}

static void without_a_probe_nothing_is_ok(void **state)
{
	const struct place *p = *state;
	json_t *layers = NULL;
	struct err err = {0};

	assert_int_equal(doctor_probe(p->path, PATIENCE_MS, &layers, &err), ERR_NOENT);
	json_auto_t *report = doctor_new(true);
	doctor_add_layers(report, NULL, err.text);
	assert_false(doctor_ok(report));
}

static void what_is_missing_counts_a_warning_does_not(void **state)
{
	json_auto_t *report = doctor_new(false);

	(void)state;
	doctor_add(report, doctor_line("g", "a", DOCTOR_OK, "there", NULL));
	doctor_add(report, doctor_line("g", "b", DOCTOR_WARNING, "not there", "make it"));
	assert_true(doctor_ok(report));
	doctor_add(report, doctor_line("g", "c", DOCTOR_MISSING, "not there", "make it"));
	assert_false(doctor_ok(report));
	assert_int_equal(json_array_size(json_object_get(report, "checks")), 3);
}

static void a_socket_answers_or_says_why_not(void **state)
{
	const struct place *p = *state;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct err err = {0};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_int_equal(doctor_socket(p->path, &err), ERR_NOENT);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", p->path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_true(doctor_socket(p->path, &err) < 0); /* nobody listens */
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(doctor_socket(p->path, &err), 0);
	close(fd);
}

/* ---- checks ---- */

static void say_well(struct look *l)
{
	look_says(l, "well", DOCTOR_OK, NULL, "%d", 7);
}

static void hang(struct look *l)
{
	look_says(l, "lost", DOCTOR_OK, NULL, "with the rest");
	for (;;)
		pause();
}

static void crash(struct look *l)
{
	(void)l;
	raise(SIGKILL);
}

static void a_check_that_fails_costs_its_own_lines_only(void **state)
{
	static const struct check checks[] = {
		{"g", "first", say_well, PATIENCE_MS, DOCTOR_MISSING, true},
		{"g", "hangs", hang, 50, DOCTOR_WARNING, true},
		{"g", "crashes", crash, PATIENCE_MS, DOCTOR_MISSING, true},
		{"g", "not now", say_well, PATIENCE_MS, DOCTOR_MISSING, false},
		{"g", "last", say_well, PATIENCE_MS, DOCTOR_MISSING, true},
	};
	static const char *const want[][2] = {
		{"well", "ok"}, {"hangs", "warning"}, {"crashes", "warning"}, {"well", "ok"}};
	struct iotctl app = {0};
	json_auto_t *report = doctor_new(false);
	json_t *line;
	size_t i;

	(void)state;
	check_all(checks, ARRAY_LEN(checks), &app, false, report);
	assert_int_equal(json_array_size(json_object_get(report, "checks")), ARRAY_LEN(want));
	json_array_foreach (json_object_get(report, "checks"), i, line) {
		assert_string_equal(json_string_value(json_object_get(line, "name")), want[i][0]);
		assert_string_equal(json_string_value(json_object_get(line, "state")), want[i][1]);
		assert_int_equal(json_is_string(json_object_get(line, "remedy")),
				 strcmp(want[i][1], "ok") != 0);
	}
	assert_true(doctor_ok(report));
	json_auto_t *other = doctor_new(false);
	struct check late = checks[1];
	late.late = DOCTOR_MISSING;
	check_all(&late, 1, &app, false, other);
	assert_false(doctor_ok(other));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_probe_is_run_and_understood),
		TEST(a_missing_core_layer_is_not_ok_unless_degraded),
		TEST(of_two_core_layers_of_a_kind_one_is_enough),
		TEST(probes_that_fail_are_told),
		TEST(a_probe_that_hangs_is_ended),
		TEST(without_a_probe_nothing_is_ok),
		TEST(what_is_missing_counts_a_warning_does_not),
		TEST(a_check_that_fails_costs_its_own_lines_only),
		TEST(a_socket_answers_or_says_why_not),
	};

	return cmocka_run_group_tests_name("doctor", tests, NULL, NULL);
}
