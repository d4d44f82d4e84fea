/* test_device.c - one device: its life by the rules of gateway-devices 1.3, its queue, what it
 * emits; with a driver, a view and a broker that do as they are told.
 */
#include "agent/device/device.h"
#include "common/log.h"
#include <setjmp.h>
#include <stdarg.h>

#include "tests/agent/fake_device.h"

#include <cmocka.h>

#define PREFIX "gateway/gw1/fake/d1"

struct world {
	struct loop *loop;
	struct settings settings;
	struct store *store;
	struct device_env env;
	struct device *d;
	struct notes sent; /* word=payload; of each publication */
	char last_body[1024], last_enable[1024];
	bool away, holds; /* the broker: is; acknowledges later */
	bool early;       /* it was told of an end whose reason was not on the disk */
	uint64_t tokens[64];
	size_t n_tokens;
	unsigned done;
	int done_rc;
};

/* ---- the broker ---- */

static int on_send(void *owner, uint64_t token, const char *topic, const char *text, bool retain)
{
	struct world *w = owner;
	struct event_body body;
	const char *word = topic + strlen(PREFIX) + 1;

	if (w->away)
		return ERR_AGAIN;
	assert_true(strncmp(topic, PREFIX "/", strlen(PREFIX) + 1) == 0);
	assert_int_equal(event_body_parse(text, strlen(text), &body, NULL), 0);
	char *payload = json_dumps(body.payload, JSON_ENCODE_ANY);

	if (strncmp(word, "gateway/", 8) == 0)
		word += 8;
	note(&w->sent, "%s=%s%s;", word, payload, retain ? "" : "!");
	w->early |= strcmp(word, "running") == 0 && strcmp(payload, "false") == 0 &&
		    db_in_transaction(store_db(w->store));
	snprintf(w->last_body, sizeof(w->last_body), "%s", text);
	if (strcmp(word, "system/enable") == 0)
		snprintf(w->last_enable, sizeof(w->last_enable), "%s", text);
	free(payload);
	event_body_done(&body);
	assert_true(w->n_tokens < ARRAY_LEN(w->tokens));
	w->tokens[w->n_tokens++] = token;
	return 0;
}

/* Let the loop run until it has nothing to do at once, and all is on the disk; what was sent is
 * acknowledged. */
static void turn(struct world *w)
{
	for (int i = 0; i < 5 || db_in_transaction(store_db(w->store)); i++) {
		loop_turn(w->loop, i < 5 ? 0 : 10);
		while (!w->holds && w->n_tokens > 0)
			device_sent(w->d, w->tokens[--w->n_tokens], 0);
	}
}

static void assert_sent(struct world *w, const char *text)
{
	turn(w);
	assert_string_equal(w->sent.text, text);
	notes_clear(&w->sent);
}

static void assert_driver(const char *text)
{
	assert_string_equal(fakes.notes.text, text);
	notes_clear(&fakes.notes);
}

/* Somebody says `text` on <prefix>/system/<path>. */
static void told(struct world *w, const char *path, const char *text, bool retained)
{
	struct event_path p;
	struct event_body body;
	CLEANUP(freep)
	char *topic = NULL;

	assert_true(asprintf(&topic, PREFIX "/system/%s", path) > 0);
	assert_int_equal(event_path_parse(path, &p, NULL), 0);
	assert_int_equal(event_body_parse(text, strlen(text), &body, NULL), 0);
	device_event(w->d, p.segments, p.n, topic, &body, text, retained);
	event_path_done(&p);
	event_body_done(&body);
}

static void tell(struct world *w, const char *path, const char *text)
{
	told(w, path, text, false);
	turn(w);
}

/* ---- the world ---- */

static void make_device(struct world *w, const char *options)
{
	CLEANUP(freep)
	char *text = NULL;

	assert_true(asprintf(&text, "{\"type\":\"fake\",\"name\":\"d1\"%s}", options) > 0);
	json_auto_t *conf = json_loads(text, 0, NULL);

	assert_non_null(conf);
	assert_int_equal(
		device_new(&w->env,
			   &(struct device_conf){.type = &fake_type, .name = "d1", .json = conf}, w,
			   &w->d, NULL),
		0);
}

