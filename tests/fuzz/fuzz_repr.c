/* fuzz: engine
 *
 * Numbers are written by hand: doubles as Python's repr() writes them, and so that they read back
 * to the bit, by hand as well as by the C library; integers as the C library writes them. An input
 * is a list of doubles as they are in memory; each is tried as it is, moved to a size that is done
 * by hand, and with few decimal places. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
/* Python.h wants to be first */
#include "engine/num.h"
#include "engine/pyfn.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRACTION 0x800fffffffffffffu

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static double from_bits(uint64_t bits)
{
	double d;
	memcpy(&d, &bits, sizeof(d));
	return d;
}

static bool same_bits(double a, double b)
{
	return memcmp(&a, &b, sizeof(a)) == 0;
}

/* must: it has to be one that is done by hand. */
static void check_real(double d, bool must)
{
	struct num back;
	char *text = malloc(NUM_TEXT_MAX); /* so that more is seen */
	if (text == NULL)
		return;
	size_t len = num_write_real(text, d);
	if (len == 0 && must)
		abort();
	if (len > 0) {
		char copy[NUM_TEXT_MAX + 1], *end;
		char *repr = PyOS_double_to_string(d, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
		memcpy(copy, text, len);
		copy[len] = '\0';
		if (repr == NULL || strcmp(copy, repr) != 0)
			abort();
		if (!same_bits(strtod(copy, &end), d) || end != copy + len)
			abort();
		if (num_read(text, text + len, &back) != len || !back.is_real ||
		    !same_bits(back.real, d))
			abort();
		PyMem_Free(repr);
	}
	free(text);
}

static void check_whole(int64_t n)
{
	char text[NUM_TEXT_MAX + 1], want[NUM_TEXT_MAX];
	text[num_write_whole(text, n)] = '\0';
	snprintf(want, sizeof(want), "%lld", (long long)n);
	if (strcmp(text, want) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct py *py;
	if (py == NULL && py_start(&py, NULL) < 0)
		abort();
	for (uint64_t bits; size >= sizeof(bits); data += sizeof(bits), size -= sizeof(bits)) {
		memcpy(&bits, data, sizeof(bits));
		if (isfinite(from_bits(bits)))
			check_real(from_bits(bits), false);
		/* 2^-36 to 2^55 */
		check_real(from_bits((bits & FRACTION) | (1023 - 36 + (bits >> 52) % 92) << 52),
			   true);
		check_real((double)((int64_t)bits >> 16) / pow(10, (double)(bits % 6)), true);
		check_whole((int64_t)bits);
		check_whole((int64_t)bits >> bits % 64);
	}
	return 0;
}
