"""The device type modbus_slave against masters of others: what they read and write, to the bit, and what the event bus and IoTtalk
are told of it and tell it."""

import struct

import pytest

from field_devices import FieldDevice, closing, example_of, registered_devices, start_gateway  # noqa: F401: fixtures
from modbus_masters import Mbpoll, NoAnswer, Raw, Refused, client
from modbus_peers import Line, as_event, registers
from suite import free_ports, until

ORDERS = ("big", "little", "big_swap", "little_swap")
CLIENTS = ("pymodbus TCP", "pymodbus RTU over TCP", "pymodbus ASCII over TCP", "pymodbus RTU", "pymodbus ASCII",
           "modbus-serial TCP", "modbus-serial RTU over TCP", "modbus-serial RTU", "modbus-serial ASCII", "jsmodbus TCP",
           "jsmodbus RTU", "mbpoll TCP", "mbpoll RTU")
HAVE_MASK = ("pymodbus", "modbus-serial TCP")   # modbus-serial waits for ever on its other ports


def slave(name, where, points, framing="TCP", **more):
    """A device of the file. where: a port, or a line."""
    if isinstance(where, int):
        transport = {"type": "TCP", "local_host": "127.0.0.1", "local_port": where, "remote_hosts": None, "max_connections": None,
                     "response_timeout": 20, "keep_alive_timeout": None}
    else:
        transport = {"type": "SERIAL", "port": str(where.near), "baudrate": 19200, "response_timeout": 20, "keep_alive_timeout": 60}
    transport.update(more.pop("transport", {}))
    return dict({"type": "modbus_slave", "name": name, "modbus_type": framing, "transport": transport, "data": points}, **more)


def point(name, table, address, count, offset=0, device_id=1, **more):
    return dict({"name": name, "device_id": device_id, "data_type": table, "start_address": address, "bit_offset": offset,
                 "bit_count": count}, **more)


class Device(FieldDevice):
    def set(self, name, value):
        self.tell("data/" + name, {"value": value}, retain=True)

    def written(self, **values):
        """The next write has these values; ret: its request id."""
        payload = self.event("write")
        assert {d["name"]: d["value"] for d in payload["data"]} == values
        return payload["request_id"]

    def respond(self, request_id, success=True):
        self.tell("write", {"request_id": request_id, "success": success})


@pytest.fixture
def gateway(start_gateway):
    """gateway(device, ...): a suite whose agent has these devices, enabled; ret: the suite and each device's events."""
    return lambda *devices: start_gateway(*devices, seen_as=Device)


@pytest.fixture
def way(request, closing, tmp_path):
    """(name, where the slave is, where the master reaches it, framing) for a name of CLIENTS."""
    _, framing, *over = request.param.split(" ", 2)
    if over or framing == "TCP":
        port = free_ports(1)[0]
        return request.param, port, port, framing
    line = closing(Line(tmp_path))
    return request.param, line, line.far, framing


def refused(call, *args, **kw):
    with pytest.raises(Refused) as told:
        call(*args, **kw)
    return told.value.code


def await_value(master, table, address, *values):
    until(lambda: master.read(table, address, len(values)) == list(values), 10, "%s %d to be %r" % (table, address, values))


# ---- masters of others

@pytest.mark.parametrize("way", CLIENTS, indirect=True)
def test_all_that_is_there_is_read_to_the_bit(way, gateway, closing):
    name, where, reach, framing = way
    points, image, values = [], {"HOLDING_REGISTER": [], "INPUT_REGISTER": []}, {}
    for table, cells in image.items():
        for count in (16, 32, 48, 64):
            for order in ORDERS:
                p = point("%s_%d_%s" % (table[0].lower(), count, order), table, len(cells), count, order=order)
                values[p["name"]] = 0xfedcba9876543210 >> 64 - count | 1
                cells.extend(registers(values[p["name"]], count, order))
                points.append(p)
    points += [point("coils", "COIL", 10, 5), point("inputs", "DISCRETE_INPUT", 65531, 5),
               point("middle", "HOLDING_REGISTER", 200, 32, offset=8), point("last", "INPUT_REGISTER", 65535, 16)]
    values.update(coils=0b10110, inputs=0b01101, middle=0x3456789a, last=0xabcd)
    _, device = gateway(slave("srv", where, points, framing))
    for point_name, value in values.items():
        device.set(point_name, as_event(value))
    master = closing(client(name, reach))
    await_value(master, "INPUT_REGISTER", 65535, 0xabcd)
    for table, cells in image.items():
        assert master.read(table, 0, len(cells)) == cells
    assert master.read("COIL", 10, 5) == [1, 0, 1, 1, 0]
    assert master.read("COIL", 12, 2) == [1, 1]
    assert master.read("DISCRETE_INPUT", 65531, 5) == [0, 1, 1, 0, 1]
    assert master.read("HOLDING_REGISTER", 200, 3) == [0x0034, 0x5678, 0x9a00]
    assert refused(master.read, "HOLDING_REGISTER", 200, 4) == 2
    assert refused(master.read, "COIL", 0, 1) == 2
    assert master.read("COIL", 14, 1) == [0]


