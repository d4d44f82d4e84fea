"""Fixtures: `suite` is shared by the tests of a file (settings in the file's SETTINGS); `make_suite` gives a test its own. A file
with TRANSPORTS = ("client", "plugin") has all its tests run once over each."""

import signal

import pytest

import suite as suites
from clients import DeviceApi, GraphClient, HttpApi, Mqtt, Sdk

TEST_LIMIT_S = 180   # only a failure takes so long


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): this test may take longer than the usual %d s" % TEST_LIMIT_S)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for s in suites.alive:
            for name, tail in s.logs().items():
                report.sections.append(("end of the log of %s" % name, tail))


def pytest_sessionfinish(session):
    """A fixture that failed while it was being made has nobody who ends its suite."""
    for s in list(suites.alive):
        s.abort()


@pytest.fixture(autouse=True)
def time_limit(request):
    """A test that waits for ever fails instead."""
    marker = request.node.get_closest_marker("limit")
    seconds = marker.args[0] if marker else TEST_LIMIT_S

    def out_of_time(signum, frame):
        raise TimeoutError("the test took more than %d s" % seconds)

    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pytest_generate_tests(metafunc):
    transports = getattr(metafunc.module, "TRANSPORTS", None)
    if transports and "transport" in metafunc.fixturenames:
        metafunc.parametrize("transport", transports, indirect=True, scope="module")


@pytest.fixture(scope="module")
def transport(request):
    return getattr(request, "param", "auto")


@pytest.fixture(scope="module")
def suite(request, transport):
    s = suites.Suite(getattr(request.module, "SETTINGS", {}), transport=transport)
    yield s
    s.close()


@pytest.fixture
def make_suite(transport):
    made = []

    def make(settings=None, **kw):
        kw.setdefault("transport", transport)
        made.append(suites.Suite(settings, **kw))
        return made[-1]

    yield make
    failures = []
    for s in made:
        try:
            s.close()
        except AssertionError as e:
            failures.append(str(e))
    assert not failures, "\n".join(failures)


@pytest.fixture
def clients(request):
    """Makes clients of a suite that are closed when the test ends."""
    made = Made()
    yield made
    made.close()


class Made:
    def __init__(self):
        self.all = []

    def add(self, client):
        self.all.append(client)
        return client

    def mqtt(self, suite, **kw):
        return self.add(Mqtt(suite, **kw))

    def sdk(self, suite, cls=Sdk, **kw):
        return self.add(cls(suite, **kw))

    def graph(self, suite, graph="1", client_id=None, mqtt=None):
        return GraphClient(mqtt or self.mqtt(suite), client_id, graph)

    def device_api(self, suite, client_id=None, mqtt=None):
        return DeviceApi(mqtt or self.mqtt(suite), client_id)

    def http(self, suite):
        return HttpApi(suite)

    def close(self):
        for client in reversed(self.all):
            client.close()
