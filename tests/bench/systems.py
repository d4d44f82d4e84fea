"""The systems that are measured. Each has a broker of its own, all with the same settings, so that none pays for another."""

import subprocess

from nodered import NodeRed
from suite import BUILD, Broker, Suite, end_of
from titles import BUS, CLIENT, FLOOR, NODERED, NODERED_EACH, PLUGIN, RELAY
from wiring import INPUTS, Devices


def join_answer(devices):
    """Message n comes with the four before it of the same device: twice the sum of n, n-d, ... n-4d, plus one."""
    return 2 * INPUTS, 1 - 2 * devices * sum(range(INPUTS))


class System:
    """What a message is sent through. title: its name in the report."""

    title = None
    shapes = ("plain", "wide", "join")
    most_devices = 1 << 16

    def port(self):
        return self.broker.port

    def pids(self):
        """ret: {role: [pid]}; roles are broker, relay, agent, engine, csm, node."""
        raise NotImplementedError

    def lines(self, shape, count):
        """ret: for each of count devices [(topic to publish, topic that answers) of each input]."""
        if shape == "join":
            return [[("bench/in/%d/%d" % (i, k), "bench/out/%d" % i) for k in range(INPUTS)] for i in range(count)]
        return [[("bench/in/%d" % i, "bench/out/%d" % i)] for i in range(count)]

    def answer(self, shape, devices):
        """ret: (a, b): the answer to n is a * n + b."""
        return join_answer(devices) if shape == "join" else (2, 1)


class Floor(System):
    title = FLOOR

    def __init__(self, processes, name):
        self.broker = Broker(processes, processes.make_folder(name))

    def pids(self):
        return {"broker": [self.broker.pid]}

    def lines(self, shape, count):
        """What is published comes back as it is."""
        return [[(source, source) for source, _ in device] for device in super().lines(shape, count)]

    def answer(self, shape, devices):
        return 1, 0


class Relay(System):
    title, program = RELAY, "relay"

    def __init__(self, processes, name):
        folder = processes.make_folder(name)
        self.broker = Broker(processes, folder)
        log = folder / "relay.log"
        self.process = processes.spawn(log, [BUILD / "bench/bin" / self.program, self.broker.port, "bench"],
                                       stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b"ready\n":
            raise RuntimeError("%s does not start:\n%s" % (self.program, end_of(log)))

    def pids(self):
        return {"broker": [self.broker.pid], "relay": [self.process.pid]}


class BusRelay(Relay):
    title, program = BUS, "bus_relay"


class Peer(System):
    """Node-RED in its best case: one flow with a wildcard topic."""

    title, flow_each = NODERED, 0

    def __init__(self, processes, name):
        self.red = NodeRed(processes, name, self.flow_each)
        self.broker, self.http_port = self.red.broker, self.red.http_port

    def pids(self):
        return self.red.pids()


class PeerEach(Peer):
    """Node-RED as its editor suggests: mqtt in, function and mqtt out for each device."""

    title, flow_each, most_devices, shapes = NODERED_EACH, 200, 200, ("plain", "wide")


class Ours(System):
    """The suite: one graph for each device, made when first asked for."""

    transport = None

    def __init__(self, processes, name, per_owner=0):
        self.suite = Suite(processes, name, self.transport, per_owner)
        self.broker, self.http_port = self.suite.broker, self.suite.http_port
        self.devices = Devices(self.suite)
        processes.at_end(self.devices.close)
        self.wired = {}

    def pids(self):
        return self.suite.pids()

    def wire(self, shape, count):
        """ret: [(device, lines)], at least count of them."""
        have = self.wired.setdefault(shape, [])
        if len(have) < count:
            try:
                have += self.devices.wire(shape, count - len(have))
            except Exception as e:
                raise RuntimeError("%s: %r\n%s" % (self.title, e, self.suite.logs())) from e
            self.suite.check_transport()
        return have

    def lines(self, shape, count):
        return [lines for _, lines in self.wire(shape, count)[:count]]


class Client(Ours):
    title, transport = CLIENT, "client"


class Plugin(Ours):
    title, transport = PLUGIN, "plugin"


# in the order of the tables; the names are those of --systems
SYSTEMS = {"floor": Floor, "relay": Relay, "bus": BusRelay, "client": Client, "plugin": Plugin,
           "node-red": Peer, "node-red-each": PeerEach}
OURS = ("client", "plugin")
