"""The HTTP resource API: registration and its errors, reading, changing, removing, CORS, limits (spec: HTTP resource API)."""

import json
import socket
import sqlite3
import subprocess
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from clients import HttpApi, JSON_TYPE, new_id
from suite import until

GOOD = {"accept_protos": ["mqtt"], "name": "BetaCat", "idf_list": [["meow", ["dB"]]], "odf_list": [["purr", ["Hz"]]],
        "profile": {"model": "AI"}}
NO_BODY = object()


def good(**changes):
    return {k: v for k, v in dict(GOOD, **changes).items() if v is not NO_BODY}


@pytest.fixture(scope="module")
def http(suite):
    return HttpApi(suite)


def error_of(response, status, da_id, *words):
    assert response.status_code == status, response.text
    body = response.json()
    assert body["state"] == "error"
    if da_id:
        assert body["id"] == da_id
    for word in words:
        assert word in body["reason"], body
    return body


# -- PUT

@pytest.mark.parametrize("prefix", ["", "csm/"])
def test_registration_answers_everything_an_sdk_needs(suite, http, prefix):
    da_id = new_id()
    response = http.put(prefix + da_id, GOOD)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    body = response.json()
    assert body["id"] == da_id and body["state"] == "ok" and body["name"] == "BetaCat"
    assert uuid.UUID(body["rev"]).version == 4
    assert body["url"] == {"scheme": "mqtt", "host": "127.0.0.1", "port": suite.mqtt_port,
                           "ws_scheme": "ws", "ws_port": suite.ws_port}
    assert body["ctrl_chans"] == [da_id + "/ctrl/i", da_id + "/ctrl/o"]
    assert "username" not in body and "password" not in body


def test_both_prefixes_name_the_same_device(http):
    da_id = new_id()
    rev = http.put("csm/" + da_id, GOOD).json()["rev"]
    assert http.get(da_id).json()["rev"] == rev
    assert http.get("csm/" + da_id).json()["rev"] == rev
    assert http.call("DELETE", "/csm/" + da_id, json={"rev": rev}).status_code == 200
    assert http.get(da_id).status_code == 404


def test_upper_case_ids_are_stored_in_lower_case(http):
    da_id = new_id()
    assert http.put(da_id.upper(), GOOD).json()["id"] == da_id
    assert http.get(da_id).status_code == 200
    assert http.get(da_id.upper()).json()["id"] == da_id


def test_registering_again_gives_a_new_rev_and_replaces_name_lists_and_profile(http):
    da_id = new_id()
    first = http.put(da_id, GOOD).json()
    second = http.put(da_id, good(name="Other", idf_list=[["hiss", None]], odf_list=NO_BODY,
                                  profile={"model": "B", "x": 1})).json()
    assert second["rev"] != first["rev"] and second["name"] == "Other"
    now = http.get(da_id).json()
    assert now["rev"] == second["rev"] and now["profile"] == {"model": "B", "x": 1}
    assert [f[0] for f in now["idf_list"]] == ["hiss"]
    assert "odf_list" not in now


BAD_BODIES = {
    "a protocol is unknown": (good(accept_protos=["magic"]), 403, ["Invalid protocol: 'magic'"]),
    "one of several protocols is unknown": (good(accept_protos=["mqtt", "magic"]), 403, ["Invalid protocol: 'magic'"]),
    "a protocol is no string": (good(accept_protos=[42]), 403, ["accept_protos"]),
    "accept_protos missing": (good(accept_protos=NO_BODY), 403, ["accept_protos"]),
    "accept_protos null": (good(accept_protos=None), 403, ["accept_protos"]),
    "accept_protos a number": (good(accept_protos=42), 403, ["accept_protos"]),
    "accept_protos an object": (good(accept_protos={"a": 1}), 403, ["accept_protos"]),
    "accept_protos empty": (good(accept_protos=[]), 403, ["accept_protos", "can not be empty"]),
    "idf_list no list": (good(idf_list="meow"), 403, ["idf_list"]),
    "idf_list an object": (good(idf_list={}), 403, ["idf_list"]),
    "idf_list empty": (good(idf_list=[]), 403, ["idf_list", "can not be empty"]),
    "odf_list no list": (good(odf_list=1), 403, ["odf_list"]),
    "odf_list empty": (good(odf_list=[]), 403, ["odf_list", "can not be empty"]),
    "profile missing": (good(profile=NO_BODY), 403, ["profile", "json object"]),
    "profile a string": (good(profile="AI"), 403, ["profile", "json object"]),
    "profile null": (good(profile=None), 403, ["profile", "json object"]),
    "profile.model missing": (good(profile={}), 403, ["profile.model", "required"]),
    "another field": (good(answer=42), 403, ["Unknown field: 'answer'"]),
    "name a number": (good(name=42), 403, ["name"]),
}
for title, feature in {
        "a feature without name": [], "a feature with an empty name": ["", None], "a feature that is a number": 42,
        "a feature of null": None, "a feature with a number for units": ["meow", 42], "a feature with a slash": ["a/b", None],
        "a feature with a plus": ["a+b", None], "a feature with a hash": ["a#", None],
        "a feature with a control character": ["a\x01b", None], "a feature with a line feed": "a\nb",
        "a feature of 256 bytes": ["a" * 256, None],
        "a feature of 256 bytes in fewer characters": ["\u00e9" * 128, None],
        "a feature whose name is a list": [["meow"], None]}.items():
    BAD_BODIES[title] = (good(idf_list=[["fine", None], feature]), 403, ["idf_list"])


