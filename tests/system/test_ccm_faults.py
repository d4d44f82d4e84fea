"""ccm while memory is short (tests/faults/faults.c): one allocation after the other of its start and of its operations fails. What fails is
answered with an error and is not half there, nothing crashes, graphs are afterwards what the store says, and with a sanitizer nothing leaks.

FAULTS=all tries every allocation; otherwise a share of them, another one with another SEED."""

import json
import os
import random
import sqlite3
from contextlib import closing

import pytest
import requests

from ccm_clients import Editor, Rest, Wired, graphs_that_should, unique
from clients import Api, new_id
from crash.faults import Faults
from suite import Suite, until

ALL = os.environ.get("FAULTS") == "all"
SEED = int(os.environ.get("SEED", 1))
SHARE, START_SHARE = 10, 12
CODE = "def run(*args):\n    return args[0]\n"
TABLES = ("User", "Project", "DeviceFeature", "DF_Parameter", "DeviceModel", "DM_DF", "DeviceObject", "DFObject", "NetworkApplication",
          "DF_Module", "MultipleJoin_Module", "Function", "FunctionVersion", "FunctionSDF", "Session")


def share(count, of, name):
    """Numbers below `count`: all, or a random share that differs from one seed to another."""
    if ALL or count <= of:
        return range(count)
    return sorted(random.Random("%d %s" % (SEED, name)).sample(range(count), of))


class World:
    """ccm with the library, everything else as it is; a user with a project that runs, and an editor."""

    def __init__(self, clients):
        self.suite = Suite(start=("broker", "csm", "agent"))
        self.ccm = self.suite.processes["ccm"]
        self.faults = Faults(self.suite.dir)
        self.ccm.env = self.faults.env
        try:
            self.suite.start("ccm")
            self.rest = Rest(self.suite, unique("ann"))
            self.wired = Wired(self.suite, clients, self.rest)
            self.editor = clients.add(Editor(self.suite, self.rest))
            self.csm = Api(clients.mqtt(self.suite), "ccm", [])
        except BaseException:
            self.suite.abort()
            raise
        self.document = requests.get(self.suite.gui_url + "/export_project?p_id=%d" % self.wired.p_id, cookies=self.rest.http.cookies,
                                     timeout=10).json()

    def rows(self):
        """What operations make or change: rows of each table, and projects that are on."""
        with closing(sqlite3.connect("file:%s?mode=ro" % (self.suite.userdir / "iottalk-gui.db"), uri=True, timeout=10)) as db:
            assert not db.execute("PRAGMA foreign_key_check").fetchall()
            counts = [db.execute("SELECT count(*) FROM %s" % table).fetchone()[0] for table in TABLES]
            return counts + [db.execute("SELECT count(*) FROM Project WHERE status = 'on'").fetchone()[0]]

    def until_graphs(self):
        """csm has those of the store."""
        wanted = {str(na_id) for na_id in graphs_that_should(self.rest)}
        until(lambda: set(self.csm.ok("list", nonce=new_id())["graphs"]) - {"functions"} == wanted, 20, "the graphs of the store")

    # each: makes what it needs, gives the request

    def create_project(self):
        return lambda: self.http("PUT", "/project", {"p_name": unique("p")})

    def create_feature(self):
        body = {"df_name": unique("F"), "df_type": "input", "df_parameter": [{"max": 1}, {"max": 2}]}
        return lambda: self.http("PUT", "/devicefeature", body)

    def create_model(self):
        rows = [{"df_id": df_id, "df_parameter": [{}]} for df_id, _ in self.wired.ins + self.wired.outs]
        return lambda: self.http("PUT", "/devicemodel", {"dm_name": unique("M"), "df_list": rows})

    def create_object(self):
        body = {"dm_id": self.wired.model, "df": [df_id for df_id, _ in self.wired.ins + self.wired.outs]}
        return lambda: self.http("PUT", "/project/%d/deviceobject" % self.wired.p_id, body)

    def new_object(self, p_id):
        ids = [df_id for df_id, _ in self.wired.ins + self.wired.outs]
        return list(self.rest.objects(p_id, self.rest.device_object(p_id, self.wired.model, ids)).values())

    def create_application(self):
        p_id = self.rest.project()
        body = {"na_name": "Join 1", "na_idx": 0, "dfo_ids": self.new_object(p_id)}
        return lambda: self.http("PUT", "/project/%d/na" % p_id, body)

    def switch_on(self):
        p_id = self.rest.project()
        self.rest.join(p_id, self.new_object(p_id))
        return lambda: self.http("POST", "/project/%d" % p_id, {"status": "on"})

    def delete_project(self):
        p_id = self.rest.project()
        self.rest.join(p_id, self.new_object(p_id))
        self.rest.status(p_id, "on")
        return lambda: self.http("DELETE", "/project/%d" % p_id)

    def create_function(self):
        return lambda: self.http("PUT", "/function", {"fn_name": unique("f").replace("-", "_"), "code": CODE})

    def log_in(self):
        body = {"username": self.rest.user, "password": self.rest.password}
        return lambda: self.http("POST", "/account/login", body, requests)

    def project_info(self):
        return lambda: self.http("GET", "/project/%d" % self.wired.p_id)

    def import_project(self):
        form, name = {"importfilename": ("x.json", json.dumps(self.document))}, unique("imported")
        return lambda: self.told(requests.post(self.suite.gui_url + "/import_project", data={"p_name": name}, files=form, timeout=30,
                                               cookies=self.rest.http.cookies, allow_redirects=False))

    def editors_function(self):
        data = {"fn_name": unique("f").replace("-", "_"), "code": CODE}
        return lambda: self.edit("create_function", data)

    def editors_project(self):
        return lambda: self.edit("create_project", {"p_name": unique("p")})

    # answers: True, or what is wrong

    @staticmethod
    def told(r):
        return True if r.status_code < 400 else "%d %s" % (r.status_code, r.text)

    def http(self, method, path, body=None, by=None):
        by = by or self.rest.http
        try:
            return self.told(by.request(method, self.suite.gui_url + "/api/v0" + path, json=body, timeout=30))
        except requests.ConnectionError as e:
            return "503 no connection, out of memory: %s" % e

    def edit(self, op, data):
        """Without memory for the request, the answer has nothing of it."""
        flag = self.editor.send(op, data)
        answer = self.editor.answers.get(lambda m: m.json.get("flag") == flag or "op" not in m.json, 20).json
        return True if answer["state"] == "ok" else "503 " + answer["msg"]


