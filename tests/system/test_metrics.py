"""What operators look at: the page of metrics as Prometheus reads it, one request's way through the logs, the dashboard."""

import json
import re

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from clients import HttpApi, digest, new_id
from suite import AGENT_ID, PATIENCE_S, ROOT, until

DOUBLE = "def run(x):\n    return x * 2\n"
BROKEN = "def run(x:\n"
BODY = {"accept_protos": ["mqtt"], "odf_list": [["meow", ["dB"]]], "profile": {"model": "AI"}}
DASHBOARD = ROOT / "conf/grafana/iottalk.json"


class Page:
    """csm's page, read by Prometheus' own parser."""

    def __init__(self, suite):
        response = requests.get(suite.url + "/metrics", timeout=PATIENCE_S)
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        self.text = response.text
        self.families = {f.name: f for f in text_string_to_metric_families(self.text)}

    def value(self, name, /, **labels):
        return sum(s.value for f in self.families.values() for s in f.samples
                   if s.name == name and all(s.labels.get(k) == v for k, v in labels.items()))


@pytest.fixture
def wired(suite, clients):
    """A device application, its graph in force, its link connected."""
    device, graph = clients.sdk(suite), clients.graph(suite)
    graph.wire(device.da_id, "meow", "meow", join=DOUBLE)
    graph.until_link(device.da_id, "odf", "meow", "connected")
    yield device, graph
    # the next test counts such commands, too
    def disconnects():
        return Page(suite).value("iottalk_control_commands_total", command="DISCONNECT")
    before = disconnects()
    graph.request("detach")
    until(lambda: disconnects() == before + 2, what="the end of both links")


def test_every_family_has_help_and_type_and_no_series_comes_twice(suite, wired):
    page = Page(suite)
    assert page.families
    for family in page.families.values():
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge", "histogram"), (family.name, family.type)
        keys = [(s.name, tuple(sorted(s.labels.items()))) for s in family.samples]
        assert len(keys) == len(set(keys)), family.name
    heads = re.findall(r"^# TYPE (\S+)", page.text, re.M)
    assert len(heads) == len(set(heads)), "a family's lines stand together"


def test_buckets_of_histograms_grow_up_to_their_count(suite, wired):
    histograms = [f for f in Page(suite).families.values() if f.type == "histogram"]
    assert {f.name for f in histograms} >= {
        "iottalk_http_request_seconds", "iottalk_api_request_seconds", "iottalk_control_round_trip_seconds",
        "iottalk_agent_round_trip_seconds", "iottalk_store_commit_seconds"}
    for family in histograms:
        series = {}
        for s in family.samples:
            key = tuple(sorted((k, v) for k, v in s.labels.items() if k != "le"))
            series.setdefault(key, []).append(s)
        assert series, family.name
        for samples in series.values():
            buckets = [(float(s.labels["le"]), s.value) for s in samples if s.name.endswith("_bucket")]
            assert buckets == sorted(buckets)
            assert [n for _, n in buckets] == sorted(n for _, n in buckets)
            count = [s.value for s in samples if s.name.endswith("_count")]
            assert [buckets[-1][1]] == count and buckets[-1][0] == float("inf")
            assert [s.value >= 0 for s in samples if s.name.endswith("_sum")] == [True]


def test_each_kind_of_work_is_timed_once(suite, clients):
    counted = [
        ("iottalk_http_request_seconds_count", {"method": "PUT"}, 1),
        ("iottalk_api_request_seconds_count", {"service": "graph", "op": "attach"}, 1),
        ("iottalk_api_request_seconds_count", {"service": "graph", "op": "add_link"}, 2),
        ("iottalk_api_request_seconds_count", {"service": "graph", "op": "set_join"}, 1),
        ("iottalk_api_requests_total", {"service": "graph", "op": "set_join", "state": "ok"}, 1),
        ("iottalk_agent_round_trip_seconds_count", {"op": "put"}, 3),
        ("iottalk_agent_round_trip_seconds_count", {"op": "drop"}, 1),
        ("iottalk_control_round_trip_seconds_count", {"command": "CONNECT"}, 2),
        ("iottalk_control_round_trip_seconds_count", {"command": "DISCONNECT"}, 2),
        ("iottalk_control_commands_total", {"command": "CONNECT", "result": "ok"}, 2),
    ]
    before = Page(suite)
    device, graph = clients.sdk(suite), clients.graph(suite)
    graph.wire(device.da_id, "meow", "meow", join=DOUBLE)
    for mode in ("idf", "odf"):
        graph.until_link(device.da_id, mode, "meow", "connected")
    asked = Page(suite)
    graph.ok("detach")
    until(lambda: Page(suite).value("iottalk_control_round_trip_seconds_count", command="DISCONNECT") >
          asked.value("iottalk_control_round_trip_seconds_count", command="DISCONNECT") + 1, 5, "two DISCONNECTs")
    after = Page(suite)
    attaches = 0   # until_link() asks by attach, as often as it takes
    for name, labels, wanted in counted:
        more = after.value(name, **labels) - before.value(name, **labels)
        if labels.get("op") == "attach":
            attaches = more
            continue
        assert more == wanted, (name, labels)
    assert attaches >= 3
    assert after.value("iottalk_store_commit_seconds_count") > before.value("iottalk_store_commit_seconds_count")
    assert after.value("iottalk_store_statements_total") > before.value("iottalk_store_statements_total")