@pytest.mark.parametrize("title", BAD_BODIES)
def test_registration_is_refused_when(http, title):
    body, status, words = BAD_BODIES[title]
    da_id = new_id()
    error_of(http.put(da_id, body), status, da_id, *words)
    assert http.get(da_id).status_code == 404


def test_a_feature_with_a_nul_is_refused(http):
    da_id = new_id()
    response = http.put(da_id, good(idf_list=[["a\0b", None]]))
    assert response.status_code in (400, 403) and response.json()["reason"]
    assert http.get(da_id).status_code == 404


def test_a_refused_repetition_changes_nothing(http):
    da_id = new_id()
    http.put(da_id, GOOD)
    before = http.get(da_id).json()
    for body, status, words in BAD_BODIES.values():
        assert http.put(da_id, body).status_code == status
    assert http.get(da_id).json() == before


FEATURES = [["meow", ["dB"]], ["Acceleration-I", ["x", "y", "z"]], ["none", None], ["one", [None]],
            ["typed", "number"], "bare", "Dummy Sensor", "ein \u00dcberl\u00e4ufer", "a" * 255, ["empty", []]]


@pytest.mark.parametrize("feature", FEATURES[:-1], ids=lambda f: str(f)[:20])
def test_feature_form_is_accepted(http, feature):
    da_id = new_id()
    response = http.put(da_id, good(idf_list=[feature]))
    assert response.status_code == 200, response.text
    name = feature if isinstance(feature, str) else feature[0]
    assert name in json.dumps(http.get(da_id).json()["idf_list"], ensure_ascii=False)


@pytest.mark.parametrize("lists", [{"idf_list": NO_BODY, "odf_list": NO_BODY}, {"idf_list": None, "odf_list": None},
                                   {"idf_list": NO_BODY}, {"odf_list": None}], ids=str)
def test_feature_lists_may_be_absent_or_null(http, lists):
    da_id = new_id()
    assert http.put(da_id, good(**lists)).status_code == 200
    assert all(k not in http.get(da_id).json() for k in lists)


@pytest.mark.parametrize("protos", ["mqtt", "MQTT", ["mqtt"], ["MQTT", "WebSocket", "zmq"], ["websocket"]], ids=str)
def test_accept_protos_form_is_accepted(http, protos):
    assert http.put(new_id(), good(accept_protos=protos)).status_code == 200


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
def test_wrong_or_missing_content_type_is_refused(http, content_type):
    da_id = new_id()
    headers = {} if content_type is None else {"Content-Type": content_type}
    error_of(http.call("PUT", "/" + da_id, data=json.dumps(GOOD).encode(), headers=headers), 400, da_id)
    assert http.get(da_id).status_code == 404


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/json;charset=UTF-8",
                                          "Application/JSON"])
def test_content_type_may_carry_a_charset(http, content_type):
    response = http.call("PUT", "/" + new_id(), data=json.dumps(GOOD), headers={"Content-Type": content_type})
    assert response.status_code == 200


