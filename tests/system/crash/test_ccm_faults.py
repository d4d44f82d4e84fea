"""ccm while something fails underneath (tests/faults/faults.c): each allocation of its operations, one after the other, and of its start;
writes and syncs of its store; the clock; a real disk without room. What fails is answered with an error, nothing crashes, nothing is
half done, and what was answered is there afterwards.

FAULTS=all tries every allocation; otherwise a share of them, another one with another SEED."""

import errno
import os
import sqlite3
import subprocess

import pytest
import requests

from ccm_clients import STARTED, Editor, Rest, Wired, check_store, graphs_that_run, graphs_that_should, store_path, unique
from faults import Faults
from suite import Process, Suite, until
from test_faults import ALL, ready, share
from test_poor_machine import fill, small_disk  # noqa: F401 (a fixture)

SHARE = 12
START_SHARE = 24
STORE = "iottalk-gui.db"
CODE = "def run(*args):\n    return args[0] + %d\n"
DISK = {"no room": ("write", errno.ENOSPC), "a write error": ("write", errno.EIO), "a sync error": ("sync", errno.EIO)}


class Faulty:
    """ccm with the library, one user with a running project of two devices' features, and an editor."""

    def __init__(self, suite, clients):
        self.suite, self.faults = suite, Faults(suite.dir)
        suite.processes["ccm"].env = self.faults.env
        suite.start("ccm")
        self.ann = Rest(suite, unique("ann"))
        self.wired = Wired(suite, clients, self.ann)
        self.editor = clients.add(Editor(suite, self.ann))
        self.fn_id, self.fn_name = self.ann.function(CODE % 1)
        self.n = 0
        self.wired.until_result([3], [3])

    def name(self):
        self.n += 1
        return "thing %d" % self.n

    def counts(self):
        """How much there is of everything."""
        with sqlite3.connect("file:%s?mode=ro" % store_path(self.suite), uri=True) as db:
            tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")]
            return {t: db.execute("SELECT count(*) FROM %s" % t).fetchone()[0] for t in tables}

    def operations(self):
        w, a = self.wired, self.ann
        p = "/project/%d" % w.p_id
        do_id = next(iter(w.objects.values()))
        dfos = list(w.dfos.values())
        document = requests.get(a.url.replace("/api/v0", "") + "/export_project?p_id=%d&functions=1" % w.p_id, cookies=a.http.cookies,
                                timeout=10).text
        rest = lambda method, path, body=None: lambda: a.call(method, path, body() if callable(body) else body, timeout=30)
        return {
            "login": lambda: requests.post(a.url + "/account/login", json={"username": a.user, "password": a.password}, timeout=30),
            "profile": rest("GET", "/account"),
            "account": rest("POST", "/account/create", lambda: {"username": self.name(), "password": "x"}),
            "project": rest("PUT", "/project", lambda: {"p_name": self.name()}),
            "info": rest("GET", p),
            "na info": rest("GET", w.na),
            "object": rest("PUT", p + "/deviceobject", {"dm_id": w.model, "df": [w.ins[0][0], w.outs[0][0]]}),
            "join": rest("PUT", p + "/na", lambda: {"na_name": self.name(), "na_idx": 0, "dfo_ids": dfos}),
            "update": rest("POST", w.na, lambda: {"na_name": self.name(), "dfm_list": [
                {"dfo_id": dfos[0], "dfmp_list": [{"param_i": 0, "fn_id": self.fn_id}]}]}),
            "off": rest("POST", p, {"status": "off"}),
            "on": rest("POST", p, {"status": "on"}),
            "unbind": rest("POST", p + "/deviceobject/%d/device/unbind" % do_id),
            "bind": rest("POST", p + "/deviceobject/%d/device/bind/%s" % (do_id, w.device.da_id)),
            "function": rest("POST", "/function/%d" % self.fn_id, lambda: {"code": CODE % len(self.name())}),
            "feature": rest("PUT", "/devicefeature", lambda: {"df_type": "input", "df_name": self.name(), "df_parameter": [{}, {}]}),
            "model": rest("PUT", "/devicemodel", lambda: {"dm_name": self.name(), "df_list": [{"df_id": w.ins[0][0], "df_parameter": [{}]}]}),
            "models": rest("GET", "/devicemodel"),
            "import": lambda: a.http.post(a.url.replace("/api/v0", "") + "/import_project", allow_redirects=False, timeout=30, files={
                "p_name": (None, self.name()), "importfilename": ("f.json", document)}),
            "openapi": lambda: a.http.get(a.url.replace("/api/v0", "") + "/api/openapi.json", timeout=30),
            "metrics": lambda: a.http.get(a.url.replace("/api/v0", "") + "/metrics", timeout=30),
        }

    def whole(self):
        """All is as the store says, and works."""
        assert self.suite.processes["ccm"].runs()
        check_store(self.suite)
        self.ann.login()
        self.ann.status(self.wired.p_id, "on")
        for do_id in self.wired.objects.values():
            self.ann.bind(self.wired.p_id, do_id, self.wired.device.da_id)
        wanted = graphs_that_should(self.ann)
        until(lambda: graphs_that_run(self.suite) == wanted, 30, "csm's graphs as the store wants them")


