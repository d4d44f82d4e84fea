"""What tests of field devices share: an agent with a device file, and the events of its devices."""

import json
import subprocess

import pytest

from clients import WAIT_S, Inbox
from suite import BIN, until

GATEWAY = "gw1"


class FieldDevice:
    """A device of the gateway as the event bus sees it."""

    def __init__(self, mqtt, device_type, name):
        self.mqtt = mqtt
        self.prefix = "gateway/%s/%s/%s/" % (GATEWAY, device_type, name)
        self.inbox = Inbox("event of " + name)
        mqtt.subscribe_then(self.prefix + "gateway/#", 1, self.take, lambda: None)

    def take(self, message):
        self.inbox.put(message)

    def tell(self, path, payload, retain=False):
        self.mqtt.publish(self.prefix + "system/" + path, payload, 1, retain)

    def enable(self, on=True):
        self.tell("enable", on, retain=True)
        self.event("running", lambda p: p is on)

    def event(self, path, match=lambda payload: True, timeout=WAIT_S):
        """The next event of a path that fits; ret: its payload."""
        return self.whole_event(path, match, timeout)["payload"]

    def whole_event(self, path, match=lambda payload: True, timeout=WAIT_S):
        """With its timestamps."""
        topic = self.prefix + "gateway/" + path
        return self.inbox.get(lambda m: m.topic == topic and match(m.json["payload"]), timeout).json


@pytest.fixture
def start_gateway(make_suite, clients, tmp_path):
    """start_gateway(device, ...) starts a suite whose agent has these devices, and enables them; ret: the suite and each device's
    events. conf: the rest of the file; clean_session: whether the broker forgets who hears the events; suite_options: of make_suite."""
    def start(*devices, seen_as=FieldDevice, clean_session=True, suite_options=None, **conf):
        path = tmp_path / "devices.json"
        path.write_text(json.dumps(dict({"name": GATEWAY, "devices": devices}, **conf)))
        suite = make_suite({"agent.devices": path}, **(suite_options or {}))
        mqtt = clients.mqtt(suite, clean_session=clean_session)
        seen = [seen_as(mqtt, d["type"], d["name"]) for d in devices]
        for device in seen:
            device.event("running", lambda p: p is False)   # said at the start
            device.enable()
        return [suite] + seen
    return start


@pytest.fixture
def closing():
    """What is given to it is closed at the end."""
    made = []

    def add(thing):
        made.append(thing)
        return thing
    yield add
    for thing in reversed(made):
        thing.close()


def example_of(device_type):
    """The device on the page of its type."""
    page = subprocess.run([str(BIN / "iotctl"), "device", "doc", device_type], capture_output=True, text=True, timeout=30, check=True)
    return json.loads(page.stdout[page.stdout.index("\n    {"):])


def registered_devices(clients, suite, *names):
    """Wait until csm knows the device applications of these devices; ret: their ids by name."""
    devices, found = clients.device_api(suite), {}

    def registered():
        found.update((da["profile"].get("device"), da["id"]) for da in devices.attach().values())
        return all(name in found for name in names)
    until(registered, 10, "%s to be registered" % ", ".join(names))
    return found
