"""A Debian of its own, for tests that install things: the files of this machine, with changes kept in memory, and namespaces of
its own for processes, mounts, network, host name and IPC. systemd is its first process. When it ends nothing of it is left."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from suite import until

BOOT_S = 30
COMMAND_S = 60
SYSTEMD = "/lib/systemd/systemd"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# $1: an empty directory, $2: a file that the machine gets as /root/package.deb; runs in the new namespaces
BOOT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir changes work root
mount -t overlay -o lowerdir=/,upperdir=changes,workdir=work overlay root
cp "$2" root/root/package.deb
cd root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for dir in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs $dir; done
chmod 1777 tmp
for node in null zero full random urandom tty; do
	touch dev/$node
	mount --bind /dev/$node dev/$node
done
ln -s /proc/self/fd dev/fd
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
rm -f usr/sbin/policy-rc.d
mkdir -p was
pivot_root . was
umount -l /was
rmdir /was
exec env -i container=test PATH="$3" "$4" --system --unit=basic.target --log-target=journal
"""


class Unavailable(Exception):
    """This machine cannot have such a one; says why."""


def _own_cgroup():
    """Where we are in the hierarchy of version 2."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2":
            path = next(own[3:] for own in Path("/proc/self/cgroup").read_text().splitlines() if own.startswith("0::"))
            return Path(fields[4]) / path.lstrip("/")
    raise Unavailable("there is no cgroup hierarchy of version 2")


class Machine:
    def __init__(self, package):
        if os.geteuid() != 0:
            raise Unavailable("only root can make it")
        for program in (SYSTEMD, "unshare", "nsenter"):
            if shutil.which(program) is None:
                raise Unavailable("%s is missing" % program)
        self.dir = Path(tempfile.mkdtemp(prefix="iottalk-machine-"))
        self.cgroup = _own_cgroup() / self.dir.name
        self.popen = self.pid = None
        try:
            self.cgroup.mkdir()
        except OSError as e:
            self.dir.rmdir()
            raise Unavailable("no cgroup of its own: %s" % e) from None
        try:
            self._boot(package)
        except BaseException:
            self.close()
            raise

    def _boot(self, package):
        log = self.dir.with_suffix(".log")
        enter = "echo $$ >%s/cgroup.procs; exec unshare -m -p -f -n -u -i -C --kill-child sh -c \"$@\"" % self.cgroup
        with open(log, "wb") as out:
            self.popen = subprocess.Popen(["sh", "-c", enter, "sh", BOOT, "boot", str(self.dir), str(package), PATH, SYSTEMD],
                                          stdin=subprocess.DEVNULL, stdout=out, stderr=out)

        def first_process():
            if self.popen.poll() is not None:
                raise Unavailable("it does not boot: %s" % log.read_text().strip())
            children = Path("/proc/%d/task/%d/children" % (self.popen.pid, self.popen.pid)).read_text().split()
            return children and os.readlink("/proc/%s/exe" % children[0]).endswith("/systemd") and int(children[0])

        try:
            self.pid = until(first_process, BOOT_S, "systemd")
            until(lambda: self.run("systemctl", "is-active", "--quiet", "basic.target", rc=None).returncode == 0, BOOT_S,
                  "basic.target")
        except AssertionError as e:
            raise Unavailable("it does not boot: %s %s" % (e, log.read_text().strip())) from None
        finally:
            log.unlink()

    def _argv(self, argv):
        return ["nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-u", "-i", "-C", "--", "env", "-i", "-C", "/", "PATH=" + PATH,
                "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"] + [str(a) for a in argv]

    def run(self, *argv, rc=0, **kw):
        """A command in the machine, as root; rc None: any exit status."""
        done = subprocess.run(self._argv(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=COMMAND_S, **kw)
        assert rc is None or done.returncode == rc, "%s: exit status %d\n%s" % (" ".join(map(str, argv)), done.returncode, done.stdout)
        return done

    def out(self, *argv):
        return self.run(*argv).stdout

    def json(self, *argv, rc=0):
        return json.loads(self.run(*argv, rc=rc).stdout)

    def spawn(self, *argv):
        """A command that goes on until it ends, or the machine."""
        self.run("systemd-run", "--quiet", "--collect", *argv)

    def unit(self, name, what):
        """One property of a unit."""
        return self.out("systemctl", "show", "--value", "--property", what, name).strip()

    def main_pid(self, name):
        return int(self.unit(name, "MainPID"))

    def close(self):
        if self.popen is not None and self.popen.poll() is None:
            self.popen.send_signal(signal.SIGKILL)  # its first process goes with it, and so do all others
        if self.popen is not None:
            self.popen.wait()

        def emptied():
            for folder, _, _ in os.walk(self.cgroup, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    return False
            return True

        until(emptied, 10, "the end of all processes")
        self.dir.rmdir()
