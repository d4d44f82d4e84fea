/* conf.h - the device file (gateway-devices 1.6): read, checked as a whole, templates put in.
 *
 * A device may name a template (template.h). Devices that are alike share what they have of JSON,
 * which nobody changes: as long as the file is in memory, many of them with the same points take
 * the room of one. Those that run have their own, packed.
 *
 * A file of many devices takes long to read, and the loop has other things to do meanwhile: it is
 * read in steps, each about as long as one device takes. A device whose text was right before, and
 * is still the same, need not be read again; one that is the same in all that counts is not kept.
 */
#pragma once

#include "agent/device/driver.h"
#include "agent/device/field.h"
#include "agent/device/file.h"
#include "agent/device/template.h"
#include "common/err.h"
#include "common/settings.h"
#include <jansson.h>

/* One device as it is to run. */
struct device_conf {
	const struct device_type *type;
	const char *name; /* in json; of a device that runs: its own */
	json_t *json;     /* owned: checked, with defaults, template put in; not to be changed.
			     NULL: that of the device that runs (struct conf_known) */
	char digest[FILE_DIGEST_LEN + 1]; /* of its text; "": it is to be read in any case */
	size_t number;                    /* of the file's list `devices` */
};

struct devices_conf {
	json_t *json;     /* the whole file; owned */
	const char *name; /* of the gateway, and so on: in json */
	const char *mqtt_host;
	unsigned mqtt_port;
	const char *username;
	char *password; /* of password_file; owned; NULL: none */
	const char *csm_url;
	double bus_loss_grace_s, sync_timeout_s;
	struct device_conf *devices;
	size_t n;
};

/* Rows of the whole file, and of what every device has (type, name, restart_delay, store,
 * template); docs are made of them. */
extern const struct field devices_fields[];
extern const struct field device_fields[];

/* Read and check. settings: where the broker and csm are if the file does not say. All that is
 * wrong and odd goes to p. ret: 0; ERR_NOENT and others of open(2), ERR_LIMIT (more than 64 MiB),
 * ERR_PARSE (with line and column), all in err and in p; ERR_SCHEMA (in p), ERR_NOMEM.
 * devices_conf_done() in any case. */
int devices_conf_load(const char *path, const struct settings *settings, struct devices_conf *ret,
		      struct problems *p, struct err *err);
/* Of a text; dir: where `password_file` and templates of the file are relative to. For tests,
 * fuzzing. */
int devices_conf_parse(const char *text, size_t len, const char *dir,
		       const struct settings *settings, struct devices_conf *ret,
		       struct problems *p, struct err *err);
/* The device i is needed no more; it is null in json, too. */
void devices_conf_drop(struct devices_conf *c, size_t i);
void devices_conf_done(struct devices_conf *c);

/* ---- in steps ---- */

struct conf_reading;

/* What was read before, and is in force. */
struct conf_known {
	/* ret: the device that was made of the text with this digest, without its JSON; borrowed;
	 * NULL: none. Not one that was read with other templates. */
	const struct device_conf *(*find_text)(void *arg, const char *digest);
	/* The device that has the name and the same JSON as d. ret: 1; 0: none; ERR_NOMEM. */
	int (*find_same)(void *arg, const struct device_conf *d, const struct device_conf **ret,
			 struct err *err);
	void *arg;
	struct templates *templates; /* that it was read with; taken, unless there is an
					error; NULL: none yet */
};

/* The file is loaded at once. path, settings, known (NULL: nothing is), p: borrowed, as long as it
 * is read. Errors: as devices_conf_load(). */
int conf_reading_new(const char *path, const struct settings *settings,
		     const struct conf_known *known, struct problems *p, struct conf_reading **ret,
		     struct err *err);
/* A step. ret: 1: there are more; 0: it is done; else as devices_conf_load(), and it is over. */
int conf_reading_step(struct conf_reading *r, struct err *err);
/* All of them. ret: never 1. */
int conf_reading_run(struct conf_reading *r, struct err *err);
/* What was read: all, if it is done. devices_conf_done(). ret_templates: yours, for the next time.
 */
void conf_reading_take(struct conf_reading *r, struct devices_conf *ret,
		       struct templates **ret_templates);
/* NULL is fine; returns NULL. */
struct conf_reading *conf_reading_free(struct conf_reading *r);
