/* fuzz: agent */
/* Topics and bodies of events: whatever parses says the same when it is written and parsed again.
 */
#include "agent/device/event.h"
#include <stdlib.h>
#include <string.h>

static void check_topic(const char *topic)
{
	struct event_path path, again;
	char *made;

	if (event_path_parse(topic, &path, NULL) < 0)
		return;
	if (event_topic(path.segments, path.n, &made, NULL) < 0 ||
	    event_path_parse(made, &again, NULL) < 0 || again.n != path.n)
		abort();
	for (size_t i = 0; i < path.n; i++)
		if (strcmp(path.segments[i], again.segments[i]) != 0)
			abort();
	event_is_state(path.segments, path.n);
	free(made);
	event_path_done(&path);
	event_path_done(&again);
}

static void check_body(const char *text, size_t len)
{
	struct event_body body, again;

	if (event_body_parse(text, len, &body, NULL) < 0)
		return;
	char *made = event_body(body.timestamp_us, body.has_source ? &body.source_us : NULL,
				body.payload);

	/* what was small may be longer now: numbers have other digits */
	if (made == NULL)
		abort();
	int rc = event_body_parse(made, strlen(made), &again, NULL);

	if (rc < 0 && rc != ERR_LIMIT)
		abort();
	if (rc == 0 &&
	    (!json_equal(body.payload, again.payload) || body.timestamp_us != again.timestamp_us ||
	     body.has_source != again.has_source || body.source_us != again.source_us))
		abort();
	if (rc == 0)
		event_body_done(&again);
	free(made);
	event_body_done(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The topic ends with the first NUL, the rest is the body. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (text == NULL)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	size_t n = strlen(text);

	check_topic(text);
	if (n < size)
		check_body(text + n + 1, size - n - 1);
	free(text);
	return 0;
}
