"""Node-RED as a peer: its flows (the same arithmetic as the user functions), settings, start. scripts/bench-peers installs it."""

import json
from pathlib import Path

from suite import ROOT, Broker, Unavailable, end_of, first_answer
from wiring import INPUTS

PEERS = ROOT / "build/peers/node_modules"
NODE, RED = PEERS / "node/bin/node", PEERS / "node-red/red.js"
NODELAY = Path(__file__).with_name("nodelay.js")

ANSWER = "const m = msg.payload; m[0] = m[0] * 2 + 1;"
JOIN = """\
const [, , device, input] = msg.topic.split('/');
const joined = context.get(device) || {there: 0, values: []};
if (joined.values[input] === undefined) joined.there++;
joined.values[input] = msg.payload[0];
context.set(device, joined);
if (joined.there < %d) return null;
msg.payload = [joined.values.reduce((a, b) => a + b) * 2 + 1];
msg.topic = 'bench/out/' + device;
return msg;
""" % INPUTS
REGISTER = "flow.set(msg.req.params.id, msg.payload); msg.payload = {id: msg.req.params.id, state: 'ok'}; return msg;"

SETTINGS = """\
module.exports = {
    uiHost: '127.0.0.1', uiPort: %d, userDir: '%s', flowFile: 'flows.json', credentialSecret: 'bench',
    httpAdminRoot: false, httpNodeRoot: '/', telemetry: {enabled: false, updateNotification: false},
    externalModules: {autoInstall: false, palette: {allowInstall: false}}, functionExternalModules: false,
    logging: {console: {level: 'warn', metrics: false, audit: false}}
};
"""


def node(name, kind, wires, **fields):
    """What has a place on a tab is a node of a flow; without it Node-RED takes it for configuration."""
    return dict(fields, id=name, type=kind, z="tab", x=100, y=100, wires=[wires] if wires else [])


def chain(name, source, code, out_topic=""):
    """mqtt in -> function -> mqtt out; the QoS of a result is that of its message."""
    return [
        node(name + "-in", "mqtt in", [name + "-fn"], topic=source, qos="2", datatype="json", broker="broker", nl=False, rap=True,
             rh=0, inputs=0),
        function(name + "-fn", code, name + "-out"),
        node(name + "-out", "mqtt out", [], topic=out_topic, qos="", retain="", broker="broker"),
    ]


def function(name, code, then):
    return node(name, "function", [then], func=code, outputs=1, timeout=0, noerr=0, initialize="", finalize="", libs=[])


def flows(port, flow_each):
    """flow_each: so many flows of one topic each; 0: one flow with a wildcard for any number of topics."""
    nodes = [
        {"id": "tab", "type": "tab", "label": "bench"},
        {"id": "broker", "type": "mqtt-broker", "name": "", "broker": "127.0.0.1", "port": str(port), "clientid": "",
         "autoConnect": True, "usetls": False, "protocolVersion": "4", "keepalive": "60", "cleansession": True},
        node("put", "http in", ["put-fn"], url="/:id", method="put"),
        function("put-fn", REGISTER, "put-ok"),
        node("put-ok", "http response", [], statusCode="200", headers={}),
    ]
    nodes += chain("join", "bench/in/+/+", JOIN)
    if flow_each:
        for i in range(flow_each):
            nodes += chain("flow%d" % i, "bench/in/%d" % i, ANSWER + " return msg;", "bench/out/%d" % i)
    else:
        nodes += chain("plain", "bench/in/+", ANSWER + " msg.topic = 'bench/out' + msg.topic.slice(8); return msg;")
    return nodes


class NodeRed:
    """A broker of its own and one Node-RED."""

    def __init__(self, processes, name, flow_each=0):
        if not NODE.exists() or not RED.exists():
            raise Unavailable("Node-RED is not in build/peers: scripts/bench-peers installs it")
        folder = processes.make_folder(name)
        self.broker = Broker(processes, folder)
        self.http_port = processes.free_port()
        (folder / "flows.json").write_text(json.dumps(flows(self.broker.port, flow_each)))
        (folder / "settings.js").write_text(SETTINGS % (self.http_port, folder))
        log = folder / "node-red.log"
        self.process = processes.spawn(log, [NODE, "--require", NODELAY, RED, "--settings", folder / "settings.js",
                                             "--userDir", folder])
        # the last flow: the others have subscribed before it
        last = max(0, flow_each - 1)
        answer = first_answer(self.broker.port, "bench/in/%d" % last, "bench/out/%d" % last, "[20]")
        if answer != b"[41]":
            raise RuntimeError("Node-RED answers %s\n%s" % (answer, end_of(log)))

    def pids(self):
        return {"broker": [self.broker.pid], "node": [self.process.pid]}
