/* point_bench.h - points with their options, for tests. */
#pragma once

#include "agent/device/point.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static json_t *options_of(const char *text)
{
	json_error_t why;
	json_t *options = json_loads(text, 0, &why);

	if (options == NULL)
		fail_msg("%s: %s", text, why.text);
	return options;
}

/* A point with its options, to be given to drop(). */
struct held {
	json_t *options;
	struct point_spec spec;
	struct points *points;
	struct point *point; /* the one of them */
};

MAYBE_UNUSED static void hold(struct held *h, unsigned bits, const char *options)
{
	struct err err = {0};

	*h = (struct held){.options = options_of(options)};
	h->spec = (struct point_spec){
		.name = "p", .options = h->options, .input = true, .output = true, .bits = bits};
	if (points_new(&h->spec, 1, &h->points, &err) < 0)
		fail_msg("%s: %s", options, err.text);
	h->point = points_at(h->points, 0);
}

MAYBE_UNUSED static void drop(struct held *h)
{
	points_free(h->points);
	json_decref(h->options);
}
