"""ccm makes csm's graphs equal to the stored projects, and the stored devices equal to csm's, whatever was away meanwhile
(spec ccm 5 and 9.2). The store is filled by SQL; devices are on the Python SDK."""

import re
import sqlite3

import pytest
import requests

from ccm_store import Store
from clients import Api, GraphClient, Load, Recorder, new_id
from suite import until

DAEMONS = ("broker", "csm", "agent", "ccm")
SETTINGS = {"core.agent-timeout-ms": 2000}
DOUBLE = "def run(x): return x * 2\n"
TRIPLE = "def run(x): return x * 3\n"


class Graph(GraphClient):
    def send(self, op, *args, **fields):
        return super().send(op, *args, nonce=new_id(), **fields)   # as in Home.listed()


class Home:
    """A user with a model of one input (2 parameters here and there) and one output, and devices of it."""

    def __init__(self, suite, clients, name="home"):
        self.suite, self.clients = suite, clients
        self.store = clients.add(Store(suite))
        self.name = "%s-%s" % (name, new_id()[:8])
        self.u_id = self.store.user(self.name)
        self.sensor = self.store.feature("S-" + self.name, "input", {"min": 3, "max": 5})
        self.pair = self.store.feature("P-" + self.name, "input", {}, {})
        self.lamp = self.store.feature("L-" + self.name, "output")
        self.wide = self.store.feature("W-" + self.name, "output", {}, {})
        self.all = (self.sensor, self.pair, self.lamp, self.wide)
        self.model = self.store.model("M-" + self.name, *self.all)
        self.mqtt = clients.mqtt(suite)

    def df(self, df_id):
        return {self.sensor: "S-", self.pair: "P-", self.lamp: "L-", self.wide: "W-"}[df_id] + self.name

    def device(self, **kw):
        """With all features; known to ccm."""
        kw.setdefault("profile", {"u_name": self.name})
        sdk = self.clients.sdk(self.suite, idf=("S-" + self.name, "P-" + self.name), odf=("L-" + self.name, "W-" + self.name),
                               model="M-" + self.name, **kw)
        self.store.device(sdk.da_id)
        return sdk

    def graph(self, na_id):
        return Graph(self.mqtt, "ccm", str(na_id))

    def listed(self):
        # never the same bytes twice: after a restart of the broker csm would take them for its repetition
        answer = Api(self.mqtt, "ccm", []).ok("list", nonce=new_id())
        return set(answer["graphs"]) - {"functions"}

    def simple(self, status="on"):
        """Sensor -> lamp of one device; off: for who has more to store before it is looked at. ret: device, p_id, do_id, na_id, {df_id: dfo_id}"""
        device = self.device()
        p_id = self.store.project(self.u_id, "simple", status)
        do_id, dfos = self.store.object(p_id, self.model, *self.all)
        na_id = self.store.application(p_id, dfos[self.sensor], dfos[self.lamp])
        self.store.bind(do_id, device.da_id)
        return device, p_id, do_id, na_id, dfos

    def connected(self, device):
        device.until_connected(("idf", self.df(self.sensor)), ("odf", self.df(self.lamp)))

    def flows(self, device, given, expected):
        device.push(self.df(self.sensor), [given])
        assert device.received(self.df(self.lamp)) == expected

    def until_flows(self, device, given, expected, timeout=15):
        """Push until it comes out as it should: what is in force on the way there may do something else."""
        def comes():
            key = ("idf", self.df(self.sensor))
            if key not in device.topics:
                return False
            device.push(self.df(self.sensor), [given], wait=False)
            try:
                return device.received(self.df(self.lamp), 0.3) == expected
            except AssertionError:
                return False
        until(comes, timeout, "%s for %s" % (expected, given))
        device.data.take_all()


@pytest.fixture(scope="module")
def suite(request):
    import suite as suites
    s = suites.Suite(SETTINGS, start=DAEMONS)
    yield s
    s.close()


