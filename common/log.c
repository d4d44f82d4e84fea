#include "common/log.h"

#include "common/err.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096
#define SOURCES        1024 /* pairs of event and source remembered by log_allowed() */

/* The log is a process-wide service like stderr itself: the one place with state outside a struct of the program. */
static struct {
	const char *program;
	enum log_level level;
	enum log_format format;
	pthread_mutex_t lock;
	struct {
		uint64_t hash;
		int64_t at_s;
	} seen[SOURCES];
} state = {.program = "?", .level = LOG_LEVEL_INFO, .lock = PTHREAD_MUTEX_INITIALIZER};

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARN] = "warn",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

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
	state.level = level;
	state.format = format;
}

int log_level_parse(const char *name, enum log_level *ret)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (strcasecmp(name, level_names[i]) == 0) {
			*ret = (enum log_level)i;
			return 0;
		}
	}
	return ERR_INVAL;
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
	if (allowed) {
		*hash = h;
		*at_s = now.tv_sec > 0 ? now.tv_sec : 1;
	}
	pthread_mutex_unlock(&state.lock);
	return allowed;
}

/* A line being written; what does not fit is cut. */
struct line {
	char buf[LINE_MAX_BYTES];
	size_t len;
};

static void put(struct line *l, const char *s, size_t n)
{
	size_t room = sizeof(l->buf) - 8 - l->len; /* keeps room for the end of a JSON line */
	if (n > room)
		n = room;
	memcpy(l->buf + l->len, s, n);
	l->len += n;
}

static void puts_(struct line *l, const char *s)
{
	put(l, s, strlen(s));
}

/* Control characters and quotes escaped, as JSON does; bytes that are no UTF-8 are the reader's problem only in text. */
static void put_quoted(struct line *l, const char *s)
{
	puts_(l, "\"");
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;
		char esc[8];
		if (c == '"' || c == '\\') {
			esc[0] = '\\';
			esc[1] = (char)c;
			put(l, esc, 2);
		} else if (c == '\n') {
			puts_(l, "\\n");
		} else if (c < 0x20 || c == 0x7f) {
			snprintf(esc, sizeof(esc), "\\u%04x", c);
			puts_(l, esc);
		} else {
			put(l, s, 1);
		}
	}
	puts_(l, "\"");
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

static void put_value(struct line *l, const struct kv *f, bool json)
{
	char num[48];
	const char *str = f->str != NULL ? f->str : "";
	switch (f->type) {
	case KV_STR:
		if (!json && plain(str))
			puts_(l, str);
		else
			put_quoted(l, str);
		return;
	case KV_INT:
		snprintf(num, sizeof(num), "%lld", (long long)f->num);
		break;
	case KV_REAL:
		snprintf(num, sizeof(num), "%.6g", f->real);
		break;
	case KV_BOOL:
		snprintf(num, sizeof(num), "%s", f->flag ? "true" : "false");
		break;
	}
	puts_(l, num);
}

void log_event(enum log_level level, const char *event, const struct kv *fields, size_t n)
{
	if (level > state.level)
		return;
	struct line l = {.len = 0};
	struct timespec now;
	struct tm tm;
	char stamp[64], ms[24];
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(ms, sizeof(ms), ".%03ldZ", now.tv_nsec / 1000000);
	bool json = state.format == LOG_FORMAT_JSON;

	puts_(&l, json ? "{\"time\":\"" : "");
	puts_(&l, stamp);
	puts_(&l, ms);
	puts_(&l, json ? "\",\"level\":\"" : " ");
	puts_(&l, level_names[level]);
	puts_(&l, json ? "\",\"program\":\"" : " ");
	puts_(&l, state.program);
	puts_(&l, json ? "\",\"event\":\"" : " ");
	puts_(&l, event);
	puts_(&l, json ? "\"" : "");
	for (size_t i = 0; i < n; i++) {
		if (fields[i].key == NULL)
			continue;
		if (l.len > sizeof(l.buf) - 256 && fields[i].type == KV_STR)
			break; /* a value cut in the middle would break the JSON line */
		puts_(&l, json ? ",\"" : " ");
		puts_(&l, fields[i].key);
		puts_(&l, json ? "\":" : "=");
		struct line before = l;
		put_value(&l, &fields[i], json);
		if (l.len >= sizeof(l.buf) - 8) {
			/* too long to print whole: say so instead */
			l = before;
			puts_(&l, "\"(long)\"");
		}
	}
	if (json)
		l.buf[l.len++] = '}';
	l.buf[l.len++] = '\n';
	/* one write, so that lines of several processes do not mix; nobody to tell if it fails */
	while (write(STDERR_FILENO, l.buf, l.len) < 0 && errno == EINTR)
		continue;
}
