#include "common/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Drop the bytes of a UTF-8 character that the end of the buffer cut through. */
static void trim_partial_utf8(char *text)
{
	size_t len = strlen(text), back = 0;
	while (back < 3 && back < len && ((unsigned char)text[len - 1 - back] & 0xc0) == 0x80)
		back++;
	if (back >= len)
		return;
	unsigned char lead = (unsigned char)text[len - 1 - back];
	size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
	if (want > back + 1)
		text[len - 1 - back] = '\0';
}

/* Length of the UTF-8 character (RFC 3629) that text begins with; 0: it is none. */
static size_t character(const unsigned char *text)
{
	unsigned char lead = text[0], low = 0x80, high = 0xbf;
	size_t len = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
	if (lead == 0xe0)
		low = 0xa0; /* else it would be shorter */
	else if (lead == 0xed)
		high = 0x9f; /* surrogates */
	else if (lead == 0xf0)
		low = 0x90;
	else if (lead == 0xf4)
		high = 0x8f; /* beyond U+10FFFF */
	for (size_t i = 1; i < len; i++, low = 0x80, high = 0xbf)
		if (text[i] < low || text[i] > high)
			return 0;
	return len;
}

/* A text may quote what somebody sent; it is told as JSON all the same. */
static void replace_bad_utf8(char *text)
{
	while (*text != '\0') {
		size_t len = character((const unsigned char *)text);
		if (len == 0)
			*text = '?';
		text += len > 0 ? len : 1;
	}
}

/* vsnprintf() that leaves nothing but whole characters. ret: what vsnprintf() says. */
static int print(char *buf, size_t size, const char *fmt, va_list ap)
{
	int n = vsnprintf(buf, size, fmt, ap);
	if (n >= (int)size)
		trim_partial_utf8(buf);
	if (n > 0)
		replace_bad_utf8(buf);
	return n;
}

static int fill(struct err *e, int code, const char *fmt, va_list ap)
{
	if (e == NULL)
		return code;
	e->code = code;
	if (print(e->text, sizeof(e->text), fmt, ap) <= 0)
		snprintf(e->text, sizeof(e->text), "%s", err_name(code));
	if (code == ERR_NOMEM && strstr(e->text, "out of memory") == NULL) {
		size_t len = strlen(e->text);
		snprintf(e->text + len, sizeof(e->text) - len, ": out of memory");
	}
	return code;
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int rc = fill(e, code, fmt, ap);
	va_end(ap);
	return rc;
}

int err_sys(struct err *e, const char *fmt, ...)
{
	int saved = errno;
	char what[512];
	va_list ap;
	va_start(ap, fmt);
	print(what, sizeof(what), fmt, ap);
	va_end(ap);
	switch (saved) {
	case ENOMEM:
	case EINVAL:
	case ENOENT:
	case EEXIST:
	case EACCES:
	case EAGAIN:
	case EBUSY:
		return err_set(e, -saved, "%s: %s", what, strerror(saved));
	default:
		return err_set(e, ERR_SYS, "%s: %s", what, strerror(saved));
	}
}

int err_wrap(struct err *e, int code, const char *fmt, ...)
{
	if (e == NULL)
		return code;
	char front[512], old[sizeof(e->text)];
	va_list ap;
	va_start(ap, fmt);
	print(front, sizeof(front), fmt, ap);
	va_end(ap);
	memcpy(old, e->text, sizeof(old));
	return err_set(e, code, "%s: %.*s", front, (int)sizeof(old) - 1, old);
}

const char *err_name(int code)
{
	/* no default: a new code without a name is a warning */
	switch ((enum err_code)code) {
	case ERR_NONE:
		return "OK";
	case ERR_NOMEM:
		return "NOMEM";
	case ERR_INVAL:
		return "INVAL";
	case ERR_NOENT:
		return "NOENT";
	case ERR_EXIST:
		return "EXIST";
	case ERR_ACCES:
		return "ACCES";
	case ERR_AGAIN:
		return "AGAIN";
	case ERR_BUSY:
		return "BUSY";
	case ERR_RANGE:
		return "RANGE";
	case ERR_TIMEOUT:
		return "TIMEOUT";
	case ERR_PARSE:
		return "PARSE";
	case ERR_SCHEMA:
		return "SCHEMA";
	case ERR_DB:
		return "DB";
	case ERR_BUS:
		return "BUS";
	case ERR_PEER:
		return "PEER";
	case ERR_SYS:
		return "SYS";
	case ERR_LIMIT:
		return "LIMIT";
	case ERR_CONFLICT:
		return "CONFLICT";
	}
	return "UNKNOWN";
}
