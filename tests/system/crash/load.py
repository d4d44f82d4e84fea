"""The clients that work while things are killed, each with a random sequence of its own and things of its own, and the gate where all of
them compare what they were answered with what there is."""

import http.client
import json
import random
import threading
import time

import requests

from clients import JSON_TYPE, GraphClient, HttpApi, Mqtt, digest
from model import GONE, NO_GRAPH, REFUSED, Device, Graph, Violation

ASK_AGAIN_S = 1.5     # no answer: ask for the state behind the request
ANSWER_S = 60          # of a machine that is busy with other things; no promise but that there is an answer
PAUSE_S = (0.0, 0.02)
SIZE = {"devices": 12, "graphs": 4, "links": 6}
FUNCTIONS = ["def run(*x): return [v for v in x][:1] + [%d]\n" % n for n in range(8)]


class Gate:
    """Closed: every client that comes by verifies its things, then waits until it is opened again."""

    def __init__(self):
        self._changed = threading.Condition()
        self._closed = self.stopped = False
        self._waiting = 0
        self.error = None

    def pass_by(self, verify):
        if not self._closed:
            return
        verify()
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._closed or self.stopped)
            self._waiting -= 1

    def fail(self, error):
        with self._changed:
            self.error = self.error or error
            self._changed.notify_all()

    def close(self, clients, timeout):
        """Until all have verified."""
        with self._changed:
            self._closed = True
            done = self._changed.wait_for(lambda: self._waiting == clients or self.error, timeout)
        if self.error:
            raise self.error
        if not done:
            raise Violation("only %d of %d clients could compare their things within %d s" % (self._waiting, clients, timeout))

    def open(self):
        with self._changed:
            self._closed = False
            self._changed.notify_all()

    def stop(self):
        with self._changed:
            self.stopped = True
            self._closed = False
            self._changed.notify_all()


class Client(threading.Thread):
    """step() makes one request, verify() compares all things of this client."""

    def __init__(self, name, seed, gate, counts):
        super().__init__(name=name, daemon=True)
        self.chance = random.Random("%s %s" % (seed, name))
        self.gate, self.counts = gate, counts
        self.made = 0

    def run(self):
        try:
            while not self.gate.stopped:
                self.gate.pass_by(self.verify)
                self.step()
                time.sleep(self.chance.uniform(*PAUSE_S))
        except Exception as e:  # whatever it is, the run ends with it
            self.gate.fail(e if isinstance(e, Violation) else Violation("%s: %s: %s" % (self.name, type(e).__name__, e)))

    def count(self, what):
        with self.counts["lock"]:
            self.counts[what] = self.counts.get(what, 0) + 1

    def number(self):
        self.made += 1
        return self.made


# -- devices over HTTP

class Unanswered(Exception):
    pass


class ByRequests:
    def __init__(self, suite):
        self.api = HttpApi(suite)

    def __call__(self, method, path, body=None):
        try:
            r = self.api.call(method, path, **({} if body is None else {"json": body}))
        except requests.RequestException as e:
            raise Unanswered(e) from e
        return r.status_code, r.json()


class ByHttpClient:
    """A new connection for each request."""

    def __init__(self, suite):
        self.port = suite.http_port

    def __call__(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), JSON_TYPE)
            r = connection.getresponse()
            return r.status, json.loads(r.read())
        except (OSError, http.client.HTTPException) as e:
            raise Unanswered(e) from e
        finally:
            connection.close()


