/* sandbox_ns.c - layers that take things out of sight: an unprivileged user, namespaces. */
#include "common/util.h"
#include "engine/sandbox_int.h"
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define NOBODY 65534

/* Of what root may do only this is left, to make namespaces where there is no user namespace; the
 * layer "capabilities" takes it away. */
static int keep_capabilities(struct err *err)
{
	static const unsigned kept[] = {CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SETPCAP};
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3], want = {0};
	if (syscall(SYS_capget, &head, caps) < 0)
		return err_sys(err, "capabilities");
	for (size_t i = 0; i < ARRAY_LEN(kept); i++)
		want.permitted |= caps[0].permitted & 1u << kept[i];
	want.effective = want.permitted;
	memset(caps, 0, sizeof(caps));
	caps[0] = want;
	return syscall(SYS_capset, &head, caps) < 0 ? err_sys(err, "capabilities") : 0;
}

int sandbox_user(struct sandbox *s, struct err *err)
{
	if (geteuid() != 0 && getuid() != 0) {
		snprintf(s->note, sizeof(s->note), "user %u", (unsigned)geteuid());
		return 0;
	}
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setgroups(0, NULL) < 0 ||
	    setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return err_sys(err, "becoming user %d", NOBODY);
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* the files of /proc/self are ours again */
	snprintf(s->note, sizeof(s->note), "root became user %d", NOBODY);
	return keep_capabilities(err);
}

static int write_file(const char *path, const char *text, struct err *err)
{
	CLEANUP(closep)
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		return err_sys(err, "%s", path);
	return 0;
}

int sandbox_userns(struct sandbox *s, struct err *err)
{
	char uids[60], gids[60];
	(void)s;
	/* the one user and group that we are, under the same numbers */
	snprintf(uids, sizeof(uids), "%u %u 1", (unsigned)geteuid(), (unsigned)geteuid());
	snprintf(gids, sizeof(gids), "%u %u 1", (unsigned)getegid(), (unsigned)getegid());
	if (unshare(CLONE_NEWUSER) < 0)
		return err_sys(err, "new user namespace");
	int rc = write_file("/proc/self/setgroups", "deny", err);
	if (rc == 0)
		rc = write_file("/proc/self/uid_map", uids, err);
	return rc == 0 ? write_file("/proc/self/gid_map", gids, err) : rc;
}

/* An empty file system that cannot be written, somewhere. */
static int mount_nothing(struct err *err)
{
	static const char *const places[] = {"/tmp", "/run", "/proc", "/dev", "/mnt"};
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		struct stat st;
		if (stat(places[i], &st) < 0 || !S_ISDIR(st.st_mode))
			continue;
		if (mount("none", places[i], "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
			  "size=4k,nr_inodes=1,mode=0555") == 0 &&
		    chdir(places[i]) == 0)
			return 0;
	}
	return err_sys(err, "mounting an empty file system");
}

static int by_mount(struct sandbox *s, struct err *err)
{
	if (unshare(CLONE_NEWNS) < 0)
		return err_sys(err, "new mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(err, "keeping mounts to ourselves");
	int rc = mount_nothing(err);
	if (rc < 0)
		return rc;
	/* the old root lands on top of the new one, and is taken off */
	if (syscall(SYS_pivot_root, ".", ".") == 0) {
		if (umount2(".", MNT_DETACH) < 0)
			return err_sys(err, "leaving the old root");
		snprintf(s->note, sizeof(s->note), "empty root");
	} else if (chroot(".") == 0) { /* in a chroot there is no root to pivot */
		snprintf(s->note, sizeof(s->note), "empty root by chroot");
	} else {
		return err_sys(err, "changing the root");
	}
	return chdir("/") < 0 ? err_sys(err, "entering the empty root") : 0;
}

/* A directory that has been removed: nothing can ever be made in it. */
static int by_removed_directory(struct sandbox *s, struct err *err)
{
	char path[] = "/tmp/iottalk-empty-XXXXXX";
	if (mkdtemp(path) == NULL)
		return err_sys(err, "an empty directory");
	int rc = chdir(path);
	int gone = rmdir(path);
	if (rc < 0 || gone < 0 || chroot(".") < 0 || chdir("/") < 0)
		return err_sys(err, "entering an empty directory");
	snprintf(s->note, sizeof(s->note), "chroot to a removed directory, for lack of mounts");
	return 0;
}

int sandbox_mountns(struct sandbox *s, struct err *err)
{
	struct err other = {0};
	int rc = by_mount(s, err);
	return rc < 0 && by_removed_directory(s, &other) == 0 ? 0 : rc;
}

static int new_namespace(int flag, const char *what, struct err *err)
{
	return unshare(flag) < 0 ? err_sys(err, "new %s namespace", what) : 0;
}

int sandbox_netns(struct sandbox *s, struct err *err)
{
	(void)s;
	return new_namespace(CLONE_NEWNET, "network", err);
}

int sandbox_ipcns(struct sandbox *s, struct err *err)
{
	(void)s;
	return new_namespace(CLONE_NEWIPC, "IPC", err);
}

/* Holds for what is forked from now on. */
int sandbox_pidns(struct sandbox *s, struct err *err)
{
	(void)s;
	return new_namespace(CLONE_NEWPID, "process", err);
}
