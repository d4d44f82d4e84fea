"""What the original did oddly and ccm does right (spec ccm, section 9): test_9_1_4 is item 4. Those of section 9.2 are in
test_ccm_oddities_graphs.py, 36 and 37 in test_ccm_gui.py."""

import json
import re
import sqlite3
import subprocess

import pytest

from ccm_clients import STARTED, Editor, Rest, Wired, admin_of, store_path, unique
from ccm_fixtures import ann, bob, suite
from clients import Sdk
from suite import BIN, ROOT, until

ADD = "def run(*args):\n    return args[0] + %d\n"


# ---- 9.1 access and validation

def test_9_1_1_what_is_anothers_or_of_another_path_is_not_there(suite, clients, ann, bob):
    w, other = Wired(suite, clients, ann, on=False), Wired(suite, clients, ann, on=False)
    do_id, dfo_id, df_id = w.objects[w.ins[0][0]], w.dfos[w.ins[0][0]], w.ins[0][0]
    d_id = ann.data("/project/%d" % w.p_id)["ido"][0]["d_id"]
    routes = [
        ("GET", "/project/{p}", None), ("POST", "/project/{p}", {"status": "on"}), ("DELETE", "/project/{p}", None),
        ("PUT", "/project/{p}/deviceobject/", {"dm_id": w.model, "df": [df_id]}),
        ("GET", "/project/{p}/deviceobject/%d" % do_id, None), ("POST", "/project/{p}/deviceobject/%d" % do_id, {"df": [df_id]}),
        ("DELETE", "/project/{p}/deviceobject/%d" % do_id, None),
        ("GET", "/project/{p}/deviceobject/%d/device/" % do_id, None),
        ("POST", "/project/{p}/deviceobject/%d/device/bind/%d" % (do_id, d_id), None),
        ("POST", "/project/{p}/deviceobject/%d/device/bind/%s" % (do_id, w.device.da_id), None),
        ("POST", "/project/{p}/deviceobject/%d/device/unbind" % do_id, None),
        ("GET", "/project/{p}/na/%d" % w.na_id, None), ("DELETE", "/project/{p}/na/%d" % w.na_id, None),
        ("GET", "/project/{p}/deviceobject/%d/devicefeatureobject/%d" % (do_id, dfo_id), None),
        ("POST", "/project/{p}/deviceobject/%d/devicefeatureobject/%d" % (do_id, dfo_id), {"alias_name": "x", "df_parameter": [{}]}),
    ]
    w.info()    # its lines are red from now on
    before = w.info(), ann.data("/project/%d" % w.p_id)
    for method, path, body in routes:
        bob.refused(404, method, path.format(p=w.p_id), body)
        if path != "/project/{p}" and not path.endswith("/deviceobject/"):
            ann.refused(404, method, path.format(p=other.p_id), body)    # hers, but of another project
    for rest, p_id in ((bob, w.p_id), (ann, other.p_id)):
        rest.refused(400, "POST", "/project/%d/na/%d" % (p_id, w.na_id), {"na_name": "x"}, "NetworkApplication not find.")
    assert bob.call("PUT", "/project/%d/na/" % w.p_id, {"na_name": "x", "na_idx": 9, "dfo_ids": list(w.dfos.values())}).status_code == 400
    bob.refused(404, "GET", "/project/%d/na/" % w.p_id)
    bob.refused(404, "GET", "/simulation/%d" % w.p_id)
    bob.refused(404, "POST", "/simulation/%d" % w.p_id, {"sim": "on"})
    bob.refused(404, "POST", "/alias/%s/%s" % (w.device.da_id, w.ins[0][1]), {"alias_name": "x"})
    other_do = other.objects[other.ins[0][0]]
    ann.refused(404, "GET", "/project/%d/deviceobject/%d/devicefeatureobject/%d" % (w.p_id, do_id, other.dfos[other.ins[0][0]]))
    ann.refused(404, "GET", "/project/%d/deviceobject/%d/devicefeatureobject/%d" % (other.p_id, other_do, dfo_id))
    assert (w.info(), ann.data("/project/%d" % w.p_id)) == before


