"""gateway-agent alone against a broker of its own: the test is csm, as docs/agent-protocol.rst says (seal and all)."""

import hashlib
import hmac
import json
import os
import queue
import secrets
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import paho.mqtt.client as paho
import pytest

import stopwatch
from suite import free_ports

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("BUILD", ROOT / "build")) / "bin"
MOSQUITTO = "/usr/sbin/mosquitto"
ZEROS = "0" * 32
WAIT_S = 30
SQUARE = "def run(x):\n    return x ** 2\n"
AGENT = "a1"


def wait_for(check, what, seconds=WAIT_S):
    """For what no message tells: a pid, a counter behind a socket."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < end, "waited in vain for " + what
        time.sleep(0.02)


def digest(code):
    return hashlib.sha256(code.encode()).hexdigest()


def nonce():
    return secrets.token_hex(16)


def seal(key, topic, frm, to, seq, body):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    head = ("%s %s %s" % (frm, to, seq)).encode()
    tag = hmac.new(key, topic.encode() + b"\0" + head + b"\n" + body, hashlib.sha512).digest()[:32]
    return b"IT1 " + head + b" " + tag.hex().encode() + b"\n" + body


def unseal(key, topic, message):
    first, body = message.split(b"\n", 1)
    magic, frm, to, seq, tag = first.decode().split(" ")
    assert magic == "IT1"
    assert seal(key, topic, frm, to, seq, body) == message, "the agent's own seal does not fit"
    return {"from": frm, "to": to, "seq": int(seq), "body": json.loads(body)}


class Client:
    """An ordinary MQTT client with its messages in a queue."""

    def __init__(self, port, topics=(), clean=True, client_id=""):
        self.messages = queue.Queue()
        self.up = threading.Event()
        self.topics = list(topics)
        self.mqtt = paho.Client(client_id, clean_session=clean)
        self.mqtt.max_inflight_messages_set(1000)
        self.mqtt.reconnect_delay_set(0.05, 0.2)
        self.mqtt.on_connect = self._on_connect
        self.mqtt.on_subscribe = lambda *a: self.up.set()
        self.mqtt.on_message = lambda c, u, m: self.messages.put(m)
        self.mqtt.connect("127.0.0.1", port)
        self.mqtt.loop_start()
        assert self.up.wait(WAIT_S)

    def _on_connect(self, client, *_):
        if self.topics:
            client.subscribe([(t, 2) for t in self.topics])
        else:
            self.up.set()

    def subscribe(self, topic):
        self.up.clear()
        self.topics.append(topic)
        self.mqtt.subscribe(topic, 2)
        assert self.up.wait(WAIT_S)

    def publish(self, topic, payload, qos=1, retain=False):
        self.mqtt.publish(topic, payload, qos, retain).wait_for_publish(WAIT_S)

    def next(self, seconds=WAIT_S):
        return self.messages.get(timeout=seconds)

    def close(self):
        self.mqtt.disconnect()
        self.mqtt.loop_stop()


class Bench:
    """Broker and agent, and where they keep their things."""

    def __init__(self, folder, settings):
        self.folder = folder
        self.port, = free_ports(1)
        self.key = secrets.token_bytes(32)
        self.broker = self.agent = None
        self.made = []
        self.userdir = folder / "user"
        self.userdir.mkdir(mode=0o700)
        key = self.userdir / "key"
        key.write_text(self.key.hex() + "\n")
        key.chmod(0o600)
        sections = {"core": {"userdir": self.userdir}, "agent": {"id": AGENT},
                    "core-mqtt": {"host": "127.0.0.1", "port": self.port}}
        for section, values in settings.items():
            sections.setdefault(section, {}).update(values)
        (folder / "iottalk.ini").write_text("".join(
            "[%s]\n%s" % (s, "".join("%s = %s\n" % kv for kv in v.items())) for s, v in sections.items()))
        (folder / "mosquitto.conf").write_text(
            "listener %d 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location %s/\n"
            "max_queued_messages 100000\nmax_inflight_messages 0\nset_tcp_nodelay true\nuser root\n"
            "message_size_limit 1048576\n" % (self.port, folder))

    def start_broker(self):
        with open(self.folder / "broker.log", "ab") as log:
            self.broker = subprocess.Popen([MOSQUITTO, "-c", self.folder / "mosquitto.conf"], stdout=log, stderr=log)

        def answers():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.port)) == 0

        wait_for(answers, "the broker")

    def start_agent(self):
        with open(self.folder / "agent.log", "ab") as log:
            self.agent = subprocess.Popen([BIN / "gateway-agent", "-c", self.folder / "iottalk.ini"],
                                          stdout=log, stderr=log)

    def client(self, *topics, **kw):
        made = Client(self.port, topics, **kw)
        self.made.append(made)
        return made

    def csm(self):
        made = Csm(self)
        self.made.append(made.client)
        return made

    def status(self, op="status"):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(WAIT_S)
            s.connect(str(self.userdir / "run" / "agent.sock"))
            s.sendall(json.dumps({"op": op}).encode() + b"\n")
            with s.makefile() as lines:
                return json.loads(lines.readline())

    def first_status(self):
        """Of an agent that has just been started: its socket may be none yet, or one that nobody listens on."""
        def answer():
            try:
                return self.status()
            except OSError:
                return None
        return wait_for(answer, "the agent")

    def counter(self, name):
        return self.status()["counters"].get(name, 0)

    def close(self):
        for client in self.made:
            client.close()
        status = None
        if self.agent is not None and self.agent.poll() is None:
            self.agent.terminate()
            status = self.agent.wait(WAIT_S)
        if self.broker is not None:
            self.broker.terminate()
            self.broker.wait(WAIT_S)
        log = (self.folder / "agent.log").read_text(errors="replace")
        assert "Sanitizer" not in log and "runtime error" not in log, log[-4000:]
        assert status in (None, 0), "the agent ended with %s\n%s" % (status, log[-4000:])


class Csm:
    """csm's half of the protocol."""

    def __init__(self, bench):
        self.bench = bench
        self.nonce = nonce()
        self.topic = "iottalk/agent/%s/" % AGENT
        self.client = bench.client(self.topic + "state", self.topic + "res")
        self.agent = self.will = None
        self.seq = self.ids = self.seen = 0
        self.reports = []
        self.answers = {}
        self.sent = []  # raw messages of this session, for a replayer

    def state(self, seconds=WAIT_S):
        """The next message on the state topic."""
        while True:
            m = self.client.next(seconds)
            if m.topic.endswith("/state"):
                return unseal(self.bench.key, m.topic, m.payload)
            self.take(m)

    def take(self, m):
        message = unseal(self.bench.key, m.topic, m.payload)
        if message["to"] != self.nonce:
            return
        assert message["from"] == self.agent
        assert message["seq"] == self.seen + 1, "an answer is missing or out of order"
        self.seen = message["seq"]
        if message["body"]["op"] in ("stats", "report"):
            self.reports.append(message["body"])
        else:
            assert message["body"]["id"] not in self.answers, "answered twice"
            self.answers[message["body"]["id"]] = message["body"]

    def session(self, seconds=WAIT_S):
        """Wait for an agent that is online, say hello, wait until it stands."""
        greeted = set()
        while True:
            state = self.state(seconds)
            if state["body"]["state"] != "online":
                continue
            if state["to"] == self.nonce and state["from"] != self.agent:
                self.agent, self.will = state["from"], state["body"]["will"]
                self.seq = self.seen = 0
                self.sent = []
                return state
            if state["from"] not in greeted and state["to"] != self.nonce:
                greeted.add(state["from"])
                self.client.publish(self.topic + "req", seal(
                    self.bench.key, self.topic + "req", self.nonce, state["from"], 1, {"op": "hello"}))

    def send(self, op, **fields):
        self.ids += 1
        self.seq += 1
        message = seal(self.bench.key, self.topic + "req", self.nonce, self.agent, self.seq,
                       dict(fields, op=op, id=self.ids))
        self.sent.append(message)
        self.client.publish(self.topic + "req", message)
        return self.ids

    def take_next(self, seconds):
        m = self.client.next(seconds)
        if m.topic.endswith("/res"):
            self.take(m)

    def answer(self, ident, seconds=WAIT_S):
        end = time.monotonic() + seconds
        while ident not in self.answers:
            self.take_next(end - time.monotonic())
        return self.answers[ident]

    def ask(self, op, **fields):
        return self.answer(self.send(op, **fields))

    def func(self, code):
        self.send("func", digest=digest(code), code=code)
        return digest(code)

    def put(self, doc, seconds=WAIT_S):
        return self.answer(self.send("put", graph=doc), seconds)

    def sync(self, *graphs):
        answer = self.ask("sync", graphs=list(graphs), first=True)
        assert answer["state"] == "ok"

    def report(self, found, seconds=WAIT_S):
        """The first report that fits."""
        end = time.monotonic() + seconds
        while not any(found(r) for r in self.reports):
            self.take_next(end - time.monotonic())
        return next(r for r in self.reports if found(r))


