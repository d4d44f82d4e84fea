"""The control channel: states, commands and their answers, last will, expiration (spec: Control channel)."""

import sqlite3
import time
import uuid

import pytest

import stopwatch
from clients import GraphClient, HttpApi, announced_id, new_id
from suite import Suite, until

SETTINGS = {"core.cleanup-delay-ms": 2000}


@pytest.fixture
def world(suite, clients):
    """One connection that sees all of csm's answers and commands in the order csm sent them."""
    return World(suite, clients)


class World:
    def __init__(self, suite, clients):
        self.suite, self.clients = suite, clients
        self.mqtt = clients.mqtt(suite)
        self.api = clients.device_api(suite, mqtt=self.mqtt)
        self.http = HttpApi(suite)

    def graph(self):
        g = GraphClient(self.mqtt, graph=new_id())
        g.ok("attach")
        return g

    def fence(self):
        """Everything csm sent before this on our connection has arrived when this returns."""
        self.api.request("fence")

    def registered_again(self, da_id, **kw):
        body = {"accept_protos": ["mqtt"], "idf_list": ["meow"], "odf_list": ["purr"], "profile": {"model": "M"}}
        return self.http.put(da_id, dict(body, **kw)).json()

    def registered(self, **kw):
        """A device known to the registry that only this test speaks for. ret: (id, answer of PUT, its ctrl/o)"""
        da_id = new_id()
        answer = self.registered_again(da_id, **kw)
        return da_id, answer, self.mqtt.subscribe(answer["ctrl_chans"][1])

    def tell(self, answer, state, **kw):
        self.mqtt.publish(answer["ctrl_chans"][0], {"state": state, "rev": kw.pop("rev", answer["rev"])}, **kw)

    def online(self, da_id):
        return self.http.get(da_id).json()["online"]

    def until_online(self, da_id, state=True):
        until(lambda: self.online(da_id) is state, what="online %s" % state)


def test_states_follow_what_the_device_says_and_are_announced_once(world):
    world.api.attach()
    da_id, answer, _ = world.registered()
    assert world.api.announced("register", da_id)["da"]["name"] == answer["name"]
    assert world.online(da_id) is False
    for state in ("online", "online", "offline", "offline", "online"):
        world.tell(answer, state)
    kinds = [world.api.answers.get(lambda m: m.json.get("op") == "anno" and announced_id(m.json) == da_id).json["type"]
             for _ in range(3)]
    assert kinds == ["online", "offline", "online"]
    world.fence()
    assert not [m for m in world.api.answers.take_all() if m.json.get("op") == "anno" and announced_id(m.json) == da_id]
    assert world.online(da_id) is True


def test_connect_is_sent_for_every_link_at_every_online(world):
    da_id, answer, commands = world.registered()
    g = world.graph()
    g.ok("add_link", da_id=da_id, idf="meow", func=None)
    g.ok("add_link", da_id=da_id, odf="purr", func=None)
    world.fence()
    assert len(commands) == 0   # it is offline
    seen, topics = set(), {}
    for _ in range(3):          # also when it is online already
        world.tell(answer, "online")
        for mode, feature in (("idf", "meow"), ("odf", "purr")):
            message = commands.get(lambda m: mode in m.json)
            command = message.json
            assert message.qos == 2 and not message.retain
            assert set(command) == {"msg_id", mode, "command", "topic"}
            assert command["command"] == "CONNECT" and command[mode] == feature
            assert command["topic"].startswith("iottalk/esm/")
            assert topics.setdefault(mode, command["topic"]) == command["topic"]
            assert command["msg_id"] not in seen
            seen.add(command["msg_id"])
        world.mqtt.publish(answer["ctrl_chans"][0], {"msg_id": command["msg_id"], "state": "ok"})
    assert topics["idf"] != topics["odf"]
    world.fence()
    assert len(commands) == 0


