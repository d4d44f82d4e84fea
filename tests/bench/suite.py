"""What is measured runs here: brokers, helpers, and the suite's own csm, agent and engines, in a temporary directory on free
ports of 127.0.0.1. Everything is ended in the reverse order of its start."""

import ctypes
import json
import os
import queue
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import paho.mqtt.client as mqtt

from procs import engines_of

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BUILD", ROOT / "build"))
PLUGIN = BUILD / "lib/iottalk_broker.so"
START_S = 20
STOP_S = 10
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"
PR_SET_CHILD_SUBREAPER = 36
DESCRIPTORS = 16384

# as iotctl's managed broker
BROKER_CONF = """\
persistence true
persistence_location {folder}/
autosave_interval 5
queue_qos0_messages true
max_queued_messages 100000
max_inflight_messages 0
message_size_limit 1048576
set_tcp_nodelay true
allow_anonymous true
log_dest stderr
listener {port} 127.0.0.1
"""


class Unavailable(Exception):
    """A system cannot be measured here; the text says why."""


def until(condition, what, timeout=START_S, every=0.02):
    """Wait for a state that has no event to wait on. ret: its true value."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise RuntimeError("%s did not come within %g s" % (what, timeout))
        time.sleep(every)


def connects(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def first_answer(port, source, target, payload, timeout=60):
    """Publish again and again until something comes on the other topic. ret: it, or None."""
    arrived = queue.Queue()
    client = mqtt.Client()
    client.on_message = lambda _, __, message: arrived.put(message.payload)
    client.on_subscribe = lambda *_: arrived.put(None)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        client.subscribe(target)
        arrived.get(timeout=START_S)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            client.publish(source, payload)
            try:
                return arrived.get(timeout=0.2)
            except queue.Empty:
                pass
        return None
    finally:
        client.disconnect()
        client.loop_stop()


class Processes:
    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="iottalk-bench-"))
        self._ports = set()
        self._endings = []  # to be called, last first
        # what is left by its parent comes to us, so that the end of this program is the end of all of it
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        # a thousand devices are two thousand connections, here and in the broker
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        soft = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        signal.signal(signal.SIGTERM, lambda *_: os._exit(self.close() or 1))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        while self._endings:
            self._endings.pop()()
        shutil.rmtree(self.folder, ignore_errors=True)

    def at_end(self, ending):
        self._endings.append(ending)

    def free_port(self):
        """Below the ephemeral range, so that no outgoing connection takes it before its server does."""
        while True:
            port = random.randrange(20000, 32000)
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    s.bind(("127.0.0.1", port))
                except OSError:
                    continue
            if port not in self._ports:
                self._ports.add(port)
                return port

    def make_folder(self, name):
        folder = self.folder / name
        folder.mkdir()
        return folder

    def spawn(self, log, argv, stdout=None, **env):
        """log: a path; standard error goes there, and standard output unless it is given."""
        with open(log, "ab") as f:
            p = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=stdout or f, stderr=f,
                                 env=dict(os.environ, PATH=PATH, **env))
        self.at_end(lambda: end(p))
        return p


def end(p):
    p.terminate()
    try:
        p.wait(STOP_S)
    except subprocess.TimeoutExpired:
        p.kill()
        p.wait()


def end_of(log):
    """Without what a broker says about every client."""
    lines = [line for line in Path(log).read_text(errors="replace").splitlines()
             if not re.search(r"New (connection|client)| disconnected\.$", line)]
    return "\n".join(lines[-40:])


class Broker:
    """mosquitto with the settings of the managed one; plugin: the socket the suite's plugin is to listen on, or None."""

    def __init__(self, processes, folder, plugin=None):
        self.port = processes.free_port()
        store = folder / "broker"
        store.mkdir()
        conf, log = folder / "mosquitto.conf", folder / "broker.log"
        as_root = "user root\n" if os.geteuid() == 0 else ""
        loaded = "plugin %s\nplugin_opt_socket %s\n" % (PLUGIN, plugin) if plugin else ""
        conf.write_text(as_root + BROKER_CONF.format(folder=store, port=self.port) + loaded)
        self.process = processes.spawn(log, ["mosquitto", "-c", conf])
        try:
            until(lambda: self.process.poll() is not None or connects(self.port), "the broker")
        except RuntimeError as e:
            raise RuntimeError("%s\n%s" % (e, end_of(log))) from None
        if self.process.poll() is not None:
            raise RuntimeError("the broker ended:\n" + end_of(log))

    @property
    def pid(self):
        return self.process.pid


