"""Every operation of csm's APIs once, on things of its own, with what its answer promises; for tests that make it fail in the middle."""

import itertools
import json
import sqlite3
from contextlib import closing

from clients import DeviceApi, GraphClient, Mqtt, digest, new_id
from load import ByHttpClient, Unanswered
from model import NO_GRAPH, Device, Graph, Violation

NOBODY_S = 2.0   # without an answer for so long, and csm does answer a later request: there will be none
PLUS = ["def run(x): return [x + %d]\n" % n for n in range(2)]


class Answer:
    """ok, error (a reason goes with it) or nobody."""

    def __init__(self, kind, reply=None, reason=None):
        self.kind, self.reply, self.reason = kind, reply, reason


class DeviceOperation:
    """One request over HTTP. prepare() makes the state it needs, ask() makes the request, look() compares."""

    prepared = ()   # requests before it

    def __init__(self, suite):
        self.call = ByHttpClient(suite)
        self.numbers = itertools.count(1)

    def body(self):
        return {"accept_protos": ["mqtt"], "idf_list": [["f", ["dB"]]], "odf_list": [["f", ["dB", "dB"]]],
                "profile": {"model": "Fault", "n": next(self.numbers)}}

    def prepare(self):
        self.thing = Device(new_id())
        if self.registered:
            body = self.body()
            _, reply = self.call("PUT", "/" + self.thing.id, body)
            self.thing.answered_ok(Device.put(body, reply))
            self.look()

    def ask(self):
        method, body, change = self.request()
        try:
            status, reply = self.call(method, "/" + self.thing.id, body)
        except Unanswered as e:
            self.thing.note(method, "nobody: %s" % e)
            self.thing.unanswered(change(None))
            return Answer("nobody", reason=str(e))
        except json.JSONDecodeError:
            self.thing.note(method, "no JSON")
            self.thing.unanswered(change(None))
            return Answer("nobody", reason="no JSON")
        self.thing.note("%s %s" % (method, body), "%d %s" % (status, reply))
        if status == 200:
            self.thing.answered_ok(change(reply))
            return Answer("ok", reply)
        if status in (500, 503):
            return Answer("error", reply, reply.get("reason"))
        raise Violation("%s was answered %d %s" % (method, status, reply))

    def look(self):
        self.thing.look(*self.call("GET", "/" + self.thing.id))

    def things(self):
        return [self.thing], []

    def done(self):
        _, reply = self.call("GET", "/" + self.thing.id)
        if "rev" in reply:
            self.call("DELETE", "/" + self.thing.id, {"rev": reply["rev"]})


class Put(DeviceOperation):
    registered = False

    def request(self):
        body = self.body()
        return "PUT", body, lambda reply: Device.put(body, reply)


class PutAgain(Put):
    registered = True


class Post(DeviceOperation):
    registered = True

    def request(self):
        body = {"profile": {"model": "Fault", "n": next(self.numbers)}}
        return "POST", body, lambda reply: Device.post(body)


class Get(DeviceOperation):
    registered = True

    def request(self):
        return "GET", None, lambda reply: lambda s: s


class Delete(DeviceOperation):
    registered = True

    def request(self):
        rev = self.thing.known()["rev"]
        return "DELETE", {"rev": rev}, lambda reply: Device.delete(rev)


def asked(api, op, **fields):
    """The answer; without memory for the request's fields, one that is known by its topic alone."""
    ref = api.send(op, wait=False, **fields)
    return api.answers.get(lambda m: m.json.get("ref") == ref or "op" not in m.json, NOBODY_S).json


