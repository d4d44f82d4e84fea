/* test_device_reload.c - the device file, read again: what it changes, and what it leaves as it is.
 */
#include "tests/agent/service_world.h"

static void reload_changes_one_device_and_leaves_the_others(void **state)
{
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"},{\"type\":\"fake\",\"name\":\"d1\"},"
		 "{\"type\":\"fake\",\"name\":\"d2\"}");
	say(w, "fake/d0", "enable", "true", true);
	say(w, "fake/d1", "enable", "true", true);
	say(w, "fake/d2", "enable", "true", true);
	say(w, "fake/d3", "enable", "true", true); /* it is to come */
	AWAIT(w->loop, running(w) == 3);
	struct fake *d0 = fake_named("fake/d0"), *d1 = fake_named("fake/d1");

	json_auto_t *same = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(same, "changed") + n_of(same, "added") + n_of(same, "removed"), 0);
	assert_false(json_is_true(json_object_get(same, "restart_needed")));
	/* wrong somewhere: nothing is changed */
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\",\"restart_delay\":5},"
		      "{\"type\":\"nothing\",\"name\":\"d1\"}");
	assert_reason(w, json_pack("{s:s, s:s}", "op", "reload", "name", "d0"), "devices[1]");
	assert_int_equal(fakes.closed, 0);
	/* d0 changed, d1 the same, d2 gone, d3 new; only d0 is asked for */
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\",\"restart_delay\":5},"
		      "{\"type\":\"fake\",\"name\":\"d1\"},{\"type\":\"fake\",\"name\":\"d3\"}");
	json_auto_t *one = ask(w, json_pack("{s:s, s:s}", "op", "reload", "name", "d0"), NULL);

	assert_int_equal(n_of(one, "changed"), 1);
	assert_int_equal(n_of(one, "added") + n_of(one, "removed"), 0);
	AWAIT(w->loop, running(w) == 3);
	assert_int_equal(fakes.closed, 1);
	assert_ptr_equal(fake_named("fake/d1"), d1);
	assert_true(fakes.created == 4 && d0 != NULL);
	assert_reason(w, json_pack("{s:s, s:s}", "op", "reload", "name", "d9"), "no device 'd9'");
	assert_reason(w, json_pack("{s:s, s:[]}", "op", "reload", "name"), "name must be a text");
	json_auto_t *rest = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(rest, "changed"), 0);
	assert_int_equal(n_of(rest, "added"), 1);
	assert_int_equal(n_of(rest, "removed"), 1);
	/* the broker had told that d3 is enabled */
	AWAIT(w->loop, fake_named("fake/d3") != NULL);
	assert_null(fake_named("fake/d2"));
	assert_ptr_equal(fake_named("fake/d1"), d1);
	assert_non_null(strstr(views.notes.text, "deregister gw1-fake-d2;"));
	/* what comes back is as it was */
	write_file(w, "{\"type\":\"fake\",\"name\":\"d1\"},{\"type\":\"fake\",\"name\":\"d2\"}");
	json_auto_t *back = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(back, "removed"), 2);
	AWAIT(w->loop, fake_named("fake/d2") != NULL && running(w) == 2);
	AWAIT(w->loop, heard(w, "fake/d3/gateway/running=false;"));
}

/* Names may look like others' TYPE/NAME. */
static void type_and_name_mean_one_device(void **state)
{
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"},{\"type\":\"other\",\"name\":\"fake/d0\"},"
		 "{\"type\":\"other\",\"name\":\"d0\"}");
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\",\"restart_delay\":5},"
		      "{\"type\":\"other\",\"name\":\"fake/d0\",\"restart_delay\":5},"
		      "{\"type\":\"fake\",\"name\":\"d1\"},"
		      "{\"type\":\"other\",\"name\":\"fake/d1\"}");
	assert_reason(w, json_pack("{s:s, s:s}", "op", "reload", "name", "d0"), "several devices");
	static const struct {
		const char *name, *done, *key;
	} rows[] = {
		{"fake/d0", "changed", "fake/d0"},
		{"fake/d1", "added", "fake/d1"},
		{"other/d0", "removed", "other/d0"},
		{"other/fake/d0", "changed", "other/fake/d0"},
		{"other/fake/d1", "added", "other/fake/d1"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		json_auto_t *answer =
			ask(w, json_pack("{s:s, s:s}", "op", "reload", "name", rows[i].name), NULL);
		const json_t *done = json_object_get(answer, rows[i].done);

		assert_int_equal(n_of(answer, "changed") + n_of(answer, "added") +
					 n_of(answer, "removed"),
				 1);
		assert_string_equal(json_string_value(json_array_get(done, 0)), rows[i].key);
	}
}

