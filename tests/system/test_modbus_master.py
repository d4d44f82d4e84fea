"""The device type modbus_master against servers of others: what is read and written, to the bit, and what the event bus and IoTtalk
are told of it."""

import json
import random
import struct
import socket

import pytest

from field_devices import GATEWAY, FieldDevice, closing, example_of  # noqa: F401: a fixture
from modbus_peers import (Line, RawServer, RtuServer, as_event, mbap, modbus_serial_server, pymodbus_server,
                          registers)
from suite import free_ports, until

ORDERS = ("big", "little", "big_swap", "little_swap")
SERVERS = ("pymodbus TCP", "pymodbus RTU over TCP", "pymodbus ASCII over TCP", "pymodbus RTU", "pymodbus ASCII", "modbus-serial TCP",
           "modbus-serial RTU")


def master(name, port, points, framing="TCP", line=None, remotes=None, **connection):
    """A device of the file."""
    transport = {"type": "SERIAL", "port": str(line.near), "baudrate": 19200} if line else \
        {"type": "TCP", "host": "127.0.0.1", "port": port}
    return {"type": "modbus_master", "name": name,
            "connection": dict({"modbus_type": framing, "transport": transport, "connect_timeout": 20, "connect_delay": 0.2,
                                "request_timeout": 20, "request_delay": 0, "request_retry_immediate_count": 1,
                                "request_retry_delayed_count": 0, "request_retry_delay": 0.2}, **connection),
            "remote_devices": remotes or [remote(points)]}


def remote(points, device_id=1, **more):
    return dict({"device_id": device_id, "timeout_poll_delay": 0.2, "data": points}, **more)


def point(name, table, address, count, offset=0, interval=0.1, **more):
    return dict({"name": name, "interval": interval, "data_type": table, "start_address": address, "bit_offset": offset,
                 "bit_count": count}, **more)


class Device(FieldDevice):
    def enable(self, on=True, units=(1,)):
        for unit in units:
            self.tell("remote_device/%d/enable" % unit, on, retain=True)
        self.tell("enable", on, retain=True)

    def read(self, name, value, unit=1):
        """Wait for a value of a point; ret: the event's payload."""
        return self.event("remote_device/%d/read/%s" % (unit, name), lambda p: p.get("value") == value)

    def write(self, name, value, request_id="r1", unit=1):
        self.tell("remote_device/%d/write/%s" % (unit, name), {"request_id": request_id, "value": value})
        answer = self.event("remote_device/%d/write/%s" % (unit, name))
        assert answer["request_id"] == request_id
        return answer["result"]

    def seen(self, path):
        """The payloads of a path that have come and were not taken yet, in order."""
        topic = self.prefix + "gateway/" + path
        return [m.json["payload"] for m in self.inbox.wait_for(lambda items: True) if m.topic == topic]


@pytest.fixture
def gateway(make_suite, clients, tmp_path):
    """gateway(device, ...) starts a suite whose agent has these devices; ret: the suite and each device's events."""
    def start(*devices):
        path = tmp_path / "devices.json"
        path.write_text(json.dumps({"name": GATEWAY, "devices": devices}))
        suite = make_suite({"agent.devices": path})
        mqtt = clients.mqtt(suite)
        return [suite] + [Device(mqtt, d["type"], d["name"]) for d in devices]
    return start


@pytest.fixture
def peer(request, closing, tmp_path):
    """(server, how a master reaches it) for a name of SERVERS."""
    library, framing, *over = request.param.split(" ", 2)
    line = None if over or framing == "TCP" else closing(Line(tmp_path))
    where = line.far if line else free_ports(1)[0]
    server = closing(pymodbus_server(framing, where) if library == "pymodbus" else modbus_serial_server(where))
    return server, {"port": None if line else where, "framing": framing, "line": line}


# ---- reading

