#!/usr/bin/python3
"""Load for a long time, a graph that changes, engines that are killed: nothing may be lost but the one message in evaluation at
each kill, nothing may come twice, wrong or out of order, and nothing may grow. Samples of sizes go to build/bench/soak.csv.

Exit status: 0 if all of it held, 1 if not, 2 if it could not be measured.
"""

import argparse
import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time

from lab import PROGRAMS, RESULTS, say
from procs import open_descriptors, resident_kb
from suite import PLUGIN, Processes, Unavailable, until
from systems import SYSTEMS
from wiring import Changes

GROWTH = 0.02
LONG_S = 600    # from here on growth is judged without slack
BACK_S = 10     # an engine that is not back by then does not come back
CALM_S = 5      # before the end, without kills
RINGS_KIB = 2 * 4096 + 64  # of an engine (the default of [engine] ring-kb): more are rings of engines that are gone
OVERLOAD_S = 3  # messages of so much time under way: more than a killed engine explains
SAMPLE_S = 1.0
SHAPE = "changing"
ROLES = ("broker", "csm", "agent", "keeper", "engine")


class Load:
    """The load program; with -i it writes a line of JSON each second, the last line is the result."""

    def __init__(self, system, topics, options, arguments):
        factor, offset = system.answer(SHAPE, options.devices)
        argv = [PROGRAMS / "load", "-p", system.port(), "-t", topics, "-q", options.qos, "-a", factor, "-o", offset, *arguments]
        self._process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            self.lines.append(json.loads(line))

    def runs(self):
        return self._process.poll() is None

    def stop(self):
        self._process.kill()
        self._process.wait()

    def result(self):
        status = self._process.wait()
        self._reader.join()
        if status != 0:
            raise RuntimeError("the load program ended with %s" % status)
        return self.lines[-1]


def engines_in(status):
    """Pids of the engines, as the agent's status tells them: one, or all of several."""
    engine = status.get("engine", {})
    return engine.get("pids") or [engine["pid"]] if engine.get("pid", -1) > 0 else []


class Engines:
    """Kills them in turn."""

    def __init__(self, suite):
        self.suite = suite
        self.kills = 0
        self.back_s = []

    def kill_one(self):
        """SIGKILL, and wait until as many as before are ready."""
        running = engines_in(self.suite.status())
        if not running:
            raise RuntimeError("the agent tells of no engine: %s" % self.suite.status())
        pid = running[self.kills % len(running)]
        os.kill(pid, signal.SIGKILL)
        begin = time.monotonic()
        self.kills += 1
        until(lambda: self._ready_without(pid, len(running)), "an engine in place of the killed one", BACK_S, 0.002)
        self.back_s.append(time.monotonic() - begin)

    def _ready_without(self, pid, count):
        status = self.suite.status()
        now = engines_in(status)
        return len(now) >= count and pid not in now and status["engine"]["ready"]


class Samples:
    """Resident size, that of the rings apart, and descriptors of each role over time; of the engines, the largest one counts. A new
    engine grows for a while, so what is compared is the last sample before each kill. A graph that is blamed for kills gets an engine
    of its own: only times with as many engines as at the end are compared."""

    FIELDS = ("second", "kills", "engines", "role", "own_kib", "rings_kib", "descriptors")

    def __init__(self, suite):
        self.suite = suite
        self.rows = []
        # once: the agent would still have the connection of a question when its descriptors are counted
        self._keeper = suite.status()["keeper"]["pid"]

    def _pids(self):
        pids, keeper = self.suite.pids(), self._keeper
        return {"broker": pids["broker"], "csm": pids["csm"], "agent": pids["agent"],
                "keeper": [p for p in pids["engine"] if p == keeper], "engine": [p for p in pids["engine"] if p != keeper]}

    def take(self, second, kills):
        pids = self._pids()
        for role in filter(pids.get, ROLES):
            own = max(resident_kb(p, ("RssAnon", "RssFile")) for p in pids[role])
            rings = sum(resident_kb(p, ("RssShmem",)) for p in pids[role])
            descriptors = max(map(open_descriptors, pids[role]))
            self.rows.append(dict(zip(self.FIELDS, (second, kills, len(pids["engine"]), role, own, rings, descriptors))))

    @property
    def engines(self):
        return self.rows[-1]["engines"]

    def roles(self):
        return [role for role in ROLES if any(r["role"] == role for r in self.rows)]

    def ends(self, role, warm_s):
        """ret: {field: (at first, at last)}; a descriptor that is open for a moment does not count."""
        rows = [r for r in self.rows if r["role"] == role and r["engines"] == self.engines]
        warm = [r for r in rows if r["second"] >= warm_s] or rows[-1:]
        before_kills = list({r["kills"]: r for r in warm}.values())
        sizes = before_kills if len(before_kills) > 1 else warm
        return {"own_kib": ends([r["own_kib"] for r in sizes]), "rings_kib": ends([r["rings_kib"] for r in sizes]),
                "descriptors": ends([r["descriptors"] for r in warm])}

    def save(self, path):
        with open(path, "w", newline="") as f:
            writer = csv.DictWriter(f, self.FIELDS)
            writer.writeheader()
            writer.writerows(self.rows)


