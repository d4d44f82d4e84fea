/* What dan/public/dan.h adds to the device client: its loop, and devices that may be freed
 * anywhere. Against the fakes of fakes.h, whose events are posted, so that they come in a turn as
 * those of a broker do. */
#include "common/util.h"
#include "dan/public/dan.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
/* after the three above */
#include <cmocka.h>
/* after that */
#include "tests/dan/fakes.h"

/* The word that a handler notes, at which the test frees the device. */
static const char *free_at = "";

static void told(const char *what)
{
	note("%s", what);
	if (strcmp(what, free_at) == 0)
		here->device = dan_device_free(here->device);
}

static void on_registered(void *arg, const char *name)
{
	(void)arg;
	(void)name;
	told("registered");
}

static void on_online(void *arg)
{
	(void)arg;
	told("online");
}

static void on_offline(void *arg, const char *why)
{
	(void)arg;
	(void)why;
	told("offline");
}

static void on_connect(void *arg, enum dan_mode mode, const char *feature)
{
	(void)arg;
	(void)feature;
	told(mode == DAN_IDF ? "connect idf" : "connect odf");
}

static void on_disconnect(void *arg, enum dan_mode mode, const char *feature)
{
	(void)arg;
	(void)feature;
	told(mode == DAN_IDF ? "disconnect idf" : "disconnect odf");
}

static void on_suspend(void *arg, enum dan_mode mode, const char *feature, bool suspended)
{
	(void)arg;
	(void)mode;
	(void)feature;
	told(suspended ? "suspend" : "resume");
}

static void on_data(void *arg, const char *feature, json_t *values)
{
	(void)arg;
	(void)feature;
	(void)values;
	told("data");
}

static void on_error(void *arg, const struct dan_error *err)
{
	(void)arg;
	note("(%s)", err->text);
	told(dan_code_name(err->code));
}

static void on_left(void *arg, int rc, const char *why)
{
	(void)arg;
	(void)why;
	told(rc == 0 ? "left" : "not left");
}

static void on_pushed(void *arg, int rc)
{
	(void)arg;
	told(rc == 0 ? "pushed" : "not pushed");
}

static const struct dan_device_handlers handlers = {
	.on_registered = on_registered,
	.on_online = on_online,
	.on_offline = on_offline,
	.on_connect = on_connect,
	.on_disconnect = on_disconnect,
	.on_suspend = on_suspend,
	.on_data = on_data,
	.on_error = on_error,
};

static int new_device(const char *id, struct dan_device **ret, struct dan_error *err)
{
	static const struct dan_feature meow = {.name = "meow"};
	json_auto_t *profile = json_pack("{s:s}", "model", "Cat");
	const struct dan_device_conf conf = {.csm_url = "http://csm:9992",
					     .id = id,
					     .idfs = &meow,
					     .n_idfs = 1,
					     .odfs = &meow,
					     .n_odfs = 1,
					     .profile = profile,
					     .qos = 1};
	return dan_device_new(here->dan, &conf, &handlers, NULL, ret, err);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	here = f;
	*state = f;
	free_at = "";
	return f == NULL || dan_open(&f->dan, NULL) < 0 ? -1 : new_device(ID, &f->device, NULL);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	dan_close(f->dan); /* and the device, if it is there */
	free(f);
	return 0;
}

/* ---- what happens to a device, each in a turn of its own ---- */

static void registers(void *arg)
{
	(void)arg;
	http_answer(0, 200, ANSWER);
}

static void comes_up(void *arg)
{
	(void)arg;
	here->handlers->on_up(here->bus_arg, true);
}

static void goes_down(void *arg)
{
	(void)arg;
	here->handlers->on_down(here->bus_arg, "cable");
}

static void is_commanded(void *arg)
{
	command(arg);
}

static void is_subscribed(void *arg)
{
	(void)arg;
	broker_acknowledges(0);
}

static void gets_data(void *arg)
{
	broker_sends("t/o", arg);
}

