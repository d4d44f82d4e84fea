/* check.h - requests to compile functions that nobody runs yet. Private to agent/graph. */
#pragma once

#include "agent/graph/pool.h"

/* The `check` request of csm. arg: the service. */
void check_request(void *arg, const struct request_tag *tag, json_t *body);
/* The engine of a place takes requests: ask what has not been asked. */
void check_ask_all(struct place *p);
/* It fell. culprit: the check whose request it died of, or NULL. */
void check_fell(struct place *p, const struct asker *culprit, const char *why);
void check_free_all(struct service *s);
