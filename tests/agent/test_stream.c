/* Streams: serial lines at a pair of pseudo terminals, TCP against sockets of the test's own. */
#include "agent/device/stream.h"
#include "common/util.h"
#include "tests/common/until.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#define NEVER_MS    20000
#define FLOOD_BYTES 1000

struct world {
	struct loop *loop;
	struct stream *s;
	struct stream_listener *listener;
	int peer_fd; /* the other end */
	int listen_fd;
	unsigned port;
	char line[64];
	/* what the stream told */
	unsigned opens, sents, closes, accepts;
	char why[200];
	uint8_t got[1 << 20];
	size_t n_got;
	struct stream_address local, remote;
	bool free_at_data, free_at_close;
};

static void on_open(void *arg)
{
	struct world *w = arg;
	w->opens++;
}

static void on_data(void *arg, const uint8_t *bytes, size_t n)
{
	struct world *w = arg;

	assert_true(n > 0 && n <= sizeof(w->got) - w->n_got);
	memcpy(w->got + w->n_got, bytes, n);
	w->n_got += n;
	if (w->free_at_data)
		w->s = stream_free(w->s);
}

static void on_sent(void *arg)
{
	struct world *w = arg;
	w->sents++;
}

static void on_close(void *arg, const char *why)
{
	struct world *w = arg;

	w->closes++;
	snprintf(w->why, sizeof(w->why), "%s", why);
	if (w->free_at_close)
		w->s = stream_free(w->s);
}

static const struct stream_handlers handlers = {on_open, on_data, on_sent, on_close};

static void on_accept(void *arg, struct stream *s, const struct stream_address *local,
		      const struct stream_address *remote)
{
	struct world *w = arg;

	w->accepts++;
	w->local = *local;
	w->remote = *remote;
	w->s = stream_free(w->s);
	assert_int_equal(stream_start(s, &handlers, w, NULL), 0);
	w->s = s;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	if (w == NULL || loop_new(&w->loop, NULL) < 0)
		return -1;
	w->peer_fd = w->listen_fd = -1;
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	stream_free(w->s);
	stream_listener_free(w->listener);
	closep(&w->peer_fd);
	closep(&w->listen_fd);
	loop_free(w->loop);
	free(w);
	return 0;
}

static void peer_says(const struct world *w, const void *bytes, size_t n)
{
	assert_int_equal(write(w->peer_fd, bytes, n), n);
}

/* What the peer can read now. */
static size_t peer_reads(const struct world *w, uint8_t *buf, size_t cap)
{
	ssize_t n = read(w->peer_fd, buf, cap);
	return n > 0 ? (size_t)n : 0;
}

