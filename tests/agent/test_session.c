#include "agent/session.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ZEROS "00000000000000000000000000000000"

static const struct seal_key key = {{1, 2, 3}};
static const struct seal_key other_key = {{9, 9, 9}};

/* csm's side of a session. */
struct csm {
	struct session *s;
	struct seal_nonce nonce;
	struct seal_head state; /* what the agent announced last */
	json_t *state_body;
};

static void read_state(struct csm *c)
{
	size_t len, body_len;
	const char *msg = session_state(c->s, &len), *body;

	assert_int_equal(seal_open(&key, session_state_topic(c->s), msg, len, &c->state, &body,
				   &body_len, NULL),
			 0);
	json_decref(c->state_body);
	c->state_body = json_loadb(body, body_len, 0, NULL);
	assert_non_null(c->state_body);
}

static int setup(void **state)
{
	struct csm *c = calloc(1, sizeof(*c));

	assert_int_equal(session_new(&key, "a1", "0.1.0", &c->s, NULL), 0);
	c->nonce = seal_nonce_new();
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	struct csm *c = *state;

	session_free(c->s);
	json_decref(c->state_body);
	free(c);
	return 0;
}

struct sent {
	char *msg;
	size_t len;
};

static struct sent seal(const struct csm *c, const struct seal_key *with, const char *topic,
			const struct seal_nonce *from, const struct seal_nonce *to, uint64_t seq,
			const char *body)
{
	struct seal_head head = {.from = *from, .to = *to, .seq = seq};
	struct sent sent;

	assert_int_equal(seal_make(with, topic != NULL ? topic : session_req_topic(c->s), &head,
				   body, strlen(body), &sent.msg, &sent.len, NULL),
			 0);
	return sent;
}

static enum session_verdict give(struct csm *c, const struct sent *sent)
{
	json_t *body = NULL;
	enum session_verdict verdict = session_accept(c->s, sent->msg, sent->len, &body);

	assert_int_equal(body != NULL, verdict == SESSION_REQUEST);
	json_decref(body);
	return verdict;
}

static enum session_verdict say(struct csm *c, uint64_t seq, const char *body)
{
	struct sent sent = seal(c, &key, NULL, &c->nonce, &c->state.from, seq, body);
	enum session_verdict verdict = give(c, &sent);

	free(sent.msg);
	return verdict;
}

static void greet(struct csm *c)
{
	assert_int_equal(session_connecting(c->s, NULL), 0);
	read_state(c);
	assert_int_equal(say(c, 1, "{\"op\":\"hello\"}"), SESSION_HELLO);
	read_state(c);
}

static void ids_that_could_be_topics_are_refused(void **state)
{
	static const char *const bad[] = {"", "a/b", "a+", "#", "a b", "\xc3\xa4", "$x"};
	char longest[AGENT_ID_MAX + 2];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct session *s = NULL;
		if (session_new(&key, bad[i], "0", &s, NULL) != ERR_INVAL || s != NULL)
			fail_msg("'%s' was taken", bad[i]);
	}
	memset(longest, 'x', sizeof(longest));
	longest[AGENT_ID_MAX + 1] = '\0';
	assert_false(agent_id_valid(longest));
	longest[AGENT_ID_MAX] = '\0';
	assert_true(agent_id_valid(longest));
}

static void every_connection_has_new_nonces(void **state)
{
	struct csm *c = *state;
	size_t len;

	assert_null(session_state(c->s, &len));
	assert_int_equal(session_connecting(c->s, NULL), 0);
	read_state(c);
	struct seal_nonce first = c->state.from;
	assert_string_equal(c->state.to.s, ZEROS);
	assert_int_equal(c->state.seq, 1);
	assert_int_equal(session_connecting(c->s, NULL), 0);
	read_state(c);
	assert_string_not_equal(first.s, c->state.from.s);
	assert_int_equal(session_number(c->s), 0);
}

static void the_will_comes_from_the_nonce_the_state_names(void **state)
{
	struct csm *c = *state;
	struct seal_head head;
	const char *body;
	size_t len, body_len;

	greet(c);
	const char *will = session_will(c->s, &len);
	assert_int_equal(seal_open(&key, session_state_topic(c->s), will, len, &head, &body,
				   &body_len, NULL),
			 0);
	assert_string_equal(head.from.s, json_string_value(json_object_get(c->state_body, "will")));
	assert_string_equal(head.to.s, ZEROS);
	json_auto_t *said = json_loadb(body, body_len, 0, NULL);
	assert_string_equal(json_string_value(json_object_get(said, "state")), "offline");
}