@pytest.fixture(scope="module")
def faulty():
    from conftest import Made
    s, made = Suite(start=("broker", "csm", "agent")), Made()
    try:
        f = Faulty(s, made)
    except BaseException:
        s.abort()
        raise
    yield f
    f.faults.off()
    made.close()
    s.close()    # with a sanitizer this is also where leaks are told


NAMES = ("login", "profile", "account", "project", "info", "na info", "object", "join", "update", "off", "on", "unbind", "bind", "function",
         "feature", "model", "models", "import", "openapi", "metrics")


OPPOSITES = {"unbind": "bind", "bind": "unbind", "on": "off", "off": "on"}


def difference(before, after):
    return {table: after[table] - n for table, n in before.items() if after[table] != n}


@pytest.mark.limit(900 if ALL else 240)
@pytest.mark.parametrize("fails", [1, 25])
@pytest.mark.parametrize("name", NAMES)
def test_an_operation_without_memory_is_answered_with_an_error(faulty, name, fails):
    ask, opposite, failed = faulty.operations()[name], faulty.operations().get(OPPOSITES.get(name), lambda: None), 0
    for _ in range(2):
        opposite()
        before = faulty.counts()
        with faulty.faults.counting() as allocations:
            assert ask().status_code < 400
            count = allocations()
        done = difference(before, faulty.counts())
    # a login tries each: a password that could not be looked at is no wrong one
    for n in share(count, count if (name, fails) == ("login", 1) else SHARE, "%s %d" % (name, fails)):
        opposite()
        before = faulty.counts()
        with faulty.faults.failing("alloc", skip=n, fails=fails):
            try:
                r = ask()
            except requests.RequestException:
                r = None    # a connection that was not even taken
            failed += faulty.faults.failed("alloc") > 0
        where = "allocation %d (of %d) of %s: %s" % (n, fails, name, faulty.faults.where("ccm"))
        assert faulty.suite.processes["ccm"].runs(), where
        if r is not None and r.status_code >= 400:
            assert r.status_code == 503, (r.status_code, r.text, where)
            assert difference(before, faulty.counts()) in ({}, done), "half done: " + where    # what lacked may be its answer
        elif r is not None and "json" in r.headers.get("Content-Type", ""):
            assert r.json().get("state", "ok") == "ok", (r.text[:300], where)
    assert failed > 0    # the later ones need not come again
    faulty.whole()


@pytest.mark.limit(120)
def test_editors_are_told_of_missing_memory_or_ask_again(faulty):
    editor = faulty.editor
    editor.ticket = faulty.ann.ticket(editor.id)
    for n in range(0, 60, 1 if ALL else 4):
        with faulty.faults.failing("alloc", skip=n, fails=3):
            flag = editor.send("get_project_info", {"p_id": faulty.wired.p_id})
            try:
                answer = editor.answer(flag, 1)
            except AssertionError:
                answer = None    # not even its flag could be kept
        where = "allocation %d: %s" % (n, faulty.faults.where("ccm"))
        assert faulty.suite.processes["ccm"].runs(), where
        assert answer is None or answer["state"] == "ok" and answer["data"]["p_id"] == faulty.wired.p_id or any(
            word in answer["msg"] for word in ("memory", "the store failed")), (answer, where)
        if answer is None:
            editor.attach()
    faulty.whole()


@pytest.mark.limit(900 if ALL else 240)
def test_an_allocation_that_fails_at_the_start_ends_it_with_a_word_or_does_not_matter(make_suite, clients):
    suite = make_suite(start=STARTED)
    ann = Rest(suite, "ann")
    wired = Wired(suite, clients, ann)
    wired.until_result([3], [3])
    suite.stop("ccm")
    faults, ccm, ended = Faults(suite.dir), suite.processes["ccm"], 0
    ccm.env = faults.env
    with faults.counting() as allocations:
        suite.start("ccm")
        count = allocations()
    suite.stop("ccm")
    for n in share(count, START_SHARE, "start of ccm"):
        before = len(ccm.log())
        with faults.failing("alloc", skip=n, fails=1):
            ccm.start(ready=False)
            until(lambda: ccm.popen.poll() is not None or "READY" in ready(ccm), 20, "ccm, or its end")
        where = "allocation %d of the start: %s" % (n, faults.where("ccm"))
        said = ccm.log()[before:]
        if ccm.popen.poll() is None:
            until(lambda: graphs_that_run(suite) == graphs_that_should(ann), 30, where)
            assert ccm.stop() == 0, where
        else:
            ended += 1
            assert ccm.popen.returncode == 1, (ccm.popen.returncode, where, said)
            assert "memory" in said, (where, said)
        ccm.notice.close()
    assert ended > 5 or not ALL
    ccm.env = {}
    suite.start("ccm")
    wired.until_result([4], [4])