def test_9_1_2_a_device_object_is_of_a_model_and_its_features_once_each(ann):
    (a, _), (b, _) = ann.feature("input"), ann.feature("input")
    model, _ = ann.model([a])
    p_id = ann.project()
    path = "/project/%d/deviceobject/" % p_id
    ann.refused(404, "PUT", "/project/987654/deviceobject/", {"dm_id": model, "df": [a]})
    ann.refused(404, "PUT", path, {"dm_id": 987654, "df": [a]})
    ann.refused(404, "PUT", path, {"dm_id": model, "df": [987654]}, "Device Feature id 987654 not found")
    for status, features in ((404, [b]), (404, [a, b]), (400, [a, a]), (400, [])):
        ann.refused(status, "PUT", path, {"dm_id": model, "df": features})
    assert ann.data("/project/%d" % p_id)["ido"] == []


def test_9_1_3_binding_replaces_and_refuses(suite, clients, ann):
    w, other = Wired(suite, clients, ann), Wired(suite, clients, ann, on=False)
    do_id = w.objects[w.ins[0][0]]
    second = clients.add(Sdk(suite, idf=[w.ins[0][1]], odf=[w.outs[0][1]], model=w.model_name, profile={"u_name": ann.user}))
    ann.bind(w.p_id, do_id, second.da_id)
    second.until_connected(("idf", w.ins[0][1]))
    w.device.command("DISCONNECT", "idf", w.ins[0][1])
    second.push(w.ins[0][1], [3])
    assert w.device.received(w.outs[0][1]) == [3]
    path = "/project/%d/deviceobject/%d/device/bind/" % (w.p_id, do_id)
    ann.refused(404, "POST", "/project/%d/deviceobject/987654/device/bind/%s" % (w.p_id, second.da_id))
    ann.refused(400, "POST", path + other.device.da_id, None, "another Device Model")    # no 404: asking again would not help
    ann.refused(404, "POST", path + "987654", None, "987654")
    ann.refused(404, "POST", path + "no-such-mac", None, "unknown mac_addr")
    ann.refused(404, "POST", "/project/%d/deviceobject/987654/device/unbind" % w.p_id)
    assert ann.data("/project/%d" % w.p_id)["ido"][0]["d_name"] == second.name


def test_9_1_4_an_index_that_is_taken_is_not(suite, clients, ann):
    w = Wired(suite, clients, ann, on=False, join=False)
    both = list(w.dfos.values())
    ids = [ann.join(w.p_id, both, index=n) for n in (0, 1, 2)]
    ann.ok("DELETE", "/project/%d/na/%d" % (w.p_id, ids[0]))
    ids.append(ann.join(w.p_id, both, index=2))    # "number of applications", as programs have it
    indexes = [na["na_idx"] for na in ann.data("/project/%d/na/" % w.p_id)]
    assert len(indexes) == len(set(indexes)) == 3


def test_9_1_5_a_join_has_both_sides_of_its_own_project(suite, clients, ann):
    w, other = Wired(suite, clients, ann, on=False, join=False), Wired(suite, clients, ann, on=False, join=False)
    (i, o), (oi, oo) = w.dfos.values(), other.dfos.values()
    for dfos in ([], [i], [o], [i, i], [i, oo], [oi, o], [i, o, oo], [i, 987654], [i, o, 987654], ["x", o], [i, None]):
        ann.refused(400, "PUT", "/project/%d/na/" % w.p_id, {"na_name": "n", "na_idx": 0, "dfo_ids": dfos})
    assert ann.data("/project/%d/na/" % w.p_id) == []