@pytest.fixture
def home(suite, clients):
    return Home(suite, clients)


def test_a_project_that_is_on_runs_and_one_that_is_off_does_not(home):
    device, p_id, do_id, na_id, _ = home.simple()
    home.store.look()
    home.connected(device)
    home.flows(device, 7, [7])
    state = home.graph(na_id).state()
    assert state["owner"] == home.name
    assert {(k["mode"], k["feature"], k["param_no"], k["tag_param_no"]) for k in state["links"]} == {
        ("idf", home.df(home.sensor), 1, 0), ("odf", home.df(home.lamp), 1, 0)}
    home.store.switch(p_id, "off")
    home.store.look()
    device.command("DISCONNECT", "idf", home.df(home.sensor))
    device.command("DISCONNECT", "odf", home.df(home.lamp))
    until(lambda: str(na_id) not in home.listed(), 5, "the graph's end")


def test_a_binding_that_changes_hands(home):
    first, p_id, do_id, na_id, _ = home.simple()
    home.store.look()
    home.connected(first)
    second = home.device()
    home.store.bind(do_id, second.da_id)
    home.store.look()
    home.connected(second)
    first.command("DISCONNECT", "idf", home.df(home.sensor))
    home.flows(second, 1, [1])
    home.store.bind(do_id, None)
    home.store.look()
    second.command("DISCONNECT", "idf", home.df(home.sensor))
    assert home.graph(na_id).state()["links"] == []


def test_functions_of_every_kind_of_link(home):
    """The input's function is that of parameter 0, an output has one for each; what has none hands on its argument."""
    s = home.store
    device = home.device()
    p_id = s.project(home.u_id)
    do_id, dfos = s.object(p_id, home.model, *home.all)
    na_id = s.application(p_id, dfos[home.pair], dfos[home.wide], join=s.function("j" + home.name.replace("-", ""), "def run(x): return (x, x + 1)\n"))
    s.use(na_id, dfos[home.pair], 0, s.function("a" + home.name.replace("-", ""), "def run(x, y): return x * y\n"))
    s.use(na_id, dfos[home.pair], 1, s.function("not used - " + home.name, "def run(x, y): return 'never'\n"))
    s.use(na_id, dfos[home.wide], 1, s.function("a name, with blanks " + home.name, "def run(pair): return sum(pair)\n"))
    s.bind(do_id, device.da_id)
    s.look()
    device.until_connected(("idf", home.df(home.pair)), ("odf", home.df(home.wide)))
    # the join's tuple is the one argument of both elements
    device.push(home.df(home.pair), [3, 4])
    assert device.received(home.df(home.wide)) == [[12, 13], 25]


def test_without_functions_values_go_through_and_the_last_fills_up(home):
    s = home.store
    device = home.device()
    p_id = s.project(home.u_id)
    do_id, dfos = s.object(p_id, home.model, *home.all)
    s.application(p_id, dfos[home.pair], dfos[home.wide])
    s.application(p_id, dfos[home.sensor], dfos[home.wide])
    s.bind(do_id, device.da_id)
    s.look()
    device.until_connected(("idf", home.df(home.pair)), ("idf", home.df(home.sensor)), ("odf", home.df(home.wide)))
    device.push(home.df(home.pair), [3, 4])
    assert device.received(home.df(home.wide)) == [3, 4]
    device.push(home.df(home.sensor), [5])
    assert device.received(home.df(home.wide)) == [5, 5]


def test_an_outputs_element_without_a_function_beside_one_that_has_one(home):
    s = home.store
    device = home.device()
    p_id = s.project(home.u_id)
    do_id, dfos = s.object(p_id, home.model, *home.all)
    na_id = s.application(p_id, dfos[home.pair], dfos[home.wide])
    s.use(na_id, dfos[home.wide], 0, s.function("Sum" + home.name.replace("-", ""), "def run(*all): return sum(all)\n"))
    s.bind(do_id, device.da_id)
    s.look()
    device.until_connected(("idf", home.df(home.pair)), ("odf", home.df(home.wide)))
    device.push(home.df(home.pair), [3, 4])
    assert device.received(home.df(home.wide)) == [7, 4]


