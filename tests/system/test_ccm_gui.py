"""The MQTT API of editors: who is attached and logged in, echoes, errors, announcements, and that it tells what REST tells."""

import json
import time

import pytest
import requests

from ccm_clients import STARTED, Editor, Rest, Wired, unique
from ccm_fixtures import ann, suite
from clients import Sdk, new_id
from suite import SANITIZED, until

# op -> its arguments; a star: may be left out. What stands for ids is of nothing that is there.
OPS = {
    "create_project": "p_name", "delete_project": "p_id", "update_project": "p_id status", "rename_project": "p_id newname",
    "get_project_list": "", "get_project_status": "p_id", "get_project_info": "p_id", "search_project": "p_name",
    "create_device_object": "p_id dm_id df", "update_device_object": "do_id p_id df", "delete_device_object": "do_id",
    "get_device_object_info": "do_id p_id", "get_device_list": "do_id", "bind_device": "do_id d_id check_sim*",
    "unbind_device": "do_id check_sim*", "create_na": "p_id na_name na_idx dfo_ids",
    "update_na": "na_id na_name* dfm_list* multiplejoin_fn_id*", "delete_na": "na_id", "get_na_list": "p_id", "get_na_info": "na_id p_id",
    "get_na_monitor": "na_id p_id aa_credential_id*", "create_link": "na_id dfo_id check_tag*",
    "delete_link": "na_id dfo_id check_na_complete*", "create_device_model": "dm_name df_list dm_type* plural* device_only*",
    "delete_device_model": "dm_id", "search_device_model": "dm_name", "get_device_model_list": "", "get_device_model_info": "dm_id",
    "create_device_feature": "df_type df_name df_parameter comment* df_category*", "delete_device_feature": "df_id",
    "search_device_feature": "df_name", "get_device_feature_info": "df_id", "get_device_feature_list": "df_category*",
    "create_device_feature_parameter": "df_id* dm_id* df_parameter", "update_device_feature_parameter": "mf_id* df_parameter",
    "delete_device_feature_parameter": "mf_id*", "get_device_feature_parameter": "df_id* dm_id*",
    "create_device_feature_category": "dfc_name", "get_device_feature_category_list": "", "create_unit": "unit_name", "get_unit_list": "",
    "create_tag": "tag_name param_no", "get_tag_list": "", "save_dm_df_tag": "df_id* dm_id* tags", "delete_dm_df_tag": "mf_id* tags",
    "get_dm_df_tag": "mf_id*", "create_device_feature_object": "do_id df_id alias_name",
    "update_device_feature_object": "dfo_id alias_name df_parameter", "delete_device_feature_object": "dfo_id do_id check_do_valid*",
    "get_device_feature_object_info": "dfo_id p_id", "get_alias_name": "mac_addr df_name", "set_alias_name": "mac_addr df_name alias_name",
    "create_function": "fn_name code df_id*", "update_function": "fn_id code df_id* fnvt_idx*", "delete_function": "fn_id",
    "get_function_list": "", "get_device_feature_function_list": "df_id", "get_na_function_list": "", "get_function_version_list": "fn_id",
    "get_function_info": "fn_id* fnvt_idx*", "get_dfo_function_info": "dfo_id* na_id*", "create_functionSDF": "fn_id df_id*",
    "delete_functionSDF": "fn_id df_id*", "turn_on_simulation": "p_id", "turn_off_simulation": "p_id", "update_simulation": "p_id sim",
    "get_simulation_status": "p_id",
    "update_device_model": None, "update_device_feature": None,     # what they take is as over REST, and what pages had before
}
SAMPLES = {"status": "on", "sim": "on", "df": ["x"], "dfo_ids": ["987654"], "dfm_list": [], "df_list": [], "df_parameter": [{}], "tags": [],
           "df_type": "input", "dm_type": "other", "plural": False, "device_only": False, "na_idx": "0", "param_no": "1",
           "code": "def run(*args):\n    return args[0]\n", "fn_name": "of_nobody", "check_sim": True, "check_tag": True,
           "check_na_complete": True, "check_do_valid": True, "aa_credential_id": None}
TEXTS = ("_name", "newname", "comment", "mac_addr", "df_category")


def sample(argument):
    if argument in SAMPLES:
        return SAMPLES[argument]
    return unique("x") if argument.endswith(TEXTS) else "987654"


@pytest.fixture
def editor(suite, clients, ann):
    return clients.add(Editor(suite, ann))


