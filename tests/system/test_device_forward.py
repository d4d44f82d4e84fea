"""Store and forward: what field devices read, and what masters write to them, while the broker is away, is kept as `store` of
docs/devices.rst promises, and forwarded."""

import errno
import json
import os
import random
import signal
import socket
import sqlite3
import struct
import threading
import time
from pathlib import Path

import pytest

from crash.faults import Faults
from field_devices import FieldDevice, closing, start_gateway  # noqa: F401: fixtures
from forwarding import (INTERVAL, count_on, counting, gaps, gateway, iotctl, keep_for_another_agent, kill_broker, once,
                        plc, save_broker, status, unread)  # noqa: F401: fixtures
from modbus_masters import Raw
from modbus_peers import CountingServer
from suite import free_ports, until
from test_modbus_master import point, remote
from test_modbus_slave import point as slave_point
from test_modbus_slave import slave
from test_poor_machine import ROOT, fill, small_disk  # noqa: F401: a fixture


# ---- keep: all, latest, none

@pytest.mark.limit(400)
def test_a_minute_without_a_broker_under_a_thousand_readings_a_second(gateway, counting):
    points = [point("p%d" % a, "HOLDING_REGISTER", a, 16, interval=INTERVAL, keep="latest" if a % 5 == 0 else "all")
              for a in range(100)]
    suite, heard = gateway(plc(counting, points))
    kill_broker(suite, heard.mqtt)
    left = counting.n
    count_on(counting, round(60 / INTERVAL))
    back = counting.n
    suite.start("broker")
    # while it catches up, and is read on
    heard.until(lambda values: values[-1] > back, 150)
    counting.held = True
    heard.until(lambda values: values[-1] == counting.n, 60)
    for name, values in heard.values.items():
        values = once(values)
        assert values == sorted(values), "%s goes back" % name
        if name in ("p%d" % a for a in range(0, 100, 5)):
            assert not [v for v in values if left + 20 < v < back], "%s is kept although it is not the latest" % name
        else:
            assert gaps(values) == [], "%s has lost values" % name
    told = status(suite)["outbox"]
    assert (told["dropped"], told["expired"], told["failed"]) == (0, 0, 0)
    until(lambda: status(suite)["backlog"] == 0, 10, "the end of the backlog")


@pytest.mark.limit(120)
@pytest.mark.parametrize("default", ["all", "latest", "none"])
def test_each_point_keeps_what_it_says_and_else_what_its_device_says(gateway, counting, default):
    keeps = {"a": "all", "l": "latest", "n": "none", "d": None}
    points = [point(name, "HOLDING_REGISTER", i, 16, interval=INTERVAL, **({"keep": keep} if keep else {}))
              for i, (name, keep) in enumerate(keeps.items())]
    suite, heard = gateway(plc(counting, points, store={"keep": default}))
    kill_broker(suite, heard.mqtt)
    left, lost = {name: values[-1] for name, values in heard.values.items()}, counting.n
    last = keep_for_another_agent(suite, counting)
    suite.start("broker")
    heard.until(lambda values: values[-1] == last, 40, ["a", "l"])
    until(lambda: status(suite)["backlog"] == 0, 10, "the end of the backlog")
    for name, keep in keeps.items():
        new = [v for v in once(heard.values[name]) if v > left[name]]
        wanted = {"all": list(range(left[name] + 1, last + 1)), "latest": [last], "none": []}[keep or default]
        # some were under way when the broker went
        if (keep or default) != "all":
            new = [v for v in new if v > lost]
        assert new == wanted, name


# ---- deaths

