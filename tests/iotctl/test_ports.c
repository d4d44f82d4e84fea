/* Who listens where, from the kernel's tables. */
#include "common/util.h"
#include "iotctl/ports.h"
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define HEAD                                                                                  \
	"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  " \
	"timeout inode\n"
#define REST " 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0\n"

static void listeners_are_told_from_connections_and_other_places(void **state)
{
	/* the numbers of the tables are those of a little-endian machine */
	static const struct {
		const char *why, *line, *address;
		unsigned port;
		bool found;
	} cases[] = {
		{"same", "   0: 0100007F:1F90 00000000:0000 0A" REST, "127.0.0.1", 8080, true},
		{"other port", "   0: 0100007F:1F90 00000000:0000 0A" REST, "127.0.0.1", 8081,
		 false},
		{"other address", "   0: 0200000A:1F90 00000000:0000 0A" REST, "127.0.0.1", 8080,
		 false},
		{"connection", "   0: 0100007F:1F90 0100007F:9999 01" REST, "127.0.0.1", 8080,
		 false},
		{"it has all", "   0: 00000000:1F90 00000000:0000 0A" REST, "127.0.0.1", 8080,
		 true},
		{"we want all", "   0: 0100007F:1F90 00000000:0000 0A" REST, "0.0.0.0", 8080, true},
		{"IPv6 has all",
		 "   0: 00000000000000000000000000000000:1F90 "
		 "00000000000000000000000000000000:0000 0A" REST,
		 "127.0.0.1", 8080, true},
		{"IPv6 same",
		 "   0: 00000000000000000000000001000000:1F90 "
		 "00000000000000000000000000000000:0000 0A" REST,
		 "::1", 8080, true},
		{"a name", "   0: 0100007F:1F90 00000000:0000 0A" REST, "localhost", 8080, false},
		{"rubbish", "rubbish\n", "127.0.0.1", 8080, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[600];
		struct listener by = {0};

		snprintf(text, sizeof(text), HEAD "%s", cases[i].line);
		FILE *f = fmemopen(text, strlen(text), "r");
		assert_non_null(f);
		bool found = ports_find(f, cases[i].address, cases[i].port, &by);
		fclose(f);
		if (found != cases[i].found || (found && (by.inode != 4711 || by.uid != 1000)))
			fail_msg("%s: %d, inode %lu, uid %u", cases[i].why, found, by.inode,
				 (unsigned)by.uid);
	}
}

static void our_own_port_is_ours(void **state)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);
	struct listener by;
	char name[64] = "";
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	assert_false(ports_look("127.0.0.1", ntohs(at.sin_port), &by));
	assert_int_equal(listen(fd, 1), 0);
	assert_true(ports_look("127.0.0.1", ntohs(at.sin_port), &by));
	assert_int_equal(by.uid, geteuid());
	assert_int_equal(ports_holder(&by, name, sizeof(name)), getpid());
	assert_string_equal(name, "test_ports");
	close(fd);
	assert_false(ports_look("127.0.0.1", ntohs(at.sin_port), &by));
	assert_int_equal(ports_holder(&by, name, sizeof(name)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listeners_are_told_from_connections_and_other_places),
		cmocka_unit_test(our_own_port_is_ours),
	};

	return cmocka_run_group_tests_name("ports", tests, NULL, NULL);
}