def test_a_normalizer_maps_what_it_has_seen_to_the_range(home):
    """One value alone is in the middle of the range (9.2.22)."""
    device, p_id, do_id, na_id, dfos = home.simple("off")
    home.store.use(na_id, dfos[home.lamp], 0, home.store.function("n" + home.name.replace("-", ""), DOUBLE),
                   normalization=1, min=10, max=20)
    home.store.switch(p_id, "on")
    home.store.look()
    home.connected(device)
    for given, expected in ((5, 15), (10, 20), (0, 10), (5, 15), (2.5, 12.5)):
        home.flows(device, given, [expected])


def test_inputs_of_a_join_stand_by_param_i(home):
    """Not by when they were linked, and gaps do not matter (9.2.21)."""
    s = home.store
    devices = [home.device() for _ in range(3)]
    p_id = s.project(home.u_id)
    objects = [s.object(p_id, home.model, *home.all) for _ in range(3)]
    na_id = s.application(p_id, *(dfos[home.sensor] for _, dfos in objects), objects[0][1][home.lamp],
                          join=s.function("list" + home.name.replace("-", ""), "def run(*all): return list(all)\n"))
    s.run("UPDATE MultipleJoin_Module SET param_i = param_i + 100 WHERE na_id = ?", na_id)
    for place, (_, dfos) in zip((9, 2, 5), objects):
        s.run("UPDATE MultipleJoin_Module SET param_i = ? WHERE na_id = ? AND dfo_id = ?", place, na_id, dfos[home.sensor])
    for device, (do_id, _) in zip(devices, objects):
        s.bind(do_id, device.da_id)
    s.look()
    home.connected(devices[0])
    for device in devices[1:]:
        device.until_connected(("idf", home.df(home.sensor)))
    expected = [[None, None, 0], [1, None, 0], [1, 2, 0]]
    for n, device in enumerate(devices):
        device.push(home.df(home.sensor), [n])
        assert devices[0].received(home.df(home.lamp)) == [expected[n]]
    s.run("UPDATE MultipleJoin_Module SET param_i = 1 WHERE na_id = ? AND dfo_id = ?", na_id, objects[0][1][home.sensor])
    s.look()
    until(lambda: [k["order"] for k in home.graph(na_id).state()["links"] if k["mode"] == "idf"] == [1, 2, 5], 5, "the new order")


def test_tags_travel_with_the_data(home):
    s = home.store
    s.tag("t-" + home.name, 1, home.model, home.sensor, home.lamp)
    device, *_ = home.simple()
    s.look()
    home.connected(device)
    device.push(home.df(home.sensor), [7, "kitchen"])
    assert device.received(home.df(home.lamp)) == [7, "kitchen"]


def test_a_function_that_is_edited_while_data_flows(home):
    """Nothing is lost, and from some moment on the new body works (9.2.14): the digest of the wrapper stays the same."""
    s = home.store
    device, p_id, do_id, na_id, dfos = home.simple("off")
    fn_id = s.function("f" + home.name.replace("-", ""), "def run(x): return x\n")
    s.use(na_id, dfos[home.sensor], 0, fn_id)
    s.switch(p_id, "on")
    s.look()
    home.connected(device)
    before = home.graph(na_id).link(device.da_id, "idf", home.df(home.sensor))
    recorder = Recorder(home.clients.mqtt(home.suite), device.topics[("odf", home.df(home.lamp))])

    load = Load(device, home.df(home.sensor), rate=200)
    try:
        recorder.until(lambda values, _: len(values) > 50)
        s.version(fn_id, "def run(x): return -x\n")
        s.look()
        recorder.until(lambda values, _: sum(v < 0 for v in values) > 50)
    finally:
        sent = load.stop()
    recorder.until(lambda values, _: len(values) >= sent)
    assert [abs(v) for v in recorder.values] == list(range(sent))
    turn = next(i for i, v in enumerate(recorder.values) if v < 0)
    assert all(v < 0 for v in recorder.values[turn:])
    after = home.graph(na_id).link(device.da_id, "idf", home.df(home.sensor))
    assert after["func"] == before["func"] and after["depends"] != before["depends"]


