"""A Modbus server on pymodbus, a process of its own: pymodbus_server.py FRAMING tcp PORT | FRAMING serial PATH.

Units 1 and 2 have 20000 of everything, all zero. Says {"ready": true}; then each line of stdin is {"unit", "table", "address", and
"values" to set or "count" to get} and is answered with a line.
"""

import asyncio
import json
import sys
import threading

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.framer.ascii_framer import ModbusAsciiFramer
from pymodbus.framer.rtu_framer import ModbusRtuFramer
from pymodbus.framer.socket_framer import ModbusSocketFramer
from pymodbus.server.async_io import ModbusSerialServer, ModbusTcpServer

FRAMERS = {"TCP": ModbusSocketFramer, "RTU": ModbusRtuFramer, "ASCII": ModbusAsciiFramer}
FUNCTION = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}   # that the table is read with
SIZE = 20000


def unit():
    return ModbusSlaveContext(**{t: ModbusSequentialDataBlock(0, [0] * SIZE) for t in ("di", "co", "hr", "ir")}, zero_mode=True)


def answer(context, request):
    slave, function = context[request["unit"]], FUNCTION[request["table"]]
    if "values" in request:
        slave.setValues(function, request["address"], request["values"])
        return {}
    return {"values": [int(v) for v in slave.getValues(function, request["address"], request["count"])]}


def serve_requests(context):
    for line in sys.stdin:
        print(json.dumps(answer(context, json.loads(line))), flush=True)


async def main(framing, transport, where):
    context = ModbusServerContext(slaves={1: unit(), 2: unit()}, single=False)
    if transport == "tcp":
        server = ModbusTcpServer(context, framer=FRAMERS[framing], address=("127.0.0.1", int(where)), allow_reuse_address=True)
        running = asyncio.ensure_future(server.serve_forever())
        await server.serving
    else:
        server = ModbusSerialServer(context, framer=FRAMERS[framing], port=where, baudrate=19200, ignore_missing_slaves=True)
        await server.start()
        running = asyncio.ensure_future(server.serve_forever())
    print(json.dumps({"ready": True}), flush=True)
    threading.Thread(target=serve_requests, args=(context,), daemon=True).start()
    await running


asyncio.run(main(*sys.argv[1:]))
