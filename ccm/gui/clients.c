/* clients.c - the gui clients that are attached. */
#include "ccm/gui/clients.h"

#include "common/err.h"
#include "common/map.h"
#include "common/util.h"
#include <stdio.h>

struct client {
	char uuid[GUI_UUID_LEN + 1];
	bool had_login;
	int64_t heard_ms;
};

struct gui_clients {
	struct map *by_uuid;
	gui_left_fn *left;
	void *arg;
};

struct gui_clients *gui_clients_new(gui_left_fn *left, void *arg)
{
	struct gui_clients *c = calloc(1, sizeof(*c));
	if (c == NULL || (c->by_uuid = map_new()) == NULL) {
		free(c);
		return NULL;
	}
	c->left = left;
	c->arg = arg;
	return c;
}

struct gui_clients *gui_clients_free(struct gui_clients *c)
{
	if (c != NULL)
		map_free(c->by_uuid, free);
	free(c);
	return NULL;
}

static void drop(struct gui_clients *c, struct client *one, bool forgotten)
{
	map_remove(c->by_uuid, one->uuid);
	c->left(c->arg, one->uuid, forgotten);
	free(one);
}

/* Whether a is to go rather than b. */
static bool goes_first(const struct client *a, const struct client *b)
{
	return a->had_login != b->had_login ? b->had_login : a->heard_ms < b->heard_ms;
}

static void pick_first(void *arg, const char *uuid, void *value)
{
	struct client **first = arg;
	(void)uuid;
	if (*first == NULL || goes_first(value, *first))
		*first = value;
}

int gui_clients_attach(struct gui_clients *c, const char *uuid, int64_t now_ms)
{
	if (gui_clients_heard(c, uuid, now_ms))
		return 0;
	struct client *one = calloc(1, sizeof(*one)), *first = NULL;
	if (one == NULL)
		return ERR_NOMEM;
	snprintf(one->uuid, sizeof(one->uuid), "%s", uuid);
	one->heard_ms = now_ms;
	if (map_count(c->by_uuid) >= GUI_CLIENTS_MAX) {
		map_each(c->by_uuid, pick_first, &first);
		drop(c, first, true);
	}
	int rc = map_add(c->by_uuid, one->uuid, one);
	if (rc < 0)
		free(one);
	return rc;
}

void gui_clients_detach(struct gui_clients *c, const char *uuid)
{
	struct client *one = map_find(c->by_uuid, uuid);
	if (one != NULL)
		drop(c, one, false);
}

bool gui_clients_heard(struct gui_clients *c, const char *uuid, int64_t now_ms)
{
	struct client *one = map_find(c->by_uuid, uuid);
	if (one != NULL)
		one->heard_ms = now_ms;
	return one != NULL;
}

void gui_clients_logged_in(struct gui_clients *c, const char *uuid)
{
	struct client *one = map_find(c->by_uuid, uuid);
	if (one != NULL)
		one->had_login = true;
}

void gui_clients_expire(struct gui_clients *c, int64_t since_ms)
{
	CLEANUP(freep) struct client **all = (struct client **)map_values(c->by_uuid);
	for (size_t i = 0; all != NULL && all[i] != NULL; i++)
		if (all[i]->heard_ms < since_ms)
			drop(c, all[i], true);
}

bool gui_clients_has(const struct gui_clients *c, const char *uuid)
{
	return map_find(c->by_uuid, uuid) != NULL;
}

size_t gui_clients_count(const struct gui_clients *c)
{
	return map_count(c->by_uuid);
}

struct walk {
	void (*fn)(void *arg, const char *uuid);
	void *arg;
};

static void visit(void *arg, const char *uuid, void *value)
{
	const struct walk *w = arg;
	(void)value;
	w->fn(w->arg, uuid);
}

void gui_clients_each(const struct gui_clients *c, void (*fn)(void *arg, const char *uuid), void *arg)
{
	map_each(c->by_uuid, visit, &(struct walk){fn, arg});
}
