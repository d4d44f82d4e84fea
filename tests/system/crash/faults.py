"""Faults in a running csm: the test's side of tests/faults/faults.c."""

import errno
import mmap
import struct
import subprocess
from contextlib import contextmanager

from suite import BIN, ROOT

LIBRARY = ROOT / "build/tests/lib/faults.so"
KINDS = ("alloc", "write", "sync", "truncate", "open")
FIELDS = ("skip", "fails", "error", "count", "failed")
FRAMES = 24
CLOCK = len(KINDS) * len(FIELDS)
COUNTING = CLOCK + 1
PATH_BYTES = 256
SIZE = 8 * (COUNTING + 1 + FRAMES) + PATH_BYTES
SHORT = 0   # in place of an errno: half of it is written
FOR_EVER = -1
STORE = "iottalk.db"


class Faults:
    """One process's. With it as `process.env` the process can be told what is to fail."""

    def __init__(self, folder):
        self.path = folder / "faults"
        self.path.write_bytes(bytes(SIZE))
        with open(self.path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), SIZE)
        self.off()
        self.env = {"LD_PRELOAD": str(LIBRARY), "FAULTS_FILE": str(self.path),
                    "ASAN_OPTIONS": "exitcode=99:detect_leaks=1:verify_asan_link_order=0"}

    def put(self, at, value):
        struct.pack_into("<q", self.map, 8 * at, value)

    def get(self, at):
        return struct.unpack_from("<q", self.map, 8 * at)[0]

    def at(self, kind, field):
        return KINDS.index(kind) * len(FIELDS) + FIELDS.index(field)

    def off(self):
        for kind in KINDS:
            self.put(self.at(kind, "skip"), -1)

    def arm(self, kind, skip=0, fails=FOR_EVER, error=errno.ENOMEM, path=STORE):
        """After `skip` more calls so many fail. path: what the path of a file contains."""
        struct.pack_into("%ds" % PATH_BYTES, self.map, SIZE - PATH_BYTES, path.encode())
        for field, value in (("fails", fails), ("error", error), ("count", 0), ("failed", 0), ("skip", skip)):
            self.put(self.at(kind, field), value)

    def failed(self, kind):
        return self.get(self.at(kind, "failed"))

    @contextmanager
    def failing(self, kind, **kw):
        self.arm(kind, **kw)
        try:
            yield
        finally:
            self.off()

    @contextmanager
    def counting(self):
        """Yields a function that tells how many allocations there were."""
        self.put(self.at("alloc", "count"), 0)
        self.put(COUNTING, 1)
        try:
            yield lambda: self.get(self.at("alloc", "count"))
        finally:
            self.put(COUNTING, 0)

    def clock(self, seconds):
        self.put(CLOCK, int(seconds) * 10 ** 9)

    def where(self, program="csm"):
        """Who asked for the last memory that was not given: the program's functions, innermost first."""
        frames = [hex((self.get(COUNTING + 1 + n) - 1) % 2 ** 64) for n in range(FRAMES)]
        done = subprocess.run(["addr2line", "-f", "-s", "-e", str(BIN / program)] + frames, capture_output=True, text=True)
        lines = done.stdout.splitlines()
        return " < ".join("%s (%s)" % pair for pair in zip(lines[::2], lines[1::2]) if pair[0] != "??")
