#include "agent/device/modbus/scan.h"
#include "common/util.h"
#include <string.h>

#define ADDRESS_MAX 65535
#define TABLES                                                         \
	(1U << MODBUS_READ_COILS | 1U << MODBUS_READ_DISCRETE_INPUTS | \
	 1U << MODBUS_READ_HOLDING_REGISTERS | 1U << MODBUS_READ_INPUT_REGISTERS)
#define BLOCKS_MAX 16 /* halves that wait: one for each time that 2000 can be halved, and some */
#define BUSY_MAX   5  /* times that a busy device is asked again */
#define BUSY_MS    200

struct block {
	uint32_t first, n;
};

struct modbus_scan {
	struct loop *loop;
	struct loop_src *timer; /* the next request */
	struct modbus_scan_conf conf;
	const struct modbus_scan_events *e;
	void *arg;
	struct modbus_client *client, *own;
	bool connected;                         /* own */
	bool asked;                             /* a request is under way */
	bool over;                              /* on_done was called */
	uint8_t there[MODBUS_UNIT_MAX / 8 + 1]; /* a bit for each unit */
	unsigned n_there;
	bool ranges;                     /* units are known, now their tables */
	unsigned unit;                   /* that is looked at */
	uint8_t function;                /* its table */
	uint32_t address;                /* that no block has begun with yet */
	struct block blocks[BLOCKS_MAX]; /* the last one is next */
	unsigned n_blocks, busy_left;
	struct block open; /* readable, perhaps longer; n 0: none */
	uint64_t done, total;
	unsigned handlers; /* that run */
	bool freed;
};

static void enter(struct modbus_scan *s)
{
	s->handlers++;
}

static void leave(struct modbus_scan *s)
{
	if (--s->handlers == 0 && s->freed)
		free(s);
}

static void end(struct modbus_scan *s, const char *why)
{
	if (s->over || s->freed)
		return;
	s->over = true;
	loop_arm(s->loop, s->timer, -1);
	if (s->own != NULL) {
		s->own = modbus_client_free(TAKE(s->own));
		s->client = NULL;
	}
	if (why == NULL)
		s->e->on_progress(s->arg, !s->ranges, s->done, s->total);
	if (!s->freed)
		s->e->on_done(s->arg, why);
}

static bool is_there(const struct modbus_scan *s, unsigned unit)
{
	return s->there[unit / 8] >> unit % 8 & 1;
}

/* ---- what is next ---- */

static uint32_t block_max(uint8_t function)
{
	return function == MODBUS_READ_COILS || function == MODBUS_READ_DISCRETE_INPUTS
		       ? MODBUS_READ_BITS_MAX
		       : MODBUS_READ_WORDS_MAX;
}

static void tell_range(struct modbus_scan *s)
{
	struct block range = s->open;

	s->open.n = 0;
	if (range.n > 0 && !s->freed)
		s->e->on_range(s->arg, s->unit, s->function, range.first,
			       range.first + range.n - 1);
}

static void begin_table(struct modbus_scan *s)
{
	s->address = s->conf.first_address;
	s->n_blocks = 0;
	s->busy_left = BUSY_MAX;
}

/* ret: false: there is no other one of this unit. */
static bool next_table(struct modbus_scan *s)
{
	while (++s->function <= MODBUS_READ_INPUT_REGISTERS)
		if (s->conf.tables & 1U << s->function) {
			begin_table(s);
			return true;
		}
	return false;
}

/* ret: false: there is no other one that is there. */
static bool next_unit(struct modbus_scan *s)
{
	while (++s->unit <= s->conf.last_unit)
		if (is_there(s, s->unit)) {
			s->function = 0;
			return next_table(s);
		}
	return false;
}

