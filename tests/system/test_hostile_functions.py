"""User functions that hang, eat memory, end the process: other graphs are back within a second, the culprit is told on its own
monitor (design: what survives what)."""

import pytest

import stopwatch
from clients import GraphClient, Sdk, digest
from suite import SANITIZED, until

# all in one engine, where they can harm each other
SETTINGS = {"engine.budget-ms": 500, "engine.memory-mb": 256, "engine.per-owner": 1}
OWNER = "hostile"
WITHIN_S = 1.0

# what the list of modules does not hold is reached in other ways
REAL = "real = print.__self__.__import__\n"
OS = "import random\nos = random._os\n"

HOSTILE = {
    # name: (source, what the monitor must tell (None: it need not be told), budget that passes before help can come)
    "an endless loop": ("def run(x):\n    while x: pass\n    return x\n", "budget", 0.5),
    "an endless loop in C": ("def run(x):\n    return sum(range(10 ** 18)) if x else x\n", "budget", 0.5),
    "a loop that catches everything": ("def run(x):\n    while x:\n        try:\n            while True: pass\n        except BaseException: pass\n"
                                       "    return x\n", "budget", 0.5),
    "a long sleep": ("import time\ndef run(x):\n    if x: time.sleep(1000)\n    return x\n", "budget", 0.5),
    "allocation without end": ("def run(x):\n    a = []\n    while x: a.append(bytearray(1 << 20))\n    return x\n", "emory", 0),
    "allocation in small pieces": ("def run(x):\n    a = []\n    while x: a.append([0])\n    return x\n", "", 0.5),
    "one giant allocation": ("def run(x):\n    return len(bytearray(1 << 40)) if x else x\n", "emory", 0),
    "a giant number": ("def run(x):\n    return (1 << (1 << 33)) % 7 if x else x\n", "", 0.5),
    "os._exit": (OS + "def run(x):\n    if x: os._exit(0)\n    return x\n", "", 0),
    "SystemExit": ("def run(x):\n    if x: raise SystemExit\n    return x\n", "SystemExit", 0),
    "a signal to itself": (OS + "def run(x):\n    if x: os.kill(os.getpid(), 9)\n    return x\n", "", 0),
    "abort": (OS + "def run(x):\n    if x: os.abort()\n    return x\n", "", 0),
    "a crash of the interpreter": ("crash = (lambda: 0).__code__.replace(co_code=bytes([151, 0] + [1, 0] * 100))\n"
                                      "def run(x):\n    if x: exec(crash)\n    return x\n", "", 0),
    "closing all descriptors": (OS + "def run(x):\n    if x: os.closerange(0, 1000)\n    return x\n", None, 0.5),
    "an exception with a NUL in its text": ("def run(x):\n    if x: raise ValueError('a\\0b')\n    return x\n", "ValueError", 0),
    "half a frame to the agent": (OS + "def run(x):\n    if x: os.write(3, b'\\xff\\xff\\xff\\0')\n    return x\n", "PermissionError", 0),
    "stealing requests": (OS + "def run(x):\n    if x: os.read(3, 1 << 20)\n    return x\n", "PermissionError", 0),
    "a spoilt linecache": (REAL + "linecache = real('linecache')\nlinecache.cache = None\ndef run(x): return 1 / 0 if x else x\n", "ZeroDivisionError", 0),
    "no builtins": ("def run(x):\n    if x:\n        print.__self__.__dict__.clear()\n        __builtins__.clear()\n    return x\n", None, 0),
    "walking all objects": (REAL + "gc = real('gc')\ndef run(x):\n    if x:\n        for o in gc.get_objects():\n"
                            "            if isinstance(o, dict) and o is not globals(): o.clear()\n    return x\n", None, 0.5),
    "deep recursion": (REAL + "real('sys').setrecursionlimit(10 ** 9)\ndef run(x):\n    return run(x) if x else x\n", "", 0.5),
}


@pytest.fixture(scope="module")
def bystander(suite):
    """Another graph of another client: it counts messages in a global."""
    return Bystander(suite)


class Bystander:
    def __init__(self, suite):
        self.sdk = Sdk(suite)
        suite.closing.append(self.sdk)
        self.graph = GraphClient(self.sdk).wire(self.sdk.da_id, "meow", "meow", "def run(x): return x + 1\n", owner=OWNER)
        self.sdk.until_connected(("idf", "meow"), ("odf", "meow"))

    def passes_within(self, seconds):
        began = stopwatch.now()
        self.sdk.push("meow", [1])
        assert self.sdk.received("meow") == 2
        took = stopwatch.now() - began
        assert took < seconds, "the other graph was back after %.2f s" % took


