"""Agent and engine of the broker plugin, made from docs/ring.rst, docs/plugin-protocol.rst and common/plug.h alone; and a
mosquitto of a test's own to load it into."""

import array
import ctypes
import fcntl
import itertools
import mmap
import os
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from suite import PLUGIN, free_ports, until

WAIT_S = 10
MOSQUITTO = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")

HELLO, PORT_ADD, PORT_HOLD, PORT_RETIRE, PORT_RESUME, PORT_REMOVE, TAP, UNTAP, OUT, DROP_OUT, LIST, STATS, SLOT_STATS, \
    ECHO, PUBLISH, SWEEP = range(1, 17)
BROKEN, FED = 100, 101
LIVING, MORE, SKIP, OUTWARD, SANE, AT_MESSAGE = 1, 2, 4, 8, 16, 32
RUNNING, HELD, STATE_BROKEN = range(3)
VERSION = 1
TEXT_MAX = 65535
REQUEST = struct.Struct("=6I")
ANSWER = struct.Struct("=IIiIIIQQQII")

ERRORS = {"ENOENT": -2, "EAGAIN": -11, "ENOMEM": -12, "EACCES": -13, "EEXIST": -17, "EINVAL": -22, "ERANGE": -34,
          "PARSE": -1000, "PEER": -1004, "SYS": -1005, "LIMIT": -1006, "CONFLICT": -1007}

PAGE = 4096
HEADER = struct.Struct("=IIBB6x")
MAGIC, RING_VERSION = 0x31504154, 2
IN_TAIL, OUT_HEAD, TRUSTED_ASLEEP, START, FOLLOWED = 64, 128, 192, 256, 320  # in-memfd
IN_HEAD, OUT_TAIL, ENGINE_ASLEEP, DOING = 0, 64, 128, 192                    # out-memfd
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


def memfd(name, size, first=b""):
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    os.pwrite(fd, first, 0)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS | fcntl.F_SEAL_SEAL)
    return fd


class Rings:
    """What the agent makes and keeps: two memfds and two pipes."""

    def __init__(self, in_bytes=1 << 16, out_bytes=1 << 16):
        self.in_bytes, self.out_bytes = in_bytes, out_bytes
        self.in_fd = memfd("in", PAGE + in_bytes, struct.pack("=IIQQ", MAGIC, RING_VERSION, in_bytes, out_bytes))
        self.in_ro_fd = os.open("/proc/self/fd/%d" % self.in_fd, os.O_RDONLY)
        self.out_fd = self.wake_r = self.wake_w = self.result_r = self.result_w = -1
        self.map = mmap.mmap(self.in_fd, PAGE + in_bytes)
        self.next_engine()

    def word(self, at):
        return struct.unpack_from("=Q", self.map, at)[0]

    def next_engine(self):
        """A new out-memfd, whose cursors are where a retired port said, and new pipes."""
        self._close("out_fd", "wake_r", "wake_w", "result_r", "result_w")
        page = bytearray(PAGE)
        struct.pack_into("=Q", page, IN_HEAD, self.word(START))
        struct.pack_into("=Q", page, OUT_TAIL, self.word(OUT_HEAD))
        self.out_fd = memfd("out", PAGE + self.out_bytes, bytes(page))
        self.wake_r, self.wake_w = os.pipe()
        self.result_r, self.result_w = os.pipe()
        for fd in (self.wake_r, self.result_w):
            os.set_blocking(fd, False)

    def fds(self):
        return [self.in_fd, self.out_fd, self.wake_w, self.result_r]

    def engine_fds(self):
        return [self.out_fd, self.wake_w, self.result_r]

    def _close(self, *names):
        for name in names:
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)

    def close(self):
        self.map.close()
        self._close("in_fd", "in_ro_fd", "out_fd", "wake_r", "wake_w", "result_r", "result_w")


class Ring:
    """One memfd's ring of records behind its page."""

    def __init__(self, fd, size, writable):
        self.size = size
        self.map = mmap.mmap(fd, PAGE + size, prot=mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0))

    def word(self, at):
        return struct.unpack_from("=Q", self.map, at)[0]

    def set_word(self, at, value):
        ctypes.c_uint64.from_buffer(self.map, at).value = value

    def read(self, at, n):
        at &= self.size - 1
        first = min(n, self.size - at)
        return self.map[PAGE + at:PAGE + at + first] + self.map[PAGE:PAGE + n - first]

    def write(self, at, data):
        at &= self.size - 1
        first = min(len(data), self.size - at)
        self.map[PAGE + at:PAGE + at + first] = data[:first]
        self.map[PAGE:PAGE + len(data) - first] = data[first:]


