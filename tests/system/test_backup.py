"""iotctl backup and restore: what was answered is in the file, what is in the file comes back, and nothing is ever half done."""

import hashlib
import io
import json
import os
import pwd
import re
import shutil
import sqlite3
import subprocess
import tarfile
import time
import tempfile
import threading
from pathlib import Path

import pytest

from clients import GraphClient, HttpApi, new_id
from suite import BIN, until
from test_doctor import hold_lock
from test_iotctl import ctl, make_ctl, on_terminal  # noqa: F401 (fixtures)

BODY = {"accept_protos": ["mqtt"], "name": "Cat", "idf_list": [["meow", ["dB"]]], "odf_list": [["meow", ["dB"]]],
        "profile": {"model": "AI"}}
SQUARE = "def run(x): return x ** 2\n"
TABLES = ("meta", "device", "func", "graph", "command", "device_client")
MEMBERS = ["manifest.json", "csm.db", "ccm.db", "key", "agent-id", "iottalk.ini"]


def register(ctl, count=1):
    http = HttpApi(ctl)
    ids = [new_id() for _ in range(count)]
    for da_id in ids:
        # a name of its own: csm numbers equal ones by what else there is
        answer = http.put(da_id, dict(BODY, name="Cat " + da_id[:8]))
        assert answer.status_code == 200, answer.text
    return ids


def known(ctl, da_id):
    return HttpApi(ctl).get(da_id).status_code == 200


def rows(path, tables=TABLES):
    """All that a store says, without the state of connections."""
    db = sqlite3.connect("file:%s?mode=ro" % path, uri=True)
    try:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.row_factory = sqlite3.Row
        return {t: sorted(tuple(r[k] for k in r.keys() if k not in ("online", "state_since"))
                          for r in db.execute("SELECT * FROM " + t)) for t in tables}
    finally:
        db.close()


def member(path, name):
    with tarfile.open(path) as tar:
        return tar.extractfile(name).read()


def names_in(path):
    with tarfile.open(path) as tar:
        return tar.getnames()


def store_in(path, folder):
    copy = folder / "from-backup.db"
    copy.write_bytes(member(path, "csm.db"))
    return copy


