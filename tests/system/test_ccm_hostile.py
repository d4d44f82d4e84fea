"""ccm among those who mean it no good: nonsense on every route and operation, forged words of csm and of devices. Nothing is an
internal error, nothing of others changes, and what there is runs on."""

import concurrent.futures
import copy
import json
import os
import random
import re
import signal
import socket
import sqlite3
import threading

import pytest
import requests

from ccm_clients import STARTED, Editor, Rest, Wired, admin_of, check_store, graphs_that_run, graphs_that_should, unique
from clients import new_id
from suite import SANITIZED, Process, Suite, until
from test_ccm_gui import OPS, sample
from test_ccm_openapi import resolve

SEED = 5
ODD = [None, True, 0, -1, 1 << 31, 1 << 63, -(1 << 63), 10 ** 400, 1.5, -1e308, 1e308, "", " ", "0", "1e999", "nan", "x" * 256, "\0", "a\0b",
       "\ud800", "\ufffe\U0010ffff", "é" * 255, "'; DROP TABLE Project; --", "\" OR 1=1 --", "%s%n%x", "../../etc/passwd", "x" * 300000,
       [], {}, [[]], [None], [{}] * 1000, {"": ""}, {"a" * 5000: 1}, [1 << 40] * 5000]
NO_JSON = (1 << 63, 10 ** 400, "\ud800")    # nor are these in the eyes of a strict reader
PATHS = ["0", "1", "18446744073709551616", "-1", "9" * 4000, "%00", "%ff", "%2e%2e", "..%2f..", "%27%20OR%201=1", "a%0d%0ab", "*", "1e3",
         "%C3%A9" * 200, "{}"]


@pytest.fixture(scope="module")
def suite():
    s = Suite(start=STARTED)
    yield s
    s.close()


@pytest.fixture
def ann(suite):
    return Rest(suite, unique("ann"))


def deep(n):
    return json.loads("[" * n + "]" * n)