def test_the_owners_newest_visible_version_is_used(home):
    s = home.store
    device, p_id, do_id, na_id, dfos = home.simple("off")
    fn_id = s.function("v" + home.name.replace("-", ""), DOUBLE)
    s.use(na_id, dfos[home.sensor], 0, fn_id)
    s.version(fn_id, "def run(x): return 'somebody else'\n", s.user("other-" + home.name))
    s.switch(p_id, "on")
    s.look()
    home.connected(device)
    home.flows(device, 2, [4])
    s.version(fn_id, TRIPLE, home.u_id)
    s.look()
    home.until_flows(device, 2, [6])


def test_the_joins_function_is_changed_and_cleared(home):
    s = home.store
    device, p_id, do_id, na_id, dfos = home.simple()
    double, triple = (s.function(name + home.name.replace("-", ""), code) for name, code in (("d", DOUBLE), ("t", TRIPLE)))
    for fn_id, expected in ((double, [4]), (triple, [6]), (None, [2]), (triple, [6])):
        s.run("UPDATE MultipleJoin_Module SET fn_id = ? WHERE na_id = ?", fn_id, na_id)
        s.look()
        home.until_flows(device, 2, expected)


def test_input_types_and_parameters_that_change(home):
    s = home.store
    device, p_id, do_id, na_id, dfos = home.simple("off")
    s.run("UPDATE DF_Module SET idf_type = 'variant' WHERE na_id = ?", na_id)
    s.switch(p_id, "on")
    s.look()
    home.connected(device)
    home.flows(device, 10, [10])
    home.flows(device, 11, [1])
    s.run("UPDATE DF_Module SET idf_type = 'sample' WHERE na_id = ?", na_id)
    s.look()
    home.until_flows(device, 12, [12])
    s.run("UPDATE DeviceFeature SET param_no = 2 WHERE df_id = ?", home.lamp)
    s.look()
    home.until_flows(device, 3, [3, 3])


# -- what is wrong

def test_a_function_that_is_refused_is_told_and_tried_again_slowly(home):
    s = home.store
    device, p_id, do_id, na_id, dfos = home.simple()
    fn_id = s.function("r" + home.name.replace("-", ""), "def walk(x): return x\n")
    s.use(na_id, dfos[home.sensor], 0, fn_id)
    s.look()
    refusal = re.compile(r"drive\.refused .*graph=%d .*run.* not found" % na_id)
    log = home.suite.processes["ccm"].log
    until(lambda: refusal.search(log()), 5, "the refusal in the log")
    device.until_connected(("odf", home.df(home.lamp)))     # the rest of the graph is not to blame
    until(lambda: len(refusal.findall(log())) >= 3, 10, "some more tries")
    assert len(refusal.findall(log())) <= 8
    s.version(fn_id, DOUBLE)
    s.look()
    home.connected(device)
    home.until_flows(device, 4, [8])


def test_a_feature_that_the_device_does_not_have(home):
    """csm takes the link; the device refuses it. The others run."""
    s = home.store

    def answer(command):
        known = "idf" in command
        return {"msg_id": command["msg_id"], "state": "ok" if known else "error", "reason": "no such feature"}

    sdk = home.clients.sdk(home.suite, idf=("S-" + home.name,), odf=("other",), model="M-" + home.name, answer=answer)
    p_id = s.project(home.u_id)
    do_id, dfos = s.object(p_id, home.model, *home.all)
    na_id = s.application(p_id, dfos[home.sensor], dfos[home.lamp])
    s.bind(do_id, sdk.da_id)
    s.look()
    sdk.until_connected(("idf", home.df(home.sensor)))
    link = home.graph(na_id).until_link(sdk.da_id, "odf", home.df(home.lamp), "error")
    assert link["reason"] == "no such feature"


