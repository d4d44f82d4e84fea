/* fuzz: agent */
/* What a network could send to a socket for ICMP: nothing is read outside the packet, and what is
 * taken for a reply is one, with all that it carries. */
#include "agent/device/ping/icmp.h"
#include "common/util.h"

#include <assert.h>
#include <string.h>

#define IP_HEADER_MAX 60

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
	int family;
	bool has_ip_header;
	uint8_t reply;
} kinds[] = {{AF_INET, false, 0}, {AF_INET, true, 0}, {AF_INET6, false, 129}};

/* A request of the same content has the same identifier and payload. */
static void check_reply(int family, const uint8_t *icmp, const struct icmp_message *m)
{
	uint8_t again[ICMP_ECHO_LEN];

	icmp_request_format(family, m, again);
	assert(memcmp(again + 8, icmp + 8, ICMP_ECHO_LEN - 8) == 0);
	assert(memcmp(again + 4, icmp + 4, 2) == 0);
	assert(icmp[1] == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct icmp_message m;
		struct err err = {0};
		uint8_t *copy = malloc(size > 0 ? size : 1);

		assert(copy != NULL);
		memcpy(copy, data, size);
		int rc = icmp_reply_parse(kinds[i].family, kinds[i].has_ip_header, copy, size, &m,
					  &err);
		assert((rc < 0) == (err.code != 0));
		if (rc == 0) {
			const uint8_t *icmp = copy + size - ICMP_ECHO_LEN;

			assert(size <= IP_HEADER_MAX + ICMP_ECHO_LEN);
			assert(icmp[0] == kinds[i].reply);
			check_reply(kinds[i].family, icmp, &m);
		}
		free(copy);
	}
	return 0;
}
