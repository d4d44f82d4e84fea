/* cmd_demo.c - iotctl demo: the walk-through, live.
 *
 * A simulated device application registers one input and one output feature "meow"; the graph API
 * wires them through two functions (input: int(x), join: x ** 2); numbers are pushed, and what
 * comes out is shown and checked. Then the graph is detached and the device deregistered.
 */
#include "common/bus.h"
#include "common/daemon.h"
#include "common/id.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pidfile.h"
#include "common/util.h"
#include "dan/dan.h"
#include "iotctl/iotctl.h"
#include <arpa/inet.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define SECONDS_DEFAULT 5
#define SECONDS_MAX     86400
#define PUSH_MS         250
#define SETUP_MS        15000 /* from the start until both features are connected */
#define LEAVE_MS        5000
#define LAST_OUTPUT_MS  2000 /* for what is still on its way when the time is over */

#define FEATURE   "meow"
#define IDF_FUNC  "def run(x): return int(x)\n"
#define JOIN_FUNC "def run(x): return x ** 2\n"

enum phase { PHASE_SETUP, PHASE_RUNNING, PHASE_LEAVING };

struct demo {
	const struct iotctl *app;
	struct loop *loop;
	struct bus *bus;
	struct dan_client *dan;
	struct loop_src *push_timer, *end_timer;
	unsigned seconds;
	enum phase phase;
	unsigned step; /* next row of the wiring */
	char client_id[64], request_topic[128], answer_topic[128];
	struct digest_text idf_digest, join_digest;
	int64_t pushed, received; /* received: of the numbers pushed, each once */
	uint8_t *seen;            /* by number: its square came; room for `most` */
	int64_t most;
	bool over;    /* nothing more is pushed */
	bool away;    /* the broker was */
	bool pending; /* the last answer said so */
	bool interrupted, detached, left;
	char failed[1000]; /* why; empty: not */
};

