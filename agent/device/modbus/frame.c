#include "agent/device/modbus/frame.h"
#include "common/util.h"
#include <assert.h>
#include <string.h>

#define MBAP_BYTES    7
#define MBAP_LEN_MIN  2 /* unit and a function */
#define MBAP_LEN_MAX  (1 + MODBUS_PDU_MAX)
#define RTU_MIN       4 /* unit, function, CRC */
#define RTU_MAX       (1 + MODBUS_PDU_MAX + 2)
#define ASCII_MIN     3 /* unit, function, LRC */
#define ASCII_DIGITS  (2 * (1 + MODBUS_PDU_MAX + 1))
#define EXCEPTION_LEN 5

/* ---- check sums ---- */

/* CRC-16 with the polynomial 0xa001 (serial line V1.02, 6.2.2), four bytes at a time: in noise it
 * is made of as many bytes at every place where a frame may begin. Its tables are linear: an entry
 * is the sum of those of its bits. */
#define BIT(i, k, sum) (((i) >> (k)&1) != 0 ? (sum) : 0)
#define SUM(i, a, b, c, d, e, f, g, h)                                                             \
	(BIT(i, 0, a) ^ BIT(i, 1, b) ^ BIT(i, 2, c) ^ BIT(i, 3, d) ^ BIT(i, 4, e) ^ BIT(i, 5, f) ^ \
	 BIT(i, 6, g) ^ BIT(i, 7, h))
#define LAST(i)        SUM(i, 0xc0c1, 0xc181, 0xc301, 0xc601, 0xcc01, 0xd801, 0xf001, 0xa001)
#define THIRD(i)       SUM(i, 0x9001, 0x6001, 0xc002, 0xc007, 0xc00d, 0xc019, 0xc031, 0xc061)
#define SECOND(i)      SUM(i, 0xc051, 0xc0a1, 0xc141, 0xc281, 0xc501, 0xca01, 0xd401, 0xe801)
#define FIRST(i)       SUM(i, 0xfc01, 0xb801, 0x3001, 0x6002, 0xc004, 0xc00b, 0xc015, 0xc029)
#define OF_4(entry, i) entry(i), entry((i) + 1), entry((i) + 2), entry((i) + 3)
#define OF_16(entry, i) \
	OF_4(entry, i), OF_4(entry, (i) + 4), OF_4(entry, (i) + 8), OF_4(entry, (i) + 12)
#define OF_64(entry, i) \
	OF_16(entry, i), OF_16(entry, (i) + 16), OF_16(entry, (i) + 32), OF_16(entry, (i) + 48)
#define OF_256(entry) OF_64(entry, 0), OF_64(entry, 64), OF_64(entry, 128), OF_64(entry, 192)

static uint16_t crc16(const uint8_t *bytes, size_t n)
{
	static const uint16_t first[] = {OF_256(FIRST)}, second[] = {OF_256(SECOND)},
			      third[] = {OF_256(THIRD)}, last[] = {OF_256(LAST)};
	uint16_t crc = 0xffff;

	for (; n >= 4; n -= 4, bytes += 4)
		crc = (uint16_t)(first[(crc ^ bytes[0]) & 0xff] ^
				 second[(crc >> 8 ^ bytes[1]) & 0xff] ^ third[bytes[2]] ^
				 last[bytes[3]]);
	for (; n > 0; n--)
		crc = (uint16_t)(crc >> 8 ^ last[(crc ^ *bytes++) & 0xff]);
	return crc;
}

static uint8_t lrc(const uint8_t *bytes, size_t n)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return (uint8_t)-sum;
}

/* ---- writing ---- */

static size_t encode_tcp(const struct modbus_frame *f, uint8_t *buf)
{
	size_t len = 1 + f->len;

	buf[0] = (uint8_t)(f->transaction >> 8);
	buf[1] = (uint8_t)f->transaction;
	buf[2] = buf[3] = 0;
	buf[4] = (uint8_t)(len >> 8);
	buf[5] = (uint8_t)len;
	buf[6] = f->unit;
	memcpy(buf + MBAP_BYTES, f->pdu, f->len);
	return MBAP_BYTES + f->len;
}

static size_t encode_rtu(const struct modbus_frame *f, uint8_t *buf)
{
	size_t n = 1 + f->len;

	buf[0] = f->unit;
	memcpy(buf + 1, f->pdu, f->len);
	uint16_t crc = crc16(buf, n);
	buf[n++] = (uint8_t)crc;
	buf[n++] = (uint8_t)(crc >> 8);
	return n;
}

static uint8_t *put_digits(uint8_t *at, uint8_t byte)
{
	static const char digits[] = "0123456789ABCDEF";

	*at++ = (uint8_t)digits[byte >> 4];
	*at++ = (uint8_t)digits[byte & 0xf];
	return at;
}

static size_t encode_ascii(const struct modbus_frame *f, uint8_t *buf)
{
	uint8_t *at = buf;

	*at++ = ':';
	at = put_digits(at, f->unit);
	for (size_t i = 0; i < f->len; i++)
		at = put_digits(at, f->pdu[i]);
	at = put_digits(at, (uint8_t)(lrc(f->pdu, f->len) - f->unit));
	*at++ = '\r';
	*at++ = '\n';
	return (size_t)(at - buf);
}

