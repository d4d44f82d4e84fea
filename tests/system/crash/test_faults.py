"""csm while something fails underneath (tests/faults/faults.c): each allocation of each operation, one after the other; writes, syncs and
locks of the store; the clock. What fails is answered with an error, nothing crashes, and what was answered is there afterwards.

FAULTS=all tries every allocation; otherwise a share of them, another one with another SEED."""

import errno
import os
import random

import pytest

from checks import check_store
from clients import HttpApi, digest
from faults import FOR_EVER, SHORT, Faults
from operations import OPERATIONS, Put
from suite import Suite, until
from test_regressions import locked, until_forwards, wired

ALL = os.environ.get("FAULTS") == "all"
SEED = int(os.environ.get("SEED", 1))
SHARE = 10      # allocations of one operation that are tried, unless all are
START_SHARE = 24
WORD = "out of memory"
AGENT_TIMEOUT_MS = 300


@pytest.fixture(scope="module")
def faulty():
    """(suite, faults): csm with the library, everything else as it is."""
    s = Suite({"core.agent-timeout-ms": AGENT_TIMEOUT_MS}, start=("broker", "agent"))
    faults = Faults(s.dir)
    s.processes["csm"].env = faults.env
    try:
        s.start("csm")
    except BaseException:
        s.abort()
        raise
    yield s, faults
    faults.off()
    s.close()   # with a sanitizer this is also where leaks are told


def share(count, of, name):
    """Numbers below `count`: all, or the first and a random share that differs from one seed to another."""
    if ALL or count <= of:
        return range(count)
    return [0] + sorted(random.Random("%d %s" % (SEED, name)).sample(range(1, count), of - 1))


def operate(suite, name):
    op = OPERATIONS[name](suite)
    op.prepare()
    return op


def words_of(suite):
    return suite.processes["csm"].log().count(WORD) + suite.processes["csm"].log().count("Cannot allocate")


@pytest.mark.limit(900 if ALL else 180)
@pytest.mark.parametrize("fails", [1, 25])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_without_memory_is_answered_with_an_error(faulty, name, fails):
    """From its n-th allocation on, so many fail."""
    suite, faults = faulty
    op = OPERATIONS[name](suite)
    for _ in range(2):   # the first makes what is kept: statements, buffers
        op.prepare()
        with faults.counting() as allocations:
            assert op.ask().kind == "ok"
            count = allocations()
        op.look()
        op.done()
    assert count > 5
    kinds, failed = {"ok": 0, "error": 0, "nobody": 0}, 0
    for n in share(count, SHARE, "%s %d" % (name, fails)):
        op.prepare()
        with faults.failing("alloc", skip=n, fails=fails):
            answer = op.ask()
            failed += faults.failed("alloc") > 0
        where = "allocation %d (of %d) of %s: %s" % (n, fails, name, faults.where())
        assert suite.processes["csm"].runs(), where
        kinds[answer.kind] += 1
        if answer.kind == "error":
            assert answer.reason and ("memory" in answer.reason or "given up" in answer.reason), (answer.reason, where)
        elif answer.kind == "nobody":
            # of a connection that was not even taken, a topic that could not be read: at least the log says so, once a minute
            assert words_of(suite) > 0, where
        try:
            op.look()
            check_store(suite.userdir / "iottalk.db", *op.things())
            op.done()
        except Exception as e:
            raise AssertionError("%s: %s" % (where, e)) from e
    assert failed > 1 and (kinds["error"] > 1 or getattr(op, "patient", False)), (failed, kinds)
    assert kinds["nobody"] <= 8, kinds
    if hasattr(op, "close"):
        op.close()


@pytest.mark.limit(900 if ALL else 180)
def test_an_allocation_that_fails_at_the_start_ends_it_with_a_word_or_does_not_matter(make_suite, clients):
    suite = make_suite({"core.agent-timeout-ms": AGENT_TIMEOUT_MS})
    g, sdk = wired(suite, clients, "def run(x): return [x]\n")
    g.ok("start_monitor")
    suite.stop("csm")
    faults = Faults(suite.dir)
    csm = suite.processes["csm"]
    csm.env = faults.env
    with faults.counting() as allocations:
        suite.start("csm")
        count = allocations()
    suite.stop("csm")
    ended = 0
    for n in share(count, START_SHARE, "start"):
        before = len(csm.log())
        with faults.failing("alloc", skip=n, fails=1):
            csm.start(ready=False)
            until(lambda: csm.popen.poll() is not None or "READY" in ready(csm), 20, "csm, or its end")
        where = "allocation %d of the start: %s" % (n, faults.where())
        said = csm.log()[before:]
        if csm.popen.poll() is None:
            assert g.ok("attach")["graph"]["links"], where
            assert csm.stop() == 0, where
        else:
            ended += 1
            assert csm.popen.returncode == 1, (csm.popen.returncode, where, said)
            assert "memory" in said, (where, said)
        csm.notice.close()
    assert ended > 5 or not ALL
    csm.env = {}
    suite.start("csm")
    suite.await_session()
    until_forwards(sdk)


def ready(process):
    """What it has told the supervisor since the last time."""
    process.notice.settimeout(0.02)
    try:
        return process.notice.recv(4096).decode()
    except OSError:
        return ""


# -- the disk

DISK = {
    "no room": ("write", errno.ENOSPC), "a write error": ("write", errno.EIO), "a sync error": ("sync", errno.EIO),
    "no room for the sync": ("sync", errno.ENOSPC),
}


