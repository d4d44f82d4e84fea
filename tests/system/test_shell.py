"""iotctl shell, completion of command lines, manual pages: all from the table of commands."""

import errno
import itertools
import os
import pty
import re
import select
import sqlite3
import subprocess
import time

import pytest

from clients import HttpApi, new_id
from suite import BIN, PATIENCE_S

IOTCTL = str(BIN / "iotctl")
COMMANDS = re.search(r"\{(.*?)\}", subprocess.run([IOTCTL, "--help"], capture_output=True, text=True).stdout)[1].split(",")


def run(suite, *args, rc=0, text=None):
    done = subprocess.run([IOTCTL, "-c", str(suite.ini), *args], input=text, capture_output=True, text=True, timeout=30)
    assert done.returncode == rc, "%s: %d, wanted %d\n%s%s" % (args, done.returncode, rc, done.stdout, done.stderr)
    return done


def register(suite, **kw):
    da_id = new_id()
    body = dict({"accept_protos": ["mqtt"], "profile": {"model": "M"}, "idf_list": ["meow"]}, **kw)
    assert HttpApi(suite).put(da_id, body).status_code == 200
    return da_id


# ---- lines from a pipe


def test_lines_of_a_pipe_are_commands(suite):
    name = "piped %s" % new_id()
    da_id = register(suite, name=name)
    out = run(suite, "shell", text="app list\n# a comment\n\napp show '%s'\n  app deregister %s  \n" % (name, da_id)).stdout
    assert out.count(da_id) == 3 and "is deregistered" in out
    assert HttpApi(suite).get(da_id).status_code == 404


def test_the_status_of_a_pipe_is_that_of_the_last_line(suite):
    run(suite, "shell", text="app show nobody\napp list\n")
    run(suite, "shell", text="app list\napp show nobody\n", rc=1)
    run(suite, "shell", text="nonsense\n", rc=2)
    for hidden in ("shell", "supervise 3", "broker", "complete -- a"):
        assert "no command of the shell" in run(suite, "shell", text=hidden + "\n", rc=2).stderr
    run(suite, "shell", text="app list\nexit\nnonsense\n")
    assert "quote" in run(suite, "shell", text="app show 'x\n", rc=2).stderr
    assert "too many" in run(suite, "shell", text="app " + "x " * 200 + "\n", rc=2).stderr
    run(suite, "shell", "x", rc=2)


def test_help_in_the_shell_names_every_command(suite):
    out = run(suite, "shell", text="help\n").stdout
    assert all(re.search(r"(?m)^  %s " % c, out) for c in COMMANDS + ["sql", "exit"])


# ---- SQL


def test_sql_reads_the_store(suite):
    name = "0'; DROP TABLE device; --"
    da_id = register(suite, name=name)
    out = run(suite, "shell", text="sql SELECT id, name, NULL AS empty FROM device WHERE id = '%s';\n" % da_id).stdout
    lines = out.splitlines()
    assert lines[0].split() == ["id", "name", "empty"] and da_id in lines[1] and name in lines[1] and "NULL" in lines[1]
    assert lines[2] == "(1 row)"
    assert "(0 rows)" in run(suite, "shell", text="sql SELECT * FROM device WHERE 0\n").stdout


@pytest.mark.parametrize("sql, words", [
    ("DELETE FROM device", "only be read"), ("DROP TABLE device", "only be read"), ("CREATE TABLE x (y)", "only be read"),
    ("INSERT INTO meta VALUES ('a', 'b')", "only be read"), ("SELECT 1; DELETE FROM device", "one statement"),
    ("ATTACH 'other.db' AS other", "attached"), ("PRAGMA journal_mode = DELETE", ""), ("VACUUM INTO 'copy.db'", ""),
    ("SELEC 1", "syntax error"), ("SELECT * FROM nowhere", "no such table"), (";", "no statement"),
    ("BEGIN", ""), ("SELECT writefile('x', 'y')", "no such function"), ("SELECT load_extension('x')", ""),
])
def test_sql_cannot_change_anything(suite, tmp_path, sql, words):
    da_id = register(suite)

    def content():
        with sqlite3.connect("file:%s?mode=ro" % (suite.userdir / "iottalk.db"), uri=True) as store:
            return list(store.execute("SELECT * FROM device ORDER BY id")), list(store.execute("SELECT * FROM meta"))
    before = content()
    done = subprocess.run([IOTCTL, "-c", str(suite.ini), "shell"], input="sql %s\n" % sql, capture_output=True, text=True,
                          cwd=tmp_path, timeout=30)
    assert words in done.stderr and (not words or done.returncode == 1)
    assert content() == before and any(row[0] == da_id for row in before[0])
    assert list(tmp_path.iterdir()) == []
    assert HttpApi(suite).delete(da_id, HttpApi(suite).get(da_id).json()["rev"]).status_code == 200    # nobody holds a lock


