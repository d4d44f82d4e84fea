"""iotctl device list, show, enable, disable, read, write, reload: field devices of a running agent, as a person sees them."""

import json
import os
import re
import subprocess
import unicodedata

import pytest

from modbus_peers import pymodbus_server
from suite import BIN, Suite, free_ports, until

POINTS = [{"name": "level", "interval": 0.1, "data_type": "HOLDING_REGISTER", "start_address": 5, "bit_count": 16, "scale": 0.1, "unit": "m"},
          {"name": "flow", "interval": None, "data_type": "INPUT_REGISTER", "start_address": 6, "bit_count": 16},
          {"name": "trim", "interval": 0.1, "data_type": "HOLDING_REGISTER", "start_address": 8, "bit_count": 16, "signed": True},
          {"name": "far", "interval": None, "data_type": "HOLDING_REGISTER", "start_address": 60000, "bit_count": 16},
          {"name": "pump", "interval": 0.1, "data_type": "COIL", "start_address": 7, "bit_count": 1}]
FLOATS = [{"name": "f", "interval": 0.1, "data_type": "HOLDING_REGISTER", "start_address": 10, "bit_count": 32, "format": "float32"},
          {"name": "g", "interval": 0.1, "data_type": "HOLDING_REGISTER", "start_address": 10, "bit_count": 32, "format": "float32",
           "dims": "full"}]


def master(name, port, **more):
    return dict({"type": "modbus_master", "name": name,
                 "connection": {"modbus_type": "TCP", "transport": {"type": "TCP", "host": "127.0.0.1", "port": port},
                                "connect_timeout": 20, "connect_delay": 0.2, "request_timeout": 20, "request_delay": 0,
                                "request_retry_immediate_count": 0, "request_retry_delayed_count": 0, "request_retry_delay": 0},
                 "remote_devices": [{"device_id": 1, "timeout_poll_delay": 1, "enabled": True, "data": POINTS}]}, **more)


class Bench:
    def __init__(self, folder):
        self.port, = free_ports(1)
        self.peer = pymodbus_server("TCP", self.port)
        self.path = folder / "devices.json"
        self.write(master("plc1", self.port), master("plc2", self.port))
        self.suite = Suite({"agent.devices": str(self.path)}, start=("broker", "csm", "agent", "ccm"))

    def write(self, *devices):
        self.path.write_text(json.dumps({"name": "gw1", "devices": devices}))

    def iotctl(self, *args, rc=0, **kw):
        done = subprocess.run([str(BIN / "iotctl"), "-c", str(self.suite.ini), "device", *args], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60, **kw)
        assert done.returncode == rc, "device %s: %d, wanted %d\n%s%s" % (args, done.returncode, rc, done.stdout, done.stderr)
        return done

    def status(self):
        return subprocess.run([str(BIN / "iotctl"), "-c", str(self.suite.ini), "status"], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60).stdout

    def field(self):
        return {d["name"]: d for d in json.loads(self.iotctl("list", "--field", "--json").stdout)["field_devices"]}

    def show(self, name):
        return json.loads(self.iotctl("show", name, "--json").stdout)

    def running(self, name):
        self.iotctl("enable", name)
        until(lambda: self.field()[name]["link"] == "connected", 10, "%s connected" % name)

    def close(self):
        self.suite.close()
        self.peer.close()


@pytest.fixture
def bench(tmp_path):
    b = Bench(tmp_path)
    yield b
    b.close()


