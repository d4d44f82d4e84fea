/* fuzz: broker
 *
 * The broker plugin without mosquitto: the input is a program of packets of an agent (well and
 * badly formed), messages of devices, writes of hostile engines and turns of the broker. Whatever
 * comes, what is published goes to topics of ours, nothing is lost of what was allocated. */
#include "broker/commands.h"
#include "broker/mosq.h"
#include "common/tap.h"
#include "common/util.h"
#include <assert.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define RING    4096u
#define PAGE    4096u
#define ENGINES 3
#define TOPICS  6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const topics[TOPICS] = {
	"iottalk/esm/a",     "iottalk/esm/b",
	"iottalk/monitor/a", "iottalk/esm/+",
	"other/topic",       "iottalk/esm/cccccccccccccccccccccccccccccccccccccccccccc",
};

struct input {
	const uint8_t *data;
	size_t left;
};

struct engine {
	struct tap_fds fds;
	int pipes[4];           /* wake: read, write; result: read, write */
	unsigned char *in_page; /* the in-memfd's cursors */
	unsigned char *page;    /* the present out-memfd */
	uint64_t tail;
};

struct world {
	struct commands c;
	struct session s;
	struct engine *e; /* ENGINES */
	uint32_t port[ENGINES];
	bool failing; /* the broker has no memory */
	struct reply reply;
};

static struct world *the_world; /* mosquitto's functions have no argument of ours */

static uint64_t take(struct input *in, size_t n)
{
	uint64_t v = 0;
	n = n < in->left ? n : in->left;
	memcpy(&v, in->data, n);
	in->data += n;
	in->left -= n;
	return v;
}

/* ---- mosquitto ---- */

void *mosquitto_malloc(size_t size)
{
	return the_world->failing ? NULL : malloc(size);
}

void mosquitto_free(void *mem)
{
	free(mem);
}

static void check_publication(const char *topic, int len, int qos)
{
	assert(strncmp(topic, ESM_PREFIX, strlen(ESM_PREFIX)) == 0 ||
	       strncmp(topic, MONITOR_PREFIX, strlen(MONITOR_PREFIX)) == 0);
	assert(strpbrk(topic, "+# ") == NULL);
	assert(len >= 0 && qos >= 0 && qos <= 2);
}

