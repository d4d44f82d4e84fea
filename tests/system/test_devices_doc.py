"""docs/devices.rst: its example runs as printed with conf/examples, from the first enable to the value in the other register."""

import os
import re
import shutil
import subprocess

from suite import BIN, ROOT, free_ports
from test_docs import blocks
from test_projects_doc import here

PAGE = (ROOT / "docs/devices.rst").read_text()
EXAMPLES = ROOT / "conf/examples"


def test_the_example_runs_as_printed(make_suite, tmp_path):
    port, = free_ports(1)
    shutil.copytree(EXAMPLES, tmp_path / "conf/examples")
    devices = tmp_path / "conf/examples/devices.json"
    devices.write_text(devices.read_text().replace("1502", str(port)))
    suite = make_suite({"agent.devices": devices}, start=("broker", "csm", "agent", "ccm"))
    subprocess.run([BIN / "iotctl", "-c", suite.ini, "user", "add", "alice"], input="correct horse battery\n", text=True, check=True,
                   timeout=30, stdout=subprocess.DEVNULL)
    script = "\n".join(re.sub(r"(?m)(\$\(|\"\$\()iotctl ", r"\1%s -c %s " % (BIN / "iotctl", suite.ini), here(block, suite))
                       for block in blocks(PAGE, "shell"))
    done = subprocess.run(["bash", "-eu", "-o", "pipefail", "-c", script], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=120, env=dict(os.environ, HOME=str(tmp_path)))
    out = done.stdout
    assert done.returncode == 0, out + done.stderr
    for words in ("site is enabled; state: ", "\n1800\n", "idf  power", "2 features, 1 model made", "net is disabled; state: "):
        assert words in out, out
    assert re.search(r"^ +\d+ meter +gateway_modbus_master ", out, re.M)       # ccm knows it, once there is the model
    assert re.search(r"^links\n  idf  power .*\n(?: .*\n)*  odf  alarm_set ", out, re.M)
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["conf"]


def test_the_examples_are_sound(tmp_path):
    done = subprocess.run([BIN / "iotctl", "device", "check", EXAMPLES / "devices.json"], capture_output=True, text=True, timeout=30)
    assert done.stdout.endswith(": 4 devices, no error, 0 warnings\n"), done.stderr


def test_its_templates_are_those_that_there_are():
    table = PAGE.split("There\nare:\n")[1].split("\nCommands\n")[0]
    assert re.findall(r"^``(\w+)`` ", table, re.M) == sorted(p.stem for p in (ROOT / "conf/templates").glob("*.json"))
