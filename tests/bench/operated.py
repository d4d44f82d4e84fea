"""The suite as its users run it: by iotctl, with the managed broker. For what a start costs, and what lies idle."""

import queue
import subprocess
import time
from types import SimpleNamespace

import paho.mqtt.client as mqtt

from procs import engines_of, proportional_kb
from suite import BUILD, START_S, until
from wiring import Devices

EVERY_S = 0.005
PID_FILE = "run/%s.pid"


class Operated:
    """One graph is stored; start() starts everything, stop() ends it."""

    def __init__(self, processes, name, transport):
        self.folder = processes.make_folder(name)
        self.http_port = processes.free_port()
        self.broker = SimpleNamespace(port=processes.free_port())
        self.ini = self.folder / "iottalk.ini"
        self.ini.write_text(
            "[core]\nhttp-port = %d\nuserdir = %s\nlog-level = warn\n[core-mqtt]\nhost = 127.0.0.1\nport = %d\n[core-ws]\nport = %d\n"
            "[broker]\nmanaged = yes\n[agent]\ntransport = %s\n" % (
                self.http_port, self.folder / "userdir", self.broker.port, processes.free_port(), transport))
        processes.at_end(self.stop)
        self._iotctl("start")
        devices = Devices(self)
        try:
            _, ((self.source, self.target),) = devices.wire("plain", 1)[0]
        finally:
            devices.close()
        self.first_message()
        self.stop()

    def _iotctl(self, command, check=True):
        return subprocess.run([str(BUILD / "bin/iotctl"), "-c", str(self.ini), command], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=START_S, check=check)

    def stop(self):
        self._iotctl("stop", check=False)

    def _pid(self, name):
        return int((self.folder / "userdir" / (PID_FILE % name)).read_text())

    def first_message(self):
        """Publish until the answer comes, from a client that connects as soon as there is a broker."""
        arrived = queue.Queue()
        client = mqtt.Client()
        client.on_message = lambda *_: arrived.put(True)
        client.on_connect = lambda c, *_: c.subscribe(self.target)

        def try_to_connect():
            try:
                client.connect("127.0.0.1", self.broker.port)
                return True
            except OSError:
                return False
        until(try_to_connect, "the broker", every=EVERY_S)
        client.loop_start()
        try:
            deadline = time.monotonic() + START_S
            while time.monotonic() < deadline:
                client.publish(self.source, b"[1]")
                try:
                    arrived.get(timeout=EVERY_S)
                    return
                except queue.Empty:
                    pass
            raise RuntimeError("no message came through within %g s" % START_S)
        finally:
            client.disconnect()
            client.loop_stop()

    def measure(self):
        """ret: the fields of a row; seconds from the command to the first message, and what the processes hold afterwards."""
        begin = time.monotonic()
        starting = subprocess.Popen([str(BUILD / "bin/iotctl"), "-c", str(self.ini), "start"], stdin=subprocess.DEVNULL,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            self.first_message()
            took = time.monotonic() - begin
            if starting.wait(START_S) != 0:
                raise RuntimeError("iotctl start: %s" % starting.stderr.read())
            agent = self._pid("agent")
            kb = {"csm": proportional_kb(self._pid("csm")), "agent": proportional_kb(agent),
                  "engine": sum(map(proportional_kb, engines_of(agent, self.folder)))}
        finally:
            self.stop()
        return dict({"first_message_s": took}, **{"pss_%s_kb" % name: size for name, size in kb.items()})
