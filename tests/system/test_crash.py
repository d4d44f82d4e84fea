"""kill -9 of each process under 500 messages a second at QoS 1 (design: what survives what).

The clients do nothing about it but what every SDK does by itself: reconnect to the broker. The test does what a supervisor does:
it starts a daemon that died again.
"""

import os
import signal
import time

import pytest

import stopwatch
from clients import HttpApi, Load, Recorder, digest, new_id
from suite import Process, until

TRANSPORTS = ("client", "plugin")
RATE = 500
BACK_S = 3.0
BODY = {"accept_protos": ["mqtt"], "name": "Bystander", "idf_list": [["meow", ["dB"]]], "profile": {"model": "AI"}}
COUNT = "n = 0\ndef run(x):\n    global n\n    n += 1\n    return [x, n]\n"


class Busy:
    """A suite under load with something of everything in it."""

    def __init__(self, suite, clients):
        self.suite = suite
        self.http = HttpApi(suite)
        self.devices = {}
        for n in range(20):
            da_id = new_id()
            self.devices[da_id] = self.http.put(da_id, BODY).json()["rev"]
        self.source = clients.sdk(suite, idf=("meow",), odf=(), data_qos=1)
        self.target = clients.sdk(suite, idf=(), odf=("meow",), data_qos=1)
        self.device_api = clients.device_api(suite)
        self.device_api.attach()
        self.g = clients.graph(suite)
        self.g.ok("attach")
        self.g.add_funcs(COUNT)
        self.g.ok("add_link", da_id=self.source.da_id, idf="meow", func=digest(COUNT), param_no=1)
        self.g.ok("add_link", da_id=self.target.da_id, odf="meow", func=None, param_no=2)
        self.others = [clients.graph(suite, mqtt=self.g.mqtt) for _ in range(20)]
        for n, other in enumerate(self.others):
            other.ok("attach", owner="o%d" % n)
            other.ok("add_link", da_id=list(self.devices)[n], idf="meow", func=None)
        self.source.until_connected(("idf", "meow"))
        self.target.until_connected(("odf", "meow"))
        for g in [self.g] + self.others:
            for link in g.state()["links"]:
                if link["da_id"] not in self.devices:
                    g.until_link(link["da_id"], link["mode"], link["feature"], "connected")
        self.before = self.picture()
        # the recorder's session outlives a broken connection, so what it misses was never sent to it
        self.recorder_mqtt = clients.mqtt(suite, clean_session=False)
        self.recorder = Recorder(self.recorder_mqtt, self.target.topics[("odf", "meow")])
        self.load = Load(self.source, "meow", RATE)
        self.recorder.until(lambda values, times: len(values) >= RATE // 2)

    def picture(self):
        """All that was answered: registrations, graphs with their functions, owners and topics."""
        return {"devices": {da_id: self.http.get(da_id).json() for da_id in
                            list(self.devices) + [self.source.da_id, self.target.da_id]},
                "graphs": [self.without_states(g.state()) for g in [self.g] + self.others]}

    @staticmethod
    def without_states(state):
        return {"owner": state["owner"], "join": state["join"],
                "links": [{k: link[k] for k in ("da_id", "feature", "mode", "topic")} for link in state["links"]]}

    def assert_all_is_there(self):
        assert self.picture() == self.before

    def assert_the_suite_takes_requests(self):
        """Registration, announcement, a new graph with data through it."""
        da_id = new_id()
        assert self.http.put(da_id, BODY).status_code == 200
        self.device_api.announced("register", da_id)
        g = self.others[0]
        assert g.request("add_link", da_id=da_id, idf="meow", func=None)["state"] == "ok"
        until(lambda: g.state()["pending"] is False, 10, "confirmation")
        g.ok("rm_link", da_id=da_id, idf="meow")

    def finish(self):
        """ret: (numbers sent, numbers that came out in order of arrival)"""
        sent = self.load.stop()
        self.recorder.until_value(sent - 1, 20)
        return sent, list(self.recorder.values)


@pytest.fixture
def busy(make_suite, clients):
    return Busy(make_suite({"core.da-expiration": 3600}), clients)


def lost(sent, got):
    return sorted(set(range(sent)) - set(got))


@pytest.mark.limit(120)
def test_kill_9_of_csm_loses_nothing_and_forwarding_never_stops(busy):
    busy.suite.kill9("csm")
    count = len(busy.recorder.values)
    busy.recorder.until(lambda values, times: len(values) >= count + 2 * RATE)   # two seconds without csm
    busy.suite.restart("csm")
    busy.assert_all_is_there()
    busy.assert_the_suite_takes_requests()
    # again at once, while csm is finding its agent
    busy.suite.kill9("csm")
    busy.suite.processes["csm"].start()
    busy.suite.kill9("csm")
    busy.suite.restart("csm")
    busy.assert_all_is_there()
    busy.assert_the_suite_takes_requests()
    sent, got = busy.finish()
    assert got == list(range(sent))
    gaps = [b - a for a, b in zip(busy.recorder.times, busy.recorder.times[1:])]
    assert max(gaps) < 1.0


@pytest.mark.limit(120)
def test_kill_9_of_the_engine_loses_at_most_what_it_was_evaluating(busy):
    restarts = busy.suite.engine_restarts()
    killed = []
    for _ in range(3):
        first = busy.suite.engine_of(busy.g)
        os.kill(first, signal.SIGKILL)
        killed.append(stopwatch.now())
        assert busy.recorder.after(killed[-1]) - killed[-1] < 1.0
        until(lambda: busy.suite.engine_of(busy.g) != first, 5, "another engine")
        count = len(busy.recorder.values)
        busy.recorder.until(lambda values, times: len(values) >= count + RATE // 2)
    assert busy.suite.engine_restarts() == restarts + 3
    busy.assert_all_is_there()
    busy.assert_the_suite_takes_requests()
    sent, got = busy.finish()
    assert len(lost(sent, got)) <= 3 * 2, lost(sent, got)   # the one in evaluation, a result not yet taken
    until(lambda: busy.suite.agent_counter("dropped.engine_fell") >= len(lost(sent, got)), 5, "the count of the losses")
    assert got == sorted(got)
    assert len(got) == len(set(got))


@pytest.mark.limit(120)
def test_kill_9_of_the_agent_loses_only_what_was_in_its_hands(busy):
    killed = stopwatch.now()
    engine = busy.suite.engine_of(busy.g)
    busy.suite.kill9("agent")
    began = stopwatch.now()
    busy.suite.start("agent")
    assert busy.recorder.after(began) - began < BACK_S
    assert killed < began
    busy.assert_all_is_there()
    busy.assert_the_suite_takes_requests()
    sent, got = busy.finish()
    if busy.suite.transport == "plugin":    # engines and rings do not notice: nothing is lost, no global either
        assert got == list(range(sent))
        assert [count for _, count in busy.recorder.whole] == list(range(1, sent + 1))
        assert busy.suite.engine_of(busy.g) == engine
        return
    # at 500 messages a second, at most a tenth of a second's worth was between two acknowledgements
    assert len(lost(sent, got)) <= RATE // 10, (len(lost(sent, got)), lost(sent, got)[:20])


@pytest.mark.limit(120)
def test_agent_and_engine_killed_at_once_lose_at_most_what_was_being_evaluated(busy):
    for _ in range(3):
        count = len(busy.recorder.values)
        engine = busy.suite.engine_of(busy.g)
        busy.suite.processes["agent"].popen.kill()
        os.kill(engine, signal.SIGKILL)
        busy.suite.kill9("agent")
        busy.suite.start("agent")
        busy.recorder.until(lambda values, times: len(values) >= count + RATE)
    busy.assert_all_is_there()
    sent, got = busy.finish()
    assert len(lost(sent, got)) <= (3 if busy.suite.transport == "plugin" else 3 * RATE // 10), lost(sent, got)
    assert busy.suite.transport == "client" or got == sorted(set(got))


@pytest.mark.limit(120)
def test_kill_9_of_the_broker_is_overcome_by_itself(busy):
    store = busy.suite.dir / "broker" / "mosquitto.db"
    made = time.time()
    until(lambda: store.exists() and store.stat().st_mtime > made, 12, "the broker's store to be saved")
    busy.suite.kill9("broker")
    busy.suite.processes["broker"].start()
    busy.suite.await_broker()
    up = stopwatch.now()
    assert busy.recorder.after(up) - up < BACK_S
    busy.suite.await_session()
    until(lambda: busy.http.get("readyz").status_code == 200, 5, "readiness of csm")
    for sdk in (busy.source, busy.target):
        until(lambda: busy.http.get(sdk.da_id).json()["online"], 5, "online")
    busy.assert_all_is_there()
    busy.assert_the_suite_takes_requests()
    # from here on nothing is lost or doubled
    mark = busy.load.sent
    count = len(busy.recorder.values)
    busy.recorder.until(lambda values, times: len(values) >= count + RATE)
    sent, got = busy.finish()
    got = [n for n in got if n >= mark]
    assert got == list(range(mark, sent))


@pytest.mark.limit(120)
def test_kill_9_of_everything_at_once_keeps_every_answered_request(busy):
    for name in ("agent", "csm", "broker"):
        busy.suite.processes[name].popen.kill()
    for name in ("agent", "csm", "broker"):
        busy.suite.kill9(name)
    busy.suite.start("broker", "csm", "agent")
    ready = stopwatch.now()
    assert busy.recorder.after(ready) - ready < BACK_S
    for sdk in (busy.source, busy.target):
        until(lambda: busy.http.get(sdk.da_id).json()["online"], 5, "online")
    busy.assert_all_is_there()
    busy.assert_the_suite_takes_requests()
    busy.finish()


@pytest.mark.limit(120)
def test_agent_started_before_csm_and_broker_waits_for_them(make_suite, clients):
    suite = make_suite(start=())
    suite.processes["agent"].start(ready=False)
    suite.processes["csm"].start(ready=False)
    suite.start("broker")
    suite.processes["agent"].await_ready()
    suite.processes["csm"].await_ready()
    suite.await_session()
    sdk = clients.sdk(suite)
    clients.graph(suite).wire(sdk.da_id, "meow", "meow")
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    sdk.push("meow", [1])
    assert sdk.received("meow") == [1]


def test_two_daemons_on_one_userdir_are_refused(make_suite):
    suite = make_suite()
    for name in ("csm", "agent"):
        second = Process(name + "-2", suite.processes[name].argv, suite.dir, True)
        second.start(ready=False)
        assert second.popen.wait(10) not in (0, None)
        assert second.log()
        assert suite.processes[name].runs()
    assert suite.control("csm", {"op": "status"})["health"] == "ok"


def healthy(status):
    return status if status["health"] == "ok" else None


def test_the_control_sockets_tell_status(make_suite):
    suite = make_suite()
    for name in ("csm", "agent"):
        status = until(lambda: healthy(suite.control(name, {"op": "status"})), 5, "health of " + name)
        assert status["name"] == name and status["pid"] == suite.pid(name) and status["ready"] is True
        assert status["version"] and status["uptime_s"] >= 0
        assert suite.control(name, {"op": "dance"})["state"] == "error"
        assert suite.control(name, {})["state"] == "error"