@pytest.mark.parametrize("peer", SERVERS, indirect=True)
def test_every_type_and_order_is_read_to_the_bit(peer, gateway):
    server, reach = peer
    rng, points, values, address = random.Random(6), [], {}, {"HOLDING_REGISTER": 0, "INPUT_REGISTER": 0}
    for table in address:
        for count in (16, 32, 48, 64):
            for order in ORDERS:
                name = "%s_%d_%s" % (table[0], count, order)
                values[name] = rng.getrandbits(count) | 1 << (count - 1)
                server.set(table, address[table], *registers(values[name], count, order))
                points.append(point(name, table, address[table], count, order=order))
                address[table] += count // 16
    server.set("COIL", 0, 1, 0, 1, 1)
    server.set("DISCRETE_INPUT", 10, 1, 1)
    server.set("HOLDING_REGISTER", 200, 0x1234, 0x5678, 0x9abc, 0x4000)
    server.set("INPUT_REGISTER", 200, 0x0080)
    for name, table, at, offset, count, value in (
            ("coil_0", "COIL", 1, 0, 1, 0), ("coil_1", "COIL", 0, 0, 1, 1), ("coils", "COIL", 0, 0, 4, 0b1011),
            ("discrete", "DISCRETE_INPUT", 10, 0, 2, 3), ("middle", "HOLDING_REGISTER", 200, 8, 32, 0x3456789a),
            ("two", "HOLDING_REGISTER", 203, 0, 2, 1), ("eight", "INPUT_REGISTER", 200, 8, 2, 2)):
        points.append(point(name, table, at, count, offset))
        values[name] = value
    _, device = gateway(master("plc", points=points, **reach))
    device.enable()
    for name, value in values.items():
        assert device.read(name, as_event(value)) == {"result": "SUCCESS", "value": as_event(value), "cause": "INTERROGATE"}
    server.set("HOLDING_REGISTER", 0, 0x1111)
    server.set("DISCRETE_INPUT", 11, 0)
    assert device.read("H_16_big", 0x1111)["cause"] == "CHANGE"
    assert device.read("discrete", 2)["cause"] == "CHANGE"


@pytest.mark.parametrize("peer", ["pymodbus TCP", "modbus-serial TCP"], indirect=True)
def test_equal_values_and_other_units_are_not_told(peer, gateway):
    server, reach = peer
    server.set("HOLDING_REGISTER", 0, 7)
    server.set("HOLDING_REGISTER", 0, 8, unit=2)
    remotes = [remote([point("a", "HOLDING_REGISTER", 0, 16), point("tick", "HOLDING_REGISTER", 5, 16)]),
               remote([point("a", "HOLDING_REGISTER", 0, 16)], device_id=2)]
    _, device = gateway(master("plc", points=None, remotes=remotes, **reach))
    device.enable(units=(1, 2))
    device.read("a", 7)
    device.read("a", 8, unit=2)
    for i in range(1, 6):
        server.set("HOLDING_REGISTER", 5, i)
        device.read("tick", i)
    assert device.seen("remote_device/1/read/a") == []
    assert device.seen("remote_device/2/read/a") == []


def test_ten_thousand_registers_are_read_with_eighty_requests(gateway, closing):
    server = closing(RawServer())
    server.registers = {a: a & 0xffff for a in range(10000)}
    points = [point("p%d" % a, "HOLDING_REGISTER", a, 16, interval=0.5) for a in range(10000)]
    _, device = gateway(master("plc", server.port, points))
    device.enable()
    device.read("p9999", 9999)
    until(lambda: len(server.requests) >= 240, 20, "three cycles")
    cycles = [sorted(struct.unpack(">HH", pdu[1:5]) for _, pdu in server.requests[i:i + 80]) for i in (0, 80, 160)]
    assert cycles == [[(a, 125) for a in range(0, 10000, 125)]] * 3


