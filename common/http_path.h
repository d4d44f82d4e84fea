/* http_path.h - what is in a request's URL and Host header: decoding, splitting, matching. Pure
 * functions for http.c. */
#pragma once

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>

#define HTTP_SEGMENTS_MAX 32

struct http_path {
	char *joined;                      /* decoded, "/a/b", without prefix */
	char *split;                       /* the same bytes with NUL for '/' between segments */
	char *segments[HTTP_SEGMENTS_MAX]; /* into split */
	size_t n;
	const char *prefix; /* that was stripped; borrowed; "": none */
	bool slash;         /* one stands at the end */
	char *memory;       /* owns joined */
};

/* Decode %XX in place. plus: '+' is a space. ret: the new length, or ERR_PARSE for a bad escape or
 * a NUL. */
int http_decode(char *s, bool plus);
/* raw: as in the request line, without query; absolute form ("http://host/a") is accepted.
 * prefixes: NULL-terminated, or NULL. Errors: ERR_PARSE (bad escape), ERR_LIMIT (too many
 * segments), ERR_NOMEM. Release with http_path_done() in every case. */
int http_path_parse(const char *raw, const char *const *prefixes, struct http_path *ret);
void http_path_done(struct http_path *p);
/* Does pattern (see http.h) fit? */
bool http_path_matches(const struct http_path *p, const char *pattern);
/* Value of {name}, {name:int} or {name...} in a pattern that fits; NULL: the pattern has none. */
const char *http_path_param(const struct http_path *p, const char *pattern, const char *name);
/* Does a Host header name this machine: localhost, 127.x.y.z, [::1], own_name; any port. */
bool http_host_is_local(const char *host, const char *own_name);
