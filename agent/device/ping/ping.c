#include "agent/device/ping/ping.h"
#include "agent/device/ping/icmp.h"
#include "common/lookup.h"
#include "common/util.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define LOOKUPS_MAX  32 /* threads at once, of one device */
#define PAUSE_MIN_MS 10 /* between two pings of a host: delays of 0 are no busy loop */
#define LONGEST_S    1e6
#define MS_MAX       1e9 /* LONGEST_S */
#define WHY_MAX      200

struct remote {
	struct ping *ping;
	unsigned index; /* of its point */
	char *host;     /* owned */
	double delay_s, timeout_s, retry_delay_s;
	json_int_t retry_count, tried; /* tried: failed ones of this round */
	bool available;
	struct loop_src *timer; /* of the next ping, or of the limit of a look-up */
	int64_t until_ms;       /* the limit of this ping */
	enum { PAUSES, LOOKS_UP, ASKS } state;
	struct lookup *lookup;    /* may still be busy with what was given up */
	struct remote *next_name; /* waits for a look-up of others to end */
	bool queued;
	struct icmp_echo *echo;
	uint64_t sent, answered, failed, unresolved;
	int64_t round_trip_us;
	char why[WHY_MAX]; /* of the last failure */
};

struct ping {
	struct port *port;
	struct loop *loop;
	struct icmp *icmp;
	struct remote *remotes;
	size_t n;
	struct loop_src *start_timer;
	unsigned lookups; /* under way */
	struct remote *first_name, **last_name;
};

static int64_t to_ms(double seconds)
{
	double ms = ceil(seconds * 1000);

	return ms < MS_MAX ? (int64_t)ms : (int64_t)MS_MAX;
}

/* ---- what is told ---- */

static void tell(const struct remote *r)
{
	const char *const path[] = {"status", port_point_name(r->ping->port, r->index)};
	struct emission e = {
		.path = path,
		.n_path = ARRAY_LEN(path),
		.payload = json_string(r->available ? "AVAILABLE" : "NOT_AVAILABLE"),
		.retain = true,
		.point = (int)r->index,
		.value = {.kind = VALUE_UINT, .u = r->available},
	};

	port_emit(r->ping->port, &e);
}

static void set_available(struct remote *r, bool available)
{
	if (r->available == available)
		return;
	r->available = available;
	tell(r);
}

/* ---- one ping after the other ---- */

static void pause_for(struct remote *r, double seconds)
{
	int64_t ms = to_ms(seconds);

	r->state = PAUSES;
	loop_arm(r->ping->loop, r->timer, ms < PAUSE_MIN_MS ? PAUSE_MIN_MS : ms);
}

static void end_round(struct remote *r, bool available)
{
	r->tried = 0;
	set_available(r, available);
	pause_for(r, r->delay_s);
}

static void failed(struct remote *r, const char *why)
{
	r->failed++;
	r->tried++;
	snprintf(r->why, sizeof(r->why), "%s", why);
	pause_for(r, r->retry_delay_s);
}

static void on_echo(void *arg, int rc, int64_t round_trip_us, const char *why)
{
	struct remote *r = arg;

	r->echo = icmp_echo_free(r->echo);
	if (rc < 0) {
		failed(r, why);
		return;
	}
	r->answered++;
	r->round_trip_us = round_trip_us;
	end_round(r, true);
}

/* The first of its addresses. */
static void ask(struct remote *r, const struct lookup_addrs *found)
{
	const struct lookup_addr *a = &found->items[0];
	int64_t left_ms = r->until_ms - loop_now_ms(r->ping->loop);
	struct err err = {0};
	int rc = icmp_echo_new(r->ping->icmp, (const struct sockaddr *)&a->addr, a->len,
			       (unsigned)(left_ms > 1 ? left_ms : 1), on_echo, r, &r->echo, &err);

	loop_arm(r->ping->loop, r->timer, -1);
	if (rc < 0) {
		failed(r, err.text);
		return;
	}
	r->state = ASKS;
	r->sent++;
}

/* ---- names ---- */

static void look_up(struct remote *r);

/* The next name's turn; who has given up meanwhile asks again. */
static void look_up_next(struct ping *p)
{
	while (p->first_name != NULL && p->lookups < LOOKUPS_MAX) {
		struct remote *r = p->first_name;

		p->first_name = r->next_name;
		if (p->first_name == NULL)
			p->last_name = &p->first_name;
		r->next_name = NULL;
		r->queued = false;
		if (r->state == LOOKS_UP)
			look_up(r);
	}
}

static void unresolved(struct remote *r, const char *why)
{
	r->unresolved++;
	failed(r, why);
}

static void on_name(void *arg, const struct lookup_addrs *found, const char *why)
{
	struct remote *r = arg;
	struct ping *p = r->ping;

	r->lookup = lookup_free(r->lookup);
	p->lookups--;
	if (r->state == LOOKS_UP) { /* else it was given up: the next ping asks anew */
		if (found != NULL)
			ask(r, found);
		else
			unresolved(r, why);
	}
	look_up_next(p);
}

