#include "csm/agent_session.h"

#include <string.h>

static bool same(const struct seal_nonce *a, const struct seal_nonce *b)
{
	return strcmp(a->s, b->s) == 0;
}

void agent_session_init(struct agent_session *s)
{
	*s = (struct agent_session){.challenge = seal_nonce_new()};
}

static bool seen(const struct agent_session *s, const struct seal_nonce *n)
{
	unsigned known = s->n_seen < AGENT_NONCES ? s->n_seen : AGENT_NONCES;
	for (unsigned i = 0; i < known; i++)
		if (same(&s->seen[i], n))
			return true;
	return false;
}

static void remember(struct agent_session *s, const struct seal_nonce *n)
{
	s->seen[s->n_seen++ % AGENT_NONCES] = *n;
}

static const char *text(const json_t *body, const char *key)
{
	const char *value = json_string_value(json_object_get(body, key));
	return value != NULL ? value : "";
}

enum agent_state_result agent_session_state(struct agent_session *s, const struct seal_head *head,
					    const json_t *body, struct seal_head *ret_hello,
					    const char **ret_reason)
{
	const char *state = text(body, "state"), *will = text(body, "will");
	*ret_reason = "replayed";
	if (strcmp(state, "offline") == 0) {
		if (!s->up || !same(&head->from, &s->will))
			return AGENT_STATE_DROP;
		s->up = false;
		return AGENT_STATE_DOWN;
	}
	if (strcmp(state, "online") != 0 || strlen(will) != SEAL_NONCE_LEN) {
		*ret_reason = "malformed";
		return AGENT_STATE_DROP;
	}
	if (s->up && same(&head->from, &s->theirs))
		return AGENT_STATE_SAME; /* the retained message of this very session */
	if (!same(&head->to, &s->challenge)) {
		/* who is it? It may be an old message: only an answer to a challenge that was never answered yet proves that
		 * somebody is there. */
		/* Asked again if it comes again before it has answered: what we asked may have been lost with our connection,
		 * also while a session stands that nobody told us has ended. */
		bool asked_before = same(&head->from, &s->asked);
		if (seen(s, &head->from) && !asked_before)
			return AGENT_STATE_DROP;
		if (!asked_before)
			remember(s, &head->from);
		s->asked = head->from;
		*ret_hello = (struct seal_head){.from = s->challenge, .to = head->from, .seq = 1};
		return AGENT_STATE_HELLO;
	}
	s->asked = (struct seal_nonce){""};
	s->ours = s->challenge;
	s->challenge = seal_nonce_new();
	remember(s, &head->from);
	s->theirs = head->from;
	memcpy(s->will.s, will, sizeof(s->will.s));
	s->seq_in = s->seq_out = 0; /* answers are counted apart from states */
	s->up = true;
	return AGENT_STATE_UP;
}

bool agent_session_accept(struct agent_session *s, const struct seal_head *head)
{
	if (!s->up || !same(&head->from, &s->theirs) || !same(&head->to, &s->ours) ||
	    head->seq <= s->seq_in)
		return false;
	s->seq_in = head->seq;
	return true;
}

struct seal_head agent_session_next(struct agent_session *s)
{
	return (struct seal_head){.from = s->ours, .to = s->theirs, .seq = ++s->seq_out};
}
