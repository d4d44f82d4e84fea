"""Garbage on every topic and endpoint at once: clear errors or counted drops, never a crash, a leak or a stall."""

import json
import random
import threading

import pytest

import stopwatch
from clients import GraphClient, HttpApi, JSON_TYPE, Sdk, new_id
from suite import AGENT_ID, SANITIZED

PAYLOADS = [
    b"", b" ", b"garbage", b"null", b"42", b'""', b"[]", b"{}", b'{"op": 42}', b'{"op": null}', b'{"state": []}', b'{"op": {"op": "attach"}}',
    b'{"op": "add_link", "da_id": [], "idf": {}, "func": 42}', b'{"op": "add_funcs", "codes": {}, "digests": {}}',
    b'{"op": "attach", "op": "detach"', b"[" * 50000, b"[" * 50000 + b"]" * 50000, b'{"a":' * 50000 + b"1" + b"}" * 50000,
    b"\xff\xfe\xfd", b'{"op": "\xff"}', b'{"op": "\xc0\x80"}', b"\0", b"\0" * 1000, b'{"op": "attach\\u0000"}', b'{"\\u0000": 1}',
    b'{"op": "\\ud800"}', b"1e99999", b"9" * 100000, b'{"n": %s}' % (b"9" * 1000), b"NaN", b"x" * 1000000, b'"%s"' % (b"y" * 999990),
    b'{"op": "%s"}' % (b"z" * 500000), b"[%s1]" % (b"1," * 400000), b'{"msg_id": {}, "state": "ok"}', b'{"state": "online", "rev": {}}',
]


@pytest.fixture(scope="module")
def world(suite):
    return World(suite)


class World:
    def __init__(self, suite):
        self.suite = suite
        self.sdk = Sdk(suite)
        suite.closing.append(self.sdk)
        self.g = GraphClient(self.sdk).wire(self.sdk.da_id, "meow", "meow", "def run(*a): return list(a)\n")
        self.sdk.until_connected(("idf", "meow"), ("odf", "meow"))
        take_json_only(self.sdk)
        self.pids = self.alive()

    def alive(self):
        return [self.suite.pid(n) for n in ("broker", "csm", "agent")] + [self.suite.engine_of(self.g)]

    def topics(self):
        client, da_id = "garbage-client", self.sdk.da_id
        yield from ("iottalk/api/req/%s%s" % (client, rest) for rest in (
            "", "/", "/device", "/graph", "/graph/", "/graph/1", "/graph/1/2", "/device/x", "/nothing", "/graph/" + "g" * 1000, "/graph/\u00fc",
            "/graph/$SYS", "//graph/1"))
        yield from ("iottalk/api/req", "iottalk/api/req/", "iottalk/api/req//graph/1", "iottalk/api/req/" + "c" * 1000 + "/graph/1")
        yield from ("%s/ctrl/i" % da_id, "%s/ctrl/i" % new_id(), "nobody/ctrl/i", "/ctrl/i", "%s/ctrl/o" % new_id())
        yield from ("iottalk/agent/%s/%s" % (agent, kind) for agent in (AGENT_ID, "other", "", "a" * 200, "\u00fc")
                    for kind in ("state", "req", "res", "nothing", ""))
        yield self.sdk.topics[("idf", "meow")]
        yield self.sdk.topics[("odf", "meow")]
        yield from ("iottalk/esm/" + new_id(), "iottalk/esm/", "iottalk/monitor/" + new_id(), "$SYS/x", "nothing")

    def works(self, within_s=2.0):
        began = stopwatch.now()
        assert HttpApi(self.suite).put(new_id(), {"accept_protos": ["mqtt"], "profile": {"model": "M"}}).status_code == 200
        self.g.ok("set_join", prev=None, new=None)
        mark = new_id()
        self.sdk.push("meow", [mark])
        self.sdk.data.get(lambda d: d[1] == [mark])
        assert stopwatch.now() - began < within_s
        assert self.alive() == self.pids


def test_garbage_on_every_topic(world, clients):
    mqtt = clients.mqtt(world.suite)
    for topic in world.topics():
        for payload in PAYLOADS:
            if len(payload) < 100000 or random.random() < 0.25:
                mqtt.publish(topic, payload, random.choice((0, 1, 2)), wait=False)
    mqtt.publish("end", b"x")
    assert mqtt.connects == 1   # the broker took all of it
    world.works(15)
    world.works()