@pytest.mark.parametrize("way", CLIENTS, indirect=True)
def test_all_writes_arrive_to_the_bit(way, gateway, closing):
    name, where, reach, framing = way
    points = [point("coil", "COIL", 0, 1), point("coils", "COIL", 4, 3), point("w", "HOLDING_REGISTER", 0, 16),
              point("middle", "HOLDING_REGISTER", 10, 16, offset=8)]
    points += [point(order, "HOLDING_REGISTER", 20 + 4 * i, 64, order=order) for i, order in enumerate(ORDERS)]
    _, device = gateway(slave("srv", where, points, framing))
    master = closing(client(name, reach))
    # jsmodbus takes the answer to "on" for broken over RTU: it computes the checksum of "off"
    master.write("COIL", 0, 1, many=name == "jsmodbus RTU")
    device.written(coil=1)
    master.write("COIL", 4, 1, 0, 1)
    device.written(coils=0b101)
    master.write("HOLDING_REGISTER", 0, 0xbeef)
    device.written(w=0xbeef)
    master.write("HOLDING_REGISTER", 10, 0xff12, 0x34ff)
    device.written(middle=0x1234)
    for i, order in enumerate(ORDERS):
        master.write("HOLDING_REGISTER", 20 + 4 * i, *registers(0xfedcba9876543210, 64, order))
        device.written(**{order: str(0xfedcba9876543210)})
    # they have been acknowledged, so they can be read
    assert master.read("COIL", 4, 3) == [1, 0, 1]
    assert master.read("HOLDING_REGISTER", 10, 2) == [0x0012, 0x3400]
    assert refused(master.write, "HOLDING_REGISTER", 1, 1) == 2
    if name.startswith(HAVE_MASK):
        master.mask(0, 0x00f2, 0x0025)
        device.written(w=0xbeef & 0x00f2 | 0x0025 & ~0x00f2)
        master.mask(10, 0xffff, 0x1234)   # protects all: success without an event
        master.write("COIL", 0, 0)
        device.written(coil=0)


@pytest.mark.parametrize("way", CLIENTS, indirect=True)
def test_device_ids_that_are_not_there(way, gateway, closing):
    name, where, reach, framing = way
    _, device = gateway(slave("srv", where, [point("a", "HOLDING_REGISTER", 0, 16),
                                             point("b", "HOLDING_REGISTER", 0, 16, device_id=7)], framing))
    master = closing(client(name, reach, seconds=3))
    master.write("HOLDING_REGISTER", 0, 5, unit=7)
    device.written(b=5)
    if isinstance(where, int):
        assert refused(master.read, "HOLDING_REGISTER", 0, 1, unit=13) == 2
    else:
        with pytest.raises(NoAnswer):
            master.read("HOLDING_REGISTER", 0, 1, unit=13)
    assert master.read("HOLDING_REGISTER", 0, 1, unit=7) == [5]
    assert master.read("HOLDING_REGISTER", 0, 1, unit=1) == [0]


# ---- acknowledgements

@pytest.fixture
def manual(gateway, closing):
    port = free_ports(1)[0]
    suite, device = gateway(slave("srv", port, [point("a", "HOLDING_REGISTER", 0, 16), point("b", "HOLDING_REGISTER", 1, 16)],
                                  manual_ack=True, transport={"response_timeout": 5}))
    return suite, device, port


def test_a_write_waits_for_its_answer(manual, closing):
    _, device, port = manual
    masters = [closing(Raw(port)) for _ in range(3)]
    ids = []
    for i, master in enumerate(masters):
        master.send(struct.pack(">BHH", 6, 0, i), transaction=i)
        ids.append(device.written(a=i))
        master.send(struct.pack(">BHH", 3, 0, 1), transaction=100 + i)   # read after the answer
    device.respond("nobody", True)
    for i, success in ((2, True), (0, False)):
        device.respond(ids[i], success)
        assert masters[i].answer() == (i, 1, struct.pack(">BHH", 6, 0, i) if success else b"\x86\x04")
        assert masters[i].answer() == (100 + i, 1, struct.pack(">BBH", 3, 2, 0))   # only an event changes it
    assert masters[1].answer() == (1, 1, b"\x86\x04")   # response_timeout
    assert len({*ids}) == 3
    device.respond(ids[1], True)
    device.set("a", 9)
    master = closing(client("pymodbus TCP", port))
    await_value(master, "HOLDING_REGISTER", 0, 9)


