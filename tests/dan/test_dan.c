/* The device client against the fakes of fakes.h; what it tells goes to the same transcript. */
#include "common/util.h"
#include "dan/dan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* after the three above */
#include <cmocka.h>
/* after that */
#include "tests/dan/fakes.h"

/* ---- what the client tells ---- */

static void on_registered(void *arg, const char *name)
{
	(void)arg;
	note("registered %s", name);
}

static void on_online(void *arg)
{
	(void)arg;
	note("online");
}

static void on_offline(void *arg, const char *why)
{
	(void)arg;
	note("offline %s", why);
}

static const char *mode_name(enum dan_mode mode)
{
	return mode == DAN_IDF ? "idf" : "odf";
}

static void on_connect(void *arg, enum dan_mode mode, const char *feature)
{
	(void)arg;
	note("connect %s %s", mode_name(mode), feature);
}

static void on_disconnect(void *arg, enum dan_mode mode, const char *feature)
{
	(void)arg;
	note("disconnect %s %s", mode_name(mode), feature);
}

static void on_suspend(void *arg, enum dan_mode mode, const char *feature, bool suspended)
{
	(void)arg;
	note("%s %s %s", suspended ? "suspend" : "resume", mode_name(mode), feature);
}

static void on_data(void *arg, const char *feature, json_t *values)
{
	(void)arg;
	CLEANUP(freep)
	char *text = json_dumps(values, JSON_COMPACT | JSON_ENCODE_ANY);
	note("data %s %s", feature, text);
}

static void on_error(void *arg, const struct err *err)
{
	(void)arg;
	note("error %s", err_name(err->code));
}

static void on_left(void *arg, int rc, const char *why)
{
	(void)arg;
	note("left %s %s", err_name(rc), why);
}

static const struct dan_handlers handlers = {
	.on_registered = on_registered,
	.on_online = on_online,
	.on_offline = on_offline,
	.on_connect = on_connect,
	.on_disconnect = on_disconnect,
	.on_suspend = on_suspend,
	.on_data = on_data,
	.on_error = on_error,
};

static void on_pushed(void *arg, int rc)
{
	note("pushed %s %s", (const char *)arg, err_name(rc));
}

static int new_client_qos(const char *id, uint8_t qos, struct dan_client **ret, struct err *err)
{
	static const char *const units[] = {"dB", NULL};
	static const struct dan_feature idfs[] = {{"meow", units}, {"purr", NULL}},
					odfs[] = {{"meow", units}};
	json_auto_t *profile = json_pack("{s:s}", "model", "Cat");
	const struct dan_conf conf = {
		.csm_url = "http://csm:9992//",
		.id = id,
		.idfs = idfs,
		.n_idfs = 2,
		.odfs = odfs,
		.n_odfs = 1,
		.profile = profile,
		.qos = qos,
		.retry_min_ms = 1,
		.retry_max_ms = 4,
	};
	return dan_new(here->loop, &conf, &handlers, NULL, ret, err);
}

static int new_client(const char *id, struct dan_client **ret, struct err *err)
{
	return new_client_qos(id, 1, ret, err);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	here = f;
	*state = f;
	if (f == NULL || loop_new(&f->loop, NULL) < 0)
		return -1;
	return new_client(ID, &f->client, NULL);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	dan_free(f->client);
	loop_free(f->loop);
	free(f);
	return 0;
}

/* Turn the loop until something happened. */
static void await_event(void)
{
	while (here->len == 0)
		assert_int_equal(loop_turn(here->loop, 1000), 0);
}

static void go_online(void)
{
	http_answer(0, 200, ANSWER);
	here->handlers->on_up(here->bus_arg, true);
	expect("http PUT http://csm:9992/" ID " ...\n"
	       "bus broker:1883 dan-" ID "\n"
	       "sub " CTRL_DN " 2\n"
	       "registered 00.Cat\n"
	       "pub up {\"state\":\"online\",\"rev\":\"R1\"} 2 retained\n"
	       "online\n");
}

