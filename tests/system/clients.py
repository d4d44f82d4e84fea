"""Clients of the suite as they exist in the wild, on paho and requests: device SDKs, graph API and device API users."""

import hashlib
import itertools
import json
import socket
import threading
import time
import uuid
from collections import deque

import paho.mqtt.client as paho
import requests

import stopwatch

WAIT_S = 30
JSON_TYPE = {"Content-Type": "application/json"}


def digest(code):
    return hashlib.sha256(code.encode()).hexdigest()


def new_id():
    return str(uuid.uuid4())


def raw_socket(sock):
    return getattr(sock, "_socket", sock)  # paho wraps the one beneath a WebSocket


class Message:
    def __init__(self, topic, payload, qos=0, retain=False):
        self.topic, self.payload, self.qos, self.retain = topic, payload, qos, retain

    @property
    def json(self):
        return json.loads(self.payload.decode())

    @property
    def json_or_bytes(self):
        """For a receiver that goes on whatever is sent to it: a hostile engine sends to its own topics what it likes."""
        try:
            return self.json
        except ValueError:
            return self.payload

    def __repr__(self):
        return "%s %r" % (self.topic, self.payload[:300])


class Inbox:
    """What arrived, in order; get() takes the first that fits and leaves the others."""

    def __init__(self, what="message"):
        self.what = what
        self._items = deque()
        self._changed = threading.Condition()

    def put(self, item):
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    def get(self, match=lambda item: True, timeout=WAIT_S):
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for item in self._items:
                    if match(item):
                        self._items.remove(item)
                        return item
                left = deadline - time.monotonic()
                assert left > 0, "no fitting %s within %s s; there are %s" % (
                    self.what, timeout, list(self._items)[:20])
                self._changed.wait(left)

    def wait_for(self, condition, timeout=WAIT_S):
        """Until condition(list of all that is here); ret: that list, still here."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(list(self._items)), timeout), \
                "%d x %s is not enough after %s s; the last are %s" % (
                    len(self._items), self.what, timeout, list(self._items)[-5:])
            return list(self._items)

    def take_all(self):
        with self._changed:
            items = list(self._items)
            self._items.clear()
            return items

    def __len__(self):
        return len(self._items)


class Mqtt:
    """One connection. It reconnects and subscribes again by itself, as SDKs do."""

    def __init__(self, suite, client_id="", transport="tcp", clean_session=True, will=None, connect=True):
        self.suite = suite
        self._subscriptions = {}   # filter -> (qos, Inbox or callback)
        self._waiting = {}         # filter -> what to call at its next SUBACK
        self._acked = {}           # mid of a SUBSCRIBE -> its filter
        self._lock = threading.RLock()
        self._state = threading.Condition()
        self.connects = 0
        self.up = False
        self.closed = False
        if not clean_session and not client_id:
            client_id = "test-" + new_id()
        self.client = paho.Client(client_id=client_id, clean_session=clean_session, transport=transport)
        self.client.max_inflight_messages_set(1000)
        self.client.reconnect_delay_set(1, 1)
        self.client._reconnect_min_delay = self.client._reconnect_max_delay = 0.1
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = self._on_message
        self.client.on_subscribe = self._on_subscribe
        self.client.on_socket_open = self._on_socket
        if will:
            self.client.will_set(*will)
        self._port = suite.ws_port if transport == "websockets" else suite.mqtt_port
        if connect:
            self.open()

    def open(self):
        # not suite.start() but a broker that is being restarted may be away: the loop tries again
        self.client.connect_async("127.0.0.1", self._port, keepalive=30)
        self.client.loop_start()
        self.wait(lambda: self.up, "connection to the broker")

    def wait(self, condition, what, timeout=WAIT_S):
        with self._state:
            assert self._state.wait_for(condition, timeout), "no %s within %s s" % (what, timeout)

    def _changed(self):
        with self._state:
            self._state.notify_all()

    @staticmethod
    def _on_socket(client, userdata, sock):
        raw_socket(sock).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _on_connect(self, client, userdata, flags, rc):
        assert rc == 0, paho.connack_string(rc)
        with self._lock:
            self._acked.clear()
            for topic_filter, (qos, _) in self._subscriptions.items():
                self._subscribe(topic_filter, qos)
        self.connects += 1
        self.up = True
        self.on_up()
        self._changed()

    def on_up(self):
        """For those who do something at every connection."""

    def _on_disconnect(self, client, userdata, rc):
        self.up = False
        self._changed()

    def _subscribe(self, topic_filter, qos):
        rc, mid = self.client.subscribe(topic_filter, qos)
        if rc == 0:
            self._acked[mid] = topic_filter

    def _on_subscribe(self, client, userdata, mid, granted):
        with self._lock:
            waiting = self._waiting.pop(self._acked.pop(mid, None), [])
        for done in waiting:
            done()

    def _on_message(self, client, userdata, m):
        message = Message(m.topic, m.payload, m.qos, m.retain)
        for topic_filter, (_, take) in list(self._subscriptions.items()):
            if paho.topic_matches_sub(topic_filter, m.topic):
                take(message)

    def subscribe_then(self, topic_filter, qos, take, done):
        """take(message) for every message; done() at the SUBACK, if need be that of the next connection. Does not wait: for the
        network thread."""
        with self._lock:
            self._subscriptions[topic_filter] = (qos, take)
            self._waiting.setdefault(topic_filter, []).append(done)
            self._subscribe(topic_filter, qos)

    def subscribe(self, topic_filter, qos=2):
        """ret: the Inbox of its messages; the broker has acknowledged."""
        inbox, acked = Inbox("message on " + topic_filter), threading.Event()
        self.subscribe_then(topic_filter, qos, inbox.put, acked.set)
        assert acked.wait(WAIT_S), "no SUBACK for " + topic_filter
        return inbox

    def unsubscribe(self, topic_filter):
        with self._lock:
            self._subscriptions.pop(topic_filter, None)
            self._waiting.pop(topic_filter, None)
            self.client.unsubscribe(topic_filter)

    def publish(self, topic, payload, qos=2, retain=False, wait=True):
        """payload: bytes and str as they are, None empty, everything else as JSON."""
        if not isinstance(payload, (bytes, str)) and payload is not None:
            payload = json.dumps(payload)
        info = self.client.publish(topic, payload, qos, retain)
        if qos and info.rc == paho.MQTT_ERR_NO_CONN:
            info.rc = paho.MQTT_ERR_SUCCESS   # it is kept, and sent at the next connection
        if wait:
            info.wait_for_publish(WAIT_S)
            assert info.is_published(), "publication on %s was not acknowledged" % topic
        return info

    def drop_connection(self):
        """The network fails for a moment: the broker sends the last will, the client comes back by itself."""
        before = self.connects
        self._cut()
        self.wait(lambda: self.connects > before, "reconnection")

    def vanish(self):
        """The client is gone without a goodbye."""
        self.client._reconnect_min_delay = self.client._reconnect_max_delay = 3600
        self._cut()
        self.close()

    def _cut(self):
        raw_socket(self.client.socket()).shutdown(socket.SHUT_RDWR)

    def close(self):
        if not self.closed:
            self.closed = True
            self.client.disconnect()
            self.client.loop_stop()


class Api:
    """Requests on iottalk/api/req/<client-id>/..., answers told apart by a field of ours that is carried back."""

    def __init__(self, mqtt, client_id, rest):
        self.mqtt = mqtt
        self.client_id = client_id or "test-" + new_id()
        self.req = "/".join(["iottalk/api/req", self.client_id] + rest)
        self.res = "/".join(["iottalk/api/res", self.client_id] + rest)
        self.answers = mqtt.subscribe(self.res)
        self._refs = itertools.count(1)

    def send(self, op, qos=2, wait=True, **fields):
        ref = "ref-%d" % next(self._refs)
        self.mqtt.publish(self.req, dict(fields, op=op, ref=ref), qos, wait=wait)
        return ref

    def answer(self, ref, timeout=WAIT_S):
        return self.answers.get(lambda m: m.json.get("ref") == ref, timeout).json

    def request(self, op, qos=2, timeout=WAIT_S, **fields):
        return self.answer(self.send(op, qos, **fields), timeout)

    def ok(self, op, **fields):
        answer = self.request(op, **fields)
        assert answer["state"] == "ok", answer
        assert answer["op"] == op
        assert not answer.get("pending"), answer
        return answer

    def refused(self, op, *words, **fields):
        answer = self.request(op, **fields)
        assert answer["state"] == "error", answer
        assert answer["op"] == op
        for word in words:
            assert word in answer["reason"], (word, answer["reason"])
        return answer


class GraphClient(Api):
    def __init__(self, mqtt, client_id=None, graph="1"):
        super().__init__(mqtt, client_id, ["graph", graph])
        self.graph = graph

    def add_funcs(self, *codes):
        """ret: their digests"""
        digests = [digest(c) for c in codes]
        self.ok("add_funcs", codes=list(codes), digests=digests)
        return digests if len(digests) > 1 else digests[0]

    def state(self):
        """The graph's current state, as the answer to a repeated attach tells it."""
        return self.ok("attach")["graph"]

    def link(self, da_id, mode, feature):
        for link in self.state()["links"]:
            if (link["da_id"], link["mode"], link["feature"]) == (da_id, mode, feature):
                return link
        return None

    def topic(self, da_id, mode, feature):
        return self.link(da_id, mode, feature)["topic"]

    def until_link(self, da_id, mode, feature, state, timeout=WAIT_S):
        """Ask until the link is in that state (nothing announces it)."""
        deadline = time.monotonic() + timeout
        while True:
            link = self.link(da_id, mode, feature)
            if link and link["state"] == state:
                return link
            assert time.monotonic() < deadline, "the link is not '%s' but %s" % (state, link)

    def wire(self, da_id, idf, odf, idf_func=None, join=None, odf_func=None, owner=None):
        """attach, one IDF, one ODF, the functions given as sources. owner: None: the client."""
        self.ok("attach", **({"owner": owner} if owner else {}))
        codes = [c for c in (idf_func, join, odf_func) if c]
        if codes:
            self.add_funcs(*codes)
        self.ok("add_link", da_id=da_id, idf=idf, func=idf_func and digest(idf_func))
        self.ok("add_link", da_id=da_id, odf=odf, func=odf_func and digest(odf_func))
        if join:
            self.ok("set_join", prev=None, new=digest(join))
        return self

    def monitor(self):
        """ret: the Inbox of the monitor's messages"""
        topics = self.ok("start_monitor")["monitor_topics"]
        return self.mqtt.subscribe(topics[0] if isinstance(topics, list) else topics)


