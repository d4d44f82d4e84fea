"""Every command of README.rst works as printed, and what scripts/quickstart promises holds.

The blocks run one after the other in one shell, as a reader would paste them; only places are other ones: a home directory, ports
and a build directory of the test.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from suite import free_ports

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BUILD", ROOT / "build"))
IOTCTL = BUILD / "bin" / "iotctl"
README = (ROOT / "README.rst").read_text()

# What a test cannot run inside itself, or only at length, is checked for being there: `make -n` fails without the target.
CHECKED = {
    "make": "make -n >/dev/null",
    "make test-unit": "make -n test-unit >/dev/null",
    "make test-system": "make -n test-system >/dev/null",
    "make check": "make -n check >/dev/null",
    "make SAN=address,undefined test-unit": "make -n SAN=address,undefined test-unit >/dev/null",
    "make bench": "make -n bench >/dev/null",
    "make bench-ccm": "make -n bench-ccm >/dev/null",
    "make bench-devices": "make -n bench-devices >/dev/null",
    "make bench-report": "make -n bench-report >/dev/null",
    "scripts/fuzz": "sh -n scripts/fuzz",
    "scripts/bench-peers": "sh -n scripts/bench-peers",
    "scripts/test-peers": "sh -n scripts/test-peers",
    "make soak SECONDS=60": "make -n soak SECONDS=60 >/dev/null",
    "make crash KILLS=50 SEED=7": "make -n crash KILLS=50 SEED=7 >/dev/null",
    "make install DESTDIR=/tmp/iottalk PREFIX=/usr/local": "make -n install DESTDIR=/tmp/iottalk PREFIX=/usr/local >/dev/null",
    "scripts/test": "bash -n scripts/test",
}


PORTS = ("9992", "1883", "1884", "7788", "1502")


def blocks():
    """[(section title, commands)] of all shell blocks."""
    found, title, lines = [], "", README.split("\n")
    for i, line in enumerate(lines):
        if line and i + 1 < len(lines) and re.fullmatch(r"[=-]{3,}", lines[i + 1]):
            title = line
        if line == ".. code-block:: shell":
            block = []
            for text in lines[i + 2:]:
                if text and not text.startswith("    "):
                    break
                block.append(text[4:])
            found.append((title, "\n".join(block).strip("\n")))
    return found


class Home:
    def __init__(self, folder):
        self.dir = folder
        self.ports = dict(zip(PORTS, map(str, free_ports(len(PORTS)))))
        self.userdir = folder / ".iottalk"
        self.userdir.mkdir(mode=0o700)
        self.ini = self.userdir / "iottalk.ini"
        self.ini.write_text("[core]\nhttp-port = %(9992)s\n[core-mqtt]\nport = %(1883)s\n[core-ws]\nport = %(1884)s\n"
                            "[gui]\nport = %(7788)s\n"
                            % self.ports)
        self.env = dict(os.environ, HOME=str(folder), BUILD=str(BUILD), PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")

    def here(self, text):
        """The command with the places of this test."""
        text = re.sub(r"\b(%s)\b" % "|".join(PORTS), lambda m: self.ports[m[1]], text)
        text = text.replace("build/bin/", str(BUILD / "bin") + "/")
        if BUILD.resolve() != ROOT / "build":  # quickstart builds the release
            text = re.sub(r"^scripts/quickstart$", "scripts/quickstart --no-build", text, flags=re.M)
        return text

    def shell(self, text, timeout=300, **env):
        return subprocess.run(["bash", "-eu", "-o", "pipefail", "-c", text], cwd=ROOT, env=dict(self.env, **env),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)

    def iotctl(self, *args):
        return subprocess.run([str(IOTCTL), *args], env=self.env, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60)


def forget_broker_data(userdir):
    """As root the managed broker keeps its data outside the state directory; a test leaves none behind."""
    conf = userdir / "broker" / "mosquitto.conf"
    if conf.exists():
        data = re.search(r"^persistence_location (.*)$", conf.read_text(), re.M)[1]
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture
def home(tmp_path):
    h = Home(tmp_path)
    yield h
    h.iotctl("stop")
    assert h.iotctl("status").returncode == 3
    forget_broker_data(h.userdir)
    for name in ("betacat.json", "commands.json", "sample.ini"):
        (ROOT / name).unlink(missing_ok=True)


@pytest.mark.limit(400)
def test_every_block_runs_as_printed(home):
    script, titles = [], []
    for title, commands in blocks():
        titles.append(title)
        if title == "Build and test":
            for command in commands.split("\n"):
                script.append(CHECKED[command])
        elif title != "Install":  # test_package.py installs, in a machine of its own
            script.append(home.here(commands))
    assert {"Two commands", "The walk-through", "Field devices", "iotctl", "Configuration", "Install", "Build and test"} <= set(titles)
    done = home.shell("\n".join(script))
    assert done.returncode == 0, done.stdout + done.stderr
    out = done.stdout
    assert '"state"' in out and re.search(r"^49$", out, re.M), out
    assert out.count('"op": "attach"') + out.count('"op":"attach"') == 1
    assert len(re.findall(r"^\{.*\"CONNECT\"", out, re.M)) == 2, out
    answers = re.findall(r"^\{.*\"op\": *\"(?:attach|add_funcs|add_link|set_join)\".*$", out, re.M)
    assert len(answers) == 5 and all(re.search(r"\"state\": *\"ok\"", a) for a in answers), out
    assert re.search(r"^  2 -> 4$", out, re.M)  # the demo
    assert re.search(r"^written\n(?:.*\n)*?230$", out, re.M)  # the meter


def test_settings_table_is_the_one_of_the_programs():
    sample = subprocess.run([str(IOTCTL), "genconf", "-"], capture_output=True, text=True, check=True).stdout
    known, section = {}, None
    for line in sample.split("\n"):
        if line.startswith("["):
            section = line[1:-1]
        elif section and line.startswith(";"):
            key, value = line[1:].split("=", 1)
            known["[%s] %s" % (section, key.strip())] = value.strip()
    told = dict(re.findall(r"^``(\[[a-z-]+\] [a-z_-]+)`` +(?:``(.*?)``|empty)  ", README, re.M))
    assert told == known


def test_folders_in_the_readme_exist():
    for name in re.findall(r"^``([a-z/]+/)`` ", README, re.M):
        assert (ROOT / name).is_dir(), name


# -- scripts/quickstart


@pytest.mark.limit(400)
def test_quickstart_twice(home):
    for _ in range(2):
        done = home.shell("scripts/quickstart --no-build --seconds 1")
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"^  3 -> 9$", done.stdout, re.M)
        assert "%s stop" % IOTCTL in done.stdout
        assert home.iotctl("status").returncode == 0
    assert "(was there)" in done.stdout


def test_quickstart_makes_a_configuration_only_if_there_is_none(home, tmp_path):
    own = tmp_path / "new" / "own.ini"
    # Its default ports are others' business: stop before anything is started.
    done = home.shell("scripts/quickstart --no-build -c %s" % own, BUILD=str(fake_build(tmp_path)))
    assert done.returncode == 7, done.stderr
    assert own.read_text() == "made\n"
    own.write_text("mine\n")
    assert home.shell("scripts/quickstart --no-build -c %s" % own, BUILD=str(tmp_path / "build")).returncode == 7
    assert own.read_text() == "mine\n"


def fake_build(folder):
    """An iotctl that knows genconf only."""
    program = folder / "build" / "bin" / "iotctl"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\n[ "$1" = genconf ] || exit 7\necho made >"$2"\n')
    program.chmod(0o755)
    return folder / "build"


@pytest.fixture
def stubs(tmp_path):
    """Stand-ins for dpkg, apt and friends that write down how they were called."""
    folder = tmp_path / "stubs"
    folder.mkdir()
    for name, text in {
        "dpkg-query": 'case "$*" in *mosquitto*|*libinih-dev*) exit 1;; esac; echo "install ok installed"',
        "apt-get": 'echo "apt-get $*; policy: $(cat "$POLICY_RC_D" 2>/dev/null | tail -n 1)" >>"$STUB_LOG"; '
                   'case "$*" in *install*) exit "${STUB_RC:-0}";; esac',
        "update-rc.d": 'echo "update-rc.d $*" >>"$STUB_LOG"',
        "sudo": 'shift; "$@"',
    }.items():
        (folder / name).write_text("#!/bin/sh\n%s\n" % text)
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("before", [None, "#!/bin/sh\nexit 0\n"], ids=["no policy", "a policy of others"])
@pytest.mark.parametrize("rc", [0, 100], ids=["installs", "fails"])
def test_installing_mosquitto_does_not_start_it(home, stubs, tmp_path, before, rc):
    policy, log = tmp_path / "policy-rc.d", tmp_path / "log"
    if before:
        policy.write_text(before)
    done = home.shell("set +u; . scripts/packages; install_missing mosquitto curl libinih-dev", POLICY_RC_D=str(policy),
                      STUB_LOG=str(log), STUB_RC=str(rc), PATH="%s:%s" % (stubs, os.environ["PATH"]))
    assert done.returncode == rc, done.stderr
    calls = log.read_text().splitlines()
    assert calls[0].startswith("apt-get -q -y update") and "policy: exit 101" not in calls[0]
    assert "install --no-install-recommends mosquitto libinih-dev; policy: exit 101" in calls[1]
    assert calls[2:] == (["update-rc.d mosquitto disable"] if rc == 0 else [])
    assert (policy.read_text() if policy.exists() else None) == before
    assert not Path(str(policy) + ".iottalk-saved").exists()


def test_nothing_is_installed_when_nothing_is_missing(home, stubs, tmp_path):
    log = tmp_path / "log"
    done = home.shell(". scripts/packages; install_missing curl gcc", POLICY_RC_D=str(tmp_path / "policy"),
                      STUB_LOG=str(log), PATH="%s:%s" % (stubs, os.environ["PATH"]))
    assert done.returncode == 0 and not log.exists() and done.stdout == ""


def test_scripts_are_well_formed():
    done = subprocess.run(["shellcheck", "-x", "scripts/quickstart", "scripts/test", "scripts/test-peers", "scripts/packages",
                           "scripts/deb"], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