def test_9_1_6_linked_features_have_the_same_tags(suite, clients, ann):
    editor = clients.add(Editor(suite, ann))
    one, two = (editor.ok("create_tag", tag_name=unique("Tag"), param_no=1)["tag_id"] for _ in range(2))
    tags = {"a": [one, two], "b": [two, one], "c": [one, two], "d": [one], "e": [], "f": [two]}
    kinds = {k: "output" if k in "ce" else "input" for k in tags}
    features = {k: ann.feature(kinds[k])[0] for k in tags}
    model = ann.ok("PUT", "/devicemodel/", {"dm_name": unique("Model"), "df_list": [
        {"df_id": features[k], "df_parameter": [{}], "tags": [{"tag_id": t} for t in tags[k]]} for k in tags]}, 201)["dm_id"]
    p_id = ann.project()
    do_id = ann.device_object(p_id, model, features.values())
    dfos = {k: ann.objects(p_id, do_id)[features[k]] for k in tags}
    why = "NetworkApplication should use the Features with the same Tag."
    for wrong in ("ae", "dc", "abdc", "dfc", "ace", "abe", "abce"):
        ann.refused(400, "PUT", "/project/%d/na/" % p_id, {"na_name": "n", "na_idx": 0, "dfo_ids": [dfos[k] for k in wrong]}, why)
    na_id = ann.join(p_id, [dfos[k] for k in "ac"])
    editor.refused("create_link", "same Tag", na_id=na_id, dfo_id=dfos["d"])
    editor.ok("create_link", na_id=na_id, dfo_id=dfos["b"])
    ann.join(p_id, [dfos[k] for k in "abc"], index=1)


def test_9_1_7_a_login_is_always_looked_at(suite, ann, bob):
    ann.refused(401, "POST", "/account/login", {"username": bob.user, "password": "wrong"}, "invalid username or password")
    assert ann.ok("POST", "/account/login", {"username": bob.user, "password": bob.password})["id"] == bob.u_id
    assert ann.ok("GET", "/account/")["u_name"] == bob.user


def test_9_1_8_parameters_take_what_they_are(suite, clients, ann, bob):
    w = Wired(suite, clients, ann, on=False)
    dfo = w.info()["input"][0]
    for entry in ({"param_i": 0, "u_id": 1}, {"param_i": 0, "nonsense": 1}, {"param_i": 0, "fn_id": "x"}, {"param_i": 5}, {},
                  {"param_i": 0, "fn_id": 987654}, {"param_i": -1}, {"param_i": 0, "idf_type": "other"}):
        ann.refused(400, "POST", w.na, {"dfm_list": [{"dfo_id": dfo["dfo_id"], "dfmp_list": [entry]}]})
    # complete rows, as they came, are fine; what is not theirs to change is not changed
    row = dict(dfo["dfmp"][0], na_id=1, dfo_id=1, color="red", min=1, max=2)
    ann.ok("POST", w.na, {"dfm_list": [{"dfo_id": dfo["dfo_id"], "dfmp_list": [row]}]})
    after = w.info()["input"][0]["dfmp"][0]
    assert (after["na_id"], after["dfo_id"], after["min"], after["max"]) == (w.na_id, dfo["dfo_id"], 1, 2)
    df_id = w.ins[0][0]
    path = "/project/%d/deviceobject/%d/devicefeatureobject/%d" % (w.p_id, w.objects[df_id], w.dfos[df_id])
    before = ann.data("/devicefeature/%d" % df_id)["df_parameter"]
    for status, entry in ((400, {"nonsense": 1}), (400, {"min": "low"}), (400, {"param_type": "other"}), (404, {"unit_id": 987654}),
                          (404, {"fn_id": 987654}), (404, {"fn_id": bob.function(ADD % 1)[0]})):
        ann.refused(status, "POST", path, {"alias_name": "a", "df_parameter": [entry]})
    mine = ann.data(path)["df_parameter"][0]
    ann.ok("POST", path, {"alias_name": "a", "df_parameter": [dict(mine, min=3, max=4)]})
    mine = ann.data(path)["df_parameter"][0]
    assert (mine["min"], mine["max"], mine["df_id"], mine["u_id"]) == (3, 4, None, ann.u_id) and mine["mf_id"]
    assert ann.data("/devicefeature/%d" % df_id)["df_parameter"] == before    # the feature's own are another matter