def test_gaps_are_read_over_if_allowed_and_not_where_they_are_refused(gateway, closing):
    server = closing(RawServer())
    server.registers = {0: 1, 1: 2, 2: 3, 3: 4, 100: 5, 103: 6}
    points = [point("p%d" % a, "HOLDING_REGISTER", a, 16) for a in (0, 3, 100, 103)]
    _, device = gateway(master("plc", server.port, None, remotes=[remote(points, merge_gap=4)]))
    device.enable()
    for name, value in (("p0", 1), ("p3", 4), ("p100", 5), ("p103", 6)):
        assert device.read(name, value)["cause"] == "INTERROGATE"
    until(lambda: len(server.requests) >= 10, what="more polls")
    asked = [struct.unpack(">HH", pdu[1:5]) for _, pdu in server.requests]
    assert asked[:4] == [(0, 4), (100, 4), (100, 1), (103, 1)]
    assert (100, 4) not in asked[4:]


def test_a_queue_is_read_with_function_24(gateway, closing):
    server = closing(RawServer(answer=lambda unit, pdu: struct.pack(">BHHHH", 24, 6, 2, 0xbeef, 1)))
    _, device = gateway(master("plc", server.port, [point("q", "QUEUE", 9, 16)]))
    device.enable()
    device.read("q", 0xbeef)
    assert server.requests[0] == (1, struct.pack(">BH", 24, 9))


@pytest.mark.parametrize("code,result", [
    (1, "INVALID_FUNCTION_CODE"), (2, "INVALID_DATA_ADDRESS"), (3, "INVALID_DATA_VALUE"), (4, "FUNCTION_ERROR"),
    (5, "FUNCTION_ERROR"), (6, "FUNCTION_ERROR"), (8, "FUNCTION_ERROR"), (10, "GATEWAY_PATH_UNAVAILABLE"),
    (11, "GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND")])
def test_exceptions_are_told_at_every_poll_and_keep_the_connection(gateway, closing, code, result):
    server = closing(RawServer(answer=lambda unit, pdu: bytes([pdu[0] | 0x80, code])))
    _, device = gateway(master("plc", server.port, [point("a", "HOLDING_REGISTER", 0, 16)]))
    device.enable()
    for _ in range(3):
        assert device.event("remote_device/1/read/a") == {"result": result}
    assert device.write("a", 1) == result
    assert device.event("remote_device/1/status", lambda s: s == "CONNECTED")
    server.answer = server.from_registers
    server.registers = {0: 5}
    assert device.read("a", 5)["cause"] == "INTERROGATE"
    assert server.connects == 1


# ---- writing

WRITES = [("coil", "COIL", 0, 0, 1, 1), ("coils", "COIL", 10, 2, 2, 3), ("w16", "HOLDING_REGISTER", 0, 0, 16, 0x1234),
          ("w32", "HOLDING_REGISTER", 10, 0, 32, 0x12345678), ("w64", "HOLDING_REGISTER", 20, 0, 64, 0xfedcba9876543210)]
MASKED = [("first", "HOLDING_REGISTER", 30, 0, 2, 3), ("third", "HOLDING_REGISTER", 40, 2, 2, 3),
          ("m16", "HOLDING_REGISTER", 50, 8, 16, 0xffff), ("m32", "HOLDING_REGISTER", 60, 8, 32, 0x12345678)]


