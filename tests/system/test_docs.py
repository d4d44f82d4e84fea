"""docs/protocol.rst tells what the suite does, and its examples run as they stand.

The requests of the page are sent in its order and answered as it prints; UUIDs, revisions, times, ports and the agent's name differ.
"""

import ast
import fnmatch
import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clients import WAIT_S, Inbox, digest, new_id
from suite import until

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "protocol.rst").read_text()
DEVICE = "df682f01-7c3a-49fd-8f5f-72ce0b6e68c0"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
VARIES = {"port", "ws_port", "register_time", "agent"}


def blocks(text, language):
    found = re.findall(r"^\.\. code-block:: %s\n\n((?:    .*\n|\n)+)" % language, text, re.M)
    return [re.sub(r"^    ", "", block, flags=re.M).strip() for block in found]


def section(title):
    """From the title to the next one that is underlined in the same way."""
    _, rest = re.split(r"^%s\n(?=[-~]+$)" % re.escape(title), PAGE, maxsplit=1, flags=re.M)
    line, rest = rest.split("\n", 1)
    return re.split(r"^.+\n%s{3,}$" % line[0], rest, maxsplit=1, flags=re.M)[0]


def pairs(title):
    """[(request, answer)] of a section about an API."""
    found = [json.loads(b) for b in blocks(section(title), "json")]
    return [(request, answer) for request, answer in zip(found, found[1:])
            if "state" not in request and answer.get("state") and answer["op"] == request["op"]]