def attached(suite):
    return suite.control("ccm", {"op": "status"})["gui"]["clients"]


def answers_until(editor, flag):
    """All that came up to and with the answer of that flag, in order."""
    def is_it(items):
        return any(m.json.get("flag") == flag for m in items)
    editor.answers.wait_for(is_it)
    return [m.json for m in editor.answers.take_all()]


# ---- attach, detach

@pytest.mark.parametrize("transport", ["tcp", "websockets"])
def test_every_attach_is_answered(suite, clients, transport):
    editor = clients.add(Editor(suite, transport=transport, attach=False))
    for n in range(3):
        flag = editor.send("attach", None, more={"of": ["mine"]}, state="odd", _id="nobody")
        answer = editor.answer(flag)
        del answer["req_timestamp"]
        assert answer == {"op": "attach", "state": "ok", "flag": flag, "data": None, "_id": "nobody", "more": {"of": ["mine"]}}
    answer = editor.request("detach", {"credential_id": "c"})
    assert (answer["state"], answer["data"]) == ("ok", {"credential_id": "c"})


def test_answers_have_qos_2_and_are_not_retained(suite, clients, editor):
    flag = editor.send("get_project_list")
    message = editor.answers.get(lambda m: m.json.get("flag") == flag)
    assert (message.qos, message.retain) == (2, False)
    late = clients.mqtt(suite).subscribe(editor.res)
    editor.ok("get_project_list")
    assert all(not m.retain for m in late.take_all())


def test_a_page_that_is_closed_is_detached_by_its_will(suite, clients, ann):
    before = attached(suite)
    page, other = (clients.add(Editor(suite, ann)) for _ in range(2))
    assert attached(suite) == before + 2
    page.vanish()
    until(lambda: attached(suite) == before + 1, what="the last will")
    other.ok("get_project_list")


def test_who_is_not_attached_is_told_so(suite, clients, ann):
    stranger = clients.add(Editor(suite, ann, attach=False))
    for data in (None, {"p_name": "p"}, [1]):
        answer = stranger.request("create_project", data)
        assert (answer["op"], answer["state"], answer["msg"], answer["data"]) == (
            "anno", "Authentication Fail", "Please attach first.", data)
    stranger.attach()
    stranger.ok("get_project_list")
    stranger.request("detach")
    assert stranger.request("get_project_list")["state"] == "Authentication Fail"


# ---- logins

def test_only_a_live_login_of_this_client_is_one(suite, clients, ann, editor):
    other = clients.add(Editor(suite, ann))
    cookies = [c.value for c in ann.http.cookies]
    assert cookies
    for login in ["", "x", 7, {}, [], None, str(ann.u_id), ann.u_id, other.ticket, editor.ticket + "0", editor.ticket[:-1],
                  editor.ticket + "\0"] + cookies:
        answer = editor.request("get_project_list", None, _id=login)
        assert (answer["op"], answer["state"], answer["msg"], answer["_id"]) == (
            "anno", "Authentication failed", "Please login first.", login)
    editor.ok("get_project_list")


def test_a_ticket_opens_nothing_on_rest(suite, ann, editor):
    for name in [c.name for c in ann.http.cookies]:
        for kw in ({"cookies": {name: editor.ticket}}, {"headers": {"Authorization": "Bearer " + editor.ticket}}):
            assert requests.get(suite.gui_url + "/api/v0/account/", timeout=5, **kw).status_code == 401


def test_a_logout_ends_the_ticket(suite, clients):
    bob = Rest(suite, unique("bob"))
    editor = clients.add(Editor(suite, bob))
    editor.ok("get_project_list")
    bob.ok("GET", "/account/logout")
    assert editor.request("get_project_list")["state"] == "Authentication failed"
    bob.login()
    editor.ticket = bob.ticket(editor.id)
    editor.ok("get_project_list")


def test_a_user_that_is_deleted_has_no_ticket(suite, clients):
    bob = Rest(suite, unique("bob"))
    editor = clients.add(Editor(suite, bob))
    bob.ok("DELETE", "/account/")
    assert editor.request("create_project", {"p_name": "late"})["state"] == "Authentication failed"


# ---- requests that are none

def test_some_requests_have_no_answer(suite, editor):
    for payload in (b"", b"{", b"\xff\xfe", b"[]", b"7", b"null", b'"attach"', b"{}", b'{"data": {}}', b'{"_id": "x", "flag": 1}',
                    json.dumps({"op": "get_project_list", "flag": "nobody asks"}), "[" * 5000, "{\"a\":" * 3000):
        editor.publish(editor.req, payload)
    flag = editor.send("get_project_list")
    assert [a["flag"] for a in answers_until(editor, flag)] == [flag]