static void begin_ranges(struct modbus_scan *s)
{
	uint64_t tables = (unsigned)__builtin_popcount(s->conf.tables);

	if (tables == 0 || s->n_there == 0) {
		end(s, NULL);
		return;
	}
	s->ranges = true;
	s->done = 0;
	s->total = tables * s->n_there * (s->conf.last_address - s->conf.first_address + 1);
	s->unit = s->conf.first_unit - 1; /* may go round, and comes back */
	(void)next_unit(s);
}

/* The table has nothing more to tell. */
static void skip_table(struct modbus_scan *s)
{
	uint32_t left = s->conf.last_address + 1 - s->address;

	for (unsigned i = 0; i < s->n_blocks; i++)
		left += s->blocks[i].n;
	s->done += left;
	tell_range(s);
	if (!next_table(s) && !next_unit(s))
		end(s, NULL);
}

/* ret: false: the table is through. */
static bool take_block(struct modbus_scan *s)
{
	uint32_t left = s->conf.last_address + 1 - s->address, max = block_max(s->function);

	if (s->n_blocks > 0)
		return true;
	if (left == 0)
		return false;
	s->blocks[s->n_blocks++] = (struct block){s->address, left < max ? left : max};
	s->address += s->blocks[0].n;
	return true;
}

/* ---- what comes of it ---- */

static void on_readable(struct modbus_scan *s)
{
	struct block b = s->blocks[--s->n_blocks];

	s->done += b.n;
	if (s->open.n > 0 && s->open.first + s->open.n == b.first)
		s->open.n += b.n;
	else
		s->open = b;
}

static void on_refused(struct modbus_scan *s)
{
	struct block b = s->blocks[--s->n_blocks];
	uint32_t half = b.n / 2;

	if (b.n == 1) {
		s->done++;
		tell_range(s);
		return;
	}
	s->blocks[s->n_blocks++] = (struct block){b.first + half, b.n - half};
	s->blocks[s->n_blocks++] = (struct block){b.first, half};
}

/* ret: milliseconds to wait for longer than usual. */
static unsigned on_block_answer(struct modbus_scan *s, const struct modbus_answer *a)
{
	bool busy = a->exception == MODBUS_SERVER_BUSY || a->exception == MODBUS_ACKNOWLEDGE;

	if (busy && s->busy_left > 0) {
		s->busy_left--;
		return BUSY_MS;
	}
	s->busy_left = BUSY_MAX;
	if (a->exception == 0)
		on_readable(s);
	else if (a->exception == MODBUS_ILLEGAL_FUNCTION)
		skip_table(s);
	else
		on_refused(s);
	return 0;
}

/* A gateway answers for units behind it that are not there. */
static bool is_from_unit(const struct modbus_result *r)
{
	return r->kind == MODBUS_DONE && r->answer->exception != MODBUS_GATEWAY_PATH_UNAVAILABLE &&
	       r->answer->exception != MODBUS_GATEWAY_TARGET_FAILED;
}

static void on_unit_result(struct modbus_scan *s, const struct modbus_result *r)
{
	unsigned unit = s->unit++;

	s->done++;
	if (!is_from_unit(r))
		return;
	s->there[unit / 8] |= (uint8_t)(1U << unit % 8);
	s->n_there++;
	s->e->on_unit(s->arg, unit);
}

static void on_result(void *arg, const struct modbus_result *r)
{
	struct modbus_scan *s = arg;
	unsigned wait_ms = 0;

	enter(s);
	s->asked = false;
	if (!s->ranges)
		on_unit_result(s, r);
	else if (r->kind == MODBUS_DONE)
		wait_ms = on_block_answer(s, r->answer);
	else /* it hung up, or fell silent: no more of this */
		skip_table(s);
	if (!s->freed && !s->over)
		s->e->on_progress(s->arg, !s->ranges, s->done, s->total);
	if (!s->freed && !s->over)
		loop_arm(s->loop, s->timer, s->conf.pause_ms + wait_ms);
	leave(s);
}

/* ---- asking ---- */