static void non_blocking(int fd)
{
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

/* ---- serial lines ---- */

static json_t *block(const struct world *w, const char *more)
{
	char text[600];

	snprintf(text, sizeof(text),
		 "{\"port\": \"%s\", \"baudrate\": 9600, \"bytesize\": \"EIGHTBITS\", \"parity\": "
		 "\"NONE\", \"stopbits\": \"ONE\", \"flow_control\": {\"xonxoff\": false, "
		 "\"rtscts\": false, \"dsrdtr\": false}, \"silent_interval\": 0}",
		 w->line);
	json_t *all = json_loads(text, 0, NULL), *other = json_loads(more, 0, NULL);
	assert_non_null(all);
	assert_non_null(other);
	json_object_update(all, other);
	json_decref(other);
	return all;
}

static void make_line(struct world *w)
{
	int slave_fd;

	assert_int_equal(openpty(&w->peer_fd, &slave_fd, w->line, NULL, NULL), 0);
	close(slave_fd);
	non_blocking(w->peer_fd);
}

static int open_line(struct world *w, const char *more, struct err *err)
{
	json_auto_t *b = block(w, more);

	return stream_open_serial(w->loop, b, &handlers, w, &w->s, err);
}

static void a_line_passes_every_byte_as_it_is(void **state)
{
	struct world *w = *state;
	uint8_t all[256], back[256];
	size_t n = 0;

	for (unsigned i = 0; i < sizeof(all); i++)
		all[i] = (uint8_t)i;
	make_line(w);
	assert_int_equal(open_line(w, "{}", NULL), 0);
	peer_says(w, all, sizeof(all));
	UNTIL(w, w->n_got == sizeof(all));
	assert_memory_equal(w->got, all, sizeof(all));
	assert_int_equal(stream_write(w->s, all, sizeof(all), NULL), 0);
	UNTIL(w, (n += peer_reads(w, back + n, sizeof(back) - n)) == sizeof(all));
	assert_memory_equal(back, all, sizeof(all));
	UNTIL(w, w->sents == 1);
	assert_int_equal(w->opens, 0); /* it was open at once */
	assert_int_equal(w->closes, 0);
}

/* A pseudo terminal keeps of the settings all but the character's size and whether there is
 * parity. */
static void a_line_is_set_as_the_block_says(void **state)
{
	static const struct {
		const char *more;
		speed_t speed;
		tcflag_t iflag, cflag; /* of those that differ */
		unsigned char_us;
	} cases[] = {
		{"{}", B9600, 0, 0, 1042},
		{"{\"baudrate\": 50}", B50, 0, 0, 200000},
		{"{\"baudrate\": 4000000}", B4000000, 0, 0, 3},
		{"{\"baudrate\": 115200, \"parity\": \"ODD\"}", B115200, 0, PARODD, 96},
		{"{\"baudrate\": 1200, \"parity\": \"EVEN\"}", B1200, 0, 0, 9167},
		{"{\"parity\": \"MARK\"}", B9600, 0, PARODD | CMSPAR, 1146},
		{"{\"parity\": \"SPACE\"}", B9600, 0, CMSPAR, 1146},
		{"{\"stopbits\": \"TWO\"}", B9600, 0, CSTOPB, 1146},
		{"{\"bytesize\": \"SEVENBITS\", \"parity\": \"EVEN\"}", B9600, 0, 0, 1042},
		{"{\"bytesize\": \"FIVEBITS\"}", B9600, 0, 0, 730},
		{"{\"flow_control\": {\"xonxoff\": true}}", B9600, IXON | IXOFF, 0, 1042},
		{"{\"flow_control\": {\"rtscts\": true}}", B9600, 0, CRTSCTS, 1042},
	};
	struct world *w = *state;

	make_line(w);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct termios t;
		struct err err = {0};

		if (open_line(w, cases[i].more, &err) != 0)
			fail_msg("%s: %s", cases[i].more, err.text);
		assert_int_equal(tcgetattr(w->peer_fd, &t), 0);
		assert_int_equal(cfgetospeed(&t), cases[i].speed);
		assert_int_equal(cfgetispeed(&t), cases[i].speed);
		if ((t.c_cflag & (PARODD | CMSPAR | CSTOPB | CRTSCTS)) != cases[i].cflag)
			fail_msg("%s: c_cflag %o", cases[i].more, t.c_cflag);
		assert_int_equal(t.c_iflag & (IXON | IXOFF), cases[i].iflag);
		assert_int_equal(t.c_iflag & (ICRNL | INLCR | IGNCR | ISTRIP | PARMRK | BRKINT), 0);
		assert_int_equal(t.c_lflag & (ICANON | ECHO | ISIG | IEXTEN), 0);
		assert_int_equal(t.c_oflag & OPOST, 0);
		assert_int_equal(stream_char_us(w->s), cases[i].char_us);
		w->s = stream_free(w->s);
	}
}

static void what_termios_has_not_is_told(void **state)
{
	static const struct {
		const char *more;
		unsigned problems;
	} cases[] = {
		{"{}", 0},
		{"{\"baudrate\": 9601}", 1},
		{"{\"baudrate\": 1}", 1},
		{"{\"stopbits\": \"ONE_POINT_FIVE\"}", 1},
		{"{\"flow_control\": {\"dsrdtr\": true}}", 1},
	};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_auto_t *b = block(w, cases[i].more);
		struct problems *p = problems_new();

		assert_non_null(p);
		serial_check(b, p);
		assert_int_equal(problems_errors(p), cases[i].problems);
		problems_free(p);
	}
	make_line(w);
	assert_int_equal(open_line(w, cases[1].more, NULL), ERR_INVAL);
}

