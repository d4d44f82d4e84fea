/* value.h - a value of the field on its way between a driver and the views of a device: as the
 * field has it, with its quality and time (gateway-devices 4.2). No scaling here: point.h does
 * that. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* q of the IoTtalk view; a sum, 0: good */
enum quality {
	QUALITY_INVALID = 1,
	QUALITY_NOT_TOPICAL = 2,
	QUALITY_SUBSTITUTED = 4,
	QUALITY_BLOCKED = 8,
	QUALITY_OVERFLOW = 16,
	QUALITY_ADJUSTED = 32, /* counter adjusted, or protection time invalid */
	QUALITY_STALE = 64,    /* the link is down */
	QUALITY_TEST = 128,
};

enum value_kind { VALUE_NONE, VALUE_UINT, VALUE_INT, VALUE_REAL, VALUE_TEXT };

/* 24 bytes: the last ones of very many points are kept. */
struct value {
	enum value_kind kind : 8;
	uint8_t quality;
	bool periodic; /* its cause is periodic or background */
	union {
		uint64_t u; /* a bit string of the point's bits, or a number */
		int64_t i;
		double r;
		const char *text; /* borrowed */
	};
	int64_t time_us; /* since 1970, of the field; 0: when it is told */
};