/* A device, the broker is there and has nothing. */
static void begin(struct world *w, const char *options)
{
	make_device(w, options);
	device_synced(w->d, true, true);
	turn(w);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct err err = {0};

	memset(&fakes, 0, sizeof(fakes));
	memset(&views, 0, sizeof(views));
	w->settings.devices_db.url = ":memory:";
	assert_int_equal(loop_new(&w->loop, NULL), 0);
	if (store_open(w->loop, &w->settings, &w->store, &err) < 0)
		fail_msg("%s", err.text);
	w->env = (struct device_env){.loop = w->loop,
				     .store = w->store,
				     .gateway = "gw1",
				     .csm_url = "http://127.0.0.1:1",
				     .send = on_send};
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	w->away = true;
	device_free(w->d);
	store_close(w->store);
	loop_free(w->loop);
	free(w);
	return fakes.n_alive == 0 ? 0 : -1;
}

/* ---- 1.3: the life ---- */

static void nobody_told_it_so_it_is_disabled(void **state)
{
	struct world *w = *state;

	begin(w, "");
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	assert_int_equal(fakes.created, 0);
	assert_sent(w, "");
}

static void enable_disable(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "false");
	assert_int_equal(fakes.created, 0);
	tell(w, "enable", "true");
	assert_int_equal(fakes.created, 1);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	struct fake *first = fake_named("fake/d1");

	tell(w, "enable", "true");
	assert_int_equal(fakes.created, 1);
	assert_ptr_equal(fake_named("fake/d1"), first);
	tell(w, "enable", "false");
	assert_int_equal(fakes.closed, 1);
	tell(w, "enable", "false");
	assert_int_equal(fakes.closed, 1);
	tell(w, "enable", "{\"timestamp\":1,\"payload\":true}");
	assert_int_equal(fakes.created, 2);
}

static void running_event(void **state)
{
	struct world *w = *state;

	begin(w, "");
	for (int i = 0; i < 3; i++) {
		tell(w, "enable", "true");
		tell(w, "enable", "true");
		assert_sent(w, "running=true;");
		tell(w, "enable", "false");
		tell(w, "enable", "false");
		assert_sent(w, "status=\"DISCONNECTED\";running=false;");
	}
	/* the time of the transition */
	json_auto_t *body = json_loads(w->last_body, 0, NULL);

	assert_true(json_is_integer(json_object_get(body, "source_timestamp")));
	assert_true(json_integer_value(json_object_get(body, "source_timestamp")) <=
		    json_integer_value(json_object_get(body, "timestamp")));
}

static void only_true_enables(void **state)
{
	static const char *const others[] = {"false", "1", "\"true\"", "null",           "[true]",
					     "{}",    "0", "[]",       "{\"payload\":1}"};
	struct world *w = *state;

	begin(w, "");
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		tell(w, "enable", others[i]);
		assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
		tell(w, "enable", "true");
		assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
		tell(w, "enable", others[i]);
		assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	}
}

static void a_creation_that_fails_is_not_tried_again(void **state)
{
	struct world *w = *state;

	begin(w, "");
	fakes.fails = true;
	tell(w, "enable", "true");
	assert_int_equal(device_get_state(w->d), DEVICE_FAILED);
	fakes.fails = false;
	tell(w, "enable", "true");
	assert_int_equal(fakes.created, 1);
	assert_sent(w, "");
	json_auto_t *row = device_tell(w->d, false);

	assert_non_null(strstr(json_string_value(json_object_get(row, "why")), "the fake fails"));
	tell(w, "enable", "false");
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	assert_sent(w, "");
	tell(w, "enable", "true");
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	assert_sent(w, "running=true;");
}

static void one_that_ends_by_itself_has_failed(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	notes_clear(&w->sent);
	port_ended(fakes.alive->port, "the port is gone");
	assert_int_equal(fakes.closed, 0); /* not from within */
	assert_sent(w, "status=\"DISCONNECTED\";running=false;");
	assert_int_equal(device_get_state(w->d), DEVICE_FAILED);
	tell(w, "enable", "true");
	assert_int_equal(fakes.created, 1);
	tell(w, "enable", "false");
	assert_sent(w, "");
	tell(w, "enable", "true");
	assert_int_equal(fakes.created, 2);
}

