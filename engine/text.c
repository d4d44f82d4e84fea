#include "engine/text.h"

#include <stdio.h>
#include <stdlib.h>

int text_init(struct text *t, size_t cap, struct err *err)
{
	*t = (struct text){.data = malloc(cap + 1), .cap = cap};
	if (t->data == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a buffer of %zu bytes", cap);
	return 0;
}

void text_done(struct text *t)
{
	free(t->data);
	*t = (struct text){0};
}

/* What stands for a byte in a JSON string; ret: its length, 0: the byte itself. */
static size_t escape(unsigned char c, char ret[8])
{
	static const char short_form[0x20] = {
		['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r',
	};
	if (c >= 0x20 && c != '"' && c != '\\')
		return 0;
	if (c >= 0x20 || short_form[c] != '\0') {
		ret[0] = '\\';
		ret[1] = c >= 0x20 ? (char)c : short_form[c];
		return 2;
	}
	return (size_t)snprintf(ret, 8, "\\u%04x", c);
}

bool text_put_json_part(struct text *t, const char *utf8, size_t n)
{
	size_t before = t->len, plain = 0;
	bool fits = true;
	for (size_t i = 0; fits && i < n; i++) {
		char esc[8];
		size_t esc_len = escape((unsigned char)utf8[i], esc);
		if (esc_len == 0)
			continue;
		fits = text_put(t, utf8 + plain, i - plain) && text_put(t, esc, esc_len);
		plain = i + 1;
	}
	fits = fits && text_put(t, utf8 + plain, n - plain);
	if (!fits)
		t->len = before;
	return fits;
}

bool text_put_json(struct text *t, const char *utf8, size_t n)
{
	size_t before = t->len;
	bool fits = text_putc(t, '"') && text_put_json_part(t, utf8, n) && text_putc(t, '"');
	if (!fits)
		t->len = before;
	return fits;
}

static bool continues(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

size_t text_whole(const char *utf8, size_t n, size_t max)
{
	if (n <= max)
		return n;
	while (max > 0 && continues(utf8[max]))
		max--;
	return max;
}

void text_set_bounded(struct text *t, const char *utf8, size_t n, size_t spare)
{
	static const char cut[] = "\n...\n";
	size_t room = t->cap > spare ? t->cap - spare : 0;
	text_clear(t);
	if (n <= room) {
		text_put(t, utf8, n);
		return;
	}
	if (room < sizeof(cut))
		return;
	size_t half = (room - (sizeof(cut) - 1)) / 2, head = text_whole(utf8, n, half),
	       tail = n - half;
	while (tail < n && continues(utf8[tail]))
		tail++;
	text_put(t, utf8, head);
	text_put(t, cut, sizeof(cut) - 1);
	text_put(t, utf8 + tail, n - tail);
}

void text_prepend(struct text *t, const char *s)
{
	size_t n = strlen(s);
	if (n > t->cap)
		return;
	size_t keep = text_whole(t->data, t->len, t->cap - n);
	memmove(t->data + n, t->data, keep);
	memcpy(t->data, s, n);
	t->len = n + keep;
}
