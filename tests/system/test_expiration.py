"""A day of expirations in seconds: for csm time passes faster (tests/clock), what it says of itself is in its own time.

DEVICES and MINUTES in the environment make it longer: DEVICES=100000 MINUTES=15 is a day in a quarter of an hour.
"""

import os
import random
import re
import sqlite3
import struct
import subprocess
import threading
import time
import uuid

import pytest

from clients import WAIT_S, new_id
from suite import BUILD, SANITIZED, Suite, until

DEVICES = int(os.environ.get("DEVICES", 5000))
MINUTES = float(os.environ.get("MINUTES", 0.4))
DAY_S = 86400
SCALE = int(DAY_S / (60 * MINUTES))
UUID1_EPOCH_S = 12219292800
LISTENER = "listener"
STAY_ONLINE, GO_OFFLINE = 50, 50


class Day:
    """csm begins with the rows that an earlier run would have left, and tells its listener of all that expires."""

    def __init__(self, clients):
        self.suite = Suite({"core.da-expiration": DAY_S, "core.log-level": "warn"}, start=("broker",))
        self.mqtt = clients.mqtt(self.suite)
        self.announced = {}   # id -> csm's time
        self.twice = []
        self.offline = set()
        ready = threading.Event()
        self.mqtt.subscribe_then("iottalk/api/res/%s/device" % LISTENER, 2, self._hear, ready.set)
        assert ready.wait(WAIT_S)
        self.due, self.online, self.leaving = {}, set(), {}
        began = time.time()
        rows = []
        for n in range(DEVICES):
            da_id = new_id()
            self.due[da_id] = began + random.uniform(0, DAY_S)
            rows.append(self.row(da_id, n, 0, self.due[da_id] - DAY_S))
        for n in range(STAY_ONLINE + GO_OFFLINE):
            da_id, rev = new_id(), new_id()
            (self.online.add(da_id) if n < STAY_ONLINE else self.leaving.__setitem__(da_id, rev))
            # online for two days: were its timer running, it would fire at once
            rows.append(self.row(da_id, DEVICES + n, 1, began - 2 * DAY_S, rev))
        with sqlite3.connect(self.suite.userdir / "iottalk.db") as db:
            db.executemany("INSERT INTO device (id, rev, name, register_time, accept_protos, profile, online, state_since)"
                           " VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            db.execute("INSERT INTO device_client (client) VALUES (?)", (LISTENER,))
        csm = self.suite.processes["csm"]
        self.clock = self.suite.dir / "clock"
        self.clock.write_bytes(bytes(8))
        csm.env = {"LD_PRELOAD": str(BUILD / "lib/test_clock.so"), "TEST_CLOCK": str(self.clock),
                   "ASAN_OPTIONS": "exitcode=99:detect_leaks=1:verify_asan_link_order=0"}
        self.suite.start("csm")

    def begin(self):
        """From now on csm's time flies."""
        with open(self.clock, "r+b") as f:
            f.write(struct.pack("=q", SCALE))

    @staticmethod
    def row(da_id, n, online, since, rev=None):
        return (da_id, rev or new_id(), "%d.Model" % n, since, '["mqtt"]', '{"model": "Model"}', online, since)

    def _hear(self, message):
        anno = message.json
        if anno.get("op") == "anno" and anno["type"] in ("deregister", "offline"):
            at = uuid.UUID(anno["timestamp"]).time / 1e7 - UUID1_EPOCH_S
            if anno["type"] == "offline":
                self.offline.add(anno["da"])
            elif self.announced.setdefault(anno["da"], at) != at:
                self.twice.append(anno["da"])

    def store(self, sql):
        with sqlite3.connect(self.suite.userdir / "iottalk.db") as db:
            return db.execute(sql).fetchall()

    def close(self):
        self.suite.close()


@pytest.mark.limit(int(60 * MINUTES * 3) + 120)
def test_a_day_of_timers_none_missed_none_early(clients, request):
    day = Day(clients)
    try:
        day.begin()
        for da_id, rev in day.leaving.items():
            day.mqtt.publish(da_id + "/ctrl/i", {"state": "offline", "rev": rev}, wait=False)
        until(lambda: len(day.offline) == GO_OFFLINE, 30, "the offline announcements")
        day.due.update((i, since + DAY_S) for i, since in day.store("SELECT id, state_since FROM device WHERE online = 0") if i in day.leaving)
        assert len(day.due) == DEVICES + GO_OFFLINE
        until(lambda: len(day.announced) == len(day.due), 60 * MINUTES * 1.5 + 60, "the last expiration", every=0.2)
        late = sorted(day.announced[i] - day.due[i] for i in day.due)
        request.node.user_properties += [("scale", SCALE), ("p50_late_s", round(late[len(late) // 2], 3)),
                                         ("worst_late_s", round(late[-1], 3))]
        early = [day.due[i] - day.announced[i] for i in day.due if day.announced[i] < day.due[i]]
        assert not early, "%d early, by up to %s s" % (len(early), max(early))
        assert not day.twice
        assert set(day.announced) == set(day.due), "whoever is online stays"
        assert {row[0] for row in day.store("SELECT id FROM device")} == day.online
    finally:
        day.close()


@pytest.mark.skipif(SANITIZED, reason="counts instructions of the program as it is")
def test_a_timer_costs_the_logarithm_of_their_number():
    """Instructions, not time: arming twice and firing one of 64 k costs no more than twice as much as one of 1 k."""
    def cost(n):
        done = subprocess.run(["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null",
                               str(BUILD / "bench/bin/timers"), str(n)], capture_output=True, text=True, timeout=80)
        assert done.returncode == 0, done.stderr
        return int(re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)[1].replace(",", ""))
    start = cost(1)
    few, many = 1 << 10, 1 << 16
    assert (cost(many) - start) / many < 2 * (cost(few) - start) / few
