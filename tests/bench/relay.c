/* relay - the yardstick: a client of the broker that computes in C and nothing else (two hops).
 *
 * relay PORT PREFIX: subscribes PREFIX/in/#, publishes to PREFIX/out/... at the QoS the message
 * came with (tests/bench/compute.h).
 */
#include "common/util.h"
#include "tests/bench/compute.h"
#include "tests/bench/mqtt_codec.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOPIC_BYTES 256

struct relay {
	struct compute *compute;
	size_t prefix_len; /* with the slash before "in" */
	int failed;
};

static void on_message(void *arg, struct mqtt_conn *c, const struct mqtt_message *m)
{
	struct relay *r = arg;
	const char *topic;
	size_t topic_len, len;
	const char *answer = compute_answer(r->compute, r->prefix_len, m->topic, m->topic_len,
					    m->payload, m->len, &topic, &topic_len, &len);
	int rc = answer != NULL ? mqtt_publish(c, topic, topic_len, answer, len, m->qos) : 0;
	if (rc < 0)
		r->failed = rc;
}

static int serve(struct mqtt_conn *c, struct relay *r, struct err *err)
{
	for (;;) {
		struct pollfd p = {.fd = mqtt_fd(c),
				   .events = POLLIN | (mqtt_pending(c) ? POLLOUT : 0)};
		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			return err_sys(err, "poll");
		int rc = p.revents & (POLLIN | POLLHUP | POLLERR) ? mqtt_read(c, err) : 0;
		if (rc == 0 && r->failed < 0)
			rc = err_set(err, r->failed, "forwarding");
		if (rc == 0)
			rc = mqtt_flush(c, err);
		if (rc < 0)
			return rc;
	}
}

int main(int argc, char *argv[])
{
	struct relay r = {0};
	struct err err = {0};
	struct mqtt_conn *c = NULL;
	char topic[TOPIC_BYTES], client_id[64];
	if (argc != 3) {
		fprintf(stderr, "usage: relay PORT PREFIX\n");
		return EXIT_FAILURE;
	}
	r.prefix_len = strlen(argv[2]) + 1;
	r.compute = compute_new();
	snprintf(topic, sizeof(topic), "%s/in/#", argv[2]);
	snprintf(client_id, sizeof(client_id), "relay-%d", getpid());
	int rc = r.compute == NULL ? err_set(&err, ERR_NOMEM, "starting") : 0;
	if (rc == 0)
		rc = mqtt_open((unsigned)strtoul(argv[1], NULL, 10), client_id, on_message, &r, &c,
			       &err);
	if (rc == 0)
		rc = mqtt_subscribe(c, topic, 2, &err);
	if (rc == 0) {
		printf("ready\n"); /* whoever started us waits for this line */
		fflush(stdout);
		rc = serve(c, &r, &err);
	}
	fprintf(stderr, "relay: %s\n", err.text);
	mqtt_close(c);
	compute_free(r.compute);
	return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
