/* client_wire.c - one exchange: the request goes out, bytes come in until they are its answer
 * (gateway-devices 2.1, "Request path"). */
#include "agent/device/modbus/client_int.h"
#include "common/util.h"
#include <string.h>

#define ECHO_OVER SIZE_MAX /* it is not looked for any more */

/* Frames have a transaction id, so that no answer is taken for another. */
static bool has_transactions(const struct modbus_client *c)
{
	return c->conf.framing == MODBUS_TCP;
}

/* What is no frame ends the connection: there is nothing to begin anew from. */
static bool ends_at_error(const struct modbus_client *c)
{
	return c->conf.framing == MODBUS_TCP && !c->conf.serial;
}

static size_t encode(const struct modbus_client *c, uint8_t *buf)
{
	const struct modbus_call *call = c->current;
	const struct modbus_frame f = {.transaction = (uint16_t)c->exchanges,
				       .unit = call->unit,
				       .pdu = call->pdu,
				       .len = call->len};

	return modbus_frame_encode(c->conf.framing, &f, buf);
}

/* What a PDU says to the request that is on the wire. */
static int understand(const struct modbus_client *c, const uint8_t *pdu, size_t len,
		      struct modbus_answer *ret, struct err *err)
{
	struct modbus_request q;

	modbus_request_parse(c->current->pdu, c->current->len, &q);
	return modbus_answer_parse(&q, pdu, len, ret, err);
}

void modbus_wire_send(struct modbus_client *c)
{
	uint8_t buf[MODBUS_FRAME_MAX];

	/* Old bytes are none of this exchange. Where transaction ids tell that anyway, they are
	 * left to the framer: half a frame thrown away would be half a frame too much. */
	if (!ends_at_error(c)) {
		stream_drop_input(c->stream);
		modbus_framer_clear(&c->framer);
	}
	c->exchanges++;
	c->stats.requests++;
	c->answer_ms = loop_now_ms(c->loop) + c->conf.request_timeout_ms;
	c->heard_ms = loop_now_ms(c->loop);
	c->echoed = ends_at_error(c) ? ECHO_OVER : 0;
	c->echo_held = false;
	c->overdue = false;
	/* A stream that is broken says so in the next turn; of one that takes nothing no answer
	 * will come. */
	(void)stream_write(c->stream, buf, encode(c, buf), NULL);
}

/* ---- late answers ---- */

/* Bytes of values that are read: what tells answers of a unit and a function apart. */
static unsigned bytes_read(const struct modbus_call *call)
{
	unsigned quantity = call->len == 5 ? (unsigned)call->pdu[3] << 8 | call->pdu[4] : 0;

	switch (call->pdu[0]) {
	case MODBUS_READ_COILS:
	case MODBUS_READ_DISCRETE_INPUTS:
		return (quantity + 7) / 8;
	case MODBUS_READ_HOLDING_REGISTERS:
	case MODBUS_READ_INPUT_REGISTERS:
		return 2 * quantity;
	default:
		return 0;
	}
}

static void note_late(struct modbus_client *c)
{
	const struct modbus_call *call = c->current;
	unsigned bytes = bytes_read(call);

	if (has_transactions(c))
		return;
	if (c->late.unit != call->unit || c->late.function != call->pdu[0] ||
	    c->late.bytes != bytes)
		c->late.answers = 0; /* of an older request: it is long over */
	c->late.answers++;
	c->late.unit = call->unit;
	c->late.function = call->pdu[0];
	c->late.bytes = bytes;
	c->late.until_ms = loop_now_ms(c->loop) + c->conf.request_timeout_ms;
}

/* ret: the frame is an answer that is late. */
static bool take_late(struct modbus_client *c, const struct modbus_frame *f)
{
	if (c->late.answers == 0 || f->unit != c->late.unit ||
	    (f->pdu[0] & 0x7f) != c->late.function)
		return false;
	c->late.answers--;
	return true;
}

bool modbus_wire_must_wait(const struct modbus_client *c, const struct modbus_call *call)
{
	return c->late.answers > 0 && c->late.until_ms > loop_now_ms(c->loop) &&
	       c->late.unit == call->unit && c->late.function == call->pdu[0] &&
	       c->late.bytes == bytes_read(call);
}

/* ---- frames ---- */

static void answered(struct modbus_client *c, const struct modbus_answer *a)
{
	const struct modbus_result r = {.kind = MODBUS_DONE, .answer = a};
	int64_t now_ms = loop_now_ms(c->loop);

	if (c->echo_held)
		c->echo = ECHO_ALWAYS;
	else if (c->echo == ECHO_UNKNOWN)
		c->echo = ECHO_NONE;
	/* Which of the attempts it answers is not known: the answers of the others may come yet,
	 * as long after their request as this one at most. */
	c->late.until_ms = now_ms + c->conf.request_timeout_ms;
	c->send_ms = now_ms + c->conf.request_delay_ms;
	c->stats.answers++;
	c->stats.exceptions += a->exception != 0;
	modbus_client_conclude(c, &r);
}

/* ret: false: the connection is over. */
static bool on_frame(struct modbus_client *c, const struct modbus_frame *f)
{
	struct modbus_answer answer;
	struct err err = {0};
	bool expected = c->current != NULL && f->unit == c->current->unit &&
			(!has_transactions(c) || f->transaction == (uint16_t)c->exchanges);

	if (!expected) {
		if (c->current == NULL)
			(void)take_late(c, f);
		c->stats.discarded++;
		return true;
	}
	int rc = understand(c, f->pdu, f->len, &answer, &err);
	if (rc == 0) {
		answered(c, &answer);
		return true;
	}
	c->stats.discarded++;
	if (rc == ERR_PEER || !ends_at_error(c)) {
		(void)take_late(c, f);
		return true;
	}
	modbus_link_over(c, err.text);
	return false;
}

