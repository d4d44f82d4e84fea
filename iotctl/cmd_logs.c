/* cmd_logs.c - iotctl logs: what the daemons log, in the order of time. */
#include "common/util.h"
#include "iotctl/iotctl.h"
#include "iotctl/kept.h"
#include "iotctl/units.h"
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#define LINES_SHOWN 20
#define LINES_MAX   1000000
#define BLOCK_BYTES 65536
#define STAMP_BYTES 20 /* 2026-11-29T04:38:23 and its end: to the second, all logs have it */
#define SOURCES     (UNITS + 1)
#define LOOK_MS     1000 /* at the files, should a notice be lost */

struct source {
	const char *name;
	char *path;
	bool there;
	ino_t inode;
	off_t at; /* read up to here */
};

/* One line of the past. */
struct line {
	char stamp[STAMP_BYTES];
	size_t order; /* of reading: lines without a time stay behind their forerunner */
	const struct source *source;
	char *text;
};

struct logs {
	struct source sources[SOURCES];
	size_t n;
	int name_width;
	struct line *lines;
	size_t n_lines, cap;
};

/* ---- which ---- */

static int add_source(struct logs *l, const struct iotctl *app, const char *name)
{
	struct source *s = &l->sources[l->n];
	char relative[64];

	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->sources[i].name, name) == 0)
			return 0;
	snprintf(relative, sizeof(relative), "log/%s.log", name);
	s->name = name;
	s->path = settings_path(&app->settings, relative);
	if (s->path == NULL)
		return complain("logs: out of memory");
	l->n++;
	if ((int)strlen(name) > l->name_width)
		l->name_width = (int)strlen(name);
	return 0;
}

static int choose(struct logs *l, const struct iotctl *app, char *names[], int n)
{
	static const char supervisor[] = "supervisor";
	struct err err = {0};
	unsigned mask = 0;
	int rc = 0;

	for (int i = 0; rc == 0 && i < n; i++) {
		if (strcmp(names[i], supervisor) == 0)
			rc = add_source(l, app, supervisor);
		else if (units_parse(&names[i], 1, &mask, &err) < 0)
			return refuse_names("logs", &err);
		else
			for (unsigned u = 0; rc == 0 && u < UNITS; u++)
				if (mask & 1u << u)
					rc = add_source(l, app, unit_kinds[u].name);
	}
	for (unsigned u = 0; rc == 0 && n == 0 && u < UNITS; u++)
		rc = add_source(l, app, unit_kinds[u].name);
	if (rc == 0 && n == 0)
		rc = add_source(l, app, supervisor);
	return rc;
}

static unsigned units_of(const struct logs *l)
{
	unsigned mask = 0;

	for (size_t i = 0; i < l->n; i++)
		for (unsigned u = 0; u < UNITS; u++)
			if (strcmp(l->sources[i].name, unit_kinds[u].name) == 0)
				mask |= 1u << u;
	return mask;
}

/* ---- the past ---- */

/* "2026-11-29T04:38:23" at the begin of a line of text or in one of JSON; else ret_stamp stays. */
static void read_stamp(const char *line, char ret_stamp[STAMP_BYTES])
{
	static const char form[] = "dddd-dd-ddTdd:dd:dd", json[] = "{\"time\":\"";
	const char *at =
		strncmp(line, json, sizeof(json) - 1) == 0 ? line + sizeof(json) - 1 : line;

	for (size_t i = 0; form[i] != '\0'; i++)
		if (form[i] == 'd' ? at[i] < '0' || at[i] > '9' : at[i] != form[i])
			return;
	memcpy(ret_stamp, at, STAMP_BYTES - 1);
	ret_stamp[STAMP_BYTES - 1] = '\0';
}