static void look_up(struct remote *r)
{
	struct ping *p = r->ping;
	struct err err = {0};

	if (p->lookups >= LOOKUPS_MAX) {
		*p->last_name = r;
		p->last_name = &r->next_name;
		r->queued = true;
	} else if (lookup_new(p->loop, r->host, 0, on_name, r, &r->lookup, &err) == 0) {
		p->lookups++;
	} else {
		unresolved(r, err.text);
	}
}

static void begin(struct remote *r)
{
	int64_t timeout_ms = to_ms(r->timeout_s);
	struct lookup_addrs found;

	r->until_ms = loop_now_ms(r->ping->loop) + timeout_ms;
	if (lookup_numeric(r->host, 0, &found)) {
		ask(r, &found);
		return;
	}
	r->state = LOOKS_UP;
	loop_arm(r->ping->loop, r->timer, timeout_ms);
	if (r->lookup == NULL && !r->queued)
		look_up(r);
}

static void on_timer(void *arg)
{
	struct remote *r = arg;

	if (r->state == LOOKS_UP)
		unresolved(r, "looking up the name takes too long");
	else if (r->tried > r->retry_count)
		end_round(r, false);
	else
		begin(r);
}

/* The first look at a remote: what is known is told. In a turn of its own, so that the device runs
 * when it is. */
static void on_first(void *arg)
{
	struct ping *p = arg;

	p->start_timer = loop_remove(p->loop, p->start_timer);
	port_link(p->port, LINK_CONNECTED, 0);
	for (size_t i = 0; i < p->n; i++)
		tell(&p->remotes[i]);
	for (size_t i = 0; i < p->n; i++)
		begin(&p->remotes[i]);
}

/* ---- the instance ---- */

static void release(struct ping *p)
{
	for (size_t i = 0; i < p->n; i++) {
		struct remote *r = &p->remotes[i];

		loop_remove(p->loop, r->timer);
		lookup_free(r->lookup);
		icmp_echo_free(r->echo);
		free(r->host);
	}
	loop_remove(p->loop, p->start_timer);
	icmp_free(p->icmp);
	free(p->remotes);
	free(p);
}

static void ping_close(void *instance)
{
	struct ping *p = instance;

	for (size_t i = 0; i < p->n; i++)
		set_available(&p->remotes[i], false);
	port_link(p->port, LINK_DISCONNECTED, 0);
	release(p);
}

static int add_remote(struct ping *p, const json_t *conf, struct err *err)
{
	struct remote *r = &p->remotes[p->n];

	*r = (struct remote){
		.ping = p,
		.index = (unsigned)p->n,
		.host = strdup(json_string_value(json_object_get(conf, "host"))),
		.delay_s = json_number_value(json_object_get(conf, "ping_delay")),
		.timeout_s = json_number_value(json_object_get(conf, "ping_timeout")),
		.retry_delay_s = json_number_value(json_object_get(conf, "retry_delay")),
		.retry_count = json_integer_value(json_object_get(conf, "retry_count")),
	};
	p->n++;
	return r->host != NULL ? loop_add_timer(p->loop, -1, 0, on_timer, r, &r->timer, err)
			       : err_set(err, ERR_NOMEM, "ping");
}

static int ping_create(struct port *port, const json_t *conf, void **ret, struct err *err)
{
	const json_t *remotes = json_object_get(conf, "remote_devices");
	struct ping *p = calloc(1, sizeof(*p));
	int rc = 0;

	if (p != NULL)
		p->remotes = calloc(json_array_size(remotes) + 1, sizeof(*p->remotes));
	if (p == NULL || p->remotes == NULL) {
		free(p);
		return err_set(err, ERR_NOMEM, "ping");
	}
	p->port = port;
	p->loop = port_loop(port);
	p->last_name = &p->first_name;
	for (size_t i = 0; i < json_array_size(remotes) && rc == 0; i++)
		rc = add_remote(p, json_array_get(remotes, i), err);
	if (rc == 0)
		rc = icmp_new(p->loop, &p->icmp, err);
	if (rc == 0)
		rc = loop_add_timer(p->loop, 0, 0, on_first, p, &p->start_timer, err);
	if (rc < 0) {
		release(p);
		return rc;
	}
	*ret = p;
	port_created(port);
	return 0;
}

static json_t *remote_status(const struct remote *r)
{
	return json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:f, s:s}", "host", r->host, "available",
			 r->available, "sent", (json_int_t)r->sent, "answered",
			 (json_int_t)r->answered, "failed", (json_int_t)r->failed, "unresolved",
			 (json_int_t)r->unresolved, "round_trip_ms",
			 (double)r->round_trip_us / 1000, "last_failure", r->why);
}