def padded(n):
    return HEADER.size + (n + 7 & ~7)


class Record:
    def __init__(self, slot, qos, payload):
        self.slot, self.qos, self.payload = slot, qos, payload

    def __eq__(self, other):
        return (self.slot, self.qos, self.payload) == (other.slot, other.qos, other.payload)

    def __repr__(self):
        return "<slot %d QoS %d, %d bytes %r>" % (self.slot, self.qos, len(self.payload), self.payload[:60])


class Engine:
    """Reads messages, writes results; sleeps and kicks as the rules say."""

    def __init__(self, rings):
        self.rings = rings
        self.ring_in = Ring(rings.in_ro_fd, rings.in_bytes, False)
        self.ring_out = Ring(rings.out_fd, rings.out_bytes, True)
        self.wake = os.dup(rings.wake_r)
        self.result = os.dup(rings.result_w)
        self.head = self.ring_in.word(START)
        self.tail = self.ring_in.word(OUT_HEAD)
        self.ring_out.set_word(IN_HEAD, self.head)
        self.ring_out.set_word(OUT_TAIL, self.tail)

    def next(self):
        """ret: the next record without consuming it, None: there is none"""
        there = self.ring_in.word(IN_TAIL) - self.head
        assert 0 <= there <= self.ring_in.size
        if there == 0:
            return None
        length, slot, qos, flags = HEADER.unpack(self.ring_in.read(self.head, HEADER.size))
        assert qos <= 2 and flags == 0 and padded(length) <= there
        return Record(slot, qos, self.ring_in.read(self.head + HEADER.size, length))

    def consume(self):
        length = HEADER.unpack(self.ring_in.read(self.head, HEADER.size))[0]
        self.head += padded(length)
        self.ring_out.set_word(IN_HEAD, self.head)

    def _asleep(self, yes):
        ctypes.c_uint32.from_buffer(self.ring_out.map, ENGINE_ASLEEP).value = yes
        os.getppid()  # a system call: what was written is seen before what is read from now on

    def take(self, timeout=WAIT_S):
        """ret: the next record, consumed; sleeps until there is one."""
        deadline = time.monotonic() + timeout
        while True:
            record = self.next()
            if record is None:
                self._asleep(1)
                record = self.next()
                if record is None:
                    left = deadline - time.monotonic()
                    assert left > 0, "no message on the ring within %s s" % timeout
                    if select.select([self.wake], [], [], left)[0]:
                        os.read(self.wake, 4096)
                    self._asleep(0)
                    continue
                self._asleep(0)
            self.consume()
            return record

    def nothing(self):
        """No message is there; for after something that the broker did later."""
        record = self.next()
        assert record is None, record

    def reply(self, slot, payload, qos=0, kick=True):
        """ret: False if there is no room."""
        need = padded(len(payload))
        if self.tail + need - self.ring_in.word(OUT_HEAD) > self.ring_out.size:
            return False
        self.ring_out.write(self.tail, HEADER.pack(len(payload), slot, qos, 0) + payload)
        self.tail += need
        self.ring_out.set_word(OUT_TAIL, self.tail)
        os.getppid()
        if kick and struct.unpack_from("=I", self.ring_in.map, TRUSTED_ASLEEP)[0]:
            self.kick()
        return True

    def kick(self):
        try:
            os.write(self.result, b"k")
        except BlockingIOError:
            pass

    def close(self):
        os.close(self.wake)
        os.close(self.result)


class Answer:
    def __init__(self, packet):
        self.op, self.seq, self.code, self.port, self.slot, self.flags, self.a, self.b, self.c, length, zero = \
            ANSWER.unpack_from(packet)
        self.text = packet[ANSWER.size:]
        assert length == len(self.text) and zero == 0

    def __repr__(self):
        return "<op %d code %d port %d slot %d flags %d %d %d %d %r>" % (
            self.op, self.code, self.port, self.slot, self.flags, self.a, self.b, self.c, self.text[:200])


