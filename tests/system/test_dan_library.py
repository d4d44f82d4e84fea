"""The library for device applications in C as others use it: installed, found by pkg-config, examples/ built with nothing else, and
these against the real programs."""

import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest

import suite as suites
from clients import Inbox, new_id
from suite import BIN, BUILD, ROOT, until

SAN = BUILD.name[len("san-"):].replace("-", ",") if suites.SANITIZED else ""
FLAGS = ["-fsanitize=" + SAN] if SAN else []
SENSOR, CONTROL = ("idf", "Dummy_Sensor"), ("odf", "Dummy_Control")
DOUBLE = "def run(x): return x * 2\n"


class Installed:
    """DESTDIR of `make install-sdk`."""

    def __init__(self, root):
        self.root = root
        self.include, self.lib = root / "usr/include", root / "usr/lib"
        self.env = dict(os.environ, PKG_CONFIG_PATH=str(self.lib / "pkgconfig"), PKG_CONFIG_SYSROOT_DIR=str(root),
                        LD_LIBRARY_PATH=str(self.lib), ASAN_OPTIONS="exitcode=99", UBSAN_OPTIONS="print_stacktrace=1")

    def make(self, target):
        run("make", "-s", "-C", ROOT, target, "SAN=" + SAN, "DESTDIR=%s" % self.root, "PREFIX=/usr", "LIBDIR=/usr/lib")

    def pkg_config(self, *args):
        return run("pkg-config", *args, "dan", env=self.env).split()


def run(*argv, env=None):
    env = {k: v for k, v in (env or os.environ).items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=80, env=env)
    assert done.returncode == 0, "%s\n%s%s" % (argv, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    there = Installed(tmp_path_factory.mktemp("sdk"))
    there.make("install-sdk")
    return there


@pytest.fixture(scope="module")
def examples(installed, tmp_path_factory):
    out = tmp_path_factory.mktemp("examples")
    run("make", "-s", "-C", ROOT / "examples", "OUT=%s" % out, "CFLAGS=-O2 -Werror " + " ".join(FLAGS), env=installed.env)
    return out


class Program:
    """A running example: its lines are read as they come."""

    def __init__(self, argv, env):
        self.said = Inbox("line of " + Path(argv[0]).name)
        self.popen = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True, bufsize=1, env=env)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        for line in self.popen.stdout:
            self.said.put(line.rstrip("\n"))

    def line(self, pattern, timeout=20):
        """The first line that fits; ret: the match."""
        return re.fullmatch(pattern, self.said.get(lambda line: re.fullmatch(pattern, line), timeout))

    def lines(self, *patterns):
        for pattern in patterns:
            self.line(pattern)

    def end(self, signo=None, rc=0):
        if signo is not None:
            self.popen.send_signal(signo)
        assert self.popen.wait(20) == rc, self.said.take_all()
        self._thread.join()

    def close(self):
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        self._thread.join()
        self.popen.stdin.close()
        left = [line for line in self.said.take_all() if suites.SANITIZER.search(line)]
        assert not left, left


@pytest.fixture
def start(installed, examples):
    running = []

    def start_one(name, *args):
        running.append(Program([examples / name, *args], installed.env))
        return running[-1]

    yield start_one
    for program in running:
        program.close()


def registered(program, who=""):
    """ret: (name, id)"""
    return program.line(who + "registered (.+) ([0-9a-f-]{36})").groups()


def wired(clients, suite, da_id, mqtt=None):
    """A graph that doubles Dummy_Sensor onto Dummy_Control."""
    return clients.graph(suite, mqtt=mqtt).wire(da_id, SENSOR[1], CONTROL[1], DOUBLE)


def numbers(program, count):
    """What the next lines say of Dummy_Control."""
    return [int(program.line(r"Dummy_Control: (\d+)")[1]) for _ in range(count)]


# ---- what is installed


@pytest.mark.parametrize("compiler", [["cc", "-std=c17"], ["c++", "-std=c++17", "-x", "c++"], ["c++", "-std=c++11", "-x", "c++"]], ids=" ".join)
def test_the_header_compiles_alone(installed, tmp_path, compiler):
    source = tmp_path / "only.c"
    source.write_text("#include <dan.h>\n#include <dan.h>\nint main(void) { return dan_version() == 0; }\n")
    program = tmp_path / "only"
    run(*compiler, "-Wall", "-Wextra", "-pedantic", "-Werror", *FLAGS, *installed.pkg_config("--cflags"), source, "-o", program,
        *installed.pkg_config("--libs"), env=installed.env)
    run(program, env=installed.env)
    included = re.findall(r'#include (\S+)', (installed.include / "dan.h").read_text())
    assert all(name.startswith("<") for name in included)


