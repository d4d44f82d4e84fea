"""Store and forward: what field devices read, and what masters write to them, while the broker is away, is kept as `store` of
docs/devices.rst promises, and forwarded."""

import errno
import fcntl
import json
import os
import random
import signal
import socket
import sqlite3
import struct
import subprocess
import termios
import threading

import pytest

from clients import Recorder, raw_socket
from crash.faults import Faults
from field_devices import FieldDevice, closing, registered_devices, start_gateway  # noqa: F401: fixtures
from modbus_masters import Raw
from modbus_peers import CountingServer
from suite import BIN, free_ports, until
from test_modbus_master import master, point, remote
from test_modbus_slave import point as slave_point
from test_modbus_slave import slave
from test_poor_machine import ROOT, fill, small_disk  # noqa: F401: a fixture

INTERVAL = 0.1


class Heard(FieldDevice):
    """Notes the values of each point in the order of their events."""

    def __init__(self, mqtt, device_type, name):
        self.values = {}   # point -> values
        super().__init__(mqtt, device_type, name)

    def take(self, message):
        kind, name = message.topic.split("/")[-2:]
        if kind != "read":
            self.inbox.put(message)
        elif not message.retain:
            payload = message.json["payload"]
            if payload["result"] == "SUCCESS":
                self.values.setdefault(name, []).append(payload["value"])

    def until(self, condition, timeout=30, names=None):
        """Until condition(values of a point) holds for each point."""
        until(lambda: all(condition(self.values.get(n, [])) for n in names or list(self.values)), timeout, "the values")


@pytest.fixture
def counting(closing):
    return closing(CountingServer())


@pytest.fixture
def gateway(start_gateway):
    """gateway(device, ...): as start_gateway, and there is a value of each point that is read."""
    def start(*devices, **conf):
        conf = dict({"bus_loss_grace": 1, "sync_timeout": 0.5, "seen_as": Heard, "clean_session": False}, **conf)
        suite, *heard = start_gateway(*devices, **conf)
        for device, events in zip(devices, heard):
            count = sum(len(r["data"]) for r in device.get("remote_devices", []))
            until(lambda: len(events.values) == count, 20, "a value of each point")
        save_broker(suite)
        return [suite] + heard
    return start


def plc(server, points=10, name="plc", interval=INTERVAL, keep=None, store=None, **more):
    """A device with a store whose points are all read at once."""
    if isinstance(points, int):
        points = [point("p%d" % a, "HOLDING_REGISTER", a, 16, interval=interval, **({"keep": keep} if keep else {}))
                  for a in range(points)]
    return dict(master(name, server.port, None, remotes=[remote(points, enabled=True)], request_timeout=10),
                store=dict({"catch_up_rate": 5000}, **(store or {})), **more)


def save_broker(suite):
    """What it has of sessions survives its death."""
    path = suite.dir / "broker/mosquitto.db"
    before = path.stat().st_mtime_ns if path.exists() else 0
    os.kill(suite.pid("broker"), signal.SIGUSR1)
    until(lambda: path.exists() and path.stat().st_mtime_ns > before, 10, "the broker's file")


def unread(client):
    return struct.unpack("i", fcntl.ioctl(raw_socket(client.client.socket()), termios.FIONREAD, bytes(4)))[0]


def kill_broker(suite, *listeners):
    """What it has acknowledged has been heard by the listeners: a broker that dies takes nothing with it."""
    os.kill(suite.pid("broker"), signal.SIGSTOP)
    for listener in listeners:
        until(lambda: unread(listener) == 0, 30, "all that the broker has sent")
    suite.kill9("broker")
    until(lambda: not suite.agent_status()["devices"]["bus"], 10, "the loss")


def count_on(server, reads):
    """So many more reads."""
    before = server.n
    until(lambda: server.n >= before + reads, reads * INTERVAL * 3 + 20, "%d reads" % reads)
    return server.n


def status(suite, name="plc"):
    return until(lambda: suite.control("agent", {"op": "device_show", "name": name}), 20, "the agent")["device"]


