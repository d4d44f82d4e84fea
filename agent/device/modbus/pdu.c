#include "agent/device/modbus/pdu.h"
#include "common/util.h"
#include <assert.h>
#include <string.h>

#define EXCEPTION_FLAG 0x80
#define COIL_ON        0xff00
#define ADDRESSES      65536

/* What a function's request and answer are made of. */
enum shape {
	SHAPE_NONE, /* no function of ours */
	SHAPE_READ_BITS,
	SHAPE_READ_WORDS,
	SHAPE_WRITE_BIT,
	SHAPE_WRITE_WORD,
	SHAPE_WRITE_BITS,
	SHAPE_WRITE_WORDS,
	SHAPE_MASK,
	SHAPE_FIFO,
};

static const struct function {
	enum shape shape;
	uint16_t min, max; /* quantity */
} functions[] = {
	[MODBUS_READ_COILS] = {SHAPE_READ_BITS, 1, MODBUS_READ_BITS_MAX},
	[MODBUS_READ_DISCRETE_INPUTS] = {SHAPE_READ_BITS, 1, MODBUS_READ_BITS_MAX},
	[MODBUS_READ_HOLDING_REGISTERS] = {SHAPE_READ_WORDS, 1, MODBUS_READ_WORDS_MAX},
	[MODBUS_READ_INPUT_REGISTERS] = {SHAPE_READ_WORDS, 1, MODBUS_READ_WORDS_MAX},
	[MODBUS_WRITE_COIL] = {SHAPE_WRITE_BIT, 1, 1},
	[MODBUS_WRITE_REGISTER] = {SHAPE_WRITE_WORD, 1, 1},
	[MODBUS_WRITE_COILS] = {SHAPE_WRITE_BITS, 1, MODBUS_WRITE_BITS_MAX},
	[MODBUS_WRITE_REGISTERS] = {SHAPE_WRITE_WORDS, 1, MODBUS_WRITE_WORDS_MAX},
	[MODBUS_MASK_WRITE_REGISTER] = {SHAPE_MASK, 0, 0},
	[MODBUS_READ_FIFO_QUEUE] = {SHAPE_FIFO, 0, 0},
};

static const struct function *function_of(uint8_t code)
{
	static const struct function none = {0};

	return code < ARRAY_LEN(functions) ? &functions[code] : &none;
}

/* ---- bytes ---- */

static void put_byte(struct modbus_pdu *p, unsigned v)
{
	assert(p->len < MODBUS_PDU_MAX);
	p->bytes[p->len++] = (uint8_t)v;
}

static void put_word(struct modbus_pdu *p, unsigned v)
{
	put_byte(p, v >> 8);
	put_byte(p, v & 0xff);
}

static void put_words(struct modbus_pdu *p, const uint16_t *values, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		put_word(p, values[i]);
}

static unsigned bytes_of_bits(unsigned n)
{
	return (n + 7) / 8;
}

static void put_bits(struct modbus_pdu *p, const uint16_t *values, unsigned n)
{
	for (unsigned at = 0; at < n; at += 8) {
		unsigned byte = 0;

		for (unsigned i = 0; i < 8 && at + i < n; i++)
			byte |= (values[at + i] != 0 ? 1U : 0U) << i;
		put_byte(p, byte);
	}
}

static uint16_t get_word(const uint8_t *b)
{
	return (uint16_t)(b[0] << 8 | b[1]);
}

static void get_words(const uint8_t *b, uint16_t *values, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		values[i] = get_word(b + 2 * (size_t)i);
}

static void get_bits(const uint8_t *b, uint16_t *values, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		values[i] = b[i / 8] >> (i % 8) & 1;
}

/* ---- requests ---- */

int modbus_request_encode(const struct modbus_request *q, struct modbus_pdu *ret, struct err *err)
{
	const struct function *f = function_of(q->function);

	if (f->shape == SHAPE_NONE)
		return err_set(err, ERR_INVAL, "no modbus function %u", q->function);
	if (q->quantity < f->min || q->quantity > f->max)
		return err_set(err, ERR_RANGE, "modbus function %u takes %u to %u values, not %u",
			       q->function, f->min, f->max, q->quantity);
	if (q->address + q->quantity > ADDRESSES)
		return err_set(err, ERR_RANGE, "%u values from modbus address %u on end behind %u",
			       q->quantity, q->address, ADDRESSES - 1);
	ret->len = 0;
	put_byte(ret, q->function);
	put_word(ret, q->address);
	switch (f->shape) {
	case SHAPE_READ_BITS:
	case SHAPE_READ_WORDS:
		put_word(ret, q->quantity);
		break;
	case SHAPE_WRITE_BIT:
		put_word(ret, q->values[0] != 0 ? COIL_ON : 0);
		break;
	case SHAPE_WRITE_WORD:
		put_word(ret, q->values[0]);
		break;
	case SHAPE_WRITE_BITS:
		put_word(ret, q->quantity);
		put_byte(ret, bytes_of_bits(q->quantity));
		put_bits(ret, q->values, q->quantity);
		break;
	case SHAPE_WRITE_WORDS:
		put_word(ret, q->quantity);
		put_byte(ret, 2U * q->quantity);
		put_words(ret, q->values, q->quantity);
		break;
	case SHAPE_MASK:
		put_word(ret, q->and_mask);
		put_word(ret, q->or_mask);
		break;
	case SHAPE_FIFO:
	case SHAPE_NONE:
		break;
	}
	return 0;
}

