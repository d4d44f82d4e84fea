#include "engine/payload.h"

#include "engine/num.h"
#include <string.h>

/* ---- by hand ---- */

static const char *skip_space(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
		at++;
	return at;
}

static bool is_word(const char *at, const char *end, const char *word)
{
	size_t len = strlen(word);
	return (size_t)(end - at) >= len && memcmp(at, word, len) == 0;
}

/* One value. ret: its length; 0: not for us. */
static size_t read_one(const char *at, const char *end, struct val **ret)
{
	struct num n;
	size_t len = num_read(at, end, &n);
	if (len > 0) {
		*ret = n.is_real ? val_real(n.real) : val_whole(n.whole);
		return len;
	}
	if (is_word(at, end, "true") || is_word(at, end, "null")) {
		*ret = val_keep(*at == 't' ? val_bool(true) : val_none());
		return strlen("true");
	}
	if (is_word(at, end, "false")) {
		*ret = val_keep(val_bool(false));
		return strlen("false");
	}
	return 0;
}

bool payload_read_quick(const char *text, size_t len, struct vals *values)
{
	const char *end = text + len, *at = skip_space(text, end);
	bool list = at < end && *at == '[';
	vals_clear(values);
	if (list)
		at = skip_space(at + 1, end);
	if (list && at < end && *at == ']')
		return skip_space(at + 1, end) == end;
	for (;;) {
		struct val *v = NULL;
		size_t n = read_one(at, end, &v);
		if (n == 0 || vals_add(values, v) < 0)
			return false;
		at = skip_space(at + n, end);
		if (!list)
			return at == end;
		if (at == end)
			return false;
		if (*at == ']')
			return skip_space(at + 1, end) == end;
		if (*at != ',')
			return false;
		at = skip_space(at + 1, end);
	}
}

/* ---- by the library ---- */

static int values_of(struct payload *p, struct vals *values, struct err *err)
{
	const json_t *json = p->json;
	size_t n = json_is_array(json) ? json_array_size(json) : 1;
	vals_clear(values);
	p->flat = true;
	for (size_t i = 0; i < n; i++) {
		const json_t *item = json_is_array(json) ? json_array_get(json, i) : json;
		struct val *v;
		int rc = val_from_json(item, json_is_array(json), &v, err);
		if (rc == 0 && vals_add(values, v) < 0)
			rc = err_set(err, ERR_NOMEM, "out of memory");
		if (rc < 0)
			return rc;
		p->flat = p->flat && !json_is_array(item) && !json_is_object(item);
	}
	return 0;
}

int payload_read_json(struct payload *p, const char *text, size_t len, struct vals *values,
		      struct err *err)
{
	json_error_t why;
	*p = (struct payload){0};
	/* the library would read over it */
	if (memchr(text, '\0', len) != NULL)
		return err_set(err, ERR_SCHEMA, "it holds a NUL byte");
	p->json = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
	if (p->json == NULL) {
		bool memory = json_error_code(&why) == json_error_out_of_memory;
		return err_set(err, memory ? ERR_NOMEM : ERR_SCHEMA, "%s", why.text);
	}
	return values_of(p, values, err);
}

/* ---- both ---- */

int payload_read(struct payload *p, const char *text, size_t len, struct vals *values,
		 struct err *err)
{
	*p = (struct payload){.flat = true};
	if (payload_read_quick(text, len, values))
		return 0;
	return payload_read_json(p, text, len, values, err);
}

int payload_renew(struct payload *p, struct vals *values, struct err *err)
{
	return p->flat ? 0 : values_of(p, values, err);
}

void payload_done(struct payload *p)
{
	json_decref(p->json);
	p->json = NULL;
}