static void a_block_has_defaults(void **state)
{
	json_auto_t *b = json_loads("{\"port\": \"/dev/null\"}", 0, NULL);
	struct problems *p = problems_new();

	(void)state;
	assert_non_null(p);
	assert_int_equal(fields_check(serial_fields, b, p), 0);
	serial_check(b, p);
	assert_int_equal(problems_errors(p), 0);
	problems_free(p);
	json_auto_t *expected = json_loads(
		"{\"port\": \"/dev/null\", \"baudrate\": 9600, \"bytesize\": \"EIGHTBITS\", "
		"\"parity\": \"NONE\", \"stopbits\": \"ONE\", \"flow_control\": {\"xonxoff\": "
		"false, \"rtscts\": false, \"dsrdtr\": false}, \"silent_interval\": 0.005}",
		0, NULL);
	assert_true(json_equal(b, expected));
}

static void a_silence_for_ever_is_refused(void **state)
{
	json_auto_t *b =
		json_loads("{\"port\": \"/dev/null\", \"silent_interval\": 1e300}", 0, NULL);
	struct problems *p = problems_new();

	(void)state;
	assert_non_null(p);
	fields_check(serial_fields, b, p);
	assert_int_equal(problems_errors(p), 1);
	problems_free(p);
}

/* Of another one's file, with what to do about it. */
static void check_not_allowed(struct world *w)
{
	char path[] = P_tmpdir "/line-XXXXXX";
	int fd = mkstemp(path), status = 0;

	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, 0), 0);
	close(fd);
	strcpy(w->line, path);
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct err err = {0};
		bool other = geteuid() != 0 || setresuid(65534, 65534, 65534) == 0;

		_exit(other && open_line(w, "{}", &err) == ERR_ACCES &&
				      strstr(err.text, "dialout") != NULL
			      ? 7
			      : 8);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(unlink(path), 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
}

static void a_line_that_cannot_be_opened_is_told(void **state)
{
	struct world *w = *state;
	struct err err = {0};

	strcpy(w->line, "/dev/no-such-line");
	assert_int_not_equal(open_line(w, "{}", &err), 0);
	assert_non_null(strstr(err.text, "/dev/no-such-line"));
	check_not_allowed(w);
	strcpy(w->line, "/dev/null"); /* no terminal */
	assert_int_not_equal(open_line(w, "{}", &err), 0);
	assert_null(w->s);
}

static void a_line_has_one_owner(void **state)
{
	struct world *w = *state;
	struct stream *other = NULL;

	make_line(w);
	assert_int_equal(open_line(w, "{}", NULL), 0);
	json_auto_t *b = block(w, "{}");
	int rc = stream_open_serial(w->loop, b, &handlers, w, &other, NULL);
	assert_true(rc < 0);
	assert_null(other);
	w->s = stream_free(w->s);
	assert_int_equal(open_line(w, "{}", NULL), 0);
}

/* The kernel waits for bytes that a stopped line does not take when it is closed; pseudo terminals
 * do not stop so, hence we look at what is asked of it. */
static int flushes[8];
static unsigned n_flushes;

int tcflush(int fd, int queue)
{
	flushes[n_flushes++ % ARRAY_LEN(flushes)] = queue;
	return ioctl(fd, TCFLSH, queue);
}

static void what_a_line_does_not_take_does_not_hold_up_its_end(void **state)
{
	struct world *w = *state;

	make_line(w);
	assert_int_equal(open_line(w, "{}", NULL), 0);
	n_flushes = 0;
	w->s = stream_free(w->s);
	assert_int_equal(n_flushes, 1);
	assert_int_equal(flushes[0], TCOFLUSH);
}

static void writes_keep_silence_between_them(void **state)
{
	struct world *w = *state;
	uint8_t buf[16];
	size_t n = 0;

	make_line(w);
	assert_int_equal(open_line(w, "{\"silent_interval\": 0.05}", NULL), 0);
	int64_t first_ms = now_ms();
	assert_int_equal(stream_write(w->s, (const uint8_t *)"one", 3, NULL), 0);
	assert_int_equal(stream_write(w->s, (const uint8_t *)"two", 3, NULL), 0);
	UNTIL(w, (n += peer_reads(w, buf + n, sizeof(buf) - n)) >= 3);
	assert_int_equal(n, 3);
	UNTIL(w, (n += peer_reads(w, buf + n, sizeof(buf) - n)) == 6);
	assert_true(now_ms() - first_ms >= 50 + 3); /* three characters, and the silence */
	assert_memory_equal(buf, "onetwo", 6);
	UNTIL(w, w->sents == 1);
	/* before an answer too */
	peer_says(w, "question", 8);
	int64_t asked_ms = now_ms();
	UNTIL(w, w->n_got == 8);
	assert_int_equal(stream_write(w->s, (const uint8_t *)"answer", 6, NULL), 0);
	UNTIL(w, (n += peer_reads(w, buf + n, sizeof(buf) - n)) == 12);
	assert_true(now_ms() - asked_ms >= 50);
}