def test_9_1_9_a_model_has_what_it_was_given(ann):
    (a, _), (b, _) = ann.feature("input"), ann.feature("input")
    model, name = ann.model([a], dm_type="wearable", plural=True, device_only=True)
    found = ann.data("/devicemodel/%d" % model)
    assert (found["dm_type"], found["plural"], found["device_only"]) == ("wearable", True, True)
    ann.refused(400, "PUT", "/devicemodel/", {"dm_name": unique("Model"), "df_list": [{"df_id": 987654, "df_parameter": [{}]}]})
    other, other_name = ann.model([a])
    body = {"dm_name": other_name, "plural": False, "device_only": False, "df_list": [{"df_id": b, "df_parameter": [{}]}]}
    # the path says which, and the name is not looked at: the other one stays as it is
    ann.ok("POST", "/devicemodel/%d" % model, body)
    assert [df["df_id"] for df in ann.data("/devicemodel/%d" % other)["df_list"]] == [a]
    found = ann.data("/devicemodel/%d" % model)
    assert (found["dm_name"], found["plural"], found["device_only"], [d["df_id"] for d in found["df_list"]]) == (name, False, False, [b])
    ann.refused(400, "POST", "/devicemodel/987654", dict(body, dm_name=name))


def test_9_1_10_what_is_missing_is_said(suite, ann):
    admin = admin_of(suite)
    admin.refused(400, "POST", "/admin/user/pass", {"id": 987654, "password": "x"})
    admin.refused(400, "POST", "/admin/user/switch", {"id": 987654, "is_admin": True})
    admin.refused(404, "DELETE", "/admin/user", {"id": 987654})
    admin.refused(404, "POST", "/admin/project/stop", {"p_id": 987654, "u_id": ann.u_id})
    admin.refused(404, "POST", "/admin/project/delete", {"p_id": 987654, "u_id": ann.u_id})
    for method, path in (("POST", "/admin/user/pass"), ("POST", "/admin/user/switch"), ("DELETE", "/admin/user"),
                         ("POST", "/admin/project/stop"), ("POST", "/admin/device/unbind")):
        admin.refused(400, method, path)
        ann.refused(403, method, path, {"id": 1}, "You are not administrator.")
    for method, path in (("PUT", "/project/"), ("POST", "/account/login"), ("PUT", "/function/"), ("PUT", "/devicemodel/"),
                         ("PUT", "/devicefeature/"), ("POST", "/account/create")):
        ann.refused(400, method, path)
        answer = ann.call(method, path, data=b"{\"p_name\": \"x\"}", headers={"Content-Type": "text/plain"})
        assert answer.status_code == 400 and answer.json()["state"] == "error"


def test_9_1_11_a_function_is_deleted_by_its_writers(ann, bob):
    fn_id, name = ann.function(ADD % 1)
    assert bob.ok("PUT", "/function/", {"fn_name": name, "code": ADD % 2}, 201)["fn_id"] == fn_id
    assert [v["u_id"] for v in ann.ok("GET", "/function/%d/a" % fn_id)["fnvt_list"]] == [ann.u_id]
    bob.ok("DELETE", "/function/%d" % fn_id)
    assert [v["code"] for v in ann.ok("GET", "/function/%d/a" % fn_id)["fnvt_list"]] == [ADD % 1]
    bob.refused(404, "GET", "/function/%d" % fn_id)
    bob.refused(404, "GET", "/function/%d/a" % fn_id)
    bob.refused(404, "DELETE", "/function/%d" % fn_id)
    assert ann.data("/function/%d" % fn_id)["code"] == ADD % 1
    ann.ok("DELETE", "/function/%d" % fn_id)
    ann.refused(404, "GET", "/function/%d" % fn_id)


def test_9_1_12_code_is_compiled_and_not_run(suite, ann):
    mark = suite.dir / "was-run"
    path = "/function/"
    # what it would do when it is loaded, an engine's sandbox does not let it
    for first in ("open(%r, 'w')\n" % str(mark), "import os\nos._exit(3)\n", "while True:\n    pass\n"):
        ann.refused(400, "PUT", path, {"fn_name": unique("f").replace("-", "_"), "code": first + ADD % 1}, "Compile Error: ", timeout=30)
    assert not mark.exists() and suite.processes["ccm"].runs()
    for code in ("def run(:\n", "def walk():\n    pass\n", "x = 1\n", "def run(*a):\nreturn 1\n", "\0", "run(\n" * 200, "(" * 3000):
        ann.refused(400, "PUT", path, {"fn_name": unique("f").replace("-", "_"), "code": code})
    reason = ann.refused(400, "PUT", path, {"fn_name": unique("f").replace("-", "_"), "code": "def run(:\n"})
    assert reason.startswith("Compile Error: ")


