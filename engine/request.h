/* request.h - what the agent may ask for on the control socket (docs/graph-document.rst). */
#pragma once

#include "engine/graph.h"
#include <jansson.h>

struct requests {
	struct graphs *graphs;
	struct text why; /* of the request being handled */
	bool out_of_memory;
};

int requests_init(struct requests *r, struct graphs *gs, struct err *err);
void requests_done(struct requests *r);

/* Do what a frame asks for. ret: the answer, yours; NULL: out of memory. */
json_t *requests_handle(struct requests *r, json_t *frame);
