"""Clients of ccm as they exist in the wild: REST programs, editors on MQTT, and programs on a library whose operations are named
`<resource>.<verb>`."""

import itertools
import json
import os
import secrets
import sqlite3
import subprocess
import time
from urllib.parse import quote

import requests

from clients import WAIT_S, Mqtt, Sdk, new_id
from suite import BIN, until

STARTED = ("broker", "csm", "agent", "ccm")
API = "/api/v0"


def unique(word):
    return "%s-%s" % (word, secrets.token_hex(4))


class Refused(Exception):
    def __init__(self, status, reason):
        super().__init__("%s: %s" % (status, reason))
        self.status, self.reason = status, reason


class Rest:
    """One cookie jar. call() gives what came, ok() the body of a success, refused() that of a failure."""

    def __init__(self, suite, user=None, password="a password of some length", prefix=API):
        self.url = suite.gui_url + prefix
        self.http = requests.Session()
        self.http.headers["Connection"] = "keep-alive"
        self.user, self.password = user, password
        if user:
            self.ok("POST", "/account/create", {"username": user, "password": password})
            self.login()

    def login(self):
        self.u_id = self.ok("POST", "/account/login", {"username": self.user, "password": self.password})["id"]
        return self

    def call(self, method, path, body=None, timeout=WAIT_S, **kw):
        return self.http.request(method, self.url + path, json=body, timeout=timeout, allow_redirects=False, **kw)

    def ok(self, method, path, body=None, status=200, **kw):
        answer = self.call(method, path, body, **kw)
        assert answer.status_code == status, "%s %s: %s %s" % (method, path, answer.status_code, answer.text)
        found = answer.json()
        assert found["state"] == "ok", found
        return found

    def refused(self, status, method, path, body=None, *words, **kw):
        answer = self.call(method, path, body, **kw)
        assert answer.status_code == status, "%s %s: %s %s" % (method, path, answer.status_code, answer.text)
        found = answer.json()
        assert found["state"] == "error" and found["reason"], found
        for word in words:
            assert word in found["reason"], (word, found["reason"])
        return found["reason"]

    def data(self, path):
        return self.ok("GET", path)["data"]

    def ticket(self, gui_id):
        return self.ok("GET", "/account/?gui=" + gui_id)["mqtt_ticket"]

    # what most tests need first

    def project(self, name=None):
        return self.ok("PUT", "/project/", {"p_name": name or unique("project")}, 201)["p_id"]

    def feature(self, kind, name=None, parameters=({},)):
        name = name or unique("Feature-" + ("I" if kind == "input" else "O"))
        df_id = self.ok("PUT", "/devicefeature/", {"df_name": name, "df_type": kind, "df_parameter": list(parameters)}, 201)["df_id"]
        return df_id, name

    def model(self, features, name=None, **more):
        """features: ids, or (id, parameters)"""
        name = name or unique("Model")
        rows = [f if isinstance(f, tuple) else (f, [{}]) for f in features]
        body = dict(more, dm_name=name, df_list=[{"df_id": df_id, "df_parameter": list(p)} for df_id, p in rows])
        return self.ok("PUT", "/devicemodel/", body, 201)["dm_id"], name

    def device_object(self, p_id, dm_id, features):
        return self.ok("PUT", "/project/%d/deviceobject/" % p_id, {"dm_id": dm_id, "df": list(features)}, 201)["do_id"]

    def objects(self, p_id, do_id):
        """df_id -> dfo_id"""
        info = self.data("/project/%d" % p_id)
        return {dfo["df_id"]: dfo["dfo_id"] for do in info["ido"] + info["odo"] if do["do_id"] == do_id for dfo in do["dfo"]}

    def join(self, p_id, dfo_ids, index=0, name="Join 1"):
        return self.ok("PUT", "/project/%d/na/" % p_id, {"na_name": name, "na_idx": index, "dfo_ids": list(dfo_ids)})["na_id"]

    def status(self, p_id, status):
        return self.ok("POST", "/project/%d" % p_id, {"status": status})

    def function(self, code, name=None, df_id=None):
        name = name or unique("f").replace("-", "_")
        return self.ok("PUT", "/function/", {"fn_name": name, "code": code, "df_id": df_id}, 201)["fn_id"], name

    def bind(self, p_id, do_id, device, timeout=WAIT_S):
        """By mac, again and again while it is not known: 404."""
        path = "/project/%d/deviceobject/%d/device/bind/%s" % (p_id, do_id, device)

        def known():
            answer = self.call("POST", path)
            return answer if answer.status_code != 404 else None
        answer = until(known, timeout, "device %s in ccm" % device)
        assert answer.status_code == 200, answer.text
        return answer.json()["d_name"]