def test_sql_asks_the_store_that_is_named(suite):
    run(suite, "initdb", "ccm")
    assert "(1 row)" in run(suite, "shell", text="sql ccm SELECT fn_name FROM Function WHERE fn_name = 'identity'\n").stdout
    assert "(0 rows)" in run(suite, "shell", text="sql  csm  SELECT id FROM device WHERE 0\n").stdout
    assert "no such table" in run(suite, "shell", text="sql csm SELECT * FROM Function\n", rc=1).stderr
    assert "only be read" in run(suite, "shell", text="sql ccm DELETE FROM Function\n", rc=1).stderr
    assert "no statement" in run(suite, "shell", text="sql ccm\n", rc=1).stderr


def test_sql_output_cannot_drive_the_terminal(suite):
    out = run(suite, "shell", text="sql SELECT char(27) || '[2Jgone'\n").stdout
    assert "?[2Jgone" in out and "\x1b" not in out


# ---- a terminal


class Terminal:
    def __init__(self, suite):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", HOME=str(suite.dir), LC_ALL="C.UTF-8")
            os.execv(IOTCTL, [IOTCTL, "-c", str(suite.ini), "shell"])
        self.seen = ""
        self.until("iotctl> ")

    def until(self, words, seconds=PATIENCE_S):
        """What came up to and with the words."""
        deadline = time.monotonic() + seconds
        while words not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], "no %r in %r" % (words, self.seen)
            self.seen += os.read(self.fd, 65536).decode(errors="replace")
        end = self.seen.index(words) + len(words)
        part, self.seen = self.seen[:end], self.seen[end:]
        return part

    def type(self, text):
        os.write(self.fd, text.encode())

    def close(self):
        """ret: exit status"""
        deadline = time.monotonic() + PATIENCE_S
        gone, keys = False, itertools.cycle("\x03\x04")
        while not gone:
            assert time.monotonic() < deadline, "the shell does not end: %r" % self.seen
            # give up a line that was begun, then leave; again: what is typed before the prompt is there may be thrown away
            self.type(next(keys))
            while not gone and select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
                except OSError as e:
                    assert e.errno == errno.EIO, e  # nobody has the other end any more
                    gone = True
        status = os.waitpid(self.pid, 0)[1]     # before the terminal goes: that would end it, too
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


@pytest.fixture
def terminal(suite):
    t = Terminal(suite)
    yield t
    try:
        os.kill(t.pid, 0)
    except ProcessLookupError:
        return
    t.close()


def test_tab_completes_commands_words_and_what_there_is(suite, terminal):
    name = "tab-%s" % new_id()
    register(suite, name=name, idf_list=["thermometer"])
    terminal.type("ap\tsus\t%s\tther\t\n" % name[:20])
    terminal.until("idf thermometer: waiting")
    terminal.until("iotctl> ")
    terminal.type("st\t\t")
    for word in ("start", "stop", "status"):    # in the order of the table
        terminal.until(word)


def test_history_is_kept_for_the_next_time_and_for_nobody_else(suite, terminal):
    terminal.type("sql SELECT 40 + 2\n")
    terminal.until("(1 row)")
    os.close(terminal.fd)       # the window is closed
    os.waitpid(terminal.pid, 0)
    path = suite.userdir / "shell_history"
    assert path.stat().st_mode & 0o777 == 0o600
    again = Terminal(suite)
    again.type("\x1b[A\n")      # up
    again.until("40 + 2")
    again.until("42")
    assert again.close() == 0


def test_ctrl_c_ends_the_line_or_the_command_and_not_the_shell(suite, terminal):
    (suite.userdir / "log" / "csm.log").write_text("a line of the log\n")
    for _ in range(20):    # none is missed, however soon it comes
        terminal.type("nonsense")
        terminal.until("nonsense")
        terminal.type("\x03")
        terminal.until("iotctl> ")
    terminal.type("logs -f csm\n")
    terminal.until("a line of the log")
    terminal.type("\x03")
    terminal.until("iotctl> ")
    terminal.type("sql SELECT 'still' || 'here' || '\u732b'\n")
    terminal.until("stillhere\u732b")
    assert terminal.close() == 0


# ---- completion for shells


def complete(suite, *words):
    return run(suite, "complete", "--", *words).stdout.split("\n")[:-1]


def test_candidates_come_from_the_table(suite):
    assert set(complete(suite, "")) == set(COMMANDS)
    assert complete(suite, "genc") == ["genconf"]
    assert complete(suite, "status", "--j") == ["--json"]
    assert complete(suite, "app", "res") == ["resume"]
    assert complete(suite, "start", "csm", "a") == ["agent"]
    assert complete(suite, "app", "list", "") == []
    assert complete(suite, "logs", "-n", "") == [] and complete(suite, "logs", "-n", "5", "sup") == ["supervisor"]
    assert complete(suite, "log-level", "csm", "device", "") == ["error", "warn", "info", "debug", "default"]
    assert complete(suite, "-d", "-c", str(suite.ini), "initdb", "") == ["csm", "ccm", "devices"]
    assert complete(suite, "no-such", "") == [] and complete(suite, "-c", "x") == []


