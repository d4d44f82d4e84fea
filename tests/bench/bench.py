#!/usr/bin/python3
"""Measure the data path against what is possible and against others, and the registration rate.

Within a repeat the systems take turns, so that what disturbs the machine hits all alike. Every measurement is a row of
build/bench/results.csv; the report (report.py) is made of that file and says how far the goals are met.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import report
from lab import MACHINE, RESULTS, Lab, say
from results import Results, read
from scenarios import SCENARIOS
from suite import ROOT, Processes
from systems import SYSTEMS

DEFAULTS = {"scenario": list(SCENARIOS), "devices": [1, 200], "graphs": [1, 1000], "payloads": [20, 1024, 65536], "repeats": 3,
            "seconds": 1.0, "systems": ["floor", "relay", "client", "plugin", "node-red"]}
ALL = dict(DEFAULTS, devices=[1, 50, 200, 1000], graphs=[1, 1000, 10000], repeats=5, seconds=2.0, systems=list(SYSTEMS))
QOS_OF_SCENARIO = {"graphs": [1], "change": [1], "neighbour": [1], "join": [1], "payload": [1]}
ONE_QOS = ("change", "neighbour")


def words(names):
    """The type of an option that takes several of these names, with spaces or commas between."""
    def parse(text):
        found = re.split("[, ]+", text)
        if not set(found) <= set(names):
            raise argparse.ArgumentTypeError("'%s' is none of: %s" % (text, ", ".join(names)))
        return found
    return parse


def numbers(text):
    return [int(n) for n in re.split("[, ]+", text)]


def read_options():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--all", action="store_true", help="all systems and sizes, more repeats: about an hour")
    several = dict(action="extend", nargs="+")
    p.add_argument("--scenario", type=words(SCENARIOS), help=", ".join(SCENARIOS), **several)
    p.add_argument("--systems", type=words(SYSTEMS), help=", ".join(SYSTEMS), **several)
    p.add_argument("--devices", type=numbers, **several)
    p.add_argument("--qos", type=numbers, **several)
    p.add_argument("--graphs", type=numbers, help="numbers of graphs", **several)
    p.add_argument("--payloads", type=numbers, help="sizes in bytes", **several)
    p.add_argument("--repeats", type=int)
    p.add_argument("--seconds", type=float, help="of each measurement")
    p.add_argument("--warmup", type=float, default=0.3, help="seconds before each measurement")
    p.add_argument("--window", type=int, default=100, help="messages under way at the highest rate")
    p.add_argument("--rate", type=int, default=3000, help="messages a second of the latency measurement")
    p.add_argument("--keep", action="store_true", help="keep the rows that an earlier run left of other scenarios")
    p.add_argument("--report", action="store_true",
                   help="measure nothing; write tables and pictures of the last run into docs/")
    o = p.parse_args()
    for name in ("scenario", "systems", "devices", "qos", "graphs", "payloads"):
        if getattr(o, name):
            setattr(o, name, [v for part in getattr(o, name) for v in part])
    o.devices_given = o.devices is not None
    for name, value in (ALL if o.all else DEFAULTS).items():
        if getattr(o, name) is None:
            setattr(o, name, value)
    o.qos_of = lambda scenario: o.qos or ([0, 1, 2] if o.all and scenario not in ONE_QOS else QOS_OF_SCENARIO.get(scenario, [0, 1, 2]))
    return o


def version(argv, pattern):
    try:
        out = subprocess.run(argv, capture_output=True, text=True, env=dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin"))
    except OSError:
        return None
    found = re.search(pattern, out.stdout + out.stderr)
    return found and found[1]


def describe_machine(options, lab, seconds):
    model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.M)
    peers = ROOT / "build/peers/complete"
    return {"cores": os.cpu_count(), "processor": model[1] if model else platform.machine(), "kernel": platform.release(),
            "mosquitto": version(["mosquitto", "-h"], r"mosquitto version (\S+)"),
            "peer": peers.read_text().strip() if peers.exists() else None, "repeats": options.repeats,
            "seconds": options.seconds, "window": options.window, "rate": options.rate, "took_s": round(seconds),
            "skipped": lab.skipped}


def measure(options):
    """ret: the number of measurements that failed."""
    begin = time.monotonic()
    kept = [r for r in read(RESULTS) if r["scenario"] not in options.scenario] if options.keep else []
    with Processes() as processes:
        lab = Lab(processes, options)
        scenarios = [SCENARIOS[name](lab) for name in options.scenario]
        cases = [(s.name, [c for c in s.cases() if c]) for s in scenarios]
        say("prepared in %d s: %d measurements in each of %d repeats" % (
            time.monotonic() - begin, sum(len(c) for _, c in cases), options.repeats))
        try:
            for repeat in range(options.repeats):
                lab.repeat = repeat
                for name, todo in cases:
                    print("\n%d/%d %-10s " % (repeat + 1, options.repeats, name), end="", file=sys.stderr, flush=True)
                    for case in todo:
                        case()
        finally:
            say("")
            lab.save(kept)
            MACHINE.write_text(json.dumps(describe_machine(options, lab, time.monotonic() - begin), indent=1) + "\n")
    return len(lab.failures)


def main():
    options = read_options()
    failures = 0 if options.report else measure(options)
    results = Results(read(RESULTS), json.loads(MACHINE.read_text()))
    if options.report:
        for path in report.write_docs(results, ROOT / "docs"):
            say("wrote %s" % path)
    else:
        text = "\n".join(report.lines(results)) + "\n"
        RESULTS.with_name("report.md").write_text(text)
        print(text)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
