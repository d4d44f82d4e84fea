"""A newcomer's first hour: the package, a device, a graph, something breaks, what is it, a backup, the same suite elsewhere. In a
machine of its own (machine.py), with what a newcomer has: curl, the mosquitto clients, iotctl."""

import hashlib
import json

import pytest

from suite import SANITIZED, until
from test_package import DA_ID, HTTP, REGISTRATION, await_well, install, machine, package, started  # noqa: F401 (fixtures)

pytestmark = pytest.mark.skipif(SANITIZED, reason="what is installed is built without sanitizers")

API = "iottalk/api/%s/newcomer/graph/first"
SQUARE = "def run(x):\n    return x * x\n"
OTHER = """[core]
userdir = /root/elsewhere
http-port = 9993
[core-mqtt]
port = 1893
[core-ws]
port = 1894
[gui]
port = 7789
"""


def ask(m, op, port=1883, **fields):
    """One request of the graph API."""
    request = json.dumps(dict(fields, op=op))
    answer = json.loads(m.out("mosquitto_rr", "-p", port, "-q", 2, "-W", 10, "-t", API % "req", "-e", API % "res", "-m", request))
    assert answer["state"] == "ok", answer
    return answer


def links(m, port=1883):
    return {k["mode"]: k for k in ask(m, "attach", port)["graph"]["links"]}


def check(report, name):
    return next(c for c in report["checks"] if c["name"] == name)


def squared(m, port=1883):
    """What comes out when 5 goes in."""
    way = links(m, port)
    # again and again until the listener, which takes a moment to subscribe, has heard one and ended
    out = m.out("sh", "-c", "mosquitto_sub -p %d -q 1 -C 1 -W 10 -t %s & listener=$!; while kill -0 $listener 2>/dev/null; do "
                            "mosquitto_pub -p %d -q 1 -t %s -m '[5]'; done; wait $listener"
                % (port, way["odf"]["topic"], port, way["idf"]["topic"]))
    return out


@pytest.mark.limit(180)
def test_the_first_hour(machine):  # noqa: F811
    m = machine
    # install, start, look around
    install(m)
    started(m)
    assert m.run("iotctl", "doctor", rc=None).returncode in (0, 1)
    report = m.json("iotctl", "doctor", "--json", rc=None)
    assert check(report, "database")["state"] == "ok" and check(report, "mqtt")["state"] == "ok", report
    assert ".SH COMMANDS" in m.out("sh", "-c", "zcat -f /usr/share/man/man1/iotctl.1*")

    # register and wire
    m.run("curl", "-sS", "--fail", "-X", "PUT", HTTP + DA_ID, "-H", "Content-Type: application/json", "-d", REGISTRATION)
    assert DA_ID in m.out("iotctl", "app", "list")
    ask(m, "attach")
    square = hashlib.sha256(SQUARE.encode()).hexdigest()
    ask(m, "add_funcs", digests=[square], codes=[SQUARE])
    ask(m, "add_link", da_id=DA_ID, idf="meow", func=square)
    ask(m, "add_link", da_id=DA_ID, odf="meow", func=None)
    until(lambda: m.json("iotctl", "graph", "list", "--json")["graphs"][0]["state"] == "running", 10, "the graph")
    assert squared(m) == "25\n"
    assert "newcomer/first" in m.out("iotctl", "graph", "list")

    # the broker is gone: status says so, the logs say since when, doctor says what to do
    m.run("systemctl", "stop", "iottalk-broker.service")
    until(lambda: "no connection to the broker" in m.run("iotctl", "status", rc=None).stdout, 20, "status that tells")
    until(lambda: "broker.lost" in m.out("iotctl", "logs", "csm", "-n", "50"), what="the log that says so")
    broken = m.json("iotctl", "doctor", "--json", rc=1)
    assert check(broken, "mqtt")["state"] != "ok" and check(broken, "mqtt")["remedy"]
    m.run("systemctl", "start", "iottalk-broker.service")
    await_well(m)
    assert squared(m) == "25\n"

    # a typo in the configuration is found before it hurts
    m.run("sed", "-i", "s/^\\[core\\]/[core]\\nhtpp-port = 9992/", "/etc/iottalk/iottalk.ini")
    assert "did you mean" in m.out("iotctl", "config", "check") or "htpp-port" in m.out("iotctl", "config", "check")
    m.run("sed", "-i", "/htpp-port/d", "/etc/iottalk/iottalk.ini")

    # a key that everybody may read
    m.run("chmod", "644", "/var/lib/iottalk/key")
    spoilt = m.json("iotctl", "doctor", "--json", rc=None)
    assert any(c["state"] != "ok" and "key" in (c["why"] or "") for c in spoilt["checks"]), spoilt
    m.run("chmod", "600", "/var/lib/iottalk/key")

    # everything in one file, and from it the same suite elsewhere, beside the first
    m.run("iotctl", "backup", "/root/suite.tar")
    m.run("sh", "-c", "printf '%s' \"$1\" > /root/other.ini", "sh", OTHER)
    m.run("iotctl", "-c", "/root/other.ini", "restore", "--yes", "/root/suite.tar")
    m.run("iotctl", "-c", "/root/other.ini", "start")
    assert json.loads(m.out("curl", "-sS", "--fail", HTTP.replace("9992", "9993") + DA_ID))["name"] == "BetaCat"
    assert {k: v["topic"] for k, v in links(m, 1893).items()} == {k: v["topic"] for k, v in links(m).items()}
    until(lambda: m.json("iotctl", "-c", "/root/other.ini", "graph", "list", "--json")["graphs"][0]["state"] == "running", 10, "the graph")
    assert squared(m, 1893) == squared(m) == "25\n"
    m.run("iotctl", "-c", "/root/other.ini", "stop")
    await_well(m)