def test_offline_then_online_gets_connect_again(world):
    da_id, answer, commands = world.registered()
    g = world.graph()
    g.ok("add_link", da_id=da_id, idf="meow", func=None)
    for _ in range(2):
        world.tell(answer, "online", retain=True)
        assert commands.get().json["command"] == "CONNECT"
        world.tell(answer, "offline", retain=True)
    world.until_online(da_id, False)
    assert g.link(da_id, "idf", "meow")["state"] == "waiting"


def test_link_made_while_online_connects_at_once_and_removal_disconnects(world):
    da_id, answer, commands = world.registered()
    world.tell(answer, "online")
    world.until_online(da_id)
    g = world.graph()
    g.ok("add_link", da_id=da_id, idf="meow", func=None)
    connect = commands.get().json
    assert connect["command"] == "CONNECT"
    g.ok("rm_link", da_id=da_id, idf="meow")
    disconnect = commands.get().json
    assert disconnect["command"] == "DISCONNECT" and disconnect["idf"] == "meow"
    assert disconnect["topic"] == connect["topic"] and disconnect["msg_id"] != connect["msg_id"]


def test_a_link_added_again_has_a_new_random_topic(world):
    da_id, answer, commands = world.registered()
    world.tell(answer, "online")
    g = world.graph()
    topics = []
    for _ in range(3):
        g.ok("add_link", da_id=da_id, idf="meow", func=None)
        topics.append(commands.get(lambda m: m.json["command"] == "CONNECT").json["topic"])
        g.ok("rm_link", da_id=da_id, idf="meow")
    assert len(set(topics)) == 3


@pytest.mark.parametrize("shape", ["msg_id and state", "the whole command with state"])
def test_an_ok_answer_makes_the_link_connected(world, shape):
    da_id, answer, commands = world.registered()
    g = world.graph()
    g.ok("add_link", da_id=da_id, idf="meow", func=None)
    assert g.link(da_id, "idf", "meow")["state"] == "waiting"
    world.tell(answer, "online")
    command = commands.get().json
    assert g.link(da_id, "idf", "meow")["state"] == "connecting"
    reply = {"msg_id": command["msg_id"], "state": "ok"} if shape.startswith("msg_id") else dict(command, state="ok")
    world.mqtt.publish(answer["ctrl_chans"][0], reply)
    g.until_link(da_id, "idf", "meow", "connected")


def test_an_error_answer_shows_on_the_link_and_in_the_monitor(world):
    da_id, answer, commands = world.registered()
    g = world.graph()
    monitor = g.monitor()
    g.ok("add_link", da_id=da_id, idf="meow", func=None)
    world.tell(answer, "online")
    command = commands.get().json
    world.mqtt.publish(answer["ctrl_chans"][0],
                       {"msg_id": command["msg_id"], "state": "error", "reason": "the sensor is unplugged"})
    assert "the sensor is unplugged" in g.until_link(da_id, "idf", "meow", "error")["reason"]
    monitor.get(lambda m: "the sensor is unplugged" in m.payload.decode())


def test_no_answer_in_time_shows_on_the_link_and_in_the_monitor(make_suite, clients):
    world = World(make_suite({"core.command-timeout-ms": 500}), clients)
    da_id, answer, commands = world.registered()
    g = world.graph()
    monitor = g.monitor()
    g.ok("add_link", da_id=da_id, odf="purr", func=None)
    world.tell(answer, "online")
    command = commands.get().json
    assert g.until_link(da_id, "odf", "purr", "error")["reason"]
    monitor.get(lambda m: da_id in m.payload.decode() or "purr" in m.payload.decode())
    # an answer that comes late is better than none
    world.mqtt.publish(answer["ctrl_chans"][0], {"msg_id": command["msg_id"], "state": "ok"})
    assert not g.until_link(da_id, "odf", "purr", "connected")["reason"]


