"""The report: goals and tables of a run, in Markdown, and pictures. Made from build/bench/results.csv alone, so that it can be made
again; docs/performance.md holds it between two marks."""

import re

import chart
from goals import judge
from results import Spread, cost_us, system_us

QOS_PANELS = ["QoS 0", "QoS 1", "QoS 2"]
QUIET, NOISY = 0.05, 0.2  # of the machine used by others: disturbs, makes useless
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
BAD = ("lost", "duplicated", "out_of_order", "wrong")


def table(head, rows):
    yield "| %s |" % " | ".join(head)
    yield "|%s" % ("---|" * len(head))
    for row in rows:
        yield "| %s |" % " | ".join(str(c) for c in row)
    yield ""


def bad(r, key):
    return ", ".join("%d" % r.total(f, **key) for f in BAD)


DATA_HEAD = ["msg/s", "p50 ms", "p99 ms", "p99.9 ms", "broker us/msg", "system us/msg", "lost, dup., disordered, wrong"]


def data_cells(r, key):
    latencies = [r.spread(f, **key).format(2, 1000) for f in ("p50_us", "p99_us", "p999_us")]
    costs = ["%.1f" % r.spread(f, **key).median for f in ("cpu_broker_us", system_us)]
    return [r.spread("msgs_s", **key).format(), *latencies, *costs, bad(r, key)]


def data_table(r, scenario, **more):
    """A row for each QoS and system."""
    rows = []
    for qos in sorted(r.distinct("qos", scenario=scenario, **more)):
        for system in r.distinct("system", scenario=scenario, qos=qos, **more):
            key = dict(more, scenario=scenario, qos=qos, system=system)
            rows.append([qos, system] + data_cells(r, key))
    return table(["QoS", "system"] + DATA_HEAD, rows)


def throughput(r):
    for devices in r.distinct("devices", scenario="throughput"):
        yield "### As fast as it goes, %d device%s, %d messages under way" % (
            devices, "" if devices == 1 else "s", r.machine["window"])
        yield ""
        yield from data_table(r, "throughput", devices=devices)


def latency(r):
    for devices in r.distinct("devices", scenario="latency"):
        yield "### %d messages a second, %d devices" % (r.machine["rate"], devices)
        yield ""
        yield from data_table(r, "latency", devices=devices)


def join(r):
    for devices in r.distinct("devices", scenario="join"):
        yield "### Join of five inputs, %d devices" % devices
        yield ""
        yield from data_table(r, "join", devices=devices)


def payload(r):
    for size in r.distinct("payload_bytes", scenario="payload"):
        yield "### Payload of %d bytes" % size
        yield ""
        yield from data_table(r, "payload", payload_bytes=size)


def graphs(r):
    if not r.select(scenario="graphs"):
        return
    yield "### Many graphs, one connection"
    yield ""
    rows = []
    for qos in sorted(r.distinct("qos", scenario="graphs")):
        for system in r.distinct("system", scenario="graphs", qos=qos):
            for count in r.distinct("graphs", scenario="graphs", qos=qos, system=system):
                for through in ("one", "all"):
                    key = dict(scenario="graphs", qos=qos, system=system, graphs=count, through=through)
                    if r.select(**key):
                        rows.append(graphs_row(r, key))
    yield from table(["QoS", "system", "graphs", "messages through", "msg/s", "all processes us/msg", "to one graph",
                      "memory of broker, agent, engine MB", "lost, dup., disordered, wrong"], rows)


def graphs_row(r, key):
    one = dict(key, graphs=1, through="one")
    memory = [r.spread("memory_%s_kb" % role, **key) for role in ("broker", "agent", "engine")]
    return [key["qos"], key["system"], key["graphs"], key["through"], r.spread("msgs_s", **key).format(),
            r.spread(cost_us, **key).format(1), r.ratio(cost_us, key, one).format(2),
            ", ".join(m.format(1, 1024) for m in memory if m), bad(r, key)]


