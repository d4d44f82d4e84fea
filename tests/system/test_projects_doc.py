"""docs/projects.rst: its example runs as printed, from the first account to the end, and the numbers come back squared."""

import os
import re
import subprocess

from clients import Sdk
from suite import BIN, ROOT
from test_docs import blocks

PAGE = (ROOT / "docs" / "projects.rst").read_text()
DEVICE = re.search(r"^    DEVICE=(\S+)$", PAGE, re.M)[1]


class Reader:
    """One shell, in which the blocks are pasted one after the other; only places are other ones."""

    def __init__(self, suite, folder):
        self.suite, self.folder, self.seen = suite, folder, []

    def paste(self, block):
        for port, ours in (("7788", self.suite.gui_port), ("9992", self.suite.http_port)):
            block = re.sub(r"localhost:%s\b" % port, "127.0.0.1:%d" % ours, block)
        self.seen.append(re.sub(r"(?m)(^|\| )iotctl ", r"\1%s -c %s " % (BIN / "iotctl", self.suite.ini), block))
        return self

    def run(self):
        """All that was pasted. ret: what it prints"""
        done = subprocess.run(["bash", "-eu", "-o", "pipefail", "-c", "\n".join(self.seen)], cwd=self.folder, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60, env=dict(os.environ, HOME=str(self.folder)))
        assert done.returncode == 0, done.stdout + done.stderr
        self.seen = [line for block in self.seen for line in block.split("\n") if re.match(r"[A-Z]+=\S*$|\w+\(\) ", line)]
        return done.stdout


def test_the_example_runs_as_printed(make_suite, clients, tmp_path):
    suite = make_suite(start=("broker", "csm", "agent", "ccm"))
    steps = blocks(PAGE, "shell")
    (on,) = [i for i, block in enumerate(steps) if '"status": "on"' in block]
    reader = Reader(suite, tmp_path)
    for block in steps[:on + 1]:
        reader.paste(block)
    out = reader.paste("echo PROJECT=$PROJECT").run()

    # the device comes online as its SDK would, and gets what the page promises
    device = clients.add(Sdk(suite, ("Dummy_Sensor",), ("Dummy_Control",), name="dummy", da_id=DEVICE, model="Dummy_Device"))
    device.until_connected(("idf", "Dummy_Sensor"), ("odf", "Dummy_Control"))
    device.push("Dummy_Sensor", [7])
    assert device.received("Dummy_Control") == [49]

    project = re.search(r"^PROJECT=(\d+)$", out, re.M)[1]
    reader.paste("PROJECT=" + project)
    for block in steps[on + 1:]:
        reader.paste(block)
    out = reader.run()
    assert "squares again is project " in out and "return x ** 2" in out and DEVICE in out and "squares is off" in out
    assert not (tmp_path / "cookies.txt").exists()


def test_its_commands_are_those_of_iotctl():
    text = subprocess.run([str(BIN / "iotctl"), "man", "iotctl"], capture_output=True, text=True, check=True).stdout.replace("\\-", "-")
    for command in re.findall(r"^``(?:iotctl )?(\w+) ", PAGE.split("\nOn the command line\n")[1], re.M):
        assert ".SS iotctl %s " % command in text, command
