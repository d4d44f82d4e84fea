"""What must hold in csm's store, whatever was killed: read beside the running csm, in one transaction."""

import json
import sqlite3
from contextlib import closing

from model import GONE, NO_GRAPH, Violation


def rows(db, sql):
    return db.execute(sql).fetchall()


def links_of(doc):
    """[(da_id, mode, feature, topic)]"""
    return [(entry["da_id"], mode, entry["feature"], entry["topic"])
            for mode in ("idf", "odf") for entry in doc.get(mode, [])]


def digests_of(value):
    """Every function that a document refers to: strings of 64 hex digits under func and depends."""
    if isinstance(value, dict):
        for k, v in value.items():
            if k == "func" and isinstance(v, str):
                yield v
            elif k == "depends" and isinstance(v, dict):
                yield from v.values()
            else:
                yield from digests_of(v)
    elif isinstance(value, list):
        for v in value:
            yield from digests_of(v)


class Store:
    """A look at the store; complaints() names what no order of whole operations can leave behind."""

    def __init__(self, path):
        with closing(sqlite3.connect("file:%s?mode=ro" % path, uri=True, timeout=10, isolation_level=None)) as db:
            db.execute("BEGIN")
            self.integrity = [r[0] for r in rows(db, "PRAGMA integrity_check")]
            self.devices = {r[0]: r for r in rows(
                db, "SELECT id, rev, name, accept_protos, idf_list, odf_list, profile, register_time, online FROM device")}
            self.cleanup = {r[0] for r in rows(db, "SELECT device_id FROM cleanup")}
            self.funcs = {r[0] for r in rows(db, "SELECT digest FROM func")}
            self.commands = rows(db, "SELECT da_id, mode, feature, command, topic FROM command")
            self.graphs = {(r[0], r[1]): r[2:] for r in rows(
                db, "SELECT client, graph_id, owner, confirmed, proposed FROM graph")}
            db.execute("COMMIT")

    def docs(self):
        for key, (_, confirmed, proposed) in self.graphs.items():
            for text in (confirmed, proposed):
                if text is not None:
                    yield key, json.loads(text)

    def complaints(self):
        if self.integrity != ["ok"]:
            yield "integrity_check: %s" % self.integrity
        for da_id in self.cleanup & set(self.devices):
            yield "device %s is registered and its retained messages are to be cleared" % da_id
        for device in self.devices.values():
            for text in device[3:7]:
                if text is not None:
                    json.loads(text)
        topics, links = {}, {}
        for key, doc in self.docs():
            for da_id, mode, feature, topic in links_of(doc):
                if links.setdefault((da_id, mode, feature), topic) != topic:
                    yield "graph %s: link %s has the topic %s here, %s elsewhere" % (
                        key, (da_id, mode, feature), topic, links[da_id, mode, feature])
                if topics.setdefault(topic, (da_id, mode, feature)) != (da_id, mode, feature):
                    yield "topic %s belongs to two links: %s and %s" % (topic, topics[topic], (da_id, mode, feature))
            for digest in set(digests_of(doc)) - self.funcs:
                yield "graph %s: function %s is not in the store" % (key, digest)
        for da_id, mode, feature, command, topic in self.commands:
            if command == "CONNECT" and links.get((da_id, mode, feature), topic) != topic:
                yield "command %s of %s has a topic of another time: %s" % (command, (da_id, mode, feature), topic)

    def against(self, devices, graphs):
        """devices, graphs: the model's, each with one possible state."""
        for d in devices:
            state, row = d.known(), self.devices.get(d.id)
            if state == GONE:
                if row is not None:
                    yield "%s was deregistered and is in the store: %s" % (d.what, row)
                continue
            have = row and {"rev": row[1], "name": row[2], "accept_protos": json.loads(row[3]),
                            "idf_list": row[4] and json.loads(row[4]), "odf_list": row[5] and json.loads(row[5]),
                            "profile": json.loads(row[6]), "register_time": row[7]}
            if have != state:
                yield "%s is %s in the store and %s by its GET" % (d.what, have, state)
        for g in graphs:
            state, row = g.possible[0], self.graphs.get(g.key)
            if (state == NO_GRAPH) != (row is None):
                yield "%s is %s by its attach, its row is %s" % (g.what, state, row)
            elif row is not None:
                doc = json.loads(row[2] or row[1])
                have = {(da_id, mode, feature): topic for da_id, mode, feature, topic in links_of(doc)}
                if have != {k: g.topics[k] for k in state["links"]}:
                    yield "%s has the links %s in the store and %s by its attach" % (g.what, have, g.topics)


def check_store(path, devices=(), graphs=()):
    store = Store(path)
    complaints = list(store.complaints()) + list(store.against(devices, graphs))
    if complaints:
        raise Violation("\n".join(complaints))
