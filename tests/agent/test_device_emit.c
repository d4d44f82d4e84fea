/* test_device_emit.c - one device: what it emits, values, reads and writes. */
#include "tests/agent/device_world.h"

/* ---- emissions, values, reads and writes ---- */

static void on_done(void *arg, int rc)
{
	struct world *w = arg;

	w->done++;
	w->done_rc = rc;
}

static void emit_point(struct world *w, unsigned n)
{
	static const char *const path[] = {"read", "p0"};

	port_emit(fakes.alive->port, &(struct emission){.path = path,
							.n_path = 2,
							.payload = json_integer(n),
							.retain = true,
							.point = 0,
							.value = {.kind = VALUE_UINT, .u = n},
							.done = on_done,
							.arg = w});
}

static void done_when_both_views_are(void **state)
{
	struct world *w = *state;

	begin(w, ",\"data\":[{\"name\":\"p0\"}]");
	tell(w, "enable", "true");
	notes_clear(&w->sent);
	notes_clear(&views.notes);
	w->holds = true;
	emit_point(w, 5);
	assert_string_equal(w->sent.text, "read/p0=5;");
	assert_string_equal(views.notes.text, "value 0=5;");
	assert_int_equal(w->done, 0);
	w->holds = false;
	turn(w);
	assert_int_equal(w->done, 1);
	assert_int_equal(w->done_rc, 0);
	/* and the other way round */
	views.holds = true;
	emit_point(w, 6);
	turn(w);
	assert_int_equal(w->done, 1);
	views.last->done(views.last->done_arg, 0);
	assert_int_equal(w->done, 2);
	/* not after it is closed */
	emit_point(w, 7);
	emitted_fn *late = views.last->done;

	tell(w, "enable", "false");
	late(views.last->done_arg, 0);
	turn(w);
	assert_int_equal(w->done, 2);
}

static void what_points_said_is_said_again(void **state)
{
	struct world *w = *state;
	static const char *const other[] = {"other"};

	begin(w, ",\"data\":[{\"name\":\"p0\"},{\"name\":\"p1\"}]");
	tell(w, "enable", "true");
	emit_point(w, 5);
	emit_point(w, 65535);
	/* the same point under another topic */
	port_emit(fakes.alive->port, &(struct emission){.path = other,
							.n_path = 1,
							.payload = json_integer(8),
							.retain = true,
							.point = 0,
							.value = {.kind = VALUE_UINT, .u = 8}});
	turn(w);
	notes_clear(&w->sent);
	device_lost(w->d);
	device_synced(w->d, true, true);
	turn(w);
	assert_string_equal(w->sent.text, "other=8;running=true;read/p0=65535;system/enable=true;");
	/* what is said now is not said twice */
	notes_clear(&w->sent);
	device_lost(w->d);
	emit_point(w, 6);
	device_synced(w->d, true, true);
	turn(w);
	assert_null(strstr(w->sent.text, "65535"));
	assert_non_null(strstr(w->sent.text, "read/p0=6;"));
	assert_null(strstr(strstr(w->sent.text, "read/p0=6;") + 1, "read/p0=6;"));
}

static void topics_are_encoded(void **state)
{
	struct world *w = *state;
	static const char *const path[] = {"read", "a/b#%"};

	begin(w, "");
	tell(w, "enable", "true");
	notes_clear(&w->sent);
	port_emit(
		fakes.alive->port,
		&(struct emission){.path = path, .n_path = 2, .payload = json_true(), .point = -1});
	assert_sent(w, "read/a%2Fb%23%25=true!;");
}

static void on_answer(void *arg, enum ack ack, const struct value *v, const char *why)
{
	struct world *w = arg;

	note(&w->sent, "%s %llu (%s);", ack_name(ack), v != NULL ? (unsigned long long)v->u : 0,
	     why);
	assert_true(v == NULL ||
		    v->time_us != 0); /* when it was told, where the field has no time */
}

