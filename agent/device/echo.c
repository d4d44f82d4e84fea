#include "agent/device/echo.h"
#include "common/util.h"
#include <stdlib.h>
#include <string.h>

#define ECHOES_MAX 32 /* a broker that repeats nothing is no reason to keep all */

struct echo {
	struct echo *next;
	char text[];
};

static void drop_first(struct echoes *e)
{
	struct echo *gone = e->first;

	e->first = gone->next;
	free(gone);
}

void echoes_add(struct echoes *e, const char *text)
{
	size_t size = strlen(text) + 1, n = 0;
	struct echo **at = &e->first, *echo = malloc(sizeof(*echo) + size);

	if (echo == NULL)
		return;
	echo->next = NULL;
	memcpy(echo->text, text, size);
	for (; *at != NULL; at = &(*at)->next)
		n++;
	*at = echo;
	if (n == ECHOES_MAX)
		drop_first(e);
}

/* ret: where it is; at the end: NULL is there. */
static struct echo **find(struct echoes *e, const char *text)
{
	struct echo **at = &e->first;

	while (*at != NULL && strcmp((*at)->text, text) != 0)
		at = &(*at)->next;
	return at;
}

void echoes_remove(struct echoes *e, const char *text)
{
	struct echo **at = find(e, text), *gone = *at;

	if (gone == NULL)
		return;
	*at = gone->next;
	free(gone);
}

enum echo_kind echoes_take(struct echoes *e, const char *text)
{
	const struct echo *found = *find(e, text);
	const struct echo *rest = found != NULL ? found->next : NULL;

	if (found == NULL)
		return ECHO_NONE;
	while (e->first != rest)
		drop_first(e);
	return rest != NULL ? ECHO_OLD : ECHO_LAST;
}

void echoes_clear(struct echoes *e)
{
	while (e->first != NULL)
		drop_first(e);
}
