"""Devices and graphs of a suite, made over its HTTP and MQTT interfaces, many at a time.

All devices are one MQTT client here: it answers their commands and is no part of what is measured.
"""

import hashlib
import http.client
import itertools
import json
import queue
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import paho.mqtt.client as mqtt

from suite import START_S

CLIENT = "bench"
BATCH = 128
INPUTS = 5  # of a join
CYCLE = 6   # changes after which a graph is as it was

FUNCTION = "def run(x):\n    return x * 2 + 1\n"
OTHER = "def run(x):\n    return 1 + 2 * x\n"
WIDE = "def run(x, *rest):\n    return [x * 2 + 1, *rest]\n"
SUM = "def run(a, b, c, d, e):\n    return (a + b + c + d + e) * 2 + 1\n"
PASS = "def run(*x):\n    return x\n"
# what a neighbour must not notice; the time budget of a function is 1 s
HOSTILE = {
    "busy for 0.9 s": "import time\ndef run(x):\n    end = time.monotonic() + 0.9\n    while time.monotonic() < end: pass\n    return x\n",
    "endless loop in C": "def run(x):\n    return sum(range(10 ** 18))\n",
    "memory without end": "def run(x):\n    a = []\n    while True: a.append(bytearray(1 << 20))\n",
    "output without end": "def run(x):\n    while True: print('x' * 1000)\n",
}


def digest(code):
    return hashlib.sha256(code.encode()).hexdigest()


class Shape:
    """A kind of device and the graph it has: features of its IDFs and ODFs, and what stands between them."""

    def __init__(self, idf=("value",), odf=("value",), spare_odf=(), func=None, join=None, param_no=1, owner=CLIENT):
        self.idf, self.odf, self.spare_odf = list(idf), list(odf), list(spare_odf)
        self.func, self.join, self.param_no, self.owner = func, join, param_no, owner

    def profile(self):
        return {"accept_protos": ["mqtt"], "profile": {"model": "Bench"},
                "idf_list": [[f, ["x"]] for f in self.idf],
                "odf_list": [[f, ["x"]] for f in self.odf + self.spare_odf]}

    def codes(self):
        return [c for c in (self.func, self.join) if c]

    def calls(self, device):
        yield {"op": "attach", "owner": self.owner}
        for feature in self.idf:
            yield {"op": "add_link", "da_id": device, "idf": feature, "func": self.func and digest(self.func),
                   "param_no": self.param_no}
        for feature in self.odf:
            yield {"op": "add_link", "da_id": device, "odf": feature, "func": None, "param_no": self.param_no}
        if self.join:
            yield {"op": "set_join", "prev": None, "new": digest(self.join)}


SHAPES = {
    "plain": Shape(func=FUNCTION),
    "wide": Shape(func=WIDE, param_no=None),
    "join": Shape(idf=["value%d" % i for i in range(INPUTS)], join=SUM),
    "changing": Shape(func=FUNCTION, spare_odf=["second"]),
    **{kind: Shape(func=code, owner="hostile") for kind, code in HOSTILE.items()},
}


