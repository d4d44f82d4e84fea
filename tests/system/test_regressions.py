"""What a review found wrong once, each with what must hold instead."""

import itertools
import os
import signal
import sqlite3
import time
from contextlib import contextmanager

from clients import HttpApi, digest, new_id
from suite import SANITIZED, until

PLUS_ONE = "def run(x): return [x + 1]\n"
AGENT_TIMEOUT_S = 1.0
REFUSED_S = 30   # a store that is locked may be waited for
numbers = itertools.count(1000)


@contextmanager
def stopped(pid):
    """The process stands still and loses nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def locked(suite):
    """Somebody else holds the store's write lock."""
    other = sqlite3.connect(suite.userdir / "iottalk.db", isolation_level=None, timeout=10)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


def wired(suite, clients, idf_func=None, **kw):
    """A graph that leads a device's meow back to it. ret: graph, device"""
    sdk = clients.sdk(suite, **kw)
    g = clients.graph(suite).wire(sdk.da_id, "meow", "meow", idf_func)
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    for mode in ("idf", "odf"):
        g.until_link(sdk.da_id, mode, "meow", "connected")
    sdk.commands.take_all()
    return g, sdk


def forwards(sdk, more=0, timeout=10):
    """ret: whether a number pushed now comes back, `more` higher"""
    n = next(numbers)
    sdk.push("meow", [n])
    try:
        sdk.data.get(lambda d: d == ("meow", [n + more]), timeout)
    except AssertionError:
        return False
    return True


def until_forwards(sdk, more=0):
    """After a restart, what comes before the agent has its graphs again is lost."""
    until(lambda: forwards(sdk, more, 0.3), 10, "data through the graph")


def commands_so_far(g, sdk):
    """All commands that the device was sent before now, known by one that is caused now; it has a free IDF for that."""
    g.ok("add_link", da_id=sdk.da_id, idf="fence", func=None)
    sdk.command("CONNECT", "idf", "fence")
    commands = sdk.commands.take_all()
    g.ok("rm_link", da_id=sdk.da_id, idf="fence")
    sdk.command("DISCONNECT", "idf", "fence")
    return commands


def add_funcs(*codes):
    return "add_funcs", {"codes": list(codes), "digests": [digest(c) for c in codes]}


def rm_funcs(*codes):
    return "rm_funcs", {"digests": [digest(c) for c in codes]}


def refused_in_one_turn(suite, g, *requests):
    """Requests (op, fields) that csm finds together when it has done with one before them, while the store is locked."""
    seen = g.mqtt.subscribe(g.req)
    busy = add_funcs("def run(): return %d\n" % next(numbers))
    with locked(suite):
        for _ in range(10):
            with stopped(suite.pid("csm")):
                refs = [g.send(op, qos=0, **fields) for op, fields in (busy,) + requests]
                seen.wait_for(lambda items: len(items) == len(refs))
            seen.take_all()
            answers = [g.answer(ref, REFUSED_S) for ref in refs]
            # had the second come in a turn of its own, it would not hear of the store but of what the first left
            if all(a["state"] == "error" and "locked" in a["reason"] for a in answers):
                break
        else:
            raise AssertionError("never refused together: %s" % answers)
    g.mqtt.unsubscribe(g.req)


# -- functions that are removed while in use

def test_a_removed_function_in_use_outlives_an_orderly_restart(make_suite, clients):
    suite = make_suite()
    g, sdk = wired(suite, clients, PLUS_ONE)
    g.ok("rm_funcs", digests=[digest(PLUS_ONE)])
    requests = g.mqtt.subscribe("iottalk/agent/+/req", 1)
    suite.stop("csm")
    suite.stop("agent")
    suite.start("csm", "agent")
    until_forwards(sdk, more=1)
    assert g.ok("check_funcs", codes=[PLUS_ONE])["results"][0]["state"] == "ok"   # went to the agent and back
    # hello, func, put, sync, check, perhaps some of them twice - and nothing over and over
    assert 4 <= len(requests) < 20, requests.take_all()[-5:]
    other = clients.graph(suite, "2", mqtt=g.mqtt)
    other.ok("attach")
    other.refused("add_link", "Function unknown", da_id=sdk.da_id, idf="meow", func=digest(PLUS_ONE))


# -- an agent that answers late

