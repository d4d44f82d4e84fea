/* bus_check.h - what every bus refuses, whatever client stands behind it. */
#pragma once

#include "common/bus.h"

/* ret: 0 or ERR_BUS. */
int bus_check_conf(const struct bus_conf *c, struct err *err);

/* May this go to a broker without being thrown out: a topic name, or with filter true a topic
 * filter, without control characters. Whether it is UTF-8 is not looked at. */
bool bus_topic_valid(const char *topic, bool filter);
