/* fuzz: common
 *
 * A settings file: whatever stands in it, it is loaded or refused with a complaint; what was loaded
 * is within the ranges of its table, and the sample of all settings stays loadable. */
#include "common/settings.h"
#include "common/util.h"
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct notes {
	unsigned errors, all;
};

static void on_note(void *arg, bool is_error, const char *text)
{
	struct notes *n = arg;
	n->all++;
	n->errors += is_error;
	assert(text[0] != '\0');
	for (; *text != '\0'; text++)
		assert((unsigned char)*text >= 0x20 && *text != 0x7f);
}

static void check_loaded(const struct settings *s)
{
	assert(s->core.http_port >= 1 && s->core.http_port <= 65535);
	assert(s->core_mqtt.port >= 1 && s->core_mqtt.port <= 65535);
	assert(s->core.userdir != NULL && s->core.userdir[0] == '/');
	assert(s->core_mqtt.host != NULL && s->core_mqtt.host[0] != '\0');
	assert(s->core_ws.host != NULL && s->core_ws.host[0] != '\0');
	assert(s->agent.max_payload_bytes >= 64 && s->agent.queue_bytes >= 65536);
	assert(s->engine.budget_ms >= 10 && s->engine.memory_mb >= 64);
	assert(!s->aaa.enable_mqtt_auth);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	static char path[40];
	struct settings s;
	struct notes notes = {0};
	struct err err = {0};
	if (size > 2000)
		return 0; /* long enough for every way to be wrong */
	if (fd < 0) {
		fd = memfd_create("settings", MFD_CLOEXEC);
		assert(fd >= 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		assert(setenv("HOME", "/nonexistent", 1) == 0);
	}
	assert(ftruncate(fd, 0) == 0);
	assert(pwrite(fd, data, size, 0) == (ssize_t)size);
	int rc = settings_load(path, &s, on_note, &notes, &err);
	if (rc == 0)
		check_loaded(&s);
	else
		assert(err.text[0] != '\0');
	assert(rc == 0 || rc == ERR_SCHEMA || notes.errors == 0);
	settings_done(&s);
	return 0;
}