static void connect_both(void)
{
	command("{\"msg_id\":\"a\",\"idf\":\"meow\",\"command\":\"CONNECT\",\"topic\":\"t/i\"}");
	command("{\"msg_id\":\"b\",\"odf\":\"meow\",\"command\":\"CONNECT\",\"topic\":\"t/o\"}");
	broker_acknowledges(0);
	expect("connect idf meow\n"
	       "pub up {\"msg_id\":\"a\",\"state\":\"ok\"} 2\n"
	       "sub t/o 1\n"
	       "connect odf meow\n"
	       "pub up {\"msg_id\":\"b\",\"state\":\"ok\"} 2\n");
}

/* ---- tests ---- */

static void registers_and_announces_itself(void **state)
{
	struct fixture *f = *state;
	go_online();
	assert_true(dan_is_online(f->client));
	assert_string_equal(dan_name(f->client), "00.Cat");
	assert_string_equal(dan_id(f->client), ID);
}

static void repeats_a_failed_registration(void **state)
{
	(void)state;
	expect("http PUT http://csm:9992/" ID " ...\n");
	static const struct {
		int rc;
		long status;
		const char *body, *code;
	} failures[] = {
		{ERR_PEER, 0, "", "PEER"},   {ERR_TIMEOUT, 0, "", "TIMEOUT"},
		{0, 503, "", "PEER"},        {0, 403, "{\"reason\":\"x\"}", "PEER"},
		{0, 200, "<html>", "PARSE"}, {0, 200, "{}", "SCHEMA"},
	};
	for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
		char want[64];
		http_answer(failures[i].rc, failures[i].status, failures[i].body);
		snprintf(want, sizeof(want), "error %s\n", failures[i].code);
		expect(want);
		await_event();
		expect("http PUT http://csm:9992/" ID " ...\n");
	}
	http_answer(0, 200, ANSWER);
	assert_non_null(here->handlers);
}

static void last_will_says_offline(void **state)
{
	(void)state;
	struct bus_will will = {0};
	go_online();
	assert_true(here->handlers->on_connecting(here->bus_arg, &will));
	assert_string_equal(will.topic, CTRL_UP);
	assert_int_equal(will.len, strlen("{\"state\":\"offline\",\"rev\":\"R1\"}"));
	assert_memory_equal(will.payload, "{\"state\":\"offline\",\"rev\":\"R1\"}", will.len);
	assert_true(will.retain);
	assert_int_equal(will.qos, 2);
}

static void connected_features_exchange_data(void **state)
{
	struct fixture *f = *state;
	json_auto_t *values = json_pack("[i]", 7), *scalar = json_real(1.5);
	go_online();
	connect_both();
	assert_int_equal(dan_push(f->client, "meow", values, NULL), 0);
	assert_int_equal(dan_push(f->client, "meow", scalar, NULL), 0);
	broker_sends("t/o", "[49]");
	broker_sends("t/o", "42");
	broker_sends("t/else", "[1]");
	broker_sends("t/o", "no json");
	expect("pub t/i [7] 1\npub t/i 1.5 1\ndata meow [49]\ndata meow 42\nerror PARSE\n");
}

