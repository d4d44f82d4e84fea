#include "common/log.h"

#include "common/err.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096
#define LINE_END_BYTES 32
#define EVENTS	       64 /* and events that have a budget of lines there */
#define EVENT_LINES    30 /* a minute, whatever the sources: who sends can choose his names */
#define SOURCES        1024 /* pairs of event and source remembered by log_allowed() */

/* The log is a process-wide service like stderr itself: the one place with state outside a struct of the program. */
static struct {
	const char *program;
	enum log_format format;
	pthread_mutex_t lock;
	struct {
		uint64_t hash;
		int64_t at_s;
	} seen[SOURCES];
	struct budget {
		uint64_t event;
		int64_t since_s;
		unsigned lines, suppressed;
	} budgets[EVENTS];
} state = {.program = "?", .lock = PTHREAD_MUTEX_INITIALIZER};

struct kv kv_str(const char *key, const char *value)
{
	return (struct kv){.key = key, .type = KV_STR, .str = value};
}

struct kv kv_int(const char *key, int64_t value)
{
	return (struct kv){.key = key, .type = KV_INT, .num = value};
}

struct kv kv_real(const char *key, double value)
{
	return (struct kv){.key = key, .type = KV_REAL, .real = value};
}

struct kv kv_bool(const char *key, bool value)
{
	return (struct kv){.key = key, .type = KV_BOOL, .flag = value};
}

void log_init(const char *program, enum log_level level, enum log_format format)
{
	state.program = program;
	state.format = format;
	log_level_unset(NULL);
	log_level_set(NULL, level);
}

int log_format_parse(const char *name, enum log_format *ret)
{
	if (strcasecmp(name, "text") == 0)
		*ret = LOG_FORMAT_TEXT;
	else if (strcasecmp(name, "json") == 0)
		*ret = LOG_FORMAT_JSON;
	else
		return ERR_INVAL;
	return 0;
}

static uint64_t fnv1a(uint64_t h, const char *s)
{
	for (; *s != '\0'; s++)
		h = (h ^ (unsigned char)*s) * 0x100000001b3u;
	return h * 0x100000001b3u;
}

/* One more line of this event? Under the lock. *ret_suppressed: lines not written in the minute that has ended. */
static bool within_budget(const char *event, int64_t now_s, unsigned *ret_suppressed)
{
	uint64_t h = fnv1a(0xcbf29ce484222325u, event);
	struct budget *b = &state.budgets[h % EVENTS];
	*ret_suppressed = 0;
	if (b->event != h || now_s - b->since_s >= 60) {
		*ret_suppressed = b->event == h ? b->suppressed : 0;
		*b = (struct budget){.event = h, .since_s = now_s};
	}
	if (b->lines < EVENT_LINES) {
		b->lines++;
		return true;
	}
	b->suppressed++;
	return false;
}

bool log_allowed(const char *event, const char *source)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	uint64_t h = fnv1a(fnv1a(0xcbf29ce484222325u, event), source != NULL ? source : "");
	pthread_mutex_lock(&state.lock);
	/* a collision only mutes a stranger for a minute */
	int64_t *at_s = &state.seen[h % SOURCES].at_s;
	uint64_t *hash = &state.seen[h % SOURCES].hash;
	bool allowed = *hash != h || *at_s == 0 || now.tv_sec - *at_s >= 60;
	unsigned suppressed = 0;
	allowed = allowed && within_budget(event, now.tv_sec, &suppressed);
	if (allowed) {
		*hash = h;
		*at_s = now.tv_sec > 0 ? now.tv_sec : 1;
	}
	pthread_mutex_unlock(&state.lock);
	if (suppressed > 0)
		log_warn("log.suppressed", KV("of", event), KV("lines", suppressed));
	return allowed;
}

/* A line being written. What does not fit is left out and said so: there is always room to end it properly. */
struct line {
	char buf[LINE_MAX_BYTES];
	size_t len;
	bool json;
	bool cut;
};

static bool put(struct line *l, const char *s, size_t n)
{
	if (l->len + n > sizeof(l->buf) - LINE_END_BYTES) {
		l->cut = true;
		return false;
	}
	memcpy(l->buf + l->len, s, n);
	l->len += n;
	return true;
}

static bool puts_(struct line *l, const char *s)
{
	return put(l, s, strlen(s));
}