static void an_unplugged_line_is_told_once(void **state)
{
	struct world *w = *state;

	make_line(w);
	assert_int_equal(open_line(w, "{}", NULL), 0);
	peer_says(w, "last", 4);
	closep(&w->peer_fd);
	UNTIL(w, w->closes > 0);
	assert_string_equal(w->why, "the line hung up");
	assert_int_equal(stream_write(w->s, (const uint8_t *)"x", 1, NULL), ERR_PEER);
	for (unsigned i = 0; i < 5; i++)
		loop_turn(w->loop, 0);
	assert_int_equal(w->closes, 1);
}

static void input_that_was_not_told_can_be_forgotten(void **state)
{
	struct world *w = *state;

	make_line(w);
	assert_int_equal(open_line(w, "{}", NULL), 0);
	peer_says(w, "stale", 5);
	stream_drop_input(w->s);
	peer_says(w, "fresh", 5);
	UNTIL(w, w->n_got >= 5);
	assert_memory_equal(w->got, "fresh", 5);
	assert_int_equal(w->n_got, 5);
}

/* ---- TCP, ours ---- */

static void listen_here(struct world *w)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);

	w->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(w->listen_fd >= 0);
	assert_int_equal(bind(w->listen_fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(w->listen_fd, 8), 0);
	assert_int_equal(getsockname(w->listen_fd, (struct sockaddr *)&at, &len), 0);
	w->port = ntohs(at.sin_port);
}

static void be_connected(struct world *w)
{
	listen_here(w);
	assert_int_equal(
		stream_connect(w->loop, "127.0.0.1", w->port, NEVER_MS, &handlers, w, &w->s, NULL),
		0);
	UNTIL(w, w->opens == 1);
	w->peer_fd = accept(w->listen_fd, NULL, NULL);
	assert_true(w->peer_fd >= 0);
	non_blocking(w->peer_fd);
}

static void a_connection_carries_bytes_both_ways(void **state)
{
	struct world *w = *state;
	uint8_t buf[8];
	size_t n = 0;

	be_connected(w);
	assert_int_equal(stream_char_us(w->s), 0);
	peer_says(w, "hello", 5);
	UNTIL(w, w->n_got == 5);
	assert_int_equal(stream_write(w->s, (const uint8_t *)"world", 5, NULL), 0);
	UNTIL(w, (n += peer_reads(w, buf + n, sizeof(buf) - n)) == 5);
	assert_memory_equal(buf, "world", 5);
	UNTIL(w, w->sents == 1);
	/* what was said last is told before the end */
	peer_says(w, "bye", 3);
	closep(&w->peer_fd);
	UNTIL(w, w->closes == 1);
	assert_int_equal(w->n_got, 8);
	assert_string_equal(w->why, "the peer closed the connection");
}

static void nothing_is_written_before_the_connection_is_there(void **state)
{
	struct world *w = *state;

	listen_here(w);
	assert_int_equal(
		stream_connect(w->loop, "localhost", w->port, NEVER_MS, &handlers, w, &w->s, NULL),
		0);
	assert_int_equal(stream_write(w->s, (const uint8_t *)"x", 1, NULL), ERR_PEER);
	UNTIL(w, w->opens == 1);
	assert_int_equal(stream_write(w->s, (const uint8_t *)"x", 1, NULL), 0);
}

static void a_paused_stream_tells_nothing_until_it_goes_on(void **state)
{
	struct world *w = *state;

	be_connected(w);
	stream_pause(w->s, true);
	peer_says(w, "early", 5);
	for (int i = 0; i < 5; i++)
		loop_turn(w->loop, 5);
	assert_int_equal(w->n_got, 0);
	/* it writes all the same */
	assert_int_equal(stream_write(w->s, (const uint8_t *)"answer", 6, NULL), 0);
	UNTIL(w, w->sents == 1);
	assert_int_equal(w->n_got, 0);
	stream_pause(w->s, false);
	UNTIL(w, w->n_got == 5);
	assert_memory_equal(w->got, "early", 5);
}

