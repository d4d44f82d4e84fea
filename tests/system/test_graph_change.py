"""Changes of a graph are in force between two messages: none is lost, doubled or reordered (goal P6)."""

import itertools
import threading

import pytest

from clients import Recorder, digest

TRANSPORTS = ("client", "plugin")

MESSAGES = 2000
JOINS = ["def run(*slots): return slots[0]\n", "def run(*slots):\n    return slots[0] + 0\n"]
FUNCS = ["n = 0\ndef run(x):\n    global n\n    n += 1\n    return x\n", "def run(x): return int(x)\n"]


class Changer:
    """Changes the graph round after round on its own thread until told to stop; every answer must be ok."""

    def __init__(self, g, changes):
        self.g, self.changes, self.rounds, self.failure = g, changes, 0, None
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            for op, fields in itertools.cycle(self.changes):
                if self._stop.is_set():
                    return
                self.g.ok(op, **fields)
                with self._changed:
                    self.rounds += 1
                    self._changed.notify_all()
        except Exception as e:
            self.failure = e

    def until(self, rounds):
        with self._changed:
            assert self._changed.wait_for(lambda: self.rounds >= rounds or self.failure, 20), "the changes stopped"

    def stop(self):
        self._stop.set()
        self._thread.join(20)
        assert self.failure is None, self.failure


def changes_of(kind, da_id, other_id):
    j0, j1 = map(digest, JOINS)
    f0, f1 = map(digest, FUNCS)
    kinds = {
        "set_join": [("set_join", dict(prev=j0, new=j1)), ("set_join", dict(prev=j1, new=j0))],
        "idf links": [("add_link", dict(da_id=other_id, idf="second", func=None)), ("rm_link", dict(da_id=other_id, idf="second"))],
        "odf links": [("add_link", dict(da_id=other_id, odf="second", func=f1)), ("rm_link", dict(da_id=other_id, odf="second"))],
        "set_df_func": [("set_df_func", dict(da_id=da_id, idf="meow", prev=f0, new=f1)),
                        ("set_df_func", dict(da_id=da_id, odf="meow", prev=None, new=f1)),
                        ("set_df_func", dict(da_id=da_id, idf="meow", prev=f1, new=f0)),
                        ("set_df_func", dict(da_id=da_id, odf="meow", prev=f1, new=None))],
        "monitor": [("start_monitor", {}), ("stop_monitor", {})],
    }
    if kind == "everything":
        # one change of each kind in turn: their first halves, then their second halves
        halves = [(c[:len(c) // 2], c[len(c) // 2:]) for c in kinds.values()]
        return [c for first, _ in halves for c in first] + [c for _, second in halves for c in second]
    return kinds[kind]


@pytest.mark.parametrize("kind", ["set_join", "idf links", "odf links", "set_df_func", "monitor", "everything"])
def test_each_result_comes_once_and_in_order_while_the_graph_changes(suite, clients, kind):
    source = clients.sdk(suite, idf=("meow", "second"), odf=())
    target = clients.sdk(suite, idf=(), odf=("meow", "second"))
    g = clients.graph(suite)
    g.ok("attach")
    g.add_funcs(*JOINS, *FUNCS)
    g.ok("add_link", da_id=source.da_id, idf="meow", func=digest(FUNCS[0]))
    g.ok("add_link", da_id=target.da_id, odf="meow", func=None)
    g.ok("set_join", prev=None, new=digest(JOINS[0]))
    source.until_connected(("idf", "meow"))
    target.until_connected(("odf", "meow"))
    recorder = Recorder(clients.mqtt(suite), target.topics[("odf", "meow")])
    changes = [(op, dict(fields, da_id=target.da_id) if "odf" in fields else fields)
               for op, fields in changes_of(kind, source.da_id, source.da_id)]
    changer = Changer(g, changes)
    for n in range(MESSAGES):
        # paced by what came out and by the changes, so that these fall between messages all along
        recorder.until(lambda values, times: len(values) >= n - 50, 20)
        changer.until(n // 25)
        source.push("meow", [n], 1, wait=False)
    recorder.until(lambda values, times: len(values) >= MESSAGES, 20)
    changer.stop()
    assert recorder.values == list(range(MESSAGES))
    assert changer.rounds >= MESSAGES // 25 - 1


def test_a_refused_change_under_load_disturbs_nothing(suite, clients):
    sdk = clients.sdk(suite)
    g = clients.graph(suite)
    broken = "def run(x: return\n"
    g.wire(sdk.da_id, "meow", "meow", FUNCS[0])
    g.add_funcs(broken)
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    recorder = Recorder(clients.mqtt(suite), sdk.topics[("odf", "meow")])
    for n in range(500):
        recorder.until(lambda values, times: len(values) >= n - 50, 20)
        sdk.push("meow", [n], 1, wait=False)
        if n % 25 == 0:
            g.refused("set_join", "SyntaxError", prev=None, new=digest(broken))
    recorder.until(lambda values, times: len(values) >= 500, 20)
    assert recorder.values == list(range(500))


def test_a_function_that_stays_counts_on_through_changes(suite, clients):
    """The IDF function numbers its messages: a restart of it would begin anew."""
    count = "n = -1\ndef run(x):\n    global n\n    n += 1\n    return n\n"
    sdk = clients.sdk(suite, odf=("meow", "second"))
    g = clients.graph(suite)
    g.wire(sdk.da_id, "meow", "meow", count, JOINS[0])
    g.add_funcs(*JOINS, *FUNCS)
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    recorder = Recorder(clients.mqtt(suite), sdk.topics[("odf", "meow")])
    j0, j1 = map(digest, JOINS)
    changer = Changer(g, [("set_join", dict(prev=j0, new=j1)), ("add_link", dict(da_id=sdk.da_id, odf="second", func=None)),
                          ("set_join", dict(prev=j1, new=j0)), ("rm_link", dict(da_id=sdk.da_id, odf="second"))])
    for n in range(500):
        recorder.until(lambda values, times: len(values) >= n - 20, 20)
        changer.until(n // 10)
        sdk.push("meow", [0], 1, wait=False)
    recorder.until(lambda values, times: len(values) >= 500, 20)
    changer.stop()
    assert recorder.values == list(range(500))
