#include "agent/graph/backlog.h"
#include "common/err.h"
#include "common/util.h"
#include <string.h>

bool backlog_has_room(const struct backlog *b, size_t len)
{
	size_t bytes = sizeof(struct backlog_msg) + len;

	return b->first == NULL || (bytes <= b->max_bytes && b->bytes <= b->max_bytes - bytes);
}

int backlog_add(struct backlog *b, const struct tap_rec *rec, uint64_t serial, const void *payload)
{
	size_t bytes = sizeof(struct backlog_msg) + rec->len;

	if (!backlog_has_room(b, rec->len))
		return ERR_LIMIT;
	struct backlog_msg *m = malloc(bytes);
	if (m == NULL)
		return ERR_NOMEM;
	*m = (struct backlog_msg){.rec = *rec, .serial = serial};
	if (rec->len > 0)
		memcpy(m->payload, payload, rec->len);
	if (b->last != NULL)
		b->last->next = m;
	else
		b->first = m;
	b->last = m;
	b->bytes += bytes;
	return 0;
}

void backlog_drop_first(struct backlog *b)
{
	struct backlog_msg *m = b->first;

	if (m == NULL)
		return;
	b->bytes -= sizeof(*m) + m->rec.len;
	b->first = m->next;
	if (b->first == NULL)
		b->last = NULL;
	free(m);
}

void backlog_done(struct backlog *b)
{
	while (b->first != NULL)
		backlog_drop_first(b);
}
