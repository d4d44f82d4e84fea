#include "tests/bench/compute.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOPIC_BYTES   256
#define NUMBER_BYTES  64
#define PAYLOAD_BYTES (1u << 20)
#define DEVICES_MAX   65536

struct joined {
	double values[COMPUTE_INPUTS];
	unsigned there; /* bit of each input that has a value */
};

struct compute {
	char topic[TOPIC_BYTES];
	char payload[PAYLOAD_BYTES + NUMBER_BYTES];
	struct joined *devices; /* made at the first join */
};

struct compute *compute_new(void)
{
	return calloc(1, sizeof(struct compute));
}

struct compute *compute_free(struct compute *c)
{
	if (c != NULL)
		free(c->devices);
	free(c);
	return NULL;
}

/* The number after the bracket. ret: bytes up to its end, or 0. */
static size_t read_number(const char *payload, size_t len, double *ret)
{
	char text[NUMBER_BYTES], *end;
	size_t n = len - 1 < sizeof(text) - 1 ? len - 1 : sizeof(text) - 1;
	if (len < 3 || payload[0] != '[')
		return 0;
	memcpy(text, payload + 1, n);
	text[n] = '\0';
	*ret = strtod(text, &end);
	return end > text && (*end == ',' || *end == ']') ? 1 + (size_t)(end - text) : 0;
}

/* Put a value into its slot. ret: all are there, *x is their sum. */
static bool join(struct compute *c, const char *numbers, double *x)
{
	char *end;
	unsigned long device = strtoul(numbers, &end, 10);
	unsigned long input = *end == '/' ? strtoul(end + 1, NULL, 10) : COMPUTE_INPUTS;
	if (c->devices == NULL)
		c->devices = calloc(DEVICES_MAX, sizeof(*c->devices));
	if (c->devices == NULL || device >= DEVICES_MAX || input >= COMPUTE_INPUTS)
		return false;
	struct joined *j = &c->devices[device];
	j->values[input] = *x;
	j->there |= 1u << input;
	if (j->there != (1u << COMPUTE_INPUTS) - 1)
		return false;
	*x = 0;
	for (unsigned i = 0; i < COMPUTE_INPUTS; i++)
		*x += j->values[i];
	return true;
}

const char *compute_answer(struct compute *c, size_t prefix_len, const char *topic,
			   size_t topic_len, const char *payload, size_t len,
			   const char **ret_topic, size_t *ret_topic_len, size_t *ret_len)
{
	double x;
	size_t skip = prefix_len + strlen("in/"), to = prefix_len + strlen("out/");
	size_t used = read_number(payload, len, &x);
	if (used == 0 || topic_len <= skip || topic_len >= TOPIC_BYTES - 1 || len > PAYLOAD_BYTES)
		return NULL;
	memcpy(c->topic, topic, prefix_len);
	memcpy(c->topic + prefix_len, "out/", strlen("out/"));
	memcpy(c->topic + to, topic + skip, topic_len - skip);
	*ret_topic_len = topic_len + 1;
	c->topic[*ret_topic_len] = '\0';
	char *input = strchr(c->topic + to, '/');
	if (input != NULL) {
		if (!join(c, c->topic + to, &x))
			return NULL;
		*ret_topic_len = (size_t)(input - c->topic);
		*input = '\0';
	}
	int n = snprintf(c->payload, NUMBER_BYTES, "[%.17g", x * 2 + 1);
	memcpy(c->payload + n, payload + used, len - used);
	*ret_len = (size_t)n + len - used;
	*ret_topic = c->topic;
	return c->payload;
}
