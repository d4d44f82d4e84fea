"""Seconds in which the machine ran. Promises of speed are about a machine that does something: while it is halted, or busy with
others, even a thread that only sleeps wakes late, and by so much no time passes here."""

import threading
import time

TICK_S = 0.01
LATE_S = 0.02   # so much is the scheduler's own

_lock = threading.Lock()
_lost = 0.0
_due = None     # when the thread that only sleeps is to wake; None: nobody has asked for the time yet


def _late():
    return max(0.0, time.monotonic() - _due - LATE_S)


def _sleep():
    global _lost, _due
    while True:
        time.sleep(TICK_S)
        with _lock:
            _lost += _late()
            _due = time.monotonic() + TICK_S


def now():
    global _due
    with _lock:
        if _due is None:
            _due = time.monotonic() + TICK_S
            threading.Thread(target=_sleep, daemon=True).start()
        return time.monotonic() - _lost - _late()