static void fail(struct demo *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void leave(struct demo *d);

static void fail(struct demo *d, const char *fmt, ...)
{
	va_list ap;

	if (d->failed[0] == '\0') {
		va_start(ap, fmt);
		vsnprintf(d->failed, sizeof(d->failed), fmt, ap);
		va_end(ap);
	}
	leave(d);
}

/* ---- wiring: one request after the other ---- */

static json_t *make_attach(const struct demo *d)
{
	(void)d;
	return json_pack("{s:s}", "op", "attach");
}

static json_t *make_funcs(const struct demo *d)
{
	return json_pack("{s:s, s:[s, s], s:[s, s]}", "op", "add_funcs", "codes", IDF_FUNC,
			 JOIN_FUNC, "digests", d->idf_digest.s, d->join_digest.s);
}

static json_t *make_idf(const struct demo *d)
{
	return json_pack("{s:s, s:s, s:s, s:s}", "op", "add_link", "da_id", dan_id(d->dan), "idf",
			 FEATURE, "func", d->idf_digest.s);
}

static json_t *make_odf(const struct demo *d)
{
	return json_pack("{s:s, s:s, s:s, s:n}", "op", "add_link", "da_id", dan_id(d->dan), "odf",
			 FEATURE, "func");
}

static json_t *make_join(const struct demo *d)
{
	return json_pack("{s:s, s:n, s:s}", "op", "set_join", "prev", "new", d->join_digest.s);
}

static const struct wire_step {
	const char *told;
	json_t *(*make)(const struct demo *d);
} wiring[] = {
	{"a graph is attached", make_attach},
	{"two functions are stored:  def run(x): return int(x)   def run(x): return x ** 2",
	 make_funcs},
	{"input 'meow' is linked through the first one", make_idf},
	{"output 'meow' is linked", make_odf},
	{"the second one joins them", make_join},
};

static int publish(struct demo *d, json_t *request, struct err *err)
{
	CLEANUP(freep)
	char *text = request != NULL ? json_dumps(request, JSON_COMPACT) : NULL;

	if (text == NULL)
		return err_set(err, ERR_NOMEM, "request");
	return bus_publish(d->bus, d->request_topic, text, strlen(text), 2, false, err);
}

static void wire_next(struct demo *d)
{
	json_auto_t *request = wiring[d->step].make(d);
	struct err err = {0};

	if (publish(d, request, &err) < 0)
		fail(d, "cannot send a graph request: %s", err.text);
}

static void run_if_wired(struct demo *d)
{
	if (d->phase != PHASE_SETUP || d->step < ARRAY_LEN(wiring) || d->pending ||
	    !dan_is_connected(d->dan, DAN_IDF, FEATURE) ||
	    !dan_is_connected(d->dan, DAN_ODF, FEATURE))
		return;
	printf("wired; numbers go in and come out for %u s:\n\n", d->seconds);
	d->phase = PHASE_RUNNING;
	loop_arm(d->loop, d->push_timer, 0);
	loop_arm(d->loop, d->end_timer, (int64_t)d->seconds * 1000);
}

static void on_answer(void *arg, const struct bus_msg *m)
{
	struct demo *d = arg;
	json_auto_t *answer = json_loadb(m->payload, m->len, 0, NULL);
	const char *op = json_string_value(json_object_get(answer, "op"));
	const char *state = json_string_value(json_object_get(answer, "state"));
	const char *reason = json_string_value(json_object_get(answer, "reason"));

	if (op == NULL || state == NULL)
		return;
	if (d->phase == PHASE_LEAVING) {
		if (strcmp(op, "detach") == 0) {
			d->detached = true;
			leave(d);
		}
		return;
	}
	if (strcmp(state, "ok") != 0) {
		fail(d, "%s was refused: %s", op, reason != NULL ? reason : "no reason given");
		return;
	}
	if (d->phase != PHASE_SETUP || strcmp(op, "anno") == 0)
		return;
	if (d->step ==
	    ARRAY_LEN(wiring)) { /* to the question of on_push(), whether it is in force now */
		d->pending =
			json_is_true(json_object_get(json_object_get(answer, "graph"), "pending"));
		run_if_wired(d);
		return;
	}
	/* An agent that has just started (again) confirms a moment later; the time limit of the
	 * setup decides. */
	d->pending = json_is_true(json_object_get(answer, "pending"));
	printf("  %s%s\n", wiring[d->step].told, d->pending ? " (waits for an agent)" : "");
	if (++d->step < ARRAY_LEN(wiring))
		wire_next(d);
	else if (d->pending)
		loop_arm(d->loop, d->push_timer, PUSH_MS);
	else
		run_if_wired(d);
}

/* Should we vanish, the graph goes with us. */
static bool on_connecting(void *arg, struct bus_will *will)
{
	struct demo *d = arg;

	will->qos = 2;
	will->retain = false;
	snprintf(will->topic, sizeof(will->topic), "%s", d->request_topic);
	will->len = (size_t)snprintf(will->payload, sizeof(will->payload), "{\"op\":\"detach\"}");
	return true;
}

static void on_bus_down(void *arg, const char *why)
{
	struct demo *d = arg;

	(void)why;
	if (d->phase == PHASE_RUNNING) {
		d->away = true;
		puts("  (the broker is away)");
	}
}

static void on_bus_up(void *arg, bool fresh)
{
	struct demo *d = arg;

	(void)fresh;
	if (d->phase == PHASE_SETUP && d->step == 0 && dan_is_online(d->dan))
		wire_next(d);
}

/* ---- the device ---- */

static void on_registered(void *arg, const char *name)
{
	struct demo *d = arg;

	if (d->phase == PHASE_SETUP)
		printf("  device application '%s' is registered (%s)\n", name, dan_id(d->dan));
}

static void on_online(void *arg)
{
	struct demo *d = arg;

	if (d->phase != PHASE_SETUP)
		return;
	puts("  it is online");
	if (d->step == 0 && bus_is_up(d->bus))
		wire_next(d);
}

static void on_connect(void *arg, enum dan_mode mode, const char *feature)
{
	struct demo *d = arg;

	if (d->phase == PHASE_SETUP)
		printf("  its %s '%s' was told a topic\n", mode == DAN_IDF ? "input" : "output",
		       feature);
	run_if_wired(d);
}

/* The number whose square this is, 0: of none that was pushed. */
static int64_t root_of(const struct demo *d, json_int_t square)
{
	int64_t low = 1, high = d->pushed;

	while (low < high) {
		int64_t middle = low + (high - low) / 2;

		if (middle * middle < square)
			low = middle + 1;
		else
			high = middle;
	}
	return low <= d->pushed && low * low == square ? low : 0;
}

static void on_data(void *arg, const char *feature, json_t *values)
{
	struct demo *d = arg;
	/* Without a declared number of values the result is the number itself; be content with a
	 * list of one too. */
	json_t *value = json_is_array(values) ? json_array_get(values, 0) : values;
	json_int_t got = json_integer_value(value);
	int64_t x = json_is_integer(value) ? root_of(d, got) : 0;

	(void)feature;
	if (x == 0) {
		CLEANUP(freep)
		char *text = json_dumps(values, JSON_COMPACT | JSON_ENCODE_ANY);

		fail(d, "%.100s came out, the square of no number that went in",
		     text != NULL ? text : "something");
		return;
	}
	if (d->seen[x] != 0) /* delivery is at least once */
		return;
	d->seen[x] = 1;
	d->received++;
	printf("  %" PRId64 " -> %" JSON_INTEGER_FORMAT "\n", x, got);
	fflush(stdout);
	if (d->phase == PHASE_RUNNING && d->over && d->received == d->pushed)
		leave(d);
}

static void on_dan_error(void *arg, const struct err *err)
{
	struct demo *d = arg;

	/* dan repeats what failed; the time limit of the setup decides. The last complaint is the
	 * reason to tell then. */
	if (d->phase == PHASE_SETUP)
		fprintf(stderr, "  (%s)\n", err->text);
}

static void on_push(void *arg)
{
	struct demo *d = arg;
	json_auto_t *values = NULL;
	struct err err = {0};

	if (d->phase == PHASE_SETUP && d->pending) { /* attaching again tells how the graph is */
		json_auto_t *request = make_attach(d);

		(void)publish(d, request, NULL);
	}
	if (d->phase != PHASE_RUNNING || d->over || d->pushed == d->most)
		return;
	values = json_pack("[I]", (json_int_t)d->pushed + 1);
	int rc = values != NULL ? dan_push(d->dan, FEATURE, values, &err)
				: err_set(&err, ERR_NOMEM, "out of memory");

	/* Not connected: csm or the broker is away; this one is lost, and counted. */
	if (rc < 0 && rc != ERR_AGAIN && rc != ERR_LIMIT)
		fail(d, "cannot push: %s", err.text);
	else
		d->pushed++;
}

/* ---- the end ---- */

static void on_left(void *arg, int rc, const char *why)
{
	struct demo *d = arg;

	d->left = true;
	if (rc < 0 && d->failed[0] == '\0')
		snprintf(d->failed, sizeof(d->failed), "deregistering failed: %s",
			 why != NULL ? why : "");
	leave(d);
}

/* Called again and again until all is taken away. */
static void leave(struct demo *d)
{
	json_auto_t *request = NULL;
	struct err err = {0};

	if (d->phase != PHASE_LEAVING) {
		d->phase = PHASE_LEAVING;
		loop_arm(d->loop, d->push_timer, -1);
		loop_arm(d->loop, d->end_timer, LEAVE_MS);
		request = json_pack("{s:s}", "op", "detach");
		d->detached = !bus_is_up(d->bus) || publish(d, request, &err) < 0;
		d->left = dan_leave(d->dan, on_left, d, &err) < 0;
	}
	if (d->detached && d->left)
		loop_quit(d->loop, 0);
}

static void fail_setup(struct demo *d)
{
	char trouble[500];
	bool any = status_trouble(d->app, true, trouble, sizeof(trouble));

	fail(d, "not wired within %d s (%s)%s%s", SETUP_MS / 1000,
	     !dan_is_online(d->dan)        ? "the device application did not get online"
	     : !bus_is_up(d->bus)          ? "the broker does not answer"
	     : d->step < ARRAY_LEN(wiring) ? "csm does not answer the graph API"
	     : d->pending                  ? "no agent has confirmed the graph"
					   : "the device application was told no topics",
	     any ? "; " : "", any ? trouble : "");
}

static void on_end(void *arg)
{
	struct demo *d = arg;

	switch (d->phase) {
	case PHASE_SETUP:
		fail_setup(d);
		break;
	case PHASE_RUNNING:
		if (!d->over && d->received < d->pushed) {
			d->over = true; /* push no more, wait for the rest */
			loop_arm(d->loop, d->end_timer, LAST_OUTPUT_MS);
		} else if (d->received < d->pushed) {
			fail(d, "%s%" PRId64 " of %" PRId64 " numbers lost",
			     d->away ? "the broker was away, " : "", d->pushed - d->received,
			     d->pushed);
		} else {
			leave(d);
		}
		break;
	case PHASE_LEAVING:
		if (d->failed[0] == '\0')
			snprintf(d->failed, sizeof(d->failed), "no answer to detach or deregister");
		loop_quit(d->loop, 0);
		break;
	}
}

static void on_interrupt(void *arg)
{
	struct demo *d = arg;

	if (d->interrupted)
		_exit(EXIT_ERROR);
	d->interrupted = true;
	if (d->phase == PHASE_SETUP)
		fail(d, "interrupted");
	else
		leave(d);
}

/* ---- begin ---- */

static int new_bus(struct demo *d, const struct settings *s, struct err *err)
{
	static const struct bus_handlers handlers = {
		.on_connecting = on_connecting,
		.on_up = on_bus_up,
		.on_down = on_bus_down,
		.on_message = on_answer,
	};
	struct bus_conf conf = {
		.host = s->core_mqtt.host,
		.port = (unsigned)s->core_mqtt.port,
		.client_id = d->client_id,
		.clean_session = true,
	};
	int rc = bus_new_paho(d->loop, &conf, &handlers, d, &d->bus, err);

	return rc < 0 ? rc : bus_subscribe(d->bus, d->answer_topic, 2, NULL, NULL, err);
}

static int new_device(struct demo *d, const struct settings *s, struct err *err)
{
	static const char *const units[] = {"dB", NULL};
	static const struct dan_feature features[] = {{FEATURE, units}};
	static const struct dan_handlers handlers = {
		.on_registered = on_registered,
		.on_online = on_online,
		.on_connect = on_connect,
		.on_data = on_data,
		.on_error = on_dan_error,
	};
	const char *bind = s->core.bind;
	unsigned char v6[16];
	char url[128];
	struct uuid_text id = uuid4();
	json_auto_t *profile = json_pack("{s:s}", "model", "AI");

	if (strcmp(bind, "0.0.0.0") == 0 || strcmp(bind, "::") == 0)
		bind = "127.0.0.1";
	bool is_v6 = inet_pton(AF_INET6, bind, v6) == 1;

	snprintf(url, sizeof(url), "http://%s%s%s:%" PRId64, is_v6 ? "[" : "", bind,
		 is_v6 ? "]" : "", s->core.http_port);
	struct dan_conf conf = {
		.csm_url = url,
		.id = id.s,
		.name = "BetaCat",
		.idfs = features,
		.odfs = features,
		.n_idfs = 1,
		.n_odfs = 1,
		.profile = profile,
		.qos = 1,
	};

	return dan_new(d->loop, &conf, &handlers, d, &d->dan, err);
}

static int begin(struct demo *d, const struct settings *s, struct err *err)
{
	int rc = loop_new(&d->loop, err);

	snprintf(d->client_id, sizeof(d->client_id), "iotctl-demo-%.8s", uuid4().s);
	snprintf(d->request_topic, sizeof(d->request_topic), "iottalk/api/req/%s/graph/1",
		 d->client_id);
	snprintf(d->answer_topic, sizeof(d->answer_topic), "iottalk/api/res/%s/graph/1",
		 d->client_id);
	d->idf_digest = sha256_hex(IDF_FUNC, strlen(IDF_FUNC));
	d->join_digest = sha256_hex(JOIN_FUNC, strlen(JOIN_FUNC));
	d->most = (int64_t)d->seconds * 1000 / PUSH_MS + 1;
	d->seen = calloc((size_t)d->most + 1, 1);
	if (rc == 0 && d->seen == NULL)
		rc = err_set(err, ERR_NOMEM, "demo");
	if (rc == 0)
		rc = loop_add_signal(d->loop, SIGINT, on_interrupt, d, err);
	if (rc == 0)
		rc = loop_add_signal(d->loop, SIGTERM, on_interrupt, d, err);
	if (rc == 0)
		rc = loop_add_timer(d->loop, -1, PUSH_MS, on_push, d, &d->push_timer, err);
	if (rc == 0)
		rc = loop_add_timer(d->loop, SETUP_MS, 0, on_end, d, &d->end_timer, err);
	if (rc == 0)
		rc = new_bus(d, s, err);
	return rc < 0 ? rc : new_device(d, s, err);
}

static int parse_seconds(const struct options *o, unsigned *ret)
{
	const char *text = options_value(o, "seconds");
	char *end;

	*ret = SECONDS_DEFAULT;
	if (text != NULL) {
		long n = strtol(text, &end, 10);

		if (n < 1 || n > SECONDS_MAX || *end != '\0')
			return misused("demo: --seconds takes a whole number from 1 to %d",
				       SECONDS_MAX);
		*ret = (unsigned)n;
	}
	return o->argc == 0 ? EXIT_OK : misused("demo: unexpected argument '%s'", o->argv[0]);
}

static bool csm_runs(const struct iotctl *app)
{
	CLEANUP(freep)
	char *path = settings_path(&app->settings, "run/csm.pid");
	pid_t pid;
	CLEANUP(closep)
	int pidfd = path != NULL ? pidfile_owner(path, &pid) : -1;

	return pidfd >= 0;
}

int cmd_demo(struct iotctl *app, const struct options *o)
{
	struct demo d = {.app = app};
	struct err err = {0};
	int rc = parse_seconds(o, &d.seconds);

	if (rc != EXIT_OK)
		return rc;
	if (iotctl_settings(app) < 0)
		return EXIT_ERROR;
	if (iotctl_look(app) < 0)
		return EXIT_ERROR;
	if (!csm_runs(app))
		return complain("demo: csm does not run; start it with `iotctl start`");
	daemon_block_signals();
	log_init("demo", app->debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	rc = begin(&d, &app->settings, &err);
	if (rc == 0)
		rc = loop_run(d.loop);
	else
		snprintf(d.failed, sizeof(d.failed), "%s", err.text);
	d.dan = dan_free(d.dan);
	d.bus = bus_free(d.bus);
	loop_free(d.loop);
	free(d.seen);
	if (rc < 0 || d.failed[0] != '\0')
		return complain("demo: %s",
				d.failed[0] != '\0' ? d.failed : "the event loop failed");
	printf("\n%" PRId64 " numbers went in, %" PRId64
	       " came out squared; the graph is detached, the device deregistered\n",
	       d.pushed, d.received);
	return EXIT_OK;
}