def test_a_late_agent_does_not_drop_the_graph_that_came_after_the_drop(make_suite, clients):
    suite = make_suite({"core.agent-timeout-ms": int(AGENT_TIMEOUT_S * 1000)})
    g, sdk = wired(suite, clients)
    requests = g.mqtt.subscribe("iottalk/agent/+/req", 1)
    with stopped(suite.pid("agent")):
        assert g.request("detach")["pending"]
        requests.get(lambda m: b'"op":"drop"' in m.payload)
        requests.get(lambda m: b'"op":"drop"' in m.payload)   # and repeated
        half = time.monotonic() + AGENT_TIMEOUT_S / 2   # so that later repetitions are told apart by their time
        until(lambda: time.monotonic() > half)
        assert g.request("attach")["state"] == "ok"
        for mode in ("idf", "odf"):
            answer = g.request("add_link", da_id=sdk.da_id, func=None, **{mode: "meow"})
            assert answer["state"] == "ok" and answer["pending"], answer
        requests.take_all()
        requests.wait_for(lambda items: len(items) >= 3 or any(b'"op":"drop"' in m.payload for m in items))
    until(lambda: not g.state()["pending"], 10, "confirmation")
    for mode in ("idf", "odf"):
        g.until_link(sdk.da_id, mode, "meow", "connected")
    assert suite.agent_status()["graphs"] == 1
    assert forwards(sdk)
    assert not [m for m in requests.take_all() if b'"op":"drop"' in m.payload]


def test_links_removed_before_a_kill_9_of_csm_are_disconnected_after_it(make_suite, clients):
    suite = make_suite()
    g, sdk = wired(suite, clients)
    requests = g.mqtt.subscribe("iottalk/agent/+/req", 1)
    with stopped(suite.pid("agent")):
        g.send("rm_link", da_id=sdk.da_id, idf="meow")
        requests.get(lambda m: b'"op":"put"' in m.payload)   # so it is in the store
        suite.kill9("csm")
    assert not sdk.commands.take_all()
    suite.start("csm")
    assert sdk.command("DISCONNECT", "idf", "meow")["topic"].startswith("iottalk/esm/")
    until(lambda: not g.state()["pending"], 10, "confirmation")
    assert [(link["mode"], link["feature"]) for link in g.state()["links"]] == [("odf", "meow")]
    g.refused("rm_link", "link unknown", da_id=sdk.da_id, idf="meow")


# -- check_funcs

def test_check_funcs_of_more_than_fits_into_a_message_is_refused_at_once(suite, clients):
    g = clients.graph(suite)
    g.ok("attach")
    large = g.add_funcs("#" + "a" * 250000 + "\n" + PLUS_ONE)
    assert g.ok("check_funcs", codes=[PLUS_ONE], depends={"a": large})["results"][0]["state"] == "ok"
    before_kb = suite.rss_kb("csm")
    for _ in range(10):
        answer = g.request("check_funcs", codes=[PLUS_ONE], depends={"a%d" % n: large for n in range(100)})
        assert answer["state"] == "error" and "message-size-limit" in answer["reason"], answer
    grown_kb = suite.rss_kb("csm") - before_kb
    assert SANITIZED or grown_kb < 16 * 1024, grown_kb
    # neither the sources nor the codes are too large, only both together
    codes = ["#" + "b" * 200000 + "\n" + PLUS_ONE] * 2
    answer = g.request("check_funcs", codes=codes, depends={"a%d" % n: large for n in range(3)})
    assert answer["state"] == "error" and "too much code" in answer["reason"], answer
    assert g.ok("check_funcs", codes=[PLUS_ONE])["results"][0]["state"] == "ok"


def test_check_funcs_is_sent_once_and_a_few_at_a_time(make_suite, clients):
    suite = make_suite({"core.agent-timeout-ms": int(AGENT_TIMEOUT_S * 1000)})
    g, sdk = wired(suite, clients)
    requests = g.mqtt.subscribe("iottalk/agent/+/req", 1)
    with stopped(suite.pid("agent")):
        refs = [g.send("check_funcs", codes=[PLUS_ONE], wait=False) for _ in range(30)]
        answers = [g.answer(ref) for ref in refs]
        assert all(a["state"] == "error" for a in answers), answers
        assert "no answer from the agent" in answers[0]["reason"] and "too many checks" in answers[-1]["reason"]
        assert g.request("rm_link", da_id=sdk.da_id, idf="meow")["pending"]
        # what is repeated has been repeated, and longer than a check would have waited
        requests.wait_for(lambda items: sum(b'"op":"put"' in m.payload for m in items) >= 3)
    checks = [m for m in requests.take_all() if b'"op":"check"' in m.payload]
    assert 1 <= len(checks) < 30 and len(checks) == sum("no answer" in a["reason"] for a in answers)
    assert g.ok("check_funcs", codes=[PLUS_ONE])["results"][0]["state"] == "ok"


# -- a store that refuses

