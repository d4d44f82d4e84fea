/* multipart.h - the parts of a multipart/form-data body (RFC 7578), as browsers send forms with files. */
#pragma once

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>

#define MULTIPART_NAME_MAX 128

struct part {
	char name[MULTIPART_NAME_MAX];
	bool is_file; /* has a file name, and it is not empty */
	const char *data; /* borrowed from the body */
	size_t len;
};

struct multipart {
	const char *at, *end;
	char boundary[76]; /* "--" and the one announced */
	size_t boundary_len;
};

/* ret: 0, or ERR_INVAL: the Content-Type (may be NULL) is not multipart/form-data with a boundary, or the body does not begin so. */
int multipart_begin(struct multipart *m, const char *content_type, const char *body, size_t len);
/* ret: 1, 0 (that was all) or ERR_INVAL. */
int multipart_next(struct multipart *m, struct part *ret);
