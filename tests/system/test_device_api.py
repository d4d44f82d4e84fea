"""The device API over MQTT: snapshot, announcements, detach (spec: Device API)."""

import time
import uuid

import pytest

from clients import DeviceApi, HttpApi, announced_id, new_id

BODY = {"accept_protos": ["mqtt"], "name": "BetaCat", "idf_list": [["meow", ["dB"]]], "odf_list": [["purr", ["Hz"]]],
        "profile": {"model": "AI"}}
UUID1_EPOCH_S = 12219292800


@pytest.fixture
def api(suite, clients):
    return clients.device_api(suite)


@pytest.fixture(scope="module")
def http(suite):
    return HttpApi(suite)


def test_attach_tells_all_that_is_registered(suite, api, http, clients):
    da_id = new_id()
    rev = http.put(da_id, BODY).json()["rev"]
    sdk = clients.sdk(suite, name="Live")
    seen = clients.device_api(suite)
    seen.attach()
    da_list = None
    while da_list is None or da_list[sdk.da_id]["state"] != "online":
        da_list = api.attach()
    da = da_list[da_id]
    assert abs(da.pop("register_time") - time.time()) < 60
    assert da == {"id": da_id, "name": "BetaCat", "rev": rev, "idf_list": BODY["idf_list"], "odf_list": BODY["odf_list"],
                  "profile": {"model": "AI"}, "accept_protos": ["mqtt"], "state": "offline"}
    assert da_list[sdk.da_id]["name"] == "Live"


def test_what_happens_to_a_device_is_announced_in_order(suite, api, http, clients):
    api.attach()
    sdk = clients.sdk(suite, name="First")
    rev = sdk.rev
    seen = [api.announced(kind, sdk.da_id) for kind in ("register", "online")]
    http.post(sdk.da_id, {"name": "Second"})
    seen.append(api.announced("changed", sdk.da_id))
    sdk.tell("offline")
    seen.append(api.announced("offline", sdk.da_id))
    http.delete(sdk.da_id, rev)
    seen.append(api.announced("deregister", sdk.da_id))
    assert not [m for m in api.answers.take_all() if announced_id(m.json) == sdk.da_id]
    by_type = {a["type"]: a["da"] for a in seen}
    whole = by_type["register"]
    assert whole["rev"] == rev and whole["name"] == "First" and whole["accept_protos"] == ["mqtt"]
    assert [f[0] for f in whole["idf_list"]] == ["meow"] and whole["profile"] == {"model": "Dummy"}
    assert by_type["changed"] == {"id": sdk.da_id, "name": "Second"}
    for kind in ("online", "offline", "deregister"):
        assert by_type[kind] == sdk.da_id
    stamps = [uuid.UUID(a["timestamp"]) for a in seen]
    assert {s.version for s in stamps} == {1}
    assert [s.time for s in stamps] == sorted({s.time for s in stamps})
    assert abs(stamps[-1].time / 1e7 - UUID1_EPOCH_S - time.time()) < 60


def test_registering_again_is_announced_as_changed(api, http):
    da_id = new_id()
    http.put(da_id, BODY)
    api.attach()
    rev = http.put(da_id, dict(BODY, name="Other", odf_list=[["hiss", None]])).json()["rev"]
    da = api.announced("changed", da_id)["da"]
    assert da["name"] == "Other" and da["rev"] == rev and [f[0] for f in da["odf_list"]] == ["hiss"]


def test_nothing_is_announced_before_attach_and_after_detach(suite, clients, http):
    mqtt = clients.mqtt(suite)
    api, other = DeviceApi(mqtt), DeviceApi(mqtt)
    other.attach()
    http.put(new_id(), BODY)
    api.attach()
    first = new_id()
    http.put(first, BODY)
    api.announced("register", first)
    assert api.ok("detach")
    last = new_id()
    http.put(last, BODY)
    other.announced("register", last)    # on the same connection, sent after ours would have been
    other.request("fence")
    assert not [m for m in api.answers.take_all() if m.json.get("op") == "anno"]


def test_a_second_attach_sends_the_snapshot_again_and_announces_once(api, http):
    api.attach()
    da_id = new_id()
    http.put(da_id, BODY)
    assert da_id in api.attach()
    api.announced("register", da_id)
    second = new_id()
    http.put(second, BODY)
    api.announced("register", second)
    api.request("fence")
    assert not [m for m in api.answers.take_all() if m.json.get("op") == "anno"]


def test_detach_is_answered_also_when_not_attached(api):
    assert api.request("detach")["state"] == "ok"


def test_unknown_op_and_payloads_that_are_no_object(api):
    answer = api.request("dance", extra={"carried": ["back"]})
    assert answer["state"] == "error" and "op" in answer["reason"] and "dance" in answer["reason"]
    assert "unknown" in answer["reason"] and answer["extra"] == {"carried": ["back"]}
    for payload in (b"", b"garbage", b"42", b"[]", b'"attach"', b"null", b"\xff\xfe", b"[" * 50000, b'{"op": 42}', b"{}"):
        api.mqtt.publish(api.req, payload)
        answer = api.answers.get(lambda m: "ref" not in m.json).json
        assert answer["state"] == "error" and answer["reason"]


def test_fields_of_the_request_come_back(api):
    answer = api.ok("attach", mine=[1, {"two": None}], state="whatever", reason=7)
    assert answer["mine"] == [1, {"two": None}] and answer["op"] == "attach"


def test_a_request_at_qos_0_is_answered(api):
    assert api.request("attach", qos=0)["state"] == "ok"


def test_attachment_lasts_over_kill_9_of_csm(make_suite, clients):
    suite = make_suite()
    api, http = clients.device_api(suite), HttpApi(suite)
    run = api.ok("attach")["run"]
    assert api.ok("attach")["run"] == run
    kept = new_id()
    before = http.put(kept, BODY).json()
    sdk = clients.sdk(suite, name="Live")
    api.announced("online", sdk.da_id)
    suite.kill9("csm")
    suite.restart("csm")
    new = new_id()
    http.put(new, BODY)
    api.announced("register", new)
    # nothing is announced again that was announced before
    again = [m.json for m in api.answers.take_all() if m.json.get("op") == "anno" and m.json["type"] == "register"]
    assert [a["da"]["id"] for a in again] == [kept, sdk.da_id] or [a["da"]["id"] for a in again] == [kept]
    told = api.ok("attach")
    assert told["da_list"][kept]["rev"] == before["rev"] and told["run"] != run
    while api.attach()[sdk.da_id]["state"] != "online":
        pass


def test_detach_of_all_services_ends_the_attachment(suite, clients, http):
    mqtt = clients.mqtt(suite)
    api, other = DeviceApi(mqtt), DeviceApi(mqtt)
    api.attach()
    other.attach()
    answers = mqtt.subscribe("iottalk/api/res/" + api.client_id)
    mqtt.publish("iottalk/api/req/" + api.client_id, {"op": "detach", "ref": 1})
    assert answers.get().json == {"op": "detach", "ref": 1, "state": "ok"}
    da_id = new_id()
    http.put(da_id, BODY)
    other.announced("register", da_id)
    other.request("fence")
    assert not [m for m in api.answers.take_all() if m.json.get("op") == "anno"]


def test_the_list_of_a_thousand_devices_comes_in_one_answer(suite, api, http):
    ids = [new_id() for _ in range(1000)]
    for da_id in ids:
        assert http.put(da_id, BODY).status_code == 200
    da_list = api.attach()
    assert set(ids) <= set(da_list)