static void a_pushed_text_is_told_when_the_broker_has_it(void **state)
{
	struct fixture *f = *state;
	char first[] = "first", second[] = "second";
	struct err err;
	go_online();
	assert_int_equal(dan_push_text(f->client, "meow", "[1]", on_pushed, first, &err),
			 ERR_AGAIN);
	connect_both();
	assert_int_equal(dan_push_text(f->client, "else", "[1]", on_pushed, first, &err),
			 ERR_NOENT);
	assert_int_equal(dan_push_text(f->client, "meow", "[ 1.50 ]", on_pushed, first, &err), 0);
	expect("pub t/i [ 1.50 ] 1\n");
	broker_takes(0);
	expect("pushed first OK\n");
	assert_int_equal(dan_push_text(f->client, "meow", "2", on_pushed, second, &err), 0);
	broker_takes(ERR_AGAIN);
	expect("pub t/i 2 1\npushed second AGAIN\n");
	assert_int_equal(dan_push_text(f->client, "meow", "3", NULL, NULL, &err), 0);
	expect("pub t/i 3 1\n");
	assert_null(here->published);
	here->publish_rc = ERR_LIMIT;
	assert_int_equal(dan_push_text(f->client, "meow", "[1]", on_pushed, first, &err),
			 ERR_LIMIT);
	here->publish_rc = 0;
	command("{\"msg_id\":\"c\",\"idf\":\"meow\",\"command\":\"SUSPEND\"}");
	expect("suspend idf meow\npub up {\"msg_id\":\"c\",\"state\":\"ok\"} 2\n");
	assert_int_equal(dan_push_text(f->client, "meow", "[1]", on_pushed, first, &err),
			 ERR_AGAIN);
	expect("");
}

static void only_qos_1_acknowledges_pushes(void **state)
{
	struct fixture *f = *state;
	struct err err;
	for (uint8_t qos = 0; qos <= 2; qos += 2) {
		f->client = dan_free(f->client);
		assert_int_equal(new_client_qos(ID, qos, &f->client, NULL), 0);
		http_answer(0, 200, ANSWER);
		here->handlers->on_up(here->bus_arg, true);
		command("{\"msg_id\":\"a\",\"idf\":\"meow\",\"command\":\"CONNECT\",\"topic\":"
			"\"t/i\"}");
		forget();
		assert_int_equal(dan_push_text(f->client, "meow", "[1]", on_pushed, NULL, &err),
				 ERR_INVAL);
		assert_int_equal(dan_push_text(f->client, "meow", "[1]", NULL, NULL, &err), 0);
		expect(qos == 0 ? "pub t/i [1] 0\n" : "pub t/i [1] 2\n");
	}
}

static void retained_replays_are_ignored(void **state)
{
	(void)state;
	go_online();
	connect_both();
	static const char text[] =
		"{\"msg_id\":\"c\",\"idf\":\"meow\",\"command\":\"DISCONNECT\",\"topic\":\"t/i\"}";
	const struct bus_msg data = {.topic = "t/o", .payload = "[1]", .len = 3, .retained = true};
	const struct bus_msg old = {
		.topic = CTRL_DN, .payload = text, .len = sizeof(text) - 1, .retained = true};
	here->handlers->on_message(here->bus_arg, &data);
	here->handlers->on_message(here->bus_arg, &old);
	expect("");
}

static void connect_again_is_answered_and_told_once(void **state)
{
	(void)state;
	go_online();
	connect_both();
	command("{\"msg_id\":\"c\",\"idf\":\"meow\",\"command\":\"CONNECT\",\"topic\":\"t/i\"}");
	command("{\"msg_id\":\"d\",\"odf\":\"meow\",\"command\":\"CONNECT\",\"topic\":\"t/o\"}");
	broker_acknowledges(0);
	expect("pub up {\"msg_id\":\"c\",\"state\":\"ok\"} 2\n"
	       "sub t/o 1\n"
	       "pub up {\"msg_id\":\"d\",\"state\":\"ok\"} 2\n");
	command("{\"msg_id\":\"e\",\"idf\":\"meow\",\"command\":\"CONNECT\",\"topic\":\"t/new\"}");
	expect("disconnect idf meow\nconnect idf meow\npub up {\"msg_id\":\"e\",\"state\":\"ok\"} "
	       "2\n");
}

