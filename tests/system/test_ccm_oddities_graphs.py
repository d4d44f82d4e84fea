"""What the original did oddly with graphs and ccm does right (spec ccm, 9.2): test_9_2_14 is item 14. Item 15, and what a program sees of
14 and 21, are in test_ccm_clients.py."""

import re

from ccm_clients import Editor, Wired, graphs_that_run
from ccm_fixtures import ann, bob, suite
from clients import Api, GraphClient, Sdk
from suite import until

ADD = "def run(*args):\n    return args[0] + %d\n"


def test_9_2_14_a_functions_new_body_reaches_all_parameters(suite, clients, ann):
    w = Wired(suite, clients, ann, parameters=({}, {}))
    plus, _ = ann.function("def run(*args):\n    return args[0] + 10\n")
    minus, _ = ann.function("def run(*args):\n    return args[1] - 1\n")
    w.set_functions("output", [plus, minus])
    w.until_result([1, 2], [11, 1])
    ann.ok("POST", "/function/%d" % minus, {"code": "def run(*args):\n    return args[1] - 100\n"})    # of the second parameter
    w.until_result([1, 2], [11, -98])
    ann.ok("POST", "/function/%d" % plus, {"code": "def run(*args):\n    return args[0] + 20\n"})
    w.until_result([1, 2], [21, -98])


def test_9_2_14_a_functions_new_body_reaches_joins_and_all_projects(suite, clients, ann):
    first, second = Wired(suite, clients, ann, ins=2), Wired(suite, clients, ann)
    fn_id, _ = ann.function(ADD % 10)
    ann.ok("POST", first.na, {"multiplejoin_fn_id": fn_id})
    second.set_functions("input", [fn_id])
    first.push([5], at=1)
    first.until_result([1], [11])
    second.until_result([1], [11])
    ann.ok("POST", "/function/%d" % fn_id, {"code": ADD % 20})
    first.until_result([1], [21])
    second.until_result([1], [21])


def test_9_2_16_a_death_detaches_ccm_from_the_devices(suite, clients, ann):
    everything = Api(clients.mqtt(suite), "ccm", [])
    until(lambda: everything.ok("list")["device"], what="ccm at the device API")
    suite.kill9("ccm")
    until(lambda: not everything.ok("list")["device"], what="the last will")
    suite.start("ccm")
    until(lambda: everything.ok("list")["device"], what="ccm at the device API")


def test_9_2_17_a_join_function_is_kept_unless_it_is_named(suite, clients, ann):
    w = Wired(suite, clients, ann, ins=2, on=False)
    join, _ = ann.function("def run(*args):\n    return args[1]\n")
    ann.ok("POST", w.na, {"multiplejoin_fn_id": join})
    ann.ok("POST", w.na, {"na_name": "other"})
    ann.ok("POST", w.na, {"dfm_list": []})
    assert [m["fn_id"] for m in w.info()["multiple"]] == [join, join] and w.info()["na_name"] == "other"
    ann.ok("POST", w.na, {"na_name": None})
    assert w.info()["na_name"] == "other"
    ann.ok("POST", w.na, {"multiplejoin_fn_id": None})
    assert [m["fn_id"] for m in w.info()["multiple"]] == [None, None]


def test_9_2_18_nothing_is_sent_of_a_project_that_is_off(suite, clients, ann):
    w = Wired(suite, clients, ann, on=False)
    answers = clients.mqtt(suite).subscribe("iottalk/api/res/ccm/graph/%d" % w.na_id)
    fn_id, _ = ann.function(ADD % 1)
    w.set_functions("output", [fn_id])
    ann.ok("POST", w.na, {"multiplejoin_fn_id": fn_id})
    ann.ok("POST", "/function/%d" % fn_id, {"code": ADD % 2})
    do_id = w.objects[w.ins[0][0]]
    ann.ok("POST", "/project/%d/deviceobject/%d/device/unbind" % (w.p_id, do_id))
    ann.bind(w.p_id, do_id, w.device.da_id)
    w.on()
    w.until_result([1], [5])    # the join's and the output's, both with the new body
    first = answers.take_all()[0].json
    assert first["op"] == "attach", first
    ann.status(w.p_id, "off")
    w.device.command("DISCONNECT", "idf", w.ins[0][1])
    ann.ok("POST", w.na, {"multiplejoin_fn_id": None})
    ann.ok("DELETE", w.na)
    until(lambda: w.na_id not in graphs_that_run(suite), what="the end of the graph")
    assert [a for a in (m.json for m in answers.take_all()) if a["state"] != "ok"] == []


def test_9_2_19_normalization_is_of_each_parameter(suite, clients, ann):
    w = Wired(suite, clients, ann, parameters=({}, {}))
    rows = w.info()["output"][0]["dfmp"]
    ann.ok("POST", w.na, {"dfm_list": [{"dfo_id": rows[0]["dfo_id"], "dfmp_list": [
        dict(rows[0], min=0, max=0, normalization=False), dict(rows[1], min=0, max=100, normalization=True)]}]})
    w.until_result([5, 1], [5, 50])    # the second has seen one value yet: the middle
    w.push([6, 3])
    assert w.device.received(w.outs[0][1]) == [6, 100]
    w.push([7, 2])
    assert w.device.received(w.outs[0][1]) == [7, 50]
    ann.ok("POST", w.na, {"dfm_list": [{"dfo_id": rows[0]["dfo_id"], "dfmp_list": [
        dict(rows[0], min=0, max=0, normalization=False), dict(rows[1], min=0, max=10, normalization=True)]}]})
    w.until_result([8, 4], [8, 5])


