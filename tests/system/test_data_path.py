"""The agent's data connections when there is too much, and when the broker goes away: what the protocol promises of each QoS."""

import json
import queue
import signal
import socket
import threading
import time

import pytest

from test_agent_protocol import Bench, collect, doc, make_bench, wait_for  # noqa: F401 (a fixture)

SLOW = "def run(x):\n    for _ in range(5000): pass\n    return x\n"


def forwarding(bench, csm, **put):
    csm.session()
    csm.sync()
    assert csm.put(doc(**put))["state"] == "ok"
    return bench.client("iottalk/esm/out", clean=False, client_id="collector")


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_is_too_much_waits_at_the_broker(make_bench, qos):  # noqa: F811
    bench = make_bench(agent={"queue-bytes": 65536}, engine={"ring-kb": 64})
    csm = bench.csm()
    out = forwarding(bench, csm)
    slow = csm.func(SLOW)
    assert csm.put(doc(rev=2, idf=slow))["state"] == "ok"
    count, padding = 6000, "x" * 100   # five times what fits into ring and backlog
    feeder = bench.client()
    for i in range(count):
        feeder.mqtt.publish("iottalk/esm/in", json.dumps([[i, padding]]), qos)
    # the change of a graph is no slower for it: its topics are there
    assert csm.put(doc(rev=3, idf=slow, join=csm.func("def run(x):\n    return x\n")), 5)["state"] == "ok"
    got = []
    while len(got) < count:
        got.append(json.loads(out.next().payload))
    assert [g[0] for g in got] == list(range(count))
    counters = bench.status()["counters"]
    assert counters["dropped.ring_full"] == 0
    assert counters["received"] == count
    assert counters["data_connects"] == 1


class Line:
    """A way to the broker that can be cut: where it is cut, half a packet may have gone through."""

    def __init__(self, port):
        self.broker_port = port
        self.pairs = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.broker_port))
            for s in (near, far):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = {"sockets": (near, far), "client": None}
            self.pairs.append(pair)
            threading.Thread(target=self._pass_on, args=(near, far, pair), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(far, near, None), daemon=True).start()

    @staticmethod
    def _pass_on(source, target, pair):
        try:
            while True:
                data = source.recv(777)
                if not data:
                    break
                if pair and pair["client"] is None:
                    pair["client"] = data[14:].decode(errors="replace")   # of the CONNECT
                target.sendall(data)
        except OSError:
            pass
        Line._end(source, target)

    @staticmethod
    def _end(*sockets):
        for s in sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass   # it has ended already

    def cut(self, client):
        """Its connection, which may have to come back first."""
        for pair in wait_for(lambda: [p for p in self.pairs if p["client"] == client], "a connection of " + client):
            self.pairs.remove(pair)
            self._end(*pair["sockets"])

    def close(self):
        self.listener.close()
        for pair in self.pairs:
            for s in pair["sockets"]:
                s.close()


@pytest.fixture
def cut_bench(tmp_path):
    """A bench whose agent reaches the broker over a line."""
    bench = Bench(tmp_path, {})
    bench.start_broker()
    line = Line(bench.port)
    ini = tmp_path / "iottalk.ini"
    ini.write_text(ini.read_text().replace("port = %d" % bench.port, "port = %d" % line.port))
    bench.start_agent()
    yield bench, line
    bench.close()
    line.close()


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("ends", [("data",), ("out",), ("data", "out")])
def test_cut_connections_lose_nothing_and_repeat_nothing_at_qos_2(cut_bench, qos, ends):
    bench, line = cut_bench
    csm = bench.csm()
    out = forwarding(bench, csm)
    feeder = bench.client()
    sent, stop = [0], threading.Event()

    def run():
        while not stop.is_set():
            for _ in range(20):   # bursts, so that a cut finds some under way
                feeder.mqtt.publish("iottalk/esm/in", str(sent[0]), qos)
                sent[0] += 1
            time.sleep(0.01)      # the rate is the point

    thread = threading.Thread(target=run)
    thread.start()
    for n in range(5):
        count = bench.counter("published")
        wait_for(lambda: bench.counter("published") >= count + 200, "results")
        # there are results of what it had while it is away
        wait_for(lambda: bench.counter("data_connects") == (n + 1 if "data" in ends else 1), "its connection")
        for end in ends:
            line.cut("agent-a1-" + end)
    count = bench.counter("published")
    wait_for(lambda: bench.counter("published") >= count + 200, "results")
    wait_for(lambda: bench.counter("data_connects") >= (6 if "data" in ends else 1), "its connection")
    stop.set()
    thread.join()
    assert bench.counter("data_connects") == (6 if "data" in ends else 1)
    got = []
    while not got or got[-1] != sent[0] - 1:
        got.append(json.loads(out.next().payload)[0])
    if qos == 2:
        assert got == list(range(sent[0]))
    else:
        assert list(dict.fromkeys(got)) == list(range(sent[0]))   # at least once, the first time in order


def test_a_broker_that_forgets_everything_is_overcome(make_bench):  # noqa: F811
    bench = make_bench()
    csm = bench.csm()
    out = forwarding(bench, csm)
    feeder = bench.client()
    feeder.publish("iottalk/esm/in", "1")
    assert out.next().payload == b"[1]"
    bench.broker.send_signal(signal.SIGKILL)
    bench.broker.wait(10)
    (bench.folder / "mosquitto.db").unlink(missing_ok=True)
    bench.start_broker()
    wait_for(lambda: bench.counter("data_connects") == 2 and bench.status()["health"] != "the broker is not reached", "the agent")
    again = bench.client("iottalk/esm/out")
    end = time.monotonic() + 10
    while True:
        feeder.publish("iottalk/esm/in", "2")   # nobody answers before the agent has subscribed again
        try:
            assert again.next(0.2).payload == b"[2]"
            return
        except queue.Empty:
            assert time.monotonic() < end


def test_what_a_session_still_holds_of_graphs_that_are_gone_is_turned_away(make_bench):  # noqa: F811
    bench = make_bench()
    csm = bench.csm()
    forwarding(bench, csm)
    bench.agent.terminate()
    assert bench.agent.wait(10) == 0
    feeder = bench.client()
    for i in range(5):
        feeder.publish("iottalk/esm/in", str(i))
    bench.start_agent()
    csm.session()
    csm.sync()
    wait_for(lambda: bench.counter("dropped.unknown_topic") == 5, "what was left over")
    # another topic's messages come in order behind those of the first: were it still subscribed, they would be counted
    assert csm.put(doc("c/2", name="2"))["state"] == "ok"
    out = bench.client("iottalk/esm/out2")
    feeder.publish("iottalk/esm/in", "6")
    feeder.publish("iottalk/esm/in2", "7")
    assert out.next().payload == b"[7]"
    assert bench.counter("dropped.unknown_topic") == 5


def test_large_messages_are_skipped_at_each_qos(make_bench):  # noqa: F811
    bench = make_bench(agent={"max-payload-bytes": 2000})
    csm = bench.csm()
    out = forwarding(bench, csm)
    feeder = bench.client()
    for qos in (0, 1, 2):
        feeder.publish("iottalk/esm/in", json.dumps("x" * 500000), qos)
    feeder.publish("iottalk/esm/in", "1")
    assert out.next().payload == b"[1]"
    counters = bench.status()["counters"]
    assert counters["dropped.too_large"] == 3
    assert counters["data_connects"] == 1
