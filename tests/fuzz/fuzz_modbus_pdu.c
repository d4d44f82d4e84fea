/* fuzz: agent */
/* A request of any bytes: what is understood is written as it was read. And any bytes as the answer
 * to a request that the input makes. First byte: how many bytes are the request. */
#include "agent/device/modbus/pdu.h"
#include "common/util.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of just these bytes, so that a step too far is seen. */
static uint8_t *copy_of(const uint8_t *data, size_t n)
{
	uint8_t *copy = malloc(n > 0 ? n : 1);

	assert(copy != NULL);
	if (n > 0)
		memcpy(copy, data, n);
	return copy;
}

static void check_request(const struct modbus_request *q)
{
	static struct modbus_request again;
	struct modbus_pdu p, q_again;
	struct err err = {0};

	assert(modbus_request_encode(q, &p, &err) == 0);
	assert(p.len <= MODBUS_PDU_MAX && p.bytes[0] == q->function);
	assert(modbus_request_parse(p.bytes, p.len, &again) == 0);
	assert(again.function == q->function && again.address == q->address &&
	       again.quantity == q->quantity);
	assert(modbus_request_encode(&again, &q_again, &err) == 0);
	assert(p.len == q_again.len && memcmp(p.bytes, q_again.bytes, p.len) == 0);
}

static void check_answer(const struct modbus_request *q, const struct modbus_answer *a)
{
	static struct modbus_answer again;
	struct modbus_pdu p;
	struct err err = {0};

	assert(a->quantity <= MODBUS_READ_BITS_MAX);
	modbus_answer_encode(q, a, &p);
	assert(p.len <= MODBUS_PDU_MAX);
	assert(modbus_answer_parse(q, p.bytes, p.len, &again, &err) == 0);
	assert(again.exception == a->exception && again.quantity == a->quantity);
	assert(memcmp(again.values, a->values, a->quantity * sizeof(a->values[0])) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct modbus_request q;
	static struct modbus_answer a;
	struct err err = {0};

	if (size == 0)
		return 0;
	size_t n = data[0] < size - 1 ? data[0] : size - 1, rest = size - 1 - n;
	uint8_t *request = copy_of(data + 1, n), *answer = copy_of(data + 1 + n, rest);
	enum modbus_exception e = modbus_request_parse(request, n, &q);

	assert(e <= MODBUS_ILLEGAL_DATA_VALUE);
	assert(q.function == (n > 0 ? request[0] : 0));
	if (e == 0) {
		check_request(&q);
		int rc = modbus_answer_parse(&q, answer, rest, &a, &err);

		assert(rc == 0 || ((rc == ERR_PARSE || rc == ERR_PEER) && err.code == rc));
		if (rc == 0)
			check_answer(&q, &a);
	} else {
		struct modbus_pdu p;

		a.exception = (uint8_t)e;
		modbus_answer_encode(&q, &a, &p);
		assert(p.len == 2 && p.bytes[0] == (q.function | 0x80) && p.bytes[1] == e);
	}
	free(request);
	free(answer);
	return 0;
}
