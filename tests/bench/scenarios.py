"""What is measured. A scenario prepares its systems when it is made; cases() then yields what to run, neighbours in time being the
systems that are compared."""

import subprocess
from functools import partial

from lab import PROGRAMS
from operated import Operated
from procs import private_kb, proportional_kb
from systems import OURS, SYSTEMS
from titles import REGISTRY
from wiring import HOSTILE, Changes, Culprit, snapshot

LATENCY_DEVICES = 200
JOIN_DEVICES = 40
PAYLOAD_DEVICES = 50
PAYLOAD_UNDER_WAY = 1 << 20  # bytes
CHANGE_RATE, CHANGE_EVERY_S, CHANGE_SECONDS = 1000, 0.1, 5
NEIGHBOUR_RATE, NEIGHBOUR_SECONDS = 1000, 6
REGISTER_RATE = 500
REGISTERED = (1000, 100000)


class Scenario:
    name = None

    def __init__(self, lab):
        self.lab, self.options = lab, lab.options

    def cases(self):
        """Yields functions of no argument that measure and keep a row, or None."""
        raise NotImplementedError

    def load(self, system, shape, devices, qos, arguments, seconds=None, beside=None, **key):
        """ret: a case, or None if the system cannot be prepared for it."""
        if not self.lab.prepare(system, shape, devices):
            return None
        key.setdefault("scenario", self.name)
        return lambda: self.lab.load(system, key, shape, devices, qos, arguments, seconds, beside)

    def compare(self, shape, devices, arguments, names=tuple(SYSTEMS), **key):
        for qos in self.options.qos_of(self.name):
            for _, system in self.lab.systems(names, shape, devices):
                yield self.load(system, shape, devices, qos, arguments, **key)


class Throughput(Scenario):
    """As fast as it goes, a number of messages under way in all."""
    name = "throughput"

    def cases(self):
        for devices in self.options.devices:
            yield from self.compare("plain", devices, ["-w", self.options.window])


class Latency(Scenario):
    """A steady rate below what all systems can do."""
    name = "latency"

    def cases(self):
        devices = max(self.options.devices) if self.options.devices_given else LATENCY_DEVICES
        yield from self.compare("plain", devices, ["-r", self.options.rate])


class Join(Scenario):
    """Devices with five inputs that a join adds up; each message is answered."""
    name = "join"

    def cases(self):
        yield from self.compare("join", JOIN_DEVICES, ["-j", 5, "-w", self.options.window])


