#!/usr/bin/python3
"""Field devices by the thousand: an agent that polls Modbus TCP devices (tests/bench/modbus_sim.c), what it costs and whether it keeps
its times; one device with many registers, in how few requests; and the way of a value from a register of one device through IoTtalk
and a Python function into a register of another, in how long. One run, this machine; prints a table and writes
build/bench/devices.json.

Exit status: 0 if all goals were met, 1 if not.
"""

import argparse
import json
import os
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1] / "system")    # `suite` here is the tests' one

from clients import DeviceApi, GraphClient, Mqtt    # noqa: E402
from suite import BUILD, Suite, free_ports, until    # noqa: E402

GATEWAY = "bench"
READ_MAX = 125    # registers of a request
GOALS = {    # name -> (most, unit)
    "agent's CPU": (30, "%"),
    "agent's memory": (60, "MB"),
    "missed intervals": (0, ""),
    "missed intervals during reloads": (0, ""),
    "exceptions": (0, ""),
    "connections lost": (0, ""),
    "devices not polled": (0, ""),
    "requests above the least": (0, ""),
    "missed intervals of the large device": (0, ""),
    "a value's way beyond the interval, p99": (50, "ms"),
    "values that did not arrive": (0, ""),
}


def say(text):
    print(text, file=sys.stderr, flush=True)


class Sim:
    """The devices; they count what is asked of them."""

    def __init__(self, devices, registers, changing, interval_s):
        self.port = free_ports(1)[0]
        self._process = subprocess.Popen([str(BUILD / "bench/bin/modbus_sim"), str(self.port), str(devices), str(registers), str(changing),
                                          str(interval_s * 1000)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert self._process.stdout.readline() == "ready\n", "the devices do not start"

    def reset(self):
        self._process.stdin.write("reset\n")

    def report(self):
        self._process.stdin.write("report\n")
        return json.loads(self._process.stdout.readline())

    def stop(self):
        self._process.stdin.close()
        self._process.wait(20)


def host(n):
    return "127.0.%d.%d" % (1 + n // 250, 1 + n % 250)


def master(n, port, registers, interval_s, own_names=False):
    name = "m%d_r%%d" % n if own_names else "r%d"
    points = [{"name": name % k, "interval": interval_s, "data_type": "HOLDING_REGISTER", "start_address": k, "bit_count": 16}
              for k in range(registers)]
    return {"type": "modbus_master", "name": "m%d" % n,
            "connection": {"modbus_type": "TCP", "transport": {"type": "TCP", "host": host(n), "port": port}, "connect_timeout": 5,
                           "connect_delay": 1, "request_timeout": 2, "request_delay": 0, "request_retry_immediate_count": 1,
                           "request_retry_delayed_count": 1, "request_retry_delay": 5},
            "remote_devices": [{"device_id": 1, "timeout_poll_delay": 1, "enabled": True, "data": points}]}


def await_online(suite, mqtt, devices):
    """ret: the ids of their device applications by the names of the devices"""
    api = DeviceApi(mqtt)

    def online():
        found = {da["profile"].get("device"): da["id"] for da in api.attach().values() if da["state"] == "online"}
        return found if len(found) >= devices else None
    return until(online, 60 + devices / 10, "all devices to be online at csm", every=1)


def cpu_s(pid):
    fields = Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid):
    """Its share of all memory that it uses."""
    return int(re.search(r"^Pss:\s+(\d+)", Path("/proc/%d/smaps_rollup" % pid).read_text(), re.M)[1]) / 1000


class Results:
    def __init__(self):
        self.rows = []

    def add(self, name, value, unit="", note=""):
        most, _ = GOALS.get(name, (None, None))
        self.rows.append({"name": name, "value": round(value, 2), "unit": unit, "goal": most, "note": note,
                          "met": most is None or value <= most})

    def show(self):
        for row in self.rows:
            goal = "" if row["goal"] is None else "goal <= %g %s: %s" % (row["goal"], row["unit"], "met" if row["met"] else "MISSED")
            print("%-40s %10.2f %-4s %-26s %s" % (row["name"], row["value"], row["unit"], goal, row["note"]))


def write(file, sim, devices, registers, args, changed=None, indent=None):
    """The device file; `changed`: the one that has a restart_delay; indent: another text, which says the same."""
    made = [master(n, sim.port, registers, args.interval, args.own_names) for n in range(devices)]
    if changed is not None:
        made[changed]["restart_delay"] = 5
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"name": GATEWAY, "devices": made}, indent=indent))


