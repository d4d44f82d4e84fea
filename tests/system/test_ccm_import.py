"""`ccm init` and `ccm import`: as processes of their own, beside others that use the store; and the functions of our seed file."""

import contextlib
import json
import math
import os
import re
import sqlite3
import subprocess
import threading
from pathlib import Path

import pytest

from suite import BIN, until

SEED = json.loads((Path(__file__).resolve().parents[2] / "conf/ccm-seed.json").read_text())
CODES = {f["fn_name"]: f["code"] for f in SEED["Function"]}


class Store:
    def __init__(self, folder):
        self.userdir = folder / "u"
        self.path = self.userdir / "iottalk-gui.db"
        self.ini = folder / "i.ini"
        self.ini.write_text("[core]\nuserdir = %s\n" % self.userdir)

    def argv(self, mode, *operands):
        return [str(BIN / "ccm"), mode, "-c", str(self.ini), *map(str, operands)]

    def run(self, mode, *operands):
        return subprocess.run(self.argv(mode, *operands), capture_output=True, text=True, timeout=60)

    def ask(self, sql):
        with sqlite3.connect(self.path) as db:
            return db.execute(sql).fetchall()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def file_of(tmp_path, **sections):
    path = tmp_path / "more.json"
    path.write_text(json.dumps(sections))
    return path


# -- the program

@pytest.mark.parametrize("words", [("user",), ("user", "add"), ("user", "drop", "a"), ("user", "list", "a"), ("user", "list", "--admin"),
                                   ("user", "password", "a", "b"), ("import",), ("init", "a"), ("export",), ("init", "--nothing")])
def test_a_wrong_command_line_is_2(store, words):
    done = store.run(*words)
    assert done.returncode == 2 and re.match("ccm[: ]", done.stderr) and done.stdout == "", done


def test_a_new_store_is_seeded_once(store):
    first = store.run("init")
    assert first.returncode == 0 and "2 models made" in first.stdout, first.stderr
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.ask("SELECT unit_name FROM Unit WHERE unit_id = 1") == [("None",)]
    assert store.ask("SELECT count(*) FROM User") == [(0,)]
    names = {name for name, in store.ask("SELECT dm_name FROM DeviceModel")}
    assert names == {"Dummy_Device", "Smartphone"}
    before = store.ask("SELECT * FROM DF_Parameter")
    again = store.run("init")
    assert again.returncode == 0 and "nothing was changed" in again.stdout
    assert store.ask("SELECT * FROM DF_Parameter") == before


def test_help_names_the_modes(store):
    told = subprocess.run([str(BIN / "ccm"), "--help"], capture_output=True, text=True, timeout=20)
    assert told.returncode == 0 and "usage: ccm [-h]" in told.stdout
    modes = [line.split()[1] for line in told.stdout.splitlines() if line.startswith("  ccm ")]
    assert modes[:2] == ["init", "import"]
    for mode in modes:
        one = subprocess.run([str(BIN / "ccm"), mode, "--help"], capture_output=True, text=True, timeout=20)
        assert one.returncode == 0 and "usage: ccm " + mode in one.stdout
    assert "ccm import" not in subprocess.run([str(BIN / "csm"), "--help"], capture_output=True, text=True, timeout=20).stdout


def test_of_several_files_all_come_in_or_none(store, tmp_path):
    good = file_of(tmp_path, Unit=[{"unit_name": "pH"}])
    bad = tmp_path / "bad.json"
    bad.write_text('{"Tag": [{"tag_name": "x", "param_no": "two"}]}')
    assert store.run("init").returncode == 0
    refused = store.run("import", good, bad)
    assert refused.returncode == 1 and "bad.json: `Tag[0].param_no` must be an integer" in refused.stderr
    assert store.ask("SELECT count(*) FROM Unit WHERE unit_name = 'pH'") == [(0,)]
    assert "1 unit made" in store.run("import", good).stdout
    bad.write_bytes(b'{"Tag": [{"tag_name": "\xff"}]}')
    assert store.run("import", bad).returncode == 1


def opened(process, path):
    """Has it the file open? False, too, when it has ended."""
    try:
        return any(str(fd.readlink()) == str(path) for fd in Path("/proc/%d/fd" % process.pid).iterdir())
    except FileNotFoundError:    # it, or one of its descriptors, has just gone
        return False


def switches(process):
    """How often it has gone to sleep."""
    return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", Path("/proc/%d/status" % process.pid).read_text(), re.M)[1])


