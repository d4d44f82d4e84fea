#include "common/trace.h"

#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define RANDOM_BYTES 6
#define MORE_ROOM    12 /* "+4294967295" and the NUL */

#define ID_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-"

bool trace_valid(const char *text)
{
	size_t len = strlen(text);
	return len > 0 && len <= TRACE_MAX && strspn(text, ID_CHARACTERS) == len;
}

struct trace_text trace_of(const char *given)
{
	struct trace_text t = {""};
	uint8_t random[RANDOM_BYTES];
	if (given != NULL && trace_valid(given)) {
		memcpy(t.s, given, strlen(given));
		return t;
	}
	randombytes_buf(random, sizeof(random));
	sodium_bin2hex(t.s, sizeof(t.s), random, sizeof(random));
	return t;
}

void traces_add(struct traces *t, const char *id)
{
	size_t len = strcspn(t->s, "+");
	if (t->more == 0 && len + 1 + strlen(id) + MORE_ROOM <= sizeof(t->s)) {
		snprintf(t->s + len, sizeof(t->s) - len, "%s%s", len > 0 ? "," : "", id);
		return;
	}
	snprintf(t->s + len, sizeof(t->s) - len, "+%u", ++t->more);
}

struct traces traces_parse(const char *text)
{
	struct traces t = {.s = ""};
	size_t len = text != NULL ? strlen(text) : 0;
	if (len > 0 && len < sizeof(t.s) && strspn(text, ID_CHARACTERS ",+") == len)
		memcpy(t.s, text, len);
	return t;
}
