"""Reloading a device file of many devices with a hundred points each: those that it leaves as they are go on as if nothing were,
and whatever ends the agent meanwhile, the next one has what the file says."""

import json
import socket
import subprocess

import pytest

from suite import BUILD, free_ports, until

POINTS = 100
INTERVAL_S = 0.05   # of the device that is polled


def master(name, port, points, **more):
    return dict({"type": "modbus_master", "name": name,
                 "connection": {"modbus_type": "TCP", "transport": {"type": "TCP", "host": "127.0.1.1", "port": port}, "connect_timeout": 5,
                                "connect_delay": 1, "request_timeout": 2, "request_delay": 0, "request_retry_immediate_count": 1,
                                "request_retry_delayed_count": 1, "request_retry_delay": 5},
                 "remote_devices": [{"device_id": 1, "timeout_poll_delay": 1, "enabled": True, "data": [
                     {"name": point, "interval": INTERVAL_S, "data_type": "HOLDING_REGISTER", "start_address": k, "bit_count": 16}
                     for k, point in enumerate(points)]}]}, **more)


class Field:
    """A device that counts how often it was asked, and an agent that polls it; the file has many others beside it, all
    with points of their own, that are not enabled."""

    def __init__(self, make_suite, clients, folder, many):
        self.many = many
        self.port, = free_ports(1)
        self.path = folder / "devices.json"
        self.sim = subprocess.Popen([str(BUILD / "bench/bin/modbus_sim"), str(self.port), "1", "10", "0.1", str(int(INTERVAL_S * 1000))],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1, text=True)
        assert self.sim.stdout.readline() == "ready\n"
        self.write()
        self.suite = make_suite({"agent.devices": self.path})
        clients.mqtt(self.suite).publish("gateway/gw1/modbus_master/polled/system/enable", True, 1, True)
        until(lambda: self.report()["polled"] == 1, 20, "the first read")

    def write(self, changed=(), delay=5, more=(), indent=None):
        """The file; `changed`: of the others, those with another restart_delay."""
        others = [master("m%d" % n, self.port, ["m%d_%d" % (n, k) for k in range(POINTS)],
                         **({"restart_delay": delay} if n in changed else {})) for n in range(self.many)]
        self.path.write_text(json.dumps({"name": "gw1", "devices": [master("polled", self.port, ["x"])] + others + list(more)}, indent=indent))

    def begin_reload(self, **fields):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(60)
        s.connect(str(self.suite.userdir / "run/agent.sock"))
        s.sendall(json.dumps(dict({"op": "device_reload"}, **fields)).encode() + b"\n")
        return s

    def reload(self, **fields):
        with self.begin_reload(**fields) as s:
            return json.loads(s.makefile("rb").readline())

    def polls_during_reload(self):
        """ret: the answer, and how often the device was asked before it came."""
        before = self.report()["requests"]
        answer = self.reload()
        return answer, self.report()["requests"] - before

    def count_anew(self):
        self.sim.stdin.write("reset\n")

    def report(self):
        self.sim.stdin.write("report\n")
        return json.loads(self.sim.stdout.readline())

    def close(self):
        self.sim.stdin.close()
        self.sim.wait(20)


@pytest.fixture
def make_field(make_suite, clients, tmp_path):
    made = []

    def make(many):
        made.append(Field(make_suite, clients, tmp_path, many))
        return made[-1]
    yield make
    for field in made:
        field.close()


def test_polls_of_others_go_on_during_a_reload(make_field):
    """What takes a second of the agent's time is done in between: a loop that is held polls once or twice meanwhile."""
    field = make_field(1000)
    field.count_anew()
    until(lambda: field.report()["requests"] >= 2, 10, "reads")
    for n in range(3):
        field.write(changed=[n])
        answer = field.reload(name="m%d" % n)
        assert answer["changed"] == ["modbus_master/m%d" % n], answer
    # all texts are others, so all are read; of what they say one thing is another: m0 and m1 are what they were at first
    field.write(changed=[2], indent=1)
    answer, polls = field.polls_during_reload()
    assert answer["changed"] == ["modbus_master/m0", "modbus_master/m1"] and polls >= 5, (answer, polls)
    # all is read, and then it is wrong
    field.write(indent=2, more=[{"type": "modbus_mastr", "name": "x"}])
    answer, polls = field.polls_during_reload()
    assert answer["state"] == "error" and ["devices[1001].type" in e for e in answer["errors"]] == [True], answer
    assert polls >= 5
    # all the others change
    field.write(changed=range(field.many), delay=7)
    answer, polls = field.polls_during_reload()
    assert len(answer["changed"]) == field.many and polls >= 5, polls
    seen = field.report()
    assert (seen["broken"], seen["polled"]) == (0, 1), seen


@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_an_end_during_a_reload_loses_nothing(make_field, end):
    field = make_field(300)
    for delay in (6, 7):
        field.write(changed=range(field.many), delay=delay)
        with field.begin_reload():
            # it has begun when what comes after it is answered
            assert field.suite.control("agent", {"op": "device_show", "name": "polled"})["device"]["state"] == "running"
            getattr(field.suite, end)("agent")
        field.suite.start("agent")
        field.count_anew()
        until(lambda: field.report()["requests"] >= 2, 20, "reads")
        # all are there, as the file says
        rows = field.suite.control("agent", {"op": "device_list"})["devices"]
        assert len(rows) == field.many + 1 and [r["name"] for r in rows if r["enabled"]] == ["polled"]
        answer = field.reload()
        assert (answer["added"], answer["changed"], answer["removed"]) == ([], [], []), answer