/* What they said last before the broker went is not what they are. */
static void last_words_without_a_broker_are_said_when_it_is_back(void **state)
{
	static const char *const words[] = {
		"fake/d0/gateway/status=\"DISCONNECTED\";", "fake/d0/gateway/running=false;",
		"fake/d1/gateway/status=\"DISCONNECTED\";", "fake/d1/gateway/running=false;",
		"fake/d2/gateway/status=\"DISCONNECTED\";", "fake/d2/gateway/running=false;",
		"fake/d3/gateway/status=\"DISCONNECTED\";", "fake/d3/gateway/running=true;",
	};
	struct world *w = *state;
	char name[16];

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"},{\"type\":\"fake\",\"name\":\"d1\"},"
		 "{\"type\":\"fake\",\"name\":\"d2\",\"store\":{}},"
		 "{\"type\":\"fake\",\"name\":\"d3\"}");
	for (unsigned i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "fake/d%u", i);
		say(w, name, "enable", "true", true);
	}
	AWAIT(w->loop, running(w) == 4);
	lose_broker(w);
	/* d0 and d3 are made anew, one of them to be disabled; d1 and d2 are gone */
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\",\"restart_delay\":5},"
		      "{\"type\":\"fake\",\"name\":\"d3\",\"restart_delay\":5}");
	json_auto_t *answer = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(answer, "changed"), 2);
	assert_int_equal(n_of(answer, "removed"), 2);
	json_auto_t *off = ask(w, json_pack("{s:s, s:s}", "op", "disable", "name", "d0"), NULL);

	assert_string_equal(json_string_value(json_object_get(off, "state")), "ok");
	find_broker(w);
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		AWAIT(w->loop, heard(w, words[i]));
	assert_false(heard(w, "fake/d0/gateway/running=true;"));
	/* the last word is that of the one that runs */
	AWAIT(w->loop, heard_last(w, "fake/d3/gateway/running=", "true;"));
}

/* It may have again what they said long before. */
static void last_words_are_said_again_to_a_broker_that_forgot(void **state)
{
	static const char *const words[] = {
		"fake/d0/gateway/status=\"DISCONNECTED\";",
		"fake/d0/gateway/running=false;",
		"fake/d1/gateway/status=\"DISCONNECTED\";",
		"fake/d1/gateway/running=false;",
	};
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"},{\"type\":\"fake\",\"name\":\"d1\"}");
	say(w, "fake/d0", "enable", "true", true);
	say(w, "fake/d1", "enable", "true", true);
	AWAIT(w->loop, running(w) == 2);
	say(w, "fake/d0", "enable", "false", true);
	AWAIT(w->loop, running(w) == 1);
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\",\"restart_delay\":5}");
	json_auto_t *answer = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(answer, "changed"), 1);
	assert_int_equal(n_of(answer, "removed"), 1);
	for (size_t times = 0; times < 2; times++) {
		lose_broker(w);
		find_broker(w);
		for (size_t i = 0; i < ARRAY_LEN(words); i++)
			AWAIT(w->loop, heard(w, words[i]));
	}
	/* what comes back speaks for itself */
	say(w, "fake/d1", "enable", "true", true);
	write_file(w, "{\"type\":\"fake\",\"name\":\"d1\"}");
	json_auto_t *back = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(back, "added"), 1);
	AWAIT(w->loop, running(w) == 1);
	lose_broker(w);
	find_broker(w);
	AWAIT(w->loop, heard_last(w, "fake/d1/gateway/running=", "true;"));
}

static void a_device_that_left_while_we_were_away_does_not_run(void **state)
{
	struct world *w = *state;
	struct store *store;

	assert_int_equal(store_open(w->loop, &w->settings, &store, NULL), 0);
	assert_int_equal(store_begin(store, NULL), 0);
	assert_int_equal(store_add_registration(store, "id-0", "fake/d 0/#", NULL), 0);
	store_close(store);
	begin(w, "{\"type\":\"fake\",\"name\":\"d1\"}");
	AWAIT(w->loop, heard(w, "fake/d 0%2F%23/gateway/running=false;"));
}

/* ---- a reload that takes many turns ---- */

enum { MANY = 400, POINTS = 100 };

static const char whole[] = "{\"op\":\"reload\"}\n", list_all[] = "{\"op\":\"list\"}\n";

/* A file of many devices with many points of their own. space: in each of them; first: what the
 * first one has beside its points; last: behind the list's last one. */
