"""iotctl device check, doc, scan, decode: what is done with device files and field devices without any daemon."""

import json
import re
import struct
import subprocess
from pathlib import Path

import pytest

from modbus_peers import Line, pymodbus_server
from suite import BIN, free_ports

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/devices.rst").read_text()
TYPES = ["modbus_master", "modbus_slave", "ping"]
LATER = ["iec101_master", "iec101_slave", "iec103_master", "iec104_master", "iec104_slave", "snmp_manager", "snmp_trap_listener",
         "iec61850_client", "smpp_client"]
TEMPLATES = sorted(p.stem for p in (ROOT / "conf/templates").glob("*.json"))
TCP = {"connection": {"transport": {"type": "TCP", "host": "127.0.0.1"}}}
SLAVE = {"transport": {"type": "TCP", "local_host": "127.0.0.1", "local_port": 1502, "remote_hosts": None, "max_connections": None,
                       "response_timeout": 5, "keep_alive_timeout": None}}


def iotctl(*args, rc=0, program="iotctl", **kw):
    done = subprocess.run([str(BIN / program), *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, **kw)
    assert done.returncode == rc, "%s: %d, wanted %d\n%s%s" % (args, done.returncode, rc, done.stdout, done.stderr)
    return done


def blocks(text):
    return [re.sub(r"^    ", "", b, flags=re.M) for b in re.findall(r"^\.\. code-block:: json\n\n((?:    .*\n|\n)+)", text, re.M)]


def device_file(folder, *devices, **more):
    path = folder / "devices.json"
    path.write_text(json.dumps(dict({"name": "gw1", "devices": devices}, **more)))
    return str(path)


def ping(name="net", **more):
    return dict({"type": "ping", "name": name, "remote_devices": [
        {"name": "router", "host": "127.0.0.1", "ping_delay": 10, "ping_timeout": 1, "retry_count": 2, "retry_delay": 0.5}]}, **more)


def errors_of(path, rc=1):
    told = json.loads(iotctl("device", "check", "--json", path, rc=rc).stdout)
    return told["errors"], told["warnings"]


# ---- check


def test_a_good_file_is_told_to_be_good(tmp_path):
    path = device_file(tmp_path, ping(), ping("other"))
    done = iotctl("device", "check", path)
    assert (done.stdout, done.stderr) == ("%s: 2 devices, no error, 0 warnings\n" % path, "")
    assert json.loads(iotctl("device", "check", path, "--json").stdout) == {"file": path, "devices": 2, "errors": [], "warnings": []}
    assert iotctl("device", "check", path, program="gateway-agent").stdout == done.stdout


@pytest.mark.parametrize("kind", TYPES)
def test_the_example_of_each_type_is_a_good_device(tmp_path, kind):
    example, = blocks(iotctl("device", "doc", kind).stdout)
    device = json.loads(example)
    assert device["type"] == kind
    assert errors_of(device_file(tmp_path, device), rc=0) == ([], [])
    module = {"modbus_master": "modbus.master", "modbus_slave": "modbus.slave"}.get(kind, kind)
    del device["type"]
    assert errors_of(device_file(tmp_path, dict(device, module="hat.gateway.devices." + module)), rc=0) == ([], [])


def test_everything_wrong_is_told_with_its_place(tmp_path):
    good = {"name": "p", "interval": 1, "data_type": "HOLDING_REGISTER", "start_address": 0, "bit_count": 16}
    master = json.loads(blocks(iotctl("device", "doc", "modbus_master").stdout)[0])
    master["remote_devices"][0]["data"] = [
        good, dict(good, name="q", bit_count=65), dict(good, name="r", data_type="COILS"), dict(good, name="s", interval="1"),
        dict(good, name="t", bit_cuont=3)]
    master["connection"]["transport"]["port"] = 70000
    del master["connection"]["connect_delay"]
    path = device_file(tmp_path, ping(), master, ping(), {"type": "pong", "name": "x"}, bus_loss_grace=-1, mqtt={"tls": {}})
    errors, warnings = errors_of(path)
    found = dict(e.split(": ", 1) for e in errors)
    assert list(found) == [
        "mqtt.tls", "bus_loss_grace", "devices[1].connection.transport.port", "devices[1].connection.connect_delay",
        "devices[1].remote_devices[0].data[1].bit_count", "devices[1].remote_devices[0].data[2].data_type",
        "devices[1].remote_devices[0].data[3].interval", "devices[3].type", "devices[2].name"]
    assert found["devices[1].remote_devices[0].data[1].bit_count"] == "must be an integer from 1 to 64"
    assert found["devices[1].remote_devices[0].data[2].data_type"].endswith("(did you mean COIL?)")
    assert found["devices[3].type"] == "pong is no device type (did you mean ping?); there are: " + ", ".join(TYPES)
    assert found["devices[2].name"] == "there is another ping 'net'"
    assert warnings == ["devices[1].remote_devices[0].data[4].bit_cuont: is not known (did you mean bit_count?)"]
    told = iotctl("device", "check", path, rc=1)
    assert told.stdout == "" and told.stderr.splitlines() == sorted(
        ["error: " + e for e in errors] + ["warning: " + w for w in warnings], key=told.stderr.index)


def test_what_points_keep_needs_a_store(tmp_path):
    master = json.loads(blocks(iotctl("device", "doc", "modbus_master").stdout)[0])
    points = master["remote_devices"][0]["data"]
    points[0]["keep"] = "none"
    assert errors_of(device_file(tmp_path, master), rc=0) == ([], [])
    points[1]["keep"] = points[2]["keep"] = "all"
    assert errors_of(device_file(tmp_path, ping(), master), rc=0) == (
        [], ["devices[1].store: is missing: nothing is kept, whatever `keep` of its points says"])
    assert errors_of(device_file(tmp_path, ping(), dict(master, store={})), rc=0) == ([], [])


def test_a_feature_that_is_taken_is_told(tmp_path):
    master = json.loads(blocks(iotctl("device", "doc", "modbus_master").stdout)[0])
    points = master["remote_devices"][0]["data"][:4]
    for point, name, feature in zip(points, ("a", "b", "c", "Up"), ("link", None, "b_ack", "up")):
        point["name"] = name
        if feature:
            point["feature"] = feature
    points[1]["data_type"] = "HOLDING_REGISTER"   # one that is written has b_set and b_ack, too
    master["remote_devices"][0]["data"] = points
    assert errors_of(device_file(tmp_path, ping(), master), rc=0) == (
        [], ["devices[1]: feature 'link' of point 'a' is taken; it becomes 'link_2'",
             "devices[1]: feature 'b_ack' of point 'c' is taken; it becomes 'b_ack_2'"])


LINE = {"type": "SERIAL", "port": "/dev/ttyS0", "baudrate": 19200, "parity": "EVEN"}


@pytest.mark.parametrize("carrier", ["TCP", "SERIAL"])
@pytest.mark.parametrize("framing", ["TCP", "RTU", "ASCII"])
@pytest.mark.parametrize("kind", ["modbus_master", "modbus_slave"])
def test_valid_conf(tmp_path, kind, framing, carrier):
    """Any framing goes over any transport; characters that are too short for it are an error."""
    device = json.loads(blocks(iotctl("device", "doc", kind).stdout)[0])
    end, place = (device["connection"], "connection.") if kind == "modbus_master" else (device, "")
    end["modbus_type"] = framing
    if carrier == "SERIAL":
        end["transport"] = dict(LINE, **({} if kind == "modbus_master" else {"response_timeout": 5, "keep_alive_timeout": 60}))
    assert errors_of(device_file(tmp_path, device), rc=0) == ([], [])
    if carrier == "SERIAL":
        end["transport"]["bytesize"] = "SIXBITS"
        errors, _ = errors_of(device_file(tmp_path, device))
        assert errors == ["devices[0].%stransport.bytesize: %s needs characters of %s" % (
            place, framing, "7 or 8 bits" if framing == "ASCII" else "8 bits")]


def test_points_that_contradict_themselves_are_told_with_their_place(tmp_path):
    master = json.loads(blocks(iotctl("device", "doc", "modbus_master").stdout)[0])
    master["remote_devices"][0]["data"][1].update(format="float32", bit_count=16, order="big")
    errors, _ = errors_of(device_file(tmp_path, master))
    assert errors == ["devices[0].remote_devices[0].data[1].format: float32 needs a point of 32 bits"]


@pytest.mark.parametrize("kind", LATER)
def test_a_type_of_later_is_no_unknown_word(tmp_path, kind):
    errors, _ = errors_of(device_file(tmp_path, {"type": kind, "name": "x"}))
    assert errors == ["devices[0].type: %s is not part of this version; there are: %s" % (kind, ", ".join(TYPES))]
    assert "Not part of this version" in iotctl("device", "doc", kind).stdout


@pytest.mark.parametrize("text, told", [
    ('{"name": "a",\n "devices": [}', "line 2, column 14: "),
    ('{"name": "a", "devices": [], "name": "b"}', "duplicate"),
    ("", "line 1, column 0: "),
    ("[]", "must be an object"),
    ('{"name": "a", "devices": [], "timezone": "Europe/Nowhere"}', "timezone: must be a time zone"),
    ('{"name": "\\u0001", "devices": []}', "name: must not have control characters"),
])
def test_files_that_are_none(tmp_path, text, told):
    path = tmp_path / "devices.json"
    path.write_text(text)
    assert told in iotctl("device", "check", str(path), rc=1).stderr


def test_files_that_are_not_there(tmp_path):
    assert "No such file" in iotctl("device", "check", str(tmp_path / "none.json"), rc=1).stderr
    assert "is no file" in iotctl("device", "check", str(tmp_path), rc=1).stderr


def test_wrong_command_lines(tmp_path):
    for args in (["check"], ["check", "a", "b"], ["doc", "ping", "ping"], ["doc", "--json"], ["check", "--field", "a"], ["none"],
                 ["scan"], ["scan", "a", "b"], ["decode"], ["check", "--units", "1-2", "a"]):
        iotctl("device", *args, rc=2)
        iotctl("device", *args, rc=2, program="gateway-agent")
    assert "pong is no device type" in iotctl("device", "doc", "pong", rc=2).stderr


def test_a_large_file_is_checked(tmp_path):
    point = {"interval": 1, "data_type": "HOLDING_REGISTER", "bit_count": 16}
    master = json.loads(blocks(iotctl("device", "doc", "modbus_master").stdout)[0])
    master["remote_devices"][0]["data"] = [dict(point, name="p%d" % i, start_address=i) for i in range(100)]
    path = device_file(tmp_path, *[dict(master, name="m%d" % i) for i in range(1000)])
    assert json.loads(iotctl("device", "check", "--json", path).stdout)["devices"] == 1000


# ---- templates


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_template_makes_a_good_device(tmp_path, name):
    template = json.loads((ROOT / "conf/templates" / (name + ".json")).read_text())
    assert (template["template"], template["notes"] != "") == (name, True)
    device = dict(SLAVE if template["type"] == "modbus_slave" else TCP, name="a", template="%s@%d" % (name, template["version"]))
    assert errors_of(device_file(tmp_path, device, dict(device, name="b", template=name, device_id=17, prefix="b_")), rc=0) == ([], [])
    assert re.search(r"^``%s`` " % name, PAGE, re.M)


def test_a_template_beside_the_file_comes_first(tmp_path):
    (tmp_path / "templates").mkdir()
    template = json.loads((ROOT / "conf/templates/plc_basic.json").read_text())
    template["device"]["remote_devices"][0]["data"][0]["start_address"] = -1
    (tmp_path / "templates/plc_basic.json").write_text(json.dumps(template))
    errors, _ = errors_of(device_file(tmp_path, dict(TCP, name="a", template="plc_basic")))
    assert errors == ["devices[0].remote_devices[0].data[0].start_address: must be an integer from 0 to 65535"]
    errors, _ = errors_of(device_file(tmp_path, dict(TCP, name="a", template="plc_basic@2")))
    assert len(errors) == 1 and errors[0].startswith("devices[0].template: there is no template plc_basic@2 in %s/templates or " % tmp_path)


# ---- the page


def test_the_page_is_what_the_tables_say():
    written, generated = re.split(r"^\.\. generated: .*\n\n", PAGE, flags=re.M)
    assert generated == iotctl("device", "doc").stdout, "run `make docs`"
    for kind in TYPES:
        assert iotctl("device", "doc", kind).stdout in generated
    for kind in LATER:
        assert "- ``%s``: " % kind in generated


def test_the_files_of_the_page_are_good(tmp_path):
    written = PAGE.split(".. generated:")[0]
    found = [json.loads(b) for b in blocks(written)]
    files = [f for f in found if "devices" in f]
    devices = [f for f in found if "connection" in f]
    stores = [f for f in found if "quota_bytes" in f]
    assert len(files) == 1 and len(devices) == 1 and len(stores) == 1
    assert errors_of(device_file(tmp_path, *files[0]["devices"], *devices, ping(store=stores[0])), rc=0) == ([], [])
    for line in re.findall(r"^    \$ iotctl (.*)", written, re.M):
        words = line.split()
        offered = iotctl("complete", "--", words[0], words[1]).stdout.split()
        assert words[1] in offered


# ---- scan and decode, against pymodbus


@pytest.fixture
def host():
    port, = free_ports(1)
    server = pymodbus_server("TCP", port)
    yield "127.0.0.1:%d" % port
    server.close()


ENDS = ["--addresses", "19990-20009"]   # both of pymodbus_server's units have 20000 of everything
FOUND = [{"data_type": t, "first": 19990, "last": 19999} for t in ("COIL", "DISCRETE_INPUT", "HOLDING_REGISTER", "INPUT_REGISTER")]


def test_scan_finds_units_and_what_they_let_read(host):
    told = json.loads(iotctl("device", "scan", host, "--units", "1-4", *ENDS, "--json").stdout)
    assert told == {"units": [{"unit": 1, "ranges": FOUND}, {"unit": 2, "ranges": FOUND}]}
    text = iotctl("device", "scan", host, "--units", "2", *ENDS, "--tables", "holding,coil").stdout
    assert text.split("\n") == ["unit 2 answers", "unit 2", "  COIL             19990 to 19999", "  HOLDING_REGISTER 19990 to 19999", ""]
    assert iotctl("device", "scan", host, "--units", "2", *ENDS, "--tables", "HOLDING_REGISTER,coil").stdout == text
    assert iotctl("device", "scan", host, "--units", "0-3", "--tables", "none").stdout == "unit 1 answers\nunit 2 answers\n"


def test_scan_tells_which_words_are_wrong():
    told = iotctl("device", "scan", "192.0.2.1", "--units", "1,2", "--addresses", "0-65536", "--tables", "holding,relays", "--timeout", "0",
                  rc=2)
    assert told.stderr.splitlines() == [
        "error: --units 1,2: must be FIRST-LAST or one, of 0 to 255", "error: --addresses 0-65536: must be FIRST-LAST or one, of 0 to 65535",
        "error: --tables holding,relays: must be some of coil,discrete,holding,input, or none",
        "error: --timeout 0: must be seconds, 0.001 to 60"]


@pytest.mark.parametrize("framing", ["RTU", "ASCII"])
def test_scan_of_a_line(tmp_path, framing):
    line = Line(tmp_path)
    server = pymodbus_server(framing, line.far)
    told = json.loads(iotctl("device", "scan", str(line.near), "--line", "19200,8N1", "--framing", framing, "--units", "1-3",
                             "--tables", "input", *ENDS, "--json").stdout)
    assert told == {"units": [{"unit": u, "ranges": FOUND[3:]} for u in (1, 2)]}
    server.close()
    line.close()


def test_scan_of_nothing(host, tmp_path):
    assert iotctl("device", "scan", host, "--units", "8-9", "--timeout", "0.05", rc=1).stdout == "no unit answers\n"
    free, = free_ports(1)
    assert iotctl("device", "scan", "127.0.0.1:%d" % free, rc=1).stderr == \
        "error: 127.0.0.1:%d: connecting: Connection refused\n" % free
    assert "No such file" in iotctl("device", "scan", str(tmp_path / "none"), rc=1).stderr
    for args in (["127.0.0.1:99x"], ["127.0.0.1:70000"], [":502"], [host, "--units", "2-1"], [host, "--units", "0-256"],
                 [host, "--addresses", "0-65536"], [host, "--tables", "coils"], [host, "--framing", "tcp"], [host, "--timeout", "-1"], [host, "--timeout", "1s"], [host, "--timeout", "0"],
                 ["/dev/x", "--line", "19200,8X1"], ["/dev/x", "--line", "19200,8N"], ["/dev/x", "--line", "8N1"],
                 ["/dev/x", "--line", "12345"]):
        assert iotctl("device", "scan", *args, rc=2).stderr.startswith("error: ")


def test_decode_has_every_type_and_order():
    raw = struct.pack(">fq", 230.2, -2)
    words = struct.unpack(">6H", raw)
    rows = json.loads(iotctl("device", "decode", "--json", "--addresses", "100", *[hex(w) for w in words]).stdout)
    found = {(r["address"], r["type"], r.get("order")): r["value"] for r in rows}
    assert found[100, "float32", "ABCD"] == struct.unpack(">f", raw[:4])[0]
    assert found[100, "uint32", "CDAB"] == words[1] << 16 | words[0]
    assert found[100, "uint32", "BADC"] == struct.unpack("<H", raw[0:2])[0] << 16 | struct.unpack("<H", raw[2:4])[0]
    assert found[100, "uint32", "DCBA"] == struct.unpack("<I", raw[:4])[0]
    assert int(found[102, "int64", "ABCD"]) == -2 and int(found[102, "uint64", "ABCD"]) == 2 ** 64 - 2
    assert found[101, "int16", "BA"] == struct.unpack("<h", raw[2:4])[0]
    text = iotctl("device", "decode", *[str(w) for w in words]).stdout
    assert re.search(r"(?m)^ +0  float32  ABCD  230\.1999", text) and re.search(r"(?m)^ +2  int64 +ABCD +-2$", text)
    for word in ("65536", "-1", "0x", "x", "1-2"):
        assert "is no register" in iotctl("device", "decode", "--", word, rc=2).stderr


# ---- what is made of iotctl's table


def test_completion_knows_the_words():
    def complete(*words):
        return iotctl("complete", "--", "device", *words).stdout.split()
    assert complete("") == ["list", "show", "enable", "disable", "read", "write", "reload", "check", "doc", "scan", "decode"]
    assert complete("doc", "") == TYPES
    assert complete("doc", "modbus_s") == ["modbus_slave"]
    assert complete("--f") == ["--field", "--framing"]


def test_the_manual_page_has_the_words():
    page = iotctl("man", "iotctl").stdout
    for word in ("device .*reload", "wrong or odd in a device file", "units behind a host", "FIRST"):
        assert re.search(word, page)