static void pushes(void *arg)
{
	(void)arg;
	assert_int_equal(dan_device_push_text(here->device, "meow", "[1]", on_pushed, NULL, NULL),
			 0);
}

static void is_taken(void *arg)
{
	(void)arg;
	broker_takes(0);
}

static void leaves(void *arg)
{
	(void)arg;
	assert_int_equal(dan_device_leave(here->device, on_left, NULL, NULL), 0);
}

static char connect_idf[] =
	"{\"msg_id\":\"a\",\"idf\":\"meow\",\"command\":\"CONNECT\",\"topic\":\"t/i\"}";
static char connect_odf[] =
	"{\"msg_id\":\"b\",\"odf\":\"meow\",\"command\":\"CONNECT\",\"topic\":\"t/o\"}";
static char disconnect_odf[] = "{\"msg_id\":\"c\",\"odf\":\"meow\",\"command\":\"DISCONNECT\"}";
static char suspend_idf[] = "{\"msg_id\":\"d\",\"idf\":\"meow\",\"command\":\"SUSPEND\"}";
static char resume_idf[] = "{\"msg_id\":\"e\",\"idf\":\"meow\",\"command\":\"RESUME\"}";
static char no_json[] = "no JSON", number[] = "[1]";

static const struct {
	dan_fn *fn;
	char *arg;
	const char *told; /* last */
} life[] = {
	{registers, NULL, "registered"},
	{comes_up, NULL, "online"},
	{is_commanded, connect_idf, "connect idf"},
	{is_commanded, connect_odf, ""},
	{is_subscribed, NULL, "connect odf"},
	{gets_data, number, "data"},
	{gets_data, no_json, "PARSE"},
	{pushes, NULL, ""},
	{is_taken, NULL, "pushed"},
	{is_commanded, suspend_idf, "suspend"},
	{is_commanded, resume_idf, "resume"},
	{is_commanded, disconnect_odf, "disconnect odf"},
	{goes_down, NULL, "offline"},
	{comes_up, NULL, "disconnect idf"},
	{leaves, NULL, ""},
	{is_subscribed, NULL, ""},
	{registers, NULL, "left"}, /* the answer to the DELETE is as good as any */
};

static void live_until(size_t end)
{
	for (size_t i = 0; i < end && here->device != NULL; i++) {
		assert_int_equal(dan_post(here->dan, life[i].fn, life[i].arg), 0);
		assert_int_equal(dan_work(here->dan), 0);
	}
}

static void the_handlers_tell_its_life(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(life); i++) {
		forget();
		assert_int_equal(dan_post(here->dan, life[i].fn, life[i].arg), 0);
		assert_int_equal(dan_work(here->dan), 0);
		assert_non_null(strstr(here->log, life[i].told));
	}
	assert_true(here->device != NULL && !dan_device_is_online(here->device));
}

static void a_device_may_be_freed_in_every_handler(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(life); i++) {
		free_at = life[i].told;
		if (*free_at == '\0')
			continue;
		live_until(ARRAY_LEN(life));
		assert_null(here->device);
		/* nothing is told after it, and the connection went in the same turn */
		char line[32];
		snprintf(line, sizeof(line), "\n%s\n", free_at);
		const char *at = strstr(here->log, line);
		assert_non_null(at);
		static const char *const words[] = {"online\n", "offline\n", "disconnect", "data\n",
						    "left"};
		for (size_t k = 0; k < ARRAY_LEN(words); k++)
			assert_null(strstr(at + strlen(line), words[k]));
		assert_non_null(strstr(at, "bus gone\n"));
		here->http_done = NULL;
		here->published = NULL;
		forget();
		free_at = "";
		assert_int_equal(new_device(ID, &here->device, NULL), 0);
	}
}

static void free_now(void *arg)
{
	(void)arg;
	here->device = dan_device_free(here->device);
}

