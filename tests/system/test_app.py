"""iotctl app: device applications seen and told by an operator; SUSPEND and RESUME (spec: Control channel)."""

import json
import sqlite3
import subprocess

import pytest

from clients import GraphClient, HttpApi, Sdk, new_id
from suite import BIN, until

SILENT_MS = 1500


def iotctl(suite, *args, rc=0):
    done = subprocess.run([str(BIN / "iotctl"), "-c", str(suite.ini), "app", *args], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == rc, "app %s: %d, wanted %d\n%s%s" % (args, done.returncode, rc, done.stdout, done.stderr)
    return done


def app_of(suite, clients, **kw):
    return clients.sdk(suite, odf=("purr",), **kw)


def show(suite, app):
    return json.loads(iotctl(suite, "show", app, "--json").stdout)


def suspended(suite, app):
    return {(s["mode"], s["feature"]): s["state"] for s in show(suite, app)["suspended"]}


def listed(suite):
    return {a["id"]: a for a in json.loads(iotctl(suite, "list", "--json").stdout)["apps"]}


@pytest.fixture
def linked(suite, clients):
    """A device application on an SDK with both its features in a graph."""
    device = app_of(suite, clients)
    g = clients.graph(suite)
    g.ok("attach")
    g.ok("add_link", da_id=device.da_id, idf="meow", func=None)
    g.ok("add_link", da_id=device.da_id, odf="purr", func=None)
    device.until_connected(("idf", "meow"), ("odf", "purr"))
    return device, g


# ---- list, show


def test_list_and_show_tell_what_is_registered(suite, clients, linked):
    device, _ = linked
    row = listed(suite)[device.da_id]
    assert (row["name"], row["model"], row["state"], row["idf"], row["odf"], row["suspended"]) == (
        device.name, "Dummy", "online", 1, 1, 0)
    line = next(l for l in iotctl(suite, "list").stdout.splitlines() if device.da_id in l)
    assert device.name in line and "Dummy" in line and "online" in line and "suspended" not in line
    app = show(suite, device.da_id)
    assert app["rev"] == device.rev and app["profile"]["model"] == "Dummy" and app["suspended"] == []
    assert {(k["mode"], k["feature"], k["topic"], k["state"], k["graphs"]) for k in app["links"]} == {
        (mode, feature, device.topics[(mode, feature)], "connected", 1) for mode, feature in device.topics}
    text = iotctl(suite, "show", device.da_id).stdout
    for word in (device.da_id, device.name, device.rev, "mqtt", "meow", "purr", "connected", device.topics[("idf", "meow")]):
        assert word in text


def test_a_link_to_a_feature_that_the_app_does_not_declare_is_shown_and_suspended(suite, clients):
    device = app_of(suite, clients)
    g = clients.graph(suite)
    g.ok("attach")
    g.ok("add_link", da_id=device.da_id, idf="secret", func=None)
    device.until_connected(("idf", "secret"))
    assert "secret" in iotctl(suite, "show", device.da_id).stdout
    iotctl(suite, "suspend", device.da_id, "secret")
    device.command("SUSPEND", "idf", "secret")
    assert "secret" in iotctl(suite, "show", device.da_id).stdout


def test_an_app_is_found_by_id_begin_and_name(suite):
    http, name = HttpApi(suite), "Käfer %s" % new_id()
    first, second = "abcdef00" + new_id()[8:], "abcdef01" + new_id()[8:]
    for da_id in (first, second):
        http.put(da_id, {"accept_protos": ["mqtt"], "profile": {"model": "M"},
                         **({"name": name} if da_id == first else {})})
    for words in (first, first.upper(), "abcdef00", "ABCDEF00", name):
        assert show(suite, words)["id"] == first
    assert show(suite, "abcdef01")["id"] == second
    assert "more than one" in iotctl(suite, "show", "abcdef0", rc=1).stderr
    # two with one name; a name like the begin of an id is a name
    http.put(second, {"accept_protos": ["mqtt"], "profile": {"model": "M"}, "name": name})
    assert "more than one" in iotctl(suite, "show", name, rc=1).stderr
    http.put(second, {"accept_protos": ["mqtt"], "profile": {"model": "M"}, "name": "abcdef00"})
    assert show(suite, "abcdef00")["id"] == second
    for words in ("", "nobody", "%", "*", new_id(), "x" * 5000, "' OR 1=1 --"):
        assert "no device application" in iotctl(suite, "show", words, rc=1).stderr


def test_list_has_every_page(suite):
    http = HttpApi(suite)
    made = {new_id() for _ in range(1203)}
    for da_id in made:
        assert http.put(da_id, {"accept_protos": ["mqtt"], "profile": {"model": "Many"}}).status_code == 200
    rows = json.loads(iotctl(suite, "list", "--json").stdout)["apps"]
    ids = [r["id"] for r in rows]
    assert ids == sorted(ids) and len(ids) == len(set(ids)) and made <= set(ids)


def test_deregister_is_as_if_the_app_had_asked(suite, clients, linked):
    device, g = linked
    api = clients.device_api(suite)
    api.attach()
    said = iotctl(suite, "deregister", device.da_id).stdout
    assert device.da_id in said and device.name in said
    assert HttpApi(suite).get(device.da_id).status_code == 404
    api.announced("deregister", device.da_id)
    assert device.command("DISCONNECT", "idf", "meow")
    assert "no device application" in iotctl(suite, "deregister", device.da_id, rc=1).stderr


@pytest.mark.parametrize("args, rc, words", [
    ((), 2, "list, show"), (("fly",), 2, "none of"), (("list", "x"), 2, "no further"), (("show",), 2, "begin of the id"),
    (("suspend", "x"), 2, "one of its features"), (("suspend", "x", "y", "both"), 2, "neither idf nor odf"),
    (("list", "--xml"), 2, "xml"),
])
def test_wrong_command_lines(suite, args, rc, words):
    assert words in iotctl(suite, *args, rc=rc).stderr


# ---- suspend, resume


def test_suspend_and_resume_reach_the_device_and_are_shown(suite, linked):
    device, g = linked
    said = iotctl(suite, "suspend", device.da_id, "meow").stdout
    assert "idf meow: suspended" in said
    command = device.command("SUSPEND", "idf", "meow")
    assert set(command) == {"msg_id", "idf", "command"}
    assert suspended(suite, device.da_id) == {("idf", "meow"): "suspended"}
    assert listed(suite)[device.da_id]["suspended"] == 1
    assert "suspended" in iotctl(suite, "list").stdout and "suspended" in iotctl(suite, "show", device.da_id).stdout
    link = g.link(device.da_id, "idf", "meow")
    assert link["suspension"] == "suspended" and link["state"] == "connected"
    assert "suspension" not in g.link(device.da_id, "odf", "purr")
    assert "idf meow: active" in iotctl(suite, "resume", device.da_id, "meow").stdout
    assert set(device.command("RESUME", "idf", "meow")) == {"msg_id", "idf", "command"}
    assert suspended(suite, device.da_id) == {}
    for command in ("SUSPEND", "RESUME"):
        assert suite.metric("iottalk_control_commands_total", command=command, result="ok") >= 1
    assert "was not suspended" in iotctl(suite, "resume", device.da_id, "meow").stdout
    assert "suspension" not in g.link(device.da_id, "idf", "meow")


def test_a_feature_of_both_kinds_is_suspended_in_both_or_in_one(suite, clients):
    device = clients.sdk(suite, idf=("both",), odf=("both", "other"))
    iotctl(suite, "suspend", device.da_id, "both")
    assert suspended(suite, device.da_id) == {("idf", "both"): "suspended", ("odf", "both"): "suspended"}
    iotctl(suite, "resume", device.da_id, "both", "odf")
    assert suspended(suite, device.da_id) == {("idf", "both"): "suspended"}
    assert "has no idf 'other'" in iotctl(suite, "suspend", device.da_id, "other", "idf", rc=1).stderr
    assert "has no feature 'nothing'" in iotctl(suite, "suspend", device.da_id, "nothing", rc=1).stderr


def test_an_offline_device_is_told_when_it_comes(suite, clients):
    device = app_of(suite, clients)
    device.vanish()
    until(lambda: listed(suite)[device.da_id]["state"] == "offline")
    assert "idf meow: waiting" in iotctl(suite, "suspend", device.da_id, "meow").stdout
    device.open()
    device.command("SUSPEND", "idf", "meow")
    until(lambda: suspended(suite, device.da_id) == {("idf", "meow"): "suspended"})


def test_a_device_that_comes_again_is_told_again_after_connect(suite, linked):
    device, _ = linked
    iotctl(suite, "suspend", device.da_id, "meow")
    device.command("SUSPEND", "idf", "meow")
    device.commands.take_all()
    device.drop_connection()
    order = []   # of an odf the SDK tells CONNECT when it has subscribed
    while len(order) < 3:
        c = device.commands.get()
        order.append((c["command"], c.get("idf") or c.get("odf")))
    assert sorted(order) == [("CONNECT", "meow"), ("CONNECT", "purr"), ("SUSPEND", "meow")]
    assert order.index(("CONNECT", "meow")) < order.index(("SUSPEND", "meow"))
    until(lambda: suspended(suite, device.da_id) == {("idf", "meow"): "suspended"})


def test_a_link_made_later_is_suspended_after_its_connect(suite, clients):
    device = app_of(suite, clients)
    iotctl(suite, "suspend", device.da_id, "meow")
    device.command("SUSPEND", "idf", "meow")
    g = clients.graph(suite)
    g.ok("attach")
    g.ok("add_link", da_id=device.da_id, idf="meow", func=None)
    assert [device.commands.get()["command"] for _ in range(2)] == ["CONNECT", "SUSPEND"]


@pytest.mark.parametrize("how", ["refuses", "is silent"])
def test_a_device_that_does_not_suspend_says_so(make_suite, clients, how):
    suite = make_suite({"core.command-timeout-ms": SILENT_MS} if how == "is silent" else {})

    def answer(command):
        if command["command"] in ("SUSPEND", "RESUME"):
            return None if how == "is silent" else {"msg_id": command["msg_id"], "state": "error", "reason": "no such command"}
        return {"msg_id": command["msg_id"], "state": "ok"}

    device = app_of(suite, clients, answer=answer)
    words = "no answer to SUSPEND within %d ms" % SILENT_MS if how == "is silent" else "no such command"
    assert words in iotctl(suite, "suspend", device.da_id, "meow", rc=1).stdout
    assert suspended(suite, device.da_id) == {("idf", "meow"): "refused"}
    assert words in iotctl(suite, "show", device.da_id).stdout
    iotctl(suite, "resume", device.da_id, "meow", rc=1)
    # what may not have arrived is kept, what was refused is not
    assert suspended(suite, device.da_id) == ({("idf", "meow"): "refused"} if how == "is silent" else {})


def test_suspensions_outlive_csm_and_a_new_registration_and_end_with_the_device(make_suite, clients):
    suite = make_suite()
    device, other = app_of(suite, clients), app_of(suite, clients)
    for app in (device, other):
        iotctl(suite, "suspend", app.da_id, "meow")
        app.command("SUSPEND", "idf", "meow")
    suite.kill9("csm")
    suite.start("csm")
    assert suspended(suite, device.da_id) == {("idf", "meow"): "suspended"}
    until(lambda: suite.metric("iottalk_bus_up") == 1)
    assert not [c for c in device.commands.take_all() if c["command"] == "SUSPEND"]  # it has done it
    # registers again: offline until it says so with the new revision
    device.register()
    until(lambda: suspended(suite, device.da_id) == {("idf", "meow"): "waiting"})
    device.tell("online")
    device.command("SUSPEND", "idf", "meow")
    iotctl(suite, "deregister", device.da_id)
    device.register()
    assert suspended(suite, device.da_id) == {}
    suite.stop("csm")
    with sqlite3.connect(suite.userdir / "iottalk.db") as store:
        assert store.execute("SELECT da_id, mode, feature FROM suspension").fetchall() == [(other.da_id, "idf", "meow")]


def test_a_command_that_may_not_have_arrived_is_said_again_after_a_restart(make_suite, clients):
    suite = make_suite({"core.command-timeout-ms": 60000})
    silent = app_of(suite, clients, answer=lambda c: None)
    asking = subprocess.Popen([str(BIN / "iotctl"), "-c", str(suite.ini), "app", "suspend", silent.da_id, "meow"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = silent.command("SUSPEND", "idf", "meow")
    suite.kill9("csm")
    assert asking.wait(20) == 1 and "hung up" in asking.stderr.read()
    suite.start("csm")
    again = silent.command("SUSPEND", "idf", "meow")
    assert again["msg_id"] != first["msg_id"]
    silent.publish(silent.up_topic, {"msg_id": again["msg_id"], "state": "ok"})
    until(lambda: suspended(suite, silent.da_id) == {("idf", "meow"): "suspended"})


VERSIONS = {2: "suspension", 3: "request"}   # what each has brought


@pytest.mark.parametrize("version", [n - 1 for n in VERSIONS])
def test_a_store_of_an_older_version_is_brought_up_to_date_with_a_copy_of_it(make_suite, version):
    suite = make_suite()
    http, da_id = HttpApi(suite), new_id()
    http.put(da_id, {"accept_protos": ["mqtt"], "profile": {"model": "M"}})
    suite.stop("csm")
    path = suite.userdir / "iottalk.db"
    with sqlite3.connect(path) as store:
        for newer in range(version + 1, max(VERSIONS) + 1):
            store.executescript("DROP TABLE %s; DELETE FROM schema_version WHERE version = %d;" % (VERSIONS[newer], newer))
    suite.start("csm")
    assert http.get(da_id).status_code == 200 and suspended(suite, da_id) == {}
    with sqlite3.connect("%s.v%d.bak" % (path, version)) as copy:
        assert copy.execute("SELECT id FROM device").fetchall() == [(da_id,)]
        assert copy.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (VERSIONS[version + 1],)).fetchone() == (0,)


def test_without_csm_the_answer_says_so(make_suite):
    suite = make_suite(start=("broker",))
    assert "does not run" in iotctl(suite, "list", rc=3).stderr
