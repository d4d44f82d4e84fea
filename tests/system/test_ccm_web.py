"""ccm's HTTP side: accounts, logins, who may do what, bad requests, pages, the description (spec ccm 3.1, 3.2, 3.12, 3.13)."""

import http.client
import itertools
import json
import os
import re
import socket
import sqlite3
import subprocess
import threading
import time

import pytest

from ccm_web import API, Browser, account, ccm_user
from suite import SANITIZED, Suite, until

names = ("user%d" % n for n in itertools.count())
GUI = "01234567-89ab-cdef-0123-456789abcdef"
MIB = 1 << 20


@pytest.fixture(scope="module")
def suite(request):
    s = Suite(start=("broker", "csm", "agent", "ccm"))
    yield s
    s.close()


@pytest.fixture(scope="module")
def admin(suite):
    return account(suite, "root", admin=True)


@pytest.fixture
def user(suite):
    return account(suite, next(names))


@pytest.fixture
def anyone(suite):
    return Browser(suite)


def is_error(r, status, reason=None):
    assert r.status_code == status, r.text
    assert r.json()["state"] == "error" and set(r.json()) == {"state", "reason"}
    if reason is not None:
        assert re.search(reason, r.json()["reason"]), r.json()
    return True


def store(suite):
    return sqlite3.connect(suite.userdir / "iottalk-gui.db", timeout=10)


def raw(suite, data, timeout=10):
    """All that comes back for these bytes, until the server closes."""
    with socket.create_connection(("127.0.0.1", suite.gui_port), timeout=timeout) as s:
        s.sendall(data)
        answer = b""
        while True:
            try:
                part = s.recv(65536)
            except ConnectionResetError:
                break
            if not part:
                break
            answer += part
        return answer


def status_of(answer):
    return int(re.match(rb"HTTP/1.1 (\d+)", answer)[1])


# ---- accounts

def test_an_account_from_its_creation_to_its_end(anyone):
    name = next(names)
    r = anyone.post("/account/create", json={"username": name, "password": "p w"})
    assert r.status_code == 200 and r.json()["state"] == "ok" and set(r.json()) == {"state", "id"}
    u_id = r.json()["id"]
    assert not anyone.cookies, "an account that is made is not logged in"
    is_error(anyone.get("/account/"), 401, "^please login first$")
    is_error(anyone.post("/account/create", json={"username": name, "password": "x"}), 400, "^username already exists$")
    is_error(anyone.post("/account/login", json={"username": name, "password": "p  w"}), 401, "^invalid username or password$")
    is_error(anyone.post("/account/login", json={"username": name + "x", "password": "p w"}), 401, "^invalid username or password$")
    r = anyone.post("/account/login", json={"username": name, "password": "p w"})
    assert r.json() == {"state": "ok", "id": u_id}
    assert anyone.get("/account/").json() == {"state": "ok", "u_id": u_id, "u_name": name, "is_admin": False}
    assert anyone.get("/account/logout").json() == {"state": "ok"}
    assert not anyone.cookies
    is_error(anyone.get("/account/logout"), 401)
    anyone.login(name, "p w")
    assert anyone.delete("/account/").json() == {"state": "ok"}
    assert not anyone.cookies
    is_error(anyone.post("/account/login", json={"username": name, "password": "p w"}), 401)
    assert anyone.post("/account/create", json={"username": name, "password": "again"}).json()["id"] != u_id


def test_the_cookie_is_for_http_of_this_site_only(user):
    r = user.post("/account/login", json={"username": user.get("/account").json()["u_name"], "password": "secret"})
    attributes = [a.strip() for a in r.headers["Set-Cookie"].split(";")]
    assert re.fullmatch(r"session=[0-9a-f]{64}", attributes[0])
    assert set(attributes[1:]) == {"Path=/", "HttpOnly", "SameSite=Lax", "Max-Age=%d" % (10080 * 60)}
    assert "Set-Cookie" not in user.get("/account").headers, "the time of a login is not extended"


def test_the_store_has_no_token_and_no_password(suite, user):
    token = user.cookies["session"]
    done = suite.userdir / "iottalk-gui.db"
    whole = b"".join(p.read_bytes() for p in done.parent.glob(done.name + "*"))
    assert token.encode() not in whole and b"secret" not in whole
    with store(suite) as db:
        passwd = db.execute("SELECT passwd FROM User WHERE u_id = ?", (user.u_id,)).fetchone()[0]
        assert passwd.startswith("$argon2id$")
        digest = db.execute("SELECT digest FROM Session WHERE u_id = ?", (user.u_id,)).fetchone()[0]
    user.cookies.set("session", digest)
    other = Browser(suite)
    is_error(other.get("/account", headers={"Cookie": "session=" + digest}), 401)


def test_a_login_while_logged_in_is_verified_and_takes_its_place(suite, user):
    name = next(names)
    other = account(suite, name)
    before = user.cookies["session"]
    is_error(user.post("/account/login", json={"username": name, "password": "wrong"}), 401)
    assert user.get("/account").json()["u_id"] == user.u_id, "a login that failed changes nothing"
    assert user.login(name) == other.u_id
    assert user.get("/account").json()["u_id"] == other.u_id
    is_error(Browser(suite).get("/account", headers={"Cookie": "session=" + before}), 401)
    assert other.get("/account").status_code == 200, "logins of other browsers go on"


@pytest.mark.parametrize("cookie", ["", "session=", "session=0", "session=" + "0" * 64, "session=" + "F" * 64,
                                    "session='; DROP TABLE User; --", "session=" + "a" * 5000, "Session=x", "session"])