static void ask(struct modbus_scan *s, uint8_t function, uint32_t address, uint32_t quantity)
{
	const struct modbus_request q = {
		.function = function, .address = (uint16_t)address, .quantity = (uint16_t)quantity};
	struct err err = {0};
	int rc = modbus_client_request(s->client, (uint8_t)s->unit, &q, on_result, s, &err);

	if (rc == 0)
		s->asked = true;
	else if (rc != ERR_PEER || s->own == NULL) /* else it connects again */
		end(s, err.text);
}

static void ask_next(struct modbus_scan *s)
{
	const struct block *b;

	if (!s->ranges) {
		ask(s, MODBUS_READ_HOLDING_REGISTERS, s->conf.first_address, 1);
		return;
	}
	b = &s->blocks[s->n_blocks - 1];
	ask(s, s->function, b->first, b->n);
}

static void on_step(void *arg)
{
	struct modbus_scan *s = arg;

	enter(s);
	if (!s->ranges && s->unit > s->conf.last_unit)
		begin_ranges(s);
	while (s->ranges && !s->over && !s->freed && !take_block(s))
		skip_table(s);
	if (!s->over && !s->freed)
		ask_next(s);
	leave(s);
}

static void on_state(void *arg, enum link_state state)
{
	struct modbus_scan *s = arg;
	bool failed = state == LINK_DISCONNECTED && !s->connected;

	enter(s);
	if (state == LINK_CONNECTED && !s->asked)
		loop_arm(s->loop, s->timer, s->conf.pause_ms);
	/* A device may hang up when it is asked for what it does not have; it lets us in again. */
	s->connected = state == LINK_CONNECTED;
	if (failed && s->own != NULL)
		end(s, modbus_client_why(s->own));
	leave(s);
}

/* ---- for the caller ---- */

static int check(const struct modbus_scan_conf *conf, struct err *err)
{
	if (conf->first_unit > conf->last_unit || conf->last_unit > MODBUS_UNIT_MAX)
		return err_set(err, ERR_INVAL, "units %u to %u", conf->first_unit, conf->last_unit);
	if (conf->first_address > conf->last_address || conf->last_address > ADDRESS_MAX)
		return err_set(err, ERR_INVAL, "addresses %u to %u", conf->first_address,
			       conf->last_address);
	if ((conf->tables & ~TABLES) != 0)
		return err_set(err, ERR_INVAL, "tables are read with the functions 1 to 4");
	return 0;
}

int modbus_scan_new(struct loop *l, const struct modbus_scan_conf *conf,
		    const struct modbus_scan_events *e, void *arg, struct modbus_scan **ret,
		    struct err *err)
{
	static const struct modbus_client_handlers handlers = {.on_state = on_state};
	int rc = check(conf, err);

	if (rc < 0)
		return rc;
	struct modbus_scan *s = calloc(1, sizeof(*s));
	if (s == NULL)
		return err_set(err, ERR_NOMEM, "a modbus scan");
	*s = (struct modbus_scan){.loop = l,
				  .conf = *conf,
				  .e = e,
				  .arg = arg,
				  .client = conf->client,
				  .unit = conf->first_unit,
				  .total = conf->last_unit - conf->first_unit + 1};
	rc = loop_add_timer(l, conf->client != NULL ? 0 : -1, 0, on_step, s, &s->timer, err);
	if (rc == 0 && conf->client == NULL) {
		rc = modbus_client_new(l, conf->connection, &handlers, s, &s->own, err);
		s->client = s->own;
	}
	if (rc < 0) {
		modbus_scan_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

struct modbus_scan *modbus_scan_free(struct modbus_scan *s)
{
	if (s == NULL)
		return NULL;
	enter(s);
	s->freed = true;
	if (s->own == NULL && s->client != NULL)
		modbus_client_forget(s->client, s);
	s->own = modbus_client_free(TAKE(s->own));
	s->timer = loop_remove(s->loop, s->timer);
	leave(s);
	return NULL;
}
