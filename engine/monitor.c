#include "engine/monitor.h"

#include <inttypes.h>
#include <stdio.h>

static void put(struct monitor *m, const char *s)
{
	m->fits = m->fits && text_puts(m->out, s);
}

void monitor_begin(struct monitor *m, struct text *out, const struct link *idf)
{
	*m = (struct monitor){.out = out, .fits = true, .stage = MONITOR_IDF};
	if (out == NULL)
		return;
	text_clear(out);
	put(m, "{\"op\":\"monitor_info\",\"data\":{\"idf\":{\"id\":");
	put(m, idf->name_json);
	put(m, ",\"input\":");
}

void monitor_input(struct monitor *m, struct val *const *values, size_t n)
{
	if (m->out == NULL)
		return;
	put(m, "[");
	for (size_t i = 0; m->fits && i < n; i++) {
		if (i > 0)
			put(m, ",");
		m->fits = m->fits && val_show(values[i], m->out) == 0;
	}
	put(m, "]");
}

void monitor_output(struct monitor *m, struct given g)
{
	if (m->out == NULL)
		return;
	put(m, g.alone ? ",\"output\":[" : ",\"output\":");
	if (m->fits)
		m->fits = val_show(g.v != NULL ? g.v : val_none(), m->out) == 0;
	if (g.alone)
		put(m, "]");
	put(m, m->stage == MONITOR_IDF ? "},\"join\":{\"input\":" : "},\"odf\":[");
	m->stage = m->stage == MONITOR_IDF ? MONITOR_JOIN : MONITOR_ODF;
}

void monitor_odf(struct monitor *m, const struct link *odf, const char *json, size_t len,
		 bool scalar)
{
	if (m->out == NULL)
		return;
	put(m, m->any_odf ? ",{\"id\":" : "{\"id\":");
	put(m, odf->name_json);
	put(m, ",\"output\":");
	if (json == NULL)
		put(m, "[]");
	if (scalar)
		put(m, "[");
	m->fits = m->fits && (json == NULL || text_put(m->out, json, len));
	put(m, scalar ? "]}" : "}");
	m->any_odf = true;
}

bool monitor_end(struct monitor *m)
{
	if (m->out == NULL)
		return false;
	/* the same shape, however far the message came */
	if (m->stage == MONITOR_JOIN) {
		monitor_input(m, NULL, 0);
		monitor_output(m, (struct given){0});
	}
	put(m, "]}}");
	return m->fits;
}

static bool write_print(struct text *out, const char *stage, const struct link *link,
			uint64_t left_out, const char *text, size_t len)
{
	char count[40] = "";

	if (left_out > 0)
		snprintf(count, sizeof(count), ",\"left_out\":%" PRIu64, left_out);
	text_clear(out);
	return text_puts(out, "{\"op\":\"esm_print\",\"data\":{\"id\":") &&
	       text_puts(out, link != NULL ? link->name_json : "null") &&
	       text_puts(out, ",\"mode\":\"") && text_puts(out, stage) &&
	       text_puts(out, "\",\"text\":") && text_put_json(out, text, len) &&
	       text_puts(out, count) && text_puts(out, "}}");
}

bool monitor_print(struct text *out, const char *stage, const struct link *link, uint64_t left_out,
		   const char *text, size_t len)
{
	/* control characters are six times as long in JSON */
	while (!write_print(out, stage, link, left_out, text, len)) {
		if (len == 0)
			return false;
		len = text_whole(text, len, len / 2);
	}
	return true;
}

static bool write_error(struct text *out, const char *stage, const char *msg, size_t msg_len,
			const char *src, size_t src_len)
{
	text_clear(out);
	return text_puts(out, "{\"op\":\"esm_error\",\"data\":{\"msg\":\"") &&
	       text_puts(out, stage) && text_puts(out, " function failure:\\n") &&
	       text_put_json_part(out, msg, msg_len) && text_puts(out, "\",\"src\":") &&
	       text_put_json(out, src, src_len) && text_puts(out, "}}");
}

bool monitor_error(struct text *out, const char *stage, const char *msg, size_t msg_len,
		   const struct fn_use *use)
{
	size_t len = 0;
	const char *src = use->fn != NULL ? pyfn_text(use->fn, &len) : "";
	return write_error(out, stage, msg, msg_len, src, len) ||
	       write_error(out, stage, msg, msg_len, "", 0);
}