def test_topics_that_end_in_no_uuid_are_left_alone(suite, clients, editor):
    prefix = "iottalk/api/gui/"
    everything = clients.mqtt(suite).subscribe(prefix + "res/#")
    for level in ("x", editor.id + "0", editor.id[:-1], "-" * 36, "x" * 36, "x" * 3000, editor.id.replace("-", "_"), "ä" * 8 + editor.id[8:],
                  " ", "%s" * 20):
        editor.publish(prefix + "req/" + level, {"op": "attach", "level": level})
    assert editor.request("attach")["state"] == "ok"
    assert {m.topic for m in everything.take_all()} <= {editor.res}
    # letters, digits and underscores of any kind do
    odd = clients.add(Editor(suite, gui_id="zzzz_zzz-AAAA-9999-____-0123456789ab"))
    assert odd.request("attach")["state"] == "ok"


def test_a_retained_request_is_not_taken_up(suite, clients, ann, editor):
    name = unique("retained")
    editor.publish(editor.req, {"op": "create_project", "data": {"p_name": name}, "_id": editor.ticket}, retain=True)
    until(lambda: name in [p["p_name"] for p in editor.ok("get_project_list")], what="the project")
    before = len(editor.ok("get_project_list"))
    suite.restart("ccm")    # it subscribes again, and the broker repeats what is retained
    editor.publish(editor.req, b"", retain=True)
    editor.attach()
    ann.login()
    editor.ticket = ann.ticket(editor.id)
    assert len(editor.ok("get_project_list")) == before


def test_unknown_ops_are_errors(suite, editor):
    for op in ("", "no_such_op", "ATTACH", "get_project_list ", "x" * 5000, "'; DROP TABLE Project; --", None, 7, ["attach"], {"op": 1}):
        answer = editor.request(op, {"p_id": 1})
        assert (answer["state"], answer["op"], answer["data"]) == ("error", op, {"p_id": 1}) and answer["msg"]


@pytest.mark.parametrize("op", [op for op in OPS if OPS[op] is not None])
def test_every_op_takes_its_arguments(suite, editor, op):
    arguments = OPS[op].split()
    whole = {a.rstrip("*"): sample(a.rstrip("*")) for a in arguments}
    needed = {a: whole[a] for a in arguments if not a.endswith("*")}
    for data in (whole, needed):
        answer = editor.request(op, data)
        assert answer["state"] == "ok" or not any(w in answer["msg"] for w in ("known field", "missing", "must be", "unknown op")), answer
    for left_out in needed:
        answer = editor.request(op, {a: v for a, v in needed.items() if a != left_out})
        assert answer["state"] == "error", answer


def test_every_op_is_there_and_takes_no_nonsense(suite, editor):
    for op in OPS:
        answer = editor.request(op, {"no_such_argument": 1})
        assert answer["state"] == "error" and "unknown op" not in answer["msg"], (op, answer)
        assert editor.request(op, "text")["state"] == "error" and editor.request(op, [])["state"] == "error", op
        assert "Traceback" not in answer["msg"] and len(answer["msg"]) < 300


def test_a_function_that_is_too_long_is_refused(editor):
    code, most = "def run(x):\n    return x\n#", 256 * 1024
    name = unique("f").replace("-", "_")
    editor.refused("create_function", "`code` is longer than 256 KiB", fn_name=name, code=code.ljust(most + 1, "x"))
    fn_id = editor.ok("create_function", fn_name=name, code=code.ljust(most, "x"))["fn_id"]
    editor.refused("update_function", "`code` is longer than 256 KiB", fn_id=fn_id, code=code.ljust(most + 1, "x"))


def test_nobody_may_make_a_function_protected(suite, editor):
    code = "def run(*args):\n    return args[0]\n"
    editor.refused("create_function", "is_protect", fn_name=unique("f").replace("-", "_"), code=code, is_protect=True)


# ---- coercion, ctx, echoes