static void a_push_of_a_freed_device_is_not_told(void **state)
{
	struct fixture *f = *state;
	live_until(8);
	assert_non_null(f->published);
	assert_int_equal(dan_post(f->dan, free_now, NULL), 0);
	assert_int_equal(dan_post(f->dan, is_taken, NULL), 0); /* in the same turn */
	forget();
	assert_int_equal(dan_work(f->dan), 0);
	assert_null(strstr(f->log, "pushed"));
	assert_non_null(strstr(f->log, "bus gone"));
}

static void outside_of_a_turn_it_is_freed_at_once(void **state)
{
	struct fixture *f = *state;
	live_until(8); /* with a push on its way */
	forget();
	f->device = dan_device_free(f->device);
	expect("pub up {\"state\":\"offline\",\"rev\":\"R1\"} 2 retained\nbus gone\n");
	assert_null(dan_device_free(NULL));
}

static void errors_are_told_in_its_own_words(void **state)
{
	struct fixture *f = *state;
	struct dan_device *none = NULL;
	struct dan_error err = {0};
	assert_int_equal(new_device("no UUID", &none, &err), DAN_SCHEMA);
	assert_int_equal(err.code, DAN_SCHEMA);
	assert_string_equal(err.text, "'no UUID' is not a UUID");
	assert_int_equal(new_device("no UUID", &none, NULL), DAN_SCHEMA);
	assert_null(none);
	assert_int_equal(dan_device_push(f->device, "else", NULL, &err), DAN_NOENT);
	assert_string_equal(err.text, "IDF 'else' unknown");
	assert_int_equal(dan_device_push_text(f->device, "meow", "[1]", on_pushed, NULL, &err),
			 DAN_AGAIN);
	assert_int_equal(dan_quit_on(f->dan, 12345, &err), DAN_INVAL);
	assert_string_equal(dan_code_name(DAN_CONFLICT), "CONFLICT");
}

static void what_nobody_set_is_told_and_not_followed(void **state)
{
	struct fixture *f = *state;
	static const struct dan_feature nameless = {0};
	static const char *const no_urls[] = {NULL, "", "ftp://csm", "mqtt://csm:1883"};
	json_auto_t *profile = json_pack("{s:s}", "model", "Cat");
	struct dan_device *none = NULL;
	struct dan_error err = {0};
	for (size_t i = 0; i < sizeof(no_urls) / sizeof(no_urls[0]); i++) {
		const struct dan_device_conf conf = {.csm_url = no_urls[i], .profile = profile};
		assert_int_equal(dan_device_new(f->dan, &conf, &handlers, NULL, &none, &err),
				 DAN_SCHEMA);
		assert_non_null(strstr(err.text, "csm_url"));
	}
	const struct dan_device_conf of_nothing = {0};
	const struct dan_device_conf of_nameless = {
		.csm_url = "http://csm", .profile = profile, .idfs = &nameless, .n_idfs = 1};
	assert_int_equal(dan_device_new(f->dan, &of_nothing, NULL, NULL, &none, &err), DAN_SCHEMA);
	assert_int_equal(dan_device_new(f->dan, &of_nameless, NULL, NULL, &none, &err), DAN_SCHEMA);
	assert_non_null(strstr(err.text, "name"));
	assert_null(none);
	/* and nobody has to listen */
	const struct dan_device_conf silent = {.csm_url = "csm:9992", .profile = profile};
	f->http_done = NULL;
	assert_int_equal(dan_device_new(f->dan, &silent, NULL, NULL, &none, &err), 0);
	dan_device_free(none);
}

static void without_an_id_it_has_a_random_one(void **state)
{
	struct fixture *f = *state;
	struct dan_device *two[2] = {NULL, NULL};
	for (int i = 0; i < 2; i++) {
		f->http_done = NULL;
		assert_int_equal(new_device(NULL, &two[i], NULL), 0);
		assert_int_equal(strlen(dan_device_id(two[i])), 36);
	}
	assert_string_not_equal(dan_device_id(two[0]), dan_device_id(two[1]));
}

/* ---- the loop ---- */