# -- devices

def test_devices_come_change_and_go(home):
    s = home.store
    sdk = home.device(name="first name")
    row = "SELECT d_name, status, u_id, dm_id, is_sim, register_time FROM Device WHERE mac_addr = ?"
    until(lambda: s.rows(row, sdk.da_id)[0][1] == "online", 5, "online")
    (name, _, u_id, dm_id, is_sim, at), = s.rows(row, sdk.da_id)
    assert (name, u_id, dm_id, is_sim) == ("first name", home.u_id, home.model, 0)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", at)
    d_id = s.device(sdk.da_id)
    other_model, other = s.model("M2-" + home.name, home.sensor), s.user("other-" + home.name)
    sdk.tell("offline")
    until(lambda: s.rows(row, sdk.da_id)[0][1] == "offline", 5, "offline")
    sdk.body["name"], sdk.body["profile"] = "second name", {"model": "M2-" + home.name, "u_name": "other-" + home.name}
    sdk.register()
    until(lambda: s.rows(row, sdk.da_id)[0][:4] == ("second name", "offline", other, other_model), 5, "the device as it registered anew")
    assert s.device(sdk.da_id) == d_id
    sdk.deregister()
    until(lambda: not s.rows(row, sdk.da_id), 5, "the device's end")


def test_a_device_of_an_unknown_model_is_none_of_ours(home):
    sdk = home.clients.sdk(home.suite, model="nobody knows " + home.name)
    known = home.device()
    home.store.device(known.da_id)  # news comes in order
    assert home.store.one("SELECT d_id FROM Device WHERE mac_addr = ?", sdk.da_id) is None


def test_a_claimed_device_stays_its_owners_when_it_registers_without_a_name(home):
    s = home.store
    sdk = home.device(profile={})
    assert s.one("SELECT u_id FROM Device WHERE mac_addr = ?", sdk.da_id) is None
    s.run("UPDATE Device SET u_id = ? WHERE mac_addr = ?", home.u_id, sdk.da_id)
    sdk.body["name"] = "again " + home.name
    sdk.register()
    until(lambda: s.one("SELECT d_name FROM Device WHERE mac_addr = ?", sdk.da_id) == "again " + home.name, 5, "the new name")
    assert s.one("SELECT u_id FROM Device WHERE mac_addr = ?", sdk.da_id) == home.u_id


def test_a_device_that_registers_again_goes_on_and_one_that_leaves_is_unbound(home):
    s = home.store
    device, p_id, do_id, na_id, _ = home.simple()
    s.look()
    home.connected(device)
    device.register()
    device.client.reconnect()
    home.until_flows(device, 5, [5])
    assert s.one("SELECT d_id FROM DeviceObject WHERE do_id = ?", do_id) == s.device(device.da_id)
    device.deregister()
    until(lambda: home.graph(na_id).state()["links"] == [], 5, "the links' end")
    assert s.one("SELECT d_id FROM DeviceObject WHERE do_id = ?", do_id) is None


# -- graphs that nobody made, or unmade

def test_a_graph_of_ours_that_the_store_does_not_have_ends(home):
    stray = home.graph(987654321)
    stray.request("attach")
    stray.request("add_link", da_id=new_id(), idf="meow", func=None)
    until(lambda: "987654321" not in home.listed(), 15, "the stray graph's end")


