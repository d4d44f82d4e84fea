"""The broker plugin between an agent and engines written from the documents (plug.py), in a real mosquitto."""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading

import pytest

import plug
from clients import Mqtt, new_id
from plug import (AT_MESSAGE, DROP_OUT, ECHO, HELD, LIST, LIVING, MORE, OUT, PORT_ADD, PORT_HOLD, PORT_REMOVE, PORT_RESUME,
                  PORT_RETIRE, PUBLISH, RUNNING, SANE, SKIP, STATE_BROKEN, TAP, UNTAP, Agent, Broker, EchoEngine, Engine,
                  Record, Rings)
from suite import until


def esm():
    return "iottalk/esm/" + new_id()


class Bench:
    """Closes in order whatever a test makes."""

    def __init__(self):
        self.all = []

    def add(self, thing):
        self.all.append(thing)
        return thing

    def broker(self, *args, **kw):
        return self.add(Broker(*args, **kw))

    def agent(self, broker, **kw):
        return self.add(Agent(broker.socket, **kw))

    def rings(self, *args, **kw):
        return self.add(Rings(*args, **kw))

    def engine(self, rings):
        return self.add(Engine(rings))

    def mqtt(self, broker, **kw):
        return self.add(Mqtt(broker, **kw))

    def echo(self, rings):
        engine = EchoEngine(rings)
        self.add(Closer(engine.stop))
        return engine

    def close(self):
        failures = []
        for thing in reversed(self.all):
            try:
                thing.close()
            except AssertionError as e:
                failures.append(str(e))
        assert not failures, "\n".join(failures)


class Closer:
    def __init__(self, fn):
        self.close = fn


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.close()


@pytest.fixture
def world(bench):
    """A broker, an agent, one port "e1" with an engine, a client."""
    return World(bench)


class World:
    def __init__(self, bench, broker=None, in_bytes=1 << 16, out_bytes=1 << 16):
        self.bench = bench
        self.broker = broker or bench.broker()
        self.agent = bench.agent(self.broker)
        self.rings = bench.rings(in_bytes, out_bytes)
        self.port = self.agent.add("e1", self.rings.fds())
        self.engine = bench.engine(self.rings)
        self.client = bench.mqtt(self.broker)

    def tap(self, slot=0):
        topic = esm()
        self.agent.tap(self.port, slot, topic)
        return topic

    def out(self, slot=0):
        """ret: an Inbox of what is published there"""
        topic = esm()
        self.agent.out(self.port, slot, topic)
        return self.client.subscribe(topic)

    def replace_engine(self, skip=False):
        self.agent.ok(PORT_RETIRE, port=self.port, flags=SKIP if skip else 0)
        self.rings.next_engine()
        self.engine = self.bench.engine(self.rings)
        self.agent.ok(PORT_RESUME, port=self.port, fds=self.rings.engine_fds())


# ---- messages and results


def test_an_echo_proves_that_devices_and_plugin_meet_in_this_broker(world):
    source, target = esm(), esm()
    echoes = world.client.subscribe(target)
    world.agent.ok(ECHO, source + "\0" + target)
    world.client.publish(source, "probe", 1)
    assert echoes.get().payload == b"probe"
    world.client.publish(source, "again", 1)
    world.agent.ok(ECHO, source + "\0" + target)
    world.client.publish(source, "third", 1)
    assert echoes.get().payload == b"third", "one echo for each request"


def test_a_tapped_message_is_on_the_ring_with_slot_qos_and_payload(world):
    one, two = world.tap(7), world.tap(1000)
    other = world.client.subscribe(one)  # ordinary subscribers are served as ever
    for qos in (0, 1, 2):
        world.client.publish(one, "[%d]" % qos, qos)
        assert world.engine.take() == Record(7, qos, b"[%d]" % qos)
        got = other.get()
        assert (got.payload, got.qos) == (b"[%d]" % qos, qos)
    world.client.publish(two, b"\x00\xff", 1)
    assert world.engine.take() == Record(1000, 1, b"\x00\xff")
    world.client.publish(two, None, 1)
    assert world.engine.take() == Record(1000, 1, b"")
    world.client.publish(one + "x", "[1]", 1)
    world.client.publish(esm(), "[1]", 1)
    world.client.publish("iottalk/esm", "[1]", 1)
    world.engine.nothing()
    assert world.agent.stats()["received"] == 5


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_results_are_published_in_order_with_their_qos(world, qos):
    inbox = world.out(3)
    for n in range(300):
        assert world.engine.reply(3, b"[%d]" % n, qos)
    for n in range(300):
        got = inbox.get()
        assert (got.payload, got.qos, got.retain) == (b"[%d]" % n, qos, False)


def test_a_result_is_published_without_a_message_to_wake_the_broker(world):
    """Each comes alone to a broker that waits; that the wait is ended by it is looked at, not timed."""
    inbox = world.out(3)
    for n in range(20):
        world.engine.reply(3, b"%d" % n)
        assert inbox.get().payload == b"%d" % n
    masks = plug.signals(world.broker.pid)
    assert plug.has_signal(masks["SigCgt"]), "SIGIO has a handler"
    assert not plug.has_signal(masks["SigBlk"]), "the broker does not block SIGIO in its wait"
    assert plug.flags_of(world.rings.result_r) & os.O_ASYNC, "the result pipe is in signal-driven mode"
    calls = traced(world.broker.pid, lambda: [world.engine.reply(3, b"x") and inbox.get() for _ in range(20)])
    interrupted = [c for c in calls if "epoll_wait" in c and "EINTR" in c]
    assert len(interrupted) >= 10, "results interrupt the broker's wait:\n" + "\n".join(calls[-60:])