static void write_many(struct world *w, const char *space, const char *first, const char *last)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	fprintf(f,
		"{\"name\":\"gw1\",\"mqtt\":{\"host\":\"127.0.0.1\",\"port\":%u},"
		"\"csm\":{\"url\":\"http://127.0.0.1:1\"},\"devices\":[",
		w->broker.port);
	for (unsigned i = 0; i < MANY; i++) {
		fprintf(f, "%s{\"type\":\"fake\",\"name\":\"d%u\",%s%s\"data\":[", i > 0 ? "," : "",
			i, space, i == 0 ? first : "");
		for (unsigned k = 0; k < POINTS; k++)
			fprintf(f, "%s{\"name\":\"p%u_%u\"}", k > 0 ? "," : "", i, k);
		fputs("]}", f);
	}
	fprintf(f, "%s]}", last);
	assert_int_equal(fclose(f), 0);
	broker_write(&w->broker, "devices.json", text);
	free(text);
}

/* A new connection that asks, and does not wait. ret: its socket. */
static int begin_asking(struct world *w, const char *request)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (w->ctl == NULL)
		assert_int_equal(
			ctl_listen(w->loop, w->socket, ops, ARRAY_LEN(ops), w, &w->ctl, NULL), 0);
	assert_true(fd >= 0);
	snprintf(to.sun_path, sizeof(to.sun_path), "%s", w->socket);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	return fd;
}

static bool is_answered(int fd)
{
	char c;

	return recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* ret: yours; the socket is closed. */
static json_t *end_asking(struct world *w, int fd)
{
	AWAIT(w->loop, is_answered(fd));
	size_t len = 0, room = 1 << 20;
	char *text = malloc(room);
	ssize_t n = 1;

	assert_non_null(text);
	while (n > 0 && memchr(text, '\n', len) == NULL) {
		loop_turn(w->loop, 0);
		n = recv(fd, text + len, room - len, 0);
		len += n > 0 ? (size_t)n : 0;
	}
	json_t *answer = json_loadb(text, len, 0, NULL);

	assert_non_null(answer);
	free(text);
	close(fd);
	return answer;
}

/* Reading and changing devices goes on in many turns, and what others ask is answered in between.
 */
static void a_reload_does_not_hold_the_others(void **state)
{
	static const struct {
		const char *space, *first, *last, *state;
		size_t changed;
	} rows[] = {
		/* all texts are others, all devices are the same */
		{" ", "", "", "ok", 0},
		/* one is not */
		{"", "\"restart_delay\":7,", "", "ok", 1},
		/* wrong behind all that is right */
		{" ", "", ",{}", "error", 0},
	};
	struct world *w = *state;

	write_many(w, "", "", "");
	watcher_start(&w->watcher, w->loop, &w->broker, "gateway/gw1/+/+/gateway/#");
	start(w);
	AWAIT(w->loop, is_synced(w));
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		write_many(w, rows[i].space, rows[i].first, rows[i].last);
		int reloading = begin_asking(w, whole);

		for (int turn = 0; turn < 5; turn++)
			loop_turn(w->loop, 0);
		int listing = begin_asking(w, list_all);

		AWAIT(w->loop, is_answered(listing));
		assert_false(is_answered(reloading));
		json_auto_t *list = end_asking(w, listing);
		json_auto_t *answer = end_asking(w, reloading);

		assert_int_equal(n_of(list, "devices"), MANY);
		assert_string_equal(json_string_value(json_object_get(answer, "state")),
				    rows[i].state);
		assert_int_equal(n_of(answer, "changed"), rows[i].changed);
		assert_int_equal(n_of(answer, "added") + n_of(answer, "removed"), 0);
	}
}

/* Each answers for the file as it is when the one before is done. */
static void reloads_go_one_after_the_other(void **state)
{
	struct world *w = *state;

	write_many(w, "", "", "");
	watcher_start(&w->watcher, w->loop, &w->broker, "gateway/gw1/+/+/gateway/#");
	start(w);
	AWAIT(w->loop, is_synced(w));
	write_many(w, " ", "\"restart_delay\":7,", "");
	int first = begin_asking(w, whole);

	for (int turn = 0; turn < 5; turn++)
		loop_turn(w->loop, 0);
	int second = begin_asking(w, whole), third = begin_asking(w, list_all);

	AWAIT(w->loop, is_answered(third));
	assert_false(is_answered(first) || is_answered(second));
	write_many(w, "", "\"restart_delay\":8,", "");
	AWAIT(w->loop, is_answered(first));
	assert_false(is_answered(second));
	json_auto_t *one = end_asking(w, first), *two = end_asking(w, second),
		    *listed = end_asking(w, third);

	assert_int_equal(n_of(one, "changed"), 1);
	assert_int_equal(n_of(two, "changed"), 1);
	assert_int_equal(n_of(listed, "devices"), MANY);
	json_auto_t *same = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(same, "changed"), 0);
}