def test_9_1_13_names_of_functions_are_identifiers(ann):
    for name in ("1a", "_a", "a b", "a-b", "a.b", "a;b", "a\nb", "a(", "ä", "a" * 256, "a\"", "import os"):
        ann.refused(400, "PUT", "/function/", {"fn_name": name, "code": ADD % 1})
    for name in ("a", "Z9", "a_b_1", "class_"):
        ann.function(ADD % 1, unique(name).replace("-", "_"))


# ---- 9.3 API and data

def test_9_3_27_a_join_that_is_not_there_is_not_found(ann, clients, suite):
    p_id = ann.project()
    ann.refused(404, "GET", "/project/%d/na/987654" % p_id)
    ann.refused(404, "DELETE", "/project/%d/na/987654" % p_id)
    ann.refused(400, "POST", "/project/%d/na/987654" % p_id, {"na_name": "x"}, "NetworkApplication not find.")


def test_9_3_28_the_status_of_a_creation_is_what_clients_test(suite, clients, ann):
    w = Wired(suite, clients, ann, on=False, join=False)
    answer = ann.call("PUT", "/project/%d/na/" % w.p_id, {"na_name": "n", "na_idx": 0, "dfo_ids": list(w.dfos.values())})
    assert answer.status_code == 200 and answer.json()["na_id"]
    assert ann.call("PUT", "/project/", {"p_name": unique("p")}).status_code == 201
    assert ann.call("POST", "/account/create", {"username": unique("u"), "password": "a password"}).status_code == 200


def test_9_3_29_dates_are_dates(suite, clients, ann):
    editor = clients.add(Editor(suite, ann))
    fn_id, _ = ann.function(ADD % 1)
    dates = [ann.data("/function/%d" % fn_id)["date"], ann.ok("GET", "/function/%d/a" % fn_id)["fnvt_list"][0]["date"],
             editor.ok("get_function_info", fn_id=fn_id)["date"]]
    dates.append(editor.ok("get_function_version_list", fn_id=str(fn_id))["fnvt_list"][0]["date"])
    assert len(set(dates)) == 1 and re.fullmatch(r"\d{4}-\d\d-\d\d", dates[0])


def test_9_3_30_a_new_function_without_a_feature_is_offered_for_joins(ann, bob):
    join, name = ann.function(ADD % 1)
    (df_id, _) = ann.feature("output")
    special, _ = ann.function(ADD % 1, df_id=df_id)
    offered = [f["fn_id"] for f in ann.ok("GET", "/function/networkapplication")["fn_list"]]
    assert join in offered and special not in offered
    assert [f["fn_id"] for f in ann.ok("GET", "/function/devicefeature/%d" % df_id)["fn_list"]] == [special]
    assert join not in [f["fn_id"] for f in bob.ok("GET", "/function/networkapplication")["fn_list"]]


def exported(suite, rest, p_id, query=""):
    answer = rest.http.get("%s/export_project?p_id=%d%s" % (suite.gui_url, p_id, query), timeout=10)
    assert answer.status_code == 200 and "attachment" in answer.headers["Content-Disposition"]
    return answer.json()


def imported(suite, rest, name, text):
    return rest.http.post(suite.gui_url + "/import_project", data={"p_name": name}, files={"importfilename": ("p.json", text)},
                          headers={"Origin": suite.gui_url}, allow_redirects=False, timeout=10)