def change(r):
    if not r.select(scenario="change"):
        return
    yield "### A graph that changes under 1000 messages a second"
    yield ""
    rows = []
    for qos in sorted(r.distinct("qos", scenario="change")):
        for system in r.distinct("system", scenario="change", qos=qos):
            for every in r.distinct("every_ms", scenario="change", qos=qos, system=system):
                key = dict(scenario="change", qos=qos, system=system, every_ms=every)
                rows.append([qos, system, "each %d ms" % every if every else "none", r.total("changes", **key),
                             r.spread("change_worst_ms", **key).format(1),
                             *(r.spread(f, **key).format(2, 1000) for f in ("p50_us", "p99_us", "max_us")), bad(r, key)])
    yield from table(["QoS", "system", "changes", "made", "slowest answer ms", "p50 ms", "p99 ms", "worst ms",
                      "lost, dup., disordered, wrong"], rows)


def neighbour(r):
    if not r.select(scenario="neighbour"):
        return
    yield "### A graph beside one of another owner that does harm each second, until it is quarantined"
    yield ""
    rows = []
    for qos in sorted(r.distinct("qos", scenario="neighbour")):
        for system in r.distinct("system", scenario="neighbour", qos=qos):
            for culprit in r.distinct("culprit", scenario="neighbour", qos=qos, system=system):
                key = dict(scenario="neighbour", qos=qos, system=system, culprit=culprit)
                rows.append([qos, system, culprit, *(r.spread(f, **key).format(2, 1000) for f in ("p50_us", "p99_us", "max_us")),
                             bad(r, key)])
    yield from table(["QoS", "system", "the other", "p50 ms", "p99 ms", "worst ms", "lost, dup., disordered, wrong"], rows)


def register(r):
    if not r.select(scenario="register"):
        return
    yield "### Registrations of new devices"
    yield ""
    rows = []
    for system in r.distinct("system", scenario="register"):
        for row in r.select(scenario="register", system=system, repeat=0):
            key = {f: row[f] for f in ("scenario", "system", "connections", "rate")}
            rows.append([system, "%d" % row["connections"], "%d/s" % row["rate"] if row["rate"] else "as fast as it goes",
                         r.spread("requests_s", **key).format(), r.spread("p50_us", **key).format(2, 1000),
                         r.spread("p99_us", **key).format(2, 1000), r.spread("cpu_us", **key).format(), r.total("refused", **key)])
    yield from table(["system", "connections", "pace", "PUT/s", "p50 ms", "p99 ms", "CPU us/request", "refused"], rows)


def start(r):
    if not r.select(scenario="start"):
        return
    yield "### From `iotctl start` to the first message, and what all hold while idle (PSS)"
    yield ""
    rows = []
    for system in r.distinct("system", scenario="start"):
        key = dict(scenario="start", system=system)
        rows.append([system, r.spread("first_message_s", **key).format(2),
                     *(r.spread("pss_%s_kb" % role, **key).format(1, 1024) for role in ("csm", "agent", "engine"))])
    yield from table(["system", "first message s", "csm MB", "agent MB", "keeper and engine MB"], rows)


def registered(r):
    if not r.select(scenario="registered"):
        return
    yield "### With many devices registered, 1,000 of them online"
    yield ""
    rows = []
    for count in sorted(r.distinct("registered", scenario="registered")):
        register, forward, attach = (dict(scenario="registered", registered=count, what=w) for w in ("register", "forward", "attach"))
        costs = Spread([cost_us(row) for row in r.select(**forward)])
        rows.append(["%d" % count, r.spread("requests_s", **register).format(), r.spread("p99_us", **register).format(2, 1000),
                     r.spread("cpu_us", **register).format(), r.spread("msgs_s", **forward).format(), costs.format(1),
                     r.spread("attach_s", **attach).format(2), r.spread("attach_messages", **attach).format(),
                     r.spread("attach_bytes", **attach).format(1, 1e6), r.spread("pss_csm_kb", **attach).format(1, 1024)])
    yield from table(["registered", "PUT/s", "p99 ms", "CPU us/PUT", "msg/s", "us/msg", "device API attach s", "in messages", "MB",
                      "csm MB"], rows)