@pytest.mark.parametrize("peer", SERVERS, indirect=True)
def test_writes_leave_the_image_that_is_meant(peer, gateway, request):
    server, reach = peer
    library = request.node.callspec.params["peer"].split()[0]
    layouts = WRITES + (MASKED if library == "pymodbus" else [])   # modbus-serial's server has no mask write
    points = [point(name, table, address, count, offset, interval=None) for name, table, address, offset, count, _ in layouts]
    points += [point(order, "HOLDING_REGISTER", 100 + 4 * i, 32, interval=None, order=order) for i, order in enumerate(ORDERS)]
    _, device = gateway(master("plc", points=points, **reach))
    device.enable(units=())   # polling stays disabled
    device.event("status", lambda s: s == "CONNECTED")
    for name, _, _, _, _, value in layouts:
        assert device.write(name, as_event(value), request_id=name) == "SUCCESS"
    for i, order in enumerate(ORDERS):
        assert device.write(order, 0x12345678, request_id=i) == "SUCCESS"
        assert server.get("HOLDING_REGISTER", 100 + 4 * i, 2) == registers(0x12345678, 32, order)
    assert server.get("COIL", 0) == [1]
    assert server.get("COIL", 10, 5) == [0, 0, 1, 1, 0]
    assert server.get("HOLDING_REGISTER", 0, 2) == [0x1234, 0]
    assert server.get("HOLDING_REGISTER", 10, 3) == [0x1234, 0x5678, 0]
    assert server.get("HOLDING_REGISTER", 20, 5) == [0xfedc, 0xba98, 0x7654, 0x3210, 0]
    if library == "pymodbus":
        assert server.get("HOLDING_REGISTER", 30) == [0xc000]
        assert server.get("HOLDING_REGISTER", 40) == [0x3000]
        assert server.get("HOLDING_REGISTER", 50, 2) == [0x00ff, 0xff00]
        assert server.get("HOLDING_REGISTER", 60, 3) == [0x0012, 0x3456, 0x7800]


def test_a_write_that_fails_in_the_middle_stops(gateway, closing):
    def answer(unit, pdu):
        return bytes([pdu[0] | 0x80, 3]) if pdu[0] == 6 else pdu
    server = closing(RawServer(answer=answer))
    _, device = gateway(master("plc", server.port, [point("a", "HOLDING_REGISTER", 0, 32, 8, interval=None)]))
    device.enable(units=())
    device.event("status", lambda s: s == "CONNECTED")
    assert device.write("a", 0x12345678) == "INVALID_DATA_VALUE"
    assert [pdu[0] for _, pdu in server.requests] == [22, 6]


def test_two_writes_to_one_point_keep_their_order_while_it_is_polled(gateway, closing, tmp_path):
    server = closing(pymodbus_server("TCP", free_ports(1)[0]))
    port = int(server.argv[-1])
    _, device = gateway(master("plc", port, [point("a", "HOLDING_REGISTER", 0, 16, 8, interval=0)]))
    device.enable()
    device.read("a", 0)
    for i in range(50):
        device.tell("remote_device/1/write/a", {"request_id": i, "value": i * 1000 + 1})
    answers = [device.event("remote_device/1/write/a") for _ in range(50)]
    assert answers == [{"result": "SUCCESS", "request_id": i} for i in range(50)]
    device.read("a", 49001)
    assert server.get("HOLDING_REGISTER", 0, 2) == [49001 >> 8, (49001 & 0xff) << 8]


# ---- the connection

@pytest.mark.parametrize("carrier", ["TCP", "SERIAL"])
@pytest.mark.parametrize("framing", ["TCP", "RTU", "ASCII"])
def test_create(gateway, closing, tmp_path, framing, carrier):
    """Any framing on any transport is connected."""
    if carrier == "SERIAL":
        reach = {"port": None, "line": closing(Line(tmp_path))}
    else:
        reach = {"port": closing(RawServer()).port}
    _, device = gateway(master("plc", points=[], framing=framing, **reach))
    device.enable()
    assert device.event("running", lambda running: running is True)
    assert [device.event("status") for _ in range(2)] == ["CONNECTING", "CONNECTED"]
    assert device.event("remote_device/1/status", lambda s: s != "DISABLED") == "CONNECTED"


def test_reconnect(gateway, closing):
    """A slave that closes gets a new connection, of the same instance."""
    server = closing(RawServer())
    server.registers = {0: 7}
    suite, device = gateway(master("plc", server.port, [point("a", "HOLDING_REGISTER", 0, 16)]))
    device.enable()
    device.read("a", 7)
    for value in (8, 9):
        server.registers = {0: value}
        server.cut()
        device.event("status", lambda s: s == "DISCONNECTED")
        device.event("status", lambda s: s == "CONNECTED")
        device.read("a", value)
    assert server.connects >= 3
    assert suite.control("agent", {"op": "device_show", "name": "plc"})["device"]["counters"]["creations"] == 1
    assert device.seen("running") == [False, True]


