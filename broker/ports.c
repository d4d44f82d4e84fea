#include "broker/ports_int.h"

#include "broker/mosq.h"
#include "broker/wake.h"
#include "common/util.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define INDEX(id)            ((id) % PORTS_MAX)
#define NUMBER_MAX           (UINT32_MAX / PORTS_MAX)
#define MQTT_PAYLOAD_MAX     (268435455u - 65535u - 16u) /* beside the longest topic */
#define RESULTS_AT_HOLD      1024u
#define RESULT_BYTES_AT_HOLD ((size_t)16 << 20)

int ports_new(const struct ports_conf *conf, struct ports **ret, struct err *err)
{
	struct ports *ps = calloc(1, sizeof(*ps));

	if (ps == NULL || (ps->topics = topic_table_new()) == NULL) {
		free(ps);
		return err_set(err, ERR_NOMEM, "out of memory for ports");
	}
	ps->conf = *conf;
	if (ps->conf.max_result_bytes == 0 || ps->conf.max_result_bytes > MQTT_PAYLOAD_MAX)
		ps->conf.max_result_bytes = MQTT_PAYLOAD_MAX;
	*ret = ps;
	return 0;
}

int ports_charge(struct ports *ps, size_t bytes, struct err *err)
{
	if (bytes > PORTS_BYTES_MAX - ps->bytes)
		return err_set(err, ERR_LIMIT, "topics of all ports take more than %zu MiB",
			       PORTS_BYTES_MAX >> 20);
	ps->bytes += bytes;
	return 0;
}

void ports_uncharge(struct ports *ps, size_t bytes)
{
	ps->bytes -= bytes;
}

struct port *ports_find(const struct ports *ps, uint32_t id, struct err *err)
{
	struct port *p = ps->port[INDEX(id)];

	if (p == NULL || p->id != id) {
		err_set(err, ERR_NOENT, "there is no port %u", id);
		return NULL;
	}
	return p;
}

/* ---- engines come and go ---- */

static void drop_engine(struct port *p)
{
	if (p->result_fd >= 0)
		wake_unwatch(p->result_fd);
	closep(&p->result_fd);
	closep(&p->wake_fd);
}

static struct port *port_free(struct port *p)
{
	if (p == NULL)
		return NULL;
	drop_engine(p);
	port_drop_topics(p);
	tap_close(p->tap);
	ports_uncharge(p->ps, sizeof(*p));
	free(p);
	return NULL;
}

/* A ring that could shrink under us would be the broker's end. */
static int check_ring(int fd, struct err *err)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
		return err_set(err, ERR_PEER, "a ring must be a memfd sealed against shrinking");
	return 0;
}

static int check_pipe(int fd, int mode, const char *which, struct err *err)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fstat(fd, &st) < 0)
		return err_sys(err, "%s descriptor", which);
	if (!S_ISFIFO(st.st_mode) || (flags & O_ACCMODE) != mode)
		return err_set(err, ERR_PEER, "the %s descriptor is not that end of a pipe", which);
	return 0;
}

/* The engine behind these pipes is the port's from now on. On error nothing is changed. */
static int take_engine(struct port *p, int wake_fd, int result_fd, struct err *err)
{
	CLEANUP(closep)
	int wake = -1;
	CLEANUP(closep)
	int result = -1;
	int rc = check_pipe(wake_fd, O_WRONLY, "wake", err);

	if (rc == 0)
		rc = check_pipe(result_fd, O_RDONLY, "result", err);
	if (rc < 0)
		return rc;
	wake = fcntl(wake_fd, F_DUPFD_CLOEXEC, 3);
	result = fcntl(result_fd, F_DUPFD_CLOEXEC, 3);
	if (wake < 0 || result < 0)
		return err_sys(err, "an engine's pipes");
	if (fcntl(wake, F_SETFL, O_NONBLOCK) < 0)
		return err_sys(err, "an engine's wake pipe");
	rc = wake_watch(result, err);
	if (rc < 0)
		return rc;
	drop_engine(p);
	wake_watch(result, NULL); /* again, for it may be the same pipe */
	p->wake_fd = TAKE_FD(wake);
	p->result_fd = TAKE_FD(result);
	p->state = PLUG_STATE_RUNNING;
	p->retired = p->liar = p->asleep = false;
	p->rest = 0;
	return 0;
}

void port_break(struct port *p, const char *why)
{
	p->liar = true;
	if (p->state != PLUG_STATE_RUNNING)
		return;
	p->state = PLUG_STATE_BROKEN;
	p->ps->n.ports_broken++;
	mosquitto_log_printf(MOSQ_LOG_WARNING, "iottalk: port.broken port=%s why=\"%s\"", p->name,
			     why);
	p->ps->conf.on_event(p->ps->conf.arg, p->id, PLUG_BROKEN);
}