def test_numbers_may_come_as_strings_and_ctx_as_anything(suite, ann, editor):
    name = unique("project")
    p_id = editor.ok("create_project", p_name=name, ctx={"any": ["thing"]})["p_id"]
    info = editor.ok("get_project_info", p_id=str(p_id), ctx=None)
    assert info == ann.data("/project/%d" % p_id) and info["p_name"] == name
    assert editor.ok("update_project", p_id=str(p_id), status="on") == {"p_id": p_id, "status": "on"}
    for bad in ("1x", "", " 1", "0x1", "1.5", True, [p_id], {"p_id": p_id}, None):
        assert editor.request("get_project_info", {"p_id": bad})["state"] == "error", bad
    df_id = editor.ok("create_device_feature", df_name=unique("Feature"), df_type="input", comment="", df_category="None",
                      df_parameter=[{"param_type": "int", "min": "0", "max": "100.5", "unit_id": "1", "fn_id": None,
                                     "idf_type": "sample", "normalization": False}])["df_id"]
    parameter = ann.data("/devicefeature/%d" % df_id)["df_parameter"][0]
    assert (parameter["min"], parameter["max"], parameter["unit_id"], parameter["fn_id"]) == (0, 100.5, 1, None)


def test_an_operations_error_gives_the_request_back(suite, editor):
    editor.ok("create_project", p_name="twice")
    editor.refused("create_project", "project name already exists", p_name="twice")
    editor.refused("get_project_info", "not found", p_id="987654")


# ---- the same as REST

def test_an_editors_session_and_rest_tell_the_same(suite, ann, editor):
    (sensor, sensor_name), (lamp, lamp_name) = ann.feature("input"), ann.feature("output")
    model, model_name = ann.model([sensor, lamp])
    p_id = editor.ok("create_project", p_name=unique("project"))["p_id"]
    assert editor.ok("get_project_status", p_id=p_id) == "off"
    assert editor.ok("get_project_list") == ann.data("/project/")
    do_id = editor.ok("create_device_object", p_id=str(p_id), dm_id=str(model), df=[sensor_name])["do_id"]
    assert editor.ok("update_device_object", do_id=do_id, p_id=p_id, df=[sensor_name, lamp_name]) == {"do_id": do_id}
    assert editor.ok("get_device_object_info", do_id=do_id, p_id=p_id) == ann.data("/project/%d/deviceobject/%d" % (p_id, do_id))
    dfos = ann.objects(p_id, do_id)
    na_id = editor.ok("create_na", p_id=p_id, na_name="Join 1", na_idx="0", dfo_ids=[str(dfos[sensor]), dfos[lamp]])["na_id"]
    assert editor.ok("get_na_list", p_id=p_id) == {"p_id": p_id, "na": ann.data("/project/%d/na/" % p_id)}
    assert editor.ok("get_na_info", na_id=na_id, p_id=p_id)["multiple"] == ann.data("/project/%d/na/%d" % (p_id, na_id))["multiple"]
    assert editor.ok("create_link", na_id=na_id, dfo_id=dfos[sensor]) == {"na_id": na_id}    # there already
    info = editor.ok("get_device_feature_object_info", dfo_id=dfos[lamp], p_id=p_id)
    assert info == ann.data("/project/%d/deviceobject/%d/devicefeatureobject/%d" % (p_id, do_id, dfos[lamp]))
    assert editor.ok("get_project_info", p_id=p_id) == ann.data("/project/%d" % p_id)
    assert editor.ok("rename_project", p_id=p_id, newname="other") == {"p_id": p_id, "p_name": "other"}
    assert editor.ok("search_project", p_name="other") == p_id
    assert editor.ok("search_project", p_name=unique("none")) is None
    assert editor.ok("get_device_model_info", dm_id=model) == ann.data("/devicemodel/%d" % model)
    assert editor.ok("search_device_model", dm_name=model_name) == model
    assert editor.ok("delete_link", na_id=na_id, dfo_id=dfos[lamp]) is None    # the only output: the join is gone
    ann.refused(404, "GET", "/project/%d/na/%d" % (p_id, na_id))
    assert editor.ok("delete_device_object", do_id=str(do_id)) == {"do_id": do_id}
    assert editor.ok("delete_project", p_id=str(p_id)) == {"p_id": p_id}
    assert p_id not in [p["p_id"] for p in ann.data("/project/")]


