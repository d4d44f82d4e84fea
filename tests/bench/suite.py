"""What is measured: a broker, the C relay, and the suite's own csm, agent and engine, in a temporary directory on free ports."""

import hashlib
import json
import os
import queue
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import paho.mqtt.client as mqtt
import requests

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BUILD", ROOT / "build"))
START_S = 20
FUNCTION = "def run(x):\n    return x * 2 + 1\n"
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"

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

INI = """\
[core]
http-port = {http}
userdir = {folder}/userdir
log-level = warn
[core-mqtt]
host = 127.0.0.1
port = {mqtt}
[broker]
managed = no
[agent]
id = bench
"""


def free_ports(count):
    """Bound at the same time, so they differ."""
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def descendants(pid):
    """Pids of the processes below pid."""
    children = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = int(Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


class Processes:
    """Everything that runs, ended in the reverse order of its start."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="iottalk-bench-"))
        self.mqtt_port, self.http_port = free_ports(2)
        self.url = "http://127.0.0.1:%d" % self.http_port
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for p in reversed(self.running):
            p.terminate()
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def spawn(self, name, argv, stdout=None, **env):
        with open(self.folder / (name + ".log"), "ab") as log:
            p = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log,
                                 env=dict(os.environ, PATH=PATH, **env))
        self.running.append(p)
        return p

    def log(self, name):
        return (self.folder / (name + ".log")).read_text(errors="replace")[-3000:]

    def start_broker(self):
        store = self.folder / "broker"
        store.mkdir()
        conf = self.folder / "mosquitto.conf"
        as_root = "user root\n" if os.geteuid() == 0 else ""
        conf.write_text(as_root + BROKER_CONF.format(folder=store, port=self.mqtt_port))
        p = self.spawn("broker", ["mosquitto", "-c", conf])
        deadline = time.monotonic() + START_S
        while p.poll() is None and time.monotonic() < deadline:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.mqtt_port)) == 0:
                    return p
            time.sleep(0.02)
        raise RuntimeError("the broker does not start:\n" + self.log("broker"))

    def start_relay(self, program):
        """It takes program/in/... to program/out/..."""
        p = self.spawn(program, [BUILD / "bench/bin" / program, self.mqtt_port, program], stdout=subprocess.PIPE)
        if p.stdout.readline() != b"ready\n":
            raise RuntimeError("%s does not start:\n%s" % (program, self.log(program)))
        return p

    def start_daemon(self, name, ini):
        """Start it and wait for its ready notice."""
        path = self.folder / (name + ".notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notice:
            notice.bind(str(path))
            notice.settimeout(0.2)
            p = self.spawn(name, [BUILD / "bin" / name, "-c", ini], NOTIFY_SOCKET=str(path))
            deadline = time.monotonic() + START_S
            while p.poll() is None and time.monotonic() < deadline:
                try:
                    if b"READY=1" in notice.recv(4096):
                        return p
                except socket.timeout:
                    pass
        raise RuntimeError("%s does not start:\n%s" % (name, self.log(name)))

    def start_suite(self):
        """csm and agent; ret: their processes."""
        ini = self.folder / "iottalk.ini"
        ini.write_text(INI.format(http=self.http_port, mqtt=self.mqtt_port, folder=self.folder))
        done = subprocess.run([str(BUILD / "bin/iotctl"), "-c", str(ini), "initdb"], capture_output=True, text=True,
                              timeout=START_S, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise RuntimeError("initdb: %s%s" % (done.stdout, done.stderr))
        return self.start_daemon("csm", ini), self.start_daemon("gateway-agent", ini)


class Devices:
    """Registered devices, each with a graph of its own from its IDF to its ODF; all of them are one MQTT client here."""

    def __init__(self, processes):
        self.processes = processes
        self.answers = queue.Queue()
        self.connects = queue.Queue()
        self.client = mqtt.Client(client_id="bench-control")
        self.client.max_inflight_messages_set(0)
        self.client.on_message = self._on_message
        up = queue.Queue()
        self.client.on_subscribe = lambda *_: up.put(True)
        self.client.connect("127.0.0.1", processes.mqtt_port, keepalive=600)
        self.client.loop_start()
        self.client.subscribe([("+/ctrl/o", 2), ("iottalk/api/res/bench/#", 2)])
        up.get(timeout=START_S)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def _on_message(self, client, _, message):
        body = json.loads(message.payload)
        if message.topic.startswith("iottalk/api/res/"):
            self.answers.put(body)
            return
        device = message.topic.split("/")[0]
        if body["command"] == "CONNECT":
            self.connects.put((device, "idf" if "idf" in body else "odf", body["topic"]))
        client.publish(device + "/ctrl/i", json.dumps(dict(body, state="ok")), qos=1)

    def _ask(self, graph, calls):
        """Send requests of one graph; they are answered in order."""
        for call in calls:
            self.client.publish("iottalk/api/req/bench/graph/" + graph, json.dumps(call), qos=1)
        for call in calls:
            answer = self.answers.get(timeout=START_S)
            if answer.get("state") != "ok" or answer.get("pending"):
                raise RuntimeError("%s of graph %s: %s" % (call["op"], graph, answer))

    def wire(self, count):
        """ret: [(topic to publish, topic that answers)] of count new devices."""
        digest = hashlib.sha256(FUNCTION.encode()).hexdigest()
        topics = {}
        for number in range(count):
            device = str(uuid.uuid4())
            feature = [["value", ["x"]]]
            answer = requests.put(self.processes.url + "/" + device, timeout=START_S, json={
                "accept_protos": ["mqtt"], "profile": {"model": "Bench"}, "idf_list": feature, "odf_list": feature})
            answer.raise_for_status()
            state = {"state": "online", "rev": answer.json()["rev"]}
            self.client.publish(device + "/ctrl/i", json.dumps(state), qos=1)
            link = {"op": "add_link", "da_id": device, "param_no": 1, "tag_param_no": 0}
            self._ask(device, [
                {"op": "attach"},
                {"op": "add_funcs", "codes": [FUNCTION], "digests": [digest]},
                dict(link, idf="value", func=digest),
                dict(link, odf="value", func=None),
            ])
            topics[device] = {}
        while any(len(t) < 2 for t in topics.values()):
            device, mode, topic = self.connects.get(timeout=START_S)
            topics[device][mode] = topic
        return [(t["idf"], t["odf"]) for t in topics.values()]
