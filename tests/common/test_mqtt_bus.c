/* What a link does for a bus (common/bus.h) and not for the data path: giving up, waiting for
 * acknowledgements, little memory, parting. */
#include "common/mqtt/mqtt_link_int.h"
#include "tests/common/mqtt_script.h"

#define BYTES_MAX (1 << 20)

static void send_awaited(struct world *w, const char *payload, uint8_t qos, struct answer *a)
{
	const struct mqtt_out_waiter waiter = {on_answer, a};
	const struct mqtt_publish m = {.topic = "t/out",
				       .topic_len = 5,
				       .payload = payload,
				       .len = strlen(payload),
				       .qos = qos};

	assert_int_equal(mqtt_link_send(w->k, &m, &waiter), 0);
	mqtt_link_flush_soon(w->k);
	assert_int_equal(a->calls, 0);
}

static void let_in_clean(struct world *w)
{
	hang_up(w);
	UNTIL(w, accepted(w));
	EXPECT(w, "CONNECT clean=1 " CLIENT_ID);
	SAY(w, 0x20, 2, 0, 0);
}

static void start_clean(struct world *w)
{
	w->conf.clean_session = w->conf.give_up = w->conf.frugal = true;
	open_link(w);
	let_in_clean(w);
	UNTIL(w, w->ups == 1);
}

static size_t given_up(const struct world *w)
{
	struct mqtt_link_stats stats;

	mqtt_link_get_stats(w->k, &stats);
	return (size_t)stats.given_up;
}

/* ---- acknowledgements ---- */

static void who_waits_is_told_once_at_each_qos(void **state)
{
	struct world *w = *state;
	struct answer one = {0}, two = {0}, last = {0};

	start_clean(w);
	send_awaited(w, "a", 1, &one);
	send_awaited(w, "b", 2, &two);
	send_awaited(w, "c", 1, &last);
	EXPECT(w, "PUBLISH 1 q1 t/out=a");
	EXPECT(w, "PUBLISH 2 q2 t/out=b");
	EXPECT(w, "PUBLISH 3 q1 t/out=c");
	ack(w, MQTT_PUBACK, 3); /* out of order */
	UNTIL(w, last.calls == 1);
	ack(w, MQTT_PUBREC, 2);
	EXPECT(w, "PUBREL 2");
	assert_int_equal(one.calls + two.calls, 0);
	ack(w, MQTT_PUBCOMP, 2);
	ack(w, MQTT_PUBACK, 1);
	ack(w, MQTT_PUBACK, 1); /* again: of nothing */
	UNTIL(w, one.calls == 1 && two.calls == 1);
	expect_silence(w);
	assert_int_equal(one.calls + two.calls + last.calls, 3);
	assert_int_equal(one.rc | two.rc | last.rc, 0);
	assert_int_equal(given_up(w), 0);
}

static void a_clean_session_s_end_gives_up_what_was_sent(void **state)
{
	struct world *w = *state;
	struct answer sent[3] = {0}, waiting = {0};

	start_clean(w);
	send_awaited(w, "a", 1, &sent[0]);
	send_awaited(w, "b", 2, &sent[1]);
	send_awaited(w, "c", 2, &sent[2]);
	for (int i = 0; i < 3; i++)
		next_packet(w);
	ack(w, MQTT_PUBREC, 2);
	EXPECT(w, "PUBREL 2");
	hang_up(w);
	UNTIL(w, w->downs == 1 && sent[2].calls == 1);
	send_awaited(w, "d", 1, &waiting);
	for (size_t i = 0; i < ARRAY_LEN(sent); i++) {
		assert_int_equal(sent[i].calls, 1);
		assert_int_equal(sent[i].rc, ERR_AGAIN);
	}
	assert_int_equal(given_up(w), 3);
	let_in_clean(w);
	EXPECT(w, "PUBLISH 4 q1 t/out=d");
	expect_silence(w);
	ack(w, MQTT_PUBACK, 4);
	UNTIL(w, waiting.calls == 1);
	assert_int_equal(waiting.rc, 0);
}

struct again {
	struct world *w;
	struct answer told;
};

static void on_given_up(void *arg, int rc)
{
	struct again *a = arg;
	const struct mqtt_publish m = {
		.topic = "t", .topic_len = 1, .payload = "again", .len = 5, .qos = 1};

	on_answer(&a->told, rc);
	for (int i = 0; i < 20; i++) /* the queue grows meanwhile */
		assert_int_equal(mqtt_link_send(a->w->k, &m, NULL), 0);
}

