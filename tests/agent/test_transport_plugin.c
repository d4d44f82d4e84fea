/* test_transport_plugin.c - the agent's side of the broker plugin's protocol, against a plugin that
 * this test plays on a thread: it notes what is asked and answers as it is told to, late, wrongly
 * or never. */
#include "agent/graph/transport_plugin.h"
#include "common/plug.h"
#include "common/util.h"
#include "tests/common/until.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include <cmocka.h>

#define SEEN_MAX 256
#define RING     4096u

struct seen {
	struct plug_request r;
	char text[100];
	size_t n_fds;
	ino_t out; /* of the out-memfd that came along */
};

struct row { /* what LIST tells of an earlier agent's port */
	uint32_t slot;
	bool outward;
	const char *topic;
};

struct plugin {
	pthread_t thread;
	pthread_mutex_t lock;
	int stop[2]; /* a pipe */
	struct sockaddr_un addr;
	bool running, hang_up;
	/* how it answers */
	bool living;
	enum plug_state state;
	const struct row *rows;
	size_t n_rows;
	uint32_t n_in, n_out; /* slots that LIST says there are */
	uint32_t mute_op;     /* not answered */
	int code_of_op[PLUG_OPS];
	unsigned more_holds; /* HOLDs that are to be asked again */
	/* what came */
	struct seen seen[SEEN_MAX];
	size_t n_seen;
	unsigned connections;
};

struct world {
	struct plugin plugin;
	char dir[64];
	struct settings settings;
	struct loop *loop;
	struct transport *t;
	struct transport_port *port;
	struct tap_fds fds;
	int wake[2], result[2];
	/* what the transport told */
	unsigned ups, downs, broken, fed, done, held, retired, slots_told;
	int done_rc;
	struct transport_standing standing;
	size_t n_slots;
	struct transport_slot_stats first_slot;
};

/* ---- the plugin ---- */

static size_t take_fds(struct msghdr *m, int *fds)
{
	struct cmsghdr *h = CMSG_FIRSTHDR(m);
	size_t n = h != NULL ? (h->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;

	if (n > 0)
		memcpy(fds, CMSG_DATA(h), n * sizeof(int));
	return n;
}

static void note(struct plugin *p, const char *packet, size_t len, const int *fds, size_t n_fds)
{
	struct seen s = {.n_fds = n_fds};
	struct stat st;

	memcpy(&s.r, packet, sizeof(s.r));
	snprintf(s.text, sizeof(s.text), "%.*s", (int)(len - sizeof(s.r)), packet + sizeof(s.r));
	if (n_fds > 0 && fstat(fds[s.r.op == PLUG_PORT_ADD ? 1 : 0], &st) == 0)
		s.out = st.st_ino;
	if (p->n_seen < SEEN_MAX)
		p->seen[p->n_seen++] = s;
}

static void say(int fd, struct plug_answer a, const char *text)
{
	char packet[sizeof(a) + 1000];

	a.len = (uint32_t)strlen(text);
	memcpy(packet, &a, sizeof(a));
	memcpy(packet + sizeof(a), text, a.len);
	send(fd, packet, sizeof(a) + a.len, MSG_NOSIGNAL);
}

static void list(struct plugin *p, int fd, struct plug_answer a)
{
	struct plug_answer last = a;

	for (size_t i = 0; i < p->n_rows; i++) {
		a.slot = p->rows[i].slot;
		a.flags = PLUG_MORE | (p->rows[i].outward ? PLUG_OUTWARD : 0);
		say(fd, a, p->rows[i].topic);
	}
	last.a = p->n_in;
	last.b = p->n_out;
	say(fd, last, "");
}

static void answer(struct plugin *p, int fd, const struct plug_request *r)
{
	struct plug_answer a = {.op = r->op, .seq = r->seq, .port = r->port};
	const char *text = "";

	if (r->op == p->mute_op)
		return;
	a.code = p->code_of_op[r->op];
	if (a.code < 0) {
		say(fd, a, "refused by the test");
		return;
	}
	switch (r->op) {
	case PLUG_HELLO:
		a.slot = PLUG_VERSION;
		text = "test";
		break;
	case PLUG_PORT_ADD:
		a.port = 7;
		a.slot = p->state;
		a.flags = p->living ? PLUG_LIVING : 0;
		break;
	case PLUG_PORT_HOLD:
		a.flags = PLUG_SANE | PLUG_AT_MESSAGE | (p->more_holds > 0 ? PLUG_MORE : 0);
		p->more_holds -= p->more_holds > 0;
		a.slot = 3;
		a.a = 24;
		break;
	case PLUG_LIST:
		list(p, fd, a);
		return;
	case PLUG_SLOT_STATS: {
		struct plug_answer row = a;

		row.flags = PLUG_MORE;
		row.slot = 5;
		row.a = 10;
		row.b = 2;
		row.c = 1;
		say(fd, row, "");
		break;
	}
	case PLUG_STATS:
		text = "received 12\npublished 11\ndropped.ring_full 1\n";
		break;
	default:
		break;
	}
	say(fd, a, text);
}

/* ret: false if the connection is over. */
static bool serve(struct plugin *p, int fd)
{
	static char packet[sizeof(struct plug_request) + PLUG_TEXT_MAX];
	char control[CMSG_SPACE(PLUG_FDS_MAX * sizeof(int))];
	struct iovec iov = {packet, sizeof(packet)};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};
	int fds[PLUG_FDS_MAX];
	ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	struct plug_request r;

	if (n < (ssize_t)sizeof(r))
		return false;
	size_t n_fds = take_fds(&m, fds);
	memcpy(&r, packet, sizeof(r));
	pthread_mutex_lock(&p->lock);
	note(p, packet, (size_t)n, fds, n_fds);
	answer(p, fd, &r);
	pthread_mutex_unlock(&p->lock);
	while (n_fds > 0)
		close(fds[--n_fds]);
	return true;
}

