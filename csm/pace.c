/* pace.c - a bucket of tokens, and those that wait for one. */
#include "csm/pace.h"

#include "common/util.h"

#define TICK_MS 10

struct pace {
	struct loop *loop;
	const int64_t *rate;
	void (*send)(struct paced *item);
	struct paced *first, *last;
	struct loop_src *timer; /* runs while somebody waits */
	double tokens;
	int64_t filled_ms;
};

static void unlink_item(struct pace *p, struct paced *item)
{
	*(item->prev != NULL ? &item->prev->next : &p->first) = item->next;
	*(item->next != NULL ? &item->next->prev : &p->last) = item->prev;
	*item = (struct paced){0};
}

static bool take_token(struct pace *p)
{
	int64_t now = loop_now_ms(p->loop);
	double rate = (double)*p->rate, most = rate / 10 > 1 ? rate / 10 : 1;
	p->tokens += (double)(now - p->filled_ms) * rate / 1000;
	p->filled_ms = now;
	if (p->tokens > most)
		p->tokens = most;
	if (p->tokens < 1)
		return false;
	p->tokens--;
	return true;
}

static void on_tick(void *arg)
{
	struct pace *p = arg;
	while (p->first != NULL && take_token(p)) {
		struct paced *item = p->first;
		unlink_item(p, item);
		p->send(item);
	}
	if (p->first != NULL)
		loop_arm(p->loop, p->timer, TICK_MS);
}

int pace_new(struct loop *loop, const int64_t *rate, void (*send)(struct paced *item), struct pace **ret, struct err *err)
{
	struct pace *p = calloc(1, sizeof(*p));
	if (p == NULL)
		return err_set(err, ERR_NOMEM, "pace");
	*p = (struct pace){.loop = loop, .rate = rate, .send = send};
	int rc = loop_add_timer(loop, -1, 0, on_tick, p, &p->timer, err);
	if (rc < 0) {
		free(p);
		return rc;
	}
	*ret = p;
	return 0;
}

struct pace *pace_free(struct pace *p)
{
	if (p == NULL)
		return NULL;
	while (p->first != NULL)
		unlink_item(p, p->first);
	loop_remove(p->loop, p->timer);
	free(p);
	return NULL;
}

void pace_ask(struct pace *p, struct paced *item)
{
	if (item->waiting)
		return;
	if (p->first == NULL && take_token(p)) {
		p->send(item);
		return;
	}
	if (p->first == NULL)
		loop_arm(p->loop, p->timer, TICK_MS);
	*item = (struct paced){.prev = p->last, .waiting = true};
	*(p->last != NULL ? &p->last->next : &p->first) = item;
	p->last = item;
}

void pace_leave(struct pace *p, struct paced *item)
{
	if (item->waiting)
		unlink_item(p, item);
}