def traced(pid, action):
    """ret: the system calls of the process while action runs"""
    path = "/tmp/plugin-trace-%d" % os.getpid()
    tracer = subprocess.Popen(["strace", "-qq", "-o", path, "-p", str(pid)], stderr=subprocess.PIPE)
    try:
        until(lambda: int(re.search(r"TracerPid:\s*(\d+)", open("/proc/%d/status" % pid).read())[1]), what="strace")
        action()
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
    with open(path) as f:
        lines = f.read().splitlines()
    os.unlink(path)
    return lines


def test_more_results_than_one_turn_takes_all_come(bench):
    w = World(bench, out_bytes=1 << 18)
    inbox = w.out(0)
    for n in range(5000):
        assert w.engine.reply(0, b"%d" % n, kick=False)
    w.engine.kick()
    got = inbox.wait_for(lambda items: len(items) == 5000, 30)
    assert [int(m.payload) for m in got] == list(range(5000))


def test_one_topic_feeds_several_ports(world):
    topic = world.tap(5)
    rings = world.bench.rings()
    port = world.agent.add("e2", rings.fds())
    engine = world.bench.engine(rings)
    world.agent.tap(port, 9, topic)
    world.client.publish(topic, "[1]", 1)
    assert world.engine.take() == Record(5, 1, b"[1]")
    assert engine.take() == Record(9, 1, b"[1]")
    world.agent.ok(UNTAP, port=world.port, slot=5)
    world.client.publish(topic, "[2]", 1)
    assert engine.take() == Record(9, 1, b"[2]")
    world.engine.nothing()
    world.agent.ok(PORT_REMOVE, port=port)
    world.client.publish(topic, "[3]", 1)
    assert world.agent.stats()["topics"] == 0


def test_retained_messages_of_clients_are_messages(world):
    topic = world.tap(2)
    world.client.publish(topic, "[1]", 1, retain=True)
    assert world.engine.take() == Record(2, 1, b"[1]")


def test_large_payloads_up_to_the_limit_and_a_counted_drop_above(bench):
    w = World(bench, in_bytes=1 << 20, out_bytes=1 << 20)
    topic, inbox = w.tap(1), w.out(1)
    payload = os.urandom(262144)
    w.client.publish(topic, payload, 2)
    assert w.engine.take() == Record(1, 2, payload)
    w.client.publish(topic, payload + b"x", 2)
    w.client.publish(topic, "[1]", 2)
    assert w.engine.take().payload == b"[1]"
    assert w.agent.slot_stats(w.port) == {1: (3, 0, 1)}
    assert w.agent.stats()["dropped.too_large"] == 1
    w.engine.reply(1, payload)
    assert inbox.get().payload == payload


def test_the_limits_are_options(bench):
    w = World(bench, bench.broker("plugin_opt_max_payload 10\nplugin_opt_max_result 20"))
    topic, inbox = w.tap(1), w.out(1)
    w.client.publish(topic, "x" * 11, 1)
    w.client.publish(topic, "x" * 10, 1)
    assert len(w.engine.take().payload) == 10
    w.engine.reply(1, b"y" * 21)
    w.engine.reply(1, b"y" * 20)
    assert len(inbox.get().payload) == 20
    stats = w.agent.stats()
    assert (stats["dropped.too_large"], stats["dropped.result_too_large"]) == (1, 1)


def test_a_message_larger_than_the_ring_is_dropped_and_counted(bench):
    w = World(bench, in_bytes=4096)
    topic = w.tap(1)
    w.client.publish(topic, "x" * 5000, 1)
    w.client.publish(topic, "x", 1)
    assert w.engine.take().payload == b"x"
    assert w.agent.stats()["dropped.too_large"] == 1


def test_a_topic_of_the_longest_length_is_tapped_and_published_to(world):
    topic = "iottalk/esm/" + "t" * (65535 - len("iottalk/esm/"))
    world.agent.tap(world.port, 0, topic)
    world.agent.out(world.port, 0, topic)
    assert world.agent.list(world.port) == {(False, 0): topic, (True, 0): topic}
    world.client.publish(topic, "[1]", 1)
    assert world.engine.take().payload == b"[1]"
    inbox = world.client.subscribe(topic)
    world.engine.reply(0, b"[2]")
    assert inbox.get().payload == b"[2]"


def test_a_full_ring_drops_and_counts_and_the_broker_goes_on(bench):
    w = World(bench, in_bytes=4096)
    topic = w.tap(4)
    inbox = w.client.subscribe(topic)
    for n in range(400):
        w.client.publish(topic, "[%d]" % n, 1, wait=False)
    inbox.wait_for(lambda items: len(items) == 400)
    received, no_room, too_large = w.agent.slot_stats(w.port)[4]
    assert received == 400 and too_large == 0
    kept = 400 - no_room
    assert kept == 4096 // 24
    for n in range(kept):
        assert w.engine.take().payload == b"[%d]" % n, "the oldest are kept, in order"
    w.client.publish(topic, "[400]", 1)
    assert w.engine.take().payload == b"[400]"
    assert w.agent.stats()["dropped.ring_full"] == no_room


def test_a_full_wake_pipe_and_an_engine_that_never_wakes_hold_nobody(bench):
    w = World(bench, in_bytes=1 << 20)
    topic = w.tap(0)
    w.engine._asleep(1)
    try:
        while True:  # full: nobody reads it
            os.write(w.rings.wake_w, b"x" * 4096)
    except BlockingIOError:
        pass  # the plugin has made its end non-blocking, and it is the same description
    inbox = w.client.subscribe(topic)
    for n in range(1000):
        w.client.publish(topic, "[%d]" % n, 0, wait=False)
    inbox.wait_for(lambda items: len(items) == 1000)
    assert w.agent.stats()["received"] == 1000


