#include "ccm/web/multipart.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char type[] = "multipart/form-data";

/* The value of `; name=value` or `; name="value"`; ret: its length in buf, 0: none, or it is too long. */
static size_t parameter(const char *text, size_t len, const char *name, char *buf, size_t size)
{
	size_t name_len = strlen(name);
	bool quoted = false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '"')
			quoted = !quoted;
		if (quoted || text[i] != ';')
			continue;
		size_t at = i + 1, n = 0;
		while (at < len && text[at] == ' ')
			at++;
		if (len - at <= name_len || strncasecmp(text + at, name, name_len) != 0 || text[at + name_len] != '=')
			continue;
		at += name_len + 1;
		bool in_quotes = at < len && text[at] == '"';
		for (at += in_quotes; at < len && (in_quotes ? text[at] != '"' : strchr("; \t", text[at]) == NULL); at++) {
			if (n == size - 1)
				return 0;
			buf[n++] = text[at];
		}
		buf[n] = '\0';
		return n;
	}
	return 0;
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
	size_t n = *rest == ';' || *rest == ' ' ? parameter(rest, strlen(rest), "boundary", m->boundary + 2, sizeof(m->boundary) - 2) : 0;
	m->boundary_len = n + 2;
	if (n == 0 || len < m->boundary_len || memcmp(body, m->boundary, m->boundary_len) != 0)
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
		char file[8];
		if (line == NULL || eol == NULL) /* the first never comes: gcc does not see that with -fsanitize */
			return false;
		size_t len = (size_t)(eol - line);
		m->at = eol + 2;
		if (len == 0)
			return true;
		if (len < sizeof(wanted) - 1 || strncasecmp(line, wanted, sizeof(wanted) - 1) != 0)
			continue;
		parameter(line, len, "name", part->name, sizeof(part->name));
		/* a long one is one, too */
		part->is_file = parameter(line, len, "filename", file, sizeof(file)) > 0 ||
				(memmem(line, len, "filename=", 9) != NULL && memmem(line, len, "filename=\"\"", 11) == NULL);
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