def repacked(path, to, manifest=None, **members):
    """A backup with other members (names with _ for the dot; None: without it), its digests right."""
    with tarfile.open(path) as tar:
        have = {name: tar.extractfile(name).read() for name in tar.getnames()}
    head = json.loads(have.pop("manifest.json"))
    have.update({name.replace("_", "."): data for name, data in members.items()})
    have = {name: data for name, data in have.items() if data is not None}
    known_before = {m["name"]: m for m in head["members"]}
    head["members"] = [dict(known_before.get(name, {}), name=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
                       for name, data in have.items()]
    (manifest or (lambda m: None))(head)
    with tarfile.open(to, "w") as tar:
        for name, data in [("manifest.json", json.dumps(head).encode()), *have.items()]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return to


def picture(folder):
    """Names and contents of all files of a state directory, without logs and what belongs to running processes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*"))
            if p.is_file() and p.parent.name not in ("run", "log")}


@pytest.fixture
def backed_up(make_ctl, tmp_path):
    """A suite that ran, with three devices; stopped; and its backup."""
    c = make_ctl()
    c.run("start")
    c.ids = register(c, 3)
    c.file = tmp_path / "b.tar"
    c.run("backup", str(c.file))
    c.run("stop")
    return c


def test_another_directory_gets_the_same_suite(make_ctl, clients, tmp_path):
    one, file = make_ctl(), tmp_path / "b.tar"
    one.run("start")
    cat = clients.sdk(one, name="cat")
    g = clients.graph(one)
    g.ok("attach")
    g.wire(cat.da_id, "meow", "meow", join=SQUARE)
    cat.until_connected(("idf", "meow"), ("odf", "meow"))
    for mode in ("idf", "odf"):
        g.until_link(cat.da_id, mode, "meow", "connected")
    one.run("backup", str(file))
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    assert names_in(file) == MEMBERS
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["b.tar"]
    manifest = json.loads(member(file, "manifest.json"))
    assert manifest["format"] == 1 and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", manifest["time"])
    assert {m["name"]: m["sha256"] for m in manifest["members"]} == {
        name: hashlib.sha256(member(file, name)).hexdigest() for name in MEMBERS[1:]}
    before, link = g.state(), g.topic(cat.da_id, "odf", "meow")
    cat.close()
    one.run("stop")

    other = make_ctl()
    other.run("restore", str(file))  # nothing is replaced: nothing to confirm
    assert rows(other.userdir / "iottalk.db") == rows(store_in(file, tmp_path))
    lasting = [t for t in TABLES if t != "device_client"]  # who looks at devices goes with ccm
    assert rows(other.userdir / "iottalk.db", lasting) == rows(one.userdir / "iottalk.db", lasting)
    kinds = ("User", "DeviceModel", "DF_Parameter", "Function", "FunctionVersion", "Project", "Device")
    assert rows(other.userdir / "iottalk-gui.db", kinds) == rows(one.userdir / "iottalk-gui.db", kinds)
    for name in ("key", "agent-id"):
        assert (other.userdir / name).read_bytes() == (one.userdir / name).read_bytes()
        assert oct((other.userdir / name).stat().st_mode & 0o777) == "0o600"
    assert (other.userdir / "restored.ini").read_text() == one.ini.read_text()
    other.run("start")
    again = GraphClient(clients.mqtt(other), g.client_id, g.graph)
    here = again.state()
    assert [here[k] for k in ("owner", "join")] == [before[k] for k in ("owner", "join")]
    assert again.topic(cat.da_id, "odf", "meow") == link
    assert known(other, cat.da_id)
    back = clients.sdk(other, name="cat", da_id=cat.da_id)
    back.until_connected(("idf", "meow"), ("odf", "meow"))
    for mode in ("idf", "odf"):
        again.until_link(cat.da_id, mode, "meow", "connected")
    back.push("meow", [7])
    assert back.received("meow") == 49


@pytest.mark.limit(180)
def test_all_that_was_answered_before_is_in_it(ctl, tmp_path):
    ctl.run("start")
    register(ctl, 50)
    answered, stop, failed = [], threading.Event(), []

    def go_on():
        try:
            while not stop.is_set():
                answered.extend(register(ctl))
        except Exception as e:  # noqa: BLE001 (told below)
            failed.append(e)

    threads = [threading.Thread(target=go_on) for _ in range(4)]
    for t in threads:
        t.start()
    try:
        for n in range(5):
            goal = len(answered) + 50
            until(lambda: len(answered) >= goal or failed, 60, "more registrations")
            before, file = list(answered), tmp_path / ("%d.tar" % n)
            ctl.run("backup", str(file))
            ids = {row[0] for row in rows(store_in(file, tmp_path))["device"]}
            assert set(before) <= ids
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not failed
    assert len(answered) > len(before)  # it went on meanwhile


def test_a_file_that_is_there_stays_unless_forced(backed_up, tmp_path):
    before = backed_up.file.read_bytes()
    refused = backed_up.run("backup", str(backed_up.file), rc=1)
    assert "--force" in refused.stderr and backed_up.file.read_bytes() == before
    inode = backed_up.file.stat().st_ino
    backed_up.run("backup", "--force", str(backed_up.file))  # also while nothing runs
    assert backed_up.file.stat().st_ino != inode
    assert rows(store_in(backed_up.file, tmp_path)) == rows(backed_up.userdir / "iottalk.db")
    assert "not a file" in backed_up.run("backup", "--force", str(tmp_path), rc=1).stderr
    assert "No such file" in backed_up.run("backup", str(tmp_path / "no" / "b.tar"), rc=1).stderr


def test_without_a_store_there_is_no_backup(make_ctl, tmp_path):
    fresh = make_ctl()
    assert "no store" in fresh.run("backup", str(tmp_path / "b.tar"), rc=1).stderr
    forgetful = make_ctl(extra="[core-db]\nurl = :memory:\n")
    assert "memory" in forgetful.run("backup", str(tmp_path / "b.tar"), rc=1).stderr
    assert not fresh.userdir.exists() and list(tmp_path.glob("b.tar*")) == []


def test_the_devices_store(make_ctl, tmp_path):
    """It is in a backup if it is there; a backup without one leaves it alone."""
    c = make_ctl()
    c.run("initdb")
    c.run("backup", str(tmp_path / "without.tar"))
    c.run("initdb", "devices")
    with sqlite3.connect(c.userdir / "devices.db") as db:
        db.execute("INSERT INTO state VALUES ('gateway/g/ping/a/system/enable', 'true', 5)")
    c.run("backup", str(tmp_path / "with.tar"))
    assert "devices.db" in names_in(tmp_path / "with.tar") and "devices.db" not in names_in(tmp_path / "without.tar")
    with sqlite3.connect(c.userdir / "devices.db") as db:
        db.execute("UPDATE state SET body = 'false'")

    def bodies():
        with sqlite3.connect(c.userdir / "devices.db") as db:
            return db.execute("SELECT body FROM state").fetchall()
    c.run("restore", "--yes", str(tmp_path / "without.tar"))
    assert bodies() == [("false",)]
    c.run("restore", "--yes", str(tmp_path / "with.tar"))
    assert bodies() == [("true",)]
    bad = repacked(tmp_path / "with.tar", tmp_path / "bad.tar", devices_db=member(tmp_path / "with.tar", "csm.db"))
    assert "devices's store in the backup" in c.run("restore", "--yes", str(bad), rc=1).stderr
    assert bodies() == [("true",)]


def test_not_both_at_once(backed_up, tmp_path):
    """While another restore runs: no backup, which could be of both states, no second restore, no start."""
    before = picture(backed_up.userdir)
    with hold_lock(backed_up.userdir / "run" / "restore.pid"):
        assert "try again" in backed_up.run("backup", str(tmp_path / "other.tar"), rc=1).stderr
        assert "another restore" in backed_up.run("restore", "--yes", str(backed_up.file), rc=1).stderr
        (backed_up.userdir / "restore.journal").write_text('{"steps": []}')
        assert "a restore is running" in backed_up.run("start", rc=1).stderr
        (backed_up.userdir / "restore.journal").unlink()
    assert picture(backed_up.userdir) == before and not (tmp_path / "other.tar").exists()
    backed_up.run("backup", str(tmp_path / "other.tar"))


# -- what is refused, and leaves everything as it was


def spoil_byte(data):
    at = data.index(b"SQLite format") + 5000
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def cut_within(name):
    def cut(data):
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            member = tar.getmember(name)
            return data[:member.offset_data + member.size // 2]
    return cut


def cut_before_key(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return data[:tar.getmember("key").offset]


DAMAGES = {
    "empty": (lambda data: b"", "not a backup"),
    "text": (lambda data: b"hello\n" * 2000, "not a backup"),
    "cut off in csm's store": (cut_within("csm.db"), "csm.db"),
    "cut off in ccm's store": (cut_within("ccm.db"), "ccm.db"),
    "cut off behind the stores": (cut_before_key, "member key: it is missing"),
    "a byte of the store": (spoil_byte, "csm.db"),
    "a byte of the manifest": (lambda data: data.replace(b'"sha256"', b'"sha257"', 1), "manifest.json"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged(backed_up, tmp_path, damage):
    spoil, words = DAMAGES[damage]
    bad = tmp_path / "bad.tar"
    bad.write_bytes(spoil(backed_up.file.read_bytes()))
    before = picture(backed_up.userdir)
    refused = backed_up.run("restore", "--yes", str(bad), rc=1)
    assert re.search(words, refused.stderr) and "nothing was changed" in refused.stderr and str(bad) in refused.stderr
    assert picture(backed_up.userdir) == before


def newer_store(folder, backup):
    copy = store_in(backup, folder)
    db = sqlite3.connect(copy)
    db.execute("INSERT INTO schema_version VALUES (99)")
    db.commit()
    db.close()
    return copy.read_bytes()


def other_store(folder):
    path = folder / "other.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t (x)")
    db.commit()
    db.close()
    return path.read_bytes()


def schema_99(manifest):
    for m in manifest["members"]:
        if "schema" in m:
            m["schema"] = 99


def test_of_another_kind(backed_up, tmp_path, make_ctl):
    cases = {
        "version 99.*newer": dict(manifest=schema_99),
        "store in the backup.*version 99": dict(csm_db=newer_store(tmp_path, backed_up.file)),
        "csm's store in the backup.*schema_version": dict(csm_db=other_store(tmp_path)),
        "csm's store in the backup.*not a database": dict(csm_db=b"no store " * 1000),
        "ccm's store in the backup.*not a database": dict(ccm_db=b"no store " * 1000),
        "ccm's store in the backup.*not a store of ccm": dict(ccm_db=member(backed_up.file, "csm.db")),
        "does not know.*newer": dict(mesh_db=b"from tomorrow"),
        "format 2": dict(manifest=lambda m: m.update(format=2)),
        "something else": dict(manifest=lambda m: m.update(backup="others")),
        "no 'key'": dict(manifest=lambda m: m.update(members=[x for x in m["members"] if x["name"] != "key"])),
    }
    before = picture(backed_up.userdir)
    empty = make_ctl()
    for words, change in cases.items():
        bad = repacked(backed_up.file, tmp_path / "bad.tar", **change)
        for c in (backed_up, empty):
            refused = c.run("restore", "--yes", str(bad), rc=1)
            assert re.search(words, refused.stderr) and "nothing was changed" in refused.stderr, (words, refused.stderr)
    assert picture(backed_up.userdir) == before
    assert not empty.userdir.exists() or picture(empty.userdir) == {}
    backed_up.run("restore", "--yes", str(repacked(backed_up.file, tmp_path / "good.tar")))  # it was not the packing


def test_no_room(backed_up, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("no mounts here: " + done.stderr)
    try:
        refused = backed_up.run("backup", str(small / "b.tar"), rc=1)
        assert re.search("No space|full", refused.stderr)
        assert list(small.iterdir()) == []
        ini = small / "x.ini"
        ini.write_text("[core]\nuserdir = %s\n" % (small / "userdir"))
        done = subprocess.run([str(BIN / "iotctl"), "-c", str(ini), "restore", str(backed_up.file)], capture_output=True,
                              text=True, timeout=60)
        assert done.returncode == 1 and "No space" in done.stderr and "nothing was changed" in done.stderr
        assert picture(small / "userdir") == {}
    finally:
        subprocess.run(["umount", str(small)], check=True)


# -- while the suite runs


def test_restore_while_running(ctl, tmp_path):
    file = tmp_path / "b.tar"
    ctl.run("start")
    before = register(ctl, 3)
    ctl.run("backup", str(file))
    after = register(ctl, 3)
    quarantine = ctl.userdir / "quarantine.json"
    pids = ctl.pids()
    store = picture(ctl.userdir)

    refused = ctl.run("restore", str(file), rc=1)  # no terminal
    assert "--yes" in refused.stderr and ctl.pids() == pids
    assert all(known(ctl, i) for i in before + after)
    assert set(picture(ctl.userdir)) == set(store)

    had_quarantine = quarantine.exists()
    done = ctl.run("restore", "--yes", str(file))
    assert all(known(ctl, i) for i in before) and not any(known(ctl, i) for i in after)
    now = ctl.pids()
    assert {n for n in now if now[n] == pids[n]} == {"broker"}
    ctl.run("status")
    kept = [Path(p) for p in re.findall(r"^  before +(.*)$", done.stdout, re.M)]
    assert len(kept) == 4 + had_quarantine and all(p.exists() for p in kept)
    old = next(p for p in kept if p.name.startswith("iottalk.db."))
    assert {row[0] for row in rows(old)["device"]} == set(before + after)
    assert not list(ctl.userdir.glob("*.incoming"))

    ctl.run("stop", "agent")
    ctl.run("restore", "--yes", str(file))
    assert ctl.pids()["csm"] and not ctl.pids()["agent"]  # what did not run is not started


def test_what_earlier_restores_kept_stays(backed_up):
    """A restore in the second of another finds another name."""
    now = time.time()
    taken = [backed_up.userdir / time.strftime("iottalk.db.before-%Y%m%dT%H%M%SZ", time.gmtime(now + s)) for s in range(-1, 60)]
    for path in taken:
        path.write_text(path.name)
    done = backed_up.run("restore", "--yes", str(backed_up.file))
    kept = [Path(p) for p in re.findall(r"^  before +(.*)$", done.stdout, re.M)]
    assert [p.name for p in kept if re.fullmatch(r"iottalk\.db\.before-\w+Z\.2", p.name) and p.exists()]
    assert all(path.read_text() == path.name for path in taken)


def test_it_asks_on_a_terminal(backed_up):
    before = picture(backed_up.userdir)
    assert on_terminal(backed_up, ("restore", str(backed_up.file)), b"n\n") == 1
    assert picture(backed_up.userdir) == before
    assert on_terminal(backed_up, ("restore", str(backed_up.file)), b"y\n") == 0
    assert list(backed_up.userdir.glob("iottalk.db.before-*"))


def test_daemons_that_others_manage_are_left_alone(make_suite, tmp_path):
    suite, file = make_suite(start=("broker", "csm", "agent", "ccm")), tmp_path / "b.tar"

    def iotctl(*args):
        return subprocess.run([str(BIN / "iotctl"), "-c", str(suite.ini), *args], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60)
    assert iotctl("backup", str(file)).returncode == 0
    for name in ("csm", "agent", "ccm"):
        refused = iotctl("restore", "--yes", str(file))
        assert refused.returncode == 1 and name in refused.stderr and "stop it first" in refused.stderr
        suite.stop(name)
    done = iotctl("restore", "--yes", str(file))
    assert done.returncode == 0, done.stderr
    suite.start("csm", "agent", "ccm")


def test_what_was_quarantined_later_is_not(backed_up):
    quarantine = backed_up.userdir / "quarantine.json"
    quarantine.write_text("{}")
    backed_up.run("restore", "--yes", str(backed_up.file))
    assert not quarantine.exists() and list(backed_up.userdir.glob("quarantine.json.before-*"))


def test_a_log_of_the_old_store_is_not_applied_to_the_new(ctl, tmp_path):
    """As a kill -9 of csm leaves them: a store with a -wal."""
    file = tmp_path / "b.tar"
    ctl.run("start")
    before = register(ctl, 2)
    ctl.run("backup", str(file))
    after = register(ctl, 20)
    wal = (ctl.userdir / "iottalk.db-wal").read_bytes()
    ctl.run("stop")
    (ctl.userdir / "iottalk.db-wal").write_bytes(wal)
    ctl.run("restore", "--yes", str(file))
    assert {row[0] for row in rows(ctl.userdir / "iottalk.db")["device"]} == set(before)
    assert len(list(ctl.userdir.glob("iottalk.db.before-*-wal"))) == 1
    assert after


@pytest.mark.skipif(os.geteuid() != 0, reason="only root restores for others")
def test_root_restores_for_the_owner_of_the_directory(backed_up):
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(prefix="iottalk-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        userdir = folder / "userdir"
        userdir.mkdir(mode=0o700)
        shutil.chown(userdir, nobody.pw_uid, nobody.pw_gid)
        ini = folder / "x.ini"
        ini.write_text("[core]\nuserdir = %s\n" % userdir)
        for _ in range(2):
            subprocess.run([str(BIN / "iotctl"), "-c", str(ini), "restore", "--yes", str(backed_up.file)], check=True,
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
            found = list(userdir.rglob("*"))
            assert {p.stat().st_uid for p in found} == {nobody.pw_uid}, [str(p) for p in found]


# -- killed


def killed_at(ctl, call, number, *args):
    """iotctl, killed where it makes a system call for the number-th time. ret: its exit status; -9: killed"""
    done = subprocess.run(["strace", "-o", "/dev/null", "-e", "trace=%s" % call, "-e",
                           "inject=%s:signal=KILL:when=%d" % (call, number), str(BIN / "iotctl"), "-c", str(ctl.ini), *args],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                          env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))  # which does not work under strace
    return done.returncode


def state_of(userdir):
    return {"device": {row[0] for row in rows(userdir / "iottalk.db")["device"]},
            "key": (userdir / "key").read_bytes(), "agent-id": (userdir / "agent-id").read_bytes()}


@pytest.mark.limit(600)
@pytest.mark.parametrize("call", ["rename", "renameat2", "fsync", "openat"])
def test_killed_at_every_step(backed_up, tmp_path, call):
    """Old or new, and never a mixture; a start, of whatever is there, finds a whole suite."""
    new = {"device": set(backed_up.ids), "key": (backed_up.userdir / "key").read_bytes(),
           "agent-id": (backed_up.userdir / "agent-id").read_bytes()}
    userdir = backed_up.userdir
    with sqlite3.connect(userdir / "iottalk.db") as db:
        db.execute("DELETE FROM device WHERE id = ?", (backed_up.ids[0],))
    db.close()
    (userdir / "key").write_text("ab" * 32 + "\n")
    (userdir / "agent-id").write_text("agent-old\n")
    old = state_of(userdir)
    assert old["device"] < new["device"] and old["key"] != new["key"]
    saved = tmp_path / "saved"
    shutil.rmtree(userdir / "run")  # sockets cannot be copied
    shutil.copytree(userdir, saved)
    outcomes, journals = set(), 0
    for number in range(1, 1000):
        shutil.rmtree(userdir)
        shutil.copytree(saved, userdir)
        rc = killed_at(backed_up, call, number, "restore", "--yes", str(backed_up.file))
        if rc == 0:
            break
        assert rc in (-9, 137), (call, number, rc)
        if (userdir / "restore.journal").exists():
            journals += 1
            refused = subprocess.run([str(BIN / "csm"), "-c", str(backed_up.ini)], stdin=subprocess.DEVNULL,
                                     capture_output=True, text=True, timeout=30)
            assert refused.returncode != 0 and "interrupted" in refused.stderr
        backed_up.run("initdb")  # as a start does
        state = state_of(userdir)
        assert state in (old, new), (call, number)
        outcomes.add("old" if state == old else "new")
        assert not (userdir / "restore.journal").exists()
        kept = list(userdir.glob("key.before-*"))
        assert state == old or len(kept) == 1 and kept[0].read_bytes() == old["key"]
    else:
        pytest.fail("it never came to an end")
    assert state_of(userdir) == new
    # every call comes while a journal is there; the others come before, too
    assert journals > 0 and outcomes == ({"new"} if call == "renameat2" else {"old", "new"})


def test_killed_while_the_suite_ran(ctl, tmp_path):
    file = tmp_path / "b.tar"
    ctl.run("start")
    before = register(ctl, 2)
    ctl.run("backup", str(file))
    after = register(ctl, 2)
    assert killed_at(ctl, "renameat2", 2, "restore", "--yes", str(file)) in (-9, 137)
    assert not ctl.pids()["csm"] and (ctl.userdir / "restore.journal").exists()
    assert "finished" in ctl.run("start").stdout
    assert all(known(ctl, i) for i in before) and not any(known(ctl, i) for i in after)
    ctl.run("status")


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_backup_that_is_killed_leaves_the_one_before(backed_up, number):
    before = backed_up.file.read_bytes()
    assert killed_at(backed_up, "write", number, "backup", "--force", str(backed_up.file)) in (-9, 137)
    assert backed_up.file.read_bytes() == before


def test_misused(ctl):
    for command in ("backup", "restore"):
        assert "one file" in ctl.run(command, rc=2).stderr
        ctl.run(command, "a", "b", rc=2)
        ctl.run(command, "--xml", "a", rc=2)
        assert "FILE" in ctl.run(command, "--help").stdout
    assert "No such file" in ctl.run("restore", "/nowhere/b.tar", rc=1).stderr
    assert not ctl.userdir.exists()