/* ---- ports ---- */

static struct port *find_name(const struct ports *ps, const char *name)
{
	for (unsigned i = 0; i < ps->n_port; i++)
		if (ps->port[i] != NULL && strcmp(ps->port[i]->name, name) == 0)
			return ps->port[i];
	return NULL;
}

static unsigned free_place(const struct ports *ps)
{
	unsigned i = 0;

	while (i < ps->n_port && ps->port[i] != NULL)
		i++;
	return i;
}

static int port_new(struct ports *ps, const char *name, const int *fds, size_t n_fds,
		    struct port **ret, struct err *err)
{
	int rc = ports_charge(ps, sizeof(struct port), err);

	if (rc < 0)
		return rc;
	struct port *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		ports_uncharge(ps, sizeof(*p));
		return err_set(err, ERR_NOMEM, "out of memory for a port");
	}
	p->ps = ps;
	p->wake_fd = p->result_fd = -1;
	p->state = PLUG_STATE_HELD;
	snprintf(p->name, sizeof(p->name), "%s", name);
	struct stat st;

	rc = fstat(fds[0], &st) < 0 ? err_sys(err, "the rings of port %s", name)
				    : check_ring(fds[0], err);
	p->rings = st.st_ino;
	if (rc == 0)
		rc = check_ring(fds[1], err);
	if (rc == 0)
		rc = tap_open(fds[0], fds[1], &p->tap, err);
	if (rc == 0 && n_fds == 4)
		rc = take_engine(p, fds[2], fds[3], err);
	if (rc < 0) {
		port_free(p);
		return rc;
	}
	*ret = p;
	return 0;
}

static void remove_port(struct port *p)
{
	struct ports *ps = p->ps;

	for (unsigned i = 0; i < ps->n_fed; i++)
		if (ps->fed[i] == p)
			ps->fed[i--] = ps->fed[--ps->n_fed];
	ps->port[INDEX(p->id)] = NULL;
	while (ps->n_port > 0 && ps->port[ps->n_port - 1] == NULL)
		ps->n_port--;
	mosquitto_log_printf(MOSQ_LOG_INFO, "iottalk: port.removed port=%s", p->name);
	port_free(p);
}

int ports_add(struct ports *ps, const void *owner, const char *name, const int *fds, size_t n_fds,
	      uint32_t *ret_port, bool *ret_living, struct err *err)
{
	struct port *old = find_name(ps, name), *p = NULL;
	struct stat st = {0};

	if (old != NULL && n_fds > 0 && fstat(fds[0], &st) == 0 && st.st_ino == old->rings) {
		old->owner = owner;
		*ret_port = old->id;
		*ret_living = true;
		return 0;
	}
	unsigned place = old != NULL ? INDEX(old->id) : free_place(ps);

	if (name[0] == '\0' || strlen(name) > PLUG_NAME_MAX)
		return err_set(err, ERR_INVAL, "a port's name has 1 to %u bytes", PLUG_NAME_MAX);
	for (const char *c = name; *c != '\0'; c++)
		if (*c < 0x21 || *c > 0x7e)
			return err_set(err, ERR_INVAL, "a port's name is printable ASCII");
	if (n_fds != 2 && n_fds != 4)
		return err_set(err, ERR_INVAL, "a port needs two or four descriptors");
	if (place == PORTS_MAX)
		return err_set(err, ERR_LIMIT, "there are %u ports already", PORTS_MAX);
	int rc = port_new(ps, name, fds, n_fds, &p, err);

	if (p == NULL)
		return rc;
	if (old != NULL)
		remove_port(old); /* now that there is another */
	if (p->result_fd >= 0)
		wake_watch(p->result_fd, NULL); /* as in take_engine() */
	p->owner = owner;
	p->id = ps->next_number * PORTS_MAX + place;
	ps->next_number = (ps->next_number + 1) % NUMBER_MAX;
	ps->port[place] = p;
	if (place >= ps->n_port)
		ps->n_port = place + 1;
	/* It may have slept through the end of an earlier trusted side. */
	port_wake(p);
	mosquitto_log_printf(MOSQ_LOG_INFO, "iottalk: port.added port=%s engine=%s", p->name,
			     n_fds == 4 ? "yes" : "no");
	*ret_port = p->id;
	*ret_living = false;
	return 0;
}

bool ports_any(const struct ports *ps)
{
	return ps->n_port > 0;
}

int ports_state(const struct ports *ps, uint32_t port, enum plug_state *ret, struct err *err)
{
	const struct port *p = ports_find(ps, port, err);

	if (p == NULL)
		return ERR_NOENT;
	*ret = p->state;
	return 0;
}

