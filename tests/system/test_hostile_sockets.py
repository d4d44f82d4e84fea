"""Rubbish on the sockets between the parts, from somebody who may open them: each ends that one's connection and nothing else."""

import json
import os
import random
import socket
import struct

import pytest

import plug
from conftest import Made
from suite import until

COUNT = "n = 0\ndef run(x):\n    global n\n    n += 1\n    return n\n"


class World:
    """A graph that counts in a global, so that an engine that was replaced is noticed."""

    def __init__(self, suite, clients):
        self.suite = suite
        self.sdk = clients.sdk(suite)
        clients.graph(suite).wire(self.sdk.da_id, "meow", "meow", COUNT)
        self.sdk.until_connected(("idf", "meow"), ("odf", "meow"))
        self.sent = 0
        self.goes_on()
        self.keeper = suite.keeper_pids()
        self.fds = self.open_fds()

    def open_fds(self):
        fds = {name: self.suite.open_fds(name) for name in ("agent", "csm", "broker")}
        fds["keeper"] = len(os.listdir("/proc/%d/fd" % self.suite.keeper_pids()[0]))
        return fds

    def goes_on(self):
        self.sent += 1
        self.sdk.push("meow", [self.sent])
        assert self.sdk.received("meow") == self.sent

    def begins_anew(self):
        """Whoever may speak to the keeper takes the agent's place: engines are begun anew when the agent has it back."""
        def works():
            self.sdk.data.take_all()
            self.sdk.push("meow", [0])
            try:
                self.sent = self.sdk.received("meow", 1)
            except AssertionError:
                return False
            return True
        until(works, 20, "a result")

    def unharmed(self):
        self.goes_on()
        assert self.suite.keeper_pids() == self.keeper
        until(lambda: self.suite.agent_status().get("engine", {}).get("ready"), 10, "the agent's view of its engines")
        until(lambda: all(n <= self.fds[name] + 3 for name, n in self.open_fds().items()), 10,
              "descriptors as before (%s, now %s)" % (self.fds, self.open_fds()))
        self.goes_on()


@pytest.fixture(scope="module")
def world(suite):
    made = Made()
    yield World(suite, made)
    made.close()


def frame(number, body, length=None):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return struct.pack("<II", len(body) if length is None else length, number) + body


def wrong_fds(tmp_path):
    """Descriptors that are no rings."""
    memfd = os.memfd_create("unsealed")
    os.ftruncate(memfd, 1 << 16)
    sealed = os.memfd_create("small", os.MFD_ALLOW_SEALING)
    ends = socket.socketpair()
    made = [os.open(tmp_path, os.O_RDONLY), os.open("/dev/zero", os.O_RDWR), os.open("/dev/null", os.O_RDWR), memfd, sealed,
            ends[0].detach(), ends[1].detach(), *os.pipe(), os.open("/proc/self/mem", os.O_RDONLY)]
    return made


def connect(path, kind=socket.SOCK_STREAM):
    s = socket.socket(socket.AF_UNIX, kind)
    s.connect(str(path))   # waits while too many others do
    s.settimeout(5)
    return s


def try_send(s, data, fds=()):
    try:
        socket.send_fds(s, [data], list(fds)) if fds else s.sendall(data)
    except OSError:
        pass  # it has hung up: so it may


RUBBISH = [b"", b"\0", b"\xff" * 8, frame(0, b"", 0), frame(0, b"{}"), frame(0, b"[]"), frame(0, {"op": 5}), frame(0, {"op": "dance"}),
           frame(0, {"op": "hello"}), frame(0, {"op": "spawn", "engine": 1, "name": "x", "fds": 3}), frame(0, {"op": "spawn"}),
           frame(0, {"op": "end", "engine": -1}), frame(0, {"op": "note", "engine": 1, "text": "x" * 100}),
           frame(0, {"op": "spawn", "engine": 1 << 40, "name": "x" * 1000, "fds": 3}), frame(0, b"{" * 1000), frame(0, b"{}", 1 << 24),
           frame(0, b"{}", (1 << 24) + 1), frame(0, b"{}", 0xffffffff), frame(7, {"op": "put"}), frame(1 << 31, b"{}"),
           frame(0, {"op": "hello", "fds": 8}), frame(0, b'{"op":"hello"')]


def test_the_keepers_socket(suite, world, tmp_path):
    path = suite.userdir / "run/keeper.sock"
    for data in RUBBISH:
        with connect(path) as s:
            try_send(s, data)
        with connect(path) as s:   # in pieces
            for i in range(len(data)):
                try_send(s, data[i:i + 1])
    world.begins_anew()
    world.unharmed()
    fds = wrong_fds(tmp_path)
    dice = random.Random(7)
    for n in range(60):
        some = [dice.choice(fds) for _ in range(dice.choice((1, 2, 3, 3, 3, 7, 8, 9, 100)))]
        with connect(path) as s:
            try_send(s, frame(0, {"op": "spawn", "engine": 100000 + n, "name": "wrong", "fds": len(some) if n % 2 else 3}), some)
            try_send(s, frame(0, {"op": "end", "engine": 100000 + n}))
    for fd in fds:
        os.close(fd)
    world.begins_anew()
    world.unharmed()


