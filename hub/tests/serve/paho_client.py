# A client of Eclipse Paho with an agent's certificate: says or hears one thing, and tells what came of it.
#   paho_client.py FOLDER PORT CLIENT publish TOPIC MESSAGE QUALITY   "acknowledged" or "cut"
#   paho_client.py FOLDER PORT CLIENT listen TOPIC                    "granted N" and the first message, or "cut"
import sys
import time

import paho.mqtt.client as mqtt

folder, port, name, what, topic, *more = sys.argv[1:]
told = []


def connected(client, _data, _flags, code):
    if code != 0:
        told.append(f"refused {code}")
    elif what == "publish":
        client.publish(topic, more[0], qos=int(more[1]))
    else:
        client.subscribe(topic, qos=1)


def subscribed(_client, _data, _number, granted):
    print("granted", *granted, flush=True)
    if max(granted) > 2:
        told.append("denied")


def disconnected(_client, _data, code):
    told.append("left" if code == 0 else "cut")


client = mqtt.Client(client_id=name, protocol=mqtt.MQTTv311, reconnect_on_failure=False)
client.tls_set(f"{folder}/ca.pem", f"{folder}/agent.pem", f"{folder}/agent.key")
client.on_connect = connected
client.on_subscribe = subscribed
client.on_publish = lambda *_all: told.append("acknowledged")
client.on_message = lambda _client, _data, message: told.append(message.payload.decode())
client.on_disconnect = disconnected
client.connect("127.0.0.1", int(port), keepalive=20)
until = time.monotonic() + 20
while not told and time.monotonic() < until:
    client.loop(0.2)
print(told[0] if told else "nothing", flush=True)
client.disconnect()
client.loop(0.2)