def test_a_device_from_its_first_enable_to_its_last(bench):
    assert {n: (d["type"], d["enabled"], d["points"]) for n, d in bench.field().items()} == {
        "plc1": ("modbus_master", False, len(POINTS)), "plc2": ("modbus_master", False, len(POINTS))}
    assert "plc1 is enabled; state: " in bench.iotctl("enable", "plc1").stdout
    bench.running("plc1")
    assert bench.field()["plc2"]["state"] == "disabled"
    line = next(l for l in bench.iotctl("list", "--field").stdout.splitlines() if l.startswith("plc1 "))
    assert line.split()[1:5] == ["modbus_master", "yes", "running", "connected"]

    bench.peer.set("HOLDING_REGISTER", 5, 235)
    bench.peer.set("INPUT_REGISTER", 6, 77)
    assert bench.iotctl("read", "plc1", "level").stdout == "23.5\n"
    assert json.loads(bench.iotctl("read", "modbus_master/plc1", "flow", "--json").stdout)["value"] == [77]
    assert bench.iotctl("write", "plc1", "level", "12.5").stdout == "written\n"
    assert bench.peer.get("HOLDING_REGISTER", 5) == [125]
    assert bench.iotctl("write", "plc1", "trim", "-5").stdout == "written\n"
    assert bench.peer.get("HOLDING_REGISTER", 8) == [65531]
    assert bench.iotctl("write", "plc1", "trim", "--json", "-17", "--").stdout.startswith("{")
    assert bench.iotctl("read", "plc1", "trim").stdout == "-17\n"
    bench.iotctl("write", "-x", "plc1", "trim", "-5", rc=2)
    bench.iotctl("write", "plc1", "pump", "1")
    assert bench.peer.get("COIL", 7) == [1]
    until(lambda: {p["name"]: p["value"] for p in bench.show("plc1")["points_list"]}["level"] == [12.5], 5, "the polled value")
    text = bench.iotctl("show", "plc1").stdout
    for words in ("gateway/gw1/modbus_master/plc1", "level_set", "running"):
        assert words in text
    assert re.search(r"^level .* 12\.5 ", text, re.M) and "{" not in text   # tables, not JSON
    assert re.search(r"^  remote_devices\n    device_id enabled status .*\n    1         true    CONNECTED ", text, re.M)

    untouched = bench.iotctl("show", "plc2").stdout
    assert re.search(r"^driver +-$", untouched, re.M) and re.search(r"^level .* none +- +- -$", untouched, re.M)
    assert "null" not in untouched

    assert "plc1 is disabled; state: " in bench.iotctl("disable", "plc1").stdout
    until(lambda: bench.field()["plc1"]["state"] == "disabled", 5, "disabled")
    assert bench.iotctl("read", "plc1", "level", rc=1).stderr == "iotctl: device: modbus_master/plc1: the device does not run\n"


def test_what_cannot_be_done_is_told(bench):
    assert "no device 'plc9'" in bench.iotctl("show", "plc9", rc=1).stderr
    bench.running("plc1")
    assert "no point 'depth'" in bench.iotctl("read", "plc1", "depth", rc=1).stderr
    for value in ("7000", "\"x\"", "x", "null", "[1,2]"):
        assert bench.iotctl("write", "plc1", "level", value, rc=1).stderr.startswith("iotctl: device: level: ")
    # nobody writes input registers
    assert "modbus_master/plc1: the point cannot be written" in bench.iotctl("write", "plc1", "flow", "1", rc=1).stderr
    # the peer has no such register
    for args in (["read", "plc1", "far"], ["write", "plc1", "far", "1"]):
        assert bench.iotctl(*args, rc=1).stderr == "iotctl: device: modbus_master/plc1: INVALID_DATA_ADDRESS\n"
    bench.peer.close()
    until(lambda: bench.field()["plc1"]["link"] != "connected", 10, "the link to be down")
    assert "modbus_master/plc1: there is no connection" in bench.iotctl("write", "plc1", "level", "1", rc=1).stderr
    for args in (["enable"], ["read", "plc1"], ["write", "plc1", "level"], ["reload", "a", "b"], ["read", "--field", "plc1", "level"]):
        bench.iotctl(*args, rc=2)
    bench.suite.processes["agent"].stop()
    bench.iotctl("list", "--field", rc=3)
    bench.iotctl("show", "plc1", rc=3)


def test_the_quality_is_what_iottalk_is_told(bench):
    device = master("plc3", bench.port)
    device["remote_devices"][0]["data"] = FLOATS
    bench.write(device)
    bench.iotctl("reload")
    bench.peer.set("HOLDING_REGISTER", 10, 0x7fc0, 0)   # no number
    bench.running("plc3")
    told = until(lambda: [p for p in bench.show("plc3")["points_list"] if p["time_us"]], 5, "values")
    assert [(p["value"], p["quality"]) for p in told] == [(None, 1), ([0, 1, told[1]["time_us"]], 1)]
    assert bench.iotctl("read", "plc3", "f").stdout == "null (quality 1)\n"
    read = json.loads(bench.iotctl("read", "plc3", "g", "--json").stdout)
    assert read == {"value": [0, 1, read["time_us"]], "quality": 1, "time_us": read["time_us"]}
    assert read["time_us"] > told[1]["time_us"]

    bench.peer.set("HOLDING_REGISTER", 10, 0x3f80, 0)
    until(lambda: bench.show("plc3")["points_list"][0]["value"] == [1.0], 5, "a number")
    bench.peer.close()
    until(lambda: bench.field()["plc3"]["link"] != "connected", 10, "the link to be down")
    stale = bench.show("plc3")["points_list"][1]
    assert (stale["value"][:2], stale["quality"]) == ([1.0, 64], 64)