def test_nothing_but_the_header_s_names_is_exported(installed):
    promised = set(re.findall(r"\b(dan_\w+)\(", re.sub(r"/\*.*?\*/", "", (installed.include / "dan.h").read_text(), flags=re.S)))
    promised -= {"dan_fn", "dan_pushed_fn", "dan_left_fn"}
    dynamic = {line.split()[-1].split("@")[0] for line in run("nm", "-D", "--defined-only", installed.lib / "libdan.so.1").splitlines()
               if line.split()[-2] != "A"}
    static = {line.split()[-1] for line in run("nm", "-g", "--defined-only", installed.lib / "libdan.a").splitlines() if " " in line}
    own = {name for name in dynamic | static if not name.startswith("__odr_asan")}
    assert own == promised and len(promised) > 20
    assert dynamic >= promised and static >= promised
    assert "SONAME" in run("readelf", "-d", installed.lib / "libdan.so.1")


def test_it_needs_the_libraries_that_its_page_names(installed):
    needed = re.findall(r"NEEDED.*\[(.*?)\]", run("readelf", "-d", installed.lib / "libdan.so.1"))
    needed = {name.split(".so")[0] for name in needed if not re.match(r"lib(c|m|pthread|asan|ubsan|tsan|gcc_s)\.so", name)}
    page = re.search(r"``lib/libdan.a``.*; needs (.*)", (ROOT / "docs/dan.rst").read_text())[1]
    assert needed == {name.strip() if name.strip().startswith("lib") else "lib" + name.strip() for name in re.split(r",| and ", page)}


def test_uninstall_takes_all_of_it_away(tmp_path):
    there = Installed(tmp_path)
    there.make("install-sdk")
    assert {p.name for p in tmp_path.rglob("*") if not p.is_dir()} == {"dan.h", "libdan.so", "libdan.so.1", "libdan.a", "dan.pc"}
    there.make("uninstall-sdk")
    assert [p for p in tmp_path.rglob("*") if not p.is_dir()] == []


# ---- devices


def test_the_whole_life_of_the_dummy_device(suite, clients, start):
    mqtt, api, http = clients.mqtt(suite), clients.device_api(suite), clients.http(suite)
    api.attach()
    dummy = start("dummy_device", "-i", "0.05", "-n", "Tom", "-q", "1", suite.url)
    name, da_id = registered(dummy)
    assert name == "Tom"
    api.announced("online", da_id)
    da = http.get(da_id).json()
    assert da["idf_list"] == [["Dummy_Sensor", ["int"]]] and da["odf_list"] == [["Dummy_Control", ["int"]]]
    assert da["profile"] == {"model": "Dummy_Device"} and da["online"]

    g = wired(clients, suite, da_id, mqtt)
    dummy.lines("connected Dummy_Sensor", "connected Dummy_Control")
    for mode, feature in (SENSOR, CONTROL):
        g.until_link(da_id, mode, feature, "connected")
    pushed = mqtt.subscribe(g.topic(da_id, *SENSOR))
    values = [pushed.get() for _ in range(3)]
    assert all(v.qos == 1 and 0 <= v.json[0] <= 100 and len(v.json) == 1 for v in values)
    assert all(n % 2 == 0 and n <= 200 for n in numbers(dummy, 3))

    # paused by a person, and not
    run(BIN / "iotctl", "-c", suite.ini, "app", "suspend", da_id, SENSOR[1])
    dummy.line("suspended Dummy_Sensor")
    dummy.said.take_all()
    pushed.take_all()
    run(BIN / "iotctl", "-c", suite.ini, "app", "suspend", da_id, CONTROL[1])
    dummy.line("suspended Dummy_Control")
    mqtt.publish(g.topic(da_id, *CONTROL), [1234])
    run(BIN / "iotctl", "-c", suite.ini, "app", "resume", da_id, CONTROL[1])
    dummy.line("resumed Dummy_Control")
    mqtt.publish(g.topic(da_id, *CONTROL), {"any": ["JSON", None]})
    dummy.line(r'Dummy_Control: \{"any": \["JSON", null\]\}')
    assert len(pushed) == 0 and not [line for line in dummy.said.take_all() if line.startswith("Dummy_Control")]
    run(BIN / "iotctl", "-c", suite.ini, "app", "resume", da_id, SENSOR[1])
    dummy.line("resumed Dummy_Sensor")
    numbers(dummy, 2)

    # out of the graph
    g.ok("rm_link", da_id=da_id, idf=SENSOR[1])
    dummy.line("disconnected Dummy_Sensor")
    g.ok("detach")
    dummy.line("disconnected Dummy_Control")

    dummy.end(signal.SIGINT)
    dummy.line("deregistered")
    api.announced("deregister", da_id)
    assert http.get(da_id).status_code == 404