def ends(values):
    """Medians of the first and the last third."""
    third = max(1, len(values) // 3)
    return statistics.median(values[:third]), statistics.median(values[-third:])


def read_options():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--seconds", type=float, default=3600)
    p.add_argument("--transport", choices=("client", "plugin"), help="default: plugin if it is built")
    p.add_argument("--qos", type=int, default=1, choices=(0, 1, 2))
    p.add_argument("--devices", type=int, default=50)
    p.add_argument("--rate", type=float, help="messages a second; default: half of what goes, measured first")
    p.add_argument("--measure", type=float, default=5, help="seconds of that measurement")
    p.add_argument("--change-every", type=float, default=1, help="seconds")
    p.add_argument("--kill-every", type=float, default=60, help="seconds; 0: never")
    p.add_argument("--slack-kib", type=int, help="growth that is no growth; default: 4096 below %d s, else 0" % LONG_S)
    o = p.parse_args()
    o.transport = o.transport or ("plugin" if PLUGIN.exists() else "client")
    if o.slack_kib is None:
        o.slack_kib = 4096 if o.seconds < LONG_S else 0
    return o


def endure(load, changes, engines, samples, options):
    """Sample, kill, until the load ends."""
    begin = time.monotonic()
    last_kill = begin + options.seconds - CALM_S
    next_kill = begin + options.kill_every if options.kill_every else last_kill
    next_sample, warm_s, told = begin + SAMPLE_S, options.seconds / 10, 0
    while load.runs():
        now = time.monotonic()
        if next_kill <= now and now < last_kill:
            with changes.between:
                engines.kill_one()
            next_kill += options.kill_every
            if engines.kills == 1:
                warm_s = max(warm_s, time.monotonic() + 2 * SAMPLE_S - begin)
        if next_sample <= now < last_kill + CALM_S:
            samples.take(now - begin, engines.kills)
            next_sample += SAMPLE_S
        if begin + told + 60 <= now < last_kill + CALM_S:
            told += 60
            say("%d s, %d kills, %d changes, %s" % (told, engines.kills, changes.made, load.lines[-1:]))
        time.sleep(max(0.01, min(next_sample, next_kill) - time.monotonic()) if now < last_kill else 0.1)
    return warm_s


def soak(system, options):
    """ret: the lines of the report, and whether all held."""
    suite = system.suite
    topics = suite.folder / "topics"
    topics.write_text("".join("%s %s\n" % line for lines in system.lines(SHAPE, options.devices) for line in lines))
    rate = options.rate
    if rate is None:
        best = Load(system, topics, options, ["-d", options.measure])
        rate = best.result()["msgs_s"] / 2
    say("%s, QoS %d, %d devices: %.0f messages a second for %g s" % (
        system.title, options.qos, options.devices, rate, options.seconds))
    samples, engines = Samples(suite), Engines(suite)
    load = Load(system, topics, options, ["-r", rate, "-d", options.seconds, "-W", 0, "-i", 1])
    try:
        changes = Changes(system.devices, system.wire(SHAPE, 1)[0][0], options.change_every)
        warm_s = endure(load, changes, engines, samples, options)
        made = changes.stop()
        return report(load, rate, made, engines, samples, warm_s, options)
    finally:
        load.stop()


def report(load, rate, changes, engines, samples, warm_s, options):
    result = load.result()
    under_way = max(line["sent"] - line["received"] for line in load.lines[:-1])
    if under_way > OVERLOAD_S * rate:
        raise RuntimeError("%d messages were under way at a time: either %.0f a second are too many for this machine now (try a "
                           "lower --rate), or something stood still" % (under_way, rate))
    delays_ms = [line["max_us"] / 1000 for line in load.lines[:-1]]
    checks = [("lost, at most one a kill", result["lost"], result["lost"] <= engines.kills)]
    checks += [(name.replace("_", " "), result[name], result[name] == 0) for name in ("duplicated", "out_of_order", "wrong")]
    lines = ["messages %d, engines %d, p50 %.2f ms, p99 %.2f ms, worst delay %.0f ms" % (
        result["sent"], samples.engines, result["p50_us"] / 1000, result["p99_us"] / 1000, max(delays_ms, default=0)),
        "graph changes %d, engines killed %d%s" % (changes, engines.kills, ", back after %.0f ms (at most %.0f)" % (
            1000 * statistics.median(engines.back_s), 1000 * max(engines.back_s)) if engines.back_s else "")]
    lines += ["", "| role | resident KiB, first and last | growth | pages of rings KiB | descriptors |", "|---|---|---|---|---|"]
    for role in samples.roles():
        (first, last), rings, open_ones = samples.ends(role, warm_s).values()
        growth = last - first
        lines.append("| %s | %d, %d | %+.1f %% | %d, %d | %d, %d |" % (
            role, first, last, 100 * growth / first, *rings, *open_ones))
        checks += [
            ("%s does not grow" % role, "%+.0f KiB" % growth, growth <= first * GROWTH + options.slack_kib),
            ("%s keeps no rings of killed engines" % role, "%d KiB" % rings[1], rings[1] <= RINGS_KIB * samples.engines),
            ("%s has the same number of descriptors" % role, "%d" % open_ones[1], open_ones[0] == open_ones[1]),
        ]
    samples.save(RESULTS.with_name("soak.csv"))
    lines.append("")
    lines += ["%-4s %s%s" % ("ok" if held else "FAIL", what, ": %s" % value if value != "" else "") for what, value, held in checks]
    return lines, all(held for _, _, held in checks)


def main():
    options = read_options()
    with Processes() as processes:
        try:
            system = SYSTEMS[options.transport](processes, options.transport)
        except Unavailable as e:
            say("%s: %s" % (options.transport, e))
            return 2
        try:
            lines, held = soak(system, options)
        except RuntimeError as e:
            say("%s\n%s" % (e, system.suite.logs()))
            return 2
        if not held:
            say(system.suite.logs())
        print("\n".join(lines))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
