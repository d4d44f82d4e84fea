"""iotctl doctor: what it sees of a machine in good order and of each thing that can be wrong, what to do about it, and that it
changes nothing and comes to an end."""

import fcntl
import json
import os
import pwd
import resource
import shlex
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from suite import BIN, free_ports, until
from test_iotctl import ctl, make_ctl  # noqa: F401 (fixtures)

ROOT = os.geteuid() == 0
LACKING = {"layers": [{"name": "seccomp", "up": False, "core": True, "why": "the kernel has none", "remedy": "another kernel"},
                      {"name": "landlock", "up": False, "core": False, "why": "too old", "remedy": "a newer kernel"}]}
FINE = {"layers": [{"name": "seccomp", "up": True, "core": True}]}


def doctor(ini, *args, rc=0, program=BIN / "iotctl", wrap=(), **kw):
    done = subprocess.run([*wrap, str(program), "-c", str(ini), "doctor", *args], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=80, **kw)
    assert done.returncode == rc, (done.returncode, done.stdout, done.stderr)
    return done


def lines(ini, rc=0, **kw):
    """name -> line; settings, which may have several, are left out"""
    report = json.loads(doctor(ini, "--json", rc=rc, **kw).stdout)
    assert report["ok"] is (rc == 0)
    for line in report["checks"]:
        assert line["state"] in ("ok", "warning", "missing") and line["why"], line
        assert bool(line["remedy"]) == (line["state"] != "ok"), line
    single = [line for line in report["checks"] if line["name"] != "settings"]
    assert len({line["name"] for line in single}) == len(single)
    return {line["name"]: line for line in single}


def picture(folder):
    """Of every file: name, rights, owner, time of change and content."""
    def content(p, st):
        return p.read_bytes() if p.is_file() and st.st_size < 1 << 20 and p.suffix != ".log" else None
    return {str(p): (p.lstat().st_mode, p.lstat().st_uid, content(p, p.lstat())) for p in folder.rglob("*")}


class Elsewhere:
    """iotctl beside an engine of the test's own, on no machine in particular, with free ports."""

    def __init__(self, folder):
        self.dir, self.userdir = folder, folder / "userdir"
        self.program = folder / "iotctl"
        self.ini = folder / "iottalk.ini"
        for name in ("iotctl", "ccm"):  # which makes its own store
            shutil.copy2(BIN / name, folder / name)
        self.ports = free_ports(4)

    def make(self, sandbox="strict", transport="auto", said=FINE, extra=""):
        engine = self.dir / "iottalk-engine"
        engine.write_text("#!/bin/sh\n[ \"$1\" = --probe ] && cat <<'END'\n%s\nEND\n" % json.dumps(said))
        engine.chmod(0o755)
        self.ini.write_text("[core]\nuserdir = %s\nhttp-port = %d\n[core-mqtt]\nhost = 127.0.0.1\nport = %d\n[core-ws]\nport = %d\n[gui]\nport = %d\n"
                            "[engine]\nsandbox = %s\n[agent]\ntransport = %s\n%s\n"
                            % (self.userdir, *self.ports, sandbox, transport, extra))
        return self

    def initdb(self, *stores):
        subprocess.run([str(self.program), "-c", str(self.ini), "initdb", *stores], check=True, capture_output=True, timeout=30)
        return self

    def doctor(self, *args, **kw):
        return doctor(self.ini, *args, program=self.program, **kw)

    def lines(self, **kw):
        return lines(self.ini, program=self.program, **kw)


@pytest.fixture
def elsewhere(tmp_path):
    return Elsewhere(tmp_path).make()


@pytest.fixture
def ready(elsewhere):
    return elsewhere.initdb()


# -- machines in good order


