"""iotctl doctor: layers of the sandbox, the plugin, the way of the data, and what the exit status makes of them."""

import json
import shutil
import subprocess

import pytest

from suite import BIN

LACKING = {"layers": [{"name": "seccomp", "up": False, "core": True, "why": "the kernel has none", "remedy": "another kernel"},
                      {"name": "landlock", "up": False, "core": False, "why": "too old", "remedy": "a newer kernel"}]}


def doctor(ini, *args, rc=0, program=BIN / "iotctl"):
    done = subprocess.run([str(program), "-c", str(ini), "doctor", *args], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == rc, (done.returncode, done.stdout, done.stderr)
    return done


@pytest.fixture
def elsewhere(tmp_path):
    """iotctl beside an engine of the test's own, on no machine in particular."""
    shutil.copy2(BIN / "iotctl", tmp_path / "iotctl")

    def make(sandbox="strict", transport="auto", said=LACKING):
        engine = tmp_path / "iottalk-engine"
        engine.write_text("#!/bin/sh\n[ \"$1\" = --probe ] && cat <<'END'\n%s\nEND\n" % json.dumps(said))
        engine.chmod(0o755)
        ini = tmp_path / "iottalk.ini"
        ini.write_text("[core]\nuserdir = %s\n[engine]\nsandbox = %s\n[agent]\ntransport = %s\n" % (tmp_path / "userdir", sandbox, transport))
        return ini, tmp_path / "iotctl"
    return make


def test_this_machine(suite):
    report = json.loads(doctor(suite.ini, "--json").stdout)
    assert report["ok"] is True and report["sandbox"] == "strict"
    names = [layer["name"] for layer in report["layers"]]
    assert "seccomp" in names and len(names) == len(set(names))
    assert all(layer["up"] for layer in report["layers"] if layer["core"])
    assert all(layer["why"] and layer["remedy"] for layer in report["layers"] if not layer["up"])
    checks = {c["name"]: c for c in report["checks"]}
    assert checks["transport"]["ok"] and checks["transport"]["why"].split(":")[0] == suite.agent_status()["transport"]
    text = doctor(suite.ini).stdout
    assert all(name in text for name in names)


def test_a_missing_core_layer(elsewhere):
    ini, program = elsewhere()
    done = doctor(ini, rc=1, program=program)
    for word in ("the kernel has none", "another kernel", "a newer kernel", "no engine starts"):
        assert word in done.stdout
    ini, program = elsewhere("degraded")
    assert "warning" in doctor(ini, program=program).stdout
    report = json.loads(doctor(ini, "--json", program=program).stdout)
    assert report["ok"] is True and report["layers"] == LACKING["layers"]


def test_a_layer_that_is_not_core_may_be_missing(elsewhere):
    ini, program = elsewhere(said={"layers": LACKING["layers"][1:]})
    assert "a newer kernel" in doctor(ini, program=program).stdout


def test_an_engine_that_says_nothing(elsewhere, tmp_path):
    ini, program = elsewhere(said=[])
    assert "which layers" in doctor(ini, rc=1, program=program).stdout
    (tmp_path / "iottalk-engine").unlink()
    assert "No such file" in doctor(ini, rc=1, program=program).stdout


def test_the_plugin_is_needed_where_it_is_asked_for(elsewhere):
    ini, program = elsewhere("degraded", transport="plugin")
    checks = {c["name"]: c for c in json.loads(doctor(ini, "--json", rc=1, program=program).stdout)["checks"]}
    assert not checks["plugin socket"]["ok"] and "No such file" in checks["plugin socket"]["why"]
    assert "not there" in checks["plugin file"]["why"]


def test_misused(elsewhere):
    ini, program = elsewhere()
    assert "unexpected" in doctor(ini, "now", rc=2, program=program).stderr
    assert "xml" in doctor(ini, "--xml", rc=2, program=program).stderr
    assert "degraded" in doctor(ini, "--help", program=program).stdout
