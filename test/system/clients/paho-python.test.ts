import { beside, foreignClientSuite } from "./suite.ts";

foreignClientSuite({
  name: "Paho Python",
  packages: ["python3-paho-mqtt"],
  // Debian's own interpreter: the package installs for it.
  command: () => ["/usr/bin/python3", beside("device.py")],
  websocket: true,
});
