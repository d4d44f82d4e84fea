"""A store of ccm that is filled by SQL: for tests of what ccm makes of it, whatever the way by which it came there."""

import sqlite3

from suite import until

DAY = "2026-01-01"


class Store:
    """Ids are those of the tables. look(): ccm compares what it drives with the store, as after a start."""

    def __init__(self, suite):
        self.suite = suite
        self.db = sqlite3.connect(str(suite.userdir / "iottalk-gui.db"), timeout=10, isolation_level=None, check_same_thread=False)
        self.db.execute("PRAGMA foreign_keys = ON")

    def close(self):
        self.db.close()

    def look(self):
        until(lambda: self.suite.control("ccm", {"op": "reconcile"}).get("state") == "ok", what="ccm's control socket")

    def status(self):
        return self.suite.control("ccm", {"op": "status"})

    def insert(self, table, **row):
        marks = ", ".join("?" * len(row))
        return self.db.execute("INSERT INTO %s (%s) VALUES (%s)" % (table, ", ".join(row), marks), list(row.values())).lastrowid

    def rows(self, sql, *args):
        return self.db.execute(sql, args).fetchall()

    def one(self, sql, *args):
        found = self.rows(sql, *args)
        return found[0][0] if found else None

    def run(self, sql, *args):
        self.db.execute(sql, args)

    # -- the catalogue

    def user(self, name):
        return self.insert("User", u_name=name)

    def feature(self, name, kind, *params):
        """params: dicts of columns of DF_Parameter"""
        params = params or ({},)
        df_id = self.insert("DeviceFeature", df_name=name, df_type=kind, param_no=len(params))
        for i, param in enumerate(params):
            self.insert("DF_Parameter", df_id=df_id, param_i=i, **param)
        return df_id

    def model(self, name, *df_ids):
        dm_id = self.insert("DeviceModel", dm_name=name)
        for df_id in df_ids:
            mf_id = self.insert("DM_DF", dm_id=dm_id, df_id=df_id)
            self.run("INSERT INTO DF_Parameter (mf_id, param_i, param_type, min, max) SELECT ?, param_i, param_type, min, max"
                     " FROM DF_Parameter WHERE df_id = ?", mf_id, df_id)
        return dm_id

    def tag(self, name, param_no, dm_id, *df_ids):
        tag_id = self.insert("Tag", tag_name=name, param_no=param_no)
        for df_id in df_ids:
            self.insert("DM_DF_Tag", tag_id=tag_id,
                        mf_id=self.one("SELECT mf_id FROM DM_DF WHERE dm_id = ? AND df_id = ?", dm_id, df_id))

    def function(self, name, code, u_id=None):
        fn_id = self.insert("Function", fn_name=name)
        self.version(fn_id, code, u_id)
        return fn_id

    def version(self, fn_id, code, u_id=None):
        return self.insert("FunctionVersion", fn_id=fn_id, u_id=u_id, date=DAY, code=code)

    # -- projects

    def project(self, u_id, name="p", status="on"):
        return self.insert("Project", p_name=name, u_id=u_id, status=status)

    def object(self, p_id, dm_id, *df_ids):
        """ret: do_id, {df_id: dfo_id}"""
        do_id = self.insert("DeviceObject", dm_id=dm_id, p_id=p_id)
        return do_id, {df_id: self.insert("DFObject", do_id=do_id, df_id=df_id, alias_name="x") for df_id in df_ids}

    def application(self, p_id, *dfo_ids, join=None):
        """One parameter row for each parameter of each feature; inputs get places in the join as they are given."""
        idx = self.one("SELECT ifnull(max(na_idx) + 1, 0) FROM NetworkApplication WHERE p_id = ?", p_id)
        na_id = self.insert("NetworkApplication", na_name="Join", na_idx=idx, p_id=p_id)
        for dfo_id in dfo_ids:
            (param_no, kind), = self.rows("SELECT f.param_no, f.df_type FROM DFObject o JOIN DeviceFeature f ON f.df_id = o.df_id"
                                          " WHERE o.dfo_id = ?", dfo_id)
            for i in range(param_no):
                self.insert("DF_Module", na_id=na_id, dfo_id=dfo_id, param_i=i)
            if kind == "input":
                place = self.one("SELECT ifnull(max(param_i) + 1, 0) FROM MultipleJoin_Module WHERE na_id = ?", na_id)
                self.insert("MultipleJoin_Module", na_id=na_id, param_i=place, dfo_id=dfo_id, fn_id=join)
        return na_id

    def use(self, na_id, dfo_id, param_i, fn_id, **more):
        columns = dict(more, fn_id=fn_id)
        self.run("UPDATE DF_Module SET %s WHERE na_id = ? AND dfo_id = ? AND param_i = ?" % ", ".join("%s = ?" % c for c in columns),
                 *columns.values(), na_id, dfo_id, param_i)

    def switch(self, p_id, status):
        self.run("UPDATE Project SET status = ? WHERE p_id = ?", status, p_id)

    def device(self, da_id, timeout=10):
        """d_id of a device, once ccm has heard of it"""
        return until(lambda: self.one("SELECT d_id FROM Device WHERE mac_addr = ?", da_id), timeout, "the device in ccm's store")

    def bind(self, do_id, da_id):
        self.run("UPDATE DeviceObject SET d_id = ? WHERE do_id = ?", self.device(da_id) if da_id else None, do_id)
