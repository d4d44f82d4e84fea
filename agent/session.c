#include "agent/session.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define TOPIC_MAX 128

static const char nobody[] = "00000000000000000000000000000000"; /* `to` of what is for everybody */

struct text {
	char *s; /* owned */
	size_t len;
};

struct session {
	struct seal_key key;
	char *version;
	char state_topic[TOPIC_MAX], req_topic[TOPIC_MAX], res_topic[TOPIC_MAX];
	struct seal_nonce self, will_nonce;
	struct seal_nonce peer;    /* valid while number != 0 */
	uint64_t number, sessions; /* the one that stands; how many there were */
	uint64_t seen_seq, sent_seq;
	struct text state, will;
	struct session_counters counters;
};

bool agent_id_valid(const char *id)
{
	size_t n = strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

	return n >= 1 && n <= AGENT_ID_MAX && id[n] == '\0';
}

int session_new(const struct seal_key *key, const char *agent_id, const char *version,
		struct session **ret, struct err *err)
{
	if (!agent_id_valid(agent_id))
		return err_set(err, ERR_INVAL,
			       "agent id '%.100s' is not 1 to 64 characters of A-Z a-z 0-9 . _ -",
			       agent_id);

	struct session *s = calloc(1, sizeof(*s));
	if (s == NULL || (s->version = strdup(version)) == NULL) {
		session_free(s);
		return err_set(err, ERR_NOMEM, "session");
	}
	s->key = *key;
	snprintf(s->state_topic, TOPIC_MAX, "iottalk/agent/%s/state", agent_id);
	snprintf(s->req_topic, TOPIC_MAX, "iottalk/agent/%s/req", agent_id);
	snprintf(s->res_topic, TOPIC_MAX, "iottalk/agent/%s/res", agent_id);
	*ret = s;
	return 0;
}

struct session *session_free(struct session *s)
{
	if (s == NULL)
		return NULL;
	free(s->version);
	free(s->state.s);
	free(s->will.s);
	explicit_bzero(&s->key, sizeof(s->key));
	free(s);
	return NULL;
}

const char *session_state_topic(const struct session *s)
{
	return s->state_topic;
}

const char *session_req_topic(const struct session *s)
{
	return s->req_topic;
}

const char *session_res_topic(const struct session *s)
{
	return s->res_topic;
}

/* Seal body as the first message of `from` on the state topic. */
static int make_state(const struct session *s, const struct seal_nonce *from, const char *to,
		      json_t *body, struct text *ret, struct err *err)
{
	struct seal_head head = {.from = *from, .seq = 1};
	CLEANUP(freep)
	char *text = json_dumps(body, JSON_COMPACT);

	if (text == NULL)
		return err_set(err, ERR_NOMEM, "state message");
	memcpy(head.to.s, to, SEAL_NONCE_LEN + 1);
	return seal_make(&s->key, s->state_topic, &head, text, strlen(text), &ret->s, &ret->len,
			 err);
}

static int make_online(const struct session *s, const struct seal_nonce *self,
		       const struct seal_nonce *will, const char *to, struct text *ret,
		       struct err *err)
{
	json_auto_t *body = json_pack("{s:s, s:s, s:s}", "state", "online", "will", will->s,
				      "version", s->version);

	return make_state(s, self, to, body, ret, err);
}

static void put_text(struct text *where, struct text *what)
{
	free(where->s);
	*where = *what;
	*what = (struct text){0};
}

int session_connecting(struct session *s, struct err *err)
{
	struct seal_nonce self = seal_nonce_new(), will_nonce = seal_nonce_new();
	struct text state = {0}, will = {0};
	json_auto_t *offline = json_pack("{s:s}", "state", "offline");

	int rc = make_state(s, &will_nonce, nobody, offline, &will, err);
	if (rc == 0)
		rc = make_online(s, &self, &will_nonce, nobody, &state, err);
	if (rc < 0) {
		free(will.s);
		return rc;
	}
	put_text(&s->state, &state);
	put_text(&s->will, &will);
	s->self = self;
	s->will_nonce = will_nonce;
	s->number = 0;
	return 0;
}

