"""ccm's HTTP side: who a request comes from, bad requests, pages, many logins (spec ccm 3.1, 3.13)."""

import json
import os
import socket
import threading

import pytest

from ccm_web import API, MIB, Browser, account, anyone, is_error, names, raw, status_of, store, suite, user  # noqa: F401 (fixtures)
from suite import SANITIZED


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