class Writer(threading.Thread):
    """A master that writes 1, 2, 3 ... to a register, and goes on whatever happens to the slave."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.acked, self.refused, self.n, self.ended = port, [], [], 0, False
        self.start()

    def run(self):
        connection = None
        while not self.ended:
            try:
                connection = connection or Raw(self.port)
                self.n += 1
                connection.send(struct.pack(">BHH", 6, 0, self.n))
                answer = connection.answer()
                if answer is not None:
                    (self.acked if answer[2][0] == 6 else self.refused).append(self.n)
                    continue
            except OSError:
                pass
            if connection:
                connection.close()
            connection = None

    def some(self, count):
        before = len(self.acked)
        until(lambda: len(self.acked) >= before + count, 60, "%d writes" % count)

    def stop(self):
        self.ended = True
        self.join(20)

    close = stop


class Writes(FieldDevice):
    def __init__(self, *args):
        self.values = []
        super().__init__(*args)

    def take(self, message):
        if message.topic.endswith("/gateway/write"):
            self.values += [d["value"] for d in message.json["payload"]["data"]]
        else:
            self.inbox.put(message)


def kept_slave(port, **more):
    return slave("srv", port, [slave_point("x", "HOLDING_REGISTER", 0, 16)],
                 **dict({"store": {"catch_up_rate": 5000}, "transport": {"response_timeout": 5}}, **more))


def start_again(suite, port):
    suite.processes["agent"].start(ready=False)

    def listens():
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0
    until(listens, 20, "the slave")


def assert_all_arrived(writes, writer):
    until(lambda: set(writer.acked) <= set(writes.values), 60, "all that was acknowledged")
    assert writer.acked == sorted(writer.acked)
    assert once(writes.values) == sorted(once(writes.values)), "out of order"


@pytest.mark.limit(200)
@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_of_the_agent_loses_nothing_that_was_taken(gateway, closing, seed):
    """Without a broker what a master was told to be written is on the disk."""
    rng = random.Random(seed)
    port = free_ports(1)[0]
    suite, writes = gateway(kept_slave(port), seen_as=Writes)
    writer = closing(Writer(port))
    writer.some(20)
    kill_broker(suite, writes.mqtt)
    for _ in range(4):
        writer.some(rng.randrange(1, 60))
        suite.kill9("agent")
        start_again(suite, port)
    writer.some(10)
    writer.stop()
    suite.start("broker")
    suite.processes["agent"].killed = False
    assert_all_arrived(writes, writer)


@pytest.mark.limit(200)
def test_kill_9_of_agent_and_broker_loses_nothing_that_was_taken(gateway, closing):
    rng = random.Random(3)
    port = free_ports(1)[0]
    suite, writes = gateway(kept_slave(port), seen_as=Writes)
    writer = closing(Writer(port))
    for n in range(4):
        writer.some(rng.randrange(1, 60))
        if n % 2 == 0:
            suite.kill9("agent")
            kill9_heard(suite, writes.mqtt)
        else:
            kill9_heard(suite, writes.mqtt)
            suite.kill9("agent")
        start_again(suite, port)
        writer.some(rng.randrange(1, 60))
        suite.start("broker")
        writes.mqtt.wait(lambda: writes.mqtt.up, "connection to the broker")
        save_broker(suite)
    writer.some(10)
    writer.stop()
    assert_all_arrived(writes, writer)


def kill9_heard(suite, listener):
    os.kill(suite.pid("broker"), signal.SIGSTOP)
    until(lambda: unread(listener) == 0, 10, "all that the broker has sent")
    suite.kill9("broker")


def test_a_reload_and_a_disable_lose_nothing(gateway, closing):
    """Also not one after which nothing is kept any more."""
    port = free_ports(1)[0]
    suite, writes = gateway(kept_slave(port), seen_as=Writes)

    def write(*values):
        connection = closing(Raw(port))
        for value in values:
            connection.send(struct.pack(">BHH", 6, 0, value))
            assert connection.answer()[2] == struct.pack(">BHH", 6, 0, value)

    def reload(device, state="running"):
        path = status_file(suite)
        path.write_text(json.dumps(dict(json.loads(path.read_text()), devices=[device])))
        assert suite.control("agent", {"op": "device_reload", "name": "srv"})["changed"] == ["modbus_slave/srv"]
        until(lambda: status(suite, "srv")["state"] == state, 10, state)
    kill_broker(suite, writes.mqtt)
    write(1, 2, 3)
    reload(kept_slave(port, transport={"response_timeout": 6}))
    write(4, 5)
    assert suite.control("agent", {"op": "device_disable", "name": "srv"})["state"] == "ok"
    until(lambda: status(suite, "srv")["state"] == "disabled", 10, "disabled")
    assert suite.control("agent", {"op": "device_enable", "name": "srv"})["state"] == "ok"
    until(lambda: status(suite, "srv")["state"] == "running", 10, "the device")
    write(6)
    reload(kept_slave(port, store=None), "waiting")
    suite.control("agent", {"op": "device_disable", "name": "srv"})
    suite.start("broker")
    until(lambda: once(writes.values) == [1, 2, 3, 4, 5, 6], 40, "what was kept")
    writes.event("running", lambda p: p is False, 20)
    until(lambda: status(suite, "srv")["backlog"] == 0, 10, "the end of the backlog")


def status_file(suite):
    return Path(suite.control("agent", {"op": "device_list"})["file"])


def test_a_device_that_has_left_the_file_leaves_nothing(gateway, closing):
    port = free_ports(1)[0]
    suite, writes = gateway(kept_slave(port), seen_as=Writes)
    connection = closing(Raw(port))
    kill_broker(suite, writes.mqtt)
    connection.send(struct.pack(">BHH", 6, 0, 1))
    assert connection.answer()[2] == struct.pack(">BHH", 6, 0, 1)
    path = status_file(suite)
    whole = path.read_text()
    path.write_text(json.dumps(dict(json.loads(whole), devices=[])))
    assert suite.control("agent", {"op": "device_reload"})["removed"] == ["modbus_slave/srv"]
    path.write_text(whole)
    assert suite.control("agent", {"op": "device_reload"})["added"] == ["modbus_slave/srv"]
    # it is another device of that name; nobody has enabled it, as far as we know
    assert status(suite, "srv")["state"] == "disabled"
    suite.start("broker")
    until(lambda: suite.agent_status()["devices"]["bus"], 40, "the broker")
    writes.event("running", lambda p: p is False, 20)
    assert writes.values == []


# ---- limits

def test_a_full_quota_loses_the_oldest_and_tells_it(gateway, counting):
    suite, heard = gateway(plc(counting, 5, store={"quota_bytes": 16384}))
    lost_before = suite.agent_counter("device_lost")
    kill_broker(suite, heard.mqtt)
    count_on(counting, 40)
    until(lambda: status(suite)["outbox"]["dropped"] > 0, 20, "a full quota")
    assert status(suite)["outbox"]["disk_bytes"] <= 16384
    back = counting.n
    suite.start("broker")
    heard.until(lambda values: values[-1] > back)
    counting.held = True
    heard.until(lambda values: values[-1] == counting.n)
    dropped = status(suite)["outbox"]["dropped"]
    lost = 0
    for name, values in heard.values.items():
        values = once(values)
        assert values == sorted(values), "%s goes back" % name
        assert len(gaps(values)) == 1, "%s: what is lost is not the oldest: %s" % (name, gaps(values))
        lost += sum(b - a - 1 for a, b in gaps(values))
    assert lost == dropped > 0
    until(lambda: suite.agent_counter("device_lost") - lost_before == dropped, 10, "the loss on csm's page")
    assert "outbox.dropped" in suite.processes["agent"].log()


def test_what_is_too_old_is_not_forwarded(gateway, counting):
    suite, heard = gateway(plc(counting, 5, store={"max_age": 1}))
    kill_broker(suite, heard.mqtt)
    count_on(counting, 30)
    until(lambda: status(suite)["outbox"]["expired"] > 0, 20, "the first that are too old")
    back = counting.n
    suite.start("broker")
    heard.until(lambda values: values[-1] > back)
    counting.held = True
    heard.until(lambda values: values[-1] == counting.n)
    lost = 0
    for name, values in heard.values.items():
        values = once(values)
        assert values == sorted(values) and len(gaps(values)) == 1, "%s: %s" % (name, values)
        lost += sum(b - a - 1 for a, b in gaps(values))
    told = status(suite)["outbox"]
    assert (lost, told["dropped"]) == (told["expired"], 0)
    assert "outbox.expired" in suite.processes["agent"].log()


def test_a_clock_that_is_put_right_ages_nothing(gateway, counting, tmp_path):
    """A gateway without a battery starts in 1970, reads, dies, and learns what time it is."""
    faults = Faults(tmp_path)
    faults.clock(86400 - time.time())
    suite, heard = gateway(plc(counting, 5, store={"max_age": 3600}))
    suite.stop("agent")
    suite.processes["agent"].env = faults.env
    suite.start("agent")
    first = counting.n
    heard.until(lambda values: values[-1] > first)
    kill_broker(suite, heard.mqtt)
    count_on(counting, 10)
    faults.clock(0)
    count_on(counting, 25)   # it looks every second at what is too old
    suite.kill9("agent")
    faults.clock(86400 * 3650)
    suite.processes["agent"].start(ready=False)
    until(lambda: status(suite)["state"] == "running", 10, "the device")
    count_on(counting, 25)
    back = counting.n
    suite.start("broker")
    heard.until(lambda values: values[-1] > back)
    counting.held = True
    heard.until(lambda values: values[-1] == counting.n)
    assert (status(suite)["outbox"]["expired"], status(suite)["outbox"]["dropped"]) == (0, 0)
    for name, values in heard.values.items():
        # what was read at the moment of its death
        kept = [gap for gap in gaps([v for v in once(values) if v > first]) if gap[1] - gap[0] > 10]
        assert kept == [], "%s has lost values" % name


def test_catching_up_does_not_make_live_data_wait(gateway, counting, closing):
    """What keeps nothing is told while the backlog lasts: of the same device, and of another."""
    live, other = closing(CountingServer()), closing(CountingServer())
    live.held = other.held = True
    device = plc(counting, 20, store={"catch_up_rate": 5})
    device["remote_devices"].append(remote([point("live", "HOLDING_REGISTER", 0, 16, interval=INTERVAL, keep="none")], 2, enabled=True))
    counting.answer = lambda unit, pdu: (live if unit == 2 else counting).count(unit, pdu)
    suite, heard, beside = gateway(device, plc(other, [point("live", "HOLDING_REGISTER", 0, 16, interval=INTERVAL, keep="none")],
                                               name="beside"), bus_loss_grace=60)
    kill_broker(suite, heard.mqtt)
    count_on(counting, 20)
    counting.held = True
    suite.start("broker")
    until(lambda: suite.agent_status()["devices"]["bus"], 40, "the broker")
    for _ in range(10):
        for server, events in ((live, heard), (other, beside)):
            server.n += 1
            until(lambda: events.values["live"][-1] == server.n, 20, "the live value")
    assert status(suite)["backlog"] > 0, "there was no backlog any more"
    # it is seen everywhere
    until(lambda: suite.metric("iottalk_agent_gauge", name="device_backlog") > 0, 10, "the backlog on csm's page")
    assert suite.agent_status()["devices"]["backlog"] > 0
    told = json.loads(iotctl(suite, "device", "list", "--field", "--json"))["field_devices"]
    assert {d["name"]: d["backlog"] > 0 for d in told} == {"plc": True, "beside": False}
    told = json.loads(iotctl(suite, "device", "show", "plc", "--json"))
    assert told["outbox"]["oldest_us"] > 0 and told["outbox"]["disk_items"] > 0
    header, *lines = iotctl(suite, "device", "list", "--field").splitlines()
    line = next(l for l in lines if l.startswith("plc "))
    assert "BACKLOG" in header.upper() and int(line[header.upper().index("BACKLOG"):].split()[0]) > 0
    assert "waiting" in iotctl(suite, "device", "show", "plc")


# ---- a disk that is full

@pytest.mark.skipif(not ROOT, reason="mounts")
@pytest.mark.parametrize("small_disk", ["16m"], indirect=True)
def test_a_disk_without_room(gateway, closing, small_disk):
    """Forwarding goes on; what the disk refuses is refused to masters, counted, told; room is used when it is there again."""
    port = free_ports(1)[0]
    suite, writes = gateway(kept_slave(port), seen_as=Writes, suite_options={"userdir": small_disk / "userdir"})
    connection = closing(Raw(port))

    def write(value):
        connection.send(struct.pack(">BHH", 6, 0, value))
        return connection.answer()[2]
    fill(small_disk)
    assert write(1) == struct.pack(">BHH", 6, 0, 1)
    until(lambda: writes.values == [1], 10, "the value while the disk is full")
    kill_broker(suite, writes.mqtt)
    refused = 0
    while write(2) != b"\x86\4":   # there may be a page left
        refused += 1
        assert refused < 100
    until(lambda: status(suite, "srv")["outbox"]["failed"] > 0, 10, "the loss counted")
    assert "outbox.failed" in suite.processes["agent"].log()
    os.unlink(small_disk / "ballast")
    until(lambda: write(3) == struct.pack(">BHH", 6, 0, 3), 20, "a value on the disk again")
    suite.start("broker")
    until(lambda: 3 in writes.values, 40, "what was kept")
    assert write(4) == struct.pack(">BHH", 6, 0, 4)
    until(lambda: writes.values[-1] == 4, 10, "the value after all")
    assert status(suite, "srv")["state"] == "running"


def test_a_master_s_write_is_acknowledged_when_it_is_on_the_disk(gateway, closing):
    port = free_ports(1)[0]
    suite, writes = gateway(kept_slave(port), seen_as=Writes)
    connection = closing(Raw(port))
    kill_broker(suite, writes.mqtt)
    for value in range(1, 6):
        connection.send(struct.pack(">BHH", 6, 0, value))
        assert connection.answer()[2] == struct.pack(">BHH", 6, 0, value)
        with_disk = sqlite3.connect("file:%s?mode=ro" % (suite.userdir / "devices.db"), uri=True)
        bodies = [json.loads(b)["payload"]["data"] for b, in with_disk.execute("SELECT body FROM outbox WHERE address LIKE '%/write'")]
        with_disk.close()
        assert [d["value"] for data in bodies for d in data] == list(range(1, value + 1))
    suite.start("broker")
    until(lambda: once(writes.values) == [1, 2, 3, 4, 5], 40, "what was kept")


@pytest.mark.parametrize("kind, error", [("sync", errno.EIO), ("write", errno.ENOSPC)], ids=["sync fails", "no room"])
def test_a_master_s_write_is_refused_when_the_disk_refuses(gateway, closing, tmp_path, kind, error):
    """Without a broker: what is not on the disk for good is not acknowledged."""
    port = free_ports(1)[0]
    faults = Faults(tmp_path)
    suite, writes = gateway(kept_slave(port), seen_as=Writes)
    suite.stop("agent")
    suite.processes["agent"].env = faults.env
    suite.start("agent")
    kill_broker(suite, writes.mqtt)
    until(lambda: status(suite, "srv")["state"] == "running", 10, "the slave")
    connection = closing(Raw(port))

    def write(value):
        connection.send(struct.pack(">BHH", 6, 0, value))
        return connection.answer()[2]
    assert write(1) == struct.pack(">BHH", 6, 0, 1)
    with faults.failing(kind, error=error, path="devices.db"):
        assert write(2) == b"\x86\4"
        assert faults.failed(kind) > 0
        assert status(suite, "srv")["outbox"]["failed"] == 1
    until(lambda: write(3) == struct.pack(">BHH", 6, 0, 3), 20, "a value on the disk again")
    suite.kill9("agent")
    suite.processes["agent"].env = {}
    start_again(suite, port)
    suite.start("broker")
    until(lambda: 3 in writes.values, 40, "what was kept")
    assert [v for v in once(writes.values) if v != 2] == [1, 3]
