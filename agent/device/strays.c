#include "agent/device/strays.h"
#include "common/map.h"
#include "common/util.h"
#include <string.h>

#define STRAYS_MAX       8192
#define STRAYS_BYTES_MAX (16 << 20)
#define SMALL_BYTES      1024 /* an `enable` is; it has room beside all that is larger */

struct stray {
	char *topic, *text; /* topic: the key */
};

struct strays {
	struct map *all; /* struct stray by topic */
	size_t bytes;    /* of topics and texts that are not small */
	bool lost;
};

static void stray_free(void *value)
{
	struct stray *stray = value;

	if (stray == NULL)
		return;
	free(stray->topic);
	free(stray->text);
	free(stray);
}

static size_t large_bytes(const char *topic, const char *text)
{
	size_t n = strlen(topic) + strlen(text);

	return n > SMALL_BYTES ? n : 0;
}

/* ret: yours; NULL: none. */
static struct stray *take(struct strays *s, const char *topic)
{
	struct stray *stray = map_remove(s->all, topic);

	if (stray != NULL)
		s->bytes -= large_bytes(stray->topic, stray->text);
	return stray;
}

struct strays *strays_new(void)
{
	struct strays *s = calloc(1, sizeof(*s));

	if (s == NULL || (s->all = map_new()) == NULL)
		return strays_free(s);
	return s;
}

struct strays *strays_free(struct strays *s)
{
	if (s == NULL)
		return NULL;
	map_free(s->all, stray_free);
	free(s);
	return NULL;
}

void strays_clear(struct strays *s)
{
	for (struct stray *stray; (stray = map_first(s->all)) != NULL;)
		stray_free(take(s, stray->topic));
	s->lost = false;
}

void strays_put(struct strays *s, const char *topic, const char *text)
{
	size_t n = large_bytes(topic, text);

	stray_free(take(s, topic));
	bool fits = map_count(s->all) < STRAYS_MAX && s->bytes + n <= STRAYS_BYTES_MAX;
	struct stray *stray = fits ? calloc(1, sizeof(*stray)) : NULL;

	if (stray != NULL)
		*stray = (struct stray){.topic = strdup(topic), .text = strdup(text)};
	if (stray != NULL && stray->topic != NULL && stray->text != NULL &&
	    map_add(s->all, stray->topic, stray) == 0) {
		s->bytes += n;
		return;
	}
	stray_free(stray);
	s->lost = true;
}

bool strays_lost(const struct strays *s)
{
	return s->lost;
}

void strays_each(const struct strays *s, stray_fn *fn, void *arg)
{
	CLEANUP(freep)
	void **all = map_values(s->all);

	for (size_t i = 0; all != NULL && all[i] != NULL; i++) {
		const struct stray *stray = all[i];

		fn(arg, stray->topic, stray->text);
	}
}

void strays_take(struct strays *s, const char *base, stray_fn *fn, void *arg)
{
	CLEANUP(freep)
	void **all = map_values(s->all);
	size_t len = strlen(base);

	s->lost |= all == NULL;
	for (size_t i = 0; all != NULL && all[i] != NULL; i++) {
		struct stray *stray = all[i];

		if (strncmp(stray->topic, base, len) != 0 || stray->topic[len] != '/')
			continue;
		take(s, stray->topic);
		if (fn(arg, stray->topic, stray->text) < 0)
			s->lost = true;
		stray_free(stray);
	}
}
