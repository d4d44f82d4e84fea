"""Messages between csm and agents that an ordinary client forges or replays change nothing and are counted
(docs/agent-protocol.rst)."""

import hashlib
import hmac
import json
import os
import re
import threading

import pytest

from clients import WAIT_S, Mqtt, Sdk, GraphClient, digest, new_id
from suite import AGENT_ID, Suite, until

pytestmark = pytest.mark.limit(300)

SQUARE = "def run(x): return x ** 2\n"
BASE = "iottalk/agent/%s/" % AGENT_ID
NOBODY = "0" * 32
HEAD = re.compile(rb"IT1 ([0-9a-f]{32}) ([0-9a-f]{32}) (\d+) ([0-9a-f]{64})\n")


def sealed(key, topic, sender, to, seq, body):
    covered = topic.encode() + b"\0" + b"%s %s %d\n" % (sender.encode(), to.encode(), seq) + body
    tag = hmac.new(key, covered, hashlib.sha512).hexdigest()[:64]
    return b"IT1 %s %s %d %s\n" % (sender.encode(), to.encode(), seq, tag.encode()) + body


class Spied:
    """A suite whose control plane was recorded from the first message on, through several lives of csm and agent, every kind of
    message included; and a graph with a device to see whether anything changes."""

    def __init__(self):
        self.suite = Suite(start=("broker",))
        self.mqtt = Mqtt(self.suite)
        self.suite.closing.append(self.mqtt)
        self.recorded = []
        ready = threading.Event()
        self.mqtt.subscribe_then("iottalk/agent/#", 2, self.recorded.append, ready.set)
        assert ready.wait(WAIT_S)
        self.suite.start("csm", "agent")
        self.sdk = Sdk(self.suite)
        self.suite.closing.append(self.sdk)
        self.g = GraphClient(self.mqtt).wire(self.sdk.da_id, "meow", "meow", join=SQUARE)
        self.proof = GraphClient(self.mqtt)
        self.proof.ok("attach")
        self.g.ok("check_funcs", codes=[SQUARE, "def run(x: return"])
        self.make_other_kinds()
        # lives: an agent that died, a csm that died, an agent that came while csm was away, an agent that left politely
        self.suite.kill9("agent")
        self.suite.start("agent")
        self.suite.kill9("csm")
        self.suite.stop("agent")
        self.suite.processes["agent"].start()
        self.suite.start("csm")
        self.suite.restart("agent")
        self.make_other_kinds()
        self.sdk.until_connected(("idf", "meow"), ("odf", "meow"))
        until(lambda: self.kinds() >= self.EVERY_KIND, 10, "every kind")
        self.state = self.g.state()
        self.pids = self.suite.pid("csm"), self.suite.pid("agent"), self.suite.engine_of(self.g)

    EVERY_KIND = {"hello", "func", "put", "drop", "sync", "check", "answer", "stats", "online", "offline"}

    def make_other_kinds(self):
        other = GraphClient(self.mqtt)
        other.ok("attach")
        other.ok("add_link", da_id=new_id(), idf="meow", func=None)
        broken = "def run(x: return\n"
        other.add_funcs(broken)
        other.refused("add_link", da_id=new_id(), idf="meow", func=digest(broken))
        other.ok("detach")

    def of(self, channel):
        return [m for m in list(self.recorded) if m.topic == BASE + channel and HEAD.match(m.payload)]

    def kinds(self):
        found = set()
        for m in list(self.recorded):
            if HEAD.match(m.payload):
                body = json.loads(m.payload.split(b"\n", 1)[1])
                found.add(body["state"] if m.topic.endswith("/state") else
                          "answer" if m.topic.endswith("/res") and "state" in body else body["op"])
        return found

    def nonces(self):
        """(csm's, the agent's) of the session that stands."""
        sender, to, _, _ = HEAD.match(self.of("req")[-1].payload).groups()
        return sender.decode(), to.decode()

    def counted(self):
        names = ("forged", "replayed", "malformed")
        return sum(v for n, labels, v in self.suite.metrics()
                   if n == "iottalk_agent_counter" and labels["name"] in names
                   or n == "iottalk_drops_total" and labels["reason"] in names)

    def assert_nothing_changed(self):
        until(lambda: self.g.state()["pending"] is False, what="an end of pending")
        assert self.g.state() == self.state
        assert (self.suite.pid("csm"), self.suite.pid("agent"), self.suite.engine_of(self.g)) == self.pids
        self.sdk.push("meow", [7])
        assert self.sdk.received("meow") == 49
        # the session stands: a change is confirmed, not pending
        da_id = new_id()
        self.proof.ok("add_link", da_id=da_id, odf="proof", func=None)
        self.proof.ok("rm_link", da_id=da_id, odf="proof")
        # and what stands retained is the agent's own word, in the newest session
        csm, agent = self.nonces()

        def own():
            m = Mqtt(self.suite)
            try:
                retained = m.subscribe(BASE + "state").get()
            finally:
                m.close()
            head = HEAD.match(retained.payload)
            return head and head[1].decode() == agent and head[2].decode() == csm
        until(own, 5, "the agent's own state on its topic", every=0.2)

    def attack(self, messages, at_least):
        """Publish [(topic, payload, retain)]; nothing may change, that many must be counted."""
        before = self.counted()
        for n, (topic, payload, retain) in enumerate(messages):
            self.mqtt.publish(topic, payload, 1, retain, wait=n % 500 == 499)   # a busy machine takes its time for each
        self.mqtt.publish("end/of/attack", b"x")
        until(lambda: self.counted() >= before + at_least, 10, "the count of %d messages" % at_least)
        self.assert_nothing_changed()


