/* log.h - one line per event, with fields, to stderr.
 *
 *	log_info("device.added", KV("device", id), KV("features", n));
 *
 * Event names are stable dotted nouns, facts are fields. Levels: error - a person must act; warn - we went on without;
 * info - state changed; debug - the rest. Never payloads, never secrets. Safe from any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_NONE = -1 /* of a library: silent */, LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

struct kv {
	const char *key; /* NULL: no field */
	enum { KV_STR, KV_INT, KV_REAL, KV_BOOL } type;
	union {
		const char *str; /* NULL prints as empty */
		int64_t num;
		double real;
		bool flag;
	};
};

struct kv kv_str(const char *key, const char *value);
struct kv kv_int(const char *key, int64_t value);
struct kv kv_real(const char *key, double value);
struct kv kv_bool(const char *key, bool value);

#define KV(k, v)                                                                                   \
	_Generic((v), char * : kv_str, const char * : kv_str, bool : kv_bool, double : kv_real,    \
		 default : kv_int)((k), (v))

/* program: borrowed for the life of the process (usually a literal). */
void log_init(const char *program, enum log_level level, enum log_format format);
/* ret: 0 or ERR_INVAL; names are error|warn|info|debug and text|json. */
int log_level_parse(const char *name, enum log_level *ret);
int log_format_parse(const char *name, enum log_format *ret);

/* True at most once a minute for each pair of event and source, and 30 times a minute for an event: for complaints that input can
 * provoke. What was not written is counted in a line of its own. */
bool log_allowed(const char *event, const char *source);

/* The level of one module - the first word of its events: "device" of "device.added" - or, with NULL, of all that have none of their own.
 * ret: 0, ERR_NOENT (this program has no such module) or ERR_LIMIT (32 have a level of their own already). */
int log_level_set(const char *module, enum log_level level);
/* The module has no level of its own any more; NULL: none has. */
void log_level_unset(const char *module);
/* All modules of this program, in the order of the alphabet; own: whether it has a level of its own. */
typedef void log_module_fn(void *arg, const char *module, enum log_level level, bool own);
void log_module_each(log_module_fn *fn, void *arg);
const char *log_level_name(enum log_level level);
bool log_level_allows(enum log_level level, const char *event);

void log_event(enum log_level level, const char *event, const struct kv *fields, size_t n);

/* The event is a literal and is noted in a section of the program, so that the program knows its modules. */
#define LOG_AT(level, event, ...)                                                                  \
	do {                                                                                       \
		static const char *const log_known_                                                \
			__attribute__((section("log_events"), used)) = "" event;                   \
		log_event((level), log_known_, (const struct kv[]){{0}, ##__VA_ARGS__},            \
			  sizeof((const struct kv[]){{0}, ##__VA_ARGS__}) / sizeof(struct kv));    \
	} while (0)
#define log_error(event, ...) LOG_AT(LOG_LEVEL_ERROR, event, ##__VA_ARGS__)
#define log_warn(event, ...)  LOG_AT(LOG_LEVEL_WARN, event, ##__VA_ARGS__)
#define log_info(event, ...)  LOG_AT(LOG_LEVEL_INFO, event, ##__VA_ARGS__)
#define log_debug(event, ...) LOG_AT(LOG_LEVEL_DEBUG, event, ##__VA_ARGS__)