def test_9_2_20_a_join_function_is_of_several_inputs(suite, clients, ann):
    w = Wired(suite, clients, ann, ins=2, outs=2)
    editor = clients.add(Editor(suite, ann))
    join, _ = ann.function("def run(*args):\n    return 1000\n")
    ann.ok("POST", w.na, {"multiplejoin_fn_id": join})
    w.push([1], at=1)
    w.until_result([1], [1000])
    editor.ok("delete_link", na_id=w.na_id, dfo_id=w.dfos[w.outs[1][0]])    # an output: two inputs are left
    w.device.command("DISCONNECT", "odf", w.outs[1][1])
    assert [m["fn_id"] for m in w.info()["multiple"]] == [join, join]
    w.until_result([1], [1000])
    editor.ok("delete_link", na_id=w.na_id, dfo_id=w.dfos[w.ins[1][0]])
    w.until_result([1], [1])
    kept = [m["fn_id"] for m in w.info()["multiple"]]
    suite.kill9("ccm")
    suite.start("ccm")
    w.until_result([2], [2])
    assert [m["fn_id"] for m in w.info()["multiple"]] == kept


def test_9_2_21_a_gap_changes_no_order(suite, clients, ann):
    w = Wired(suite, clients, ann, ins=3)
    editor = clients.add(Editor(suite, ann))
    join, _ = ann.function("def run(*args):\n    return args[0] * 10 + args[1]\n")
    ann.ok("POST", w.na, {"multiplejoin_fn_id": join})
    editor.ok("delete_link", na_id=w.na_id, dfo_id=w.dfos[w.ins[0][0]])
    by_dfo = {v: k for k, v in w.dfos.items()}
    order = [by_dfo[m["dfo_id"]] for m in sorted(w.info()["multiple"], key=lambda m: m["param_i"])]
    assert order == [w.ins[1][0], w.ins[2][0]]
    w.device.command("DISCONNECT", "idf", w.ins[0][1])
    w.push([1], at=1)

    def comes():
        w.push([2], at=2)
        return w.device.received(w.outs[0][1]) == [12]
    until(comes, what="the join of two")


def test_9_2_22_a_first_value_is_in_the_middle(suite, clients, ann):
    w = Wired(suite, clients, ann, on=False)
    row = w.info()["output"][0]["dfmp"][0]
    ann.ok("POST", w.na, {"dfm_list": [{"dfo_id": row["dfo_id"], "dfmp_list": [dict(row, min=10, max=20, normalization=True)]}]})
    w.on()
    for value, want in ((3, 15), (3, 15), (7, 20), (5, 15), (3, 10)):
        w.push([value])
        assert w.device.received(w.outs[0][1]) == [want]


def test_9_2_23_a_monitor_ends_with_its_last_watcher(suite, clients, ann):
    w = Wired(suite, clients, ann)
    graph = GraphClient(clients.mqtt(suite), "ccm", str(w.na_id))
    pages = [clients.add(Editor(suite, ann)) for _ in range(2)]
    for page in pages:
        page.ok("get_na_monitor", na_id=w.na_id, p_id=w.p_id)
        page.announced("monitor_anno")
    assert graph.state().get("monitor_topics")
    pages[0].request("detach")
    pages[1].ok("get_project_list")
    assert graph.state().get("monitor_topics")
    pages[1].vanish()
    until(lambda: not graph.state().get("monitor_topics"), what="the end of the monitor")


def test_9_2_24_the_owners_version_is_used(suite, clients, ann, bob):
    w = Wired(suite, clients, ann)
    fn_id, name = ann.function(ADD % 10)
    w.set_functions("output", [fn_id])
    w.until_result([1], [11])
    assert bob.function(ADD % 1000, name) == (fn_id, name)
    suite.kill9("ccm")
    suite.start("ccm")
    double, _ = ann.function("def run(*args):\n    return args[0] * 2\n")
    w.set_functions("input", [double])    # so that ccm has looked at the whole graph when the result is another one
    w.until_result([1], [12])
    ann.ok("POST", "/function/%d" % fn_id, {"code": ADD % 20})
    w.until_result([1], [22])


def test_9_2_25_devices_are_as_csm_knows_them(suite, clients, ann, bob):
    w = Wired(suite, clients, ann)
    lone = clients.add(Sdk(suite, idf=[w.ins[0][1]], odf=[w.outs[0][1]], model=w.model_name, name="first name",
                           profile={"u_name": ann.user}))
    ann.bind(w.p_id, w.objects[w.ins[0][0]], lone.da_id)
    lone.until_connected(("idf", w.ins[0][1]))

    def known():
        rows = ann.data("/project/%d/deviceobject/%d/device/" % (w.p_id, w.objects[w.ins[0][0]]))
        return {row["mac_addr"]: row for row in rows}
    assert known()[lone.da_id]["d_name"] == "first name"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?", known()[lone.da_id]["register_time"])
    lone.body["name"] = "second name"
    lone.register()
    lone.drop_connection()
    until(lambda: known()[lone.da_id]["d_name"] == "second name", what="the new name")
    # gone while ccm was away
    suite.kill9("ccm")
    lone.deregister()
    suite.start("ccm")
    until(lambda: ann.data("/project/%d" % w.p_id)["ido"][0]["d_id"] is None, what="the end of the binding")
    assert lone.da_id not in known()
    until(lambda: all(link[0] != lone.da_id for link in graphs_that_run(suite)[w.na_id]), what="the end of the link")


def test_9_2_26_an_orderly_end_detaches(suite, clients):
    everything = Api(clients.mqtt(suite), "ccm", [])
    until(lambda: everything.ok("list")["device"], what="ccm at the device API")
    suite.stop("ccm")
    assert not everything.ok("list")["device"]
    suite.start("ccm")
