/* relay - the yardstick: a client of the broker that computes x * 2 + 1 in C and nothing else (two
 *hops).
 *
 *	relay PORT PREFIX	subscribes PREFIX/in/+, publishes to PREFIX/out/... at the QoS the
 *message came with
 */
#include "common/util.h"
#include "tests/bench/mqtt_codec.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOPIC_BYTES 256
#define VALUE_BYTES 64

struct relay {
	size_t prefix_len; /* with the slash before "in" */
	int failed;
};

static void on_message(void *arg, struct mqtt_conn *c, const struct mqtt_message *m)
{
	struct relay *r = arg;
	char topic[TOPIC_BYTES], text[VALUE_BYTES], *end;
	size_t skip = r->prefix_len + strlen("in");
	if (m->len < 3 || m->len >= sizeof(text) || m->payload[0] != '[' ||
	    m->topic_len >= sizeof(topic) - 1 || m->topic_len < skip)
		return;
	memcpy(text, m->payload + 1, m->len - 1);
	text[m->len - 1] = '\0';
	double x = strtod(text, &end);
	if (*end != ']')
		return;
	memcpy(topic, m->topic, r->prefix_len);
	memcpy(topic + r->prefix_len, "out", 3);
	memcpy(topic + r->prefix_len + 3, m->topic + skip, m->topic_len - skip);
	int len = snprintf(text, sizeof(text), "[%.17g]", x * 2 + 1);
	int rc = mqtt_publish(c, topic, m->topic_len + 1, text, (size_t)len, m->qos);
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
	snprintf(topic, sizeof(topic), "%s/in/+", argv[2]);
	snprintf(client_id, sizeof(client_id), "relay-%d", getpid());
	int rc = mqtt_open((unsigned)strtoul(argv[1], NULL, 10), client_id, on_message, &r, &c,
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
	return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