def test_master_perf_read(gateway, closing, tmp_path):
    """50 devices of 1,000 points on one serial line, asked for ten times more often than it can take: all are read, in turns, and what
    is missed is counted."""
    points = [point("r%d" % n, "HOLDING_REGISTER", n, 16, interval=0.1) for n in range(1000)]
    line = closing(Line(tmp_path))
    closing(RtuServer(line.far, lambda unit, address: unit << 8 | address & 0xff))
    device = master("plc", None, None, framing="RTU", line=line, remotes=[remote(points, unit, enabled=True) for unit in range(1, 51)])
    device["connection"]["transport"].update(baudrate=4000000, silent_interval=0)
    suite, device = gateway(device)
    device.enable(units=())

    def status():
        return suite.control("agent", {"op": "device_show", "name": "plc"}).get("device", {}).get("driver")

    def polled():    # under load an answer may not come in time
        told = status()
        return told if told and all(r["polls"] >= 3 * 8 for r in told["remote_devices"]) else None
    told = until(polled, 120, "each device to be read three times")
    assert {(r["status"], r["groups"], r["timeouts"]) for r in told["remote_devices"]} == {("CONNECTED", 8, 0)}
    assert sum(r["missed"] for r in told["remote_devices"]) > 0
    polls = [r["polls"] for r in told["remote_devices"]]
    assert max(polls) - min(polls) <= 16    # nobody is starved
    for unit, name, value in ((1, "r0", 1 << 8), (50, "r999", 50 << 8 | 999 & 0xff)):
        device.read(name, value, unit=unit)


def test_statuses_and_reconnection(gateway, closing):
    port = free_ports(1)[0]
    server = closing(pymodbus_server("TCP", port))
    server.set("HOLDING_REGISTER", 0, 7)
    suite, device = gateway(master("plc", port, None, remotes=[
        remote([point("a", "HOLDING_REGISTER", 0, 16)]), remote([], device_id=2)]))
    device.enable()
    device.event("running", lambda running: running is True)
    assert [device.event("status") for _ in range(2)] == ["CONNECTING", "CONNECTED"]
    assert device.event("remote_device/2/status") == "DISABLED"
    assert [device.event("remote_device/1/status") for _ in range(2)] == ["CONNECTING", "CONNECTED"]
    assert device.read("a", 7)["cause"] == "INTERROGATE"
    server.stop()
    assert device.event("remote_device/1/status") == "DISABLED"
    assert [device.event("status") for _ in range(3)] == ["DISCONNECTED", "CONNECTING", "DISCONNECTED"]
    # a write now has no result; the next one, after the reconnection, has
    device.tell("remote_device/1/write/a", {"request_id": "lost", "value": 1})
    server.start()
    server.set("HOLDING_REGISTER", 0, 7)
    device.event("status", lambda s: s == "CONNECTED")
    assert device.read("a", 7)["cause"] == "INTERROGATE"
    assert device.write("a", 8, "found") == "SUCCESS"
    device.tell("remote_device/1/enable", False, retain=True)
    device.event("remote_device/1/status", lambda s: s == "DISABLED")
    device.tell("remote_device/1/enable", True, retain=True)
    device.read("a", 8)
    device.inbox.take_all()
    device.enable(False, units=())
    assert device.event("running") is False
    assert device.seen("remote_device/1/status") == ["DISABLED"]
    assert device.seen("status") == ["DISCONNECTED"]


