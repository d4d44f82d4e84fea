"""The real processes of the suite, each test's own: broker, csm, gateway-agent (with its engine).

A Suite lives in a temporary directory, listens on free ports of 127.0.0.1 and knows nothing of the programs but what is
promised outside: options, settings, the ready notice, the control socket, exit status, logs.
"""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import deque
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BUILD", ROOT / "build"))
BIN = BUILD / "bin"
PLUGIN = BUILD / "lib" / "iottalk_broker.so"
SANITIZED = "/san-" in str(BIN)  # other limits on memory, reports at a crash that is meant
SANITIZER = re.compile(r"ERROR: \w*Sanitizer|WARNING: ThreadSanitizer|runtime error:|SUMMARY: \w*Sanitizer")
# a function that crashes its engine on purpose; the agent logs what the engine says of it
CRASH_OF_AN_ENGINE = re.compile(r"engine\.output .*: \w*Sanitizer: SEGV")
PATIENCE_S = 30  # for what comes at once on a machine that runs; a busy one, or one that was halted, takes longer
START_S = 60
STOP_S = 30
AGENT_ID = "test-agent"

# what is running now, for the log excerpts of a failed test
alive = []


def sanitizer_report(log):
    """The first one in a log, with what follows it; None: there is none."""
    lines = log.splitlines()
    for n, line in enumerate(lines):
        if SANITIZER.search(line) and not CRASH_OF_AN_ENGINE.search(line):
            return "\n".join(lines[n:])[:6000]
    return None


def until(condition, timeout=PATIENCE_S, what="condition", every=0.02):
    """Wait for a state that has no event to wait on (a process table, a file, a page of metrics). timeout: what it takes by
    itself; nobody waits less than PATIENCE_S, since that is no promise about speed. ret: its true value."""
    timeout = max(timeout, PATIENCE_S)
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "%s did not come within %s s" % (what, timeout)
        time.sleep(every)


given_ports = deque(maxlen=2000)


def free_ports(count):
    """Ports below the ephemeral range, so that no outgoing connection takes one while its server is being restarted; none that was
    given to somebody a while ago, who may not have bound it yet."""
    found = []
    while len(found) < count:
        port = random.randrange(20000, 32000)
        if port in given_ports:
            continue
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        given_ports.append(port)
        found.append(port)
    return found


def process_table():
    """pid -> (parent pid, name) of every process that is not a zombie."""
    table = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path("/proc", entry, "stat").read_text()
        except OSError:
            continue
        name, rest = re.match(r"\d+ \((.*)\) (.*)", stat, re.S).groups()
        fields = rest.split()
        if fields[0] != "Z":
            table[int(entry)] = (int(fields[1]), name)
    return table


class Process:
    """A program in the foreground, its log in a file, its READY=1 awaited on a socket of ours."""

    def __init__(self, name, argv, folder, notifies):
        self.name, self.argv, self.folder, self.notifies = name, argv, folder, notifies
        self.log_path = folder / (name + ".log")
        self.popen = None
        self.killed = False
        self.env = {}   # more of it, for the next start

    def start(self, ready=True):
        env = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin",
                   ASAN_OPTIONS="exitcode=99:detect_leaks=1", TSAN_OPTIONS="exitcode=99",
                   UBSAN_OPTIONS="print_stacktrace=1")
        env.update(self.env)
        notice = None
        if self.notifies:
            path = self.folder / (self.name + ".notify")
            path.unlink(missing_ok=True)
            notice = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            notice.bind(str(path))
            env["NOTIFY_SOCKET"] = str(path)
        self.killed = False
        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen([str(a) for a in self.argv], stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log, env=env)
        if notice is not None:
            self.notice = notice
            if ready:
                self.await_ready()

    def await_ready(self):
        deadline = time.monotonic() + START_S
        self.notice.settimeout(0.1)
        with self.notice:
            while True:
                try:
                    if b"READY=1" in self.notice.recv(4096).split(b"\n"):
                        return
                except socket.timeout:
                    pass
                status = self.popen.poll()
                assert status is None, "%s ended with %s before it was ready\n%s" % (
                    self.name, status, self.log_tail())
                assert time.monotonic() < deadline, "%s is not ready after %d s\n%s" % (
                    self.name, START_S, self.log_tail())

    @property
    def pid(self):
        return self.popen.pid

    def runs(self):
        return self.popen is not None and self.popen.poll() is None

    def kill9(self):
        self.killed = True
        self.popen.kill()
        self.popen.wait(STOP_S)

    def stop(self):
        """SIGTERM; ret: the exit status, or 'hung' after a SIGKILL."""
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            return self.popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            return "hung"

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines=40):
        return "\n".join(self.log().splitlines()[-lines:])


