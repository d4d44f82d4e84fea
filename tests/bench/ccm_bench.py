#!/usr/bin/python3
"""ccm with large projects and many of them: how soon a project runs that is switched on, and how long the commonest requests take.
One run, this machine; prints a table and writes build/bench/ccm.json.

Exit status: 0 if all goals were met, 1 if not.
"""

import argparse
import concurrent.futures
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import requests

sys.path[0] = str(Path(__file__).resolve().parents[1] / "system")    # `suite` here is the tests' one

from ccm_clients import STARTED, Rest    # noqa: E402
from clients import new_id    # noqa: E402
from suite import BUILD, Suite, until    # noqa: E402

GOALS = {    # name -> (most, unit)
    "switch-on to all links connected": (2000, "ms"),
    "project info, p99": (50, "ms"),
    "list of projects, p99": (20, "ms"),
    "list of devices, p99": (20, "ms"),
    "bind, p99": (20, "ms"),
}


def say(text):
    print(text, file=sys.stderr, flush=True)


class Fleet:
    """Devices in C, all in one process, each with the input feature `meow` and one output feature."""

    def __init__(self, suite, count, model, odf):
        self.lines, self._changed = [], threading.Condition()
        self._process = subprocess.Popen([str(BUILD / "bench/bin/fleet"), suite.url, str(count), model, odf], stdin=subprocess.DEVNULL,
                                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(json.loads(line))
                self._changed.notify_all()

    def until(self, what, number, timeout=120):
        """ret: when (the clock that time.monotonic() reads), to 50 ms"""
        with self._changed:
            assert self._changed.wait_for(lambda: self.lines and self.lines[-1][what] == number, timeout), \
                "%s: %s of %d" % (what, self.lines[-1:], number)
            return self.lines[-1]["at_ms"] / 1000

    def stop(self):
        self._process.terminate()
        self._process.wait(20)


def cpu_ms(pid):
    fields = Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


class Timed:
    """How long calls take, in order, and what each costs ccm, which does not depend on who else uses the machine."""

    def __init__(self, suite, call, times):
        self.ms, before = [], cpu_ms(suite.pid("ccm"))
        for n in range(times):
            began = time.monotonic()
            call(n)
            self.ms.append((time.monotonic() - began) * 1000)
        self.ms.sort()
        self.cpu_ms = (cpu_ms(suite.pid("ccm")) - before) / times


def p(values, percent):
    return values[min(len(values) - 1, len(values) * percent // 100)]


class Results:
    def __init__(self):
        self.rows = []

    def add(self, name, value, unit="ms", note=""):
        most, _ = GOALS.get(name, (None, None))
        self.rows.append({"name": name, "value": round(value, 2), "unit": unit, "goal": most, "note": note,
                          "met": most is None or value <= most})

    def times(self, name, timed, note=""):
        self.add(name + ", p50", p(timed.ms, 50), note=note)
        self.add(name + ", p99", p(timed.ms, 99), note="%.2f ms of ccm's CPU each" % timed.cpu_ms)

    def show(self):
        for row in self.rows:
            goal = "" if row["goal"] is None else "goal <= %g %s: %s" % (row["goal"], row["unit"], "met" if row["met"] else "MISSED")
            print("%-40s %9.2f %-3s %-26s %s" % (row["name"], row["value"], row["unit"], goal, row["note"]))


def large_project(suite, results, objects, joins, rounds):
    """Each join: the inputs of two device objects, the output of the first of them."""
    rest = Rest(suite, "large")
    meow, _ = rest.feature("input", "meow")
    purr, _ = rest.feature("output", "purr")
    model, _ = rest.model([meow, purr], "Fleet")
    say("%d devices" % objects)
    fleet = Fleet(suite, objects, "Fleet", "purr")
    try:
        fleet.until("online", objects)
        p_id = rest.project("large")
        say("a project of %d device objects, %d links, %d joins" % (objects, joins * 3, joins))
        dos = [rest.device_object(p_id, model, [meow, purr]) for _ in range(objects)]
        rest.bind(p_id, dos[0], "f1ee0000-0000-4000-8000-%012x" % (objects - 1))    # ccm knows the last one
        for n, do_id in enumerate(dos):
            rest.bind(p_id, do_id, "f1ee0000-0000-4000-8000-%012x" % n)
        info = rest.data("/project/%d" % p_id)
        ins = {do["do_id"]: do["dfo"][0]["dfo_id"] for do in info["ido"]}
        outs = {do["do_id"]: do["dfo"][0]["dfo_id"] for do in info["odo"]}
        for n in range(joins):
            a, b = dos[2 * n % objects], dos[(2 * n + 1) % objects]
            rest.join(p_id, [ins[a], ins[b], outs[a]], index=n, name="Join %d" % (n + 1))
        took = []
        for n in range(rounds):
            began = time.monotonic()
            rest.status(p_id, "on")
            answered = time.monotonic()
            took.append((fleet.until("connected", joins * 3) - began) * 1000)
            say("on: answered after %.0f ms, connected after %.0f ms" % ((answered - began) * 1000, took[-1]))
            if n < rounds - 1:
                rest.status(p_id, "off")
                fleet.until("connected", 0)
        results.add("switch-on to all links connected", statistics.median(took), note="%d rounds, worst %.0f ms" % (rounds, max(took)))
        path = "/project/%d" % p_id
        results.times("project info", Timed(suite, lambda n: rest.data(path), 200), "%d bytes" % len(rest.call("GET", path).content))
        rest.ok("DELETE", path)
        fleet.until("connected", 0)
    finally:
        fleet.stop()


def many(suite, results, devices, projects, users, models, bindings):
    """Devices of several users and models; the requests are those of one user among many."""
    rests = [Rest(suite, "user-%d" % n) for n in range(users)]
    (sensor, _), (lamp, _) = rests[0].feature("input", "sensor"), rests[0].feature("output", "lamp")
    names = [rests[0].model([sensor, lamp], "Many-%d" % n) for n in range(models)]
    say("%d projects" % projects)
    made = []
    for n in range(projects):
        rest, (dm_id, _) = rests[n % users], names[n % models]
        p_id = rest.project("project %d" % n)
        made.append((p_id, rest.device_object(p_id, dm_id, [sensor, lamp]), rest.device_object(p_id, dm_id, [sensor])))
    say("%d devices" % devices)
    before = suite.control("ccm", {"op": "status"})["devices"]
    macs = [new_id() for _ in range(devices)]
    http = threading.local()

    def register(n):
        if not hasattr(http, "session"):
            http.session = requests.Session()
        body = {"accept_protos": ["mqtt"], "idf_list": ["sensor"], "odf_list": ["lamp"],
                "profile": {"model": names[n % models][1], "u_name": "user-%d" % (n // models % users)}}
        answer = http.session.put("%s/%s" % (suite.url, macs[n]), json=body, timeout=60)
        assert answer.status_code == 200, answer.text
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(register, range(devices)))
    rest = rests[0]
    p_id, both, inputs = made[0]
    until(lambda: suite.control("ccm", {"op": "status"})["devices"] >= before + devices, 120, "ccm's knowledge of all devices", every=0.2)
    path = "/project/%d/deviceobject/%d/device/"
    results.times("list of projects", Timed(suite, lambda n: rest.data("/project/"), 300), "%d rows" % len(rest.data("/project/")))
    rows = len(rest.data(path % (p_id, both)))
    results.times("list of devices", Timed(suite, lambda n: rest.data(path % (p_id, both)), 300), "%d rows: the user's own" % rows)
    rows = len(rest.data(path % (p_id, inputs)))
    results.times("list of everybody's devices", Timed(suite, lambda n: rest.data(path % (p_id, inputs)), 300), "%d rows" % rows)
    mine = [macs[n] for n in range(0, devices, models) if n // models % users == 0]
    results.times("bind", Timed(suite, lambda n: rest.ok("POST", path % (p_id, both) + "bind/" + mine[n % len(mine)]), bindings),
                  "by address, the project is off")
    rest.status(p_id, "on")
    results.times("bind while on", Timed(suite, lambda n: rest.ok("POST", path % (p_id, both) + "bind/" + mine[n % len(mine)]), bindings))
    results.add("memory of ccm", suite.rss_kb("ccm") / 1024, "MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=200)
    parser.add_argument("--joins", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--devices", type=int, default=10000)
    parser.add_argument("--projects", type=int, default=1000)
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--bindings", type=int, default=500)
    options = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    results = Results()
    suite = Suite(start=STARTED)
    try:
        large_project(suite, results, options.objects, options.joins, options.rounds)
        many(suite, results, options.devices, options.projects, options.users, options.models, options.bindings)
    finally:
        suite.close()
    results.show()
    out = BUILD / "bench"
    out.mkdir(exist_ok=True)
    (out / "ccm.json").write_text(json.dumps(results.rows, indent=1) + "\n")
    return 0 if all(row["met"] for row in results.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
