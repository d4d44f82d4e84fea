/* The ping device against the kernel and against a peer of the test's own, in network, mount and
 * (where one is not root) user namespaces of its own. */
#include "agent/device/ping/icmp.h"
#include "agent/device/ping/ping.h"
#include "tests/agent/fake_port.h"
#include "tests/common/until.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define HOSTS 500

/* ---- the machine ---- */

static void put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
		fprintf(stderr, "writing %s to %s: %s\n", text, path, strerrordesc_np(errno));
		abort();
	}
	close(fd);
}

static void run(const char *command)
{
	if (system(command) != 0) {
		fprintf(stderr, "failed: %s\n", command);
		abort();
	}
}

static char hosts_path[] = P_tmpdir "/test_ping_hosts.XXXXXX";

static void write_hosts(const char *text)
{
	int fd = open(hosts_path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* Names come from a file of ours, addresses are ours to give. Without namespaces nothing is tested
 * here, so that is a failure. */
static void enter_namespaces(void)
{
	bool root = geteuid() == 0;
	char map[40];
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (unshare((root ? 0 : CLONE_NEWUSER) | CLONE_NEWNET | CLONE_NEWNS) < 0) {
		perror("no namespaces of our own");
		abort();
	}
	if (!root) {
		put_file("/proc/self/setgroups", "deny");
		snprintf(map, sizeof(map), "0 %u 1", uid);
		put_file("/proc/self/uid_map", map);
		snprintf(map, sizeof(map), "0 %u 1", gid);
		put_file("/proc/self/gid_map", map);
	}
	int fd = mkstemp(hosts_path);
	if (fd < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount(hosts_path, "/etc/hosts", NULL, MS_BIND, NULL) < 0) {
		perror("a file of hosts of our own");
		abort();
	}
	close(fd);
	setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin", 1);
	run("ip link set lo up");
}

static void allow_datagram(bool allow)
{
	put_file("/proc/sys/net/ipv4/ping_group_range", allow ? "0 4294967294" : "1 0");
}

static void kernel_answers(bool answers)
{
	put_file("/proc/sys/net/ipv4/icmp_echo_ignore_all", answers ? "0" : "1");
	put_file("/proc/sys/net/ipv6/icmp/echo_ignore_all", answers ? "0" : "1");
}

/* ---- the device ---- */

struct world {
	struct loop *loop;
	struct port *port;
	json_t *conf;
	void *instance; /* NULL: closed */
	int raw;        /* the scripted peer's socket; -1: none */
};

static int setup(void **state)
{
	struct world *w = test_calloc(1, sizeof(*w));
	struct err err;

	assert_int_equal(loop_new(&w->loop, &err), 0);
	w->port = fake_port_new(w->loop);
	w->conf = json_pack("{s:[]}", "remote_devices");
	w->raw = -1;
	*state = w;
	allow_datagram(false);
	kernel_answers(true);
	write_hosts("127.0.0.1 here\n");
	return 0;
}

static void stop(struct world *w)
{
	if (w->instance != NULL)
		ping_type.ops->close(w->instance);
	w->instance = NULL;
}

static int teardown(void **state)
{
	struct world *w = *state;

	stop(w);
	closep(&w->raw);
	json_decref(w->conf);
	fake_port_free(w->port);
	loop_free(w->loop);
	test_free(w);
	return 0;
}

static void add(struct world *w, const char *name, const char *host, double timeout,
		json_int_t retries)
{
	json_array_append_new(json_object_get(w->conf, "remote_devices"),
			      json_pack("{s:s, s:s, s:f, s:f, s:I, s:f}", "name", name, "host",
					host, "ping_delay", 0.02, "ping_timeout", timeout,
					"retry_count", retries, "retry_delay", 0.01));
}

static void start(struct world *w)
{
	struct err err;

	assert_int_equal(fake_port_create(w->port, &ping_type, w->conf, &w->instance, &err), 0);
	assert_int_equal(w->port->created, 1);
}

/* A figure of the status, of a host or (NULL) of the endpoint. */
static json_int_t figure(const struct world *w, const char *host, const char *name)
{
	json_auto_t *status = ping_type.ops->status(w->instance);
	const json_t *from = status;

	assert_non_null(status);
	if (host != NULL)
		from = json_object_get(json_object_get(status, "remote_devices"), host);
	from = json_object_get(from, name);
	assert_true(json_is_integer(from));
	return json_integer_value(from);
}

/* Several pings more, whatever comes of them. */
static void let_pings_pass(struct world *w, const char *host)
{
	json_int_t n = figure(w, host, "answered") + figure(w, host, "failed");

	UNTIL(w, figure(w, host, "answered") + figure(w, host, "failed") >= n + 5);
}

#define ASSERT_TOLD(w, text)                                               \
	do {                                                               \
		UNTIL(w, (w)->port->n > (w)->port->read);                  \
		assert_string_equal(fake_port_told((w)->port), text "\n"); \
	} while (0)
#define ASSERT_SILENT(w) assert_string_equal(fake_port_told((w)->port), "")

/* ---- what the reference promises ---- */

static void test_create(void **state)
{
	struct world *w = *state;

	start(w);
	UNTIL(w, w->port->link == LINK_CONNECTED);
	stop(w);
	assert_int_equal(w->port->link, LINK_DISCONNECTED);
	ASSERT_SILENT(w);
}

static void drop_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {0};

	if (syscall(SYS_capset, &head, none) < 0)
		_exit(100);
}

static void test_create_not_allowed(void **state)
{
	struct world *w = *state;
	struct err err = {0};
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		drop_capabilities();
		int rc = fake_port_create(w->port, &ping_type, w->conf, &w->instance, &err);
		_exit(rc == ERR_ACCES && strstr(err.text, "CAP_NET_RAW") != NULL ? 7 : 8);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
}

static void check_available(struct world *w, unsigned n)
{
	static const char *const hosts[] = {"127.0.0.1", "::1", "127.1.2.3", "localhost", "here"};
	char name[12], expected[64];

	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "h%u", i);
		add(w, name, hosts[i], 5, 0);
	}
	start(w);
	UNTIL(w, w->port->n == 2 * n);
	for (unsigned i = 0; i < n; i++) {
		const struct fake_event *e = &w->port->events[i];

		snprintf(expected, sizeof(expected), "status/h%u", i);
		assert_string_equal(e->path, expected);
		assert_string_equal(json_string_value(e->payload), "NOT_AVAILABLE");
		assert_true(e->retain && e->point == (int)i);
		assert_true(e->value.kind == VALUE_UINT && e->value.u == 0);
		assert_string_equal(json_string_value(w->port->events[n + i].payload), "AVAILABLE");
		assert_int_equal(w->port->events[n + i].value.u, 1);
	}
	w->port->read = w->port->n;
	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "h%u", i);
		let_pings_pass(w, name);
	}
	ASSERT_SILENT(w);
}