def test_an_answered_disconnect_is_not_sent_again_after_a_restart(world):
    """Though its link is nobody's any more when the answer comes."""
    def open_commands():
        with sqlite3.connect(world.suite.userdir / "iottalk.db") as db:
            return [row[0] for row in db.execute("SELECT command FROM command WHERE da_id = ?", (da_id,))]
    da_id, answer, commands = world.registered()
    g = world.graph()
    world.tell(answer, "online")
    g.ok("add_link", da_id=da_id, odf="purr", func=None)
    first = commands.get().json
    g.ok("rm_link", da_id=da_id, odf="purr")
    last = commands.get().json
    assert (first["command"], last["command"]) == ("CONNECT", "DISCONNECT")
    until(lambda: open_commands() == ["DISCONNECT"], 5, "the commit, which a command does not wait for")
    world.mqtt.publish(answer["ctrl_chans"][0], {"msg_id": last["msg_id"], "state": "ok"})
    until(lambda: open_commands() == [], 5, "the end of the command")
    # and one whose link came again meanwhile is another's
    g.ok("add_link", da_id=da_id, odf="purr", func=None)
    commands.get()
    g.ok("rm_link", da_id=da_id, odf="purr")
    last = commands.get().json
    g.ok("add_link", da_id=da_id, odf="purr", func=None)
    again = commands.get().json
    assert again["command"] == "CONNECT" and again["topic"] != last["topic"]
    world.mqtt.publish(answer["ctrl_chans"][0], {"msg_id": last["msg_id"], "state": "ok"})
    world.fence()
    assert open_commands() == ["CONNECT"]


def test_an_answer_to_an_unknown_command_changes_nothing(world):
    da_id, answer, commands = world.registered()
    g = world.graph()
    g.ok("add_link", da_id=da_id, idf="meow", func=None)
    world.tell(answer, "online")
    commands.get()
    for msg_id in (new_id(), 42, None, [], {}):
        world.mqtt.publish(answer["ctrl_chans"][0], {"msg_id": msg_id, "state": "error", "reason": "forged"})
    assert g.link(da_id, "idf", "meow")["state"] == "connecting"


def test_another_device_cannot_answer_for_this_one(world):
    da_id, answer, commands = world.registered()
    _, other, _ = world.registered()
    g = world.graph()
    g.ok("add_link", da_id=da_id, idf="meow", func=None)
    world.tell(answer, "online")
    msg_id = commands.get().json["msg_id"]
    world.mqtt.publish(other["ctrl_chans"][0], {"msg_id": msg_id, "state": "error", "reason": "not mine"})
    world.fence()
    assert g.link(da_id, "idf", "meow")["state"] == "connecting"


def test_a_stale_rev_is_ignored(world):
    da_id, answer, _ = world.registered()
    stale = answer["rev"]
    answer = world.http.put(da_id, {"accept_protos": ["mqtt"], "profile": {"model": "M"}}).json()
    for rev in (stale, new_id(), None, 42, ""):
        world.tell(answer, "online", rev=rev)
    world.fence()
    assert world.online(da_id) is False
    world.tell(answer, "online")
    world.until_online(da_id)
    world.tell(answer, "offline", rev=stale)
    world.fence()
    assert world.online(da_id) is True


GARBAGE = [b"", b"garbage", b"null", b"42", b'"online"', b"[]", b"{}", b'{"rev": 1}', b'{"state": null}', b'{"state": 42}',
           b'{"state": "online"}', b'{"state": "dancing"}', b'{"state": ["online"]}', b"[" * 50000, b'{"a":' * 50000,
           b"[" * 50000 + b"]" * 50000, b"\xff\xfe\x00", b"\0", b'{"state": "online", "rev": "\xff"}', b" " * 1000000, b"x" * 1000000]


def test_garbage_on_the_control_channel_is_counted_and_harmless(world):
    da_id, answer, _ = world.registered()
    world.tell(answer, "online")
    world.until_online(da_id)
    before = world.suite.metric("iottalk_drops_total")
    for payload in GARBAGE:
        world.mqtt.publish(answer["ctrl_chans"][0], payload)
    world.fence()
    # an empty one is how retained messages are cleared, so it may pass as nothing at all
    assert world.suite.metric("iottalk_drops_total") >= before + len(GARBAGE) - 1
    assert world.online(da_id) is True
    for topic in (new_id() + "/ctrl/i", "nobody/ctrl/i", "+x/ctrl/i".replace("+", "p"), "/ctrl/i"):
        world.mqtt.publish(topic, {"state": "online", "rev": answer["rev"]})
    world.fence()
    world.tell(answer, "offline")
    world.until_online(da_id, False)


