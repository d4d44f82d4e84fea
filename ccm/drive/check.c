/* check.c - code that is to be compiled in an engine's sandbox: some at a time, the others wait. */
#include "ccm/drive/drive_int.h"

#include "common/log.h"
#include "common/util.h"
#include <string.h>

#define CHECKING_MAX   8 /* csm takes 16 of all its clients together */
#define CHECK_TIMEOUT_MS 8000
#define CHECKS_MAX     1000
#define CHECKS_BYTES   (16 * 1024 * 1024) /* of code, all together */
#define CODE_MAX_BYTES (256 * 1024) /* as csm takes functions */

struct check {
	struct check *next;
	struct ref_text ref; /* "": not sent yet */
	int64_t at_ms;
	drive_checked_fn *fn;
	void *arg;
	size_t len;
	char code[];
};

static void finish(struct drive *d, struct check **at, int rc, const char *why)
{
	struct check *k = *at;
	*at = k->next;
	if (*at == NULL)
		d->last_check = at;
	if (k->ref.s[0] != '\0')
		d->checking--;
	k->fn(k->arg, rc, why);
	free(k);
}

static struct check **find_unsent(struct drive *d)
{
	struct check **at = &d->checks;
	while (*at != NULL && (*at)->ref.s[0] != '\0')
		at = &(*at)->next;
	return at;
}

static void send_some(struct drive *d)
{
	struct err err = {0};
	struct ref_text ref = {""};
	for (struct check **at = find_unsent(d); *at != NULL && d->checking < CHECKING_MAX; at = find_unsent(d)) {
		struct check *k = *at;
		/* an engine of its own: code that nobody has accepted yet meets no running graph */
		int rc = drive_send(d, "/graph/" DRIVE_TOOLS, json_pack("{s:s, s:s}", "op", "attach", "owner", d->check_owner), &ref, &err);
		if (rc == 0)
			rc = drive_send(d, "/graph/" DRIVE_TOOLS, json_pack("{s:s, s:[s]}", "op", "check_funcs", "codes", k->code), &k->ref,
					&err);
		if (rc < 0) {
			k->ref.s[0] = '\0';
			finish(d, at, rc == ERR_NOMEM ? rc : ERR_AGAIN, err.text);
		} else {
			d->checking++;
		}
	}
}

void drive_check_code(struct ccm *ccm, const char *code, drive_checked_fn *fn, void *arg)
{
	struct drive *d = ccm->drive;
	size_t len = strlen(code), n = 0, bytes = len;
	for (const struct check *k = d != NULL ? d->checks : NULL; k != NULL; k = k->next) {
		n++;
		bytes += k->len;
	}
	bool full = n >= CHECKS_MAX || bytes > CHECKS_BYTES;
	if (len > CODE_MAX_BYTES) {
		fn(arg, ERR_INVAL, "the code is longer than 256 KiB");
		return;
	}
	if (d == NULL || !d->up || d->silent || full) {
		fn(arg, ERR_AGAIN, full ? "too much code waits to be checked" : "csm is away: the code cannot be checked now");
		return;
	}
	struct check *k = calloc(1, sizeof(*k) + len + 1);
	if (k == NULL) {
		fn(arg, ERR_NOMEM, "out of memory");
		return;
	}
	*k = (struct check){.at_ms = loop_now_ms(ccm->loop), .fn = fn, .arg = arg, .len = len};
	memcpy(k->code, code, len + 1);
	*d->last_check = k;
	d->last_check = &k->next;
	send_some(d);
}

void checks_on_answer(struct drive *d, const json_t *answer)
{
	const char *reason, *state;
	struct check **at = &d->checks;
	while (*at != NULL && !answer_has_ref(answer, &(*at)->ref))
		at = &(*at)->next;
	if (*at == NULL)
		return;
	const json_t *result = json_array_get(json_object_get(answer, "results"), 0);
	if (!answer_is_ok(answer, &reason) || result == NULL) {
		finish(d, at, ERR_AGAIN, reason);
	} else if ((state = json_string_value(json_object_get(result, "state"))) != NULL && strcmp(state, "ok") == 0) {
		finish(d, at, 0, NULL);
	} else {
		answer_is_ok(result, &reason);
		finish(d, at, ERR_INVAL, reason);
	}
	send_some(d);
}

void checks_on_pulse(struct drive *d)
{
	while (d->checks != NULL && loop_now_ms(d->ccm->loop) - d->checks->at_ms >= CHECK_TIMEOUT_MS)
		finish(d, &d->checks, ERR_AGAIN, "the code was not checked in time");
	send_some(d);
}

void checks_fail(struct drive *d, const char *why)
{
	while (d->checks != NULL)
		finish(d, &d->checks, ERR_AGAIN, why);
}
