"""Names of the systems in results and reports."""

FLOOR, RELAY, BUS = "broker, one hop", "C relay, two hops", "C relay over common/bus"
CLIENT, PLUGIN = "client transport", "plugin transport"
NODERED, NODERED_EACH = "Node-RED", "Node-RED, a flow for each device"
REGISTRY = "csm"
OURS = (CLIENT, PLUGIN)