class Suite:
    """A broker of its own, csm and agent. transport: client or plugin. per_owner: engines for graphs of one owner; 0: the default."""

    def __init__(self, processes, name, transport, per_owner=0):
        if transport == "plugin" and not PLUGIN.exists():
            raise Unavailable("the build has no lib/%s" % PLUGIN.name)
        self.processes, self.transport = processes, transport
        self.folder = processes.make_folder(name)
        socket_path = self.folder / "plugin.sock" if transport == "plugin" else None
        self.broker = Broker(processes, self.folder, socket_path)
        self.http_port = processes.free_port()
        self.ini = self.folder / "iottalk.ini"
        self._write_ini(socket_path, per_owner)
        done = subprocess.run([str(BUILD / "bin/iotctl"), "-c", str(self.ini), "initdb"], capture_output=True, text=True,
                              timeout=START_S, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise RuntimeError("initdb: %s%s" % (done.stdout, done.stderr))
        processes.at_end(self._end_engines)
        self.csm = self._start_daemon("csm")
        self.agent = self._start_daemon("gateway-agent")
        until(lambda: self.status().get("csm") is True and self.control({"op": "status"}, "csm").get("agent") is True,
              "the session of csm and agent, as both see it")

    def _write_ini(self, plugin_socket, per_owner):
        sections = {
            "core": {"http-port": self.http_port, "userdir": self.folder / "userdir", "log-level": "warn"},
            "core-mqtt": {"host": "127.0.0.1", "port": self.broker.port},
            "broker": {"managed": "no"},
            "agent": {"id": "bench", "transport": self.transport},
            "engine": {"per-owner": per_owner},
        }
        if plugin_socket:
            sections["broker"]["plugin-socket"] = plugin_socket
        self.ini.write_text("".join("[%s]\n%s" % (section, "".join("%s = %s\n" % row for row in rows.items()))
                                    for section, rows in sections.items()))

    def _start_daemon(self, name):
        """Start it and wait for its ready notice."""
        path, log = self.folder / (name + ".notify"), self.folder / (name + ".log")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notice:
            notice.bind(str(path))
            notice.settimeout(0.2)
            p = self.processes.spawn(log, [BUILD / "bin" / name, "-c", self.ini], NOTIFY_SOCKET=str(path))
            deadline = time.monotonic() + START_S
            while p.poll() is None and time.monotonic() < deadline:
                try:
                    if b"READY=1" in notice.recv(4096):
                        return p
                except socket.timeout:
                    pass
        raise RuntimeError("%s does not start:\n%s" % (name, end_of(log)))

    def _end_engines(self):
        """The agent is gone; a keeper that outlives it is not to outlive us."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.engines():
                os.kill(pid, number)
            try:
                until(lambda: not self.engines(), "the end of the engines", 5)
                return
            except RuntimeError:
                pass

    def control(self, request, name="agent"):
        """One request on a daemon's control socket; {} while nobody listens."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5)
            try:
                s.connect(str(self.folder / ("userdir/run/%s.sock" % name)))
                s.sendall(json.dumps(request).encode() + b"\n")
                answer = s.makefile("rb").readline()
            except OSError:
                return {}
        return json.loads(answer) if answer else {}

    def status(self):
        return self.control({"op": "status"})

    def engines(self):
        return engines_of(self.agent.pid, self.folder)

    def check_transport(self):
        """The agent says what it uses, once it has something to forward."""
        used = self.status().get("transport")
        if used != self.transport:
            raise RuntimeError("the agent uses the transport '%s', not '%s'" % (used, self.transport))

    def logs(self):
        return "\n".join("%s:\n%s" % (log.name, end_of(log)) for log in sorted(self.folder.glob("*.log")))

    def pids(self):
        return {"broker": [self.broker.pid], "agent": [self.agent.pid], "engine": self.engines(), "csm": [self.csm.pid]}
