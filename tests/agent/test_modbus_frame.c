/* Frames in streams of bytes: the vectors of gateway-devices 3.13, and what noise does. */
#include "agent/device/modbus/frame.h"
#include "common/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STREAM_MAX 8192
#define LOG_MAX    65536

/* A stream as text: two hex digits a byte, 'text' as it is, '|' silence, '~' CR LF; spaces between
 * them. */
struct stream {
	uint8_t bytes[STREAM_MAX];
	size_t n, silences[16], n_silences;
};

static void stream_parse(const char *text, struct stream *s)
{
	*s = (struct stream){0};
	for (const char *t = text; *t != '\0'; t++) {
		if (*t == '\'') {
			for (t++; *t != '\''; t++)
				s->bytes[s->n++] = (uint8_t)*t;
		} else if (*t == '~') {
			s->bytes[s->n++] = '\r';
			s->bytes[s->n++] = '\n';
		} else if (*t == '|') {
			s->silences[s->n_silences++] = s->n;
		} else if (*t != ' ') {
			const char pair[] = {t[0], t[1], '\0'};
			s->bytes[s->n++] = (uint8_t)strtoul(pair, NULL, 16);
			t++;
		}
	}
}

static void take_all(struct modbus_framer *f, char *log)
{
	struct modbus_frame frame;
	struct err err = {0};
	int rc;

	while ((rc = modbus_framer_next(f, &frame, &err)) != 0) {
		size_t at = strlen(log);

		assert_true(at < LOG_MAX - 1000);
		if (rc < 0) {
			assert_int_equal(rc, ERR_PARSE);
			assert_string_not_equal(err.text, "");
			snprintf(log + at, LOG_MAX - at, "! ");
			continue;
		}
		if (f->framing == MODBUS_TCP)
			at += (size_t)snprintf(log + at, LOG_MAX - at, "%u/", frame.transaction);
		at += (size_t)snprintf(log + at, LOG_MAX - at, "%u:", frame.unit);
		for (size_t i = 0; i < frame.len; i++)
			at += (size_t)snprintf(log + at, LOG_MAX - at, "%02x", frame.pdu[i]);
		snprintf(log + at, LOG_MAX - at, " ");
	}
}

/* All that comes out when the stream is fed in pieces of at most `piece` bytes: frames as
 * "unit:pdu", errors as "!". */
static const char *frames_of(const struct stream *s, enum modbus_framing framing, bool requests,
			     size_t piece, uint64_t *ret_garbage)
{
	static char log[LOG_MAX];
	static struct modbus_framer f;
	size_t silence = 0;

	log[0] = '\0';
	modbus_framer_init(&f, framing, requests);
	for (size_t at = 0;;) {
		for (; silence < s->n_silences && s->silences[silence] == at; silence++) {
			modbus_framer_silence(&f);
			take_all(&f, log);
		}
		size_t end = silence < s->n_silences ? s->silences[silence] : s->n;
		size_t n = end - at < piece ? end - at : piece;
		if (at == s->n)
			break;
		at += modbus_framer_push(&f, s->bytes + at, n);
		take_all(&f, log);
	}
	*ret_garbage = f.garbage;
	if (log[0] != '\0')
		log[strlen(log) - 1] = '\0';
	return log;
}

/* All pieces give the same. */
static void check(const char *text, enum modbus_framing framing, bool requests,
		  const char *expected)
{
	static const size_t pieces[] = {STREAM_MAX, 1, 2, 3, 7, 250};
	struct stream s;
	uint64_t garbage = 0, first = 0;

	stream_parse(text, &s);
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		const char *got = frames_of(&s, framing, requests, pieces[i], &garbage);

		if (strcmp(got, expected) != 0)
			fail_msg("%s in pieces of %zu: '%s'", text, pieces[i], got);
		if (i == 0)
			first = garbage;
		assert_int_equal(garbage, first);
	}
}