def test_everything_runs(ctl):
    ctl.run("start")

    def lasting():
        """All but what is in the files by which readers and writers of a store meet: whoever reads one that is written leaves a
        mark there."""
        return {name: what[:2] if name.endswith(".db-shm") else what for name, what in picture(ctl.userdir).items()}
    before = lasting()
    found = lines(ctl.ini)
    assert lasting() == before
    # how the machine's clock and limits are, and its disk now, is not ours to say
    assert {n: line for n, line in found.items()
            if line["state"] != "ok" and line["group"] not in ("clock", "limits") and n != "sync time"} == {}
    pids = ctl.pids()
    for name in ("csm", "agent", "ccm"):
        assert "pid %d," % pids[name] in found[name]["why"]
    assert "pid %d" % pids["broker"] in found["managed"]["why"]
    assert found["http port"]["why"] == "%d: csm, pid %d" % (ctl.http_port, pids["csm"])
    assert found["ccm port"]["why"] == "%d: ccm, pid %d" % (ctl.gui_port, pids["ccm"])
    assert found["mqtt port"]["why"] == "%d: broker, pid %d" % (ctl.mqtt_port, pids["broker"])
    for name, line in (("csm", "database"), ("ccm", "ccm database")):
        newest = len(list((Path(__file__).parents[2] / "conf/sql" / name).glob("*.sql")))
        assert "version %d" % newest in found[line]["why"]
    assert "median" in found["sync time"]["why"]
    report = json.loads(doctor(ctl.ini, "--json").stdout)
    names = [layer["name"] for layer in report["layers"]]
    assert report["sandbox"] == "strict" and "seccomp" in names and len(names) == len(set(names))
    assert all(layer["up"] for layer in report["layers"] if layer["core"])
    assert all(layer["why"] and layer["remedy"] for layer in report["layers"] if not layer["up"])
    text = doctor(ctl.ini).stdout
    assert all(name in text for name in [*names, *found])


def test_a_broker_of_ones_own(suite):
    found = lines(suite.ini)
    assert found["managed"]["state"] == "ok" and "not by iotctl" in found["managed"]["why"]
    assert found["transport"]["why"].split(":")[0] == suite.agent_status()["transport"]
    assert "supervisor" not in found and found["csm"]["state"] == found["agent"]["state"] == "ok"


def test_nothing_is_there_yet(elsewhere):
    before = picture(elsewhere.dir)
    found = elsewhere.lines()
    assert picture(elsewhere.dir) == before and not elsewhere.userdir.exists()
    assert "not there yet" in found["userdir"]["why"] and "initdb" in found["userdir"]["remedy"]
    for name in ("csm", "agent", "ccm", "mqtt", "websocket", "database", "ccm database", "transport"):
        assert found[name]["state"] in ("warning", "ok"), found[name]
    assert "devices database" not in found  # there may be no devices
    assert "is free" in found["http port"]["why"] and "is free" in found["ccm port"]["why"]


def test_made_and_not_started(ready):
    before = picture(ready.userdir)
    found = ready.lines()
    assert picture(ready.userdir) == before
    assert all(found[n]["state"] == "ok" for n in ("userdir", "run", "log", "key", "store file", "ccm store file", "database",
                                                     "ccm database", "space"))
    assert "median" in found["sync time"]["why"]


# -- sandbox and plugin


def test_a_missing_core_layer(elsewhere):
    done = elsewhere.make(said=LACKING).doctor(rc=1)
    for word in ("the kernel has none", "another kernel", "a newer kernel", "no engine starts"):
        assert word in done.stdout
    elsewhere.make("degraded", said=LACKING)
    assert "warning" in elsewhere.doctor().stdout
    report = json.loads(elsewhere.doctor("--json").stdout)
    assert report["ok"] is True and report["layers"] == LACKING["layers"]


def test_a_layer_that_is_not_core_may_be_missing(elsewhere):
    elsewhere.make(said={"layers": LACKING["layers"][1:]})
    assert "a newer kernel" in elsewhere.doctor().stdout


def test_an_engine_that_says_nothing(elsewhere):
    elsewhere.make(said=[])
    assert "which layers" in elsewhere.doctor(rc=1).stdout
    (elsewhere.dir / "iottalk-engine").unlink()
    assert "No such file" in elsewhere.lines(rc=1)["probe"]["why"]