def doc(graph="c/1", rev=1, idf=None, join=None, odf=None, name="", monitor=None):
    return {"id": graph, "owner": "c", "rev": rev, "next_lid": 3, "monitor": monitor,
            "idf": [{"lid": 1, "da_id": "d", "feature": "in", "topic": "iottalk/esm/in" + name, "func": idf,
                     "depends": {}, "param_no": None, "tag_param_no": 0, "input_type": None, "order": None}],
            "join": {"func": join, "depends": {}},
            "odf": [{"lid": 2, "da_id": "d", "feature": "out", "topic": "iottalk/esm/out" + name, "func": odf,
                     "depends": {}, "param_no": None, "tag_param_no": 0}]}


@pytest.fixture
def make_bench(tmp_path):
    made = []

    def make(**settings):
        folder = tmp_path / ("bench%d" % len(made))
        folder.mkdir()
        bench = Bench(folder, {s.replace("_", "-"): v for s, v in settings.items()})
        made.append(bench)
        bench.start_broker()
        bench.start_agent()
        return bench

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def running(make_bench):
    """A bench with a session, and the graph of the walk-through: out = in ** 2."""
    bench = make_bench()
    csm = bench.csm()
    csm.session()
    join = csm.func(SQUARE)
    ident = csm.send("put", graph=doc(join=join, monitor="iottalk/monitor/m"))
    csm.sync("c/1")
    return bench, csm, ident, join


