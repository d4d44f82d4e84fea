/* frame.h - Modbus frames in a stream of bytes: TCP (MBAP), RTU and ASCII (MODBUS Messaging on
 * TCP/IP V1.0b 3.1.3; MODBUS over Serial Line V1.02 2.5; gateway-devices 3.13). Which framing is
 * used does not depend on what carries the bytes.
 */
#pragma once

#include "agent/device/modbus/pdu.h"
#include "common/err.h"
#include <stdint.h>

enum modbus_framing { MODBUS_TCP, MODBUS_RTU, MODBUS_ASCII };

#define MODBUS_FRAME_MAX 513 /* ASCII: ':' and 2 * (1 + 253 + 1) digits, CR LF */

struct modbus_frame {
	uint16_t transaction; /* TCP only, else 0 */
	uint8_t unit;
	const uint8_t *pdu; /* borrowed until the framer is given more */
	size_t len;
};

/* ret: bytes in buf, which has MODBUS_FRAME_MAX. */
size_t modbus_frame_encode(enum modbus_framing framing, const struct modbus_frame *f, uint8_t *buf);

/* Finds frames. What it must know of a frame's length differs: a request or an answer. The same
 * bytes give the same frames and errors however they are cut into pieces. */
struct modbus_framer {
	enum modbus_framing framing;
	bool requests; /* looks for requests (a slave's side), else for answers */
	bool lost;     /* skips bytes until there is a frame, or silence */
	uint8_t buf[2 * MODBUS_FRAME_MAX];
	size_t len, used;                    /* bytes in buf; those handed out or skipped */
	size_t silent;                       /* the line was silent behind these; 0: it was not */
	uint8_t decoded[MODBUS_PDU_MAX + 2]; /* of ASCII */
	uint64_t garbage;                    /* bytes skipped, in all */
};

void modbus_framer_init(struct modbus_framer *f, enum modbus_framing framing, bool requests);
/* ret: how many were taken; less than n when it is full: take frames out and go on. */
size_t modbus_framer_push(struct modbus_framer *f, const uint8_t *bytes, size_t n);
/* ret: 1 a frame; 0 none yet; ERR_PARSE: something that was no frame (wrong CRC or LRC, odd or
 * other digits, length or protocol id impossible) is being skipped, err says what: call again. On a
 * TCP transport with TCP framing the stream is lost then. What follows is skipped without a word up
 * to the next frame. */
int modbus_framer_next(struct modbus_framer *f, struct modbus_frame *ret, struct err *err);
/* The line has been silent (3.5 characters of RTU, 1 s of ASCII): what has begun is no frame,
 * though a good one may stand in it, behind garbage; and a request of a function without a known
 * length ends here. Call modbus_framer_next() until it returns 0, before and after. */
void modbus_framer_silence(struct modbus_framer *f);
/* Forget what came. */
void modbus_framer_clear(struct modbus_framer *f);
/* Bytes that have come and belong to no frame yet. */
size_t modbus_framer_waiting(const struct modbus_framer *f);
