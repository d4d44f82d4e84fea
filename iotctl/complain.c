/* complain.c - what iotctl says when it cannot do what it was asked. */
#include "iotctl/iotctl.h"
#include <stdarg.h>
#include <stdio.h>

static void say(const char *fmt, va_list ap)
{
	fflush(stdout);
	fputs("iotctl: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
}

int complain(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	return EXIT_ERROR;
}

int misused(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	return EXIT_USAGE;
}

int refuse_names(const char *command, const struct err *err)
{
	complain("%s: %s", command, err->text);
	return err->code == ERR_INVAL ? EXIT_USAGE : EXIT_ERROR;
}
