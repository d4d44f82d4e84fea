/* fuzz: common */
/* What of a request we take apart ourselves: path, query value, Host header. The library parses the
 * rest. */
#include "common/http_path.h"
#include "common/util.h"
#include <assert.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_path(const char *raw)
{
	static const char *const prefixes[] = {"/csm", NULL};
	static const char *const patterns[] = {
		"/", "/healthz", "/{id}", "/{id}/{path...}", "/{a}/x/{b}", "/n/{id:int}"};
	struct http_path p;
	if (http_path_parse(raw, prefixes, &p) == 0) {
		size_t len = strlen(p.joined);
		assert(p.joined[0] == '/' && len <= strlen(raw) + 1);
		for (size_t i = 0; i < p.n; i++)
			assert(strlen(p.segments[i]) <= len);
		for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
			if (!http_path_matches(&p, patterns[i]))
				continue;
			const char *id = http_path_param(&p, patterns[i], "id");
			const char *rest = http_path_param(&p, patterns[i], "path");
			assert(id == NULL || (*id != '\0' && strlen(id) < len));
			assert(rest == NULL || (*rest != '\0' && strlen(rest) < len));
			assert(i != 5 || id[strspn(id, "0123456789")] == '\0');
			assert((id != NULL) == (i == 2 || i == 3 || i == 5) &&
			       (rest != NULL) == (i == 3));
		}
	}
	http_path_done(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(freep)
	char *text = malloc(size + 1);
	if (text == NULL)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	check_path(text);
	if (http_host_is_local(text, "box.lan"))
		assert(strncasecmp(text, "localhost", 9) == 0 || strncasecmp(text, "box", 3) == 0 ||
		       strncmp(text, "127.", 4) == 0 || strncmp(text, "[::1]", 5) == 0);
	int rc = http_decode(text, (size & 1) != 0);
	assert(rc == ERR_PARSE || (rc >= 0 && (size_t)rc == strlen(text) && (size_t)rc <= size));
	return 0;
}