def test_the_last_will_makes_it_offline(suite, world, clients):
    world.api.attach()
    sdk = clients.sdk(suite)
    world.api.announced("online", sdk.da_id)
    sdk.vanish()
    world.api.announced("offline", sdk.da_id)
    assert world.online(sdk.da_id) is False


def test_deregistration_disconnects_open_links(world):
    world.api.attach()
    da_id, answer, commands = world.registered()
    g = world.graph()
    g.ok("add_link", da_id=da_id, idf="meow", func=None)
    g.ok("add_link", da_id=da_id, odf="purr", func=None)
    world.tell(answer, "online")
    topics = {commands.get().json["topic"] for _ in range(2)}
    assert world.http.delete(da_id, answer["rev"]).status_code == 200
    assert {commands.get(lambda m: m.json["command"] == "DISCONNECT").json["topic"] for _ in range(2)} == topics
    world.api.announced("deregister", da_id)
    assert {link["state"] for link in g.state()["links"]} == {"waiting"}
    # the links wait for it: the same id may come again
    answer = world.http.put(da_id, {"accept_protos": ["mqtt"], "idf_list": ["meow"], "profile": {"model": "M"}}).json()
    world.tell(answer, "online")
    assert {commands.get(lambda m: m.json["command"] == "CONNECT").json["topic"] for _ in range(2)} == topics


def test_retained_messages_are_there_right_after_delete_and_cleared_later(suite, world, clients):
    sdk, late = clients.sdk(suite), clients.mqtt(suite)
    assert sdk.deregister().status_code == 200
    late = late.subscribe(sdk.up_topic)
    offline = late.get()
    assert offline.retain and offline.json == {"state": "offline", "rev": sdk.rev}
    assert late.get().payload == b""   # the clearing, as it happens
    witness = clients.mqtt(suite)
    inbox = witness.subscribe(sdk.up_topic)
    witness.publish(sdk.up_topic, b"end")
    assert [m.payload for m in inbox.wait_for(lambda all: all)] == [b"end"]


def test_registering_again_before_the_cleanup_keeps_the_retained_state(suite, world, clients):
    sdk = clients.sdk(suite)
    assert sdk.deregister().status_code == 200
    again = clients.sdk(suite, da_id=sdk.da_id)
    watch = world.mqtt.subscribe(sdk.up_topic)
    assert watch.get().json == {"state": "online", "rev": again.rev}
    # the moment of the cleanup of another one that was deregistered later has come: ours would have been before
    later = clients.sdk(suite)
    later_watch = world.mqtt.subscribe(later.up_topic)
    later.deregister()
    later_watch.get(lambda m: m.payload == b"")
    assert len(watch) == 0
    assert world.online(sdk.da_id) is True


def test_links_of_features_that_vanish_are_kept_and_reported(world):
    da_id, answer, commands = world.registered()
    g = world.graph()
    g.ok("add_link", da_id=da_id, idf="meow", func=None)
    world.http.put(da_id, {"accept_protos": ["mqtt"], "idf_list": ["hiss"], "profile": {"model": "M"}})
    link = g.link(da_id, "idf", "meow")
    assert link is not None and "meow" in (link["reason"] or "")


RATE, LINKS = 20, 30


def test_commands_keep_to_the_configured_rate(make_suite, clients):
    suite = make_suite({"core.command-rate": RATE})
    w = World(suite, clients)
    features = ["f%d" % n for n in range(LINKS)]
    _, answer, commands = w.registered(idf_list=features)
    g = w.graph()
    for feature in features:
        g.ok("add_link", da_id=answer["id"], idf=feature, func=None)
    assert suite.control("csm", {"op": "suspend", "app": answer["id"], "feature": features[-1], "mode": "idf"})["state"] == "ok"
    began, arrived = time.monotonic(), []
    w.tell(answer, "online")
    while len(arrived) < LINKS + 1:
        arrived.append(commands.get().json)
    # a tenth of a second's worth goes at once; sooner than this they cannot all have come
    assert time.monotonic() - began > (LINKS - RATE / 10 - 1) / RATE
    assert sorted(c["idf"] for c in arrived if c["command"] == "CONNECT") == sorted(features)
    # what an operator said of the feature comes after its CONNECT
    assert [c["command"] for c in arrived if c["idf"] == features[-1]] == ["CONNECT", "SUSPEND"]