def test_results_for_a_dropped_slot_are_late_for_an_unknown_slot_the_end(world):
    inbox = world.out(1)
    world.agent.out(world.port, 2, esm())
    world.agent.ok(DROP_OUT, port=world.port, slot=2)
    world.engine.reply(2, b"late")
    world.engine.reply(1, b"in time")
    assert inbox.get().payload == b"in time"
    assert world.agent.stats()["dropped.late_result"] == 1
    topic = esm()
    world.agent.out(world.port, 2, topic)  # given out again
    again = world.client.subscribe(topic)
    world.engine.reply(2, b"[1]")
    assert again.get().payload == b"[1]"
    world.engine.reply(3, b"never given")
    world.agent.event(plug.BROKEN, world.port)
    world.engine.reply(1, b"after the end")
    source = world.tap(0)
    world.client.publish(source, "[1]", 1)
    stats = world.agent.stats()
    assert stats["dropped.port_broken"] == 1 and stats["ports_broken"] == 1
    assert len(inbox) == 0


@pytest.mark.parametrize("what, at, value", [
    ("out_tail beyond the ring", plug.OUT_TAIL, 1 << 40),
    ("out_tail before what was taken", plug.OUT_TAIL, 2**64 - 8),
])
def test_an_impossible_cursor_ends_the_port(world, what, at, value):
    world.out(1)
    world.engine.ring_out.set_word(at, value)
    world.engine.kick()
    world.agent.event(plug.BROKEN, world.port)
    assert world.agent.ok(PORT_ADD, "e1", fds=world.rings.fds()).slot == STATE_BROKEN


@pytest.mark.parametrize("length, qos", [(1 << 30, 0), (100, 0), (0, 3)])
def test_an_impossible_record_ends_the_port(world, length, qos):
    world.out(1)
    world.engine.ring_out.write(0, plug.HEADER.pack(length, 1, qos, 0))
    world.engine.ring_out.set_word(plug.OUT_TAIL, 16)
    world.engine.kick()
    world.agent.event(plug.BROKEN, world.port)


def test_an_impossible_in_cursor_ends_the_port_at_the_next_message_that_needs_it(bench):
    w = World(bench, in_bytes=4096)
    topic = w.tap(1)
    w.engine.ring_out.set_word(plug.IN_HEAD, 8)  # no record begins there
    for n in range(100):
        w.client.publish(topic, "[%d]" % n, 0, wait=False)
    w.agent.event(plug.BROKEN, w.port)
    w.client.publish(topic, "[the last]", 1)  # and with it all before
    answer = w.agent.ok(PORT_HOLD, port=w.port)
    assert not answer.flags & SANE
    w.replace_engine()
    w.client.publish(topic, "[again]", 1)
    assert w.engine.take().payload == b"[again]"


def test_the_agent_publishes_through_the_plugin(world):
    inbox = world.out(6)
    world.agent.ok(PUBLISH, '["error"]', port=world.port, slot=6, flags=1)
    got = inbox.get()
    assert (got.payload, got.qos) == (b'["error"]', 1)
    world.agent.refused("ENOENT", PUBLISH, "x", port=world.port, slot=7)
    world.agent.refused("ERANGE", PUBLISH, "x", port=world.port, slot=6, flags=3)


def test_the_agent_hears_that_an_engine_was_woken(world):
    topic = world.tap(1)
    world.engine._asleep(1)
    world.client.publish(topic, "[1]", 1)
    world.agent.event(plug.FED, world.port)
    assert world.engine.take().payload == b"[1]"


# ---- who may, and what


def test_packets_without_sense_are_refused_and_nobody_else_notices(world):
    a = world.agent
    bare = world.bench.agent(world.broker, hello=False)
    bare.refused("EINVAL", plug.STATS)
    bare.refused("CONFLICT", plug.HELLO, slot=99)
    a.refused("EINVAL", 77)
    a.refused("EINVAL", 2**32 - 1)
    a.refused("PARSE", TAP, esm(), port=world.port, length=3)
    a.refused("PARSE", TAP, b"iottalk/esm/x\0y", port=world.port)
    a.refused("PARSE", plug.STATS, "text")
    a.refused("PARSE", PORT_ADD, "x")
    a.refused("PARSE", PORT_ADD, "x", fds=world.rings.fds()[:3])
    a.refused("PARSE", PORT_ADD, "x", fds=world.rings.fds() * 2)
    a.refused("PARSE", plug.STATS, fds=[0])
    a.refused("PARSE", ECHO, esm())
    a.refused("PARSE", ECHO, esm() + "\0" + esm() + "\0" + esm())
    a.refused("EINVAL", PORT_ADD, "", fds=world.rings.fds())
    a.refused("EINVAL", PORT_ADD, "a b", fds=world.rings.fds())
    a.refused("EINVAL", PORT_ADD, "x" * 129, fds=world.rings.fds())
    a.refused("ERANGE", TAP, esm(), port=world.port, slot=1 << 20)
    for op in (PORT_HOLD, PORT_RETIRE, PORT_REMOVE, UNTAP, DROP_OUT, LIST, plug.SLOT_STATS):
        a.refused("ENOENT", op, port=world.port + 1)
    a.refused("ENOENT", UNTAP, port=world.port, slot=3)
    a.refused("CONFLICT", PORT_RETIRE, port=world.port)
    a.refused("CONFLICT", PORT_RESUME, port=world.port, fds=world.rings.engine_fds())
    for data in (b"", b"x", plug.REQUEST.pack(plug.STATS, 0, 0, 0, 0, 0), b"y" * 23):
        assert plug.send_raw(world.broker.socket, data) == b"", "hung up"
    assert world.agent.stats()["ports"] == 1