static void test_status_available_1(void **state)
{
	check_available(*state, 1);
}

static void test_status_available_2(void **state)
{
	check_available(*state, 2);
}

static void test_status_available_5(void **state)
{
	check_available(*state, 5);
}

static void test_status_available_datagram(void **state)
{
	allow_datagram(true);
	check_available(*state, 5);
	json_auto_t *status = ping_type.ops->status(((struct world *)*state)->instance);
	assert_string_equal(json_string_value(json_object_get(status, "socket")), "datagram");
}

static void check_changes(struct world *w, const char *host)
{
	add(w, "h", host, 0.1, 1);
	start(w);
	ASSERT_TOLD(w, "status/h \"NOT_AVAILABLE\"");
	for (unsigned i = 0; i < 3; i++) {
		ASSERT_TOLD(w, "status/h \"AVAILABLE\"");
		let_pings_pass(w, "h");
		kernel_answers(false);
		ASSERT_TOLD(w, "status/h \"NOT_AVAILABLE\"");
		kernel_answers(true);
	}
}

static void test_status_change(void **state)
{
	check_changes(*state, "127.0.0.1");
}

static void test_status_change_v6(void **state)
{
	check_changes(*state, "::1");
}

static void test_ping_timeout(void **state)
{
	struct world *w = *state;

	kernel_answers(false);
	add(w, "h", "127.0.0.1", 0.02, 1);
	start(w);
	ASSERT_TOLD(w, "status/h \"NOT_AVAILABLE\"");
	let_pings_pass(w, "h");
	assert_int_equal(figure(w, "h", "answered"), 0);
	ASSERT_SILENT(w);
	stop(w);
	ASSERT_SILENT(w);
}

/* An answer that came in time counts, however late we look. */
static void test_held_up(void **state)
{
	struct world *w = *state;

	add(w, "h", "127.0.0.1", 0.02, 0);
	start(w);
	UNTIL(w, figure(w, NULL, "sent") == 1);
	usleep(100000); /* as if something else took so long */
	UNTIL(w, figure(w, "h", "answered") + figure(w, "h", "failed") > 0);
	assert_int_equal(figure(w, "h", "failed"), 0);
}