static void wait_created(struct world *w, unsigned n)
{
	for (int i = 0; i < 1000 && fakes.created < n; i++) {
		loop_turn(w->loop, 100);
		turn(w);
	}
	assert_int_equal(fakes.created, n);
}

static void a_restart_delay_starts_it_again(void **state)
{
	struct world *w = *state;

	begin(w, ",\"restart_delay\":0.02");
	fakes.fails = true;
	tell(w, "enable", "true");
	assert_int_equal(device_get_state(w->d), DEVICE_FAILED);
	wait_created(w, 2);
	fakes.fails = false;
	wait_created(w, 3);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	port_ended(fakes.alive->port, "gone");
	turn(w);
	/* false ends the waiting */
	tell(w, "enable", "false");
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
}

static void disable_cancels_a_creation(void **state)
{
	struct world *w = *state;

	begin(w, "");
	fakes.late = true;
	tell(w, "enable", "true");
	assert_int_equal(device_get_state(w->d), DEVICE_CREATING);
	tell(w, "enable", "true");
	assert_int_equal(fakes.created, 1);
	tell(w, "enable", "false");
	assert_int_equal(fakes.n_alive, 0);
	assert_sent(w, "status=\"DISCONNECTED\";");
	/* and one that says so late enough runs */
	tell(w, "enable", "true");
	port_created(fakes.alive->port);
	assert_sent(w, "running=true;");
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
}

/* Each word of a flood is done, but not all in one turn if it takes long. */
static void flapping_of_a_slow_one(void **state)
{
	struct world *w = *state;

	begin(w, "");
	fakes.slow_us = 1000;
	for (int i = 0; i < 20; i++) {
		told(w, "enable", "true", false);
		told(w, "enable", "false", false);
	}
	told(w, "enable", "true", false);
	assert_in_range(fakes.created, 1, 5);
	for (int i = 0; i < 50; i++)
		turn(w);
	assert_int_equal(fakes.created, 21);
	assert_int_equal(fakes.closed, 20);
	assert_int_equal(fakes.most_alive_of_one, 1);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	/* the word of a person is the newest */
	for (int i = 0; i < 20; i++) {
		told(w, "enable", "false", false);
		told(w, "enable", "true", false);
	}
	assert_int_equal(device_set_enabled(w->d, false, NULL), 0);
	turn(w);
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	assert_in_range(fakes.created, 21, 30);
}

static void a_creation_may_fail_late(void **state)
{
	struct world *w = *state;

	begin(w, "");
	fakes.late = true;
	tell(w, "enable", "true");
	port_ended(fakes.alive->port, "it cannot");
	assert_sent(w, "status=\"DISCONNECTED\";");
	assert_int_equal(device_get_state(w->d), DEVICE_FAILED);
}

static void false_then_true_makes_a_new_instance(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	notes_clear(&w->sent);
	told(w, "enable", "false", false);
	told(w, "enable", "true", false);
	assert_int_equal(fakes.created, 2);
	assert_sent(w, "status=\"DISCONNECTED\";running=false;running=true;");
}

static void enable_flapping(void **state)
{
	struct world *w = *state;

	begin(w, "");
	for (int i = 0; i < 1000; i++) {
		told(w, "enable", "true", false);
		told(w, "enable", "false", false);
		if (i % 20 == 0)
			turn(w);
	}
	told(w, "enable", "true", false);
	turn(w);
	assert_int_equal(fakes.created, 1001);
	assert_int_equal(fakes.closed, 1000);
	assert_int_equal(fakes.most_alive_of_one, 1);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	/* they alternate */
	bool running = false;
	unsigned n = 0;

	for (const char *s = w->sent.text; (s = strstr(s, "running=")) != NULL; n++) {
		s += strlen("running=");
		assert_int_equal(*s, running ? 'f' : 't');
		running = !running;
	}
	assert_true(n > 1000);
}

/* ---- 1.3 nr. 1, 1.5: what is kept, and the broker ---- */

static void the_brokers_enable_counts_once_all_is_told(void **state)
{
	struct world *w = *state;

	make_device(w, "");
	told(w, "enable", "true", true);
	turn(w);
	assert_int_equal(fakes.created, 0);
	device_synced(w->d, true, true);
	assert_sent(w, "running=true;");
}