int ports_hold(struct ports *ps, uint32_t port, struct port_standing *ret, struct err *err)
{
	struct port *p = ports_find(ps, port, err);
	size_t bytes = RESULT_BYTES_AT_HOLD;
	struct tap_rec rec;
	uint64_t waiting;

	if (p == NULL)
		return ERR_NOENT;
	*ret = (struct port_standing){0};
	if (p->state != PLUG_STATE_HELD)
		mosquitto_log_printf(MOSQ_LOG_INFO, "iottalk: port.held port=%s", p->name);
	p->state = PLUG_STATE_HELD;
	ret->more = port_pull(p, RESULTS_AT_HOLD, &bytes);
	ret->sane = tap_progress(p->tap, &ret->done, &waiting) == 0;
	ret->at_message = ret->sane && tap_current(p->tap, &rec) == 1;
	ret->slot = ret->at_message ? rec.slot : 0;
	return 0;
}

int ports_retire(struct ports *ps, uint32_t port, bool skip, struct err *err)
{
	struct port *p = ports_find(ps, port, err);

	if (p == NULL)
		return ERR_NOENT;
	if (p->state != PLUG_STATE_HELD)
		return err_set(err, ERR_CONFLICT, "port %s is not held", p->name);
	if (p->retired)
		return 0; /* asked twice: a second record must not be skipped */
	tap_retire(p->tap, skip, NULL);
	drop_engine(p);
	p->retired = true;
	return 0;
}

int ports_resume(struct ports *ps, uint32_t port, const int *fds, struct err *err)
{
	struct port *p = ports_find(ps, port, err);

	if (p == NULL)
		return ERR_NOENT;
	if (p->state != PLUG_STATE_HELD)
		return err_set(err, ERR_CONFLICT, "port %s is not held", p->name);
	int rc = check_ring(fds[0], err);

	if (rc == 0)
		rc = check_pipe(fds[1], O_WRONLY, "wake", err);
	if (rc == 0)
		rc = check_pipe(fds[2], O_RDONLY, "result", err);
	if (rc == 0)
		rc = tap_set_out(p->tap, fds[0], err);
	if (rc == 0)
		rc = take_engine(p, fds[1], fds[2], err);
	if (rc < 0)
		return rc;
	port_wake(p);
	mosquitto_log_printf(MOSQ_LOG_INFO, "iottalk: port.resumed port=%s", p->name);
	return 0;
}

int ports_remove(struct ports *ps, uint32_t port, struct err *err)
{
	struct port *p = ports_find(ps, port, err);

	if (p == NULL)
		return ERR_NOENT;
	remove_port(p);
	return 0;
}

void ports_disown(struct ports *ps, const void *owner)
{
	for (unsigned i = 0; i < ps->n_port; i++)
		if (ps->port[i] != NULL && ps->port[i]->owner == owner)
			ps->port[i]->owner = NULL;
}

unsigned ports_sweep(struct ports *ps, const char *prefix)
{
	unsigned swept = 0;
	size_t len = strlen(prefix);

	for (unsigned i = 0; i < PORTS_MAX; i++) {
		if (ps->port[i] == NULL || ps->port[i]->owner != NULL ||
		    strncmp(ps->port[i]->name, prefix, len) != 0)
			continue;
		remove_port(ps->port[i]);
		swept++;
	}
	return swept;
}

struct ports *ports_free(struct ports *ps)
{
	if (ps == NULL)
		return NULL;
	for (unsigned i = 0; i < ps->n_port; i++)
		port_free(ps->port[i]);
	ports_forget_echoes(ps, NULL);
	topic_table_free(ps->topics, NULL);
	free(ps);
	return NULL;
}

size_t ports_print_stats(const struct ports *ps, char *buf, size_t size)
{
	const struct port_counters *n = &ps->n;
	unsigned living = 0;

	for (unsigned i = 0; i < ps->n_port; i++)
		living += ps->port[i] != NULL;
	const struct {
		const char *name;
		uint64_t n;
	} rows[] = {
		{"received", n->received},
		{"published", n->published},
		{"publish_failed", n->publish_failed},
		{"dropped.ring_full", n->no_room},
		{"dropped.too_large", n->too_large},
		{"dropped.port_broken", n->broken},
		{"dropped.late_result", n->late},
		{"dropped.result_too_large", n->result_too_large},
		{"echoes", n->echoes},
		{"ports_broken", n->ports_broken},
		{"ports", living},
		{"topics", topic_table_count(ps->topics)},
		{"topic_bytes", ps->bytes},
	};
	size_t len = 0;

	for (size_t i = 0; i < ARRAY_LEN(rows) && len < size; i++)
		len += (size_t)snprintf(buf + len, size - len, "%s %llu\n", rows[i].name,
					(unsigned long long)rows[i].n);
	return len < size ? len : size - 1;
}