static void reads_and_writes_are_answered_once(void **state)
{
	struct world *w = *state;
	const struct value seven = {.kind = VALUE_UINT, .u = 7};

	begin(w, ",\"data\":[{\"name\":\"p0\"}]");
	device_write(w->d, 0, &seven, 1000, on_answer, w);
	assert_string_equal(w->sent.text, "link down 0 (the device does not run);");
	tell(w, "enable", "true");
	notes_clear(&w->sent);
	device_write(w->d, 0, &seven, 1000, on_answer, w);
	device_read(w->d, 0, 1000, on_answer, w);
	assert_driver("write 0=7;read 0;");
	port_was_read(fakes.calls[1], &seven, NULL);
	port_written(fakes.calls[0], ACK_REJECTED, "it does not want to");
	assert_string_equal(w->sent.text, "ok 7 ();rejected 0 (it does not want to);");
	notes_clear(&w->sent);
	fakes.n_calls = 0;
	/* too late */
	device_write(w->d, 0, &seven, 1, on_answer, w);
	for (int i = 0; i < 1000 && w->sent.len == 0; i++)
		loop_turn(w->loop, 10);
	assert_string_equal(w->sent.text, "timeout 0 (no answer in time);");
	port_written(fakes.calls[0], ACK_OK, NULL);
	notes_clear(&w->sent);
	fakes.n_calls = 0;
	/* of the view */
	notes_clear(&views.notes);
	views.last->events.write(views.last->arg, 0, &seven, 42);
	port_written(fakes.calls[0], ACK_OK, NULL);
	fakes.n_calls = 0;
	views.last->events.write(views.last->arg, 0, &seven, 43);
	device_write(w->d, 0, &seven, 1000, on_answer, w);
	told(w, "enable", "false", false);
	assert_string_equal(views.notes.text, "written 42 0;link 0 0;written 43 3;stop;");
	assert_non_null(strstr(w->sent.text, "link down 0 (the device stops);"));
	views.last->events.write(views.last->arg, 0, &seven, 44);
	assert_non_null(strstr(views.notes.text, "written 44 3;"));
	assert_int_equal(device_find_point(w->d, "p0", NULL), 0);
	assert_int_equal(device_find_point(w->d, "p1", NULL), ERR_NOENT);
}

static void it_knows_what_it_is_made_of(void **state)
{
	struct world *w = *state;

	begin(w, ",\"data\":[{\"name\":\"p0\"}]");
	json_auto_t *conf = json_loads(
		"{\"data\":[{\"name\":\"p0\"}],\"type\":\"fake\",\"name\":\"d1\"}", 0, NULL);
	assert_int_equal(device_has_conf(w->d, conf, NULL), 1);
	json_object_set_new(json_array_get(json_object_get(conf, "data"), 0), "name",
			    json_string("p1"));
	assert_int_equal(device_has_conf(w->d, conf, NULL), 0);
}

static void it_can_be_looked_at(void **state)
{
	struct world *w = *state;

	begin(w, ",\"data\":[{\"name\":\"p0\"},{\"name\":\"p1\"}]");
	tell(w, "enable", "true");
	port_link(fakes.alive->port, LINK_CONNECTED, 3);
	emit_point(w, 9);
	json_auto_t *all = device_tell(w->d, true);
	const json_t *points = json_object_get(all, "points_list");
	const json_t *p0 = json_array_get(points, 0), *p1 = json_array_get(points, 1);

	assert_string_equal(json_string_value(json_object_get(all, "state")), "running");
	assert_string_equal(json_string_value(json_object_get(all, "link")), "connected");
	assert_int_equal(json_integer_value(json_object_get(all, "links")), 3);
	assert_int_equal(json_array_size(points), 2);
	assert_int_equal(json_integer_value(json_array_get(json_object_get(p0, "value"), 0)), 9);
	assert_int_equal(json_integer_value(json_object_get(p0, "quality")), 0);
	assert_true(json_integer_value(json_object_get(p0, "time_us")) > 0);
	assert_true(json_is_null(json_object_get(p1, "value")));
}

int main(void)
{
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		IN_WORLD(done_when_both_views_are),    IN_WORLD(what_points_said_is_said_again),
		IN_WORLD(topics_are_encoded),          IN_WORLD(reads_and_writes_are_answered_once),
		IN_WORLD(it_knows_what_it_is_made_of), IN_WORLD(it_can_be_looked_at),
	};

	log_init("test_device_emit", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
