"""kill -9 of agent and engines at random moments while 5,000 messages a second at QoS 1 go through the plugin: what was queued is
evaluated, but for the one message in evaluation when an engine dies; an agent's death costs nothing, no global of a function
either; order is kept; forwarding goes on within a second.

KILLS=200 and SEED=... repeat a long run; a suite of tests makes fewer."""

import json
import os
import random
import signal
import subprocess
import time

import pytest

import stopwatch
from clients import GraphClient, Recorder, new_id
from suite import BUILD, SANITIZED

KILLS = int(os.environ.get("KILLS", 12))
SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
RATE = 500 if SANITIZED else 5000
DEVICES = 20
OWNER = "load"
FUNCTION = "def run(x): return [x * 2 + 1]\n"
COUNT = "n = 0\ndef run(x):\n    global n\n    n += 1\n    return [x, n]\n"
CALM_S = (0.2, 0.8)    # between two kills
WITHIN_S = 3.0 if SANITIZED else 1.0


class Ticker:
    """A graph of its own that is asked again and again: when did it answer, and has it counted on?"""

    def __init__(self, suite, clients):
        self.mqtt = clients.mqtt(suite)
        da_id = new_id()
        self.graph = clients.graph(suite, mqtt=self.mqtt)
        self.graph.wire(da_id, "in", "out", COUNT, owner=OWNER)
        self.topic = self.graph.topic(da_id, "idf", "in")
        self.recorder = Recorder(self.mqtt, self.graph.topic(da_id, "odf", "out"))
        self.asked = 0

    def answers_within(self, seconds):
        began = stopwatch.now()
        self.mqtt.publish(self.topic, [self.asked], 1, wait=False)
        self.recorder.until_value(self.asked, 20)
        self.asked += 1
        took = stopwatch.now() - began
        print("%.3f" % took, end=" ", flush=True)
        assert took < seconds, "an answer took %.2f s (seed %d)" % (took, SEED)
        return self.recorder.whole[-1][1]


def wire(suite, clients):
    """ret: lines "in out" for the load program"""
    mqtt, lines = clients.mqtt(suite), []
    for _ in range(DEVICES):
        da_id = new_id()
        g = GraphClient(mqtt, graph=new_id()).wire(da_id, "in", "out", FUNCTION, owner=OWNER)
        lines.append("%s %s\n" % (g.topic(da_id, "idf", "in"), g.topic(da_id, "odf", "out")))
    return lines


@pytest.mark.limit(120 + KILLS * 3)
def test_kills_at_random_moments_cost_at_most_what_was_being_evaluated(make_suite, clients):
    chance = random.Random(SEED)
    suite = make_suite(transport="plugin")
    topics = suite.dir / "topics"
    topics.write_text("".join(wire(suite, clients)))
    ticker = Ticker(suite, clients)
    seconds = 3 + KILLS
    load = subprocess.Popen([str(a) for a in (BUILD / "bench/bin/load", "-p", suite.mqtt_port, "-t", topics, "-q", 1, "-a", 2, "-o", 1,
                                              "-r", RATE, "-d", seconds, "-W", 0)],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        engines, kills, counted = 0, 0, ticker.answers_within(20)
        while load.poll() is None and kills < KILLS:
            time.sleep(chance.uniform(*CALM_S))
            kills += 1
            if chance.random() < 0.5:
                suite.kill9("agent")
                suite.processes["agent"].start()
                count = ticker.answers_within(WITHIN_S)
                assert count == counted + 1, "an agent's death took globals along (seed %d)" % SEED
                suite.await_session()
            else:
                pids = suite.agent_status()["engine"]["pids"]
                os.kill(chance.choice(pids), signal.SIGKILL)
                engines += 1
                count = ticker.answers_within(WITHIN_S)
            counted = count
        result = json.loads(load.communicate(timeout=seconds + 60)[0].splitlines()[-1])
    finally:
        load.kill()
        load.wait()
    assert result["lost"] <= engines, (SEED, engines, result)
    assert (result["duplicated"], result["out_of_order"], result["wrong"]) == (0, 0, 0), (SEED, result)
    assert result["sent"] > RATE * seconds / 2, (SEED, result)
    print("seed %d: %d kills, %d of them engines, %s" % (SEED, kills, engines, result))