# ---- the disk

@pytest.mark.parametrize("how", DISK)
def test_a_store_that_cannot_write_refuses_and_takes_again_what_is_sent_later(faulty, how):
    kind, error = DISK[how]
    changes = ("account", "project", "object", "join", "feature", "model", "import")
    operations, before = faulty.operations(), faulty.counts()
    with faulty.faults.failing(kind, error=error, path=STORE):
        for name in changes:
            r = operations[name]()
            assert r.status_code == 503, (name, r.status_code, r.text)
            assert "Retry-After" in r.headers or name == "import", r.headers
        assert operations["info"]().status_code == 200
        faulty.wired.until_result([5], [5])
        assert faulty.faults.failed(kind) > 0
    assert faulty.counts() == before
    for name in changes:
        assert operations[name]().status_code < 400, name
    faulty.whole()


# room for a new store, and little more
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
@pytest.mark.parametrize("small_disk", ["4m"], indirect=True)
def test_a_full_disk_refuses_changes_and_the_graphs_run_on(make_suite, clients, small_disk):  # noqa: F811
    suite = make_suite(userdir=small_disk / "userdir", start=STARTED)
    ann = Rest(suite, "ann")
    wired = Wired(suite, clients, ann)
    wired.until_result([3], [3])
    made = [ann.project() for _ in range(3)]
    fill(small_disk)
    for _ in range(5000):
        r = ann.call("PUT", "/project", {"p_name": unique("p" * 200)})
        if r.status_code != 201:
            break
        made.append(r.json()["p_id"])
    assert r.status_code == 503 and "full" in r.json()["reason"], r.text
    assert ann.call("POST", "/account/login", {"username": "ann", "password": ann.password}).status_code == 503
    assert {p["p_id"] for p in ann.data("/project")} == {wired.p_id, *made}
    wired.until_result([4], [4])
    os.unlink(small_disk / "ballast")
    made.append(ann.project())
    suite.kill9("ccm")
    check_store(suite)
    fill(small_disk)
    ccm = suite.processes["ccm"]
    ccm.start(ready=False)
    until(lambda: ccm.popen.poll() is not None or "READY" in ready(ccm), 20, "ccm, or its end")
    ccm.notice.close()
    if ccm.popen.poll() is None:
        assert {p["p_id"] for p in ann.data("/project")} == {wired.p_id, *made}
    else:
        assert "full" in ccm.log_tail(5) or "No space" in ccm.log_tail(5), ccm.log_tail()
    os.unlink(small_disk / "ballast")
    if not ccm.runs():
        suite.start("ccm")
    until(lambda: suite.control("ccm", {"op": "status"}).get("csm") == "attached", 30, "ccm at work")
    ann.project()
    wired.until_result([5], [5])


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_ccm_on_a_read_only_disk_says_so_and_ends(make_suite, small_disk):  # noqa: F811
    suite = make_suite(userdir=small_disk / "userdir", start=("broker",))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    ccm = Process("ccm-ro", suite.processes["ccm"].argv, suite.dir, True)
    ccm.start(ready=False)
    assert ccm.popen.wait(20) == 1 and os.strerror(errno.EROFS) in ccm.log(), ccm.log()
    ccm.notice.close()
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    suite.start("ccm")


# ---- the clock

@pytest.mark.parametrize("years", [10, -10])
def test_a_step_of_the_clock_ends_logins_at_most(make_suite, clients, years):
    suite = make_suite(start=("broker", "csm", "agent"))
    f = Faulty(suite, clients)
    f.faults.clock(years * 365 * 86400)
    account = f.ann.call("GET", "/account").status_code
    assert account == (401 if years > 0 else 200)
    f.ann.login()
    f.editor.ticket = f.ann.ticket(f.editor.id)
    assert f.editor.ok("get_project_info", p_id=f.wired.p_id)["p_id"] == f.wired.p_id
    f.wired.set_functions("input", [f.fn_id])
    f.wired.until_result([3], [4])
    for _ in range(3):
        f.ann.call("POST", "/account/login", {"username": "nobody", "password": "x"})
    f.faults.clock(0)
    f.ann.login()
    f.whole()
    f.wired.until_result([5], [6])