def take_json_only(sdk):
    """The garbage comes to the ODF topic itself too."""
    def take(message):
        try:
            sdk.data.put(("meow", message.json))
        except (ValueError, RecursionError):
            pass
    ready = threading.Event()
    sdk.subscribe_then(sdk.topics[("odf", "meow")], 2, take, ready.set)
    assert ready.wait(10)


def test_garbage_retained_on_every_topic_then_all_restart(world, clients):
    """What a broker keeps meets every daemon again at its start."""
    mqtt = clients.mqtt(world.suite)
    topics = [t for t in world.topics() if not t.startswith("$")]
    for n, topic in enumerate(topics):
        mqtt.publish(topic, PAYLOADS[n % 20], 1, retain=True)
    world.suite.restart("csm")
    world.suite.restart("agent")
    world.pids = world.alive()
    world.works(10)
    world.works()
    for topic in topics:
        mqtt.publish(topic, b"", 1, retain=True)
    world.works()


def test_random_bytes_and_cut_documents(world, clients):
    mqtt = clients.mqtt(world.suite)
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    whole = json.dumps({"op": "add_link", "da_id": new_id(), "idf": "meow", "func": None, "depends": {"a": "b" * 64}, "param_no": 3,
                        "input_type": ["sample", "variant"], "order": 1}).encode()
    http, da_id = HttpApi(world.suite), new_id()
    body = json.dumps({"accept_protos": ["mqtt"], "idf_list": [["meow", ["dB"]]], "profile": {"model": "AI"}}).encode()
    topics = [t for t in world.topics() if not t.startswith("$")]
    for _ in range(1500):
        text = bytearray(whole[:rng.randrange(len(whole))] if rng.random() < 0.5 else whole)
        for _ in range(rng.randrange(4)):
            if text:
                text[rng.randrange(len(text))] = rng.randrange(256)
        mqtt.publish(rng.choice(topics), bytes(text), rng.randrange(3), wait=False)
        if rng.random() < 0.2:
            cut = bytearray(body)
            cut[rng.randrange(len(cut))] = rng.randrange(256)
            assert http.call("PUT", "/" + da_id, data=bytes(cut), headers=JSON_TYPE).status_code in (200, 400, 403)
    mqtt.publish("end", b"x")
    assert mqtt.connects == 1
    world.works(10)


def test_memory_and_descriptors_are_bounded(world, clients):
    """The same garbage round after round: after the first rounds nothing grows any more."""
    mqtt = clients.mqtt(world.suite)
    http = HttpApi(world.suite)
    topics = ["iottalk/api/req/garbage-client/graph/1", "iottalk/api/req/garbage-client/device", world.sdk.up_topic,
              world.sdk.topics[("idf", "meow")], "iottalk/agent/%s/req" % AGENT_ID, "iottalk/agent/%s/res" % AGENT_ID]

    def round_of_garbage():
        for topic in topics:
            for payload in PAYLOADS:
                mqtt.publish(topic, payload, 1, wait=False)
        for n, payload in enumerate(PAYLOADS):
            http.call("PUT", "/" + new_id(), data=payload, headers=JSON_TYPE)
        for n in range(200):   # new ids and clients each time
            mqtt.publish("%s/ctrl/i" % new_id(), b"garbage", 1, wait=False)
            mqtt.publish("iottalk/api/req/%s/graph/%s" % (new_id(), new_id()), b'{"op": "set_join"}', 1, wait=False)
            mqtt.publish("iottalk/agent/%s/state" % new_id(), b"IT1 garbage", 1, wait=False)
        mqtt.publish("end", b"x")
        world.works(10)

    def sizes():
        return {n: (world.suite.rss_kb(n), world.suite.open_fds(n)) for n in ("csm", "agent", "engine")}

    for _ in range(5):   # an allocator keeps what a burst needed once
        round_of_garbage()
    before = sizes()
    for _ in range(5):
        round_of_garbage()
    after = sizes()
    for name, (rss_kb, fds) in after.items():
        # what one round brings in is more than this
        assert SANITIZED or rss_kb - before[name][0] < 6 * 1024, (before, after)
        assert fds <= before[name][1] + 3, (before, after)