def test_descriptors_that_are_no_rings_and_pipes_are_refused(world):
    good = world.rings.fds()
    pipe_r, pipe_w = os.pipe()
    unsealed = os.memfd_create("u", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, plug.PAGE + 4096)
    file = os.open("/dev/null", os.O_RDWR)
    a, b = socket.socketpair()
    wrong = [
        [file, good[1], good[2], good[3]],
        [unsealed, good[1], good[2], good[3]],
        [good[0], unsealed, good[2], good[3]],
        [good[1], good[1], good[2], good[3]],
        [good[0], good[1], file, good[3]],
        [good[0], good[1], a.fileno(), good[3]],
        [good[0], good[1], pipe_r, good[3]],
        [good[0], good[1], good[2], pipe_w],
    ]
    before = len(os.listdir("/proc/%d/fd" % world.broker.pid))
    for fds in wrong:
        world.agent.refused("PEER", PORT_ADD, "other", fds=fds)
        if fds[0] != good[0]:  # else it is the port that is there
            world.agent.refused("PEER", PORT_ADD, "e1", fds=fds)
    assert len(os.listdir("/proc/%d/fd" % world.broker.pid)) == before, "refused descriptors are closed"
    answer = world.agent.ok(PORT_ADD, "e1", fds=good)
    assert answer.port == world.port and answer.flags & LIVING, "a port stays where its successor is refused"
    for fd in (pipe_r, pipe_w, unsealed, file):
        os.close(fd)
    a.close()
    b.close()


def test_a_result_pipe_that_goes_on_goes_on_waking_the_broker(world, bench):
    """Its mode belongs to the description, which the old and the new descriptor share."""
    def wakes(rings):
        return bool(plug.flags_of(rings.result_r) & os.O_ASYNC)

    assert wakes(world.rings)
    world.agent.ok(PORT_HOLD, port=world.port)
    world.agent.ok(PORT_RESUME, port=world.port, fds=world.rings.engine_fds())
    assert wakes(world.rings), "the engine is the same"
    others = bench.rings()
    fds = [others.in_fd, others.out_fd, world.rings.wake_w, world.rings.result_r]
    assert not world.agent.ok(PORT_ADD, "e1", fds=fds).flags & LIVING
    assert wakes(world.rings), "other rings, the same pipes"


@pytest.mark.parametrize("topic", [
    "", "x", "iottalk", "iottalk/esm/", "iottalk/esm/a/b", "iottalk/esm/+", "iottalk/esm/#", "iottalk/esm/a b",
    "iottalk/esm/\x01", "iottalk/esm/é", "/iottalk/esm/a", "iottalk/api/req/x", "$SYS/broker", "iottalk/monitor/a/b"])
def test_topics_of_others_are_refused(world, topic):
    world.agent.refused("EACCES", TAP, topic, port=world.port)
    world.agent.refused("EACCES", OUT, topic, port=world.port)
    world.agent.refused("EACCES", ECHO, topic + "\0" + esm())
    world.agent.refused("EACCES", ECHO, esm() + "\0" + topic)


def test_monitor_topics_are_for_results_only(world):
    topic = "iottalk/monitor/" + new_id()
    world.agent.refused("EACCES", TAP, topic, port=world.port)
    world.agent.out(world.port, 0, topic)
    inbox = world.client.subscribe(topic)
    world.engine.reply(0, b"{}")
    assert inbox.get().payload == b"{}"


def test_slots_are_whose_they_are(world):
    topic = world.tap(1)
    world.agent.tap(world.port, 1, topic)
    world.agent.refused("EEXIST", TAP, esm(), port=world.port, slot=1)
    world.agent.refused("EEXIST", TAP, topic, port=world.port, slot=2)
    world.agent.out(world.port, 1, topic)
    world.agent.out(world.port, 1, topic)
    world.agent.refused("EEXIST", OUT, esm(), port=world.port, slot=1)
    world.agent.ok(UNTAP, port=world.port, slot=1)
    world.agent.tap(world.port, 2, topic)
    assert world.agent.list(world.port) == {(False, 2): topic, (True, 1): topic}


def as_nobody(code, *args):
    """Run code in another Python as user nobody; ret: its output"""
    def leave():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    return subprocess.run([sys.executable, "-c", code] + list(args), preexec_fn=leave, capture_output=True, text=True,
                          timeout=20)


