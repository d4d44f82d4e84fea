#!/usr/bin/env python3
"""A device application: pushes 1, 2, 3... on its IDF `count` and prints what arrives on its ODF `result`. Ctrl-C leaves."""
import argparse, itertools, json, signal, threading, uuid
import paho.mqtt.client as mqtt
import requests

args = argparse.ArgumentParser(description=__doc__)
args.add_argument("--url", default="http://localhost:9992", help="where to register (%(default)s)")
args.add_argument("--id", default=str(uuid.uuid4()), help="UUID of this device application (a random one)")
args.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="between two numbers (%(default)s)")
args = args.parse_args()
stop = threading.Event()
signal.signal(signal.SIGINT, lambda *_: stop.set())
answer = requests.put("%s/%s" % (args.url, args.id), timeout=10, json={
    "accept_protos": ["mqtt"], "profile": {"model": "Example"},
    "idf_list": [["count", ["number"]]], "odf_list": [["result", ["number"]]]}).json()
if answer["state"] != "ok":
    raise SystemExit("not registered: " + answer["reason"])
up, down = answer["ctrl_chans"]  # to the server, from the server
online, offline = (json.dumps({"state": state, "rev": answer["rev"]}) for state in ("online", "offline"))
topics = {}  # ("idf" or "odf", feature) -> data topic, while connected
after_suback = {}  # message id of a SUBSCRIBE -> what to publish once the broker has acknowledged it

def on_connect(client, userdata, flags, rc):  # after a reconnection too: the server then sends CONNECT again
    topics.clear()
    after_suback[client.subscribe(down, 2)[1]] = (up, online, 2, True)

def on_message(client, userdata, m):
    if m.topic != down:
        return print(f"got {m.payload.decode()}\n", end="", flush=True)  # one write: two threads print
    command = json.loads(m.payload)
    mode = "idf" if "idf" in command else "odf"
    reply = (up, json.dumps({"msg_id": command["msg_id"], "state": "ok"}), 2)
    print(f"{command['command']} {mode} {command[mode]}\n", end="", flush=True)
    if command["command"] == "CONNECT":
        topics[mode, command[mode]] = command["topic"]
        if mode == "odf":  # connected when the subscription stands
            return after_suback.update({client.subscribe(command["topic"], 2)[1]: reply})
    elif command["command"] == "DISCONNECT" and topics.pop((mode, command[mode]), None) and mode == "odf":
        client.unsubscribe(command["topic"])
    client.publish(*reply)

client = mqtt.Client()
client.on_connect, client.on_message = on_connect, on_message
client.on_subscribe = lambda client, userdata, mid, granted: client.publish(*after_suback.pop(mid))
client.will_set(up, offline, 2, True)
client.connect(answer["url"]["host"], answer["url"]["port"])
client.loop_start()
print("registered", answer["name"], args.id, flush=True)
numbers = itertools.count(1)
while not stop.wait(args.every):
    topic = topics.get(("idf", "count"))
    if topic:
        value = json.dumps([next(numbers)])
        client.publish(topic, value, 1)
        print(f"sent {value}\n", end="", flush=True)
if client.is_connected():
    client.publish(up, offline, 2, True).wait_for_publish(5)
client.disconnect()  # without this the broker would send the last will
requests.delete("%s/%s" % (args.url, args.id), json={"rev": answer["rev"]}, timeout=10)
