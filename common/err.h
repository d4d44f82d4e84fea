/* err.h - one convention for errors: a negative code for programs, a sentence for people.
 *
 * Functions return 0 (or a count) on success and a negative ERR_* on failure. A `struct err *` parameter may be NULL. A
 * function either returns its failure or logs it, never both; logging happens once, where the work began.
 */
#pragma once

#include <errno.h>

enum err_code {
	ERR_NONE = 0,
	/* errno, negated */
	ERR_NOMEM = -ENOMEM,
	ERR_INVAL = -EINVAL,
	ERR_NOENT = -ENOENT,
	ERR_EXIST = -EEXIST,
	ERR_ACCES = -EACCES,
	ERR_AGAIN = -EAGAIN,
	ERR_BUSY = -EBUSY,
	ERR_RANGE = -ERANGE,
	ERR_TIMEOUT = -ETIMEDOUT,
	/* ours */
	ERR_PARSE = -1000,   /* text that does not parse */
	ERR_SCHEMA = -1001,  /* parses, but the shape or a value is wrong */
	ERR_DB = -1002,      /* the store failed */
	ERR_BUS = -1003,     /* MQTT failed */
	ERR_PEER = -1004,    /* another process answered wrongly or went away */
	ERR_SYS = -1005,     /* any other system call */
	ERR_LIMIT = -1006,   /* a configured limit is reached */
	ERR_CONFLICT = -1007 /* the caller's idea of the state is out of date */
};

struct err {
	int code;
	char text[1000]; /* never empty when code is not 0; UTF-8: cut on a character boundary, "?" for what is none */
};

/* Fill e (unless NULL). ERR_NOMEM: "out of memory" is appended unless it is there. ret: code, so that `return err_set(...)` reads well. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The same, with strerror(errno) appended; for failed system calls. */
int err_sys(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Put what we were doing in front of the text that is there. ret: code. */
int err_wrap(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Stable short name of a code, e.g. "EXIST"; never NULL. */
const char *err_name(int code);
