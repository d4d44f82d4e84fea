"""Functions that attack what is around their engine: descriptors, memory without any check, the rings themselves. Graphs of other
owners, broker and agent do not notice, and nothing is left behind."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from clients import GraphClient, Load, Recorder, Sdk
from suite import SANITIZED, process_table, until

BUDGET_S = 0.3
SETTINGS = {"engine.budget-ms": int(BUDGET_S * 1000), "engine.memory-mb": 256, "engine.per-owner": 1}
TRANSPORTS = ("client", "plugin")
PAGE = 4096 # what stands before a ring
LATE_S = 2.0  # on a machine with other things to do; what it really takes is printed

REAL = "real = print.__self__.__import__\n"
MODULES = REAL + "os, fcntl, signal, thread, gc, socket = [real(n) for n in ('posix', 'fcntl', '_signal', '_thread', 'gc', '_socket')]\n"
RAW_RUN = "def run(x):\n    if x:\n        learn(*x)\n        attack()\n    return x\n"
RUN = "def run(x):\n    if x: attack()\n    return x\n"

# all of memory as one bytearray; where the rings are is told, so that an attack hits what it is meant to in every layout of memory
RAW = REAL + '''
import struct, random
def make():
    # CPython does not check the index of LOAD_CONST: a constant that was never one
    most = (1 << 63) - 1
    shape = struct.pack("<7Q", 1 << 40, id(bytearray), most, most, 0, 0, 0)
    pointer = struct.pack("<Q", id(shape) + 32)
    keep = [shape]
    for n in range(100):
        consts = (None, str(n)) + (None,) * 200
        body = pointer + bytes(2000 + n)
        keep += [consts, body]
        off = id(body) + 32 - (id(consts) + 24)
        if 0 < off < 1 << 33 and off % 8 == 0:
            break
    else:
        raise ValueError("memory is not laid out as expected")
    def f(): return None
    code = bytes([151, 0])
    for shift in (27, 19, 11): code += bytes([144, off >> shift & 255])
    f.__code__ = f.__code__.replace(co_code=code + bytes([100, off >> 3 & 255, 83, 0]), co_consts=consts)
    return f(), keep
memory, keep = make()
def word(at): return int.from_bytes(memory[at:at + 8], "little")
def put(at, value): memory[at:at + 8] = value.to_bytes(8, "little")
def heap():
    held = [bytes(n) for n in range(600, 120000, 300)] # or it would shrink again
    return min(map(id, held)), max(map(id, held)), held
def learn(a, b, n):
    global there, out, size, IN_HEAD, OUT_TAIL, ASLEEP, DOING, IN_TAIL
    there, out, size = a, b, n
    IN_HEAD, OUT_TAIL, ASLEEP, DOING, IN_TAIL = out, out + 64, out + 128, out + 192, there + 64
dice = random.Random(SEED)
'''

HOSTILE = {
    "clearing O_NONBLOCK and filling every descriptor": MODULES + """
def attack():
    while True:
        for fd in range(1000):
            try: fcntl.fcntl(fd, 4, 0)
            except OSError: pass
            try: os.write(fd, b'x' * 65536)
            except OSError: pass
""",
    "duplicates of every descriptor": MODULES + """
def attack():
    made = []
    while True:
        for fd in range(10):
            try: made.append(os.dup(fd))
            except OSError: pass
""",
    "output of a gigabyte": "def attack():\n    for _ in range(1 << 14): print('x' * 65536)\n    while True: pass\n",
    "output in lines": "def attack():\n    while True: print('line')\n",
    "a regex that backtracks for ever": "import re\ndef attack(): re.match('(a+)+$', 'a' * 60 + 'b')\n",
    "a fork bomb": MODULES + "def attack():\n    while True:\n        try: os.fork()\n        except OSError: pass\n",
    "threads that outlive the call": MODULES + """
def busy():
    while True: pass
def attack():
    for _ in range(1000):
        try: thread.start_new_thread(busy, ())
        except RuntimeError: pass
    while True: pass