static void a_live_enable_wins_over_the_query(void **state)
{
	struct world *w = *state;

	make_device(w, "");
	told(w, "enable", "true", false);
	assert_int_equal(fakes.created, 1);
	told(w, "enable", "false", true);
	device_synced(w->d, true, true);
	turn(w);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	assert_int_equal(fakes.created, 1);
}

static void remake(struct world *w, const char *options)
{
	w->d = device_free(w->d);
	w->n_tokens = 0;
	notes_clear(&w->sent);
	notes_clear(&fakes.notes);
	make_device(w, options);
}

static void a_broker_that_forgot_is_told(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	tell(w, "remote_device/1/enable", "true");
	tell(w, "data/x", "{\"value\":7}");
	remake(w, "");
	device_synced(w->d, true, true);
	turn(w);
	assert_non_null(strstr(w->sent.text, "system/enable=true;"));
	assert_non_null(strstr(w->sent.text, "system/remote_device/1/enable=true;"));
	assert_non_null(strstr(w->sent.text, "system/data/x={\"value\": 7};"));
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
}

static void a_broker_that_may_not_have_told_all_is_not(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	remake(w, "");
	device_synced(w->d, false, false);
	assert_sent(w, "running=true;");
}

static void the_newer_of_broker_and_store_wins(void **state)
{
	static const struct {
		const char *kept, *retained;
		bool runs;
	} rows[] = {
		/* times far ago and to come; what has none was set since */
		{"{\"timestamp\":5,\"payload\":true}", "{\"timestamp\":4,\"payload\":false}", true},
		{"{\"timestamp\":5,\"payload\":false}", "{\"timestamp\":4,\"payload\":true}",
		 false},
		{"true", "{\"timestamp\":9000000000000000,\"payload\":false}", false},
		{"false", "{\"timestamp\":9000000000000000,\"payload\":true}", true},
		{"true", "false", false},
		{"false", "true", true},
		{"true", "true", true},
	};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (w->d == NULL)
			begin(w, "");
		tell(w, "enable", rows[i].kept);
		remake(w, "");
		told(w, "enable", rows[i].retained, true);
		device_synced(w->d, true, true);
		turn(w);
		if ((device_get_state(w->d) == DEVICE_RUNNING) != rows[i].runs)
			fail_msg("row %zu", i);
	}
}

/* A disabled device never comes back enabled because a broker forgot that it was disabled. */
static void a_broker_that_lost_its_memory_enables_nothing(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	tell(w, "enable", "false");
	notes_clear(&w->sent);
	device_lost(w->d);
	told(w, "enable", "true", true); /* of before */
	device_synced(w->d, true, false);
	turn(w);
	assert_non_null(strstr(w->sent.text, "system/enable=false;"));
	assert_null(strstr(w->sent.text, "running=true;"));
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
}

/* Nor because it did not hear of it. */
static void disabled_without_a_broker_stays_disabled(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	device_lost(w->d);
	w->away = true;
	assert_int_equal(device_set_enabled(w->d, false, &(struct err){0}), 0);
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	remake(w, "");
	w->away = false;
	told(w, "enable", "true", true);
	device_synced(w->d, true, true);
	turn(w);
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	assert_non_null(strstr(w->sent.text, "system/enable=false;"));
	/* once the broker has it, what it says without a time is newer again */
	remake(w, "");
	told(w, "enable", "true", true);
	device_synced(w->d, true, true);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
}

/* Who has seen that it ended can rely on it, whoever dies then. */
static void an_end_is_told_when_its_reason_is_kept(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	notes_clear(&w->sent);
	told(w, "enable", "false", false);
	assert_int_equal(fakes.n_alive, 0); /* at once */
	assert_sent(w, "status=\"DISCONNECTED\";running=false;");
	assert_false(w->early);
	/* also where another begins meanwhile: in the order of what happened, of the time it did */
	tell(w, "enable", "true");
	notes_clear(&w->sent);
	told(w, "enable", "false", false);
	told(w, "enable", "true", false);
	assert_sent(w, "status=\"DISCONNECTED\";running=false;running=true;");
	/* the last words of a process do not wait */
	told(w, "enable", "false", false);
	device_stop(w->d);
	assert_string_equal(w->sent.text, "status=\"DISCONNECTED\";running=false;");
	assert_sent(w, "status=\"DISCONNECTED\";running=false;"); /* once */
}