def test_9_3_31_a_project_goes_out_and_comes_in(suite, clients, ann, bob):
    w = Wired(suite, clients, ann, ins=2)
    fn_id, name = ann.function(ADD % 5)
    w.set_functions("output", [fn_id])
    ann.ok("POST", w.na, {"multiplejoin_fn_id": fn_id})
    document = exported(suite, ann, w.p_id)
    assert bob.http.get("%s/export_project?p_id=%d" % (suite.gui_url, w.p_id), timeout=10).status_code == 404
    p_name = ann.data("/project/%d" % w.p_id)["p_name"]
    assert imported(suite, ann, p_name, json.dumps(document)).status_code == 400    # hers has that name
    for rest in (ann, bob):
        projects = len(rest.data("/project/"))
        for text in ("", "{", "[]", "{}", json.dumps({"project": {}}), json.dumps(document)[:-40]):
            assert imported(suite, rest, unique("p"), text).status_code == 400
        assert imported(suite, rest, "", json.dumps(document)).status_code == 400
        broken = json.loads(json.dumps(document))
        broken["project"]["NetworkApplication"][0]["DF_Module"][0]["dfo_id"] = 987654
        assert imported(suite, rest, unique("p"), json.dumps(broken)).status_code == 400
        assert len(rest.data("/project/")) == projects
    answer = imported(suite, ann, "second", json.dumps(document))
    assert answer.status_code == 302 and answer.headers["Location"].endswith("/connection#p_id=%d" % ann.data("/project/second")["p_id"])
    second = ann.data("/project/second")
    assert (second["status"], second["sim"]) == ("off", "off") and all(do["d_id"] is None for do in second["ido"] + second["odo"])
    info = ann.data("/project/%d/na/%d" % (second["p_id"], second["na"][0]["na_id"]))
    assert [d["df_name"] for d in info["input"]] == [d["df_name"] for d in w.info()["input"]]
    assert [m["fn_id"] for d in info["output"] for m in d["dfmp"]] == [fn_id] and [m["fn_id"] for m in info["multiple"]] == [fn_id] * 2
    # functions must be there for who imports, or come along; the name may be another one's, too
    answer = imported(suite, bob, p_name, json.dumps(document))
    assert answer.status_code == 400 and name in answer.text
    document = exported(suite, ann, w.p_id, "&functions=1")
    assert document["Function"] == [{"fn_name": name, "code": ADD % 5}]
    assert imported(suite, bob, p_name, json.dumps(document)).status_code == 302
    p_id = bob.data("/project/" + p_name)["p_id"]
    info = bob.data("/project/%d/na/%d" % (p_id, bob.data("/project/%d/na/" % p_id)[0]["na_id"]))
    assert [m["fn_id"] for d in info["output"] for m in d["dfmp"]] == [fn_id]
    for path, offered in (("networkapplication", [fn_id]), ("devicefeature/%d" % w.outs[0][0], [fn_id]), ("devicefeature/%d" % w.ins[0][0], [])):
        for rest in (ann, bob):
            assert [f["fn_id"] for f in rest.ok("GET", "/function/" + path)["fn_list"] if not f["is_protect"]] == offered
    # offered to who imported, and to nobody else
    offers = Rest(suite, unique("eve")).ok("GET", "/function/networkapplication")["fn_list"]
    assert offers and all(f["is_protect"] for f in offers)


def test_9_3_33_simulators_start_for_new_objects_too(suite, clients, ann):
    assert ann.data("/simulation/%d" % ann.project()) == "off"
    w = Wired(suite, clients, ann, parameters=({"param_type": "int", "min": 5, "max": 9},))
    editor = clients.add(Editor(suite, ann))
    assert editor.ok("turn_on_simulation", p_id=w.p_id) == "on"
    new = ann.device_object(w.p_id, w.model, [w.ins[0][0]])
    until(lambda: simulated(ann, w.p_id, new), 10, "a simulator for the new object")
    old = w.objects[w.ins[0][0]]
    ann.ok("POST", "/project/%d/deviceobject/%d/device/unbind" % (w.p_id, old))
    until(lambda: simulated(ann, w.p_id, old), 10, "a simulator in place of the device")
    assert 5 <= w.device.received(w.outs[0][1])[0] <= 9
    assert editor.ok("turn_off_simulation", p_id=w.p_id) == "off"
    until(lambda: not simulated(ann, w.p_id, old) and not simulated(ann, w.p_id, new), 10, "the end of the simulators")


