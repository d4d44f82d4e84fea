"""What most tests of ccm begin with; a module imports what it uses: its own suite with all daemons, and users of it."""

import pytest

from ccm_clients import STARTED, Rest, unique
from suite import Suite


@pytest.fixture(scope="module")
def suite():
    s = Suite(start=STARTED)
    yield s
    s.close()


@pytest.fixture
def ann(suite):
    return Rest(suite, unique("ann"))


@pytest.fixture
def bob(suite):
    return Rest(suite, unique("bob"))
