/* bus_paho.h - ways around two habits of the MQTT library. Only for bus.c. */
#pragma once

#include <MQTTAsync.h>
#include <stdbool.h>
#include <stdint.h>

#define NUDGE_MS 10

/* Nagle's algorithm is on and the socket is hidden: switch it off on every descriptor of ours whose
 * peer has this port. since_ms: when the caller's connection came up. One look at all descriptors
 * serves all connections that came up before, and there is at most one every NUDGE_MS, because
 * there may be thousands of both. ret: false if it is too early: ask again. */
bool bus_unset_delay(unsigned port, int64_t since_ms, int64_t now_ms);

/* The library has one receiving thread for all connections of the process, and it notices that a
 * new one has come about only after its wait for input on the others, up to two seconds later. So a
 * connection that is up lets itself be asked, and one that is connecting asks it to exchange a
 * packet with the broker, which ends the wait. */
struct bus_peer {
	MQTTAsync client;
	struct bus_peer *prev, *next;
	bool listed;
};

void bus_peer_up(struct bus_peer *p, MQTTAsync client);
void bus_peer_down(struct bus_peer *p); /* also if it never was up */
/* At most every NUDGE_MS of all calls has an effect. */
void bus_nudge(int64_t now_ms);