static void disconnect_and_suspend_stop_data(void **state)
{
	struct fixture *f = *state;
	json_auto_t *values = json_pack("[i]", 7);
	go_online();
	connect_both();
	command("{\"msg_id\":\"s\",\"idf\":\"meow\",\"command\":\"SUSPEND\"}");
	command("{\"msg_id\":\"t\",\"odf\":\"meow\",\"command\":\"SUSPEND\"}");
	broker_sends("t/o", "[1]");
	assert_int_equal(dan_push(f->client, "meow", values, NULL), ERR_AGAIN);
	command("{\"msg_id\":\"u\",\"idf\":\"meow\",\"command\":\"RESUME\"}");
	assert_int_equal(dan_push(f->client, "meow", values, NULL), 0);
	expect("suspend idf meow\npub up {\"msg_id\":\"s\",\"state\":\"ok\"} 2\n"
	       "suspend odf meow\npub up {\"msg_id\":\"t\",\"state\":\"ok\"} 2\n"
	       "resume idf meow\npub up {\"msg_id\":\"u\",\"state\":\"ok\"} 2\npub t/i [7] 1\n");
	command("{\"msg_id\":\"v\",\"idf\":\"meow\",\"command\":\"DISCONNECT\",\"topic\":\"t/"
		"old\"}");
	expect("pub up {\"msg_id\":\"v\",\"state\":\"ok\"} 2\n");
	command("{\"msg_id\":\"w\",\"idf\":\"meow\",\"command\":\"DISCONNECT\",\"topic\":\"t/i\"}");
	command("{\"msg_id\":\"x\",\"odf\":\"meow\",\"command\":\"DISCONNECT\",\"topic\":\"t/o\"}");
	broker_sends("t/o", "[1]");
	assert_int_equal(dan_push(f->client, "meow", values, NULL), ERR_AGAIN);
	expect("disconnect idf meow\npub up {\"msg_id\":\"w\",\"state\":\"ok\"} 2\n"
	       "unsub t/o\ndisconnect odf meow\npub up {\"msg_id\":\"x\",\"state\":\"ok\"} 2\n");
	assert_false(dan_is_connected(f->client, DAN_IDF, "meow"));
}

static void bad_commands_are_answered_with_the_reason(void **state)
{
	(void)state;
	go_online();
	command("{\"msg_id\":\"a\",\"idf\":\"bark\",\"command\":\"CONNECT\",\"topic\":\"t\"}");
	command("{\"msg_id\":\"b\",\"idf\":\"meow\",\"command\":\"EXPLODE\",\"topic\":\"t\"}");
	command("{\"msg_id\":\"c\",\"idf\":\"meow\",\"command\":\"SUSPEND\"}");
	command("garbage");
	expect("pub up {\"msg_id\":\"a\",\"state\":\"error\",\"reason\":\"feature 'bark' "
	       "unknown\"} 2\nerror NOENT\n"
	       "pub up {\"msg_id\":\"b\",\"state\":\"error\",\"reason\":\"command 'EXPLODE' "
	       "unknown\"} 2\nerror SCHEMA\n"
	       "pub up {\"msg_id\":\"c\",\"state\":\"error\",\"reason\":\"feature 'meow' is not "
	       "connected\"} 2\nerror AGAIN\n"
	       "error PARSE\n");
}

static void refused_subscription_is_an_error_answer(void **state)
{
	struct fixture *f = *state;
	go_online();
	command("{\"msg_id\":\"b\",\"odf\":\"meow\",\"command\":\"CONNECT\",\"topic\":\"t/o\"}");
	broker_acknowledges(ERR_BUS);
	expect("sub t/o 1\nunsub t/o\n"
	       "pub up {\"msg_id\":\"b\",\"state\":\"error\",\"reason\":\"the broker refuses the "
	       "subscription\"} 2\n");
	assert_false(dan_is_connected(f->client, DAN_ODF, "meow"));
	here->subscribe_rc = ERR_NOMEM;
	command("{\"msg_id\":\"c\",\"odf\":\"meow\",\"command\":\"CONNECT\",\"topic\":\"t/o\"}");
	expect("unsub t/o\npub up {\"msg_id\":\"c\",\"state\":\"error\",\"reason\":\"no: out of "
	       "memory\"} 2\nerror NOMEM\n");
}