/* Who waits is told; what is half read is given up. */
static void the_end_does_not_wait_for_a_reload(void **state)
{
	struct world *w = *state;

	write_many(w, "", "", "");
	start(w);
	write_many(w, " ", "\"restart_delay\":7,", "");
	int first = begin_asking(w, whole), second = begin_asking(w, whole);

	for (int turn = 0; turn < 8; turn++)
		loop_turn(w->loop, 0);
	assert_false(is_answered(first) || is_answered(second));
	w->devices = devices_free(w->devices);
	json_auto_t *one = end_asking(w, first), *two = end_asking(w, second);

	assert_string_equal(json_string_value(json_object_get(one, "state")), "error");
	assert_string_equal(json_string_value(json_object_get(two, "state")), "error");
}

static void write_template(struct world *w, unsigned delay)
{
	char text[200];

	snprintf(text, sizeof(text),
		 "{\"template\":\"t\",\"version\":1,\"title\":\"T\",\"type\":\"fake\","
		 "\"device\":{\"restart_delay\":%u}}",
		 delay);
	broker_write(&w->broker, "templates/t.json", text);
}

/* The text of a device is the same, what it names is not. */
static void a_reload_sees_that_a_template_has_changed(void **state)
{
	struct world *w = *state;
	char dir[200], path[220];

	snprintf(dir, sizeof(dir), "%s/templates", w->broker.dir);
	snprintf(path, sizeof(path), "%s/t.json", dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	write_template(w, 5);
	begin(w, "{\"template\":\"t\",\"name\":\"d0\"},{\"template\":\"t\",\"name\":\"d1\"}");
	json_auto_t *same = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(same, "changed"), 0);
	write_template(w, 6);
	json_auto_t *one = ask(w, json_pack("{s:s, s:s}", "op", "reload", "name", "d0"), NULL);

	assert_int_equal(n_of(one, "changed"), 1);
	/* the other one still runs with what the template was */
	json_auto_t *other = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_string_equal(json_string_value(json_array_get(json_object_get(other, "changed"), 0)),
			    "fake/d1");
	assert_int_equal(n_of(other, "changed"), 1);
	assert_int_equal(unlink(path), 0);
	assert_reason(w, json_pack("{s:s}", "op", "reload"), "there is no template t");
	write_template(w, 6);
	json_auto_t *again = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(again, "changed"), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

/* What is odd is told each time. */
static void a_reload_repeats_its_warnings(void **state)
{
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"},"
		 "{\"type\":\"fake\",\"name\":\"d1\",\"restart_dalay\":1}");
	for (int i = 0; i < 3; i++) {
		json_auto_t *answer = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

		assert_int_equal(n_of(answer, "warnings"), 1);
		assert_int_equal(n_of(answer, "changed"), 0);
	}
	/* twice the text of one that is known */
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\"},{\"type\":\"fake\",\"name\":\"d0\"}");
	assert_reason(w, json_pack("{s:s}", "op", "reload"),
		      "devices[1].name: there is another fake 'd0'");
}

/* d0 and d1 run, d0 has said more than a broker that stands still takes, and a reload is to remove
 * d1. ret: of the reload, for end_asking() */
static int begin_removal(struct world *w)
{
	enum { MORE = 5000 }; /* than the broker is given before it answers */

	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\"},{\"type\":\"fake\",\"name\":\"d1\"}");
	watcher_start(&w->watcher, w->loop, &w->broker, "gateway/gw1/fake/d1/gateway/#");
	start(w);
	AWAIT(w->loop, is_synced(w));
	say(w, "fake/d0", "enable", "true", true);
	say(w, "fake/d1", "enable", "true", true);
	AWAIT(w->loop, running(w) == 2 && heard(w, "fake/d1/gateway/running=true;"));
	notes_clear(&w->heard);
	kill(w->broker.pid, SIGSTOP);
	for (unsigned i = 0; i < MORE; i++)
		fake_emit(fake_named("fake/d0"), "write", json_integer(1), false, -1, NULL);
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\"}");
	return begin_asking(w, whole);
}

