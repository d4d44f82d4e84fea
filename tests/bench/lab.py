"""Starts systems when they are first needed, measures, and keeps one row for each measurement."""

import csv
import json
import os
import resource
import subprocess
import sys
import time

from procs import cpu_s, cpu_s_of_machine
from suite import BUILD, Unavailable
from systems import SYSTEMS

LIMIT_S = 120
PROGRAMS = BUILD / "bench/bin"
RESULTS = BUILD / "bench/results.csv"
MACHINE = BUILD / "bench/machine.json"


def say(text):
    print(text, file=sys.stderr, flush=True)


class Lab:
    def __init__(self, processes, options):
        self.processes, self.options = processes, options
        self.rows, self.failures = [], []
        self.repeat = 0
        self.skipped = {}   # name of a system -> why
        self._systems = {}  # (name, purpose) -> System
        self._files = {}

    def system(self, name, purpose="", **how):
        """Systems of different purposes have processes of their own. how: for its class. ret: None if it is not available or does not work, which is
        said once; the others are measured all the same."""
        if name in self.skipped:
            return None
        key = (name, purpose)
        if key not in self._systems:
            try:
                self._systems[key] = SYSTEMS[name](self.processes, "%s%s" % key, **how)
            except Unavailable as e:
                self._skip(name, str(e))
                return None
            except RuntimeError as e:
                self._skip(name, "it does not start", str(e))
                return None
        return self._systems[key]

    def _skip(self, name, why, failure=None):
        self.skipped[name] = why
        say("skipped: %s: %s" % (SYSTEMS[name].title, why))
        if failure:
            self.failures.append(failure)
            say(failure)

    def prepare(self, system, shape, devices):
        """Make devices and graphs before anything is measured. ret: whether that worked."""
        name = next(key[0] for key, s in self._systems.items() if s is system)
        if name in self.skipped:
            return False
        try:
            self.topics(system, shape, devices)
        except RuntimeError as e:
            self._skip(name, "its devices cannot be wired", str(e))
            return False
        return True

    def systems(self, names, shape="plain", devices=1):
        """Those of the options that are among names, available, and fit."""
        for name in self.options.systems:
            if name in names and shape in SYSTEMS[name].shapes and devices <= SYSTEMS[name].most_devices:
                system = self.system(name)
                if system:
                    yield name, system

    def topics(self, system, shape, devices):
        """ret: a file for the load program."""
        key = (system, shape, devices)
        if key not in self._files:
            path = self.processes.folder / ("topics-%d" % len(self._files))
            path.write_text("".join("%s %s\n" % line for lines in system.lines(shape, devices) for line in lines))
            self._files[key] = path
        return self._files[key]

    def load(self, system, key, shape, devices, qos, arguments, seconds=None, beside=None):
        """Run the load program and keep the row. key: what tells the row from others. beside: has stop(), which returns more
        fields of the row; made when the program runs."""
        factor, offset = system.answer(shape, devices)
        argv = [PROGRAMS / "load", "-p", system.port(), "-t", self.topics(system, shape, devices), "-q", qos, "-a", factor,
                "-o", offset, "-d", seconds or self.options.seconds, "-W", self.options.warmup] + arguments
        for role, pids in system.pids().items():
            if pids:
                argv += ["-C", "%s=%s" % (role, ",".join(map(str, pids)))]
        self.run(argv, dict(key, system=system.title, devices=devices, qos=qos), beside)

    def run(self, argv, key, beside=None):
        start, machine, ours = time.monotonic(), cpu_s_of_machine(), self._cpu_of_ours()
        argv = [str(a) for a in argv]
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        helper = beside() if beside else None
        try:
            out, errors = p.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            p.kill()
            out, errors = "", "no end within %d s\n%s" % (LIMIT_S, p.communicate()[1])
        more = helper.stop() if helper else {}
        if p.returncode != 0:
            self.failures.append("%s: %s" % (", ".join("%s %s" % i for i in key.items()), errors.strip()))
            say("\n" + self.failures[-1])
            return
        strangers = cpu_s_of_machine() - machine - (self._cpu_of_ours() - ours)
        row = json.loads(out)
        cpu = row.pop("cpu_us")
        row.update({"cpu_%s_us" % k: v for k, v in cpu.items()} if isinstance(cpu, dict) else {"cpu_us": cpu})
        row["strangers"] = max(0, strangers) / (time.monotonic() - start) / os.cpu_count()
        self.rows.append(dict(key, repeat=self.repeat, **row, **more))
        print(".", end="", file=sys.stderr, flush=True)

    def keep(self, key, measure):
        """Keep what measure() returns as a row: of processes that are not all ours, so without what strangers used."""
        try:
            row = measure()
        except (RuntimeError, OSError, subprocess.SubprocessError) as e:
            self.failures.append("%s: %s" % (", ".join("%s %s" % i for i in key.items()), e))
            say("\n" + self.failures[-1])
            return
        self.rows.append(dict(key, repeat=self.repeat, **row))
        print(".", end="", file=sys.stderr, flush=True)

    def _cpu_of_ours(self):
        pids = {pid for s in self._systems.values() for role in s.pids().values() for pid in role}
        us, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return sum(map(cpu_s, pids)) + us.ru_utime + us.ru_stime + children.ru_utime + children.ru_stime

    def save(self, keep=()):
        """keep: rows of an earlier run."""
        rows = list(keep) + self.rows
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        fields = list(dict.fromkeys(k for r in rows for k in r))
        with open(RESULTS, "w", newline="") as f:
            writer = csv.DictWriter(f, fields)
            writer.writeheader()
            writer.writerows(rows)