def test_candidates_come_from_the_daemons(suite, clients):
    name = "completed-%s" % new_id()
    da_id = register(suite, name=name, idf_list=["meow", ["purr", ["dB"]]], odf_list=["show"])
    register(suite, name="two words %s" % new_id())
    g = clients.graph(suite)
    g.ok("attach")
    g.ok("add_link", da_id=da_id, idf="meow", func=None)
    suite.until_runs(g)
    assert complete(suite, "app", "show", "completed-") == [name]
    assert complete(suite, "app", "show", da_id[:30]) == [da_id]
    assert complete(suite, "app", "show", "two") == []      # a shell would take it apart
    assert complete(suite, "app", "suspend", name, "") == ["meow", "purr", "show"]
    assert complete(suite, "app", "suspend", name, "meow", "") == ["idf", "odf"]
    assert complete(suite, "graph", "show", g.client_id) == ["%s/%s" % (g.client_id, g.graph)]
    assert complete(suite, "log-level", "csm", "dev") == ["device"]


def test_without_daemons_or_settings_nothing_is_said(make_suite):
    suite = make_suite(start=())
    assert complete(suite, "app", "show", "") == []
    suite.ini.write_text("[core]\nhttp-port = many\n")
    done = run(suite, "complete", "--", "app", "show", "")
    assert done.stdout == done.stderr == ""


def test_bash_completes(suite):
    script = subprocess.run([IOTCTL, "completion", "bash"], capture_output=True, text=True, check=True).stdout
    ask = '%s\nCOMP_WORDS=("%s" -c "%s" log-level cs) COMP_CWORD=4\n_iotctl\nprintf "%%s\\n" "${COMPREPLY[@]}"\n' % (
        script, IOTCTL, suite.ini)
    done = subprocess.run(["bash", "--norc", "-c", ask], capture_output=True, text=True, timeout=20)
    assert done.stdout == "csm\n" and done.stderr == ""
    assert "_iotctl iotctl" in subprocess.run(["bash", "--norc", "-c", script + "complete -p iotctl"],
                                              capture_output=True, text=True).stdout


def test_zsh_completes(suite):
    script = subprocess.run([IOTCTL, "completion", "zsh"], capture_output=True, text=True, check=True).stdout
    ask = ('compdef() { :; }\ncompadd() { print -l "${(@P)2}"; }\n_files() { print files; }\n%s\n'
           'words=("%s" -c "%s" log-level cs) CURRENT=5\n_iotctl\nwords=("%s" genconf "") CURRENT=3\n_iotctl\n' % (
               script, IOTCTL, suite.ini, IOTCTL))
    done = subprocess.run(["zsh", "-f", "-c", ask], capture_output=True, text=True, timeout=20)
    assert done.stdout == "csm\nfiles\n" and done.stderr == ""


@pytest.mark.parametrize("args", [("completion",), ("completion", "fish"), ("man", "x"), ("man", "csm", "x")])
def test_wrong_command_lines(args):
    assert subprocess.run([IOTCTL, *args], capture_output=True).returncode == 2


# ---- manual pages


def page(name):
    return subprocess.run([IOTCTL, "man", name], capture_output=True, text=True, check=True).stdout


def rendered(name):
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-P-c", "-P-b", "-P-u", "-rLL=200n"], input=page(name), capture_output=True,
                          text=True, check=True)
    assert done.stderr == ""
    return done.stdout.replace("\u2010", "-").replace("\u2212", "-")


@pytest.mark.parametrize("name", ["iotctl", "iottalk.ini", "csm", "ccm", "gateway-agent", "iottalk-engine"])
def test_manual_pages_are_sound(name):
    source = page(name)
    assert re.search(r"(?m)^\.TH %s \d " % re.escape(name.upper()), source)
    text = rendered(name)
    for section in ("NAME", "DESCRIPTION", "SEE ALSO"):
        assert re.search(r"(?m)^%s$" % section, text)


def test_the_manual_has_every_command_and_every_setting():
    text = rendered("iotctl")
    for command in COMMANDS:
        assert re.search(r"(?m)^   iotctl %s\b" % command, text), command
        for option in re.findall(r"(?m)^  (?:-\w(?: \w+)?, )?(--[a-z]+)", subprocess.run(
                [IOTCTL, command, "--help"], capture_output=True, text=True, check=True).stdout):
            assert option in text, (command, option)
    settings = rendered("iottalk.ini")
    sample = subprocess.run([IOTCTL, "genconf", "-"], capture_output=True, text=True, check=True).stdout
    for key, value in re.findall(r"(?m)^;([a-z_-]+) = ?(.*)$", sample):
        assert ("%s = %s" % (key, value)).rstrip() in settings, key
