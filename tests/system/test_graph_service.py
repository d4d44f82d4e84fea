"""Engines of owners, strikes and quarantine, figures: the graph service as clients and people see it (docs/engines.rst)."""

import json
import os
import signal
import subprocess

import pytest

from clients import digest
from suite import BIN, until

TRANSPORTS = ("client", "plugin")
SETTINGS = {"engine.budget-ms": 300, "engine.per-owner": 1}
HANG = "def run(x):\n    while x: pass\n    return x\n"
FINE = "def run(x): return x\n"


def engines(suite):
    return suite.agent_status()["engine"]


def iotctl(suite, *args, rc=0):
    done = subprocess.run([str(BIN / "iotctl"), "-c", str(suite.ini), *args], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == rc, (args, done.returncode, done.stdout, done.stderr)
    return done


def shown(suite, g):
    return json.loads(iotctl(suite, "graph", "show", "--json", "%s/%s" % (g.client_id, g.graph)).stdout)


class Wired:
    """A device and a graph from its meow to its meow."""

    def __init__(self, suite, clients, owner=None, **funcs):
        self.sdk = clients.sdk(suite)
        self.graph = clients.graph(suite)
        if owner is not None:
            self.graph.ok("attach", owner=owner)
        self.graph.wire(self.sdk.da_id, "meow", "meow", **funcs)
        self.sdk.until_connected(("idf", "meow"), ("odf", "meow"))

    def passes(self, value=0):
        self.sdk.push("meow", [value])
        assert self.sdk.received("meow") == value

    def link(self, mode="idf"):
        return self.graph.link(self.sdk.da_id, mode, "meow")

    def strike(self, suite, times=1):
        """One after the other: each is an engine's end."""
        for _ in range(times):
            before = suite.engine_restarts()
            self.sdk.push("meow", [1])
            until(lambda: suite.engine_restarts() > before, 10, "the end of the engine")


# -- engines


def test_owners_have_engines_of_their_own_and_idle_ones_go(make_suite, clients):
    suite = make_suite({"engine.idle-ms": 300, "engine.per-owner": 1})
    assert engines(suite)["count"] == 0
    a, b, also_a = (Wired(suite, clients, owner, idf_func=FINE) for owner in ("alice", "bob", "alice"))
    for w in (a, b, also_a):
        w.passes(7)
    assert engines(suite)["count"] == 2
    place = {w: shown(suite, w.graph)["engine"] for w in (a, b, also_a)}
    assert place[a] == place[also_a] != place[b]
    b.graph.ok("detach")
    until(lambda: engines(suite)["count"] == 1, 5, "the end of bob's engine")
    a.passes(8)


def test_more_engines_than_allowed_are_refused_with_a_reason(make_suite, clients):
    suite = make_suite({"engine.max-engines": 1})
    Wired(suite, clients, "alice", idf_func=FINE).passes(1)
    g = clients.graph(suite)
    g.ok("attach", owner="bob")
    g.refused("add_link", "engines", da_id=clients.sdk(suite).da_id, idf="meow", func=None)
    assert g.state()["links"] == []


def test_checks_do_not_disturb_graphs(suite, clients):
    w = Wired(suite, clients, idf_func="n = 0\ndef run(x):\n    global n\n    n += 1\n    return n\n")
    w.sdk.push("meow", [0])
    assert w.sdk.received("meow") == 1
    answer = w.graph.request("check_funcs", codes=["while True: pass\n"])
    assert answer["state"] == "ok"
    (result,) = answer["results"]
    assert result["state"] == "error" and "budget" in result["reason"]
    w.sdk.push("meow", [0])
    assert w.sdk.received("meow") == 2


# -- strikes and quarantine


def quarantined(suite, clients, **funcs):
    w = Wired(suite, clients, **(funcs or {"idf_func": HANG}))
    w.monitor = w.graph.monitor()
    w.strike(suite, 3)
    return w


def announced(w):
    return w.graph.answers.get(lambda m: m.json.get("op") == "anno" and m.json["type"] == "graph").json


WHY = "quarantined: time budget of 300 ms exceeded, 3 times within a minute"


def test_the_second_strike_brings_an_engine_of_its_own(suite, clients):
    neighbour = Wired(suite, clients, "alice", idf_func="n = 0\ndef run(x):\n    global n\n    n += 1\n    return n\n")
    culprit = Wired(suite, clients, "alice", idf_func=HANG)
    assert shown(suite, neighbour.graph)["engine"] == shown(suite, culprit.graph)["engine"]
    culprit.strike(suite, 2)
    until(lambda: shown(suite, culprit.graph)["apart"] and shown(suite, culprit.graph)["state"] == "running", 10, "the move")
    assert shown(suite, neighbour.graph)["engine"] != shown(suite, culprit.graph)["engine"]
    neighbour.sdk.push("meow", [0])
    counted = neighbour.sdk.received("meow")
    culprit.passes(0)
    culprit.strike(suite)
    neighbour.sdk.push("meow", [0])
    assert neighbour.sdk.received("meow") == counted + 1, "the neighbour was loaded anew"


def test_the_third_strike_shows_on_the_link_and_in_the_monitor(suite, clients):
    w = quarantined(suite, clients)
    anno = announced(w)
    assert anno["state"] == "error" and anno["reason"] == WHY
    assert [k["state"] for k in anno["graph"]["links"]] == ["error", "connected"]
    told = w.monitor.get(lambda m: m.json["op"] == "link_error").json["data"]
    assert told["id"] == [w.sdk.da_id, "meow"] and told["mode"] == "idf" and told["reason"] == WHY
    said = w.monitor.get(lambda m: m.json["op"] == "esm_error" and WHY in m.json["data"]["msg"]).json["data"]
    assert said["msg"] == "idf function failure:\n" + WHY and said["src"] == HANG
    link = w.graph.until_link(w.sdk.da_id, "idf", "meow", "error")
    assert link["reason"] == WHY
    assert w.link("odf")["state"] == "connected"
    # it is not run any more
    restarts = suite.engine_restarts()
    w.sdk.push("meow", [1])
    until(lambda: shown(suite, w.graph).get("drops", {}).get("quarantined", 0) >= 1, 5, "a dropped message")
    assert suite.engine_restarts() == restarts
    assert not len(w.sdk.data)
    row = shown(suite, w.graph)
    assert row["state"] == "quarantined" and row["reason"] == WHY
    assert [s["quarantined"] for s in row["strikes"]] == [WHY]


def test_another_function_ends_it_other_changes_do_not(suite, clients):
    w = quarantined(suite, clients)
    w.graph.until_link(w.sdk.da_id, "idf", "meow", "error")
    w.graph.add_funcs(FINE)
    w.graph.ok("set_join", prev=None, new=digest(FINE))
    assert w.link()["state"] == "error"
    w.graph.ok("set_df_func", da_id=w.sdk.da_id, idf="meow", prev=digest(HANG), new=digest(FINE))
    assert w.link()["state"] == "connected"
    w.passes(5)


def test_a_person_ends_it(suite, clients):
    w = quarantined(suite, clients)
    w.graph.until_link(w.sdk.da_id, "idf", "meow", "error")
    name = "%s/%s" % (w.graph.client_id, w.graph.graph)
    assert announced(w)["state"] == "error"
    assert "1 function" in iotctl(suite, "graph", "release", name).stdout
    assert announced(w)["state"] == "ok"
    w.graph.until_link(w.sdk.da_id, "idf", "meow", "connected")
    w.passes(0)
    assert "no function" in iotctl(suite, "graph", "release", name).stdout
    # and it begins anew
    w.strike(suite, 2)
    assert w.link()["state"] == "connected"


def test_a_join_is_quarantined_likewise(suite, clients):
    w = quarantined(suite, clients, join=HANG)
    until(lambda: w.graph.state().get("join_error") == WHY, 5, "the reason")
    assert w.link()["state"] == "connected" and w.link("odf")["state"] == "connected"
    w.graph.add_funcs(FINE)
    w.graph.ok("set_join", prev=digest(HANG), new=digest(FINE))
    assert "join_error" not in w.graph.state()
    w.passes(3)


def test_a_link_added_anew_begins_anew(suite, clients):
    w = quarantined(suite, clients)
    w.graph.until_link(w.sdk.da_id, "idf", "meow", "error")
    w.graph.ok("rm_link", da_id=w.sdk.da_id, idf="meow")
    w.graph.ok("add_link", da_id=w.sdk.da_id, idf="meow", func=digest(HANG))
    w.graph.until_link(w.sdk.da_id, "idf", "meow", "connected")
    w.sdk.until_connected(("idf", "meow"))
    w.passes(0)


@pytest.mark.parametrize("who", ["csm", "agent"])
def test_quarantine_outlives(make_suite, clients, who):
    suite = make_suite(SETTINGS)
    w = quarantined(suite, clients)
    w.graph.until_link(w.sdk.da_id, "idf", "meow", "error")
    suite.kill9(who)
    suite.start(who)
    link = until(lambda: (lambda k: k if k and k["state"] == "error" else None)(w.link()), 10, "the state of the link")
    assert link["reason"] == WHY
    assert shown(suite, w.graph)["apart"]
    w.graph.add_funcs(FINE)
    w.graph.ok("set_df_func", da_id=w.sdk.da_id, idf="meow", prev=digest(HANG), new=digest(FINE))
    assert w.link()["state"] in ("connected", "connecting")
    until(lambda: w.link()["state"] == "connected", 10, "the link")
    w.passes(4)


def test_who_is_killed_from_outside_gets_no_strike(suite, clients):
    w = Wired(suite, clients, idf_func="import time\ndef run(x):\n    if x: time.sleep(0.2)\n    return x\n")
    for _ in range(4):
        before = suite.engine_restarts()
        w.sdk.push("meow", [1])
        os.kill(shown(suite, w.graph)["pid"], signal.SIGKILL)
        until(lambda: suite.engine_restarts() > before, 5, "the end of the engine")
        w.sdk.data.take_all()
        w.sdk.push("meow", [0])
        w.sdk.data.get(lambda d: d[1] == 0)
    row = shown(suite, w.graph)
    assert row["state"] == "running" and not row["apart"] and row["strikes"] == []


# -- iotctl graph


def test_iotctl_lists_and_shows(suite, clients):
    w = Wired(suite, clients, "alice", idf_func=FINE)
    for i in range(5):
        w.passes(i)
    name = "%s/%s" % (w.graph.client_id, w.graph.graph)
    row = next(g for g in json.loads(iotctl(suite, "graph", "list", "--json").stdout)["graphs"] if g["id"] == name)
    assert row["owner"] == "alice" and row["state"] == "running" and row["evaluated"] == 5
    assert row["per_s"] > 0 and row["p99_us"] >= row["p50_us"] > 0 and row["dropped"] == 0
    assert name in iotctl(suite, "graph", "list").stdout
    w.sdk.publish(w.graph.topic(w.sdk.da_id, "idf", "meow"), b"no json")
    until(lambda: shown(suite, w.graph)["drops"].get("not_json") == 1, 5, "the drop")
    row = shown(suite, w.graph)
    idf, odf = row["links"]
    assert (idf["mode"], idf["feature"], idf["da_id"]) == ("idf", "meow", w.sdk.da_id)
    assert idf["func"] == digest(FINE)[:12] and odf["func"] is None
    assert idf["received"] == 6 and idf["dropped_full"] == 0 and idf["dropped_too_large"] == 0
    text = iotctl(suite, "graph", "show", name).stdout
    for word in (name, "alice", idf["topic"], "not_json"):
        assert word in text


@pytest.mark.parametrize("args, rc, word", [
    ((), 2, "list, show GRAPH or release GRAPH"), (("liszt",), 2, "none of list"), (("show",), 2, "id of one graph"),
    (("release", "a/b", "c/d"), 2, "id of one graph"), (("list", "a/b"), 2, "no further"), (("list", "--xml"), 2, "xml"),
    (("show", "no/such"), 1, "no graph 'no/such'"), (("release", "no/such"), 1, "no graph 'no/such'")])
def test_iotctl_graph_misused(suite, args, rc, word):
    assert word in iotctl(suite, "graph", *args, rc=rc).stderr


def test_iotctl_graph_without_an_agent(make_suite):
    suite = make_suite(start=())
    assert "does not run" in iotctl(suite, "graph", "list", rc=3).stderr
    assert "list" in iotctl(suite, "graph", "--help").stdout