def test_what_is_anothers_is_not_found(suite, clients, ann, editor):
    theirs = clients.add(Editor(suite, Rest(suite, unique("mallory"))))
    w = Wired(suite, clients, ann, on=False)
    (sensor, sensor_name), (lamp, lamp_name) = w.ins[0], w.outs[0]
    p, na, do, dfo = {"p_id": w.p_id}, {"na_id": w.na_id}, {"do_id": w.objects[sensor]}, {"dfo_id": w.dfos[sensor]}
    d_id = ann.data("/project/%d" % w.p_id)["ido"][0]["d_id"]
    alias = {"mac_addr": w.device.da_id, "df_name": sensor_name}
    ops = {
        "get_project_info": p, "update_project": dict(p, status="on"), "delete_project": p, "rename_project": dict(p, newname="mine"),
        "get_project_status": p, "turn_on_simulation": p, "turn_off_simulation": p, "update_simulation": dict(p, sim="on"),
        "get_simulation_status": p, "create_device_object": dict(p, dm_id=w.model, df=[sensor_name]),
        "update_device_object": dict(p, **do, df=[sensor_name]), "delete_device_object": do, "get_device_object_info": dict(p, **do),
        "get_device_list": do, "bind_device": dict(do, d_id=d_id), "unbind_device": do,
        "create_device_feature_object": dict(do, df_id=lamp, alias_name="x"), "delete_device_feature_object": dict(do, **dfo),
        "update_device_feature_object": dict(dfo, alias_name="x", df_parameter=[{}]), "get_device_feature_object_info": dict(p, **dfo),
        "get_alias_name": alias, "set_alias_name": dict(alias, alias_name="x"), "get_na_list": p,
        "create_na": dict(p, na_name="n", na_idx=1, dfo_ids=list(w.dfos.values())), "update_na": dict(na, na_name="x"), "delete_na": na,
        "get_na_monitor": dict(p, **na), "create_link": dict(na, **dfo), "delete_link": dict(na, **dfo),
        "get_dfo_function_info": dfo,
    }
    w.info()
    before = w.info(), ann.data("/project/%d" % w.p_id)
    for op, data in ops.items():
        theirs.refused(op, "not f", **data)    # "not found", or "not find" as the original has it
    theirs.refused("get_dfo_function_info", "not find", **na)
    assert theirs.ok("get_na_info", **p, **na) is None
    assert theirs.ok("search_project", p_name=before[1]["p_name"]) is None and theirs.ok("get_project_list") == []
    # theirs to have, and of another project
    other = Wired(suite, clients, ann, on=False)
    for op in ("create_link", "delete_link"):
        editor.refused(op, "not found", na_id=other.na_id, **dfo)
    assert editor.ok("get_na_info", p_id=other.p_id, **na) is None
    editor.refused("update_device_object", "not found", p_id=other.p_id, df=[sensor_name], **do)
    editor.refused("delete_device_feature_object", "not found", do_id=w.objects[lamp], **dfo)
    assert (w.info(), ann.data("/project/%d" % w.p_id)) == before


# ---- announcements

def test_devices_are_announced_to_all_pages(suite, clients, ann):
    _, name = ann.feature("input")
    model, model_name = ann.model([ann.data("/devicefeature/" + name)["df_id"]])
    pages = [clients.add(Editor(suite, rest)) for rest in (ann, Rest(suite, unique("bob")))]
    since = int(time.time())
    device = clients.add(Sdk(suite, idf=(name,), odf=(), model=model_name))
    known = {}
    for page in pages:
        told = page.announced("online", lambda d: d["id"] == device.da_id)
        assert (told["name"], told["state"]) == (device.name, "online")
        assert told["profile"] == {"model": model_name, "u_name": None, "is_sim": False}
        assert since <= told["register_time"] <= time.time()
        known[told["d_id"]] = page
    assert len(known) == 1
    d_id = next(iter(known))
    device.tell("offline")
    for page in pages:
        assert page.announced("offline", lambda d: d["id"] == device.da_id)["d_id"] == d_id
    device.deregister()
    for page in pages:
        assert page.announced("deregister", lambda d: d == {"d_id": d_id})


def test_an_alias_is_announced_to_all_pages(suite, clients, ann, editor):
    sensor, name = ann.feature("input")
    model, model_name = ann.model([sensor])
    p_id = ann.project()
    do_id = ann.device_object(p_id, model, [sensor])
    device = clients.add(Sdk(suite, idf=(name,), odf=(), model=model_name, profile={"u_name": ann.user}))
    ann.bind(p_id, do_id, device.da_id)
    other = clients.add(Editor(suite, Rest(suite, unique("bob"))))
    dfo_id = ann.objects(p_id, do_id)[sensor]
    assert editor.ok("set_alias_name", mac_addr=device.da_id, df_name=name, alias_name="Lampe ä") == {"alias_name": "Lampe ä"}
    for page in (editor, other):
        page.announced("change_alias", lambda d: d == {"dfo_id": dfo_id})
    ann.ok("POST", "/alias/%s/%s" % (device.da_id, name), {"alias_name": "again"})
    other.announced("change_alias", lambda d: d == {"dfo_id": dfo_id})
    assert editor.ok("get_alias_name", mac_addr=device.da_id, df_name=name) == {"alias_name": "again"}