@pytest.mark.parametrize("how", ("detach", "rm_link", "set_join"))
def test_what_somebody_else_did_to_a_graph_is_undone(home, how):
    """csm is asked every ten seconds whether the graphs are still those that we made."""
    device, p_id, do_id, na_id, _ = home.simple()
    home.store.look()
    home.connected(device)
    graph = home.graph(na_id)
    repairs = home.store.status()["repairs"]
    if how == "detach":
        graph.ok("detach")
    elif how == "rm_link":
        graph.ok("rm_link", da_id=device.da_id, idf=home.df(home.sensor))
    else:
        graph.ok("set_join", prev=None, new=graph.add_funcs("def run(x): return 'not ours'\n"))
    until(lambda: home.store.status()["repairs"] > repairs, 25, "a repair")
    home.until_flows(device, 6, [6])
    assert re.search(r"drive\.repaired .*graph=%d " % na_id, home.suite.processes["ccm"].log())


def test_csm_keeps_no_function_that_no_graph_uses(home):
    """Every edit would leave one behind."""
    s = home.store
    device, p_id, do_id, na_id, dfos = home.simple()
    fn_id = s.function("k" + home.name.replace("-", ""), "def run(x): return x * 7654321\n")
    s.use(na_id, dfos[home.sensor], 0, fn_id)
    s.look()
    home.connected(device)
    old = home.graph(na_id).link(device.da_id, "idf", home.df(home.sensor))["depends"]
    s.version(fn_id, "def run(x): return x * 1234567\n")
    s.look()
    home.until_flows(device, 1, [1234567])

    csm = sqlite3.connect("file:%s?mode=ro" % (home.suite.userdir / "iottalk.db"), uri=True)
    used = home.graph(na_id).link(device.da_id, "idf", home.df(home.sensor))["depends"]
    digests = lambda: {row[0] for row in csm.execute("SELECT digest FROM func")}
    until(lambda: not set(old.values()) & digests(), 15, "the old function's end")
    assert set(used.values()) <= digests()
    csm.close()


# -- restarts

@pytest.mark.parametrize("how", ("orderly", "kill9"))
@pytest.mark.parametrize("victim", DAEMONS)
def test_after_a_restart_the_graphs_are_what_the_store_says(make_suite, clients, victim, how):
    """The store changes while the daemon is away: a function, a binding, a project that ends and one that begins."""
    suite = make_suite(SETTINGS, start=DAEMONS)
    home = Home(suite, clients)
    s = home.store
    device, p_id, do_id, na_id, dfos = home.simple("off")
    fn_id = s.function("f", DOUBLE)
    s.use(na_id, dfos[home.sensor], 0, fn_id)
    ends = s.project(home.u_id, "ends")
    _, ends_dfos = s.object(ends, home.model, *home.all)
    ends_na = s.application(ends, ends_dfos[home.sensor], ends_dfos[home.lamp])
    begins = s.project(home.u_id, "begins", "off")
    begins_do, begins_dfos = s.object(begins, home.model, *home.all)
    begins_na = s.application(begins, begins_dfos[home.pair], begins_dfos[home.wide])
    s.switch(p_id, "on")
    s.look()
    home.connected(device)
    home.flows(device, 3, [6])
    assert home.listed() == {str(na_id), str(ends_na)}

    suite.kill9(victim) if how == "kill9" else suite.stop(victim)
    s.version(fn_id, TRIPLE)
    s.run("DELETE FROM Project WHERE p_id = ?", ends)
    s.switch(begins, "on")
    s.bind(begins_do, device.da_id)
    if victim != "ccm":
        s.look()
    suite.start(victim)

    device.until_connected(("idf", home.df(home.pair)), ("odf", home.df(home.wide)), timeout=20)
    home.until_flows(device, 3, [9])
    until(lambda: home.listed() == {str(na_id), str(begins_na)}, 15, "the graphs of the store")
    device.push(home.df(home.pair), [1, 2])
    assert device.received(home.df(home.wide)) == [1, 2]


