"""Modbus masters of others for the slave: pymodbus, npm's modbus-serial and jsmodbus as processes, Debian's mbpoll as a command, and
raw octets."""

import re
import shutil
import socket
import struct
import subprocess
import sys

from modbus_peers import MODULES, PEERS, Server, mbap
from suite import PATIENCE_S


class Refused(Exception):
    """The slave's exception."""

    def __init__(self, code):
        super().__init__("exception %d" % code)
        self.code = code


class NoAnswer(Exception):
    pass


class Calls:
    """call(name, unit, address, ...) of a library, as methods."""

    def read(self, table, address, count, unit=1):
        name = {"COIL": "coils", "DISCRETE_INPUT": "discrete", "HOLDING_REGISTER": "holding", "INPUT_REGISTER": "input"}[table]
        return self.call("read_" + name, unit=unit, address=address, count=count)

    def write(self, table, address, *values, unit=1, many=None):
        name = "coil" if table == "COIL" else "register"
        many = len(values) > 1 if many is None else many
        return self.call("write_" + name + ("s" if many else ""), unit=unit, address=address, values=list(values))

    def mask(self, address, and_mask, or_mask, unit=1):
        return self.call("mask", unit=unit, address=address, masks=[and_mask, or_mask])


class Client(Server, Calls):
    """A library's master, a process."""

    def call(self, name, **request):
        answer = self._ask(call=name, **request)
        if "exception" in answer:
            raise Refused(answer["exception"])
        if "error" in answer:
            raise NoAnswer(answer["error"])
        return answer["values"]


class Mbpoll(Calls):
    """One run of mbpoll for each call. It writes one value with functions 5 and 6, several with 15 and 16."""

    TYPES = {"coils": "0", "discrete": "1", "input": "3:hex", "holding": "4:hex", "coil": "0", "register": "4:hex", "registers": "4:hex"}
    NAMES = {"Illegal function": 1, "Illegal data address": 2, "Illegal data value": 3, "Slave device or server failure": 4}

    def __init__(self, framing, where, seconds=10):
        self.seconds = str(min(seconds, 10))    # it takes no more
        self.reach = ["-m", "tcp", "-p", str(where), "127.0.0.1"] if framing == "TCP" else \
            ["-m", "rtu", "-b", "19200", "-P", "none", str(where)]

    def call(self, name, unit, address, count=1, values=()):
        argv = ["mbpoll", "-0", "-1", "-q", "-o", self.seconds, "-a", str(unit), "-r", str(address),
                "-t", self.TYPES[name.split("_")[1]]] + ([] if values else ["-c", str(count)])
        done = subprocess.run(argv + self.reach + [str(v) for v in values], capture_output=True, text=True, timeout=30)
        for text, code in self.NAMES.items():
            if text in done.stderr:
                raise Refused(code)
        if done.returncode != 0:
            raise NoAnswer(done.stderr)
        read = re.findall(r"^\[\d+\]:\s+(0x[0-9A-F]+|\d+)", done.stdout, re.M)
        return [] if values else [int(v, 0) for v in read]

    def close(self):
        pass


def client(name, where, seconds=20):
    """name: "pymodbus RTU over TCP" and so on; where: a port, or the end of a line; seconds: what an answer may take."""
    library, framing = name.split(" ")[:2]
    transport = "tcp" if isinstance(where, int) else "serial"
    if library == "mbpoll":
        return Mbpoll(framing, where, seconds)
    if library == "pymodbus":
        if framing == "ASCII" and transport == "tcp":
            seconds = min(seconds, 3)   # it waits as long after some answers, too
        return Client([sys.executable, PEERS / "pymodbus_client.py", framing, transport, where, seconds])
    assert MODULES.exists(), "run scripts/test-peers first"
    program = {"modbus-serial": "modbus_serial_client.js", "jsmodbus": "jsmodbus_client.js"}[library]
    return Client([shutil.which("node"), PEERS / program, MODULES, framing, transport, where, seconds])


class Raw:
    """TCP framing by hand."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self.socket.settimeout(PATIENCE_S)

    def send(self, pdu, unit=1, transaction=1):
        self.socket.sendall(mbap(transaction, unit, pdu))

    def answer(self):
        """(transaction, unit, pdu); None: the slave has closed the connection."""
        head = self._exactly(7)
        if head is None:
            return None
        transaction, _, length, unit = struct.unpack(">HHHB", head)
        return transaction, unit, self._exactly(length - 1)

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            try:
                more = self.socket.recv(n - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            data += more
        return data

    def close(self):
        self.socket.close()
