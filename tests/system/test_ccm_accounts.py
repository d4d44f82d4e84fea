"""Accounts of ccm, tickets for MQTT, and what administrators may do (spec ccm 3.2, 3.12)."""

import json
import re
import time

import pytest

from ccm_web import GUI, Browser, account, admin, anyone, ccm_user, is_error, names, store, suite, user  # noqa: F401 (fixtures)


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
    # refused: 1; a wrong command line: 2
    for words, password, status in (
            (("password", "nobody at all"), "x", 1), (("add", next(names)), "", 1), (("add", next(names)), None, 1),
            (("add", next(names)), "x" * 256, 1), (("list", "--admin"), None, 2), (("frob",), None, 2), (("add",), "x", 2)):
        done = ccm_user(suite, *words, password=password)
        assert done.returncode == status and done.stderr and not done.stdout, words