def start(running):
    bench, csm, ident, join = running
    out = bench.client("iottalk/esm/out")
    assert csm.answer(ident)["state"] == "ok"
    return bench, csm, out, join


def test_the_walk_through_gives_49(running):
    bench, csm, out, _ = start(running)
    out.publish("iottalk/esm/in", "7")
    m = out.next()
    assert (m.topic, m.payload, m.qos) == ("iottalk/esm/out", b"49", 1)
    assert bench.status()["csm"] is True
    assert bench.status()["health"] == "ok"


def test_puts_sent_before_the_first_sync_are_answered(make_bench):
    bench = make_bench()
    csm = bench.csm()
    csm.session()
    csm.func(SQUARE)
    ident = csm.send("put", graph=doc(join=digest(SQUARE)))
    sync = csm.send("sync", graphs=["c/1"], first=True)
    assert csm.answer(ident) == {"op": "put", "id": ident, "state": "ok", "graph": "c/1", "rev": 1}
    assert csm.answer(sync)["state"] == "ok"


def test_a_second_hello_moves_the_nonce_and_kills_the_old_session(running):
    bench, csm, out, _ = start(running)
    old_agent, old_sent = csm.agent, list(csm.sent)
    csm.client.publish(csm.topic + "req", seal(bench.key, csm.topic + "req", csm.nonce, old_agent, 100, {"op": "hello"}))
    csm.session()
    assert csm.agent != old_agent
    before = bench.counter("replayed")
    for message in old_sent:
        csm.client.publish(csm.topic + "req", message)
    assert csm.ask("drop", graph="unknown")["state"] == "ok"
    assert bench.counter("replayed") == before + len(old_sent)
    out.publish("iottalk/esm/in", "3")
    assert out.next().payload == b"9"