CONNECT = """
import socket, struct, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.settimeout(10)
s.connect(sys.argv[1])
try:
    s.send(struct.pack("=6I", 1, 1, 0, 1, 0, 0))
    print(len(s.recv(70000)))
except OSError as e:
    print(0)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_other_users_are_refused(bench):
    broker = bench.broker()
    os.chmod(broker.dir, 0o755)
    done = as_nobody(CONNECT, str(broker.socket))
    assert "PermissionError" in done.stderr, "the socket is its owner's: " + done.stderr
    os.chmod(broker.socket, 0o666)
    assert as_nobody(CONNECT, str(broker.socket)).stdout == "0\n", "and looks who comes"
    assert "peer.refused uid=65534" in broker.log()
    assert bench.agent(broker).stats()["peers_refused"] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_user_that_is_allowed_may(bench):
    broker = bench.broker("plugin_opt_allow nobody")
    os.chmod(broker.dir, 0o755)
    assert int(as_nobody(CONNECT, str(broker.socket)).stdout) > 0
    bench.agent(broker)


def test_more_connections_than_there_is_room_for_are_closed(bench):
    broker = bench.broker()
    agents = [bench.agent(broker) for _ in range(8)]
    with pytest.raises((ConnectionError, BrokenPipeError)):
        bench.agent(broker)
    agents[3].close()
    until(lambda: can_connect(broker), what="a free place")
    for agent in agents[:3] + agents[4:]:
        agent.stats()


def can_connect(broker):
    try:
        Agent(broker.socket).close()
        return True
    except OSError:
        return False


def test_an_agent_that_does_not_read_costs_nobody_anything(world):
    topic, inbox = world.tap(1), world.out(1)
    lazy = world.bench.agent(world.broker)
    for slot in range(100, 400):
        world.agent.out(world.port, slot, "iottalk/esm/" + "x" * 4000 + str(slot))
    lazy.socket.setblocking(False)
    sent = 0
    try:
        while sent < 10000:
            lazy.send(LIST, port=world.port)
            sent += 1
    except BlockingIOError:
        pass
    assert 10 < sent < 10000
    world.client.publish(topic, "[1]", 1)
    assert world.engine.take().payload == b"[1]"
    world.engine.reply(1, b"[2]")
    assert inbox.get().payload == b"[2]"
    lazy.socket.setblocking(True)
    answers = [lazy.receive() for _ in range(301 + 1)]
    assert [a.flags & MORE for a in answers[:302]] == [MORE] * 301 + [0] or answers[-1].text.startswith(b"iottalk")
    assert len({a.slot for a in answers if a.flags & plug.OUTWARD}) == 301


# ---- the lives of ports, agents, brokers


def test_ports_outlive_the_agents_connection_and_a_list_tells_what_they_do(world):
    topic, inbox = world.tap(3), world.out(4)
    out_topic = world.agent.list(world.port)[(True, 4)]
    world.agent.close()
    world.client.publish(topic, "[1]", 1)
    assert world.engine.take() == Record(3, 1, b"[1]")
    world.engine.reply(4, b"[2]")
    assert inbox.get().payload == b"[2]"
    agent = world.bench.agent(world.broker)
    answer = agent.ok(PORT_ADD, "e1", fds=world.rings.fds())
    assert (answer.port, answer.flags & LIVING, answer.slot) == (world.port, LIVING, RUNNING)
    assert agent.list(world.port) == {(False, 3): topic, (True, 4): out_topic}
    # slots that were given back a moment ago are not listed, and messages under them may be on the ring
    agent.tap(world.port, 100, esm())
    agent.ok(UNTAP, port=world.port, slot=100)
    assert agent.list(world.port) == {(False, 3): topic, (True, 4): out_topic}
    assert agent.last.a > 100 and 4 < agent.last.b <= 100
    assert agent.born == world.agent.born
    world.client.publish(topic, "[3]", 1)
    assert world.engine.take().payload == b"[3]"


def test_ports_that_nobody_wants_any_more_are_swept_away_those_of_others_stay(world):
    rings = [world.bench.rings(4096, 4096) for _ in range(3)]
    gone = world.bench.agent(world.broker)
    for name, r in zip(("a/1", "a/2", "b/1"), rings):
        gone.add(name, r.fds())
    gone.close()
    agent = world.bench.agent(world.broker)
    until(lambda: agent.ok(PORT_ADD, "a/1", fds=rings[0].fds()).flags & LIVING)
    agent.refused("EINVAL", plug.SWEEP)
    swept = until(lambda: agent.ok(plug.SWEEP, "a/").a, what="the end of the connection")
    assert swept == 1 and agent.stats()["ports"] == 3  # a/1 is mine, b/1 another agent's, e1 the world's
    assert agent.ok(PORT_ADD, "b/1", fds=rings[2].fds()).flags & LIVING
    agent.add("a/2", rings[1].fds())


def test_a_name_with_other_rings_is_another_port(world):
    topic = world.tap(1)
    rings = world.bench.rings()
    again = world.agent.add("e1", rings.fds())
    assert again != world.port
    world.agent.refused("ENOENT", LIST, port=world.port)
    world.agent.tap(again, 1, topic)
    engine = world.bench.engine(rings)
    world.client.publish(topic, "[1]", 1)
    assert engine.take().payload == b"[1]"
    world.engine.nothing()


def test_after_a_broker_was_killed_the_next_one_goes_on_on_the_same_ring(world):
    """The agent adds the port without engine, gives the slots, then resumes with the engine that lives: results that
    were written meanwhile find their topics."""
    topic, inbox = world.tap(3), world.out(4)
    out_topic = world.agent.list(world.port)[(True, 4)]
    for n in range(5):
        world.client.publish(topic, "[%d]" % n, 1)
    assert world.engine.take().payload == b"[0]"
    world.broker.kill9()
    world.engine.reply(4, b"written while no broker was there")
    connects = world.client.connects
    world.broker.start()
    world.client.wait(lambda: world.client.connects > connects, "reconnection")
    inbox = world.client.subscribe(out_topic)
    agent = world.bench.agent(world.broker)
    assert agent.born != world.agent.born
    port = agent.add("e1", world.rings.fds()[:2])
    agent.tap(port, 3, topic)
    agent.out(port, 4, out_topic)
    agent.ok(PORT_RESUME, port=port, fds=world.rings.engine_fds())
    assert inbox.get().payload == b"written while no broker was there"
    world.client.publish(topic, "[5]", 1)
    assert [world.engine.take().payload for _ in range(5)] == [b"[%d]" % n for n in range(1, 6)]
    world.engine.reply(4, b"[6]")
    assert inbox.get().payload == b"[6]"


def test_hold_takes_the_results_retire_skips_the_culprit_resume_goes_on(world):
    topic, inbox = world.tap(3), world.out(4)
    for n in range(6):
        world.client.publish(topic, "[%d]" % n, 1)
    assert world.engine.take().payload == b"[0]"
    assert world.engine.next().payload == b"[1]"  # in evaluation
    world.engine.reply(4, b"result", kick=False)
    answer = world.agent.ok(PORT_HOLD, port=world.port)
    assert answer.flags == SANE | AT_MESSAGE and answer.slot == 3 and answer.a == world.engine.head
    assert inbox.get().payload == b"result"
    assert world.agent.ok(PORT_HOLD, port=world.port).a == answer.a, "asked again, the same"
    world.client.publish(topic, "[6]", 1)
    world.agent.ok(PORT_RETIRE, port=world.port, flags=SKIP)
    world.agent.ok(PORT_RETIRE, port=world.port, flags=SKIP)  # again: skips nothing more
    world.replace_engine()
    assert [world.engine.take().payload for _ in range(5)] == [b"[%d]" % n for n in range(2, 7)]
    world.engine.reply(4, b"the next engine's")
    assert inbox.get().payload == b"the next engine's"


def test_more_results_than_one_hold_takes(bench):
    w = World(bench, out_bytes=1 << 17)
    inbox = w.out(0)
    for n in range(3000):
        assert w.engine.reply(0, b"%d" % n, kick=False)
    holds = 0
    while w.agent.ok(PORT_HOLD, port=w.port).flags & MORE:
        holds += 1
    got = inbox.wait_for(lambda items: len(items) == 3000, 20)
    assert [int(m.payload) for m in got] == list(range(3000))
    assert holds <= 3


def test_messages_queue_up_for_an_engine_that_is_not_there_yet(bench):
    broker = bench.broker()
    agent, rings, client = bench.agent(broker), bench.rings(), bench.mqtt(broker)
    answer = agent.ok(PORT_ADD, "later", fds=rings.fds()[:2])
    assert answer.slot == HELD
    topic = esm()
    agent.tap(answer.port, 1, topic)
    client.publish(topic, "[1]", 1)
    engine = bench.engine(rings)
    agent.ok(PORT_RESUME, port=answer.port, fds=rings.engine_fds())
    assert engine.take().payload == b"[1]"


def test_an_engine_is_woken_when_it_resumes(world):
    world.agent.ok(PORT_HOLD, port=world.port)
    world.agent.ok(PORT_RETIRE, port=world.port)
    world.rings.next_engine()
    engine = world.bench.engine(world.rings)
    world.agent.ok(PORT_RESUME, port=world.port, fds=world.rings.engine_fds())
    assert os.read(engine.wake, 10) != b""


def test_a_held_port_leaves_its_old_pipes_quiet(world):
    assert plug.flags_of(world.rings.result_r) & os.O_ASYNC
    world.agent.ok(PORT_HOLD, port=world.port)
    world.agent.ok(PORT_RETIRE, port=world.port)
    assert not plug.flags_of(world.rings.result_r) & os.O_ASYNC
    assert plug.flags_of(world.rings.result_w) & os.O_ASYNC == 0


def test_as_many_ports_as_there_may_be_and_no_more(bench):
    w = World(bench)
    rings = bench.rings(4096, 4096)
    ports = [w.agent.add("p%d" % n, rings.fds()[:2]) for n in range(255)]
    w.agent.refused("LIMIT", PORT_ADD, "one-more", fds=rings.fds()[:2])
    w.agent.ok(PORT_REMOVE, port=ports[7])
    again = w.agent.add("p7", rings.fds()[:2])
    assert again != ports[7], "a number is not given twice"
    w.agent.refused("ENOENT", TAP, esm(), port=ports[7], slot=0)
    topic, inbox = w.tap(0), w.out(0)
    w.client.publish(topic, "[1]", 1)
    assert w.engine.take().payload == b"[1]"
    w.engine.reply(0, b"[2]")
    assert inbox.get().payload == b"[2]"


def test_topics_are_bounded(bench):
    w = World(bench)
    before = rss_kb(w.broker.pid)
    topic = "iottalk/esm/" + "x" * 65000
    slot = 0
    while True:
        answer = w.agent.request(OUT, topic, port=w.port, slot=slot)
        if answer.code != 0:
            break
        slot += 1
        assert slot < 10000, "no limit"
    assert answer.code == plug.ERRORS["LIMIT"]
    assert rss_kb(w.broker.pid) - before < 300 * 1024
    w.agent.ok(PORT_REMOVE, port=w.port)
    assert w.agent.stats()["topic_bytes"] == 0


def rss_kb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open("/proc/%d/status" % pid).read())[1])


def test_a_reload_changes_nothing(world):
    topic, inbox = world.tap(1), world.out(1)
    os.kill(world.broker.pid, signal.SIGHUP)
    until(lambda: "Reloading config" in world.broker.log(), what="reload")
    world.client.publish(topic, "[1]", 1)
    assert world.engine.take().payload == b"[1]"
    world.engine.reply(1, b"[2]")
    assert inbox.get().payload == b"[2]"
    assert world.agent.stats()["ports"] == 1


def test_the_broker_ends_orderly_and_leaves_nothing(world):
    world.tap(1)
    world.out(1)
    assert world.broker.socket.exists()
    assert world.broker.stop() == 0
    assert not world.broker.socket.exists()
    assert not plug.flags_of(world.rings.result_r) & os.O_ASYNC
    world.broker.start()
    assert world.bench.agent(world.broker).stats()["ports"] == 0


@pytest.mark.limit(300)
def test_everything_again_under_valgrind(bench):
    broker = Broker(wrapper=["valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full", "--keep-debuginfo=yes",
                             "--track-fds=no", "--log-file=" + "/tmp/plugin-valgrind-%d" % os.getpid()], start=False)
    bench.add(Closer(lambda: None))
    report = "/tmp/plugin-valgrind-%d" % os.getpid()
    try:
        broker.start()
        exercise(World(bench, broker))
        bench.close()
        bench.all.clear()
        broker.stop(60)
        text = open(report).read()
    finally:
        broker.kill9()
        if os.path.exists(report):
            os.unlink(report)
    blocks = re.split(r"==\d+== \n", text)
    ours = [b for b in blocks if re.search(r"broker/\w+\.c|iottalk_broker|common/\w+\.c", b)]
    assert not ours, "\n".join(ours)
    assert "Invalid" not in text and "uninitialised" not in text, text


def exercise(w):
    """A bit of everything, the ends that are not orderly too."""
    topic, inbox = w.tap(3), w.out(4)
    w.client.subscribe(topic)
    for n in range(20):
        w.client.publish(topic, "[%d]" % n, n % 3)
        assert w.engine.take().payload == b"[%d]" % n
        w.engine.reply(4, b"[%d]" % n, n % 3)
        assert inbox.get(timeout=30).payload == b"[%d]" % n
    source, target = esm(), esm()
    w.agent.ok(ECHO, source + "\0" + target)
    w.client.publish(source, "x", 1)
    w.agent.ok(ECHO, esm() + "\0" + target)  # never comes
    w.agent.refused("EACCES", TAP, "x", port=w.port)
    w.client.publish(topic, "x" * 300000, 1)
    w.engine.reply(99, b"impossible")
    w.agent.event(plug.BROKEN, w.port, 30)
    w.client.publish(topic, "[broken]", 1)
    w.agent.ok(PORT_HOLD, port=w.port)
    w.client.publish(topic, "[held]", 1)
    w.replace_engine()
    assert w.engine.take(30).payload == b"[held]"
    rings = w.bench.rings()
    w.agent.ok(PORT_REMOVE, port=w.agent.add("short", rings.fds()))
    w.agent.add("stays", rings.fds())
    w.agent.many(plug.SLOT_STATS, w.port)
    w.agent.list(w.port)
    w.agent.stats()
    os.kill(w.broker.pid, signal.SIGHUP)
    w.client.publish(topic, "[last]", 2)
    assert w.engine.take(30).payload == b"[last]"


# ---- hostile engines


@pytest.mark.limit(240)
def test_an_engine_that_scribbles_a_million_times_is_noticed_by_nobody_else(bench):
    w = World(bench, in_bytes=4096, out_bytes=4096)
    attacked = w.tap(0)
    w.agent.out(w.port, 0, esm())
    w.agent.out(w.port, 1, esm())
    rings = bench.rings()
    port = w.agent.add("neighbour", rings.fds())
    neighbour, answers_topic = esm(), esm()
    w.agent.tap(port, 0, neighbour)
    w.agent.out(port, 0, answers_topic)
    answers = w.client.subscribe(answers_topic)
    bench.echo(rings)
    scribbler = plug.Scribbler(random_seed())
    scribbler.attack(w.rings)
    publisher = bench.mqtt(w.broker)
    stop, sent = threading.Event(), []

    def publish():
        n = 0
        while not stop.is_set():
            publisher.publish(attacked, "[%d]" % n, 0, wait=False)
            publisher.publish(neighbour, "[%d]" % n, 1)
            sent.append(n)
            n += 1

    thread = threading.Thread(target=publish)
    thread.start()
    breaks = 0
    try:
        while scribbler.writes < 1000000:
            scribbler.scribble(scribbler.random.randrange(200))
            if not w.agent.has_event(plug.BROKEN, w.port):
                continue
            breaks += 1
            w.agent.ok(PORT_HOLD, port=w.port)
            scribbler.scribble(20)
            w.agent.ok(PORT_RETIRE, port=w.port, flags=SKIP)
            w.rings.next_engine()
            scribbler.attack(w.rings)
            w.agent.ok(PORT_RESUME, port=w.port, fds=w.rings.engine_fds())
    finally:
        stop.set()
        thread.join()
    assert w.broker.runs() and breaks > 100, breaks
    print(breaks, "engines replaced,", len(sent), "messages to each port")
    got = answers.wait_for(lambda items: len(items) >= len(sent), 20)
    assert [m.payload for m in got] == [b"[%d]" % n for n in sent], "the neighbour missed something"
    assert w.agent.ok(PORT_ADD, "neighbour", fds=rings.fds()).slot == RUNNING


def random_seed():
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    return seed


def test_an_engine_that_kicks_without_end_steals_little(world):
    """Its pipe is emptied slowly, so it fills up and its kicks wake nobody."""
    topic, inbox = world.tap(1), world.out(1)
    flooding = threading.Event()
    flooding.set()

    def flood():
        while flooding.is_set():
            world.engine.kick()

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        until(lambda: pipe_is_full(world.rings.result_w), 30, "a full result pipe")
        for n in range(50):
            world.client.publish(topic, "[%d]" % n, 1)
            assert world.engine.take().payload == b"[%d]" % n
            world.engine.reply(1, b"[%d]" % n)
            assert inbox.get().payload == b"[%d]" % n
    finally:
        flooding.clear()
        thread.join()


def pipe_is_full(fd):
    try:
        os.write(fd, b"x")
        return False
    except BlockingIOError:
        return True


# ---- what mosquitto 2.0 does and the design counts on (design 2.2)


def test_fact_websocket_clients_are_seen(world):
    topic = world.tap(1)
    client = world.bench.mqtt(world.broker, transport="websockets")
    for qos in (0, 1, 2):
        client.publish(topic, "[%d]" % qos, qos)
        assert world.engine.take() == Record(1, qos, b"[%d]" % qos)


def test_fact_bridges_are_seen(world):
    topic = world.tap(1)
    other = world.bench.broker(plugin=None, listener="""