""",
    "signals to everybody": MODULES + """
def attack():
    while True:
        for pid in (os.getppid(), os.getpid(), 0, -1, 1, 2):
            for number in (9, 19, 11, 15):
                try: os.kill(pid, number)
                except OSError: pass
""",
    "an alarm and a handler": MODULES + """
def attack():
    for call in (lambda: signal.signal(signal.SIGSEGV, signal.SIG_IGN), lambda: signal.setitimer(0, 0.01, 0.01), lambda: signal.alarm(1),
                 lambda: signal.pthread_sigmask(0, range(1, 65))):
        try: call()
        except OSError: pass
    while True: pass
""",
    "sockets": MODULES + """
def attack():
    while True:
        for family in range(45):
            for kind in (1, 2, 3, 5):
                try: socket.socket(family, kind)
                except OSError: pass
        try: socket.socketpair()
        except OSError: pass
""",
    "files of others": MODULES + """
def attack():
    while True:
        for path in ('/etc/passwd', '/proc/1/environ', '/proc/self/mem', '/proc/self/maps', '/dev/mem', '/dev/shm/x', '/tmp/x', '.'):
            for flags in (0, 1, 2, 66, 0o200000):
                try: os.open(path, flags)
                except OSError: pass
                else: raise ValueError('opened ' + path)
""",
    "a destructor that never ends": """
class Never:
    def __del__(self):
        while True: pass
def attack():
    Never()
""",
    "every class there is": """
def attack():
    while True:
        for cls in object.__subclasses__():
            for name in list(vars(cls)):
                try: setattr(cls, name, None)
                except Exception: pass
            try: cls()
            except Exception: pass
""",
    "builtins that lie": REAL + "builtins = real('builtins')\n" + """
def attack():
    for name in list(vars(builtins)): setattr(builtins, name, None)
    while 1: pass
""",
    "random addresses": RAW + "def attack():\n    while True: put(dice.randrange(1 << 47), dice.getrandbits(64))\n",
    "the heap": RAW + "def attack():\n    lo, hi, held = heap()\n    while True: put(dice.randrange(lo, hi), dice.getrandbits(64))\n",
    "the out-ring": RAW + "def attack():\n    while True: put(out + dice.randrange(4096 + size), dice.getrandbits(64))\n",
    "the cursors": RAW + "def attack():\n    while True: put(out + 8 * dice.randrange(32), dice.getrandbits(dice.randrange(1, 65)))\n",
    "cursors that are almost right": RAW + """
def attack():
    while True:
        put(IN_HEAD, word(IN_TAIL) - dice.randrange(64))
        put(OUT_TAIL, word(there + 128) + 8 * dice.randrange(64))
""",
    "forged records": RAW + """
def attack():
    while True:
        tail = word(OUT_TAIL)
        for _ in range(dice.randrange(1, 50)):
            length = dice.choice((0, 1, 100, 65536, 1 << 20))
            at = out + 4096 + tail % size
            if tail % size + 16 < size:
                memory[at:at + 16] = struct.pack('<IIBB6x', length, dice.choice((0, 1, 2, 1 << 31)), dice.randrange(4), dice.randrange(256))
            tail += 16 + (length + 7 & ~7)
        put(OUT_TAIL, tail)
""",
    "an in-ring that is not its own to write": RAW + "def attack():\n    put(IN_TAIL, 0)\n",
    "a doing that changes all the time": RAW + "def attack():\n    while True: put(DOING, dice.getrandbits(64))\n",
    "a doing that counts links": RAW + """
def attack():
    while True:
        for lid in range(1000): put(DOING, word(DOING) & ~0xffffffff | lid)