def announced_id(anno):
    """register and changed tell an object, the others the id itself"""
    return anno["da"]["id"] if isinstance(anno["da"], dict) else anno["da"]


class DeviceApi(Api):
    def __init__(self, mqtt, client_id=None):
        super().__init__(mqtt, client_id, ["device"])

    def attach(self):
        return self.ok("attach")["da_list"]

    def announced(self, kind, da_id, timeout=WAIT_S):
        def fits(m):
            a = m.json
            return a.get("op") == "anno" and a["type"] == kind and announced_id(a) == da_id
        return self.answers.get(fits, timeout).json


class HttpApi:
    def __init__(self, suite):
        self.base = suite.url
        self.session = requests.Session()

    def call(self, method, path, **kw):
        return self.session.request(method, self.base + path, timeout=WAIT_S, **kw)

    def put(self, da_id, body):
        return self.call("PUT", "/" + da_id, json=body)

    def get(self, path):
        return self.call("GET", "/" + path)

    def post(self, path, body):
        return self.call("POST", "/" + path, json=body)

    def delete(self, da_id, rev):
        return self.call("DELETE", "/" + da_id, json={"rev": rev})


class Sdk(Mqtt):
    """A device application on the Python SDK: registers with feature tuples, leaves a retained last will, tells a retained
    online, takes commands at QoS 2 and answers them with msg_id and state, pushes JSON arrays, at a reconnection says offline,
    then online. Its `answer` may be a function of the command that returns the answer or None."""

    transport = "tcp"
    accept_protos = ["mqtt"]

    def __init__(self, suite, idf=("meow",), odf=("meow",), name=None, da_id=None, model="Dummy",
                 answer=None, clean_session=True, data_qos=2, connect=True, profile=None):
        self.da_id = da_id or new_id()
        self.http = HttpApi(suite)
        self.body = {"accept_protos": self.accept_protos, "profile": dict(profile or {}, model=model)}
        if name is not None:
            self.body["name"] = name
        for key, features in (("idf_list", idf), ("odf_list", odf)):
            if features:
                self.body[key] = [self.feature(f) for f in features]
        self.answer = answer or (lambda c: {"msg_id": c["msg_id"], "state": "ok"})
        self.data_qos = data_qos
        self.commands = Inbox("command")
        self.data = Inbox("value")
        self.topics = {}         # (mode, feature) -> topic, as long as connected
        self._ready = set()      # the same keys, once the subscription stands and the answer is sent
        self.register()
        self.up_topic, self.down_topic = self.registered["ctrl_chans"]
        super().__init__(suite, transport=self.transport, clean_session=clean_session,
                         will=(self.up_topic, json.dumps(self.state_message("offline")), 2, True), connect=False)
        self._online = threading.Event()
        if connect:
            self.open()
            self.until_online()

    def feature(self, name):
        return (name, ("dB",))

    def register(self):
        response = self.http.put(self.da_id, self.body)
        assert response.status_code == 200, response.text
        self.registered = response.json()
        self.rev = self.registered["rev"]
        self.name = self.registered["name"]

    def state_message(self, state):
        return {"state": state, "rev": self.rev}

    def until_online(self):
        assert self._online.wait(WAIT_S), "the online message was not acknowledged"

    def on_up(self):
        first = self.connects == 1
        self._ready.clear()
        self.subscribe_then(self.down_topic, 2, self._on_command, lambda: self._arrive(first))

    def _arrive(self, first):
        self._online.clear()
        if not first:
            self.tell("offline", wait=False)
        info = self.tell("online", wait=False)
        with self._lock:
            self._mid_online = info.mid
        self.client.on_publish = self._on_publish

    def _on_publish(self, client, userdata, mid):
        if mid == self._mid_online:
            self._online.set()

    def tell(self, state, wait=True):
        return self.publish(self.up_topic, self.state_message(state), 2, True, wait=wait)

    def _on_command(self, message):
        command = message.json
        mode = "idf" if "idf" in command else "odf"
        key = (mode, command[mode])

        def done():
            answer = self.answer(command)
            if answer is not None:
                self.publish(self.up_topic, answer, 2, wait=False)
            if command["command"] == "CONNECT":
                self._ready.add(key)
            self.commands.put(command)
            self._changed()

        if command["command"] == "CONNECT":
            self.topics[key] = command["topic"]
            if mode == "odf":
                self.subscribe_then(command["topic"], self.data_qos, self._on_data(command[mode]), done)
                return
        elif command["command"] == "DISCONNECT":
            topic = self.topics.pop(key, None)
            self._ready.discard(key)
            if topic and mode == "odf":
                self.unsubscribe(topic)
        done()

    def _on_data(self, feature):
        return lambda message: self.data.put((feature, message.json_or_bytes))

    def until_connected(self, *keys, timeout=WAIT_S):
        """keys: (mode, feature)"""
        self.wait(lambda: all(k in self._ready for k in keys), "CONNECT for %s" % (keys,), timeout)

    def command(self, name, mode, feature, timeout=WAIT_S):
        return self.commands.get(lambda c: c["command"] == name and c.get(mode) == feature, timeout)

    def push(self, feature, values, qos=2, wait=True):
        """A feature that is being connected has no topic yet: CONNECT comes a moment after the graph."""
        self.until_connected(("idf", feature))
        return self.publish(self.topics[("idf", feature)], values, qos, wait=wait)

    def received(self, feature, timeout=WAIT_S):
        return self.data.get(lambda d: d[0] == feature, timeout)[1]

    def deregister(self):
        self.tell("offline")
        self.close()
        return self.http.delete(self.da_id, self.rev)


