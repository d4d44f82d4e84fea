"""A machine that lacks something: room on the disk, the right to write, descriptors, shared memory, namespaces. What cannot be done is
refused with a reason, what can goes on."""

import json
import os
import subprocess

import pytest

from suite import BIN, until
from test_iotctl import Ctl, forget_broker_data

ROOT = os.geteuid() == 0
pytestmark = pytest.mark.skipif(not ROOT, reason="mounts")
HANG = "def run(x):\n    while x: pass\n    return x\n"


def mounts_here():
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path, request):
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + getattr(request, "param", "1m"), "tmpfs", str(folder)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("cannot mount here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    fd = os.open(folder / "ballast", os.O_WRONLY | os.O_CREAT)
    size = 4096
    while size:
        try:
            os.write(fd, b"x" * size)
        except OSError:
            size //= 2
    os.close(fd)


class Graphs:
    def __init__(self, suite, clients):
        self.sdk = clients.sdk(suite)
        self.g = clients.graph(suite)
        self.g.wire(self.sdk.da_id, "meow", "meow", HANG)
        self.sdk.until_connected(("idf", "meow"), ("odf", "meow"))
        self.works()

    def works(self, timeout=10):
        self.sdk.push("meow", [0])
        assert self.sdk.received("meow", timeout) == 0


def test_a_disk_without_room_while_it_runs(make_suite, clients, small_disk):
    suite = make_suite({"engine.budget-ms": 100, "engine.per-owner": 1}, userdir=small_disk / "userdir")
    w = Graphs(suite, clients)
    fill(small_disk)
    w.works()
    # three strikes in a minute: quarantine holds without the file that would keep it
    for strikes in (1, 2, 3):
        w.sdk.push("meow", [1])
        until(lambda: suite.processes["agent"].log().count("graph.blamed") >= strikes, 10, "a strike")
        until(lambda: suite.agent_status().get("engine", {}).get("ready"), 10, "the next engine")
    until(lambda: "quarantined" in json.dumps(suite.control("agent", {"op": "graphs"})), 10, "the quarantine")
    assert suite.processes["agent"].runs() and suite.processes["csm"].runs()
    until(lambda: "No space left" in suite.processes["agent"].log(), what="the agent's word")
    os.unlink(small_disk / "ballast")
    suite.kill9("agent")
    suite.start("agent")
    graph = "%s/%s" % (w.g.client_id, w.g.graph)
    # what is sent before csm has told the agent of it goes to no graph
    until(lambda: graph in json.dumps(suite.control("agent", {"op": "graphs"})), 10, "the graph in the new agent")
    suite.control("agent", {"op": "release", "graph": graph})
    suite.until_runs(w.g)
    w.works()


@pytest.mark.parametrize("how, word", [("full", "No space left"), ("read-only", "Read-only")])
def test_an_agent_that_cannot_write_says_so(make_suite, small_disk, how, word):
    suite = make_suite(userdir=small_disk / "userdir", start=("broker",))
    if how == "full":
        fill(small_disk)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    agent = suite.processes["agent"]
    agent.start(ready=False)
    agent.killed = True   # it may end by itself, with a status that is none of an orderly stop
    until(lambda: agent.popen.poll() is not None or "agent.ready" in agent.log(), 20, "its word")
    assert agent.popen.poll() is not None and word in agent.log() or agent.popen.poll() is None and agent.stop() == 0, agent.log()
    print(agent.log())
    if how == "read-only":
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)


@pytest.fixture
def ctl(tmp_path):
    c = Ctl(tmp_path)
    yield c
    c.run("stop", rc=None)
    forget_broker_data(c.userdir)


def start_with(ctl, prefix, seconds=60):
    return subprocess.run([*prefix, str(BIN / "iotctl"), "-c", str(ctl.ini), "start"], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=seconds)


def test_few_descriptors(ctl):
    done = start_with(ctl, ["prlimit", "--nofile=64:64"])
    text = done.stdout + done.stderr
    if done.returncode == 0:
        ctl.run("demo", "--seconds", "1")
    else:
        assert "descriptor" in text or "Too many open files" in text, text


def test_without_dev_shm(ctl):
    """Rings are memfds: they need none."""
    if not mounts_here():
        pytest.skip("no mount namespace")
    done = start_with(ctl, ["unshare", "-m", "sh", "-c", "umount -l /dev/shm; exec \"$@\"", "sh"])
    assert done.returncode == 0, done.stdout + done.stderr
    ctl.run("demo", "--seconds", "1")


# what makes namespaces, mounts, filters impossible for all that it starts: an errno for these calls
REFUSE = """
import ctypes, os, sys
lib = ctypes.CDLL('libseccomp.so.2')
lib.seccomp_init.restype = ctypes.c_void_p
ctx = ctypes.c_void_p(lib.seccomp_init(0x7fff0000))
class cmp(ctypes.Structure):
    _fields_ = [('arg', ctypes.c_uint), ('op', ctypes.c_int), ('a', ctypes.c_uint64), ('b', ctypes.c_uint64)]
number = lambda n: lib.seccomp_syscall_resolve_name(n.encode())
for name in sys.argv[1].split(','):
    if name == 'seccomp':   # its filters, not the question what there is
        args = (cmp * 1)(cmp(0, 4, 1, 0))
        lib.seccomp_rule_add_array(ctx, 0x00050000 | 38, number('seccomp'), 1, args)
        args = (cmp * 1)(cmp(0, 4, 22, 0))
        lib.seccomp_rule_add_array(ctx, 0x00050000 | 22, number('prctl'), 1, args)
    else:
        lib.seccomp_rule_add_array(ctx, 0x00050000 | 1, number(name), 0, None)
assert lib.seccomp_load(ctx) == 0
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("calls", ["unshare,mount,chroot,pivot_root,landlock_create_ruleset", "unshare", "seccomp"],
                         ids=["no namespaces at all", "no unshare", "no filters"])
def test_without_core_layers(ctl, calls):
    prefix = ["/usr/bin/python3", "-c", REFUSE, calls]
    done = start_with(ctl, prefix)
    text = done.stdout + done.stderr
    assert done.returncode != 0, text
    assert "sandbox" in text, text
    ctl.run("stop")
    ctl.extra = "[engine]\nsandbox = degraded\n"
    ctl.write()
    done = start_with(ctl, prefix)
    assert done.returncode == 0, done.stdout + done.stderr
    ctl.run("demo", "--seconds", "1")
    log = ctl.log("agent")
    assert " warn " in log and "sandbox" in log, log[-3000:]