static void a_turn_brings_a_part_of_a_flood(void **state)
{
	static const uint8_t flood[60000];
	struct world *w = *state;

	be_connected(w);
	peer_says(w, flood, sizeof(flood));
	while (w->n_got < sizeof(flood)) {
		size_t before = w->n_got;

		loop_turn(w->loop, PATIENCE_MS);
		assert_in_range(w->n_got - before, 0, 1000);
	}
}

static void a_slow_reader_costs_a_bounded_amount(void **state)
{
	struct world *w = *state;
	uint8_t bytes[FLOOD_BYTES];
	static uint8_t back[8 << 20];
	size_t written = 0, n = 0;
	struct err err = {0};
	int rc;

	be_connected(w);
	while (true) {
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)((written + i) % 251);
		rc = stream_write(w->s, bytes, sizeof(bytes), &err);
		if (rc < 0)
			break;
		written += sizeof(bytes);
		assert_true(written < sizeof(back));
		loop_turn(w->loop, 0);
	}
	assert_int_equal(rc, ERR_LIMIT);
	w->sents = 0; /* the kernel took the first of it */
	assert_int_equal(w->closes, 0);
	UNTIL(w, (n += peer_reads(w, back + n, sizeof(back) - n)) == written);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(back[i], i % 251);
	UNTIL(w, w->sents == 1);
	assert_int_equal(stream_write(w->s, bytes, sizeof(bytes), &err), 0);
}

static void attempts_that_fail_are_told(void **state)
{
	struct world *w = *state;
	struct err err = {0};

	listen_here(w);
	closep(&w->listen_fd);
	assert_int_equal(
		stream_connect(w->loop, "127.0.0.1", w->port, NEVER_MS, &handlers, w, &w->s, NULL),
		0);
	UNTIL(w, w->closes == 1);
	assert_non_null(strstr(w->why, "refused"));
	w->s = stream_free(w->s);
	assert_int_equal(stream_connect(w->loop, "no-such-host.invalid", 1, NEVER_MS, &handlers, w,
					&w->s, NULL),
			 0);
	w->s = stream_free(w->s); /* in the middle of the look-up */
	assert_int_equal(stream_connect(w->loop, "", 1, NEVER_MS, &handlers, w, &w->s, &err),
			 ERR_INVAL);
	assert_null(w->s);
	assert_int_equal(w->closes, 1);
}

static void an_attempt_has_a_limit(void **state)
{
	struct world *w = *state;
	int fillers[64];
	size_t n = 0;

	/* nobody accepts, and the queue of those who wait is full */
	listen_here(w);
	assert_int_equal(listen(w->listen_fd, 0), 0);
	struct sockaddr_in at = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)w->port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	while (n < ARRAY_LEN(fillers)) {
		fillers[n] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		assert_true(fillers[n] >= 0);
		(void)connect(fillers[n], (struct sockaddr *)&at, sizeof(at));
		struct pollfd p = {.fd = fillers[n++], .events = POLLOUT};
		if (poll(&p, 1, 100) == 0)
			break;
	}
	assert_true(n < ARRAY_LEN(fillers));
	assert_int_equal(
		stream_connect(w->loop, "127.0.0.1", w->port, 50, &handlers, w, &w->s, NULL), 0);
	UNTIL(w, w->closes == 1);
	assert_string_equal(w->why, "no connection in time");
	assert_int_equal(w->opens, 0);
	while (n > 0)
		close(fillers[--n]);
}

