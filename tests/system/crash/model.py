"""What the answers promise. A thing (a device, a graph) has one owner who asks one request at a time; its possible states are one after an
answer and two after a request that nobody answered: with it and without it. What is seen must be one of them."""

import re
from collections import deque

REFUSED = object()   # what a change makes of a state that it does not fit
MADE_NAME = re.compile(r"\d\d+\.\S+")


class Violation(Exception):
    """A promise that was broken."""


class Thing:
    """change(state) gives the next state or REFUSED; fits(state) gives the state with what was learned by looking, or None."""

    def __init__(self, what):
        self.what = what
        self.possible = [None]   # None: it does not exist
        self.history = deque(maxlen=40)

    def note(self, request, answer):
        self.history.append("%s -> %s" % (request, answer))

    def answered_ok(self, change):
        self._narrow([s for s in map(change, self.possible) if s is not REFUSED], "answered ok what must be refused")

    def answered_error(self, change):
        self._narrow([s for s in self.possible if change(s) is REFUSED], "refused what must be answered ok")

    def unanswered(self, change):
        for after in list(map(change, self.possible)):
            if after is not REFUSED and after not in self.possible:
                self.possible.append(after)

    def seen(self, fits, found):
        """found: for people"""
        learned = [s for s in map(fits, self.possible) if s is not None]
        self._narrow(learned[:1], "found %s" % (found,))
        return self.possible[0]

    def _narrow(self, left, why):
        if not left:
            raise Violation("%s: %s\npossible were: %s\nlast requests and answers:\n  %s" % (
                self.what, why, self.possible, "\n  ".join(self.history)))
        self.possible = [s for n, s in enumerate(left) if s not in left[:n]]


# -- devices

LISTS = ("accept_protos", "idf_list", "odf_list", "profile")
GONE = {"gone": True}   # a device that is not there; None is for fits() to say no


class Device(Thing):
    """State: GONE or the fields as registered; rev, register_time and a made name are None until an answer tells them."""

    def __init__(self, da_id):
        super().__init__("device " + da_id)
        self.id = da_id
        self.possible = [GONE]

    @staticmethod
    def put(body, answer=None):
        """answer: the reply that tells rev and name"""
        def change(s):
            old_name = s.get("name")   # a PUT without a name keeps the one that is there
            after = {k: body.get(k) for k in LISTS}
            after["name"] = answer["name"] if answer else body.get("name") or old_name
            after["rev"] = answer["rev"] if answer else None
            after["register_time"] = s.get("register_time")
            return after
        return change

    @staticmethod
    def post(body):
        return lambda s: REFUSED if s == GONE else dict(s, **body)

    @staticmethod
    def delete(rev):
        return lambda s: REFUSED if s == GONE or s["rev"] not in (None, rev) else GONE

    def look(self, status, reply):
        """The answer to a GET."""
        def fits(s):
            if status == 404 or s == GONE:
                return s if (status == 404) == (s == GONE) else None
            learned = {k: reply.get(k) for k in LISTS + ("name", "rev", "register_time")}
            named = s["name"] is not None or MADE_NAME.fullmatch(learned["name"])
            return learned if named and all(v is None and k not in LISTS or learned[k] == v for k, v in s.items()) else None
        return self.seen(fits, reply if status == 200 else status)

    def known(self):
        """The one possible state; after look() there is no other."""
        return self.possible[0]


# -- graphs

NO_GRAPH = {"gone": True}


class Graph(Thing):
    """State: NO_GRAPH or {"join": digest or None, "links": {(da_id, mode, feature): digest or None}}. Topics are no state: one that was
    seen stays as long as its link is there in every possible state."""

    def __init__(self, client_id, graph_id):
        super().__init__("graph %s/%s" % (client_id, graph_id))
        self.key = (client_id, graph_id)
        self.possible = [NO_GRAPH]
        self.topics = {}

    @staticmethod
    def attach(s):
        return {"join": None, "links": {}} if s == NO_GRAPH else s

    @staticmethod
    def detach(s):
        return REFUSED if s == NO_GRAPH else NO_GRAPH

    @staticmethod
    def add_link(key, func):
        return lambda s: REFUSED if s == NO_GRAPH or key in s["links"] else dict(
            s, links=s["links"] | {key: func})

    @staticmethod
    def rm_link(key):
        return lambda s: REFUSED if s == NO_GRAPH or key not in s["links"] else dict(
            s, links={k: f for k, f in s["links"].items() if k != key})

    @staticmethod
    def set_join(prev, new):
        return lambda s: REFUSED if s == NO_GRAPH or s["join"] != prev else dict(s, join=new)

    @staticmethod
    def set_df_func(key, prev, new):
        return lambda s: REFUSED if s == NO_GRAPH or s["links"].get(key, REFUSED) != prev else dict(
            s, links=s["links"] | {key: new})

    def _narrow(self, left, why):
        super()._narrow(left, why)
        self.forget_topics()

    def unanswered(self, change):
        super().unanswered(change)
        self.forget_topics()

    def forget_topics(self):
        for key in list(self.topics):
            if not all(key in s.get("links", ()) for s in self.possible):
                del self.topics[key]

    def look(self, graph):
        """The graph that the answer to an attach tells; None: it was made by this attach, so there was none."""
        links = {(k["da_id"], k["mode"], k["feature"]): k for k in graph["links"]} if graph else {}
        found = {"join": graph["join"], "links": {k: v["func"] for k, v in links.items()}} if graph else NO_GRAPH
        if found == self.attach(NO_GRAPH):
            self.unanswered(self.attach)   # made by this attach, which csm was killed over and the broker has repeated
        self.seen(lambda s: s if s == found else None, found)
        for key, link in links.items():
            was = self.topics.setdefault(key, link["topic"])
            if was != link["topic"]:
                raise Violation("%s: the topic of %s was %s and is %s\nlast requests and answers:\n  %s" % (
                    self.what, key, was, link["topic"], "\n  ".join(self.history)))
        self.possible = [self.attach(found)]
