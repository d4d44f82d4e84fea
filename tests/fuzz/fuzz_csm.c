/* fuzz: csm */
/* Everything that strangers can send csm over MQTT, and bodies of PUT and POST: a csm in memory, without broker and HTTP, is fed
 * messages whose topic and payload come from the fuzzer. The first byte chooses where, a line end divides topic and payload. */
#include "common/id.h"
#include "common/log.h"
#include "common/util.h"
#include "csm/agents.h"
#include "csm/api.h"
#include "csm/cleanup.h"
#include "csm/control.h"
#include "csm/csm.h"
#include "csm/funcs.h"
#include "csm/graphs.h"
#include "csm/links.h"
#include "csm/listeners.h"
#include "csm/metrics.h"
#include "csm/registry.h"
#include "csm/store.h"
#include "csm/suspensions.h"
#include <stdio.h>
#include <string.h>

#define DEVICE "df682f01-7c3a-49fd-8f5f-72ce0b6e68c0"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct csm *start(void)
{
	static struct csm csm;
	static char url[] = ":memory:";
	struct err err = {0};
	log_init("fuzz", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	csm.daemon.settings.core_db.url = url;
	csm.daemon.settings.core.da_expiration_s = 1000000000; /* what expires is cleared on a broker, and there is none */
	csm.daemon.settings.core.command_timeout_ms = 1000;
	csm.daemon.settings.core.agent_timeout_ms = 1000;
	csm.daemon.settings.core.cleanup_delay_ms = 1000;
	csm.daemon.settings.broker.message_size_limit = 1048576;
	csm.settings = &csm.daemon.settings;
	if ((csm.metrics = metrics_new()) == NULL || loop_new(&csm.loop, &err) < 0 ||
	    store_open(&csm, &csm.store, &err) < 0 || (csm.links = links_new(&csm)) == NULL ||
	    registry_new(&csm, &csm.registry, &err) < 0 || suspensions_new(&csm, &csm.suspensions, &err) < 0 ||
	    listeners_new(&csm, &csm.listeners, &err) < 0 || funcs_new(&csm, &csm.funcs, &err) < 0 ||
	    agents_new(&csm, &csm.agents, &err) < 0 || graphs_new(&csm, &csm.graphs, &err) < 0 ||
	    cleanup_load(&csm, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	return &csm;
}

static void put(struct csm *csm, const char *text, size_t len)
{
	json_auto_t *body = json_loadb(text, len, JSON_DECODE_ANY, NULL);
	struct profile p = {0}, merged = {0};
	struct refusal why;
	struct uuid_text id;
	struct device *d;
	if (body == NULL || !uuid_parse(DEVICE, strlen(DEVICE), &id))
		return;
	d = registry_find(csm->registry, id.s);
	if (d != NULL && profile_merge(&d->info, "profile/x", body, &merged, &why) == 0 &&
	    registry_update(csm->registry, d, &merged, NULL, NULL) < 0)
		profile_done(&merged);
	if (profile_parse(body, &p, &why) < 0)
		return;
	if (registry_put(csm->registry, &id, &p, NULL, &d, NULL) < 0)
		profile_done(&p);
}

static void message(struct csm *csm, const char *prefix, const char *rest, const char *payload,
		    size_t len, void (*fn)(struct csm *csm, const struct bus_msg *m))
{
	char topic[1024];
	snprintf(topic, sizeof(topic), "%s%s", prefix, rest);
	struct bus_msg m = {.topic = topic, .payload = payload, .len = len, .qos = 0 /* a repetition is none */};
	fn(csm, &m);
}

static void agents_message(struct csm *csm, const struct bus_msg *m)
{
	agents_on_message(csm->agents, m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct csm *csm;
	if (csm == NULL)
		csm = start();
	if (size < 2)
		return 0;
	CLEANUP(freep) char *text = malloc(size);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	char *end = memchr(text, '\n', size - 1);
	const char *payload = end != NULL ? end + 1 : text, *rest = end != NULL ? text : "x/graph/1";
	size_t len = size - 1 - (size_t)(payload - text);
	if (end != NULL)
		*end = '\0';
	switch (data[0] % 6) {
	case 0:
		put(csm, payload, len);
		break;
	case 1:
		message(csm, DEVICE, "/ctrl/i", payload, len, control_on_message);
		break;
	case 2:
		message(csm, "iottalk/agent/", rest, payload, len, agents_message);
		break;
	case 3:
		message(csm, "iottalk/api/req/", rest, payload, len, api_on_message);
		break;
	default:
		message(csm, "iottalk/api/req/", "gui/graph/1", payload, len, api_on_message);
		break;
	}
	loop_turn(csm->loop, 0);
	return 0;
}