int mosquitto_broker_publish(const char *clientid, const char *topic, int payloadlen, void *payload,
			     int qos, bool retain, mosquitto_property *properties)
{
	assert(clientid == NULL && !retain && properties == NULL);
	check_publication(topic, payloadlen, qos);
	assert((payloadlen == 0) == (payload == NULL));
	if (the_world->failing)
		return MOSQ_ERR_NOMEM;
	free(payload);
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_broker_publish_copy(const char *clientid, const char *topic, int payloadlen,
				  const void *payload, int qos, bool retain,
				  mosquitto_property *properties)
{
	static volatile unsigned char sum;

	assert(clientid == NULL && !retain && properties == NULL);
	check_publication(topic, payloadlen, qos);
	for (int i = 0; i < payloadlen; i++)
		sum ^= ((const unsigned char *)payload)[i];
	return the_world->failing ? MOSQ_ERR_NOMEM : MOSQ_ERR_SUCCESS;
}

void mosquitto_log_printf(int level, const char *fmt, ...)
{
	char line[2000];
	va_list ap;

	(void)level;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	assert(strchr(line, '\n') == NULL);
}

int mosquitto_callback_register(mosquitto_plugin_id_t *id, int event, MOSQ_FUNC_generic_callback fn,
				const void *data, void *user)
{
	(void)id, (void)event, (void)fn, (void)data, (void)user;
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_callback_unregister(mosquitto_plugin_id_t *id, int event,
				  MOSQ_FUNC_generic_callback fn, const void *data)
{
	(void)id, (void)event, (void)fn, (void)data;
	return MOSQ_ERR_SUCCESS;
}

/* ---- the world ---- */

static void map_out(struct engine *e)
{
	if (e->page != NULL)
		munmap(e->page, PAGE + RING);
	e->page = mmap(NULL, PAGE + RING, PROT_READ | PROT_WRITE, MAP_SHARED, e->fds.out_fd, 0);
	assert(e->page != MAP_FAILED);
	memcpy(&e->tail, e->page + 64, sizeof(e->tail));
}

/* Made once: rings and pipes cost more than the rest. */
static void engine_init(struct engine *e)
{
	assert(tap_make(RING, RING, &e->fds, NULL) == 0);
	assert(pipe2(e->pipes, O_NONBLOCK | O_CLOEXEC) == 0 &&
	       pipe2(e->pipes + 2, O_NONBLOCK | O_CLOEXEC) == 0);
	e->in_page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, e->fds.in_fd, 0);
	assert(e->in_page != MAP_FAILED);
	map_out(e);
}

/* As new: cursors (docs/ring.rst) are where they begin. */
static void engine_reset(struct engine *e)
{
	static char sink[4096];

	memset(e->in_page + 64, 0, 5 * 64);
	memset(e->page, 0, PAGE);
	e->tail = 0;
	while (read(e->pipes[0], sink, sizeof(sink)) > 0)
		continue;
}

/* The connection is gone, another one comes. */
static void hang_up(struct world *w)
{
	ports_forget_echoes(w->c.ports, &w->s);
	ports_disown(w->c.ports, &w->s);
	w->s = (struct session){.greeted = true};
}

static void on_event(void *arg, uint32_t port, enum plug_event event)
{
	(void)arg, (void)port;
	assert(event == PLUG_BROKEN || event == PLUG_FED);
}

static void answer(struct world *w, const void *data, size_t len, const int *fds, size_t n_fds,
		   bool cut)
{
	const struct packet p = {.data = data, .len = len, .fds = fds, .n_fds = n_fds, .cut = cut};
	int rc = commands_run(&w->c, &w->s, &p, &w->reply);

	assert(rc == 0 || rc == 1 || rc == ERR_PARSE);
	if (rc == 0)
		assert(w->reply.head.seq != 0 && w->reply.head.len <= PLUG_TEXT_MAX);
	if (rc == 1)
		for (unsigned i = 0; commands_go_on(&w->c, &w->s, &w->reply); i++)
			assert(i < 2 * SLOTS_MAX && w->reply.head.len <= PLUG_TEXT_MAX);
}

static void raw_packet(struct input *in, struct world *w)
{
	size_t len = take(in, 1);
	unsigned char *copy = malloc(len + 1); /* exact, so that one byte too far is seen */
	int fds[PLUG_FDS_MAX] = {w->e[0].fds.in_fd, w->e[0].fds.out_fd, w->e[0].pipes[1],
				 w->e[0].pipes[2]};

	len = len < in->left ? len : in->left;
	copy = realloc(copy, len > 0 ? len : 1);
	memcpy(copy, in->data, len);
	in->data += len;
	in->left -= len;
	answer(w, copy, len, fds, take(in, 1) % (PLUG_FDS_MAX + 1), take(in, 1) == 7);
	free(copy);
}

/* A packet as an agent sends it: mostly what exists, sometimes not. */
static void good_packet(struct input *in, struct world *w)
{
	static const uint32_t slots[] = {0, 1, 2, 3, 63, 64, 1000, SLOTS_MAX, UINT32_MAX};
	unsigned char packet[sizeof(struct plug_request) + 300];
	uint64_t bits = take(in, 4);
	unsigned n = bits % ENGINES;
	struct engine *e = &w->e[n];
	struct plug_request r = {
		.op = (bits >> 2 & 31) % PLUG_OPS,
		.seq = 1,
		.port = bits >> 8 & 1 ? w->port[bits >> 9 & 1] : w->port[n],
		.slot = slots[(bits >> 12 & 63) % ARRAY_LEN(slots)],
		.flags = bits >> 18 & 7,
	};
	int add[] = {e->fds.in_fd, e->fds.out_fd, e->pipes[1], e->pipes[2]};
	const int *fds = add;
	size_t n_fds = 0;
	char text[300] = "";

	if (r.op == PLUG_PORT_ADD) {
		snprintf(text, sizeof(text), "e%u", n);
		n_fds = bits >> 21 & 1 ? 4 : 2;
	} else if (r.op == PLUG_SWEEP) {
		snprintf(text, sizeof(text), "%s", bits >> 22 & 1 ? "e" : "e1");
	} else if (r.op == PLUG_PORT_RESUME) {
		fds = add + 1;
		n_fds = 3;
	} else if (r.op == PLUG_TAP || r.op == PLUG_OUT || r.op == PLUG_PUBLISH ||
		   r.op == PLUG_ECHO) {
		snprintf(text, sizeof(text), "%s", topics[(bits >> 22 & 7) % TOPICS]);
	}
	r.len = (uint32_t)strlen(text);
	if (r.op == PLUG_ECHO) {
		snprintf(text + r.len + 1, sizeof(text) - r.len - 1, "%s",
			 topics[(bits >> 25 & 7) % TOPICS]);
		r.len += 1 + (uint32_t)strlen(text + r.len + 1);
	}
	if (r.op == PLUG_HELLO)
		r.slot = bits >> 22 & 1 ? PLUG_VERSION : r.slot;
	memcpy(packet, &r, sizeof(r));
	memcpy(packet + sizeof(r), text, r.len);
	answer(w, packet, sizeof(r) + r.len, fds, n_fds, false);
	if (r.op == PLUG_PORT_ADD && w->reply.head.code == 0)
		w->port[n] = w->reply.head.port;
	if (r.op == PLUG_PORT_RETIRE && w->reply.head.code == 0 && r.port == w->port[n] &&
	    tap_make_out(&e->fds, NULL) == 0)
		map_out(e);
}

static void message(struct input *in, struct world *w)
{
	static char payload[600];
	uint64_t bits = take(in, 2);
	struct mosquitto_evt_message m = {
		.topic = (char *)(uintptr_t)topics[bits % TOPICS],
		.payload = payload,
		.payloadlen = (uint32_t)(bits >> 4 & 1 ? sizeof(payload) : bits >> 5),
		.qos = (uint8_t)(take(in, 1) % 3),
	};

	if (m.payloadlen > sizeof(payload))
		m.payloadlen = sizeof(payload);
	ports_deliver(w->c.ports, &m);
}

static void scribble(struct input *in, struct world *w)
{
	static const size_t cursors[] = {0, 64, 128, 192, PAGE, PAGE + 8, PAGE + 16};
	struct engine *e = &w->e[take(in, 1) % ENGINES];
	uint64_t how = take(in, 1), value = take(in, how & 1 ? 8 : 2);
	size_t at = how & 0x80 ? cursors[(how & 0x7f) % ARRAY_LEN(cursors)]
			       : take(in, 2) % (PAGE + RING - 8);

	memcpy(e->page + at, &value, how & 2 ? 8 : 1);
}

static void result(struct input *in, struct world *w)
{
	struct engine *e = &w->e[take(in, 1) % ENGINES];
	uint32_t len = (uint32_t)take(in, 1), slot = (uint32_t)take(in, 1) % 4;
	uint8_t qos = (uint8_t)(take(in, 1) % 4);
	size_t pos = e->tail % RING;

	if (pos + 16 <= RING) {
		memcpy(e->page + PAGE + pos, &len, 4);
		memcpy(e->page + PAGE + pos + 4, &slot, 4);
		e->page[PAGE + pos + 8] = qos;
	}
	e->tail += 16 + ((len + 7) & ~7u);
	memcpy(e->page + 64, &e->tail, 8);
}

static void turn(struct input *in, struct world *w)
{
	uint64_t v = take(in, 1);

	ports_fed(w->c.ports, (int64_t)v * 10, v & 1);
	if (!ports_pull(w->c.ports))
		ports_sleep(w->c.ports);
	ports_drain(w->c.ports);
}

static void remove_all(struct world *w)
{
	char stats[2000];

	for (unsigned i = 0; i < ENGINES; i++)
		ports_remove(w->c.ports, w->port[i], NULL);
	ports_forget_echoes(w->c.ports, &w->s);
	ports_print_stats(w->c.ports, stats, sizeof(stats));
	assert(strstr(stats, "\nports 0\ntopics 0\ntopic_bytes 0\n") != NULL);
	ports_free(w->c.ports);
}

static void run(struct input *in, struct world *w)
{
	while (in->left > 0) {
		switch (take(in, 1) % 16) {
		case 0:
			raw_packet(in, w);
			break;
		case 1:
		case 2:
		case 3:
		case 4:
		case 5:
			good_packet(in, w);
			break;
		case 6:
		case 7:
			message(in, w);
			break;
		case 8:
		case 9:
			scribble(in, w);
			break;
		case 10:
		case 11:
			result(in, w);
			break;
		case 12:
			w->failing = take(in, 1) & 1;
			break;
		case 13:
			hang_up(w);
			break;
		default:
			turn(in, w);
			break;
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world w;
	const struct ports_conf conf = {
		.max_payload_bytes = 512, .max_result_bytes = 200, .on_event = on_event};
	struct input in = {.data = data, .left = size};
	/* the one that makes the rest worth while */
	const struct plug_request hello = {.op = PLUG_HELLO, .seq = 1, .slot = PLUG_VERSION};

	static struct engine engines[ENGINES];

	for (unsigned i = 0; i < ENGINES; i++) {
		if (engines[i].in_page == NULL)
			engine_init(&engines[i]);
		engine_reset(&engines[i]);
	}
	memset(&w, 0, offsetof(struct world, reply));
	w.e = engines;
	the_world = &w;
	assert(ports_new(&conf, &w.c.ports, NULL) == 0);
	if (take(&in, 1) & 3)
		answer(&w, &hello, sizeof(hello), NULL, 0, false);
	run(&in, &w);
	remove_all(&w);
	return 0;
}