def test_the_file_is_read_again(bench):
    bench.running("plc1")
    bench.running("plc2")
    before = bench.show("plc2")["counters"]["creations"]
    assert bench.iotctl("reload").stdout == "nothing has changed\n"
    changed = master("plc1", bench.port)
    changed["remote_devices"][0]["data"] = POINTS[:1]
    bench.write(changed, master("plc2", bench.port), master("plc3", bench.port))
    told = json.loads(bench.iotctl("reload", "--json").stdout)
    assert [len(told[k]) for k in ("added", "changed", "removed", "failed")] == [1, 1, 0, 0]
    assert bench.field()["plc1"]["points"] == 1 and "plc3" in bench.field()
    assert bench.show("plc2")["counters"]["creations"] == before

    bench.write(dict(changed, name=""), master("plc2", bench.port))
    assert bench.iotctl("reload", rc=1).stderr.splitlines() == [
        "error: devices[0].name: must be a text of 1 to 255 bytes", "iotctl: device: %s is wrong, nothing is changed" % bench.path]
    assert bench.field()["plc1"]["points"] == 1
    bench.write(*[dict(changed, name="d%d" % i, restart_delay="") for i in range(25)])
    told = bench.iotctl("reload", rc=1).stderr.splitlines()
    assert [line.split(":")[1] for line in told[:20]] == [" devices[%d].restart_delay" % i for i in range(20)]
    assert told[20:] == ["and 5 more: iotctl device check %s" % bench.path, "iotctl: device: %s is wrong, nothing is changed" % bench.path]
    assert len(json.loads(bench.iotctl("reload", "--json", rc=1).stdout)["errors"]) == 25
    bench.write(dict(changed, resart_delay=1), master("plc2", bench.port), master("plc3", bench.port))
    done = bench.iotctl("reload")
    assert (done.stdout, done.stderr) == ("changed   modbus_master/plc1\n",
                                          "warning: devices[0].resart_delay: is not known (did you mean restart_delay?)\n")
    done = bench.iotctl("reload")
    assert done.stdout == "nothing has changed\n" and done.stderr.startswith("warning: devices[0].resart_delay")
    bench.path.unlink()
    assert "error: %s: No such file or directory" % bench.path in bench.iotctl("reload", rc=1).stderr
    bench.write(master("plc2", bench.port))
    assert "removed" in bench.iotctl("reload").stdout
    assert set(bench.field()) == {"plc2"}


def test_both_kinds_of_devices_are_listed(bench):
    told = json.loads(bench.iotctl("list", "--json").stdout)
    assert {d["name"] for d in told["field_devices"]} == {"plc1", "plc2"} and isinstance(told["devices"], list)
    text = bench.iotctl("list").stdout
    first, second = text.split("\n\n")
    assert first.startswith("field device") and second.startswith("number device")
    bench.suite.processes["agent"].stop()
    assert list(json.loads(bench.iotctl("list", "--json").stdout)) == ["devices"]
    assert bench.iotctl("list").stdout.startswith("number device")


def columns(text):
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)


def test_columns_stand_whatever_the_names_are(bench):
    names = ["plc1", "K\u00fcche und Keller, 1. Stock", "Ku\u0308che unten", "\u5eda\u623f\u96fb\u8868", "\U0001f50c plug"]
    bench.write(*[master(n, bench.port) for n in names])
    bench.iotctl("reload")
    lines = bench.iotctl("list", "--field").stdout.splitlines()[:len(names) + 1]
    assert {columns(line[:line.index("type" if line.startswith("field device") else "modbus_master")]) for line in lines} == {
        max(columns(n) for n in names) + 1}


def test_names_are_completed(bench):
    def complete(*words):
        return subprocess.run([str(BIN / "iotctl"), "-c", str(bench.suite.ini), "complete", "--", "device", *words], capture_output=True,
                              text=True, timeout=30, env=os.environ).stdout.split()
    assert complete("show", "") == ["plc1", "plc2"]
    assert complete("read", "plc1", "") == [p["name"] for p in POINTS]
    assert complete("write", "plc1", "p") == ["pump"]


