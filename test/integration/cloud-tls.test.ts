import { connectAsync } from "mqtt";
import { expect, it, onTestFinished } from "vitest";
import {
  makeConnectPassword,
  makeConnectUsername,
} from "../../agent/protocol/connect-signature.ts";
import { makeAuthority, makeCertificate } from "../support/certificates.ts";
import { startCloud } from "../support/cloud.ts";
import { demoCredentials, RawClient } from "../support/raw-client.ts";
import { waitFor } from "../support/wait-for.ts";

const clientId = "GID_demo@@@tls";

it("MQTT over TLS: the same service, and a plain connection to it gets nowhere", async () => {
  const authority = makeAuthority();
  const tls = makeCertificate({ name: "service", hosts: ["127.0.0.1"], issuer: authority });
  const { cloud } = await startCloud({ listen: { host: "127.0.0.1", mqtts: { port: 0 } }, tls });
  const port = cloud.ready?.mqtts?.port ?? 0;
  expect(cloud.ready?.mqtt).toBeUndefined();

  const plain = await RawClient.open(port);
  plain.sendConnect({ clientId });
  await plain.untilClosed();
  expect(plain.all("connack")).toEqual([]);

  const client = await connectAsync(`mqtts://127.0.0.1:${port}`, {
    ca: authority.cert,
    clientId,
    username: makeConnectUsername({ mode: "Signature", ...demoCredentials }),
    password: makeConnectPassword(demoCredentials.secret, clientId),
    protocolVersion: 4,
    reconnectPeriod: 0,
  });
  onTestFinished(() => client.endAsync(true));
  const received: string[] = [];
  client.on("message", (_, payload) => received.push(payload.toString()));
  await client.publishAsync(`GW_DOWN/p2p/${clientId}`, "over TLS", { qos: 1 });
  await waitFor(() => received.length === 1);
  expect(received).toEqual(["over TLS"]);
});