/* Bytes of a request with a fixed length; of the others those in front of the values. */
static size_t request_head(enum shape shape)
{
	switch (shape) {
	case SHAPE_READ_BITS:
	case SHAPE_READ_WORDS:
	case SHAPE_WRITE_BIT:
	case SHAPE_WRITE_WORD:
		return 5;
	case SHAPE_WRITE_BITS:
	case SHAPE_WRITE_WORDS:
		return 6;
	case SHAPE_MASK:
		return 7;
	case SHAPE_FIFO:
		return 3;
	case SHAPE_NONE:
		break;
	}
	return 1;
}

/* The values of functions 15 and 16. ret: false: there are not as many as the request says. */
static bool take_values(const uint8_t *pdu, size_t len, bool bits, struct modbus_request *q)
{
	unsigned bytes = bits ? bytes_of_bits(q->quantity) : 2U * q->quantity;

	if (pdu[5] != bytes || len != 6 + (size_t)bytes)
		return false;
	if (bits)
		get_bits(pdu + 6, q->values, q->quantity);
	else
		get_words(pdu + 6, q->values, q->quantity);
	return true;
}

enum modbus_exception modbus_request_parse(const uint8_t *pdu, size_t len, struct modbus_request *q)
{
	q->function = len > 0 ? pdu[0] : 0;
	const struct function *f = function_of(q->function);
	bool many = f->shape == SHAPE_WRITE_BITS || f->shape == SHAPE_WRITE_WORDS;
	size_t head = request_head(f->shape);

	if (f->shape == SHAPE_NONE)
		return MODBUS_ILLEGAL_FUNCTION;
	if (many ? len < head : len != head)
		return MODBUS_ILLEGAL_DATA_VALUE;
	q->address = get_word(pdu + 1);
	q->quantity = f->max;
	q->and_mask = q->or_mask = 0;
	switch (f->shape) {
	case SHAPE_READ_BITS:
	case SHAPE_READ_WORDS:
	case SHAPE_WRITE_BITS:
	case SHAPE_WRITE_WORDS:
		q->quantity = get_word(pdu + 3);
		break;
	case SHAPE_WRITE_BIT:
		q->values[0] = get_word(pdu + 3) != 0;
		break;
	case SHAPE_WRITE_WORD:
		q->values[0] = get_word(pdu + 3);
		break;
	case SHAPE_MASK:
		q->and_mask = get_word(pdu + 3);
		q->or_mask = get_word(pdu + 5);
		break;
	case SHAPE_FIFO:
	case SHAPE_NONE:
		break;
	}
	if (q->quantity < f->min || q->quantity > f->max)
		return MODBUS_ILLEGAL_DATA_VALUE;
	if (many && !take_values(pdu, len, f->shape == SHAPE_WRITE_BITS, q))
		return MODBUS_ILLEGAL_DATA_VALUE;
	if (q->address + q->quantity > ADDRESSES)
		return MODBUS_ILLEGAL_DATA_ADDRESS;
	return 0;
}

/* ---- answers ---- */

void modbus_answer_encode(const struct modbus_request *q, const struct modbus_answer *a,
			  struct modbus_pdu *ret)
{
	const struct function *f = function_of(q->function);

