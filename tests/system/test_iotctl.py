"""iotctl as people use it: start, stop, status, what happens when processes die, whose broker it is, configuration."""

import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
import requests

import stopwatch
from suite import BIN, PATIENCE_S, PLUGIN, free_ports, process_table, sanitizer_report, until

ROOT = os.geteuid() == 0


class Ctl:
    """iotctl with a configuration of its own in a temporary directory."""

    def __init__(self, folder, extra="", core=""):
        self.dir = folder
        self.http_port, self.mqtt_port, self.ws_port, self.gui_port = free_ports(4)
        self.userdir = folder / "userdir"
        self.url = "http://127.0.0.1:%d" % self.http_port
        self.gui_url = "http://127.0.0.1:%d" % self.gui_port
        self.ini = folder / "iottalk.ini"
        self.core, self.extra = core, extra
        self.write()

    def write(self):
        self.ini.write_text("""\
[core]
http-port = %d
userdir = %s
%s
[core-mqtt]
host = 127.0.0.1
port = %d
[core-ws]
port = %d
[gui]
port = %d
%s
""" % (self.http_port, self.userdir, self.core, self.mqtt_port, self.ws_port, self.gui_port, self.extra))

    def popen(self, *args, **kw):
        return subprocess.Popen([str(BIN / "iotctl"), "-c", str(self.ini), *args], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)

    def run(self, *args, rc=0, timeout=60):
        done = subprocess.run([str(BIN / "iotctl"), "-c", str(self.ini), *args], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=timeout)
        if rc is not None:
            assert done.returncode == rc, "%s: %d\n%s\n%s\n%s" % (
                args, done.returncode, done.stdout, done.stderr, self.log("supervisor"))
        return done

    def status(self, *names, rc=None):
        return json.loads(self.run("status", "--json", *names, rc=rc).stdout)

    def service(self, name):
        return next(s for s in self.status()["services"] if s["name"] == name)

    def pids(self):
        return {s["name"]: s.get("pid") for s in self.status()["services"]}

    def supervisor_pid(self):
        return self.status()["supervisor"]["pid"]

    def log(self, name):
        path = self.userdir / "log" / (name + ".log")
        return path.read_text(errors="replace") if path.exists() else ""

    def healthy(self):
        return requests.get("http://127.0.0.1:%d/healthz" % self.http_port, timeout=PATIENCE_S).status_code == 200


def ended(pid):
    try:
        return Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def on_terminal(ctl, args, text):
    """Run it on a terminal and answer its question. ret: the exit status"""
    pid, master = pty.fork()
    if pid == 0:
        os.execv(str(BIN / "iotctl"), ["iotctl", "-c", str(ctl.ini), *args])
    seen = b""
    while b"[y/N]" not in seen:
        assert select.select([master], [], [], PATIENCE_S)[0], seen
        seen += os.read(master, 1000)
    os.write(master, text)
    try:
        while os.read(master, 1000):
            pass
    except OSError:
        pass  # the terminal's other end is closed
    os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def forget_broker_data(userdir):
    """As root the managed broker keeps its data outside the state directory; a test leaves none behind."""
    conf = userdir / "broker" / "mosquitto.conf"
    if conf.exists():
        data = re.search(r"^persistence_location (.*)$", conf.read_text(), re.M)[1]
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture
def make_ctl(tmp_path):
    made = []

    def make(**kw):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Ctl(folder, **kw))
        return made[-1]

    yield make
    for ctl in made:
        ctl.write()
        ctl.run("stop", rc=None)
        state = ctl.status()
        assert [s["state"] for s in state["services"]] == ["stopped"] * 4 and state["supervisor"] is None
        for name in ("supervisor", "csm", "agent", "ccm"):
            report = sanitizer_report(ctl.log(name))
            assert not report, report
        forget_broker_data(ctl.userdir)


@pytest.fixture
def ctl(make_ctl):
    return make_ctl()


# -- start, stop, status


def test_start_status_stop(ctl):
    down = ctl.status(rc=3)
    assert down["supervisor"] is None
    assert [(s["name"], s["state"]) for s in down["services"]] == [
        ("broker", "stopped"), ("csm", "stopped"), ("agent", "stopped"), ("ccm", "stopped")]

    ctl.run("start")
    assert ctl.healthy()
    state = ctl.status(rc=0)
    for s in state["services"]:
        assert s["state"] == "ready" and s["pid"] > 0 and s["restarts"] == 0 and s["uptime_s"] >= 0, s
        assert not ended(s["pid"])
    broker, csm, agent, ccm = state["services"]
    assert broker["managed"] is True and broker["health"] == "ok"
    assert broker["ports"] == {"mqtt": ctl.mqtt_port, "websocket": ctl.ws_port}
    assert csm["ports"] == {"http": ctl.http_port} and ccm["ports"] == {"http": ctl.gui_port}
    assert csm["version"] == agent["version"] == ccm["version"]
    assert csm["health"] == ccm["health"] == "ok"
    assert oct(ctl.userdir.stat().st_mode & 0o777) == "0o700"
    assert oct((ctl.userdir / "key").stat().st_mode & 0o777) == "0o600"
    table = ctl.run("status", "csm").stdout
    assert re.search(r"^csm +ready +%d " % csm["pid"], table, re.M) and "broker" not in table

    before = ctl.pids()
    ctl.run("start")  # all there: nothing changes
    assert ctl.pids() == before

    ctl.run("stop")
    assert all(ended(pid) for pid in before.values())
    assert ctl.status(rc=3)["supervisor"] is None
    assert ctl.run("stop").stdout == "nothing was running\n"


