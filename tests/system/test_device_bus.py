"""The device service when the broker dies, refuses or repeats itself, and what nobody should send: no command is done twice or late,
states are right afterwards. The device is a Modbus master, whose server sees what is done."""

import json
import socket
import threading

import pytest

from field_devices import GATEWAY, FieldDevice, closing, start_gateway  # noqa: F401: fixtures
from forwarding import save_broker
from modbus_peers import RawServer
from suite import free_ports, until
from test_modbus_master import master, point, remote


class Plc(RawServer):
    """Remembers what was written to it."""

    def __init__(self):
        self.written = []
        super().__init__(self.take)
        self.registers = {0: 0, 1: 0}

    def take(self, unit, pdu):
        if pdu[0] != 6:
            return self.from_registers(unit, pdu)
        self.written.append(int.from_bytes(pdu[3:5], "big"))
        self.registers[int.from_bytes(pdu[1:3], "big")] = self.written[-1]
        return pdu


@pytest.fixture
def plc(closing):
    return closing(Plc())


def device(server, name="plc", **more):
    points = [point("a", "HOLDING_REGISTER", 0, 16, interval=0.1), point("b", "HOLDING_REGISTER", 1, 16, interval=None)]
    return dict(master(name, server.port, None, remotes=[remote(points, enabled=True)]), **more)


def write(events, value, request_id="r", answered=True):
    events.tell("remote_device/1/write/b", {"request_id": request_id, "value": value})
    if answered:
        return events.event("remote_device/1/write/b", lambda p: p["request_id"] == request_id)["result"]


def bus_is_up(suite):
    return suite.agent_status()["devices"]["bus"]


def retained(suite, clients, prefix):
    """What somebody is told who comes now: topic behind the prefix -> payload. The end is known by a message of ours."""
    mqtt = clients.mqtt(suite)
    inbox = mqtt.subscribe(prefix + "#", 1)
    mqtt.publish(prefix + "end", None, 1)
    messages = inbox.wait_for(lambda items: items and items[-1].topic == prefix + "end")
    return {m.topic[len(prefix):]: m.json for m in messages if m.retain and m.payload}


def payloads(states, *paths):
    return [states["gateway/" + p]["payload"] for p in paths]


def until_said_to_run(suite, clients, prefix, runs):
    """A device that was disabled is said not to run when that is on the disk, a moment after it does not."""
    until(lambda: retained(suite, clients, prefix)["gateway/running"]["payload"] is runs, 20, "running=%s" % runs, every=0.2)


# ---- enable

def test_a_thousand_enables_end_in_the_last_one(start_gateway, plc, clients):
    """Nr. 14: instances follow each other and are never two, running events alternate, the last word holds."""
    suite, events = start_gateway(device(plc))
    events.event("status", lambda p: p == "CONNECTED")
    for last in (False, True):
        for n in range(1000):
            events.mqtt.publish(events.prefix + "system/enable", (n % 2 == 0) is not last, 1, True, wait=n == 999)
        # behind them all
        write(events, 1, answered=False)
        until(lambda: suite.control("agent", {"op": "device_show", "name": "plc"})["device"]["enabled"] is last, 20, "the last word")
        wanted = "running" if last else "disabled"
        until(lambda: suite.control("agent", {"op": "device_show", "name": "plc"})["device"]["state"] == wanted, 20, wanted)
        until_said_to_run(suite, clients, events.prefix, last)
    until(lambda: len([c for c in plc.connections if alive(c)]) == 1, 10, "one connection")
    words = [m.json["payload"] for m in events.inbox.wait_for(lambda items: True) if m.topic.endswith("/gateway/running")]
    assert all(a is not b for a, b in zip(words, words[1:])), "running events do not alternate"


def alive(connection):
    try:
        return connection.fileno() >= 0 and connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_true_false_true_at_once_is_a_new_instance(start_gateway, plc):
    suite, events = start_gateway(device(plc))
    before = suite.control("agent", {"op": "device_show", "name": "plc"})["device"]["counters"]["creations"]
    for on in (True, False, True):
        events.mqtt.publish(events.prefix + "system/enable", on, 1, True, wait=False)
    events.event("running", lambda p: p is False)
    events.event("running", lambda p: p is True)
    assert suite.control("agent", {"op": "device_show", "name": "plc"})["device"]["counters"]["creations"] == before + 1


# ---- the broker goes

@pytest.mark.limit(150)
@pytest.mark.parametrize("away, grace, store", [(1, 60, None), (20, 2, None), (20, 2, {})],
                         ids=["1 s, within the grace", "20 s", "20 s, with a store"])
