#include "engine/num.h"
#include "engine/num_pow5.h"

#include <string.h>

#define FRACTION_BITS 52
#define EASY_PLACES   4
#define EASY_MAX      1000000000000000u /* so few digits are unique among the texts of a double */
#define FIXED_LEAST \
	(-4) /* where repr() begins to write exponents: the point of d.ddd moved so far */
#define FIXED_MOST 16

__extension__ typedef unsigned __int128 wide;

static const char pairs[] =
	"00010203040506070809101112131415161718192021222324252627282930313233343536373839"
	"40414243444546474849505152535455565758596061626364656667686970717273747576777879"
	"8081828384858687888990919293949596979899";

static unsigned count_digits(uint64_t n)
{
	/* 1233 / 4096 is a little less than log10(2): at most one too few */
	static const uint64_t least[] = {
		0,
		10,
		100,
		1000,
		10000,
		100000,
		1000000,
		10000000,
		100000000,
		1000000000,
		10000000000,
		100000000000,
		1000000000000,
		10000000000000,
		100000000000000,
		1000000000000000,
		10000000000000000,
		100000000000000000,
		1000000000000000000,
		10000000000000000000u,
	};
	unsigned guess = (64u - (unsigned)__builtin_clzll(n | 1)) * 1233 >> 12;
	return guess + (n >= least[guess]);
}

/* n in decimal. ret: its length, at most 20. */
static size_t write_digits(char *out, uint64_t n)
{
	unsigned len = n == 0 ? 1 : count_digits(n);
	char *at = out + len;
	for (; n >= 100; n /= 100)
		memcpy(at -= 2, pairs + 2 * (n % 100), 2);
	if (n >= 10)
		memcpy(at - 2, pairs + 2 * n, 2);
	else
		at[-1] = (char)('0' + n);
	return len;
}

size_t num_write_whole(char *out, int64_t n)
{
	bool minus = n < 0;
	if (minus)
		*out++ = '-';
	return minus + write_digits(out, minus ? -(uint64_t)n : (uint64_t)n);
}

/* ---- the shortest digits of a double ---- */

struct decimal {
	uint64_t digits;
	int exp10;
};

/* floor(log10(2^e)), or floor(log10(3/4 * 2^e)) */
static int log10_of_gap(int e, bool uneven)
{
	return (e * 1262611 - (uneven ? 524031 : 0)) >> 22;
}

/* All that reads back as m * 2^e (m: 53 bits) lies between half a gap below and half a gap above
 * it. Counted in units of the power of ten not larger than this interval, it holds at most one
 * multiple of ten: then that is the shortest, and else the nearest whole number. Everything is an
 * integer of less than 128 bits here, scaled by 2^shift, so all comparisons are exact. ret: false:
 * too large or too small for that. */
static bool shortest(uint64_t m, int e, struct decimal *ret)
{
	bool uneven = m == (uint64_t)1 << FRACTION_BITS; /* the next double below is nearer */
	int k = log10_of_gap(e, uneven), shift = 3 - e + k;
	if (k > 0 || -k > NUM_POW5_MAX || shift < 0)
		return false;
	uint64_t five = num_pow5[-k];
	wide at = (wide)m * five << 3, low = at - (uneven ? 2 : 4) * (wide)five,
	     high = at + 4 * (wide)five;
	if ((m & 1) != 0) { /* the ends of the interval are not ours */
		low++;
		high--;
	}
	uint64_t below = (uint64_t)(at >> shift), tens = below / 10;
	if ((wide)(tens * 10) << shift >= low) {
		*ret = (struct decimal){tens, k + 1};
	} else if ((wide)(tens * 10 + 10) << shift <= high) {
		*ret = (struct decimal){tens + 1, k + 1};
	} else {
		wide left = at - ((wide)below << shift), right = ((wide)(below + 1) << shift) - at;
		bool up = left > right || (left == right && (below & 1) != 0);
		if ((wide)below << shift < low)
			up = true;
		else if ((wide)(below + 1) << shift > high)
			up = false;
		*ret = (struct decimal){below + up, k};
	}
	while (ret->digits % 100 == 0) {
		ret->digits /= 100;
		ret->exp10 += 2;
	}
	if (ret->digits % 10 == 0) {
		ret->digits /= 10;
		ret->exp10++;
	}
	return true;
}

/* ---- writing it as repr() does ---- */

/* d.ddde-05 */
static size_t write_scientific(char *out, const char *digits, size_t n, int exp10)
{
	char *at = out;
	*at++ = digits[0];
	if (n > 1) {
		*at++ = '.';
		memcpy(at, digits + 1, n - 1);
		at += n - 1;
	}
	*at++ = 'e';
	*at++ = exp10 < 0 ? '-' : '+';
	unsigned size = (unsigned)(exp10 < 0 ? -exp10 : exp10); /* below 100: see shortest() */
	memcpy(at, pairs + (size_t)2 * size, 2);
	return (size_t)(at + 2 - out);
}

static size_t write_decimal(char *out, const struct decimal *d)
{
	char digits[20] = "";
	size_t n = write_digits(digits, d->digits);
	int point = (int)n + d->exp10; /* digits in front of it */
	char *at = out;
	if (point <= FIXED_LEAST || point > FIXED_MOST)
		return write_scientific(out, digits, n, point - 1);
	if (point <= 0) {
		*at++ = '0';
		*at++ = '.';
		for (; point < 0; point++)
			*at++ = '0';
		memcpy(at, digits, n);
		return (size_t)(at + n - out);
	}
	size_t whole = (size_t)point < n ? (size_t)point : n;
	memcpy(at, digits, whole);
	at += whole;
	for (size_t i = n; i < (size_t)point; i++)
		*at++ = '0';
	*at++ = '.';
	if (whole == n)
		*at++ = '0';
	memcpy(at, digits + whole, n - whole);
	return (size_t)(at + (n - whole) - out);
}

/* Few places behind the point, as most measurements have: n / 10^places is rounded once, so if it
 * gives d then n is how d is written. ret: false: more places than that. */
static bool few_places(double d, struct decimal *ret)
{
	static const double scales[EASY_PLACES + 1] = {1, 10, 100, 1000, 10000};
	for (int places = 0; places <= EASY_PLACES; places++) {
		double scaled = d * scales[places] + 0.5;
		if (scaled >= EASY_MAX)
			return false;
		uint64_t n = (uint64_t)scaled;
		if ((double)n / scales[places] == d) {
			*ret = (struct decimal){n, -places};
			return true;
		}
	}
	return false;
}

size_t num_write_real(char *out, double d)
{
	uint64_t bits, implicit = (uint64_t)1 << FRACTION_BITS;
	struct decimal dec = {0};
	memcpy(&bits, &d, sizeof(bits));
	bool minus = bits >> 63 != 0;
	int exponent = (int)(bits >> FRACTION_BITS & 0x7ff);
	if (minus) {
		*out++ = '-';
		d = -d;
	}
	bool done = d == 0 || (d >= 1e-4 && few_places(d, &dec)) ||
		    (exponent > 0 && shortest((bits & (implicit - 1)) | implicit,
					      exponent - 1023 - FRACTION_BITS, &dec));
	return done ? minus + write_decimal(out, &dec) : 0;
}