class DeviceClient(Client):
    def __init__(self, name, seed, gate, counts, call, ids):
        super().__init__(name, seed, gate, counts)
        self.call = call
        self.devices = [Device(da_id) for da_id in ids]

    def body(self):
        n = self.number()
        features = [["f%d" % k, ["dB"] * self.chance.randint(1, 3)] for k in range(self.chance.randint(1, 4))]
        body = {"accept_protos": ["mqtt"], "profile": {"model": "Crash", "n": n}}
        for key in ("idf_list", "odf_list"):
            if self.chance.random() < 0.8:
                body[key] = features
        if self.chance.random() < 0.5:
            body["name"] = "%s-%d" % (self.name, n)
        return body

    def step(self):
        d = self.chance.choice(self.devices)
        # one whose last request nobody answered is looked at first: its revision may be another one
        state = d.known() if len(d.possible) == 1 else None
        if state is None or (state != GONE and state["rev"] is None):
            self.look(d)
        elif state == GONE or self.chance.random() < 0.4:
            self.put(d)
        elif self.chance.random() < 0.4:
            self.post(d)
        elif self.chance.random() < 0.5:
            self.look(d)
        else:
            self.delete(d, state["rev"] if self.chance.random() < 0.7 else "0" * 8 + "-0000-4000-8000-" + "0" * 12)

    def request(self, d, method, path, body, change):
        """change: as if it were answered ok; with the reply if that matters. ret: None if nobody answered."""
        text = "%s %s" % (method, json.dumps(body))
        try:
            status, reply = self.call(method, path, body)
        except Unanswered as e:
            self.count("unanswered")
            d.note(text, "nobody: %s" % e)
            d.unanswered(change(None))
            return None
        d.note(text, "%d %s" % (status, json.dumps(reply)))
        if status == 200:
            self.count("ok")
            d.answered_ok(change(reply))
        elif status in (400, 404):
            self.count("refused")
            d.answered_error(change(None))
        else:
            raise Violation("%s: %s was answered %d %s" % (d.what, text, status, reply))
        return status

    def put(self, d):
        body = self.body()
        if self.request(d, "PUT", "/" + d.id, body, lambda reply: Device.put(body, reply)):
            self.look(d)

    def post(self, d):
        body = {"profile": {"model": "Crash", "n": self.number()}}
        self.request(d, "POST", "/" + d.id, body, lambda reply: Device.post(body))

    def delete(self, d, rev):
        self.request(d, "DELETE", "/" + d.id, {"rev": rev}, lambda reply: Device.delete(rev))

    def look(self, d):
        try:
            status, reply = self.call("GET", "/" + d.id)
        except Unanswered:
            return False
        if status not in (200, 404):
            raise Violation("%s: GET was answered %d %s" % (d.what, status, reply))
        d.look(status, reply)
        return True

    def verify(self):
        deadline = time.monotonic() + ANSWER_S
        for d in self.devices:
            while not self.look(d):
                if time.monotonic() > deadline:
                    raise Violation("%s: no answer to GET within %d s" % (d.what, ANSWER_S))
                time.sleep(0.05)


# -- graphs over MQTT

