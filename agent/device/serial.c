#include "agent/device/stream_int.h"
#include "common/util.h"
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <termios.h>

#define BAUD_MIN     50
#define BAUD_MAX     4000000
#define SILENT_MAX_S 60

/* ---- the block (gateway-devices 1.7) ---- */

static const struct {
	unsigned baud;
	speed_t speed;
} speeds[] = {
	{50, B50},           {75, B75},           {110, B110},         {134, B134},
	{150, B150},         {200, B200},         {300, B300},         {600, B600},
	{1200, B1200},       {1800, B1800},       {2400, B2400},       {4800, B4800},
	{9600, B9600},       {19200, B19200},     {38400, B38400},     {57600, B57600},
	{115200, B115200},   {230400, B230400},   {460800, B460800},   {500000, B500000},
	{576000, B576000},   {921600, B921600},   {1000000, B1000000}, {1152000, B1152000},
	{1500000, B1500000}, {2000000, B2000000}, {2500000, B2500000}, {3000000, B3000000},
	{3500000, B3500000}, {4000000, B4000000},
};

static const char *const sizes[] = {"FIVEBITS", "SIXBITS", "SEVENBITS", "EIGHTBITS", NULL};
static const tcflag_t size_flags[] = {CS5, CS6, CS7, CS8};

static const char *const parities[] = {"NONE", "EVEN", "ODD", "MARK", "SPACE", NULL};
static const tcflag_t parity_flags[] = {0, PARENB, PARENB | PARODD, PARENB | PARODD | CMSPAR,
					PARENB | CMSPAR};

static const char *const stops[] = {"ONE", "ONE_POINT_FIVE", "TWO", NULL};

static const struct field flow_fields[] = {
	{.name = "xonxoff",
	 .type = FIELD_BOOL,
	 .def = "false",
	 .help = "The peer stops and starts us with the characters XOFF and XON."},
	{.name = "rtscts",
	 .type = FIELD_BOOL,
	 .def = "false",
	 .help = "The lines RTS and CTS say who may send."},
	{.name = "dsrdtr",
	 .type = FIELD_BOOL,
	 .def = "false",
	 .help = "Not supported: true is an error."},
	{0},
};

const struct field serial_fields[] = {
	{.name = "port", .type = FIELD_STR, .help = "Path of the line, as `/dev/ttyUSB0`."},
	{.name = "baudrate",
	 .type = FIELD_INT,
	 .min = BAUD_MIN,
	 .max = BAUD_MAX,
	 .def = "9600",
	 .unit = "bit/s",
	 .help = "Speed; one that termios has."},
	{.name = "bytesize",
	 .type = FIELD_ENUM,
	 .names = sizes,
	 .def = "\"EIGHTBITS\"",
	 .help = "Data bits of a character."},
	{.name = "parity",
	 .type = FIELD_ENUM,
	 .names = parities,
	 .def = "\"NONE\"",
	 .help = "Parity bit of a character."},
	{.name = "stopbits",
	 .type = FIELD_ENUM,
	 .names = stops,
	 .def = "\"ONE\"",
	 .help = "Stop bits of a character; termios has no 1.5."},
	{.name = "flow_control",
	 .type = FIELD_OBJECT,
	 .inner = flow_fields,
	 .def = "{}",
	 .help = "Who may stop whom, and how."},
	{.name = "silent_interval",
	 .type = FIELD_NUMBER,
	 .min = 0,
	 .max = SILENT_MAX_S,
	 .def = "0.005",
	 .unit = "s",
	 .help = "Least pause before a write, since what we wrote or received last."},
	{0},
};

static const char *text_of(const json_t *block, const char *name)
{
	const char *text = json_string_value(json_object_get(block, name));

	return text != NULL ? text : "";
}

/* ret: its place among names; 0 if it is none of them. */
static size_t choice(const json_t *block, const char *name, const char *const *names)
{
	for (size_t i = 0; names[i] != NULL; i++)
		if (strcmp(text_of(block, name), names[i]) == 0)
			return i;
	return 0;
}

/* ret: B0: none. */
static speed_t speed_of(const json_t *block)
{
	json_int_t baud = json_integer_value(json_object_get(block, "baudrate"));

	for (size_t i = 0; i < ARRAY_LEN(speeds); i++)
		if (speeds[i].baud == baud)
			return speeds[i].speed;
	return B0;
}

