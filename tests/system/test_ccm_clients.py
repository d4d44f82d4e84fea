"""Programs as people have them: everything from an account to data on the other side, in the order in which a program does it."""

import threading

import pytest

from ccm_clients import Program, Refused, graphs_that_run, unique
from ccm_fixtures import suite
from clients import Recorder, Sdk, new_id
from suite import until

# results tell which function made them, and from what
SECOND, THIRD = 1000000, 2000000
PLUS = "def run(*args):\n    return args[0] + %d\n"


@pytest.fixture(params=["/api/v0", "/iottalk/ccm/api/v0"])
def program(suite, request):
    p = Program(suite, request.param)
    name = unique("user")
    u_id = p.account_create(name, "a password")
    assert p.account_login(name, "a password") == u_id
    profile = p.account_profile()
    assert (profile["u_id"], profile["u_name"], profile["is_admin"]) == (u_id, name, False)
    p.user = name
    return p


class Stream:
    """Pushes [n] with n counting up until it is stopped."""

    def __init__(self, device, feature, every_s=0.004):
        self.device, self.feature, self.every_s, self.sent = device, feature, every_s, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(self.every_s):
            self.device.push(self.feature, [self.sent], wait=False)
            self.sent += 1

    def stop(self):
        self._stop.set()
        self._thread.join()
        return self.sent


def refused(status, call, *args, **kw):
    with pytest.raises(Refused) as e:
        call(*args, **kw)
    assert e.value.status == status and e.value.reason, e.value
    return e.value.reason


def push_and_read(sensor, sensor_name, lamp, lamp_name, value, want):
    sensor.push(sensor_name, [value])
    assert lamp.received(lamp_name) == want


def functions_of(info, side):
    return [row["fn_id"] for dfo in info[side] for row in dfo["dfmp"]]


def with_function(info, side, fn_id):
    """The complete rows as they came, with another function: what programs send back."""
    return [{"dfo_id": dfo["dfo_id"], "dfmp_list": [dict(row, fn_id=fn_id) for row in dfo["dfmp"]]} for dfo in info[side]]


