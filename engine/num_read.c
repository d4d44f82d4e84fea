#include "engine/num.h"
#include "engine/num_pow5.h"

#include <float.h>

#define DIGITS_MAX   19 /* a number of so many fits into 64 bits */
#define POW10_MAX    22 /* 10^22 is a double */
#define DOUBLE_BITS  53
#define EXPONENT_MAX 9999

_Static_assert(FLT_EVAL_METHOD == 0, "one multiplication of doubles must round once");

__extension__ typedef unsigned __int128 wide;

static const double pow10_of[POW10_MAX + 1] = {
	1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
};

/* 2^e, of a size that no double here comes near the end of. */
static double pow2(int e)
{
	union {
		uint64_t bits;
		double d;
	} u = {.bits = (uint64_t)(e + 1023) << 52};
	return u.d;
}

static int bits_of(wide n)
{
	uint64_t high = (uint64_t)(n >> 64);
	return high != 0 ? 128 - __builtin_clzll(high) : 64 - __builtin_clzll((uint64_t)n);
}

/* n * 2^e, and a little more if `more`, to the nearest double. n has more bits than a double. */
static double nearest(wide n, int e, bool more)
{
	int cut = bits_of(n) - DOUBLE_BITS;
	uint64_t kept = (uint64_t)(n >> cut);
	wide rest = n & (((wide)1 << cut) - 1), half = (wide)1 << (cut - 1);
	if (rest > half || (rest == half && (more || (kept & 1) != 0)))
		kept++; /* 2^53 is a double, too */
	return (double)kept * pow2(e + cut);
}

/* digits * 10^exp10. ret: false: none of ours. */
static bool to_double(uint64_t digits, int exp10, double *ret)
{
	if (digits == 0) {
		*ret = 0;
		return true;
	}
	/* both are doubles, so one operation gives the nearest */
	if (digits <= (uint64_t)1 << DOUBLE_BITS && exp10 >= -POW10_MAX && exp10 <= POW10_MAX) {
		*ret = exp10 < 0 ? (double)digits / pow10_of[-exp10]
				 : (double)digits * pow10_of[exp10];
		return true;
	}
	if (exp10 < -NUM_POW5_MAX || exp10 > NUM_POW5_MAX)
		return false;
	if (exp10 >= 0) {
		*ret = nearest((wide)digits * num_pow5[exp10], exp10, false);
		return true;
	}
	/* a quotient of at least 64 bits, and whether something is left */
	int up = 127 - bits_of(digits);
	wide n = (wide)digits << up, by = num_pow5[-exp10], quotient = n / by;
	*ret = nearest(quotient, exp10 - up, quotient * by != n);
	return true;
}

static bool is_digit(const char *at, const char *end)
{
	return at < end && *at >= '0' && *at <= '9';
}

/* Digits from at on, appended to *n. ret: behind them; what is too long is noticed by its length.
 */
static const char *read_digits(const char *at, const char *end, uint64_t *n)
{
	for (; is_digit(at, end); at++)
		*n = *n * 10 + (uint64_t)(*at - '0');
	return at;
}

/* `e`, sign and digits, if there are any. ret: behind them; NULL: not a number of ours. */
static const char *read_exponent(const char *at, const char *end, int *ret)
{
	bool minus = false;
	int n = 0;
	*ret = 0;
	if (at == end || (*at | 0x20) != 'e')
		return at;
	at++;
	if (at < end && (*at == '+' || *at == '-'))
		minus = *at++ == '-';
	if (!is_digit(at, end))
		return NULL;
	for (; is_digit(at, end); at++) {
		n = n * 10 + (*at - '0');
		if (n > EXPONENT_MAX) /* as many places could make a usual number of it */
			return NULL;
	}
	*ret = minus ? -n : n;
	return at;
}

static size_t read_whole(const char *text, const char *at, bool minus, uint64_t n, struct num *ret)
{
	if (n > (uint64_t)INT64_MAX + minus)
		return 0;
	ret->is_real = false;
	ret->whole = minus ? (int64_t)-n : (int64_t)n;
	return (size_t)(at - text);
}

size_t num_read(const char *text, const char *end, struct num *ret)
{
	const char *at = text, *first, *point;
	bool minus = at < end && *at == '-';
	uint64_t n = 0;
	int exp10;
	at += minus;
	if (!is_digit(at, end))
		return 0;
	first = at;
	at = read_digits(at, end, &n);
	if (at - first > DIGITS_MAX || (*first == '0' && at - first > 1))
		return 0;
	if (at == end || (*at != '.' && (*at | 0x20) != 'e'))
		return read_whole(text, at, minus, n, ret);
	point = at;
	if (*at == '.') {
		at = read_digits(at + 1, end, &n);
		if (at - point < 2)
			return 0;
	}
	if (at - first - (*point == '.') > DIGITS_MAX) {
		/* zeros in front are no digits */
		const char *digit = first;
		while (digit < at && (*digit == '0' || *digit == '.'))
			digit++;
		if (at - digit - (digit < point) > DIGITS_MAX)
			return 0;
	}
	ptrdiff_t places = *point == '.' ? at - point - 1 : 0;
	at = read_exponent(at, end, &exp10);
	if (at == NULL || places > EXPONENT_MAX || !to_double(n, exp10 - (int)places, &ret->real))
		return 0;
	if (minus)
		ret->real = -ret->real;
	ret->is_real = true;
	return (size_t)(at - text);
}
