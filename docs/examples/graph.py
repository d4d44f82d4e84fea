#!/usr/bin/env python3
"""Wires IDF `count` of a device application to its ODF `result` through two functions, and watches. Ctrl-C takes it away again."""
import argparse, hashlib, json, queue, signal, threading, uuid
import paho.mqtt.client as mqtt

args = argparse.ArgumentParser(description=__doc__)
args.add_argument("da_id", help="UUID of the device application: device.py prints it")
args.add_argument("--host", default="localhost", help="of the MQTT broker (%(default)s)")
args.add_argument("--port", type=int, default=1883, help="of the MQTT broker (%(default)s)")
args = args.parse_args()
stop, lost = threading.Event(), threading.Event()
signal.signal(signal.SIGINT, lambda *_: stop.set())
WHOLE = "def run(x):\n    return int(x)\n"
SQUARE = "def run(x):\n    return x ** 2\n"
whole, square = (hashlib.sha256(code.encode()).hexdigest() for code in (WHOLE, SQUARE))
rest = "example-%s/graph/1" % uuid.uuid4()  # client id, service, graph id
answers, ready = queue.Queue(), threading.Event()

def on_message(client, userdata, m):
    message = json.loads(m.payload)
    if m.topic.startswith("iottalk/monitor/"):
        print(f"monitor {json.dumps(message)}\n", end="", flush=True)  # one write: two threads print
    elif message["op"] == "anno":  # unasked: a change that was answered as pending has been refused
        print(f"announced {json.dumps(message)}\n", end="", flush=True)
    else:
        answers.put(message)

def request(op, **fields):
    client.publish("iottalk/api/req/" + rest, json.dumps(dict(fields, op=op)), 2)
    answer = answers.get(timeout=10)
    print(f"{op} {answer['state']} {'(pending)' if answer.get('pending') else ''}\n", end="", flush=True)
    if answer["state"] != "ok":
        raise SystemExit(answer["reason"])  # the last will detaches
    return answer

client = mqtt.Client()
client.on_connect = lambda client, *_: client.subscribe("iottalk/api/res/" + rest, 2)
client.on_subscribe = lambda *_: ready.set()
client.on_disconnect = lambda *_: (lost.set(), stop.set())  # the broker has sent our last will: the graph is gone
client.on_message = on_message
client.will_set("iottalk/api/req/" + rest, json.dumps({"op": "detach"}), 2)
client.connect(args.host, args.port)
client.loop_start()
ready.wait(10)
request("attach")
request("add_funcs", codes=[WHOLE, SQUARE], digests=[whole, square])
client.subscribe(request("start_monitor")["monitor_topics"], 2)
request("set_join", prev=None, new=square)  # the end first: no number finds half a graph
request("add_link", da_id=args.da_id, odf="result", func=None, param_no=1)
request("add_link", da_id=args.da_id, idf="count", func=whole, param_no=1)
stop.wait()
if lost.is_set():
    raise SystemExit("connection lost")
request("detach")
client.disconnect()