class Editor(Mqtt):
    """A page: attached to the gui API as one uuid, with a last will that detaches it."""

    def __init__(self, suite, rest=None, gui_id=None, attach=True, **kw):
        self.id = gui_id or new_id()
        self.req, self.res = "iottalk/api/gui/req/" + self.id, "iottalk/api/gui/res/" + self.id
        super().__init__(suite, will=(self.req, json.dumps({"op": "detach"}), 2, False), **kw)
        self.answers = self.subscribe(self.res)
        self.ticket = rest.ticket(self.id) if rest else None
        self._flags = itertools.count(1)
        if attach:
            self.attach()

    def send(self, op, data=None, **more):
        flag = "flag-%d" % next(self._flags)
        self.publish(self.req, dict({"op": op, "flag": flag, "data": data, "_id": self.ticket, "req_timestamp": time.time()}, **more))
        return flag

    def answer(self, flag, timeout=WAIT_S):
        return self.answers.get(lambda m: m.json.get("flag") == flag, timeout).json

    def request(self, op, data=None, **more):
        return self.answer(self.send(op, data, **more))

    def ok(self, op, **data):
        answer = self.request(op, data)
        assert answer["state"] == "ok" and answer["op"] == op and answer["_id"] == self.ticket, answer
        return answer["data"]

    def refused(self, op, *words, **data):
        answer = self.request(op, data)
        assert answer["state"] == "error" and answer["op"] == op and answer["data"] == data, answer
        for word in words:
            assert word in answer["msg"], (word, answer["msg"])
        return answer["msg"]

    def attach(self):
        answer = self.request("attach")
        assert answer["state"] == "ok" and answer["op"] == "attach", answer

    def announced(self, kind, match=lambda data: True, timeout=WAIT_S):
        def fits(m):
            a = m.json
            return a.get("op") == "anno" and a.get("type") == kind and match(a["data"])
        return self.answers.get(fits, timeout).json["data"]