static void people_enable_as_a_system_event_would(void **state)
{
	struct world *w = *state;

	begin(w, "");
	assert_int_equal(device_set_enabled(w->d, true, &(struct err){0}), 0);
	assert_sent(w, "system/enable=true;running=true;");
	assert_int_equal(device_set_enabled(w->d, false, &(struct err){0}), 0);
	assert_sent(w, "system/enable=false;status=\"DISCONNECTED\";running=false;");
}

static void bus_loss_stops_what_has_no_store(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	notes_clear(&w->sent);
	w->away = true;
	device_lost(w->d);
	turn(w);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	device_hold(w->d);
	turn(w);
	assert_int_equal(fakes.n_alive, 0);
	w->away = false;
	told(w, "enable", "true", true);
	device_synced(w->d, true, true);
	assert_sent(w, "status=\"DISCONNECTED\";running=false;running=true;");
	assert_int_equal(fakes.created, 2);
}

static void within_the_grace_the_instance_stays_and_states_are_said_again(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	fake_emit(fakes.alive, "status", json_string("CONNECTED"), true, -1, NULL);
	fake_emit(fakes.alive, "command", json_integer(1), false, -1, NULL);
	assert_sent(w, "running=true;status=\"CONNECTED\";command=1!;");
	w->away = true;
	device_lost(w->d);
	fake_emit(fakes.alive, "command", json_integer(2), false, -1, NULL);
	w->away = false;
	told(w, "enable", "true", true);
	device_synced(w->d, true, true);
	assert_sent(w, "command=2!;running=true;status=\"CONNECTED\";");
	assert_int_equal(fakes.created, 1);
}

static void what_changes_while_the_broker_is_away_is_told_when_it_is_back(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	tell(w, "remote_device/1/enable", "true");
	notes_clear(&fakes.notes);
	device_lost(w->d);
	told(w, "enable", "true", true);
	told(w, "remote_device/1/enable", "false", true);
	device_synced(w->d, true, true);
	turn(w);
	assert_driver("fake/d1 remote_device/1/enable=false;");
	device_lost(w->d);
	told(w, "enable", "false", true);
	device_synced(w->d, true, true);
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
}

static void with_a_store_it_runs_without_a_broker(void **state)
{
	static const char store[] = ",\"store\":{\"quota_bytes\":65536,\"max_age\":1000,"
				    "\"catch_up_rate\":1000,\"keep\":\"all\"}";
	struct world *w = *state;

	begin(w, store);
	tell(w, "enable", "true");
	device_lost(w->d);
	w->away = true;
	device_hold(w->d);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	remake(w, store);
	device_start_alone(w->d);
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	/* one without waits */
	remake(w, "");
	device_start_alone(w->d);
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	json_auto_t *row = device_tell(w->d, false);

	assert_string_equal(json_string_value(json_object_get(row, "state")), "waiting");
}

/* ---- 1.4: the queue ---- */

static void process_events(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "write/x", "1"); /* it does not run: dropped */
	tell(w, "enable", "true");
	for (int i = 0; i < 3; i++) {
		char text[16];

		snprintf(text, sizeof(text), "%d", i);
		told(w, "write/x", text, false);
	}
	assert_driver("");
	turn(w);
	assert_driver("fake/d1 write/x=0;fake/d1 write/x=1;fake/d1 write/x=2;");
	fakes.event_fails = true;
	tell(w, "write/x", "3");
	fakes.event_fails = false;
	tell(w, "write/x", "4");
	assert_driver("fake/d1 write/x=3;fake/d1 write/x=4;");
	struct device_counters c;

	device_get_counters(w->d, &c);
	assert_int_equal(c.dropped, 1);
	assert_int_equal(c.failed, 1);
	assert_int_equal(c.events, 5);
}

