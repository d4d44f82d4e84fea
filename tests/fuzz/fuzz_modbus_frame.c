/* fuzz: agent */
/* Any bytes as a stream of frames: however they are cut, the same frames and errors come out, every
 * frame is what it would be when it is written again, and a good frame behind it all is found once
 * the line has been silent. First byte: framing and side; second: how the rest is cut. */
#include "agent/device/modbus/frame.h"
#include "common/util.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What came out, as a running sum and as numbers. */
struct seen {
	uint64_t sum;
	unsigned frames, errors;
	uint8_t last_unit, last_function;
};

static void mix(struct seen *s, unsigned v)
{
	s->sum = (s->sum ^ v) * 1099511628211U;
}

static void check_frame(const struct modbus_framer *f, const struct modbus_frame *m)
{
	uint8_t buf[MODBUS_FRAME_MAX];
	size_t n = modbus_frame_encode(f->framing, m, buf), from = f->used - n;

	assert(n <= sizeof(buf) && f->used >= n && f->used <= f->len);
	for (size_t i = 0; i < n; i++)
		assert(f->framing == MODBUS_ASCII ? toupper(f->buf[from + i]) == buf[i]
						  : f->buf[from + i] == buf[i]);
}

static void take_all(struct modbus_framer *f, struct seen *s)
{
	struct modbus_frame m;
	struct err err = {0};
	int rc;

	while ((rc = modbus_framer_next(f, &m, &err)) != 0) {
		assert(f->used <= f->len && f->len <= sizeof(f->buf));
		if (rc < 0) {
			assert(rc == ERR_PARSE && err.code == rc);
			s->errors++;
			mix(s, 0x100);
			continue;
		}
		assert(m.len > 0 && m.len <= MODBUS_PDU_MAX);
		check_frame(f, &m);
		s->frames++;
		s->last_unit = m.unit;
		s->last_function = m.pdu[0];
		mix(s, m.transaction);
		mix(s, m.unit);
		for (size_t i = 0; i < m.len; i++)
			mix(s, m.pdu[i]);
	}
	assert(f->silent == 0);
}

/* cut: how long the pieces are, a running number; 0: as long as they fit. A byte 0xf5 of the input
 * is silence. */
static void feed(struct modbus_framer *f, const uint8_t *data, size_t size, unsigned cut,
		 struct seen *s)
{
	size_t at = 0;

	while (at < size) {
		const uint8_t *silence = memchr(data + at, 0xf5, size - at);
		size_t end = silence != NULL ? (size_t)(silence - data) : size;

		while (at < end) {
			size_t n = cut == 0 ? end - at : 1 + cut % 13;

			cut = cut == 0 ? 0 : cut * 5 + 3;
			n = n < end - at ? n : end - at;
			at += modbus_framer_push(f, data + at, n);
			take_all(f, s);
		}
		if (silence != NULL) {
			modbus_framer_silence(f);
			take_all(f, s);
			assert(modbus_framer_waiting(f) == 0);
			at++;
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct modbus_framer f;
	static const uint8_t coil[] = {MODBUS_WRITE_COIL, 0, 1, 0xff, 0}; /* looks the same on both
									     sides */
	const struct modbus_frame good = {.unit = 17, .pdu = coil, .len = sizeof(coil)};
	uint8_t buf[MODBUS_FRAME_MAX];
	struct seen whole = {0}, pieces = {0};
	uint64_t garbage;

	if (size < 2)
		return 0;
	enum modbus_framing framing = (enum modbus_framing)(data[0] % 3);
	bool requests = data[0] / 3 % 2;
	modbus_framer_init(&f, framing, requests);
	feed(&f, data + 2, size - 2, 0, &whole);
	garbage = f.garbage;
	modbus_framer_init(&f, framing, requests);
	feed(&f, data + 2, size - 2, 1U + data[1], &pieces);
	assert(whole.sum == pieces.sum && whole.frames == pieces.frames &&
	       whole.errors == pieces.errors && garbage == f.garbage);

	modbus_framer_silence(&f);
	take_all(&f, &pieces);
	assert(modbus_framer_waiting(&f) == 0);
	unsigned before = pieces.frames;
	size_t n = modbus_frame_encode(framing, &good, buf);
	assert(modbus_framer_push(&f, buf, n) == n);
	take_all(&f, &pieces);
	assert(pieces.frames == before + 1 && pieces.last_unit == 17 &&
	       pieces.last_function == MODBUS_WRITE_COIL);
	return 0;
}