def test_a_file_that_is_wrong_from_the_start_is_told_wherever_one_looks(bench):
    bench.path.write_text('{"name": "gw1", "devices": [{"type": "ping", "name": "net"}]}')
    agent = bench.suite.processes["agent"]
    agent.stop()
    agent.start()
    why = "%s: devices[0].remote_devices: is missing; it is a list" % bench.path
    assert bench.iotctl("list").stdout.count("not started: " + why) == 1
    assert "not started: " + why in bench.iotctl("list", "--field").stdout
    until(lambda: why in bench.status(), 10, "the status to say so")   # once csm is there
    bench.path.unlink()
    agent.stop()
    agent.start()
    assert "not started: %s: No such file or directory\n" % bench.path in bench.iotctl("list", "--field").stdout
    bench.write(master("plc1", bench.port))
    assert bench.iotctl("reload").stdout == "added     modbus_master/plc1\n"
    assert "not started" not in bench.iotctl("list", "--field").stdout


def test_what_waits_for_the_broker_is_shown(bench):
    bench.write(master("plc1", bench.port, store={}), master("plc2", bench.port))
    bench.iotctl("reload")
    bench.running("plc1")
    bench.running("plc2")
    assert "field devices 2, running 2, failed 0; values that wait 0\n" in bench.status()
    assert re.search(r"^  oldest +-$", bench.iotctl("show", "plc1").stdout, re.M)
    bench.suite.processes["broker"].stop()
    until(lambda: bench.field()["plc2"]["state"] == "waiting", 20, "the one without a store to be closed")
    assert bench.iotctl("list", "--field").stdout.splitlines()[-1] == "broker: connecting: Connection refused"
    bench.peer.set("HOLDING_REGISTER", 5, 99)
    until(lambda: bench.field()["plc1"]["backlog"] > 0, 10, "a backlog")
    assert re.search(r"^  oldest +\d+ s$", bench.iotctl("show", "plc1").stdout, re.M)
    assert re.search(r"field devices 2, running 1, failed 0; values that wait [1-9]\d*; broker: connecting: Connection refused\n",
                     bench.status())
    doctor = subprocess.run([str(BIN / "iotctl"), "-c", str(bench.suite.ini), "doctor"], stdin=subprocess.DEVNULL, capture_output=True,
                            text=True, timeout=80)
    assert re.search(r"^  devices +warning +2; their broker is not reached: connecting: Connection refused$", doctor.stdout, re.M)
    bench.suite.start("broker")
    until(lambda: bench.field()["plc1"]["backlog"] == 0 and bench.field()["plc2"]["state"] == "running", 20, "all to be as before")
    assert "broker:" not in bench.iotctl("list", "--field").stdout
    until(lambda: bench.show("plc1")["iottalk"]["online"], 20, "the device application")
    assert bench.show("plc1")["iottalk"]["why"] == ""


def test_doctor_says_which_devices_are_not_reached_and_why(bench, tmp_path):
    away, = free_ports(1)
    line = dict(master("meters", 0), connection=dict(master("x", 1)["connection"], modbus_type="RTU",
                                                     transport={"type": "SERIAL", "port": str(tmp_path / "ttyUSB0")}))
    busy = {"type": "modbus_slave", "name": "srv", "modbus_type": "TCP", "data": [], "transport": {
        "type": "TCP", "local_host": "127.0.0.1", "local_port": bench.port, "remote_hosts": None, "max_connections": None,
        "response_timeout": 1, "keep_alive_timeout": None}}
    bench.write(master("plc1", bench.port), master("off", away), master("plc9", away), line, busy)
    bench.iotctl("reload")
    for name in ("plc9", "meters", "srv"):
        bench.iotctl("enable", name)
    bench.running("plc1")
    until(lambda: bench.field()["srv"]["state"] == "failed", 10, "a port in use")
    until(lambda: all(bench.field()[n]["why"] for n in ("plc9", "meters")), 10, "reasons")
    assert bench.field()["plc1"]["why"] == ""
    assert "connecting: Connection refused" in bench.iotctl("list", "--field").stdout
    done = subprocess.run([str(BIN / "iotctl"), "-c", str(bench.suite.ini), "doctor", "--json"], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=80)
    told = {c["name"]: c for c in json.loads(done.stdout)["checks"] if c["group"] == "field devices"}
    assert set(told) == {"device file", "devices", "modbus_master/plc9", "modbus_master/meters", "modbus_slave/srv"}
    assert told["modbus_master/plc9"]["why"] == "not connected: connecting: Connection refused"
    assert told["modbus_master/meters"]["why"] == "not connected: serial line %s: No such file or directory" % (tmp_path / "ttyUSB0")
    assert "Address already in use" in told["modbus_slave/srv"]["why"]
    assert "iotctl device enable modbus_slave/srv" in told["modbus_slave/srv"]["remedy"]
    assert "iotctl device show modbus_master/plc9" in told["modbus_master/plc9"]["remedy"]
