/* cgroup.h - how much a process may still take of what its control groups limit, in both versions
 * of the kernel's interface. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum cgroup_kind { CGROUP_PIDS, CGROUP_MEMORY };

/* The narrowest limit on the way from the group up to the root.
 * membership: text of /proc/<pid>/cgroup. root: where the groups are mounted, "/sys/fs/cgroup".
 * ret: false: there is none; else *ret_limit and *ret_used (processes, or bytes without what is
 * only cached files). */
bool cgroup_room(const char *membership, const char *root, enum cgroup_kind kind,
		 int64_t *ret_limit, int64_t *ret_used);
