"""A broker that was killed comes back with what it saved some seconds before: requests among it that were answered since then."""

import time
from contextlib import contextmanager

import pytest

from suite import until
from test_regressions import stopped, wired


@contextmanager
def saved(suite):
    """What is sent here is on its way to csm when the broker saves what it has."""
    store = suite.dir / "broker" / "mosquitto.db"
    with stopped(suite.pid("csm")):
        yield
        sent = time.time()
        until(lambda: store.exists() and store.stat().st_mtime > sent + 0.5, 15, "the broker's store to be saved", every=0.005)


def kill_broker(suite):
    ups = suite.processes["csm"].log().count("bus.up")
    suite.kill9("broker")
    suite.processes["broker"].start()
    suite.await_broker()
    until(lambda: suite.processes["csm"].log().count("bus.up") > ups, 10, "csm's connection")


def repeated(suite):
    return suite.metric("iottalk_drops_total", source="api", reason="repeated")


@pytest.mark.limit(120)
@pytest.mark.parametrize("csm_too", [False, True], ids=["broker", "broker and csm"])
def test_a_request_that_a_killed_broker_repeats_is_not_applied_again(make_suite, clients, csm_too):
    suite = make_suite()
    g, sdk = wired(suite, clients)
    other = clients.graph(suite, "2", mqtt=g.mqtt)
    with saved(suite):
        ref, ref_other = g.send("detach", wait=False), other.send("attach", wait=False)
    assert g.answer(ref)["state"] == "ok" and other.answer(ref_other)["state"] == "ok"
    g.wire(sdk.da_id, "meow", "meow")
    other.ok("detach")
    before, connects = g.state(), g.mqtt.connects
    if csm_too:
        suite.kill9("csm")
        suite.processes["broker"].kill9()
        suite.start("broker", "csm")
    else:
        kill_broker(suite)
    g.mqtt.wait(lambda: g.mqtt.connects > connects, "connection after the broker's death")
    until(lambda: repeated(suite) == 2, 10, "both, once more")
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    assert [k["topic"] for k in g.state()["links"]] == [k["topic"] for k in before["links"]]
    other.refused("add_link", "Unknown graph id", da_id=sdk.da_id, idf="meow", func=None)


@pytest.mark.limit(120)
def test_a_request_that_nobody_took_up_is_applied_when_the_broker_repeats_it(make_suite, clients):
    suite = make_suite()
    g, sdk = wired(suite, clients)
    store = suite.dir / "broker" / "mosquitto.db"
    suite.kill9("csm")
    g.send("rm_link", da_id=sdk.da_id, idf="meow")
    sent, connects = time.time(), g.mqtt.connects
    until(lambda: store.exists() and store.stat().st_mtime > sent + 0.5, 15, "the broker's store to be saved", every=0.005)
    suite.kill9("broker")
    suite.start("broker", "csm")
    g.mqtt.wait(lambda: g.mqtt.connects > connects, "connection after the broker's death")
    until(lambda: [k["mode"] for k in g.state()["links"]] == ["odf"], 10, "the change")
    assert repeated(suite) == 0