def shape(value, key=None):
    """The value without what differs from run to run; its type stays."""
    if key in VARIES or key == "rev" and isinstance(value, int):
        return type(value).__name__
    if isinstance(value, dict):
        return {k: shape(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [shape(v) for v in value]
    if isinstance(value, str):
        return UUID.sub(lambda m: m[0] if m[0] == DEVICE else "uuid", value)
    return value


class Example:
    """One of docs/examples as a process, its lines in an inbox."""

    def __init__(self, name, *args):
        self.popen = subprocess.Popen([sys.executable, str(DOCS / "examples" / name), *map(str, args)], text=True,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.lines = Inbox("line of " + name)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.popen.stdout:
            self.lines.put(line.rstrip("\n"))

    def line(self, start):
        return self.lines.get(lambda text: text.startswith(start))[len(start):].strip()

    def leave(self):
        """Ctrl-C. ret: what it still said"""
        self.popen.send_signal(signal.SIGINT)
        status = self.popen.wait(WAIT_S)
        self._reader.join(WAIT_S)
        assert status == 0, self.lines.take_all()
        return self.lines.take_all()

    def kill(self):
        self.popen.kill()
        self.popen.wait(WAIT_S)


@pytest.fixture
def example():
    made = []

    def make(*args):
        made.append(Example(*args))
        return made[-1]

    yield make
    for e in made:
        e.kill()


def run_both(suite, example):
    device = example("device.py", "--url", suite.url, "--every", "0.05")
    da_id = device.line("registered").split()[-1]
    graph = example("graph.py", da_id, "--host", "127.0.0.1", "--port", suite.mqtt_port)
    return device, graph, da_id


def test_numbers_come_back_squared(suite, example, clients):
    device, graph, da_id = run_both(suite, example)
    assert {device.line("CONNECT"), device.line("CONNECT")} == {"idf count", "odf result"}
    for n in range(1, 6):
        assert device.line("sent") == "[%d]" % n
    # the first ones may have come before the device had its subscription
    got = [json.loads(device.line("got"))[0] for _ in range(5)]
    roots = [round(g ** 0.5) for g in got]
    assert [r * r for r in roots] == got and roots == list(range(roots[0], roots[0] + 5))
    info = json.loads(graph.line("monitor"))["data"]
    n = info["idf"]["input"][0]
    assert (info["idf"]["id"], info["join"]["output"]) == ([da_id, "count"], n * n)
    assert info["odf"] == [{"id": [da_id, "result"], "output": [n * n]}]
    ops = ["attach", "add_funcs", "start_monitor", "set_join", "add_link", "add_link"]
    assert [line for line in graph.lines.take_all() if not line.startswith("monitor")] == [op + " ok " for op in ops]

    state = clients.mqtt(suite).subscribe(da_id + "/ctrl/i")
    assert state.get(lambda m: m.retain).json["state"] == "online"
    assert any(line.startswith("detach ok") for line in graph.leave())
    assert {device.line("DISCONNECT"), device.line("DISCONNECT")} == {"idf count", "odf result"}
    device.leave()
    assert state.get(lambda m: m.json["state"] == "offline")
    assert clients.http(suite).call("GET", "/" + da_id).status_code == 404


def test_examples_that_die_are_cleaned_up_by_their_last_wills(suite, example, clients):
    device, graph, da_id = run_both(suite, example)
    device.line("got")
    devices = clients.device_api(suite)
    assert devices.attach()[da_id]["state"] == "online"
    graph.kill()
    assert {device.line("DISCONNECT"), device.line("DISCONNECT")} == {"idf count", "odf result"}
    device.kill()
    devices.announced("offline", da_id)


def test_after_a_broken_connection(make_suite, example, clients):
    """The device comes back; the graph client's last will has ended its graph, and it says so."""
    suite = make_suite()
    device, graph, da_id = run_both(suite, example)
    assert {device.line("CONNECT"), device.line("CONNECT")} == {"idf count", "odf result"}
    lasting = clients.graph(suite).wire(da_id, "count", "result")
    device.line("got")
    suite.restart("broker")
    assert graph.popen.wait(WAIT_S) == 1
    graph.line("connection lost")
    assert {device.line("CONNECT"), device.line("CONNECT")} == {"idf count", "odf result"}
    device.lines.take_all()
    device.line("got")
    until(lambda: lasting.link(da_id, "odf", "result")["state"] == "connected", WAIT_S, "the graph that lasts")


def test_examples_are_short():
    for path in (DOCS / "examples").glob("*.py"):
        ast.parse(path.read_text())
        assert len(path.read_text().splitlines()) <= 60, path


def test_blocks_are_json_and_python():
    found = [json.loads(block) for block in blocks(PAGE, "json")]
    assert len(found) == PAGE.count(".. code-block:: json\n") > 30
    for block in blocks(PAGE, "python"):
        ast.parse(block)


def test_requests_are_answered_as_printed(make_suite, clients):
    suite = make_suite()
    request, answer = [json.loads(b) for b in blocks(section("Registering"), "json")]
    done = clients.http(suite).call("PUT", "/" + DEVICE, json=request)
    assert (done.status_code, shape(done.json())) == (200, shape(answer))

    mqtt = clients.mqtt(suite)
    for title, rest, ops in (
            ("The graph API", "graph/1", {"attach", "add_funcs", "rm_funcs", "check_funcs", "add_link", "rm_link", "set_df_func",
                                          "set_join", "start_monitor", "stop_monitor", "detach"}),
            ("The device API", "device", {"attach", "detach"})):
        answers = mqtt.subscribe("iottalk/api/res/page/" + rest)
        asked = pairs(title)
        assert {request["op"] for request, _ in asked} == ops
        for request, answer in asked:
            mqtt.publish("iottalk/api/req/page/" + rest, request)
            assert shape(answers.get().json) == shape(answer)


def test_errors_are_those_of_the_table(suite, clients):
    graph = clients.graph(suite)
    graph.ok("attach")
    graph.add_funcs("def run(x): return int(x)\n", "def run(x): return x ** 2\n")
    graph.ok("add_link", da_id=DEVICE, odf="meow", func=None)
    rows = re.findall(r"^   \* - ``(.*)``\n     - ``(.*)``$", section("Errors"), re.M)
    assert len(rows) == section("Errors").count("   * - ") - 1 > 20
    for request, reason in rows:
        json.loads(request)
        graph.mqtt.publish(graph.req, request)
        answer = graph.answers.get().json
        assert answer["state"] == "error", request
        pattern = reason.replace("[", "[[]").replace("...", "*")
        assert fnmatch.fnmatchcase(answer["reason"], pattern), (request, answer["reason"])
    for code, reason in (("run = 1\n", "`run` must be a function"), ("x = 1\n", "`run` not found"), ("x = (\n", "SyntaxError")):
        graph.add_funcs(code)
        assert reason in graph.refused("set_join", prev=None, new=digest(code))["reason"]


REFUSED = re.findall(r"^(4\d\d)  +``(.+?)``(?: +.*)?$", section("Registering"), re.M)
BASE = {"accept_protos": ["mqtt"], "profile": {"model": "AI"}}
BODIES = {  # (status, reason) of the table -> what to PUT
    "the body is not json: ...": b"{",
    "the body must be a json object": b"[]",
    "the body is nested deeper than 64 levels": json.dumps(dict(BASE, name=json.loads("[" * 70 + "]" * 70))).encode(),
    "`accept_protos` is required: a list of strings": {"profile": {"model": "AI"}},
    "`accept_protos` must be a list of strings": dict(BASE, accept_protos=1),
    "`accept_protos` can not be empty": dict(BASE, accept_protos=[]),
    "Invalid protocol: 'magic'": dict(BASE, accept_protos=["magic"]),
    "`idf_list` must be a list of features": dict(BASE, idf_list="x"),
    "`idf_list` can not be empty": dict(BASE, idf_list=[]),
    "`idf_list`: ...": dict(BASE, idf_list=[1]),
    "`profile` is required: a json object": {"accept_protos": ["mqtt"]},
    "`profile` must be a json object": dict(BASE, profile=1),
    "`profile.model` is required": dict(BASE, profile={}),
    "`name` must be a non-empty string": dict(BASE, name=""),
    "Unknown field: 'answer'": dict(BASE, answer=42),
    "body too large": b" " * (1024 * 1024 + 1),
}


def test_refusals_of_a_registration_are_those_of_the_table(suite, clients):
    http = clients.http(suite)
    http_json = {"Content-Type": "application/json"}
    special = {  # reason -> (path, headers, body)
        "the id must be a UUID": ("/cat", http_json, b"{}"),
        "Content-Type must be application/json": ("/" + new_id(), {"Content-Type": "text/plain"}, b"{}"),
        "Host does not name this machine": ("/" + new_id(), dict(http_json, Host="example.org"), b"{}"),
    }
    assert {reason for _, reason in REFUSED} == set(BODIES) | set(special)
    for status, reason in REFUSED:
        path, headers, body = special.get(reason) or ("/" + new_id(), http_json, BODIES[reason])
        done = http.call("PUT", path, headers=headers, data=body if isinstance(body, bytes) else json.dumps(body))
        assert done.status_code == int(status), (reason, done.text)
        assert fnmatch.fnmatchcase(done.json()["reason"], reason.replace("...", "*")), done.text


ALLOWED = re.search(r"\*\*Allowed\*\*: the modules ``([a-z. \n0-9]+)``", PAGE)[1].split()


def test_modules_that_are_said_to_be_there_can_be_imported(suite, clients):
    graph = clients.graph(suite)
    graph.ok("attach")
    codes = ["import %s\ndef run(x): return x\n" % name for name in ALLOWED]
    results = graph.ok("check_funcs", codes=codes)["results"]
    assert {name: r for name, r in zip(ALLOWED, results) if r["state"] != "ok"} == {}
    for name in ("sqlite3", "os", "sys", "socket"):
        refused = graph.ok("check_funcs", codes=["import %s\ndef run(x): return x\n" % name])["results"][0]
        assert refused["state"] == "error" and name in refused["reason"]
        assert all(allowed in refused["reason"] for allowed in ALLOWED)    # it names the list