class GraphOperation:
    """One request of the graph API."""

    prepared = ("attach", "add_link")

    def __init__(self, suite):
        self.mqtt = Mqtt(suite)
        self.api = GraphClient(self.mqtt)
        self.da_id = new_id()
        self.thing = Graph(self.api.client_id, self.api.graph)
        self.api.ok("attach")
        self.api.add_funcs(*PLUS)
        self.api.ok("detach")

    KEYS = {"f": "idf", "g": "odf"}

    def at(self, feature):
        return {"da_id": self.da_id, self.KEYS[feature]: feature}

    def key(self, feature):
        return (self.da_id, self.KEYS[feature], feature)

    def prepare(self):
        if "attach" in self.prepared:
            self.api.ok("attach")
            self.thing.answered_ok(Graph.attach)
        if "add_link" in self.prepared:
            self.api.ok("add_link", func=None, **self.at("f"))
            self.thing.answered_ok(Graph.add_link(self.key("f"), None))
            self.look()

    def ask(self):
        op, change, fields = self.request()
        try:
            answer = asked(self.api, op, **fields)
        except AssertionError:
            self.thing.note(op, "nobody")
            self.thing.unanswered(change)
            return Answer("nobody")
        self.thing.note("%s %s" % (op, fields), answer)
        if answer["state"] == "ok":
            self.thing.answered_ok(change)
            return Answer("ok", answer)
        return Answer("error", answer, answer.get("reason"))

    def look(self):
        self.thing.look(self.api.request("attach").get("graph"))

    def things(self):
        return [], [self.thing]

    def done(self):
        answer = self.api.request("detach")
        if answer["state"] != "ok":
            raise Violation("detach: %s" % answer)
        self.thing.possible = [NO_GRAPH]
        self.thing.forget_topics()

    def close(self):
        self.mqtt.close()


class Attach(GraphOperation):
    prepared = ()

    def request(self):
        return "attach", Graph.attach, {}


class AddLink(GraphOperation):
    def request(self):
        return "add_link", Graph.add_link(self.key("g"), digest(PLUS[0])), dict(self.at("g"), func=digest(PLUS[0]))


class RmLink(GraphOperation):
    def request(self):
        return "rm_link", Graph.rm_link(self.key("f")), self.at("f")


class SetJoin(GraphOperation):
    def request(self):
        return "set_join", Graph.set_join(None, digest(PLUS[1])), {"prev": None, "new": digest(PLUS[1])}


class SetDfFunc(GraphOperation):
    def request(self):
        return "set_df_func", Graph.set_df_func(self.key("f"), None, digest(PLUS[1])), dict(
            self.at("f"), prev=None, new=digest(PLUS[1]))


class Detach(GraphOperation):
    def request(self):
        return "detach", Graph.detach, {}


class AddFuncs(GraphOperation):
    numbers = itertools.count(100)

    def request(self):
        self.code = "def run(x): return [x + %d]\n" % next(self.numbers)
        return "add_funcs", lambda s: s, {"codes": [self.code], "digests": [digest(self.code)]}

    def ask(self):
        self.last = super().ask()
        return self.last

    def look(self):
        super().look()
        if hasattr(self, "last") and self.last.kind == "ok":
            # what was answered can be used
            answer = self.api.request("add_link", da_id=self.da_id, idf="h", func=digest(self.code))
            if answer["state"] != "ok":
                raise Violation("a function that was answered is unknown: %s" % answer)
            self.api.ok("rm_link", da_id=self.da_id, idf="h")
            super().look()


class DeviceAttach:
    """The device API's: a snapshot."""

    def __init__(self, suite):
        self.mqtt = Mqtt(suite)
        self.api = DeviceApi(self.mqtt)

    def prepare(self):
        pass

    def ask(self):
        try:
            answer = asked(self.api, "attach")
        except AssertionError:
            return Answer("nobody")
        return Answer("ok" if answer["state"] == "ok" else "error", answer, answer.get("reason"))

    def look(self):
        answer = self.api.request("attach")
        if answer["state"] != "ok":
            raise Violation("device attach: %s" % answer)

    def things(self):
        return [], []

    def done(self):
        if self.api.request("detach")["state"] != "ok":
            raise Violation("device detach was refused")

    def close(self):
        self.mqtt.close()


class CtlStatus:
    """What `iotctl status` asks."""

    patient = True   # an answer that lacks memory comes when there is some

    def __init__(self, suite):
        self.suite = suite

    def prepare(self):
        pass

    def ask(self):
        answer = self.suite.control("csm", {"op": "status"})
        if not answer:
            return Answer("nobody")
        return Answer("ok" if answer["state"] == "ok" else "error", answer, answer.get("reason"))

    def look(self):
        if self.suite.control("csm", {"op": "status"}).get("state") != "ok":
            raise Violation("status is refused")

    def things(self):
        return [], []

    def done(self):
        pass