""",
    "a sleep that is none": RAW + "def attack():\n    while True: put(ASLEEP, 1)\n",
    "all messages done": RAW + "def attack():\n    put(IN_HEAD, word(IN_TAIL))\n    while True: pass\n",
    "a doing of nothing": RAW + "def attack():\n    put(DOING, 0)\n    while True: pass\n",
}
# a message is given so many budgets in all, whatever its functions are said to be
BUDGETS = {"a doing that changes all the time": 10, "a doing that counts links": 10, "forged records": 10}
# may end by an exception as well, in an engine that crashes at some later time
MAY_LIVE = ("the heap",)
took = {}


class Neighbour:
    """A graph of another owner with a steady flow through it."""

    def __init__(self, suite, name):
        self.sdk = Sdk(suite, data_qos=1)
        suite.closing.append(self.sdk)
        self.graph = GraphClient(self.sdk).wire(self.sdk.da_id, "meow", "meow", "def run(x): return x\n", owner=name)
        self.sdk.until_connected(("idf", "meow"), ("odf", "meow"))
        self.recorder = Recorder(self.sdk, self.sdk.topics[("odf", "meow")])
        self.engine = suite.engine_of(self.graph)
        self.load = Load(self.sdk, "meow", 100)

    def goes_on(self, n=10):
        count = len(self.recorder.values)
        self.recorder.until(lambda values, times: len(values) >= count + n, 5)

    def missed_nothing(self):
        sent = self.load.stop()
        if sent:
            self.recorder.until_value(sent - 1)
        assert list(self.recorder.values) == list(range(sent))


@pytest.fixture(scope="module")
def neighbour(suite):
    n = Neighbour(suite, "neighbour")
    n.goes_on()
    yield n
    n.missed_nothing()
    print("\nfrom push to fall, s:", ", ".join("%s %.2f" % item for item in sorted(took.items(), key=lambda i: -i[1])))


@pytest.fixture(scope="module")
def at_rest(suite, neighbour):
    """What each process had open before the first attack."""
    return {name: open_fds(suite, name) for name in ("agent", "broker", "keeper")}


def open_fds(suite, name):
    pid = suite.keeper_pids()[0] if name == "keeper" else suite.pid(name)
    return len(os.listdir("/proc/%d/fd" % pid))


def falls(suite):
    return suite.processes["agent"].log().count(" engine.ended ")


class Culprit:
    def __init__(self, suite, clients, code, owner="hostile", **kw):
        self.suite = suite
        self.sdk = clients.sdk(suite, **kw)
        self.g = clients.graph(suite)
        self.g.wire(self.sdk.da_id, "meow", "meow", code, owner=owner)
        self.monitor = self.g.monitor()
        self.sdk.until_connected(("idf", "meow"), ("odf", "meow"))

    def works(self):
        self.sdk.push("meow", [0])
        assert self.sdk.data.get(lambda d: d[1] == 0)

    def end(self):
        if self.g is not None:
            self.g.ok("detach")
            self.sdk.close()
        self.g = None

    def release(self):
        self.suite.control("agent", {"op": "release", "graph": "%s/%s" % (self.g.client_id, self.g.graph)})


@pytest.fixture
def culprits(suite, clients):
    """Makes culprits; what a test that fails left of them would be counted against the next."""
    made = []

    def make(*args, **kw):
        made.append(Culprit(suite, clients, *args, **kw))
        return made[-1]

    yield make
    for culprit in made:
        culprit.end()


def ended(pid):
    return pid not in process_table()


def rings_of(suite, g):
    """[in, out, bytes of out]: where the engine of a graph has its rings in its memory."""
    def look():
        at = {}
        try:
            for line in Path("/proc/%d/maps" % suite.engine_of(g)).read_text().splitlines():
                for name in ("in", "out"):
                    if line.endswith("/memfd:iottalk-%s (deleted)" % name):
                        at[name] = [int(n, 16) for n in line.split()[0].split("-")]
        except PermissionError:
            pytest.skip("only root may see where an engine has its rings")
        except (FileNotFoundError, ProcessLookupError):
            pass # it fell just now
        return len(at) == 2 and [at["in"][0], at["out"][0], at["out"][1] - at["out"][0] - PAGE]

    return until(look, 5, "the rings of an engine")


@pytest.mark.parametrize("name", HOSTILE)
def test_others_do_not_notice(suite, culprits, neighbour, at_rest, name):
    seed = random.SystemRandom().getrandbits(32)
    print("seed", seed)
    raw = HOSTILE[name].startswith(RAW)
    code = HOSTILE[name] + (RAW_RUN if raw else RUN)
    if raw and SANITIZED:
        pytest.skip("a sanitizer lays memory out differently, and reports what is meant")
    culprit = culprits(code.replace('SEED', str(seed)))
    culprit.works()
    culprit.monitor.take_all()
    engine = suite.engine_of(culprit.g)
    attack = rings_of(suite, culprit.g) if raw else 1
    began = time.monotonic()
    culprit.sdk.push("meow", [attack], wait=False)
    until(lambda: ended(engine) or name in MAY_LIVE and len(culprit.monitor) > 0, 2 * BUDGET_S * BUDGETS.get(name, 1) + LATE_S,
          "the end of the engine of '%s'" % name, every=0.002)
    took["%s/%s" % (name, suite.transport)] = time.monotonic() - began
    neighbour.goes_on()
    if name in MAY_LIVE:
        until(lambda: ended(engine) or os.kill(engine, signal.SIGKILL), 5, "its end")
    culprit.works()
    assert suite.engine_of(neighbour.graph) == neighbour.engine
    culprit.end()
    for process, before in at_rest.items():
        until(lambda: open_fds(suite, process) <= before + 14, 15, "descriptors of %s as before (%d, now %d)" % (
            process, before, open_fds(suite, process)))


@pytest.mark.skipif(SANITIZED, reason="a sanitizer lays memory out differently")
@pytest.mark.limit(240)
def test_a_million_writes_from_inside_a_function(suite, culprits, neighbour, at_rest):
    """Engine after engine writes until it falls; the graph is released each time, or it would be quarantined."""
    seed = random.SystemRandom().getrandbits(32)
    print("seed", seed)
    code = RAW.replace("SEED", str(seed)) + """
