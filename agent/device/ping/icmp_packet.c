/* icmp_packet.c - echo requests and replies as bytes. */
#include "agent/device/ping/icmp.h"
#include <string.h>

#define HEADER_LEN    8
#define IP_HEADER_MIN 20

/* by family: types of RFC 792 and RFC 4443 */
enum { REQUEST_V4 = 8, REPLY_V4 = 0, REQUEST_V6 = 128, REPLY_V6 = 129 };

static uint16_t checksum(const uint8_t *bytes, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += i % 2 == 0 ? (uint32_t)bytes[i] << 8 : bytes[i];
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void put_u16(uint8_t *at, uint16_t v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

void icmp_request_format(int family, const struct icmp_message *m, uint8_t *buf)
{
	memset(buf, 0, HEADER_LEN);
	buf[0] = family == AF_INET6 ? REQUEST_V6 : REQUEST_V4;
	put_u16(buf + 4, m->id);
	put_u16(buf + 6, (uint16_t)m->number);
	memcpy(buf + HEADER_LEN, m->token, ICMP_TOKEN_LEN);
	for (unsigned i = 0; i < 8; i++)
		buf[HEADER_LEN + ICMP_TOKEN_LEN + i] = (uint8_t)(m->number >> (56 - 8 * i));
	if (family == AF_INET)
		put_u16(buf + 2, checksum(buf, ICMP_ECHO_LEN));
}

int icmp_reply_parse(int family, bool has_ip_header, const uint8_t *bytes, size_t n,
		     struct icmp_message *ret, struct err *err)
{
	if (has_ip_header) {
		size_t header = n > 0 ? (size_t)(bytes[0] & 0x0f) * 4 : 0;

		if (header < IP_HEADER_MIN || header > n || bytes[0] >> 4 != 4 ||
		    bytes[9] != IPPROTO_ICMP)
			return err_set(err, ERR_PARSE, "no IPv4 header");
		bytes += header;
		n -= header;
	}
	if (n != ICMP_ECHO_LEN)
		return err_set(err, ERR_PARSE, "%zu bytes, not %d", n, ICMP_ECHO_LEN);
	if (bytes[0] != (family == AF_INET6 ? REPLY_V6 : REPLY_V4) || bytes[1] != 0)
		return err_set(err, ERR_PARSE, "type %u code %u", bytes[0], bytes[1]);
	/* That of ICMPv6 covers addresses too, and no socket gets a message with a wrong one. */
	if (family == AF_INET && checksum(bytes, n) != 0)
		return err_set(err, ERR_PARSE, "wrong checksum");
	*ret = (struct icmp_message){.id = (uint16_t)(bytes[4] << 8 | bytes[5])};
	memcpy(ret->token, bytes + HEADER_LEN, ICMP_TOKEN_LEN);
	for (unsigned i = 0; i < 8; i++)
		ret->number = ret->number << 8 | bytes[HEADER_LEN + ICMP_TOKEN_LEN + i];
	return 0;
}