/* Length of the UTF-8 character at s, 0 if it is none (RFC 3629). */
static size_t utf8_length(const unsigned char *s)
{
	static const struct {
		unsigned char lead, last_lead, second, last_second;
		size_t len;
	} forms[] = {
		{0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
		{0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
	};
	if (s[0] < 0x80)
		return 1;
	for (size_t f = 0; f < sizeof(forms) / sizeof(forms[0]); f++) {
		if (s[0] < forms[f].lead || s[0] > forms[f].last_lead)
			continue;
		if (s[1] < forms[f].second || s[1] > forms[f].last_second)
			return 0;
		for (size_t i = 2; i < forms[f].len; i++)
			if ((s[i] & 0xc0) != 0x80)
				return 0;
		return forms[f].len;
	}
	return 0;
}

/* Control characters and quotes escaped, as JSON does; bytes that are no UTF-8 become U+FFFD. A string that is too long is cut
 * between characters. */
static void put_quoted(struct line *l, const char *s)
{
	if (!puts_(l, "\""))
		return;
	while (*s != '\0') {
		unsigned char c = (unsigned char)*s;
		size_t n = utf8_length((const unsigned char *)s);
		char esc[8];
		bool fits;
		if (n == 0)
			fits = puts_(l, "\\ufffd");
		else if (c == '"' || c == '\\')
			fits = put(l, (const char[]){'\\', (char)c}, 2);
		else if (c == '\n')
			fits = puts_(l, "\\n");
		else if (c < 0x20 || c == 0x7f) {
			snprintf(esc, sizeof(esc), "\\u%04x", c);
			fits = puts_(l, esc);
		} else {
			fits = put(l, s, n);
		}
		if (!fits)
			break;
		s += n > 0 ? n : 1;
	}
	l->buf[l->len++] = '"'; /* in the room kept for the end */
}

static bool plain(const char *s)
{
	if (*s == '\0')
		return false;
	for (; *s != '\0'; s++)
		if ((unsigned char)*s <= ' ' || *s == '"' || *s == '\\' || *s == '=' ||
		    (unsigned char)*s >= 0x7f)
			return false;
	return true;
}

static void put_value(struct line *l, const struct kv *f)
{
	char num[48];
	const char *str;
	switch (f->type) {
	case KV_STR:
		str = f->str != NULL ? f->str : "";
		if (l->json || !plain(str) || !puts_(l, str))
			put_quoted(l, str);
		return;
	case KV_INT:
		snprintf(num, sizeof(num), "%lld", (long long)f->num);
		break;
	case KV_REAL:
		snprintf(num, sizeof(num), l->json && !isfinite(f->real) ? "\"%g\"" : "%.6g", f->real);
		break;
	case KV_BOOL:
		snprintf(num, sizeof(num), "%s", f->flag ? "true" : "false");
		break;
	}
	puts_(l, num);
}

static void put_field(struct line *l, const struct kv *f)
{
	size_t begin = l->len;
	bool fits = puts_(l, l->json ? ",\"" : " ") && puts_(l, f->key) &&
		    puts_(l, l->json ? "\":" : "=");
	size_t value = l->len;
	if (fits)
		put_value(l, f);
	if (l->len == value)
		l->len = begin; /* no room for any of it */
}

void log_event(enum log_level level, const char *event, const struct kv *fields, size_t n)
{
	if (!log_level_allows(level, event))
		return;
	struct line l = {.len = 0};
	struct timespec now;
	struct tm tm;
	char stamp[64], ms[24];
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(ms, sizeof(ms), ".%03ldZ", now.tv_nsec / 1000000);
	bool json = l.json = state.format == LOG_FORMAT_JSON;
	puts_(&l, json ? "{\"time\":\"" : "");
	puts_(&l, stamp);
	puts_(&l, ms);
	puts_(&l, json ? "\",\"level\":\"" : " ");
	puts_(&l, log_level_name(level));
	puts_(&l, json ? "\",\"program\":\"" : " ");
	puts_(&l, state.program);
	puts_(&l, json ? "\",\"event\":\"" : " ");
	puts_(&l, event);
	puts_(&l, json ? "\"" : "");
	for (size_t i = 0; i < n; i++)
		if (fields[i].key != NULL)
			put_field(&l, &fields[i]);
	if (l.cut)
		l.len += (size_t)snprintf(l.buf + l.len, sizeof(l.buf) - l.len, "%s",
					  json ? ",\"cut\":true" : " cut=true");
	if (json)
		l.buf[l.len++] = '}';
	l.buf[l.len++] = '\n';
	/* one write, so that lines of several processes do not mix; nobody to tell if it fails */
	while (write(STDERR_FILENO, l.buf, l.len) < 0 && errno == EINTR)
		continue;
}
