"""A Modbus master on pymodbus, a process of its own: pymodbus_client.py FRAMING tcp PORT SECONDS | FRAMING serial PATH SECONDS,
SECONDS: how long it waits for an answer.

Says {"ready": true} when it is connected; then each line of stdin is {"call", "unit", "address", and "count", "values" or "masks"}
and is answered with a line: {"values"}, {"exception": code} or {"error": text}.
"""

import json
import sys

from pymodbus.client import ModbusSerialClient, ModbusTcpClient
from pymodbus.framer.ascii_framer import ModbusAsciiFramer
from pymodbus.framer.rtu_framer import ModbusRtuFramer
from pymodbus.framer.socket_framer import ModbusSocketFramer
from pymodbus.pdu import ExceptionResponse

FRAMERS = {"TCP": ModbusSocketFramer, "RTU": ModbusRtuFramer, "ASCII": ModbusAsciiFramer}


def answer(client, q):
    unit, address = q["unit"], q["address"]
    calls = {
        "read_coils": lambda: client.read_coils(address, q["count"], slave=unit),
        "read_discrete": lambda: client.read_discrete_inputs(address, q["count"], slave=unit),
        "read_holding": lambda: client.read_holding_registers(address, q["count"], slave=unit),
        "read_input": lambda: client.read_input_registers(address, q["count"], slave=unit),
        "write_coil": lambda: client.write_coil(address, bool(q["values"][0]), slave=unit),
        "write_coils": lambda: client.write_coils(address, [bool(v) for v in q["values"]], slave=unit),
        "write_register": lambda: client.write_register(address, q["values"][0], slave=unit),
        "write_registers": lambda: client.write_registers(address, q["values"], slave=unit),
        "mask": lambda: client.mask_write_register(address, *q["masks"], unit=unit),
    }
    result = calls[q["call"]]()
    if isinstance(result, ExceptionResponse):
        return {"exception": result.exception_code}
    if result.isError():
        return {"error": str(result)}
    if hasattr(result, "bits") and q["call"].startswith("read"):
        return {"values": [int(b) for b in result.bits[:q["count"]]]}
    return {"values": list(result.registers) if hasattr(result, "registers") else []}


def main(framing, transport, where, seconds):
    if transport == "tcp":
        client = ModbusTcpClient("127.0.0.1", port=int(where), framer=FRAMERS[framing], timeout=float(seconds))
    else:
        client = ModbusSerialClient(where, framer=FRAMERS[framing], baudrate=19200, timeout=float(seconds))
    print(json.dumps({"ready": bool(client.connect())}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(client, json.loads(line))), flush=True)


main(*sys.argv[1:])
