#include "csm/agent_session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define NOBODY "00000000000000000000000000000000"

struct world {
	struct agent_session s;
	struct seal_nonce csm, agent, will, zero;
};

static int setup(void **state)
{
	static struct world w;
	w.agent = seal_nonce_new();
	w.will = seal_nonce_new();
	w.zero = (struct seal_nonce){NOBODY};
	agent_session_init(&w.s);
	w.csm = w.s.challenge;
	*state = &w;
	return 0;
}

static enum agent_state_result say(struct world *w, const char *state, const struct seal_nonce *from,
				   const struct seal_nonce *to, struct seal_head *ret_hello)
{
	struct seal_head head = {.from = *from, .to = *to, .seq = 1}, hello;
	const char *reason;
	json_auto_t *body = json_pack("{s:s, s:s}", "state", state, "will", w->will.s);
	return agent_session_state(&w->s, &head, body, ret_hello != NULL ? ret_hello : &hello, &reason);
}

/* What an honest agent does: says hello, is asked, answers with a new nonce. */
static void begin(struct world *w)
{
	struct seal_head hello;
	assert_int_equal(say(w, "online", &w->agent, &w->zero, &hello), AGENT_STATE_HELLO);
	w->csm = hello.from;
	assert_string_equal(hello.to.s, w->agent.s);
	w->agent = seal_nonce_new();
	assert_int_equal(say(w, "online", &w->agent, &w->csm, NULL), AGENT_STATE_UP);
	assert_true(w->s.up);
}

static bool answer(struct world *w, const struct seal_nonce *from, const struct seal_nonce *to,
		   uint64_t seq)
{
	struct seal_head head = {.from = *from, .to = *to, .seq = seq};
	return agent_session_accept(&w->s, &head);
}

static void a_state_alone_proves_nothing(void **state)
{
	struct world *w = *state;
	assert_int_equal(say(w, "online", &w->agent, &w->zero, NULL), AGENT_STATE_HELLO);
	assert_false(w->s.up);
	assert_false(answer(w, &w->agent, &w->csm, 1));
}

static void a_session_takes_each_answer_once_and_in_order(void **state)
{
	struct world *w = *state;
	begin(w);
	assert_true(answer(w, &w->agent, &w->csm, 1));
	assert_false(answer(w, &w->agent, &w->csm, 1));
	assert_true(answer(w, &w->agent, &w->csm, 5));
	assert_false(answer(w, &w->agent, &w->csm, 4));
	assert_false(answer(w, &w->will, &w->csm, 9));
	assert_false(answer(w, &w->agent, &w->zero, 9));
}

static void old_states_are_dropped_and_the_session_goes_on(void **state)
{
	struct world *w = *state;
	struct seal_nonce first = w->agent;
	begin(w);
	assert_int_equal(say(w, "online", &first, &w->zero, NULL), AGENT_STATE_DROP);
	assert_int_equal(say(w, "online", &w->agent, &w->csm, NULL), AGENT_STATE_SAME);
	assert_true(w->s.up);
	assert_true(answer(w, &w->agent, &w->csm, 1));
	/* the second hello-answer of an earlier session, played again in this one */
	struct seal_nonce second = w->agent;
	w->agent = seal_nonce_new();
	begin(w);
	assert_int_equal(say(w, "online", &second, &w->csm, NULL), AGENT_STATE_DROP);
	assert_true(answer(w, &w->agent, &w->csm, 1));
}

static void no_answer_of_an_earlier_session_begins_one(void **state)
{
	struct world *w = *state;
	struct {
		struct seal_nonce from, to;
	} heard[2 * AGENT_NONCES];
	for (size_t i = 0; i < 2 * AGENT_NONCES; i++) {
		w->agent = seal_nonce_new();
		begin(w);
		heard[i].from = w->agent;
		heard[i].to = w->csm;
	}
	for (size_t i = 0; i + 1 < 2 * AGENT_NONCES; i++)
		assert_int_not_equal(say(w, "online", &heard[i].from, &heard[i].to, NULL),
				     AGENT_STATE_UP);
	assert_true(w->s.up);
	assert_true(answer(w, &w->agent, &w->csm, 1));
	assert_int_equal(say(w, "online", &w->agent, &w->csm, NULL), AGENT_STATE_SAME);
}

static void only_the_will_of_the_session_ends_it(void **state)
{
	struct world *w = *state;
	begin(w);
	struct seal_nonce other = seal_nonce_new();
	assert_int_equal(say(w, "offline", &other, &w->zero, NULL), AGENT_STATE_DROP);
	assert_int_equal(say(w, "offline", &w->agent, &w->zero, NULL), AGENT_STATE_DROP);
	assert_true(w->s.up);
	assert_int_equal(say(w, "offline", &w->will, &w->zero, NULL), AGENT_STATE_DOWN);
	assert_false(w->s.up);
	assert_false(answer(w, &w->agent, &w->csm, 7));
	assert_int_equal(say(w, "offline", &w->will, &w->zero, NULL), AGENT_STATE_DROP);
}

static void an_agent_that_missed_the_hello_is_asked_again(void **state)
{
	struct world *w = *state;
	assert_int_equal(say(w, "online", &w->agent, &w->zero, NULL), AGENT_STATE_HELLO);
	assert_int_equal(say(w, "online", &w->agent, &w->zero, NULL), AGENT_STATE_HELLO);
}

/* Its broker was killed, so nobody said that the old session is over; our hello was lost with our own connection. */
static void an_agent_that_missed_the_hello_is_asked_again_beside_an_old_session(void **state)
{
	struct world *w = *state;
	struct seal_head hello;
	begin(w);
	struct seal_nonce asked = w->agent = seal_nonce_new();
	for (int i = 0; i < 3; i++)
		assert_int_equal(say(w, "online", &asked, &w->zero, &hello), AGENT_STATE_HELLO);
	w->agent = seal_nonce_new();
	assert_int_equal(say(w, "online", &w->agent, &hello.from, NULL), AGENT_STATE_UP);
	/* it has answered: now it is a replay */
	assert_int_equal(say(w, "online", &asked, &w->zero, NULL), AGENT_STATE_DROP);
}

static void a_state_without_a_will_is_refused(void **state)
{
	struct world *w = *state;
	struct seal_head head = {.from = w->agent, .to = w->zero, .seq = 1}, hello;
	const char *reason;
	json_auto_t *body = json_pack("{s:s}", "state", "online");
	assert_int_equal(agent_session_state(&w->s, &head, body, &hello, &reason), AGENT_STATE_DROP);
	assert_string_equal(reason, "malformed");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_state_alone_proves_nothing, setup),
		cmocka_unit_test_setup(a_session_takes_each_answer_once_and_in_order, setup),
		cmocka_unit_test_setup(old_states_are_dropped_and_the_session_goes_on, setup),
		cmocka_unit_test_setup(no_answer_of_an_earlier_session_begins_one, setup),
		cmocka_unit_test_setup(only_the_will_of_the_session_ends_it, setup),
		cmocka_unit_test_setup(an_agent_that_missed_the_hello_is_asked_again, setup),
		cmocka_unit_test_setup(an_agent_that_missed_the_hello_is_asked_again_beside_an_old_session, setup),
		cmocka_unit_test_setup(a_state_without_a_will_is_refused, setup),
	};
	return cmocka_run_group_tests_name("agent_session", tests, NULL, NULL);
}