/* ret: false: the connection is over. */
static bool take_frames(struct modbus_client *c)
{
	struct modbus_frame frame;
	struct err err = {0};
	int rc;

	while ((rc = modbus_framer_next(&c->framer, &frame, &err)) != 0) {
		if (rc < 0) {
			c->stats.discarded++;
			if (!ends_at_error(c))
				continue;
			modbus_link_over(c, err.text);
			return false;
		}
		if (!on_frame(c, &frame))
			return false;
		if (c->freed) /* by somebody who was told */
			return false;
	}
	return true;
}

static bool push(struct modbus_client *c, const uint8_t *bytes, size_t n)
{
	while (n > 0) {
		size_t taken = modbus_framer_push(&c->framer, bytes, n);

		bytes += taken;
		n -= taken;
		if (!take_frames(c))
			return false;
	}
	return true;
}

/* ---- the echo of half duplex adapters ---- */

/* The bytes that came back are none, after all. */
static bool give_up_echo(struct modbus_client *c)
{
	uint8_t sent[MODBUS_FRAME_MAX];
	size_t n = c->echoed;

	c->echoed = ECHO_OVER;
	if (n == ECHO_OVER || n == 0 || c->current == NULL)
		return true;
	(void)encode(c, sent);
	return push(c, sent, n);
}

/* All of the request came back. The answer to a write may look just the same; then what this
 * adapter did before decides. */
static bool whole_echo(struct modbus_client *c)
{
	struct modbus_answer answer;
	bool like_answer = understand(c, c->current->pdu, c->current->len, &answer, NULL) == 0;

	if (like_answer && c->echo == ECHO_NONE)
		return give_up_echo(c);
	c->echoed = ECHO_OVER;
	c->echo_held = like_answer && c->echo == ECHO_UNKNOWN;
	if (!like_answer)
		c->echo = ECHO_ALWAYS;
	return true;
}

/* ret: false: what is left is not for this exchange any more. */
static bool take_echo(struct modbus_client *c, const uint8_t **bytes, size_t *n)
{
	uint8_t sent[MODBUS_FRAME_MAX];
	size_t len = encode(c, sent);

	while (*n > 0 && c->echoed < len && **bytes == sent[c->echoed]) {
		c->echoed++;
		++*bytes;
		--*n;
	}
	if (c->echoed == len)
		return whole_echo(c);
	return *n == 0 || give_up_echo(c);
}

struct modbus_call *modbus_wire_probe(const struct modbus_client *c, const struct modbus_call *call)
{
	static const uint8_t reads[] = {
		[MODBUS_WRITE_COIL] = MODBUS_READ_COILS,
		[MODBUS_WRITE_REGISTER] = MODBUS_READ_HOLDING_REGISTERS,
		[MODBUS_MASK_WRITE_REGISTER] = MODBUS_READ_HOLDING_REGISTERS,
	};
	uint8_t function = call->pdu[0] < sizeof(reads) ? reads[call->pdu[0]] : 0;
	const uint8_t pdu[] = {function, call->pdu[1], call->pdu[2], 0, 1};

	if (function == 0 || ends_at_error(c) || c->echo != ECHO_UNKNOWN || c->probed)
		return NULL;
	struct modbus_call *probe = malloc(sizeof(*probe) + sizeof(pdu));
	if (probe == NULL)
		return NULL;
	*probe = (struct modbus_call){.unit = call->unit, .len = sizeof(pdu)};
	memcpy(probe->pdu, pdu, sizeof(pdu));
	return probe;
}

void modbus_wire_data(struct modbus_client *c, const uint8_t *bytes, size_t n)
{
	c->heard_ms = loop_now_ms(c->loop);
	if (c->current == NULL || c->answer_ms > c->heard_ms)
		c->overdue = false; /* it was the silence; the request's own limit stays */
	if (c->current == NULL && c->late.answers == 0 && !ends_at_error(c))
		return; /* nobody asked */
	if (c->current != NULL && c->echoed != ECHO_OVER && !take_echo(c, &bytes, &n))
		return;
	(void)push(c, bytes, n);
}

/* ---- time ---- */

static bool has_begun(const struct modbus_client *c)
{
	return modbus_framer_waiting(&c->framer) > 0 ||
	       (c->current != NULL && c->echoed != ECHO_OVER && c->echoed > 0);
}

int64_t modbus_wire_silence_at(const struct modbus_client *c)
{
	return c->silence_ms > 0 && has_begun(c) ? c->heard_ms + c->silence_ms : INT64_MAX;
}

void modbus_wire_silence(struct modbus_client *c)
{
	if (!give_up_echo(c))
		return;
	modbus_framer_silence(&c->framer);
	(void)take_frames(c);
}

/* An echo or an answer that looks the same, and then nothing: no adapter that echoes is known, so
 * it was the answer. */
static void held_is_answer(struct modbus_client *c)
{
	struct modbus_answer answer;

	if (understand(c, c->current->pdu, c->current->len, &answer, NULL) < 0)
		return;
	c->echo_held = false;
	answered(c, &answer);
}

void modbus_wire_timeout(struct modbus_client *c)
{
	if (!ends_at_error(c))
		modbus_wire_silence(c);
	if (c->current == NULL || c->freed)
		return;
	if (c->echo_held && c->echo == ECHO_UNKNOWN) {
		held_is_answer(c);
		return;
	}
	note_late(c);
	modbus_client_timed_out(c);
}
