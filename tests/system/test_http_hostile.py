"""Clients of the HTTP port that are slow, greedy or sly: csm's memory stays bounded, and the others go on being served."""

import http.client
import json
import selectors
import socket
import statistics
import threading
import time

import pytest

from clients import HttpApi, new_id
from suite import PATIENCE_S, SANITIZED, until

GOOD = {"accept_protos": ["mqtt"], "odf_list": [["meow", ["dB"]]], "profile": {"model": "AI"}}
BODY = json.dumps(GOOD).encode()
CONNECTIONS = 1000   # as many as csm has room for
MIB = 1 << 20
# what 64 MiB of bodies and the buffers of all connections may add; a sanitizer keeps what is freed
ROOM_KB = (600 if SANITIZED else 160) * 1024


def connect(suite, timeout=PATIENCE_S):
    return socket.create_connection(("127.0.0.1", suite.http_port), timeout)


def head(method, path, *lines):
    return "\r\n".join(["%s %s HTTP/1.1" % (method, path), "Host: localhost", *lines, "", ""]).encode()


def put_head(*lines, da_id=None):
    return head("PUT", "/" + (da_id or new_id()), "Content-Type: application/json", *lines)


def read_answer(file):
    """ret: (status, headers, body) of one answer; None: the other side closed."""
    line = file.readline()
    if not line:
        return None
    headers = http.client.parse_headers(file)
    body = file.read(int(headers.get("Content-Length", 0)))
    return int(line.split()[1]), headers, body


def answers_to(suite, request, count=1, timeout=PATIENCE_S):
    """What comes back to bytes sent as they are, at most count answers and the end if it comes."""
    with connect(suite, timeout) as s:
        s.sendall(request)
        file = s.makefile("rb")
        found = []
        try:
            while len(found) < count:
                answer = read_answer(file)
                if answer is None:
                    break
                found.append(answer)
        except ConnectionResetError:
            pass
        return found


def everything(suite, request):
    """What comes back to bytes sent as they are, up to the end of the connection, which csm closes."""
    found = b""
    with connect(suite) as s:
        s.sendall(request)
        try:
            for part in iter(lambda: s.recv(65536), b""):
                found += part
        except ConnectionResetError:
            pass
    return found


class Healthy:
    """Registers now and then, each time over a connection of its own, and notes how long it took."""

    def __init__(self, suite, every=0.02):
        self.suite, self.every = suite, every
        self.times, self.failures = [], []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(self.every):
            began = time.monotonic()
            try:
                status = answers_to(self.suite, put_head("Content-Length: %d" % len(BODY), "Connection: close") + BODY,
                                    timeout=60)[0][0]
            except (OSError, IndexError) as e:
                status = repr(e)
            if status != 200:
                self.failures.append(status)
            self.times.append(time.monotonic() - began)

    def wait_for(self, count):
        want = len(self.times) + count
        until(lambda: len(self.times) >= want, 60, "%d more registrations" % count)

    def stop(self):
        self._stop.set()
        self._thread.join(20)
        return sorted(self.times)


@pytest.fixture
def healthy(suite, request):
    h = Healthy(suite)
    yield h
    times = h.stop()
    if len(times) > 1:
        request.node.user_properties += [("p50_ms", round(1000 * statistics.median(times), 2)),
                                         ("p99_ms", round(1000 * times[int(len(times) * 0.99)], 2))]
    assert not h.failures, h.failures[:5]


class Slow:
    """Connections that each send a byte a second, of requests that never end."""

    def __init__(self, suite, count, request):
        self.suite, self.count, self.request = suite, count, request
        self.closed = 0     # by csm
        self.open = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        at = 0
        poll = selectors.DefaultSelector()
        while not self._stop.is_set():
            while len(self.open) < self.count:
                try:
                    s = connect(self.suite)
                except OSError:
                    break
                s.setblocking(False)
                poll.register(s, selectors.EVENT_READ)
                self.open.append(s)
            for s in list(self.open):
                try:
                    s.send(self.request[at % len(self.request):][:1])
                except BlockingIOError:
                    pass
                except OSError:
                    self._lost(poll, s)
            at += 1
            deadline = time.monotonic() + 1
            while not self._stop.is_set() and time.monotonic() < deadline:
                for key, _ in poll.select(0.1):
                    try:
                        gone = key.fileobj.recv(4096) == b""
                    except OSError:
                        gone = True
                    if gone:
                        self._lost(poll, key.fileobj)

    def _lost(self, poll, s):
        if s in self.open:
            self.open.remove(s)
            poll.unregister(s)
            s.close()
            self.closed += 1

    def stop(self):
        self._stop.set()
        self._thread.join(20)
        for s in self.open:
            s.close()


@pytest.fixture
def slow(suite):
    made = []

    def make(count, request):
        made.append(Slow(suite, count, request))
        return made[-1]

    yield make
    for s in made:
        s.stop()


# ---- slow


