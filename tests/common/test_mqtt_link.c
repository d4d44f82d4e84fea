/* A link against a broker of the test's own: a socket that says what the script wants, and checks
 * every packet it gets. */
#include "tests/common/mqtt_script.h"

/* ---- receiving ---- */

static void messages_are_delivered_in_order_and_acknowledged(void **state)
{
	struct world *w = *state;

	start(w);
	assert_int_equal(w->fresh_ups, 1);
	send_publish(w, 0, 0, false, "a");
	send_publish(w, 1, 1, false, "b");
	send_publish(w, 2, 2, false, "c");
	EXPECT(w, "PUBACK 1");
	EXPECT(w, "PUBREC 2");
	assert_string_equal(w->log, "a b c ");
	ack(w, MQTT_PUBREL, 2);
	EXPECT(w, "PUBCOMP 2");
	assert_int_equal(w->last.qos, 2);
	ack(w, MQTT_PUBREL, 77); /* unknown: the broker is done with it all the same */
	EXPECT(w, "PUBCOMP 77");
}

static void many_packets_of_one_read_are_one_batch_and_one_write(void **state)
{
	struct world *w = *state;
	struct mqtt_bytes b = {0};

	start(w);
	for (uint16_t i = 1; i <= 500; i++) {
		const struct mqtt_publish m = {.topic = "t/in",
					       .topic_len = 4,
					       .payload = "x",
					       .len = 1,
					       .qos = 1,
					       .id = i};
		assert_int_equal(mqtt_put_publish(&b, &m), 0);
	}
	say(w, b.data, b.end);
	mqtt_bytes_done(&b);
	UNTIL(w, w->messages == 500);
	assert_int_equal(w->batches, 1);
	/* one write: what one read of ours gives is all there is */
	uint8_t acks[4000];
	assert_int_equal(recv(w->fd, acks, sizeof(acks), 0), 500 * 4);
}

static void packets_may_come_byte_by_byte(void **state)
{
	static const uint8_t bytes[] = {0x32, 0x0a, 0, 4, 't', '/', 'i', 'n', 0, 5, '4', '2'};
	struct world *w = *state;

	start(w);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		assert_int_equal(w->messages, 0);
		say(w, bytes + i, 1);
		loop_turn(w->loop, 100);
	}
	EXPECT(w, "PUBACK 5");
	assert_string_equal(w->log, "42 ");
}

static void a_message_with_qos_2_comes_once_over_reconnects(void **state)
{
	struct world *w = *state;
	struct mqtt_link_stats stats;

	start(w);
	send_publish(w, 7, 2, false, "once");
	EXPECT(w, "PUBREC 7");
	let_in(w, true);
	send_publish(w, 7, 2, true, "once");
	EXPECT(w, "PUBREC 7");
	ack(w, MQTT_PUBREL, 7);
	EXPECT(w, "PUBCOMP 7");
	assert_string_equal(w->log, "once ");
	mqtt_link_get_stats(w->k, &stats);
	assert_int_equal(stats.repeated, 1);
	/* released: the identifier stands for another message now */
	send_publish(w, 7, 2, true, "next");
	EXPECT(w, "PUBREC 7");
	assert_string_equal(w->log, "once next ");
}

static void a_lost_session_forgets_what_was_taken(void **state)
{
	struct world *w = *state;

	start(w);
	send_publish(w, 7, 2, false, "old");
	EXPECT(w, "PUBREC 7");
	let_in(w, false);
	send_publish(w, 7, 2, true, "new");
	EXPECT(w, "PUBREC 7");
	assert_string_equal(w->log, "old new ");
	/* a broker set back to an older state in the same session: new messages carry no DUP */
	let_in(w, true);
	send_publish(w, 7, 2, false, "newer");
	EXPECT(w, "PUBREC 7");
	assert_string_equal(w->log, "old new newer ");
}

static void a_large_message_is_skipped_and_acknowledged(void **state)
{
	struct world *w = *state;
	static char large[3 << 20];

	start(w);
	memset(large, 'x', sizeof(large) - 1);
	send_publish(w, 3, 1, false, large);
	send_publish(w, 4, 2, false, large);
	send_publish(w, 5, 1, false, "small");
	EXPECT(w, "PUBACK 3");
	EXPECT(w, "PUBREC 4");
	EXPECT(w, "PUBACK 5");
	assert_int_equal(w->too_large, 2);
	assert_string_equal(w->log, "small ");
	assert_int_equal(w->downs, 0);
}

