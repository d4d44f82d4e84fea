#include "common/bus_check.h"

#include <string.h>

#define TOPIC_MAX 65535

int bus_check_conf(const struct bus_conf *c, struct err *err)
{
	if (c->host == NULL || *c->host == '\0' || strpbrk(c->host, " \t\r\n/@") != NULL ||
	    strlen(c->host) > 255)
		return err_set(err, ERR_BUS, "bad broker address '%s'",
			       c->host != NULL ? c->host : "");
	if (c->port == 0 || c->port > 65535)
		return err_set(err, ERR_BUS, "bad broker port %u", c->port);
	if (c->client_id == NULL || *c->client_id == '\0')
		return err_set(err, ERR_BUS, "no MQTT client id");
	return 0;
}

bool bus_topic_valid(const char *topic, bool filter)
{
	const unsigned char *s = (const unsigned char *)topic;
	size_t i = 0;
	for (; s[i] != '\0'; i++) {
		bool level_begins = i == 0 || s[i - 1] == '/';
		bool level_ends = s[i + 1] == '\0' || s[i + 1] == '/';
		if (s[i] < 0x20 || s[i] == 0x7f || (s[i] == 0xc2 && s[i + 1] < 0xa0))
			return false; /* control characters */
		if (s[i] == '+' && !(filter && level_begins && level_ends))
			return false;
		if (s[i] == '#' && !(filter && level_begins && s[i + 1] == '\0'))
			return false;
	}
	return i > 0 && i <= TOPIC_MAX;
}