def whole(document, schema):
    """A value with all that may be in it."""
    if "$ref" in schema:
        return whole(document, resolve(document, schema["$ref"]))
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind if isinstance(kind, str) else kind[0]
    if kind == "object":
        return {name: whole(document, inner) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [whole(document, schema["items"])] if "items" in schema else []
    return {"string": "x", "integer": 1, "number": 1.5, "boolean": False}.get(kind)


def places(value, at=()):
    """The ways to all members."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield at + (key,)
        yield from places(one, at + (key,))


def with_odd(value, way, odd):
    made = copy.deepcopy(value)
    at = made
    for key in way[:-1]:
        at = at[key]
    at[way[-1]] = odd
    return made


def raw_json(value):
    """As Python would, but with what no UTF-8 has."""
    return json.dumps(value).encode()


@pytest.mark.limit(900)
def test_no_route_is_an_internal_error_whatever_is_asked(suite, ann):
    chance = random.Random(SEED)
    root = admin_of(suite)
    document = requests.get(suite.gui_url + "/api/openapi.json", timeout=10).json()
    p_id = ann.project()
    asked = {}

    def ask(who, method, path, data=None):
        r = who.http.request(method, who.url + path, data=data, headers={"Content-Type": "application/json"}, timeout=60,
                             allow_redirects=False)
        asked[r.status_code] = asked.get(r.status_code, 0) + 1
        where = "%s %s %r: %s %s" % (method, path[:200], (data or b"")[:300], r.status_code, r.text[:300])
        assert r.status_code < 500, where
        assert r.json()["state"] == ("ok" if r.status_code < 300 else "error"), where
        assert len(r.text) < 4096 or r.status_code < 300, where
        return r

    for path, item in document["paths"].items():
        if path in ("/account/logout", "/account", "/admin/user", "/admin/user/pass", "/admin/user/switch"):
            continue    # they end the login that asks
        for method, o in item.items():
            who = root if o["x-role"] == "administrator" else ann
            segments = re.findall(r"{[^}]*}", path)
            for odd in PATHS if segments else ():
                for n in range(len(segments)):
                    values = iter([odd if i == n else str(p_id) for i in range(len(segments))])
                    ask(who, method.upper(), re.sub(r"{[^}]*}", lambda m: next(values), path), b"{}")
            if "requestBody" not in o:
                continue
            filled = re.sub(r"{[^}]*}", str(p_id), path)
            body = whole(document, o["requestBody"]["content"]["application/json"]["schema"])
            for way in places(body):
                for odd in chance.sample(ODD, 12 if SANITIZED else len(ODD)):
                    ask(who, method.upper(), filled, raw_json(with_odd(body, way, odd)))
                ask(who, method.upper(), filled, raw_json(with_odd(body, way, deep(100))))
            for data in (b"[" * 100000, b'{"a":' * 3000, b"\xff\xfe", b'{"a": 1, "a": 2}', b"nul", b'"' + b"x" * 1000000 + b'"', b"1e400", b"\0"):
                assert ask(who, method.upper(), filled, data).status_code == 400
    assert asked[400] > 100 and asked[404] > 100
    print(asked)
    check_store(suite)
    ann.project()


@pytest.mark.limit(300)
def test_no_operation_of_editors_is_an_internal_error_whatever_is_asked(suite, clients, ann):
    chance = random.Random(SEED)
    editor = clients.add(Editor(suite, ann))
    for op in OPS:
        arguments = [a.rstrip("*") for a in (OPS[op] or "dm_id dm_name df_list df_id df_name df_parameter").split()]
        body = {a: sample(a) for a in arguments}
        odds = [odd for odd in ODD if odd not in NO_JSON]
        for data in [with_odd(body, (a,), odd) for a in arguments for odd in chance.sample(odds, 12)] + odds + [deep(200)]:
            answer = editor.request(op, data)
            assert answer["state"] in ("ok", "error"), answer
            assert answer["state"] == "ok" or len(answer["msg"]) < 2048 and "store" not in answer["msg"], (op, data, answer["msg"])
    editor.ok("get_project_list")
    check_store(suite)


# ---- who is not csm

def forge(chance, answer):
    """The same with something odd in it, below the places by which it is found."""
    ways = [w for w in places(answer) if w[0] not in ("ref", "op", "flag")]
    return with_odd(answer, chance.choice(ways), chance.choice(ODD)) if ways and chance.random() < 0.9 else dict(answer, state="error")


class Impostor:
    """Answers whatever ccm asks of csm, and announces devices, with words of csm's in which something is wrong."""

    def __init__(self, suite, clients):
        self.chance, self.real, self.forged = random.Random(SEED), [], 0
        self.ears, self.mouth = clients.mqtt(suite), clients.mqtt(suite)
        ready = threading.Event()
        self.ears.subscribe_then("iottalk/api/res/ccm/#", 2, self.hear, lambda: None)
        self.ears.subscribe_then("iottalk/api/res/ccm", 2, self.hear, lambda: None)
        self.ears.subscribe_then("iottalk/api/req/ccm/#", 2, self.answer, ready.set)
        assert ready.wait(10)
        self.lies = False

    def hear(self, m):
        if not self.lies and isinstance(m.json_or_bytes, dict):
            self.real.append((m.topic, m.json))

    def answer(self, m):
        if not self.lies:
            return
        request, topic = m.json, m.topic.replace("/req/", "/res/")
        alike = [a for _, a in self.real if a.get("op") == request.get("op") and "ref" in a]
        for _ in range(3):
            if alike:
                self.send(topic, dict(forge(self.chance, self.chance.choice(alike)), ref=request.get("ref")))

    def announce(self):
        topic, said = self.chance.choice(self.real)
        self.send(topic, forge(self.chance, said))

    def send(self, topic, what):
        self.forged += 1
        self.mouth.publish(topic, json.dumps(what).encode(), 1, wait=False)


@pytest.mark.limit(300)
def test_forged_words_of_csm_end_with_the_forger(make_suite, clients):
    suite = make_suite(start=STARTED)
    ann = Rest(suite, "ann")
    impostor = Impostor(suite, clients)
    wired = Wired(suite, clients, ann, outs=2)
    wired.until_result([3], [3])
    suite.restart("ccm")        # lists, snapshots, states of graphs: one of each kind to forge
    wired.device.tell("offline")
    wired.device.tell("online")
    gone = clients.sdk(suite, idf=[wired.ins[0][1]], odf=(), model=wired.model_name)
    gone.deregister()
    until(lambda: {"attach", "anno", "list"} <= {a.get("op") for _, a in impostor.real}, 20, "something to forge")
    impostor.lies = True
    for n in range(300):
        impostor.announce()
        if n % 20 == 0:
            ann.status(wired.p_id, "off" if n % 40 else "on")
            suite.control("ccm", {"op": "reconcile"})
        if n % 50 == 0:
            assert ann.call("POST", wired.na, {"na_name": "n%d" % n}).status_code < 500
    impostor.lies = False
    assert impostor.forged > 300
    assert suite.processes["ccm"].runs()
    suite.restart("ccm")
    ann.status(wired.p_id, "on")
    for do_id in wired.objects.values():
        ann.bind(wired.p_id, do_id, wired.device.da_id)
    wanted = graphs_that_should(ann)
    assert wanted[wired.na_id]
    until(lambda: graphs_that_run(suite) == wanted, 30, "csm's graphs as the store wants them")
    wired.until_result([4], [4])
    check_store(suite)


LONG = "n" * 100000


@pytest.mark.parametrize("name, profile", [
    (LONG, {}), ("a\0b", {}), ("\U0010ffff" * 1000, {}), ("x", {"extra_setup_webpage": LONG, "device_webpage": LONG}), ("x", {"u_name": LONG}),
    ("x", {"u_name": "a\0b", "is_sim": "yes", "do_id": "1"}), ("x", {"is_sim": True, "do_id": 1 << 62}), ("x", {"is_sim": True, "do_id": -1}),
    ("x", {"more": deep(500)})], ids=range(9))
def test_a_device_that_says_odd_things_of_itself_is_in_nobodys_way(suite, clients, ann, name, profile):
    df_id, feature = ann.feature("input")
    model, model_name = ann.model([df_id])
    p_id = ann.project()
    do_id = ann.device_object(p_id, model, [df_id])
    odd = {"name": name, "accept_protos": ["mqtt"], "idf_list": [[feature, ["None"]]], "odf_list": [], "profile": dict(profile, model=model_name)}
    r = requests.put("%s/%s" % (suite.url, new_id()), data=json.dumps(odd), headers={"Content-Type": "application/json"}, timeout=10)
    device = clients.sdk(suite, idf=[feature], odf=(), model=model_name, profile={"u_name": ann.user})
    ann.bind(p_id, do_id, device.da_id)
    suite.restart("ccm")
    until(lambda: suite.control("ccm", {"op": "status"}).get("csm") == "attached", 20, "ccm to know all devices")
    ann.bind(p_id, do_id, device.da_id)
    assert r.status_code < 500, r.text


# ---- who is away, or does not answer

def test_csm_that_never_answers_holds_only_up_what_needs_it(make_suite, clients):
    suite = make_suite(start=STARTED)
    ann = Rest(suite, "ann")
    wired = Wired(suite, clients, ann)
    editor = clients.add(Editor(suite, ann))
    fn_id, _ = ann.function("def run(*args):\n    return args[0] + 1\n")
    os.kill(suite.pid("csm"), signal.SIGSTOP)
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(ann.call, "PUT", "/function", {"fn_name": "f%d" % n, "code": "def run(x):\n    return x\n"}, 60) for n in range(8)]
            for n in range(20):
                assert ann.project()
                wired.set_functions("input", [fn_id if n % 2 == 0 else None])
                editor.ok("get_project_list")
            answers = [w.result() for w in waiting]
        assert {a.status_code for a in answers} == {503} and all("Retry-After" in a.headers for a in answers)
        ann.refused(503, "POST", "/function/%d" % fn_id, {"code": "def run(x):\n    return x\n"})
    finally:
        os.kill(suite.pid("csm"), signal.SIGCONT)
    wired.set_functions("input", [fn_id])
    wired.until_result([3], [4])
    until(lambda: ann.call("PUT", "/function", {"fn_name": "late", "code": "def run(x):\n    return x\n"}).status_code == 201, 40, "checks")