def test_start_of_one_starts_what_it_needs(ctl):
    ctl.run("start", "csm")
    assert {n: p is not None for n, p in ctl.pids().items()} == {"broker": True, "csm": True, "agent": False, "ccm": False}
    ctl.run("status", "csm", rc=0)
    ctl.run("status", "agent", rc=3)
    ctl.run("start", "agent")
    ctl.run("status", "broker", "csm", "agent", rc=0)
    ctl.run("status", "ccm", rc=3)
    ctl.run("stop")
    ctl.run("start", "ccm")
    assert {n: p is not None for n, p in ctl.pids().items()} == {"broker": True, "csm": True, "agent": False, "ccm": True}
    ctl.run("status", "broker", "csm", "ccm", rc=0)
    ctl.run("start")
    ctl.run("status", rc=0)


def test_stop_and_restart_of_one(ctl):
    ctl.run("start")
    before = ctl.pids()
    ctl.run("stop", "csm")
    assert ctl.pids() == {**before, "csm": None}
    assert ctl.status("csm", rc=3)["services"][0]["state"] == "stopped"
    ctl.run("start", "csm")
    ctl.run("restart", "agent")
    after = ctl.pids()
    assert after["broker"] == before["broker"] and None not in after.values()
    assert after["agent"] != before["agent"] and after["csm"] != before["csm"]
    ctl.run("restart")
    assert not set(ctl.pids().values()) & set(after.values())


def test_two_starts_at_once(ctl):
    both = [ctl.popen("start") for _ in range(2)]
    outs = [p.communicate(timeout=60) for p in both]
    assert [p.returncode for p in both] == [0, 0], outs
    pids = ctl.pids()
    for out, _ in outs:
        for name, pid in pids.items():
            assert re.search(r"^%s +ready \(pid %d\)$" % (name, pid), out, re.M), outs


def test_foreground_stays_and_stops_everything(ctl):
    p = ctl.popen("start", "--foreground")
    until(lambda: ctl.run("status", rc=None).returncode == 0, 20, "all services")
    pids = ctl.pids()
    assert p.poll() is None
    refused = ctl.run("start", "--foreground", rc=1)
    assert "already running" in refused.stderr
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=30)
    assert p.returncode == 0, err
    assert "suite.ready" in err and "csm" in err
    assert all(ended(pid) for pid in pids.values())


def test_unknown_and_unbuilt_names(ctl):
    for args, rc, words in [
        (("start", "gui"), 1, "not part of this build"),
        (("initdb", "gui"), 2, "unknown name 'gui' (choose from csm, ccm, devices)"),
        (("stop", "cms"), 2, "unknown name 'cms' (choose from broker, csm, agent, ccm)"),
        (("status", "cms"), 2, "unknown name 'cms'"),
        (("start", "foo"), 2, "unknown name 'foo'"),
        (("restart", "foo"), 2, "unknown name 'foo'"),
        (("initdb", "foo"), 2, "unknown name 'foo'"),
        (("genconf",), 2, "one destination path"),
        (("config", "chek"), 2, "usage"),
        (("demo", "--seconds", "x"), 2, "whole number"),
        (("demo", "now"), 2, "unexpected argument 'now'"),
        (("strat",), 2, "unknown command 'strat'; did you mean 'start'?"),
        (("statsu",), 2, "unknown command 'statsu'; did you mean 'status'?"),
        (("supervize-all-of-it",), 2, "unknown command 'supervize-all-of-it'\n"),
        (("genconf", str(ctl.dir)), 1, "is a directory"),
        (("genconf", "--force", str(ctl.dir)), 1, "is a directory"),
    ]:
        assert words in ctl.run(*args, rc=rc).stderr
    assert not ctl.userdir.exists()


