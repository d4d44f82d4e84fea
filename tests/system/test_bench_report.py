"""The report of `make bench` is made of a table of measurements: ratios, verdicts, tables, pictures."""

import csv
import sys
import xml.etree.ElementTree as xml

import pytest

from suite import ROOT

sys.path.append(str(ROOT / "tests/bench"))  # behind ours: both have a module of the name "suite"
import goals  # noqa: E402
import report  # noqa: E402
from results import Results, Spread, read  # noqa: E402
from titles import CLIENT, FLOOR, PLUGIN, REGISTRY, RELAY  # noqa: E402

MACHINE = {"cores": 2, "processor": "x", "kernel": "6", "mosquitto": "2", "peer": None, "repeats": 3, "seconds": 1, "window": 100,
           "rate": 3000, "took_s": 1, "skipped": {"node-red": "not there"}}
GOOD = {"lost": 0, "duplicated": 0, "out_of_order": 0, "wrong": 0, "p50_us": 100.0, "p99_us": 900.0, "p999_us": 2000.0,
        "max_us": 4000.0, "strangers": 0.01, "cpu_broker_us": 4.0}


def row(system, repeat, rate, scenario="throughput", **more):
    return dict(GOOD, scenario=scenario, system=system, repeat=repeat, devices=200, qos=1, msgs_s=rate, **more)


@pytest.fixture
def results(tmp_path):
    """The machine is half as fast in the second repeat; the plugin transport reaches 0.8, 0.8 and 0.7 of the broker."""
    rows = []
    for repeat, (speed, plugin) in enumerate([(1.0, 0.8), (0.5, 0.8), (1.0, 0.7)]):
        rows += [row(FLOOR, repeat, 100000 * speed), row(RELAY, repeat, 40000 * speed),
                 row(PLUGIN, repeat, 100000 * speed * plugin, cpu_engine_us=2.0), row(CLIENT, repeat, 20000 * speed)]
        rows += [row(FLOOR, repeat, 3000, "latency"), row(PLUGIN, repeat, 3000, "latency", cpu_engine_us=3.0)]
        rows.append(row(CLIENT, repeat, 1000, "change", every_ms=100, changes=50, change_worst_ms=3.0))
    rows[-1]["max_us"], rows[-1]["lost"] = 12000.0, 2
    fields = sorted({k for r in rows for k in r})
    with open(tmp_path / "results.csv", "w", newline="") as f:
        writer = csv.DictWriter(f, fields)
        writer.writeheader()
        writer.writerows(rows)
    return Results(read(tmp_path / "results.csv"), MACHINE)


def verdicts(results, name):
    return {g.what: g.verdict() for g in goals.judge(results) if g.name == name}


def test_ratios_are_those_of_neighbours_in_time(results):
    at = {"scenario": "throughput"}
    ratio = results.ratio("msgs_s", dict(at, system=PLUGIN), dict(at, system=FLOOR))
    assert [round(v, 9) for v in ratio.values] == [0.8, 0.8, 0.7]
    assert ratio.format(2) == "0.80 (0.70..0.80)"


def test_goals_say_by_how_much_they_are_missed(results):
    assert verdicts(results, "P1") == {"QoS 1, 200 devices: plugin transport to one hop, rate": "PASS"}
    assert verdicts(results, "P2") == {"QoS 1, 200 devices: plugin transport to the C relay, rate": "PASS"}
    p5 = verdicts(results, "P5")
    assert p5["QoS 1, 200 devices: client transport to the C relay, rate"] == "MISSED by 23 %"
    assert p5["QoS 1, 200 devices: client transport to the C relay, p99"] == "PASS"


def test_a_goal_of_none_at_all_counts_every_repeat(results):
    """The median of 0, 0 and 2 lost is not what counts."""
    assert verdicts(results, "P6")["client transport: lost, duplicated, disordered in a changing graph"] == "MISSED by 2"


def test_the_longest_delay_is_that_of_all_repeats(results):
    assert verdicts(results, "P6")["client transport: longest delay in a changing graph"] == "MISSED by 20 %"


