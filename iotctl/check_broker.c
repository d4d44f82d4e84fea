/* check_broker.c - the broker: does it answer, whose is it, what does it lack; and who has the
 * ports. */
#include "common/util.h"
#include "iotctl/broker.h"
#include "iotctl/check.h"
#include "iotctl/mqtt.h"
#include "iotctl/ports.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PROBE_MS 2000

/* ---- the broker ---- */

struct broker_look {
	pid_t ours;  /* 0: none of ours runs */
	bool wanted; /* it must answer now: nobody else would start it, or daemons wait for it */
};

/* ret: whether it answers */
static bool say_answer(struct look *l, const struct broker_look *b, const char *name,
		       const char *host, int64_t port, enum probe how, const char *why)
{
	if (how == PROBE_ANSWERS)
		look_says(l, name, DOCTOR_OK, NULL, "answers at %s port %" PRId64, host, port);
	else if (b->ours > 0)
		look_says(l, name, DOCTOR_MISSING,
			  "iotctl restart broker; log/broker.log below userdir may say why",
			  "pid %d runs, and does not answer: %s", (int)b->ours, why);
	else if (how == PROBE_OTHER)
		look_says(l, name, DOCTOR_MISSING,
			  "stop what listens there (see ports), or give the suite other ports: "
			  "[core-mqtt] port, [core-ws] port",
			  "no broker: %s", why);
	else if (b->wanted)
		look_says(l, name, DOCTOR_MISSING,
			  l->s->broker.managed == BROKER_NO
				  ? "start your broker, or let iotctl run one: [broker] managed = "
				    "auto"
				  : "iotctl start; log/broker.log below userdir says why it ended",
			  "%s", why);
	else
		look_says(l, name, DOCTOR_WARNING, "iotctl start runs one", "%s", why);
	return how == PROBE_ANSWERS;
}

static void say_whose(struct look *l, const struct broker_look *b)
{
	if (b->ours > 0)
		look_says(l, "managed", DOCTOR_OK, NULL, "by iotctl, pid %d", (int)b->ours);
	else if (l->s->broker.managed == BROKER_YES)
		look_says(l, "managed", DOCTOR_MISSING,
			  "stop that broker, or give the suite other ports, or use it: [broker] "
			  "managed = auto",
			  "another broker answers at the ports of the one that iotctl should run");
	else
		look_says(l, "managed", DOCTOR_OK, NULL, "not by iotctl; it is used as it is");
}

static void say_lacks(struct look *l, const struct broker_look *b)
{
	const char *remedy =
		b->ours > 0 ? "iotctl restart broker: it runs with older settings"
			    : "set that in its mosquitto.conf (README.rst, The broker) and "
			      "restart it";
	json_auto_t *lacks = broker_lacks(l->s);
	json_t *lack;
	size_t i;

	json_array_foreach (lacks, i, lack)
		look_says(l, "settings", DOCTOR_WARNING, remedy, "it %s", json_string_value(lack));
	if (lacks != NULL && json_array_size(lacks) == 0)
		look_says(l, "settings", DOCTOR_OK, NULL,
			  "it queues for sleeping clients and passes messages of %" PRId64 " bytes",
			  l->s->broker.message_size_limit < 1024 * 1024
				  ? l->s->broker.message_size_limit
				  : 1024 * 1024);
}

void check_broker(struct look *l)
{
	const struct settings *s = l->s;
	char why[400];
	struct broker_look b = {.ours = check_pid(l, "broker")};

	b.wanted = s->broker.managed == BROKER_NO || b.ours > 0 || check_pid(l, "csm") > 0 ||
		   check_pid(l, "agent") > 0 || check_pid(l, "ccm") > 0 ||
		   !host_is_local(s->core_mqtt.host) || !host_is_local(s->core_ws.host);
	enum probe how = probe_mqtt(s->core_mqtt.host, (unsigned)s->core_mqtt.port, PROBE_MS, why,
				    sizeof(why));
	bool mqtt = say_answer(l, &b, "mqtt", s->core_mqtt.host, s->core_mqtt.port, how, why);

	how = probe_websocket(s->core_ws.host, (unsigned)s->core_ws.port, PROBE_MS, why,
			      sizeof(why));
	bool ws = say_answer(l, &b, "websocket", s->core_ws.host, s->core_ws.port, how, why);

	if (mqtt && ws)
		say_whose(l, &b);
	if (mqtt)
		say_lacks(l, &b);
}

/* ---- ports ---- */

struct port {
	const char *name, *daemon, *setting;
	const char *address; /* where it would listen */
	int64_t port;
	bool may_be_foreign; /* a broker that is not ours */
};

static void say_held(struct look *l, const struct port *p, const struct listener *by, pid_t ours)
{
	char name[64] = "a process", remedy[200];
	pid_t pid = ports_holder(by, name, sizeof(name));

	snprintf(remedy, sizeof(remedy), "stop it, or set another port: %s", p->setting);
	if (pid > 0 && pid == ours)
		look_says(l, p->name, DOCTOR_OK, NULL, "%" PRId64 ": %s, pid %d", p->port,
			  p->daemon, (int)pid);
	else if (pid == 0)
		/* Others' processes cannot be looked into; what answers there was asked elsewhere.
		 */
		look_says(l, p->name, p->may_be_foreign || ours > 0 ? DOCTOR_OK : DOCTOR_MISSING,
			  p->may_be_foreign || ours > 0 ? NULL : remedy,
			  "%" PRId64 ": a process of user id %u", p->port, (unsigned)by->uid);
	else if (p->may_be_foreign)
		look_says(l, p->name, DOCTOR_OK, NULL, "%" PRId64 ": %s, pid %d, not run by iotctl",
			  p->port, name, (int)pid);
	else
		look_says(l, p->name, DOCTOR_MISSING, remedy,
			  "%" PRId64 " at %s is held by %s, pid %d", p->port, p->address, name,
			  (int)pid);
}

static void look_at_port(struct look *l, const struct port *p)
{
	struct listener by;
	pid_t ours = check_pid(l, p->daemon);

	if (ports_look(p->address, (unsigned)p->port, &by))
		say_held(l, p, &by, ours);
	else if (ours > 0)
		look_says(l, p->name, DOCTOR_WARNING,
			  "look again: it may just be starting; else iotctl restart, after a "
			  "change of "
			  "the port",
			  "%" PRId64 ": nobody listens, though %s runs (pid %d)", p->port,
			  p->daemon, (int)ours);
	else
		look_says(l, p->name, DOCTOR_OK, NULL, "%" PRId64 " is free", p->port);
}

#define OUR_PORTS 2 /* the first of the table; the others are the broker's */

void check_ports(struct look *l)
{
	const struct settings *s = l->s;
	bool foreign = s->broker.managed != BROKER_YES && check_pid(l, "broker") == 0;
	bool here = host_is_local(s->core_mqtt.host) && host_is_local(s->core_ws.host);
	const struct port ports[] = {
		{"http port", "csm", "[core] http-port", s->core.bind, s->core.http_port, false},
		{"ccm port", "ccm", "[gui] port", s->gui.bind, s->gui.port, false},
		{"mqtt port", "broker", "[core-mqtt] port", s->broker.bind, s->core_mqtt.port,
		 foreign},
		{"websocket port", "broker", "[core-ws] port", s->broker.bind, s->core_ws.port,
		 foreign},
	};

	for (size_t i = 0; i < (here ? ARRAY_LEN(ports) : OUR_PORTS); i++)
		look_at_port(l, &ports[i]);
}
