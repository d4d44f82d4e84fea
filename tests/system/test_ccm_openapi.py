"""The description of ccm's REST API, and each of its routes for each role (spec ccm 3.1, 9.1.1)."""

import re

import pytest

from ccm_web import Browser, account, admin, anyone, is_error, names, suite  # noqa: F401 (fixtures)


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