@pytest.mark.parametrize("request_bytes", [
    b"GET /" + b"a" * 100000, put_head("X-Long: ")[:-4] + b"y" * 100000, put_head("Content-Length: 1000000") + b"{" + b" " * 1000000,
    put_head("Transfer-Encoding: chunked") + b"1\r\n \r\n" * 100000], ids=["request line", "header", "body", "chunks"])
def test_a_thousand_clients_that_send_a_byte_a_second_keep_nobody_out(suite, healthy, slow, request_bytes):
    before = suite.rss_kb("csm")
    healthy.wait_for(20)
    s = slow(CONNECTIONS, request_bytes)
    until(lambda: suite.metric("iottalk_http_connections") > CONNECTIONS * 0.8, 20, "the slow connections")
    healthy.wait_for(200)
    assert suite.rss_kb("csm") < before + ROOM_KB
    s.stop()
    until(lambda: suite.metric("iottalk_http_connections") < 20, 10, "the end of the slow connections")


def test_a_request_that_takes_its_time_is_cut_though_there_is_room(suite, slow):
    """10 s for the head; whoever sends a byte now and then is never idle."""
    cut = suite.metric("iottalk_drops_total", source="http", reason="slow")
    s = slow(5, b"GET /" + b"a" * 1000)
    until(lambda: s.closed >= 5, 20, "the end of the slow ones")
    assert suite.metric("iottalk_drops_total", source="http", reason="slow") >= cut + 5


def test_clients_that_do_not_take_their_answers_cost_no_memory(suite, healthy):
    """Two thousand times a megabyte is asked for, and nothing is read."""
    api, da_id = HttpApi(suite), new_id()
    big = dict(GOOD, profile={"model": "AI", "notes": "x" * (MIB - 1000)})
    assert api.put(da_id, big).status_code == 200
    before = suite.rss_kb("csm")
    open_ones = []
    try:
        for _ in range(100):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", suite.http_port))
            s.setblocking(False)
            try:
                s.send(head("GET", "/" + da_id) * 20)
            except BlockingIOError:
                pass
            open_ones.append(s)
        healthy.wait_for(50)
        assert suite.rss_kb("csm") < before + ROOM_KB
    finally:
        for s in open_ones:
            s.close()
    api.delete(da_id, api.get(da_id).json()["rev"])


def test_bodies_that_are_never_finished_share_a_bounded_memory(suite, healthy):
    """All but the last byte of a megabyte, a few hundred times: those that wait longest make room."""
    before, open_ones = suite.rss_kb("csm"), []
    cut = suite.metric("iottalk_drops_total", source="http", reason="memory")
    try:
        for _ in range(200):
            s = connect(suite)
            open_ones.append(s)
            try:
                s.sendall(put_head("Content-Length: %d" % MIB) + b" " * (MIB - 1))
            except OSError:   # it was cut itself
                pass
        assert suite.rss_kb("csm") < before + ROOM_KB
        until(lambda: suite.metric("iottalk_drops_total", source="http", reason="memory") > cut)
        assert answers_to(suite, put_head("Content-Length: %d" % len(BODY)) + BODY)[0][0] == 200
    finally:
        for s in open_ones:
            s.close()


# ---- greedy


@pytest.mark.parametrize("lines", [["Content-Length: %d" % (100 * MIB)], ["Transfer-Encoding: chunked"],
                                   ["Content-Length: %d" % (100 * MIB), "Expect: 100-continue"]], ids=["length", "chunked", "expect"])
def test_100_megabytes_are_refused_and_not_kept(suite, healthy, lines):
    before = suite.rss_kb("csm")
    chunk = b"%x\r\n" % MIB + b" " * MIB + b"\r\n" if "chunked" in lines[0] else b" " * MIB
    with connect(suite) as s:
        s.sendall(put_head(*lines))
        sent = 0
        try:
            while sent < 100:
                s.sendall(chunk)
                sent += 1
        except OSError:   # csm has heard enough
            pass
        try:
            answer = read_answer(s.makefile("rb"))
        except OSError:
            answer = None
    assert answer is None or answer[0] == 413
    if "Content-Length" in lines[0]:
        assert answer is not None, "the refusal comes before the connection is closed"
    assert sent < 100
    assert suite.rss_kb("csm") < before + 32 * 1024 * (4 if SANITIZED else 1)


def test_endless_headers_are_refused(suite, healthy):
    before = suite.rss_kb("csm")
    for line in (b"X-%d: y\r\n", b"X: %d" + b"y" * 4000):
        with connect(suite) as s:
            s.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
            with pytest.raises(OSError):
                for n in range(100000):
                    s.sendall(line % n)
    assert suite.rss_kb("csm") < before + 8 * 1024 * (8 if SANITIZED else 1)