GARBAGE = {
    "empty": b"", "space": b"  ", "words": b"garbage", "cut off": b'{"accept_protos": ["mq', "null": b"null",
    "number": b"42", "string": b'"x"', "list": b"[]", "two objects": b"{}{}", "open brackets": b"[" * 50000,
    "nested brackets": b"[" * 50000 + b"]" * 50000, "nested objects": b'{"a":' * 50000 + b"1" + b"}" * 50000,
    "a megabyte of spaces": b" " * 1000000, "a megabyte of letters": b"x" * 1000000,
    "invalid UTF-8": b'{"name": "\xff\xfe"}', "overlong UTF-8": b'{"name": "\xc0\xaf"}', "NUL": b"\0", "NULs": b"\0" * 1000,
    "NUL in JSON": b'{"name"\0: 1}', "NaN": b'{"name": NaN}', "huge number": b'{"name": 1e99999}',
}


@pytest.mark.parametrize("title", GARBAGE)
@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_garbage_body_is_a_clear_error(http, method, title):
    da_id = new_id()
    response = http.call(method, "/" + da_id, data=GARBAGE[title], headers=JSON_TYPE)
    assert response.status_code in (400, 404) if method != "PUT" else response.status_code == 400
    body = response.json()
    assert body["state"] == "error" and body["reason"] and body["id"] == da_id
    assert http.get(da_id).status_code == 404


def test_garbage_in_place_of_a_change_leaves_the_device(http):
    da_id = new_id()
    http.put(da_id, GOOD)
    before = http.get(da_id).json()
    for method in ("PUT", "POST", "DELETE"):
        for data in GARBAGE.values():
            assert http.call(method, "/" + da_id, data=data, headers=JSON_TYPE).status_code == 400
    assert http.get(da_id).json() == before


def test_body_over_a_mebibyte_is_413(http):
    da_id = new_id()
    for size in (1 << 20) + 1, 5 << 20:
        body = json.dumps(good(profile={"model": "x" * size}))
        response = http.call("PUT", "/" + da_id, data=body, headers=JSON_TYPE)
        assert response.status_code == 413
        assert response.json()["state"] == "error"
    assert http.get(da_id).status_code == 404


def test_chunked_body_over_a_mebibyte_is_413(suite):
    def chunks():
        for _ in range(40):
            yield b" " * 65536
    response = requests.put("%s/%s" % (suite.url, new_id()), data=chunks(), headers=JSON_TYPE, timeout=10)
    assert response.status_code == 413


def test_body_just_within_the_limit_is_taken(http):
    frame = len(json.dumps(good(profile={"model": "AI", "notes": ""})))
    body = json.dumps(good(profile={"model": "AI", "notes": "x" * ((1 << 20) - frame)}))
    assert len(body) == 1 << 20
    assert http.call("PUT", "/" + new_id(), data=body, headers=JSON_TYPE).status_code == 200


def test_150_devices_of_one_model_without_names_are_named_in_turn(http):
    ids = [new_id() for _ in range(150)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: http_of(http).put(i, good(name=NO_BODY, profile={"model": "Many"})), ids))
    assert {a.status_code for a in answers} == {200}
    assert sorted(a.json()["name"] for a in answers) == sorted("%02d.Many" % n for n in range(150))
    # a name that is given back is the first free one again
    seven = next(a.json() for a in answers if a.json()["name"] == "07.Many")
    assert http.delete(seven["id"], seven["rev"]).status_code == 200
    for expected in ("07.Many", "150.Many"):
        assert http.put(new_id(), good(name=NO_BODY, profile={"model": "Many"})).json()["name"] == expected


def http_of(http):
    """requests' sessions are not for several threads: each gets its own."""
    fresh = object.__new__(HttpApi)
    fresh.base, fresh.session = http.base, requests.Session()
    return fresh


def test_a_generated_name_skips_one_that_was_chosen(http):
    http.put(new_id(), good(name="00.Taken", profile={"model": "Taken"}))
    assert http.put(new_id(), good(name=NO_BODY, profile={"model": "Taken"})).json()["name"] == "01.Taken"


def test_a_device_without_a_name_keeps_its_generated_name_at_a_repetition(http):
    da_id, body = new_id(), good(name=NO_BODY, profile={"model": "Again"})
    assert http.put(da_id, body).json()["name"] == "00.Again"
    assert http.put(da_id, body).json()["name"] == "00.Again"


def test_two_devices_may_have_the_same_name(http):
    assert http.put(new_id(), good(name="Twin")).json()["name"] == "Twin"
    assert http.put(new_id(), good(name="Twin")).json()["name"] == "Twin"


# -- GET, POST