static void a_full_queue_drops_the_newest(void **state)
{
	struct world *w = *state;
	struct device_counters c;
	char text[32];

	begin(w, "");
	tell(w, "enable", "true");
	for (int i = 0; i < 1030; i++) {
		snprintf(text, sizeof(text), "%d", i);
		told(w, "write/x", text, false);
	}
	device_get_counters(w->d, &c);
	assert_int_equal(c.dropped, 6);
	for (int i = 0; i < 20; i++)
		turn(w);
	device_get_counters(w->d, &c);
	assert_int_equal(c.events, 1024);
	assert_non_null(strstr(fakes.notes.text, "x=0;"));
	assert_non_null(strstr(fakes.notes.text, "x=1023;"));
	assert_null(strstr(fakes.notes.text, "x=1024;"));
}

/* Of a state the latest counts, however many came at once. */
static void a_full_queue_loses_no_state(void **state)
{
	struct world *w = *state;
	struct device_counters c;
	char path[32], text[32];

	begin(w, "");
	tell(w, "enable", "true");
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 1500; i++) {
			snprintf(path, sizeof(path), "data/p%d", i);
			snprintf(text, sizeof(text), "%d", 10000 * round + i);
			told(w, path, text, false);
		}
	for (int i = 0; i < 20; i++)
		turn(w);
	device_get_counters(w->d, &c);
	assert_int_equal(c.dropped, 0);
	/* 1024 of the first round, then what each of all is now */
	assert_int_equal(c.events, 1024 + 1500);
	assert_non_null(strstr(fakes.notes.text, "data/p1023=1023;"));
	assert_null(strstr(fakes.notes.text, "data/p1499=1499;"));
	for (int i = 0; i < 1500; i++) {
		snprintf(text, sizeof(text), "data/p%d=%d;", i, 10000 + i);
		assert_non_null(strstr(fakes.notes.text, text));
	}
	/* those that are left when it stops are of no use to the next */
	for (int i = 0; i < 1500; i++) {
		snprintf(path, sizeof(path), "data/p%d", i);
		told(w, path, "7", false);
	}
	told(w, "enable", "false", false);
	notes_clear(&fakes.notes);
	tell(w, "data/p1499", "8");
	told(w, "enable", "true", false);
	assert_non_null(strstr(fakes.notes.text, "state data/p1400=7;"));
	assert_non_null(strstr(fakes.notes.text, "state data/p1499=8;"));
	notes_clear(&fakes.notes);
	turn(w);
	assert_driver("");
}

/* The broker forgot, is told, and repeats it to us: the driver has gone on since it was set. */
static void what_the_broker_is_told_comes_back(void **state)
{
	struct world *w = *state;

	begin(w, ",\"store\":{}");
	tell(w, "enable", "true");
	tell(w, "data/x", "{\"value\":7}");
	assert_driver("fake/d1 data/x={\"value\": 7};");
	device_lost(w->d);
	device_synced(w->d, true, false);
	turn(w);
	assert_non_null(strstr(w->sent.text, "system/data/x={\"value\": 7};"));
	tell(w, "enable", "true");
	tell(w, "data/x", "{\"value\":7}");
	assert_driver("");
	assert_int_equal(fakes.created, 1);
	/* once more is somebody who says so */
	tell(w, "data/x", "{\"value\":7}");
	assert_driver("fake/d1 data/x={\"value\": 7};");
	/* and so is what others said before it was repeated */
	device_lost(w->d);
	device_synced(w->d, true, false);
	turn(w);
	tell(w, "data/x", "{\"value\":8}");
	tell(w, "data/x", "{\"value\":7}");
	tell(w, "data/x", "{\"value\":7}");
	assert_driver("fake/d1 data/x={\"value\": 8};fake/d1 data/x={\"value\": 7};"
		      "fake/d1 data/x={\"value\": 7};");
}

