"""Small SVG pictures: panels side by side, a row for each system. Colours are of middle lightness, so that they are readable on
white and on black; the background is the page's."""

import math
from html import escape

from titles import BUS, CLIENT, FLOOR, NODERED, NODERED_EACH, PLUGIN, RELAY

TEXT, GRID = "#7b8794", "#7b879466"
COLOURS = {FLOOR: "#a7b0bb", RELAY: "#4f83c4", BUS: "#7fa8d9", CLIENT: "#2f9e8f", PLUGIN: "#e0892f", NODERED: "#c4526a",
           NODERED_EACH: "#d98ca0"}
NAMES, PANEL, GAP = 210, 220, 24  # widths
TOP, ROW, BOTTOM = 56, 24, 40


class Picture:
    def __init__(self, title, panels, rows):
        self.width = NAMES + len(panels) * (PANEL + GAP)
        self.height = TOP + len(rows) * ROW + BOTTOM
        self.parts = []
        self.rows = rows
        self.text(0, 16, title, size=14, weight="bold")
        for i, panel in enumerate(panels):
            self.text(self.left(i), TOP - 12, panel, size=12, weight="bold")
        for i, name in enumerate(rows):
            self.text(NAMES - 10, self.middle(i) + 4, name, anchor="end")

    @staticmethod
    def left(panel):
        return NAMES + panel * (PANEL + GAP)

    @staticmethod
    def middle(row):
        return TOP + row * ROW + ROW / 2

    def text(self, x, y, text, anchor="start", size=11, weight="normal"):
        self.parts.append('<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" font-weight="%s">%s</text>' % (
            x, y, anchor, size, weight, escape(text)))

    def line(self, x1, y1, x2, y2, colour, width=1.0):
        self.parts.append('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%g"/>' % (
            x1, y1, x2, y2, colour, width))

    def bar(self, x, y, width, height, colour):
        self.parts.append('<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="2" fill="%s"/>' % (
            x, y, width, height, colour))

    def dot(self, x, y, radius, colour):
        self.parts.append('<circle cx="%.1f" cy="%.1f" r="%g" fill="%s"/>' % (x, y, radius, colour))

    def grid(self, panel, x, label):
        at = self.left(panel) + x
        bottom = TOP + len(self.rows) * ROW
        self.line(at, TOP - 4, at, bottom, GRID)
        self.text(at, bottom + 14, label, anchor="middle", size=10)

    def svg(self):
        return ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" '
                'fill="%s">\n%s\n</svg>\n' % (self.width, self.height, self.width, self.height, TEXT, "\n".join(self.parts)))


def round_step(most, steps=4):
    """A distance of grid lines: 1, 2 or 5 times a power of ten."""
    raw = most / steps
    power = 10 ** math.floor(math.log10(raw))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= raw)


def short(value):
    return "%gk" % (value / 1000) if value >= 1000 else "%g" % value


def bars(title, panels, rows, values, foot):
    """values: {(panel, row): (least, middle, most)}; each panel has its own scale."""
    picture = Picture(title, panels, rows)
    for p, panel in enumerate(panels):
        most = max([v[2] for (at, _), v in values.items() if at == panel] or [1])
        scale = (PANEL - 40) / most  # room for the number behind the longest bar
        step = round_step(most)
        for i in range(int(most / step) + 1):
            picture.grid(p, i * step * scale, short(i * step))
        for r, row in enumerate(rows):
            if (panel, row) not in values:
                continue
            least, middle, top = (v * scale for v in values[panel, row])
            x, y, colour = picture.left(p), picture.middle(r), COLOURS.get(row, TEXT)
            picture.bar(x, y - 7, middle, 14, colour)
            picture.line(x + least, y, x + top, y, TEXT, 1.5)
            picture.text(x + max(middle, top) + 5, y + 4, "%.1fk" % (values[panel, row][1] / 1000), size=10)
    picture.text(picture.left(0), picture.height - 6, foot, size=10)
    return picture.svg()


def ranges(title, panels, rows, values, foot):
    """values: {(panel, row): ascending numbers}, the first a dot, the last two thinner; one logarithmic scale."""
    picture = Picture(title, panels, rows)
    numbers = [n for v in values.values() for n in v if n > 0] or [1]
    low, high = math.floor(math.log10(min(numbers))), math.ceil(math.log10(max(numbers)))
    scale = (PANEL - 10) / max(1, high - low)

    def x_of(value):
        return (math.log10(max(value, 10 ** low)) - low) * scale

    for p, panel in enumerate(panels):
        for power in range(low, high + 1):
            picture.grid(p, x_of(10.0 ** power), "%g" % 10.0 ** power)
        for r, row in enumerate(rows):
            marks = values.get((panel, row))
            if not marks:
                continue
            at, y, colour = [picture.left(p) + x_of(m) for m in marks], picture.middle(r), COLOURS.get(row, TEXT)
            picture.line(at[0], y, at[-1], y, colour, 2)
            picture.dot(at[0], y, 5, colour)
            for i, x in enumerate(at[1:]):
                picture.line(x, y - 6 + 2 * i, x, y + 6 - 2 * i, colour, 3 - i)
    picture.text(picture.left(0), picture.height - 6, foot, size=10)
    return picture.svg()