def once(values):
    """Without what is told again: at least once is promised."""
    return list(dict.fromkeys(values))


def gaps(values):
    return [(a, b) for a, b in zip(values, values[1:]) if b != a + 1]


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
    left = {name: values[-1] for name, values in heard.values.items()}
    count_on(counting, 20)
    counting.held = True
    last = count_kept(suite, counting.n)
    # what memory has is gone, and nothing new is read
    suite.kill9("agent")
    counting.close()
    suite.processes["agent"].start(ready=False)
    until(lambda: status(suite)["state"] == "running", 10, "the device")
    suite.start("broker")
    heard.until(lambda values: values[-1] == last, 40, ["a", "l"])
    until(lambda: status(suite)["backlog"] == 0, 10, "the end of the backlog")
    for name, keep in keeps.items():
        new = [v for v in once(heard.values[name]) if v > left[name]]
        wanted = {"all": list(range(left[name] + 1, last + 1)), "latest": [last], "none": []}[keep or default]
        # a few were under way when the broker went
        if (keep or default) != "all":
            new = [v for v in new if v > left[name] + 5]
        assert new == wanted, name


def count_kept(suite, n):
    """Until the disk has the n-th value of each point that it has a row of. ret: n"""
    def kept():
        rows = {}
        for address, body in outbox_rows(suite):
            rows.setdefault(address, []).append(json.loads(body)["payload"]["value"])
        return rows and all(max(values) == n for values in rows.values())
    until(kept, 10, "value %d on the disk" % n)
    return n


def outbox_rows(suite, sink=0):
    """(address, body) of what is on the disk for good. sink: 0: events, 1: values."""
    db = sqlite3.connect("file:%s?mode=ro" % (suite.userdir / "devices.db"), uri=True)
    try:
        return [(a, b) for a, b in db.execute("SELECT address, body FROM outbox WHERE sink = ? ORDER BY seq", [sink]) if
                sink == 1 or "/read/" in a]
    finally:
        db.close()


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


def test_catching_up_does_not_make_live_data_wait(gateway, counting, closing):
    """What keeps nothing is told while the backlog lasts: of the same device, and of another."""
    live, other = closing(CountingServer()), closing(CountingServer())
    live.held = other.held = True
    device = plc(counting, 20, store={"catch_up_rate": 20})
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


def iotctl(suite, *args):
    return subprocess.run([str(BIN / "iotctl"), "-c", str(suite.ini), *args], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60, check=True).stdout


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


# ---- IoTtalk

class Graph:
    """The IDF of a point goes through a function to an ODF of a device on the Python SDK."""

    def __init__(self, suite, clients, feature, device="plc"):
        self.sdk = clients.sdk(suite, clean_session=False, data_qos=1, idf=())
        self.id = registered_devices(clients, suite, device)[device]
        self.g = clients.graph(suite)
        self.g.ok("attach")
        digest = self.g.add_funcs("def run(x):\n    return [x]\n")
        self.g.ok("add_link", da_id=self.id, idf=feature, func=digest)
        self.g.ok("add_link", da_id=self.sdk.da_id, odf="meow", func=None)
        self.sdk.until_connected(("odf", "meow"))
        self.g.until_link(self.id, "idf", feature, "connected")
        self.pushed = Recorder(clients.mqtt(suite, clean_session=False), self.g.topic(self.id, "idf", feature))

    def values(self):
        return [data[0] for _, data in self.sdk.data._items]

    def until_value(self, value, timeout=60):
        self.sdk.data.wait_for(lambda items: items and items[-1][1][0] == value, timeout)


