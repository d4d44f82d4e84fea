/* request.h - a verified request of csm on its way to the service that answers it. */
#pragma once

#include "common/trace.h"
#include <jansson.h>
#include <stdint.h>

/* Where an answer goes. Copied freely; an answer to a session that is over is dropped by the
 * uplink. */
struct request_tag {
	uint64_t session;
	json_int_t id;
	const char *op;      /* of a table row: lives as long as the program */
	struct traces trace; /* whose requests at csm it comes from, for the log */
};

struct request_op {
	const char *op;
	enum { REQUEST_ANSWERED, REQUEST_SILENT } kind;
	/* body: borrowed. An answered request gets its answer now or later, exactly once. */
	void (*handler)(void *arg, const struct request_tag *tag, json_t *body);
};