def test_csm_comes_back_with_an_empty_store(make_suite, clients):
    """Devices register anew, as people make them do; what was bound is bound again by hand, and runs."""
    suite = make_suite(SETTINGS, start=DAEMONS)
    home = Home(suite, clients)
    device, p_id, do_id, na_id, _ = home.simple()
    home.store.look()
    home.connected(device)
    suite.stop("csm")
    for name in ("iottalk.db", "iottalk.db-wal", "iottalk.db-shm"):
        (suite.userdir / name).unlink(missing_ok=True)
    suite.start("csm")
    until(lambda: home.store.one("SELECT d_id FROM Device WHERE mac_addr = ?", device.da_id) is None, 25, "the device's end")
    device.register()
    device.client.reconnect()
    home.store.bind(do_id, device.da_id)
    home.store.look()
    home.until_flows(device, 8, [8])


def test_csm_comes_back_with_an_older_copy_of_its_store(make_suite, clients):
    """Nothing that was announced since is true any more, and nobody says so."""
    suite = make_suite(SETTINGS, start=DAEMONS)
    home = Home(suite, clients)
    device, p_id, do_id, na_id, _ = home.simple()
    gone = home.device()
    home.store.look()
    home.connected(device)
    names = ("iottalk.db", "iottalk.db-wal", "iottalk.db-shm")
    suite.stop("csm")
    copy = {name: (suite.userdir / name).read_bytes() for name in names if (suite.userdir / name).exists()}
    suite.start("csm")
    came = home.device()
    gone.deregister()
    until(lambda: home.store.one("SELECT d_id FROM Device WHERE mac_addr = ?", gone.da_id) is None, 15, "the device's end")
    suite.stop("csm")
    for name in names:
        (suite.userdir / name).unlink(missing_ok=True)
    for name, content in copy.items():
        (suite.userdir / name).write_bytes(content)
    suite.start("csm")
    until(lambda: home.store.one("SELECT d_id FROM Device WHERE mac_addr = ?", came.da_id) is None, 30, "the end of what the copy lacks")
    home.store.device(gone.da_id)
    home.until_flows(device, 6, [6])


def test_without_an_agent_graphs_are_made_and_run_when_it_comes(make_suite, clients):
    suite = make_suite(SETTINGS, start=("broker", "csm", "ccm"))
    home = Home(suite, clients)
    device, p_id, do_id, na_id, _ = home.simple()
    home.store.look()
    until(lambda: re.search(r"drive\.(changed|repaired) .*graph=%d .*pending=true" % na_id, suite.processes["ccm"].log()), 10, "a pending graph")
    suite.start("agent")
    home.connected(device)
    home.until_flows(device, 4, [4])


def test_many_graphs_at_once(make_suite, clients):
    suite = make_suite(SETTINGS, start=DAEMONS)
    home = Home(suite, clients)
    s = home.store
    devices = [home.device() for _ in range(4)]
    p_id = s.project(home.u_id, status="off")
    objects = [s.object(p_id, home.model, *home.all) for _ in devices]
    s.run("BEGIN")
    nas = [s.application(p_id, objects[n % 4][1][home.sensor], objects[(n + 1) % 4][1][home.pair], objects[(n + 2) % 4][1][home.lamp])
           for n in range(100)]
    s.run("COMMIT")
    for device, (do_id, _) in zip(devices, objects):
        s.bind(do_id, device.da_id)
    s.switch(p_id, "on")
    s.look()
    for device in devices:
        device.until_connected(("idf", home.df(home.sensor)), ("idf", home.df(home.pair)), ("odf", home.df(home.lamp)))
    until(lambda: home.listed() == {str(n) for n in nas}, 10, "all graphs")
    until(lambda: all(k["state"] == "connected" for n in nas for k in home.graph(n).state()["links"]), 10, "all links")
    s.switch(p_id, "off")
    s.look()
    until(lambda: home.listed() == set(), 10, "the end of all graphs")


# -- simulation

def registered(home, da_id):
    return requests.get(home.suite.url + "/" + da_id, timeout=5)