def test_every_command_has_help(ctl):
    text = ctl.run("--help").stdout
    names = re.search(r"\{(.*?)\}", text)[1].split(",")
    assert set("initdb start stop restart status shell genconf config reload logs log-level app graph project device function user db"
               " doctor backup restore demo man completion".split()) == set(names)
    for name in names:
        assert ctl.run(name, "--help").stdout.startswith("usage: iotctl %s [-h]" % name)
    assert re.fullmatch(r"iotctl \d+\.\d+\.\d+\n", ctl.run("--version").stdout)
    for program in ("csm", "ccm", "gateway-agent"):
        done = subprocess.run([str(BIN / program), "--help"], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0 and done.stdout.startswith("usage: %s [-h]" % program)


# -- what dies comes back


def test_killed_daemon_is_restarted_at_once_then_with_pauses(ctl):
    ctl.run("start")
    deaths = []
    for _ in range(4):
        pid = until(lambda: ctl.service("agent")["state"] == "ready" and ctl.service("agent")["pid"], 15, "the agent")
        os.kill(pid, signal.SIGKILL)
        until(lambda: ctl.service("agent").get("pid") not in (pid, None), 15, "the next agent")
        deaths.append(pid)
    status = ctl.service("agent")
    assert status["restarts"] == 4 and status["last_exit"].startswith("signal 9"), status

    # The supervisor's own log has the pauses between a death and the next start, and the times.
    planned = [0, 200, 400, 800]
    assert [int(ms) for ms in re.findall(r"service\.again service=agent in_ms=(\d+)", ctl.log("supervisor"))] == planned
    events = re.findall(r"T(\d+):(\d+):(\d+\.\d+)Z \w+ supervisor service\.(died|state) service=agent (.*)",
                        ctl.log("supervisor"))
    pauses, died = [], None
    for h, m, s, what, rest in events:
        at = int(h) * 3600 + int(m) * 60 + float(s)
        if what == "died":
            died = at
        elif died is not None and "state=starting" in rest:
            pauses.append(at - died)
            died = None
    assert len(pauses) == 4
    assert all(pause >= ms / 1000 - 0.01 for pause, ms in zip(pauses, planned)), pauses


def test_killed_broker_csm_and_ccm_come_back(ctl):
    ctl.run("start")
    for name in ("broker", "csm", "ccm"):
        pid = ctl.pids()[name]
        os.kill(pid, signal.SIGKILL)
        until(lambda: ctl.service(name)["state"] == "ready" and ctl.pids()[name] != pid, 15, "the next " + name)
    ctl.run("demo", "--seconds", "1")


def test_next_start_adopts_what_a_killed_supervisor_left(ctl):
    ctl.run("start")
    before = ctl.pids()
    os.kill(ctl.supervisor_pid(), signal.SIGKILL)
    until(lambda: ctl.status()["supervisor"] is None, 5, "the end of the supervisor")
    assert ctl.pids() == before and ctl.run("status").returncode == 0
    ctl.run("start")
    assert ctl.pids() == before and ctl.supervisor_pid() > 0
    os.kill(before["csm"], signal.SIGKILL)  # adopted ones are watched, too
    until(lambda: ctl.service("csm")["state"] == "ready" and ctl.pids()["csm"] != before["csm"], 15, "the next csm")
    os.kill(before["broker"], signal.SIGKILL)
    until(lambda: ctl.service("broker")["state"] == "ready" and ctl.pids()["broker"] != before["broker"], 15,
          "the next broker")


def test_stop_without_supervisor(ctl):
    ctl.run("start")
    pids = ctl.pids()
    os.kill(ctl.supervisor_pid(), signal.SIGKILL)
    until(lambda: ctl.status()["supervisor"] is None, 5, "the end of the supervisor")
    assert ctl.run("stop").stdout == "ccm      stopped\nagent    stopped\ncsm      stopped\nbroker   stopped\n"
    assert all(ended(pid) for pid in pids.values())


def keepers(ctl):
    """Outside of the agent's family: known by the socket in their command line."""
    mark = os.fsencode(str(ctl.userdir / "run/keeper.sock"))
    return [pid for pid in process_table() if mark in cmdline(pid)]


def cmdline(pid):
    try:
        return Path("/proc/%d/cmdline" % pid).read_bytes().split(b"\0")
    except OSError:
        return []


def kill_agent(ctl):
    """If it runs: after its first death it is restarted at once, after the next ones there is a pause. ret: its status"""
    agent = ctl.service("agent")
    if "pid" in agent:
        try:
            os.kill(agent["pid"], signal.SIGKILL)
        except ProcessLookupError:
            pass
    return agent


@pytest.mark.parametrize("how", ["all", "one service", "without supervisor", "supervisor ended", "frozen keeper"])
def test_stop_leaves_no_keeper_of_a_killed_agent(ctl, how):
    ctl.run("start")
    assert until(lambda: keepers(ctl), 10, "the keeper")
    supervisor = ctl.supervisor_pid()
    if how == "without supervisor":
        os.kill(supervisor, signal.SIGKILL)
        until(lambda: ended(supervisor), 5, "the end of the supervisor")
        os.kill(ctl.pids()["agent"], signal.SIGKILL)
    else:
        until(lambda: kill_agent(ctl)["state"] == "restarting", 15, "a pause between two starts of the agent")
    if how == "frozen keeper":
        for pid in keepers(ctl):
            os.kill(pid, signal.SIGSTOP)
    if how == "supervisor ended":
        os.kill(supervisor, signal.SIGTERM)
        until(lambda: ended(supervisor), 15, "the end of the supervisor")
    else:
        ctl.run("stop", *(["agent"] if how == "one service" else []))
    until(lambda: not keepers(ctl), 1, "the end of the keeper")


@pytest.mark.skipif(not ROOT, reason="takes two users")
def test_who_may_not_look_is_told_so(ctl):
    ctl.run("start", "broker")
    with open(BIN / "iotctl", "rb") as program, tempfile.TemporaryDirectory() as folder:
        ini = Path(folder, "iottalk.ini")  # where that user gets to
        ini.write_text(ctl.ini.read_text())
        os.chmod(folder, 0o755)
        for command in ("status", "stop", "start", "demo"):
            done = subprocess.run(["/proc/self/fd/%d" % program.fileno(), "-c", str(ini), command],
                                  pass_fds=(program.fileno(),), user=65534, group=65534, extra_groups=[],
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
            assert done.returncode == 1 and done.stdout == "", done
            assert re.fullmatch(r"iotctl: cannot look into '.*/userdir/?': Permission denied\n", done.stderr), done
    assert ctl.service("broker")["state"] == "ready"


def test_stubborn_daemon_is_killed(ctl):
    ctl.run("start")
    pid = ctl.pids()["csm"]
    os.kill(pid, signal.SIGSTOP)  # deaf to SIGTERM
    begun, running = time.monotonic(), stopwatch.now()
    ctl.run("stop", "csm")
    assert ended(pid) and time.monotonic() - begun > 9 and stopwatch.now() - running < 15


def test_start_tells_what_is_not_ready_and_why(ctl):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", ctl.http_port))
        s.listen()
        done = ctl.run("start", rc=1)
    assert re.search(r"^iotctl: csm is not ready: ended 3 times before it was ready", done.stderr, re.M), done.stderr
    assert "the end of %s" % (ctl.userdir / "log/csm.log") in done.stderr
    assert re.search(r"^ +.*%d" % ctl.http_port, done.stderr, re.M), done.stderr
    assert "port %d at 127.0.0.1: set another one ([core] http-port)" % ctl.http_port in done.stderr, done.stderr
    assert "run `iotctl start` again" in done.stderr
    assert re.search(r"^iotctl: ccm is not ready: not started, because it needs csm$", done.stderr, re.M), done.stderr
    assert ctl.service("csm")["state"] == "failed" and ctl.service("broker")["state"] == "ready"
    ctl.run("start")  # the port is free now
    ctl.run("status", rc=0)


def test_start_tells_who_lacks_the_port_of_ccm(ctl):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", ctl.gui_port))
        s.listen()
        done = ctl.run("start", rc=1)
    assert re.search(r"^iotctl: ccm is not ready: ended 3 times before it was ready", done.stderr, re.M), done.stderr
    assert "port %d at 127.0.0.1: set another one ([gui] port)" % ctl.gui_port in done.stderr, done.stderr
    assert {s["name"]: s["state"] for s in ctl.status()["services"]} == {
        "broker": "ready", "csm": "ready", "agent": "ready", "ccm": "failed"}


def test_start_shows_the_log_of_the_last_try_only(ctl):
    ctl.run("start")
    ctl.run("stop")  # every log has something old now
    program = ctl.dir / "broken"
    program.write_text("#!/bin/sh\necho this is why >&2\nexit 1\n")
    program.chmod(0o755)
    ctl.extra = "[broker]\nprogram = %s\n" % program
    ctl.write()
    done = ctl.run("start", rc=1)
    assert done.stderr.count("this is why") == 1, done.stderr
    for name in ("csm", "agent", "ccm"):
        assert "%s is not ready: not started, because it needs broker" % name in done.stderr
    assert done.stderr.count("the end of") == 1 and "broker.log" in done.stderr, done.stderr


def test_running_but_not_well_is_degraded(ctl):
    ctl.run("start")
    ctl.run("status", rc=0)  # at once
    os.kill(ctl.supervisor_pid(), signal.SIGKILL)  # nobody brings the broker back
    broker, csm = ctl.pids()["broker"], ctl.pids()["csm"]
    os.kill(broker, signal.SIGKILL)
    until(lambda: ctl.service("csm")["state"] == "degraded", 10, "csm to notice")
    down = ctl.status("csm", "agent", rc=1)
    assert "broker" in down["services"][0]["health"] and down["services"][0]["pid"] == csm
    ctl.status(rc=3)  # the broker does not run
    ctl.run("start")
    ctl.run("status", rc=0)
    ctl.run("stop", "csm", "agent", "ccm")
    assert "agent: waiting for csm" in ctl.run("start", "agent", rc=1).stderr
    assert re.search(r"^agent +degraded .*waiting for csm$", ctl.run("status", "agent", rc=1).stdout, re.M)
    ctl.run("start")
    ctl.run("status", rc=0)


def test_initdb_makes_no_second_key_under_running_daemons(ctl):
    ctl.run("start", "csm")
    key = ctl.userdir / "key"
    old = key.read_bytes()
    key.unlink()
    assert "stop them first" in ctl.run("initdb", rc=1).stderr and not key.exists()
    ctl.run("stop")
    ctl.run("initdb")
    assert key.read_bytes() != old


def test_log_is_rotated_at_10_mib(ctl):
    ctl.run("start")
    log = ctl.userdir / "log/csm.log"
    with open(log, "ab") as f:
        f.write((b"x" * 1023 + b"\n") * (10 * 1024))
    old = ctl.userdir / "log/csm.log.1"
    until(lambda: old.exists() and log.stat().st_size < 1024 * 1024, 20, "the rotation")
    assert old.stat().st_size > 10 * 1024 * 1024
    ctl.run("restart", "csm")
    assert 0 < log.stat().st_size < 1024 * 1024  # written from its beginning


# -- the broker


class Listener:
    """Something on a port that is not a broker: accepts and says `word` (nothing: stays silent)."""

    def __init__(self, port, word=b""):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.socket.listen()
        self.word, self.conns = word, []
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                conn, _ = self.socket.accept()
            except OSError:
                return
            conn.sendall(self.word)
            self.conns.append(conn)

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(5)
        for conn in self.conns:
            conn.close()


class Mosquitto:
    def __init__(self, folder, port, ws_port=None, settings=""):
        conf = folder / "other.conf"
        conf.write_text("%sallow_anonymous true\nlistener %d 127.0.0.1\n%s%s\n" % (
            "user root\n" if ROOT else "", port,
            "listener %d 127.0.0.1\nprotocol websockets\n" % ws_port if ws_port else "", settings))
        env = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin")
        self.popen = subprocess.Popen(["mosquitto", "-c", str(conf)], env=env, stderr=subprocess.DEVNULL)

        def listens():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", ws_port or port)) == 0
        until(listens, 10, "the other broker")

    def close(self):
        self.popen.terminate()
        self.popen.wait(10)


@pytest.mark.parametrize("word", [b"220 mail.example.org ESMTP\r\n", b""], ids=["talks", "silent"])
def test_mqtt_port_taken_by_something_else(ctl, word):
    other = Listener(ctl.mqtt_port, word)
    try:
        done = ctl.run("start", rc=1)
    finally:
        other.close()
    assert "broker is not ready" in done.stderr and "clash" in done.stderr
    for remedy in (str(ctl.mqtt_port), "[core-mqtt] port", "[core-ws] port", "managed = yes", "stop the program"):
        assert remedy in done.stderr
    assert ctl.status(rc=3)["supervisor"] is None  # a start that came to nothing leaves nothing behind


def test_broker_without_websocket_is_not_used(ctl):
    other = Mosquitto(ctl.dir, ctl.mqtt_port)
    try:
        done = ctl.run("start", rc=1)
    finally:
        other.close()
    assert "a broker answers" in done.stderr and "nothing listens" in done.stderr and "managed = yes" in done.stderr


def test_complete_broker_is_used_and_its_lacks_told(ctl):
    other = Mosquitto(ctl.dir, ctl.mqtt_port, ctl.ws_port)
    try:
        out = ctl.run("start").stdout
        broker = ctl.service("broker")
        assert broker["state"] == "ready" and broker["managed"] is False and "pid" not in broker
        lacks = " ".join(broker["lacks"])
        for setting in ("queue_qos0_messages", "max_queued_messages", "max_inflight_messages"):
            assert setting in lacks and setting in out
        assert "message_size_limit" not in lacks
        ctl.run("demo", "--seconds", "1")
        assert "left alone" in ctl.run("stop", "broker").stdout
        still = ctl.status("broker", rc=0)["services"][0]
        assert still["state"] == "ready" and still["managed"] is False and still["health"] == "ok", still
        assert "broker   left alone" in ctl.run("stop").stdout
        assert other.popen.poll() is None
    finally:
        other.close()


def test_broker_with_all_settings_lacks_nothing(ctl):
    other = Mosquitto(ctl.dir, ctl.mqtt_port, ctl.ws_port,
                      "queue_qos0_messages true\nmax_queued_messages 100000\nmax_inflight_messages 0\n")
    try:
        ctl.run("start", "broker")
        assert ctl.service("broker")["lacks"] == []
        ctl.run("stop")
    finally:
        other.close()


def test_small_message_limit_of_a_foreign_broker_is_told(ctl):
    other = Mosquitto(ctl.dir, ctl.mqtt_port, ctl.ws_port, "message_size_limit 1000\n")
    try:
        ctl.run("start", "broker")
        assert "message_size_limit" in " ".join(ctl.service("broker")["lacks"])
        ctl.run("stop")
    finally:
        other.close()


def test_unmanaged_broker_that_is_missing(make_ctl):
    ctl = make_ctl(extra="[broker]\nmanaged = no\n")
    done = ctl.run("start", rc=1)
    assert "no broker to use" in done.stderr and "managed = auto" in done.stderr


def test_managed_yes_refuses_a_foreign_broker(make_ctl):
    ctl = make_ctl(extra="[broker]\nmanaged = yes\n")
    other = Mosquitto(ctl.dir, ctl.mqtt_port, ctl.ws_port)
    try:
        assert "clash" in ctl.run("start", rc=1).stderr
    finally:
        other.close()


def test_missing_broker_program(make_ctl):
    ctl = make_ctl(extra="[broker]\nprogram = mosquitto-that-is-not-there\n")
    done = ctl.run("start", rc=1)
    assert "install the package mosquitto" in done.stderr


def test_managed_broker_has_the_settings_of_the_suite(ctl):
    ctl.run("start", "broker")
    conf = (ctl.userdir / "broker/mosquitto.conf").read_text()
    for line in ("persistence true", "autosave_interval 5", "queue_qos0_messages true", "max_queued_messages 100000",
                 "max_inflight_messages 0", "message_size_limit 1048576", "set_tcp_nodelay true",
                 "listener %d 127.0.0.1" % ctl.mqtt_port, "listener %d 127.0.0.1" % ctl.ws_port):
        assert line in conf.splitlines()
    pid = ctl.pids()["broker"]
    uid = int(re.search(r"^Uid:\s+(\d+)", Path("/proc/%d/status" % pid).read_text(), re.M)[1])
    assert (uid != 0) if ROOT else (uid == os.geteuid())
    data = Path(ctl.service("broker")["data_dir"])
    assert oct(data.stat().st_mode & 0o777) == "0o700" and data.stat().st_uid == uid
    ctl.run("stop")
    assert (data / "mosquitto.db").exists()  # it could write its store


# -- the broker's plugin


def agent_status(ctl):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(PATIENCE_S)
        s.connect(str(ctl.userdir / "run/agent.sock"))
        s.sendall(b'{"op": "status"}\n')
        return json.loads(s.makefile("rb").readline())


def test_managed_broker_loads_the_plugin_and_the_agent_finds_it(ctl):
    ctl.run("start")
    broker = ctl.service("broker")
    assert Path(broker["plugin"]).name == PLUGIN.name and "plugin_why" not in broker
    link = ctl.userdir / "run/broker-plugin.sock"
    assert Path(os.readlink(link)) == Path(broker["data_dir"]) / "plugin.sock"
    assert agent_status(ctl)["transport"] == "plugin"
    assert "without its plugin" not in ctl.run("status").stdout
    ctl.run("demo", "--seconds", "1")
    ctl.run("stop")
    assert not (Path(broker["data_dir"]) / "plugin.sock").exists()


def test_plugin_that_is_switched_off_is_not_loaded(make_ctl):
    ctl = make_ctl(extra="[broker]\nplugin = none\n")
    ctl.run("start")
    assert "switched off" in ctl.service("broker")["plugin_why"]
    assert agent_status(ctl)["transport"] == "client"
    assert not os.path.lexists(ctl.userdir / "run/broker-plugin.sock")


def test_plugin_that_is_missing_is_told_and_done_without(make_ctl):
    ctl = make_ctl(extra="[broker]\nplugin = /nonexistent/plugin.so\n")
    ctl.run("start")
    assert "/nonexistent/plugin.so" in ctl.service("broker")["plugin_why"]
    assert "without its plugin: " in ctl.run("status").stdout
    assert "broker.without_plugin" in ctl.log("supervisor")
    assert ctl.healthy() and agent_status(ctl)["transport"] == "client"
    assert "data goes the slower way: " in ctl.run("status").stdout


def test_agent_that_must_have_the_plugin_says_that_it_is_not_there(make_ctl):
    ctl = make_ctl(extra="[broker]\nplugin = none\n[agent]\ntransport = plugin\n")
    ctl.run("start", rc=None)  # 1 if the agent has noticed by then
    until(lambda: ctl.service("agent")["health"] == "the broker plugin is not reached", 10, "the agent to say so")
    assert ctl.service("agent")["state"] == "degraded" and ctl.service("agent")["transport"] == "plugin"
    until(lambda: "plugin.down" in ctl.log("agent"), what="the agent's word")
    said = ctl.run("doctor", rc=1).stdout
    assert "plugin: the broker plugin is not reached" in said and "two lines in your own mosquitto.conf" in said


def test_broker_that_does_not_start_with_its_plugin_starts_without(make_ctl):
    broken = make_ctl().dir / "plugin.so"
    broken.write_text("this is no shared object\n")
    ctl = make_ctl(extra="[broker]\nplugin = %s\n" % broken)
    ctl.run("start")
    service = ctl.service("broker")
    assert service["state"] == "ready" and service["restarts"] == 1
    assert "ended at once" in service["plugin_why"] and "plugin" not in service
    assert "broker.without_plugin" in ctl.log("supervisor")
    assert agent_status(ctl)["transport"] == "client"
    os.kill(ctl.supervisor_pid(), signal.SIGKILL)  # the next one learns how the broker was started
    ctl.run("start")
    assert "started without" in ctl.service("broker")["plugin_why"]
    ctl.run("stop")
    ctl.extra = ""
    ctl.write()
    ctl.run("start")
    assert "plugin" in ctl.service("broker"), "tried again at the next start"


def test_a_file_where_the_link_to_the_plugin_belongs_is_left_alone(ctl):
    ctl.run("initdb")
    (ctl.userdir / "run").mkdir(exist_ok=True)
    there = ctl.userdir / "run/broker-plugin.sock"
    there.write_text("mine")
    ctl.run("start", "broker")
    assert "does not lead to" in ctl.service("broker")["plugin_why"]
    assert there.read_text() == "mine"


# -- configuration, initdb


def test_genconf_does_not_overwrite_and_its_sample_is_valid(ctl):
    dest = ctl.dir / "sample.ini"
    ctl.run("genconf", str(dest))
    assert "[core-mqtt]" in dest.read_text() and ";http-port = 9992" in dest.read_text()
    dest.write_text("[core]\n")
    refused = ctl.run("genconf", str(dest), rc=1)
    assert "--force" in refused.stderr and dest.read_text() == "[core]\n"
    ctl.run("genconf", "--force", str(dest))
    ctl.run("config", "check", str(dest))
    # every line taken in gives the same settings, without a complaint
    live = ctl.dir / "live.ini"
    live.write_text(re.sub(r"^;", "", dest.read_text(), flags=re.M))
    done = ctl.run("config", "check", str(live))
    assert done.stdout == "%s: ok\n" % live and done.stderr == ""
    assert "cannot write" in ctl.run("genconf", str(ctl.dir / "no/such/dir.ini"), rc=1).stderr


def test_damaged_store_and_key_say_what_to_do(ctl):
    ctl.run("initdb")
    key, store = ctl.userdir / "key", ctl.userdir / "iottalk.db"
    key.write_text("no key\n")
    assert "delete it and run `iotctl initdb`" in ctl.run("initdb", rc=1).stderr
    key.unlink()
    store.write_bytes(b"no database at all " * 1000)
    told = ctl.run("initdb", rc=1).stderr
    assert str(store) in told and "move the file" in told and "iotctl initdb" in told
    told = ctl.run("start", rc=1).stderr
    assert str(store) in told and "move the file" in told
    store.rename(ctl.userdir / "away.db")
    assert "(new)" in ctl.run("initdb").stdout


def test_a_damaged_store_of_ccm_says_what_to_do(ctl):
    ctl.run("initdb")
    store = ctl.userdir / "iottalk-gui.db"
    store.write_bytes(b"no database at all " * 1000)
    told = ctl.run("initdb", rc=1).stderr
    assert str(store) in told and "move the file" in told and "iotctl initdb" in told
    told = ctl.run("start", rc=1).stderr
    assert re.search(r"^iotctl: ccm is not ready", told, re.M) and str(store) in told and "move the file" in told
    assert ctl.service("csm")["state"] == "ready"
    store.rename(ctl.userdir / "away.db")
    assert re.search(r"^projects +%s \(new\)$" % re.escape(str(store)), ctl.run("initdb", "ccm").stdout, re.M)


def test_config_check_finds_clashing_ports_and_lost_keys(ctl):
    bad = ctl.dir / "bad.ini"
    for text, words in [
        ("[core]\nhttp-port = 1883\n", "core.http-port and core-mqtt.port are both 1883"),
        ("[core]\nbind = 0.0.0.0\nhttp-port = 1884\n", "core.http-port and core-ws.port are both 1884"),
        ("[core-ws]\nport = 1883\n", "core-mqtt.port and core-ws.port are both 1883"),
        ("[gui]\nport = 9992\n", "core.http-port and gui.port are both 9992"),
        ("http-port = 1\n[core]\n", ":1: key 'http-port' stands before the first [section]"),
    ]:
        bad.write_text(text)
        assert words in ctl.run("config", "check", str(bad), rc=1).stderr
    bad.write_text("[core]\nhttp-port = 1883\n[core-mqtt]\nhost = broker.example.org\n")  # another machine
    ctl.run("config", "check", str(bad))


def test_config_check_names_file_line_and_nearest(ctl):
    bad = ctl.dir / "bad.ini"
    bad.write_text("[core]\nhtpp-port = 1\nhttp-port = 99999\n\n[core_mqtt]\nport = 1\n[broker]\nmanaged = maybe\n"
                   "[aaa]\nenable_mqtt_auth = true\n")
    done = ctl.run("config", "check", str(bad), rc=1)
    for line, words in [(2, "warning: .*'htpp-port'.*\\[core\\].*did you mean 'http-port'"),
                        (3, "error: .*core.http-port = 99999.*1 to 65535"),
                        (6, "warning: .*\\[core_mqtt\\].*did you mean \\[core-mqtt\\]"),
                        (8, "error: .*broker.managed = maybe: must be one of auto, yes, no"),
                        (10, "error: .*aaa.enable_mqtt_auth = true: .*not part of this build")]:
        kind, rest = words.split(": ", 1)
        assert re.search(r"^%s: %s:%d: %s" % (kind, re.escape(str(bad)), line, rest), done.stderr, re.M), done.stderr
    warned = ctl.dir / "warned.ini"
    warned.write_text("[core]\nhtpp-port = 1\n")
    assert "did you mean" in ctl.run("config", "check", str(warned), rc=0).stderr
    ctl.run("config", "check", str(ctl.dir / "missing.ini"), rc=1)
    ctl.run("config", "check", str(ctl.dir), rc=1)


def test_bad_value_stops_every_command(ctl):
    ctl.ini.write_text("[core]\nhttp-port = many\nuserdir = %s\n" % ctl.userdir)
    for args in (("start",), ("stop",), ("status",), ("initdb",), ("demo",)):
        done = ctl.run(*args, rc=1)
        assert "%s:2: core.http-port = many" % ctl.ini in done.stderr
    assert not ctl.userdir.exists()


def test_changed_configuration_counts_at_the_next_start(ctl):
    ctl.run("start")
    old = ctl.http_port
    ctl.http_port = free_ports(1)[0]
    ctl.write()
    ctl.run("restart", "csm")
    assert ctl.healthy()
    with socket.socket() as s:
        assert s.connect_ex(("127.0.0.1", old)) != 0


def test_initdb_is_repeatable_and_keeps_data(ctl):
    first = ctl.run("initdb").stdout
    assert first.count("(new)") == 3
    key = (ctl.userdir / "key").read_bytes()
    again = ctl.run("initdb").stdout
    assert again.count("was there, up to date") == 2 and "(new)" not in again
    assert (ctl.userdir / "key").read_bytes() == key


def test_initdb_of_one_store_makes_that_one(ctl):
    csm, ccm = ctl.userdir / "iottalk.db", ctl.userdir / "iottalk-gui.db"
    assert str(ccm) not in ctl.run("initdb", "csm").stdout
    assert csm.exists() and not ccm.exists()
    csm.unlink()
    assert str(csm) not in ctl.run("initdb", "ccm").stdout
    assert ccm.exists() and not csm.exists() and oct(ccm.stat().st_mode & 0o777) == "0o600"
    out = ctl.run("start").stdout  # what is missing is made, what is there is not spoken of
    assert "%s (new)" % csm in out and str(ccm) not in out


def test_reset_asks_first(ctl):
    ctl.run("initdb")
    stores = [ctl.userdir / "iottalk.db", ctl.userdir / "iottalk-gui.db"]
    inodes = [s.stat().st_ino for s in stores]

    def answer(text, *which):
        return on_terminal(ctl, ("initdb", "--reset", *which), text)

    assert answer(b"n\n") == 1
    assert [s.stat().st_ino for s in stores] == inodes
    assert answer(b"\n") == 1
    done = subprocess.run([str(BIN / "iotctl"), "-c", str(ctl.ini), "initdb", "--reset"], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=20, start_new_session=True)
    assert done.returncode == 1 and "nothing was deleted" in done.stderr  # no terminal: no
    mark = ctl.userdir / "iottalk.db-marker"
    mark.write_text("kept")
    before = [s.stat().st_mtime_ns for s in stores]
    assert answer(b"y\n", "ccm") == 0
    after = [s.stat().st_mtime_ns for s in stores]
    assert after[0] == before[0] and after[1] > before[1]
    assert answer(b"y\n") == 0
    assert all(s.stat().st_mtime_ns > t for s, t in zip(stores, after)) and mark.exists()
    ctl.run("start", "ccm")
    assert "ccm is running; stop it first" in ctl.run("initdb", "--reset", "ccm", rc=1).stderr


# -- demo


def test_demo_shows_squares(ctl):
    ctl.run("start")
    done = ctl.run("demo", "--seconds", "3")
    pairs = re.findall(r"^  (\d+) -> (\d+)$", done.stdout, re.M)
    assert len(pairs) >= 3 and all(int(x) ** 2 == int(y) for x, y in pairs), done.stdout
    metrics = requests.get("http://127.0.0.1:%d/metrics" % ctl.http_port, timeout=PATIENCE_S).text
    for name in ("registrations", "graphs", "links"):
        assert "\niottalk_%s 0\n" % name in metrics, metrics


def test_demo_fails_clearly_without_agent(ctl):
    ctl.run("start", "csm")
    done = ctl.run("demo", "--seconds", "1", rc=1)
    assert "iotctl: demo: not wired within 15 s (no agent has confirmed the graph); agent: stopped" in done.stderr
    metrics = requests.get("http://127.0.0.1:%d/metrics" % ctl.http_port, timeout=PATIENCE_S).text
    assert "\niottalk_registrations 0\n" in metrics and "\niottalk_graphs 0\n" in metrics  # nothing is left behind


def test_demo_counts_what_a_broker_away_has_lost(ctl):
    ctl.run("start")
    demo = ctl.popen("demo", "--seconds", "5")
    shown = ""
    while " -> " not in shown:
        line = demo.stdout.readline()
        assert line, demo.stderr.read()
        shown += line
    os.kill(ctl.supervisor_pid(), signal.SIGKILL)  # nobody brings the broker back but the start below
    os.kill(ctl.pids()["broker"], signal.SIGKILL)
    while "the broker is away" not in shown:
        line = demo.stdout.readline()
        assert line, shown
        shown += line
    ctl.run("start")
    rest, err = demo.communicate(timeout=40)
    pairs = re.findall(r"^  (\d+) -> (\d+)$", shown + rest, re.M)
    assert pairs and all(int(x) ** 2 == int(y) for x, y in pairs)
    if demo.returncode == 0:  # all of it came through after all
        counts = re.search(r"(\d+) numbers went in, (\d+) came out", rest)
        assert counts[1] == counts[2] == str(len(pairs))
    else:
        lost = re.search(r"demo: the broker was away, (\d+) of (\d+) numbers lost", err)
        assert lost and int(lost[2]) - int(lost[1]) == len(pairs), (shown + rest, err)


def test_demo_fails_clearly_without_anything(ctl):
    assert "iotctl: demo: csm does not run" in ctl.run("demo", rc=1).stderr
    assert "whole number" in ctl.run("demo", "--seconds", "soon", rc=2).stderr
