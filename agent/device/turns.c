#include "agent/device/turns.h"
#include "common/clock.h"
#include "common/util.h"

#define TURN_US 250 /* with a hundred such devices there is still time for the others */

struct turns {
	struct loop *loop;
	struct loop_src *timer; /* armed while somebody waits */
	struct turns_place *first, **last;
	unsigned busy;
	bool calling;     /* who waits has its turn */
	int64_t began_us; /* of what is going on */
	int64_t used_us;  /* before that, since turn_ms */
	int64_t turn_ms;
};

/* ---- time ---- */

static void begin_turn(struct turns *t)
{
	t->used_us = 0;
	t->turn_ms = loop_now_ms(t->loop);
}

void turns_begin(struct turns *t)
{
	if (t->busy++ > 0)
		return;
	/* Turns of one millisecond count as one; who waits then has a turn begin anyway. */
	if (t->turn_ms != loop_now_ms(t->loop))
		begin_turn(t);
	t->began_us = monotonic_us();
}

void turns_end(struct turns *t)
{
	if (--t->busy == 0)
		t->used_us += monotonic_us() - t->began_us;
}

static bool is_used_up(const struct turns *t)
{
	return t->used_us + monotonic_us() - t->began_us >= TURN_US;
}

bool turns_are_over(const struct turns *t)
{
	return (t->first != NULL && !t->calling) || is_used_up(t);
}

/* ---- the row ---- */

void turns_wait(struct turns *t, struct turns_place *p)
{
	if (turns_waits(p))
		return;
	if (t->first == NULL)
		loop_arm(t->loop, t->timer, 0);
	p->next = NULL;
	p->at = t->last;
	*t->last = p;
	t->last = &p->next;
}

bool turns_waits(const struct turns_place *p)
{
	return p->at != NULL;
}

void turns_leave(struct turns *t, struct turns_place *p)
{
	if (!turns_waits(p))
		return;
	*p->at = p->next;
	if (p->next != NULL)
		p->next->at = p->at;
	else
		t->last = p->at;
	p->at = NULL;
}

static void on_timer(void *arg)
{
	struct turns *t = arg;

	begin_turn(t);
	t->calling = true;
	turns_begin(t);
	while (t->first != NULL && !is_used_up(t)) {
		struct turns_place *p = t->first;

		turns_leave(t, p);
		p->fn(p->arg);
	}
	turns_end(t);
	t->calling = false;
	loop_arm(t->loop, t->timer, t->first != NULL ? 0 : -1);
}

int turns_new(struct loop *l, struct turns **ret, struct err *err)
{
	struct turns *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return err_set(err, ERR_NOMEM, "the turns of a device");
	*t = (struct turns){.loop = l, .last = &t->first};
	int rc = loop_add_timer(l, -1, 0, on_timer, t, &t->timer, err);
	if (rc < 0) {
		free(t);
		return rc;
	}
	*ret = t;
	return 0;
}

struct turns *turns_free(struct turns *t)
{
	if (t == NULL)
		return NULL;
	loop_remove(t->loop, t->timer);
	free(t);
	return NULL;
}