@pytest.mark.parametrize("name", HOSTILE)
def test_others_are_back_within_a_second_and_the_culprit_is_told(suite, clients, bystander, name):
    code, word, budget_s = HOSTILE[name]
    if SANITIZED and name in ("abort", "allocation without end", "one giant allocation"):
        pytest.skip("a sanitizer reports the crash, and leaves memory without a limit")
    sdk = clients.sdk(suite)
    g = clients.graph(suite)
    g.ok("attach", owner=OWNER)
    g.add_funcs(code)
    answer = g.request("add_link", da_id=sdk.da_id, idf="meow", func=digest(code))
    assert answer["state"] == "ok", answer
    g.ok("add_link", da_id=sdk.da_id, odf="meow", func=None)
    monitor = g.monitor()
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    sdk.push("meow", [0])
    assert sdk.received("meow") == 0
    monitor.take_all()
    bystander.passes_within(WITHIN_S)
    sdk.push("meow", [1], 1)
    # the time budget runs before anybody can be helped
    bystander.passes_within(budget_s + WITHIN_S)
    if word is not None:
        told = monitor.get(lambda m: m.json["op"] == "esm_error").json["data"]
        assert told["msg"].startswith("idf function failure:\n") and word in told["msg"], told
        assert told["src"] == code
    # nobody else is blamed, and the graph itself works again
    sdk.push("meow", [0])
    assert sdk.data.get(lambda d: d[1] == 0)
    assert g.link(sdk.da_id, "idf", "meow")["state"] == "connected"


@pytest.mark.parametrize("module", ["os", "ctypes", "socket", "_io", "importlib.util", "not_there_at_all"])
def test_a_module_that_is_not_on_the_list_is_refused_with_the_list(suite, clients, bystander, module):
    code = "import %s\ndef run(x): return x\n" % module
    g = clients.graph(suite)
    g.ok("attach")
    g.add_funcs(code)
    answer = g.request("add_link", da_id=bystander.sdk.da_id, idf="meow", func=digest(code))
    assert answer["state"] == "error"
    assert "ImportError: module '%s' may not be imported; a function may import: base64, bisect, " % module in answer["reason"]
    bystander.passes_within(WITHIN_S)


@pytest.mark.parametrize("stage", ["join", "odf"])
def test_the_culprits_stage_is_named(suite, clients, bystander, stage):
    code = "def run(x):\n    while x: pass\n    return x\n"
    sdk = clients.sdk(suite)
    g = clients.graph(suite)
    g.wire(sdk.da_id, "meow", "meow", **{"join" if stage == "join" else "odf_func": code}, owner=OWNER)
    monitor = g.monitor()
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    sdk.push("meow", [1])
    told = monitor.get(lambda m: m.json["op"] == "esm_error").json["data"]
    assert told["msg"].startswith("%s function failure:\n" % stage) and told["src"] == code
    bystander.passes_within(WITHIN_S)


def test_of_two_graphs_on_one_link_only_the_hanging_one_is_blamed(suite, clients, bystander):
    hang, fine = "def run(x):\n    while x: pass\n    return x\n", "def run(x): return x\n"
    sdk = clients.sdk(suite, odf=("a", "b"))
    guilty, innocent = clients.graph(suite), clients.graph(suite)
    innocent.wire(sdk.da_id, "meow", "a", fine, owner=OWNER)
    guilty.wire(sdk.da_id, "meow", "b", hang, owner=OWNER)
    watch, blamed = innocent.monitor(), guilty.monitor()
    sdk.until_connected(("idf", "meow"), ("odf", "a"), ("odf", "b"))
    sdk.push("meow", [1])
    blamed.get(lambda m: m.json["op"] == "esm_error")
    bystander.passes_within(WITHIN_S)
    assert not [m for m in watch.take_all() if m.json["op"] == "esm_error"]


@pytest.mark.parametrize("code, word", [("while True: pass\n", "budget"), (OS + "os._exit(1)\n", ""),
                                        ("a = []\nwhile True: a.append(bytearray(1 << 20))\n", "")], ids=["loop", "exit", "memory"])
def test_a_function_that_does_harm_while_loading_is_refused(suite, clients, bystander, code, word):
    g = clients.graph(suite)
    g.ok("attach", owner=OWNER)
    da_id = bystander.sdk.da_id
    g.add_funcs(code)
    g.refused("add_link", word, da_id=da_id, idf="meow", func=digest(code))
    bystander.passes_within(WITHIN_S)
    g.refused("set_join", word, prev=None, new=digest(code))
    bystander.passes_within(WITHIN_S)
    assert g.state()["links"] == [] and g.state()["join"] is None