static void who_hears_that_may_publish_again(void **state)
{
	struct world *w = *state;
	struct again a[4];
	const struct mqtt_publish m = {
		.topic = "t", .topic_len = 1, .payload = "x", .len = 1, .qos = 1};

	start_clean(w);
	for (size_t i = 0; i < ARRAY_LEN(a); i++) {
		const struct mqtt_out_waiter waiter = {on_given_up, &a[i]};

		a[i] = (struct again){.w = w};
		assert_int_equal(mqtt_link_send(w->k, &m, &waiter), 0);
	}
	mqtt_link_flush(w->k);
	for (size_t i = 0; i < ARRAY_LEN(a); i++)
		EXPECT(w, i == 0   ? "PUBLISH 1 q1 t=x"
			  : i == 1 ? "PUBLISH 2 q1 t=x"
			  : i == 2 ? "PUBLISH 3 q1 t=x"
				   : "PUBLISH 4 q1 t=x");
	hang_up(w);
	UNTIL(w, w->downs == 1);
	let_in_clean(w);
	for (unsigned i = 0; i < 80; i++) {
		char want[64];
		snprintf(want, sizeof(want), "PUBLISH %u q1 t=again", i + 5);
		EXPECT(w, want);
	}
	for (size_t i = 0; i < ARRAY_LEN(a); i++) {
		assert_int_equal(a[i].told.calls, 1);
		assert_int_equal(a[i].told.rc, ERR_AGAIN);
	}
}

static void a_session_that_is_kept_gives_up_when_it_is_lost(void **state)
{
	struct world *w = *state;
	struct answer a = {0};

	w->conf.give_up = true;
	start(w);
	send_awaited(w, "a", 1, &a);
	EXPECT(w, "PUBLISH 1 q1 t/out=a");
	let_in(w, true);
	EXPECT(w, "PUBLISH 1 q1 dup t/out=a");
	assert_int_equal(a.calls, 0);
	let_in(w, false);
	UNTIL(w, a.calls == 1);
	assert_int_equal(a.rc, ERR_AGAIN);
	expect_silence(w);
	assert_int_equal(given_up(w), 1);
}

static void what_a_broker_hangs_up_on_is_given_up(void **state)
{
	struct world *w = *state;
	struct answer a = {0}, next = {0};

	w->conf.give_up = true;
	start(w);
	send_awaited(w, "bad", 1, &a);
	EXPECT(w, "PUBLISH 1 q1 t/out=bad");
	for (int i = 0; i < 3; i++) {
		let_in(w, true);
		EXPECT(w, "PUBLISH 1 q1 dup t/out=bad");
		assert_int_equal(a.calls, 0);
	}
	hang_up(w);
	UNTIL(w, a.calls == 1);
	assert_int_equal(a.rc, ERR_AGAIN);
	send_awaited(w, "good", 1, &next);
	let_in(w, true);
	EXPECT(w, "PUBLISH 2 q1 t/out=good");
	ack(w, MQTT_PUBACK, 2);
	UNTIL(w, next.calls == 1);
}

/* ---- memory ---- */

static void an_idle_link_holds_no_buffers(void **state)
{
	struct world *w = *state;
	static char large[300 << 10];
	struct answer a = {0};
	const struct mqtt_publish m = {
		.topic = "t", .topic_len = 1, .payload = large, .len = sizeof(large), .qos = 1};

	memset(large, 'x', sizeof(large) - 1);
	w->conf.max_payload_bytes = BYTES_MAX;
	start_clean(w);
	for (uint8_t qos = 0; qos <= 2; qos++) {
		send_publish(w, qos, qos, false, large);
		UNTIL(w, w->messages == 2u * qos + 1);
		assert_int_equal(w->last.len, sizeof(large) - 1);
		send_publish(w, qos + 3u, qos, false, "small");
		UNTIL(w, w->messages == 2u * qos + 2);
	}
	ack(w, MQTT_PUBREL, 2);
	ack(w, MQTT_PUBREL, 5);
	EXPECT(w, "PUBACK 1");
	EXPECT(w, "PUBACK 4");
	EXPECT(w, "PUBREC 2");
	EXPECT(w, "PUBREC 5");
	EXPECT(w, "PUBCOMP 2");
	EXPECT(w, "PUBCOMP 5");
	for (int i = 0; i < 20; i++)
		publish(w, "x", 1);
	assert_int_equal(mqtt_link_send(w->k, &m, &(struct mqtt_out_waiter){on_answer, &a}), 0);
	mqtt_link_flush(w->k);
	for (int i = 0; i < 21; i++)
		next_packet(w);
	hang_up(w);
	UNTIL(w, a.calls == 1);
	assert_null(w->k->in.data);
	assert_null(w->k->out.data);
	assert_null(w->k->outgoing.store.data);
	assert_null(w->k->outgoing.msgs);
	assert_null(w->k->taken.bits);
	assert_in_range(sizeof(*w->k), 1, 700);
}