def test_data_events_that_do_not_fit_do_nothing(manual, closing):
    _, device, port = manual
    master = closing(client("pymodbus TCP", port))
    for path, payload in (("data/a", {"value": 65536}), ("data/a", {"value": -1}), ("data/a", {"value": 1.5}), ("data/a", {}),
                          ("data/a", 5), ("data/a", {"value": 10 ** 30}), ("data/a", b"\xff\xfe"), ("data/a", b"[" * 100000),
                          ("data/c", {"value": 1}), ("data/a/b", {"value": 1}), ("write", {"request_id": 1}), ("write", True),
                          ("nothing", 1)):
        device.tell(path, payload)
    device.set("b", 3)
    await_value(master, "HOLDING_REGISTER", 1, 3)
    assert master.read("HOLDING_REGISTER", 0, 1) == [0]


def test_stored_data_is_there_after_a_restart(manual, closing):
    suite, device, port = manual
    device.set("a", 0x1234)
    await_value(closing(client("pymodbus TCP", port)), "HOLDING_REGISTER", 0, 0x1234)
    suite.restart("agent")
    device.event("running", lambda p: p is True)
    until(lambda: closing(client("pymodbus TCP", port)).read("HOLDING_REGISTER", 0, 2) == [0x1234, 0], 10, "the stored value")


# ---- the page of the type

def test_the_example_of_its_page_runs(gateway, closing):
    example = example_of("modbus_slave")
    port = example["transport"]["local_port"] = free_ports(1)[0]
    _, device = gateway(example)
    master = closing(client("pymodbus TCP", port))
    device.set("running", 1)
    await_value(master, "DISCRETE_INPUT", 0, 1)
    master.write("HOLDING_REGISTER", 0, 70)
    device.written(setpoint=70)
    assert master.read("HOLDING_REGISTER", 0, 1) == [70]


# ---- connections

def test_connections_are_told(gateway, closing):
    port = free_ports(1)[0]
    _, device = gateway(slave("srv", port, [point("a", "COIL", 0, 1)], transport={"max_connections": 2}))
    assert device.event("connections") == []
    first = Raw(port)
    [told] = device.event("connections")
    assert told == {"type": "TCP", "connection_id": 1, "local": {"host": "127.0.0.1", "port": port},
                    "remote": {"host": "127.0.0.1", "port": first.socket.getsockname()[1]}}
    closing(Raw(port))
    assert [c["connection_id"] for c in device.event("connections")] == [1, 2]
    refused_one = closing(Raw(port))
    assert refused_one.answer() is None
    first.close()
    assert [c["connection_id"] for c in device.event("connections")] == [2]
    closing(Raw(port))
    assert [c["connection_id"] for c in device.event("connections")] == [2, 3]
    device.enable(False)
    assert [m.json["payload"] for m in device.inbox.take_all() if m.topic.endswith("/connections")] == [[]]


def test_a_serial_connection_lives_from_request_to_silence(gateway, closing, tmp_path):
    line = closing(Line(tmp_path))
    _, device = gateway(slave("srv", line, [point("a", "COIL", 0, 1)], "RTU", transport={"keep_alive_timeout": 0.5}))
    assert device.event("connections") == []
    master = closing(client("pymodbus RTU", line.far))
    for n in (1, 2):
        assert master.read("COIL", 0, 1) == [0]
        assert device.event("connections") == [{"type": "SERIAL", "connection_id": n}]
        assert device.event("connections") == []


def test_a_serial_port_that_goes_ends_the_device(gateway, closing, tmp_path):
    line = Line(tmp_path)
    _, device = gateway(slave("srv", line, [point("a", "COIL", 0, 1)], "RTU"))
    line.close()
    assert device.event("running") is False
    line = closing(Line(tmp_path))
    device.tell("enable", True, retain=True)   # a repeated true does not retry
    device.tell("enable", False, retain=True)
    device.enable()
    assert closing(client("pymodbus RTU", line.far)).read("COIL", 0, 1) == [0]


