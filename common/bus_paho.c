#include "common/bus_paho.h"

#include "common/util.h"
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>

#define MAX_FD_GUESS 1024
#define NUDGE_TOPIC  "bus/nudge" /* nobody subscribes it, so giving it up changes nothing */

/* What the library shares between all connections of the process, we must share too: the one other
 * place with state outside a struct of the program. */
static struct {
	pthread_mutex_t lock;
	struct bus_peer *first;
	int64_t nudged_ms; /* when the library was nudged last */
	int64_t looked_ms; /* when descriptors of looked_port were looked for last */
	unsigned looked_port;
} peers = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void unset_delay_of(int fd, unsigned port)
{
	struct sockaddr_storage peer = {0};
	socklen_t len = sizeof(peer);
	int one = 1;
	if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0)
		return;
	unsigned peer_port = 0;
	if (peer.ss_family == AF_INET)
		peer_port = ntohs(((struct sockaddr_in *)&peer)->sin_port);
	else if (peer.ss_family == AF_INET6)
		peer_port = ntohs(((struct sockaddr_in6 *)&peer)->sin6_port);
	if (peer_port == port)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void unset_delay(unsigned port)
{
	DIR *dir = opendir("/proc/self/fd");
	if (dir == NULL) {
		for (int fd = 0; fd < MAX_FD_GUESS; fd++)
			unset_delay_of(fd, port);
		return;
	}
	for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
		if (e->d_name[0] != '.')
			unset_delay_of((int)strtol(e->d_name, NULL, 10), port);
	closedir(dir);
}

bool bus_unset_delay(unsigned port, int64_t since_ms, int64_t now_ms)
{
	pthread_mutex_lock(&peers.lock);
	bool done = peers.looked_port == port && peers.looked_ms > since_ms;
	bool look = !done && now_ms - peers.looked_ms >= NUDGE_MS;
	if (look) {
		peers.looked_ms = now_ms;
		peers.looked_port = port;
	}
	pthread_mutex_unlock(&peers.lock);
	if (look)
		unset_delay(port);
	return done || look;
}

void bus_peer_up(struct bus_peer *p, MQTTAsync client)
{
	pthread_mutex_lock(&peers.lock);
	if (!p->listed) {
		*p = (struct bus_peer){.client = client, .next = peers.first, .listed = true};
		if (p->next != NULL)
			p->next->prev = p;
		peers.first = p;
	}
	pthread_mutex_unlock(&peers.lock);
}

void bus_peer_down(struct bus_peer *p)
{
	pthread_mutex_lock(&peers.lock);
	if (p->listed) {
		if (p->prev != NULL)
			p->prev->next = p->next;
		else
			peers.first = p->next;
		if (p->next != NULL)
			p->next->prev = p->prev;
		p->listed = false;
	}
	pthread_mutex_unlock(&peers.lock);
}

void bus_nudge(int64_t now_ms)
{
	pthread_mutex_lock(&peers.lock);
	/* one for all who wait: thousands may be connecting */
	if (peers.first != NULL && now_ms - peers.nudged_ms >= NUDGE_MS) {
		peers.nudged_ms = now_ms;
		MQTTAsync_unsubscribe(peers.first->client, NUDGE_TOPIC, NULL);
	}
	pthread_mutex_unlock(&peers.lock);
}