def test_get_tells_what_was_registered(http):
    da_id = new_id()
    rev = http.put(da_id, GOOD).json()["rev"]
    response = http.get(da_id)
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    body = response.json()
    assert abs(body.pop("register_time") - time.time()) < 60
    assert body == {"id": da_id, "rev": rev, "state": "ok", "online": False, "name": "BetaCat", "accept_protos": ["mqtt"],
                    "idf_list": [["meow", ["dB"]]], "odf_list": [["purr", ["Hz"]]], "profile": {"model": "AI"}}


def test_get_locates_a_field(http):
    da_id = new_id()
    http.put(da_id, good(profile={"model": "AI", "deep": {"er": "value-of-er"}}))
    for path, value in {"name": "BetaCat", "profile/model": "AI", "profile/deep/er": "value-of-er",
                        "idf_list": "meow", "profile": "value-of-er"}.items():
        response = http.get("%s/%s" % (da_id, path))
        assert response.status_code == 200, (path, response.text)
        assert value in response.text
    assert "BetaCat" not in http.get(da_id + "/profile/model").text


@pytest.mark.parametrize("path", ["nothing", "profile/nothing", "profile/model/deeper", "name/x", "%00", "profile/%ff"])
def test_get_of_a_field_that_is_not_there_is_404(http, path):
    da_id = new_id()
    http.put(da_id, GOOD)
    response = http.get(da_id + "/" + path)
    assert response.status_code in (400, 404)
    assert response.json()["state"] == "error"


def test_unknown_ids_are_404(http):
    da_id = new_id()
    error_of(http.get(da_id), 404, da_id, "id not found")
    error_of(http.get(da_id + "/name"), 404, da_id, "id not found")
    error_of(http.post(da_id, {"name": "x"}), 404, da_id, "id not found")
    error_of(http.delete(da_id, new_id()), 404, da_id, "id not found")


def test_post_changes_what_it_names(http):
    da_id = new_id()
    http.put(da_id, GOOD)
    assert http.post(da_id, {"name": "Renamed"}).status_code == 200
    assert http.post("csm/" + da_id, {"profile": {"model": "AI", "room": "attic"}}).status_code == 200
    body = http.get(da_id).json()
    assert body["name"] == "Renamed" and body["profile"] == {"model": "AI", "room": "attic"}
    assert body["idf_list"] == GOOD["idf_list"] and body["accept_protos"] == ["mqtt"]


def test_post_to_a_field_changes_that_field(http):
    da_id = new_id()
    http.put(da_id, GOOD)
    assert http.post(da_id + "/profile", {"room": "attic"}).status_code == 200
    assert http.get(da_id).json()["profile"] == {"model": "AI", "room": "attic"}


@pytest.mark.parametrize("body, words", [
    ({"accept_protos": ["magic"]}, ["Invalid protocol: 'magic'"]), ({"idf_list": []}, ["idf_list", "can not be empty"]),
    ({"answer": 42}, ["Unknown field: 'answer'"]), ({"profile": 42}, ["profile", "json object"])], ids=str)
def test_post_is_validated_like_put(http, body, words):
    da_id = new_id()
    http.put(da_id, GOOD)
    before = http.get(da_id).json()
    error_of(http.post(da_id, body), 403, da_id, *words)
    assert http.get(da_id).json() == before


# -- DELETE

def test_delete_needs_the_current_revision(http):
    da_id = new_id()
    old = http.put(da_id, GOOD).json()["rev"]
    rev = http.put(da_id, GOOD).json()["rev"]
    wrong = "revision out-of-date or unknown"
    error_of(http.delete(da_id, old), 400, da_id, wrong)
    error_of(http.delete(da_id, new_id()), 400, da_id, wrong)
    error_of(http.delete(da_id, 42), 400, da_id, wrong)
    error_of(http.call("DELETE", "/" + da_id, json={}), 400, da_id, wrong)
    assert http.get(da_id).status_code == 200
    response = http.delete(da_id, rev)
    assert response.status_code == 200 and response.json() == {"id": da_id, "state": "ok"}
    error_of(http.get(da_id), 404, da_id, "id not found")
    error_of(http.delete(da_id, rev), 404, da_id, "id not found")


# -- everything around

def test_options_answers_a_browser(http):
    response = http.call("OPTIONS", "/" + new_id(), headers={
        "Origin": "https://page.example", "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type"})
    assert response.status_code in (200, 204)
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    allowed = response.headers["Access-Control-Allow-Methods"]
    assert all(m in allowed for m in ("GET", "PUT", "POST", "DELETE"))
    assert "content-type" in response.headers["Access-Control-Allow-Headers"].lower()
    assert "Access-Control-Allow-Credentials" not in response.headers


