"""Users of ccm's REST API, as tests need them."""

import os
import subprocess

import requests

from suite import BIN

API = "/api/v0"


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