static void *plugin_thread(void *arg)
{
	struct plugin *p = arg;
	int listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), fd = -1;

	unlink(p->addr.sun_path);
	if (bind(listen_fd, (struct sockaddr *)&p->addr, sizeof(p->addr)) < 0 ||
	    listen(listen_fd, 4) < 0)
		abort();
	for (;;) {
		struct pollfd polls[] = {{p->stop[0], POLLIN, 0},
					 {fd >= 0 ? fd : listen_fd, POLLIN, 0}};

		poll(polls, 2, -1);
		if (polls[0].revents != 0) {
			char what;

			if (read(p->stop[0], &what, 1) != 1 || what == 'q')
				break;
			if (what == 'e' && fd >= 0) { /* events of port 7 */
				say(fd, (struct plug_answer){.op = PLUG_FED, .port = 7}, "");
				say(fd, (struct plug_answer){.op = PLUG_BROKEN, .port = 7}, "");
				say(fd, (struct plug_answer){.op = PLUG_BROKEN, .port = 8}, "");
			}
			if (what == 'h')
				closep(&fd);
			continue;
		}
		if (fd < 0) {
			fd = accept(listen_fd, NULL, NULL);
			pthread_mutex_lock(&p->lock);
			p->connections++;
			pthread_mutex_unlock(&p->lock);
		} else if (!serve(p, fd)) {
			closep(&fd);
		}
	}
	closep(&fd);
	close(listen_fd);
	unlink(p->addr.sun_path);
	return NULL;
}

static void plugin_order(struct plugin *p, char what)
{
	assert_int_equal(write(p->stop[1], &what, 1), 1);
}

static void plugin_begin(struct plugin *p)
{
	assert_int_equal(pthread_create(&p->thread, NULL, plugin_thread, p), 0);
	p->running = true;
	while (access(p->addr.sun_path, F_OK) < 0)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void plugin_end(struct plugin *p)
{
	if (!p->running)
		return;
	plugin_order(p, 'q');
	pthread_join(p->thread, NULL);
	p->running = false;
}

/* How often op came, with this slot if it is not UINT32_MAX; *ret_last: the last of them. */
static unsigned seen(struct plugin *p, uint32_t op, uint32_t slot, struct seen *ret_last)
{
	unsigned n = 0;

	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < p->n_seen; i++) {
		if (p->seen[i].r.op != op || (slot != UINT32_MAX && p->seen[i].r.slot != slot))
			continue;
		n++;
		if (ret_last != NULL)
			*ret_last = p->seen[i];
	}
	pthread_mutex_unlock(&p->lock);
	return n;
}

/* When op came first after the n-th request; SEEN_MAX: never. */
static size_t place_of(struct plugin *p, uint32_t op, size_t from)
{
	size_t i = from;

	pthread_mutex_lock(&p->lock);
	while (i < p->n_seen && p->seen[i].r.op != op)
		i++;
	if (i >= p->n_seen)
		i = SEEN_MAX;
	pthread_mutex_unlock(&p->lock);
	return i;
}

static size_t so_far(struct plugin *p)
{
	pthread_mutex_lock(&p->lock);
	size_t n = p->n_seen;
	pthread_mutex_unlock(&p->lock);
	return n;
}

/* ---- the world ---- */

static void on_port_broken(void *arg, struct transport_port *port)
{
	struct world *w = arg;

	assert_ptr_equal(port, w->port);
	w->broken++;
}