static void test_not_available_after_close(void **state)
{
	struct world *w = *state;

	add(w, "h", "127.0.0.1", 5, 0);
	start(w);
	ASSERT_TOLD(w, "status/h \"NOT_AVAILABLE\"");
	ASSERT_TOLD(w, "status/h \"AVAILABLE\"");
	stop(w);
	ASSERT_TOLD(w, "status/h \"NOT_AVAILABLE\"");
}

/* ---- a machine that comes and goes ---- */

/* A process with a network of its own, which lives until it is killed. */
static pid_t start_machine(void)
{
	int up[2];
	char byte, command[160];
	pid_t pid;

	assert_int_equal(pipe2(up, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (unshare(CLONE_NEWNET) < 0 || write(up[1], "u", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(up[1]);
	assert_int_equal(read(up[0], &byte, 1), 1);
	close(up[0]);
	snprintf(command, sizeof(command),
		 "ip link add near type veth peer name far netns %d && "
		 "ip address add 192.0.2.1/24 dev near && ip link set near up",
		 (int)pid);
	run(command);
	snprintf(command, sizeof(command),
		 "nsenter -t %d -n sh -c 'ip address add 192.0.2.2/24 dev far && ip link set far "
		 "up'",
		 (int)pid);
	run(command);
	return pid;
}

static void stop_machine(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	run("ip link delete near 2>/dev/null || true"); /* unless it went with its other end */
}

static void test_machine_appears_and_disappears(void **state)
{
	struct world *w = *state;

	add(w, "h", "192.0.2.2", 0.5, 0);
	start(w);
	ASSERT_TOLD(w, "status/h \"NOT_AVAILABLE\"");
	let_pings_pass(w, "h"); /* no route: each fails at once */
	assert_int_equal(figure(w, "h", "answered"), 0);
	for (unsigned i = 0; i < 2; i++) {
		pid_t pid = start_machine();

		ASSERT_TOLD(w, "status/h \"AVAILABLE\"");
		stop_machine(pid);
		ASSERT_TOLD(w, "status/h \"NOT_AVAILABLE\"");
	}
}

/* ---- a peer of the test's own ---- */

struct heard {
	struct sockaddr_in from;
	uint8_t icmp[ICMP_ECHO_LEN];
};

static uint16_t sum(const uint8_t *b, size_t n)
{
	uint32_t s = 0;

	for (size_t i = 0; i + 1 < n; i += 2)
		s += (uint32_t)b[i] << 8 | b[i + 1];
	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

static void seal(uint8_t *icmp)
{
	icmp[2] = icmp[3] = 0;
	uint16_t s = sum(icmp, ICMP_ECHO_LEN);
	icmp[2] = (uint8_t)(s >> 8);
	icmp[3] = (uint8_t)s;
}

/* The kernel is silent, the peer hears what is sent. */
static void start_peer(struct world *w)
{
	kernel_answers(false);
	w->raw = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMP);
	assert_true(w->raw >= 0);
}

/* The next echo request; replies, ours too, are heard as well and passed over. */
static bool hears(const struct world *w, struct heard *h)
{
	uint8_t packet[200];
	socklen_t len = sizeof(h->from);

	for (;;) {
		ssize_t n = recvfrom(w->raw, packet, sizeof(packet), 0, (struct sockaddr *)&h->from,
				     &len);

		if (n < 0)
			return false;
		if (n == 20 + ICMP_ECHO_LEN && packet[20] == ICMP_ECHO) {
			memcpy(h->icmp, packet + 20, ICMP_ECHO_LEN);
			return true;
		}
	}
}

static void send_reply(const struct world *w, const struct heard *h)
{
	assert_int_equal(sendto(w->raw, h->icmp, ICMP_ECHO_LEN, 0,
				(const struct sockaddr *)&h->from, sizeof(h->from)),
			 ICMP_ECHO_LEN);
}

static struct heard reply_to(const struct heard *request)
{
	struct heard h = *request;

	h.icmp[0] = ICMP_ECHOREPLY;
	seal(h.icmp);
	return h;
}

static void begin_scripted(struct world *w, json_int_t retries)
{
	start_peer(w);
	add(w, "h", "127.0.0.1", 10, retries);
	start(w);
	ASSERT_TOLD(w, "status/h \"NOT_AVAILABLE\"");
}

static void test_duplicate_replies(void **state)
{
	struct world *w = *state;
	struct heard request, reply;

	begin_scripted(w, 0);
	UNTIL(w, hears(w, &request));
	reply = reply_to(&request);
	for (unsigned i = 0; i < 3; i++)
		send_reply(w, &reply);
	ASSERT_TOLD(w, "status/h \"AVAILABLE\"");
	UNTIL(w, figure(w, NULL, "strange") == 2);
	assert_int_equal(figure(w, "h", "answered"), 1);
	/* nor is an old one an answer to the next request */
	UNTIL(w, hears(w, &request));
	send_reply(w, &reply);
	UNTIL(w, figure(w, NULL, "strange") == 3);
	assert_int_equal(figure(w, "h", "answered"), 1);
	reply = reply_to(&request);
	send_reply(w, &reply);
	UNTIL(w, figure(w, "h", "answered") == 2);
	ASSERT_SILENT(w);
}

static void test_replies_of_others(void **state)
{
	struct world *w = *state;
	struct heard request, reply;

	begin_scripted(w, 0);
	UNTIL(w, hears(w, &request));
	reply = reply_to(&request); /* of another process: its payload is another */
	reply.icmp[8] ^= 1;
	seal(reply.icmp);
	send_reply(w, &reply);
	reply = reply_to(&request); /* of another request */
	reply.icmp[ICMP_ECHO_LEN - 1] ^= 1;
	seal(reply.icmp);
	send_reply(w, &reply);
	reply = reply_to(&request); /* of another identifier */
	reply.icmp[4] ^= 1;
	seal(reply.icmp);
	send_reply(w, &reply);
	reply = reply_to(&request); /* broken on the way */
	reply.icmp[3] ^= 1;
	send_reply(w, &reply);
	reply = reply_to(&request); /* a code that no reply has */
	reply.icmp[1] = 1;
	seal(reply.icmp);
	send_reply(w, &reply);
	UNTIL(w, figure(w, NULL, "strange") == 5);
	assert_int_equal(figure(w, "h", "answered"), 0);
	ASSERT_SILENT(w);
	reply = reply_to(&request);
	send_reply(w, &reply);
	ASSERT_TOLD(w, "status/h \"AVAILABLE\"");
}

static void test_retries(void **state)
{
	struct world *w = *state;
	struct heard request, reply;

	start_peer(w);
	add(w, "h", "127.0.0.1", 0.6, 2);
	start(w);
	ASSERT_TOLD(w, "status/h \"NOT_AVAILABLE\"");
	for (unsigned i = 0; i < 3; i++)
		UNTIL(w, hears(w, &request));
	reply = reply_to(&request);
	send_reply(w, &reply);
	ASSERT_TOLD(w, "status/h \"AVAILABLE\"");
	assert_int_equal(figure(w, "h", "failed"), 2);
	/* a whole round without an answer is three requests */
	UNTIL(w, w->port->n > w->port->read);
	assert_string_equal(fake_port_told(w->port), "status/h \"NOT_AVAILABLE\"\n");
	assert_int_equal(figure(w, "h", "failed"), 5);
}

/* ---- names ---- */

static void test_name_stops_resolving(void **state)
{
	struct world *w = *state;

	write_hosts("127.0.0.9 there\n");
	add(w, "h", "there", 5, 0);
	start(w);
	ASSERT_TOLD(w, "status/h \"NOT_AVAILABLE\"");
	ASSERT_TOLD(w, "status/h \"AVAILABLE\"");
	write_hosts("\n");
	ASSERT_TOLD(w, "status/h \"NOT_AVAILABLE\"");
	assert_true(figure(w, "h", "unresolved") > 0);
	write_hosts("::1 there\n");
	ASSERT_TOLD(w, "status/h \"AVAILABLE\"");
}

static void test_closed_while_names_are_looked_up(void **state)
{
	struct world *w = *state;
	char name[12];

	for (unsigned i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "h%u", i);
		add(w, name, "there.example", 5, 0);
	}
	start(w);
	UNTIL(w, w->port->n == 100);
	stop(w);
}

/* ---- many ---- */

static void check_many(struct world *w)
{
	char name[12], host[32];

	for (unsigned i = 0; i < HOSTS; i++) {
		snprintf(name, sizeof(name), "h%u", i);
		snprintf(host, sizeof(host), "127.0.%u.%u", 1 + i / 250, 1 + i % 250);
		add(w, name, host, 10, 0);
	}
	start(w);
	UNTIL(w, w->port->n == 2 * HOSTS);
	for (unsigned i = 0; i < HOSTS; i++)
		assert_string_equal(json_string_value(w->port->events[HOSTS + i].payload),
				    "AVAILABLE");
	for (unsigned i = 0; i < HOSTS; i += 100) {
		snprintf(name, sizeof(name), "h%u", i);
		let_pings_pass(w, name);
		assert_int_equal(figure(w, name, "failed"), 0);
	}
	stop(w);
	assert_int_equal(w->port->n, 3 * HOSTS);
}

static void test_500_hosts(void **state)
{
	check_many(*state);
}

static void test_500_hosts_datagram(void **state)
{
	allow_datagram(true);
	check_many(*state);
}

/* ---- configuration, packets ---- */

static void note_problem(void *arg, bool is_error, const char *text)
{
	size_t len = strlen(arg);

	snprintf((char *)arg + len, 400 - len, "%s%s\n", is_error ? "" : "warning: ", text);
}

static void test_conf(void **state)
{
	struct world *w = *state;
	char told[400] = "";
	struct problems *p = problems_new();
	struct point_list points;
	struct err err;
	json_auto_t *example = json_loads(ping_type.example, 0, NULL);

	assert_non_null(example);
	json_object_del(example, "type");
	json_object_del(example, "name");
	assert_int_equal(fields_check(ping_type.fields, example, p), 0);
	add(w, "a", "x", 1, 0);
	add(w, "a", "y", 1, 0);
	assert_int_equal(fields_check(ping_type.fields, w->conf, p), 0);
	ping_type.check(w->conf, p);
	problems_each(p, note_problem, told);
	assert_string_equal(told, "remote_devices[1].name: 'a' is there twice\n");
	problems_free(p);
	assert_int_equal(ping_type.points(w->conf, &points, &err), 0);
	assert_int_equal(points.n, 2);
	assert_string_equal(points.items[1].name, "a");
	assert_true(points.items[1].input && !points.items[1].output);
	free(points.items);
}

static void test_packets(void **state)
{
	struct icmp_message m = {.id = 0xabcd, .number = 0x0102030405060708}, got;
	uint8_t bytes[20 + ICMP_ECHO_LEN] = {0x45, [9] = IPPROTO_ICMP}, *icmp = bytes + 20;
	struct err err;

	(void)state;
	memset(m.token, 0x5a, sizeof(m.token));
	icmp_request_format(AF_INET, &m, icmp);
	assert_int_equal(icmp[0], 8);
	assert_int_equal(sum(icmp, ICMP_ECHO_LEN), 0);
	assert_int_equal(icmp_reply_parse(AF_INET, false, icmp, ICMP_ECHO_LEN, &got, &err),
			 ERR_PARSE);
	icmp[0] = 0;
	seal(icmp);
	assert_int_equal(icmp_reply_parse(AF_INET, true, bytes, sizeof(bytes), &got, &err), 0);
	assert_int_equal(got.id, m.id);
	assert_true(got.number == m.number);
	assert_memory_equal(got.token, m.token, sizeof(m.token));
	for (size_t n = 0; n < sizeof(bytes); n++)
		assert_int_equal(icmp_reply_parse(AF_INET, true, bytes, n, &got, &err), ERR_PARSE);
	for (size_t i = 0; i < ICMP_ECHO_LEN * 8; i++) {
		icmp[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(icmp_reply_parse(AF_INET, false, icmp, ICMP_ECHO_LEN, &got, &err),
				 ERR_PARSE);
		icmp[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	icmp_request_format(AF_INET6, &m, icmp);
	assert_int_equal(icmp[0], 128);
	icmp[0] = 129;
	assert_int_equal(icmp_reply_parse(AF_INET6, false, icmp, ICMP_ECHO_LEN, &got, &err), 0);
	icmp[1] = 1;
	assert_int_equal(icmp_reply_parse(AF_INET6, false, icmp, ICMP_ECHO_LEN, &got, &err),
			 ERR_PARSE);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_create),
		TEST(test_create_not_allowed),
		TEST(test_status_available_1),
		TEST(test_status_available_2),
		TEST(test_status_available_5),
		TEST(test_status_available_datagram),
		TEST(test_status_change),
		TEST(test_status_change_v6),
		TEST(test_ping_timeout),
		TEST(test_held_up),
		TEST(test_not_available_after_close),
		TEST(test_machine_appears_and_disappears),
		TEST(test_duplicate_replies),
		TEST(test_replies_of_others),
		TEST(test_retries),
		TEST(test_name_stops_resolving),
		TEST(test_closed_while_names_are_looked_up),
		TEST(test_500_hosts),
		TEST(test_500_hosts_datagram),
		TEST(test_conf),
		TEST(test_packets),
	};

	enter_namespaces();
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(hosts_path);
	return rc;
}
