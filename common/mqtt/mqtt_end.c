/* mqtt_end.c - how a link says goodbye: exchanges that are under way come to their end, DISCONNECT,
 * the end of the stream, and the broker's. */
#include "common/mqtt/mqtt_link_int.h"
#include "common/util.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define GOODBYE_MS 500

static int64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void over(struct mqtt_link *k)
{
	mqtt_link_hang_up(k);
	k->state = LINK_WAITING;
}

/* What comes then is thrown away until the broker closes its side: closed with messages unread, a
 * socket resets the connection, and what the broker has not read yet, acknowledgements among it, is
 * lost. */
void mqtt_end_step(struct mqtt_link *k)
{
	if (k->bye || mqtt_out_kept(&k->outgoing) > 0 || mqtt_bytes_waiting(&k->out) > 0)
		return;
	k->bye = true;
	if (mqtt_put_bare(&k->out, MQTT_DISCONNECT) == 0)
		mqtt_io_send(k);
	mqtt_bytes_consume(&k->out, mqtt_bytes_waiting(&k->out), 0);
	if (shutdown(k->fd, SHUT_WR) < 0)
		over(k);
	else
		mqtt_io_watch(k);
}

void mqtt_link_part(struct mqtt_link *k)
{
	if (k->busy > 0)
		abort(); /* our own mistake: freed from inside its callback */
	if (k->closing)
		return;
	k->closing = true;
	k->end_ms = clock_ms() + GOODBYE_MS;
	k->handlers = (struct mqtt_link_handlers){0};
	if (k->state < LINK_CONNECTED) {
		over(k);
		return;
	}
	struct err err = {0};
	k->stopped = false;
	k->busy++;
	mqtt_link_conclude(k, mqtt_io_process(k, &err), &err); /* what is in the buffers */
	k->busy--;
}

static void wait_open(struct mqtt_link *k)
{
	for (int64_t left_ms; k->fd >= 0 && (left_ms = k->end_ms - clock_ms()) > 0;) {
		struct pollfd p = {.fd = k->fd, .events = POLLIN};

		if (k->events & EPOLLOUT)
			p.events |= POLLOUT;
		if (poll(&p, 1, (int)left_ms) < 0 && errno != EINTR)
			return;
		if (p.revents != 0)
			mqtt_link_on_io(k, (p.revents & POLLOUT ? EPOLLOUT : 0u) |
						   (p.revents & ~POLLOUT ? EPOLLIN : 0u));
	}
}

void mqtt_end_wait(struct mqtt_link *k)
{
	wait_open(k);
	/* What is under way even now is lost, but a last will is for those who say nothing. */
	if (k->fd >= 0 && !k->bye && mqtt_put_bare(&k->out, MQTT_DISCONNECT) == 0)
		mqtt_io_send(k);
}
