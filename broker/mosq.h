/* mosq.h - mosquitto's plugin interface: its headers cannot be included alone. */
#pragma once

#include <stddef.h>

#include <mosquitto.h>

#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
