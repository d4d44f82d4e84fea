/* fuzz: agent
 *
 * A graph document as an agent gets it. It is refused with a reason, or what the agent and an engine
 * rely on holds: ids, topics of the right kind and one level, digests that are digests. */
#include "agent/graph/doc.h"
#include "common/id.h"
#include "common/util.h"
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_digest(void *arg, const char *digest)
{
	(void)arg;
	assert(digest_valid(digest));
}

static void check_topic(const char *topic, const char *prefix)
{
	size_t n = strlen(prefix);
	assert(strncmp(topic, prefix, n) == 0 && topic[n] != '\0');
	assert(strpbrk(topic + n, "/+#") == NULL);
}

static void check_doc(const struct doc *d)
{
	assert(d->id[0] != '\0' && strlen(d->id) <= DOC_ID_MAX && d->rev >= 1);
	for (size_t i = 0; i < d->n_links; i++) {
		assert(d->links[i].lid >= 1);
		check_topic(d->links[i].topic, "iottalk/esm/");
		assert(doc_link(d, d->links[i].lid) != NULL);
	}
	if (d->monitor != NULL)
		check_topic(d->monitor, "iottalk/monitor/");
	doc_each_digest(d, check_digest, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct doc *d = NULL;
	struct err err = {0};
	json_auto_t *json = json_loadb((const char *)data, size, JSON_DECODE_ANY, NULL);
	int rc = json != NULL ? doc_new(json, &d, &err) : ERR_PARSE;
	if (rc == 0) {
		struct funcs *none = funcs_new();
		check_doc(d);
		json_t *msg = doc_for_engine(d, none);
		if (msg != NULL)
			assert(json_is_object(json_object_get(msg, "doc")));
		json_decref(msg);
		funcs_free(none);
	} else {
		assert(d == NULL && (json == NULL || err.text[0] != '\0'));
	}
	doc_free(d);
	return 0;
}
