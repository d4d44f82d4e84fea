#include "agent/graph/check.h"
#include "common/log.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define CHECKS_MAX 64 /* waiting at a time */

struct check { /* a check request that waits for its answer */
	struct asker asker;
	struct check *next;
	struct place *place; /* held */
	struct request_tag tag;
	json_t *msg;
	bool asked;
};

static struct check *check_free(struct check *c)
{
	struct service *s = c->place->s;
	struct check **at = &s->checks;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	s->n_checks--;
	place_release(c->place);
	json_decref(c->msg);
	free(c);
	return NULL;
}

static void on_checked(void *arg, json_t *answer)
{
	struct check *c = arg;
	struct service *s = c->place->s;
	const char *state = json_string_value(json_object_get(answer, "state"));
	json_t *results = json_object_get(answer, "results");
	json_t *reason = json_object_get(answer, "reason");

	log_debug("funcs.checked", KV("state", state), KV("engine", c->place->name),
		  KV("trace", c->tag.trace.s));
	if (state != NULL && strcmp(state, "ok") == 0 && json_is_array(results))
		service_answer(s, &c->tag,
			       json_pack("{s:s, s:O}", "state", "ok", "results", results));
	else
		service_answer_error(s, &c->tag,
				     json_is_string(reason) ? json_string_value(reason)
							    : "the engine gave no reason");
	check_free(c);
}

static void ask(struct check *c)
{
	struct err err = {0};
	int rc = host_request(c->place->host, json_copy(c->msg), on_checked, c, &err);

	c->asked = rc == 0;
	if (rc == 0 || rc == ERR_AGAIN)
		return;
	service_answer_error(c->place->s, &c->tag, err.text);
	check_free(c);
}

void check_ask_all(struct place *p)
{
	for (struct check *c = p->s->checks, *next; c != NULL; c = next) {
		next = c->next;
		if (c->place == p && !c->asked)
			ask(c);
	}
}

/* Its engine was lost to it. One code is to blame itself; of several nobody knows which. */
static void answer_fallen(const struct check *c, const char *reason)
{
	if (json_array_size(json_object_get(c->msg, "codes")) == 1)
		service_answer(c->place->s, &c->tag,
			       json_pack("{s:s, s:[{s:s, s:s}]}", "state", "ok", "results", "state",
					 "error", "reason", reason));
	else
		service_answer_error(c->place->s, &c->tag, reason);
}

void check_fell(struct place *p, const struct asker *culprit, const char *why)
{
	for (struct check *c = p->s->checks, *next; c != NULL; c = next) {
		char reason[300];

		next = c->next;
		if (c->place != p)
			continue;
		c->asked = false;
		if (&c->asker != culprit)
			continue;
		snprintf(reason, sizeof(reason), "%s while compiling", why);
		answer_fallen(c, reason);
		check_free(c);
	}
}

void check_free_all(struct service *s)
{
	while (s->checks != NULL)
		check_free(s->checks);
}

static bool all_strings(json_t *codes, json_t *depends)
{
	const char *alias;
	json_t *item;
	size_t i;

	if (!json_is_array(codes) || (depends != NULL && !json_is_object(depends)))
		return false;
	json_array_foreach (codes, i, item) {
		if (!json_is_string(item))
			return false;
	}
	json_object_foreach (depends, alias, item) {
		if (!json_is_string(item))
			return false;
	}
	return true;
}

void check_request(void *arg, const struct request_tag *tag, json_t *body)
{
	struct service *s = arg;
	json_t *codes = json_object_get(body, "codes"), *depends = json_object_get(body, "depends");
	const char *owner = json_string_value(json_object_get(body, "owner"));
	struct place *p;
	struct check *c;
	struct err err = {0};

	if (json_is_null(depends))
		depends = NULL;
	if (!all_strings(codes, depends)) {
		service_answer_error(s, tag,
				     "codes is no list of sources, or depends no map of them");
		return;
	}
	if (s->n_checks >= CHECKS_MAX) {
		service_answer_error(s, tag, "too many checks wait");
		return;
	}
	if (pool_place_check(s, owner, &p, &err) < 0) {
		service_answer_error(s, tag, err.text);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (c == NULL) {
		service_answer(s, tag, NULL);
		return;
	}
	*c = (struct check){.asker = {ASKER_CHECK}, .next = s->checks, .place = p, .tag = *tag};
	c->msg = json_pack("{s:s, s:O, s:o}", "op", "check", "codes", codes, "depends",
			   depends != NULL ? json_incref(depends) : json_object());
	place_hold(p);
	s->checks = c;
	s->n_checks++;
	if (p->loaded)
		ask(c);
}
