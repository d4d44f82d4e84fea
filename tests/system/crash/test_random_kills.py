"""The seeded share of `make crash` that every run of the tests makes."""

import os

import pytest

from harness import crash

SECONDS = 90
SEED = int(os.environ.get("SEED", 20))


@pytest.mark.limit(SECONDS + 120)
def test_no_answer_is_broken_by_kills_at_random_points():
    print(crash(SEED, seconds=SECONDS))