def test_a_refused_detach_leaves_the_graph(suite, clients):
    g, sdk = wired(suite, clients, PLUS_ONE, idf=("meow", "fence"))
    before = g.state()
    with locked(suite):
        answer = g.request("detach", timeout=REFUSED_S)
        assert answer["state"] == "error" and answer["reason"], answer
        assert forwards(sdk, more=1)
    assert g.state() == before
    assert commands_so_far(g, sdk) == []
    g.ok("set_df_func", da_id=sdk.da_id, idf="meow", prev=digest(PLUS_ONE), new=None)
    assert forwards(sdk)
    g.ok("detach")
    sdk.command("DISCONNECT", "idf", "meow")


def test_a_refused_delete_leaves_the_device_online_and_connected(suite, clients):
    g, sdk = wired(suite, clients, idf=("meow", "fence"))
    http = HttpApi(suite)
    with locked(suite):
        assert http.delete(sdk.da_id, sdk.rev).status_code == 503
    now = http.get(sdk.da_id).json()
    assert now["online"] is True and now["rev"] == sdk.rev
    assert {link["state"] for link in g.state()["links"]} == {"connected"}
    assert commands_so_far(g, sdk) == []
    assert forwards(sdk)
    assert http.delete(sdk.da_id, sdk.rev).status_code == 200
    sdk.command("DISCONNECT", "idf", "meow")


def test_a_refused_put_leaves_the_device_as_it_was(suite, clients):
    g, sdk = wired(suite, clients, idf=("meow", "fence"))
    http = HttpApi(suite)
    before = http.get(sdk.da_id).json()
    with locked(suite):
        response = http.put(sdk.da_id, {"accept_protos": ["mqtt"], "idf_list": ["other"], "profile": {"model": "Other"}})
        assert response.status_code == 503 and response.json()["reason"]
    assert http.get(sdk.da_id).json() == before
    assert before["online"] is True
    assert {(link["state"], link["reason"]) for link in g.state()["links"]} == {("connected", None)}
    assert commands_so_far(g, sdk) == []
    assert forwards(sdk)
    sdk.tell("online")   # with the rev of before
    sdk.command("CONNECT", "idf", "meow")


def test_functions_removed_and_added_again_in_a_refused_turn_are_as_before(suite, clients):
    g, sdk = wired(suite, clients)
    known = "def run(x): return [x + %d]\n" % next(numbers)
    g.add_funcs(known)
    refused_in_one_turn(suite, g, rm_funcs(known), add_funcs(known))
    g.ok("set_df_func", da_id=sdk.da_id, idf="meow", prev=None, new=digest(known))
    g.ok("set_df_func", da_id=sdk.da_id, idf="meow", prev=digest(known), new=None)
    refused_in_one_turn(suite, g, rm_funcs(known))
    g.ok("set_df_func", da_id=sdk.da_id, idf="meow", prev=None, new=digest(known))


def test_functions_refused_once_are_stored_when_they_are_added_again(make_suite, clients):
    suite = make_suite()
    g, sdk = wired(suite, clients)
    used = ("add_link", {"da_id": sdk.da_id, "idf": "second", "func": digest(PLUS_ONE)})
    codes = ["def run(x): return [x + %d]\n" % n for n in (10, 20)]
    refused_in_one_turn(suite, g, add_funcs(codes[0]))
    refused_in_one_turn(suite, g, add_funcs(codes[1]), rm_funcs(codes[1]))
    refused_in_one_turn(suite, g, add_funcs(PLUS_ONE), used)
    for code in codes + [PLUS_ONE]:
        g.refused("set_df_func", "function", da_id=sdk.da_id, idf="meow", prev=None, new=digest(code))
    g.add_funcs(*codes, PLUS_ONE)
    suite.kill9("csm")
    suite.start("csm")
    until(lambda: g.request("check_funcs", codes=codes)["state"] == "ok", 10, "csm's own session with the agent")
    prev = None
    for code, more in zip(codes + [PLUS_ONE], (10, 20, 1)):
        g.ok("set_df_func", da_id=sdk.da_id, idf="meow", prev=prev, new=digest(code))
        assert forwards(sdk, more=more)
        prev = digest(code)


# -- limits

def test_a_snapshot_of_many_devices_comes_in_parts(make_suite, clients):
    limit = 16384
    suite = make_suite({"broker.message-size-limit": limit}, start=("broker", "csm"))
    http = HttpApi(suite)
    body = {"accept_protos": ["mqtt"], "idf_list": [["meow", ["dB"]]], "odf_list": [["meow", ["dB"]]], "profile": {"model": "AI"}}
    revs = {}
    for _ in range(250):
        da_id = new_id()
        revs[da_id] = http.put(da_id, body).json()["rev"]
    api = clients.device_api(suite)
    for _ in range(2):   # every attach tells all
        ref, parts = api.send("attach"), []
        while not parts or parts[-1].json.get("more"):
            parts.append(api.answers.get(lambda m: m.json.get("ref") == ref))
        assert len(parts) > 2
        assert all(len(p.payload) <= limit for p in parts)
        assert all(p.json["state"] == "ok" and p.json["da_list"] for p in parts)
        assert sum(len(p.json["da_list"]) for p in parts) == len(revs)
        assert {da_id: d["rev"] for p in parts for da_id, d in p.json["da_list"].items()} == revs
    new = new_id()
    http.put(new, body)
    api.announced("register", new)


