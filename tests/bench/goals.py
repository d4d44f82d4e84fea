"""The goals of the data path and of registrations, judged by the results of a run.

P1 to P4 are about the plugin transport (P4 about the client transport where there is no other), P5 about the client transport, P6
and P7 about both, and so is "hostile": that owners do not feel each other's functions.
"""

import statistics

from results import Spread, cost_us
from titles import CLIENT, FLOOR, NODERED, OURS, PLUGIN, REGISTRY, RELAY

DEVICES = 200
FACTOR_NODERED = {0: 2.5, 1: 3.5, 2: 3.5}
AT_MOST, AT_LEAST = "<=", ">="


class Goal:
    """judged_by: what of the repeats counts; a promise that something never happens is judged by the worst of them."""

    def __init__(self, name, what, measured, sense, wanted, unit="x", digits=2, note="", judged_by=statistics.median):
        self.name, self.what, self.measured, self.sense, self.wanted = name, what, measured, sense, wanted
        self.unit, self.digits, self.note = unit, digits, note
        self._judged_by = judged_by

    def verdict(self):
        value = self._judged_by(self.measured.values)
        if value <= self.wanted if self.sense == AT_MOST else value >= self.wanted:
            return "PASS"
        if self.wanted == 0:
            return "MISSED by %g" % value
        return "MISSED by %.0f %%" % (100 * abs(value - self.wanted) / self.wanted)

    def cells(self):
        wanted = "%s %g%s" % (self.sense, self.wanted, self.unit)
        return [self.name, self.what, self.measured.format(self.digits) + self.unit, wanted, self.verdict() + self.note]


def data_path(r):
    """P1 to P5, each QoS for itself."""
    most = {"scenario": "throughput", "devices": DEVICES}
    calm = {"scenario": "latency"}
    ours = PLUGIN if r.select(system=PLUGIN, **most) else CLIENT
    for qos in (0, 1, 2):
        def ratio(field, key, system, other):
            return r.ratio(field, dict(key, qos=qos, system=system), dict(key, qos=qos, system=other))

        at = "QoS %d, %d devices: " % (qos, DEVICES)
        yield Goal("P1", at + "plugin transport to one hop, rate", ratio("msgs_s", most, PLUGIN, FLOOR), AT_LEAST, 0.75)
        yield Goal("P2", at + "plugin transport to the C relay, rate", ratio("msgs_s", most, PLUGIN, RELAY), AT_LEAST, 2)
        yield Goal("P2", at + "plugin transport to Node-RED, rate", ratio("msgs_s", most, PLUGIN, NODERED), AT_LEAST,
                   FACTOR_NODERED[qos])
        at = "QoS %d, steady rate: " % qos
        yield Goal("P3", at + "plugin transport to one hop, p50", ratio("p50_us", calm, PLUGIN, FLOOR), AT_MOST, 1.5)
        yield Goal("P3", at + "plugin transport to the C relay, p99", ratio("p99_us", calm, PLUGIN, RELAY), AT_MOST, 1.5)
        at = "QoS %d, %d devices: " % (qos, DEVICES)
        yield Goal("P4", at + "%s to Node-RED, CPU time a message" % ours, ratio(cost_us, most, ours, NODERED), AT_MOST, 0.4)
        yield Goal("P5", at + "client transport to the C relay, rate", ratio("msgs_s", most, CLIENT, RELAY), AT_LEAST, 0.65)
        yield Goal("P5", at + "client transport to the C relay, p99", ratio("p99_us", most, CLIENT, RELAY), AT_MOST, 2)