static void the_vectors_are_written_and_read(void **state)
{
	static const struct {
		enum modbus_framing framing;
		bool requests;
		uint8_t unit;
		const char *pdu, *stream, *frame;
	} cases[] = {
		/* gateway-devices 3.13 */
		{MODBUS_ASCII, true, 1, "0300050001", "':010300050001F6' ~", "1:0300050001"},
		{MODBUS_ASCII, false, 1, "0302004d", "':010302004DAD' ~", "1:0302004d"},
		{MODBUS_ASCII, true, 1, "060005004d", "':01060005004DA7' ~", "1:060005004d"},
		{MODBUS_ASCII, false, 1, "060005004d", "':01060005004DA7' ~", "1:060005004d"},
		/* MODBUS over Serial Line, figure 25: CRC of 02 07 is 0x1241 */
		{MODBUS_RTU, true, 2, "07", "02 07 41 12", "2:07"},
		{MODBUS_RTU, true, 1, "0300050001", "01 03 00 05 00 01 94 0B", "1:0300050001"},
		{MODBUS_RTU, false, 1, "0302004d", "01 03 02 00 4D 78 71", "1:0302004d"},
		{MODBUS_RTU, false, 1, "8302", "01 83 02 C0 F1", "1:8302"},
		/* MODBUS Messaging on TCP/IP V1.0b, 3.1.3 */
		{MODBUS_TCP, true, 255, "0300050001", "15 01 00 00 00 06 FF 03 00 05 00 01",
		 "5377/255:0300050001"},
		{MODBUS_TCP, false, 255, "03020005", "15 01 00 00 00 05 FF 03 02 00 05",
		 "5377/255:03020005"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct stream pdu, bytes;
		uint8_t buf[MODBUS_FRAME_MAX];

		stream_parse(cases[i].pdu, &pdu);
		stream_parse(cases[i].stream, &bytes);
		struct modbus_frame f = {.transaction = 0x1501,
					 .unit = cases[i].unit,
					 .pdu = pdu.bytes,
					 .len = pdu.n};
		assert_int_equal(modbus_frame_encode(cases[i].framing, &f, buf), bytes.n);
		assert_memory_equal(buf, bytes.bytes, bytes.n);
		check(cases[i].stream, cases[i].framing, cases[i].requests, cases[i].frame);
	}
}

#define READ5 "01 03 00 05 00 01 94 0B"
#define IS77  "01 03 02 00 4D 78 71"

static void rtu_requests_are_found_in_noise(void **state)
{
	static const struct {
		const char *stream, *frames;
	} cases[] = {
		{READ5 READ5, "1:0300050001 1:0300050001"},
		/* behind a wrong CRC, at once */
		{"01 03 00 05 00 01 94 0C" READ5 READ5, "! 1:0300050001 1:0300050001"},
		/* behind a byte that makes a read of coils of it: unit 7, function 1 */
		{"07" READ5 "|", "! 1:0300050001"},
		/* behind bytes that begin no request */
		{"55 AA 55" READ5 "|", "! 1:0300050001"},
		{"FF FF FF FF" READ5 "|" READ5, "! 1:0300050001 1:0300050001"},
		/* behind the beginning of a long write, when the line gets silent */
		{"01 10 00 00 00 40 80" READ5, ""},
		{"01 10 00 00 00 40 80" READ5 "|", "! 1:0300050001"},
		/* split by silence: two pieces of nothing */
		{"01 03 00 05 | 00 01 94 0B", "!"},
		{"01 03 00 05 | 00 01 94 0B |", "! !"},
		{"01 03 00 05 |" READ5, "! 1:0300050001"},
		/* of others on the line: an answer, an exception */
		{"02 03 02 00 4D 3C 71 |" READ5 "|", "! 1:0300050001"},
		{"02 83 02 30 F1 |" READ5, "2:8302 1:0300050001"},
		/* write of two registers, of ten coils; mask; queue */
		{"01 10 00 01 00 02 04 00 0A 01 02 92 30", "1:100001000204000a0102"},
		{"01 0F 00 13 00 0A 02 CD 01 72 CB", "1:0f0013000a02cd01"},
		{"01 16 00 04 00 F2 00 25 60 E1", "!"},
		{"", ""},
		{"|", ""},
		{"01", ""},
		{"01 |", "!"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		check(cases[i].stream, MODBUS_RTU, true, cases[i].frames);
}

static const char *rtu_text(const char *pdu_text, char *text)
{
	struct stream pdu;
	uint8_t buf[MODBUS_FRAME_MAX];

	stream_parse(pdu_text, &pdu);
	struct modbus_frame f = {.unit = 1, .pdu = pdu.bytes, .len = pdu.n};
	size_t n = modbus_frame_encode(MODBUS_RTU, &f, buf);
	text[0] = '\0';
	for (size_t i = 0; i < n; i++)
		snprintf(text + 2 * i, 3, "%02x", buf[i]);
	return text;
}

/* So that a slave can answer exception 1. */
static void rtu_requests_of_unknown_functions_end_somewhere(void **state)
{
	static const struct {
		const char *pdu;
		bool at_once; /* the standard tells the length */
	} cases[] = {
		{"07", true},
		{"0800001234", true},
		{"0b", true},
		{"11", true},
		{"140706000400010002", true},
		{"170003000600 0e00030600ff00ff00ff", true},
		{"2b0e0100", false},
		{"41", false},
		{"64010203040506070809", false},
		{"00", false},
	};
	char frame[2 * MODBUS_FRAME_MAX], stream[3 * MODBUS_FRAME_MAX],
		expected[3 * MODBUS_FRAME_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_t at = 0;

		for (const char *t = cases[i].pdu; *t != '\0'; t++)
			if (*t != ' ')
				frame[at++] = *t;
		frame[at] = '\0';
		snprintf(expected, sizeof(expected), "1:%s 1:0300050001", frame);
		rtu_text(cases[i].pdu, frame);
		snprintf(stream, sizeof(stream), "%s %s" READ5, frame, cases[i].at_once ? "" : "|");
		check(stream, MODBUS_RTU, true, expected);
	}
	/* none with a CRC that does not fit */
	check("01 41 12 34 |" READ5, MODBUS_RTU, true, "! 1:0300050001");
}

static void rtu_answers_are_found_in_noise(void **state)
{
	static const struct {
		const char *stream, *frames;
	} cases[] = {
		{IS77 IS77, "1:0302004d 1:0302004d"},
		{"01 03 02 00 4D 78 72" IS77 "|", "! 1:0302004d"},
		{"55" IS77 "|", "! 1:0302004d"},
		{"01 41 00 00" IS77 "|", "! 1:0302004d"},
		{"01 03 FC" IS77 "|", "! 1:0302004d"},
		/* an echo of the request */
		{READ5 IS77 "|", "! 1:0302004d"},
		/* the answer of function 24 has a count of two bytes */
		{"01 18 00 06 00 02 01 B8 12 84", ""},
	};
	char queue[2 * MODBUS_FRAME_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		check(cases[i].stream, MODBUS_RTU, false, cases[i].frames);
	check(rtu_text("18 00 06 00 02 01 B8 12 84", queue), MODBUS_RTU, false,
	      "1:180006000201b81284");
	check(rtu_text("16 00 04 00 F2 00 25", queue), MODBUS_RTU, false, "1:16000400f20025");
	check(rtu_text("0F 00 13 00 0A", queue), MODBUS_RTU, false, "1:0f0013000a");
}

static void ascii_is_read_in_both_cases_and_resynchronises(void **state)
{
	static const struct {
		const char *stream, *frames;
	} cases[] = {
		{"':010302004DAD' ~", "1:0302004d"},
		{"':010302004dad' ~", "1:0302004d"},
		{"':010302004dAD' ~ ':010302004Dad' ~", "1:0302004d 1:0302004d"},
		{"':010302004DAE' ~ ':010302004DAD' ~", "! 1:0302004d"},
		/* odd digits */
		{"':010302004DA' ~ ':010302004DAD' ~", "! 1:0302004d"},
		/* another ':' begins anew */
		{"':0103:010302004DAD' ~", "! 1:0302004d"},
		{"'::::010302004DAD' ~", "! 1:0302004d"},
		/* no CR, no LF, another byte */
		{"':010302004DAD' 0A ':010302004DAD' ~", "! 1:0302004d"},
		{"':010302004DAD' 0D ':010302004DAD' ~", "! 1:0302004d"},
		{"':010302004DAD:010302004DAD' ~", "! 1:0302004d"},
		{"':0103 0200 4DAD' ~ ':010302004DAD' ~", "! 1:0302004d"},
		{"':0103G2004DAD' ~ ':010302004DAD' ~", "! 1:0302004d"},
		/* nothing in it */
		{"':' ~ ':0101' ~ ':010302004DAD' ~", "! 1:0302004d"},
		{"'noise' ~ ':010302004DAD' ~", "! 1:0302004d"},
		/* 1 s without a byte */
		{"':010302' | '004DAD' ~ ':010302004DAD' ~", "! ! 1:0302004d"},
		{"':010302' | ':010302004DAD' ~", "! 1:0302004d"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		check(cases[i].stream, MODBUS_ASCII, false, cases[i].frames);
}

static void ascii_that_never_ends_is_skipped(void **state)
{
	static char text[STREAM_MAX + 100];
	static const char good[] = "' ~ ':010302004DAD' ~";

	(void)state;
	text[0] = '\'';
	text[1] = ':';
	memset(text + 2, '0', 3000);
	strcpy(text + 3002, good);
	check(text, MODBUS_ASCII, false, "! 1:0302004d");
	/* the longest is fine, one byte more is not */
	for (size_t bytes = 255; bytes <= 256; bytes++) {
		static char expected[1000];

		memset(text + 2, '0', 2 * bytes);
		strcpy(text + 2 + 2 * bytes, "' ~");
		strcpy(expected, "0:");
		memset(expected + 2, '0', 506);
		expected[508] = '\0';
		check(text, MODBUS_ASCII, false, bytes == 255 ? expected : "!");
	}
}

static void tcp_frames_need_a_possible_header(void **state)
{
	static const struct {
		const char *stream, *frames;
	} cases[] = {
		{"0001 0000 0005 01 03 02 00 4D 0002 0000 0003 01 83 02", "1/1:0302004d 2/1:8302"},
		{"0001 0001 0005 01 03 02 00 4D", "!"},
		{"0001 0100 0005 01 03 02 00 4D", "!"},
		{"0001 0000 0000 01 03 02 00 4D", "!"},
		{"0001 0000 0001 01 03 02 00 4D", "!"},
		{"0001 0000 0002 01 03", "1/1:03"},
		{"0001 0000 00FE 01 03 02 00 4D", ""},
		{"0001 0000 00FF 01 03 02 00 4D", "!"},
		{"0001 0000 FFFF 01 03 02 00 4D", "!"},
		/* on a serial line there is silence to begin anew from */
		{"0001 0000 0005 01 03 | 0002 0000 0003 01 83 02", "! 2/1:8302"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		check(cases[i].stream, MODBUS_TCP, false, cases[i].frames);
}

/* Frames with noise between them, some broken: however it is cut, the same comes out. */
static void pieces_do_not_matter(void **state)
{
	unsigned seed = 1;

	(void)state;
	for (unsigned round = 0; round < 600; round++) {
		static struct stream s;
		enum modbus_framing framing = (enum modbus_framing)(round % 3);
		bool requests = round % 2 == 0;
		uint64_t garbage, garbage_bytewise;
		static char whole[LOG_MAX];

		s.n = s.n_silences = 0;
		while (s.n < 2000) {
			uint8_t pdu[MODBUS_PDU_MAX];
			size_t len = 1 + (unsigned)rand_r(&seed) % 12;

			for (size_t i = 0; i < len; i++)
				pdu[i] = (uint8_t)(rand_r(&seed) % 6);
			pdu[0] = (uint8_t)(1 + rand_r(&seed) % 6);
			if (len >= 2 && !requests)
				pdu[1] = (uint8_t)(len - 2);
			struct modbus_frame f = {.unit = 1, .pdu = pdu, .len = len};
			size_t n = modbus_frame_encode(framing, &f, s.bytes + s.n);
			if (rand_r(&seed) % 4 == 0)
				s.bytes[s.n + (unsigned)rand_r(&seed) % n] = (uint8_t)rand_r(&seed);
			s.n += n;
			for (unsigned noise = (unsigned)rand_r(&seed) % 8; noise > 5; noise--)
				s.bytes[s.n++] = (uint8_t)rand_r(&seed);
			if (rand_r(&seed) % 16 == 0 && s.n_silences < ARRAY_LEN(s.silences))
				s.silences[s.n_silences++] = s.n;
		}
		strcpy(whole, frames_of(&s, framing, requests, STREAM_MAX, &garbage));
		assert_true(framing == MODBUS_TCP || strchr(whole, ':') != NULL);
		for (size_t piece = 1; piece < 300; piece += 1 + piece / 4) {
			const char *got =
				frames_of(&s, framing, requests, piece, &garbage_bytewise);

			assert_string_equal(got, whole);
			assert_int_equal(garbage_bytewise, garbage);
		}
	}
}

/* A bit at a time, as the standard has it. */
static uint16_t plain_crc(const uint8_t *bytes, size_t n)
{
	uint16_t crc = 0xffff;

	for (size_t i = 0; i < 8 * n; i++) {
		crc ^= i % 8 == 0 ? bytes[i / 8] : 0;
		crc = (uint16_t)(crc >> 1 ^ ((crc & 1) != 0 ? 0xa001 : 0));
	}
	return crc;
}

static void the_crc_is_that_of_the_standard(void **state)
{
	uint8_t pdu[MODBUS_PDU_MAX], buf[MODBUS_FRAME_MAX];
	uint32_t noise = 1;

	(void)state;
	for (unsigned round = 0; round < 20000; round++) {
		struct modbus_frame f = {
			.unit = (uint8_t)round, .pdu = pdu, .len = 1 + round % MODBUS_PDU_MAX};

		for (size_t i = 0; i < f.len; i++) {
			noise = noise * 1664525 + 1013904223;
			pdu[i] = (uint8_t)(noise >> 24);
		}
		size_t n = modbus_frame_encode(MODBUS_RTU, &f, buf);
		assert_int_equal(n, 1 + f.len + 2);
		assert_int_equal(plain_crc(buf, n - 2), buf[n - 2] | buf[n - 1] << 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_vectors_are_written_and_read),
		cmocka_unit_test(the_crc_is_that_of_the_standard),
		cmocka_unit_test(rtu_requests_are_found_in_noise),
		cmocka_unit_test(rtu_requests_of_unknown_functions_end_somewhere),
		cmocka_unit_test(rtu_answers_are_found_in_noise),
		cmocka_unit_test(ascii_is_read_in_both_cases_and_resynchronises),
		cmocka_unit_test(ascii_that_never_ends_is_skipped),
		cmocka_unit_test(tcp_frames_need_a_possible_header),
		cmocka_unit_test(pieces_do_not_matter),
	};
	return cmocka_run_group_tests_name("modbus_frame", tests, NULL, NULL);
}