def test_a_serial_line_that_goes_and_comes_back(gateway, closing, tmp_path):
    line = Line(tmp_path)
    server = pymodbus_server("RTU", line.far)
    server.set("HOLDING_REGISTER", 0, 7)
    _, device = gateway(master("plc", None, [point("a", "HOLDING_REGISTER", 0, 16)], framing="RTU", line=line,
                               request_timeout=1))   # what is asked while the new line has no server yet is lost
    device.enable()
    device.read("a", 7)
    server.close()
    line.close()
    device.event("status", lambda s: s == "DISCONNECTED")
    line = closing(Line(tmp_path))
    server = closing(pymodbus_server("RTU", line.far))
    server.set("HOLDING_REGISTER", 0, 9)
    assert device.read("a", 9)["cause"] == "INTERROGATE"


def test_a_peer_that_closes_at_once_is_not_stormed(gateway, closing):
    server = closing(RawServer(deaf=True))
    suite, device = gateway(master("plc", server.port, [point("a", "HOLDING_REGISTER", 0, 16)], connect_delay=5))
    device.enable()
    told = [device.whole_event("status") for _ in range(2 + 3 * 3)]
    assert [t["payload"] for t in told] == ["CONNECTING", "CONNECTED"] + 3 * ["DISCONNECTED", "CONNECTING", "CONNECTED"]
    assert told[-1]["timestamp"] - told[1]["timestamp"] > 2500000   # one a second
    assert suite.processes["agent"].log().count("modbus.disconnected") == 1   # nor is the log
    device.enable(False, units=())
    device.event("running", lambda running: running is False)


def test_stop_in_any_state(gateway, closing):
    """A device is closed at once, whatever it waits for, and so is the agent."""
    full = closing(socket.socket())         # what comes next is neither taken nor refused
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    fillers = [closing(socket.socket()) for _ in range(4)]
    for s in fillers:
        s.setblocking(False)
        s.connect_ex(full.getsockname())
    silent = closing(RawServer(answer=lambda unit, pdu: b""))
    where = {"connecting": ("127.0.0.1", full.getsockname()[1]), "resolving": ("no-host.invalid", 1502),
             "waiting": ("127.0.0.1", free_ports(1)[0]), "asking": ("127.0.0.1", silent.port)}
    devices = []
    for name, (host, port) in where.items():
        device = master(name, port, [point("a", "HOLDING_REGISTER", 0, 16)], connect_timeout=600, connect_delay=600, request_timeout=600)
        device["connection"]["transport"]["host"] = host
        devices.append(device)
    suite, *seen = gateway(*devices)

    for again in range(2):
        for device in seen:
            device.enable()
            device.event("running", lambda running: running is True)
        until(lambda: silent.requests, 10, "the request that is not answered")
        for device in seen if again == 0 else []:
            device.enable(False)
            device.event("running", lambda running: running is False)
        silent.requests.clear()
    suite.stop("agent")
    for device in seen:
        device.event("running", lambda running: running is False)


def test_a_silent_unit_is_disconnected_and_the_others_go_on(gateway, closing):
    silent = {1}
    registers_of = RawServer.from_registers

    def answer(unit, pdu):
        return b"" if unit in silent else registers_of(server, unit, pdu)
    server = closing(RawServer(answer=answer))
    server.registers = {0: 5}
    _, device = gateway(master("plc", server.port, None, request_timeout=1, remotes=[
        remote([point("a", "HOLDING_REGISTER", 0, 16)], device_id=unit) for unit in (1, 2)]))
    device.enable(units=(1, 2))
    assert [device.event("remote_device/1/status") for _ in range(3)] == ["CONNECTING", "DISCONNECTED", "CONNECTING"]
    assert device.read("a", 5, unit=2)["cause"] == "INTERROGATE"
    assert device.write("a", 1, unit=1) == "TIMEOUT"
    assert device.seen("remote_device/1/read/a") == []
    silent.clear()
    assert device.read("a", 5)["cause"] == "INTERROGATE"
    assert device.seen("remote_device/2/read/a") == []
    assert server.connects == 1


# ---- what is no answer

