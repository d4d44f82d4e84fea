#include "csm/beacon_wire.h"

#include "common/err.h"
#include "common/util.h"
#include <sodium.h>
#include <string.h>

#define HEAD_BYTES (3 + BEACON_ID_BYTES + 1) /* "IT ", the sender, a space */
#define VERB_BYTES 4
#define END_BYTES  2

static const struct {
	char word[VERB_BYTES + 1];
	bool may_have_to, must_have_to;
} verbs[] = {
	[BEACON_HELO] = {"HELO", false, false},
	[BEACON_PING] = {"PING", true, false},
	[BEACON_PONG] = {"PONG", true, true},
};

int beacon_parse(const uint8_t *data, size_t len, struct beacon_datagram *ret)
{
	size_t plain = HEAD_BYTES + VERB_BYTES + END_BYTES, with_to = plain + 1 + BEACON_ID_BYTES, verb = 0;
	if ((len != plain && len != with_to) || memcmp(data, "IT ", 3) != 0 || data[HEAD_BYTES - 1] != ' ' ||
	    memcmp(data + len - END_BYTES, "\r\n", END_BYTES) != 0)
		return ERR_PARSE;
	while (verb < ARRAY_LEN(verbs) && memcmp(data + HEAD_BYTES, verbs[verb].word, VERB_BYTES) != 0)
		verb++;
	bool has_to = len == with_to;
	if (verb == ARRAY_LEN(verbs) || (has_to && !verbs[verb].may_have_to) || (!has_to && verbs[verb].must_have_to) ||
	    (has_to && data[HEAD_BYTES + VERB_BYTES] != ' '))
		return ERR_PARSE;
	*ret = (struct beacon_datagram){.verb = (enum beacon_verb)verb, .has_to = has_to};
	memcpy(ret->from, data + 3, BEACON_ID_BYTES);
	if (has_to)
		memcpy(ret->to, data + HEAD_BYTES + VERB_BYTES + 1, BEACON_ID_BYTES);
	return 0;
}

static uint8_t *put(uint8_t *at, const void *bytes, size_t n)
{
	memcpy(at, bytes, n);
	return at + n;
}

size_t beacon_format(const struct beacon_datagram *d, uint8_t ret_data[BEACON_BYTES_MAX])
{
	uint8_t *at = put(ret_data, "IT ", 3);
	at = put(at, d->from, BEACON_ID_BYTES);
	at = put(at, " ", 1);
	at = put(at, verbs[d->verb].word, VERB_BYTES);
	if (d->has_to) {
		at = put(at, " ", 1);
		at = put(at, d->to, BEACON_ID_BYTES);
	}
	at = put(at, "\r\n", END_BYTES);
	return (size_t)(at - ret_data);
}

int beacon_id(const char *uuid, uint8_t ret_id[BEACON_ID_BYTES])
{
	size_t n;
	return sodium_hex2bin(ret_id, BEACON_ID_BYTES, uuid, strlen(uuid), "-", &n, NULL) == 0 && n == BEACON_ID_BYTES
		       ? 0
		       : ERR_PARSE;
}
