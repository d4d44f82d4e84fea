"""The device type ping: who answers, as the event bus and IoTtalk are told."""

from field_devices import example_of, registered_devices, start_gateway  # noqa: F401: a fixture


def ping(**hosts):
    """A device of the file."""
    return {"type": "ping", "name": "net",
            "remote_devices": [{"name": name, "host": host, "ping_delay": 0.05, "ping_timeout": 2, "retry_count": 1,
                                "retry_delay": 0.05} for name, host in hosts.items()]}


def test_who_answers_is_available_and_the_rest_is_not(start_gateway):
    suite, net = start_gateway(ping(near="127.0.0.1", near6="::1", name="localhost", nobody="nobody.invalid"))
    for host in ("near", "near6", "name", "nobody"):
        assert net.event("status/" + host) == "NOT_AVAILABLE"
    for host in ("near", "near6", "name"):
        assert net.event("status/" + host) == "AVAILABLE"
    net.inbox.take_all()
    net.enable(False)   # has been told of all before
    told = [(m.topic.rsplit("/", 1)[1], m.json["payload"]) for m in net.inbox.take_all() if "/status/" in m.topic]
    assert told == [(host, "NOT_AVAILABLE") for host in ("near", "near6", "name")]


def test_the_example_of_its_page_runs(start_gateway):
    _, net = start_gateway(example_of("ping"))
    assert [net.event("status/router") for _ in range(2)] == ["NOT_AVAILABLE", "AVAILABLE"]


def test_states_are_there_for_who_comes_later(start_gateway, clients):
    suite, net = start_gateway(ping(near="127.0.0.1"))
    net.event("status/near", lambda p: p == "AVAILABLE")
    inbox = clients.mqtt(suite).subscribe(net.prefix + "gateway/#")
    message = inbox.get(lambda m: m.topic == net.prefix + "gateway/status/near")
    assert message.retain and message.json["payload"] == "AVAILABLE" and message.json["source_timestamp"] is None


def test_a_host_is_a_feature_of_one_or_zero(start_gateway, clients):
    suite, net = start_gateway(ping(near="127.0.0.1", nobody="nobody.invalid"))
    net.event("status/near", lambda p: p == "AVAILABLE")
    found = registered_devices(clients, suite, "net")
    g = clients.graph(suite)
    g.ok("attach")
    seen = clients.mqtt(suite)
    for feature, value in (("near", [1]), ("nobody", [0])):
        g.ok("add_link", da_id=found["net"], idf=feature, func=None)
        inbox = seen.subscribe(g.topic(found["net"], "idf", feature))
        # the last value is pushed once more when it is connected; it may have been before we listened
        net.enable(False)
        net.enable(True)
        inbox.get(lambda m: m.json == value)