static int keep_line(struct logs *l, const struct source *s, char *text, char stamp[STAMP_BYTES])
{
	if (l->n_lines == l->cap) {
		size_t cap = l->cap == 0 ? 256 : l->cap * 2;
		struct line *more = realloc(l->lines, cap * sizeof(*more));

		if (more == NULL)
			return complain("logs: out of memory");
		l->lines = more;
		l->cap = cap;
	}
	struct line *line = &l->lines[l->n_lines];

	*line = (struct line){.order = l->n_lines, .source = s, .text = text};
	read_stamp(text, stamp);
	memcpy(line->stamp, stamp, STAMP_BYTES);
	l->n_lines++;
	return 0;
}

/* Where the last `lines` lines of a file begin. */
static off_t begin_of_last(FILE *f, off_t size, long lines)
{
	CLEANUP(freep)
	char *block = malloc(BLOCK_BYTES);
	off_t end = size;
	long found = 0;

	while (block != NULL && end > 0) {
		size_t want = end > BLOCK_BYTES ? BLOCK_BYTES : (size_t)end;
		ssize_t n = pread(fileno(f), block, want, end - (off_t)want);

		if (n < (ssize_t)want)
			break;
		for (size_t i = want; i > 0; i--) {
			/* the very last end of a line ends the last line, and begins none */
			if (block[i - 1] == '\n' && end - (off_t)want + (off_t)i < size &&
			    ++found == lines)
				return end - (off_t)want + (off_t)i;
		}
		end -= (off_t)want;
	}
	return 0;
}

/* Up to s->at. */
static int keep_last(struct logs *l, struct source *s, FILE *f, long lines)
{
	off_t at = lines > 0 ? begin_of_last(f, s->at, lines) : s->at;
	size_t cap = 0;
	char *text = NULL, stamp[STAMP_BYTES] = "";
	int rc = 0;

	fseeko(f, at, SEEK_SET);
	while (rc == 0 && at < s->at) {
		ssize_t n = getline(&text, &cap, f);

		if (n <= 0)
			break;
		at += n;
		text[strcspn(text, "\n")] = '\0';
		rc = keep_line(l, s, text, stamp);
		text = rc == 0 ? NULL : text;
		cap = 0;
	}
	free(text);
	return rc;
}

static bool ends_a_line(FILE *f, off_t size)
{
	char last = '\n';

	return size == 0 || (pread(fileno(f), &last, 1, size - 1) == 1 && last == '\n');
}

/* on: a line that is still being written is left to show_new(). */
static int read_past(struct logs *l, struct source *s, long lines, bool on)
{
	struct stat st;
	FILE *f = fopen(s->path, "re");

	if (f == NULL)
		return errno == ENOENT
			       ? 0
			       : complain("logs: cannot read '%s': %s", s->path, strerror(errno));
	s->there = true;
	int rc = fstat(fileno(f), &st) == 0 ? 0
					    : complain("logs: '%s': %s", s->path, strerror(errno));
	if (rc == 0) {
		s->inode = st.st_ino;
		s->at = st.st_size;
		if (on && !ends_a_line(f, s->at))
			s->at = begin_of_last(f, s->at, 1);
		rc = keep_last(l, s, f, lines);
	}
	fclose(f);
	return rc;
}

static int by_time(const void *a, const void *b)
{
	const struct line *x = a, *y = b;
	int order = strcmp(x->stamp, y->stamp);

	return order != 0 ? order : x->order < y->order ? -1 : 1;
}

/* What others made devices say may stand in a line: no control character reaches the terminal. */
static void print_line(const struct logs *l, const struct source *s, const char *text)
{
	if (l->n > 1)
		printf("%-*s | ", l->name_width, s->name);
	for (const char *c = text; *c != '\0'; c++)
		putchar((unsigned char)*c < ' ' && *c != '\t' ? '?' : *c);
	putchar('\n');
}

static void print_past(struct logs *l, long lines)
{
	if (l->n_lines > 0)
		qsort(l->lines, l->n_lines, sizeof(*l->lines), by_time);
	for (size_t i = l->n_lines > (size_t)lines ? l->n_lines - (size_t)lines : 0; i < l->n_lines;
	     i++)
		print_line(l, l->lines[i].source, l->lines[i].text);
}

