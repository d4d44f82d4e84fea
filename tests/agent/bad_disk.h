/* bad_disk.h - writes and syncs of SQLite in this process fail while the test says so. */
#pragma once

#include "common/util.h"
#include <errno.h>
#include <sqlite3.h>
#include <unistd.h>

static int bad_disk_write, bad_disk_sync; /* errno; 0: all is well */
static unsigned bad_disk_refused;

static ssize_t bad_disk_pwrite(int fd, const void *buf, size_t len, off_t at)
{
	if (bad_disk_write == 0)
		return pwrite(fd, buf, len, at);
	bad_disk_refused++;
	errno = bad_disk_write;
	return -1;
}

/* SQLite calls it by name. No test here takes the power away: one that works has nothing to do. */
int fdatasync(int fd)
{
	(void)fd;
	if (bad_disk_sync == 0)
		return 0;
	errno = bad_disk_sync;
	return -1;
}

MAYBE_UNUSED static void bad_disk_recover(void)
{
	bad_disk_write = bad_disk_sync = 0;
}

MAYBE_UNUSED static void bad_disk_begin(void)
{
	static const char *const names[] = {"pwrite", "pwrite64"};
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

	bad_disk_recover();
	bad_disk_refused = 0;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(
			vfs->xSetSystemCall(vfs, names[i], (sqlite3_syscall_ptr)bad_disk_pwrite),
			SQLITE_OK);
}

MAYBE_UNUSED static void bad_disk_end(void)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

	vfs->xSetSystemCall(vfs, NULL, NULL);
}