class JsSdk(Sdk):
    """A page on the JavaScript SDK: MQTT over WebSocket on ws_port, accept_protos a bare string, feature types as strings."""

    transport = "websockets"
    accept_protos = "mqtt"

    def feature(self, name):
        return [name, "number"]


class Load:
    """Publishes 0, 1, 2, ... as [n] on a device's IDF at a steady rate until stopped; keeps going while the broker is away."""

    def __init__(self, sdk, feature, rate=500, qos=1):
        self.sdk, self.feature, self.rate, self.qos = sdk, feature, rate, qos
        self.topic = sdk.topics[("idf", feature)]
        self.sent = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        begin = time.monotonic()
        while not self._stop.is_set():
            due = int((time.monotonic() - begin) * self.rate)
            while self.sent < due:
                self.sdk.publish(self.topic, [self.sent], self.qos, wait=False)
                self.sent += 1
            self._stop.wait(2 / self.rate)

    def stop(self):
        """ret: how many were sent"""
        self._stop.set()
        self._thread.join(WAIT_S)
        return self.sent


class Recorder:
    """Takes the numbers that come out on an ODF, with the stopwatch's time, over its own persistent session."""

    def __init__(self, mqtt, topic, qos=1):
        self.values, self.times, self.whole = [], [], []    # whole: the messages themselves
        self._changed = threading.Condition()
        acked = threading.Event()
        mqtt.subscribe_then(topic, qos, self._take, acked.set)
        assert acked.wait(WAIT_S), "no SUBACK for " + topic

    def _take(self, message):
        value = message.json
        with self._changed:
            self.values.append(value[0] if isinstance(value, list) else value)
            self.times.append(stopwatch.now())
            self.whole.append(value)
            self._changed.notify_all()

    def until(self, condition, timeout=WAIT_S):
        """condition(values, times)"""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.values, self.times), timeout), \
                "%d values after %s s, the last are %s" % (len(self.values), timeout, self.values[-5:])

    def until_value(self, value, timeout=WAIT_S):
        """Until one that is not lower has come."""
        self.until(lambda values, times: values and max(values[-50:]) >= value, timeout)
        return self

    def after(self, moment):
        """The first arrival after a moment; waits for it."""
        self.until(lambda values, times: times and times[-1] > moment)
        return next(t for t in self.times if t > moment)