def reload_again_and_again(suite, sim, file, devices, registers, args):
    """One device changes each time; every other time all have to be read, as their texts are others. ret: (what the devices saw, the
    seconds of the longest reload)"""
    say("reloading %d times" % args.reloads)
    sim.reset()
    longest = 0
    for n in range(args.reloads):
        write(file, sim, devices, registers, args, n % devices, indent=n // 2 % 2 or None)
        began = time.monotonic()
        answer = suite.control("agent", {"op": "device_reload", "name": "m%d" % (n % devices)})
        longest = max(longest, time.monotonic() - began)
        assert answer.get("changed") == ["modbus_master/m%d" % (n % devices)], answer
        time.sleep(args.interval)
    return sim.report(), longest


def run(devices, registers, args, reloads=False):
    """ret: (what the devices saw, the agent's CPU in percent of one core, its memory in MB, its CPU seconds until then, the seconds of
    its stop, what reload_again_and_again() tells, if it is wanted)"""
    sim = Sim(devices, registers, args.changing, args.interval)
    file = Path(BUILD / "bench" / "devices-bench.json")
    write(file, sim, devices, registers, args)
    suite = Suite({"agent.devices": file})
    try:
        mqtt = Mqtt(suite)
        suite.closing.append(mqtt)
        say("%d devices of %d registers: enabling" % (devices, registers))
        for n in range(devices):
            mqtt.publish("gateway/%s/modbus_master/m%d/system/enable" % (GATEWAY, n), True, 1, True, wait=n == devices - 1)
        until(lambda: sim.report()["polled"] == devices, 60 + devices / 10, "a read of every device", every=1)
        for n in range(devices):
            until(lambda name="m%d" % n: suite.control("agent", {"op": "device_show", "name": name})["device"]["iottalk"]["online"],
                  60 + devices / 10, "device %d to be online in IoTtalk" % n, every=1)
        time.sleep(args.settle)    # first values
        pid = suite.pid("agent")
        say("measuring for %d s" % args.seconds)
        sim.reset()
        cpu, began = cpu_s(pid), time.monotonic()
        time.sleep(args.seconds)
        seen, took = sim.report(), time.monotonic() - began
        percent, memory = (cpu_s(pid) - cpu) / took * 100, memory_mb(pid)
        during = reload_again_and_again(suite, sim, file, devices, registers, args) if reloads and args.reloads else None
        assert suite.pid("agent") == pid and suite.processes["agent"].runs()
        began = time.monotonic()
        suite.stop("agent")
        return seen, percent, memory, cpu, time.monotonic() - began, during
    finally:
        suite.abort()
        sim.stop()
        file.unlink()


def many(results, args):
    seen, percent, memory, before, stop, during = run(args.devices, args.registers, args, reloads=True)
    results.add("agent's CPU", percent, "%", "of one core; %d devices of %d registers, each %g s, %g of them change" % (
        args.devices, args.registers, args.interval, args.changing))
    results.add("agent's memory", memory, "MB", "PSS")
    results.add("CPU time of its start", before, "s", "with all registrations and %g s of polling" % args.settle)
    results.add("its stop", stop, "s")
    results.add("missed intervals", seen["missed"], note="of %d reads" % seen["requests"])
    results.add("late reads", seen["late"], note="by more than a tenth of the interval")
    results.add("away from its time, p99", seen["away_p99_ms"], "ms", "most %.1f ms" % seen["away_max_ms"])
    results.add("exceptions", seen["exceptions"])
    results.add("connections lost", seen["broken"])
    results.add("devices not polled", args.devices - seen["polled"])
    if during:
        seen, longest = during
        results.add("missed intervals during reloads", seen["missed"], note="%d reloads, the longest %.2f s" % (args.reloads, longest))
        results.add("away during reloads, p99", seen["away_p99_ms"], "ms", "most %.1f ms" % seen["away_max_ms"])


def large(results, args):
    seen, percent, memory, *_ = run(1, args.large, args)
    intervals = seen["registers"] / args.large
    least = -(-args.large // READ_MAX)
    results.add("requests for %d registers" % args.large, seen["requests"] / intervals, note="each %g s" % args.interval)
    results.add("requests above the least", max(0, seen["requests"] / intervals - least), note="%d" % least)
    results.add("missed intervals of the large device", seen["missed"])
    results.add("CPU for the large device", percent, "%", "memory %.1f MB" % memory)


class Register:
    """A Modbus TCP server with one register, which answers reads (3) and writes (6, 16) in the moment they come."""

    def __init__(self):
        self.value, self.on_write = 0, None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection.makefile("rwb", 0),), daemon=True).start()

    def _serve(self, stream):
        while len(head := stream.read(6) or b"") == 6:
            unit, *pdu = stream.read(struct.unpack(">H", head[4:])[0])
            answer = bytes(pdu[:5])
            if pdu[0] == 3:
                answer = struct.pack(">BBH", 3, 2, self.value)
            elif self.on_write:
                self.on_write(struct.unpack(">H", bytes(pdu[-2:]))[0], time.monotonic())
            stream.write(head[:4] + struct.pack(">HB", len(answer) + 1, unit) + answer)

    def close(self):
        self._listener.close()