def test_import_waits_for_who_writes(store, tmp_path):
    assert store.run("init").returncode == 0
    writer = sqlite3.connect(store.path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO Unit (unit_name) VALUES ('first')")
    process = subprocess.Popen(store.argv("import", file_of(tmp_path, Unit=[{"unit_name": "second"}])), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: opened(process, store.path), 20, "the store open")
        # it sleeps between its tries: 12 of them and it has waited longer than a daemon would (250 ms), 20 are a second
        asleep = switches(process)
        until(lambda: process.poll() is not None or switches(process) >= asleep + 20, 20, "tries to write")
        assert process.poll() is None
        writer.execute("COMMIT")
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0 and "1 unit made" in out, err
    assert [name for name, in store.ask("SELECT unit_name FROM Unit ORDER BY unit_id DESC LIMIT 2")] == ["second", "first"]


def test_others_write_while_a_file_comes_slowly(store, tmp_path):
    assert store.run("init").returncode == 0
    slow = tmp_path / "slow"
    os.mkfifo(slow)
    process = subprocess.Popen(store.argv("import", slow), stdout=subprocess.PIPE, text=True)
    try:
        with open(slow, "w") as pipe:   # once it reads
            pipe.write('{"Unit": [')
            pipe.flush()
            writer = sqlite3.connect(store.path, isolation_level=None, timeout=0)
            writer.execute("INSERT INTO Unit (unit_name) VALUES ('quick')")
            pipe.write('{"unit_name": "slow"}]}')
        assert "1 unit made" in process.communicate(timeout=30)[0]
    finally:
        process.kill()


def test_two_that_begin_at_once_make_one_store(store):
    results = []
    threads = [threading.Thread(target=lambda: results.append(store.run("init"))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [r.returncode for r in results] == [0] * 4, [r.stderr for r in results]
    assert sum("models made" in r.stdout for r in results) == 1
    assert store.ask("SELECT count(*) FROM DeviceModel") == [(2,)]


def test_a_killed_import_leaves_all_or_nothing(store, tmp_path):
    assert store.run("init").returncode == 0
    count = 3000
    log = Path(str(store.path) + "-wal")

    def written():
        return log.stat().st_size if log.exists() else 0
    # from when it waits for somebody who writes to after its end; between them, when so much of it is in the log
    moments = {"wait": lambda p: opened(p, store.path), "open": lambda p: opened(p, store.path), "end": lambda p: p.poll() is not None}
    moments.update((size, lambda p, size=size: written() > size) for size in (0, 32768, 65536, 98304))
    seen = {}
    for n, (name, come) in enumerate(moments.items()):
        path = file_of(tmp_path, Unit=[{"unit_name": "u%d-%d" % (n, i)} for i in range(count)])
        with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as writer:
            if name == "wait":
                writer.execute("BEGIN IMMEDIATE")
            process = subprocess.Popen(store.argv("import", path), stdout=subprocess.DEVNULL)
            until(lambda: come(process) or process.poll() is not None, 20, "the moment %s" % name, every=0.0002)
            process.kill()
            process.wait()
        seen[name] = store.ask("SELECT count(*) FROM Unit WHERE unit_name LIKE 'u%d-%%'" % n)[0][0]
        assert store.ask("PRAGMA integrity_check") == [("ok",)]
    assert set(seen.values()) <= {0, count} and seen["wait"] == 0 and seen["end"] == count, seen


def test_the_example_of_the_page_comes_in(store, tmp_path):
    page = (Path(__file__).resolve().parents[2] / "docs/bulk-import.rst").read_text()
    path = file_of(tmp_path, **json.loads(page.split("code-block:: json")[1]))
    assert store.run("init").returncode == 0
    done = store.run("import", path)
    assert "1 unit, 1 function, 1 feature, 1 offer, 1 model made" in done.stdout, done.stderr
    assert "nothing new" in store.run("import", path).stdout


# -- what is in the seed

CASES = [
    ("identity", (7,), 7), ("identity", (1, "a"), [1, "a"]),
    ("x1", (5, 6), 5), ("x2", (5, 6), 6), ("x3", (5, 6), None), ("x3", (1, 2, 3), 3), ("x4", (1, 2, 3, 4), 4), ("x5", (1,) * 5, 1),
    ("average", (1, 2), 1.5), ("average", (None, 4), 4), ("average", ([1, 2, "who"], 3), 2), ("average", ("a", None), None),
    ("sum", (1, [2, 3]), 6), ("sum", (), None), ("min", (3, 1, None), 1), ("max", (3, 1, "z"), 3), ("max", (True, -1), -1),
    ("product", (2, 3, 4), 24), ("difference", (5, 3), 2), ("difference", (5, None), None),
    ("magnitude", (3, 4, "who"), 5.0), ("magnitude", (None,), None),
    ("any", (0, 1), 1), ("any", (0, None), 0), ("any", (None,), None), ("all", (1, 0), 0), ("all", ([1], 1), 1),
    ("collect", (1, None, "a"), [1, "a"]), ("round", (2.7, "who"), 3), ("negate", (2,), -2), ("invert", (0,), 1), ("invert", (5,), 0),
]


def load(name):
    scope = {}
    exec(CODES[name], scope)
    return scope["run"]


@pytest.mark.parametrize("name,args,want", CASES)
def test_a_function_of_the_seed_does_what_it_says(name, args, want):
    got = load(name)(*args)
    assert got == want and type(got) is type(want) or math.isclose(got, want)


def test_functions_of_the_seed_that_remember():
    smooth, on_change = load("smooth"), load("on_change")
    assert [smooth(n) for n in (1, 2, 3)] == [1, 1.5, 2]
    for _ in range(20):
        last = smooth(8)
    assert last == 8
    assert [on_change(*a) for a in ((1,), (1,), (2,), (2, 3), (2, 3))] == [1, None, 2, [2, 3], None]


def test_every_function_of_the_seed_has_a_case():
    assert set(CODES) == {name for name, _, _ in CASES} | {"smooth", "on_change"}


def test_the_functions_of_the_seed_compile_in_an_engine(suite, clients):
    graph = clients.graph(suite)
    graph.ok("attach")
    results = graph.ok("check_funcs", codes=list(CODES.values()))["results"]
    assert dict(zip(CODES, results)) == {name: {"state": "ok"} for name in CODES}
