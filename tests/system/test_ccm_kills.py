"""kill -9 of ccm, and of those it speaks with, at random moments in a stream of mixed operations: what was answered is stored, nothing
is half done, and soon csm runs what is stored, functions included.

KILLS=200 and SEED=... repeat a long run; a suite of tests makes fewer."""

import concurrent.futures
import copy
import os
import random
import threading
import time

import pytest
import requests

from ccm_clients import STARTED, Rest, check_store, graphs_that_run, graphs_that_should, unique
from clients import Sdk
from suite import SANITIZED, until

KILLS = int(os.environ.get("KILLS", 6 if SANITIZED else 25))
SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
LIVES_S = (0.02, 0.6)      # from one start to the next death
RECONCILED_S = 20 if SANITIZED else 5
PROJECTS_MAX, OBJECTS_MAX, JOINS_MAX = 6, 5, 5
CODE = "def run(*args):\n    return args[0] + %d\n"


class World:
    """What there is to wire: two features, a model of both, online devices."""

    def __init__(self, suite, clients, rest):
        (self.sensor, sensor), (self.lamp, lamp) = rest.feature("input"), rest.feature("output")
        self.features, self.names = [self.sensor, self.lamp], [sensor, lamp]
        self.model, name = rest.model(self.features)
        self.devices = {}
        for _ in range(4):
            d = clients.add(Sdk(suite, idf=(sensor,), odf=(lamp,), model=name, profile={"u_name": rest.user}))
            self.devices[d.da_id] = d
        p_id = rest.project("first")
        do_id = rest.device_object(p_id, self.model, self.features)
        for mac in self.devices:
            rest.bind(p_id, do_id, mac)    # ccm knows them all
        self.macs = {row["d_id"]: row["mac_addr"] for row in rest.data("/project/%d/deviceobject/%d/device/" % (p_id, do_id))}
        assert set(self.macs.values()) == set(self.devices)


    def device(self, d_id):
        return self.devices[self.macs[d_id]]


def observed(rest):
    """All of a user's projects and functions as REST tells them: plain data to compare."""
    projects = {}
    for row in rest.data("/project/"):
        info = rest.data("/project/%d" % row["p_id"])
        objects = {}
        for side in ("ido", "odo"):
            for do in info[side]:
                one = objects.setdefault(do["do_id"], {"d_id": do["d_id"], "dfo": {}})
                assert one["d_id"] == do["d_id"]
                one["dfo"].update({dfo["dfo_id"]: (dfo["df_id"], dfo["alias_name"]) for dfo in do["dfo"]})
        joins = {}
        for na in info["na"]:
            full = rest.data("/project/%d/na/%d" % (row["p_id"], na["na_id"]))
            assert {d["dfo_id"] for d in na["input"]} == {d["dfo_id"] for d in full["input"]} == {m["dfo_id"] for m in full["multiple"]}
            joins[na["na_id"]] = {
                "name": na["na_name"],
                "links": {d["dfo_id"]: [m["fn_id"] for m in d["dfmp"]] for d in full["input"] + full["output"]},
                "join": sorted({m["fn_id"] for m in full["multiple"]}, key=str),
            }
        projects[row["p_id"]] = {"name": row["p_name"], "status": row["status"], "objects": objects, "joins": joins}
    functions = {row["fn_id"]: [v["code"] for v in rest.ok("GET", "/function/%d/a" % row["fn_id"])["fnvt_list"]]
                 for row in rest.ok("GET", "/function/")["fn_list"] if row["fn_name"].startswith("mine")}
    return {"projects": projects, "functions": functions}


