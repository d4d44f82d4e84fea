"""What tests of store and forward share: a master whose server counts its reads, a broker that dies when all it has acknowledged is
heard, and what is on the disk."""

import fcntl
import json
import os
import signal
import sqlite3
import struct
import subprocess
import termios

import pytest

from clients import raw_socket
from field_devices import FieldDevice, closing, start_gateway  # noqa: F401: fixtures
from modbus_peers import CountingServer
from suite import BIN, until
from test_modbus_master import master, point, remote

INTERVAL = 0.1


class Heard(FieldDevice):
    """Notes the values of each point in the order of their events."""

    def __init__(self, mqtt, device_type, name):
        self.values = {}   # point -> values
        super().__init__(mqtt, device_type, name)

    def take(self, message):
        kind, name = message.topic.split("/")[-2:]
        if kind != "read":
            self.inbox.put(message)
        elif not message.retain:
            payload = message.json["payload"]
            if payload["result"] == "SUCCESS":
                self.values.setdefault(name, []).append(payload["value"])

    def until(self, condition, timeout=30, names=None):
        """Until condition(values of a point) holds for each point."""
        until(lambda: all(condition(self.values.get(n, [])) for n in names or list(self.values)), timeout, "the values")


@pytest.fixture
def counting(closing):
    return closing(CountingServer())


@pytest.fixture
def gateway(start_gateway):
    """gateway(device, ...): as start_gateway, and there is a value of each point that is read."""
    def start(*devices, **conf):
        conf = dict({"bus_loss_grace": 1, "sync_timeout": 0.5, "seen_as": Heard, "clean_session": False}, **conf)
        suite, *heard = start_gateway(*devices, **conf)
        for device, events in zip(devices, heard):
            count = sum(len(r["data"]) for r in device.get("remote_devices", []))
            until(lambda: len(events.values) == count, 20, "a value of each point")
        save_broker(suite)
        return [suite] + heard
    return start


def plc(server, points=10, name="plc", interval=INTERVAL, keep=None, store=None, **more):
    """A device with a store whose points are all read at once."""
    if isinstance(points, int):
        points = [point("p%d" % a, "HOLDING_REGISTER", a, 16, interval=interval, **({"keep": keep} if keep else {}))
                  for a in range(points)]
    return dict(master(name, server.port, None, remotes=[remote(points, enabled=True)], request_timeout=10),
                store=dict({"catch_up_rate": 5000}, **(store or {})), **more)


def save_broker(suite):
    """What it has of sessions survives its death."""
    path = suite.dir / "broker/mosquitto.db"
    before = path.stat().st_mtime_ns if path.exists() else 0
    os.kill(suite.pid("broker"), signal.SIGUSR1)
    until(lambda: path.exists() and path.stat().st_mtime_ns > before, 10, "the broker's file")


def unread(client):
    return struct.unpack("i", fcntl.ioctl(raw_socket(client.client.socket()), termios.FIONREAD, bytes(4)))[0]


def kill_broker(suite, *listeners):
    """What it has acknowledged has been heard by the listeners: a broker that dies takes nothing with it."""
    os.kill(suite.pid("broker"), signal.SIGSTOP)
    for listener in listeners:
        until(lambda: unread(listener) == 0, 30, "all that the broker has sent")
    suite.kill9("broker")
    until(lambda: not suite.agent_status()["devices"]["bus"], 10, "the loss")


def count_on(server, reads):
    """So many more reads."""
    before = server.n
    until(lambda: server.n >= before + reads, reads * INTERVAL * 3 + 20, "%d reads" % reads)
    return server.n


def status(suite, name="plc"):
    return until(lambda: suite.control("agent", {"op": "device_show", "name": name}), 20, "the agent")["device"]


def once(values):
    """Without what is told again: at least once is promised."""
    return list(dict.fromkeys(values))


def gaps(values):
    return [(a, b) for a, b in zip(values, values[1:]) if b != a + 1]


def count_kept(suite, n):
    """Until the disk has the n-th value of each point that it has a row of. ret: n"""
    def kept():
        rows = {}
        for address, body in outbox_rows(suite):
            rows.setdefault(address, []).append(json.loads(body)["payload"]["value"])
        return rows and all(max(values) == n for values in rows.values())
    until(kept, 10, "value %d on the disk" % n)
    return n


def keep_for_another_agent(suite, counting):
    """Twenty reads go to the disk, and an agent comes that has only that: no memory, and nobody to read from. ret: the last."""
    count_on(counting, 20)
    counting.held = True
    last = count_kept(suite, counting.n)
    suite.kill9("agent")
    counting.close()
    suite.processes["agent"].start(ready=False)
    until(lambda: status(suite)["state"] == "running", 10, "the device")
    return last


def outbox_rows(suite, sink=0):
    """(address, body) of what is on the disk for good. sink: 0: events, 1: values."""
    db = sqlite3.connect("file:%s?mode=ro" % (suite.userdir / "devices.db"), uri=True)
    try:
        return [(a, b) for a, b in db.execute("SELECT address, body FROM outbox WHERE sink = ? ORDER BY seq", [sink]) if
                sink == 1 or "/read/" in a]
    finally:
        db.close()


def iotctl(suite, *args):
    return subprocess.run([str(BIN / "iotctl"), "-c", str(suite.ini), *args], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60, check=True).stdout