def test_forged_and_replayed_messages_change_nothing_and_are_counted(running):
    bench, csm, out, _ = start(running)
    req = csm.topic + "req"
    wrong = secrets.token_bytes(32)
    drop = {"op": "drop", "id": 1, "graph": "c/1"}
    sealed = seal(bench.key, req, csm.nonce, csm.agent, csm.seq + 50, drop)
    forged = [
        seal(wrong, req, csm.nonce, csm.agent, csm.seq + 1, drop),
        seal(wrong, req, csm.nonce, csm.agent, csm.seq + 1, {"op": "hello"}),
        seal(wrong, req, nonce(), ZEROS, 1, {"op": "hello"}),
        seal(bench.key, csm.topic + "res", csm.nonce, csm.agent, csm.seq + 1, drop),
        seal(bench.key, "iottalk/agent/other/req", csm.nonce, csm.agent, csm.seq + 1, drop),
        sealed.replace(b'"c/1"', b'"c/2"'),
    ]
    replayed = csm.sent + [
        seal(bench.key, req, csm.nonce, nonce(), csm.seq + 60, drop),
        seal(bench.key, req, csm.nonce, ZEROS, csm.seq + 60, drop),
        seal(bench.key, req, nonce(), csm.agent, 1, drop),
        seal(bench.key, req, nonce(), nonce(), 1, {"op": "hello"}),
    ]
    malformed = [b"", b"x", b"IT1 \n{}", b"{" * 50000, bytes(range(256)), b"IT1 " + b"a" * 1000000,
                 seal(bench.key, req, csm.nonce, csm.agent, csm.seq + 1, b"[]"),
                 seal(bench.key, req, csm.nonce, csm.agent, csm.seq + 2, b"[" * 50000),
                 seal(bench.key, req, csm.nonce, csm.agent, csm.seq + 3, {"op": "drop", "graph": "c/1"}),
                 seal(bench.key, req, csm.nonce, csm.agent, csm.seq + 4, {"op": "sync", "id": "1", "graphs": []})]
    for message in forged + replayed + malformed:
        out.publish(req, message)
    csm.seq += 10
    assert csm.ask("drop", graph="unknown")["state"] == "ok"  # all before it has been looked at
    counters = bench.status()["counters"]
    assert counters["forged"] == len(forged)
    assert counters["replayed"] == len(replayed)
    assert counters["malformed"] == len(malformed)
    out.publish("iottalk/esm/in", "7")
    assert out.next().payload == b"49"
    assert csm.ask("nonsense")["reason"] == "op 'nonsense' unknown"


def test_an_overwritten_state_is_put_back(running):
    bench, csm, out, _ = start(running)
    standing = bench.client(csm.topic + "state").next().payload
    for fake in (b"", b"rubbish", seal(secrets.token_bytes(32), csm.topic + "state", nonce(), ZEROS, 1, {"state": "offline"})):
        out.publish(csm.topic + "state", fake, retain=True)
        wait_for(lambda: bench.client(csm.topic + "state").next().payload == standing, "the agent's state")
    assert bench.counter("state_overwritten") >= 3


def test_a_goodbye_is_the_will(running):
    bench, csm, out, _ = start(running)
    bench.agent.terminate()
    assert bench.agent.wait(WAIT_S) == 0
    while True:
        state = csm.state()
        if state["body"]["state"] == "offline":
            break
    assert state["from"] == csm.will and state["to"] == ZEROS and state["seq"] == 1


def test_a_compile_error_is_refused_with_reason_and_place_and_the_old_revision_goes_on(running):
    bench, csm, out, join = start(running)
    answer = csm.put(doc(rev=2, idf=csm.func("def run(x: return x"), join=join))
    assert answer["state"] == "error" and "SyntaxError" in answer["reason"]
    assert answer["where"] == {"kind": "idf", "lid": 1}
    answer = csm.put(doc(rev=3, join=csm.func("x = 1\n")))
    assert answer["state"] == "error" and "not found" in answer["reason"]
    assert answer["where"]["kind"] == "join"
    out.publish("iottalk/esm/in", "7")
    assert out.next().payload == b"49"
    assert csm.put(doc(rev=4, join=join))["state"] == "ok"
    assert csm.put(doc(rev=4, join=join))["state"] == "ok"
    assert csm.put(doc(rev=2, join=join))["reason"] == "stale revision"
    answer = csm.put(doc(rev=9, join="0" * 64))
    assert answer["state"] == "need" and answer["digests"] == ["0" * 64]


def test_check_compiles_and_runs_nothing(running):
    bench, csm, out, _ = start(running)
    answer = csm.ask("check", codes=[SQUARE, "def run(:", "y = 1", "while True: pass\n"[:0] + SQUARE], depends={})
    assert [r["state"] for r in answer["results"]] == ["ok", "error", "error", "ok"]


def test_dropped_graphs_get_no_messages(running):
    bench, csm, out, join = start(running)
    assert csm.put(doc("c/2", join=join, name="2"))["state"] == "ok"
    out.subscribe("iottalk/esm/out2")
    assert csm.ask("drop", graph="c/1")["state"] == "ok"
    out.publish("iottalk/esm/in", "7")
    out.publish("iottalk/esm/in2", "5")
    assert out.next().payload == b"25"
    csm.sync("c/2")
    assert [g["id"] for g in bench.status("graphs")["graphs"]] == ["c/2"]


