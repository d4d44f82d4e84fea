/* fuzz: common */
/* Sealed messages: nobody without the key gets one opened, and what was sealed always opens. The
 * first byte chooses. */
#include "common/seal.h"
#include "common/util.h"
#include <assert.h>
#include <string.h>

#define TOPIC "iottalk/agent/fuzz/req"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct seal_key key = {.bytes = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5}};

static void open_anything(const char *msg, size_t len)
{
	struct seal_head head;
	struct err err = {0};
	const char *body;
	size_t body_len;
	int rc = seal_open(&key, TOPIC, msg, len, &head, &body, &body_len, &err);
	assert(rc == ERR_PARSE || rc == ERR_ACCES);
	assert(err.code == rc && err.text[0] != '\0');
}

static void seal_and_open(const char *body, size_t len)
{
	struct seal_head head = {.from = seal_nonce_new(), .to = seal_nonce_new(), .seq = len}, got;
	CLEANUP(freep)
	char *msg = NULL;
	const char *opened;
	size_t msg_len, opened_len;
	if (seal_make(&key, TOPIC, &head, body, len, &msg, &msg_len, NULL) < 0)
		return;
	int rc = seal_open(&key, TOPIC, msg, msg_len, &got, &opened, &opened_len, NULL);
	assert(rc == 0 && opened_len == len && got.seq == head.seq);
	assert(memcmp(opened, body, len) == 0 && strcmp(got.from.s, head.from.s) == 0);
	/* one flipped bit anywhere in the body, and it does not */
	if (len > 0) {
		msg[msg_len - 1 - (size_t)(unsigned char)body[0] % len] ^= 0x10;
		assert(seal_open(&key, TOPIC, msg, msg_len, &got, &opened, &opened_len, NULL) ==
		       ERR_ACCES);
	}
}

/* A message that is right but for what the fuzzer puts into its head. */
static void open_damaged(const char *patch, size_t len)
{
	struct seal_head head = {.from = seal_nonce_new(), .to = seal_nonce_new(), .seq = 7}, got;
	CLEANUP(freep)
	char *msg = NULL;
	const char *body;
	size_t msg_len, body_len;
	if (len < 2 || seal_make(&key, TOPIC, &head, "{}", 2, &msg, &msg_len, NULL) < 0)
		return;
	size_t at = (unsigned char)patch[0] % msg_len, n = len - 1;
	if (n > msg_len - at)
		n = msg_len - at;
	memcpy(msg + at, patch + 1, n);
	int rc = seal_open(&key, TOPIC, msg, msg_len, &got, &body, &body_len, NULL);
	assert(rc == ERR_PARSE || rc == ERR_ACCES ||
	       (rc == 0 && got.seq == head.seq && strcmp(got.from.s, head.from.s) == 0 &&
		strcmp(got.to.s, head.to.s) == 0 && body_len == 2 && memcmp(body, "{}", 2) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const ways[])(const char *, size_t) = {open_anything, seal_and_open,
							     open_damaged};
	if (size == 0)
		return 0;
	/* a buffer of exactly this size, so that reading past it is seen */
	CLEANUP(freep)
	char *copy = malloc(size - 1 + (size == 1));
	if (copy == NULL)
		return 0;
	memcpy(copy, data + 1, size - 1);
	ways[data[0] % ARRAY_LEN(ways)](copy, size - 1);
	return 0;
}