class Stream:
    """Random operations, each: what is asked, and what it makes of the model. `changes(model, seen)` makes it; ids that only the answer
    tells are found in `seen`, the state as it is afterwards."""

    def __init__(self, rest, world, chance):
        self.rest, self.world, self.chance, self.n = rest, world, chance, 0
        self.model = observed(rest)
        self.done = {}
        self.pushed = 0

    def pick(self, things):
        things = sorted(things)
        return self.chance.choice(things) if things else None

    def some_project(self):
        p_id = self.pick(self.model["projects"])
        return p_id, self.model["projects"].get(p_id)

    # each: (method, path, body, changes) or None

    def create_project(self):
        name = "project %d" % self.n
        if len(self.model["projects"]) >= PROJECTS_MAX:
            return None

        def changes(model, seen):
            p_id = next(iter(set(seen["projects"]) - set(model["projects"])))
            model["projects"][p_id] = {"name": name, "status": "off", "objects": {}, "joins": {}}
        return "PUT", "/project/", {"p_name": name}, changes

    def delete_project(self):
        p_id, _ = self.some_project()
        if p_id is None:
            return None
        return "DELETE", "/project/%d" % p_id, None, lambda model, seen: model["projects"].pop(p_id)

    def switch_project(self):
        p_id, project = self.some_project()
        if p_id is None:
            return None
        status = "off" if project["status"] == "on" and self.chance.random() < 0.5 else "on"
        return "POST", "/project/%d" % p_id, {"status": status}, lambda model, seen: model["projects"][p_id].update(status=status)

    def create_object(self):
        p_id, project = self.some_project()
        if p_id is None or len(project["objects"]) >= OBJECTS_MAX:
            return None
        features = self.chance.choice([[self.world.sensor], [self.world.lamp], self.world.features])

        def changes(model, seen):
            new = seen["projects"][p_id]["objects"]
            do_id = next(iter(set(new) - set(model["projects"][p_id]["objects"])))
            names = {f[0]: f[1] for f in new[do_id]["dfo"].values()}
            assert sorted(names) == sorted(features) and all(names.values())
            model["projects"][p_id]["objects"][do_id] = {"d_id": None, "dfo": new[do_id]["dfo"]}
        return "PUT", "/project/%d/deviceobject/" % p_id, {"dm_id": self.world.model, "df": features}, changes

    def delete_object(self):
        p_id, project = self.some_project()
        do_id = self.pick(project["objects"]) if project else None
        if do_id is None:
            return None

        def changes(model, seen):
            gone = model["projects"][p_id]["objects"].pop(do_id)
            self.unlink(model["projects"][p_id], set(gone["dfo"]))
        return "DELETE", "/project/%d/deviceobject/%d" % (p_id, do_id), None, changes

    def unlink(self, project, dfos):
        """Links of these are gone, and joins that are left with one side. (A join function of one input: as the store has it.)"""
        outputs = {dfo for do in project["objects"].values() for dfo, (df_id, _) in do["dfo"].items() if df_id == self.world.lamp}
        for na_id, na in list(project["joins"].items()):
            na["links"] = {k: v for k, v in na["links"].items() if k not in dfos}
            if not set(na["links"]) & outputs or not set(na["links"]) - outputs:
                del project["joins"][na_id]

    def bind(self):
        p_id, project = self.some_project()
        do_id = self.pick(project["objects"]) if project else None
        if do_id is None:
            return None
        path = "/project/%d/deviceobject/%d/device/" % (p_id, do_id)
        if project["objects"][do_id]["d_id"] and self.chance.random() < 0.5:
            return "POST", path + "unbind", None, lambda model, seen: model["projects"][p_id]["objects"][do_id].update(d_id=None)
        d_id = self.pick(self.world.macs)
        which = self.chance.choice([d_id, self.world.macs[d_id]])
        return "POST", path + "bind/%s" % which, None, lambda model, seen: model["projects"][p_id]["objects"][do_id].update(d_id=d_id)

    def create_join(self):
        p_id, project = self.some_project()
        if p_id is None or len(project["joins"]) >= JOINS_MAX:
            return None
        sides = {kind: [dfo for do in project["objects"].values() for dfo, (df_id, _) in do["dfo"].items() if df_id == kind]
                 for kind in self.world.features}
        if not all(sides.values()):
            return None
        dfos = [dfo for kind in self.world.features
                for dfo in self.chance.sample(sorted(sides[kind]), self.chance.choice([1, 1, self.chance.randint(1, len(sides[kind]))]))]
        name = "join %d" % self.n

        def changes(model, seen):
            new = seen["projects"][p_id]["joins"]
            na_id = next(iter(set(new) - set(model["projects"][p_id]["joins"])))
            model["projects"][p_id]["joins"][na_id] = {"name": name, "links": {dfo: [None] for dfo in dfos}, "join": [None]}
        return "PUT", "/project/%d/na/" % p_id, {"na_name": name, "na_idx": len(project["joins"]), "dfo_ids": dfos}, changes

    def update_join(self):
        p_id, project = self.some_project()
        na_id = self.pick(project["joins"]) if project else None
        if na_id is None:
            return None
        na = project["joins"][na_id]
        fn_id = self.chance.choice(sorted(self.model["functions"]) + [None])
        dfos = self.chance.sample(sorted(na["links"]), self.chance.randint(0, len(na["links"])))
        body = {"na_name": "renamed %d" % self.n,
                "dfm_list": [{"dfo_id": dfo, "dfmp_list": [{"param_i": 0, "fn_id": fn_id}]} for dfo in dfos]}

        def changes(model, seen):
            one = model["projects"][p_id]["joins"][na_id]
            one["name"] = body["na_name"]
            one["links"].update({dfo: [fn_id] for dfo in dfos})
        return "POST", "/project/%d/na/%d" % (p_id, na_id), body, changes

    def delete_join(self):
        p_id, project = self.some_project()
        na_id = self.pick(project["joins"]) if project else None
        if na_id is None:
            return None
        return ("DELETE", "/project/%d/na/%d" % (p_id, na_id), None,
                lambda model, seen: model["projects"][p_id]["joins"].pop(na_id))

    def set_alias(self):
        p_id, project = self.some_project()
        do_id = self.pick(project["objects"]) if project else None
        if do_id is None:
            return None
        dfo_id = self.pick(project["objects"][do_id]["dfo"])
        df_id, _ = project["objects"][do_id]["dfo"][dfo_id]
        alias = "alias %d" % self.n

        def changes(model, seen):
            model["projects"][p_id]["objects"][do_id]["dfo"][dfo_id] = (df_id, alias)
        return ("POST", "/project/%d/deviceobject/%d/devicefeatureobject/%d" % (p_id, do_id, dfo_id),
                {"alias_name": alias, "df_parameter": []}, changes)

    def write_function(self):
        fn_id = self.pick(self.model["functions"])
        code = CODE % self.n
        if fn_id is not None and (len(self.model["functions"]) > 3 or self.chance.random() < 0.5):
            return ("POST", "/function/%d" % fn_id, {"code": code}, lambda model, seen: model["functions"][fn_id].append(code))

        def changes(model, seen):
            model["functions"][next(iter(set(seen["functions"]) - set(model["functions"])))] = [code]
        return "PUT", "/function/", {"fn_name": "mine_%d_%d" % (SEED, self.n), "code": code}, changes

    ops = [(1, create_project), (0.3, delete_project), (2, switch_project), (3, create_object), (0.6, delete_object), (4, bind),
           (3, create_join), (3, update_join), (0.6, delete_join), (1, set_alias), (1, write_function)]

    def next(self):
        while True:
            self.n += 1
            made = self.chance.choices([op for _, op in self.ops], [weight for weight, _ in self.ops])[0]
            op = made(self)
            if op is not None:
                self.name = made.__name__
                return op

    def run_until_it_dies(self):
        """ret: the last operation, and whether it was answered."""
        while True:
            op = method, path, body, changes = self.next()
            try:
                answer = self.rest.call(method, path, body)
            except requests.RequestException:
                return op, False
            assert answer.status_code in (200, 201), "%s %s %s: %s" % (method, path, body, answer.text)
            self.done[self.name] = self.done.get(self.name, 0) + 1
            try:
                self.model = self.after(changes, self.seen_after(answer.json()))
            except requests.RequestException:
                return op, True

    def run(self, count):
        """So many operations, none of which is lost on the way."""
        for _ in range(count):
            method, path, body, changes = self.next()
            answer = self.rest.call(method, path, body, timeout=30)
            if answer.status_code == 503 and self.name == "write_function":
                continue    # nobody is there to compile it
            assert answer.status_code in (200, 201), "%s %s %s: %s" % (method, path, body, answer.text)
            self.model = self.after(changes, self.seen_after(answer.json()))

    def seen_after(self, answer):
        """What there is after an answer, as far as it tells more than the model: new ids."""
        if self.name in ("create_object", "create_join"):
            return observed(self.rest)
        seen = copy.deepcopy(self.model)
        if self.name == "create_project":
            seen["projects"][answer["p_id"]] = {}
        elif self.name == "write_function":
            seen["functions"].setdefault(answer["fn_id"], [])
        return seen

    def after(self, changes, seen):
        model = copy.deepcopy(self.model)
        changes(model, seen)
        return model


    # what the model makes of data

    def offset(self, fn_id):
        """What the newest version of a function adds."""
        return int(self.model["functions"][fn_id][-1].split()[-1]) if fn_id is not None else 0

    def simple_joins(self):
        """[(device of the only input, [(device of an output, what is added on the way)])] of what runs."""
        for project in self.model["projects"].values():
            where = {dfo: (do["d_id"], df_id) for do in project["objects"].values() for dfo, (df_id, _) in do["dfo"].items()}
            for na in project["joins"].values():
                sides = {kind: [dfo for dfo in na["links"] if where[dfo][1] == kind and where[dfo][0]] for kind in self.world.features}
                whole = [dfo for dfo in na["links"] if where[dfo][1] == self.world.sensor]
                lamps = [where[dfo][0] for dfo in sides[self.world.lamp]]
                if project["status"] != "on" or len(whole) != 1 or not sides[self.world.sensor]:
                    continue
                added = self.offset(na["links"][whole[0]][0])
                # a device that is bound to several objects of a join has one link, of one of them
                targets = [(where[dfo][0], added + self.offset(na["links"][dfo][0])) for dfo in sides[self.world.lamp]
                           if lamps.count(where[dfo][0]) == 1]
                if targets:
                    yield where[whole[0]][0], targets