ways = [
    lambda: put(out + dice.randrange(4096 + size - 8), dice.getrandbits(64)),
    lambda: put(out + 4096 + dice.randrange(size - 8), dice.getrandbits(64)),
    lambda: put(out + 4096 + word(OUT_TAIL) % size % (size - 600) + dice.randrange(512), dice.getrandbits(64)),
    lambda: put(out + 8 * dice.randrange(64), dice.getrandbits(dice.randrange(1, 65))),
]
def run(n, way):
    if n == 0:
        if way: learn(*way)
        return [n, way]
    write = ways[way]
    for _ in range(n): write()
    return [n, way]
"""
    culprit = culprits(code, owner="scribbler", data_qos=0)
    rss = {name: suite.rss_kb(name) for name in ("agent", "broker")}
    before = falls(suite)
    writes = 0
    while writes < 1000000:
        # the cursors last, for long enough that somebody looks at them in the meantime
        for way, n in ((1, 60000), (2, 60000), (0, 20000), (3, 60000)):
            culprit.release()
            fallen, told = falls(suite), len(culprit.sdk.data)
            culprit.sdk.push("meow", [0, rings_of(suite, culprit.g)], 1)
            culprit.sdk.push("meow", [n, way], 1)
            until(lambda: falls(suite) > fallen or len(culprit.sdk.data) >= told + 2, 10, "the end of the writes")
            writes += n if falls(suite) == fallen else 0
        neighbour.goes_on()
    print(falls(suite) - before, "engines fell, the neighbour got", len(neighbour.recorder.values))
    assert falls(suite) > before, culprit.monitor.take_all()
    assert suite.engine_of(neighbour.graph) == neighbour.engine
    culprit.release()
    deadline = time.monotonic() + 30
    while True:
        culprit.sdk.push("meow", [0, 0], 1)
        try:
            culprit.sdk.data.get(lambda d: d[1] == [0, 0], 1)
            break
        except AssertionError:
            assert time.monotonic() < deadline, "the graph does not come back"
            culprit.release()
    for name, kb in rss.items():
        assert suite.rss_kb(name) < kb + 16384, (name, kb, suite.rss_kb(name))
