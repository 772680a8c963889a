import { beside, foreignClientSuite } from "./suite.ts";

foreignClientSuite({
  name: "mosquitto_pub and mosquitto_sub",
  packages: ["mosquitto-clients", "openssl"],
  command: () => ["/bin/bash", beside("device.sh")],
  websocket: false,
  // A connection for each message, and one that receives.
  tokenLines: [
    ...["apply 200", "apply 200", "connack 0", "puback", "connack 0", "puback"],
    ...["message GW_DOWN/p2p/GID_demo@@@foreign 1 with a token", "query 200", "revoke 200"],
    ...["notice $SYS/tokenInvalidNotice 3", "closed", "query 3"],
  ],
});