def test_every_answer_carries_the_cors_header(http):
    da_id = new_id()
    for response in (http.put(da_id, GOOD), http.get(da_id), http.get(new_id()), http.put(da_id, {}), http.get("nowhere")):
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in response.headers


def test_the_cors_origin_is_configurable(make_suite):
    suite = make_suite({"core.cors-origin": "https://page.example"}, start=("broker", "csm"))
    assert HttpApi(suite).get(new_id()).headers["Access-Control-Allow-Origin"] == "https://page.example"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "[::2]"])
def test_a_foreign_host_header_is_refused_on_loopback(http, host):
    da_id = new_id()
    response = http.call("PUT", "/" + da_id, json=GOOD, headers={"Host": host})
    assert response.status_code in (400, 403, 421)
    assert http.get(da_id).status_code == 404


def test_names_of_this_machine_are_taken_as_host(suite, http):
    for host in ("localhost", "127.0.0.1", "LOCALHOST", "[::1]"):
        for port in ("", ":%d" % suite.http_port):
            assert http.call("GET", "/healthz", headers={"Host": host + port}).status_code == 200, host


@pytest.mark.parametrize("method", ["PATCH", "FOO", "TRACE", "CONNECT", "PROPFIND", "get"])
def test_unknown_methods_are_refused(suite, http, method):
    status = raw(suite, ("%s /%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % (method, new_id())).encode())
    assert status in (400, 405, 501)
    assert http.get("healthz").status_code == 200


@pytest.mark.parametrize("path", ["/", "/nowhere", "/csm", "/csm/", "/csm/csm/" + new_id(), "/" + new_id()[:-1], "/" + new_id() + "0",
                                  "/" + new_id().replace("-", ""), "/..", "/%2e%2e/etc/passwd", "/" + "a" * 5000, "/%", "/%zz",
                                  "/" + "/".join("x" * 2000)])
def test_unknown_paths_are_refused(http, path):
    for method in ("GET", "PUT", "POST", "DELETE"):
        response = http.call(method, path, json=GOOD)
        assert response.status_code in (400, 404, 405, 413, 414, 431), (method, response.text)
    assert http.get("healthz").status_code == 200


def raw(suite, request):
    """Send bytes as they are; ret: the status, None when the connection was just closed."""
    with socket.create_connection(("127.0.0.1", suite.http_port), 10) as s:
        s.sendall(request)
        try:
            line = s.makefile("rb").readline()
        except ConnectionResetError:
            return None
    return int(line.split()[1]) if line else None


@pytest.mark.parametrize("request_bytes", [
    b"\r\n\r\n", b"\0" * 100, b"\xff" * 2000, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 100000 + b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00"], ids=lambda b: repr(b[:24]))
def test_what_is_not_http_does_no_harm(suite, http, request_bytes):
    with socket.create_connection(("127.0.0.1", suite.http_port), 10) as s:
        try:
            s.sendall(request_bytes)
            s.settimeout(0.3)   # some of it may be the beginning of a request: no answer is right too
            answer = s.recv(100)
        except OSError:   # closed or reset by the other side
            answer = b""
    assert not answer or answer.startswith(b"HTTP/1.") and answer.split()[1][:1] in (b"4", b"5")
    assert http.get("healthz").status_code == 200


def test_connections_that_never_finish_their_request_stop_nobody(suite, http):
    idle, before = [], suite.open_fds("csm")
    for _ in range(100):
        s = socket.create_connection(("127.0.0.1", suite.http_port), 10)
        s.sendall(b"PUT /" + new_id().encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        idle.append(s)
    assert http.put(new_id(), GOOD).status_code == 200
    for s in idle:
        s.setblocking(False)
        with pytest.raises(BlockingIOError):    # the answer has not waited until these were cut
            s.recv(1)
        s.close()
    until(lambda: suite.open_fds("csm") < before + 20, 5, "the end of the closed connections")


def test_curl_registers_and_deregisters(suite):
    da_id = new_id()

    def curl(*args):
        out = subprocess.run(["curl", "-sS", "-w", "\n%{http_code}", "-H", "Content-Type: application/json", *args,
                              "%s/%s" % (suite.url, da_id)], capture_output=True, text=True, timeout=20, check=True).stdout
        body, status = out.rsplit("\n", 1)
        return int(status), json.loads(body)

    status, body = curl("-X", "PUT", "-d", json.dumps(GOOD))
    assert status == 200
    assert curl()[1]["name"] == "BetaCat"
    assert curl("-X", "DELETE", "-d", json.dumps({"rev": body["rev"]})) == (200, {"id": da_id, "state": "ok"})
    assert curl()[0] == 404


def test_health_readiness_and_metrics(suite, http):
    assert http.get("healthz").status_code == 200
    assert http.get("readyz").status_code == 200
    before = suite.metric("iottalk_registrations")
    requests_before = suite.metric("iottalk_http_requests_total", method="PUT", status="200")
    da_id = new_id()
    rev = http.put(da_id, GOOD).json()["rev"]
    assert suite.metric("iottalk_registrations") == before + 1
    assert suite.metric("iottalk_http_requests_total", method="PUT", status="200") == requests_before + 1
    http.delete(da_id, rev)
    assert suite.metric("iottalk_registrations") == before
    names = {name for name, _, _ in suite.metrics()}
    assert {"iottalk_online", "iottalk_links", "iottalk_graphs"} <= names


def test_not_ready_while_the_broker_is_away(make_suite):
    suite = make_suite(start=("broker", "csm"))
    http = HttpApi(suite)
    suite.kill9("broker")
    until(lambda: http.get("readyz").status_code == 503, 5, "503 of /readyz")
    assert http.get("healthz").status_code == 200
    suite.start("broker")
    until(lambda: http.get("readyz").status_code == 200, 5, "200 of /readyz")


def test_a_store_that_cannot_take_it_is_503_and_nothing_half_written(make_suite):
    """Somebody else holds the store's write lock."""
    suite = make_suite(start=("broker", "csm"))
    http = HttpApi(suite)
    da_id, known = new_id(), new_id()
    http.put(known, GOOD)
    before = http.get(known).json()
    other = sqlite3.connect(suite.userdir / "iottalk.db", isolation_level=None, timeout=10)
    try:
        other.execute("BEGIN IMMEDIATE")
        response = requests.put("%s/%s" % (suite.url, da_id), json=GOOD, timeout=30)
        assert response.status_code == 503
        assert response.json()["state"] == "error" and response.json()["reason"]
        assert requests.put("%s/%s" % (suite.url, known), json=good(name="X"), timeout=30).status_code == 503
        other.execute("ROLLBACK")
    finally:
        other.close()
    assert http.get(da_id).status_code == 404
    assert http.get(known).json() == before
    assert http.put(da_id, GOOD).status_code == 200


def test_a_full_disk_is_503_and_nothing_half_written(make_suite, tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small file system")
    try:
        suite = make_suite(start=("broker", "csm"), userdir=tmp_path / "userdir")
        http = HttpApi(suite)
        big = good(profile={"model": "AI", "notes": "x" * 100000})
        stored, refused = [], None
        for _ in range(100):
            da_id = new_id()
            status = http.put(da_id, big).status_code
            if status == 503:
                refused = da_id
                break
            assert status == 200
            stored.append(da_id)
        assert stored and refused
        assert http.get(refused).status_code == 404
        assert all(http.get(i).status_code == 200 for i in stored)
        suite.kill9("csm")
        suite.processes["csm"].start()
        assert all(http.get(i).status_code == 200 for i in stored)
        assert http.get(refused).status_code == 404
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_host_told_to_the_device_is_one_it_can_reach(make_suite):
    """The configured broker is 'localhost', the request came to another address of this machine."""
    addresses = [a for a in subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split() if ":" not in a]
    if not addresses:
        pytest.skip("this machine has only loopback addresses")
    suite = make_suite({"core.bind": "0.0.0.0", "core-mqtt.host": "localhost"}, start=("broker", "csm"))
    ask = "http://%s:%d/%s"
    here = requests.put(ask % ("127.0.0.1", suite.http_port, new_id()), json=GOOD, timeout=10)
    assert here.json()["url"]["host"] == "localhost"
    there = requests.put(ask % (addresses[0], suite.http_port, new_id()), json=GOOD, timeout=10)
    assert there.json()["url"]["host"] == addresses[0]


def test_a_hundred_threads_registering_and_reading_get_right_answers(suite, http):
    failures = []

    def work():
        mine, da_id = http_of(http), new_id()
        for n in range(10):
            rev = mine.put(da_id, good(name="n%d" % n)).json()["rev"]
            now = mine.get(da_id).json()
            if (now["rev"], now["name"]) != (rev, "n%d" % n):
                failures.append(now)
        mine.delete(da_id, rev)

    threads = [threading.Thread(target=work) for _ in range(100)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert not failures