@pytest.fixture(scope="module")
def spied():
    s = Spied()
    yield s
    s.suite.close()


def bodies(spied):
    """Every kind of docs/agent-protocol.rst, as harmful as it can be."""
    graph = json.loads(next(m.payload for m in reversed(spied.of("req")) if b'"put"' in m.payload).split(b"\n", 1)[1])["graph"]
    stolen = dict(graph, rev=graph["rev"] + 1000, idf=[], odf=[])
    evil = "def run(x): return 'evil'\n"
    ids = range(1, 60)
    return {
        "req": [{"op": "hello"}, {"op": "func", "digest": digest(SQUARE), "code": evil}, {"op": "func", "digest": digest(evil), "code": evil},
                {"op": "put", "id": 9, "graph": stolen}, {"op": "drop", "id": 9, "graph": graph["id"]},
                {"op": "sync", "id": 9, "graphs": []}, {"op": "sync", "id": 9, "graphs": [], "first": True},
                {"op": "check", "id": 9, "codes": [evil], "depends": {}}, {"op": "dance", "id": 9}, [], 42, "x"],
        "res": [{"op": op, "id": n, "state": state, "reason": "evil", "graph": graph["id"], "rev": 99, "digests": [digest(SQUARE)], "results": []}
                for op in ("put", "drop", "sync", "check") for state in ("ok", "error", "need") for n in ids] +
               [{"op": "stats", "counters": {"evil": 1e18}}, {"op": "stats", "counters": {"forged": 0}},
                {"op": "report", "graph": graph["id"], "lid": 1, "kind": "idf", "level": "error", "reason": "evil"}, [], 42],
        "state": [{"state": "offline"}, {"state": "online", "will": os.urandom(16).hex(), "version": "6.6.6"}, {"state": "dancing"}, [], 42],
    }


CHANNELS = ("req", "res", "state")


def test_every_kind_of_message_was_recorded(spied):
    assert spied.kinds() >= Spied.EVERY_KIND


@pytest.mark.parametrize("channel", CHANNELS)
def test_unsealed_messages(spied, channel):
    payloads = [json.dumps(b).encode() for b in bodies(spied)[channel]]
    spied.attack([(BASE + channel, p, channel == "state") for p in payloads], len(payloads))


@pytest.mark.parametrize("channel", CHANNELS)
def test_messages_sealed_with_another_key(spied, channel):
    """The nonces are public, so they are right; the numbers are higher than any before."""
    csm, agent = spied.nonces()
    sender, to = (csm, agent) if channel == "req" else (agent, csm)
    messages = []
    for n, body in enumerate(bodies(spied)[channel]):
        for key in (os.urandom(32), b"\0" * 32):
            for receiver in (to, NOBODY):
                messages.append((BASE + channel, sealed(key, BASE + channel, sender, receiver, 1000000 + n,
                                                        json.dumps(body).encode()), channel == "state"))
    spied.attack(messages, len(messages))


