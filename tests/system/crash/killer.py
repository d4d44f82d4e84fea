"""kill -9 at seeded random points and the supervisor that starts again what was killed; data through a graph tells how long it stood still."""

import threading
import time

import stopwatch
from clients import GraphClient, Sdk, digest
from model import Violation
from suite import until

# what is killed at once, how often
VICTIMS = ((("csm",), 45), (("agent",), 20), (("broker",), 20), (("csm", "agent"), 5), (("csm", "broker"), 5),
           (("broker", "csm", "agent"), 5))
AFTER_REQUESTS = (3, 40)      # a kill comes so many requests after the last check ...
AFTER_S = (0.0, 0.015)        # ... and a moment
AGAIN = 0.2                   # how often one of the victims is killed again while it starts
AGAIN_S = (0.0, 0.6)
FORWARDS_S = 3.0
TICK_S = 0.02
COUNT = "n = 0\ndef run(x):\n    global n\n    n += 1\n    return [x, n]\n"


class Probe:
    """Numbers that go through a graph from one device to another all the time."""

    def __init__(self, suite):
        self.source = Sdk(suite, idf=("meow", "f0", "f1", "f2"), odf=("f0", "f1", "f2"), data_qos=1)
        self.target = Sdk(suite, idf=(), odf=("meow",), data_qos=1)
        self.g = GraphClient(self.source, "crash-probe")
        self.g.wire(self.source.da_id, "meow", "meow", COUNT)
        self.g.ok("rm_link", da_id=self.source.da_id, odf="meow")
        self.g.ok("add_link", da_id=self.target.da_id, odf="meow", func=None)
        self.source.until_connected(("idf", "meow"))
        self.target.until_connected(("odf", "meow"))
        self.topics = dict(self.source.topics), dict(self.target.topics)
        self.sent = []               # when number n was published
        self.came = []               # (n, when)
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self.target.data.put = self._take
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        topic = self.source.topics["idf", "meow"]
        while not self._stop.wait(TICK_S):
            self.sent.append(stopwatch.now())
            self.source.publish(topic, [len(self.sent) - 1], 1, wait=False)

    def _take(self, item):
        with self._changed:
            self.came.append((item[1][0], stopwatch.now()))
            self._changed.notify_all()

    def forwards_after(self, moment, timeout):
        """Seconds from the moment to the arrival of a number published after it."""
        def arrival():
            return next((when for n, when in reversed(self.came[-500:]) if self.sent[n] > moment), None)

        with self._changed:
            self._changed.wait_for(arrival, timeout)
            first = [when for n, when in self.came if when > moment and self.sent[n] > moment][:1]
        if not first:
            raise Violation("nothing was forwarded within %d s" % timeout)
        return first[0] - moment

    def whole(self):
        """Both devices are online again and their links connected, on the topics of the beginning."""
        for sdk, mode in ((self.source, "idf"), (self.target, "odf")):
            until(lambda sdk=sdk: sdk.http.get(sdk.da_id).json().get("online"), 10, "device %s online" % sdk.da_id)
            link = self.g.until_link(sdk.da_id, mode, "meow", "connected")
            if link["topic"] != self.topics[mode == "odf"][mode, "meow"]:
                raise Violation("the probe's topic is another one: %s" % link)

    def close(self):
        self._stop.set()
        self._thread.join()
        self.source.close()
        self.target.close()


class Killer:
    def __init__(self, suite, chance, probe, requests_so_far):
        self.suite, self.chance, self.probe, self.requests = suite, chance, probe, requests_so_far
        self.times = []   # (victims, seconds until data went on)
        self.what = ""

    def wait(self):
        """For the random point."""
        due = self.requests() + self.chance.randint(*AFTER_REQUESTS)
        until(lambda: self.requests() >= due, 30, "the next requests", every=0.002)
        time.sleep(self.chance.uniform(*AFTER_S))

    def kill(self):
        """ret: how many were killed"""
        victims = self.chance.choices([v for v, _ in VICTIMS], [w for _, w in VICTIMS])[0]
        again = self.chance.choice(victims) if self.chance.random() < AGAIN else None
        pause = self.chance.uniform(*AGAIN_S)
        self.what = "%s%s" % ("+".join(victims), " and %s again after %.3f s" % (again, pause) if again else "")
        for name in victims:
            self.suite.processes[name].popen.kill()
        moment = stopwatch.now()
        for name in victims:
            self.suite.kill9(name)
        self.start(victims)
        if again:
            time.sleep(pause)
            moment = stopwatch.now()
            self.drop(again)
            self.start((again,))
        for name in victims:
            if name == "broker":
                self.suite.await_broker()
            else:
                self.suite.processes[name].await_ready()
        took = self.probe.forwards_after(moment, 5 * FORWARDS_S)
        self.times.append((self.what, took))
        if took > FORWARDS_S:
            raise Violation("data went on only after %.2f s" % took)
        return len(victims) + bool(again)

    def start(self, names):
        for name in sorted(names, key=("broker", "csm", "agent").index):
            self.suite.processes[name].start(ready=False)

    def drop(self, name):
        self.suite.kill9(name)
        if name != "broker":
            self.suite.processes[name].notice.close()