def test_the_plugin_is_needed_where_it_is_asked_for(elsewhere):
    found = elsewhere.make(transport="plugin").lines(rc=1)
    assert found["plugin socket"]["state"] == "missing" and "No such file" in found["plugin socket"]["why"]
    assert "not there" in found["plugin file"]["why"]
    assert elsewhere.make(transport="client").lines()["plugin"]["state"] == "ok"


# -- configuration


def test_a_broken_configuration(elsewhere):
    elsewhere.make(extra="[core-ws]\nport = many\n")
    done = elsewhere.doctor("--json", rc=1)
    found = {line["name"]: line for line in json.loads(done.stdout)["checks"]}
    assert "iottalk.ini" in found["file"]["why"] and "core-ws.port" in found["file"]["why"]
    assert "config check" in found["file"]["remedy"] and "time" in found and "csm" not in found
    assert "core-ws.port" in elsewhere.doctor(rc=1).stdout


def test_a_setting_that_is_not_known(elsewhere):
    found = elsewhere.make(extra="[core]\nhttp-prot = 1\n").lines()
    assert found["file"]["state"] == "warning" and "http-prot" in found["file"]["why"]


# -- files


def test_rights_and_their_remedies(ready):
    for name, path, mode, state in (("key", "key", 0o644, "missing"), ("store file", "iottalk.db", 0o644, "warning"),
                                    ("ccm store file", "iottalk-gui.db", 0o644, "warning"),
                                    ("userdir", "", 0o755, "warning"), ("run", "run", 0o750, "warning")):
        (ready.userdir / path).chmod(mode)
        line = ready.lines(rc=1 if state == "missing" else 0)[name]
        assert line["state"] == state and "%04o" % mode in line["why"]
        subprocess.run(shlex.split(line["remedy"]), check=True)  # what it says helps
        assert ready.lines()[name]["state"] == "ok"


def test_a_key_that_is_none(ready):
    (ready.userdir / "key").write_text("not a key\n")
    assert "restore" in ready.lines(rc=1)["key"]["remedy"]


@pytest.mark.skipif(not ROOT, reason="files of others need root")
def test_a_file_of_another_owner(ready):
    shutil.chown(ready.userdir / "key", "nobody")
    line = ready.lines(rc=1)["key"]
    assert line["state"] == "missing" and "nobody" in line["why"] and "chown root" in line["remedy"]