size_t modbus_frame_encode(enum modbus_framing framing, const struct modbus_frame *f, uint8_t *buf)
{
	static size_t (*const encode[])(const struct modbus_frame *f, uint8_t *buf) = {
		[MODBUS_TCP] = encode_tcp,
		[MODBUS_RTU] = encode_rtu,
		[MODBUS_ASCII] = encode_ascii,
	};

	assert(f->len > 0 && f->len <= MODBUS_PDU_MAX);
	return encode[framing](f, buf);
}

/* ---- reading: what the bytes at some place are ---- */

enum verdict {
	MORE,  /* the beginning of a frame */
	FRAME, /* of `bytes` */
	SKIP,  /* `bytes` that are no frame; why */
};

struct look {
	enum verdict verdict;
	size_t bytes;
	const char *why;
};

static struct look skip(size_t bytes, const char *why)
{
	return (struct look){SKIP, bytes, why};
}

static struct look look_tcp(struct modbus_framer *f, const uint8_t *b, size_t n, bool silent,
			    struct modbus_frame *ret)
{
	(void)f;
	(void)silent;
	if ((n > 2 && b[2] != 0) || (n > 3 && b[3] != 0))
		return skip(1, "the protocol id is not 0");
	if (n < 6)
		return (struct look){.verdict = MORE};
	size_t len = (size_t)b[4] << 8 | b[5];
	if (len < MBAP_LEN_MIN || len > MBAP_LEN_MAX)
		return skip(1, "the length is impossible");
	if (n < 6 + len)
		return (struct look){.verdict = MORE};
	*ret = (struct modbus_frame){.transaction = (uint16_t)(b[0] << 8 | b[1]),
				     .unit = b[6],
				     .pdu = b + MBAP_BYTES,
				     .len = len - 1};
	return (struct look){.verdict = FRAME, .bytes = 6 + len};
}

/* Length of an RTU frame by its function: `fixed`, and what the count of one or two bytes at
 * count_at says. Functions that we do not have but the standard has are there, so that a slave can
 * refuse them without waiting for silence. */
struct rtu_length {
	uint8_t fixed, count_at, count_bytes;
};

static const struct rtu_length rtu_requests[] = {
	[1] = {8, 0, 0},   [2] = {8, 0, 0},    [3] = {8, 0, 0},  [4] = {8, 0, 0},  [5] = {8, 0, 0},
	[6] = {8, 0, 0},   [7] = {4, 0, 0},    [8] = {8, 0, 0},  [11] = {4, 0, 0}, [12] = {4, 0, 0},
	[15] = {9, 6, 1},  [16] = {9, 6, 1},   [17] = {4, 0, 0}, [20] = {5, 2, 1}, [21] = {5, 2, 1},
	[22] = {10, 0, 0}, [23] = {13, 10, 1}, [24] = {6, 0, 0},
};

static const struct rtu_length rtu_answers[] = {
	[1] = {5, 2, 1}, [2] = {5, 2, 1},  [3] = {5, 2, 1},  [4] = {5, 2, 1},   [5] = {8, 0, 0},
	[6] = {8, 0, 0}, [15] = {8, 0, 0}, [16] = {8, 0, 0}, [22] = {10, 0, 0}, [24] = {6, 2, 2},
};

/* ret: NULL: it cannot be told. */
static const struct rtu_length *rtu_length(bool requests, uint8_t function)
{
	static const struct rtu_length exception = {EXCEPTION_LEN, 0, 0};
	const struct rtu_length *table = requests ? rtu_requests : rtu_answers;
	size_t n = requests ? ARRAY_LEN(rtu_requests) : ARRAY_LEN(rtu_answers);

	if (function & 0x80)
		return requests ? NULL : &exception;
	return function < n && table[function].fixed > 0 ? &table[function] : NULL;
}

static struct look rtu_frame(const uint8_t *b, size_t n, struct modbus_frame *ret)
{
	if (crc16(b, n - 2) != (b[n - 2] | b[n - 1] << 8))
		return skip(1, "the CRC is wrong");
	*ret = (struct modbus_frame){.unit = b[0], .pdu = b + 1, .len = n - 3};
	return (struct look){.verdict = FRAME, .bytes = n};
}

/* A request of an unknown function ends at the silence, if its CRC fits. It is looked for only
 * where a frame must begin: anywhere in noise a CRC fits now and then. */
static struct look rtu_unknown(const struct modbus_framer *f, const uint8_t *b, size_t n,
			       bool silent, struct modbus_frame *ret)
{
	if (!f->requests || f->lost || n > RTU_MAX)
		return skip(1, "an unknown function");
	if (!silent)
		return (struct look){.verdict = MORE};
	if (n < RTU_MIN)
		return skip(1, "too short");
	return rtu_frame(b, n, ret);
}