def test_endless_trailers_are_refused(suite):
    with connect(suite) as s:
        s.sendall(put_head("Transfer-Encoding: chunked") + b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n")
        with pytest.raises(OSError):
            for n in range(100000):
                s.sendall(b"X-%d: y\r\n" % n)


# ---- what is allowed


def test_pipelined_requests_are_answered_in_their_order(suite):
    ids = [new_id() for _ in range(100)]
    requests = b"".join(put_head("Content-Length: %d" % len(BODY), da_id=i) + BODY + head("GET", "/%s/id" % i) for i in ids)
    found = answers_to(suite, requests, 2 * len(ids))
    assert [json.loads(body)["id"] if n % 2 == 0 else json.loads(body) for n, (_, _, body) in enumerate(found)] == [
        i for pair in zip(ids, ids) for i in pair]
    assert {status for status, _, _ in found} == {200}


def test_a_body_in_chunks_is_taken(suite):
    chunks = b"".join(b"%x;name=value\r\n%c\r\n" % (1, byte) for byte in BODY) + b"0\r\nX-Trailer: 1\r\n\r\n"
    assert answers_to(suite, put_head("Transfer-Encoding: Chunked") + chunks)[0][0] == 200


@pytest.mark.parametrize("da_id, length, first", [(None, len(BODY), b"100"), (None, 2 * MIB, b"413"), ("no/such/page", len(BODY), b"405")],
                         ids=["ok", "too large", "nowhere"])
def test_who_asks_before_sending_a_body_hears_whether_it_is_wanted(suite, da_id, length, first):
    with connect(suite) as s:
        s.sendall(put_head("Content-Length: %d" % length, "Expect: 100-continue", da_id=da_id))
        file = s.makefile("rb")
        assert file.readline().split()[1] == first
        if first == b"100":
            assert file.readline() == b"\r\n"
            s.sendall(BODY)
            assert read_answer(file)[0] == 200


def test_what_was_asked_before_the_half_was_closed_is_done(suite):
    """The answer comes if csm had it before it saw the end: libmicrohttpd drops what has to wait for the commit."""
    da_id = new_id()
    for request in (put_head("Content-Length: %d" % len(BODY), da_id=da_id) + BODY, head("GET", "/metrics")):
        with connect(suite) as s:
            s.sendall(request)
            s.shutdown(socket.SHUT_WR)
            answer = read_answer(s.makefile("rb"))
            assert answer is None and request.startswith(b"PUT") or answer[0] == 200
    assert HttpApi(suite).get(da_id).status_code == 200


def test_half_a_request_and_a_closed_half_are_the_end(suite):
    with connect(suite) as s:
        s.sendall(put_head("Content-Length: 1000") + b"{")
        s.shutdown(socket.SHUT_WR)
        assert s.recv(100) == b""


# ---- sly


SMUGGLED = head("DELETE", "/" + new_id())


@pytest.mark.parametrize("lines", [
    ["Content-Length: 4", "Transfer-Encoding: chunked"], ["Transfer-Encoding: chunked", "Content-Length: 4"],
    ["Content-Length: 0", "Content-Length: %d" % len(SMUGGLED)], ["Content-Length: 4", "Content-Length: 4"],
    ["Content-Length: 4, 4"], ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], ["Transfer-Encoding: identity"],
    ["Transfer-Encoding: gzip, chunked"], ["Transfer-Encoding: xchunked"], ["Transfer-Encoding: chunked, identity"],
    ["Transfer-Encoding : chunked"], ["Content-Length : 4"], ["Content-Length: +4"], ["Content-Length: -4"], ["Content-Length: 0x4"],
    ["Content-Length: 4 4"], ["Content-Length: "], ["Content-Length: 99999999999999999999999"], ["Transfer-Encoding:\x0bchunked"],
    ["Transfer-Encoding: \x00chunked"], ["Transfer-Encoding[: chunked"]], ids=repr)
def test_a_request_whose_end_is_anybodys_guess_is_refused_and_the_connection_ends(suite, lines):
    """What follows is read as a request by one of csm and a proxy before it, and as a body by the other."""
    deletes = suite.metric("iottalk_http_requests_total", method="DELETE")
    answer = everything(suite, put_head(*lines) + b"0\r\n\r\n" + SMUGGLED)
    assert answer == b"" or answer.split()[1] in (b"400", b"413"), answer
    assert suite.metric("iottalk_http_requests_total", method="DELETE") == deletes, answer


@pytest.mark.parametrize("request_bytes", [
    b"GET /healthz HTTP/1.1\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nhost: evil.example\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n",
    b"GET http://evil.example/healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n"],
    ids=["none", "twice", "two", "space", "absolute"])
def test_a_host_that_is_not_exactly_one_is_refused(suite, request_bytes):
    found = answers_to(suite, request_bytes)
    assert not found or found[0][0] in (400, 403), found


def test_other_headers_may_come_twice(suite):
    assert answers_to(suite, head("GET", "/healthz", "Accept: a", "Accept: b", "X-Request-Id: one", "X-Request-Id: two"))[0][0] == 200


def test_a_refusal_of_the_gate_leaves_the_connection_usable(suite):
    found = answers_to(suite, head("GET", "/nowhere/" + "x" * 3000) + head("GET", "/healthz"), 2)
    assert [status for status, _, _ in found] == [404, 200]