class Payload(Scenario):
    """Lists of numbers; the function changes the first and returns them all."""
    name = "payload"

    def cases(self):
        for size in self.options.payloads:
            window = max(2, min(self.options.window, PAYLOAD_UNDER_WAY // size))
            yield from self.compare("wide", PAYLOAD_DEVICES, ["-b", size, "-w", window], payload_bytes=size)


class Graphs(Scenario):
    """Many graphs in one engine, one connection, the messages through one of them or through all. A suite for each number of
    graphs, and the broker alone with as many topics."""
    name = "graphs"

    def __init__(self, lab):
        super().__init__(lab)
        self.suites = []  # (graphs, system, memory)
        for graphs in self.options.graphs:
            for name in self.options.systems:
                if name not in OURS + ("floor",):
                    continue
                how = {"per_owner": 1} if name in OURS else {} # "in one engine"
                system = lab.system(name, "-%d-graphs" % graphs, **how)
                if system and lab.prepare(system, "plain", graphs):
                    self.suites.append((graphs, system, self.memory(system)))

    @staticmethod
    def memory(system):
        """What holds the graphs, before any message ran through them."""
        return {"memory_%s_kb" % role: sum(map(private_kb, pids)) for role, pids in system.pids().items()}

    def cases(self):
        for qos in self.options.qos_of(self.name):
            for graphs, system, memory in self.suites:
                for through in ("one", "all") if graphs > 1 else ("one",):
                    yield self.load(system, "plain", graphs if through == "all" else 1, qos,
                                    ["-k", 1, "-w", self.options.window], graphs=graphs, through=through, **memory)


class Change(Scenario):
    """A graph that changes ten times a second under a steady stream, beside the same stream undisturbed."""
    name = "change"

    def cases(self):
        arguments, seconds = ["-r", CHANGE_RATE], max(self.options.seconds, CHANGE_SECONDS)
        for qos in self.options.qos_of(self.name):
            for name, system in self.lab.systems(("floor",) + OURS):
                shape = "changing" if name in OURS else "plain"
                undisturbed = self.load(system, shape, 1, qos, arguments, seconds, every_ms=0)
                yield undisturbed
                if undisturbed and name in OURS:
                    yield self.load(system, shape, 1, qos, arguments, seconds, self.changes(system),
                                    every_ms=int(CHANGE_EVERY_S * 1000))

    @staticmethod
    def changes(system):
        device = system.wire("changing", 1)[0][0]

        class Beside(Changes):
            def stop(self):
                return {"changes": super().stop(), "change_worst_ms": self.worst_s * 1000}

        return lambda: Beside(system.devices, device, CHANGE_EVERY_S)


class Neighbour(Scenario):
    """A graph under a steady stream while one of another owner does harm, beside the same stream undisturbed."""
    name = "neighbour"

    def cases(self):
        arguments, seconds = ["-r", NEIGHBOUR_RATE], max(self.options.seconds, NEIGHBOUR_SECONDS)
        for qos in self.options.qos_of(self.name):
            for _, system in self.lab.systems(OURS):
                yield self.load(system, "plain", 1, qos, arguments, seconds, culprit="none")
                for kind in HOSTILE:
                    yield self.load(system, "plain", 1, qos, arguments, seconds, partial(Culprit, system.devices, kind),
                                    culprit=kind)


class Register(Scenario):
    """New devices over HTTP; the suite answers when they are on the disk, Node-RED keeps them in memory."""
    name = "register"

    def cases(self):
        chosen = self.options.systems
        ours = next((name for name in OURS if name in chosen and self.lab.system(name, "-register")), None)
        peer = "node-red" if "node-red" in chosen else None
        for name, role in ((ours, "csm"), (peer, "node")):
            system = self.lab.system(name, "-register") if name else None
            if system:
                for connections, rate in ((1, 0), (64, 0), (64, REGISTER_RATE)):
                    yield self.case(system, role, connections, rate)

    def case(self, system, role, connections, rate):
        argv = [PROGRAMS / "http_load", "-p", system.http_port, "-d", self.options.seconds, "-C", system.pids()[role][0],
                "-c", connections] + (["-r", rate] if rate else []) + (["-x"] if role == "csm" else [])  # the peer has no DELETE
        title = REGISTRY if role == "csm" else system.title
        key = {"scenario": self.name, "system": title, "connections": connections, "rate": rate}
        return lambda: self.lab.run(argv, key)


class Start(Scenario):
    """`iotctl start` until the first message has come through a graph that was stored before; then what all hold while idle."""
    name = "start"

    def cases(self):
        for name in OURS:
            if name in self.options.systems:
                system = Operated(self.lab.processes, name + "-start", name)
                yield partial(self.lab.keep, {"scenario": self.name, "system": SYSTEMS[name].title}, system.measure)


class Registered(Scenario):
    """Does it cost anything that many are registered and not there? One suite with a thousand devices, one with a hundred thousand; in
    both the same thousand are online."""
    name = "registered"

    def cases(self):
        name = next((name for name in reversed(OURS) if name in self.options.systems), None)
        suites = [(count, self.suite(name, count)) for count in REGISTERED] if name else []
        for what in (self.registering, self.forwarding, self.attaching):
            for count, system in suites:
                if system:
                    yield what(system, {"scenario": self.name, "registered": count})

    def suite(self, name, count):
        system = self.lab.system(name, "-registered-%d" % count)
        if system is None or not self.lab.prepare(system, "plain", REGISTERED[0]):
            return None
        if count > REGISTERED[0]:
            subprocess.run([str(PROGRAMS / "http_load"), "-p", str(system.http_port), "-c", "64", "-d", "600", "-n",
                            str(count - REGISTERED[0])], check=True, stdout=subprocess.DEVNULL)
        return system

    def registering(self, system, key):
        argv = [PROGRAMS / "http_load", "-p", system.http_port, "-d", self.options.seconds, "-C", system.pids()["csm"][0], "-c", 64, "-x"]
        return lambda: self.lab.run(argv, dict(key, what="register", system=REGISTRY))

    def forwarding(self, system, key):
        return self.load(system, "plain", REGISTERED[0], 1, ["-w", self.options.window], what="forward", **key)

    def attaching(self, system, key):
        def measure():
            seconds, messages, size = snapshot(system.port())
            return {"attach_s": seconds, "attach_messages": messages, "attach_bytes": size,
                    "pss_csm_kb": proportional_kb(system.pids()["csm"][0])}
        return lambda: self.lab.keep(dict(key, what="attach", system=REGISTRY), measure)


SCENARIOS = {s.name: s for s in (Throughput, Latency, Join, Payload, Graphs, Change, Neighbour, Register, Start, Registered)}