FORBIDDEN = {
    "reading a file": "open('/etc/passwd').read()", "writing a file": "open('/tmp/iottalk-proof', 'w').write('x')",
    "a socket": "__import__('socket').socket().connect(('127.0.0.1', 1))", "a process": "__import__('subprocess').run(['true'])",
    "fork": "__import__('os').fork()", "exec": "__import__('os').execv('/bin/true', ['true'])",
    "a thread's clone": "__import__('_thread').start_new_thread(print, ())", "killing the parent": "__import__('os').kill(__import__('os').getppid(), 9)",
    "killing everybody": "__import__('os').kill(-1, 9)", "listing a folder": "__import__('os').listdir('/')",
    "removing a file": "__import__('os').remove('/etc/passwd')", "changing the folder": "__import__('os').chdir('/tmp')",
    "a pipe's other end": "__import__('os').open('/proc/self/fd/3', 2)",
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_an_engine_can_do_nothing_to_its_surroundings(suite, clients, bystander, name):
    code = REAL + "def run(x):\n    return [str(%s)] if x else x\n" % FORBIDDEN[name].replace("__import__(", "real(")
    sdk = clients.sdk(suite)
    g = clients.graph(suite)
    g.wire(sdk.da_id, "meow", "meow", code, owner=OWNER)
    monitor = g.monitor()
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    sdk.push("meow", [1])
    told = monitor.get(lambda m: m.json["op"] == "esm_error").json["data"]
    assert told["msg"].startswith("idf function failure:\n")
    bystander.passes_within(WITHIN_S)
    assert suite.processes["agent"].runs()
    sdk.push("meow", [0])
    assert sdk.received("meow") == 0


def test_hanging_again_and_again_leaks_nothing(suite, clients, bystander):
    sdk = clients.sdk(suite)
    g = clients.graph(suite)
    g.wire(sdk.da_id, "meow", "meow", OS + "def run(x):\n    if x: os._exit(1)\n    return x\n", owner=OWNER)
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    sdk.push("meow", [1])
    bystander.passes_within(5)
    fds, engines = suite.open_fds("agent"), len(suite.engine_pids())
    restarts = suite.engine_restarts()
    for _ in range(15):
        # or it would be moved, and quarantined
        assert suite.control("agent", {"op": "release", "graph": "%s/%s" % (g.client_id, g.graph)})["state"] == "ok"
        sdk.push("meow", [1])
        bystander.passes_within(5)
    until(lambda: suite.open_fds("agent") <= fds + 2, 5, "descriptors as before (%d)" % fds)
    assert len(suite.engine_pids()) <= engines
    assert suite.engine_restarts() >= restarts + 15


def test_the_budget_is_that_of_one_evaluation(suite, clients, bystander):
    """A message that goes through many functions may take longer than each of them may: it is not skipped."""
    slow = "import time\ndef run(x):\n    time.sleep(0.3)\n    return x\n"
    sdk = clients.sdk(suite)
    clients.graph(suite).wire(sdk.da_id, "meow", "meow", slow, slow, slow, owner=OWNER)
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    sdk.push("meow", [7])
    assert sdk.received("meow") == 7


def test_a_type_with_a_long_foreign_name_is_told_whole(suite, clients, bystander):
    sdk = clients.sdk(suite)
    g = clients.graph(suite).wire(sdk.da_id, "meow", "meow", "def run(x): return type('\\u4e2d' * 60, (), {})()\n", owner=OWNER)
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    monitor = sdk.subscribe(g.ok("start_monitor")["monitor_topics"])
    sdk.push("meow", [1])
    error = monitor.get(lambda m: m.json["op"] == "esm_error").json
    assert "\u4e2d has no JSON" in error["data"]["msg"]
    bystander.passes_within(WITHIN_S)


# what is said to the agent goes through a socket that the function finds
SAY = REAL + """socket = real('_socket')
def say(data):
    agent, left = socket.socket(1, 1, 0, 3), memoryview(data)
    while left:
        try:
            left = left[agent.send(left):]
        except BlockingIOError:
            pass
"""

SAID = {
    "much in few bytes": "b = b'{\"op\":\"stats\",\"drops\":[[]' + b',[]' * 5000000 + b']}'\n"
                         "        say(len(b).to_bytes(4, 'little') + b)\n",
    "no JSON": "say((9).to_bytes(4, 'little') + b'{\"op\": no')\n",
    "no object": "say((9).to_bytes(4, 'little') + b'[1,2,3,4]')\n",
    "a frame too long": "say(b'\\xff' * 8)\n",
}


@pytest.mark.parametrize("name", SAID)
def test_what_a_function_says_to_the_agent_is_its_own_end_only(suite, clients, bystander, name):
    code = SAY + "def run(x):\n    if x:\n        " + SAID[name] + "        while True: pass\n    return x\n"
    sdk = clients.sdk(suite)
    g = clients.graph(suite)
    g.wire(sdk.da_id, "meow", "meow", code, owner=OWNER)
    monitor = g.monitor()
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    sdk.push("meow", [0])
    assert sdk.received("meow") == 0
    pid = suite.processes["agent"].pid
    with open("/proc/%d/clear_refs" % pid, "w") as f:
        f.write("5")  # the peak begins anew
    before = peak_kb(pid)
    sdk.push("meow", [1])
    bystander.passes_within(WITHIN_S)
    told = monitor.get(lambda m: m.json["op"] == "esm_error").json["data"]
    assert "budget" not in told["msg"] and "signal 9" not in told["msg"], told
    if not SANITIZED:
        assert peak_kb(pid) < before + 128 * 1024
    graph = suite.control("agent", {"op": "graph", "graph": "%s/%s" % (g.client_id, g.graph)})["graph"]
    assert [s["strikes"] for s in graph["strikes"]] == [1], graph


def peak_kb(pid):
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM:"))
