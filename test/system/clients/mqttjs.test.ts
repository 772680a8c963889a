import { beside, foreignClientSuite } from "./suite.ts";

foreignClientSuite({
  name: "MQTT.js",
  packages: [],
  command: () => [process.execPath, beside("device.ts")],
  websocket: true,
});