def test_a_cookie_that_is_none_of_ours_is_nobody(anyone, cookie):
    is_error(anyone.get("/account", headers={"Cookie": cookie}), 401)


def test_a_login_ends_with_its_time(suite):
    name = next(names)
    user = account(suite, name)
    with store(suite) as db:
        db.execute("UPDATE Session SET expires_at = ? WHERE u_id = ?", (int(time.time()) - 1, user.u_id))
    is_error(user.get("/account"), 401)


def test_logins_outlive_ccm(suite, user):
    suite.kill9("ccm")
    suite.processes["ccm"].start()
    assert user.get("/account").json()["u_id"] == user.u_id
    suite.restart("ccm")
    assert user.get("/account").json()["u_id"] == user.u_id


def test_oauth_is_not_configured(anyone):
    is_error(anyone.post("/account/oauth2", json={"access_token": "x"}), 400, "not configured")


def test_odd_names_and_passwords(anyone, suite):
    for name, password in (("名前 %s" % next(names), "пароль ☃"), ("'; DROP TABLE User; --", "\" OR 1=1"), ("a" * 255, "b" * 255)):
        assert anyone.post("/account/create", json={"username": name, "password": password}).status_code == 200
        anyone.login(name, password)
        assert anyone.get("/account").json()["u_name"] == name
    for name in ("", "a" * 256, "a\nb", "a\u0000b", "\ud800"):
        is_error(anyone.post("/account/create", data=json.dumps({"username": name, "password": "x"}),
                             headers={"Content-Type": "application/json"}), 400)


def test_deleting_an_account_takes_its_projects_along(suite, admin, user):
    with store(suite) as db:
        db.execute("PRAGMA foreign_keys = ON")
        p_id = db.execute("INSERT INTO Project (p_name, u_id, status) VALUES ('p', ?, 'on') RETURNING p_id", (user.u_id,)).fetchone()[0]
    assert p_id in [p["p_id"] for p in admin.get("/admin/project").json()["data"]]
    assert user.delete("/account").status_code == 200
    assert p_id not in [p["p_id"] for p in admin.get("/admin/project").json()["data"]]


# ---- tickets for MQTT

def test_a_ticket_is_no_login_here(suite, user):
    r = user.get("/account/?gui=" + GUI).json()
    ticket = r.pop("mqtt_ticket")
    assert r.pop("mqtt_ticket_lasts_s") <= 3600 and set(r) == {"state", "u_id", "u_name", "is_admin"}
    assert user.cookies["session"] not in ticket
    is_error(Browser(suite).get("/account", headers={"Cookie": "session=" + ticket}), 401)
    for gui in ("x", GUI[:-1], GUI + "0", GUI.replace("-", "/"), "%00", "%ff" * 36):
        is_error(user.get("/account/?gui=" + gui), 400) if gui != "%00" else None


# ---- administration

def test_an_administrator_manages_users(suite, admin, user):
    listed = admin.get("/admin/user").json()["data"]
    me = user.get("/account").json()
    assert {"u_id": user.u_id, "u_name": me["u_name"], "is_admin": False} in listed
    assert admin.post("/admin/user/switch", json={"id": user.u_id, "is_admin": True}).json() == {"state": "ok", "id": user.u_id}
    assert user.get("/admin/user").status_code == 200
    assert admin.post("/admin/user/switch", json={"id": user.u_id, "is_admin": False}).status_code == 200
    is_error(user.get("/admin/user"), 403, r"^You are not administrator\.$")
    assert admin.post("/admin/user/pass", json={"id": user.u_id, "password": "new one"}).json() == {"state": "ok", "id": user.u_id}
    is_error(user.get("/account"), 401)
    user.login(me["u_name"], "new one")
    for path in ("pass", "switch"):
        body = {"id": 10**9, "password": "x"} if path == "pass" else {"id": 10**9, "is_admin": True}
        is_error(admin.post("/admin/user/" + path, json=body), 400, "^update fail$")
    assert admin.delete("/admin/user", json={"id": user.u_id}).json() == {"state": "ok", "id": user.u_id}
    is_error(user.get("/account"), 401)
    is_error(admin.delete("/admin/user", json={"id": user.u_id}), 404)


def test_an_administrator_manages_projects_and_devices(suite, admin, user):
    name = user.get("/account").json()["u_name"]
    with store(suite) as db:
        db.execute("PRAGMA foreign_keys = ON")
        one = lambda sql, *a: db.execute(sql, a).fetchone()[0]
        p_id = one("INSERT INTO Project (p_name, u_id, status) VALUES ('proj', ?, 'on') RETURNING p_id", user.u_id)
        dm_id = one("INSERT INTO DeviceModel (dm_name) VALUES (?) RETURNING dm_id", "model of " + name)
        d_id = one("INSERT INTO Device (mac_addr, d_name, dm_id, register_time) VALUES (?, 'dev', ?, '2026-01-01 00:00:00') RETURNING d_id",
                   "mac of " + name, dm_id)
        do_id = one("INSERT INTO DeviceObject (dm_id, p_id, d_id) VALUES (?, ?, ?) RETURNING do_id", dm_id, p_id, d_id)
    row = {p["p_id"]: p for p in admin.get("/admin/project").json()["data"]}[p_id]
    assert row == {"p_id": p_id, "p_name": "proj", "status": "on", "sim": "off", "u_id": user.u_id, "u_name": name}
    device = {d["d_id"]: d for d in admin.get("/admin/device").json()["data"]}[d_id]
    assert device["projects"] == ["proj (%s)" % name] and device["mac_addr"] == "mac of " + name and device["is_sim"] is False
    for path in ("stop", "delete"):
        is_error(admin.post("/admin/project/" + path, json={"p_id": p_id, "u_id": admin.u_id}), 404, "not found")
    assert admin.post("/admin/project/stop", json={"p_id": p_id, "u_id": user.u_id}).json() == {
        "state": "ok", "p_id": p_id, "status": "off"}
    assert admin.post("/admin/device/unbind", json={"d_id": d_id}).json() == {"state": "ok", "d_id": d_id}
    is_error(admin.post("/admin/device/unbind", json={"d_id": 10**9}), 404)
    with store(suite) as db:
        assert db.execute("SELECT d_id FROM DeviceObject WHERE do_id = ?", (do_id,)).fetchone() == (None,)
        assert db.execute("SELECT status FROM Project WHERE p_id = ?", (p_id,)).fetchone() == ("off",)
    assert admin.post("/admin/project/delete", json={"p_id": p_id, "u_id": user.u_id}).json() == {"state": "ok", "p_id": p_id}
    is_error(admin.post("/admin/project/stop", json={"p_id": p_id, "u_id": user.u_id}), 404)


