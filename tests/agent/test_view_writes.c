/* The IoTtalk view of a device: writes and their outcome, what is sent, and farewells. */
#include "tests/agent/view_bench.h"

static void writes_are_acknowledged_with_their_outcome(void **state)
{
	static const enum ack acks[] = {ACK_OK,        ACK_REJECTED,       ACK_TIMEOUT,
					ACK_LINK_DOWN, ACK_SELECT_REFUSED, ACK_CANCELLED};
	struct fixture *f = *state;

	start_online(f);
	view_link(f->view, LINK_CONNECTED, 0);
	connect_idf(f, "pump_ack");
	forget_log();
	for (size_t i = 0; i < ARRAY_LEN(acks); i++) {
		char want[64];
		odf(f, "pump_set", "[true]");
		expect("write 1 1\n");
		view_written(f->view, f->number, acks[i]);
		view_written(f->view, f->number, acks[i]); /* once is enough */
		snprintf(want, sizeof(want), "put pump_ack [%d,true] none\n", (int)acks[i]);
		expect(want);
	}
}

static void writes_may_be_answered_at_once(void **state)
{
	struct fixture *f = *state;
	enum ack ok = ACK_OK;

	f->answer = &ok;
	start_online(f);
	view_link(f->view, LINK_CONNECTED, 0);
	connect_idf(f, "valve_1_ack");
	odf(f, "valve_1_set", "[7]");
	odf(f, "valve_1_set", "[\"8\"]");
	expect("open valve_1_ack\nwrite 3 7\nput valve_1_ack [0,7] none\n"
	       "write 3 8\nput valve_1_ack [0,\"8\"] none\n");
}

static void only_the_newest_value_waits(void **state)
{
	struct fixture *f = *state;
	struct view_status s;

	start_online(f);
	view_link(f->view, LINK_CONNECTED, 0);
	connect_idf(f, "valve_1_ack");
	forget_log();
	odf(f, "valve_1_set", "[1]");
	odf(f, "pump_set", "[1]"); /* another ODF does not wait */
	odf(f, "valve_1_set", "[2]");
	expect("write 3 1\nwrite 1 1\n");
	odf(f, "valve_1_set", "[3]");
	odf(f, "valve_1_set", "[null]"); /* takes nobody's place */
	expect("put valve_1_ack [6,2] none\nput valve_1_ack [4,null] none\n");
	view_written(f->view, f->number, ACK_OK); /* pump's */
	odf(f, "pump_set", "[0]");
	uint64_t pump = f->number;
	view_written(f->view, pump, ACK_OK);
	expect("write 1 0\n");
	view_written(f->view, (uint64_t)1 << 32 | VALVE, ACK_TIMEOUT);
	expect("put valve_1_ack [2,1] none\nwrite 3 3\n");
	view_written(f->view, f->number, ACK_OK);
	expect("put valve_1_ack [0,3] none\n");
	view_get_status(f->view, &s);
	assert_int_equal(s.writes, 6);
	assert_int_equal(s.refused, 2);
}

static void a_waiting_write_fails_when_the_link_has_gone(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	view_link(f->view, LINK_CONNECTED, 0);
	connect_idf(f, "valve_1_ack");
	odf(f, "valve_1_set", "[1]");
	odf(f, "valve_1_set", "[2]");
	forget_log();
	view_link(f->view, LINK_DISCONNECTED, 0);
	view_written(f->view, f->number, ACK_LINK_DOWN);
	odf(f, "valve_1_set", "[3]");
	expect("put valve_1_ack [3,1] none\nput valve_1_ack [3,2] none\n"
	       "put valve_1_ack [3,3] none\n");
}

static void bad_values_are_refused(void **state)
{
	static const struct {
		const char *odf, *ack;
	} cases[] = {
		{"[null]", "[4,null]"},     {"[]", "[4,null]"},           {"[1,2]", "[4,1]"},
		{"null", "[4,null]"},       {"[65536]", "[4,65536]"},     {"[\"x\"]", "[4,\"x\"]"},
		{"[[1]]", "[4,null]"},      {"[{\"a\": 1}]", "[4,null]"}, {"[-1.5]", "[4,-1.5]"},
		{"{\"a\": 1}", "[4,null]"},
	};
	struct fixture *f = *state;
	struct view_status s;
	char longer[400];

	start_online(f);
	view_link(f->view, LINK_CONNECTED, 0);
	connect_idf(f, "valve_1_ack");
	forget_log();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char want[100];
		odf(f, "valve_1_set", cases[i].odf);
		snprintf(want, sizeof(want), "put valve_1_ack %s none\n", cases[i].ack);
		expect(want);
	}
	view_get_status(f->view, &s);
	assert_int_equal(s.refused, ARRAY_LEN(cases));
	assert_string_equal(s.why, "a number is needed, not a list or an object");
	/* a scalar is a list of one */
	odf(f, "valve_1_set", "7");
	expect("write 3 7\n");
	view_written(f->view, f->number, ACK_OK);
	expect("put valve_1_ack [0,7] none\n");
	/* a long text is not repeated */
	snprintf(longer, sizeof(longer), "[\"%0300d\"]", 7);
	odf(f, "valve_1_set", longer);
	expect("write 3 7\n");
	view_written(f->view, f->number, ACK_OK);
	expect("put valve_1_ack [0,null] none\n");
	odf(f, "no_such_set", "[1]");
	odf(f, "temp_set", "[1]"); /* an IDF only */
	expect("");
}