def simulated(rest, p_id, do_id):
    """Of a simulated device the id is told, and no name."""
    return [do for do in rest.data("/project/%d" % p_id)["ido"] if do["do_id"] == do_id and do["d_id"] and do["d_name"] is None]


@pytest.mark.parametrize("seconds", [180, 0])
def test_9_3_34_whose_devices_are_listed(make_suite, clients, seconds):
    suite = make_suite({"gui.ownership-timeout": seconds}, start=STARTED)
    ann, bob = Rest(suite, "ann"), Rest(suite, "bob")
    (i, i_name), (o, o_name) = ann.feature("input"), ann.feature("output")
    model, name = ann.model([i, o])
    p_id = ann.project()
    objects = [ann.device_object(p_id, model, [df]) for df in (i, o)]
    devices = {who: clients.add(Sdk(suite, idf=[i_name], odf=[o_name], model=name, profile=profile))
               for who, profile in (("ann", {"u_name": "ann"}), ("bob", {"u_name": "bob"}), ("nobody", {}))}
    names = {d.da_id: who for who, d in devices.items()}
    for d in devices.values():
        ann.bind(p_id, objects[0], d.da_id)

    def listed(do_id):
        return [names[d["mac_addr"]] for d in ann.data("/project/%d/deviceobject/%d/device/" % (p_id, do_id))]
    if seconds:
        assert sorted(listed(objects[0])) == ["ann", "bob"] and listed(objects[1]) == ["ann"]
    else:
        assert sorted(listed(objects[0])) == sorted(listed(objects[1])) == ["ann", "nobody"]


def test_9_3_35_what_was_looked_at_is_red(suite, clients, ann):
    w = Wired(suite, clients, ann, on=False)
    second = ann.join(w.p_id, list(w.dfos.values()), index=1)

    def colours():
        return [{d["color"] for d in na["input"] + na["output"]} for na in ann.data("/project/%d" % w.p_id)["na"]]
    assert colours() == [{"black"}, {"black"}]
    w.info()
    assert colours() == [{"red"}, {"black"}]
    assert {m["color"] for d in ann.data("/project/%d/na/%d" % (w.p_id, second))["input"] for m in d["dfmp"]} == {"black"}
    assert colours() == [{"black"}, {"red"}]
    ann.data("/project/%d/deviceobject/%d" % (w.p_id, w.objects[w.ins[0][0]]))
    assert colours() == [{"black"}, {"black"}]


def test_9_3_38_nobody_is_there_by_default(make_suite):
    suite = make_suite(start=STARTED)
    with sqlite3.connect("file:%s?mode=ro" % store_path(suite), uri=True) as db:
        assert db.execute("SELECT count(*) FROM User").fetchone() == (0,)
    for name, password in (("admin", "admin"), ("iottalk", "iottalk"), ("root", "root"), ("user", "user")):
        Rest(suite).refused(401, "POST", "/account/login", {"username": name, "password": password}, "invalid username or password")


def test_9_3_32_the_same_seed_again_changes_nothing(make_suite):
    suite = make_suite(start=STARTED)

    def all_of_it():
        with sqlite3.connect("file:%s?mode=ro" % store_path(suite), uri=True) as db:
            return {t: db.execute("SELECT * FROM " + t).fetchall() for t in (
                "Function", "FunctionVersion", "FunctionSDF", "DeviceFeature", "DeviceModel", "DM_DF", "DF_Parameter", "Unit", "Tag")}
    before = all_of_it()
    assert before["DeviceModel"] and before["FunctionVersion"]
    suite.stop("ccm")
    for words in (["initdb"], ["db", "import", str(ROOT / "conf" / "ccm-seed.json")]):
        done = subprocess.run([str(BIN / "iotctl"), "-c", str(suite.ini)] + words, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=20)
        assert done.returncode == 0, done.stdout + done.stderr
    suite.start("ccm")
    assert all_of_it() == before
