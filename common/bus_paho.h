/* bus_paho.h - ways around two habits of the MQTT library. Only for bus.c. */
#pragma once

#include <MQTTAsync.h>
#include <stdbool.h>

/* Nagle's algorithm is on and the socket is hidden: switch it off on every descriptor of ours whose
 * peer has this port. */
void bus_unset_delay(unsigned port);

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
void bus_nudge(void);
