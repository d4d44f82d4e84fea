"""The Debian package in a machine of its own: installed, kept by systemd, used, taken away again; and `make install`."""

import os
import re
import shlex
import subprocess

import pytest

import suite as suites
from machine import Machine, Unavailable
from suite import ROOT, until

pytestmark = pytest.mark.skipif(suites.SANITIZED, reason="what is installed is built without sanitizers")

BUILD_S = 900  # from nothing; seconds where it has been built before
UNITS = ["iottalk-broker.service", "iottalk-csm.service", "iottalk-agent.service", "iottalk-ccm.service"]
PURGED = ["/etc/iottalk", "/var/lib/iottalk", "/usr/bin/iotctl", "/usr/lib/iottalk", "/usr/share/iottalk", "/usr/share/doc/iottalk"]
REGISTRATION = """{"name": "BetaCat", "accept_protos": ["mqtt"], "profile": {"model": "AI"},
    "idf_list": [["meow", ["dB"]]], "odf_list": [["meow", ["dB"]]]}"""
DA_ID = "df682f01-7c3a-49fd-8f5f-72ce0b6e68c0"
HTTP = "http://127.0.0.1:9992/"
# what may change where packages come and go: logs, caches, dpkg's and systemd's own books
OF_NO_CONCERN = re.compile(r"/var/(log|cache|tmp)/|/var/lib/(dpkg|systemd)/|/etc/(passwd|group|shadow|gshadow)-$|/etc/\.pwd\.lock$")
ACCOUNTS = ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"]


@pytest.fixture(scope="module")
def package():
    """build/deb/iottalk_*.deb of the sources as they are."""
    done = subprocess.run(["make", "-s", "deb"], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_S)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (deb,) = (ROOT / "build/deb").glob("iottalk_*.deb")
    return deb


@pytest.fixture
def machine(package):
    """One that never had the suite."""
    try:
        m = Machine(package)
    except Unavailable as e:
        pytest.skip("no machine of its own to install into: %s" % e)
    try:
        m.run("dpkg", "--purge", "iottalk", rc=None)
        m.run("userdel", "iottalk", rc=None)
        m.run("rm", "-rf", "/root/.iottalk", *PURGED)
        yield m
    finally:
        m.close()


def install(m):
    m.run("dpkg", "--install", "/root/package.deb")


def started(m):
    m.run("systemctl", "enable", "--now", "iottalk.target")
    return await_well(m)


def well(m):
    state = m.json("iotctl", "status", "--json", rc=None)
    return state if [s["state"] for s in state["services"]] == ["ready"] * len(UNITS) else None


def await_well(m):
    """An agent is so when it has its session with csm, a moment after both have started."""
    return until(lambda: well(m), what="a suite that is well")


def await_journal(m, unit, words):
    """systemd writes down what a unit says, and what becomes of it, when it comes to it."""
    until(lambda: words in m.out("journalctl", "--no-pager", "-u", unit).lower(), what="'%s' of %s" % (words, unit))


def pids(state):
    return [s.get("pid") for s in state["services"]]


def every_file(m):
    found = m.out("sh", "-c", "find /etc /var /usr/bin /usr/sbin /lib/systemd -xdev; ls -d /usr/lib/* /usr/lib/*.d/* /usr/share/* "
                              "/usr/share/doc/* /tmp/* /home/* /opt/* /srv/* /root/* /root/.[!.]* 2>/dev/null || true").split("\n")
    return {path for path in found if not OF_NO_CONCERN.search(path + "/") and not OF_NO_CONCERN.search(path)}