class GraphWorker(Client):
    """One API client with some graphs. da_ids: devices, registered or not, that its links may name."""

    def __init__(self, name, seed, gate, counts, suite, da_ids):
        super().__init__(name, seed, gate, counts)
        self.suite, self.da_ids = suite, da_ids
        self.mqtt = Mqtt(suite)
        self.apis = [GraphClient(self.mqtt, "crash-" + name, str(n)) for n in range(SIZE["graphs"])]
        self.graphs = [Graph(a.client_id, a.graph) for a in self.apis]
        self.apis[0].ok("attach")
        self.graphs[0].answered_ok(Graph.attach)
        self.apis[0].add_funcs(*FUNCTIONS)
        self.digests = [digest(code) for code in FUNCTIONS]

    def some_func(self):
        return self.chance.choice(self.digests + [None])

    def some_key(self):
        return (self.chance.choice(self.da_ids), self.chance.choice(("idf", "odf")), "f%d" % self.chance.randrange(3))

    def step(self):
        n = self.chance.randrange(len(self.apis))
        g = self.graphs[n]
        state = self.chance.choice(g.possible)
        links = state.get("links", {})
        # some requests do not fit the state, and must be refused
        key = self.chance.choice(list(links)) if links and self.chance.random() < 0.9 else self.some_key()
        at = {"da_id": key[0], key[1]: key[2]}
        what = self.chance.random()
        func, prev = self.some_func(), self.some_func()
        if state == NO_GRAPH and what < 0.8:
            self.look(n)
        elif what < 0.35 and len(links) < SIZE["links"]:
            key = self.some_key()
            self.request(n, "add_link", Graph.add_link(key, func), da_id=key[0], func=func, **{key[1]: key[2]})
        elif what < 0.55:
            self.request(n, "rm_link", Graph.rm_link(key), **at)
        elif what < 0.7:
            prev = state.get("join") if self.chance.random() < 0.9 else prev
            self.request(n, "set_join", Graph.set_join(prev, func), prev=prev, new=func)
        elif what < 0.85:
            prev = links.get(key) if self.chance.random() < 0.9 else prev
            self.request(n, "set_df_func", Graph.set_df_func(key, prev, func), prev=prev, new=func, **at)
        elif what < 0.97:
            self.look(n)
        else:
            self.request(n, "detach", Graph.detach)

    def wait(self, api, ref, timeout):
        try:
            return api.answer(ref, timeout)
        except AssertionError:
            return None

    def request(self, n, op, change, **fields):
        api, g = self.apis[n], self.graphs[n]
        connects = self.mqtt.connects
        ref = api.send(op, wait=False, **fields)
        answer = self.wait(api, ref, ASK_AGAIN_S)
        deadline = time.monotonic() + ANSWER_S
        while answer is None:
            # requests of a client are applied in order: once the state behind it is told and settled, no answer will come
            told = self.ask_state(n, ref, deadline)
            if told is not None and told.get("ref") == ref:
                answer = told
            elif told is not None:
                g.unanswered(change)
                g.note("%s %s" % (op, fields), "nobody")
                self.count("unanswered")
                g.look(told.get("graph"))
                return
        g.note("%s %s" % (op, fields), {k: answer.get(k) for k in ("state", "reason", "pending")})
        self.judge(g, change, answer, self.mqtt.connects != connects or not self.mqtt.up)

    def judge(self, g, change, answer, connection_broke):
        fits = [s for s in g.possible if change(s) is not REFUSED]
        if answer["state"] == "ok":
            self.count("ok")
            g.answered_ok(change)
        elif connection_broke and fits or "taken up before" in answer["reason"]:
            # sent again by the client's library, or by the broker after a kill of csm, so perhaps applied before it was refused
            self.count("unanswered")
            g.unanswered(change)
        else:
            self.count("refused")
            g.answered_error(change)

    def ask_state(self, n, ref, deadline):
        """ret: the answer to `ref`, if it came after all; or what a settled graph tells of itself; None: ask again"""
        api, g = self.apis[n], self.graphs[n]
        if time.monotonic() > deadline:
            raise Violation("%s: no answer within %d s\n  %s" % (g.what, ANSWER_S, "\n  ".join(g.history)))
        asked = api.send("attach", wait=False)
        got = None
        try:
            got = api.answers.get(lambda m: m.json.get("ref") in (ref, asked), ASK_AGAIN_S).json
        except AssertionError:
            if ref is None or NO_GRAPH in g.possible:
                g.unanswered(Graph.attach)
            return None
        if got["ref"] == ref:
            return got
        if got["state"] != "ok":
            raise Violation("%s: attach was refused: %s" % (g.what, got))
        if ref is not None:
            late = self.wait(api, ref, 0.3)
            if late is not None or got.get("graph", {}).get("pending"):
                return late
        return got

    def look(self, n):
        g, deadline = self.graphs[n], time.monotonic() + ANSWER_S
        told = None
        while told is None:
            told = self.ask_state(n, None, deadline)
        g.note("attach", "graph" if "graph" in told else "new")
        self.count("ok")
        g.look(told.get("graph"))

    def verify(self):
        for n in range(len(self.apis)):
            self.look(n)
        for api in self.apis:
            api.answers.take_all()   # answers to what was asked twice

    def close(self):
        self.mqtt.close()