@pytest.mark.limit(180)
@pytest.mark.parametrize("way", ["auto", "client", "plugin"])
@pytest.mark.parametrize("agent_dies", [False, True], ids=["the agent lives", "the agent dies"])
def test_what_comes_out_of_a_graph_has_no_gap_after_the_broker_was_away(gateway, clients, counting, agent_dies, way):
    suite, heard = gateway(plc(counting, 3), suite_options={"transport": way})
    graph = Graph(suite, clients, "p1")
    begin = counting.n
    count_on(counting, 20)
    # nothing is under way in csm, in the engine or in the broker when that dies
    counting.held = True
    graph.until_value(counting.n)
    save_broker(suite)
    kill_broker(suite, heard.mqtt, graph.sdk)
    counting.held = False
    count_on(counting, 40)
    if agent_dies:
        counting.held = True
        count_kept(suite, counting.n)
        suite.kill9("agent")
        suite.processes["agent"].start(ready=False)
        until(lambda: status(suite)["link"] == "connected", 20, "the device")
        counting.held = False
        count_on(counting, 10)
    suite.start("broker")
    count_on(counting, 20)
    counting.held = True
    graph.until_value(counting.n)
    values = [v for v in once(graph.pushed.values) if v > begin + 5]
    assert values == sorted(values) and gaps(values) == [], "gaps %s in what the device pushes" % gaps(values)
    values = [v for v in once(graph.values()) if v > begin + 5]
    assert values == sorted(values) and gaps(values) == [], "gaps %s" % gaps(values)


@pytest.mark.limit(120)
def test_values_for_iottalk_are_kept_as_events_are(gateway, clients, counting):
    keeps = {"a": "all", "l": "latest", "n": "none"}
    points = [point(name, "HOLDING_REGISTER", i, 16, interval=INTERVAL, keep=keep) for i, (name, keep) in enumerate(keeps.items())]
    suite, heard = gateway(plc(counting, points))
    graphs = {name: Graph(suite, clients, name) for name in keeps}
    for graph in graphs.values():
        graph.pushed.until_value(counting.n)
    counting.held = True
    for graph in graphs.values():
        graph.pushed.until_value(counting.n)
    left = counting.n
    save_broker(suite)
    kill_broker(suite, heard.mqtt)
    counting.held = False
    count_on(counting, 20)
    counting.held = True
    last = count_kept(suite, counting.n)
    # what memory has is gone, and nothing new is read
    suite.kill9("agent")
    counting.close()
    suite.processes["agent"].start(ready=False)
    until(lambda: status(suite)["state"] == "running", 10, "the device")
    suite.start("broker")
    for name in ("a", "l"):
        graphs[name].pushed.until_value(last, 40)
    until(lambda: status(suite)["backlog"] == 0, 10, "the end of the backlog")
    new = {name: [v for v in once(graph.pushed.values) if v > left] for name, graph in graphs.items()}
    assert new == {"a": list(range(left + 1, last + 1)), "l": [last], "n": []}


@pytest.mark.limit(120)
@pytest.mark.parametrize("how", ["in no graph", "suspended"])
def test_features_that_nobody_wants_keep_only_their_last_value(gateway, clients, counting, how):
    suite, heard = gateway(plc(counting, 3))
    graph = Graph(suite, clients, "p1")
    if how == "suspended":
        iotctl(suite, "app", "suspend", graph.id, "p1")
    else:
        graph.g.ok("rm_link", da_id=graph.id, idf="p1")
    # p2 is in no graph at any time, p1 no more
    until(lambda: "p1" not in json.dumps(status(suite)["iottalk"].get("wanted", [])), 5, "the end of p1")
    count_on(counting, 5)
    save_broker(suite)
    kill_broker(suite, heard.mqtt, graph.sdk)
    count_on(counting, 20)
    counting.held = True
    count_kept(suite, counting.n)
    assert outbox_rows(suite, sink=1) == []
    suite.start("broker")
    heard.until(lambda values: values[-1] == counting.n, 40)
    graph.sdk.wait(lambda: graph.sdk.up, "connection to the broker")
    graph.sdk.data.take_all()
    if how == "suspended":
        iotctl(suite, "app", "resume", graph.id, "p1")
    else:
        graph.g.request("add_link", da_id=graph.id, idf="p1", func=None)   # may be pending, until the agent is back
    graph.until_value(counting.n)
    counting.n += 1
    graph.until_value(counting.n)
    assert once(graph.values()) == [counting.n - 1, counting.n]