static json_t *ping_status(const void *instance)
{
	const struct ping *p = instance;
	struct icmp_stats s;
	json_auto_t *remotes = json_object();

	for (size_t i = 0; i < p->n; i++)
		json_object_set_new(remotes, port_point_name(p->port, p->remotes[i].index),
				    remote_status(&p->remotes[i]));
	icmp_get_stats(p->icmp, &s);
	return json_pack("{s:s, s:I, s:I, s:I, s:O?}", "socket", s.raw ? "raw" : "datagram", "sent",
			 (json_int_t)s.sent, "answered", (json_int_t)s.answered, "strange",
			 (json_int_t)s.strange, "remote_devices", remotes);
}

static const struct driver_ops ops = {
	.create = ping_create,
	.close = ping_close,
	.status = ping_status,
};

/* ---- the type ---- */

static const struct field remote_fields[] = {
	{.name = "name", .type = FIELD_STR, .help = "Name of the host in topics and features."},
	{.name = "host",
	 .type = FIELD_STR,
	 .help = "Address (IPv4 or IPv6), or a name, which is looked up for each ping."},
	{.name = "ping_delay",
	 .type = FIELD_NUMBER,
	 .max = LONGEST_S,
	 .unit = "s",
	 .help = "Pause after a round of pings."},
	{.name = "ping_timeout",
	 .type = FIELD_NUMBER,
	 .max = LONGEST_S,
	 .unit = "s",
	 .help = "How long an answer may take, the look-up of a name included."},
	{.name = "retry_count",
	 .type = FIELD_INT,
	 .max = 1000000,
	 .help = "How many pings follow a failed one before the host counts as not available."},
	{.name = "retry_delay",
	 .type = FIELD_NUMBER,
	 .max = LONGEST_S,
	 .unit = "s",
	 .help = "Pause after each failed ping."},
	{.name = "", .type = FIELD_ROWS, .inner = point_fields},
	{0},
};

static const struct field ping_fields[] = {
	{.name = "remote_devices",
	 .type = FIELD_LIST,
	 .item = FIELD_OBJECT,
	 .inner = remote_fields,
	 .help = "The hosts."},
	{0},
};

static void ping_check(const json_t *conf, struct problems *p)
{
	const json_t *remotes = json_object_get(conf, "remote_devices");
	json_auto_t *seen = json_object();

	for (size_t i = 0; i < json_array_size(remotes); i++) {
		const json_t *remote = json_array_get(remotes, i);
		const char *name = json_string_value(json_object_get(remote, "name"));

		problem_enter(p, "remote_devices[%zu]", i);
		if (json_object_get(seen, name) != NULL)
			problem_add(p, "name", "'%s' is there twice", name);
		json_object_set_new(seen, name, json_true());
		problem_leave(p);
	}
}

static int ping_points(const json_t *conf, struct point_list *ret, struct err *err)
{
	const json_t *remotes = json_object_get(conf, "remote_devices");
	size_t n = json_array_size(remotes);

	ret->n = 0;
	ret->items = calloc(n > 0 ? n : 1, sizeof(*ret->items));
	if (ret->items == NULL)
		return err_set(err, ERR_NOMEM, "points");
	for (; ret->n < n; ret->n++) {
		const json_t *remote = json_array_get(remotes, ret->n);

		ret->items[ret->n] = (struct point_spec){
			.name = json_string_value(json_object_get(remote, "name")),
			.options = remote,
			.input = true,
		};
	}
	return 0;
}

const struct device_type ping_type = {
	.name = "ping",
	.module = "ping",
	.title = "Which hosts answer echo requests (ICMP and ICMPv6)",
	.help = "Each host of ``remote_devices`` is asked in rounds: an echo request, and up to\n"
		"``retry_count`` more while no answer comes within ``ping_timeout``. A host that\n"
		"answers is ``AVAILABLE``; one that answers no ping of a round, or whose name has "
		"no\n"
		"address, is ``NOT_AVAILABLE``. Only changes are told. All hosts are asked side "
		"by\n"
		"side.\n"
		"\n"
		"Event ``gateway/status/<name>`` has ``\"AVAILABLE\"`` or ``\"NOT_AVAILABLE\"``; "
		"the\n"
		"feature of a host has 1 or 0. There are no system events.\n"
		"\n"
		"The agent needs to be allowed datagram ICMP sockets (its group in\n"
		"``net.ipv4.ping_group_range``), or raw ones (``CAP_NET_RAW``). Without either "
		"the\n"
		"device cannot be created.\n",
	.example = "{\"type\": \"ping\", \"name\": \"net\",\n"
		   " \"remote_devices\": [\n"
		   "  {\"name\": \"router\", \"host\": \"127.0.0.1\", \"ping_delay\": 10,\n"
		   "   \"ping_timeout\": 1, \"retry_count\": 2, \"retry_delay\": 0.5}]}\n",
	.fields = ping_fields,
	.check = ping_check,
	.points = ping_points,
	.ops = &ops,
};
