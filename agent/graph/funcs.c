#include "agent/graph/funcs.h"
#include "common/id.h"
#include "common/map.h"
#include "common/util.h"
#include <string.h>

#define KEPT_MAX (64u << 20)

struct func {
	char digest[DIGEST_LEN + 1];
	bool used;
	size_t len;
	char code[];
};

struct funcs {
	struct map *by_digest; /* struct func, owned */
	size_t bytes, limit;   /* limit: where the next sweep is due */
};

struct funcs *funcs_new(void)
{
	struct funcs *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	f->limit = KEPT_MAX;
	f->by_digest = map_new();
	return f->by_digest != NULL ? f : funcs_free(f);
}

struct funcs *funcs_free(struct funcs *f)
{
	if (f != NULL)
		map_free(f->by_digest, free);
	free(f);
	return NULL;
}

int funcs_add(struct funcs *f, const char *digest, const char *code, size_t len, struct err *err)
{
	struct func *func;

	if (map_find(f->by_digest, digest) != NULL)
		return 0;
	if (strcmp(sha256_hex(code, len).s, digest) != 0)
		return err_set(err, ERR_SCHEMA, "a source does not have the digest %.64s", digest);
	func = malloc(sizeof(*func) + len + 1);
	if (func == NULL)
		return err_set(err, ERR_NOMEM, "function source");
	*func = (struct func){.len = len};
	memcpy(func->digest, digest, DIGEST_LEN + 1);
	memcpy(func->code, code, len);
	func->code[len] = '\0';
	if (map_add(f->by_digest, func->digest, func) < 0) {
		free(func);
		return err_set(err, ERR_NOMEM, "function source");
	}
	f->bytes += len;
	return 0;
}

const char *funcs_find(const struct funcs *f, const char *digest, size_t *ret_len)
{
	const struct func *func = map_find(f->by_digest, digest);

	if (func == NULL)
		return NULL;
	*ret_len = func->len;
	return func->code;
}

bool funcs_grown(const struct funcs *f)
{
	return f->bytes > f->limit;
}

void funcs_mark(struct funcs *f, const char *digest)
{
	struct func *func = map_find(f->by_digest, digest);

	if (func != NULL)
		func->used = true;
}

void funcs_sweep(struct funcs *f)
{
	CLEANUP(freep)
	void **all = map_values(f->by_digest);

	if (all == NULL)
		return; /* no memory for it now: the next sweep does it */
	for (size_t i = 0; all[i] != NULL; i++) {
		struct func *func = all[i];

		if (func->used) {
			func->used = false;
			continue;
		}
		map_remove(f->by_digest, func->digest);
		f->bytes -= func->len;
		free(func);
	}
	/* What is in use may be more than the limit: then the next sweep waits until that has
	 * doubled. */
	f->limit = f->bytes * 2 > KEPT_MAX ? f->bytes * 2 : KEPT_MAX;
}