@pytest.mark.parametrize("channel", CHANNELS)
def test_genuine_messages_with_another_body_number_or_nonce(spied, channel):
    messages = []
    for m in spied.of(channel)[-40:]:
        head, body = m.payload.split(b"\n", 1)
        word, sender, to, seq, tag = head.split(b" ")
        flipped = (b"0" if tag[:1] != b"0" else b"1") + tag[1:]
        for forged in ([word, sender, to, str(int(seq) + 1000).encode(), tag], [word, sender, to, seq, flipped],
                       [word, to, sender, seq, tag], [word, sender, to, b"0" + seq, tag]):
            messages.append((BASE + channel, b" ".join(forged) + b"\n" + body, channel == "state"))
        messages.append((BASE + channel, head + b"\n" + body[:-1] + b" }", channel == "state"))
        messages.append((BASE + channel, head + b"\n", channel == "state"))
    spied.attack(messages, len(messages))


@pytest.mark.parametrize("channel", CHANNELS)
def test_replayed_messages_of_all_sessions(spied, channel):
    """In the order recorded, twice, then backwards."""
    recorded = [m for m in spied.of(channel)]
    messages = [(BASE + channel, m.payload, channel == "state") for m in recorded + recorded + recorded[::-1]]
    # a state that stands right now may be repeated without being noticed
    own = 0 if channel != "state" else 3 * sum(1 for m in recorded if m.payload == spied.of("state")[-1].payload)
    # an online state that csm has never seen is answered by a hello that leads nowhere, its repetitions are counted
    unseen = 2 if channel == "state" else 0
    spied.attack(messages, len(messages) - own - unseen)


@pytest.mark.parametrize("channel", CHANNELS)
def test_genuine_messages_on_another_topic(spied, channel):
    others = [c for c in CHANNELS if c != channel]
    messages = [(BASE + other, m.payload, False) for m in spied.of(channel)[-30:] for other in others]
    spied.attack(messages, len(messages))


def test_the_state_of_an_agent_that_does_not_exist(spied):
    body = b'{"state": "online", "will": "%s", "version": "0.1.0"}' % os.urandom(16).hex().encode()
    messages = []
    for n in range(200):
        topic = "iottalk/agent/evil-%d/state" % n
        messages.append((topic, sealed(os.urandom(32), topic, os.urandom(16).hex(), NOBODY, 1, body), False))
    genuine = spied.of("state")[-1].payload   # the tag covers the topic
    messages.append(("iottalk/agent/evil/state", genuine, False))
    messages.append(("iottalk/agent/evil/res", spied.of("res")[-1].payload, False))
    spied.attack(messages, len(messages))


def test_clearing_the_retained_state(spied):
    for _ in range(3):
        spied.mqtt.publish(BASE + "state", b"", 1, True)
    spied.assert_nothing_changed()


def test_garbage(spied):
    payloads = [b"garbage", b"IT1", b"IT1 ", b"IT1 \n", b"IT1 a b c d\n{}", b"\0" * 100, b"\xff" * 100, b"x" * 1000000, b"IT1 " * 100000,
                b"IT1 " + b"0" * 32 + b" " + b"0" * 32 + b" 99999999999999999999999999 " + b"0" * 64 + b"\n{}",
                b"IT1 " + b"0" * 32 + b" " + b"0" * 32 + b" -1 " + b"0" * 64 + b"\n{}",
                b"IT1 " + b"0" * 32 + b" " + b"0" * 32 + b" 1 " + b"0" * 64, b"[" * 50000]
    spied.attack([(BASE + c, p, False) for c in CHANNELS for p in payloads], len(payloads) * len(CHANNELS))


def test_a_flood_of_forged_messages_stops_nobody(spied):
    topic, key = BASE + "req", os.urandom(32)
    csm, agent = spied.nonces()
    messages = [(topic, sealed(key, topic, csm, agent, n, b'{"op": "sync", "graphs": []}'), False) for n in range(5000)]
    spied.attack(messages, len(messages))
