#include "agent/graph/counters.h"
#include <stdio.h>
#include <string.h>

#define DROP_NAMES_MAX 64 /* reasons for drops that an engine may name */
#define DROP_NAME_MAX  40

void counters_add(json_t *totals, const char *name, json_int_t n)
{
	json_int_t before = json_integer_value(json_object_get(totals, name));

	json_object_set_new(totals, name, json_integer(before + n));
}

void counters_add_all(json_t *totals, json_t *more)
{
	const char *name;
	json_t *n;

	json_object_foreach (more, name, n) {
		counters_add(totals, name, json_integer_value(n));
	}
}

json_int_t counters_believe(const json_t *n)
{
	json_int_t value = json_integer_value(n);

	return value >= 0 && value <= 1ll << 53 ? value : 0;
}

void counters_add_drops(json_t *totals, const char *prefix, json_t *drops)
{
	const char *reason;
	char name[80];
	size_t names = 0;
	json_t *n;

	json_object_foreach (drops, reason, n) {
		size_t len = strspn(reason, "abcdefghijklmnopqrstuvwxyz0123456789_");

		if (names++ == DROP_NAMES_MAX)
			break;
		if (len == 0 || reason[len] != '\0' || len > DROP_NAME_MAX)
			continue;
		snprintf(name, sizeof(name), "%s%s", prefix, reason);
		counters_add(totals, name, counters_believe(n));
	}
}

json_t *counters_of_engine(json_t *msg)
{
	json_t *now = json_object();

	if (now == NULL)
		return NULL;
	counters_add(now, "evaluated", counters_believe(json_object_get(msg, "evaluated")));
	counters_add(now, "failed", counters_believe(json_object_get(msg, "failed")));
	counters_add_drops(now, "dropped.", json_object_get(msg, "drops"));
	return now;
}