def test_simulated_devices_stand_in_until_a_real_one_comes(home):
    s = home.store
    p_id = s.project(home.u_id)
    do_id, dfos = s.object(p_id, home.model, *home.all)
    other_do, other = s.object(p_id, home.model, home.lamp)
    s.application(p_id, dfos[home.sensor], other[home.lamp])
    real_lamp = home.device()
    s.bind(other_do, real_lamp.da_id)
    s.run("UPDATE Project SET sim = 'on' WHERE p_id = ?", p_id)
    s.look()
    bound = "SELECT d.mac_addr FROM DeviceObject b JOIN Device d ON d.d_id = b.d_id WHERE b.do_id = ?"
    da_id = until(lambda: s.one(bound, do_id), 10, "a simulated device")
    profile = registered(home, da_id).json()["profile"]
    assert profile == {"model": "M-" + home.name, "is_sim": True, "do_id": do_id, "u_name": home.name}
    assert s.one(bound, other_do) == real_lamp.da_id
    (value,) = real_lamp.received(home.df(home.lamp))
    assert 3 <= value <= 5 and isinstance(value, int)

    real = home.device()
    s.bind(do_id, real.da_id)
    s.look()
    until(lambda: registered(home, da_id).status_code == 404, 10, "the simulated device's end")
    real.until_connected(("idf", home.df(home.sensor)))
    s.bind(do_id, None)
    s.look()
    assert until(lambda: s.one(bound, do_id), 10, "the simulated device again") == da_id
    s.run("UPDATE Project SET sim = 'off' WHERE p_id = ?", p_id)
    s.look()
    until(lambda: registered(home, da_id).status_code == 404 and s.one(bound, do_id) is None, 10, "the simulation's end")


def test_simulated_devices_go_with_ccm_and_come_again(make_suite, clients):
    suite = make_suite(SETTINGS, start=DAEMONS)
    home = Home(suite, clients)
    s = home.store
    p_id = s.project(home.u_id)
    objects = [s.object(p_id, home.model, *home.all)[0] for _ in range(5)]
    s.run("UPDATE Project SET sim = 'on' WHERE p_id = ?", p_id)
    s.look()
    bound = "SELECT d.mac_addr FROM DeviceObject b JOIN Device d ON d.d_id = b.d_id WHERE d.is_sim = 1 AND d.status = 'online'"
    all_are_there = lambda: len(s.rows(bound)) == 5
    until(all_are_there, 10, "simulated devices")
    ids = {row[0] for row in s.rows(bound)}
    suite.kill9("ccm")
    s.run("DELETE FROM DeviceObject WHERE do_id = ?", objects[0])
    suite.start("ccm")
    until(lambda: len(s.rows(bound)) == 4, 15, "the simulated devices that are needed")
    gone = ids - {row[0] for row in s.rows(bound)}
    until(lambda: [registered(home, da_id).status_code for da_id in gone] == [404], 10, "the end of the one that is not")
    suite.stop("ccm")
    assert {registered(home, da_id).status_code for da_id in ids} == {404}


def test_with_somebody_elses_simulation_there_is_none_of_ours(make_suite, clients):
    suite = make_suite(dict(SETTINGS, **{"gui-simtalk.simtalk-endpoint": "http://127.0.0.1:1"}), start=DAEMONS)
    home = Home(suite, clients)
    s = home.store
    p_id = s.project(home.u_id)
    do_id, _ = s.object(p_id, home.model, *home.all)
    other_do, _ = s.object(p_id, home.model, *home.all)
    s.run("UPDATE Project SET sim = 'on' WHERE p_id = ?", p_id)
    s.look()
    # its own simulators are bound to the objects that they name
    sim = home.device(profile={"u_name": home.name, "is_sim": True, "do_id": do_id})
    until(lambda: s.one("SELECT d_id FROM DeviceObject WHERE do_id = ?", do_id) == s.device(sim.da_id), 5, "the binding")
    stranger = home.device(profile={"u_name": "nobody", "is_sim": True, "do_id": other_do})
    s.device(stranger.da_id)
    assert s.one("SELECT d_id FROM DeviceObject WHERE do_id = ?", other_do) is None
    assert "sim.started" not in suite.processes["ccm"].log()
