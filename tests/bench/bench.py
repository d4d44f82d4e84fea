#!/usr/bin/python3
"""Measure the data path against what is possible, and the registration rate.

All systems are measured in turn within each repeat, so that a noisy machine hits them alike; printed are medians (min..max) and
ratios. Raw results go to build/bench/results.csv, the tables also to build/bench/report.md.
"""

import argparse
import contextlib
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from suite import BUILD, Devices, Processes, descendants

FLOOR, RELAY, CLIENT = "broker, one hop", "C relay, two hops", "client transport"
BUS = "C relay over common/bus"
QUIET = 0.05  # of the machine used by others: more disturbs
GOAL_RATE, GOAL_P99 = 0.65, 2.0  # P5: client transport against the C relay


def cpu_of(pid):
    """Seconds of CPU time of all threads of a process."""
    tasks = "/proc/%d/task" % pid
    return sum(int(open("%s/%s/schedstat" % (tasks, t)).read().split()[0]) for t in os.listdir(tasks)) / 1e9


def cpu_of_machine():
    """Seconds of CPU time that anything used: all of /proc/stat but idle and waiting."""
    ticks = [int(n) for n in open("/proc/stat").readline().split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


class Run:
    def __init__(self, options, processes):
        self.options, self.processes = options, processes
        self.broker = self.csm = None
        self.disturbance = 0
        self.systems = {}  # name -> (devices -> topics file, load options, pids)
        self.rows = []     # everything measured, one dictionary each

    def add_system(self, name, pairs, arguments=(), pids=()):
        """pairs: as many as the largest number of devices."""
        files = {}
        for count in self.options.devices:
            files[count] = self.processes.folder / ("topics-%d-%d" % (len(self.systems), count))
            files[count].write_text("".join("%s %s\n" % pair for pair in pairs[:count]))
        self.systems[name] = (files, list(arguments), list(pids))

    def load(self, name, kind, devices, qos, arguments):
        files, own, pids = self.systems[name]
        argv = [BUILD / "bench/bin/load", "-p", self.processes.mqtt_port, "-t", files[devices], "-q", qos,
                "-d", self.options.seconds, "-W", 0.3, "-C", "broker=%d" % self.broker.pid] + own + arguments
        if pids:
            argv += ["-C", "system=" + ",".join(map(str, pids))]
        self.measure([str(a) for a in argv], {"system": name, "kind": kind, "devices": devices, "qos": qos})

    def measure(self, argv, key):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise RuntimeError("%s\n%s" % (" ".join(argv), done.stderr))
        row = json.loads(done.stdout)
        cpu = row.pop("cpu_us", 0)
        row.update({"cpu_%s_us" % k: v for k, v in cpu.items()} if isinstance(cpu, dict) else {"cpu_us": cpu})
        self.rows.append(dict(key, **row))
        print(".", end="", file=sys.stderr, flush=True)

    def cpu_of_ours(self):
        pids = {self.broker.pid}.union(*(pids for _, _, pids in self.systems.values()))
        if self.csm:
            pids.add(self.csm.pid)
        us, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return sum(map(cpu_of, pids)) + us.ru_utime + us.ru_stime + children.ru_utime + children.ru_stime

    def measure_all(self):
        """Measure everything, and how much of the machine strangers used meanwhile."""
        start, machine, ours = time.monotonic(), cpu_of_machine(), self.cpu_of_ours()
        self.measure_in_turn()
        strangers = cpu_of_machine() - machine - (self.cpu_of_ours() - ours)
        self.disturbance = max(0, strangers) / (time.monotonic() - start) / os.cpu_count()

    def measure_in_turn(self):
        for _ in range(self.options.repeats):
            for devices in self.options.devices:
                for qos in self.options.qos:
                    for name in self.systems:
                        self.load(name, "max", devices, qos, ["-w", self.options.window])
            for qos in self.options.qos:
                for name in self.systems:
                    self.load(name, "rate", max(self.options.devices), qos, ["-r", self.options.rate])
            if "csm" in self.options.systems:
                self.register()
        print(file=sys.stderr)

    def register(self):
        for name, arguments in (("1 connection: a commit for each", ["-c", 1]),
                                ("64 connections: shared commits", ["-c", 64]),
                                ("64 connections, 500/s", ["-c", 64, "-r", 500])):
            argv = [BUILD / "bench/bin/http_load", "-p", self.processes.http_port, "-d", self.options.seconds,
                    "-C", self.csm.pid] + arguments
            self.measure([str(a) for a in argv], {"system": name, "kind": "register"})

    # -- the report

    def values(self, field, **key):
        return [r[field] for r in self.rows if field in r and all(r.get(k) == v for k, v in key.items())]

    def median(self, field, **key):
        values = self.values(field, **key)
        return statistics.median(values) if values else 0

    def ratio(self, field, system, **key):
        """To the C relay: median of the ratios of neighbours in time, which a disturbance hits alike."""
        pairs = zip(self.values(field, system=system, **key), self.values(field, system=RELAY, **key))
        return statistics.median([a / b if b else 0 for a, b in pairs] or [0])

    def cell(self, field, digits=0, scale=1, **key):
        values = [v / scale for v in self.values(field, **key)]
        if not values:
            return "-"
        return "%.*f (%.*f..%.*f)" % (digits, statistics.median(values), digits, min(values), digits, max(values))

    def data_table(self, kind, devices):
        yield "| QoS | system | msg/s | ratio to the relay | p50 ms | p99 ms | broker us/msg | system us/msg | lost, dup., disordered |"
        yield "|---|---|---|---|---|---|---|---|---|"
        for qos in self.options.qos:
            for name in self.systems:
                key = dict(system=name, kind=kind, devices=devices, qos=qos)
                bad = "%d, %d, %d" % tuple(sum(self.values(f, **key)) for f in ("lost", "duplicated", "out_of_order"))
                yield "| %d | %s | %s | %s | %s | %s | %.1f | %.1f | %s |" % (
                    qos, name, self.cell("msgs_s", **key),
                    "%.2f" % self.ratio("msgs_s", **key),
                    self.cell("p50_us", 2, 1000, **key), self.cell("p99_us", 2, 1000, **key),
                    self.median("cpu_broker_us", **key), self.median("cpu_system_us", **key), bad)

    def register_table(self):
        yield "| registrations | PUT/s | p50 ms | p99 ms | csm us/request | refused |"
        yield "|---|---|---|---|---|---|"
        for name in dict.fromkeys(r["system"] for r in self.rows if r["kind"] == "register"):
            key = dict(system=name, kind="register")
            yield "| %s | %s | %s | %s | %.0f | %d |" % (
                name, self.cell("requests_s", **key), self.cell("p50_us", 2, 1000, **key),
                self.cell("p99_us", 2, 1000, **key), self.median("cpu_us", **key), sum(self.values("refused", **key)))

    def goals(self):
        """P5 for every QoS, with the largest number of devices."""
        if RELAY not in self.systems or CLIENT not in self.systems:
            return
        for qos in self.options.qos:
            key = dict(kind="max", devices=max(self.options.devices), qos=qos)
            rate, p99 = self.ratio("msgs_s", CLIENT, **key), self.ratio("p99_us", CLIENT, **key)
            yield "- P5, QoS %d: %.2fx the C relay's rate (goal >= %.2f: %s), p99 %.2fx (goal <= %.1f: %s)" % (
                qos, rate, GOAL_RATE, "met" if rate >= GOAL_RATE else "MISSED", p99, GOAL_P99,
                "met" if p99 <= GOAL_P99 else "MISSED")

    def report(self):
        for devices in self.options.devices:
            yield "### As fast as it goes, %d device%s, %d under way" % (
                devices, "" if devices == 1 else "s", self.options.window)
            yield ""
            yield from self.data_table("max", devices)
            yield ""
        yield "### %d messages a second, %d devices" % (self.options.rate, max(self.options.devices))
        yield ""
        yield from self.data_table("rate", max(self.options.devices))
        if "csm" in self.options.systems:
            yield ""
            yield "### Durable registrations"
            yield ""
            yield from self.register_table()
        yield ""
        yield "%d cores, %d repeats of %g s; other processes used %.0f %% of the machine%s" % (
            os.cpu_count(), self.options.repeats, self.options.seconds, 100 * self.disturbance,
            "" if self.disturbance < QUIET else ": too much for numbers to quote")
        yield ""
        yield from self.goals()

    def save(self):
        folder = BUILD / "bench"
        fields = list(dict.fromkeys(k for r in self.rows for k in r))
        with open(folder / "results.csv", "w", newline="") as f:
            writer = csv.DictWriter(f, fields)
            writer.writeheader()
            writer.writerows(self.rows)
        text = "\n".join(self.report()) + "\n"
        (folder / "report.md").write_text(text)
        print(text)


def numbers(text):
    return [int(n) for n in text.split(",")]


def read_options():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--full", action="store_true", help="more repeats, longer runs, more numbers of devices")
    p.add_argument("--repeats", type=int)
    p.add_argument("--seconds", type=float, help="of each measurement")
    p.add_argument("--devices", type=numbers, help="e.g. 1,200")
    p.add_argument("--qos", type=numbers, default=[0, 1, 2])
    p.add_argument("--window", type=int, default=100, help="messages under way at the highest rate")
    p.add_argument("--rate", type=int, default=3000, help="messages a second of the latency measurement")
    p.add_argument("--systems", default="floor,relay,bus,client,csm", help="which ones")
    o = p.parse_args()
    o.repeats = o.repeats or (7 if o.full else 3)
    o.seconds = o.seconds or (3 if o.full else 1)
    o.devices = o.devices or ([1, 10, 200, 1000] if o.full else [1, 200])
    o.systems = o.systems.split(",")
    return o


def main():
    options = read_options()
    most = max(options.devices)
    with Processes() as processes, contextlib.ExitStack() as stack:
        run = Run(options, processes)
        run.broker = processes.start_broker()
        if "floor" in options.systems:
            run.add_system(FLOOR, [("floor/%d" % i, "floor/%d" % i) for i in range(most)])
        for option, name, program in (("relay", RELAY, "relay"), ("bus", BUS, "bus_relay")):
            if option in options.systems:
                pairs = [("%s/in/%d" % (program, i), "%s/out/%d" % (program, i)) for i in range(most)]
                run.add_system(name, pairs, ["-y"], [processes.start_relay(program).pid])
        if "client" in options.systems or "csm" in options.systems:
            run.csm, agent = processes.start_suite()
        if "client" in options.systems:
            devices = stack.enter_context(contextlib.closing(Devices(processes)))
            pairs = devices.wire(most)
            run.add_system(CLIENT, pairs, ["-y"], [agent.pid] + descendants(agent.pid))
        run.measure_all()
        run.save()


if __name__ == "__main__":
    main()