def data_is_right(stream, chance, most=3):
    """Through some of the joins: what is pushed arrives with what the newest functions add. ret: through how many"""
    world, joins = stream.world, list(stream.simple_joins())
    sensor, lamp = world.names
    for source, targets in chance.sample(joins, min(most, len(joins))):
        source = world.device(source)
        source.until_connected(("idf", sensor))
        for target, added in targets:
            target = world.device(target)
            target.until_connected(("odf", lamp))
            stream.pushed += 1
            until(lambda: arrives(source, sensor, target, stream.pushed * 10000000, added), RECONCILED_S,
                  "%d more from %s to %s" % (added, source.da_id, target.da_id))
    return min(most, len(joins))


def some_data_is_right(suite, rest, stream, chance):
    """Whatever chance has left of joins, in the end there is one that data can go through."""
    for _ in range(5000):
        if any(stream.simple_joins()):
            break
        stream.run(1)
    wanted = only_links(graphs_that_should(rest))
    until(lambda: runs(suite) == wanted, 4 * RECONCILED_S, "csm's graphs as the store wants them")
    assert data_is_right(stream, chance) > 0
    return len(wanted)


def arrives(source, feature, target, value, added):
    source.push(feature, [value])
    try:
        return target.data.get(lambda d: d[1] == [value + added], timeout=0.5)
    except AssertionError:
        return None