def test_from_an_account_to_data_and_back(suite, clients, program):
    p, names = program, [unique("Temperature"), unique("Heater")]
    sensor_name, heater_name = names
    model = unique("Thermostat")

    # what there is to wire
    for name, kind in zip(names, ("input", "output")):
        df_id = p.devicefeature_create(name, kind, [{"param_type": "float", "min": 0, "max": 0}], comment="of a test")
        assert p.devicefeature_get(name)["df_id"] == p.devicefeature_get(df_id)["df_id"] == df_id
    dm_id = p.devicemodel_create(model, [{"key": names[0]}, {"key": names[1], "parameter": [{"param_type": "float"}]}])
    assert [df["df_name"] for df in p.devicemodel_get(model)["df_list"]] == sorted(names)
    assert "already exists" in refused(400, p.devicemodel_create, model, [{"key": names[0]}])

    # a project with two device objects and a join
    p_id = p.project_create("Home")
    assert "already exists" in refused(400, p.project_create, "Home")
    assert [row["p_id"] for row in p.project_get()] == [p_id] and p.project_get("Home")["status"] == "off"
    inside, outside = p.deviceobject_create(p_id, model, [sensor_name]), p.deviceobject_create(p_id, model, [heater_name])
    assert p.deviceobject_get(p_id, inside)["do"]["dfo"] == [sensor_name]
    na_id = p.networkapplication_create(p_id, [(inside, sensor_name), (outside, heater_name)])
    info = p.networkapplication_get(p_id, na_id)
    assert (info["na_name"], info["na_idx"]) == ("Join 1", 0)
    assert [(d["df_name"], d["mac_addr"]) for d in info["input"] + info["output"]] == [(sensor_name, None), (heater_name, None)]

    # devices, bound by the address that they registered with
    macs = [new_id(), new_id()]
    refused(404, p.device_bind, p_id, inside, macs[0])
    sensor, heater = (clients.add(Sdk(suite, da_id=mac, idf=idf, odf=odf, model=model, profile={"u_name": p.user}))
                      for mac, idf, odf in ((macs[0], (sensor_name,), ()), (macs[1], (), (heater_name,))))
    assert p.device_bind_soon(p_id, inside, macs[0]) == sensor.name
    assert p.device_bind_soon(p_id, outside, macs[1]) == heater.name
    assert [d["mac_addr"] for d in p.device_get(p_id, inside)] == macs
    assert [do["status"] for do in p.project_get(p_id)["ido"]] == ["online"]

    # on: data arrives as it was sent
    assert na_id not in graphs_that_run(suite)
    assert p.project_on(p_id) == "on" and p.project_on(p_id) == "on"
    sensor.until_connected(("idf", sensor_name))
    heater.until_connected(("odf", heater_name))
    for value in (21.5, -3, 0):
        push_and_read(sensor, sensor_name, heater, heater_name, value, [value])

    # a function, changed while data flows: each result is of one of them, in order, none is lost
    second = p.function_create(unique("second").replace("-", "_"), PLUS % SECOND)
    recorder = Recorder(clients.mqtt(suite), heater.topics[("odf", heater_name)], qos=2)
    stream = Stream(sensor, sensor_name)
    recorder.until(lambda values, times: len(values) > 20)
    info = p.networkapplication_get(p_id, na_id)
    p.networkapplication_update(p_id, na_id, with_function(info, "output", second))
    assert functions_of(p.networkapplication_get(p_id, na_id), "output") == [second]
    recorder.until(lambda values, times: values[-1] >= SECOND)
    # the same function with another body
    p.function_update(second, PLUS % THIRD)
    assert [v["code"] for v in p.function_get_all_versions(second)] == [PLUS % SECOND, PLUS % THIRD]
    recorder.until(lambda values, times: values[-1] >= THIRD)
    sent = stream.stop()
    recorder.until(lambda values, times: values[-1] == THIRD + sent - 1)
    assert [v % SECOND for v in recorder.values] == list(range(recorder.values[0], sent))
    assert [v // SECOND for v in recorder.values] == sorted(v // SECOND for v in recorder.values)
    heater.data.take_all()
    assert "used" in refused(404, p.function_delete, second)
    refused(400, p.function_create, unique("broken").replace("-", "_"), "def run(:\n")

    # no function again
    p.networkapplication_update(p_id, na_id, with_function(info, "output", None))
    until(lambda: sensor.push(sensor_name, [5]) and heater.received(heater_name) == [5], what="a result without a function")

    # aliases
    assert p.alias_get(macs[0], sensor_name) == sensor_name
    assert p.alias_set(macs[0], sensor_name, "Küche") == "Küche" == p.alias_get(macs[0], sensor_name)
    assert p.project_get(p_id)["ido"][0]["dfo"][0]["alias_name"] == "Küche"
    refused(404, p.alias_get, new_id(), sensor_name)

    # unbound: nothing arrives; bound again: it does
    p.device_unbind(p_id, inside)
    sensor.command("DISCONNECT", "idf", sensor_name)
    p.device_bind_soon(p_id, inside, macs[0])
    sensor.until_connected(("idf", sensor_name))
    heater.data.take_all()
    push_and_read(sensor, sensor_name, heater, heater_name, 6, [6])

    # off: the wires are gone
    assert p.project_off(p_id) == "off"
    sensor.command("DISCONNECT", "idf", sensor_name)
    heater.command("DISCONNECT", "odf", heater_name)
    until(lambda: na_id not in graphs_that_run(suite), what="the end of the graph")

    # gone, from the inside out
    assert p.networkapplication_delete(p_id, na_id) == na_id
    refused(404, p.networkapplication_get, p_id, na_id)
    p.function_delete(second)
    p.deviceobject_delete(p_id, outside)
    refused(404, p.deviceobject_get, p_id, outside)
    assert "in use" in refused(404, p.devicemodel_delete, dm_id)
    assert p.project_delete(p_id) == p_id
    refused(404, p.project_get, p_id)
    for device in (sensor, heater):
        device.deregister()
    until(lambda: not deletable(p, dm_id), what="the end of the devices in ccm")
    refused(404, p.devicemodel_get, model)
    for name in names:
        p.devicefeature_delete(name)
    p.account_delete()
    refused(401, p.account_profile)


def deletable(p, dm_id):
    """ret: False once it is deleted: ccm hears of devices that are gone a moment later."""
    try:
        p.devicemodel_delete(dm_id)
    except Refused as e:
        assert "in use" in e.reason
        return True
    return False


def test_joins_of_several_features_take_their_arguments_in_order(suite, clients, program):
    p = program
    names = [unique("In") for _ in range(3)] + [unique("Out")]
    for name in names:
        p.devicefeature_create(name, "output" if name == names[3] else "input", [{}])
    model = unique("Model")
    p.devicemodel_create(model, [{"key": name} for name in names])
    p_id = p.project_create("Join")
    objects = [p.deviceobject_create(p_id, model, [name]) for name in names]
    order = [2, 0, 1, 3]
    na_id = p.networkapplication_create(p_id, [(objects[i], names[i]) for i in order])
    join = p.function_create(unique("join").replace("-", "_"), "def run(*args):\n    return list(args)\n")
    p.networkapplication_update(p_id, na_id, [], multiplejoin_fn_id=join)
    info = p.networkapplication_get(p_id, na_id)
    by_dfo = {dfo["dfo_id"]: dfo["df_name"] for dfo in info["input"]}
    assert [(row["param_i"], by_dfo[row["dfo_id"]], row["fn_id"]) for row in info["multiple"]] == [
        (n, names[i], join) for n, i in enumerate(order[:3])]
    devices = []
    for name, do_id in zip(names, objects):
        device = clients.add(Sdk(suite, idf=() if name == names[3] else (name,), odf=(name,) if name == names[3] else (), model=model,
                                 profile={"u_name": p.user}))
        p.device_bind_soon(p_id, do_id, device.da_id)
        devices.append(device)
    p.project_on(p_id)
    for device, name in zip(devices, names):
        device.until_connected(("odf" if name == names[3] else "idf", name))
    for n in range(3):
        devices[n].push(names[n], [n])
    assert devices[3].data.get(lambda d: None not in flat(d[1]))[1] == [[2, 0, 1]]
    p.project_delete(p_id)


def flat(values):
    for v in values:
        if isinstance(v, list):
            yield from flat(v)
        else:
            yield v


def test_a_simulated_device_stands_in_until_a_real_one_is_bound(suite, clients, program):
    p, names = program, [unique("Sensor"), unique("Lamp")]
    p.devicefeature_create(names[0], "input", [{"param_type": "int", "min": 10, "max": 20}])
    p.devicefeature_create(names[1], "output", [{"param_type": "int"}])
    model = unique("Model")
    p.devicemodel_create(model, [{"key": name} for name in names])
    p_id = p.project_create("Simulated")
    sensor_do, lamp_do = (p.deviceobject_create(p_id, model, [name]) for name in names)
    p.networkapplication_create(p_id, [(sensor_do, names[0]), (lamp_do, names[1])])
    lamp = clients.add(Sdk(suite, idf=(), odf=(names[1],), model=model, profile={"u_name": p.user}))
    p.device_bind_soon(p_id, lamp_do, lamp.da_id)
    p.project_on(p_id)
    assert (p.simulation_get(p_id), p.simulation_on(p_id), p.simulation_get(p_id)) == ("off", "on", "on")
    for _ in range(3):
        value, = lamp.received(names[1])
        assert isinstance(value, int) and 10 <= value <= 20
    assert [do["do_id"] for do in p.project_get(p_id)["odo"] if do["d_name"] == lamp.name] == [lamp_do]

    # a real one takes its place, and gives it back
    sensor = clients.add(Sdk(suite, idf=(names[0],), odf=(), model=model, profile={"u_name": p.user}))
    p.device_bind_soon(p_id, sensor_do, sensor.da_id)
    sensor.until_connected(("idf", names[0]))
    sensor.push(names[0], [4711])
    lamp.data.get(lambda d: d[1] == [4711])
    p.device_unbind(p_id, sensor_do)
    sensor.command("DISCONNECT", "idf", names[0])
    lamp.data.take_all()
    assert 10 <= lamp.received(names[1])[0] <= 20

    # off: it is deregistered
    assert p.simulation_off(p_id) == "off"
    simulated = [d for d in p.device_get(p_id, sensor_do) if d["is_sim"]]
    assert simulated == []
    until(lambda: all(do["d_id"] is None for do in p.project_get(p_id)["ido"]), what="the end of the simulator")
    p.project_delete(p_id)


def test_data_flows_on_through_deaths_and_restarts(suite, clients, program):
    """ccm, csm and the broker die in turn; what runs is what is stored, without anybody asking."""
    p, names = program, [unique("Sensor"), unique("Lamp")]
    for name, kind in zip(names, ("input", "output")):
        p.devicefeature_create(name, kind, [{}])
    model = unique("Model")
    p.devicemodel_create(model, [{"key": name} for name in names])
    p_id = p.project_create("Kept")
    objects = [p.deviceobject_create(p_id, model, [name]) for name in names]
    na_id = p.networkapplication_create(p_id, list(zip(objects, names)))
    double = p.function_create(unique("double").replace("-", "_"), "def run(*args):\n    return args[0] * 2\n")
    p.networkapplication_update(p_id, na_id, with_function(p.networkapplication_get(p_id, na_id), "input", double))
    sensor, lamp = (clients.add(Sdk(suite, idf=idf, odf=odf, model=model, profile={"u_name": p.user}))
                    for idf, odf in (((names[0],), ()), ((), (names[1],))))
    for do_id, device in zip(objects, (sensor, lamp)):
        p.device_bind_soon(p_id, do_id, device.da_id)
    p.project_on(p_id)

    def works(value):
        sensor.until_connected(("idf", names[0]))
        lamp.until_connected(("odf", names[1]))
        lamp.data.take_all()
        until(lambda: arrives(value), what="a result")

    def arrives(value):
        sensor.push(names[0], [value])
        try:
            return lamp.data.get(lambda d: d[1] == [value * 2], timeout=1)
        except AssertionError:
            return None

    works(1)
    for n, who in enumerate(("ccm", "csm", "agent", "broker", "ccm")):
        suite.kill9(who)
        suite.start_broker() if who == "broker" else suite.start(who)
        works(10 + n)
    # a device that comes back under its address is the one that was bound
    lamp.close()
    lamp = clients.add(Sdk(suite, da_id=lamp.da_id, idf=(), odf=(names[1],), model=model, profile={"u_name": p.user}))
    works(20)
    # what was done while csm was away is done when it is back
    suite.kill9("csm")
    assert p.project_off(p_id) == "off"
    suite.start("csm")
    lamp.command("DISCONNECT", "odf", names[1])
    suite.kill9("csm")
    assert p.project_on(p_id) == "on"
    suite.start("csm")
    works(30)
    p.project_delete(p_id)


def test_aliases_of_the_first_version_are_there(program):
    p = program
    p_id = p.project_create("by name")
    assert p._do("GET", "/project/prj_name/by%20name")["data"]["p_id"] == p_id
    name, model = unique("Feature"), unique("Model")
    p.devicefeature_create(name, "input", [{}])
    dm_id = p.devicemodel_create(model, [{"key": name}])
    assert p._do("GET", "/devicemodel/name/" + model)["data"]["dm_id"] == dm_id