def good(pdu, value):
    return struct.pack(">BBH", pdu[0], 2, value)


STRANGE = {
    # before the right answer, which then counts
    "an old transaction": lambda t, u, pdu: [mbap(t - 1 & 0xffff, u, good(pdu, 666)), mbap(t, u, good(pdu, 5))],
    "another unit": lambda t, u, pdu: [mbap(t, u + 1, good(pdu, 666)), mbap(t, u, good(pdu, 5))],
    "another function": lambda t, u, pdu: [mbap(t, u, struct.pack(">BBH", 4, 2, 666)), mbap(t, u, good(pdu, 5))],
    "byte by byte": lambda t, u, pdu: [bytes([b]) for b in mbap(t, u, good(pdu, 5))],
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_does_not_match_is_passed_over(gateway, closing, kind):
    server = closing(RawServer(frames=STRANGE[kind]))
    _, device = gateway(master("plc", server.port, [point("a", "HOLDING_REGISTER", 0, 16)]))
    device.enable()
    assert device.read("a", 5)["cause"] == "INTERROGATE"
    until(lambda: len(server.requests) > 3, what="more polls")
    assert device.seen("remote_device/1/read/a") == []
    assert server.connects == 1


BROKEN = {
    "protocol id 1": lambda t, u, pdu: [mbap(t, u, good(pdu, 666), protocol=1)],
    "length 0": lambda t, u, pdu: [mbap(t, u, good(pdu, 666), length=0)],
    "length 1": lambda t, u, pdu: [mbap(t, u, good(pdu, 666), length=1)],
    "length 65535": lambda t, u, pdu: [mbap(t, u, good(pdu, 666), length=65535)],
    "a wrong byte count": lambda t, u, pdu: [mbap(t, u, struct.pack(">BBH", pdu[0], 4, 666))],
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_answer_ends_the_connection_and_the_next_one_works(gateway, closing, kind):
    broken = [True]

    def frames(transaction, unit, pdu):
        if broken and broken.pop():
            return BROKEN[kind](transaction, unit, pdu)
        return [mbap(transaction, unit, good(pdu, 5))]
    server = closing(RawServer(frames=frames))
    _, device = gateway(master("plc", server.port, [point("a", "HOLDING_REGISTER", 0, 16)]))
    device.enable()
    assert device.event("remote_device/1/read/a") == {"result": "SUCCESS", "value": 5, "cause": "INTERROGATE"}
    assert server.connects == 2


def test_half_an_answer_and_then_the_end(gateway, closing):
    halves = [True]

    def frames(transaction, unit, pdu):
        if halves and halves.pop():
            yield mbap(transaction, unit, good(pdu, 666))[:6]
            raise OSError("the connection ends here")
        yield mbap(transaction, unit, good(pdu, 5))
    server = closing(RawServer(frames=frames))
    _, device = gateway(master("plc", server.port, [point("a", "HOLDING_REGISTER", 0, 16)]))
    device.enable()
    assert device.event("remote_device/1/read/a") == {"result": "SUCCESS", "value": 5, "cause": "INTERROGATE"}
    assert server.connects == 2


def test_a_late_answer_is_not_that_of_the_next_request(gateway, closing):
    late = []

    def frames(transaction, unit, pdu):
        """The first request is answered together with the second."""
        late.append(mbap(transaction, unit, good(pdu, 666 if not late else 5)))
        return [] if len(late) == 1 else late if len(late) == 2 else [late[-1]]
    server = closing(RawServer(frames=frames))
    _, device = gateway(master("plc", server.port, [point("a", "HOLDING_REGISTER", 0, 16)], request_timeout=0.3))
    device.enable()
    assert device.event("remote_device/1/read/a")["value"] == 5


# ---- bad events

@pytest.mark.parametrize("peer", ["pymodbus TCP"], indirect=True)
def test_bad_events_do_nothing(peer, gateway):
    server, reach = peer
    _, device = gateway(master("plc", points=[point("a", "HOLDING_REGISTER", 0, 16), point("i", "INPUT_REGISTER", 0, 16)], **reach))
    device.enable()
    device.read("a", 0)
    for path, payload in (("remote_device/1/write/a", {"value": 1}), ("remote_device/1/write/a", {"request_id": 1}),
                          ("remote_device/1/write/a", {"request_id": 1, "value": -1}),
                          ("remote_device/1/write/a", {"request_id": 1, "value": 65536}),
                          ("remote_device/1/write/a", {"request_id": 1, "value": 10 ** 30}),
                          ("remote_device/1/write/a", b"\xff\xfe"), ("remote_device/1/write/a", b"[" * 100000),
                          ("remote_device/1/write/i", {"request_id": 1, "value": 1}),
                          ("remote_device/1/write/nothing", {"request_id": 1, "value": 1}),
                          ("remote_device/-1/write/a", {"request_id": 1, "value": 1}),
                          ("remote_device/1e3/write/a", {"request_id": 1, "value": 1}),
                          ("remote_device/9/enable", True), ("remote_device/1/enable", "yes"), ("nothing", 1)):
        device.tell(path, payload)
    assert device.write("a", 77, "good") == "SUCCESS"
    assert server.get("HOLDING_REGISTER", 0) == [77]


# ---- the page of the type

def test_the_example_of_its_page_runs(gateway, closing):
    example = example_of("modbus_master")
    port = example["connection"]["transport"]["port"] = free_ports(1)[0]
    server = closing(pymodbus_server("TCP", port))
    server.set("INPUT_REGISTER", 0, 215)
    server.set("HOLDING_REGISTER", 100, *registers(70000, 32, "little_swap"), 0x0a00)
    server.set("COIL", 7, 1)
    _, device = gateway(example)
    device.enable(units=())
    for name, value in (("temperature", 215), ("energy", 70000), ("mode", 5), ("pump", 1)):
        device.read(name, value)
    assert device.write("reset", 1) == "SUCCESS"
    assert server.get("COIL", 8) == [1]


# ---- IoTtalk

def test_a_register_goes_through_a_function_into_the_register_of_another_device(gateway, clients, closing):
    ports = free_ports(2)
    servers = [closing(pymodbus_server("TCP", port)) for port in ports]
    servers[0].set("INPUT_REGISTER", 0, 65536 - 150)
    suite, source, sink = gateway(
        master("source", ports[0], [point("temperature", "INPUT_REGISTER", 0, 16, signed=True, scale=0.1)]),
        master("sink", ports[1], [point("setting", "HOLDING_REGISTER", 5, 32, order="little_swap", interval=None)]))
    source.enable()
    sink.enable()
    source.read("temperature", 65536 - 150)
    devices = clients.device_api(suite)

    def registered():
        found = {da["profile"].get("device"): da["id"] for da in devices.attach().values() if da["state"] == "online"}
        return found if {"source", "sink"} <= found.keys() else None
    found = until(registered, 10, "both devices to be online")
    g = clients.graph(suite)
    g.ok("attach")
    code = "def run(x):\n    return [int(x) + 1000]\n"
    digest = g.add_funcs(code)
    g.ok("add_link", da_id=found["sink"], odf="setting_set", func=None)
    g.ok("add_link", da_id=found["source"], idf="temperature", func=digest)
    assert sink.event("remote_device/1/write/setting")["result"] == "SUCCESS"
    assert servers[1].get("HOLDING_REGISTER", 5, 2) == [985, 0]
    servers[0].set("INPUT_REGISTER", 0, 200)
    assert sink.event("remote_device/1/write/setting")["result"] == "SUCCESS"
    assert servers[1].get("HOLDING_REGISTER", 5, 2) == [1020, 0]
    # and back through the event view
    assert sink.write("setting", 42) == "SUCCESS"
    assert servers[1].get("HOLDING_REGISTER", 5, 2) == [42, 0]