def test_broker_and_csm_come_and_go(make_suite, clients, start):
    suite = make_suite()
    dummy = start("dummy_device", "-i", "0.05", "-q", "1", suite.url)
    _, da_id = registered(dummy)
    mqtt = clients.mqtt(suite)
    wired(clients, suite, da_id, mqtt)
    numbers(dummy, 3)
    for _ in range(2):
        suite.kill9("broker")
        dummy.line("offline: .*")
        dummy.line("dummy_device: connecting to the broker at 127.0.0.1:%d: .*" % suite.mqtt_port)
        dummy.said.take_all()
        suite.start("broker")
        dummy.lines("disconnected Dummy_Sensor", "disconnected Dummy_Control", "online", "connected Dummy_Sensor", "connected Dummy_Control")
        numbers(dummy, 3)
    suite.kill9("csm")
    numbers(dummy, 3)   # data does not need it
    suite.start("csm")
    numbers(dummy, 3)
    dummy.end(signal.SIGTERM)
    dummy.line("deregistered")
    assert clients.http(suite).get(da_id).status_code == 404


def test_a_device_is_there_before_everything_else(make_suite, clients, start):
    suite = make_suite(start=())
    dummy = start("dummy_device", "-i", "0.05", "-u", "11111111-2222-4333-8444-ABCDEFABCDEF", suite.url)
    dummy.line("dummy_device: registering at %s/11111111-2222-4333-8444-abcdefabcdef: .*" % suite.url)
    suite.start("broker", "csm", "agent")
    _, da_id = registered(dummy)
    assert da_id == "11111111-2222-4333-8444-abcdefabcdef"
    wired(clients, suite, da_id)
    numbers(dummy, 3)


def test_forgotten_while_away_it_registers_again(make_suite, clients, start):
    suite = make_suite()
    http = clients.http(suite)
    dummy = start("dummy_device", "-i", "0.05", suite.url)
    _, da_id = registered(dummy)
    dummy.line("online")
    suite.stop("broker")
    dummy.line("offline: .*")
    assert http.delete(da_id, http.get(da_id).json()["rev"]).status_code == 200
    assert http.get(da_id).status_code == 404
    suite.start_broker()
    assert registered(dummy)[1] == da_id
    wired(clients, suite, da_id)
    numbers(dummy, 3)


def test_a_killed_device_is_offline(suite, clients, start):
    api = clients.device_api(suite)
    api.attach()
    dummy = start("dummy_device", suite.url)
    _, da_id = registered(dummy)
    api.announced("online", da_id)
    dummy.end(signal.SIGKILL, rc=-signal.SIGKILL)
    api.announced("offline", da_id)


def test_leaving_does_not_need_anybody(make_suite, start):
    suite = make_suite()
    dummy = start("dummy_device", suite.url)
    registered(dummy)
    dummy.line("online")
    suite.kill9("csm")
    suite.kill9("broker")
    dummy.line("offline: .*")
    dummy.end(signal.SIGINT, rc=1)
    dummy.line("dummy_device: not deregistered: .*")


def test_two_devices_in_a_loop_of_the_caller(suite, clients, start):
    mqtt, http = clients.mqtt(suite), clients.http(suite)
    both = start("two_devices", suite.url)
    _, thermometer = registered(both, "Thermometer: ")
    _, display = registered(both, "Display: ")
    both.popen.stdin.write("20\nnonsense\n")
    both.lines("Thermometer: IDF 'Temperature' is not connected", "not a number: nonsense")
    g = clients.graph(suite, mqtt=mqtt)
    g.ok("attach")
    g.ok("add_link", da_id=thermometer, idf="Temperature", func=None)
    g.ok("add_link", da_id=display, odf="Text", func=None)
    both.lines("Thermometer: connected Temperature", "Display: connected Text")
    g.until_link(display, "odf", "Text", "connected")
    for value in ("21.5", "-3", "1e3"):
        both.popen.stdin.write(value + "\n")
        both.line("acknowledged")
        assert float(both.line(r"Display: Text \[(.*)\]")[1]) == float(value)

    # other features under the same id
    both.popen.stdin.write("alarm\n")
    assert registered(both, "Thermometer: ")[1] == thermometer
    assert [f[0] for f in http.get(thermometer).json()["idf_list"]] == ["Temperature", "Alarm"]
    both.line("Thermometer: connected Temperature")
    g.ok("add_link", da_id=thermometer, idf="Alarm", func=None)
    both.line("Thermometer: connected Alarm")

    both.popen.stdin.write("22\n")
    both.popen.stdin.close()
    both.line("acknowledged")
    both.end()
    both.lines("Thermometer: deregistered", "Display: deregistered")
    assert [http.get(da_id).status_code for da_id in (thermometer, display)] == [404, 404]


