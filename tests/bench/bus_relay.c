/* bus_relay - as relay, but over common/bus.h: what is left of the C relay's speed when the MQTT
 * library of the suite does the work.
 *
 * bus_relay PORT PREFIX: subscribes PREFIX/in/#, publishes to PREFIX/out/... at the QoS the message
 * came with.
 */
#include "common/bus.h"
#include "common/util.h"
#include "tests/bench/compute.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOPIC_BYTES 256

struct bus_relay {
	struct bus *bus;
	struct loop *loop;
	struct compute *compute;
	size_t prefix_len; /* with the slash before "in" */
	struct err err;
};

static void on_message(void *arg, const struct bus_msg *m)
{
	struct bus_relay *r = arg;
	const char *topic;
	size_t topic_len, len;
	const char *answer = compute_answer(r->compute, r->prefix_len, m->topic, strlen(m->topic),
					    m->payload, m->len, &topic, &topic_len, &len);
	int rc = 0;
	if (answer != NULL)
		rc = bus_publish(r->bus, topic, answer, len, m->qos, false, &r->err);
	if (rc < 0)
		loop_quit(r->loop, rc);
}

static void on_up(void *arg, bool fresh)
{
	(void)arg;
	(void)fresh;
	printf("ready\n"); /* whoever started us waits for this line */
	fflush(stdout);
}

int main(int argc, char *argv[])
{
	static const struct bus_handlers handlers = {.on_up = on_up, .on_message = on_message};
	struct bus_relay r = {0};
	char topic[TOPIC_BYTES], client_id[64];
	if (argc != 3) {
		fprintf(stderr, "usage: bus_relay PORT PREFIX\n");
		return EXIT_FAILURE;
	}
	r.prefix_len = strlen(argv[2]) + 1;
	snprintf(topic, sizeof(topic), "%s/in/#", argv[2]);
	snprintf(client_id, sizeof(client_id), "bus-relay-%d", getpid());
	const struct bus_conf conf = {
		.host = "127.0.0.1",
		.port = (unsigned)strtoul(argv[1], NULL, 10),
		.client_id = client_id,
		.clean_session = true,
	};
	r.compute = compute_new();
	int rc = r.compute == NULL ? err_set(&r.err, ERR_NOMEM, "starting") : 0;
	if (rc == 0)
		rc = loop_new(&r.loop, &r.err);
	if (rc == 0)
		rc = bus_new_paho(r.loop, &conf, &handlers, &r, &r.bus, &r.err);
	if (rc == 0)
		rc = bus_subscribe(r.bus, topic, 2, NULL, NULL, &r.err);
	if (rc == 0)
		rc = loop_run(r.loop);
	if (rc < 0)
		fprintf(stderr, "bus_relay: %s\n", r.err.text);
	bus_free(r.bus);
	loop_free(r.loop);
	compute_free(r.compute);
	return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
