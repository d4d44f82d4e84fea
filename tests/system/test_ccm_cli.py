"""What operators have of ccm on the command line: accounts, projects, devices, functions, its store."""

import json
import os
import re
import sqlite3
import subprocess
from pathlib import Path

import pytest

from ccm_clients import Rest, unique
from clients import HttpApi, new_id
from suite import BIN, Suite, until
from test_backup import killed_at, names_in, repacked
from test_iotctl import ctl, make_ctl  # noqa: F401 (fixtures)

ALL = ("broker", "csm", "agent", "ccm")
PASSWORD = "correct horse battery"


def iotctl(suite, *args, rc=0, text=None):
    done = subprocess.run([str(BIN / "iotctl"), "-c", str(suite.ini), *map(str, args)], input=text or "", capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == rc, "%s: %d, wanted %d\n%s%s" % (args, done.returncode, rc, done.stdout, done.stderr)
    return done


def asked(suite, *args):
    return json.loads(iotctl(suite, *args, "--json").stdout)


@pytest.fixture(scope="module")
def suite():
    s = Suite(start=ALL)
    yield s
    s.close()


@pytest.fixture
def alice(suite):
    return Rest(suite, unique("alice"))


def dummies(rest):
    """(dm_id, df_id of the sensor, df_id of the control) of what a new store has"""
    rows = {df["df_name"]: df["df_id"] for df in rest.data("/devicemodel/Dummy_Device")["df_list"]}
    return rest.data("/devicemodel/Dummy_Device")["dm_id"], rows["Dummy_Sensor"], rows["Dummy_Control"]


def drawn(rest, name=None):
    """A project with one device object, whose sensor goes to its control through a function. ret: its names and numbers"""
    dm_id, sensor, control = dummies(rest)
    name = name or unique("project")
    p_id = rest.project(name)
    do_id = rest.device_object(p_id, dm_id, [sensor, control])
    dfo = rest.objects(p_id, do_id)
    na_id = rest.join(p_id, [dfo[sensor], dfo[control]])
    fn_id, function = rest.function("def run(x):\n    return x * 2\n")
    rest.ok("POST", "/project/%d/na/%d" % (p_id, na_id),
            {"dfm_list": [{"dfo_id": dfo[sensor], "dfmp_list": [{"param_i": 0, "fn_id": fn_id}]}]})
    return {"p_id": p_id, "name": name, "do_id": do_id, "na_id": na_id, "function": function}


def registered(suite, model="Dummy_Device"):
    da_id = new_id()
    answer = HttpApi(suite).put(da_id, {"name": "dummy " + da_id[:8], "accept_protos": ["mqtt"], "profile": {"model": model},
                                        "idf_list": [["Dummy_Sensor", ["None"]]], "odf_list": [["Dummy_Control", ["None"]]]})
    assert answer.status_code == 200, answer.text
    return da_id


def row_of(rows, **what):
    (row,) = [r for r in rows if all(r[k] == v for k, v in what.items())]
    return row


# ---- accounts


def test_an_administrator_is_made_and_logs_in(suite):
    name = unique("root")
    iotctl(suite, "user", "add", "--admin", name, text=PASSWORD + "\n")
    assert re.search(r"(?m)^\d+ +admin +%s$" % name, iotctl(suite, "user", "list").stdout)
    rest = Rest(suite)
    rest.user, rest.password = name, PASSWORD
    rest.login()
    assert rest.ok("GET", "/account/")["is_admin"] is True
    assert name in {row["u_name"] for row in rest.data("/admin/user")}


def test_a_new_password_ends_the_logins_that_there_are(suite):
    name = unique("bob")
    iotctl(suite, "user", "add", name, text="the first one\n")
    rest = Rest(suite)
    rest.user, rest.password = name, "the first one"
    rest.login()
    assert rest.ok("GET", "/account/")["is_admin"] is False
    iotctl(suite, "user", "password", name, text="another one\n")
    rest.refused(401, "GET", "/account/")
    rest.refused(401, "POST", "/account/login", {"username": name, "password": "the first one"})
    rest.password = "another one"
    rest.login()


@pytest.mark.parametrize("args, rc, words", [
    (("user",), 2, "add NAME"), (("user", "add"), 2, "one name"), (("user", "add", "a", "b"), 2, "one name"),
    (("user", "list", "a"), 2, "no further"), (("user", "drop", "a"), 2, "none of add"), (("user", "list", "--admin"), 2, "--admin"),
    (("user", "password", "nobody-of-that-name"), 1, "nobody-of-that-name"),
    (("project",), 2, "list, show"), (("project", "show"), 2, "one project"), (("project", "start", "x"), 2, "none of list"),
    (("project", "import", "/nowhere/x.json", "--user", "a"), 1, "project: /nowhere/x.json: No such file"),
    (("project", "list", "--name", "x"), 2, "--name is not for list"), (("project", "on", "x", "--force"), 2, "--force is not for on"),
    (("project", "export", "x", "--user", "a"), 2, "--user is not for export"),
    (("project", "import", "x.json"), 2, "--user"), (("project", "list", "x"), 2, "no further"),
    (("project", "show", "no such project"), 1, "no project 'no such project'"), (("project", "on", "999999999"), 1, "no project"),
    (("device",), 2, "list"), (("device", "show"), 2, "one field device"), (("device", "sow"), 2, "none of list"),
    (("function", "show", "none_such"), 1, "no function 'none_such'"),
    (("function", "show"), 2, "one function"), (("db",), 2, "import FILE"), (("db", "import"), 2, "one file or more"),
    (("db", "export", "a", "b"), 2, "one file"), (("db", "drop", "x"), 2, "none of import"),
    (("db", "import", "/nowhere/x.json"), 1, "/nowhere/x.json"), (("db", "restore", "/nowhere/x.tar"), 1, "No such file"),
])
def test_wrong_command_lines(suite, args, rc, words):
    assert words in iotctl(suite, *args, rc=rc, text="some password\n").stderr


def test_names_begin_as_they_like_and_exist_once(suite):
    name = "-" + unique("dash")
    iotctl(suite, "user", "add", "--", name, text=PASSWORD + "\n")
    assert name in iotctl(suite, "user", "list").stdout
    assert "exists already" in iotctl(suite, "user", "add", "--", name, text=PASSWORD + "\n", rc=1).stderr
    before = iotctl(suite, "user", "list").stdout
    iotctl(suite, "user", "add", unique("nobody"), rc=1)        # no password at all
    iotctl(suite, "user", "add", "", text=PASSWORD + "\n", rc=1)
    assert iotctl(suite, "user", "list").stdout == before


# ---- projects


def test_projects_of_everybody_are_listed_and_shown(suite, alice):
    bob = Rest(suite, unique("bob"))
    a, b = drawn(alice), drawn(bob)
    rows = asked(suite, "project", "list")["projects"]
    for rest, p in ((alice, a), (bob, b)):
        assert row_of(rows, p_id=p["p_id"]) == {"p_id": p["p_id"], "p_name": p["name"], "owner": rest.user, "status": "off", "sim": "off",
                                                "objects": 1, "bound": 0, "applications": 1}
    text = iotctl(suite, "project", "list").stdout
    assert re.search(r"(?m)^ +%d %s +%s +off +off +1 +0 +1$" % (a["p_id"], a["name"], alice.user), text)

    shown = asked(suite, "project", "show", a["name"])
    (object_,), (application,) = shown["objects"], shown["applications"]
    assert shown["owner"] == alice.user and object_["do_id"] == a["do_id"] and object_["d_id"] is None
    assert [f["df_name"] for f in object_["features"]] == ["Dummy_Control", "Dummy_Sensor"]
    assert application["na_id"] == a["na_id"] and [(k["df_type"], k["functions"]) for k in application["links"]] == [
        ("input", a["function"]), ("output", None)]
    text = iotctl(suite, "project", "show", a["p_id"]).stdout
    assert "no device" in text and "through %s" % a["function"] in text


def test_one_name_of_two_owners_is_told_apart(suite, alice):
    bob, name = Rest(suite, unique("bob")), unique("same")
    mine, other = alice.project(name), bob.project(name)
    refused = iotctl(suite, "project", "show", name, rc=1).stderr
    assert "2 projects are called '%s'" % name in refused and "OWNER/NAME" in refused
    assert asked(suite, "project", "show", "%s/%s" % (bob.user, name))["p_id"] == other
    assert asked(suite, "project", "show", str(mine))["owner"] == alice.user


def test_a_project_is_switched(suite, alice):
    p = drawn(alice)
    alice.bind(p["p_id"], p["do_id"], registered(suite))
    assert iotctl(suite, "project", "on", p["name"]).stdout == "%s is on\n" % p["name"]
    assert alice.data("/project/%d" % p["p_id"])["status"] == "on"
    graph = lambda: [g for g in asked(suite, "graph", "list")["graphs"] if g["id"] == "ccm/%d" % p["na_id"]]
    until(graph, 10, "its graph")
    status = json.loads(iotctl(suite, "status", "ccm", "--json").stdout)
    assert row_of(status["services"], name="ccm")["projects_on"] >= 1
    assert re.search(r"(?m)^ +projects \d+, on [1-9]\d*, graphs \d+; csm attached$", iotctl(suite, "status", "ccm").stdout)
    assert asked(suite, "project", "off", p["p_id"]) == {"p_id": p["p_id"], "status": "off"}
    assert alice.data("/project/%d" % p["p_id"])["status"] == "off"
    until(lambda: not graph(), 10, "the end of its graph")


def test_a_project_is_exported_and_imported(suite, alice, tmp_path):
    p, bob = drawn(alice), Rest(suite, unique("bob"))
    plain, whole = tmp_path / "plain.json", tmp_path / "whole.json"
    assert iotctl(suite, "project", "export", p["name"], plain).stdout == "%s\n" % plain
    assert "--force" in iotctl(suite, "project", "export", p["name"], plain, rc=1).stderr
    iotctl(suite, "project", "export", p["name"], plain, "--force")
    iotctl(suite, "project", "export", p["name"], whole, "--functions")
    document = json.loads(plain.read_text())
    assert document == json.loads(iotctl(suite, "project", "export", p["name"]).stdout)
    assert document["project"]["p_name"] == p["name"] and len(document["project"]["NetworkApplication"]) == 1
    assert p["function"] not in json.dumps(document.get("Function", "")) and "x * 2" in whole.read_text()

    new = unique("imported")
    out = iotctl(suite, "project", "import", whole, "--user", bob.user, "--name", new).stdout
    assert out.startswith("%s is project " % new) and "it is off" in out
    row = row_of(asked(suite, "project", "list")["projects"], p_name=new)
    assert (row["owner"], row["status"], row["objects"], row["applications"]) == (bob.user, "off", 1, 1)
    assert bob.data("/project/%d" % row["p_id"])["na"][0]["na_name"] == "Join 1"
    before = asked(suite, "project", "list")
    for args, words in ((("--user", bob.user, "--name", new), "already exists"), (("--user", "nobody-of-that-name"), "no account"),):
        assert words in iotctl(suite, "project", "import", whole, *args, rc=1).stderr
    for text, words in (("{", "bad.json: line 1, column 1: "), ("[]", "document"), ('{"project": {}}', "name"), ('{"project": {"p_name": "x"}}', "project")):
        bad = tmp_path / "bad.json"
        bad.write_text(text)
        assert words in iotctl(suite, "project", "import", bad, "--user", bob.user, rc=1).stderr
    assert asked(suite, "project", "list") == before


def test_a_document_may_be_as_large_as_for_rest(suite, alice, tmp_path):
    large, project = tmp_path / "large.json", {"p_name": unique("large"), "DeviceObject": {}, "NetworkApplication": []}
    large.write_text(json.dumps({"project": dict(project, remark="x" * (4 << 20))}))
    assert "it is off" in iotctl(suite, "project", "import", large, "--user", alice.user).stdout
    large.write_text(json.dumps({"project": dict(project, p_name="other", remark="x" * (8 << 20))}))
    assert "more than 8 MiB" in iotctl(suite, "project", "import", large, "--user", alice.user, rc=1).stderr


# ---- devices, functions


def test_devices_are_listed_with_where_they_are_bound(suite, alice):
    p, da_id = drawn(alice), registered(suite)
    alice.bind(p["p_id"], p["do_id"], da_id)
    row = row_of(asked(suite, "device", "list")["devices"], mac_addr=da_id)
    assert (row["dm_name"], row["projects"], row["owner"], row["is_sim"]) == ("Dummy_Device", p["name"], None, False)
    assert re.search(r"(?m)^.* %s +%s$" % (da_id, p["name"]), iotctl(suite, "device", "list").stdout)
    (object_,) = asked(suite, "project", "show", p["name"])["objects"]
    assert object_["mac_addr"] == da_id and row_of(asked(suite, "project", "list")["projects"], p_id=p["p_id"])["bound"] == 1
    assert da_id in iotctl(suite, "project", "show", p["name"]).stdout


def test_functions_are_listed_and_shown(suite, alice):
    p = drawn(alice)
    rows = asked(suite, "function", "list")["functions"]
    assert row_of(rows, fn_name="identity")["is_protect"] is True
    row = row_of(rows, fn_name=p["function"])
    assert (row["versions"], row["links"], row["joins"]) == (1, 1, 0)
    alice.ok("POST", "/function/%d" % row["fn_id"], {"code": "def run(x):\n\treturn x * 3  # \x1b[2J\n"})
    shown = asked(suite, "function", "show", p["function"])
    assert [(v["owner"], "x * 3" in v["code"]) for v in shown["versions"]] == [(alice.user, True)]
    text = iotctl(suite, "function", "show", row["fn_id"]).stdout
    assert "\treturn x * 3  # ?[2J\n" in text and "# of %s, " % alice.user in text
    assert "# of everybody, " in iotctl(suite, "function", "show", "identity").stdout


def test_many_come_in_pages(suite, alice):
    names = {unique("page") for _ in range(3)}
    for name in names:
        alice.project(name)
    first = suite.control("ccm", {"op": "projects", "after": 0})
    last = max(p["p_id"] for p in first["projects"])
    rest = suite.control("ccm", {"op": "projects", "after": last})
    assert rest["projects"] == [] and rest["more"] is False
    assert names <= {p["p_name"] for p in first["projects"]}


def test_candidates_come_from_ccm(suite, alice):
    p = drawn(alice)

    def complete(*words):
        return iotctl(suite, "complete", "--", *words).stdout.split()
    assert complete("project", "show", p["name"][:12]) and p["name"] in complete("project", "show", p["name"][:12])
    assert complete("function", "show", p["function"]) == [p["function"]]
    assert complete("user", "password", alice.user) == [alice.user]
    assert complete("db", "") == ["import", "export", "backup", "restore"]
    assert complete("project", "o") == ["on", "off"]


def test_without_ccm_it_is_told(make_suite):
    suite = make_suite(start=())
    for args in (("project", "list"), ("device", "list"), ("function", "list"), ("project", "on", "x")):
        assert "does not run" in iotctl(suite, *args, rc=3).stderr
    iotctl(suite, "user", "add", "early", text=PASSWORD + "\n")     # the store is enough
    assert "early" in iotctl(suite, "user", "list").stdout


# ---- its store


def model_file(folder, name, **more):
    path = folder / (name + ".json")
    path.write_text(json.dumps({
        "Unit": [{"unit_name": "unit-" + name}],
        "Tag": [{"tag_name": "tag-" + name, "param_no": 1}],
        "Function": [{"fn_name": "f_" + name, "code": "def run(x): return x\n"}],
        "DeviceFeature": [{"df_name": name + "-I", "df_type": "input", "comment": "ünï", "df_parameter": [
            {"param_type": "float", "min": -1.5, "max": 2, "unit": "unit-" + name, "fn_name": "f_" + name, "normalization": True}]}],
        "FunctionSDF": [{"fn_list": [{"fn_name": "f_" + name}]}, {"df_name": name + "-I", "fn_list": [{"fn_name": "f_" + name}]}],
        "DeviceModel": [dict({"dm_name": name, "plural": True, "df_list": [
            {"df_name": name + "-I", "df_parameter": [{"max": 7}], "tags": ["tag-" + name]}]}, **more)],
    }))
    return path


def test_what_is_exported_makes_the_same_elsewhere(suite, alice, make_suite, tmp_path):
    name, own = unique("Model").replace("-", "_"), drawn(alice)["function"]
    made = iotctl(suite, "db", "import", model_file(tmp_path, name)).stdout
    assert "1 model made" in made
    assert "nothing new" in iotctl(suite, "db", "import", model_file(tmp_path, name)).stdout
    assert alice.data("/devicemodel/" + name)["df_list"][0]["df_parameter"][0]["max"] == 7      # the daemon sees it

    one, two = tmp_path / "one.json", tmp_path / "two.json"
    iotctl(suite, "db", "export", one)
    assert "--force" in iotctl(suite, "db", "export", one, rc=1).stderr
    assert own not in one.read_text()       # an account's own
    assert "nothing new" in iotctl(suite, "db", "import", one).stdout
    other = make_suite(start=())
    iotctl(other, "db", "import", one)
    iotctl(other, "db", "export", two)

    def content(path):
        return {section: sorted(json.dumps(row, sort_keys=True) for row in rows) for section, rows in json.loads(path.read_text()).items()}
    assert content(one) == content(two)


def test_a_mistake_in_one_file_leaves_nothing_of_any(suite, tmp_path):
    good, bad = unique("Good").replace("-", "_"), unique("Bad").replace("-", "_")
    files = [model_file(tmp_path, good), model_file(tmp_path, bad, df_list=["no such feature"])]
    refused = iotctl(suite, "db", "import", *files, rc=1).stderr
    assert str(files[1]) in refused and "DeviceModel[0].df_list[0]" in refused
    exported = iotctl(suite, "db", "export", "-").stdout
    assert good not in exported and bad not in exported


def names(c):
    with sqlite3.connect("file:%s?mode=ro" % (c.userdir / "iottalk-gui.db"), uri=True) as db:
        return {row[0] for row in db.execute("SELECT u_name FROM User")}


def add_user(c, name):
    done = subprocess.run([str(BIN / "iotctl"), "-c", str(c.ini), "user", "add", name], input=PASSWORD + "\n", capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def saved(ctl, tmp_path):
    """A suite that runs; alice is in its backups, bob came later."""
    ctl.run("start")
    add_user(ctl, "alice")
    ctl.own, ctl.whole = tmp_path / "own.tar", tmp_path / "whole.tar"
    ctl.run("db", "backup", str(ctl.own))
    ctl.run("backup", str(ctl.whole))
    add_user(ctl, "bob")
    return ctl


def test_its_store_is_restored_alone(saved):
    assert names_in(saved.own) == ["manifest.json", "ccm.db"] and oct(saved.own.stat().st_mode & 0o777) == "0o600"
    assert "--force" in saved.run("db", "backup", str(saved.own), rc=1).stderr
    for file in (saved.own, saved.whole):
        before, others = saved.pids(), {p: p.stat().st_ino for p in (saved.userdir / "iottalk.db", saved.userdir / "key")}
        assert "--yes" in saved.run("db", "restore", str(file), rc=1).stderr and names(saved) == {"alice", "bob"}
        out = saved.run("db", "restore", "--yes", str(file)).stdout
        assert names(saved) == {"alice"} and all(p.stat().st_ino == n for p, n in others.items())
        after = saved.pids()
        assert {n for n in after if after[n] != before[n]} == {"ccm"} and after["ccm"]
        kept = [Path(p) for p in re.findall(r"^  before +(.*)$", out, re.M)]
        assert len(kept) == 1 and kept[0].name.startswith("iottalk-gui.db.before-")
        saved.run("status", rc=0)
        add_user(saved, "bob")
    refused = saved.run("restore", "--yes", str(saved.own), rc=1).stderr
    assert "the backup has no 'csm.db'" in refused and "nothing was changed" in refused


def test_a_backup_of_before_there_was_ccm_leaves_what_it_has(saved, tmp_path):
    old = repacked(saved.whole, tmp_path / "old.tar", ccm_db=None)
    refused = saved.run("db", "restore", "--yes", str(old), rc=1).stderr
    assert "the backup has no 'ccm.db'" in refused
    saved.run("restore", "--yes", str(old))
    assert names(saved) == {"alice", "bob"}
    saved.run("status", rc=0)


def test_a_restore_of_its_store_that_is_killed_is_finished_beside_a_running_csm(saved):
    before = saved.pids()
    assert killed_at(saved, "renameat2", 1, "db", "restore", "--yes", str(saved.own)) in (-9, 137)
    assert (saved.userdir / "restore.journal").exists() and not saved.pids()["ccm"]
    assert "a restore was interrupted" in saved.run("user", "list", rc=None).stderr or names(saved) == {"alice"}
    out = saved.run("start").stdout
    after = saved.pids()
    assert names(saved) == {"alice"} and not (saved.userdir / "restore.journal").exists(), out
    assert all(after[n] == before[n] for n in ("broker", "csm", "agent")) and after["ccm"]


def test_a_store_in_memory_has_no_backup(make_ctl, tmp_path):
    c = make_ctl(extra="[gui-db]\nurl = :memory:\n")
    c.run("start")
    assert "kept in memory" in c.run("db", "backup", str(tmp_path / "own.tar"), rc=1).stderr
    assert "kept in ccm's memory" in c.run("user", "list", rc=1).stderr
    assert "kept in ccm's memory" in iotctl(c, "shell", rc=1, text="sql ccm SELECT 1\n").stderr
    out = c.run("backup", str(tmp_path / "whole.tar")).stdout
    assert "left out" in out and "ccm.db" not in names_in(tmp_path / "whole.tar")
    c.run("restore", "--yes", str(tmp_path / "whole.tar"))
    assert not list(Path(os.getcwd()).glob(":memory:*"))


def test_a_store_in_memory_begins_as_a_new_one_does(make_ctl):
    c = make_ctl(extra="[gui-db]\nurl = :memory:\n")
    c.run("start")
    assert "identity" in c.run("function", "list").stdout
    status = c.run("status").stdout    # nobody but the daemon gets at its accounts
    assert "has no account yet: POST /api/v0/account/create" in status and "iotctl user add" not in status
    for mode in (("init",), ("import", "x.json"), ("user", "list")):
        done = subprocess.run([str(BIN / "ccm"), mode[0], "-c", str(c.ini), *mode[1:]], capture_output=True, text=True, timeout=30)
        assert done.returncode == 1 and "memory of the daemon" in done.stderr


def test_a_start_seeds_a_new_store_and_says_that_there_is_no_account(ctl):
    assert re.search(r"(?m)^projects +%s \(new\)$" % re.escape(str(ctl.userdir / "iottalk-gui.db")), ctl.run("start").stdout)
    assert "has no account yet: iotctl user add --admin NAME" in ctl.run("status").stdout
    assert "identity" in ctl.run("function", "list").stdout
    add_user(ctl, "alice")
    assert "no account yet" not in ctl.run("status").stdout