static void disconnect_overtakes_the_acknowledgement(void **state)
{
	(void)state;
	go_online();
	command("{\"msg_id\":\"b\",\"odf\":\"meow\",\"command\":\"CONNECT\",\"topic\":\"t/o\"}");
	command("{\"msg_id\":\"c\",\"odf\":\"meow\",\"command\":\"DISCONNECT\",\"topic\":\"t/o\"}");
	broker_acknowledges(0);
	expect("sub t/o 1\nunsub t/o\npub up {\"msg_id\":\"c\",\"state\":\"ok\"} 2\n"
	       "pub up {\"msg_id\":\"b\",\"state\":\"ok\"} 2\n");
}

static void reconnecting_says_offline_then_online_and_forgets(void **state)
{
	struct fixture *f = *state;
	json_auto_t *values = json_pack("[i]", 7);
	go_online();
	connect_both();
	here->handlers->on_down(here->bus_arg, "cable");
	assert_false(dan_is_online(f->client));
	assert_int_equal(dan_push(f->client, "meow", values, NULL), 0); /* waits in the bus */
	here->handlers->on_up(here->bus_arg, true);
	expect("offline cable\npub t/i [7] 1\n"
	       "disconnect idf meow\nunsub t/o\ndisconnect odf meow\n"
	       "pub up {\"state\":\"offline\",\"rev\":\"R1\"} 2 retained\n"
	       "http GET http://csm:9992/" ID " -\n"
	       "pub up {\"state\":\"online\",\"rev\":\"R1\"} 2 retained\nonline\n");
	connect_both();
}

/* As after an outage: online again, and the request that asks csm is under way. */
static void come_back(void)
{
	go_online();
	connect_both();
	here->handlers->on_down(here->bus_arg, "cable");
	here->handlers->on_up(here->bus_arg, true);
	assert_non_null(here->http_done);
	forget();
}

static void forgotten_by_csm_it_registers_again(void **state)
{
	struct fixture *f = *state;
	come_back();
	http_answer(0, 404, "{}");
	expect("pub up {\"state\":\"offline\",\"rev\":\"R1\"} 2 retained\n"
	       "offline registering again\n"
	       "bus gone\n"
	       "http PUT http://csm:9992/" ID " ...\n");
	assert_false(dan_is_online(f->client));
	http_answer(0, 200, ANSWER);
	here->handlers->on_up(here->bus_arg, true);
	expect("bus broker:1883 dan-" ID "\n"
	       "sub " CTRL_DN " 2\n"
	       "registered 00.Cat\n"
	       "pub up {\"state\":\"online\",\"rev\":\"R1\"} 2 retained\n"
	       "online\n");
	connect_both();
}

/* The connection ends with what was not acknowledged. */
static void registering_again_answers_what_was_pushed(void **state)
{
	struct fixture *f = *state;
	char first[] = "first";
	come_back();
	connect_both();
	assert_int_equal(dan_push_text(f->client, "meow", "[1]", on_pushed, first, NULL), 0);
	forget();
	http_answer(0, 404, "{}");
	expect("pub up {\"state\":\"offline\",\"rev\":\"R1\"} 2 retained\n"
	       "disconnect idf meow\n"
	       "unsub t/o\n"
	       "disconnect odf meow\n"
	       "offline registering again\n"
	       "bus gone\n"
	       "pushed first AGAIN\n"
	       "http PUT http://csm:9992/" ID " ...\n");
}

static void known_to_csm_it_goes_on(void **state)
{
	(void)state;
	static const struct {
		int rc;
		long status;
		const char *body, *told;
	} answers[] = {
		{0, 200, "{\"rev\":\"R1\"}", ""},
		{ERR_PEER, 0, "", ""},
		{0, 503, "{}", ""},
		{0, 200, "<html>", ""},
		{0, 200, "{\"rev\":\"R2\"}", "error CONFLICT\n"},
	};
	come_back();
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		http_answer(answers[i].rc, answers[i].status, answers[i].body);
		expect(answers[i].told);
		here->handlers->on_down(here->bus_arg, "cable");
		here->handlers->on_up(here->bus_arg, true);
		forget();
	}
}

