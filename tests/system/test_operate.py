"""What an operator changes and reads while the daemons run: reload, SIGHUP, log-level, logs."""

import json
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from clients import HttpApi, Inbox, new_id
from suite import BIN, until


ALL = ("broker", "csm", "agent", "ccm")


def iotctl(suite, *args, rc=0):
    done = subprocess.run([str(BIN / "iotctl"), "-c", str(suite.ini), *args], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == rc, "%s: %d, wanted %d\n%s%s" % (args, done.returncode, rc, done.stdout, done.stderr)
    return done


def set_in(suite, section, key, value):
    """Change one setting in the suite's file."""
    text = suite.ini.read_text()
    line = "%s = %s\n" % (key, value)
    if re.search(r"(?m)^%s = " % re.escape(key), text):
        text = re.sub(r"(?m)^%s = .*\n" % re.escape(key), line, text)
    elif "[%s]\n" % section in text:
        text = text.replace("[%s]\n" % section, "[%s]\n%s" % (section, line))
    else:
        text += "[%s]\n%s" % (section, line)
    suite.ini.write_text(text)


def register(suite):
    return HttpApi(suite).put(new_id(), {"accept_protos": ["mqtt"], "profile": {"model": "M"}}).json()


def exists(suite, da):
    return HttpApi(suite).get(da["id"]).status_code == 200


def levels(suite, name="csm"):
    return json.loads(iotctl(suite, "log-level", name, "--json").stdout)


# ---- reload


def test_reload_takes_what_may_change_and_names_what_may_not(make_suite):
    suite = make_suite(start=ALL)
    assert iotctl(suite, "reload").stdout.splitlines() == ["csm: nothing changed", "agent: nothing changed", "ccm: nothing changed"]
    old = register(suite)
    set_in(suite, "core", "da-expiration", 1)
    set_in(suite, "core", "bind", "127.0.0.2")
    set_in(suite, "core", "cors-origin", "https://example.org")
    set_in(suite, "gui", "session-timeout", 5)
    said = iotctl(suite, "reload", "csm").stdout
    assert "csm: core.da-expiration changed" in said and "csm: core.cors-origin changed" in said
    assert "csm: core.bind takes effect with `iotctl restart`" in said
    assert HttpApi(suite).get(new_id()).headers["Access-Control-Allow-Origin"] == "https://example.org"
    # that of before, whose time would have been in three days, too
    until(lambda: not exists(suite, old), 5, "the end of what was registered before")
    told = json.loads(iotctl(suite, "reload", "--json").stdout)
    assert told["csm"]["changed"] == [] and told["csm"]["restart"] == ["core.bind"]
    assert told["csm"]["file"] == str(suite.ini)
    assert "core.da-expiration" in told["agent"]["changed"] and "gui.session-timeout" in told["ccm"]["changed"]


def test_a_longer_expiration_is_in_force_for_what_waits(make_suite):
    suite = make_suite({"core.da-expiration": 5}, start=ALL)    # it is reloaded before that has passed
    da = register(suite)
    set_in(suite, "core", "da-expiration", 3600)
    iotctl(suite, "reload")
    begin = HttpApi(suite).get(da["id"]).json()["register_time"]
    until(lambda: time.time() - begin > 5.5, what="more than its first expiration")
    assert exists(suite, da)
    set_in(suite, "core", "da-expiration", 1)
    iotctl(suite, "reload")
    until(lambda: not exists(suite, da), 5, "its end")


def test_sighup_is_reload(make_suite):
    suite = make_suite(start=ALL)
    da = register(suite)
    set_in(suite, "core", "da-expiration", 1)
    os.kill(suite.pid("csm"), signal.SIGHUP)
    until(lambda: not exists(suite, da), 5, "the device application that has expired")
    os.kill(suite.pid("agent"), signal.SIGHUP)
    until(lambda: "config.changed" in suite.processes["agent"].log(), 5, "the agent's word")
    os.kill(suite.pid("ccm"), signal.SIGHUP)
    until(lambda: "config.changed" in suite.processes["ccm"].log(), 5, "ccm's word")
    assert suite.processes["agent"].runs() and suite.agent_status()["csm"] is True and suite.processes["ccm"].runs()


@pytest.mark.parametrize("broken, words", [
    ("[core]\nda-expiration = soon\n", "da-expiration"), ("[core]\nhttp-port = 1883\n[core-mqtt]\nport = 1883\n", "both 1883"),
    (None, "iottalk.ini"),
])
def test_a_broken_file_changes_nothing(make_suite, broken, words):
    suite = make_suite(start=ALL)
    good = suite.ini.read_text()
    socket = {name: suite.userdir / "run" / (name + ".sock") for name in ("csm", "agent", "ccm")}
    if broken is None:
        suite.ini.unlink()
    else:
        suite.ini.write_text(broken)
    for name in ("csm", "ccm"):
        answer = suite.control(name, {"op": "reload"})
        assert answer["state"] == "error" and words in answer["reason"]
        assert "config.not_reloaded" in suite.processes[name].log()
    suite.ini.write_text(good)
    assert all(s.exists() for s in socket.values()) and iotctl(suite, "reload").stdout.count("nothing changed") == 3
    assert register(suite)["state"] == "ok"


# ---- log-level


def test_log_level_of_a_module(make_suite):
    suite = make_suite()
    before = levels(suite)
    assert before["device"] == {"level": "info", "own": False} and "link" in before and "graph" in before
    assert "transport" in levels(suite, "agent") and "transport" not in before
    suite.start("ccm")
    assert levels(suite, "ccm")["broker"] == {"level": "info", "own": False}
    log = suite.processes["csm"].log
    first = register(suite)
    until(lambda: "device=%s" % first["id"] in log(), what="the line of the registration")
    assert "device" in iotctl(suite, "log-level", "csm", "device", "warn").stdout
    assert levels(suite)["device"] == {"level": "warn", "own": True}
    quiet = register(suite)
    iotctl(suite, "log-level", "csm", "device", "default")
    loud = register(suite)
    until(lambda: "device=%s" % loud["id"] in log(), what="the line of the registration")
    assert "device=%s" % quiet["id"] not in log()
    assert levels(suite) == before


def test_log_level_of_all(make_suite):
    suite = make_suite()
    iotctl(suite, "log-level", "csm", "agent", "error")
    iotctl(suite, "log-level", "csm", "all", "debug")
    now = levels(suite)
    assert now["device"] == {"level": "debug", "own": False} and now["agent"] == {"level": "error", "own": True}
    iotctl(suite, "log-level", "csm", "all", "default")
    assert {tuple(m.items()) for m in levels(suite).values()} == {(("level", "info"), ("own", False))}
    # what the file says comes with a reload, and takes the modules' own away
    iotctl(suite, "log-level", "csm", "agent", "error")
    set_in(suite, "core", "log-level", "warn")
    iotctl(suite, "reload", "csm")
    assert {m["level"] for m in levels(suite).values()} == {"warn"}


@pytest.mark.parametrize("args, rc, words", [
    (("log-level",), 2, "usage"), (("log-level", "csm", "device"), 2, "usage"), (("log-level", "dog"), 2, "unknown name"),
    (("log-level", "broker"), 2, "broker"), (("log-level", "csm", "dogs", "info"), 1, "no module 'dogs'"),
    (("log-level", "csm", "", "info"), 1, "no module"), (("log-level", "csm", "device", "loud"), 1, "none of error"),
    (("log-level", "csm", "d" * 300, "info"), 1, "no module"), (("reload", "broker"), 2, "restart broker"),
    (("reload", "dog"), 2, "unknown name"), (("logs", "dog"), 2, "unknown name"), (("logs", "-n", "many"), 2, "many"),
    (("logs", "-n", "-1"), 2, "-1"),
])
def test_wrong_command_lines(suite, args, rc, words):
    assert words in iotctl(suite, *args, rc=rc).stderr


def test_nothing_runs(make_suite):
    suite = make_suite(start=())
    for args in (("reload",), ("log-level", "csm")):
        assert "does not run" in iotctl(suite, *args, rc=3).stderr


# ---- logs


@pytest.fixture
def written(make_suite):
    """Log files of the past, without daemons."""
    suite = make_suite(start=())
    folder = suite.userdir / "log"
    csm = ["2026-01-01T00:00:%02d.000Z info csm device.n n=%d" % (s, s) for s in range(0, 60, 2)]
    agent = ["2026-01-01T00:00:%02d.500Z info agent graph.n n=%d" % (s, s) for s in range(1, 60, 2)]
    broker = ["2026-01-01T00:00:30: New connection", "  a line without a time"]
    for name, lines in (("csm", csm), ("agent", agent), ("broker", broker)):
        (folder / (name + ".log")).write_text("".join(line + "\n" for line in lines))
    return suite, csm, agent, broker


def test_logs_of_one_are_its_last_lines(written):
    suite, csm, agent, _ = written
    assert iotctl(suite, "logs", "csm").stdout.splitlines() == csm[-20:]
    assert iotctl(suite, "logs", "agent", "-n", "3").stdout.splitlines() == agent[-3:]
    assert iotctl(suite, "logs", "-n1000", "csm").stdout.splitlines() == csm
    assert iotctl(suite, "logs", "-n", "0", "csm").stdout == ""


def test_logs_of_several_are_in_the_order_of_time(written):
    suite, csm, agent, broker = written
    lines = iotctl(suite, "logs", "-n", "200").stdout.splitlines()
    assert len(lines) == len(csm) + len(agent) + len(broker)
    stamps = [re.search(r"00:00:(\d\d)", line) for line in lines]
    assert [int(s[1]) for s in stamps if s] == sorted(int(s[1]) for s in stamps if s)
    at = next(i for i, line in enumerate(lines) if "New connection" in line)
    assert lines[at].startswith("broker") and "without a time" in lines[at + 1]
    assert iotctl(suite, "logs", "-n", "5").stdout.splitlines() == lines[-5:]


def test_logs_in_json_and_of_large_files(written):
    suite, _, _, _ = written
    row = {"time": "2026-01-01T00:00:59.900Z", "level": "info", "event": "x"}
    (suite.userdir / "log" / "agent.log").write_text(
        "".join(json.dumps(dict(row, n=n), separators=(",", ":")) + "\n" for n in range(50000)))
    lines = iotctl(suite, "logs", "agent", "-n", "7000").stdout.splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(43000, 50000))
    assert "device.n" not in iotctl(suite, "logs", "csm", "agent", "-n", "2").stdout


