"""The example of the IoTtalk core's own README: its betacat.py and api.sh, in data/ word for word, with only ports replaced."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clients import HttpApi, Inbox

TRANSPORTS = ("client", "plugin")

DATA = Path(__file__).parent / "data"
BETACAT = "df682f01-7c3a-49fd-8f5f-72ce0b6e68c0"
INT_DIGEST = "f87d5c678bdd9e4b1b5f278c29cdf9a0fd01198060d8c6f3a34a6a05ae536e50"
SQUARE_DIGEST = "70e3d32f1c6abde67d607e3ce77dc286ecf5d0f42fcd18e6336fac5e19a6e07c"


def printed(name, folder, *replacements):
    text = (DATA / name).read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path = folder / name
    path.write_text(text)
    return str(path)


def run_api_sh(suite, clients, folder, *shell, replacements=()):
    """ret: the graph, once all that is asked of it is answered."""
    g = clients.graph(suite, client_id="gui")
    script = printed("api.sh", folder, ("mosquitto_pub ", "mosquitto_pub -p %d " % suite.mqtt_port), *replacements)
    # as a terminal would: with its aliases; bash's echo leaves the \n of the sources to JSON
    subprocess.run([*(shell or ("bash", "-O", "expand_aliases")), script], check=True, timeout=30, stdin=subprocess.DEVNULL)
    answers = [g.answers.get().json for _ in range(5)]
    assert [a["op"] for a in answers] == ["attach", "add_funcs", "add_link", "add_link", "set_join"]
    assert {a["state"] for a in answers} == {"ok"} and not any(a.get("pending") for a in answers)
    return g


@pytest.fixture
def betacat(suite, tmp_path):
    script = printed("betacat.py", tmp_path, ("localhost:9992", "localhost:%d" % suite.http_port),
                     ("port=1883", "port=%d" % suite.mqtt_port))
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    yield process
    process.kill()
    process.communicate()


def test_betacat_and_api_sh_as_printed(suite, clients, betacat, tmp_path):
    """Scalar payloads, QoS 0 everywhere, no param_no, the whole command echoed as the answer."""
    mqtt = clients.mqtt(suite)
    up, down = mqtt.subscribe(BETACAT + "/ctrl/i"), mqtt.subscribe(BETACAT + "/ctrl/o")
    up.get(lambda m: m.json.get("state") == "online", 20)
    g = run_api_sh(suite, clients, tmp_path)
    commands = [down.get(lambda m: m.json["command"] == "CONNECT").json for _ in range(2)]
    assert {mode for c in commands for mode in ("idf", "odf") if c.get(mode) == "meow"} == {"idf", "odf"}
    g.until_link(BETACAT, "idf", "meow", "connected")   # the echo with "state" counts as the answer
    assert g.state()["join"] == SQUARE_DIGEST
    topics = {("idf" if "idf" in c else "odf"): c["topic"] for c in commands}
    outs = Inbox()
    ready = threading.Event()
    mqtt.subscribe_then(topics["odf"], 0, outs.put, ready.set)
    assert ready.wait(10)
    squares = {n ** 2 for n in range(100)}      # what was on its way before the join comes first
    outs.wait_for(lambda all: len(all) >= 100 and {json.loads(m.payload) for m in all[-100:]} <= squares)
    betacat.kill()
    g.ok("detach")


def test_the_walk_through_with_plain_tools(suite, clients, tmp_path):
    """One value by mosquitto_pub, its square by mosquitto_sub."""
    sdk = clients.sdk(suite, name="BetaCat", da_id=BETACAT)
    g = run_api_sh(suite, clients, tmp_path)
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    server = ["-h", "127.0.0.1", "-p", str(suite.mqtt_port)]
    # -E ends when the subscription stands: a session of its own keeps the result for the next call
    session = ["-i", "walk-through", "-c", "-q", "1", "-t", sdk.topics[("odf", "meow")]]
    subprocess.run(["mosquitto_sub", *server, *session, "-E"], check=True, timeout=20)
    subprocess.run(["mosquitto_pub", *server, "-q", "1", "-t", sdk.topics[("idf", "meow")], "-m", "7"], check=True, timeout=20)
    out = subprocess.run(["mosquitto_sub", *server, *session, "-C", "1", "-W", "10"], check=True, timeout=20, capture_output=True)
    assert out.stdout.strip() == b"49"
    g.ok("detach")


def test_the_digests_are_those_of_the_readme(suite, clients, tmp_path):
    g = run_api_sh(suite, clients, tmp_path)
    assert g.state()["join"] == SQUARE_DIGEST
    g.ok("set_df_func", da_id=BETACAT, idf="meow", prev=INT_DIGEST, new=None)
    g.ok("detach")


def test_betacat_registers_with_the_prefix_too(suite, tmp_path):
    script = printed("betacat.py", tmp_path, ("localhost:9992/", "localhost:%d/csm/" % suite.http_port),
                     ("port=1883", "port=%d" % suite.mqtt_port), ("client.loop_forever()", "client.disconnect()"))
    subprocess.run([sys.executable, script], check=True, timeout=30)
    assert HttpApi(suite).get(BETACAT).json()["name"] == "BetaCat"


def test_dash_can_run_it_with_printf(suite, clients, tmp_path):
    g = run_api_sh(suite, clients, tmp_path, "sh", replacements=[('echo "$ADD_FUNCS"', "printf '%s\\n' \"$ADD_FUNCS\"")])
    assert g.state()["join"] == SQUARE_DIGEST
    g.ok("detach")
