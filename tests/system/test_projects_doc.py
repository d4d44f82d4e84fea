"""docs/projects.rst: its example runs as printed, from the first account to the end, and the numbers come back squared."""

import os
import re
import subprocess

from suite import BIN, ROOT
from test_docs import blocks

PAGE = (ROOT / "docs" / "projects.rst").read_text()
DEVICE = re.search(r"^    DEVICE=(\S+)$", PAGE, re.M)[1]


def here(block, suite):
    """What is printed, with the places of this test."""
    for port, ours in (("7788", suite.gui_port), ("9992", suite.http_port)):
        block = re.sub(r"localhost:%s\b" % port, "127.0.0.1:%d" % ours, block)
    block = block.replace("-h localhost -p 1883", "-h 127.0.0.1 -p %d" % suite.mqtt_port)
    return re.sub(r"(?m)(^| )iotctl (?=[a-z])", r"\1%s -c %s " % (BIN / "iotctl", suite.ini), block)


def test_the_example_runs_as_printed(make_suite, tmp_path):
    suite = make_suite(start=("broker", "csm", "agent", "ccm"))
    script = "\n".join(here(block, suite) for block in blocks(PAGE, "shell"))
    done = subprocess.run(["bash", "-eu", "-o", "pipefail", "-c", script], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=120, env=dict(os.environ, HOME=str(tmp_path)))
    out = done.stdout
    assert done.returncode == 0, out + done.stderr
    assert "\n[49]\n" in out and "return x ** 2" in out and DEVICE in out and "squares is off" in out
    assert "squares again is project " in out and "squares again (simulated)" in out
    assert not list(tmp_path.iterdir())


def test_its_commands_are_those_of_iotctl():
    text = subprocess.run([str(BIN / "iotctl"), "man", "iotctl"], capture_output=True, text=True, check=True).stdout.replace("\\-", "-")
    for command in re.findall(r"^``(?:iotctl )?(\w+) ", PAGE.split("\nOn the command line\n")[1], re.M):
        assert ".SS iotctl\\ %s " % command in text, command