const char *session_state(const struct session *s, size_t *ret_len)
{
	*ret_len = s->state.len;
	return s->state.s;
}

const char *session_will(const struct session *s, size_t *ret_len)
{
	*ret_len = s->will.len;
	return s->will.s;
}

bool session_is_own_state(const struct session *s, const char *msg, size_t len)
{
	return s->state.s != NULL && s->state.len == len && memcmp(s->state.s, msg, len) == 0;
}

static bool same(const struct seal_nonce *a, const struct seal_nonce *b)
{
	return memcmp(a->s, b->s, SEAL_NONCE_LEN) == 0;
}

/* Our nonce moves with every hello, so whatever was sent to the old one is dead. */
static enum session_verdict begin(struct session *s, const struct seal_nonce *peer)
{
	struct seal_nonce self = seal_nonce_new();
	struct text state = {0};

	if (make_online(s, &self, &s->will_nonce, peer->s, &state, NULL) < 0)
		return SESSION_MALFORMED;
	put_text(&s->state, &state);
	s->self = self;
	s->peer = *peer;
	s->number = ++s->sessions;
	s->seen_seq = s->sent_seq = 0;
	return SESSION_HELLO;
}

static enum session_verdict judge(struct session *s, const char *msg, size_t len, json_t **ret_body)
{
	struct seal_head head;
	const char *text;
	size_t text_len;

	int rc = seal_open(&s->key, s->req_topic, msg, len, &head, &text, &text_len, NULL);
	if (rc == ERR_ACCES)
		return SESSION_FORGED;
	if (rc < 0)
		return SESSION_MALFORMED;
	if (s->state.s == NULL || !same(&head.to, &s->self))
		return SESSION_REPLAYED;

	bool from_peer = s->number != 0 && same(&head.from, &s->peer);
	if (from_peer) {
		if (head.seq <= s->seen_seq)
			return SESSION_REPLAYED;
		s->seen_seq = head.seq;
	}

	json_auto_t *body = json_loadb(text, text_len, JSON_REJECT_DUPLICATES, NULL);
	const char *op = json_string_value(json_object_get(body, "op"));
	if (op == NULL)
		return SESSION_MALFORMED;
	if (strcmp(op, "hello") == 0)
		return begin(s, &head.from);
	if (!from_peer)
		return SESSION_REPLAYED;
	*ret_body = TAKE(body);
	return SESSION_REQUEST;
}

enum session_verdict session_accept(struct session *s, const char *msg, size_t len,
				    json_t **ret_body)
{
	enum session_verdict verdict = judge(s, msg, len, ret_body);

	switch (verdict) {
	case SESSION_REQUEST:
	case SESSION_HELLO:
		break;
	case SESSION_FORGED:
		s->counters.forged++;
		break;
	case SESSION_REPLAYED:
		s->counters.replayed++;
		break;
	case SESSION_MALFORMED:
		s->counters.malformed++;
		break;
	}
	return verdict;
}

void session_count_malformed(struct session *s)
{
	s->counters.malformed++;
}

uint64_t session_number(const struct session *s)
{
	return s->number;
}

int session_seal(struct session *s, const json_t *body, char **ret_msg, size_t *ret_len,
		 struct err *err)
{
	if (s->number == 0)
		return err_set(err, ERR_PEER, "no session with csm");

	struct seal_head head = {.from = s->self, .to = s->peer, .seq = s->sent_seq + 1};
	CLEANUP(freep)
	char *text = json_dumps(body, JSON_COMPACT);
	if (text == NULL)
		return err_set(err, ERR_NOMEM, "message to csm");
	int rc = seal_make(&s->key, s->res_topic, &head, text, strlen(text), ret_msg, ret_len, err);
	if (rc == 0)
		s->sent_seq++;
	return rc;
}

void session_get_counters(const struct session *s, struct session_counters *ret)
{
	*ret = s->counters;
}