static void writes_end_with_the_device(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	view_link(f->view, LINK_CONNECTED, 0);
	connect_idf(f, "pump_ack");
	odf(f, "pump_set", "[1]");
	odf(f, "pump_set", "[0]");
	uint64_t old = f->number;
	view_stop(f->view);
	view_written(f->view, old, ACK_OK);
	start_online(f);
	view_link(f->view, LINK_CONNECTED, 0);
	connect_idf(f, "pump_ack");
	odf(f, "pump_set", "[0]");
	view_written(f->view, old, ACK_OK); /* of the instance before */
	expect("open pump_ack\nwrite 1 0\n");
}

static void what_is_sent_is_acknowledged_to_the_outbox(void **state)
{
	struct fixture *f = *state;
	struct view_status s;

	start_online(f);
	connect_idf(f, "temp");
	forget_log();
	assert_int_equal(view_send(f->view, 7, "temp", "[1]"), 0);
	f->pushed(f->pushed_arg, 0);
	assert_int_equal(view_send(f->view, 8, "temp", "[2]"), 0);
	f->pushed(f->pushed_arg, ERR_AGAIN);
	expect("push temp [1]\nsent 7 OK\npush temp [2]\nsent 8 AGAIN\n");
	view_get_status(f->view, &s);
	assert_int_equal(s.pushed, 2);
	/* of a configuration of before: never */
	assert_int_equal(view_send(f->view, 9, "old", "[2]"), ERR_NOENT);
	assert_int_equal(view_send(f->view, 9, "valve_1", "[2]"), ERR_NOENT);
	f->push_rc = ERR_BUS;
	assert_int_equal(view_send(f->view, 9, "temp", "[2]"), ERR_BUS);
	pass_ms(5000);
	expect("");
}

static void what_cannot_be_sent_now_is_asked_for_again(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(view_send(f->view, 1, "temp", "[1]"), ERR_AGAIN);
	pass_ms(1100);
	expect("ready\n");
	start_online(f);
	assert_int_equal(view_send(f->view, 1, "temp", "[1]"), ERR_AGAIN);
	pass_ms(1100);
	expect("ready\n");
	connect_idf(f, "temp");
	forget_log();
	assert_int_equal(view_send(f->view, 1, "temp", "[1]"), 0);
	f->push_rc = ERR_LIMIT;
	assert_int_equal(view_send(f->view, 2, "temp", "[2]"), ERR_AGAIN);
	f->pushed(f->pushed_arg, 0);
	expect("push temp [1]\nsent 1 OK\nready\n");
	pass_ms(5000);
	expect(""); /* once */
}

static void what_is_under_way_goes_back_when_the_device_stops(void **state)
{
	struct fixture *f = *state;

	start_online(f);
	connect_idf(f, "temp");
	view_send(f->view, 1, "temp", "[1]");
	view_send(f->view, 2, "temp", "[2]");
	forget_log();
	view_stop(f->view);
	expect("leave\ndown\nclose temp\nsent 2 AGAIN\nsent 1 AGAIN\n");
	/* the same when it is registered anew: that connection is gone */
	start_online(f);
	connect_idf(f, "temp");
	view_send(f->view, 3, "temp", "[3]");
	lose_broker(f);
	forget_log();
	f->dan.on_registered(f->dan_arg, "plc1");
	expect("sent 3 AGAIN\n");
}

/* ---- farewells ---- */

#define PUT(id)                        \
	"http PUT http://csm:9992/" id \
	" {\"accept_protos\":[\"mqtt\"],\"profile\":{\"model\":\"gateway_removed\"}}"