@pytest.mark.parametrize("how", DISK)
def test_a_store_that_cannot_write_refuses_and_takes_again_what_is_sent_later(faulty, clients, how):
    suite, faults = faulty
    kind, error = DISK[how]
    g, sdk = wired(suite, clients)
    names = ("PUT", "PUT again", "POST", "DELETE", "attach", "add_funcs", "add_link", "rm_link", "set_join", "set_df_func", "detach")
    operations = [operate(suite, name) for name in names]
    with faults.failing(kind, error=error):
        for name, op in zip(names, operations):
            answer = op.ask()
            assert answer.kind == "error" and answer.reason, (name, answer.kind)
            assert faults.failed(kind) > 0
        assert HttpApi(suite).get(sdk.da_id).status_code == 200
        assert HttpApi(suite).get("healthz").status_code == 503
        until_forwards(sdk)
    for name, op in zip(names, operations):
        op.look()
        answer = op.ask()
        assert answer.kind == "ok", (name, answer.reason)
        op.look()
        check_store(suite.userdir / "iottalk.db", *op.things())
        op.done()
    assert HttpApi(suite).get("healthz").status_code == 200


@pytest.mark.parametrize("how", DISK)
def test_a_start_on_a_store_that_cannot_write_ends_with_a_word_or_serves_what_it_has(make_suite, clients, how):
    suite = make_suite()
    g, sdk = wired(suite, clients)
    kind, error = DISK[how]
    suite.stop("csm")
    faults = Faults(suite.dir)
    csm = suite.processes["csm"]
    csm.env = faults.env
    with faults.failing(kind, error=error):
        csm.start(ready=False)
        until(lambda: csm.popen.poll() is not None or "READY" in ready(csm), 20, "csm, or its end")
        csm.notice.close()
        if csm.popen.poll() is None:
            op = Put(suite)
            assert op.call("GET", "/" + sdk.da_id)[0] == 200
            assert op.call("PUT", "/" + sdk.da_id, op.body())[0] == 503
        else:
            assert csm.popen.returncode == 1 and "store" in csm.log_tail(5), csm.log_tail()
        until_forwards(sdk)
    if csm.popen.poll() is not None:
        suite.start("csm")
    suite.await_session()
    until_forwards(sdk)
    assert g.state()["links"]


def test_half_a_write_is_completed(faulty):
    suite, faults = faulty
    op = operate(suite, "PUT")
    with faults.failing("write", error=SHORT, fails=FOR_EVER):
        assert op.ask().kind == "ok"
        assert faults.failed("write") > 0
    op.look()
    check_store(suite.userdir / "iottalk.db", *op.things())


@pytest.mark.parametrize("kind, error", [("write", errno.ENOSPC), ("write", errno.EIO), ("sync", errno.EIO), ("write", SHORT)])
def test_each_write_of_a_registration_may_fail(faulty, kind, error):
    suite, faults = faulty
    op = Put(suite)
    for n in range(12):
        op.prepare()
        with faults.failing(kind, skip=n, fails=1, error=error):
            answer = op.ask()
            failed = faults.failed(kind)
        assert answer.kind in ("ok", "error") and (answer.kind == "ok") == (failed == 0 or error == SHORT), (n, answer.kind, failed)
        op.look()
        check_store(suite.userdir / "iottalk.db", *op.things())
        op.done()
        if not failed:
            break
    assert n > 0


def test_a_store_that_somebody_else_holds_refuses_in_time(faulty, clients):
    suite, faults = faulty
    g, sdk = wired(suite, clients)
    put, link = operate(suite, "PUT"), operate(suite, "add_link")
    with locked(suite):
        for op in (put, link):
            answer = op.ask()
            assert answer.kind == "error" and "locked" in answer.reason, answer.reason
        until_forwards(sdk)
    for op in (put, link):
        op.look()
        assert op.ask().kind == "ok"
        op.look()
        check_store(suite.userdir / "iottalk.db", *op.things())


# -- the clock

@pytest.mark.parametrize("years", [10, -10])
def test_a_step_of_the_clock_expires_nobody_and_stops_nothing(make_suite, clients, years):
    suite = make_suite({"core.da-expiration": 600}, start=("broker", "agent"))
    faults = Faults(suite.dir)
    suite.processes["csm"].env = faults.env
    suite.start("csm")
    g, sdk = wired(suite, clients)
    http = HttpApi(suite)
    before = operate(suite, "PUT again")
    faults.clock(years * 365 * 86400)
    until_forwards(sdk)
    before.look()
    assert before.ask().kind == "ok"
    after = operate(suite, "PUT again")
    time_of = http.get(after.thing.id).json()["register_time"] - http.get(before.thing.id).json()["register_time"]
    assert abs(time_of - years * 365 * 86400) < 3600
    code = "def run(x): return [x + 5]\n"
    g.add_funcs(code)
    g.ok("set_join", prev=None, new=digest(code))
    until_forwards(sdk, more=5)
    sdk.drop_connection()   # offline and online again: its timer is set and taken back
    until(lambda: http.get(sdk.da_id).json()["online"], 10, "online")
    after.look()
    faults.clock(0)
    until_forwards(sdk, more=5)
    for op in (before, after):
        op.look()
        op.done()
    suite.stop("csm")
    suite.start("csm")
    assert http.get(sdk.da_id).status_code == 200
