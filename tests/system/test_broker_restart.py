"""A broker that is restarted under many devices: all come back, are told their links once, and csm takes no more than its share.

DEVICES in the environment: how many (2000 is what is promised).
"""

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from clients import Inbox
from suite import BUILD, until

DEVICES = int(os.environ.get("DEVICES", 200))
PER_GRAPH = 100


class Fleet:
    """Device applications in C, all in one process; it tells how many of them are how far."""

    def __init__(self, suite, count):
        self.count = count
        self.told = Inbox("count")
        self.now = {}
        self.popen = subprocess.Popen([str(BUILD / "bench/bin/fleet"), suite.url, str(count)], stdout=subprocess.PIPE,
                                      stderr=open(suite.dir / "fleet.log", "wb"), text=True)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        for line in self.popen.stdout:
            self.told.put(json.loads(line))

    def until(self, what, number, timeout=60):
        # the same line may be what comes next, too: nothing is told while nothing changes
        if self.now.get(what) != number:
            self.now = self.told.get(lambda t: t[what] == number, timeout)

    def stop(self):
        self.popen.terminate()
        try:
            assert self.popen.wait(30) == 0
        finally:
            self.popen.kill()
            self._thread.join()


def device_id(n):
    return "f1ee0000-0000-4000-8000-%012x" % n


def connects(suite, **labels):
    """Commands that are over, whatever became of them."""
    return suite.metric("iottalk_control_commands_total", command="CONNECT", **labels)


def cpu_s(pid):
    fields = Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.limit(300)
def test_all_devices_are_back_and_connected_after_a_restart(make_suite, clients, request):
    suite = make_suite()
    mqtt = clients.mqtt(suite)
    fleet = Fleet(suite, DEVICES)
    try:
        fleet.until("online", DEVICES, 120)
        graphs = [clients.graph(suite, graph=str(n), mqtt=mqtt) for n in range((DEVICES + PER_GRAPH - 1) // PER_GRAPH)]
        for g in graphs:
            g.ok("attach")
        asked = [(graphs[n // PER_GRAPH], graphs[n // PER_GRAPH].send("add_link", da_id=device_id(n), idf="meow", func=None, wait=False))
                 for n in range(DEVICES)]
        for g, ref in asked:
            assert g.answer(ref, 60)["state"] == "ok"
        fleet.until("connected", DEVICES)
        commands = until(lambda: n if (n := connects(suite)) >= DEVICES else None, 60, "the end of all commands")
        cpu, pid = cpu_s(suite.pid("csm")), suite.pid("csm")
        fleet.told.take_all()
        suite.stop("broker")
        fleet.until("online", 0)
        began = time.monotonic()
        suite.start("broker")
        fleet.until("online", DEVICES, 120)
        online = time.monotonic()
        fleet.until("connected", DEVICES, 120)
        connected = time.monotonic()
        until(lambda: suite.metric("iottalk_online") == DEVICES, 30, "csm's count")
        until(lambda: connects(suite) >= commands + DEVICES, 60, "the end of all commands")
        more = connects(suite) - commands
        request.node.user_properties += [("devices", DEVICES), ("all_online_s", round(online - began, 2)),
                                         ("all_connected_s", round(connected - began, 2)),
                                         ("csm_cpu_s", round(cpu_s(pid) - cpu, 2)), ("connects_a_link", more / DEVICES),
                                         ("late_answers", connects(suite, result="timeout"))]
        assert suite.pid("csm") == pid and suite.processes["csm"].runs()
        assert more <= 2 * DEVICES, "a link is told once or, when csm heard its device twice, twice"
    finally:
        fleet.stop()
