"""The rows of build/bench/results.csv and how they are summed up: medians (min..max), and ratios of neighbours in time."""

import csv
import statistics

ROLES = ("broker", "relay", "agent", "engine", "node")  # all that a message passes


def number(text):
    """What a cell of the file says: None, a number or a word."""
    if text == "":
        return None
    try:
        return float(text) if "." in text or "e" in text else int(text)
    except ValueError:
        return text


def read(path):
    if not path.exists():
        return []
    with open(path, newline="") as f:
        return [{k: number(v) for k, v in row.items()} for row in csv.DictReader(f)]


def cost_us(row):
    """CPU time of all processes that a message passes, per message."""
    return sum(row.get("cpu_%s_us" % role) or 0 for role in ROLES)


def system_us(row):
    return cost_us(row) - (row.get("cpu_broker_us") or 0)


class Spread:
    """Some values of one quantity."""

    def __init__(self, values):
        self.values = [v for v in values if v is not None]

    def __bool__(self):
        return bool(self.values)

    @property
    def median(self):
        return statistics.median(self.values)

    def format(self, digits=0, scale=1):
        if not self:
            return "-"
        least, middle, most = ("%.*f" % (digits, v / scale) for v in (min(self.values), self.median, max(self.values)))
        return middle if least == most else "%s (%s..%s)" % (middle, least, most)


class Results:
    def __init__(self, rows, machine):
        self.rows, self.machine = rows, machine

    def select(self, **key):
        return [r for r in self.rows if all(r.get(k) == v for k, v in key.items())]

    def distinct(self, field, **key):
        """Values of a field, in the order they were measured."""
        return list(dict.fromkeys(r[field] for r in self.select(**key) if r.get(field) is not None))

    def spread(self, field, **key):
        """field: the name of a column, or a function of a row."""
        take = field if callable(field) else lambda row: row.get(field)
        return Spread([take(r) for r in self.select(**key)])

    def total(self, field, **key):
        return sum(self.spread(field, **key).values)

    def ratio(self, field, above, below):
        """above, below: keys of the rows. Within a repeat, where a disturbance hits both alike."""
        take = field if callable(field) else lambda row: row.get(field)
        parts = {}
        for key, at in ((above, 0), (below, 1)):
            for row in self.select(**key):
                parts.setdefault(row["repeat"], [None, None])[at] = take(row)
        return Spread([a / b for a, b in parts.values() if a is not None and b])
