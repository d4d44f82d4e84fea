#include "agent/device/event.h"
#include "common/shortage.h"
#include "common/util.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- characters ---- */

/* The bytes of the UTF-8 character at s, and the character; 0: none. Ends at NUL by itself. */
static size_t utf8_next(const unsigned char *s, uint32_t *ret)
{
	static const struct {
		unsigned char mask, lead;
		uint32_t least;
	} forms[] = {
		{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};

	for (size_t n = 0; n < ARRAY_LEN(forms); n++) {
		if ((s[0] & forms[n].mask) != forms[n].lead)
			continue;
		uint32_t c = n == 0 ? s[0] : s[0] & (unsigned char)~forms[n].mask;

		for (size_t i = 1; i <= n; i++) {
			if ((s[i] & 0xc0) != 0x80)
				return 0;
			c = c << 6 | (s[i] & 0x3f);
		}
		bool is_char = c >= forms[n].least && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
		*ret = c;
		return is_char ? n + 1 : 0;
	}
	return 0;
}

/* Control characters, and those that are none for ever: brokers end the connection for both. */
static bool is_forbidden(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c <= 0x9f) || (c >= 0xfdd0 && c <= 0xfdef) ||
	       (c & 0xfffe) == 0xfffe;
}

static bool must_encode(uint32_t c, bool first)
{
	if (is_forbidden(c) || (c == '$' && first))
		return true;
	return c == '/' || c == '+' || c == '#' || c == '%';
}

/* ---- topics ---- */

/* ret: the bytes of the segment in a topic, written to buf unless it is NULL; 0: it has no place
 * there. */
static size_t encode(const char *segment, char *buf)
{
	static const char digits[] = "0123456789ABCDEF";
	const unsigned char *s = (const unsigned char *)segment;
	size_t len = 0, n;
	uint32_t c;

	for (size_t at = 0; s[at] != '\0'; at += n) {
		n = utf8_next(s + at, &c);
		if (n == 0)
			return 0;
		bool coded = must_encode(c, at == 0);

		for (size_t i = at; i < at + n && buf != NULL; i++) {
			if (coded)
				*buf++ = '%';
			if (coded)
				*buf++ = digits[s[i] >> 4];
			*buf++ = coded ? digits[s[i] & 15] : (char)s[i];
		}
		len += coded ? 3 * n : n;
	}
	return len;
}