static bool flow(const json_t *block, const char *name)
{
	return json_is_true(json_object_get(json_object_get(block, "flow_control"), name));
}

void serial_check(const json_t *block, struct problems *p)
{
	if (speed_of(block) == B0)
		problem_add(p, "baudrate", "no speed that termios has");
	if (strcmp(text_of(block, "stopbits"), "ONE_POINT_FIVE") == 0)
		problem_add(p, "stopbits", "termios has no 1.5 stop bits");
	if (flow(block, "dsrdtr"))
		problem_add(p, "flow_control.dsrdtr", "not supported");
}

/* ---- the line ---- */

static unsigned char_us_of(const json_t *block)
{
	double baud = (double)json_integer_value(json_object_get(block, "baudrate"));
	double bits = 1 + 5 + (double)choice(block, "bytesize", sizes) +
		      (choice(block, "parity", parities) > 0 ? 1 : 0) +
		      (strcmp(text_of(block, "stopbits"), "TWO") == 0 ? 2 : 1);

	return (unsigned)ceil(bits * 1e6 / baud);
}

static int set_line(int fd, const json_t *block, struct err *err)
{
	const char *port = text_of(block, "port");
	struct termios t;

	if (tcgetattr(fd, &t) < 0)
		return err_sys(err, "serial line %s", port);
	cfmakeraw(&t);
	t.c_iflag &= ~(tcflag_t)(IXON | IXOFF | IXANY); /* of who had the line before us */
	t.c_iflag |= IGNBRK | (flow(block, "xonxoff") ? IXON | IXOFF : 0);
	t.c_cflag &= ~(tcflag_t)(CSIZE | CSTOPB | PARENB | PARODD | CMSPAR | CRTSCTS);
	t.c_cflag |= CLOCAL | CREAD | size_flags[choice(block, "bytesize", sizes)] |
		     parity_flags[choice(block, "parity", parities)] |
		     (strcmp(text_of(block, "stopbits"), "TWO") == 0 ? CSTOPB : 0) |
		     (flow(block, "rtscts") ? CRTSCTS : 0);
	t.c_cc[VMIN] = 1;
	t.c_cc[VTIME] = 0;
	if (cfsetspeed(&t, speed_of(block)) < 0 || tcsetattr(fd, TCSANOW, &t) < 0)
		return err_sys(err, "serial line %s", port);
	(void)tcflush(fd, TCIOFLUSH);
	return 0;
}

/* Two programs on a line would take each other's bytes. */
static int take_line(int fd, const char *port, struct err *err)
{
	if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return err_set(err, ERR_BUSY, "serial line %s: another program or device has it",
			       port);
	if (ioctl(fd, TIOCEXCL) < 0)
		return err_sys(err, "serial line %s", port);
	return 0;
}

/* With what to do about it, where that is known. */
static int cannot_open(const char *port, struct err *err)
{
	if (errno == EACCES)
		return err_set(err, ERR_ACCES,
			       "serial line %s: %s: its group (dialout, as a rule) must have the "
			       "agent's user",
			       port, strerror(errno));
	if (errno == EPERM)
		return err_set(err, ERR_ACCES,
			       "serial line %s: %s: the agent's unit must have a DeviceAllow= for "
			       "it",
			       port, strerror(errno));
	return err_sys(err, "serial line %s", port);
}

int stream_open_serial(struct loop *l, const json_t *block, const struct stream_handlers *h,
		       void *arg, struct stream **ret, struct err *err)
{
	const char *port = text_of(block, "port");

	if (speed_of(block) == B0)
		return err_set(err, ERR_INVAL, "serial line %s: no speed that termios has", port);
	CLEANUP(closep)
	int fd = open(port, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return cannot_open(port, err);
	int rc = take_line(fd, port, err);
	if (rc == 0)
		rc = set_line(fd, block, err);
	if (rc < 0)
		return rc;
	struct stream *s = stream_new(l, TAKE_FD(fd), err);
	if (s == NULL)
		return ERR_NOMEM;
	s->char_us = char_us_of(block);
	s->silent_us =
		(int64_t)(json_number_value(json_object_get(block, "silent_interval")) * 1e6);
	rc = loop_add_timer(l, -1, 0, stream_on_silence, s, &s->timer, err);
	if (rc == 0)
		rc = stream_start(s, h, arg, err);
	if (rc < 0) {
		stream_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

unsigned stream_char_us(const struct stream *s)
{
	return s->char_us;
}
