#include "iotctl/ports.h"

#include "common/util.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#define STATE_LISTEN 0x0a

/* An address as the tables write it: 8 or 32 hex digits. ret: false if it is not numeric. */
static bool table_form(const char *address, char form[33])
{
	unsigned char raw[16];
	unsigned words[4];
	size_t n = 0;

	if (inet_pton(AF_INET, address, raw) == 1)
		n = 1;
	else if (inet_pton(AF_INET6, address, raw) == 1)
		n = 4;
	memcpy(words, raw, n * sizeof(words[0]));
	for (size_t i = 0; i < n; i++)
		snprintf(form + 8 * i, 9, "%08X", words[i]);
	return n > 0;
}

static bool is_any(const char *form)
{
	return strspn(form, "0") == strlen(form);
}

bool ports_find(FILE *table, const char *address, unsigned port, struct listener *ret)
{
	char line[512], form[33], ours[33];
	unsigned at, state, uid;
	unsigned long inode;

	if (!table_form(address, ours))
		return false;
	while (fgets(line, sizeof(line), table) != NULL) {
		if (sscanf(line, " %*u: %32[0-9A-F]:%x %*[0-9A-F]:%*x %x %*s %*s %*s %u %*s %lu",
			   form, &at, &state, &uid, &inode) != 5 ||
		    at != port || state != STATE_LISTEN)
			continue;
		/* One that listens everywhere, in IPv6 too, is in the way of everybody. */
		if (is_any(form) || is_any(ours) || strcmp(form, ours) == 0) {
			*ret = (struct listener){.inode = inode, .uid = uid};
			return true;
		}
	}
	return false;
}

bool ports_look(const char *address, unsigned port, struct listener *ret)
{
	static const char *const tables[] = {"/proc/net/tcp", "/proc/net/tcp6"};
	bool found = false;

	for (size_t i = 0; !found && i < ARRAY_LEN(tables); i++) {
		FILE *f = fopen(tables[i], "re");

		if (f == NULL)
			continue;
		found = ports_find(f, address, port, ret);
		fclose(f);
	}
	return found;
}

static bool has_socket(const char *pid, const char *wanted)
{
	char path[300], link[64];
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	DIR *d = opendir(path);

	for (struct dirent *e; d != NULL && !found && (e = readdir(d)) != NULL;) {
		snprintf(path, sizeof(path), "/proc/%.20s/fd/%.20s", pid, e->d_name);
		ssize_t n = readlink(path, link, sizeof(link) - 1);

		link[n > 0 ? n : 0] = '\0';
		found = strcmp(link, wanted) == 0;
	}
	if (d != NULL)
		closedir(d);
	return found;
}

static void name_of(const char *pid, char *name, size_t cap)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
	FILE *f = fopen(path, "re");

	if (f == NULL || fgets(name, (int)cap, f) == NULL)
		snprintf(name, cap, "?");
	if (f != NULL)
		fclose(f);
	name[strcspn(name, "\n")] = '\0';
}

pid_t ports_holder(const struct listener *of, char *name, size_t cap)
{
	char wanted[64];
	DIR *d = opendir("/proc");
	pid_t pid = 0;

	snprintf(wanted, sizeof(wanted), "socket:[%lu]", of->inode);
	for (struct dirent *e; d != NULL && pid == 0 && (e = readdir(d)) != NULL;) {
		if (e->d_name[0] < '1' || e->d_name[0] > '9' || !has_socket(e->d_name, wanted))
			continue;
		pid = (pid_t)strtol(e->d_name, NULL, 10);
		name_of(e->d_name, name, cap);
	}
	if (d != NULL)
		closedir(d);
	return pid;
}

bool port_is_taken(const char *address, unsigned port)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
				 .ai_socktype = SOCK_STREAM};
	struct addrinfo *at;
	char text[16];
	int one = 1;

	snprintf(text, sizeof(text), "%u", port);
	if (getaddrinfo(address, text, &hints, &at) != 0)
		return false;
	CLEANUP(closep)
	int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool taken = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
		     (bind(fd, at->ai_addr, at->ai_addrlen) < 0 || listen(fd, 1) < 0) &&
		     errno == EADDRINUSE;

	freeaddrinfo(at);
	return taken;
}
