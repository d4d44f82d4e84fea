"""Store and forward of what field devices tell IoTtalk: values of features that are in graphs."""

import copy
import shutil

import pytest

from clients import Recorder
from field_devices import closing, registered_devices, start_gateway  # noqa: F401: fixtures
from forwarding import (INTERVAL, count_kept, count_on, counting, gaps, gateway, iotctl, keep_for_another_agent,
                        kill_broker, once, outbox_rows, plc, save_broker, status)  # noqa: F401: fixtures
from suite import BIN, Process, until
from test_modbus_master import point


class Graph:
    """The IDF of a point goes through a function to an ODF of a device on the Python SDK."""

    def __init__(self, suite, clients, feature, device="plc", linked=lambda: None):
        self.sdk = clients.sdk(suite, clean_session=False, data_qos=1, idf=())
        self.id = registered_devices(clients, suite, device)[device]
        self.feature = feature
        self.g = clients.graph(suite)
        self.g.ok("attach")
        digest = self.g.add_funcs("def run(x):\n    return [x]\n")
        self.g.ok("add_link", da_id=self.id, idf=feature, func=digest)
        self.g.ok("add_link", da_id=self.sdk.da_id, odf="meow", func=None)
        self.sdk.until_connected(("odf", "meow"))
        linked()
        self.until_connected()
        self.pushed = Recorder(clients.mqtt(suite, clean_session=False), self.g.topic(self.id, "idf", feature))

    def until_connected(self):
        self.g.until_link(self.id, "idf", self.feature, "connected")

    def values(self):
        return [data[0] for _, data in self.sdk.data._items]

    def until_value(self, value, timeout=60):
        self.sdk.data.wait_for(lambda items: items and items[-1][1][0] == value, timeout)


def kill_idle_broker(suite, heard, graph, counting):
    """Nothing is under way in csm, in the engine or in the broker when that dies."""
    count_on(counting, 20)
    counting.held = True
    graph.until_value(counting.n)
    save_broker(suite)
    kill_broker(suite, heard.mqtt, graph.sdk)


def assert_whole(values, begin, what):
    """In order and without a gap, but for what was read before the graph had begun."""
    values = [v for v in once(values) if v > begin + 5]
    assert values == sorted(values) and gaps(values) == [], "gaps %s in %s" % (gaps(values), what)


@pytest.mark.limit(180)
@pytest.mark.parametrize("way", ["auto", "client", "plugin"])
@pytest.mark.parametrize("agent_dies", [False, True], ids=["the agent lives", "the agent dies"])
def test_what_comes_out_of_a_graph_has_no_gap_after_the_broker_was_away(gateway, clients, counting, agent_dies, way):
    suite, heard = gateway(plc(counting, 3), suite_options={"transport": way})
    graph = Graph(suite, clients, "p1")
    begin = counting.n
    kill_idle_broker(suite, heard, graph, counting)
    counting.held = False
    count_on(counting, 40)
    if agent_dies:
        counting.held = True
        count_kept(suite, counting.n)
        suite.kill9("agent")
        suite.processes["agent"].start(ready=False)
        until(lambda: status(suite)["link"] == "connected", 20, "the device")
        counting.held = False
        count_on(counting, 10)
    suite.start("broker")
    count_on(counting, 20)
    counting.held = True
    graph.until_value(counting.n)
    assert_whole(graph.pushed.values, begin, "what the device pushes")
    assert_whole(graph.values(), begin, "what comes out")


class OtherAgent(Process):
    """A second agent of the same csm, without devices."""

    def __init__(self, suite):
        self.suite = copy.copy(suite)   # its userdir is another one
        self.suite.userdir = suite.dir / "other"
        self.suite.userdir.mkdir()
        shutil.copy(suite.userdir / "key", self.suite.userdir)
        lines = suite.ini.read_text().replace("id = %s\n" % suite.agent_id, "id = other\n").splitlines()
        other = {"userdir": "userdir = %s" % self.suite.userdir, "devices": ""}
        ini = suite.dir / "other.ini"
        ini.write_text("\n".join(other.get(line.split(" = ")[0], line) for line in lines))
        super().__init__("other", [BIN / "gateway-agent", "-c", ini], suite.dir, True)

    def start(self):
        super().start()
        until(lambda: self.suite.agent_status().get("csm") is True, 20, "the session of the other agent")

    def close(self):
        self.stop()
        self.suite.end_keepers()


