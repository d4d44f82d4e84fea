#!/usr/bin/python3
"""Field devices by the thousand: an agent that polls Modbus TCP devices (tests/bench/modbus_sim.c), what it costs and whether it keeps
its times; and one device with many registers, in how few requests. One run, this machine; prints a table and writes
build/bench/devices.json.

Exit status: 0 if all goals were met, 1 if not.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1] / "system")    # `suite` here is the tests' one

from clients import Mqtt    # noqa: E402
from suite import BUILD, Suite, free_ports, until    # noqa: E402

GATEWAY = "bench"
READ_MAX = 125    # registers of a request
GOALS = {    # name -> (most, unit)
    "agent's CPU": (30, "%"),
    "agent's memory": (60, "MB"),
    "missed intervals": (0, ""),
    "exceptions": (0, ""),
    "connections lost": (0, ""),
    "devices not polled": (0, ""),
    "requests above the least": (0, ""),
    "missed intervals of the large device": (0, ""),
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


def master(n, port, registers, interval_s):
    points = [{"name": "r%d" % k, "interval": interval_s, "data_type": "HOLDING_REGISTER", "start_address": k, "bit_count": 16}
              for k in range(registers)]
    return {"type": "modbus_master", "name": "m%d" % n,
            "connection": {"modbus_type": "TCP", "transport": {"type": "TCP", "host": host(n), "port": port}, "connect_timeout": 5,
                           "connect_delay": 1, "request_timeout": 2, "request_delay": 0, "request_retry_immediate_count": 1,
                           "request_retry_delayed_count": 1, "request_retry_delay": 5},
            "remote_devices": [{"device_id": 1, "timeout_poll_delay": 1, "enabled": True, "data": points}]}


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


def run(devices, registers, args):
    """ret: (what the devices saw, the agent's CPU in percent of one core, its memory in MB)"""
    sim = Sim(devices, registers, args.changing, args.interval)
    file = Path(BUILD / "bench" / "devices-bench.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"name": GATEWAY, "devices": [master(n, sim.port, registers, args.interval) for n in range(devices)]}))
    suite = Suite({"agent.devices": file})
    try:
        mqtt = Mqtt(suite)
        suite.closing.append(mqtt)
        say("%d devices of %d registers: enabling" % (devices, registers))
        for n in range(devices):
            mqtt.publish("gateway/%s/modbus_master/m%d/system/enable" % (GATEWAY, n), True, 1, True, wait=n == devices - 1)
        until(lambda: sim.report()["polled"] == devices, 60 + devices / 10, "a read of every device", every=1)
        time.sleep(args.settle)    # registrations, first values
        pid = suite.pid("agent")
        say("measuring for %d s" % args.seconds)
        sim.reset()
        cpu, began = cpu_s(pid), time.monotonic()
        time.sleep(args.seconds)
        seen, took = sim.report(), time.monotonic() - began
        percent, memory = (cpu_s(pid) - cpu) / took * 100, memory_mb(pid)
        assert suite.pid("agent") == pid and suite.processes["agent"].runs()
        return seen, percent, memory
    finally:
        suite.abort()
        sim.stop()
        file.unlink()


def many(results, args):
    seen, percent, memory = run(args.devices, args.registers, args)
    results.add("agent's CPU", percent, "%", "of one core; %d devices of %d registers, each %g s, %g of them change" % (
        args.devices, args.registers, args.interval, args.changing))
    results.add("agent's memory", memory, "MB", "PSS")
    results.add("missed intervals", seen["missed"], note="of %d reads" % seen["requests"])
    results.add("late reads", seen["late"], note="by more than a tenth of the interval")
    results.add("away from its time, p99", seen["away_p99_ms"], "ms", "most %.1f ms" % seen["away_max_ms"])
    results.add("exceptions", seen["exceptions"])
    results.add("connections lost", seen["broken"])
    results.add("devices not polled", args.devices - seen["polled"])


def large(results, args):
    seen, percent, memory = run(1, args.large, args)
    intervals = seen["registers"] / args.large
    least = -(-args.large // READ_MAX)
    results.add("requests for %d registers" % args.large, seen["requests"] / intervals, note="each %g s" % args.interval)
    results.add("requests above the least", max(0, seen["requests"] / intervals - least), note="%d" % least)
    results.add("missed intervals of the large device", seen["missed"])
    results.add("CPU for the large device", percent, "%", "memory %.1f MB" % memory)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--registers", type=int, default=100, help="of each device, one point for each")
    parser.add_argument("--large", type=int, default=10000, help="registers of the one large device; 0: leave it out")
    parser.add_argument("--interval", type=float, default=1, help="between reads, in seconds")
    parser.add_argument("--changing", type=float, default=0.01, help="share of the registers that have another value each second")
    parser.add_argument("--settle", type=float, default=10, help="seconds between the last first read and the measurement")
    parser.add_argument("--seconds", type=float, default=60, help="of measuring")
    args = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    results = Results()
    many(results, args)
    if args.large:
        large(results, args)
    results.show()
    (BUILD / "bench" / "devices.json").write_text(json.dumps(results.rows, indent=1))
    return 0 if all(row["met"] for row in results.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