connection to-the-first
address 127.0.0.1:%d
topic # out 2
notifications false
""" % world.broker.mqtt_port)
    client = world.bench.mqtt(other)
    client.publish(topic, "[1]", 1)
    assert world.engine.take() == Record(1, 1, b"[1]")


def test_fact_wills_are_not_seen(world):
    topic = world.tap(1)
    inbox = world.client.subscribe(topic)
    dying = world.bench.mqtt(world.broker, will=(topic, "[will]", 1, False))
    dying.publish(topic, "[before]", 1)
    assert world.engine.take().payload == b"[before]"
    dying.vanish()
    assert inbox.get(lambda m: m.payload == b"[will]")
    world.engine.nothing()


def test_fact_retained_replays_are_not_seen(world):
    topic = world.tap(1)
    world.client.publish(topic, "[1]", 1, retain=True)
    assert world.engine.take().payload == b"[1]"
    assert world.bench.mqtt(world.broker).subscribe(topic).get().retain
    world.engine.nothing()


def test_fact_what_the_acl_denies_is_not_seen_and_does_not_bind_the_plugin(bench):
    broker = Broker(start=False)
    acl = broker.dir / "acl"
    denied = esm()
    acl.write_text("topic readwrite iottalk/esm/open\ntopic read #\n")
    acl.chmod(0o644)
    broker.write_conf(head="acl_file %s" % acl)
    bench.add(broker)
    broker.start()
    w = World(bench, broker)
    w.agent.tap(w.port, 0, denied)
    w.agent.tap(w.port, 1, "iottalk/esm/open")
    w.agent.out(w.port, 0, denied)
    inbox = w.client.subscribe(denied)
    w.client.publish(denied, "[denied]", 1)
    w.client.publish("iottalk/esm/open", "[1]", 1)
    assert w.engine.take() == Record(1, 1, b"[1]"), "the denial comes before the event"
    w.engine.reply(0, b"[result]")
    assert inbox.get().payload == b"[result]", "the plugin may publish where clients may not"


def test_fact_with_per_listener_settings_there_are_no_ticks_and_an_init_for_each_listener(bench):
    broker = bench.broker(head="per_listener_settings true")
    assert broker.log().count("Loading plugin") == 2
    assert broker.log().count("plugin.off") == 1, "the second is refused, and the broker runs"
    client = bench.mqtt(broker)
    bench.mqtt(broker, transport="websockets").publish(esm(), "[1]", 1)
    agent = bench.add(Agent(broker.socket, hello=False))
    agent.send(plug.HELLO, slot=plug.VERSION)
    inbox = client.subscribe(esm())
    for n in range(50):  # the broker turns
        client.publish(inbox.what.split()[-1], "[%d]" % n, 1)
        inbox.get()
    with pytest.raises(socket.timeout):
        agent.receive(0.3)


def test_fact_a_plugin_that_does_not_load_stops_the_broker(bench):
    broker = bench.broker(plugin="/nonexistent/plugin.so", start=False)
    broker.start(wait=False)
    assert broker.popen.wait(10) != 0


INIT_FAILS = """
int mosquitto_plugin_version(int n, const int *v) { return 5; }
int mosquitto_plugin_init(void *id, void **data, void *opts, int n) { return 1; }
int mosquitto_plugin_cleanup(void *data, void *opts, int n) { return 0; }
"""


def test_fact_a_plugin_whose_start_fails_stops_the_broker_ours_does_not(bench, tmp_path):
    (tmp_path / "p.c").write_text(INIT_FAILS)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(tmp_path / "p.so"), str(tmp_path / "p.c")], check=True)
    os.chmod(tmp_path, 0o755)
    broker = bench.broker(plugin=tmp_path / "p.so", start=False)
    broker.start(wait=False)
    assert broker.popen.wait(10) != 0
    for options in ("plugin_opt_unknown x", "plugin_opt_allow no-such-user-at-all", "plugin_opt_max_payload many",
                    "plugin_opt_socket /nonexistent/dir/sock"):
        broker = bench.broker(options)
        assert "plugin.off" in broker.log()
        client = bench.mqtt(broker)
        inbox = client.subscribe("x")
        client.publish("x", "y", 1)
        assert inbox.get().payload == b"y"


def test_fact_the_plugins_publications_are_no_messages_to_it(world):
    """Else a result on a tapped topic would go round and round."""
    topic = world.tap(1)
    world.agent.out(world.port, 1, topic)
    inbox = world.client.subscribe(topic)
    world.engine.reply(1, b"[1]")
    assert inbox.get().payload == b"[1]"
    world.client.publish(topic, "[2]", 1)
    assert world.engine.take().payload == b"[2]"
    world.engine.nothing()


def test_fact_a_packet_costs_a_turn_and_a_turn_sees_whether_another_follows(world):
    """mosquitto takes one packet from a socket and waits again, in an epoll instance that the plugin finds: an engine that sleeps
    is not woken for each of many packets, but soon."""
    topic, n = world.tap(0).encode(), 1000
    world.engine._asleep(1)
    connect = b"\x10\x10\0\x04MQTT\x04\x02\0\0\0\x04many"
    publish = struct.pack(">BBH", 0x30, 2 + len(topic) + 1, len(topic)) + topic + b"1"
    with socket.create_connection(("127.0.0.1", world.broker.mqtt_port)) as s:
        s.sendall(connect)
        assert s.recv(4) == b"\x20\x02\0\0"
        s.sendall(publish * n)
        s.sendall(b"\xc0\0")  # a ping: what came before has been taken
        assert s.recv(2) == b"\xd0\0"
    assert world.agent.stats()["received"] == n
    assert 1 <= len(os.read(world.engine.wake, 4096)) <= n / 4


def test_a_socket_that_another_broker_answers_at_is_left_alone(bench):
    first = bench.broker()
    second = Broker(start=False)
    bench.add(second)
    second.socket = first.socket
    second.write_conf()
    second.start()
    assert "plugin.off" in second.log() and "another broker" in second.log()
    bench.agent(first)


def test_a_link_that_leads_to_a_broker_of_the_past_is_replaced(bench):
    """iotctl makes one for the broker it runs, where an agent looks; then a broker with that place of its own takes over."""
    broker = bench.broker(start=False)
    os.symlink(str(broker.socket) + ".gone", broker.socket)
    broker.start()
    assert "plugin.off" not in broker.log() and not os.path.islink(broker.socket)
    bench.agent(broker)