@pytest.mark.limit(180)
def test_a_thousand_connections_that_say_nothing(gateway, closing):
    port = free_ports(1)[0]
    suite, device = gateway(slave("srv", port, [point("a", "COIL", 0, 1)]))
    silent = [closing(Raw(port)) for _ in range(1000)]
    for master in silent[::2]:
        master.socket.sendall(b"\0\1\0\0\0\6")
    device.event("connections", lambda p: len(p) == 1000, timeout=60)
    assert closing(Mbpoll("TCP", port)).read("COIL", 0, 1) == [0]
    for master in silent[::2]:
        master.socket.sendall(struct.pack(">BBHH", 1, 1, 0, 1))
    for master in silent[::2]:
        assert master.answer() == (1, 1, b"\1\1\0")


# ---- what is no request

@pytest.mark.parametrize("octets", [b"\0\1\0\1\0\6\1\1\0\0\0\1", b"\0\1\0\0\0\0\1\1\0\0\0\1", b"\0\1\0\0\0\1\1\1\0\0\0\1",
                                    b"\0\1\0\0\xff\xff\1\1\0\0\0\1"],
                         ids=["protocol id 1", "length 0", "length 1", "length 65535"])
def test_a_broken_frame_ends_its_connection_only(gateway, closing, octets):
    port = free_ports(1)[0]
    _, device = gateway(slave("srv", port, [point("a", "COIL", 0, 1)]))
    broken, other = closing(Raw(port)), closing(Raw(port))
    broken.socket.sendall(octets)
    assert broken.answer() is None
    other.send(struct.pack(">BHH", 1, 0, 1))
    assert other.answer() == (1, 1, b"\1\1\0")


def test_functions_that_are_not_ours(gateway, closing):
    port = free_ports(1)[0]
    _, device = gateway(slave("srv", port, [point("a", "COIL", 0, 1)]))
    master = closing(Raw(port))
    for function in (7, 8, 11, 17, 20, 21, 23, 43, 65, 127):
        master.send(bytes([function, 0, 0, 0, 1]), transaction=function)
        assert master.answer() == (function, 1, bytes([function | 0x80, 1]))
    master.send(struct.pack(">BH", 24, 0))
    assert master.answer() == (1, 1, b"\x98\2")
    for octet in struct.pack(">HHHBBHH", 5, 0, 6, 1, 1, 0, 1):   # one at a time
        master.socket.sendall(bytes([octet]))
    assert master.answer() == (5, 1, b"\1\1\0")


# ---- IoTtalk

def test_a_master_s_write_goes_through_a_function_into_another_slave(gateway, clients, closing):
    ports = free_ports(2)
    suite, source, sink = gateway(slave("source", ports[0], [point("setpoint", "HOLDING_REGISTER", 0, 16, signed=True)]),
                                  slave("sink", ports[1], [point("shown", "INPUT_REGISTER", 5, 32, order="little_swap")]))
    found = registered_devices(clients, suite, "source", "sink")
    g = clients.graph(suite)
    g.ok("attach")
    digest = g.add_funcs("def run(x):\n    return [x + 1000]\n")
    g.ok("add_link", da_id=found["source"], idf="setpoint", func=digest)
    g.ok("add_link", da_id=found["sink"], odf="shown_set", func=None)
    writer, reader = closing(client("pymodbus TCP", ports[0])), closing(client("modbus-serial TCP", ports[1]))
    g.until_link(found["source"], "idf", "setpoint", "connected")
    g.until_link(found["sink"], "odf", "shown_set", "connected")
    for value in (0xffff, 500):
        writer.write("HOLDING_REGISTER", 0, value)
        source.written(setpoint=value)
        signed = value - 65536 if value & 0x8000 else value
        await_value(reader, "INPUT_REGISTER", 5, *registers(signed + 1000, 32, "little_swap"))


def test_a_write_is_refused_while_nobody_can_be_told(gateway, closing):
    """The broker is away, and nothing of the device is kept on disk: the master is told so after response_timeout."""
    port = free_ports(1)[0]
    suite, device = gateway(slave("srv", port, [point("a", "HOLDING_REGISTER", 0, 16)], transport={"response_timeout": 1}))
    master = closing(Raw(port))
    suite.kill9("broker")
    master.send(struct.pack(">BHH", 6, 0, 1))
    assert master.answer() == (1, 1, b"\x86\4")


def test_a_write_is_taken_when_it_is_on_the_disk(gateway, closing):
    """The same with a store: the value is on the disk, and with the broker when that is back."""
    port = free_ports(1)[0]
    suite, device = gateway(slave("srv", port, [point("a", "HOLDING_REGISTER", 0, 16)], store={},
                                  transport={"response_timeout": 20}))
    master = closing(Raw(port))
    suite.kill9("broker")
    master.send(struct.pack(">BHH", 6, 0, 7))
    assert master.answer() == (1, 1, struct.pack(">BHH", 6, 0, 7))
    suite.start("broker")
    device.written(a=7)