static void a_hello_moves_the_nonce_and_answers_to_its_sender(void **state)
{
	struct csm *c = *state;

	assert_int_equal(session_connecting(c->s, NULL), 0);
	read_state(c);
	struct seal_nonce before = c->state.from;
	assert_int_equal(say(c, 1, "{\"op\":\"hello\"}"), SESSION_HELLO);
	read_state(c);
	assert_string_not_equal(before.s, c->state.from.s);
	assert_string_equal(c->state.to.s, c->nonce.s);
	assert_int_equal(session_number(c->s), 1);
}

static void requests_are_taken_in_rising_order_once(void **state)
{
	struct csm *c = *state;
	struct session_counters n;

	greet(c);
	assert_int_equal(say(c, 1, "{\"op\":\"put\"}"), SESSION_REQUEST);
	assert_int_equal(say(c, 2, "{\"op\":\"put\"}"), SESSION_REQUEST);
	assert_int_equal(say(c, 2, "{\"op\":\"put\"}"), SESSION_REPLAYED);
	assert_int_equal(say(c, 1, "{\"op\":\"put\"}"), SESSION_REPLAYED);
	assert_int_equal(say(c, 9, "{\"op\":\"put\"}"), SESSION_REQUEST);
	session_get_counters(c->s, &n);
	assert_int_equal(n.replayed, 2);
	assert_int_equal(n.forged, 0);
}

static void what_is_not_ours_changes_nothing(void **state)
{
	struct csm *c = *state;
	struct seal_nonce stranger = seal_nonce_new(), zeros = {ZEROS};
	static const char hello[] = "{\"op\":\"hello\"}", put[] = "{\"op\":\"put\"}";

	greet(c);
	const struct {
		const char *why;
		const struct seal_key *key;
		const char *topic;
		const struct seal_nonce *from, *to;
		uint64_t seq;
		const char *body;
		enum session_verdict verdict;
	} cases[] = {
		{"wrong key", &other_key, NULL, &c->nonce, &c->state.from, 5, put, SESSION_FORGED},
		{"hello with wrong key", &other_key, NULL, &c->nonce, &c->state.from, 5, hello,
		 SESSION_FORGED},
		{"sealed for another topic", &key, "iottalk/agent/a2/req", &c->nonce,
		 &c->state.from, 5, put, SESSION_FORGED},
		{"an answer of ours sent back", &key, session_res_topic(c->s), &c->nonce,
		 &c->state.from, 5, put, SESSION_FORGED},
		{"to another nonce", &key, NULL, &c->nonce, &stranger, 5, put, SESSION_REPLAYED},
		{"hello to another nonce", &key, NULL, &c->nonce, &stranger, 5, hello,
		 SESSION_REPLAYED},
		{"to everybody", &key, NULL, &c->nonce, &zeros, 5, put, SESSION_REPLAYED},
		{"hello to everybody", &key, NULL, &c->nonce, &zeros, 5, hello, SESSION_REPLAYED},
		{"from another csm", &key, NULL, &stranger, &c->state.from, 5, put,
		 SESSION_REPLAYED},
		{"no object", &key, NULL, &c->nonce, &c->state.from, 5, "[1]", SESSION_MALFORMED},
		{"no json", &key, NULL, &c->nonce, &c->state.from, 6, "{", SESSION_MALFORMED},
		{"no op", &key, NULL, &c->nonce, &c->state.from, 7, "{\"id\":1}",
		 SESSION_MALFORMED},
		{"op no string", &key, NULL, &c->nonce, &c->state.from, 8, "{\"op\":1}",
		 SESSION_MALFORMED},
		{"op twice", &key, NULL, &c->nonce, &c->state.from, 9,
		 "{\"op\":\"put\",\"op\":\"drop\"}", SESSION_MALFORMED},
	};
	size_t state_len;
	CLEANUP(freep)
	char *before = strdup(session_state(c->s, &state_len));
	uint64_t counted[3] = {0};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct sent sent = seal(c, cases[i].key, cases[i].topic, cases[i].from, cases[i].to,
					cases[i].seq, cases[i].body);
		enum session_verdict verdict = give(c, &sent);

		free(sent.msg);
		if (verdict != cases[i].verdict)
			fail_msg("%s: verdict %d", cases[i].why, verdict);
		counted[verdict - SESSION_FORGED]++;
	}
	assert_true(session_is_own_state(c->s, before, state_len));
	assert_int_equal(session_number(c->s), 1);
	struct session_counters n;
	session_get_counters(c->s, &n);
	assert_int_equal(n.forged, counted[0]);
	assert_int_equal(n.replayed, counted[1]);
	assert_int_equal(n.malformed, counted[2]);
	assert_int_equal(say(c, 10, put), SESSION_REQUEST);
}