class Program:
    """The operations of the client library that programs use (spec: account.create, project.on, ...): an exception with status and
    reason for whatever is no success."""

    def __init__(self, suite, prefix=API):
        self.url, self.http = suite.gui_url + prefix, requests.Session()

    def _do(self, method, path, body=None, status=(200, 201)):
        answer = self.http.request(method, self.url + path, json=body, timeout=WAIT_S)
        try:
            found = answer.json()
        except ValueError:
            raise Refused(answer.status_code, answer.text)
        if answer.status_code not in status or found.get("state") != "ok":
            raise Refused(answer.status_code, found.get("reason"))
        return found

    def account_create(self, username, password):
        return self._do("POST", "/account/create", {"username": username, "password": password})["id"]

    def account_login(self, username, password):
        return self._do("POST", "/account/login", {"username": username, "password": password})["id"]

    def account_profile(self):
        return self._do("GET", "/account/")

    def account_delete(self):
        return self._do("DELETE", "/account/")

    def project_create(self, p_name):
        return self._do("PUT", "/project/", {"p_name": p_name})["p_id"]

    def project_get(self, which=None):
        return self._do("GET", "/project/" if which is None else "/project/%s" % quote(str(which)))["data"]

    def project_delete(self, p_id):
        return self._do("DELETE", "/project/%d" % p_id)["p_id"]

    def project_on(self, p_id):
        return self._do("POST", "/project/%d" % p_id, {"status": "on"})["status"]

    def project_off(self, p_id):
        return self._do("POST", "/project/%d" % p_id, {"status": "off"})["status"]

    def simulation_get(self, p_id):
        return self._do("GET", "/simulation/%d" % p_id)["data"]

    def simulation_on(self, p_id):
        return self._do("POST", "/simulation/%d" % p_id, {"sim": "on"})["sim"]

    def simulation_off(self, p_id):
        return self._do("POST", "/simulation/%d" % p_id, {"sim": "off"})["sim"]

    def devicefeature_create(self, df_name, type, parameter, comment="", category=None):
        body = {"df_name": df_name, "df_type": type, "df_parameter": parameter, "comment": comment}
        if category:
            body["df_category"] = category
        return self._do("PUT", "/devicefeature/", body)["df_id"]

    def devicefeature_get(self, which):
        return self._do("GET", "/devicefeature/%s" % quote(str(which)))["data"]

    def devicefeature_delete(self, which):
        return self._do("DELETE", "/devicefeature/%s" % quote(str(which)))["df_id"]

    def devicemodel_create(self, dm_name, dfs):
        rows = []
        for df in dfs:
            known = self.devicefeature_get(df["key"])
            rows.append({"df_id": known["df_id"], "df_parameter": df.get("parameter", known["df_parameter"])})
        for row in rows:
            row["df_parameter"] = [{k: v for k, v in p.items() if k in (
                "param_type", "min", "max", "idf_type", "fn_id", "unit_id", "normalization")} for p in row["df_parameter"]]
        return self._do("PUT", "/devicemodel/", {"dm_name": dm_name, "df_list": rows})["dm_id"]

    def devicemodel_get(self, which):
        return self._do("GET", "/devicemodel/%s" % quote(str(which)))["data"]

    def devicemodel_delete(self, which):
        return self._do("DELETE", "/devicemodel/%s" % quote(str(which)))["dm_id"]

    def deviceobject_create(self, p_id, dm_name, dfs=None):
        known = {df["df_name"]: df["df_id"] for df in self.devicemodel_get(dm_name)["df_list"]}
        ids = [known[name] for name in (dfs if dfs is not None else known)]
        dm_id = self.devicemodel_get(dm_name)["dm_id"]
        return self._do("PUT", "/project/%d/deviceobject/" % p_id, {"dm_id": dm_id, "df": ids})["do_id"]

    def deviceobject_get(self, p_id, do_id):
        return self._do("GET", "/project/%d/deviceobject/%d" % (p_id, do_id))["data"]

    def deviceobject_delete(self, p_id, do_id):
        return self._do("DELETE", "/project/%d/deviceobject/%d" % (p_id, do_id))["do_id"]

    def devicefeatureobject_get(self, p_id, do_id, dfo_id):
        return self._do("GET", "/project/%d/deviceobject/%d/devicefeatureobject/%d" % (p_id, do_id, dfo_id))["data"]

    def devicefeatureobject_update(self, p_id, do_id, dfo_id, alias_name, df_parameter):
        return self._do("POST", "/project/%d/deviceobject/%d/devicefeatureobject/%d" % (p_id, do_id, dfo_id),
                        {"alias_name": alias_name, "df_parameter": df_parameter})["dfo_id"]

    def networkapplication_create(self, p_id, joins):
        """joins: [(do_id, id or name of the feature)]"""
        info, dfo_ids = self.project_get(p_id), []
        for do_id, feature in joins:
            df_id = feature if isinstance(feature, int) else self.devicefeature_get(feature)["df_id"]
            dfo_ids += [dfo["dfo_id"] for do in info["ido"] + info["odo"] if do["do_id"] == do_id
                        for dfo in do["dfo"] if dfo["df_id"] == df_id]
        n = len(self._do("GET", "/project/%d/na/" % p_id)["data"])
        return self._do("PUT", "/project/%d/na/" % p_id,
                        {"na_name": "Join %d" % (n + 1), "na_idx": n, "dfo_ids": dfo_ids}, (200,))["na_id"]

    def networkapplication_get(self, p_id, na_id):
        return self._do("GET", "/project/%d/na/%d" % (p_id, na_id))["data"]

    def networkapplication_update(self, p_id, na_id, dfm_list, na_name=None, multiplejoin_fn_id=None):
        body = {"dfm_list": dfm_list}
        if na_name is not None:
            body["na_name"] = na_name
        if multiplejoin_fn_id is not None:
            body["multiplejoin_fn_id"] = multiplejoin_fn_id
        return self._do("POST", "/project/%d/na/%d" % (p_id, na_id), body)["na_id"]

    def networkapplication_delete(self, p_id, na_id):
        return self._do("DELETE", "/project/%d/na/%d" % (p_id, na_id))["na_id"]

    def device_get(self, p_id, do_id):
        return self._do("GET", "/project/%d/deviceobject/%d/device/" % (p_id, do_id))["data"]

    def device_bind(self, p_id, do_id, d_id):
        return self._do("POST", "/project/%d/deviceobject/%d/device/bind/%s" % (p_id, do_id, d_id))["d_name"]

    def device_bind_soon(self, p_id, do_id, mac, seconds=WAIT_S):
        """As programs do right after they have registered a device."""
        def known():
            try:
                return self.device_bind(p_id, do_id, mac)
            except Refused as e:
                if e.status != 404:
                    raise
                return None
        return until(known, seconds, "device %s in ccm" % mac)

    def device_unbind(self, p_id, do_id):
        return self._do("POST", "/project/%d/deviceobject/%d/device/unbind" % (p_id, do_id))["do_id"]

    def function_create(self, fn_name, code, df_id=None):
        return self._do("PUT", "/function/", {"fn_name": fn_name, "code": code, "df_id": df_id})["fn_id"]

    def function_update(self, fn_id, code):
        return self._do("POST", "/function/%d" % fn_id, {"code": code})["fnvt_idx"]

    def function_delete(self, fn_id):
        return self._do("DELETE", "/function/%d" % fn_id)["fn_id"]

    def function_list(self):
        return self._do("GET", "/function/")["fn_list"]

    def function_get(self, fn_id):
        return self._do("GET", "/function/%d" % fn_id)["data"]

    def function_get_all_versions(self, fn_id):
        return self._do("GET", "/function/%d/a" % fn_id)["fnvt_list"]

    def function_create_sdf(self, fn_id, df_id=None):
        return self._do("PUT", "/function/%d/SDF%s" % (fn_id, "" if df_id is None else "/%d" % df_id))["data"]

    def alias_get(self, mac_addr, df_name):
        return self._do("GET", "/alias/%s/%s" % (mac_addr, quote(df_name)))["alias_name"]

    def alias_set(self, mac_addr, df_name, alias_name):
        return self._do("POST", "/alias/%s/%s" % (mac_addr, quote(df_name)), {"alias_name": alias_name})["alias_name"]


