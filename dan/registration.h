/* registration.h - what a device application sends to csm to register, and what it reads from the
 * answer (pure functions). */
#pragma once

#include "common/err.h"
#include "dan/dan.h"
#include <stddef.h>

/* csm's answer to a registration. */
struct registration {
	char *texts; /* owned; the strings below are in it */
	const char *rev, *name;
	const char *host; /* of the broker */
	unsigned port;
	const char *ctrl_up, *ctrl_down; /* topics: device to server, server to device */
	const char *username, *password; /* for the broker; NULL: none */
};

/* The body of the PUT. Checks what csm would refuse anyway. ret: a string, yours to free(). Errors:
 * ERR_SCHEMA, ERR_NOMEM. */
int registration_body(const struct dan_conf *conf, char **ret, struct err *err);

/* Read the answer to the PUT. Release with registration_done() in both cases. Errors: ERR_PARSE,
 * ERR_SCHEMA, and ERR_PEER with csm's reason when it refused (status is not 200). */
int registration_parse(long status, const char *body, size_t len, struct registration *ret,
		       struct err *err);
void registration_done(struct registration *r);