static void a_changed_byte_anywhere_is_never_accepted(void **state)
{
	struct csm *c = *state;

	greet(c);
	struct sent sent = seal(c, &key, NULL, &c->nonce, &c->state.from, 7, "{\"op\":\"drop\"}");
	for (size_t i = 0; i < sent.len; i++) {
		sent.msg[i] ^= 0x01;
		enum session_verdict verdict = give(c, &sent);
		if (verdict == SESSION_REQUEST || verdict == SESSION_HELLO)
			fail_msg("byte %zu", i);
		sent.msg[i] ^= 0x01;
	}
	for (size_t cut = 0; cut < sent.len; cut++) {
		struct sent head = {sent.msg, cut};
		enum session_verdict verdict = give(c, &head);
		if (verdict == SESSION_REQUEST || verdict == SESSION_HELLO)
			fail_msg("cut at %zu", cut);
	}
	assert_int_equal(give(c, &sent), SESSION_REQUEST);
	free(sent.msg);
}

static void an_old_session_is_dead_after_the_next_hello(void **state)
{
	struct csm *c = *state;

	greet(c);
	struct sent old = seal(c, &key, NULL, &c->nonce, &c->state.from, 3, "{\"op\":\"drop\"}");
	struct sent hello = seal(c, &key, NULL, &c->nonce, &c->state.from, 4, "{\"op\":\"hello\"}");
	assert_int_equal(give(c, &hello), SESSION_HELLO);
	assert_int_equal(session_number(c->s), 2);
	assert_int_equal(give(c, &old), SESSION_REPLAYED);
	assert_int_equal(give(c, &hello), SESSION_REPLAYED);
	read_state(c);
	assert_int_equal(say(c, 1, "{\"op\":\"drop\"}"), SESSION_REQUEST);
	free(old.msg);
	free(hello.msg);
}

static void before_a_hello_nothing_is_accepted(void **state)
{
	struct csm *c = *state;
	char *msg;
	size_t len;
	json_auto_t *body = json_object();

	c->state.from = seal_nonce_new();
	assert_int_equal(say(c, 1, "{\"op\":\"hello\"}"),
			 SESSION_REPLAYED); /* not even connected */
	assert_int_equal(session_connecting(c->s, NULL), 0);
	read_state(c);
	assert_int_equal(say(c, 1, "{\"op\":\"put\"}"), SESSION_REPLAYED);
	assert_int_equal(session_seal(c->s, body, &msg, &len, NULL), ERR_PEER);
}

static void answers_are_numbered_and_for_csm(void **state)
{
	struct csm *c = *state;
	json_auto_t *body = json_pack("{s:s}", "op", "put");

	greet(c);
	for (uint64_t seq = 1; seq <= 3; seq++) {
		struct seal_head head;
		char *msg;
		const char *text;
		size_t len, text_len;

		assert_int_equal(session_seal(c->s, body, &msg, &len, NULL), 0);
		assert_int_equal(seal_open(&key, session_res_topic(c->s), msg, len, &head, &text,
					   &text_len, NULL),
				 0);
		assert_string_equal(head.from.s, c->state.from.s);
		assert_string_equal(head.to.s, c->nonce.s);
		assert_int_equal(head.seq, seq);
		free(msg);
	}
}

static void garbage_is_malformed(void **state)
{
	struct csm *c = *state;
	static const char *const garbage[] = {"", "\n", "IT1", "IT1 a b c d\n{}",
					      "{\"op\":\"hello\"}"};
	CLEANUP(freep)
	char *nest = malloc(50000);
	struct session_counters n;

	greet(c);
	for (size_t i = 0; i < ARRAY_LEN(garbage); i++) {
		struct sent sent = {(char *)garbage[i], strlen(garbage[i])};
		assert_int_equal(give(c, &sent), SESSION_MALFORMED);
	}
	assert_non_null(nest);
	memset(nest, '[', 49999);
	nest[49999] = '\0';
	assert_int_equal(say(c, 1, nest), SESSION_MALFORMED);
	session_get_counters(c->s, &n);
	assert_int_equal(n.malformed, ARRAY_LEN(garbage) + 1);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_that_could_be_topics_are_refused),
		TEST(every_connection_has_new_nonces),
		TEST(the_will_comes_from_the_nonce_the_state_names),
		TEST(a_hello_moves_the_nonce_and_answers_to_its_sender),
		TEST(requests_are_taken_in_rising_order_once),
		TEST(what_is_not_ours_changes_nothing),
		TEST(a_changed_byte_anywhere_is_never_accepted),
		TEST(an_old_session_is_dead_after_the_next_hello),
		TEST(before_a_hello_nothing_is_accepted),
		TEST(answers_are_numbered_and_for_csm),
		TEST(garbage_is_malformed),
	};

	return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
