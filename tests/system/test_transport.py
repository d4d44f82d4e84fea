"""Which way the data takes: the plugin if it is there and proves that it works, else the agent as a client of the broker; the log and
the status say why."""

import pytest

from suite import PLUGIN, Process, until

REASONS = {
    # name: (what the broker's configuration lacks or has, words of the reason)
    "no plugin": (lambda conf, suite: conf.replace("plugin %s\nplugin_opt_socket %s\n" % (PLUGIN, suite.plugin_socket), ""), "plugin"),
    "no ticks": (lambda conf, suite: "per_listener_settings true\n" + conf.replace(
        "listener %d 127.0.0.1\n" % suite.mqtt_port, "listener %d 127.0.0.1\nallow_anonymous true\n" % suite.mqtt_port).replace(
        "protocol websockets\n", "protocol websockets\nallow_anonymous true\n"), "per_listener_settings"),
}


def passes(suite, clients, value):
    sdk = clients.sdk(suite)
    clients.graph(suite).wire(sdk.da_id, "meow", "meow", "def run(x): return x + 1\n")
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    sdk.push("meow", [value])
    assert sdk.received("meow") == value + 1


def test_the_plugin_is_preferred(make_suite, clients):
    suite = make_suite()
    status = suite.agent_status()
    assert (status["transport"], status["transport_why"]) == ("plugin", "")
    passes(suite, clients, 1)
    assert suite.agent_status()["counters"]["published"] >= 0


def test_the_client_is_taken_if_asked_for(make_suite, clients):
    suite = make_suite({"agent.transport": "client"}, transport="auto")    # the plugin is there all the same
    assert suite.agent_status()["transport"] == "client"
    passes(suite, clients, 1)


@pytest.mark.parametrize("name", REASONS)
def test_the_client_is_taken_where_the_plugin_does_not_work(make_suite, clients, name):
    change, word = REASONS[name]
    suite = make_suite(start=())
    conf = suite.dir / "mosquitto.conf"
    conf.write_text(change(conf.read_text(), suite))
    suite.start("broker", "csm", "agent")
    status = suite.agent_status()
    assert status["transport"] == "client" and word in status["transport_why"], status
    assert "transport.client" in suite.processes["agent"].log()
    passes(suite, clients, 1)


def test_a_plugin_in_another_broker_is_not_taken(make_suite, clients):
    other = make_suite(start=("broker",))
    suite = make_suite({"broker.plugin-socket": other.plugin_socket}, start=(), transport="auto")
    suite.start("broker", "csm", "agent")
    status = suite.agent_status()
    assert status["transport"] == "client" and "another broker" in status["transport_why"], status
    passes(suite, clients, 1)


@pytest.mark.limit(120)
def test_a_broker_that_comes_back_without_its_plugin_is_used_as_it_is(make_suite, clients):
    """The agent ends, so that whoever keeps it running starts it again; then it takes what there is."""
    suite = make_suite()
    assert suite.agent_status()["transport"] == "plugin"
    suite.stop("broker")
    conf = suite.dir / "mosquitto.conf"
    conf.write_text(REASONS["no plugin"][0](conf.read_text(), suite))
    suite.start("broker")
    agent = suite.processes["agent"]
    until(lambda: not agent.runs(), 40, "the end of the agent")
    assert "transport.plugin_gone" in agent.log()
    suite.start("agent")
    assert suite.agent_status()["transport"] == "client"
    passes(suite, clients, 1)


def test_only_the_plugin_means_waiting_for_it(make_suite, clients):
    suite = make_suite({"agent.transport": "plugin"}, start=(), transport="plugin")
    conf = suite.dir / "mosquitto.conf"
    with_plugin = conf.read_text()
    conf.write_text(REASONS["no plugin"][0](with_plugin, suite))
    suite.start("broker", "csm", "agent")
    status = suite.agent_status()
    assert status["transport"] == "plugin"
    until(lambda: "plugin is not reached" in suite.agent_status()["health"], 5, "the health to tell")
    suite.stop("broker")
    conf.write_text(with_plugin)
    suite.start_broker()
    until(lambda: suite.agent_status()["health"] == "ok", 10, "the plugin to be found")
    passes(suite, clients, 1)


def test_an_agent_that_comes_back_often_finds_room_for_new_links(make_suite, clients):
    """Slots that were used before rest at first; they must not be taken for ever more by each that comes."""
    suite, devices = make_suite(), []
    g = None
    for n in range(20):
        sdk = clients.sdk(suite, idf=["in"], odf=["out"])
        g = g or clients.graph(suite).wire(sdk.da_id, "in", "out", "def run(*a): return sum(x for x in a if x)\n")
        if n > 0:
            g.ok("add_link", da_id=sdk.da_id, odf="out", func=None)
            g.ok("rm_link", da_id=devices[-1].da_id, odf="out")
        sdk.until_connected(("odf", "out"))
        devices.append(sdk)
        suite.kill9("agent")
        suite.start("agent")
        suite.until_runs(g)
        devices[0].push("in", [n])
        assert sdk.received("out") == n