OPERATIONS = ("create_project", "create_feature", "create_model", "create_object", "create_application", "switch_on", "delete_project",
              "create_function", "log_in", "project_info", "import_project", "editors_function", "editors_project")


@pytest.fixture(scope="module")
def world():
    from conftest import Made
    made = Made()
    w = World(made)
    yield w
    w.faults.off()
    made.close()
    w.suite.close()   # with a sanitizer this is also where leaks are told


@pytest.mark.limit(1800 if ALL else 90)
@pytest.mark.parametrize("fails", [1, 25])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_without_memory_is_done_wholly_or_not_at_all(world, name, fails):
    """From its n-th allocation on, so many fail."""
    for _ in range(2):   # the first makes what is kept: statements, buffers
        ask = getattr(world, name)()
        before = world.rows()
        with world.faults.counting() as allocations:
            assert ask() is True
            count = allocations()
        whole = [b - a for a, b in zip(before, world.rows())]
    assert count > 5
    failed = refused = 0
    for n in share(count, SHARE, "%s %d" % (name, fails)):
        ask = getattr(world, name)()
        before = world.rows()
        with world.faults.failing("alloc", skip=n, fails=fails):
            answer = ask()
            failed += world.faults.failed("alloc") > 0
        where = "allocation %d (of %d) of %s: %s: %s" % (n, fails, name, answer, world.faults.where("ccm"))
        assert world.ccm.runs(), where
        made = [b - a for a, b in zip(before, world.rows())]
        if answer is True:
            assert made == whole, where
        else:
            refused += 1
            assert answer.startswith("503 "), where
            assert made in (whole, [0] * len(whole)), where
        assert world.rest.call("GET", "/project").status_code == 200, where
    assert failed > 1 and (refused > 0 or fails == 1), (failed, refused)


def test_afterwards_the_graphs_are_what_the_store_says(world):
    world.until_graphs()
    world.wired.until_result([5], [5])


@pytest.mark.limit(1800 if ALL else 90)
def test_an_allocation_that_fails_at_the_start_ends_it_with_a_word_or_does_not_matter(world):
    ccm, faults = world.ccm, world.faults
    world.suite.stop("ccm")
    with faults.counting() as allocations:
        world.suite.start("ccm")
        count = allocations()
    world.suite.stop("ccm")
    ended = 0
    for n in share(count, START_SHARE, "start"):
        before = len(ccm.log())
        with faults.failing("alloc", skip=n, fails=1):
            ccm.start(ready=False)
            until(lambda: ccm.popen.poll() is not None or ready(ccm), 20, "ccm, or its end")
        where = "allocation %d of the start: %s" % (n, faults.where("ccm"))
        ccm.notice.close()
        if ccm.popen.poll() is None:
            assert world.rest.data("/project/%d" % world.wired.p_id)["status"] == "on", where
            until(lambda: world.suite.control("ccm", {"op": "status"}).get("csm") == "attached", 20, "the devices: " + where)
            assert ccm.stop() == 0, where
        else:
            ended += 1
            said = ccm.log()[before:]
            assert ccm.popen.returncode == 1 and "memory" in said, (ccm.popen.returncode, where, said)
    assert ended > 5 or not ALL
    world.suite.start("ccm")
    world.until_graphs()
    world.wired.until_result([6], [6])


def ready(process):
    process.notice.settimeout(0.02)
    try:
        return b"READY=1" in process.notice.recv(4096)
    except OSError:
        return False