def test_control_characters_do_not_reach_the_terminal(written):
    suite, _, _, _ = written
    (suite.userdir / "log" / "csm.log").write_bytes(b"2026-01-01T00:00:00 \x1b[2Jgone\r\x07\n")
    assert iotctl(suite, "logs", "csm").stdout == "2026-01-01T00:00:00 ?[2Jgone??\n"


def test_no_log_is_told(make_suite):
    suite = make_suite(start=())
    assert "no log of csm" in iotctl(suite, "logs", "csm", rc=1).stderr
    assert "there is no log in" in iotctl(suite, "logs", rc=1).stderr


def test_follow_shows_what_comes_even_in_a_new_file(written):
    suite, csm, _, _ = written
    path, lines = suite.userdir / "log" / "csm.log", Inbox("line")
    with path.open("a") as f:
        f.write("half a ")
    p = subprocess.Popen([str(BIN / "iotctl"), "-c", str(suite.ini), "logs", "-f", "-n", "1", "csm", "supervisor"],
                         stdout=subprocess.PIPE, text=True)
    reader = threading.Thread(target=lambda: [lines.put(line.rstrip("\n")) for line in p.stdout], daemon=True)
    reader.start()
    try:
        assert lines.get() == "csm        | " + csm[-1]
        with path.open("a") as f:
            f.write("line\n")
        assert lines.get() == "csm        | half a line"
        (suite.userdir / "log" / "supervisor.log").write_text("a new file\n")
        assert lines.get() == "supervisor | a new file"
        path.write_text("")             # begun anew in place, as rotation does
        with path.open("a") as f:
            f.write("after rotation\n")
        assert lines.get() == "csm        | after rotation"
        other = path.with_suffix(".new")
        other.write_text("in another file\n")
        other.rename(path)
        assert lines.get() == "csm        | in another file"
    finally:
        p.terminate()
        p.wait(10)
    assert p.returncode == -signal.SIGTERM


def test_follow_ends_with_its_reader(written):
    suite, _, _, _ = written
    p = subprocess.Popen([str(BIN / "iotctl"), "-c", str(suite.ini), "logs", "-f", "csm"], stdout=subprocess.PIPE)
    p.stdout.readline()
    p.stdout.close()
    assert p.wait(10) in (0, -signal.SIGPIPE)
