/* fuzz: csm
 *
 * A datagram of the discovery beacon: refused, or read and written back the same, octet by octet. */
#include "csm/beacon_wire.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct beacon_datagram d;
	uint8_t again[BEACON_BYTES_MAX];

	if (beacon_parse(data, size, &d) < 0)
		return 0;
	size_t len = beacon_format(&d, again);

	assert(len == size && len <= sizeof(again));
	assert(memcmp(again, data, len) == 0);
	return 0;
}
