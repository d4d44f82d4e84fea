#include "ccm/drive/wrapper.h"

#include "common/util.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define ALIAS_MAX (255 + 2)

/* Source of a function as it grows. */
struct text {
	FILE *out;
	char *s;
	size_t len;
};

static int text_begin(struct text *t, struct err *err)
{
	*t = (struct text){0};
	t->out = open_memstream(&t->s, &t->len);
	return t->out != NULL ? 0 : err_set(err, ERR_NOMEM, "wrapper");
}

/* ret: the text, yours; NULL: out of memory */
static char *text_end(struct text *t)
{
	if (fclose(t->out) == 0)
		return t->s;
	free(t->s);
	return NULL;
}

static int begin(struct wrapper *w, struct err *err)
{
	*w = (struct wrapper){.depends = json_object(), .sources = json_object()};
	return w->depends != NULL && w->sources != NULL ? 0 : err_set(err, ERR_NOMEM, "wrapper");
}

/* ret: its digest; "": out of memory, or it is no UTF-8 */
static struct digest_text add_source(struct wrapper *w, const char *source)
{
	struct digest_text d = sha256_hex(source, strlen(source));
	if (json_object_set_new(w->sources, d.s, json_string(source)) < 0)
		d.s[0] = '\0';
	return d;
}

static int depend(struct wrapper *w, const char *alias, const char *source, struct err *err)
{
	struct digest_text d = add_source(w, source);
	if (d.s[0] == '\0')
		return err_set(err, ERR_SCHEMA, "function %s is no UTF-8", alias);
	return json_object_set_new(w->depends, alias, json_string(d.s)) < 0 ? err_set(err, ERR_NOMEM, "wrapper") : 0;
}

/* The function's name as a member of `iot`: a name that is no identifier gives way to its number. */
static void alias_of(const struct user_function *fn, char ret[ALIAS_MAX])
{
	bool plain = isalpha((unsigned char)fn->name[0]) && strlen(fn->name) < ALIAS_MAX - 1;
	for (const char *c = fn->name; *c != '\0'; c++)
		plain = plain && (isalnum((unsigned char)*c) || *c == '_');
	if (plain)
		snprintf(ret, ALIAS_MAX, "_%s", fn->name);
	else
		snprintf(ret, ALIAS_MAX, "__%lld", (long long)fn->fn_id);
}

/* text: taken; NULL: out of memory */
static int finish(struct wrapper *w, char *text, struct err *err)
{
	if (text == NULL)
		return err_set(err, ERR_NOMEM, "wrapper");
	w->digest = add_source(w, text);
	free(text);
	return w->digest.s[0] != '\0' ? 0 : err_set(err, ERR_NOMEM, "wrapper");
}

/* One function that gets all arguments; its value is the only one of the result. */
static int of_one(const struct user_function *fn, struct wrapper *w, struct err *err)
{
	char alias[ALIAS_MAX], *text = NULL;
	int rc = begin(w, err);
	if (rc < 0 || fn->code == NULL)
		return rc;
	alias_of(fn, alias);
	if ((rc = depend(w, alias, fn->code, err)) < 0)
		return rc;
	if (asprintf(&text, "def run(*args):\n    result = [iot.%s(*args)]\n    return result\n", alias) < 0)
		text = NULL;
	return finish(w, text, err);
}

/* Release what a failure left half-made. */
static int made(struct wrapper *w, int rc)
{
	if (rc < 0)
		wrapper_done(w);
	return rc;
}

int wrapper_of_function(const struct user_function *fn, struct wrapper *ret, struct err *err)
{
	return made(ret, of_one(fn, ret, err));
}

/* ---- outputs ---- */

static bool is_normalized(const struct output_param *p)
{
	return p->normalized && isfinite(p->min) && isfinite(p->max) && p->min != p->max;
}

/* Maps what it has seen so far to [min, max]; one value alone is in the middle. */
static char *normalizer(const struct output_param *p)
{
	char *text = NULL;
	int n = asprintf(&text,
			 "low = high = None\n"
			 "\n"
			 "def run(value):\n"
			 "    global low, high\n"
			 "    low = value if low is None else min(low, value)\n"
			 "    high = value if high is None else max(high, value)\n"
			 "    if low == high:\n"
			 "        return (%.17g + %.17g) / 2\n"
			 "    return %.17g + (value - low) * (%.17g - %.17g) / (high - low)\n",
			 p->max, p->min, p->min, p->max, p->min);
	return n < 0 ? NULL : text;
}

/* One element of the result. */
static int element(struct wrapper *w, const struct output_param *p, size_t i, FILE *out, struct err *err)
{
	char alias[ALIAS_MAX], normalize[64];
	bool normalized = is_normalized(p);
	int rc = 0;
	if (normalized) {
		CLEANUP(freep) char *source = normalizer(p);
		snprintf(normalize, sizeof(normalize), "_%lld_%lld_normalize", (long long)p->dfo_id, (long long)p->param_i);
		rc = source != NULL ? depend(w, normalize, source, err) : err_set(err, ERR_NOMEM, "wrapper");
	}
	if (rc == 0 && p->fn.code != NULL) {
		alias_of(&p->fn, alias);
		rc = depend(w, alias, p->fn.code, err);
	}
	if (rc < 0)
		return rc;
	fputs("        ", out);
	if (normalized)
		fprintf(out, "iot.%s(", normalize);
	if (p->fn.code != NULL)
		fprintf(out, "iot.%s(*args)", alias);
	else
		fprintf(out, "args[min(%zu, len(args) - 1)]", i);
	fputs(normalized ? "),\n" : ",\n", out);
	return 0;
}

static int of_output(const struct output_param *params, size_t n, struct wrapper *w, struct err *err)
{
	struct text t;
	bool does_something = false;
	int rc = begin(w, err);
	for (size_t i = 0; i < n; i++)
		does_something = does_something || params[i].fn.code != NULL || is_normalized(&params[i]);
	if (rc < 0 || !does_something || (rc = text_begin(&t, err)) < 0)
		return rc;
	fputs("def run(*args):\n    result = [\n", t.out);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = element(w, &params[i], i, t.out, err);
	fputs("    ]\n    return result\n", t.out);
	CLEANUP(freep) char *text = text_end(&t);
	return rc < 0 ? rc : finish(w, TAKE(text), err);
}

int wrapper_of_output(const struct output_param *params, size_t n, struct wrapper *ret, struct err *err)
{
	return made(ret, of_output(params, n, ret, err));
}

void wrapper_done(struct wrapper *w)
{
	json_decref(w->depends);
	json_decref(w->sources);
	*w = (struct wrapper){0};
}