def test_what_was_not_measured_is_said(results):
    text = "\n".join(report.lines(results))
    assert "Not measured in this run: P4, P7, P8, P9, P10." in text
    assert "Left out: node-red (not there)." in text


def test_neighbours_are_judged_by_each_culprit(results):
    for repeat in range(3):
        for culprit, p99 in (("none", 200.0), ("busy", 210.0), ("endless", 300.0)):
            results.rows.append(dict(row(PLUGIN, repeat, 1000, "neighbour"), culprit=culprit, p99_us=p99, strangers=0.5))
    what = "plugin transport: p99 of a graph beside one of another owner, "
    assert verdicts(results, "hostile") == {what + "busy": "PASS", what + "endless": "MISSED by 36 %"}
    table = "\n".join(report.neighbour(results))
    assert "| 1 | plugin transport | endless | 0.10 | 0.30 |" in table and "| none |" in table


def test_starts_and_many_devices_are_judged(results):
    for repeat in range(3):
        results.rows.append({"scenario": "start", "system": PLUGIN, "repeat": repeat, "first_message_s": 0.2 + repeat,
                             "pss_csm_kb": 2048, "pss_agent_kb": 1024, "pss_engine_kb": 20480, "strangers": None})
        for count, cpu in ((1000, 40.0), (100000, 42.0)):
            key = {"scenario": "registered", "registered": count, "repeat": repeat}
            results.rows += [dict(key, what="register", system=REGISTRY, requests_s=20000.0, p99_us=5000.0, cpu_us=cpu, strangers=0.01),
                             dict(row(PLUGIN, repeat, 40000, "registered"), what="forward", registered=count),
                             dict(key, what="attach", system=REGISTRY, attach_s=count / 1e5, attach_messages=2, attach_bytes=300 * count,
                                  pss_csm_kb=4096, strangers=None)]
    p9 = verdicts(results, "P9")
    assert [p9["plugin transport: " + what] for what in ("from `iotctl start` to the first message", "csm, idle", "keeper and engine, idle")] == [
        "MISSED by 20 %", "PASS", "MISSED by 33 %"]
    assert set(verdicts(results, "P10").values()) == {"PASS"} and len(verdicts(results, "P10")) == 3
    assert "| plugin transport | 1.20 (0.20..2.20) | 2.0 | 1.0 | 20.0 |" in list(report.start(results))
    tables = "\n".join(report.registered(results))
    assert "| 100000 | 20000 | 5.00 | 42 | 40000 | 4.0 | 1.00 | 2 | 30.0 | 4.0 |" in tables


def test_repeats_are_counted_where_they_differ(results):
    assert report.repeats(results) == "3 repeats of 1 s"
    results.rows += [row(FLOOR, n, 3000, "latency") for n in (3, 4)]
    assert report.repeats(results) == "3 repeats (latency: 5) of 1 s"


def test_tables_hold_every_system_once(results):
    lines = list(report.throughput(results))
    for system in (FLOOR, RELAY, PLUGIN, CLIENT):
        assert sum("| %s |" % system in line for line in lines) == 1
    assert "| 1 | plugin transport | 70000 (40000..80000) |" in "\n".join(lines)


def test_docs_are_replaced_between_the_marks_and_the_same_again(results, tmp_path):
    page = tmp_path / "performance.md"
    page.write_text("before\n%s\nold\n%s\nafter\n" % (report.BEGIN, report.END))
    paths = report.write_docs(results, tmp_path)
    first = page.read_text()
    assert first.startswith("before\n") and first.endswith("\nafter\n") and "old" not in first
    for path in paths[1:]:
        assert xml.parse(path).getroot().tag.endswith("svg")
        assert "(%s)" % path.name in first
    assert len(paths) == 3
    report.write_docs(results, tmp_path)
    assert page.read_text() == first


def test_a_spread_of_equal_values_is_one_number():
    assert Spread([1.04, 1.02]).format(1) == "1.0"
    assert Spread([]).format() == "-"
