/* log_level.c - how much each module of a program logs. */
#include "common/log.h"

#include "common/err.h"
#include "common/util.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define OWN_MAX	    32
#define MODULES_MAX 256
#define MODULE_MAX  31 /* characters */

struct own {
	char module[MODULE_MAX + 1];
	enum log_level level;
};

/* As the log itself a service of the process. */
static struct {
	_Atomic int level;   /* of modules without their own */
	_Atomic int loudest; /* of all: most that is not logged ends here, without the lock */
	_Atomic int n_own;
	pthread_mutex_t lock;
	struct own own[OWN_MAX];
} state = {.level = LOG_LEVEL_INFO, .loudest = LOG_LEVEL_INFO, .lock = PTHREAD_MUTEX_INITIALIZER};

/* All events of the program, as LOG_AT() noted them; the linker makes the two ends. */
extern const char *const __start_log_events[] __attribute__((weak, visibility("hidden")));
extern const char *const __stop_log_events[] __attribute__((weak, visibility("hidden")));

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARN] = "warn",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

const char *log_level_name(enum log_level level)
{
	return level_names[level];
}

int log_level_parse(const char *name, enum log_level *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
		if (strcasecmp(name, level_names[i]) == 0) {
			*ret = (enum log_level)i;
			return 0;
		}
	}
	return ERR_INVAL;
}

/* ---- modules ---- */

static size_t module_length(const char *event)
{
	return strcspn(event, ".");
}

static bool is_module(const char *module, const char *event)
{
	size_t len = module_length(event);
	return strncmp(module, event, len) == 0 && module[len] == '\0';
}

static bool is_known(const char *module)
{
	for (const char *const *e = __start_log_events; e != __stop_log_events; e++)
		if (is_module(module, *e))
			return true;
	return false;
}

/* Under the lock. */
static struct own *own_of(const char *event)
{
	for (int i = 0; i < state.n_own; i++)
		if (is_module(state.own[i].module, event))
			return &state.own[i];
	return NULL;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

void log_module_each(log_module_fn *fn, void *arg)
{
	static const size_t size = MODULE_MAX + 1;
	char(*modules)[MODULE_MAX + 1] = calloc(MODULES_MAX, size);
	size_t n = 0;
	for (const char *const *e = __start_log_events; modules != NULL && e != __stop_log_events; e++) {
		size_t len = module_length(*e), i = 0;
		while (i < n && !is_module(modules[i], *e))
			i++;
		if (i == n && n < MODULES_MAX && len < size)
			memcpy(modules[n++], *e, len);
	}
	if (modules != NULL)
		qsort(modules, n, size, by_name);
	for (size_t i = 0; i < n; i++) {
		pthread_mutex_lock(&state.lock);
		const struct own *o = own_of(modules[i]);
		bool has_own = o != NULL;
		enum log_level level = has_own ? o->level : (enum log_level)state.level;
		pthread_mutex_unlock(&state.lock);
		fn(arg, modules[i], level, has_own);
	}
	free(modules);
}

/* ---- levels ---- */

/* Under the lock. */
static void find_loudest(void)
{
	int loudest = state.level;
	for (int i = 0; i < state.n_own; i++)
		if ((int)state.own[i].level > loudest)
			loudest = (int)state.own[i].level;
	state.loudest = loudest;
}

int log_level_set(const char *module, enum log_level level)
{
	int rc = 0;
	if (module != NULL && (strlen(module) > MODULE_MAX || !is_known(module)))
		return ERR_NOENT;
	pthread_mutex_lock(&state.lock);
	struct own *o = module != NULL ? own_of(module) : NULL;
	if (module == NULL) {
		state.level = (int)level;
	} else if (o != NULL) {
		o->level = level;
	} else if (state.n_own < OWN_MAX) {
		o = &state.own[state.n_own++];
		memcpy(o->module, module, strlen(module) + 1);
		o->level = level;
	} else {
		rc = ERR_LIMIT;
	}
	find_loudest();
	pthread_mutex_unlock(&state.lock);
	return rc;
}

void log_level_unset(const char *module)
{
	pthread_mutex_lock(&state.lock);
	struct own *o = module != NULL ? own_of(module) : NULL;
	if (o != NULL)
		*o = state.own[--state.n_own];
	else if (module == NULL)
		state.n_own = 0;
	find_loudest();
	pthread_mutex_unlock(&state.lock);
}

bool log_level_allows(enum log_level level, const char *event)
{
	if ((int)level > state.loudest)
		return false;
	if (state.n_own == 0)
		return (int)level <= state.level;
	pthread_mutex_lock(&state.lock);
	const struct own *o = own_of(event);
	bool allows = (int)level <= (o != NULL ? (int)o->level : state.level);
	pthread_mutex_unlock(&state.lock);
	return allows;
}