def test_the_program_adds_and_lists_users_and_changes_passwords(suite):
    name = next(names)
    done = ccm_user(suite, "add", name, password="one")
    assert done.returncode == 0, done.stderr
    browser = Browser(suite)
    browser.login(name, "one")
    assert ccm_user(suite, "add", name, password="x").returncode == 1
    assert ccm_user(suite, "password", name, password="two").returncode == 0
    is_error(browser.get("/account"), 401)
    browser.login(name, "two")
    assert not browser.get("/account").json()["is_admin"]
    lines = ccm_user(suite, "list").stdout.splitlines()
    assert any(line.split() == [str(browser.get("/account").json()["u_id"]), "user", name] for line in lines)
    for words, password in ((("password", "nobody at all"), "x"), (("add", next(names)), ""), (("add", next(names)), None),
                            (("add", next(names)), "x" * 256), (("list", "--admin"), None), (("frob",), None), (("add",), "x")):
        done = ccm_user(suite, *words, password=password)
        assert done.returncode == 1 and done.stderr and not done.stdout, words


# ---- who a request comes from

@pytest.mark.parametrize("headers,allowed", [
    ({}, True),
    ({"Origin": "{url}"}, True),
    ({"Origin": "http://evil.example"}, False),
    ({"Origin": "null"}, False),
    ({"Origin": "{url}.evil.example"}, False),
    ({"Origin": "http://127.0.0.1"}, False),
    ({"Sec-Fetch-Site": "same-origin", "Origin": "https://public.example"}, True),  # a proxy changed Host
    ({"Sec-Fetch-Site": "none"}, True),
    ({"Sec-Fetch-Site": "same-site"}, False),
    ({"Sec-Fetch-Site": "cross-site", "Origin": "{url}"}, False),
    ({"X-Forwarded-Host": "public.example", "Origin": "https://public.example"}, True),
])
def test_pages_of_other_sites_change_nothing(suite, user, headers, allowed):
    headers = {k: v.format(url=suite.gui_url) for k, v in headers.items()}
    body = {"username": next(names), "password": "x"}
    for r in (user.post("/account/create", json=body, headers=headers),
              user.post(suite.gui_url + "/import_project", files={"importfilename": ("f", b"{")}, headers=headers),
              user.get("/account/logout", headers=headers),
              Browser(suite).delete("/account", headers=dict(headers, Cookie="session=x"))):
        if not allowed:
            is_error(r, 403, "another site")
        else:
            assert r.status_code != 403
    reads = user.get("/account", headers=headers)
    assert reads.status_code == (401 if allowed else 200), "reading changes nothing, and no page of another site sees the answer"
    assert "Access-Control-Allow-Origin" not in reads.headers


