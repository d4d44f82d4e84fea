#include "ccm/web/multipart.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char type[] = "multipart/form-data";

struct span {
	const char *at;
	size_t len;
};

/* The value of `; name=value` or `; name="value"`, empty if there is none. */
static struct span parameter(struct span text, const char *name)
{
	size_t name_len = strlen(name);
	bool quoted = false;
	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] == '"')
			quoted = !quoted;
		if (quoted || text.at[i] != ';')
			continue;
		size_t at = i + 1, from;
		while (at < text.len && text.at[at] == ' ')
			at++;
		if (text.len - at <= name_len || strncasecmp(text.at + at, name, name_len) != 0 || text.at[at + name_len] != '=')
			continue;
		at += name_len + 1;
		bool in_quotes = at < text.len && text.at[at] == '"';
		for (from = at += in_quotes; at < text.len; at++)
			if (in_quotes ? text.at[at] == '"' : strchr("; \t", text.at[at]) != NULL)
				break;
		return (struct span){text.at + from, at - from};
	}
	return (struct span){"", 0};
}

/* ret: false: it does not fit, or is empty */
static bool copy(struct span from, char *buf, size_t size)
{
	if (from.len == 0 || from.len >= size)
		return false;
	memcpy(buf, from.at, from.len);
	buf[from.len] = '\0';
	return true;
}

/* Step over the rest of a boundary's line. ret: 1: a part follows, 0: it was the last, ERR_INVAL */
static int after_boundary(struct multipart *m)
{
	size_t left = (size_t)(m->end - m->at);
	if (left >= 2 && memcmp(m->at, "--", 2) == 0)
		return 0;
	if (left < 2 || memcmp(m->at, "\r\n", 2) != 0)
		return ERR_INVAL;
	m->at += 2;
	return 1;
}

int multipart_begin(struct multipart *m, const char *content_type, const char *body, size_t len)
{
	*m = (struct multipart){.at = body, .end = body + len, .boundary = "--"};
	if (content_type == NULL || strncasecmp(content_type, type, sizeof(type) - 1) != 0)
		return ERR_INVAL;
	const char *rest = content_type + sizeof(type) - 1;
	if ((*rest != ';' && *rest != ' ') ||
	    !copy(parameter((struct span){rest, strlen(rest)}, "boundary"), m->boundary + 2, sizeof(m->boundary) - 2))
		return ERR_INVAL;
	m->boundary_len = strlen(m->boundary);
	if (len < m->boundary_len || memcmp(body, m->boundary, m->boundary_len) != 0)
		return ERR_INVAL;
	m->at += m->boundary_len;
	return 0;
}

/* Headers of a part, line by line, up to the empty one. ret: false: they do not end */
static bool headers(struct multipart *m, struct part *part)
{
	static const char wanted[] = "Content-Disposition:";
	for (;;) {
		const char *line = m->at, *eol = memmem(line, (size_t)(m->end - line), "\r\n", 2);
		if (eol == NULL)
			return false;
		const struct span text = {line, (size_t)(eol - line)};
		m->at = eol + 2;
		if (text.len == 0)
			return true;
		if (text.len < sizeof(wanted) - 1 || strncasecmp(line, wanted, sizeof(wanted) - 1) != 0)
			continue;
		copy(parameter(text, "name"), part->name, sizeof(part->name));
		part->is_file = parameter(text, "filename").len > 0;
	}
}

int multipart_next(struct multipart *m, struct part *ret)
{
	char stop[80];
	int n = snprintf(stop, sizeof(stop), "\r\n%s", m->boundary);
	int rc = after_boundary(m);
	*ret = (struct part){0};
	if (rc <= 0)
		return rc;
	if (!headers(m, ret))
		return ERR_INVAL;
	/* an empty part's boundary may use the line end of its headers */
	const char *from = m->at, *next = memmem(from - 2, (size_t)(m->end - from) + 2, stop, (size_t)n);
	if (next == NULL)
		return ERR_INVAL;
	ret->data = from;
	ret->len = next > from ? (size_t)(next - from) : 0;
	m->at = next + n;
	return 1;
}