static void on_port_fed(void *arg, struct transport_port *port)
{
	struct world *w = arg;

	assert_ptr_equal(port, w->port);
	w->fed++;
}

static void on_link(void *arg, bool up)
{
	struct world *w = arg;

	w->ups += up;
	w->downs += !up;
}

static void on_done(void *arg, int rc)
{
	struct world *w = arg;

	w->done++;
	w->done_rc = rc;
}

static void on_held(void *arg, const struct transport_standing *s)
{
	struct world *w = arg;

	w->held++;
	w->standing = *s;
}

static void on_retired(void *arg, int rc)
{
	struct world *w = arg;

	assert_int_equal(rc, 0);
	w->retired++;
}

static void on_slots(void *arg, const struct transport_slot_stats *rows, size_t n)
{
	struct world *w = arg;

	w->slots_told++;
	w->n_slots = n;
	if (n > 0)
		w->first_slot = rows[0];
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	snprintf(w->dir, sizeof(w->dir), P_tmpdir "/test-plugin-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(settings_load(NULL, &w->settings, NULL, NULL, NULL), 0);
	w->plugin.addr.sun_family = AF_UNIX;
	snprintf(w->plugin.addr.sun_path, sizeof(w->plugin.addr.sun_path), "%s/plugin.sock",
		 w->dir);
	free(w->settings.broker.plugin_socket);
	w->settings.broker.plugin_socket = strdup(w->plugin.addr.sun_path);
	pthread_mutex_init(&w->plugin.lock, NULL);
	w->plugin.state = PLUG_STATE_HELD;
	assert_int_equal(pipe2(w->plugin.stop, O_CLOEXEC), 0);
	assert_int_equal(loop_new(&w->loop, NULL), 0);
	assert_int_equal(tap_make(RING, RING, &w->fds, NULL), 0);
	assert_int_equal(pipe2(w->wake, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pipe2(w->result, O_CLOEXEC | O_NONBLOCK), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	if (w->t != NULL)
		transport_plugin.stop(w->t);
	loop_free(w->loop);
	plugin_end(&w->plugin);
	tap_fds_done(&w->fds);
	for (int i = 0; i < 2; i++) {
		close(w->wake[i]);
		close(w->result[i]);
		close(w->plugin.stop[i]);
	}
	settings_done(&w->settings);
	pthread_mutex_destroy(&w->plugin.lock);
	rmdir(w->dir);
	free(w);
	return 0;
}

static void start(struct world *w)
{
	static const struct transport_events ev = {
		.on_port_broken = on_port_broken, .on_port_fed = on_port_fed, .on_link = on_link};

	assert_int_equal(transport_plugin.start(w->loop, &w->settings, "a", &ev, w, &w->t, NULL),
			 0);
}

/* A port without engine, as new ones begin. */
static void add_port(struct world *w)
{
	assert_int_equal(transport_plugin.port_add(w->t, "e1", &w->fds, -1, -1, &w->port, NULL), 0);
}

static void resume(struct world *w)
{
	assert_int_equal(
		transport_plugin.port_resume(w->port, &w->fds, w->wake[1], w->result[0], NULL), 0);
}

static uint32_t tap(struct world *w, const char *topic)
{
	uint32_t slot = UINT32_MAX;

	assert_int_equal(transport_plugin.tap_topic(w->port, topic, &slot, on_done, w, NULL), 0);
	return slot;
}

static uint32_t out(struct world *w, const char *topic)
{
	uint32_t slot = UINT32_MAX;

	assert_int_equal(transport_plugin.out_topic(w->port, topic, &slot, on_done, w, NULL), 0);
	return slot;
}

static void with_engine(struct world *w)
{
	plugin_begin(&w->plugin);
	start(w);
	add_port(w);
	resume(w);
	UNTIL(w, seen(&w->plugin, PLUG_PORT_RESUME, UINT32_MAX, NULL) == 1);
}

/* ---- the tests ---- */

static void nobody_there_is_no_error_and_all_is_said_when_somebody_comes(void **state)
{
	struct world *w = *state;
	struct seen last;

	start(w);
	add_port(w);
	uint32_t slot = tap(w, "iottalk/esm/in");
	out(w, "iottalk/esm/out");
	resume(w);
	for (int i = 0; i < 10; i++)
		loop_turn(w->loop, 1);
	assert_int_equal(w->done, 0);
	assert_int_equal(w->ups, 0);
	assert_true(transport_plugin.port_holding(w->port));
	plugin_begin(&w->plugin);
	UNTIL(w, w->done == 2);
	UNTIL(w, seen(&w->plugin, PLUG_PORT_RESUME, UINT32_MAX, NULL) == 1);
	assert_int_equal(w->done_rc, 0);
	assert_int_equal(w->ups, 1);
	assert_int_equal(seen(&w->plugin, PLUG_TAP, slot, &last), 1);
	assert_string_equal(last.text, "iottalk/esm/in");
	assert_int_equal(last.r.port, 7);
	assert_false(transport_plugin.port_holding(w->port));
}

static void a_probe_says_that_nobody_listens(void **state)
{
	struct world *w = *state;
	struct err err = {0};

	assert_int_equal(transport_plugin_probe(&w->settings, "a", &err), ERR_NOENT);
	assert_non_null(strstr(err.text, "plugin.sock"));
}

static void after_a_broker_came_back_slots_are_given_before_the_engine(void **state)
{
	struct world *w = *state;
	struct seen add, again;

	with_engine(w);
	tap(w, "iottalk/esm/in");
	out(w, "iottalk/esm/out");
	UNTIL(w, w->done == 2);
	plugin_end(&w->plugin);
	UNTIL(w, w->downs == 1);
	size_t before = so_far(&w->plugin);
	plugin_begin(&w->plugin);
	UNTIL(w, place_of(&w->plugin, PLUG_PORT_RESUME, before) < SEEN_MAX);
	size_t resumed = place_of(&w->plugin, PLUG_PORT_RESUME, before);
	assert_true(place_of(&w->plugin, PLUG_PORT_ADD, before) <
		    place_of(&w->plugin, PLUG_TAP, before));
	assert_true(place_of(&w->plugin, PLUG_TAP, before) < resumed);
	assert_true(place_of(&w->plugin, PLUG_OUT, before) < resumed);
	seen(&w->plugin, PLUG_PORT_ADD, UINT32_MAX, &add);
	seen(&w->plugin, PLUG_PORT_RESUME, UINT32_MAX, &again);
	assert_int_equal(add.n_fds, 2);
	assert_int_equal(again.n_fds, 3);
	assert_int_equal(again.out, add.out); /* the engine that lives */
	assert_int_equal(w->done, 2);         /* nobody is told twice */
}

static void who_waits_for_a_topic_is_answered_once_whatever_happens_to_the_connection(void **state)
{
	struct world *w = *state;

	with_engine(w);
	pthread_mutex_lock(&w->plugin.lock);
	w->plugin.mute_op = PLUG_TAP;
	pthread_mutex_unlock(&w->plugin.lock);
	uint32_t slot = tap(w, "iottalk/esm/in");
	UNTIL(w, seen(&w->plugin, PLUG_TAP, slot, NULL) == 1);
	assert_int_equal(w->done, 0);
	pthread_mutex_lock(&w->plugin.lock);
	w->plugin.mute_op = 0;
	pthread_mutex_unlock(&w->plugin.lock);
	plugin_order(&w->plugin, 'h');
	UNTIL(w, w->done == 1);
	assert_int_equal(w->done_rc, 0);
	assert_int_equal(seen(&w->plugin, PLUG_TAP, slot, NULL), 2);
}

static void a_refused_topic_is_told_and_may_be_given_back(void **state)
{
	struct world *w = *state;

	with_engine(w);
	pthread_mutex_lock(&w->plugin.lock);
	w->plugin.code_of_op[PLUG_TAP] = ERR_LIMIT;
	pthread_mutex_unlock(&w->plugin.lock);
	tap(w, "iottalk/esm/in");
	UNTIL(w, w->done == 1);
	assert_int_equal(w->done_rc, ERR_LIMIT);
	transport_plugin.untap_topic(w->port, "iottalk/esm/in");
	UNTIL(w, seen(&w->plugin, PLUG_STATS, UINT32_MAX, NULL) > 1); /* some time later */
	assert_int_equal(seen(&w->plugin, PLUG_UNTAP, UINT32_MAX, NULL), 0);
}

static void topics_are_counted(void **state)
{
	struct world *w = *state;

	with_engine(w);
	uint32_t slot = tap(w, "iottalk/esm/in");
	assert_int_equal(tap(w, "iottalk/esm/in"), slot);
	assert_int_not_equal(tap(w, "iottalk/esm/in2"), slot);
	UNTIL(w, w->done == 3);
	transport_plugin.untap_topic(w->port, "iottalk/esm/in");
	transport_plugin.untap_topic(w->port, "iottalk/esm/in2");
	UNTIL(w, seen(&w->plugin, PLUG_UNTAP, UINT32_MAX, NULL) == 1);
	assert_int_equal(seen(&w->plugin, PLUG_UNTAP, slot, NULL), 0);
	transport_plugin.untap_topic(w->port, "iottalk/esm/in");
	UNTIL(w, seen(&w->plugin, PLUG_UNTAP, slot, NULL) == 1);
}

/* Until the plugin has it gone it puts messages on the ring under its slot. */
static void a_slot_is_another_topics_only_when_the_plugin_has_given_it_up(void **state)
{
	struct world *w = *state;

	with_engine(w);
	uint32_t slot = tap(w, "iottalk/esm/a");
	UNTIL(w, w->done == 1);
	transport_plugin.untap_topic(w->port, "iottalk/esm/a");
	uint32_t next = tap(w, "iottalk/esm/b");
	assert_int_not_equal(next, slot);
	UNTIL(w, w->done == 2); /* answers come in order */
	assert_int_equal(tap(w, "iottalk/esm/c"), slot);
}

static void a_topic_that_is_asked_for_again_while_it_is_given_back_keeps_its_slot(void **state)
{
	struct world *w = *state;

	with_engine(w);
	uint32_t slot = tap(w, "iottalk/esm/a");
	UNTIL(w, w->done == 1);
	transport_plugin.untap_topic(w->port, "iottalk/esm/a");
	assert_int_equal(tap(w, "iottalk/esm/a"), slot);
	UNTIL(w, w->done == 2);
	assert_int_equal(w->done_rc, 0);
	assert_int_equal(seen(&w->plugin, PLUG_UNTAP, slot, NULL), 1);
	assert_int_equal(seen(&w->plugin, PLUG_TAP, slot, NULL), 2);
	transport_plugin.untap_topic(w->port, "iottalk/esm/a");
	UNTIL(w, seen(&w->plugin, PLUG_UNTAP, slot, NULL) == 2);
}

static void a_plugin_that_goes_while_a_topic_is_given_back_is_not_told_of_it_again(void **state)
{
	struct world *w = *state;

	with_engine(w);
	uint32_t slot = tap(w, "iottalk/esm/a");
	UNTIL(w, w->done == 1);
	pthread_mutex_lock(&w->plugin.lock);
	w->plugin.mute_op = PLUG_UNTAP;
	pthread_mutex_unlock(&w->plugin.lock);
	transport_plugin.untap_topic(w->port, "iottalk/esm/a");
	UNTIL(w, seen(&w->plugin, PLUG_UNTAP, slot, NULL) == 1);
	plugin_order(&w->plugin, 'h');
	UNTIL(w, w->downs > 0);
	UNTIL(w, seen(&w->plugin, PLUG_PORT_RESUME, UINT32_MAX, NULL) == 2);
	assert_int_equal(seen(&w->plugin, PLUG_TAP, slot, NULL), 1);
	assert_int_equal(tap(w, "iottalk/esm/b"), slot);
}

static void what_an_earlier_agent_had_is_claimed_or_given_up_when_all_is_loaded(void **state)
{
	static const struct row rows[] = {
		{4, false, "iottalk/esm/wanted"},
		{5, false, "iottalk/esm/unwanted"},
		{6, true, "iottalk/esm/result"},
		{7, true, "iottalk/monitor/unwanted"},
	};
	struct world *w = *state;
	struct seen last;

	w->plugin.living = true;
	w->plugin.state = PLUG_STATE_RUNNING;
	w->plugin.rows = rows;
	w->plugin.n_rows = ARRAY_LEN(rows);
	plugin_begin(&w->plugin);
	start(w);
	assert_int_equal(transport_plugin.port_add(w->t, "e1", &w->fds, w->wake[1], w->result[0],
						   &w->port, NULL),
			 0);
	assert_int_equal(tap(w, "iottalk/esm/wanted"), 4);
	assert_int_equal(out(w, "iottalk/esm/result"), 6);
	uint32_t fresh = tap(w, "iottalk/esm/new");
	assert_true(fresh != 4 && fresh != 5); /* that one may still be on the ring */
	UNTIL(w, w->done == 3);
	assert_int_equal(seen(&w->plugin, PLUG_UNTAP, UINT32_MAX, NULL), 0);
	assert_int_equal(seen(&w->plugin, PLUG_SWEEP, UINT32_MAX, NULL), 0);
	transport_plugin.open(w->t);
	UNTIL(w, seen(&w->plugin, PLUG_SWEEP, UINT32_MAX, &last) == 1);
	assert_string_equal(last.text, "a/"); /* other agents may use the same broker */
	seen(&w->plugin, PLUG_PORT_ADD, UINT32_MAX, &last);
	assert_string_equal(last.text, "a/e1");
	assert_int_equal(seen(&w->plugin, PLUG_UNTAP, 5, NULL), 1);
	assert_int_equal(seen(&w->plugin, PLUG_DROP_OUT, 7, NULL), 1);
	assert_int_equal(seen(&w->plugin, PLUG_UNTAP, UINT32_MAX, NULL), 1);
	assert_int_equal(seen(&w->plugin, PLUG_DROP_OUT, UINT32_MAX, NULL), 1);
	assert_int_equal(seen(&w->plugin, PLUG_PORT_RESUME, UINT32_MAX, NULL), 0);
}

/* It may have given one back just before it died: messages under that slot are on the ring. */
static void slots_of_an_earlier_agent_rest_until_the_ring_has_moved_on(void **state)
{
	static const struct row rows[] = {{1, false, "iottalk/esm/wanted"},
					  {2, true, "iottalk/esm/result"}};
	const struct tap_rec rec = {.slot = 3, .len = 4};
	struct world *w = *state;
	struct tap *trusted = NULL;
	struct tap_peer *engine = NULL;
	struct tap_rec got;
	char buf[8];

	assert_int_equal(tap_open(w->fds.in_fd, w->fds.out_fd, &trusted, NULL), 0);
	assert_int_equal(tap_attach(w->fds.in_ro_fd, w->fds.out_fd, &engine, NULL), 0);
	assert_int_equal(tap_push(trusted, &rec, "last"), 0);
	assert_int_equal(tap_reply(engine, &rec, "last"), 0);
	w->plugin.living = true;
	w->plugin.state = PLUG_STATE_RUNNING;
	w->plugin.rows = rows;
	w->plugin.n_rows = ARRAY_LEN(rows);
	w->plugin.n_in = 4;
	w->plugin.n_out = 8;
	plugin_begin(&w->plugin);
	start(w);
	assert_int_equal(transport_plugin.port_add(w->t, "e1", &w->fds, w->wake[1], w->result[0],
						   &w->port, NULL),
			 0);
	assert_int_equal(tap(w, "iottalk/esm/wanted"), 1);
	assert_int_equal(out(w, "iottalk/esm/result"), 2);
	assert_int_equal(tap(w, "iottalk/esm/new"), 4);
	assert_int_equal(out(w, "iottalk/esm/new"), 8);
	assert_int_equal(tap_next(engine, &got, buf, sizeof(buf)), 1);
	tap_consume(engine);
	assert_int_equal(tap(w, "iottalk/esm/new2"), 0);
	assert_int_equal(out(w, "iottalk/esm/new2"), 9);
	assert_int_equal(tap_pull(trusted, &got, buf, sizeof(buf)), 1);
	assert_int_equal(out(w, "iottalk/esm/new3"), 0); /* no result is left */
	UNTIL(w, w->done == 7);
	tap_close(trusted);
	tap_detach(engine);
}

/* It has no engine yet: nothing was ever put on its ring under it. */
static void a_slot_given_back_before_the_first_engine_is_used_again(void **state)
{
	struct world *w = *state;

	plugin_begin(&w->plugin);
	start(w);
	add_port(w);
	uint32_t slot = tap(w, "iottalk/esm/a");
	UNTIL(w, w->done == 1);
	transport_plugin.untap_topic(w->port, "iottalk/esm/a");
	tap(w, "iottalk/esm/b");
	UNTIL(w, w->done == 2);
	assert_int_equal(tap(w, "iottalk/esm/c"), slot);
}

static void a_port_that_goes_before_it_is_known_goes_in_the_plugin_too(void **state)
{
	struct world *w = *state;
	struct seen last;

	plugin_begin(&w->plugin);
	start(w);
	transport_plugin.open(w->t);
	add_port(w);
	transport_plugin.port_remove(w->port);
	UNTIL(w, seen(&w->plugin, PLUG_PORT_REMOVE, UINT32_MAX, &last) == 1);
	assert_int_equal(last.r.port, 7);
}

static void an_engine_that_the_plugin_does_not_know_cannot_be_met_again(void **state)
{
	struct world *w = *state;

	plugin_begin(&w->plugin);
	start(w);
	assert_int_equal(transport_plugin.port_add(w->t, "e1", &w->fds, w->wake[1], w->result[0],
						   &w->port, NULL),
			 ERR_NOENT);
}

static void a_dead_engine_is_held_until_its_results_are_taken_then_retired_and_replaced(
	void **state)
{
	struct world *w = *state;
	struct seen last;

	with_engine(w);
	w->plugin.more_holds = 2;
	assert_int_equal(transport_plugin.port_hold(w->port, on_held, w, NULL), 0);
	UNTIL(w, w->held == 1);
	assert_int_equal(seen(&w->plugin, PLUG_PORT_HOLD, UINT32_MAX, NULL), 3);
	assert_true(w->standing.sane && w->standing.at_message);
	assert_int_equal(w->standing.slot, 3);
	assert_int_equal(w->standing.done, 24);
	assert_int_equal(transport_plugin.port_retire(w->port, true, on_retired, w, NULL), 0);
	UNTIL(w, w->retired == 1);
	assert_int_equal(seen(&w->plugin, PLUG_PORT_RETIRE, UINT32_MAX, &last), 1);
	assert_int_equal(last.r.flags, PLUG_SKIP);
	assert_int_equal(tap_make_out(&w->fds, NULL), 0);
	resume(w);
	UNTIL(w, seen(&w->plugin, PLUG_PORT_RESUME, UINT32_MAX, NULL) == 2);
}

static void a_hold_is_asked_again_if_the_answer_was_lost(void **state)
{
	struct world *w = *state;

	with_engine(w);
	pthread_mutex_lock(&w->plugin.lock);
	w->plugin.mute_op = PLUG_PORT_HOLD;
	pthread_mutex_unlock(&w->plugin.lock);
	assert_int_equal(transport_plugin.port_hold(w->port, on_held, w, NULL), 0);
	UNTIL(w, seen(&w->plugin, PLUG_PORT_HOLD, UINT32_MAX, NULL) == 1);
	pthread_mutex_lock(&w->plugin.lock);
	w->plugin.mute_op = 0;
	pthread_mutex_unlock(&w->plugin.lock);
	plugin_order(&w->plugin, 'h');
	UNTIL(w, w->held == 1);
	assert_int_equal(seen(&w->plugin, PLUG_PORT_RESUME, UINT32_MAX, NULL),
			 1); /* not the dead one */
}

/* The plugin has skipped the culprit, its answer is lost: asked again it would skip another one. */
static void a_retirement_whose_answer_was_lost_is_not_asked_again(void **state)
{
	struct world *w = *state;
	struct tap *trusted;
	const struct tap_rec rec = {.slot = 1, .len = 4};

	with_engine(w);
	assert_int_equal(tap_open(w->fds.in_fd, w->fds.out_fd, &trusted, NULL), 0);
	assert_int_equal(tap_push(trusted, &rec, "[1]"), 0);
	pthread_mutex_lock(&w->plugin.lock);
	w->plugin.mute_op = PLUG_PORT_RETIRE;
	pthread_mutex_unlock(&w->plugin.lock);
	assert_int_equal(transport_plugin.port_hold(w->port, on_held, w, NULL), 0);
	UNTIL(w, w->held == 1);
	assert_int_equal(transport_plugin.port_retire(w->port, true, on_retired, w, NULL), 0);
	UNTIL(w, seen(&w->plugin, PLUG_PORT_RETIRE, UINT32_MAX, NULL) == 1);
	tap_retire(trusted, true, NULL);
	tap_close(trusted);
	plugin_order(&w->plugin, 'h');
	UNTIL(w, w->retired == 1);
	assert_int_equal(seen(&w->plugin, PLUG_PORT_RETIRE, UINT32_MAX, NULL), 1);
}

static void events_reach_the_port_they_are_about(void **state)
{
	struct world *w = *state;

	with_engine(w);
	plugin_order(&w->plugin, 'e');
	UNTIL(w, w->broken == 1 && w->fed == 1);
	plugin_order(&w->plugin, 'e');
	UNTIL(w, w->fed == 2);
	loop_turn(w->loop, 0);
	assert_int_equal(w->broken, 1); /* once for each engine */
}

static void an_engine_that_broke_the_rules_while_no_agent_was_there_is_told(void **state)
{
	struct world *w = *state;

	with_engine(w);
	pthread_mutex_lock(&w->plugin.lock);
	w->plugin.living = true;
	w->plugin.state = PLUG_STATE_BROKEN;
	pthread_mutex_unlock(&w->plugin.lock);
	plugin_order(&w->plugin, 'h');
	UNTIL(w, w->broken == 1);
}

static void figures_come_from_the_plugin_or_not_at_all(void **state)
{
	struct world *w = *state;

	with_engine(w);
	assert_int_equal(transport_plugin.port_stats(w->port, on_slots, w, NULL), 0);
	UNTIL(w, w->slots_told == 1);
	assert_int_equal(w->n_slots, 1);
	assert_int_equal(w->first_slot.slot, 5);
	assert_int_equal(w->first_slot.received, 10);
	assert_int_equal(w->first_slot.dropped_full, 2);
	assert_int_equal(w->first_slot.dropped_too_large, 1);
	json_t *stats = transport_plugin.stats(w->t);
	while (json_object_size(stats) == 0) {
		json_decref(stats);
		loop_turn(w->loop, 10);
		stats = transport_plugin.stats(w->t);
	}
	assert_int_equal(json_integer_value(json_object_get(stats, "received")), 12);
	assert_int_equal(json_integer_value(json_object_get(stats, "dropped.ring_full")), 1);
	json_decref(stats);
	pthread_mutex_lock(&w->plugin.lock);
	w->plugin.mute_op = PLUG_SLOT_STATS;
	pthread_mutex_unlock(&w->plugin.lock);
	assert_int_equal(transport_plugin.port_stats(w->port, on_slots, w, NULL), 0);
	assert_int_equal(transport_plugin.port_stats(w->port, on_slots, w, NULL), ERR_BUSY);
	UNTIL(w, seen(&w->plugin, PLUG_SLOT_STATS, UINT32_MAX, NULL) == 2);
	plugin_end(&w->plugin);
	UNTIL(w, w->slots_told == 2);
	assert_int_equal(w->n_slots, 0);
	assert_int_equal(transport_plugin.port_stats(w->port, on_slots, w, NULL), 0);
	UNTIL(w, w->slots_told == 3);
}

static void the_agent_publishes_to_out_slots(void **state)
{
	struct world *w = *state;
	struct seen last;

	with_engine(w);
	uint32_t slot = out(w, "iottalk/esm/out");
	assert_int_equal(transport_plugin.publish(w->port, slot, "[1]", 3), 0);
	UNTIL(w, seen(&w->plugin, PLUG_PUBLISH, slot, &last) == 1);
	assert_string_equal(last.text, "[1]");
	assert_int_equal(last.r.flags, 1);
	plugin_end(&w->plugin);
	UNTIL(w, w->downs == 1);
	assert_int_equal(transport_plugin.publish(w->port, slot, "[1]", 3), ERR_AGAIN);
}

static void a_removed_port_is_removed_there_and_its_callers_are_not_called(void **state)
{
	struct world *w = *state;

	with_engine(w);
	pthread_mutex_lock(&w->plugin.lock);
	w->plugin.mute_op = PLUG_TAP;
	pthread_mutex_unlock(&w->plugin.lock);
	tap(w, "iottalk/esm/in");
	w->port = transport_plugin.port_remove(w->port);
	UNTIL(w, seen(&w->plugin, PLUG_PORT_REMOVE, UINT32_MAX, NULL) == 1);
	plugin_order(&w->plugin, 'h');
	UNTIL(w, w->downs == 1);
	assert_int_equal(w->done, 0);
}

static void an_agent_that_ends_leaves_its_ports(void **state)
{
	struct world *w = *state;

	with_engine(w);
	w->t = transport_plugin.stop(w->t);
	plugin_end(&w->plugin);
	assert_int_equal(seen(&w->plugin, PLUG_PORT_REMOVE, UINT32_MAX, NULL), 0);
	assert_int_equal(seen(&w->plugin, PLUG_PORT_HOLD, UINT32_MAX, NULL), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nobody_there_is_no_error_and_all_is_said_when_somebody_comes),
		TEST(a_probe_says_that_nobody_listens),
		TEST(after_a_broker_came_back_slots_are_given_before_the_engine),
		TEST(who_waits_for_a_topic_is_answered_once_whatever_happens_to_the_connection),
		TEST(a_refused_topic_is_told_and_may_be_given_back),
		TEST(topics_are_counted),
		TEST(a_slot_is_another_topics_only_when_the_plugin_has_given_it_up),
		TEST(a_topic_that_is_asked_for_again_while_it_is_given_back_keeps_its_slot),
		TEST(a_plugin_that_goes_while_a_topic_is_given_back_is_not_told_of_it_again),
		TEST(what_an_earlier_agent_had_is_claimed_or_given_up_when_all_is_loaded),
		TEST(slots_of_an_earlier_agent_rest_until_the_ring_has_moved_on),
		TEST(a_slot_given_back_before_the_first_engine_is_used_again),
		TEST(a_port_that_goes_before_it_is_known_goes_in_the_plugin_too),
		TEST(an_engine_that_the_plugin_does_not_know_cannot_be_met_again),
		TEST(a_dead_engine_is_held_until_its_results_are_taken_then_retired_and_replaced),
		TEST(a_hold_is_asked_again_if_the_answer_was_lost),
		TEST(a_retirement_whose_answer_was_lost_is_not_asked_again),
		TEST(events_reach_the_port_they_are_about),
		TEST(an_engine_that_broke_the_rules_while_no_agent_was_there_is_told),
		TEST(figures_come_from_the_plugin_or_not_at_all),
		TEST(the_agent_publishes_to_out_slots),
		TEST(a_removed_port_is_removed_there_and_its_callers_are_not_called),
		TEST(an_agent_that_ends_leaves_its_ports),
	};

	return cmocka_run_group_tests_name("transport_plugin", tests, NULL, NULL);
}
