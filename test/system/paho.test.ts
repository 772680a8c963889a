/**
 * The Paho Python client of Debian against the local service: a program such as a user of the
 * vendor's service would write it. It connects in signature mode and sends itself a P2P message.
 */
import { execFile, execFileSync } from "node:child_process";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { startCloud } from "../support/cloud.ts";

/** Debian's own interpreter: python3-paho-mqtt installs for it. */
const PYTHON = "/usr/bin/python3";
const PROGRAM = `
import base64, hashlib, hmac, sys, threading
import paho.mqtt.client as mqtt

port, access_key, secret, instance = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
client_id = "GID_demo@@@paho"
digest = hmac.new(secret.encode(), client_id.encode(), hashlib.sha1).digest()
topic = "GW_DOWN/p2p/" + client_id
done = threading.Event()

def on_connect(client, userdata, flags, code):
    print("connack", code, flush=True)
    if code == 0:
        client.publish(topic, "hello from paho", qos=1)
    else:
        done.set()

def on_message(client, userdata, message):
    print("message", message.topic, message.qos, message.payload.decode(), flush=True)
    done.set()

options = {"client_id": client_id, "clean_session": False, "protocol": mqtt.MQTTv311}
if hasattr(mqtt, "CallbackAPIVersion"):
    options["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION1
client = mqtt.Client(**options)
client.username_pw_set("Signature|%s|%s" % (access_key, instance), base64.b64encode(digest).decode())
client.on_connect = on_connect
client.on_message = on_message
client.connect("127.0.0.1", port, 90)
client.loop_start()
ok = done.wait(20)
client.disconnect()
client.loop_stop()
sys.exit(0 if ok else 1)
`;

const missing = whyNotPaho();
const reason = missing ? ` (left out: ${missing})` : "";

it.skipIf(missing)(`Paho Python sends and receives a P2P message${reason}`, async () => {
  const { mqttPort, cloud } = await startCloud();
  expect(await runPaho(mqttPort, "SK")).toEqual([
    "connack 0",
    "message GW_DOWN/p2p/GID_demo@@@paho 1 hello from paho",
  ]);
  expect(cloud.stats).toMatchObject({ accepted: 1, refused: 0 });
});

it.skipIf(missing)(`Paho Python with a wrong secret is told code 5${reason}`, async () => {
  const { mqttPort } = await startCloud();
  const [first] = await runPaho(mqttPort, "wrong");
  expect(first).toBe("connack 5");
});

async function runPaho(port: number, secret: string): Promise<string[]> {
  const words = ["-c", PROGRAM, String(port), "AK", secret, "mqtt-local"];
  const { stdout } = await promisify(execFile)(PYTHON, words, { timeout: 60_000 });
  return stdout.trim().split("\n");
}

function whyNotPaho(): string | undefined {
  try {
    execFileSync(PYTHON, ["-c", "import paho.mqtt.client"], { stdio: "ignore" });
    return undefined;
  } catch {
    return "python3-paho-mqtt is not installed";
  }
}
