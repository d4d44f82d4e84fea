"""The device service as its neighbours see it: devices switched over the broker and by the control socket, kept over the deaths
of broker and agent. The devices are Modbus slaves, asked by a master of a few lines."""

import json
import socket
import struct

import pytest

from suite import PATIENCE_S, free_ports, until

GATEWAY = "gateway/gw1"


def slave(name, port, **more):
    return dict({"type": "modbus_slave", "name": name, "modbus_type": "TCP",
                 "transport": {"type": "TCP", "local_host": "127.0.0.1", "local_port": port, "remote_hosts": None,
                               "max_connections": None, "response_timeout": 2, "keep_alive_timeout": None},
                 "data": [{"name": "x", "device_id": 1, "data_type": "HOLDING_REGISTER", "start_address": 7,
                           "bit_offset": 0, "bit_count": 16}]}, **more)


def register(port):
    """The value of register 7 of unit 1; None: nobody listens."""
    with socket.socket() as s:
        s.settimeout(PATIENCE_S)
        if s.connect_ex(("127.0.0.1", port)) != 0:
            return None
        s.sendall(struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 7, 1))
        answer = s.recv(64)
    return struct.unpack(">H", answer[-2:])[0] if len(answer) == 11 else None


class Gateway:
    """An agent with a device file, and a client that hears all its devices say."""

    def __init__(self, make_suite, clients, devices, **more):
        self.devices, self.more = devices, more
        self.suite = make_suite({"agent.devices": "devices.json"}, start=())
        self.write(devices)
        self.suite.start("broker", "csm")
        self.mqtt = clients.mqtt(self.suite)
        self.heard = self.mqtt.subscribe(GATEWAY + "/+/+/gateway/#", 1)

    def write(self, devices):
        s = self.suite
        s.userdir.mkdir(exist_ok=True)
        (s.userdir / "devices.json").write_text(json.dumps(dict(
            {"name": "gw1", "mqtt": {"host": "127.0.0.1", "port": s.mqtt_port}, "csm": {"url": s.url},
             "devices": devices}, **self.more)))

    def start(self):
        self.suite.start("agent")
        return self

    def say(self, name, path, payload, retain=True, type="modbus_slave"):
        self.mqtt.publish("%s/%s/%s/system/%s" % (GATEWAY, type, name, path), payload, 1, retain)

    def await_event(self, name, word, payload, timeout=PATIENCE_S):
        topic = "%s/modbus_slave/%s/gateway/%s" % (GATEWAY, name, word)
        return self.heard.get(lambda m: m.topic == topic and m.json["payload"] == payload, timeout)

    def ask(self, op, **fields):
        return self.suite.control("agent", dict({"op": "device_" + op}, **fields))

    def state(self, name):
        return self.ask("show", name=name).get("device", {}).get("state")


@pytest.fixture
def make_gateway(make_suite, clients):
    return lambda devices, **more: Gateway(make_suite, clients, devices, **more)


def test_a_device_is_switched_over_the_broker(make_gateway):
    port, other = free_ports(2)
    g = make_gateway([slave("srv", port), slave("idle", other)]).start()
    g.await_event("srv", "running", False)
    g.await_event("idle", "running", False)
    g.say("srv", "data/x", {"value": 4711})
    g.say("srv", "enable", True)
    g.await_event("srv", "connections", [])
    message = g.await_event("srv", "running", True)
    assert message.json["source_timestamp"] <= message.json["timestamp"]
    assert register(port) == 4711
    g.say("srv", "data/x", {"timestamp": 1, "payload": {"value": 42}})
    until(lambda: register(port) == 42, 5, "the new value")
    assert register(other) is None
    g.say("srv", "enable", False)
    g.await_event("srv", "running", False)
    assert register(port) is None
    status = g.suite.agent_status()["devices"]
    assert (status["count"], status["running"], status["bus"], status["why"]) == (2, 0, True, "")
    until(lambda: g.suite.metric("iottalk_agent_gauge", name="devices") == 2, 5, "the devices on the page of metrics")
    until(lambda: g.suite.agent_counter("device_events_in") >= 4, what="its events, counted")   # the agent tells both now and then