	ret->len = 0;
	if (a->exception != 0) {
		put_byte(ret, q->function | EXCEPTION_FLAG);
		put_byte(ret, a->exception);
		return;
	}
	assert(f->shape != SHAPE_NONE);
	put_byte(ret, q->function);
	switch (f->shape) {
	case SHAPE_READ_BITS:
		put_byte(ret, bytes_of_bits(a->quantity));
		put_bits(ret, a->values, a->quantity);
		break;
	case SHAPE_READ_WORDS:
		put_byte(ret, 2U * a->quantity);
		put_words(ret, a->values, a->quantity);
		break;
	case SHAPE_WRITE_BIT:
		put_word(ret, q->address);
		put_word(ret, q->values[0] != 0 ? COIL_ON : 0);
		break;
	case SHAPE_WRITE_WORD:
		put_word(ret, q->address);
		put_word(ret, q->values[0]);
		break;
	case SHAPE_WRITE_BITS:
	case SHAPE_WRITE_WORDS:
		put_word(ret, q->address);
		put_word(ret, q->quantity);
		break;
	case SHAPE_MASK:
		put_word(ret, q->address);
		put_word(ret, q->and_mask);
		put_word(ret, q->or_mask);
		break;
	case SHAPE_FIFO:
		assert(a->quantity <= MODBUS_FIFO_MAX);
		put_word(ret, 2 + 2U * a->quantity);
		put_word(ret, a->quantity);
		put_words(ret, a->values, a->quantity);
		break;
	case SHAPE_NONE:
		break;
	}
}

/* The values that were read. ret: false: not as many as were asked for. */
static bool take_read(const struct modbus_request *q, enum shape shape, const uint8_t *pdu,
		      size_t len, struct modbus_answer *ret)
{
	bool bits = shape == SHAPE_READ_BITS;
	size_t bytes = bits ? bytes_of_bits(q->quantity) : 2 * (size_t)q->quantity;

	if (len != 2 + bytes || pdu[1] != bytes)
		return false;
	if (bits)
		get_bits(pdu + 2, ret->values, q->quantity);
	else
		get_words(pdu + 2, ret->values, q->quantity);
	ret->quantity = q->quantity;
	return true;
}

/* Unlike the other reads it has a byte count of two bytes (6.18). */
static bool take_fifo(const uint8_t *pdu, size_t len, struct modbus_answer *ret)
{
	if (len < 5)
		return false;
	unsigned bytes = get_word(pdu + 1), n = get_word(pdu + 3);
	if (n > MODBUS_FIFO_MAX || bytes != 2 + 2 * n || len != 3 + (size_t)bytes)
		return false;
	get_words(pdu + 5, ret->values, n);
	ret->quantity = (uint16_t)n;
	return true;
}

/* ret: the answer is what the request said, as far as it is said again. */
static bool is_echo(const struct modbus_request *q, enum shape shape, const uint8_t *pdu,
		    size_t len)
{
	if (len != (shape == SHAPE_MASK ? 7 : 5) || get_word(pdu + 1) != q->address)
		return false;
	unsigned word = get_word(pdu + 3);
	switch (shape) {
	case SHAPE_WRITE_BIT:
		return (word != 0) == (q->values[0] != 0);
	case SHAPE_WRITE_WORD:
		return word == q->values[0];
	case SHAPE_WRITE_BITS:
	case SHAPE_WRITE_WORDS:
		return word == q->quantity;
	case SHAPE_MASK:
		return word == q->and_mask && get_word(pdu + 5) == q->or_mask;
	case SHAPE_READ_BITS:
	case SHAPE_READ_WORDS:
	case SHAPE_FIFO:
	case SHAPE_NONE:
		break;
	}
	return false;
}

static bool take_answer(const struct modbus_request *q, const uint8_t *pdu, size_t len,
			struct modbus_answer *ret)
{
	enum shape shape = function_of(q->function)->shape;

	switch (shape) {
	case SHAPE_READ_BITS:
	case SHAPE_READ_WORDS:
		return take_read(q, shape, pdu, len, ret);
	case SHAPE_FIFO:
		return take_fifo(pdu, len, ret);
	case SHAPE_WRITE_BIT:
	case SHAPE_WRITE_WORD:
	case SHAPE_WRITE_BITS:
	case SHAPE_WRITE_WORDS:
	case SHAPE_MASK:
	case SHAPE_NONE:
		break;
	}
	return is_echo(q, shape, pdu, len);
}

int modbus_answer_parse(const struct modbus_request *q, const uint8_t *pdu, size_t len,
			struct modbus_answer *ret, struct err *err)
{
	if (len == 0)
		return err_set(err, ERR_PARSE, "an empty modbus answer");
	if ((pdu[0] & ~EXCEPTION_FLAG) != q->function)
		return err_set(err, ERR_PEER, "a modbus answer of function %u to one of %u", pdu[0],
			       q->function);
	ret->exception = 0;
	ret->quantity = 0;
	if (pdu[0] & EXCEPTION_FLAG) {
		if (len != 2 || pdu[1] == 0)
			return err_set(err, ERR_PARSE, "a modbus exception of %zu bytes, code %u",
				       len, len > 1 ? pdu[1] : 0U);
		ret->exception = pdu[1];
		return 0;
	}
	if (!take_answer(q, pdu, len, ret))
		return err_set(
			err, ERR_PARSE,
			"a modbus answer of function %u, %zu bytes, does not fit its request",
			q->function, len);
	return 0;
}