def goals(r):
    yield "### Goals"
    yield ""
    judged = judge(r)
    yield from table(["goal", "what", "measured", "wanted", "verdict"], (g.cells() for g in judged))
    missing = [name for name in ("P%d" % i for i in range(1, 11)) if name not in {g.name for g in judged}]
    if missing:
        yield "Not measured in this run: %s." % ", ".join(missing)
        yield ""


def repeats(r):
    """Scenarios that were measured again, and kept the others (--keep), may have been so in another number of repeats."""
    found = {}
    for scenario in r.distinct("scenario"):
        found.setdefault(len(r.distinct("repeat", scenario=scenario)), []).append(scenario)
    most = max(found, key=lambda n: len(found[n]), default=0)
    others = "".join(" (%s: %d)" % (", ".join(found[n]), n) for n in sorted(found) if n != most)
    return "%d repeats%s of %g s" % (most, others, r.machine["seconds"])


def conditions(r):
    m = r.machine
    strangers = Spread([row["strangers"] for row in r.rows if row.get("culprit") in (None, "none")])  # a culprit is one, and ours
    yield "%d cores (%s), Linux %s, mosquitto %s%s; %s." % (
        m["cores"], m["processor"], m["kernel"], m["mosquitto"], ", " + m["peer"] if m["peer"] else "", repeats(r))
    if strangers:
        often = 100 * sum(v > QUIET for v in strangers.values) / len(strangers.values)
        verdict = "" if strangers.median < QUIET else (
            ": ratios hold, absolute numbers are not to be quoted" if strangers.median < NOISY else
            ": too much to rely on any number")
        yield "Other processes used %.1f %% of the machine in the middle, more than %.0f %% during %.0f %% of the runs%s." % (
            100 * strangers.median, 100 * QUIET, often, verdict)
    for name, why in m["skipped"].items():
        yield "Left out: %s (%s)." % (name, why)
    yield ""


def lines(r):
    yield from conditions(r)
    for part in (goals, throughput, latency, join, payload, graphs, change, neighbour, register, start,
                 registered):
        yield from part(r)


# -- docs/

def pictures(r):
    """Yields (name, SVG text)."""
    def rate(key):
        s = r.spread("msgs_s", **key)
        return s and (min(s.values), s.median, max(s.values))

    def times(key):
        return [s.median / 1000 for s in (r.spread(f, **key) for f in ("p50_us", "p99_us", "p999_us")) if s]

    systems = r.distinct("system", scenario="throughput")
    for devices in r.distinct("devices", scenario="throughput"):
        values = panels(r, systems, rate, scenario="throughput", devices=devices)
        yield "throughput-%d" % devices, chart.bars(
            "Messages a second, %d device%s" % (devices, "" if devices == 1 else "s"), QOS_PANELS, systems, values,
            "median of the repeats, line from the least to the most")
    systems = r.distinct("system", scenario="latency")
    if systems:
        values = panels(r, systems, times, scenario="latency")
        yield "latency", chart.ranges("Latency in ms at %d messages a second" % r.machine["rate"], QOS_PANELS, systems, values,
                                      "dot: p50, lines: p99 and p99.9; logarithmic")


def panels(r, systems, value, **key):
    found = {}
    for qos, panel in enumerate(QOS_PANELS):
        for system in systems:
            v = value(dict(key, qos=qos, system=system))
            if v:
                found[panel, system] = v
    return found


def write_docs(r, folder):
    """Tables into performance.md, between its marks, and performance-*.svg, none of which is left over. ret: paths."""
    page = folder / "performance.md"
    drawn = [(folder / ("performance-%s.svg" % name), svg) for name, svg in pictures(r)]
    text = page.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise RuntimeError("%s has not exactly one '%s' and '%s'" % (page, BEGIN, END))
    shown = ["![%s](%s)" % (re.sub(r"performance-|\.svg", "", path.name), path.name) for path, _ in drawn]
    inside = "\n".join([*shown, "", *lines(r)])
    before, rest = text.split(BEGIN)
    page.write_text("%s%s\n\n%s\n%s%s" % (before, BEGIN, inside, END, rest.split(END)[1]))
    for old in folder.glob("performance-*.svg"):
        old.unlink()
    for path, svg in drawn:
        path.write_text(svg)
    return [page] + [path for path, _ in drawn]
