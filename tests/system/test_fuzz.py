"""Every fuzz target builds, and takes its seeds and a thousand inputs more: what was found once is not found again."""
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = sorted(p.stem[len("fuzz_"):] for p in (ROOT / "tests/fuzz").glob("fuzz_*.c"))


@pytest.fixture(scope="module")
def built():
    done = subprocess.run(["make", "-s", "-j2", "fuzz"], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return ROOT / "build/fuzz/bin"


@pytest.mark.limit(960)
@pytest.mark.parametrize("target", TARGETS)
def test_a_fuzz_target_takes_its_seeds_and_more(built, target, tmp_path):
    seeds, corpus = ROOT / "tests/fuzz/seeds" / target, tmp_path / "corpus"
    if seeds.exists():
        shutil.copytree(seeds, corpus)      # what is found grows in the first folder
    else:
        corpus.mkdir()
    done = subprocess.run([built / ("fuzz_" + target), "-runs=%d" % (1000 + len(list(corpus.iterdir()))), "-timeout=60", corpus],
                          cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Done" in done.stderr