def test_retained_replays_are_ignored(running):
    bench, csm, out, join = start(running)
    out.publish("iottalk/esm/in2", "3", retain=True)
    assert csm.put(doc("c/2", join=join, name="2"))["state"] == "ok"
    out.subscribe("iottalk/esm/out2")
    out.publish("iottalk/esm/in2", "5")
    assert out.next().payload == b"25"
    assert bench.counter("dropped.retained") == 1


def test_large_messages_are_dropped_and_counted(make_bench):
    bench = make_bench(agent={"max-payload-bytes": 2000})
    csm = bench.csm()
    csm.session()
    csm.sync()
    assert csm.put(doc())["state"] == "ok"
    out = bench.client("iottalk/esm/out")
    out.publish("iottalk/esm/in", json.dumps("x" * 2000))
    out.publish("iottalk/esm/in", "[1]")
    assert out.next().payload == b"[1]"
    assert bench.counter("dropped.too_large") == 1


HANG = "def run(x):\n    while x == 13: pass\n    return x\n"
EXIT = "import random\nos = random._os\ndef run(x):\n    if x == 13: os._exit(5)\n    return x\n"


@pytest.mark.parametrize("code,why", [(HANG, "time budget of 300 ms exceeded"), (EXIT, "")])
def test_a_function_that_takes_its_engine_along_is_blamed_and_others_go_on(make_bench, code, why):
    bench = make_bench(engine={"budget-ms": 300})
    csm = bench.csm()
    csm.session()
    csm.sync()
    bad = csm.func(code)
    assert csm.put(doc("c/bad", idf=bad, name="bad", monitor="iottalk/monitor/m"))["state"] == "ok"
    assert csm.put(doc("c/good", join=csm.func(SQUARE)))["state"] == "ok"
    out = bench.client("iottalk/esm/out", "iottalk/esm/outbad")
    monitor = bench.client("iottalk/monitor/m")
    out.publish("iottalk/esm/inbad", "13")
    out.publish("iottalk/esm/in", "7")
    out.publish("iottalk/esm/inbad", "14")
    assert {out.next().payload, out.next().payload} == {b"49", b"14"}
    while True:
        said = json.loads(monitor.next().payload)
        if said["op"] == "esm_error":
            break
    assert said["data"]["src"] == code
    assert said["data"]["msg"].startswith("idf function failure:\n") and why in said["data"]["msg"]
    if why:  # os._exit may just as well raise where the sandbox refuses it
        report = csm.report(lambda r: r["op"] == "report")
        assert (report["graph"], report["lid"], report["kind"]) == ("c/bad", 1, "idf")
        assert bench.status()["engine"]["restarts"] == 1


def test_a_document_that_hangs_while_loading_is_refused(make_bench):
    bench = make_bench(engine={"budget-ms": 300})
    csm = bench.csm()
    csm.session()
    csm.sync()
    assert csm.put(doc(join=csm.func(SQUARE)))["state"] == "ok"
    answer = csm.put(doc("c/bad", idf=csm.func("while True: pass\n"), name="bad"))
    assert answer["state"] == "error" and "time budget of 300 ms exceeded while loading" in answer["reason"]
    out = bench.client("iottalk/esm/out")
    out.publish("iottalk/esm/in", "7")
    assert out.next().payload == b"49"
    assert bench.status()["engine"]["restarts"] == 1


def feed(bench, first, last, rate=500, topic="iottalk/esm/in"):
    """Publish numbers at QoS 1 from a thread of their own; ret: the thread."""
    client = bench.client(clean=False, client_id="feeder-%d" % first)

    def run():
        begin = time.monotonic()
        for i in range(first, last):
            client.mqtt.publish(topic, str(i), 1)
            ahead = begin + (i - first) / rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)  # the rate is the point

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def collect(out, last):
    """What comes up to the last one, or for WAIT_S, if that is lost."""
    got = []
    end = time.monotonic() + WAIT_S
    while (not got or got[-1] != last) and time.monotonic() < end:
        try:
            got.append(json.loads(out.next(0.2).payload)[0])
        except queue.Empty:
            pass
    return got


@pytest.fixture
def forwarding(make_bench):
    """in goes to out, as a list of one."""
    bench = make_bench()
    csm = bench.csm()
    csm.session()
    csm.sync()
    assert csm.put(doc())["state"] == "ok"
    return bench, csm, bench.client("iottalk/esm/out", clean=False, client_id="collector")


