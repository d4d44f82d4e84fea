"""A real small disk under userdir: full while csm runs, read-only when it starts."""

import errno
import os
import subprocess

import pytest

from checks import check_store
from clients import HttpApi
from operations import OPERATIONS
from suite import BIN, Process
from test_iotctl import Ctl
from test_poor_machine import fill, small_disk  # noqa: F401 (a fixture)
from test_regressions import until_forwards, wired

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
CHANGES = ("PUT", "PUT again", "POST", "DELETE", "attach", "add_funcs", "add_link", "rm_link", "set_join", "set_df_func", "detach")


def remount(folder, how):
    subprocess.run(["mount", "-o", "remount," + how, str(folder)], check=True)


# room for all operations without a checkpoint, which would come after 4 MB only
@pytest.mark.parametrize("small_disk", ["2m"], indirect=True)
def test_a_full_disk_refuses_changes_and_forwards(make_suite, clients, small_disk):  # noqa: F811
    suite = make_suite(userdir=small_disk / "userdir")
    g, sdk = wired(suite, clients)
    http = HttpApi(suite)
    operations = {name: OPERATIONS[name](suite) for name in CHANGES}
    for op in operations.values():
        op.prepare()
    # the journal may have room in it still: as long as it has, changes are taken
    fill(small_disk)
    filler = OPERATIONS["PUT"](suite)
    for _ in range(2000):
        filler.prepare()
        answer = filler.ask()
        if answer.kind == "error":
            break
    assert answer.kind == "error" and "full" in answer.reason, answer.reason
    assert filler.call("GET", "/" + filler.thing.id)[0] == 404
    refused = [name for name, op in operations.items() if op.ask().kind == "error"]
    assert refused, "nothing was refused"
    assert http.get("healthz").status_code == 503
    assert "full" in http.get("healthz").json()["store"]
    until_forwards(sdk)
    os.unlink(small_disk / "ballast")
    for name in refused:
        op = operations[name]
        op.look()
        assert op.ask().kind == "ok", name
    for op in operations.values():
        op.look()
        check_store(suite.userdir / "iottalk.db", *op.things())
        op.done()
    assert http.get("healthz").status_code == 200
    until_forwards(sdk)
    suite.stop("csm")
    suite.start("csm")
    suite.await_session()
    until_forwards(sdk)


def test_csm_on_a_read_only_disk_says_so_and_ends(make_suite, small_disk):  # noqa: F811
    suite = make_suite(userdir=small_disk / "userdir", start=("broker",))
    remount(small_disk, "ro")
    csm = Process("csm-ro", suite.processes["csm"].argv, suite.dir, True)
    csm.start(ready=False)
    assert csm.popen.wait(20) == 1, csm.log()
    assert os.strerror(errno.EROFS) in csm.log(), csm.log()
    csm.notice.close()
    remount(small_disk, "rw")
    suite.start("csm", "agent")


def test_iotctl_start_on_a_read_only_disk_says_so_and_leaves_nothing_running(tmp_path, small_disk):  # noqa: F811
    ctl = Ctl(tmp_path)
    ctl.userdir = small_disk / "userdir"
    ctl.write()
    ctl.run("initdb")
    remount(small_disk, "ro")
    try:
        done = subprocess.run([str(BIN / "iotctl"), "-c", str(ctl.ini), "start"], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60)
        assert done.returncode == 1, done.stdout + done.stderr
        assert os.strerror(errno.EROFS) in done.stdout + done.stderr, done.stdout + done.stderr
    finally:
        remount(small_disk, "rw")
        ctl.run("stop", rc=None)
    assert ctl.run("status", rc=3).returncode == 3
