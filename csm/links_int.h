/* links_int.h - what links.c (which links there are) and link_commands.c (what their devices are told) share. */
#pragma once

#include "common/id.h"
#include "common/map.h"
#include "csm/links.h"
#include "csm/pace.h"

enum state { LINK_WAITING, LINK_CONNECTING, LINK_CONNECTED, LINK_ERROR };

struct link {
	struct links *links;
	char *key; /* da_id/mode/feature; the three parts below are copies */
	char *da_id, *feature;
	const char *mode;
	char topic[64];
	unsigned refs, live;
	enum state state;
	bool connected; /* the device has been told CONNECT since it came online */
	bool resend;	/* while starting: its CONNECT may not have reached the device */
	char *missing; /* the device no longer declares the feature: in words; NULL: it does, or never did */
	char reason[300];
	struct uuid_text msg_id;    /* of the open command */
	const char *open_command;   /* NULL: none open */
	int64_t commanded_us;	    /* since when */
	struct paced paced;	    /* it waits for its turn */
	bool unsent;		    /* it is not on its way yet for lack of memory */
	bool late;		    /* nobody answered the CONNECT msg_id in time, but somebody may yet */
	struct loop_src *timer;	    /* runs while a command is open */
	struct link *next_of_device;
	bool leaving; /* nobody's any more, but its DISCONNECT has no answer yet: not in by_key */
	struct link *prev_leaving, *next_leaving;
};

struct of_device {
	struct link *first;
	char da_id[];
};

struct links {
	struct csm *csm;
	struct map *by_key;    /* -> struct link */
	struct map *by_device; /* da_id -> struct of_device */
	struct link *leaving;
	struct pace *pace; /* of the commands */
};

/* ---- links.c ---- */

struct link *link_free(struct link *k); /* NULL is fine; returns NULL */
/* The links of a device, by next_of_device; NULL: none. */
struct link *links_first_of(const struct links *l, const char *da_id);
void links_drop_of_device(struct links *l, const struct link *k);

/* ---- link_commands.c ---- */

/* To the log, and to who monitors its graphs. */
void link_report(struct link *k, const char *reason);
/* One whose last word has been answered, or never will be; k is gone. */
void link_leave(struct link *k);
/* The open command, if there is one, is over: answered, given up, or without an addressee. */
void link_close_command(struct link *k);
void link_connect(struct link *k);
/* at_once: without waiting for its turn, as nobody will be there to wait. */
void link_disconnect(struct link *k, bool at_once);
void link_on_timer(void *link);	     /* of its open command */
void link_on_turn(struct paced *item); /* its command is to go out now */