def test_a_monitors_topic_comes_to_who_asked(suite, clients, ann, editor):
    (sensor, sensor_name), (lamp, lamp_name) = ann.feature("input"), ann.feature("output")
    model, model_name = ann.model([sensor, lamp])
    p_id = ann.project()
    do_id = ann.device_object(p_id, model, [sensor, lamp])
    na_id = ann.join(p_id, ann.objects(p_id, do_id).values())
    device = clients.add(Sdk(suite, idf=(sensor_name,), odf=(lamp_name,), model=model_name, profile={"u_name": ann.user}))
    ann.bind(p_id, do_id, device.da_id)
    ann.status(p_id, "on")
    device.until_connected(("idf", sensor_name), ("odf", lamp_name))
    other = clients.add(Editor(suite, ann))
    told = editor.ok("get_na_monitor", na_id=na_id, p_id=p_id)
    assert [(k["df_name"], k["param_no"], k["mac_addr"]) for k in told["input"] + told["output"]] == [
        (sensor_name, 1, device.da_id), (lamp_name, 1, device.da_id)]
    topic = editor.announced("monitor_anno")
    stream = clients.mqtt(suite).subscribe(topic)
    device.push(sensor_name, [17])
    assert device.received(lamp_name) == [17]
    seen = stream.get(lambda m: m.json["op"] == "monitor_info").json["data"]
    assert seen["idf"]["id"] == [device.da_id, sensor_name] and seen["idf"]["input"] == [17]
    other.ok("get_project_list")
    assert not [m for m in other.answers.take_all() if m.json.get("type") == "monitor_anno"]


# ---- limits

def test_an_answer_larger_than_the_broker_takes_is_an_error(make_suite, clients):
    suite = make_suite({"broker.message-size-limit": 8192}, start=STARTED)
    ann = Rest(suite, "ann")
    editor = clients.add(Editor(suite, ann))
    for n in range(20):
        ann.project("%03d-" % n + "x" * 200)
    assert len(editor.ok("get_project_list")) == 20
    for n in range(20, 60):
        ann.project("%03d-" % n + "x" * 200)
    answer = editor.request("get_project_list", {"ctx": "mine"})
    assert answer["state"] == "error" and "too large" in answer["msg"] and "8192" in answer["msg"]
    assert (answer["op"], answer["data"], answer["_id"]) == ("get_project_list", None, editor.ticket)
    editor.ok("create_project", p_name="small")


def test_many_strangers_attach_and_those_who_work_stay(suite, clients, editor):
    editor.ok("get_project_list")
    crowd, before = clients.mqtt(suite), suite.rss_kb("ccm")
    infos = [crowd.publish("iottalk/api/gui/req/" + new_id(), {"op": "attach"}, wait=False) for _ in range(3000)]
    for info in infos:
        info.wait_for_publish(30)
    editor.ok("get_project_list")
    assert attached(suite) <= 1024
    assert SANITIZED or suite.rss_kb("ccm") < before + 8 * 1024    # a sanitizer keeps what was freed


def test_pages_work_on_after_the_broker_has_died(suite, clients, ann):
    editor = clients.add(Editor(suite, ann))
    up = editor.connects
    def ready():
        return suite.control("ccm", {"op": "status"}).get("ready")
    suite.kill9("broker")
    until(lambda: not ready(), what="ccm to notice")
    suite.start("broker")
    editor.wait(lambda: editor.connects > up, "reconnection")
    until(ready, what="ccm's connection")
    editor.attach()
    editor.ok("get_project_list")


def test_after_ccms_death_pages_are_told_to_attach_again(suite, clients, ann):
    editor = clients.add(Editor(suite, ann))
    p_id = editor.ok("create_project", p_name="kept")["p_id"]
    suite.kill9("ccm")
    suite.start("ccm")
    assert editor.request("get_project_list")["state"] == "Authentication Fail"
    editor.attach()
    editor.ticket = ann.ticket(editor.id)    # the login has outlived it, its tickets have not
    assert p_id in [p["p_id"] for p in editor.ok("get_project_list")]