def test_lintian_finds_nothing(package):
    done = subprocess.run(["lintian", "--allow-root", str(package.parent / (
        package.stem + ".changes"))], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_library_s_packages_are_enough_for_the_examples(package, tmp_path):
    for name in ("libdan1", "libdan-dev"):
        (deb,) = package.parent.glob(name + "_*.deb")
        subprocess.run(["dpkg-deb", "--extract", str(deb), str(tmp_path)], check=True, timeout=60)
    (pc,) = tmp_path.glob("usr/lib/*/pkgconfig/dan.pc")
    env = dict(os.environ, PKG_CONFIG_PATH=str(pc.parent), PKG_CONFIG_SYSROOT_DIR=str(tmp_path), LD_LIBRARY_PATH=str(pc.parents[1]))
    subprocess.run(["make", "-s"], cwd=tmp_path / "usr/share/doc/libdan-dev/examples", env=env, check=True, timeout=60)
    done = subprocess.run([str(tmp_path / "usr/share/doc/libdan-dev/examples/dummy_device"), "a", "b"], env=env, capture_output=True,
                          text=True, timeout=20)
    assert done.returncode == 2 and done.stderr.startswith("usage: dummy_device")


def test_units_are_sound_and_hardened(machine):
    install(machine)
    verified = machine.out("systemd-analyze", "verify", *("/lib/systemd/system/" + u for u in UNITS + ["iottalk.target"]))
    assert "iottalk" not in verified
    for unit in UNITS:
        # in tenths: 30 is what must not be exceeded
        machine.run("systemd-analyze", "security", "--offline=true", "--threshold=30", "/lib/systemd/system/" + unit)


def test_the_agent_may_open_serial_lines_and_no_other_devices(machine):
    """A node without a device behind it is ENXIO for who may open it."""
    install(machine)
    unit = machine.out("cat", "/lib/systemd/system/iottalk-agent.service")
    rights = re.findall("^(?:User|SupplementaryGroups|PrivateDevices|DevicePolicy|DeviceAllow)=.*", unit, re.M)
    asks = [word for right in rights for word in ("-p", right)]
    for name, major, minor, told in (("ttyUSB77", 188, 77, "No such device or address"), ("ttyACM77", 166, 77, "No such device or address"),
                                     ("ttyS0", 4, 64, ""), ("mem", 1, 1, "Operation not permitted"),
                                     ("hidraw77", 239, 77, "Operation not permitted")):
        node = "/srv/" + name
        machine.run("sh", "-c", "mknod -m 660 %s c %d %d && chgrp dialout %s" % (node, major, minor, node))
        done = machine.out("sh", "-c", "systemd-run -q --wait --pipe %s sh -c 'exec 3<>%s' 2>&1; true" % (
            " ".join(map(shlex.quote, asks)), node))
        assert told in done and ("not permitted" in done) is ("not permitted" in told) and "Permission denied" not in done, (node, done)
        machine.run("rm", node)


def test_readme_installs(machine):
    """What README.rst says of it, line by line; the package is built already."""
    section = (ROOT / "README.rst").read_text().split("\nInstall\n-------\n")[1].split("\n----")[0]
    commands = re.search(r"^\.\. code-block:: shell\n\n((?:    .*\n)+)", section, re.M)[1].split("\n")
    assert commands.pop(0).strip() == "make deb"
    for command in commands:
        if command.strip() == "iotctl status":
            await_well(machine)
        machine.run("sh", "-c", command.strip().replace("./build/deb/iottalk_*.deb", "/root/package.deb"))
    machine.run("apt-get", "purge", "-y", "iottalk")
    assert suite_processes(machine) == []


@pytest.mark.limit(120)
def test_installed_used_and_purged(machine):
    before = every_file(machine)
    accounts = [machine.out("cat", path) for path in ACCOUNTS]

    install(machine)
    # nothing starts by itself: the ports may be another broker's
    assert [s["state"] for s in machine.json("iotctl", "status", "--json", rc=3)["services"]] == ["stopped"] * len(UNITS)
    files = ["key", "iottalk.db", "iottalk-gui.db"]
    owners = machine.out("stat", "-c", "%U %a %n", "/var/lib/iottalk", *("/var/lib/iottalk/" + f for f in files)).split("\n")
    assert owners[:4] == ["iottalk 700 /var/lib/iottalk"] + ["iottalk 600 /var/lib/iottalk/" + f for f in files]
    assert machine.out("iotctl", "config", "check") == "/etc/iottalk/iottalk.ini: ok\n"
    pages = set(re.findall(r"docs/([\w-]+)", (ROOT / "README.rst").read_text()))
    there = {name.split(".")[0] for name in machine.out("ls", "/usr/share/doc/iottalk").split()}
    assert len(pages) > 15 and pages <= there    # what the README names is beside it

    state = started(machine)
    assert suite_processes(machine) != []
    assert [s.get("unit") for s in state["services"]] == UNITS and state["supervisor"] is None
    assert pids(state) == [machine.main_pid(u) for u in UNITS]
    agent = state["services"][2]
    assert agent["transport"] == "plugin" and "sandbox_lacks" not in agent
    machine.run("curl", "-sS", "--fail", "-X", "PUT", HTTP + DA_ID, "-H", "Content-Type: application/json", "-d", REGISTRATION)
    assert "came out squared" in machine.out("iotctl", "demo", "--seconds", "1")
    # every layer of the sandbox that this machine offers is up under the unit's own restrictions
    offered = {row["name"] for row in machine.json("runuser", "-u", "iottalk", "--", "iottalk-engine", "--probe")["layers"] if row["up"]}
    layers = machine.json("python3", "-c", "import socket; s = socket.socket(socket.AF_UNIX); s.connect("
                                           "'/var/lib/iottalk/run/agent.sock'); s.sendall(b'{\"op\": \"status\"}\\n'); "
                                           "print(s.makefile().readline())")["keeper"]["layers"]
    assert offered and offered <= {row["name"] for row in layers if row["up"]}

    # a newer version over it: what runs is restarted, what was registered is there
    install(machine)
    again = await_well(machine)
    assert not set(pids(again)) & set(pids(state))
    machine.run("curl", "-sS", "--fail", HTTP + DA_ID + "/")

    # removed: stopped, state and configuration stay
    machine.run("dpkg", "--remove", "iottalk")
    assert suite_processes(machine) == []
    machine.run("test", "-e", "/var/lib/iottalk/iottalk.db")
    machine.run("dpkg", "--purge", "iottalk")
    assert every_file(machine) - before == set()
    assert [machine.out("cat", path) for path in ACCOUNTS] == accounts


def test_iotctl_beside_systemd(machine):
    """Nobody starts a second copy of what the other one keeps."""
    install(machine)
    refused = machine.run("iotctl", "start", rc=1)  # would leave root's files in the state of iottalk
    assert "systemctl start iottalk.target" in refused.stdout
    machine.run("iotctl", "initdb", rc=1)

    state = started(machine)
    machine.run("iotctl", "start")
    assert pids(await_well(machine)) == pids(state)
    assert "systemd" in machine.run("iotctl", "start", "--foreground", rc=1).stdout
    machine.run("iotctl", "restart", "csm")
    restarted = await_well(machine)
    assert [a == b for a, b in zip(pids(restarted), pids(state))] == [True, False, True, True]
    assert restarted["services"][1]["pid"] == machine.main_pid("iottalk-csm.service")

    machine.run("iotctl", "stop", "agent")
    assert [machine.unit(u, "ActiveState") for u in UNITS] == ["active", "active", "inactive", "active"]
    machine.run("iotctl", "start", "agent")
    await_well(machine)
    assert machine.out("iotctl", "stop") == "ccm      stopped\nagent    stopped\ncsm      stopped\nbroker   stopped\n"
    assert [machine.unit(u, "ActiveState") for u in UNITS] == ["inactive"] * len(UNITS)

    # the other way round: what iotctl keeps, systemd leaves alone
    as_user = ["runuser", "-u", "iottalk", "--", "iotctl"]
    machine.run(*as_user, "start")
    ours = pids(await_well(machine))
    for unit in (UNITS[0], UNITS[1], UNITS[3]):
        machine.run("systemctl", "start", "--no-block", unit)
        until(lambda: machine.unit(unit, "NRestarts") != "0", 10, "a refused start")
        await_journal(machine, unit, "already running")
        machine.run("systemctl", "stop", unit)
    assert pids(await_well(machine)) == ours
    machine.run("dpkg", "--remove", "iottalk")
    assert suite_processes(machine) == []


@pytest.mark.limit(120)
def test_systemd_replaces_what_dies_or_hangs(machine):
    install(machine)
    state = started(machine)
    machine.spawn("iotctl", "demo", "--seconds", "60")
    engines = until(lambda: processes(machine, "iottalk-engine"), 10, "an engine")
    keepers = processes(machine, "iottalk-keeper")

    machine.run("kill", "-KILL", str(state["services"][2]["pid"]))
    after = until(lambda: replaced(machine, state, 2), 20, "the next agent")
    assert (processes(machine, "iottalk-keeper"), processes(machine, "iottalk-engine")) == (keepers, engines)

    # a loop that stands still
    machine.run("sh", "-c", "mkdir -p /run/systemd/system/iottalk-csm.service.d && printf '[Service]\\nWatchdogSec=2\\n' "
                            ">/run/systemd/system/iottalk-csm.service.d/test.conf && systemctl daemon-reload")
    machine.run("systemctl", "restart", "iottalk-csm.service")
    after = until(lambda: replaced(machine, after, 1), 20, "csm with another watchdog")
    born = int(machine.unit("iottalk-csm.service", "WatchdogTimestampMonotonic"))
    until(lambda: int(machine.unit("iottalk-csm.service", "WatchdogTimestampMonotonic")) > born + 3000000, 20,
          "signs of life for longer than the watchdog's patience")
    assert machine.unit("iottalk-csm.service", "NRestarts") == "0"
    machine.run("kill", "-STOP", str(after["services"][1]["pid"]))
    until(lambda: replaced(machine, after, 1), 20, "the next csm")
    await_journal(machine, "iottalk-csm.service", "watchdog")

    # stopped, not killed: the engines go with their agent
    machine.run("systemctl", "stop", "iottalk.target")      # does not wait for what is stopped with it
    until(lambda: machine.unit("iottalk-agent.service", "ActiveState") == "inactive", what="the end of the agent")
    assert processes(machine, "iottalk-engine") + processes(machine, "iottalk-keeper") == []
    assert machine.unit("iottalk-agent.service", "Result") == "success"


def suite_processes(m):
    """Command lines of all that belongs to the suite, or runs as its user would."""
    rows = m.out("ps", "-e", "-o", "user:32=,args=").split("\n")
    return [row for row in rows if row.startswith("iottalk ") or "/iottalk" in row or "/usr/bin/csm" in row or "/usr/bin/ccm" in row]


def processes(m, name):
    return m.run("pgrep", "-x", name, rc=None).stdout.split()


def replaced(m, state, i):
    now = well(m)
    return now if now and pids(now)[i] != pids(state)[i] else None


def test_another_broker(machine):
    """One with one of the ports is a clash that is told; one that has both is used, and there is nothing to keep."""
    install(machine)
    machine.run("systemd-run", "--unit=other", "mosquitto", "-p", "1883")
    until(lambda: "1883" in machine.out("ss", "-ltn"), 10, "the other broker")
    machine.run("systemctl", "start", "iottalk-broker.service", rc=1)
    await_journal(machine, "iottalk-broker.service", "the broker's ports clash")
    machine.run("systemctl", "stop", "other", "iottalk-broker.service")

    machine.run("sh", "-c", "printf 'listener 1883 127.0.0.1\\nlistener 1884 127.0.0.1\\nprotocol websockets\\nallow_anonymous true\\n' "
                            ">/tmp/other.conf")
    machine.run("systemd-run", "--unit=other", "mosquitto", "-c", "/tmp/other.conf")
    until(lambda: "1884" in machine.out("ss", "-ltn"), 10, "the other broker")
    state = started(machine)
    broker = state["services"][0]
    assert broker["managed"] is False and "pid" not in broker
    assert (machine.unit("iottalk-broker.service", "ActiveState"), machine.unit("iottalk-broker.service", "Result")) == (
        "inactive", "success")
    assert machine.run("iotctl", "status").returncode == 0


def test_make_install_and_uninstall(tmp_path):
    places = ["DESTDIR=%s" % tmp_path, "PREFIX=/opt/iot"]

    def make(target):
        subprocess.run(["make", "-s", target] + places, cwd=ROOT, stdin=subprocess.DEVNULL, check=True, timeout=BUILD_S,
                       stdout=subprocess.DEVNULL)
        return sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())

    files = make("install")
    assert files == ["etc/iottalk/iottalk.ini"] + sorted("opt/iot/" + name for name in [
        "bin/csm", "bin/ccm", "bin/gateway-agent", "bin/iotctl", "bin/iottalk-engine", "lib/iottalk/iottalk_broker.so",
        "include/dan.h", "lib/libdan.a", "lib/libdan.so", "lib/libdan.so.1", "lib/pkgconfig/dan.pc",
        "lib/sysusers.d/iottalk.conf", "lib/systemd/system/iottalk.target", "lib/tmpfiles.d/iottalk.conf",
        "share/iottalk/iottalk.ini.sample", "share/iottalk/grafana/iottalk.json", "share/man/man1/iotctl.1", "share/man/man5/iottalk.ini.5",
        "share/man/man8/csm.8", "share/man/man8/ccm.8", "share/man/man8/gateway-agent.8", "share/man/man8/iottalk-engine.8", "share/bash-completion/completions/iotctl",
        "share/zsh/vendor-completions/_iotctl"] + ["lib/systemd/system/" + u for u in UNITS]
        + ["share/iottalk/%s/%s" % (kind, f.name) for kind in ("templates", "examples") for f in (ROOT / "conf" / kind).glob("*.json")])
    for unit, program in zip(UNITS, ("iotctl", "csm", "gateway-agent", "ccm")):
        text = (tmp_path / "opt/iot/lib/systemd/system" / unit).read_text()
        assert re.findall("^ExecStart=(\\S+) -c (\\S+)", text, re.M) == [("/opt/iot/bin/" + program, "/etc/iottalk/iottalk.ini")]
        assert "@CONF@" not in text and "@BINDIR@" not in text
    ini = tmp_path / "etc/iottalk/iottalk.ini"
    assert "\nuserdir = /var/lib/iottalk\n" in ini.read_text()
    assert make("uninstall") == []

    make("install")
    ini.write_text("[core]\n")
    make("install")
    assert ini.read_text() == "[core]\n"  # somebody's own is not overwritten
    assert make("uninstall") == ["etc/iottalk/iottalk.ini"]
