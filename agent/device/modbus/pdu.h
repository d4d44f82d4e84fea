/* pdu.h - Modbus protocol data units: requests and answers of the functions 1, 2, 3, 4, 5, 6, 15,
 * 16, 22 and 24 (MODBUS Application Protocol V1.1b3, section 6; gateway-devices 3.13). Bytes in,
 * values out; no connection and no time here.
 *
 * Why not libmodbus: 3.1.6 has no ASCII, no RTU over TCP, no TCP framing on a serial line and no
 * function 24; a context serves one connection and blocks, outside of our event loop, with a policy
 * of its own for reconnecting and flushing. Its RTU and TCP would have to behave just like our own
 * code for the rest. Tests use it as a counterpart (gateway-devices 3.13, "Library").
 */
#pragma once

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODBUS_PDU_MAX         253
#define MODBUS_READ_BITS_MAX   2000
#define MODBUS_READ_WORDS_MAX  125
#define MODBUS_WRITE_BITS_MAX  1968
#define MODBUS_WRITE_WORDS_MAX 123
#define MODBUS_FIFO_MAX        31

enum modbus_function {
	MODBUS_READ_COILS = 1,
	MODBUS_READ_DISCRETE_INPUTS = 2,
	MODBUS_READ_HOLDING_REGISTERS = 3,
	MODBUS_READ_INPUT_REGISTERS = 4,
	MODBUS_WRITE_COIL = 5,
	MODBUS_WRITE_REGISTER = 6,
	MODBUS_WRITE_COILS = 15,
	MODBUS_WRITE_REGISTERS = 16,
	MODBUS_MASK_WRITE_REGISTER = 22,
	MODBUS_READ_FIFO_QUEUE = 24,
};

enum modbus_exception {
	MODBUS_ILLEGAL_FUNCTION = 1,
	MODBUS_ILLEGAL_DATA_ADDRESS = 2,
	MODBUS_ILLEGAL_DATA_VALUE = 3,
	MODBUS_SERVER_FAILURE = 4,
	MODBUS_ACKNOWLEDGE = 5,
	MODBUS_SERVER_BUSY = 6,
	MODBUS_MEMORY_PARITY_ERROR = 8,
	MODBUS_GATEWAY_PATH_UNAVAILABLE = 10,
	MODBUS_GATEWAY_TARGET_FAILED = 11,
};

struct modbus_request {
	uint8_t function;  /* enum modbus_function; another one only from modbus_request_parse() */
	uint16_t address;  /* first coil or register; of the queue's pointer */
	uint16_t quantity; /* of coils or registers; 1 for single writes, 0 for 22 and 24 */
	uint16_t and_mask, or_mask;             /* function 22 */
	uint16_t values[MODBUS_WRITE_BITS_MAX]; /* to write: registers, or coils as 0 and 1 */
};

struct modbus_answer {
	uint8_t exception;                     /* 0: none, then the rest holds */
	uint16_t quantity;                     /* of values read; of a queue: how many it has */
	uint16_t values[MODBUS_READ_BITS_MAX]; /* registers, or bits as 0 and 1 */
};

struct modbus_pdu {
	uint8_t bytes[MODBUS_PDU_MAX];
	size_t len;
};

/* Errors: ERR_RANGE (quantity out of the function's limits, or beyond address 65535), ERR_INVAL (no
 * function of ours). */
int modbus_request_encode(const struct modbus_request *q, struct modbus_pdu *ret, struct err *err);
/* A slave's side. ret: 0, or the exception that answers it; q->function is set in any case. */
enum modbus_exception modbus_request_parse(const uint8_t *pdu, size_t len,
					   struct modbus_request *q);
/* The answer to q; a->quantity values of a read, or a->exception. */
void modbus_answer_encode(const struct modbus_request *q, const struct modbus_answer *a,
			  struct modbus_pdu *ret);
/* What pdu says to q. Errors: ERR_PEER (of another function: not an answer to q), ERR_PARSE (cut,
 * too long, a byte count or an echo that does not fit). */
int modbus_answer_parse(const struct modbus_request *q, const uint8_t *pdu, size_t len,
			struct modbus_answer *ret, struct err *err);