def test_a_push_the_broker_never_took_is_told(make_suite, clients, start):
    suite = make_suite()
    both = start("two_devices", suite.url)
    _, thermometer = registered(both, "Thermometer: ")
    g = clients.graph(suite)
    g.ok("attach")
    g.ok("add_link", da_id=thermometer, idf="Temperature", func=None)
    both.line("Thermometer: connected Temperature")
    os.kill(suite.pid("broker"), signal.SIGSTOP)
    both.popen.stdin.write("1\n")
    until(lambda: unread_of(both.popen.pid, suite.mqtt_port), what="bytes that the broker has not read")
    suite.kill9("broker")
    both.line("perhaps lost")
    suite.start("broker")
    both.line("Thermometer: connected Temperature")
    both.popen.stdin.write("2\n")
    both.line("acknowledged")


def unread_of(pid, port):
    """Bytes that came from a process to a port of ours, and wait there."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {os.readlink(fd) for fd in Path("/proc/%d/fd" % pid).iterdir()}
    ends = {row[1] for row in rows if "socket:[%s]" % row[9] in sockets}
    return sum(int(row[4].split(":")[1], 16) for row in rows if row[1].endswith(":%04X" % port) and row[2] in ends)


def test_the_static_library_needs_nothing_of_this_tree(installed, suite, tmp_path):
    private = re.search(r"^Libs.private: (.*)$", (installed.lib / "pkgconfig/dan.pc").read_text(), re.M)[1].split()
    program = tmp_path / "dummy_device"
    run("cc", "-std=gnu17", *FLAGS, *installed.pkg_config("--cflags"), ROOT / "examples/dummy_device.c", installed.lib / "libdan.a",
        "-ljansson", *private, "-o", program, env=installed.env)
    assert "libdan" not in run("readelf", "-d", program)
    dummy = Program([program, "-u", new_id(), suite.url], installed.env)
    try:
        registered(dummy)
        dummy.line("online")
        dummy.end(signal.SIGINT)
        dummy.line("deregistered")
    finally:
        dummy.close()


# ---- docs/dan.rst


def test_the_page_s_program_is_an_echo(installed, suite, clients, tmp_path):
    page = (ROOT / "docs/dan.rst").read_text()
    block = re.search(r"^\.\. code-block:: c\n\n((?:    .*\n|\n)+)", page, re.M)[1]
    source = tmp_path / "echo.c"
    source.write_text(re.sub(r"^    ", "", block, flags=re.M).replace("http://127.0.0.1:9992", suite.url))
    program = tmp_path / "echo"
    run("cc", "-std=gnu17", "-Wall", "-Wextra", "-Werror", *FLAGS, *installed.pkg_config("--cflags"), source, "-o", program,
        *installed.pkg_config("--libs"), env=installed.env)
    da_id = re.search(r'\.id = "(.+?)"', block)[1]
    api, mqtt = clients.device_api(suite), clients.mqtt(suite)
    api.attach()
    echo = Program([program], installed.env)
    try:
        api.announced("online", da_id)
        g = clients.graph(suite, mqtt=mqtt)
        g.ok("attach")
        g.ok("add_link", da_id=da_id, idf="Said", func=None)
        g.ok("add_link", da_id=da_id, odf="Heard", func=None)
        g.until_link(da_id, "idf", "Said", "connected")
        g.until_link(da_id, "odf", "Heard", "connected")
        said = mqtt.subscribe(g.topic(da_id, "idf", "Said"))
        mqtt.publish(g.topic(da_id, "odf", "Heard"), ["hello", 1.5])
        assert said.get().json == ["hello", 1.5]
        g.ok("detach")
        echo.end(signal.SIGINT)
        assert echo.said.take_all() == []
        api.announced("offline", da_id)
        assert clients.http(suite).get(da_id).status_code == 200    # it stays registered
    finally:
        echo.close()


def test_the_page_names_all_that_the_header_has(installed):
    page, header = (ROOT / "docs/dan.rst").read_text(), (installed.include / "dan.h").read_text()
    for name in re.findall(r"\b(dan_\w+|on_\w+)\)?\(", re.sub(r"/\*.*?\*/", "", header, flags=re.S)):
        assert name in page or name in ("dan_fn", "dan_pushed_fn", "dan_left_fn"), name
