#!/usr/bin/env python3
"""Kills csm, agent and broker at random points under mixed load and compares what was answered with what there is.

    tests/system/crash/harness.py --kills 1000 --seed 7      (or: make crash KILLS=1000 SEED=7)

What each client asks and whom the killer hits follow from the seed; how their requests fall between each other does not. A broken promise
ends the run with status 1, tells seed, kill, answers and findings, and leaves logs and store in a folder that it names."""

import argparse
import os
import random
import shutil
import sys
import threading
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import suite as suites
from checks import check_store
from killer import FORWARDS_S, Killer, Probe
from load import SIZE, ByHttpClient, ByRequests, DeviceClient, Gate, GraphWorker
from model import Violation

VERIFY_S = 150
HTTP_CLIENTS = (("http-1", ByRequests), ("http-2", ByRequests), ("http-3", ByHttpClient))
GRAPH_CLIENTS = ("graph-1", "graph-2", "graph-3")


def seeded_id(chance):
    return "%08x-%04x-4%03x-8%03x-%012x" % tuple(chance.getrandbits(bits) for bits in (32, 16, 12, 12, 48))


class Run:
    def __init__(self, seed, transport="plugin"):
        self.seed = seed
        self.chance = random.Random(seed)
        self.suite = suites.Suite({"core.da-expiration": 86400}, transport=transport)
        self.counts = {"lock": threading.Lock()}
        self.gate = Gate()
        self.kills = self.rounds = 0
        self.probe = self.killer = None
        self.clients = []

    def begin(self):
        self.probe = Probe(self.suite)
        ids = {name: [seeded_id(self.chance) for _ in range(SIZE["devices"])] for name, _ in HTTP_CLIENTS}
        shared = [self.probe.source.da_id] + [da_id for mine in ids.values() for da_id in mine[:2]]
        self.clients = [DeviceClient(name, self.seed, self.gate, self.counts, call(self.suite), ids[name])
                        for name, call in HTTP_CLIENTS]
        self.clients += [GraphWorker(name, self.seed, self.gate, self.counts, self.suite, shared) for name in GRAPH_CLIENTS]
        self.killer = Killer(self.suite, self.chance, self.probe, self.requests)
        for c in self.clients:
            c.start()

    def requests(self):
        if self.gate.error:
            raise self.gate.error
        return sum(v for k, v in self.counts.items() if k != "lock")

    def once(self):
        """One random point: kill, compare."""
        self.killer.wait()
        self.rounds += 1
        self.kills += self.killer.kill()
        self.compare()

    def compare(self):
        self.gate.close(len(self.clients), VERIFY_S)
        self.suite.await_session()
        self.probe.whole()
        check_store(self.suite.userdir / "iottalk.db", [d for c in self.clients for d in getattr(c, "devices", ())],
                    [g for c in self.clients for g in getattr(c, "graphs", ())])
        self.gate.open()

    def report(self):
        times = sorted(t for _, t in self.killer.times)
        lines = ["seed %d: %d kills in %d rounds; requests answered ok %d, refused %d, by nobody %d" % (
            self.seed, self.kills, self.rounds, *(self.counts.get(k, 0) for k in ("ok", "refused", "unanswered")))]
        for name in ("csm", "agent", "broker"):
            of = sorted(t for what, t in self.killer.times if what.split()[0] == name)
            if of:
                lines.append("data went on after a kill of %-6s p50 %.3f s, p95 %.3f s, max %.3f s (%d)" % (
                    name + ":", of[len(of) // 2], of[len(of) * 95 // 100], of[-1], len(of)))
        if times:
            lines.append("all: p50 %.3f s, p99 %.3f s, max %.3f s; the limit is %.0f s" % (
                times[len(times) // 2], times[len(times) * 99 // 100], times[-1], FORWARDS_S))
        return "\n".join(lines)

    def keep(self, folder):
        """Logs and store, for whoever looks for the reason."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path in list(self.suite.dir.glob("*.log")) + list(self.suite.userdir.glob("iottalk.db*")):
            shutil.copy(path, folder)

    def end(self, whole):
        """whole: an orderly stop, which must succeed too"""
        self.gate.stop()
        for c in self.clients:
            c.join(30)
            if hasattr(c, "close"):
                c.close()
        if self.probe:
            self.probe.close()
        if whole:
            self.suite.close()
            return
        self.suite.abort()


def crash(seed, kills=None, seconds=None, keep=None, transport="plugin", say=print):
    """Until so many kills or seconds. ret: the report. Raises Violation, with all there is to know."""
    began = time.monotonic()
    run = Run(seed, transport)
    try:
        run.begin()
        while (kills is None or run.kills < kills) and (seconds is None or time.monotonic() - began < seconds):
            run.once()
            if run.rounds % 20 == 0:
                say("%d kills after %d s" % (run.kills, time.monotonic() - began))
        report = run.report()
    except (Violation, AssertionError) as e:
        folder = Path(keep or suites.BUILD / "crash" / ("seed-%d" % seed))
        run.keep(folder)
        text = "seed %d, kill %d (%s): %s\nlogs and store are in %s\n%s" % (
            seed, run.kills, run.killer and run.killer.what, e, folder, run.report() if run.killer else "")
        run.end(False)
        raise Violation(text) from e
    except BaseException:
        run.end(False)
        raise
    run.end(True)
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, help="end after so many (default: 100, unless --seconds is given)")
    parser.add_argument("--seconds", type=float, help="end after so long")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="default: a new one")
    parser.add_argument("--transport", choices=("plugin", "client"), default="plugin")
    parser.add_argument("--keep", help="folder for logs and store after a failure")
    args = parser.parse_args()
    if args.kills is None and args.seconds is None:
        args.kills = 100
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    print("seed %d" % args.seed, flush=True)
    try:
        print(crash(args.seed, args.kills, args.seconds, args.keep, args.transport, lambda text: print(text, flush=True)))
    except Violation as e:
        print(e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
