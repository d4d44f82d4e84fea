/* fuzz: ccm */
/* A form with a file, as a browser sends it to /import_project: the first line is the Content-Type, the rest the body. */
#include "ccm/web/multipart.h"
#include "common/util.h"
#include <assert.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *line = memchr(data, '\n', size);
	size_t head = line != NULL ? (size_t)(line - data) : size, n = 0;
	CLEANUP(freep) char *type = strndup((const char *)data, head);
	size_t len = line != NULL ? size - head - 1 : 0;
	CLEANUP(freep) char *body = malloc(len > 0 ? len : 1); /* of its exact size, so that a read beyond it shows */
	struct multipart m;
	struct part p;
	if (type == NULL || body == NULL)
		return 0;
	memcpy(body, line != NULL ? line + 1 : data, len);
	int rc = multipart_begin(&m, type, body, len);
	while (rc >= 0 && (rc = multipart_next(&m, &p)) > 0) {
		assert(p.data >= body && p.data + p.len <= body + len);
		assert(strlen(p.name) < MULTIPART_NAME_MAX);
		assert(++n <= len / 4);
	}
	assert(rc == 0 || rc == ERR_INVAL);
	return 0;
}
