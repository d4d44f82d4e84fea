/* test_beacon_wire.c - datagrams of the discovery beacon, octet by octet. */
#include "common/err.h"
#include "common/util.h"
#include "csm/beacon_wire.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define US   "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef"
#define THEM "\x00\r\n \xff\xfe\xfd\xfc\xfb\xfa IT HE"

static const struct {
	const char *octets;
	size_t len;
	enum beacon_verb verb;
	bool has_to;
} good[] = {
	{"IT " US " HELO\r\n", 26, BEACON_HELO, false},
	{"IT " US " PING\r\n", 26, BEACON_PING, false},
	{"IT " US " PING " THEM "\r\n", 43, BEACON_PING, true},
	{"IT " US " PONG " THEM "\r\n", 43, BEACON_PONG, true},
};

static void good_ones_are_read_and_written_the_same(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct beacon_datagram d;
		uint8_t data[BEACON_BYTES_MAX];
		assert_int_equal(beacon_parse((const uint8_t *)good[i].octets, good[i].len, &d), 0);
		assert_int_equal(d.verb, good[i].verb);
		assert_int_equal(d.has_to, good[i].has_to);
		assert_memory_equal(d.from, US, BEACON_ID_BYTES);
		if (d.has_to)
			assert_memory_equal(d.to, THEM, BEACON_ID_BYTES);
		assert_int_equal(beacon_format(&d, data), good[i].len);
		assert_memory_equal(data, good[i].octets, good[i].len);
	}
}

static void others_are_refused(void **state)
{
	static const struct {
		const char *octets;
		size_t len;
	} bad[] = {
		{"", 0},
		{"IT " US " HELO\r\n", 25},			/* cut */
		{"IT " US " HELO\r\n\n", 27},			/* longer */
		{"IT " US " HELO " THEM "\r\n", 43},		/* HELO is for all */
		{"IT " US " PONG\r\n", 26},			/* PONG is for one */
		{"IT " US " pong " THEM "\r\n", 43},
		{"IT " US " PING\t" THEM "\r\n", 43},
		{"it " US " HELO\r\n", 26},
		{"IT\t" US " HELO\r\n", 26},
		{"IT " US "\tHELO\r\n", 26},
		{"IT " US " HELO\n\r", 26},
		{"IT " US " QUIT\r\n", 26},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct beacon_datagram d;
		assert_int_equal(beacon_parse((const uint8_t *)bad[i].octets, bad[i].len, &d), ERR_PARSE);
	}
}

static void ids_are_octets_in_the_order_of_the_text(void **state)
{
	uint8_t id[BEACON_ID_BYTES];
	(void)state;
	assert_int_equal(beacon_id("01234567-89ab-cdef-0123-456789abcdef", id), 0);
	assert_memory_equal(id, US, BEACON_ID_BYTES);
	assert_int_equal(beacon_id("01234567-89ab-cdef-0123-456789abcde", id), ERR_PARSE);
	assert_int_equal(beacon_id("", id), ERR_PARSE);
	assert_int_equal(beacon_id("01234567-89ab-cdef-0123-456789abcdefff", id), ERR_PARSE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_ones_are_read_and_written_the_same),
		cmocka_unit_test(others_are_refused),
		cmocka_unit_test(ids_are_octets_in_the_order_of_the_text),
	};
	return cmocka_run_group_tests_name("beacon_wire", tests, NULL, NULL);
}