class Agent:
    """One connection to the plugin."""

    def __init__(self, path, hello=True):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(str(path))
        self.seqs = itertools.count(1)
        self.events = []
        if hello:
            self.born = self.ok(HELLO, slot=VERSION).a

    def send(self, op, text=b"", fds=(), port=0, slot=0, flags=0, length=None):
        seq = next(self.seqs)
        text = text.encode() if isinstance(text, str) else text
        head = REQUEST.pack(op, seq, port, slot, flags, len(text) if length is None else length)
        socket.send_fds(self.socket, [head + text], list(fds))
        return seq

    def receive(self, timeout=WAIT_S):
        self.socket.settimeout(timeout)
        packet = self.socket.recv(ANSWER.size + TEXT_MAX)
        if not packet:
            raise ConnectionError("the plugin has hung up")
        return Answer(packet)

    def answer(self, seq):
        while True:
            answer = self.receive()
            if answer.seq == seq:
                return answer
            assert answer.seq == 0, answer  # in order: nothing but events comes before
            self.events.append(answer)

    def request(self, op, *args, **kw):
        return self.answer(self.send(op, *args, **kw))

    def ok(self, op, *args, **kw):
        answer = self.request(op, *args, **kw)
        assert answer.code == 0, answer
        return answer

    def refused(self, error, op, *args, **kw):
        answer = self.request(op, *args, **kw)
        assert answer.code == ERRORS[error], answer
        assert answer.text, "a refusal says why"
        return answer

    def has_event(self, op, port):
        """Whether it came; takes it."""
        while select.select([self.socket], [], [], 0)[0]:
            self.events.append(self.receive())
        for event in self.events:
            if (event.op, event.port) == (op, port):
                self.events.remove(event)
                return True
        return False

    def event(self, op, port, timeout=WAIT_S):
        deadline = time.monotonic() + timeout
        while True:
            for event in self.events:
                if (event.op, event.port) == (op, port):
                    self.events.remove(event)
                    return event
            left = deadline - time.monotonic()
            assert left > 0, "no event %d of port %d" % (op, port)
            answer = self.receive(left)
            assert answer.seq == 0, answer
            self.events.append(answer)

    def many(self, op, port):
        """The answers of LIST and SLOT_STATS."""
        seq, found = self.send(op, port=port), []
        while True:
            answer = self.answer(seq)
            assert answer.code == 0, answer
            if not answer.flags & MORE:
                self.last = answer
                return found
            found.append(answer)

    def list(self, port):
        """{(is an out topic, slot): topic}"""
        return {(bool(a.flags & OUTWARD), a.slot): a.text.decode() for a in self.many(LIST, port)}

    def slot_stats(self, port):
        """{slot: (received, dropped for want of room, dropped for size)}"""
        return {a.slot: (a.a, a.b, a.c) for a in self.many(SLOT_STATS, port)}

    def stats(self):
        return {name: int(n) for name, n in (line.split() for line in self.ok(STATS).text.decode().splitlines())}

    def add(self, name, fds):
        """ret: the port, which must be a new one"""
        answer = self.ok(PORT_ADD, name, fds=fds)
        assert answer.flags & LIVING == 0, answer
        return answer.port

    def tap(self, port, slot, topic):
        self.ok(TAP, topic, port=port, slot=slot)

    def out(self, port, slot, topic):
        self.ok(OUT, topic, port=port, slot=slot)

    def close(self):
        self.socket.close()