static struct look look_rtu(struct modbus_framer *f, const uint8_t *b, size_t n, bool silent,
			    struct modbus_frame *ret)
{
	if (n < 2)
		return (struct look){.verdict = MORE};
	const struct rtu_length *length = rtu_length(f->requests, b[1]);
	if (length == NULL)
		return rtu_unknown(f, b, n, silent, ret);
	size_t need = length->fixed;
	if (n < (size_t)length->count_at + length->count_bytes)
		return (struct look){.verdict = MORE};
	for (size_t i = 0, count = 0; i < length->count_bytes; i++) {
		count = count << 8 | b[length->count_at + i];
		need = length->fixed + count;
	}
	if (need > RTU_MAX)
		return skip(1, "the byte count is impossible");
	if (n < need)
		return (struct look){.verdict = MORE};
	return rtu_frame(b, need, ret);
}

static int digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* ret: where the digits end; an error if that is no end of a frame. */
static struct look ascii_end(const uint8_t *b, size_t n)
{
	size_t at = 1;

	while (at < n && digit(b[at]) >= 0)
		at++;
	if (at - 1 > ASCII_DIGITS)
		return skip(at, "too long");
	if (at == n)
		return (struct look){.verdict = MORE};
	if (b[at] == ':')
		return skip(at, "cut off by another ':'");
	if (b[at] != '\r')
		return skip(at + 1, b[at] == '\n' ? "LF without CR" : "a byte that is no digit");
	if (at + 1 == n)
		return (struct look){.verdict = MORE};
	if (b[at + 1] != '\n')
		return skip(at + 1, "CR without LF");
	return (struct look){.verdict = FRAME, .bytes = at + 2};
}

static struct look look_ascii(struct modbus_framer *f, const uint8_t *b, size_t n, bool silent,
			      struct modbus_frame *ret)
{
	(void)silent;
	if (b[0] != ':')
		return skip(1, "bytes outside of a frame");
	struct look k = ascii_end(b, n);
	if (k.verdict != FRAME)
		return k;
	size_t digits = k.bytes - 3, bytes = digits / 2;
	if (digits % 2 != 0)
		return skip(k.bytes, "an odd number of digits");
	if (bytes < ASCII_MIN)
		return skip(k.bytes, "too short");
	for (size_t i = 0; i < bytes; i++)
		f->decoded[i] = (uint8_t)((unsigned)digit(b[1 + 2 * i]) << 4 |
					  (unsigned)digit(b[2 + 2 * i]));
	if (lrc(f->decoded, bytes - 1) != f->decoded[bytes - 1])
		return skip(k.bytes, "the LRC is wrong");
	*ret = (struct modbus_frame){
		.unit = f->decoded[0], .pdu = f->decoded + 1, .len = bytes - 2};
	return k;
}

/* ---- the framer ---- */

void modbus_framer_init(struct modbus_framer *f, enum modbus_framing framing, bool requests)
{
	*f = (struct modbus_framer){.framing = framing, .requests = requests};
}

size_t modbus_framer_push(struct modbus_framer *f, const uint8_t *bytes, size_t n)
{
	if (f->used > 0) {
		f->len -= f->used;
		f->silent -= f->silent > 0 ? f->used : 0;
		memmove(f->buf, f->buf + f->used, f->len);
		f->used = 0;
	}
	if (n > sizeof(f->buf) - f->len)
		n = sizeof(f->buf) - f->len;
	if (n > 0)
		memcpy(f->buf + f->len, bytes, n);
	f->len += n;
	return n;
}

static struct look look(struct modbus_framer *f, struct modbus_frame *ret)
{
	static struct look (*const looks[])(struct modbus_framer * f, const uint8_t *b, size_t n,
					    bool silent, struct modbus_frame *ret) = {
		[MODBUS_TCP] = look_tcp,
		[MODBUS_RTU] = look_rtu,
		[MODBUS_ASCII] = look_ascii,
	};
	bool silent = f->silent > 0;
	size_t n = (silent ? f->silent : f->len) - f->used;

	if (n == 0)
		return (struct look){.verdict = MORE};
	struct look k = looks[f->framing](f, f->buf + f->used, n, silent, ret);
	if (k.verdict == MORE && silent) /* there is no more of it */
		k = skip(1, "cut off by silence");
	return k;
}

int modbus_framer_next(struct modbus_framer *f, struct modbus_frame *ret, struct err *err)
{
	for (;;) {
		struct look k = look(f, ret);
		bool told = f->lost;

		if (k.verdict == MORE)
			return 0;
		f->used += k.bytes;
		f->lost = k.verdict == SKIP;
		if (f->used == f->silent) { /* whatever it was, the next byte begins a frame */
			f->silent = 0;
			f->lost = false;
		}
		if (k.verdict == FRAME)
			return 1;
		f->garbage += k.bytes;
		if (!told)
			return err_set(err, ERR_PARSE, "no modbus frame: %s", k.why);
	}
}

void modbus_framer_silence(struct modbus_framer *f)
{
	f->lost = f->lost && f->len > f->used;
	f->silent = f->len > f->used ? f->len : 0;
}

void modbus_framer_clear(struct modbus_framer *f)
{
	f->len = f->used = f->silent = 0;
	f->lost = false;
}

size_t modbus_framer_waiting(const struct modbus_framer *f)
{
	return f->len - f->used;
}
