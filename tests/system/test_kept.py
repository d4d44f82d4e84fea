"""iotctl beside a service manager: daemons that a unit keeps, and the broker as a process of its own. What a real systemd makes
of it is in test_package.py."""

import json
import os
import shutil
import socket
import subprocess

import pytest

from suite import BIN, Process, until

UNIT = "kept-elsewhere.service"


class Iotctl:
    """iotctl with a systemctl that notes what it is asked for, and does what `verdict` says."""

    def __init__(self, suite, folder):
        self.suite, self.folder, self.calls = suite, folder, folder / "calls"
        self.verdict("exit 0")

    def verdict(self, script):
        fake = self.folder / "systemctl"
        fake.write_text('#!/bin/sh\necho "$*" >>%s\n%s\n' % (self.calls, script))
        fake.chmod(0o755)

    def run(self, *args, rc=0):
        env = dict(os.environ, PATH="%s:%s:/usr/sbin" % (self.folder, os.environ["PATH"]))
        env.pop("IOTTALK_UNIT", None)
        done = subprocess.run([str(BIN / "iotctl"), "-c", str(self.suite.ini), *args], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60, env=env)
        assert done.returncode == rc, "%s: %d\n%s%s" % (args, done.returncode, done.stdout, done.stderr)
        return done

    def asked(self):
        """Since the last time."""
        calls = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return calls

    def services(self, rc=0):
        return json.loads(self.run("status", "--json", rc=rc).stdout)["services"]


def test_what_a_unit_keeps_is_asked_of_systemctl(make_suite, monkeypatch, tmp_path):
    monkeypatch.setenv("IOTTALK_UNIT", UNIT)
    suite = make_suite(start=("broker", "csm", "agent", "ccm"))  # the broker is somebody else's
    ctl = Iotctl(suite, tmp_path)
    broker, csm, agent, ccm = ctl.services()
    assert [s["unit"] for s in (csm, agent, ccm)] == [UNIT] * 3
    assert [s["pid"] for s in (csm, agent, ccm)] == [suite.pid(n) for n in ("csm", "agent", "ccm")]
    assert broker["managed"] is False and broker["state"] == "ready" and "unit" not in broker
    assert "kept by systemd: " + UNIT in ctl.run("status").stdout

    ctl.run("start")
    ctl.run("start", "csm")
    ctl.run("restart", "agent")
    assert ctl.asked() == ["start iottalk-broker.service %s %s %s" % (UNIT, UNIT, UNIT), "start iottalk-broker.service " + UNIT,
                           "restart " + UNIT]
    assert "systemd keeps" in ctl.run("start", "--foreground", rc=1).stderr
    assert ctl.run("stop", "agent").stdout == "agent    stopped\n"
    assert ctl.asked() == ["stop " + UNIT]
    assert not (suite.userdir / "run/supervisor.pid").exists()

    ctl.verdict("echo 'not allowed' >&2; exit 4")
    for command in ("start", "stop", "restart"):
        done = ctl.run(command, rc=1)
        assert "not allowed" in done.stderr and "systemctl %s failed" % command in done.stderr and done.stdout == ""
    assert all(suite.processes[n].runs() for n in ("csm", "agent", "ccm"))


def test_without_a_unit_systemctl_is_not_asked(make_suite, tmp_path):
    suite = make_suite(start=("broker", "csm"))
    ctl = Iotctl(suite, tmp_path)
    ctl.run("stop", "csm")
    assert not suite.processes["csm"].runs() or suite.processes["csm"].popen.wait(5) == 0
    assert ctl.asked() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_nobody_works_in_the_state_of_another_user(make_suite, tmp_path):
    suite = make_suite(start=())
    ctl = Iotctl(suite, tmp_path)
    os.chown(suite.userdir / "key", 1, 1)
    before = sorted(suite.userdir.rglob("*"))
    for command in (["start"], ["restart"], ["initdb"], ["start", "--foreground"]):
        assert "is user 1's, and you are user 0" in ctl.run(*command, rc=1).stderr
    assert sorted(suite.userdir.rglob("*")) == before
    ctl.run("status", rc=3)


@pytest.fixture
def broker(make_suite):
    """`iotctl broker` of a suite of which nothing runs."""
    suite = make_suite({"broker.managed": "auto", "broker.plugin-socket": ""}, start=())
    p = Process("broker", [BIN / "iotctl", "-c", suite.ini, "broker"], suite.dir, False)
    p.suite = suite
    yield p
    subprocess.run([str(BIN / "iotctl"), "-c", str(suite.ini), "stop"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    if p.runs():
        p.popen.kill()
        p.popen.wait()
    conf = suite.userdir / "broker/mosquitto.conf"
    if conf.exists():  # root's broker keeps its data elsewhere
        data = next(line.split(" ", 1)[1] for line in conf.read_text().splitlines() if line.startswith("persistence_location "))
        shutil.rmtree(data, ignore_errors=True)


def test_iotctl_becomes_the_managed_broker(broker, tmp_path):
    ctl = Iotctl(broker.suite, tmp_path)
    broker.start()
    row = until(lambda: next((s for s in ctl.services(rc=3) if s["state"] == "ready"), None), 20, "the broker")
    assert (row["name"], row["pid"]) == ("broker", broker.pid)
    assert os.readlink("/proc/%d/exe" % broker.pid).endswith("mosquitto")

    second = ctl.run("broker", rc=1)
    assert "already running" in second.stderr
    ctl.run("start")  # adopts it
    row = ctl.services()[0]
    assert (row["state"], row["pid"], row["managed"]) == ("ready", broker.pid, True)
    ctl.run("stop")
    assert until(lambda: not broker.runs(), 10, "the end of the broker") and broker.popen.returncode == 0


def test_iotctl_leaves_a_broker_alone_that_is_there(broker, monkeypatch, tmp_path):
    foreign = broker.suite.processes["broker"]
    broker.suite.start("broker")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(tmp_path / "notify"))
        notices.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        broker.start()
        assert broker.popen.wait(10) == 0 and foreign.runs()
        status, ready = notices.recv(1000), notices.recv(1000)
    assert status.startswith(b"STATUS=a broker answers at 127.0.0.1 port %d" % broker.suite.mqtt_port) and ready == b"READY=1"


def test_iotctl_broker_says_what_is_wrong(make_suite, tmp_path):
    ctl = Iotctl(make_suite({"broker.managed": "auto", "broker.program": "/nonexistent/mosquitto"}, start=()), tmp_path)
    assert "takes no arguments" in ctl.run("broker", "now", rc=2).stderr
    assert "install the package mosquitto" in ctl.run("broker", rc=1).stderr


def test_logs_of_what_a_unit_keeps_are_the_journal(make_suite, monkeypatch, tmp_path):
    monkeypatch.setenv("IOTTALK_UNIT", UNIT)
    suite = make_suite()
    (suite.userdir / "log" / "csm.log").write_text("of another time\n")
    ctl = Iotctl(suite, tmp_path)
    (tmp_path / "systemctl").rename(tmp_path / "journalctl")
    assert ctl.run("logs", "csm", "-n", "7").stdout == "" and ctl.run("logs", "-f").stdout == ""
    assert ctl.asked() == ["--no-pager -n 7 -u " + UNIT, "--no-pager -n 20 -f -u %s -u %s" % (UNIT, UNIT)]
    ctl.folder = tmp_path
    suite.stop("csm")
    assert ctl.run("logs", "csm").stdout == "of another time\n"