def kill_after(suite, seconds):
    timer = threading.Timer(seconds, lambda: os.kill(suite.pid("ccm"), 9))
    timer.start()
    return timer


@pytest.mark.limit(120 + KILLS * 8)
def test_what_was_answered_outlives_any_death(make_suite, clients):
    chance = random.Random(SEED)
    suite = make_suite(start=STARTED)
    rest = Rest(suite, unique("ann"))
    world = World(suite, clients, rest)
    stream = Stream(rest, world, chance)
    done = undone = slowest = most = through = 0
    for n in range(KILLS):
        try:
            timer = kill_after(suite, chance.uniform(*LIVES_S))
            (method, path, body, changes), answered = stream.run_until_it_dies()
            timer.join()
            suite.processes["ccm"].popen.wait(10)
            check_store(suite)
            suite.start("ccm")
            rest.http.close()
            seen = observed(rest)
            if answered or seen != stream.model:
                stream.model = stream.after(changes, seen)
                done += 1
            else:
                undone += 1
            assert seen == stream.model, "%s %s %s: %s" % (method, path, body, "answered, and not stored" if answered else "half done")
            wanted, began = graphs_that_should(rest), time.monotonic()
            until(lambda: runs(suite) == only_links(wanted), RECONCILED_S, "csm's graphs as the store wants them")
            slowest = max(slowest, time.monotonic() - began)
            most = max(most, len(only_links(wanted)))
            through += data_is_right(stream, chance)
        except BaseException:
            print("SEED=%d, kill %d of %d\nwanted %s\nruns   %s" % (SEED, n + 1, KILLS, only_links(graphs_that_should(rest)), runs(suite)))
            raise
    check_store(suite)
    most = max(most, some_data_is_right(suite, rest, stream, chance))
    print("%d kills: %s answered; the last was done %d times, not done %d times; up to %d graphs, reconciled within %.2f s; data through %d" % (
        KILLS, stream.done, done, undone, most, slowest, through))