# -- expiration needs a suite of its own

EXPIRATION_S = 2    # whoever is to come online before, on a busy machine, can

@pytest.fixture(scope="module")
def forgetful():
    s = Suite({"core.da-expiration": EXPIRATION_S, "core.cleanup-delay-ms": 200})
    yield s
    s.close()


def test_a_device_that_never_came_online_expires(forgetful, clients):
    w = World(forgetful, clients)
    w.api.attach()
    da_id, answer, _ = w.registered()
    began = stopwatch.now()
    register, deregister = (uuid.UUID(w.api.announced(kind, da_id)["timestamp"]).time / 1e7 for kind in ("register", "deregister"))
    assert EXPIRATION_S - 0.3 < deregister - register
    assert stopwatch.now() - began < EXPIRATION_S + 2
    assert w.http.get(da_id).status_code == 404


def test_a_device_that_stays_offline_expires_and_its_retained_messages_go(forgetful, clients):
    w = World(forgetful, clients)
    w.api.attach()
    sdk = clients.sdk(forgetful)
    w.api.announced("online", sdk.da_id)
    watch = w.mqtt.subscribe(sdk.up_topic)
    sdk.vanish()
    w.api.announced("offline", sdk.da_id)
    w.api.announced("deregister", sdk.da_id)
    watch.get(lambda m: m.payload == b"")


def test_an_online_device_does_not_expire(forgetful, clients):
    w = World(forgetful, clients)
    w.api.attach()
    sdk = clients.sdk(forgetful)
    w.api.announced("online", sdk.da_id)
    for _ in range(3):   # others come and expire meanwhile
        da_id, _, _ = w.registered()
        w.api.announced("deregister", da_id)
    assert w.online(sdk.da_id) is True


def test_coming_back_in_time_stops_the_expiration(forgetful, clients):
    w = World(forgetful, clients)
    w.api.attach()
    da_id, answer, _ = w.registered()
    for _ in range(4):
        w.tell(answer, "online")
        w.api.announced("online", da_id)
        w.tell(answer, "offline")
        w.api.announced("offline", da_id)
        other, _, _ = w.registered()
        w.tell(answer, "online")
        w.api.announced("online", da_id)
        w.api.announced("deregister", other)
        w.tell(answer, "offline")
        w.api.announced("offline", da_id)
    w.tell(answer, "online")
    w.api.announced("online", da_id)


def test_registering_again_begins_the_time_anew(forgetful, clients):
    """Of two that are never online the first registers again behind the second, and so it goes behind it, too."""
    w = World(forgetful, clients)
    w.api.attach()
    first, _, _ = w.registered()
    second, _, _ = w.registered()
    w.registered_again(first)
    gone = w.api.answers.wait_for(lambda all: sum(m.json.get("type") == "deregister" for m in all) == 2)
    assert [m.json["da"] for m in gone if m.json.get("type") == "deregister"] == [second, first]


def test_expiration_goes_on_after_a_restart(forgetful, clients):
    w = World(forgetful, clients)
    da_id, _, _ = w.registered()
    forgetful.kill9("csm")
    forgetful.restart("csm")
    until(lambda: w.http.get(da_id).status_code == 404, what="expiration")


def test_a_device_that_vanished_while_csm_was_away_expires(forgetful, clients):
    """csm learns from the retained last will that it is offline."""
    w = World(forgetful, clients)
    sdk = clients.sdk(forgetful)
    w.until_online(sdk.da_id)
    forgetful.kill9("csm")
    sdk.vanish()
    forgetful.restart("csm")
    until(lambda: w.http.get(sdk.da_id).status_code == 404, 5, "expiration")