class Devices:
    def __init__(self, suite):
        self.suite = suite
        self.answers = queue.Queue()
        self.connects = queue.Queue()
        self._stored = set()
        self._threads = threading.local()
        self.client = mqtt.Client(client_id="bench-control")
        self.client.max_inflight_messages_set(0)
        self.client.on_message = self._on_message
        up = queue.Queue()
        self.client.on_subscribe = lambda *_: up.put(True)
        self.client.connect("127.0.0.1", suite.broker.port, keepalive=600)
        self.client.loop_start()
        self.client.subscribe([("+/ctrl/o", 2), ("iottalk/api/res/%s/#" % CLIENT, 2)])
        up.get(timeout=START_S)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def _on_message(self, client, _, message):
        body = json.loads(message.payload)
        if message.topic.startswith("iottalk/api/res/"):
            if body["op"] != "anno":  # that a graph is quarantined, say
                self.answers.put((message.topic.rsplit("/", 1)[1], body))
            return
        device = message.topic.split("/")[0]
        if body["command"] == "CONNECT":
            mode = "idf" if "idf" in body else "odf"
            self.connects.put((device, mode, body[mode], body["topic"]))
        client.publish(device + "/ctrl/i", json.dumps(dict(body, state="ok")), qos=1)

    def _send(self, graph, call):
        self.client.publish("iottalk/api/req/%s/graph/%s" % (CLIENT, graph), json.dumps(call), qos=1)

    def _await_answers(self, count):
        for _ in range(count):
            graph, answer = self.answers.get(timeout=START_S)
            if answer.get("state") != "ok" or answer.get("pending"):
                raise RuntimeError("%s of graph %s: %s" % (answer.get("op"), graph, answer))

    def ask(self, graph, call):
        """One request, answered and in force."""
        self._send(graph, call)
        self._await_answers(1)

    def store(self, graph, codes):
        new = [c for c in codes if c not in self._stored]
        if new:
            self.ask(graph, {"op": "add_funcs", "codes": new, "digests": [digest(c) for c in new]})
        self._stored.update(new)

    def _register(self, device, body):
        connection = getattr(self._threads, "connection", None)
        if connection is None:
            connection = self._threads.connection = http.client.HTTPConnection(
                "127.0.0.1", self.suite.http_port, timeout=START_S)
        connection.request("PUT", "/" + device, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise RuntimeError("registration: %d %s" % (response.status, text))
        state = json.dumps({"state": "online", "rev": json.loads(text)["rev"]})
        self.client.publish(device + "/ctrl/i", state, qos=1)

    def _wire_batch(self, pool, shape, count):
        """ret: {device: {(mode, feature): topic}}"""
        topics = {str(uuid.uuid4()): {} for _ in range(count)}
        body = json.dumps(shape.profile())
        list(pool.map(lambda device: self._register(device, body), topics))
        first = next(iter(topics))
        self.ask(first, {"op": "attach", "owner": shape.owner})
        self.store(first, shape.codes())
        sent = 0
        for device in topics:
            for call in shape.calls(device):
                self._send(device, call)
                sent += 1
        self._await_answers(sent)
        links = len(shape.idf) + len(shape.odf)
        while any(len(t) < links for t in topics.values()):
            device, mode, feature, topic = self.connects.get(timeout=START_S)
            if device in topics:
                topics[device][mode, feature] = topic
        return topics

    def wire(self, shape_name, count):
        """ret: [(device, [(topic to publish, topic that answers) of each input])] of count new devices, a graph each (its id is
        the device's)."""
        shape, wired = SHAPES[shape_name], []
        with ThreadPoolExecutor(16) as pool:
            for at in range(0, count, BATCH):
                batch = self._wire_batch(pool, shape, min(BATCH, count - at))
                wired += [(device, [(t["idf", f], t["odf", shape.odf[0]]) for f in shape.idf])
                          for device, t in batch.items()]
        return wired


class Culprit:
    """A graph of another owner that does harm, told to do so again and again. As in life: a function that gets its engine killed
    is quarantined at the third time."""

    EVERY_S = 1.0

    def __init__(self, devices, kind):
        self.devices = devices
        (self.device, [(self.topic, _)]), = devices.wire(kind, 1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            self.devices.client.publish(self.topic, "[1]", qos=1)
            if self._stop.wait(self.EVERY_S):
                return

    def stop(self):
        """Once the graph is gone, nothing of it runs any more."""
        self._stop.set()
        self._thread.join()
        self.devices.ask(self.device, {"op": "detach"})
        return {}


class Changes:
    """Changes the graph of a "changing" device, one change after the other, on a thread of its own; none of them changes the
    results on its first ODF."""

    def __init__(self, devices, device, every_s):
        self.devices, self.device, self.every_s = devices, device, every_s
        self.made, self.worst_s = 0, 0
        self.between = threading.Lock()  # whoever holds it knows that no change is under way
        self.failure = None
        link = {"da_id": device, "odf": "second"}
        function = {"op": "set_df_func", "da_id": device, "idf": "value"}
        ours, other, join = digest(FUNCTION), digest(OTHER), digest(PASS)
        self._cycle = itertools.cycle([
            dict(function, prev=ours, new=other),
            {"op": "set_join", "prev": None, "new": join},
            dict(link, op="add_link", func=None),
            dict(function, prev=other, new=ours),
            {"op": "set_join", "prev": join, "new": None},
            dict(link, op="rm_link"),
        ])
        devices.store(device, [OTHER, PASS])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        due = time.monotonic()
        try:
            while not self._stop.wait(max(0, due - time.monotonic())):
                self._change()
                due += self.every_s
            while self.made % CYCLE != 0:  # leave the graph as it was
                self._change()
        except Exception as e:  # told by stop(), on the thread that counts
            self.failure = e

    def _change(self):
        with self.between:
            begin = time.monotonic()
            self.devices.ask(self.device, next(self._cycle))
        self.worst_s = max(self.worst_s, time.monotonic() - begin)
        self.made += 1

    def stop(self):
        """ret: changes made"""
        self._stop.set()
        self._thread.join()
        if self.failure:
            raise RuntimeError("changing a graph: %s" % self.failure)
        return self.made


def snapshot(port):
    """What a client of the device API waits for after its attach: all devices. ret: (seconds, messages, bytes)"""
    arrived, answers = queue.Queue(), []
    client = mqtt.Client()
    client.on_subscribe = lambda *_: arrived.put(None)
    client.on_message = lambda _, __, message: arrived.put(message.payload)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        client.subscribe("iottalk/api/res/bench-snapshot/device", 1)
        arrived.get(timeout=START_S)
        begin = time.monotonic()
        client.publish("iottalk/api/req/bench-snapshot/device", json.dumps({"op": "attach"}), 1)
        while not answers or b'"more": true' in answers[-1][-200:] or b'"more":true' in answers[-1][-200:]:
            answers.append(arrived.get(timeout=START_S))
        took = time.monotonic() - begin
        client.publish("iottalk/api/req/bench-snapshot/device", json.dumps({"op": "detach"}), 1)
        arrived.get(timeout=START_S)
        return took, len(answers), sum(map(len, answers))
    except queue.Empty:
        raise RuntimeError("no answer to the attach to the device API") from None
    finally:
        client.disconnect()
        client.loop_stop()