def test_a_command_without_an_answer_is_a_timeout_not_a_round_trip(make_suite, clients):
    suite = make_suite({"core.command-timeout-ms": 200})
    device, graph = clients.sdk(suite, answer=lambda command: None), clients.graph(suite)
    graph.ok("attach")
    graph.ok("add_link", da_id=device.da_id, idf="meow", func=None)
    until(lambda: Page(suite).value("iottalk_control_commands_total", command="CONNECT", result="timeout") == 1, 5, "the timeout")
    assert Page(suite).value("iottalk_control_round_trip_seconds_count") == 0


def test_refusals_and_strangers_are_counted_without_their_words(suite, clients):
    before = Page(suite)
    graph = clients.graph(suite)
    graph.refused("no\"such\nop{", "unknown")
    after = Page(suite)
    labels = {"service": "graph", "op": "unknown", "state": "error"}
    assert after.value("iottalk_api_requests_total", **labels) == before.value("iottalk_api_requests_total", **labels) + 1
    assert "no\"such" not in after.text and "no\\\"such" not in after.text


def test_agents_tell_how_many_engines_and_graphs_they_have(suite, wired):
    until(lambda: Page(suite).value("iottalk_agent_gauge", agent=AGENT_ID, name="engines_ready") >= 1, 5, "a ready engine")
    until(lambda: Page(suite).value("iottalk_agent_gauge", agent=AGENT_ID, name="graphs") == suite.agent_status()["graphs"] == 1,
          5, "the graph")
    page = Page(suite)
    assert page.value("iottalk_agent_gauge", agent=AGENT_ID, name="data_link") == 1
    assert page.value("iottalk_agent_up", agent=AGENT_ID) == 1
    assert page.value("process_resident_memory_bytes") > 1 << 20


# ---- one id through the logs


def lines(suite, name, trace):
    """{event: line} of a log, of those lines that name the id."""
    found = {}
    for line in suite.processes[name].log().splitlines():
        ids = re.search(r"\btrace=\"?([^\"\s]*)", line)
        if ids and trace in re.split("[,+]", ids[1]):
            found[re.search(r"\b([a-z]+\.[a-z_]+)\b", line)[1]] = line
    return found


@pytest.fixture
def talkative(make_suite):
    return make_suite({"core.log-level": "debug"})


def test_one_id_leads_from_the_request_through_the_agent_to_the_answer(talkative, clients):
    graph = clients.graph(talkative)
    graph.ok("attach")
    graph.add_funcs(DOUBLE)
    answer = graph.request("add_link", da_id=new_id(), idf="meow", func=digest(DOUBLE), trace="my-own.request:1")
    assert answer["trace"] == "my-own.request:1"
    assert set(lines(talkative, "csm", "my-own.request:1")) == {"api.request", "api.answered"}
    assert "graph.running" in lines(talkative, "agent", "my-own.request:1")
    graph.ok("detach", trace="the-end")
    assert "api.answered" in lines(talkative, "csm", "the-end")
    assert "graph.dropped" in lines(talkative, "agent", "the-end")


def test_a_refusal_is_found_under_its_id_in_both_logs(talkative, clients):
    graph = clients.graph(talkative)
    graph.ok("attach")
    graph.add_funcs(BROKEN)
    graph.refused("set_join", prev=None, new=digest(BROKEN), trace="broken-1")
    assert "state=error" in lines(talkative, "csm", "broken-1")["api.answered"]
    assert "graph.refused" in lines(talkative, "agent", "broken-1")
    graph.ok("check_funcs", codes=[BROKEN], trace="check-1")
    assert "funcs.checked" in lines(talkative, "agent", "check-1")


