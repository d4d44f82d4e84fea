"""The graph API over MQTT: every op with its errors, sharing, owners, agents that are away (spec: Graph API, durability)."""

import os
import re
import signal

import pytest

from clients import Api, GraphClient, digest, new_id
from suite import until

SETTINGS = {"core.agent-timeout-ms": 3000}

INT = "def run(x): return int(x)\n"
SQUARE = "def run(x): return x ** 2\n"
BROKEN = "def run(x: return\n"
NO_RUN = "def walk(x): return x\n"
NOT_A_FUNCTION = "run = 42\n"
FAILS_TO_LOAD = "import nothing_of_that_name\ndef run(x): return x\n"
USES = "def run(x): return iot.helper(x)\n"
UNKNOWN = digest("nobody has added this")
TOPIC = re.compile(r"iottalk/esm/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
MONITOR = re.compile(r"iottalk/monitor/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")


@pytest.fixture
def g(suite, clients):
    """A graph of a client of its own, attached."""
    graph = clients.graph(suite)
    graph.ok("attach")
    yield graph
    graph.request("detach")


# -- attach, detach, what is no request

OPS = {"check_funcs": {"codes": [INT]}, "add_funcs": {"codes": [], "digests": []}, "rm_funcs": {"digests": []},
       "add_link": {"da_id": new_id(), "idf": "meow", "func": None}, "rm_link": {"da_id": new_id(), "idf": "meow"},
       "set_join": {"prev": None, "new": None}, "set_df_func": {"da_id": new_id(), "idf": "meow", "prev": None, "new": None},
       "start_monitor": {}, "stop_monitor": {}, "detach": {}}


@pytest.mark.parametrize("op", [op for op in OPS if op != "detach"])
def test_before_attach_the_graph_is_unknown(suite, clients, op):
    graph = clients.graph(suite, graph="g-7")
    graph.refused(op, "Unknown graph id", "g-7", **OPS[op])


def test_attach_answers_the_graphs_state(suite, clients):
    graph = clients.graph(suite)
    graph.ok("attach")
    state = graph.state()
    assert state["links"] == [] and state["join"] is None and state["pending"] is False
    assert state["owner"] == graph.client_id
    da_id = new_id()
    graph.add_funcs(INT, SQUARE)
    graph.ok("add_link", da_id=da_id, idf="meow", func=digest(INT))
    graph.ok("set_join", prev=None, new=digest(SQUARE))
    state = graph.ok("attach")["graph"]
    assert state["join"] == digest(SQUARE)
    (link,) = state["links"]
    assert (link["da_id"], link["feature"], link["mode"], link["state"]) == (da_id, "meow", "idf", "waiting")
    assert TOPIC.match(link["topic"])

def test_the_state_tells_how_each_link_is_run(suite, clients, g):
    """All that add_link, set_df_func and set_join took: a client can compare it with what it wants."""
    a, b = new_id(), new_id()
    helper, uses = g.add_funcs(INT, USES)
    g.ok("add_link", da_id=a, idf="meow", func=uses, depends={"helper": helper}, param_no=2, tag_param_no=1,
         input_type=["variant", "sample"], order=3)
    g.ok("add_link", da_id=b, odf="purr", func=None)
    g.ok("set_join", prev=None, new=uses, depends={"helper": helper})
    idf, odf = g.link(a, "idf", "meow"), g.link(b, "odf", "purr")
    assert {k: idf[k] for k in ("func", "depends", "param_no", "tag_param_no", "input_type", "order")} == {
        "func": uses, "depends": {"helper": helper}, "param_no": 2, "tag_param_no": 1, "input_type": ["variant", "sample"], "order": 3}
    assert (odf["depends"], odf["param_no"], odf["tag_param_no"]) == ({}, None, 0)
    assert "order" not in odf and "input_type" not in odf
    assert g.state()["join_depends"] == {"helper": helper}
    g.ok("set_df_func", da_id=a, idf="meow", prev=uses, new=None, input_type="sample")
    g.ok("set_join", prev=uses, new=None)
    assert (g.link(a, "idf", "meow")["depends"], g.link(a, "idf", "meow")["input_type"]) == ({}, ["sample"])
    assert g.state()["join_depends"] == {}


def test_a_client_can_list_what_it_has(suite, clients):
    mqtt, client_id = clients.mqtt(suite), "lister-" + new_id()
    everything = Api(mqtt, client_id, [])
    assert everything.ok("list")["graphs"] == {} and everything.ok("list")["device"] is False
    first, second = (clients.graph(suite, graph=name, client_id=client_id, mqtt=mqtt) for name in ("1", "second"))
    first.ok("attach")
    second.ok("attach")
    clients.graph(suite, graph="1").ok("attach")    # somebody else's
    devices = clients.device_api(suite, client_id=client_id, mqtt=mqtt)
    run = devices.ok("attach")["run"]
    told = everything.ok("list")
    assert told["run"] == run
    assert (set(told["graphs"]), told["device"]) == ({"1", "second"}, True)
    first.ok("add_link", da_id=new_id(), idf="meow", func=None)
    after = everything.ok("list")["graphs"]
    assert after["1"] == first.state()["rev"] > told["graphs"]["1"] and after["second"] == told["graphs"]["second"]
    second.ok("detach")
    devices.ok("detach")
    told = everything.ok("list")
    assert (set(told["graphs"]), told["device"]) == ({"1"}, False)
    everything.ok("detach")
    assert everything.ok("list")["graphs"] == {}


def test_a_list_that_is_too_long_comes_in_parts(make_suite, clients):
    suite = make_suite({"broker.message-size-limit": 16384})
    mqtt, client_id = clients.mqtt(suite), "lister-" + new_id()
    names = ["%03d-" % n + "x" * 240 for n in range(100)]
    graphs = [clients.graph(suite, graph=name, client_id=client_id, mqtt=mqtt) for name in names]
    refs = [g.send("attach", wait=False) for g in graphs]
    for g, ref in zip(graphs, refs):
        assert g.answer(ref)["state"] == "ok"
    everything, found = Api(mqtt, client_id, []), {}
    ref = everything.send("list")
    while True:
        part = everything.answer(ref)
        assert part["state"] == "ok" and ("device" in part) != ("more" in part) and not set(part["graphs"]) & set(found)
        found.update(part["graphs"])
        if "more" not in part:
            break
    assert set(found) == set(names)


def test_attach_may_name_an_owner(suite, clients):
    graph = clients.graph(suite)
    graph.ok("attach", owner="alice")
    assert graph.state()["owner"] == "alice"
    for owner in (42, None, [], {}):
        answer = clients.graph(suite).request("attach", owner=owner)
        assert answer["state"] == "error" and "owner" in answer["reason"]


def test_detach_ends_the_graph(suite, g):
    da_id = new_id()
    g.ok("add_link", da_id=da_id, idf="meow", func=None)
    g.ok("detach")
    g.refused("add_link", "Unknown graph id", da_id=da_id, idf="meow", func=None)
    g.ok("attach")
    assert g.state()["links"] == []


def test_detach_without_graph_drops_all_graphs_of_the_client(suite, clients):
    mqtt, client_id = clients.mqtt(suite), "test-" + new_id()
    mine = [GraphClient(mqtt, client_id, n) for n in ("1", "2")]
    other = clients.graph(suite)
    for graph in mine + [other]:
        graph.ok("attach")
    answers = mqtt.subscribe("iottalk/api/res/%s/graph" % client_id)
    mqtt.publish("iottalk/api/req/%s/graph" % client_id, {"op": "detach", "ref": 1})
    assert answers.get().json == {"op": "detach", "ref": 1, "state": "ok"}
    for graph in mine:
        graph.refused("set_join", "Unknown graph id", prev=None, new=None)
    other.ok("set_join", prev=None, new=None)


def test_detach_of_the_client_drops_its_graphs_and_its_device_service(suite, clients):
    mqtt, client_id = clients.mqtt(suite), "test-" + new_id()
    graph = GraphClient(mqtt, client_id, "1")
    graph.ok("attach")
    answers = mqtt.subscribe("iottalk/api/res/" + client_id)
    mqtt.publish("iottalk/api/req/" + client_id, {"op": "detach", "ref": 1})
    assert answers.get().json == {"op": "detach", "ref": 1, "state": "ok"}
    graph.refused("set_join", "Unknown graph id", prev=None, new=None)


@pytest.mark.parametrize("rest", ["/graph/1", "/graph", ""])
def test_the_clients_last_will_detaches(suite, clients, rest):
    mqtt, client_id = clients.mqtt(suite), "test-" + new_id()
    graph = GraphClient(mqtt, client_id, "1")
    graph.ok("attach")
    graph.ok("add_link", da_id=new_id(), idf="meow", func=None)
    before = suite.metric("iottalk_graphs")
    dying = clients.mqtt(suite, will=("iottalk/api/req/" + client_id + rest, '{"op": "detach"}', 2, False))
    dying.vanish()
    until(lambda: suite.metric("iottalk_graphs") == before - 1, what="detach")
    graph.refused("set_join", "Unknown graph id", prev=None, new=None)


def test_unknown_op_is_named(g):
    answer = g.refused("dance", "op", "dance", "unknown", partner=[1, 2])
    assert answer["partner"] == [1, 2]


@pytest.mark.parametrize("payload", [b"", b"garbage", b"null", b"42", b"[]", b'"attach"', b"\xff\xfe", b"\0", b"[" * 50000,
                                     b"[" * 50000 + b"]" * 50000, b'{"op": "attach"', b" " * 1000000], ids=lambda p: repr(p[:12]))
def test_a_payload_that_is_no_object_is_an_error_and_nothing_else(g, payload):
    before = g.state()
    g.mqtt.publish(g.req, payload)
    answer = g.answers.get(lambda m: "ref" not in m.json).json
    assert answer["state"] == "error" and answer["reason"]
    assert g.state() == before


@pytest.mark.parametrize("op", [None, 42, [], {}, ""], ids=str)
def test_an_op_that_is_no_string_is_an_error(g, op):
    ref = "own-%s" % op
    g.mqtt.publish(g.req, {"op": op, "ref": ref})
    answer = g.answers.get(lambda m: m.json.get("ref") == ref).json
    assert answer["state"] == "error" and "op" in answer["reason"]
    g.mqtt.publish(g.req, {"ref": "none"})
    assert g.answers.get(lambda m: m.json.get("ref") == "none").json["state"] == "error"


def test_a_request_with_a_nul_in_it_is_an_object_all_the_same(g):
    assert g.ok("set_join", prev=None, new=None, mine="a\0b")["mine"] == "a\0b"
    code = "def run(x): return '\0'\n"
    g.refused("add_funcs", codes=[code], digests=[digest("other")])
    g.refused("add_link", da_id=new_id(), idf="a\0b", func=None)
    assert g.state()["links"] == []


@pytest.mark.parametrize("op", OPS)
def test_the_request_comes_back_with_the_answer(g, op):
    fields = dict(OPS[op], mine={"a": [None, 1.5, "\u00fc"]}, state="x")
    answer = g.request(op, **fields)
    assert answer["op"] == op
    del fields["state"]
    for key, value in fields.items():
        assert answer[key] == value


WRONG_TYPES = [("add_funcs", {"codes": 42, "digests": []}), ("add_funcs", {"codes": [42], "digests": ["x"]}),
               ("add_funcs", {"codes": [INT], "digests": [42]}), ("add_funcs", {"codes": [INT]}), ("add_funcs", {"digests": []}),
               ("rm_funcs", {}), ("rm_funcs", {"digests": 42}), ("rm_funcs", {"digests": [42]}),
               ("check_funcs", {}), ("check_funcs", {"codes": "x"}), ("check_funcs", {"codes": [42]}),
               ("check_funcs", {"codes": [INT], "depends": 42}),
               ("add_link", {"idf": "meow", "func": None}), ("add_link", {"da_id": 42, "idf": "meow", "func": None}),
               ("add_link", {"da_id": "not-a-uuid", "idf": "meow", "func": None}),
               ("add_link", {"da_id": new_id(), "idf": 42, "func": None}), ("add_link", {"da_id": new_id(), "idf": "", "func": None}),
               ("add_link", {"da_id": new_id(), "idf": "a/b", "func": None}), ("add_link", {"da_id": new_id(), "idf": "#", "func": None}),
               ("add_link", {"da_id": new_id(), "idf": "x" * 256, "func": None}),
               ("add_link", {"da_id": new_id(), "idf": "meow", "func": 42}),
               ("add_link", {"da_id": new_id(), "idf": "meow", "func": None, "depends": []}),
               ("add_link", {"da_id": new_id(), "idf": "meow", "func": None, "param_no": -1}),
               ("add_link", {"da_id": new_id(), "idf": "meow", "func": None, "param_no": "1"}),
               ("add_link", {"da_id": new_id(), "idf": "meow", "func": None, "param_no": 1.5}),
               ("add_link", {"da_id": new_id(), "idf": "meow", "func": None, "param_no": 10 ** 18}),
               ("add_link", {"da_id": new_id(), "idf": "meow", "func": None, "param_no": 1, "tag_param_no": -1}),
               ("add_link", {"da_id": new_id(), "idf": "meow", "func": None, "input_type": "magic"}),
               ("add_link", {"da_id": new_id(), "idf": "meow", "func": None, "input_type": [42]}),
               ("add_link", {"da_id": new_id(), "idf": "meow", "func": None, "order": "first"}),
               ("rm_link", {"idf": "meow"}), ("rm_link", {"da_id": 42, "idf": "meow"}),
               ("set_join", {"prev": 42, "new": None}), ("set_join", {"prev": None, "new": 42}),
               ("set_df_func", {"da_id": 42, "idf": "meow", "prev": None, "new": None})]


@pytest.mark.parametrize("op, fields", WRONG_TYPES, ids=lambda v: str(v)[:60])
def test_wrong_types_are_a_clear_error_and_change_nothing(g, op, fields):
    before = g.state()
    assert g.refused(op, **fields)["reason"]
    after = g.state()
    assert after["links"] == before["links"] and after["join"] == before["join"]


def test_a_request_at_qos_0_and_1_is_answered(suite, clients):
    graph = clients.graph(suite)
    assert graph.request("attach", qos=0)["state"] == "ok"
    assert graph.request("add_link", qos=1, da_id=new_id(), idf="meow", func=None)["state"] == "ok"


def test_requests_of_one_client_are_applied_in_order(g):
    da_id = new_id()
    refs = []
    for n in range(20):
        refs.append(g.send("add_link", wait=False, da_id=da_id, idf="f%d" % n, func=None))
        refs.append(g.send("rm_link", wait=False, da_id=da_id, idf="f%d" % n))
    refs.append(g.send("add_link", wait=False, da_id=da_id, idf="last", func=None))
    order = [m.json["ref"] for m in g.answers.wait_for(lambda all: len(all) == len(refs))]
    assert order == refs
    assert {m.json["state"] for m in g.answers.take_all()} == {"ok"}
    assert [link["feature"] for link in g.state()["links"]] == ["last"]


def test_requests_that_share_a_revision_each_get_their_own_answer(g):
    g.add_funcs(INT, BROKEN)
    da_id = new_id()
    refs = [g.send("add_link", wait=False, da_id=da_id, idf="f%d" % n, func=digest(BROKEN if n % 3 == 1 else INT))
            for n in range(9)]
    answers = [g.answer(ref) for ref in refs]
    assert [a["state"] for a in answers] == ["error" if n % 3 == 1 else "ok" for n in range(9)]
    assert all("SyntaxError" in a["reason"] for a in answers if a["state"] == "error")
    assert {link["feature"] for link in g.state()["links"]} == {"f%d" % n for n in range(9) if n % 3 != 1}


# -- functions

def test_check_funcs_compiles_without_storing_or_running(g):
    runs = "raise SystemError('loading is not checked')\n" + INT
    answer = g.ok("check_funcs", codes=[INT, BROKEN, NO_RUN, NOT_A_FUNCTION, SQUARE])
    assert [r["state"] for r in answer["results"]] == ["ok", "error", "error", "error", "ok"]
    assert "SyntaxError" in answer["results"][1]["reason"]
    assert "not found" in answer["results"][2]["reason"] and "must be a function" in answer["results"][3]["reason"]
    assert len(g.ok("check_funcs", codes=[runs])["results"]) == 1
    g.refused("add_link", "Function unknown", da_id=new_id(), idf="meow", func=digest(INT + "#"))
    assert g.ok("check_funcs", codes=[])["results"] == []


def test_check_funcs_never_calls_run(g):
    assert g.ok("check_funcs", codes=["def run(*a):\n    while True: pass\n"])["results"][0]["state"] == "ok"


def test_check_funcs_knows_dependencies(g):
    g.add_funcs(SQUARE)
    assert g.ok("check_funcs", codes=[USES], depends={"helper": digest(SQUARE)})["results"][0]["state"] == "ok"
    answer = g.request("check_funcs", codes=[USES], depends={"helper": UNKNOWN})
    assert answer["state"] == "error" or answer["results"][0]["state"] == "error"


def test_check_funcs_with_an_endless_module_is_refused_in_time_and_the_graph_works_on(g):
    result, = g.ok("check_funcs", codes=["while True: pass\n"])["results"]
    assert result["state"] == "error" and "budget" in result["reason"]
    g.refused("check_funcs", "budget", codes=[INT, "while True: pass\n"])
    assert g.ok("check_funcs", codes=[INT])["results"][0]["state"] == "ok"


def test_add_funcs_stores_for_all_graphs(suite, clients, g):
    code = INT + "# %s\n" % new_id()
    g.add_funcs(code)
    g.add_funcs(code)   # known: ok
    other = clients.graph(suite)
    other.ok("attach")
    other.ok("add_link", da_id=new_id(), idf="meow", func=digest(code))


def test_add_funcs_refuses_lists_of_different_length(g):
    code = INT + "# %s\n" % new_id()
    g.refused("add_funcs", codes=[code], digests=[])
    g.refused("add_funcs", codes=[code], digests=[digest(code), digest(INT)])
    g.refused("add_link", "Function unknown", da_id=new_id(), idf="meow", func=digest(code))


def test_add_funcs_refuses_a_wrong_digest_and_stores_nothing(g):
    good, bad = (INT + "# %s\n" % new_id() for _ in range(2))
    for wrong in (digest(good), digest(bad).upper(), digest(bad)[:-1], "", "x" * 64, digest(bad.rstrip("\n"))):
        g.refused("add_funcs", "mismatched", codes=[good, bad], digests=[digest(good), wrong])
        g.refused("add_link", "Function unknown", da_id=new_id(), idf="meow", func=digest(good))


def test_add_funcs_ignores_aliases(g):
    assert g.ok("add_funcs", codes=[INT], digests=[digest(INT)], aliases=["old"])["aliases"] == ["old"]


def test_digests_count_every_byte(g):
    for code in ("def run(x): return '\u00fc\u4e2d'\n", "def run(x): return 1", "\ndef run(x):\r\n\treturn x\r\n", "# \U0001f600\ndef run(x): return x\n"):
        g.add_funcs(code)
        g.ok("add_link", da_id=new_id(), idf="meow", func=digest(code))


def test_rm_funcs_forgets(g):
    code = INT + "# %s\n" % new_id()
    g.add_funcs(code)
    g.ok("rm_funcs", digests=[digest(code), UNKNOWN])
    g.refused("add_link", "Function unknown", da_id=new_id(), idf="meow", func=digest(code))


def test_rm_funcs_of_one_in_use_waits_until_it_is_unused(g):
    code, helper, join = (INT + "# %s\n" % new_id() for _ in range(3))
    uses = "def run(x): return iot.helper(x)  # %s\n" % new_id()
    da_id = new_id()
    g.add_funcs(code, helper, join, uses)
    g.ok("add_link", da_id=da_id, idf="meow", func=digest(code))
    g.ok("add_link", da_id=da_id, odf="purr", func=digest(uses), depends={"helper": digest(helper)})
    g.ok("set_join", prev=None, new=digest(join))
    g.ok("rm_funcs", digests=[digest(c) for c in (code, helper, join, uses)])
    monitor = g.monitor()
    g.mqtt.publish(g.topic(da_id, "idf", "meow"), [7])
    assert monitor.get().json["data"]["odf"][0]["output"] in (7, [7])
    g.ok("set_join", prev=digest(join), new=None)
    g.ok("rm_link", da_id=da_id, idf="meow")
    g.ok("rm_link", da_id=da_id, odf="purr")
    for code in (code, uses):
        g.refused("add_link", "Function unknown", da_id=da_id, idf="meow", func=digest(code))
    g.refused("set_join", "New function not found", prev=None, new=digest(join))


# -- links

def test_add_link_needs_one_of_idf_and_odf(g):
    g.refused("add_link", da_id=new_id(), func=None)
    g.refused("add_link", da_id=new_id(), idf="meow", odf="meow", func=None)
    assert g.state()["links"] == []


def test_add_link_that_exists_in_this_graph_is_refused(g):
    da_id = new_id()
    g.ok("add_link", da_id=da_id, idf="meow", func=None)
    g.refused("add_link", "exists", da_id=da_id, idf="meow", func=None)
    g.refused("add_link", "exists", da_id=da_id.upper(), idf="meow", func=None)
    g.ok("add_link", da_id=da_id, odf="meow", func=None)   # the mode is part of the name
    g.refused("add_link", "exists", da_id=da_id, odf="meow", func=None)
    assert len(g.state()["links"]) == 2


def test_add_link_with_an_unknown_function_is_refused(g):
    g.refused("add_link", "Function unknown", da_id=new_id(), idf="meow", func=UNKNOWN)
    g.refused("add_link", "Function unknown", da_id=new_id(), idf="meow", func="not a digest")
    assert g.state()["links"] == []


def test_add_link_with_an_unknown_dependency_is_refused(g):
    g.add_funcs(USES)
    g.refused("add_link", "dependency helper not found", da_id=new_id(), idf="meow", func=digest(USES),
              depends={"helper": UNKNOWN})
    assert g.state()["links"] == []


@pytest.mark.parametrize("code, words", [(BROKEN, ["SyntaxError"]),
                                         (NO_RUN, ["not found"]), (NOT_A_FUNCTION, ["must be a function"]),
                                         (FAILS_TO_LOAD, ["Traceback", "nothing_of_that_name"]),
                                         ("raise SystemExit\n", ["SystemExit"]), ("1/0\n", ["Traceback", "ZeroDivisionError"]),
                                         ("", ["not found"]), ("run = print\n", ["must be a function"]),
                                         ("run = None\n", ["must be a function"]),
                                         ("class run: pass\n", ["must be a function"])], ids=lambda v: repr(v)[:30])
def test_a_function_that_does_not_load_is_an_error_of_the_request(g, code, words):
    da_id = new_id()
    g.add_funcs(code, INT)
    g.refused("add_link", *words, da_id=da_id, idf="meow", func=digest(code))
    g.refused("set_join", *words, prev=None, new=digest(code))
    assert g.state()["links"] == [] and g.state()["join"] is None
    g.ok("add_link", da_id=da_id, idf="meow", func=digest(INT))
    g.refused("set_df_func", *words, da_id=da_id, idf="meow", prev=digest(INT), new=digest(code))
    g.ok("set_df_func", da_id=da_id, idf="meow", prev=digest(INT), new=None)   # still INT


def test_a_link_may_name_a_device_that_does_not_exist_yet(suite, clients, g):
    da_id = new_id()
    g.wire(da_id, "meow", "meow", INT, SQUARE)
    assert {link["state"] for link in g.state()["links"]} == {"waiting"}
    sdk = clients.sdk(suite, da_id=da_id)
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    sdk.push("meow", [7])
    assert sdk.received("meow") == 49
    g.until_link(da_id, "idf", "meow", "connected")


def test_two_graphs_share_a_link(suite, clients):
    sdk = clients.sdk(suite, odf=("a", "b"))
    one, two = clients.graph(suite), clients.graph(suite)
    one.wire(sdk.da_id, "meow", "a", INT, SQUARE)
    two.wire(sdk.da_id, "meow", "b", INT)
    sdk.until_connected(("idf", "meow"), ("odf", "a"), ("odf", "b"))
    assert one.topic(sdk.da_id, "idf", "meow") == two.topic(sdk.da_id, "idf", "meow")
    sdk.push("meow", [7])
    assert (sdk.received("a"), sdk.received("b")) == (49, 7)
    # the first user leaves: no DISCONNECT, the other's data goes on
    sdk.commands.take_all()
    one.ok("rm_link", da_id=sdk.da_id, idf="meow")
    sdk.push("meow", [8])
    assert sdk.received("b") == 8
    assert not [c for c in sdk.commands.take_all() if c["command"] == "DISCONNECT"]
    # the last user leaves
    two.ok("rm_link", da_id=sdk.da_id, idf="meow")
    sdk.command("DISCONNECT", "idf", "meow")


def test_detach_of_the_last_user_disconnects(suite, clients):
    sdk = clients.sdk(suite)
    one, two = clients.graph(suite), clients.graph(suite)
    one.wire(sdk.da_id, "meow", "meow")
    two.wire(sdk.da_id, "meow", "meow")
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    one.ok("detach")
    sdk.push("meow", [1])
    assert sdk.received("meow") == [1]   # once, by the other graph
    two.ok("detach")
    sdk.command("DISCONNECT", "idf", "meow")
    sdk.command("DISCONNECT", "odf", "meow")
    assert len(sdk.data) == 0


def test_data_after_rm_link_is_not_processed(suite, clients, g):
    sdk = clients.sdk(suite, idf=("a", "b"))
    g.ok("add_link", da_id=sdk.da_id, idf="a", func=None)
    g.ok("add_link", da_id=sdk.da_id, odf="meow", func=None)
    sdk.until_connected(("idf", "a"), ("odf", "meow"))
    topic = sdk.topics[("idf", "a")]
    sdk.push("a", ["before"])
    assert sdk.received("meow") == ["before"]
    g.ok("rm_link", da_id=sdk.da_id, idf="a")
    for _ in range(10):
        sdk.publish(topic, ["after"])
    g.ok("add_link", da_id=sdk.da_id, idf="b", func=None)
    sdk.until_connected(("idf", "b"))
    sdk.push("b", ["other"])
    assert sdk.received("meow") == ["other"]


def test_rm_link_of_a_link_that_is_not_there_is_refused(suite, clients, g):
    da_id = new_id()
    other = clients.graph(suite)
    other.ok("attach")
    other.ok("add_link", da_id=da_id, idf="meow", func=None)
    g.refused("rm_link", "link unknown", da_id=da_id, idf="meow")
    g.refused("rm_link", "link unknown", da_id=new_id(), odf="meow")
    g.refused("rm_link", da_id=da_id)
    g.refused("rm_link", da_id=da_id, idf="meow", odf="meow")
    assert other.link(da_id, "idf", "meow")


# -- join and functions of links

def test_set_join_checks_prev_new_and_dependencies(g):
    a, b = g.add_funcs(INT, SQUARE)
    g.refused("set_join", "`prev` field mismatch", prev=a, new=b)
    g.refused("set_join", "New function not found", prev=None, new=UNKNOWN)
    g.ok("set_join", prev=None, new=a)
    g.refused("set_join", "`prev` field mismatch", prev=None, new=b)
    g.refused("set_join", "`prev` field mismatch", prev=b, new=b)
    answer = g.refused("set_join", "dependency", "unknown", prev=a, new=b, depends={"helper": UNKNOWN})
    assert "dependency helper(%s) unknown" % UNKNOWN in answer["reason"]
    assert g.state()["join"] == a
    g.ok("set_join", prev=a, new=b)
    g.ok("set_join", prev=b, new=b)   # the same once more is fine
    g.ok("set_join", prev=b, new=None)
    assert g.state()["join"] is None


def test_set_df_func_checks_link_prev_new_and_dependencies(g):
    da_id = new_id()
    a, b = g.add_funcs(INT, SQUARE)
    g.refused("set_df_func", "Unknown link", da_id=da_id, idf="meow", prev=None, new=a)
    for mode in ("idf", "odf"):
        link = {"da_id": da_id, mode: "meow"}
        g.ok("add_link", func=a, **link)
        g.refused("set_df_func", "`prev` field mismatch", prev=None, new=b, **link)
        g.refused("set_df_func", "New function not found", prev=a, new=UNKNOWN, **link)
        answer = g.refused("set_df_func", prev=a, new=b, depends={"helper": UNKNOWN}, **link)
        assert "dependency helper(%s) unknown" % UNKNOWN in answer["reason"]
        g.ok("set_df_func", prev=a, new=b, **link)
        g.ok("set_df_func", prev=b, new=None, **link)
        g.ok("set_df_func", prev=None, new=a, **link)
    g.refused("set_df_func", da_id=da_id, prev=a, new=b)
    g.refused("set_df_func", da_id=da_id, idf="meow", odf="meow", prev=a, new=b)


def test_answers_are_sent_when_the_change_is_in_force(suite, clients):
    sdk = clients.sdk(suite)
    g = clients.graph(suite)
    g.wire(sdk.da_id, "meow", "meow")
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    prev = None
    for n in range(20):
        code = "def run(x): return %d\n" % n
        g.add_funcs(code)
        g.ok("set_join", prev=prev, new=digest(code))
        prev = digest(code)
        sdk.push("meow", [0])
        assert sdk.received("meow") == n


def test_dependencies_are_called_by_alias(suite, clients, g):
    sdk = clients.sdk(suite)
    code = "def run(x): return iot.sq(x) + iot.cube(x)\n"
    cube = "calls = 0\ndef run(x):\n    global calls\n    calls += 1\n    return x ** 3 + calls\n"
    g.add_funcs(code, SQUARE, cube)
    depends = {"sq": digest(SQUARE), "cube": digest(cube)}
    g.ok("add_link", da_id=sdk.da_id, idf="meow", func=digest(code), depends=depends)
    g.ok("add_link", da_id=sdk.da_id, odf="meow", func=None)
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    for expected in (4 + 8 + 1, 4 + 8 + 2):
        sdk.push("meow", [2])
        assert sdk.received("meow") == expected
    # a change of the dependencies alone is a change
    g.ok("set_df_func", da_id=sdk.da_id, idf="meow", prev=digest(code), new=digest(code),
         depends={"sq": digest(SQUARE), "cube": digest(SQUARE)})
    sdk.push("meow", [2])
    assert sdk.received("meow") == 8


# -- monitor

def test_monitor_tells_inputs_and_outputs_of_every_stage(suite, clients):
    sdk = clients.sdk(suite)
    g = clients.graph(suite).wire(sdk.da_id, "meow", "meow", INT, SQUARE)
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    answer = g.ok("start_monitor")
    assert MONITOR.match(answer["monitor_topics"])
    assert g.ok("start_monitor")["monitor_topics"] == answer["monitor_topics"]
    monitor = sdk.subscribe(answer["monitor_topics"])
    sdk.push("meow", [7])
    info = monitor.get().json
    assert info["data"]["odf"][0].pop("output") in (49, [49])
    assert info == {"op": "monitor_info", "data": {
        "idf": {"id": [sdk.da_id, "meow"], "input": [7], "output": 7}, "join": {"input": [7], "output": 49},
        "odf": [{"id": [sdk.da_id, "meow"]}]}}
    sdk.push("meow", ["no number"])
    error = monitor.get().json
    assert error["op"] == "esm_error" and error["data"]["msg"].startswith("idf function failure:\n")
    assert "ValueError" in error["data"]["msg"] and error["data"]["src"] == INT
    g.ok("stop_monitor")
    sdk.data.take_all()
    sdk.push("meow", [3])
    assert sdk.received("meow") == 9
    assert len(monitor) == 0
    g.ok("stop_monitor")


# -- agents that are away, and durability

def test_without_an_agent_changes_are_pending_and_refusals_are_announced(make_suite, clients):
    suite = make_suite({"core.agent-timeout-ms": 2000})
    g = clients.graph(suite)
    sdk = clients.sdk(suite)
    g.wire(sdk.da_id, "meow", "meow", INT)
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    suite.stop("agent")
    g.add_funcs(SQUARE, BROKEN)
    assert g.request("set_join", prev=None, new=digest(SQUARE)).get("pending") is True
    assert g.state()["pending"] is True
    suite.start("agent")
    until(lambda: g.state()["pending"] is False, what="confirmation")
    sdk.push("meow", [7])
    assert sdk.received("meow") == 49
    # now one that will be refused
    suite.stop("agent")
    answer = g.request("add_link", da_id=sdk.da_id, idf="other", func=digest(BROKEN))
    assert answer["state"] == "ok" and answer["pending"] is True
    suite.start("agent")
    anno = g.answers.get(lambda m: m.json.get("op") == "anno").json
    assert anno["type"] == "graph" and anno["state"] == "error" and "SyntaxError" in anno["reason"]
    link = g.link(sdk.da_id, "idf", "other")
    assert link["state"] == "error" and "SyntaxError" in link["reason"]
    sdk.push("meow", [6])
    assert sdk.received("meow") == 36
    g.ok("rm_link", da_id=sdk.da_id, idf="other")


def test_an_agent_that_does_not_answer_makes_changes_pending_after_its_time(make_suite, clients):
    suite = make_suite({"core.agent-timeout-ms": 500})
    g = clients.graph(suite)
    g.ok("attach")
    da_id = new_id()
    os.kill(suite.pid("agent"), signal.SIGSTOP)
    try:
        assert g.request("add_link", da_id=da_id, idf="meow", func=None)["pending"] is True
        assert g.request("check_funcs", codes=[INT])["state"] == "error"   # nothing to promise for later
        g.add_funcs(INT)   # needs no agent
    finally:
        os.kill(suite.pid("agent"), signal.SIGCONT)
    until(lambda: g.state()["pending"] is False, what="confirmation")
    assert g.link(da_id, "idf", "meow")["state"] == "waiting"


def test_everything_answered_survives_kill_9_of_csm(make_suite, clients):
    suite = make_suite()
    sdk = clients.sdk(suite)
    g = clients.graph(suite)
    g.ok("attach", owner="alice")
    g.add_funcs(INT, SQUARE)
    g.ok("add_link", da_id=sdk.da_id, idf="meow", func=digest(INT))
    g.ok("add_link", da_id=sdk.da_id, odf="meow", func=None)
    g.ok("set_join", prev=None, new=digest(SQUARE))
    monitor = g.ok("start_monitor")["monitor_topics"]
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    g.until_link(sdk.da_id, "idf", "meow", "connected")
    topics = {link["mode"]: link["topic"] for link in g.state()["links"]}
    suite.kill9("csm")
    sdk.push("meow", [7])
    assert sdk.received("meow") == 49   # forwarding does not need csm
    suite.restart("csm")
    state = g.state()
    assert {link["mode"]: link["topic"] for link in state["links"]} == topics
    assert state["owner"] == "alice" and state["join"] == digest(SQUARE)
    assert g.ok("start_monitor")["monitor_topics"] == monitor
    sdk.push("meow", [8])
    assert sdk.received("meow") == 64
    g.ok("set_join", prev=digest(SQUARE), new=digest(INT))
    sdk.push("meow", [9])
    assert sdk.received("meow") == 9


def test_every_answered_request_is_there_after_kill_9_in_the_middle_of_many(make_suite, clients):
    suite = make_suite()
    g = clients.graph(suite)
    g.ok("attach")
    da_id = new_id()
    sent = [g.send("add_link", wait=False, da_id=da_id, idf="f%d" % n, func=None) for n in range(200)]
    g.answers.wait_for(lambda all: len(all) >= 20)
    suite.kill9("csm")
    answered = {m.json["idf"] for m in g.answers.take_all() if m.json["state"] == "ok"}
    suite.restart("csm")
    links = {link["feature"] for link in g.state()["links"]}
    assert answered <= links and len(answered) >= 20 and len(sent) == 200
    # what was not answered is the client's to repeat, and repeating is harmless
    for n in range(200):
        answer = g.request("add_link", da_id=da_id, idf="f%d" % n, func=None)
        assert answer["state"] == "ok" or "exists" in answer["reason"]
    assert len(g.state()["links"]) == 200


def test_graphs_of_many_clients_side_by_side(suite, clients):
    """30 clients on one connection each wire a graph of their own on one device; all results are right."""
    sdk = clients.sdk(suite, odf=tuple("o%d" % n for n in range(30)))
    mqtt = clients.mqtt(suite)
    graphs = [GraphClient(mqtt, graph="g") for _ in range(30)]
    for n, g in enumerate(graphs):
        g.wire(sdk.da_id, "meow", "o%d" % n, join="def run(x): return x * %d\n" % n)
    sdk.until_connected(*[("odf", "o%d" % n) for n in range(30)])
    sdk.push("meow", [7])
    assert [sdk.received("o%d" % n) for n in range(30)] == [7 * n for n in range(30)]
    for g in graphs:
        g.ok("detach")