static int update(const char *id, const char *feature, struct err *err)
{
	const struct dan_feature odfs[] = {{feature, NULL}};
	json_auto_t *profile = json_pack("{s:s}", "model", "Dog");
	const struct dan_conf conf = {.csm_url = "http://csm:9992",
				      .id = id,
				      .odfs = odfs,
				      .n_odfs = 1,
				      .profile = profile};
	return dan_update(here->client, &conf, err);
}

static void updating_registers_other_features(void **state)
{
	struct fixture *f = *state;
	struct err err;
	go_online();
	connect_both();
	assert_int_equal(update("11111111-7c3a-49fd-8f5f-72ce0b6e68c0", "bark", &err), ERR_INVAL);
	assert_int_equal(update(ID, "bad/name", &err), ERR_SCHEMA);
	expect("");
	assert_int_equal(update(ID, "growl", NULL), 0);
	assert_int_equal(update(ID, "bark", NULL), 0); /* in place of the one before */
	expect("");
	await_event();
	expect("pub up {\"state\":\"offline\",\"rev\":\"R1\"} 2 retained\n"
	       "disconnect idf meow\n"
	       "unsub t/o\n"
	       "disconnect odf meow\n"
	       "offline registering again\n"
	       "bus gone\n"
	       "http PUT http://csm:9992/" ID " ...\n");
	assert_string_equal(here->body, "{\"accept_protos\":[\"mqtt\"],\"profile\":{\"model\":"
					"\"Dog\"},\"odf_list\":[[\"bark\",null]]}");
	http_answer(0, 200, ANSWER);
	here->handlers->on_up(here->bus_arg, true);
	forget();
	command("{\"msg_id\":\"a\",\"idf\":\"meow\",\"command\":\"CONNECT\",\"topic\":\"t/i\"}");
	command("{\"msg_id\":\"b\",\"odf\":\"bark\",\"command\":\"CONNECT\",\"topic\":\"t/o\"}");
	broker_acknowledges(0);
	broker_sends("t/o", "[1]");
	expect("pub up {\"msg_id\":\"a\",\"state\":\"error\",\"reason\":\"feature 'meow' "
	       "unknown\"} 2\n"
	       "error NOENT\n"
	       "sub t/o 0\n"
	       "connect odf bark\n"
	       "pub up {\"msg_id\":\"b\",\"state\":\"ok\"} 2\n"
	       "data bark [1]\n");
	assert_true(dan_is_connected(f->client, DAN_ODF, "bark"));
}

static void updating_while_registering_takes_its_place(void **state)
{
	(void)state;
	expect("http PUT http://csm:9992/" ID " ...\n");
	assert_int_equal(update(ID, "bark", NULL), 0);
	await_event();
	assert_int_equal(here->cancelled, 1);
	expect("http PUT http://csm:9992/" ID " ...\n");
	assert_non_null(strstr(here->body, "bark"));
}

static void leaving_forgets_an_update(void **state)
{
	struct fixture *f = *state;
	struct err err;
	go_online();
	assert_int_equal(update(ID, "bark", NULL), 0);
	assert_int_equal(dan_leave(f->client, on_left, NULL, NULL), 0);
	assert_int_equal(update(ID, "growl", &err), ERR_BUSY);
	broker_acknowledges(0);
	http_answer(0, 200, "{}");
	assert_null(strstr(here->log, "PUT"));
	assert_non_null(strstr(here->log, "left OK"));
}