static void quit(void *arg)
{
	dan_quit(arg, 7);
}

static void count(void *arg)
{
	++*(int *)arg;
}

static void *post_from_outside(void *arg)
{
	dan_post(arg, quit, arg);
	return NULL;
}

static void runs_until_somebody_quits(void **state)
{
	struct fixture *f = *state;
	pthread_t thread;
	struct dan_timer *often = NULL;
	int times = 0;
	assert_int_equal(dan_timer_new(f->dan, 1, 1, count, &times, &often, NULL), 0);
	assert_int_equal(dan_timer_new(f->dan, 20, 0, quit, f->dan, NULL, NULL), 0);
	assert_int_equal(dan_run(f->dan), 7);
	assert_true(times >= 2);
	assert_null(dan_timer_free(f->dan, often));
	times = 0;
	assert_int_equal(pthread_create(&thread, NULL, post_from_outside, f->dan), 0);
	assert_int_equal(dan_run(f->dan), 7);
	pthread_join(thread, NULL);
	assert_int_equal(times, 0);
}

static void lives_in_a_loop_of_the_caller(void **state)
{
	struct fixture *f = *state;
	pthread_t thread;
	struct dan_timer *timer = NULL;
	int times = 0;
	struct pollfd fd = {.fd = dan_fd(f->dan), .events = POLLIN};
	assert_int_equal(dan_timeout_ms(f->dan), -1);
	assert_int_equal(poll(&fd, 1, 0), 0);
	assert_int_equal(dan_timer_new(f->dan, -1, 0, count, &times, &timer, NULL), 0);
	assert_int_equal(dan_timeout_ms(f->dan), -1);
	dan_timer_arm(f->dan, timer, 30000);
	assert_in_range(dan_timeout_ms(f->dan), 20000, 30000);
	dan_timer_arm(f->dan, timer, 5);
	while (times == 0) {
		assert_int_equal(poll(&fd, 1, dan_timeout_ms(f->dan)), 0);
		assert_int_equal(dan_work(f->dan), 0);
	}
	assert_int_equal(dan_timeout_ms(f->dan), -1);
	assert_int_equal(pthread_create(&thread, NULL, post_from_outside, f->dan), 0);
	assert_int_equal(poll(&fd, 1, 10000), 1);
	pthread_join(thread, NULL);
	assert_int_equal(dan_work(f->dan), 0);
	assert_int_equal(poll(&fd, 1, 0), 0);
}

static void a_chosen_signal_ends_it_and_the_mask_is_put_back(void **state)
{
	struct fixture *f = *state;
	sigset_t before, during, after;
	pthread_sigmask(SIG_BLOCK, NULL, &before);
	assert_int_equal(dan_quit_on(f->dan, SIGINT, NULL), 0);
	pthread_sigmask(SIG_BLOCK, NULL, &during);
	assert_true(sigismember(&during, SIGINT));
	raise(SIGINT);
	assert_int_equal(dan_run(f->dan), 0);
	raise(SIGINT); /* nobody waits for it any more: it must not kill us */
	f->dan = dan_close(f->dan);
	pthread_sigmask(SIG_BLOCK, NULL, &after);
	for (int signo = 1; signo < SIGRTMAX; signo++)
		assert_int_equal(sigismember(&before, signo), sigismember(&after, signo));
	assert_null(dan_close(NULL));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_handlers_tell_its_life),
		TEST(a_device_may_be_freed_in_every_handler),
		TEST(a_push_of_a_freed_device_is_not_told),
		TEST(outside_of_a_turn_it_is_freed_at_once),
		TEST(errors_are_told_in_its_own_words),
		TEST(what_nobody_set_is_told_and_not_followed),
		TEST(without_an_id_it_has_a_random_one),
		TEST(runs_until_somebody_quits),
		TEST(lives_in_a_loop_of_the_caller),
		TEST(a_chosen_signal_ends_it_and_the_mask_is_put_back),
	};
	return cmocka_run_group_tests_name("library", tests, NULL, NULL);
}
