/* problems.c - what is wrong with a device file, each with its place. */
#include "agent/device/field.h"
#include "common/util.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define PATH_MAX_BYTES 400
#define DEPTH_MAX      32
/* A file can be wrong in millions of places; nobody reads more than that. So many errors, and so
 * many warnings. */
#define KEPT_MAX 1000

struct problem {
	bool is_error;
	char *text; /* owned */
};

struct problems {
	struct problem *items;
	size_t n, room;
	size_t count[2],
		kept[2]; /* of warnings and errors; less are kept: too many, or no memory */
	char path[PATH_MAX_BYTES + 1];
	size_t len;               /* of path */
	size_t before[DEPTH_MAX]; /* its length before each problem_enter() */
	size_t depth;
};

struct problems *problems_new(void)
{
	return calloc(1, sizeof(struct problems));
}

void problems_clear(struct problems *p)
{
	while (p->n > 0)
		free(p->items[--p->n].text);
	memset(p->count, 0, sizeof(p->count));
	memset(p->kept, 0, sizeof(p->kept));
}

struct problems *problems_free(struct problems *p)
{
	if (p == NULL)
		return NULL;
	problems_clear(p);
	free(p->items);
	free(p);
	return NULL;
}

/* "devices[3]" and "data" have a dot between them, "data" and "[7]" have none. */
static const char *joint(const char *path, const char *more)
{
	return path[0] == '\0' || more[0] == '\0' || more[0] == '[' ? "" : ".";
}

/* Keys and values of a file must not reach a terminal as they are. */
static void make_visible(char *text)
{
	for (unsigned char *c = (unsigned char *)text; *c != '\0'; c++) {
		if (*c < 0x20 || *c == 0x7f)
			*c = '?';
	}
}

static bool make_room(struct problems *p)
{
	if (p->n < p->room)
		return true;
	size_t room = p->room > 0 ? 2 * p->room : 16;
	struct problem *items = reallocarray(p->items, room, sizeof(*items));

	if (items == NULL)
		return false;
	p->items = items;
	p->room = room;
	return true;
}

static void __attribute__((format(printf, 4, 0)))
add(struct problems *p, bool is_error, const char *path, const char *fmt, va_list ap)
{
	char what[sizeof(((struct err *)NULL)->text) / 2];
	struct err whole; /* cuts on a character's boundary */

	p->count[is_error]++;
	if (p->kept[is_error] == KEPT_MAX)
		return;
	vsnprintf(what, sizeof(what), fmt, ap);
	bool here = p->path[0] == '\0' && path[0] == '\0';
	err_set(&whole, ERR_SCHEMA, "%s%s%s%s%s", p->path, joint(p->path, path), path,
		here ? "" : ": ", what);
	make_visible(whole.text);
	char *text = make_room(p) ? strdup(whole.text) : NULL;

	if (text == NULL)
		return;
	p->items[p->n++] = (struct problem){is_error, text};
	p->kept[is_error]++;
}

void problem_add(struct problems *p, const char *path, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(p, true, path, fmt, ap);
	va_end(ap);
}

void problem_warn(struct problems *p, const char *path, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(p, false, path, fmt, ap);
	va_end(ap);
}

void problem_enter(struct problems *p, const char *fmt, ...)
{
	char part[PATH_MAX_BYTES + 1];
	va_list ap;

	assert(p->depth < DEPTH_MAX);
	va_start(ap, fmt);
	vsnprintf(part, sizeof(part), fmt, ap);
	va_end(ap);
	p->before[p->depth++] = p->len;
	int n = snprintf(p->path + p->len, sizeof(p->path) - p->len, "%s%s", joint(p->path, part),
			 part);
	p->len += n > 0 ? (size_t)n : 0;
	if (p->len > PATH_MAX_BYTES)
		p->len = PATH_MAX_BYTES;
}

void problem_leave(struct problems *p)
{
	assert(p->depth > 0);
	p->len = p->before[--p->depth];
	p->path[p->len] = '\0';
}

size_t problems_errors(const struct problems *p)
{
	return p->count[true];
}

size_t problems_all(const struct problems *p)
{
	return p->count[true] + p->count[false];
}

void problems_each(const struct problems *p, problem_fn *fn, void *arg)
{
	char more[80];

	for (size_t i = 0; i < p->n; i++)
		fn(arg, p->items[i].is_error, p->items[i].text);
	for (int is_error = 1; is_error >= 0; is_error--) {
		size_t untold = p->count[is_error] - p->kept[is_error];

		if (untold == 0)
			continue;
		snprintf(more, sizeof(more), "%zu more", untold);
		fn(arg, is_error, more);
	}
}
