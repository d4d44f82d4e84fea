#include "agent/device/packed.h"

#include "common/shortage.h"
#include "common/util.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Objects that are alike stand close together: a window of 4 KB does, and packing needs no more
 * than some tens of KB then. */
#define WINDOW_BITS 12
#define STATE_LEVEL 5

struct packed {
	size_t len, text_len;
	unsigned char bytes[];
};

/* z: begun. ret: NULL: out of memory */
static struct packed *pack(z_stream *z, const char *text, size_t len)
{
	size_t most = deflateBound(z, len);
	CLEANUP(freep)
	unsigned char *bytes = malloc(most);

	if (bytes == NULL || most > UINT_MAX)
		return NULL;
	z->next_in = (z_const Bytef *)text;
	z->avail_in = (uInt)len;
	z->next_out = bytes;
	z->avail_out = (uInt)most;
	struct packed *p =
		deflate(z, Z_FINISH) == Z_STREAM_END ? malloc(sizeof(*p) + z->total_out) : NULL;
	if (p == NULL)
		return NULL;
	*p = (struct packed){.len = z->total_out, .text_len = len};
	memcpy(p->bytes, bytes, p->len);
	return p;
}

struct packed *packed_new(const json_t *value)
{
	CLEANUP(freep)
	char *text = shortage_dumps(value);
	z_stream z = {0};

	if (text == NULL || deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WINDOW_BITS,
					 STATE_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
		return NULL;
	struct packed *p = pack(&z, text, strlen(text));

	deflateEnd(&z);
	return p;
}

json_t *packed_json(const struct packed *p)
{
	unsigned long before = shortage_count();
	uLongf len = p->text_len;
	CLEANUP(freep)
	char *text = malloc(len + 1);

	if (text == NULL || uncompress((Bytef *)text, &len, p->bytes, p->len) != Z_OK)
		return NULL;
	json_t *value = json_loadb(text, len, JSON_DECODE_ANY, NULL);

	if (shortage_count() == before)
		return value;
	json_decref(value);
	return NULL;
}
