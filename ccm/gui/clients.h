/* clients.h - the gui clients that are attached, by uuid. There is room for so many; who is silent for too long is forgotten.
 *
 * What is attached is not kept over a restart: a client that is forgotten is told so when it asks for something, and attaches again.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUI_UUID_LEN	36
#define GUI_CLIENTS_MAX 1024

struct gui_clients;
/* One is not attached any more: it said so, or is forgotten. Not to be changed from here. */
typedef void gui_left_fn(void *arg, const char *uuid, bool forgotten);

struct gui_clients *gui_clients_new(gui_left_fn *left, void *arg); /* NULL: out of memory */
struct gui_clients *gui_clients_free(struct gui_clients *c);	   /* nobody is told; NULL is fine; returns NULL */

/* When there is no room the one is forgotten that was silent longest, those first that never had a login.
 * ret: 0, also when it was attached, or ERR_NOMEM. */
int gui_clients_attach(struct gui_clients *c, const char *uuid, int64_t now_ms);
void gui_clients_detach(struct gui_clients *c, const char *uuid);
/* It said something. ret: whether it is attached. */
bool gui_clients_heard(struct gui_clients *c, const char *uuid, int64_t now_ms);
/* What it said was said by a user. */
void gui_clients_logged_in(struct gui_clients *c, const char *uuid);
/* Forget those that said nothing since. */
void gui_clients_expire(struct gui_clients *c, int64_t since_ms);

bool gui_clients_has(const struct gui_clients *c, const char *uuid);
size_t gui_clients_count(const struct gui_clients *c);
/* fn must not attach or detach. */
void gui_clients_each(const struct gui_clients *c, void (*fn)(void *arg, const char *uuid), void *arg);