/* ---- back-pressure ---- */

static void nothing_is_acknowledged_that_was_not_taken(void **state)
{
	struct world *w = *state;
	struct mqtt_link_stats stats;

	start(w);
	send_publish(w, 1, 1, false, "a");
	EXPECT(w, "PUBACK 1");
	w->full = true;
	send_publish(w, 2, 1, false, "b");
	send_publish(w, 3, 2, false, "c");
	send_publish(w, 0, 0, false, "d");
	expect_silence(w);
	mqtt_link_get_stats(w->k, &stats);
	assert_true(stats.stopped);
	mqtt_link_resume(w->k); /* still no room */
	expect_silence(w);
	w->full = false;
	mqtt_link_resume(w->k);
	EXPECT(w, "PUBACK 2");
	EXPECT(w, "PUBREC 3");
	assert_string_equal(w->log, "a b c d ");
	send_publish(w, 4, 1, false, "e"); /* and it reads on */
	EXPECT(w, "PUBACK 4");
	assert_string_equal(w->log, "a b c d e ");
}

static void a_broker_is_not_read_while_there_is_no_room(void **state)
{
	struct world *w = *state;
	struct mqtt_bytes b = {0};
	size_t sent = 0;

	start(w);
	w->full = true;
	const struct mqtt_publish m = {.topic = "t/in", .topic_len = 4, .payload = "x", .len = 1};
	for (int i = 0; i < 100000; i++)
		assert_int_equal(mqtt_put_publish(&b, &m), 0);
	int small = 32 << 10;
	assert_int_equal(setsockopt(w->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	for (int idle = 0; idle < 20 && sent < 64 << 20;) {
		ssize_t n = send(w->fd, b.data + sent % b.end, b.end - sent % b.end, MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		idle = n > 0 ? 0 : idle + 1;
		loop_turn(w->loop, 5);
	}
	assert_true(sent < 64 << 20); /* the sockets' buffers hold it, not the link */
	assert_int_equal(w->messages, 0);
	w->full = false;
	mqtt_link_resume(w->k);
	say(w, b.data + sent % b.end, b.end - sent % b.end);
	size_t size = b.end / 100000, whole = (sent + b.end - sent % b.end) / size;
	UNTIL(w, w->messages == whole);
	assert_int_equal(w->downs, 0);
	mqtt_bytes_done(&b);
}

static void a_connection_lost_without_room_gives_its_messages_back(void **state)
{
	struct world *w = *state;

	start(w);
	w->full = true;
	send_publish(w, 2, 1, false, "b");
	expect_silence(w);
	struct linger now = {.l_onoff = 1}; /* RST: seen although nothing is read */
	assert_int_equal(setsockopt(w->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	let_in(w, true);
	assert_int_equal(w->downs, 1);
	w->full = false;
	send_publish(w, 2, 1, true, "b");
	EXPECT(w, "PUBACK 2");
	assert_string_equal(w->log, "b ");
}

/* ---- publishing ---- */

static void messages_are_published_in_order_at_each_qos(void **state)
{
	struct world *w = *state;
	struct mqtt_link_stats stats;

	start(w);
	publish(w, "a", 0);
	publish(w, "b", 1);
	publish(w, "c", 2);
	publish(w, "d", 0);
	EXPECT(w, "PUBLISH q0 t/out=a");
	EXPECT(w, "PUBLISH 1 q1 t/out=b");
	EXPECT(w, "PUBLISH 2 q2 t/out=c");
	EXPECT(w, "PUBLISH q0 t/out=d");
	ack(w, MQTT_PUBREC, 2);
	EXPECT(w, "PUBREL 2");
	ack(w, MQTT_PUBCOMP, 2);
	ack(w, MQTT_PUBACK, 1);
	UNTIL(w, (mqtt_link_get_stats(w->k, &stats), stats.kept == 0));
	ack(w, MQTT_PUBREC, 99); /* unknown: lest the broker waits for ever */
	EXPECT(w, "PUBREL 99");
	ack(w, MQTT_PUBACK, 50);
	ack(w, MQTT_PUBACK, 65535);
	expect_silence(w);
	assert_int_equal(w->downs, 0);
}

static void what_was_not_acknowledged_is_sent_again_as_it_stood(void **state)
{
	struct world *w = *state;

	start(w);
	publish(w, "a", 1);
	publish(w, "b", 2);
	publish(w, "c", 2);
	publish(w, "d", 1);
	for (int i = 0; i < 4; i++)
		next_packet(w);
	ack(w, MQTT_PUBREC, 2);
	EXPECT(w, "PUBREL 2");
	ack(w, MQTT_PUBACK, 4);
	loop_turn(w->loop, 100);
	hang_up(w);
	UNTIL(w, w->downs == 1);
	publish(w, "e", 1); /* while offline */
	publish(w, "f", 0);
	let_in(w, true);
	EXPECT(w, "PUBLISH 1 q1 dup t/out=a");
	EXPECT(w, "PUBREL 2");
	EXPECT(w, "PUBLISH 3 q2 dup t/out=c");
	EXPECT(w, "PUBLISH 5 q1 t/out=e");
	EXPECT(w, "PUBLISH q0 t/out=f");
	/* broken again before anything was acknowledged, and then the session is lost */
	let_in(w, false);
	EXPECT(w, "PUBLISH 1 q1 t/out=a");
	EXPECT(w, "PUBLISH 3 q2 t/out=c");
	EXPECT(w, "PUBLISH 5 q1 t/out=e");
	expect_silence(w);
}

static void a_full_queue_is_told_and_so_is_room(void **state)
{
	struct world *w = *state;

	w->conf.max_queued = 100;
	start(w);
	for (int i = 0; i < 100; i++)
		publish(w, "x", 1);
	assert_int_equal(mqtt_link_publish(w->k, "t/out", 5, "y", 1, 1), ERR_LIMIT);
	for (unsigned i = 1; i <= 100; i++) {
		char want[64];
		snprintf(want, sizeof(want), "PUBLISH %u q1 t/out=x", i);
		EXPECT(w, want);
	}
	assert_int_equal(w->rooms, 0);
	for (unsigned i = 1; i <= 50; i++)
		ack(w, MQTT_PUBACK, i);
	UNTIL(w, w->rooms == 1);
	publish(w, "y", 1);
	EXPECT(w, "PUBLISH 101 q1 t/out=y");
	assert_int_equal(w->rooms, 1);
}

static void the_queue_is_limited_in_bytes(void **state)
{
	struct world *w = *state;
	static char half[600 << 10];

	memset(half, 'x', sizeof(half) - 1);
	start(w);
	hang_up(w);
	UNTIL(w, w->downs == 1);
	publish(w, half, 0);
	assert_int_equal(mqtt_link_publish(w->k, "t/out", 5, half, sizeof(half), 0), ERR_LIMIT);
	let_in(w, true);
	UNTIL(w, w->rooms == 1);
}

static void identifiers_go_round_without_meeting(void **state)
{
	struct world *w = *state;
	struct mqtt_link_stats stats;
	unsigned id = 0;

	start(w);
	for (unsigned round = 0; round < 140; round++) {
		struct mqtt_bytes b = {0};

		for (int i = 0; i < 500; i++) {
			assert_int_equal(mqtt_link_publish(w->k, "t", 1, "x", 1, 1), 0);
			id = id == 61439 ? 1 : id + 1;
			assert_int_equal(mqtt_put_ack(&b, MQTT_PUBACK, (uint16_t)id), 0);
		}
		mqtt_link_flush(w->k);
		say(w, b.data, b.end);
		mqtt_bytes_done(&b);
		UNTIL(w, (readable(w), mqtt_link_get_stats(w->k, &stats), stats.kept == 0));
		w->have = 0;
	}
	assert_int_equal(w->downs, 0);
}

static void a_slow_reader_gets_everything(void **state)
{
	struct world *w = *state;
	static char payload[8000];
	unsigned n = 0;

	memset(payload, 'x', sizeof(payload) - 1);
	w->conf.max_queued = 3000;
	w->conf.max_queued_bytes = 64 << 20;
	start(w);
	for (int i = 0; i < 2000; i++) /* 16 MB: no socket takes it at once */
		publish(w, payload, i % 3 == 0 ? 0 : 1);
	while (n < 2000) {
		const char *text = next_packet(w);
		if (strncmp(text, "PUBLISH", 7) != 0)
			fail_msg("%s", text);
		n++;
	}
	expect_silence(w);
}

static void an_acknowledgement_of_the_wrong_kind_ends_the_connection(void **state)
{
	struct world *w = *state;

	start(w);
	publish(w, "a", 2);
	EXPECT(w, "PUBLISH 1 q2 t/out=a");
	ack(w, MQTT_PUBACK, 1);
	UNTIL(w, w->downs == 1);
	assert_non_null(strstr(w->why, "QoS 2"));
	let_in(w, true);
	EXPECT(w, "PUBLISH 1 q2 dup t/out=a");
}

/* ---- topics ---- */

static void topics_of_a_turn_share_packets(void **state)
{
	struct world *w = *state;
	struct answer a = {0};
	uint8_t suback[4 + 100] = {0x90, 102};

	open_link(w);
	for (int i = 0; i < 150; i++) {
		char topic[16];
		snprintf(topic, sizeof(topic), "t/%d", i);
		assert_int_equal(mqtt_link_subscribe(w->k, topic, 2, on_answer, &a, NULL), 0);
	}
	let_in(w, false);
	EXPECT(w, "SUBSCRIBE 61440 of 100: t/0");
	EXPECT(w, "SUBSCRIBE 61441 of 50: t/100");
	expect_silence(w);
	assert_int_equal(w->ups, 0); /* not before its topics are there */
	assert_int_equal(a.calls, 0);
	suback[2] = 61440 >> 8;
	suback[3] = 61440 & 0xff;
	say(w, suback, sizeof(suback));
	UNTIL(w, a.calls == 100);
	suback[1] = 52;
	suback[3] = 61441 & 0xff;
	memset(suback + 4, 0x80, 50);
	say(w, suback, 54);
	UNTIL(w, a.calls == 150);
	assert_int_equal(a.rc, ERR_ACCES);
	UNTIL(w, w->ups == 1);
}

static void subscribe(struct world *w, const char *topic, unsigned id)
{
	struct answer a = {0};
	char want[64];

	assert_int_equal(mqtt_link_subscribe(w->k, topic, 1, on_answer, &a, NULL), 0);
	snprintf(want, sizeof(want), "SUBSCRIBE %u of 1: %s", id, topic);
	EXPECT(w, want);
	SAY(w, 0x90, 3, (uint8_t)(id >> 8), (uint8_t)id, 1);
	UNTIL(w, a.calls == 1);
	assert_int_equal(a.rc, 0);
}

static void topics_are_asked_for_again_on_every_connection(void **state)
{
	struct world *w = *state;
	struct answer on = {0}, off = {0};

	start(w);
	subscribe(w, "t/1", 61440);
	subscribe(w, "t/2", 61441);
	hang_up(w);
	UNTIL(w, w->downs == 1);
	assert_int_equal(mqtt_link_subscribe(w->k, "t/3", 1, on_answer, &on, NULL), 0);
	assert_int_equal(mqtt_link_unsubscribe(w->k, "t/2", on_answer, &off, NULL), 0);
	let_in(w, true); /* the session may still hold t/2, and may not hold t/1 */
	EXPECT(w, "UNSUBSCRIBE 61443 of 1: t/2");
	EXPECT(w, "SUBSCRIBE 61442 of 2: t/3"); /* and t/1 */
	SAY(w, 0x90, 4, 0xf0, 0x02, 1, 1, 0xb0, 2, 0xf0, 0x03);
	UNTIL(w, on.calls == 1 && off.calls == 1);
	assert_int_equal(on.rc, 0);
	assert_int_equal(off.rc, 0);
	UNTIL(w, w->ups == 2);
	let_in(w, false);
	const char *both = "SUBSCRIBE 61444 of 2: "; /* in any order */
	assert_memory_equal(next_packet(w), both, strlen(both));
	assert_int_equal(off.calls, 1);
}

static void the_last_wish_for_a_topic_wins(void **state)
{
	struct world *w = *state;
	struct answer first = {0}, second = {0}, third = {0};

	start(w);
	assert_int_equal(mqtt_link_subscribe(w->k, "t", 1, on_answer, &first, NULL), 0);
	EXPECT(w, "SUBSCRIBE 61440 of 1: t");
	assert_int_equal(mqtt_link_unsubscribe(w->k, "t", on_answer, &second, NULL), 0);
	expect_silence(w); /* one at a time, so that the broker cannot mix them up */
	SAY(w, 0x90, 3, 0xf0, 0, 1);
	EXPECT(w, "UNSUBSCRIBE 61441 of 1: t");
	assert_int_equal(first.calls, 1);
	assert_int_equal(mqtt_link_subscribe(w->k, "t", 1, on_answer, &third, NULL), 0);
	SAY(w, 0xb0, 2, 0xf0, 1);
	EXPECT(w, "SUBSCRIBE 61442 of 1: t");
	SAY(w, 0x90, 3, 0xf0, 2, 1);
	UNTIL(w, third.calls == 1);
	assert_int_equal(first.rc, 0);
	assert_int_equal(second.rc, 0);
	assert_int_equal(third.rc, 0);
	/* on and off within a turn: nobody hears of it but those who asked */
	assert_int_equal(mqtt_link_unsubscribe(w->k, "t", on_answer, &first, NULL), 0);
	assert_int_equal(mqtt_link_subscribe(w->k, "t", 1, on_answer, &second, NULL), 0);
	expect_silence(w);
	assert_int_equal(first.rc, ERR_CONFLICT);
	assert_int_equal(second.rc, 0);
	assert_int_equal(second.calls, 2);
	assert_int_equal(mqtt_link_subscribe(w->k, "t#", 1, on_answer, &first, NULL), ERR_INVAL);
}

/* ---- connections ---- */

static void nonsense_ends_the_connection_and_says_why(void **state)
{
	static const struct {
		const char *why;
		uint8_t data[8];
		size_t n;
	} cases[] = {
		{"type 15", {0xff, 0xff}, 2},
		{"QoS 3", {0x36, 5, 0, 1, 't', 0, 1}, 7},
		{"another CONNACK", {0x20, 2, 0, 0}, 4},
		{"subscription nobody sent", {0x90, 3, 0, 1, 0}, 5},
		{"within a packet", {0x30, 9, 0, 1, 't'}, 5},
		{"remaining length", {0x30, 0xff, 0xff, 0xff, 0xff, 0xff}, 6},
	};
	struct world *w = *state;

	start(w);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		say(w, cases[i].data, cases[i].n);
		shutdown(w->fd, SHUT_WR);
		UNTIL(w, w->downs == i + 1);
		if (strstr(w->why, cases[i].why) == NULL)
			fail_msg("'%s' where '%s' was due", w->why, cases[i].why);
		let_in(w, true);
		UNTIL(w, w->ups == i + 2);
	}
	assert_int_equal(w->messages, 0);
}

static void what_comes_before_connack_is_no_broker(void **state)
{
	struct world *w = *state;

	open_link(w);
	for (int i = 0; i < 2; i++) {
		UNTIL(w, accepted(w));
		EXPECT(w, "CONNECT clean=0 " CLIENT_ID);
		if (i == 0)
			send_publish(w, 1, 1, false, "early");
		else
			SAY(w, 'H', 'T', 'T', 'P', '/', '1', '.', '1');
		uint8_t byte;
		UNTIL(w, recv(w->fd, &byte, 1, 0) == 0);
		hang_up(w);
	}
	assert_int_equal(w->messages, 0);
	let_in(w, false);
	UNTIL(w, w->ups == 1);
}

static void a_refusal_is_no_reason_to_give_up(void **state)
{
	struct world *w = *state;

	open_link(w);
	UNTIL(w, accepted(w));
	EXPECT(w, "CONNECT clean=0 " CLIENT_ID);
	SAY(w, 0x20, 2, 0, 3);
	let_in(w, false);
	UNTIL(w, w->ups == 1);
	assert_int_equal(w->downs, 0);
}

static void a_broker_that_never_answers_is_left(void **state)
{
	struct world *w = *state;

	w->conf.timeout_ms = 100;
	open_link(w);
	UNTIL(w, accepted(w));
	EXPECT(w, "CONNECT clean=0 " CLIENT_ID);
	int64_t began = now_ms();
	uint8_t byte;
	UNTIL(w, recv(w->fd, &byte, 1, 0) == 0);
	assert_true(now_ms() - began >= 80);
	let_in(w, false);
	UNTIL(w, w->ups == 1);
}

static void reconnecting_backs_off_while_connections_do_not_last(void **state)
{
	struct world *w = *state;
	int64_t began = now_ms();

	open_link(w);
	for (int i = 0; i < 4; i++) { /* after about 50, 100 and 200 ms */
		let_in(w, true);
		UNTIL(w, w->ups == (unsigned)i + 1);
	}
	assert_in_range(now_ms() - began, 200, 3000);
}

static void an_idle_connection_is_kept_alive(void **state)
{
	struct world *w = *state;

	w->conf.keepalive_ms = 100;
	start(w);
	for (int i = 0; i < 3; i++) {
		EXPECT(w, "PINGREQ");
		SAY(w, 0xd0, 0);
	}
	assert_int_equal(w->downs, 0);
	EXPECT(w, "PINGREQ"); /* this one is not answered */
	UNTIL(w, w->downs == 1);
	assert_non_null(strstr(w->why, "no answer to a ping"));
	let_in(w, true);
	UNTIL(w, w->ups == 2);
}

static void a_broker_that_only_listens_is_found_out(void **state)
{
	struct world *w = *state;
	int64_t end = now_ms() + PATIENCE_MS;

	w->conf.keepalive_ms = 100;
	start(w);
	while (w->downs == 0 && now_ms() < end) { /* it has always just heard from us */
		publish(w, "x", 0);
		readable(w);
		w->have = 0;
		loop_turn(w->loop, 5);
	}
	assert_int_equal(w->downs, 1);
}

static void pings_go_on_while_reading_is_stopped_and_no_answer_is_missed(void **state)
{
	struct world *w = *state;

	w->conf.keepalive_ms = 100;
	start(w);
	w->full = true;
	send_publish(w, 1, 1, false, "a");
	for (int i = 0; i < 4; i++)
		EXPECT(w, "PINGREQ"); /* the answers would be behind the message */
	assert_int_equal(w->downs, 0);
	w->full = false;
	mqtt_link_resume(w->k);
	EXPECT(w, "PUBACK 1");
	SAY(w, 0xd0, 0, 0xd0, 0, 0xd0, 0, 0xd0, 0);
	EXPECT(w, "PINGREQ");
	SAY(w, 0xd0, 0);
	EXPECT(w, "PINGREQ");
	assert_int_equal(w->downs, 0);
}

static void the_session_of_an_earlier_process_is_forgotten_if_asked_for(void **state)
{
	struct world *w = *state;

	w->conf.forget_session = true;
	open_link(w);
	publish(w, "a", 1);
	UNTIL(w, accepted(w));
	EXPECT(w, "CONNECT clean=1 " CLIENT_ID);
	SAY(w, 0x20, 2, 0, 0);
	EXPECT(w, "DISCONNECT");
	let_in(w, false);
	EXPECT(w, "PUBLISH 1 q1 t/out=a");
	let_in(w, true); /* and only then */
	EXPECT(w, "PUBLISH 1 q1 dup t/out=a");
}

static void a_goodbye_waits_for_what_is_under_way(void **state)
{
	struct world *w = *state;

	start(w);
	publish(w, "a", 1);
	EXPECT(w, "PUBLISH 1 q1 t/out=a");
	ack(w, MQTT_PUBACK, 1); /* not read yet */
	send_publish(w, 1, 1, false, "late");
	int64_t began = now_ms();
	shutdown(w->fd, SHUT_WR);
	w->k = mqtt_link_free(w->k);
	assert_true(now_ms() - began < 300); /* it did not wait in vain */
	EXPECT(w, "DISCONNECT");
	assert_int_equal(w->messages, 0);
	uint8_t byte;
	assert_int_equal(recv(w->fd, &byte, 1, 0), 0); /* an end, not a reset */
}

struct dialed {
	int fd;
	unsigned calls;
	char why[200];
};

static void on_dialed(void *arg, int fd, const char *why)
{
	struct dialed *d = arg;

	d->calls++;
	d->fd = fd;
	snprintf(d->why, sizeof(d->why), "%s", why != NULL ? why : "");
}

#ifdef __SANITIZE_ADDRESS__
/* A look-up that was given up may still be on its way when the process ends, with what the C
 * library's resolver holds for it. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:__res_context_send\n";
}
#endif

static void hosts_are_addresses_or_names(void **state)
{
	static const struct {
		const char *host;
		bool reached;
	} cases[] = {
		{"127.0.0.1", true}, {"localhost", true},
		{"LOCALHOST", true}, {"[::1]", false}, /* our broker is not there */
		{"::1", false},      {"no-such-host.invalid", false},
	};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct dialed d = {.fd = -1};
		struct dial *dial = NULL;

		assert_int_equal(
			dial_new(w->loop, cases[i].host, w->conf.port, on_dialed, &d, &dial, NULL),
			0);
		assert_int_equal(d.calls, 0);
		UNTIL(w, d.calls == 1);
		if ((d.fd >= 0) != cases[i].reached || (d.why[0] == '\0') != cases[i].reached)
			fail_msg("%s: %d %s", cases[i].host, d.fd, d.why);
		closep(&d.fd);
		dial_free(dial);
	}
	struct dial *none = NULL;
	assert_int_equal(dial_new(w->loop, "", 1, on_dialed, NULL, &none, NULL), ERR_INVAL);
	assert_int_equal(dial_new(w->loop, "x", 65536, on_dialed, NULL, &none, NULL), ERR_INVAL);
	assert_null(none);
	/* given up while the name is looked up */
	assert_int_equal(dial_new(w->loop, "no-such-host.invalid", 1, on_dialed, NULL, &none, NULL),
			 0);
	loop_turn(w->loop, 0);
	assert_null(dial_free(none));
}

static void a_link_can_be_freed_at_any_time(void **state)
{
	struct world *w = *state;

	open_link(w);
	w->k = mqtt_link_free(w->k); /* before its first turn */
	open_link(w);
	loop_turn(w->loop, 50);
	w->k = mqtt_link_free(w->k); /* while it connects */
	open_link(w);
	UNTIL(w, accepted(w));
	w->k = mqtt_link_free(w->k); /* before CONNACK */
	hang_up(w);
	assert_null(mqtt_link_free(NULL));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(messages_are_delivered_in_order_and_acknowledged),
		TEST(many_packets_of_one_read_are_one_batch_and_one_write),
		TEST(packets_may_come_byte_by_byte),
		TEST(a_message_with_qos_2_comes_once_over_reconnects),
		TEST(a_lost_session_forgets_what_was_taken),
		TEST(a_large_message_is_skipped_and_acknowledged),
		TEST(nothing_is_acknowledged_that_was_not_taken),
		TEST(a_broker_is_not_read_while_there_is_no_room),
		TEST(a_connection_lost_without_room_gives_its_messages_back),
		TEST(messages_are_published_in_order_at_each_qos),
		TEST(what_was_not_acknowledged_is_sent_again_as_it_stood),
		TEST(a_full_queue_is_told_and_so_is_room),
		TEST(the_queue_is_limited_in_bytes),
		TEST(identifiers_go_round_without_meeting),
		TEST(a_slow_reader_gets_everything),
		TEST(an_acknowledgement_of_the_wrong_kind_ends_the_connection),
		TEST(topics_of_a_turn_share_packets),
		TEST(topics_are_asked_for_again_on_every_connection),
		TEST(the_last_wish_for_a_topic_wins),
		TEST(nonsense_ends_the_connection_and_says_why),
		TEST(what_comes_before_connack_is_no_broker),
		TEST(a_refusal_is_no_reason_to_give_up),
		TEST(a_broker_that_never_answers_is_left),
		TEST(reconnecting_backs_off_while_connections_do_not_last),
		TEST(an_idle_connection_is_kept_alive),
		TEST(a_broker_that_only_listens_is_found_out),
		TEST(pings_go_on_while_reading_is_stopped_and_no_answer_is_missed),
		TEST(the_session_of_an_earlier_process_is_forgotten_if_asked_for),
		TEST(a_goodbye_waits_for_what_is_under_way),
		TEST(hosts_are_addresses_or_names),
		TEST(a_link_can_be_freed_at_any_time),
	};
	return cmocka_run_group_tests_name("mqtt link", tests, NULL, NULL);
}
