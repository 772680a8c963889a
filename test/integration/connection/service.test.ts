import { expect, test } from "vitest";
import { signatureAuthenticator } from "../../../agent/connection/connection.ts";
import { startCloud } from "../../support/cloud.ts";
import { waitFor } from "../../support/wait-for.ts";
import { batchOf, collect, makeSession, never, online, texts } from "./harness.ts";

const clientId = "GID_demo@@@gw-01";

function signedWith(secret: string) {
  return signatureAuthenticator({
    accessKey: "AK",
    secret: () => secret,
    instanceId: "mqtt-local",
    clientId,
  });
}

test("the project's own service: signature, a message to oneself, acknowledged once", async () => {
  const { mqttPort } = await startCloud();
  const session = makeSession(
    `mqtt://127.0.0.1:${mqttPort}`,
    { clientId },
    { authenticator: signedWith("SK") },
  );
  const messages = collect(session);
  await online(session);
  await session.publish({ topic: `GW_DOWN/p2p/${clientId}`, payload: "to myself" }, never);
  await waitFor(() => messages.length === 1);
  expect(texts(messages)).toEqual(["to myself"]);
  expect(messages[0]).toMatchObject({ topic: `GW_DOWN/p2p/${clientId}`, qos: 1 });
  messages[0]?.accept();
  expect(session.info().attempts).toBe(1);
});

test("the project's own service: wrong secrets are refused, unknown topics close", async () => {
  const { mqttPort } = await startCloud();
  const url = `mqtt://127.0.0.1:${mqttPort}`;
  const wrong = makeSession(url, { clientId }, { authenticator: signedWith("wrong") });
  await wrong.start(never);
  await waitFor(() => wrong.state === "refused");
  await wrong.stop(never);

  const session = makeSession(url, { clientId }, { authenticator: signedWith("SK") });
  await online(session);
  const publisher = await session.connected(never);
  publisher?.send(batchOf(1, 1)); // To up/x, which nobody created.
  expect(await publisher?.closed).toMatchObject({ reason: "peer_closed" });
  await waitFor(() => session.state === "online");
});