def admin_of(suite):
    """The first account that may do everything is made by hand."""
    name = unique("admin")
    done = subprocess.run([str(BIN / "iotctl"), "-c", str(suite.ini), "user", "add", "--admin", name], input="a long password\n",
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr
    rest = Rest(suite)
    rest.user, rest.password = name, "a long password"
    return rest.login()


class Wired:
    """A project of one model: `ins` input and `outs` output features, a device object for each of them, one device that has all."""

    def __init__(self, suite, clients, rest, ins=1, outs=1, parameters=({},), on=True, join=True):
        self.suite, self.rest = suite, rest
        self.ins = [rest.feature("input", parameters=parameters) for _ in range(ins)]
        self.outs = [rest.feature("output", parameters=parameters) for _ in range(outs)]
        features = self.ins + self.outs
        self.model, self.model_name = rest.model([(df_id, parameters) for df_id, _ in features])
        self.p_id = rest.project()
        self.device = clients.add(Sdk(suite, idf=[n for _, n in self.ins], odf=[n for _, n in self.outs], model=self.model_name,
                                      profile={"u_name": rest.user}))
        self.objects = {df_id: rest.device_object(self.p_id, self.model, [df_id]) for df_id, _ in features}
        for do_id in self.objects.values():
            rest.bind(self.p_id, do_id, self.device.da_id)
        self.dfos = {df_id: rest.objects(self.p_id, do_id)[df_id] for df_id, do_id in self.objects.items()}
        self.na_id = rest.join(self.p_id, [self.dfos[df_id] for df_id, _ in features]) if join else None
        self.na = "/project/%d/na/%s" % (self.p_id, self.na_id)
        self.keys = [("idf", n) for _, n in self.ins] + [("odf", n) for _, n in self.outs]
        if on:
            self.on()

    def on(self):
        self.rest.status(self.p_id, "on")
        self.device.until_connected(*self.keys)

    def info(self):
        return self.rest.data(self.na)

    def set_functions(self, side, fn_ids):
        """One for each parameter, on all features of a side."""
        self.rest.ok("POST", self.na, {"dfm_list": [
            {"dfo_id": dfo["dfo_id"], "dfmp_list": [dict(row, fn_id=fn_id) for row, fn_id in zip(dfo["dfmp"], fn_ids)]}
            for dfo in self.info()[side]]})

    def push(self, values, at=0):
        self.device.push(self.ins[at][1], values)

    def until_result(self, values, want, at=0):
        """Push until that comes out: what was changed reaches csm a moment later."""
        self.device.until_connected(("odf", self.outs[at][1]))      # before, it is not subscribed
        def comes():
            self.push(values)
            try:
                return self.device.received(self.outs[at][1], 1) == want
            except AssertionError:      # it came before there was a way through
                return False
        until(comes, what="%s from %s" % (want, values))


# ---- what ccm wants of csm, and what there is ----

def graphs_that_run(suite):
    """na_id -> {(id of the device, "idf" or "odf", feature), ...} of all graphs of ccm, as the agent has them."""
    found = {}
    for row in suite.control("agent", {"op": "graphs"}).get("graphs", []):
        client, _, graph = row["id"].partition("/")
        if client == "ccm":
            one = suite.control("agent", {"op": "graph", "graph": row["id"]}).get("graph", {})
            found[int(graph)] = {(k["da_id"], k["mode"], k["feature"]) for k in one.get("links", [])}
    return found


def graphs_that_should(rest):
    """The same, as the projects of a user ask for it."""
    wanted = {}
    for project in rest.data("/project/"):
        if project["status"] != "on":
            continue
        for na in rest.data("/project/%d/na/" % project["p_id"]):
            info = rest.data("/project/%d/na/%d" % (project["p_id"], na["na_id"]))
            wanted[na["na_id"]] = {(dfo["mac_addr"], mode, dfo["df_name"]) for mode, side in (("idf", "input"), ("odf", "output"))
                                   for dfo in info[side] if dfo["mac_addr"]}
    return wanted


def store_path(suite):
    return os.path.join(str(suite.userdir), "iottalk-gui.db")


def check_store(suite):
    """What SQLite itself has to say of the store."""
    with sqlite3.connect("file:%s?mode=ro" % store_path(suite), uri=True) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
