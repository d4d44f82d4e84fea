/* fuzz: dan */
/* The two parsers of the device side: commands from the control channel and csm's answer to a
 * registration. */
#include "common/util.h"
#include "dan/control.h"
#include "dan/registration.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_command(const char *text, size_t len)
{
	struct control c;
	struct err err = {0};
	int rc = control_parse(text, len, &c, &err);
	assert((rc == 0) == (err.code == 0));
	if (rc == 0) {
		assert(c.feature != NULL && (c.command != CONTROL_CONNECT || c.topic != NULL));
		assert(c.topic == NULL || (c.topic[0] != '\0' && strpbrk(c.topic, "+#") == NULL));
	}
	if (c.msg_id != NULL) {
		CLEANUP(freep)
		char *answer = control_answer(c.msg_id, rc < 0 ? err.text : NULL);
		assert(answer != NULL);
	}
	control_done(&c);
}

static void check_answer(const char *text, size_t len, long status)
{
	struct registration r;
	struct err err = {0};
	int rc = registration_parse(status, text, len, &r, &err);
	assert(status == 200 || rc == ERR_PEER);
	if (rc == 0)
		assert(r.rev[0] != '\0' && r.host[0] != '\0' && r.port >= 1 && r.port <= 65535 &&
		       r.ctrl_up != NULL);
	registration_done(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	check_command(text, size);
	check_answer(text, size, 200);
	check_answer(text, size, 403);
	return 0;
}
