/* two_devices [URL]: two device applications on one thread, inside a poll() loop of the program's
 * own.
 *
 * Each number on a line of standard input is pushed on the input Temperature of a Thermometer, and
 * the line "alarm" has it register again with a second input, Alarm. What arrives at the output
 * Text of a Display is printed. At the end of the input both deregister.
 */
#include <dan.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 256

enum { THERMOMETER, DISPLAY, DEVICES };

struct program;

struct device {
	struct program *program;
	const char *model;
	struct dan_device *dan;
};

struct program {
	const char *url;
	struct dan *dan;
	struct device devices[DEVICES];
	unsigned waiting; /* pushes that the broker has not acknowledged */
	unsigned leaving; /* devices on their way out */
	bool ended;       /* the input */
	char line[LINE_BYTES];
	size_t len;
};

static void on_registered(void *arg, const char *name)
{
	const struct device *me = arg;
	printf("%s: registered %s %s\n", me->model, name, dan_device_id(me->dan));
}

static void on_connect(void *arg, enum dan_mode mode, const char *feature)
{
	const struct device *me = arg;
	(void)mode;
	printf("%s: connected %s\n", me->model, feature);
}

static void on_data(void *arg, const char *feature, json_t *values)
{
	const struct device *me = arg;
	char *text = json_dumps(values, JSON_ENCODE_ANY);
	printf("%s: %s %s\n", me->model, feature, text != NULL ? text : "(out of memory)");
	free(text);
}

static void on_error(void *arg, const struct dan_error *err)
{
	const struct device *me = arg;
	fprintf(stderr, "%s: %s\n", me->model, err->text);
}

static const struct dan_device_handlers handlers = {
	.on_registered = on_registered,
	.on_connect = on_connect,
	.on_data = on_data,
	.on_error = on_error,
};

static int add(struct program *p, int which, struct dan_error *err)
{
	static const struct dan_feature temperature = {.name = "Temperature"},
					text = {.name = "Text"};
	static const struct {
		const char *model;
		const struct dan_feature *idf, *odf;
	} kinds[DEVICES] = {
		[THERMOMETER] = {"Thermometer", &temperature, NULL},
		[DISPLAY] = {"Display", NULL, &text},
	};
	struct device *device = &p->devices[which];
	struct dan_device_conf conf = {.csm_url = p->url,
				       .idfs = kinds[which].idf,
				       .n_idfs = kinds[which].idf != NULL,
				       .odfs = kinds[which].odf,
				       .n_odfs = kinds[which].odf != NULL,
				       .qos = 1};
	device->program = p;
	device->model = kinds[which].model;
	conf.profile = json_pack("{s:s}", "model", device->model);
	int rc = dan_device_new(p->dan, &conf, &handlers, device, &device->dan, err);
	json_decref(conf.profile);
	return rc;
}

static int add_alarm(struct program *p, struct dan_error *err)
{
	static const struct dan_feature idfs[] = {{.name = "Temperature"}, {.name = "Alarm"}};
	struct device *device = &p->devices[THERMOMETER];
	struct dan_device_conf conf = {.csm_url = p->url, .idfs = idfs, .n_idfs = 2, .qos = 1};
	conf.profile = json_pack("{s:s}", "model", device->model);
	int rc = dan_device_update(device->dan, &conf, err);
	json_decref(conf.profile);
	return rc;
}

/* ---- input ---- */

static void on_pushed(void *arg, int rc)
{
	struct program *p = arg;
	p->waiting--;
	printf("%s\n", rc == 0 ? "acknowledged" : "perhaps lost");
}

static void take_line(struct program *p, const char *line)
{
	struct dan_error err;
	char *end, text[64];
	double value = strtod(line, &end);
	int rc;
	if (strcmp(line, "alarm") == 0) {
		rc = add_alarm(p, &err);
	} else if (*line == '\0' || *end != '\0') {
		fprintf(stderr, "not a number: %s\n", line);
		return;
	} else {
		snprintf(text, sizeof(text), "[%.17g]", value);
		rc = dan_device_push_text(p->devices[THERMOMETER].dan, "Temperature", text,
					  on_pushed, p, &err);
		p->waiting += rc == 0;
	}
	if (rc < 0)
		on_error(&p->devices[THERMOMETER], &err);
}

static void read_input(struct program *p)
{
	ssize_t n = read(STDIN_FILENO, p->line + p->len, sizeof(p->line) - 1 - p->len);
	if (n < 0 && errno == EINTR)
		return;
	p->ended = n <= 0; /* a line that is too long ends it, too */
	p->len += n > 0 ? (size_t)n : 0;
	p->line[p->len] = '\0';
	char *begin = p->line;
	for (char *end; (end = strchr(begin, '\n')) != NULL; begin = end + 1) {
		*end = '\0';
		take_line(p, begin);
	}
	p->len = strlen(begin);
	memmove(p->line, begin, p->len);
}

/* ---- the loop ---- */

static void on_left(void *arg, int rc, const char *why)
{
	struct device *device = arg;
	printf("%s: %s\n", device->model, rc == 0 ? "deregistered" : why);
	device->program->leaving--;
	device->dan = dan_device_free(device->dan);
}

static void leave(struct program *p)
{
	for (int i = 0; i < DEVICES; i++)
		if (dan_device_leave(p->devices[i].dan, on_left, &p->devices[i], NULL) == 0)
			p->leaving++;
}

static int run(struct program *p)
{
	for (bool left = false; !left || p->leaving > 0;) {
		struct pollfd fds[] = {
			{.fd = dan_fd(p->dan), .events = POLLIN},
			{.fd = p->ended ? -1 : STDIN_FILENO, .events = POLLIN},
		};
		if (poll(fds, 2, dan_timeout_ms(p->dan)) < 0 && errno != EINTR)
			return EXIT_FAILURE;
		if (fds[1].revents != 0)
			read_input(p);
		if (p->ended && p->waiting == 0 && !left) {
			leave(p);
			left = true;
		}
		if (dan_work(p->dan) < 0)
			return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}

int main(int argc, char *argv[])
{
	struct program p = {.url = argc > 1 ? argv[1] : "http://127.0.0.1:9992"};
	struct dan_error err = {0};
	setvbuf(stdout, NULL, _IOLBF, 0);
	int rc = dan_open(&p.dan, &err);
	for (int i = 0; i < DEVICES && rc == 0; i++)
		rc = add(&p, i, &err);
	int status = EXIT_FAILURE;
	if (rc == 0)
		status = run(&p);
	else
		fprintf(stderr, "two_devices: %s\n", err.text);
	dan_close(p.dan);
	return status;
}