def test_a_broker_that_is_away_repeats_no_command(start_gateway, plc, clients, away, grace, store):
    """Nr. 15: no command twice, none that is retained, states are right afterwards."""
    suite, events = start_gateway(device(plc, store=store), bus_loss_grace=grace)
    events.event("status", lambda p: p == "CONNECTED")
    assert write(events, 7, "r7") == "SUCCESS"
    # of somebody who has misunderstood
    events.tell("remote_device/1/write/b", {"request_id": "old", "value": 13}, retain=True)
    events.event("remote_device/1/write/b", lambda p: p["request_id"] == "old")   # it came as a fresh one
    plc.registers[0] = 1
    events.event("remote_device/1/read/a", lambda p: p.get("value") == 1)
    save_broker(suite)
    told = len(plc.requests)
    suite.kill9("broker")
    until(lambda: not bus_is_up(suite), 10, "the loss")
    plc.registers[0] = 2
    if grace == 60 or store is not None:
        # it goes on: so many polls
        until(lambda: len(plc.requests) >= told + away * 10, 3 * away + 10, "polls without a broker")
    else:
        until(lambda: not any(alive(c) for c in plc.connections), 10, "the end of the grace")
        gone = threading.Event()
        assert not gone.wait(away - grace) and not any(alive(c) for c in plc.connections)
    suite.start("broker")
    until(lambda: bus_is_up(suite), 60, "the broker")
    # the write that the saved broker has retained comes again, and is not done
    until(lambda: suite.agent_status()["counters"]["device_events_stale"] == 1, 10, "the retained command")
    events.mqtt.wait(lambda: events.mqtt.up, "connection to the broker")
    assert write(events, 8, "r8") == "SUCCESS"
    assert plc.written == [7, 13, 8]

    def right():
        states = retained(suite, clients, events.prefix)
        return payloads(states, "running", "status", "remote_device/1/status") == [True, "CONNECTED", "CONNECTED"]
    until(right, 10, "the states", every=0.2)
    events.event("remote_device/1/read/a", lambda p: p.get("value") == 2)


@pytest.mark.limit(120)
def test_a_broker_that_has_forgotten_everything_is_told_the_states(start_gateway, plc, clients):
    suite, events, off = start_gateway(device(plc, store={}), device(plc, "off", store={}), bus_loss_grace=60)
    events.event("remote_device/1/read/a")   # the last of the states that it begins with
    off.enable(False)
    before = retained(suite, clients, events.prefix)
    suite.kill9("broker")
    for path in (suite.dir / "broker").iterdir():
        path.unlink()
    suite.start("broker")
    until(lambda: bus_is_up(suite), 60, "the broker")

    def again():
        states = retained(suite, clients, events.prefix)
        return all(states.get(p) == body for p, body in before.items() if p.startswith("gateway/")) and \
            states.get("system/enable", {}) in (True, before["system/enable"])
    until(again, 20, "the states as they were", every=0.2)
    until_said_to_run(suite, clients, off.prefix, False)
    assert suite.control("agent", {"op": "device_show", "name": "off"})["device"]["state"] == "disabled"


@pytest.mark.limit(120)
@pytest.mark.parametrize("agent_too", [False, True], ids=["the agent lives", "the agent dies"])
def test_a_disabled_device_stays_so_though_the_broker_has_an_old_word(start_gateway, plc, clients, agent_too):
    """The broker comes back with what it had saved: that the device is enabled."""
    suite, events = start_gateway(device(plc, store={}), bus_loss_grace=60)
    events.event("status", lambda p: p == "CONNECTED")
    save_broker(suite)
    if agent_too:
        # answered when it is on the disk; what an event says gets there within some 20 ms
        assert suite.control("agent", {"op": "device_disable", "name": "plc"})["state"] == "ok"
        suite.kill9("agent")
    else:
        events.enable(False)
    suite.kill9("broker")
    suite.start("broker")
    mqtt = clients.mqtt(suite)
    first = mqtt.subscribe(events.prefix + "system/enable", 1)
    if agent_too:
        suite.start("agent")
    until(lambda: bus_is_up(suite), 60, "the broker")
    # it is told
    first.get(lambda m: m.json is False or isinstance(m.json, dict) and m.json["payload"] is False, 20)
    connects = plc.connects
    row = suite.control("agent", {"op": "device_show", "name": "plc"})["device"]
    assert (row["state"], row["enabled"], row["counters"]["creations"] - (not agent_too)) == ("disabled", False, 0)
    until_said_to_run(suite, clients, events.prefix, False)
    assert plc.connects == connects