class Suite:
    """Suite({"core.da-expiration": 2}) writes the settings, makes key and store, starts everything and waits until csm and
    agent have spoken to each other. transport: as [agent] transport; "client" has a broker without the plugin. ccm runs if it
    is among `start`; its HTTP side is at gui_url."""

    def __init__(self, settings=None, start=("broker", "csm", "agent"), userdir=None, transport="auto"):
        self.transport = transport
        self.dir = Path(tempfile.mkdtemp(prefix="iottalk-test-"))
        self.userdir = Path(userdir) if userdir else self.dir / "userdir"
        self.http_port, self.mqtt_port, self.ws_port, self.gui_port = free_ports(4)
        self.url = "http://127.0.0.1:%d" % self.http_port
        self.gui_url = "http://127.0.0.1:%d" % self.gui_port
        self.ini = self.dir / "iottalk.ini"
        self.closing = []  # clients to disconnect before the processes go
        self.agent_id = AGENT_ID
        self.plugin_socket = self.dir / "plugin.sock"
        self._write_ini(dict({"agent.transport": transport}, **(settings or {})))
        self._write_broker_conf()
        self.processes = {
            "broker": Process("broker", [shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin"),
                                         "-c", self.dir / "mosquitto.conf"], self.dir, False),
            "csm": Process("csm", [BIN / "csm", "-c", self.ini], self.dir, True),
            "agent": Process("agent", [BIN / "gateway-agent", "-c", self.ini], self.dir, True),
            "ccm": Process("ccm", [BIN / "ccm", "-c", self.ini], self.dir, True),
        }
        alive.append(self)
        try:
            done = subprocess.run([str(BIN / "iotctl"), "-c", str(self.ini), "initdb"], stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=START_S)
            assert done.returncode == 0, "initdb: %s%s" % (done.stdout, done.stderr)
            self.start(*start)
        except BaseException:
            self.abort()
            raise

    def _write_ini(self, settings):
        sections = {
            "core": {"http-port": self.http_port, "userdir": self.userdir},
            "core-mqtt": {"host": "127.0.0.1", "port": self.mqtt_port},
            "core-ws": {"port": self.ws_port},
            "broker": {"managed": "no", "plugin-socket": self.plugin_socket},
            "agent": {"id": AGENT_ID},
            "gui": {"port": self.gui_port},
        }
        for name, value in settings.items():
            section, key = name.split(".", 1)
            sections.setdefault(section, {})[key] = value
        self.ini.write_text("".join(
            "[%s]\n%s\n" % (section, "".join("%s = %s\n" % item for item in keys.items()))
            for section, keys in sections.items()))

    def _write_broker_conf(self):
        store = self.dir / "broker"
        store.mkdir()
        head = "user root\n" if os.geteuid() == 0 else ""
        if self.transport != "client":
            head += "plugin %s\nplugin_opt_socket %s\n" % (PLUGIN, self.plugin_socket)
        (self.dir / "mosquitto.conf").write_text(head + """\
persistence true
persistence_location %s/
autosave_interval 5
queue_qos0_messages true
max_queued_messages 100000
max_inflight_messages 0
message_size_limit 1048576
set_tcp_nodelay true
allow_anonymous true
log_dest stderr
listener %d 127.0.0.1
listener %d 127.0.0.1
protocol websockets
""" % (store, self.mqtt_port, self.ws_port))

    # -- processes

    def start(self, *names):
        for name in names:
            self.processes[name].start()
            if name == "broker":
                self.await_broker()
        if "agent" in names and self.processes["csm"].runs() or "csm" in names and self.processes["agent"].runs():
            self.await_session()

    def await_broker(self):
        def answers():
            assert self.processes["broker"].runs(), "broker ended\n" + self.processes["broker"].log_tail()
            for port in (self.mqtt_port, self.ws_port):
                with socket.socket() as s:
                    if s.connect_ex(("127.0.0.1", port)) != 0:
                        return False
            return True
        until(answers, START_S, "the broker")

    def await_session(self):
        """As both see it: the agent does when it has answered csm's hello, and csm when it has the answer."""
        until(lambda: self.agent_status().get("csm") is True and self.control("csm", {"op": "status"}).get("agent") is True,
              START_S, "the session of csm and agent")

    def start_broker(self):
        """One that ended under csm and agent, which may not know that yet: until they have another session."""
        def sessions():
            return self.processes["csm"].log().count(" agent.online ")
        before = sessions()
        self.start("broker")
        until(lambda: sessions() > before, START_S, "a new session of csm and agent")

    def stop(self, name):
        """An orderly stop; it must succeed."""
        status = self.processes[name].stop()
        assert status == 0, "%s ended with %s\n%s" % (name, status, self.processes[name].log_tail())

    def kill9(self, name):
        if name == "engine":
            os.kill(self.engine_pid(), signal.SIGKILL)
        else:
            self.processes[name].kill9()

    def restart(self, name):
        """As a supervisor would: after a death, start it again."""
        if self.processes[name].runs():
            self.stop(name)
        self.start(name)

    def pid(self, name):
        return self.engine_pid() if name == "engine" else self.processes[name].pid

    def keeper_pids(self, names=("iottalk-keeper",)):
        """The keeper and its forks live outside of the agent's family: known by the socket in their command line."""
        mark = os.fsencode(str(self.userdir / "run/keeper.sock"))
        found = []
        for pid, (_, name) in process_table().items():
            try:
                if name in names and mark in Path("/proc/%d/cmdline" % pid).read_bytes().split(b"\0"):
                    found.append(pid)
            except OSError:
                pass
        return found

    def engine_pids(self):
        return self.keeper_pids(("iottalk-engine",))

    def engine_pid(self):
        return until(self.engine_pids, what="an engine")[0]

    def graph_row(self, g):
        """What the agent says of a graph; {}: it does not know it."""
        return self.control("agent", {"op": "graph", "graph": "%s/%s" % (g.client_id, g.graph)}).get("graph", {})

    def engine_of(self, g):
        """pid of the engine that runs a graph."""
        return until(lambda: self.graph_row(g).get("pid"), what="the engine of %s" % g.client_id)

    def until_runs(self, g):
        """A restarted agent is ready before it has got its graphs again."""
        until(lambda: self.graph_row(g).get("state") == "running", what="graph %s of %s" % (g.graph, g.client_id))

    def rss_kb(self, name):
        return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/%d/status" % self.pid(name)).read_text())[1])

    def open_fds(self, name):
        return len(os.listdir("/proc/%d/fd" % self.pid(name)))

    # -- what the programs tell

    def control(self, name, request):
        """One request on a daemon's control socket; {} while nobody listens."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(PATIENCE_S)
            try:
                s.connect(str(self.userdir / "run" / (name + ".sock")))
                s.sendall(json.dumps(request).encode() + b"\n")
                answer = s.makefile("rb").readline()
            except OSError:
                return {}
        return json.loads(answer) if answer else {}

    def agent_status(self):
        return self.control("agent", {"op": "status"})

    def engine_restarts(self):
        return self.agent_status()["engine"]["restarts"]

    def metrics(self):
        """[(name, {label: value}, number)] of csm's /metrics."""
        text = requests.get(self.url + "/metrics", timeout=PATIENCE_S).text
        rows = []
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, labels, value = re.fullmatch(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)", line).groups()
                rows.append((name, dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")), float(value)))
        return rows

    def metric(self, name, /, **labels):
        """The sum of all rows of that name whose labels are those given."""
        return sum(value for n, have, value in self.metrics()
                   if n == name and all(have.get(k) == v for k, v in labels.items()))

    def agent_counter(self, name):
        return self.metric("iottalk_agent_counter", agent=AGENT_ID, name=name)

    # -- the end

    def logs(self):
        return {name: p.log_tail() for name, p in self.processes.items() if p.popen is not None}

    def abort(self):
        for client in self.closing:
            client.close()
        for p in self.processes.values():
            if p.runs():
                p.popen.kill()
                p.popen.wait()
        alive.remove(self)
        self.end_keepers()
        shutil.rmtree(self.dir, ignore_errors=True)

    def end_keepers(self):
        """Of an agent that was killed."""
        for pid in self.keeper_pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def close(self):
        """Stop everything in order; complain about whatever did not end as it should."""
        for client in self.closing:
            client.close()
        complaints = []
        engines = self.engine_pids() if self.processes["agent"].runs() else []
        for name in ("ccm", "agent", "csm", "broker"):
            p = self.processes[name]
            if p.popen is None or p.killed:
                continue
            status = p.stop()
            if status != 0:
                complaints.append("%s ended with %s\n%s" % (name, status, p.log_tail()))
        for name, p in self.processes.items():
            report = sanitizer_report(p.log())
            if report:
                complaints.append("%s: %s" % (name, report))
        try:    # long before the keeper would end by itself
            until(lambda: not set(engines) & process_table().keys(), what="the end of the agent's engines %s" % engines)
        except AssertionError as e:
            complaints.append(str(e))
        alive.remove(self)
        self.end_keepers()
        shutil.rmtree(self.dir, ignore_errors=True)
        assert not complaints, "\n".join(complaints)
