"""The discovery beacon (spec: Discovery beacon) over the loopback's broadcast address."""

import contextlib
import os
import socket
import sqlite3
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from suite import BIN, PATIENCE_S, free_ports, until

BROADCAST = "127.255.255.255"


class Listener:
    """A socket that hears what goes to the port of the beacon and can ask from a port of its own."""

    def __init__(self, port):
        self.heard = self._socket(port)
        self.asking = self._socket(0)
        self.port = port
        self.id = uuid.uuid4().bytes

    @staticmethod
    def _socket(port):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.bind(("", port))
        s.settimeout(PATIENCE_S)
        return s

    def ask(self, verb=b"PING", to=None, raw=None):
        data = raw if raw is not None else b"IT " + self.id + b" " + verb + (b" " + to if to else b"") + b"\r\n"
        self.asking.sendto(data, (BROADCAST, self.port))

    def answers(self, seconds=0.0):
        """Those that are there, waiting for the first as long as told."""
        found = []
        self.asking.settimeout(seconds or 0.01)
        try:
            while True:
                found.append(self.asking.recvfrom(2048)[0])
                self.asking.settimeout(0.3)
        except socket.timeout:
            return found

    def close(self):
        self.heard.close()
        self.asking.close()


@pytest.fixture
def here(make_suite):
    port = free_ports(1)[0]
    suite = make_suite({"core.beacon": "true", "core.beacon-address": BROADCAST, "core.beacon-port": port,
                        "core.beacon-interval-ms": 1000}, start=("broker",))
    listener = Listener(port)
    suite.start("csm")
    yield suite, listener
    listener.close()


def hello(listener):
    data = listener.heard.recvfrom(2048)[0]
    assert len(data) == 26 and data.startswith(b"IT ") and data.endswith(b" HELO\r\n"), data
    return data[3:19]


def dropped(suite, reason):
    return suite.metric("iottalk_drops_total", source="beacon", reason=reason)


def test_hello_is_repeated_with_an_id_that_stays(here):
    suite, listener = here
    first = hello(listener)
    assert hello(listener) == first
    suite.kill9("csm")
    listener.heard.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            listener.heard.recv(2048)
    listener.heard.settimeout(PATIENCE_S)
    suite.start("csm")
    assert hello(listener) == first
    with sqlite3.connect("file:%s?mode=ro" % (suite.userdir / "iottalk.db"), uri=True) as store:
        kept, = store.execute("SELECT value FROM meta WHERE name = 'server_id'").fetchone()
    assert uuid.UUID(kept).bytes == first and uuid.UUID(kept).version == 4


def test_who_asks_is_answered_alone(here):
    suite, listener = here
    us = hello(listener)
    pong = b"IT " + us + b" PONG " + listener.id + b"\r\n"
    listener.ask()
    assert listener.answers(PATIENCE_S) == [pong]
    listener.ask(to=us)
    assert listener.answers(PATIENCE_S) == [pong]
    listener.heard.settimeout(PATIENCE_S)
    while True:     # on the common port there are the questions and HELO, and no answer
        data = listener.heard.recvfrom(2048)[0]
        assert b"PONG" not in data[20:24]
        if data.endswith(b"HELO\r\n"):
            break


def test_nothing_else_is_answered(here):
    suite, listener = here
    us = hello(listener)
    listener.ask(to=uuid.uuid4().bytes)
    listener.ask(verb=b"HELO")
    listener.ask(verb=b"PONG", to=us)
    garbage = [b"", b"IT", b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\r\n", b"\0" * 26, b"IT " + b"x" * 4000,
               b"IT " + us + b" PONG\r\n", b"IT " + us + b" HELO " + us + b"\r\n"]
    for raw in garbage:
        listener.ask(raw=raw)
    until(lambda: dropped(suite, "malformed") == len(garbage), what="the count of malformed ones")
    assert listener.answers() == []
    listener.ask()
    assert len(listener.answers(PATIENCE_S)) == 1


def test_answers_to_one_address_are_few(here):
    suite, listener = here
    hello(listener)
    answered = []

    def all_accounted_for():
        answered.extend(listener.answers())
        return len(answered) + dropped(suite, "rate") == 100
    begin = time.monotonic()
    for _ in range(100):    # so few that the socket holds them all
        listener.ask()
    until(all_accounted_for, 10, "an answer or a count for each question")
    assert 1 <= len(answered) <= 2 * (time.monotonic() - begin + 2)


def test_it_is_off_unless_asked_for(make_suite):
    suite = make_suite(start=("broker", "csm"))
    process = Path("/proc/%d" % suite.pid("csm"))
    sockets = set()
    for fd in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):    # closed meanwhile
            sockets.add(os.readlink(fd))
    udp = {"socket:[%s]" % line.split()[9] for name in ("udp", "udp6")
           for line in (process / "net" / name).read_text().splitlines()[1:]}
    assert not sockets & udp


def test_a_port_that_is_taken_is_told(make_suite):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 0))     # without SO_REUSEADDR: for itself alone
        suite = make_suite({"core.beacon": "true", "core.beacon-port": taken.getsockname()[1]}, start=("broker",))
        done = subprocess.run([str(BIN / "csm"), "-c", str(suite.ini)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "beacon-port" in done.stderr and "in use" in done.stderr
