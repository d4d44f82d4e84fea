"""Users of ccm's REST API, as tests need them; a module imports the fixtures that it uses."""

import itertools
import os
import re
import socket
import sqlite3
import subprocess

import pytest
import requests

from suite import BIN, Suite

API = "/api/v0"
names = ("user%d" % n for n in itertools.count())
GUI = "01234567-89ab-cdef-0123-456789abcdef"
MIB = 1 << 20


class Browser(requests.Session):
    """One cookie jar; paths are below the API's prefix, or, from a page on, whole."""

    def __init__(self, suite, prefix=API):
        super().__init__()
        self.suite, self.prefix = suite, prefix
        self.trust_env = False

    def request(self, method, path, **kw):
        kw.setdefault("timeout", 30)
        url = path if path.startswith("http") else self.suite.gui_url + self.prefix + path
        return super().request(method, url, **kw)

    def login(self, name, password="secret"):
        r = self.post("/account/login", json={"username": name, "password": password})
        assert r.status_code == 200, r.text
        return r.json()["id"]


def ccm_user(suite, *words, password=None):
    """`ccm user ...` beside the running daemon."""
    return subprocess.run([str(BIN / "ccm"), "user", "-c", str(suite.ini), *words], capture_output=True, text=True, timeout=30,
                          input=None if password is None else password + "\n",
                          stdin=subprocess.DEVNULL if password is None else None,
                          env=dict(os.environ, ASAN_OPTIONS="exitcode=99:detect_leaks=1"))


def account(suite, name, password="secret", admin=False):
    """A new one, logged in."""
    done = ccm_user(suite, "add", *(["--admin"] if admin else []), name, password=password)
    assert done.returncode == 0, done.stderr
    browser = Browser(suite)
    browser.u_id = browser.login(name, password)
    return browser


@pytest.fixture(scope="module")
def suite(request):
    s = Suite(start=("broker", "csm", "agent", "ccm"))
    yield s
    s.close()


@pytest.fixture(scope="module")
def admin(suite):
    return account(suite, "root", admin=True)


@pytest.fixture
def user(suite):
    return account(suite, next(names))


@pytest.fixture
def anyone(suite):
    return Browser(suite)


def is_error(r, status, reason=None):
    assert r.status_code == status, r.text
    assert r.json()["state"] == "error" and set(r.json()) == {"state", "reason"}
    if reason is not None:
        assert re.search(reason, r.json()["reason"]), r.json()
    return True


def store(suite):
    return sqlite3.connect(suite.userdir / "iottalk-gui.db", timeout=10)


def raw(suite, data, timeout=10):
    """All that comes back for these bytes, until the server closes."""
    with socket.create_connection(("127.0.0.1", suite.gui_port), timeout=timeout) as s:
        s.sendall(data)
        answer = b""
        while True:
            try:
                part = s.recv(65536)
            except ConnectionResetError:
                break
            if not part:
                break
            answer += part
        return answer


def status_of(answer):
    return int(re.match(rb"HTTP/1.1 (\d+)", answer)[1])