/* ---- what comes ---- */

/* The file may be new, or begun anew (logfile.h); whole lines only. Opened each time: a stream that
 * stays open may give what it once read of another file. */
static void show_new(const struct logs *l, struct source *s)
{
	struct stat st;
	size_t cap = 0;
	CLEANUP(freep)
	char *text = NULL;
	ssize_t n;
	FILE *f = fopen(s->path, "re");

	if (f == NULL)
		return;
	if (fstat(fileno(f), &st) == 0) {
		if (st.st_ino != s->inode || st.st_size < s->at)
			s->at = 0;
		s->inode = st.st_ino;
	}
	fseeko(f, s->at, SEEK_SET);
	while ((n = getline(&text, &cap, f)) > 0 && text[n - 1] == '\n') {
		s->at += n;
		text[n - 1] = '\0';
		print_line(l, s, text);
	}
	fclose(f);
}

static int follow(struct logs *l, const struct iotctl *app)
{
	CLEANUP(freep)
	char *dir = settings_path(&app->settings, "log");
	CLEANUP(closep)
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	char notices[4096];

	if (dir == NULL || fd < 0 ||
	    inotify_add_watch(fd, dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
		return complain("logs: cannot watch '%s': %s", dir != NULL ? dir : "log",
				strerror(errno));
	while (!ferror(stdout)) {
		struct pollfd p[] = {{.fd = fd, .events = POLLIN}, {.fd = STDOUT_FILENO}};

		for (size_t i = 0; i < l->n; i++)
			show_new(l, &l->sources[i]);
		fflush(stdout);
		/* who reads us may go: then there is nobody to follow for */
		if (poll(p, 2, LOOK_MS) > 0 && (p[1].revents & POLLERR) != 0)
			break;
		while (read(fd, notices, sizeof(notices)) > 0)
			;
	}
	return EXIT_OK;
}

/* ---- the command ---- */

static int show(struct logs *l, const struct iotctl *app, long lines, bool on)
{
	bool any = on;

	for (size_t i = 0; i < l->n; i++) {
		if (read_past(l, &l->sources[i], lines, on) != 0)
			return EXIT_ERROR;
		any = any || l->sources[i].there;
	}
	if (!any)
		return complain("logs: there is no log%s%s in %s/log", l->n == 1 ? " of " : "",
				l->n == 1 ? l->sources[0].name : "", app->settings.core.userdir);
	print_past(l, lines);
	return on ? follow(l, app) : EXIT_OK;
}

static void logs_done(struct logs *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->sources[i].path);
	for (size_t i = 0; i < l->n_lines; i++)
		free(l->lines[i].text);
	free(l->lines);
}

static int parse_lines(const char *text, long *ret)
{
	char *end;

	errno = 0;
	*ret = strtol(text, &end, 10);
	return *text != '\0' && *end == '\0' && errno == 0 && *ret >= 0 && *ret <= LINES_MAX ? 0
											     : -1;
}

int cmd_logs(struct iotctl *app, const struct options *o)
{
	struct logs l = {0};
	const char *given = options_value(o, "lines");
	long lines = LINES_SHOWN;

	if (given != NULL && parse_lines(given, &lines) < 0)
		return misused("logs: -n '%s' is not a number of lines (0 to %d)", given,
			       LINES_MAX);
	if (iotctl_settings(app) < 0 || iotctl_look(app) < 0)
		return EXIT_ERROR;
	int rc = choose(&l, app, o->argv, o->argc);
	/* what systemd keeps logs to the journal; files there are of another time */
	unsigned kept = rc == 0 ? kept_units(app, units_of(&l)) : 0;

	if (kept != 0)
		rc = kept_journal(app, kept, lines, options_has(o, "follow"));
	else if (rc == 0)
		rc = show(&l, app, lines, options_has(o, "follow"));
	logs_done(&l);
	return rc;
}