def test_requests_that_share_a_revision_are_all_named_at_the_agent(talkative, clients):
    """What arrives while a proposal is out shares the next one."""
    graph = clients.graph(talkative)
    graph.ok("attach")
    ids = ["burst-%d" % n for n in range(40)]
    refs = [graph.send("add_link", wait=False, da_id=new_id(), idf="meow", func=None, trace=i) for i in ids]
    for ref in refs:
        assert graph.answer(ref)["state"] == "ok"
    named = counted = 0
    for line in talkative.processes["agent"].log().splitlines():
        found = re.search(r"graph\.running.*\btrace=\"?(burst-[^\"\s]*)", line)
        if found:
            names, _, more = found[1].partition("+")
            named += len(names.split(","))
            counted += int(more or 0)
    assert named + counted == len(ids)


def test_an_id_that_is_none_is_replaced_and_sent_back_as_it_was(talkative, clients):
    graph = clients.graph(talkative)
    for bad in ("has space", "x" * 65, "a\nb", 7, None, ["list"]):
        assert graph.ok("attach", trace=bad)["trace"] == bad
    log = talkative.processes["csm"].log()
    traces = re.findall(r"api\.answered.*\btrace=\"?([^\"\s]*)", log)
    assert len(traces) >= 6 and all(re.fullmatch("[0-9a-f]{12}", t) for t in traces)


def test_an_answer_has_no_field_that_was_not_asked_for(suite, clients):
    """SDKs compare answers; who wants an id in them sends one."""
    graph = clients.graph(suite)
    assert "trace" not in graph.ok("attach")
    assert "trace" not in graph.ok("detach")


def test_http_answers_carry_the_id_that_the_log_has(talkative):
    http = HttpApi(talkative)
    da_id = new_id()
    given = http.call("PUT", "/" + da_id, json=BODY, headers={"X-Request-Id": "put-7"})
    assert given.headers["X-Request-Id"] == "put-7"
    # the last word is said when the answer is on its way
    until(lambda: set(lines(talkative, "csm", "put-7")) == {"device.registered", "http.answered"}, what="both lines")
    made = http.call("POST", "/" + da_id, json={"name": "new"})
    assert re.fullmatch("[0-9a-f]{12}", made.headers["X-Request-Id"])
    assert "device.changed" in lines(talkative, "csm", made.headers["X-Request-Id"])
    gone = http.delete(da_id, http.get(da_id).json()["rev"])
    assert "device.deregistered" in lines(talkative, "csm", gone.headers["X-Request-Id"])
    for bad in ("a b", "x" * 65, "<script>", "\""):
        answer = http.call("GET", "/nowhere", headers={"X-Request-Id": bad})
        assert re.fullmatch("[0-9a-f]{12}", answer.headers["X-Request-Id"])


# ---- the dashboard


def expressions():
    """(title of the panel, expression)"""
    def panels(rows):
        for panel in rows:
            yield panel
            yield from panels(panel.get("panels", []))
    for panel in panels(json.loads(DASHBOARD.read_text())["panels"]):
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def test_every_metric_of_the_dashboard_is_on_the_page(suite, wired):
    page = Page(suite)
    names = {f.name for f in page.families.values()} | {s.name for f in page.families.values() for s in f.samples}
    for family in page.families.values():   # families that have no series yet have a name all the same
        names |= {family.name + end for end in {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}.get(family.type, ())}
    used = [(title, name) for title, expr in expressions() for name in re.findall(r"\b(?:iottalk|process)_\w+", expr)]
    assert len(used) >= 20
    assert not [(title, name) for title, name in used if name not in names]


def test_every_label_the_dashboard_asks_for_is_one_its_metric_has(suite, wired):
    """By name; and of counters and gauges of the agent also which one."""
    device, _ = wired
    device.until_connected(("idf", "meow"), ("odf", "meow"))
    device.push("meow", [1])
    assert device.received("meow") == 2
    page = until(lambda: p if 'name="evaluated"' in (p := Page(suite)).text else None, 5, "the agent's counters")
    have = {}
    for family in page.families.values():
        for s in family.samples:
            have.setdefault(s.name, set()).update(s.labels)
    for title, expr in expressions():
        for name, selector in re.findall(r"\b((?:iottalk|process)_\w+)\{([^}]*)\}", expr):
            if name in have:
                assert set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)", selector)) <= have[name] | {"instance", "job"}, (title, expr)
    for title, expr in expressions():
        for family, name in re.findall(r"(iottalk_agent_(?:counter|gauge))\{[^}]*\bname=\"([^\"]+)\"", expr):
            assert '%s{agent="%s",name="%s"}' % (family, AGENT_ID, name) in page.text, (title, name)


def test_the_dashboard_is_one_that_grafana_imports():
    board = json.loads(DASHBOARD.read_text())
    assert board["title"] and board["schemaVersion"] >= 36 and board["uid"]
    ids = [p["id"] for p in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] and place["x"] + place["w"] <= 24
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"
    assert [v["name"] for v in board["templating"]["list"]][0] == "datasource"