def test_names_of_other_machines_are_refused_on_loopback(suite):
    assert status_of(raw(suite, b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")) == 403


# ---- what is no request of ours

BAD_BODIES = [
    ("absent", {}, None),
    ("no type", {}, b'{"username": "a", "password": "b"}'),
    ("a form", {"Content-Type": "application/x-www-form-urlencoded"}, b"username=a&password=b"),
    ("almost json", {"Content-Type": "application/jsonx"}, b'{"username": "a", "password": "b"}'),
    ("text", {"Content-Type": "text/plain"}, b'{"username": "a", "password": "b"}'),
] + [(why, {"Content-Type": "application/json"}, body) for why, body in (
    ("empty", b""),
    ("no json", b"{"),
    ("half a character where it ends", b"{\"U\\\xcc\xb3[:[]}"),
    ("trailing", b'{"username": "a", "password": "b"} x'),
    ("a list", b"[]"),
    ("null", b"null"),
    ("a number", b"7"),
    ("missing", b'{"username": "a"}'),
    ("unknown", b'{"username": "a", "password": "b", "is_admin": true}'),
    ("wrong type", b'{"username": 1, "password": "b"}'),
    ("null value", b'{"username": null, "password": "b"}'),
    ("empty string", b'{"username": "", "password": "b"}'),
    ("not utf-8", b'{"username": "\xff", "password": "b"}'),
    ("NUL", b'{"username": "a\\u0000b", "password": "b"}'),
    ("surrogate", b'{"username": "\\ud800", "password": "b"}'),
    ("deep", b"[" * 100000),
    ("deep object", b'{"username":' * 5000),
    ("big number", b'{"username": 1e400, "password": "b"}'),
    ("NaN", b'{"username": NaN, "password": "b"}'),
    ("bom", b'\xef\xbb\xbf{"username": "a", "password": "b"}'),
)]


@pytest.mark.parametrize("why,headers,body", BAD_BODIES, ids=[b[0] for b in BAD_BODIES])
def test_a_bad_body_is_400(anyone, why, headers, body):
    is_error(anyone.post("/account/login", data=body, headers=headers), 400)


def test_the_order_of_the_body_checks(anyone):
    for body, reason in (({"password": 7, "x": 1}, "username.*missing"), ({"username": 7, "password": "", "x": 1}, "`x` is not a known"),
                         ({"username": 7, "password": ""}, "username.*string"), ({"username": "a", "password": ""}, "password.*empty")):
        is_error(anyone.post("/account/login", json=body), 400, reason)
    is_error(anyone.post("/account/login", data=b"{", headers={"Content-Type": "application/JSON; charset=utf-8"}), 400, "not JSON")


def test_who_may_comes_before_what(anyone, user):
    is_error(anyone.post("/admin/user/pass", data=b"{"), 403, r"^You are not administrator\.$")
    is_error(user.post("/admin/user/pass", data=b"{"), 403, r"^You are not administrator\.$")
    is_error(anyone.delete("/account", data=b"{"), 401, "^please login first$")


def test_a_body_of_more_than_a_mebibyte_is_413(suite, anyone, user):
    exact = json.dumps({"username": "a", "password": "b"}).ljust(MIB).encode()
    is_error(anyone.post("/account/login", data=exact + b" ", headers={"Content-Type": "application/json"}), 413)
    is_error(anyone.post("/account/login", data=exact, headers={"Content-Type": "application/json"}), 401)
    is_error(anyone.post("/account/login", data=b"x" * (10 * MIB), headers={"Content-Type": "application/json"}), 413)

    code = "def run(x):\n    return x\n#"
    put = lambda size: user.put("/function", json={"fn_name": next(names), "code": code.ljust(size, "x")})
    is_error(put(256 * 1024 + 1), 413, "code.*256 KiB")
    assert put(256 * 1024).status_code != 413

    def chunks():
        for _ in range(20):
            yield b"x" * 65536
    assert anyone.post("/account/login", data=chunks(), headers={"Content-Type": "application/json"}).status_code == 413


def test_a_slow_body_holds_nobody_up(suite, anyone):
    head = ("POST %s/account/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
            % API).encode()
    slow = [socket.create_connection(("127.0.0.1", suite.gui_port)) for _ in range(50)]
    try:
        for s in slow:
            s.sendall(head)
        is_error(anyone.get("/account"), 401)
        assert anyone.post("/account/create", json={"username": next(names), "password": "x"}).status_code == 200
    finally:
        for s in slow:
            s.close()


@pytest.mark.parametrize("path", [
    "/api", "/api/", "/api/v0", "/api/v0/", "/api/v1", "/api/v0/nope", "/api/v0/account/nope", "/api/v0/account/login/x",
    "/api/v0//account", "/api/v0/account//login", "/api/v0/../v0/nope", "/api/v0/%2e%2e/%2e%2e/etc/passwd", "/api/v0/account%2flogin",
    "/api/v0/admin/user/1", "/API/v0/account", "/api/v0/Account", "/api/v0/account;x=1", "/iottalk/ccm/api/v0/nope",
    "/iottalk/ccm/iottalk/ccm/api/v0/account", "/api/v0/account/create/%00", "/api/v0/" + "x/" * 40, "/api/v0/" + "x" * 9000,
    "/login", "/connection", "/register", "/favicon.ico", "/da/x", "/da/../../etc/passwd", "/da/%2e%2e%2fpasswd", "/iottalk/api/v0/account",
])
def test_unknown_paths(suite, path):
    answer = raw(suite, ("GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path).encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    inner = path[len("/iottalk/ccm"):] if path.startswith("/iottalk/ccm/") else path
    bad = "%00" in path
    assert status_of(head) == (400 if bad else 404), answer
    assert json.loads(body)["state"] == "error"
    if inner == "/api" or inner.startswith("/api/") and not bad and inner.count("/") < 30:
        assert json.loads(body)["reason"] == "API not found"
    assert b"no-store" in head


@pytest.mark.parametrize("prefix", ["/api/v0", "/iottalk/ccm/api/v0"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_both_prefixes_with_and_without_a_slash_at_the_end(suite, user, prefix, slash):
    user.prefix = prefix
    r = user.get("/account" + slash)
    assert r.status_code == 200 and r.json()["u_id"] == user.u_id
    assert user.head("/account" + slash).status_code == 200
    assert user.post("/account/create" + slash, json={"username": next(names), "password": "x"}).status_code == 200


def test_methods(anyone):
    for method, path in (("PUT", "/account/login"), ("GET", "/account/login"), ("PATCH", "/account"), ("DELETE", "/account/create")):
        r = anyone.request(method, path)
        is_error(r, 405)
        assert r.headers["Allow"]
    assert anyone.options("/account").status_code == 204


def test_every_answer_says_that_it_must_not_be_kept(suite, anyone, user):
    answers = [anyone.get("/account"), user.get("/account"), anyone.get("/nope"), anyone.put("/account"),
               anyone.post("/account/login", data=b"x" * (2 * MIB)), anyone.get(suite.gui_url + "/"), user.get("/account/logout")]
    assert {r.status_code for r in answers} == {200, 401, 404, 405, 413}
    for r in answers:
        assert "no-store" in r.headers["Cache-Control"] and "no-cache" in r.headers["Cache-Control"] and r.headers["Pragma"] == "no-cache"


# ---- pages

def test_the_root_says_where_the_description_is(suite, anyone):
    for prefix in ("", "/iottalk/ccm"):
        where = anyone.get(suite.gui_url + prefix + "/").json()["api"]
        assert anyone.get(suite.gui_url + where).json()["openapi"].startswith("3.1")


def test_pages_for_devices_and_editors(suite, anyone):
    get = lambda path: anyone.get(suite.gui_url + path)
    url, again = get("/mqtt_url").json(), get("/mqtt_url").json()
    assert url.pop("id") != again.pop("id") and url == {
        "host": "127.0.0.1", "port": suite.mqtt_port, "ws_scheme": "ws", "ws_port": suite.ws_port}
    assert get("/ec_endpoint").json() == {"ec_endpoint": "http://localhost:%d" % suite.http_port}
    assert get("/simtalk_endpoint").json() == {"simtalk_endpoint": ""}
    health = get("/healthz")
    assert health.status_code == 200 and health.json() == {"state": "ok", "store": "ok", "broker": True}
    assert 'iottalk_ccm_http_requests_total{method="GET",status="200"}' in get("/metrics").text


def test_the_alias_of_a_device(suite, anyone, user):
    name = next(names)
    with store(suite) as db:
        db.execute("PRAGMA foreign_keys = ON")
        one = lambda sql, *a: db.execute(sql, a).fetchone()[0]
        df_id = one("INSERT INTO DeviceFeature (df_name, df_type) VALUES (?, 'input') RETURNING df_id", "F" + name)
        dm_id = one("INSERT INTO DeviceModel (dm_name) VALUES (?) RETURNING dm_id", "M" + name)
        d_id = one("INSERT INTO Device (mac_addr, d_name, dm_id, register_time) VALUES (?, 'd', ?, '') RETURNING d_id", "mac" + name, dm_id)
        p_id = one("INSERT INTO Project (p_name, u_id) VALUES ('alias', ?) RETURNING p_id", user.u_id)
        do_id = one("INSERT INTO DeviceObject (dm_id, p_id, d_id) VALUES (?, ?, ?) RETURNING do_id", dm_id, p_id, d_id)
        one("INSERT INTO DFObject (do_id, df_id, alias_name) VALUES (?, ?, 'Größe & mehr') RETURNING dfo_id", do_id, df_id)
    ask = lambda **q: anyone.get(suite.gui_url + "/api/v1/get_alias", params=q)
    r = ask(mac_addr="mac" + name, df_name="F" + name)
    assert r.content.decode() == "Größe & mehr" and r.headers["Content-Type"].startswith("text/plain")
    assert ask(mac_addr="other", df_name="Any").text == "Any"
    assert ask(mac_addr="mac" + name, df_name="' OR 1=1 --").text == "' OR 1=1 --"
    assert ask(mac_addr="x").status_code == 400


def test_export_and_import_need_a_login_and_a_form(suite, anyone, user):
    u = suite.gui_url
    is_error(anyone.get(u + "/export_project?p_id=1"), 401)
    is_error(anyone.post(u + "/import_project", files={"importfilename": ("a.json", b"{}")}), 401)
    for p_id in ("", "?p_id=", "?p_id=x", "?p_id=-1", "?p_id=999999", "?p_id=99999999999999999999", "?p_id=1%00"):
        is_error(user.get(u + "/export_project" + p_id), 404)
    send = lambda **kw: user.post(u + "/import_project", allow_redirects=False, **kw)
    for kw, text in (
            ({}, "Invalid format"),
            ({"data": {"p_name": "x"}}, "Invalid format"),
            ({"files": {"p_name": (None, "x")}}, "No file selected"),
            ({"files": {"p_name": (None, "x"), "importfilename": ("", b"")}}, "No file selected"),
            ({"files": {"p_name": (None, "x"), "importfilename": ("f.json", b"[1")}}, "Invalid format"),
            ({"files": {"p_name": (None, "x"), "importfilename": ("f.json", b"[]")}}, "Invalid format"),
            ({"files": {"importfilename": ("f.json", b"{}")}}, "Please select a new project name"),
            ({"files": {"p_name": (None, ""), "importfilename": ("f.json", b"{}")}}, "Please select a new project name"),
            ({"files": {"p_name": (None, "n" * 256), "importfilename": ("f.json", b"{}")}}, "255")):
        r = send(**kw)
        assert r.status_code == 400 and text in r.text and r.headers["Content-Type"].startswith("text/plain"), (kw, r.text)
    form = {"Content-Type": "multipart/form-data; boundary=B"}
    for body in (b"", b"--", b"--B", b"--B\r\n", b"--B--", b"--B\r\n\r\n", b"--B\r\nContent-Disposition: form-data; name=\"p_name\"\r\n\r\nx",
                 b"--B\r\n" * 1000, b"--B\r\n\r\n\r\n--B\r\n\r\n--B--", b"--C\r\n\r\n\r\n--C--"):
        assert send(data=body, headers=form).status_code == 400
    assert send(data=b"--B\r\n\r\n" + b"x" * (5 * MIB), headers=form).status_code == 413
    assert suite.processes["ccm"].runs()


def test_files_of_device_applications(make_suite):
    s = make_suite(start=(), )
    folder = s.dir / "da"
    (folder / "app").mkdir(parents=True)
    (folder / "app" / "index.html").write_text("<p>app")
    (folder / "app" / "a b.js").write_text("1")
    (folder / ".hidden").write_text("h")
    (s.dir / "secret").write_text("s")
    os.symlink(s.dir / "secret", folder / "link")
    os.symlink("app/index.html", folder / "inside.html")
    os.mkfifo(folder / "fifo")
    s._write_ini({"gui.web-da-dir": folder})
    s.start("broker", "ccm")
    get = lambda path: raw(s, ("GET /da/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path).encode())
    for path, body, kind in (("app/index.html", b"<p>app", b"text/html"), ("app/", b"<p>app", b"text/html"), ("app//index.html", b"<p>app", b"text/html"),
                             ("app/a%20b.js", b"1", b"text/javascript"), ("inside.html", b"<p>app", b"text/html")):
        answer = get(path)
        assert status_of(answer) == 200 and answer.endswith(b"\r\n\r\n" + body) and kind in answer, path
    (folder / "ü: x").mkdir()
    (folder / "ü: x" / "index.html").write_text("x")
    assert status_of(get("app")) == 302 and b"\r\nLocation: app/\r\n" in get("app")
    assert b"\r\nLocation: %C3%BC%3A%20x/\r\n" in get("%C3%BC:%20x") and status_of(get("%C3%BC%3A%20x/")) == 200
    for path in ("", "../secret", "%2e%2e/secret", "%2e%2e%2fsecret", "app/../../secret", "app/%2e%2e/%2e%2e/secret", "link", ".hidden",
                 "/etc/passwd", "%2fetc%2fpasswd", "app/nope", "fifo", "./app", "app/./index.html"):
        answer = get(path)
        assert status_of(answer) == 404 and not answer.endswith(b"s"), path
    os.rename(folder, s.userdir / "da")
    s._write_ini({"gui.web-da-dir": "da"})
    assert s.control("ccm", {"op": "reload"})["changed"] == ["gui.web-da-dir"]
    assert status_of(get("app/")) == 200


# ---- the description

def resolve(document, ref):
    assert ref.startswith("#/")
    at = document
    for step in ref[2:].split("/"):
        at = at[step]
    return at


def check_schema(document, schema):
    assert isinstance(schema, dict)
    if "$ref" in schema:
        return check_schema(document, resolve(document, schema["$ref"]))
    kinds = schema.get("type", [])
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        assert kind in ("object", "array", "string", "integer", "number", "boolean", "null")
    for name in schema.get("required", []):
        assert name in schema["properties"]
    for inner in list(schema.get("properties", {}).values()) + schema.get("allOf", []) + ([schema["items"]] if "items" in schema else []):
        check_schema(document, inner)
    return None


def route_tables():
    """(method, path) of every row of the tables, from their source: what is served must be described."""
    from suite import ROOT
    for file in (ROOT / "ccm" / "web").glob("routes_*.c"):
        text = file.read_text()
        names = dict(re.findall(r"^#define (\w+)\s+(.*)$", text, re.M))
        whole = lambda words: "".join(w[1:-1] if w[0] == '"' else whole(names[w]) for w in re.findall(r'"[^"]*"|\w+', words))
        for method, path in re.findall(r'\{\s*"(GET|PUT|POST|DELETE)",((?:\s*(?:"[^"]*"|[A-Z]\w*))+),', text):
            yield method, whole(path)


def test_the_description_is_valid_openapi_and_whole(suite, anyone):
    document = anyone.get(suite.gui_url + "/api/openapi.json").json()
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert set(document["info"]) >= {"title", "version"} and set(document) <= {"openapi", "info", "servers", "paths", "components"}
    ids, plain = set(), set()
    for path, item in document["paths"].items():
        assert path.startswith("/") and re.sub(r"{[^}]*}", "{}", path) not in plain, "two templates of one shape: %s" % path
        plain.add(re.sub(r"{[^}]*}", "{}", path))
        segments = re.findall(r"{([^}]*)}", path)
        assert len(set(segments)) == len(segments)
        for method, o in item.items():
            assert method in ("get", "put", "post", "delete") and o["summary"] and o["operationId"] not in ids
            ids.add(o["operationId"])
            assert o["x-role"] in ("anyone", "user", "administrator")
            assert o["security"] == ([] if o["x-role"] == "anyone" else [{"session": []}])
            assert [p["name"] for p in o["parameters"] if p["in"] == "path"] == segments
            for p in o["parameters"]:
                assert p["in"] in ("path", "query") and p["required"] == (p["in"] == "path")
                check_schema(document, p["schema"])
            assert any(s.startswith("2") for s in o["responses"])
            for status, r in o["responses"].items():
                assert re.fullmatch(r"[1-5]\d\d", status) and r["description"]
                check_schema(document, r["content"]["application/json"]["schema"])
            if "requestBody" in o:
                assert o["requestBody"]["required"] is True
                check_schema(document, o["requestBody"]["content"]["application/json"]["schema"])
    waits = {path for path, item in document["paths"].items() for o in item.values() if "429" in o["responses"]}
    assert waits == {"/account/login", "/account/create"}
    assert document["components"]["securitySchemes"]["session"] == {"type": "apiKey", "in": "cookie", "name": "session"}
    described = {(method.upper(), re.sub(r"{[^}]*}", "{}", path)) for path, item in document["paths"].items() for method in item}
    tables = {(method, re.sub(r"{[^}]*}", "{}", path)) for method, path in route_tables()}
    assert tables and described == tables


def sample(document, schema, path=""):
    """A value that fits."""
    if "$ref" in schema:
        return sample(document, resolve(document, schema["$ref"]))
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind if isinstance(kind, str) else kind[0]
    if kind == "object":
        return {name: sample(document, inner) for name, inner in schema.get("properties", {}).items() if name in schema.get("required", [])}
    return {"array": [], "string": "x", "integer": 987654321, "number": 1.5, "boolean": False}[kind]


@pytest.mark.limit(300)
def test_every_route_for_every_role(suite, admin):
    """Nobody, a user, another one, an administrator: no route is an internal error, and only who may gets past the gate."""
    document = admin.get(suite.gui_url + "/api/openapi.json").json()
    a, b = account(suite, next(names)), account(suite, next(names))
    roles = {"none": lambda: Browser(suite), "owner": lambda: a, "other": lambda: b, "admin": lambda: admin}
    last = {"/account/logout", "/account"}  # they end the login

    def ask(role, method, path, o):
        if path in last and o["x-role"] == "user" and method != "get" or path == "/account/logout":
            who = Browser(suite) if role == "none" else account(suite, next(names), admin=role == "admin")
        else:
            who = roles[role]()
        for value in ("987654321", "no such thing"):
            filled = re.sub(r"{([^}]*)}", value, path)
            kinds = [p["schema"]["type"] for p in o["parameters"] if p["in"] == "path"]
            if value != "987654321" and not all(k == "string" or "string" in k for k in kinds):
                continue
            body = o.get("requestBody")
            kw = {"json": sample(document, body["content"]["application/json"]["schema"])} if body else {}
            r = who.request(method.upper(), filled, **kw)
            yield r
            if not kinds or r.status_code == 200:
                break
        if body and "{" not in path:
            yield who.request(method.upper(), path, json={"no such field": [None, {"a": 1e300}]})

    for path, item in document["paths"].items():
        for method, o in item.items():
            for role in roles:
                for r in ask(role, method, path, o):
                    where = "%s %s as %s: %s %s" % (method, path, role, r.status_code, r.text[:200])
                    assert r.status_code < 500, where
                    assert r.json()["state"] == ("ok" if r.status_code < 300 else "error"), where
                    if o["x-role"] == "user" and role == "none":
                        assert r.status_code == 401 and r.json()["reason"] == "please login first", where
                    elif o["x-role"] == "administrator" and role != "admin":
                        assert r.status_code == 403 and r.json()["reason"] == "You are not administrator.", where
                    elif path != "/account/login":
                        assert r.status_code not in (401, 403), where
                    assert str(r.status_code) in o["responses"], where


def test_what_is_another_users_is_not_there(suite, admin):
    document = admin.get(suite.gui_url + "/api/openapi.json").json()
    owner, other = account(suite, next(names)), account(suite, next(names))
    name = next(names)

    def put(path, **body):
        r = owner.put(path, json=body)
        assert r.status_code in (200, 201), r.text
        return r.json()

    df_ids = [put("/devicefeature", df_type=kind, df_name="%s-%s" % (name, kind), df_parameter=[{}])["df_id"] for kind in ("input", "output")]
    dm_id = put("/devicemodel", dm_name=name, df_list=[{"df_id": i, "df_parameter": [{}]} for i in df_ids])["dm_id"]
    ids = {"p_id": put("/project", p_name=name)["p_id"]}
    ids["do_id"] = put("/project/%d/deviceobject" % ids["p_id"], dm_id=dm_id, df=df_ids)["do_id"]
    info = lambda: owner.get("/project/%d" % ids["p_id"]).json()["data"]
    dfo_ids = [info()[kind][0]["dfo"][0]["dfo_id"] for kind in ("ido", "odo")]
    ids["dfo_id"] = dfo_ids[0]
    ids["na_id"] = put("/project/%d/na" % ids["p_id"], na_name="n", na_idx=0, dfo_ids=dfo_ids)["na_id"]
    before, seen = info(), 0
    for path, item in document["paths"].items():
        if not path.startswith(("/project/{p_id}", "/simulation/{p_id}")):
            continue
        filled = re.sub(r"{([^}]*)}", lambda m: str(ids.get(m[1], 1)), path)
        for method, o in item.items():
            body = o.get("requestBody")
            kw = {"json": sample(document, body["content"]["application/json"]["schema"])} if body else {}
            for who in (other, admin):
                seen += 1
                r = who.request(method.upper(), filled, **kw)
                assert r.status_code == 404 or body and r.status_code == 400, (method, filled, r.status_code, r.text)
    assert seen >= 30 and info() == before
    for path, item in document["paths"].items():
        if "get" in item and path.startswith(("/project/{p_id}", "/simulation/{p_id}")):
            filled = re.sub(r"{([^}]*)}", lambda m: str(ids[m[1]]), path)
            assert owner.get(filled).status_code == 200, filled
    assert other.get("/project").json()["data"] == []
    r = owner.get(suite.gui_url + "/export_project?p_id=%d" % ids["p_id"])
    assert r.status_code == 200 and 'filename="%s.json"' % name in r.headers["Content-Disposition"]
    assert r.json()["project"]["p_name"] == name
    is_error(other.get(suite.gui_url + "/export_project?p_id=%d" % ids["p_id"]), 404)
    send = lambda who, new: who.post(suite.gui_url + "/iottalk/ccm/import_project", allow_redirects=False,
                                     files={"p_name": (None, new), "importfilename": ("f.json", r.content)})
    made = send(other, "Mine & more")
    assert made.status_code == 302, made.text
    p_id = int(re.fullmatch(r"/iottalk/ccm/connection#p_id=(\d+)", made.headers["Location"])[1])
    assert [(p["p_id"], p["p_name"], p["status"]) for p in other.get("/project").json()["data"]] == [(p_id, "Mine & more", "off")]
    assert "exists" in send(other, "Mine & more").text and send(other, "Mine & more").status_code == 400


# ---- many logins

def test_failed_logins_of_an_account_make_it_wait(suite, user):
    name = user.get("/account").json()["u_name"]
    fail = lambda who, address: Browser(suite).post("/account/login", json={"username": who, "password": "wrong"},
                                                    headers={"X-Forwarded-For": address})
    for n in range(10):
        is_error(fail(name, "10.1.0.%d" % n), 401)
    r = fail(name, "10.1.1.1")
    is_error(r, 429, "too many failed logins")
    assert 1 <= int(r.headers["Retry-After"]) <= 30
    r = Browser(suite).post("/account/login", json={"username": name, "password": "secret"}, headers={"X-Forwarded-For": "10.1.1.2"})
    is_error(r, 429)
    assert user.get("/account").status_code == 200, "whoever is logged in stays so"
    is_error(fail(next(names), "10.1.1.1"), 401)


def test_failed_logins_from_an_address_make_it_wait(suite, user):
    fail = lambda address: Browser(suite).post("/account/login", json={"username": next(names), "password": "x"},
                                               headers={"X-Forwarded-For": address})
    for _ in range(50):
        is_error(fail("10.2.0.1"), 401)
    r = fail("10.2.0.1")
    is_error(r, 429)
    assert 1 <= int(r.headers["Retry-After"]) <= 6
    is_error(fail("1.2.3.4, 10.2.0.1"), 429)
    is_error(fail("10.2.0.1, 10.2.0.2"), 401)
    for n in range(50):
        is_error(fail("2001:db8::%x" % n), 401)
    is_error(fail("2001:db8::ffff"), 429)


def test_new_accounts_from_an_address_make_it_wait(suite, user):
    """One that is there counts, too, and costs no hash."""
    taken = user.get("/account").json()["u_name"]
    create = lambda name, address: Browser(suite).post("/account/create", json={"username": name, "password": "x"},
                                                       headers={"X-Forwarded-For": address})
    for _ in range(200):
        is_error(create(taken, "10.3.0.1"), 400, "^username already exists$")
    r = create(next(names), "10.3.0.1")
    is_error(r, 429, "too many new accounts")
    assert 1 <= int(r.headers["Retry-After"]) <= 30
    assert create(next(names), "10.3.0.2").status_code == 200
    assert Browser(suite).post("/account/login", json={"username": taken, "password": "secret"},
                               headers={"X-Forwarded-For": "10.3.0.1"}).status_code == 200


@pytest.mark.limit(300)
def test_a_thousand_logins_at_once_take_no_memory(suite, user):
    name = user.get("/account").json()["u_name"]
    body = json.dumps({"username": name, "password": "secret"})
    request = ("POST %s/account/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
               "Connection: close\r\n\r\n%s" % (API, len(body), body)).encode()
    before = suite.rss_kb("ccm")
    peak, done = [before], threading.Event()

    def watch():
        while not done.wait(0.01):
            peak.append(suite.rss_kb("ccm"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        connections = []
        for _ in range(800):
            s = socket.create_connection(("127.0.0.1", suite.gui_port), timeout=60)
            s.sendall(request)
            connections.append(s)
        statuses = []
        for s in connections:
            statuses.append(s.recv(4096))
            s.close()
        for _ in range(200):
            statuses.append(raw(suite, request, timeout=60))
    finally:
        done.set()
        watcher.join()
    codes = [status_of(a) if a else 0 for a in statuses]
    assert len(codes) == 1000 and set(codes) <= {200, 503}, {c: codes.count(c) for c in set(codes)}
    assert codes.count(200) >= 65, "what the queue holds is served"
    refused = [a for a in statuses if status_of(a) == 503]
    assert all(b"Retry-After: " in a and b"too many passwords" in a for a in refused)
    if not SANITIZED:
        assert max(peak) < before + 40 * 1024, "one hash at a time, 19 MiB"
    assert user.get("/account").status_code == 200


def test_ccm_stops_while_logins_wait(suite, user):
    name = user.get("/account").json()["u_name"]
    body = json.dumps({"username": name, "password": "secret"})
    request = ("POST %s/account/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
               % (API, len(body), body)).encode()
    connections = [socket.create_connection(("127.0.0.1", suite.gui_port), timeout=30) for _ in range(60)]
    for s in connections:
        s.sendall(request)
    assert status_of(connections[0].recv(4096)) == 200  # it is at work
    suite.stop("ccm")
    for s in connections:
        s.close()
    suite.start("ccm")
    assert user.get("/account").status_code == 200


def test_unknown_users_take_as_long(suite, user):
    """Measured by what the process computes, not by the clock."""
    name = user.get("/account").json()["u_name"]

    def cpu(who, address):
        ticks = lambda: sum(map(int, open("/proc/%d/stat" % suite.pid("ccm")).read().rsplit(")", 1)[1].split()[11:13]))
        start = ticks()
        for n in range(8):
            is_error(Browser(suite).post("/account/login", json={"username": who, "password": "wrong"},
                                         headers={"X-Forwarded-For": "%s.%d" % (address, n)}), 401)
        return ticks() - start

    known, unknown = cpu(name, "10.3.0"), cpu(next(names), "10.3.1")
    assert unknown > known / 2 and known > unknown / 2