int event_topic(const char *const *segments, size_t n, char **ret, struct err *err)
{
	size_t len = 0;

	if (n == 0)
		return err_set(err, ERR_INVAL, "a topic without segments");
	for (size_t i = 0; i < n; i++) {
		size_t more = encode(segments[i], NULL);

		if (more == 0)
			return err_set(err, ERR_INVAL, "segment %zu of a topic is %s", i + 1,
				       segments[i][0] == '\0' ? "empty" : "not UTF-8");
		len += more + 1;
	}
	char *topic = malloc(len);

	if (topic == NULL)
		return err_set(err, ERR_NOMEM, "topic");
	char *at = topic;

	for (size_t i = 0; i < n; i++) {
		at += encode(segments[i], at);
		*at++ = i + 1 < n ? '/' : '\0';
	}
	*ret = topic;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place. */
static int decode(char *segment, struct err *err)
{
	char *to = segment;
	uint32_t c;

	if (segment[0] == '\0')
		return err_set(err, ERR_PARSE, "an empty segment");
	for (const char *from = segment; *from != '\0';) {
		if (*from != '%') {
			*to++ = *from++;
			continue;
		}
		int high = hex_digit(from[1]), low = high < 0 ? -1 : hex_digit(from[2]);

		if (low < 0 || (high == 0 && low == 0))
			return err_set(err, ERR_PARSE, "a bad percent code");
		*to++ = (char)(high << 4 | low);
		from += 3;
	}
	*to = '\0';
	for (const unsigned char *s = (const unsigned char *)segment; *s != '\0';) {
		size_t n = utf8_next(s, &c);

		if (n == 0)
			return err_set(err, ERR_PARSE, "a segment that is not UTF-8");
		s += n;
	}
	return 0;
}

int event_path_parse(const char *topic, struct event_path *ret, struct err *err)
{
	struct event_path p = {.text = strdup(topic)};
	char *rest = p.text, *segment;
	int rc = 0;

	if (p.text == NULL)
		return err_set(err, ERR_NOMEM, "topic");
	while (rc == 0 && (segment = strsep(&rest, "/")) != NULL) {
		if (p.n == EVENT_SEGMENTS_MAX) {
			rc = err_set(err, ERR_LIMIT, "more than %d segments", EVENT_SEGMENTS_MAX);
			break;
		}
		rc = decode(segment, err);
		p.segments[p.n++] = segment;
	}
	if (rc < 0)
		event_path_done(&p);
	else
		*ret = p;
	return rc;
}

void event_path_done(struct event_path *p)
{
	free(p->text);
	*p = (struct event_path){0};
}

bool event_is_state(const char *const *path, size_t n)
{
	if (n == 1)
		return strcmp(path[0], "enable") == 0;
	if (n >= 2 && strcmp(path[0], "data") == 0)
		return true;
	return n == 3 && strcmp(path[0], "remote_device") == 0 && strcmp(path[2], "enable") == 0;
}

bool event_segment_number(const char *segment, uint64_t max, uint64_t *ret)
{
	uint64_t n = 0;

	if (segment[0] == '\0' || (segment[0] == '0' && segment[1] != '\0'))
		return false;
	for (const char *s = segment; *s != '\0'; s++) {
		unsigned digit = (unsigned)(*s - '0');

		if (*s < '0' || *s > '9' || n > (UINT64_MAX - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	if (n > max)
		return false;
	*ret = n;
	return true;
}

/* ---- bodies ---- */

char *event_body_text(int64_t timestamp_us, const int64_t *source_us, const char *payload)
{
	char source[24] = "null";
	char *text = NULL;

	if (source_us != NULL)
		snprintf(source, sizeof(source), "%" PRId64, *source_us);
	int rc = asprintf(&text,
			  "{\"timestamp\":%" PRId64 ",\"source_timestamp\":%s,\"payload\":%s}",
			  timestamp_us, source, payload);
	return rc < 0 ? NULL : text;
}

char *event_body(int64_t timestamp_us, const int64_t *source_us, json_t *payload)
{
	CLEANUP(freep)
	char *text = shortage_dumps(payload);

	return text != NULL ? event_body_text(timestamp_us, source_us, text) : NULL;
}

/* A time of an envelope. ret: whether there is one; ERR_SCHEMA. */
static int find_time(const json_t *body, const char *key, int64_t *ret, struct err *err)
{
	const json_t *time = json_object_get(body, key);

	if (time == NULL || json_is_null(time))
		return 0;
	if (!json_is_integer(time))
		return err_set(err, ERR_SCHEMA, "%s is no integer", key);
	*ret = json_integer_value(time);
	return 1;
}

int event_body_parse(const char *text, size_t len, struct event_body *ret, struct err *err)
{
	struct event_body b = {0};
	json_error_t why;

	if (len > EVENT_BODY_MAX)
		return err_set(err, ERR_LIMIT, "a body of %zu bytes; %d are the most", len,
			       EVENT_BODY_MAX);
	/* the parser takes it for the end */
	if (memchr(text, '\0', len) != NULL)
		return err_set(err, ERR_PARSE, "no JSON: it has a NUL");
	unsigned long before = shortage_count();
	json_auto_t *body = json_loadb(text, len, JSON_DECODE_ANY, &why);

	if (shortage_count() != before ||
	    (body == NULL && json_error_code(&why) == json_error_out_of_memory))
		return err_set(err, ERR_NOMEM, "body of an event");
	if (body == NULL)
		return err_set(err, ERR_PARSE, "no JSON: %s (line %d, column %d)", why.text,
			       why.line, why.column);
	json_t *payload = json_object_get(body, "payload");

	if (payload == NULL) {
		ret->timestamp_us = ret->source_us = 0;
		ret->has_source = false;
		ret->payload = TAKE(body);
		return 0;
	}
	int rc = find_time(body, "timestamp", &b.timestamp_us, err);
	if (rc >= 0)
		rc = find_time(body, "source_timestamp", &b.source_us, err);
	if (rc < 0)
		return rc;
	b.has_source = rc == 1;
	b.payload = json_incref(payload);
	*ret = b;
	return 0;
}

void event_body_done(struct event_body *b)
{
	json_decref(b->payload);
	*b = (struct event_body){0};
}