# ---- a broker of a few lines

def packet(kind, body):
    length, size = b"", len(body)
    while True:
        size, low = divmod(size, 128)
        length += bytes([low | (0x80 if size else 0)])
        if not size:
            return bytes([kind]) + length + body


class RawBroker:
    """Serves the event bus of an agent, and refuses everybody else. suback: the code for each filter; published: (topic, payload)."""

    def __init__(self, port, suback=1):
        self.port, self.suback = port, suback
        self.published, self.connects, self.subscribed = [], 0, []
        self.lock = threading.Lock()
        self.connection = None
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _read(self, stream):
        kind = stream.read(1)
        length = shift = 0
        while kind:
            octet = stream.read(1)[0]
            length |= (octet & 127) << shift
            shift += 7
            if not octet & 128:
                return kind[0], stream.read(length)
        return 0, b""

    def send(self, octets):
        with self.lock:
            self.connection.sendall(octets)

    def publish(self, topic, payload, mid, dup=False, retain=False):
        topic = topic.encode()
        self.send(packet(0x32 | (8 if dup else 0) | retain, len(topic).to_bytes(2, "big") + topic + mid.to_bytes(2, "big") + payload))

    def _serve(self, connection):
        try:
            with connection, connection.makefile("rb") as stream:
                while True:
                    kind, body = self._read(stream)
                    if not kind:
                        return
                    self._answer(connection, kind, body)
        except (OSError, IndexError):
            pass

    def _answer(self, connection, kind, body):
        if kind >> 4 == 1:
            named = b"gateway-" in body
            if named:
                self.connection = connection
                self.connects += 1
            connection.sendall(b"\x20\2\0" + (b"\0" if named else b"\3"))
        elif kind >> 4 == 8:
            filters, at = [], 2
            while at < len(body):
                size = int.from_bytes(body[at:at + 2], "big")
                filters.append(body[at + 2:at + 2 + size].decode())
                at += size + 3
            self.subscribed += filters
            self.send(packet(0x90, body[:2] + bytes([self.suback] * len(filters))))
        elif kind >> 4 == 3:
            size = int.from_bytes(body[:2], "big")
            topic, rest = body[2:2 + size].decode(), body[2 + size:]
            if kind & 6:
                self.send(b"\x40\2" + rest[:2])
                rest = rest[2:]
            self.published.append((topic, rest))
            if topic.endswith("/sync") and self.suback < 0x80:
                self.publish(topic, rest, 60000)
        elif kind >> 4 == 12:
            self.send(b"\xd0\0")

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def own_broker(make_suite, tmp_path, closing):
    """own_broker(device, ...): an agent whose event bus is a broker of ours; ret: the suite and the broker."""
    def start(*devices, **broker):
        raw = closing(RawBroker(free_ports(1)[0], **broker))
        path = tmp_path / "devices.json"
        path.write_text(json.dumps({"name": GATEWAY, "mqtt": {"host": "127.0.0.1", "port": raw.port}, "sync_timeout": 0.3,
                                    "devices": devices}))
        return make_suite({"agent.devices": path}), raw
    return start


def test_a_subscription_that_is_refused_is_told_and_tried_again(own_broker, plc):
    suite, broker = own_broker(device(plc, store={}), suback=0x80)
    until(lambda: len(broker.subscribed) >= 3, 10, "subscriptions")
    until(lambda: "refused" in suite.processes["agent"].log(), 20, "its word")
    assert suite.processes["agent"].runs()
    # what can be done without hearing is done
    assert suite.control("agent", {"op": "device_enable", "name": "plc"})["state"] == "ok"
    until(lambda: any(t.endswith("/gateway/running") and b"true" in p for t, p in broker.published), 20, "the device's word")
    broker.suback = 1
    heard = len(broker.subscribed)
    until(lambda: len(broker.subscribed) >= heard + 3, 60, "another try")
    prefix = "gateway/%s/modbus_master/plc/system/" % GATEWAY
    until(lambda: suite.agent_status()["devices"]["bus"], 10, "the bus")
    broker.publish(prefix + "remote_device/1/write/b", b'{"request_id":"r","value":5}', 1)
    until(lambda: plc.written == [5], 10, "the write")