static void a_reset_is_told_once(void **state)
{
	struct world *w = *state;
	const struct linger hard = {.l_onoff = 1};

	be_connected(w);
	setsockopt(w->peer_fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	closep(&w->peer_fd);
	/* writing finds out as well; on_close is never called from within */
	for (unsigned i = 0; i < 3; i++)
		(void)stream_write(w->s, (const uint8_t *)"x", 1, NULL);
	assert_int_equal(w->closes, 0);
	UNTIL(w, w->closes == 1);
	for (unsigned i = 0; i < 5; i++)
		loop_turn(w->loop, 0);
	assert_int_equal(w->closes, 1);
}

static void a_handler_may_free_its_stream(void **state)
{
	struct world *w = *state;

	be_connected(w);
	w->free_at_data = true;
	peer_says(w, "x", 1);
	UNTIL(w, w->s == NULL);
	closep(&w->peer_fd);
	closep(&w->listen_fd);
	w->free_at_data = false;
	w->free_at_close = true;
	w->opens = 0;
	be_connected(w);
	closep(&w->peer_fd);
	UNTIL(w, w->closes == 1);
	assert_null(w->s);
}

/* ---- TCP, theirs ---- */

static unsigned free_port(struct world *w)
{
	listen_here(w);
	closep(&w->listen_fd);
	return w->port;
}

static int call(unsigned port)
{
	struct sockaddr_in at = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		assert_int_equal(errno, EINPROGRESS);
	return fd;
}

static void connections_are_accepted_with_their_addresses(void **state)
{
	struct world *w = *state;
	static const char *const hosts[] = {"127.0.0.1", "localhost", "0.0.0.0", "::"};
	unsigned port = free_port(w);

	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		struct sockaddr_in me;
		socklen_t len = sizeof(me);
		struct err err = {0};

		w->accepts = 0;
		w->n_got = 0;
		if (stream_listen(w->loop, hosts[i], port, on_accept, w, &w->listener, &err) != 0)
			fail_msg("%s: %s", hosts[i], err.text);
		w->peer_fd = call(port);
		UNTIL(w, w->accepts == 1);
		assert_string_equal(w->local.host, "127.0.0.1");
		assert_int_equal(w->local.port, port);
		assert_string_equal(w->remote.host, "127.0.0.1");
		assert_int_equal(getsockname(w->peer_fd, (struct sockaddr *)&me, &len), 0);
		assert_int_equal(w->remote.port, ntohs(me.sin_port));
		peer_says(w, "hello", 5);
		UNTIL(w, w->n_got == 5);
		w->s = stream_free(w->s);
		closep(&w->peer_fd);
		w->listener = stream_listener_free(w->listener);
	}
	assert_int_equal(
		stream_listen(w->loop, "not-an-address", port, on_accept, w, &w->listener, NULL),
		ERR_INVAL);
	assert_int_equal(
		stream_listen(w->loop, "192.0.2.1", port, on_accept, w, &w->listener, NULL),
		ERR_SYS);
	assert_null(w->listener);
}

static void without_descriptors_the_listener_waits(void **state)
{
	struct world *w = *state;
	unsigned port = free_port(w);
	struct rlimit was, none;

	assert_int_equal(
		stream_listen(w->loop, "127.0.0.1", port, on_accept, w, &w->listener, NULL), 0);
	w->peer_fd = call(port);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	none = was;
	none.rlim_cur = (rlim_t)w->peer_fd + 1; /* the lowest free descriptor is behind it */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	loop_turn(w->loop, PATIENCE_MS);
	int64_t before_ms = now_ms();
	loop_turn(w->loop, PATIENCE_MS); /* not called again and again: the pause's timer */
	assert_true(now_ms() - before_ms >= 50);
	assert_int_equal(w->accepts, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	UNTIL(w, w->accepts == 1);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_line_passes_every_byte_as_it_is),
		TEST(a_line_is_set_as_the_block_says),
		TEST(what_termios_has_not_is_told),
		TEST(a_block_has_defaults),
		TEST(a_silence_for_ever_is_refused),
		TEST(a_line_that_cannot_be_opened_is_told),
		TEST(a_line_has_one_owner),
		TEST(what_a_line_does_not_take_does_not_hold_up_its_end),
		TEST(writes_keep_silence_between_them),
		TEST(an_unplugged_line_is_told_once),
		TEST(input_that_was_not_told_can_be_forgotten),
		TEST(a_connection_carries_bytes_both_ways),
		TEST(nothing_is_written_before_the_connection_is_there),
		TEST(a_paused_stream_tells_nothing_until_it_goes_on),
		TEST(a_turn_brings_a_part_of_a_flood),
		TEST(a_slow_reader_costs_a_bounded_amount),
		TEST(attempts_that_fail_are_told),
		TEST(an_attempt_has_a_limit),
		TEST(a_reset_is_told_once),
		TEST(a_handler_may_free_its_stream),
		TEST(connections_are_accepted_with_their_addresses),
		TEST(without_descriptors_the_listener_waits),
	};
	return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