def test_kill_9_of_the_engine_loses_at_most_the_message_in_evaluation(forwarding):
    bench, csm, out = forwarding
    feeder = feed(bench, 0, 1500)
    pids = set()
    for _ in range(3):
        pid = wait_for(lambda: bench.status()["engine"]["ready"] and bench.status()["engine"]["pid"], "an engine")
        pids.add(pid)
        wait_for(lambda: bench.counter("received") >= 300 * len(pids), "messages")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: bench.status()["engine"]["pid"] not in (pid, -1), "another engine")
    feeder.join()
    got = collect(out, 1499)
    assert len(pids) == 3
    assert got == sorted(set(got)), "duplicated or out of order"
    assert len(got) >= 1500 - len(pids), "%d lost" % (1500 - len(got))
    assert bench.status()["engine"]["restarts"] == 3


def test_kill_9_of_the_agent_loses_little_and_leaves_no_engine_behind(forwarding):
    bench, csm, out = forwarding
    feeder = feed(bench, 0, 1500)
    wait_for(lambda: bench.counter("received") >= 400, "messages")
    engine = bench.status()["engine"]["pid"]
    bench.agent.kill()
    bench.agent.wait()
    killed = stopwatch.now()
    bench.start_agent()
    csm.session()
    wait_for(lambda: not Path("/proc/%d" % engine).exists(), "the end of the old engine")
    ident = csm.send("put", graph=doc())
    csm.sync("c/1")
    assert csm.answer(ident)["state"] == "ok"
    feeder.join()
    got = collect(out, 1499)
    assert got[-1] == 1499
    assert stopwatch.now() - killed < 10
    missing = 1500 - len(set(got))
    assert missing < 100, "%d lost" % missing


def test_everything_returns_after_a_broker_restart(forwarding):
    bench, csm, out = forwarding
    out.publish("iottalk/esm/in", "1")
    assert out.next().payload == b"[1]"
    old = csm.agent
    bench.broker.terminate()
    bench.broker.wait(WAIT_S)
    wait_for(lambda: bench.status()["csm"] is False, "the session's end")
    assert bench.status()["ready"] is False
    bench.start_broker()
    csm.session()
    assert csm.agent != old
    assert csm.put(doc())["state"] == "ok"
    csm.sync("c/1")
    wait_for(lambda: bench.status()["health"] == "ok", "health")
    out.publish("iottalk/esm/in", "2")
    # at QoS 1 whoever was not acknowledged before the broker ended sends again
    assert [m for m in iter(lambda: out.next().payload, b"[2]") if m != b"[1]"] == []
    assert bench.status()["engine"]["restarts"] == 0


def test_changes_under_load_lose_and_reorder_nothing(forwarding):
    bench, csm, out = forwarding
    plain = csm.func("def run(x): return [x]\n")
    feeder = feed(bench, 0, 2000, rate=1000)
    rev = 1
    while feeder.is_alive():
        rev += 1
        change = doc(rev=rev, join=plain if rev % 2 else None)
        if rev % 3 == 0:
            change["odf"].append(dict(change["odf"][0], lid=rev + 10, topic="iottalk/esm/extra"))
        assert csm.put(change)["state"] == "ok"
    got = collect(out, 1999)
    assert got == list(range(2000))
    assert rev > 20


def test_stats_reach_csm(running):
    bench, csm, out, _ = start(running)
    out.publish("iottalk/esm/in", "7")
    assert out.next().payload == b"49"

    csm.report(lambda r: r["op"] == "stats" and r["counters"].get("evaluated") == 1 and r["counters"]["received"] == 1)


@pytest.mark.parametrize("breakage,word", [("no key", "initdb"), ("open key", "chmod"), ("bad id", "a/b")])
def test_a_start_that_cannot_be_says_why(tmp_path, breakage, word):
    bench = Bench(tmp_path, {"agent": {"id": "a/b"}} if breakage == "bad id" else {})
    if breakage == "no key":
        (bench.userdir / "key").unlink()
    elif breakage == "open key":
        (bench.userdir / "key").chmod(0o644)
    bench.start_agent()
    assert bench.agent.wait(WAIT_S) == 1
    assert word in (tmp_path / "agent.log").read_text()


def test_an_id_is_made_once_and_kept(make_bench):
    bench = make_bench(agent={"id": ""})
    first = bench.first_status()["agent_id"]
    bench.agent.terminate()
    assert bench.agent.wait(WAIT_S) == 0
    bench.start_agent()
    assert bench.first_status()["agent_id"] == first
    assert (bench.userdir / "agent-id").read_text().strip() == first