@pytest.mark.limit(120 + KILLS * 8)
def test_graphs_are_right_whoever_dies(make_suite, clients):
    """Operations go on while csm, agent or broker are away."""
    chance = random.Random(SEED)
    suite = make_suite(start=STARTED)
    rest = Rest(suite, unique("ann"))
    stream = Stream(rest, World(suite, clients, rest), chance)
    most = through = 0
    stream.run(100)
    for n in range(max(3, KILLS // 3)):
        victims = chance.sample(["broker", "csm", "agent", "ccm"], chance.choice([1, 1, 2]))
        try:
            stream.run(chance.randint(0, 12))
            for name in victims:
                suite.kill9(name)
            if "ccm" not in victims:
                stream.run(chance.randint(0, 5))
            for name in sorted(victims, key=["broker", "csm", "agent", "ccm"].index):
                suite.start(name)
            stream.run(chance.randint(0, 5))
            suite.await_session()
            assert observed(rest) == stream.model
            wanted = only_links(graphs_that_should(rest))
            until(lambda: runs(suite) == wanted, 4 * RECONCILED_S, "csm's graphs as the store wants them")
            most = max(most, len(wanted))
            through += data_is_right(stream, chance)
        except BaseException:
            print("SEED=%d, death %d of %s\nwanted %s\nruns   %s" % (SEED, n + 1, victims, only_links(graphs_that_should(rest)), runs(suite)))
            raise
    most = max(most, some_data_is_right(suite, rest, stream, chance))
    print("up to %d graphs, data through %d" % (most, through))


def test_users_are_in_nobodys_way(make_suite, clients):
    """Streams of several users at the same time, as many graphs as they have together."""
    suite = make_suite(start=STARTED)
    rests = [Rest(suite, unique("user")) for _ in range(4)]
    streams = [Stream(rest, World(suite, clients, rest), random.Random(SEED + n)) for n, rest in enumerate(rests)]
    with concurrent.futures.ThreadPoolExecutor(len(streams)) as pool:
        for future in [pool.submit(stream.run, 30 if SANITIZED else 120) for stream in streams]:
            future.result()
    wanted = {}
    for rest, stream in zip(rests, streams):
        assert observed(rest) == stream.model, "SEED=%d" % SEED
        wanted.update(only_links(graphs_that_should(rest)))
    until(lambda: runs(suite) == wanted, RECONCILED_S, "csm's graphs as the store wants them (SEED=%d)" % SEED)
    for stream in streams:
        data_is_right(stream, random.Random(SEED))


def only_links(graphs):
    """A graph without links is nothing that an agent would run."""
    return {na_id: links for na_id, links in graphs.items() if links}


def runs(suite):
    return only_links(graphs_that_run(suite))