class CtlOfDevice(DeviceOperation):
    """What `iotctl` asks about one device application, which is offline."""

    registered = True
    IDF, ODF = ("idf", "f"), ("odf", "f")
    SUSPENDED, RESUMED = {IDF: 1, ODF: 1}, {IDF: 0, ODF: 0}

    def __init__(self, suite):
        super().__init__(suite)
        self.suite = suite

    def prepare(self):
        self.possible = [{}]
        super().prepare()

    def control(self, op, **fields):
        return self.suite.control("csm", dict(fields, op=op))

    def ask(self):
        answer = self.request()
        if not answer:
            self.possible.append(self.after)
            return Answer("nobody")
        if answer["state"] != "ok":
            return Answer("error", answer, answer["reason"])
        # each feature has its own fate in the answer, but in one turn they share it
        states = {f["state"]: f.get("reason") for f in answer.get("features", [])}
        if "error" in states:
            return Answer("error", answer, states["error"])
        self.possible = [self.after]
        return Answer("ok", answer)

    def stored(self):
        with closing(sqlite3.connect(self.suite.userdir / "iottalk.db", timeout=10)) as db:
            return {(mode, feature): suspended for mode, feature, suspended in db.execute(
                "SELECT mode, feature, suspended FROM suspension WHERE da_id = ?", (self.thing.id,))}

    def look(self):
        super().look()
        stored, app = self.stored(), self.control("app", app=self.thing.id)["app"]
        if stored not in self.possible:
            raise Violation("suspended are %s, not one of %s" % (stored, self.possible))
        if {(s["mode"], s["feature"]): s["state"] for s in app["suspended"]} != dict.fromkeys(stored, "waiting"):
            raise Violation("suspended are %s, csm says %s" % (stored, app["suspended"]))
        self.possible = [stored]


class CtlApps(CtlOfDevice):
    patient = True
    after = {}

    def request(self):
        answer = self.control("apps")
        if answer.get("state") == "ok" and self.thing.id not in [a["id"] for a in answer["apps"]]:
            raise Violation("%s is not in the list" % self.thing.id)
        return answer


class CtlApp(CtlOfDevice):
    patient = True
    after = {}

    def request(self):
        answer = self.control("app", app=self.thing.known()["name"])
        if answer.get("state") == "ok" and (answer["app"]["id"] != self.thing.id or answer["app"]["suspended"] != []):
            raise Violation("not what is there: %s" % answer)
        return answer


class CtlSuspend(CtlOfDevice):
    after = CtlOfDevice.SUSPENDED

    def request(self):
        return self.control("suspend", app=self.thing.id, feature="f")


class CtlResume(CtlOfDevice):
    after = CtlOfDevice.RESUMED

    def prepare(self):
        super().prepare()
        if self.control("suspend", app=self.thing.id, feature="f").get("state") != "ok":
            raise Violation("suspend is refused")
        self.possible = [self.SUSPENDED]
        self.look()

    def request(self):
        return self.control("resume", app=self.thing.id, feature="f")


class CtlDeregister(CtlOfDevice):
    after = {}

    def request(self):
        answer = self.control("deregister", app=self.thing.id)
        change = Device.delete(self.thing.known()["rev"])
        self.thing.note("deregister", answer or "nobody")
        if answer.get("state") == "ok":
            self.thing.answered_ok(change)
        elif not answer:
            self.thing.unanswered(change)
        return answer

    def look(self):
        DeviceOperation.look(self)


OPERATIONS = {"PUT": Put, "PUT again": PutAgain, "POST": Post, "GET": Get, "DELETE": Delete, "attach": Attach, "add_funcs": AddFuncs,
              "add_link": AddLink, "rm_link": RmLink, "set_join": SetJoin, "set_df_func": SetDfFunc, "detach": Detach,
              "device attach": DeviceAttach, "ctl status": CtlStatus, "ctl apps": CtlApps, "ctl app": CtlApp,
              "ctl suspend": CtlSuspend, "ctl resume": CtlResume, "ctl deregister": CtlDeregister}