def test_more_clients_of_the_device_api_than_there_is_room_for_are_refused(make_suite, clients):
    suite = make_suite(start=("broker", "csm"))
    mqtt = clients.mqtt(suite)
    answers = mqtt.subscribe("iottalk/api/res/+/device")

    def send(op, n, wait=True):
        mqtt.publish("iottalk/api/req/c%d/device" % n, {"op": op}, wait=wait)

    def answer(op, n):
        return answers.get(lambda m: m.topic == "iottalk/api/res/c%d/device" % n and m.json["op"] == op).json

    for n in range(257):
        send("attach", n, wait=False)
    assert [answer("attach", n)["state"] for n in range(256)] == ["ok"] * 256
    refused = answer("attach", 256)
    assert refused["state"] == "error" and "too many clients" in refused["reason"]
    send("attach", 7)
    assert answer("attach", 7)["state"] == "ok"   # it has its place
    send("detach", 7)
    assert answer("detach", 7)["state"] == "ok"
    send("attach", 256)
    assert answer("attach", 256)["state"] == "ok"
    send("attach", 7)
    assert answer("attach", 7)["state"] == "error"


def test_messages_of_many_strangers_are_counted_and_hardly_logged(make_suite, clients):
    suite = make_suite(start=("broker", "csm"))
    mqtt, count = clients.mqtt(suite), 20000
    log = suite.processes["csm"].log_path
    dropped, logged = suite.metric("iottalk_drops_total"), log.stat().st_size
    for n in range(count):
        mqtt.publish("%d/ctrl/i" % n, b"x", 0, wait=False)
    until(lambda: suite.metric("iottalk_drops_total") >= dropped + count, 30, "%d drops" % count, every=0.1)
    assert suite.metric("iottalk_drops_total", source="control", reason="unknown_device") == count
    grown = log.stat().st_size - logged
    assert 0 < grown < 100 * 1000, grown


# -- features

def test_a_link_of_a_vanished_feature_says_so_until_it_is_declared_again(suite, clients):
    g, sdk = wired(suite, clients, idf=("meow", "pulse"))
    g.ok("add_link", da_id=sdk.da_id, idf="pulse", func=None)
    g.until_link(sdk.da_id, "idf", "pulse", "connected")
    monitor = g.monitor()
    whole = sdk.body["idf_list"]

    def put(idf_list):
        """A PUT of the online device, which then says online again and is told all its links."""
        sdk.body["idf_list"] = idf_list
        sdk.commands.take_all()
        sdk.register()
        at_once = g.link(sdk.da_id, "idf", "pulse")
        sdk.tell("online")
        for mode, feature in (("idf", "meow"), ("odf", "meow"), ("idf", "pulse")):
            sdk.command("CONNECT", mode, feature)
        g.until_link(sdk.da_id, "idf", "meow", "connected")
        g.until_link(sdk.da_id, "odf", "meow", "connected")
        return at_once

    put_without = put([f for f in whole if f[0] != "pulse"])
    assert put_without["state"] == "error" and "pulse" in put_without["reason"], put_without
    assert monitor.get(lambda m: m.json["op"] == "link_error").json["data"]["id"] == [sdk.da_id, "pulse"]
    online = g.link(sdk.da_id, "idf", "pulse")
    assert online["state"] == "error" and "pulse" in online["reason"], online
    put_with = put(whole)
    assert put_with["state"] != "error" and put_with["reason"] is None, put_with
    assert g.until_link(sdk.da_id, "idf", "pulse", "connected")["reason"] is None


def test_a_link_forgets_a_vanished_feature_with_its_device(suite, clients):
    g, sdk = wired(suite, clients, idf=("meow", "pulse"))
    g.ok("add_link", da_id=sdk.da_id, idf="pulse", func=None)
    g.until_link(sdk.da_id, "idf", "pulse", "connected")
    whole = sdk.body["idf_list"]
    sdk.body["idf_list"] = [f for f in whole if f[0] != "pulse"]
    sdk.register()
    assert g.link(sdk.da_id, "idf", "pulse")["state"] == "error"
    assert HttpApi(suite).delete(sdk.da_id, sdk.rev).status_code == 200
    sdk.body["idf_list"] = whole
    sdk.register()
    sdk.tell("online")
    assert g.until_link(sdk.da_id, "idf", "pulse", "connected")["reason"] is None
