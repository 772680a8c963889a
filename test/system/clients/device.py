"""A device as a user of the vendor's service writes it, with Paho for Python.

Written from the protocol's paper alone. `device.py VERB [ARGS]`; where the service is and who this
is comes from the environment.
"""

import base64
import hashlib
import hmac
import json
import os
import queue
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import paho.mqtt.client as mqtt

HOST = "127.0.0.1"
ACCESS_KEY = os.environ["ACCESS_KEY"]
SECRET = os.environ["SECRET"]
INSTANCE = os.environ["INSTANCE"]
CLIENT_ID = os.environ["CLIENT_ID"]
PARENT = "GW_DOWN"
WAIT_S = 20


def say(*words):
    print(*words, flush=True)


def sign(text):
    digest = hmac.new(SECRET.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


class Device:
    """One connection; everything that happens is put into one queue."""

    def __init__(self, password=None, mode="Signature", transport="tcp", tls=False):
        options = {
            "client_id": CLIENT_ID,
            "clean_session": False,
            "protocol": mqtt.MQTTv311,
            "transport": transport,
        }
        if hasattr(mqtt, "CallbackAPIVersion"):
            options["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION1
        self.events = queue.Queue()
        self.client = mqtt.Client(**options)
        # The handlers first: offline messages may come before anything else.
        self.client.on_connect = lambda c, u, f, code: self.events.put(("connack", code))
        self.client.on_publish = lambda c, u, mid: self.events.put(("puback", mid))
        self.client.on_disconnect = lambda c, u, code: self.events.put(("closed", code))
        self.client.on_message = lambda c, u, m: self.events.put(("message", m))
        self.client.username_pw_set(
            "%s|%s|%s" % (mode, ACCESS_KEY, INSTANCE), password or sign(CLIENT_ID)
        )
        if tls:
            self.client.tls_set(ca_certs=os.environ["CA_FILE"])
        self.client.reconnect_delay_set(60, 120)

    def connect(self, port):
        self.client.connect(HOST, port, 90)
        self.client.loop_start()
        code = self.wait("connack")
        say("connack", code)
        return code == 0

    def wait(self, kind):
        end = time.monotonic() + WAIT_S
        while True:
            name, value = self.events.get(timeout=max(0.01, end - time.monotonic()))
            if name == kind:
                return value
            if name == "message":
                # What comes meanwhile is not lost: it is asked for later.
                self.events.put((name, value))
                time.sleep(0.01)

    def publish(self, topic, text):
        self.client.publish(topic, text, qos=1)
        self.wait("puback")

    def show(self):
        message = self.wait("message")
        say("message", message.topic, message.qos, message.payload.decode())

    def end(self):
        self.client.disconnect()
        self.client.loop_stop()


def hello(port, transport, tls=False):
    device = Device(transport=transport, tls=tls)
    if device.connect(int(os.environ[port])):
        device.publish("%s/p2p/%s" % (PARENT, CLIENT_ID), "hello myself")
        device.show()
    device.end()


def send(target, text):
    device = Device()
    if device.connect(int(os.environ["MQTT_PORT"])):
        device.publish("%s/p2p/%s" % (PARENT, target), text)
        say("puback")
    device.end()


def receive(count):
    device = Device()
    if device.connect(int(os.environ["MQTT_PORT"])):
        for _ in range(int(count)):
            device.show()
    device.end()


def url(path):
    return "http://%s:%s%s" % (HOST, os.environ["HTTP_PORT"], path)


def status(client_id):
    signed = {
        "accessKey": ACCESS_KEY,
        "instanceId": INSTANCE,
        "resource": client_id,
        "timestamp": str(int(time.time() * 1000)),
    }
    text = "&".join("%s=%s" % (key, signed[key]) for key in sorted(signed))
    query = urllib.parse.urlencode(dict(signed, signature=sign(text)))
    try:
        with urllib.request.urlopen(url("/route/clientId/get?" + query)) as answer:
            http, body = answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        http, body = error.code, json.load(error)
    say("status", http, body["code"], body["online"])


def ask_token(verb, signed, others):
    text = "&".join("%s=%s" % (key, signed[key]) for key in sorted(signed))
    form = dict(signed, accessKey=ACCESS_KEY, signature=sign(text), **others)
    data = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(url("/token/" + verb), data) as answer:
        body = json.load(answer)
    say(verb, body["code"])
    return body


def apply():
    signed = {
        "actions": "R,W",
        "resources": "%s/#" % PARENT,
        "expireTime": str(int(time.time() * 1000) + 3600 * 1000),
        "serviceName": "mq",
        "instanceId": INSTANCE,
    }
    return ask_token("apply", signed, {"proxyType": "MQTT"})["tokenData"]


def token():
    device = Device(mode="Token", password="RW|" + apply())
    device.connect(int(os.environ["MQTT_PORT"]))
    fresh = apply()
    device.publish("$SYS/uploadToken", json.dumps({"token": fresh, "type": "RW"}))
    say("uploaded")
    device.publish("%s/p2p/%s" % (PARENT, CLIENT_ID), "with a token")
    device.show()
    ask_token("query", {"token": fresh}, {})
    ask_token("revoke", {"token": fresh}, {})
    notice = device.wait("message")
    say("notice", notice.topic, json.loads(notice.payload.decode())["code"])
    device.wait("closed")
    say("closed")
    ask_token("query", {"token": fresh}, {})
    device.end()


VERBS = {
    "self": lambda: hello("MQTT_PORT", "tcp"),
    "tls": lambda: hello("MQTTS_PORT", "tcp", tls=True),
    "websocket": lambda: hello("WS_PORT", "websockets"),
    "wss": lambda: hello("WSS_PORT", "websockets", tls=True),
    "send": send,
    "receive": receive,
    "status": status,
    "token": token,
}
VERBS[sys.argv[1]](*sys.argv[2:])
