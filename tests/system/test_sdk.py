"""Clients that behave like the Python and the JavaScript SDK, through a whole life: register, connect, data both ways, reconnect,
deregister."""

import json

import pytest

from clients import JsSdk, Sdk, digest

TRANSPORTS = ("client", "plugin")

DOUBLE = "def run(x): return x * 2\n"


@pytest.fixture(params=[Sdk, JsSdk], ids=["python", "javascript"])
def sdk_class(request):
    return request.param


def test_the_whole_life_of_a_device_application(suite, clients, sdk_class):
    api = clients.device_api(suite)
    api.attach()
    sdk = clients.sdk(suite, sdk_class, idf=("Dummy-Sensor",), odf=("Dummy-Control",))
    assert sdk.registered["url"]["port"] == suite.mqtt_port and sdk.registered["url"]["ws_port"] == suite.ws_port
    assert sdk.name.endswith(".Dummy")
    api.announced("online", sdk.da_id)
    g = clients.graph(suite)
    g.ok("attach")
    g.add_funcs(DOUBLE)
    g.ok("add_link", da_id=sdk.da_id, idf="Dummy-Sensor", func=digest(DOUBLE), param_no=1, tag_param_no=0, input_type="sample")
    g.ok("add_link", da_id=sdk.da_id, odf="Dummy-Control", func=None, param_no=1)
    keys = ("idf", "Dummy-Sensor"), ("odf", "Dummy-Control")
    sdk.until_connected(*keys)
    for link in g.state()["links"]:
        g.until_link(sdk.da_id, link["mode"], link["feature"], "connected")
    topics = dict(sdk.topics)
    for n in range(10):
        sdk.push("Dummy-Sensor", [n])
        assert sdk.received("Dummy-Control") == [2 * n]

    # the connection breaks: the last will says offline; back again it says offline, online and is told its channels again
    sdk.commands.take_all()
    sdk.drop_connection()
    sdk.until_online()
    api.announced("offline", sdk.da_id)
    api.announced("online", sdk.da_id)
    sdk.command("CONNECT", "idf", "Dummy-Sensor")
    sdk.command("CONNECT", "odf", "Dummy-Control")
    assert sdk.topics == topics
    sdk.push("Dummy-Sensor", [50])
    assert sdk.received("Dummy-Control") == [100]
    for link in g.state()["links"]:
        g.until_link(sdk.da_id, link["mode"], link["feature"], "connected")

    # the graph goes: DISCONNECT with the topic
    g.ok("detach")
    assert sdk.command("DISCONNECT", "idf", "Dummy-Sensor")["topic"] == topics[keys[0]]
    assert sdk.command("DISCONNECT", "odf", "Dummy-Control")["topic"] == topics[keys[1]]

    response = sdk.deregister()
    assert response.status_code == 200 and response.json() == {"id": sdk.da_id, "state": "ok"}
    api.announced("deregister", sdk.da_id)
    assert sdk.http.get(sdk.da_id).status_code == 404
    retained = clients.mqtt(suite).subscribe(sdk.up_topic).get()
    assert retained.retain and retained.json["state"] == "offline"


def test_data_from_a_python_device_reaches_a_page_and_back(suite, clients):
    device, page = clients.sdk(suite, Sdk), clients.sdk(suite, JsSdk)
    there, back = clients.graph(suite), clients.graph(suite)
    for g, source, target in ((there, device, page), (back, page, device)):
        g.ok("attach")
        g.ok("add_link", da_id=source.da_id, idf="meow", func=None, param_no=1)
        g.ok("add_link", da_id=target.da_id, odf="meow", func=None, param_no=1)
    for sdk in (device, page):
        sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    for n in range(20):
        device.push("meow", [n])
        assert page.received("meow") == [n]
        page.push("meow", [n * n])
        assert device.received("meow") == [n * n]


def test_a_program_that_starts_again_takes_up_its_links(suite, clients, sdk_class):
    """The same id registers again with a new revision, as a restarted device application does."""
    first = clients.sdk(suite, sdk_class)
    g = clients.graph(suite)
    g.wire(first.da_id, "meow", "meow")
    first.until_connected(("idf", "meow"), ("odf", "meow"))
    first.vanish()
    second = clients.sdk(suite, sdk_class, da_id=first.da_id)
    assert second.rev != first.rev
    second.until_connected(("idf", "meow"), ("odf", "meow"))
    second.push("meow", [1])
    assert second.received("meow") == [1]


def test_many_reconnections_in_a_row(suite, clients, sdk_class):
    sdk = clients.sdk(suite, sdk_class)
    g = clients.graph(suite)
    g.wire(sdk.da_id, "meow", "meow")
    sdk.until_connected(("idf", "meow"), ("odf", "meow"))
    for n in range(10):
        sdk.commands.take_all()
        sdk.drop_connection()
        sdk.command("CONNECT", "idf", "meow")
        sdk.command("CONNECT", "odf", "meow")
        sdk.push("meow", [n])
        assert sdk.data.get(lambda d: d[1] == [n])


def test_a_hundred_devices_at_once(suite, clients):
    sdks = [clients.sdk(suite, Sdk if n % 2 else JsSdk, connect=False) for n in range(100)]
    api = clients.device_api(suite)
    api.attach()
    for sdk in sdks:
        sdk.open()
    for sdk in sdks:
        api.announced("online", sdk.da_id)
    hub = clients.graph(suite)
    hub.ok("attach")
    for sdk in sdks:
        hub.ok("add_link", da_id=sdk.da_id, odf="meow", func=None)
    hub.ok("add_link", da_id=sdks[0].da_id, idf="meow", func=None)
    sdks[0].until_connected(("idf", "meow"))
    for sdk in sdks:
        sdk.until_connected(("odf", "meow"))
    sdks[0].push("meow", {"to": "all"})
    for sdk in sdks:
        assert sdk.received("meow") == [{"to": "all"}]
    assert json.dumps(hub.state()["join"]) == "null"
