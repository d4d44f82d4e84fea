/* point_int.h - inside of a point; for point.c and point_options.c only. */
#pragma once

#include "agent/device/point.h"
#include <stdint.h>

enum format { FORMAT_UINT, FORMAT_INT, FORMAT_FLOAT32, FORMAT_FLOAT64, FORMATS };
enum dims { DIMS_VALUE, DIMS_VALUE_QUALITY, DIMS_FULL };

/* How values are converted; mostly that of many points. */
struct conversion {
	double scale, offset;
	double divisor; /* 1 / scale if that is a whole number; 0: it is none */
	uint8_t format, dims;
	uint8_t bits; /* 0: it is no bit string */
	bool on_change;
	char unit[]; /* "": none */
};

/* There may be very many of them: 32 bytes. */
struct point {
	const struct conversion *how;
	struct value last; /* text: owned; VALUE_NONE: none yet */
};