static void the_login_of_the_registration_is_used(void **state)
{
	struct fixture *f = *state;
	static const char answer[] =
		"{\"rev\":\"R1\",\"name\":\"00.Cat\",\"url\":{\"host\":\"broker\",\"port\":1883},"
		"\"ctrl_chans\":[\"" CTRL_UP "\",\"" CTRL_DN
		"\"],\"username\":\"tom\",\"password\":\"purr\"}";
	expect("http PUT http://csm:9992/" ID " ...\n");
	assert_null(dan_username(f->client));
	http_answer(0, 200, answer);
	expect("bus broker:1883 dan-" ID " as tom purr\nsub " CTRL_DN " 2\nregistered 00.Cat\n");
	assert_string_equal(dan_username(f->client), "tom");
	assert_string_equal(dan_password(f->client), "purr");
	assert_int_equal(update(ID, "bark", NULL), 0);
	await_event();
	expect("bus gone\nhttp PUT http://csm:9992/" ID " ... as tom\n");
	assert_string_equal(here->password, "purr");
}

static void a_login_of_an_earlier_life_is_used(void **state)
{
	struct fixture *f = *state;
	json_auto_t *profile = json_pack("{s:s}", "model", "Cat");
	const struct dan_conf conf = {.csm_url = "http://csm:9992",
				      .id = ID,
				      .profile = profile,
				      .username = "tom",
				      .password = "hiss"};
	f->client = dan_free(f->client);
	forget();
	assert_int_equal(dan_new(f->loop, &conf, &handlers, NULL, &f->client, NULL), 0);
	expect("http PUT http://csm:9992/" ID " ... as tom\n");
	assert_string_equal(here->password, "hiss");
}

static void what_keeps_it_from_the_broker_is_told_once(void **state)
{
	(void)state;
	go_online();
	here->handlers->on_down(here->bus_arg, "cable");
	expect("offline cable\n");
	here->handlers->on_failed(here->bus_arg, "refused");
	here->handlers->on_failed(here->bus_arg, "refused");
	expect("error BUS\n");
	here->handlers->on_failed(here->bus_arg, "bad password");
	expect("error BUS\n");
	here->handlers->on_up(here->bus_arg, true);
	here->handlers->on_down(here->bus_arg, "cable");
	forget();
	here->handlers->on_failed(here->bus_arg, "bad password");
	expect("error BUS\n");
}

static void push_tells_what_is_wrong(void **state)
{
	struct fixture *f = *state;
	json_auto_t *values = json_pack("[i]", 7);
	assert_int_equal(dan_push(f->client, "meow", values, NULL), ERR_AGAIN);
	assert_int_equal(dan_push(f->client, "bark", values, NULL), ERR_NOENT);
	go_online();
	connect_both();
	here->publish_rc = ERR_LIMIT;
	assert_int_equal(dan_push(f->client, "meow", values, NULL), ERR_LIMIT);
	assert_int_equal(dan_push(f->client, "meow", NULL, NULL), ERR_SCHEMA);
}