def one_register(name, port, interval_s):
    device = master(0, port, 1, interval_s)
    device["name"] = name
    device["connection"]["transport"]["host"] = "127.0.0.1"
    return device


def way(results, args):
    """From the change of a register until its value, made by a function, is written to another device."""
    source, sink = Register(), Register()
    file = Path(BUILD / "bench" / "devices-bench.json")
    file.write_text(json.dumps({"name": GATEWAY, "devices": [one_register("source", source.port, args.way_interval),
                                                             one_register("sink", sink.port, None)]}))
    suite = Suite({"agent.devices": file})
    try:
        mqtt = Mqtt(suite)
        suite.closing.append(mqtt)
        for name in ("source", "sink"):
            mqtt.publish("gateway/%s/modbus_master/%s/system/enable" % (GATEWAY, name), True, 1, True, wait=True)
        found = await_online(suite, mqtt, 2)
        graph = GraphClient(mqtt)
        graph.ok("attach")
        digest = graph.add_funcs("def run(x):\n    return [int(x) + 1]\n")
        graph.ok("add_link", da_id=found["sink"], odf="r0_set", func=None)
        graph.ok("add_link", da_id=found["source"], idf="r0", func=digest)
        graph.until_link(found["sink"], "odf", "r0_set", "connected")
        graph.until_link(found["source"], "idf", "r0", "connected")
        arrived, took, lost, chance = threading.Event(), [], 0, random.Random(1)
        say("the way of %d values" % args.way)
        for value in range(1, args.way + 1):
            arrived.clear()

            def on_write(written, at, value=value):
                if written == value + 1:
                    took.append(at - began)
                    arrived.set()
            sink.on_write = on_write
            time.sleep(chance.random() * args.way_interval)    # at any moment of the interval
            began, source.value = time.monotonic(), value
            lost += not arrived.wait(args.way_interval + 5)
        took = sorted(took) or [0]
        p99 = took[min(len(took) - 1, len(took) * 99 // 100)]
        results.add("a value's way, p50", took[len(took) // 2] * 1000, "ms", "of %d, read every %g s" % (len(took), args.way_interval))
        results.add("a value's way, p99", p99 * 1000, "ms", "most %.1f ms" % (took[-1] * 1000))
        results.add("a value's way beyond the interval, p99", max(0, p99 - args.way_interval) * 1000, "ms")
        results.add("values that did not arrive", lost)
    finally:
        suite.abort()
        source.close()
        sink.close()
        file.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=1000, help="0: leave them out")
    parser.add_argument("--registers", type=int, default=100, help="of each device, one point for each")
    parser.add_argument("--own-names", action="store_true", help="no two points have the same name")
    parser.add_argument("--large", type=int, default=10000, help="registers of the one large device; 0: leave it out")
    parser.add_argument("--interval", type=float, default=1, help="between reads, in seconds")
    parser.add_argument("--changing", type=float, default=0.01, help="share of the registers that have another value each second")
    parser.add_argument("--settle", type=float, default=10, help="seconds between the last first read and the measurement")
    parser.add_argument("--way", type=int, default=200, help="values that go from device to device; 0: leave it out")
    parser.add_argument("--way-interval", type=float, default=0.2, help="between reads of the one they come from, in seconds")
    parser.add_argument("--reloads", type=int, default=10, help="of the device file, after that; 0: none")
    parser.add_argument("--seconds", type=float, default=60, help="of measuring")
    args = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    results = Results()
    if args.devices:
        many(results, args)
    if args.large:
        large(results, args)
    if args.way:
        way(results, args)
    results.show()
    (BUILD / "bench" / "devices.json").write_text(json.dumps(results.rows, indent=1))
    return 0 if all(row["met"] for row in results.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