def test_a_message_that_the_broker_repeats_is_done_once(own_broker, plc):
    suite, broker = own_broker(device(plc, store={}))
    prefix = "gateway/%s/modbus_master/plc/system/" % GATEWAY
    until(lambda: suite.agent_status()["devices"]["bus"], 10, "the bus")
    broker.publish(prefix + "enable", b"true", 1)
    until(lambda: suite.control("agent", {"op": "device_show", "name": "plc"})["device"]["link"] == "connected", 10, "the device")
    body = b'{"request_id":"r","value":%d}'
    broker.publish(prefix + "remote_device/1/write/b", body % 5, 2)
    until(lambda: plc.written == [5], 10, "the write")
    broker.publish(prefix + "remote_device/1/write/b", body % 5, 2, dup=True)
    broker.publish(prefix + "remote_device/1/write/b", body % 6, 3)
    until(lambda: plc.written[-1] == 6, 10, "the next write")
    broker.publish(prefix + "remote_device/1/write/b", body % 6, 4)   # asked for twice, not repeated
    until(lambda: len(plc.written) == 3, 10, "the same once more")
    # a repetition of what did not come before is done
    broker.publish(prefix + "remote_device/1/write/b", body % 7, 5, dup=True)
    until(lambda: plc.written == [5, 6, 6, 7], 10, "the one that came as a repetition only")
    assert suite.agent_status()["counters"]["device_events_twice"] == 1


# ---- what nobody should send

def test_a_retained_command_from_before_the_start_is_not_done(make_suite, clients, plc, tmp_path):
    """Nr. 16."""
    path = tmp_path / "devices.json"
    path.write_text(json.dumps({"name": GATEWAY, "devices": [device(plc)]}))
    suite = make_suite({"agent.devices": path}, start=("broker", "csm"))
    events = FieldDevice(clients.mqtt(suite), "modbus_master", "plc")
    for path, payload in (("remote_device/1/write/b", {"request_id": "old", "value": 1}), ("command/single/1/6", {"value": "ON"}),
                          ("remote_device/1/read", {}), ("interrogation", {}), ("enable", True)):
        events.tell(path, payload, retain=True)
    suite.start("agent")
    events.event("status", lambda p: p == "CONNECTED", 20)
    assert write(events, 2, "new") == "SUCCESS"
    assert plc.written == [2]
    assert suite.agent_status()["counters"]["device_events_stale"] == 4


def test_bad_system_events_leave_the_device_alive(start_gateway, plc):
    """Nr. 17."""
    suite, events = start_gateway(device(plc))
    events.event("status", lambda p: p == "CONNECTED")
    whole = 1 << 20
    bodies = [b"", b"{", b"\xff\xfe\xfd", b"null", b"5", b"[]", b"\"x\"", {}, {"value": 1}, {"request_id": "x"},
              {"request_id": 5, "value": 1}, {"request_id": "x", "value": "1"}, {"request_id": "x", "value": -1},
              {"request_id": "x", "value": 65536}, {"request_id": "x", "value": 1e3}, {"request_id": "x", "value": None},
              b'{"request_id":"x","value":' + b"9" * 400 + b"}", b'{"request_id":"x","value":1e999}',
              {"timestamp": "now", "payload": {"request_id": "x", "value": 1}}, b"[" * 100000]
    paths = ["remote_device/1/write/nothing", "remote_device/-1/write/b", "remote_device/1e3/write/b",
             "remote_device/16777216/write/b", "remote_device//write/b", "remote_device/1/write/", "remote_device/1/write/b/c", "write",
             "remote_device/999999999999999999999/write/b", "/", "remote_device/1/%zz", "enable/x", "nothing"]
    for body in bodies:
        events.tell("remote_device/1/write/b", body)
    for path in paths:
        for body in ({"request_id": "x", "value": 1}, b"{"):
            events.tell(path, body)
    room = whole - len(events.prefix + "system/remote_device/1/write/b") - 16
    for body in (b"x" * room, b'{"request_id":"x","value":1,"more":"' + b"x" * (room - 40) + b'"}', b"1" * room):
        events.tell("remote_device/1/write/b", body)
    events.mqtt.publish(events.prefix.replace("modbus_master", "") + "system/enable", True, 1)   # a segment that is empty
    events.mqtt.publish("gateway/%s/modbus_master/plc//system/enable" % GATEWAY, False, 1)
    for body in (b"tru", b"\xff"):
        events.tell("remote_device/1/enable", body)
    assert write(events, 9, "good") == "SUCCESS"
    assert plc.written[-1] == 9 and set(plc.written) <= {1, 9}
    status = suite.agent_status()
    assert status["counters"]["device_events_dropped"] > 0 and status["counters"]["device_events_refused"] > 0
    row = suite.control("agent", {"op": "device_show", "name": "plc"})["device"]
    assert (row["state"], row["counters"]["creations"]) == ("running", 1)
    assert "event.dropped" in suite.processes["agent"].log() and "device.event_refused" in suite.processes["agent"].log()