@pytest.mark.skipif(not ROOT, reason="becoming another user needs root")
def test_without_being_root():
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(prefix="iottalk-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        there = Elsewhere(folder).make()
        there.initdb()
        as_nobody = dict(user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[], env=dict(os.environ, HOME=name))
        found = there.lines(rc=1, **as_nobody)  # the directory is root's
        assert found["userdir"]["state"] == "missing" and "root" in found["userdir"]["why"]
        for p in (there.userdir, *there.userdir.rglob("*")):
            os.chown(p, nobody.pw_uid, nobody.pw_gid)
        found = there.lines(**as_nobody)
        assert all(found[n]["state"] == "ok" for n in ("userdir", "key", "database")) and "median" in found["sync time"]["why"]
        assert there.lines()["userdir"]["state"] == "ok"  # root may look, too


# -- disk


@pytest.mark.parametrize("inject, state, rc", [("retval=0", "ok", 0), ("delay_exit=300000:when=3", "warning", 0), ("error=EIO", "missing", 1)])
def test_a_fast_a_slow_or_a_broken_disk(ready, inject, state, rc):
    line = ready.lines(rc=rc, wrap=["strace", "-f", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:" + inject],
                       env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))["sync time"]
    assert line["state"] == state and ("Input/output" if rc else "worst") in line["why"]


@pytest.mark.skipif(not ROOT, reason="mounting needs root")
def test_a_full_disk_and_a_read_only_one(elsewhere):
    elsewhere.userdir.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", str(elsewhere.userdir)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("no mounts here: " + done.stderr)
    try:
        assert elsewhere.lines(rc=1)["space"]["state"] == "missing"
        subprocess.run(["mount", "-o", "remount,ro", str(elsewhere.userdir)], check=True)
        found = elsewhere.lines(rc=1)
        assert "Read-only" in found["userdir"]["why"] and "Read-only" in found["sync time"]["why"]
    finally:
        subprocess.run(["umount", str(elsewhere.userdir)], check=True)


# -- store


@pytest.mark.parametrize("file, name, other", [("iottalk.db", "database", "iottalk-gui.db"),
                                               ("iottalk-gui.db", "ccm database", "iottalk.db"),
                                               ("devices.db", "devices database", "iottalk.db")])
def test_a_store_that_is_spoilt(ready, file, name, other):
    ready.initdb("devices")
    store = ready.userdir / file
    good = store.read_bytes()
    db = sqlite3.connect(store)
    db.execute("INSERT INTO schema_version VALUES (99)")
    db.commit()
    db.close()
    newer = store.read_bytes()
    page = 4096
    torn = good[:page] + b"\xff" * page + good[2 * page:]
    mistaken = (ready.userdir / other).read_bytes()
    for content, words in ((b"no store " * 1000, "not a database"), (newer, "version 99"), (torn, ""), (b"", "schema_version"),
                           (mistaken, "it is not a store of")):
        store.write_bytes(content)
        before = picture(ready.userdir)
        line = ready.lines(rc=1)[name]
        assert line["state"] == "missing" and words in line["why"] and "restore" in line["remedy"]
        assert picture(ready.userdir) == before
    store.write_bytes(good)
    assert ready.lines()[name]["state"] == "ok"


def test_a_restore_that_was_interrupted(ready):
    (ready.userdir / "key.incoming").write_text("")
    line = ready.lines()["restore"]
    assert line["state"] == "warning" and "key.incoming" in line["remedy"]
    (ready.userdir / "restore.journal").write_text('{"steps": []}')
    line = ready.lines(rc=1)["restore"]
    assert line["state"] == "missing" and "iotctl start" in line["remedy"]
    ready.initdb()
    assert ready.lines()["restore"]["state"] == "warning"


# -- broker and ports


@pytest.mark.parametrize("which, name", [(0, "http port"), (1, "mqtt port"), (2, "websocket port"), (3, "ccm port")])
def test_a_port_that_others_have(ready, which, name):
    ready.make(extra="[broker]\nmanaged = yes\n")
    with socket.socket() as s:
        s.bind(("127.0.0.1", ready.ports[which]))
        s.listen()
        begin = time.monotonic()
        line = ready.lines(rc=1)[name]
        assert line["state"] == "missing" and "pid %d" % os.getpid() in line["why"] and "port" in line["remedy"]
        assert time.monotonic() - begin < 60  # though it never answers


def test_a_broker_that_is_missed(ready):
    found = ready.make(extra="[broker]\nmanaged = no\n").lines(rc=1)
    assert found["mqtt"]["state"] == found["websocket"]["state"] == "missing" and "managed = auto" in found["mqtt"]["remedy"]
    assert "managed" not in found


def test_what_a_foreign_broker_lacks(ready, tmp_path):
    conf = tmp_path / "mosquitto.conf"
    conf.write_text("%sallow_anonymous true\nmessage_size_limit 1000\nlistener %d 127.0.0.1\nlistener %d 127.0.0.1\nprotocol websockets\n"
                    % ("user root\n" if ROOT else "", *ready.ports[1:3]))
    with open(tmp_path / "broker.log", "wb") as log:
        broker = subprocess.Popen([shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin"), "-c", str(conf)], stdout=log, stderr=log)
    try:
        def answers():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", ready.ports[2])) == 0
        until(answers, 20, "the broker")
        report = json.loads(ready.doctor("--json").stdout)
        told = " ".join(line["why"] for line in report["checks"] if line["name"] == "settings")
        for word in ("queue_qos0_messages", "max_queued_messages", "max_inflight_messages", "message_size_limit"):
            assert word in told
        assert all(line["state"] == "warning" and "mosquitto.conf" in line["remedy"]
                   for line in report["checks"] if line["name"] == "settings")
        found = ready.make(extra="[broker]\nmanaged = yes\n").lines(rc=1)
        assert found["managed"]["state"] == "missing"
    finally:
        broker.kill()
        broker.wait()


# -- daemons


def hold_lock(path):
    """The pid lock of a daemon, until the file is closed."""
    lock = open(path, "w")
    path.chmod(0o600)
    lock.write("%d\n" % os.getpid())
    lock.flush()
    fcntl.fcntl(lock, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
    return lock


class Daemon:
    """Has the lock of csm and answers as it likes."""

    def __init__(self, userdir, **answer):
        self.answer = json.dumps(dict(state="ok", **answer)).encode() + b"\n"
        self.lock = hold_lock(userdir / "run" / "csm.pid")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(userdir / "run" / "csm.sock"))
        self.socket.listen()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            with peer:
                peer.makefile("rb").readline()
                peer.sendall(self.answer)

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()
        self.lock.close()


@pytest.mark.parametrize("answer, state, words, remedy", [
    (dict(version="0.0.1", health="ok"), "warning", "version 0.0.1", "iotctl restart csm"),
    (dict(version=None, health="no connection to the broker"), "warning", "unknown", "iotctl restart csm"),
    (dict(version="", health="no connection to the broker"), "missing", "no connection to the broker", "csm.log"),
])
def test_a_daemon_of_another_version_or_not_well(ready, answer, state, words, remedy):
    if answer["version"] == "":
        answer = dict(answer, version=subprocess.run([str(ready.program), "--version"], capture_output=True, text=True).stdout.split()[1])
    daemon = Daemon(ready.userdir, **answer)
    try:
        line = ready.lines(rc=1)["csm"]  # also, because the broker that a running csm needs is not there
    finally:
        daemon.close()
    assert line["state"] == state and words in line["why"] and remedy in line["remedy"]


def test_what_hangs_is_told_in_time(ctl):
    ctl.run("start")
    for name, line_name in (("csm", "csm"), ("agent", "agent"), ("ccm", "ccm"), ("broker", "mqtt")):
        pid = ctl.pids()[name]
        os.kill(pid, signal.SIGSTOP)
        try:
            line = lines(ctl.ini, rc=1)[line_name]
        finally:
            os.kill(pid, signal.SIGCONT)
        assert line["state"] == "missing" and "pid %d" % pid in line["why"] and "does not answer" in line["why"]
        assert "restart %s" % name in line["remedy"]


# -- machine


def test_a_clock_that_is_wrong(ready):
    future = time.time() + 86400
    os.utime(ready.program, (future, future))
    assert "before this program was made" in ready.lines(rc=1)["time"]["why"]
    os.utime(ready.program)
    assert ready.lines()["time"]["state"] == "ok"
    db = sqlite3.connect(ready.userdir / "iottalk.db")
    db.execute("INSERT INTO device VALUES ('a', 'b', 'c', ?, '[]', NULL, NULL, '{}', 0, 0)", (future,))
    db.commit()
    db.close()
    line = ready.lines(rc=1)["time"]
    assert "newest row" in line["why"] and "clock" in line["remedy"]


@pytest.mark.parametrize("limit, state", [(200, "missing"), (1024, "warning"), (4096, "ok")])
def test_few_descriptors(ready, limit, state):
    line = ready.lines(rc=state == "missing", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))["open files"]
    assert line["state"] == state and str(limit) in line["why"]
    assert state == "ok" or "ulimit -n" in line["remedy"]


def test_misused(elsewhere):
    assert "unexpected" in elsewhere.doctor("now", rc=2).stderr
    assert "xml" in elsewhere.doctor("--xml", rc=2).stderr
    assert "degraded" in elsewhere.doctor("--help").stdout