def changes(r):
    for system in OURS:
        key = {"scenario": "change", "system": system}
        if not r.select(**key):
            continue
        bad = Spread([sum(row[f] for f in ("lost", "duplicated", "out_of_order", "wrong"))
                      for row in r.select(**key) if row["every_ms"]])
        calm = r.spread("max_us", every_ms=0, **key)
        yield Goal("P6", "%s: lost, duplicated, disordered in a changing graph" % system, bad, AT_MOST, 0, "", 0,
                   judged_by=max)
        delay = Spread([row["max_us"] / 1000 for row in r.select(**key) if row["every_ms"]])
        note = " (undisturbed: %s ms)" % calm.format(1, 1000) if calm else ""
        yield Goal("P6", "%s: longest delay in a changing graph" % system, delay, AT_MOST, 10, " ms", 1, note, max)


def graphs(r):
    for system in OURS:
        key = {"scenario": "graphs", "system": system}
        for many, cost in ((1000, 1.1), (10000, 1.2)):
            memory = [r.spread("memory_engine_kb", graphs=n, **key) for n in (1, many)]
            if many == 1000 and all(memory):
                grown = Spread([(memory[1].median - memory[0].median) / 1024])
                yield Goal("P7", "%s: memory of %d graphs in the engine" % (system, many), grown, AT_MOST, 30, " MB", 1)
            for through in ("one", "all"):
                one = dict(key, graphs=1, through="one")
                yield Goal("P7", "%s: CPU time a message, %d graphs to 1, messages through %s" % (system, many, through),
                           r.ratio(cost_us, dict(key, graphs=many, through=through), one), AT_MOST, cost)


def neighbours(r):
    for system in OURS:
        key = {"scenario": "neighbour", "system": system}
        for culprit in r.distinct("culprit", **key):
            if culprit != "none":
                yield Goal("hostile", "%s: p99 of a graph beside one of another owner, %s" % (system, culprit),
                           r.ratio("p99_us", dict(key, culprit=culprit), dict(key, culprit="none")), AT_MOST, 1.1)


def registrations(r):
    key = {"scenario": "register", "system": REGISTRY}
    together = dict(key, connections=64, rate=0)
    yield Goal("P8", "registrations: shared commits to a commit for each",
               r.ratio("requests_s", together, dict(key, connections=1, rate=0)), AT_LEAST, 5)
    yield Goal("P8", "registrations: durable to Node-RED in memory",
               r.ratio("requests_s", together, dict(together, system=NODERED)), AT_LEAST, 10)
    slow = [row["p99_us"] / 1000 for row in r.select(**key) if row["rate"]]
    yield Goal("P8", "registrations: p99 at 500 a second", Spread(slow), AT_MOST, 20, " ms", 1)


def starts(r):
    for system in OURS:
        key = {"scenario": "start", "system": system}
        yield Goal("P9", "%s: from `iotctl start` to the first message" % system, r.spread("first_message_s", **key), AT_MOST, 1, " s")
        for role in ("csm", "engine"):
            idle = Spread([row["pss_%s_kb" % role] / 1024 for row in r.select(**key)])
            yield Goal("P9", "%s: %s, idle" % (system, "keeper and engine" if role == "engine" else role), idle, AT_MOST, 15, " MB", 1)


def registered(r):
    key = {"scenario": "registered"}
    few, many = dict(key, registered=1000), dict(key, registered=100000)
    yield Goal("P10", "a registration, 100,000 registered to 1,000: CPU time",
               r.ratio("cpu_us", dict(many, what="register"), dict(few, what="register")), AT_MOST, 1.1)
    yield Goal("P10", "a registration, 100,000 registered to 1,000: rate",
               r.ratio("requests_s", dict(many, what="register"), dict(few, what="register")), AT_LEAST, 1 / 1.1)
    yield Goal("P10", "a message, 100,000 registered to 1,000 (1,000 online): CPU time",
               r.ratio(cost_us, dict(many, what="forward"), dict(few, what="forward")), AT_MOST, 1.1)


def judge(r):
    """ret: [Goal] of those for which there are measurements."""
    found = [g for part in (data_path, changes, graphs, neighbours, registrations, starts, registered) for g in part(r) if g.measured]
    # stable: within a goal as above
    return sorted(found, key=lambda g: (not g.name.startswith("P"), int(g.name[1:]) if g.name.startswith("P") else 0))