static void messages_of_a_turn_are_no_reason_to_refuse_one(void **state)
{
	struct world *w = *state;
	struct mqtt_link_stats stats;

	w->conf.max_queued = SIZE_MAX;
	w->conf.max_waiting = 300;
	start_clean(w);
	for (int i = 0; i < 5000; i++) {
		const struct mqtt_publish m = {
			.topic = "t", .topic_len = 1, .payload = "x", .len = 1, .qos = 1};

		assert_int_equal(mqtt_link_send(w->k, &m, NULL), 0);
		mqtt_link_flush_soon(w->k);
	}
	for (int i = 0; i < 5000; i++)
		assert_memory_equal(next_packet(w), "PUBLISH", 7);
	mqtt_link_get_stats(w->k, &stats);
	assert_int_equal(stats.kept, 5000);
	hang_up(w);
	UNTIL(w, w->downs == 1);
	for (int i = 0; i < 300; i++)
		publish(w, "x", 1);
	assert_int_equal(mqtt_link_publish(w->k, "t", 1, "x", 1, 1), ERR_LIMIT);
}

/* ---- parting ---- */

static void parting_ends_by_itself_while_the_loop_turns(void **state)
{
	struct world *w = *state;
	struct answer a = {0};
	uint8_t byte;

	start_clean(w);
	send_awaited(w, "last", 2, &a);
	mqtt_link_part(w->k);
	EXPECT(w, "PUBLISH 1 q2 t/out=last");
	send_publish(w, 9, 1, false, "late");
	expect_silence(w); /* it is neither taken nor acknowledged */
	ack(w, MQTT_PUBREC, 1);
	EXPECT(w, "PUBREL 1");
	ack(w, MQTT_PUBCOMP, 1);
	EXPECT(w, "DISCONNECT");
	UNTIL(w, recv(w->fd, &byte, 1, 0) == 0);
	hang_up(w);
	for (int i = 0; i < 5; i++)
		loop_turn(w->loop, 20);
	assert_false(accepted(w)); /* and it does not come back */
	assert_int_equal(w->messages + w->downs + a.calls, 0);
	int64_t began = now_ms();
	w->k = mqtt_link_free(w->k);
	assert_true(now_ms() - began < 300); /* nothing is left to wait for */
}

static void a_goodbye_that_waits_in_vain_is_said_all_the_same(void **state)
{
	struct world *w = *state;
	struct answer a = {0};

	start_clean(w);
	send_awaited(w, "last", 1, &a);
	EXPECT(w, "PUBLISH 1 q1 t/out=last");
	w->k = mqtt_link_free(w->k); /* nobody acknowledges it */
	while (!readable(w))
		continue;
	EXPECT(w, "DISCONNECT");
	assert_int_equal(a.calls, 0);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(who_waits_is_told_once_at_each_qos),
		TEST(a_clean_session_s_end_gives_up_what_was_sent),
		TEST(who_hears_that_may_publish_again),
		TEST(a_session_that_is_kept_gives_up_when_it_is_lost),
		TEST(what_a_broker_hangs_up_on_is_given_up),
		TEST(an_idle_link_holds_no_buffers),
		TEST(messages_of_a_turn_are_no_reason_to_refuse_one),
		TEST(parting_ends_by_itself_while_the_loop_turns),
		TEST(a_goodbye_that_waits_in_vain_is_said_all_the_same),
	};
	return cmocka_run_group_tests_name("mqtt link of a bus", tests, NULL, NULL);
}