static void who_is_removed_has_said_all_before(void **state)
{
	struct world *w = *state;
	int reloading = begin_removal(w);

	AWAIT(w->loop, fake_named("fake/d1") == NULL);
	for (int turn = 0; turn < 20; turn++)
		loop_turn(w->loop, 10);
	assert_false(is_answered(reloading));
	kill(w->broker.pid, SIGCONT);
	json_auto_t *answer = end_asking(w, reloading);

	assert_int_equal(n_of(answer, "removed"), 1);
	AWAIT(w->loop, heard(w, "fake/d1/gateway/status=\"DISCONNECTED\";"
				"fake/d1/gateway/running=false;"));
}

/* The broker takes nothing for five seconds: it is waited for no longer, and hears it later. */
static void who_is_removed_waits_for_a_broker_so_long(void **state)
{
	struct world *w = *state;
	json_auto_t *answer = end_asking(w, begin_removal(w));

	assert_int_equal(n_of(answer, "removed"), 1);
	lose_broker(w);
	find_broker(w);
	AWAIT(w->loop, heard(w, "fake/d1/gateway/running=false;"));
}

/* A broker that forgets is told of it all the same, and one that missed the end of what ran before.
 */
static void who_is_changed_has_said_that_it_does_not_run(void **state)
{
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"}");
	AWAIT(w->loop, heard(w, "fake/d0/gateway/running=false;"));
	write_file(w, "{\"type\":\"fake\",\"name\":\"d0\",\"restart_delay\":5}");
	json_auto_t *changed = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_int_equal(n_of(changed, "changed"), 1);
	lose_broker(w);
	find_broker(w);
	AWAIT(w->loop, heard(w, "fake/d0/gateway/running=false;"));
}

/* What is counted only grows, whoever goes. */
static void who_is_removed_has_counted(void **state)
{
	struct world *w = *state;

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"}");
	say(w, "fake/d0", "write/x", "1", false);
	say(w, "fake/d0", "enable", "true", true);
	AWAIT(w->loop, running(w) == 1);
	fakes.event_fails = true;
	say(w, "fake/d0", "write/x", "2", false);
	AWAIT(w->loop, counter(w, "device_events_refused") == 1);
	write_file(w, "");
	json_decref(ask(w, json_pack("{s:s}", "op", "reload"), NULL));
	assert_int_equal(counter(w, "devices"), 0);
	assert_int_equal(counter(w, "device_events_dropped"), 1);
	assert_int_equal(counter(w, "device_events_handled"), 1);
	assert_int_equal(counter(w, "device_events_refused"), 1);
	/* running: false, true and false again; status, when it was closed */
	assert_int_equal(counter(w, "device_emitted"), 4);
}

/* Whoever floods the topics of devices that are not there does not keep one from being enabled. */

static void what_holds_for_the_gateway_needs_a_restart(void **state)
{
	struct world *w = *state;
	char text[512];

	begin(w, "{\"type\":\"fake\",\"name\":\"d0\"}");
	snprintf(text, sizeof(text),
		 "{\"name\":\"gw2\",\"mqtt\":{\"host\":\"127.0.0.1\",\"port\":%u},"
		 "\"csm\":{\"url\":\"http://127.0.0.1:1\"},\"devices\":[]}",
		 w->broker.port);
	broker_write(&w->broker, "devices.json", text);
	json_auto_t *answer = ask(w, json_pack("{s:s}", "op", "reload"), NULL);

	assert_true(json_is_true(json_object_get(answer, "restart_needed")));
	assert_non_null(json_object_get(answer, "note"));
	assert_int_equal(n_of(answer, "removed"), 1);
}

int main(void)
{
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		IN_WORLD(reload_changes_one_device_and_leaves_the_others),
		IN_WORLD(type_and_name_mean_one_device),
		IN_WORLD(last_words_without_a_broker_are_said_when_it_is_back),
		IN_WORLD(last_words_are_said_again_to_a_broker_that_forgot),
		IN_WORLD(a_device_that_left_while_we_were_away_does_not_run),
		IN_WORLD(a_reload_does_not_hold_the_others),
		IN_WORLD(reloads_go_one_after_the_other),
		IN_WORLD(the_end_does_not_wait_for_a_reload),
		IN_WORLD(a_reload_sees_that_a_template_has_changed),
		IN_WORLD(a_reload_repeats_its_warnings),
		IN_WORLD(who_is_removed_has_said_all_before),
		IN_WORLD(who_is_removed_waits_for_a_broker_so_long),
		IN_WORLD(who_is_changed_has_said_that_it_does_not_run),
		IN_WORLD(who_is_removed_has_counted),
		IN_WORLD(what_holds_for_the_gateway_needs_a_restart),
	};

	log_init("test_device_reload", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
