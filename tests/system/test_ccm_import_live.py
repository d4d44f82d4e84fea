import json
import subprocess

from ccm_clients import Rest, Wired, unique
from ccm_fixtures import suite
from suite import BIN

NEGATE_TWICE = "def run(*args):\n    return -2 * args[0]\n"


def test_an_imported_function_reaches_live_graphs(suite, clients, tmp_path):
    ann = Rest(suite, unique("ann"))
    w = Wired(suite, clients, ann)
    fn_id = next(f["fn_id"] for f in ann.ok("GET", "/function/")["fn_list"] if f["fn_name"] == "negate")
    w.set_functions("input", [fn_id])
    w.until_result([7], [-7])
    path = tmp_path / "f.json"
    path.write_text(json.dumps({"Function": [{"fn_name": "negate", "code": NEGATE_TWICE}]}))
    done = subprocess.run([str(BIN / "ccm"), "import", "-c", str(suite.ini), str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    w.until_result([7], [-14])
