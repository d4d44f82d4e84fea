/* num.h - the numbers of JSON, read and written by hand: no allocation, no locale.
 *
 * Both directions are exact where they answer and decline the rest, for which the caller has a long
 * way: reading gives the double nearest to the text (ties to even), writing gives Python's repr(),
 * which is the shortest text that reads back the same.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NUM_TEXT_MAX 32u /* bytes that num_write_*() may need */

struct num {
	bool is_real; /* written with a fraction or an exponent */
	int64_t whole;
	double real;
};

/* Read the number that begins at text. ret: its length; 0: there is none, or it is none of those
 * done here (integers of 64 bits; reals of at most 19 digits and an exponent of ten of at most 27
 * once the point is moved behind them). */
size_t num_read(const char *text, const char *end, struct num *ret);

/* ret: bytes written to out, which has room for NUM_TEXT_MAX. */
size_t num_write_whole(char *out, int64_t n);
/* The same for a finite double. ret: 0 if it is none of those done here
 * (at least 1e-11 and below 7e16 in absolute value, or zero). */
size_t num_write_real(char *out, double d);