def test_one_that_fails_harms_no_other(make_gateway):
    taken, port = free_ports(2)
    with socket.socket() as s:
        s.bind(("127.0.0.1", taken))
        s.listen()
        g = make_gateway([slave("bad", taken), slave("good", port)])
        g.say("bad", "enable", True)
        g.say("good", "enable", True)
        g.start()
        g.await_event("good", "running", True)
        until(lambda: g.state("bad") == "failed", 5, "the failure")
        assert g.ask("show", name="bad")["device"]["why"]
        assert register(port) == 0
    # it is tried again when it has been told so
    g.say("bad", "enable", True)
    g.say("bad", "enable", False)
    g.say("bad", "enable", True)
    g.await_event("bad", "running", True)


def test_enable_flapping(make_gateway):
    port, = free_ports(1)
    g = make_gateway([slave("srv", port)]).start()
    g.await_event("srv", "running", False)
    for n in range(1000):
        g.mqtt.publish(GATEWAY + "/modbus_slave/srv/system/enable", n % 2 == 0, 1, True, wait=False)
    g.say("srv", "enable", True)
    topic = GATEWAY + "/modbus_slave/srv/gateway/running"

    def ended(messages):
        return sum(m.topic == topic for m in messages) >= 1001
    words = [m.json["payload"] for m in g.heard.wait_for(ended, 30) if m.topic == topic]
    assert words == [n % 2 == 0 for n in range(1001)]
    assert g.state("srv") == "running"
    assert register(port) == 0
    # nobody can flood the log so
    assert g.suite.processes["agent"].log().count("device.running") <= 40


def test_bad_system_events(make_gateway):
    port, = free_ports(1)
    g = make_gateway([slave("srv", port)])
    g.say("srv", "enable", True)
    g.start()
    g.await_event("srv", "running", True)
    bad = [b"\xff\xfe", b"{", "", "1" * 400, {"value": -1}, {"value": 1 << 16}, {"value": "1"}, {"val": 1}, [], None,
           "{\"value\":123456789012345678901234567890}", "x" * (1 << 20), {"payload": 1, "timestamp": "x"}]
    for body in bad:
        for path in ("data/x", "data/nothing", "write", "data//x", "write/-1", "command/1e3", "remote_device/16777216/enable"):
            g.say("srv", path, body, retain=False)
    g.say("srv", "enable", b"tru", retain=False)
    g.say("srv", "data/x", {"value": 99})
    until(lambda: register(port) == 99, 5, "the good value")
    assert g.state("srv") == "running"
    assert g.suite.agent_status()["counters"]["device_events_dropped"] > 0