class Broker:
    """A mosquitto with the plugin; port and ws_port, so the clients of clients.py can use it in place of a Suite."""

    def __init__(self, options="", head="", listener="", plugin=PLUGIN, wrapper=(), start=True):
        self.dir = Path(tempfile.mkdtemp(prefix="iottalk-plug-"))
        self.socket = self.dir / "plugin.sock"
        self.mqtt_port, self.ws_port = free_ports(2)
        self.log_path = self.dir / "log"
        self.wrapper = list(wrapper)
        self.popen = None
        self.starts = 0
        self.write_conf(options, head, listener, plugin)
        if start:
            self.start()

    def write_conf(self, options="", head="", listener="", plugin=PLUGIN):
        user = "user root\n" if os.geteuid() == 0 else ""
        load = "plugin %s\nplugin_opt_socket %s\n%s\n" % (plugin, self.socket, options) if plugin else ""
        per_listener = "per_listener_settings true" in head
        (self.dir / "conf").write_text("""\
%s%s
log_dest stderr
log_type all
connection_messages false
%s
listener %d 127.0.0.1
allow_anonymous true
%s
listener %d 127.0.0.1
protocol websockets
%s
""" % (user, head, "" if per_listener else load, self.mqtt_port, load + listener if per_listener else listener,
            self.ws_port, "allow_anonymous true\n" + load if per_listener else ""))

    def start(self, wait=True):
        self.starts += 1
        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen(self.wrapper + [MOSQUITTO, "-c", str(self.dir / "conf")],
                                          stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            until(self.answers, WAIT_S * (10 if self.wrapper else 1), "the broker")

    def answers(self):
        assert self.popen.poll() is None, "the broker ended\n" + self.log()
        return self.log().count(" running\n") == self.starts  # its signal handlers stand

    @property
    def pid(self):
        return self.popen.pid

    def runs(self):
        return self.popen.poll() is None

    def log(self):
        return self.log_path.read_text(errors="replace")

    def stop(self, timeout=WAIT_S):
        self.popen.terminate()
        return self.popen.wait(timeout)

    def kill9(self):
        self.popen.kill()
        self.popen.wait()

    def restart(self):
        if self.runs():
            assert self.stop() == 0
        self.start()

    def close(self):
        """An orderly end must be one."""
        status = self.stop() if self.popen is not None and self.runs() else 0
        log = self.log() if self.log_path.exists() else ""
        shutil.rmtree(self.dir, ignore_errors=True)
        assert status == 0, "the broker ended with %s\n%s" % (status, log)


class EchoEngine(threading.Thread):
    """Answers every message on the out slot of the same number, payload and QoS as they came."""

    def __init__(self, rings):
        super().__init__(daemon=True)
        self.engine = Engine(rings)
        self.stopping = False
        self.failed = None
        self.start()

    def run(self):
        while not self.stopping:
            try:
                record = self.engine.take(0.2)
            except AssertionError as e:
                if "no message" in str(e):
                    continue
                self.failed = e
                return
            while not self.engine.reply(record.slot, record.payload, record.qos) and not self.stopping:
                self.engine.kick()
                time.sleep(0.001)

    def stop(self):
        self.stopping = True
        self.join(WAIT_S)
        self.engine.close()
        assert self.failed is None, self.failed


class Scribbler:
    """A hostile engine: random bytes at random places of everything it can write."""

    PLACES = (IN_HEAD, OUT_TAIL, ENGINE_ASLEEP, DOING, PAGE)

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.writes = 0

    def attack(self, rings):
        self.map = mmap.mmap(rings.out_fd, PAGE + rings.out_bytes)
        self.result = rings.result_w

    def scribble(self, times):
        r = self.random
        for _ in range(times):
            how = r.random()
            at = r.choice(self.PLACES) + 8 * r.randrange(2) if how < 0.4 else r.randrange(len(self.map) - 8)
            near = struct.unpack_from("=Q", self.map, at)[0]
            value = near + r.choice((-8, 8, 16, 24, 4096)) & 2**64 - 1 if r.random() < 0.5 else r.getrandbits(64)
            n = r.choice((1, 2, 4, 8))
            self.map[at:at + n] = struct.pack("=Q", value)[:n]
        self.writes += times
        try:
            os.write(self.result, b"k")
        except BlockingIOError:
            pass


def send_raw(path, data, fds=()):
    """Whatever it is, as a packet on a new connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(WAIT_S)
        s.connect(str(path))
        s.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
        try:
            return s.recv(ANSWER.size + TEXT_MAX)
        except ConnectionResetError:
            return b""


def flags_of(fd):
    return fcntl.fcntl(fd, fcntl.F_GETFL)


def signals(pid):
    """{"SigBlk": mask, "SigCgt": mask, ...}"""
    return {line.split(":")[0]: int(line.split()[1], 16)
            for line in Path("/proc/%d/status" % pid).read_text().splitlines() if line.startswith("Sig")
            and "/" not in line}


def has_signal(mask, signo=signal.SIGIO):
    return bool(mask >> (signo - 1) & 1)