@pytest.mark.parametrize("who", ["agent", "broker"])
def test_a_function_is_refused_while_nobody_can_compile_it(make_suite, clients, who):
    suite = make_suite(start=STARTED)
    ann = Rest(suite, "ann")
    body = {"fn_name": "f", "code": "def run(x):\n    while True: pass\n"}
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ann.call("PUT", "/function", body, timeout=60)))
    os.kill(suite.pid("agent"), signal.SIGSTOP)    # the check is under way when it vanishes
    thread.start()
    until(lambda: "op=attach" in suite.processes["csm"].log() and "functions" in suite.processes["csm"].log(), 10, "the check")
    suite.kill9(who)
    os.kill(suite.pid("agent"), signal.SIGCONT) if who != "agent" else None
    thread.join(60)
    assert [a.status_code for a in answers] == [503], answers
    assert ann.call("PUT", "/function", body, timeout=60).status_code == 503
    assert [f for f in ann.ok("GET", "/function")["fn_list"] if f["fn_name"] == "f"] == []
    ann.project()
    suite.start(who)
    until(lambda: ann.call("PUT", "/function", body, timeout=60).status_code == 201, 40, "the function")


# ---- the store

def foreign(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE Project (x)")
        db.execute("INSERT INTO Project VALUES (1)")


def newer(path):
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO schema_version (version) VALUES (1000000)")


def cut(path):
    size = path.stat().st_size
    os.truncate(path, size - size // 3)


def overwritten(path):
    data = bytearray(path.read_bytes())
    for at in range(4096, len(data), 4096):
        data[at:at + 512] = b"\xa5" * 512
    path.write_bytes(data)


STORES = {
    "garbage": lambda path: path.write_bytes(b"not a store at all" * 1000), "cut": cut, "overwritten": overwritten, "newer": newer,
    "a directory": lambda path: (path.unlink(), path.mkdir()), "foreign": lambda path: (path.unlink(), foreign(path)),
}


def content(path):
    """All of it that can be told."""
    try:
        with sqlite3.connect("file:%s?mode=ro" % path, uri=True) as db:
            return list(db.iterdump())
    except sqlite3.Error:
        return path.read_bytes() if path.is_file() else None


@pytest.mark.parametrize("what", STORES)
def test_a_store_that_is_none_ends_ccm_with_a_word_and_stays_as_it_is(make_suite, what):
    suite = make_suite(start=STARTED)
    ann = Rest(suite, "ann")
    ann.project()
    suite.stop("ccm")
    path = suite.userdir / "iottalk-gui.db"
    STORES[what](path)
    before = content(path)
    ccm = suite.processes["ccm"]
    seen = len(ccm.log())
    ccm.start(ready=False)
    ccm.killed = True
    assert ccm.popen.wait(20) == 1, ccm.log()[seen:]
    ccm.notice.close()
    assert "start.failed" in ccm.log()[seen:] and str(path) in ccm.log()[seen:], ccm.log()[seen:]
    assert content(path) == before
    assert suite.processes["csm"].runs() and requests.get(suite.url + "/healthz", timeout=5).status_code == 200


def test_a_second_ccm_on_a_store_is_refused(make_suite):
    suite = make_suite(start=STARTED)
    ann = Rest(suite, "ann")
    second = Process("ccm-2", suite.processes["ccm"].argv, suite.dir, True)
    second.start(ready=False)
    assert second.popen.wait(20) == 1 and second.log(), second.log()
    second.notice.close()
    assert ann.project()


# ---- much at once

def test_large_bodies_at_once_take_little_memory(suite, ann):
    """As many connections as there may be, each with a body that is as large as one may be."""
    cookie = "; ".join("%s=%s" % (c.name, c.value) for c in ann.http.cookies)
    body = json.dumps({"fn_name": "x", "code": "def run(x):\n    return x\n" + "#" * 250000}).encode()
    head = ("PUT /api/v0/function HTTP/1.1\r\nHost: localhost\r\nCookie: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % (cookie, len(body))).encode()
    before, peak, done = suite.rss_kb("ccm"), [0], threading.Event()

    def watch():
        while not done.wait(0.02):
            peak.append(suite.rss_kb("ccm"))

    def one(_):
        try:
            with socket.create_connection(("127.0.0.1", suite.gui_port), timeout=60) as s:
                s.sendall(head + body)
                return s.recv(4096)[9:12]
        except OSError:
            return b"cut"

    watcher = threading.Thread(target=watch)
    watcher.start()
    with concurrent.futures.ThreadPoolExecutor(300) as pool:
        answers = list(pool.map(one, range(900)))
    done.set()
    watcher.join()
    counts = {a: answers.count(a) for a in set(answers)}
    assert SANITIZED or max(peak) < before + 128 * 1024, (before, max(peak))
    assert set(counts) <= {b"201", b"503", b"cut", b""}, counts
    assert ann.project()


def test_simulated_devices_leave_descriptors_for_others(make_suite):
    """As many as may be, where few descriptors are allowed; and those that are gone keep none."""
    suite = make_suite(start=("broker", "csm", "agent"))
    ccm = suite.processes["ccm"]
    ccm.argv = ["prlimit", "--nofile=1024:1024"] + list(ccm.argv)
    suite.start("ccm")
    ann, bob = Rest(suite, "ann"), Rest(suite, "bob")
    df_id, feature = ann.feature("input")
    _, model = ann.model([df_id])
    objects = {str(n): {"dm_name": model, "dfo": {str(n): {"df_name": feature, "alias_name": "a"}}} for n in range(600)}
    document = json.dumps({"project": {"DeviceObject": objects, "NetworkApplication": []}})
    r = ann.http.post(suite.gui_url + "/import_project", allow_redirects=False, timeout=60, files={
        "p_name": (None, "p"), "importfilename": ("f.json", document)})
    assert r.status_code == 302, r.text
    p_id, before = ann.data("/project")[0]["p_id"], suite.open_fds("ccm")
    bound = lambda: sum(1 for o in ann.data("/project/%d" % p_id)["ido"] if o["d_id"])
    ann.ok("POST", "/simulation/%d" % p_id, {"sim": "on"})
    until(lambda: bound() >= 100, 20, "simulated devices")
    for _ in range(20):
        bob.http.close()
        bob.project()
        assert bound() < 200
    ann.ok("POST", "/simulation/%d" % p_id, {"sim": "off"})
    until(lambda: suite.open_fds("ccm") < before + 30, 20, "descriptors of devices that are gone")
    until(lambda: bound() == 0, 20, "their leave")