#define DELETE(id) "http DELETE http://csm:9992/" id " {\"rev\":\"R1\"}"
#define ANSWER(more)                                                                       \
	"{\"rev\":\"R1\",\"url\":{\"scheme\":\"mqtt\",\"host\":\"broker\",\"port\":1883}," \
	"\"ctrl_chans\":[\"a\",\"b\"]" more "}"

static struct view_farewells *farewells(struct fixture *f)
{
	struct view_farewells *all = NULL;

	assert_int_equal(view_farewells_new(f->loop, f->conf.store, f->conf.fetch, f->conf.csm_url,
					    &all, NULL),
			 0);
	return all;
}

static void a_removed_device_is_deregistered_and_forgotten(void **state)
{
	struct fixture *f = *state;
	struct view_farewells *all = farewells(f);

	start_online(f);
	connect_idf(f, "temp");
	forget_log();
	view_deregister(all, ID, NULL);
	view_deregister(all, ID, NULL);
	view_deregister(all, SLAVE, NULL);
	pass_ms(0);
	expect(PUT(ID) "\n");
	http_answer(0, 200, ANSWER(",\"username\":\"u1\",\"password\":\"p\""));
	expect("keep view/" ID "/@login/\n" DELETE(ID) " as u1\n");
	http_answer(0, 200, "{}");
	expect("forget view/" ID "/temp/\nforget view/" ID "/@login/\nforget " ID "\n");
	pass_ms(1);
	expect(PUT(SLAVE) "\n");
	http_answer(0, 200, ANSWER(""));
	http_answer(0, 404, "{}"); /* somebody was faster */
	expect(DELETE(SLAVE) "\nforget " SLAVE "\n");
	pass_ms(100000);
	expect("");
	view_farewells_free(all);
}

static void deregistering_is_tried_until_it_is_done(void **state)
{
	static const struct {
		int rc;
		long status;
		const char *body;
	} failures[] = {
		{ERR_PEER, 0, ""},
		{0, 503, "{}"},
		{0, 200, "{}"},
		{0, 403, "{\"reason\": \"x\"}"},
	};
	struct fixture *f = *state;
	struct view_farewells *all = farewells(f);

	view_deregister(all, ID, NULL);
	view_deregister(all, SLAVE, NULL);
	pass_ms(0);
	expect(PUT(ID) "\n");
	for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
		http_answer(failures[i].rc, failures[i].status, failures[i].body);
		pass_ms(900);
		expect(""); /* a second at least */
		pass_ms(60000);
		expect(i % 2 == 0 ? PUT(SLAVE) "\n" : PUT(ID) "\n"); /* the others first */
	}
	http_answer(0, 200, ANSWER(""));
	http_answer(0, 400, "{}"); /* its revision is old */
	pass_ms(60000);
	expect(DELETE(ID) "\n" PUT(SLAVE) "\n");
	view_farewells_free(all); /* under way */
	assert_null(f->http_done);
}

static void a_device_that_is_back_is_not_deregistered(void **state)
{
	struct fixture *f = *state;
	struct view_farewells *all = farewells(f);

	view_deregister(all, ID, NULL);
	view_deregister(all, SLAVE, NULL);
	pass_ms(0);
	view_free(f->view);
	f->conf.farewells = all;
	make_view(f);
	view_start(f->view);
	assert_null(f->http_done);
	forget_log();
	pass_ms(1);
	expect(PUT(SLAVE) "\n");
	http_answer(0, 200, ANSWER(""));
	http_answer(0, 200, "{}");
	forget_log();
	view_deregister(all, SLAVE, NULL); /* it has left again */
	view_deregister(all, "another", NULL);
	pass_ms(1);
	expect(PUT(SLAVE) "\n");
	http_answer(0, 200, ANSWER(""));
	http_answer(0, 200, "{}");
	forget_log();
	pass_ms(1);
	expect(PUT("another") "\n");
	view_farewells_free(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(writes_are_acknowledged_with_their_outcome),
		TEST(writes_may_be_answered_at_once),
		TEST(only_the_newest_value_waits),
		TEST(a_waiting_write_fails_when_the_link_has_gone),
		TEST(bad_values_are_refused),
		TEST(writes_end_with_the_device),
		TEST(what_is_sent_is_acknowledged_to_the_outbox),
		TEST(what_cannot_be_sent_now_is_asked_for_again),
		TEST(what_is_under_way_goes_back_when_the_device_stops),
		TEST(a_removed_device_is_deregistered_and_forgotten),
		TEST(deregistering_is_tried_until_it_is_done),
		TEST(a_device_that_is_back_is_not_deregistered),
	};
	return cmocka_run_group_tests_name("view_writes", tests, NULL, NULL);
}
