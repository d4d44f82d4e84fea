"""Modbus servers of others for the master: pymodbus and npm's modbus-serial as processes, pseudo-terminal pairs of socat, and a
server of raw octets that is told what to answer; and numbers as they have them in registers."""

import json
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from suite import ROOT, free_ports, until

PEERS = Path(__file__).parent / "peers"
MODULES = ROOT / "build/test-peers/node_modules"
TABLES = {"COIL": "coil", "DISCRETE_INPUT": "discrete", "HOLDING_REGISTER": "holding", "INPUT_REGISTER": "input"}


class Line:
    """A serial line: two ends that are pseudo terminals."""

    def __init__(self, folder, name="line"):
        self.near, self.far = (folder / ("%s-%s" % (name, end)) for end in ("near", "far"))
        self.popen = subprocess.Popen(["socat"] + ["pty,raw,echo=0,link=%s" % end for end in (self.near, self.far)],
                                      stdin=subprocess.DEVNULL)
        until(lambda: self.near.exists() and self.far.exists(), what="the pseudo terminals")

    def close(self):
        self.popen.terminate()
        self.popen.wait(5)


class Server:
    """A peer's process, with its tables."""

    def __init__(self, argv):
        self.argv = [str(a) for a in argv]
        self.start()

    def start(self):
        self.popen = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.popen.stdout.readline()
        assert line and json.loads(line) == {"ready": True}, "%s said %r" % (self.argv, line)

    def _ask(self, **request):
        self.popen.stdin.write(json.dumps(request) + "\n")
        self.popen.stdin.flush()
        return json.loads(self.popen.stdout.readline())

    def set(self, table, address, *values, unit=1):
        self._ask(unit=unit, table=TABLES[table], address=address, values=list(values))

    def get(self, table, address, count=1, unit=1):
        return self._ask(unit=unit, table=TABLES[table], address=address, count=count)["values"]

    def stop(self):
        self.popen.kill()
        self.popen.wait(5)
        self.popen.stdin.close()
        self.popen.stdout.close()

    close = stop


def pymodbus_server(framing, where):
    """where: a port, or the end of a line."""
    return Server([sys.executable, PEERS / "pymodbus_server.py", framing, "tcp" if isinstance(where, int) else "serial", where])


def modbus_serial_server(where):
    assert MODULES.exists(), "run scripts/test-peers first"
    return Server([shutil.which("node"), PEERS / "modbus_serial_server.js", MODULES, "tcp" if isinstance(where, int) else "serial",
                   where])


class RawServer:
    """Speaks TCP framing octet by octet. answer(unit, pdu): a PDU, b"" for silence, None to close, or a whole list of octet strings to
    send as they are (answer then takes transaction, unit, pdu: `frames`). Without it, holding and input registers are in `registers`,
    a dict; an address that it has not is exception 2. deaf: it closes every connection at once."""

    def __init__(self, answer=None, frames=None, deaf=False):
        self.answer = answer or self.from_registers
        self.frames = frames
        self.deaf = deaf
        self.registers = {}
        self.requests = []   # (unit, pdu) as they came
        self.connects = 0
        self.port = free_ports(1)[0]
        self.connections = []
        self.listener = None
        self.open()

    def open(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connects += 1
            if self.deaf:
                connection.close()
                continue
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            with connection, connection.makefile("rb") as stream:
                while True:
                    head = stream.read(7)
                    if len(head) < 7:
                        return
                    transaction, _, length, unit = struct.unpack(">HHHB", head)
                    pdu = stream.read(length - 1)
                    self.requests.append((unit, pdu))
                    if self.frames:
                        for frame in self.frames(transaction, unit, pdu):
                            connection.sendall(frame)
                        continue
                    answer = self.answer(unit, pdu)
                    if answer is None:
                        return
                    if answer:
                        connection.sendall(mbap(transaction, unit, answer))
        except OSError:
            pass

    def from_registers(self, unit, pdu):
        function, address, count = struct.unpack(">BHH", pdu[:5])
        wanted = range(address, address + count)
        if function not in (3, 4) or any(a not in self.registers for a in wanted):
            return bytes([function | 0x80, 2])
        return struct.pack(">BB%dH" % count, function, 2 * count, *(self.registers[a] for a in wanted))

    def cut(self):
        """Close every connection."""
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.connections = []

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)   # else who waits for a connection gets one more
        except OSError:
            pass
        self.listener.close()
        self.cut()


class CountingServer(RawServer):
    """All registers are the number of the read that finds them: each read is one more than the one before, until it is held."""

    def __init__(self):
        self.n = 0
        self.held = False
        super().__init__(self.count)

    def count(self, unit, pdu):
        function, _, count = struct.unpack(">BHH", pdu[:5])
        self.n += not self.held
        return struct.pack(">BB", function, 2 * count) + struct.pack(">H", self.n) * count


class RtuServer:
    """Answers function 3 on a serial line, for all units: register(unit, address) is what an address has."""

    def __init__(self, path, register):
        self.register = register
        self.answers = {}    # by request
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        self.thread = threading.Thread(target=self._serve)
        self.ending = False
        self.thread.start()

    def _answer(self, request):
        if request not in self.answers:
            unit, function, address, count = struct.unpack(">BBHH", request[:6])
            assert (function, crc16(request[:6])) == (3, request[6:]), request
            body = struct.pack(">BBB%dH" % count, unit, 3, 2 * count, *(self.register(unit, a) for a in range(address, address + count)))
            self.answers[request] = body + crc16(body)
        return self.answers[request]

    def _serve(self):
        got = b""
        while not self.ending:
            if not select.select([self.fd], [], [], 0.1)[0]:
                continue
            got += os.read(self.fd, 256)
            while len(got) >= 8:
                request, got = got[:8], got[8:]
                os.write(self.fd, self._answer(request))

    def close(self):
        self.ending = True
        self.thread.join(5)
        os.close(self.fd)


def crc16(octets):
    crc = 0xffff
    for octet in octets:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0xa001 if crc & 1 else 0)
    return struct.pack("<H", crc)


def mbap(transaction, unit, pdu, protocol=0, length=None):
    return struct.pack(">HHHB", transaction, protocol, len(pdu) + 1 if length is None else length, unit) + pdu


def registers(value, count, order):
    """A number as the registers of a device with that order."""
    raw = value.to_bytes(count // 8, "big")
    words = [raw[i:i + 2] for i in range(0, len(raw), 2)]
    if order in ("little", "little_swap"):
        words.reverse()
    if order in ("little", "big_swap"):
        words = [w[::-1] for w in words]
    return [int.from_bytes(w, "big") for w in words]


def as_event(value):
    """A whole number as events have it: as text where 63 bits do not hold it."""
    return value if value < 1 << 63 else str(value)
