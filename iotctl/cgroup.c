#include "iotctl/cgroup.h"

#include "common/util.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Where a kind is to be found; a limit beyond this is how the first version writes "none". */
#define NO_LIMIT (INT64_MAX / 2)

struct version {
	const char
		*controller; /* in the list of a line of the membership; "": the second version */
	const char *mount;   /* below root */
	const char *limit, *used;
};

static const struct version kinds[][2] = {
	[CGROUP_PIDS] = {{"", "", "pids.max", "pids.current"},
			 {"pids", "/pids", "pids.max", "pids.current"}},
	[CGROUP_MEMORY] = {{"", "", "memory.max", "memory.current"},
			   {"memory", "/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"}},
};

static bool in_list(const char *list, size_t len, const char *word)
{
	size_t n = strlen(word);

	while (len > 0) {
		const char *comma = memchr(list, ',', len);
		size_t item = comma != NULL ? (size_t)(comma - list) : len;

		if (item == n && memcmp(list, word, n) == 0)
			return true;
		if (comma == NULL)
			return false;
		list += item + 1;
		len -= item + 1;
	}
	return n == 0;
}

/* The group in a membership ("ID:controllers:/path" lines). ret: false: not under that controller.
 */
static bool find_group(const char *membership, const char *controller, char *path, size_t cap)
{
	for (const char *line = membership; line != NULL && *line != '\0';) {
		const char *end = strchrnul(line, '\n');
		const char *list = memchr(line, ':', (size_t)(end - line));
		const char *group =
			list != NULL ? memchr(list + 1, ':', (size_t)(end - list - 1)) : NULL;

		if (group != NULL && in_list(list + 1, (size_t)(group - list - 1), controller)) {
			snprintf(path, cap, "%.*s", (int)(end - group - 1), group + 1);
			return true;
		}
		line = *end != '\0' ? end + 1 : NULL;
	}
	return false;
}

static bool read_number(const char *dir, const char *file, int64_t *ret)
{
	char path[PATH_MAX + 32], text[64] = "";

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	FILE *f = fopen(path, "re");
	bool ok = f != NULL && fgets(text, sizeof(text), f) != NULL && text[0] >= '0' &&
		  text[0] <= '9';

	if (ok)
		*ret = strtoll(text, NULL, 10);
	if (f != NULL)
		fclose(f);
	return ok && *ret < NO_LIMIT;
}

/* Files in the cache go when something else needs the room. */
static int64_t cached_bytes(const char *dir)
{
	char path[PATH_MAX + 32], line[200];
	long long bytes = 0, all = -1;

	snprintf(path, sizeof(path), "%s/memory.stat", dir);
	FILE *f = fopen(path, "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		sscanf(line, "inactive_file %lld", &bytes);
		sscanf(line, "total_inactive_file %lld",
		       &all); /* first version: with the groups below */
	}
	if (f != NULL)
		fclose(f);
	return all >= 0 ? all : bytes;
}

static void narrow(const char *dir, const struct version *v, enum cgroup_kind kind, bool *found,
		   int64_t *ret_limit, int64_t *ret_used)
{
	int64_t limit, used;

	if (!read_number(dir, v->limit, &limit) || !read_number(dir, v->used, &used))
		return;
	if (kind == CGROUP_MEMORY)
		used -= cached_bytes(dir);
	if (*found && *ret_limit - *ret_used <= limit - used)
		return;
	*found = true;
	*ret_limit = limit;
	*ret_used = used;
}

bool cgroup_room(const char *membership, const char *root, enum cgroup_kind kind,
		 int64_t *ret_limit, int64_t *ret_used)
{
	bool found = false;

	for (size_t i = 0; i < ARRAY_LEN(kinds[kind]); i++) {
		const struct version *v = &kinds[kind][i];
		char group[PATH_MAX / 2], dir[PATH_MAX];

		if (!find_group(membership, v->controller, group, sizeof(group)))
			continue;
		/* In a container the upper part of the path is not to be seen: what is mounted is
		 * then our group already. */
		for (;;) {
			snprintf(dir, sizeof(dir), "%.1000s%s%s", root, v->mount,
				 strcmp(group, "/") != 0 ? group : "");
			narrow(dir, v, kind, &found, ret_limit, ret_used);
			char *slash = strrchr(group, '/');

			if (slash == NULL)
				break;
			*slash = '\0';
		}
	}
	return found;
}