static void leaving_says_offline_and_deregisters(void **state)
{
	static const struct {
		int rc;
		long status;
		const char *body, *result;
	} cases[] = {
		{0, 200, "{}", "left OK \n"},
		{0, 404, "{\"reason\":\"id not found\"}", "left OK \n"},
		{0, 400, "{\"reason\":\"revision out-of-date or unknown\"}",
		 "left CONFLICT revision out-of-date or unknown\n"},
		{0, 500, "", "left PEER csm refuses\n"},
		{ERR_PEER, 0, "", "left PEER refused\n"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fixture *f = *state;
		go_online();
		assert_int_equal(dan_leave(f->client, on_left, NULL, NULL), 0);
		assert_int_equal(dan_leave(f->client, on_left, NULL, NULL), ERR_BUSY);
		command("{\"msg_id\":\"a\",\"idf\":\"meow\",\"command\":\"CONNECT\",\"topic\":\"t/"
			"i\"}"); /* too late */
		expect("pub up {\"state\":\"offline\",\"rev\":\"R1\"} 1 retained\n"
		       "sub " CTRL_DN " 2\n");
		broker_acknowledges(0);
		expect("http DELETE http://csm:9992/" ID " {\"rev\":\"R1\"}\n");
		http_answer(cases[i].rc, cases[i].status, cases[i].body);
		expect(cases[i].result);
		f->client = dan_free(f->client);
		expect("bus gone\n");
		assert_int_equal(new_client(ID, &f->client, NULL), 0);
	}
}

static void leaving_does_not_wait_for_a_silent_broker(void **state)
{
	struct fixture *f = *state;
	go_online();
	assert_int_equal(dan_leave(f->client, on_left, NULL, NULL), 0);
	expect("pub up {\"state\":\"offline\",\"rev\":\"R1\"} 1 retained\nsub " CTRL_DN " 2\n");
	await_event();
	broker_acknowledges(0); /* too late to matter */
	expect("http DELETE http://csm:9992/" ID " {\"rev\":\"R1\"}\n");
	http_answer(0, 200, "{}");
	expect("left OK \n");
}

static void leaving_while_offline_deregisters(void **state)
{
	struct fixture *f = *state;
	go_online();
	here->handlers->on_down(here->bus_arg, "cable");
	expect("offline cable\n");
	assert_int_equal(dan_leave(f->client, on_left, NULL, NULL), 0);
	await_event();
	expect("http DELETE http://csm:9992/" ID " {\"rev\":\"R1\"}\n");
	http_answer(ERR_TIMEOUT, 0, "");
	expect("left TIMEOUT refused\n");
}

static void leaving_before_the_registration_is_done(void **state)
{
	struct fixture *f = *state;
	expect("http PUT http://csm:9992/" ID " ...\n");
	assert_int_equal(dan_leave(f->client, on_left, NULL, NULL), 0);
	assert_int_equal(here->cancelled, 1);
	expect("");
	await_event();
	expect("left OK \n");
}

static void freeing_says_offline(void **state)
{
	struct fixture *f = *state;
	go_online();
	command("{\"msg_id\":\"b\",\"odf\":\"meow\",\"command\":\"CONNECT\",\"topic\":\"t/o\"}");
	expect("sub t/o 1\n");
	f->client = dan_free(f->client);
	expect("pub up {\"state\":\"offline\",\"rev\":\"R1\"} 2 retained\nbus gone\n");
}

static void refuses_a_bad_configuration(void **state)
{
	struct err err = {0};
	struct dan_client *c = NULL;
	(void)state;
	assert_int_equal(new_client("not-a-uuid", &c, &err), ERR_SCHEMA);
	assert_null(c);
	assert_string_not_equal(err.text, "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(registers_and_announces_itself),
		TEST(repeats_a_failed_registration),
		TEST(last_will_says_offline),
		TEST(connected_features_exchange_data),
		TEST(a_pushed_text_is_told_when_the_broker_has_it),
		TEST(only_qos_1_acknowledges_pushes),
		TEST(retained_replays_are_ignored),
		TEST(connect_again_is_answered_and_told_once),
		TEST(disconnect_and_suspend_stop_data),
		TEST(bad_commands_are_answered_with_the_reason),
		TEST(refused_subscription_is_an_error_answer),
		TEST(disconnect_overtakes_the_acknowledgement),
		TEST(reconnecting_says_offline_then_online_and_forgets),
		TEST(forgotten_by_csm_it_registers_again),
		TEST(registering_again_answers_what_was_pushed),
		TEST(known_to_csm_it_goes_on),
		TEST(updating_registers_other_features),
		TEST(updating_while_registering_takes_its_place),
		TEST(leaving_forgets_an_update),
		TEST(the_login_of_the_registration_is_used),
		TEST(a_login_of_an_earlier_life_is_used),
		TEST(what_keeps_it_from_the_broker_is_told_once),
		TEST(push_tells_what_is_wrong),
		TEST(leaving_says_offline_and_deregisters),
		TEST(leaving_does_not_wait_for_a_silent_broker),
		TEST(leaving_while_offline_deregisters),
		TEST(leaving_before_the_registration_is_done),
		TEST(freeing_says_offline),
		TEST(refuses_a_bad_configuration),
	};
	return cmocka_run_group_tests_name("dan", tests, NULL, NULL);
}