@pytest.mark.limit(120)
def test_values_wait_for_the_agent_that_runs_their_graph(gateway, clients, counting, closing):
    suite, heard = gateway(plc(counting, 3))
    other = closing(OtherAgent(suite))
    registered_devices(clients, suite, "plc")
    suite.stop("agent")   # so that the graph goes to the other one
    other.start()
    graph = Graph(suite, clients, "p1", linked=lambda: suite.start("agent"))
    assert suite.agent_status()["graphs"] == 0 and other.suite.agent_status()["graphs"] == 1
    begin = counting.n
    kill_idle_broker(suite, heard, graph, counting)
    other.kill9()
    counting.held = False
    count_on(counting, 20)
    suite.start("broker")
    graph.sdk.wait(lambda: graph.sdk.up, "connection to the broker")
    graph.until_connected()
    count_on(counting, 5)
    other.start()
    count_on(counting, 5)
    counting.held = True
    graph.until_value(counting.n)
    assert_whole(graph.values(), begin, "what comes out")


@pytest.mark.limit(120)
def test_values_for_iottalk_are_kept_as_events_are(gateway, clients, counting):
    keeps = {"a": "all", "l": "latest", "n": "none"}
    points = [point(name, "HOLDING_REGISTER", i, 16, interval=INTERVAL, keep=keep) for i, (name, keep) in enumerate(keeps.items())]
    suite, heard = gateway(plc(counting, points))
    graphs = {name: Graph(suite, clients, name) for name in keeps}
    for graph in graphs.values():
        graph.pushed.until_value(counting.n)
    counting.held = True
    for graph in graphs.values():
        graph.pushed.until_value(counting.n)
    left = counting.n
    save_broker(suite)
    kill_broker(suite, heard.mqtt)
    counting.held = False
    last = keep_for_another_agent(suite, counting)
    suite.start("broker")
    for name in ("a", "l"):
        graphs[name].pushed.until_value(last, 40)
    until(lambda: status(suite)["backlog"] == 0, 10, "the end of the backlog")
    new = {name: [v for v in once(graph.pushed.values) if v > left] for name, graph in graphs.items()}
    assert new == {"a": list(range(left + 1, last + 1)), "l": [last], "n": []}


@pytest.mark.limit(120)
@pytest.mark.parametrize("how", ["in no graph", "suspended"])
def test_features_that_nobody_wants_keep_only_their_last_value(gateway, clients, counting, how):
    suite, heard = gateway(plc(counting, 3))
    graph = Graph(suite, clients, "p1")
    if how == "suspended":
        iotctl(suite, "app", "suspend", graph.id, "p1")
    else:
        graph.g.ok("rm_link", da_id=graph.id, idf="p1")
    # the others are in no graph at any time, p1 no more

    def quiet():
        before = status(suite)["iottalk"]["pushed"]
        count_on(counting, 3)
        return status(suite)["iottalk"]["pushed"] == before
    until(quiet, 20, "the end of p1")
    save_broker(suite)
    kill_broker(suite, heard.mqtt, graph.sdk)
    count_on(counting, 20)
    counting.held = True
    count_kept(suite, counting.n)
    assert outbox_rows(suite, sink=1) == []
    suite.start("broker")
    heard.until(lambda values: values[-1] == counting.n, 40)
    graph.sdk.wait(lambda: graph.sdk.up, "connection to the broker")
    graph.sdk.data.take_all()
    if how == "suspended":
        iotctl(suite, "app", "resume", graph.id, "p1")
    else:
        graph.g.request("add_link", da_id=graph.id, idf="p1", func=None)   # may be pending, until the agent is back
    graph.until_value(counting.n)
    counting.n += 1
    graph.until_value(counting.n)
    assert once(graph.values()) == [counting.n - 1, counting.n]