def test_a_thousand_connections_to_the_keeper(suite, world):
    path = suite.userdir / "run/keeper.sock"
    held = []
    for _ in range(1000):
        try:
            held.append(connect(path))
        except (OSError, socket.timeout):
            pass
    for s in held:
        s.close()
    world.begins_anew()
    world.unharmed()


@pytest.mark.parametrize("name", ["agent", "csm"])
def test_control_sockets(suite, world, name):
    path = suite.userdir / "run" / (name + ".sock")
    lines = [b"\n", b"{}\n", b"[]\n", b"\xff\xfe\n", b"{" * 100000 + b"\n", b'{"op":"status"', b'{"op":"graph","graph":' + b'"x' * 5000 + b'"}\n',
             b'{"op":["status"]}\n', b'{"op":"release","graph":"\\u0000"}\n', b"x" * (2 << 20), b'{"op":"status"}\n' * 5000, os.urandom(65536)]
    for data in lines:
        with connect(path) as s:
            try_send(s, data)
    held = []
    for _ in range(500):
        try:
            s = connect(path)
            s.send(b'{"op":')
            held.append(s)
        except (OSError, socket.timeout):
            break
    world.goes_on()
    for s in held:
        s.close()
    until(lambda: suite.control(name, {"op": "status"}).get("name") == name, 10, "an answer of " + name)
    world.unharmed()


def test_the_plugins_socket(suite, world, tmp_path):
    path = suite.plugin_socket
    dice = random.Random(11)
    fds = wrong_fds(tmp_path)
    for n in range(400):
        s = connect(path, socket.SOCK_SEQPACKET)
        with s:
            for _ in range(dice.randrange(1, 6)):
                op = dice.choice((dice.randrange(20), plug.PORT_ADD, plug.PORT_RESUME, plug.HELLO, 0xffffffff))
                text = dice.choice((b"", b"x", b"iottalk/esm/x", b"iottalk/esm/+", b"iottalk/esm/#", b"\xff" * 40, b"\0" * 10, os.urandom(200)))
                packet = plug.REQUEST.pack(op, n, dice.choice((0, 1, 99, 0xffffffff)), dice.choice((plug.VERSION, 0, 0xffffffff)),
                                           dice.getrandbits(8),
                                           dice.choice((len(text), len(text), 0, 0xffffffff))) + text
                if op in (plug.PORT_REMOVE, plug.PORT_HOLD, plug.PORT_RETIRE, plug.SWEEP, plug.UNTAP, plug.TAP, plug.OUT, plug.DROP_OUT):
                    continue   # commands of an agent that may give them are no rubbish
                try_send(s, packet[:dice.choice((len(packet), len(packet), dice.randrange(len(packet))))],
                         [dice.choice(fds) for _ in range(dice.choice((0, 0, 3, 4, 4, 30)))])
    for fd in fds:
        os.close(fd)
    world.unharmed()


def test_topics_and_payloads(suite, world, clients):
    mqtt = clients.mqtt(suite)
    topic = world.sdk.topics[("idf", "meow")]
    for odd in ("iottalk/esm/x", "iottalk/esm/", "iottalk/esm//", "iottalk/esm/" + "x" * 60000, topic + "/", topic.upper(), "iottalk/monitor/x"):
        for payload in (b"", b"[1]", os.urandom(1000)):
            mqtt.publish(odd, payload, 1)
    # what the client library would not send
    def raw(topic_bytes, payload):
        s = socket.create_connection(("127.0.0.1", suite.mqtt_port))
        with s:
            s.settimeout(5)
            s.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04" + b"odd%d" % random.randrange(10))
            s.recv(4)
            body = struct.pack(">H", len(topic_bytes)) + topic_bytes + payload
            left, head = len(body), b"\x30"
            while True:
                head += bytes([left & 127 | (128 if left > 127 else 0)])
                left >>= 7
                if not left:
                    break
            try_send(s, head + body)
            s.settimeout(1)
            try:
                s.recv(1)
            except OSError:
                pass
    for odd in (b"iottalk/esm/\xff\xfe", b"iottalk/esm/+", b"iottalk/esm/#", b"\xc0\x80", topic.encode() + b"\0", b"iottalk/esm/\xed\xa0\x80"):
        raw(odd, b"[1]")
    raw(topic.encode(), b"x" * (1 << 20))         # above the broker's limit with its header
    before = world.sent
    mqtt.publish(topic, b"[" + b"1," * (500 << 10) + b"1]", 0)   # 1 MiB: above [agent] max-payload
    world.goes_on()
    assert world.sent == before + 1
    world.unharmed()