/* It is the same with what was set here and has been overtaken: it switches nothing. */
static void what_was_set_here_comes_back(void **state)
{
	static const bool sets[] = {false, true, false};
	struct world *w = *state;
	struct err err = {0};
	char bodies[3][sizeof(w->last_enable)];

	begin(w, "");
	tell(w, "enable", "true");
	for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
		assert_int_equal(device_set_enabled(w->d, sets[i], &err), 0);
		turn(w);
		snprintf(bodies[i], sizeof(bodies[i]), "%s", w->last_enable);
	}
	assert_int_equal(fakes.created, 2);
	for (size_t i = 0; i < ARRAY_LEN(sets); i++)
		tell(w, "enable", bodies[i]);
	assert_int_equal(fakes.created, 2);
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	/* what others say in between counts, until ours that came after it */
	assert_int_equal(device_set_enabled(w->d, false, &err), 0);
	turn(w);
	snprintf(bodies[0], sizeof(bodies[0]), "%s", w->last_enable);
	tell(w, "enable", "true");
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
	tell(w, "enable", bodies[0]);
	assert_int_equal(device_get_state(w->d), DEVICE_DISABLED);
	tell(w, "enable", "true");
	assert_int_equal(device_get_state(w->d), DEVICE_RUNNING);
}

static void enable_passes_the_queue(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "enable", "true");
	told(w, "write/x", "1", false);
	told(w, "enable", "false", false);
	assert_int_equal(fakes.n_alive, 0);
	told(w, "enable", "true", false);
	turn(w);
	/* what was meant for the one before is not done by the next */
	assert_driver("");
}

static void states_count_whenever_they_came(void **state)
{
	struct world *w = *state;

	begin(w, "");
	tell(w, "remote_device/7/enable", "false");
	tell(w, "remote_device/7/enable", "true");
	tell(w, "data/x", "{\"value\":1}");
	tell(w, "enable", "true");
	assert_driver("state data/x={\"value\": 1};state remote_device/7/enable=true;");
	tell(w, "enable", "false");
	/* those that come while it is being made are told once it runs */
	fakes.late = true;
	tell(w, "enable", "true");
	notes_clear(&fakes.notes);
	tell(w, "remote_device/7/enable", "false");
	tell(w, "write/x", "1");
	assert_driver("");
	port_created(fakes.alive->port);
	turn(w);
	assert_driver("fake/d1 remote_device/7/enable=false;");
}

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
		IN_WORLD(nobody_told_it_so_it_is_disabled),
		IN_WORLD(enable_disable),
		IN_WORLD(running_event),
		IN_WORLD(only_true_enables),
		IN_WORLD(a_creation_that_fails_is_not_tried_again),
		IN_WORLD(one_that_ends_by_itself_has_failed),
		IN_WORLD(a_restart_delay_starts_it_again),
		IN_WORLD(disable_cancels_a_creation),
		IN_WORLD(a_creation_may_fail_late),
		IN_WORLD(false_then_true_makes_a_new_instance),
		IN_WORLD(enable_flapping),
		IN_WORLD(flapping_of_a_slow_one),
		IN_WORLD(the_brokers_enable_counts_once_all_is_told),
		IN_WORLD(a_live_enable_wins_over_the_query),
		IN_WORLD(a_broker_that_forgot_is_told),
		IN_WORLD(a_broker_that_may_not_have_told_all_is_not),
		IN_WORLD(the_newer_of_broker_and_store_wins),
		IN_WORLD(a_broker_that_lost_its_memory_enables_nothing),
		IN_WORLD(disabled_without_a_broker_stays_disabled),
		IN_WORLD(an_end_is_told_when_its_reason_is_kept),
		IN_WORLD(people_enable_as_a_system_event_would),
		IN_WORLD(bus_loss_stops_what_has_no_store),
		IN_WORLD(within_the_grace_the_instance_stays_and_states_are_said_again),
		IN_WORLD(what_changes_while_the_broker_is_away_is_told_when_it_is_back),
		IN_WORLD(with_a_store_it_runs_without_a_broker),
		IN_WORLD(process_events),
		IN_WORLD(a_full_queue_drops_the_newest),
		IN_WORLD(a_full_queue_loses_no_state),
		IN_WORLD(what_the_broker_is_told_comes_back),
		IN_WORLD(what_was_set_here_comes_back),
		IN_WORLD(enable_passes_the_queue),
		IN_WORLD(states_count_whenever_they_came),
		IN_WORLD(done_when_both_views_are),
		IN_WORLD(what_points_said_is_said_again),
		IN_WORLD(topics_are_encoded),
		IN_WORLD(reads_and_writes_are_answered_once),
		IN_WORLD(it_knows_what_it_is_made_of),
		IN_WORLD(it_can_be_looked_at),
	};

	log_init("test_device", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