@pytest.mark.parametrize("grace", [60, 1], ids=["within the grace", "beyond it"])
def test_bus_loss(make_gateway, grace, clients):
    kept, port = free_ports(2)
    g = make_gateway([slave("srv", port), slave("kept", kept, store={})], bus_loss_grace=grace)
    g.say("srv", "command/single/1/6", {"value": "ON"})   # a command that somebody retained
    for name in ("srv", "kept"):
        g.say(name, "enable", True)
        g.say(name, "data/x", {"value": 5})
    g.start()
    for name in ("srv", "kept"):
        g.await_event(name, "running", True)
    broker = g.suite.processes["broker"]
    creations = g.ask("show", name="srv")["device"]["counters"]["creations"]
    broker.kill9()
    until(lambda: not g.suite.agent_status()["devices"]["bus"], 10, "the loss")
    if grace == 1:
        until(lambda: g.state("srv") == "waiting", 10, "the end of the grace")
        assert register(port) is None
    else:
        assert g.state("srv") == "running"
    assert g.state("kept") == "running" and register(kept) == 5
    # all that it had is gone, too
    for path in (g.suite.dir / "broker").iterdir():
        path.unlink()
    g.suite.start("broker")
    until(lambda: g.suite.agent_status()["devices"]["bus"], 40, "the broker again")
    until(lambda: g.state("srv") == "running", 10, "the device again")
    assert register(port) == 5 and register(kept) == 5
    assert g.ask("show", name="srv")["device"]["counters"]["creations"] == creations + (grace == 1)
    late = clients.mqtt(g.suite).subscribe(GATEWAY + "/#", 1)
    for name in ("srv", "kept"):
        for word, payload in (("gateway/running", True), ("gateway/connections", [])):
            late.get(lambda m, end="%s/%s" % (name, word), p=payload: m.topic.endswith(end) and m.json["payload"] == p, 10)
        for word, body in (("system/enable", True), ("system/data/x", {"value": 5})):
            late.get(lambda m, end="%s/%s" % (name, word), b=body: m.topic.endswith(end) and m.json == b, 10)
    assert g.suite.agent_status()["counters"]["device_events_stale"] == 1


def test_without_a_broker_it_starts_by_what_is_kept(make_gateway):
    kept, port = free_ports(2)
    g = make_gateway([slave("srv", port), slave("kept", kept, store={})])
    for name in ("srv", "kept"):
        g.say(name, "enable", True)
        g.say(name, "data/x", {"value": 7})
    g.start()
    for name in ("srv", "kept"):
        g.await_event(name, "running", True)
    g.suite.kill9("agent")
    g.suite.kill9("broker")
    g.suite.processes["agent"].start(ready=False)
    until(lambda: register(kept) == 7, 15, "the device with a store")
    assert register(port) is None
    assert g.state("srv") == "waiting"
    # switched off by people while nobody hears it
    assert g.ask("disable", name="kept")["device"]["state"] == "disabled"
    g.suite.start("broker")
    until(lambda: g.state("srv") == "running", 40, "the other one")
    assert g.state("kept") == "disabled"
    topic = GATEWAY + "/modbus_slave/kept/system/enable"
    told = g.mqtt.subscribe(topic, 1)
    told.get(lambda m: m.json == {"timestamp": m.json["timestamp"], "source_timestamp": None, "payload": False}
             if isinstance(m.json, dict) else False, 10)


def test_reload_leaves_the_others(make_gateway):
    first, second = free_ports(2)
    g = make_gateway([slave("a", first), slave("b", second)])
    g.say("a", "enable", True)
    g.say("b", "enable", True)
    g.start()
    for name in "ab":
        g.await_event(name, "running", True)
    with socket.create_connection(("127.0.0.1", first)) as master:
        g.write([slave("a", first), dict(slave("b", second), data=[])])
        answer = g.ask("reload", name="b")
        assert answer["changed"] == ["modbus_slave/b"], answer
        g.await_event("b", "running", True)
        g.write([slave("a", first), {"type": "modbus_slave"}])
        answer = g.ask("reload")
        assert answer["state"] == "error" and any("devices[1]" in e for e in answer["errors"])
        g.write([slave("a", first)])
        assert g.ask("reload")["removed"] == ["modbus_slave/b"]
        assert register(second) is None
        # the connection that was there all the time still answers
        master.settimeout(PATIENCE_S)
        master.sendall(struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 7, 1))
        assert len(master.recv(64)) == 11


def test_a_wrong_file_stops_nothing_else(make_gateway):
    g = make_gateway([{"type": "modbus_slave", "name": "x"}])
    g.start()
    status = g.suite.agent_status()
    assert status["ready"] and "devices[0]" in status["devices"]["why"]
    assert status["health"] == status["devices"]["why"]
    port, = free_ports(1)
    g.write([slave("x", port)])
    assert g.ask("reload")["added"] == ["modbus_slave/x"]
    until(lambda: g.suite.agent_status()["health"] == "ok", 10, "health")
